//! Datagrams as a file that Wireshark, tshark and tcpdump open: classic pcap with nanoseconds
//! (draft-ietf-opsawg-pcap), each packet from its IP header on.

use engine::io::share::header::{self, ROOM};
use std::net::SocketAddr;

/// Says that the file is little-endian and its times are in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_RAW: IPv4 or IPv6, as the first four bits say.
const RAW: u32 = 101;
/// No packet is longer.
const LONGEST: u32 = 65_535;

/// What a file begins with.
pub(crate) fn head() -> Vec<u8> {
    let words = [MAGIC, 4 << 16 | 2, 0, 0, LONGEST, RAW];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// A UDP datagram of `at_ns` nanoseconds since the Unix epoch; `None` when its addresses are of two families, or
/// it is too long for one packet.
pub(crate) fn packet(
    at_ns: u64,
    (from, to): (SocketAddr, SocketAddr),
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut datagram = [&[0; ROOM][..], payload].concat();
    let start = header::write(&mut datagram, from, to, 0)?;
    let packet = datagram.get_mut(start..)?;
    if from.is_ipv4() {
        let sum = checksum(packet.get(..20)?);
        packet.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    }
    let len = u32::try_from(packet.len()).ok()?;
    let seconds = u32::try_from(at_ns / 1_000_000_000).ok()?;
    let head = [seconds, (at_ns % 1_000_000_000) as u32, len, len].map(u32::to_le_bytes);
    Some([head.as_flattened(), packet].concat())
}

/// The Internet checksum (RFC 1071) of a header whose own is zero.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|word| word.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(folded + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_over_ipv4_byte_by_byte() {
        let path = ("192.0.2.1:4000".parse().unwrap(), "198.51.100.2:20000".parse().unwrap());
        let bytes = packet(1_700_000_000_000_000_007, path, b"hi").unwrap();
        let (head, packet) = bytes.split_at(16);
        assert_eq!(head[..4], 1_700_000_000u32.to_le_bytes());
        assert_eq!(head[4..], [7, 0, 0, 0, 30, 0, 0, 0, 30, 0, 0, 0]);
        assert_eq!(packet[..10], [0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(packet[12..24], [192, 0, 2, 1, 198, 51, 100, 2, 0x0f, 0xa0, 0x4e, 0x20]);
        assert_eq!((&packet[24..26], &packet[28..]), (&[0, 10][..], &b"hi"[..]));
        // The sum over a header with its checksum is all ones (RFC 1071 1).
        assert_eq!(checksum(&packet[..20]), 0);
    }

    #[test]
    fn ipv6_has_no_checksum_of_its_own_and_families_are_not_mixed() {
        let (four, six) =
            ("192.0.2.1:4000".parse().unwrap(), "[2001:db8::1]:4000".parse().unwrap());
        let bytes = packet(0, (six, six), &[0; 172]).unwrap();
        assert_eq!((bytes.len(), bytes[16] >> 4), (16 + 40 + 8 + 172, 6));
        assert_eq!(packet(0, (four, six), b"hi"), None);
        assert_eq!(packet(0, (four, four), &vec![0; 65_536]), None);
    }

    #[test]
    fn a_file_says_what_it_is() {
        let head = head();
        assert_eq!(head[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(head[16..], [0xff, 0xff, 0, 0, 101, 0, 0, 0]);
    }
}
