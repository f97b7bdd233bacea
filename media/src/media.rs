//! A shard's media: its endpoints, and the calls signalling programs them with.

use crate::EndKey;
use crate::counters::Counters;
use crate::demux::Component;
use crate::dtls::Lane;
use crate::end::{End, Local, Report};
use crate::latch::Latch;
use crate::notice::Notice;
use crate::plan::Plan;
use crate::port::{NoPort, Ports};
use crate::secrets::Secrets;
use crate::srtp::{MasterKey, Suite};
use crate::stun::Ice;
use crate::sweep::Sweep;
use crate::tap::Tap;
use crate::verdict::Discard;
use base::{Instant, PortId, Slab, address};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What credentials are written with (RFC 8839 §5.4): 64 letters, so that each is as likely.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A pair of bound local ports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MediaPort {
    /// The RTP port.
    pub rtp: PortId,
    /// The RTCP port, bound to the number after RTP's.
    pub rtcp: PortId,
    /// The bound RTP address.
    pub address: SocketAddr,
    /// Index of its interface in the configuration.
    pub interface: u16,
}

impl MediaPort {
    pub(crate) fn of(self, component: Component) -> PortId {
        match component {
            Component::Rtp => self.rtp,
            Component::Rtcp => self.rtcp,
        }
    }
}

/// Who a local port belongs to now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// Not a media port of this shard.
    Unknown,
    /// Ready or quarantined.
    Idle,
    /// An endpoint's.
    End(EndKey, Component),
}

/// Keys let go of from sweep to sweep, of which there is one a turn: as many as packets, twice.
const MOST_PRESSED: usize = 2048;

/// All endpoints of a shard.
pub struct Media {
    /// What it counts; the gate reads it.
    pub counters: Arc<Counters>,
    pub(crate) slots: Vec<MediaPort>,
    /// Slots by bound RTP address: how a record finds its ports again.
    pub(crate) slot_by_address: BTreeMap<SocketAddr, u32>,
    pub(crate) ports: Ports,
    /// By `PortId`: the relay's only look-up.
    pub(crate) ports_by_id: Vec<Occupant>,
    pub(crate) ends: Slab<End>,
    /// Endpoints that learned an address since the last sweep.
    pub(crate) latched: Vec<EndKey>,
    /// Endpoints with a key that is down, and keys that were let go of since the last sweep.
    pub(crate) keys_down: Vec<EndKey>,
    pub(crate) pressed: Vec<Notice>,
    /// Endpoints whose leg is to be sent a report, found by the sweep.
    pub(crate) reports_due: Vec<EndKey>,
    /// Since when Binding requests of anybody's are counted, and how many there were.
    pub(crate) bindings: (Instant, u32),
    /// Handshakes, a few steps a turn.
    pub(crate) lane: Lane,
    pub(crate) sweep: Sweep,
    /// What tapped legs sent in this turn.
    pub(crate) tap: Tap,
    pub(crate) secrets: Secrets,
}

impl Media {
    /// Media over these ports, all ready. Memory for every endpoint's index is taken here. What is to be
    /// unguessable follows from `seed`, which no other life of the process may have.
    pub fn new(ports: Vec<MediaPort>, seed: [u8; 32], now: Instant) -> Media {
        let highest = ports.iter().map(|p| p.rtp.0.max(p.rtcp.0)).max();
        let mut ports_by_id = vec![Occupant::Unknown; highest.map_or(0, |id| id as usize + 1)];
        for port in &ports {
            ports_by_id[port.rtp.0 as usize] = Occupant::Idle;
            ports_by_id[port.rtcp.0 as usize] = Occupant::Idle;
        }
        let media = Media {
            counters: Arc::default(),
            ports: Ports::new(ports.iter().map(|p| p.interface)),
            ends: Slab::new(u32::try_from(ports.len()).unwrap_or(u32::MAX)),
            latched: Vec::with_capacity(2 * ports.len()),
            keys_down: Vec::with_capacity(ports.len()),
            pressed: Vec::with_capacity(MOST_PRESSED),
            reports_due: Vec::with_capacity(ports.len()),
            bindings: (now, 0),
            lane: Lane::new(),
            sweep: Sweep::new(now, ports.len()),
            tap: Tap::default(),
            slot_by_address: (0u32..).zip(&ports).map(|(slot, p)| (p.address, slot)).collect(),
            slots: ports,
            ports_by_id,
            secrets: Secrets::new(&seed),
        };
        media.publish();
        media
    }

    /// Takes an endpoint on `interface`, the oldest-freed first.
    pub fn reserve(&mut self, interface: u16, now: Instant) -> Result<EndKey, NoPort> {
        let taken = self.ports.take(interface, now).inspect_err(|why| {
            self.counters.no_port.add(why.index());
        })?;
        if taken.shortened {
            self.counters.quarantine_shortened.add(1);
        }
        let end = End::new(self.slots[taken.slot as usize], taken.slot, now);
        let Ok(key) = self.ends.insert(end) else {
            // As many places as slots: a free slot has a free place.
            debug_assert!(false, "more slots than places");
            return Err(NoPort::AllInUse);
        };
        self.occupy(taken.slot, Some(key));
        self.counters.reserved.add(1);
        self.publish();
        Ok(key)
    }

    /// A new master key of a suite, for what we are to send.
    pub fn draw_key(&mut self, suite: Suite) -> MasterKey {
        MasterKey::drawn(suite, &mut self.secrets)
    }

    /// Unguessable letters: a name that nothing else has.
    pub fn draw_name<const N: usize>(&mut self) -> [u8; N] {
        self.secrets.draw::<N>().map(|drawn| ICE_CHARS[usize::from(drawn) % ICE_CHARS.len()])
    }

    /// Credentials for the connectivity checks of a leg.
    pub fn draw_ice(&mut self) -> Ice {
        let text: [u8; 32] = self.draw_name();
        Ice {
            ufrag: core::array::from_fn(|i| text[i]),
            password: core::array::from_fn(|i| text[8 + i]),
        }
    }

    /// The local addresses of an endpoint.
    pub fn local(&self, end: EndKey) -> Option<Local> {
        self.ends.get(end).map(End::local)
    }

    /// Replaces an endpoint's plan; a dead key is ignored. What was learned stays while the remote
    /// addresses stay (a hold, a changed direction) and is forgotten when they change; the learning
    /// window and the patience for silence start anew. Targets nothing may be sent to are dropped. A plan
    /// that differs by `tap` alone changes nothing else.
    pub fn program(&mut self, now: Instant, key: EndKey, mut plan: Plan) {
        let Some(end) = self.ends.get_mut(key) else {
            return;
        };
        for target in [&mut plan.remote_rtp, &mut plan.remote_rtcp] {
            *target = target.map(address::canonical_socket);
            if let Some(to) = *target
                && !may_target(to, &plan.allow, end.ports.address)
            {
                *target = None;
                self.counters.targets_refused.add(1);
            }
        }
        if plan.tap {
            self.tap.make_room();
            end.is_noted = true;
        }
        if let Some(old) = &mut end.plan
            && old.tap != plan.tap
            && *old == (Plan { tap: old.tap, ..plan.clone() })
        {
            old.tap = plan.tap;
            return;
        }
        let remotes = |p: &Plan| (p.remote_rtp, p.remote_rtcp);
        if end.plan.as_ref().map(remotes) != Some(remotes(&plan)) {
            end.latch = Latch::default();
        }
        let waited = end.waiting();
        end.protect(&plan, now);
        self.lane.forget(waited - end.waiting());
        end.plan = Some(plan);
        end.begin_stream(&mut self.secrets);
        end.begin_keys();
        end.begin_reports(&mut self.secrets, now);
        end.programmed = now;
        end.silence_told = false;
        self.attend(key);
    }

    /// Joins two endpoints: what one leg sends goes to the other. Parts them from others first. Dead
    /// keys and an endpoint with itself are ignored.
    pub fn join(&mut self, a: EndKey, b: EndKey) {
        if a == b || self.ends.get(a).is_none() || self.ends.get(b).is_none() {
            return;
        }
        self.part(a);
        self.part(b);
        for (end, peer) in [(a, b), (b, a)] {
            if let Some(end) = self.ends.get_mut(end) {
                end.peer = Some(peer);
            }
        }
    }

    /// Undoes a join, on both sides.
    pub fn part(&mut self, a: EndKey) {
        let Some(peer) = self.ends.get_mut(a).and_then(|end| end.peer.take()) else {
            return;
        };
        if let Some(other) = self.ends.get_mut(peer).filter(|other| other.peer == Some(a)) {
            other.peer = None;
        }
    }

    /// The endpoint `end` is joined to.
    pub fn peer(&self, end: EndKey) -> Option<EndKey> {
        let peer = self.ends.get(end)?.peer?;
        (self.ends.get(peer)?.peer == Some(end)).then_some(peer)
    }

    /// The plan in force, with its refused targets gone.
    pub fn plan(&self, end: EndKey) -> Option<&Plan> {
        self.ends.get(end)?.plan.as_ref()
    }

    /// Where RTP for the leg goes now: what was learned, else its SDP address.
    pub fn target(&self, end: EndKey) -> Option<SocketAddr> {
        let end = self.ends.get(end)?;
        end.latch.target(end.plan.as_ref()?, Component::Rtp)
    }

    /// The RTP address learned from the leg, if its plan let one be learned.
    pub fn learned(&self, end: EndKey) -> Option<SocketAddr> {
        self.ends.get(end)?.latch.learned()
    }

    /// The driver could not deliver something sent from `port`. Counted; never the end of a call.
    pub fn undeliverable(&mut self, _port: PortId) {
        self.counters.undeliverable.add(1);
    }

    /// The driver received something on `port` larger than its buffer.
    pub fn truncated(&mut self, port: PortId) {
        self.blame(port, Discard::Truncated);
    }

    /// What an endpoint has seen so far.
    pub fn report(&self, end: EndKey) -> Option<Report> {
        self.ends.get(end).map(End::report)
    }

    /// Gives an endpoint back, parted, its ports quarantined; says what it has seen.
    pub fn release(&mut self, end: EndKey, now: Instant) -> Option<Report> {
        self.part(end);
        let key = end;
        let mut gone = self.ends.remove(end)?;
        gone.close_window(key, now);
        self.lane.forget(gone.waiting());
        self.occupy(gone.slot, None);
        self.ports.free(gone.ports.interface, gone.slot, now);
        self.publish();
        Some(gone.report())
    }

    /// Endpoints used by a leg. Together with `ready` and `quarantined` always `capacity`.
    pub fn in_use(&self) -> usize {
        self.ports.in_use()
    }

    /// Endpoints ready to be used.
    pub fn ready(&self) -> usize {
        self.ports.ready()
    }

    /// Endpoints resting before reuse.
    pub fn quarantined(&self) -> usize {
        self.ports.quarantined()
    }

    /// Endpoints in all.
    pub fn capacity(&self) -> usize {
        self.ports.capacity()
    }

    pub(crate) fn occupy(&mut self, slot: u32, key: Option<EndKey>) {
        let ports = self.slots[slot as usize];
        for (id, component) in [(ports.rtp, Component::Rtp), (ports.rtcp, Component::Rtcp)] {
            self.ports_by_id[id.0 as usize] =
                key.map_or(Occupant::Idle, |key| Occupant::End(key, component));
        }
    }

    /// Shows the pool's state in the gauges.
    pub(crate) fn publish(&self) {
        debug_assert_eq!(self.ports.in_use(), self.ends.len());
        self.counters.in_use.set(self.ports.in_use() as u64);
        self.counters.ready.set(self.ports.ready() as u64);
        self.counters.quarantined.set(self.ports.quarantined() as u64);
    }
}

/// Whether a plan may name `to` on an endpoint bound to `local`.
fn may_target(to: SocketAddr, allow: &base::Allow, local: SocketAddr) -> bool {
    to.port() != 0 && to.is_ipv4() == local.is_ipv4() && address::permitted(to.ip(), *allow)
}
