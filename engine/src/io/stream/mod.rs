//! SIP over connections (RFC 3261 18): who owns them, how they are made, and what comes and goes.
//!
//! A connection belongs to the shard that the hash of its far end says, whoever accepted or asked for it:
//! so every shard knows where to find it, and one connection serves the calls of all. Whole messages go
//! to the shard as letters; one that cannot be sent comes back as one. The connections of a shard have an
//! epoll of their own, whose descriptor the driver watches like the doorbell.

#![allow(unsafe_code, reason = "epoll has no safe wrapper")]

mod connection;
mod dial;
mod tls;

pub(crate) use tls::Tls;

use super::mesh::{Accepted, IoCounters};
use super::sys::check;
use base::{Instant, PortId, ShardId};
use connection::{Connection, Ended, Scratch};
use node::{Letter, PortSpec, Role};
use sbc::policy::Transport;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Connections of one shard.
const MOST: usize = 16_384;
/// Connections of one shard with one address.
const MOST_OF_ONE: usize = 1024;
/// Events taken per turn; the others are reported again.
const READY: usize = 64;
/// Connections accepted per turn and listener.
const ACCEPTED: usize = 32;
/// Steps of TLS handshakes per turn, a tenth of a millisecond each: media does not wait for more.
const HANDSHAKES: usize = 4;
/// How often time-outs are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// Tokens from here on are listeners.
const LISTENERS: u64 = 1 << 32;

/// The connections of one shard.
pub(crate) struct Streams {
    own: usize,
    shards: usize,
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    connections: HashMap<u32, Connection>,
    by_peer: HashMap<(PortId, SocketAddr), u32>,
    per_address: HashMap<IpAddr, usize>,
    next: u32,
    events: Vec<libc::epoll_event>,
    scratch: Scratch,
    /// Certificates, once the gate has read them.
    tls: Option<Arc<Tls>>,
    /// Handshake steps left in this turn.
    handshakes: usize,
    /// The epoll may have something.
    ready: bool,
    swept: Instant,
    /// What the shard is to hear next turn.
    letters: Vec<Letter>,
    /// Connections that are another shard's.
    strays: Vec<(ShardId, Accepted)>,
}

/// A socket that connections come to.
pub(crate) struct Listener {
    port: PortId,
    spec: PortSpec,
    socket: TcpListener,
}

impl Listener {
    /// Listens at a port; every shard does, at the same address.
    pub(crate) fn open(port: PortId, spec: &PortSpec) -> io::Result<Listener> {
        Ok(Listener { port, spec: spec.clone(), socket: dial::listen(spec)? })
    }

    /// Where it listens, with the number the kernel chose if none was asked for.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// The shard that owns connections with this far end.
pub(crate) fn owner(peer: SocketAddr, shards: usize) -> usize {
    // FNV-1a over the address, then mixed so that neighbouring ports are spread too. Any hash would do that
    // every shard computes alike.
    let octets = match peer {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    };
    let bytes = octets.into_iter().chain(peer.port().to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((mixed >> 33) % shards.max(1) as u64) as usize
}

impl Streams {
    /// The connections of shard `own` of `shards`; `None` when nothing listens for any.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        (own, shards): (usize, usize),
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
            epoll,
            listeners,
            connections: HashMap::new(),
            by_peer: HashMap::new(),
            per_address: HashMap::new(),
            next: 0,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; READY],
            scratch: Scratch::new(),
            tls: None,
            handshakes: 0,
            ready: true,
            swept: Instant(0),
            letters: Vec::new(),
            strays: Vec::new(),
        }))
    }

    /// The descriptor that becomes readable when something happens on a connection.
    pub(crate) fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// The driver saw the descriptor readable.
    pub(crate) fn wake(&mut self) {
        self.ready = true;
    }

    /// Sessions begin with these certificates from now on.
    pub(crate) fn trust(&mut self, tls: Arc<Tls>) {
        self.tls = Some(tls);
    }

    /// Whether a turn would find something already.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready || !self.letters.is_empty() || !self.strays.is_empty()
    }

    /// When a turn is wanted even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.connections.is_empty()).then(|| self.swept + SWEEP)
    }

    /// Takes what happened: whole messages, and messages that could not be sent, as letters.
    pub(crate) fn turn(&mut self, now: Instant, letters: &mut Vec<Letter>, counters: &IoCounters) {
        if std::mem::take(&mut self.ready) {
            self.poll(now, counters);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now, counters);
        }
        letters.append(&mut self.letters);
        counters.streams.set(self.connections.len() as u64);
    }

    /// Connections that were accepted here and belong elsewhere.
    pub(crate) fn strays(&mut self) -> std::vec::Drain<'_, (ShardId, Accepted)> {
        self.strays.drain(..)
    }

    /// Sends a whole message; gives it back with its owner when that is another shard.
    pub(crate) fn send(
        &mut self,
        (port, to): (PortId, SocketAddr),
        bytes: &[u8],
        now: Instant,
        counters: &IoCounters,
    ) -> Option<ShardId> {
        let owner = owner(to, self.shards);
        if owner != self.own {
            return Some(ShardId(owner as u8));
        }
        let id = match self.by_peer.get(&(port, to)) {
            Some(&id) => id,
            None => match self.dial(port, to, now) {
                Ok(id) => {
                    counters.streams_dialled.add(1);
                    id
                }
                Err(_) => {
                    counters.stream_errors.add(1);
                    self.letters.push(unsent(bytes));
                    return None;
                }
            },
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            if !connection.queue(bytes) {
                counters.stream_overflows.add(1);
                self.letters.push(unsent(bytes));
            } else if connection.is_open() {
                self.write(id, counters);
            }
        }
        None
    }

    /// A connection that another shard accepted for us.
    pub(crate) fn adopt(&mut self, accepted: Accepted, now: Instant, counters: &IoCounters) {
        let Accepted { port, peer, stream } = accepted;
        let from_here = self.per_address.get(&peer.ip()).copied().unwrap_or_default();
        if self.connections.len() >= MOST || from_here >= MOST_OF_ONE {
            counters.streams_refused.add(1);
            return;
        }
        let session = if self.is_tls(port) {
            match self.tls.as_ref().and_then(|tls| tls.accept().ok()) {
                Some(session) => Some(session),
                None => return counters.stream_tls_failures.add(1),
            }
        } else {
            None
        };
        counters.streams_accepted.add(1);
        if self.add(Connection::accepted(port, peer, (stream, session), now)).is_err() {
            counters.stream_errors.add(1);
        }
    }

    fn dial(&mut self, port: PortId, to: SocketAddr, now: Instant) -> io::Result<u32> {
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        let listener = listener.ok_or(io::ErrorKind::NotFound)?;
        if self.connections.len() >= MOST {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let session = if self.is_tls(port) {
            let tls = self.tls.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            Some(tls.dial(to).map_err(io::Error::other)?)
        } else {
            None
        };
        let stream = dial::dial(&listener.spec, to)?;
        self.add(Connection::dialled(port, to, (stream, session), now))
    }

    fn is_tls(&self, port: PortId) -> bool {
        let mut its = self.listeners.iter().filter(|listener| listener.port == port);
        its.any(|listener| listener.spec.role == Role::Stream(Transport::Tls))
    }

    fn add(&mut self, connection: Connection) -> io::Result<u32> {
        while self.connections.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        let (add, events) = (libc::EPOLL_CTL_ADD, connection.interest());
        control(&self.epoll, add, connection.fd(), events, u64::from(id))?;
        self.next = id.wrapping_add(1);
        self.by_peer.insert((connection.port, connection.peer), id);
        *self.per_address.entry(connection.peer.ip()).or_default() += 1;
        self.connections.insert(id, connection);
        self.ready = true;
        Ok(id)
    }

    fn poll(&mut self, now: Instant, counters: &IoCounters) {
        let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: `events` has room for `READY` events.
        let found = check(unsafe { libc::epoll_wait(epoll, events, READY as i32, 0) });
        let found = found.unwrap_or_default() as usize;
        // What is not finished in this turn is reported again.
        self.ready = found > 0;
        self.handshakes = HANDSHAKES;
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
            let Some(listener) = self.listeners.get(place) else { return };
            let Ok((stream, peer)) = listener.socket.accept() else { return };
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
        if connection.is_shaking_hands() {
            if self.handshakes == 0 {
                return;
            }
            self.handshakes -= 1;
        }
        if events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) != 0 {
            let heard = connection.read(&mut self.scratch, now, &mut self.letters);
            if let Err(ended) = heard {
                return self.close(id, ended, counters);
            }
        }
        self.write(id, counters);
    }

    fn write(&mut self, id: u32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = connection.interest();
        if connection.write().is_err() {
            return self.close(id, Ended::Error, counters);
        }
        let wanted = connection.interest();
        if wanted != before || connection.is_watched_as() != wanted {
            connection.watch_as(wanted);
            let modify = libc::EPOLL_CTL_MOD;
            let fd = connection.fd();
            if control(&self.epoll, modify, fd, wanted, u64::from(id)).is_err() {
                self.close(id, Ended::Error, counters);
            }
        }
    }

    fn sweep(&mut self, now: Instant, counters: &IoCounters) {
        let late: Vec<u32> =
            self.connections.iter().filter(|(_, c)| c.is_late(now)).map(|(id, _)| *id).collect();
        for id in late {
            self.close(id, Ended::Late, counters);
        }
    }

    /// Closes a connection; what it was still to send comes back.
    fn close(&mut self, id: u32, why: Ended, counters: &IoCounters) {
        let Some(connection) = self.connections.remove(&id) else { return };
        match why {
            Ended::Closed => counters.streams_closed.add(1),
            Ended::Late => counters.streams_timed_out.add(1),
            Ended::Framing => counters.streams_malformed.add(1),
            Ended::Session => counters.stream_tls_failures.add(1),
            Ended::Error => counters.stream_errors.add(1),
        }
        let key = (connection.port, connection.peer);
        if self.by_peer.get(&key) == Some(&id) {
            self.by_peer.remove(&key);
        }
        if let Some(count) = self.per_address.get_mut(&connection.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&connection.peer.ip());
            }
        }
        self.letters.extend(connection.unsent().map(|bytes| unsent(&bytes)));
        // The epoll forgets a descriptor that is closed.
    }
}

fn unsent(bytes: &[u8]) -> Letter {
    Letter::Unsent { bytes: bytes.into(), relayed: false }
}

fn control(epoll: &OwnedFd, what: i32, fd: RawFd, events: i32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: token };
    // SAFETY: one valid event, copied by the kernel.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) }).map(drop)
}
