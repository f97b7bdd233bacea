//! Whose packets made us fail, and how often.
//!
//! A source is not heard for a minute after its second failing packet; not for longer, since the address
//! of a datagram may be forged and may be a carrier's. A third failure within a minute, whoever sent it,
//! ends the process: what fails so often is better recovered from records.

use base::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Failures within this time are counted together.
const MEMORY: Duration = Duration::from_secs(60);
/// This many end the process.
const TOO_MANY: usize = 3;
/// Sources remembered; more than could fail before the process ends.
const SOURCES: usize = 64;

#[derive(Default)]
pub(crate) struct Quarantine {
    failures: BTreeMap<IpAddr, (u8, Instant)>,
    recent: VecDeque<Instant>,
}

impl Quarantine {
    /// Whether this source is not heard now.
    pub(crate) fn holds(&self, source: IpAddr, now: Instant) -> bool {
        let Some((failures, last)) = self.failures.get(&source) else { return false };
        *failures >= 2 && now.since(*last) < MEMORY
    }

    /// A packet of `source` made us fail; whether that was one failure too many.
    pub(crate) fn blame(&mut self, source: IpAddr, now: Instant) -> bool {
        self.failures.retain(|_, (_, last)| now.since(*last) < MEMORY);
        if self.failures.len() < SOURCES {
            let (failures, last) = self.failures.entry(source).or_insert((0, now));
            (*failures, *last) = (failures.saturating_add(1), now);
        }
        self.recent.retain(|at| now.since(*at) < MEMORY);
        self.recent.push_back(now);
        self.recent.len() >= TOO_MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_failure_silences_a_source_the_third_in_a_minute_ends_it_all() {
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let at = |s| Instant(0) + Duration::from_secs(s);
        let mut quarantine = Quarantine::default();
        assert!(!quarantine.blame(a, at(0)) && !quarantine.holds(a, at(0)));
        assert!(!quarantine.blame(a, at(50)));
        assert!(quarantine.holds(a, at(51)) && !quarantine.holds(b, at(51)));
        assert!(!quarantine.holds(a, at(110)), "a minute is enough");
        assert!(!quarantine.blame(b, at(70)), "the first is forgotten by now");
        assert!(quarantine.blame(b, at(80)));
    }
}
