//! Rates as they were when a call was decided, copied into it: nothing that happens to decks later
//! changes what it costs.

use base::money::{Currency, Ratio, Rounding};
use base::plain;
use routing_trie::Rate;
use routing_trie::rate::{Charge, Terms};
use std::sync::Arc;

/// A rate a call is bought or sold at, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Name of the deck.
    pub deck: Arc<[u8]>,
    /// Its generation, from 1; 0 for a deck that has none.
    pub generation: u32,
    /// What the rate is in.
    pub currency: Currency,
    /// Units of the common currency for one of that.
    pub fx: Ratio,
    /// The rate.
    pub rate: Rate,
    /// Cost of the expected call, nano of the common currency: what was compared.
    pub expected_nano: u64,
}

/// What a plan decided about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Name of the plan.
    pub plan: Arc<[u8]>,
    /// The rule that decided, from 1.
    pub rule: u16,
    /// What costs and prices are compared in.
    pub currency: Currency,
    /// Digits behind the point of amounts.
    pub places: u8,
    /// What becomes of the rest.
    pub rounding: Rounding,
    /// What the customer pays; `None` for trunks that are no customer's.
    pub sell: Option<Quote>,
}

/// What a call comes to, in units of 10^-places. `None` where nothing was sold, or an amount does not fit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// What the customer pays, in the currency of its deck.
    pub price: Option<i64>,
    /// What all attempts cost, in the common currency.
    pub cost: Option<i64>,
    /// Price less cost, in the common currency.
    pub margin: Option<i64>,
}

impl Quote {
    /// What a call costs: by its duration when it was answered, the attempt alone when not.
    pub fn charge(&self, answered_ms: Option<u64>) -> Charge {
        answered_ms.map_or_else(|| self.rate.attempt(), |ms| self.rate.charge(ms))
    }
}

impl Taken {
    /// An amount at a quote, in its own currency or in the common one.
    pub fn amount(&self, quote: &Quote, answered_ms: Option<u64>, common: bool) -> Option<i64> {
        let fx = if common { quote.fx } else { Ratio::ONE };
        let terms = Terms { fx, tax_e5: 0, places: self.places, rounding: self.rounding };
        quote.charge(answered_ms).amount(&terms)
    }

    /// What a call comes to that was bought like this: each attempt by its own answered time.
    pub fn money<'q>(
        &self,
        bought: impl Iterator<Item = (&'q Quote, Option<u64>)>,
        answered_ms: Option<u64>,
    ) -> Money {
        let mut costs = bought.map(|(quote, answered)| self.amount(quote, answered, true));
        let cost = costs.try_fold(0i64, |sum, cost| sum.checked_add(cost?));
        let sold = |common| self.amount(self.sell.as_ref()?, answered_ms, common);
        let margin = sold(true).zip(cost).and_then(|(price, cost)| price.checked_sub(cost));
        Money { price: sold(false), cost, margin }
    }
}

plain!(struct Quote { deck, generation, currency, fx, rate, expected_nano });
plain!(struct Taken { plan, rule, currency, places, rounding, sell });

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn quote(nano_per_min: u64) -> Quote {
        Quote {
            deck: b"deck".as_slice().into(),
            generation: 3,
            currency: Currency::USD,
            fx: Ratio::ONE,
            rate: Rate { attempt_fee_nano: 1_000_000, ..Rate::plain(nano_per_min, 60, 60) },
            expected_nano: 3 * nano_per_min,
        }
    }

    pub(crate) fn taken() -> Taken {
        Taken {
            plan: b"wholesale".as_slice().into(),
            rule: 1,
            currency: Currency::USD,
            places: 6,
            rounding: Rounding::HalfUp,
            sell: Some(quote(20_000_000)),
        }
    }

    #[test]
    fn every_attempt_costs_by_its_own_duration() {
        let bought = [quote(9_000_000), quote(10_000_000)];
        let answered = taken().money(bought.iter().zip([None, Some(61_000)]), Some(61_000));
        // Two minutes each way, and three attempt fees of a thousandth.
        let expected = Money { price: Some(41_000), cost: Some(22_000), margin: Some(19_000) };
        assert_eq!(answered, expected);
        let failed = taken().money(bought.iter().zip([None, None]), None);
        assert_eq!(failed, Money { price: Some(1_000), cost: Some(2_000), margin: Some(-1_000) });
    }

    #[test]
    fn currencies_meet_in_the_common_one() {
        let euro = Quote { fx: "1.1".parse().unwrap(), ..quote(10_000_000) };
        let sold = Taken {
            sell: Some(Quote { fx: "2".parse().unwrap(), ..quote(20_000_000) }),
            ..taken()
        };
        let money = sold.money([(&euro, Some(60_000))].into_iter(), Some(60_000));
        assert_eq!(money, Money { price: Some(21_000), cost: Some(12_100), margin: Some(29_900) });
        let unsold = Taken { sell: None, ..taken() }.money([(&quote(1), None)].into_iter(), None);
        assert_eq!((unsold.price, unsold.cost, unsold.margin), (None, Some(1_000), None));
    }

    #[test]
    fn what_does_not_fit_is_not_made_up() {
        let rate = Rate::plain(routing_trie::rate::MAX_NANO, 1, 1);
        let fx = Ratio::new(1_000_000_000, 1).unwrap();
        let huge = Quote { rate, fx, ..quote(0) };
        let money = taken().money([(&huge, Some(604_800_000))].into_iter(), Some(604_800_000));
        assert_eq!((money.cost, money.margin), (None, None));
    }
}
