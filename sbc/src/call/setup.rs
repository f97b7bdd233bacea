//! An INVITE that begins a call: checks, decision, first candidate.

use super::offer_answer::Negotiation;
use super::secure::{self, Said};
use super::{Call, Leg, body, bridge, hunt, ice, release, session, transfer};
use crate::billing::{Cdr, CdrId, Marks, Moment, Party};
use crate::core::{Core, Known, Reply, Turn, respond_stateless, unsupported};
use crate::dialog::session_timer::{LEAST_MIN_SE_S, SessionTimer};
use crate::dialog::{Dialog, Tag};
use crate::message::{Message, Name, Print, Scheme, Uri};
use crate::policy::decide::{self, Decision, Facts, decide_with};
use crate::policy::{admission, realm};
use crate::question::{self, Dip, Question};
use crate::refusal::Refusal;
use crate::sdp::Session;
use crate::transaction::Owner;
use base::{Home, Instant, Key, PortId, Slab};
use control::Event;
use control::Text;
use control::event::{CallId, CallState, CallView};
use std::net::SocketAddr;
use std::time::Duration;

/// The largest INVITE that begins a call; one that a call record cannot hold is carried without.
pub(crate) const MAX_INVITE: usize = 32_000;

/// Bytes of journal a call needs at most: start, answer, stop and a reserve of interims.
pub(crate) const JOURNAL_RESERVE: usize = 64 * 1024;

/// Where an INVITE came from and what matches it.
#[derive(Copy, Clone)]
pub(crate) struct Arrival {
    pub(crate) home: Home,
    pub(crate) port: PortId,
    pub(crate) source: SocketAddr,
    pub(crate) hash: u64,
    /// The call a sign on another shard says it is for.
    pub(crate) call: Option<Key>,
}

/// Takes an INVITE outside any dialog: a call begins, or is refused with a CDR.
pub(crate) fn invite(
    calls: &mut Slab<Box<Call>>,
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    message: &Message,
) -> Option<Key> {
    core.counters.calls.add(1);
    let checked = check(calls, core, turn, at, message);
    let passed = match checked {
        Ok(passed) => passed,
        Err((trunk, refusal)) => {
            refuse(core, turn, at, message, trunk, refusal);
            return None;
        }
    };
    let trunk = passed.trunk;
    match begin(calls, core, turn, at, message, passed) {
        Ok(key) => Some(key),
        Err(refusal) => {
            admission::leave(&core.page, trunk);
            refuse(core, turn, at, message, Some(trunk), refusal);
            None
        }
    }
}

/// An INVITE that nothing speaks against.
struct Passed<'m> {
    trunk: u16,
    /// The number it asks for.
    number: Box<[u8]>,
    /// What it offers.
    offer: Option<Session<'m>>,
}

type Checked<'m> = Result<Passed<'m>, (Option<u16>, Refusal)>;

/// Everything that can refuse a call before it exists; on success a place on the ingress trunk is held.
fn check<'m>(
    calls: &Slab<Box<Call>>,
    core: &Core,
    turn: &Turn,
    at: Arrival,
    message: &Message<'m>,
) -> Checked<'m> {
    let uri = message.request_uri();
    let number = uri.as_ref().ok().and_then(dialled);
    let host = uri.as_ref().map_or(&b""[..], |u| u.host);
    let digits = number.as_deref().unwrap_or(b"");
    let trunk = realm::trunk_of(&core.image, at.port, &core.peer(turn, at.source), digits, host);
    let refuse = |refusal| Err((trunk, refusal));
    if core.draining {
        return refuse(Refusal::Draining);
    }
    if message.bytes().len() > MAX_INVITE {
        return refuse(Refusal::TooLarge);
    }
    if message.max_forwards().is_ok_and(|m| m == Some(0)) {
        return refuse(Refusal::TooManyHops);
    }
    if unsupported(message, Known::on(&core.image, trunk)).next().is_some() {
        return refuse(Refusal::BadExtension);
    }
    if let Some(trunk) = trunk
        && too_short(core, trunk, message).is_some()
    {
        return refuse(Refusal::SessionTooShort);
    }
    match uri {
        Ok(uri) if matches!(uri.scheme, Scheme::Sip | Scheme::Tel) => {}
        Ok(uri) if uri.scheme == Scheme::Sips => {
            if !core.face(at.port).transport.has_tls() {
                return refuse(Refusal::SipsOverPlain);
            }
        }
        Ok(_) | Err(_) => return refuse(Refusal::BadScheme),
    }
    let (Some(number), Some(trunk)) = (number, trunk) else {
        return refuse(if trunk.is_none() { Refusal::NoRoute } else { Refusal::BadNumber });
    };
    let mut offer = None;
    if !message.body().is_empty() {
        let bodies = core.image.trunk(trunk).map(|t| &t.bodies);
        let is_barred = bodies.is_some_and(|bodies| body::is_barred(message, bodies));
        if body::is_strange(message) || is_barred {
            return refuse(Refusal::BadContentType);
        }
        let session = bridge::acceptable(body::sdp(message)).map_err(|r| (Some(trunk), r))?;
        bridge::permitted(core, (trunk, at.port), &session).map_err(|r| (Some(trunk), r))?;
        offer = Some(session);
    }
    if calls.is_full() {
        return refuse(Refusal::CallsFull);
    }
    if core.transactions.lacks_room(8) {
        return refuse(Refusal::TransactionsFull);
    }
    if turn.journal_room < JOURNAL_RESERVE {
        return refuse(Refusal::JournalFull);
    }
    admission::enter(&core.image, &core.page, trunk, turn.now.mono)
        .map_err(|r| (Some(trunk), r))?;
    Ok(Passed { trunk, number, offer })
}

/// The Min-SE of the 422 that refuses an INVITE (RFC 4028 9).
fn too_short(core: &Core, trunk: u16, message: &Message) -> Option<u32> {
    let knows = Leg::requires_timer(message);
    SessionTimer::default().asked(message, knows, &session::terms(core, trunk)).err()
}

/// What a Request-URI says about its number's porting, if its trunk is believed.
fn told_ported(core: &Core, trunk: u16, message: &Message) -> Option<Dip> {
    decide::told(core.image.trunk(trunk)?, &message.request_uri().ok()?)
}

/// The number a Request-URI asks for.
fn dialled(uri: &Uri) -> Option<Box<[u8]>> {
    let mut buffer = [0; 64];
    let number = uri.number(&mut buffer)?;
    (!number.is_empty()).then(|| number.into())
}

/// The number an INVITE asks for; empty where it asks for none.
pub(crate) fn dialled_in(message: &Message) -> Box<[u8]> {
    message.request_uri().ok().as_ref().and_then(dialled).unwrap_or_default()
}

/// The calling number, or whatever stands for it.
pub(super) fn calling(message: &Message) -> Box<[u8]> {
    let uri = message.from().ok().and_then(|f| Uri::parse(f.uri).ok());
    uri.and_then(|u| u.user_name()).unwrap_or_default().into()
}

fn new_cdr(
    core: &mut Core,
    turn: &Turn,
    at: Arrival,
    message: &Message,
    trunk: Option<u16>,
) -> Cdr {
    core.sequence += 1;
    let uri = message.request_uri().ok();
    let to = uri.as_ref().and_then(dialled).or_else(|| uri.and_then(|u| u.user.map(Into::into)));
    let name = |t: u16| core.image.trunk(t).map(|t| t.name.as_bytes().into());
    Cdr {
        id: CdrId { epoch: core.epoch, shard: core.shard.0, sequence: core.sequence },
        call: None,
        call_id_in: message.call_id().into(),
        call_id_out: Box::default(),
        from: calling(message),
        to: to.unwrap_or_default(),
        source: at.source,
        trunk_in: trunk.and_then(name).unwrap_or_default(),
        trunk_out: Box::default(),
        setup: turn.now.into(),
        ringing: None,
        answer: None,
        end: None,
        status: 0,
        q850: 0,
        reason: Box::default(),
        released_by: Party::Engine,
        taken: None,
        transferred_to: None,
        transfers: Vec::new(),
        why: Default::default(),
        attempts: Vec::new(),
        media: Default::default(),
        marks: Marks::default(),
    }
}

/// Refuses an INVITE that was to replace a side of a call.
pub(crate) fn refuse_replacing(
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    message: &Message,
    (trunk, refusal): (u16, Refusal),
) {
    core.counters.calls.add(1);
    refuse(core, turn, at, message, Some(trunk), refusal);
}

/// Refuses an INVITE that made no call: a response within a transaction if there is room, and a CDR.
fn refuse(
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    message: &Message,
    trunk: Option<u16>,
    refusal: Refusal,
) {
    core.counters.refusals.add(refusal.index());
    let mut cdr = new_cdr(core, turn, at, message, trunk);
    cdr.end = Some(turn.now.into());
    cdr.status = refusal.status();
    cdr.q850 = refusal.q850();
    cdr.reason = refusal.name().as_bytes().into();
    turn.events.push(Event::Call(refused_view(&cdr, at, trunk)));
    // The journal keeps a reserve beyond JOURNAL_RESERVE for what must be written in any case.
    core.journal(turn, Moment::Stop, &cdr);
    let tag = Tag {
        home: at.home.0,
        call: Key { index: u32::MAX, generation: 0 },
        leg: 0,
        fork: 0,
        // RFC 3261 8.2.7: the same for the same request, also without a transaction.
        secret: core.random.hash(&[b"tag", &at.hash.to_le_bytes()]),
    };
    let reply = Reply::plain(refusal.status(), Some(tag));
    match core.serve(at.hash, None, (at.port, at.source), message) {
        Some(key) => {
            let known = Known::on(&core.image, trunk);
            let min_se = trunk.and_then(|t| too_short(core, t, message));
            core.respond(turn, key, reply, |print| {
                explain(print, refusal, message, (known, min_se));
            });
        }
        None => respond_stateless(turn, (at.port, at.source), message, &reply, core),
    }
}

/// A call that never was, as the gate counts it.
fn refused_view(cdr: &Cdr, at: Arrival, trunk: Option<u16>) -> CallView {
    CallView {
        id: CallId { home: at.home.0, index: u32::MAX, generation: cdr.id.sequence as u32 },
        state: CallState::Ended,
        from: Text::from_bytes(&cdr.from),
        to: Text::from_bytes(&cdr.to),
        trunk_in: trunk.unwrap_or(u16::MAX),
        trunk_out: None,
        setup_at: cdr.setup.wall,
        answer_at: None,
        pdd_ms: None,
        status: cdr.status,
        reason: Text::from_bytes(&cdr.reason),
        mos_centi: [None; 2],
        packets: [0; 2],
        released: false,
    }
}

/// The headers that go with a refusal.
fn explain(
    print: &mut Print,
    refusal: Refusal,
    message: &Message,
    (known, min_se): (Known, Option<u32>),
) {
    if refusal == Refusal::SessionTooShort {
        print.line(Name::MinSe, |v| {
            v.u32(min_se.unwrap_or(LEAST_MIN_SE_S));
        });
    }
    if refusal == Refusal::BadExtension {
        unsupported(message, known).for_each(|option| {
            print.header(Name::Unsupported, option);
        });
    }
    if refusal == Refusal::BadContentType {
        print.header(Name::Accept, b"application/sdp");
    }
    release::reason(print, refusal.q850(), refusal.name());
}

fn begin(
    calls: &mut Slab<Box<Call>>,
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    message: &Message,
    Passed { trunk, number, offer }: Passed,
) -> Result<Key, Refusal> {
    let dialog = caller_dialog(core, at, message)?;
    let media = bridge::reserve(core, turn, at.port)?;
    let cdr = new_cdr(core, turn, at, message, Some(trunk));
    let draw = core.random.next();
    let mut leg = Leg::new(trunk, at.port, dialog, media, draw);
    leg.secure = secure::fresh(core, turn, trunk, at.port);
    leg.ice = ice::fresh(core, turn, trunk);
    // Most calls have two legs, and a leg is large.
    let mut legs = Vec::with_capacity(2);
    legs.push(leg);
    let call = Call {
        home: at.home,
        key: Key::default(),
        state: CallState::Deciding,
        legs,
        near: super::CALLER,
        carried: Vec::new(),
        transfer: None,
        subscription: None,
        replacing: None,
        aftermath: Default::default(),
        callee: None,
        branches: Vec::new(),
        candidates: Default::default(),
        awaited: None,
        draw,
        early: Vec::new(),
        told: Default::default(),
        held: Box::default(),
        exchange: None,
        stop_on: Vec::new(),
        passing: Vec::new(),
        contacts: Vec::new(),
        reason: Box::default(),
        number,
        told_ported: told_ported(core, trunk, message),
        max_forwards: message
            .max_forwards()
            .ok()
            .flatten()
            .map_or(70, |m| m.saturating_sub(1) as u8),
        holds: vec![trunk],
        question_deadline: Instant::NEVER,
        duration_deadline: Instant::NEVER,
        interim_deadline: Instant::NEVER,
        cdr,
        booked: false,
        timer: None,
        dirty: false,
        reported: None,
    };
    let Ok(key) = calls.insert(Box::new(call)) else {
        turn.media.release(media, turn.now.mono);
        return Err(Refusal::CallsFull);
    };
    let Some(call) = calls.get_mut(key) else { return Err(Refusal::InternalError) };
    call.key = key;
    call.cdr.call = Some((call.home.0, key));
    let owner = Some(Owner { call: key, leg: super::CALLER });
    let served = core.serve(at.hash, owner, (at.port, at.source), message);
    core.own(media, key, super::CALLER);
    if let Some(leg) = call.leg(super::CALLER) {
        leg.dialog.tag.call = key;
        (leg.invite, leg.invite_cseq) = (served, message.cseq().number);
        leg.asked = Negotiation::invited(!message.body().is_empty());
        leg.offer = leg.asked;
        leg.peer.learn(message);
        // It was not too short when it was checked.
        let _agreed = session::asked(leg, core, message);
    }
    if let Some(offer) = offer {
        // It was permitted when it was checked.
        let _programmed = bridge::program(call, core, turn, super::CALLER, (Said::Offer, &offer));
    }
    core.journal(turn, Moment::Start, &call.cdr);
    if let Some(invite) = served {
        core.respond(turn, invite, Reply::plain(100, None), |_| {});
    }
    route(call, core, turn);
    Ok(key)
}

pub(crate) fn caller_dialog(
    core: &mut Core,
    at: Arrival,
    message: &Message,
) -> Result<Dialog, Refusal> {
    let (Ok(from), Ok(to), Ok(Some(contact))) = (message.from(), message.to(), message.contact())
    else {
        return Err(Refusal::BadNumber);
    };
    let routes = message.record_routes().map(|r| r.map(|r| r.raw.into()));
    Ok(Dialog {
        call_id: message.call_id().into(),
        tag: Tag {
            home: at.home.0,
            call: Key::default(),
            leg: 0,
            fork: 0,
            secret: core.random.next(),
        },
        local: to.bare(),
        remote: from.bare(),
        remote_tag: from.tag().unwrap_or_default().into(),
        target: contact.uri.into(),
        routes: routes.collect::<Result<_, _>>().map_err(|_| Refusal::BadNumber)?,
        local_cseq: 0,
        remote_cseq: message.cseq().number,
        peer: at.source,
    })
}

/// Decides, from the top, and acts upon it.
pub(crate) fn route(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    if call.transfer.is_some() {
        return transfer::route(call, core, turn);
    }
    let facts = Facts {
        trunk: call.legs.first().map_or(0, |l| l.trunk),
        number: &call.number,
        calling: &call.cdr.from,
        told: call.told_ported,
        now: turn.now,
        names: &core.names,
        ported: &core.ported,
        page: &core.page,
        standing: &core.standing,
        outages: &core.outages,
        draw: call.draw,
    };
    core.heard.clear();
    let decision = decide_with(&core.image, &facts, &mut core.heard);
    if !matches!(decision, Decision::Need(_)) {
        call.cdr.why = core.heard.to_bytes(&core.image, turn.plain);
        turn.events.push(Event::Why { id: call.id(), record: call.cdr.why.clone() });
    }
    match decision {
        Decision::Route(way) => {
            call.state = CallState::Trying;
            call.awaited = None;
            call.question_deadline = Instant::NEVER;
            call.candidates = way.candidates.into();
            core.counters.stale_names.add(u64::from(way.stale));
            (call.stop_on, call.cdr.taken) = (way.stop_on, way.taken);
            hunt::next(call, core, turn, Refusal::RoutesExhausted);
        }
        Decision::Refuse(refusal) => release::fail(call, core, turn, refusal, refusal.status()),
        Decision::Need(question) => ask(call, core, turn, question),
    }
}

/// The decision waits for an answer.
pub(crate) fn ask(call: &mut Call, core: &mut Core, turn: &mut Turn, question: Question) {
    core.counters.questions.add(1);
    turn.events.push(Event::Asked { question: Text::from(&*question.to_string()) });
    core.waiting.push(call.key);
    call.awaited = Some(question);
    call.question_deadline = turn.now.mono + question::DEADLINE;
}

/// The answer did not come in time: silence is the answer.
pub(crate) fn answer_is_late(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    core.counters.questions_late.add(1);
    if let Some(question) = call.awaited.take() {
        core.give_up(question, turn.now.mono);
    }
    call.question_deadline = Instant::NEVER;
    route(call, core, turn);
}

/// How long after its first INVITE a merged copy is recognised (RFC 3261 8.2.2.2).
pub(crate) const MERGED_FOR: Duration = Duration::from_secs(32);
