//! The few system calls every driver shares, each behind a safe signature.
//!
//! Memory mappings, the two clocks, wake-up descriptors, socket options. Nothing here knows about
//! ports, shards or the contract.

#![allow(unsafe_code, reason = "system calls without a safe wrapper in the standard library")]

use base::{Instant, Now, Wall};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Memory from the kernel, page aligned, at an address that never changes.
pub(crate) struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain memory, owned by nobody's thread; every access goes through raw copies
// and atomics whose ordering the users of `Mapping` state.
unsafe impl Send for Mapping {}
// SAFETY: as above; `copy_in` and `copy_out` never form references into the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private zeroed memory.
    pub(crate) fn anonymous(len: usize) -> io::Result<Mapping> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// The first `len` bytes of a file, shared with it.
    pub(crate) fn shared(file: &File, len: usize) -> io::Result<Mapping> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, file.as_raw_fd())
    }

    fn map(len: usize, flags: i32, fd: RawFd) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses cannot overlap anything of ours.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { at, len })
    }

    /// Where it starts.
    pub(crate) fn start(&self) -> *mut u8 {
        self.at.as_ptr()
    }

    /// Copies `bytes` to `at`; nothing happens when they do not fit.
    pub(crate) fn copy_in(&self, at: usize, bytes: &[u8]) -> bool {
        let fits = at.checked_add(bytes.len()).is_some_and(|end| end <= self.len);
        if fits {
            let from = bytes.as_ptr();
            let to = self.start().wrapping_add(at);
            // SAFETY: the range was just checked to lie inside the mapping, and a caller's slice
            // never overlaps it because no reference into a mapping exists.
            unsafe { std::ptr::copy_nonoverlapping(from, to, bytes.len()) };
        }
        fits
    }

    /// Appends `len` bytes from `at` to `out`; nothing when they do not lie inside.
    pub(crate) fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) -> bool {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.len);
        if fits {
            let start = out.len();
            out.resize(start + len, 0);
            let from = self.start().wrapping_add(at);
            let to = out[start..].as_mut_ptr();
            // SAFETY: the source range was just checked to lie inside the mapping; the target has
            // just been given room for `len` bytes.
            unsafe { std::ptr::copy_nonoverlapping(from, to, len) };
        }
        fits
    }

    /// The atomic word at `at`, which must be a multiple of 8 inside the mapping.
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.len);
        // SAFETY: aligned because mappings are page aligned, inside by the assertion above, alive as
        // long as `self`; this word is only ever accessed as an atomic.
        unsafe { AtomicU64::from_ptr(self.start().wrapping_add(at).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` returned, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.start().cast(), self.len) };
    }
}

/// `result` of a system call that reports errors as -1.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets a socket option that takes an integer.
pub(crate) fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option_bytes(fd, level, name, &value.to_ne_bytes())
}

/// Sets a socket option that takes bytes.
pub(crate) fn set_option_bytes(fd: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) }).map(drop)
}

/// A descriptor that becomes readable when somebody adds to it.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes plain integers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: the descriptor was just created and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Registers a descriptor with the gate's runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor is closed only when the registration is dropped with it.
    let registered = unsafe { tokio::io::unix::AsyncFd::register(fd) };
    registered.map_err(|e| io::Error::other(e.to_string()))
}

/// Wakes whoever waits for the eventfd.
pub(crate) fn ring(eventfd: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight readable bytes, as an eventfd wants them. A full counter wakes just as well.
    unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Forgets wake-ups that were heard.
pub(crate) fn unring(eventfd: &OwnedFd) {
    let mut count = [0u8; 8];
    let len = count.len();
    // SAFETY: eight writable bytes; the descriptor never blocks.
    unsafe { libc::read(eventfd.as_raw_fd(), count.as_mut_ptr().cast(), len) };
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec to a valid place; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Both clocks; the monotonic one never before `last`.
pub(crate) fn now(last: Instant) -> Now {
    Now {
        mono: Instant(clock(libc::CLOCK_MONOTONIC)).max(last),
        wall: Wall(clock(libc::CLOCK_REALTIME)),
    }
}

/// Bytes written to a connection that its far end has not acknowledged; more than any where the kernel does not say.
pub(crate) fn unacknowledged(socket: RawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, which lives through the call.
    let asked = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut bytes) };
    if asked < 0 { u64::MAX } else { u64::try_from(bytes).unwrap_or(u64::MAX) }
}
