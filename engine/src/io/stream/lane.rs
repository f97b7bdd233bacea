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
        self.admits_at(Instant::now, counters)
    }

    fn admits_at(&mut self, now: impl FnOnce() -> Instant, counters: &IoCounters) -> bool {
        match *self {
            Lane::Closed => false,
            Lane::Open => {
                *self = Lane::Until(now() + TIME);
                true
            }
            Lane::Until(end) if now() < end => true,
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
    use std::iter::repeat_n;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn a_turn_sets_up_one_at_least_and_stops_in_time() {
        let (counters, begun) = (IoCounters::default(), Instant::now());
        assert!(!Lane::new(false).admits(&counters));
        let mut lane = Lane::new(true);
        assert!(lane.admits_at(|| begun, &counters));
        assert!(lane.admits_at(|| begun + TIME - us(1), &counters));
        assert!(!lane.admits_at(|| begun + TIME, &counters));
        assert!(!lane.admits_at(|| begun, &counters), "until the next turn");
        assert_eq!(counters.stream_setups_delayed.get(), 1, "once a turn");
    }

    /// Two thousand peers that begin at once and go at once, beside a packet every 100 µs: how long packets wait.
    #[test]
    fn packets_wait_for_one_step_more_than_the_lane_at_most() {
        let (counters, origin) = (IoCounters::default(), Instant::now());
        let (accept, shake, close, relay) = (us(60), us(400), us(40), us(10));
        let steps = [accept, shake, close].map(|step| repeat_n(step, 2_000));
        let mut steps = steps.into_iter().flatten().peekable();
        let (mut now, mut packets, mut longest) = (Duration::ZERO, 0, Duration::ZERO);
        while steps.peek().is_some() {
            let begun = now;
            let mut lane = Lane::new(true);
            while let Some(step) = steps.next_if(|_| lane.admits_at(|| origin + now, &counters)) {
                now += step;
            }
            assert!(now > begun, "every turn gets on");
            while us(100) * packets <= now {
                now += relay;
                longest = longest.max(now - us(100) * packets);
                packets += 1;
            }
        }
        assert!(packets > 9_000, "they were all made and relayed for: {packets}");
        // The packets of the lane's time go before the last of them.
        let bound = TIME + shake + relay * 15;
        assert!(longest <= bound && longest > TIME, "{longest:?}");
    }
}
