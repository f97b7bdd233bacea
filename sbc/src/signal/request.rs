//! Requests: who may speak, which transaction or dialog they belong to, what is done (RFC 3261 8.2, 12.2.2,
//! 17.2).

use super::join::Found;
use super::{Outcome, Signal, stateless_tag};
use crate::call::{Leg, MAX_FORKS, Phase, early, exchange, release, session, setup};
use crate::core::{Alarm, First, Known, Reply, Turn, method_case, respond_stateless, unsupported};
use crate::counters::Dropped;
use crate::dialog::prack::RAck;
use crate::dialog::{Contact, Tag};
use crate::message::{self, Message, Method, Name, ParseError};
use crate::policy::realm;
use crate::refusal::Refusal;
use crate::transaction::{Again, Machine, Owner};
use base::Key;
use control::event::CallState;

impl Signal {
    pub(super) fn request(
        &mut self,
        turn: &mut Turn,
        mut at: setup::Arrival,
        message: &Message,
    ) -> Outcome {
        let Some(method) = message.method() else { return Outcome::Handled };
        let tag = message.to().ok().and_then(|to| to.tag());
        let dialog = match tag
            .and_then(Tag::parse)
            .map(|tag| self.locate(at.call, tag, identity(message)))
        {
            Some(Some(Found::There(sign))) => {
                // What the leg was asked before it went is repeated to where it was answered.
                at.hash = self.hash(message, method);
                let is_known = self.core.transactions.find(at.hash).is_some();
                if is_known && self.absorb(turn, at, method) {
                    return Outcome::Handled;
                }
                return self.elsewhere(sign);
            }
            Some(Some(Found::Here(key, place))) => Some((key, place)),
            Some(None) if at.call.is_some() => {
                // The leg has not come, or has gone back: if it matters it is repeated.
                self.core.counters.dropped.add(Dropped::Misrouted.index());
                return Outcome::Handled;
            }
            Some(None) | None => None,
        };
        self.core.counters.requests_in.add(method_case(method).index());
        self.at_work = dialog.map(|(call, _)| call);
        if !self.may_speak(turn, at, dialog) {
            let why = if dialog.is_some() { Dropped::WrongPeer } else { Dropped::UnknownSource };
            self.core.counters.dropped.add(why.index());
            return Outcome::Handled;
        }
        if let Err(error) = readable(message) {
            self.malformed(turn, at.port, at.source, error, Some(*message));
            return Outcome::Handled;
        }
        self.follow(at, dialog);
        at.hash = self.hash(message, method);
        if self.absorb(turn, at, method) {
            return Outcome::Handled;
        }
        // An ACK or CANCEL bears the number of its INVITE.
        let is_new = !matches!(method, Method::Ack | Method::Cancel);
        if let Some(leg) = dialog.filter(|_| is_new)
            && !self.in_order(leg, message)
        {
            self.answer_now(turn, at, message, 500);
            return Outcome::Handled;
        }
        if method == Method::Cancel {
            return self.cancel(turn, at, message);
        }
        if method == Method::Invite && tag.is_none() {
            return self.invite(turn, at, message);
        }
        match self.targeted(at, message) {
            Some(Found::There(sign)) => return self.elsewhere(sign),
            Some(Found::Here(key, place))
                if self.may_speak(turn, at, Some((key, place)))
                    && unsupported(message, self.known(Some((key, place)))).next().is_none() =>
            {
                self.refer_beside(turn, at, (key, place), message);
            }
            Some(Found::Here(..)) | None => self.act(turn, at, (tag, dialog), message),
        }
        Outcome::Handled
    }

    /// Any request but a CANCEL, and an INVITE that begins something.
    fn act(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (tag, dialog): (Option<&[u8]>, Option<(Key, u8)>),
        message: &Message,
    ) {
        let Some(method) = message.method() else { return };
        let errand = self.locate_errand(tag.and_then(Tag::parse), message);
        match (method, dialog) {
            (Method::Ack, Some(leg)) => self.ack(turn, leg, message),
            (Method::Ack, None) => self.core.counters.dropped.add(Dropped::StrayAck.index()),
            (_, None) if errand.is_some() => {
                errand.into_iter().for_each(|e| self.follow_errand(turn, at, e, message));
            }
            (_, None) if tag.is_some() => self.answer_now(turn, at, message, 481),
            (_, dialog) if unsupported(message, self.known(dialog)).next().is_some() => {
                let known = self.known(dialog);
                self.answer_with(turn, at, message, 420, |print| {
                    unsupported(message, known).for_each(|option| {
                        print.header(Name::Unsupported, option);
                    });
                })
            }
            (Method::Invite, Some(leg)) => self.reinvite(turn, at, leg, message),
            (Method::Bye, Some(leg)) => self.bye(turn, at, leg, message),
            (Method::Prack, Some(leg)) => self.prack(turn, at, leg, message),
            (Method::Update, Some(leg)) => self.update(turn, at, leg, message),
            (Method::Options, _) => self.options(turn, at, message),
            (Method::Bye | Method::Prack | Method::Update, None) => {
                self.answer_now(turn, at, message, 481)
            }
            (Method::Invite | Method::Cancel, None) | (Method::Register, _) => {
                self.answer_now(turn, at, message, 405)
            }
            (Method::Refer, Some(leg)) => self.refer(turn, at, leg, message),
            (_, Some(leg)) => self.pass(turn, at, leg, message),
            (_, None) => self.begin_errand(turn, at, message),
        }
    }

    /// Whether this source may say anything: a trunk's address, or the peer of the dialog.
    fn may_speak(&self, turn: &Turn, at: setup::Arrival, dialog: Option<(Key, u8)>) -> bool {
        let (image, peer) = (&self.core.image, self.core.peer(turn, at.source));
        let Some((key, place)) = dialog else {
            return realm::is_known(image, &self.core.page, at.port, &peer);
        };
        self.leg((key, place)).is_some_and(|leg| {
            let Some(trunk) = image.trunk(leg.trunk) else { return false };
            let is_there = leg.dialog.peer.ip() == at.source.ip() && peer.proves(trunk);
            realm::speaks(image, trunk, at.port) && (is_there || realm::admits(trunk, &peer))
        })
    }

    /// The peer of a dialog over streams is reached by the connection it used last.
    fn follow(&mut self, at: setup::Arrival, dialog: Option<(Key, u8)>) {
        let Some((key, place)) = dialog.filter(|_| self.core.image.is_stream(at.port)) else {
            return;
        };
        let leg = self.calls.get_mut(key).and_then(|call| call.leg(place));
        if let Some(leg) = leg.filter(|leg| leg.port == at.port) {
            leg.dialog.peer = at.source;
            self.touch(key);
        }
    }

    /// Whether a request within a dialog comes after those before it (RFC 3261 12.2.2).
    fn in_order(&mut self, (key, place): (Key, u8), message: &Message) -> bool {
        let leg = self.calls.get_mut(key).and_then(|call| call.leg(place));
        let in_order = leg.is_some_and(|leg| leg.dialog.admit_cseq(message.cseq().number));
        if in_order {
            self.touch(key);
        }
        in_order
    }

    pub(super) fn leg(&self, (key, place): (Key, u8)) -> Option<&Leg> {
        self.calls.get(key)?.legs.get(usize::from(place))
    }

    /// The live leg a tag of ours names, if Call-ID and the peer's tag are its dialog's (RFC 3261 12.2.2).
    /// Before the dialog is confirmed the peer may be one of several, each with a tag of its own. `call`: where a
    /// sign says it is.
    pub(super) fn locate(
        &self,
        call: Option<Key>,
        tag: Tag,
        (call_id, theirs): (&[u8], &[u8]),
    ) -> Option<Found> {
        let found = match call {
            None => (tag.call, tag.leg),
            Some(call) => (call, self.calls.get(call)?.place_of(tag)?),
        };
        let leg = self.leg(found)?;
        let ours = leg.dialog.tag;
        let is_ours = ours.secret == tag.secret && tag.fork < MAX_FORKS;
        let is_settled = matches!(leg.phase, Phase::Confirmed | Phase::Moved);
        let is_theirs = *leg.dialog.remote_tag == *theirs || !is_settled;
        let same_call = *leg.dialog.call_id == *call_id;
        let is_it = is_ours && is_theirs && same_call;
        match leg.sign {
            _ if !is_it => None,
            None => Some(Found::Here(found.0, found.1)),
            Some(_) => self.find(Tag { fork: ours.fork, ..tag }, found.0),
        }
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
        let timers = self.core.timers_of(key);
        let Some(tx) = self.core.transactions.get_mut(key) else { return false };
        let owner = tx.owner;
        match (&mut tx.machine, method) {
            (Machine::ServerInvite(machine), Method::Ack) => {
                if machine.awaits_ack() {
                    return false; // The ACK of a 2xx that shares the branch: the dialog's.
                }
                if machine.acknowledge(turn.now.mono, &timers) {
                    self.core.transactions.keep(key, b"");
                    self.core.rearm(key, turn.now.mono);
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

    fn invite(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) -> Outcome {
        let from = message.from().ok().and_then(|f| f.tag()).unwrap_or_default();
        let number = message.cseq().number.to_le_bytes();
        // 8.2.2.2: same From tag, Call-ID and CSeq, another branch: it came over two paths.
        let merged = self.core.random.hash(&[b"merged", from, message.call_id(), &number]);
        match self.core.merged.get(&merged) {
            Some(first) if first.hash != at.hash => {
                self.core.counters.refusals.add(Refusal::LoopDetected.index());
                self.answer_now(turn, at, message, 482);
                return Outcome::Handled;
            }
            Some(first) => {
                // Its transaction is over, or there was no room for one: then it hears the same again.
                self.core.counters.retransmissions_in.add(1);
                if first.stateless {
                    let status = Refusal::TransactionsFull.status();
                    let reply = Reply::plain(status, Some(stateless_tag(&self.core, message)));
                    respond_stateless(turn, (at.port, at.source), message, &reply, &self.core);
                }
                return Outcome::Handled;
            }
            None => {}
        }
        if self.is_of_the_past(message) {
            self.core.counters.retransmissions_in.add(1);
            let tag = Some(stateless_tag(&self.core, message));
            let reply = Reply::plain(Refusal::Restart.status(), tag);
            respond_stateless(turn, (at.port, at.source), message, &reply, &self.core);
            return Outcome::Handled;
        }
        match self.replacing(turn, at, message) {
            Some(Outcome::Handled) => {}
            Some(elsewhere) => return elsewhere,
            None => self.begin(turn, at, message),
        }
        self.core.wheel.schedule(turn.now.mono + setup::MERGED_FOR, Alarm::Merged(merged));
        let stateless = self.core.transactions.find(at.hash).is_none();
        self.core.merged.insert(merged, First { hash: at.hash, stateless });
        Outcome::Handled
    }

    fn begin(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
        if let Some(key) = setup::invite(&mut self.calls, &mut self.core, turn, at, message) {
            self.settle(turn, key);
        }
    }

    /// Whether an earlier process has written the CDR of the call that this INVITE would begin.
    fn is_of_the_past(&self, message: &Message) -> bool {
        let past = &self.core.past;
        !past.is_empty() && past.contains_key(&self.core.random.hash(&[b"past", message.call_id()]))
    }

    /// The ACK of a 2xx: the dialog's business, not a transaction's.
    fn ack(&mut self, turn: &mut Turn, (key, place): (Key, u8), message: &Message) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(invite) = call.leg(place).and_then(|l| l.invite) else { return };
        let timers = self.core.timers_of(invite);
        let Some(tx) = self.core.transactions.get_mut(invite) else { return };
        let Machine::ServerInvite(machine) = &mut tx.machine else { return };
        if !machine.awaits_ack() {
            return self.core.counters.retransmissions_in.add(1);
        }
        machine.acknowledge(turn.now.mono, &timers);
        self.core.transactions.keep(invite, b"");
        self.core.rearm(invite, turn.now.mono);
        exchange::acknowledged(call, &mut self.core, turn, place, message);
        release::pay_bye(call, &mut self.core, turn, place);
        self.settle(turn, key);
    }

    fn cancel(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) -> Outcome {
        let invite = self.hash_as(message, Method::Invite);
        if self.core.transactions.find(invite).is_none()
            && let Some(elsewhere) = self.cancels(message).filter(|_| at.call.is_none())
        {
            return elsewhere;
        }
        self.cancel_here(turn, at, message);
        Outcome::Handled
    }

    fn cancel_here(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
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
            release::cancelled(call, &mut self.core, turn, message);
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
        if self.calls.get(key).is_none_or(|call| call.has_ended()) {
            return self.answer_now(turn, at, message, 481);
        }
        self.carry(turn, at, (key, place), message);
    }

    /// Carries an offer, or an INVITE that asks for one, to the other leg; or says why not now.
    fn carry(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(method) = message.method() else { return };
        let Some(call) = self.calls.get_mut(key) else { return };
        let other = match exchange::may_begin(call, &self.core, place, method) {
            Ok(other) => other,
            Err(exchange::Busy::Pending) => return self.answer_now(turn, at, message, 491),
            Err(exchange::Busy::Unfinished) => return self.answer_now(turn, at, message, 500),
        };
        if let Some(Err(min_se)) = call.leg(place).map(|l| session::asked(l, &self.core, message)) {
            return self.too_short(turn, at, message, min_se);
        }
        let owner = Some(Owner { call: key, leg: place });
        let Some(served) = self.core.serve(at.hash, owner, (at.port, at.source), message) else {
            return self.answer_now(turn, at, message, 500);
        };
        if let Some(leg) = call.leg(place) {
            leg.heard(message, at.source);
        }
        exchange::begin(call, &mut self.core, turn, (place, other), served, message);
        self.settle(turn, key);
    }

    /// RFC 3311 5.2. Without an offer it concerns this dialog alone, and is answered at once.
    fn update(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(leg) = call.leg(place) else { return };
        if matches!(leg.phase, Phase::Trying | Phase::Over) || call.has_ended() {
            return self.answer_now(turn, at, message, 481);
        }
        if !message.body().is_empty() {
            return self.carry(turn, at, (key, place), message);
        }
        let Some(leg) = call.leg(place) else { return };
        if let Err(min_se) = session::asked(leg, &self.core, message) {
            return self.too_short(turn, at, message, min_se);
        }
        leg.heard(message, at.source);
        let timer = session::grant(leg, turn.now.mono);
        let face = self.core.face(at.port);
        let image = self.core.image.clone();
        let Some(trunk) = image.trunk(leg.trunk) else { return };
        let contact = Contact { face: &face, dialog: &leg.dialog, profile: &trunk.profile };
        let allow = trunk.methods.allow();
        let reply = Reply { contact: Some(contact), allow, ..Reply::plain(200, None) };
        self.core.respond_at_once(turn, at.hash, (at.port, at.source), message, reply, timer);
        self.settle(turn, key);
    }

    /// RFC 4028 9.
    fn too_short(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message, min_se: u32) {
        self.answer_with(turn, at, message, 422, |print| {
            print.line(Name::MinSe, |v| {
                v.u32(min_se);
            });
        });
    }

    /// The extensions known in a dialog, or outside any.
    fn known(&self, dialog: Option<(Key, u8)>) -> Known {
        let leg = dialog.and_then(|leg| self.leg(leg));
        Known::on(&self.core.image, leg.map(|leg| leg.trunk))
    }

    /// RFC 3262 3: it confirms our last reliable response, or nothing.
    fn prack(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(rack) = RAck::read(message) else {
            return self.answer_now(turn, at, message, 400);
        };
        let Some(call) = self.calls.get_mut(key) else { return };
        if !early::is_confirmed_by(call, place, rack) {
            return self.answer_now(turn, at, message, 481);
        }
        let owner = Some(Owner { call: key, leg: place });
        let Some(served) = self.core.serve(at.hash, owner, (at.port, at.source), message) else {
            // It is repeated, and so is what it confirms.
            return self.answer_now(turn, at, message, 500);
        };
        early::confirmed(call, &mut self.core, turn, (place, served), message);
        self.settle(turn, key);
    }

    fn bye(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let (peer, ok) = ((at.port, at.source), Reply::plain(200, None));
        self.core.respond_at_once(turn, at.hash, peer, message, ok, |_| {});
        let Some(call) = self.calls.get_mut(key) else { return };
        release::hung_up(call, &mut self.core, turn, place, message);
        self.settle(turn, key);
    }

    fn options(&mut self, turn: &mut Turn, at: setup::Arrival, message: &Message) {
        // A node that takes no calls says so to whoever asks whether it is there.
        let status = if self.core.draining { 503 } else { 200 };
        let allow = self.allow_for(turn, at, message);
        self.answer_with(turn, at, message, status, |print| {
            print.header(Name::Allow, &allow);
            print.header(Name::Accept, b"application/sdp");
        });
    }

    /// Answers with a status and nothing more; an INVITE within an INVITE transaction.
    pub(super) fn answer_now(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        message: &Message,
        status: u16,
    ) {
        // RFC 3261 14.2: between 0 and 10 seconds; the same for the same request.
        let retry_after =
            (status == 500).then(|| (stateless_tag(&self.core, message).secret % 11) as u32);
        let refused = matches!(status, 405 | 501).then(|| self.allow_for(turn, at, message));
        self.answer_with(turn, at, message, status, |print| {
            if let Some(allow) = &refused {
                print.header(Name::Allow, allow);
            }
            if let Some(seconds) = retry_after {
                print.line(Name::RetryAfter, |v| {
                    v.u32(seconds);
                });
            }
        });
    }

    pub(super) fn answer_with(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        message: &Message,
        status: u16,
        fill: impl FnOnce(&mut message::Print),
    ) {
        let reply = Reply::plain(status, Some(stateless_tag(&self.core, message)));
        if message.method() == Some(Method::Invite) {
            match self.core.serve(at.hash, None, (at.port, at.source), message) {
                Some(key) => self.core.respond(turn, key, reply, fill),
                None => respond_stateless(turn, (at.port, at.source), message, &reply, &self.core),
            }
            return;
        }
        self.core.respond_at_once(turn, at.hash, (at.port, at.source), message, reply, fill);
    }
}

/// What of a dialog's identity a request of the peer bears besides our tag: Call-ID and its tag.
pub(super) fn identity<'m>(message: &Message<'m>) -> (&'m [u8], &'m [u8]) {
    (message.call_id(), message.from().ok().and_then(|from| from.tag()).unwrap_or_default())
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
