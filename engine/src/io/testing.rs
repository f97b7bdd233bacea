//! What the tests of this module share: scratch directories, ports on loopback, a mesh of one.

#![allow(unsafe_code, reason = "poll(2) has no safe wrapper")]

use super::mesh::{Mesh, ShardMesh};
use node::{Limits, PortSpec, Role, ShardLimits};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

/// A fresh empty directory for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tandem-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// `count` ports on loopback with numbers the kernel chooses.
pub(crate) fn specs(count: usize, role: Role) -> Vec<PortSpec> {
    let spec = PortSpec {
        address: "127.0.0.1:0".parse().unwrap(),
        role,
        interface: 0,
        device: None,
        dscp: 46,
        tcp_keepalive_s: 60,
    };
    vec![spec; count]
}

/// Small limits over `ports`.
pub(crate) fn limits(ports: &[PortSpec]) -> ShardLimits {
    ShardLimits {
        ports: ports.to_vec(),
        transactions: 16,
        records: 8,
        record_size: 256,
        journal_size: 8192,
    }
}

/// The mesh of a node with `count` shards.
pub(crate) fn mesh(count: usize) -> (Vec<ShardMesh>, super::mesh::GateMesh) {
    let limits = Limits { shards: vec![limits(&[]); count], mesh_letters: 64, events: 64 };
    Mesh::new(&limits).unwrap()
}

/// The mesh of a node with one shard, whose gate does not matter.
pub(crate) fn lone_mesh() -> ShardMesh {
    mesh(1).0.remove(0)
}

/// Whether `fd` becomes readable in time.
pub(crate) fn readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) > 0 }
}

/// Segments with data that a connection has received.
pub(crate) fn segments(stream: &TcpStream) -> u32 {
    // SAFETY: numbers of zero are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    let (fd, at) = (stream.as_raw_fd(), (&raw mut info).cast());
    // SAFETY: `info` is as large as `len` says.
    let asked = unsafe { libc::getsockopt(fd, libc::SOL_TCP, libc::TCP_INFO, at, &raw mut len) };
    assert_eq!(asked, 0);
    info.tcpi_data_segs_in
}

/// The traffic class of the next datagram that arrives on `fd`, which was told to report it.
pub(crate) fn traffic_class(fd: RawFd) -> Option<u8> {
    let (mut bytes, mut control) = ([0u8; 64], [0u64; 16]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a message header of zeroes is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: part and control describe live memory of the stated sizes.
    if unsafe { libc::recvmsg(fd, &raw mut message, 0) } < 0 {
        return None;
    }
    // SAFETY: the kernel filled the control area.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return None;
    }
    // SAFETY: a whole header, as CMSG_FIRSTHDR promises.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: both kinds carry at least one byte, the lowest first on little-endian machines.
    Some(unsafe { data.read() })
}
