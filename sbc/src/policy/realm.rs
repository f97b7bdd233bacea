//! Who sent this? A source address and a Request-URI to a trunk.
//!
//! Source IP and port come before IP, IP before prefix; among trunks that share a source the tech prefix
//! decides, then the domain, then the trunk that asks for neither.

use super::{Image, Source, Trunk};
use base::PortId;
use base::page::Page;
use std::net::SocketAddr;

/// The trunk that a request with this called number and Request-URI host belongs to.
pub fn trunk_of(
    image: &Image,
    port: PortId,
    source: SocketAddr,
    number: &[u8],
    host: &[u8],
) -> Option<u16> {
    of_listener(image, port)
        .filter(|(_, trunk)| !trunk.retired && selects(trunk, number, host))
        .filter_map(|(id, trunk)| {
            let place = trunk.sources.iter().filter_map(|s| specificity(s, source)).max()?;
            let selector = trunk.tech_prefix.as_ref().map_or(0, |p| p.len() + 1);
            let domain = usize::from(trunk.domain.is_some());
            Some(((place, selector, domain), id))
        })
        // The first of equals wins; the configuration check refuses equals.
        .max_by_key(|&(rank, id)| (rank, core::cmp::Reverse(id)))
        .map(|(_, id)| id)
}

/// Whether any trunk of the listener admits this source: everyone else gets silence. A retired trunk does
/// for as long as there are calls on it, which may yet be cancelled.
pub fn is_known(image: &Image, page: &Page, port: PortId, source: SocketAddr) -> bool {
    let has_calls = |id: u16| page.read(Image::calls_word(id)) > 0;
    of_listener(image, port).any(|(id, t)| admits(t, source) && (!t.retired || has_calls(id)))
}

/// The trunks whose SIP arrives at this port: on its interface, over its transport.
pub fn of_listener(image: &Image, port: PortId) -> impl Iterator<Item = (u16, &Trunk)> {
    let arrival = image.arrival(port);
    let is_its = move |trunk: &Trunk| Some((trunk.interface, trunk.transport)) == arrival;
    (0..).zip(&image.trunks).filter(move |(_, trunk)| is_its(trunk))
}

/// Whether this trunk's calls may come from `source`.
pub fn admits(trunk: &Trunk, source: SocketAddr) -> bool {
    trunk.sources.iter().any(|s| specificity(s, source).is_some())
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
