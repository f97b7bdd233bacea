//! Recovery from journal frames: which calls were open when the process that wrote them died.

use base::Instant;
use sbc::billing::{Cdr, CdrId, Frame, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// What the frames of a dead process say.
#[derive(Clone, Default)]
pub struct Ledger {
    /// Calls begun and not stopped, with the last moment they are known to have been alive.
    pub open: BTreeMap<CdrId, (Cdr, Stamp)>,
    /// Calls whose CDR is closed.
    pub stopped: BTreeSet<CdrId>,
}

impl Ledger {
    /// Takes one sealed frame, in any order; damaged ones are left out and counted by the result.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        let Ok(frame) = Frame::open(bytes) else { return false };
        let id = frame.id();
        if self.stopped.contains(&id) {
            return true;
        }
        match frame {
            Frame::Start(cdr) => {
                let at = cdr.setup;
                self.open.entry(id).or_insert((cdr, at));
            }
            Frame::Answer(cdr) => {
                let at = cdr.answer.unwrap_or(cdr.setup);
                self.open.insert(id, (cdr, at));
            }
            Frame::Interim(_, at) => {
                if let Some((_, last)) = self.open.get_mut(&id)
                    && Instant(last.mono) < Instant(at.mono)
                {
                    *last = at;
                }
            }
            Frame::Stop(_) => {
                self.open.remove(&id);
                self.stopped.insert(id);
            }
        }
        true
    }
}
