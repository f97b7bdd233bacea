//! Reliability on either side (RFC 3262): our reliable responses to the caller and their PRACKs, and
//! our PRACKs to the callee.

use super::{find, resume};
use crate::call::offer_answer::{Carrier, Negotiation, Role};
use crate::call::secure::Said;
use crate::call::{CALLER, Call, answer, body, bridge, exchange, hunt, release, send};
use crate::core::{Core, Reply, Turn};
use crate::dialog::prack::RAck;
use crate::message::{Message, Method, Name};
use crate::refusal::Refusal;
use crate::sdp::Session;
use base::{Key, plain};

/// A reliable response of ours that no PRACK has confirmed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unconfirmed {
    /// What its PRACK will say.
    pub(crate) rack: RAck,
    /// It has a session description: the 2xx waits for the PRACK (RFC 3262 3).
    pub(crate) described: bool,
}

plain!(struct Unconfirmed { rack, described });

/// Passes a provisional response to the caller with a number, to be repeated until its PRACK.
pub(super) fn tell_reliably(
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
pub(super) fn confirm(
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
        core.pracked(turn, invite);
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
    if let Err(why) = bridge::program(call, core, turn, CALLER, (Said::Answer, &session)) {
        return hunt::give_up(call, core, turn, callee, why);
    }
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
    let fits = |s: &Session, callee| bridge::fits(call, core, (place, callee), s).is_ok();
    let session = session.filter(|s| bridge::is_offer(s));
    let session = session.filter(|s| owed.as_ref().is_none_or(|(callee, _)| fits(s, *callee)));
    let (Some((callee, rack)), Some(session)) = (owed, session) else {
        // The confirmation counts; the session stays as it is.
        core.respond(turn, served, Reply::plain(488, None), |_| {});
        owed.and_then(|owed| confirm(call, core, turn, owed, None));
        return;
    };
    exchange::remember(call, callee);
    let sdp = bridge::rewritten(call, core, turn, (place, callee), &session);
    let sent = confirm(call, core, turn, (callee, rack), sdp.as_deref());
    exchange::begun(call, core, turn, (place, callee), served, sent, true);
}

/// Nobody confirmed a reliable response in time: the INVITE is refused (RFC 3262 3).
pub(crate) fn unconfirmed(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    release::release(call, core, turn, Refusal::NoPrack);
}
