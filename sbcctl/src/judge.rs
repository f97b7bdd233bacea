//! When a number is worth a look, and when it is worth waking somebody: one place, documented in
//! `docs/operate/cli.md`.

/// How bad.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Worth a look: yellow, marked `!`.
    Warn,
    /// Act: red, marked `!!`.
    Bad,
}

impl Level {
    /// The mark, for those who see no colour.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Level::Good => "",
            Level::Warn => "!",
            Level::Bad => "!!",
        }
    }
}

/// Ratios of fewer ended calls than this say nothing.
pub(crate) const ENOUGH: u64 = 20;

fn above(value: f64, warn: f64, bad: f64) -> Level {
    match value {
        v if v >= bad => Level::Bad,
        v if v >= warn => Level::Warn,
        _ => Level::Good,
    }
}

fn below(value: f64, warn: f64, bad: f64) -> Level {
    above(-value, -warn, -bad)
}

/// Something used, of its limit: yellow from 80 %, red from 95 %.
pub(crate) fn fill(used: f64, limit: f64) -> Level {
    if limit > 0.0 { above(used / limit, 0.80, 0.95) } else { Level::Good }
}

/// Answer-seizure ratio, percent, over so many ended calls: yellow to 40, red to 20.
pub(crate) fn asr(asr: Option<f64>, ended: u64) -> Level {
    if ended < ENOUGH { Level::Good } else { asr.map_or(Level::Good, |v| below(v, 40.0, 20.0)) }
}

/// Post-dial delay, milliseconds: yellow from 4 s, red from 8 s.
pub(crate) fn pdd(ms: Option<f64>) -> Level {
    ms.map_or(Level::Good, |v| above(v, 4000.0, 8000.0))
}

/// Mean opinion score: below 3.6 some listeners are dissatisfied, below 3.1 nearly all are (G.107 B).
pub(crate) fn mos(mos: Option<f64>) -> Level {
    mos.map_or(Level::Good, |v| below(v, 3.599, 3.099))
}

/// Processor time of a thread, percent of a core: yellow from 70, red from 90.
pub(crate) fn cpu(percent: f64) -> Level {
    above(percent, 70.0, 90.0)
}

/// Journal that is not on disk yet, bytes: yellow from 1 MiB, red from 16 MiB.
pub(crate) fn journal(bytes: u64) -> Level {
    above(bytes as f64, 1_048_576.0, 16_777_216.0)
}

/// Discarded media packets among all of a second: yellow from 1 %, red from 5 %.
pub(crate) fn discards(per_second: f64, kpps: f64) -> Level {
    let all = per_second + kpps * 1000.0;
    if all < 50.0 { Level::Good } else { above(per_second / all, 0.01, 0.05) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders() {
        assert_eq!(fill(79.0, 100.0), Level::Good);
        assert_eq!(fill(80.0, 100.0), Level::Warn);
        assert_eq!(fill(95.0, 100.0), Level::Bad);
        assert_eq!(fill(9.0, 0.0), Level::Good);
        assert_eq!(asr(Some(0.0), 19), Level::Good);
        assert_eq!(asr(Some(0.0), 20), Level::Bad);
        assert_eq!(asr(None, 20), Level::Good);
        assert_eq!(mos(Some(3.6)), Level::Good);
        assert_eq!(mos(Some(3.1)), Level::Warn);
        assert_eq!(mos(Some(3.0)), Level::Bad);
        assert_eq!(pdd(Some(8000.0)), Level::Bad);
        assert_eq!(discards(10.0, 0.01), Level::Good);
        assert_eq!(discards(100.0, 1.0), Level::Bad);
    }
}
