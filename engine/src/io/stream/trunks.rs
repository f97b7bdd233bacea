//! Whose a connection is, and what each trunk is told of its connections.
//!
//! A connection is its far end's: of the trunks that have it for an endpoint, or among their sources once it has
//! proved who it is (RFC 5922). Several trunks may share one; each counts it. What happens on a connection is
//! noted there and told to its trunks a few times a second, so that a message costs one addition. Which call a
//! message belongs to is not known here.

use super::connection::Connection;
use super::counters::{Began, Ended, TrunkCounters};
use super::{Streams, Terms};
use base::{Instant, PortId};
use sbc::policy::realm::{self, Peer};
use sbc::policy::{Image, Target, Trunk};
use sbc::question::{Answer, Hop, Names};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// The most trunks that one connection is counted for.
const SHARED: usize = 8;
/// Connections that are given to their trunks anew in one sweep, after a reload.
const AGAIN: usize = 512;
/// Trunks whose counters are made together.
const CHUNK: usize = 64;
/// Chunks for every number a trunk may have.
const CHUNKS: usize = (u16::MAX as usize + 1) / CHUNK;
/// Names are used as long as the gate says: it tells others when they change.
const ALWAYS: Instant = Instant(0);

/// The counters of every trunk on one shard, which alone writes them. They are made when a connection is there
/// to count, and stay: a trunk keeps its number.
pub struct TrunkTable {
    chunks: Box<[OnceLock<Box<[TrunkCounters]>>]>,
}

impl Default for TrunkTable {
    fn default() -> TrunkTable {
        TrunkTable { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

impl TrunkTable {
    /// Those of a trunk, if there was anything to count near it.
    pub fn get(&self, trunk: u16) -> Option<&TrunkCounters> {
        let (chunk, place) = (usize::from(trunk) / CHUNK, usize::from(trunk) % CHUNK);
        self.chunks.get(chunk)?.get()?.get(place)
    }

    /// Counts something of some trunks.
    fn count(&self, trunks: &[u16], add: impl Fn(&TrunkCounters)) {
        for trunk in trunks {
            let (chunk, place) = (usize::from(*trunk) / CHUNK, usize::from(*trunk) % CHUNK);
            let made = self.chunks.get(chunk).map(|chunk| {
                chunk.get_or_init(|| (0..CHUNK).map(|_| TrunkCounters::default()).collect())
            });
            made.and_then(|made| made.get(place)).into_iter().for_each(&add);
        }
    }
}

/// Who is where, as one configuration and DNS say.
pub(crate) struct Whose {
    image: Arc<Image>,
    names: Names,
    /// Trunks with an endpoint at an address.
    endpoints: HashMap<(PortId, SocketAddr), Vec<u16>>,
}

impl Whose {
    pub(crate) fn new(image: Arc<Image>, answers: impl IntoIterator<Item = Answer>) -> Whose {
        let mut names = Names::default();
        answers.into_iter().for_each(|answer| names.learn(answer, ALWAYS));
        let mut endpoints: HashMap<_, Vec<u16>> = HashMap::new();
        for (id, trunk) in (0..).zip(&image.trunks).filter(|(_, trunk)| !trunk.retired) {
            let addresses = trunk.endpoints.iter().flat_map(|target| addresses(&names, target));
            for (port, address) in addresses.flat_map(|a| ports(&image, trunk).map(move |p| (p, a)))
            {
                let sharing = endpoints.entry((port, address)).or_default();
                if sharing.last() != Some(&id) && sharing.len() < SHARED {
                    sharing.push(id);
                }
            }
        }
        Whose { image, names, endpoints }
    }

    /// The trunks that have the far end of a connection for an endpoint, if we dialled it, or among their
    /// sources. What it has `proved` counts where that is known.
    fn trunks(
        &self,
        (port, source): (PortId, SocketAddr),
        dialled: bool,
        proved: Option<&[Box<str>]>,
    ) -> Box<[u16]> {
        let endpoint = dialled.then(|| self.endpoints.get(&(port, source))).flatten();
        let mut trunks = endpoint.cloned().unwrap_or_default();
        let names = &self.names;
        let peer = Peer { source, proved: proved.unwrap_or_default(), names, now: ALWAYS };
        for id in realm::trunks_at(&self.image, port, &peer, proved.is_some()) {
            if trunks.len() < SHARED && !trunks.contains(&id) {
                trunks.push(id);
            }
        }
        trunks.into()
    }
}

/// The ports that a trunk's requests leave from over connections.
fn ports(image: &Image, trunk: &Trunk) -> impl Iterator<Item = PortId> {
    let own = image.port_of(trunk).filter(|port| image.is_stream(*port));
    own.into_iter().chain(image.port_of_large(trunk))
}

fn addresses<'a>(names: &'a Names, target: &'a Target) -> Vec<SocketAddr> {
    match target {
        Target::Address(address) => vec![*address],
        Target::Name(query) => {
            let hops = names.get(query, ALWAYS).map_or(&[][..], |found| found.hops);
            let of =
                |hop: &'a Hop| hop.addresses.iter().map(move |ip| SocketAddr::new(*ip, hop.port));
            hops.iter().flat_map(of).collect()
        }
    }
}

/// What a connection has to tell its trunks.
#[derive(Default)]
pub(super) struct Account {
    trunks: Box<[u16]>,
    /// By which terms they were found; `None` as long as it is not proved who is there.
    by: Option<u32>,
    pub(super) heard: u32,
    pub(super) said: u32,
    pub(super) overflows: u32,
    pub(super) asked: u32,
    pub(super) answered: u32,
}

impl Account {
    /// Tells what was noted since the last time.
    fn tell(&mut self, table: &TrunkTable) {
        let Account { heard, said, overflows, asked, answered, .. } = *self;
        if heard | said | overflows | asked | answered == 0 {
            return;
        }
        table.count(&self.trunks, |trunk| {
            trunk.heard.add(heard.into());
            trunk.said.add(said.into());
            trunk.overflows.add(overflows.into());
            trunk.asked.add(asked.into());
            trunk.answered.add(answered.into());
        });
        let (trunks, by) = (std::mem::take(&mut self.trunks), self.by);
        *self = Account { trunks, by, ..Account::default() };
    }

    /// Gives the connection to other trunks.
    fn pass(&mut self, trunks: Box<[u16]>, table: &TrunkTable) {
        let before = std::mem::replace(&mut self.trunks, trunks);
        let only = |these: &[u16], those: &[u16]| -> Vec<u16> {
            these.iter().filter(|trunk| !those.contains(trunk)).copied().collect()
        };
        table.count(&only(&before, &self.trunks), less);
        table.count(&only(&self.trunks, &before), more);
    }
}

fn more(trunk: &TrunkCounters) {
    trunk.connections.set(trunk.connections.get() + 1);
}

fn less(trunk: &TrunkCounters) {
    trunk.connections.set(trunk.connections.get().saturating_sub(1));
}

/// The trunks of a connection, by what it has proved or, as long as that is open, by its address.
fn trunks_of(terms: &Terms, connection: &Connection) -> Box<[u16]> {
    let known = connection.is_known().then(|| connection.proved());
    let whose = terms.whose.as_ref();
    whose.map_or_else(Box::default, |whose| {
        whose.trunks(connection.ends(), connection.is_dialled(), known)
    })
}

fn began(connection: &Connection) -> usize {
    if connection.is_dialled() { Began::Ours.index() } else { Began::Theirs.index() }
}

impl Streams {
    /// A connection has just begun, or it has turned out who is there.
    pub(super) fn assign(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.account.by.is_some() || !connection.is_known() {
            return;
        }
        let trunks = trunks_of(&self.terms, connection);
        let began = began(connection);
        self.counted.trunks.count(&trunks, |trunk| {
            trunk.opened.add(began);
            more(trunk);
        });
        connection.account.trunks = trunks;
        connection.account.by = Some(self.agreed);
    }

    /// A connection has ended.
    pub(super) fn settle(&self, connection: &mut Connection, why: Ended) {
        let table = &self.counted.trunks;
        if connection.account.by.is_none() {
            // Whose it would have been, for all that its address says.
            let (trunks, began) = (trunks_of(&self.terms, connection), began(connection));
            return table.count(&trunks, |trunk| {
                trunk.opened.add(began);
                trunk.ended.add(why.index());
            });
        }
        connection.account.tell(table);
        table.count(&connection.account.trunks, |trunk| {
            less(trunk);
            trunk.ended.add(why.index());
        });
    }

    /// A connection was not made, to an address or from one.
    pub(super) fn refuse(&self, port: PortId, peer: SocketAddr, dialled: bool) {
        let whose = self.terms.whose.as_ref();
        let trunks = whose.map_or_else(Box::default, |w| w.trunks((port, peer), dialled, None));
        self.counted.trunks.count(&trunks, |trunk| trunk.refused.add(1));
    }

    /// Tells trunks what happened on their connections, and them and listeners what waits there.
    pub(super) fn balance(&mut self) {
        let mut waits = vec![(0, 0); self.counted.listeners.len()];
        let table = &self.counted.trunks;
        table.count(&std::mem::take(&mut self.burdened), |trunk| {
            trunk.waiting.set(0);
            trunk.paused.set(0);
        });
        let mut again = AGAIN;
        for connection in self.connections.values_mut() {
            connection.account.tell(table);
            connection.acknowledge();
            if connection.account.by.is_some_and(|by| by != self.agreed) && again > 0 {
                again -= 1;
                let trunks = trunks_of(&self.terms, connection);
                connection.account.pass(trunks, table);
                connection.account.by = Some(self.agreed);
            }
            let (queued, paused) = (connection.queued() as u64, !connection.listens());
            if queued > 0 {
                let port = connection.ends().0;
                let place = self.listeners.iter().position(|listener| listener.port == port);
                if let Some((bytes, pauses)) = place.and_then(|place| waits.get_mut(place)) {
                    *bytes += queued;
                    *pauses += u64::from(paused);
                }
                self.burdened.extend(connection.account.trunks.iter());
                table.count(&connection.account.trunks, |trunk| {
                    trunk.waiting.set(trunk.waiting.get() + queued);
                    trunk.paused.set(trunk.paused.get() + u64::from(paused));
                });
            }
        }
        for (listener, (bytes, paused)) in self.counted.listeners.iter().zip(waits) {
            listener.waiting.set(bytes);
            listener.paused.set(paused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use sbc::question::Query;

    const TEXT: &str = r#"
[node]
name = "n"
max_calls = 10
max_cps = 10

[tls]
certificate = "/c.pem"
key = "/c.key"
ca = "/ca.pem"

[[interface]]
name = "i"
bind = "10.30.0.5:5060"
tcp_port = 5060
tls_port = 5061
media_ports = "20000-20999"

[[trunk]]
name = "net"
interface = "i"
transport = "tcp"
endpoints = ["192.0.2.1:5060"]
sources = ["192.0.2.0/24"]

[[trunk]]
name = "prefixed"
interface = "i"
transport = "tcp"
tech_prefix = "7"
endpoints = ["192.0.2.1:5060"]
sources = ["192.0.2.1"]

[[trunk]]
name = "named"
interface = "i"
transport = "tcp"
endpoints = ["b.example:5070"]
sources = ["203.0.113.9"]

[[trunk]]
name = "pinned"
interface = "i"
transport = "tls"
endpoints = ["192.0.2.1:5061"]
peer_names = ["p.example"]
sources = ["192.0.2.0/24"]

[[trunk]]
name = "any"
interface = "i"
transport = "tls"
endpoints = ["192.0.2.9:5061"]
sources = ["192.0.2.0/24"]

[[trunk]]
name = "large"
interface = "i"
udp_large = "tcp"
endpoints = ["198.51.100.1:5060"]

[[route]]
prefix = ""
to = ["net"]
"#;

    #[test]
    fn a_connection_is_of_the_trunks_its_far_end_may_be() {
        let image = Config::parse("t", TEXT).expect("a configuration").image;
        let servers =
            Answer::of(Query::port("b.example", 5070), 5070, vec![[192, 0, 2, 77].into()], 1);
        let whose = Whose::new(image.clone(), [servers]);
        let port = |name: &str| {
            let trunk = image.trunks.iter().find(|t| *t.name == *name).expect("the trunk");
            ports(&image, trunk).next().expect("its port")
        };
        let named = |name: &str, at: &str, dialled, proved: Option<&[Box<str>]>| {
            let found =
                whose.trunks((port(name), at.parse().expect("an address")), dialled, proved);
            found.iter().map(|id| &*image.trunks[usize::from(*id)].name).collect::<Vec<_>>()
        };
        let nothing: Option<&[Box<str>]> = Some(&[]);
        assert_eq!(named("net", "192.0.2.5:40000", false, nothing), ["net"]);
        // What does not begin with its prefix is for the other.
        assert_eq!(named("net", "192.0.2.1:40000", false, nothing), ["prefixed", "net"]);
        assert_eq!(named("net", "192.0.2.1:5060", true, nothing), ["net", "prefixed"]);
        // Who is dialled is somebody's endpoint, by its name too, and may be a source of others.
        assert_eq!(named("net", "192.0.2.77:5070", true, nothing), ["named", "net"]);
        assert_eq!(named("net", "203.0.113.1:5060", false, nothing), [""; 0]);
        assert_eq!(named("large", "198.51.100.1:5060", true, nothing), ["large"]);
        // A proof decides, and until it is in either may be there.
        let name: &[Box<str>] = &["p.example".into()];
        assert_eq!(named("any", "192.0.2.3:40000", false, None), ["pinned", "any"]);
        assert_eq!(named("any", "192.0.2.3:40000", false, nothing), ["any"]);
        assert_eq!(named("any", "192.0.2.3:40000", false, Some(name)), ["pinned"]);
    }

    #[test]
    fn what_was_noted_is_told_once_and_a_connection_may_change_hands() {
        let table = TrunkTable::default();
        let mut account =
            Account { trunks: [1, 65_534].into(), heard: 3, said: 2, ..Account::default() };
        account.tell(&table);
        account.tell(&table);
        let told =
            |trunk| table.get(trunk).map(|t| (t.heard.get(), t.said.get(), t.connections.get()));
        assert_eq!((told(1), told(65_534), told(64)), (Some((3, 2, 0)), Some((3, 2, 0)), None));
        table.count(&account.trunks, more);
        account.pass([65_534, 2].into(), &table);
        let now = [1, 2, 65_534].map(|trunk| told(trunk).map(|t| t.2));
        assert_eq!(now, [Some(0), Some(1), Some(1)]);
    }
}
