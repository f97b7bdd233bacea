//! Calls: one or more legs, one CDR.
//!
//! `setup` takes an INVITE in, `hunt` tries candidates, each a `branch`, with an INVITE of `invite`'s, and
//! follows `redirect`ions; `early` and `answer` hear what they say, `bridge` turns session descriptions into
//! media plans, `exchange` carries offers across, `session` keeps dialogs alive, `pass` carries what is about
//! neither, `transfer` gives it another leg, which may come from another call (`join`), `replace` puts whoever asks
//! in a side's place, `direct` lets media pass us by, `release` ends it all. Which description is an offer and
//! which an answer is for `offer_answer` to say. A call is plain data: `freeze` writes it with its transactions and
//! media, `thaw` brings it back.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod branch;
pub(crate) mod bridge;
pub(crate) mod digits;
pub(crate) mod direct;
mod dtls;
pub(crate) mod early;
pub(crate) mod exchange;
pub(crate) mod hunt;
mod ice;
pub(crate) mod invite;
pub mod join;
pub(crate) mod leg;
pub(crate) mod offer_answer;
mod outcome;
pub(crate) mod pass;
pub(crate) mod record;
mod redirect;
pub(crate) mod release;
pub(crate) mod replace;
mod secure;
pub(crate) mod send;
pub(crate) mod session;
pub(crate) mod setup;
pub(crate) mod streams;
pub(crate) mod subscription;
pub(crate) mod transfer;

pub use leg::{Leg, Phase};

use crate::billing::Cdr;
use crate::dialog::Tag;
use crate::policy::Image;
use crate::policy::decide::Candidate;
use crate::policy::manipulate::Boundary;
use crate::question::{Dip, Question};
use base::wheel::TimerKey;
use base::{Home, Instant, Key, plain};
use control::Text;
use control::event::{CallId, CallState, CallView};
use std::collections::VecDeque;

/// Place of the caller's leg.
pub(crate) const CALLER: u8 = 0;

/// The most legs a call may grow: the caller and each candidate tried.
pub(crate) const MAX_LEGS: usize = 24;

/// The most early dialogs the caller may get (RFC 3261 12.1.1): answers that do not fit each other.
pub(crate) const MAX_FORKS: u8 = 4;

/// Where a call is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its home.
    pub home: u8,
    /// Its place on the home's shard.
    pub call: Key,
}

plain!(struct Whereabouts { home, call });

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where it lives.
    pub(crate) home: Home,
    /// Its place on the shard.
    pub(crate) key: Key,
    /// How far it is.
    pub(crate) state: CallState,
    /// The caller first, then every candidate tried.
    pub(crate) legs: Vec<Leg>,
    /// The leg the callee is joined to: the caller's, until a transfer.
    pub(crate) near: u8,
    /// Legs that have carried the call, with their attempts in the CDR: the first callee, then targets of transfers.
    pub(crate) carried: Vec<(u8, u8)>,
    /// A transfer under way.
    pub(crate) transfer: Option<transfer::Transfer>,
    /// Who hears how a transfer goes.
    pub(crate) subscription: Option<Box<subscription::Subscription>>,
    /// Somebody who is to take the place of one side.
    pub(crate) replacing: Option<replace::Replacing>,
    /// What the last one left to do.
    pub(crate) aftermath: transfer::Aftermath,
    /// The leg the caller hears: of those being tried the one in front, or the one that answered.
    pub(crate) callee: Option<u8>,
    /// Candidates being tried.
    pub(crate) branches: Vec<branch::Branch>,
    /// What is left to try.
    pub(crate) candidates: VecDeque<Candidate>,
    /// The question whose answer is awaited.
    pub(crate) awaited: Option<Question>,
    /// Drawn once: weights of the decision.
    pub(crate) draw: u64,
    /// Early dialogs with callees, until one of them answers.
    pub(crate) early: Vec<early::Early>,
    /// Early dialogs of the caller's, a bit each: those it has heard of, and of which it knows the end.
    pub(crate) told: early::Told,
    /// A response of the callee's that the caller is not ready for.
    pub(crate) held: Box<[u8]>,
    /// Requests under way between the two legs that are about something else.
    pub(crate) passing: Vec<pass::Passing>,
    /// An offer under way between the two legs.
    pub(crate) exchange: Option<exchange::Exchange>,
    /// Statuses upon which no other candidate is tried, by the plan that chose them.
    pub(crate) stop_on: Vec<u16>,
    /// Where a candidate said the call should go instead, to be told to the caller.
    pub(crate) contacts: Vec<Box<[u8]>>,
    /// Why the caller gave up, in its own words (RFC 3326).
    pub(crate) reason: Box<[u8]>,
    /// The number the decision works on, as received.
    pub(crate) number: Box<[u8]>,
    /// Whether it was ported, by the caller's trunk that is believed.
    pub(crate) told_ported: Option<Dip>,
    /// Hops left for the egress INVITE.
    pub(crate) max_forwards: u8,
    /// Ingress and egress trunks whose places it holds.
    pub(crate) holds: Vec<u16>,
    /// The answer to an open question is due by then.
    pub(crate) question_deadline: Instant,
    /// The call is released then.
    pub(crate) duration_deadline: Instant,
    /// The next interim frame is due then.
    pub(crate) interim_deadline: Instant,
    /// Its CDR.
    pub(crate) cdr: Cdr,
    /// Its CDR is closed in the journal although its record says otherwise: the process was killed in
    /// between. Derived.
    pub(crate) booked: bool,
    /// The running timer; derived.
    pub(crate) timer: Option<(Instant, TimerKey)>,
    /// Changed in this step; derived.
    pub(crate) dirty: bool,
    /// The state the gate was last told; derived.
    pub(crate) reported: Option<(CallState, Option<u8>)>,
}

impl Call {
    /// Name of the call for operators.
    pub(crate) fn id(&self) -> CallId {
        CallId { home: self.home.0, index: self.key.index, generation: self.key.generation }
    }

    /// Whether the CDR is closed.
    pub(crate) fn has_ended(&self) -> bool {
        self.state == CallState::Ended
    }

    /// Where it is.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        Whereabouts { home: self.home.0, call: self.key }
    }

    /// The leg whose dialog has this tag of ours; one that has moved away only if there is no other.
    pub(crate) fn place_of(&self, tag: Tag) -> Option<u8> {
        let is_it = |leg: &Leg| Tag { fork: tag.fork, ..leg.dialog.tag } == tag;
        let moved = |leg: &Leg| leg.phase == Phase::Moved;
        let mut places = (0..).zip(&self.legs).filter(|(_, leg)| is_it(leg));
        let first = places.next()?;
        let here = if moved(first.1) { places.find(|(_, leg)| !moved(leg)) } else { None };
        Some(here.unwrap_or(first).0)
    }

    /// The earliest of its deadlines.
    pub(crate) fn deadline(&self) -> Instant {
        let own = [self.question_deadline, self.duration_deadline, self.interim_deadline];
        let branches = self.branches.iter().map(branch::Branch::deadline);
        let least = own.into_iter().chain(branches).min().unwrap_or(Instant::NEVER);
        least.min(session::deadline(self))
    }

    /// A leg by its place.
    pub(crate) fn leg(&mut self, place: u8) -> Option<&mut Leg> {
        self.legs.get_mut(usize::from(place))
    }

    /// The leg on the other side of the bridge.
    pub(crate) fn other(&self, place: u8) -> Option<u8> {
        match place == self.near {
            true => self.callee,
            false => (self.callee == Some(place)).then_some(self.near),
        }
    }

    /// What a message crosses from one leg to another.
    pub(crate) fn boundary<'i>(&self, image: &'i Image, from: u8, to: u8) -> Option<Boundary<'i>> {
        let trunk = |place: u8| Some(self.legs.get(usize::from(place))?.trunk);
        Boundary::between(image, trunk(from)?, trunk(to)?)
    }

    /// As lists show it.
    pub(crate) fn view(&self) -> CallView {
        let pdd = self.cdr.ringing.or(self.cdr.answer);
        let trunk_out = self.callee.and_then(|c| self.legs.get(usize::from(c))).map(|l| l.trunk);
        CallView {
            id: self.id(),
            state: self.state,
            from: Text::from_bytes(&self.cdr.from),
            to: Text::from_bytes(&self.cdr.to),
            trunk_in: self.legs.first().map_or(0, |l| l.trunk),
            trunk_out,
            setup_at: self.cdr.setup.wall,
            answer_at: self.cdr.answer.map(|a| a.wall),
            pdd_ms: pdd.map(|p| (p.mono.saturating_sub(self.cdr.setup.mono) / 1_000_000) as u32),
            status: self.cdr.status,
            reason: Text::from_bytes(&self.cdr.reason),
            mos_centi: self.cdr.media.map(|m| m.mos_centi()),
            packets: self.cdr.media.map(|m| m.packets),
            released: direct::is_direct(self),
        }
    }
}

plain!(struct Candidate { trunk, endpoint, number, buy, beside, redirected, out });
