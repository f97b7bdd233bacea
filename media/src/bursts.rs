//! How loss came: in bursts, or one packet at a time (RFC 3611 §4.7.2).
//!
//! A burst begins and ends with a lost packet and has fewer than [`G_MIN`] packets in a row between
//! losses; what is no burst is gap. Looked at only when numbers are missing, so a stream without loss pays
//! nothing. A packet that comes after its successors counts as lost here: whoever plays the stream had no
//! use for it.

/// As many packets received in a row end a burst (RFC 3611 §4.7.2 recommends 16).
pub(crate) const G_MIN: u32 = 16;

/// Bursts so far, and losses that may be part of another.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bursts {
    count: u32,
    /// Packets from the first to the last lost one of each burst, and those of them that were lost.
    packets: u64,
    lost: u64,
    /// Losses that are no part of one.
    alone: u64,
    run: Option<Run>,
}

/// Losses close to each other.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    last: u32,
    lost: u32,
}

/// What is known of bursts and of gaps in between.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Share of packets lost within bursts, and within gaps, in 1/256.
    pub(crate) burst_density: u8,
    pub(crate) gap_density: u8,
    /// Packets in a burst, and in a gap, on average.
    pub(crate) burst_packets: u64,
    pub(crate) gap_packets: u64,
}

impl Bursts {
    /// The number after `highest`, extended by its wraps, was `step` ahead of it: those in between are
    /// missing.
    #[cold]
    pub(crate) fn skipped(&mut self, highest: u32, step: u16) {
        let Some(lost) = u32::from(step).checked_sub(1).filter(|lost| *lost > 0) else { return };
        let (first, last) = (highest.wrapping_add(1), highest.wrapping_add(lost));
        match &mut self.run {
            Some(run) if first.wrapping_sub(run.last) <= G_MIN => {
                run.last = last;
                run.lost = run.lost.saturating_add(lost);
            }
            Some(_) | None => {
                self.restart();
                self.run = Some(Run { first, last, lost });
            }
        }
    }

    /// What comes now has nothing to do with the losses before.
    pub(crate) fn restart(&mut self) {
        let Some(run) = self.run.take() else { return };
        if run.lost == 1 {
            self.alone += 1;
            return;
        }
        self.count = self.count.saturating_add(1);
        self.packets += u64::from(run.last.wrapping_sub(run.first)) + 1;
        self.lost += u64::from(run.lost);
    }

    /// What it comes to, out of so many packets expected.
    pub(crate) fn shape(mut self, expected: u64) -> Shape {
        self.restart();
        let gaps = expected.saturating_sub(self.packets);
        Shape {
            burst_density: share(self.lost, self.packets),
            gap_density: share(self.alone, gaps),
            burst_packets: self.packets / u64::from(self.count.max(1)),
            gap_packets: gaps / (u64::from(self.count) + 1),
        }
    }
}

/// A share in 1/256, as RTCP writes it: never above 255.
pub(crate) fn share(part: u64, whole: u64) -> u8 {
    u8::try_from(part.saturating_mul(256) / whole.max(1)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of 1000 packets of which these are missing.
    fn shape(lost: &[u32]) -> Shape {
        let (mut bursts, mut highest) = (Bursts::default(), 0x1_0000);
        for n in (1..1_000).filter(|n| !lost.contains(n)) {
            let step = (0x1_0000 + n - highest) as u16;
            if step != 1 {
                bursts.skipped(highest, step);
            }
            highest = 0x1_0000 + n;
        }
        bursts.shape(1_000)
    }

    #[test]
    fn losses_close_to_each_other_are_a_burst() {
        assert_eq!(shape(&[]), Shape { gap_packets: 1_000, ..Shape::default() });
        // Four lost out of ten: 102/256. One alone out of the 990 that are left.
        let of = shape(&[100, 101, 105, 109, 500]);
        assert_eq!((of.burst_density, of.burst_packets), (102, 10));
        assert_eq!((of.gap_density, of.gap_packets), (0, 495));
        let apart = shape(&[100, 117]);
        assert_eq!((apart.burst_packets, apart.burst_density), (0, 0), "16 in between end it");
        assert_eq!(shape(&[100, 116]).burst_packets, 17, "15 do not");
        let two = shape(&[100, 101, 200, 201, 202, 203]);
        assert_eq!((two.burst_density, two.burst_packets), (255, 3));
        let many: Vec<u32> = (1..30).map(|n| n * 20).collect();
        assert_eq!(shape(&many).gap_density, (29 * 256 / 1_000) as u8);
    }
}
