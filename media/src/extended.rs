//! Extended reports (RFC 3611): the block of VoIP metrics (§4.7), read and written.
//!
//! Other blocks pass by: what they say is between the legs.

use crate::bursts::{G_MIN, Shape};

/// The packet type.
pub(crate) const PACKET: u8 = 207;
/// The block, and its length in words after the first.
const VOIP: u8 = 7;
const WORDS: usize = 8;
/// What a field of eight bits says that has nothing to say.
const UNKNOWN: u8 = 127;

/// What somebody says of a stream of speech it hears (§4.7).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Voip {
    /// The source it is about.
    pub ssrc: u32,
    /// Share of packets lost, and of those that came in vain, in 1/256.
    pub lost: u8,
    /// Came too late or too early to be played, in 1/256.
    pub discarded: u8,
    /// Share of packets lost or discarded in bursts, in 1/256.
    pub burst_density: u8,
    /// The same in between.
    pub gap_density: u8,
    /// Length of a burst, on average, in milliseconds.
    pub burst_ms: u16,
    /// Length of a gap, on average, in milliseconds.
    pub gap_ms: u16,
    /// Round trip in milliseconds; 0 where it is not known.
    pub round_trip_ms: u16,
    /// Delay within the end itself, in milliseconds; 0 where it is not known.
    pub end_delay_ms: u16,
    /// Rating factor, 0..=100.
    pub r_factor: Option<u8>,
    /// Mean opinion score of what is heard, in tenths.
    pub mos_deci: Option<u8>,
    /// The same of the conversation, in tenths.
    pub conversation_deci: Option<u8>,
}

/// The first VoIP metrics of an extended report packet.
pub(crate) fn read(part: &[u8]) -> Option<Voip> {
    let mut blocks = part.get(8..)?;
    while let Some(&[kind, _, l0, l1]) = blocks.first_chunk::<4>() {
        let words = usize::from(u16::from_be_bytes([l0, l1]));
        let (block, rest) = blocks.split_at_checked(4 + 4 * words)?;
        if kind == VOIP && words == WORDS {
            return Some(voip(block.first_chunk()?));
        }
        blocks = rest;
    }
    None
}

fn voip(block: &[u8; 4 + 4 * WORDS]) -> Voip {
    let short = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let score = |at: usize, most: u8| Some(block[at]).filter(|score| *score <= most);
    Voip {
        ssrc: u32::from_be_bytes([block[4], block[5], block[6], block[7]]),
        lost: block[8],
        discarded: block[9],
        burst_density: block[10],
        gap_density: block[11],
        burst_ms: short(12),
        gap_ms: short(14),
        round_trip_ms: short(16),
        end_delay_ms: short(18),
        r_factor: score(24, 100),
        mos_deci: score(26, 50).filter(|mos| *mos >= 10),
        conversation_deci: score(27, 50).filter(|mos| *mos >= 10),
    }
}

impl Voip {
    /// With how loss came, where a packet lasts so many milliseconds.
    pub(crate) fn shaped(self, shape: Shape, packet_ms: u64) -> Voip {
        let ms = |packets: u64| u16::try_from(packets * packet_ms).unwrap_or(u16::MAX);
        Voip {
            burst_density: shape.burst_density,
            gap_density: shape.gap_density,
            burst_ms: ms(shape.burst_packets),
            gap_ms: ms(shape.gap_packets),
            ..self
        }
    }

    /// Appends an extended report of `writer` with this block.
    pub(crate) fn write(&self, writer: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x80, PACKET]);
        out.extend_from_slice(&(2 + WORDS as u16).to_be_bytes());
        out.extend_from_slice(&writer.to_be_bytes());
        out.extend_from_slice(&[VOIP, 0]);
        out.extend_from_slice(&(WORDS as u16).to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&[self.lost, self.discarded, self.burst_density, self.gap_density]);
        for short in [self.burst_ms, self.gap_ms, self.round_trip_ms, self.end_delay_ms] {
            out.extend_from_slice(&short.to_be_bytes());
        }
        // Levels of signal and noise, and echo: nobody here listens to what is said.
        out.extend_from_slice(&[UNKNOWN, UNKNOWN, UNKNOWN, G_MIN as u8]);
        let score = |score: Option<u8>| score.unwrap_or(UNKNOWN);
        out.extend_from_slice(&[score(self.r_factor), UNKNOWN]);
        out.extend_from_slice(&[score(self.mos_deci), score(self.conversation_deci)]);
        // No concealment, no jitter buffer: packets go on as they come.
        out.extend_from_slice(&[0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp;

    fn sample() -> Voip {
        Voip {
            ssrc: 77,
            lost: 13,
            discarded: 1,
            burst_density: 102,
            gap_density: 2,
            burst_ms: 200,
            gap_ms: 9_900,
            round_trip_ms: 120,
            end_delay_ms: 60,
            r_factor: Some(81),
            mos_deci: Some(41),
            conversation_deci: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        sample().write(42, &mut bytes);
        assert_eq!(bytes.len(), 44);
        assert_eq!(rtcp::read(&bytes).map(|compound| compound.voip), Ok(Some(sample())));
    }

    #[test]
    fn other_blocks_are_passed_by_and_broken_ones_end_it() {
        // A receiver reference time before it, and a length that leads out of the packet.
        let mut bytes = vec![0x80, 207, 0, 0, 0, 0, 0, 42, 4, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        let mut voip = Vec::new();
        sample().write(42, &mut voip);
        bytes.extend_from_slice(&voip[8..]);
        bytes[3] = (bytes.len() / 4 - 1) as u8;
        assert_eq!(read(&bytes), Some(sample()));
        bytes[11] = 200;
        assert_eq!(read(&bytes), None);
        for len in 0..8 {
            assert_eq!(read(&bytes[..len]), None);
        }
        let mut out_of_range = voip;
        (out_of_range[24 + 8], out_of_range[26 + 8]) = (101, 9);
        let read = read(&out_of_range).unwrap();
        assert_eq!((read.r_factor, read.mos_deci), (None, None));
    }
}
