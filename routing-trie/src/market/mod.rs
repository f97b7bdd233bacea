//! A market: the decks of all vendors merged into one immutable image, for one moment.
//!
//! A trie over every code of any vendor leads to a place; a place has the short list of the cheapest
//! offers for its numbers, made ahead, and the rows that stand exactly there. A decision reads the list;
//! when filters exhaust it, or cheaper times of day make its order uncertain, it gathers all vendors'
//! longest codes from the rows on the way. Lists and rates are kept once each.
//!
//! What rows cost is compared at one call duration and in one currency, chosen by the caller.

mod file;

use crate::build::Builder;
use crate::deck::{self, Code, Deck};
use crate::digits::Digits;
use crate::image::Image;
use crate::rate::{Rate, Terms};
use base::money::{Ratio, Rounding};
use core::ops::Range;
use std::collections::HashMap;

/// The most vendors of a market.
pub const MAX_VENDORS: usize = 1_024;
/// Offers a list holds.
pub const LIST: usize = 8;
/// Marks an offer's last alternative, among the bits of its profile.
const LAST: u16 = 1 << 15;
/// A rate that is none: blocked.
const BLOCKED: u32 = u32::MAX;
/// No offer.
const NONE: u32 = u32::MAX;
/// Not worked out yet.
const UNKNOWN: u32 = u32::MAX - 1;

/// A vendor's deck as it enters a market.
#[derive(Copy, Clone, Debug)]
pub struct Entry<'a> {
    /// The deck.
    pub deck: &'a Deck,
    /// Units of the common currency for one of the deck's.
    pub fx: Ratio,
    /// The caller's number for each time profile of the deck, in the order of [`Deck::profiles`].
    pub profiles: &'a [u16],
}

/// Why there is no market.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoMarket {
    /// More than [`MAX_VENDORS`].
    Vendors,
    /// More rows, offers or profiles than 32 bits (15 for profiles) count.
    Size,
    /// A time profile of a deck has no number.
    Profile,
}

impl core::error::Error for NoMarket {}

impl core::fmt::Display for NoMarket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            NoMarket::Vendors => write!(f, "more than {MAX_VENDORS} vendors"),
            NoMarket::Size => f.write_str("more rows than an image can hold"),
            NoMarket::Profile => f.write_str("a deck names a time profile that is not known"),
        }
    }
}

/// A vendor's offer for a number: what a list holds and a gathering finds.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bid {
    /// Index of the vendor.
    pub vendor: u16,
    /// Names its alternatives in [`Offers`].
    pub offer: u32,
}

/// One rate of an offer, and when it holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// Cost of a call of the duration compared at, nano of the common currency.
    pub expected_nano: u64,
    rate: u32,
    profile: u16,
}

/// Offers and their rates, each kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    alternatives: Vec<Alternative>,
    rates: Vec<Rate>,
}

/// Everything that can be bought at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Market {
    codes: Image,
    places: Vec<Place>,
    lists: Vec<List>,
    bids: Vec<Bid>,
    row_vendors: Vec<u16>,
    row_offers: Vec<u32>,
    offers: Offers,
    vendors: usize,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Place {
    list: u32,
    /// Where its rows begin; they end where the next place's begin.
    rows: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct List {
    /// What is not on the list costs at least this, nano.
    beyond_nano: u64,
    from: u32,
    len: u32,
}

/// The short list for a number.
#[derive(Copy, Clone, Debug)]
pub struct Shortlist<'a> {
    /// Cheapest first, by what each costs at its cheapest time.
    pub bids: &'a [Bid],
    /// What is not on it costs at least this; `u64::MAX` when everything is on it.
    pub beyond_nano: u64,
}

impl Offers {
    /// The alternative in force: the first whose profile holds; those without profile come last and
    /// always hold. `None` when none does, or the number is blocked.
    #[inline]
    pub fn in_force(&self, offer: u32, mut holds: impl FnMut(u16) -> bool) -> Option<Alternative> {
        let mut at = offer as usize;
        loop {
            let alternative = self.alternatives.get(at)?;
            let profile = alternative.profile & !LAST;
            if alternative.rate != BLOCKED && (profile == 0 || holds(profile)) {
                return Some(*alternative);
            }
            if alternative.profile & LAST != 0 {
                return None;
            }
            at += 1;
        }
    }

    /// The rate of an alternative.
    pub fn rate(&self, alternative: Alternative) -> Option<Rate> {
        self.rates.get(alternative.rate as usize).copied()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.alternatives.len() * size_of::<Alternative>() + self.rates.len() * size_of::<Rate>()
    }

    /// The least an offer may cost at any time; `None` when it cannot be had.
    fn least(&self, offer: u32) -> Option<u64> {
        let rest = self.alternatives.get(offer as usize..)?;
        let len = rest.iter().position(|a| a.profile & LAST != 0)? + 1;
        let open = rest.get(..len)?.iter().filter(|a| a.rate != BLOCKED);
        open.map(|a| a.expected_nano).min()
    }
}

/// Puts offers together, each once.
#[derive(Default)]
struct Gatherer {
    offers: Offers,
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
        // Those that ask for a time come first.
        key.sort_by_key(|(.., profile)| *profile == 0);
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
    fn read(&mut self, entry: &Entry, at: i64, call_ms: u64) -> Result<Vec<(Code, u32)>, NoMarket> {
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
        let (rows_at, row_vendors, row_offers) = rows(&decks, &codes)?;
        drop(decks);
        let least: Vec<Option<u64>> =
            (0..offers.alternatives.len() as u32).map(|offer| offers.least(offer)).collect();
        let mut lists = Lists::new(&least);
        let mut path = Path::new(vendors.len());
        let mut builder = Builder::new();
        let mut places = Vec::with_capacity(codes.len());
        for (place, &code) in codes.iter().enumerate() {
            let here = rows_at[place] as usize..rows_at[place + 1] as usize;
            let (who, what) = (&row_vendors[here.clone()], &row_offers[here]);
            let list = lists.add(path.enter(code, who, what))?;
            places.push(Place { list, rows: rows_at[place] });
            let place = u32::try_from(place).map_err(|_| NoMarket::Size)?;
            builder.insert(code.digits(), place).map_err(|_| NoMarket::Size)?;
        }
        let Lists { lists, bids, .. } = lists;
        let vendors = vendors.len();
        Ok(Market {
            codes: builder.build(),
            places,
            lists,
            bids,
            row_vendors,
            row_offers,
            offers,
            vendors,
        })
    }

    /// The offers, to ask what bids cost.
    #[inline]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// The short list for a number: empty when nobody carries it.
    #[inline]
    pub fn shortlist(&self, number: Digits) -> Shortlist<'_> {
        let found = self.codes.lookup(number).and_then(|(_, place)| {
            let list = self.lists.get(self.places.get(place as usize)?.list as usize)?;
            let bids = self.bids.get(list.from as usize..(list.from + list.len) as usize)?;
            Some(Shortlist { bids, beyond_nano: list.beyond_nano })
        });
        found.unwrap_or(Shortlist { bids: &[], beyond_nano: u64::MAX })
    }

    /// Hands out every vendor's longest code for a number, in digits, with what it offers; blocked ones
    /// too.
    pub fn gather(&self, number: Digits, mut give: impl FnMut(usize, Bid)) {
        let mut seen = [0u64; MAX_VENDORS / 64];
        for (depth, place) in self.codes.matches(number) {
            for row in self.rows_of(place as usize) {
                let (Some(&vendor), Some(&offer)) =
                    (self.row_vendors.get(row), self.row_offers.get(row))
                else {
                    continue;
                };
                let Some(word) = seen.get_mut(usize::from(vendor) / 64) else { continue };
                let bit = 1 << (vendor % 64);
                if *word & bit == 0 {
                    *word |= bit;
                    give(depth, Bid { vendor, offer });
                }
            }
        }
    }

    fn rows_of(&self, place: usize) -> Range<usize> {
        let begin = |place: usize| self.places.get(place).map(|p| p.rows as usize);
        begin(place).unwrap_or(0)..begin(place + 1).unwrap_or(self.row_vendors.len())
    }

    /// Vendors it was made of.
    pub fn vendors(&self) -> usize {
        self.vendors
    }

    /// Rows in force, of all vendors.
    pub fn rows(&self) -> usize {
        self.row_vendors.len()
    }

    /// Different codes.
    pub fn codes(&self) -> usize {
        self.places.len()
    }

    /// Bytes held, rates included.
    pub fn bytes(&self) -> usize {
        self.codes.as_bytes().len()
            + self.places.len() * size_of::<Place>()
            + self.lists.len() * size_of::<List>()
            + self.bids.len() * size_of::<Bid>()
            + self.row_vendors.len() * (size_of::<u16>() + size_of::<u32>())
            + self.offers.bytes()
    }
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
struct Path {
    vendors: usize,
    codes: Vec<Code>,
    levels: Vec<u32>,
}

impl Path {
    fn new(vendors: usize) -> Path {
        Path { vendors, codes: Vec::new(), levels: Vec::new() }
    }

    /// Goes to the next code in order: what every vendor offers there, by vendor.
    fn enter(&mut self, code: Code, who: &[u16], what: &[u32]) -> &[u32] {
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

/// Short lists, each kept once.
struct Lists<'a> {
    /// The least each offer may cost.
    least: &'a [Option<u64>],
    lists: Vec<List>,
    bids: Vec<Bid>,
    known: HashMap<(u64, [Bid; LIST]), u32, core::hash::BuildHasherDefault<deck::Fold>>,
    sorted: Vec<(u64, Bid)>,
}

impl<'a> Lists<'a> {
    fn new(least: &'a [Option<u64>]) -> Self {
        let sorted = Vec::new();
        Lists { least, lists: Vec::new(), bids: Vec::new(), known: HashMap::default(), sorted }
    }

    /// The list of the cheapest among what every vendor offers.
    fn add(&mut self, offers: &[u32]) -> Result<u32, NoMarket> {
        let sorted = &mut self.sorted;
        sorted.clear();
        for (vendor, &offer) in offers.iter().enumerate() {
            let Some(Some(least)) = self.least.get(offer as usize) else { continue };
            let bid = (*least, Bid { vendor: vendor as u16, offer });
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
            let from = u32::try_from(self.bids.len()).map_err(|_| NoMarket::Size)?;
            self.bids.extend_from_slice(&key[..len]);
            self.lists.push(List { beyond_nano, from, len: len as u32 });
        }
        Ok(list)
    }
}

/// What a customer pays: one deck for one moment, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    codes: Image,
    offers: Offers,
}

impl Tariff {
    /// Compiles a deck for a moment.
    pub fn compile(entry: Entry, at: i64, call_ms: u64) -> Result<Tariff, NoMarket> {
        let mut gatherer = Gatherer::default();
        let mut builder = Builder::new();
        for (code, offer) in gatherer.read(&entry, at, call_ms)? {
            builder.insert(code.digits(), offer).map_err(|_| NoMarket::Size)?;
        }
        Ok(Tariff { codes: builder.build(), offers: gatherer.offers })
    }

    /// The longest code for a number: its length, and what it offers.
    #[inline]
    pub fn lookup(&self, number: Digits) -> Option<(usize, u32)> {
        self.codes.lookup(number)
    }

    /// The offers, to ask what they cost.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Codes in it.
    pub fn codes(&self) -> usize {
        self.codes.len()
    }

    /// Bytes held, rates included.
    pub fn bytes(&self) -> usize {
        self.codes.as_bytes().len() + self.offers.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deck::{Options, import};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn deck(rows: &str) -> Deck {
        let text = format!("code,rate,from,until,status,time\n{rows}");
        import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
    }

    fn entry(deck: &Deck) -> Entry<'_> {
        Entry { deck, fx: Ratio::ONE, profiles: &[1, 2] }
    }

    fn number(text: &str) -> Digits {
        text.parse().unwrap()
    }

    #[test]
    fn the_cheapest_come_first_and_the_longest_code_counts_per_vendor() {
        let decks = [
            deck("44,0.3,,,,\n447,0.1,,,,\n"),
            deck("4,0.2,,,,\n"),
            deck("447,,,,blocked,\n4,0.01,,,,\n"),
        ];
        let market = Market::compile(&decks.each_ref().map(entry), 0, 60_000).unwrap();
        let order =
            |n: &str| market.shortlist(number(n)).bids.iter().map(|b| b.vendor).collect::<Vec<_>>();
        assert_eq!(order("447911"), [0, 1], "the third blocks it");
        assert_eq!(order("442079"), [2, 1, 0]);
        assert_eq!(order("49"), [2, 1]);
        assert_eq!(order("1"), [0u16; 0]);
        assert_eq!((market.rows(), market.codes(), market.vendors()), (5, 3, 3));
    }

    #[test]
    fn another_currency_and_another_duration_change_the_order() {
        let fee =
            import(b"code,rate,connect_fee\n1,0.01,0.05\n", &Options::default()).unwrap().deck;
        let plain = deck("1,0.03,,,,\n");
        let order = |call_ms, fx| {
            let euro = Entry { fx, ..entry(&plain) };
            let market = Market::compile(&[entry(&fee), euro], 0, call_ms).unwrap();
            market.shortlist(number("1")).bids.iter().map(|b| b.vendor).collect::<Vec<_>>()
        };
        assert_eq!(order(60_000, Ratio::ONE), [1, 0]);
        assert_eq!(order(600_000, Ratio::ONE), [0, 1]);
        assert_eq!(order(60_000, Ratio::new(3, 1).unwrap()), [0, 1]);
    }

    #[test]
    fn vendors_are_bounded() {
        let one = deck("1,1,,,,\n");
        let entries = vec![entry(&one); MAX_VENDORS + 1];
        assert!(Market::compile(&entries[..MAX_VENDORS], 0, 1).is_ok());
        assert_eq!(Market::compile(&entries, 0, 1), Err(NoMarket::Vendors));
        let foreign = deck("1,1,,,,night\n");
        let unknown = Entry { profiles: &[], ..entry(&foreign) };
        assert_eq!(Market::compile(&[unknown], 0, 1), Err(NoMarket::Profile));
    }

    /// Rows of a deck: few digits, so that codes meet numbers.
    fn decks() -> impl Strategy<Value = Vec<Deck>> {
        let time = prop_oneof![Just(""), Just("peak"), Just("night")];
        let status = prop_oneof![3 => Just(""), 1 => Just("blocked"), 1 => Just("closed")];
        let row = ("[12]{0,4}", 0u32..50, status, time)
            .prop_filter("a code", |(code, ..)| !code.is_empty());
        let rows = prop::collection::vec(row, 1..12);
        let text = rows.prop_map(|rows| {
            let line = |(code, cents, status, time): (String, u32, &str, &str)| {
                format!("{code},0.{cents:02},,,{status},{time}\n")
            };
            let text = rows.into_iter().map(line).collect::<String>();
            let text = format!("code,rate,from,until,status,time\n{text}");
            let duplicates = crate::deck::Duplicates::LatestWins;
            import(text.as_bytes(), &Options { duplicates, ..Options::default() }).unwrap().deck
        });
        prop::collection::vec(text, 1..14)
    }

    /// What a deck offers by its own words: every rate that may hold, by profile.
    fn naive(deck: &Deck, number: Code) -> Option<Vec<(Option<u64>, String)>> {
        let (_, terms) = deck.lookup(number, 0)?;
        let said = |t: &&deck::Terms| {
            let cost = match t.offer {
                deck::Offer::Open(rate) => Some(rate.charge(60_000).nano()),
                deck::Offer::Closed | deck::Offer::Blocked => None,
            };
            (cost, deck.profile(t).to_owned())
        };
        Some(terms.iter().map(said).collect())
    }

    proptest! {
        #[test]
        fn a_market_says_what_every_deck_says(
            decks in decks(),
            numbers in prop::collection::vec("[12]{0,6}", 1..20),
            peak in any::<bool>(),
            night in any::<bool>(),
        ) {
            let maps: Vec<Vec<u16>> = decks
                .iter()
                .map(|d| d.profiles().map(|p| if p == "peak" { 1 } else { 2 }).collect())
                .collect();
            let entries: Vec<Entry> = decks
                .iter()
                .zip(&maps)
                .map(|(deck, profiles)| Entry { deck, fx: Ratio::ONE, profiles })
                .collect();
            let market = Market::compile(&entries, 0, 60_000).unwrap();
            let holds = |p: u16| (p == 1 && peak) || (p == 2 && night);
            for text in numbers {
                let (dialled, code) = (number(&text), Code::parse(text.as_bytes()).unwrap());
                let mut gathered = BTreeMap::new();
                market.gather(dialled, |_, bid| {
                    gathered.insert(bid.vendor, bid.offer);
                });
                let mut least = Vec::new();
                for (vendor, deck) in decks.iter().enumerate() {
                    let Some(said) = naive(deck, code) else {
                        prop_assert!(!gathered.contains_key(&(vendor as u16)));
                        continue;
                    };
                    let at_time = |name: &str| match name { "peak" => peak, "night" => night, _ => true };
                    let mut open: Vec<_> = said.iter().filter(|(c, p)| c.is_some() && at_time(p)).collect();
                    open.sort_by_key(|(_, p)| p.is_empty());
                    let offer = gathered[&(vendor as u16)];
                    let found = market.offers().in_force(offer, holds).map(|a| a.expected_nano);
                    let timed: Vec<_> = open.iter().filter(|(_, p)| !p.is_empty()).filter_map(|(c, _)| *c).collect();
                    match (timed.is_empty(), found) {
                        (true, found) => prop_assert_eq!(found, open.first().and_then(|(c, _)| *c)),
                        (false, found) => prop_assert!(found.is_some_and(|f| timed.contains(&f))),
                    }
                    least.extend(said.iter().filter_map(|(c, _)| *c).min().map(|c| (c, vendor as u16)));
                }
                least.sort_unstable();
                let shortlist = market.shortlist(dialled);
                let listed: Vec<_> = shortlist.bids.iter().map(|b| b.vendor).collect();
                let expected: Vec<_> = least.iter().take(LIST).map(|(_, v)| *v).collect();
                prop_assert_eq!(listed, expected);
                prop_assert_eq!(shortlist.beyond_nano, least.get(LIST).map_or(u64::MAX, |(c, _)| *c));
            }
        }
    }
}
