//! Counted state: atomic words that every shard may change, for what must be exact across shards.
//!
//! A word counts calls in use; another paces new calls (GCRA: the word is the theoretical arrival
//! time of the next call, in nanoseconds). Nothing else is shared between shards.

use crate::Instant;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// A page of words shared by all shards of a node.
#[derive(Clone)]
pub struct Page {
    words: Arc<[AtomicU64]>,
}

impl Page {
    /// A page of `len` zero words.
    pub fn new(len: usize) -> Self {
        Page { words: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A page of its own with the same words, for looking at what would happen.
    #[must_use]
    pub fn copy(&self) -> Page {
        Page { words: (0..self.words.len()).map(|w| AtomicU64::new(self.read(w))).collect() }
    }

    /// Adds one to `word` unless it stands at `limit` already; whether it did.
    pub fn enter(&self, word: usize, limit: u64) -> bool {
        let Some(w) = self.words.get(word) else {
            return false;
        };
        w.try_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1)).is_ok()
    }

    /// Adds one regardless of any limit: what only counts, and calls that exist already when the page is
    /// rebuilt.
    pub fn add(&self, word: usize) {
        if let Some(w) = self.words.get(word) {
            w.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Takes one from `word`; never goes below zero.
    pub fn leave(&self, word: usize) {
        if let Some(w) = self.words.get(word) {
            let left = w.try_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
            debug_assert!(left.is_ok(), "a call left a word it had not entered");
        }
    }

    /// What `word` stands at.
    pub fn read(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |w| w.load(Ordering::Acquire))
    }

    /// Counts one on `word` and says how many came before; `None` when there is no such word.
    pub fn take_turn(&self, word: usize) -> Option<u64> {
        self.words.get(word).map(|w| w.fetch_add(1, Ordering::AcqRel))
    }

    /// Whether `pace` would admit an event; admits none.
    pub fn would_pace(&self, word: usize, per_second: u32, now: Instant) -> bool {
        let Some(due) = self.words.get(word).map(|w| w.load(Ordering::Acquire)) else {
            return false;
        };
        // Mostly the last is long ago, and nothing need be divided.
        let ahead = due.saturating_sub(now.0);
        if ahead == 0 {
            return per_second > 0;
        }
        let step = 1_000_000_000u32.checked_div(per_second);
        step.is_some_and(|step| ahead <= u64::from(1_000_000_000 - step))
    }

    /// Admits one event on `word` when at most `per_second` pass, with bursts of up to a second's worth.
    pub fn pace(&self, word: usize, per_second: u32, now: Instant) -> bool {
        let Some(w) = self.words.get(word) else {
            return false;
        };
        if per_second == 0 {
            return false;
        }
        let step = 1_000_000_000 / u64::from(per_second);
        let ahead = 1_000_000_000 - step;
        let arrive = |due: u64| {
            let due = due.max(now.0);
            (due <= now.0.saturating_add(ahead)).then(|| due.saturating_add(step))
        };
        w.try_update(Ordering::AcqRel, Ordering::Acquire, arrive).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_above_the_limit_and_back_to_zero() {
        let page = Page::new(1);
        assert!(page.enter(0, 2) && page.enter(0, 2) && !page.enter(0, 2));
        page.leave(0);
        assert!(page.enter(0, 2));
        assert_eq!(page.read(0), 2);
        assert!(!page.enter(9, 1), "a word outside the page admits nothing");
    }

    #[test]
    fn exact_when_shards_race() {
        let page = Page::new(1);
        let won: usize = std::thread::scope(|s| {
            let threads: Vec<_> = (0..4)
                .map(|_| s.spawn(|| (0..1000).filter(|_| page.enter(0, 1234)).count()))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!((won, page.read(0)), (1234, 1234));
    }

    #[test]
    fn pace_admits_the_rate_and_no_more() {
        let page = Page::new(1);
        let passed = (0..10_000u64).filter(|ms| page.pace(0, 100, Instant(ms * 1_000_000))).count();
        assert!((1000..=1100).contains(&passed), "{passed} in 10 s at 100/s plus one burst");
        assert!(!page.pace(0, 0, Instant(0)) && !page.would_pace(0, 0, Instant(0)));
    }

    #[test]
    fn what_would_be_admitted_is() {
        let page = Page::new(1);
        for ms in 0..3_000u64 {
            let now = Instant(ms * 1_000_000);
            let would = page.would_pace(0, 100, now);
            assert_eq!(page.pace(0, 100, now), would, "at {ms} ms");
        }
        assert!(!page.would_pace(1, 100, Instant(0)), "a word outside the page admits nothing");
    }

    #[test]
    fn turns_are_taken_once_each() {
        let page = Page::new(1);
        assert_eq!([0, 1, 2].map(|_| page.take_turn(0)), [Some(0), Some(1), Some(2)]);
        assert_eq!(page.take_turn(1), None);
        let copy = page.copy();
        assert_eq!((copy.take_turn(0), page.read(0)), (Some(3), 3));
    }
}
