//! Recovery from journal frames: which calls were open when the process that wrote them died.

use base::Instant;
use sbc::billing::{Cdr, CdrId, Frame, Stamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What frames say, whatever the order they are read in and however often each is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Calls begun and not stopped, as their newest frame tells them.
    pub open: BTreeMap<CdrId, Cdr>,
    /// When calls that are not stopped were last said to be alive.
    pub alive: BTreeMap<CdrId, Stamp>,
    /// Calls whose CDR is closed.
    pub stopped: BTreeSet<CdrId>,
    /// The newest of those: when each ended, and its CDR's set-up and Call-ID.
    ended: VecDeque<(Instant, Instant, Box<[u8]>)>,
}

/// How long a caller may repeat an INVITE (RFC 3261 17.1.1.2, timer B).
const REPEATED: Duration = Duration::from_secs(32);

impl Ledger {
    /// Takes one sealed frame; damaged ones are left out and counted by the result.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        let Ok(frame) = Frame::open(bytes) else { return false };
        let id = frame.id();
        if self.stopped.contains(&id) {
            return true;
        }
        match frame {
            Frame::Start(cdr) => {
                self.open.entry(id).or_insert(cdr);
            }
            Frame::Answer(cdr) => {
                self.open.insert(id, cdr);
            }
            Frame::Interim(_, at) => {
                let last = self.alive.entry(id).or_insert(at);
                *last = later(*last, at);
            }
            Frame::Stop(cdr) => {
                let ended = Instant(cdr.end.unwrap_or(cdr.setup).mono);
                self.ended.push_back((ended, Instant(cdr.setup.mono), cdr.call_id_in));
                while self.ended.front().is_some_and(|(old, ..)| ended.since(*old) > REPEATED) {
                    self.ended.pop_front();
                }
                self.open.remove(&id);
                self.alive.remove(&id);
                self.stopped.insert(id);
            }
        }
        true
    }

    /// Call-IDs of calls so young that their INVITE may come again, and begin them a second time.
    pub fn young(&self, now: Instant) -> impl Iterator<Item = &[u8]> {
        let ended = self.ended.iter().map(|(_, setup, call_id)| (*setup, &**call_id));
        let open = self.open.values().map(|cdr| (Instant(cdr.setup.mono), &*cdr.call_id_in));
        ended.chain(open).filter(move |(setup, _)| now.since(*setup) < REPEATED).map(|(_, id)| id)
    }

    /// The last moment an open call is known to have been alive.
    pub fn last_known(&self, cdr: &Cdr) -> Stamp {
        let told = cdr.answer.unwrap_or(cdr.setup);
        self.alive.get(&cdr.id).map_or(told, |alive| later(told, *alive))
    }
}

fn later(a: Stamp, b: Stamp) -> Stamp {
    if Instant(a.mono) < Instant(b.mono) { b } else { a }
}
