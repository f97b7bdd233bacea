//! From session descriptions to media plans.
//!
//! Each leg has an endpoint of its own, so each sees our addresses only. What a leg's description says
//! (where it listens, what it will send) becomes the plan of the endpoint that faces it.

use super::digits::{self, Format, Formats};
use super::direct;
use super::ice;
use super::secure::{self, Said, Secure};
use super::{Call, Leg, streams};
use crate::core::{Core, Turn, allow};
use crate::policy::kinds::Kinds;
use crate::policy::security::Srtp;
use crate::policy::{Rtcp, Trunk};
use crate::refusal::Refusal;
use crate::sdp::{self, Kind, Lines, Local, Media, Origin, Protocol, Session};
use base::PortId;
use media::{Carries, Events, Learn, Plan, Reports};
use std::net::SocketAddr;

/// The media line that every call has: of the audio lines over RTP that are not refused the first one, or
/// the first of those that suit the trunk of its writer better; without any, T.38, else whatever comes first.
fn relayed(session: &Session, trunk: Option<&Trunk>) -> Option<usize> {
    let kinds = trunk.map_or(Kinds::ALL, |trunk| trunk.media);
    let of = |is: fn(&Media) -> bool| {
        let lines = session.media().iter().enumerate();
        lines.filter(move |(_, media)| kinds.has(media.kind) && is(media))
    };
    let lines = || of(is_speech);
    let suits = lines().find(|(_, media)| {
        let srtp = trunk.map(|trunk| trunk.media_security.srtp).unwrap_or_default();
        match srtp {
            Srtp::Off => !secure::is_secure(media.protocol),
            Srtp::Preferred => true,
            Srtp::Required => secure::is_secure(media.protocol),
        }
    });
    let found = suits.or_else(|| lines().next()).or_else(|| of(is_fax).next());
    let found = found.or_else(|| of(|media| streams::is_relayed(media, Kinds::ALL)).next());
    found.map(|(at, _)| at)
}

/// Kinds of media that the trunk of a leg carries.
pub(super) fn kinds(call: &Call, core: &Core, place: u8) -> Kinds {
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| core.image.trunk(leg.trunk));
    trunk.map_or(Kinds::NONE, |trunk| trunk.media)
}

/// T.38 over UDP (ITU-T T.38 annex D).
fn is_fax(media: &Media) -> bool {
    media.kind == Kind::Image && media.protocol == Protocol::UdpTl && media.port != 0
}

fn is_speech(media: &Media) -> bool {
    let is_rtp = match media.protocol {
        Protocol::RtpAvp | Protocol::RtpAvpf | Protocol::RtpSavp | Protocol::RtpSavpf => true,
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => true,
        Protocol::UdpTl | Protocol::Other(_) => false,
    };
    media.kind == Kind::Audio && is_rtp && media.port != 0
}

/// Parses a body as a session description; it may have nothing to relay, as when all media is refused.
pub(crate) fn readable(body: &[u8]) -> Result<Session<'_>, Refusal> {
    sdp::parse(body).map_err(|_| Refusal::BadSdp)
}

/// Parses a body as a session description with something to relay.
pub(crate) fn acceptable(body: &[u8]) -> Result<Session<'_>, Refusal> {
    let session = readable(body)?;
    if relayed(&session, None).is_some() { Ok(session) } else { Err(Refusal::NotAcceptable) }
}

/// Whether the protection of a first offer is what its trunk wants.
pub(crate) fn permitted(
    core: &Core,
    (trunk, port): (u16, PortId),
    session: &Session,
) -> Result<(), Refusal> {
    let line = relayed(session, core.image.trunk(trunk)).and_then(|i| session.media().get(i));
    let Some(line) = line else { return barred(session) };
    let line = (session, line);
    secure::judge(core, (trunk, port), &Secure::default(), line, Said::Offer).map(drop)
}

/// A description with nothing for its trunk has nothing open, or what the trunk does not carry.
fn barred(session: &Session) -> Result<(), Refusal> {
    if relayed(session, None).is_some() { Err(Refusal::MediaForbidden) } else { Ok(()) }
}

/// Takes an endpoint on the interface of a leg.
pub(crate) fn reserve(core: &Core, turn: &mut Turn, port: PortId) -> Result<base::Key, Refusal> {
    let (interface, _) = core.image.arrival(port).ok_or(Refusal::NoMediaPort)?;
    turn.media.reserve(interface, turn.now.mono).map_err(|_| Refusal::NoMediaPort)
}

/// Learns from a leg's description where it listens and programs the endpoint that faces it. Nothing
/// changes when it is not protected as its trunk wants.
pub(crate) fn program(
    call: &mut Call,
    core: &Core,
    turn: &mut Turn,
    place: u8,
    (said, session): (Said, &Session),
) -> Result<(), Refusal> {
    let line = of(call, core, place, session).map(|(_, line)| line);
    streams::said(call, core, turn, place, (said, session));
    let Some(leg) = call.leg(place) else { return Ok(()) };
    let Some(trunk) = core.image.trunk(leg.trunk) else { return Ok(()) };
    let Some(interface) = core.image.interface_of(leg.port) else { return Ok(()) };
    let Some(line) = line else {
        // Every line is refused: nobody sends and nobody is missed, until another offer.
        leg.both_ways = false;
        if let Some(plan) = &mut leg.plan {
            (plan.send, plan.receive) = (false, false);
        }
        apply(leg, turn);
        return Ok(());
    };
    let at = (leg.trunk, leg.port);
    let chosen = secure::judge(core, at, &leg.secure, (session, line), said)?;
    let was_agreed = leg.secure.is_agreed();
    let security = secure::take(&mut leg.secure, turn, line, said, chosen);
    let ice = ice::take(&mut leg.ice, turn, (session, line), said);
    leg.events = Format::of(line);
    let (events, own_stream) = terms(call, core, place);
    call.cdr.marks.kinds = call.cdr.marks.kinds.with(line.kind);
    let carries = carried(line);
    let Some(leg) = call.leg(place) else { return Ok(()) };
    if carries == Carries::Fax && was_agreed {
        // Speech that follows counts from zero: not under keys that were used.
        leg.secure = secure::fresh(core, turn, leg.trunk, leg.port);
    }
    let (sends, receives) = (line.direction.sends(), line.direction.receives());
    let held = line.is_held_by_address();
    let learn = match trunk.learn {
        Learn::First { window, .. } => Learn::First { window, same_ip: Some(leg.dialog.peer.ip()) },
        Learn::Off => Learn::Off,
    };
    // Who proves that he is the peer need not be guessed.
    let learn = if ice.is_some() { Learn::Off } else { learn };
    let mut plan = Plan {
        remote_rtp: line.rtp(),
        remote_rtcp: line.rtcp(),
        rtcp_mux: line.rtcp_mux,
        send: receives && !held,
        receive: sends,
        learn,
        inactivity: trunk.media_timeout,
        own_stream: own_stream && carries == Carries::Speech,
        reports: if carries == Carries::Speech { Reports::Plain } else { Reports::Relayed },
        carries,
        security,
        events,
        ice,
        stun: interface.stun_server,
        allow: allow(interface.allow_loopback),
        ..Plan::default()
    };
    if trunk.rtcp_xr && carries == Carries::Speech
        || (plan.has_own_stream() && asks_for_metrics(line))
    {
        plan.reports = Reports::Extended;
    }
    for prefix in &trunk.media_sources {
        plan.sources.push(*prefix);
    }
    for (payload_type, _, rate) in line.rtpmaps() {
        plan.clock_rates.push((payload_type, rate));
    }
    leg.both_ways = sends && receives && !held;
    if leg.plan.as_ref() != Some(&plan) {
        leg.plan = Some(plan);
        apply(leg, turn);
    }
    if let Some(other) = call.other(place) {
        fit(call, core, turn, other);
    }
    Ok(())
}

/// What the other side says, or another one there, may change how a leg's digits are heard.
fn fit(call: &mut Call, core: &Core, turn: &mut Turn, place: u8) {
    let terms = terms(call, core, place);
    let Some(leg) = call.leg(place) else { return };
    if let Some(plan) = &mut leg.plan
        && plan.carries == Carries::Speech
        && terms != (plan.events, plan.own_stream)
    {
        (plan.events, plan.own_stream) = terms;
        apply(leg, turn);
    }
}

/// How the endpoint that faces a leg hears and speaks digits, and whether it needs a stream of our own.
fn terms(call: &Call, core: &Core, place: u8) -> (Option<Events>, bool) {
    let (events, own_stream) = digits::terms(call, core, place);
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| core.image.trunk(leg.trunk));
    (events, own_stream || trunk.is_some_and(|trunk| trunk.rtcp == Rtcp::Fill))
}

/// What the datagrams of a line are.
fn carried(line: &Media) -> Carries {
    match line.kind {
        Kind::Audio => Carries::Speech,
        Kind::Image => Carries::Fax,
        Kind::Video | Kind::Text | Kind::Message | Kind::Application | Kind::Other => {
            Carries::Other
        }
    }
}

/// Whether a description asks for VoIP metrics (RFC 3611 5).
fn asks_for_metrics(line: &Media) -> bool {
    let asked = line.attribute(b"rtcp-xr").unwrap_or_default();
    asked.split(|byte| *byte == b' ').any(|format| format.starts_with(b"voip-metrics"))
}

/// Programs a leg's endpoint with the plan the leg has.
pub(crate) fn apply(leg: &mut Leg, turn: &mut Turn) {
    leg.planned_at = turn.now.mono;
    execute(leg, turn);
}

fn execute(leg: &Leg, turn: &mut Turn) {
    if let (Some(end), Some(plan)) = (leg.media, &leg.plan) {
        turn.media.program(turn.now.mono, end, leg.aside.terms().put_upon(plan));
    }
    streams::apply_all(leg, turn);
}

/// Whether a leg is kept out of the conversation.
pub(crate) fn mute(leg: &mut Leg, turn: &mut Turn, muted: bool) {
    if core::mem::replace(&mut leg.aside.muted, muted) != muted {
        apply(leg, turn);
    }
}

/// Has what the legs of a call send copied, or not; nothing else changes for them.
pub(crate) fn tap(call: &mut Call, turn: &mut Turn, tapped: bool) {
    for leg in call.legs.iter_mut().filter(|leg| leg.aside.tapped != tapped) {
        leg.aside.tapped = tapped;
        execute(leg, turn);
    }
}

/// Joins the endpoints of the two sides.
pub(crate) fn join(call: &mut Call, core: &Core, turn: &mut Turn) {
    for place in [Some(call.near), call.callee].into_iter().flatten() {
        fit(call, core, turn, place);
    }
    let end = |place: usize| call.legs.get(place).and_then(|l| l.media);
    if let (Some(a), Some(b)) =
        (end(usize::from(call.near)), call.callee.and_then(|c| end(usize::from(c))))
    {
        turn.media.join(a, b);
    }
    if let Some(callee) = call.callee {
        streams::join(call, turn, (call.near, callee));
    }
}

/// What we offer where the caller made no offer and one is wanted: what every telephone knows.
pub(super) const OWN_OFFER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=audio 9 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";

/// Whether an answer says anything else than what its sender was offered last.
pub(crate) fn differs(call: &Call, place: u8, answer: &Session) -> bool {
    let said = call.legs.get(usize::from(place)).map(|leg| &*leg.said).unwrap_or_default();
    !sdp::parse(said).is_ok_and(|said| sdp::compatible(&said, answer))
}

/// Whether we can carry an offer: it has something to relay, or closes everything.
pub(crate) fn is_offer(session: &Session) -> bool {
    relayed(session, None).is_some() || session.media().iter().all(Media::is_refused)
}

/// An offer of `from` as `to` is to see it: our address and ports in place of the other side's, and the
/// codecs both trunks leave.
pub(crate) fn rewritten(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    session: &Session,
) -> Option<Vec<u8>> {
    let main = of(call, core, from, session).map(|(at, _)| at);
    streams::prepare(call, core, turn, (from, to), (main, session));
    let formats = match of(call, core, from, session) {
        Some((_, line)) => {
            let list = formats(call, core, (from, to), line)?;
            let boundary = call.boundary(&core.image, from, to)?;
            match line.kind == Kind::Audio {
                true => Formats::offered(line, (boundary.near, boundary.far), list),
                false => Formats { list: Some(list), events: None },
            }
        }
        None => Formats::default(),
    };
    let ends = direct::of_offer(call, core, (from, to), session);
    if ends.is_none() && !direct::take(call, core, turn, [from, to]) {
        return None;
    }
    let media = (session.media(), session);
    describe(call, core, turn, (from, to), media, (formats, ends), Said::Offer)
}

/// The media line of `from`'s description that is relayed, and its place.
fn of<'a, 's>(
    call: &Call,
    core: &Core,
    from: u8,
    session: &'s Session<'a>,
) -> Option<(usize, &'s Media<'a>)> {
    let trunk = call.legs.get(usize::from(from)).and_then(|leg| core.image.trunk(leg.trunk));
    let at = relayed(session, trunk)?;
    Some((at, session.media().get(at)?))
}

/// The formats of an offered line that both trunks leave.
fn formats(call: &Call, core: &Core, (from, to): (u8, u8), line: &Media) -> Option<Vec<u8>> {
    if line.kind != Kind::Audio {
        return Some(line.raw_formats.to_vec());
    }
    let boundary = call.boundary(&core.image, from, to)?;
    sdp::choose(line, &boundary.near.codecs_in, &boundary.far.codecs_out)
}

/// Whether an offer of `from` is protected as its trunk wants, and leaves a codec for `to`.
pub(crate) fn fits(
    call: &Call,
    core: &Core,
    (from, to): (u8, u8),
    session: &Session,
) -> Result<(), Refusal> {
    let Some((_, line)) = of(call, core, from, session) else { return barred(session) };
    if !kinds(call, core, to).has(line.kind) {
        return Err(Refusal::MediaForbidden);
    }
    let leg = call.legs.get(usize::from(from)).ok_or(Refusal::InternalError)?;
    secure::judge(core, (leg.trunk, leg.port), &leg.secure, (session, line), Said::Offer)?;
    formats(call, core, (from, to), line).map(drop).ok_or(Refusal::NoCodec)
}

/// Whether `from`'s offer may be made to a leg: its trunk carries such media, and the keys the trunk requires
/// may be said over its listener.
pub(crate) fn may_offer(
    call: &Call,
    core: &Core,
    (from, to): (u8, u8),
    session: &Session,
) -> Result<(), Refusal> {
    let line = of(call, core, from, session).map(|(_, line)| line);
    if line.is_some_and(|line| !kinds(call, core, to).has(line.kind)) {
        return Err(Refusal::MediaForbidden);
    }
    let leg = call.legs.get(usize::from(to)).ok_or(Refusal::InternalError)?;
    let trunk = core.image.trunk(leg.trunk).ok_or(Refusal::NoRoute)?;
    secure::may_offer(&leg.secure, &trunk.media_security)
}

/// The answer of `from` as `to` is to see it. It has the media lines that were offered to `from`,
/// whatever `from` made of them.
pub(crate) fn answered(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    (from, to): (u8, u8),
    session: &Session,
) -> Option<Vec<u8>> {
    let said = call.leg(from)?.said.clone();
    let offer = sdp::parse(&said).ok();
    let media = offer.as_ref().map_or(session.media(), Session::media);
    let formats = match of(call, core, from, session) {
        Some((_, line)) if line.kind == Kind::Audio => {
            let boundary = call.boundary(&core.image, from, to)?;
            let knows = call.legs.get(usize::from(to)).and_then(|leg| leg.events);
            Formats::answered(line, (boundary.near, boundary.far), knows)
        }
        Some(_) | None => Formats::default(),
    };
    let ends = direct::of_answer(call, core, (from, to), session);
    describe(call, core, turn, (from, to), (media, session), (formats, ends), Said::Answer)
}

fn describe(
    call: &mut Call,
    core: &Core,
    turn: &Turn,
    (from, to): (u8, u8),
    (offer, session): (&[Media], &Session),
    (formats, ends): (Formats, Option<direct::Ends>),
    said: Said,
) -> Option<Vec<u8>> {
    let (at, media) = of(call, core, from, session).unzip();
    let leg = call.leg(to)?;
    let interface = core.image.interface_of(leg.port)?;
    leg.aside.direct = ends.is_some();
    let advertised = |a: SocketAddr| SocketAddr::new(interface.advertise, a.port());
    let trunk = core.image.trunk(leg.trunk)?;
    let profile = &trunk.profile;
    let (rtp, rtcp) = match ends {
        Some(ends) => ends,
        None => {
            let local = turn.media.local(leg.media?)?;
            (advertised(local.rtp), advertised(local.rtcp))
        }
    };
    let is_rtp = media.is_none_or(|media| media.protocol != Protocol::UdpTl);
    let further = streams::locals(leg, turn, (said, session), (interface.advertise, trunk));
    let protected = media.filter(|_| is_rtp);
    let mut lines = protected.map_or_else(Lines::default, |media| match said {
        Said::Offer => secure::offer(&leg.secure, turn, &trunk.media_security, media),
        Said::Answer => {
            let muxes = leg.plan.as_ref().is_some_and(|plan| plan.rtcp_mux);
            secure::answer(&leg.secure, turn, media, muxes)
        }
    });
    let told = ice::told(&leg.ice, said, rtp, rtcp);
    let ice_lite = told.is_some();
    if told.is_none() && lines.rtcp_mux == Some(true) {
        lines.attributes.push(b"a=rtcp-mux".to_vec());
    }
    let mut bundle = Box::default();
    if let Some(told) = told {
        lines.attributes.extend(told.attributes);
        lines.rtcp_mux = Some(told.rtcp_mux);
        bundle = told.bundle;
    }
    let local = Local {
        rtp,
        rtcp,
        rtcp_mux: true,
        rtcp_line: if is_rtp { profile.rtcp } else { sdp::RtcpLine::Never },
        ptime_ms: profile.ptime_ms.filter(|_| media.is_none_or(|m| m.kind == Kind::Audio)),
        formats: formats.list,
        events: formats.events.map(|events| (events.payload_type, events.rate)),
        lines,
    };
    let print = |version| {
        let mut out = Vec::with_capacity(512);
        let (id, address) = (leg.sdp_id, interface.advertise);
        let origin = Origin { id, version, address, ice_lite, bundle: &bundle };
        let local = |i| match Some(i) == at {
            true => Some(local.clone()),
            false => further.iter().find(|(at, _)| *at == i).map(|(_, local)| local.clone()),
        };
        sdp::rewrite_answer(&mut out, offer, session, origin, local);
        out
    };
    // RFC 3264 8: the version grows when, and only when, the description changes.
    let body = print(leg.sdp_version);
    if *body == *leg.said {
        return Some(body);
    }
    let body = if leg.said.is_empty() { body } else { print(leg.sdp_version + 1) };
    leg.sdp_version += u64::from(!leg.said.is_empty());
    leg.said = body.as_slice().into();
    Some(body)
}

/// Whether silence on both legs means that the call is dead: nobody is on hold.
pub(crate) fn is_dead(call: &Call, turn: &Turn) -> bool {
    let Some(callee) = call.callee else { return false };
    let is_silent = |place: u8| {
        let Some(leg) = call.legs.get(usize::from(place)) else { return false };
        let (Some(end), Some(plan)) = (leg.media, &leg.plan) else { return false };
        let (Some(report), Some(limit)) = (turn.media.report(end), plan.inactivity) else {
            return false;
        };
        let since = report.last_heard.unwrap_or_default().max(leg.planned_at);
        leg.both_ways && turn.now.mono.since(since) >= limit
    };
    // Where media was released it may still go past us.
    let is_ours = |place: u8| {
        let end = call.legs.get(usize::from(place)).and_then(|leg| leg.media);
        end.and_then(|end| turn.media.report(end)).is_some_and(|r| r.last_heard.is_some())
    };
    let may_be_direct = call.cdr.marks.released && !(is_ours(call.near) && is_ours(callee));
    is_silent(call.near) && is_silent(callee) && !may_be_direct
}
