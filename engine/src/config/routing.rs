//! `[routing]`, `[[time]]`, `[[vendor]]`, `[[customer]]`: what plans are made of, rates apart.
//!
//! Rates are no configuration: they are decks, kept in a directory and read when they come into force.

use super::names;
use super::read::{At, Report, Section, quoted};
use super::report::Problem;
use super::trunk;
use base::money::{Currency, Ratio, Rounding};
use routing_trie::calendar::{Latest, OnHolidays, Profile, day, zone};
use routing_trie::{Builder, Digits, Image as Trie};
use sbc::policy::plan::{Customer, JURISDICTIONS, MAX_PARENTS, Origin, Porting, Vendor};
use sbc::quality::Destinations;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where decks are and what their money is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Directory of decks.
    pub dir: PathBuf,
    /// Units of the common currency for one of another.
    pub fx: BTreeMap<Currency, Ratio>,
    /// The common currency.
    pub currency: Currency,
    /// Duration calls are compared at, milliseconds.
    pub call_ms: u64,
    /// Digits behind the point of amounts.
    pub places: u8,
    /// What becomes of the rest.
    pub rounding: Rounding,
    /// How far back the quality of trunks is looked at.
    pub quality_window: Duration,
    /// Which numbers belong to which region.
    pub regions: Option<PathBuf>,
}

impl Rates {
    /// What one unit of a currency is worth in the common one.
    pub fn fx(&self, currency: Currency) -> Option<Ratio> {
        if currency == self.currency { Some(Ratio::ONE) } else { self.fx.get(&currency).copied() }
    }
}

/// Reads `[routing]`; decks are in `decks` under the run directory unless it says otherwise.
pub(super) fn read_rates(
    mut s: Section<'_>,
    run_dir: &std::path::Path,
    report: &mut Report,
) -> Rates {
    let dir = s.text(report, "decks").map(|d| PathBuf::from(d.value));
    let currency = s.parsed(report, "currency", "three letters, like \"USD\"", |t| t.parse().ok());
    let currency = currency.map_or(Currency::USD, |c| c.value);
    let what = "a currency and what one of it is worth, like \"EUR 1.0842\"";
    let listed = s.parsed_list(report, "fx", what, worth).unwrap_or_default();
    let mut fx = BTreeMap::new();
    for at in listed {
        let (other, ratio) = at.value;
        if other == currency || fx.insert(other, ratio).is_some() {
            let message = format!("{other} has its worth already");
            report.push(Problem::new(at.span, message).expected("each other currency once"));
        }
    }
    let rates = Rates {
        dir: dir.unwrap_or_else(|| run_dir.join("decks")),
        fx,
        currency,
        call_ms: 1_000 * s.number::<u64>(report, "expected_call_s", 1..=86_400, 180),
        places: s.number(report, "places", 0..=9, 6),
        rounding: s.choice(report, "rounding", &Rounding::NAMES).unwrap_or_default(),
        regions: s.text(report, "regions").map(|f| PathBuf::from(f.value)),
        quality_window: Duration::from_secs(s.number(report, "quality_window_s", 60..=86_400, 900)),
    };
    s.finish(report);
    rates
}

fn worth(text: &str) -> Option<(Currency, Ratio)> {
    let (currency, ratio) = text.split_once(' ')?;
    Some((currency.parse().ok()?, ratio.trim().parse().ok()?))
}

/// A time profile as written.
pub(super) struct Time {
    pub(super) name: Option<At<Box<str>>>,
    profile: Option<Profile>,
}

/// A group of calling numbers as written: one of those rows of decks may ask for.
pub(super) struct Origins(pub(super) Vec<Destination>);

impl Origins {
    pub(super) fn compile(&self) -> Option<Vec<Origin>> {
        let origin = |d: &Destination| {
            let (name, calling) = d.compile()?;
            Some(Origin { name, calling })
        };
        self.0.iter().map(origin).collect()
    }

    pub(super) fn check(&self, report: &mut Report) {
        let named = self.0.iter().filter_map(|o| o.name.as_ref());
        super::check::duplicates(named.clone(), "origin", report);
        for name in named.filter(|n| JURISDICTIONS.contains(&&*n.value)) {
            let message = format!("`{}` is a jurisdiction, not a name for an origin", name.value);
            report.push(Problem::new(name.span.clone(), message).expected("another name"));
        }
    }
}

/// Who is asked about ported numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A service: `http://host:port/path?n={number}`.
    Service(Box<str>),
    /// A file: lines of `number,routing number`.
    File(PathBuf),
}

/// `[porting]`, but for what shards decide by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dips {
    /// Whom; `None` when nobody is to be asked.
    pub asked: Option<Asked>,
    /// How long an answer holds, seconds.
    pub ttl_s: u32,
}

/// Reads `[porting]`; no policy when nobody is to be asked.
pub(super) fn read_porting(mut s: Section<'_>, report: &mut Report) -> (Dips, Option<Porting>) {
    let what = "a file, or a service like \"http://127.0.0.1:8080/lnp?number={number}\"";
    let asked = s.parsed(report, "ask", what, |text| match text.strip_prefix("http://") {
        None => (!text.is_empty() && !text.contains("://")).then(|| Asked::File(text.into())),
        Some(rest) => {
            let is_good = !rest.starts_with('/') && rest.contains("{number}") && text.is_ascii();
            is_good.then(|| Asked::Service(text.into()))
        }
    });
    let called = s.parsed_list(report, "called", "digits without +, like \"1\"", names::digits);
    let ttl_s = s.number(report, "ttl_s", 1..=604_800, 3_600);
    let words = [("as_dialled", false), ("refuse", true)];
    let strict = s.choice(report, "on_silence", &words).unwrap_or(false);
    for key in ["called", "ttl_s", "on_silence"].into_iter().filter(|_| !s.has("ask")) {
        if s.has(key) {
            let problem = Problem::new(s.place(key), format!("`{key}` without `ask`"));
            report.push(problem.expected(what));
        }
    }
    let called = called.unwrap_or_default().into_iter().map(|c| c.value).collect();
    s.finish(report);
    let asked = asked.map(|a| a.value);
    let porting = asked.is_some().then_some(Porting { called, strict });
    (Dips { asked, ttl_s }, porting)
}

/// Reads the table of regions: lines of `prefix,region`.
pub(super) fn regions(path: &std::path::Path) -> Result<Trie, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let (mut builder, mut known) = (Builder::new(), BTreeMap::new());
    for (line, row) in (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let wrong = |why: &str| failed(&format!("line {line}: {why}"));
        let (prefix, region) = row.split_once(',').ok_or_else(|| wrong("not prefix,region"))?;
        let prefix: Digits = match prefix.trim().parse() {
            Ok(prefix) => prefix,
            Err(_) if line == 1 => continue, // A heading.
            Err(e) => return Err(wrong(&e.to_string())),
        };
        let next = known.len() as u32;
        let region = *known.entry(region.trim()).or_insert(next);
        builder.insert(prefix, region).map_err(|_| wrong("this prefix stands there already"))?;
    }
    Ok(builder.build())
}

/// A group of called numbers as written.
pub(super) struct Destination {
    pub(super) name: Option<At<Box<str>>>,
    pub(super) codes: Vec<At<Digits>>,
}

impl Destination {
    /// `key`: where its codes stand.
    pub(super) fn read(
        mut section: Section<'_>,
        key: &'static str,
        report: &mut Report,
    ) -> Destination {
        let s = &mut section;
        let name = s.parsed(report, "name", names::NAME, names::name);
        let codes = s.parsed_list(report, key, "digits without +, like \"44\"", names::digits);
        if name.is_none() {
            section.missing(report, "name", "a name it is called by", "\"uk-mobile\"");
        }
        if !section.has_entries(key) || !section.has(key) {
            section.missing(report, key, "what its numbers begin with", "[\"447\"]");
        }
        section.finish(report);
        Destination { name, codes: codes.unwrap_or_default() }
    }

    pub(super) fn compile(&self) -> Option<(Box<str>, Vec<Digits>)> {
        let codes = self.codes.iter().map(|c| c.value).collect();
        Some((self.name.as_ref()?.value.clone(), codes))
    }
}

/// Each name and each code once, and no more groups than there may be.
pub(super) fn check_destinations(destinations: &[Destination], report: &mut Report) {
    let named = destinations.iter().filter_map(|d| d.name.as_ref());
    super::check::duplicates(named.clone(), "destination", report);
    if let Some(surplus) = named.clone().nth(Destinations::MOST - 1) {
        let message = format!("there are {} destinations", named.count());
        let most = format!("at most {}", Destinations::MOST - 1);
        report.push(Problem::new(surplus.span.clone(), message).expected(most));
    }
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for destination in destinations {
        let label = destination.name.as_ref().map_or("?", |n| &n.value);
        for code in &destination.codes {
            if let Some(other) = taken.insert(code.value.to_string(), label) {
                let message = format!("{} is a code of `{other}` already", code.value);
                report.push(Problem::new(code.span.clone(), message).expected("each code once"));
            }
        }
    }
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Time {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Time {
        let s = &mut section;
        let name = s.parsed(report, "name", names::NAME, names::name);
        let known = s.parsed(report, "zone", "a time zone, like \"Europe/Berlin\"", zone);
        let weekday = |text: &str| WEEKDAYS.iter().position(|w| *w == text);
        let days = s.parsed_list(report, "weekdays", &quoted(WEEKDAYS.into_iter(), "or"), weekday);
        let hours = s.parsed_list(report, "hours", "like \"08:00-18:00\"", span);
        let holidays = s.parsed_list(report, "holidays", "a day, like \"2026-12-25\"", day);
        let words = [("never", OnHolidays::Never), ("all_day", OnHolidays::AllDay)];
        let on_holidays = s.choice(report, "on_holidays", &words).unwrap_or_default();
        if name.is_none() {
            section.missing(report, "name", "a name rules and decks refer to", "\"peak\"");
        }
        if known.is_none() {
            section.missing(report, "zone", "whose clocks count", "\"UTC\"");
        }
        section.finish(report);
        let weekdays = days.map_or(0x7f, |d| d.iter().fold(0, |bits, at| bits | 1u8 << at.value));
        let mut holidays: Vec<_> =
            holidays.unwrap_or_default().into_iter().map(|h| h.value).collect();
        holidays.sort_unstable();
        let profile = name.as_ref().zip(known).map(|(name, zone)| Profile {
            name: name.value.clone(),
            zone: zone.value,
            weekdays,
            spans: hours.unwrap_or_default().into_iter().map(|h| h.value).collect(),
            holidays,
            on_holidays,
            latest: Latest::default(),
        });
        Time { name, profile }
    }

    pub(super) fn compile(&self) -> Option<Profile> {
        self.profile.clone()
    }
}

/// Minutes of the day of `22:00-06:00`.
fn span(text: &str) -> Option<(u16, u16)> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
        let within = minute < 60 && hour * 60 + minute <= 1_440 && hour <= 24;
        within.then_some(hour * 60 + minute)
    };
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minute(from)?, minute(until)?);
    (from < 1_440).then_some((from, until))
}

/// A vendor or a customer as written: a deck and trunks.
pub(super) struct Party {
    pub(super) name: Option<At<Box<str>>>,
    pub(super) trunks: Vec<At<String>>,
    /// Ingress trunks that may use a vendor.
    pub(super) only_for: Vec<At<String>>,
    /// Another customer.
    pub(super) parent: Option<At<String>>,
}

fn texts(s: &mut Section<'_>, report: &mut Report, key: &'static str) -> Option<Vec<At<String>>> {
    s.parsed_list(report, key, "the name of a [[trunk]]", |t| Some(t.to_owned()))
}

impl Party {
    pub(super) fn vendor(mut section: Section<'_>, report: &mut Report) -> Party {
        let s = &mut section;
        let name = s.parsed(report, "name", names::NAME, names::name);
        let trunks = texts(s, report, "trunks");
        let only_for = texts(s, report, "only_for").unwrap_or_default();
        if name.is_none() {
            section.missing(report, "name", "the name of its deck", "\"carrier-a\"");
        }
        section.finish(report);
        // A vendor with one trunk is usually called like it.
        let own = |n: &At<Box<str>>| At { value: n.value.to_string(), span: n.span.clone() };
        let trunks = trunks.unwrap_or_else(|| name.iter().map(own).collect());
        Party { name, trunks, only_for, parent: None }
    }

    pub(super) fn customer(mut section: Section<'_>, report: &mut Report) -> Party {
        let s = &mut section;
        let name = s.parsed(report, "name", names::NAME, names::name);
        let trunks = texts(s, report, "trunks").unwrap_or_default();
        let parent = s.text(report, "parent");
        if name.is_none() {
            section.missing(report, "name", "the name of its deck", "\"retail\"");
        }
        section.finish(report);
        Party { name, trunks, only_for: Vec::new(), parent }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|n| *n.value == *name)
    }

    pub(super) fn as_vendor(&self, trunk: impl Fn(&str) -> Option<u16>) -> Option<Vendor> {
        let known = |names: &[At<String>]| names.iter().filter_map(|n| trunk(&n.value)).collect();
        let name = self.name.as_ref()?.value.clone();
        Some(Vendor { name, trunks: known(&self.trunks), only_for: known(&self.only_for) })
    }

    pub(super) fn has_trunk(&self, name: &str) -> bool {
        self.trunks.iter().any(|trunk| trunk.value == name)
    }

    pub(super) fn as_customer(&self, customer: impl Fn(&str) -> Option<u16>) -> Option<Customer> {
        Some(Customer {
            name: self.name.as_ref()?.value.clone(),
            parent: self.parent.as_ref().and_then(|p| customer(&p.value)),
        })
    }
}

/// Says that a name is not one of those there are.
pub(super) fn unknown<'a>(
    what: &str,
    found: &At<String>,
    names: impl Iterator<Item = &'a str> + Clone,
    report: &mut Report,
) {
    let problem = Problem::new(found.span.clone(), format!("there is no {what} `{}`", found.value));
    let expected = match names.clone().next() {
        Some(_) => quoted(names.clone(), "or"),
        None => format!("the name of a [[{what}]]; there is none"),
    };
    report.push(problem.expected(expected).did_you_mean(&found.value, names));
}

/// Vendors and customers with their trunks and each other.
pub(super) fn check(
    vendors: &[Party],
    customers: &[Party],
    trunks: &[trunk::Draft],
    report: &mut Report,
) {
    for (what, parties) in [("vendor", vendors), ("customer", customers)] {
        super::check::duplicates(parties.iter().filter_map(|p| p.name.as_ref()), what, report);
        for name in parties.iter().flat_map(|p| p.trunks.iter().chain(&p.only_for)) {
            if !trunks.iter().any(|t| t.is_named(&name.value)) {
                let names = trunks.iter().filter_map(|t| t.name.as_ref()).map(|n| &*n.value);
                unknown("trunk", name, names, report);
            }
        }
    }
    for name in vendors.iter().flat_map(|v| &v.trunks) {
        let trunk = trunks.iter().find(|t| t.is_named(&name.value));
        if trunk.is_some_and(|t| !t.has_endpoints) {
            let message = format!("the trunk `{}` has no endpoints to send calls to", name.value);
            report
                .push(Problem::new(name.span.clone(), message).expected("a trunk with endpoints"));
        }
    }
    let mut sold: BTreeMap<&str, &str> = BTreeMap::new();
    for customer in customers {
        let label = customer.name.as_ref().map_or("?", |n| &n.value);
        for trunk in &customer.trunks {
            if let Some(other) = sold.insert(&trunk.value, label) {
                let message = format!("calls of `{}` are sold to `{other}` already", trunk.value);
                report.push(
                    Problem::new(trunk.span.clone(), message).expected("one customer a trunk"),
                );
            }
        }
        parents(customer, customers, report);
    }
}

fn parents(customer: &Party, customers: &[Party], report: &mut Report) {
    let Some(first) = &customer.parent else { return };
    let find = |name: &str| customers.iter().find(|c| c.is_named(name));
    if find(&first.value).is_none() {
        let names = customers.iter().filter_map(|c| c.name.as_ref()).map(|n| &*n.value);
        return unknown("customer", first, names, report);
    }
    let chain = std::iter::successors(Some(customer), |c| find(&c.parent.as_ref()?.value));
    if chain.take(MAX_PARENTS + 2).count() > MAX_PARENTS + 1 {
        let message = format!("`parent` leads on to more than {MAX_PARENTS} decks, or in a circle");
        report
            .push(Problem::new(first.span.clone(), message).expected("a shorter line of parents"));
    }
}
