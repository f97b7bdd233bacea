//! SIP over connections (RFC 3261 18): who owns them, how they are made, and what comes and goes.
//!
//! A connection belongs to the shard that the hash of its far end says, whoever accepted or asked for it:
//! so every shard knows where to find it, and one connection serves the calls of all. Whole messages go
//! to the shard as letters; one that cannot be sent comes back as one. The connections of a shard have an
//! epoll of their own, whose descriptor the driver watches like the doorbell; with io_uring those that are
//! there have a seat in the ring instead, see [`ring`].

#![allow(unsafe_code, reason = "epoll has no safe wrapper")]

mod alias;
mod connection;
mod counters;
mod dial;
mod identity;
mod lane;
mod pulse;
mod ring;
mod terms;
mod tls;
mod trunks;
mod websocket;
mod wire;

pub(crate) use alias::Alias;
pub use counters::{ListenerCounters, TrunkCounters};
pub(crate) use ring::{Speech, Wish};
pub(crate) use terms::Terms;
pub use trunks::TrunkTable;
pub(crate) use trunks::Whose;

use super::mesh::{Accepted, IoCounters};
use super::sys::check;
use alias::Aliases;
use base::{Instant, PortId, ShardId};
use connection::{BATCH, Connection};
use counters::Ended;
use lane::Lane;
use node::{Letter, PortSpec, Role};
use ring::Ring;
use sbc::policy::Transport;
use sbc::signal::PING;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use websocket::Websocket;
use wire::{Scratch, Wire};

/// Connections of one shard.
pub(crate) const MOST: usize = 16_384;
/// Connections of one shard with one address.
const MOST_OF_ONE: usize = 1024;
/// Events taken per turn; the others are reported again.
const READY: usize = 64;
/// Connections accepted per turn and listener.
const ACCEPTED: usize = 32;
/// Bytes that may wait on all connections of a shard together.
const WAITING: usize = 64 << 20;
/// How often time-outs are looked at, and listeners that could not accept are tried again.
const SWEEP: Duration = Duration::from_millis(250);
/// Tokens from here on are listeners.
const LISTENERS: u64 = 1 << 32;

/// How many connections there may be, and how much may wait on them.
#[derive(Copy, Clone)]
pub(crate) struct Bounds {
    pub(crate) most: usize,
    pub(crate) most_of_one: usize,
    pub(crate) waiting: usize,
}

const BOUNDS: Bounds = Bounds { most: MOST, most_of_one: MOST_OF_ONE, waiting: WAITING };

/// What is counted of the connections of one shard beside all of them.
#[derive(Clone, Default)]
pub(crate) struct Counted {
    /// Of each listener, in their order.
    pub(crate) listeners: Arc<[ListenerCounters]>,
    /// Of each trunk.
    pub(crate) trunks: Arc<TrunkTable>,
}

/// The connections of one shard.
pub(crate) struct Streams {
    own: usize,
    shards: usize,
    bounds: Bounds,
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    connections: HashMap<u32, Connection, BuildHasherDefault<Spread>>,
    by_peer: HashMap<Way, u32>,
    per_address: HashMap<IpAddr, usize>,
    next: u32,
    events: Vec<libc::epoll_event>,
    scratch: Scratch,
    /// What connections are begun with, once the gate has said it.
    terms: Arc<Terms>,
    /// How often that was.
    agreed: u32,
    /// Connections that have not carried a message yet, oldest first, and some that have or are gone.
    unproven: VecDeque<u32>,
    /// Bytes that wait on all connections.
    waiting: usize,
    /// Connections that were given messages in this turn.
    listed: Vec<u32>,
    /// Connections that wait for more before they speak, and when a turn is wanted for them.
    gathering: Vec<u32>,
    gathered: Instant,
    /// The time this turn has for setting connections up.
    lane: Lane,
    /// The epoll may have something.
    ready: bool,
    swept: Instant,
    /// Connections that have taken too long, and are closed when there is time.
    overdue: VecDeque<u32>,
    /// What the shard is to hear next turn.
    letters: Vec<Letter>,
    /// Connections that are another shard's.
    strays: Vec<(ShardId, Accepted)>,
    /// Seats of connections in the driver's ring.
    ring: Ring,
    /// Connections that may be used for other addresses.
    aliases: Aliases,
    counted: Counted,
    /// Trunks on whose connections something waited at the last sweep.
    burdened: Vec<u16>,
}

/// Spreads the numbers of connections over a map. They are ours, so nobody can choose them to meet.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }
    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// From a listener's port to a far end. Whoever connects chooses the latter, so the hash has a key; it takes all of it
/// at once, since its parts one by one cost three times that.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Way(PortId, SocketAddr);

impl Hash for Way {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Way(port, peer) = self;
        let ends = (u64::from(port.0) << 16) | u64::from(peer.port());
        let [first, second] = halves(peer.ip());
        let mut bytes = [0; 24];
        let (words, _) = bytes.as_chunks_mut();
        for (word, part) in words.iter_mut().zip([ends, first, second]) {
            *word = part.to_ne_bytes();
        }
        hasher.write(&bytes);
    }
}

/// An address of either family in two words.
fn halves(ip: IpAddr) -> [u64; 2] {
    let bits = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

/// A socket that connections come to.
pub(crate) struct Listener {
    port: PortId,
    spec: PortSpec,
    socket: TcpListener,
    /// It could not accept, for want of descriptors or memory, and is not watched until the next sweep.
    paused: bool,
}

impl Listener {
    /// Listens at a port; every shard does, at the same address.
    pub(crate) fn open(port: PortId, spec: &PortSpec) -> io::Result<Listener> {
        Ok(Listener { port, spec: spec.clone(), socket: dial::listen(spec)?, paused: false })
    }

    /// Where it listens, with the number the kernel chose if none was asked for.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// The shard that owns connections with this far end.
pub(crate) fn owner(peer: SocketAddr, shards: usize) -> usize {
    // Any hash would do that every shard computes alike, and that spreads neighbours.
    let mix = |bits: u64| (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let [first, second] = halves(peer.ip());
    let mixed = mix(mix(mix(first) ^ second) ^ u64::from(peer.port()));
    ((mixed >> 33) % shards.max(1) as u64) as usize
}

impl Streams {
    /// The connections of shard `own` of `shards`; `None` when nothing listens for any. Of those that are
    /// there as many as there are `places` have a seat in the driver's ring.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        (own, shards): (usize, usize),
        places: Range<u32>,
        counted: Counted,
    ) -> io::Result<Option<Streams>> {
        if listeners.is_empty() {
            return Ok(None);
        }
        // SAFETY: takes plain integers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just created and nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        for (listener, place) in listeners.iter().zip(LISTENERS..) {
            let fd = listener.socket.as_raw_fd();
            control(&epoll, libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, place)?;
        }
        Ok(Some(Streams {
            own,
            shards,
            bounds: BOUNDS,
            epoll,
            listeners,
            connections: HashMap::default(),
            by_peer: HashMap::new(),
            per_address: HashMap::new(),
            next: 0,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; READY],
            scratch: Scratch::new(),
            terms: Arc::default(),
            agreed: 0,
            unproven: VecDeque::new(),
            waiting: 0,
            listed: Vec::new(),
            gathering: Vec::new(),
            gathered: Instant::NEVER,
            lane: Lane::default(),
            ready: true,
            swept: Instant(0),
            overdue: VecDeque::new(),
            letters: Vec::new(),
            strays: Vec::new(),
            ring: Ring::new(places),
            aliases: Aliases::default(),
            counted,
            burdened: Vec::new(),
        }))
    }

    /// The descriptor that becomes readable when something happens on a connection.
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Lets tests reach the bounds.
    #[cfg(test)]
    pub(crate) fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The driver saw the descriptor readable.
    pub(crate) fn wake(&mut self) {
        self.ready = true;
    }

    /// Connections begin on these terms from now on.
    pub(crate) fn agree(&mut self, terms: Arc<Terms>) {
        if terms.has_tls() && !self.terms.has_tls() {
            tls::warm_up();
        }
        self.terms = terms;
        self.agreed = self.agreed.wrapping_add(1);
    }

    /// Whether a turn would find something already.
    pub(crate) fn is_ready(&self) -> bool {
        let has_work = self.ready || self.ring.has_orders() || !self.listed.is_empty();
        has_work || !self.overdue.is_empty() || !self.letters.is_empty() || !self.strays.is_empty()
    }

    /// When a turn is wanted even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = !self.connections.is_empty() || !self.burdened.is_empty();
        let waits = waits || self.listeners.iter().any(|l| l.paused);
        waits.then(|| self.gathered.min(self.swept + SWEEP))
    }

    /// Takes what happened: whole messages, and messages that could not be sent, as letters. `sets_up`: this is
    /// the time to accept connections and to shake hands, when no packet waits.
    pub(crate) fn turn(
        &mut self,
        (now, sets_up): (Instant, bool),
        letters: &mut Vec<Letter>,
        counters: &IoCounters,
    ) {
        self.lane = Lane::new(sets_up);
        if std::mem::take(&mut self.ready) {
            self.poll(now, counters);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        self.close_overdue(now, counters);
        letters.append(&mut self.letters);
        counters.streams.set(self.connections.len() as u64);
    }

    /// Whether there is something for other shards.
    pub(crate) fn has_parcels(&self) -> bool {
        !self.strays.is_empty() || self.aliases.has_told()
    }

    /// Connections that were accepted here and belong elsewhere.
    pub(crate) fn strays(&mut self) -> std::vec::Drain<'_, (ShardId, Accepted)> {
        self.strays.drain(..)
    }

    /// Takes a whole message for the next [`Streams::flush`]; names its owner when that is another shard,
    /// and the far end there.
    pub(crate) fn send(
        &mut self,
        (port, to): (PortId, SocketAddr),
        bytes: &[u8],
        now: Instant,
        counters: &IoCounters,
    ) -> Option<(ShardId, SocketAddr)> {
        let (mut to, mut its) = (to, owner(to, self.shards));
        let mut known = self.by_peer.get(&Way(port, to)).copied();
        if its == self.own
            && known.is_none()
            && let Some(peer) = self.aliased(port, to)
        {
            counters.streams_aliased.add(1);
            (to, its) = (peer, owner(peer, self.shards));
            known = self.by_peer.get(&Way(port, to)).copied();
        }
        if its != self.own {
            return Some((ShardId(its as u8), to));
        }
        let Some(id) = self.reach((port, to, known), now, counters) else {
            self.letters.push(unsent(bytes));
            return None;
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            if !connection.say_later(bytes, now) {
                counters.stream_overflows.add(1);
                connection.account.overflows += 1;
                self.letters.push(unsent(bytes));
                self.count(port, |listener| listener.overflows.add(1));
            } else {
                self.waiting += bytes.len();
                let is_message = bytes != PING;
                connection.account.said += u32::from(is_message);
                if connection.queued() >= BATCH {
                    self.write(id, counters);
                } else if connection.list() {
                    self.listed.push(id);
                }
                self.relieve(counters);
                self.count(port, |listener| listener.said.add(u64::from(is_message)));
            }
        }
        None
    }

    /// Sends what connections were given in this turn and what they had gathered: what goes the same way goes
    /// together. Those with a seat stay listed, for the ring.
    pub(crate) fn flush(&mut self, now: Instant, counters: &IoCounters) {
        let mut listed = std::mem::take(&mut self.listed);
        listed.append(&mut self.gathering);
        self.gathered = Instant::NEVER;
        listed.retain(|id| {
            let Some(connection) = self.connections.get_mut(id) else { return false };
            if let Some(until) = connection.pulse.waits(now) {
                self.gathering.push(*id);
                self.gathered = self.gathered.min(until);
                return false;
            }
            let is_seated = connection.seat.is_some();
            if !is_seated {
                self.write(*id, counters);
            }
            is_seated
        });
        self.listed = listed;
    }

    /// The connection to a far end, which may be `known`, or one begun now.
    fn reach(
        &mut self,
        (port, to, known): (PortId, SocketAddr, Option<u32>),
        now: Instant,
        counters: &IoCounters,
    ) -> Option<u32> {
        // RFC 5923 5: a connection is used again only for names it has proved.
        let proved = |id: &u32| {
            self.connections.get(id).is_some_and(|connection| connection.bears(&self.terms, to))
        };
        if let Some(id) = known.filter(proved) {
            return Some(id);
        }
        match self.dial(port, to, now) {
            Ok(id) => {
                counters.streams_dialled.add(1);
                Some(id)
            }
            Err(_) => {
                counters.stream_errors.add(1);
                self.refuse(port, to, true);
                None
            }
        }
    }

    /// When too much waits in all, the connection that has the most to take goes.
    fn relieve(&mut self, counters: &IoCounters) {
        while self.waiting > self.bounds.waiting {
            let worst = self.connections.iter().max_by_key(|(_, c)| c.queued());
            let Some((&id, _)) = worst else { return };
            self.close(id, Ended::Evicted, counters);
        }
    }

    /// Makes room for one more: the oldest connection that never carried a message goes.
    fn make_room(&mut self, counters: &IoCounters) -> bool {
        while self.connections.len() >= self.bounds.most {
            let Some(id) = self.unproven.pop_front() else { return false };
            if self.connections.get(&id).is_some_and(|c| !c.is_proven()) {
                self.close(id, Ended::Evicted, counters);
            }
        }
        true
    }

    /// A connection that another shard accepted for us.
    pub(crate) fn adopt(&mut self, accepted: Accepted, now: Instant, counters: &IoCounters) {
        let Accepted { port, peer, stream } = accepted;
        let from_here = self.per_address.get(&peer.ip()).copied().unwrap_or_default();
        if from_here >= self.bounds.most_of_one || !self.make_room(counters) {
            counters.streams_refused.add(1);
            self.refuse(port, peer, false);
            return self.count(port, |listener| listener.refused.add(1));
        }
        let Some((transport, interface)) = self.kind(port) else { return };
        let session = if transport.has_tls() {
            match self.terms.accept() {
                Some(session) => Some(session),
                None => return counters.stream_tls_failures.add(1),
            }
        } else {
            None
        };
        let mut wire = Wire::new(stream, session);
        if transport.is_websocket() {
            wire = wire.upgraded(Websocket::accept(self.terms.origins(interface)), Vec::new());
        }
        counters.streams_accepted.add(1);
        match self.add(Connection::accepted(port, peer, wire, now)) {
            Ok(id) => {
                self.unproven.push_back(id);
                self.seat(id, counters);
            }
            Err(_) => counters.stream_errors.add(1),
        }
    }

    fn dial(&mut self, port: PortId, to: SocketAddr, now: Instant) -> io::Result<u32> {
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        let listener = listener.ok_or(io::ErrorKind::NotFound)?;
        if self.connections.len() >= self.bounds.most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (transport, _) = self.kind(port).ok_or(io::ErrorKind::NotFound)?;
        let session = if transport.has_tls() { Some(self.terms.dial(to)?) } else { None };
        let mut wire = Wire::new(dial::dial(&listener.spec, to)?, session);
        if transport.is_websocket() {
            let mut request = Vec::new();
            let websocket = Websocket::dial(&self.terms.host(to), to, &mut request)?;
            wire = wire.upgraded(websocket, request);
        }
        self.add(Connection::dialled(port, to, wire, now))
    }

    /// What a port carries, and on which interface.
    fn kind(&self, port: PortId) -> Option<(Transport, u16)> {
        let spec = &self.listeners.iter().find(|listener| listener.port == port)?.spec;
        match spec.role {
            Role::Stream(transport) => Some((transport, spec.interface)),
            Role::Sip | Role::Rtp | Role::Rtcp => None,
        }
    }

    fn add(&mut self, mut connection: Connection) -> io::Result<u32> {
        while self.connections.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        if !connection.is_settled() || self.ring.is_full() {
            let (add, events) = (libc::EPOLL_CTL_ADD, connection.interest());
            control(&self.epoll, add, connection.fd(), events, u64::from(id))?;
            connection.watch_as(events);
        }
        self.next = id.wrapping_add(1);
        let (port, peer) = connection.ends();
        self.by_peer.insert(Way(port, peer), id);
        *self.per_address.entry(peer.ip()).or_default() += 1;
        self.connections.insert(id, connection);
        self.count(port, |listener| {
            listener.opened.add(1);
            listener.connections.set(listener.connections.get() + 1);
        });
        self.assign(id);
        self.ready = true;
        Ok(id)
    }

    fn poll(&mut self, now: Instant, counters: &IoCounters) {
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for `READY` events.
        let found = check(unsafe { libc::epoll_wait(epoll, events, READY as i32, 0) });
        let found = found.unwrap_or_default() as usize;
        // The epoll's own descriptor tells of something new, not of what was left: whoever leaves something
        // undone, or changes what is watched, says so.
        self.ready = found == READY;
        for place in 0..found {
            let event = self.events[place];
            if event.u64 >= LISTENERS {
                self.accept((event.u64 - LISTENERS) as usize, now, counters);
            } else {
                self.happened(event.u64 as u32, event.events as i32, now, counters);
            }
        }
    }

    fn accept(&mut self, place: usize, now: Instant, counters: &IoCounters) {
        for _ in 0..ACCEPTED {
            if !self.lane.admits(counters) {
                break;
            }
            let Some(listener) = self.listeners.get_mut(place) else { return };
            let (stream, peer) = match listener.socket.accept() {
                Ok(accepted) => accepted,
                Err(e) if is_exhausted(&e) => {
                    // It would be reported again at once, and could be accepted no better.
                    counters.stream_accepts_delayed.add(1);
                    listener.paused = true;
                    let _unwatched = listener.watch(&self.epoll, place, 0);
                    return;
                }
                Err(_) => return,
            };
            let accepted = Accepted { port: listener.port, peer, stream };
            if dial::prepare(&accepted.stream, &listener.spec).is_err() {
                counters.stream_errors.add(1);
                continue;
            }
            match owner(peer, self.shards) {
                owner if owner == self.own => self.adopt(accepted, now, counters),
                owner => self.strays.push((ShardId(owner as u8), accepted)),
            }
        }
        self.ready = true;
    }

    fn happened(&mut self, id: u32, events: i32, now: Instant, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_dialling()
            && events & (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) != 0
        {
            match connection.dialled_through(now) {
                Ok(()) => {}
                Err(_) => return self.close(id, Ended::Error, counters),
            }
        }
        let shakes_hands = connection.is_shaking_hands();
        if shakes_hands && !self.lane.admits(counters) {
            self.ready = true;
            return;
        }
        if events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) != 0 {
            let (before, letters) = (connection.queued(), self.letters.len());
            let heard = connection.read(&mut self.scratch, now, &mut self.letters);
            self.waiting += connection.queued() - before;
            let (port, whole) = (connection.ends().0, self.letters.len() - letters);
            connection.account.heard += whole as u32;
            count(&self.listeners, &self.counted, port, |listener| {
                listener.heard.add(whole as u64)
            });
            match heard {
                // The end of a stream is behind its last bytes.
                Ok(more) => self.ready |= more || events & libc::EPOLLIN != events,
                Err(ended) => return self.close(id, ended, counters),
            }
            if shakes_hands
                && connection.is_dialled()
                && !connection.bears(&self.terms, connection.ends().1)
            {
                return self.close(id, Ended::Session, counters);
            }
            self.assign(id);
        }
        self.consider(id);
        self.write(id, counters);
        self.seat(id, counters);
    }

    fn write(&mut self, id: u32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.seat.as_ref().is_some_and(|seat| seat.speaks) {
            // What it says now goes first; it is asked again then.
            return;
        }
        let before = connection.queued();
        let written = connection.write();
        self.waiting -= before - connection.queued();
        if written.is_err() {
            return self.close(id, Ended::Error, counters);
        }
        self.watch(id, counters);
    }

    /// Has what a connection waits for watched, by the ring or by the epoll.
    fn watch(&mut self, id: u32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.seat.is_some() {
            return self.ring.attend(id, connection);
        }
        let wanted = connection.interest();
        if connection.is_watched_as() != wanted {
            connection.watch_as(wanted);
            self.ready = true;
            let modify = libc::EPOLL_CTL_MOD;
            let fd = connection.fd();
            if control(&self.epoll, modify, fd, wanted, u64::from(id)).is_err() {
                self.close(id, Ended::Error, counters);
            }
        }
    }

    fn count(&self, port: PortId, add: impl FnOnce(&ListenerCounters)) {
        count(&self.listeners, &self.counted, port, add);
    }

    fn sweep(&mut self, now: Instant) {
        self.balance();
        self.overdue.clear();
        let overdue = self.connections.iter().filter(|(_, c)| overdue(c, now).is_some());
        self.overdue.extend(overdue.map(|(id, _)| *id));
        let connections = &self.connections;
        let is_waited_for = |id: &u32| connections.get(id).is_some_and(|c| !c.is_proven());
        self.unproven.retain(is_waited_for);
        for (place, listener) in self.listeners.iter_mut().enumerate().filter(|(_, l)| l.paused) {
            listener.paused = listener.watch(&self.epoll, place, libc::EPOLLIN).is_err();
            self.ready = true;
        }
    }

    /// Closes those that took too long, as many as there is time for: thousands may have begun together.
    fn close_overdue(&mut self, now: Instant, counters: &IoCounters) {
        while !self.overdue.is_empty() && self.lane.admits(counters) {
            let Some(id) = self.overdue.pop_front() else { return };
            let why = self.connections.get(&id).and_then(|connection| overdue(connection, now));
            if let Some(why) = why {
                self.close(id, why, counters);
            }
        }
    }

    /// Closes a connection; what it was still to send comes back.
    fn close(&mut self, id: u32, why: Ended, counters: &IoCounters) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.settle(&mut connection, why);
        match why {
            Ended::Closed => counters.streams_closed.add(1),
            Ended::Late => counters.streams_timed_out.add(1),
            Ended::Framing => counters.streams_malformed.add(1),
            Ended::Session => counters.stream_tls_failures.add(1),
            Ended::Error => counters.stream_errors.add(1),
            Ended::Evicted => counters.streams_evicted.add(1),
            Ended::Silent => counters.streams_silent.add(1),
        }
        self.withdraw(&connection);
        let (port, peer) = connection.ends();
        self.count(port, |listener| {
            listener.ended.add(why.index());
            listener.connections.set(listener.connections.get().saturating_sub(1));
        });
        if self.by_peer.get(&Way(port, peer)) == Some(&id) {
            self.by_peer.remove(&Way(port, peer));
        }
        if let Some(count) = self.per_address.get_mut(&peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&peer.ip());
            }
        }
        if let Some(seat) = &connection.seat {
            self.ring.leave(seat);
        }
        self.waiting -= connection.queued();
        let ours = matches!(why, Ended::Late | Ended::Evicted | Ended::Framing | Ended::Silent);
        self.letters.extend(connection.end(ours).map(|bytes| unsent(&bytes)));
        // The epoll forgets a descriptor that is closed.
    }
}

impl Drop for Streams {
    /// The last words of a shard that ends do not wait for more.
    fn drop(&mut self) {
        for id in &self.gathering {
            if let Some(connection) = self.connections.get_mut(id) {
                let _said = connection.write();
            }
        }
    }
}

/// Counts something of the listener at a port.
fn count(
    listeners: &[Listener],
    counted: &Counted,
    port: PortId,
    add: impl FnOnce(&ListenerCounters),
) {
    let place = listeners.iter().position(|listener| listener.port == port);
    if let Some(listener) = place.and_then(|place| counted.listeners.get(place)) {
        add(listener);
    }
}

impl Listener {
    fn watch(&self, epoll: &OwnedFd, place: usize, events: i32) -> io::Result<()> {
        let token = LISTENERS + place as u64;
        control(epoll, libc::EPOLL_CTL_MOD, self.socket.as_raw_fd(), events, token)
    }
}

/// What a connection has taken too long for.
fn overdue(connection: &Connection, now: Instant) -> Option<Ended> {
    let late = connection.is_late(now).then_some(Ended::Late);
    late.or_else(|| connection.is_silent(now).then_some(Ended::Silent))
}

/// Whether the process, or the machine, has no room for another connection.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&code))
}

fn unsent(bytes: &[u8]) -> Letter {
    Letter::Unsent { bytes: bytes.into(), relayed: false }
}

fn control(epoll: &OwnedFd, what: i32, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: token };
    // SAFETY: one valid event, copied by the kernel.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
}
