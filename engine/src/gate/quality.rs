//! What the gate hears of attempts, published as what shards know about trunks; and why calls went where they
//! went, for as long as somebody may ask.

use super::State;
use base::ShardId;
use control::event::{Attempted, CallId};
use node::Letter;
use sbc::policy::Image;
use sbc::quality::{Destinations, Records, Standing};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often shards are told, seconds.
const EVERY_S: u64 = 5;
/// The most decisions of calls that ended which are remembered; the others are in the CDRs.
const REMEMBERED: usize = 4_096;

base::counters! {
    /// What is not known about quality.
    pub struct QualityCounters {
        /// Attempts that were not measured: more pairs of trunk and destination than are kept.
        unmeasured: counter "tandem_quality_unmeasured_total",
    }
}

/// Everything heard of trunks, and what was made of it last.
pub(crate) struct Quality {
    records: Records,
    destinations: Destinations,
    window: Duration,
    started: Instant,
    seconds: u64,
    publish: watch::Sender<Arc<Standing>>,
    counters: Arc<QualityCounters>,
    /// Those that some shard may still hold: freed here, not there.
    earlier: Vec<Arc<Standing>>,
}

impl Quality {
    pub(crate) fn new(
        image: &Image,
        publish: watch::Sender<Arc<Standing>>,
        counters: Arc<QualityCounters>,
    ) -> Quality {
        let (destinations, window) =
            (image.routing.destinations.clone(), image.routing.quality_window);
        let (records, earlier, started) = (Records::new(window), Vec::new(), Instant::now());
        Quality { records, destinations, window, started, seconds: 0, publish, counters, earlier }
    }

    /// Another configuration is in force. What was measured by other groups, or over another window, is of
    /// no use any more.
    pub(crate) fn reload(&mut self, image: &Image) {
        let routing = &image.routing;
        if routing.destinations != self.destinations || routing.quality_window != self.window {
            self.destinations = routing.destinations.clone();
            self.window = routing.quality_window;
            self.records = Records::new(self.window);
        }
    }

    fn now(&self) -> base::Instant {
        base::Instant(0) + self.started.elapsed()
    }

    /// An attempt is over.
    pub(crate) fn hear(&mut self, what: &Attempted) {
        let number = what.number.as_str().parse().unwrap_or_default();
        let (destination, now, before) =
            (self.destinations.of(number), self.now(), self.records.unmeasured());
        self.records.hear(destination, what, now);
        self.counters.unmeasured.add(self.records.unmeasured() - before);
    }

    /// What is known now.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        self.publish.borrow().clone()
    }

    /// Another second has passed: what to tell the shards, when it is time to and something has changed.
    fn second(&mut self) -> Option<Arc<Standing>> {
        self.seconds += 1;
        self.earlier.retain(|standing| Arc::strong_count(standing) > 1);
        if !self.seconds.is_multiple_of(EVERY_S) {
            return None;
        }
        let now = self.now();
        let next = Arc::new(self.records.standing(now));
        if *next == *self.standing() {
            return None;
        }
        self.earlier.push(self.publish.send_replace(next.clone()));
        Some(next)
    }
}

impl State {
    /// Another second has passed.
    pub(super) fn rate_trunks(&mut self) {
        let Some(standing) = self.quality.second() else { return };
        for shard in 0..self.shards {
            self.post(ShardId(shard as u8), Letter::Standing(standing.clone()));
        }
    }
}

/// Why calls went where they went: those that live, and the newest that ended.
#[derive(Default)]
pub(crate) struct Whys {
    records: BTreeMap<CallId, Arc<[u8]>>,
    ended: VecDeque<CallId>,
}

impl Whys {
    pub(crate) fn hear(&mut self, id: CallId, record: Arc<[u8]>) {
        if !record.is_empty() {
            self.records.insert(id, record);
        }
    }

    /// A call ended: its reasons go in their turn.
    pub(crate) fn end(&mut self, id: CallId) {
        if !self.records.contains_key(&id) {
            return;
        }
        self.ended.push_back(id);
        if self.ended.len() > REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    /// A call's.
    pub(crate) fn of(&self, id: CallId) -> Option<&[u8]> {
        self.records.get(&id).map(|record| &**record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_kept_while_a_call_lives_and_a_while_after() {
        let id = |index| CallId { home: 1, index, generation: 1 };
        let mut whys = Whys::default();
        whys.hear(id(0), b"why".as_slice().into());
        whys.hear(id(1), b"".as_slice().into());
        whys.end(id(1));
        assert_eq!((whys.of(id(0)), whys.of(id(1))), (Some(b"why".as_slice()), None));
        for index in 2..REMEMBERED as u32 + 3 {
            whys.hear(id(index), b"x".as_slice().into());
            whys.end(id(index));
        }
        assert!(whys.of(id(0)).is_some(), "it lives");
        assert!(whys.of(id(2)).is_none() && whys.of(id(3)).is_some(), "the oldest went");
        assert_eq!(whys.records.len(), REMEMBERED + 1);
    }
}
