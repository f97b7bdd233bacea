//! How long a shard waits: when to collect packets before waking up.
//!
//! Waking costs more than relaying a packet, so a busy shard sleeps a little longer and takes a batch.
//! That delays every hop by up to the collecting time; a shard that is not busy wakes for each packet.
//! The rule is [`nap`], pure; [`Pace`] keeps the one number it needs.

use base::Instant;
use std::time::Duration;

/// Packets that one wake-up must be worth before it is delayed.
const WORTH: u64 = 8;
/// Packets that end a collecting wait at once.
const BATCH: u32 = 64;
/// The arrival rate is averaged over this many collecting times.
const MEMORY: u64 = 4;
/// Below this much time to the deadline, collecting gains nothing.
const TOO_SHORT: Duration = Duration::from_micros(20);

/// How to wait once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nap {
    /// Completions that end the wait.
    pub(crate) want: u32,
    /// For this long fewer completions do not end it; 0 when any does.
    pub(crate) collect: Duration,
    /// The wait ends here at the latest; `None` when only input ends it.
    pub(crate) left: Option<Duration>,
}

/// The rule: collect only while one collecting time brings at least eight packets.
///
/// `expected` packets arrive in `collect`; `left` is the time to the deadline.
pub(crate) fn nap(expected: u64, collect: Duration, left: Option<Duration>) -> Nap {
    let collect = left.map_or(collect, |left| left.min(collect));
    if expected >= WORTH && collect >= TOO_SHORT {
        Nap {
            want: BATCH,
            collect,
            left,
        }
    } else {
        Nap {
            want: 1,
            collect: Duration::ZERO,
            left,
        }
    }
}

/// What recent wakes brought.
pub(crate) struct Pace {
    collect: Duration,
    /// Leaky count: packets of about the last `MEMORY` collecting times.
    level: u64,
    last: Instant,
}

impl Pace {
    /// A pace that collects for `min_wait_us` when it is worth it, never when that is 0.
    pub(crate) fn new(min_wait_us: u32) -> Pace {
        Pace {
            collect: Duration::from_micros(u64::from(min_wait_us)),
            level: 0,
            last: Instant(0),
        }
    }

    /// A wake-up at `now` brought `packets`.
    pub(crate) fn woke(&mut self, now: Instant, packets: usize) {
        let memory = self.collect.as_nanos() as u64 * MEMORY;
        let gone = now.since(self.last).as_nanos() as u64;
        self.last = now;
        self.level = if gone >= memory {
            0
        } else {
            // At most a few thousand packets times nanoseconds of some milliseconds: fits u64.
            self.level - self.level * gone / memory
        };
        self.level = (self.level + packets as u64).min(1 << 20);
    }

    /// How to wait for at most `left`.
    pub(crate) fn nap(&self, left: Option<Duration>) -> Nap {
        nap(self.level / MEMORY, self.collect, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECT: Duration = Duration::from_micros(200);

    #[test]
    fn a_quiet_shard_wakes_for_each_packet() {
        let left = Some(Duration::from_millis(3));
        let quiet = nap(7, COLLECT, left);
        assert_eq!((quiet.want, quiet.collect), (1, Duration::ZERO));
        assert_eq!(quiet.left, left);
        assert_eq!(nap(0, COLLECT, None).want, 1);
    }

    #[test]
    fn a_busy_shard_collects() {
        let busy = nap(8, COLLECT, None);
        assert_eq!((busy.want, busy.collect), (BATCH, COLLECT));
        assert_eq!(nap(1000, Duration::ZERO, None).want, 1, "0 turns it off");
    }

    #[test]
    fn collecting_never_passes_the_deadline() {
        let short = nap(100, COLLECT, Some(Duration::from_micros(50)));
        assert_eq!(short.collect, Duration::from_micros(50));
        assert_eq!(nap(100, COLLECT, Some(Duration::from_micros(5))).want, 1);
    }

    /// Packets per second in, the kind of wait the pace settles on.
    fn settles(rate: u64) -> u32 {
        let mut pace = Pace::new(200);
        let mut now = Instant(1_000_000_000);
        for _ in 0..2_000 {
            let nap = pace.nap(None);
            // Uncollected, every packet wakes; collected, a batch or the time does.
            let batch = if nap.want == 1 {
                1
            } else {
                (rate / 5_000).clamp(1, 64)
            };
            now = now + Duration::from_nanos(batch * 1_000_000_000 / rate);
            pace.woke(now, batch as usize);
        }
        pace.nap(None).want
    }

    #[test]
    fn the_pace_follows_the_load_at_both_ends() {
        assert_eq!(settles(1_000), 1);
        assert_eq!(settles(20_000), 1);
        assert_eq!(settles(50_000), BATCH);
        assert_eq!(settles(300_000), BATCH);
    }

    #[test]
    fn silence_ends_collecting() {
        let mut pace = Pace::new(200);
        pace.woke(Instant(1_000_000), 500);
        assert_eq!(pace.nap(None).want, BATCH);
        pace.woke(Instant(3_000_000), 1);
        assert_eq!(pace.nap(None).want, 1);
    }
}
