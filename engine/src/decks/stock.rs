//! The decks in force at a moment, compiled into the book that shards decide by.
//!
//! Decks that were read before are not read again, and what was merged stays merged: a vendor's new deck
//! costs its own reading and taking the place of the one before.

use super::kept::{self, Origin};
use super::shelf::{Shelf, Trouble};
use crate::config::Rates;
use crate::io::resident::Resident;
use base::money::Ratio;
use routing_trie::deck::Deck;
use routing_trie::market::{Entry, NoMarket};
use routing_trie::{Market, Tariff};
use sbc::policy::plan::{Book, Edition, Routing};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is in force, and until when nothing changes.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    /// The book's memory, locked; given up before the book is.
    resident: Option<Arc<Resident>>,
    /// What shards decide by.
    pub book: Arc<Book>,
    /// What an operator should know: decks that are not there.
    pub notes: Vec<String>,
    /// Decks in force, with the generation.
    decks: BTreeMap<Box<str>, (u32, Arc<Deck>)>,
    /// The first moment at which another deck or rate comes into force, seconds since the Unix epoch.
    next_change: Option<i64>,
    /// How far each history was read.
    marks: Option<Marks>,
    /// What the book was made of.
    origin: Origin,
    /// The same, to tell what changed: everything but the decks, and the generation of each. `None` with
    /// files in place of decks.
    made_of: Option<(String, Generations)>,
    /// Whether it was made of decks, hence is worth keeping.
    is_new: bool,
}

/// Generations in force, by deck.
type Generations = BTreeMap<Box<str>, u32>;
/// The most decks that take the places of others one by one; more are merged anew.
const MOST_REPLACED: usize = 4;

/// Where decks are, and how long the history of each was.
#[derive(Clone, Debug)]
struct Marks {
    shelf: Shelf,
    lengths: Vec<(Box<str>, u64)>,
}

impl Stock {
    /// Reads what is in force at `now`. `earlier`: decks it has need not be read again. `files`: decks
    /// that stand in for those of their name, as generation 0.
    pub fn read(
        rates: &Rates,
        routing: &Routing,
        now: i64,
        earlier: &Stock,
        files: &BTreeMap<String, Deck>,
    ) -> Result<Stock, Trouble> {
        let shelf = Shelf::new(&rates.dir);
        let mut stock = Stock::default();
        let mut lengths = Vec::new();
        let mut generations = BTreeMap::new();
        let mut pending = None;
        for name in names(routing) {
            lengths.push((name.clone(), shelf.mark(name)));
            if files.contains_key(&**name) {
                continue;
            }
            let history = shelf.history(name)?;
            pending = earliest(pending, history.pending(now).first().map(|(_, from)| *from));
            match history.in_force(now) {
                Some(generation) => drop(generations.insert(name.clone(), generation)),
                None => stock.notes.push(format!("deck `{name}` has no generation in force")),
            }
        }
        let terms = terms(rates, routing);
        stock.origin = Origin {
            key: format!("{terms} {:?}", decks_of(routing, &generations)),
            made_at: now,
            next_change: None,
        };
        stock.made_of = files.is_empty().then(|| (terms, generations.clone()));
        let is_first = earlier.made_of.is_none() && files.is_empty();
        if let Some(kept) =
            is_first.then(|| stock.kept(rates, routing, &generations, now)).flatten()
        {
            let (origin, book) = kept;
            (stock.origin, stock.book) = (origin, Arc::new(book));
        } else if !stock.take_over(&shelf, rates, routing, earlier)? {
            stock.fetch(&shelf, &generations, earlier, files)?;
            let changes = stock.decks.values().map(|(_, deck)| deck.next_change(now));
            stock.origin.next_change = changes.fold(None, earliest);
            stock.book = Arc::new(stock.compile(rates, routing, now)?);
            stock.is_new = files.is_empty();
        }
        stock.next_change = earliest(pending, stock.origin.next_change);
        stock.marks = Some(Marks { shelf, lengths });
        Ok(stock)
    }

    /// Makes the book of an earlier one, when only few decks are others; whether that was possible.
    fn take_over(
        &mut self,
        shelf: &Shelf,
        rates: &Rates,
        routing: &Routing,
        earlier: &Stock,
    ) -> Result<bool, Trouble> {
        let Some(changed) = self.changed_since(earlier, routing) else { return Ok(false) };
        self.decks = earlier.decks.clone();
        self.origin.next_change = earlier.origin.next_change;
        if changed.is_empty() {
            self.book = earlier.book.clone();
            self.resident = earlier.resident.clone();
            return Ok(true);
        }
        for (name, generation) in &changed {
            self.decks.remove(name);
            if let Some(generation) = *generation {
                let deck = Arc::new(shelf.read(name, generation)?);
                let change = deck.next_change(self.origin.made_at);
                self.origin.next_change = earliest(self.origin.next_change, change);
                self.decks.insert(name.clone(), (generation, deck));
            }
        }
        let Book { market, bought, sold } = &*earlier.book;
        let mut book = Book { market: None, bought: bought.clone(), sold: sold.clone() };
        for (name, _) in &changed {
            self.replace(name, rates, routing, (market.as_ref(), &mut book))?;
        }
        book.market = book.market.or_else(|| market.clone());
        self.book = Arc::new(book);
        self.is_new = true;
        Ok(true)
    }

    /// The decks that are others than in `earlier`, if its book can become this one by replacing them.
    fn changed_since(
        &self,
        earlier: &Stock,
        routing: &Routing,
    ) -> Option<Vec<(Box<str>, Option<u32>)>> {
        let now = self.origin.made_at;
        let (terms, generations) = self.made_of.as_ref()?;
        let (before, others) = earlier.made_of.as_ref()?;
        let holds =
            earlier.origin.made_at <= now && earlier.origin.next_change.is_none_or(|at| now < at);
        let market = earlier.book.market.as_ref()?;
        let changed = names(routing).filter(|name| generations.get(*name) != others.get(*name));
        let changed: Vec<_> =
            changed.map(|name| (name.clone(), generations.get(name).copied())).collect();
        let may = holds && !market.is_worn() && terms == before && changed.len() <= MOST_REPLACED;
        may.then_some(changed)
    }

    /// Puts the deck of this name into a book, in place of the one before it. `market` is the one to begin
    /// with while the book has none.
    fn replace(
        &self,
        name: &str,
        rates: &Rates,
        routing: &Routing,
        (market, book): (Option<&Market>, &mut Book),
    ) -> Result<(), Trouble> {
        let (now, nothing) = (self.origin.made_at, Deck::default());
        let reading = self.reading(name, rates, routing, &nothing)?;
        let failed = |why| unmerged(rates, &why);
        for (vendor, edition) in (0u16..).zip(&mut book.bought) {
            let is_it = routing.vendors.get(usize::from(vendor)).is_some_and(|v| *v.name == *name);
            if let Some(market) = book.market.as_ref().or(market).filter(|_| is_it) {
                let next = market.replace(vendor, &reading.entry(), now, routing.call_ms);
                book.market = Some(next.map_err(failed)?);
                *edition = reading.edition.clone();
            }
        }
        let customers = routing.customers.iter().zip(&mut book.sold);
        for (_, place) in customers.filter(|(c, _)| *c.name == *name) {
            let tariff = Tariff::compile(reading.entry(), now, routing.call_ms);
            *place = (reading.edition.clone(), tariff.map_err(failed)?);
        }
        Ok(())
    }

    /// Locks what shards look at in memory, so that no look-up waits for a disk. What cannot be locked is
    /// said, and served all the same.
    pub fn settle(&mut self) {
        if self.resident.is_some() {
            return;
        }
        let sold = self.book.sold.iter().flat_map(|(_, tariff)| tariff.extents());
        let bought = self.book.market.iter().flat_map(|market| market.extents());
        match Resident::hold(bought.chain(sold)) {
            Ok(resident) => self.resident = Some(Arc::new(resident)),
            Err(error) => eprintln!(
                "sbcd: the rates are not locked in memory, and a look-up may wait for a disk: {error}; raise LimitMEMLOCK="
            ),
        }
    }

    /// Bytes of rates that are locked.
    pub fn resident(&self) -> usize {
        self.resident.as_ref().map_or(0, |resident| resident.bytes())
    }

    /// Decks by name: files, those read before, and the rest from the shelf.
    fn fetch(
        &mut self,
        shelf: &Shelf,
        generations: &Generations,
        earlier: &Stock,
        files: &BTreeMap<String, Deck>,
    ) -> Result<(), Trouble> {
        for (name, deck) in files {
            self.decks.insert(name.as_str().into(), (0, Arc::new(deck.clone())));
        }
        for (name, &generation) in generations {
            let deck = match earlier.decks.get(name) {
                Some((same, deck)) if *same == generation => deck.clone(),
                _ => Arc::new(shelf.read(name, generation)?),
            };
            self.decks.insert(name.clone(), (generation, deck));
        }
        Ok(())
    }

    /// The book that was kept, if it is this one.
    fn kept(
        &self,
        rates: &Rates,
        routing: &Routing,
        generations: &Generations,
        now: i64,
    ) -> Option<(Origin, Book)> {
        let names: Vec<&Box<str>> = names(routing).collect();
        kept::read(&rates.dir, &self.origin.key, now, |at, currency| {
            let name = *names.get(at)?;
            let generation = generations.get(name).copied().unwrap_or(0);
            let fx = if generation == 0 { Ratio::ONE } else { rates.fx(currency)? };
            Some(Edition { deck: name.as_bytes().into(), generation, currency, fx })
        })
    }

    /// Keeps the book for the next start, unless it was kept already or has nothing in it.
    pub fn keep(&self) {
        let is_worth_it = self.is_new && !self.decks.is_empty();
        let Some(marks) = self.marks.as_ref().filter(|_| is_worth_it) else { return };
        if let Err(error) = kept::write(marks.shelf.dir(), &self.origin, &self.book) {
            eprintln!(
                "sbcd: the next start reads every deck, because the book cannot be kept: {error}"
            );
        }
    }

    /// How much that is, for operators; `None` for a configuration without vendors and customers.
    pub fn summary(&self) -> Option<String> {
        let market = self.book.market.as_ref()?;
        let (bought, sold) =
            (market.rows(), self.book.sold.iter().map(|(_, t)| t.codes()).sum::<usize>());
        let vendors = self.book.bought.len();
        let bytes = market.bytes() + self.book.sold.iter().map(|(_, t)| t.bytes()).sum::<usize>();
        let parties = vendors + self.book.sold.len();
        (parties > 0).then(|| {
            format!(
                "rates: {bought} rows of {vendors} vendors, {sold} of customers, {} KiB",
                bytes.div_ceil(1024)
            )
        })
    }

    /// Whether something was written about a deck, or a moment has come, since this was read.
    pub fn is_stale(&self, now: i64) -> bool {
        let moved = |marks: &Marks| {
            marks.lengths.iter().any(|(name, length)| marks.shelf.mark(name) != *length)
        };
        self.next_change.is_some_and(|at| at <= now) || self.marks.as_ref().is_some_and(moved)
    }

    fn compile(&mut self, rates: &Rates, routing: &Routing, now: i64) -> Result<Book, Trouble> {
        let nothing = Deck::default();
        let mut readings = Vec::new();
        for name in routing.vendors.iter().map(|v| &v.name) {
            readings.push(self.reading(name, rates, routing, &nothing)?);
        }
        let entries: Vec<Entry> = readings.iter().map(Reading::entry).collect();
        let failed = |why| unmerged(rates, &why);
        let market = Market::compile(&entries, now, routing.call_ms).map_err(failed)?;
        let bought = readings.into_iter().map(|r| r.edition).collect();
        let mut sold = Vec::new();
        for name in routing.customers.iter().map(|c| &c.name) {
            let reading = self.reading(name, rates, routing, &nothing)?;
            let tariff = Tariff::compile(reading.entry(), now, routing.call_ms);
            sold.push((reading.edition, tariff.map_err(failed)?));
        }
        Ok(Book { market: Some(market), bought, sold })
    }

    fn reading<'a>(
        &'a self,
        name: &str,
        rates: &Rates,
        routing: &Routing,
        nothing: &'a Deck,
    ) -> Result<Reading<'a>, Trouble> {
        let (generation, deck) = match self.decks.get(name) {
            Some((generation, deck)) => (*generation, &**deck),
            None => (0, nothing),
        };
        let wrong = |why: String| Trouble::Content(rates.dir.join(name), why);
        let currency = deck.currency;
        // A deck that is not there is in no currency.
        let fx = if deck.is_empty() { Some(Ratio::ONE) } else { rates.fx(currency) };
        let fx = fx.ok_or_else(|| {
            wrong(format!("it is in {currency}: add \"{currency} ...\" to fx in [routing]"))
        })?;
        let numbered = |profile: &str| {
            let (time, origin) = profile.split_once('@').unwrap_or((profile, ""));
            routing.when(time, origin).ok_or_else(|| match routing.when(time, "") {
                None => wrong(format!("it asks for the time `{time}`: add a [[time]] of it")),
                Some(_) => {
                    wrong(format!("it asks for the origin `{origin}`: add an [[origin]] of it"))
                }
            })
        };
        let profiles = deck.profiles().map(numbered).collect::<Result<_, _>>()?;
        let edition = Edition { deck: name.as_bytes().into(), generation, currency, fx };
        Ok(Reading { edition, deck, profiles })
    }
}

/// A deck on its way into the book.
struct Reading<'a> {
    edition: Edition,
    deck: &'a Deck,
    profiles: Vec<u16>,
}

impl Reading<'_> {
    fn entry(&self) -> Entry<'_> {
        Entry { deck: self.deck, fx: self.edition.fx, profiles: &self.profiles }
    }
}

fn unmerged(rates: &Rates, why: &NoMarket) -> Trouble {
    Trouble::Content(rates.dir.clone(), format!("the decks cannot be merged: {why}"))
}

/// Vendors' decks, then customers'.
fn names(routing: &Routing) -> impl Iterator<Item = &Box<str>> {
    let vendors = routing.vendors.iter().map(|v| &v.name);
    vendors.chain(routing.customers.iter().map(|c| &c.name))
}

/// Everything but the decks that decides what a book of one moment has in it, as text.
fn terms(rates: &Rates, routing: &Routing) -> String {
    let names: Vec<_> = names(routing).collect();
    let times: Vec<_> = routing.profiles.iter().map(|p| &p.name).collect();
    let origins: Vec<_> = routing.origins.iter().map(|o| &o.name).collect();
    let vendors = routing.vendors.len();
    format!(
        "{vendors} {names:?} {times:?} {origins:?} {:?} {} {}",
        rates.fx, rates.currency, routing.call_ms
    )
}

/// Every deck with its generation.
fn decks_of<'a>(routing: &Routing, generations: &'a Generations) -> Vec<Option<&'a u32>> {
    names(routing).map(|name| generations.get(name)).collect()
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::io::testing::scratch;
    use routing_trie::deck::{Event, Options, import};

    const CONFIG: &str = include_str!("../../../config/examples/wholesale.toml");

    fn deck(text: &str) -> Deck {
        import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
    }

    fn put(shelf: &Shelf, name: &str, text: &str, from: i64) {
        let generation = shelf.put(name, &deck(text), from).unwrap();
        shelf.append(name, Event::Armed { generation, from }, from).unwrap();
    }

    #[test]
    fn what_is_in_force_is_read_and_changes_are_noticed() {
        let dir = scratch("stock");
        let config = Config::parse("wholesale.toml", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let rates = Rates { dir: dir.clone(), ..config.rates };
        let routing = &config.image.routing;
        let read =
            |now, earlier: &Stock| Stock::read(&rates, routing, now, earlier, &BTreeMap::new());
        let empty = read(0, &Stock::default()).unwrap();
        assert_eq!(empty.notes.len(), routing.vendors.len() + routing.customers.len());
        assert!(!empty.is_stale(i64::MAX));
        let shelf = Shelf::new(&dir);
        put(&shelf, "carrier-a", "code,rate,from\n44,0.01,\n44,0.02,1970-01-02\n", 10);
        assert!(empty.is_stale(10), "something was written");
        let first = read(10, &empty).unwrap();
        assert_eq!(first.book.bought[0].generation, 1);
        assert_eq!(first.book.market.as_ref().map(|m| m.rows()), Some(1));
        let summary = first.summary().unwrap();
        assert!(summary.starts_with("rates: 1 rows of 2 vendors, 0 of customers"), "{summary}");
        assert!(!first.is_stale(86_399) && first.is_stale(86_400), "a date comes");
        put(&shelf, "carrier-a", "code,rate\n44,0.03\n1,0.01\n", 500);
        let same = read(499, &first).unwrap();
        assert!(
            Arc::ptr_eq(&same.decks["carrier-a"].1, &first.decks["carrier-a"].1),
            "not read again"
        );
        assert!(!same.is_stale(499) && same.is_stale(500), "a generation comes");
        assert_eq!(read(500, &same).unwrap().book.market.as_ref().map(|m| m.rows()), Some(2));
    }

    #[test]
    fn a_kept_book_is_used_while_it_is_the_right_one() {
        let dir = scratch("kept");
        let config = Config::parse("wholesale.toml", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let rates = Rates { dir: dir.clone(), ..config.rates };
        let shelf = Shelf::new(&dir);
        put(&shelf, "carrier-a", "code,rate,from\n44,0.01,\n44,0.02,1970-01-02\n", 10);
        put(&shelf, "customer", "code,rate,currency\n44,0.01,EUR\n", 10);
        let read = |rates: &Rates, now| {
            let routing = &config.image.routing;
            Stock::read(rates, routing, now, &Stock::default(), &BTreeMap::new()).unwrap()
        };
        let made = read(&rates, 20);
        assert!(made.is_new);
        made.keep();
        let again = read(&rates, 30);
        assert!(!again.is_new && again.decks.is_empty(), "no deck was read");
        assert_eq!(again.book.market, made.book.market);
        assert_eq!((&again.book.bought, &again.book.sold), (&made.book.bought, &made.book.sold));
        assert!(again.is_stale(86_400) && !again.is_stale(86_399));
        assert!(read(&rates, 86_400).is_new, "a date has come");
        assert!(read(&rates, 5).is_new, "before it was made");
        let dearer = Rates {
            fx: BTreeMap::from([("EUR".parse().unwrap(), "2".parse().unwrap())]),
            ..rates.clone()
        };
        assert!(read(&dearer, 30).is_new, "on other terms");
        let file = dir.join(".book");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(read(&rates, 30).is_new, "damaged");
        put(&shelf, "carrier-b", "code,rate\n44,0.02\n", 25);
        made.keep();
        assert!(read(&rates, 30).is_new, "another deck");
    }

    #[test]
    fn another_deck_takes_the_place_of_one_and_the_rest_stays() {
        let dir = scratch("replaced");
        let config = Config::parse("wholesale.toml", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let rates = Rates { dir: dir.clone(), ..config.rates };
        let routing = &config.image.routing;
        let read = |now, earlier: &Stock| {
            Stock::read(&rates, routing, now, earlier, &BTreeMap::new()).unwrap()
        };
        let shelf = Shelf::new(&dir);
        let many = |cents: u32| -> String {
            (100_000..120_000).map(|code| format!("{code},0.0{}\n", cents + code % 7)).collect()
        };
        put(&shelf, "carrier-a", &format!("code,rate\n{}", many(1)), 10);
        put(&shelf, "carrier-b", "code,rate,from\n1,0.02,\n44,0.03,1970-01-02\n", 10);
        put(&shelf, "customer", "code,rate\n1,0.05\n", 10);
        read(10, &Stock::default()).keep();
        // As after a start: no deck was read, and only the new one is.
        let mut first = read(20, &Stock::default());
        assert!(first.decks.is_empty());
        first.settle();
        assert!(first.resident() > 100_000, "{}", first.resident());
        assert!(Arc::ptr_eq(&read(25, &first).book, &first.book), "nothing is another");
        put(&shelf, "carrier-a", &format!("code,rate\n44,0.01\n{}", many(2)), 30);
        put(&shelf, "customer", "code,rate\n1,0.06\n44,0.09\n", 30);
        let next = read(30, &first);
        assert_eq!(next.decks.keys().map(|k| &**k).collect::<Vec<_>>(), ["carrier-a", "customer"]);
        assert!(next.is_new && next.resident() == 0 && next.is_stale(86_400));
        std::fs::remove_file(dir.join(".book")).unwrap();
        let anew = read(30, &Stock::default());
        assert_eq!((&next.book.bought, &next.book.sold), (&anew.book.bought, &anew.book.sold));
        let told = |stock: &Stock, number: &str| {
            let market = stock.book.market.as_ref().unwrap();
            let list = market.shortlist(number.parse().unwrap());
            list.bids.iter().map(|b| (b.vendor, b.least_nano)).collect::<Vec<_>>()
        };
        for number in ["44123", "100001", "119999123", "15", "2"] {
            assert_eq!(told(&next, number), told(&anew, number), "{number}");
        }
        // A date comes: everything is merged anew.
        assert_eq!(told(&read(86_400, &next), "44123").len(), 2);
        // Back again, and the file written meanwhile is the right one.
        next.keep();
        assert!(read(40, &Stock::default()).decks.is_empty());
    }

    #[test]
    fn a_deck_that_cannot_be_used_says_why() {
        let dir = scratch("unusable");
        let config = Config::parse("wholesale.toml", CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let rates = Rates { dir: dir.clone(), ..config.rates };
        let read = || {
            let routing = &config.image.routing;
            let found = Stock::read(&rates, routing, 10, &Stock::default(), &BTreeMap::new());
            found.map(|_| ()).map_err(|t| t.to_string())
        };
        put(&Shelf::new(&dir), "carrier-a", "code,rate,currency\n44,0.01,CHF\n", 10);
        assert!(read().unwrap_err().contains("CHF"));
        put(&Shelf::new(&dir), "carrier-a", "code,rate,time\n44,0.01,moonshine\n", 10);
        assert!(read().unwrap_err().contains("moonshine"));
    }
}
