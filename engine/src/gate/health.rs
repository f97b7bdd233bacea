//! Endpoints that are asked whether they are there: what shards found, for lists, alarms and metrics.

use control::event::{Endpoint, EndpointState};
use control::frame::EndpointLine;
use sbc::policy::{Outages, Trunk};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What was not heard of for so many intervals, and this long, is not asked any more.
const FORGOTTEN: u32 = 3;
const GRACE: Duration = Duration::from_secs(60);

/// One endpoint, for metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The number of its trunk.
    pub trunk: u16,
    /// Its address.
    pub endpoint: SocketAddr,
    /// Whether calls are sent to it.
    pub is_up: bool,
    /// How long its last answer took, seconds; `None` when there was none.
    pub answered_s: Option<f64>,
}

/// One endpoint as it is known.
struct Known {
    told: Endpoint,
    /// When it went in or out, milliseconds since the Unix epoch.
    since_ms: u64,
    heard: std::time::Instant,
}

/// All that are asked.
pub(crate) struct Health {
    known: BTreeMap<(u16, SocketAddr), Known>,
    publish: watch::Sender<Arc<[Seen]>>,
}

impl Health {
    pub(crate) fn new(publish: watch::Sender<Arc<[Seen]>>) -> Health {
        Health { known: BTreeMap::new(), publish }
    }

    /// An endpoint was asked; the line to tell when it went in or out by that.
    pub(crate) fn hear(&mut self, told: Endpoint) -> Option<EndpointLine> {
        let whose = (told.trunk, told.endpoint);
        let (before, now) = (self.known.get(&whose), std::time::Instant::now());
        let was = before.map(|known| known.told.state);
        let since_ms = match before {
            Some(known) if was == Some(told.state) => known.since_ms,
            Some(_) | None => now_ms(),
        };
        if told.state == EndpointState::Gone {
            self.known.remove(&whose);
        } else {
            self.known.insert(whose, Known { told, since_ms, heard: now });
        }
        // Of one that was never asked it is taken for granted that it is there.
        let has_changed = was.unwrap_or(EndpointState::Up) != told.state;
        let line = || self.known.get(&whose).map(line);
        if has_changed { line() } else { None }
    }

    /// Another second has passed.
    pub(crate) fn second(&mut self, trunks: &[Trunk]) {
        self.known.retain(|(trunk, _), known| {
            let trunk = trunks.get(usize::from(*trunk)).filter(|trunk| !trunk.retired);
            let every = trunk.and_then(|trunk| trunk.probing.as_ref()).map(|p| p.every);
            every.is_some_and(|every| known.heard.elapsed() < every * FORGOTTEN + GRACE)
        });
        let seen: Arc<[Seen]> = self.known.values().map(seen).collect();
        self.publish.send_if_modified(|now| {
            let changed = *now != seen;
            *now = seen;
            changed
        });
    }

    /// What is wrong, in words: trunks of which nobody answers, and endpoints of others.
    pub(crate) fn alarms(&self, trunks: &[Trunk]) -> Vec<String> {
        let outages = self.outages();
        let down = self.known.values().filter(|known| known.told.state == EndpointState::Down);
        let mut alarms: Vec<String> = Vec::new();
        for Known { told, .. } in down {
            let Some(trunk) = trunks.get(usize::from(told.trunk)) else { continue };
            let said = match told.status {
                Some(status) => format!("answers OPTIONS with {status}"),
                None => String::from("does not answer OPTIONS"),
            };
            let all = if outages.has_all(told.trunk) { ": it is down" } else { "" };
            alarms.push(format!("trunk `{}`{all}: {} {said}", trunk.name, told.endpoint));
        }
        alarms
    }

    /// The endpoints of a trunk.
    pub(crate) fn of(&self, trunk: u16) -> impl Iterator<Item = EndpointLine> {
        self.known.iter().filter(move |((whose, _), _)| *whose == trunk).map(|(_, k)| line(k))
    }

    /// As shards have them, for who asks what would become of a call.
    pub(crate) fn outages(&self) -> Outages {
        let known = self.known.iter();
        known.map(|((t, e), k)| (*t, *e, k.told.state == EndpointState::Down)).collect()
    }
}

fn line(known: &Known) -> EndpointLine {
    let Known { told, since_ms, .. } = known;
    EndpointLine {
        address: told.endpoint.to_string(),
        state: told.state.name().to_owned(),
        since_ms: *since_ms,
        status: told.status,
        answered_ms: told.answered_us.map(|us| f64::from(us) / 1e3),
    }
}

fn seen(known: &Known) -> Seen {
    Seen {
        trunk: known.told.trunk,
        endpoint: known.told.endpoint,
        is_up: known.told.state == EndpointState::Up,
        answered_s: known.told.answered_us.map(|us| f64::from(us) / 1e6),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sbc::policy::Probing;

    fn told(trunk: u16, port: u16, state: EndpointState, status: Option<u16>) -> Endpoint {
        let endpoint = SocketAddr::from(([192, 0, 2, 1], port));
        Endpoint { trunk, endpoint, state, status, answered_us: status.map(|_| 1_500) }
    }

    #[test]
    fn what_changes_is_told_and_what_is_down_is_an_alarm() {
        let (publish, seen) = watch::channel(Arc::from([]));
        let mut health = Health::new(publish);
        let trunk = |name: &str| Trunk {
            name: name.into(),
            probing: Some(Probing::default()),
            ..Trunk::default()
        };
        let trunks = [trunk("a"), trunk("b")];
        use EndpointState::{Down, Gone, Up};
        assert_eq!(health.hear(told(0, 5060, Up, Some(200))), None, "as it was taken to be");
        assert_eq!(health.hear(told(0, 5061, Up, None)), None);
        let line = health.hear(told(0, 5061, Down, None)).expect("an event");
        assert_eq!((&*line.address, &*line.state), ("192.0.2.1:5061", "down"));
        assert_eq!(health.hear(told(0, 5061, Down, None)), None, "it is known");
        assert!(health.hear(told(1, 5060, Down, Some(503))).is_some());
        assert_eq!(
            health.alarms(&trunks),
            [
                "trunk `a`: 192.0.2.1:5061 does not answer OPTIONS",
                "trunk `b`: it is down: 192.0.2.1:5060 answers OPTIONS with 503",
            ]
        );
        health.second(&trunks);
        let up = seen.borrow().iter().map(|seen| seen.is_up).collect::<Vec<_>>();
        assert_eq!(up, [true, false, false]);
        assert!(health.outages().has_all(1) && !health.outages().has_all(0));
        assert_eq!(health.of(0).count(), 2);
        assert!(health.hear(told(1, 5060, Up, Some(200))).is_some());
        assert_eq!(health.hear(told(0, 5061, Gone, None)), None);
        assert!(health.alarms(&trunks).is_empty());
        health.second(&[trunk("a"), Trunk { probing: None, ..trunk("b") }]);
        assert_eq!((health.of(0).count(), health.of(1).count()), (1, 0), "not asked any more");
    }
}
