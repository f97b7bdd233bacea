//! Relays packets of one call: to count instructions per packet.
//!
//! `valgrind --tool=callgrind target/release/examples/relay N`: two runs differ by the packets alone.

use base::{Bytes, Instant, Now, Pool, PortId, Wall};
use core::time::Duration;
use media::{Media, MediaPort, Plan, Verdict};
use std::net::SocketAddr;

const PACKET: Bytes = Bytes { at: 0, len: 172 };

fn main() {
    let packets: u32 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let start = Instant(1_000_000_000);
    let address = |port: u16| SocketAddr::from(([203, 0, 113, 1], port));
    let port = |i: u32| MediaPort {
        rtp: PortId(2 * i),
        rtcp: PortId(2 * i + 1),
        address: address(2 * i as u16),
        interface: 0,
    };
    let mut media = Media::new((0..2).map(port).collect(), [1; 32], start);
    let ends = [4_000, 4_002].map(|remote| {
        let end = media.reserve(0, start).expect("two ports");
        media.program(start, end, Plan::towards(address(remote)));
        end
    });
    media.join(ends[0], ends[1]);
    let (mut pool, mut out) = (Pool::new(2_048), Vec::with_capacity(64));
    let mut now = Now { mono: start, wall: Wall(0) };
    for sequence in 0..packets {
        now = now.after(Duration::from_millis(20));
        let header = pool.get_mut(PACKET);
        header[0] = 0x80;
        header[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
        header[4..8].copy_from_slice(&(sequence * 160).to_be_bytes());
        let verdict = media.receive(now, PortId(0), address(4_000), PACKET, &mut pool, &mut out);
        assert_eq!(verdict, Verdict::Forward);
        out.clear();
    }
}
