//! Quality sampled over a call: what a leg sent within each window of some seconds, rated by itself.
//!
//! A figure over a whole call hides the ten seconds that made somebody hang up. A window is at least
//! [`WINDOW`] long and has at least [`FEWEST`] packets, so that silence suppressed is no loss; the sweep
//! closes it, and a packet pays nothing for it.

use crate::EndKey;
use crate::bursts::share;
use crate::end::End;
use crate::plan::Carries;
use crate::quality::{Codec, Score, rate_of};
use base::Instant;
use core::time::Duration;

/// The least length of a window.
pub const WINDOW: Duration = Duration::from_secs(8);
/// The fewest packets of a window.
pub const FEWEST: u64 = 50;

/// What was sampled so far.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// When the window began; 0 before the first look.
    since: Instant,
    expected: u64,
    lost: u64,
    count: u32,
    sum_centi: u64,
    least_centi: u16,
}
base::plain!(struct Sampling { since, expected, lost, count, sum_centi, least_centi });

/// One window of what a leg sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The endpoint facing the leg.
    pub end: EndKey,
    /// Packets that should have come within it.
    pub expected: u32,
    /// Of these, those that did not.
    pub lost: u32,
    /// Interarrival jitter now, in microseconds.
    pub jitter_us: u32,
    /// Round trip, where RTCP measured one, in microseconds.
    pub rtt_us: Option<u32>,
    /// Rating factor of the window, in thousandths.
    pub r_milli: u32,
    /// Mean opinion score of the window, in hundredths.
    pub mos_centi: u16,
    /// The lowest of all windows so far.
    pub least_centi: u16,
    /// The average of all windows so far.
    pub mean_centi: u16,
}

base::cases! {
    /// What a score is worth, as people say it (G.107 Annex B).
    pub enum Band {
        /// Nobody complains: 4.03 and above.
        Good = "good",
        /// Some do: 3.60 and above.
        Fair = "fair",
        /// Many do: 3.10 and above.
        Poor = "poor",
        /// Nearly all do.
        Bad = "bad",
    }
}

impl Band {
    /// That of a score in hundredths.
    pub fn of(mos_centi: u16) -> Band {
        match mos_centi {
            403.. => Band::Good,
            360.. => Band::Fair,
            310.. => Band::Poor,
            _ => Band::Bad,
        }
    }
}

impl Sampling {
    /// Whether anything was sampled.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lowest and the average score of all windows, in hundredths.
    pub(crate) fn scores(&self) -> Option<(u16, u16)> {
        let mean = self.sum_centi.checked_div(u64::from(self.count))?;
        Some((self.least_centi, u16::try_from(mean).unwrap_or(u16::MAX)))
    }
}

impl End {
    /// Closes the window if it is long enough.
    pub(crate) fn sample(&mut self, key: EndKey, now: Instant) -> Option<Sample> {
        if self.plan.as_ref().is_some_and(|plan| plan.carries != Carries::Speech) {
            return None;
        }
        let sampling = &mut self.sampling;
        if sampling.since == Instant(0) {
            sampling.since = now;
        }
        if now.since(sampling.since) < WINDOW { None } else { self.close_window(key, now) }
    }

    /// Closes the window whatever its length, for there will be no other.
    pub(crate) fn close_window(&mut self, key: EndKey, now: Instant) -> Option<Sample> {
        let (reception, sampling) = (&self.reception, &mut self.sampling);
        let (all_expected, all_lost) = (reception.expected(), reception.lost());
        let expected = all_expected.saturating_sub(sampling.expected);
        if expected < FEWEST {
            return None;
        }
        // Late ones may come in the next window: then it has more than it lost.
        let lost = all_lost.saturating_sub(sampling.lost).min(expected);
        let codec = Codec::of(reception.payload_type());
        let (jitter_us, rtt_us) = (reception.jitter_us(), self.round_trip.rtt_us());
        let Score { r_milli, mos_centi } = rate_of(codec, (lost, expected), jitter_us, rtt_us);
        let least = if sampling.count == 0 { mos_centi } else { sampling.least_centi };
        *sampling = Sampling {
            since: now,
            expected: all_expected,
            lost: all_lost,
            count: sampling.count.saturating_add(1),
            sum_centi: sampling.sum_centi + u64::from(mos_centi),
            least_centi: least.min(mos_centi),
        };
        let (least_centi, mean_centi) = sampling.scores()?;
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Sample {
            end: key,
            expected: narrow(expected),
            lost: narrow(lost),
            jitter_us,
            rtt_us,
            r_milli,
            mos_centi,
            least_centi,
            mean_centi,
        })
    }

    /// Share of what the leg sent that was lost, in 1/256.
    pub(crate) fn loss_share(&self) -> u8 {
        share(self.reception.lost(), self.reception.expected())
    }
}
