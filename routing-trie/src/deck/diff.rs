//! What changes between two decks, by the code: what its numbers cost before and after.
//!
//! A code that only one deck has is compared with whatever the other says about its numbers, so a code
//! that was merged into a shorter one of the same price is no change. With traffic, money is compared.

use super::{Code, Deck, Offer};
use crate::rate::Rate;
use std::collections::BTreeMap;

/// What became of a code.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its numbers could not be had before.
    New,
    /// They cost more, for a call of the duration asked about.
    Increase,
    /// They cost less.
    Decrease,
    /// They cost the same, by other intervals or fees.
    Terms,
    /// They cannot be had any more.
    Closed,
}

impl Kind {
    /// As lists and exports call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::New => "new",
            Kind::Increase => "increase",
            Kind::Decrease => "decrease",
            Kind::Terms => "terms",
            Kind::Closed => "closed",
        }
    }
}

/// One code that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The code.
    pub code: Code,
    /// Its destination, after or before.
    pub name: Box<str>,
    /// What happens.
    pub kind: Kind,
    /// Rate before, and after.
    pub rates: [Option<Rate>; 2],
    /// Seconds of traffic to numbers whose longest code this is.
    pub traffic_s: u64,
    /// What that traffic costs before and after, nano of the deck's currency.
    pub cost_nano: [u64; 2],
}

/// How many codes of each kind, and all traffic.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Codes that were not there.
    pub new: usize,
    /// Codes that cost more.
    pub increase: usize,
    /// Codes that cost less.
    pub decrease: usize,
    /// Codes with other intervals or fees.
    pub terms: usize,
    /// Codes that are gone.
    pub closed: usize,
    /// Codes of both decks that do not change.
    pub same: usize,
    /// What the traffic of all codes that both decks carry costs before and after, nano.
    pub cost_nano: [u64; 2],
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// By code; codes that do not change are left out.
    pub changes: Vec<Change>,
    /// Sums.
    pub totals: Totals,
}

/// Compares what holds in `before` and in `after`, each at a moment of its own. `traffic`: seconds and
/// calls by called number; empty compares codes alone. `call_s`: duration calls are compared at.
pub fn diff(
    before: (&Deck, i64),
    after: (&Deck, i64),
    traffic: &BTreeMap<Code, (u64, u64)>,
    call_s: u64,
) -> Diff {
    let weights = weigh(before.0, after.0, traffic);
    let mut found = Diff::default();
    for code in codes(before.0, after.0) {
        let said = [before, after].map(|(deck, at)| rate_of(deck, code, at));
        let rates = [&said[0], &said[1]].map(|s| s.as_ref().map(|(rate, _)| *rate));
        let (calls, seconds) = weights.get(&code).copied().unwrap_or_default();
        let average_s = seconds.checked_div(calls).unwrap_or(0);
        let cost = |rate: &Rate| rate.charge(average_s * 1_000).nano().saturating_mul(calls);
        let cost_nano = rates.map(|r| r.as_ref().map_or(0, cost));
        if rates.iter().all(Option::is_some) {
            let totals = &mut found.totals.cost_nano;
            (0..2).for_each(|side| totals[side] = totals[side].saturating_add(cost_nano[side]));
        }
        let Some(kind) = kind(rates, call_s) else {
            found.totals.same += usize::from(rates[0].is_some());
            continue;
        };
        *match kind {
            Kind::New => &mut found.totals.new,
            Kind::Increase => &mut found.totals.increase,
            Kind::Decrease => &mut found.totals.decrease,
            Kind::Terms => &mut found.totals.terms,
            Kind::Closed => &mut found.totals.closed,
        } += 1;
        let [old, new] = said;
        let name = new.or(old).map(|(_, name)| name.into()).unwrap_or_default();
        found.changes.push(Change { code, name, kind, rates, traffic_s: seconds, cost_nano });
    }
    found
}

fn kind(rates: [Option<Rate>; 2], call_s: u64) -> Option<Kind> {
    match rates {
        [None, None] => None,
        [None, Some(_)] => Some(Kind::New),
        [Some(_), None] => Some(Kind::Closed),
        [Some(a), Some(b)] if a == b => None,
        [Some(a), Some(b)] => {
            Some(match a.charge(call_s * 1_000).sum.cmp(&b.charge(call_s * 1_000).sum) {
                core::cmp::Ordering::Less => Kind::Increase,
                core::cmp::Ordering::Greater => Kind::Decrease,
                core::cmp::Ordering::Equal => Kind::Terms,
            })
        }
    }
}

/// Codes of either deck, each once.
fn codes(a: &Deck, b: &Deck) -> Vec<Code> {
    let mut codes: Vec<Code> = a.rows().chain(b.rows()).map(|(code, _)| code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The rate outside of all time profiles, or the first there is, with the destination's name.
fn rate_of(deck: &Deck, code: Code, at: i64) -> Option<(Rate, &str)> {
    let (_, terms) = deck.lookup(code, at)?;
    terms.into_iter().find_map(|terms| match terms.offer {
        Offer::Open(rate) => Some((rate, deck.name(terms))),
        Offer::Closed | Offer::Blocked => None,
    })
}

/// Traffic by the longest code of either deck: calls and seconds.
fn weigh(a: &Deck, b: &Deck, traffic: &BTreeMap<Code, (u64, u64)>) -> BTreeMap<Code, (u64, u64)> {
    let mut weights = BTreeMap::new();
    if traffic.is_empty() {
        return weights;
    }
    let codes = codes(a, b);
    for (number, (calls, seconds)) in traffic {
        let longest = (0..=number.len()).rev().map(|len| number.prefix(len));
        if let Some(code) = longest.into_iter().find(|code| codes.binary_search(code).is_ok()) {
            let weight: &mut (u64, u64) = weights.entry(code).or_default();
            weight.0 = weight.0.saturating_add(*calls);
            weight.1 = weight.1.saturating_add(*seconds);
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::super::{Options, import};
    use super::*;

    fn deck(text: &str) -> Deck {
        import(format!("code,rate,intervals,name\n{text}").as_bytes(), &Options::default())
            .unwrap()
            .deck
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let before = deck(
            "1,0.01,,USA\n44,0.02,,UK\n447,0.03,,\n49,0.04,1/1,\n33,0.05,,\n7,0.06,,\n77,0.06,,\n",
        );
        let after =
            deck("1,0.01,,USA\n44,0.03,,UK\n447,0.02,,\n49,0.04,60/60,\n55,0.05,,\n7,0.06,,\n");
        let found = diff((&before, 0), (&after, 0), &BTreeMap::new(), 180);
        let told: Vec<_> =
            found.changes.iter().map(|c| (c.code.to_string(), c.kind.name())).collect();
        let expected = [
            ("33", "closed"),
            ("44", "increase"),
            ("447", "decrease"),
            ("49", "terms"),
            ("55", "new"),
        ];
        assert_eq!(told, expected.map(|(code, kind)| (code.to_owned(), kind)));
        let totals = Totals {
            new: 1,
            increase: 1,
            decrease: 1,
            terms: 1,
            closed: 1,
            same: 3,
            cost_nano: [0; 2],
        };
        assert_eq!(found.totals, totals, "77 costs the same by its shorter code");
        assert_eq!(&*found.changes[1].name, "UK");
    }

    #[test]
    fn traffic_weighs_by_the_longest_code() {
        let (before, after) = (deck("44,0.06,,\n447,0.12,,\n"), deck("44,0.12,,\n447,0.12,,\n"));
        let number = |text: &str| Code::parse(text.as_bytes()).unwrap();
        let traffic = BTreeMap::from([
            (number("442079460000"), (2, 120)),
            (number("447911123456"), (1, 60)),
            (number("15550100"), (1, 60)),
        ]);
        let found = diff((&before, 0), (&after, 0), &traffic, 180);
        assert_eq!(found.changes.len(), 1);
        assert_eq!(
            (found.changes[0].traffic_s, found.changes[0].cost_nano),
            (120, [120_000_000, 240_000_000])
        );
        assert_eq!(found.totals.cost_nano, [240_000_000, 360_000_000]);
    }
}
