//! The lanes of an outbox that every floor may push into: packets to relay and texts to send.
//!
//! Lanes hold keys and ranges, never references, so that a turn's work can be replayed, counted and
//! handed to any driver.

use crate::{Bytes, PortId};
use std::net::SocketAddr;

/// A datagram to send straight out of the receive buffer it stands in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PacketSend {
    /// The local port it leaves from.
    pub port: PortId,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its bytes in the pool.
    pub bytes: Bytes,
}

/// A datagram built by us, in the arena of [`Texts`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TextSend {
    /// The local port it leaves from.
    pub port: PortId,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its bytes in the arena.
    pub bytes: Bytes,
}

/// Messages built in this turn: an arena and what to do with its parts.
#[derive(Default)]
pub struct Texts {
    /// The bytes of every text, one after the other.
    pub arena: Vec<u8>,
    /// What to send, in order.
    pub sends: Vec<TextSend>,
}

impl Texts {
    /// Builds one text with `print` and queues it; returns where it stands.
    pub fn push(
        &mut self,
        port: PortId,
        to: SocketAddr,
        print: impl FnOnce(&mut Vec<u8>),
    ) -> Bytes {
        let at = self.arena.len() as u32;
        print(&mut self.arena);
        let bytes = Bytes { at, len: self.arena.len() as u32 - at };
        self.sends.push(TextSend { port, to, bytes });
        bytes
    }

    /// The bytes of one queued text.
    pub fn get(&self, bytes: Bytes) -> &[u8] {
        &self.arena[bytes.at as usize..(bytes.at + bytes.len) as usize]
    }

    /// Empties both, keeping their memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.sends.clear();
    }
}
