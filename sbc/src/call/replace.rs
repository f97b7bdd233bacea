//! Somebody takes the place of one side of an answered call (RFC 3891): an INVITE whose Replaces names our
//! dialog with that side.
//!
//! It is an offer like any other: carried to the side that stays in a re-INVITE, and answered with what that
//! says. Until then the call is as it was, and it stays so when the answer is no. The price of the call is
//! what it was: whoever began it pays until its end.

use super::exchange;
use super::offer_answer::Negotiation;
use super::setup::{self, Arrival};
use super::{Call, Leg, MAX_LEGS, Phase, body, bridge, join, release, secure, session, transfer};
use crate::billing::{Party, Transferred};
use crate::core::{Core, Known, Turn, unsupported};
use crate::dialog::replaces::Replaces;
use crate::message::Message;
use crate::policy::admission;
use crate::refusal::Refusal;
use crate::transaction::Owner;
use base::{PortId, plain};

/// Who is to take whose place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacing {
    /// The new leg.
    new: u8,
    /// The one that makes way.
    old: u8,
}

plain!(struct Replacing { new, old });

/// Whether the side at `old` may be replaced now, by an INVITE from this trunk.
pub(crate) fn check(
    call: &Call,
    core: &Core,
    old: u8,
    ((trunk, port), replaces): ((u16, PortId), &Replaces),
    message: &Message,
) -> Result<(), Refusal> {
    let is_up = |place: u8| {
        call.legs.get(usize::from(place)).is_some_and(|leg| leg.phase == Phase::Confirmed)
    };
    join::may_replace(call, replaces).map_err(|status| match status {
        603 => Refusal::ReplacesOver,
        486 => Refusal::ReplacesAnswered,
        _ => Refusal::ReplacesUnknown,
    })?;
    let stays = call.other(old).filter(|stays| is_up(*stays) && is_up(old));
    let Some(stays) = stays else { return Err(Refusal::ReplacesUnknown) };
    let known = Known { transfers: true, ..Known::on(&core.image, Some(trunk)) };
    if unsupported(message, known).next().is_some() {
        return Err(Refusal::BadExtension);
    }
    if message.bytes().len() > setup::MAX_INVITE {
        return Err(Refusal::TooLarge);
    }
    if message.max_forwards().is_ok_and(|hops| hops == Some(0)) {
        return Err(Refusal::TooManyHops);
    }
    if !message.body().is_empty() {
        let bodies = core.image.trunk(trunk).map(|trunk| &trunk.bodies);
        if body::is_strange(message) || bodies.is_some_and(|b| body::is_barred(message, b)) {
            return Err(Refusal::BadContentType);
        }
        let offer = bridge::acceptable(body::sdp(message))?;
        bridge::permitted(core, (trunk, port), &offer)?;
    }
    let is_free = call.transfer.is_none()
        && call.replacing.is_none()
        && exchange::is_ready(call, core, stays)
        && call.legs.len() < MAX_LEGS;
    if !is_free {
        return Err(Refusal::ReplacesPending);
    }
    if core.transactions.lacks_room(8) { Err(Refusal::TransactionsFull) } else { Ok(()) }
}

/// Begins: the new leg is there, and the side that stays is asked.
pub(crate) fn begin(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    (old, trunk): (u8, u16),
    message: &Message,
) -> Result<(), Refusal> {
    let Some(stays) = call.other(old) else { return Err(Refusal::ReplacesUnknown) };
    let mut dialog = setup::caller_dialog(core, at, message)?;
    let place = call.legs.len() as u8;
    (dialog.tag.home, dialog.tag.call, dialog.tag.leg) = (call.home.0, call.key, place);
    let draw = core.random.next();
    admission::enter(&core.image, &core.page, trunk, turn.now.mono)?;
    let media = match bridge::reserve(core, turn, at.port) {
        Ok(media) => media,
        Err(refusal) => {
            admission::leave(&core.page, trunk);
            return Err(refusal);
        }
    };
    let mut leg = Leg::new(trunk, at.port, dialog, media, draw);
    leg.secure = secure::fresh(core, turn, trunk, at.port);
    if session::asked(&mut leg, core, message).is_err() {
        turn.media.release(media, turn.now.mono);
        admission::leave(&core.page, trunk);
        return Err(Refusal::SessionTooShort);
    }
    let owner = Some(Owner { call: call.key, leg: place });
    leg.invite = core.serve(at.hash, owner, (at.port, at.source), message);
    leg.invite_cseq = message.cseq().number;
    leg.asked = Negotiation::invited(!message.body().is_empty());
    leg.peer.learn(message);
    let served = leg.invite;
    call.holds.push(trunk);
    core.own(media, call.key, place);
    call.legs.push(leg);
    call.replacing = Some(Replacing { new: place, old });
    note(call, core, turn, (old, trunk), message);
    if let Some(served) = served {
        exchange::begin(call, core, turn, (place, stays), served, message);
    }
    if call.exchange.is_none() {
        // It was refused at once.
        refused(call, core, turn, 488);
    }
    Ok(())
}

fn note(call: &mut Call, core: &Core, turn: &Turn, (old, trunk): (u8, u16), message: &Message) {
    core.counters.transfers.add(1);
    call.cdr.transfers.push(Transferred {
        at: turn.now.into(),
        by: if old == call.near { Party::Caller } else { Party::Callee },
        trunk: core.image.trunk(trunk).map(|t| t.name.as_bytes().into()).unwrap_or_default(),
        number: setup::calling(message),
        call_id: message.call_id().into(),
        joined: None,
        first: call.cdr.attempts.len() as u8,
        status: 0,
        taken: None,
        media: Default::default(),
    });
}

/// The side that stays agreed: who was to be replaced is, and leaves.
pub(super) fn answered(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let Some(Replacing { new, old }) = call.replacing.take() else { return };
    let Some(leg) = call.leg(new) else { return };
    leg.phase = Phase::Confirmed;
    let entered = leg.clone();
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.status = 200;
        let number = record.number.clone();
        join::enter(call, core, turn, (new, &entered), number);
    }
    match old == call.near {
        true => call.near = new,
        false => call.callee = Some(new),
    }
    bridge::join(call, core, turn);
    transfer::leave(call, core, turn, old);
}

/// It did not, or nobody asked it: the new leg is given up, and the call is what it was.
pub(super) fn refused(call: &mut Call, core: &mut Core, turn: &mut Turn, status: u16) {
    let Some(Replacing { new, old }) = call.replacing.take() else { return };
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.status = status;
    }
    release::close_leg_media(call, turn, new);
    let Some(leg) = call.leg(new) else { return };
    leg.phase = Phase::Over;
    let trunk = leg.trunk;
    if let Some(held) = call.holds.iter().rposition(|held| *held == trunk) {
        call.holds.remove(held);
        admission::leave(&core.page, trunk);
    }
    if call.leg(old).is_some_and(|leg| leg.phase == Phase::Over) {
        release::release(call, core, turn, Refusal::TransferFailed);
    }
}

/// Whether somebody is about to take this side's place: its BYE does not end the call.
pub(super) fn is_leaving(call: &Call, place: u8) -> bool {
    call.replacing.is_some_and(|replacing| replacing.old == place)
}
