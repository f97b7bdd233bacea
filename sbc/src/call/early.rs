//! Before the answer: early dialogs, what the caller hears of them, and reliability on either side
//! (RFC 3261 12.1.1, RFC 3262).
//!
//! The callee's reliable responses are confirmed to it when the caller has confirmed ours; a caller that
//! cannot do so leaves that to us, and one that requires reliability gets it whatever the callee does.
//! One response at a time is on its way to the caller: what comes meanwhile is held, the latest alone.

use super::offer_answer::{Carrier, Negotiation, Role};
use super::{CALLER, Call, MAX_FORKS, Phase, answer, body, bridge, exchange, hunt, release, send};
use crate::core::{Core, Reply, Turn};
use crate::counters::Unheard;
use crate::dialog::prack::{self, Order, RAck};
use crate::message::{self, Index, Message, Method, Name};
use crate::refusal::Refusal;
use crate::sdp::{self, Session};
use base::{Instant, Key, plain};
use control::event::CallState;

/// The most early dialogs of callees one call keeps.
const MAX_EARLY: usize = 6;

/// The largest response that is held; the callee repeats what matters.
const MAX_HELD: usize = 3_000;

/// An early dialog with a callee.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    /// The leg.
    leg: u8,
    /// The callee's tag.
    tag: Box<[u8]>,
    /// Its last reliable response; 0 before the first.
    rseq: u32,
    /// Its answer, binding or not; empty while there is none.
    answer: Box<[u8]>,
    /// Its answer binds: it came reliably.
    agreed: bool,
    /// The caller's early dialog that heard of it.
    fork: u8,
    /// The caller was told the answer reliably.
    told: bool,
    /// Version of the description it was told.
    version: u64,
}

plain!(struct Early { leg, tag, rseq, answer, agreed, fork, told, version });

/// A reliable response of ours that no PRACK has confirmed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    /// What its PRACK will say.
    pub(crate) rack: RAck,
    /// It has a session description: the 2xx waits for the PRACK (RFC 3262 3).
    pub(crate) described: bool,
}

plain!(struct Unconfirmed { rack, described });

// ---- the callee's responses ----

/// Hears a provisional response to the INVITE we sent on `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) {
    let status = message.status().map_or(0, |s| s.code());
    let is_current = call.callee == Some(place) && call.state != CallState::Ended;
    let Some(leg) = call.leg(place) else { return };
    if leg.cancel_owed {
        leg.cancel_owed = false;
        return release::send_cancel(call, core, turn, place);
    }
    if !is_current || call.state == CallState::Answered {
        return;
    }
    call.trying_deadline = Instant::NEVER;
    if status == 100 {
        return;
    }
    let rseq = prack::rseq(message);
    match rseq.map_or(Order::Next, |rseq| prack::order(last_rseq(call, place, message), rseq)) {
        Order::Next => {}
        Order::Again => return,
        Order::Early => return core.counters.unheard.add(Unheard::OutOfOrder.index()),
    }
    let is_waiting = call.legs.first().is_some_and(|caller| caller.unconfirmed.is_some());
    if is_waiting || call.exchange.is_some() {
        return hold(call, message);
    }
    progress(call, core, turn, (place, rseq), message);
}

/// A provisional response whose turn it is.
fn progress(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) {
    let Some(at) = enter(call, core, turn, place, message) else {
        return core.counters.unheard.add(Unheard::TooMany.index());
    };
    let Some(leg) = call.leg(place) else { return };
    leg.phase = Phase::Early;
    let cseq = leg.invite_cseq;
    call.state = CallState::Ringing;
    call.cdr.ringing.get_or_insert(turn.now.into());
    let carrier = if rseq.is_some() { Carrier::Reliable } else { Carrier::Unreliable };
    let sdp = match described(call, core, turn, (place, at), carrier, message) {
        Ok(sdp) => sdp,
        Err(refusal) => return hunt::give_up(call, core, turn, place, refusal),
    };
    let Some(caller) = call.leg(CALLER) else { return };
    let reliably = caller.peer.insists || (rseq.is_some() && caller.peer.reliable);
    if let Some(rseq) = rseq {
        call.early[at].rseq = rseq;
        let rack = RAck { rseq, cseq };
        let Some(leg) = call.leg(place) else { return };
        match (reliably, leg.offer) {
            (true, _) => leg.prack_owed = Some(rack),
            (false, Negotiation::OfferReceived) => {
                core.counters.unheard.add(Unheard::Unanswerable.index());
                return hunt::give_up(call, core, turn, place, Refusal::NotAcceptable);
            }
            (false, _) => {
                confirm(call, core, turn, (place, rack), None);
            }
        }
    }
    match reliably {
        true => tell_reliably(call, core, turn, (place, at), message, sdp.as_deref()),
        false => answer::tell_caller(call, core, turn, place, message, sdp.as_deref(), |_| {}),
    }
}

/// The number of the last reliable response in the early dialog of this one.
fn last_rseq(call: &Call, place: u8, message: &Message) -> u32 {
    find(call, place, tag_of(message)).and_then(|at| call.early.get(at)).map_or(0, |e| e.rseq)
}

fn tag_of<'a>(message: &Message<'a>) -> &'a [u8] {
    message.to().ok().and_then(|to| to.tag()).unwrap_or_default()
}

fn find(call: &Call, place: u8, tag: &[u8]) -> Option<usize> {
    call.early.iter().position(|e| e.leg == place && *e.tag == *tag)
}

/// Makes the early dialog a response belongs to the leg's own; `None` when there are too many.
pub(crate) fn enter(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
) -> Option<usize> {
    let tag = tag_of(message);
    let at = find(call, place, tag).or_else(|| begin(call, place, tag));
    let at = match at {
        Some(at) => at,
        None if message.status().is_some_and(|s| s.is_success()) => {
            // The answer has a place whatever came before it.
            core.counters.unheard.add(Unheard::TooMany.index());
            call.early.pop();
            begin(call, place, tag)?
        }
        None => return None,
    };
    if call.leg(place).is_some_and(|leg| *leg.dialog.remote_tag != *tag) {
        switch(call, core, turn, place, at);
    }
    let leg = call.leg(place)?;
    leg.peer.learn(message);
    hunt::learn_dialog(&mut leg.dialog, message);
    Some(at)
}

/// The leg's dialog is another one from now on: where that stands, and what it said.
fn switch(call: &mut Call, core: &Core, turn: &mut Turn, place: u8, at: usize) {
    let early = call.early[at].clone();
    let Some(leg) = call.leg(place) else { return };
    leg.offer = if early.agreed { Negotiation::Stable } else { leg.asked };
    leg.dialog.remote_cseq = 0;
    leg.prack_owed = None;
    if let Ok(session) = bridge::acceptable(&early.answer) {
        bridge::program(call, core, turn, place, &session);
        if !caller_is_owed(call) {
            listen(call, &early);
        }
    }
}

/// The caller's dialog is the one that heard this answer.
fn listen(call: &mut Call, early: &Early) {
    if let Some(caller) = call.leg(CALLER) {
        caller.offer = if early.told { Negotiation::Stable } else { Negotiation::OfferReceived };
        if caller.dialog.tag.fork != early.fork && early.version > 0 {
            // The same answer to the letter (RFC 3261 13.2.1).
            (caller.sdp_version, caller.said) = (early.version, Box::default());
        }
        caller.dialog.tag.fork = early.fork;
    }
}

fn begin(call: &mut Call, leg: u8, tag: &[u8]) -> Option<usize> {
    if call.early.len() >= MAX_EARLY {
        return None;
    }
    call.early.push(Early {
        leg,
        tag: tag.into(),
        rseq: 0,
        answer: Box::default(),
        agreed: false,
        fork: call.legs.first().map_or(0, |caller| caller.dialog.tag.fork),
        told: false,
        version: 0,
    });
    Some(call.early.len() - 1)
}

/// A leg was given up: of its early dialogs only answers the caller has heard are remembered, one each.
pub(crate) fn forget(call: &mut Call, place: u8) {
    let mut kept: Vec<Early> = Vec::new();
    for early in core::mem::take(&mut call.early) {
        let is_known = |k: &Early| k.fork == early.fork && k.told == early.told;
        if early.leg != place || !(early.answer.is_empty() || kept.iter().any(is_known)) {
            kept.push(early);
        }
    }
    call.early = kept;
    if call.callee == Some(place) {
        call.held = Box::default();
    }
}

// ---- descriptions ----

/// Takes in what a response describes: the description as the caller is to see it, or `None` when there
/// is nothing to be told.
pub(crate) fn described(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    carrier: Carrier,
    message: &Message,
) -> Result<Option<Vec<u8>>, Refusal> {
    if body::sdp(message).is_empty() {
        return Ok(None);
    }
    let is_owed = caller_is_owed(call);
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    let role = leg.offer.role(carrier);
    match role {
        Role::Answer | Role::Preview if is_owed => {
            // The offer was ours: its answer becomes one for the caller, in the 2xx.
            let session = bridge::acceptable(body::sdp(message))?;
            call.early[at].answer = body::sdp(message).into();
            if role == Role::Answer {
                call.early[at].agreed = true;
                call.legs[usize::from(place)].offer = Negotiation::Stable;
            }
            bridge::program(call, core, turn, place, &session);
            let is_final = carrier == Carrier::Success;
            Ok(is_final.then(|| bridge::rewritten(call, core, turn, CALLER, &session)).flatten())
        }
        Role::Answer | Role::Preview => {
            let session = bridge::acceptable(body::sdp(message))?;
            place_answer(call, at, &session)?;
            call.early[at].answer = body::sdp(message).into();
            if role == Role::Answer {
                call.early[at].agreed = true;
                call.legs[usize::from(place)].offer = Negotiation::Stable;
            }
            bridge::program(call, core, turn, place, &session);
            let sdp = bridge::answered(call, core, turn, (place, CALLER), &session);
            call.early[at].version = call.legs.first().map_or(0, |caller| caller.sdp_version);
            Ok(sdp)
        }
        Role::Offer => {
            let session = bridge::acceptable(body::sdp(message))?;
            leg.offer = Negotiation::OfferReceived;
            place_offer(call)?;
            bridge::program(call, core, turn, place, &session);
            Ok(bridge::rewritten(call, core, turn, CALLER, &session))
        }
        Role::Repeat | Role::Misplaced | Role::Crossed | Role::Overlapping => Ok(None),
    }
}

/// Whether the caller, whose INVITE had no offer, is still to be made one.
fn caller_is_owed(call: &Call) -> bool {
    call.legs.first().is_some_and(|caller| caller.offer == Negotiation::OfferOwed)
}

/// Finds the caller's early dialog for an answer. One that fits what a dialog has heard is the same
/// answer there (our address does not change); another needs an early dialog of its own (RFC 3261
/// 12.1.1: one answer per dialog, RFC 3264 4).
fn place_answer(call: &mut Call, at: usize, session: &Session) -> Result<(), Refusal> {
    let fits =
        |e: &&Early| sdp::parse(&e.answer).is_ok_and(|earlier| sdp::compatible(&earlier, session));
    let known = call.early.iter().find(fits).map(|e| (e.fork, e.told, e.version));
    let first = call.early.iter().all(|e| e.answer.is_empty());
    let (fork, told, version) = match known {
        Some(known) => known,
        None if first => (call.early[at].fork, false, 0),
        None => (next_fork(call)?, false, 0),
    };
    let early = &mut call.early[at];
    (early.fork, early.told, early.version) = (fork, told, version);
    let early = call.early[at].clone();
    listen(call, &early);
    Ok(())
}

/// An offer for the caller: in an early dialog that has none yet.
fn place_offer(call: &mut Call) -> Result<(), Refusal> {
    if caller_is_owed(call) {
        return Ok(());
    }
    let fork = next_fork(call)?;
    let Some(caller) = call.leg(CALLER) else { return Err(Refusal::InternalError) };
    caller.offer = Negotiation::OfferOwed;
    caller.dialog.tag.fork = fork;
    Ok(())
}

fn next_fork(call: &Call) -> Result<u8, Refusal> {
    let current = call.legs.first().map_or(0, |caller| caller.dialog.tag.fork);
    let highest = call.early.iter().map(|e| e.fork).max().unwrap_or(0).max(current);
    if highest + 1 < MAX_FORKS { Ok(highest + 1) } else { Err(Refusal::EarlyMediaConflict) }
}

/// The answer of a provisional response that a 2xx without a description confirms.
pub(crate) fn answer(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    at: usize,
) -> Result<Vec<u8>, Refusal> {
    let earlier = call.early.get(at).map(|e| e.answer.clone()).unwrap_or_default();
    let session = bridge::acceptable(&earlier).map_err(|_| Refusal::NotAcceptable)?;
    if caller_is_owed(call) {
        let sdp = bridge::rewritten(call, core, turn, CALLER, &session);
        return sdp.ok_or(Refusal::NotAcceptable);
    }
    place_answer(call, at, &session)?;
    let from = call.early[at].leg;
    let sdp = bridge::answered(call, core, turn, (from, CALLER), &session);
    sdp.ok_or(Refusal::NotAcceptable)
}

// ---- holding back ----

/// Whether the 2xx has to wait: a description of ours is not confirmed, or an offer is not answered.
pub(crate) fn must_wait(call: &Call) -> bool {
    let unconfirmed = call.legs.first().and_then(|caller| caller.unconfirmed);
    unconfirmed.is_some_and(|u| u.described) || call.exchange.is_some()
}

/// Keeps a response of the current callee until the caller is ready for it.
pub(crate) fn hold(call: &mut Call, message: &Message) {
    let is_final = |text: &[u8]| text.starts_with(b"SIP/2.0 2");
    let bytes = message.bytes();
    if bytes.len() <= MAX_HELD && (is_final(bytes) || !is_final(&call.held)) {
        call.held = bytes.into();
    }
}

/// The caller is ready: what was held is heard now.
pub(crate) fn resume(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let Some((place, key)) = held_by(call) else { return };
    let held = core::mem::take(&mut call.held);
    let mut index = Index::new();
    let Ok(message) = message::parse(&held, &mut index) else { return };
    match message.status() {
        Some(status) if status.is_provisional() => heard(call, core, turn, place, &message),
        Some(_) => answer::success(call, core, turn, (place, key), &message),
        None => {}
    }
}

/// A leg ends: a 2xx of it that was held is acknowledged and ended as well.
pub(crate) fn decline_held(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let Some((holder, key)) = held_by(call).filter(|(holder, _)| *holder == place) else { return };
    let held = core::mem::take(&mut call.held);
    let mut index = Index::new();
    let Ok(message) = message::parse(&held, &mut index) else { return };
    if message.status().is_some_and(|s| s.is_success()) {
        if let Some(leg) = call.leg(holder) {
            leg.phase = Phase::Over;
        }
        answer::decline(call, core, turn, (holder, key), &message);
    }
}

fn held_by(call: &Call) -> Option<(u8, Key)> {
    let place = call.callee.filter(|_| !call.held.is_empty())?;
    Some((place, call.legs.get(usize::from(place))?.invite?))
}

// ---- reliability ----

/// Passes a provisional response to the caller with a number, to be repeated until its PRACK.
fn tell_reliably(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    message: &Message,
    sdp: Option<&[u8]>,
) {
    let first = core.random.next() as u32 & 0x3fff_ffff | 1;
    let Some(caller) = call.leg(CALLER) else { return };
    let Some(invite) = caller.invite else { return };
    // RFC 3262 3: anything below 2^31 first, then one more each time, in each early dialog.
    let fork = usize::from(caller.dialog.tag.fork);
    caller.rseq.resize(caller.rseq.len().max(fork + 1), 0);
    let last = &mut caller.rseq[fork];
    *last = if *last == 0 { first } else { *last + 1 };
    let rack = RAck { rseq: *last, cseq: caller.invite_cseq };
    caller.unconfirmed = Some(Unconfirmed { rack, described: sdp.is_some() });
    if sdp.is_some() {
        caller.offer = caller.offer.describing();
        let told = caller.offer.is_stable();
        call.early[at].told = told;
    }
    answer::tell_caller(call, core, turn, place, message, sdp, |print| {
        print.header(Name::Require, b"100rel");
        print.line(Name::RSeq, |v| {
            v.u32(rack.rseq);
        });
    });
    core.expect_prack(turn, invite);
}

/// Confirms a reliable response of `place` with a PRACK.
fn confirm(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rack): (u8, RAck),
    sdp: Option<&[u8]>,
) -> Option<Key> {
    send::request(call, core, turn, place, Method::Prack, |print| {
        print.line(Name::RAck, |v| {
            v.u32(rack.rseq).bytes(b" ").u32(rack.cseq).bytes(b" INVITE");
        });
        send::with_sdp(print, sdp);
    })
}

/// Whether a PRACK on `place` confirms what is unconfirmed there (RFC 3262 3).
pub(crate) fn is_confirmed_by(call: &Call, place: u8, rack: RAck) -> bool {
    let leg = call.legs.get(usize::from(place));
    leg.and_then(|l| l.unconfirmed).is_some_and(|u| u.rack == rack)
}

/// A PRACK that confirms our last reliable response arrived on `place` and is served by `served`.
pub(crate) fn confirmed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, served): (u8, Key),
    message: &Message,
) {
    let Some(leg) = call.leg(place) else { return };
    let described = leg.unconfirmed.take().is_some_and(|u| u.described);
    leg.peer.learn(message);
    let (invite, offer) = (leg.invite, leg.offer);
    if let Some(invite) = invite {
        core.pracked(invite);
    }
    let callee = call.callee.filter(|_| !call.has_ended());
    let owed = callee.and_then(|c| Some((c, call.leg(c)?.prack_owed.take()?)));
    // The PRACK of a mere ringing is no answer to what came after it.
    let role = offer.role(Carrier::Prack);
    let role = if role == Role::Answer && !described { Role::Misplaced } else { role };
    let ok = Reply::plain(200, None);
    match (role, body::sdp(message).is_empty()) {
        (Role::Answer, _) => {
            core.respond(turn, served, ok, |_| {});
            answered_offer(call, core, turn, owed, message);
        }
        (_, true) => {
            core.respond(turn, served, ok, |_| {});
            owed.and_then(|owed| confirm(call, core, turn, owed, None));
        }
        (Role::Offer, false) => offered(call, core, turn, (place, served), owed, message),
        (_, false) => {
            // Its first offer is not answered yet: another cannot be.
            core.respond(turn, served, Reply::plain(488, None), |_| {});
            owed.and_then(|owed| confirm(call, core, turn, owed, None));
        }
    }
    resume(call, core, turn);
}

/// The PRACK brings the answer to the offer of the callee's reliable response (RFC 3262 5).
fn answered_offer(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    owed: Option<(u8, RAck)>,
    message: &Message,
) {
    let Some((callee, rack)) = owed else { return };
    let Ok(session) = bridge::acceptable(body::sdp(message)) else {
        return hunt::give_up(call, core, turn, callee, Refusal::NotAcceptable);
    };
    bridge::program(call, core, turn, CALLER, &session);
    let sdp = bridge::answered(call, core, turn, (CALLER, callee), &session);
    for place in [CALLER, callee] {
        if let Some(leg) = call.leg(place) {
            leg.offer = Negotiation::Stable;
        }
    }
    let tag = call.legs.get(usize::from(callee)).map(|l| l.dialog.remote_tag.clone());
    if let Some(at) = find(call, callee, &tag.unwrap_or_default()) {
        call.early[at].agreed = true;
    }
    confirm(call, core, turn, (callee, rack), sdp.as_deref());
}

/// The PRACK brings an offer of its own: carried to a callee that waits for one as well.
fn offered(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, served): (u8, Key),
    owed: Option<(u8, RAck)>,
    message: &Message,
) {
    let session = bridge::readable(body::sdp(message)).ok();
    let session = session.filter(|s| bridge::is_offer(s));
    let (Some((callee, rack)), Some(session)) = (owed, session) else {
        // The confirmation counts; the session stays as it is.
        core.respond(turn, served, Reply::plain(488, None), |_| {});
        owed.and_then(|owed| confirm(call, core, turn, owed, None));
        return;
    };
    exchange::remember(call, callee);
    let sdp = bridge::rewritten(call, core, turn, callee, &session);
    let sent = confirm(call, core, turn, (callee, rack), sdp.as_deref());
    exchange::begun(call, core, turn, (place, callee), served, sent, true);
}

/// Nobody confirmed a reliable response in time: the INVITE is refused (RFC 3262 3).
pub(crate) fn unconfirmed(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    release::release(call, core, turn, Refusal::NoPrack);
}
