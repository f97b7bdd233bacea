//! Transfers that we execute (RFC 3515, RFC 5589): one side of an answered call asks us to call somebody
//! else for the other side.
//!
//! The new leg is called as a call from the trunk that asked, which pays for it: decided, tried and given
//! up like any other (`setup`, `hunt`), with an INVITE made of what the side that stays last described.
//! Until it answers, the call is as it was, and it stays so when nobody does. When it does, media is joined
//! at once, the side that stays hears what was agreed in a re-INVITE, and the side that asked takes its
//! leave: after its last NOTIFY it gets a BYE.
//!
//! A trunk may know better whom it means, and want to be called itself (`Refers::Return`): then nothing is
//! decided but which of its endpoints, and the INVITE's URI is what Refer-To says.
//!
//! A REFER may name a dialog to be replaced (RFC 3891): one of ours gives its other leg to this call (`join`);
//! any other is for whoever is called to replace, and the INVITE says so.

use super::offer_answer::{Carrier, Negotiation};
use super::subscription::{self, Subscription};
use super::{CALLER, Call, Phase, answer, branch, bridge, early, exchange, hunt, join, release};
use super::{send, session, setup};
use crate::billing::{Party, Transferred};
use crate::core::{Core, Turn};
use crate::counters::NotPassed;
use crate::dialog::replaces::Replaces;
use crate::dialog::session_timer::SessionTimer;
use crate::message::{Message, Method, Name, NameAddr, Print, Scheme, Start};
use crate::policy::Refers;
use crate::policy::admission;
use crate::policy::decide::{Decision, Facts, back, decide};
use crate::refusal::Refusal;
use base::{Instant, Key, plain};
use control::event::CallState;

/// The largest REFER that is executed.
const MAX_REFER: usize = 4_000;

/// How often one side is told what the other chose of its description, after a transfer.
const MAX_ROUNDS: u8 = 2;

/// A transfer under way.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// The leg that asked for it.
    pub(crate) by: u8,
    /// The leg that stays.
    pub(super) stays: u8,
    /// CSeq number of the REFER: it tells subscriptions apart (RFC 3515 2.4.6).
    pub(crate) refer: u32,
    /// The last status it was told.
    told: u16,
    /// The number to be called; it may be missing where a dialog is named.
    number: Box<[u8]>,
    /// The dialog to be replaced.
    pub(super) replaces: Option<Replaces>,
    /// The INVITE as the side that stays would have sent it.
    pub(crate) invite: Box<[u8]>,
    /// Its first attempt in the CDR.
    pub(crate) first: u8,
}

plain!(struct Transfer { by, stays, refer, told, number, replaces, invite, first });

impl Transfer {
    /// Whether the new leg is one of another call of ours.
    fn joins(&self) -> bool {
        self.replaces.as_ref().is_some_and(|replaces| replaces.named().is_some())
    }
}

/// What follows a transfer that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aftermath {
    /// The leg that leaves, and gets its BYE when it has heard how it went.
    leaving: Option<u8>,
    /// The side that is to hear what its new other side described, and that description.
    owed: Option<(u8, Box<[u8]>)>,
    /// The other side, which hears next: what that one answers, or what this says if it answers nothing.
    next: Option<(u8, Box<[u8]>)>,
    /// A leg that has another endpoint than it knows of yet.
    readdressed: Option<u8>,
    /// How often sides were told what the other chose.
    rounds: u8,
}

plain!(struct Aftermath { leaving, owed, next, readdressed, rounds });

impl Aftermath {
    /// A leg has joined: it hears what its new other side described, then that one hears of it.
    pub(super) fn join(
        &mut self,
        joined: (u8, Box<[u8]>),
        stays: (u8, Box<[u8]>),
        is_readdressed: bool,
    ) {
        self.readdressed = is_readdressed.then_some(joined.0);
        (self.owed, self.next) = (Some(joined), Some(stays));
    }
}

/// What a REFER asks for, or the status that refuses it.
pub(crate) fn asked(
    core: &Core,
    call: &Call,
    place: u8,
    message: &Message,
) -> Result<Transfer, u16> {
    let mut targets = message.addresses(Name::ReferTo);
    let (Some(Ok(target)), None) = (targets.next(), targets.next()) else { return Err(400) };
    let uri = target.read_uri().map_err(|_| 400u16)?;
    let stays = call.other(place).filter(|_| call.state == CallState::Answered);
    let is_up = |place: u8| {
        call.legs.get(usize::from(place)).is_some_and(|leg| leg.phase == Phase::Confirmed)
    };
    let Some(stays) = stays.filter(|stays| is_up(*stays) && is_up(place)) else {
        return Err(NotPassed::NoDialog.status());
    };
    let is_told = call.subscription.as_ref().is_some_and(|told| told.has_news());
    if call.transfer.is_some() || call.replacing.is_some() || is_told {
        return Err(491);
    }
    if message.bytes().len() > MAX_REFER {
        return Err(NotPassed::TooLarge.status());
    }
    match uri.scheme {
        Scheme::Sip | Scheme::Tel => {}
        // RFC 5630 3.1: each hop, the one to the side that stays among them.
        Scheme::Sips if is_secured(core, call, stays) => {}
        Scheme::Sips | Scheme::Other(_) => return Err(416),
    }
    if uri.param(b"method").is_some_and(|method| !method.eq_ignore_ascii_case(b"INVITE")) {
        return Err(501);
    }
    let mut digits = [0; 64];
    let number: Option<Box<[u8]>> = uri.number(&mut digits).map(Into::into);
    let replaces = Replaces::of(&uri);
    let is_ours = replaces.as_ref().is_some_and(|replaces| replaces.named().is_some());
    let needs_none = is_ours || returns(core, call, place);
    Ok(Transfer {
        by: place,
        stays,
        refer: message.cseq().number,
        told: 100,
        invite: invite(call, (place, stays), target.uri, message),
        number: number.or_else(|| needs_none.then(Box::default)).ok_or(484u16)?,
        replaces,
        first: call.cdr.attempts.len() as u8,
    })
}

/// Whether whoever asks by this leg is called itself.
fn returns(core: &Core, call: &Call, place: u8) -> bool {
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| core.image.trunk(leg.trunk));
    trunk.is_some_and(|trunk| trunk.refers == Refers::Return)
}

/// Whether the transfer under way is a call back to the trunk that asked.
pub(super) fn is_returned(call: &Call, core: &Core) -> bool {
    call.transfer.as_ref().is_some_and(|transfer| returns(core, call, transfer.by))
}

/// Whom a REFER named, for its own sender: the URI, without what was to be done with it.
pub(super) fn as_it_stands(invite: &Message) -> Vec<u8> {
    let Start::Request(line) = invite.start() else { return Vec::new() };
    line.uri.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec()
}

/// Whether TLS carries the dialog of a side.
fn is_secured(core: &Core, call: &Call, place: u8) -> bool {
    let leg = call.legs.get(usize::from(place));
    leg.is_some_and(|leg| core.face(leg.port).transport.has_tls())
}

/// Whether nobody wants to hear how it goes.
pub(crate) fn is_unsubscribed(refer: &Message) -> bool {
    refer.get(Name::ReferSub).is_some_and(|value| value.eq_ignore_ascii_case(b"false"))
}

/// The INVITE of the side that stays: its name, what it described last, and what the REFER says besides.
fn invite(call: &Call, (by, stays): (u8, u8), target: &[u8], refer: &Message) -> Box<[u8]> {
    let mut out = Vec::with_capacity(1_024);
    let leg = |place: u8| call.legs.get(usize::from(place));
    let mut print = Print::request(&mut out, Method::Invite, target);
    print.header(Name::Via, refer.get(Name::Via).unwrap_or_default());
    print.line(Name::From, |v| {
        v.bytes(leg(stays).map_or(b"", |leg| &leg.dialog.remote)).param(b"tag", Some(b"transfer"));
    });
    print.line(Name::To, |v| {
        v.bytes(b"<").bytes(target).bytes(b">");
    });
    print.header(Name::CallId, refer.call_id());
    print.header(Name::CSeq, b"1 INVITE");
    let about_this = |name| {
        matches!(name, Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq)
            || matches!(name, Name::ContentType | Name::ContentLength)
    };
    for header in refer.headers().filter(|header| !about_this(header.name)) {
        print.raw(header.raw_name, header.value);
    }
    // What was said of it to the side that asked, but nobody is on hold for somebody new.
    let said = leg(by).map(|leg| both_ways(&leg.said)).unwrap_or_default();
    let is_offer = bridge::acceptable(&said).is_ok();
    let sdp = if is_offer { said.as_slice() } else { bridge::OWN_OFFER };
    print.body(Some(b"application/sdp"), sdp);
    out.into()
}

/// A description without directions: media flows both ways (RFC 3264 5.1).
pub(super) fn both_ways(sdp: &[u8]) -> Vec<u8> {
    let directions: [&[u8]; 4] = [b"a=sendonly", b"a=recvonly", b"a=inactive", b"a=sendrecv"];
    let lines = sdp.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !directions.contains(&line.trim_ascii())).flatten().copied().collect()
}

/// The REFER was accepted: whoever asked hears so, if it wants to hear (RFC 4488), and the decision is made.
pub(crate) fn begin(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (transfer, subscription): (Transfer, Option<Box<Subscription>>),
) {
    let trunk = call.legs.get(usize::from(transfer.by)).and_then(|l| core.image.trunk(l.trunk));
    call.cdr.transfers.push(Transferred {
        at: turn.now.into(),
        by: if transfer.by == call.near { Party::Caller } else { Party::Callee },
        trunk: trunk.map(|trunk| trunk.name.as_bytes().into()).unwrap_or_default(),
        number: transfer.number.clone(),
        call_id: Box::default(),
        joined: None,
        first: transfer.first,
        status: 0,
        taken: None,
        media: Default::default(),
    });
    core.counters.transfers.add(1);
    let joins = transfer.joins();
    call.transfer = Some(transfer);
    call.subscription = subscription;
    notify(call, core, turn, (100, b"Trying"), true);
    match joins {
        true => join::ask(call, core, turn),
        false => route(call, core, turn),
    }
}

/// Decides, from the top, and acts upon it: a call from the trunk that asked.
pub(crate) fn route(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let Some(transfer) = &call.transfer else { return };
    if transfer.joins() {
        // Who was asked for the leg has not answered.
        return refused(call, core, turn, 504);
    }
    let Some(leg) = call.legs.get(usize::from(transfer.by)) else { return };
    let calling = NameAddr::parse(&leg.dialog.remote).ok().and_then(|name| name.read_uri().ok());
    let facts = Facts {
        trunk: leg.trunk,
        number: &transfer.number,
        calling: calling.and_then(|uri| uri.user_name()).unwrap_or_default(),
        told: None,
        now: turn.now,
        names: &core.names,
        page: &core.page,
        standing: &core.standing,
        outages: &core.outages,
        ported: &core.ported,
        draw: call.draw,
    };
    let decision = match is_returned(call, core) {
        true => back(&core.image, &facts),
        false => decide(&core.image, &facts),
    };
    match decision {
        Decision::Route(way) => {
            call.awaited = None;
            call.question_deadline = Instant::NEVER;
            call.candidates = way.candidates.into();
            call.stop_on = way.stop_on;
            if let Some(record) = call.cdr.transfers.last_mut() {
                record.taken = way.taken;
            }
            hunt::next(call, core, turn, Refusal::RoutesExhausted);
        }
        Decision::Refuse(why) => refused(call, core, turn, why.status()),
        Decision::Need(question) => setup::ask(call, core, turn, question),
    }
}

/// Somebody who is being called rings.
pub(crate) fn rang(call: &mut Call, core: &mut Core, turn: &mut Turn, message: &Message) {
    let Start::Response(line) = message.start() else { return };
    let status = line.status.code();
    if call.transfer.as_ref().is_some_and(|transfer| transfer.told != status) {
        notify(call, core, turn, (status, line.reason), true);
    }
}

/// Nobody answered: the call goes on as it was, if whoever asked is still there.
pub(crate) fn refused(call: &mut Call, core: &mut Core, turn: &mut Turn, status: u16) {
    notify(call, core, turn, (status, b"Not Transferred"), false);
    let Some(transfer) = call.transfer.take() else { return };
    call.early.clear();
    (call.awaited, call.question_deadline) = (None, Instant::NEVER);
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.status = status;
    }
    if call.leg(transfer.by).is_some_and(|leg| leg.phase == Phase::Over) {
        release::release(call, core, turn, Refusal::TransferFailed);
    }
}

/// Hears the 2xx of somebody who was called for a transfer.
pub(crate) fn answered(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, key): (u8, Key),
    message: &Message,
) {
    hunt::end_others(call, core, turn, place, Refusal::AnsweredElsewhere);
    let Some(at) = early::enter(call, core, turn, place, message) else {
        return answer::decline(call, core, turn, (place, key), message);
    };
    let Some(leg) = call.leg(place) else { return };
    leg.phase = Phase::Confirmed;
    bridge::mute(leg, turn, false);
    let noted = early::noted(call, core, turn, (place, at), Carrier::Success, message);
    answer::acknowledge(call, core, turn, place, None);
    let said = call.early.get(at).map(|early| early.answer().to_vec()).unwrap_or_default();
    if noted.is_err() || bridge::acceptable(&said).is_err() {
        return hunt::give_up(call, core, turn, place, Refusal::NotAcceptable);
    }
    let status = message.status().map_or(200, |s| s.code());
    let Some(leg) = call.leg(place) else { return };
    leg.offer = Negotiation::Stable;
    session::granted(leg, core, turn.now.mono, message);
    let call_id = leg.dialog.call_id.clone();
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.call_id = call_id;
    }
    let stays = succeed(call, core, turn, place, status);
    call.aftermath.owed = stays.map(|stays| (stays, said.into()));
    resume(call, core, turn);
}

/// The new leg is there: it takes the place of the side that asked. The side that stays.
pub(super) fn succeed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    status: u16,
) -> Option<u8> {
    book(call, core, turn, place, status);
    notify(call, core, turn, (200, b"OK"), false);
    let transfer = call.transfer.take()?;
    // What the side that stays is being asked, it answers first.
    let asks = call.exchange.filter(|e| e.to == transfer.stays && !e.answer_awaited);
    if asks.is_none() {
        exchange::abandoned(call, core, turn, transfer.by);
    }
    (call.near, call.callee) = (transfer.stays, Some(place));
    leave(call, core, turn, transfer.by);
    bridge::join(call, core, turn);
    call.aftermath = Aftermath { leaving: call.aftermath.leaving, ..Aftermath::default() };
    Some(transfer.stays)
}

/// Both sides hear where media goes now: the first is offered what the other said last, then the other what that
/// one answers.
pub(super) fn tell_both(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    first: (u8, Box<[u8]>),
    second: (u8, Box<[u8]>),
) {
    (call.aftermath.owed, call.aftermath.next) = (Some(first), Some(second));
    resume(call, core, turn);
}

/// Whether a transfer is under way, or what followed it.
pub(super) fn is_busy(call: &Call) -> bool {
    let Aftermath { leaving, owed, next, readdressed, .. } = &call.aftermath;
    let follows = leaving.is_some() || owed.is_some() || next.is_some() || readdressed.is_some();
    follows || call.transfer.is_some() || call.replacing.is_some()
}

/// Nothing is under way any more between the old sides: the one that stayed hears of the new one.
pub(crate) fn resume(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    if call.exchange.is_some() {
        return;
    }
    let Some((place, said)) = call.aftermath.owed.take() else { return };
    if let Ok(session) = bridge::acceptable(&said) {
        tell(call, core, turn, place, &session);
    }
}

/// The CDR and the limits of a transfer that succeeded.
fn book(call: &mut Call, core: &Core, turn: &Turn, place: u8, status: u16) {
    call.early.clear();
    call.candidates.clear();
    for branch in core::mem::take(&mut call.branches) {
        call.carried.push((branch.leg, branch.attempt));
        if let Some(attempt) = call.cdr.attempts.get_mut(usize::from(branch.attempt)) {
            (attempt.status, attempt.reason) = (status, Box::default());
            attempt.answer = Some(turn.now.into());
        }
    }
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.status = status;
    }
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| core.image.trunk(leg.trunk));
    let longest = trunk.map_or(Instant::NEVER, |trunk| turn.now.mono + trunk.max_duration);
    call.duration_deadline = call.duration_deadline.min(longest);
}

/// The side that asked is out: its media and its place are given back, and it gets its BYE when it knows
/// how it went.
pub(super) fn leave(call: &mut Call, core: &mut Core, turn: &mut Turn, by: u8) {
    let cleared = (Refusal::CallerHungUp, Refusal::CallerHungUp.q850());
    join::tell_over(call, core, by, cleared, join::Ender::Peer);
    release::close_leg_media(call, turn, by);
    let carried = call.carried.iter().find(|(leg, _)| *leg == by).map(|(_, attempt)| *attempt);
    if let Some(attempt) = carried.and_then(|at| call.cdr.attempts.get_mut(usize::from(at))) {
        attempt.end = Some(turn.now.into());
    }
    let Some(leg) = call.leg(by) else { return };
    (leg.timer, leg.offers) = (SessionTimer::default(), false);
    let trunk = leg.trunk;
    if let Some(at) = call.holds.iter().position(|held| *held == trunk) {
        call.holds.remove(at);
        admission::leave(&core.page, trunk);
    }
    if call.aftermath.leaving.is_none() {
        dismiss(call, core, turn, by);
    }
}

fn dismiss(call: &mut Call, core: &mut Core, turn: &mut Turn, by: u8) {
    call.aftermath.leaving = None;
    let Some(leg) = call.leg(by).filter(|leg| leg.phase != Phase::Over) else { return };
    leg.phase = Phase::Over;
    if let Some(invite) = leg.invite {
        // A re-INVITE it has only been trying: after the BYE nobody waits for it forever.
        core.abandon(turn, invite);
        if core.transactions.get(invite).is_some_and(|tx| tx.awaits_ack()) {
            leg.bye_owed = true;
            return;
        }
    }
    dismissed(call, core, turn, by);
}

/// The BYE of a side whose call goes on without it.
pub(super) fn dismissed(call: &mut Call, core: &mut Core, turn: &mut Turn, by: u8) {
    send::request(call, core, turn, by, Method::Bye, |print| {
        release::reason(print, Refusal::CallerHungUp.q850(), "transferred");
        print.finish();
    });
}

/// A request of ours was answered, or never will be: if it was the last NOTIFY, whoever got it may go.
pub(crate) fn concluded(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (key, is_heard): (Key, bool),
) {
    let told = subscription::concluded(call, core, turn, (key, is_heard));
    if let Some(by) = told.filter(|leg| call.aftermath.leaving == Some(*leg)) {
        dismiss(call, core, turn, by);
    }
}

/// A BYE of the side that asked: it trusts that the others find each other. Whether it was that.
pub(crate) fn hung_up(call: &mut Call, place: u8) -> bool {
    let is_by = call.transfer.as_ref().is_some_and(|transfer| transfer.by == place);
    if is_by && let Some(leg) = call.leg(place) {
        leg.timer = SessionTimer::default();
    }
    is_by
}

/// Tells whoever asked how it goes (RFC 3515 2.4.4). `goes_on`: this is not the end.
fn notify(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (status, reason): (u16, &[u8]),
    goes_on: bool,
) {
    let Some(transfer) = &mut call.transfer else { return };
    transfer.told = status;
    let by = transfer.by;
    subscription::tell(call, core, turn, (status, reason), goes_on);
    if !goes_on && status < 300 && !subscription::is_over(call) {
        call.aftermath.leaving = Some(by);
    }
}

/// Tells `place` what its new other side described: an offer of ours, as soon as one may be made.
fn tell(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    session: &crate::sdp::Session,
) {
    exchange::remember(call, place);
    let from = call.other(place).unwrap_or(call.near);
    if bridge::rewritten(call, core, turn, (from, place), session).is_some() {
        session::offer_again(call, core, turn, place);
    }
}

/// A side answered such an offer. The other side hears of it, if it is less than what it described.
pub(crate) fn agreed(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    session: &crate::sdp::Session,
) {
    if call.aftermath.readdressed == Some(place) {
        call.aftermath.readdressed = None;
    }
    if let Some((other, _)) = call.aftermath.next.take_if(|(next, _)| *next != place) {
        return tell(call, core, turn, other, session);
    }
    let is_transferred = call.carried.len() > 1 && call.aftermath.rounds < MAX_ROUNDS;
    let Some(other) = call.other(place).filter(|_| is_transferred) else { return };
    if bridge::differs(call, place, session) {
        call.aftermath.rounds += 1;
        tell(call, core, turn, other, session);
    }
}

/// A side refused such an offer: what was agreed with it before holds, and the other hears of that. A side
/// that does not know where its media is to go now cannot stay.
pub(crate) fn declined(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8) {
    if call.aftermath.readdressed == Some(place) {
        return release::release(call, core, turn, Refusal::NotAcceptable);
    }
    if let Some((other, said)) = call.aftermath.next.take_if(|(next, _)| *next != place)
        && let Ok(session) = bridge::acceptable(&said)
    {
        tell(call, core, turn, other, &session);
    }
}

/// The leg on whose behalf somebody is called now.
pub(crate) fn asker(call: &Call) -> u8 {
    call.transfer.as_ref().map_or(CALLER, |transfer| transfer.by)
}

/// The leg whose description whoever is called is offered.
pub(crate) fn describer(call: &Call) -> u8 {
    call.transfer.as_ref().map_or(CALLER, |transfer| transfer.stays)
}

/// Whether somebody is being called for a transfer, and this is its leg.
pub(crate) fn is_target(call: &Call, place: u8) -> bool {
    call.transfer.is_some() && branch::is_tried(call, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_on_hold_for_somebody_new() {
        let held = b"v=0\r\nm=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=inactive\r\n";
        let open = b"v=0\r\nm=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";
        assert_eq!(both_ways(held), open);
        assert_eq!(both_ways(open), open);
    }
}
