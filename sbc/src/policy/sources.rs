//! Trunks by where their calls come from: which of thousands a source address belongs to, without a look at
//! each.
//!
//! For every listener (interface and transport) and every length of prefix in use, a sorted table of
//! networks. A look-up asks one table per length, of which there are few.

use super::{Large, Transport, Trunk};
use base::Prefix;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One listener and length of prefix; whether it is of IPv6.
type Table = (u16, Transport, bool, u8);

/// Trunks by listener and network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Network (its first address as a number) to trunks, in their order.
    tables: BTreeMap<Table, BTreeMap<u128, Vec<u16>>>,
    /// Trunks that list host names, by listener: whose address it is only DNS knows.
    named: BTreeMap<(u16, Transport), Vec<u16>>,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

impl Sources {
    /// Of all trunks, retired ones included.
    pub fn of(trunks: &[Trunk]) -> Sources {
        let mut tables: BTreeMap<Table, BTreeMap<u128, Vec<u16>>> = BTreeMap::new();
        let mut named: BTreeMap<(u16, Transport), Vec<u16>> = BTreeMap::new();
        for (id, trunk) in (0u16..).zip(trunks) {
            // What is large may come over TCP as well.
            let large = (trunk.large == Large::Tcp).then_some(Transport::Tcp);
            for transport in [trunk.transport].into_iter().chain(large) {
                for source in &trunk.sources {
                    let (ip, bits) = (source.prefix.ip(), source.prefix.bits());
                    let table = (trunk.interface, transport, ip.is_ipv6(), bits);
                    let ids = tables.entry(table).or_default().entry(number(ip)).or_default();
                    if ids.last() != Some(&id) {
                        ids.push(id);
                    }
                }
                if !trunk.source_names.is_empty() {
                    named.entry((trunk.interface, transport)).or_default().push(id);
                }
            }
        }
        Sources { tables, named }
    }

    /// Trunks that list a network this address is in, or host names; one that lists several, several times.
    pub fn candidates(
        &self,
        (interface, transport): (u16, Transport),
        ip: IpAddr,
    ) -> impl Iterator<Item = u16> {
        let ip = base::address::canonical(ip);
        let range =
            (interface, transport, ip.is_ipv6(), 0)..=(interface, transport, ip.is_ipv6(), 128);
        let named = self.named.get(&(interface, transport)).into_iter().flatten().copied();
        let listed = self.tables.range(range).flat_map(move |((.., bits), networks)| {
            let network = Prefix::new(ip, *bits).map(|network| number(network.ip()));
            network.and_then(|network| networks.get(&network)).into_iter().flatten().copied()
        });
        listed.chain(named)
    }
}
