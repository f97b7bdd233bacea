//! STUN as an ICE lite agent needs it (RFC 8489, RFC 8445 §7.3): Binding requests read, and answered in
//! the place they stand.
//!
//! Only a request that knows the leg's password is answered; nobody else learns that there is anybody, unless
//! the plan has us tell whoever asks where he comes from.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use core::ops::Range;
use std::net::{IpAddr, SocketAddr};

/// Bytes of the header.
const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const INDICATION: u16 = 0x0011;
const SUCCESS: u16 = 0x0101;
const FAILURE: u16 = 0x0111;
/// What a FINGERPRINT is exclusive-ored with (§14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;
/// Attributes that are told of in a 420 at most.
const MAX_UNKNOWN: usize = 4;

mod kind {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(super) const PRIORITY: u16 = 0x0024;
    pub(super) const USE_CANDIDATE: u16 = 0x0025;
    pub(super) const FINGERPRINT: u16 = 0x8028;
}

/// Who may check the connectivity of a leg: what we said in its description (RFC 8445 §5.3).
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Ice {
    /// Our user name fragment.
    pub ufrag: [u8; 8],
    /// Our password.
    pub password: [u8; 24],
}

impl core::fmt::Debug for Ice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ice({}, ..)", String::from_utf8_lossy(&self.ufrag))
    }
}

/// What a STUN message is to us.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A request of the leg's. True when it nominates the way it came (RFC 8445 §8.1.1).
    Check(bool),
    /// A request of the leg's with attributes that we do not know but must.
    Strange([u16; MAX_UNKNOWN]),
    /// The leg keeps a binding alive.
    Indication,
}

/// Reads a message; `None` when it is malformed, no Binding, or not of somebody who knows the password.
pub(crate) fn read(bytes: &[u8], ice: &Ice) -> Option<Message> {
    let (method, len) = (word(bytes, 0)?, usize::from(word(bytes, 2)?));
    if long(bytes, 4)? != COOKIE || len % 4 != 0 || bytes.len() != HEADER + len {
        return None;
    }
    if method == INDICATION {
        return Some(Message::Indication);
    }
    if method != REQUEST {
        return None;
    }
    let (mut named, mut nominates, mut proved, mut marked) = (false, false, false, false);
    let (mut unknown, mut unknowns) = ([0; MAX_UNKNOWN], 0);
    for (kind, value) in attributes(bytes)? {
        let at = value.start - 4;
        match kind {
            kind::FINGERPRINT => {
                let made = crc32(bytes.get(..at)?) ^ FINGERPRINT_MASK;
                if long(bytes, value.start)? != made || value.end != bytes.len() {
                    return None;
                }
                marked = true;
            }
            // What follows the integrity but a fingerprint is to be ignored (§14.5).
            _ if proved => {}
            kind::USERNAME => named = is_ours(bytes.get(value)?, ice),
            kind::MESSAGE_INTEGRITY => {
                let made = integrity(bytes, at, &ice.password)?;
                if !named || verify_slices_are_equal(&made, bytes.get(value)?).is_err() {
                    return None;
                }
                proved = true;
            }
            kind::USE_CANDIDATE => nominates = true,
            kind::PRIORITY => {}
            kind if kind < 0x8000 => {
                if let Some(place) = unknown.get_mut(unknowns) {
                    *place = kind;
                    unknowns += 1;
                }
            }
            _ => {}
        }
    }
    // Both are required of a check (RFC 8445 §7.1).
    match (proved && marked, unknowns) {
        (false, _) => None,
        (true, 0) => Some(Message::Check(nominates)),
        (true, _) => Some(Message::Strange(unknown)),
    }
}

/// The most bytes that an answer to such a request is longer by: an IPv6 address.
pub(crate) const MOST_TOLD: u32 = 24;

/// Whether bytes are a Binding request of somebody who claims to be nobody in particular, and asks for no more
/// than where he comes from; and whether it is marked with a fingerprint, as our answer then is.
pub(crate) fn bare(bytes: &[u8]) -> Option<bool> {
    let (method, len) = (word(bytes, 0)?, usize::from(word(bytes, 2)?));
    if method != REQUEST || long(bytes, 4)? != COOKIE || bytes.len() != HEADER + len {
        return None;
    }
    let mut marked = false;
    for (kind, value) in attributes(bytes)? {
        match kind {
            kind::FINGERPRINT => {
                let made = crc32(bytes.get(..value.start - 4)?) ^ FINGERPRINT_MASK;
                marked = long(bytes, value.start)? == made && value.end == bytes.len();
            }
            kind if kind < 0x8000 => return None,
            _ => {}
        }
    }
    Some(marked)
}

/// Turns such a request into our answer, in its place; how long that is, or `None` without room.
pub(crate) fn tell(room: &mut [u8], source: SocketAddr, marked: bool) -> Option<usize> {
    room.get_mut(..2)?.copy_from_slice(&SUCCESS.to_be_bytes());
    let mut id = [0; 12];
    id.copy_from_slice(room.get(8..HEADER)?);
    let (value, len) = mapped(source, &id);
    let at = put(room, HEADER, kind::XOR_MAPPED_ADDRESS, value.get(..len)?)?;
    if !marked {
        return Some(at);
    }
    set_len(room, at + 8)?;
    let mark = crc32(room.get(..at)?) ^ FINGERPRINT_MASK;
    put(room, at, kind::FINGERPRINT, &mark.to_be_bytes())
}

/// Turns a request that was read into our answer, in its place; how long that is, or `None` without room.
pub(crate) fn answer(
    room: &mut [u8],
    message: Message,
    source: SocketAddr,
    ice: &Ice,
) -> Option<usize> {
    let mut at = HEADER;
    match message {
        Message::Check(_) => {
            room.get_mut(..2)?.copy_from_slice(&SUCCESS.to_be_bytes());
            let mut id = [0; 12];
            id.copy_from_slice(room.get(8..HEADER)?);
            let (value, len) = mapped(source, &id);
            at = put(room, at, kind::XOR_MAPPED_ADDRESS, value.get(..len)?)?;
        }
        Message::Strange(unknown) => {
            room.get_mut(..2)?.copy_from_slice(&FAILURE.to_be_bytes());
            at = put(room, at, kind::ERROR_CODE, b"\0\0\x04\x14Unknown Attribute\0\0\0")?;
            let mut list = [0; 2 * MAX_UNKNOWN];
            let known = unknown.iter().filter(|kind| **kind != 0);
            let len = 2 * known.clone().count();
            for (place, kind) in list.chunks_exact_mut(2).zip(known) {
                place.copy_from_slice(&kind.to_be_bytes());
            }
            at = put(room, at, kind::UNKNOWN_ATTRIBUTES, list.get(..len)?)?;
        }
        Message::Indication => return None,
    }
    let made = integrity(room, at, &ice.password)?;
    at = put(room, at, kind::MESSAGE_INTEGRITY, &made)?;
    set_len(room, at + 8)?;
    let mark = crc32(room.get(..at)?) ^ FINGERPRINT_MASK;
    put(room, at, kind::FINGERPRINT, &mark.to_be_bytes())
}

/// `ours:theirs` (RFC 8445 §7.2.2).
fn is_ours(username: &[u8], ice: &Ice) -> bool {
    username.split(|byte| *byte == b':').next() == Some(&ice.ufrag)
}

/// Kind and place of every attribute; `None` when they do not fit.
fn attributes(bytes: &[u8]) -> Option<impl Iterator<Item = (u16, Range<usize>)>> {
    let mut at = HEADER;
    while at < bytes.len() {
        at += 4 + usize::from(word(bytes, at + 2)?).next_multiple_of(4);
    }
    if at != bytes.len() {
        return None;
    }
    let mut at = HEADER;
    Some(core::iter::from_fn(move || {
        let (kind, len) = (word(bytes, at)?, usize::from(word(bytes, at + 2)?));
        let value = at + 4..at + 4 + len;
        at += 4 + len.next_multiple_of(4);
        Some((kind, value))
    }))
}

/// Writes an attribute, and the length of the message up to its end; where that is.
fn put(room: &mut [u8], at: usize, kind: u16, value: &[u8]) -> Option<usize> {
    let end = at + 4 + value.len().next_multiple_of(4);
    room.get_mut(at..end)?.fill(0);
    room.get_mut(at..at + 2)?.copy_from_slice(&kind.to_be_bytes());
    room.get_mut(at + 2..at + 4)?.copy_from_slice(&(value.len() as u16).to_be_bytes());
    room.get_mut(at + 4..at + 4 + value.len())?.copy_from_slice(value);
    set_len(room, end)?;
    Some(end)
}

fn set_len(room: &mut [u8], end: usize) -> Option<()> {
    let len = u16::try_from(end - HEADER).ok()?;
    room.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
    Some(())
}

/// HMAC-SHA-1 of what stands before `at`, with a length that ends with the integrity itself (§14.5).
fn integrity(bytes: &[u8], at: usize, password: &[u8]) -> Option<[u8; 20]> {
    let mut copy = [0; 1024];
    let covered = copy.get_mut(..at)?;
    covered.copy_from_slice(bytes.get(..at)?);
    set_len(covered, at + 24)?;
    let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, password), covered);
    tag.as_ref().try_into().ok()
}

/// XOR-MAPPED-ADDRESS (§14.2) and how long it is.
fn mapped(source: SocketAddr, id: &[u8; 12]) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    let port = source.port() ^ (COOKIE >> 16) as u16;
    value[2..4].copy_from_slice(&port.to_be_bytes());
    match source.ip() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(u32::from(ip) ^ COOKIE).to_be_bytes());
            (value, 8)
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(id);
            let hidden = u128::from(ip) ^ u128::from_be_bytes(mask);
            value[4..].copy_from_slice(&hidden.to_be_bytes());
            (value, 20)
        }
    }
}

/// CRC-32 of ITU-T V.42, bit by bit: a hundred bytes a few times a minute.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ice() -> Ice {
        Ice { ufrag: *b"evtj:h6v", password: *b"VOkJxbRl1RmTxUk/WvJxBt__" }
    }

    /// A request as a peer with our password makes it.
    fn request(ice: &Ice, username: &[u8], more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut room = vec![0; 512];
        room[..2].copy_from_slice(&REQUEST.to_be_bytes());
        room[4..8].copy_from_slice(&COOKIE.to_be_bytes());
        room[8..HEADER].copy_from_slice(b"transaction!");
        let mut at = put(&mut room, HEADER, kind::USERNAME, username).unwrap();
        for (kind, value) in more {
            at = put(&mut room, at, *kind, value).unwrap();
        }
        let made = integrity(&room, at, &ice.password).unwrap();
        at = put(&mut room, at, kind::MESSAGE_INTEGRITY, &made).unwrap();
        set_len(&mut room, at + 8).unwrap();
        let mark = crc32(&room[..at]) ^ FINGERPRINT_MASK;
        let end = put(&mut room, at, kind::FINGERPRINT, &mark.to_be_bytes()).unwrap();
        room.truncate(end);
        room
    }

    #[test]
    fn the_sample_request_of_rfc_5769_is_authentic() {
        // §2.1, whose user name is `evtj:h6vY`.
        let bytes = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
            \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
            \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
            \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
            \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
        let at = bytes.windows(4).position(|w| w == b"\x00\x08\x00\x14").unwrap();
        let made = integrity(bytes, at, b"VOkJxbRl1RmTxUk/WvJxBt").unwrap();
        assert_eq!(made[..], bytes[at + 4..at + 24]);
        let mark = crc32(&bytes[..bytes.len() - 8]) ^ FINGERPRINT_MASK;
        assert_eq!(mark.to_be_bytes(), bytes[bytes.len() - 4..]);
    }

    #[test]
    fn a_check_is_read_and_answered_in_its_place() {
        let ice = Ice { ufrag: *b"ourufrag", ..ice() };
        for (source, nominates) in [("192.0.2.1:32853", false), ("[2001:db8::1]:4000", true)] {
            let nomination: &[(u16, &[u8])] = if nominates {
                &[(kind::USE_CANDIDATE, b"")]
            } else {
                &[(kind::PRIORITY, b"1234")]
            };
            let mut bytes = request(&ice, b"ourufrag:them", nomination);
            let message = read(&bytes, &ice).unwrap();
            assert_eq!(message, Message::Check(nominates));
            bytes.resize(256, 0);
            let len = answer(&mut bytes, message, source.parse().unwrap(), &ice).unwrap();
            let bytes = &bytes[..len];
            assert_eq!((word(bytes, 0), bytes.len()), (Some(SUCCESS), HEADER + len - HEADER));
            let found: Vec<u16> = attributes(bytes).unwrap().map(|(kind, _)| kind).collect();
            let expected = [kind::XOR_MAPPED_ADDRESS, kind::MESSAGE_INTEGRITY, kind::FINGERPRINT];
            assert_eq!(found, expected);
            let at = len - 32;
            assert_eq!(integrity(bytes, at, &ice.password).unwrap()[..], bytes[at + 4..at + 24]);
            if !nominates {
                // RFC 5769 §2.2 has the same address.
                assert_eq!(bytes[24..32], *b"\x00\x01\xa1\x47\xe1\x12\xa6\x43");
            }
        }
    }

    #[test]
    fn a_bare_request_is_told_where_it_came_from_in_the_room_there_is() {
        for marked in [true, false] {
            let mut bytes = vec![0; HEADER + MOST_TOLD as usize + 8];
            bytes[..2].copy_from_slice(&REQUEST.to_be_bytes());
            bytes[4..8].copy_from_slice(&COOKIE.to_be_bytes());
            let mut len = HEADER;
            if marked {
                set_len(&mut bytes, HEADER + 8).unwrap();
                let mark = crc32(&bytes[..HEADER]) ^ FINGERPRINT_MASK;
                len = put(&mut bytes, HEADER, kind::FINGERPRINT, &mark.to_be_bytes()).unwrap();
            }
            assert_eq!(bare(&bytes[..len]), Some(marked));
            bytes.truncate(len + MOST_TOLD as usize);
            let told = tell(&mut bytes, "[2001:db8::1]:4000".parse().unwrap(), marked).unwrap();
            assert_eq!(told, len + MOST_TOLD as usize);
            assert_eq!(word(&bytes, 0), Some(SUCCESS));
        }
        let signed = request(&ice(), b"evtj:h6v", &[]);
        assert_eq!(bare(&signed), None);
        for cut in 0..signed.len() {
            assert_eq!(bare(&signed[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn whoever_does_not_know_the_password_gets_nothing() {
        let ours = Ice { ufrag: *b"ourufrag", ..ice() };
        let other = Ice { password: [b'x'; 24], ..ours };
        assert_eq!(read(&request(&other, b"ourufrag:them", &[]), &ours), None);
        assert_eq!(read(&request(&ours, b"another_:them", &[]), &ours), None);
        let good = request(&ours, b"ourufrag:them", &[]);
        for at in 0..good.len() {
            let mut altered = good.clone();
            altered[at] ^= 1;
            // The method's lowest bit aside, which makes it no request at all.
            assert_eq!(read(&altered, &ours), None, "byte {at}");
            assert_eq!(read(&good[..at], &ours), None, "cut at {at}");
        }
        // Without the integrity, but with a right fingerprint.
        let mut bare = good[..good.len() - 32].to_vec();
        set_len(&mut bare, good.len() - 32).unwrap();
        assert_eq!(read(&bare, &ours), None);
    }

    #[test]
    fn attributes_that_must_be_known_are_told_of() {
        let ice = Ice { ufrag: *b"ourufrag", ..ice() };
        let mut bytes = request(&ice, b"ourufrag:them", &[(0x7777, b"1234"), (0xc057, b"abcd")]);
        let message = read(&bytes, &ice).unwrap();
        assert_eq!(message, Message::Strange([0x7777, 0, 0, 0]));
        bytes.resize(256, 0);
        let len = answer(&mut bytes, message, "192.0.2.1:9".parse().unwrap(), &ice).unwrap();
        assert_eq!(word(&bytes, 0), Some(FAILURE));
        assert!(bytes[..len].windows(6).any(|w| w == b"\x00\x0a\x00\x02\x77\x77"));
    }

    #[test]
    fn a_leg_is_where_its_nominated_check_came_from() {
        use crate::{Discard, Media, MediaPort, Plan, Verdict};
        use base::{Bytes, Instant, Now, Pool, PortId, Wall};
        let now = Now { mono: Instant(1), wall: Wall(0) };
        let address = "203.0.113.1:10000".parse().unwrap();
        let ports = MediaPort { rtp: PortId(0), rtcp: PortId(1), address, interface: 0 };
        let mut media = Media::new(vec![ports], [1; 32], now.mono);
        let end = media.reserve(0, now.mono).unwrap();
        let ice = media.draw_ice();
        let username = [&ice.ufrag[..], b":them"].concat();
        let plan = Plan { rtcp_mux: true, receive: true, ice: Some(ice), ..Plan::default() };
        media.program(now.mono, end, plan);
        let (mut pool, mut out) = (Pool::new(2_048), Vec::new());
        let mut arrive = |media: &mut Media, source: &str, packet: &[u8]| {
            let bytes = Bytes { at: 0, len: packet.len() as u32 };
            pool.get_mut(bytes).copy_from_slice(packet);
            let source = source.parse().unwrap();
            let verdict = media.receive(now, PortId(0), source, bytes, &mut pool, &mut out);
            let sent = out.pop().map(|sent| (sent.to, pool.get(sent.bytes).to_vec()));
            (verdict, sent)
        };
        let check = request(&ice, &username, &[]);
        let (verdict, sent) = arrive(&mut media, "192.0.2.1:4000", &check);
        let (to, answer) = sent.expect("an answer");
        assert_eq!((verdict, word(&answer, 0)), (Verdict::Answer, Some(SUCCESS)));
        assert_eq!(to, "192.0.2.1:4000".parse().unwrap());
        assert_eq!(media.target(end), None, "it was a check, no nomination");
        let nomination = request(&ice, &username, &[(kind::USE_CANDIDATE, b"")]);
        assert_eq!(arrive(&mut media, "192.0.2.1:4000", &nomination).0, Verdict::Answer);
        assert_eq!(media.target(end), "192.0.2.1:4000".parse().ok());
        let strange = request(&Ice { password: [b'x'; 24], ..ice }, &username, &[]);
        let silence = (Verdict::Discard(Discard::Stun), None);
        assert_eq!(arrive(&mut media, "203.0.113.66:9", &strange), silence);
        let rtp = [&[0x80, 0, 0, 1][..], &[0; 20]].concat();
        let refused = Verdict::Discard(Discard::WrongSource);
        assert_eq!(arrive(&mut media, "203.0.113.66:9", &rtp).0, refused);
        // The leg moves: another network, the same password.
        assert_eq!(arrive(&mut media, "198.51.100.9:7", &nomination).0, Verdict::Answer);
        assert_eq!(media.target(end), "198.51.100.9:7".parse().ok());
        assert_eq!(arrive(&mut media, "192.0.2.1:4000", &rtp).0, refused);
        assert_eq!(media.counters.checks_answered.get(), 3);
    }
}
