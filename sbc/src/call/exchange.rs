//! An offer carried from one leg to the other within an established dialog, and its answer carried back.
//!
//! Whatever brings the offer (re-INVITE, UPDATE, PRACK), the exchange is the same: one at a time; the
//! side that began waits for the other side's final response; an offer in a 2xx is answered in the ACK,
//! which is carried across as well. A side that does not know UPDATE gets a re-INVITE.

use super::offer_answer::{Carrier, Negotiation, Role};
use super::secure::Said;
use super::{
    Call, Phase, answer, body, bridge, direct, early, hunt, release, replace, send, session,
};
use crate::core::{Core, Reply, Turn};
use crate::dialog::{Contact, Tag};
use crate::message::{self, Message, Method, Name};
use crate::refusal::Refusal;
use crate::transaction::Heard;
use base::{Key, plain};

/// An offer under way from one leg to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// The leg that began.
    pub(crate) from: u8,
    /// The leg it is carried to.
    pub(crate) to: u8,
    /// The server transaction on `from`; nobody's for the late answer of the first INVITE.
    pub(crate) served: Key,
    /// The client transaction on `to`; nobody's for the late answer of the first INVITE.
    pub(crate) sent: Key,
    /// The 2xx carried an offer: the ACK of `from` is awaited, and owed to `to`.
    pub(crate) answer_awaited: bool,
}

impl Exchange {
    /// The first INVITE had no offer; its 2xx did.
    pub(crate) fn awaiting_answer(from: u8, to: u8) -> Self {
        let nobody = Key { index: u32::MAX, generation: 0 };
        Exchange { from, to, served: nobody, sent: nobody, answer_awaited: true }
    }
}

plain!(struct Exchange { from, to, served, sent, answer_awaited });

/// What is said to a request that cannot be carried now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Busy {
    /// 491: an offer or INVITE of ours is pending on that dialog.
    Pending,
    /// 500 with Retry-After: theirs is.
    Unfinished,
}

/// Whether a re-INVITE or an UPDATE with an offer that arrived on `place` can be carried now, and where
/// to (RFC 3261 14.2, RFC 3311 5.2).
pub(crate) fn may_begin(call: &Call, core: &Core, place: u8, method: Method) -> Result<u8, Busy> {
    let Some(other) = call.other(place) else { return Err(Busy::Unfinished) };
    let leg = |p: u8| call.legs.get(usize::from(p));
    let open = |p: u8| leg(p).and_then(|l| l.invite).is_some_and(|key| core.is_open(key));
    let (Some(near), Some(far)) = (leg(place), leg(other)) else { return Err(Busy::Unfinished) };
    match call.exchange {
        Some(exchange) if exchange.from == place => return Err(Busy::Unfinished),
        Some(_) => return Err(Busy::Pending),
        None => {}
    }
    match near.offer.role(Carrier::Request) {
        Role::Offer => {}
        Role::Overlapping => return Err(Busy::Unfinished),
        Role::Crossed | Role::Misplaced | Role::Answer | Role::Preview | Role::Repeat => {
            return Err(Busy::Pending);
        }
    }
    if method == Method::Invite && open(place) {
        return Err(Busy::Unfinished);
    }
    // Towards a side that is not ready, our own request is what is pending.
    let by_invite = carrier(call, other, method) == Method::Invite;
    let is_free = far.offer.is_stable() && !matches!(far.phase, Phase::Over | Phase::Moved);
    let is_ready = if by_invite { is_ready(call, core, other) } else { is_free };
    if is_ready { Ok(other) } else { Err(Busy::Pending) }
}

/// Whether a side may be sent a re-INVITE now.
pub(super) fn is_ready(call: &Call, core: &Core, place: u8) -> bool {
    call.exchange.is_none()
        && call.legs.get(usize::from(place)).is_some_and(|leg| {
            let is_inviting = leg.invite.is_some_and(|key| core.is_open(key));
            leg.offer.is_stable() && confirmed(leg.phase) && !is_inviting
        })
}

fn confirmed(phase: Phase) -> bool {
    phase == Phase::Confirmed
}

/// The method that carries an offer to `to`: its own, or INVITE for a side that does not know it.
fn carrier<'a>(call: &Call, to: u8, method: Method<'a>) -> Method<'a> {
    let knows_update = call.legs.get(usize::from(to)).is_some_and(|l| l.peer.update);
    if method == Method::Update && !knows_update { Method::Invite } else { method }
}

/// Carries a re-INVITE or an UPDATE with an offer that arrived on `from` to the other leg.
pub(crate) fn begin(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    served: Key,
    message: &Message,
) {
    let Some(method) = message.method() else { return };
    let has_body = !message.body().is_empty();
    if body::is_strange(message) {
        let accept = |print: &mut message::Print| {
            print.header(Name::Accept, b"application/sdp");
        };
        return core.respond(turn, served, Reply::plain(415, tag_on(call, from)), accept);
    }
    let offer = bridge::readable(body::sdp(message)).ok();
    let offer = offer.filter(|session| has_body && bridge::is_offer(session));
    let offer = offer.filter(|session| bridge::fits(call, core, (from, to), session).is_ok());
    if has_body && offer.is_none() {
        // The session stays as it is (RFC 3261 14.2).
        return core.respond(turn, served, Reply::plain(488, tag_on(call, from)), |_| {});
    }
    remember(call, to);
    let sdp = offer.and_then(|s| bridge::rewritten(call, core, turn, (from, to), &s));
    let by = carrier(call, to, method);
    let sent = send::request(call, core, turn, to, by, |print| {
        send::with_sdp(print, sdp.as_deref());
    });
    if sent.is_some() && method == Method::Invite {
        core.respond(turn, served, Reply::plain(100, None), |_| {});
    }
    begun(call, core, turn, (from, to), served, sent, has_body);
}

/// An offer may be refused: then what was said before holds.
pub(crate) fn remember(call: &mut Call, to: u8) {
    if let Some(leg) = call.leg(to) {
        leg.before = leg.said.clone();
    }
}

/// A request that `served` serves was sent on to `to`; or there was no room for it.
pub(crate) fn begun(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    served: Key,
    sent: Option<Key>,
    has_offer: bool,
) {
    let Some(sent) = sent else {
        return core.respond(turn, served, Reply::plain(500, tag_on(call, from)), |_| {});
    };
    let is_invite = core.transactions.get(served).is_some_and(|tx| tx.is_invite());
    if let Some(leg) = call.leg(from) {
        leg.offer = Negotiation::invited(has_offer);
        match is_invite {
            true => leg.invite = Some(served),
            false => leg.others.push(served),
        }
    }
    if let Some(leg) = call.leg(to) {
        leg.offer = Negotiation::inviting(has_offer);
    }
    call.exchange = Some(Exchange { from, to, served, sent, answer_awaited: false });
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
            failed(call, core, turn, (place, Method::Invite), message);
        }
        Heard::Success => accepted(call, core, turn, (place, true), message),
    }
}

/// Hears the final response to an UPDATE or a PRACK we carried to `place`.
pub(crate) fn concluded(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    match message.status().map_or(500, |s| s.code()) {
        200..=299 => accepted(call, core, turn, (place, false), message),
        _ => failed(call, core, turn, (place, message.cseq().method), message),
    }
}

/// A failure. One that is about the session interval alone is followed (RFC 4028 7.3).
fn failed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, method): (u8, Method),
    message: &Message,
) {
    let status = message.status().map_or(500, |s| s.code());
    let follows = method != Method::Prack && session::too_small(call, place, message);
    if follows && let Some(exchange) = call.exchange {
        let leg = call.leg(place);
        let offer = leg.filter(|l| l.offer == Negotiation::OfferSent).map(|l| l.said.clone());
        let sent = send::request(call, core, turn, place, method, |print| {
            send::with_sdp(print, offer.as_deref());
        });
        if let Some(sent) = sent {
            call.exchange = Some(Exchange { sent, ..exchange });
            return;
        }
    }
    refused(call, core, turn, status);
}

/// The offer was refused, or nobody answered it: nothing changes, and its sender is told.
pub(crate) fn refused(call: &mut Call, core: &mut Core, turn: &mut Turn, status: u16) {
    let Some(exchange) = end(call) else { return };
    if let Some(leg) = call.leg(exchange.to) {
        // Our offer counts for nothing: what was agreed before it still holds.
        leg.said = core::mem::take(&mut leg.before);
    }
    direct::refused(call, core, turn);
    let is_invite = core.transactions.get(exchange.served).is_some_and(|tx| tx.is_invite());
    // RFC 4320 4.2: no 408 to anything but an INVITE.
    let told = if status == 408 && !is_invite { 504 } else { status };
    core.respond(turn, exchange.served, Reply::plain(told, tag_on(call, exchange.from)), |_| {});
    replace::refused(call, core, turn, told);
    // 12.2.1.2: these two mean that the dialog is gone.
    if matches!(status, 408 | 481) {
        if let Some(leg) = call.leg(exchange.to)
            && confirmed(leg.phase)
        {
            leg.phase = Phase::Over;
        }
        return release::release(call, core, turn, Refusal::DialogLost);
    }
    early::resume(call, core, turn);
}

/// A leg that the exchange is with is over, and the call goes on without it: the other side hears that
/// its offer was not answered.
pub(crate) fn abandoned(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    if call.exchange.is_some_and(|e| e.from == place || e.to == place)
        && let Some(exchange) = end(call)
    {
        if exchange.answer_awaited {
            // The 2xx is owed its ACK all the same.
            answer::acknowledge(call, core, turn, exchange.to, None);
        }
        core.respond(turn, exchange.served, Reply::plain(500, None), |_| {});
    }
}

/// No exchange any more; both sides may make offers again.
fn end(call: &mut Call) -> Option<Exchange> {
    let exchange = call.exchange.take()?;
    for place in [exchange.from, exchange.to] {
        if let Some(leg) = call.leg(place) {
            leg.offer = Negotiation::Stable;
        }
    }
    Some(exchange)
}

fn accepted(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, by_invite): (u8, bool),
    message: &Message,
) {
    let Some(exchange) = call.exchange else { return };
    if exchange.answer_awaited {
        return; // A retransmission: the ACK is not ours to send yet.
    }
    let Some(leg) = call.leg(place) else { return };
    leg.dialog.refresh_target(message.contact().ok().flatten());
    leg.peer.learn(message);
    leg.before = Box::default();
    session::granted(leg, core, turn.now.mono, message);
    let role = leg.offer.role(Carrier::Success);
    let said = if role == Role::Offer { Said::Offer } else { Said::Answer };
    let session = bridge::readable(body::sdp(message)).and_then(|session| {
        bridge::program(call, core, turn, place, (said, &session)).map(|()| session)
    });
    let Ok(session) = session else {
        // A 2xx without a usable description ends the exchange; the session stays as it was.
        if by_invite {
            answer::acknowledge(call, core, turn, place, None);
        }
        return refused(call, core, turn, 488);
    };
    let from = exchange.from;
    if role != Role::Offer
        && let Ok(offer) = bridge::readable(&offer_of(core, exchange.served))
    {
        // It was acceptable when it was passed on.
        let _programmed = bridge::program(call, core, turn, from, (Said::Offer, &offer));
    }
    let sdp = if role == Role::Offer {
        bridge::rewritten(call, core, turn, (place, from), &session)
    } else {
        bridge::answered(call, core, turn, (place, from), &session)
    };
    if role == Role::Offer {
        for (place, state) in
            [(place, Negotiation::OfferReceived), (exchange.from, Negotiation::OfferSent)]
        {
            if let Some(leg) = call.leg(place) {
                leg.offer = state;
            }
        }
        call.exchange = Some(Exchange { answer_awaited: true, ..exchange });
    } else {
        if by_invite {
            answer::acknowledge(call, core, turn, place, None);
        }
        end(call);
    }
    replace::answered(call, core, turn);
    answer_sender(call, core, turn, exchange, sdp.as_deref());
    early::resume(call, core, turn);
}

/// The 2xx of the request that began the exchange.
fn answer_sender(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    exchange: Exchange,
    sdp: Option<&[u8]>,
) {
    let Some(leg) = call.leg(exchange.from) else { return };
    let face = core.face(leg.port);
    let image = core.image.clone();
    let Some(trunk) = image.trunk(leg.trunk) else { return };
    let dialog = leg.dialog.clone();
    let contact = Contact { face: &face, dialog: &dialog, profile: &trunk.profile };
    let allow = trunk.methods.allow();
    let tag = Some(leg.dialog.tag);
    let reply = Reply { contact: Some(contact), allow, sdp, ..Reply::plain(200, tag) };
    let is_prack =
        core.transactions.get(exchange.served).is_some_and(|tx| tx.serves(Method::Prack));
    match is_prack {
        true => core.respond(turn, exchange.served, reply, |_| {}),
        false => core.respond(turn, exchange.served, reply, session::grant(leg, turn.now.mono)),
    }
}

/// Our tag on a leg: a response says it where its request does not.
fn tag_on(call: &Call, place: u8) -> Option<Tag> {
    call.legs.get(usize::from(place)).map(|leg| leg.dialog.tag)
}

/// The offer in the request that is being served; empty if it had none.
fn offer_of(core: &mut Core, served: Key) -> Box<[u8]> {
    let Some(tx) = core.transactions.get(served) else { return Box::default() };
    let request = message::parse(&tx.request, &mut core.index);
    request.map_or_else(|_| Box::default(), |request| body::sdp(&request).into())
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
    let role = call.leg(place).map_or(Role::Misplaced, |leg| leg.offer.role(Carrier::Ack));
    let was_asked = call.leg(exchange.to).is_some_and(|leg| !leg.offer.is_stable());
    end(call);
    let answer = bridge::readable(body::sdp(message)).ok().filter(|_| role == Role::Answer);
    let answer = answer.filter(|session| {
        bridge::program(call, core, turn, place, (Said::Answer, session)).is_ok()
    });
    let Some(session) = answer else {
        // No answer to the offer we passed on: there is no session (RFC 3261 13.2.1).
        answer::acknowledge(call, core, turn, exchange.to, None);
        return release::release(call, core, turn, Refusal::NotAcceptable);
    };
    if !was_asked {
        // The other side answered an offer of ours. It hears of what was chosen, if that is less.
        if bridge::differs(call, place, &session) {
            remember(call, exchange.to);
            bridge::rewritten(call, core, turn, (place, exchange.to), &session);
            session::offer_again(call, core, turn, exchange.to);
        }
        return;
    }
    let sdp = bridge::answered(call, core, turn, (place, exchange.to), &session);
    answer::acknowledge(call, core, turn, exchange.to, sdp.as_deref());
}

/// The sender of a re-INVITE cancelled it: it is answered 487, the other side is told.
pub(crate) fn cancelled(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let Some(exchange) = call.exchange.filter(|e| e.from == place && !e.answer_awaited) else {
        return;
    };
    release::send_cancel(call, core, turn, exchange.to, None);
}
