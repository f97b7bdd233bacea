//! What a shard knows about names: the last answer for each, in its time to live and past it.
//!
//! An answer past its time is used until a newer one comes, for as long as it was said to (RFC 8767 4);
//! whether there are servers at all is remembered no longer than it holds (RFC 2308 5).

use super::{Answer, Hop, MAX_NAMES, Query};
use base::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a name that did not answer is not waited for again.
const SILENCE_TTL_S: u32 = 5;

/// Bounds on how long an answer is believed, whoever gave it.
const TTL_S: core::ops::RangeInclusive<u32> = 1..=86_400;
/// The longest an answer is used past its time, seconds.
const MAX_STALE_S: u32 = 7 * 86_400;

/// Servers of a name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// In no particular order; none when there are none.
    pub hops: &'a [Hop],
    /// Their time is over, and nothing newer is known.
    pub stale: bool,
}

/// Answers by what was asked.
#[derive(Default)]
pub struct Names {
    known: BTreeMap<Query, Known>,
}

struct Known {
    hops: Vec<Hop>,
    fresh_until: Instant,
    until: Instant,
}

impl Names {
    /// What is known; `None` when it must be asked for.
    pub fn get(&self, query: &Query, now: Instant) -> Option<Found<'_>> {
        let known = self.known.get(query)?;
        let found = Found { hops: &known.hops, stale: now >= known.fresh_until };
        (now < known.until).then_some(found)
    }

    /// Learns an answer.
    pub fn learn(&mut self, answer: Answer, now: Instant) {
        let Answer { query, hops, ttl_s, stale_s } = answer.bounded();
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let fresh_until = now + seconds(ttl_s.clamp(*TTL_S.start(), *TTL_S.end()));
        let longer = if hops.is_empty() { 0 } else { stale_s.min(MAX_STALE_S) };
        let known = Known { hops, fresh_until, until: fresh_until + seconds(longer) };
        if self.known.len() >= MAX_NAMES && !self.known.contains_key(&query) {
            self.known.retain(|_, known| now < known.until);
        }
        if self.known.len() < MAX_NAMES || self.known.contains_key(&query) {
            self.known.insert(query, known);
        }
    }

    /// Takes silence for an answer: the deadline passed. An answer known already is kept.
    pub fn give_up(&mut self, query: Query, now: Instant) {
        if self.get(&query, now).is_none() {
            self.learn(Answer::none(query, SILENCE_TTL_S), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(0) + Duration::from_secs(seconds)
    }

    fn query(n: usize) -> Query {
        Query::port(&format!("host-{n}.example"), 5060)
    }

    fn answer(query: Query, ttl_s: u32, stale_s: u32) -> Answer {
        Answer { stale_s, ..Answer::of(query, 5060, vec![[192, 0, 2, 1].into()], ttl_s) }
    }

    #[test]
    fn answers_live_as_long_as_they_say_and_are_stale_after() {
        let mut names = Names::default();
        names.learn(answer(query(1), 2, 3), at(0));
        names.give_up(query(1), at(0));
        let stale = |s| names.get(&query(1), at(s)).map(|f| (f.hops.len(), f.stale));
        assert_eq!(
            [stale(1), stale(2), stale(4)],
            [Some((1, false)), Some((1, true)), Some((1, true))]
        );
        assert_eq!(stale(5), None);
    }

    #[test]
    fn that_there_are_none_is_never_stale() {
        let mut names = Names::default();
        names.learn(Answer { stale_s: 60, ..Answer::none(query(1), 2) }, at(0));
        assert_eq!(names.get(&query(1), at(1)), Some(Found { hops: &[], stale: false }));
        assert_eq!(names.get(&query(1), at(2)), None);
        names.give_up(query(2), at(0));
        assert!(names.get(&query(2), at(4)).is_some() && names.get(&query(2), at(5)).is_none());
    }

    #[test]
    fn a_stale_answer_outlives_the_silence_of_who_was_asked() {
        let mut names = Names::default();
        names.learn(answer(query(1), 1, 10), at(0));
        names.give_up(query(1), at(5));
        assert_eq!(names.get(&query(1), at(6)).map(|f| f.hops.len()), Some(1));
    }

    #[test]
    fn there_is_room_for_as_many_names_as_may_be_configured() {
        let mut names = Names::default();
        (0..MAX_NAMES).for_each(|n| names.learn(answer(query(n), 60, 0), at(0)));
        names.learn(answer(query(MAX_NAMES), 60, 0), at(1));
        assert_eq!(names.get(&query(MAX_NAMES), at(1)), None, "one more");
        names.learn(answer(query(0), 100, 0), at(1));
        assert!(names.get(&query(0), at(90)).is_some(), "a known one is renewed");
        names.learn(answer(query(MAX_NAMES), 60, 0), at(61));
        assert!(names.get(&query(MAX_NAMES), at(62)).is_some(), "in the place of an old one");
    }
}
