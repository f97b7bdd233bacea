//! The request that begins an errand: a decision, and candidates one after the other.

use super::{Errand, FAR, Means, NEAR, Side, UnderWay, begins_dialog, other};
use crate::call::setup::Arrival;
use crate::call::{hunt, invite};
use crate::core::{Core, Reply, Turn, dialog_request};
use crate::counters::NotPassed;
use crate::dialog::{Contact, Dialog, Tag};
use crate::identity;
use crate::message::{self, Index, Message, Name};
use crate::policy::decide::{Candidate, Decision, Facts, decide};
use crate::policy::manipulate::{self, Boundary};
use crate::policy::methods;
use crate::policy::{Image, realm};
use crate::question;
use crate::refusal::Refusal;
use crate::transaction::Owner;
use base::{Instant, Key, Slab};
use control::Event;
use std::time::Duration;

/// How long a subscription lives where nobody says so (RFC 6665 leaves it to packages; an hour is usual).
const EXPIRES_S: u32 = 3_600;
/// The longest we keep one that is not refreshed.
const LONGEST_S: u32 = 86_400;
/// After its time a subscription is kept for its last NOTIFY.
const GRACE: Duration = Duration::from_secs(32);

/// Takes a request outside calls that its trunk lists; or says why not.
pub(crate) fn begin(
    errands: &mut Slab<Errand>,
    core: &mut Core,
    turn: &mut Turn,
    at: Arrival,
    message: &Message,
) -> Result<Key, Refused> {
    let uri = message.request_uri().map_err(|_| Refused::Status(416))?;
    let mut buffer = [0; 64];
    let number: Box<[u8]> = uri.number(&mut buffer).unwrap_or_default().into();
    let peer = core.peer(turn, at.source);
    let trunk = realm::trunk_of(&core.image, at.port, &peer, &number, uri.host);
    let trunk = trunk.ok_or(Refused::Status(404))?;
    if invite::is_secure(message) && !core.face(at.port).transport.has_tls() {
        return Err(Refused::Status(Refusal::SipsOverPlain.status()));
    }
    may_leave(core, trunk, message)?;
    if number.is_empty() {
        return Err(Refused::Status(Refusal::BadNumber.status()));
    }
    let hops = message.max_forwards().ok().flatten().unwrap_or(70);
    if hops == 0 {
        return Err(Refused::Status(Refusal::TooManyHops.status()));
    }
    if core.draining {
        return Err(Refused::Status(Refusal::Draining.status()));
    }
    let cps = core.image.trunk(trunk).map_or(0, |trunk| trunk.cps);
    if errands.is_full() || !core.page.pace(Image::pace_word(trunk), cps, turn.now.mono) {
        return Err(Refused::Not(NotPassed::TooMany));
    }
    let dialog = near_dialog(core, at, message).ok_or(Refused::Status(400))?;
    let calling = message.from().ok().and_then(|f| f.read_uri().ok()).and_then(|u| u.user_name());
    let errand = Errand {
        home: at.home,
        key: Key::default(),
        near: Side { trunk, port: at.port, dialog },
        far: None,
        number,
        calling: calling.unwrap_or_default().into(),
        max_forwards: (hops - 1) as u8,
        candidates: Default::default(),
        stop_on: Vec::new(),
        awaited: None,
        under_way: Vec::new(),
        due: Instant::NEVER,
        timer: None,
        has_dialog: false,
        is_over: !message.method().is_some_and(begins_dialog),
    };
    let key = errands.insert(errand).map_err(|_| Refused::Not(NotPassed::TooMany))?;
    let owner = Owner { call: key, leg: NEAR };
    let served = core.serve(at.hash, Some(owner), (at.port, at.source), message);
    let (Some(served), Some(errand)) = (served, errands.get_mut(key)) else {
        errands.remove(key);
        return Err(Refused::Not(NotPassed::TooMany));
    };
    errand.key = key;
    errand.near.dialog.tag.call = key;
    let method = if errand.is_over { Means::Passes } else { Means::Subscribes };
    errand.under_way.push(UnderWay { from: NEAR, served, sent: None, method });
    core.counters.passed.add(1);
    route(errand, core, turn);
    Ok(key)
}

/// Why a request is not carried.
pub(crate) enum Refused {
    /// Its sender hears this.
    Status(u16),
    /// One of the counted reasons.
    Not(NotPassed),
}

/// Whether a trunk's requests of this kind are carried at all.
fn may_leave(core: &Core, trunk: u16, message: &Message) -> Result<(), Refused> {
    let Some(trunk) = core.image.trunk(trunk) else { return Err(Refused::Status(404)) };
    methods::may_cross(&[trunk], message).map_err(Refused::Not)
}

fn near_dialog(core: &mut Core, at: Arrival, message: &Message) -> Option<Dialog> {
    let (from, to) = (message.from().ok()?, message.to().ok()?);
    let contact = message.contact().ok()?;
    if contact.is_none() && message.method().is_some_and(begins_dialog) {
        return None;
    }
    let routes = message.record_routes().map(|route| route.map(|r| r.raw.into()));
    let tag = Tag {
        home: at.home.0,
        call: Key::default(),
        leg: NEAR,
        fork: 0,
        secret: core.random.next(),
    };
    Some(Dialog {
        call_id: message.call_id().into(),
        tag,
        local: to.bare(),
        remote: from.bare(),
        remote_tag: from.tag().unwrap_or_default().into(),
        target: contact.map_or(from.uri, |contact| contact.uri).into(),
        routes: routes.collect::<Result<_, _>>().ok()?,
        local_cseq: 0,
        remote_cseq: message.cseq().number,
        peer: at.source,
    })
}

/// Decides, from the top, and acts upon it.
pub(crate) fn route(errand: &mut Errand, core: &mut Core, turn: &mut Turn) {
    let facts = Facts {
        trunk: errand.near.trunk,
        number: &errand.number,
        calling: &errand.calling,
        told: None,
        now: turn.now,
        names: &core.names,
        ported: &core.ported,
        page: &core.page,
        standing: &core.standing,
        outages: &core.outages,
        draw: errand.near.dialog.tag.secret,
    };
    match decide(&core.image, &facts) {
        Decision::Route(way) => {
            errand.awaited = None;
            (errand.candidates, errand.stop_on) = (way.candidates.into(), way.stop_on);
            next(errand, core, turn, Refusal::RoutesExhausted.status());
        }
        Decision::Refuse(refusal) => refuse(errand, core, turn, refusal.status()),
        Decision::Need(question) => {
            core.counters.questions.add(1);
            let text = control::Text::from(&*question.to_string());
            turn.events.push(Event::Asked { question: text });
            errand.awaited = Some(question);
            errand.due = turn.now.mono + question::DEADLINE;
        }
    }
}

/// The request that began it ends here.
fn refuse(errand: &mut Errand, core: &mut Core, turn: &mut Turn, status: u16) {
    (errand.is_over, errand.due) = (true, Instant::NEVER);
    if let Some(first) = errand.under_way.pop() {
        core.respond(turn, first.served, Reply::plain(super::given_back(status), None), |_| {});
    }
}

/// Whether another candidate is tried upon a status.
pub(super) fn hunts(errand: &Errand, core: &Core, status: u16) -> bool {
    let trunk = errand.far.as_ref().and_then(|far| core.image.trunk(far.trunk));
    trunk.is_some_and(|trunk| trunk.hunt_on.contains(&status))
        && !errand.stop_on.contains(&status)
        && status < 600
}

/// Carries the request to the next candidate that takes its kind.
pub(super) fn next(errand: &mut Errand, core: &mut Core, turn: &mut Turn, otherwise: u16) {
    errand.due = Instant::NEVER;
    let Some(served) = errand.under_way.first().map(|first| first.served) else { return };
    let request = core.transactions.get(served).map(|tx| tx.request.clone()).unwrap_or_default();
    let mut index = Index::new();
    let Ok(message) = message::parse(&request, &mut index) else {
        return refuse(errand, core, turn, 500);
    };
    let mut all_plain = invite::is_secure(&message) && !errand.candidates.is_empty();
    while let Some(candidate) = errand.candidates.pop_front() {
        if invite::is_secure(&message) && !core.is_secure(candidate.trunk) {
            continue;
        }
        all_plain = false;
        if attempt(errand, core, turn, &candidate, &message).is_some() {
            return;
        }
    }
    let otherwise = if all_plain { Refusal::NoSecureRoute.status() } else { otherwise };
    refuse(errand, core, turn, otherwise);
}

fn attempt(
    errand: &mut Errand,
    core: &mut Core,
    turn: &mut Turn,
    candidate: &Candidate,
    message: &Message,
) -> Option<()> {
    if candidate.out {
        return None;
    }
    let image = core.image.clone();
    let boundary = Boundary::between(&image, errand.near.trunk, candidate.trunk)?;
    let trunk = boundary.far;
    let port = image.port_of(trunk)?;
    let method = message.method()?;
    may_leave(core, candidate.trunk, message).ok()?;
    if !core.permitted(port, candidate.endpoint) {
        return None;
    }
    let dialog = far_dialog(
        errand,
        core,
        candidate,
        (message, &boundary),
        core.face(port).sent_by.as_bytes(),
    );
    let (face, hops) = (core.face(port), errand.max_forwards);
    let owner = Owner { call: errand.key, leg: FAR };
    let peer = (port, candidate.endpoint);
    let sent = core.send_request(turn, (errand.home, owner), peer, method, |out, branch| {
        let first = (method, 1, trunk.profile.max_forwards.unwrap_or(hops));
        let mut print = dialog_request(out, &dialog, first, &face, branch);
        print.in_order(trunk.profile.header_order.as_ref());
        if begins_dialog(method) {
            let profile = &trunk.profile;
            Contact { face: &face, dialog: &dialog, profile }.print(&mut print);
            print.header(Name::Allow, trunk.methods.allow());
        }
        if !image.software.is_empty() {
            print.header(Name::UserAgent, image.software.as_bytes());
        }
        manipulate::pass_whole(message, &boundary, &mut print);
        identity::pass(message, &boundary, Some(&dialog.target), &mut print);
        let kind = message.content_type().filter(|_| !message.body().is_empty());
        print.body(kind, message.body());
    })?;
    errand.far = Some(Side { trunk: candidate.trunk, port, dialog });
    errand.under_way.first_mut()?.sent = Some(sent);
    if !errand.candidates.is_empty() {
        errand.due = turn.now.mono + trunk.trying_timeout;
    }
    Some(())
}

fn far_dialog(
    errand: &Errand,
    core: &mut Core,
    candidate: &Candidate,
    (message, boundary): (&Message, &Boundary),
    sent_by: &[u8],
) -> Dialog {
    let mut call_id = Vec::with_capacity(32);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    let target = invite::target(boundary.far, candidate, message);
    let secret = core.random.next();
    Dialog {
        call_id: call_id.into(),
        tag: Tag { home: errand.home.0, call: errand.key, leg: FAR, fork: 0, secret },
        local: identity::from(message, boundary, sent_by),
        remote: [b"<", &target[..], b">"].concat().into(),
        remote_tag: Box::default(),
        target: target.into(),
        routes: Vec::new(),
        local_cseq: 1,
        remote_cseq: 0,
        peer: candidate.endpoint,
    }
}

/// What a final response makes of the errand: a dialog, a longer life, or its end.
pub(super) fn settled(errand: &mut Errand, turn: &Turn, request: &UnderWay, message: &Message) {
    let status = message.status().map_or(500, |s| s.code());
    errand.candidates.clear();
    match request.method {
        Means::Ends => errand.is_over = true,
        Means::Passes => errand.is_over |= status == 481,
        Means::Subscribes if (200..300).contains(&status) => {
            if let Some(side) = errand.side_mut(other(request.from)) {
                if side.dialog.remote_tag.is_empty() {
                    hunt::learn_dialog(&mut side.dialog, message);
                } else {
                    side.dialog.refresh_target(message.contact().ok().flatten());
                }
            }
            errand.has_dialog = true;
            live(errand, turn, message.number(Name::Expires).ok().flatten());
        }
        // A refresh that fails leaves what there was to its time, but where there is nothing any more.
        Means::Subscribes => errand.is_over |= status == 481 || !errand.has_dialog,
    }
}

/// A subscription lives for so many seconds from now.
pub(super) fn live(errand: &mut Errand, turn: &Turn, expires_s: Option<u32>) {
    let seconds = expires_s.unwrap_or(EXPIRES_S).min(LONGEST_S);
    errand.due = turn.now.mono + Duration::from_secs(u64::from(seconds)) + GRACE;
}

/// Its time has come: the next candidate, a decision without an answer, or the end.
pub(crate) fn due(errand: &mut Errand, core: &mut Core, turn: &mut Turn) {
    if let Some(question) = errand.awaited.take() {
        core.counters.questions_late.add(1);
        core.give_up(question, turn.now.mono);
        errand.due = Instant::NEVER;
        return route(errand, core, turn);
    }
    if !errand.candidates.is_empty() {
        return next(errand, core, turn, 408);
    }
    (errand.is_over, errand.due) = (true, Instant::NEVER);
}
