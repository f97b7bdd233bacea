//! The calling side: a steady row of INVITEs, whatever the answers, and each call to its end.
//!
//! Client transactions are RFC 3261 sections 17.1.1 (INVITE: timers A and B) and 17.1.2 (BYE and
//! CANCEL: timers E and F); a 2xx heard again is acknowledged again (section 13.2.2.4).

use crate::call::{Stage, T2_NS};
use crate::ladder::{self, Step};
use crate::ledger::Ledger;
use crate::link::{Heard, Link};
use crate::media::{CALLER, Order};
use crate::sdp;
use crate::sip::{self, Dialog, Message};
use crate::stats::Samples;
use crate::timers::{Backoff, Kind, Timers};
use crate::{live::Live, os};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How a call ended, as the caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not attempted, or not over.
    Open,
    /// Answered and hung up by either side, with a 200 for the BYE.
    Clean,
    /// Refused with this status.
    Refused(u16),
    /// No answer to the INVITE, or none after CANCEL.
    NoReply,
    /// Answered, but the called side never hung up as it should.
    NoBye,
    /// The BYE was not answered with 200.
    ByeFailed,
    /// The answer had no usable SDP.
    BadAnswer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Calling,
    Ringing,
    Cancelling,
    Up,
    Closing,
    Over,
}

struct Call {
    phase: Phase,
    dialog: Dialog,
    invite: Vec<u8>,
    pending: Vec<u8>,
    pending_to: SocketAddr,
    backoff: Backoff,
    ack: Vec<u8>,
    ack_to: SocketAddr,
    sent_at: u64,
    bye_at: u64,
    heard: bool,
    rang: bool,
    fate: Fate,
}

/// What the calling side counted.
#[derive(Default)]
pub(crate) struct CallerTally {
    /// How each call ended.
    pub(crate) fates: Vec<Fate>,
    /// Calls begun.
    pub(crate) attempted: u64,
    /// INVITE to 200.
    pub(crate) setup: Samples,
    /// INVITE to 180 or 183.
    pub(crate) post_dial: Samples,
    /// BYE to 200.
    pub(crate) bye: Samples,
    /// Requests sent again.
    pub(crate) retransmitted: u64,
    /// 2xx acknowledged again.
    pub(crate) acked_again: u64,
    /// Messages of no call of this run.
    pub(crate) strays: u64,
    /// Datagrams not sent for want of --allow-remote.
    pub(crate) forbidden: u64,
    /// The furthest a start fell behind its time, ns.
    pub(crate) lag: u64,
    /// When the first and the last INVITE left.
    pub(crate) span: (u64, u64),
    /// The near leg of call 0.
    pub(crate) steps: Vec<Step>,
}

/// The calling side.
pub(crate) struct Caller {
    stage: Arc<Stage>,
    live: Arc<Live>,
    link: Link,
    ledger: Ledger,
    calls: Vec<Option<Box<Call>>>,
    timers: Timers,
    next: u32,
    over: u32,
    stopped: bool,
    begin: u64,
    tally: CallerTally,
}

impl Caller {
    /// Ready to begin.
    pub(crate) fn new(stage: Arc<Stage>, link: Link, ledger: Ledger) -> Self {
        let calls = (0..stage.calls).map(|_| None).collect();
        let tally =
            CallerTally { fates: vec![Fate::Open; stage.calls as usize], ..CallerTally::default() };
        Caller {
            live: Arc::clone(&stage.live),
            stage,
            link,
            ledger,
            calls,
            timers: Timers::default(),
            next: 0,
            over: 0,
            stopped: false,
            begin: 0,
            tally,
        }
    }

    /// Plays every call, then lingers until the called side has seen the end of its own.
    pub(crate) fn run(mut self) -> CallerTally {
        self.begin = self.stage.line.now() + 1_000_000;
        let (mut inbox, mut linger) = (Vec::new(), None);
        loop {
            let now = self.stage.line.now();
            self.launch(now);
            self.ring(now);
            if os::stopping() && !self.stopped {
                self.stop(now);
            }
            if self.over == self.next && (self.next == self.stage.calls || self.stopped) {
                self.live.caller_done.store(true, Relaxed);
                let end = *linger.get_or_insert(now + 64 * self.stage.t1_ns);
                if self.live.callee_open.load(Relaxed) == 0 || now > end {
                    break;
                }
            }
            let next = self.timers.next().unwrap_or(u64::MAX).min(now + 20_000_000);
            let due = if self.next < self.stage.calls && !self.stopped {
                self.begin + u64::from(self.next) * self.stage.interval_ns
            } else {
                u64::MAX
            };
            self.link.turn(next.min(due), &mut inbox);
            for heard in inbox.drain(..) {
                self.hear(&heard);
            }
        }
        self.finish()
    }

    fn finish(mut self) -> CallerTally {
        self.link.flush();
        self.tally.forbidden = self.link.forbidden;
        for (fate, call) in self.tally.fates.iter_mut().zip(&self.calls) {
            *fate = call.as_ref().map_or(Fate::Open, |call| call.fate);
        }
        self.tally
    }

    fn launch(&mut self, now: u64) {
        while self.next < self.stage.calls && !self.stopped {
            let due = self.begin + u64::from(self.next) * self.stage.interval_ns;
            if due > now {
                return;
            }
            self.tally.lag = self.tally.lag.max(now - due);
            self.invite(self.next);
            self.next += 1;
        }
    }

    fn invite(&mut self, id: u32) {
        let (stage, me) = (Arc::clone(&self.stage), self.link.local);
        let dialog = Dialog {
            call_id: format!("{id:x}-{:08x}@{}", stage.nonce, bracketed(me)),
            local: format!("<sip:{}@{}>;tag=a{id:x}", stage.from + u64::from(id), bracketed(me)),
            remote: format!("<sip:{}@{}>", stage.number, bracketed(stage.to)),
            target: format!("sip:{}@{}", stage.number, stage.to),
            routes: Vec::new(),
        };
        let local = stage.media_address(CALLER, id);
        let offer = sdp::print(local, u64::from(id) + 1, None, stage.ptime, stage.key);
        let branch = stage.branch(id, "i");
        let invite = sip::request(&dialog, (1, "INVITE"), &branch, me, Some(&offer));
        let now = stage.line.now();
        self.ledger.note(&dialog.call_id, "invited", stage.line.wall_at(now), None);
        self.live.started.fetch_add(1, Relaxed);
        if self.tally.attempted == 0 {
            self.tally.span.0 = now;
        }
        self.tally.span.1 = now;
        self.tally.attempted += 1;
        let backoff = Backoff::start(now, stage.t1_ns, u64::MAX);
        self.timers.set(backoff.at, id, Kind::Retransmit);
        self.say(id, stage.to, &invite);
        self.calls[id as usize] = Some(Box::new(Call {
            phase: Phase::Calling,
            dialog,
            pending: invite.clone(),
            invite,
            pending_to: stage.to,
            backoff,
            ack: Vec::new(),
            ack_to: stage.to,
            sent_at: now,
            bye_at: 0,
            rang: false,
            heard: false,
            fate: Fate::Open,
        }));
    }

    fn say(&mut self, id: u32, to: SocketAddr, bytes: &[u8]) {
        if id == 0 && self.stage.ladder {
            self.tally.steps.extend(ladder::step(self.stage.line.now(), false, true, bytes));
        }
        self.link.send(to, bytes);
    }

    fn ring(&mut self, now: u64) {
        while let Some((at, id, kind)) = self.timers.due(now) {
            let Some(mut call) = self.calls[id as usize].take() else { continue };
            match kind {
                Kind::Retransmit if call.backoff.at == at => self.retransmit(id, &mut call, now),
                Kind::Ringing if call.phase == Phase::Ringing => self.cancel(id, &mut call, now),
                Kind::HangUp if call.phase == Phase::Up => {
                    if !self.stage.caller_ends(id) {
                        call.fate = Fate::NoBye;
                    }
                    self.bye(id, &mut call, now);
                }
                Kind::Retransmit | Kind::Ringing | Kind::HangUp => {}
            }
            self.calls[id as usize] = Some(call);
        }
    }

    fn retransmit(&mut self, id: u32, call: &mut Call, now: u64) {
        if !call.backoff.advance() {
            // Timers B and F.
            let fate = if call.phase == Phase::Closing { Fate::ByeFailed } else { Fate::NoReply };
            self.end(id, call, fate, now);
            return;
        }
        self.timers.set(call.backoff.at, id, Kind::Retransmit);
        if !call.pending.is_empty() {
            self.tally.retransmitted += 1;
            self.live.retransmitted.fetch_add(1, Relaxed);
            self.say(id, call.pending_to, &call.pending);
        }
    }

    fn cancel(&mut self, id: u32, call: &mut Call, now: u64) {
        call.phase = Phase::Cancelling;
        call.pending = sip::companion(&call.invite, "CANCEL", None);
        call.pending_to = self.stage.to;
        call.backoff = Backoff::start(now, self.stage.t1_ns, T2_NS);
        self.timers.set(call.backoff.at, id, Kind::Retransmit);
        self.say(id, call.pending_to, &call.pending);
    }

    fn bye(&mut self, id: u32, call: &mut Call, now: u64) {
        call.phase = Phase::Closing;
        call.bye_at = now;
        let branch = self.stage.branch(id, "b");
        call.pending = sip::request(&call.dialog, (2, "BYE"), &branch, self.link.local, None);
        call.pending_to = call.ack_to;
        call.backoff = Backoff::start(now, self.stage.t1_ns, T2_NS);
        self.timers.set(call.backoff.at, id, Kind::Retransmit);
        self.stage.order(id, Order::Stop { call: id, side: CALLER });
        self.say(id, call.pending_to, &call.pending);
    }

    fn end(&mut self, id: u32, call: &mut Call, fate: Fate, now: u64) {
        if call.phase == Phase::Over {
            return;
        }
        call.phase = Phase::Over;
        call.backoff.stop();
        call.fate = if call.fate == Fate::Open { fate } else { call.fate };
        self.over += 1;
        self.live.over.fetch_add(1, Relaxed);
        let wall = self.stage.line.wall_at(now);
        let status = match call.fate {
            Fate::Refused(status) => Some(status.to_string()),
            Fate::NoReply => Some("timeout".to_owned()),
            Fate::Open | Fate::Clean | Fate::NoBye | Fate::ByeFailed | Fate::BadAnswer => None,
        };
        let event = if status.is_some() { "failed" } else { "ended" };
        self.ledger.note(&call.dialog.call_id, event, wall, status.as_deref());
        if call.fate != Fate::Clean {
            self.live.failed.fetch_add(1, Relaxed);
        }
        self.stage.order(id, Order::Stop { call: id, side: CALLER });
        call.invite = Vec::new();
        call.pending = Vec::new();
    }

    fn hear(&mut self, heard: &Heard) {
        let Some(message) = Message::parse(&heard.bytes) else { return };
        let id = self.stage.call_of(message.one("Call-ID"));
        let Some(mut call) = id.and_then(|id| self.calls.get_mut(id as usize)?.take()) else {
            self.tally.strays += 1;
            return;
        };
        let id = id.unwrap_or(0);
        if id == 0 && self.stage.ladder {
            self.tally.steps.extend(ladder::step(heard.at, false, false, &heard.bytes));
        }
        match (message.status(), message.cseq().1) {
            (None, _) => self.request(id, &mut call, &message, heard),
            (Some(status), "INVITE") => self.progress(id, &mut call, &message, status, heard.at),
            (Some(status), "BYE") if call.phase == Phase::Closing && status >= 200 => {
                self.tally.bye.add(heard.at.saturating_sub(call.bye_at));
                let fate = if status == 200 { Fate::Clean } else { Fate::ByeFailed };
                self.end(id, &mut call, fate, heard.at);
            }
            (Some(200..), "CANCEL") if call.phase == Phase::Cancelling => {
                // The 487 must still come; what is left of the interval is its deadline.
                call.pending = Vec::new();
            }
            (Some(_), _) => {}
        }
        self.calls[id as usize] = Some(call);
    }

    fn progress(&mut self, id: u32, call: &mut Call, message: &Message<'_>, status: u16, at: u64) {
        if !call.heard {
            call.heard = true;
            self.ledger.note(&call.dialog.call_id, "heard", self.stage.line.wall_at(at), None);
        }
        let setting_up = matches!(call.phase, Phase::Calling | Phase::Ringing | Phase::Cancelling);
        match status {
            100..=199 => {
                if call.phase == Phase::Calling {
                    call.phase = Phase::Ringing;
                    call.backoff.stop();
                    let end = call.sent_at + self.stage.cancel_after_ns;
                    self.timers.set(end, id, Kind::Ringing);
                }
                if status > 100 && !call.rang && setting_up {
                    call.rang = true;
                    self.tally.post_dial.add(at.saturating_sub(call.sent_at));
                }
            }
            200..=299 if setting_up => self.answered(id, call, message, at),
            200..=299 => {
                self.tally.acked_again += 1;
                self.live.retransmitted.fetch_add(1, Relaxed);
                let (to, ack) = (call.ack_to, call.ack.clone());
                self.say(id, to, &ack);
            }
            _ => {
                if setting_up {
                    call.ack = sip::companion(&call.invite, "ACK", Some(message.one("To")));
                    self.end(id, call, Fate::Refused(status), at);
                }
                let ack = call.ack.clone();
                self.say(id, self.stage.to, &ack);
            }
        }
    }

    fn answered(&mut self, id: u32, call: &mut Call, message: &Message<'_>, at: u64) {
        let stage = Arc::clone(&self.stage);
        self.tally.setup.add(at.saturating_sub(call.sent_at));
        self.live.answered.fetch_add(1, Relaxed);
        call.phase = Phase::Up;
        call.backoff.stop();
        message.one("To").clone_into(&mut call.dialog.remote);
        sip::uri(message.one("Contact")).clone_into(&mut call.dialog.target);
        call.dialog.routes = message.routes();
        call.dialog.routes.reverse();
        call.ack_to = call.dialog.next_hop().unwrap_or(stage.to);
        self.ledger.note(&call.dialog.call_id, "answered", stage.line.wall_at(at), None);
        let branch = stage.branch(id, "a");
        call.ack = sip::request(&call.dialog, (1, "ACK"), &branch, self.link.local, None);
        let ack = call.ack.clone();
        // The callee speaks when it has the ACK: by then somebody listens.
        match self.link.remote(message.body) {
            Some(remote) => {
                stage.order(id, Order::Open { call: id, side: CALLER, remote });
                stage.order(id, Order::Start { call: id, side: CALLER, packets: stage.packets });
            }
            None => call.fate = Fate::BadAnswer,
        }
        self.say(id, call.ack_to, &ack);
        let patience = if stage.caller_ends(id) { 0 } else { 64 * stage.t1_ns };
        self.timers.set(at + stage.hold_ns + stage.tail_ns + patience, id, Kind::HangUp);
    }

    fn request(&mut self, id: u32, call: &mut Call, message: &Message<'_>, heard: &Heard) {
        let me = self.link.local;
        let reply = match message.method() {
            "ACK" => return,
            "INVITE" => {
                let local = self.stage.media_address(CALLER, id);
                let offered = self.link.remote(message.body);
                let codec = offered.map(|remote| remote.payload_type);
                let body =
                    sdp::print(local, u64::from(id) + 1, codec, self.stage.ptime, self.stage.key);
                if let Some(remote) = offered {
                    self.stage.order(id, Order::Open { call: id, side: CALLER, remote });
                }
                sip::response(message, 200, "", Some(me), Some(&body))
            }
            _ => sip::response(message, 200, "", Some(me), None),
        };
        self.say(id, heard.from, &reply);
        if message.method() == "BYE" {
            self.end(id, call, Fate::Clean, heard.at);
        }
    }

    fn stop(&mut self, now: u64) {
        self.stopped = true;
        for id in 0..self.next {
            let Some(mut call) = self.calls[id as usize].take() else { continue };
            match call.phase {
                Phase::Up => self.bye(id, &mut call, now),
                Phase::Ringing => self.cancel(id, &mut call, now),
                Phase::Calling | Phase::Cancelling | Phase::Closing | Phase::Over => {}
            }
            self.calls[id as usize] = Some(call);
        }
    }
}

/// The host part of a URI at an address.
pub(crate) fn bracketed(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}
