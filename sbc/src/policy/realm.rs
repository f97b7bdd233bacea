//! Who sent this? A source address and a Request-URI to a trunk.
//!
//! Source IP and port come before IP, IP before prefix; among trunks that share a source one that wants a
//! name proved comes first (RFC 5922), then the tech prefix decides, then the domain, then the trunk that
//! asks for neither.

use super::{Image, Large, Source, Transport, Trunk};
use crate::question::Names;
use base::page::Page;
use base::{Instant, PortId};
use std::net::SocketAddr;

/// Who sent a message.
pub struct Peer<'a> {
    /// Its address.
    pub source: SocketAddr,
    /// The names it has proved, lower case.
    pub proved: &'a [Box<str>],
    /// What names stand for.
    pub names: &'a Names,
    /// Now.
    pub now: Instant,
}

impl Peer<'_> {
    /// Whether it has proved a name of the trunk's, where the trunk wants one.
    pub fn proves(&self, trunk: &Trunk) -> bool {
        trunk.peer_names.is_empty() || trunk.peer_names.iter().any(|n| self.proved.contains(n))
    }

    /// How precisely a trunk's sources name it, if it proves to be the trunk's.
    fn place(&self, trunk: &Trunk) -> Option<(bool, u8)> {
        self.place_unproved(trunk).filter(|_| self.proves(trunk))
    }

    /// How precisely a trunk's sources name its address, whoever it proves to be.
    fn place_unproved(&self, trunk: &Trunk) -> Option<(bool, u8)> {
        let ip = self.source.ip();
        let prefixes = trunk.sources.iter().filter_map(|s| specificity(s, self.source));
        let bears = |query| {
            let found = self.names.get(query, self.now);
            found.is_some_and(|found| found.hops.iter().any(|hop| hop.addresses.contains(&ip)))
        };
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let named = trunk.source_names.iter().any(bears).then_some((false, whole));
        prefixes.chain(named).max()
    }
}

/// The trunk that a request with this called number and Request-URI host belongs to.
pub fn trunk_of(
    image: &Image,
    port: PortId,
    peer: &Peer,
    number: &[u8],
    host: &[u8],
) -> Option<u16> {
    near(image, port, peer.source)
        .filter(|(_, trunk)| !trunk.retired && selects(trunk, number, host))
        .filter_map(|(id, trunk)| {
            let place = peer.place(trunk)?;
            let is_pinned = !trunk.peer_names.is_empty();
            let selector = trunk.tech_prefix.as_ref().map_or(0, |p| p.len() + 1);
            let domain = usize::from(trunk.domain.is_some());
            Some(((place, is_pinned, selector, domain), id))
        })
        // The first of equals wins; the configuration check refuses equals.
        .max_by_key(|&(rank, id)| (rank, core::cmp::Reverse(id)))
        .map(|(_, id)| id)
}

/// Whether any trunk of the listener admits this source: everyone else gets silence. A retired trunk does
/// for as long as there are calls on it, which may yet be cancelled.
pub fn is_known(image: &Image, page: &Page, port: PortId, peer: &Peer) -> bool {
    let has_calls = |id: u16| page.read(Image::calls_word(id)) > 0;
    near(image, port, peer.source).any(|(id, t)| admits(t, peer) && (!t.retired || has_calls(id)))
}

/// Trunks of a listener that may admit this source: of thousands, those that list its network.
fn near(image: &Image, port: PortId, source: SocketAddr) -> impl Iterator<Item = (u16, &Trunk)> {
    let listener = image.arrival(port).into_iter();
    let ids = listener.flat_map(move |arrival| image.sources.candidates(arrival, source.ip()));
    ids.filter_map(|id| Some((id, image.trunk(id)?)))
}

/// The trunks that requests of a peer may belong to, whatever they ask for: those that [`trunk_of`] names for some.
/// Before it has had the occasion to prove anything, any name may yet be its.
pub fn trunks_at(image: &Image, port: PortId, peer: &Peer, has_proved: bool) -> Vec<u16> {
    let place = |trunk| match has_proved {
        true => peer.place(trunk),
        false => peer.place_unproved(trunk),
    };
    let found = near(image, port, peer.source).filter(|(_, trunk)| !trunk.retired);
    let found = found.filter_map(|(id, t)| Some(((place(t)?, !t.peer_names.is_empty()), id, t)));
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|&(rank, id, _)| (core::cmp::Reverse(rank), id));
    found.dedup_by_key(|(_, id, _)| *id);
    // Nothing is left for others behind one that asks for nothing in particular.
    let is_open = |t: &Trunk| t.tech_prefix.is_none() && t.domain.is_none();
    let takes_all = |t: &Trunk| is_open(t) && (has_proved || t.peer_names.is_empty());
    let last = found.iter().find(|(_, _, t)| takes_all(t)).map(|(rank, ..)| *rank);
    found.retain(|(rank, ..)| last.is_none_or(|last| *rank >= last));
    found.into_iter().map(|(_, id, _)| id).collect()
}

/// The trunks whose SIP arrives at this port: on its interface, over its transport.
pub fn of_listener(image: &Image, port: PortId) -> impl Iterator<Item = (u16, &Trunk)> {
    (0..).zip(&image.trunks).filter(move |(_, trunk)| speaks(image, trunk, port))
}

/// Whether a trunk's SIP may arrive at a port: on its interface, over its transport; over TCP as well when
/// what is large leaves that way.
pub fn speaks(image: &Image, trunk: &Trunk, port: PortId) -> bool {
    image.arrival(port).is_some_and(|(interface, transport)| {
        let is_large = trunk.large == Large::Tcp && transport == Transport::Tcp;
        trunk.interface == interface && (trunk.transport == transport || is_large)
    })
}

/// Whether this trunk's calls may come from a peer.
pub fn admits(trunk: &Trunk, peer: &Peer) -> bool {
    peer.place(trunk).is_some()
}

fn selects(trunk: &Trunk, number: &[u8], host: &[u8]) -> bool {
    trunk
        .tech_prefix
        .as_ref()
        .is_none_or(|p| number.starts_with(p.write(&mut [0; routing_trie::MAX_DIGITS]).as_bytes()))
        && trunk.domain.as_ref().is_none_or(|d| d.as_bytes().eq_ignore_ascii_case(host))
}

/// How precisely a source names this address: with its port, then by length of the prefix.
fn specificity(allowed: &Source, source: SocketAddr) -> Option<(bool, u8)> {
    if !allowed.prefix.contains(source.ip()) {
        return None;
    }
    match allowed.port {
        Some(port) if port != source.port() => None,
        port => Some((port.is_some(), allowed.prefix.bits())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Interface, Sources, Transport};
    use base::Prefix;
    use proptest::prelude::*;
    use routing_trie::Digits;
    use std::net::IpAddr;

    /// What every trunk says, one after the other.
    fn linear(image: &Image, peer: &Peer, number: &[u8], host: &[u8]) -> Option<u16> {
        of_listener(image, PortId(0))
            .filter(|(_, trunk)| !trunk.retired && selects(trunk, number, host))
            .filter_map(|(id, trunk)| {
                let place = peer.place(trunk)?;
                let selector = trunk.tech_prefix.as_ref().map_or(0, |p| p.len() + 1);
                Some(((place, selector, usize::from(trunk.domain.is_some())), id))
            })
            .max_by_key(|&(rank, id)| (rank, core::cmp::Reverse(id)))
            .map(|(_, id)| id)
    }

    fn sources() -> impl Strategy<Value = Vec<Source>> {
        let v4 = (0u32..4, 28u8..=32).prop_map(|(host, bits)| {
            Prefix::new(std::net::Ipv4Addr::from_bits(0xc000_0200 + host).into(), bits)
        });
        let v6 = (0u128..4, 124u8..=128).prop_map(|(host, bits)| {
            Prefix::new(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + host).into(), bits)
        });
        let any = Just(Prefix::new([0, 0, 0, 0].into(), 0));
        let port = prop::option::of(Just(5060u16));
        let source = (prop_oneof![6 => v4, 2 => v6, 1 => any], port);
        let source =
            source.prop_map(|(prefix, port)| Source { prefix: prefix.expect("bits"), port });
        prop::collection::vec(source, 0..4)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_walk_over_all_trunks_finds(
            trunks in prop::collection::vec((sources(), 0u16..2, any::<bool>(), 0u8..3), 0..12),
            hosts in prop::collection::vec((0u32..6, any::<bool>(), 5060u16..5062), 1..12),
        ) {
            let trunk = |(sources, interface, retired, selector): (Vec<Source>, u16, bool, u8)| Trunk {
                sources,
                interface,
                retired,
                tech_prefix: (selector == 1).then(|| "7".parse::<Digits>().expect("digits")),
                domain: (selector == 2).then(|| "a.example".into()),
                ..Trunk::default()
            };
            let trunks: Vec<Trunk> = trunks.into_iter().map(trunk).collect();
            let interface = || Interface {
                name: "i".into(),
                sip: ([192, 0, 2, 100], 5060).into(),
                advertise: [192, 0, 2, 100].into(),
                sent_by: "192.0.2.100:5060".into(),
                allow_loopback: false,
            stun_server: false,
                trusted: false,
            };
            let image = Image {
                interfaces: vec![interface(), interface()],
                sources: Sources::of(&trunks),
                trunks,
                generation: 1,
                node: "n".into(),
                streams: Vec::new(),
                prefixes: routing_trie::Builder::new().build(),
                routes: Vec::new(),
                routing: Default::default(),
                book: Default::default(),
                timers: Default::default(),
                software: "".into(),
            };
            prop_assert_eq!(image.arrival(PortId(0)), Some((0, Transport::Udp)));
            let page = Page::new(Image::WORDS);
            for (host, v6, port) in hosts {
                let ip = match v6 {
                    false => IpAddr::V4(std::net::Ipv4Addr::from_bits(0xc000_0200 + host)),
                    true => std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(host)).into(),
                };
                let source = SocketAddr::new(ip, port);
                let peer = Peer { source, proved: &[], names: &Names::default(), now: Instant(0) };
                for (number, name) in [(&b"744"[..], &b"a.example"[..]), (b"44", b"b"), (b"7", b"b")] {
                    let found = trunk_of(&image, PortId(0), &peer, number, name);
                    prop_assert_eq!(found, linear(&image, &peer, number, name), "{}", source);
                    let any = trunks_at(&image, PortId(0), &peer, true);
                    prop_assert!(found.is_none_or(|id| any.contains(&id)), "{:?} of {:?}", found, any);
                }
                let known = of_listener(&image, PortId(0)).any(|(_, t)| admits(t, &peer) && !t.retired);
                prop_assert_eq!(is_known(&image, &page, PortId(0), &peer), known);
            }
        }
    }
}
