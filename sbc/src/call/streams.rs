//! Further media lines of a call: video, real-time text (RFC 4103) and others over RTP, beside the one that
//! every call has.
//!
//! Each has a place in the descriptions, the same on both sides, and an endpoint on each leg. It is there for
//! as long as both sides have it open, protected as the trunk of each wants; what concerns speech (digits,
//! codecs, quality) is not for it. A call without such lines pays one byte of its record for them, which it
//! paid before.
//!
//! A protected line goes on as one stream of ours, so what sends again in a stream of its own (RFC 4588) is
//! not offered. Where a leg has ICE, a line of its own would need checks of its own, and has none: it is
//! refused.

use super::secure::{self, Said, Secure};
use super::{Call, Leg, bridge};
use crate::core::{Core, Turn, allow};
use crate::policy::Trunk;
use crate::policy::kinds::Kinds;
use crate::policy::security::Srtp;
use crate::refusal::Refusal;
use crate::sdp::{Local, Media, Protocol, Session};
use base::record::{Plain, Unreadable};
use base::{Key, plain};
use media::{Carries, Learn, Plan};
use std::net::{IpAddr, SocketAddr};

/// The most of a leg: each has ports of its own.
const MOST: usize = 3;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Its place among the media lines.
    at: u8,
    /// The endpoint facing the leg.
    pub(crate) media: Key,
    /// What the leg said of it last.
    plan: Option<Plan>,
    /// What protects it.
    secure: Secure,
}

plain!(struct Stream { at, media, plan, secure });

/// What few legs have: it is written in one byte for all others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside {
    /// It hears nothing and is not heard, whatever its description says: it has not answered.
    pub(crate) muted: bool,
    /// It was told last where the other side itself listens.
    pub(crate) direct: bool,
    /// What it sends is copied for whoever captures its call. Not written: after a start nobody does.
    pub(crate) tapped: bool,
    /// Its further media lines.
    pub(crate) streams: Vec<Stream>,
}

impl Plain for Aside {
    fn put(&self, out: &mut Vec<u8>) {
        let flags = u8::from(self.muted) | (self.streams.len() as u8) << 1;
        (flags | u8::from(self.direct) << 7).put(out);
        self.streams.iter().for_each(|stream| stream.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let flags = u8::take(from)?;
        let count = usize::from(flags >> 1 & 0x3f);
        if count > MOST {
            return Err(Unreadable::Value);
        }
        let streams = (0..count).map(|_| Stream::take(from)).collect::<Result<_, _>>()?;
        let (muted, direct) = (flags & 1 != 0, flags >> 7 != 0);
        Ok(Aside { muted, direct, tapped: false, streams })
    }
}

/// What a leg adds to the plans of all its endpoints.
#[derive(Copy, Clone)]
pub(super) struct Terms {
    muted: bool,
    tapped: bool,
}

impl Aside {
    pub(super) fn terms(&self) -> Terms {
        Terms { muted: self.muted, tapped: self.tapped }
    }
}

impl Terms {
    pub(super) fn put_upon(self, plan: &Plan) -> Plan {
        let (send, receive) = (plan.send && !self.muted, plan.receive && !self.muted);
        Plan { send, receive, tap: self.tapped, ..plan.clone() }
    }
}

/// Whether a line can be relayed beside another: it is open, and RTP.
pub(crate) fn is_relayed(line: &Media, kinds: Kinds) -> bool {
    let is_rtp = match line.protocol {
        Protocol::RtpAvp | Protocol::RtpAvpf | Protocol::RtpSavp | Protocol::RtpSavpf => true,
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => true,
        Protocol::UdpTl | Protocol::Other(_) => false,
    };
    is_rtp && !line.is_refused() && kinds.has(line.kind)
}

/// Whether `from`'s offered line is protected as its trunk wants, and `to` may be offered what its own wants.
fn suits(
    call: &Call,
    core: &Core,
    (from, to): (u8, u8),
    at: usize,
    (session, line): (&Session, &Media),
) -> bool {
    let leg = |place: u8| {
        let leg = call.legs.get(usize::from(place))?;
        Some((leg, core.image.trunk(leg.trunk)?))
    };
    let (Some((near, _)), Some((far, trunk))) = (leg(from), leg(to)) else { return false };
    let is_protected = |trunk: &Trunk| trunk.media_security.srtp != Srtp::Off;
    // Who has ICE has it for every line, or for none.
    let has_ice = near.ice.is_used() || trunk.ice;
    if has_ice && (secure::is_secure(line.protocol) || is_protected(trunk)) {
        return false;
    }
    let known = near.aside.streams.iter().find(|stream| usize::from(stream.at) == at);
    let fresh = Secure::default();
    let secure = known.map_or(&fresh, |stream| &stream.secure);
    let judged = secure::judge(core, (near.trunk, near.port), secure, (session, line), Said::Offer);
    judged.is_ok() && secure::may_offer(&far.secure, &trunk.media_security).is_ok()
}

/// Takes endpoints, on both sides, for the lines of `from`'s offer that `to` is to be offered as well. One
/// that there is no port for is not offered.
pub(crate) fn prepare(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    (main, session): (Option<usize>, &Session),
) {
    if session.media().len() < 2 {
        return;
    }
    let kinds = bridge::kinds(call, core, from).and(bridge::kinds(call, core, to));
    for (at, line) in session.media().iter().enumerate() {
        if Some(at) == main
            || line.kind == crate::sdp::Kind::Audio
            || !is_relayed(line, kinds)
            || !suits(call, core, (from, to), at, (session, line))
        {
            continue;
        }
        let (Some(near), Some(far)) =
            (reserve(call, core, turn, from, at), reserve(call, core, turn, to, at))
        else {
            continue;
        };
        turn.media.join(near, far);
        // What suits is taken.
        let _taken = program(call, core, turn, (from, at), (session, line), Said::Offer);
    }
}

/// The endpoint of a leg for a line, taken if there is none.
fn reserve(call: &mut Call, core: &mut Core, turn: &mut Turn, place: u8, at: usize) -> Option<Key> {
    let key = call.key;
    let leg = call.leg(place)?;
    if let Some(stream) = leg.aside.streams.iter().find(|stream| usize::from(stream.at) == at) {
        return Some(stream.media);
    }
    if leg.aside.streams.len() >= MOST {
        return None;
    }
    let media = bridge::reserve(core, turn, leg.port).ok()?;
    core.own(media, key, place);
    let secure = secure::fresh(core, turn, leg.trunk, leg.port);
    leg.aside.streams.push(Stream { at: at as u8, media, plan: None, secure });
    Some(media)
}

/// What a leg says of its further lines: plans for those that are open, and the end of those that are not.
pub(crate) fn said(
    call: &mut Call,
    core: &Core,
    turn: &mut Turn,
    place: u8,
    (said, session): (Said, &Session),
) {
    let Some(leg) = call.leg(place) else { return };
    if leg.aside.streams.is_empty() {
        return;
    }
    let places: Vec<usize> = leg.aside.streams.iter().map(|stream| stream.at.into()).collect();
    for at in places {
        let line = session.media().get(at).filter(|line| is_relayed(line, Kinds::ALL));
        let is_open = line.is_some_and(|line| {
            program(call, core, turn, (place, at), (session, line), said).is_ok()
        });
        if !is_open {
            close(call, turn, place, at);
            // Of several that are asked at once another may still want it.
            if call.branches.len() <= 1
                && let Some(other) = call.other(place)
            {
                close(call, turn, other, at);
            }
        }
    }
}

/// Takes in what a leg says of a line; nothing changes where it is not protected as its trunk wants.
fn program(
    call: &mut Call,
    core: &Core,
    turn: &mut Turn,
    (place, at): (u8, usize),
    (session, line): (&Session, &Media),
    said: Said,
) -> Result<(), Refusal> {
    let Some(leg) = call.leg(place) else { return Ok(()) };
    let Some(trunk) = core.image.trunk(leg.trunk) else { return Ok(()) };
    let Some(interface) = core.image.interface_of(leg.port) else { return Ok(()) };
    let (arrived, terms) = ((leg.trunk, leg.port), leg.aside.terms());
    let peer = leg.dialog.peer.ip();
    let stream = leg.aside.streams.iter_mut().find(|stream| usize::from(stream.at) == at);
    let Some(stream) = stream else { return Ok(()) };
    let chosen = secure::judge(core, arrived, &stream.secure, (session, line), said)?;
    let security = secure::take(&mut stream.secure, turn, line, said, chosen);
    let learn = match trunk.learn {
        Learn::First { window, .. } => Learn::First { window, same_ip: Some(peer) },
        Learn::Off => Learn::Off,
    };
    let mut plan = Plan {
        remote_rtp: line.rtp(),
        remote_rtcp: line.rtcp(),
        rtcp_mux: line.rtcp_mux,
        send: line.direction.receives() && !line.is_held_by_address(),
        receive: line.direction.sends(),
        learn,
        carries: Carries::Other,
        security,
        allow: allow(interface.allow_loopback),
        ..Plan::default()
    };
    for prefix in &trunk.media_sources {
        plan.sources.push(*prefix);
    }
    for (payload_type, _, rate) in line.rtpmaps() {
        plan.clock_rates.push((payload_type, rate));
    }
    if stream.plan.as_ref() != Some(&plan) {
        stream.plan = Some(plan);
        apply(stream, terms, turn);
    }
    call.cdr.marks.kinds = call.cdr.marks.kinds.with(line.kind);
    Ok(())
}

fn apply(stream: &Stream, terms: Terms, turn: &mut Turn) {
    if let Some(plan) = &stream.plan {
        turn.media.program(turn.now.mono, stream.media, terms.put_upon(plan));
    }
}

/// Programs a leg's further endpoints with the plans the leg has.
pub(crate) fn apply_all(leg: &Leg, turn: &mut Turn) {
    leg.aside.streams.iter().for_each(|stream| apply(stream, leg.aside.terms(), turn));
}

/// Joins what the two sides have in the same place.
pub(crate) fn join(call: &Call, turn: &mut Turn, (near, far): (u8, u8)) {
    let streams = |place: u8| {
        let leg = call.legs.get(usize::from(place));
        leg.map(|leg| leg.aside.streams.as_slice()).unwrap_or_default()
    };
    for stream in streams(near) {
        if let Some(other) = streams(far).iter().find(|other| other.at == stream.at) {
            turn.media.join(stream.media, other.media);
        }
    }
}

fn close(call: &mut Call, turn: &mut Turn, place: u8, at: usize) {
    let Some(leg) = call.leg(place) else { return };
    leg.aside.streams.retain(|stream| {
        let stays = usize::from(stream.at) != at;
        if !stays {
            turn.media.release(stream.media, turn.now.mono);
        }
        stays
    });
}

/// Gives back all of a leg's.
pub(crate) fn close_all(leg: &mut Leg, turn: &mut Turn) {
    for stream in leg.aside.streams.drain(..) {
        turn.media.release(stream.media, turn.now.mono);
    }
}

/// Our ends of `to`'s further lines, where `session`'s writer has them open.
pub(crate) fn locals(
    leg: &Leg,
    turn: &Turn,
    (said, session): (Said, &Session),
    (advertise, trunk): (IpAddr, &Trunk),
) -> Vec<(usize, Local)> {
    let streams = leg.aside.streams.iter().filter_map(|stream| {
        let at = usize::from(stream.at);
        let line = session.media().get(at).filter(|line| is_relayed(line, Kinds::ALL))?;
        let local = turn.media.local(stream.media)?;
        let advertised = |address: SocketAddr| SocketAddr::new(advertise, address.port());
        let mut lines = match said {
            Said::Offer => secure::offer(&stream.secure, turn, &trunk.media_security, line),
            Said::Answer => {
                let muxes = stream.plan.as_ref().is_some_and(|plan| plan.rtcp_mux);
                secure::answer(&stream.secure, turn, line, muxes)
            }
        };
        if lines.rtcp_mux == Some(true) {
            lines.attributes.push(b"a=rtcp-mux".to_vec());
        }
        let is_protected = secure::is_secure(line.protocol) || !lines.attributes.is_empty();
        let local = Local {
            rtp: advertised(local.rtp),
            rtcp: advertised(local.rtcp),
            rtcp_mux: true,
            rtcp_line: trunk.profile.rtcp,
            ptime_ms: None,
            formats: is_protected.then(|| of_one_stream(line)).flatten(),
            events: None,
            lines,
        };
        Some((at, local))
    });
    streams.collect()
}

/// The formats of a line without those that are sent in a stream of their own (RFC 4588, RFC 8627); `None` where
/// that is all of them, or where no other is left.
fn of_one_stream(line: &Media) -> Option<Vec<u8>> {
    let is_beside = |format: &[u8]| {
        line.rtpmaps().any(|(payload_type, name, _)| {
            let beside: [&[u8]; 3] = [b"rtx", b"flexfec", b"flexfec-03"];
            payload_type.to_string().as_bytes() == format
                && beside.iter().any(|beside| name.eq_ignore_ascii_case(beside))
        })
    };
    let all = line.formats().count();
    let left: Vec<&[u8]> = line.formats().filter(|format| !is_beside(format)).collect();
    (!left.is_empty() && left.len() < all).then(|| left.join(&b' '))
}
