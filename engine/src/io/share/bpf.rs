//! The four commands of bpf(2) that shared media sockets need, each behind a safe signature.
//!
//! A map or link lives as long as its descriptor: when the process ends, however it ends, the kernel
//! takes everything back.

#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use super::super::sys::Mapping;
use super::assembler::Instruction;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROGRAM_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const ARRAY: u32 = 2;
const SOCKMAP: u32 = 15;
const MMAPABLE: u32 = 1 << 10;
const SK_LOOKUP_PROGRAM: u32 = 30;
const SK_LOOKUP: u32 = 36;

/// How often the verifier may be interrupted.
const LOAD_RETRIES: usize = 50;

/// Names say what of `union bpf_attr` they are; the kernel takes shorter ones as zero beyond their end.
#[repr(C)]
struct NewMap {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct Update {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach: u32,
}

#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
}

/// A map from a place to a bound UDP socket.
pub(super) struct SocketMap(OwnedFd);

impl SocketMap {
    pub(super) fn new(entries: u32) -> io::Result<SocketMap> {
        map(SOCKMAP, entries, 0).map(SocketMap)
    }

    pub(super) fn set(&self, place: u32, socket: RawFd) -> io::Result<()> {
        let value = socket as u64;
        let update = Update {
            map: self.fd() as u32,
            _padding: 0,
            key: &raw const place as u64,
            value: &raw const value as u64,
            flags: 0,
        };
        bpf(MAP_UPDATE, &update).map(drop)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An array of 64-bit words that the program and this process share.
pub(super) struct Words {
    fd: OwnedFd,
    pub(super) memory: Mapping,
}

impl Words {
    pub(super) fn new(entries: u32) -> io::Result<Words> {
        let file = File::from(map(ARRAY, entries, MMAPABLE)?);
        let memory = Mapping::shared(&file, (entries as usize * 8).next_multiple_of(4096))?;
        Ok(Words { fd: OwnedFd::from(file), memory })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn map(kind: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    make(MAP_CREATE, &NewMap { kind, key_size: 4, value_size: 8, entries, flags })
}

/// Has the kernel verify a program for socket look-ups, and runs it for this network namespace until
/// what is returned is dropped.
pub(super) fn attach(program: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: SK_LOOKUP_PROGRAM,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"tandem_media\0\0\0\0",
        device: 0,
        attach: SK_LOOKUP,
    };
    // The verifier gives way to a pending signal and wants to be asked again.
    let mut program = make(PROGRAM_LOAD, &load);
    for _ in 0..LOAD_RETRIES {
        match &program {
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                program = make(PROGRAM_LOAD, &load);
            }
            _ => break,
        }
    }
    let program = program?;
    let namespace = File::open("/proc/self/ns/net")?;
    let (program, target) = (program.as_raw_fd() as u32, namespace.as_raw_fd() as u32);
    make(LINK_CREATE, &Link { program, target, attach: SK_LOOKUP, flags: 0 })
}

/// Runs a command that makes something.
fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let made = bpf(command, attributes)?;
    // SAFETY: the kernel just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(made as RawFd) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    let (at, size) = (std::ptr::from_ref(attributes), size_of::<T>());
    // SAFETY: the attributes are the command's own part of `union bpf_attr`, `size` bytes of live memory,
    // and what they point to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, at, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
