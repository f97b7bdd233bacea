//! The sweep: notices of silence, of quality and of learned addresses, a bounded number of endpoints per
//! call; and whom a report is due to.
//!
//! Every slot, used or not, is looked at about once a second, so a silence is told up to a second late.

use crate::end::News;
use crate::media::{Media, Occupant};
use crate::notice::Notice;
use crate::sample::Band;
use base::Instant;
use core::time::Duration;

/// The most endpoints looked at in one call.
const BATCH: usize = 256;
/// How long one walk over all endpoints takes.
const ROUND: Duration = Duration::from_secs(1);

/// Where the walk stands.
pub(crate) struct Sweep {
    /// The next slot to look at.
    next: usize,
    due: Instant,
    pause: Duration,
}

impl Sweep {
    pub(crate) fn new(now: Instant, capacity: usize) -> Sweep {
        let batches = u32::try_from(capacity.div_ceil(BATCH)).unwrap_or(u32::MAX).max(1);
        let pause = ROUND / batches;
        Sweep { next: 0, due: now + pause, pause }
    }
}

impl Media {
    /// Looks at the next endpoints, if due, and tells what signalling should know. Addresses learned
    /// and keys let go of
    /// are told at every call.
    pub fn sweep(&mut self, now: Instant, out: &mut Vec<Notice>) {
        self.tell_latched(out);
        out.append(&mut self.pressed);
        if now < self.sweep.due {
            return;
        }
        self.sweep.due = now + self.sweep.pause;
        self.ports.rest_all(now);
        self.publish();
        let batch = self.sweep.next..(self.sweep.next + BATCH).min(self.slots.len());
        self.sweep.next = if batch.end == self.slots.len() { 0 } else { batch.end };
        for slot in batch {
            self.look_at(slot, now, out);
        }
    }

    fn look_at(&mut self, slot: usize, now: Instant, out: &mut Vec<Notice>) {
        let rtp = self.slots[slot].rtp;
        let Some(&Occupant::End(key, _)) = self.ports_by_id.get(rtp.0 as usize) else {
            return;
        };
        let Some(end) = self.ends.get_mut(key) else {
            return;
        };
        if end.owes_report(now) {
            self.reports_due.push(key);
        }
        if let Some(sample) = end.sample(key, now) {
            self.counters.samples.add(Band::of(sample.mos_centi).index());
            out.push(Notice::Sampled(sample));
        }
        if end.silence_told {
            return;
        }
        if let Some(since) = end.silent_since(now) {
            end.silence_told = true;
            self.counters.silences.add(1);
            out.push(Notice::Silent { end: key, since });
        }
    }

    /// When `sweep`, `keys` or `shake` has something to do: at once after an address was learned or a key let go of,
    /// else at the next step of the walk or of a key; never when no endpoint is used or resting.
    pub fn next_sweep(&self) -> Option<Instant> {
        if !self.latched.is_empty() || !self.pressed.is_empty() {
            return Some(Instant(0));
        }
        let walk = (self.in_use() + self.quarantined() > 0).then_some(self.sweep.due);
        walk.into_iter().chain(self.next_key()).chain(self.lane.deadline()).min()
    }

    fn tell_latched(&mut self, out: &mut Vec<Notice>) {
        while let Some(key) = self.latched.pop() {
            let Some(end) = self.ends.get_mut(key) else {
                continue;
            };
            end.news = News::Told;
            // Nothing to tell when a new plan forgot the address meanwhile.
            if let Some(to) = end.latch.learned() {
                out.push(Notice::Latched { end: key, to });
            }
        }
    }
}
