//! Candidates that are being tried, and which of them the caller hears.
//!
//! One branch is in front: its early dialogs are the caller's, its media is joined. A branch comes forward
//! when it has come further than the one in front: ringing before silence, early media before ringing. One
//! that has let the caller hear something stays there until it fails or another answers, so that the
//! caller does not hear two announcements in turn.

use super::{Call, Phase, bridge, early};
use crate::core::{Core, Turn};
use base::{Instant, plain};

/// A candidate that is being tried.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Its leg.
    pub(crate) leg: u8,
    /// Its place among the attempts of the CDR.
    pub(crate) attempt: u8,
    /// Any response is due by then.
    pub(crate) trying_deadline: Instant,
    /// The answer is due by then.
    pub(crate) ring_deadline: Instant,
}

plain!(struct Branch { leg, attempt, trying_deadline, ring_deadline });

impl Branch {
    /// The earlier of its deadlines.
    pub(crate) fn deadline(&self) -> Instant {
        self.trying_deadline.min(self.ring_deadline)
    }
}

/// Whether a leg is being tried.
pub(crate) fn is_tried(call: &Call, place: u8) -> bool {
    call.branches.iter().any(|branch| branch.leg == place)
}

/// How far a branch has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing was heard of it.
    Silent,
    /// It rings.
    Ringing,
    /// It has described its early media.
    Heard,
}

/// How far a branch has come.
pub(crate) fn standing(call: &Call, place: u8) -> Standing {
    let phase = call.legs.get(usize::from(place)).map(|leg| leg.phase);
    match phase {
        _ if call.early.iter().any(|early| early.is_described_by(place)) => Standing::Heard,
        Some(Phase::Early | Phase::Confirmed) => Standing::Ringing,
        Some(Phase::Trying | Phase::Over | Phase::Moved) | None => Standing::Silent,
    }
}

/// Of those being tried the one that has come furthest, the first of equals.
pub(crate) fn best(call: &Call) -> Option<u8> {
    let legs = call.branches.iter().map(|branch| branch.leg);
    legs.rev().max_by_key(|leg| standing(call, *leg))
}

/// The caller hears this branch from now on.
pub(crate) fn bring_forward(call: &mut Call, core: &Core, turn: &mut Turn, place: u8) {
    call.callee = Some(place);
    bridge::join(call, core, turn);
    early::face(call);
    let Some(leg) = call.legs.get(usize::from(place)) else { return };
    call.cdr.call_id_out = leg.dialog.call_id.clone();
    if let Some(trunk) = core.image.trunk(leg.trunk) {
        call.cdr.trunk_out = trunk.name.as_bytes().into();
    }
}

/// Something was heard of a branch: it is not silent any more.
pub(crate) fn spoke(call: &mut Call, place: u8) {
    if let Some(branch) = call.branches.iter_mut().find(|branch| branch.leg == place) {
        branch.trying_deadline = Instant::NEVER;
    }
}
