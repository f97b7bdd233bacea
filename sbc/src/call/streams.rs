//! Further media lines of a call: video, real-time text (RFC 4103) and others over plain RTP, beside the one
//! that every call has.
//!
//! Each has a place in the descriptions, the same on both sides, and an endpoint on each leg. It is there for
//! as long as both sides have it open; what concerns speech (digits, protection, codecs, quality) is not
//! for it. A call without such lines pays one byte of its record for them, which it paid before.

use super::{Call, Leg, bridge};
use crate::core::{Core, Turn, allow};
use crate::policy::kinds::Kinds;
use crate::policy::profile::Profile;
use crate::sdp::{Lines, Local, Media, Protocol, Session};
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
}

plain!(struct Stream { at, media, plan });

/// What few legs have: it is written in one byte for all others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside {
    /// It hears nothing and is not heard, whatever its description says: it has not answered.
    pub(crate) muted: bool,
    /// Its further media lines.
    pub(crate) streams: Vec<Stream>,
}

impl Plain for Aside {
    fn put(&self, out: &mut Vec<u8>) {
        (u8::from(self.muted) | (self.streams.len() as u8) << 1).put(out);
        self.streams.iter().for_each(|stream| stream.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let flags = u8::take(from)?;
        let count = usize::from(flags >> 1);
        if count > MOST {
            return Err(Unreadable::Value);
        }
        let streams = (0..count).map(|_| Stream::take(from)).collect::<Result<_, _>>()?;
        Ok(Aside { muted: flags & 1 != 0, streams })
    }
}

/// Whether a line can be relayed beside another: it is open, and plain RTP.
pub(crate) fn is_relayed(line: &Media, kinds: Kinds) -> bool {
    let is_plain_rtp = match line.protocol {
        Protocol::RtpAvp | Protocol::RtpAvpf => true,
        Protocol::RtpSavp
        | Protocol::RtpSavpf
        | Protocol::UdpTlsRtpSavp
        | Protocol::UdpTlsRtpSavpf
        | Protocol::UdpTl
        | Protocol::Other(_) => false,
    };
    is_plain_rtp && !line.is_refused() && kinds.has(line.kind)
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
        if Some(at) == main || line.kind == crate::sdp::Kind::Audio || !is_relayed(line, kinds) {
            continue;
        }
        let (Some(near), Some(far)) =
            (reserve(call, core, turn, from, at), reserve(call, core, turn, to, at))
        else {
            continue;
        };
        turn.media.join(near, far);
        program(call, core, turn, (from, at), line);
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
    leg.aside.streams.push(Stream { at: at as u8, media, plan: None });
    Some(media)
}

/// What a leg says of its further lines: plans for those that are open, and the end of those that are not.
pub(crate) fn said(call: &mut Call, core: &Core, turn: &mut Turn, place: u8, session: &Session) {
    let Some(leg) = call.leg(place) else { return };
    if leg.aside.streams.is_empty() {
        return;
    }
    let places: Vec<usize> = leg.aside.streams.iter().map(|stream| stream.at.into()).collect();
    for at in places {
        match session.media().get(at).filter(|line| is_relayed(line, Kinds::ALL)) {
            Some(line) => program(call, core, turn, (place, at), line),
            None => {
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
}

fn program(call: &mut Call, core: &Core, turn: &mut Turn, (place, at): (u8, usize), line: &Media) {
    call.cdr.marks.kinds = call.cdr.marks.kinds.with(line.kind);
    let Some(leg) = call.leg(place) else { return };
    let Some(trunk) = core.image.trunk(leg.trunk) else { return };
    let Some(interface) = core.image.interface_of(leg.port) else { return };
    let learn = match trunk.learn {
        Learn::First { window, .. } => Learn::First { window, same_ip: Some(leg.dialog.peer.ip()) },
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
        allow: allow(interface.allow_loopback),
        ..Plan::default()
    };
    for prefix in &trunk.media_sources {
        plan.sources.push(*prefix);
    }
    for (payload_type, _, rate) in line.rtpmaps() {
        plan.clock_rates.push((payload_type, rate));
    }
    let muted = leg.aside.muted;
    let stream = leg.aside.streams.iter_mut().find(|stream| usize::from(stream.at) == at);
    if let Some(stream) = stream
        && stream.plan.as_ref() != Some(&plan)
    {
        stream.plan = Some(plan);
        apply(stream, muted, turn);
    }
}

fn apply(stream: &Stream, muted: bool, turn: &mut Turn) {
    if let Some(plan) = &stream.plan {
        let (send, receive) = (plan.send && !muted, plan.receive && !muted);
        let plan = Plan { send, receive, ..plan.clone() };
        turn.media.program(turn.now.mono, stream.media, plan);
    }
}

/// Programs a leg's further endpoints with the plans the leg has.
pub(crate) fn apply_all(leg: &Leg, turn: &mut Turn) {
    leg.aside.streams.iter().for_each(|stream| apply(stream, leg.aside.muted, turn));
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
    session: &Session,
    (advertise, profile): (IpAddr, &Profile),
) -> Vec<(usize, Local)> {
    let streams = leg.aside.streams.iter().filter_map(|stream| {
        let at = usize::from(stream.at);
        session.media().get(at).filter(|line| is_relayed(line, Kinds::ALL))?;
        let local = turn.media.local(stream.media)?;
        let advertised = |address: SocketAddr| SocketAddr::new(advertise, address.port());
        let local = Local {
            rtp: advertised(local.rtp),
            rtcp: advertised(local.rtcp),
            rtcp_mux: true,
            rtcp_line: profile.rtcp,
            ptime_ms: None,
            formats: None,
            events: None,
            lines: Lines::default(),
        };
        Some((at, local))
    });
    streams.collect()
}
