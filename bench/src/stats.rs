//! Percentiles: exact for what happens once a call, in buckets for what happens once a packet.

use serde_json::{Value, json};

/// Every sample kept, in microseconds.
#[derive(Default)]
pub(crate) struct Samples {
    us: Vec<u32>,
}

impl Samples {
    /// Adds one.
    pub(crate) fn add(&mut self, ns: u64) {
        self.us.push(u32::try_from(ns / 1_000).unwrap_or(u32::MAX));
    }

    /// How many were added.
    pub(crate) fn count(&self) -> u64 {
        self.us.len() as u64
    }

    /// p50, p90, p99, p99.9 and the maximum.
    pub(crate) fn summary(&mut self) -> Summary {
        self.us.sort_unstable();
        let at = |part: f64| {
            let last = self.us.len().saturating_sub(1);
            let index = (self.us.len() as f64 * part) as usize;
            self.us.get(index.min(last)).map_or(0, |&us| u64::from(us))
        };
        Summary {
            count: self.us.len() as u64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

/// Five figures of a distribution, in microseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Summary {
    /// How many samples.
    pub(crate) count: u64,
    /// The median.
    pub(crate) p50: u64,
    /// Nine of ten are no slower.
    pub(crate) p90: u64,
    /// All but one in a hundred.
    pub(crate) p99: u64,
    /// All but one in a thousand.
    pub(crate) p999: u64,
    /// The slowest.
    pub(crate) max: u64,
}

impl Summary {
    /// For the JSON report.
    pub(crate) fn json(&self) -> Value {
        json!({"count": self.count, "p50": self.p50, "p90": self.p90, "p99": self.p99,
               "p999": self.p999, "max": self.max})
    }

    /// For the table.
    pub(crate) fn text(&self) -> String {
        format!(
            "p50 {:>7}  p90 {:>7}  p99 {:>7}  max {:>8}",
            self.p50, self.p90, self.p99, self.max
        )
    }
}

/// Sub-buckets of each power of two: figures are right to 1.6 %.
const FINE: u32 = 6;

/// A histogram of microseconds in log-linear buckets.
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Empty.
    pub(crate) fn new() -> Self {
        Histogram { buckets: vec![0; 64 << FINE], count: 0, max: 0 }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, ns: u64) {
        let us = ns / 1_000;
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.max = self.max.max(us);
    }

    /// How many were added.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds another's.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// p50, p90, p99, p99.9 and the maximum.
    pub(crate) fn summary(&self) -> Summary {
        let at = |part: f64| {
            let wanted = (self.count as f64 * part) as u64;
            let mut seen = 0;
            let found = self.buckets.iter().position(|&n| {
                seen += n;
                seen > wanted
            });
            found.map_or(self.max, |index| floor(index).min(self.max))
        };
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        Summary { count: self.count, p50, p90, p99, p999, max: self.max }
    }
}

fn bucket(us: u64) -> usize {
    let magnitude = (64 - us.leading_zeros()).saturating_sub(FINE + 1);
    ((magnitude << FINE) as usize) + (us >> magnitude) as usize
}

fn floor(index: usize) -> u64 {
    let magnitude = (index >> FINE).saturating_sub(1);
    ((index - (magnitude << FINE)) as u64) << magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agree_within_two_percent() {
        let (mut samples, mut histogram) = (Samples::default(), Histogram::new());
        for i in 1..=100_000_u64 {
            samples.add(i * 1_000);
            histogram.add(i * 1_000);
        }
        let (exact, rough) = (samples.summary(), histogram.summary());
        assert_eq!((exact.p50, exact.p99, exact.max), (50_001, 99_001, 100_000));
        for (a, b) in [(exact.p50, rough.p50), (exact.p90, rough.p90), (exact.p99, rough.p99)] {
            assert!(a.abs_diff(b) * 50 <= a, "{a} and {b}");
        }
        assert_eq!(rough.max, 100_000);
    }

    #[test]
    fn buckets_begin_where_they_say() {
        for us in [0, 1, 63, 64, 127, 128, 1_000, 1 << 40] {
            let start = floor(bucket(us));
            assert!(start <= us && us - start <= us >> FINE, "{us} {start}");
        }
    }
}
