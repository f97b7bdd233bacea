//! The decision: facts in, a list of candidates, a refusal or a need out. No effects, but that a plan
//! with shares takes a turn.
//!
//! Runs from the top each time a fact is added; a call that names no hosts needs nothing. The same code
//! explains itself to a [`Sink`] that listens.

use super::plan::{Ask, NoTrace, Numbers, Selected, Sink, Step, Stop, select};
use super::{Image, Outages, Route, RouteTarget, Target, Trunk};
use super::{called, next_hop};
use crate::billing::{Quote, Taken};
use crate::message::Uri;
use crate::quality::Standing;
use crate::question::{Dip, Names, Ported, Question};
use crate::refusal::Refusal;
use base::Now;
use base::page::Page;
use routing_trie::{Digits, MAX_DIGITS};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is known about a call that wants a route.
pub struct Facts<'a> {
    /// The trunk it came from.
    pub trunk: u16,
    /// The called number as received.
    pub number: &'a [u8],
    /// The calling number as received.
    pub calling: &'a [u8],
    /// Whether the number was ported, where the trunk it came from said so and is believed.
    pub told: Option<Dip>,
    /// When it came: rates and times of day go by the wall clock.
    pub now: Now,
    /// What is known about names.
    pub names: &'a Names,
    /// What is known about numbers.
    pub ported: &'a Ported,
    /// What trunks carry now, and whose turn it is.
    pub page: &'a Page,
    /// How well trunks carry calls.
    pub standing: &'a Standing,
    /// Endpoints that do not answer.
    pub outages: &'a Outages,
    /// This call's random number: weights are drawn from it, so a repeated decision agrees with itself.
    pub draw: u64,
}

/// One way to carry a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The trunk.
    pub trunk: u16,
    /// Where the INVITE goes.
    pub endpoint: SocketAddr,
    /// The number asked for there.
    pub number: Arc<[u8]>,
    /// What it is bought at; `None` without a plan.
    pub buy: Option<Quote>,
    /// It is tried at the same time as the one before it.
    pub beside: bool,
    /// A redirection names it.
    pub redirected: bool,
    /// Its endpoint is out: it is passed over.
    pub out: bool,
}

/// How a call is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Try these, in order.
    pub candidates: Vec<Candidate>,
    /// What a plan decided; `None` for a route without one.
    pub taken: Option<Taken>,
    /// Statuses that end the search, besides what trunks say.
    pub stop_on: Vec<u16>,
    /// A name stood for servers that are known from before its time was over.
    pub stale: bool,
}

/// What was decided.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The call can be carried.
    Route(Way),
    /// Nobody carries this call.
    Refuse(Refusal),
    /// An answer is needed first.
    Need(Question),
}

/// The most candidates one call may try.
const MAX_CANDIDATES: usize = 16;

/// Decides who carries a call.
pub fn decide(image: &Image, facts: &Facts) -> Decision {
    decide_with(image, facts, &mut NoTrace)
}

/// The same, saying why.
pub fn decide_with(image: &Image, facts: &Facts, sink: &mut impl Sink) -> Decision {
    let refuse = |why, sink: &mut _| {
        Sink::step(sink, Step::Refused { why });
        Decision::Refuse(why)
    };
    match way(image, facts, sink) {
        Ok(way) if way.candidates.is_empty() => refuse(Refusal::NameUnresolved, sink),
        Ok(way) => Decision::Route(way),
        Err(Stop::Refuse(why)) => refuse(why, sink),
        Err(Stop::Need(question)) => Decision::Need(question),
    }
}

/// A call that goes back to the trunk it comes from, which knows whom it means.
pub fn back(image: &Image, facts: &Facts) -> Decision {
    let mut found = Expanded::default();
    let Some(trunk) = image.trunk(facts.trunk) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    match endpoints(image, (facts.trunk, trunk), facts.number.into(), facts, &mut found) {
        Err(question) => Decision::Need(question),
        Ok(()) if found.candidates.is_empty() => Decision::Refuse(Refusal::NameUnresolved),
        Ok(()) => Decision::Route(found.into_way(image, None, Vec::new())),
    }
}

fn way(image: &Image, facts: &Facts, sink: &mut impl Sink) -> Result<Way, Stop> {
    let refuse = |refusal| Err(Stop::Refuse(refusal));
    let Some(ingress) = image.trunk(facts.trunk) else {
        return refuse(Refusal::NoRoute);
    };
    let calls = facts.page.read(Image::calls_word(facts.trunk));
    let (calls, capacity) = (u32::try_from(calls).unwrap_or(u32::MAX), ingress.capacity);
    sink.step(Step::Trunk { trunk: facts.trunk, calls, capacity, cps: ingress.cps });
    let called = dialled(ingress, facts.number).map_err(Stop::Refuse)?;
    let calling = ingress.dial_plan.read(facts.calling).map_or(Digits::EMPTY, |n| n.digits);
    let calling = ingress.cli_in.apply(calling);
    let numbers = Numbers { called, calling, routed: called };
    sink.numbers(numbers);
    sink.step(Step::Number);
    let found = image.prefixes.lookup(called);
    let found = found.and_then(|(depth, at)| Some((depth, image.routes.get(at as usize)?)));
    let Some((depth, route)) = found else { return refuse(Refusal::NoRoute) };
    sink.step(Step::Route { depth: depth as u8, planned: route.plan.is_some() });
    match route.plan {
        Some(plan) => planned(image, plan, facts, numbers, sink),
        None => listed(image, route, facts, called).map_err(Stop::Need),
    }
}

/// The called number of a call as it is routed; `None` when it is none.
pub fn routed(image: &Image, trunk: u16, number: &[u8]) -> Option<Digits> {
    dialled(image.trunk(trunk)?, number).ok()
}

/// The targets of a route in their order.
fn listed(image: &Image, route: &Route, facts: &Facts, number: Digits) -> Result<Way, Question> {
    let mut found = Expanded::default();
    let ordered: Vec<&RouteTarget> = in_order(&route.targets, facts.draw).collect();
    for group in ordered.chunk_by(|a, b| route.parallel && a.priority == b.priority) {
        let begins = found.candidates.len();
        let mut later = Vec::new();
        for target in group {
            let at = found.candidates.len();
            if let Ok(number) = target.rewrite.apply(number) {
                expand(image, target.trunk, number, facts, &mut found)?;
            }
            // A trunk's other addresses are for when the group has failed.
            later.extend(found.candidates.drain(found.candidates.len().min(at + 1)..));
        }
        found.candidates.iter_mut().skip(begins + 1).for_each(|c| c.beside = group.len() > 1);
        found.candidates.append(&mut later);
        if found.candidates.iter().filter(|c| !c.out).count() >= MAX_CANDIDATES {
            break;
        }
    }
    Ok(found.into_way(image, None, Vec::new()))
}

/// What a plan chooses: the trunks of its vendors in their order, at their rates.
fn planned(
    image: &Image,
    plan: u16,
    facts: &Facts,
    numbers: Numbers,
    sink: &mut impl Sink,
) -> Result<Way, Stop> {
    let Numbers { called, calling, .. } = numbers;
    let routed = ported(image, facts, called, sink)?;
    sink.numbers(Numbers { routed, ..numbers });
    if image.routing.regions.is_some() {
        let place = image.routing.jurisdiction(calling, routed) as u8;
        sink.step(Step::Jurisdiction { place });
    }
    let ask = Ask {
        trunk: facts.trunk,
        called,
        routed,
        calling,
        at: (facts.now.wall.0 / 1_000_000_000) as i64,
        now: facts.now.mono,
        page: facts.page,
        standing: facts.standing,
        outages: facts.outages,
        last_resort: false,
        draw: facts.draw,
    };
    let ready = |vendor: u16| reachable(image, vendor, facts);
    let selected = match select(image, plan, &ask, ready, sink) {
        // Rather somebody who does not answer than nobody, where trunks say so.
        Err(Stop::Refuse(Refusal::NoVendor)) if has_last_resort(image, facts) => {
            let selected = select(image, plan, &Ask { last_resort: true, ..ask }, ready, sink)?;
            sink.step(Step::LastResort);
            Ok(selected)
        }
        selected => selected,
    }?;
    let mut found = Expanded::default();
    found.candidates.reserve_exact(selected.chosen.len());
    for chosen in &selected.chosen {
        let begins = found.candidates.len();
        let vendor = image.routing.vendors.get(usize::from(chosen.vendor));
        let trunks = vendor.map_or(&[][..], |v| &v.trunks);
        for &trunk in trunks.iter().filter(|t| **t != facts.trunk) {
            expand(image, trunk, called, facts, &mut found).map_err(Stop::Need)?;
        }
        if let Some([first, others @ ..]) = found.candidates.get_mut(begins..) {
            first.buy = image.book.bought_quote(chosen.vendor, chosen.alternative);
            others.iter_mut().for_each(|other| other.buy.clone_from(&first.buy));
        }
    }
    Ok(found.into_way(image, taken(image, &selected), stop_on(image, &selected)))
}

/// The number that rates go by: where a number was ported to, once that is known.
fn ported(
    image: &Image,
    facts: &Facts,
    called: Digits,
    sink: &mut impl Sink,
) -> Result<Digits, Stop> {
    if let Some(told) = facts.told {
        sink.step(Step::Told { ported: matches!(told, Dip::Ported(_)) });
        return Ok(if let Dip::Ported(to) = told { to } else { called });
    }
    let Some(porting) = &image.routing.porting else { return Ok(called) };
    if !porting.called.is_empty() && !porting.called.iter().any(|p| called.starts_with(*p)) {
        return Ok(called);
    }
    let known = facts.ported.get(called, facts.now.mono);
    let known = known.ok_or(Stop::Need(Question::Port(called)))?;
    let ported = match known {
        Dip::Ported(_) => Some(true),
        Dip::Native => Some(false),
        Dip::Silent => None,
    };
    sink.step(Step::Ported { ported });
    match known {
        Dip::Ported(to) => Ok(to),
        Dip::Silent if porting.strict => Err(Stop::Refuse(Refusal::PortingUnknown)),
        Dip::Native | Dip::Silent => Ok(called),
    }
}

/// Whether every host name of a vendor's trunks is known.
fn reachable(image: &Image, vendor: u16, facts: &Facts) -> Result<(), Question> {
    let vendor = image.routing.vendors.get(usize::from(vendor));
    let trunks = vendor.into_iter().flat_map(|v| &v.trunks);
    let trunks = trunks.filter_map(|t| image.trunk(*t));
    trunks.flat_map(|t| &t.endpoints).try_for_each(|endpoint| match endpoint {
        Target::Name(query) if facts.names.get(query, facts.now.mono).is_none() => {
            Err(Question::Resolve(query.clone()))
        }
        Target::Name(_) | Target::Address(_) => Ok(()),
    })
}

fn taken(image: &Image, selected: &Selected) -> Option<Taken> {
    let routing = &image.routing;
    Some(Taken {
        plan: routing.plans.get(usize::from(selected.plan))?.name.clone().into(),
        rule: selected.rule + 1,
        currency: routing.currency,
        places: routing.places,
        rounding: routing.rounding,
        sell: selected.priced.and_then(|priced| image.book.sold_quote(&priced)),
    })
}

fn stop_on(image: &Image, selected: &Selected) -> Vec<u16> {
    let plan = image.routing.plans.get(usize::from(selected.plan));
    let rule = plan.and_then(|p| p.rules.get(usize::from(selected.rule)));
    match rule.map(|r| &r.action) {
        Some(super::plan::Action::Choose(choice)) => choice.stop_on.clone(),
        Some(super::plan::Action::Block) | None => Vec::new(),
    }
}

/// The number as it is routed: without the trunk's prefix, international, after its rules.
fn dialled(ingress: &Trunk, number: &[u8]) -> Result<Digits, Refusal> {
    let rest = ingress
        .tech_prefix
        .and_then(|prefix| number.strip_prefix(prefix.ascii(&mut [0; MAX_DIGITS])));
    let rest = rest.unwrap_or(number);
    let number = ingress.dial_plan.read(rest).map_err(|_| Refusal::BadNumber)?.digits;
    let number = ingress.rewrite_in.apply(number).map_err(|_| Refusal::BadNumber)?;
    called::apply(&ingress.called_in, number)
}

/// What a Request-URI says about its number's porting (RFC 4694), where the trunk is believed: `rn` is where
/// it was ported to; `npdi` without it, that somebody asked and it was not.
pub fn told(ingress: &Trunk, uri: &Uri) -> Option<Dip> {
    if !ingress.believes_rn {
        return None;
    }
    let Some(rn) = uri.user_param(b"rn") else {
        return uri.user_param(b"npdi").map(|_| Dip::Native);
    };
    let context = uri.user_param(b"rn-context").filter(|context| context.starts_with(b"+"));
    let whole = match context {
        Some(context) if !rn.starts_with(b"+") => [context, rn].concat(),
        Some(_) | None => rn.to_vec(),
    };
    ingress.dial_plan.read(&whole).ok().map(|rn| Dip::Ported(rn.digits))
}

/// The targets by priority, then drawn by weight without replacement.
fn in_order(targets: &[RouteTarget], draw: u64) -> impl Iterator<Item = &RouteTarget> {
    let ranked = targets.iter().enumerate().map(|(i, t)| routing_trie::Candidate {
        id: i as u32,
        priority: t.priority,
        weight: u32::from(t.weight),
    });
    let mut ranked: Vec<routing_trie::Candidate> = ranked.collect();
    routing_trie::order(&mut ranked, draw);
    ranked.into_iter().filter_map(|c| targets.get(c.id as usize))
}

/// Whether a trunk is tried when every way to carry a call is out.
fn is_last_resort(image: &Image, trunk: u16) -> bool {
    let probing = image.trunk(trunk).and_then(|trunk| trunk.probing.as_ref());
    probing.is_none_or(|probing| probing.last_resort)
}

/// Whether a vendor has a trunk that is out, and tried all the same.
fn has_last_resort(image: &Image, facts: &Facts) -> bool {
    let mut trunks = image.routing.vendors.iter().flat_map(|vendor| &vendor.trunks);
    trunks.any(|trunk| facts.outages.has_all(*trunk) && is_last_resort(image, *trunk))
}

/// Candidates while they are gathered.
#[derive(Default)]
struct Expanded {
    candidates: Vec<Candidate>,
    asked: Option<Asked>,
    stale: bool,
}

impl Expanded {
    fn into_way(mut self, image: &Image, taken: Option<Taken>, stop_on: Vec<u16>) -> Way {
        let candidates = &mut self.candidates;
        if candidates.iter().all(|candidate| candidate.out) {
            candidates.iter_mut().for_each(|c| c.out = !is_last_resort(image, c.trunk));
        }
        // Who is passed over takes nobody's place.
        let mut surplus = candidates.len().saturating_sub(MAX_CANDIDATES);
        while surplus > 0
            && let Some(at) = candidates.iter().rposition(|c| c.out)
        {
            let gone = candidates.remove(at);
            // What stood beside it begins a group of its own.
            if let Some(next) = candidates.get_mut(at).filter(|_| !gone.beside) {
                next.beside = false;
            }
            surplus -= 1;
        }
        candidates.truncate(MAX_CANDIDATES);
        Way { candidates: self.candidates, taken, stop_on, stale: self.stale }
    }
}

/// A number as it is asked for.
struct Asked {
    number: Digits,
    plus: bool,
    text: Arc<[u8]>,
}

impl Asked {
    fn new(number: Digits, plus: bool) -> Asked {
        let mut text = [b'+'; MAX_DIGITS + 1];
        let [_, digits @ ..] = &mut text;
        let end = 1 + number.ascii(digits).len();
        let text = text.get(usize::from(!plus)..end).unwrap_or_default().into();
        Asked { number, plus, text }
    }
}

/// Adds a candidate per endpoint address of a trunk, for a number under the trunk's rules.
fn expand(
    image: &Image,
    index: u16,
    number: Digits,
    facts: &Facts,
    out: &mut Expanded,
) -> Result<(), Question> {
    let Some(trunk) = image.trunk(index) else { return Ok(()) };
    let Ok(number) = trunk.outgoing(number) else { return Ok(()) };
    // Most candidates share it with the one before.
    let known = out.asked.as_ref().filter(|a| (a.number, a.plus) == (number, trunk.plus));
    let text = match known {
        Some(asked) => asked.text.clone(),
        None => out.asked.insert(Asked::new(number, trunk.plus)).text.clone(),
    };
    endpoints(image, (index, trunk), text, facts, out)
}

/// Adds a candidate per endpoint address of a trunk, for a number as it is asked for there.
fn endpoints(
    image: &Image,
    (index, trunk): (u16, &Trunk),
    number: Arc<[u8]>,
    facts: &Facts,
    out: &mut Expanded,
) -> Result<(), Question> {
    let Expanded { candidates, stale, .. } = out;
    let mut push = |endpoint| {
        let number = number.clone();
        let (trunk, buy, beside, redirected) = (index, None, false, false);
        let out = facts.outages.has(index, endpoint);
        candidates.push(Candidate { trunk, endpoint, number, buy, beside, redirected, out });
    };
    for endpoint in &trunk.endpoints {
        match endpoint {
            Target::Address(address) => push(*address),
            Target::Name(query) => {
                let Some(found) = facts.names.get(query, facts.now.mono) else {
                    return Err(Question::Resolve(query.clone()));
                };
                *stale |= found.stale;
                let interface = image.interfaces.get(usize::from(trunk.interface));
                let ipv6 = interface.is_some_and(|i| i.sip.is_ipv6());
                let tried = next_hop::addresses(query, found.hops, ipv6, facts.draw);
                tried.into_iter().for_each(&mut push);
            }
        }
    }
    Ok(())
}
