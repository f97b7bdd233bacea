//! Responses of the callee's that wait until the caller is ready for them.

use super::heard;
use crate::call::{Call, Phase, answer, transfer};
use crate::core::{Core, Turn};
use crate::message::{self, Index, Message};
use base::Key;

/// The largest response that is held; the callee repeats what matters.
const MAX_HELD: usize = 3_000;

/// Whether the 2xx has to wait: a description of ours is not confirmed, or an offer is not answered.
pub(crate) fn must_wait(call: &Call) -> bool {
    let unconfirmed = call.legs.first().and_then(|caller| caller.unconfirmed);
    unconfirmed.is_some_and(|u| u.described) || call.exchange.is_some()
}

/// Keeps a response of the current callee until the caller is ready for it.
pub(crate) fn hold(call: &mut Call, message: &Message) {
    let is_final = |text: &[u8]| text.starts_with(b"SIP/2.0 2");
    let bytes = message.bytes();
    if bytes.len() <= MAX_HELD && (is_final(bytes) || !is_final(&call.held)) {
        call.held = bytes.into();
    }
}

/// The caller is ready: what was held is heard now.
pub(crate) fn resume(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    transfer::resume(call, core, turn);
    let Some((place, key)) = held_by(call) else { return };
    let held = core::mem::take(&mut call.held);
    let mut index = Index::new();
    let Ok(message) = message::parse(&held, &mut index) else { return };
    match message.status() {
        Some(status) if status.is_provisional() => heard(call, core, turn, place, &message),
        Some(_) => answer::success(call, core, turn, (place, key), &message),
        None => {}
    }
}

/// A leg ends: a 2xx of it that was held is acknowledged and ended as well.
pub(crate) fn decline_held(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let Some((holder, key)) = held_by(call).filter(|(holder, _)| *holder == place) else { return };
    let held = core::mem::take(&mut call.held);
    let mut index = Index::new();
    let Ok(message) = message::parse(&held, &mut index) else { return };
    if message.status().is_some_and(|s| s.is_success()) {
        if let Some(leg) = call.leg(holder) {
            leg.phase = Phase::Over;
        }
        answer::decline(call, core, turn, (holder, key), &message);
    }
}

fn held_by(call: &Call) -> Option<(u8, Key)> {
    let place = call.callee.filter(|_| !call.held.is_empty())?;
    Some((place, call.legs.get(usize::from(place))?.invite?))
}
