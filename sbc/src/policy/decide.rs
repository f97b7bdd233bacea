//! The decision: facts in, a list of candidates, a refusal or a need out. No effects.
//!
//! Runs from the top each time a fact is added; a call that names no hosts needs nothing.

use super::{Image, RouteTarget, Target};
use crate::question::{Names, Question};
use crate::refusal::Refusal;
use base::Instant;
use routing_trie::Number;
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
    let tech_prefix = ingress.tech_prefix.as_deref().unwrap_or(b"");
    let dialled = facts.number.strip_prefix(tech_prefix).unwrap_or(facts.number);
    let Some(number) = Number::new(dialled).and_then(|n| ingress.rewrite_in.apply(&n)) else {
        return Decision::Refuse(Refusal::BadNumber);
    };
    let Some(route) = image.prefixes.longest(number.digits()) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    let Some(route) = image.routes.get(route as usize) else {
        return Decision::Refuse(Refusal::NoRoute);
    };
    let mut candidates = Vec::new();
    for place in in_order(&route.targets, facts.draw) {
        match expand(image, &route.targets[place], &number, facts, &mut candidates) {
            Ok(()) => {}
            Err(question) => return Decision::Need(question),
        }
        if candidates.len() >= MAX_CANDIDATES {
            candidates.truncate(MAX_CANDIDATES);
            break;
        }
    }
    if candidates.is_empty() { Decision::Refuse(Refusal::NameUnresolved) } else { Decision::Route(candidates) }
}

/// Places of `targets` by priority, then drawn by weight without replacement.
fn in_order(targets: &[RouteTarget], draw: u64) -> Vec<usize> {
    let mut ranked: Vec<routing_trie::Share> = targets
        .iter()
        .map(|t| routing_trie::Share { priority: t.priority, weight: t.weight })
        .collect();
    routing_trie::order(&mut ranked, draw)
}

/// Adds a candidate per endpoint address of the target's trunk.
fn expand(
    image: &Image,
    target: &RouteTarget,
    number: &Number,
    facts: &Facts,
    out: &mut Vec<Candidate>,
) -> Result<(), Question> {
    let Some(trunk) = image.trunks.get(usize::from(target.trunk)) else { return Ok(()) };
    let rewritten = target.rewrite.apply(number).and_then(|n| trunk.rewrite_out.apply(&n));
    let Some(rewritten) = rewritten else { return Ok(()) };
    let mut push = |endpoint| {
        let number = rewritten.as_bytes().into();
        out.push(Candidate { trunk: target.trunk, endpoint, number });
    };
    for endpoint in &trunk.endpoints {
        match endpoint {
            Target::Address(address) => push(*address),
            Target::Name(host, port) => {
                let Some(addresses) = facts.names.get(host, facts.now) else {
                    return Err(Question::Resolve(host.clone()));
                };
                addresses.iter().for_each(|ip| push(SocketAddr::new(*ip, *port)));
            }
        }
    }
    Ok(())
}
