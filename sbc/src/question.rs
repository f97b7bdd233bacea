//! Needs: what `decide` may ask before it can route, and what it may be told.
//!
//! A question is asked once per call and has a deadline; the answer, or the deadline, becomes a fact
//! and `decide` runs again from the top. Names are the only questions so far.

use base::Instant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long a call waits for an answer.
pub const DEADLINE: Duration = Duration::from_millis(2_000);

/// How long a name that could not be found is not asked for again.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// Bounds on how long an answer is used.
const TTL_S: core::ops::RangeInclusive<u32> = 1..=3_600;

/// The most names kept; the configuration names fewer.
const MAX_NAMES: usize = 4_096;

/// Something the engine must be told before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The addresses of a host.
    Resolve(Box<str>),
}

/// What came back for a question, or that nothing did in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The host that was asked for.
    pub host: Box<str>,
    /// Its addresses; empty when there are none.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used, seconds.
    pub ttl_s: u32,
}

/// What a shard knows about names: answers in their time to live.
#[derive(Default)]
pub struct Names {
    known: BTreeMap<Box<str>, (Vec<IpAddr>, Instant)>,
}

impl Names {
    /// The addresses of `host`: `None` when it must be asked for, empty when it has none.
    pub fn get(&self, host: &str, now: Instant) -> Option<&[IpAddr]> {
        let (addresses, until) = self.known.get(host)?;
        (now < *until).then_some(addresses.as_slice())
    }

    /// Learns an answer.
    pub fn learn(&mut self, answer: Answer, now: Instant) {
        let ttl = if answer.addresses.is_empty() {
            NEGATIVE_TTL
        } else {
            Duration::from_secs(u64::from(answer.ttl_s.clamp(*TTL_S.start(), *TTL_S.end())))
        };
        if self.known.len() >= MAX_NAMES && !self.known.contains_key(&answer.host) {
            self.known.retain(|_, (_, until)| now < *until);
        }
        if self.known.len() < MAX_NAMES {
            self.known.insert(answer.host, (answer.addresses, now + ttl));
        }
    }

    /// Takes silence for an answer: the deadline passed. An answer known already is kept.
    pub fn give_up(&mut self, host: &str, now: Instant) {
        if self.get(host, now).is_none() {
            self.learn(Answer { host: host.into(), addresses: Vec::new(), ttl_s: 0 }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_live_as_long_as_they_say() {
        let mut names = Names::default();
        let now = Instant(0);
        let addresses = vec![IpAddr::from([192, 0, 2, 1])];
        names.learn(Answer { host: "a".into(), addresses: addresses.clone(), ttl_s: 2 }, now);
        names.give_up("a", now);
        assert_eq!(names.get("a", now + Duration::from_secs(1)), Some(addresses.as_slice()));
        assert_eq!(names.get("a", now + Duration::from_secs(2)), None);
        names.give_up("b", now);
        assert_eq!(names.get("b", now), Some([].as_slice()));
    }
}
