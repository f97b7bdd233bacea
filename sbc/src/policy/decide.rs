//! The decision: facts in, a list of candidates, a refusal or a need out. No effects.
//!
//! Runs from the top each time a fact is added; a call that names no hosts needs nothing.

use super::{Image, RouteTarget, Target, Trunk};
use crate::question::{Names, Question};
use crate::refusal::Refusal;
use base::Instant;
use routing_trie::{Digits, MAX_DIGITS};
use std::net::SocketAddr;

/// What is known about a call that wants a route.
pub struct Facts<'a> {
    /// The trunk it came from.
    pub trunk: u16,
    /// The called number as received.
    pub number: &'a [u8],
    /// When it came.
    pub now: Instant,
    /// What is known about names.
    pub names: &'a Names,
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
    pub number: Box<[u8]>,
}

/// What was decided.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try these, in order.
    Route(Vec<Candidate>),
    /// Nobody carries this call.
    Refuse(Refusal),
    /// An answer is needed first.
    Need(Question),
}

/// The most candidates one call may try.
const MAX_CANDIDATES: usize = 16;

/// Decides who carries a call.
pub fn decide(image: &Image, facts: &Facts) -> Decision {
    let Some(ingress) = image.trunks.get(usize::from(facts.trunk)) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    let Some(number) = dialled(ingress, facts.number) else {
        return Decision::Refuse(Refusal::BadNumber);
    };
    let Some((_, route)) = image.prefixes.lookup(number) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    let Some(route) = image.routes.get(route as usize) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    let mut candidates = Vec::new();
    for target in in_order(&route.targets, facts.draw) {
        if let Err(question) = expand(image, target, number, facts, &mut candidates) {
            return Decision::Need(question);
        }
        if candidates.len() >= MAX_CANDIDATES {
            candidates.truncate(MAX_CANDIDATES);
            break;
        }
    }
    if candidates.is_empty() {
        Decision::Refuse(Refusal::NameUnresolved)
    } else {
        Decision::Route(candidates)
    }
}

/// The number as it is routed: without the trunk's prefix, international, rewritten.
fn dialled(ingress: &Trunk, number: &[u8]) -> Option<Digits> {
    let mut text = [0; MAX_DIGITS];
    let prefix = ingress.tech_prefix.unwrap_or_default();
    let rest = number.strip_prefix(prefix.write(&mut text).as_bytes()).unwrap_or(number);
    let number = ingress.dial_plan.read(rest).ok()?.digits;
    ingress.rewrite_in.apply(number).ok()
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

/// Adds a candidate per endpoint address of the target's trunk.
fn expand(
    image: &Image,
    target: &RouteTarget,
    number: Digits,
    facts: &Facts,
    out: &mut Vec<Candidate>,
) -> Result<(), Question> {
    let Some(trunk) = image.trunks.get(usize::from(target.trunk)) else { return Ok(()) };
    let rewritten = target.rewrite.apply(number).and_then(|n| trunk.rewrite_out.apply(n));
    let Ok(rewritten) = rewritten else { return Ok(()) };
    let mut text = [0; MAX_DIGITS];
    let digits = rewritten.write(&mut text).as_bytes();
    let number: Box<[u8]> = if trunk.plus { [b"+", digits].concat().into() } else { digits.into() };
    let ipv6 = image.interfaces.get(usize::from(trunk.interface)).map(|i| i.sip.is_ipv6());
    let mut push = |endpoint| {
        out.push(Candidate { trunk: target.trunk, endpoint, number: number.clone() });
    };
    for endpoint in &trunk.endpoints {
        match endpoint {
            Target::Address(address) => push(*address),
            Target::Name(host, port) => {
                let Some(addresses) = facts.names.get(host, facts.now) else {
                    return Err(Question::Resolve(host.clone()));
                };
                // An address of the other family cannot be reached from the trunk's interface.
                let usable = addresses.iter().filter(|ip| Some(ip.is_ipv6()) == ipv6);
                usable.for_each(|ip| push(SocketAddr::new(*ip, *port)));
            }
        }
    }
    Ok(())
}
