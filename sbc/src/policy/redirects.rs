//! What becomes of a redirection a trunk answers with (RFC 3261 21.3), and where it may lead.

use super::{Image, Target, Trunk, next_hop, realm};
use crate::message::Uri;
use crate::question::{Names, Query};
use base::Instant;
use std::net::SocketAddr;

/// What becomes of a 3xx.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// It is a failure: the next route is tried if the trunk says so, else the caller hears 480.
    #[default]
    Refuse,
    /// The call goes where it says, as far as that is an address of the same trunk.
    Follow,
    /// The caller hears it, with its Contacts.
    Pass,
}

/// The addresses a Contact may lead to: an address that is an endpoint or source of the trunk, or those of
/// a host name that is an endpoint of it.
pub fn addresses(
    image: &Image,
    trunk: u16,
    names: &Names,
    now: Instant,
    uri: &Uri,
) -> Vec<SocketAddr> {
    let Some(trunk) = image.trunk(trunk) else { return Vec::new() };
    let port = uri.port.unwrap_or(trunk.transport.default_port());
    if let Some(ip) = uri.host_ip() {
        let address = SocketAddr::new(ip, port);
        let peer = realm::Peer { source: address, proved: &[], names, now };
        return if is_of(trunk, &peer) { vec![address] } else { Vec::new() };
    }
    let interface = image.interfaces.get(usize::from(trunk.interface));
    let ipv6 = interface.is_some_and(|i| i.sip.is_ipv6());
    let is_it = |query: &Query| query.host.as_bytes().eq_ignore_ascii_case(uri.host);
    let named = trunk.endpoints.iter().filter_map(|endpoint| match endpoint {
        Target::Name(query) if is_it(query) => Some(query),
        Target::Name(_) | Target::Address(_) => None,
    });
    let known = named.filter_map(|query| Some((query, names.get(query, now)?)));
    known.flat_map(|(query, found)| next_hop::addresses(query, found.hops, ipv6, 0)).collect()
}

/// Where a name has to be proved, sources may be everybody: there only endpoints count.
fn is_of(trunk: &Trunk, peer: &realm::Peer) -> bool {
    realm::admits(trunk, peer) || trunk.endpoints.contains(&Target::Address(peer.source))
}
