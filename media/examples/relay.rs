//! Relays packets of one call: to count instructions per packet.
//!
//! `valgrind --tool=callgrind target/release/examples/relay N [SUITE]`: two runs differ by the packets alone. With
//! the name of a suite one leg is encrypted, and each packet sent to it comes back from it: one is sealed and one
//! is opened for each of the N.

use base::{Bytes, Instant, Now, Pool, PortId, Wall};
use core::time::Duration;
use media::srtp::{Keys, MasterKey, Suite};
use media::{Media, MediaPort, Plan, Security, Verdict};
use std::net::SocketAddr;

const PACKET: Bytes = Bytes { at: 0, len: 172 };

fn main() {
    let mut args = std::env::args().skip(1);
    let packets: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let suite = args.next().map(|name| Suite::named(name.as_bytes()).expect("a suite"));
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
        let mut plan = Plan::towards(address(remote));
        if let Some(suite) = suite.filter(|_| remote == 4_002) {
            plan.security = Security::Keys(Box::new(keys(suite)));
        }
        media.program(start, end, plan);
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
        let sent = out.pop().expect("it was forwarded").bytes;
        if suite.is_some() {
            let verdict = media.receive(now, PortId(2), address(4_002), sent, &mut pool, &mut out);
            assert_eq!(verdict, Verdict::Forward);
        }
        out.clear();
    }
}

/// One key both ways, so that what was sealed for the leg can come back from it.
fn keys(suite: Suite) -> Keys {
    let key = || {
        let bytes = vec![7; suite.key_len() + suite.salt_len()];
        MasterKey::new(suite, &bytes).expect("of its length")
    };
    Keys { suite, ingress: key(), egress: key(), mki_len: 0 }
}
