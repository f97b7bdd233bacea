//! A node, its regions, a network and a clock.
//!
//! The world moves from event to event: a datagram arrives, or a shard's deadline passes. Datagrams
//! between the node and its peers take time, and may be lost, doubled or delayed out of order by the
//! seed. What can befall it besides (kills, hand-overs, clock jumps) is in `fault`.

use crate::dtls::Twin;
use crate::fault::Cut;
use base::page::Page;
use base::random::Random;
use base::{Bytes, Instant, Now, Pool, PortId, ShardId, Wall};
use control::Event;
use node::{
    Birth, Heard, Inbox, Ledger, Letter, Limits, Outbox, Past, PortSpec, Received, Role, Shard,
    ShardLimits,
};
use sbc::billing::Frame;
use sbc::policy::{Image, Proved, Sources};
use sbc::quality::Standing;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How the world behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every random choice follows from it.
    pub seed: u64,
    /// Shards of the node.
    pub shards: usize,
    /// Calls each shard may hold.
    pub calls: u32,
    /// Media port pairs per interface and shard.
    pub pairs: u16,
    /// Datagrams lost, per thousand.
    pub loss: u32,
    /// Datagrams doubled, per thousand.
    pub duplication: u32,
    /// Longest random delay on top of 1 ms, in milliseconds: reorders.
    pub delay_ms: u32,
    /// Transactions each shard may hold.
    pub transactions: u32,
    /// Bytes free in each journal.
    pub journal_room: usize,
    /// Whether everything that passes is noted in `trace`.
    pub traced: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 1,
            shards: 2,
            calls: 64,
            pairs: 128,
            loss: 0,
            duplication: 0,
            delay_ms: 0,
            transactions: 4096,
            journal_room: 1 << 20,
            traced: false,
        }
    }
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What outlives a process: records and journal of one shard.
#[derive(Default, Clone)]
pub struct Region {
    /// Sealed records by slot.
    pub records: BTreeMap<u32, Vec<u8>>,
    /// Sealed frames in order of writing.
    pub journal: Vec<Vec<u8>>,
}

/// Something that passed the node's boundary, in order.
#[derive(Clone, Debug)]
pub enum Trace {
    /// A datagram reached a shard.
    Into(Passed),
    /// A shard sent a datagram.
    Out(Passed),
    /// A frame was journalled.
    Frame(Vec<u8>),
    /// A shard was handed over.
    HandOver(usize),
    /// The process died and its successor took over.
    Crash,
}

/// A datagram at the node's boundary.
#[derive(Clone, Debug)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A datagram a peer received.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// When.
    pub at: Instant,
    /// Who sent it.
    pub from: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The world.
pub struct World {
    pub(crate) options: Options,
    pub(crate) image: Arc<Image>,
    pub(crate) limits: Limits,
    pub(crate) page: Page,
    pub(crate) epoch: u64,
    /// Boot epoch of each shard, and the one its secrets are of.
    pub(crate) born: Vec<(u64, u64)>,
    pub(crate) wall_offset: i64,
    /// Where the next submit is to be cut short.
    pub(crate) cut: Option<Cut>,
    /// The process has died; its successor was not started yet.
    pub(crate) dead: bool,
    /// Records a dead process left, until every shard of its successor stands.
    pub(crate) heritage: Vec<Vec<u8>>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) mail: Vec<Vec<Letter>>,
    pub(crate) regions: Vec<Region>,
    pub(crate) now: Instant,
    pub(crate) random: Random,
    pub(crate) flights: BTreeMap<(Instant, u64), Flight>,
    pub(crate) sent: u64,
    pub(crate) ports: BTreeMap<SocketAddr, (usize, PortId)>,
    pub(crate) mailboxes: BTreeMap<SocketAddr, VecDeque<Arrived>>,
    /// Peers no connection leads to any more.
    pub(crate) unreachable: BTreeSet<SocketAddr>,
    /// Peers whose connection is half open, and until when: nothing passes, and not everybody has noticed.
    pub(crate) half_open: BTreeMap<SocketAddr, Instant>,
    /// Names that peers have proved on their connections.
    pub(crate) proved: BTreeMap<SocketAddr, Proved>,
    /// Every event the gate would have seen.
    pub events: Vec<Event>,
    /// One line per SIP message, as seen on the wire.
    pub ladder: Vec<String>,
    /// Everything that passed the boundary since it was last looked at.
    pub trace: Vec<Trace>,
    /// Steps taken.
    pub steps: u64,
}

const WALL_AT_ZERO: u64 = 1_800_000_000_000_000_000;

impl World {
    /// A world around a node with this configuration.
    pub fn new(mut image: Image, options: Options) -> World {
        image.sources = Sources::of(&image.trunks);
        let limits = limits(&image, &options);
        let mut world = World {
            random: Random::new((options.seed, 0x7761_6c64)),
            page: Page::new(Image::WORDS),
            image: Arc::new(image),
            ports: BTreeMap::new(),
            limits,
            epoch: 1,
            born: vec![(1, 1); options.shards],
            wall_offset: 0,
            cut: None,
            dead: false,
            heritage: Vec::new(),
            shards: Vec::new(),
            mail: (0..options.shards).map(|_| Vec::new()).collect(),
            regions: vec![Region::default(); options.shards],
            now: Instant(1_000_000_000),
            flights: BTreeMap::new(),
            sent: 0,
            mailboxes: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            half_open: BTreeMap::new(),
            proved: BTreeMap::new(),
            events: Vec::new(),
            ladder: Vec::new(),
            trace: Vec::new(),
            steps: 0,
            options,
        };
        for (shard, limits) in world.limits.shards.iter().enumerate() {
            for (id, port) in limits.ports.iter().enumerate() {
                if matches!(port.role, Role::Rtp | Role::Rtcp) {
                    world.ports.insert(port.address, (shard, PortId(id as u32)));
                }
            }
        }
        for shard in 0..world.limits.shards.len() {
            let born = world.born(shard, Past::default());
            world.shards.push(born);
        }
        world
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The shards, to be asked about.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shards themselves: the world ends here.
    pub fn take_shards(&mut self) -> Vec<Shard> {
        core::mem::take(&mut self.shards)
    }

    /// The words shared by all shards.
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// The configuration.
    pub fn image(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// A cut that was to come does not come.
    pub fn tidy(&mut self) {
        self.cut = None;
    }

    /// From now on the network is perfect and nobody dies.
    pub fn calm(&mut self) {
        (self.options.loss, self.options.duplication, self.options.delay_ms) = (0, 0, 0);
        self.cut = None;
        self.half_open.clear();
    }

    /// The regions.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Random numbers of this world.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// A peer at `address` exists from now on.
    pub fn peer(&mut self, address: &str) -> SocketAddr {
        let address: SocketAddr = address.parse().expect("a socket address");
        self.mailboxes.entry(address).or_default();
        address
    }

    /// No connection leads to `peer`, or one does again.
    pub fn reach(&mut self, peer: SocketAddr, is_reachable: bool) {
        if is_reachable {
            self.unreachable.remove(&peer);
        } else {
            self.unreachable.insert(peer);
        }
    }

    /// The connection of `peer` breaks: what is on its way is lost. For `time` nothing passes; what the
    /// node says meanwhile is lost, or comes back to it.
    pub fn break_connection(&mut self, peer: SocketAddr, time: Duration) {
        let ports = self.limits.shards.first().map(|limits| limits.ports.clone());
        let streams: Vec<_> = ports.into_iter().flatten().collect();
        let is_stream = |address: SocketAddr| {
            streams.iter().any(|p| matches!(p.role, Role::Stream(_)) && p.address == address)
        };
        self.flights.retain(|_, flight| {
            !(flight.from == peer && is_stream(flight.to)
                || flight.to == peer && is_stream(flight.from))
        });
        self.half_open.insert(peer, self.now + time);
    }

    fn is_half_open(&self, peer: SocketAddr) -> bool {
        self.half_open.get(&peer).is_some_and(|until| self.now < *until)
    }

    /// The certificate of `peer` bears these names.
    pub fn prove(&mut self, peer: SocketAddr, names: &[&str]) {
        self.proved.insert(peer, names.iter().map(|name| Box::from(*name)).collect());
    }

    /// A peer sends a datagram, or a message over its connection to a stream listener.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: impl Into<Vec<u8>>) {
        self.fly(from, to, bytes.into());
    }

    /// The next datagram a peer received, if it has arrived.
    pub fn take(&mut self, peer: SocketAddr) -> Option<Arrived> {
        self.mailboxes.get_mut(&peer)?.pop_front()
    }

    /// Lets `time` pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_event().is_some_and(|at| at <= end) {
            self.advance();
        }
        self.now = end;
    }

    /// Runs until `peer` has received something, for at most `limit`.
    pub fn wait(&mut self, peer: SocketAddr, limit: Duration) -> Option<Arrived> {
        let end = self.now + limit;
        loop {
            if let Some(arrived) = self.take(peer) {
                return Some(arrived);
            }
            match self.next_event() {
                Some(at) if at <= end => self.advance(),
                _ => {
                    self.now = end;
                    return None;
                }
            }
        }
    }

    /// Gives a letter to a shard, as the gate does.
    pub fn post(&mut self, shard: usize, letter: Letter) {
        self.mail[shard].push(letter);
        self.step(shard, None);
        self.bury();
    }

    /// Publishes a configuration, as the gate does with a file that was read again.
    pub fn reload(&mut self, written: Image) {
        let next = written.after(&self.image).expect("numbers for its trunks");
        for (before, after) in self.image.trunks.iter().zip(&next.trunks) {
            assert_eq!(before.name, after.name, "a number went to another trunk");
        }
        self.image = Arc::new(next);
        for shard in 0..self.shards.len() {
            self.post(shard, Letter::Config(self.image.clone()));
        }
    }

    /// Publishes what is known about trunks, as the gate does.
    pub fn stand(&mut self, standing: Standing) {
        let standing = Arc::new(standing);
        for shard in 0..self.shards.len() {
            self.post(shard, Letter::Standing(standing.clone()));
        }
    }

    /// Makes a shard fail on packets that `poison` picks.
    pub fn poison(&mut self, shard: usize, poison: fn(&[u8]) -> bool) {
        self.shards[shard].poison(poison);
    }

    /// Every closed CDR, in order of journalling.
    pub fn cdrs(&self) -> Vec<sbc::billing::Cdr> {
        let frames = self.regions.iter().flat_map(|r| &r.journal);
        let frames = frames.map(|f| Frame::open(f).expect("a sealed frame"));
        frames.filter_map(|f| if let Frame::Stop(cdr) = f { Some(cdr) } else { None }).collect()
    }

    /// Calls with a start and no stop.
    pub fn open_calls(&self) -> usize {
        let mut ledger = Ledger::default();
        self.regions.iter().flat_map(|r| &r.journal).for_each(|f| {
            ledger.read(f);
        });
        ledger.open.len()
    }

    /// No CDR id twice.
    pub fn assert_cdrs_unique(&self) {
        let cdrs = self.cdrs();
        let ids: BTreeSet<_> = cdrs.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), cdrs.len(), "a CDR was written twice");
    }

    pub(crate) fn now_pair(&self) -> Now {
        Now {
            mono: self.now,
            wall: Wall(WALL_AT_ZERO.wrapping_add_signed(self.wall_offset) + self.now.0),
        }
    }

    /// A shard begins, out of what its predecessor left.
    pub(crate) fn born(&mut self, shard: usize, past: Past) -> Shard {
        let (epoch, secrets) = self.born[shard];
        let birth = Birth {
            shard: ShardId(shard as u8),
            epoch,
            key: (self.options.seed, secrets * 256 + shard as u64),
            steer_key: (self.options.seed, secrets),
            dtls: vec![Arc::new(Twin::new(media_seed(self.options.seed, epoch, 0)))],
            media_seed: media_seed(self.options.seed, epoch, shard),
            image: self.image.clone(),
            page: self.page.clone(),
        };
        let mut outbox = Outbox::default();
        let born = Shard::thaw(birth, &self.limits, past, self.now_pair(), &mut outbox);
        self.submit(shard, &mut outbox, None);
        born
    }

    /// When something happens next.
    pub fn next_event(&self) -> Option<Instant> {
        let flight = self.flights.keys().next().map(|k| k.0);
        let timers = self.shards.iter().filter_map(Shard::next_deadline);
        flight.into_iter().chain(timers).min()
    }

    fn advance(&mut self) {
        if let Some(at) = self.next_event() {
            self.advance_to(at);
        }
    }

    /// Lets everything happen that is due by `at`.
    pub fn advance_to(&mut self, at: Instant) {
        self.now = self.now.max(at);
        let due: Vec<usize> = (0..self.shards.len())
            .filter(|s| self.shards[*s].next_deadline().is_some_and(|d| d <= self.now))
            .collect();
        for shard in due {
            self.step(shard, None);
            self.bury();
        }
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let flight = entry.remove();
            self.deliver(flight);
            self.bury();
        }
    }

    fn deliver(&mut self, flight: Flight) {
        if let Some(interface) = self.image.interfaces.iter().position(|i| i.sip == flight.to) {
            // The kernel spreads datagrams over the shards' listeners by a hash of the addresses.
            let hash = self.random.hash(&[flight.from.to_string().as_bytes()]);
            let shard = (hash % self.shards.len() as u64) as usize;
            return self.step(shard, Some((PortId(interface as u32), flight)));
        }
        if let Some(port) = self.stream_listener(flight.to) {
            // A connection belongs to one shard, whoever its messages are for.
            let hash = self.random.hash(&[flight.from.to_string().as_bytes()]);
            let shard = (hash % self.shards.len() as u64) as usize;
            let Flight { from: source, to, bytes } = flight;
            if self.options.traced && !self.dead {
                let bytes = bytes.clone();
                self.trace.push(Trace::Into(Passed { at: self.now, from: source, to, bytes }));
            }
            let proved = self.proved.get(&source).cloned();
            let bytes = Heard::Made(bytes.into());
            self.mail[shard].push(Letter::Stream { port, source, proved, bytes });
            return self.step(shard, None);
        }
        if let Some(&(shard, port)) = self.ports.get(&flight.to) {
            return self.step(shard, Some((port, flight)));
        }
        let arrived = Arrived { at: self.now, from: flight.from, bytes: flight.bytes };
        if let Some(mailbox) = self.mailboxes.get_mut(&flight.to) {
            mailbox.push_back(arrived);
        }
    }

    /// The port of the stream listener at this address.
    fn stream_listener(&self, address: SocketAddr) -> Option<PortId> {
        let ports = &self.limits.shards.first()?.ports;
        let is_it = |p: &PortSpec| matches!(p.role, Role::Stream(_)) && p.address == address;
        ports.iter().position(is_it).map(|place| PortId(place as u32))
    }

    fn step(&mut self, shard: usize, input: Option<(PortId, Flight)>) {
        if self.dead {
            return;
        }
        self.steps += 1;
        let mut inbox =
            Inbox::new(Pool::new(input.as_ref().map_or(0, |(_, f)| f.bytes.len() + ROOM)));
        inbox.journal_room = self.options.journal_room;
        inbox.letters.append(&mut self.mail[shard]);
        if let Some((port, flight)) = input {
            let bytes = Bytes { at: 0, len: flight.bytes.len() as u32 };
            inbox.pool.get_mut(bytes).copy_from_slice(&flight.bytes);
            inbox.packets.push(Received { port, source: flight.from, bytes });
            if self.options.traced {
                let Flight { from, to, bytes } = flight;
                self.trace.push(Trace::Into(Passed { at: self.now, from, to, bytes }));
            }
        }
        let mut outbox = Outbox::default();
        let now = self.now_pair();
        self.shards[shard].step(now, &mut inbox, &mut outbox);
        self.submit(shard, &mut outbox, Some(&inbox));
    }

    pub(crate) fn submit(&mut self, shard: usize, outbox: &mut Outbox, inbox: Option<&Inbox>) {
        if self.dead || self.cut_short(shard, outbox) {
            return;
        }
        for frame in &outbox.journal {
            self.journal(shard, plain(outbox, *frame));
        }
        for record in &outbox.records {
            match record.bytes.len {
                0 => self.regions[shard].records.remove(&record.slot),
                _ => self.regions[shard].records.insert(record.slot, plain(outbox, record.bytes)),
            };
        }
        self.leave(shard, outbox, inbox, usize::MAX);
        self.events.append(&mut outbox.events);
        let mesh: Vec<_> = outbox.mesh.drain(..).collect();
        for (to, letter) in mesh {
            self.mail[usize::from(to.0)].push(letter);
            self.step(usize::from(to.0), None);
        }
    }

    /// Appends a frame to a journal.
    pub(crate) fn journal(&mut self, shard: usize, frame: Vec<u8>) {
        if self.options.traced {
            self.trace.push(Trace::Frame(frame.clone()));
        }
        self.regions[shard].journal.push(frame);
    }

    /// Sends the first `most` of what a shard wants sent.
    pub(crate) fn leave(
        &mut self,
        shard: usize,
        outbox: &mut Outbox,
        inbox: Option<&Inbox>,
        most: usize,
    ) {
        let packets = core::mem::take(&mut outbox.packets);
        for packet in packets.iter().take(most) {
            let Some(inbox) = inbox else { continue };
            let from = self.limits.shards[shard].ports[packet.port.0 as usize].address;
            self.emit(from, packet.to, inbox.pool.get(packet.bytes).to_vec());
        }
        let sends = core::mem::take(&mut outbox.texts.sends);
        for text in sends.iter().take(most) {
            let from = self.limits.shards[shard].ports[text.port.0 as usize].address;
            let bytes = outbox.texts.get(text.bytes);
            let is_gone = self.unreachable.contains(&text.to)
                || (self.is_half_open(text.to) && self.random.below(2) == 0);
            if self.stream_listener(from).is_some() && is_gone {
                // It was said, if to nobody.
                self.note_out(from, text.to, bytes);
                self.mail[shard].push(Letter::Unsent { bytes: bytes.into(), relayed: false });
            } else {
                self.emit(from, text.to, bytes.to_vec());
            }
        }
        if !self.mail[shard].is_empty() {
            self.step(shard, None);
        }
    }

    fn note_out(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.options.traced {
            let (at, bytes) = (self.now, bytes.to_vec());
            self.trace.push(Trace::Out(Passed { at, from, to, bytes }));
        }
    }

    fn emit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.note_out(from, to, &bytes);
        self.fly(from, to, bytes);
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(line) = crate::wire::summary(&bytes) {
            self.ladder.push(format!("{:>9.3} {from} > {to} {line}", self.now.0 as f64 / 1e6));
        }
        if self.stream_listener(from).is_some() || self.stream_listener(to).is_some() {
            // What a connection carries arrives once, in order, or not at all.
            if self.is_half_open(from) || self.is_half_open(to) {
                return;
            }
            self.sent += 1;
            let at = self.now + Duration::from_millis(1);
            self.flights.insert((at, self.sent), Flight { from, to, bytes });
            return;
        }
        if self.random.below(1000) < self.options.loss {
            return;
        }
        let copies = 1 + u64::from(self.random.below(1000) < self.options.duplication);
        for _ in 0..copies {
            let extra = self.random.below(self.options.delay_ms + 1);
            let at = self.now + Duration::from_millis(1 + u64::from(extra));
            self.sent += 1;
            self.flights.insert((at, self.sent), Flight { from, to, bytes: bytes.clone() });
        }
    }
}

/// A range of an outbox's arena.
pub(crate) fn plain(outbox: &Outbox, bytes: Bytes) -> Vec<u8> {
    outbox.plain[bytes.at as usize..(bytes.at + bytes.len) as usize].to_vec()
}

/// What protection adds to a packet, at most.
const ROOM: usize = media::srtp::MAX_GROWTH;

/// A seed that no other life of a shard has.
fn media_seed(seed: u64, epoch: u64, shard: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&epoch.to_be_bytes());
    bytes[16..24].copy_from_slice(&(shard as u64).to_be_bytes());
    bytes
}

fn limits(image: &Image, options: &Options) -> Limits {
    let mut shards = Vec::new();
    for shard in 0..options.shards {
        let sip = image.interfaces.iter().enumerate().map(|(i, interface)| PortSpec {
            address: interface.sip,
            role: Role::Sip,
            interface: i as u16,
            device: None,
            dscp: 24,
            tcp_keepalive_s: 60,
        });
        let mut ports: Vec<PortSpec> = sip.collect();
        ports.extend(image.streams.iter().map(|stream| PortSpec {
            address: stream.face.sent_by.parse().expect("a socket address"),
            role: Role::Stream(stream.face.transport),
            interface: stream.interface,
            device: None,
            dscp: 24,
            tcp_keepalive_s: 60,
        }));
        for (i, interface) in image.interfaces.iter().enumerate() {
            for pair in 0..options.pairs {
                let first = 20_000 + 2 * (shard as u16 * options.pairs + pair);
                for (role, port) in [(Role::Rtp, first), (Role::Rtcp, first + 1)] {
                    let address = SocketAddr::new(interface.sip.ip(), port);
                    ports.push(PortSpec {
                        address,
                        role,
                        interface: i as u16,
                        device: None,
                        dscp: 46,
                        tcp_keepalive_s: 60,
                    });
                }
            }
        }
        shards.push(ShardLimits {
            ports,
            records: options.calls,
            transactions: options.transactions,
            record_size: 32 * 1024,
            journal_size: 1 << 20,
        });
    }
    Limits { shards, mesh_letters: 1024, events: 1024 }
}
