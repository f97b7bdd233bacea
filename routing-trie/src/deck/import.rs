//! Decks out of CSV: delimiter sniffed, columns mapped, every bad row reported with its line.
//!
//! What a row says besides its codes is parsed once for each distinct text: a deck has a thousand times
//! more codes than prices. All or nothing, unless asked otherwise.

use super::code::{BadCodes, each};
use super::date::{self, DateOrder};
use super::mapping::{BadMapping, Column, Mapping, Places};
use super::{Deck, MAX_ROWS, Offer, Row, Terms};
use crate::rate::{Rate, Step};
use base::money::{Currency, read_nano};
use core::hash::{BuildHasherDefault, Hasher};
use core::ops::Range;
use csv::ByteRecord;
use jiff::tz::TimeZone;
use std::collections::HashMap;

/// Bad rows that are reported one by one; the others are counted.
pub const MAX_LINE_ERRORS: usize = 1_000;
/// Records between two words about progress.
const RECORDS_BETWEEN: usize = 16_384;
/// Records among which a heading is looked for.
const HEADING_WITHIN: usize = 20;

/// What two rows of one code, time profile and effective date mean.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// A mistake.
    #[default]
    Refuse,
    /// The later one in the file replaces the earlier.
    LatestWins,
}

/// How a file is to be read. What is not said here is found out or is the usual.
#[derive(Clone, Debug)]
pub struct Options {
    /// Between cells; `None` finds out.
    pub delimiter: Option<u8>,
    /// Columns.
    pub mapping: Mapping,
    /// Currency of rows that do not say.
    pub currency: Currency,
    /// Which number of a date is the day.
    pub dates: DateOrder,
    /// Where days begin that carry no offset.
    pub zone: TimeZone,
    /// First interval of rows that do not say, seconds.
    pub first_s: u16,
    /// Next intervals of rows that do not say, seconds.
    pub increment_s: u16,
    /// What becomes of duplicates.
    pub duplicates: Duplicates,
    /// Whether good rows are taken when others are bad.
    pub partial: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            delimiter: None,
            mapping: Mapping::default(),
            currency: Currency::USD,
            dates: DateOrder::Certain,
            zone: TimeZone::UTC,
            first_s: 1,
            increment_s: 1,
            duplicates: Duplicates::Refuse,
            partial: false,
        }
    }
}

/// A row that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl core::fmt::Display for RowError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// Why there is no deck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The columns are not known.
    Mapping(BadMapping),
    /// Rows are bad; how many, and the first [`MAX_LINE_ERRORS`] of them.
    Rows(u64, Vec<RowError>),
    /// There is no row in it.
    Empty,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refused::Mapping(bad) => bad.fmt(f),
            Refused::Rows(count, rows) => {
                rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
                write!(f, "bad rows: {count}; nothing was imported")
            }
            Refused::Empty => f.write_str("there is no row in it"),
        }
    }
}

/// A deck, and what was left out of it by leave of [`Options::partial`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The deck.
    pub deck: Deck,
    /// Rows left out.
    pub left_out: u64,
    /// The first [`MAX_LINE_ERRORS`] of them.
    pub errors: Vec<RowError>,
}

/// Reads a deck.
pub fn import(text: &[u8], options: &Options) -> Result<Imported, Refused> {
    import_with(text, options, |_| {})
}

/// The same, telling now and then how many bytes are read.
pub fn import_with(
    text: &[u8],
    options: &Options,
    mut told: impl FnMut(u64),
) -> Result<Imported, Refused> {
    let (text, skipped) = preamble(text);
    let delimiter = options.delimiter.unwrap_or_else(|| sniff(text));
    let places =
        options.mapping.places(&first_records(text, delimiter)).map_err(Refused::Mapping)?;
    let mut reading = Reading::new(options, &places, delimiter == b';');
    let mut reader = reader(text, delimiter);
    let mut record = ByteRecord::new();
    let mut number = 0;
    loop {
        let at = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                reading.bad(at + skipped, error.to_string());
                continue;
            }
        }
        number += 1;
        if number % RECORDS_BETWEEN == 0 {
            told(reader.position().byte());
        }
        let line = record.position().map_or(at, |p| p.line()) + skipped;
        if number > places.heading && record.iter().any(|cell| !cell.trim_ascii().is_empty()) {
            reading.record(line, &record);
        }
    }
    reading.finish()
}

/// Cuts off a byte-order mark and the `sep=;` line of spreadsheets; says how many lines that were.
fn preamble(text: &[u8]) -> (&[u8], u64) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let end = text.iter().position(|b| *b == b'\n').map_or(text.len(), |n| n + 1);
    match text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"sep=")) {
        true => (&text[end..], 1),
        false => (text, 0),
    }
}

/// The delimiter that most of the first lines have, and have most of.
fn sniff(text: &[u8]) -> u8 {
    let lines = || text.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).take(50);
    let weight = |delimiter: u8| {
        let count = |line: &[u8]| {
            let mut quoted = false;
            line.iter()
                .filter(|b| {
                    quoted ^= **b == b'"';
                    **b == delimiter && !quoted
                })
                .count()
        };
        let counts: Vec<usize> = lines().map(count).collect();
        let usual =
            counts.iter().copied().max_by_key(|n| counts.iter().filter(|m| *m == n).count());
        let usual = usual.unwrap_or(0);
        let same = counts.iter().filter(|n| **n == usual).count();
        if usual == 0 { (0, 0) } else { (same, usual) }
    };
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|d| weight(*d)).unwrap_or(b',')
}

fn reader(text: &[u8], delimiter: u8) -> csv::Reader<&[u8]> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(delimiter).from_reader(text)
}

fn first_records(text: &[u8], delimiter: u8) -> Vec<Vec<String>> {
    let mut reader = reader(text, delimiter);
    let records = reader.byte_records().take(HEADING_WITHIN).filter_map(Result::ok);
    let cells = |r: ByteRecord| r.iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect();
    records.map(cells).collect()
}

/// A quick hash of short texts that the operator chose: no secret, no random source.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&tail]) {
            let mixed = u128::from(self.0 ^ u64::from_le_bytes(*word)) * 0x9e37_79b9_7f4a_7c15;
            self.0 = mixed as u64 ^ (mixed >> 64) as u64;
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type Table<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

struct Reading<'a> {
    options: &'a Options,
    places: &'a Places,
    /// Whether `0,5` is a half: where semicolons are between cells.
    comma_decimals: bool,
    deck: Deck,
    /// Where each row stood.
    lines: Vec<u32>,
    /// Terms by the text of all cells but those of codes.
    known: Table<Box<[u8]>, Range<u32>>,
    names: Table<Box<str>, u32>,
    key: Vec<u8>,
    currency: Option<Currency>,
    bad: u64,
    errors: Vec<RowError>,
}

impl<'a> Reading<'a> {
    fn new(options: &'a Options, places: &'a Places, comma_decimals: bool) -> Self {
        let empty = || vec![Box::<str>::default()];
        let deck = Deck {
            currency: options.currency,
            names: empty(),
            profiles: empty(),
            ..Deck::default()
        };
        Reading {
            options,
            places,
            comma_decimals,
            deck,
            lines: Vec::new(),
            known: Table::default(),
            names: Table::default(),
            key: Vec::new(),
            currency: None,
            bad: 0,
            errors: Vec::new(),
        }
    }

    fn bad(&mut self, line: u64, reason: impl Into<String>) {
        self.bad += 1;
        if self.errors.len() < MAX_LINE_ERRORS {
            self.errors.push(RowError { line, reason: reason.into() });
        }
    }

    fn record(&mut self, line: u64, record: &ByteRecord) {
        let terms = match self.terms(record) {
            Ok(terms) => terms,
            Err(reason) => return self.bad(line, reason),
        };
        let cell = |column| self.places.of(column).and_then(|p| record.get(p)).unwrap_or_default();
        let before = self.deck.rows.len();
        let given = each(cell(Column::Country), cell(Column::Code), |code| {
            for terms in terms.clone() {
                self.deck.rows.push(Row { code, terms });
                self.lines.push(u32::try_from(line).unwrap_or(u32::MAX));
            }
        });
        let full = self.deck.rows.len() > MAX_ROWS;
        if given.is_err() || full {
            self.deck.rows.truncate(before);
            self.lines.truncate(before);
        }
        match given {
            Err(BadCodes::Empty) => self.bad(line, "there is no code in this row"),
            Err(why) => self.bad(line, why.to_string()),
            Ok(()) if full => self.bad(line, format!("a deck has at most {MAX_ROWS} rows")),
            Ok(()) => {}
        }
    }

    /// The terms of a record, parsed unless the same text was before: one, or one for each jurisdiction.
    fn terms(&mut self, record: &ByteRecord) -> Result<Range<u32>, String> {
        let codes = [self.places.of(Column::Code), self.places.of(Column::Country)];
        self.key.clear();
        for (place, cell) in record.iter().enumerate() {
            if !codes.contains(&Some(place)) {
                self.key.extend_from_slice(cell);
            }
            self.key.push(0xff);
        }
        if let Some(known) = self.known.get(self.key.as_slice()) {
            return Ok(known.clone());
        }
        let begin = self.deck.terms.len() as u32;
        let terms = self.parse(record)?;
        self.deck.terms.extend(terms);
        let range = begin..self.deck.terms.len() as u32;
        self.known.insert(self.key.as_slice().into(), range.clone());
        Ok(range)
    }

    fn parse(&mut self, record: &ByteRecord) -> Result<Vec<Terms>, String> {
        let places = self.places;
        let mut cells = [""; Column::NAMES.len()];
        for (name, column, _) in Column::NAMES {
            let Some(cell) = places.of(column).and_then(|p| record.get(p)) else { continue };
            let text = core::str::from_utf8(cell).map_err(|_| format!("`{name}` is not UTF-8"))?;
            cells[column as usize] = text.trim();
        }
        let cell = |column: Column| cells[column as usize];
        self.currency(cell(Column::Currency))?;
        let moment = |column: Column| match cell(column) {
            "" => Ok(None),
            text => date::read(text, self.options.dates, &self.options.zone)
                .map(Some)
                .map_err(|why| format!("`{}` is \"{text}\": {why}", column.name())),
        };
        let (from, until) = (moment(Column::From)?, moment(Column::Until)?);
        if let (Some(from), Some(until)) = (from, until)
            && until <= from
        {
            return Err("it ends before it begins".to_owned());
        }
        let name = self.name(cell(Column::Name));
        let terms = |this: &mut Self, offer, origin: &str| {
            let profile = this.profile(cell(Column::Time), origin)?;
            Ok::<_, String>(Terms { offer, from, until, profile, name })
        };
        if let Some(offer) = status(cell(Column::Status))? {
            return Ok(vec![terms(self, offer, cell(Column::Origin))?]);
        }
        // A row with rates for jurisdictions is a row for each, and one for all the rest if it has that rate.
        let mut made = Vec::new();
        for (column, origin) in [(Column::InterRate, "inter"), (Column::IntraRate, "intra")] {
            if cell(column).is_empty() {
                continue;
            }
            if !cell(Column::Origin).is_empty() {
                return Err(format!("`{}` in a row that has an origin", column.name()));
            }
            let mut of_this = cells;
            of_this[Column::Rate as usize] = cell(column);
            of_this[Column::FirstRate as usize] = "";
            let rate = self.rate(|column| of_this[column as usize])?;
            made.push(terms(self, Offer::Open(rate), origin)?);
        }
        if made.is_empty() || !cell(Column::Rate).is_empty() {
            let rate = self.rate(cell)?;
            made.push(terms(self, Offer::Open(rate), cell(Column::Origin))?);
        }
        Ok(made)
    }

    fn currency(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let found: Currency = text.parse().map_err(|_| format!("`currency` is \"{text}\""))?;
        let deck = *self.currency.get_or_insert(found);
        self.deck.currency = deck;
        if deck == found {
            Ok(())
        } else {
            Err(format!("{found} in a deck of {deck}: one currency a deck"))
        }
    }

    fn rate<'t>(&self, cell: impl Fn(Column) -> &'t str) -> Result<Rate, String> {
        let wrong = |column: Column, what: &str| {
            format!("`{}` is \"{}\", not {what}", column.name(), cell(column))
        };
        let amount = |column: Column| match cell(column) {
            "" => Ok(None),
            text => match self.amount(text) {
                Some(nano) => Ok(Some(nano)),
                None => {
                    Err(wrong(column, "a decimal number with at most nine digits behind the point"))
                }
            },
        };
        let seconds = |column: Column| match cell(column) {
            "" => Ok(None),
            text => match text.parse::<u16>() {
                Ok(seconds) => Ok(Some(seconds)),
                Err(_) => Err(wrong(column, "a number of seconds, 0..=65535")),
            },
        };
        let intervals = match cell(Column::Increment) {
            "" => None,
            text => match intervals(text) {
                Some(both) => Some(both),
                None => {
                    return Err(wrong(Column::Increment, "seconds, like 6, or both, like 30/6"));
                }
            },
        };
        let Some(rate) = amount(Column::Rate)? else {
            return Err("there is no rate in this row".to_owned());
        };
        // An interval alone is the first one too.
        let (first_s, increment_s) =
            intervals.unwrap_or((self.options.first_s, self.options.increment_s));
        let first_s = seconds(Column::First)?.unwrap_or(first_s);
        let rate = Rate {
            connect_fee_nano: amount(Column::ConnectFee)?.unwrap_or(0),
            attempt_fee_nano: amount(Column::AttemptFee)?.unwrap_or(0),
            first: Step {
                nano_per_min: amount(Column::FirstRate)?.unwrap_or(rate),
                increment_s: first_s,
            },
            first_until_s: seconds(Column::FirstUntil)?.unwrap_or(first_s),
            next: Step { nano_per_min: rate, increment_s },
            grace_s: seconds(Column::Grace)?.unwrap_or(0),
        };
        rate.check().map_err(|why| why.to_string())?;
        Ok(rate)
    }

    fn amount(&self, text: &str) -> Option<u64> {
        match self.comma_decimals && !text.contains('.') {
            true => read_nano(&text.replacen(',', ".", 1)).ok(),
            false => read_nano(text).ok(),
        }
    }

    /// A time and an origin are kept as one text: `time@origin`.
    fn profile(&mut self, time: &str, origin: &str) -> Result<u16, String> {
        let (time, origin) = (unmarked(time), unmarked(origin));
        if time.contains('@') || origin.contains('@') {
            return Err("an @ in the name of a time or an origin".to_owned());
        }
        let joined = format!("{time}@{origin}");
        let text = if origin.is_empty() { time } else { &joined };
        let known = self.deck.profiles.iter().position(|p| **p == *text);
        let at = known.unwrap_or_else(|| {
            self.deck.profiles.push(text.into());
            self.deck.profiles.len() - 1
        });
        u16::try_from(at).map_err(|_| "more than 65535 time profiles".to_owned())
    }

    fn name(&mut self, text: &str) -> u32 {
        let text = unmarked(text);
        if text.is_empty() {
            return 0;
        }
        if let Some(&known) = self.names.get(text) {
            return known;
        }
        let at = self.deck.names.len() as u32;
        self.deck.names.push(text.into());
        self.names.insert(text.into(), at);
        at
    }

    fn finish(mut self) -> Result<Imported, Refused> {
        self.sort_profiles();
        self.settle_duplicates();
        self.errors.sort_by_key(|e| e.line);
        if self.bad > 0 && !self.options.partial {
            return Err(Refused::Rows(self.bad, self.errors));
        }
        if self.deck.rows.is_empty() {
            return Err(Refused::Empty);
        }
        Ok(Imported { deck: self.deck, left_out: self.bad, errors: self.errors })
    }

    /// Time profiles by name, whatever the order of the rows that brought them.
    fn sort_profiles(&mut self) {
        let mut order: Vec<usize> = (0..self.deck.profiles.len()).collect();
        order.sort_by_key(|at| &self.deck.profiles[*at]);
        let place = |old: u16| order.iter().position(|at| *at == usize::from(old)).unwrap_or(0);
        self.deck.terms.iter_mut().for_each(|terms| terms.profile = place(terms.profile) as u16);
        self.deck.profiles.sort_unstable();
    }

    /// Sorts the rows, and finds those that speak of the same code, profile and beginning.
    fn settle_duplicates(&mut self) {
        let mut rows: Vec<(Row, u32)> = core::mem::take(&mut self.deck.rows)
            .into_iter()
            .zip(self.lines.iter().copied())
            .collect();
        let terms = &self.deck.terms;
        let place = |row: &Row| {
            let t = terms.get(row.terms as usize);
            (row.code, t.map(|t| (t.profile, t.from)))
        };
        // By code first: that settles nearly every comparison without a look at the terms.
        rows.sort_unstable_by(|(a, la), (b, lb)| {
            a.code.cmp(&b.code).then_with(|| place(a).cmp(&place(b))).then(la.cmp(lb))
        });
        let mut twice = Vec::new();
        let mut kept: Vec<(Row, u32)> = Vec::with_capacity(rows.len());
        for (row, line) in rows {
            match kept.last_mut() {
                Some(last) if last.0.code == row.code && place(&last.0) == place(&row) => {
                    twice.push((u64::from(line), u64::from(last.1), row.code));
                    *last = (row, line);
                }
                _ => kept.push((row, line)),
            }
        }
        if self.options.duplicates == Duplicates::Refuse {
            for (line, earlier, code) in twice {
                self.bad(
                    line,
                    format!("code {code} stands in line {earlier} already, with the same date"),
                );
            }
        }
        self.deck.rows = kept.into_iter().map(|(row, _)| row).collect();
    }
}

/// Without what an export puts before a text that a spreadsheet would compute.
fn unmarked(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if super::export::is_formula(rest) => rest,
        _ => text,
    }
}

/// What a status cell says: `None` for an open row.
fn status(text: &str) -> Result<Option<Offer>, String> {
    const OPEN: [&str; 14] = [
        "",
        "open",
        "new",
        "increase",
        "increased",
        "decrease",
        "decreased",
        "same",
        "unchanged",
        "current",
        "no change",
        "active",
        "changed",
        "change",
    ];
    const CLOSED: [&str; 7] =
        ["closed", "close", "delete", "deleted", "removed", "withdrawn", "expired"];
    let is = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is(&OPEN) {
        Ok(None)
    } else if is(&CLOSED) {
        Ok(Some(Offer::Closed))
    } else if is(&["blocked", "block"]) {
        Ok(Some(Offer::Blocked))
    } else {
        Err(format!("`status` is \"{text}\": write open, closed or blocked"))
    }
}

fn intervals(text: &str) -> Option<(u16, u16)> {
    let mut parts = text.split(['/', '+', '-']).map(|p| p.trim().parse::<u16>().ok());
    let (first, next) = (parts.next()??, parts.next());
    parts.next().is_none().then_some(())?;
    Some((first, next.unwrap_or(Some(first))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Imported, Refused> {
        import(text.as_bytes(), &Options::default())
    }

    fn rates(deck: &Deck) -> Vec<(String, u64)> {
        let nano = |o: &Offer| match o {
            Offer::Open(rate) => rate.next.nano_per_min,
            Offer::Closed | Offer::Blocked => 0,
        };
        deck.rows().map(|(c, t)| (c.to_string(), nano(&t.offer))).collect()
    }

    #[test]
    fn delimiters_titles_marks_and_commas() {
        let files = [
            "code,rate\n44,0.5\n1,0.25\n",
            "\u{feff}Prefix;Price\n44;0,5\n1;0,25\n",
            "sep=;\nprefix;price\n44;0.5\n1;0.25\n",
            "Carrier A rates\n\nDial code\tRate/min\tName\n44\t0.5\t\"UK\tmobile\"\n1\t0.25\tUSA\n",
            "\"code\"|\"rate\"\n\"44\"|0.5\n+1|0.25\n",
        ];
        for text in files {
            let deck = read(text).unwrap_or_else(|e| panic!("{text}: {e}")).deck;
            assert_eq!(
                rates(&deck),
                [("1".into(), 250_000_000), ("44".into(), 500_000_000)],
                "{text}"
            );
        }
    }

    #[test]
    fn every_bad_row_is_named_with_its_line() {
        let text = "code,rate,first_s,from,status\n44,x,,,\n,1,,,\n4a,1,,,\n1,1,0,,\n1,1,,03/04/2026,\n1,1,,,maybe\n2,,,,\n7,1,,,\n7,2,,,\n";
        let Err(Refused::Rows(count, errors)) = read(text) else { panic!("it was taken") };
        let lines: Vec<u64> = errors.iter().map(|e| e.line).collect();
        assert_eq!((count, lines), (8, vec![2, 3, 4, 5, 6, 7, 8, 10]));
        assert!(errors[7].reason.contains("line 9"), "{}", errors[7]);
        let partial = Options { partial: true, ..Options::default() };
        let taken = import(text.as_bytes(), &partial).unwrap();
        assert_eq!((taken.deck.len(), taken.left_out), (1, 8));
        let latest = Options { duplicates: Duplicates::LatestWins, ..partial };
        let deck = import(text.as_bytes(), &latest).unwrap().deck;
        assert_eq!(rates(&deck), [("7".into(), 2_000_000_000)]);
    }

    #[test]
    fn errors_are_listed_up_to_a_bound_and_counted_beyond() {
        let rows = |n: usize| format!("code,rate\n{}", "x,1\n".repeat(n));
        for (n, listed) in
            [(MAX_LINE_ERRORS, MAX_LINE_ERRORS), (MAX_LINE_ERRORS + 1, MAX_LINE_ERRORS)]
        {
            let Err(Refused::Rows(count, errors)) = read(&rows(n)) else { panic!("it was taken") };
            assert_eq!((count, errors.len()), (n as u64, listed));
        }
    }

    #[test]
    fn increments_fees_and_currency() {
        let text =
            "code,rate,billing increment,connect_fee,currency\n44,1,30/6,0.01,EUR\n1,1,60,,eur\n";
        let deck = read(text).unwrap().deck;
        assert_eq!(deck.currency.as_str(), "EUR");
        let offers: Vec<_> = deck.rows().map(|(_, t)| t.offer).collect();
        let plain = Rate::plain(1_000_000_000, 60, 60);
        assert_eq!(offers[0], Offer::Open(plain));
        let fee = Rate { connect_fee_nano: 10_000_000, ..Rate::plain(1_000_000_000, 30, 6) };
        assert_eq!(offers[1], Offer::Open(fee));
        let mixed = read("code,rate,currency\n44,1,EUR\n1,1,USD\n");
        assert!(matches!(mixed, Err(Refused::Rows(1, _))));
    }

    #[test]
    fn nothing_is_not_a_deck() {
        assert_eq!(read("code,rate\n"), Err(Refused::Empty));
        assert_eq!(read(""), Err(Refused::Mapping(BadMapping::Missing(Column::Code))));
        assert!(matches!(read("hello\nworld\n"), Err(Refused::Mapping(_))));
    }

    #[test]
    fn what_is_in_force_follows_the_dates() {
        let text = "code,rate,from,until,status,time\n44,1,,,,\n44,2,2026-01-01,2026-03-01,,\n44,9,,,,peak\n\
                    447,5,,,,\n447,,2026-02-01,,closed,\n447,,2026-04-01,,blocked,\n";
        let deck = read(text).unwrap().deck;
        let at = |day: &str| date::read(day, DateOrder::Certain, &TimeZone::UTC).unwrap();
        let offers = |number: &str, day: &str| {
            let found = deck.lookup(super::super::Code::parse(number.as_bytes()).unwrap(), at(day));
            let nano = |t: &&Terms| match t.offer {
                Offer::Open(rate) => rate.next.nano_per_min / 1_000_000_000,
                Offer::Closed => 77,
                Offer::Blocked => 0,
            };
            found
                .map(|(code, terms)| (code.to_string(), terms.iter().map(nano).collect::<Vec<_>>()))
        };
        assert_eq!(offers("447", "2025-12-31"), Some(("447".into(), vec![5])));
        assert_eq!(offers("4411", "2025-12-31"), Some(("44".into(), vec![1, 9])));
        assert_eq!(offers("4411", "2026-02-01"), Some(("44".into(), vec![2, 9])));
        assert_eq!(
            offers("447", "2026-02-01"),
            Some(("44".into(), vec![2, 9])),
            "closed: the shorter code"
        );
        assert_eq!(offers("4411", "2026-03-01"), Some(("44".into(), vec![9])), "ended");
        assert_eq!(offers("447", "2026-04-01"), Some(("447".into(), vec![0])), "blocked");
        assert_eq!(offers("1", "2026-04-01"), None);
        assert_eq!(deck.next_change(at("2026-01-01")), Some(at("2026-02-01")));
        assert_eq!(deck.next_change(at("2026-04-01")), None);
    }

    #[test]
    fn jurisdictions_are_columns_or_rows() {
        let said = |text: &str| {
            let deck =
                import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck;
            let row = |(code, terms): (super::super::Code, &Terms)| match terms.offer {
                Offer::Open(rate) => {
                    format!("{code} {} {}", deck.profile(terms), rate.next.nano_per_min / 1_000_000)
                }
                Offer::Closed | Offer::Blocked => format!("{code} {} -", deck.profile(terms)),
            };
            deck.rows().map(row).collect::<Vec<_>>()
        };
        let text =
            "prefix,interstate,intrastate,rate\n1212555,0.002,0.004,0.005\n1415,,0.003,0.001\n";
        let expected =
            ["1212555  5", "1212555 @inter 2", "1212555 @intra 4", "1415  1", "1415 @intra 3"];
        assert_eq!(said(text), expected);
        let rows = "code,rate,origin,time\n44,0.01,,\n44,0.03,eu,peak\n44,0.02,eu,\n";
        assert_eq!(said(rows), ["44  10", "44 @eu 20", "44 peak@eu 30"]);
        assert_eq!(said("prefix,inter,intra\n1,0.002,0.004\n"), ["1 @inter 2", "1 @intra 4"]);
        let wrong =
            |text: &str| import(text.as_bytes(), &Options::default()).unwrap_err().to_string();
        assert!(wrong("code,rate,origin,intra\n1,1,eu,1\n").contains("origin"));
        assert!(wrong("code,rate,time\n1,1,a@b\n").contains('@'));
    }
}
