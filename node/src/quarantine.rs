//! Whose packets made us fail, and how often.
//!
//! A source is heard no more after its second failing packet; a third failure within a minute, whoever
//! sent it, ends the process: what fails so often is better recovered from records.

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
    failures: BTreeMap<IpAddr, u8>,
    recent: VecDeque<Instant>,
}

impl Quarantine {
    /// Whether this source is heard no more.
    pub(crate) fn holds(&self, source: IpAddr) -> bool {
        !self.failures.is_empty() && self.failures.get(&source).is_some_and(|n| *n >= 2)
    }

    /// A packet of `source` made us fail; whether that was one failure too many.
    pub(crate) fn blame(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.failures.len() < SOURCES || self.failures.contains_key(&source) {
            *self.failures.entry(source).or_insert(0) += 1;
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
        assert!(!quarantine.blame(a, at(0)) && !quarantine.holds(a));
        assert!(!quarantine.blame(a, at(50)) && quarantine.holds(a) && !quarantine.holds(b));
        assert!(!quarantine.blame(b, at(70)), "the first is forgotten by now");
        assert!(quarantine.blame(b, at(80)));
    }
}
