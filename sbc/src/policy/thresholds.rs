//! When a trunk sounds so bad that somebody should know.

/// What is looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Mean opinion score, hundredths; lower is worse.
    Mos,
    /// Packets lost, in 1/10000.
    Loss,
    /// Interarrival jitter, microseconds.
    Jitter,
    /// Round trip, microseconds.
    RoundTrip,
}

/// Thresholds of a trunk; `None` is never crossed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Not below this score, in hundredths.
    pub mos_centi: Option<u32>,
    /// Not above this loss, in 1/10000.
    pub loss_e4: Option<u32>,
    /// Not above this jitter, in microseconds.
    pub jitter_us: Option<u32>,
    /// Not above this round trip, in microseconds.
    pub round_trip_us: Option<u32>,
}

impl Thresholds {
    /// One of them.
    pub fn of(&self, limit: Limit) -> Option<u32> {
        match limit {
            Limit::Mos => self.mos_centi,
            Limit::Loss => self.loss_e4,
            Limit::Jitter => self.jitter_us,
            Limit::RoundTrip => self.round_trip_us,
        }
    }
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 4] = [Limit::Mos, Limit::Loss, Limit::Jitter, Limit::RoundTrip];

    /// As operators call it.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Mos => "MOS",
            Limit::Loss => "loss",
            Limit::Jitter => "jitter",
            Limit::RoundTrip => "round trip",
        }
    }

    /// A value with its unit.
    pub fn written(self, value: u32) -> String {
        match self {
            Limit::Mos => format!("{}.{:02}", value / 100, value % 100),
            Limit::Loss => format!("{}.{:02} %", value / 100, value % 100),
            Limit::Jitter | Limit::RoundTrip => {
                format!("{}.{} ms", value / 1_000, value % 1_000 / 100)
            }
        }
    }

    /// Whether a value is worse than its threshold.
    pub fn is_crossed(self, value: u32, threshold: u32) -> bool {
        match self {
            Limit::Mos => value < threshold,
            Limit::Loss | Limit::Jitter | Limit::RoundTrip => value > threshold,
        }
    }

    /// Whether a value is better than its threshold by a margin: 0.10 of a score, a fifth of anything else.
    pub fn is_cleared(self, value: u32, threshold: u32) -> bool {
        match self {
            Limit::Mos => value >= threshold.saturating_add(10),
            Limit::Loss | Limit::Jitter | Limit::RoundTrip => value <= threshold / 5 * 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_does_not_clear() {
        for limit in Limit::ALL {
            for value in 0..2_000 {
                assert!(!(limit.is_crossed(value, 360) && limit.is_cleared(value, 360)));
            }
        }
        assert!(Limit::Mos.is_crossed(359, 360) && !Limit::Mos.is_crossed(360, 360));
        assert!(!Limit::Mos.is_cleared(369, 360) && Limit::Mos.is_cleared(370, 360));
        assert!(!Limit::Loss.is_cleared(161, 200) && Limit::Loss.is_cleared(160, 200));
        assert_eq!(
            [Limit::Mos.written(305), Limit::Loss.written(240), Limit::Jitter.written(42_350)],
            ["3.05", "2.40 %", "42.3 ms"]
        );
    }
}
