//! The lane of handshakes: a few steps a turn, whoever has waited longest first. What has begun goes before
//! what has not, but for one step of a turn: else however many begin at once would all be half done, and hold
//! their buffers, before the first is over.
//!
//! A step is one datagram of a peer, or one deadline. It may cost as much as a signature, so it is never done
//! where packets are relayed: a datagram is copied and waits here, and the turn after has the next few.

use super::flight::Kept;
use super::keying::{Keying, LINGER, MOST_WAITING, PATIENCE};
use super::{Certificate, Event, Failure, Provider, Role};
use crate::EndKey;
use crate::demux::Component;
use crate::end::{End, News};
use crate::latch::Source;
use crate::media::Media;
use crate::notice::Notice;
use crate::srtp::{Keys, Shield};
use crate::verdict::Discard;
use base::{Instant, Texts};
use core::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// The most steps of a turn: together about a millisecond.
const STEPS: usize = 4;
/// The most datagrams of a shard that wait.
pub const MOST_IN_ALL: usize = 4_096;
/// Room for what an association hands out: the largest is the peer's certificate.
const ROOM: usize = 8_192;

/// Whose handshake: a leg's, between which of its ports.
type Who = (EndKey, Component);

/// Handshakes of a shard.
pub(crate) struct Lane {
    /// What shakes hands: one for each kind of certificate that we have.
    providers: Vec<Arc<dyn Provider>>,
    /// Whose turn comes, each once: those that have an association, and the others.
    begun: VecDeque<Who>,
    ready: VecDeque<Who>,
    /// When others have something to do; one that has moved is passed over.
    timers: BinaryHeap<Reverse<(Instant, Who)>>,
    /// Datagrams that wait.
    waiting: usize,
    room: Vec<u8>,
}

/// What came of a step.
enum Step {
    Nothing,
    Agreed,
    Failed(Failure),
}

impl Lane {
    pub(crate) fn new() -> Lane {
        Lane {
            providers: Vec::new(),
            begun: VecDeque::new(),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            waiting: 0,
            room: Vec::new(),
        }
    }

    /// Whose certificate a leg's peer was told of.
    fn provider(&self, certificate: u64) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.certificate() == certificate)
    }

    /// When there is something to do: at once while anybody waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if !self.begun.is_empty() || !self.ready.is_empty() {
            return Some(Instant(0));
        }
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// What a leg had waiting is gone.
    pub(crate) fn forget(&mut self, datagrams: usize) {
        self.waiting -= datagrams;
    }

    fn list(&mut self, key: EndKey, keying: &mut Keying) {
        if !core::mem::replace(&mut keying.is_listed, true) {
            let has_begun = keying.association.is_some();
            if has_begun { &mut self.begun } else { &mut self.ready }
                .push_back((key, keying.component));
        }
    }

    /// Whose turn it is in this step of a turn.
    fn next(&mut self, step: usize) -> Option<Who> {
        let (first, second) = match step {
            0 => (&mut self.ready, &mut self.begun),
            _ => (&mut self.begun, &mut self.ready),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    fn time(&mut self, key: EndKey, keying: &mut Keying) {
        let deadline = keying.deadline();
        if keying.timed.replace(deadline) != Some(deadline) {
            self.timers.push(Reverse((deadline, (key, keying.component))));
        }
    }
}

impl Media {
    /// Lets legs agree upon keys by DTLS, with this, under its kind of certificate.
    pub fn set_dtls(&mut self, provider: Arc<dyn Provider>) {
        self.lane.providers.retain(|other| other.kind() != provider.kind());
        self.lane.providers.push(provider);
    }

    /// Our certificate of a kind: its short name and its SHA-256. None where there is no such DTLS.
    pub fn certificate(&self, kind: Certificate) -> Option<(u64, [u8; 32])> {
        let provider = self.lane.providers.iter().find(|provider| provider.kind() == kind)?;
        Some((provider.certificate(), provider.fingerprint()))
    }

    /// Takes in a datagram of DTLS from where its leg may be: its turn comes.
    #[cold]
    #[inline(never)]
    pub(crate) fn queue(&mut self, (key, component): Who, datagram: &[u8]) -> Result<(), Discard> {
        let end = self.ends.get_mut(key).ok_or(Discard::NoPlan)?;
        let keying = end.guard.keying(component).ok_or(Discard::Dtls)?;
        if keying.waiting.len() >= MOST_WAITING || self.lane.waiting >= MOST_IN_ALL {
            return Err(Discard::DtlsBusy);
        }
        keying.waiting.push_back(datagram.into());
        self.lane.waiting += 1;
        self.lane.list(key, keying);
        Ok(())
    }

    /// A leg has a new plan, is back from its record, or has nominated an address: a handshake that is for us
    /// to begin may begin. That of its RTCP waits until RTP has keys, so that it is known whether anybody is
    /// there.
    #[cold]
    #[inline(never)]
    pub(crate) fn attend(&mut self, key: EndKey) {
        let Some(end) = self.ends.get_mut(key) else { return };
        for component in Component::ALL {
            let may_begin = component == Component::Rtp || end.guard.has_agreed();
            let Some(keying) = end.guard.keying(component) else { continue };
            let is_idle = keying.association.is_none() && !keying.is_agreed;
            let is_stale = self.lane.provider(keying.terms.ours).is_none();
            if may_begin && is_idle && (keying.terms.role == Role::Active || is_stale) {
                keying.due = Some(Instant(0));
                self.lane.list(key, keying);
            }
            self.lane.time(key, keying);
        }
    }

    /// Goes on with handshakes, as far as one turn may.
    pub fn shake(&mut self, now: Instant, out: &mut Texts, notices: &mut Vec<Notice>) {
        while let Some(&Reverse((at, (key, component)))) = self.lane.timers.peek()
            && at <= now
        {
            self.lane.timers.pop();
            let Some(end) = self.ends.get_mut(key) else { continue };
            if let Some(keying) = end.guard.keying(component)
                && keying.timed == Some(at)
            {
                keying.timed = None;
                self.lane.list(key, keying);
            }
        }
        for step in 0..STEPS {
            let Some(who) = self.lane.next(step) else { break };
            self.turn_of(who, now, out, notices);
        }
        self.counters.dtls_waiting.set(self.lane.waiting as u64);
    }

    /// One step of a handshake.
    fn turn_of(&mut self, who: Who, now: Instant, out: &mut Texts, notices: &mut Vec<Notice>) {
        let (key, component) = who;
        let Some(end) = self.ends.get_mut(key) else { return };
        let Some(mut keying) = end.guard.take_keying(component) else { return };
        keying.is_listed = false;
        let had = keying.waiting.len();
        let provider = self.lane.provider(keying.terms.ours).cloned();
        let step = end.step(&mut keying, provider.as_deref(), now, &mut self.lane.room, out);
        self.lane.waiting -= had - keying.waiting.len();
        let is_rtps = component == Component::Rtp;
        match step {
            Step::Nothing => {}
            Step::Agreed => {
                self.counters.dtls_handshakes.add(1);
                if end.settle_source(&keying) {
                    self.latched.push(key);
                }
                notices.push(Notice::Secured { end: key });
            }
            Step::Failed(why) => {
                self.counters.dtls_failures.add(why.index());
                if why == Failure::Fingerprint || (is_rtps && why == Failure::Restart) {
                    notices.push(Notice::Unsecured { end: key, why });
                }
            }
        }
        if keying.until <= now {
            if keying.is_agreed {
                self.lane.waiting -= keying.waiting.len();
                return end.guard.conclude(*keying);
            }
            if !is_rtps && end.guard.has_agreed() {
                // It costs the leg its RTCP, and nobody the call.
                self.lane.waiting -= keying.waiting.len();
                return self.counters.dtls_without_rtcp.add(1);
            }
            if is_rtps {
                let why = keying.failed.unwrap_or(Failure::Timeout);
                notices.push(Notice::Unsecured { end: key, why });
            }
            keying.until = now + PATIENCE;
        }
        if !keying.waiting.is_empty() {
            self.lane.list(key, &mut keying);
        }
        self.lane.time(key, &mut keying);
        end.guard.give_back(keying);
        if is_rtps && matches!(step, Step::Agreed) {
            end.guard.wait_for_rtcp(now);
            self.attend(key);
        }
    }
}

impl End {
    /// Datagrams of DTLS that wait for their turn.
    pub(crate) fn waiting(&mut self) -> usize {
        let of = |component| self.guard.keying(component).map_or(0, |keying| keying.waiting.len());
        Component::ALL.into_iter().map(of).sum()
    }

    /// Feeds an association what is next, and sees what comes of it.
    fn step(
        &mut self,
        keying: &mut Keying,
        provider: Option<&dyn Provider>,
        now: Instant,
        room: &mut Vec<u8>,
        out: &mut Texts,
    ) -> Step {
        let datagram = keying.waiting.pop_front();
        let Some(provider) = provider else {
            if keying.is_agreed {
                return Step::Nothing;
            }
            // The peer expects the certificate of another life of the process.
            keying.due = None;
            keying.failed = Some(Failure::Restart);
            if keying.component == Component::Rtcp {
                keying.until = now;
            }
            return Step::Failed(Failure::Restart);
        };
        let (from, to) = (self.ports.of(keying.component), self.dtls_target(keying));
        let is_due = keying.due.is_some_and(|due| due <= now);
        if keying.association.is_none() {
            if let (Some(flight), Some(datagram), Some(to)) = (&mut keying.flight, &datagram, to) {
                for bytes in flight.again(datagram, now) {
                    out.push(from, to, |out| out.extend_from_slice(bytes));
                }
            }
            if keying.is_agreed || (datagram.is_none() && !is_due) {
                return Step::Nothing;
            }
            if to.is_none() {
                // Nobody to begin with yet: a nomination brings it back.
                keying.due = None;
                return Step::Nothing;
            }
            keying.association = Some(provider.begin(keying.terms.role, now));
        }
        let mut outcome = Step::Nothing;
        if is_due {
            // By itself: in one datagram with a flight that is sent again, the last could not be taken in.
            outcome = self.feed(keying, None, now, (&mut *room, to), out);
        }
        if let (Some(datagram), false) = (&datagram, matches!(outcome, Step::Failed(_))) {
            outcome = self.feed(keying, Some(datagram), now, (room, to), out);
        }
        if let Step::Failed(why) = outcome {
            // One that came to nothing after its keys were there, a farewell say, changes nothing.
            keying.begin_again(now);
            if keying.is_agreed {
                keying.due = None;
                return Step::Nothing;
            }
            keying.failed = Some(why);
        }
        outcome
    }

    /// Gives an association a datagram, or time, and takes what comes of it.
    fn feed(
        &mut self,
        keying: &mut Keying,
        datagram: Option<&[u8]>,
        now: Instant,
        way: (&mut Vec<u8>, Option<SocketAddr>),
        out: &mut Texts,
    ) -> Step {
        let Some(association) = &mut keying.association else { return Step::Nothing };
        let fed = match datagram {
            Some(datagram) => association.receive(now, datagram),
            None => association.advance(now),
        };
        match fed {
            Ok(()) => self.poll(keying, now, way, out),
            Err(why) => Step::Failed(why),
        }
    }

    /// Takes what an association hands out.
    fn poll(
        &mut self,
        keying: &mut Keying,
        now: Instant,
        (room, to): (&mut Vec<u8>, Option<SocketAddr>),
        out: &mut Texts,
    ) -> Step {
        let (mut step, first) = (Step::Nothing, out.sends.len());
        let from = self.ports.of(keying.component);
        room.resize(ROOM, 0);
        let Some(mut association) = keying.association.take() else { return step };
        loop {
            match association.next(room) {
                Event::Send(bytes) => {
                    if let Some(to) = to {
                        out.push(from, to, |out| out.extend_from_slice(bytes));
                    }
                }
                Event::Certificate(der) => {
                    keying.is_certified = keying.terms.fingerprint.is_of(der);
                }
                Event::Keys(keys) if keying.is_certified => {
                    self.take_keys(keying, *keys, now);
                    step = Step::Agreed;
                }
                // Only now it is proved that the peer has the certificate that it showed.
                Event::Keys(_) => return Step::Failed(Failure::Fingerprint),
                Event::Fail(why) => return Step::Failed(why),
                Event::Other => {}
                Event::Wait(due) => {
                    keying.due = due;
                    break;
                }
            }
        }
        keying.association = Some(association);
        if matches!(step, Step::Agreed) {
            keying.keep(Kept::of(keying.terms.role, out, first, now));
        }
        step
    }

    /// The keys of a handshake come into force.
    fn take_keys(&mut self, keying: &mut Keying, keys: Keys, now: Instant) {
        match &mut keying.shield {
            Some(shield) => {
                if shield.rekey(keys, now) == Some(true)
                    && keying.component == Component::Rtp
                    && let Some(egress) = &mut self.egress
                {
                    egress.rekey();
                }
            }
            None => keying.shield = Shield::new(keys),
        }
        keying.is_agreed = true;
        keying.until = now + LINGER;
    }

    /// The peer has proved itself, so the address it spoke from is learned where there was none. True when
    /// that is news.
    fn settle_source(&mut self, keying: &Keying) -> bool {
        let (Some((source, Source::Learned)), Some(plan)) = (keying.source, &self.plan) else {
            return false;
        };
        let is_new = self.latch.nominate(plan, keying.component, source);
        let is_of_rtp = keying.component == Component::Rtp;
        let is_news = is_new && is_of_rtp && self.news == News::Told;
        if is_news {
            self.news = News::Queued;
        }
        is_news
    }
}
