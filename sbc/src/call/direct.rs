//! Media that goes from one peer to the other, past us: each side is told where the other itself listens.
//!
//! It is decided when a callee is offered what the caller offered, by both trunks (`policy::MediaRelease`) and by
//! what is offered: speech over plain RTP, alone, at an address that may be told. From then on descriptions are
//! rewritten as ever, but for the address. Endpoints are kept until the answer, for routes that want them,
//! and then given back. An offer of which that cannot be said any more, a transfer, somebody who takes a side's
//! place, or an operator brings media back to us: endpoints are taken again, and the sides are told (`anchor`).

use super::{CALLER, Call, Leg, Phase, bridge, transfer};
use crate::core::{Core, Turn};
use crate::policy::MediaRelease;
use crate::refusal::Refusal;
use crate::sdp::{self, Kind, Media, Protocol, Session};
use control::event::CallState;
use std::net::SocketAddr;

/// Where a side listens for RTP and RTCP.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Whether `to` is to be told `from`'s own addresses with this offer: which they are.
pub(super) fn of_offer(
    call: &Call,
    core: &Core,
    (from, to): (u8, u8),
    session: &Session,
) -> Option<Ends> {
    let (near, far) = (leg(call, from)?, leg(call, to)?);
    let goes_on = near.aside.direct && far.aside.direct;
    (goes_on || may_begin(call, core, (from, to))).then_some(())?;
    told(core, far, session)
}

/// The same for an answer, to an offer that named `to`'s own.
pub(super) fn of_answer(
    call: &Call,
    core: &Core,
    (from, to): (u8, u8),
    session: &Session,
) -> Option<Ends> {
    leg(call, from).filter(|leg| leg.aside.direct)?;
    told(core, leg(call, to)?, session)
}

/// Whether the caller's offer to a callee may begin it.
fn may_begin(call: &Call, core: &Core, (from, to): (u8, u8)) -> bool {
    let trunk = |place: u8| leg(call, place).and_then(|leg| core.image.trunk(leg.trunk));
    let (Some(near), Some(far)) = (trunk(from), trunk(to)) else { return false };
    // Of most calls there is no more to be asked.
    if near.media_release == MediaRelease::Never || far.media_release == MediaRelease::Never {
        return false;
    }
    let is_first = from == CALLER && leg(call, to).is_some_and(|leg| leg.phase == Phase::Trying);
    // Of several that are asked at once each would be told something else, and the caller one thing.
    let is_alone = call.branches.iter().all(|branch| branch.leg == to)
        && call.candidates.front().is_none_or(|next| !next.beside);
    is_first
        && is_alone
        && call.transfer.is_none()
        && call.state != CallState::Answered
        && MediaRelease::permits(near, far)
}

/// What of a description may be told to a side as it is: where its one line of speech listens.
fn told(core: &Core, to: &Leg, session: &Session) -> Option<Ends> {
    let mut open = session.media().iter().filter(|line| !line.is_refused());
    let line = open.next().filter(|line| is_plain(line))?;
    let rtp = line.rtp().filter(|rtp| core.permitted(to.port, *rtp))?;
    let next = rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port));
    let rtcp = line.rtcp().filter(|rtcp| core.permitted(to.port, *rtcp)).or(next)?;
    open.next().is_none().then_some((rtp, rtcp))
}

fn is_plain(line: &Media) -> bool {
    line.kind == Kind::Audio && matches!(line.protocol, Protocol::RtpAvp | Protocol::RtpAvpf)
}

fn leg(call: &Call, place: u8) -> Option<&Leg> {
    call.legs.get(usize::from(place))
}

/// Whether the sides of a call were last told of each other.
pub(super) fn is_direct(call: &Call) -> bool {
    let is_it = |place: u8| leg(call, place).is_some_and(|leg| leg.aside.direct);
    is_it(call.near) && call.callee.is_some_and(is_it)
}

/// The call is answered: endpoints that nothing will come to are given back.
pub(super) fn give_back(call: &mut Call, core: &Core, turn: &mut Turn) {
    let Some(callee) = call.callee.filter(|_| is_direct(call)) else { return };
    if !call.cdr.marks.released {
        call.cdr.marks.released = true;
        core.counters.media_released.add(1);
    }
    for place in [call.near, callee] {
        if let Some(end) = call.leg(place).and_then(|leg| leg.media.take()) {
            turn.media.release(end, turn.now.mono);
        }
    }
}

/// Media of these legs comes to us: endpoints are there, or are taken. Whether that could be done: what is over
/// takes none.
pub(super) fn take(call: &mut Call, core: &mut Core, turn: &mut Turn, places: [u8; 2]) -> bool {
    let (key, has_ended) = (call.key, call.has_ended());
    let mut is_new = false;
    for place in places {
        let Some(leg) = call.leg(place) else { return false };
        if leg.media.is_none() && (has_ended || leg.phase == Phase::Over) {
            return false;
        }
        leg.aside.direct = false;
        if leg.media.is_some() {
            continue;
        }
        let Ok(end) = bridge::reserve(core, turn, leg.port) else { return false };
        leg.media = Some(end);
        core.own(end, key, place);
        bridge::apply(leg, turn);
        is_new = true;
    }
    if is_new {
        core.counters.media_anchored.add(1);
        bridge::join(call, core, turn);
        // Who watches is told.
        call.reported = None;
    }
    true
}

/// Brings the media of an answered call back to us: both sides are offered our addresses, one after the other.
pub(crate) fn anchor(call: &mut Call, core: &mut Core, turn: &mut Turn) -> Result<(), Refusal> {
    let Some(callee) = call.callee.filter(|_| is_direct(call)) else { return Ok(()) };
    if call.state != CallState::Answered || transfer::is_busy(call) {
        return Err(Refusal::ReplacesPending);
    }
    let said = |place: u8| leg(call, place).map(|leg| leg.said.clone()).unwrap_or_default();
    let (near, sides) = (call.near, [said(call.near), said(callee)]);
    if !take(call, core, turn, [near, callee]) {
        return Err(Refusal::NoMediaPort);
    }
    let [to_near, to_callee] = sides;
    transfer::tell_both(call, core, turn, (near, to_near), (callee, to_callee));
    Ok(())
}

/// An offer for which media was to come back to us was refused: what the sides were told before holds.
pub(super) fn refused(call: &mut Call, core: &Core, turn: &mut Turn) {
    let Some(callee) = call.callee.filter(|_| call.cdr.marks.released) else { return };
    for place in [call.near, callee] {
        let Some(leg) = call.leg(place) else { return };
        let told = sdp::parse(&leg.said).ok().and_then(|said| said.media().first()?.rtp());
        let ours = leg.media.and_then(|end| turn.media.local(end)).map(|local| local.rtp.port());
        let interface = core.image.interface_of(leg.port);
        let is_ours = told.is_some_and(|told| {
            Some(told.port()) == ours && interface.is_some_and(|i| i.advertise == told.ip())
        });
        leg.aside.direct = told.is_some() && !is_ours;
    }
    give_back(call, core, turn);
}
