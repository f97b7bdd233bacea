//! Whether the market finds what is there: against a scan that knows no trie.

use super::{CALL_MS, cpu, figure};
use base::money::Ratio;
use routing_trie::Digits;
use routing_trie::deck::{Deck, Offer};
use routing_trie::market::{LIST, Market, expected};
use std::collections::HashMap;

/// All rows by code: what a naive scan of a number's prefixes reads.
pub(crate) struct Rows(HashMap<Digits, Vec<(u16, u64)>>);

impl Rows {
    pub(crate) fn of(decks: &[Deck]) -> Rows {
        let mut rows: HashMap<Digits, Vec<(u16, u64)>> = HashMap::new();
        for (vendor, deck) in (0u16..).zip(decks) {
            for (code, terms) in deck.rows() {
                let Offer::Open(rate) = terms.offer else { continue };
                let cost = expected(&rate, Ratio::ONE, CALL_MS);
                rows.entry(code.digits()).or_default().push((vendor, cost));
            }
        }
        Rows(rows)
    }

    /// Every vendor's longest code for a number, with what it costs: by vendor.
    fn scan(&self, number: Digits, found: &mut Vec<(u16, usize, u64)>) {
        found.clear();
        for depth in (0..=number.len()).rev() {
            for &(vendor, cost) in self.0.get(&number.prefix(depth)).into_iter().flatten() {
                if found.iter().all(|(v, ..)| *v != vendor) {
                    found.push((vendor, depth, cost));
                }
            }
        }
        found.sort_unstable();
    }
}

/// For every number, what the market finds must be what a naive scan finds: codes, costs, the cheapest.
pub(crate) fn prove(market: &Market, rows: &Rows, count: u64) -> Result<(), String> {
    let (mut state, begun) = (1u64, cpu());
    let (mut gathered, mut scanned) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut digits = Digits::EMPTY;
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            digits.push((state >> 33) as u8 % 10);
        }
        gathered.clear();
        market.gather(digits, |depth, bid| {
            let cost =
                market.offers().in_force(bid.offer, |_| false).map_or(0, |a| a.expected_nano);
            gathered.push((bid.vendor, depth, cost));
        });
        gathered.sort_unstable();
        rows.scan(digits, &mut scanned);
        let same = gathered == scanned;
        scanned.sort_unstable_by_key(|(vendor, _, cost)| (*cost, *vendor));
        let list = market.shortlist(digits);
        let listed = list.bids.iter().map(|b| (b.vendor, b.least_nano));
        let beyond = scanned.get(list.bids.len()).map_or(u64::MAX, |(.., cost)| *cost);
        if !same
            || !listed.eq(scanned.iter().take(LIST).map(|(vendor, _, cost)| (*vendor, *cost)))
            || list.beyond_nano != beyond
        {
            return Err(format!(
                "the market finds other offers for {digits} than a scan of all rows"
            ));
        }
    }
    figure("equal_to_naive_scan", count as f64, "numbers");
    figure("equal_to_naive_scan_took", cpu() - begun, "CPU s");
    Ok(())
}
