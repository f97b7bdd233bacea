//! Datagrams moved many at a time, by one `recvmmsg` or `sendmmsg`: where a burst arrives at one socket, or
//! leaves by one, that is cheaper than an operation for each.
//!
//! Both drivers use it: `epoll` for everything, `uring` for the sockets that all media ports share.

#![allow(
    unsafe_code,
    reason = "recvmmsg and sendmmsg take pointers; what keeps them valid is stated at each call"
)]

use super::address::RawAddress;
use super::errors;
use super::layout::Group;
use super::leaving::Datagram;
use super::mesh::IoCounters;
use super::port::{Behind, Door, Ports};
use super::share;
use super::sys::check;
use base::{Bytes, PortId};
use node::{Inbox, Received, Undeliverable};
use std::io;
use std::os::fd::RawFd;

/// Datagrams moved by one system call.
const BATCH: usize = 64;
/// The least that are asked for: what was not asked for takes another call.
const FEW: usize = 8;

/// Slots of one group: those that hold nothing, the warmest last, and those that hold datagrams of this turn.
pub(super) struct Slots {
    group: Group,
    free: Vec<u16>,
    lent: Vec<u16>,
}

impl Slots {
    /// Every slot of the group, if the driver fills them.
    pub(super) fn new(group: Group, is_used: bool) -> Slots {
        let count = if is_used { group.count } else { 0 };
        let lent = Vec::with_capacity(usize::from(count));
        Slots { group, free: (0..count).rev().collect(), lent }
    }

    /// The turn is over.
    pub(super) fn take_back(&mut self) {
        self.free.append(&mut self.lent);
    }
}

/// The arrays of one recvmmsg or sendmmsg.
pub(super) struct Batch {
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<[u8; share::CONTROL]>,
    /// How many datagrams are asked for at a shared socket first: headers that are not filled cost as well.
    asked: usize,
}

// SAFETY: the pointers in it are only followed by the calls they were set for; everything else is plain
// values.
unsafe impl Send for Batch {}

impl Batch {
    pub(super) fn new() -> Batch {
        // SAFETY: message headers and parts of zeroes are valid: everything null and empty.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Batch {
            headers: vec![header; BATCH],
            parts: vec![part; BATCH],
            names: vec![RawAddress::EMPTY; BATCH],
            controls: vec![[0; share::CONTROL]; BATCH],
            asked: FEW,
        }
    }

    /// Receives what waits at one socket, as far as there are slots; of a shared one, all of it. True when
    /// there may be more.
    pub(super) fn drain(
        &mut self,
        door: &Door,
        slots: &mut Slots,
        inbox: &mut Inbox,
        counters: &IoCounters,
    ) -> io::Result<bool> {
        let is_shared = matches!(door.behind, Behind::Many(_));
        let (mut most, mut total) = (if is_shared { self.asked } else { BATCH }, 0);
        loop {
            let first = slots.free.len().saturating_sub(most);
            let taken = slots.free.get(first..).unwrap_or_default();
            if taken.is_empty() {
                return Ok(true);
            }
            let asked = taken.len();
            let count = match self.receive(door, slots.group, taken, inbox) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(e) => return Err(e),
            };
            for (n, &slot) in taken.iter().enumerate().take(count) {
                match self.port(n, door) {
                    Some(port) => self.deliver(n, port, slots.group.room(slot), inbox),
                    None => counters.astray.add(1),
                }
            }
            slots.lent.extend(slots.free.drain(first..first + count));
            total += count;
            if count < asked || !is_shared {
                if is_shared {
                    self.asked = (2 * total).clamp(FEW, BATCH);
                }
                return Ok(count == asked);
            }
            most = BATCH;
        }
    }

    fn receive(
        &mut self,
        door: &Door,
        group: Group,
        slots: &[u16],
        inbox: &mut Inbox,
    ) -> io::Result<usize> {
        let names_ports = matches!(door.behind, Behind::Many(_));
        for (n, &slot) in slots.iter().enumerate() {
            let room = inbox.pool.get_mut(group.room(slot));
            self.parts[n].iov_base = room.as_mut_ptr().cast();
            self.parts[n].iov_len = room.len();
            self.names[n] = RawAddress::EMPTY;
            let control = if names_ports { share::CONTROL } else { 0 };
            let header = &mut self.headers[n].msg_hdr;
            header.msg_name = self.names[n].as_mut_ptr().cast();
            header.msg_namelen = self.names[n].len();
            header.msg_iov = &raw mut self.parts[n];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[n].as_mut_ptr().cast();
            header.msg_controllen = control;
            header.msg_flags = 0;
        }
        let (headers, count) = (self.headers.as_mut_ptr(), slots.len() as u32);
        let (fd, flags) = (door.fd(), libc::MSG_DONTWAIT);
        // SAFETY: `count` headers, each linked to its own name, control area and free slot of the pool,
        // which the inbox lends us mutably.
        check(unsafe { libc::recvmmsg(fd, headers, count, flags as _, std::ptr::null_mut()) })
            .map(|count| count as usize)
    }

    /// The port that datagram `n` of the last receive is for.
    fn port(&self, n: usize, door: &Door) -> Option<PortId> {
        match &door.behind {
            Behind::One { port, .. } => Some(*port),
            Behind::Many(shared) => {
                let said = self.headers[n].msg_hdr.msg_controllen;
                let control = self.controls[n].get(..said)?;
                shared.port(share::destination(control)?)
            }
            Behind::Nobody => None,
        }
    }

    /// Puts datagram `n` of the last receive into the inbox.
    fn deliver(&self, n: usize, port: PortId, room: Bytes, inbox: &mut Inbox) {
        let header = &self.headers[n];
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            inbox.truncated.push(port);
        } else if let Some(source) = self.names[n].read() {
            let bytes = Bytes { at: room.at, len: header.msg_len.min(room.len) };
            inbox.packets.push(Received { port, source, bytes });
        }
    }

    /// Sends datagrams that leave by one door; what the kernel does not take is listed in `failed`.
    pub(super) fn send(
        &mut self,
        ports: &Ports,
        run: &[Datagram],
        failed: &mut Vec<Undeliverable>,
    ) {
        let Some(door) = run.first().and_then(|first| ports.door(first.door)) else { return };
        let (mut rest, mut retried) = (run, false);
        while let Some(next) = rest.first() {
            let sent = self.send_once(door.fd(), &rest[..rest.len().min(BATCH)]);
            match sent.map_err(|e| e.raw_os_error()) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    retried = false;
                }
                Err(Some(libc::EINTR)) => {}
                // A listener may have been told of another destination's ICMP error: ask once more.
                Err(_) if door.is_signal() && !retried => {
                    errors::drain(door.fd(), next.port, failed);
                    retried = true;
                }
                Err(errno) => {
                    failed.push(next.undeliverable(errno.unwrap_or(libc::EIO)));
                    rest = &rest[1..];
                    retried = false;
                }
            }
        }
    }

    fn send_once(&mut self, fd: RawFd, run: &[Datagram]) -> io::Result<usize> {
        for (n, datagram) in run.iter().enumerate() {
            self.parts[n].iov_base = datagram.at.cast_mut().cast();
            self.parts[n].iov_len = datagram.len as usize;
            let header = &mut self.headers[n].msg_hdr;
            header.msg_name = datagram.address.as_ptr().cast_mut().cast();
            header.msg_namelen = datagram.address.len();
            header.msg_iov = &raw mut self.parts[n];
            header.msg_iovlen = 1;
            header.msg_controllen = 0;
            header.msg_flags = 0;
        }
        let (headers, count) = (self.headers.as_mut_ptr(), run.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers, each linked to a destination and to bytes that live until the turn is
        // over; sendmmsg only reads through them.
        check(unsafe { libc::sendmmsg(fd, headers, count, flags as _) }).map(|sent| sent as usize)
    }
}
