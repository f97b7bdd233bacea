//! The epoll driver: for hosts where io_uring is disabled. Same contract, same pool.
//!
//! Level-triggered: what is not received in this turn is reported again, so nothing is kept between
//! turns but the list of free slots.

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and epoll take pointers; what keeps them valid is stated at each call"
)]

use super::address::RawAddress;
use super::errors;
use super::layout::{self, Group, MEDIA, SIGNAL};
use super::leaving::{Datagram, Leaving};
use super::mesh::ShardMesh;
use super::port::{Behind, Door, Ports};
use super::region::Region;
use super::share;
use super::shore::Shore;
use super::stream::Streams;
use super::sys::check;
use base::{Bytes, Instant, Now, PortId};
use node::{Fault, Inbox, Io, Outbox, Received, Undeliverable};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Datagrams moved by one system call.
const BATCH: usize = 64;
/// Ready sockets taken per turn; the others are reported again.
const READY: usize = 256;
/// The doorbell among the sockets.
const BELL: u64 = u64::MAX;
/// The connections among the sockets.
const STREAMS: u64 = u64::MAX - 1;

/// The driver. Owned by one shard's thread.
pub struct Epoll {
    epoll: OwnedFd,
    ports: Ports,
    shore: Shore,
    /// Slots that hold nothing, of the media and of the signalling group.
    free: [Vec<u16>; 2],
    /// Slots that hold datagrams of this turn.
    lent: [Vec<u16>; 2],
    ready: Vec<libc::epoll_event>,
    batch: Batch,
    leaving: Leaving,
    failed: Vec<Undeliverable>,
}

/// The arrays of one recvmmsg or sendmmsg.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<[u8; share::CONTROL]>,
}

// SAFETY: the pointers in `batch` are only followed by the calls they were set for; everything else is
// plain values and descriptors.
unsafe impl Send for Epoll {}

impl Epoll {
    /// A driver over `ports`, and the inbox whose pool it fills. With `region` left out nothing is
    /// journalled.
    pub fn new(
        ports: Ports,
        region: Option<Region>,
        mesh: ShardMesh,
    ) -> Result<(Epoll, Inbox), Fault> {
        let mut ports = ports;
        let streams = Streams::new(ports.take_listeners(), mesh.seat(), 0..0, mesh.streams());
        let made = streams.and_then(|streams| Ok((watch(&ports, &streams, mesh.bell())?, streams)));
        let (epoll, streams) = made.map_err(|e| Fault {
            what: format!("cannot set up epoll: {e}"),
            remedy: String::from(
                "raise LimitNOFILE= in the unit and the sysctl fs.epoll.max_user_watches",
            ),
        })?;
        let mut inbox = Inbox::new(layout::pool());
        let driver = Epoll {
            epoll,
            ports,
            shore: Shore::new(region, mesh, streams, &mut inbox),
            free: [MEDIA, SIGNAL].map(|group| (0..group.count).rev().collect()),
            lent: [MEDIA, SIGNAL].map(|group| Vec::with_capacity(usize::from(group.count))),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; READY],
            batch: Batch::new(),
            leaving: Leaving::new(),
            failed: Vec::new(),
        };
        Ok((driver, inbox))
    }
}

fn watch(ports: &Ports, streams: &Option<Streams>, bell: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes plain integers.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the descriptor was just created and nobody else owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
    for (place, door) in (0..).zip(ports.doors()) {
        if !matches!(door.behind, Behind::Nobody) {
            add(&epoll, door.fd(), libc::EPOLLIN, place)?;
        }
    }
    if let Some(streams) = streams {
        add(&epoll, streams.fd(), libc::EPOLLIN, STREAMS)?;
    }
    add(&epoll, bell, libc::EPOLLIN | libc::EPOLLET, BELL)?;
    Ok(epoll)
}

fn add(epoll: &OwnedFd, fd: RawFd, events: i32, data: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: data };
    let (epoll, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: one valid event, copied by the kernel.
    check(unsafe { libc::epoll_ctl(epoll, add, fd, &raw mut event) }).map(drop)
}

impl Io for Epoll {
    fn wait(&mut self, deadline: Option<Instant>, inbox: &mut Inbox) -> Result<Now, Fault> {
        self.shore.recognise(inbox)?;
        inbox.clear();
        self.shore.look(inbox, true);
        let idle = inbox.letters.is_empty() && self.failed.is_empty();
        let ready = if idle && self.shore.doze() {
            self.shore.now();
            let left = self.shore.left(deadline);
            let ready = self.sleep(left)?;
            self.shore.awake();
            ready
        } else {
            self.sleep(Some(Duration::ZERO))?
        };
        for n in 0..ready {
            let event = self.ready[n];
            match event.u64 {
                BELL => {}
                STREAMS => self.shore.streams.iter_mut().for_each(Streams::wake),
                place => self.receive(place as u32, inbox)?,
            }
        }
        inbox.undeliverable.append(&mut self.failed);
        let counters = self.shore.counters();
        counters.received.add(inbox.packets.len() as u64);
        counters.truncated.add(inbox.truncated.len() as u64);
        counters.undeliverable.add(inbox.undeliverable.len() as u64);
        counters.flooded.add(self.ports.flooded());
        // What came while we slept did not come before.
        let now = self.shore.now();
        self.shore.look(inbox, false);
        Ok(now)
    }

    fn submit(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), Fault> {
        self.shore.recognise(inbox)?;
        self.shore.keep(outbox);
        self.leaving.gather(&self.ports, &mut inbox.pool, outbox);
        self.shore.counters().sent.add(self.leaving.list.len() as u64);
        for run in self.leaving.list.chunk_by(|a, b| a.door == b.door) {
            send(&self.ports, &mut self.batch, run, &mut self.failed);
        }
        self.leaving.clear();
        self.shore.converse(&self.ports, outbox);
        for (free, lent) in self.free.iter_mut().zip(&mut self.lent) {
            free.append(lent);
        }
        self.shore.give(outbox);
        Ok(())
    }
}

impl Epoll {
    #[cfg(test)]
    pub(crate) fn streams(&mut self) -> Option<&mut Streams> {
        self.shore.streams.as_mut()
    }

    #[cfg(test)]
    pub(crate) fn counters(&self) -> &super::mesh::IoCounters {
        self.shore.counters()
    }

    /// Waits for ready sockets and the doorbell; how many events there are.
    fn sleep(&mut self, left: Option<Duration>) -> Result<usize, Fault> {
        let time = left.map(|left| libc::timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let (epoll, events) = (self.epoll.as_raw_fd(), self.ready.as_mut_ptr());
        let most = READY as i32;
        // SAFETY: `events` has room for `most` events; `time` is null or one timespec.
        match check(unsafe { libc::epoll_pwait2(epoll, events, most, time, std::ptr::null()) }) {
            Ok(ready) => Ok(ready as usize),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(broken("wait for input", &e)),
        }
    }

    /// Receives what waits at one socket, as far as there are slots; of a shared one, all of it.
    fn receive(&mut self, place: u32, inbox: &mut Inbox) -> Result<(), Fault> {
        let Some(door) = self.ports.door(place) else {
            return Ok(());
        };
        let group = usize::from(door.is_signal());
        let kind = [MEDIA, SIGNAL][group];
        let slots = &mut self.free[group];
        loop {
            let first = slots.len().saturating_sub(BATCH);
            let taken = &slots[first..];
            if taken.is_empty() {
                return Ok(());
            }
            let count = match self.batch.receive(door, kind, taken, inbox) {
                Ok(count) => count,
                Err(e) => return received_error(door, &e, inbox),
            };
            for (n, &slot) in taken[..count].iter().enumerate() {
                match self.batch.port(n, door) {
                    Some(port) => self.batch.deliver(n, port, kind.room(slot), inbox),
                    None => self.shore.counters().astray.add(1),
                }
            }
            let full = count == taken.len();
            self.lent[group].extend(slots.drain(first..first + count));
            if !full || !matches!(door.behind, Behind::Many(_)) {
                return Ok(());
            }
        }
    }
}

/// Sends datagrams that leave by one door.
fn send(ports: &Ports, batch: &mut Batch, run: &[Datagram], failed: &mut Vec<Undeliverable>) {
    let Some(door) = run.first().and_then(|first| ports.door(first.door)) else { return };
    let (mut rest, mut retried) = (run, false);
    while let Some(next) = rest.first() {
        let sent = batch.send(door.fd(), &rest[..rest.len().min(BATCH)]);
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

fn received_error(door: &Door, error: &io::Error, inbox: &mut Inbox) -> Result<(), Fault> {
    match (error.raw_os_error(), &door.behind) {
        (Some(libc::EAGAIN | libc::EINTR), _) => Ok(()),
        (Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT), _) => {
            Err(broken("receive", error))
        }
        (_, Behind::One { port, signal: true }) => {
            errors::drain(door.fd(), *port, &mut inbox.undeliverable);
            Ok(())
        }
        (_, Behind::One { .. } | Behind::Many(_) | Behind::Nobody) => Ok(()),
    }
}

impl Batch {
    fn new() -> Batch {
        // SAFETY: message headers and parts of zeroes are valid: everything null and empty.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Batch {
            headers: vec![header; BATCH],
            parts: vec![part; BATCH],
            names: vec![RawAddress::EMPTY; BATCH],
            controls: vec![[0; share::CONTROL]; BATCH],
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

    fn send(&mut self, fd: RawFd, run: &[Datagram]) -> io::Result<usize> {
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

fn broken(what: &str, error: &io::Error) -> Fault {
    Fault {
        what: format!("cannot {what}: {error}"),
        remedy: String::from("the next start releases the calls; if this repeats, report it"),
    }
}
