//! Trying candidates one after the other, and hearing what they say.

use super::offer_answer::Negotiation;
use super::{
    Call, Leg, MAX_LEGS, Phase, answer, body, bridge, early, exchange, outcome, release, send,
    session,
};
use crate::billing::{Attempt, Frame};
use crate::core::{Core, Turn, supported, via};
use crate::dialog::session_timer::Mode;
use crate::dialog::{Contact, Dialog, Tag};
use crate::identity;
use crate::message::{self, Index, Message, Method, Name, Print};
use crate::policy::decide::Candidate;
use crate::policy::manipulate::{self, Boundary};
use crate::policy::profile::EarlyMedia;
use crate::policy::{Trunk, admission};
use crate::refusal::Refusal;
use crate::transaction::{Heard, Machine, Owner};
use base::{Instant, Key, PortId};
use control::event::CallState;
use std::time::Duration;

/// While a call is answered, an interim frame is journalled this often.
pub(crate) const INTERIM: Duration = Duration::from_secs(30);

/// Sends the INVITE to the next candidate that has room; with none left the call fails: with the last
/// status heard, or with `otherwise`.
pub(crate) fn next(call: &mut Call, core: &mut Core, turn: &mut Turn, otherwise: Refusal) {
    while let Some(candidate) = call.candidates.pop_front() {
        if call.legs.len() >= MAX_LEGS {
            break;
        }
        match attempt(call, core, turn, &candidate) {
            Ok(()) => return,
            Err(refusal) => {
                // Nothing was sent: nothing was bought.
                let skipped = Candidate { buy: None, ..candidate };
                record_attempt(call, core, turn, &skipped, refusal);
                core.counters.attempts.add(1);
            }
        }
    }
    let status = if call.failure == 0 { otherwise.status() } else { call.failure };
    release::fail(call, core, turn, otherwise, status);
}

fn record_attempt(call: &mut Call, core: &Core, turn: &Turn, candidate: &Candidate, why: Refusal) {
    let name = core.image.trunk(candidate.trunk).map(|t| t.name.as_bytes().into());
    call.cdr.attempts.push(Attempt {
        trunk: name.unwrap_or_default(),
        endpoint: candidate.endpoint,
        number: candidate.number.clone(),
        at: turn.now.into(),
        status: 0,
        reason: why.name().as_bytes().into(),
        buy: candidate.buy.clone(),
    });
}

/// Grows a leg towards `candidate` and sends its INVITE.
fn attempt(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    candidate: &Candidate,
) -> Result<(), Refusal> {
    let image = core.image.clone();
    let trunk = image.trunk(candidate.trunk).ok_or(Refusal::NoRoute)?;
    let port = image.port_of(trunk).ok_or(Refusal::NoRoute)?;
    if !core.permitted(port, candidate.endpoint) {
        return Err(Refusal::NameUnresolved);
    }
    let request = caller_invite(call, core).ok_or(Refusal::InternalError)?;
    let mut index = Index::new();
    let message = message::parse(&request, &mut index).map_err(|_| Refusal::InternalError)?;
    if body::is_barred(&message, &trunk.bodies) {
        return Err(Refusal::BadContentType);
    }
    let caller = call.legs.first().map_or(0, |leg| leg.trunk);
    let boundary = Boundary::between(&image, caller, candidate.trunk).ok_or(Refusal::NoRoute)?;
    admission::enter(&image, &core.page, candidate.trunk, turn.now.mono)?;
    let media = match bridge::reserve(core, turn, port) {
        Ok(media) => media,
        Err(refusal) => {
            admission::leave(&core.page, candidate.trunk);
            return Err(refusal);
        }
    };
    call.holds.push(candidate.trunk);
    let place = call.legs.len() as u8;
    let ends = (place, port, media);
    let leg = callee_leg(call, core, candidate, ends, (&message, &boundary));
    call.cdr.call_id_out = leg.dialog.call_id.clone();
    call.cdr.trunk_out = trunk.name.as_bytes().into();
    call.legs.push(leg);
    core.own(media, call.key, place);
    call.callee = Some(place);
    bridge::join(call, turn);
    record_attempt(call, core, turn, candidate, Refusal::RouteRefused);
    core.counters.attempts.add(1);
    send_invite(call, core, turn, place, &message)?;
    call.trying_deadline = turn.now.mono + trunk.trying_timeout;
    call.ring_deadline = turn.now.mono + trunk.ring_timeout;
    Ok(())
}

/// The INVITE being served for the caller.
fn caller_invite(call: &Call, core: &Core) -> Option<Box<[u8]>> {
    let key = call.legs.first()?.invite?;
    Some(core.transactions.get(key)?.request.clone())
}

/// The Request-URI of a candidate, as its trunk wants it.
pub(crate) fn target(trunk: &Trunk, candidate: &Candidate) -> Vec<u8> {
    let endpoint = candidate.endpoint.to_string();
    let host = trunk.profile.request_host.as_deref().unwrap_or(&endpoint);
    identity::sip_uri(&candidate.number, host.as_bytes(), &trunk.profile)
}

fn callee_leg(
    call: &Call,
    core: &mut Core,
    candidate: &Candidate,
    (place, port, media): (u8, PortId, Key),
    (invite, boundary): (&Message, &Boundary),
) -> Leg {
    let secret = core.random.next();
    let mut call_id = Vec::with_capacity(32);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    let target = target(boundary.far, candidate);
    let dialog = Dialog {
        call_id: call_id.into(),
        tag: Tag { home: call.home.0, call: call.key, leg: place, fork: 0, secret },
        local: identity::from(invite, boundary, core.face(port).sent_by.as_bytes()),
        remote: [b"<", &target[..], b">"].concat().into(),
        remote_tag: Box::default(),
        target: target.into(),
        routes: Vec::new(),
        local_cseq: 0,
        remote_cseq: 0,
        peer: candidate.endpoint,
    };
    Leg::new(candidate.trunk, port, dialog, media, secret)
}

/// Builds and sends the INVITE of a new leg.
fn send_invite(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    invite: &Message,
) -> Result<(), Refusal> {
    let session = bridge::acceptable(body::sdp(invite)).ok();
    let trunk = call.legs.get(usize::from(place)).map_or(0, |leg| usize::from(leg.trunk));
    let makes_one = core.image.trunks.get(trunk).is_some_and(|trunk| trunk.offers);
    let sdp = match session {
        Some(session) => bridge::rewritten(call, core, turn, place, &session),
        None if makes_one => bridge::own_offer(call, core, turn, place),
        None => None,
    };
    // An offer in a reliable response is answered in the caller's PRACK, or it must not be made.
    let reliable = sdp.is_some() || call.legs.first().is_some_and(|l| l.peer.reliable);
    let image = core.image.clone();
    let (home, key, hops) = (call.home, call.key, call.max_forwards);
    let boundary = call.boundary(&image, super::CALLER, place).ok_or(Refusal::InternalError)?;
    let whole = body::with_parts(core, invite, &boundary, sdp.as_deref());
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    leg.asked = Negotiation::inviting(sdp.is_some());
    leg.offer = leg.asked;
    let trunk = boundary.far;
    let face = core.face(leg.port);
    let cseq = leg.dialog.next_cseq();
    leg.invite_cseq = cseq;
    let (timer, terms) = (leg.timer, trunk.session);
    let (port, peer, dialog) = (leg.port, leg.dialog.peer, leg.dialog.clone());
    let owner = Owner { call: key, leg: place };
    let sent =
        core.send_request(turn, (home, owner), (port, peer), Method::Invite, |out, branch| {
            let mut print = Print::request(out, Method::Invite, &dialog.target);
            print.in_order(trunk.profile.header_order.as_ref());
            via(&mut print, &face, branch);
            print.line(Name::MaxForwards, |v| {
                v.u32(u32::from(trunk.profile.max_forwards.unwrap_or(hops)));
            });
            print.line(Name::From, |v| {
                v.bytes(&dialog.local).param(b"tag", Some(&dialog.tag.text()));
            });
            print.header(Name::To, &dialog.remote);
            print.header(Name::CallId, &dialog.call_id);
            print.line(Name::CSeq, |v| {
                v.u32(cseq).bytes(b" INVITE");
            });
            let profile = &trunk.profile;
            Contact { face: &face, local: &dialog.local, profile }.print(&mut print);
            print.header(Name::Allow, trunk.methods.allow());
            let reliable = reliable && trunk.methods.tells_of(b"PRACK");
            if let Some(known) = supported(reliable, terms.mode != Mode::Off) {
                print.header(Name::Supported, known);
            }
            timer.ask(&terms, &mut print);
            if !image.software.is_empty() {
                print.header(Name::UserAgent, image.software.as_bytes());
            }
            if trunk.profile.early_media == EarlyMedia::Authorized {
                print.header(Name::PEarlyMedia, b"supported");
            }
            manipulate::pass(invite, &boundary, &mut print);
            identity::pass(invite, &boundary, Some(&dialog.target), &mut print);
            match &whole {
                Some((kind, whole)) => print.body(Some(kind), whole),
                None => send::with_sdp(&mut print, sdp.as_deref()),
            }
        });
    leg.invite = sent;
    sent.map(|_| ()).ok_or(Refusal::TransactionsFull)
}

/// Hears a response to an INVITE we sent on `place`.
pub(crate) fn heard(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    message: &Message,
) {
    let status = message.status().map_or(0, |s| s.code());
    let timers = core.timers_of(key);
    let Some(tx) = core.transactions.get_mut(key) else { return };
    let Machine::ClientInvite(machine) = &mut tx.machine else { return };
    let heard = machine.receive(status, turn.now.mono, &timers);
    core.rearm(key);
    if call.exchange.as_ref().is_some_and(|e| e.to == place && e.sent == key) {
        return exchange::heard(call, core, turn, (place, key), heard, message);
    }
    if session::is_refresh(call, place, key) {
        return session::heard(call, core, turn, (place, key), heard, message);
    }
    match heard {
        Heard::Nothing => {}
        Heard::FailureAgain => core.send_again(turn, key),
        Heard::Failure => {
            acknowledge_failure(core, turn, key, message);
            if call.callee == Some(place) && session::too_small(call, place, message) {
                return again(call, core, turn, place);
            }
            failed(call, core, turn, place, status, Refusal::RouteRefused);
        }
        Heard::Provisional => early::heard(call, core, turn, place, message),
        Heard::Success => answer::success(call, core, turn, (place, key), message),
    }
}

/// Sends the INVITE of a leg once more, in the same dialog to be (RFC 4028 7.3).
fn again(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let request = caller_invite(call, core).unwrap_or_default();
    let mut index = Index::new();
    let sent = match message::parse(&request, &mut index) {
        Ok(message) => send_invite(call, core, turn, place, &message),
        Err(_) => Err(Refusal::InternalError),
    };
    if let Err(refusal) = sent {
        failed(call, core, turn, place, refusal.status(), refusal);
    }
}

/// The ACK of a failure: the transaction's own (RFC 3261 17.1.1.3).
pub(crate) fn acknowledge_failure(core: &mut Core, turn: &mut Turn, key: Key, response: &Message) {
    let Some(tx) = core.transactions.get_mut(key) else { return };
    let invite = core::mem::take(&mut tx.text);
    let (port, peer) = (tx.port, tx.peer);
    let mut index = Index::new();
    let Ok(request) = message::parse(&invite, &mut index) else { return };
    let message::Start::Request(line) = request.start() else { return };
    let sent = turn.texts.push(port, peer, |out| {
        let mut print = Print::request(out, Method::Ack, line.uri);
        print.header(Name::Via, request.get(Name::Via).unwrap_or_default());
        print.header(Name::MaxForwards, b"70");
        request.all(Name::Route).for_each(|r| {
            print.header(Name::Route, r);
        });
        print.header(Name::From, request.get(Name::From).unwrap_or_default());
        print.header(Name::To, response.get(Name::To).unwrap_or_default());
        print.header(Name::CallId, request.call_id());
        print.line(Name::CSeq, |v| {
            v.u32(request.cseq().number).bytes(b" ACK");
        });
        print.finish();
    });
    core.counters.requests_out.add(crate::counters::MethodCase::Ack.index());
    tx.text = turn.texts.get(sent).into();
}

/// Takes what a response that creates a dialog says about it (RFC 3261 12.1.2).
pub(crate) fn learn_dialog(dialog: &mut Dialog, message: &Message) {
    let tag = message.to().ok().and_then(|t| t.tag()).unwrap_or_default();
    if tag.is_empty() {
        return;
    }
    dialog.remote_tag = tag.into();
    dialog.refresh_target(message.contact().ok().flatten());
    let routes = message.record_routes().filter_map(|r| r.ok()).map(|r| r.raw.into());
    let mut routes: Vec<Box<[u8]>> = routes.collect();
    routes.reverse();
    dialog.routes = routes;
}

/// A moment worth a frame: after a loss of power the CDR ends there.
pub(crate) fn interim(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    core.journal(turn, &Frame::Interim(call.cdr.id, turn.now.into()));
    call.interim_deadline = turn.now.mono + INTERIM;
}

/// The current candidate failed: note it, try the next if its trunk says so.
pub(crate) fn failed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    status: u16,
    why: Refusal,
) {
    close_leg(call, turn, core, place);
    early::forget(call, place);
    if call.callee != Some(place) || call.has_ended() {
        return;
    }
    if let Some(last) = call.cdr.attempts.last_mut() {
        last.status = status;
        last.reason = why.name().as_bytes().into();
    }
    outcome::failed(call, core, turn, status);
    call.trying_deadline = Instant::NEVER;
    call.ring_deadline = Instant::NEVER;
    call.failure = towards_caller(status);
    let trunk = call.legs.get(usize::from(place)).map_or(0, |l| l.trunk);
    let hunts = core.image.trunk(trunk).is_some_and(|t| t.hunt_on.contains(&status));
    let stops = call.stop_on.contains(&status);
    if hunts && !stops && status < 600 && !call.candidates.is_empty() {
        call.state = CallState::Trying;
        next(call, core, turn, why);
    } else {
        let status = call.failure;
        release::fail(call, core, turn, why, status);
    }
}

/// The status a caller hears for one of a callee: what concerns our own dialog with the callee
/// (authentication, redirection, loops) is not the caller's business.
fn towards_caller(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 => 403,
        408 | 420 | 421 | 422 | 423 | 481 | 482 | 483 | 503 => 503,
        other => other,
    }
}

/// Gives up on the current candidate without a failure of its own: CANCEL or BYE, then on with it.
pub(crate) fn give_up(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8, why: Refusal) {
    release::end_leg(call, core, turn, place, why);
    if why == Refusal::EarlyMediaConflict || why == Refusal::RingTimeout {
        call.candidates.clear();
    }
    failed(call, core, turn, place, why.status(), why);
}

/// A leg that carries nothing any more: its media and its place on the trunk are given back.
fn close_leg(call: &mut Call, turn: &mut Turn, core: &mut Core, place: u8) {
    let Some(leg) = call.leg(place) else { return };
    leg.phase = Phase::Over;
    let trunk = leg.trunk;
    if let Some(end) = leg.media.take() {
        turn.media.release(end, turn.now.mono);
        if let Some(at) = call.holds.iter().skip(1).position(|t| *t == trunk) {
            call.holds.remove(at + 1);
            admission::leave(&core.page, trunk);
        }
    }
}
