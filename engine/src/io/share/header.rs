//! The headers of a datagram that leaves through a raw socket: IPv4 (RFC 791) or IPv6 (RFC 8200), and UDP
//! (RFC 768).

use std::net::SocketAddr;

/// Bytes before a payload that the headers may take.
pub const ROOM: usize = 48;

const UDP: u8 = 17;
const HOPS: u8 = 64;

/// Writes headers right before the payload, which begins [`ROOM`] bytes into `datagram`; where they begin.
///
/// The IPv4 checksum and identification are left to the kernel (raw(7)); the datagram may not be
/// fragmented. `None` when the addresses are of two families or the payload is too long for one.
pub fn write(
    datagram: &mut [u8],
    from: SocketAddr,
    to: SocketAddr,
    traffic_class: u8,
) -> Option<usize> {
    let udp_length = u16::try_from(datagram.len().checked_sub(ROOM)? + 8).ok()?;
    let (start, pseudo) = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            let total = udp_length.checked_add(20)?;
            let header: &mut [u8; 20] = datagram.get_mut(ROOM - 28..)?.first_chunk_mut()?;
            *header = [0; 20];
            header[0] = 0x45;
            header[1] = traffic_class;
            header[2..4].copy_from_slice(&total.to_be_bytes());
            header[6] = 0x40;
            header[8] = HOPS;
            header[9] = UDP;
            header[12..16].copy_from_slice(&from.ip().octets());
            header[16..20].copy_from_slice(&to.ip().octets());
            (ROOM - 28, sum(&header[12..]))
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            let header: &mut [u8; 40] = datagram.first_chunk_mut()?;
            *header = [0; 40];
            header[0] = 0x60 | traffic_class >> 4;
            header[1] = traffic_class << 4;
            header[4..6].copy_from_slice(&udp_length.to_be_bytes());
            header[6] = UDP;
            header[7] = HOPS;
            header[8..24].copy_from_slice(&from.ip().octets());
            header[24..].copy_from_slice(&to.ip().octets());
            (0, sum(&header[8..]))
        }
        _ => return None,
    };
    let segment = datagram.get_mut(ROOM - 8..)?;
    segment[0..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[4..6].copy_from_slice(&udp_length.to_be_bytes());
    segment[6..8].fill(0);
    let pseudo = pseudo + u64::from(u16::from(UDP).to_be()) + u64::from(udp_length.to_be());
    let checksum = !fold(pseudo + sum(segment));
    // A checksum of zero would say that there is none.
    let checksum = if checksum == 0 { u16::MAX } else { checksum };
    segment[6..8].copy_from_slice(&checksum.to_ne_bytes());
    Some(start)
}

/// Sum of the bytes as 16-bit words in the machine's order: the Internet checksum does not mind which
/// (RFC 1071 section 2B), nor that words are added four at a time.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut sum = 0;
    for word in &mut words {
        sum += word.first_chunk().map_or(0, |word| u64::from(u32::from_ne_bytes(*word)));
    }
    let mut last = [0; 4];
    let rest = words.remainder();
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_ne_bytes(last))
}

fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it is written: big-endian words, one at a time.
    fn verifies(pseudo: &[u8], segment: &[u8]) -> bool {
        let all = [pseudo, segment, if segment.len() % 2 == 1 { &[0] } else { &[] }].concat();
        let words = all.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum: u32 = words.sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }

    proptest! {
        #[test]
        fn every_checksum_verifies(payload in proptest::collection::vec(any::<u8>(), 0..1500),
                                   from in any::<(u32, u16)>(), to in any::<(u32, u16)>(),
                                   six in any::<(u128, u128)>(), class in any::<u8>()) {
            let pairs = [
                (SocketAddr::new(from.0.to_be_bytes().into(), from.1),
                 SocketAddr::new(to.0.to_be_bytes().into(), to.1)),
                (SocketAddr::new(six.0.to_be_bytes().into(), from.1),
                 SocketAddr::new(six.1.to_be_bytes().into(), to.1)),
            ];
            for (from, to) in pairs {
                let mut datagram = [&[0xaa; ROOM][..], &payload].concat();
                let start = write(&mut datagram, from, to, class).unwrap();
                prop_assert_eq!(&datagram[ROOM..], &payload);
                let header = &datagram[start..ROOM - 8];
                let segment = &datagram[ROOM - 8..];
                let addresses = if from.is_ipv4() { &header[12..] } else { &header[8..] };
                let length = (segment.len() as u32).to_be_bytes();
                let pseudo = [addresses, &length, &[0, 0, 0, UDP]].concat();
                prop_assert!(verifies(&pseudo, segment));
                prop_assert!(segment[6..8] != [0, 0]);
            }
        }
    }

    #[test]
    fn headers_are_what_the_rfcs_say() {
        let (from, to) =
            ("192.0.2.1:12000".parse().unwrap(), "198.51.100.2:40002".parse().unwrap());
        let mut datagram = [&[0xaa; ROOM][..], b"hello"].concat();
        assert_eq!(write(&mut datagram, from, to, 46 << 2), Some(20));
        let expected: [u8; 26] = [
            0x45, 0xb8, 0, 33, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 0x2e,
            0xe0, 0x9c, 0x42, 0, 13,
        ];
        assert_eq!(datagram[20..46], expected);
    }

    #[test]
    fn what_cannot_be_one_datagram_is_refused() {
        let four = "192.0.2.1:1".parse().unwrap();
        let six = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(write(&mut [0; 60], four, six, 0), None);
        assert_eq!(write(&mut [0; ROOM - 1], four, four, 0), None);
        assert_eq!(write(&mut vec![0; ROOM + 65_508], four, four, 0), None);
        assert!(write(&mut vec![0; ROOM + 65_507], four, four, 0).is_some());
    }
}
