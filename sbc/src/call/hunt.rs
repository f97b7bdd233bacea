//! Trying candidates, one after the other or several at once, and hearing what they say
//! (RFC 3261 16.6, 16.7).
//!
//! A round is one candidate, or several that stand beside each other: the first 2xx wins and the others
//! are cancelled. When all of a round have failed the next begins, unless one of them said what ends the
//! search; at the end the caller hears the best of all that was said.

use super::branch::{self, Branch};
use super::invite::{self, Offer};
use super::{Call, MAX_LEGS, Phase, answer, body, bridge, early, exchange, outcome, redirect};
use super::{ice, release, secure, session, streams, transfer};
use crate::billing::Attempt;
use crate::core::{Core, Turn};
use crate::dialog::Dialog;
use crate::message::{self, Index, Message, Method, Name, Print};
use crate::policy::decide::Candidate;
use crate::policy::manipulate::Boundary;
use crate::policy::{MAX_FORKS, admission};
use crate::refusal::Refusal;
use crate::transaction::{Heard, Machine};
use base::Key;
use control::event::CallState;
use std::time::Duration;

/// While a call is answered, an interim frame is journalled this often.
pub(crate) const INTERIM: Duration = Duration::from_secs(30);

/// Sends the INVITE to the next candidate that has room, and to those beside it; with none left the call
/// fails: with the best status heard, or with `otherwise`.
pub(crate) fn next(call: &mut Call, core: &mut Core, turn: &mut Turn, otherwise: Refusal) {
    while let Some(first) = call.candidates.pop_front() {
        let forks = call.candidates.front().is_some_and(|candidate| candidate.beside);
        let mut candidate = Some(first);
        while let Some(tried) = candidate {
            attempt_or_skip(call, core, turn, tried, forks);
            candidate = call.candidates.pop_front_if(|candidate| candidate.beside);
        }
        if !call.branches.is_empty() {
            return;
        }
    }
    // That no route had a codec, or TLS, or answers at all, is the caller's business; that none had room is not.
    let attempts = &call.cdr.attempts;
    let all = |why: &Refusal| {
        let is_it = |attempt: &Attempt| *attempt.reason == *why.name().as_bytes();
        !attempts.is_empty() && attempts.iter().all(is_it)
    };
    let told = [Refusal::NoCodec, Refusal::NoSecureRoute, Refusal::EndpointDown];
    let told = told.into_iter().find(all);
    let otherwise = told.unwrap_or(otherwise);
    let (status, why) = best_status(call).unwrap_or((otherwise.status(), otherwise));
    match call.transfer {
        Some(_) => transfer::refused(call, core, turn, status),
        None => release::fail(call, core, turn, why, status),
    }
}

fn attempt_or_skip(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    candidate: Candidate,
    forks: bool,
) {
    if call.legs.len() >= MAX_LEGS || call.branches.len() >= usize::from(MAX_FORKS) {
        return;
    }
    if let Err(refusal) = attempt(call, core, turn, &candidate, forks) {
        // Nothing was sent: nothing was bought.
        record_attempt(call, core, turn, &Candidate { buy: None, ..candidate }, refusal);
    }
}

fn record_attempt(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    candidate: &Candidate,
    why: Refusal,
) -> u8 {
    core.counters.attempts.add(1);
    let name = core.image.trunk(candidate.trunk).map(|t| t.name.as_bytes().into());
    call.cdr.attempts.push(Attempt {
        trunk: name.unwrap_or_default(),
        endpoint: candidate.endpoint,
        number: (*candidate.number).into(),
        at: turn.now.into(),
        answer: None,
        end: None,
        status: 0,
        reason: why.name().as_bytes().into(),
        buy: candidate.buy.clone(),
    });
    (call.cdr.attempts.len() - 1) as u8
}

/// Grows a leg towards `candidate` and sends its INVITE. `forks`: others are tried at the same time.
fn attempt(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    candidate: &Candidate,
    forks: bool,
) -> Result<(), Refusal> {
    if candidate.out {
        return Err(Refusal::EndpointDown);
    }
    let image = core.image.clone();
    let trunk = image.trunk(candidate.trunk).ok_or(Refusal::NoRoute)?;
    let port = image.port_of(trunk).ok_or(Refusal::NoRoute)?;
    if !core.permitted(port, candidate.endpoint) {
        return Err(Refusal::NameUnresolved);
    }
    let request = invite::of_caller(call, core).ok_or(Refusal::InternalError)?;
    let mut index = Index::new();
    let message = message::parse(&request, &mut index).map_err(|_| Refusal::InternalError)?;
    if body::is_barred(&message, &trunk.bodies) {
        return Err(Refusal::BadContentType);
    }
    if invite::is_secure(&message) && !core.is_secure(candidate.trunk) {
        return Err(Refusal::NoSecureRoute);
    }
    let asker = call.legs.get(usize::from(transfer::asker(call)));
    let caller = asker.map_or(0, |leg| leg.trunk);
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
    let mut leg = invite::leg(call, core, candidate, ends, (&message, &boundary));
    leg.secure = secure::fresh(core, turn, candidate.trunk, port);
    leg.ice = ice::fresh(core, turn, candidate.trunk);
    call.legs.push(leg);
    core.own(media, call.key, place);
    let offer = Offer::of(&message, trunk.offers || forks);
    if let Err(refusal) = invite::send(call, core, turn, place, &message, offer) {
        close_leg(call, turn, core, place);
        return Err(refusal);
    }
    if call.branches.is_empty() && call.transfer.is_none() {
        branch::bring_forward(call, core, turn, place);
    }
    let attempt = record_attempt(call, core, turn, candidate, Refusal::RouteRefused);
    call.branches.push(Branch {
        leg: place,
        attempt,
        trying_deadline: turn.now.mono + trunk.trying_timeout,
        ring_deadline: turn.now.mono + trunk.ring_timeout,
    });
    Ok(())
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
    core.rearm(key, turn.now.mono);
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
            if branch::is_tried(call, place) && session::too_small(call, place, message) {
                return again(call, core, turn, place);
            }
            redirect::heard(call, core, turn, place, message);
            failed(call, core, turn, place, status, Refusal::RouteRefused);
        }
        Heard::Provisional => early::heard(call, core, turn, place, message),
        Heard::Success => answer::success(call, core, turn, (place, key), message),
    }
}

/// Sends the INVITE of a leg once more, in the same dialog to be (RFC 4028 7.3).
fn again(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let makes_one = call.leg(place).is_some_and(|leg| !leg.said.is_empty());
    let request = invite::of_caller(call, core).unwrap_or_default();
    let mut index = Index::new();
    let sent = match message::parse(&request, &mut index) {
        Ok(message) => {
            let offer = Offer::of(&message, makes_one);
            invite::send(call, core, turn, place, &message, offer)
        }
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
    core.transactions.keep(key, turn.texts.get(sent));
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
    core.journal_interim(turn, call.cdr.id);
    call.interim_deadline = turn.now.mono + INTERIM;
}

/// A candidate failed: it is noted. When no other is being tried, the next is, if the trunk says so.
pub(crate) fn failed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    status: u16,
    why: Refusal,
) {
    if !drop_branch(call, core, turn, (place, status), why) || call.has_ended() {
        return;
    }
    let trunk = call.legs.get(usize::from(place)).map_or(0, |l| l.trunk);
    let hunts = core.image.trunk(trunk).is_some_and(|t| t.hunt_on.contains(&status));
    let is_followed = call.candidates.front().is_some_and(|next| next.redirected);
    if !(hunts || is_followed) || call.stop_on.contains(&status) || status >= 600 {
        call.candidates.clear();
    }
    if status >= 600 {
        // 16.7 5: nobody else is asked, and who is being asked is not any more.
        end_others(call, core, turn, place, Refusal::RouteRefused);
    }
    match branch::best(call) {
        Some(other) if call.callee == Some(place) => {
            branch::bring_forward(call, core, turn, other);
            early::tell_ended(call, core, turn);
        }
        Some(_) => early::tell_ended(call, core, turn),
        None if call.transfer.is_some() => next(call, core, turn, why),
        None => {
            call.state = CallState::Trying;
            next(call, core, turn, why);
        }
    }
}

/// A leg is not tried any more: what it held is given back, and its attempt says why. Whether it was tried.
fn drop_branch(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, status): (u8, u16),
    why: Refusal,
) -> bool {
    let Some(at) = call.branches.iter().position(|b| b.leg == place) else { return false };
    let branch = call.branches.remove(at);
    if status != 0 && call.transfer.is_none() {
        outcome::failed(call, core, turn, branch, status);
    }
    close_leg(call, turn, core, place);
    exchange::abandoned(call, core, turn, place);
    early::forget(call, place);
    if let Some(attempt) = call.cdr.attempts.get_mut(usize::from(branch.attempt)) {
        attempt.status = status;
        attempt.reason = why.name().as_bytes().into();
        attempt.end = Some(turn.now.into());
    }
    true
}

/// Whoever else is being tried is not wanted any more: CANCEL, and a BYE should a 2xx be on its way.
pub(crate) fn end_others(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    why: Refusal,
) {
    let others = call.branches.iter().map(|b| b.leg).filter(|leg| *leg != place);
    for other in others.collect::<Vec<_>>() {
        release::end_leg(call, core, turn, other, why);
        drop_branch(call, core, turn, (other, 0), why);
    }
}

/// The best of what candidates said (RFC 3261 16.7 6): a 6xx, else the lowest class; of the 4xx rather
/// what helps to ask better; the latest of equals.
fn best_status(call: &Call) -> Option<(u16, Refusal)> {
    let first = call.transfer.as_ref().map_or(0, |transfer| usize::from(transfer.first));
    let said = call.cdr.attempts.iter().skip(first).filter(|attempt| attempt.status != 0);
    let best = said.rev().min_by_key(|attempt| match attempt.status {
        600.. => (0, 0),
        300..=399 if !call.contacts.is_empty() => (3, 0),
        300..=399 => (4, 2),
        401 | 407 | 415 | 420 | 484 => (4, 0),
        status => (status / 100, 1),
    })?;
    let why = Refusal::ALL.iter().find(|why| why.name().as_bytes() == &*best.reason);
    let status = match best.status {
        status @ 300..=399 if !call.contacts.is_empty() => status,
        status => towards_caller(status),
    };
    Some((status, why.copied().unwrap_or(Refusal::RouteRefused)))
}

/// The status a caller hears for one of a callee: what concerns our own dialog with the callee
/// (authentication, redirection, loops) is not the caller's business; a 503 is about that route, and would
/// be about the whole node in our mouth (16.7 6).
fn towards_caller(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        401 | 407 => 403,
        408 | 420 | 421 | 422 | 423 | 481 | 482 | 483 | 503 => 500,
        other => other,
    }
}

/// Gives up on a candidate without a failure of its own: CANCEL or BYE, then on with it.
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
    streams::close_all(leg, turn);
    if let Some(end) = leg.media.take() {
        turn.media.release(end, turn.now.mono);
        if let Some(at) = call.holds.iter().skip(1).position(|t| *t == trunk) {
            call.holds.remove(at + 1);
            admission::leave(&core.page, trunk);
        }
    }
}
