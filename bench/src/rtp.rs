//! The RTP packets sent (RFC 3550), whose payload says whose they are, and the check of those heard.
//!
//! 160 bytes that no codec made: magic, run, call, direction, sequence, send time, a checksum over
//! them and a fill. A relay must deliver them byte for byte; one changed bit is found.

/// Payload marker.
const MAGIC: u32 = 0x5342_4c44;
/// Bytes before the payload; we send no extension and no contributors.
const HEADER: usize = 12;
/// Payload bytes that carry meaning.
const MARKS: usize = 36;
/// A-law and mu-law alike take it for near silence.
const FILL: u8 = 0xd5;

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Which run of the tool; zero when the sides are two processes.
    pub(crate) run: u32,
    /// Which call.
    pub(crate) call: u32,
    /// Sent by the caller (0) or the called side (1).
    pub(crate) side: u8,
    /// Counts from zero.
    pub(crate) sequence: u32,
    /// When it was sent, Unix nanoseconds.
    pub(crate) wall: u64,
}

impl Mark {
    fn bytes(&self) -> [u8; MARKS] {
        let mut out = [0; MARKS];
        out[..4].copy_from_slice(&MAGIC.to_be_bytes());
        out[4..8].copy_from_slice(&self.run.to_be_bytes());
        out[8..12].copy_from_slice(&self.call.to_be_bytes());
        out[12..16].copy_from_slice(&u32::from(self.side).to_be_bytes());
        out[16..20].copy_from_slice(&self.sequence.to_be_bytes());
        out[20..28].copy_from_slice(&self.wall.to_be_bytes());
        let sum = checksum(&out[..28]);
        out[28..].copy_from_slice(&sum.to_be_bytes());
        out
    }
}

/// FNV-1a over 28 bytes, four at a time.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(4).fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let word = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
    })
}

/// Writes one packet of `ptime` ms of G.711.
pub(crate) fn print(out: &mut Vec<u8>, mark: &Mark, payload_type: u8, ptime: u64) {
    let samples = ptime as usize * 8;
    let key = mark.call.wrapping_mul(2).wrapping_add(u32::from(mark.side));
    let sequence = (key.wrapping_mul(7919).wrapping_add(mark.sequence)) as u16;
    let timestamp = mark.sequence.wrapping_mul(samples as u32);
    let marker = if mark.sequence == 0 { 0x80 } else { 0 };
    out.clear();
    out.extend_from_slice(&[0x80, marker | payload_type]);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(&(0x5b00_0000 ^ key).to_be_bytes());
    out.extend_from_slice(&mark.bytes());
    out.resize(HEADER + samples.max(MARKS), FILL);
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A packet of ours, untouched; with its payload type.
    Ours(Mark, u8),
    /// RTCP on the same port (RFC 5761); not ours to judge.
    Control,
    /// Not a packet of ours, or no longer what we sent.
    Wrong,
}

/// Reads one packet.
pub(crate) fn parse(bytes: &[u8]) -> Heard {
    if bytes.len() >= 8 && bytes[0] >> 6 == 2 && (192..=223).contains(&bytes[1]) {
        return Heard::Control;
    }
    if bytes.len() < HEADER + MARKS || bytes[0] != 0x80 {
        return Heard::Wrong;
    }
    let payload = &bytes[HEADER..];
    let word = |at: usize| {
        u32::from_be_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]])
    };
    let mark = Mark {
        run: word(4),
        call: word(8),
        side: (word(12) & 1) as u8,
        sequence: word(16),
        wall: u64::from(word(20)) << 32 | u64::from(word(24)),
    };
    let whole = payload[..MARKS] == mark.bytes() && payload[MARKS..].iter().all(|&b| b == FILL);
    if whole { Heard::Ours(mark, bytes[1] & 0x7f) } else { Heard::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_payload_bit_is_found() {
        let mark = Mark { run: 1, call: 7, side: 1, sequence: 42, wall: 1 << 60 };
        let mut bytes = Vec::new();
        print(&mut bytes, &mark, 8, 20);
        assert_eq!(bytes.len(), 172);
        assert_eq!(parse(&bytes), Heard::Ours(mark, 8));
        for bit in HEADER * 8..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes), Heard::Wrong, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn rtcp_is_left_alone() {
        assert_eq!(parse(&[0x80, 200, 0, 1, 0, 0, 0, 1]), Heard::Control);
        assert_eq!(parse(&[0; 200]), Heard::Wrong);
    }
}
