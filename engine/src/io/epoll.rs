//! The epoll driver: for hosts where io_uring is disabled. Same contract, same pool.
//!
//! Level-triggered: what is not received in this turn is reported again, so nothing is kept between
//! turns but the list of free slots.

#![allow(
    unsafe_code,
    reason = "epoll takes pointers; what keeps them valid is stated at each call"
)]

use super::batch::{Batch, Slots};
use super::errors;
use super::layout::{self, MEDIA, SIGNAL};
use super::leaving::Leaving;
use super::mesh::ShardMesh;
use super::port::{Behind, Door, Ports};
use super::region::Region;
use super::shore::Shore;
use super::stream::Streams;
use super::sys::check;
use base::{Instant, Now};
use node::{Fault, Inbox, Io, Outbox, Undeliverable};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

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
    /// Of the media and of the signalling group.
    slots: [Slots; 2],
    ready: Vec<libc::epoll_event>,
    batch: Batch,
    leaving: Leaving,
    failed: Vec<Undeliverable>,
}

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
            slots: [MEDIA, SIGNAL].map(|group| Slots::new(group, true)),
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
        self.shore.now();
        self.shore.look(inbox, true);
        let idle = inbox.letters.is_empty() && self.failed.is_empty();
        let ready = if idle && self.shore.doze() {
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
            self.batch.send(&self.ports, run, &mut self.failed);
        }
        self.leaving.clear();
        self.shore.converse(&self.ports, outbox);
        self.slots.iter_mut().for_each(Slots::take_back);
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

    /// Receives what waits at one socket.
    fn receive(&mut self, place: u32, inbox: &mut Inbox) -> Result<(), Fault> {
        let Some(door) = self.ports.door(place) else {
            return Ok(());
        };
        let slots = &mut self.slots[usize::from(door.is_signal())];
        match self.batch.drain(door, slots, inbox, self.shore.counters()) {
            // What is left is reported again.
            Ok(_) => Ok(()),
            Err(e) => received_error(door, &e, inbox),
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

fn broken(what: &str, error: &io::Error) -> Fault {
    Fault {
        what: format!("cannot {what}: {error}"),
        remedy: String::from("the next start releases the calls; if this repeats, report it"),
    }
}
