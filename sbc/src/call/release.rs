//! The end of a call: by either side, by a timer, by an operator, by a failure before the answer.
//!
//! The CDR closes when the end is known; the call itself stays until its last BYE is answered.

use super::transfer;
use super::{
    CALLER, Call, Phase, answer, branch, early, hunt, join, outcome, replace, send, streams,
};
use crate::billing::{LegMedia, Moment, Party, Score, Stamp};
use crate::core::{Core, Reply, Turn};
use crate::message::{self, Message, Method, Name, Print};
use crate::policy::admission;
use crate::refusal::{Refusal, q850_of_status};
use crate::transaction::{Machine, Owner};
use base::Instant;
use control::event::CallState;

/// The longest Reason of a caller's that is carried on.
const MAX_REASON: usize = 256;

/// Ends a call that was not answered: the caller hears `status`.
pub(crate) fn fail(call: &mut Call, core: &mut Core, turn: &mut Turn, why: Refusal, status: u16) {
    call.cdr.status = status;
    let q850 = if why == Refusal::RouteRefused { q850_of_status(status) } else { why.q850() };
    finish(call, core, turn, Party::Engine, why, q850);
}

/// Ends a call in whatever state it is, on our own account.
pub(crate) fn release(call: &mut Call, core: &mut Core, turn: &mut Turn, why: Refusal) {
    if call.cdr.answer.is_none() {
        call.cdr.status = why.status();
    }
    finish(call, core, turn, Party::Engine, why, why.q850());
}

/// The process that carried the call died: both sides are told, the CDR ends at the last moment known.
pub(crate) fn after_restart(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    join::forget_signs(call);
    if call.has_ended() {
        return;
    }
    call.cdr.marks.recovered = true;
    release(call, core, turn, Refusal::Restart);
}

/// The last moment a call that outlived its process is known to have been alive (≤ 30 s before its end).
fn last_known(call: &Call) -> Stamp {
    let Some(answer) = call.cdr.answer else { return call.cdr.ringing.unwrap_or(call.cdr.setup) };
    let mono = (call.interim_deadline - hunt::INTERIM).0.max(answer.mono);
    Stamp { mono, wall: answer.wall + (mono - answer.mono) }
}

/// The caller gave up: CANCEL, or BYE within an early dialog. Its reason goes with the CANCELs of ours.
pub(crate) fn cancelled(call: &mut Call, core: &mut Core, turn: &mut Turn, message: &Message) {
    call.cdr.status = 487;
    let reasons: Vec<&[u8]> = message.all(Name::Reason).collect();
    let reason = reasons.join(&b", "[..]);
    if reason.len() <= MAX_REASON {
        call.reason = reason.into();
    }
    let q850 = reason_q850(message).unwrap_or(Refusal::Cancelled.q850());
    finish(call, core, turn, Party::Caller, Refusal::Cancelled, q850);
}

/// A BYE arrived on `place`.
pub(crate) fn hung_up(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8, bye: &Message) {
    if let Some(leg) = call.leg(place) {
        // A callee may not end an early dialog (15); its INVITE is still to be cancelled if it does.
        if place == CALLER || leg.phase == Phase::Confirmed {
            leg.phase = Phase::Over;
        }
        leg.bye_owed = false;
    }
    if call.has_ended() {
        return;
    }
    if place == CALLER && call.state != CallState::Answered {
        return cancelled(call, core, turn, bye);
    }
    if branch::is_tried(call, place) && call.callee != Some(place) {
        // One of several that are tried; the others go on.
        return hunt::give_up(call, core, turn, place, Refusal::CalleeHungUp);
    }
    let other = call.other(place).and_then(|other| call.legs.get(usize::from(other)));
    let is_left = other.is_none_or(|other| other.phase == Phase::Moved);
    if transfer::hung_up(call, place) || replace::is_leaving(call, place) || is_left {
        // It has asked for a transfer, or makes way for somebody, or has been left behind.
        return;
    }
    let (party, why) = match place == call.near {
        true => (Party::Caller, Refusal::CallerHungUp),
        false => (Party::Callee, Refusal::CalleeHungUp),
    };
    if call.cdr.answer.is_none() {
        call.cdr.status = why.status();
    }
    let q850 = reason_q850(bye).unwrap_or(why.q850());
    finish(call, core, turn, party, why, q850);
}

/// The Q.850 cause a Reason header gives (RFC 3326).
fn reason_q850(message: &Message) -> Option<u8> {
    let mut reasons = message.options(Name::Reason);
    let q850 = reasons.find(|r| r.len() >= 5 && r[..5].eq_ignore_ascii_case(b"Q.850"))?;
    let cause = q850.split(|b| *b == b';').find_map(|p| p.trim_ascii().strip_prefix(b"cause="))?;
    let cause = core::str::from_utf8(cause.trim_ascii()).ok()?.parse().ok();
    cause.filter(|cause| (1..=127).contains(cause))
}

/// Closes the CDR, the media and the trunks' places, and takes leave of every leg.
pub(super) fn finish(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    party: Party,
    why: Refusal,
    q850: u8,
) {
    if call.has_ended() {
        return;
    }
    call.cdr.end = Some(if call.cdr.marks.recovered { last_known(call) } else { turn.now.into() });
    core.answered -= u64::from(call.state == CallState::Answered);
    call.state = CallState::Ended;
    // An answer to its question that is still under way finds nobody to route.
    call.awaited = None;
    call.transfer = None;
    call.candidates.clear();
    call.question_deadline = Instant::NEVER;
    call.duration_deadline = Instant::NEVER;
    call.interim_deadline = Instant::NEVER;
    call.cdr.released_by = party;
    call.cdr.q850 = q850;
    call.cdr.reason = why.name().as_bytes().into();
    let tried = core::mem::take(&mut call.branches);
    for branch in &tried {
        if let Some(attempt) = call.cdr.attempts.get_mut(usize::from(branch.attempt)) {
            attempt.reason = why.name().as_bytes().into();
        }
    }
    close_media(call, turn);
    outcome::over(call, core, turn, &tried);
    for trunk in call.holds.drain(..) {
        admission::leave(&core.page, trunk);
    }
    if !call.booked {
        core.counters.refusals.add(why.index());
        core.journal(turn, Moment::Stop, &call.cdr);
    }
    for place in 0..call.legs.len() as u8 {
        let by = match party {
            Party::Engine => join::Ender::Engine,
            Party::Caller if place == call.near => join::Ender::Peer,
            Party::Callee if Some(place) == call.callee => join::Ender::Peer,
            Party::Caller | Party::Callee => join::Ender::Other,
        };
        join::tell_over(call, core, place, (why, q850), by);
        end_leg(call, core, turn, place, why);
    }
    (call.exchange, call.replacing) = (None, None);
    call.held = Box::default();
    leave_unserved(call, core, turn);
}

/// What the peers asked within dialogs that are over now, and nobody will answer any more.
fn leave_unserved(call: &Call, core: &mut Core, turn: &mut Turn) {
    for key in call.legs.iter().flat_map(|leg| &leg.others) {
        core.respond(turn, *key, Reply::plain(481, None), |_| {});
    }
}

fn close_media(call: &mut Call, turn: &mut Turn) {
    for place in 0..call.legs.len() as u8 {
        close_leg_media(call, turn, place);
    }
}

/// Gives back a leg's media; what it has seen goes where the leg stands in the CDR.
pub(crate) fn close_leg_media(call: &mut Call, turn: &mut Turn, place: u8) {
    let Some(leg) = call.leg(place) else { return };
    streams::close_all(leg, turn);
    let Some(end) = leg.media.take() else { return };
    let Some(report) = turn.media.release(end, turn.now.mono) else { return };
    let seen = LegMedia {
        packets: report.packets,
        octets: report.octets,
        lost: report.lost,
        discarded: report.discarded,
        jitter_us: report.jitter_us,
        score: (report.mos_centi > 0).then_some(Score {
            mos_centi: report.mos_centi,
            mos_least_centi: report.mos_least_centi,
            mos_mean_centi: report.mos_mean_centi,
            r_factor: report.r_factor,
            max_jitter_us: report.max_jitter_us,
            rtt_us: report.rtt_us,
            told_mos_deci: report.told.and_then(|told| told.mos_deci),
            told_r_factor: report.told.and_then(|told| told.r_factor),
        }),
    };
    let carried = call.carried.iter().position(|(leg, _)| *leg == place);
    match carried {
        _ if place == CALLER => call.cdr.media[0] = seen,
        Some(0) => call.cdr.media[1] = seen,
        Some(later) => {
            let attempt = call.carried.get(later).map_or(0, |(_, attempt)| *attempt);
            let mut transfers = call.cdr.transfers.iter_mut().rev();
            if let Some(transfer) = transfers.find(|transfer| transfer.first <= attempt) {
                transfer.media = seen;
            }
        }
        None if call.callee == Some(place) => call.cdr.media[1] = seen,
        None => {}
    }
}

/// Takes leave of one leg in the way its state asks for.
pub(crate) fn end_leg(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8, why: Refusal) {
    let status = call.cdr.status;
    let (q850, text) = (call.cdr.q850, why.name());
    let owes_ack = call.exchange.is_some_and(|e| e.answer_awaited && e.to == place);
    if owes_ack && call.leg(place).is_some_and(|leg| !leg.offer.is_stable()) {
        // RFC 3261 15: no BYE before the ACK of the 2xx.
        answer::acknowledge(call, core, turn, place, None);
        call.exchange = None;
    }
    early::decline_held(call, core, turn, place);
    let Some(leg) = call.leg(place) else { return };
    let machine =
        leg.invite.and_then(|key| core.transactions.get(key)).map(|tx| tx.machine.clone());
    let tag = leg.dialog.tag;
    match (leg.phase, machine) {
        (Phase::Trying | Phase::Early, Some(Machine::ServerInvite(m))) if m.awaits_final() => {
            leg.phase = Phase::Over;
            let Some(key) = leg.invite else { return };
            // Of an answered call only who was to replace one of its sides waits (RFC 3891 3).
            let status = if status < 300 { 603 } else { status };
            let reply = Reply::plain(status, Some(tag));
            let contacts = core::mem::take(&mut call.contacts);
            core.respond(turn, key, reply, |print| {
                contacts.iter().filter(|_| status < 400).for_each(|contact| {
                    print.header(Name::Contact, contact);
                });
                reason(print, q850, text);
                if text == Refusal::NoSecureRoute.name() {
                    // RFC 5630 5.1.2, 8.1.
                    print.header(Name::Warning, b"380 tandem \"SIPS Not Allowed\"");
                }
            });
        }
        (Phase::Over, Some(Machine::ServerInvite(m))) if m.awaits_final() => {
            // A BYE within an early dialog leaves the INVITE to be answered (15.1.2).
            if let Some(key) = leg.invite {
                core.respond(turn, key, Reply::plain(487, Some(tag)), |_| {});
            }
        }
        (Phase::Trying | Phase::Early, Some(Machine::ClientInvite(m))) if m.is_open() => {
            leg.phase = Phase::Over;
            match m.may_cancel() {
                true => send_cancel(call, core, turn, place, Some(why)),
                false => leg.cancel_owed = Some(why),
            }
        }
        (Phase::Confirmed, machine) => {
            leg.phase = Phase::Over;
            let awaits_ack = matches!(&machine, Some(Machine::ServerInvite(m)) if m.awaits_ack());
            if let (Some(Machine::ServerInvite(m)), Some(key)) = (&machine, leg.invite)
                && m.awaits_final()
            {
                core.respond(turn, key, Reply::plain(487, None), |_| {});
            }
            if let (Some(Machine::ClientInvite(_)), Some(key)) = (&machine, leg.invite) {
                // A re-INVITE the peer has only been trying: after the BYE nobody waits for it forever.
                core.abandon(turn, key);
            }
            match awaits_ack {
                true => leg_owes_bye(call, place),
                false => send_bye(call, core, turn, place),
            }
        }
        (Phase::Moved, _) => join::tell_end(call, core, place, why),
        (Phase::Over, Some(Machine::ClientInvite(_))) => {
            // The peer has ended the dialog and owes the answer of a re-INVITE: not forever.
            if let Some(key) = leg.invite {
                core.abandon(turn, key);
            }
        }
        (Phase::Trying | Phase::Early | Phase::Over, _) => leg.phase = Phase::Over,
    }
}

fn leg_owes_bye(call: &mut Call, place: u8) {
    if let Some(leg) = call.leg(place) {
        leg.bye_owed = true;
    }
}

/// Sends the BYE that waited for an ACK, or for the ACK's time-out.
pub(crate) fn pay_bye(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    if let Some(leg) = call.leg(place)
        && leg.bye_owed
    {
        leg.bye_owed = false;
        match call.has_ended() {
            true => send_bye(call, core, turn, place),
            false => transfer::dismissed(call, core, turn, place),
        }
    }
}

/// Sends a BYE (RFC 3261 15.1.1) with the reason of the call's end.
pub(crate) fn send_bye(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    let q850 = if call.cdr.q850 == 0 { 16 } else { call.cdr.q850 };
    let text = String::from_utf8_lossy(&call.cdr.reason).into_owned();
    send::request(call, core, turn, place, Method::Bye, |print| {
        reason(print, q850, &text);
        print.finish();
    });
}

/// Cancels the INVITE we sent on `place` (RFC 3261 9.1): same branch, same CSeq number. `why` says so in
/// its Reason.
pub(crate) fn send_cancel(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    why: Option<Refusal>,
) {
    let owner = Owner { call: call.key, leg: place };
    let home = call.home;
    let given = why.map_or(Vec::new(), |why| reason_of(call, why));
    let Some(leg) = call.leg(place) else { return };
    let Some(invite) = leg.invite else { return };
    let timers = core.timers_of(invite);
    let Some(tx) = core.transactions.get_mut(invite) else { return };
    let Machine::ClientInvite(machine) = &mut tx.machine else { return };
    if !machine.is_open() || tx.cancel.is_some() {
        return;
    }
    machine.abandoned(turn.now.mono, &timers);
    let (port, peer, text) = (tx.port, tx.peer, tx.text.clone());
    let sent = core.send_request(turn, (home, owner), (port, peer), Method::Cancel, |out, _| {
        print_cancel(out, &text, &given);
    });
    if let Some(tx) = core.transactions.get_mut(invite) {
        tx.cancel = sent;
    }
    leg.others.extend(sent);
    core.rearm(invite, turn.now.mono);
}

/// What stands in the Reason of a CANCEL.
fn reason_of(call: &Call, why: Refusal) -> Vec<u8> {
    if why == Refusal::AnsweredElsewhere {
        // A telephone that is not to list it among missed calls looks for this (RFC 3326 3.1).
        return b"SIP;cause=200;text=\"Call completed elsewhere\"".to_vec();
    }
    if why == Refusal::Cancelled && !call.reason.is_empty() {
        return call.reason.to_vec();
    }
    format!("Q.850;cause={};text=\"{}\"", why.q850(), why.name()).into_bytes()
}

fn print_cancel(out: &mut Vec<u8>, invite: &[u8], reason: &[u8]) {
    let mut index = message::Index::new();
    let Ok(request) = message::parse(invite, &mut index) else { return };
    let message::Start::Request(line) = request.start() else { return };
    let mut print = Print::request(out, Method::Cancel, line.uri);
    print.header(Name::Via, request.get(Name::Via).unwrap_or_default());
    print.header(Name::MaxForwards, b"70");
    request.all(Name::Route).for_each(|r| {
        print.header(Name::Route, r);
    });
    for name in [Name::From, Name::To, Name::CallId] {
        print.header(name, request.get(name).unwrap_or_default());
    }
    print.line(Name::CSeq, |v| {
        v.u32(request.cseq().number).bytes(b" CANCEL");
    });
    if !reason.is_empty() {
        print.header(Name::Reason, reason);
    }
    print.finish();
}

/// Adds a Reason header (RFC 3326).
pub(crate) fn reason(print: &mut Print, q850: u8, text: &str) {
    print.line(Name::Reason, |v| {
        v.bytes(b"Q.850;cause=").u32(u32::from(q850)).bytes(b";text=").quoted(text.as_bytes());
    });
}
