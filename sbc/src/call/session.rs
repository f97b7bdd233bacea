//! Keeping sessions alive (RFC 4028): refreshes of ours, what peers answer to them, and the end of a
//! session nobody refreshed. Each leg's timer is its own.
//!
//! A refresh is an UPDATE without an offer where the peer takes UPDATE, else a re-INVITE that says again
//! what was said last.

use super::offer_answer::Negotiation;
use super::secure::Said;
use super::{CALLER, Call, Leg, Phase, answer, body, bridge, hunt, release, send, transfer};
use crate::core::{Core, Turn};
use crate::dialog::session_timer::Terms;
use crate::message::{Message, Method, Print};
use crate::refusal::Refusal;
use crate::transaction::Heard;
use base::{Instant, Key};
use control::event::CallState;
use std::time::Duration;

/// How long a refresh waits for something else that is going on.
const BUSY: Duration = Duration::from_secs(1);

/// The terms of a trunk.
pub(crate) fn terms(core: &Core, trunk: u16) -> Terms {
    core.image.trunk(trunk).map_or_else(Terms::default, |t| t.session)
}

/// When something is due on any leg.
pub(crate) fn deadline(call: &Call) -> Instant {
    if call.state != CallState::Answered {
        return Instant::NEVER;
    }
    call.legs.iter().map(|leg| leg.timer.deadline()).min().unwrap_or(Instant::NEVER)
}

/// A session refresh request of the peer's: agreed to, or the Min-SE of its 422.
pub(crate) fn asked(leg: &mut Leg, core: &Core, request: &Message) -> Result<(), u32> {
    let knows = leg.peer.timer || Leg::requires_timer(request);
    leg.timer.asked(request, knows, &terms(core, leg.trunk))
}

/// Our 2xx to it: the session begins, or goes on, from now.
pub(crate) fn grant(leg: &mut Leg, now: Instant) -> impl FnOnce(&mut Print) + use<> {
    leg.timer.start(now);
    let (timer, knows) = (leg.timer, leg.peer.timer);
    move |print| timer.grant(knows, print)
}

/// The peer's 2xx to ours.
pub(crate) fn granted(leg: &mut Leg, core: &Core, now: Instant, response: &Message) {
    if response.cseq().method != Method::Prack {
        leg.timer.granted(response, &terms(core, leg.trunk));
        leg.timer.start(now);
    }
}

/// A 422 to ours: whether to ask again, for longer.
pub(crate) fn too_small(call: &mut Call, place: u8, response: &Message) -> bool {
    let is_422 = response.status().is_some_and(|s| s.code() == 422);
    is_422 && call.leg(place).is_some_and(|leg| leg.timer.too_small(response))
}

/// Time has passed.
pub(crate) fn due(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let now = turn.now.mono;
    if call.legs.iter().any(|leg| now >= leg.timer.ends_at) {
        return release::release(call, core, turn, Refusal::SessionExpired);
    }
    for place in 0..call.legs.len() as u8 {
        if call.leg(place).is_some_and(|leg| now >= leg.timer.refresh_at) {
            refresh(call, core, turn, place);
        }
    }
}

fn refresh(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let is_busy = call.exchange.is_some();
    let Some(leg) = call.leg(place) else { return };
    leg.timer.refresh_at = turn.now.mono + BUSY;
    let inviting = leg.invite.is_some_and(|key| core.is_open(key));
    if is_busy || inviting || !leg.offer.is_stable() || leg.phase != Phase::Confirmed {
        return;
    }
    let by_update = (leg.peer.update && !leg.offers) || leg.said.is_empty();
    let said = leg.said.clone();
    let method = if by_update { Method::Update } else { Method::Invite };
    let sent = send::request(call, core, turn, place, method, |print| {
        send::with_sdp(print, (!by_update).then_some(&*said));
    });
    let Some(leg) = call.leg(place) else { return };
    if sent.is_some() {
        core.counters.refreshes.add(1);
        leg.refresh = sent;
        leg.timer.refresh_at = Instant::NEVER;
        if !by_update {
            leg.offer = Negotiation::OfferSent;
        }
    }
}

/// What was said to `place` last is an offer of our own: it goes out now, or as soon as it may.
pub(crate) fn offer_again(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    if let Some(leg) = call.leg(place) {
        leg.offers = true;
    }
    refresh(call, core, turn, place);
}

/// Whether a transaction is the refresh of a leg.
pub(crate) fn is_refresh(call: &Call, place: u8, key: Key) -> bool {
    call.legs.get(usize::from(place)).is_some_and(|leg| leg.refresh == Some(key))
}

/// Hears a response to a re-INVITE that refreshes `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    heard: Heard,
    message: &Message,
) {
    match heard {
        Heard::Nothing | Heard::Provisional => {}
        Heard::FailureAgain => core.send_again(turn, key),
        Heard::Failure => {
            hunt::acknowledge_failure(core, turn, key, message);
            concluded(call, core, turn, place, message);
        }
        Heard::Success => {
            answer::acknowledge(call, core, turn, place, None);
            let was_offer = call.leg(place).is_some_and(|leg| leg.offers);
            let session = bridge::acceptable(body::sdp(message));
            if let Ok(session) = &session {
                // An answer that breaks the terms changes nothing.
                let _kept = bridge::program(call, core, turn, place, (Said::Answer, session));
            }
            concluded(call, core, turn, place, message);
            if let (true, Ok(session)) = (was_offer, &session) {
                transfer::agreed(call, core, turn, place, session);
            }
        }
    }
}

/// Hears the final response to a refresh of `place`.
pub(crate) fn concluded(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    let status = message.status().map_or(500, |s| s.code());
    let again = too_small(call, place, message);
    let now = turn.now.mono;
    let wait = glare(core, place);
    let Some(leg) = end(call, place) else { return };
    leg.peer.learn(message);
    match status {
        200..=299 => {
            (leg.offers, leg.before) = (false, Box::default());
            leg.dialog.refresh_target(message.contact().ok().flatten());
            granted(leg, core, now, message);
        }
        408 | 481 => lost(call, core, turn, place),
        422 if again => leg.timer.refresh_at = now,
        491 => leg.timer.refresh_at = now + wait,
        // What we offered was refused: what was agreed before still holds.
        _ if core::mem::take(&mut leg.offers) => {
            leg.said = core::mem::take(&mut leg.before);
            transfer::declined(call, core, turn, place);
        }
        // The session is still on: once more, half way to its end.
        _ => leg.timer.refresh_at = now + (leg.timer.ends_at.since(now) / 2).max(BUSY),
    }
}

/// How long to wait after a 491 (RFC 3261 14.1): longer for the side that chose the Call-ID, in steps
/// of 10 ms.
fn glare(core: &mut Core, place: u8) -> Duration {
    let tens = if place == CALLER { core.random.below(201) } else { 210 + core.random.below(191) };
    Duration::from_millis(u64::from(tens) * 10)
}

/// Nobody answered the refresh, or nobody knows the dialog: it is gone (RFC 3261 12.2.1.2).
pub(crate) fn lost(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    if let Some(leg) = end(call, place) {
        leg.phase = Phase::Over;
    }
    release::release(call, core, turn, Refusal::DialogLost);
}

fn end(call: &mut Call, place: u8) -> Option<&mut Leg> {
    let leg = call.leg(place)?;
    leg.refresh = None;
    leg.offer = Negotiation::Stable;
    Some(leg)
}
