//! The time a turn has for setting connections up: accepting them, the steps of TLS handshakes, each of which costs
//! a hundred times a message, and closing those that took too long, of which many may have begun together. What
//! does not fit waits for the next turn, so that packets wait for no more.

use super::IoCounters;
use std::time::{Duration, Instant};

/// What a turn spends on it, and the rest of the step that was under way by then.
const TIME: Duration = Duration::from_micros(500);

/// The lane in one turn.
#[derive(Copy, Clone, Default)]
pub(super) enum Lane {
    /// Nothing is set up now.
    #[default]
    Closed,
    /// Nothing was set up yet.
    Open,
    /// Until then.
    Until(Instant),
}

impl Lane {
    pub(super) fn new(is_open: bool) -> Lane {
        if is_open { Lane::Open } else { Lane::Closed }
    }

    /// Whether another step may be taken. The first of a turn always may.
    pub(super) fn admits(&mut self, counters: &IoCounters) -> bool {
        match *self {
            Lane::Closed => false,
            Lane::Open => {
                *self = Lane::Until(Instant::now() + TIME);
                true
            }
            Lane::Until(end) if Instant::now() < end => true,
            Lane::Until(_) => {
                counters.stream_setups_delayed.add(1);
                *self = Lane::Closed;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_sets_up_one_at_least_and_stops_in_time() {
        let counters = IoCounters::default();
        assert!(!Lane::new(false).admits(&counters));
        let (mut lane, begun) = (Lane::new(true), Instant::now());
        assert!(lane.admits(&counters), "however long it takes");
        while lane.admits(&counters) {
            assert!(begun.elapsed() < 1_000 * TIME);
        }
        assert!(begun.elapsed() >= TIME && !lane.admits(&counters));
        assert_eq!(counters.stream_setups_delayed.get(), 1, "once a turn");
    }
}
