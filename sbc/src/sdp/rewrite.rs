//! `rewrite`: a description with our addresses in the place of the writer's.
//!
//! Kept: formats, bandwidth, times, unknown attributes, in their order. Dropped: what names the
//! writer (`o=` user, `s=`, `i=`, `u=`, `e=`, `p=`), what is between neighbours only (ICE,
//! `crypto`, `fingerprint`, `setup`, `k=`; the media side adds its own), and BUNDLE, which is between
//! neighbours too. It does not choose codecs.

use std::net::{IpAddr, SocketAddr};

use super::codec_policy::is_about_another;
use super::media::{Attribute, Direction, Media};
use super::parse::{Line, Session, lines};
use super::print::Printer;

/// What our `o=` line says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Session id, the same for the life of the dialog.
    pub id: u64,
    /// Version, one more with every change (RFC 3264 §8).
    pub version: u64,
    /// Address of `o=` and of the session's `c=`.
    pub address: IpAddr,
    /// We are the lite side of ICE (RFC 8839 §5.3).
    pub ice_lite: bool,
    /// What is bundled, as `a=mid` names it (RFC 9143 §7.3): the one line that is relayed; empty: nothing.
    pub bundle: &'a [u8],
}

/// Our ends of one media line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where we receive RTP.
    pub rtp: SocketAddr,
    /// Where we receive RTCP.
    pub rtcp: SocketAddr,
    /// Whether `a=rtcp-mux` may stay.
    pub rtcp_mux: bool,
    /// When `a=rtcp` is said.
    pub rtcp_line: RtcpLine,
    /// `a=ptime`, in milliseconds; `None`: as it was said.
    pub ptime_ms: Option<u16>,
    /// The formats that stay, in this order; `None`: as they were said.
    pub formats: Option<Vec<u8>>,
    /// Payload type and clock rate of telephone events among them that the line has not (RFC 4733 2.4.1).
    pub events: Option<(u8, u32)>,
    /// What the transport of the line is on our side.
    pub lines: Lines,
}

/// The protocol of a media line and the attributes that belong to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// As `m=` has it; empty: as it was said.
    pub protocol: Vec<u8>,
    /// Whole `a=` lines.
    pub attributes: Vec<Vec<u8>>,
    /// What they say of `a=rtcp-mux`; `None`: as it was said.
    pub rtcp_mux: Option<bool>,
    /// Sources are ours: those of the other side are not told.
    pub sources: bool,
}

impl Lines {
    /// Whether feedback may be said of this line while the other side's had it (RFC 4585 §3).
    fn has_feedback(&self) -> bool {
        self.protocol.is_empty() || self.protocol.ends_with(b"F")
    }

    /// Whether they name the line themselves.
    fn has_mid(&self) -> bool {
        self.attributes.iter().any(|line| line.starts_with(b"a=mid:"))
    }
}

/// When `a=rtcp` is said (RFC 3605).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum RtcpLine {
    /// Where RTCP is not at the port after RTP's.
    #[default]
    WhenNeeded,
    /// On every media line.
    Always,
    /// On none.
    Never,
}

/// Appends the description, rewritten, to `out`. `local` is asked once for every line of `media()`
/// that is not refused; nothing refuses the line.
pub fn rewrite(
    out: &mut Vec<u8>,
    session: &Session<'_>,
    origin: Origin<'_>,
    local: impl Fn(usize) -> Option<Local>,
) {
    rewrite_answer(out, session.media(), session, origin, local);
}

/// The same for the answer to an offer with these media lines: it has as many, in their order (RFC 3264
/// §6). A line that is missing, of another kind, or was not open in the offer, is refused.
pub fn rewrite_answer(
    out: &mut Vec<u8>,
    offer: &[Media<'_>],
    session: &Session<'_>,
    origin: Origin<'_>,
    local: impl Fn(usize) -> Option<Local>,
) {
    let mut print = Printer { out };
    head(&mut print, session, origin);
    for (i, offered) in offer.iter().enumerate() {
        let answered = session.media().get(i).filter(|m| m.raw_kind == offered.raw_kind);
        let media = answered.unwrap_or(offered);
        let is_open = answered.is_some_and(|m| !m.is_refused()) && !offered.is_refused();
        match if is_open { local(i) } else { None } {
            None => print.media(media.raw_kind, 0, media.raw_protocol, media.raw_formats),
            Some(local) => section(&mut print, session, media, origin, local),
        }
    }
}

fn head(print: &mut Printer<'_>, session: &Session<'_>, origin: Origin<'_>) {
    print.raw(b"v=0");
    print.origin(origin.id, origin.version, origin.address);
    print.raw(b"s=-");
    print.connection(origin.address);
    let mut times = 0;
    for kind in [b'b', b't'] {
        for line in lines(session.head) {
            // Repeats and zones belong to the times they follow.
            let is_time = kind == b't' && matches!(line.kind, b'r' | b'z');
            if line.kind == kind || is_time {
                print.raw(line.raw);
                times += usize::from(line.kind == b't');
            }
        }
    }
    if times == 0 {
        print.raw(b"t=0 0");
    }
    if origin.ice_lite {
        print.raw(b"a=ice-lite");
    }
    if !origin.bundle.is_empty() {
        print.raw(&[b"a=group:BUNDLE ", origin.bundle].concat());
    }
    for line in lines(session.head).filter(|line| is_kept_in_head(line)) {
        print.raw(line.raw);
    }
}

/// Known letters were handled or name the writer; attributes and unknown letters are kept.
fn is_kept_in_head(line: &Line<'_>) -> bool {
    match line.kind {
        b'a' => !is_hop_by_hop(Attribute::new(line.text)),
        kind => !b"vosiuepcbtrzk".contains(&kind),
    }
}

fn section(
    print: &mut Printer<'_>,
    session: &Session<'_>,
    media: &Media<'_>,
    origin: Origin<'_>,
    local: Local,
) {
    let formats = local.formats.as_deref().unwrap_or(media.raw_formats);
    let protocol = match local.lines.protocol.as_slice() {
        b"" => media.raw_protocol,
        protocol => protocol,
    };
    print.media(media.raw_kind, local.rtp.port(), protocol, formats);
    for line in lines(media.lines).filter(|line| line.kind == b'i') {
        print.raw(line.raw);
    }
    if local.rtp.ip() != origin.address {
        print.connection(local.rtp.ip());
    }
    // Old-style hold lives in the address we replace, so it is said as RFC 3264 §8.4 says it now.
    let held = media.is_held_by_address();
    for line in lines(media.lines).filter(|line| !matches!(line.kind, b'i' | b'c' | b'k')) {
        let attribute = Attribute::new(line.text);
        let is_dropped = match attribute.name {
            b"rtcp" => true,
            b"ptime" | b"maxptime" => local.ptime_ms.is_some(),
            b"rtcp-mux" => !local.rtcp_mux || local.lines.rtcp_mux.is_some(),
            b"rtcp-fb" if !local.lines.has_feedback() => true,
            b"ssrc" | b"ssrc-group" if local.lines.sources => true,
            b"mid" if local.lines.has_mid() => true,
            name if local.formats.is_some() && is_about_another(name, attribute.value, formats) => {
                true
            }
            name => is_hop_by_hop(attribute) || (held && Direction::from_bytes(name).is_some()),
        };
        if line.kind != b'a' || !is_dropped {
            print.raw(line.raw);
        }
    }
    if held && media.direction != session.direction {
        print.raw(format_direction(media.direction));
    }
    let (rtp, rtcp) = (local.rtp, local.rtcp);
    let is_next = rtcp.ip() == rtp.ip() && Some(rtcp.port()) == rtp.port().checked_add(1);
    let is_muxed = local.rtcp_mux && media.rtcp_mux && rtcp == rtp;
    let is_said = match local.rtcp_line {
        RtcpLine::WhenNeeded => !is_next && !is_muxed,
        RtcpLine::Always => true,
        RtcpLine::Never => false,
    };
    if is_said {
        print.rtcp(rtp, rtcp);
    }
    local.lines.attributes.iter().for_each(|line| print.raw(line));
    if let Some((payload_type, rate)) = local.events {
        print.events(payload_type, rate);
    }
    if let Some(ptime_ms) = local.ptime_ms {
        print.ptime(ptime_ms);
    }
}

fn format_direction(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::SendRecv => b"a=sendrecv",
        Direction::SendOnly => b"a=sendonly",
        Direction::RecvOnly => b"a=recvonly",
        Direction::Inactive => b"a=inactive",
    }
}

/// Attributes that speak of the writer's own transport.
fn is_hop_by_hop(attribute: Attribute<'_>) -> bool {
    match attribute.name {
        b"candidate" | b"remote-candidates" | b"end-of-candidates" | b"ice-ufrag" | b"ice-pwd"
        | b"ice-options" | b"ice-lite" | b"ice-mismatch" | b"ice-pacing" | b"crypto"
        | b"fingerprint" | b"setup" | b"connection" | b"tls-id" | b"dtls-id" | b"identity"
        | b"bundle-only" | b"rtcp-mux-only" => true,
        b"group" => attribute.value.starts_with(b"BUNDLE"),
        _ => false,
    }
}
