//! Our own stream towards a leg (RFC 3550 §5.1): one synchronisation source, whoever is speaking.
//!
//! What the other leg sends is renumbered in place. A change of its source or a jump of its numbers or its
//! clock is followed: our sequence numbers go on without a gap and our clock goes on by the time that passed.
//! Packets of our own fit in between, and what follows moves up. No number is ever used twice, which is
//! what a stream needs that is to be encrypted (RFC 3711 §9.1).

use crate::reception::{MAX_DROPOUT, MAX_MISORDER, units};
use crate::rtp::{self, Header};
use crate::translate::Renaming;
use crate::verdict::Discard;
use crate::window::Window;
use base::Instant;

/// A timestamp this many seconds from where our clock is: its sender's clock was set anew. More than any event
/// lasts whose packets stand still (RFC 4733 §2.5.1.3).
const MAX_SWING_S: u32 = 30;
/// A step that leads from each 32-bit number to every other before it comes back.
const STEP: u32 = 0x9e37_79b9;

/// One leg's stream.
#[derive(Debug)]
pub(crate) struct Egress {
    ssrc: u32,
    /// Indices used: sequence numbers, extended by their wraps.
    indices: Window,
    run: Option<Run>,
    clock: Option<Clock>,
}

/// One unbroken run of the other leg's numbers, and what turns them into ours.
#[derive(Debug)]
struct Run {
    ssrc: u32,
    /// Its highest sequence number so far.
    highest: u16,
    sequence_offset: u16,
    timestamp_offset: u32,
}

/// The newest timestamp of the stream, and when it left.
#[derive(Copy, Clone, Debug)]
struct Clock {
    timestamp: u32,
    at: Instant,
}

/// The source that follows `ssrc` where it may not be used any more; none comes back in 2³² steps.
pub(crate) fn successor(ssrc: u32) -> u32 {
    ssrc.wrapping_add(STEP)
}

impl Egress {
    /// A stream of this source whose first sequence number is `first`, below 2¹⁵ so that a receiver who
    /// misses the first packets counts the same wraps (RFC 3711 §3.3.1).
    pub(crate) fn new(ssrc: u32, first: u16) -> Egress {
        let indices = Window::starting_at(u64::from(first & 0x7fff | 1));
        Egress { ssrc, indices, run: None, clock: None }
    }

    /// Makes a valid packet of the other leg one of this stream; `rate` is its payload type's clock in
    /// Hz. Gives its source and index.
    pub(crate) fn adopt(
        &mut self,
        packet: &mut [u8],
        rate: u32,
        now: Instant,
    ) -> Result<(u32, u64), Discard> {
        let header = rtp::read(packet)?;
        let (sequence_offset, timestamp_offset) = self.follow(&header, rate, now);
        let index = self.indices.index_of(header.sequence.wrapping_add(sequence_offset));
        self.indices.check(index).map_err(|_| Discard::Repeated)?;
        let timestamp = header.timestamp.wrapping_add(timestamp_offset);
        if index > self.indices.highest() {
            self.clock = Some(Clock { timestamp, at: now });
        }
        self.indices.mark(index);
        rtp::renumber(packet, index as u16, timestamp, self.ssrc);
        Ok((self.ssrc, index))
    }

    /// A valid packet of the other leg that is not sent on: the stream goes on without a gap.
    pub(crate) fn withhold(&mut self, packet: &[u8], rate: u32, now: Instant) {
        let Ok(header) = rtp::read(packet) else { return };
        let highest = |egress: &Egress| egress.run.as_ref().map(|run| (run.ssrc, run.highest));
        let before = highest(self);
        self.follow(&header, rate, now);
        // One that was overtaken left its gap already.
        if highest(self) != before
            && let Some(run) = &mut self.run
        {
            run.sequence_offset = run.sequence_offset.wrapping_sub(1);
        }
    }

    /// The offsets for a packet of the other leg: those of its run, or of a new one that goes on where
    /// the stream is.
    fn follow(&mut self, header: &Header, rate: u32, now: Instant) -> (u16, u32) {
        if let Some(run) = &mut self.run
            && run.ssrc == header.ssrc
        {
            let step = header.sequence.wrapping_sub(run.highest);
            let is_behind = step > 0u16.wrapping_sub(MAX_MISORDER);
            if is_behind || step < MAX_DROPOUT {
                if !is_behind {
                    run.highest = header.sequence;
                    let timestamp = header.timestamp.wrapping_add(run.timestamp_offset);
                    let jump = self.clock.and_then(|clock| clock.jump(timestamp, rate, now));
                    run.timestamp_offset = run.timestamp_offset.wrapping_sub(jump.unwrap_or(0));
                }
                return (run.sequence_offset, run.timestamp_offset);
            }
        }
        let next = self.indices.highest().wrapping_add(1) as u16;
        let timestamp = self.clock.map_or(header.timestamp, |clock| clock.now(rate, now));
        let sequence_offset = next.wrapping_sub(header.sequence);
        let timestamp_offset = timestamp.wrapping_sub(header.timestamp);
        let (ssrc, highest) = (header.ssrc, header.sequence);
        self.run = Some(Run { ssrc, highest, sequence_offset, timestamp_offset });
        (sequence_offset, timestamp_offset)
    }

    /// The stream goes on under a new key: its wraps are counted from zero again (RFC 4568 §6.1).
    pub(crate) fn rekey(&mut self) {
        let next = self.indices.highest().wrapping_add(1) & 0xffff;
        self.indices = Window::starting_at(next.max(1));
    }

    /// What the run that is going on is called in this stream.
    pub(crate) fn renaming(&self) -> Option<Renaming> {
        let run = self.run.as_ref()?;
        Some(Renaming {
            theirs: run.ssrc,
            ours: self.ssrc,
            sequence_offset: run.sequence_offset,
            timestamp_offset: run.timestamp_offset,
        })
    }

    /// Its source.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// What the stream's clock of `rate` Hz says now.
    pub(crate) fn timestamp(&self, rate: u32, now: Instant) -> u32 {
        self.clock.map_or_else(|| units(now, rate), |clock| clock.now(rate, now))
    }

    /// Source and index for a packet of our own with this timestamp, next in the stream. What the other leg
    /// sends from now on comes after it.
    pub(crate) fn originate(&mut self, timestamp: u32, now: Instant) -> (u32, u64) {
        let index = self.indices.highest().wrapping_add(1);
        self.indices.mark(index);
        if let Some(run) = &mut self.run {
            run.sequence_offset = run.sequence_offset.wrapping_add(1);
        }
        if self.clock.is_none() {
            self.clock = Some(Clock { timestamp, at: now });
        }
        (self.ssrc, index)
    }
}

impl Clock {
    fn now(self, rate: u32, now: Instant) -> u32 {
        self.timestamp.wrapping_add(units(now, rate).wrapping_sub(units(self.at, rate)))
    }

    /// How far a timestamp is from what the clock says, where that is too far to be meant.
    fn jump(self, timestamp: u32, rate: u32, now: Instant) -> Option<u32> {
        let off = timestamp.wrapping_sub(self.now(rate, now));
        let most = rate.saturating_mul(MAX_SWING_S);
        ((off as i32).unsigned_abs() > most).then_some(off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const START: Instant = Instant(5_000_000_000);
    const RATE: u32 = 8_000;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xd5];
        rtp::renumber(&mut bytes, sequence, timestamp, ssrc);
        bytes
    }

    /// What becomes of a packet that arrives `ms` after the start: sequence number and timestamp.
    fn sent(egress: &mut Egress, bytes: &[u8], ms: u64) -> Result<(u16, u32), Discard> {
        let mut bytes = bytes.to_vec();
        egress.adopt(&mut bytes, RATE, START + Duration::from_millis(ms))?;
        let header = rtp::read(&bytes).unwrap();
        assert_eq!(header.ssrc, 77);
        Ok((header.sequence, header.timestamp))
    }

    #[test]
    fn gaps_and_disorder_of_a_source_stay_as_they_are() {
        let mut egress = Egress::new(77, 101);
        assert_eq!(sent(&mut egress, &packet(1, 65_530, 1_000), 0), Ok((101, 1_000)));
        assert_eq!(sent(&mut egress, &packet(1, 4, 2_600), 200), Ok((111, 2_600)));
        assert_eq!(sent(&mut egress, &packet(1, 65_535, 1_800), 201), Ok((106, 1_800)));
        assert_eq!(sent(&mut egress, &packet(1, 65_535, 1_800), 202), Err(Discard::Repeated));
        assert_eq!(sent(&mut egress, &packet(1, 5, 2_760), 220), Ok((112, 2_760)));
    }

    #[test]
    fn another_source_and_a_jump_are_followed_without_a_gap() {
        let mut egress = Egress::new(77, 101);
        assert_eq!(sent(&mut egress, &packet(1, 10, 1_000), 0), Ok((101, 1_000)));
        assert_eq!(sent(&mut egress, &packet(2, 60_000, 9), 40), Ok((102, 1_320)));
        assert_eq!(sent(&mut egress, &packet(2, 60_001, 169), 60), Ok((103, 1_480)));
        assert_eq!(sent(&mut egress, &packet(2, 20_000, 0), 80), Ok((104, 1_640)));
        assert_eq!(sent(&mut egress, &packet(2, 20_001, 160), 100), Ok((105, 1_800)));
        assert_eq!(sent(&mut egress, &packet(1, 11, 1_160), 120), Ok((106, 1_960)));
        assert_eq!(sent(&mut egress, &packet(1, 10, 1_000), 121), Err(Discard::Repeated));
    }

    #[test]
    fn a_clock_that_was_set_anew_is_followed_and_a_pause_is_not_shortened() {
        let mut egress = Egress::new(77, 101);
        assert_eq!(sent(&mut egress, &packet(1, 10, 1_000), 0), Ok((101, 1_000)));
        // Silence was not sent: ten seconds, and as many of the clock.
        assert_eq!(sent(&mut egress, &packet(1, 11, 81_000), 10_000), Ok((102, 81_000)));
        // An event of eight seconds stood still, and speech goes on behind it.
        assert_eq!(sent(&mut egress, &packet(1, 12, 81_160), 10_020), Ok((103, 81_160)));
        assert_eq!(sent(&mut egress, &packet(1, 13, 81_160), 18_020), Ok((104, 81_160)));
        assert_eq!(sent(&mut egress, &packet(1, 14, 145_160), 18_040), Ok((105, 145_160)));
        // The sender's clock was set anew, twice.
        for (i, clock) in [4_000_000_000, 7].into_iter().enumerate() {
            let (at, ms) = (15 + 3 * i as u16, 18_060 + 60 * i as u64);
            let ours = 145_160 + 160 * u32::from(at - 14);
            let heard = |s: &mut Egress, n, timestamp, ms| sent(s, &packet(1, n, timestamp), ms);
            assert_eq!(heard(&mut egress, at, clock, ms), Ok((at + 91, ours)));
            assert_eq!(heard(&mut egress, at + 1, clock + 160, ms + 20), Ok((at + 92, ours + 160)));
            let next = heard(&mut egress, at + 2, clock + 320, ms + 40);
            assert_eq!(next, Ok((at + 93, ours + 320)));
        }
    }

    #[test]
    fn our_own_packets_fit_in_between() {
        let mut egress = Egress::new(77, 101);
        assert_eq!(sent(&mut egress, &packet(1, 10, 1_000), 0), Ok((101, 1_000)));
        let now = START + Duration::from_millis(20);
        let timestamp = egress.timestamp(RATE, now);
        assert_eq!(timestamp, 1_160);
        assert_eq!(egress.originate(timestamp, now), (77, 102));
        assert_eq!(egress.originate(timestamp, now), (77, 103));
        assert_eq!(sent(&mut egress, &packet(1, 11, 1_160), 20), Ok((104, 1_160)));
        assert_eq!(sent(&mut egress, &packet(9, 1, 0), 40), Ok((105, 1_320)));
    }

    #[test]
    fn what_is_withheld_leaves_no_gap() {
        let mut egress = Egress::new(77, 101);
        let hold = |egress: &mut Egress, sequence| {
            egress.withhold(&packet(1, sequence, 9_000), RATE, START);
        };
        hold(&mut egress, 8);
        assert_eq!(sent(&mut egress, &packet(1, 9, 1_000), 0).map(|s| s.0), Ok(101));
        for sequence in [10, 11, 11, 13] {
            hold(&mut egress, sequence);
        }
        // 12 was lost on its way, so it is missing here as well.
        assert_eq!(sent(&mut egress, &packet(1, 14, 1_800), 100).map(|s| s.0), Ok(103));
        hold(&mut egress, 12);
        assert_eq!(sent(&mut egress, &packet(1, 15, 1_960), 120).map(|s| s.0), Ok(104));
    }

    #[test]
    fn a_stream_begins_with_our_own_packet_just_as_well() {
        let mut egress = Egress::new(77, 101);
        let timestamp = egress.timestamp(RATE, START);
        assert_eq!(egress.originate(timestamp, START), (77, 101));
        let expected = timestamp.wrapping_add(160);
        assert_eq!(sent(&mut egress, &packet(1, 9, 1), 20), Ok((102, expected)));
    }
}
