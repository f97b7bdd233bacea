//! Signalling's data path on one page: parse, steer, admit to a transaction, locate the dialog, act.
//!
//! `receive` takes a datagram; `heard`, `answer`, `command` and `expire` take everything else that can
//! happen. All of them act upon one call, and `settle` then looks after its timer, its record and its end.

mod capture;
mod errand;
mod event;
mod join;
mod keepalive;
mod pass;
mod probe;
mod record;
mod refer;
mod request;
mod response;
mod stun;
mod unsent;

pub(crate) use keepalive::Keeper;
pub use keepalive::PING;
pub(crate) use probe::Prober;

use crate::call::{Call, release, setup};
use crate::core::{Core, Reply, Turn, respond_stateless};
use crate::counters::{Counters, Dropped};
use crate::dialog::Tag;
use crate::errand::Errand;
use crate::message::{self, Index, Kind, Message, Method, Name, ParseError};
use crate::policy::{Image, Outages, Proved, realm};
use crate::quality::Standing;
use crate::question::{Names, Ported};
use crate::refusal::Refusal;
use crate::steer;
use crate::transaction::Transactions;
use base::page::Page;
use base::random::{HashedMap, Random};
use base::wheel::Wheel;
use base::{Instant, Key, PortId, ShardId, Slab};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a shard's signalling is made from.
pub struct Setup {
    /// Which shard.
    pub shard: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Start of the process: seconds since the Unix epoch, never the same twice: part of every CDR id.
    pub epoch: u64,
    /// Secret of this shard: tags, branches, transaction hashes.
    pub key: (u64, u64),
    /// Secret of the node: homes. The same on every shard.
    pub steer_key: (u64, u64),
    /// The configuration.
    pub image: Arc<Image>,
    /// Words shared by all shards.
    pub page: Page,
    /// Most calls.
    pub calls: u32,
    /// Most transactions, lingering ones included.
    pub transactions: u32,
}

/// Where a message came from.
#[derive(Copy, Clone, Debug)]
pub struct Sender<'a> {
    /// The listener.
    pub port: PortId,
    /// The far end.
    pub source: SocketAddr,
    /// The names the far end's certificate bears; `None` without one that is believed.
    pub proved: Option<&'a Proved>,
}

/// What became of a datagram.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was dealt with here.
    Handled,
    /// It belongs to a call of this shard.
    Elsewhere(ShardId),
    /// A sign says that it belongs to this call of that shard.
    Signed(ShardId, Key),
}

/// A shard's signalling.
pub struct Signal {
    calls: Slab<Box<Call>>,
    errands: Slab<Errand>,
    core: Core,
    index: Box<Index>,
    steer: Random,
    shards: usize,
    dirty: Vec<Key>,
    freed: Vec<u32>,
    captures: Vec<capture::Capture>,
    /// The call the input at hand is about.
    at_work: Option<Key>,
}

impl Signal {
    /// Signalling without calls; `thaw` adds those of a predecessor.
    pub fn new(setup: Setup, now: Instant) -> Signal {
        let counters = Counters::default();
        counters.generation.set(setup.image.generation);
        let core = Core {
            shard: setup.shard,
            epoch: setup.epoch,
            sequence: 0,
            image: setup.image,
            page: setup.page,
            random: Random::streamed(setup.key, setup.epoch),
            names: Names::default(),
            standing: Arc::default(),
            ported: Ported::default(),
            proved: None,
            transactions: Transactions::new(setup.transactions),
            merged: HashedMap::default(),
            past: HashedMap::default(),
            moves: Default::default(),
            signs: HashedMap::default(),
            waiting: Vec::new(),
            ends: Vec::new(),
            wheel: Wheel::new(now),
            due: VecDeque::new(),
            counters: Arc::new(counters),
            heard: Default::default(),
            index: Index::new(),
            draining: false,
            answered: 0,
            keeper: Keeper::default(),
            prober: Prober::default(),
            outages: Outages::default(),
        };
        let mut signal = Signal {
            calls: Slab::new(setup.calls),
            errands: Slab::new(setup.calls),
            core,
            index: Box::new(Index::new()),
            steer: Random::new(setup.steer_key),
            shards: setup.shards,
            dirty: Vec::new(),
            freed: Vec::new(),
            captures: Vec::new(),
            at_work: None,
        };
        signal.look_at_keepalives(now);
        signal.look_at_probes(now);
        signal
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.core.counters.clone()
    }

    /// Calls held, ended ones that still wait for a last answer included.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Errands held: requests outside calls under way, and subscriptions.
    pub fn errands(&self) -> usize {
        self.errands.len()
    }

    /// Transactions held.
    pub fn transactions(&self) -> usize {
        self.core.transactions.len()
    }

    /// Bytes of messages its transactions keep.
    pub fn retained(&self) -> usize {
        self.core.transactions.retained()
    }

    /// The media endpoints that its calls hold, once for each leg and line that names one.
    pub fn held_ends(&self) -> impl Iterator<Item = base::Key> + '_ {
        self.calls.iter().flat_map(|(_, call)| call.legs.iter()).flat_map(|leg| {
            let further = leg.aside.streams.iter().map(|stream| stream.media);
            leg.media.into_iter().chain(further)
        })
    }

    /// The trunks on which its calls hold places, once for each place.
    pub fn held_places(&self) -> impl Iterator<Item = u16> + '_ {
        self.calls.iter().flat_map(|(_, call)| call.holds.iter().copied())
    }

    /// Whether it takes no calls and holds none.
    pub fn is_drained(&self) -> bool {
        self.core.draining && self.calls.is_empty()
    }

    /// When `expire` wants to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.core.due.is_empty() { self.core.wheel.next_deadline() } else { Some(Instant(0)) }
    }

    /// Routes by another configuration from now on; calls keep what they have decided.
    pub fn reload(&mut self, image: Arc<Image>) {
        self.core.counters.generation.set(image.generation);
        self.core.image = image;
        self.look_at_keepalives(Instant(0));
        self.look_at_probes(Instant(0));
    }

    /// Chooses by what is known about trunks from now on.
    pub fn stand(&mut self, standing: Arc<Standing>) {
        self.core.standing = standing;
    }

    /// A message on a SIP listener. `relayed`: another shard found that it is ours.
    pub fn receive(
        &mut self,
        turn: &mut Turn,
        from: Sender,
        bytes: &[u8],
        relayed: bool,
    ) -> Outcome {
        if stun::is_answer(bytes) && !self.core.image.is_stream(from.port) {
            return match self.bound(turn, from.source, bytes) {
                Some(shard) if !relayed => Outcome::Elsewhere(shard),
                Some(_) | None => Outcome::Handled,
            };
        }
        self.read_message(turn, from, bytes, |signal, turn, message| {
            signal.steered(turn, from, message, relayed)
        })
    }

    /// A message that a sign on another shard says is for this call.
    pub fn signed(&mut self, turn: &mut Turn, from: Sender, bytes: &[u8], call: Key) -> Outcome {
        let Sender { port, source, .. } = from;
        self.read_message(turn, from, bytes, |signal, turn, message| {
            let home = steer::owner(message, &signal.steer).unwrap_or(base::Home(0));
            let at = setup::Arrival { home, port, source, hash: 0, call: Some(call) };
            signal.request(turn, at, message)
        })
    }

    fn read_message(
        &mut self,
        turn: &mut Turn,
        from: Sender,
        bytes: &[u8],
        act: impl FnOnce(&mut Signal, &mut Turn, &Message) -> Outcome,
    ) -> Outcome {
        let Sender { port, source, proved } = from;
        self.core.proved = proved.cloned();
        self.at_work = None;
        if stun::is_stun(bytes) && !self.core.image.is_stream(port) {
            self.keep_open(turn, port, source, bytes);
            return Outcome::Handled;
        }
        let mut index = core::mem::replace(&mut self.index, Box::new(Index::new()));
        let outcome = match message::parse(bytes, &mut index) {
            Ok(message) => act(self, turn, &message),
            Err(rejected) => {
                self.malformed(turn, port, source, rejected.error, rejected.reply);
                Outcome::Handled
            }
        };
        self.index = index;
        outcome
    }

    /// A message for a shard that takes no more of them (RFC 3261 21.5.4). What will be repeated is left to
    /// that, unless it would begin a call.
    pub fn returned(&mut self, turn: &mut Turn, from: Sender, bytes: &[u8]) {
        let Sender { port, source, proved } = from;
        self.core.proved = proved.cloned();
        let mut index = Index::new();
        let Ok(message) = message::parse(bytes, &mut index) else { return };
        let is_served = match message.method() {
            Some(Method::Invite) => true,
            Some(Method::Ack) | None => false,
            Some(_) => self.core.image.is_stream(port),
        };
        let peer = self.core.peer(turn, source);
        if !is_served || !realm::is_known(&self.core.image, &self.core.page, port, &peer) {
            return;
        }
        self.core.counters.refusals.add(Refusal::ShardBusy.index());
        let tag = Some(stateless_tag(&self.core, &message));
        let reply = Reply::plain(Refusal::ShardBusy.status(), tag);
        respond_stateless(turn, (port, source), &message, &reply, &self.core);
    }

    /// A datagram that was larger than its buffer.
    pub fn truncated(&self) {
        self.core.counters.dropped.add(Dropped::Truncated.index());
    }

    /// A datagram of a source whose packets made us fail.
    pub fn quarantined(&self) {
        self.core.counters.dropped.add(Dropped::Quarantined.index());
    }

    /// The last input made us fail and what it asked for was taken back. The call it was about may be
    /// anything: it is closed.
    pub fn abandon(&mut self, turn: &mut Turn) {
        self.core.counters.failures.add(1);
        let Some(key) = self.at_work.take() else { return };
        if let Some(call) = self.calls.get_mut(key) {
            release::release(call, &mut self.core, turn, Refusal::InternalError);
        }
        self.settle(turn, key);
    }

    fn steered(
        &mut self,
        turn: &mut Turn,
        Sender { port, source, .. }: Sender,
        message: &Message,
        relayed: bool,
    ) -> Outcome {
        let Some(home) = steer::owner(message, &self.steer) else {
            self.core.counters.dropped.add(Dropped::StrayResponse.index());
            return Outcome::Handled;
        };
        let seat = home.seat(self.shards);
        if seat != self.core.shard {
            if relayed {
                self.core.counters.dropped.add(Dropped::Misrouted.index());
                return Outcome::Handled;
            }
            self.core.counters.steered.add(1);
            return Outcome::Elsewhere(seat);
        }
        let at = setup::Arrival { home, port, source, hash: 0, call: None };
        match message.status() {
            Some(status) => self.response(turn, message, status.code()),
            None => return self.request(turn, at, message),
        }
        Outcome::Handled
    }

    /// A STUN request on a SIP port, of a source that is known.
    fn keep_open(&self, turn: &mut Turn, port: PortId, source: SocketAddr, bytes: &[u8]) {
        let core = &self.core;
        if !realm::is_known(&core.image, &core.page, port, &core.peer(turn, source)) {
            return core.counters.dropped.add(Dropped::UnknownSource.index());
        }
        let mut answer = Vec::new();
        match stun::answer(bytes, source, &mut answer) {
            Some(()) => {
                core.counters.bindings.add(1);
                Core::send_text(turn, port, source, &answer);
            }
            None => core.counters.dropped.add(Dropped::Malformed.index()),
        }
    }

    fn malformed(
        &mut self,
        turn: &mut Turn,
        port: PortId,
        source: SocketAddr,
        error: ParseError,
        request: Option<Message>,
    ) {
        let core = &mut self.core;
        if error.kind == Kind::Empty {
            return core.counters.dropped.add(Dropped::KeepAlive.index());
        }
        core.counters.parse_errors.add(error.kind.index());
        if !realm::is_known(&core.image, &core.page, port, &core.peer(turn, source)) {
            return core.counters.dropped.add(Dropped::UnknownSource.index());
        }
        let Some(request) = request else {
            return core.counters.dropped.add(Dropped::Malformed.index());
        };
        let status = if error.kind == Kind::Version { 505 } else { 400 };
        let tag = stateless_tag(core, &request);
        let reply =
            Reply { reason: Some(error.kind.text().as_bytes()), ..Reply::plain(status, Some(tag)) };
        respond_stateless(turn, (port, source), &request, &reply, core);
    }
}

/// A tag for responses that create no dialog: the same for the same request (RFC 3261 8.2.7).
fn stateless_tag(core: &Core, request: &Message) -> Tag {
    let raw = |name| request.get(name).unwrap_or_default();
    let parts = [Name::Via, Name::From, Name::CallId, Name::CSeq].map(raw);
    let call = Key { index: u32::MAX, generation: 0 };
    Tag { home: 0, call, leg: 0, fork: 0, secret: core.random.hash(&parts) }
}
