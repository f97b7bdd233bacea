//! What leaves in one turn: for each datagram its door, its destination and its bytes.
//!
//! Bytes stay where the shard put them. A datagram that leaves through a raw socket gets its headers
//! written in place, into the headroom of its slot; where there is none it is copied once.

#![allow(
    unsafe_code,
    reason = "the kernel is given addresses; what keeps them valid is stated below"
)]

use super::address::RawAddress;
use super::layout::MEDIA;
use super::port::{Port, Ports};
use super::share::{ROOM, write_header};
use base::{Bytes, Pool, PortId};
use node::{Outbox, Undeliverable};
use std::net::SocketAddr;

/// One datagram about to leave.
pub(crate) struct Datagram {
    pub(crate) port: PortId,
    /// Place of the socket it leaves by.
    pub(crate) door: u32,
    pub(crate) to: SocketAddr,
    /// `to`, as this socket wants it.
    pub(crate) address: RawAddress,
    pub(crate) at: *const u8,
    pub(crate) len: u32,
}

impl Datagram {
    /// What the shard is told when the kernel does not take it.
    pub(crate) fn undeliverable(&self, errno: i32) -> Undeliverable {
        Undeliverable { port: self.port, to: Some(self.to), errno }
    }

    /// Its bytes.
    ///
    /// # Safety
    ///
    /// Only while the turn's inbox and outbox are borrowed and [`Leaving::clear`] was not called.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: the caller promises that what `at` and `len` were taken from still stands.
        unsafe { std::slice::from_raw_parts(self.at, self.len as usize) }
    }
}

/// The datagrams of a turn, in the order they leave.
pub(crate) struct Leaving {
    pub(crate) list: Vec<Datagram>,
    /// Slots whose headroom holds headers of this turn.
    framed: Vec<u16>,
    has_headers: Vec<bool>,
    /// Datagrams that had no headroom of their own.
    copies: Vec<Box<[u8]>>,
}

// SAFETY: the pointers in `list` are followed only within the call to `submit` that set them.
unsafe impl Send for Leaving {}

impl Leaving {
    pub(crate) fn new() -> Leaving {
        Leaving {
            list: Vec::with_capacity(1024),
            framed: Vec::with_capacity(usize::from(MEDIA.count)),
            has_headers: vec![false; usize::from(MEDIA.count)],
            copies: Vec::new(),
        }
    }

    /// Lists everything the outbox sends; what has no port is not sent.
    pub(crate) fn gather(&mut self, ports: &Ports, pool: &mut Pool, outbox: &Outbox) {
        for send in &outbox.packets {
            let Some(port) = ports.get(send.port) else { continue };
            let bytes = if port.writes_headers.is_none() {
                pool.get(send.bytes)
            } else if self.claim(send.bytes) {
                in_place(pool, send.bytes, port, send.to)
            } else {
                self.copy(pool.get(send.bytes), port, send.to)
            };
            let (at, len) = (bytes.as_ptr(), bytes.len() as u32);
            self.list.push(datagram(send.port, port, send.to, at, len));
        }
        for send in &outbox.texts.sends {
            let Some(port) = ports.get(send.port).filter(|port| !port.is_stream) else { continue };
            let text = outbox.texts.get(send.bytes);
            let bytes =
                if port.writes_headers.is_none() { text } else { self.copy(text, port, send.to) };
            let (at, len) = (bytes.as_ptr(), bytes.len() as u32);
            self.list.push(datagram(send.port, port, send.to, at, len));
        }
    }

    /// Forgets the turn.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.copies.clear();
        for slot in self.framed.drain(..) {
            self.has_headers[usize::from(slot)] = false;
        }
    }

    /// Whether the headroom before `bytes` is there and free: a slot may be sent twice in a turn.
    fn claim(&mut self, bytes: Bytes) -> bool {
        let Some(slot) = MEDIA.slot(bytes.at) else { return false };
        if MEDIA.room(slot).at != bytes.at || self.has_headers[usize::from(slot)] {
            return false;
        }
        self.has_headers[usize::from(slot)] = true;
        self.framed.push(slot);
        true
    }

    /// A copy of `payload` with headers before it.
    fn copy(&mut self, payload: &[u8], port: &Port, to: SocketAddr) -> &[u8] {
        let mut whole = vec![0; ROOM + payload.len()].into_boxed_slice();
        whole[ROOM..].copy_from_slice(payload);
        let start = framed(&mut whole, port, to);
        self.copies.push(whole);
        self.copies.last().and_then(|whole| whole.get(start..)).unwrap_or_default()
    }
}

/// The payload with headers written into its headroom.
fn in_place<'a>(pool: &'a mut Pool, bytes: Bytes, port: &Port, to: SocketAddr) -> &'a [u8] {
    let room = ROOM as u32;
    let whole = pool.get_mut(Bytes { at: bytes.at - room, len: bytes.len + room });
    let start = framed(whole, port, to);
    whole.get(start..).unwrap_or_default()
}

/// Writes the headers. What cannot be one datagram becomes an empty one, which the kernel refuses like
/// any other that cannot be sent.
fn framed(whole: &mut [u8], port: &Port, to: SocketAddr) -> usize {
    let class = port.writes_headers.unwrap_or_default();
    write_header(whole, port.local, to, class).unwrap_or(whole.len())
}

fn datagram(id: PortId, port: &Port, to: SocketAddr, at: *const u8, len: u32) -> Datagram {
    // The port of an IPv6 raw socket's destination is taken for a protocol.
    let address = match (port.writes_headers, to) {
        (Some(_), SocketAddr::V6(mut to)) => {
            to.set_port(0);
            RawAddress::new(SocketAddr::V6(to))
        }
        _ => RawAddress::new(to),
    };
    Datagram { port: id, door: port.leaves_by, to, address, at, len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::layout;

    #[test]
    fn a_slot_is_framed_once_a_turn() {
        let mut leaving = Leaving::new();
        let room = MEDIA.room(7);
        let bytes = Bytes { at: room.at, len: 172 };
        assert!(leaving.claim(bytes));
        assert!(!leaving.claim(bytes));
        assert!(!leaving.claim(Bytes { at: room.at + 1, len: 1 }), "no whole headroom");
        assert!(!leaving.claim(Bytes { at: layout::SIGNAL.room(0).at, len: 1 }));
        leaving.clear();
        assert!(leaving.claim(bytes));
    }
}
