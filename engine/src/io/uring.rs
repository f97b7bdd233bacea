//! The io_uring driver: one ring per shard, one thread per ring.
//!
//! Every port with a socket of its own has a multishot receive armed; datagrams land in the inbox's pool
//! through two provided buffer rings. Sends go straight out of the pool and the text arena and are complete
//! when the submit returns, so buffers go back at once; only failed sends of datagrams leave a completion.
//! Connections that are there are received from and sent to in the same way. The sockets that media ports
//! share are watched by the ring, drained and sent by in batches: an operation for each datagram costs more.
//! The ring is locked before it is used: a few operations on registered files, and changing those that are
//! connections.
//!
//! The ring is built where the sockets are opened and enabled by the thread that waits first.

#![allow(
    unsafe_code,
    reason = "the submission queue takes pointers; what keeps them valid is stated at each push"
)]

use super::address::{self, ADDRESS_SIZE};
use super::batch::{Batch, Slots};
use super::buffers::BufferRing;
use super::errors;
use super::layout::{self, MEDIA, SIGNAL, STREAM};
use super::leaving::Leaving;
use super::mesh::ShardMesh;
use super::pace::{Nap, Pace};
use super::pin;
use super::port::{Behind, Door, Ports};
use super::region::Region;
use super::shore::Shore;
use super::stream::{self, Streams, Wish};
use base::{Bytes, Instant, Now, PortId};
use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use node::{Fault, Inbox, Io, Outbox, Received, Undeliverable};
use std::io;
use std::time::Duration;

/// Submission queue entries: sends of a turn beyond this take another system call.
const QUEUE: u32 = 1024;
/// What the kernel writes before a received datagram: `io_uring_recvmsg_out` and the address.
const PREAMBLE: u32 = 16 + ADDRESS_SIZE as u32;

/// What a completion belongs to, in the upper half of its user data.
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const BELL: u64 = 3 << 32;
const STREAMS: u64 = 4 << 32;
const HEARD: u64 = 5 << 32;
const SAID: u64 = 6 << 32;
const WRITABLE: u64 = 7 << 32;
const HUSHED: u64 = 8 << 32;
const SHARED: u64 = 9 << 32;
const KIND: u64 = !(u32::MAX as u64);

/// The driver. Owned by one shard's thread once it has waited.
pub struct Uring {
    // Dropped first, so that the kernel forgets every address below before it is freed.
    ring: IoUring,
    /// Where media ports have sockets of their own.
    media: Option<BufferRing>,
    signal: BufferRing,
    /// Pieces of what comes over connections.
    stream: BufferRing,
    /// What comes to shared sockets, and leaves by them.
    batch: Batch,
    slots: Slots,
    /// Shared sockets that something may wait at; and room to take them from there.
    full: Vec<u32>,
    drained: Vec<u32>,
    ports: Ports,
    shore: Shore,
    pace: Pace,
    /// The header that receives point to: a name of [`ADDRESS_SIZE`] bytes, and no control.
    header: Box<libc::msghdr>,
    /// What leaves in this turn; the kernel reads destinations out of it.
    leaving: Leaving,
    failed: Vec<Undeliverable>,
    /// Doors whose receive ended and has to be armed again.
    ended: Vec<u32>,
    bell_ended: bool,
    streams_ended: bool,
    /// Completions seen while sending that belong to the next turn.
    early: Vec<cqueue::Entry>,
    enabled: bool,
    min_wait: bool,
    no_iowait: bool,
}

// SAFETY: the raw pointers in the headers are null, those of the buffer rings are only used
// as addresses; the ring is driven by whoever owns `self`.
unsafe impl Send for Uring {}

impl Uring {
    /// Builds and locks a ring over `ports`, and the inbox whose pool it fills.
    ///
    /// With `region` left out nothing is journalled. `min_wait_us` is how long a busy shard may collect
    /// packets before it wakes; 0 turns that off.
    pub fn new(
        ports: Ports,
        region: Option<Region>,
        mesh: ShardMesh,
        min_wait_us: u32,
    ) -> Result<(Uring, Inbox), Fault> {
        build(ports, region, mesh, min_wait_us).map_err(|e| Fault {
            what: format!("cannot set up io_uring: {e}"),
            remedy: String::from(match e.raw_os_error() {
                Some(libc::ENOMEM) => "raise LimitMEMLOCK= in the unit (infinity is sensible)",
                Some(libc::EMFILE) => "raise LimitNOFILE= in the unit (1048576 is sensible)",
                _ => "set `driver = \"epoll\"` to run without io_uring",
            }),
        })
    }
}

fn build(
    ports: Ports,
    region: Option<Region>,
    mesh: ShardMesh,
    min_wait_us: u32,
) -> io::Result<(Uring, Inbox)> {
    let mut ports = ports;
    let listeners = ports.take_listeners();
    // Behind the doors come the bell and the epoll of connections, then seats.
    let first = ports.doors().len() as u32 + 2;
    let seats = if listeners.is_empty() { 0 } else { seats(first)? };
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_r_disabled()
        .setup_cqsize(completions(ports.doors().len() + seats as usize))
        .build(QUEUE)?;
    let streams = Streams::new(listeners, mesh.seat(), first..first + seats, mesh.streams())?;
    let mut inbox = Inbox::new(layout::pool());
    let pool = inbox.pool.as_mut_ptr();
    let is_shared = ports.is_shared();
    let media = (!is_shared).then(|| BufferRing::new(MEDIA, pool, PREAMBLE)).transpose()?;
    let signal = BufferRing::new(SIGNAL, pool, PREAMBLE)?;
    let stream = BufferRing::new(STREAM, pool, 0)?;
    for buffers in media.iter().chain([&signal, &stream]) {
        buffers.register(&ring.submitter())?;
    }
    let mut files: Vec<_> = ports.doors().iter().map(|door| door.fd()).collect();
    files.push(mesh.bell());
    files.extend(streams.as_ref().map(Streams::fd));
    files.extend((0..seats).map(|_| -1));
    ring.submitter().register_files(&files)?;
    ring.submitter().register_restrictions(&mut restrictions())?;
    // SAFETY: a message header of zeroes is valid: no name, no parts, no control.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_namelen = ADDRESS_SIZE as u32;
    let driver = Uring {
        min_wait: ring.params().is_feature_min_timeout(),
        no_iowait: ring.params().is_feature_no_iowait(),
        ring,
        media,
        signal,
        stream,
        batch: Batch::new(),
        slots: Slots::new(MEDIA, is_shared),
        full: Vec::new(),
        drained: Vec::new(),
        ended: (0..ports.doors().len() as u32).collect(),
        ports,
        shore: Shore::new(region, mesh, streams, &mut inbox),
        pace: Pace::new(min_wait_us),
        header,
        leaving: Leaving::new(),
        failed: Vec::new(),
        bell_ended: true,
        streams_ended: true,
        early: Vec::new(),
        enabled: false,
    };
    Ok((driver, inbox))
}

/// How many connections may have a place behind `first`: the kernel takes no more files than the process
/// may have descriptors.
fn seats(first: u32) -> io::Result<u32> {
    let most = pin::descriptors()?.soft.saturating_sub(u64::from(first));
    Ok(most.min(stream::MOST as u64) as u32)
}

/// Room for everything that can complete in a turn: every buffer, every receive that ends for want of
/// one, every failed send.
fn completions(files: usize) -> u32 {
    (files + 4096).next_power_of_two().min(32_768) as u32
}

/// What of the kernel's registrations remains: putting files at places (`io_uring_register(2)`).
const REGISTER_FILES_UPDATE: u8 = 6;

/// The ring does these operations on registered files for the rest of its life.
fn restrictions() -> [Restriction; 8] {
    let flags = Flags::FIXED_FILE | Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    [
        Restriction::register_op(REGISTER_FILES_UPDATE),
        Restriction::sqe_op(opcode::RecvMsgMulti::CODE),
        Restriction::sqe_op(opcode::RecvMulti::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_op(opcode::PollAdd::CODE),
        Restriction::sqe_flags_allowed(flags.bits()),
        Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
    ]
}

impl Io for Uring {
    fn wait(&mut self, deadline: Option<Instant>, inbox: &mut Inbox) -> Result<Now, Fault> {
        self.shore.recognise(inbox)?;
        self.begin()?;
        inbox.clear();
        let begun = self.shore.now().mono;
        self.shore.look(inbox, true);
        let waits = self.early.is_empty() && self.failed.is_empty() && self.full.is_empty();
        let idle = inbox.letters.is_empty() && waits;
        if idle && self.shore.doze() {
            let left = self.shore.left(deadline);
            self.sleep(self.pace.nap(left))?;
            self.shore.awake();
        } else {
            self.sleep(LOOK)?;
        }
        // What came while we slept did not come before.
        let now = self.shore.now();
        self.reap(inbox)?;
        self.shore.look(inbox, false);
        // Signalling is no reason to collect: it is what collecting delays.
        let is_media = |p: &&Received| self.ports.get(p.port).is_some_and(|port| !port.signal);
        let media = inbox.packets.iter().filter(is_media).count();
        self.pace.woke(begun, now.mono, media);
        Ok(now)
    }

    fn submit(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), Fault> {
        self.shore.recognise(inbox)?;
        self.begin()?;
        self.shore.keep(outbox);
        self.leaving.gather(&self.ports, &mut inbox.pool, outbox);
        self.shore.counters().sent.add(self.leaving.list.len() as u64);
        self.send()?;
        self.shore.converse(&self.ports, outbox);
        self.speak()?;
        self.flush()?;
        self.leaving.clear();
        self.slots.take_back();
        for buffers in self.media.iter_mut().chain([&mut self.signal, &mut self.stream]) {
            buffers.take_back();
        }
        self.arm()?;
        self.shore.give(outbox);
        Ok(())
    }
}

/// Does not wait at all, but lets the kernel finish what arrived.
const LOOK: Nap = Nap { want: 0, collect: Duration::ZERO, left: Some(Duration::ZERO) };

impl Uring {
    #[cfg(test)]
    pub(crate) fn streams(&mut self) -> Option<&mut Streams> {
        self.shore.streams.as_mut()
    }

    #[cfg(test)]
    pub(crate) fn counters(&self) -> &super::mesh::IoCounters {
        self.shore.counters()
    }

    /// The first turn: binds the ring to this thread and arms every receive.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.enabled {
            return Ok(());
        }
        let enabled = self.ring.submitter().register_enable_rings();
        enabled.map_err(|e| broken("enable", &e))?;
        self.enabled = true;
        self.arm()
    }

    /// Enters the kernel: submits what is queued, runs what arrived, waits as `nap` says.
    fn sleep(&mut self, nap: Nap) -> Result<(), Fault> {
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        // Without the kernel's minimum wait, the collecting time is simply when the wait ends.
        let left = match nap.left {
            _ if !self.min_wait && !nap.collect.is_zero() => Some(nap.collect),
            left => left,
        };
        let time = left.map_or(Timespec::new(), Timespec::from);
        let mut args = SubmitArgs::new();
        if self.min_wait {
            args = args.min_wait_usec(nap.collect.as_micros() as u32);
        }
        if left.is_some() {
            args = args.timespec(&time);
        }
        let queued = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        // SAFETY: `args` is the structure EXT_ARG asks for, and it and `time` outlive the call; what
        // the queued receives point to lives as long as `self`.
        let entered = unsafe { submitter.enter(queued, nap.want, flags.bits(), Some(&args)) };
        match entered {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Time is up; a signal; completions to reap before more can be submitted.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(broken("wait on", &e)),
            },
        }
    }

    /// Queues an entry, making room first when the queue is full.
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), Fault> {
        if self.ring.submission().is_full() {
            self.flush()?;
        }
        // SAFETY: receives point to headers that live as long as the ring and fill registered buffers;
        // sends point into `self.leaving`, which does not change before a flush, into arenas that
        // `submit` holds borrowed until it has flushed, and into what connections say, which stays until
        // they hear what became of it.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.map_err(|_| broken("queue on", &io::Error::from(io::ErrorKind::StorageFull)))
    }

    /// Queues everything that leaves, but for what leaves by a shared socket: that is sent.
    fn send(&mut self) -> Result<(), Fault> {
        let mut n = 0;
        while let Some(datagram) = self.leaving.list.get(n) {
            if self.ports.door(datagram.door).is_some_and(Door::only_sends) {
                let rest = &self.leaving.list[n..];
                let run = rest.iter().take_while(|other| other.door == datagram.door).count();
                self.batch.send(&self.ports, &rest[..run], &mut self.failed);
                n += run;
                continue;
            }
            let entry = opcode::Send::new(Fixed(datagram.door), datagram.at, datagram.len)
                .flags(libc::MSG_DONTWAIT)
                .dest_addr(datagram.address.as_ptr())
                .dest_addr_len(datagram.address.len())
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(SEND | n as u64);
            self.push(&entry)?;
            n += 1;
        }
        Ok(())
    }

    /// Puts files at the places of connections, and queues what those have to say.
    fn speak(&mut self) -> Result<(), Fault> {
        let Some(streams) = &mut self.shore.streams else { return Ok(()) };
        for (place, fd) in streams.changed_files() {
            let changed = self.ring.submitter().register_files_update(place, &[fd]);
            changed.map_err(|e| broken("change files of", &e))?;
        }
        while let Some(speech) = self.shore.speech() {
            let entry = opcode::Send::new(Fixed(speech.place), speech.at, speech.len)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(SAID | u64::from(speech.id));
            self.push(&entry)?;
        }
        Ok(())
    }

    /// Queues what connections wish.
    fn attend(&mut self) -> Result<(), Fault> {
        while let Some(wish) = self.shore.streams.as_mut().and_then(Streams::wish) {
            let entry = match wish {
                Wish::Hear { id, place } => opcode::RecvMulti::new(Fixed(place), STREAM.id)
                    .build()
                    .user_data(HEARD | u64::from(id)),
                Wish::Hush { id } => opcode::AsyncCancel::new(HEARD | u64::from(id))
                    .build()
                    .flags(Flags::FIXED_FILE | Flags::SKIP_SUCCESS)
                    .user_data(HUSHED),
                Wish::Watch { id, place } => {
                    opcode::PollAdd::new(Fixed(place), libc::POLLOUT as u32)
                        .build()
                        .user_data(WRITABLE | u64::from(id))
                }
            };
            self.push(&entry)?;
        }
        Ok(())
    }

    /// Arms what has ended: every receive at first, later those that ran out of buffers.
    fn arm(&mut self) -> Result<(), Fault> {
        while let Some(place) = self.ended.pop() {
            let group = match self.ports.door(place).map(|door| &door.behind) {
                Some(Behind::One { signal: true, .. }) => SIGNAL.id,
                Some(Behind::One { signal: false, .. }) => MEDIA.id,
                Some(Behind::Many(_)) => {
                    self.watch(place, SHARED | u64::from(place))?;
                    continue;
                }
                Some(Behind::Nobody) | None => continue,
            };
            let entry = opcode::RecvMsgMulti::new(Fixed(place), &raw const *self.header, group)
                .build()
                .user_data(RECEIVE | u64::from(place));
            self.push(&entry)?;
        }
        if self.bell_ended {
            self.bell_ended = false;
            self.watch(self.behind(0), BELL)?;
        }
        if self.streams_ended && self.shore.streams.is_some() {
            self.streams_ended = false;
            self.watch(self.behind(1), STREAMS)?;
        }
        self.attend()
    }

    /// The place of what was registered behind the doors.
    fn behind(&self, place: u32) -> u32 {
        self.ports.doors().len() as u32 + place
    }

    /// Watches what was registered at `place`: says so whenever something more has come.
    fn watch(&mut self, place: u32, what: u64) -> Result<(), Fault> {
        let entry = opcode::PollAdd::new(Fixed(place), libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(what))
    }

    /// Hands the kernel everything that is queued; afterwards no send is under way.
    fn flush(&mut self) -> Result<(), Fault> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(e) => match e.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Completions are in the way: take them.
                    Some(libc::EBUSY | libc::EAGAIN) => {
                        self.collect();
                        self.sleep(LOOK)?;
                    }
                    _ => return Err(broken("submit to", &e)),
                },
            }
        }
        self.collect();
        Ok(())
    }

    fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Deals with failed sends while their bytes still stand; keeps the rest for the next turn.
    fn collect(&mut self) {
        while let Some(done) = self.next() {
            let low = done.user_data() as u32;
            match done.user_data() & KIND {
                SEND => self.refused(low as usize, -done.result()),
                SAID => self.shore.said(low, done.result()),
                _ => self.early.push(done),
            }
        }
    }

    /// The kernel refused a send. On a listener that may be another destination's ICMP error, which
    /// asking again does not see any more.
    fn refused(&mut self, place: usize, mut errno: i32) {
        let Some(datagram) = self.leaving.list.get(place) else {
            return;
        };
        let Some(door) = self.ports.door(datagram.door) else {
            return;
        };
        if door.is_signal() {
            // SAFETY: what leaves is listed until the end of its flush, while `submit` holds the arena
            // it stands in.
            let bytes = unsafe { datagram.bytes() };
            let again = errors::send_again(door.fd(), bytes, &datagram.address);
            errors::drain(door.fd(), datagram.port, &mut self.failed);
            match again {
                Ok(()) => return,
                Err(again) => errno = again,
            }
        }
        self.failed.push(datagram.undeliverable(errno));
    }

    /// Turns completions into the inbox's lanes.
    fn reap(&mut self, inbox: &mut Inbox) -> Result<(), Fault> {
        let mut early = std::mem::take(&mut self.early);
        for done in early.drain(..) {
            self.complete(&done, inbox)?;
        }
        self.early = early;
        while let Some(done) = self.next() {
            self.complete(&done, inbox)?;
        }
        self.drain(inbox)?;
        inbox.undeliverable.append(&mut self.failed);
        let counters = self.shore.counters();
        counters.received.add(inbox.packets.len() as u64);
        counters.truncated.add(inbox.truncated.len() as u64);
        counters.undeliverable.add(inbox.undeliverable.len() as u64);
        counters.flooded.add(self.ports.flooded());
        Ok(())
    }

    /// Receives what waits at shared sockets. Being told of more than was there is told once, so one that
    /// was not emptied is looked at again.
    fn drain(&mut self, inbox: &mut Inbox) -> Result<(), Fault> {
        std::mem::swap(&mut self.full, &mut self.drained);
        while let Some(place) = self.drained.pop() {
            let Some(door) = self.ports.door(place) else { continue };
            match self.batch.drain(door, &mut self.slots, inbox, self.shore.counters()) {
                Ok(false) => {}
                Ok(true) => {
                    self.shore.counters().rearmed.add(1);
                    self.full.push(place);
                }
                Err(e) => match e.raw_os_error() {
                    Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT) => {
                        return Err(broken("receive beside", &e));
                    }
                    _ => self.full.push(place),
                },
            }
        }
        Ok(())
    }

    fn complete(&mut self, done: &cqueue::Entry, inbox: &mut Inbox) -> Result<(), Fault> {
        let low = done.user_data() as u32;
        match done.user_data() & KIND {
            RECEIVE => self.received(low, done, inbox)?,
            SHARED => self.has_more(low, done)?,
            BELL => self.bell_ended |= !cqueue::more(done.flags()),
            STREAMS => {
                self.streams_ended |= !cqueue::more(done.flags());
                self.shore.streams.iter_mut().for_each(Streams::wake);
            }
            SEND => self.refused(low as usize, -done.result()),
            HEARD => self.heard(low, done, inbox),
            SAID => self.shore.said(low, done.result()),
            WRITABLE => self.shore.writable(low),
            _ => {}
        }
        Ok(())
    }

    /// Something came to a shared socket.
    fn has_more(&mut self, place: u32, done: &cqueue::Entry) -> Result<(), Fault> {
        if done.result() < 0 {
            return Err(broken("watch on", &io::Error::from_raw_os_error(-done.result())));
        }
        if !self.full.contains(&place) {
            self.full.push(place);
        }
        if !cqueue::more(done.flags()) {
            self.ended.push(place);
        }
        Ok(())
    }

    fn heard(&mut self, id: u32, done: &cqueue::Entry, inbox: &Inbox) {
        let mut bytes = Bytes { at: 0, len: 0 };
        if let Some(slot) = cqueue::buffer_select(done.flags()) {
            self.stream.lend(slot);
            let room = self.stream.group().room(slot);
            bytes = Bytes { at: room.at, len: done.result().max(0) as u32 };
        }
        let more = cqueue::more(done.flags());
        self.shore.heard((id, done.result(), more), (inbox.pool.get(bytes), bytes.at));
    }

    fn received(
        &mut self,
        place: u32,
        done: &cqueue::Entry,
        inbox: &mut Inbox,
    ) -> Result<(), Fault> {
        let Some(door) = self.ports.door(place) else {
            return Ok(());
        };
        let buffers = if door.is_signal() { Some(&mut self.signal) } else { self.media.as_mut() };
        if let (Some(buffers), Some(slot)) = (buffers, cqueue::buffer_select(done.flags())) {
            buffers.lend(slot);
            let (room, len) = (buffers.group().room(slot), done.result().max(0) as u32);
            if let Behind::One { port, .. } = door.behind {
                deliver(port, room, len, inbox);
            }
        }
        match (-done.result(), &door.behind) {
            (error @ (libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EACCES), _) => {
                return Err(broken("receive on", &io::Error::from_raw_os_error(error)));
            }
            (error, Behind::One { port, signal: true }) if error > 0 => {
                errors::drain(door.fd(), *port, &mut inbox.undeliverable);
            }
            _ => {}
        }
        if !cqueue::more(done.flags()) {
            self.shore.counters().rearmed.add(1);
            self.ended.push(place);
        }
        Ok(())
    }
}

/// Reads what the kernel wrote before a datagram, which is part of the `len` bytes it wrote in all.
fn deliver(port: PortId, room: Bytes, len: u32, inbox: &mut Inbox) {
    let Some(len) = len.checked_sub(PREAMBLE) else { return };
    let before = inbox.pool.get(Bytes { at: room.at - PREAMBLE, len: PREAMBLE });
    let word = |at: usize| {
        let bytes = before.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    // io_uring_recvmsg_out: namelen, controllen, payloadlen, flags.
    let (payload, flags) = (word(8), word(12));
    if flags & libc::MSG_TRUNC as u32 != 0 {
        inbox.truncated.push(port);
        return;
    }
    if let Some(source) = address::read(&before[16..]) {
        let len = payload.min(len);
        let bytes = Bytes { at: room.at, len };
        inbox.packets.push(Received { port, source, bytes });
    }
}

fn broken(what: &str, error: &io::Error) -> Fault {
    Fault {
        what: format!("cannot {what} the ring: {error}"),
        remedy: String::from(
            "the next start releases the calls; if this repeats, set `driver = \"epoll\"`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{lone_mesh, specs};
    use node::Role;

    #[test]
    fn the_ring_refuses_what_it_does_not_need() {
        let ports = Ports::open(&specs(1, Role::Rtp), None).unwrap();
        let (mut driver, mut inbox) = Uring::new(ports, None, lone_mesh(), 0).unwrap();
        driver.wait(Some(Instant(0)), &mut inbox).unwrap();
        let refused = [
            opcode::Nop::new().build().flags(Flags::FIXED_FILE),
            opcode::OpenAt::new(io_uring::types::Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr())
                .build(),
            opcode::Close::new(Fixed(0)).build(),
            // An allowed operation on a descriptor that was not registered.
            opcode::PollAdd::new(io_uring::types::Fd(0), libc::POLLIN as u32).build(),
        ];
        for entry in refused {
            driver.push(&entry.user_data(99)).unwrap();
            driver.sleep(LOOK).unwrap();
            let done = driver.ring.completion().find(|done| done.user_data() == 99);
            assert_eq!(done.map(|done| done.result()), Some(-libc::EACCES));
        }
        let eventfd = driver.ring.submitter().register_eventfd(0);
        assert_eq!(eventfd.unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
