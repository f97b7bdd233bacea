//! Rates, and what a call costs by them: integers only, exact until one division at the end.
//!
//! cost = fee + Σ increments begun · rate. A first stretch and a next one may differ in rate and in
//! increment; an increment is charged whole, at the rate in force where it begins. The usual deck row
//! ("30/6 at 0.012") is a first stretch of one increment. Tax and exchange come after the sum, rounding
//! last. Does not know where a rate comes from.

use base::money::{NANO_PLACES, Ratio, Rounding};

/// The largest fee, and the largest rate per minute, nano: 100,000 units of the currency.
pub const MAX_NANO: u64 = 100_000 * base::money::NANO;
/// The longest increment, seconds.
pub const MAX_INCREMENT_S: u16 = 3_600;
/// The largest tax, in 1e-5: 100 %.
pub const MAX_TAX_E5: u32 = 100_000;

/// Milliseconds of a minute: a [`Sum`] counts nano of this many parts.
const MINUTE_MS: i128 = 60_000;

/// So much a minute, charged in increments.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// 1e-9 of the currency's unit per minute, 0..=[`MAX_NANO`].
    pub nano_per_min: u64,
    /// What is begun is charged, seconds, 1..=[`MAX_INCREMENT_S`].
    pub increment_s: u16,
}

/// A rate tuple: everything a deck row says about money.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate {
    /// Once per answered call with a duration, nano, 0..=[`MAX_NANO`].
    pub connect_fee_nano: u64,
    /// Per attempt, answered or not, nano, 0..=[`MAX_NANO`].
    pub attempt_fee_nano: u64,
    /// From the beginning.
    pub first: Step,
    /// Until when increments of `first` begin, seconds; a plain first interval ends with its increment.
    pub first_until_s: u16,
    /// From then on.
    pub next: Step,
    /// Seconds at the beginning that cost nothing, 0..=65,535.
    pub grace_s: u16,
}

base::plain!(struct Step { nano_per_min, increment_s });
base::plain!(struct Rate { connect_fee_nano, attempt_fee_nano, first, first_until_s, next, grace_s });

/// Why a rate is none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BadRate {
    /// An amount is above [`MAX_NANO`].
    Amount,
    /// An increment is zero or above [`MAX_INCREMENT_S`].
    Increment,
}

impl core::error::Error for BadRate {}

impl core::fmt::Display for BadRate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BadRate::Amount => write!(f, "an amount above {}", MAX_NANO / base::money::NANO),
            BadRate::Increment => write!(f, "an increment must be 1..={MAX_INCREMENT_S} s"),
        }
    }
}

impl Rate {
    /// The usual row: a first interval, then increments, at one rate.
    pub fn plain(nano_per_min: u64, first_s: u16, increment_s: u16) -> Rate {
        Rate {
            connect_fee_nano: 0,
            attempt_fee_nano: 0,
            first: Step { nano_per_min, increment_s: first_s },
            first_until_s: first_s,
            next: Step { nano_per_min, increment_s },
            grace_s: 0,
        }
    }

    /// Whether everything is within its bounds.
    pub fn check(&self) -> Result<(), BadRate> {
        let amounts = [
            self.connect_fee_nano,
            self.attempt_fee_nano,
            self.first.nano_per_min,
            self.next.nano_per_min,
        ];
        if amounts.iter().any(|n| *n > MAX_NANO) {
            return Err(BadRate::Amount);
        }
        let increments = [self.first.increment_s, self.next.increment_s];
        let good = increments.iter().all(|s| (1..=MAX_INCREMENT_S).contains(s));
        if good { Ok(()) } else { Err(BadRate::Increment) }
    }

    /// What a call of this duration costs when nothing changes while it lasts.
    pub fn charge(&self, duration_ms: u64) -> Charge {
        charge(&[Band { until_ms: u64::MAX, rate: *self }], duration_ms)
    }

    /// What an attempt costs that was not answered.
    pub fn attempt(&self) -> Charge {
        Charge { sum: Sum::of_nano(self.attempt_fee_nano), billed_ms: 0 }
    }
}

/// A rate and how long it is in force.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Band {
    /// Until this much of the call has passed, milliseconds; the last band lasts on.
    pub until_ms: u64,
    /// The rate.
    pub rate: Rate,
}

/// An exact sum of money: nano in sixty-thousandths, so that milliseconds at a rate per minute are whole.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Sum(i128);

impl Sum {
    /// A whole amount.
    pub fn of_nano(nano: u64) -> Sum {
        Sum(i128::from(nano) * MINUTE_MS)
    }
}

/// What a call costs, before tax, exchange and rounding.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Charge {
    /// How much.
    pub sum: Sum,
    /// Duration that was charged, milliseconds: whole increments.
    pub billed_ms: u64,
}

/// What comes after the sum.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Units of the account's currency for one of the rate's.
    pub fx: Ratio,
    /// Tax in 1e-5, 0..=[`MAX_TAX_E5`].
    pub tax_e5: u32,
    /// Digits behind the point of the result, 0..=9.
    pub places: u8,
    /// What becomes of the rest.
    pub rounding: Rounding,
}

impl Default for Terms {
    /// The rate's own currency, no tax, nano, half up.
    fn default() -> Self {
        Terms { fx: Ratio::ONE, tax_e5: 0, places: NANO_PLACES, rounding: Rounding::HalfUp }
    }
}

/// What a call of this duration costs by rates that change with the time of day.
///
/// Fee and grace are those of the first band; a continuation repeats neither, nor the first stretch. An
/// increment that begins before a change is charged whole at the rate before it.
pub fn charge(bands: &[Band], duration_ms: u64) -> Charge {
    let Some(first) = bands.first().map(|b| b.rate) else { return Charge::default() };
    let grace_ms = u64::from(first.grace_s) * 1_000;
    let due_ms = duration_ms.saturating_sub(grace_ms);
    if due_ms == 0 {
        return Charge { sum: Sum::of_nano(first.attempt_fee_nano), billed_ms: 0 };
    }
    let mut sum = Sum::of_nano(first.connect_fee_nano).0 + Sum::of_nano(first.attempt_fee_nano).0;
    let mut at_ms = 0;
    for (place, band) in bands.iter().enumerate() {
        let is_last = place + 1 == bands.len();
        let band_end = if is_last { u64::MAX } else { band.until_ms.saturating_sub(grace_ms) };
        let first_end = u64::from(band.rate.first_until_s) * 1_000;
        for (step, until_ms) in [(band.rate.first, first_end), (band.rate.next, u64::MAX)] {
            let end = due_ms.min(band_end).min(until_ms);
            if at_ms < end {
                let increment_ms = u64::from(step.increment_s.max(1)) * 1_000;
                let billed = (end - at_ms).div_ceil(increment_ms).saturating_mul(increment_ms);
                sum += i128::from(step.nano_per_min) * i128::from(billed);
                at_ms = at_ms.saturating_add(billed);
            }
        }
    }
    Charge { sum: Sum(sum), billed_ms: at_ms }
}

/// The longest duration that costs no more than `budget`, up to `cap_ms`: when a call must be cut.
pub fn max_duration_ms(bands: &[Band], budget: Sum, cap_ms: u64) -> u64 {
    // Cost never falls as duration grows, so the last affordable one can be searched for.
    let (mut good, mut bad) = (0, cap_ms.saturating_add(1));
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        if charge(bands, middle).sum <= budget { good = middle } else { bad = middle }
    }
    good
}

impl Charge {
    /// The same, but never more than `cap`: what lies above is free.
    #[must_use]
    pub fn at_most(self, cap: Sum) -> Charge {
        Charge { sum: self.sum.min(cap), ..self }
    }

    /// The amount to be booked, in units of 10^-places; `None` when it does not fit 63 bits.
    pub fn amount(&self, terms: &Terms) -> Option<i64> {
        let places = terms.places.min(NANO_PLACES);
        let taxed = i128::from(MAX_TAX_E5) + i128::from(terms.tax_e5);
        let numerator = self.sum.0.checked_mul(i128::from(terms.fx.num()))?.checked_mul(taxed)?;
        let denominator = MINUTE_MS
            * i128::from(terms.fx.den())
            * i128::from(MAX_TAX_E5)
            * 10i128.pow(u32::from(NANO_PLACES - places));
        i64::try_from(terms.rounding.divide(numerator, denominator)).ok()
    }

    /// The amount in nano of the rate's own currency, half up; saturates.
    pub fn nano(&self) -> u64 {
        u64::try_from(Rounding::HalfUp.divide(self.sum.0, MINUTE_MS)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::money::{MAX_RATIO, NANO};

    #[test]
    fn bounds_and_what_lies_beyond() {
        let rate = Rate::plain(MAX_NANO, MAX_INCREMENT_S, 1);
        assert_eq!(rate.check(), Ok(()));
        assert_eq!(Rate::plain(MAX_NANO + 1, 1, 1).check(), Err(BadRate::Amount));
        assert_eq!(Rate { attempt_fee_nano: MAX_NANO + 1, ..rate }.check(), Err(BadRate::Amount));
        assert_eq!(Rate::plain(0, 0, 1).check(), Err(BadRate::Increment));
        assert_eq!(Rate::plain(0, 1, MAX_INCREMENT_S + 1).check(), Err(BadRate::Increment));
        // A week at the largest rate, tax and exchange does not fit an amount, and says so.
        let fx = Ratio::new(u64::from(MAX_RATIO), 1).unwrap();
        let terms = Terms { fx, tax_e5: MAX_TAX_E5, ..Terms::default() };
        assert_eq!(rate.charge(604_800_000).amount(&terms), None);
        assert!(rate.charge(604_800_000).amount(&Terms::default()).is_some());
        assert_eq!(rate.charge(u64::MAX).amount(&terms), None);
    }

    #[test]
    fn a_first_interval_is_whole_and_nothing_costs_nothing() {
        let rate = Rate { connect_fee_nano: 5, ..Rate::plain(60 * NANO, 30, 6) };
        let billed = |ms| rate.charge(ms).billed_ms;
        assert_eq!([0, 1, 30_000, 30_001, 36_001].map(billed), [0, 30_000, 30_000, 36_000, 42_000]);
        assert_eq!((rate.charge(0).nano(), rate.charge(1).nano()), (0, 30 * NANO + 5));
        let graced = Rate { grace_s: 3, ..rate };
        assert_eq!([3_000, 3_001].map(|ms| graced.charge(ms).billed_ms), [0, 30_000]);
    }

    #[test]
    fn a_failed_attempt_costs_its_fee_alone() {
        let rate = Rate { attempt_fee_nano: 7, connect_fee_nano: 5, ..Rate::plain(60, 1, 1) };
        assert_eq!(
            (rate.attempt().nano(), rate.charge(0).nano(), rate.charge(1).nano()),
            (7, 7, 13)
        );
    }

    #[test]
    fn the_longest_affordable_call_is_exact() {
        let rate = Rate { connect_fee_nano: NANO, ..Rate::plain(3 * NANO, 60, 1) };
        let bands = [Band { until_ms: u64::MAX, rate }];
        for budget in [0, NANO, 4 * NANO - 1, 4 * NANO, 61 * NANO] {
            let most = max_duration_ms(&bands, Sum::of_nano(budget), 7_200_000);
            assert!(charge(&bands, most).sum <= Sum::of_nano(budget));
            assert!(charge(&bands, most + 1).sum > Sum::of_nano(budget), "{budget} affords more");
        }
        assert_eq!(max_duration_ms(&bands, Sum::of_nano(u64::MAX), 7_200_000), 7_200_000);
    }
}
