//! Memory that a burst of handshakes leaves behind, given back to the kernel.
//!
//! The allocator keeps what is free, and looks through it when so many others were asked for that after a burst it
//! may be hours. Handshakes are what comes in bursts and takes much for a moment: ten kilobytes each. To look
//! through the heap of 2,000 calls takes some 0.2 ms, and up to 1.3 where 10 MB go back.

#![allow(unsafe_code, reason = "the allocator's own functions have no safe wrapper")]

use base::Instant;
use core::time::Duration;

/// Fewer handshakes leave too little behind to look for it.
const ENOUGH: u64 = 100;
/// How long there is none any more: longer than the allocator waits until it takes a page for idle (a second).
const REST: Duration = Duration::from_millis(1_500);

/// The heap of a shard's thread.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    /// Handshakes that were seen, when the last one was, and how many there were when memory was given back.
    seen: u64,
    last: Instant,
    given: u64,
}

impl Heap {
    /// Looks at how many handshakes there have been, once a turn; gives back what is free after a burst. To be
    /// called on the shard's thread.
    pub(crate) fn look(&mut self, handshakes: u64, now: Instant) {
        if self.is_due(handshakes, now) {
            // SAFETY: it looks through the calling thread's own heap, and what is in use stays where it is.
            unsafe { libmimalloc_sys::mi_collect(false) };
        }
    }

    fn is_due(&mut self, handshakes: u64, now: Instant) -> bool {
        if handshakes != self.seen {
            (self.seen, self.last) = (handshakes, now);
        }
        let is_due = self.seen - self.given >= ENOUGH && now.since(self.last) >= REST;
        if is_due {
            self.given = self.seen;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_a_burst() {
        let (mut heap, mut now) = (Heap::default(), Instant(1));
        let mut given = |handshakes: u64, ms: u64| {
            now = now + Duration::from_millis(ms);
            heap.is_due(handshakes, now)
        };
        assert!(!given(99, 10) && !given(99, 60_000), "too few");
        assert!(!given(700, 10) && !given(1_000, 1_400), "they go on");
        assert!(!given(1_000, 1_400));
        assert!(given(1_000, 100));
        assert!(!given(1_000, 60_000), "there is nothing more");
        assert!(!given(1_099, 10) && !given(1_099, 60_000), "too few");
        assert!(!given(1_100, 10) && given(1_100, 1_500));
    }
}
