//! Which server of a name is tried first, second, … (RFC 3263 4.2, RFC 2782, RFC 7984).
//!
//! Priorities are strict, weights are shares. The order is drawn from the call's own number, so a repeated
//! decision agrees with itself; and by the name, so that two names of one call are drawn apart. Only
//! addresses of the interface's family are next hops (RFC 7984 4: no other could be reached from there).

use crate::question::{Hop, Query};
use routing_trie::{Candidate, order};
use std::net::SocketAddr;

/// The most addresses of one name that a call is tried at: a name with many dead servers must not use up
/// the attempts of the routes behind it.
pub const MAX_TRIED: usize = 8;

/// A weight of 0 has a very small chance beside others (RFC 2782, "Weight"): a 256th of the least.
const SCALE: u32 = 256;

/// Where to try, in this order. Addresses of one server are equals: each call begins at another.
pub fn addresses(query: &Query, hops: &[Hop], ipv6: bool, draw: u64) -> Vec<SocketAddr> {
    let ticket = mixed(draw, &query.host);
    let ranked = (0..).zip(hops).map(|(id, hop)| Candidate {
        id,
        priority: hop.priority,
        weight: (u32::from(hop.weight) * SCALE).max(1),
    });
    let mut ranked: Vec<Candidate> = ranked.collect();
    order(&mut ranked, ticket);
    let mut out = Vec::new();
    for hop in ranked.iter().filter_map(|c| hops.get(c.id as usize)) {
        let usable = || hop.addresses.iter().filter(|ip| ip.is_ipv6() == ipv6);
        let count = usable().count();
        // Bits the order hardly depends on.
        let first = if count == 0 { 0 } else { (ticket & 0xffff) as usize % count };
        for ip in usable().cycle().skip(first).take(count) {
            let address = SocketAddr::new(*ip, hop.port);
            if !out.contains(&address) {
                out.push(address);
            }
        }
    }
    out.truncate(MAX_TRIED);
    out
}

/// The call's number, for this name: spread over all 64 bits (the finalizer of splitmix64).
fn mixed(draw: u64, host: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut z = host.bytes().fold(0xcbf2_9ce4_8422_2325 ^ draw, fold);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::{MAX_ADDRESSES, MAX_HOPS};
    use base::random::Random;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    fn query() -> Query {
        Query::port("carrier.example", 5060)
    }

    /// Server `n` of the test network.
    fn hop(n: u8, priority: u16, weight: u16) -> Hop {
        Hop { priority, weight, port: 5060, addresses: vec![IpAddr::from([192, 0, 2, n])] }
    }

    fn firsts(hops: &[Hop], draws: u32) -> BTreeMap<u8, u32> {
        let mut random = Random::new((1, 2));
        let mut seen = BTreeMap::new();
        for _ in 0..draws {
            let IpAddr::V4(ip) = addresses(&query(), hops, false, random.next())[0].ip() else {
                panic!("an IPv6 address")
            };
            *seen.entry(ip.octets()[3]).or_insert(0) += 1;
        }
        seen
    }

    #[test]
    fn weights_are_shares() {
        let hops = [hop(1, 1, 60), hop(2, 1, 30), hop(3, 1, 10), hop(4, 2, 65_535)];
        let seen = firsts(&hops, 100_000);
        for (n, share) in [(1, 60_000u32), (2, 30_000), (3, 10_000)] {
            assert!(seen[&n].abs_diff(share) < 600, "{n}: {seen:?}");
        }
        assert!(!seen.contains_key(&4), "a lower priority went first");
    }

    #[test]
    fn a_weight_of_nothing_is_chosen_very_rarely_and_fairly_among_its_like() {
        let seen = firsts(&[hop(1, 1, 1), hop(2, 1, 0)], 100_000);
        assert!((200..700).contains(&seen[&2]), "{seen:?}");
        let seen = firsts(&[hop(1, 1, 0), hop(2, 1, 0)], 100_000);
        assert!(seen[&1].abs_diff(50_000) < 700, "{seen:?}");
    }

    #[test]
    fn two_names_of_a_call_are_drawn_apart() {
        let hops = [hop(1, 1, 1), hop(2, 1, 1)];
        let mut random = Random::new((3, 4));
        let other = Query::port("other.example", 5060);
        let same = (0..10_000).filter(|_| {
            let draw = random.next();
            let first = |query| addresses(query, &hops, false, draw)[0];
            first(&query()) == first(&other)
        });
        let same = same.count();
        assert!((4_700..5_300).contains(&same), "{same}");
    }

    #[test]
    fn the_addresses_of_a_server_take_turns() {
        let mut many = hop(1, 1, 1);
        many.addresses = (1..=4).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let seen = firsts(&[many], 100_000);
        assert_eq!(seen.len(), 4);
        assert!(seen.values().all(|n| n.abs_diff(25_000) < 700), "{seen:?}");
    }

    fn hops() -> impl Strategy<Value = Vec<Hop>> {
        let address = prop_oneof![
            any::<u8>().prop_map(|n| IpAddr::from([192, 0, 2, n])),
            any::<u16>().prop_map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])),
        ];
        let addresses = prop::collection::vec(address, 0..=MAX_ADDRESSES);
        let hop = (0u16..3, prop_oneof![Just(0), Just(u16::MAX), any::<u16>()], 1u16.., addresses);
        let hop = hop.prop_map(|(priority, weight, port, addresses)| Hop {
            priority,
            weight,
            port,
            addresses,
        });
        prop::collection::vec(hop, 0..=MAX_HOPS)
    }

    proptest! {
        #[test]
        fn priorities_are_strict_families_kept_and_repetitions_agree(
            hops in hops(), ipv6: bool, draw: u64,
        ) {
            let tried = addresses(&query(), &hops, ipv6, draw);
            prop_assert_eq!(&tried, &addresses(&query(), &hops, ipv6, draw));
            prop_assert!(tried.iter().all(|a| a.is_ipv6() == ipv6));
            let best = |a: &SocketAddr| {
                let has = hops.iter().filter(|h| h.port == a.port() && h.addresses.contains(&a.ip()));
                has.map(|h| h.priority).min()
            };
            // An address of two servers stands where the better one is.
            prop_assert!(tried.is_sorted_by_key(best), "{tried:?}");
            let mut all: Vec<SocketAddr> = hops.iter().flat_map(|h| {
                h.addresses.iter().map(|ip| SocketAddr::new(*ip, h.port))
            }).filter(|a| a.is_ipv6() == ipv6).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(tried.len(), all.len().min(MAX_TRIED));
        }
    }
}
