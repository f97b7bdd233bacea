//! Signalling's data path on one page: parse, steer, admit to a transaction, locate the dialog, act.
//!
//! `receive` takes a datagram; `heard`, `answer`, `command` and `expire` take everything else that can
//! happen. All of them act upon one call, and `settle` then looks after its timer, its record and its end.

use crate::billing::{Cdr, Frame, Stamp};
use crate::call::record::{self, CallRecord};
use crate::call::{self, CALLER, Call, Phase, exchange, hunt, release, setup};
use crate::core::{ALLOW, Alarm, Core, First, Reply, Turn, method_case, respond_stateless};
use crate::counters::{ClassCase, Counters, Dropped};
use crate::dialog::Tag;
use crate::message::{self, Index, Kind, Message, Method, Name, ParseError};
use crate::policy::{Image, realm};
use crate::question::{Answer, Names};
use crate::refusal::Refusal;
use crate::steer;
use crate::transaction::{Again, Due, Machine, Transactions};
use base::page::Page;
use base::random::{HashedMap, Random};
use base::wheel::Wheel;
use base::{Instant, Key, PortId, ShardId, Slab};
use control::event::{CallId, CallState};
use control::{Command, Event};
use media::Notice;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a shard's signalling is made from.
pub struct Setup {
    /// Which shard.
    pub shard: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Start of the process, milliseconds since the Unix epoch: part of every CDR id.
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

/// What became of a datagram.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was dealt with here.
    Handled,
    /// It belongs to a call of this shard.
    Elsewhere(ShardId),
}

/// A shard's signalling.
pub struct Signal {
    calls: Slab<Box<Call>>,
    core: Core,
    index: Box<Index>,
    steer: Random,
    shards: usize,
    dirty: Vec<Key>,
    freed: Vec<u32>,
    fired: Vec<Alarm>,
    /// The call the input at hand is about.
    at_work: Option<Key>,
}

impl Signal {
    /// Signalling without calls; `thaw` adds those of a predecessor.
    pub fn new(setup: Setup, now: Instant) -> Signal {
        let core = Core {
            shard: setup.shard,
            epoch: setup.epoch,
            sequence: 0,
            image: setup.image,
            page: setup.page,
            random: Random::streamed(setup.key, setup.epoch),
            names: Names::default(),
            transactions: Transactions::new(setup.transactions),
            merged: HashedMap::default(),
            waiting: Vec::new(),
            ends: Vec::new(),
            wheel: Wheel::new(now),
            counters: Arc::new(Counters::default()),
            index: Index::new(),
            draining: false,
            answered: 0,
        };
        Signal {
            calls: Slab::new(setup.calls),
            core,
            index: Box::new(Index::new()),
            steer: Random::new(setup.steer_key),
            shards: setup.shards,
            dirty: Vec::new(),
            freed: Vec::new(),
            fired: Vec::new(),
            at_work: None,
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.core.counters.clone()
    }

    /// Calls held, ended ones that still wait for a last answer included.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Transactions held.
    pub fn transactions(&self) -> usize {
        self.core.transactions.len()
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
        self.core.wheel.next_deadline()
    }

    /// Routes by another configuration from now on; calls keep what they have decided.
    pub fn reload(&mut self, image: Arc<Image>) {
        self.core.image = image;
    }

    /// A datagram on a SIP listener. `relayed`: another shard found that it is ours.
    pub fn receive(
        &mut self,
        turn: &mut Turn,
        port: PortId,
        source: SocketAddr,
        bytes: &[u8],
        relayed: bool,
    ) -> Outcome {
        self.at_work = None;
        let mut index = core::mem::replace(&mut self.index, Box::new(Index::new()));
        let outcome = match message::parse(bytes, &mut index) {
            Ok(message) => self.steered(turn, port, source, &message, relayed),
            Err(rejected) => {
                self.malformed(turn, port, source, rejected.error, rejected.reply);
                Outcome::Handled
            }
        };
        self.index = index;
        outcome
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
        port: PortId,
        source: SocketAddr,
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
        match message.status() {
            Some(status) => self.response(turn, message, status.code()),
            None => self.request(turn, setup::Arrival { home, port, source, hash: 0 }, message),
        }
        Outcome::Handled
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
        if !realm::is_known(&core.image, port.0 as u16, source) {
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

    // ---- requests ----

    fn request(&mut self, turn: &mut Turn, mut at: setup::Arrival, message: &Message) {
        let Some(method) = message.method() else { return };
        self.core.counters.requests_in.add(method_case(method).index());
        let tag = message.to().ok().and_then(|to| to.tag());
        let dialog = tag.and_then(Tag::parse).and_then(|tag| self.locate(tag, message));
        self.at_work = dialog.map(|(call, _)| call);
        if !self.may_speak(at, dialog) {
            let why = if dialog.is_some() { Dropped::WrongPeer } else { Dropped::UnknownSource };
            return self.core.counters.dropped.add(why.index());
        }
        if let Err(error) = readable(message) {
            return self.malformed(turn, at.port, at.source, error, Some(*message));
        }
        at.hash = self.hash(message, method);
        if self.absorb(turn, at, method) {
            return;
        }
        match (method, dialog) {
            (Method::Ack, Some(leg)) => self.ack(turn, leg, message),
            (Method::Ack, None) => self.core.counters.dropped.add(Dropped::StrayAck.index()),
            (Method::Cancel, _) => self.cancel(turn, at, message),
            (_, None) if tag.is_some() => self.answer_now(turn, at, message, 481),
            (Method::Invite, None) => self.invite(turn, at, message),
            (method, _) if unknown_extension(message) => {
                self.bad_extension(turn, at, message, method)
            }
            (Method::Invite, Some(leg)) => self.reinvite(turn, at, leg, message),
            (Method::Bye, Some(leg)) => self.bye(turn, at, leg, message),
            (Method::Options, _) => self.options(turn, at, message),
            (Method::Bye, None) => self.answer_now(turn, at, message, 481),
            (Method::Other(_), _) => self.answer_now(turn, at, message, 501),
            _ => self.answer_now(turn, at, message, 405),
        }
    }

    /// Whether this source may say anything: a trunk's address, or the peer of the dialog.
    fn may_speak(&self, at: setup::Arrival, dialog: Option<(Key, u8)>) -> bool {
        let Some((key, place)) = dialog else {
            return realm::is_known(&self.core.image, at.port.0 as u16, at.source);
        };
        let leg = self.calls.get(key).and_then(|c| c.legs.get(usize::from(place)));
        leg.is_some_and(|leg| {
            let trunk = self.core.image.trunks.get(usize::from(leg.trunk));
            leg.port == at.port
                && (leg.dialog.peer.ip() == at.source.ip()
                    || trunk.is_some_and(|t| realm::admits(t, at.source)))
        })
    }

    /// The live leg a tag of ours names, if Call-ID and the peer's tag are its dialog's (RFC 3261 12.2.2).
    /// Before the dialog is confirmed the peer may be one of several, each with a tag of its own.
    fn locate(&self, tag: Tag, message: &Message) -> Option<(Key, u8)> {
        let leg = self.calls.get(tag.call)?.legs.get(usize::from(tag.leg))?;
        let ours = leg.dialog.tag;
        let theirs = message.from().ok().and_then(|f| f.tag()).unwrap_or_default();
        let is_ours = ours.secret == tag.secret && tag.fork <= ours.fork;
        let is_theirs = *leg.dialog.remote_tag == *theirs || leg.phase != Phase::Confirmed;
        let same_call = *leg.dialog.call_id == *message.call_id();
        (is_ours && is_theirs && same_call).then_some((tag.call, tag.leg))
    }

    /// Keyed hash of what matches a request to its server transaction (RFC 3261 17.2.3); ACK and CANCEL
    /// match the INVITE they are about. Holds for RFC 2543 branches as well.
    fn hash(&self, message: &Message, method: Method) -> u64 {
        let method = if method == Method::Ack { Method::Invite } else { method };
        self.hash_as(message, method)
    }

    fn hash_as(&self, message: &Message, method: Method) -> u64 {
        let via = message.via().ok();
        let branch = via.and_then(|v| v.branch).unwrap_or_default();
        let host = via.map_or(&b""[..], |v| v.host);
        let port = via.and_then(|v| v.port).unwrap_or(5060).to_le_bytes();
        let number = message.cseq().number.to_le_bytes();
        let from = message.from().ok().and_then(|f| f.tag()).unwrap_or_default();
        let call_id = message.call_id();
        self.core.random.hash(&[branch, host, &port, &number, from, call_id, method.as_bytes()])
    }

    /// Retransmissions, and the ACK of a failure: what an existing transaction deals with alone.
    fn absorb(&mut self, turn: &mut Turn, at: setup::Arrival, method: Method) -> bool {
        let Some(key) = self.core.transactions.find(at.hash) else { return false };
        let timers = self.core.image.timers;
        let Some(tx) = self.core.transactions.get_mut(key) else { return false };
        let owner = tx.owner;
        match (&mut tx.machine, method) {
            (Machine::ServerInvite(machine), Method::Ack) => {
                if machine.awaits_ack() {
                    return false; // The ACK of a 2xx that shares the branch: the dialog's.
                }
                if machine.acknowledge(turn.now.mono, &timers) {
                    tx.text = Box::default();
                    self.core.rearm(key);
                }
                self.settle_owner(turn, owner);
            }
            (Machine::ServerInvite(machine), _) => {
                self.core.counters.retransmissions_in.add(1);
                if machine.again() == Again::Resend {
                    self.core.send_again(turn, key);
                }
            }
            (Machine::ServerOther(_), _) => {
                self.core.counters.retransmissions_in.add(1);
                self.core.send_again(turn, key);
            }
            (Machine::ClientInvite(_) | Machine::ClientOther(_), _) => return false,
        }
        true
    }

    fn invite(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
        let from = message.from().ok().and_then(|f| f.tag()).unwrap_or_default();
        let number = message.cseq().number.to_le_bytes();
        // 8.2.2.2: same From tag, Call-ID and CSeq, another branch: it came over two paths.
        let merged = self.core.random.hash(&[b"merged", from, message.call_id(), &number]);
        match self.core.merged.get(&merged) {
            Some(first) if first.hash != at.hash => {
                self.core.counters.refusals.add(Refusal::LoopDetected.index());
                return self.answer_now(turn, at, message, 482);
            }
            Some(first) => {
                // Its transaction is over, or there was no room for one: then it hears the same again.
                self.core.counters.retransmissions_in.add(1);
                if first.stateless {
                    let status = Refusal::TransactionsFull.status();
                    let reply = Reply::plain(status, Some(stateless_tag(&self.core, message)));
                    respond_stateless(turn, (at.port, at.source), message, &reply, &self.core);
                }
                return;
            }
            None => {}
        }
        self.core.wheel.schedule(turn.now.mono + setup::MERGED_FOR, Alarm::Merged(merged));
        if let Some(key) = setup::invite(&mut self.calls, &mut self.core, turn, at, message) {
            self.settle(turn, key);
        }
        let stateless = self.core.transactions.find(at.hash).is_none();
        self.core.merged.insert(merged, First { hash: at.hash, stateless });
    }

    /// The ACK of a 2xx: the dialog's business, not a transaction's.
    fn ack(&mut self, turn: &mut Turn, (key, place): (Key, u8), message: &Message) {
        let timers = self.core.image.timers;
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(invite) = call.leg(place).and_then(|l| l.invite) else { return };
        let Some(tx) = self.core.transactions.get_mut(invite) else { return };
        let Machine::ServerInvite(machine) = &mut tx.machine else { return };
        if !machine.awaits_ack() {
            return self.core.counters.retransmissions_in.add(1);
        }
        machine.acknowledge(turn.now.mono, &timers);
        tx.text = Box::default();
        self.core.rearm(invite);
        exchange::acknowledged(call, &mut self.core, turn, place, message);
        release::pay_bye(call, &mut self.core, turn, place);
        self.settle(turn, key);
    }

    fn cancel(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
        let invite = self.hash_as(message, Method::Invite);
        let found =
            self.core.transactions.find(invite).and_then(|key| self.core.transactions.get(key));
        let Some(tx) = found else { return self.answer_now(turn, at, message, 481) };
        let Machine::ServerInvite(machine) = &tx.machine else { return };
        let (owner, open, peer) = (tx.owner, machine.awaits_final(), tx.peer);
        if peer.ip() != at.source.ip() {
            return self.core.counters.dropped.add(Dropped::WrongPeer.index());
        }
        self.answer_now(turn, at, message, 200);
        let (true, Some(owner)) = (open, owner) else { return };
        let Some(call) = self.calls.get_mut(owner.call) else { return };
        if call.state == CallState::Answered {
            exchange::cancelled(call, &mut self.core, turn, owner.leg);
        } else {
            release::cancelled(call, &mut self.core, turn);
        }
        self.settle(turn, owner.call);
    }

    fn reinvite(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let in_order = call.leg(place).is_some_and(|l| l.dialog.admit_cseq(message.cseq().number));
        if call.has_ended() || !in_order {
            let status = if in_order { 481 } else { 500 };
            return self.answer_now(turn, at, message, status);
        }
        let other = match exchange::may_begin(call, &self.core, place) {
            Ok(other) => other,
            Err(exchange::Busy::Pending) => return self.answer_now(turn, at, message, 491),
            Err(exchange::Busy::Unfinished) => return self.answer_now(turn, at, message, 500),
        };
        let owner = Some(crate::transaction::Owner { call: key, leg: place });
        let Some(served) = self.core.serve_invite(at.hash, owner, (at.port, at.source), message)
        else {
            return self.answer_now(turn, at, message, 500);
        };
        if let Some(leg) = call.leg(place) {
            leg.dialog.refresh_target(message.contact().ok().flatten());
            leg.dialog.peer = at.source;
        }
        exchange::begin(call, &mut self.core, turn, (place, other), served, message);
        self.settle(turn, key);
    }

    fn bye(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if !call.leg(place).is_some_and(|l| l.dialog.admit_cseq(message.cseq().number)) {
            return self.answer_now(turn, at, message, 500);
        }
        self.core.respond_at_once(
            turn,
            at.hash,
            (at.port, at.source),
            message,
            Reply::plain(200, None),
            |_| {},
        );
        release::hung_up(call, &mut self.core, turn, place, message);
        self.settle(turn, key);
    }

    fn options(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
        let tag = stateless_tag(&self.core, message);
        // A node that takes no calls says so to whoever asks whether it is there.
        let status = if self.core.draining { 503 } else { 200 };
        let reply = Reply::plain(status, Some(tag));
        self.core.respond_at_once(turn, at.hash, (at.port, at.source), message, reply, |print| {
            print.header(Name::Allow, ALLOW);
            print.header(Name::Accept, b"application/sdp");
        });
    }

    fn bad_extension(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        message: &Message,
        method: Method,
    ) {
        let tag = stateless_tag(&self.core, message);
        let reply = Reply::plain(420, Some(tag));
        let unsupported = |print: &mut message::Print| {
            message.options(Name::Require).for_each(|option| {
                print.header(Name::Unsupported, option);
            });
        };
        if method == Method::Invite {
            if let Some(key) = self.core.serve_invite(at.hash, None, (at.port, at.source), message)
            {
                self.core.respond(turn, key, reply, unsupported);
            }
            return;
        }
        self.core.respond_at_once(turn, at.hash, (at.port, at.source), message, reply, unsupported);
    }

    /// Answers with a status and nothing more; an INVITE within an INVITE transaction.
    fn answer_now(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message, status: u16) {
        let tag = stateless_tag(&self.core, message);
        let fill = |print: &mut message::Print| {
            if matches!(status, 405 | 501) {
                print.header(Name::Allow, ALLOW);
            }
            if status == 500 {
                print.header(Name::RetryAfter, b"5");
            }
        };
        let reply = Reply::plain(status, Some(tag));
        if message.method() == Some(Method::Invite) {
            match self.core.serve_invite(at.hash, None, (at.port, at.source), message) {
                Some(key) => self.core.respond(turn, key, reply, fill),
                None => respond_stateless(turn, (at.port, at.source), message, &reply, &self.core),
            }
            return;
        }
        self.core.respond_at_once(turn, at.hash, (at.port, at.source), message, reply, fill);
    }

    // ---- responses ----

    fn response(&mut self, turn: &mut Turn, message: &Message, status: u16) {
        self.core.counters.responses_in.add(ClassCase::of(status).index());
        let Some(key) = self.client_transaction(message) else {
            return self.core.counters.dropped.add(Dropped::StrayResponse.index());
        };
        let timers = self.core.image.timers;
        let Some(tx) = self.core.transactions.get_mut(key) else { return };
        let owner = tx.owner;
        self.at_work = owner.map(|o| o.call);
        match &mut tx.machine {
            Machine::ClientOther(machine) => {
                machine.receive(status, turn.now.mono, &timers);
                self.core.rearm(key);
                self.settle_owner(turn, owner);
            }
            Machine::ClientInvite(machine) => {
                let call = owner.and_then(|o| self.calls.get_mut(o.call).map(|c| (c, o)));
                match call {
                    Some((call, owner)) => {
                        hunt::heard(call, &mut self.core, turn, (owner.leg, key), message);
                        self.settle(turn, owner.call);
                    }
                    None => {
                        // The call is over: an ACK that was lost goes out again.
                        machine.receive(status, turn.now.mono, &timers);
                        if status >= 200 && tx.text.starts_with(b"ACK ") {
                            self.core.send_again(turn, key);
                        }
                    }
                }
            }
            Machine::ServerInvite(_) | Machine::ServerOther(_) => {}
        }
    }

    /// The transaction our branch names; a response to CANCEL belongs to the one beside it.
    fn client_transaction(&self, message: &Message) -> Option<Key> {
        let branch = crate::transaction::Branch::parse(message.via().ok()?.branch?)?;
        let tx = self.core.transactions.get(branch.transaction)?;
        if tx.hash != branch.secret {
            return None;
        }
        match (&tx.machine, message.cseq().method) {
            (Machine::ClientInvite(_), Method::Invite) => Some(branch.transaction),
            (Machine::ClientInvite(_), Method::Cancel) => tx.cancel,
            (Machine::ClientOther(_), _) => Some(branch.transaction),
            _ => None,
        }
    }

    // ---- everything else that happens ----

    /// An answer to a question.
    pub fn answer(&mut self, turn: &mut Turn, answer: Answer) {
        let host = answer.host.clone();
        self.core.names.learn(answer, turn.now.mono);
        let waiting = core::mem::take(&mut self.core.waiting);
        for key in waiting {
            let Some(call) = self.calls.get_mut(key) else { continue };
            match call.awaited_host.as_deref() {
                Some(awaited) if *awaited == *host.as_bytes() => {
                    setup::route(call, &mut self.core, turn);
                    self.settle(turn, key);
                }
                Some(_) => self.core.waiting.push(key),
                None => {}
            }
        }
    }

    /// Something media noticed.
    pub fn heard(&mut self, turn: &mut Turn, notice: Notice) {
        let end = match notice {
            Notice::Silent { end, .. } | Notice::Latched { end, .. } => end,
        };
        let Some(owner) = self.core.ends.get(end.index as usize).copied().flatten() else { return };
        let Some(call) = self.calls.get_mut(owner.call) else { return };
        if matches!(notice, Notice::Silent { .. })
            && call.state == CallState::Answered
            && call::bridge::is_dead(call, turn)
        {
            release::release(call, &mut self.core, turn, Refusal::MediaTimeout);
        }
        self.settle(turn, owner.call);
    }

    /// An operator's order.
    pub fn command(&mut self, turn: &mut Turn, command: Command) {
        match command {
            Command::Drain => self.core.draining = true,
            Command::Hangup(id) => {
                let key = key_of(id);
                let Some(call) = self.calls.get_mut(key) else { return };
                release::release(call, &mut self.core, turn, Refusal::Operator);
                self.settle(turn, key);
            }
            Command::ReleaseAll => self.each(turn, |call, core, turn| {
                release::release(call, core, turn, Refusal::Operator);
            }),
            Command::Resync => {
                turn.events.extend(self.calls.iter().map(|(_, call)| Event::Call(call.view())));
                turn.events.push(Event::Synced);
            }
        }
    }

    /// Closes the CDR of a call of which only journal frames are left.
    pub fn close(&mut self, turn: &mut Turn, mut cdr: Cdr, last_known: Stamp) {
        cdr.end = Some(last_known);
        cdr.recovered = true;
        if cdr.answer.is_none() {
            cdr.status = Refusal::Restart.status();
        }
        cdr.q850 = Refusal::Restart.q850();
        cdr.reason = Refusal::Restart.name().as_bytes().into();
        self.core.counters.refusals.add(Refusal::Restart.index());
        self.core.journal(turn, &Frame::Stop(cdr));
    }

    fn each(&mut self, turn: &mut Turn, mut act: impl FnMut(&mut Call, &mut Core, &mut Turn)) {
        let keys: Vec<Key> = self.calls.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(call) = self.calls.get_mut(key) {
                act(call, &mut self.core, turn);
            }
            self.settle(turn, key);
        }
    }

    /// Time has passed.
    pub fn expire(&mut self, turn: &mut Turn) {
        let mut fired = core::mem::take(&mut self.fired);
        self.core.wheel.turn(turn.now.mono, |alarm| fired.push(alarm));
        for alarm in fired.drain(..) {
            match alarm {
                Alarm::Transaction(key) => self.transaction_due(turn, key),
                Alarm::Call(key) => self.call_due(turn, key),
                Alarm::Merged(hash) => {
                    self.core.merged.remove(&hash);
                }
            }
        }
        self.fired = fired;
    }

    fn transaction_due(&mut self, turn: &mut Turn, key: Key) {
        let timers = self.core.image.timers;
        let Some(tx) = self.core.transactions.get_mut(key) else { return };
        tx.timer = None;
        let (owner, due) = (tx.owner, tx.expire(turn.now.mono, &timers));
        match due {
            Due::Nothing => self.core.rearm(key),
            Due::Retransmit => {
                self.core.send_again(turn, key);
                self.core.rearm(key);
            }
            Due::Ended => self.core.forget(key),
            Due::TimedOut => self.timed_out(turn, key),
        }
        if due != Due::Nothing {
            self.settle_owner(turn, owner);
        }
    }

    fn timed_out(&mut self, turn: &mut Turn, key: Key) {
        self.core.counters.transaction_timeouts.add(1);
        let Some(tx) = self.core.transactions.get(key) else { return };
        let (machine, owner) = (tx.machine.clone(), tx.owner);
        self.core.forget(key);
        let Some(owner) = owner else { return };
        let Some(call) = self.calls.get_mut(owner.call) else { return };
        match machine {
            Machine::ClientInvite(_) => {
                if call.exchange.is_some_and(|e| e.sent == key) {
                    exchange::refused(call, &mut self.core, turn, 408);
                } else {
                    hunt::failed(call, &mut self.core, turn, owner.leg, 408, Refusal::NoResponse);
                }
            }
            Machine::ServerInvite(_) => {
                if !call.has_ended() && call.state == CallState::Answered {
                    release::release(call, &mut self.core, turn, Refusal::NoAck);
                }
                release::pay_bye(call, &mut self.core, turn, owner.leg);
            }
            Machine::ClientOther(_) | Machine::ServerOther(_) => {}
        }
    }

    fn call_due(&mut self, turn: &mut Turn, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.timer = None;
        let (now, core) = (turn.now.mono, &mut self.core);
        let callee = call.callee.unwrap_or(CALLER);
        if now >= call.duration_deadline {
            release::release(call, core, turn, Refusal::MaxDuration);
        } else if now >= call.trying_deadline {
            call.trying_deadline = Instant::NEVER;
            hunt::give_up(call, core, turn, callee, Refusal::NoResponse);
        } else if now >= call.ring_deadline && call.state == CallState::Deciding {
            setup::answer_is_late(call, core, turn);
        } else if now >= call.ring_deadline {
            call.ring_deadline = Instant::NEVER;
            hunt::give_up(call, core, turn, callee, Refusal::RingTimeout);
        } else if now >= call.interim_deadline {
            hunt::interim(call, core, turn);
        }
        self.settle(turn, key);
    }

    // ---- looking after a call that was touched ----

    fn settle_owner(&mut self, turn: &mut Turn, owner: Option<crate::transaction::Owner>) {
        if let Some(owner) = owner {
            self.settle(turn, owner.call);
        }
    }

    /// Ends a call that has nothing left to do; sets its timer, marks its record, tells the gate.
    fn settle(&mut self, turn: &mut Turn, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let now_told = (call.state, call.callee);
        if call.told != Some(now_told) {
            call.told = Some(now_told);
            turn.events.push(Event::Call(call.view()));
        }
        let core = &mut self.core;
        call.legs.iter_mut().for_each(|leg| leg.others.retain(|tx| core.is_open(*tx)));
        let at_work = call.legs.iter().any(|leg| {
            leg.bye_owed || !leg.others.is_empty() || leg.invite.is_some_and(|tx| core.is_open(tx))
        });
        if call.has_ended() && !at_work {
            if let Some((_, timer)) = call.timer.take() {
                core.wheel.cancel(timer);
            }
            self.calls.remove(key);
            self.freed.push(key.index);
            return;
        }
        let due = call.deadline();
        if call.timer.map(|t| t.0) != Some(due) {
            if let Some((_, timer)) = call.timer.take() {
                core.wheel.cancel(timer);
            }
            if due != Instant::NEVER {
                call.timer = Some((due, core.wheel.schedule(due, Alarm::Call(key))));
            }
        }
        if !call.dirty {
            call.dirty = true;
            self.dirty.push(key);
        }
    }

    /// The end of a step: writes the record of every call that changed, clears those of calls that ended.
    pub fn freeze(
        &mut self,
        turn: &mut Turn,
        record_size: usize,
        mut write: impl FnMut(u32, base::Bytes),
    ) {
        for slot in self.freed.drain(..) {
            write(slot, base::Bytes::default());
        }
        let dirty = core::mem::take(&mut self.dirty);
        for key in &dirty {
            let Some(call) = self.calls.get_mut(*key) else { continue };
            call.dirty = false;
            let at = turn.plain.len();
            record::seal(call, &self.core.transactions, turn.media, turn.plain);
            let len = turn.plain.len() - at;
            if len > record_size {
                self.core.counters.records_too_large.add(1);
                // An older record of the call would be worse than none: the journal closes its CDR.
                turn.plain.truncate(at);
                write(key.index, base::Bytes::default());
                continue;
            }
            write(key.index, base::Bytes { at: at as u32, len: len as u32 });
        }
        self.dirty = dirty;
        self.dirty.clear();
        let counters = &self.core.counters;
        counters.calls_held.set(self.calls.len() as u64);
        counters.calls_active.set(self.core.answered);
        counters.transactions_held.set(self.core.transactions.len() as u64);
    }

    /// Brings a call back. `resume` lets it go on; otherwise its process died, its media with it, and
    /// `release_thawed` is to follow once all are back: what it sends would take their places.
    pub fn thaw(&mut self, turn: &mut Turn, record: CallRecord, resume: bool) {
        let CallRecord { mut call, transactions, mut ends } = record;
        let key = call.key;
        if !resume {
            ends.clear();
            call.holds.clear();
            call.legs.iter_mut().for_each(|leg| leg.media = None);
        }
        // Places are given anew: a key whose transaction had ended would name another call's.
        let left: Vec<Key> = transactions.iter().map(|(key, _)| *key).collect();
        for leg in &mut call.legs {
            leg.invite = leg.invite.filter(|key| left.contains(key));
            leg.others.retain(|key| left.contains(key));
        }
        for (tx_key, mut tx) in transactions {
            tx.cancel = tx.cancel.filter(|key| left.contains(key));
            if self.core.transactions.restore(tx_key, tx) {
                self.core.rearm(tx_key);
            }
        }
        for (end, record) in ends {
            let _lost = turn.media.thaw(end, record, turn.now.mono);
        }
        self.core.answered += u64::from(call.state == CallState::Answered);
        for trunk in &call.holds {
            self.core.page.restore(Image::calls_word(*trunk));
        }
        if call.awaited_host.is_some() {
            self.core.waiting.push(key);
        }
        for (place, leg) in call.legs.iter().enumerate() {
            if let Some(end) = leg.media {
                self.core.own(end, key, place as u8);
            }
        }
        if let Err(mut call) = self.calls.restore(key, Box::new(call)) {
            // No place for it under another layout: its CDR is closed all the same.
            release::after_restart(&mut call, &mut self.core, turn);
            return;
        }
        self.settle(turn, key);
    }

    /// Releases every call thawed from a dead process.
    pub fn release_thawed(&mut self, turn: &mut Turn) {
        self.each(turn, release::after_restart);
    }
}

/// What must be readable before anything is done with a request.
fn readable(message: &Message) -> Result<(), ParseError> {
    message.via()?;
    message.from()?;
    message.to()?;
    message.contact()?;
    message.max_forwards()?;
    message.record_routes().try_for_each(|r| r.map(|_| ()))
}

fn unknown_extension(message: &Message) -> bool {
    message.options(Name::Require).next().is_some()
}

/// A tag for responses that create no dialog: the same for the same request (RFC 3261 8.2.7).
fn stateless_tag(core: &Core, request: &Message) -> Tag {
    let raw = |name| request.get(name).unwrap_or_default();
    let parts = [Name::Via, Name::From, Name::CallId, Name::CSeq].map(raw);
    let call = Key { index: u32::MAX, generation: 0 };
    Tag { home: 0, call, leg: 0, fork: 0, secret: core.random.hash(&parts) }
}

fn key_of(id: CallId) -> Key {
    Key { index: id.index, generation: id.generation }
}
