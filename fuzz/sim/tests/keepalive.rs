//! Keep-alives of ours (RFC 5626): what endpoints of a trunk with `keepalive_s` hear when nothing is said.

use sbc::policy::{Face, Image, StreamListener, Transport};
use sim::scene::{Scene, image};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(30);

fn kept(transport: Transport) -> Image {
    let mut image = image();
    if transport != Transport::Udp {
        let face = Face { transport, sent_by: "192.0.2.1:5062".into() };
        image.streams.push(StreamListener { interface: 0, face });
    }
    for trunk in &mut image.trunks[1..] {
        (trunk.transport, trunk.keepalive) = (transport, Some(EVERY));
    }
    image
}

/// Of all shards together.
fn counted(s: &Scene, counter: impl Fn(&sbc::counters::Counters) -> u64) -> u64 {
    s.world.shards().iter().map(|shard| counter(&shard.signal().counters())).sum()
}

/// The next datagram of a peer within a time, which is no SIP, and how long it took.
fn next(s: &mut Scene, peer: SocketAddr, within: Duration) -> Option<(Vec<u8>, Duration)> {
    let begun = s.world.now();
    let arrived = s.world.wait(peer, within)?;
    Some((arrived.bytes, arrived.at.since(begun)))
}

/// The answer to a Binding request: it came from here.
fn bound(request: &[u8], port: u16) -> Vec<u8> {
    let port = (port ^ 0x2112).to_be_bytes();
    let attribute = [0, 0x20, 0, 8, 0, 1, port[0], port[1], 0xe1, 0x12, 0xa4, 0x43];
    [&[1, 1, 0, 12][..], &request[4..20], &attribute].concat()
}

#[test]
fn endpoints_over_udp_are_asked_by_stun_and_heard_on_any_shard() {
    let mut s = Scene::with(kept(Transport::Udp), Options::default());
    let peers = [s.callee, s.second];
    let mut heard = [Vec::new(), Vec::new()];
    while heard.iter().any(|heard| heard.len() < 6) {
        s.world.run(Duration::from_millis(10));
        for (peer, heard) in peers.into_iter().zip(&mut heard) {
            let Some(arrived) = s.world.take(peer).filter(|_| heard.len() < 6) else { continue };
            assert_eq!(arrived.bytes[..8], [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
            heard.push(arrived.at);
            // The last answers saw another address of ours.
            let port = if heard.len() < 6 { 5060 } else { 6060 };
            s.world.send(peer, s.node, bound(&arrived.bytes, port));
        }
        assert!(s.world.now() < base::Instant(0) + EVERY * 10, "{heard:?}");
    }
    for heard in &heard {
        for pair in heard.windows(2) {
            let gap = pair[1].since(pair[0]);
            assert!(gap >= EVERY.mul_f64(0.79) && gap <= EVERY.mul_f64(1.01), "{gap:?}");
        }
    }
    s.world.run(Duration::from_millis(100));
    assert_eq!(counted(&s, |c| c.keepalives_sent.get()), 12);
    assert_eq!(counted(&s, |c| c.keepalives_answered.get()), 12, "{}", s.ladder());
    assert_eq!(counted(&s, |c| c.keepalives_rebound.get()), 2);
    assert_eq!(counted(&s, |c| c.keepalives_unanswered.get()), 0);
    // What nobody asked for changes nothing.
    s.world.send(s.callee, s.node, bound(&[0; 20], 5060));
    s.world.run(Duration::from_millis(100));
    assert_eq!(counted(&s, |c| c.keepalives_answered.get()), 12);
}

#[test]
fn an_endpoint_that_is_silent_is_asked_again_and_told_of() {
    let mut s = Scene::with(kept(Transport::Udp), Options::default());
    let callee = s.callee;
    let silent = |s: &Scene| counted(s, |c| c.keepalive_silent.get());
    let (first, _) = next(&mut s, callee, Duration::from_secs(2)).expect("a request");
    for gap_ms in [500, 1_000, 2_000] {
        let (again, after) = next(&mut s, callee, Duration::from_secs(3)).expect("again");
        assert_eq!(again, first, "the same request");
        let off = after.as_millis().abs_diff(gap_ms);
        assert!(off < 50, "after {after:?} instead of {gap_ms} ms");
    }
    s.world.run(Duration::from_secs(5));
    assert_eq!(silent(&s), 2, "nobody answers");
    assert_eq!(counted(&s, |c| c.keepalives_unanswered.get()), 2);
    let (request, _) = next(&mut s, callee, EVERY).expect("another");
    assert_ne!(request, first);
    s.world.send(s.callee, s.node, bound(&request, 5060));
    s.world.run(Duration::from_secs(6));
    assert_eq!(silent(&s), 1);
}

#[test]
fn connections_to_endpoints_hear_empty_lines() {
    let mut s = Scene::with(kept(Transport::Tcp), Options::default());
    let callee = s.callee;
    for round in 0..4 {
        let (ping, after) = next(&mut s, callee, EVERY + Duration::from_secs(1)).expect("a ping");
        assert_eq!(ping, b"\r\n\r\n");
        assert!(round == 0 || after >= EVERY.mul_f64(0.79), "{after:?}");
    }
    assert_eq!(counted(&s, |c| c.keepalives_unanswered.get()), 0);
}

#[test]
fn a_reload_begins_and_ends_them() {
    let mut s = Scene::new();
    let callee = s.callee;
    let ends = [s.callee, s.second];
    assert!(ends.into_iter().all(|peer| next(&mut s, peer, EVERY).is_none()));
    s.world.reload(kept(Transport::Udp));
    assert!(ends.into_iter().all(|peer| next(&mut s, peer, Duration::from_secs(3)).is_some()));
    s.world.reload(image());
    s.world.run(Duration::from_secs(10));
    while s.world.take(s.callee).is_some() {}
    assert!(next(&mut s, callee, EVERY * 2).is_none(), "{}", s.ladder());
}
