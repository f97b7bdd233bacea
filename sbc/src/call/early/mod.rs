//! Before the answer: early dialogs, what the caller hears of them, and reliability on either side
//! (RFC 3261 12.1.1, RFC 3262).
//!
//! The callee's reliable responses are confirmed to it when the caller has confirmed ours; a caller that
//! cannot do so leaves that to us, and one that requires reliability gets it whatever the callee does.
//! One response at a time is on its way to the caller: what comes meanwhile is held, the latest alone.

mod describe;
mod hold;
mod reliable;

pub(crate) use describe::{answer, described};
pub(crate) use hold::{decline_held, hold, must_wait, resume};
pub(crate) use reliable::{Unconfirmed, confirmed, is_confirmed_by, unconfirmed};

use super::offer_answer::{Carrier, Negotiation};
use super::{CALLER, Call, Phase, answer, bridge, hunt, release};
use crate::core::{Core, Turn};
use crate::counters::Unheard;
use crate::dialog::prack::{self, Order, RAck};
use crate::message::Message;
use crate::refusal::Refusal;
use base::{Instant, plain};
use control::event::CallState;
use describe::{caller_is_owed, listen};
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
}

plain!(struct Early { leg, tag, rseq, answer, agreed, fork, told, version });

/// Hears a provisional response to the INVITE we sent on `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    let status = message.status().map_or(0, |s| s.code());
    let is_current = call.callee == Some(place) && call.state != CallState::Ended;
    let Some(leg) = call.leg(place) else { return };
    if leg.cancel_owed {
        leg.cancel_owed = false;
        return release::send_cancel(call, core, turn, place);
    }
    if !is_current || call.state == CallState::Answered {
        return;
    }
    call.trying_deadline = Instant::NEVER;
    if status == 100 {
        return;
    }
    let rseq = prack::rseq(message);
    match rseq.map_or(Order::Next, |rseq| prack::order(last_rseq(call, place, message), rseq)) {
        Order::Next => {}
        Order::Again => return,
        Order::Early => return core.counters.unheard.add(Unheard::OutOfOrder.index()),
    }
    let is_waiting = call.legs.first().is_some_and(|caller| caller.unconfirmed.is_some());
    if is_waiting || call.exchange.is_some() {
        return hold(call, message);
    }
    progress(call, core, turn, (place, rseq), message);
}

/// A provisional response whose turn it is.
fn progress(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) {
    let Some(at) = enter(call, core, turn, place, message) else {
        return core.counters.unheard.add(Unheard::TooMany.index());
    };
    let Some(leg) = call.leg(place) else { return };
    leg.phase = Phase::Early;
    let cseq = leg.invite_cseq;
    let wanted = core.image.trunk(leg.trunk).map(|t| t.profile.early_media).unwrap_or_default();
    bridge::mute(leg, turn, !wanted.permits(message));
    call.state = CallState::Ringing;
    call.cdr.ringing.get_or_insert(turn.now.into());
    let carrier = if rseq.is_some() { Carrier::Reliable } else { Carrier::Unreliable };
    let sdp = match described(call, core, turn, (place, at), carrier, message) {
        Ok(sdp) => sdp,
        Err(refusal) => return hunt::give_up(call, core, turn, place, refusal),
    };
    let Some(caller) = call.leg(CALLER) else { return };
    let reliably = caller.peer.insists || (rseq.is_some() && caller.peer.reliable);
    if let Some(rseq) = rseq {
        call.early[at].rseq = rseq;
        let rack = RAck { rseq, cseq };
        let Some(leg) = call.leg(place) else { return };
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
        bridge::program(call, core, turn, place, &session);
        if !caller_is_owed(call) {
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
    });
    Some(call.early.len() - 1)
}

/// A leg was given up: of its early dialogs only answers the caller has heard are remembered, one each.
pub(crate) fn forget(call: &mut Call, place: u8) {
    let mut kept: Vec<Early> = Vec::new();
    for early in core::mem::take(&mut call.early) {
        let is_known = |k: &Early| k.fork == early.fork && k.told == early.told;
        if early.leg != place || !(early.answer.is_empty() || kept.iter().any(is_known)) {
            kept.push(early);
        }
    }
    call.early = kept;
    if call.callee == Some(place) {
        call.held = Box::default();
    }
}
