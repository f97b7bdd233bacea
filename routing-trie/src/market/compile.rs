//! Compiling: decks of one moment become a market or a tariff.
//!
//! Rows are gathered by place in two passes over the sorted decks; then one walk over all codes in order
//! makes the short lists, with the offers of all vendors along the way down.

use super::runs::Runs;
use super::{
    Alternative, BLOCKED, Bid, Entry, LAST, LIST, List, Listed, MAX_VENDORS, Market, NoMarket,
    Offers, Tariff,
};
use crate::build::Builder;
use crate::deck::{self, Code};
use crate::image::Image;
use crate::rate::{Rate, Terms};
use base::money::{Ratio, Rounding};
use std::collections::HashMap;

/// No offer.
pub(super) const NONE: u32 = u32::MAX;
/// Not worked out yet.
const UNKNOWN: u32 = u32::MAX - 1;

impl Market {
    /// Merges what vendors offer at a moment (seconds since the Unix epoch), compared by what a call of
    /// `call_ms` costs.
    pub fn compile(vendors: &[Entry], at: i64, call_ms: u64) -> Result<Market, NoMarket> {
        if vendors.len() > MAX_VENDORS {
            return Err(NoMarket::Vendors);
        }
        let mut gatherer = Gatherer::default();
        let decks: Vec<Vec<(Code, u32)>> =
            vendors.iter().map(|v| gatherer.read(v, at, call_ms)).collect::<Result<_, _>>()?;
        let offers = gatherer.offers;
        let codes = union(&decks);
        let (mut places, row_vendors, row_offers) = rows(&decks, &codes)?;
        drop(decks);
        let listed = offers.all_listed();
        let mut lists = Lists::new(&listed);
        let mut path = Path::new(vendors.len());
        let mut list_of = Vec::with_capacity(codes.len());
        for (place, &code) in codes.iter().enumerate() {
            let here = places[place] as usize..places[place + 1] as usize;
            let (who, what) = (&row_vendors[here.clone()], &row_offers[here]);
            list_of.push(lists.add(path.enter(code, who, what))?);
        }
        // The last place ends where rows do.
        places.pop();
        let vendors = vendors.len();
        let codes = trie(codes.iter().copied().zip(0..))?;
        let (runs, lists) = laid(&codes, &list_of, |list| lists.lists.get(list as usize));
        Ok(Market {
            codes,
            runs,
            lists,
            places,
            row_vendors,
            row_offers,
            offers,
            vendors,
            adopted: 0,
        })
    }
}

impl Tariff {
    /// Compiles a deck for a moment.
    pub fn compile(entry: Entry, at: i64, call_ms: u64) -> Result<Tariff, NoMarket> {
        let mut gatherer = Gatherer::default();
        let codes = trie(gatherer.read(&entry, at, call_ms)?)?;
        Ok(Tariff { codes, offers: gatherer.offers })
    }
}

/// Codes with a value each.
pub(super) fn trie(rows: impl IntoIterator<Item = (Code, u32)>) -> Result<Image, NoMarket> {
    let mut builder = Builder::new();
    for (code, value) in rows {
        builder.insert(code.digits(), value).map_err(|_| NoMarket::Size)?;
    }
    Ok(builder.build())
}

/// Lists as they are looked up: by rank of the codes, what neighbours share once. `list_of` has each place's, which
/// `read` knows.
pub(super) fn laid<'l>(
    codes: &Image,
    list_of: &[u32],
    read: impl Fn(u32) -> Option<&'l List>,
) -> (Runs, Vec<List>) {
    let mut laid: Vec<List> = Vec::new();
    let runs = Runs::of(codes.each().map(|(_, place)| {
        let list = list_of.get(place as usize).and_then(|list| read(*list));
        let begins = laid.last() != list;
        laid.extend(list.filter(|_| begins));
        begins
    }));
    (runs, laid)
}

/// Puts offers together, each once.
#[derive(Default)]
pub(super) struct Gatherer {
    pub(super) offers: Offers,
    /// Offers by their alternatives.
    known: HashMap<Vec<(u64, u32, u16)>, u32, core::hash::BuildHasherDefault<deck::Fold>>,
    rates: HashMap<Rate, u32, core::hash::BuildHasherDefault<deck::Fold>>,
    /// What each rate comes to in the deck being read: worked out once.
    expected: Vec<Option<u64>>,
}

impl Gatherer {
    /// The offer that these terms of one deck make together.
    fn offer(
        &mut self,
        entry: &Entry,
        terms: &[&deck::Terms],
        call_ms: u64,
    ) -> Result<u32, NoMarket> {
        let mut key = Vec::with_capacity(terms.len());
        for terms in terms {
            let profile = match terms.profile {
                0 => 0,
                n => *entry.profiles.get(usize::from(n) - 1).ok_or(NoMarket::Profile)?,
            };
            if profile >= LAST {
                return Err(NoMarket::Size);
            }
            let (expected, rate) = match terms.offer {
                deck::Offer::Open(rate) => self.rate(rate, entry.fx, call_ms),
                deck::Offer::Closed | deck::Offer::Blocked => (u64::MAX, BLOCKED),
            };
            key.push((expected, rate, profile));
        }
        // Those that ask for most come first: who numbers profiles gives higher numbers to those.
        key.sort_by_key(|(.., profile)| core::cmp::Reverse(*profile));
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let at = u32::try_from(self.offers.alternatives.len()).map_err(|_| NoMarket::Size)?;
        for (place, &(expected_nano, rate, profile)) in key.iter().enumerate() {
            let last = if place + 1 == key.len() { LAST } else { 0 };
            let profile = profile | last;
            self.offers.alternatives.push(Alternative { expected_nano, rate, profile });
        }
        self.known.insert(key, at);
        Ok(at)
    }

    /// What a rate comes to, and its index.
    fn rate(&mut self, rate: Rate, fx: Ratio, call_ms: u64) -> (u64, u32) {
        let next = self.offers.rates.len() as u32;
        let at = *self.rates.entry(rate).or_insert(next);
        if at == next {
            self.offers.rates.push(rate);
        }
        if self.expected.len() <= at as usize {
            self.expected.resize(at as usize + 1, None);
        }
        let known = self.expected[at as usize].get_or_insert_with(|| expected(&rate, fx, call_ms));
        (*known, at)
    }

    /// A deck's codes with what each offers at a moment, in order.
    pub(super) fn read(
        &mut self,
        entry: &Entry,
        at: i64,
        call_ms: u64,
    ) -> Result<Vec<(Code, u32)>, NoMarket> {
        let deck = entry.deck;
        self.expected.clear();
        let mut found = Vec::with_capacity(deck.len());
        // Nearly every code has one row, and rows share terms: what those make is worked out once.
        let mut alone: Vec<u32> = vec![UNKNOWN; deck.terms.len()];
        for (code, rows) in deck.runs() {
            let offer = match deck.rows.get(rows.clone()) {
                Some([row]) if alone.get(row.terms as usize).is_some_and(|o| *o != UNKNOWN) => {
                    alone.get(row.terms as usize).copied().unwrap_or(NONE)
                }
                Some(run) => {
                    let mut held: Vec<&deck::Terms> = Vec::new();
                    deck.in_force(rows.clone(), at, |_, terms| held.push(terms));
                    let offer =
                        if held.is_empty() { NONE } else { self.offer(entry, &held, call_ms)? };
                    if let [row] = run
                        && let Some(place) = alone.get_mut(row.terms as usize)
                    {
                        *place = offer;
                    }
                    offer
                }
                None => NONE,
            };
            if offer != NONE {
                found.push((code, offer));
            }
        }
        Ok(found)
    }
}

/// What a call costs in the common currency, nano, rounded half up; saturates.
pub fn expected(rate: &Rate, fx: Ratio, call_ms: u64) -> u64 {
    let terms = Terms { fx, rounding: Rounding::HalfUp, ..Terms::default() };
    let amount = rate.charge(call_ms).amount(&terms);
    amount.and_then(|a| u64::try_from(a).ok()).unwrap_or(u64::MAX - 1)
}

/// Every code of any deck, once, in order.
fn union(decks: &[Vec<(Code, u32)>]) -> Vec<Code> {
    let mut codes: Vec<Code> = Vec::new();
    let mut next = Vec::new();
    for deck in decks {
        next.clear();
        let mut old = codes.iter().copied().peekable();
        for &(code, _) in deck {
            while let Some(earlier) = old.next_if(|c| *c < code) {
                next.push(earlier);
            }
            let _same = old.next_if_eq(&code);
            next.push(code);
        }
        next.extend(old);
        core::mem::swap(&mut codes, &mut next);
    }
    codes
}

/// Rows by place: where each place's begin (one more than there are places), whose, and what.
#[expect(clippy::type_complexity, reason = "three columns of one table")]
fn rows(
    decks: &[Vec<(Code, u32)>],
    codes: &[Code],
) -> Result<(Vec<u32>, Vec<u16>, Vec<u32>), NoMarket> {
    let total: usize = decks.iter().map(Vec::len).sum();
    u32::try_from(total).map_err(|_| NoMarket::Size)?;
    let mut begins = vec![0u32; codes.len() + 1];
    walk(decks, codes, |_, place, _| begins[place + 1] += 1);
    for place in 0..codes.len() {
        begins[place + 1] += begins[place];
    }
    let mut next = begins.clone();
    let (mut vendors, mut offers) = (vec![0; total], vec![0; total]);
    walk(decks, codes, |vendor, place, offer| {
        let row = next[place] as usize;
        next[place] += 1;
        vendors[row] = vendor as u16;
        offers[row] = offer;
    });
    Ok((begins, vendors, offers))
}

/// Every row of every deck with the place of its code.
fn walk(decks: &[Vec<(Code, u32)>], codes: &[Code], mut give: impl FnMut(usize, usize, u32)) {
    for (vendor, deck) in decks.iter().enumerate() {
        let mut place = 0;
        for &(code, offer) in deck {
            while codes[place] != code {
                place += 1;
            }
            give(vendor, place, offer);
        }
    }
}

/// The offers of all vendors along the way down to a code: depth first, each level a copy of the one
/// above with its own rows put in.
pub(super) struct Path {
    vendors: usize,
    codes: Vec<Code>,
    levels: Vec<u32>,
}

impl Path {
    pub(super) fn new(vendors: usize) -> Path {
        Path { vendors, codes: Vec::new(), levels: Vec::new() }
    }

    /// Goes to the next code in order: what every vendor offers there, by vendor.
    pub(super) fn enter(&mut self, code: Code, who: &[u16], what: &[u32]) -> &[u32] {
        while self.codes.last().is_some_and(|above| !above.covers(code)) {
            self.codes.pop();
            self.levels.truncate(self.codes.len() * self.vendors);
        }
        let level = self.codes.len() * self.vendors;
        match level.checked_sub(self.vendors) {
            Some(above) => self.levels.extend_from_within(above..level),
            None => self.levels.resize(self.vendors, NONE),
        }
        self.codes.push(code);
        for (&vendor, &offer) in who.iter().zip(what) {
            self.levels[level + usize::from(vendor)] = offer;
        }
        &self.levels[level..]
    }
}

impl Offers {
    /// Each offer as it stands on a list, by its number, whoever makes it.
    pub(super) fn all_listed(&self) -> Vec<Option<Listed>> {
        (0..self.alternatives.len() as u32).map(|offer| self.listed(0, offer)).collect()
    }
}

/// Short lists, each kept once.
pub(super) struct Lists<'a> {
    /// Each offer as it stands on a list, whoever makes it.
    listed: &'a [Option<Listed>],
    pub(super) lists: Vec<List>,
    known: HashMap<(u64, [Bid; LIST]), u32, core::hash::BuildHasherDefault<deck::Fold>>,
    sorted: Vec<(u64, Bid)>,
}

impl<'a> Lists<'a> {
    pub(super) fn new(listed: &'a [Option<Listed>]) -> Self {
        Lists { listed, lists: Vec::new(), known: HashMap::default(), sorted: Vec::new() }
    }

    /// The list of the cheapest among what every vendor offers.
    pub(super) fn add(&mut self, offers: &[u32]) -> Result<u32, NoMarket> {
        let sorted = &mut self.sorted;
        sorted.clear();
        for (vendor, &offer) in offers.iter().enumerate() {
            let Some(Some(Listed { least_nano, .. })) = self.listed.get(offer as usize) else {
                continue;
            };
            let bid = (*least_nano, Bid { vendor: vendor as u16, offer });
            // Kept short: one beyond the list tells what those left out cost at least.
            if sorted.len() > LIST && sorted.last().is_some_and(|worst| *worst <= bid) {
                continue;
            }
            let at = sorted.partition_point(|other| *other < bid);
            sorted.insert(at, bid);
            sorted.truncate(LIST + 1);
        }
        let beyond_nano = sorted.get(LIST).map_or(u64::MAX, |(least, _)| *least);
        let len = sorted.len().min(LIST);
        let mut key = [Bid { vendor: u16::MAX, offer: NONE }; LIST];
        key.iter_mut().zip(sorted.iter()).for_each(|(place, (_, bid))| *place = *bid);
        let next = u32::try_from(self.lists.len()).map_err(|_| NoMarket::Size)?;
        let list = *self.known.entry((beyond_nano, key)).or_insert(next);
        if list == next {
            let mut fresh = List { beyond_nano, len: len as u32, ..List::EMPTY };
            for (place, &(_, Bid { vendor, offer })) in fresh.bids.iter_mut().zip(sorted.iter()) {
                let listed = self.listed.get(offer as usize).copied().flatten();
                *place = listed.map_or(Listed::NONE, |listed| Listed { vendor, ..listed });
            }
            self.lists.push(fresh);
        }
        Ok(list)
    }
}
