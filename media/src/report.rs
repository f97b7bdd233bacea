//! RTCP of our own towards a leg that would hear none (RFC 3550 §6): what we send it, how we hear it, and
//! with what quality (RFC 3611).
//!
//! Only for a leg with a stream of our own, whose source we write as, and only while the other leg says
//! nothing that could be relayed. Reports are due by the sweep, about every five seconds.

use crate::bursts::share;
use crate::demux::Component;
use crate::egress::Egress;
use crate::end::{End, Sent};
use crate::extended::Voip;
use crate::media::Media;
use crate::plan::Reports;
use crate::quality;
use crate::reception::Run;
use crate::rtp;
use crate::secrets::Secrets;
use base::{Instant, Now, Texts};
use core::time::Duration;

/// The other leg speaks for itself if it did within this time: three times the interval of §6.2.
const SPEAKS: Duration = Duration::from_secs(15);
/// How long it is waited for at first.
const PATIENCE: Duration = Duration::from_secs(8);
/// §6.3.1: half the interval of five seconds, over e − 3/2.
const LEAST_NS: u64 = 2_052_100_000;
/// Seconds from 1900 to 1970 (RFC 5905 §6).
const EPOCH_S: u64 = 2_208_988_800;
/// What a canonical name is written with (RFC 7022 §4.2): 64 letters, so that each is as likely.
const NAME_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Packets between two reports that tell how long one lasts.
const ENOUGH: u64 = 50;

/// Who writes reports to a leg.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// Its canonical name.
    name: [u8; 16],
    /// The next report is due then.
    due: Instant,
    /// When the other leg last said something that was relayed.
    relayed: Instant,
    /// Timestamp of the leg's last sender report, and when it came.
    heard: Option<(u32, Instant)>,
    /// What had been sent when our stream began, and at the last report.
    base: Sent,
    sent: u64,
    /// Where the leg's own stream was at the last report, and when that was.
    before: Option<(u32, Run, Instant)>,
    packet_ms: u64,
    /// Spreads reports over time.
    dice: u64,
}

impl Reporter {
    fn new(secrets: &mut Secrets, sent: Sent, now: Instant) -> Reporter {
        let drawn: [u8; 24] = secrets.draw();
        let name = core::array::from_fn(|i| NAME_CHARS[usize::from(drawn[i]) % NAME_CHARS.len()]);
        let dice = drawn[16..].iter().fold(0, |dice, byte| dice << 8 | u64::from(*byte));
        Reporter {
            name,
            due: now + PATIENCE,
            relayed: Instant(0),
            heard: None,
            base: sent,
            sent: sent.packets,
            before: None,
            packet_ms: 20,
            dice,
        }
    }

    /// RTCP of the other leg leaves for this one.
    pub(crate) fn relayed(&mut self, now: Instant) {
        self.relayed = now;
    }

    /// The leg sent a sender report.
    pub(crate) fn heard(&mut self, timestamp: u32, now: Instant) {
        self.heard = Some((timestamp, now));
    }

    /// Whether a report is due now; the next one is due at a time that nobody else has (§6.2).
    pub(crate) fn take_turn(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.due =
            now + Duration::from_nanos(LEAST_NS + (((self.dice >> 33) * LEAST_NS * 2) >> 31));
        self.relayed == Instant(0) || now.since(self.relayed) >= SPEAKS
    }

    /// The part of its numbers since the last report, which this one ends.
    fn since_last(&mut self, ssrc: u32, run: Run, now: Instant) -> (u64, u64) {
        let before = self.before.replace((ssrc, run, now));
        let same = before.filter(|(old, was, _)| {
            *old == ssrc && was.expected <= run.expected && was.received <= run.received
        });
        let Some((_, was, at)) = same else { return (run.expected, run.received) };
        let since = (run.expected - was.expected, run.received - was.received);
        if since.0 >= ENOUGH {
            let ms = now.since(at).as_millis() as u64 / since.0;
            self.packet_ms = ms.clamp(5, 200);
        }
        since
    }
}

impl End {
    /// Writes reports to the leg if its plan asks for it.
    pub(crate) fn begin_reports(&mut self, secrets: &mut Secrets, now: Instant) {
        let asked = self.plan.as_ref().is_some_and(|plan| plan.reports != Reports::Relayed);
        if self.reporter.is_none() && asked && self.egress.is_some() {
            self.reporter = Some(Box::new(Reporter::new(secrets, self.sent, now)));
        }
    }

    /// Whether the leg is to be sent a report of ours now.
    pub(crate) fn owes_report(&mut self, now: Instant) -> bool {
        let Some(reporter) = &mut self.reporter else { return false };
        let asked = self.plan.as_ref().is_some_and(|plan| plan.reports != Reports::Relayed);
        asked && reporter.take_turn(now)
    }

    /// Appends a compound packet about the leg: sender or receiver report, name, extended report.
    fn write_report(&mut self, now: Now, payload_type: Option<u8>, out: &mut Vec<u8>) {
        let (Some(egress), Some(reporter), Some(plan)) =
            (self.egress.as_deref(), self.reporter.as_deref_mut(), &self.plan)
        else {
            return;
        };
        let at = out.len();
        let (ssrc, reception) = (egress.ssrc(), &self.reception);
        let block = reception.run().map(|run| {
            let since = reporter.since_last(reception.ssrc(), run, now.mono);
            let rate = plan.clock_rate(reception.payload_type());
            (run, since, reception.jitter_units(rate))
        });
        let sends = self.sent.packets > reporter.sent;
        reporter.sent = self.sent.packets;
        out.extend_from_slice(&[0x80 | u8::from(block.is_some()), if sends { 200 } else { 201 }]);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&ssrc.to_be_bytes());
        if sends {
            let rate = plan.clock_rate(payload_type.unwrap_or(0));
            let middle = sender_info(egress, reporter, self.sent, rate, now, out);
            self.round_trip.report_relayed(middle, now.mono);
        }
        if let Some((run, since, jitter)) = block {
            report_block((reception.ssrc(), run, since, jitter), reporter.heard, now.mono, out);
        }
        measure(out, at);
        write_name(ssrc, &reporter.name, out);
        if let (Reports::Extended, Some((_, _, _))) = (plan.reports, block) {
            let packet_ms = reporter.packet_ms;
            self.voip(packet_ms).write(ssrc, out);
        }
    }

    /// How we hear the leg, for an extended report.
    fn voip(&self, packet_ms: u64) -> Voip {
        let (reception, rtt_us) = (&self.reception, self.round_trip.rtt_us());
        let score = quality::score(reception, rtt_us);
        let deci = score.map(|score| ((score.mos_centi + 5) / 10) as u8);
        let known = Voip {
            ssrc: reception.ssrc(),
            lost: self.loss_share(),
            round_trip_ms: rtt_us.map_or(0, |us| u16::try_from(us / 1_000).unwrap_or(u16::MAX)),
            r_factor: score.map(|score| ((score.r_milli + 500) / 1_000) as u8),
            mos_deci: deci,
            conversation_deci: deci,
            ..Voip::default()
        };
        known.shaped(reception.bursts().shape(reception.expected()), packet_ms)
    }
}

impl Media {
    /// Sends the reports that the sweep found due.
    pub fn reports(&mut self, now: Now, out: &mut Texts) {
        while let Some(key) = self.reports_due.pop() {
            let spoken = self.peer(key).and_then(|peer| self.ends.get(peer));
            let payload_type = spoken.map(|peer| peer.reception.payload_type());
            let Some(end) = self.ends.get_mut(key) else { continue };
            let is_ready = end.guard.is_ready(Component::Rtcp);
            let Some(plan) = end.plan.as_ref().filter(|_| is_ready) else { continue };
            let Some(to) = end.latch.target(plan, Component::Rtcp) else { continue };
            let from = if plan.rtcp_mux { end.ports.rtp } else { end.ports.rtcp };
            out.push(from, to, |out| {
                let at = out.len();
                end.write_report(now, payload_type, out);
                end.guard.seal_rtcp_text(out, at);
            });
            self.counters.rtcp_originated.add(1);
        }
    }
}

/// Appends what a sender says of itself (§6.4.1); the middle of its timestamp.
fn sender_info(
    egress: &Egress,
    reporter: &Reporter,
    sent: Sent,
    rate: u32,
    now: Now,
    out: &mut Vec<u8>,
) -> u32 {
    let (seconds, nanos) = (now.wall.0 / 1_000_000_000, now.wall.0 % 1_000_000_000);
    let seconds = (seconds + EPOCH_S) as u32;
    let fraction = ((nanos << 32) / 1_000_000_000) as u32;
    let packets = sent.packets - reporter.base.packets;
    let octets = sent.octets - reporter.base.octets - packets * rtp::FIXED as u64;
    let timestamp = egress.timestamp(rate, now.mono);
    for word in [seconds, fraction, timestamp, packets as u32, octets as u32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    seconds << 16 | fraction >> 16
}

/// Appends a report block (§6.4.1).
fn report_block(
    (ssrc, run, (expected, received), jitter): (u32, Run, (u64, u64), u32),
    heard: Option<(u32, Instant)>,
    now: Instant,
    out: &mut Vec<u8>,
) {
    let fraction = share(expected.saturating_sub(received), expected);
    // More than were expected came where some came twice: a negative loss, in 24 bits.
    let lost = run.expected as i64 - run.received as i64;
    let lost = lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
    let delay = |at: Instant| {
        let ns = now.since(at).as_nanos();
        u32::try_from(ns * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
    };
    let (last, delay) = heard.map_or((0, 0), |(last, at)| (last, delay(at)));
    for word in [ssrc, u32::from(fraction) << 24 | lost, run.highest, jitter, last, delay] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Appends a source description with the canonical name (§6.5.1).
fn write_name(ssrc: u32, name: &[u8; 16], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0x81, 202, 0, 0]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, name.len() as u8]);
    out.extend_from_slice(name);
    // The list ends with a zero, and the chunk on a word.
    out.push(0);
    while !(out.len() - at).is_multiple_of(4) {
        out.push(0);
    }
    measure(out, at);
}

/// Says how long the packet is that begins at `at`.
fn measure(out: &mut [u8], at: usize) {
    let words = ((out.len() - at) / 4).saturating_sub(1) as u16;
    if let Some(len) = out.get_mut(at + 2..at + 4) {
        len.copy_from_slice(&words.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_between_half_and_one_and_a_half_intervals_apart() {
        let begun = Instant(1);
        let mut reporter = Reporter::new(&mut Secrets::new(&[7; 32]), Sent::default(), begun);
        assert!(!reporter.take_turn(begun), "the other leg is waited for first");
        let mut apart = Vec::new();
        for _ in 0..1_000 {
            let due = reporter.due;
            assert!(reporter.take_turn(due));
            apart.push(reporter.due.since(due).as_nanos() as u64);
        }
        let (least, most) = (apart.iter().min(), apart.iter().max());
        assert!(least.is_some_and(|least| (LEAST_NS..LEAST_NS * 11 / 10).contains(least)));
        assert!(most.is_some_and(|most| (LEAST_NS * 29 / 10..=LEAST_NS * 3).contains(most)));
    }
}
