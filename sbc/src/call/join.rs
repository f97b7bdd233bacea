//! Attended transfers between dialogs of ours (RFC 3891, RFC 5589 7): a REFER whose Replaces names a dialog
//! of another call.
//!
//! The leg opposite that dialog becomes a leg of the call that was asked, with all it is. Its old call
//! stays: as a sign that sends on what is said in the leg's dialog, and with its CDR, since who pays for the
//! leg and what it costs does not change. It ends with the leg. The two calls may be on two shards: what
//! they say to each other are letters, also where both are on one.
//!
//! A leg that stays on its shard keeps its media endpoint. One that comes from another shard gets a new
//! one, and hears of it in the re-INVITE that tells it what its new other side described. The asking
//! side leaves both calls only when the leg has arrived; what cannot be joined goes back.

use super::{Call, Leg, MAX_LEGS, Phase, Whereabouts, bridge, release, secure, transfer};
use crate::billing::{Attempt, CdrId, Party};
use crate::core::{Core, Turn};
use crate::dialog::Tag;
use crate::dialog::replaces::{Named, Replaces};
use crate::dialog::session_timer::SessionTimer;
use crate::question::DEADLINE;
use crate::refusal::Refusal;
use base::{Home, Instant};
use control::event::CallState;

/// A letter from one call to another.
#[derive(Debug)]
pub struct Move {
    pub(crate) to: Whereabouts,
    pub(crate) what: What,
}

impl Move {
    /// The home of the call it is for.
    pub fn home(&self) -> Home {
        Home(self.to.home)
    }
}

#[derive(Debug)]
pub(crate) enum What {
    /// A call asks for the leg opposite the dialog that this names. `refer` tells its transfers apart.
    Asked { by: Whereabouts, refer: u32, replaces: Replaces },
    /// Here it is.
    Given(Box<Given>),
    /// There is none, and why.
    Denied { refer: u32, status: u16 },
    /// It has arrived, in the call with this CDR.
    Taken { tag: Tag, cdr: CdrId },
    /// It could not be joined.
    Back(Box<Given>),
    /// It is over.
    Over { tag: Tag, why: Refusal, q850: u8, by: Ender },
    /// Nothing is to be sent on to it any more.
    Gone(Tag),
    /// The call it came from was ended: so is it.
    End { tag: Tag, why: Refusal },
    /// A CANCEL of this Call-ID is for this call: its INVITE was, though its Call-ID has another home.
    Cancels { call_id: Box<[u8]>, at: Whereabouts },
}

/// Who ended a leg.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ender {
    /// Its peer.
    Peer,
    /// The other side.
    Other,
    /// We did.
    Engine,
}

/// A leg on its way.
#[derive(Debug)]
pub(crate) struct Given {
    from: Whereabouts,
    refer: u32,
    /// With its media endpoint, if that is on the same shard.
    leg: Leg,
    number: Box<[u8]>,
    /// What it described last.
    described: Vec<u8>,
    /// The CDR of its call.
    cdr: CdrId,
}

impl Given {
    /// The call it comes from.
    pub(crate) fn from(&self) -> Whereabouts {
        self.from
    }
}

// ---- the call that asks ----

/// Asks for the leg that a transfer names.
pub(crate) fn ask(call: &mut Call, core: &mut Core, turn: &Turn) {
    let Some(transfer) = &call.transfer else { return };
    let Some(replaces) = transfer.replaces.clone() else { return };
    let Some(named) = replaces.named() else { return };
    let to = Whereabouts { home: named.tag().home, call: named.tag().call };
    let what = What::Asked { by: call.whereabouts(), refer: transfer.refer, replaces };
    core.moves.push_back(Move { to, what });
    call.question_deadline = turn.now.mono + DEADLINE;
}

/// The leg has come; `Err` when there is no use for it any more.
pub(crate) fn given(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    mut given: Box<Given>,
) -> Result<(), Box<Given>> {
    let Some(transfer) = call.transfer.as_ref().filter(|t| t.refer == given.refer) else {
        return Err(given);
    };
    let (by, stays) = (transfer.by, transfer.stays);
    let described = call.legs.get(usize::from(by)).map(|leg| transfer::both_ways(&leg.said));
    let is_readdressed = given.leg.media.is_none();
    if is_readdressed {
        given.leg.media = bridge::reserve(core, turn, given.leg.port).ok();
    }
    let Some(end) = given.leg.media.filter(|_| call.legs.len() < MAX_LEGS) else {
        transfer::refused(call, core, turn, Refusal::NoMediaPort.status());
        return Err(given);
    };
    let Given { from, mut leg, number, described: its_own, cdr, .. } = *given;
    let (tag, trunk) = (leg.dialog.tag, leg.trunk);
    let place = call.legs.len() as u8;
    core.own(end, call.key, place);
    leg.aside.streams.iter().for_each(|stream| core.own(stream.media, call.key, place));
    if is_readdressed && leg.secure.is_agreed() {
        // Its keys have protected packets of another endpoint: it is to choose anew.
        (leg.plan, leg.secure) = (None, secure::fresh(core, turn, trunk, leg.port));
    } else if is_readdressed {
        bridge::apply(&mut leg, turn);
    }
    call.holds.push(trunk);
    note(call, core, turn, (place, &leg), number, cdr);
    call.legs.push(leg);
    call.question_deadline = Instant::NEVER;
    transfer::succeed(call, core, turn, place, 200);
    let described = described.unwrap_or_default().into();
    call.aftermath.join((place, described), (stays, its_own.into()), is_readdressed);
    transfer::resume(call, core, turn);
    core.moves.push_back(Move { to: from, what: What::Taken { tag, cdr: call.cdr.id } });
    Ok(())
}

/// The leg in the CDR: what it is bought at is in that of its own call.
fn note(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    (place, leg): (u8, &Leg),
    number: Box<[u8]>,
    cdr: CdrId,
) {
    if let Some(record) = call.cdr.transfers.last_mut() {
        record.joined = Some(cdr);
        record.call_id = leg.dialog.call_id.clone();
        record.number = number.clone();
    }
    enter(call, core, turn, (place, leg), number);
}

/// A leg that was not called for this call, among those that were.
pub(crate) fn enter(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    (place, leg): (u8, &Leg),
    number: Box<[u8]>,
) {
    call.carried.push((place, call.cdr.attempts.len() as u8));
    call.cdr.attempts.push(Attempt {
        trunk: core.image.trunk(leg.trunk).map(|t| t.name.as_bytes().into()).unwrap_or_default(),
        endpoint: leg.dialog.peer,
        number,
        at: turn.now.into(),
        answer: Some(turn.now.into()),
        end: None,
        status: 200,
        reason: Box::default(),
        buy: None,
    });
}

/// There is no such leg.
pub(crate) fn denied(call: &mut Call, core: &mut Core, turn: &mut Turn, refer: u32, status: u16) {
    if call.transfer.as_ref().is_some_and(|transfer| transfer.refer == refer) {
        call.question_deadline = Instant::NEVER;
        transfer::refused(call, core, turn, status);
    }
}

/// A leg is over: if it came from another call, that one hears so.
pub(crate) fn tell_over(
    call: &Call,
    core: &mut Core,
    place: u8,
    (why, q850): (Refusal, u8),
    by: Ender,
) {
    let Some(leg) = call.legs.get(usize::from(place)) else { return };
    if let Some(to) = leg.origin {
        let tag = leg.dialog.tag;
        core.moves.push_back(Move { to, what: What::Over { tag, why, q850, by } });
    }
}

/// The call is gone, and its legs that came from others with it.
pub(crate) fn tell_gone(call: &Call, core: &mut Core) {
    for leg in &call.legs {
        if let Some(to) = leg.origin {
            core.moves.push_back(Move { to, what: What::Gone(leg.dialog.tag) });
        }
    }
}

/// The call that a leg came from was ended.
pub(crate) fn end(call: &mut Call, core: &mut Core, turn: &mut Turn, tag: Tag, why: Refusal) {
    let place = call.place_of(tag);
    let leg = place.and_then(|place| call.leg(place));
    if leg.is_some_and(|leg| leg.phase == Phase::Confirmed) {
        release::release(call, core, turn, why);
    }
}

// ---- the call that is asked ----

/// Gives a leg away, or says why not (RFC 3891 3). `place` has the dialog that was named.
pub(crate) fn give(
    call: &mut Call,
    core: &Core,
    place: u8,
    (to, refer, replaces): (Whereabouts, u32, &Replaces),
    same_shard: bool,
) -> Result<Box<Given>, u16> {
    let named = replaces.named().ok_or(481u16)?;
    let leg = call.legs.get(usize::from(place)).ok_or(481u16)?;
    let (going, leaving) = match named {
        Named::Replaced(_) => (call.other(place).ok_or(481u16)?, place),
        Named::Staying(_) => (place, call.other(place).ok_or(481u16)?),
    };
    if !is_named(leg, replaces) || call.whereabouts() == to {
        return Err(481);
    }
    may_replace(call, replaces)?;
    if !is_idle(call, core, going, leaving) {
        return Err(491);
    }
    let given = Given {
        from: call.whereabouts(),
        refer,
        number: number_of(call, going),
        described: transfer::both_ways(&call.legs[usize::from(leaving)].said),
        cdr: call.cdr.id,
        leg: call.legs[usize::from(going)].clone(),
    };
    let Some(leg) = call.leg(going) else { return Err(481) };
    (leg.phase, leg.sign, leg.timer) = (Phase::Moved, Some(to), SessionTimer::default());
    let media = if same_shard { leg.media.take() } else { None };
    let mut aside = given.leg.aside.clone();
    // Where its media goes is not what this call said any more.
    aside.direct = false;
    if same_shard {
        leg.aside.streams.clear();
    } else {
        aside.streams.clear();
    }
    let leg = Leg {
        media,
        aside,
        invite: None,
        others: Vec::new(),
        sign: None,
        origin: Some(given.from),
        ..given.leg
    };
    Ok(Box::new(Given { leg, ..given }))
}

/// Whether a Replaces names this dialog of ours.
pub(crate) fn is_named(leg: &Leg, replaces: &Replaces) -> bool {
    let theirs = match replaces.named() {
        Some(Named::Replaced(_)) => &replaces.from_tag,
        Some(Named::Staying(_)) => &replaces.to_tag,
        None => return false,
    };
    *leg.dialog.call_id == *replaces.call_id && *leg.dialog.remote_tag == **theirs
}

/// Whether the state of a call lets one of its sides be replaced (RFC 3891 3). Of dialogs that ring none is:
/// the caller's was not begun by us, and the callee's has not been answered.
pub(crate) fn may_replace(call: &Call, replaces: &Replaces) -> Result<(), u16> {
    match call.state {
        CallState::Ended => Err(603),
        CallState::Deciding | CallState::Trying | CallState::Ringing => Err(481),
        CallState::Answered if replaces.early_only => Err(486),
        CallState::Answered => Ok(()),
    }
}

/// Whether nothing is under way on two legs.
fn is_idle(call: &Call, core: &Core, going: u8, leaving: u8) -> bool {
    let is_up = |place: u8| {
        call.legs.get(usize::from(place)).is_some_and(|leg| leg.phase == Phase::Confirmed)
    };
    let is_quiet = call.legs.get(usize::from(going)).is_some_and(|leg| {
        leg.offer.is_stable()
            && leg.refresh.is_none()
            && !leg.offers
            && !leg.others.iter().any(|key| core.is_open(*key))
            && !leg.invite.is_some_and(|key| core.is_open(key))
    });
    let under_way = call.transfer.is_some() || call.replacing.is_some() || call.exchange.is_some();
    is_up(going) && is_up(leaving) && is_quiet && !under_way && call.passing.is_empty()
}

/// The number behind a leg.
fn number_of(call: &Call, place: u8) -> Box<[u8]> {
    let carried = call.carried.iter().find(|(leg, _)| *leg == place);
    let attempt = carried.and_then(|(_, at)| call.cdr.attempts.get(usize::from(*at)));
    attempt.map_or_else(|| call.cdr.from.clone(), |attempt| attempt.number.clone())
}

/// The leg has arrived where it was wanted: who was on its other side leaves.
pub(crate) fn taken(call: &mut Call, core: &mut Core, turn: &mut Turn, tag: Tag, cdr: CdrId) {
    let Some(going) = call.place_of(tag).filter(|_| !call.has_ended()) else { return };
    let Some(leaving) = call.other(going) else { return };
    call.cdr.transferred_to = Some(cdr);
    release::close_leg_media(call, turn, going);
    let trunk = call.legs.get(usize::from(going)).map(|leg| leg.trunk);
    if let Some(at) = call.holds.iter().position(|held| Some(*held) == trunk) {
        // The place on its trunk went with it.
        call.holds.remove(at);
    }
    (call.near, call.callee) = (going, None);
    call.duration_deadline = Instant::NEVER;
    transfer::leave(call, core, turn, leaving);
}

/// It could not be joined: all is as it was, unless who was on the other side has gone meanwhile.
pub(crate) fn back(call: &mut Call, core: &mut Core, turn: &mut Turn, given: Given) {
    let Some(place) = call.place_of(given.leg.dialog.tag) else { return };
    let Given { leg, .. } = given;
    let key = call.key;
    let Some(old) = call.leg(place) else { return };
    (old.phase, old.sign, old.timer) = (Phase::Confirmed, None, leg.timer);
    if let Some(end) = leg.media {
        old.media = Some(end);
        core.own(end, key, place);
        old.aside = leg.aside;
        old.aside.streams.iter().for_each(|stream| core.own(stream.media, key, place));
    }
    let other = call.other(place).and_then(|other| call.legs.get(usize::from(other)));
    let is_alone = other.is_none_or(|other| other.phase == Phase::Over);
    if call.has_ended() {
        release::close_leg_media(call, turn, place);
        release::end_leg(call, core, turn, place, Refusal::TransferFailed);
    } else if is_alone {
        release::release(call, core, turn, Refusal::TransferFailed);
    }
}

/// The leg is over, and so is the call: all that was left of it was to be paid.
pub(crate) fn over(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    tag: Tag,
    (why, q850, by): (Refusal, u8, Ender),
) {
    let Some(place) = call.place_of(tag) else { return };
    if let Some(leg) = call.leg(place) {
        leg.phase = Phase::Over;
    }
    let (own, other) = match place {
        super::CALLER => (Party::Caller, Party::Callee),
        _ => (Party::Callee, Party::Caller),
    };
    let party = match by {
        Ender::Peer => own,
        Ender::Other => other,
        Ender::Engine => Party::Engine,
    };
    let why = match (why, party) {
        (Refusal::CallerHungUp | Refusal::CalleeHungUp, Party::Caller) => Refusal::CallerHungUp,
        (Refusal::CallerHungUp | Refusal::CalleeHungUp, Party::Callee) => Refusal::CalleeHungUp,
        (why, _) => why,
    };
    release::finish(call, core, turn, party, why, q850);
}

/// Nothing more is to be sent on.
pub(crate) fn gone(call: &mut Call, tag: Tag) {
    if let Some(leg) = call.place_of(tag).and_then(|place| call.leg(place)) {
        leg.sign = None;
    }
}

/// The call of a leg that has moved ends while the leg goes on.
pub(crate) fn tell_end(call: &Call, core: &mut Core, place: u8, why: Refusal) {
    let Some(leg) = call.legs.get(usize::from(place)) else { return };
    if let Some(to) = leg.sign {
        core.moves.push_back(Move { to, what: What::End { tag: leg.dialog.tag, why } });
    }
}

/// The process has died: nobody sends anything on, and a leg that had not arrived yet is still here.
pub(crate) fn forget_signs(call: &mut Call) {
    let was_on_its_way = call.callee.is_some();
    for leg in &mut call.legs {
        if leg.phase == Phase::Moved {
            leg.phase = if was_on_its_way { Phase::Confirmed } else { Phase::Over };
        }
        (leg.sign, leg.origin) = (None, None);
    }
}
