//! The system calls std has no words for: batched UDP with kernel timestamps, epoll, signals, CPU.
//!
//! All unsafe code of this crate is here. Buffers belong to the batch that uses them, so no pointer
//! given to the kernel outlives the call it was given in.
#![allow(unsafe_code, reason = "sendmmsg, recvmmsg, epoll and signals have no safe face in std")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Datagrams taken or given in one system call.
const BATCH: usize = 128;
/// Bytes of a socket address, the longer kind.
const NAME: usize = 28;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// SIGTERM and SIGINT end the load early, with hang-ups and a report.
pub(crate) fn catch_signals() {
    let handler = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler) };
    }
    // SAFETY: a plain integer option; a finer timer slack for pacing.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64) };
}

/// Was the load asked to end?
pub(crate) fn stopping() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// One time line for everything: nanoseconds since the start, which kernel stamps map onto too.
#[derive(Clone, Copy)]
pub(crate) struct Timeline {
    start: Instant,
    wall: u64,
}

impl Timeline {
    /// Starts now.
    pub(crate) fn new() -> Self {
        Timeline { start: Instant::now(), wall: wall_ns() }
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Where a wall clock stamp falls on this line.
    pub(crate) fn at_wall(&self, wall: u64) -> u64 {
        wall.saturating_sub(self.wall)
    }

    /// The wall clock, in Unix nanoseconds, at a point of this line.
    pub(crate) fn wall_at(&self, at: u64) -> u64 {
        self.wall + at
    }
}

/// Unix time in nanoseconds.
pub(crate) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_nanos() as u64
}

/// CPU time of this process so far, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    // SAFETY: rusage is plain integers; all zeroes is a value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives across the call.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

fn set(fd: RawFd, option: libc::c_int, value: libc::c_int) -> bool {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let pointer = (&raw const value).cast();
    // SAFETY: `value` outlives the call and `size` is its size.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, pointer, size) == 0 }
}

/// Asks for kernel receive stamps and deep buffers (as deep as the system lets us).
pub(crate) fn prepare(fd: RawFd, buffer_bytes: i32) {
    set(fd, libc::SO_TIMESTAMPNS, 1);
    for (force, polite) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if !set(fd, force, buffer_bytes) {
            set(fd, polite, buffer_bytes);
        }
    }
}

/// Waits until `fd` can be read, at most `ns`.
pub(crate) fn wait_readable(fd: RawFd, ns: u64) {
    wait(fd, libc::POLLIN, ns);
}

fn wait(fd: RawFd, events: libc::c_short, ns: u64) {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let limit = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: one pollfd and one timespec, both alive across the call.
    unsafe { libc::ppoll(&mut poll, 1, &limit, std::ptr::null()) };
}

/// Which of many sockets have something to read.
pub(crate) struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// Adds a socket under a number of the caller's.
    pub(crate) fn add(&self, fd: RawFd, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        // SAFETY: `event` lives across the call; the kernel copies it.
        let done = unsafe { libc::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd, &mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The numbers of the sockets that are readable now; never waits.
    pub(crate) fn ready(&mut self, keys: &mut Vec<u64>) {
        keys.clear();
        let room = self.events.len() as libc::c_int;
        // SAFETY: the kernel writes at most `room` events into a vector of that length.
        let n = unsafe { libc::epoll_wait(self.fd, self.events.as_mut_ptr(), room, 0) };
        keys.extend(self.events.iter().take(n.max(0) as usize).map(|event| event.u64));
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and is not used again.
        unsafe { libc::close(self.fd) };
    }
}

/// A reusable batch for `recvmmsg`.
pub(crate) struct Receiver {
    size: usize,
    bytes: Vec<u8>,
    names: Vec<[u8; NAME]>,
    controls: Vec<[u64; 8]>,
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// One datagram of a batch.
pub(crate) struct Datagram<'a> {
    /// What came.
    pub(crate) bytes: &'a [u8],
    /// Where it came from.
    pub(crate) from: SocketAddr,
    /// When the kernel took it, Unix nanoseconds; our own clock where the kernel gave none.
    pub(crate) wall: u64,
}

impl Receiver {
    /// Room for one batch of datagrams up to `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: mmsghdr is integers and pointers; all zeroes is a value of it.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Receiver {
            size,
            bytes: vec![0; size * BATCH],
            names: vec![[0; NAME]; BATCH],
            controls: vec![[0; 8]; BATCH],
            pieces: vec![piece; BATCH],
            headers: vec![header; BATCH],
        }
    }

    /// Takes what is there, without waiting; true when there may be more.
    pub(crate) fn receive(&mut self, fd: RawFd, mut each: impl FnMut(Datagram<'_>)) -> bool {
        for i in 0..BATCH {
            let room = &mut self.bytes[i * self.size..(i + 1) * self.size];
            self.pieces[i] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: self.size };
            self.controls[i] = [0; 8];
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = self.names[i].as_mut_ptr().cast();
            header.msg_namelen = NAME as libc::socklen_t;
            header.msg_iov = &mut self.pieces[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].as_mut_ptr().cast();
            header.msg_controllen = 64;
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: every header was just pointed at buffers of ours that live across the call.
        let n = unsafe {
            libc::recvmmsg(fd, headers, BATCH as libc::c_uint, flags, std::ptr::null_mut())
        };
        let n = n.max(0) as usize;
        for i in 0..n {
            let len = (self.headers[i].msg_len as usize).min(self.size);
            let Some(from) = decode(&self.names[i]) else { continue };
            let wall = stamp(&self.controls[i]).unwrap_or_else(wall_ns);
            each(Datagram { bytes: &self.bytes[i * self.size..][..len], from, wall });
        }
        n == BATCH
    }
}

/// The one control message we asked for: SCM_TIMESTAMPNS, laid out as length, level and type,
/// seconds, nanoseconds.
fn stamp(control: &[u64; 8]) -> Option<u64> {
    let kind = control[1].to_ne_bytes();
    let level = i32::from_ne_bytes([kind[0], kind[1], kind[2], kind[3]]);
    let which = i32::from_ne_bytes([kind[4], kind[5], kind[6], kind[7]]);
    (level == libc::SOL_SOCKET && which == libc::SCM_TIMESTAMPNS)
        .then(|| control[2] * 1_000_000_000 + control[3])
}

/// A reusable batch for `sendmmsg`.
pub(crate) struct Sender {
    bytes: Vec<u8>,
    spans: Vec<(usize, usize)>,
    names: Vec<([u8; NAME], usize)>,
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Datagrams the kernel refused for good.
    pub(crate) refused: u64,
}

impl Sender {
    /// An empty batch.
    pub(crate) fn new() -> Self {
        Sender {
            bytes: Vec::with_capacity(1 << 16),
            spans: Vec::new(),
            names: Vec::new(),
            pieces: Vec::new(),
            headers: Vec::new(),
            refused: 0,
        }
    }

    /// Copies one datagram into the batch.
    pub(crate) fn push(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.spans.push((self.bytes.len(), bytes.len()));
        self.bytes.extend_from_slice(bytes);
        self.names.push(encode(to));
    }

    /// Datagrams in the batch.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Sends the batch and empties it; says how many datagrams left.
    pub(crate) fn flush(&mut self, fd: RawFd) -> u64 {
        if self.spans.is_empty() {
            return 0;
        }
        self.point();
        let (mut at, mut tries, total) = (0, 0, self.headers.len());
        let mut sent = 0;
        while at < total {
            let some = (total - at).min(BATCH) as libc::c_uint;
            let headers = self.headers[at..].as_mut_ptr();
            // SAFETY: `point` aimed every header at buffers of ours, untouched until we return.
            let n = unsafe { libc::sendmmsg(fd, headers, some, libc::MSG_DONTWAIT) };
            if n > 0 {
                (at, sent, tries) = (at + n as usize, sent + n as u64, 0);
                continue;
            }
            tries += 1;
            if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock && tries < 50 {
                wait(fd, libc::POLLOUT, 1_000_000);
            } else if tries > 1 {
                (at, tries) = (at + 1, 0);
                self.refused += 1;
            }
        }
        self.bytes.clear();
        self.spans.clear();
        self.names.clear();
        sent
    }

    fn point(&mut self) {
        self.pieces.clear();
        self.headers.clear();
        for &(start, len) in &self.spans {
            let base = self.bytes[start..start + len].as_mut_ptr().cast();
            self.pieces.push(libc::iovec { iov_base: base, iov_len: len });
        }
        for (piece, (name, len)) in self.pieces.iter_mut().zip(&mut self.names) {
            // SAFETY: mmsghdr is integers and pointers; all zeroes is a value of it.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = *len as libc::socklen_t;
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
    }
}

/// `sockaddr_in` or `sockaddr_in6` as bytes, so that no cast is needed to read one.
fn encode(to: SocketAddr) -> ([u8; NAME], usize) {
    let mut name = [0; NAME];
    name[2..4].copy_from_slice(&to.port().to_be_bytes());
    match to {
        SocketAddr::V4(v4) => {
            name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            name[4..8].copy_from_slice(&v4.ip().octets());
            (name, 16)
        }
        SocketAddr::V6(v6) => {
            name[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            name[8..24].copy_from_slice(&v6.ip().octets());
            name[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (name, NAME)
        }
    }
}

fn decode(name: &[u8; NAME]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([name[2], name[3]]);
    let ip = match i32::from(u16::from_ne_bytes([name[0], name[1]])) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(name[4], name[5], name[6], name[7])),
        libc::AF_INET6 => {
            let octets: [u8; 16] = name[8..24].try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["127.0.0.1:5060", "[::1]:40000"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(address).0), Some(address));
        }
    }

    #[test]
    fn a_batch_arrives_whole_and_stamped() {
        let (a, b) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        prepare(b.as_raw_fd(), 1 << 20);
        let before = wall_ns();
        let mut sender = Sender::new();
        for i in 0..300_u32 {
            sender.push(b.local_addr().unwrap(), &i.to_be_bytes());
        }
        assert_eq!(sender.flush(a.as_raw_fd()), 300);
        let (mut receiver, mut seen) = (Receiver::new(64), Vec::new());
        while receiver.receive(b.as_raw_fd(), |datagram| {
            assert_eq!(datagram.from, a.local_addr().unwrap());
            assert!(datagram.wall >= before && datagram.wall <= wall_ns());
            seen.push(u32::from_be_bytes(datagram.bytes.try_into().unwrap()));
        }) {}
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
    }
}
