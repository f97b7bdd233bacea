//! The answer of a call: the callee's 2xx, what the caller hears of it, and its ACK (RFC 3261 13.2.2.4).

use super::offer_answer::{Carrier, Negotiation};
use super::{
    CALLER, Call, Phase, body, branch, bridge, direct, early, exchange, hunt, release, session,
    transfer,
};
use crate::billing::Moment;
use crate::core::{Core, MAX_FORWARDS, Reply, Turn, dialog_request};
use crate::dialog::{Contact, Dialog};
use crate::identity;
use crate::message::{self, Message, Method, Name, Print};
use crate::policy::manipulate;
use crate::refusal::Refusal;
use crate::transaction::Owner;
use base::{Bytes, Instant, Key, PortId};
use control::event::CallState;

/// Hears a 2xx to the INVITE we sent on `place`.
pub(crate) fn success(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    message: &Message,
) {
    let tag = message.to().ok().and_then(|t| t.tag()).unwrap_or_default();
    let wanted = branch::is_tried(call, place) && !call.has_ended();
    let Some(leg) = call.leg(place) else { return };
    if matches!(leg.phase, Phase::Confirmed | Phase::Moved) && *leg.dialog.remote_tag == *tag {
        // A retransmitted 2xx: the ACK was lost, or is not due yet.
        if core.transactions.get(key).is_some_and(|tx| tx.text.starts_with(b"ACK ")) {
            core.send_again(turn, key);
        }
        return;
    }
    if matches!(leg.phase, Phase::Confirmed | Phase::Moved | Phase::Over) || !wanted {
        return decline(call, core, turn, (place, key), message);
    }
    if transfer::is_target(call, place) {
        return transfer::answered(call, core, turn, (place, key), message);
    }
    if call.callee != Some(place) {
        branch::bring_forward(call, core, turn, place);
        call.held = Box::default();
    }
    hunt::end_others(call, core, turn, place, Refusal::AnsweredElsewhere);
    if early::must_wait(call) {
        return early::hold(call, message);
    }
    let Some(at) = early::enter(call, core, turn, place, message) else {
        return decline(call, core, turn, (place, key), message);
    };
    let Some(leg) = call.leg(place) else { return };
    leg.phase = Phase::Confirmed;
    bridge::mute(leg, turn, false);
    match description(call, core, turn, (place, at), message) {
        Ok(sdp) => {
            if call.leg(place).is_some_and(|l| l.offer.is_stable()) {
                acknowledge(call, core, turn, place, None);
            }
            if call.leg(CALLER).is_some_and(|l| !l.offer.is_stable()) {
                // The offer is in the 2xx: the caller's ACK will carry the answer.
                call.exchange = Some(exchange::Exchange::awaiting_answer(CALLER, place));
            }
            answered(call, core, turn, place, message, sdp.as_deref());
        }
        Err(refusal) => {
            acknowledge(call, core, turn, place, None);
            hunt::give_up(call, core, turn, place, refusal);
        }
    }
}

/// The description the caller's 2xx needs: the answer or offer of this one, or the answer of an earlier
/// provisional response. None, if the caller has agreed with the callee already.
fn description(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    message: &Message,
) -> Result<Option<Vec<u8>>, Refusal> {
    let sdp = early::described(call, core, turn, (place, at), Carrier::Success, message)?;
    let was_told = |call: &Call| call.legs.first().is_some_and(|l| l.offer.is_stable());
    let sdp = match sdp {
        _ if was_told(call) => None,
        Some(sdp) => Some(sdp),
        None => Some(early::answer(call, core, turn, at)?),
    };
    let Some(caller) = call.leg(CALLER) else { return Err(Refusal::InternalError) };
    if sdp.is_some() {
        caller.offer = caller.offer.describing();
    }
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    if leg.offer != Negotiation::OfferReceived {
        leg.offer = Negotiation::Stable;
    }
    Ok(sdp)
}

fn answered(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
    sdp: Option<&[u8]>,
) {
    call.state = CallState::Answered;
    call.early.clear();
    call.candidates.clear();
    let limit = |t: u16| core.image.trunk(t).map(|t| t.max_duration);
    let shortest = call.holds.iter().filter_map(|t| limit(*t)).min();
    call.duration_deadline = shortest.map_or(Instant::NEVER, |d| turn.now.mono + d);
    call.interim_deadline = turn.now.mono + hunt::INTERIM;
    call.cdr.answer = Some(turn.now.into());
    call.cdr.status = message.status().map_or(200, |s| s.code());
    for branch in call.branches.drain(..) {
        call.carried.push((branch.leg, branch.attempt));
        if let Some(attempt) = call.cdr.attempts.get_mut(usize::from(branch.attempt)) {
            (attempt.status, attempt.reason) = (call.cdr.status, Box::default());
            attempt.answer = call.cdr.answer;
        }
    }
    core.counters.answered.add(1);
    core.answered += 1;
    core.counters.setup_delay(turn.now.mono.0.saturating_sub(call.cdr.setup.mono));
    core.journal(turn, Moment::Answer, &call.cdr);
    if let Some(leg) = call.leg(place) {
        session::granted(leg, core, turn.now.mono, message);
    }
    let Some(caller) = call.leg(CALLER) else { return };
    let timer = session::grant(caller, turn.now.mono);
    tell_caller(call, core, turn, place, message, sdp, timer);
    if call.exchange.is_none() {
        direct::give_back(call, core, turn);
    }
}

/// Passes a provisional or 2xx response to the caller.
pub(crate) fn tell_caller(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    message: &Message,
    sdp: Option<&[u8]>,
    fill: impl FnOnce(&mut Print),
) {
    let image = core.image.clone();
    let Some(boundary) = call.boundary(&image, place, CALLER) else { return };
    let Some(caller) = call.leg(CALLER) else { return };
    let Some(invite) = caller.invite else { return };
    let message::Start::Response(line) = message.start() else { return };
    let face = core.face(caller.port);
    let whole = body::with_parts(core, message, &boundary, sdp);
    let profile = &boundary.far.profile;
    let reply = Reply {
        status: line.status.code(),
        reason: Some(line.reason),
        tag: Some(caller.dialog.tag),
        contact: Some(Contact { face: &face, dialog: &caller.dialog, profile }),
        allow: boundary.far.methods.allow(),
        sdp: sdp.filter(|_| whole.is_none()),
        body: whole.as_ref().map(|(kind, whole)| (&**kind, &**whole)),
    };
    core.respond(turn, invite, reply, |print| {
        fill(print);
        if boundary.far.refers.executes() && line.status.is_success() {
            print.header(Name::Supported, b"replaces");
        }
        manipulate::pass(message, &boundary, print);
        identity::pass(message, &boundary, None, print);
        print.in_order(profile.header_order.as_ref());
    });
    caller.phase = if line.status.code() < 200 { Phase::Early } else { Phase::Confirmed };
    let fork = caller.dialog.tag.fork;
    call.told.heard(fork);
}

/// Acknowledges the 2xx of `place`; its text replaces the INVITE in the transaction.
pub(crate) fn acknowledge(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    sdp: Option<&[u8]>,
) {
    let Some(leg) = call.leg(place) else { return };
    let Some(key) = leg.invite else { return };
    let sent = ack(core, turn, leg.port, &leg.dialog, leg.invite_cseq, sdp);
    let peer = core.next_hop(leg.port, &leg.dialog);
    if let Some(tx) = core.transactions.get_mut(key) {
        tx.peer = peer;
    }
    core.transactions.keep(key, turn.texts.get(sent));
}

/// Sends an ACK for a 2xx: a transaction of its own that nobody answers (RFC 3261 13.2.2.4).
fn ack(
    core: &mut Core,
    turn: &mut Turn,
    port: PortId,
    dialog: &Dialog,
    cseq: u32,
    sdp: Option<&[u8]>,
) -> Bytes {
    let to = core.next_hop(port, dialog);
    let mut branch = Vec::with_capacity(48);
    branch.extend_from_slice(crate::transaction::COOKIE);
    crate::transaction::hex(core.random.next(), 16, &mut branch);
    let sent = turn.texts.push(port, to, |out| {
        let mut print = dialog_request(
            out,
            dialog,
            (Method::Ack, cseq, MAX_FORWARDS),
            &core.face(port),
            &branch,
        );
        match sdp {
            Some(sdp) => print.body(Some(b"application/sdp"), sdp),
            None => print.finish(),
        }
    });
    core.counters.requests_out.add(crate::counters::MethodCase::Ack.index());
    sent
}

/// A 2xx nobody waits for any more (a lost race with CANCEL, or a second fork): ACK, then BYE.
pub(crate) fn decline(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    message: &Message,
) {
    let (home, owner) = (call.home, Owner { call: call.key, leg: place });
    let Some(leg) = call.leg(place) else { return };
    let mut dialog = leg.dialog.clone();
    hunt::learn_dialog(&mut dialog, message);
    let number = message.cseq().number;
    dialog.local_cseq = dialog.local_cseq.max(number);
    let port = leg.port;
    let acknowledged = ack(core, turn, port, &dialog, number, None);
    if leg.phase == Phase::Over
        && let Some(tx) = core.transactions.get(key)
    {
        if tx.text.starts_with(b"ACK ") {
            return; // Retransmitted: its BYE is on the way already.
        }
        core.transactions.keep(key, turn.texts.get(acknowledged));
    }
    let cseq = dialog.next_cseq();
    let face = core.face(port);
    let to = core.next_hop(port, &dialog);
    let sent = core.send_request(turn, (home, owner), (port, to), Method::Bye, |out, branch| {
        let mut print =
            dialog_request(out, &dialog, (Method::Bye, cseq, MAX_FORWARDS), &face, branch);
        release::reason(&mut print, Refusal::Cancelled.q850(), "not wanted any more");
        print.finish();
    });
    leg.others.extend(sent);
}
