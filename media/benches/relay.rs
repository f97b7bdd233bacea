//! Nanoseconds of logic per relayed packet, with the endpoints of one call and of many.

use base::{Bytes, Instant, Now, Pool, PortId, Wall};
use core::time::Duration;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use media::srtp::{Keys, MasterKey, Suite};
use media::{EndKey, Media, MediaPort, Plan, Security, Verdict};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PACKET: Bytes = Bytes { at: 0, len: 172 };

fn leg(index: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1024 + index as u16)
}

/// The key of the `i`th endpoint of a fresh `Media`.
fn end_of(index: u32) -> EndKey {
    EndKey { index, generation: 1 }
}

/// `calls` joined pairs: endpoint `i` faces `leg(i)` on port 2·i.
fn calls(calls: u32) -> Media {
    let now = Instant(1_000_000_000);
    let port = |i: u32| MediaPort {
        rtp: PortId(2 * i),
        rtcp: PortId(2 * i + 1),
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 2 * i as u16),
        interface: 0,
    };
    let mut media = Media::new((0..2 * calls).map(port).collect(), [1; 32], now);
    for call in 0..calls {
        let pair = [2 * call, 2 * call + 1].map(|i| {
            let end = media.reserve(0, now).expect("as many ports as endpoints");
            media.program(now, end, Plan::towards(leg(i)));
            end
        });
        media.join(pair[0], pair[1]);
    }
    media
}

fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    for count in [1u32, 1_000, 10_000] {
        let (mut media, mut pool) = (calls(count), Pool::new(2048));
        let mut out = Vec::with_capacity(64);
        let mut now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
        pool.get_mut(PACKET)[0] = 0x80;
        let (ends, mut turn, mut sequence) = (u64::from(2 * count), 0u64, 0u16);
        group.bench_function(format!("calls={count}"), |b| {
            b.iter(|| {
                turn += 1;
                if turn.is_multiple_of(ends) {
                    sequence = sequence.wrapping_add(1);
                    now = now.after(Duration::from_millis(20));
                    let header = pool.get_mut(PACKET);
                    header[2..4].copy_from_slice(&sequence.to_be_bytes());
                    header[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
                }
                // A prime stride: every endpoint once a round, none near the last one in memory.
                let end = (turn * 7_919 % ends) as u32;
                let port = PortId(2 * end);
                let verdict = media.receive(now, port, leg(end), PACKET, &mut pool, &mut out);
                if out.len() == 64 {
                    black_box(&out);
                    out.clear();
                }
                verdict
            });
        });
        let (first, lost) = (media.report(end_of(0)), media.counters.restarts.get());
        assert_eq!(media.counters.packets_relayed.get(), turn, "not everything was relayed");
        assert_eq!((first.map(|r| r.lost), lost), (Some(0), 0));
    }
    group.finish();
}

/// A packet sealed for an encrypted leg and opened when it comes back from it, with the keys of one call and of
/// many.
fn protect(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal and open");
    group.throughput(Throughput::Elements(2));
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm] {
        for count in [1u32, 1_000] {
            let (mut media, mut pool) = (calls(count), Pool::new(2048));
            let mut now = Now { mono: Instant(1_000_000_000), wall: Wall(0) };
            for call in 0..count {
                let key = || {
                    let bytes = [7; 46];
                    let bytes = &bytes[..suite.key_len() + suite.salt_len()];
                    MasterKey::new(suite, bytes).expect("of its length")
                };
                let keys = Keys { suite, ingress: key(), egress: key(), mki_len: 0 };
                let mut plan = Plan::towards(leg(2 * call + 1));
                plan.security = Security::Keys(Box::new(keys));
                media.program(now.mono, end_of(2 * call + 1), plan);
            }
            let mut out = Vec::with_capacity(2);
            let (mut turn, mut sequence) = (0u32, 0u16);
            group.bench_function(format!("{}, calls={count}", suite.name()), |b| {
                b.iter(|| {
                    turn += 1;
                    if turn.is_multiple_of(count) {
                        sequence = sequence.wrapping_add(1);
                        now = now.after(Duration::from_millis(20));
                    }
                    let header = pool.get_mut(PACKET);
                    header[0] = 0x80;
                    header[2..4].copy_from_slice(&sequence.to_be_bytes());
                    header[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
                    let near = turn.wrapping_mul(7_919) % count * 2;
                    let to = PortId(2 * near);
                    media.receive(now, to, leg(near), PACKET, &mut pool, &mut out);
                    let sealed = out.pop().expect("it was forwarded").bytes;
                    let back = PortId(2 * near + 2);
                    let verdict =
                        media.receive(now, back, leg(near + 1), sealed, &mut pool, &mut out);
                    out.clear();
                    assert_eq!(verdict, Verdict::Forward);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, relay, protect);
criterion_main!(benches);
