//! Before the answer: early dialogs, what the caller hears of them, and reliability on either side
//! (RFC 3261 12.1.1, RFC 3262).
//!
//! The callee's reliable responses are confirmed to it when the caller has confirmed ours; a caller that
//! cannot do so leaves that to us, and one that requires reliability gets it whatever the callee does.
//! One response at a time is on its way to the caller: what comes meanwhile is held, the latest alone. Of
//! several branches the caller hears the one in front (`branch`).

mod describe;
mod ended;
mod hold;
mod reliable;

pub(crate) use describe::{answer, described, face};
pub(crate) use ended::{Told, tell_ended};
pub(crate) use hold::{decline_held, hold, must_wait, resume};
pub(crate) use reliable::{Unconfirmed, confirmed, is_confirmed_by, unconfirmed};

use super::branch::Standing;
use super::offer_answer::{Carrier, Negotiation};
use super::secure::Said;
use super::{CALLER, Call, Leg, Phase, answer, branch, bridge, hunt, release, transfer};
use crate::core::{Core, Turn};
use crate::counters::Unheard;
use crate::dialog::prack::{self, Order, RAck};
use crate::message::Message;
use crate::refusal::Refusal;
use base::plain;
use control::event::CallState;
pub(crate) use describe::noted;
use describe::{caller_is_owed, listen};
use ended::ended;
use reliable::{confirm, tell_reliably};

/// The most early dialogs of callees one call keeps.
const MAX_EARLY: usize = 6;

/// An early dialog with a callee.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    /// The leg.
    leg: u8,
    /// The callee's tag.
    tag: Box<[u8]>,
    /// Its last reliable response; 0 before the first.
    rseq: u32,
    /// Its answer, binding or not; empty while there is none.
    answer: Box<[u8]>,
    /// Its answer binds: it came reliably.
    agreed: bool,
    /// The caller's early dialog that heard of it.
    fork: u8,
    /// The caller was told the answer reliably.
    told: bool,
    /// Version of the description it was told.
    version: u64,
    /// The callee says that it has ended (RFC 6228); a 2xx may contradict.
    over: bool,
}

plain!(struct Early { leg, tag, rseq, answer, agreed, fork, told, version, over });

impl Early {
    /// What it said of its media; empty while it has said nothing.
    pub(crate) fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Whether this is a leg's description of its media.
    pub(crate) fn is_described_by(&self, leg: u8) -> bool {
        self.leg == leg && !self.answer.is_empty()
    }
}

/// Hears a provisional response to the INVITE we sent on `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    let status = message.status().map_or(0, |s| s.code());
    let is_tried = branch::is_tried(call, place) && !call.has_ended();
    let Some(leg) = call.leg(place) else { return };
    if let Some(why) = leg.cancel_owed.take() {
        return release::send_cancel(call, core, turn, place, Some(why));
    }
    if !is_tried {
        return;
    }
    branch::spoke(call, place);
    if status == 100 {
        return;
    }
    let rseq = prack::rseq(message);
    match rseq.map_or(Order::Next, |rseq| prack::order(last_rseq(call, place, message), rseq)) {
        Order::Next => {}
        Order::Again => return,
        Order::Early => return core.counters.unheard.add(Unheard::OutOfOrder.index()),
    }
    if call.transfer.is_some() {
        beside(call, core, turn, (place, rseq), message);
        return transfer::rang(call, core, turn, message);
    }
    if status == 199 {
        return ended(call, core, turn, (place, rseq), message);
    }
    let is_waiting = call.exchange.is_some()
        || call.legs.first().is_some_and(|caller| caller.unconfirmed.is_some());
    match (call.callee == Some(place), is_waiting) {
        (true, true) => hold(call, message),
        (true, false) => progress(call, core, turn, (place, rseq), message),
        (false, true) => core.counters.unheard.add(Unheard::NotInFront.index()),
        (false, false) => {
            let is_heard = !message.body().is_empty()
                && call.leg(place).is_some_and(|leg| permits(leg, core, message));
            let said = if is_heard { Standing::Heard } else { Standing::Ringing };
            if call.callee.is_none_or(|front| said > branch::standing(call, front)) {
                branch::bring_forward(call, core, turn, place);
                return progress(call, core, turn, (place, rseq), message);
            }
            beside(call, core, turn, (place, rseq), message);
        }
    }
}

/// A provisional response whose turn it is.
fn progress(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) {
    let Some((at, carrier)) = entered(call, core, turn, (place, rseq), message) else { return };
    call.state = CallState::Ringing;
    call.cdr.ringing.get_or_insert(turn.now.into());
    let sdp = match described(call, core, turn, (place, at), carrier, message) {
        Ok(sdp) => sdp,
        Err(refusal) => return hunt::give_up(call, core, turn, place, refusal),
    };
    tell_ended(call, core, turn);
    let Some(caller) = call.leg(CALLER) else { return };
    let reliably = caller.peer.insists || (rseq.is_some() && caller.peer.reliable);
    if let Some(rseq) = rseq {
        let Some(leg) = call.leg(place) else { return };
        let rack = RAck { rseq, cseq: leg.invite_cseq };
        match (reliably, leg.offer) {
            (true, _) => leg.prack_owed = Some(rack),
            (false, Negotiation::OfferReceived) => {
                core.counters.unheard.add(Unheard::Unanswerable.index());
                return hunt::give_up(call, core, turn, place, Refusal::NotAcceptable);
            }
            (false, _) => {
                confirm(call, core, turn, (place, rack), None);
            }
        }
    }
    match reliably {
        true => tell_reliably(call, core, turn, (place, at), message, sdp.as_deref()),
        false => answer::tell_caller(call, core, turn, place, message, sdp.as_deref(), |_| {}),
    }
}

/// A provisional response of a branch that is not in front: the caller hears nothing of it, and it is
/// confirmed all the same, so that it may be followed by an answer.
fn beside(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) {
    let Some((at, carrier)) = entered(call, core, turn, (place, rseq), message) else { return };
    if let Err(refusal) = noted(call, core, turn, (place, at), carrier, message) {
        return hunt::give_up(call, core, turn, place, refusal);
    }
    let cseq = call.leg(place).map_or(0, |leg| leg.invite_cseq);
    if let Some(rseq) = rseq {
        confirm(call, core, turn, (place, RAck { rseq, cseq }), None);
    }
}

/// Enters the early dialog of a provisional response: its place, and what its description may be. `None`
/// when there are too many.
fn entered(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) -> Option<(usize, Carrier)> {
    let Some(at) = enter(call, core, turn, place, message) else {
        core.counters.unheard.add(Unheard::TooMany.index());
        return None;
    };
    let leg = call.leg(place)?;
    leg.phase = Phase::Early;
    let is_heard = permits(leg, core, message);
    bridge::mute(leg, turn, !is_heard);
    let Some(rseq) = rseq else { return Some((at, Carrier::Unreliable)) };
    call.early.get_mut(at)?.rseq = rseq;
    Some((at, Carrier::Reliable))
}

/// Whether a leg's trunk lets it be heard before its answer.
fn permits(leg: &Leg, core: &Core, message: &Message) -> bool {
    let wanted = core.image.trunk(leg.trunk).map(|t| t.profile.early_media).unwrap_or_default();
    wanted.permits(message)
}

/// The number of the last reliable response in the early dialog of this one.
fn last_rseq(call: &Call, place: u8, message: &Message) -> u32 {
    find(call, place, tag_of(message)).and_then(|at| call.early.get(at)).map_or(0, |e| e.rseq)
}

fn tag_of<'a>(message: &Message<'a>) -> &'a [u8] {
    message.to().ok().and_then(|to| to.tag()).unwrap_or_default()
}

fn find(call: &Call, place: u8, tag: &[u8]) -> Option<usize> {
    call.early.iter().position(|e| e.leg == place && *e.tag == *tag)
}

/// Makes the early dialog a response belongs to the leg's own; `None` when there are too many.
pub(crate) fn enter(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) -> Option<usize> {
    let tag = tag_of(message);
    let at = find(call, place, tag).or_else(|| begin(call, place, tag));
    let at = match at {
        Some(at) => at,
        None if message.status().is_some_and(|s| s.is_success()) => {
            // The answer has a place whatever came before it.
            core.counters.unheard.add(Unheard::TooMany.index());
            call.early.pop();
            begin(call, place, tag)?
        }
        None => return None,
    };
    if call.leg(place).is_some_and(|leg| *leg.dialog.remote_tag != *tag) {
        switch(call, core, turn, place, at);
    }
    call.early[at].over = false;
    let leg = call.leg(place)?;
    leg.peer.learn(message);
    hunt::learn_dialog(&mut leg.dialog, message);
    Some(at)
}

/// The leg's dialog is another one from now on: where that stands, and what it said.
fn switch(call: &mut Call, core: &Core, turn: &mut Turn, place: u8, at: usize) {
    let early = call.early[at].clone();
    let Some(leg) = call.leg(place) else { return };
    leg.offer = if early.agreed { Negotiation::Stable } else { leg.asked };
    leg.dialog.remote_cseq = 0;
    leg.prack_owed = None;
    if let Ok(session) = bridge::acceptable(&early.answer) {
        // An answer that breaks the terms changes nothing.
        let _kept = bridge::program(call, core, turn, place, (Said::Answer, &session));
        if !caller_is_owed(call) && call.callee == Some(place) {
            listen(call, &early);
        }
    }
}

fn begin(call: &mut Call, leg: u8, tag: &[u8]) -> Option<usize> {
    if call.early.len() >= MAX_EARLY {
        return None;
    }
    call.early.push(Early {
        leg,
        tag: tag.into(),
        rseq: 0,
        answer: Box::default(),
        agreed: false,
        fork: call.legs.first().map_or(0, |caller| caller.dialog.tag.fork),
        told: false,
        version: 0,
        over: false,
    });
    Some(call.early.len() - 1)
}

/// A leg was given up: of its early dialogs only answers the caller has heard are remembered, one each.
pub(crate) fn forget(call: &mut Call, place: u8) {
    let mut kept: Vec<Early> = Vec::new();
    for early in core::mem::take(&mut call.early) {
        let is_known = |k: &Early| k.fork == early.fork && k.told == early.told && k.version > 0;
        let is_heard = !early.answer.is_empty() && early.version > 0;
        if early.leg != place || (is_heard && !kept.iter().any(is_known)) {
            kept.push(early);
        }
    }
    call.early = kept;
    if call.callee == Some(place) {
        call.held = Box::default();
    }
}
