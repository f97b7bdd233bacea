//! Choosing vendors for one call: rule, price, filters, order. No effects but taking a turn.
//!
//! By cost, the market's short list is enough nearly always; it is left for a gathering of every vendor
//! when filters have thinned it, or when what is not on it might be cheaper at this time of day.

use super::circumstances::Circumstances;
use super::trace::{Lost, Sink, Step, Unfit};
use super::{Action, Book, Choice, MAX_PLANS, Margin, Order, Priced, Routing, Rule};
use crate::policy::{Image, Outages, Probing, Trunk};
use crate::quality::{Measure, Standing};
use crate::question::Question;
use crate::refusal::Refusal;
use base::Instant;
use base::page::Page;
use routing_trie::market::{Alternative, Bid, LIST, Shortlist};
use routing_trie::{Candidate, Digits, Market, fair, order};
use smallvec::SmallVec;

/// A call that asks for vendors.
#[derive(Copy, Clone)]
pub struct Ask<'a> {
    /// The trunk it came from.
    pub trunk: u16,
    /// The called number, international.
    pub called: Digits,
    /// The number that rates go by: where the called one was ported to, else itself.
    pub routed: Digits,
    /// The calling number, international; empty when it is none.
    pub calling: Digits,
    /// Wall time, seconds since the Unix epoch: what rates and times of day go by.
    pub at: i64,
    /// Monotonic time.
    pub now: Instant,
    /// What trunks carry now, and whose turn it is.
    pub page: &'a Page,
    /// How well trunks carry calls.
    pub standing: &'a Standing,
    /// Trunks that do not answer.
    pub outages: &'a Outages,
    /// They are chosen all the same, where they say so.
    pub last_resort: bool,
    /// This call's random number.
    pub draw: u64,
}

/// A vendor that is to be tried, at a rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Index of the vendor.
    pub vendor: u16,
    /// Its rate.
    pub alternative: Alternative,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Index of the plan that decided.
    pub plan: u16,
    /// Place of the rule in it, from 0.
    pub rule: u16,
    /// The vendors, in order.
    pub chosen: SmallVec<[Chosen; LIST]>,
    /// What the customer pays; `None` for trunks that are no customer's.
    pub priced: Option<Priced>,
}

/// Bids that passed: seldom more than a short list has.
type Opens = SmallVec<[Open; LIST]>;

/// Why nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The call is refused.
    Refuse(Refusal),
    /// An answer is needed first.
    Need(Question),
}

/// What a vendor bids.
#[derive(Copy, Clone)]
struct Weighed {
    vendor: u16,
    /// Its rate for the call; `None` where it has none.
    alternative: Option<Alternative>,
    /// Length of its code, where it was looked for.
    depth: Option<u8>,
}

/// A bid that passed every filter.
#[derive(Copy, Clone, Debug)]
struct Open {
    vendor: u16,
    alternative: Alternative,
    priority: u16,
    weight: u32,
    /// It is poor, and this call finds out how it does now.
    probe: bool,
}

impl Open {
    /// What the expected call costs, nano.
    #[inline]
    fn cost(&self) -> u64 {
        self.alternative.expected_nano
    }

    /// By what the cheapest come first, one vendor before another.
    #[inline]
    fn by_cost(&self) -> (u64, u16) {
        (self.cost(), self.vendor)
    }
}

/// Chooses vendors by `plan` and those it leads to. `ready` says whether a vendor can be reached or what
/// must be asked first: it is asked before anybody's turn is taken, so that no turn is taken twice.
pub fn select(
    image: &Image,
    plan: u16,
    ask: &Ask,
    ready: impl Fn(u16) -> Result<(), Question>,
    sink: &mut impl Sink,
) -> Result<Selected, Stop> {
    let mut next = Some(plan);
    let mut refusal = Refusal::NoRoute;
    for _ in 0..MAX_PLANS {
        let Some(plan) = next else { break };
        let (rule, choice) = rule_of(image, plan, ask, sink).map_err(Stop::Refuse)?;
        let mut desk = Desk::new(image, ask, choice);
        let priced = desk.price(sink).map_err(Stop::Refuse)?;
        let ceiling = desk.ceiling(priced, sink).map_err(Stop::Refuse)?;
        let mut open = Opens::new();
        if let Some(ceiling_nano) = ceiling {
            desk.ceiling_nano = ceiling_nano;
            desk.open(&mut open, sink);
        }
        if !open.is_empty() {
            desk.put_in_order(&mut open, ready, sink).map_err(Stop::Need)?;
            let chosen = |o: &Open| Chosen { vendor: o.vendor, alternative: o.alternative };
            let chosen = open.iter().map(chosen).collect();
            return Ok(Selected { plan, rule, chosen, priced });
        }
        refusal = Refusal::NoVendor;
        next = choice.otherwise;
    }
    Err(Stop::Refuse(refusal))
}

/// The first rule that fits.
fn rule_of<'i>(
    image: &'i Image,
    plan: u16,
    ask: &Ask,
    sink: &mut impl Sink,
) -> Result<(u16, &'i Choice), Refusal> {
    let Some(found) = image.routing.plans.get(usize::from(plan)) else {
        return Err(Refusal::NoRoute);
    };
    for (place, rule) in (0u16..).zip(&found.rules) {
        let unfit = unfit(&image.routing, rule, ask);
        sink.step(Step::Rule { plan, rule: place + 1, unfit });
        if unfit.is_none() {
            return match &rule.action {
                Action::Block => Err(Refusal::Blocked),
                Action::Choose(choice) => Ok((place, choice)),
            };
        }
    }
    Err(Refusal::NoRoute)
}

fn unfit(routing: &Routing, rule: &Rule, ask: &Ask) -> Option<Unfit> {
    let begins = |number: Digits, prefixes: &[Digits]| {
        prefixes.is_empty() || prefixes.iter().any(|prefix| number.starts_with(*prefix))
    };
    if !rule.from.is_empty() && !rule.from.contains(&ask.trunk) {
        Some(Unfit::Trunk)
    } else if !begins(ask.called, &rule.called) {
        Some(Unfit::Called)
    } else if !begins(ask.calling, &rule.calling) {
        Some(Unfit::Calling)
    } else if !routing.holds(rule.time, ask.at) {
        Some(Unfit::Time)
    } else {
        None
    }
}

/// Everything one choice looks at.
struct Desk<'a> {
    image: &'a Image,
    book: &'a Book,
    ask: &'a Ask<'a>,
    choice: &'a Choice,
    /// What a vendor may cost at most.
    ceiling_nano: u64,
    /// The group of the called number, where quality matters.
    destination: u16,
    /// Whose call it is, with what its own deck has for the number.
    customer: Option<(u16, Option<(usize, u32)>)>,
    /// The cheapest offers.
    list: Shortlist<'a>,
}

impl<'a> Desk<'a> {
    fn new(image: &'a Image, ask: &'a Ask<'a>, choice: &'a Choice) -> Self {
        let measured = !choice.quality.bars.is_empty() || matches!(choice.order, Order::Quality(_));
        let destinations = &image.routing.destinations;
        let destination = if measured { destinations.of(ask.called) } else { 0 };
        let book = &image.book;
        let whose = image.trunk(ask.trunk).and_then(|trunk| trunk.customer);
        let tariff = whose.and_then(|c| book.sold.get(usize::from(c))).map(|(_, tariff)| tariff);
        let (list, own) = match (&book.market, tariff) {
            (Some(market), Some(tariff)) => market.shortlist_and_price(tariff, ask.routed),
            (Some(market), None) => (market.shortlist(ask.routed), None),
            (None, _) => (Shortlist::EMPTY, tariff.and_then(|t| t.lookup(ask.routed))),
        };
        let customer = whose.map(|customer| (customer, own));
        Desk { image, book, ask, choice, ceiling_nano: u64::MAX, destination, customer, list }
    }

    fn circumstances(&self) -> Circumstances<'a> {
        let Ask { at, calling, routed, .. } = *self.ask;
        Circumstances::new(&self.image.routing, at, calling, routed)
    }

    fn price(&self, sink: &mut impl Sink) -> Result<Option<Priced>, Refusal> {
        let routing = &self.image.routing;
        let Some(customer) = self.customer else {
            sink.step(Step::Unsold);
            return if self.choice.margin.guarded { Err(Refusal::Unpriced) } else { Ok(None) };
        };
        let mut circumstances = self.circumstances();
        let hold = |when| circumstances.hold(when);
        let priced = routing.price(self.book, customer, self.ask.routed, hold);
        let found = priced.ok_or(Refusal::Unpriced)?;
        let (customer, depth) = (found.customer, found.depth as u8);
        sink.step(Step::Price { customer, depth, nano: found.alternative.expected_nano });
        Ok(priced)
    }

    /// What a vendor may cost; `None` when the price leaves no room for the margin.
    fn ceiling(
        &self,
        priced: Option<Priced>,
        sink: &mut impl Sink,
    ) -> Result<Option<u64>, Refusal> {
        let Margin { nano, share_e5, guarded } = self.choice.margin;
        if !guarded {
            return Ok(Some(u64::MAX));
        }
        let price = priced.map(|p| p.alternative.expected_nano).ok_or(Refusal::Unpriced)?;
        let ceiling = price.checked_sub(nano.max(share_of(price, share_e5)));
        sink.step(Step::Guard { ceiling });
        Ok(ceiling)
    }

    /// Every bid that passes, in no particular order but that of cost.
    fn open<S: Sink>(&self, open: &mut Opens, sink: &mut S) {
        let Some(market) = &self.book.market else { return };
        if let Order::Cost { within_e5 } = self.choice.order
            && !S::ALL
        {
            self.open_listed(market, within_e5 == 0, open, sink);
            if self.is_enough(open, within_e5) {
                return;
            }
            open.clear();
        }
        let mut circumstances = self.circumstances();
        market.gather(self.ask.routed, |depth, Bid { vendor, offer }| {
            let alternative = market.offers().in_force(offer, |when| circumstances.hold(when));
            let weighed = Weighed { vendor, alternative, depth: Some(depth as u8) };
            open.extend(self.weigh(weighed, sink));
        });
        open.sort_unstable_by_key(Open::by_cost);
    }

    /// Whether nobody that is not on the list need be looked at.
    fn is_enough(&self, open: &[Open], within_e5: u32) -> bool {
        let beyond = self.list.beyond_nano;
        // What is not on it costs more than anybody may.
        if beyond == u64::MAX || beyond > self.ceiling_nano {
            return true;
        }
        let last = usize::from(self.choice.attempts).wrapping_sub(1);
        let enough = open.get(last).is_some_and(|o| o.cost() < beyond);
        let whole = || open.first().is_some_and(|o| within(o.cost(), within_e5) < beyond);
        enough && (within_e5 == 0 || whole())
    }

    /// The bids of the list that pass, by cost. Where nothing is shared out, those behind enough others are
    /// not looked at: no time of day makes them cheaper than they are listed.
    fn open_listed<S: Sink>(&self, market: &Market, by_cost: bool, open: &mut Opens, sink: &mut S) {
        let mut circumstances = self.circumstances();
        let last = usize::from(self.choice.attempts).wrapping_sub(1);
        for listed in self.list.bids {
            let (vendor, least_nano) = (listed.vendor, listed.least_nano);
            if by_cost && open.get(last).is_some_and(|o| o.by_cost() < (least_nano, vendor)) {
                // Nor are those behind it.
                if !S::LISTENS {
                    break;
                }
                let (nano, lost) = (Some(least_nano), Some(Lost::Outbid));
                sink.step(Step::Vendor { vendor, depth: None, nano, lost, probe: false });
                continue;
            }
            let alternative = listed.in_force(market.offers(), |when| circumstances.hold(when));
            let weighed = Weighed { vendor, alternative, depth: None };
            let Some(one) = self.weigh(weighed, sink) else { continue };
            if open.last().is_none_or(|o| o.by_cost() < one.by_cost()) {
                open.push(one);
            } else {
                let at = open.partition_point(|o| o.by_cost() < one.by_cost());
                open.insert(at, one);
            }
        }
    }

    /// Looks at one vendor, and says what came of it.
    #[inline(always)]
    fn weigh<S: Sink>(&self, weighed: Weighed, sink: &mut S) -> Option<Open> {
        let found = self.filter(weighed, sink);
        if S::LISTENS {
            let Weighed { vendor, alternative, depth } = weighed;
            sink.step(Step::Vendor {
                vendor,
                depth,
                nano: alternative.map(|a| a.expected_nano),
                lost: found.as_ref().err().copied(),
                probe: found.as_ref().is_ok_and(|open| open.probe),
            });
        }
        found.ok()
    }

    #[inline(always)]
    fn filter(&self, weighed: Weighed, sink: &mut impl Sink) -> Result<Open, Lost> {
        let Weighed { vendor: index, alternative, .. } = weighed;
        let vendors = &self.image.routing.vendors;
        let vendor = vendors.get(usize::from(index)).ok_or(Lost::NotInRule)?;
        let used = match &*self.choice.vendors {
            [] => None,
            named => Some(named.iter().find(|u| u.vendor == index).ok_or(Lost::NotInRule)?),
        };
        if self.choice.except.contains(&index) {
            return Err(Lost::Excepted);
        }
        if !vendor.only_for.is_empty() && !vendor.only_for.contains(&self.ask.trunk) {
            return Err(Lost::Exclusive);
        }
        let alternative = alternative.ok_or(Lost::NoRate)?;
        if alternative.expected_nano > self.ceiling_nano {
            return Err(Lost::Unprofitable);
        }
        self.has_room(&vendor.trunks)?;
        let (priority, weight) = used.map_or((1, 100), |u| (u.priority, u.weight));
        let probe = self.is_poor(&vendor.trunks, sink);
        // The draw of 0, by which calls are explained, finds nothing out.
        let finds_out = u64::from(self.choice.quality.probe_percent) + self.ask.draw % 100 >= 100;
        if probe && !finds_out {
            return Err(Lost::Poor);
        }
        Ok(Open { vendor: index, alternative, priority, weight, probe })
    }

    /// Trunks that a call may leave by.
    fn exits<'t>(&self, trunks: &'t [u16]) -> impl Iterator<Item = u16> + use<'t> {
        let ingress = self.ask.trunk;
        trunks.iter().copied().filter(move |t| *t != ingress)
    }

    /// Whether any trunk of a vendor takes a call now. What it really takes is settled when it is tried.
    #[inline]
    fn has_room(&self, trunks: &[u16]) -> Result<(), Lost> {
        let mut lost = Lost::WayBack;
        for index in self.exits(trunks) {
            let Some(trunk) = self.image.trunk(index) else { continue };
            match room(self.ask, index, trunk) {
                Ok(()) => return Ok(()),
                Err(why) => lost = why,
            }
        }
        Err(lost)
    }

    /// Whether every trunk of a vendor misses what is asked for. It is as good as the best of them.
    fn is_poor(&self, trunks: &[u16], sink: &mut impl Sink) -> bool {
        let quality = &self.choice.quality;
        if quality.bars.is_empty() {
            return false;
        }
        let mut misses = |trunk| {
            let Some(figures) = self.ask.standing.of(self.destination, trunk) else { return false };
            let missed = quality.bars.iter().find(|b| b.is_missed(figures, quality.min_calls));
            if let Some(measure) = missed.map(|bar| bar.measure) {
                let span = figures.of(measure);
                let (value, calls) = (span.mean, span.count);
                sink.step(Step::Measured { trunk, measure, value, calls });
            }
            missed.is_some()
        };
        self.exits(trunks).all(&mut misses)
    }

    /// How good a vendor is by a measure: less is better. What is not known well enough is the best.
    fn rank(&self, vendor: u16, measure: Measure) -> u32 {
        let min_calls = self.choice.quality.min_calls.max(1);
        let of = |trunk| {
            let span = self.ask.standing.of(self.destination, trunk).map(|f| f.of(measure));
            span.filter(|s| s.count >= min_calls).map_or(0, |s| 1 + measure.step(s.mean))
        };
        let vendor = self.image.routing.vendors.get(usize::from(vendor));
        vendor.and_then(|v| self.exits(&v.trunks).map(of).min()).unwrap_or(0)
    }

    /// Puts what is open in the order of the rule, and cuts it to the attempts allowed.
    fn put_in_order(
        &self,
        open: &mut Opens,
        ready: impl Fn(u16) -> Result<(), Question>,
        sink: &mut impl Sink,
    ) -> Result<(), Question> {
        let equals = match self.choice.order {
            Order::Cost { within_e5: 0 } => 0,
            Order::Cost { within_e5 } => {
                let limit = open.first().map_or(0, |o| within(o.cost(), within_e5));
                open.iter().take_while(|o| o.cost() <= limit).count()
            }
            Order::Priority => {
                open.sort_by_key(|o| (o.priority, o.by_cost()));
                0
            }
            Order::Share => {
                open.sort_by_key(|o| (o.priority, o.vendor));
                open.len()
            }
            Order::Quality(measure) => {
                open.sort_by_cached_key(|o| (self.rank(o.vendor, measure), o.by_cost()));
                0
            }
        };
        if equals > 1 {
            open.iter().take(equals).try_for_each(|o| ready(o.vendor))?;
            self.take_turns(open, equals);
        }
        for (place, one) in (1u16..).zip(open.iter()) {
            let (vendor, nano) = (one.vendor, one.cost());
            let outbid = place > u16::from(self.choice.attempts);
            sink.step(Step::Place { vendor, place, nano, outbid });
        }
        open.truncate(usize::from(self.choice.attempts));
        Ok(())
    }

    /// Draws the order of the first `count`: exactly by share from call to call.
    fn take_turns(&self, open: &mut [Open], count: usize) {
        let Some(group) = open.get_mut(..count) else { return };
        let by_share = self.choice.order == Order::Share;
        let priority = |o: &Open| if by_share { o.priority } else { 0 };
        let first = group.first().map_or(0, priority);
        let weights = || group.iter().filter(|o| priority(o) == first).map(|o| o.weight);
        // Shares of 70 and 30 are 7 and 3: the shorter a round, the sooner it is exact.
        let unit = weights().fold(0, common_divisor).max(1);
        let total = weights().map(|w| u64::from(w / unit)).sum();
        let turn = self.ask.page.take_turn(self.choice.turn_word as usize).unwrap_or(self.ask.draw);
        let mut ranked: Vec<Candidate> = (0..)
            .zip(group.iter())
            .map(|(id, o)| (id, priority(o), o.weight))
            .map(|(id, priority, weight)| {
                let unit = if priority == first { unit } else { 1 };
                Candidate { id, priority, weight: weight / unit }
            })
            .collect();
        order(&mut ranked, fair(turn, total, self.ask.draw));
        let before = group.to_vec();
        for (place, candidate) in group.iter_mut().zip(ranked) {
            if let Some(one) = before.get(candidate.id as usize) {
                *place = *one;
            }
        }
    }
}

fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether a trunk takes another call to the number: asks, takes nothing.
pub(crate) fn room(ask: &Ask, index: u16, trunk: &Trunk) -> Result<(), Lost> {
    let has_rules = !trunk.called_out.is_empty() || trunk.rewrite_out.strip > 0;
    if has_rules && trunk.outgoing(ask.called).is_err() {
        return Err(Lost::Barred);
    }
    let is_wanted = |probing: &Probing| ask.last_resort && probing.last_resort;
    if ask.outages.has_all(index) && !trunk.probing.as_ref().is_none_or(is_wanted) {
        return Err(Lost::Down);
    }
    if ask.page.read(Image::calls_word(index)) >= u64::from(trunk.capacity) {
        return Err(Lost::Full);
    }
    match ask.page.would_pace(Image::pace_word(index), trunk.cps, ask.now) {
        true => Ok(()),
        false => Err(Lost::Fast),
    }
}

/// What lies within a share of the cheapest.
fn within(cheapest: u64, share_e5: u32) -> u64 {
    let more = u128::from(cheapest) * u128::from(share_e5) / 100_000;
    cheapest.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// A share of an amount, rounded up.
fn share_of(nano: u64, share_e5: u32) -> u64 {
    // The amount of nearly every call fits: dividing 128 bits takes long.
    if let Some(product) = nano.checked_mul(u64::from(share_e5)) {
        return product.div_ceil(100_000);
    }
    let share = (u128::from(nano) * u128::from(share_e5)).div_ceil(100_000);
    u64::try_from(share).unwrap_or(u64::MAX)
}
