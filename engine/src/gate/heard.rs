//! How trunks sound now: windows of live calls over the last minute, and alarms where a trunk's thresholds
//! are crossed.
//!
//! An alarm is raised by figures of at least [`FEWEST`] windows, and falls when they are better than the
//! threshold by a margin, or when nothing was heard for a minute: it does not flicker around the threshold.

use control::event::Sampled;
use sbc::policy::Trunk;
use sbc::policy::thresholds::{Limit, Thresholds};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// Figures are taken over this many slots…
const SLOTS: usize = 6;
/// … of this many seconds.
const SLOT_S: u64 = 10;
/// With fewer windows nothing is said against a trunk.
const FEWEST: u64 = 3;

/// Windows that were rated in one slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    windows: u64,
    mos_centi: u64,
    expected: u64,
    lost: u64,
    jitter_us: u64,
    trips: u64,
    trip_us: u64,
}

impl Slot {
    fn add(&mut self, sampled: &Sampled) {
        self.windows += 1;
        self.mos_centi += u64::from(sampled.mos_centi);
        self.expected += u64::from(sampled.expected);
        self.lost += u64::from(sampled.lost);
        self.jitter_us += u64::from(sampled.jitter_us);
        if let Some(trip) = sampled.rtt_us {
            self.trips += 1;
            self.trip_us += u64::from(trip);
        }
    }

    fn join(self, other: Slot) -> Slot {
        Slot {
            windows: self.windows + other.windows,
            mos_centi: self.mos_centi + other.mos_centi,
            expected: self.expected + other.expected,
            lost: self.lost + other.lost,
            jitter_us: self.jitter_us + other.jitter_us,
            trips: self.trips + other.trips,
            trip_us: self.trip_us + other.trip_us,
        }
    }

    /// A figure, in the unit its threshold has; `None` when nothing was measured.
    fn figure(&self, limit: Limit) -> Option<u32> {
        let (sum, count) = match limit {
            Limit::Mos => (self.mos_centi, self.windows),
            Limit::Loss => (self.lost * 10_000, self.expected),
            Limit::Jitter => (self.jitter_us, self.windows),
            Limit::RoundTrip => (self.trip_us, self.trips),
        };
        u32::try_from(sum.checked_div(count)?).ok()
    }
}

/// One trunk.
#[derive(Clone, Default)]
struct Line {
    slots: VecDeque<Slot>,
    raised: Vec<Limit>,
}

/// How one trunk sounds, for metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sound {
    /// Its number.
    pub trunk: u16,
    /// Average score of the windows of the last minute, hundredths; `None` without any.
    pub mos_centi: Option<u32>,
    /// Packets lost in them, in 1/10000.
    pub loss_e4: Option<u32>,
    /// Thresholds that are crossed.
    pub raised: usize,
}

/// All trunks that were heard lately, or have an alarm.
pub(crate) struct Heard {
    lines: BTreeMap<u16, Line>,
    seconds: u64,
    publish: watch::Sender<Arc<[Sound]>>,
}

impl Heard {
    pub(crate) fn new(publish: watch::Sender<Arc<[Sound]>>) -> Heard {
        Heard { lines: BTreeMap::new(), seconds: 0, publish }
    }

    /// A window was rated.
    pub(crate) fn hear(&mut self, sampled: &Sampled) {
        let line = self.lines.entry(sampled.trunk).or_default();
        if line.slots.is_empty() {
            line.slots.push_back(Slot::default());
        }
        if let Some(slot) = line.slots.back_mut() {
            slot.add(sampled);
        }
    }

    /// Another second has passed.
    pub(crate) fn second(&mut self, trunks: &[Trunk]) {
        self.seconds += 1;
        let slides = self.seconds.is_multiple_of(SLOT_S);
        self.lines.retain(|trunk, line| {
            if slides {
                line.slots.push_back(Slot::default());
                if line.slots.len() > SLOTS {
                    line.slots.pop_front();
                }
            }
            let thresholds =
                trunks.get(usize::from(*trunk)).map(|trunk| trunk.thresholds).unwrap_or_default();
            line.judge(&thresholds);
            line.sum().windows > 0
        });
        let sounds: Arc<[Sound]> =
            self.lines.iter().map(|(trunk, line)| line.sound(*trunk)).collect();
        self.publish.send_if_modified(|now| {
            let changed = *now != sounds;
            *now = sounds;
            changed
        });
    }

    /// What is wrong, in words.
    pub(crate) fn alarms(&self, trunks: &[Trunk]) -> Vec<String> {
        let heard = self.lines.iter();
        let heard = heard.filter_map(|(id, line)| Some((trunks.get(usize::from(*id))?, line)));
        let lines = heard.flat_map(|(trunk, line)| {
            let (sum, thresholds) = (line.sum(), trunk.thresholds);
            line.raised.iter().filter_map(move |limit| {
                let (is, may) = (sum.figure(*limit)?, thresholds.of(*limit)?);
                Some(format!(
                    "trunk `{}`: {} {} over the last minute, threshold {}",
                    trunk.name,
                    limit.name(),
                    limit.written(is),
                    limit.written(may)
                ))
            })
        });
        lines.collect()
    }
}

impl Line {
    fn sum(&self) -> Slot {
        self.slots.iter().fold(Slot::default(), |sum, slot| sum.join(*slot))
    }

    /// Raises what is worse than its threshold, and lets fall what is better by the margin.
    fn judge(&mut self, thresholds: &Thresholds) {
        let sum = self.sum();
        let raised = Limit::ALL.into_iter().filter(|limit| {
            let (Some(is), Some(may)) = (sum.figure(*limit), thresholds.of(*limit)) else {
                return false;
            };
            match self.raised.contains(limit) {
                true => !limit.is_cleared(is, may),
                false => sum.windows >= FEWEST && limit.is_crossed(is, may),
            }
        });
        self.raised = raised.collect();
    }

    fn sound(&self, trunk: u16) -> Sound {
        let sum = self.sum();
        let (mos_centi, loss_e4) = (sum.figure(Limit::Mos), sum.figure(Limit::Loss));
        Sound { trunk, mos_centi, loss_e4, raised: self.raised.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::event::CallId;

    fn sampled(mos_centi: u16, lost: u32) -> Sampled {
        Sampled {
            id: CallId::default(),
            is_callers: true,
            trunk: 0,
            expected: 400,
            lost,
            jitter_us: 2_000,
            rtt_us: None,
            r_milli: 80_000,
            mos_centi,
            mos_least_centi: mos_centi,
            mos_mean_centi: mos_centi,
        }
    }

    fn trunks() -> Vec<Trunk> {
        let thresholds =
            Thresholds { mos_centi: Some(360), loss_e4: Some(200), ..Thresholds::default() };
        vec![Trunk { name: "carrier-a".into(), thresholds, ..Trunk::default() }]
    }

    /// What is raised after a slot of such windows.
    fn after(heard: &mut Heard, trunks: &[Trunk], windows: &[Sampled]) -> Vec<String> {
        windows.iter().for_each(|window| heard.hear(window));
        (0..SLOT_S).for_each(|_| heard.second(trunks));
        heard.alarms(trunks)
    }

    #[test]
    fn alarms_are_raised_beyond_a_threshold_and_fall_with_a_margin() {
        let (publish, sounds) = watch::channel(Arc::from([]));
        let (mut heard, trunks) = (Heard::new(publish), trunks());
        assert!(after(&mut heard, &trunks, &[sampled(300, 0); 2]).is_empty(), "too few");
        let alarms = after(&mut heard, &trunks, &[sampled(340, 4); 8]);
        assert_eq!(
            alarms,
            ["trunk `carrier-a`: MOS 3.32 over the last minute, threshold 3.60"],
            "loss of 1 % is below its threshold"
        );
        assert_eq!(sounds.borrow().first().map(|s| (s.trunk, s.raised)), Some((0, 1)));
        // At the threshold, and a little above it: not better by the margin.
        for _ in 0..SLOTS {
            let alarms = after(&mut heard, &trunks, &[sampled(365, 0); 8]);
            assert_eq!(alarms.len(), 1, "{alarms:?}");
        }
        let mut falls = 0;
        while !after(&mut heard, &trunks, &[sampled(420, 0); 8]).is_empty() {
            falls += 1;
            assert!(falls < SLOTS, "a minute of good sound is enough");
        }
        assert_eq!(after(&mut heard, &trunks, &[sampled(410, 80); 8]).len(), 1, "20 % of a slot");
        for _ in 0..=SLOTS {
            after(&mut heard, &trunks, &[]);
        }
        assert!(heard.alarms(&trunks).is_empty() && heard.lines.is_empty(), "nobody is heard");
        assert!(sounds.borrow().is_empty());
    }
}
