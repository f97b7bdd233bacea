//! Quality of one direction as a figure: R by the E-model (ITU-T G.107, simplified), MOS from R.
//!
//! R = 93.2 − Id − Ie,eff. Id is the delay impairment in its usual piecewise-linear form, Ie,eff is
//! G.107 (7-29) with random loss (BurstR = 1) and the Ie and Bpl of G.113 Appendix I. Delay is half the
//! round trip where RTCP measured it, plus a jitter buffer of twice the jitter, plus a packet's length.
//! It rates what the network did to the stream, not what was said on it. Integers throughout.

use crate::reception::Reception;

/// One-way delay assumed where no round trip was measured, in microseconds.
const ASSUMED_DELAY_US: u64 = 20_000;
/// Packetisation and decoding, in microseconds.
const PACKET_DELAY_US: u64 = 20_000;
/// R of a line without any impairment, in thousandths (G.107 default values).
const BEST_R: i64 = 93_200;

/// R and MOS of one direction.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Rating factor in thousandths, 0..=100,000.
    pub r_milli: u32,
    /// Mean opinion score in hundredths, 100..=450.
    pub mos_centi: u16,
}

/// How a codec takes loss (G.113 Appendix I).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Equipment impairment without loss, in thousandths.
    pub ie_milli: u32,
    /// Robustness against loss, in thousandths of a percent.
    pub bpl_milli: u32,
}

impl Codec {
    /// The figures of a static payload type; others are rated as G.711 with concealment, so that the
    /// figure compares paths.
    pub fn of(payload_type: u8) -> Codec {
        let (ie_milli, bpl_milli) = match payload_type {
            3 => (20_000, 10_000),
            4 => (15_000, 16_100),
            18 => (11_000, 19_000),
            _ => (0, 25_100),
        };
        Codec { ie_milli, bpl_milli }
    }
}

/// Rates what was received; `None` before the first packet.
pub fn score(reception: &Reception, rtt_us: Option<u32>) -> Option<Score> {
    if reception.packets() == 0 {
        return None;
    }
    let codec = Codec::of(reception.payload_type());
    let loss = (reception.lost(), reception.expected());
    Some(rate_of(codec, loss, reception.jitter_us(), rtt_us))
}

/// R and MOS of a codec under packets lost out of those expected, jitter, and a round trip.
pub fn rate_of(
    codec: Codec,
    (lost, expected): (u64, u64),
    jitter_us: u32,
    rtt_us: Option<u32>,
) -> Score {
    let one_way = rtt_us.map_or(ASSUMED_DELAY_US, |rtt| u64::from(rtt) / 2);
    let delay_us = one_way + PACKET_DELAY_US + 2 * u64::from(jitter_us);
    rate(codec, lost * 1_000_000 / expected.max(1), delay_us)
}

/// R and MOS of a codec under a loss (parts per million, up to 1,000,000) and a one-way delay.
pub fn rate(codec: Codec, loss_ppm: u64, delay_us: u64) -> Score {
    let loss_milli_percent = i64::try_from(loss_ppm.min(1_000_000) / 10).unwrap_or(i64::MAX);
    let (ie, bpl) = (i64::from(codec.ie_milli), i64::from(codec.bpl_milli).max(1));
    let ie_effective = ie + (95_000 - ie) * loss_milli_percent / (loss_milli_percent + bpl);
    let r = (BEST_R - delay_impairment_milli(delay_us) - ie_effective).clamp(0, 100_000);
    Score { r_milli: u32::try_from(r).unwrap_or(0), mos_centi: mos_centi(r) }
}

/// Id = 0.024 d + 0.11 (d − 177.3) above 177.3 ms, in thousandths.
fn delay_impairment_milli(delay_us: u64) -> i64 {
    let us = i64::try_from(delay_us.min(10_000_000)).unwrap_or(i64::MAX);
    (24 * us + 110 * (us - 177_300).max(0)) / 1_000
}

/// G.107 Annex B: 1 + 0.035 R + R (R − 60) (100 − R) 7·10⁻⁶, in hundredths, from R in thousandths.
fn mos_centi(r: i64) -> u16 {
    const UNIT: i64 = 10_000_000_000_000;
    let scaled = 100 * UNIT + 35_000_000_000 * r + 7 * r * (r - 60_000) * (100_000 - r);
    let rounded = (scaled + UNIT / 2) / UNIT;
    u16::try_from(rounded.clamp(100, 450)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mos_of_r_is_annex_b_of_g_107() {
        let rows = [
            (93_200, 441),
            (90_000, 434),
            (80_000, 402),
            (70_000, 360),
            (60_000, 310),
            (50_000, 258),
            (0, 100),
            (100_000, 450),
            (3_000, 100),
        ];
        for (r, mos) in rows {
            assert_eq!(mos_centi(r), mos, "R = {r}");
        }
    }

    #[test]
    fn loss_and_delay_impair_as_the_model_says() {
        let g711 = Codec::of(0);
        assert_eq!(rate(g711, 0, 0), Score { r_milli: 93_200, mos_centi: 441 });
        // 5 % loss: Ie,eff = 95 · 5 / (5 + 25.1) = 15.78.
        assert_eq!(rate(g711, 50_000, 0).r_milli, 93_200 - 15_780);
        // G.729A, 1 % loss: 11 + 84 · 1 / 20 = 15.2.
        assert_eq!(rate(Codec::of(18), 10_000, 0).r_milli, 78_000);
        // 250 ms: 6 + 0.11 · 72.7 = 13.997.
        assert_eq!(rate(g711, 0, 250_000).r_milli, 93_200 - 13_997);
        assert_eq!(rate(g711, u64::MAX, u64::MAX), Score { r_milli: 0, mos_centi: 100 });
    }

    #[test]
    fn delay_is_half_the_round_trip_and_what_the_ends_add() {
        let mut reception = Reception::default();
        let header = crate::rtp::read(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        reception.count(&header, 12, 8_000, base::Instant(0));
        // 100 ms out of 200, and 20 ms of packet: Id = 2.88. Unmeasured: 20 + 20 ms, Id = 0.96.
        let r = |rtt_us| score(&reception, rtt_us).map(|s| s.r_milli);
        assert_eq!((r(Some(200_000)), r(None)), (Some(90_320), Some(92_240)));
    }

    #[test]
    fn more_loss_never_sounds_better() {
        let scores: Vec<u16> = (0..=100)
            .map(|percent| rate(Codec::of(8), percent * 10_000, 60_000).mos_centi)
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b));
        assert!(scores.iter().all(|mos| (100..=450).contains(mos)));
        assert_eq!(score(&Reception::default(), None), None);
    }
}
