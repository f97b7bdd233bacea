//! Time as a value: the driver reads the clocks once per turn and everybody else is told.
//!
//! `Instant` is nanoseconds of the machine's monotonic clock, which survives a restart of the process
//! but not of the machine; `Wall` is nanoseconds since the Unix epoch and may jump either way.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds on the monotonic clock.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

/// Both clocks, read together at the start of a turn.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers and durations.
    pub mono: Instant,
    /// For what humans and billing systems read.
    pub wall: Wall,
}

impl Instant {
    /// An instant no timer reaches.
    pub const NEVER: Instant = Instant(u64::MAX);

    /// Time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(rhs)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(rhs)))
    }
}

impl Wall {
    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Now {
    /// The same pair, `by` later on both clocks.
    pub fn after(self, by: Duration) -> Now {
        Now { mono: self.mono + by, wall: Wall(self.wall.0.saturating_add(nanos(by))) }
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant(5) - Duration::from_secs(1), Instant(0));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
    }
}
