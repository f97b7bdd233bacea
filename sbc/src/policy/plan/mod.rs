//! Plans: which vendors may carry a call, in which order, and at what margin.
//!
//! A plan is a list of rules; the first that fits a call decides. A rule blocks, or filters the vendors'
//! bids and orders what is left. Rates come from a [`Book`]: everything bought and sold at one moment,
//! published as a whole, so that a decision uses one generation of every deck.

mod circumstances;
mod packed;
mod select;
mod trace;

pub use circumstances::{JURISDICTIONS, Origin};
pub use select::{Ask, Chosen, Selected, Stop, select};
pub use trace::{Kept, Lost, NoTrace, Numbers, Record, Sink, Step, Trace, Unfit};

use crate::billing::Quote;
use crate::quality::{Destinations, Figures, Measure};
use base::money::{Currency, Ratio, Rounding};
use routing_trie::calendar::Profile;
use routing_trie::market::Alternative;
use routing_trie::{Digits, Image as Trie, Market, Tariff};
use std::sync::Arc;
use std::time::Duration;

/// The most plans a call is led through.
pub const MAX_PLANS: usize = 8;
/// The most customers' decks one inherits from another.
pub const MAX_PARENTS: usize = 4;

/// What plans decide by, but for the rates.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// The plans; a route leads to one of them.
    pub plans: Vec<Plan>,
    /// Whom calls are bought from, in the order the market has them in.
    pub vendors: Vec<Vendor>,
    /// Whom they are sold to.
    pub customers: Vec<Customer>,
    /// Time profiles; rules name them by their place, from 1.
    pub profiles: Vec<Profile>,
    /// Groups of calling numbers that rows of decks name.
    pub origins: Vec<Origin>,
    /// Which region a number belongs to; `None` without a table.
    pub regions: Option<Arc<Trie>>,
    /// Which numbers are asked for, and what becomes of calls when nobody answers.
    pub porting: Option<Porting>,
    /// What costs and prices are compared in.
    pub currency: Currency,
    /// Digits behind the point of a price.
    pub places: u8,
    /// What becomes of the rest.
    pub rounding: Rounding,
    /// Duration that fees and intervals are weighed at, milliseconds.
    pub call_ms: u64,
    /// Groups of called numbers that quality is measured by.
    pub destinations: Destinations,
    /// How far back it is looked at.
    pub quality_window: Duration,
}

/// Numbers that may have been ported: which are asked for before a call is routed by a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Porting {
    /// What they begin with.
    pub called: Vec<Digits>,
    /// A call whose number nobody answered for is refused; else it is routed as it was dialled.
    pub strict: bool,
}

/// A vendor: one deck, and the trunks its calls leave by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vendor {
    /// Name, also of its deck.
    pub name: Box<str>,
    /// Indexes of trunks, in the order they are tried.
    pub trunks: Vec<u16>,
    /// Ingress trunks that may use it; empty for all.
    pub only_for: Vec<u16>,
}

/// A customer: one deck, which prices the calls of its trunks ([`Trunk::customer`](super::Trunk)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// Name, also of its deck.
    pub name: Box<str>,
    /// Another customer, for numbers this one's deck has no code for, or only a shorter one.
    pub parent: Option<u16>,
}

/// A list of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// The first that fits decides.
    pub rules: Vec<Rule>,
}

/// When, and what then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Ingress trunks; empty for all.
    pub from: Vec<u16>,
    /// Prefixes of the called number, international; empty for all.
    pub called: Vec<Digits>,
    /// Prefixes of the calling number, international; empty for all.
    pub calling: Vec<Digits>,
    /// Time profile; 0 for always.
    pub time: u16,
    /// What then.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Refuses the call.
    Block,
    /// Chooses among vendors.
    Choose(Choice),
}

/// How vendors are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Vendors that may be used; empty for all of them.
    pub vendors: Vec<Use>,
    /// Vendors that may not.
    pub except: Vec<u16>,
    /// In which order.
    pub order: Order,
    /// The least that price must exceed cost by, on the expected call.
    pub margin: Margin,
    /// How well its trunks must carry such calls.
    pub quality: Quality,
    /// The most vendors a call is offered to.
    pub attempts: u8,
    /// Statuses that end the search, whatever the trunk says.
    pub stop_on: Vec<u16>,
    /// Another plan for a call that no vendor is left for.
    pub otherwise: Option<u16>,
    /// Its word in the shared page: whose turn it is.
    pub turn_word: u32,
}

/// A vendor in a rule.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Index of the vendor.
    pub vendor: u16,
    /// Lower is tried first, where the order is by priority or share.
    pub priority: u16,
    /// Share among those that are equal.
    pub weight: u32,
}

/// The order of vendors.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The cheapest first. Those within so much of the cheapest, in 1e-5 of its cost, are equal and
    /// take turns by their shares.
    Cost {
        /// 0 for none; 10,000 is 10 %.
        within_e5: u32,
    },
    /// By priority, the cheapest of one priority first.
    Priority,
    /// By priority, and within one by shares, exactly.
    Share,
    /// The best by a measure, in its steps; the cheapest of one step first. Those without enough calls to
    /// tell count as the best: they are found out about.
    Quality(Measure),
}

/// What is asked of how vendors carry calls to the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// What must be reached.
    pub bars: Vec<Bar>,
    /// With fewer calls in the window nothing is held against anybody.
    pub min_calls: u32,
    /// Of a hundred calls that a vendor would lose by this, so many find out how it does now.
    pub probe_percent: u8,
}

/// One measure and its bound: the least, or the most where less is better.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What.
    pub measure: Measure,
    /// In the measure's units.
    pub bound: u32,
}

impl Bar {
    /// Whether figures miss it for certain: over enough calls, and with all of their interval.
    pub fn is_missed(&self, figures: &Figures, min_calls: u32) -> bool {
        let span = figures.of(self.measure);
        let misses = match self.measure.less_is_better() {
            true => span.low > self.bound,
            false => span.high < self.bound,
        };
        span.count >= min_calls.max(1) && misses
    }
}

/// The profit guard.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// Nano of the common currency on the expected call.
    pub nano: u64,
    /// Share of the price, in 1e-5.
    pub share_e5: u32,
    /// Whether there is a guard at all.
    pub guarded: bool,
}

/// Everything bought and sold, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// What vendors ask; `None` without plans.
    pub market: Option<Market>,
    /// Each vendor's deck, in order.
    pub bought: Vec<Edition>,
    /// Each customer's deck and what it says.
    pub sold: Vec<(Edition, Tariff)>,
}

/// Which deck, which generation of it, and what its money is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Name. Calls share it.
    pub deck: Arc<[u8]>,
    /// Generation, from 1; 0 when it came from a file by name.
    pub generation: u32,
    /// Currency.
    pub currency: Currency,
    /// Units of the common currency for one of this.
    pub fx: Ratio,
}

/// A price found for a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// Index of the customer whose deck had it.
    pub customer: u16,
    /// Digits of the code that matched.
    pub depth: usize,
    /// The rate and what the expected call pays.
    pub alternative: Alternative,
}

impl Routing {
    /// Whether a time profile is in force at a moment, seconds since the Unix epoch; 0 always is.
    pub fn holds(&self, profile: u16, at: i64) -> bool {
        let found = usize::from(profile).checked_sub(1).and_then(|p| self.profiles.get(p));
        profile == 0 || found.is_some_and(|p| p.holds(at))
    }

    /// What a customer pays for a number: the longest code of its deck, which `own` is, and of those it
    /// inherits from; of equal ones its own.
    fn price(
        &self,
        book: &Book,
        (customer, own): (u16, Option<(usize, u32)>),
        number: Digits,
        hold: impl FnMut(u16) -> bool,
    ) -> Option<Priced> {
        let parent = |of: u16| self.customers.get(usize::from(of)).and_then(|c| c.parent);
        let mut best = own.map(|(depth, offer)| (depth, customer, offer));
        let mut next = parent(customer);
        for _ in 0..MAX_PARENTS {
            let Some(index) = next else { break };
            let found = book.sold.get(usize::from(index)).and_then(|(_, t)| t.lookup(number));
            if let Some((depth, offer)) = found
                && best.is_none_or(|(longest, ..)| depth > longest)
            {
                best = Some((depth, index, offer));
            }
            next = parent(index);
        }
        let (depth, customer, offer) = best?;
        let offers = book.sold.get(usize::from(customer))?.1.offers();
        let alternative = offers.in_force(offer, hold)?;
        Some(Priced { customer, depth, alternative })
    }

    /// Every place where a trunk is named by its number.
    pub(super) fn trunks_mut(&mut self) -> impl Iterator<Item = &mut u16> {
        let vendors =
            self.vendors.iter_mut().flat_map(|v| v.trunks.iter_mut().chain(&mut v.only_for));
        let rules = self.plans.iter_mut().flat_map(|p| &mut p.rules).flat_map(|r| &mut r.from);
        vendors.chain(rules)
    }
}

impl Book {
    /// What is written into a call for a rate it was sold at.
    pub(super) fn sold_quote(&self, priced: &Priced) -> Option<Quote> {
        let (edition, tariff) = self.sold.get(usize::from(priced.customer))?;
        edition.quote(tariff.offers().rate(priced.alternative)?, priced.alternative.expected_nano)
    }

    /// The same for a rate it may be bought at.
    pub(super) fn bought_quote(&self, vendor: u16, alternative: Alternative) -> Option<Quote> {
        let rate = self.market.as_ref()?.offers().rate(alternative)?;
        self.bought.get(usize::from(vendor))?.quote(rate, alternative.expected_nano)
    }
}

impl Edition {
    fn quote(&self, rate: routing_trie::Rate, expected_nano: u64) -> Option<Quote> {
        Some(Quote {
            deck: self.deck.clone(),
            generation: self.generation,
            currency: self.currency,
            fx: self.fx,
            rate,
            expected_nano,
        })
    }
}

impl Rule {
    /// Whether every call that `other` fits is one that this fits: `other` after this never decides.
    pub fn shadows(&self, other: &Rule) -> bool {
        let trunks = self.from.is_empty()
            || (!other.from.is_empty() && other.from.iter().all(|t| self.from.contains(t)));
        let within = |mine: &[Digits], theirs: &[Digits]| {
            let covered = |number: &Digits| mine.iter().any(|prefix| number.starts_with(*prefix));
            mine.is_empty() || (!theirs.is_empty() && theirs.iter().all(covered))
        };
        trunks
            && within(&self.called, &other.called)
            && within(&self.calling, &other.calling)
            && (self.time == 0 || self.time == other.time)
    }
}
