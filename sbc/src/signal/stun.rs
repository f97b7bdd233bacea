//! STUN on a SIP port (RFC 5626 4.4.2 and 8): a peer behind a NAT keeps its binding open with Binding requests
//! beside its SIP, and learns from the answer whether the binding is still the one it had. We ask the same of who
//! is to be kept open (see `keepalive`).
//!
//! Only what that needs of RFC 5389: a request without credentials is answered with the address it came from.
//! ICE is another matter, and the media's.

use std::net::{IpAddr, SocketAddr};

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;
const BINDING: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const FAILURE: u16 = 0x0111;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
/// Attributes below this one must be understood (15).
const OPTIONAL: u16 = 0x8000;
/// Attributes we name as unknown at most.
const MOST_UNKNOWN: usize = 8;

/// Whether a datagram is STUN and not SIP: no line of SIP begins with such an octet (6).
pub(super) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4) && word(bytes, 4) == Some(COOKIE)
}

/// Whether a datagram is the answer to a Binding request.
pub(super) fn is_answer(bytes: &[u8]) -> bool {
    is_stun(bytes) && matches!(half(bytes, 0), Some(SUCCESS | FAILURE)) && bytes.len() >= HEADER
}

/// A Binding request.
pub(super) fn request(transaction: &[u8; 12]) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..2].copy_from_slice(&BINDING.to_be_bytes());
    out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    out[8..].copy_from_slice(transaction);
    out
}

/// The address an answer says its request came from.
pub(super) fn mapped_in(bytes: &[u8]) -> Option<SocketAddr> {
    let transaction = bytes.get(4..HEADER)?;
    let mut attributes = bytes.get(HEADER..)?;
    while let (Some(kind), Some(length)) = (half(attributes, 0), half(attributes, 2)) {
        let length = usize::from(length);
        let value = attributes.get(4..4 + length)?;
        if kind == XOR_MAPPED_ADDRESS {
            let port = half(value, 2)? ^ (COOKIE >> 16) as u16;
            let octets = value.get(4..)?.iter().zip(transaction).map(|(octet, key)| octet ^ key);
            let octets: Vec<u8> = octets.collect();
            let v4 = <[u8; 4]>::try_from(octets.as_slice()).map(IpAddr::from);
            let ip = v4.or_else(|_| <[u8; 16]>::try_from(octets.as_slice()).map(IpAddr::from));
            return ip.ok().map(|ip| SocketAddr::new(ip, port));
        }
        attributes = attributes.get(4 + length.next_multiple_of(4)..)?;
    }
    None
}

/// The answer to a Binding request from `source`; `None` when it is none, or is damaged.
pub(super) fn answer(bytes: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> Option<()> {
    let length = usize::from(half(bytes, 2)?);
    let attributes = bytes.get(HEADER..).filter(|a| a.len() == length && length % 4 == 0)?;
    if half(bytes, 0)? != BINDING {
        return None;
    }
    let unknown = unknown(attributes)?;
    let transaction = bytes.get(4..HEADER)?;
    let mut body = Vec::with_capacity(32);
    if unknown.is_empty() {
        mapped(source, transaction, &mut body);
    } else {
        // 7.3.1: 420, and which they were.
        attribute(ERROR_CODE, b"\x00\x00\x04\x14Unknown Attribute", &mut body);
        let listed: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        attribute(UNKNOWN_ATTRIBUTES, &listed, &mut body);
    }
    let kind = if unknown.is_empty() { SUCCESS } else { FAILURE };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(body.len()).ok()?.to_be_bytes());
    out.extend_from_slice(transaction);
    out.extend_from_slice(&body);
    Some(())
}

/// The attributes we had to understand and do not; `None` when they do not fit each other.
fn unknown(mut attributes: &[u8]) -> Option<Vec<u16>> {
    let mut found = Vec::new();
    while !attributes.is_empty() {
        let (kind, length) = (half(attributes, 0)?, usize::from(half(attributes, 2)?));
        attributes = attributes.get(4 + length.next_multiple_of(4)..)?;
        if kind < OPTIONAL && found.len() < MOST_UNKNOWN {
            found.push(kind);
        }
    }
    Some(found)
}

/// The address somebody has for us, so written that no NAT takes it for one to be translated (15.2).
fn mapped(source: SocketAddr, transaction: &[u8], out: &mut Vec<u8>) {
    let port = source.port() ^ (COOKIE >> 16) as u16;
    let octets = match source.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let family = if octets.len() == 4 { 1 } else { 2 };
    let hidden = octets.iter().zip(transaction).map(|(octet, key)| octet ^ key);
    let value: Vec<u8> = [0, family].into_iter().chain(port.to_be_bytes()).chain(hidden).collect();
    attribute(XOR_MAPPED_ADDRESS, &value, out);
}

fn attribute(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769 2.2 and 2.3: the transaction and the addresses of its sample responses.
    const TRANSACTION: [u8; 12] =
        [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn request(attributes: &[u8]) -> Vec<u8> {
        let head = [0, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xa4, 0x42];
        [&head[..], &TRANSACTION, attributes].concat()
    }

    fn answered(bytes: &[u8], source: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        answer(bytes, source.parse().unwrap(), &mut out).map(|()| out)
    }

    #[test]
    fn a_binding_is_answered_with_the_address_it_came_from() {
        let head = |len| [&[1, 1, 0, len, 0x21, 0x12, 0xa4, 0x42][..], &TRANSACTION].concat();
        let v4 = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let plain = request(&[]);
        assert!(is_stun(&plain));
        assert_eq!(answered(&plain, "192.0.2.1:32853"), Some([&head(12)[..], &v4].concat()));
        let v6 = [
            0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc,
            0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        let source = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(answered(&plain, source), Some([&head(24)[..], &v6].concat()));
        // And who asked reads it there.
        assert_eq!(plain, super::request(&TRANSACTION));
        for source in ["192.0.2.1:32853", source] {
            let answer = answered(&plain, source).unwrap();
            assert!(is_answer(&answer) && !is_answer(&plain));
            assert_eq!(mapped_in(&answer), Some(source.parse().unwrap()));
            let cut = (HEADER..answer.len()).map(|len| mapped_in(&answer[..len]));
            assert!(cut.flatten().next().is_none());
        }
        // SOFTWARE may be skipped.
        let named = request(&[0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
        assert_eq!(answered(&named, "192.0.2.1:32853"), Some([&head(12)[..], &v4].concat()));
    }

    #[test]
    fn what_must_be_understood_and_is_not_is_named() {
        let told = answered(&request(&[0, 3, 0, 4, 0, 0, 0, 6]), "192.0.2.1:1").unwrap();
        assert_eq!(told[..2], [1, 0x11]);
        assert!(told.ends_with(&[0, 0x0a, 0, 2, 0, 3, 0, 0]));
        assert_eq!(usize::from(told[3]), told.len() - HEADER);
    }

    #[test]
    fn what_is_no_request_gets_no_answer() {
        let plain = request(&[]);
        let with = |at: usize, byte: u8| {
            let mut changed = plain.clone();
            changed[at] = byte;
            changed
        };
        for bytes in [&plain[..19], &with(1, 0x11), &with(3, 4), &with(3, 1), &[0; 20][..20]] {
            assert_eq!(answered(bytes, "192.0.2.1:1").filter(|_| is_stun(bytes)), None);
        }
        assert_eq!(answered(&request(&[0, 6, 0, 200]), "192.0.2.1:1"), None);
        for sip in [&b"\r\n\r\n"[..], b"INVITE sip:a SIP/2.0", b"", b"\x00\x01"] {
            assert!(!is_stun(sip));
        }
    }
}
