//! Two legs, their packets, and a pool: what the relay's tests stand on.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests, where a failure should panic")]

pub mod link;

use base::{Bytes, Instant, Now, PacketSend, Pool, PortId, Wall};
use core::time::Duration;
use media::{EndKey, Media, MediaPort, Plan, Verdict};
use std::net::SocketAddr;

pub const ALICE: &str = "192.0.2.1:4000";
pub const BOB: &str = "198.51.100.1:6000";

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// `count` endpoints on interface 0: ports 2·i and 2·i + 1, bound to 203.0.113.1:10000 + 2·i.
pub fn ports(count: u32) -> Vec<MediaPort> {
    let port = |i: u32| MediaPort {
        rtp: PortId(2 * i),
        rtcp: PortId(2 * i + 1),
        address: SocketAddr::new(at("203.0.113.1:0").ip(), 10_000 + 2 * i as u16),
        interface: 0,
    };
    (0..count).map(port).collect()
}

pub struct World {
    pub media: Media,
    pub now: Now,
    pub pool: Pool,
    pub out: Vec<PacketSend>,
    pub alice: EndKey,
    pub bob: EndKey,
}

impl World {
    /// Two joined endpoints, each with a plan towards its leg's SDP address.
    pub fn new() -> World {
        let now = Now { mono: Instant(7_000_000_000), wall: Wall(0) };
        let mut media = Media::new(ports(4), [1; 32], now.mono);
        let alice = media.reserve(0, now.mono).unwrap();
        let bob = media.reserve(0, now.mono).unwrap();
        media.program(now.mono, alice, Plan::towards(at(ALICE)));
        media.program(now.mono, bob, Plan::towards(at(BOB)));
        media.join(alice, bob);
        World { media, now, pool: Pool::new(4096), out: Vec::with_capacity(64), alice, bob }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    pub fn program(&mut self, end: EndKey, change: impl FnOnce(&mut Plan)) {
        let mut plan = self.media.plan(end).unwrap().clone();
        change(&mut plan);
        self.media.program(self.now.mono, end, plan);
    }

    /// A datagram arrives on `port`.
    pub fn arrive(&mut self, port: PortId, source: &str, datagram: &[u8]) -> Verdict {
        let bytes = Bytes { at: 0, len: datagram.len() as u32 };
        self.pool.get_mut(bytes).copy_from_slice(datagram);
        self.media.receive(self.now, port, at(source), bytes, &mut self.pool, &mut self.out)
    }

    /// Bytes arrive on an endpoint's RTP port.
    pub fn rtp(&mut self, end: EndKey, source: &str, datagram: &[u8]) -> Verdict {
        self.arrive(PortId(2 * end.index), source, datagram)
    }

    /// Bytes arrive on an endpoint's RTCP port.
    pub fn rtcp(&mut self, end: EndKey, source: &str, datagram: &[u8]) -> Verdict {
        self.arrive(PortId(2 * end.index + 1), source, datagram)
    }

    /// What left since the last time: the local port number's index and the target.
    pub fn left(&mut self) -> Vec<(u32, String)> {
        self.out.drain(..).map(|s| (s.port.0, s.to.to_string())).collect()
    }
}

/// A G.711 packet of 20 ms.
pub fn voice(sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 42]);
    bytes.extend_from_slice(&[0xd5; 160]);
    bytes
}

/// A sender report with one block answering `last_report` after `delay`.
pub fn report(sent: u32, last_report: u32, delay: u32) -> Vec<u8> {
    let mut bytes = vec![0x81, 200, 0, 12, 0, 0, 0, 42, 0, 0];
    bytes.extend_from_slice(&sent.to_be_bytes());
    bytes.extend_from_slice(&[0; 14]);
    bytes.extend_from_slice(&[0, 0, 0, 7, 26, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 80]);
    bytes.extend_from_slice(&last_report.to_be_bytes());
    bytes.extend_from_slice(&delay.to_be_bytes());
    bytes
}
