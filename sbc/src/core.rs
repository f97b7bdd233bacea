//! What every part of signalling shares: transactions, timers, counters, and how to send.
//!
//! Calls are kept apart, so that a call and the core can be changed side by side.

use crate::billing::{Cdr, CdrId, Frame, Moment};
use crate::call::Whereabouts;
use crate::call::join::Move;
use crate::counters::{ClassCase, Counters, MethodCase};
use crate::dialog::session_timer::Mode;
use crate::dialog::{Contact, Dialog, Tag};
use crate::message::{self, Index, Message, Method, Name, Print, Status, response_head};
use crate::policy::plan::Kept;
use crate::policy::{Face, Image, Outages, Proved, Transport, realm};
use crate::quality::Standing;
use crate::question::{Names, Ported, Question};
use crate::signal::{Keeper, Prober};
use crate::transaction::{
    Branch, ClientInvite, ClientOther, Machine, Owner, ServerInvite, ServerOther, Timers,
    Transaction, Transactions,
};
use base::page::Page;
use base::random::{HashedMap, Random};
use base::wheel::Wheel;
use base::{Bytes, Home, Instant, Key, Now, PortId, ShardId, TextSend, Texts};
use control::Event;
use media::Media;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// Extensions we know: the Supported header (RFC 3261 20.37). Of these only those that may be used in this
/// dialog: `100rel`, `timer` where the trunk has session timers, `199` where somebody wants to know, `replaces`
/// and `tdialog` where we execute transfers.
pub(crate) fn supported(print: &mut Print, known: [bool; 4]) {
    if known.contains(&true) {
        print.line(Name::Supported, |v| {
            let names = [&b"100rel"[..], b"timer", b"199", b"replaces, tdialog"];
            let known = names.iter().zip(known).filter(|(_, is_known)| *is_known);
            for (place, (name, _)) in known.enumerate() {
                v.bytes(if place == 0 { b"" } else { b", " }).bytes(name);
            }
        });
    }
}

/// Extensions that are known on some trunks only.
#[derive(Copy, Clone)]
pub(crate) struct Known {
    /// Session timers (RFC 4028).
    pub(crate) timer: bool,
    /// INVITEs that replace a dialog (RFC 3891), REFERs beside one (RFC 4538).
    pub(crate) transfers: bool,
}

impl Known {
    /// Those of a trunk; where there is none, of some trunk.
    pub(crate) fn on(image: &Image, trunk: Option<u16>) -> Known {
        match trunk.map(|trunk| image.trunk(trunk)) {
            Some(Some(trunk)) => {
                Known { timer: trunk.session.mode != Mode::Off, transfers: trunk.refers.executes() }
            }
            Some(None) | None => Known { timer: true, transfers: true },
        }
    }
}

/// What a request requires and we do not know (RFC 3261 8.2.2.3).
pub(crate) fn unsupported<'m>(
    message: &Message<'m>,
    known: Known,
) -> impl Iterator<Item = &'m [u8]> {
    let is_known = move |option: &[u8]| {
        let knows = |name: &[u8]| option.eq_ignore_ascii_case(name);
        let always = knows(b"100rel") || knows(b"199");
        let transfers = known.transfers && (knows(b"replaces") || knows(b"tdialog"));
        always || (known.timer && knows(b"timer")) || transfers
    };
    message.options(Name::Require).filter(move |option| !is_known(option))
}

/// What a timer is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    /// A transaction's own timers.
    Transaction(Key),
    /// A call's earliest deadline.
    Call(Key),
    /// An errand's.
    Errand(Key),
    /// A sign for CANCELs fades.
    Sign(u64),
    /// A merged-request memory fades.
    Merged(u64),
    /// The memory of a call of an earlier process fades.
    Past(u64),
    /// Keep-alives are due, by the configuration of this generation.
    KeepAlive(u64),
    /// So are questions whether endpoints are there.
    Probe(u64),
}

/// Lanes and clocks of one turn, lent by the shard.
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// The media half of the shard.
    pub media: &'a mut Media,
    /// SIP to send.
    pub texts: &'a mut Texts,
    /// Arena of journal frames and records.
    pub plain: &'a mut Vec<u8>,
    /// Journal frames to append.
    pub journal: &'a mut Vec<Bytes>,
    /// What the gate should know.
    pub events: &'a mut Vec<Event>,
    /// Bytes free in the journal region, this turn's frames not counted.
    pub journal_room: usize,
}

/// Everything of signalling but the calls.
pub(crate) struct Core {
    pub(crate) shard: ShardId,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) image: Arc<Image>,
    pub(crate) page: Page,
    pub(crate) random: Random,
    pub(crate) names: Names,
    /// What is known about numbers.
    pub(crate) ported: Ported,
    /// How well trunks carry calls, as the gate found last.
    pub(crate) standing: Arc<Standing>,
    /// What the sender of the message at hand has proved.
    pub(crate) proved: Option<Proved>,
    pub(crate) transactions: Transactions,
    pub(crate) merged: HashedMap<First>,
    /// Hashed Call-IDs of calls that an earlier process has written CDRs of, right after a start.
    pub(crate) past: HashedMap<()>,
    /// What calls have to say to each other at the end of the step.
    pub(crate) moves: VecDeque<Move>,
    /// Hashed Call-IDs of INVITEs that went where their Replaces said: there their CANCELs go.
    pub(crate) signs: HashedMap<Whereabouts>,
    /// Calls with an open question.
    pub(crate) waiting: Vec<Key>,
    /// Whose media endpoint is whose, by place.
    pub(crate) ends: Vec<Option<Owner>>,
    pub(crate) wheel: Wheel<Alarm>,
    /// What has fired, and what is due without the wheel.
    pub(crate) due: VecDeque<Alarm>,
    pub(crate) counters: Arc<Counters>,
    /// Where a decision is listened to.
    pub(crate) heard: Kept,
    pub(crate) index: Index,
    /// What is kept open.
    pub(crate) keeper: Keeper,
    /// What is asked whether it is there.
    pub(crate) prober: Prober,
    /// What does not answer, whichever shard asks.
    pub(crate) outages: Outages,
    pub(crate) draining: bool,
    /// Calls answered and not ended.
    pub(crate) answered: u64,
}

/// The first arrival of an INVITE that begins a call, remembered for its copies.
#[derive(Copy, Clone, Debug)]
pub(crate) struct First {
    /// What matches its transaction.
    pub(crate) hash: u64,
    /// It was refused without a transaction: there was no room.
    pub(crate) stateless: bool,
}

/// A response to be sent within a server transaction.
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) reason: Option<&'a [u8]>,
    pub(crate) tag: Option<Tag>,
    /// The Contact we give, when the response creates or refreshes a dialog.
    pub(crate) contact: Option<Contact<'a>>,
    /// The Allow that goes with it.
    pub(crate) allow: &'a [u8],
    /// Session description.
    pub(crate) sdp: Option<&'a [u8]>,
    /// Another body, and its type.
    pub(crate) body: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> Reply<'a> {
    /// A response with its default phrase and nothing else.
    pub(crate) fn plain(status: u16, tag: Option<Tag>) -> Reply<'a> {
        Reply { status, reason: None, tag, contact: None, allow: b"", sdp: None, body: None }
    }
}

/// A status code that is known to be valid.
pub(crate) fn status(code: u16) -> Status {
    Status::new(code).unwrap_or(Status::SERVER_INTERNAL_ERROR)
}

impl Core {
    /// Takes silence for an answer.
    pub(crate) fn give_up(&mut self, question: Question, now: Instant) {
        match question {
            Question::Resolve(query) => self.names.give_up(query, now),
            Question::Port(number) => self.ported.give_up(number, now),
        }
    }

    /// Who sent the message at hand.
    pub(crate) fn peer(&self, turn: &Turn, source: SocketAddr) -> realm::Peer<'_> {
        let proved = self.proved.as_deref().unwrap_or_default();
        realm::Peer { source, proved, names: &self.names, now: turn.now.mono }
    }

    /// Whether a message may be sent to `to` from this interface.
    pub(crate) fn permitted(&self, port: PortId, to: SocketAddr) -> bool {
        let Some(interface) = self.image.interface_of(port) else { return false };
        let same_family = interface.sip.is_ipv4() == to.is_ipv4();
        same_family
            && to.port() != 0
            && base::address::permitted(to.ip(), allow(interface.allow_loopback))
    }

    /// Where the next request of a dialog goes. Over a stream that is the connection its peer came by: who
    /// dialled us cannot always be dialled.
    pub(crate) fn next_hop(&self, port: PortId, dialog: &Dialog) -> SocketAddr {
        if self.image.is_stream(port) {
            return dialog.peer;
        }
        dialog.next_hop(|a| self.permitted(port, a))
    }

    /// Sends a text that is kept elsewhere: a retransmission.
    pub(crate) fn send_text(turn: &mut Turn, port: PortId, to: SocketAddr, text: &[u8]) {
        turn.texts.push(port, to, |out| out.extend_from_slice(text));
    }

    /// Sends what a transaction holds once more.
    pub(crate) fn send_again(&mut self, turn: &mut Turn, key: Key) {
        if let Some(tx) = self.transactions.get(key)
            && !tx.text.is_empty()
        {
            self.counters.retransmissions_out.add(1);
            Core::send_text(turn, tx.port, tx.peer, &tx.text);
        }
    }

    /// The same, keeping of the request what its answer repeats.
    pub(crate) fn serve_briefly(
        &mut self,
        hash: u64,
        owner: Option<Owner>,
        from: (PortId, SocketAddr),
        request: &Message,
    ) -> Option<Key> {
        let key = self.serve(hash, owner, from, request)?;
        let tx = self.transactions.get_mut(key)?;
        tx.request = brief(request).into();
        Some(key)
    }

    /// Creates the server transaction of a request; `None` when there is no room.
    pub(crate) fn serve(
        &mut self,
        hash: u64,
        owner: Option<Owner>,
        (port, peer): (PortId, SocketAddr),
        request: &Message,
    ) -> Option<Key> {
        self.counters.transactions.add(1);
        let machine = match request.method() {
            Some(Method::Invite) => Machine::ServerInvite(ServerInvite::start()),
            _ => Machine::ServerOther(ServerOther::start()),
        };
        self.transactions.insert(Transaction {
            machine,
            owner,
            port,
            peer,
            text: Vec::new(),
            request: request.bytes().into(),
            hash,
            cancel: None,
            timer: None,
        })
    }

    /// Answers a request within its transaction.
    pub(crate) fn respond(
        &mut self,
        turn: &mut Turn,
        key: Key,
        reply: Reply,
        fill: impl FnOnce(&mut Print),
    ) {
        let timers = &self.timers_of(key);
        let Some(tx) = self.transactions.get_mut(key) else { return };
        if !tx.awaits_final() {
            return;
        }
        match &mut tx.machine {
            Machine::ServerInvite(machine) => machine.respond(reply.status, turn.now.mono, timers),
            Machine::ServerOther(machine) => machine.respond(turn.now.mono, timers),
            Machine::ClientInvite(_) | Machine::ClientOther(_) => return,
        }
        let request = core::mem::take(&mut tx.request);
        let (port, peer) = (tx.port, tx.peer);
        let sent = match message::parse(&request, &mut self.index) {
            Ok(message) => print_response(turn, port, peer, &message, &reply, &self.image, fill),
            Err(_) => return,
        };
        self.counters.responses_out.add(ClassCase::of(reply.status).index());
        if reply.status < 200 {
            tx.request = request;
        }
        self.transactions.keep(key, turn.texts.get(sent.bytes));
        self.rearm(key, turn.now.mono);
    }

    /// Answers a request other than INVITE at once, and remembers the answer for its retransmissions.
    pub(crate) fn respond_at_once(
        &mut self,
        turn: &mut Turn,
        hash: u64,
        (port, peer): (PortId, SocketAddr),
        request: &Message,
        reply: Reply,
        fill: impl FnOnce(&mut Print),
    ) {
        let sent = print_response(turn, port, peer, request, &reply, &self.image, fill);
        self.counters.responses_out.add(ClassCase::of(reply.status).index());
        self.counters.transactions.add(1);
        let mut machine = ServerOther::start();
        machine.respond(turn.now.mono, &self.timers(port));
        let inserted = self.transactions.insert(Transaction {
            machine: Machine::ServerOther(machine),
            owner: None,
            port,
            peer: sent.to,
            text: Vec::new(),
            request: Box::default(),
            hash,
            cancel: None,
            timer: None,
        });
        // Without room the answer has gone out all the same; a retransmission is answered anew.
        if let Some(key) = inserted {
            self.transactions.keep(key, turn.texts.get(sent.bytes));
            self.rearm(key, turn.now.mono);
        }
    }

    /// The provisional response just sent in an INVITE's transaction is reliable (RFC 3262 3).
    pub(crate) fn expect_prack(&mut self, turn: &Turn, key: Key) {
        let timers = self.timers_of(key);
        if let Some(tx) = self.transactions.get_mut(key)
            && let Machine::ServerInvite(machine) = &mut tx.machine
        {
            machine.expect_prack(turn.now.mono, &timers);
            self.rearm(key, turn.now.mono);
        }
    }

    /// Its PRACK has arrived.
    pub(crate) fn pracked(&mut self, turn: &Turn, key: Key) {
        if let Some(tx) = self.transactions.get_mut(key)
            && let Machine::ServerInvite(machine) = &mut tx.machine
        {
            machine.pracked();
            self.rearm(key, turn.now.mono);
        }
    }

    /// Sends a request in a new client transaction; `print` builds it around the given branch.
    pub(crate) fn send_request(
        &mut self,
        turn: &mut Turn,
        (home, owner): (Home, Owner),
        way: impl Into<Way>,
        method: Method,
        print: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Option<Key> {
        let Way { port, peer, large } = way.into();
        let machine = self.client(port, method, turn.now.mono);
        let secret = self.random.next();
        let key = self.transactions.insert(Transaction {
            machine,
            owner: Some(owner),
            port,
            peer,
            text: Vec::new(),
            request: Box::default(),
            hash: secret,
            cancel: None,
            timer: None,
        })?;
        let mut branch = Vec::with_capacity(48);
        Branch { home, transaction: key, secret }.print(&mut branch);
        let sent = turn.texts.push(port, peer, |out| print(out, &branch));
        self.transactions.keep(key, turn.texts.get(sent));
        if let Some(large) = large.filter(|_| sent.len > LARGEST_DATAGRAM) {
            turn.texts.sends.pop();
            self.carry_over(turn, key, large);
        }
        self.counters.transactions.add(1);
        self.counters.requests_out.add(method_case(method).index());
        self.rearm(key, turn.now.mono);
        Some(key)
    }

    /// Begins a client transaction anew over another port, whose face its Via shows from now on.
    pub(crate) fn carry_over(&mut self, turn: &mut Turn, key: Key, port: PortId) {
        let Some(tx) = self.transactions.get(key) else { return };
        let (from, to) = (self.face(tx.port), self.face(port));
        let stands = |face: &Face| {
            [b"SIP/2.0/", face.transport.name().as_bytes(), b" ", face.sent_by.as_bytes()].concat()
        };
        let (old, new) = (stands(&from), stands(&to));
        let Some(at) = memchr::memmem::find(&tx.text, &old) else { return };
        let (before, after) = (tx.text.get(..at), tx.text.get(at + old.len()..));
        let text = [before.unwrap_or_default(), &new, after.unwrap_or_default()].concat();
        let method = match &tx.machine {
            Machine::ClientInvite(_) => Method::Invite,
            Machine::ClientOther(_) | Machine::ServerInvite(_) | Machine::ServerOther(_) => {
                Method::Bye
            }
        };
        let machine = self.client(port, method, turn.now.mono);
        let Some(tx) = self.transactions.get_mut(key) else { return };
        Core::send_text(turn, port, tx.peer, &text);
        (tx.port, tx.machine) = (port, machine);
        self.transactions.keep(key, &text);
        self.rearm(key, turn.now.mono);
    }

    /// A client transaction over a port, about to begin.
    fn client(&self, port: PortId, method: Method, now: base::Instant) -> Machine {
        let timers = self.timers(port);
        if method == Method::Invite {
            Machine::ClientInvite(ClientInvite::start(now, &timers))
        } else {
            Machine::ClientOther(ClientOther::start(now, &timers))
        }
    }

    /// Schedules a transaction's timer anew. What is due already, as the end of one over a reliable transport is,
    /// comes at the end of the step: the wheel would take a turn of its own for it.
    pub(crate) fn rearm(&mut self, key: Key, now: base::Instant) {
        let Some(tx) = self.transactions.get_mut(key) else { return };
        if let Some(timer) = tx.timer.take() {
            self.wheel.cancel(timer);
        }
        let due = tx.deadline();
        if due <= now {
            self.due.push_back(Alarm::Transaction(key));
        } else if due != base::Instant::NEVER {
            tx.timer = Some(self.wheel.schedule(due, Alarm::Transaction(key)));
        }
    }

    /// An INVITE of ours whose final response is not waited for without limit any more.
    pub(crate) fn abandon(&mut self, turn: &Turn, key: Key) {
        let timers = self.timers_of(key);
        if let Some(tx) = self.transactions.get_mut(key)
            && let Machine::ClientInvite(machine) = &mut tx.machine
        {
            machine.abandoned(turn.now.mono, &timers);
            self.rearm(key, turn.now.mono);
        }
    }

    /// Forgets a transaction and its timer.
    pub(crate) fn forget(&mut self, key: Key) {
        if let Some(tx) = self.transactions.remove(key)
            && let Some(timer) = tx.timer
        {
            self.wheel.cancel(timer);
        }
    }

    /// Whether a transaction still holds its call back.
    pub(crate) fn is_open(&self, key: Key) -> bool {
        self.transactions.get(key).is_some_and(Transaction::is_open)
    }

    /// Appends a call's record to the journal.
    pub(crate) fn journal(&mut self, turn: &mut Turn, moment: Moment, cdr: &Cdr) {
        append(turn, |out| moment.seal(cdr, out));
        if moment == Moment::Stop {
            self.counters.cdrs.add(1);
        }
    }

    /// Appends to the journal that a call is still there.
    pub(crate) fn journal_interim(&mut self, turn: &mut Turn, id: CdrId) {
        let at = turn.now.into();
        append(turn, |out| Frame::Interim(id, at).seal(out));
    }

    /// Notes which leg a media endpoint faces.
    pub(crate) fn own(&mut self, end: Key, call: Key, leg: u8) {
        let place = end.index as usize;
        if self.ends.len() <= place {
            self.ends.resize(place + 1, None);
        }
        self.ends[place] = Some(Owner { call, leg });
    }

    /// Whether TLS carries a trunk's SIP.
    pub(crate) fn is_secure(&self, trunk: u16) -> bool {
        self.image.trunk(trunk).is_some_and(|trunk| trunk.transport.has_tls())
    }

    /// How a listener stands in messages.
    pub(crate) fn face(&self, port: PortId) -> Face {
        self.image.face(port).unwrap_or_default()
    }

    /// The timers of transactions over a port (RFC 3261 17, table 4).
    pub(crate) fn timers(&self, port: PortId) -> Timers {
        Timers { reliable: self.image.is_stream(port), ..self.image.timers }
    }

    /// The timers of a transaction.
    pub(crate) fn timers_of(&self, key: Key) -> Timers {
        self.transactions.get(key).map_or(self.image.timers, |tx| self.timers(tx.port))
    }
}

/// Appends a frame to the journal.
fn append(turn: &mut Turn, seal: impl FnOnce(&mut Vec<u8>)) {
    let at = turn.plain.len() as u32;
    seal(turn.plain);
    let len = turn.plain.len() as u32 - at;
    turn.journal.push(Bytes { at, len });
    turn.journal_room = turn.journal_room.saturating_sub(len as usize);
}

/// How a request travels.
pub(crate) struct Way {
    pub(crate) port: PortId,
    pub(crate) peer: SocketAddr,
    /// The port it leaves by when it is too large for a datagram, where that is another.
    pub(crate) large: Option<PortId>,
}

impl From<(PortId, SocketAddr)> for Way {
    fn from((port, peer): (PortId, SocketAddr)) -> Way {
        Way { port, peer, large: None }
    }
}

/// A larger request may be cut into fragments on its way (RFC 3261 18.1.1).
const LARGEST_DATAGRAM: u32 = 1300;

/// What an interface allows beyond ordinary unicast addresses.
pub(crate) fn allow(loopback: bool) -> base::Allow {
    if loopback { base::Allow::LOOPBACK } else { base::Allow::default() }
}

/// A request without anything its response does not repeat.
fn brief(request: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let message::Start::Request(line) = request.start() else { return out };
    let mut print = Print::request(&mut out, line.method, line.uri);
    for name in [Name::Via, Name::RecordRoute, Name::From, Name::To, Name::CallId, Name::CSeq] {
        request.all(name).for_each(|value| {
            print.header(name, value);
        });
    }
    print.finish();
    out
}

/// Where a response goes (RFC 3261 18.2.2, RFC 3581 4): over the connection its request came by; as a
/// datagram back to the source with `rport`, to the source address and the port of the Via without.
fn response_target(
    image: &Image,
    port: PortId,
    request: &Message,
    source: SocketAddr,
) -> SocketAddr {
    match request.via() {
        Ok(via) if !image.is_stream(port) && via.rport.is_none() => {
            SocketAddr::new(source.ip(), via.port.unwrap_or(5060))
        }
        _ => source,
    }
}

fn print_response(
    turn: &mut Turn,
    port: PortId,
    source: SocketAddr,
    request: &Message,
    reply: &Reply,
    image: &Image,
    fill: impl FnOnce(&mut Print),
) -> TextSend {
    let at = turn.texts.arena.len() as u32;
    let tag = reply.tag.map(|t| t.text());
    let received = Some((source.ip(), source.port()));
    let tag = tag.as_ref().map(|t| t.as_slice());
    let mut print = response_head(
        &mut turn.texts.arena,
        request,
        status(reply.status),
        reply.reason,
        received,
        tag,
    );
    if reply.contact.is_some() && reply.status < 300 {
        // 12.1.1: a response that creates a dialog repeats the Record-Route of its request.
        request.all(Name::RecordRoute).for_each(|r| {
            print.header(Name::RecordRoute, r);
        });
    }
    if let Some(contact) = &reply.contact {
        contact.print(&mut print);
        print.header(Name::Allow, reply.allow);
    }
    if !image.software.is_empty() {
        print.header(Name::Server, image.software.as_bytes());
    }
    if reply.status == 488 {
        // RFC 3261 20.43, 21.4.26: what about the description could not be accepted.
        print.header(Name::Warning, b"305 tandem \"Incompatible media format\"");
    }
    fill(&mut print);
    match (reply.sdp, reply.body) {
        (Some(sdp), _) => print.body(Some(b"application/sdp"), sdp),
        (None, Some((kind, body))) => print.body(Some(kind), body),
        (None, None) => print.finish(),
    }
    let bytes = Bytes { at, len: turn.texts.arena.len() as u32 - at };
    let to = response_target(image, port, request, source);
    let sent = TextSend { port, to, bytes };
    turn.texts.sends.push(sent);
    sent
}

/// Answers without a transaction: malformed requests, and everything when tables are full.
pub(crate) fn respond_stateless(
    turn: &mut Turn,
    (port, source): (PortId, SocketAddr),
    request: &Message,
    reply: &Reply,
    core: &Core,
) {
    core.counters.responses_out.add(ClassCase::of(reply.status).index());
    print_response(turn, port, source, request, reply, &core.image, |_| {});
}

/// Adds our Via.
pub(crate) fn via(print: &mut Print, face: &Face, branch: &[u8]) {
    print.line(Name::Via, |v| {
        v.bytes(b"SIP/2.0/")
            .bytes(face.transport.name().as_bytes())
            .bytes(b" ")
            .bytes(face.sent_by.as_bytes())
            .bytes(b";branch=")
            .bytes(branch)
            .bytes(b";rport");
        if face.transport == Transport::Tls {
            // RFC 5923 8.1: requests to us may come back over the connection this one leaves by.
            v.bytes(b";alias");
        }
    });
}

/// The counter of a method.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not counted apart is counted as other")]
pub(crate) fn method_case(method: Method) -> MethodCase {
    match method {
        Method::Invite => MethodCase::Invite,
        Method::Ack => MethodCase::Ack,
        Method::Bye => MethodCase::Bye,
        Method::Cancel => MethodCase::Cancel,
        Method::Options => MethodCase::Options,
        Method::Prack => MethodCase::Prack,
        Method::Update => MethodCase::Update,
        Method::Info => MethodCase::Info,
        Method::Refer => MethodCase::Refer,
        Method::Notify => MethodCase::Notify,
        Method::Subscribe => MethodCase::Subscribe,
        Method::Message => MethodCase::Message,
        _ => MethodCase::Other,
    }
}

/// Max-Forwards of requests of our own (RFC 3261 8.1.1.6).
pub(crate) const MAX_FORWARDS: u8 = 70;

/// Starts a request within a dialog (RFC 3261 12.2.1.1), or the one that begins it (8.1.1): everything but
/// Contact and body. `hops`: Max-Forwards.
pub(crate) fn dialog_request<'o>(
    out: &'o mut Vec<u8>,
    dialog: &Dialog,
    (method, cseq, hops): (Method, u32, u8),
    face: &Face,
    branch: &[u8],
) -> Print<'o> {
    let strict = dialog.strict_route();
    let mut print = Print::request(out, method, strict.unwrap_or(&dialog.target));
    via(&mut print, face, branch);
    print.line(Name::MaxForwards, |v| {
        v.u32(u32::from(hops));
    });
    let routes = dialog.routes.iter().skip(usize::from(strict.is_some()));
    routes.for_each(|r| {
        print.header(Name::Route, r);
    });
    if strict.is_some() {
        print.line(Name::Route, |v| {
            v.uri(&dialog.target);
        });
    }
    print.line(Name::From, |v| {
        v.bytes(&dialog.local).param(b"tag", Some(&dialog.tag.text()));
    });
    print.line(Name::To, |v| {
        v.bytes(&dialog.remote);
        if !dialog.remote_tag.is_empty() {
            v.param(b"tag", Some(&dialog.remote_tag));
        }
    });
    print.header(Name::CallId, &dialog.call_id);
    print.line(Name::CSeq, |v| {
        v.u32(cseq).bytes(b" ").token(method.as_bytes());
    });
    print
}
