//! Orders from the gate to a shard.

use crate::event::CallId;

/// An operator's order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take no new calls; the shard is drained when its last call has ended.
    Drain,
    /// Release one call with a BYE (or CANCEL) to every leg.
    Hangup(CallId),
    /// Bring the media of one call back to us that goes past us.
    Anchor(CallId),
    /// Copy what the legs of one call send to the gate, until it is over or [`Command::Uncapture`].
    Capture(CallId),
    /// Copy no more of it.
    Uncapture(CallId),
    /// Release every call that is left: the drain timeout has passed.
    ReleaseAll,
    /// Send an event for every call again: the gate lost some.
    Resync,
}
