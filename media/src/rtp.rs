//! The RTP header (RFC 3550 §5.1): checked against the datagram's length; renumbered for a leg whose
//! plan asks for a stream of our own.

use crate::verdict::Discard;

/// Bytes of the fixed header.
pub const FIXED: usize = 12;

/// The fields of a valid packet that the relay uses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp, in units of the payload type's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Reads the header of a datagram already known to carry version 2 in its first byte. CSRC list,
/// extension (§5.3.1) and padding must fit the length.
pub fn read(datagram: &[u8]) -> Result<Header, Discard> {
    let (fixed, rest) = datagram.split_first_chunk::<FIXED>().ok_or(Discard::Short)?;
    let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
    if first & 0x3f != 0 {
        check_padding(first, past_options(first, rest)?)?;
    }
    Ok(Header {
        payload_type: second & 0x7f,
        marker: second & 0x80 != 0,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
    })
}

/// What a valid packet carries, without CSRC list, extension and padding.
pub(crate) fn payload(packet: &[u8]) -> &[u8] {
    let Some((&[first, ..], mut rest)) = packet.split_first_chunk::<FIXED>() else { return &[] };
    rest = rest.get(usize::from(first & 0x0f) * 4..).unwrap_or_default();
    if first & 0x10 != 0
        && let Some((&[_, _, l0, l1], body)) = rest.split_first_chunk::<4>()
    {
        rest = body.get(usize::from(u16::from_be_bytes([l0, l1])) * 4..).unwrap_or_default();
    }
    let padding = if first & 0x20 != 0 { rest.last().map_or(0, |n| usize::from(*n)) } else { 0 };
    rest.get(..rest.len().saturating_sub(padding)).unwrap_or_default()
}

/// Gives a valid packet another sequence number, timestamp and source.
pub(crate) fn renumber(packet: &mut [u8], sequence: u16, timestamp: u32, ssrc: u32) {
    if let Some(fixed) = packet.first_chunk_mut::<FIXED>() {
        fixed[2..4].copy_from_slice(&sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&timestamp.to_be_bytes());
        fixed[8..].copy_from_slice(&ssrc.to_be_bytes());
    }
}

/// Bytes of header, CSRC list and extension: where the payload begins.
pub(crate) fn header_len(datagram: &[u8]) -> Result<usize, Discard> {
    let (fixed, rest) = datagram.split_first_chunk::<FIXED>().ok_or(Discard::Short)?;
    Ok(datagram.len() - past_options(fixed[0], rest)?.len())
}

fn past_options(first: u8, rest: &[u8]) -> Result<&[u8], Discard> {
    let sources = usize::from(first & 0x0f) * 4;
    let mut rest = rest.get(sources..).ok_or(Discard::Malformed)?;
    if first & 0x10 != 0 {
        let (&[_, _, l0, l1], body) = rest.split_first_chunk::<4>().ok_or(Discard::Malformed)?;
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        rest = body.get(words * 4..).ok_or(Discard::Malformed)?;
    }
    Ok(rest)
}

fn check_padding(first: u8, rest: &[u8]) -> Result<(), Discard> {
    if first & 0x20 != 0 {
        let padding = usize::from(*rest.last().ok_or(Discard::Malformed)?);
        if padding == 0 || padding > rest.len() {
            return Err(Discard::Malformed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn reads_the_fixed_header() {
        let header = read(&packet(0x80, &[])).unwrap();
        let expected = Header {
            payload_type: 96,
            marker: true,
            sequence: 0x1234,
            timestamp: 9,
            ssrc: 0xdead_beef,
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn the_payload_is_what_the_options_leave() {
        let cases: [(u8, &[u8], &[u8]); 5] = [
            (0x80, &[1, 2], &[1, 2]),
            (0x81, &[9, 9, 9, 9, 1], &[1]),
            (0x90, &[0, 0, 0, 1, 9, 9, 9, 9, 1, 2], &[1, 2]),
            (0xa0, &[1, 2, 0, 2], &[1, 2]),
            (0xb1, &[9, 9, 9, 9, 0, 0, 0, 0, 1, 1], &[1]),
        ];
        for (first, rest, expected) in cases {
            assert_eq!(payload(&packet(first, rest)), expected, "{first:x}");
        }
    }

    #[test]
    fn options_must_fit() {
        let good: [(u8, &[u8]); 5] = [
            (0x81, &[0; 4]),
            (0x90, &[0, 0, 0, 1, 1, 2, 3, 4]),
            (0xa0, &[1]),
            (0xa0, &[7, 0, 0, 4]),
            (0xb1, &[0, 0, 0, 0, 0, 0, 0, 0, 9, 1]),
        ];
        for (first, rest) in good {
            assert!(read(&packet(first, rest)).is_ok(), "{first:x} {rest:?}");
        }
        let bad: [(u8, &[u8]); 7] = [
            (0x81, &[0; 3]),
            (0x8f, &[0; 59]),
            (0x90, &[0, 0, 0]),
            (0x90, &[0, 0, 0, 2, 0, 0, 0, 0]),
            (0xa0, &[]),
            (0xa0, &[0]),
            (0xa0, &[0, 3]),
        ];
        for (first, rest) in bad {
            assert_eq!(read(&packet(first, rest)), Err(Discard::Malformed), "{first:x} {rest:?}");
        }
        assert_eq!(read(&packet(0x80, &[])[..11]), Err(Discard::Short));
    }
}
