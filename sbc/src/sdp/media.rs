//! One media description: `m=` and the lines under it (RFC 8866 §5.14, RFC 3264, RFC 3551).

use std::net::{IpAddr, SocketAddr};

use super::parse::lines;
use crate::message::lex;

/// What a media line carries.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// `image` (T.38).
    Image,
    /// `text` (RFC 4103).
    Text,
    /// `message` (MSRP).
    Message,
    /// `application`.
    Application,
    /// Any other.
    Other,
}

/// How it is carried.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Protocol<'a> {
    /// `RTP/AVP`.
    RtpAvp,
    /// `RTP/AVPF`.
    RtpAvpf,
    /// `RTP/SAVP`.
    RtpSavp,
    /// `RTP/SAVPF`.
    RtpSavpf,
    /// `UDP/TLS/RTP/SAVP`.
    UdpTlsRtpSavp,
    /// `UDP/TLS/RTP/SAVPF`.
    UdpTlsRtpSavpf,
    /// `udptl` (T.38).
    UdpTl,
    /// Any other, as written.
    Other(&'a [u8]),
}

/// Which way media flows, seen by the writer (RFC 3264 §5.1).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// From the writer only: hold.
    SendOnly,
    /// To the writer only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Reads an attribute's name.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"sendrecv" => Self::SendRecv,
            b"sendonly" => Self::SendOnly,
            b"recvonly" => Self::RecvOnly,
            b"inactive" => Self::Inactive,
            _ => return None,
        })
    }

    /// The attribute's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The same flow seen by the other side.
    pub const fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv | Self::Inactive => self,
        }
    }

    /// The writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// The writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// Without the flow towards the writer.
    pub(crate) const fn deafened(self) -> Self {
        match self {
            Self::SendRecv | Self::SendOnly => Self::SendOnly,
            Self::RecvOnly | Self::Inactive => Self::Inactive,
        }
    }
}

/// An `a=` line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Before the colon.
    pub name: &'a [u8],
    /// After the colon, or empty.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Reads the text after `a=`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        match memchr::memchr(b':', text) {
            Some(at) => Self {
                name: text.get(..at).unwrap_or_default(),
                value: text.get(at + 1..).unwrap_or_default(),
            },
            None => Self { name: text, value: &[] },
        }
    }
}

/// A media description.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Its name as written.
    pub raw_kind: &'a [u8],
    /// Port; 0 refuses the line.
    pub port: u16,
    /// Number of ports, 1 unless written.
    pub port_count: u16,
    /// How it is carried.
    pub protocol: Protocol<'a>,
    /// The protocol as written.
    pub raw_protocol: &'a [u8],
    /// The format list as written.
    pub raw_formats: &'a [u8],
    /// The direction: the line's own or the session's. Old-style hold (`c=` of zeros) is folded
    /// in: nothing may be sent to such an address (RFC 3264 §8.4), so sendrecv reads sendonly.
    pub direction: Direction,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// `a=ptime`, in milliseconds.
    pub ptime: Option<u32>,
    pub(crate) connection: Option<IpAddr>,
    /// Port and address of `a=rtcp` (RFC 3605).
    pub(crate) rtcp: Option<(u16, Option<IpAddr>)>,
    /// The lines after `m=`.
    pub(crate) lines: &'a [u8],
}

impl<'a> Media<'a> {
    /// Whether the line is refused: port 0 (RFC 3264 §6).
    pub fn is_refused(&self) -> bool {
        self.port == 0
    }

    /// The formats: payload types, or what the protocol has.
    pub fn formats(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.raw_formats.split(|&byte| byte == b' ').filter(|format| !format.is_empty())
    }

    /// Payload types among the formats.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.formats().filter_map(payload_type)
    }

    /// The address: the line's own or the session's. Nothing if there is none or it is a name;
    /// zeros are old-style hold.
    pub fn connection(&self) -> Option<IpAddr> {
        self.connection
    }

    /// Whether the address is zeros (RFC 3264 §8.4). With ICE it means that there is none yet (RFC 8840
    /// §4.1.1).
    pub fn is_held_by_address(&self) -> bool {
        self.connection.is_some_and(|address| address.is_unspecified())
            && self.attribute(b"ice-ufrag").is_none()
    }

    /// Where RTP goes; nothing if refused, held by address or unknown.
    pub fn rtp(&self) -> Option<SocketAddr> {
        let address = self.connection.filter(|address| !address.is_unspecified())?;
        if self.port == 0 { None } else { Some(SocketAddr::new(address, self.port)) }
    }

    /// Where RTCP goes if `a=rtcp-mux` is not used on both sides: what `a=rtcp` says, or the next
    /// port. With `rtcp_mux` and no `a=rtcp` it is the RTP port.
    pub fn rtcp(&self) -> Option<SocketAddr> {
        let rtp = self.rtp()?;
        match self.rtcp {
            Some((port, address)) => {
                let address = address.unwrap_or(rtp.ip());
                if port == 0 || address.is_unspecified() {
                    return None;
                }
                Some(SocketAddr::new(address, port))
            }
            None if self.rtcp_mux => Some(rtp),
            None => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
    }

    /// Every attribute of the line, in order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        lines(self.lines).filter(|line| line.kind == b'a').map(|line| Attribute::new(line.text))
    }

    /// The first attribute of a name.
    pub fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.name == name).map(|attribute| attribute.value)
    }

    /// Name and clock rate of `a=rtpmap` (RFC 8866 §6.6).
    pub fn rtpmap(&self, payload_type: u8) -> Option<(&'a [u8], u32)> {
        self.rtpmaps()
            .find(|(found, _, _)| *found == payload_type)
            .map(|(_, name, rate)| (name, rate))
    }

    /// Every `a=rtpmap`: payload type, name, clock rate.
    pub fn rtpmaps(&self) -> impl Iterator<Item = (u8, &'a [u8], u32)> + use<'a> {
        self.attributes().filter(|attribute| attribute.name == b"rtpmap").filter_map(|attribute| {
            let (format, map) = word(attribute.value);
            let mut parts = map.split(|&byte| byte == b'/');
            let name = parts.next()?;
            let rate = lex::number(parts.next()?.trim_ascii())?;
            Some((payload_type(format)?, name, u32::try_from(rate).ok()?))
        })
    }

    /// `a=fmtp` of a format, without the format.
    pub fn fmtp(&self, format: &[u8]) -> Option<&'a [u8]> {
        self.of_format(b"fmtp", format)
    }

    /// Encoding name of a payload type: `a=rtpmap`, or the static table of RFC 3551.
    pub fn encoding(&self, payload_type: u8) -> Option<&'a [u8]> {
        let named = self.rtpmap(payload_type).map(|(name, _)| name);
        named.or(static_type(payload_type).map(|(name, _)| name.as_bytes()))
    }

    /// Clock rate of a payload type: `a=rtpmap`, or the static table of RFC 3551.
    pub fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        let mapped = self.rtpmap(payload_type).map(|(_, rate)| rate);
        mapped.or(static_type(payload_type).map(|(_, rate)| rate))
    }

    /// Payload type of `telephone-event` at the clock rate of the first format, else the first
    /// one there is (RFC 4733).
    pub fn telephone_event_pt(&self) -> Option<u8> {
        let rate = self.payload_types().next().and_then(|first| self.clock_rate(first));
        let events = || {
            self.rtpmaps().filter(|(payload_type, name, _)| {
                name.eq_ignore_ascii_case(b"telephone-event")
                    && self.payload_types().any(|listed| listed == *payload_type)
            })
        };
        let same_rate = events().find(|(_, _, found)| Some(*found) == rate);
        same_rate.or_else(|| events().next()).map(|(payload_type, _, _)| payload_type)
    }

    /// The value of `a=name:format value`, without the format.
    pub(crate) fn of_format(&self, name: &[u8], format: &[u8]) -> Option<&'a [u8]> {
        self.attributes()
            .filter(|attribute| attribute.name == name)
            .map(|attribute| word(attribute.value))
            .find(|(found, _)| *found == format)
            .map(|(_, value)| value)
    }

    /// Takes in one line under the `m=`.
    pub(crate) fn note(&mut self, attribute: Attribute<'a>) {
        match attribute.name {
            b"rtcp-mux" => self.rtcp_mux = true,
            b"ptime" => {
                let number = lex::number(attribute.value.trim_ascii());
                self.ptime = number.and_then(|number| u32::try_from(number).ok());
            }
            b"rtcp" => {
                let (port, rest) = word(attribute.value);
                let port = lex::number(port).and_then(|port| u16::try_from(port).ok());
                self.rtcp = port.map(|port| (port, super::parse::address(rest)));
            }
            name => {
                if let Some(direction) = Direction::from_bytes(name) {
                    self.direction = direction;
                }
            }
        }
    }
}

/// A text up to its first space, and what follows the spaces.
pub(crate) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b' ', text) {
        Some(at) => (
            text.get(..at).unwrap_or_default(),
            text.get(at + 1..).unwrap_or_default().trim_ascii(),
        ),
        None => (text, &[]),
    }
}

/// A format as a payload type, 0 to 127.
pub(crate) fn payload_type(format: &[u8]) -> Option<u8> {
    let number = lex::number(format)?;
    u8::try_from(number).ok().filter(|number| *number < 128)
}

/// RFC 3551 §6.
fn static_type(payload_type: u8) -> Option<(&'static str, u32)> {
    Some(match payload_type {
        0 => ("PCMU", 8000),
        3 => ("GSM", 8000),
        4 => ("G723", 8000),
        5 => ("DVI4", 8000),
        6 => ("DVI4", 16000),
        7 => ("LPC", 8000),
        8 => ("PCMA", 8000),
        9 => ("G722", 8000),
        10 | 11 => ("L16", 44100),
        12 => ("QCELP", 8000),
        13 => ("CN", 8000),
        14 => ("MPA", 90000),
        15 => ("G728", 8000),
        16 => ("DVI4", 11025),
        17 => ("DVI4", 22050),
        18 => ("G729", 8000),
        25 => ("CelB", 90000),
        26 => ("JPEG", 90000),
        28 => ("nv", 90000),
        31 => ("H261", 90000),
        32 => ("MPV", 90000),
        33 => ("MP2T", 90000),
        34 => ("H263", 90000),
        _ => return None,
    })
}
