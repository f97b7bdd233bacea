//! What a decision says about itself. The same code runs whoever listens: nobody, a call that keeps its
//! reasons, or an operator who wants every vendor looked at.
//!
//! What is heard are steps, small and without text; a [`Record`] has them with the names they meant, so that
//! it can be read after the configuration has changed.

use super::packed::{Packed, STEP, Subject};
use super::{JURISDICTIONS, Routing};
use crate::policy::Image;
use crate::quality::Measure;
use crate::refusal::Refusal;
use base::cases;
use base::money::{Currency, Decimal, NANO_PLACES};
use base::record::{Plain, Unreadable};
use core::fmt;
use routing_trie::Digits;
use std::sync::Arc;

/// Version of a record's layout.
const VERSION: u16 = 4;
/// Room for a name, mostly.
const ROOM: usize = 24;
/// The most steps a call keeps.
const MOST: usize = 96;

cases! {
    /// Why a vendor is not tried.
    pub enum Lost {
        /// It carries the number at no rate at this time, from this caller.
        NoRate = "no rate at this time",
        /// The rule names other vendors.
        NotInRule = "not in the rule",
        /// The rule leaves it out.
        Excepted = "left out by the rule",
        /// It is for other trunks.
        Exclusive = "reserved for other trunks",
        /// Its only trunk is the one the call came from.
        WayBack = "the call came from there",
        /// No trunk of its is sent such numbers.
        Barred = "its trunks are not sent such numbers",
        /// All its trunks are full.
        Full = "its trunks are full",
        /// All its trunks have as many new calls as they take.
        Fast = "its trunks take no more calls this second",
        /// Its trunks carry such calls worse than the rule asks, for certain.
        Poor = "carries such calls worse than asked for",
        /// It costs more than the price allows.
        Unprofitable = "costs more than the price allows",
        /// Enough others come first.
        Outbid = "others come first",
        /// None of its trunks' endpoints answers OPTIONS.
        Down = "its trunks are down",
    }
}

cases! {
    /// Why a rule is not for a call.
    pub enum Unfit {
        /// It names other trunks.
        Trunk = "for other trunks",
        /// It names other called numbers.
        Called = "for other called numbers",
        /// It names other calling numbers.
        Calling = "for other calling numbers",
        /// It names another time.
        Time = "for another time",
    }
}

/// One thing a decision found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The trunk a call came from and what it carries.
    Trunk {
        /// Its index.
        trunk: u16,
        /// Calls on it now.
        calls: u32,
        /// The most there may be.
        capacity: u32,
        /// New calls a second there may be.
        cps: u32,
    },
    /// The numbers as they are routed: see [`Numbers`].
    Number,
    /// The route whose prefix is so many digits of the called number.
    Route {
        /// Length of the prefix.
        depth: u8,
        /// It leads to a plan.
        planned: bool,
    },
    /// The called number was asked for: whether it was ported; `None` when nobody answered.
    Ported {
        /// To the number in [`Numbers`].
        ported: Option<bool>,
    },
    /// The trunk's own word on the same, which is believed.
    Told {
        /// To the number in [`Numbers`].
        ported: bool,
    },
    /// Both numbers belong to one region, to two, or one of them to none: place in the jurisdictions, from 1.
    Jurisdiction {
        /// The place.
        place: u8,
    },
    /// A rule, from 1, and why it does not fit; `None` for the one that decides.
    Rule {
        /// Index of the plan.
        plan: u16,
        /// Place in it, from 1.
        rule: u16,
        /// What is in the way.
        unfit: Option<Unfit>,
    },
    /// What the customer pays for the expected call.
    Price {
        /// Index of the customer.
        customer: u16,
        /// Length of the code.
        depth: u8,
        /// Nano of the common currency.
        nano: u64,
    },
    /// The call is sold to nobody.
    Unsold,
    /// What a vendor may cost; `None` when the price leaves nothing.
    Guard {
        /// Nano of the common currency.
        ceiling: Option<u64>,
    },
    /// What was measured of a trunk whose calls are worse than asked for.
    Measured {
        /// Index of the trunk.
        trunk: u16,
        /// What.
        measure: Measure,
        /// In the measure's units.
        value: u32,
        /// Of so many calls.
        calls: u32,
    },
    /// A vendor that was looked at.
    Vendor {
        /// Its index.
        vendor: u16,
        /// Length of its code, when that was looked at.
        depth: Option<u8>,
        /// What the expected call costs, at the rate that holds now.
        nano: Option<u64>,
        /// Why it is not tried; `None` when it may be.
        lost: Option<Lost>,
        /// It would be lost, but this call is one of those that find out how it does now.
        probe: bool,
    },
    /// The place of a vendor in the order, from 1.
    Place {
        /// Its index.
        vendor: u16,
        /// The place.
        place: u16,
        /// What the expected call costs.
        nano: u64,
        /// Enough others come first.
        outbid: bool,
    },
    /// Every vendor that is left is down, and chosen from all the same.
    LastResort,
    /// The call is refused.
    Refused {
        /// Why.
        why: Refusal,
    },
}

/// The numbers of a call as they are routed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The called number, international.
    pub called: Digits,
    /// The calling number, international; empty when it is none.
    pub calling: Digits,
    /// The number that rates go by: where the called one was ported to, else itself.
    pub routed: Digits,
}

/// Hears what a decision does.
pub trait Sink {
    /// Whether it listens.
    const LISTENS: bool;
    /// Whether every vendor is looked at, not only those that could win.
    const ALL: bool;
    /// Takes a step.
    fn step(&mut self, step: Step);
    /// Takes the numbers.
    fn numbers(&mut self, numbers: Numbers);
}

/// Nobody listens.
#[derive(Copy, Clone, Debug, Default)]
pub struct NoTrace;

impl Sink for NoTrace {
    const LISTENS: bool = false;
    const ALL: bool = false;
    #[inline]
    fn step(&mut self, _: Step) {}
    #[inline]
    fn numbers(&mut self, _: Numbers) {}
}

/// What was heard. With `ALL` every vendor is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard<const ALL: bool> {
    /// The numbers.
    pub numbers: Numbers,
    /// The steps, in order, as they are written.
    steps: Vec<u8>,
}

/// What a call keeps of its decision.
pub type Kept = Heard<false>;
/// Everything, for an operator who asks.
pub type Trace = Heard<true>;

impl<const ALL: bool> Sink for Heard<ALL> {
    const LISTENS: bool = true;
    const ALL: bool = ALL;
    #[inline(always)]
    fn step(&mut self, step: Step) {
        if ALL || self.steps.len() < MOST * STEP {
            self.steps.extend_from_slice(&step.pack().to_bytes());
        }
    }
    #[inline]
    fn numbers(&mut self, numbers: Numbers) {
        self.numbers = numbers;
    }
}

impl<const ALL: bool> Heard<ALL> {
    /// Forgets what it heard, and keeps its memory for the next decision.
    pub fn clear(&mut self) {
        self.numbers = Numbers::default();
        self.steps.clear();
    }

    /// With the names it means.
    pub fn record(&self, image: &Image) -> Record {
        let name = |step: Packed| step.subject().map_or("", |subject| subject.name(image));
        let steps = self.steps.as_chunks().0.iter().map(|bytes| Packed::from_bytes(*bytes));
        let named = steps.filter_map(|step| Some((step.unpack().ok()?, name(step).into())));
        Record { numbers: self.numbers, currency: image.routing.currency, steps: named.collect() }
    }

    /// The same as bytes: see [`Record::open`]. They are written in `scratch`, behind what is there.
    pub fn to_bytes(&self, image: &Image, scratch: &mut Vec<u8>) -> Arc<[u8]> {
        let at = scratch.len();
        self.write(image.routing.currency, |subject| subject.name(image), scratch);
        let bytes = scratch.get(at..).unwrap_or_default().into();
        scratch.truncate(at);
        bytes
    }

    /// Writes a record: its version, the steps, and behind them the name each of them brings. It has no
    /// checksum: records of calls and frames of CDRs, which it lies in, have.
    fn write<N: AsRef<str>>(
        &self,
        currency: Currency,
        name: impl Fn(Subject) -> N,
        out: &mut Vec<u8>,
    ) {
        let (each, _) = self.steps.as_chunks::<STEP>();
        out.reserve(self.steps.len() + each.len() * ROOM);
        (VERSION, (self.numbers, currency)).put(out);
        (each.len() as u32).put(out);
        out.extend_from_slice(&self.steps);
        for subject in each.iter().filter_map(|step| Packed::from_bytes(*step).brings()) {
            let name = name(subject);
            let name = name.as_ref().as_bytes();
            (name.len() as u32).put(out);
            out.extend_from_slice(name);
        }
    }
}

/// Why a call went where it went: readable whatever became of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The numbers.
    pub numbers: Numbers,
    /// What amounts are in.
    pub currency: Currency,
    /// The steps with the name each means.
    pub steps: Vec<(Step, Box<str>)>,
}

impl Record {
    /// Reads what [`Heard::to_bytes`] wrote.
    pub fn open(mut bytes: &[u8]) -> Result<Record, Unreadable> {
        let from = &mut bytes;
        let version = u16::take(from)?;
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        let (numbers, currency) = Plain::take(from)?;
        let packed: Vec<Packed> = Plain::take(from)?;
        let mut brought: Vec<(Subject, Box<str>)> = Vec::new();
        let mut steps = Vec::new();
        for step in packed {
            if let Some(subject) = step.brings() {
                brought.push((subject, Plain::take(from)?));
            }
            let of = |subject| brought.iter().rfind(|(brought, _)| *brought == subject);
            let name = step.subject().and_then(of).map(|(_, name)| name.clone());
            steps.push((step.unpack()?, name.unwrap_or_default()));
        }
        let record = Record { numbers, currency, steps };
        if from.is_empty() { Ok(record) } else { Err(Unreadable::Value) }
    }

    /// A line for each step.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.steps.iter().map(|(step, name)| {
            let (stage, text) = self.line(step, name);
            format!("{stage:<10}{text}")
        })
    }

    fn line(&self, step: &Step, name: &str) -> (&'static str, String) {
        let money = |nano: u64| money(nano, self.currency);
        let code = |depth: u8| self.numbers.routed.prefix(usize::from(depth));
        match *step {
            Step::Trunk { calls, capacity, cps, .. } => {
                let limits = format!("{calls} of {capacity} calls, at most {cps} a second");
                ("trunk", format!("{name}: {limits}"))
            }
            Step::Number => {
                let Numbers { called, calling, .. } = self.numbers;
                let from =
                    if calling.is_empty() { "no number".into() } else { calling.to_string() };
                ("number", format!("{called} from {from}, after the trunk's rules"))
            }
            Step::Route { depth, planned } => {
                let leads = if planned { "leads to a plan" } else { "names trunks" };
                let prefix = self.numbers.called.prefix(usize::from(depth));
                ("route", format!("prefix \"{prefix}\" {leads}"))
            }
            Step::Ported { ported: Some(true) } => {
                ("ported", format!("to {}, by which it is rated", self.numbers.routed))
            }
            Step::Ported { ported: Some(false) } => ("ported", "no".to_owned()),
            Step::Ported { ported: None } => ("ported", "not known: nobody answered".to_owned()),
            Step::Told { ported: true } => {
                let to = self.numbers.routed;
                ("ported", format!("to {to} as the trunk says, by which it is rated"))
            }
            Step::Told { ported: false } => ("ported", "no, as the trunk says".to_owned()),
            Step::Jurisdiction { place } => {
                let name = JURISDICTIONS.get(usize::from(place).wrapping_sub(1));
                ("origin", format!("jurisdiction {}", name.unwrap_or(&"?")))
            }
            Step::Rule { rule, unfit: None, .. } => ("rule", format!("{name} rule {rule} decides")),
            Step::Rule { rule, unfit: Some(why), .. } => {
                ("rule", format!("{name} rule {rule}: {}", why.name()))
            }
            Step::Price { depth, nano, .. } => {
                let price = money(nano);
                ("price", format!("{name} code {}: {price} for the expected call", code(depth)))
            }
            Step::Unsold => ("price", "none: the trunk is no customer's".to_owned()),
            Step::Guard { ceiling: Some(nano) } => {
                ("guard", format!("a vendor may cost {} at most", money(nano)))
            }
            Step::Guard { ceiling: None } => {
                ("guard", "the margin asked for exceeds the price".to_owned())
            }
            Step::Measured { measure, value, calls, .. } => {
                let value = measure.written(value);
                ("quality", format!("{name:<16} {} {value} of {calls} calls", measure.name()))
            }
            Step::Vendor { depth, nano, lost, probe, .. } => {
                let cost = nano.map_or("-".to_owned(), money);
                let code = depth.map_or("-".to_owned(), |depth| code(depth).to_string());
                let verdict = match lost {
                    Some(lost) => lost.name(),
                    None if probe => "may carry it, to see how it does now",
                    None => "may carry it",
                };
                ("vendor", format!("{name:<16} code {code:<12} {cost:>16}  {verdict}"))
            }
            Step::Place { place, nano, outbid, .. } => {
                let verdict = if outbid { Lost::Outbid.name() } else { "is tried" };
                ("order", format!("{place:>2}. {name:<16} {:>16}  {verdict}", money(nano)))
            }
            Step::LastResort => {
                ("last", "nobody who is up carries it: trunks that are down are tried".to_owned())
            }
            Step::Refused { why } => ("refused", why.help().trim().to_owned()),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A nano amount as text.
fn money(nano: u64, currency: Currency) -> String {
    let amount = Decimal { units: i64::try_from(nano).unwrap_or(i64::MAX), places: NANO_PLACES };
    format!("{amount} {currency}")
}

impl Routing {
    /// A nano amount of the common currency as text.
    pub fn money(&self, nano: u64) -> String {
        money(nano, self.currency)
    }
}

impl Plain for Numbers {
    fn put(&self, out: &mut Vec<u8>) {
        let all = [self.called, self.calling, self.routed];
        all.iter().for_each(|digits| digits.to_bits().put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let mut digits = || Digits::from_bits(u128::take(from)?).ok_or(Unreadable::Value);
        Ok(Numbers { called: digits()?, calling: digits()?, routed: digits()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nothing_else_does() {
        let steps = [
            Step::Trunk { trunk: 1, calls: 2, capacity: 3, cps: 4 },
            Step::Number,
            Step::Route { depth: 2, planned: true },
            Step::Rule { plan: 0, rule: 2, unfit: Some(Unfit::Time) },
            Step::Rule { plan: 0, rule: 3, unfit: None },
            Step::Price { customer: 1, depth: 2, nano: 9 },
            Step::Unsold,
            Step::Guard { ceiling: Some(7) },
            Step::Guard { ceiling: None },
            Step::Measured { trunk: 1, measure: Measure::Mos, value: 350, calls: 60 },
            Step::Vendor {
                vendor: 3,
                depth: Some(4),
                nano: Some(5),
                lost: Some(Lost::Outbid),
                probe: false,
            },
            Step::Vendor { vendor: 3, depth: None, nano: None, lost: None, probe: true },
            Step::Place { vendor: 3, place: 1, nano: 5, outbid: true },
            Step::Refused { why: Refusal::NoVendor },
            Step::Ported { ported: Some(true) },
            Step::Ported { ported: None },
            Step::Jurisdiction { place: 2 },
            Step::Told { ported: true },
            Step::LastResort,
        ];
        // Two steps about one subject share its name.
        let name = |subject| format!("{subject:?}");
        let named = |step: Step| step.pack().subject().map_or(String::new(), name).into();
        let record = Record {
            numbers: Numbers { called: "4420".parse().unwrap(), ..Numbers::default() },
            currency: Currency::USD,
            steps: steps.into_iter().map(|step| (step, named(step))).collect(),
        };
        let mut heard = Trace::default();
        heard.numbers(record.numbers);
        steps.into_iter().for_each(|step| heard.step(step));
        let mut bytes = Vec::new();
        heard.write(record.currency, name, &mut bytes);
        assert_eq!(Record::open(&bytes), Ok(record));
        for len in 0..bytes.len() {
            assert!(Record::open(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert_eq!(Record::open(&[&bytes[..], &[0]].concat()), Err(Unreadable::Value));
        bytes[0] ^= 1;
        assert_eq!(Record::open(&bytes), Err(Unreadable::Version(VERSION ^ 1)));
    }
}
