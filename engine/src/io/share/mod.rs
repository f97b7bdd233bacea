//! Shared media sockets: every media port of an interface behind one receiving socket a shard.
//!
//! A socket of its own for every port costs kernel memory, a descriptor, and for every packet a wake-up
//! and a system call or completion of its own. Here a small program in the kernel's socket look-up
//! (BPF sk_lookup) gives what arrives for a range of ports to one socket per shard, which says for each
//! datagram where it was sent to; and one raw socket sends from all of them. It needs CAP_BPF and
//! CAP_NET_ADMIN to attach the program and CAP_NET_RAW for the raw socket, at start only; where they are
//! missing, ports have sockets of their own.

mod assembler;
mod bpf;
pub mod header;
mod program;

pub(crate) use header::{ROOM, write as write_header};
pub(crate) use program::Range;

use super::sys::Mapping;
use base::ShardId;
use node::{Limits, PortSpec, Role};
use program::Layout;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The program at work, for as long as this lives.
pub struct Sharing {
    ranges: Vec<Range>,
    layout: Layout,
    sockets: bpf::SocketMap,
    words: Arc<bpf::Words>,
    _attached: OwnedFd,
}

impl Sharing {
    /// Attaches the program for the media ports of every shard of `limits`.
    pub fn new(limits: &Limits) -> io::Result<Sharing> {
        let specs = limits.shards.iter().flat_map(|shard| &shard.ports);
        Sharing::over(ranges(specs), limits.shards.len() as u32)
    }

    fn over(ranges: Vec<Range>, shards: u32) -> io::Result<Sharing> {
        let layout = Layout::new(&ranges, shards);
        let sockets = bpf::SocketMap::new(layout.places.max(1))?;
        let words = bpf::Words::new(layout.words.max(1))?;
        let program = program::program(&ranges, &layout, sockets.fd(), words.fd());
        let _attached = bpf::attach(&program)?;
        Ok(Sharing { ranges, layout, sockets, words: Arc::new(words), _attached })
    }

    /// The ranges, one for each interface.
    pub(crate) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// From now on `socket` gets what arrives for the ports of range `range` that are `shard`'s.
    pub(crate) fn give(&self, range: usize, shard: ShardId, socket: RawFd) -> io::Result<Flooded> {
        let first = self.layout.sockets.get(range).ok_or(io::ErrorKind::NotFound)?;
        let place = first + u32::from(shard.0);
        self.sockets.set(place, socket)?;
        Ok(Flooded { words: self.words.clone(), place: place as usize, seen: 0 })
    }
}

/// How many datagrams were dropped because their port had more than its pace.
pub(crate) struct Flooded {
    words: Arc<bpf::Words>,
    place: usize,
    seen: u64,
}

impl Flooded {
    /// How many since this was last asked.
    pub(crate) fn more(&mut self) -> u64 {
        let memory: &Mapping = &self.words.memory;
        let now = memory.word(self.place * 8).load(Ordering::Relaxed);
        now - std::mem::replace(&mut self.seen, now)
    }
}

/// Whether this process may share media sockets: tried with ports nobody has.
pub fn probe() -> Result<(), String> {
    let nowhere = Range { ip: IpAddr::from([0, 0, 0, 0]), first: 0, last: 1 };
    let tried = Sharing::over(vec![nowhere], 1).and_then(|_| sender(nowhere.ip).map(drop));
    tried.map_err(|e| match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => String::from(
            "CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW are missing: see AmbientCapabilities= in the unit",
        ),
        Some(libc::ENOSYS | libc::EINVAL) => String::from("the kernel lacks BPF sk_lookup (5.9 has it)"),
        _ => format!("the kernel refuses: {e}"),
    })
}

/// A raw socket that sends whole datagrams, their headers included.
pub(crate) fn sender(ip: IpAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(SocketAddr::new(ip, 0));
    socket2::Socket::new(domain, socket2::Type::RAW, Some(libc::IPPROTO_RAW.into()))
}

/// Bytes of the control message that says where a datagram was sent to, the larger of the two.
pub(crate) const CONTROL: usize = 48;

/// The port number in that message (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR).
pub(crate) fn destination(control: &[u8]) -> Option<u16> {
    // struct cmsghdr: a length of 8 bytes, level, type; then a socket address: family, port.
    let word =
        |at: usize| -> Option<i32> { Some(i32::from_ne_bytes(*control.get(at..)?.first_chunk()?)) };
    match (word(8)?, word(12)?) {
        (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR) => {}
        (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => {}
        _ => return None,
    }
    Some(u16::from_be_bytes(*control.get(18..)?.first_chunk()?))
}

/// One range per interface, from its lowest port to its highest.
fn ranges<'a>(specs: impl Iterator<Item = &'a PortSpec>) -> Vec<Range> {
    let mut found: BTreeMap<(u16, IpAddr), Range> = BTreeMap::new();
    for spec in specs.filter(|spec| matches!(spec.role, Role::Rtp | Role::Rtcp)) {
        let (ip, port) = (spec.address.ip(), spec.address.port());
        let range =
            found.entry((spec.interface, ip)).or_insert(Range { ip, first: port, last: port });
        range.first = range.first.min(port);
        range.last = range.last.max(port);
    }
    found.into_values().collect()
}
