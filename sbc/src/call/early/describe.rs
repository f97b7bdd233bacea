//! What responses before the answer describe, and which early dialog of the caller hears of it
//! (RFC 3261 12.1.1, 13.2.1; RFC 3264 4).

use super::Early;
use crate::call::offer_answer::{Carrier, Negotiation, Role};
use crate::call::secure::Said;
use crate::call::{CALLER, Call, MAX_FORKS, body, bridge};
use crate::core::{Core, Turn};
use crate::message::Message;
use crate::refusal::Refusal;
use crate::sdp::{self, Session};

/// Takes in what a response describes: the description as the caller is to see it, or `None` when there
/// is nothing to be told.
pub(crate) fn described(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    carrier: Carrier,
    message: &Message,
) -> Result<Option<Vec<u8>>, Refusal> {
    if body::sdp(message).is_empty() {
        return Ok(None);
    }
    let is_owed = caller_is_owed(call);
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    if leg.aside.muted && carrier == Carrier::Unreliable {
        // It binds nobody, and what it speaks of will not be heard.
        return Ok(None);
    }
    let role = leg.offer.role(carrier);
    match role {
        Role::Answer | Role::Preview => {
            let session = bridge::acceptable(body::sdp(message))?;
            if !is_owed {
                place_answer(call, at, &session)?;
            }
            agree(call, (place, at), role, body::sdp(message));
            bridge::program(call, core, turn, place, (Said::Answer, &session))?;
            if is_owed {
                // The offer was ours: its answer becomes one for the caller, in the 2xx.
                let is_final = carrier == Carrier::Success;
                let sides = (place, CALLER);
                let offer = is_final.then(|| bridge::rewritten(call, core, turn, sides, &session));
                return Ok(offer.flatten());
            }
            let sdp = bridge::answered(call, core, turn, (place, CALLER), &session);
            call.early[at].version = call.legs.first().map_or(0, |caller| caller.sdp_version);
            Ok(sdp)
        }
        Role::Offer => {
            let session = bridge::acceptable(body::sdp(message))?;
            leg.offer = Negotiation::OfferReceived;
            bridge::fits(call, core, (place, CALLER), &session)?;
            place_offer(call)?;
            bridge::program(call, core, turn, place, (Said::Offer, &session))?;
            Ok(bridge::rewritten(call, core, turn, (place, CALLER), &session))
        }
        Role::Repeat | Role::Misplaced | Role::Crossed | Role::Overlapping => Ok(None),
    }
}

/// The same for a response of a branch that is not in front: the caller is told nothing yet.
pub(crate) fn noted(
    call: &mut Call,
    core: &Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    carrier: Carrier,
    message: &Message,
) -> Result<(), Refusal> {
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    let role = leg.offer.role(carrier);
    if leg.aside.muted && carrier == Carrier::Unreliable {
        return Ok(());
    }
    if !body::sdp(message).is_empty() && matches!(role, Role::Answer | Role::Preview) {
        let session = bridge::acceptable(body::sdp(message))?;
        agree(call, (place, at), role, body::sdp(message));
        bridge::program(call, core, turn, place, (Said::Answer, &session))?;
    }
    Ok(())
}

/// The callee has answered our offer; it binds when it came reliably.
fn agree(call: &mut Call, (place, at): (u8, usize), role: Role, answer: &[u8]) {
    call.early[at].answer = answer.into();
    if role == Role::Answer {
        call.early[at].agreed = true;
        call.legs[usize::from(place)].offer = Negotiation::Stable;
    }
}

/// Whether the caller, whose INVITE had no offer, is still to be made one.
pub(super) fn caller_is_owed(call: &Call) -> bool {
    call.legs.first().is_some_and(|caller| caller.offer == Negotiation::OfferOwed)
}

/// Another callee is in front: what the caller was told by the one before is no answer of this one's.
pub(crate) fn face(call: &mut Call) {
    if let Some(caller) = call.leg(CALLER)
        && caller.asked == Negotiation::OfferReceived
    {
        caller.offer = caller.asked;
    }
}

/// The caller's dialog is the one that heard this answer.
pub(super) fn listen(call: &mut Call, early: &Early) {
    if let Some(caller) = call.leg(CALLER) {
        caller.offer = if early.told { Negotiation::Stable } else { Negotiation::OfferReceived };
        if caller.dialog.tag.fork != early.fork && early.version > 0 {
            // The same answer to the letter (RFC 3261 13.2.1).
            (caller.sdp_version, caller.said) = (early.version, Box::default());
        }
        caller.dialog.tag.fork = early.fork;
    }
}

/// Finds the caller's early dialog for an answer. One that fits what a dialog has heard is the same
/// answer there (our address does not change); another needs an early dialog of its own (RFC 3261
/// 12.1.1: one answer per dialog, RFC 3264 4).
fn place_answer(call: &mut Call, at: usize, session: &Session) -> Result<(), Refusal> {
    // Where the caller is told the callee's own address, another one is another answer.
    let is_direct = call.legs.get(usize::from(call.early[at].leg)).is_some_and(|l| l.aside.direct);
    let place = |session: &Session| session.media().first().and_then(|line| line.rtp());
    let fits = |e: &&Early| {
        sdp::parse(&e.answer).is_ok_and(|earlier| {
            sdp::compatible(&earlier, session) && (!is_direct || place(&earlier) == place(session))
        })
    };
    let fits = |e: &&Early| e.version > 0 && fits(e);
    let known = call.early.iter().find(fits).map(|e| (e.fork, e.told, e.version));
    let first = call.early.iter().all(|e| e.version == 0);
    let (fork, told, version) = match known {
        Some(known) => known,
        None if first => (call.early[at].fork, false, 0),
        None => (next_fork(call)?, false, 0),
    };
    let early = &mut call.early[at];
    (early.fork, early.told, early.version) = (fork, told, version);
    let early = call.early[at].clone();
    listen(call, &early);
    Ok(())
}

/// An offer for the caller: in an early dialog that has none yet.
fn place_offer(call: &mut Call) -> Result<(), Refusal> {
    if caller_is_owed(call) {
        return Ok(());
    }
    let fork = next_fork(call)?;
    let Some(caller) = call.leg(CALLER) else { return Err(Refusal::InternalError) };
    caller.offer = Negotiation::OfferOwed;
    caller.dialog.tag.fork = fork;
    Ok(())
}

fn next_fork(call: &Call) -> Result<u8, Refusal> {
    let current = call.legs.first().map_or(0, |caller| caller.dialog.tag.fork);
    let highest = call.early.iter().map(|e| e.fork).max().unwrap_or(0).max(current);
    if highest + 1 < MAX_FORKS { Ok(highest + 1) } else { Err(Refusal::EarlyMediaConflict) }
}

/// The answer of a provisional response that a 2xx without a description confirms.
pub(crate) fn answer(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    at: usize,
) -> Result<Vec<u8>, Refusal> {
    let earlier = call.early.get(at).map(|e| e.answer.clone()).unwrap_or_default();
    let session = bridge::acceptable(&earlier).map_err(|_| Refusal::NotAcceptable)?;
    if caller_is_owed(call) {
        let from = call.early.get(at).map_or(CALLER, |early| early.leg);
        let sdp = bridge::rewritten(call, core, turn, (from, CALLER), &session);
        return sdp.ok_or(Refusal::NoCodec);
    }
    place_answer(call, at, &session)?;
    let from = call.early[at].leg;
    let sdp = bridge::answered(call, core, turn, (from, CALLER), &session);
    sdp.ok_or(Refusal::NotAcceptable)
}
