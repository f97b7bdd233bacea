//! Keep-alives of ours (RFC 5626 3.5 and 4.4): what the endpoints of a trunk with `keepalive_s` hear of us when
//! nothing else is said, so that bindings of NATs and firewalls stay, and silence is noticed.
//!
//! Over connections that is a double line end, whose answer the connection itself waits for; over UDP a STUN
//! Binding request, whose answer comes here. Each trunk is kept open by one shard; an answer may arrive at
//! another, and bears the number of the one that asked.

use super::{Signal, stun};
use crate::core::{Alarm, Core, Turn};
use crate::counters::Dropped;
use crate::policy::{Target, Trunk, next_hop};
use base::random::Random;
use base::{Instant, PortId, ShardId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What is said over a connection (RFC 5626 3.5.1).
pub const PING: &[u8] = b"\r\n\r\n";
/// A request that is not answered is repeated after this time, then after twice, and so on (RFC 5389 7.2.1).
const AGAIN: Duration = Duration::from_millis(500);
/// So many requests without an answer are silence.
const TRIES: u32 = 4;
/// How often endpoints whose name has no address yet are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What is kept open, by trunk and endpoint.
#[derive(Default)]
pub(crate) struct Keeper {
    flows: BTreeMap<(u16, SocketAddr), Flow>,
}

/// One way that is kept open.
struct Flow {
    port: PortId,
    due: Instant,
    /// A STUN request that waits for its answer, and how often it was sent.
    asked: Option<([u8; 12], u32)>,
    /// It did not answer last time.
    is_silent: bool,
    /// The address it last saw us at.
    mapped: Option<SocketAddr>,
}

impl Signal {
    /// The configuration is another: what is to be kept open is looked at.
    pub(super) fn look_at_keepalives(&mut self, now: Instant) {
        let (own, shards) = (usize::from(self.core.shard.0), self.shards.max(1));
        let image = &self.core.image;
        let is_ours = |(id, trunk): (usize, &Trunk)| id % shards == own && is_kept(trunk);
        let has_any = image.trunks.iter().enumerate().any(is_ours);
        if has_any || !self.core.keeper.flows.is_empty() {
            self.core.wheel.schedule(now, Alarm::KeepAlive(image.generation));
        }
    }

    /// Says what is due, and comes back for the next. Ends where a newer configuration has its own alarm.
    pub(super) fn keep_alive(&mut self, turn: &mut Turn, generation: u64) {
        let core = &mut self.core;
        if core.image.generation != generation {
            return;
        }
        let now = turn.now.mono;
        let mut keeper = core::mem::take(&mut core.keeper);
        keeper.renew(core, self.shards, now);
        for ((trunk, peer), flow) in &mut keeper.flows {
            if flow.due <= now {
                let every = core.image.trunk(*trunk).and_then(|trunk| trunk.keepalive);
                flow.say(core, turn, *peer, every.unwrap_or(LOOK));
            }
        }
        let silent = keeper.flows.values().filter(|flow| flow.is_silent).count();
        core.counters.keepalive_silent.set(silent as u64);
        let next = keeper.flows.values().map(|flow| flow.due).min().unwrap_or(Instant::NEVER);
        if is_any_kept(core, self.shards) {
            core.wheel.schedule(next.min(now + LOOK), Alarm::KeepAlive(generation));
        }
        core.keeper = keeper;
    }

    /// A STUN answer: to a request of ours, or of another shard's.
    pub(super) fn bound(
        &mut self,
        turn: &Turn,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Option<ShardId> {
        let core = &mut self.core;
        let id = bytes.get(8..20).and_then(|id| <[u8; 12]>::try_from(id).ok()).unwrap_or_default();
        if id[0] != core.shard.0 {
            return (usize::from(id[0]) < self.shards).then_some(ShardId(id[0]));
        }
        let asked = core.keeper.flows.iter_mut().find(|((_, peer), flow)| {
            *peer == source && flow.asked.is_some_and(|(asked, _)| asked == id)
        });
        let Some(((trunk, _), flow)) = asked else {
            core.counters.dropped.add(Dropped::StrayResponse.index());
            return None;
        };
        (flow.asked, flow.is_silent) = (None, false);
        core.counters.keepalives_answered.add(1);
        let every = core.image.trunk(*trunk).and_then(|trunk| trunk.keepalive);
        flow.due = turn.now.mono + spread(&mut core.random, every.unwrap_or(LOOK));
        // RFC 5626 4.4.2: another address is another flow.
        let mapped = stun::mapped_in(bytes);
        if flow.mapped.is_some() && mapped.is_some() && flow.mapped != mapped {
            core.counters.keepalives_rebound.add(1);
        }
        flow.mapped = mapped.or(flow.mapped);
        None
    }
}

fn is_kept(trunk: &Trunk) -> bool {
    !trunk.retired && trunk.keepalive.is_some()
}

fn is_any_kept(core: &Core, shards: usize) -> bool {
    let (own, shards) = (usize::from(core.shard.0), shards.max(1));
    core.image.trunks.iter().enumerate().any(|(id, trunk)| id % shards == own && is_kept(trunk))
}

/// RFC 5626 4.4: between four fifths and all of it, so that not everybody speaks at once.
fn spread(random: &mut Random, every: Duration) -> Duration {
    every.mul_f64(0.8 + 0.2 * (random.next() >> 11) as f64 / (1u64 << 53) as f64)
}

impl Keeper {
    /// The endpoints as the configuration, and DNS, have them now.
    fn renew(&mut self, core: &mut Core, shards: usize, now: Instant) {
        let (own, shards) = (usize::from(core.shard.0), shards.max(1));
        let image = core.image.clone();
        let mut wanted = BTreeMap::new();
        for (id, trunk) in (0u16..).zip(&image.trunks) {
            if usize::from(id) % shards != own || !is_kept(trunk) {
                continue;
            }
            let Some(port) = image.port_of(trunk) else { continue };
            let ipv6 = image.interface_of(port).is_some_and(|i| i.sip.is_ipv6());
            for endpoint in &trunk.endpoints {
                let found = match endpoint {
                    Target::Address(address) => vec![*address],
                    Target::Name(query) => core
                        .names
                        .get(query, now)
                        .map(|found| next_hop::addresses(query, found.hops, ipv6, 0))
                        .unwrap_or_default(),
                };
                let found = found.into_iter().filter(|to| core.permitted(port, *to));
                wanted.extend(found.map(|to| ((id, to), port)));
            }
        }
        self.flows.retain(|flow, at| wanted.get(flow) == Some(&at.port));
        for (flow, port) in wanted {
            let every = image.trunk(flow.0).and_then(|trunk| trunk.keepalive).unwrap_or(LOOK);
            let first = every.mul_f64((core.random.next() >> 11) as f64 / (1u64 << 53) as f64);
            self.flows.entry(flow).or_insert_with(|| Flow {
                port,
                // The first comes soon: a connection is there before the first call is.
                due: now + first.min(Duration::from_secs(1)),
                asked: None,
                is_silent: false,
                mapped: None,
            });
        }
    }
}

impl Flow {
    fn say(&mut self, core: &mut Core, turn: &mut Turn, peer: SocketAddr, every: Duration) {
        let now = turn.now.mono;
        if core.image.is_stream(self.port) {
            core.counters.keepalives_sent.add(1);
            Core::send_text(turn, self.port, peer, PING);
            self.due = now + spread(&mut core.random, every);
            return;
        }
        let (id, tries) = match self.asked.take() {
            Some((_, TRIES..)) => {
                core.counters.keepalives_unanswered.add(1);
                self.is_silent = true;
                self.due = now + spread(&mut core.random, every);
                return;
            }
            Some((id, tries)) => (id, tries + 1),
            None => (fresh(core), 1),
        };
        core.counters.keepalives_sent.add(1);
        Core::send_text(turn, self.port, peer, &stun::request(&id));
        self.asked = Some((id, tries));
        self.due = now + AGAIN * (1 << (tries - 1));
    }
}

/// The number of a request: the shard that asks, then chance.
fn fresh(core: &mut Core) -> [u8; 12] {
    let mut id = [0; 12];
    let (low, high) = (core.random.next().to_le_bytes(), core.random.next().to_le_bytes());
    id.iter_mut().zip([low, high].as_flattened()).for_each(|(byte, chance)| *byte = *chance);
    id[0] = core.shard.0;
    id
}
