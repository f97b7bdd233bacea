//! Addresses in one canonical form, and the one rule about which of them we may ever send to.
//!
//! IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) are folded to IPv4 before anything is compared, so
//! that an ACL, a media target or a webhook cannot be reached by another spelling. Unspecified,
//! multicast, broadcast and reserved addresses are never a unicast peer; loopback and link-local
//! addresses only where an interface says so (examples and tests).

use crate::record::{Plain, Unreadable};
use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What an interface allows beyond ordinary unicast addresses.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// 127.0.0.0/8 and ::1.
    pub loopback: bool,
    /// 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291 §2.5.6).
    pub link_local: bool,
}
crate::plain!(struct Allow { loopback, link_local });

impl Allow {
    /// For examples and tests that run on one machine.
    pub const LOOPBACK: Allow = Allow { loopback: true, link_local: false };
}

crate::cases! {
    /// Why an address is no target.
    pub enum Denied {
        /// 0.0.0.0/8 or ::, which name no host.
        Unspecified = "unspecified",
        /// 224.0.0.0/4 or ff00::/8.
        Multicast = "multicast",
        /// 255.255.255.255.
        Broadcast = "broadcast",
        /// 240.0.0.0/4, or an IPv4-compatible IPv6 address (deprecated by RFC 4291 §2.5.5.1).
        Reserved = "reserved",
        /// The machine itself, and the interface does not allow it.
        Loopback = "loopback",
        /// An address of one link only, and the interface does not allow it.
        LinkLocal = "link_local",
    }
}

/// The address with an IPv4-mapped one folded to IPv4.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The socket address with its address folded; flow label and scope are dropped.
pub fn canonical_socket(socket: SocketAddr) -> SocketAddr {
    match socket {
        SocketAddr::V4(_) => socket,
        SocketAddr::V6(v6) => SocketAddr::new(IpAddr::V6(*v6.ip()).to_canonical(), v6.port()),
    }
}

/// The canonical form of a unicast address we may send to, or why it is none.
pub fn check(ip: IpAddr, allow: Allow) -> Result<IpAddr, Denied> {
    let ip = canonical(ip);
    let denied = match ip {
        IpAddr::V4(v4) => denied_v4(v4, allow),
        IpAddr::V6(v6) => denied_v6(v6, allow),
    };
    denied.map_or(Ok(ip), Err)
}

/// Whether we may send to this address.
pub fn permitted(ip: IpAddr, allow: Allow) -> bool {
    check(ip, allow).is_ok()
}

fn denied_v4(ip: Ipv4Addr, allow: Allow) -> Option<Denied> {
    if ip.octets()[0] == 0 {
        Some(Denied::Unspecified)
    } else if ip.is_multicast() {
        Some(Denied::Multicast)
    } else if ip.is_broadcast() {
        Some(Denied::Broadcast)
    } else if ip.octets()[0] >= 240 {
        Some(Denied::Reserved)
    } else if ip.is_loopback() && !allow.loopback {
        Some(Denied::Loopback)
    } else if ip.is_link_local() && !allow.link_local {
        Some(Denied::LinkLocal)
    } else {
        None
    }
}

fn denied_v6(ip: Ipv6Addr, allow: Allow) -> Option<Denied> {
    let compatible = ip.segments()[..6].iter().all(|&s| s == 0);
    if ip.is_unspecified() {
        Some(Denied::Unspecified)
    } else if ip.is_multicast() {
        Some(Denied::Multicast)
    } else if ip.is_loopback() {
        (!allow.loopback).then_some(Denied::Loopback)
    } else if compatible {
        Some(Denied::Reserved)
    } else if ip.is_unicast_link_local() && !allow.link_local {
        Some(Denied::LinkLocal)
    } else {
        None
    }
}

/// A network in CIDR notation (RFC 4632, RFC 4291 §2.3), in canonical form with its host bits zero.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    ip: IpAddr,
    bits: u8,
}

impl Prefix {
    /// The network of the first `bits` of `ip` (0..=32, or 0..=128 for IPv6). `None` when there are
    /// more bits than the address has. An IPv4-mapped network must reach into the IPv4 part.
    pub fn new(ip: IpAddr, bits: u8) -> Option<Prefix> {
        let folded = canonical(ip);
        let bits = match (ip, folded) {
            (IpAddr::V6(_), IpAddr::V4(_)) => bits.checked_sub(96)?,
            _ => bits,
        };
        let ip = match folded {
            IpAddr::V4(v4) if bits <= 32 => {
                IpAddr::from((v4.to_bits() & mask_v4(bits)).to_be_bytes())
            }
            IpAddr::V6(v6) if bits <= 128 => {
                IpAddr::from((v6.to_bits() & mask_v6(bits)).to_be_bytes())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Prefix { ip, bits })
    }

    /// The network of one address alone.
    pub fn host(ip: IpAddr) -> Prefix {
        let ip = canonical(ip);
        Prefix { ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `ip`, which must be canonical, lies in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => net.to_bits() == ip.to_bits() & mask_v4(self.bits),
            (IpAddr::V6(net), IpAddr::V6(ip)) => net.to_bits() == ip.to_bits() & mask_v6(self.bits),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The first address of the network.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Length of the network part in bits.
    pub fn bits(&self) -> u8 {
        self.bits
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

/// Text that names no network.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NotAPrefix;

impl FromStr for Prefix {
    type Err = NotAPrefix;

    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or an address alone.
    fn from_str(text: &str) -> Result<Prefix, NotAPrefix> {
        let (ip, bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(bits.parse::<u8>().map_err(|_| NotAPrefix)?)),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NotAPrefix)?;
        bits.map_or(Some(Prefix::host(ip)), |bits| Prefix::new(ip, bits)).ok_or(NotAPrefix)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl Plain for Prefix {
    fn put(&self, out: &mut Vec<u8>) {
        self.ip.put(out);
        self.bits.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Prefix::new(IpAddr::take(from)?, u8::take(from)?).ok_or(Unreadable::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_are_nobody_are_denied_under_every_spelling() {
        let rows = [
            ("0.0.0.0", Denied::Unspecified),
            ("0.1.2.3", Denied::Unspecified),
            ("::", Denied::Unspecified),
            ("::ffff:0.0.0.0", Denied::Unspecified),
            ("239.1.1.1", Denied::Multicast),
            ("::ffff:224.0.0.1", Denied::Multicast),
            ("ff02::1", Denied::Multicast),
            ("255.255.255.255", Denied::Broadcast),
            ("240.0.0.1", Denied::Reserved),
            ("::192.0.2.1", Denied::Reserved),
            ("127.0.0.53", Denied::Loopback),
            ("::ffff:127.0.0.1", Denied::Loopback),
            ("::1", Denied::Loopback),
            ("169.254.169.254", Denied::LinkLocal),
            ("fe80::1", Denied::LinkLocal),
        ];
        for (text, why) in rows {
            assert_eq!(check(ip(text), Allow::default()), Err(why), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(permitted(ip(text), Allow::default()), "{text}");
        }
    }

    #[test]
    fn an_interface_may_allow_loopback_and_nothing_else_with_it() {
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(permitted(ip(text), Allow::LOOPBACK), "{text}");
        }
        for text in ["0.0.0.0", "224.0.0.1", "169.254.1.1", "::"] {
            assert!(!permitted(ip(text), Allow::LOOPBACK), "{text}");
        }
        assert_eq!(check(ip("::ffff:192.0.2.7"), Allow::default()), Ok(ip("192.0.2.7")));
    }

    #[test]
    fn a_socket_is_folded_with_its_port() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:4000".parse().unwrap();
        assert_eq!(canonical_socket(mapped), "192.0.2.7:4000".parse().unwrap());
    }

    #[test]
    fn prefixes_contain_their_addresses_only() {
        let net: Prefix = "192.0.2.129/25".parse().unwrap();
        assert_eq!(net.to_string(), "192.0.2.128/25");
        assert!(net.contains(ip("192.0.2.200")) && !net.contains(ip("192.0.2.1")));
        assert!(!net.contains(ip("2001:db8::1")));
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains(ip("8.8.8.8")) && !all.contains(ip("::1")));
        let mapped: Prefix = "::ffff:10.0.0.0/104".parse().unwrap();
        assert_eq!(mapped.to_string(), "10.0.0.0/8");
        assert!("::/0".parse::<Prefix>().unwrap().contains(ip("2001:db8::1")));
        for bad in ["10.0.0.0/33", "::/129", "::ffff:0.0.0.0/64", "x/8", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Prefix>(), Err(NotAPrefix), "{bad}");
        }
    }
}
