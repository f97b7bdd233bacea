//! Connections that their peer offers for our requests to it (RFC 5923): `alias` in the Via of a request says
//! that who listens at its source address and the Via's port is who connected.
//!
//! That is believed only of somebody who has proved every name expected at that address (9.1), and where none
//! is, the address itself. The address may belong to another shard than the connection: its owner keeps the
//! alias and hands messages to the owner of the connection.

use super::{Connection, Streams, owner};
use base::{PortId, ShardId};
use sbc::message::{self, Index};
use sbc::policy::Proved;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Aliases that one shard keeps.
const MOST: usize = super::MOST;

/// What the owner of an address is told.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// The listener.
    pub(super) port: PortId,
    /// Where the peer says it listens.
    pub(super) address: SocketAddr,
    /// The far end of its connection.
    pub(super) peer: SocketAddr,
    /// The names it has proved; none when the connection is gone.
    pub(super) proved: Option<Proved>,
}

/// The aliases of the addresses of one shard.
#[derive(Default)]
pub(super) struct Aliases {
    by_address: HashMap<(PortId, SocketAddr), (SocketAddr, Proved)>,
    /// What other shards are to be told.
    told: Vec<(ShardId, Alias)>,
}

impl Aliases {
    pub(super) fn has_told(&self) -> bool {
        !self.told.is_empty()
    }
}

/// The port at which the sender of a request listens, if it offers its connection.
pub(super) fn offered(message: &[u8]) -> Option<u16> {
    let mut index = Index::new();
    let message = message::parse(message, &mut index).ok().filter(|m| m.is_request())?;
    let via = message.via().ok()?;
    let offers = via.params().any(|(name, _)| name.eq_ignore_ascii_case(b"alias"));
    offers.then(|| via.port.unwrap_or(5061))
}

impl Streams {
    /// Keeps an alias, or forgets one, or has its owner do so.
    pub(crate) fn alias(&mut self, alias: Alias) {
        let owner = owner(alias.address, self.shards);
        if owner != self.own {
            return self.aliases.told.push((ShardId(owner as u8), alias));
        }
        let (at, kept) = ((alias.port, alias.address), &mut self.aliases.by_address);
        match alias.proved {
            Some(proved) if kept.len() < MOST || kept.contains_key(&at) => {
                kept.insert(at, (alias.peer, proved));
            }
            Some(_) => {}
            None if kept.get(&at).is_some_and(|(peer, _)| *peer == alias.peer) => {
                kept.remove(&at);
            }
            None => {}
        }
    }

    /// Aliases whose address is another shard's.
    pub(crate) fn told_aliases(&mut self) -> std::vec::Drain<'_, (ShardId, Alias)> {
        self.aliases.told.drain(..)
    }

    /// The far end of the connection that who listens at an address offers, if it is believed.
    pub(super) fn aliased(&self, port: PortId, to: SocketAddr) -> Option<SocketAddr> {
        let (peer, proved) = self.aliases.by_address.get(&(port, to))?;
        let expected = self.terms.expected(to);
        let is_it = match expected {
            [] => proved.contains(&to.ip().to_string().into_boxed_str()),
            names => names.iter().all(|name| proved.contains(name)),
        };
        is_it.then_some(*peer)
    }

    /// A connection that was just heard may offer itself.
    pub(super) fn consider(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(alias) = connection.offers() {
            self.alias(alias);
        }
    }

    /// A connection ended, and what it offered with it.
    pub(super) fn withdraw(&mut self, connection: &Connection) {
        if let Some(address) = connection.alias() {
            let (port, peer) = connection.ends();
            self.alias(Alias { port, address, peer, proved: None });
        }
    }
}
