//! The work: media's relay over so many calls, each with two ports, and who sits behind a port.

use base::{Bytes, Instant, Now, PacketSend, Pool, PortId, Wall};
use media::{Media, MediaPort, Plan};
use std::net::{Ipv4Addr, SocketAddr};

/// The first of the relay's ports: below those that the kernel gives to anybody.
const FIRST: u16 = 12_000;

/// The relay's end of port `n`.
pub fn local(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + n as u16))
}

/// Who sits behind port `n`: sixteen callers and sixteen callees share all calls.
pub fn remote(n: u32) -> SocketAddr {
    let first = if n.is_multiple_of(2) { 10_000 } else { 11_000 };
    SocketAddr::from((Ipv4Addr::LOCALHOST, first + (n / 2 % 16 * 2) as u16))
}

/// The relay.
pub struct Work {
    media: Media,
    /// What leaves.
    pub out: Vec<PacketSend>,
}

impl Work {
    /// Ports 2i and 2i + 1 are the two sides of a call.
    pub fn new(calls: u32) -> Work {
        let (count, now) = (2 * calls, Instant(1));
        let port = |n: u32| MediaPort {
            rtp: PortId(n),
            rtcp: PortId(count + n),
            address: local(n),
            interface: 0,
        };
        let mut media = Media::new((0..count).map(port).collect(), [1; 32], now);
        let mut ends = vec![None; count as usize];
        for _ in 0..count {
            let Ok(end) = media.reserve(0, now) else { break };
            let Some(at) = media.local(end).map(|local| local.rtp.port() - FIRST) else { break };
            let plan = Plan::towards(remote(u32::from(at)));
            let allow = base::Allow { loopback: true, ..base::Allow::default() };
            media.program(now, end, Plan { allow, ..plan });
            ends[usize::from(at)] = Some(end);
        }
        for pair in ends.chunks_exact(2) {
            if let [Some(a), Some(b)] = *pair {
                media.join(a, b);
            }
        }
        Work { media, out: Vec::with_capacity(1_024) }
    }

    /// A datagram arrived on port `n`.
    pub fn take(
        &mut self,
        now: Now,
        port: PortId,
        source: SocketAddr,
        bytes: Bytes,
        pool: &mut Pool,
    ) {
        let _verdict = self.media.receive(now, port, source, bytes, pool, &mut self.out);
    }
}

/// The time, for loops that are not told it.
pub fn now(begun: std::time::Instant) -> Now {
    Now { mono: Instant(1 + begun.elapsed().as_nanos() as u64), wall: Wall(0) }
}
