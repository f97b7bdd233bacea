//! Dialogs: RFC 3261 section 12. One per leg; identified by our tag, which names the leg.

mod contact;
pub mod prack;
pub mod replaces;
pub mod session_timer;
pub mod tag;
pub mod target;

pub(crate) use contact::Contact;
pub use tag::Tag;

use crate::message::{NameAddr, Scheme, Uri};
use base::plain;
use std::net::SocketAddr;

/// The state of one dialog as the next request within it needs it.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: Box<[u8]>,
    /// Our tag.
    pub tag: Tag,
    /// Our side's name-addr, without its tag.
    pub local: Box<[u8]>,
    /// The peer's name-addr, without its tag.
    pub remote: Box<[u8]>,
    /// The peer's tag; empty until it is known.
    pub remote_tag: Box<[u8]>,
    /// Remote target: the URI of the peer's Contact (12.1).
    pub target: Box<[u8]>,
    /// Route set, in the order requests carry it (12.1.1, 12.1.2).
    pub routes: Vec<Box<[u8]>>,
    /// Number of our last request.
    pub local_cseq: u32,
    /// Number of the peer's last request.
    pub remote_cseq: u32,
    /// Where the peer's messages came from: the next hop where no address says otherwise.
    pub peer: SocketAddr,
}

impl Dialog {
    /// The number of our next request.
    pub fn next_cseq(&mut self) -> u32 {
        self.local_cseq = self.local_cseq.wrapping_add(1) & 0x7fff_ffff;
        self.local_cseq
    }

    /// Whether a request of the peer with this number is in order (12.2.2).
    pub fn admit_cseq(&mut self, number: u32) -> bool {
        let in_order = number > self.remote_cseq;
        if in_order {
            self.remote_cseq = number;
        }
        in_order
    }

    /// Takes the remote target of a request or response that refreshes it (12.2.1.2).
    pub fn refresh_target(&mut self, contact: Option<NameAddr>) {
        if let Some(contact) = contact
            && *contact.uri != *self.target
        {
            self.target = contact.uri.into();
        }
    }

    /// Whether every hop of it is to be secured: what it was begun with is a SIPS URI (12.1.1, RFC 5630 5.1).
    pub(crate) fn is_secure(&self) -> bool {
        let is_sips = |uri: &[u8]| Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Sips);
        is_sips(&self.target) || NameAddr::parse(&self.local).is_ok_and(|local| is_sips(local.uri))
    }

    /// Whether the first route is strict (16.12.1.2): then it takes the Request-URI's place.
    pub fn strict_route(&self) -> Option<&[u8]> {
        let first = self.routes.first()?;
        let uri = NameAddr::parse(first).ok()?.uri;
        let loose = Uri::parse(uri).ok()?.param(b"lr").is_some();
        (!loose).then_some(uri)
    }

    /// Where the next request goes: the first route or the target when it names an address that
    /// `permitted` allows, the peer otherwise.
    pub fn next_hop(&self, permitted: impl Fn(SocketAddr) -> bool) -> SocketAddr {
        let first = self.routes.first().and_then(|r| NameAddr::parse(r).ok()).map(|n| n.uri);
        let uri = first.unwrap_or(&self.target);
        let address = Uri::parse(uri).ok().and_then(|uri| {
            let usual = if uri.scheme == Scheme::Sips { 5061 } else { 5060 };
            Some(SocketAddr::new(uri.host_ip()?, uri.port.unwrap_or(usual)))
        });
        address.filter(|a| permitted(*a)).unwrap_or(self.peer)
    }
}

plain!(struct Dialog {
    call_id, tag, local, remote, remote_tag, target, routes, local_cseq, remote_cseq, peer
});
