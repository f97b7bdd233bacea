//! An INVITE carried across an established call: re-INVITEs, and the late answer of the first one.
//!
//! One at a time: a second is answered 491 (RFC 3261 14.2). The side that began waits for the other
//! side's final response; an offer in the 2xx is answered in the ACK, which is carried across as well.

use super::{Call, bridge, hunt, release};
use crate::core::{ALLOW, Core, Reply, Turn, contact, dialog_request};
use crate::message::{self, Message, Method, Name};
use crate::refusal::Refusal;
use crate::transaction::{Heard, Owner};
use base::{Key, plain};

/// An INVITE under way from one leg to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The leg that began.
    pub(crate) from: u8,
    /// The leg it is carried to.
    pub(crate) to: u8,
    /// The client transaction on `to`; the leg's own for the first INVITE.
    pub(crate) sent: Key,
    /// The 2xx carried an offer: the ACK of `from` is awaited, and owed to `to`.
    pub(crate) answer_awaited: bool,
}

impl Exchange {
    /// The first INVITE had no offer; its 2xx did.
    pub(crate) fn awaiting_answer(from: u8, to: u8) -> Self {
        Exchange { from, to, sent: Key { index: u32::MAX, generation: 0 }, answer_awaited: true }
    }
}

plain!(struct Exchange { from, to, sent, answer_awaited });

/// What is said to a re-INVITE that cannot be carried now.
pub(crate) enum Busy {
    /// 491: our own INVITE is pending on that dialog.
    Pending,
    /// 500 with Retry-After: theirs is.
    Unfinished,
}

/// Whether a re-INVITE on `place` can be carried now (RFC 3261 14.2).
pub(crate) fn may_begin(call: &Call, core: &Core, place: u8) -> Result<u8, Busy> {
    let Some(other) = call.other(place) else { return Err(Busy::Unfinished) };
    let open = |p: u8| {
        let invite = call.legs.get(usize::from(p)).and_then(|l| l.invite);
        invite.is_some_and(|key| core.is_open(key))
    };
    match call.exchange {
        Some(exchange) if exchange.from == place => Err(Busy::Unfinished),
        Some(_) => Err(Busy::Pending),
        None if open(place) => Err(Busy::Unfinished),
        None if open(other) => Err(Busy::Pending),
        None => Ok(other),
    }
}

/// Carries a re-INVITE that arrived on `from`, served by `served`, to the other leg.
pub(crate) fn begin(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    served: Key,
    message: &Message,
) {
    let offer =
        if message.body().is_empty() { None } else { bridge::acceptable(message.body()).ok() };
    if !message.body().is_empty() && offer.is_none() {
        // The session stays as it is (RFC 3261 14.2).
        return core.respond(turn, served, Reply::plain(488, None), |_| {});
    }
    if let Some(leg) = call.leg(from) {
        leg.invite = Some(served);
    }
    let sdp = offer.and_then(|s| bridge::rewritten(call, core, turn, to, &s));
    let (home, owner) = (call.home, Owner { call: call.key, leg: to });
    let Some(leg) = call.leg(to) else { return };
    let cseq = leg.dialog.next_cseq();
    let (port, dialog) = (leg.port, leg.dialog.clone());
    let peer = dialog.next_hop(|a| core.permitted(port, a));
    let sent_by = core.sent_by(port).to_owned();
    let sent =
        core.send_request(turn, (home, owner), (port, peer), Method::Invite, |out, branch| {
            let mut print = dialog_request(out, &dialog, (Method::Invite, cseq), &sent_by, branch);
            contact(&mut print, &sent_by);
            print.header(Name::Allow, ALLOW);
            match &sdp {
                Some(sdp) => print.body(Some(b"application/sdp"), sdp),
                None => print.finish(),
            }
        });
    let Some(sent) = sent else {
        return core.respond(turn, served, Reply::plain(500, None), |_| {});
    };
    leg.invite = Some(sent);
    core.respond(turn, served, Reply::plain(100, None), |_| {});
    call.exchange = Some(Exchange { from, to, sent, answer_awaited: false });
}

/// Hears a response to a re-INVITE we carried to `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    heard: Heard,
    message: &Message,
) {
    match heard {
        Heard::Nothing | Heard::Provisional => {}
        Heard::FailureAgain => core.send_again(turn, key),
        Heard::Failure => {
            hunt::acknowledge_failure(core, turn, key, message);
            refused(call, core, turn, message.status().map_or(500, |s| s.code()));
        }
        Heard::Success => accepted(call, core, turn, place, message),
    }
}

/// The re-INVITE was refused, or nobody answered it: nothing changes, and its sender is told.
pub(crate) fn refused(call: &mut Call, core: &mut Core, turn: &mut Turn, status: u16) {
    let Some(exchange) = call.exchange.take() else { return };
    let served = call.leg(exchange.from).and_then(|l| l.invite);
    if let Some(served) = served {
        core.respond(turn, served, Reply::plain(status, None), |_| {});
    }
    // 12.2.1.2: these two mean that the dialog is gone.
    if matches!(status, 408 | 481) {
        if let Some(leg) = call.leg(exchange.to) {
            leg.phase = super::Phase::Over;
        }
        release::release(call, core, turn, Refusal::DialogLost);
    }
}

fn accepted(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8, message: &Message) {
    let Some(exchange) = call.exchange else { return };
    if exchange.answer_awaited {
        return; // A retransmission: the ACK is not ours to send yet.
    }
    if let Some(leg) = call.leg(place) {
        leg.dialog.refresh_target(message.contact().ok().flatten());
    }
    let Some(served) = call.leg(exchange.from).and_then(|l| l.invite) else { return };
    let Ok(session) = bridge::acceptable(message.body()) else {
        // A 2xx without a usable description ends the exchange; the session stays as it was.
        hunt::acknowledge(call, core, turn, place, None);
        return refused(call, core, turn, 488);
    };
    let offered = offer_of(core, served);
    bridge::program(call, core, turn, place, &session);
    let sdp = bridge::rewritten(call, core, turn, exchange.from, &session);
    match &offered {
        Some(offer) => {
            if let Ok(session) = bridge::acceptable(offer) {
                bridge::program(call, core, turn, exchange.from, &session);
            }
            hunt::acknowledge(call, core, turn, place, None);
            call.exchange = None;
        }
        None => call.exchange = Some(Exchange { answer_awaited: true, ..exchange }),
    }
    let Some(leg) = call.leg(exchange.from) else { return };
    let sent_by = core.sent_by(leg.port).to_owned();
    let reply = Reply {
        status: 200,
        reason: None,
        tag: None,
        contact: Some(&sent_by),
        sdp: sdp.as_deref(),
    };
    core.respond(turn, served, reply, |_| {});
}

/// The offer in the INVITE that is being served, if it had one.
fn offer_of(core: &mut Core, served: Key) -> Option<Box<[u8]>> {
    let tx = core.transactions.get(served)?;
    let message = message::parse(&tx.request, &mut core.index).ok()?;
    (!message.body().is_empty()).then(|| message.body().into())
}

/// The ACK of a 2xx arrived on `place`: the answer it carries, if one is awaited, goes across.
pub(crate) fn acknowledged(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    let Some(exchange) = call.exchange.filter(|e| e.answer_awaited && e.from == place) else {
        return;
    };
    call.exchange = None;
    let Ok(session) = bridge::acceptable(message.body()) else {
        // No answer to the offer we passed on: there is no session (RFC 3261 13.2.1).
        hunt::acknowledge(call, core, turn, exchange.to, None);
        return release::release(call, core, turn, Refusal::NotAcceptable);
    };
    bridge::program(call, core, turn, place, &session);
    let sdp = bridge::rewritten(call, core, turn, exchange.to, &session);
    hunt::acknowledge(call, core, turn, exchange.to, sdp.as_deref());
}

/// The sender of a re-INVITE cancelled it: it is answered 487, the other side is told.
pub(crate) fn cancelled(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let Some(exchange) = call.exchange.filter(|e| e.from == place && !e.answer_awaited) else {
        return;
    };
    release::send_cancel(call, core, turn, exchange.to);
}
