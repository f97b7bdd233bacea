//! RTCP compound packets (RFC 3550 §6, A.2): checked lightly, read for round trips, relayed as they are.
//!
//! Reduced-size packets (RFC 5506) pass too, so the first packet need not be a report.

use crate::extended::{self, Voip};
use crate::verdict::Discard;
use base::Instant;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;

/// What the relay reads from a compound packet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Compound {
    /// Middle 32 bits of the sender report's NTP timestamp (RFC 3550 §6.4.1).
    pub sent: Option<u32>,
    /// The first report block.
    pub block: Option<Block>,
    /// The first VoIP metrics (RFC 3611 §4.7).
    pub voip: Option<Voip>,
}

/// A report block (RFC 3550 §6.4.1): how the other side hears a source.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Block {
    /// Loss since its previous report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since it began, 24 bits signed; negative when there were more duplicates.
    pub lost: i32,
    /// Interarrival jitter in units of the source's clock.
    pub jitter: u32,
    /// `Compound::sent` of the last sender report it had; 0 when there was none.
    pub last_report: u32,
    /// Time since that report, in 1/65536 s.
    pub delay: u32,
}
base::plain!(struct Block { fraction_lost, lost, jitter, last_report, delay });

/// Walks a compound packet: each part version 2, lengths adding up exactly, padding only in the last.
pub fn read(datagram: &[u8]) -> Result<Compound, Discard> {
    let mut compound = Compound::default();
    let mut rest = datagram;
    while !rest.is_empty() {
        let &[first, kind, ..] = rest.first_chunk::<4>().ok_or(Discard::BadRtcp)?;
        let len = part_len(rest).ok_or(Discard::BadRtcp)?;
        let (part, tail) = rest.split_at_checked(len).ok_or(Discard::BadRtcp)?;
        let padded = first & 0x20 != 0;
        if first >> 6 != 2 || !(192..=223).contains(&kind) || (padded && !tail.is_empty()) {
            return Err(Discard::BadRtcp);
        }
        match kind {
            SENDER_REPORT => read_report(part, 28, first & 0x1f, &mut compound)?,
            RECEIVER_REPORT => read_report(part, 8, first & 0x1f, &mut compound)?,
            extended::PACKET if compound.voip.is_none() => compound.voip = extended::read(part),
            _ => {}
        }
        rest = tail;
    }
    Ok(compound)
}

/// Bytes of the first part of a compound packet, by its own word.
pub(crate) fn part_len(compound: &[u8]) -> Option<usize> {
    let &[_, _, l0, l1] = compound.first_chunk::<4>()?;
    Some((usize::from(u16::from_be_bytes([l0, l1])) + 1) * 4)
}

fn read_report(part: &[u8], head: usize, blocks: u8, into: &mut Compound) -> Result<(), Discard> {
    if part.len() < head + usize::from(blocks) * 24 {
        return Err(Discard::BadRtcp);
    }
    if head == 28 {
        into.sent = word(part, 10);
    }
    if blocks > 0 && into.block.is_none() {
        into.block = read_block(part.get(head..).unwrap_or(&[]));
    }
    Ok(())
}

fn read_block(block: &[u8]) -> Option<Block> {
    let loss = word(block, 4)?;
    Some(Block {
        fraction_lost: (loss >> 24) as u8,
        // Shifting up and back down extends the sign of the 24-bit field.
        lost: ((loss << 8) as i32) >> 8,
        jitter: word(block, 12)?,
        last_report: word(block, 16)?,
        delay: word(block, 20)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Round trip to a leg (RFC 3550 §6.4.1): when a sender report left for it, and its answer.
///
/// The clock is ours: the time a report passed through here, not the one written in it. What is
/// measured is the way from this node to the leg and back.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    relayed: Option<(u32, Instant)>,
    rtt_us: Option<u32>,
}
base::plain!(struct RoundTrip { relayed, rtt_us });

impl RoundTrip {
    /// A sender report with this timestamp leaves for the leg.
    pub fn report_relayed(&mut self, sent: u32, now: Instant) {
        self.relayed = Some((sent, now));
    }

    /// The leg answered with a report block.
    pub fn block_heard(&mut self, block: &Block, now: Instant) {
        let Some((sent, at)) = self.relayed else {
            return;
        };
        if block.last_report != sent || sent == 0 {
            return;
        }
        let held_ns = u64::from(block.delay) * 1_000_000_000 / 65_536;
        let away_ns = now.since(at).as_nanos();
        // A leg that claims to have held the report longer than it was away is not measured.
        if let Some(rtt) = away_ns.checked_sub(u128::from(held_ns)) {
            self.rtt_us = u32::try_from(rtt / 1_000).ok().or(self.rtt_us);
        }
    }

    /// The last round trip measured, in microseconds.
    pub fn rtt_us(&self) -> Option<u32> {
        self.rtt_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn sender_report(ntp_mid: u32, blocks: &[[u32; 6]]) -> Vec<u8> {
        let words = 6 + 6 * blocks.len() as u16;
        let mut bytes = vec![0x80 | blocks.len() as u8, 200];
        bytes.extend_from_slice(&words.to_be_bytes());
        let [m0, m1, m2, m3] = ntp_mid.to_be_bytes();
        bytes.extend_from_slice(&[0, 0, 0, 1, 9, 9, m0, m1, m2, m3, 9, 9]);
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend(blocks.iter().flatten().flat_map(|w| w.to_be_bytes()));
        bytes
    }

    #[test]
    fn reads_reports_and_their_first_block() {
        let bytes = sender_report(0xaabb_ccdd, &[[1, 0x40ff_fffe, 0, 77, 5, 6]]);
        let compound = read(&bytes).unwrap();
        assert_eq!(compound.sent, Some(0xaabb_ccdd));
        let block = compound.block.unwrap();
        assert_eq!((block.fraction_lost, block.lost), (0x40, -2));
        assert_eq!((block.jitter, block.last_report, block.delay), (77, 5, 6));
        let mut with_bye = bytes.clone();
        with_bye.extend_from_slice(&[0x81, 201, 0, 7]);
        with_bye.extend_from_slice(&[9; 28]);
        with_bye.extend_from_slice(&[0x81, 203, 0, 1, 0, 0, 0, 1]);
        assert_eq!(read(&with_bye), Ok(compound));
    }

    #[test]
    fn parts_must_add_up() {
        let bytes = sender_report(1, &[]);
        for cut in 1..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Err(Discard::BadRtcp), "cut at {cut}");
        }
        let mut more_blocks = bytes.clone();
        more_blocks[0] = 0x82;
        let mut version = bytes.clone();
        version[0] = 0x40;
        let mut padded_first = bytes.clone();
        padded_first[0] |= 0x20;
        padded_first.extend_from_slice(&[0x80, 203, 0, 0]);
        let mut foreign = bytes;
        foreign.extend_from_slice(&[0x80, 100, 0, 0]);
        for bad in [more_blocks, version, padded_first, foreign] {
            assert_eq!(read(&bad), Err(Discard::BadRtcp));
        }
    }

    #[test]
    fn round_trip_is_time_away_less_time_held() {
        let mut trip = RoundTrip::default();
        let start = Instant(1_000_000_000);
        let block = |last_report, delay| Block { last_report, delay, ..Block::default() };
        trip.block_heard(&block(7, 0), start);
        assert_eq!(trip.rtt_us(), None, "no report was relayed yet");
        trip.report_relayed(7, start);
        trip.block_heard(&block(7, 32_768), start + Duration::from_millis(580));
        assert_eq!(trip.rtt_us(), Some(80_000));
        trip.block_heard(&block(8, 0), start + Duration::from_millis(900));
        trip.block_heard(&block(7, u32::MAX), start + Duration::from_millis(900));
        assert_eq!(trip.rtt_us(), Some(80_000), "a foreign or impossible answer is ignored");
    }
}
