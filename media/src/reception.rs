//! What a leg sends, counted as a receiver does it: loss (RFC 3550 A.1, A.3) and jitter (A.8).
//!
//! A relay must not mistake a new source for a disaster: a change of SSRC, or a jump of the sequence
//! number that the next packet confirms, starts a new base and keeps the loss counted so far. Arrival
//! times are those of the turn a packet was received in, so jitter is known to the length of a turn.

use crate::bursts::Bursts;
use crate::rtp::Header;
use base::Instant;
use base::record::{Plain, Unreadable};

/// A gap this large is a jump, not loss (RFC 3550 A.1, MAX_DROPOUT).
pub(crate) const MAX_DROPOUT: u16 = 3_000;
/// A packet this far behind is late, not a jump (RFC 3550 A.1, MAX_MISORDER).
pub(crate) const MAX_MISORDER: u16 = 100;
/// A transit time that changes by more than this is a clock restart, not jitter.
const MAX_SWING_NS: u64 = 1_000_000_000;

/// Statistics of what one leg sends, over all its sources.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    packets: u64,
    octets: u64,
    restarts: u32,
    ssrc: u32,
    payload_type: u8,
    base: Option<Base>,
    /// Loss and expectation of the bases before this one.
    lost_before: u64,
    expected_before: u64,
    clock: Option<Clock>,
    /// Jitter in nanoseconds, times 16 as in A.8.
    jitter_16ns: u64,
    max_jitter_16ns: u64,
    /// How loss came; not in records, where it would cost more than it tells.
    bursts: Bursts,
}

/// One unbroken run of sequence numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Base {
    first: u32,
    /// Highest sequence number, extended by its wraps.
    highest: u32,
    received: u64,
    /// What the next packet's number must be to confirm a jump.
    suspect: Option<u16>,
}
base::plain!(struct Base { first, highest, received, suspect });

/// The last sample of A.8.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Clock {
    rate: u32,
    transit: u32,
    timestamp: u32,
}
base::plain!(struct Clock { rate, transit, timestamp });

impl Reception {
    /// Counts a valid packet of `octets` whose payload type ticks at `rate` Hz. True when it started a
    /// new base.
    pub fn count(&mut self, header: &Header, octets: usize, rate: u32, arrival: Instant) -> bool {
        self.packets += 1;
        self.octets += octets as u64;
        self.payload_type = header.payload_type;
        let restarted = self.advance(header);
        if restarted {
            self.clock = None;
        }
        self.sample(header.timestamp, rate, arrival);
        restarted && self.packets > 1
    }

    /// Counts a datagram of `octets` that has no numbers.
    pub(crate) fn count_unnumbered(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
    }

    /// A.1 without probation: the relay forwards from the first packet on.
    fn advance(&mut self, header: &Header) -> bool {
        let sequence = header.sequence;
        let Some(base) = self.base.as_mut().filter(|_| self.ssrc == header.ssrc) else {
            self.restart(header, 1);
            return true;
        };
        let step = sequence.wrapping_sub(base.highest as u16);
        if step == 1 {
            base.highest = base.highest.wrapping_add(1);
        } else if step < MAX_DROPOUT {
            self.bursts.skipped(base.highest, step);
            base.highest = base.highest.wrapping_add(u32::from(step));
        } else if step <= 0u16.wrapping_sub(MAX_MISORDER) {
            if base.suspect == Some(sequence) {
                self.restart(header, 2);
                return true;
            }
            base.suspect = Some(sequence.wrapping_add(1));
            return false;
        }
        base.received += 1;
        base.suspect = None;
        false
    }

    fn restart(&mut self, header: &Header, received: u64) {
        if let Some(old) = self.base {
            self.lost_before += old.lost();
            self.expected_before += old.expected();
            self.bursts.restart();
            self.restarts = self.restarts.saturating_add(1);
        }
        // One cycle up, so that packets before the first do not underflow.
        let highest = 0x1_0000 + u32::from(header.sequence);
        self.ssrc = header.ssrc;
        self.base =
            Some(Base { first: highest + 1 - received as u32, highest, received, suspect: None });
    }

    /// A.8, in nanoseconds so that payload types of different clocks share one estimate. Packets that
    /// repeat a timestamp (DTMF events, video frames) give no sample: their sender did not mean to send
    /// them at one instant.
    fn sample(&mut self, timestamp: u32, rate: u32, arrival: Instant) {
        let transit = units(arrival, rate).wrapping_sub(timestamp);
        let last = self.clock.replace(Clock { rate, transit, timestamp });
        let Some(last) = last.filter(|last| last.rate == rate) else {
            return;
        };
        if last.timestamp == timestamp {
            self.clock = Some(last);
            return;
        }
        let swing = u64::from((transit.wrapping_sub(last.transit) as i32).unsigned_abs());
        let swing_ns = swing * 1_000_000_000 / u64::from(rate.max(1));
        if swing_ns <= MAX_SWING_NS {
            self.jitter_16ns = self.jitter_16ns + swing_ns - ((self.jitter_16ns + 8) >> 4);
            self.max_jitter_16ns = self.max_jitter_16ns.max(self.jitter_16ns);
        }
    }

    /// Packets received.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Octets of UDP payload received.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Packets that should have come: received and lost.
    pub fn expected(&self) -> u64 {
        self.expected_before + self.base.map_or(0, |b| b.expected())
    }

    /// Packets that did not come. Duplicates are not held against loss below zero.
    pub fn lost(&self) -> u64 {
        self.lost_before + self.base.map_or(0, |b| b.lost())
    }

    /// Interarrival jitter now, in microseconds.
    pub fn jitter_us(&self) -> u32 {
        micros(self.jitter_16ns)
    }

    /// The highest jitter so far, in microseconds.
    pub fn max_jitter_us(&self) -> u32 {
        micros(self.max_jitter_16ns)
    }

    /// New bases after the first.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The last packet's synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The last packet's payload type.
    pub fn payload_type(&self) -> u8 {
        self.payload_type
    }

    /// How loss came: together, or one by one.
    pub(crate) fn bursts(&self) -> Bursts {
        self.bursts
    }

    /// What a report block says of the run of numbers that is going on: packets expected and lost in it,
    /// and its highest number, extended by its wraps. `None` before the first packet.
    pub(crate) fn run(&self) -> Option<Run> {
        let base = self.base?;
        let highest = base.highest.wrapping_sub(0x1_0000);
        Some(Run { expected: base.expected(), received: base.received, highest })
    }

    /// Interarrival jitter in units of a clock of `rate` Hz.
    pub(crate) fn jitter_units(&self, rate: u32) -> u32 {
        let units = u128::from(self.jitter_16ns) * u128::from(rate) / 16_000_000_000;
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

/// One unbroken run of sequence numbers, as a report block has it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) highest: u32,
}

impl Plain for Reception {
    fn put(&self, out: &mut Vec<u8>) {
        (self.packets, self.octets).put(out);
        (self.restarts, self.ssrc).put(out);
        (self.payload_type, self.base).put(out);
        (self.lost_before, self.expected_before).put(out);
        self.clock.put(out);
        (self.jitter_16ns, self.max_jitter_16ns).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let (packets, octets) = Plain::take(from)?;
        let (restarts, ssrc) = Plain::take(from)?;
        let (payload_type, base) = Plain::take(from)?;
        let (lost_before, expected_before) = Plain::take(from)?;
        let clock = Plain::take(from)?;
        let (jitter_16ns, max_jitter_16ns) = Plain::take(from)?;
        Ok(Reception {
            packets,
            octets,
            restarts,
            ssrc,
            payload_type,
            base,
            lost_before,
            expected_before,
            clock,
            jitter_16ns,
            max_jitter_16ns,
            bursts: Bursts::default(),
        })
    }
}

impl Base {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.first)) + 1
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
}

/// An instant in units of a clock, modulo 2³².
pub(crate) fn units(at: Instant, rate: u32) -> u32 {
    let (seconds, nanos) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
    let whole = seconds.wrapping_mul(u64::from(rate));
    whole.wrapping_add(nanos * u64::from(rate) / 1_000_000_000) as u32
}

fn micros(jitter_16ns: u64) -> u32 {
    u32::try_from(jitter_16ns / 16_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const TICK: Duration = Duration::from_millis(20);

    struct Sender {
        reception: Reception,
        now: Instant,
        header: Header,
    }

    impl Sender {
        fn new(sequence: u16) -> Sender {
            let header = Header {
                payload_type: 0,
                marker: false,
                sequence,
                timestamp: 0xffff_ff00,
                ssrc: 1,
            };
            Sender { reception: Reception::default(), now: Instant(5_000_000_000), header }
        }

        /// Time passes by `packets` packets, of which only the last is sent, `late` after its time.
        fn send_after(&mut self, packets: u16, late: Duration) -> bool {
            self.header.sequence = self.header.sequence.wrapping_add(packets);
            let ticks = u32::from(packets) * 160;
            self.header.timestamp = self.header.timestamp.wrapping_add(ticks);
            self.now = self.now + TICK * u32::from(packets);
            self.reception.count(&self.header, 172, 8_000, self.now + late)
        }

        fn send(&mut self) -> bool {
            self.send_after(1, Duration::ZERO)
        }
    }

    #[test]
    fn a_perfect_stream_across_the_wrap_has_no_loss_and_no_jitter() {
        let mut sender = Sender::new(65_000);
        assert!((0..70_000).all(|_| !sender.send()));
        let r = &sender.reception;
        assert_eq!((r.packets(), r.expected(), r.lost()), (70_000, 70_000, 0));
        assert_eq!((r.jitter_us(), r.restarts(), r.octets()), (0, 0, 70_000 * 172));
    }

    #[test]
    fn gaps_are_loss_and_late_packets_fill_them() {
        let mut sender = Sender::new(10);
        for _ in 0..90 {
            sender.send();
        }
        sender.send_after(11, Duration::ZERO);
        assert_eq!((sender.reception.expected(), sender.reception.lost()), (101, 10));
        let newest = sender.header;
        sender.header.sequence -= 5;
        let (header, now) = (sender.header, sender.now);
        sender.reception.count(&header, 172, 8_000, now);
        assert_eq!(sender.reception.lost(), 9);
        for _ in 0..50 {
            sender.reception.count(&newest, 172, 8_000, now);
        }
        assert_eq!(sender.reception.lost(), 0, "duplicates never make loss negative");
    }

    #[test]
    fn a_new_source_or_a_confirmed_jump_is_no_loss() {
        let mut sender = Sender::new(10);
        for _ in 0..100 {
            sender.send();
        }
        sender.send_after(4, Duration::ZERO);
        sender.header.ssrc = 2;
        sender.header.sequence = 50_000;
        sender.header.timestamp = 12;
        assert!(sender.send(), "another SSRC starts a new base");
        assert_eq!(sender.reception.lost(), 3, "the loss before it stays");
        sender.header.sequence = 20_000;
        assert!(!sender.send(), "one stray packet is not believed");
        assert!(sender.send(), "two in a row are");
        assert!(!sender.send());
        assert_eq!((sender.reception.lost(), sender.reception.restarts()), (3, 2));
        assert_eq!(sender.reception.expected(), 104 + 1 + 3);
    }

    #[test]
    fn stray_sequence_numbers_change_nothing() {
        let mut sender = Sender::new(10);
        for _ in 0..10 {
            sender.send();
        }
        for stray in [30_000, 30_001, 20_000] {
            let (mut header, now) = (sender.header, sender.now);
            header.sequence = stray;
            sender.reception.count(&header, 172, 8_000, now);
            sender.send();
        }
        let r = &sender.reception;
        assert_eq!((r.expected(), r.lost(), r.restarts()), (13, 0, 0));
    }

    #[test]
    fn jitter_converges_as_rfc_3550_says() {
        let mut sender = Sender::new(0);
        for i in 0..1_000 {
            let late = if i % 2 == 0 { Duration::ZERO } else { Duration::from_millis(8) };
            sender.send_after(1, late);
        }
        // Every packet differs from the one before by 8 ms, so the filter settles at 8 ms.
        assert!((7_990..=8_010).contains(&sender.reception.jitter_us()));
    }

    #[test]
    fn events_make_no_jitter() {
        let mut sender = Sender::new(0);
        sender.send();
        for i in 0..20u64 {
            sender.header.sequence += 1;
            let (header, now) = (sender.header, sender.now + Duration::from_millis(i * 20));
            sender.reception.count(&header, 16, 8_000, now);
        }
        sender.send();
        assert_eq!((sender.reception.max_jitter_us(), sender.reception.lost()), (0, 0));
    }

    #[test]
    fn new_sources_clocks_and_timelines_make_no_jitter() {
        let mut sender = Sender::new(0);
        sender.send();
        sender.header.ssrc = 2;
        sender.header.timestamp = sender.header.timestamp.wrapping_add(4_000);
        sender.send();
        sender.header.timestamp = sender.header.timestamp.wrapping_add(1 << 30);
        sender.send();
        sender.header.sequence += 1;
        let (header, now) = (sender.header, sender.now);
        sender.reception.count(&header, 100, 48_000, now);
        assert_eq!((sender.reception.max_jitter_us(), sender.reception.lost()), (0, 0));
    }
}
