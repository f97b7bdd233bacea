//! Deadlines of the signalling threads: a heap; what became pointless is recognised when it rings.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Timers A, E and G of RFC 3261, and the 2xx of section 13.3.1.4.
    Retransmit,
    /// Ringing has lasted long enough: answer, or give up.
    Ringing,
    /// The talk is over.
    HangUp,
}

/// The heap.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32, Kind)>>,
}

impl Timers {
    /// Sets a deadline for a call.
    pub(crate) fn set(&mut self, at: u64, call: u32, kind: Kind) {
        self.heap.push(Reverse((at, call, kind)));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes one that is due.
    pub(crate) fn due(&mut self, now: u64) -> Option<(u64, u32, Kind)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }
}

/// RFC 3261 T1, T2 and 64*T1, and the interval a retransmission stands at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    interval: u64,
    cap: u64,
    end: u64,
    /// When the next retransmission is due; anything else that rings is stale.
    pub(crate) at: u64,
}

impl Backoff {
    /// Starts at `now`; intervals double up to `cap` (no cap for timer A).
    pub(crate) fn start(now: u64, t1: u64, cap: u64) -> Self {
        Backoff { interval: t1, cap, end: now + 64 * t1, at: now + t1 }
    }

    /// Moves to the next retransmission, or false when time is up.
    pub(crate) fn advance(&mut self) -> bool {
        self.interval = (self.interval * 2).min(self.cap);
        let over = self.at >= self.end;
        self.at = (self.at + self.interval).min(self.end);
        !over
    }

    /// No more retransmissions.
    pub(crate) fn stop(&mut self) {
        self.at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_and_end_at_64_t1() {
        let mut backoff = Backoff::start(0, 500, u64::MAX);
        let mut at = vec![backoff.at];
        while backoff.advance() {
            at.push(backoff.at);
        }
        assert_eq!(at, [500, 1500, 3500, 7500, 15500, 31500, 32000]);
    }

    #[test]
    fn deadlines_ring_in_order() {
        let mut timers = Timers::default();
        timers.set(20, 1, Kind::HangUp);
        timers.set(10, 2, Kind::Retransmit);
        assert_eq!(timers.due(15), Some((10, 2, Kind::Retransmit)));
        assert_eq!(timers.due(15), None);
    }
}
