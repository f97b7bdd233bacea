//! A leg: one dialog and one media endpoint.

use super::Whereabouts;
use super::digits::Format;
use super::early::Unconfirmed;
use super::ice::Ice;
use super::offer_answer::Negotiation;
use super::secure::Secure;
use super::streams::Aside;
use crate::dialog::Dialog;
use crate::dialog::prack::RAck;
use crate::dialog::session_timer::SessionTimer;
use crate::message::{Message, Name};
use crate::refusal::Refusal;
use base::{Instant, Key, PortId, plain};
use media::Plan;
use std::net::SocketAddr;

/// How far a leg's dialog is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No dialog-creating response yet.
    Trying,
    /// Early dialog.
    Early,
    /// Confirmed by a 2xx.
    Confirmed,
    /// Over: refused, cancelled, or a BYE went either way.
    Over,
    /// It has become a leg of another call; what is here is a sign that says where.
    Moved,
}

/// What a leg's peer says it can do.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// It takes reliable provisional responses (RFC 3262).
    pub(crate) reliable: bool,
    /// It takes no others.
    pub(crate) insists: bool,
    /// It takes UPDATE (RFC 3311).
    pub(crate) update: bool,
    /// It knows session timers (RFC 4028).
    pub(crate) timer: bool,
    /// It wants to hear of early dialogs that have ended (RFC 6228).
    pub(crate) early_end: bool,
}

impl Peer {
    /// Takes in what a message of the peer's says; what it does not mention stays.
    pub(crate) fn learn(&mut self, message: &Message) {
        if message.get(Name::Allow).is_some() {
            self.update = message.has_option(Name::Allow, b"UPDATE");
        }
        if message.get(Name::Supported).is_some() {
            self.reliable = message.has_option(Name::Supported, b"100rel");
            self.timer = message.has_option(Name::Supported, b"timer");
            self.early_end = message.has_option(Name::Supported, b"199");
        }
        self.timer |= Leg::requires_timer(message);
        if message.is_request() && message.has_option(Name::Require, b"100rel") {
            (self.reliable, self.insists) = (true, true);
        }
    }
}

plain!(struct Peer { reliable, insists, update, timer, early_end });

/// A leg.
#[derive(Clone, Debug)]
pub struct Leg {
    /// Its trunk.
    pub(crate) trunk: u16,
    /// The listener it uses.
    pub(crate) port: PortId,
    /// Its dialog.
    pub(crate) dialog: Dialog,
    /// How far it is.
    pub(crate) phase: Phase,
    /// The INVITE transaction that concerns it: ours or the peer's, the latest.
    pub(crate) invite: Option<Key>,
    /// CSeq number of that INVITE: what its ACK and PRACKs repeat.
    pub(crate) invite_cseq: u32,
    /// Other requests within it, ours and the peer's, that are not answered yet.
    pub(crate) others: Vec<Key>,
    /// What its peer can do.
    pub(crate) peer: Peer,
    /// Where its offer/answer exchange stands.
    pub(crate) offer: Negotiation,
    /// Where it stood when its first INVITE had been sent: so it does in each early dialog.
    pub(crate) asked: Negotiation,
    /// Number of the last reliable response we sent on it, in each early dialog; 0 before the first.
    pub(crate) rseq: Vec<u32>,
    /// That response, until its PRACK.
    pub(crate) unconfirmed: Option<Unconfirmed>,
    /// The peer's reliable response that our PRACK has not confirmed yet.
    pub(crate) prack_owed: Option<RAck>,
    /// A CANCEL waits for the first provisional response (RFC 3261 9.1), and why there is one.
    pub(crate) cancel_owed: Option<Refusal>,
    /// A BYE waits for the ACK (RFC 3261 15).
    pub(crate) bye_owed: bool,
    /// The media endpoint facing it.
    pub(crate) media: Option<Key>,
    /// What its last session description said.
    pub(crate) plan: Option<Plan>,
    /// Where its protection stands.
    pub(crate) secure: Secure,
    /// Telephone events as its last description had them.
    pub(crate) events: Option<Format>,
    /// Where its ICE stands.
    pub(crate) ice: Ice,
    /// What few legs have.
    pub(crate) aside: Aside,
    /// Neither direction of its last session description is on hold.
    pub(crate) both_ways: bool,
    /// When that was.
    pub(crate) planned_at: Instant,
    /// Session id and version of what we send it (RFC 8866 5.2).
    pub(crate) sdp_id: u64,
    /// Version of what we sent last.
    pub(crate) sdp_version: u64,
    /// The description we sent last.
    pub(crate) said: Box<[u8]>,
    /// The one before, while the last is an offer that may be refused.
    pub(crate) before: Box<[u8]>,
    /// How long its session lives, and who keeps it alive.
    pub(crate) timer: SessionTimer,
    /// Our refresh that is not answered yet.
    pub(crate) refresh: Option<Key>,
    /// What was said last is an offer of ours: the refresh is to carry it.
    pub(crate) offers: bool,
    /// The call it has moved to.
    pub(crate) sign: Option<Whereabouts>,
    /// The call it came from, where a sign leads here.
    pub(crate) origin: Option<Whereabouts>,
}

impl Leg {
    /// A leg whose dialog has only begun; `session` identifies what we describe to it.
    pub(crate) fn new(trunk: u16, port: PortId, dialog: Dialog, media: Key, session: u64) -> Leg {
        Leg {
            trunk,
            port,
            dialog,
            phase: Phase::Trying,
            invite: None,
            invite_cseq: 0,
            others: Vec::new(),
            peer: Peer::default(),
            offer: Negotiation::Stable,
            asked: Negotiation::Stable,
            rseq: Vec::new(),
            unconfirmed: None,
            prack_owed: None,
            cancel_owed: None,
            bye_owed: false,
            media: Some(media),
            plan: None,
            secure: Secure::default(),
            events: None,
            ice: Ice::default(),
            aside: Aside::default(),
            both_ways: false,
            planned_at: Instant::NEVER,
            sdp_id: session >> 2,
            sdp_version: 1,
            said: Box::default(),
            before: Box::default(),
            timer: SessionTimer::default(),
            refresh: None,
            offers: false,
            sign: None,
            origin: None,
        }
    }

    /// Whether a message can only come from a peer that knows session timers.
    pub(crate) fn requires_timer(message: &Message) -> bool {
        message.has_option(Name::Require, b"timer") || message.has_option(Name::Supported, b"timer")
    }

    /// Whether requests can be sent within its dialog.
    pub(crate) fn is_in_dialog(&self) -> bool {
        matches!(self.phase, Phase::Early | Phase::Confirmed)
    }

    /// Takes in a request that refreshes its dialog (RFC 3261 12.2.2).
    pub(crate) fn heard(&mut self, message: &Message, source: SocketAddr) {
        self.dialog.refresh_target(message.contact().ok().flatten());
        self.dialog.peer = source;
        self.peer.learn(message);
    }
}

plain!(
    enum Phase {
        Trying = 0,
        Early = 1,
        Confirmed = 2,
        Over = 3,
        Moved = 4,
    }
);
plain!(struct Leg {
    trunk, port, dialog, phase, invite, invite_cseq, others, peer, offer, asked, rseq, unconfirmed,
    prack_owed, cancel_owed, bye_owed, media, plan, secure, ice, events, aside, both_ways, planned_at,
    sdp_id, sdp_version, said, before, timer, refresh, offers, sign, origin,
});
