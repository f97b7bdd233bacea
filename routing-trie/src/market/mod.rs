//! A market: the decks of all vendors merged into one immutable image, for one moment.
//!
//! A trie over every code of any vendor leads to the short list of the cheapest offers for its numbers,
//! made ahead. A decision reads the list; when filters exhaust it, or cheaper times of day make its order
//! uncertain, it gathers all vendors' longest codes: each code has its place, and a place the rows that stand
//! exactly there. A list that the code before has too, and any rate, is kept once.
//!
//! What rows cost is compared at one call duration and in one currency, chosen by the caller.

mod compile;
mod file;
mod replace;
mod runs;

pub use compile::expected;

use crate::deck::Deck;
use crate::digits::Digits;
use crate::image::Image;
use crate::rate::Rate;
use base::money::Ratio;
use core::ops::Range;
use runs::Runs;

/// The most vendors of a market.
pub const MAX_VENDORS: usize = 1_024;
/// Offers a list holds: so many that hours, full trunks and margins hardly ever leave too few of them.
pub const LIST: usize = 12;
/// Marks an offer's last alternative, among the bits of its profile.
const LAST: u16 = 1 << 15;
/// A rate that is none: blocked.
const BLOCKED: u32 = u32::MAX;

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

/// A bid on a short list, with what is to be known of it before it wins: nothing else need be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it costs at its cheapest time, nano of the common currency.
    pub least_nano: u64,
    /// Its rate; where it varies, its offer.
    terms: u32,
    /// Index of the vendor.
    pub vendor: u16,
    /// It does not cost the same at all times, to everybody.
    pub varies: bool,
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
    /// Every code, with its place: in order.
    codes: Image,
    /// Codes by their rank in the trie: those of a run share a list.
    runs: Runs,
    lists: Vec<List>,
    /// Where the rows of each place begin; they end where the next place's begin.
    places: Vec<u32>,
    row_vendors: Vec<u16>,
    row_offers: Vec<u32>,
    offers: Offers,
    vendors: usize,
    /// Alternatives that came by replacing decks since it was compiled.
    adopted: u32,
}

/// Bids stand in their list, so that reading one is reading two or three neighbouring lines of memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct List {
    /// What is not on the list costs at least this, nano.
    beyond_nano: u64,
    len: u32,
    bids: [Listed; LIST],
}

impl Shortlist<'_> {
    /// Nobody carries it.
    pub const EMPTY: Shortlist<'static> = Shortlist { bids: &[], beyond_nano: u64::MAX };
}

impl List {
    const EMPTY: List = List { beyond_nano: u64::MAX, len: 0, bids: [Listed::NONE; LIST] };
}

impl Listed {
    const NONE: Listed = Listed { least_nano: u64::MAX, terms: 0, vendor: 0, varies: false };

    /// Its alternative in force, as [`Offers::in_force`] finds it.
    #[inline]
    pub fn in_force(&self, offers: &Offers, holds: impl FnMut(u16) -> bool) -> Option<Alternative> {
        if self.varies {
            return offers.in_force(self.terms, holds);
        }
        Some(Alternative { expected_nano: self.least_nano, rate: self.terms, profile: LAST })
    }
}

/// The short list for a number.
#[derive(Copy, Clone, Debug)]
pub struct Shortlist<'a> {
    /// Cheapest first, by what each costs at its cheapest time.
    pub bids: &'a [Listed],
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

    fn extents(&self) -> impl Iterator<Item = Range<*const u8>> {
        [extent(&self.alternatives), extent(&self.rates)].into_iter()
    }

    /// A vendor's offer as it stands on a list; `None` when it cannot be had.
    fn listed(&self, vendor: u16, offer: u32) -> Option<Listed> {
        let rest = self.alternatives.get(offer as usize..)?;
        let len = rest.iter().position(|a| a.profile & LAST != 0)? + 1;
        let all = rest.get(..len)?;
        let open = all.iter().filter(|a| a.rate != BLOCKED);
        let cheapest = open.min_by_key(|a| a.expected_nano)?;
        let varies = all.iter().any(|a| a.profile & !LAST != 0);
        let terms = if varies { offer } else { cheapest.rate };
        Some(Listed { least_nano: cheapest.expected_nano, terms, vendor, varies })
    }
}

fn extent<T>(values: &[T]) -> Range<*const u8> {
    let Range { start, end } = values.as_ptr_range();
    start.cast()..end.cast()
}

impl Market {
    /// The offers, to ask what bids cost.
    #[inline]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// The short list for a number: empty when nobody carries it.
    #[inline]
    pub fn shortlist(&self, number: Digits) -> Shortlist<'_> {
        self.shortlist_at(self.codes.find(number))
    }

    /// The short list for a number, and what a tariff has for it: sooner than one after the other.
    #[inline]
    pub fn shortlist_and_price(
        &self,
        tariff: &Tariff,
        number: Digits,
    ) -> (Shortlist<'_>, Option<(usize, u32)>) {
        let [list, price] = self.codes.find_both(&tariff.codes, number);
        let price = price.and_then(|(depth, rank)| Some((depth, tariff.codes.value(rank)?)));
        (self.shortlist_at(list), price)
    }

    #[inline]
    fn shortlist_at(&self, found: Option<(usize, usize)>) -> Shortlist<'_> {
        let found = found.and_then(|(_, rank)| {
            let list = self.lists.get(self.runs.at(rank)?)?;
            let bids = list.bids.get(..list.len as usize)?;
            Some(Shortlist { bids, beyond_nano: list.beyond_nano })
        });
        found.unwrap_or(Shortlist::EMPTY)
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
        let begin = |place: usize| self.places.get(place).map(|rows| *rows as usize);
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

    /// Where what a look-up reads lies in memory, for who wants to keep it there.
    pub fn extents(&self) -> impl Iterator<Item = Range<*const u8>> {
        let own = [
            self.codes.as_bytes().as_ptr_range(),
            self.runs.extent(),
            extent(&self.lists),
            extent(&self.places),
            extent(&self.row_vendors),
            extent(&self.row_offers),
        ];
        own.into_iter().chain(self.offers.extents())
    }

    /// Bytes held, rates included.
    pub fn bytes(&self) -> usize {
        self.codes.as_bytes().len()
            + self.runs.bytes()
            + self.lists.len() * size_of::<List>()
            + self.places.len() * size_of::<u32>()
            + self.row_vendors.len() * (size_of::<u16>() + size_of::<u32>())
            + self.offers.bytes()
    }
}

/// What a customer pays: one deck for one moment, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    codes: Image,
    offers: Offers,
}

impl Tariff {
    /// The longest code for a number: its length, and what it offers.
    #[inline]
    pub fn lookup(&self, number: Digits) -> Option<(usize, u32)> {
        self.codes.lookup(number)
    }

    /// The offers, to ask what they cost.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Where it lies in memory: see [`Market::extents`].
    pub fn extents(&self) -> impl Iterator<Item = Range<*const u8>> {
        core::iter::once(self.codes.as_bytes().as_ptr_range()).chain(self.offers.extents())
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
    use crate::deck::{self, Code, Options, import};
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

    /// All that can be asked of a market about a number.
    fn told(market: &Market, dialled: Digits) -> impl PartialEq + core::fmt::Debug {
        let offers = market.offers();
        let said = |in_force: &dyn Fn(bool) -> Option<Alternative>| {
            [true, false].map(|peak| in_force(peak).map(|a| (a.expected_nano, offers.rate(a))))
        };
        let list = market.shortlist(dialled);
        let listed = |b: &Listed| {
            let said = said(&|peak| b.in_force(offers, |p| peak && p == 1));
            (b.vendor, b.least_nano, b.varies, said)
        };
        let bids: Vec<_> = list.bids.iter().map(listed).collect();
        let mut all = Vec::new();
        market.gather(dialled, |depth, bid| {
            let said = said(&|peak| offers.in_force(bid.offer, |p| peak && p == 1));
            all.push((depth, bid.vendor, said));
        });
        (bids, list.beyond_nano, all)
    }

    proptest! {
        #[test]
        fn replacing_a_deck_is_merging_all_anew(
            before in decks(),
            after in decks(),
            numbers in prop::collection::vec("[12]{0,6}", 1..30),
            turns in prop::collection::vec((0usize..14, 0usize..14), 1..4),
        ) {
            let map = |deck: &Deck| -> Vec<u16> {
                deck.profiles().map(|p| if p == "peak" { 1 } else { 2 }).collect()
            };
            let mut decks = before;
            let compile = |decks: &[Deck]| {
                let maps: Vec<Vec<u16>> = decks.iter().map(map).collect();
                let both = decks.iter().zip(&maps);
                let entries: Vec<Entry> =
                    both.map(|(deck, profiles)| Entry { deck, fx: Ratio::ONE, profiles }).collect();
                Market::compile(&entries, 0, 60_000).unwrap()
            };
            let mut market = compile(&decks);
            for (vendor, deck) in turns {
                let (vendor, deck) = (vendor % decks.len(), &after[deck % after.len()]);
                let profiles = map(deck);
                let entry = Entry { deck, fx: Ratio::ONE, profiles: &profiles };
                market = market.replace(vendor as u16, &entry, 0, 60_000).unwrap();
                decks[vendor] = deck.clone();
            }
            let anew = compile(&decks);
            prop_assert_eq!((market.rows(), market.codes()), (anew.rows(), anew.codes()));
            prop_assert!(market.lists.len() <= market.places.len());
            for text in numbers {
                prop_assert_eq!(told(&market, number(&text)), told(&anew, number(&text)));
            }
            let mut file = Vec::new();
            base::record::seal(1, &market, &mut file);
            prop_assert_eq!(base::record::open(1, &file).map(|(read, _)| read), Ok(market));
        }

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
                for bid in shortlist.bids {
                    let gathered = market.offers().in_force(gathered[&bid.vendor], holds);
                    let cost = |a: Option<Alternative>| a.map(|a| (a.expected_nano, market.offers().rate(a)));
                    prop_assert_eq!(cost(bid.in_force(market.offers(), holds)), cost(gathered));
                }
                let listed: Vec<_> = shortlist.bids.iter().map(|b| b.vendor).collect();
                let expected: Vec<_> = least.iter().take(LIST).map(|(_, v)| *v).collect();
                prop_assert_eq!(listed, expected);
                prop_assert_eq!(shortlist.beyond_nano, least.get(LIST).map_or(u64::MAX, |(c, _)| *c));
            }
        }
    }
}
