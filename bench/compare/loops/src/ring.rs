//! A bare ring over sockets of their own, connected or not: what connecting saves. As the engine's driver: one
//! multishot receive a socket, sends straight out of the buffers, up to 200 µs of collecting. Connected sockets
//! are received from without a name and sent to without an address.
#![allow(
    unsafe_code,
    reason = "the submission queue takes pointers; what keeps them valid is stated at each push"
)]

use crate::Outcome;
use crate::work::{Work, local, now, remote};
use base::{Bytes, Pool, PortId};
use io_uring::types::{BufRingEntry, Fixed, SubmitArgs};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

const QUEUE: u32 = 1_024;
const BUFFERS: u16 = 512;
const SIZE: u32 = 2_048;
/// Room before the first byte of a datagram, so that both ways of receiving have it in the same place.
const HEADROOM: u32 = 64;
/// What the kernel writes before a datagram that comes with its source.
const PREAMBLE: u32 = 16 + 16;
const SEND: u64 = 1 << 32;
const COLLECT: u32 = 200;
const WANT: usize = 32;

/// Until it is ended.
pub fn run(calls: u32, connected: bool) -> Outcome {
    engine::io::pin::raise_descriptors()?;
    let mut sockets = Vec::new();
    for n in 0..2 * calls {
        let socket = UdpSocket::bind(local(n))?;
        if connected {
            socket.connect(remote(n))?;
        }
        sockets.push(socket);
    }
    let files: Vec<i32> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(32_768)
        .build(QUEUE)?;
    ring.submitter().register_files(&files)?;
    let preamble = if connected { 0 } else { PREAMBLE };
    let mut pool = Pool::new(usize::from(BUFFERS) * SIZE as usize);
    let buffers = Buffers::new(&mut pool, preamble)?;
    buffers.register(&ring)?;
    // SAFETY: a message header of zeroes is valid: no name, no parts, no control.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_namelen = PREAMBLE - 16;
    Loop {
        ring,
        buffers,
        pool,
        header,
        connected,
        ended: (0..2 * calls).collect(),
        begun: std::time::Instant::now(),
    }
    .run(&mut Work::new(calls))
}

struct Loop {
    ring: IoUring,
    buffers: Buffers,
    pool: Pool,
    header: Box<libc::msghdr>,
    connected: bool,
    /// Sockets whose receive is to be armed.
    ended: Vec<u32>,
    begun: std::time::Instant,
}

impl Loop {
    fn run(&mut self, work: &mut Work) -> Outcome {
        let mut addresses = Vec::with_capacity(BUFFERS.into());
        let mut arrived: Vec<cqueue::Entry> = Vec::with_capacity(BUFFERS.into());
        loop {
            self.arm()?;
            let args = SubmitArgs::new().min_wait_usec(COLLECT);
            match self.ring.submitter().submit_with_args(WANT, &args) {
                Err(e)
                    if !matches!(
                        e.raw_os_error(),
                        Some(libc::ETIME | libc::EINTR | libc::EBUSY)
                    ) =>
                {
                    return Err(e.into());
                }
                Ok(_) | Err(_) => {}
            }
            arrived.extend(self.ring.completion());
            let now = now(self.begun);
            for done in arrived.drain(..) {
                self.received(&done, now, work);
            }
            addresses.clear();
            addresses.extend(work.out.iter().map(|send| RawAddress::new(send.to)));
            for (n, send) in work.out.drain(..).enumerate() {
                let at = self.pool.get(send.bytes).as_ptr();
                let mut entry = opcode::Send::new(Fixed(send.port.0), at, send.bytes.len)
                    .flags(libc::MSG_DONTWAIT);
                if !self.connected {
                    entry = entry.dest_addr(addresses[n].as_ptr()).dest_addr_len(16);
                }
                let entry = entry.build().flags(squeue::Flags::SKIP_SUCCESS);
                self.push(&entry.user_data(SEND))?;
            }
            // Complete when it returns, as nothing of it may wait: then buffers and addresses are ours again.
            self.ring.submit()?;
            self.buffers.take_back();
        }
    }

    fn received(&mut self, done: &cqueue::Entry, now: base::Now, work: &mut Work) {
        let place = done.user_data() as u32;
        if done.user_data() & SEND != 0 {
            return;
        }
        if let Some(slot) = cqueue::buffer_select(done.flags()) {
            self.buffers.lent.push(slot);
            let (at, len) = (u32::from(slot) * SIZE + HEADROOM, done.result().max(0) as u32);
            let bytes = Bytes { at, len: len.saturating_sub(self.buffers.preamble) };
            let source = match self.connected {
                true => Some(remote(place)),
                false => self.source(at - PREAMBLE + 16),
            };
            if let Some(source) = source {
                work.take(now, PortId(place), source, bytes, &mut self.pool);
            }
        }
        if !cqueue::more(done.flags()) {
            self.ended.push(place);
        }
    }

    /// The address in a `sockaddr_in` at a place of the pool.
    fn source(&self, at: u32) -> Option<SocketAddr> {
        let [_, _, high, low, a, b, c, d] = *self.pool.get(Bytes { at, len: 8 }).first_chunk()?;
        Some(SocketAddr::new(IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])))
    }

    fn arm(&mut self) -> Outcome {
        while let Some(place) = self.ended.pop() {
            let entry = match self.connected {
                true => opcode::RecvMulti::new(Fixed(place), 0).build(),
                false => {
                    opcode::RecvMsgMulti::new(Fixed(place), &raw const *self.header, 0).build()
                }
            };
            self.push(&entry.user_data(u64::from(place)))?;
        }
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> Outcome {
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: receives point to a header that lives as long as the ring and fill registered buffers; sends
        // point into the pool and the list of addresses, which change after the next submit alone.
        unsafe { self.ring.submission().push(entry) }.map_err(|e| e.to_string())?;
        Ok(())
    }
}

/// A `sockaddr_in`.
#[repr(C, align(8))]
struct RawAddress([u8; 16]);

impl RawAddress {
    fn new(address: SocketAddr) -> RawAddress {
        let mut raw = [0; 16];
        raw[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        raw[2..4].copy_from_slice(&address.port().to_be_bytes());
        if let IpAddr::V4(ip) = address.ip() {
            raw[4..8].copy_from_slice(&ip.octets());
        }
        RawAddress(raw)
    }

    fn as_ptr(&self) -> *const libc::sockaddr {
        self.0.as_ptr().cast()
    }
}

/// The ring of buffers that the kernel may fill.
struct Buffers {
    entries: *mut BufRingEntry,
    pool: *mut u8,
    preamble: u32,
    tail: u16,
    lent: Vec<u16>,
}

impl Buffers {
    fn new(pool: &mut Pool, preamble: u32) -> std::io::Result<Buffers> {
        let size = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping of its own, at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let lent = (0..BUFFERS).collect();
        let mut buffers =
            Buffers { entries: at.cast(), pool: pool.as_mut_ptr(), preamble, tail: 0, lent };
        buffers.take_back();
        Ok(buffers)
    }

    fn register(&self, ring: &IoUring) -> std::io::Result<()> {
        // SAFETY: the mapping holds so many entries and is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(self.entries as u64, BUFFERS, 0, 0) }
    }

    fn take_back(&mut self) {
        while let Some(slot) = self.lent.pop() {
            let place = usize::from(self.tail & (BUFFERS - 1));
            let before = u32::from(slot) * SIZE + HEADROOM - self.preamble;
            // SAFETY: `place` is below the number of entries; the kernel reads none beyond the published tail.
            let entry = unsafe { &mut *self.entries.wrapping_add(place) };
            entry.set_addr(self.pool.wrapping_add(before as usize) as u64);
            entry.set_len(SIZE - HEADROOM - 64 + self.preamble);
            entry.set_bid(slot);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the page-aligned start of the ring.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: the tail is an aligned 16-bit word that we and the kernel use as an atomic alone.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
