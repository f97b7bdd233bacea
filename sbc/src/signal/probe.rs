//! OPTIONS of our own (RFC 3261 11): whether the endpoints of a trunk are there.
//!
//! Each trunk is asked by one shard; what it finds out, the others are told (`Outages`). An endpoint is each
//! address calls would go to, so a name is as many as it has servers. Nothing is known of those that were
//! never asked, and they are taken to be there; so they are after a start.

use super::Signal;
use crate::core::{Alarm, Core, MAX_FORWARDS, Turn, dialog_request};
use crate::counters::Unanswered;
use crate::dialog::{Contact, Dialog, Tag};
use crate::message::{Method, Name};
use crate::policy::{Outages, Probing, Pulse, Target, Trunk, next_hop};
use crate::question::Query;
use crate::transaction::{Owner, hex};
use base::{Home, Instant, Key, PortId, ShardId};
use control::Event;
use control::event::{Endpoint, EndpointState};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The leg of who owns such a request; its call is the number of the trunk.
pub(super) const PROBE: u8 = 0xf2;
/// How often it is looked at who is to be asked, and at the latest who is late.
const LOOK: Duration = Duration::from_secs(1);
/// The first question comes within this time.
const FIRST: Duration = Duration::from_secs(5);
/// While the last answer speaks against the verdict, questions come so many times as often…
const DOUBT: u32 = 4;
/// … but not more often than this.
const SHORTEST: Duration = Duration::from_secs(1);
/// What others know of outages is told again after this time: a letter may be lost.
const TELL: Duration = Duration::from_secs(10);

/// Who is asked, by trunk and endpoint.
#[derive(Default)]
pub(crate) struct Prober {
    lines: BTreeMap<(u16, SocketAddr), Line>,
    looked: Option<Instant>,
    /// Outages that others are to be told of.
    tell: Option<Arc<Outages>>,
    told: Instant,
}

/// One endpoint.
struct Line {
    port: PortId,
    /// When it is asked next, or has not answered in time.
    due: Instant,
    /// The question it has not answered, and when it was asked.
    asked: Option<(Key, Instant)>,
    pulse: Pulse,
    /// The host calls and questions to it name, where it is not the address.
    host: Option<Box<str>>,
}

impl Signal {
    /// The configuration is another: who is to be asked is looked at.
    pub(super) fn look_at_probes(&mut self, now: Instant) {
        self.core.prober.looked = None;
        if self.core.probes_any(self.shards) || !self.core.prober.lines.is_empty() {
            self.core.wheel.schedule(now, Alarm::Probe(self.core.image.generation));
        }
    }

    /// Asks who is due, and comes back for the next. Ends where a newer configuration has its own alarm.
    pub(super) fn probe(&mut self, turn: &mut Turn, generation: u64) {
        let core = &mut self.core;
        if core.image.generation != generation {
            return;
        }
        let now = turn.now.mono;
        let mut prober = core::mem::take(&mut core.prober);
        if prober.looked.is_none_or(|at| now >= at + LOOK) {
            prober.looked = Some(now);
            prober.renew(core, turn, self.shards);
        }
        let due = prober.lines.iter_mut().filter(|(_, line)| line.due <= now);
        let mut has_changed = false;
        for ((trunk, peer), line) in due {
            match line.asked.take() {
                Some((key, _)) => {
                    core.forget(key);
                    has_changed |= line.hear(core, turn, (*trunk, *peer), Err(Unanswered::Timeout));
                }
                None => line.ask(core, turn, (*trunk, *peer), self.shards),
            }
        }
        if has_changed || (!prober.is_well() && now >= prober.told + TELL) {
            prober.publish(core, self.shards, now);
        }
        let next = prober.lines.values().map(|line| line.due).min().unwrap_or(Instant::NEVER);
        core.prober = prober;
        if core.probes_any(self.shards) {
            core.wheel.schedule(next.min(now + LOOK), Alarm::Probe(generation));
        }
    }

    /// An endpoint has answered, or its request came to nothing.
    pub(super) fn probed(
        &mut self,
        turn: &mut Turn,
        (owner, peer): (Owner, SocketAddr),
        key: Key,
        heard: Result<u16, Unanswered>,
    ) {
        let mut prober = core::mem::take(&mut self.core.prober);
        let whose = (owner.call.index as u16, peer);
        if let Some(line) = prober.lines.get_mut(&whose)
            && line.asked.is_some_and(|(asked, _)| asked == key)
            && line.hear(&mut self.core, turn, whose, heard)
        {
            prober.publish(&mut self.core, self.shards, turn.now.mono);
        }
        self.core.prober = prober;
    }

    /// What other shards are to be told about endpoints of ours, if anything.
    pub fn outages_to_tell(&mut self) -> Option<Arc<Outages>> {
        self.core.prober.tell.take()
    }

    /// What another shard found out about endpoints of its trunks.
    pub fn told_outages(&mut self, from: ShardId, theirs: &Outages) {
        let shards = self.shards.max(1);
        self.core.outages.replace(theirs, |trunk| asks(trunk, shards) == from);
    }
}

/// The shard that asks the endpoints of a trunk.
fn asks(trunk: u16, shards: usize) -> ShardId {
    ShardId(u8::try_from(usize::from(trunk) % shards).unwrap_or_default())
}

impl Core {
    fn probes(&self, (id, trunk): (u16, &Trunk), shards: usize) -> bool {
        !trunk.retired && trunk.probing.is_some() && asks(id, shards.max(1)) == self.shard
    }

    fn probes_any(&self, shards: usize) -> bool {
        (0u16..).zip(&self.image.trunks).any(|trunk| self.probes(trunk, shards))
    }

    fn probing(&self, trunk: u16) -> Probing {
        self.image.trunk(trunk).and_then(|trunk| trunk.probing.clone()).unwrap_or_default()
    }
}

impl Prober {
    fn is_well(&self) -> bool {
        self.lines.values().all(|line| !line.pulse.is_out())
    }

    /// The endpoints as the configuration, and DNS, have them now. Those that were asked before are not new.
    fn renew(&mut self, core: &mut Core, turn: &mut Turn, shards: usize) {
        let (image, now) = (core.image.clone(), turn.now.mono);
        let mut wanted = BTreeMap::new();
        for (id, trunk) in (0u16..).zip(&image.trunks).filter(|trunk| core.probes(*trunk, shards)) {
            let Some(port) = image.port_of(trunk) else { continue };
            let ipv6 = image.interface_of(port).is_some_and(|i| i.sip.is_ipv6());
            for endpoint in &trunk.endpoints {
                let (found, host) = match endpoint {
                    Target::Address(address) => (vec![*address], None),
                    Target::Name(query) => {
                        (servers(core, query, ipv6, now), Some(query.written().into()))
                    }
                };
                let host = trunk.profile.request_host.clone().or(host);
                let found = found.into_iter().filter(|to| core.permitted(port, *to));
                wanted.extend(found.map(|to| ((id, to), (port, host.clone()))));
            }
        }
        let gone = self.lines.extract_if(.., |whose, line| {
            wanted.get(whose).is_none_or(|(port, _)| *port != line.port)
        });
        let mut has_changed = false;
        for ((trunk, endpoint), line) in gone.collect::<Vec<_>>() {
            if let Some((key, _)) = line.asked {
                core.forget(key);
            }
            has_changed |= line.pulse.is_out();
            let (state, status, answered_us) = (EndpointState::Gone, None, None);
            let told = Endpoint { trunk, endpoint, state, status, answered_us };
            turn.events.push(Event::Endpoint(told));
        }
        for ((trunk, endpoint), (port, host)) in wanted {
            let first = core.probing(trunk).every.min(FIRST);
            let line = self.lines.entry((trunk, endpoint)).or_insert_with(|| Line {
                port,
                due: now + share(core, 0.0, first),
                asked: None,
                pulse: Pulse::default(),
                host: None,
            });
            line.host = host;
        }
        if has_changed {
            self.publish(core, shards, now);
        }
    }

    /// What is out now is known here, and told to the other shards.
    fn publish(&mut self, core: &mut Core, shards: usize, now: Instant) {
        let all = self.lines.iter();
        let all = all.map(|((trunk, endpoint), line)| (*trunk, *endpoint, line.pulse.is_out()));
        let outages: Outages = all.collect();
        let own = core.shard;
        core.outages.replace(&outages, |trunk| asks(trunk, shards.max(1)) == own);
        (self.tell, self.told) = (Some(Arc::new(outages)), now);
    }
}

/// The servers of a name that calls would be tried at.
fn servers(core: &Core, query: &Query, ipv6: bool, now: Instant) -> Vec<SocketAddr> {
    let found = core.names.get(query, now);
    found.map(|found| next_hop::addresses(query, found.hops, ipv6, 0)).unwrap_or_default()
}

/// Between a share of a time and all of it, so that not everybody is asked at once.
fn share(core: &mut Core, least: f64, whole: Duration) -> Duration {
    let chance = (core.random.next() >> 11) as f64 / (1u64 << 53) as f64;
    whole.mul_f64(least + (1.0 - least) * chance)
}

impl Line {
    fn state(&self) -> EndpointState {
        if self.pulse.is_out() { EndpointState::Down } else { EndpointState::Up }
    }

    /// Takes an answer, or why there is none; whether the endpoint is in or out since then.
    fn hear(
        &mut self,
        core: &mut Core,
        turn: &mut Turn,
        (trunk, endpoint): (u16, SocketAddr),
        heard: Result<u16, Unanswered>,
    ) -> bool {
        let (terms, now) = (core.probing(trunk), turn.now.mono);
        let failure = match heard {
            Ok(status) if terms.down_on.contains(&status) => Some(Unanswered::Status),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        match failure {
            None => core.counters.probes_answered.add(1),
            Some(why) => core.counters.probes_failed.add(why.index()),
        }
        let has_changed = self.pulse.beat(failure.is_none(), &terms);
        let pause = match self.pulse.is_in_doubt() {
            true => (terms.every / DOUBT).max(SHORTEST),
            false => terms.every,
        };
        self.due = now + share(core, 0.8, pause);
        let took = self.asked.take().filter(|_| heard.is_ok()).map(|(_, at)| now.since(at));
        turn.events.push(Event::Endpoint(Endpoint {
            trunk,
            endpoint,
            state: self.state(),
            status: heard.ok(),
            answered_us: took.map(|took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX)),
        }));
        has_changed
    }

    /// Asks; without room for another transaction a little later.
    fn ask(
        &mut self,
        core: &mut Core,
        turn: &mut Turn,
        (id, peer): (u16, SocketAddr),
        shards: usize,
    ) {
        let (image, now) = (core.image.clone(), turn.now.mono);
        let Some(trunk) = image.trunk(id) else { return };
        let patience = trunk.trying_timeout.min(core.probing(id).every);
        let home = (0..=u8::MAX).map(Home).find(|home| home.seat(shards) == core.shard);
        let owner = Owner { call: Key { index: id.into(), generation: 0 }, leg: PROBE };
        let face = core.face(self.port);
        let dialog = self.dialog(core, trunk, (owner, peer), face.sent_by.as_bytes());
        let (port, home) = (self.port, home.unwrap_or(Home(0)));
        let sent =
            core.send_request(turn, (home, owner), (port, peer), Method::Options, |out, branch| {
                let line = (Method::Options, 1, MAX_FORWARDS);
                let mut print = dialog_request(out, &dialog, line, &face, branch);
                let profile = &trunk.profile;
                Contact { face: &face, dialog: &dialog, profile }.print(&mut print);
                print.header(Name::Allow, trunk.methods.allow());
                print.header(Name::Accept, b"application/sdp");
                if !image.software.is_empty() {
                    print.header(Name::UserAgent, image.software.as_bytes());
                }
                print.finish();
            });
        match sent {
            Some(key) => {
                core.counters.probes_sent.add(1);
                (self.asked, self.due) = (Some((key, now)), now + patience);
            }
            None => self.due = now + SHORTEST,
        }
    }

    /// What the request says about itself: nobody's number, the hosts that calls have.
    fn dialog(
        &self,
        core: &mut Core,
        trunk: &Trunk,
        (owner, peer): (Owner, SocketAddr),
        sent_by: &[u8],
    ) -> Dialog {
        let mut call_id = Vec::with_capacity(32);
        hex(core.random.next(), 16, &mut call_id);
        hex(core.random.next(), 16, &mut call_id);
        let address = peer.to_string();
        let host = self.host.as_deref().unwrap_or(&address);
        let from = trunk.profile.from_host.as_deref().map_or(sent_by, str::as_bytes);
        let target = [b"sip:", host.as_bytes()].concat();
        let secret = core.random.next();
        Dialog {
            call_id: call_id.into(),
            tag: Tag { home: 0, call: owner.call, leg: PROBE, fork: 0, secret },
            local: [b"<sip:", from, b">"].concat().into(),
            remote: [b"<", &target[..], b">"].concat().into(),
            remote_tag: Box::default(),
            target: target.into(),
            routes: Vec::new(),
            local_cseq: 1,
            remote_cseq: 0,
            peer,
        }
    }
}
