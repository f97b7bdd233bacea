//! Rating against known cases, and against a rational-number oracle that knows the formula alone.

use base::money::{Decimal, NANO, Ratio, Rounding, read_nano};
use proptest::prelude::*;
use routing_trie::rate::{Band, Charge, Rate, Step, Sum, Terms, charge, max_duration_ms};

// ---- known cases ----

struct Row<'a>(Vec<&'a str>);

impl Row<'_> {
    fn nano(&self, column: usize) -> u64 {
        read_nano(self.0[column]).expect("an amount")
    }

    fn number<N: core::str::FromStr + Default>(&self, column: usize) -> N {
        self.0[column].parse().unwrap_or_default()
    }

    fn bands(&self) -> Vec<Band> {
        let rate = Rate {
            connect_fee_nano: self.nano(1),
            attempt_fee_nano: 0,
            first: Step { nano_per_min: self.nano(2), increment_s: self.number(3) },
            first_until_s: self.number(4),
            next: Step { nano_per_min: self.nano(5), increment_s: self.number(6) },
            grace_s: self.number(9),
        };
        assert_eq!(rate.check(), Ok(()));
        let mut bands = vec![Band { until_ms: 1_000 * self.number::<u64>(7), rate }];
        if !self.0[8].is_empty() {
            let step = Step { nano_per_min: self.nano(8), ..rate.next };
            bands.push(Band { until_ms: u64::MAX, rate: Rate { first: step, next: step, ..rate } });
        }
        bands
    }
}

#[test]
fn known_cases_cost_exactly_what_they_must() {
    let text = include_str!("data/rating.csv");
    let rows: Vec<Row> = text.lines().skip(2).map(|l| Row(l.split(',').collect())).collect();
    assert_eq!(rows.len(), 27);
    for row in rows {
        let places = row.number(12);
        let rounding =
            Rounding::NAMES.iter().find(|(name, _)| *name == row.0[11]).expect("known").1;
        let tax_e5 = row.number::<u32>(10) * 1_000;
        let terms = Terms { fx: Ratio::ONE, tax_e5, places, rounding };
        let cost = charge(&row.bands(), 1_000 * row.number::<u64>(13));
        let units = cost.amount(&terms).expect("an amount");
        let expected = row.nano(15) / 10u64.pow(9 - u32::from(places));
        let shown = Decimal { units, places };
        assert_eq!(u64::try_from(units), Ok(expected), "{}: {shown}", row.0[0]);
        assert_eq!(cost.billed_ms, 1_000 * row.number::<u64>(14), "{}", row.0[0]);
    }
}

#[test]
fn a_cap_frees_or_cuts() {
    let per_second = Rate::plain(60 * NANO, 1, 1);
    let bands = [Band { until_ms: u64::MAX, rate: per_second }];
    let cap = Sum::of_nano(10 * NANO);
    assert_eq!(charge(&bands, 1_800_000).at_most(cap).nano(), 10 * NANO, "frees");
    assert_eq!(max_duration_ms(&bands, cap, 1_800_000), 10_000, "cuts");
    // Balance 60; the account's currency is worth a third of the rate's: 20 minutes at 1.
    let bands = [Band { until_ms: u64::MAX, rate: Rate::plain(3 * NANO, 1, 1) }];
    assert_eq!(max_duration_ms(&bands, Sum::of_nano(60 * NANO), 7_200_000), 1_200_000);
}

// ---- the oracle ----

/// A fraction in lowest terms.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Fraction(i128, i128);

impl Fraction {
    fn new(num: i128, den: i128) -> Fraction {
        let (mut a, mut b) = (num.abs(), den);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Fraction(num / a.max(1), den / a.max(1))
    }

    fn plus(self, other: Fraction) -> Fraction {
        Fraction::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    fn times(self, num: i128, den: i128) -> Fraction {
        let (a, b) = (Fraction::new(self.0, den), Fraction::new(num, self.1));
        Fraction::new(a.0 * b.0, a.1 * b.1)
    }

    /// Rounded by comparing with the grid around it, not by division of remainders.
    fn round(self, rounding: Rounding) -> i128 {
        let below = self.0.div_euclid(self.1);
        let exact = below * self.1 == self.0;
        let twice = (2 * self.0).cmp(&((2 * below + 1) * self.1));
        match rounding {
            _ if exact => below,
            Rounding::Down => below,
            Rounding::Up => below + 1,
            Rounding::HalfUp => below + i128::from(twice.is_ge()),
            Rounding::HalfEven => match twice {
                core::cmp::Ordering::Less => below,
                core::cmp::Ordering::Equal => below + below % 2,
                core::cmp::Ordering::Greater => below + 1,
            },
        }
    }
}

/// The formula, as it is written down for humans, in seconds.
fn oracle(rate: &Rate, duration_ms: u64, terms: &Terms) -> i128 {
    let due = (i128::from(duration_ms) - 1_000 * i128::from(rate.grace_s)).max(0);
    let first = i128::from(rate.first.increment_s) * 1_000;
    let mut cost = Fraction(0, 1);
    if due > 0 {
        cost = cost.plus(Fraction(i128::from(rate.connect_fee_nano), 1));
        cost = cost.plus(Fraction(i128::from(rate.first.nano_per_min), 1).times(first, 60_000));
    }
    if due > first {
        let step = i128::from(rate.next.increment_s) * 1_000;
        let steps = (due - first + step - 1) / step;
        cost =
            cost.plus(Fraction(i128::from(rate.next.nano_per_min), 1).times(steps * step, 60_000));
    }
    let cost = cost.times(i128::from(terms.fx.num()), i128::from(terms.fx.den()));
    let cost = cost.times(100_000 + i128::from(terms.tax_e5), 100_000);
    cost.times(1, 10i128.pow(9 - u32::from(terms.places))).round(terms.rounding)
}

fn rates() -> impl Strategy<Value = Rate> {
    let amount = || prop_oneof![Just(0), 0u64..50_000_000_000, 0u64..100];
    let increment = || prop_oneof![1u16..=3_600, Just(1), Just(6), Just(60)];
    (amount(), amount(), amount(), increment(), increment(), prop_oneof![Just(0u16), 0u16..20])
        .prop_map(|(fee, first, next, first_s, increment_s, grace_s)| Rate {
            connect_fee_nano: fee,
            attempt_fee_nano: 0,
            first: Step { nano_per_min: first, increment_s: first_s },
            first_until_s: first_s,
            next: Step { nano_per_min: next, increment_s },
            grace_s,
        })
}

fn terms() -> impl Strategy<Value = Terms> {
    let rounding = (0usize..4).prop_map(|i| Rounding::NAMES[i].1);
    let fx = prop_oneof![Just((1, 1)), (1u64..100_000, 1u64..100_000)];
    (fx, 0u32..=100_000, 0u8..=9, rounding).prop_map(|((num, den), tax_e5, places, rounding)| {
        Terms { fx: Ratio::new(num, den).expect("a ratio"), tax_e5, places, rounding }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn rating_is_the_formula(rate in rates(), duration_ms in 0u64..40_000_000, terms in terms()) {
        let cost = rate.charge(duration_ms).amount(&terms).map(i128::from);
        prop_assert_eq!(cost, Some(oracle(&rate, duration_ms, &terms)));
    }

    #[test]
    fn splitting_a_call_at_its_increments_changes_nothing(
        rate in rates(), duration_ms in 1u64..4_000_000, cut_ms in 1u64..4_000_000,
    ) {
        let whole = rate.charge(duration_ms);
        let bands = [Band { until_ms: cut_ms, rate }, Band { until_ms: u64::MAX, rate }];
        prop_assert_eq!(charge(&bands, duration_ms), whole);
    }

    #[test]
    fn cost_never_falls_with_duration(rate in rates(), ms in 0u64..4_000_000, more in 0u64..100_000) {
        let (short, long): (Charge, Charge) = (rate.charge(ms), rate.charge(ms + more));
        prop_assert!(short.sum <= long.sum && short.billed_ms <= long.billed_ms);
    }
}

/// `cargo test --release -p routing-trie --test rating -- --ignored --nocapture`
#[test]
#[ignore = "a hundred million cases take minutes"]
fn rating_is_the_formula_a_hundred_million_times() {
    let mut state = 7u64;
    let mut draw = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(state) * u128::from(below)) >> 64) as u64
    };
    for case in 0..100_000_000u64 {
        let mut rate =
            Rate::plain(draw(50_000_000_000), 1 + draw(3_600) as u16, 1 + draw(120) as u16);
        rate.next.nano_per_min = draw(50_000_000_000);
        rate.connect_fee_nano = draw(3) * draw(1_000_000_000);
        rate.grace_s = (draw(8) * draw(4) / 4) as u16;
        let fx = Ratio::new(1 + draw(100_000), 1 + draw(100_000)).expect("a ratio");
        let rounding = Rounding::NAMES[draw(4) as usize].1;
        let terms = Terms { fx, tax_e5: draw(30_000) as u32, places: draw(10) as u8, rounding };
        let ms = draw(20_000_000);
        let cost = rate.charge(ms).amount(&terms).map(i128::from);
        assert_eq!(cost, Some(oracle(&rate, ms, &terms)), "case {case}: {rate:?} {ms} {terms:?}");
    }
}
