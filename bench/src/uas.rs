//! The called side: rings, answers (or doesn't), and hangs up its share of the calls.
//!
//! Server transactions are RFC 3261 section 17.2.1 for refusals (timers G and H); a 2xx is sent
//! again by the user agent until its ACK comes (section 13.3.1.4). A call is told by the caller's
//! number, because a B2BUA changes everything else.

use crate::call::{Stage, T2_NS};
use crate::cli::AnswerArgs;
use crate::ladder::{self, Step};
use crate::link::{Heard, Link};
use crate::media::{CALLEE, Order};
use crate::sdp::{self, Remote};
use crate::sip::{self, Dialog, Message};
use crate::timers::{Backoff, Kind, Timers};
use crate::{live::Live, os};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ringing,
    Answered,
    Refused,
    Up,
    Closing,
    Over,
}

struct Call {
    id: Option<u32>,
    phase: Phase,
    dialog: Dialog,
    invite: Vec<u8>,
    from: SocketAddr,
    remote: Option<Remote>,
    /// What is sent again: the last answer to the INVITE, or our BYE.
    pending: Vec<u8>,
    pending_to: SocketAddr,
    backoff: Backoff,
    counted: bool,
}

/// What the called side counted.
#[derive(Default)]
pub(crate) struct CalleeTally {
    /// INVITEs that began a call.
    pub(crate) invited: u64,
    /// Acknowledged answers.
    pub(crate) answered: u64,
    /// Refusals sent.
    pub(crate) refused: u64,
    /// Calls cancelled while ringing.
    pub(crate) cancelled: u64,
    /// Answers that were never acknowledged.
    pub(crate) unacknowledged: u64,
    /// BYEs of ours without a 200.
    pub(crate) bye_failed: u64,
    /// Messages sent again.
    pub(crate) retransmitted: u64,
    /// Messages of no call we know.
    pub(crate) strays: u64,
    /// Datagrams not sent for want of --allow-remote.
    pub(crate) forbidden: u64,
    /// Calls of this run that came, and whether each was answered and ended cleanly.
    pub(crate) clean: HashMap<u32, bool>,
    /// The same call came twice.
    pub(crate) doubled: u64,
    /// The far leg of call 0.
    pub(crate) steps: Vec<Step>,
}

/// The called side.
pub(crate) struct Callee {
    stage: Arc<Stage>,
    live: Arc<Live>,
    answer: AnswerArgs,
    link: Link,
    calls: Vec<Option<Box<Call>>>,
    by_call_id: HashMap<String, u32>,
    timers: Timers,
    tally: CalleeTally,
}

impl Callee {
    /// Ready to listen.
    pub(crate) fn new(stage: Arc<Stage>, link: Link, answer: AnswerArgs) -> Self {
        Callee {
            live: Arc::clone(&stage.live),
            stage,
            answer,
            link,
            calls: Vec::new(),
            by_call_id: HashMap::new(),
            timers: Timers::default(),
            tally: CalleeTally::default(),
        }
    }

    /// Serves until the caller is done and the last call is over, until `end`, or until stopped.
    pub(crate) fn run(mut self, end: Option<u64>) -> CalleeTally {
        let (mut inbox, mut grace) = (Vec::new(), None);
        loop {
            let now = self.stage.line.now();
            while let Some((at, call, kind)) = self.timers.due(now) {
                self.ring(at, call, kind, now);
            }
            let asked = os::stopping() && self.stage.calls == 0;
            if self.live.caller_done.load(Relaxed) || asked || end.is_some_and(|end| now > end) {
                let open = self.live.callee_open.load(Relaxed);
                let last = *grace.get_or_insert(now + 64 * self.stage.t1_ns);
                if open == 0 || now > last || (asked && now > last.min(now + 2_000_000_000)) {
                    break;
                }
            }
            let next = self.timers.next().unwrap_or(u64::MAX).min(now + 20_000_000);
            self.link.turn(next, &mut inbox);
            for heard in inbox.drain(..) {
                self.hear(&heard);
            }
        }
        self.link.flush();
        self.tally.forbidden = self.link.forbidden;
        self.tally
    }

    fn say(&mut self, id: Option<u32>, to: SocketAddr, bytes: &[u8]) {
        if id == Some(0) && self.stage.ladder {
            self.tally.steps.extend(ladder::step(self.stage.line.now(), true, false, bytes));
        }
        self.link.send(to, bytes);
    }

    fn ring(&mut self, at: u64, slot: u32, kind: Kind, now: u64) {
        let Some(mut call) = self.calls[slot as usize].take() else { return };
        match kind {
            Kind::Retransmit if call.backoff.at == at => self.retransmit(slot, &mut call),
            Kind::Ringing if call.phase == Phase::Ringing => self.answer(slot, &mut call, now),
            Kind::HangUp if call.phase == Phase::Up => self.bye(slot, &mut call, now),
            Kind::Retransmit | Kind::Ringing | Kind::HangUp => {}
        }
        self.calls[slot as usize] = Some(call);
    }

    fn retransmit(&mut self, slot: u32, call: &mut Call) {
        if call.backoff.advance() {
            self.tally.retransmitted += 1;
            self.live.retransmitted.fetch_add(1, Relaxed);
            self.timers.set(call.backoff.at, slot, Kind::Retransmit);
            self.say(call.id, call.pending_to, &call.pending);
            return;
        }
        match call.phase {
            Phase::Closing => self.tally.bye_failed += 1,
            Phase::Answered | Phase::Refused => self.tally.unacknowledged += 1,
            Phase::Ringing | Phase::Up | Phase::Over => {}
        }
        self.end(call, false);
    }

    fn hear(&mut self, heard: &Heard) {
        let Some(message) = Message::parse(&heard.bytes) else { return };
        let known = self.by_call_id.get(message.one("Call-ID")).copied();
        let call = known.and_then(|slot| Some((slot, self.calls[slot as usize].take()?)));
        let Some((slot, mut call)) = call else {
            self.unknown(&message, heard);
            return;
        };
        if call.id == Some(0) && self.stage.ladder {
            self.tally.steps.extend(ladder::step(heard.at, true, true, &heard.bytes));
        }
        match message.status() {
            Some(200..) if message.cseq().1 == "BYE" && call.phase == Phase::Closing => {
                let clean = message.status() == Some(200);
                self.tally.bye_failed += u64::from(!clean);
                self.end(&mut call, clean);
            }
            Some(_) => {}
            None => self.request(slot, &mut call, &message, heard),
        }
        self.calls[slot as usize] = Some(call);
    }

    fn unknown(&mut self, message: &Message<'_>, heard: &Heard) {
        match message.method() {
            "INVITE" if !message.one("To").contains(";tag=") => self.invited(message, heard),
            "OPTIONS" => {
                let reply = sip::response(message, 200, "o", Some(self.link.local), None);
                self.link.send(heard.from, &reply);
            }
            "ACK" => self.tally.strays += 1,
            method if !method.starts_with("SIP/") => {
                self.tally.strays += 1;
                let reply = sip::response(message, 481, "x", None, None);
                self.link.send(heard.from, &reply);
            }
            _ => self.tally.strays += 1,
        }
    }

    fn invited(&mut self, message: &Message<'_>, heard: &Heard) {
        let slot = self.calls.len() as u32;
        let id = self.stage.caller_number(message.one("From"));
        if id == Some(0) && self.stage.ladder {
            self.tally.steps.extend(ladder::step(heard.at, true, true, &heard.bytes));
        }
        if let Some(id) = id {
            self.tally.doubled += u64::from(self.tally.clean.insert(id, false).is_some());
        }
        let tag = format!("b{slot:x}");
        let call_id = message.one("Call-ID").to_owned();
        let mut call = Box::new(Call {
            id,
            phase: Phase::Ringing,
            dialog: Dialog {
                call_id: call_id.clone(),
                local: format!("{};tag={tag}", message.one("To")),
                remote: message.one("From").to_owned(),
                target: sip::uri(message.one("Contact")).to_owned(),
                routes: message.routes(),
            },
            invite: heard.bytes.clone(),
            from: heard.from,
            remote: self.link.remote(message.body),
            pending: Vec::new(),
            pending_to: heard.from,
            backoff: Backoff::default(),
            counted: false,
        });
        self.tally.invited += 1;
        self.live.callee_open.fetch_add(1, Relaxed);
        self.by_call_id.insert(call_id, slot);
        if let Some(status) = self.answer.reject {
            self.refuse(slot, &mut call, status, heard.at);
        } else {
            call.pending = sip::response(message, 180, &tag, Some(self.link.local), None);
            let ringing = call.pending.clone();
            self.say(id, heard.from, &ringing);
            let delay = self.answer.answer_after_ms * 1_000_000;
            if delay == 0 && !self.answer.no_answer {
                self.answer(slot, &mut call, heard.at);
            } else if !self.answer.no_answer {
                self.timers.set(heard.at + delay, slot, Kind::Ringing);
            }
        }
        self.calls.push(Some(call));
    }

    fn refuse(&mut self, slot: u32, call: &mut Call, status: u16, now: u64) {
        let invite = std::mem::take(&mut call.invite);
        let Some(message) = Message::parse(&invite) else { return };
        call.phase = Phase::Refused;
        call.pending = sip::response(&message, status, &format!("b{slot:x}"), None, None);
        call.backoff = Backoff::start(now, self.stage.t1_ns, T2_NS);
        self.timers.set(call.backoff.at, slot, Kind::Retransmit);
        self.tally.refused += u64::from(status != 487);
        self.say(call.id, call.from, &call.pending);
    }

    fn answer(&mut self, slot: u32, call: &mut Call, now: u64) {
        let Some(remote) = call.remote else { return self.refuse(slot, call, 488, now) };
        let invite = std::mem::take(&mut call.invite);
        let Some(message) = Message::parse(&invite) else { return };
        let local = self.stage.media_address(CALLEE, call.id.unwrap_or(slot));
        let codec = Some(remote.payload_type);
        let body = sdp::print(local, u64::from(slot) + 1, codec, self.stage.ptime, None);
        let (tag, me) = (format!("b{slot:x}"), self.link.local);
        call.pending = sip::response(&message, 200, &tag, Some(me), Some(&body));
        call.phase = Phase::Answered;
        call.backoff = Backoff::start(now, self.stage.t1_ns, T2_NS);
        self.timers.set(call.backoff.at, slot, Kind::Retransmit);
        if let Some(id) = call.id {
            self.stage.order(id, Order::Open { call: id, side: CALLEE, remote });
        }
        self.say(call.id, call.from, &call.pending);
    }

    fn bye(&mut self, slot: u32, call: &mut Call, now: u64) {
        call.phase = Phase::Closing;
        let branch = self.stage.branch(slot, "d");
        call.pending = sip::request(&call.dialog, (1, "BYE"), &branch, self.link.local, None);
        call.pending_to = call.dialog.next_hop().unwrap_or(call.from);
        call.backoff = Backoff::start(now, self.stage.t1_ns, T2_NS);
        self.timers.set(call.backoff.at, slot, Kind::Retransmit);
        self.hush(call);
        self.say(call.id, call.pending_to, &call.pending);
    }

    fn request(&mut self, slot: u32, call: &mut Call, message: &Message<'_>, heard: &Heard) {
        let tag = format!("b{slot:x}");
        match message.method() {
            "INVITE" if message.one("To").contains(";tag=") => {
                self.reinvited(slot, call, message, heard)
            }
            // The request again: the last answer again (section 17.2.1).
            "INVITE" if matches!(call.phase, Phase::Ringing | Phase::Answered | Phase::Refused) => {
                self.say(call.id, heard.from, &call.pending);
            }
            "INVITE" => {}
            "ACK" => self.acknowledged(slot, call, heard.at),
            "CANCEL" => {
                let reply = sip::response(message, 200, &tag, None, None);
                self.say(call.id, heard.from, &reply);
                if call.phase == Phase::Ringing {
                    self.tally.cancelled += 1;
                    self.refuse(slot, call, 487, heard.at);
                }
            }
            method => {
                let reply = sip::response(message, 200, &tag, Some(self.link.local), None);
                self.say(call.id, heard.from, &reply);
                if method == "BYE" {
                    // A BYE proves the answer was heard, even if its ACK was lost.
                    self.acknowledged(slot, call, heard.at);
                    self.end(call, call.phase != Phase::Refused);
                }
            }
        }
    }

    fn reinvited(&mut self, slot: u32, call: &mut Call, message: &Message<'_>, heard: &Heard) {
        let local = self.stage.media_address(CALLEE, call.id.unwrap_or(slot));
        let offered = self.link.remote(message.body);
        if let (Some(id), Some(remote)) = (call.id, offered) {
            self.stage.order(id, Order::Open { call: id, side: CALLEE, remote });
        }
        let codec = offered.map(|remote| remote.payload_type);
        let body = sdp::print(local, u64::from(slot) + 1, codec, self.stage.ptime, None);
        let reply = sip::response(message, 200, "", Some(self.link.local), Some(&body));
        self.say(call.id, heard.from, &reply);
    }

    fn acknowledged(&mut self, slot: u32, call: &mut Call, now: u64) {
        if call.phase == Phase::Refused {
            self.end(call, true);
        }
        if call.phase != Phase::Answered {
            return;
        }
        call.phase = Phase::Up;
        call.backoff.stop();
        self.tally.answered += 1;
        let Some(id) = call.id else { return };
        let packets = self.stage.packets;
        self.stage.order(id, Order::Start { call: id, side: CALLEE, packets });
        if self.stage.callee_ends(id) {
            let end = now + self.stage.hold_ns + self.stage.tail_ns;
            self.timers.set(end, slot, Kind::HangUp);
        }
    }

    fn hush(&self, call: &Call) {
        if let Some(id) = call.id {
            self.stage.order(id, Order::Stop { call: id, side: CALLEE });
        }
    }

    fn end(&mut self, call: &mut Call, clean: bool) {
        if std::mem::replace(&mut call.counted, true) {
            return;
        }
        if let (Some(id), true) = (call.id, clean && call.phase != Phase::Refused) {
            self.tally.clean.insert(id, true);
        }
        call.phase = Phase::Over;
        call.backoff.stop();
        self.hush(call);
        self.live.callee_open.fetch_sub(1, Relaxed);
    }
}
