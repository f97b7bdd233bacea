//! The sliding window behind the figures: sums in slots of time, and confidence out of sums.
//!
//! Ratios have Wilson's interval, averages the normal one; both at 95 %. Floating point is used for the
//! intervals only: nothing here is money.

use super::{Figures, Span, Standing};
use base::Instant;
use control::event::{Attempted, Ended};
use std::collections::BTreeMap;
use std::time::Duration;

/// Slots of a window: it slides by one of them at a time.
pub const SLOTS: usize = 30;
/// The most pairs of destination and trunk that are measured at a time.
pub const MAX_CELLS: usize = 16_384;

/// 95 % of a normal distribution lie within so many deviations.
const Z: f64 = 1.96;

/// A sum, with what its spread needs.
#[derive(Copy, Clone, Debug, Default)]
struct Sum {
    count: u32,
    sum: u64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, value: u64) {
        self.count += 1;
        self.sum += value;
        self.squares += (value as f64) * (value as f64);
    }

    fn join(self, other: Sum) -> Sum {
        Sum {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
        }
    }

    /// The average and the interval of the true one.
    fn span(self) -> Span {
        if self.count == 0 {
            return Span::default();
        }
        let (n, mean) = (f64::from(self.count), self.sum as f64 / f64::from(self.count));
        let half = match self.count {
            1 => f64::INFINITY,
            _ => {
                let spread = (self.squares - n * mean * mean).max(0.0) / (n - 1.0);
                Z * (spread / n).sqrt()
            }
        };
        Span {
            count: self.count,
            mean: mean as u32,
            low: (mean - half) as u32,
            high: (mean + half) as u32,
        }
    }
}

/// A ratio in 1e-4 with Wilson's interval.
fn ratio(hits: u32, count: u32) -> Span {
    if count == 0 {
        return Span::default();
    }
    let (n, p) = (f64::from(count), f64::from(hits) / f64::from(count));
    let wide = 1.0 + Z * Z / n;
    let middle = (p + Z * Z / (2.0 * n)) / wide;
    let half = Z / wide * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let e4 = |share: f64| (share * 10_000.0).round() as u32;
    Span {
        count,
        mean: e4(p),
        low: e4((middle - half).max(0.0)),
        high: e4((middle + half).min(1.0)),
    }
}

/// Attempts that ended within one slot.
#[derive(Copy, Clone, Debug, Default)]
struct Slot {
    tries: u32,
    answered: u32,
    reached: u32,
    duration: Sum,
    delay: Sum,
    score: Sum,
}

impl Slot {
    fn add(&mut self, what: &Attempted) {
        self.tries += 1;
        match what.ended {
            Ended::Answered => {
                self.answered += 1;
                self.reached += 1;
                self.duration.add(what.duration_ms);
            }
            Ended::Reached => self.reached += 1,
            Ended::Failed => {}
        }
        if let Some(delay) = what.pdd_ms {
            self.delay.add(u64::from(delay));
        }
        if let Some(score) = what.mos_centi {
            self.score.add(u64::from(score));
        }
    }

    fn join(self, other: Slot) -> Slot {
        Slot {
            tries: self.tries + other.tries,
            answered: self.answered + other.answered,
            reached: self.reached + other.reached,
            duration: self.duration.join(other.duration),
            delay: self.delay.join(other.delay),
            score: self.score.join(other.score),
        }
    }

    fn figures(self) -> Figures {
        Figures {
            asr: ratio(self.answered, self.tries),
            ner: ratio(self.reached, self.tries),
            acd: self.duration.span(),
            pdd: self.delay.span(),
            mos: self.score.span(),
        }
    }
}

/// One trunk to one destination: slots in a ring, by their number since the start.
#[derive(Clone, Debug)]
struct Cell {
    slots: Box<[Slot; SLOTS]>,
    /// Number of the newest slot.
    newest: u64,
}

impl Cell {
    fn new(newest: u64) -> Cell {
        Cell { slots: Box::new([Slot::default(); SLOTS]), newest }
    }

    /// Forgets what has left the window.
    fn slide(&mut self, now: u64) {
        let passed = now.saturating_sub(self.newest).min(SLOTS as u64);
        for slot in now - passed..now {
            self.slots[(slot + 1) as usize % SLOTS] = Slot::default();
        }
        self.newest = self.newest.max(now);
    }

    fn sum(&self) -> Slot {
        self.slots.iter().fold(Slot::default(), |sum, slot| sum.join(*slot))
    }
}

/// What was heard of every trunk to every destination within the window.
#[derive(Clone, Debug)]
pub struct Records {
    slot_ns: u64,
    /// By destination and trunk.
    cells: BTreeMap<(u16, u16), Cell>,
    unmeasured: u64,
}

impl Records {
    /// Nothing yet; figures will be taken over `window`.
    pub fn new(window: Duration) -> Records {
        let slot_ns = (window.as_nanos() as u64 / SLOTS as u64).max(1);
        Records { slot_ns, cells: BTreeMap::new(), unmeasured: 0 }
    }

    /// Attempts that were not measured, because there were [`MAX_CELLS`] others.
    pub fn unmeasured(&self) -> u64 {
        self.unmeasured
    }

    /// Takes the end of an attempt to a destination.
    pub fn hear(&mut self, destination: u16, what: &Attempted, now: Instant) {
        let slot = now.0 / self.slot_ns;
        let key = (destination, what.trunk);
        if self.cells.len() >= MAX_CELLS && !self.cells.contains_key(&key) {
            self.unmeasured += 1;
            return;
        }
        let cell = self.cells.entry(key).or_insert_with(|| Cell::new(slot));
        cell.slide(slot);
        cell.slots[slot as usize % SLOTS].add(what);
    }

    /// The figures now. What had no calls within the window is forgotten.
    pub fn standing(&mut self, now: Instant) -> Standing {
        let slot = now.0 / self.slot_ns;
        let mut standing = Standing::default();
        self.cells.retain(|(destination, trunk), cell| {
            cell.slide(slot);
            let sum = cell.sum();
            if sum.tries > 0 {
                standing.push(*destination, *trunk, sum.figures());
            }
            sum.tries > 0
        });
        standing
    }
}

#[cfg(test)]
mod tests {
    use super::super::Measure;
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Instant {
        Instant(0) + Duration::from_secs(seconds)
    }

    fn ended(trunk: u16, ended: Ended) -> Attempted {
        Attempted {
            trunk,
            ended,
            number: control::Text::default(),
            pdd_ms: Some(800),
            duration_ms: 60_000,
            mos_centi: Some(420),
        }
    }

    #[test]
    fn figures_are_those_of_the_window() {
        let mut records = Records::new(Duration::from_secs(300));
        for n in 0..100 {
            let how = if n % 4 == 0 {
                Ended::Answered
            } else if n % 4 == 1 {
                Ended::Reached
            } else {
                Ended::Failed
            };
            records.hear(2, &ended(7, how), at(n));
        }
        let standing = records.standing(at(100));
        let figures = standing.of(2, 7).expect("figures");
        let (asr, ner) = (figures.of(Measure::Asr), figures.of(Measure::Ner));
        assert_eq!((asr.count, asr.mean, ner.mean), (100, 2_500, 5_000));
        // Wilson's interval of 25 in 100, by the tables: 17.5 % to 34.3 %.
        assert_eq!((asr.low / 10, asr.high / 10), (175, 343));
        assert_eq!((figures.of(Measure::Acd).mean, figures.of(Measure::Acd).count), (60_000, 25));
        assert_eq!((figures.of(Measure::Pdd).low, figures.of(Measure::Pdd).high), (800, 800));
        assert_eq!(figures.of(Measure::Mos).mean, 420);
        assert!(standing.of(2, 8).is_none() && standing.of(1, 7).is_none());
        // Slots leave one by one; then nothing is known.
        let half = records.standing(at(350));
        assert!(half.of(2, 7).is_some_and(|f| f.of(Measure::Asr).count < 100));
        assert_eq!(records.standing(at(401)), Standing::default());
        assert!(records.cells.is_empty());
    }

    #[test]
    fn there_is_a_limit_to_what_is_measured() {
        let mut records = Records::new(Duration::from_secs(300));
        for trunk in 0..=MAX_CELLS as u16 {
            records.hear(0, &ended(trunk, Ended::Failed), at(1));
        }
        assert_eq!((records.cells.len(), records.unmeasured()), (MAX_CELLS, 1));
        records.hear(0, &ended(0, Ended::Failed), at(2));
        assert_eq!(records.unmeasured(), 1, "one that is known is still measured");
    }

    proptest! {
        #[test]
        fn an_interval_has_its_mean_and_narrows(hits in 0u32..50, more in 0u32..50) {
            let few = ratio(hits, hits + more);
            let many = ratio(hits * 100, (hits + more) * 100);
            prop_assert!(few.low <= few.mean && few.mean <= few.high && few.high <= 10_000);
            prop_assert!(many.high - many.low <= few.high - few.low);
        }

        #[test]
        fn a_window_is_the_sum_of_what_is_in_it(times in prop::collection::vec(0u64..2_000, 1..200)) {
            let (mut times, mut records) = (times, Records::new(Duration::from_secs(300)));
            times.sort_unstable();
            times.iter().for_each(|t| records.hear(0, &ended(1, Ended::Answered), at(*t)));
            let last = times.last().copied().unwrap_or(0);
            // The newest slot is not over yet: 29 whole ones and this one.
            let from = (last / 10 + 1).saturating_sub(SLOTS as u64) * 10;
            let within = times.iter().filter(|t| **t >= from).count() as u32;
            let figures = *records.standing(at(last)).of(0, 1).expect("figures");
            prop_assert_eq!(figures.of(Measure::Asr).count, within);
        }
    }
}
