//! When a connection sends: at once, or what it is given within a moment together.
//!
//! Every segment costs both ends and the kernels between them the same, however much is in it. Waiting for more pays
//! where there is more to come, and a turn to send it in anyway; elsewhere it would cost wake-ups and time.

use base::Instant;
use std::time::Duration;

/// What a busy connection is given this soon after it last spoke goes out together, in the first turn after that.
const GATHERED: Duration = Duration::from_micros(500);
/// Without a turn it goes this long after.
const GATHERED_AT_MOST: Duration = Duration::from_millis(1);
/// How long messages are counted, and how many of them make the time after that a busy one: where as many came one
/// by one, gathering ours neither won nor lost anything.
const TERM: Duration = Duration::from_millis(10);
const BUSY: u32 = 25;

/// What a connection was given lately, and when it spoke.
#[derive(Default)]
pub(super) struct Pulse {
    /// When this term began, what it has brought, and whether the one before was a busy one.
    began: Instant,
    messages: u32,
    is_busy: bool,
    spoke: Instant,
}

impl Pulse {
    /// It is given a message.
    pub(super) fn beat(&mut self, now: Instant) {
        let gone = now.since(self.began);
        if gone >= TERM {
            self.is_busy = self.messages >= BUSY && gone < 2 * TERM;
            (self.began, self.messages) = (now, 0);
        }
        self.messages += 1;
    }

    /// It speaks now, or waits for more: until then, unless there is a turn before.
    pub(super) fn waits(&mut self, now: Instant) -> Option<Instant> {
        let silent = now.since(self.spoke);
        if self.is_busy && silent < GATHERED {
            return Some(self.spoke + GATHERED_AT_MOST);
        }
        self.spoke = now;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message every `gap` microseconds from `from` on, each with a turn; how often it spoke.
    fn speaks(pulse: &mut Pulse, from: u64, gap: u64, messages: u64) -> u64 {
        let turns = (0..messages).map(|n| Instant((from + n * gap) * 1000));
        turns
            .filter(|now| {
                pulse.beat(*now);
                pulse.waits(*now).is_none()
            })
            .count() as u64
    }

    #[test]
    fn nothing_waits_where_little_is_said() {
        let mut pulse = Pulse::default();
        // As many as 500 calls a second have, and a burst after a pause.
        assert_eq!(speaks(&mut pulse, 1_000_000, 667, 3000), 3000);
        assert_eq!(speaks(&mut pulse, 9_000_000, 100, 90), 90);
    }

    #[test]
    fn much_goes_together_and_soon() {
        let mut pulse = Pulse::default();
        // The first term teaches it: then five go together.
        assert_eq!(speaks(&mut pulse, 1_000_000, 100, 1100), 100 + 1000 / 5);
        let last = Instant(1_109_900_000);
        pulse.waits(last + GATHERED);
        let wanted = pulse.waits(last + GATHERED + Duration::from_micros(1));
        assert_eq!(wanted, Some(last + GATHERED + GATHERED_AT_MOST));
        // After a pause it is as it was at first.
        assert_eq!(speaks(&mut pulse, 1_200_000, 100, 90), 90);
    }
}
