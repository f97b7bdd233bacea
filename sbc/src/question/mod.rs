//! Needs: what `decide` may ask before it can route, and what it may be told.
//!
//! A question is asked once per call and has a deadline; the answer, or the deadline, becomes a fact
//! and `decide` runs again from the top. Questions are which servers a host name stands for (RFC 3263 4), and
//! whether a number was ported. Knows nothing of DNS messages or HTTP: who answers has done all of that.

mod names;
mod ported;

pub use names::{Found, Names};
pub use ported::{Dip, Ported, PortedNumber};

use crate::policy::Transport;
use base::plain;
use base::record::{Plain, Unreadable};
use core::fmt;
use core::str::FromStr;
use routing_trie::Digits;
use std::net::IpAddr;
use std::time::Duration;

/// How long a call waits for an answer.
pub const DEADLINE: Duration = Duration::from_millis(2_000);

/// The most names a node may be told about; the configuration is refused beyond.
pub const MAX_NAMES: usize = 4_096;
/// The most hops of one answer that are kept: those of the best priorities.
pub const MAX_HOPS: usize = 16;
/// The most addresses of one hop that are kept, half of them of each family.
pub const MAX_ADDRESSES: usize = 16;
/// The longest host name: with `_sip._udp.` before it, it still is a DNS name (RFC 1035 2.3.4).
pub const MAX_HOST: usize = 243;

/// What is looked up for a host name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Its addresses alone, at this port (RFC 3263 4.2: a port was written).
    Port(u16),
    /// Who serves SIP over UDP there: NAPTR, then SRV, then its addresses.
    Udp,
    /// Who serves SIP over TCP there.
    Tcp,
    /// Who serves SIP over TLS there.
    Tls,
}

impl Service {
    /// The service of a name without a port.
    pub fn of(transport: Transport) -> Service {
        match transport {
            Transport::Udp => Service::Udp,
            Transport::Tcp => Service::Tcp,
            Transport::Tls => Service::Tls,
            // RFC 7118 has no service names: its servers are found as a URI says.
            Transport::Ws | Transport::Wss => Service::Port(transport.default_port()),
        }
    }
}

/// A host name, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// The name, lower case.
    pub host: Box<str>,
    /// What is looked up.
    pub service: Service,
}

impl Query {
    /// A name with a port: its addresses and nothing else.
    pub fn port(host: &str, port: u16) -> Query {
        Query { host: host.into(), service: Service::Port(port) }
    }

    /// As configuration spells it.
    pub fn written(&self) -> String {
        match self.service {
            Service::Port(port) => format!("{}:{port}", self.host),
            Service::Udp | Service::Tcp | Service::Tls => self.host.to_string(),
        }
    }
}

/// `host:5060`, `host/udp`, `host/tcp`, `host/tls`.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service {
            Service::Port(port) => write!(f, "{}:{port}", self.host),
            Service::Udp => write!(f, "{}/udp", self.host),
            Service::Tcp => write!(f, "{}/tcp", self.host),
            Service::Tls => write!(f, "{}/tls", self.host),
        }
    }
}

impl FromStr for Query {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Query, Unreadable> {
        let split = text.rsplit_once([':', '/']).ok_or(Unreadable::Value)?;
        let service = match split {
            (_, "udp") => Service::Udp,
            (_, "tcp") => Service::Tcp,
            (_, "tls") => Service::Tls,
            (_, port) => Service::Port(port.parse().map_err(|_| Unreadable::Value)?),
        };
        let good = (1..=MAX_HOST).contains(&split.0.len());
        let query = Query { host: split.0.into(), service };
        // Exactly as it is printed, or it is none of ours.
        (good && query.to_string() == text).then_some(query).ok_or(Unreadable::Value)
    }
}

/// Its text; a record is no place for a second spelling.
impl Plain for Query {
    fn put(&self, out: &mut Vec<u8>) {
        Box::<[u8]>::from(self.to_string().into_bytes()).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let text = Box::<[u8]>::take(from)?;
        core::str::from_utf8(&text).map_err(|_| Unreadable::Value)?.parse()
    }
}

/// Something the engine must be told before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which servers a name stands for.
    Resolve(Query),
    /// Whether a number was ported, and where to.
    Port(Digits),
}

/// A name as [`Query`] is written; `12125550100/lnp`.
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Resolve(query) => query.fmt(f),
            Question::Port(number) => write!(f, "{number}/lnp"),
        }
    }
}

impl FromStr for Question {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Question, Unreadable> {
        match text.strip_suffix("/lnp") {
            Some(number) => number.parse().map(Question::Port).map_err(|_| Unreadable::Value),
            None => text.parse().map(Question::Resolve),
        }
    }
}

/// Its text, as a query is written.
impl Plain for Question {
    fn put(&self, out: &mut Vec<u8>) {
        Box::<str>::from(self.to_string()).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Box::<str>::take(from)?.parse()
    }
}

/// One server of a name (RFC 2782): where it stands among the others, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// Its port.
    pub port: u16,
    /// Its addresses, of both families.
    pub addresses: Vec<IpAddr>,
}

plain!(struct Hop { priority, weight, port, addresses });

/// What came back for a question, or that nothing did in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub query: Query,
    /// The servers; empty when there are none.
    pub hops: Vec<Hop>,
    /// How long they may be used, seconds.
    pub ttl_s: u32,
    /// How much longer they are used while nothing newer is known (RFC 8767), seconds.
    pub stale_s: u32,
}

impl Answer {
    /// One server at these addresses, as long as the TTL says and no longer.
    pub fn of(query: Query, port: u16, addresses: Vec<IpAddr>, ttl_s: u32) -> Answer {
        let hop = Hop { priority: 0, weight: 0, port, addresses };
        Answer { query, hops: vec![hop], ttl_s, stale_s: 0 }
    }

    /// There is none.
    pub fn none(query: Query, ttl_s: u32) -> Answer {
        Answer { query, hops: Vec::new(), ttl_s, stale_s: 0 }
    }

    /// Within bounds: the best hops, a few addresses of each, none without any.
    pub fn bounded(mut self) -> Answer {
        self.hops.retain(|hop| !hop.addresses.is_empty() && hop.port != 0);
        self.hops.sort_by_key(|hop| hop.priority);
        self.hops.truncate(MAX_HOPS);
        self.hops.iter_mut().for_each(|hop| hop.addresses.truncate(MAX_ADDRESSES));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_as_it_is_written() {
        for text in ["a.example:5060", "a.example/udp", "a.example/tcp", "a.example/tls"] {
            let query: Query = text.parse().expect("a query");
            assert_eq!(query.to_string(), text);
            let mut bytes = Vec::new();
            query.put(&mut bytes);
            assert_eq!(Query::take(&mut bytes.as_slice()), Ok(query));
        }
        let long = format!("{}/udp", "a".repeat(MAX_HOST + 1));
        for bad in ["", "a", "a:udp", "a/5060", "a:", "/udp", "a:05060", "a:65536", &long] {
            assert_eq!(bad.parse::<Query>(), Err(Unreadable::Value), "{bad}");
        }
    }

    #[test]
    fn a_question_reads_as_it_is_written() {
        for text in ["a.example:5060", "a.example/udp", "12125550100/lnp"] {
            let question: Question = text.parse().expect("a question");
            assert_eq!(question.to_string(), text);
            let mut bytes = Vec::new();
            question.put(&mut bytes);
            assert_eq!(Question::take(&mut bytes.as_slice()), Ok(question));
        }
        assert!("a/lnp".parse::<Question>().is_err());
    }

    #[test]
    fn an_answer_is_cut_to_its_bounds() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let hop = |priority, addresses| Hop {
            priority,
            weight: 1,
            port: 5060,
            addresses: vec![address; addresses],
        };
        let mut hops: Vec<Hop> = (0..MAX_HOPS as u16 + 1).rev().map(|p| hop(p, 1)).collect();
        hops.push(hop(0, MAX_ADDRESSES + 1));
        hops.push(hop(0, 0));
        let query = Query::port("a", 5060);
        let answer = Answer { hops, ..Answer::none(query, 1) }.bounded();
        assert_eq!(answer.hops.len(), MAX_HOPS);
        assert_eq!(answer.hops.iter().map(|h| h.addresses.len()).max(), Some(MAX_ADDRESSES));
        assert!(answer.hops.iter().all(|h| h.priority < MAX_HOPS as u16));
    }
}
