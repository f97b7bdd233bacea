//! How long a shard waits: when to collect packets before waking up.
//!
//! Waking costs more than relaying a packet, so a shard that would wake for every packet of a dense
//! stream sleeps a little longer and takes a batch. That delays every hop by up to the collecting time,
//! so it must pay: not when packets are rare, and not when they come in bursts that fill a wake-up by
//! themselves (there the collecting time would only split the bursts). The rules are [`collects`] and
//! [`nap`], pure; [`Pace`] keeps the numbers they need.

use base::Instant;
use std::time::Duration;

/// Packets that one wake-up must be worth before it is delayed.
const WORTH: u64 = 8;
/// Packets that end a collecting wait at once.
const BATCH: u32 = 64;
/// The arrival rate is averaged over this many collecting times.
const MEMORY: u64 = 4;
/// Wakes that the average size is taken over.
const WAKES: u64 = 16;
/// A wake counts as this large at most, so that one large wake does not hide the small ones beside it.
const LARGE: u64 = 64;
/// Wakes for which collecting is not tried again after it did not pay.
const HOLD: u32 = 256;
/// Collecting waits after which the shard looks how wakes are without it.
const TERM: u32 = 4096;
/// How many waits that look takes.
const TRIAL: u32 = 256;
/// A wait that took at least this long has slept.
const ASLEEP: Duration = Duration::from_micros(8);
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

/// Whether to collect: `expected` packets arrive in one collecting time, recent wakes brought `average`.
///
/// Begins when it would make wakes worth it and at least half as large again, goes on while they are
/// worth it.
pub(crate) fn collects(now: bool, expected: u64, average: u64) -> bool {
    if now { average >= WORTH } else { expected >= WORTH && expected * 2 >= average * 3 }
}

/// How to wait with `left` to the deadline; `collect` is zero when the shard does not collect.
pub(crate) fn nap(collect: Duration, left: Option<Duration>) -> Nap {
    let collect = left.map_or(collect, |left| left.min(collect));
    let (want, collect) = if collect >= TOO_SHORT { (BATCH, collect) } else { (1, Duration::ZERO) };
    Nap { want, collect, left }
}

/// What recent wakes brought.
pub(crate) struct Pace {
    collect: Duration,
    /// Leaky count: packets of about the last `MEMORY` collecting times.
    level: u64,
    /// Leaky sum over about the last `WAKES` wakes that brought any packet.
    size: u64,
    /// Packets since the last wait that really slept.
    run: u64,
    last: Instant,
    collecting: bool,
    /// Waits until what is done now is reconsidered.
    hold: u32,
}

impl Pace {
    /// A pace that collects for `min_wait_us` when it is worth it, never when that is 0.
    pub(crate) fn new(min_wait_us: u32) -> Pace {
        Pace {
            collect: Duration::from_micros(u64::from(min_wait_us)),
            level: 0,
            size: LARGE * WAKES,
            run: 0,
            last: Instant(0),
            collecting: false,
            hold: 0,
        }
    }

    /// A wait from `begun` to `now` brought `packets` of media.
    pub(crate) fn woke(&mut self, begun: Instant, now: Instant, packets: usize) {
        let memory = self.collect.as_nanos() as u64 * MEMORY;
        let gone = now.since(self.last).as_nanos() as u64;
        let packets = (packets as u64).min(1 << 16);
        self.last = now;
        self.level = if gone >= memory {
            packets
        } else {
            // Some thousand packets times some million nanoseconds: fits.
            self.level - self.level * gone / memory + packets
        };
        self.level = self.level.min(1 << 20);
        if now.since(begun) < ASLEEP {
            // Still the same wake-up: there was more before it could sleep again.
            self.run += packets;
        } else {
            let run = std::mem::replace(&mut self.run, packets);
            if run > 0 {
                self.size = self.size - self.size / WAKES + run.min(LARGE);
            }
        }
        self.hold = self.hold.saturating_sub(1);
        let collects = collects(self.collecting, self.level / MEMORY, self.size / WAKES);
        if self.collecting && (!collects || self.hold == 0) {
            self.collecting = false;
            self.hold = if collects { TRIAL } else { HOLD };
        } else if !self.collecting && collects && self.hold == 0 {
            self.collecting = true;
            self.hold = TERM;
            // A fair start: what wakes brought before says nothing about collecting.
            self.size = WORTH * 3 / 2 * WAKES;
        }
    }

    /// How to wait for at most `left`.
    pub(crate) fn nap(&self, left: Option<Duration>) -> Nap {
        let collect = if self.collecting { self.collect } else { Duration::ZERO };
        nap(collect, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECT: Duration = Duration::from_micros(200);

    #[test]
    fn collecting_begins_when_waking_is_dear_and_ends_when_it_does_not_pay() {
        assert!(!collects(false, 7, 1), "packets are rare");
        assert!(collects(false, 8, 1));
        assert!(!collects(false, 10, 25), "bursts fill a wake by themselves");
        assert!(collects(false, 50, 25), "but two of them fit into a longer wait");
        assert!(collects(true, 8, 8));
        assert!(!collects(true, 100, 7));
    }

    #[test]
    fn collecting_never_passes_the_deadline() {
        let left = |us| Some(Duration::from_micros(us));
        assert_eq!(nap(COLLECT, left(50)).collect, Duration::from_micros(50));
        assert_eq!(nap(COLLECT, left(5)).want, 1);
        assert_eq!(nap(COLLECT, None).want, BATCH);
        assert_eq!(nap(Duration::ZERO, left(500)).want, 1);
    }

    /// Share of collecting waits, in percent, when `burst` packets come together at `rate` a second.
    fn collecting(rate: u64, burst: u64) -> u64 {
        let mut pace = Pace::new(200);
        let gap = burst * 1_000_000_000 / rate;
        let arrives = |n: u64| 1_000_000_000 + n / burst * gap + n % burst * 1_500;
        let (mut now, mut next, mut collected) = (1_000_000_000, 0, 0);
        for _ in 0..10_000 {
            let (nap, begun) = (pace.nap(None), now);
            collected += u64::from(nap.want > 1);
            // The wait lasts for the collecting time, and on until there is something.
            now = (now + nap.collect.as_nanos() as u64).max(arrives(next));
            let first = next;
            while arrives(next) <= now {
                next += 1;
            }
            pace.woke(Instant(begun), Instant(now), (next - first) as usize);
            // Every packet takes its time.
            now += 1_000 + (next - first) * 1_500;
        }
        collected / 100
    }

    #[test]
    fn the_pace_follows_the_load_at_both_ends() {
        assert_eq!(collecting(1_000, 1), 0);
        assert_eq!(collecting(20_000, 1), 0);
        assert!(collecting(60_000, 1) > 90);
        assert!(collecting(80_000, 1) > 90);
    }

    #[test]
    fn bursts_are_not_split() {
        assert!(collecting(50_000, 25) < 10);
        assert!(collecting(100_000, 50) < 10);
    }

    #[test]
    fn zero_turns_it_off() {
        let mut pace = Pace::new(0);
        (1..1_000).for_each(|n| pace.woke(Instant(n), Instant(n * 1_000), 1));
        assert_eq!(pace.nap(None).want, 1);
    }
}
