//! `parse`: a session description into parts (RFC 8866 §5), without copying.
//!
//! Strict where an SBC acts (`v=`, `o=`, `c=`, `m=`), tolerant of lines and attributes it does not
//! know: they are kept. LF alone ends a line too, as RFC 8866 §5 asks of a parser.

use std::net::IpAddr;

use memchr::memchr;

use super::media::{Attribute, Direction, Kind, Media, Protocol, word};
use super::{MAX_LINES, MAX_MEDIA};
use crate::message::lex::{self, offset_in};
use crate::message::{Kind as Fault, ParseError};

/// The `o=` line.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Originator<'a> {
    /// User name.
    pub username: &'a [u8],
    /// Session id, as written.
    pub id: &'a [u8],
    /// Session version, as written.
    pub version: &'a [u8],
    /// `IN`.
    pub net: &'a [u8],
    /// `IP4` or `IP6`, a space, and the address or name.
    pub addr: &'a [u8],
}

/// A session description.
#[derive(Copy, Clone, Debug)]
pub struct Session<'a> {
    /// The `o=` line.
    pub origin: Originator<'a>,
    /// The session's own address; nothing if there is none or it is a name.
    pub connection: Option<IpAddr>,
    /// The session's own direction.
    pub direction: Direction,
    /// The lines before the first `m=`.
    pub(crate) head: &'a [u8],
    media: [Media<'a>; MAX_MEDIA],
    count: usize,
}

const NO_MEDIA: Media<'static> = Media {
    kind: Kind::Other,
    raw_kind: &[],
    port: 0,
    port_count: 1,
    protocol: Protocol::Other(&[]),
    raw_protocol: &[],
    raw_formats: &[],
    direction: Direction::SendRecv,
    rtcp_mux: false,
    ptime: None,
    connection: None,
    rtcp: None,
    lines: &[],
};

impl<'a> Session<'a> {
    /// The media lines, refused ones included.
    pub fn media(&self) -> &[Media<'a>] {
        self.media.get(..self.count).unwrap_or_default()
    }

    /// Every attribute of the session itself, in order.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        lines(self.head).filter(|line| line.kind == b'a').map(|line| Attribute::new(line.text))
    }

    /// The first attribute of a name of the session itself.
    pub fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.attributes().find(|attribute| attribute.name == name).map(|attribute| attribute.value)
    }
}

/// A line: its letter and the text after `=`.
#[derive(Copy, Clone)]
pub(crate) struct Line<'a> {
    pub(crate) kind: u8,
    pub(crate) text: &'a [u8],
    /// The line without its end.
    pub(crate) raw: &'a [u8],
}

/// The lines of a description that `parse` accepted, or of a part of one.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let line = next_line(&mut rest);
            if let [kind, b'=', text @ ..] = line {
                return Some(Line { kind: *kind, text, raw: line });
            }
        }
        None
    })
}

fn next_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let text = *rest;
    let end = memchr(b'\n', text).unwrap_or(text.len());
    // Never a slice from elsewhere: the reader takes offsets of what this leaves.
    *rest = text.get((end + 1).min(text.len())..).unwrap_or_default();
    let line = text.get(..end).unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses a session description.
pub fn parse(text: &[u8]) -> Result<Session<'_>, ParseError> {
    let mut session = Session {
        origin: Originator::default(),
        connection: None,
        direction: Direction::default(),
        head: text,
        media: [NO_MEDIA; MAX_MEDIA],
        count: 0,
    };
    let mut reader = Reader { text, session: &mut session, has_origin: false };
    reader.read()?;
    if !reader.has_origin {
        return Err(ParseError::new(0, Fault::SdpOrigin));
    }
    finish(&mut session);
    Ok(session)
}

/// Media without an address of their own have the session's.
fn finish(session: &mut Session<'_>) {
    let connection = session.connection;
    for media in session.media.iter_mut().take(session.count) {
        media.connection = media.connection.or(connection);
        if media.is_held_by_address() {
            media.direction = media.direction.deafened();
        }
    }
}

struct Reader<'r, 'a> {
    text: &'a [u8],
    session: &'r mut Session<'a>,
    has_origin: bool,
}

impl<'a> Reader<'_, 'a> {
    fn read(&mut self) -> Result<(), ParseError> {
        let mut rest = self.text;
        let mut count = 0;
        while !rest.is_empty() {
            let at = offset_in(self.text, rest);
            let line = next_line(&mut rest);
            count += 1;
            if count > MAX_LINES {
                return Err(ParseError::new(at, Fault::SdpTooManyLines));
            }
            // One empty line at the very end is a common habit, and harmless.
            if line.is_empty() && rest.is_empty() {
                break;
            }
            if count == 1 && line != b"v=0" {
                return Err(ParseError::new(at, Fault::SdpVersion));
            }
            self.line(line, rest).map_err(|fault| ParseError::new(at, fault))?;
        }
        if count == 0 {
            return Err(ParseError::new(0, Fault::SdpVersion));
        }
        self.end_section(self.text.len());
        Ok(())
    }

    fn line(&mut self, line: &'a [u8], rest: &'a [u8]) -> Result<(), Fault> {
        let [kind, b'=', text @ ..] = line else {
            return Err(Fault::SdpLine);
        };
        if !kind.is_ascii_alphabetic() || text.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(Fault::SdpLine);
        }
        match kind {
            b'm' => self.media(line, text, rest),
            b'o' if self.has_origin || self.session.count > 0 => Err(Fault::SdpOrigin),
            b'o' => {
                self.session.origin = originator(text).ok_or(Fault::SdpOrigin)?;
                self.has_origin = true;
                Ok(())
            }
            b'c' => self.connection(text),
            b'a' => {
                self.attribute(Attribute::new(text));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn current(&mut self) -> Option<&mut Media<'a>> {
        self.session.media.get_mut(self.session.count.checked_sub(1)?)
    }

    /// The first `c=` of a section counts: further ones are layers of multicast.
    fn connection(&mut self, text: &'a [u8]) -> Result<(), Fault> {
        if word(word(text).1).1.is_empty() {
            return Err(Fault::SdpConnection);
        }
        let address = address(text);
        match self.current() {
            Some(media) => media.connection = media.connection.or(address),
            None => self.session.connection = self.session.connection.or(address),
        }
        Ok(())
    }

    fn attribute(&mut self, attribute: Attribute<'a>) {
        match self.current() {
            Some(media) => media.note(attribute),
            None => {
                if let Some(direction) = Direction::from_bytes(attribute.name) {
                    self.session.direction = direction;
                }
            }
        }
    }

    fn media(&mut self, line: &'a [u8], text: &'a [u8], rest: &'a [u8]) -> Result<(), Fault> {
        let at = offset_in(self.text, line);
        self.end_section(at);
        if self.session.count == 0 {
            self.session.head = self.text.get(..at).unwrap_or_default();
        }
        let direction = self.session.direction;
        let media = media_line(text).ok_or(Fault::SdpMedia)?;
        let place = self.session.media.get_mut(self.session.count);
        *place.ok_or(Fault::SdpTooManyMedia)? = Media { direction, lines: rest, ..media };
        self.session.count += 1;
        Ok(())
    }

    /// Cuts the section before an offset, which was noted with everything after it.
    fn end_section(&mut self, at: usize) {
        let text = self.text;
        if let Some(media) = self.current() {
            let from = offset_in(text, media.lines);
            media.lines = text.get(from..at).unwrap_or_default();
        }
    }
}

fn originator(text: &[u8]) -> Option<Originator<'_>> {
    let (username, rest) = word(text);
    let (id, rest) = word(rest);
    let (version, rest) = word(rest);
    let (net, addr) = word(rest);
    let (family, host) = word(addr);
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if username.is_empty() || !is_number(id) || !is_number(version) {
        return None;
    }
    if family.is_empty() || host.is_empty() || host.contains(&b' ') {
        return None;
    }
    Some(Originator { username, id, version, net, addr })
}

/// The address of `IN IP4 192.0.2.1`, multicast scope dropped; nothing if it is a name.
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    let (net, rest) = word(text);
    let (family, host) = word(rest);
    let host = host.split(|&byte| byte == b'/').next().unwrap_or_default();
    let address: IpAddr = std::str::from_utf8(host).ok()?.parse().ok()?;
    let fits = if address.is_ipv4() { family == b"IP4" } else { family == b"IP6" };
    if net == b"IN" && fits { Some(address) } else { None }
}

fn media_line(text: &[u8]) -> Option<Media<'_>> {
    let (raw_kind, rest) = word(text);
    let (ports, rest) = word(rest);
    let (raw_protocol, raw_formats) = word(rest);
    let mut ports = ports.split(|&byte| byte == b'/');
    let number = |text: &[u8]| lex::number(text).and_then(|number| u16::try_from(number).ok());
    let port = number(ports.next()?)?;
    let port_count = ports.next().map_or(Some(1), number).filter(|count| *count > 0)?;
    if raw_kind.is_empty() || raw_protocol.is_empty() || raw_formats.is_empty() {
        return None;
    }
    if ports.next().is_some() {
        return None;
    }
    let (kind, protocol) = (kind(raw_kind), protocol(raw_protocol));
    Some(Media {
        kind,
        raw_kind,
        port,
        port_count,
        protocol,
        raw_protocol,
        raw_formats,
        ..NO_MEDIA
    })
}

fn kind(text: &[u8]) -> Kind {
    match text {
        b"audio" => Kind::Audio,
        b"video" => Kind::Video,
        b"image" => Kind::Image,
        b"text" => Kind::Text,
        b"message" => Kind::Message,
        b"application" => Kind::Application,
        _ => Kind::Other,
    }
}

fn protocol(text: &[u8]) -> Protocol<'_> {
    match text {
        b"RTP/AVP" => Protocol::RtpAvp,
        b"RTP/AVPF" => Protocol::RtpAvpf,
        b"RTP/SAVP" => Protocol::RtpSavp,
        b"RTP/SAVPF" => Protocol::RtpSavpf,
        b"UDP/TLS/RTP/SAVP" => Protocol::UdpTlsRtpSavp,
        b"UDP/TLS/RTP/SAVPF" => Protocol::UdpTlsRtpSavpf,
        _ if text.eq_ignore_ascii_case(b"udptl") => Protocol::UdpTl,
        other => Protocol::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=alice 2890844526 2890844527 IN IP4 host.example\r\ns=-\r\n\
        c=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\na=x-session:1\r\n\
        m=audio 49170 RTP/AVP 0 96 97 101\r\na=rtpmap:96 opus/48000/2\r\n\
        a=rtpmap:97 telephone-event/48000\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=fmtp:101 0-15\r\na=ptime:20\r\na=rtcp:53020\r\n\
        m=video 51372/2 RTP/SAVPF 31\r\nc=IN IP6 2001:db8::1\r\na=inactive\r\na=rtcp-mux\r\n\
        m=image 0 udptl t38\r\n";

    #[test]
    fn an_offer_is_read() {
        let session = parse(OFFER.as_bytes()).unwrap();
        assert_eq!(session.origin.username, b"alice");
        assert_eq!(session.origin.version, b"2890844527");
        assert_eq!(session.origin.addr, b"IP4 host.example");
        assert_eq!(session.attribute(b"x-session"), Some(&b"1"[..]));
        let [audio, video, image] = session.media() else { panic!("{session:?}") };
        assert_eq!((audio.kind, audio.protocol), (Kind::Audio, Protocol::RtpAvp));
        assert_eq!(audio.direction, Direction::SendOnly);
        assert_eq!(audio.rtp(), Some("192.0.2.1:49170".parse().unwrap()));
        assert_eq!(audio.rtcp(), Some("192.0.2.1:53020".parse().unwrap()));
        assert_eq!(audio.ptime, Some(20));
        assert_eq!(audio.rtpmap(96), Some((&b"opus"[..], 48000)));
        assert_eq!((audio.clock_rate(0), audio.clock_rate(99)), (Some(8000), None));
        assert_eq!(audio.encoding(0), Some(&b"PCMU"[..]));
        assert_eq!(audio.telephone_event_pt(), Some(101));
        assert_eq!(audio.fmtp(b"101"), Some(&b"0-15"[..]));
        assert_eq!(audio.formats().count(), 4);
        assert_eq!((video.port_count, video.direction), (2, Direction::Inactive));
        assert_eq!(video.rtp(), Some("[2001:db8::1]:51372".parse().unwrap()));
        assert_eq!(video.rtcp(), video.rtp());
        assert_eq!(video.attributes().count(), 2);
        assert_eq!(
            (image.is_refused(), image.rtp(), image.protocol),
            (true, None, Protocol::UdpTl)
        );
    }

    #[test]
    fn line_ends_may_be_bare() {
        let lf = OFFER.replace("\r\n", "\n");
        let session = parse(lf.as_bytes()).unwrap();
        assert_eq!(session.media().len(), 3);
        assert_eq!(parse(lf.trim_end().as_bytes()).unwrap().media()[2].raw_formats, b"t38");
        assert!(parse(format!("{OFFER}\r\n").as_bytes()).is_ok());
    }

    #[test]
    fn a_zero_address_is_hold() {
        let held = OFFER.replace("192.0.2.1", "0.0.0.0").replace("sendonly", "sendrecv");
        let session = parse(held.as_bytes()).unwrap();
        let audio = session.media()[0];
        assert!(audio.is_held_by_address());
        assert_eq!((audio.direction, audio.rtp()), (Direction::SendOnly, None));
    }

    #[test]
    fn the_last_port_has_no_next_one() {
        let text = OFFER.replace("49170", "65535").replace("a=rtcp:53020\r\n", "");
        let session = parse(text.as_bytes()).unwrap();
        assert_eq!(session.media()[0].rtcp(), None);
    }

    #[test]
    fn what_is_no_description_is_refused() {
        let kind = |text: &str| parse(text.as_bytes()).map(|_| ()).unwrap_err().kind;
        let with = |from: &str, to: &str| kind(&OFFER.replace(from, to));
        assert_eq!(kind(""), Fault::SdpVersion);
        assert_eq!(kind("v=0\r\n"), Fault::SdpOrigin);
        assert_eq!(with("v=0", "v=1"), Fault::SdpVersion);
        assert_eq!(with("2890844526", "x"), Fault::SdpOrigin);
        assert_eq!(with("IN IP4 host.example", "IN IP4"), Fault::SdpOrigin);
        assert_eq!(with("c=IN IP4 192.0.2.1", "c=IN IP4"), Fault::SdpConnection);
        assert_eq!(with("t=0 0", "garbage"), Fault::SdpLine);
        assert_eq!(with("t=0 0", "t=0\0"), Fault::SdpLine);
        for bad in ["65536", "-1", "1/0", "1/2/3", ""] {
            assert_eq!(with("49170", bad), Fault::SdpMedia, "{bad}");
        }
        let media = "m=audio 1 RTP/AVP 0\r\n";
        assert!(parse(format!("{OFFER}{}", media.repeat(MAX_MEDIA - 3)).as_bytes()).is_ok());
        assert_eq!(kind(&format!("{OFFER}{}", media.repeat(6))), Fault::SdpTooManyMedia);
        assert_eq!(kind(&format!("{OFFER}{}", "a=x\r\n".repeat(256))), Fault::SdpTooManyLines);
    }
}
