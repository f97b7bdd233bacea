//! A leg: one dialog and one media endpoint.

use crate::dialog::Dialog;
use base::{Instant, Key, PortId, plain};
use media::Plan;

/// How far a leg's dialog is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No dialog-creating response yet.
    Trying,
    /// Early dialog.
    Early,
    /// Confirmed by a 2xx.
    Confirmed,
    /// Over: refused, cancelled, or a BYE went either way.
    Over,
}

/// A leg.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Its trunk.
    pub(crate) trunk: u16,
    /// The listener it uses.
    pub(crate) port: PortId,
    /// Its dialog.
    pub(crate) dialog: Dialog,
    /// How far it is.
    pub(crate) phase: Phase,
    /// The INVITE transaction that concerns it: ours or the peer's, the latest.
    pub(crate) invite: Option<Key>,
    /// Our other requests within it that are not answered yet.
    pub(crate) others: Vec<Key>,
    /// A CANCEL waits for the first provisional response (RFC 3261 9.1).
    pub(crate) cancel_owed: bool,
    /// A BYE waits for the ACK (RFC 3261 15).
    pub(crate) bye_owed: bool,
    /// The media endpoint facing it.
    pub(crate) media: Option<Key>,
    /// What its last session description said.
    pub(crate) plan: Option<Plan>,
    /// Neither direction of its last session description is on hold.
    pub(crate) both_ways: bool,
    /// When that was.
    pub(crate) planned_at: Instant,
    /// Session id and version of what we send it (RFC 8866 5.2).
    pub(crate) sdp_id: u64,
    /// Version of what we sent last.
    pub(crate) sdp_version: u64,
    /// Keyed hash of what we sent last, version apart.
    pub(crate) sdp_hash: u64,
}

impl Leg {
    /// A leg whose dialog has only begun; `session` identifies what we describe to it.
    pub(crate) fn new(trunk: u16, port: PortId, dialog: Dialog, media: Key, session: u64) -> Leg {
        Leg {
            trunk,
            port,
            dialog,
            phase: Phase::Trying,
            invite: None,
            others: Vec::new(),
            cancel_owed: false,
            bye_owed: false,
            media: Some(media),
            plan: None,
            both_ways: false,
            planned_at: Instant::NEVER,
            sdp_id: session >> 2,
            sdp_version: 1,
            sdp_hash: 0,
        }
    }
}

plain!(
    enum Phase {
        Trying = 0,
        Early = 1,
        Confirmed = 2,
        Over = 3,
    }
);
plain!(struct Leg {
    trunk, port, dialog, phase, invite, others, cancel_owed, bye_owed, media, plan, both_ways, planned_at,
    sdp_id, sdp_version, sdp_hash,
});
