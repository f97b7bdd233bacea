//! Offer and answer of one G.711 stream (RFC 8866, RFC 3264), and reading the other side's.

use crate::srtp::Key;
use std::net::{IpAddr, SocketAddr};

/// Where the other side wants its audio, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// RTP goes here and must come from here.
    pub(crate) address: SocketAddr,
    /// 0 (PCMU) or 8 (PCMA).
    pub(crate) payload_type: u8,
    /// What it protects its packets with.
    pub(crate) key: Option<Key>,
}

/// Prints a description. An offer names PCMU, PCMA and telephone-event, an answer the one codec.
/// With a key it is of encrypted media.
pub(crate) fn print(
    local: SocketAddr,
    session: u64,
    answer: Option<u8>,
    ptime: u64,
    key: Option<Key>,
) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (local.ip(), local.port());
    let (list, maps) = match answer {
        Some(0) => ("0", "a=rtpmap:0 PCMU/8000\r\n"),
        Some(_) => ("8", "a=rtpmap:8 PCMA/8000\r\n"),
        None => (
            "0 8 101",
            "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n",
        ),
    };
    let profile = if key.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
    let crypto = key.map(|key| key.line()).unwrap_or_default();
    format!(
        "v=0\r\no=sbcload {session} 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} {profile} {list}\r\n{maps}{crypto}a=ptime:{ptime}\r\na=sendrecv\r\n"
    )
}

/// Reads where audio goes; `None` when the audio stream is refused or makes no sense to us.
pub(crate) fn parse(body: &str) -> Option<Remote> {
    let mut ip: Option<IpAddr> = None;
    let mut stream: Option<(u16, u8)> = None;
    let mut key = None;
    for line in body.lines() {
        let (kind, value) = line.trim_end().split_once('=')?;
        match kind {
            "c" => ip = value.split(' ').nth(2)?.split('/').next()?.parse().ok(),
            "m" if stream.is_some() => break,
            "m" => stream = Some(audio(value)?),
            "a" if key.is_none() => key = value.strip_prefix("crypto:").and_then(Key::read),
            _ => {}
        }
    }
    let (port, payload_type) = stream?;
    (port != 0).then_some(Remote { address: SocketAddr::new(ip?, port), payload_type, key })
}

fn audio(value: &str) -> Option<(u16, u8)> {
    let mut words = value.strip_prefix("audio ")?.split(' ');
    let port = words.next()?.split('/').next()?.parse().ok()?;
    let codec = words.skip(1).find_map(|word| word.parse().ok().filter(|pt| matches!(pt, 0 | 8)));
    Some((port, codec?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let local: SocketAddr = "[::1]:4000".parse().unwrap();
        let offer = parse(&print(local, 1, None, 20, None)).unwrap();
        assert_eq!(offer, Remote { address: local, payload_type: 0, key: None });
        assert_eq!(parse(&print(local, 1, Some(8), 20, None)).unwrap().payload_type, 8);
    }

    #[test]
    fn the_stream_s_own_address_wins_and_port_zero_is_a_refusal() {
        let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 9 RTP/AVP 8 0\r\nc=IN IP4 10.0.0.2\r\n";
        let remote = parse(text).unwrap();
        assert_eq!((remote.address, remote.payload_type), ("10.0.0.2:9".parse().unwrap(), 8));
        assert_eq!(parse("c=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n"), None);
    }
}
