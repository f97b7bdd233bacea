//! Replacing one vendor's deck in a market. What the others offer is taken over as it stands; short lists
//! are made anew only where the vendor's offer is another one and comes near the list.

use super::compile::{Gatherer, Lists, NONE, Path, laid, trie};
use super::{Alternative, BLOCKED, Entry, LAST, List, Market, NoMarket, Offers};
use crate::deck::{self, Code};
use crate::rate::Rate;
use core::ops::Range;
use std::collections::HashMap;

impl Market {
    /// This market with another deck of one vendor, as [`Market::compile`] would make it. The other decks'
    /// rows in force must be the same at `at`, and `call_ms` what it was.
    pub fn replace(
        &self,
        vendor: u16,
        entry: &Entry,
        at: i64,
        call_ms: u64,
    ) -> Result<Market, NoMarket> {
        if usize::from(vendor) >= self.vendors {
            return Err(NoMarket::Vendors);
        }
        let mut gatherer = Gatherer::default();
        let own = gatherer.read(entry, at, call_ms)?;
        let table = self.table(vendor, &own, Adopting::new(&self.offers, &gatherer.offers))?;
        let (made, list_of) = self.lists_for(vendor, &table)?;
        let codes = match table.codes_changed {
            false => self.codes.clone(),
            true => trie(table.codes.iter().copied().zip(0..))?,
        };
        let places = table.steps.iter().map(|step| step.rows).collect();
        let Table { row_vendors, row_offers, offers, adopted, .. } = table;
        let (vendors, adopted) = (self.vendors, self.adopted.saturating_add(adopted));
        let (runs, lists) = laid(&codes, &list_of, |list| match list & NEW {
            0 => self.lists.get(list as usize),
            _ => made.get((list & !NEW) as usize),
        });
        Ok(Market { codes, runs, lists, places, row_vendors, row_offers, offers, vendors, adopted })
    }

    /// Whether most of its rates are of decks that were replaced: time to compile it anew.
    pub fn is_worn(&self) -> bool {
        self.adopted as usize > self.offers.alternatives.len() / 2
    }

    /// The rows of the new market, by place.
    fn table(
        &self,
        vendor: u16,
        own: &[(Code, u32)],
        mut adopting: Adopting,
    ) -> Result<Table, NoMarket> {
        let mut table = Table::with_room(self.row_vendors.len() + own.len(), self.places.len());
        let mut along = Vec::<(Code, u32, u32)>::new();
        let mut own = own.iter().copied().peekable();
        let mut old = (0..).zip(self.sorted_codes()).peekable();
        loop {
            let code = match (old.peek(), own.peek()) {
                (Some(&(_, a)), Some(&(b, _))) => a.min(b),
                (Some(&(_, code)), None) | (None, Some(&(code, _))) => code,
                (None, None) => break,
            };
            let place = old.next_if(|(_, c)| *c == code).map(|(place, _)| place);
            let mine = own.next_if(|(c, _)| *c == code).map(|(_, offer)| offer);
            let rows = place.map_or(0..0, |place| self.rows_of(place));
            let (before, was, after) = self.around(vendor, rows);
            let is = match mine {
                Some(offer) => Some(adopting.id(offer, was)?),
                None => None,
            };
            while along.last().is_some_and(|(above, ..)| !above.covers(code)) {
                along.pop();
            }
            let above = along.last().map_or((NONE, NONE), |(_, was, is)| (*was, *is));
            let held = (was.unwrap_or(above.0), is.unwrap_or(above.1));
            along.push((code, held.0, held.1));
            if before.is_empty() && after.is_empty() && is.is_none() {
                // Nobody else has it.
                table.codes_changed = true;
                continue;
            }
            table.codes_changed |= place.is_none();
            let rows = u32::try_from(table.row_vendors.len()).map_err(|_| NoMarket::Size)?;
            table.steps.push(Step { is_new: place.is_none(), rows, held });
            table.codes.push(code);
            table.take(self, before);
            if let Some(offer) = is {
                table.row_vendors.push(vendor);
                table.row_offers.push(offer);
            }
            table.take(self, after);
        }
        (table.offers, table.adopted) = (adopting.offers, adopting.adopted);
        Ok(table)
    }

    /// The rows of a place before a vendor's, its offer if it has one, and those after.
    fn around(&self, vendor: u16, rows: Range<usize>) -> (Range<usize>, Option<u32>, Range<usize>) {
        let vendors = self.row_vendors.get(rows.clone()).unwrap_or(&[]);
        let at = rows.start + vendors.partition_point(|v| *v < vendor);
        let has = at < rows.end && self.row_vendors.get(at) == Some(&vendor);
        let was = if has { self.row_offers.get(at).copied() } else { None };
        (rows.start..at, was, at + usize::from(has)..rows.end)
    }

    /// Every code in order, which is that of places.
    fn sorted_codes(&self) -> Vec<Code> {
        let mut codes = vec![Code::EMPTY; self.places.len()];
        for (digits, place) in self.codes.each() {
            if let Some(code) = codes.get_mut(place as usize) {
                *code = Code::of(digits);
            }
        }
        codes
    }

    /// Lists made for the new rows, and which each place has: one of those, marked [`NEW`], or its old one.
    fn lists_for(&self, vendor: u16, table: &Table) -> Result<(Vec<List>, Vec<u32>), NoMarket> {
        let all = table.offers.all_listed();
        let cost = |offer: u32| Some(all.get(offer as usize).copied().flatten()?.least_nano);
        let is_untouched = |list: &List, (was, is): (u32, u32)| {
            let listed = list.bids.iter().take(list.len as usize).any(|b| b.vendor == vendor);
            let beyond = |offer| cost(offer).is_none_or(|cost| cost > list.beyond_nano);
            was == is || (!listed && beyond(was) && beyond(is))
        };
        let mut made = Lists::new(&all);
        let mut path = Path::new(self.vendors);
        let mut list_of = Vec::with_capacity(table.steps.len());
        for (at, step) in table.steps.iter().enumerate() {
            let Some(&code) = table.codes.get(at) else { break };
            let end = table.steps.get(at + 1).map_or(table.row_vendors.len(), |s| s.rows as usize);
            let rows = step.rows as usize..end;
            let who = table.row_vendors.get(rows.clone()).unwrap_or(&[]);
            let what = table.row_offers.get(rows).unwrap_or(&[]);
            let offers = path.enter(code, who, what);
            let before = self.codes.find(code.digits()).filter(|_| !step.is_new);
            let before = before.and_then(|(_, rank)| self.runs.at(rank));
            let before = before.and_then(|l| Some((l as u32, self.lists.get(l)?)));
            list_of.push(match before.filter(|(_, list)| is_untouched(list, step.held)) {
                Some((list, _)) => list,
                None => NEW | made.add(offers)?,
            });
        }
        Ok((made.lists, list_of))
    }
}

/// Marks a list that was made anew. There are fewer lists than codes of one image.
const NEW: u32 = 1 << 31;

/// The rows of a market in the making.
#[derive(Default)]
struct Table {
    codes: Vec<Code>,
    steps: Vec<Step>,
    row_vendors: Vec<u16>,
    row_offers: Vec<u32>,
    offers: Offers,
    adopted: u32,
    codes_changed: bool,
}

/// A place of the new market.
struct Step {
    /// The old one had no such code.
    is_new: bool,
    /// Where its rows begin.
    rows: u32,
    /// What the vendor offered for its numbers, and offers now; or [`NONE`].
    held: (u32, u32),
}

impl Table {
    fn with_room(rows: usize, places: usize) -> Table {
        Table {
            codes: Vec::with_capacity(places),
            steps: Vec::with_capacity(places),
            row_vendors: Vec::with_capacity(rows),
            row_offers: Vec::with_capacity(rows),
            ..Table::default()
        }
    }

    fn take(&mut self, from: &Market, rows: Range<usize>) {
        self.row_vendors.extend_from_slice(from.row_vendors.get(rows.clone()).unwrap_or(&[]));
        self.row_offers.extend_from_slice(from.row_offers.get(rows).unwrap_or(&[]));
    }
}

/// The new deck's offers on their way into the old table: what the vendor offered before keeps its number.
struct Adopting<'a> {
    offers: Offers,
    from: &'a Offers,
    numbers: Vec<u32>,
    rates: HashMap<Rate, u32, core::hash::BuildHasherDefault<deck::Fold>>,
    adopted: u32,
}

impl<'a> Adopting<'a> {
    fn new(old: &Offers, from: &'a Offers) -> Adopting<'a> {
        let numbers = vec![NONE; from.alternatives.len()];
        Adopting { offers: old.clone(), from, numbers, rates: HashMap::default(), adopted: 0 }
    }

    /// The number of an offer of the new deck, for a code that the old deck had `was` for.
    fn id(&mut self, offer: u32, was: Option<u32>) -> Result<u32, NoMarket> {
        if let Some(was) = was.filter(|was| self.is_same(*was, offer)) {
            return Ok(was);
        }
        let known = self.numbers.get(offer as usize).copied().unwrap_or(NONE);
        if known != NONE {
            return Ok(known);
        }
        let number = u32::try_from(self.offers.alternatives.len()).map_err(|_| NoMarket::Size)?;
        for alternative in self.from.of(offer) {
            let rate = self.rate(*alternative)?;
            self.offers.alternatives.push(Alternative { rate, ..*alternative });
            self.adopted = self.adopted.saturating_add(1);
        }
        if let Some(place) = self.numbers.get_mut(offer as usize) {
            *place = number;
        }
        Ok(number)
    }

    fn rate(&mut self, of: Alternative) -> Result<u32, NoMarket> {
        let Some(rate) = self.from.rate(of) else { return Ok(BLOCKED) };
        let next = u32::try_from(self.offers.rates.len()).map_err(|_| NoMarket::Size)?;
        let number = *self.rates.entry(rate).or_insert(next);
        if number == next {
            self.offers.rates.push(rate);
        }
        Ok(number)
    }

    fn is_same(&self, was: u32, offer: u32) -> bool {
        let (old, new) = (self.offers.of(was), self.from.of(offer));
        let same = |(a, b): (&Alternative, &Alternative)| {
            (a.expected_nano, a.profile) == (b.expected_nano, b.profile)
                && self.offers.rate(*a) == self.from.rate(*b)
        };
        old.len() == new.len() && old.iter().zip(new).all(same)
    }
}

impl Offers {
    /// All alternatives of an offer.
    fn of(&self, offer: u32) -> &[Alternative] {
        let rest = self.alternatives.get(offer as usize..).unwrap_or(&[]);
        let len = rest.iter().position(|a| a.profile & LAST != 0).map_or(0, |last| last + 1);
        rest.get(..len).unwrap_or(&[])
    }
}
