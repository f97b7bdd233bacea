//! Bounded rings between shards, from the gate to shards, and from shards to the gate.
//!
//! One ring per sender and receiver, so there is no lock anywhere. A doorbell (an eventfd) is rung only
//! when the receiver may be asleep; it is a hint, because rings are looked at every turn. A full ring
//! drops and counts: nothing here ever waits for a reader.

use super::stream::{Alias, Counted, ListenerCounters, Terms};
use super::sys;
use base::{PortId, ShardId};
use control::Event;
use node::{Fault, Letter, Limits, Role};
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

base::counters! {
    /// What one shard's driver counts.
    pub struct IoCounters {
        /// Turns of the shard's loop.
        turns: counter "tandem_io_turns_total",
        /// Datagrams received.
        received: counter "tandem_io_received_total",
        /// Datagrams handed to the kernel.
        sent: counter "tandem_io_sent_total",
        /// Sends that failed.
        undeliverable: counter "tandem_io_undeliverable_total",
        /// Datagrams longer than their buffer.
        truncated: counter "tandem_io_truncated_total",
        /// Datagrams dropped by the kernel because one media port got more than 4,000 a second.
        flooded: counter "tandem_io_flooded_total",
        /// Datagrams for a media port that is not this shard's.
        astray: counter "tandem_io_astray_total",
        /// Connections now, both those accepted and those dialled.
        streams: gauge "tandem_stream_connections",
        /// Connections accepted.
        streams_accepted: counter "tandem_stream_accepted_total",
        /// Times a listener could not accept for want of descriptors or memory, and paused.
        stream_accepts_delayed: counter "tandem_stream_accepts_delayed_total",
        /// Turns whose half millisecond for accepting connections, TLS handshakes and closing what is late did not suffice.
        stream_setups_delayed: counter "tandem_stream_setups_delayed_total",
        /// Connections closed to make room: they never carried a message, or too much waited on them.
        streams_evicted: counter "tandem_stream_evicted_total",
        /// Connections refused because there were too many, in all or of their address.
        streams_refused: counter "tandem_stream_refused_total",
        /// Connections begun to peers.
        streams_dialled: counter "tandem_stream_dialled_total",
        /// Messages sent over a connection their peer made and offered for it, by a name it had proved (RFC 5923).
        streams_aliased: counter "tandem_stream_aliased_total",
        /// Connections their far end closed.
        streams_closed: counter "tandem_stream_closed_total",
        /// Connections that ended with an error, or could not be made.
        stream_errors: counter "tandem_stream_errors_total",
        /// Connections closed because a message, or the connection itself, took too long, or nothing came.
        streams_timed_out: counter "tandem_stream_timeouts_total",
        /// Connections closed because a keep-alive of ours was not answered within ten seconds.
        streams_silent: counter "tandem_stream_silent_total",
        /// Connections closed because what came could not be cut into messages.
        streams_malformed: counter "tandem_stream_malformed_total",
        /// TLS sessions that failed: no common version, a certificate that proves nothing, a forged record.
        stream_tls_failures: counter "tandem_stream_tls_failures_total",
        /// Messages that were not sent because too much waited on their connection.
        stream_overflows: counter "tandem_stream_overflows_total",
        /// Receives armed again after the buffers ran out or an error.
        rearmed: counter "tandem_io_rearmed_total",
        /// Letters to other shards dropped because their ring was full; requests among them are refused.
        letters_dropped: counter "tandem_io_letters_dropped_total",
        /// Events to the gate dropped because the ring was full.
        events_dropped: counter "tandem_io_events_dropped_total",
        /// Packets of captured calls that the gate was not given, because the ring was half full.
        captured_dropped: counter "tandem_io_captured_dropped_total",
        /// Journal frames that waited in memory because the region was full.
        journal_delayed: counter "tandem_io_journal_delayed_total",
        /// Journal frames lost: the region and the memory behind it were full.
        journal_lost: counter "tandem_io_journal_lost_total",
    }
}

/// A doorbell and whether its owner may need it.
struct Bell {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    fn new() -> Result<Arc<Bell>, Fault> {
        let fd = sys::eventfd().map_err(|e| Fault {
            what: format!("cannot create a doorbell between shards: {e}"),
            remedy: String::from("raise LimitNOFILE= in the unit (1048576 is sensible)"),
        })?;
        let asleep = AtomicBool::new(false);
        Ok(Arc::new(Bell { fd, asleep }))
    }

    /// After a push: wakes the owner unless it is awake and will look anyway.
    fn ring_if_asleep(&self) {
        // Pairs with the fence in `doze`: either the owner sees the push or we see it asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            sys::ring(&self.fd);
        }
    }

    /// Before sleeping; the owner then looks at its rings once more.
    fn doze(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// A connection that one shard accepted for another.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The listener.
    pub(crate) port: PortId,
    /// The far end.
    pub(crate) peer: SocketAddr,
    pub(crate) stream: TcpStream,
}

/// What travels over the mesh: letters for shards, and connections for their drivers.
enum Parcel {
    Letter(Letter),
    Accepted(Accepted),
    Alias(Alias),
    Terms(Arc<Terms>),
}

/// What a driver keeps for itself of what came over the mesh.
#[derive(Default)]
pub(crate) struct Parcels {
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) aliases: Vec<Alias>,
    pub(crate) terms: Option<Arc<Terms>>,
}

impl Parcels {
    pub(crate) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.aliases.is_empty() && self.terms.is_none()
    }
}

/// One shard's ends of the mesh.
pub struct ShardMesh {
    /// From every shard, then from the gate; nothing from itself.
    incoming: Vec<Consumer<Parcel>>,
    /// To every shard; `None` at its own place.
    outgoing: Vec<Option<Producer<Parcel>>>,
    bells: Vec<Arc<Bell>>,
    own: usize,
    /// Messages of this turn that their shard had no room for.
    returned: Vec<Letter>,
    /// Which shards got letters in this turn.
    touched: Vec<bool>,
    events: Producer<Event>,
    gate: Arc<Bell>,
    counters: Arc<IoCounters>,
    streams: Counted,
}

/// The gate's ends of the mesh.
pub struct GateMesh {
    outgoing: Vec<Producer<Parcel>>,
    bells: Vec<Arc<Bell>>,
    events: Vec<Consumer<Event>>,
    bell: Arc<Bell>,
    counters: Vec<Arc<IoCounters>>,
}

/// Builds the mesh of a node.
pub struct Mesh;

impl Mesh {
    /// Rings for every pair of shards, and between each shard and the gate.
    #[expect(clippy::new_ret_no_self, reason = "the mesh is its ends")]
    pub fn new(limits: &Limits) -> Result<(Vec<ShardMesh>, GateMesh), Fault> {
        let count = limits.shards.len();
        let bells: Vec<_> = (0..count).map(|_| Bell::new()).collect::<Result<_, _>>()?;
        let mut gate = GateMesh {
            outgoing: Vec::new(),
            bells: bells.clone(),
            events: Vec::new(),
            bell: Bell::new()?,
            counters: Vec::new(),
        };
        let mut shards: Vec<ShardMesh> =
            (0..count).map(|own| shard(own, &bells, &mut gate, limits)).collect();
        for from in 0..count {
            for to in 0..count {
                if from != to {
                    let (producer, consumer) = RingBuffer::new(limits.mesh_letters.max(1));
                    shards[from].outgoing[to] = Some(producer);
                    shards[to].incoming.push(consumer);
                }
            }
        }
        for shard in &mut shards {
            let (producer, consumer) = RingBuffer::new(limits.mesh_letters.max(1));
            shard.incoming.push(consumer);
            gate.outgoing.push(producer);
        }
        Ok((shards, gate))
    }
}

fn shard(own: usize, bells: &[Arc<Bell>], gate: &mut GateMesh, limits: &Limits) -> ShardMesh {
    let (producer, consumer) = RingBuffer::new(limits.events.max(1));
    let ports = limits.shards.get(own).map_or(&[][..], |shard| &shard.ports);
    let listeners = ports.iter().filter(|spec| matches!(spec.role, Role::Stream(_)));
    let counters = Arc::new(IoCounters::default());
    gate.events.push(consumer);
    gate.counters.push(counters.clone());
    ShardMesh {
        incoming: Vec::new(),
        outgoing: bells.iter().map(|_| None).collect(),
        bells: bells.to_vec(),
        own,
        returned: Vec::new(),
        touched: vec![false; bells.len()],
        events: producer,
        gate: gate.bell.clone(),
        counters,
        streams: Counted {
            listeners: listeners.map(|_| ListenerCounters::default()).collect(),
            ..Counted::default()
        },
    }
}

impl ShardMesh {
    /// Counters of this shard's driver, for the gate to read.
    pub fn counters(&self) -> &Arc<IoCounters> {
        &self.counters
    }

    /// Counters of its connections, by listener and by trunk.
    pub(crate) fn streams(&self) -> Counted {
        self.streams.clone()
    }

    /// The descriptor that becomes readable when the shard is to wake.
    pub(crate) fn bell(&self) -> RawFd {
        self.bells[self.own].fd.as_raw_fd()
    }

    /// Which shard this is, of how many.
    pub(crate) fn seat(&self) -> (usize, usize) {
        (self.own, self.bells.len())
    }

    /// Takes everything that is there, at most one ring's worth from each sender.
    pub(crate) fn take(&mut self, letters: &mut Vec<Letter>, parcels: &mut Parcels) {
        letters.append(&mut self.returned);
        for ring in &mut self.incoming {
            for _ in 0..ring.slots() {
                match ring.pop() {
                    Ok(Parcel::Letter(letter)) => letters.push(letter),
                    Ok(Parcel::Accepted(connection)) => parcels.accepted.push(connection),
                    Ok(Parcel::Alias(alias)) => parcels.aliases.push(alias),
                    Ok(Parcel::Terms(terms)) => parcels.terms = Some(terms),
                    Err(_) => break,
                }
            }
        }
    }

    /// Hands a connection to the shard it belongs to; without room it is closed.
    pub(crate) fn pass(&mut self, to: ShardId, accepted: Accepted) {
        let to = usize::from(to.0);
        let ring = self.outgoing.get_mut(to).and_then(Option::as_mut);
        if ring.is_some_and(|ring| ring.push(Parcel::Accepted(accepted)).is_ok()) {
            self.touched[to] = true;
        } else {
            self.counters.streams_refused.add(1);
        }
    }

    /// Tells the owner of an address of a connection for it; without room it is not told, and dials.
    pub(crate) fn tell(&mut self, to: ShardId, alias: Alias) {
        let to = usize::from(to.0);
        let ring = self.outgoing.get_mut(to).and_then(Option::as_mut);
        if ring.is_some_and(|ring| ring.push(Parcel::Alias(alias)).is_ok()) {
            self.touched[to] = true;
        }
    }

    /// Wakes those that were given something: before this shard may sleep itself.
    pub(crate) fn ring(&mut self) {
        for (touched, bell) in self.touched.iter_mut().zip(&self.bells) {
            if std::mem::take(touched) {
                bell.ring_if_asleep();
            }
        }
    }

    /// Says that the shard is about to sleep; `false` when letters are there after all.
    pub(crate) fn doze(&self) -> bool {
        let bell = &self.bells[self.own];
        bell.doze();
        let quiet = self.returned.is_empty() && self.incoming.iter().all(Consumer::is_empty);
        if !quiet {
            bell.awake();
        }
        quiet
    }

    /// Says that the shard is awake: no bells, please.
    pub(crate) fn awake(&self) {
        self.bells[self.own].awake();
    }

    /// Delivers a turn's letters and events.
    pub(crate) fn give(&mut self, letters: &mut Vec<(ShardId, Letter)>, events: &mut Vec<Event>) {
        for (to, letter) in letters.drain(..) {
            let to = usize::from(to.0);
            let ring = self.outgoing.get_mut(to).and_then(Option::as_mut);
            match ring.map(|ring| ring.push(Parcel::Letter(letter))) {
                Some(Ok(())) => self.touched[to] = true,
                Some(Err(PushError::Full(Parcel::Letter(letter)))) => {
                    self.counters.letters_dropped.add(1);
                    self.returned.extend(returned(letter));
                }
                Some(Err(_)) | None => self.counters.letters_dropped.add(1),
            }
        }
        self.ring();
        if events.is_empty() {
            return;
        }
        let half = self.events.buffer().capacity() / 2;
        for event in events.drain(..) {
            if matches!(event, Event::Captured(_)) && self.events.slots() <= half {
                // What calls do comes first: a capture takes no room that they may need.
                self.counters.captured_dropped.add(1);
            } else if self.events.push(event).is_err() {
                self.counters.events_dropped.add(1);
            }
        }
        self.gate.ring_if_asleep();
    }
}

/// What its sender is to hear of again.
fn returned(letter: Letter) -> Option<Letter> {
    match letter {
        Letter::Signal { port, source, proved, bytes } => {
            Some(Letter::Returned { port, source, proved, bytes })
        }
        Letter::Signed { port, source, proved, bytes, .. } => {
            Some(Letter::Returned { port, source, proved, bytes })
        }
        // It is sent again: what calls say to each other must not be lost.
        Letter::Move(letter) => Some(Letter::Move(letter)),
        Letter::Returned { .. }
        | Letter::Stream { .. }
        | Letter::Forward { .. }
        | Letter::Unsent { .. }
        | Letter::Answer(_)
        | Letter::Command(_)
        | Letter::Config(_)
        | Letter::Standing(_)
        | Letter::Outages { .. }
        | Letter::Ported(_) => None,
    }
}

impl GateMesh {
    /// Gives a shard a letter; a full ring gives it back.
    pub fn send(&mut self, to: ShardId, letter: Letter) -> Result<(), Letter> {
        let Some(ring) = self.outgoing.get_mut(usize::from(to.0)) else {
            return Err(letter);
        };
        if let Err(PushError::Full(Parcel::Letter(letter))) = ring.push(Parcel::Letter(letter)) {
            return Err(letter);
        }
        self.bells[usize::from(to.0)].ring_if_asleep();
        Ok(())
    }

    /// Gives a shard's driver the terms to begin connections on; whether there was room.
    pub(crate) fn agree(&mut self, to: ShardId, terms: Arc<Terms>) -> bool {
        let ring = self.outgoing.get_mut(usize::from(to.0));
        let given = ring.is_some_and(|ring| ring.push(Parcel::Terms(terms)).is_ok());
        if let Some(bell) = self.bells.get(usize::from(to.0)) {
            bell.ring_if_asleep();
        }
        given
    }

    /// Takes every event that is there; afterwards a new one makes [`GateMesh::wakes`] readable.
    pub fn events(&mut self, mut take: impl FnMut(ShardId, Event)) {
        sys::unring(&self.bell.fd);
        self.bell.doze();
        for (shard, ring) in (0..=u8::MAX).map(ShardId).zip(&mut self.events) {
            for _ in 0..ring.slots() {
                if let Ok(event) = ring.pop() {
                    take(shard, event);
                }
            }
        }
    }

    /// A descriptor that becomes readable when there are events to take. Call [`GateMesh::events`]
    /// once before the first wait: only that asks to be woken.
    pub fn wakes(&self) -> &OwnedFd {
        &self.bell.fd
    }

    /// Events of a shard that were dropped so far; when it grew, ask the shard to resync.
    pub fn lost(&self, shard: ShardId) -> u64 {
        self.counters.get(usize::from(shard.0)).map_or(0, |c| c.events_dropped.get())
    }

    /// Counters of every shard's driver.
    pub fn counters(&self) -> &[Arc<IoCounters>] {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::readable;
    use control::Command;
    use node::ShardLimits;

    fn limits(shards: usize) -> Limits {
        let shard = ShardLimits {
            ports: Vec::new(),
            transactions: 16,
            records: 1,
            record_size: 64,
            journal_size: 4096,
        };
        Limits { shards: vec![shard; shards], mesh_letters: 4, events: 4 }
    }

    #[test]
    fn letters_reach_their_shard_in_order_and_overflow_is_counted() {
        let (mut shards, _gate) = Mesh::new(&limits(3)).unwrap();
        let mut letters: Vec<_> =
            (0..6).map(|_| (ShardId(2), Letter::Command(Command::Drain))).collect();
        shards[0].give(&mut letters, &mut Vec::new());
        let mut got = Vec::new();
        shards[2].take(&mut got, &mut Parcels::default());
        assert_eq!(got.len(), 4);
        assert_eq!(shards[0].counters().letters_dropped.get(), 2);
        shards[1].take(&mut got, &mut Parcels::default());
        assert_eq!(got.len(), 4, "nothing for the third shard");
        let mut to_self = vec![(ShardId(0), Letter::Command(Command::Drain))];
        shards[0].give(&mut to_self, &mut Vec::new());
        assert_eq!(shards[0].counters().letters_dropped.get(), 3);
    }

    #[test]
    fn a_shard_with_letters_does_not_doze() {
        let (mut shards, mut gate) = Mesh::new(&limits(1)).unwrap();
        assert!(shards[0].doze());
        shards[0].awake();
        assert!(gate.send(ShardId(0), Letter::Command(Command::Drain)).is_ok());
        assert!(!shards[0].doze());
        let mut got = Vec::new();
        shards[0].take(&mut got, &mut Parcels::default());
        assert_eq!(got.len(), 1);
        for _ in 0..4 {
            assert!(gate.send(ShardId(0), Letter::Command(Command::Drain)).is_ok());
        }
        assert!(gate.send(ShardId(0), Letter::Command(Command::Drain)).is_err());
        assert!(gate.send(ShardId(9), Letter::Command(Command::Drain)).is_err());
    }

    #[test]
    fn events_reach_the_gate_and_gaps_are_counted() {
        let (mut shards, mut gate) = Mesh::new(&limits(2)).unwrap();
        gate.events(|_, _| unreachable!());
        let mut events = vec![Event::Synced; 7];
        shards[1].give(&mut Vec::new(), &mut events);
        assert!(readable(gate.wakes().as_raw_fd(), 0));
        let mut seen = Vec::new();
        gate.events(|shard, event| seen.push((shard, event)));
        assert_eq!(seen, vec![(ShardId(1), Event::Synced); 4]);
        assert_eq!((gate.lost(ShardId(0)), gate.lost(ShardId(1))), (0, 3));
        assert!(!readable(gate.wakes().as_raw_fd(), 0));
    }

    #[test]
    fn captures_leave_room_for_what_calls_do() {
        let (mut shards, mut gate) = Mesh::new(&limits(1)).unwrap();
        let at = "192.0.2.1:4000".parse().unwrap();
        let captured = Event::Captured(Box::new(control::event::Captured {
            id: Default::default(),
            is_callers: true,
            at: 0,
            source: at,
            to: at,
            payload: Box::from([0x80]),
        }));
        let mut events = vec![captured; 7];
        events.extend([Event::Synced, Event::Synced]);
        shards[0].give(&mut Vec::new(), &mut events);
        let (mut all, mut others) = (0, 0);
        gate.events(|_, event| {
            all += 1;
            others += usize::from(event == Event::Synced);
        });
        assert_eq!((all, others), (4, 2), "of four places two are theirs");
        assert_eq!((gate.lost(ShardId(0)), gate.counters()[0].captured_dropped.get()), (0, 5));
    }

    #[test]
    fn nothing_is_ever_left_behind_asleep() {
        let (mut shards, mut gate) = Mesh::new(&limits(1)).unwrap();
        let shard = &mut shards[0];
        let total = 20_000u64;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut sent = 0;
                while sent < total {
                    sent +=
                        u64::from(gate.send(ShardId(0), Letter::Command(Command::Drain)).is_ok());
                }
            });
            let (mut got, mut letters) = (0, Vec::new());
            while got < total {
                shard.take(&mut letters, &mut Parcels::default());
                got += letters.drain(..).len() as u64;
                if got < total && shard.doze() {
                    assert!(readable(shard.bell(), 2_000), "slept through a letter");
                    sys::unring(&shard.bells[0].fd);
                }
                shard.awake();
            }
        });
    }
}
