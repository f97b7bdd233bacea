//! What a stranger on the path of nobody gets: nothing (RTP bleed, stolen latches, floods).

mod world;

use base::PortId;
use core::time::Duration;
use media::{Discard, Learn, Notice, Verdict};
use proptest::prelude::*;
use world::{ALICE, BOB, World, at, report, voice};

const NAT: &str = "192.0.2.1:31000";
const WRONG: Verdict = Verdict::Discard(Discard::WrongSource);

fn learning(w: &mut World, same_ip: Option<&str>) {
    let alice = w.alice;
    w.program(alice, |plan| {
        plan.remote_rtp = Some(at("10.1.2.3:4000"));
        plan.remote_rtcp = Some(at("10.1.2.3:4001"));
        plan.learn = Learn::First {
            window: Duration::from_millis(500),
            same_ip: same_ip.map(|ip| at(ip).ip()),
        };
    });
}

proptest! {
    #[test]
    fn without_learning_no_stranger_gets_one_packet_in_or_out(
        ip in any::<u32>(), port in any::<u16>(), on_rtcp in any::<bool>(), sequence in any::<u16>(),
    ) {
        let mut w = World::new();
        let (alice, bob) = (w.alice, w.bob);
        let source = std::net::SocketAddr::from((ip.to_be_bytes(), port));
        prop_assume!(source != at(ALICE) && source != at("192.0.2.1:4001"));
        let source = source.to_string();
        let verdict = match on_rtcp {
            true => w.rtcp(alice, &source, &report(1, 0, 0)),
            false => w.rtp(alice, &source, &voice(sequence)),
        };
        prop_assert_eq!(verdict, WRONG);
        prop_assert!(w.left().is_empty());
        prop_assert_eq!(w.rtp(bob, BOB, &voice(1)), Verdict::Forward);
        prop_assert_eq!(w.left(), vec![(0, ALICE.to_string())]);
        prop_assert_eq!(w.media.report(alice).unwrap().packets, 0);
    }

    #[test]
    fn no_bytes_panic_or_are_taken_for_media_of_a_stranger(
        bytes in prop::collection::vec(any::<u8>(), 0..200), first in any::<u8>(), on_rtcp in any::<bool>(),
    ) {
        let mut w = World::new();
        let alice = w.alice;
        let mut bytes = bytes;
        if let Some(b) = bytes.first_mut() { *b = first; }
        let verdict = match on_rtcp {
            true => w.rtcp(alice, "203.0.113.66:1", &bytes),
            false => w.rtp(alice, "203.0.113.66:1", &bytes),
        };
        prop_assert!(matches!(verdict, Verdict::Discard(_)));
        let _ = match on_rtcp {
            true => w.rtcp(alice, "192.0.2.1:4001", &bytes),
            false => w.rtp(alice, ALICE, &bytes),
        };
    }
}

#[test]
fn rtp_bleed_a_stranger_flooding_both_ports_hears_nothing() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    for i in 0..1_000 {
        w.pass(1);
        assert_eq!(w.rtp(alice, "203.0.113.66:7", &voice(i)), WRONG);
        assert_eq!(w.rtp(bob, "203.0.113.66:7", &voice(i)), WRONG);
        assert_eq!(w.rtp(bob, BOB, &voice(i)), Verdict::Forward);
    }
    assert!(w.left().iter().all(|sent| *sent == (0, ALICE.to_string())));
    let report = w.media.report(alice).unwrap();
    assert_eq!((report.packets, report.discarded, report.last_heard), (0, 1_000, None));
}

#[test]
fn a_latched_flow_does_not_move() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    learning(&mut w, None);
    assert_eq!(w.rtp(alice, NAT, &voice(1)), Verdict::Forward);
    let mut notices = Vec::new();
    assert!(w.media.next_sweep().unwrap() <= w.now.mono);
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices, [Notice::Latched { end: alice, to: at(NAT) }]);
    for thief in ["192.0.2.1:31001", "203.0.113.66:31000", "10.1.2.3:4000"] {
        assert_eq!(w.rtp(alice, thief, &voice(2)), WRONG, "{thief}");
    }
    assert_eq!(w.rtcp(alice, "203.0.113.66:31001", &report(1, 0, 0)), WRONG);
    w.left();
    assert_eq!(w.rtp(bob, BOB, &voice(1)), Verdict::Forward);
    assert_eq!(w.left(), [(0, NAT.to_string())]);
    notices.clear();
    w.media.sweep(w.now.mono, &mut notices);
    assert!(notices.is_empty() && w.media.counters.latches.get() == 1);
}

#[test]
fn only_the_signalling_address_may_be_learned_if_the_plan_says_so() {
    let mut w = World::new();
    let alice = w.alice;
    learning(&mut w, Some("192.0.2.1:5060"));
    assert_eq!(w.rtp(alice, "203.0.113.66:31000", &voice(1)), WRONG);
    assert_eq!(w.rtp(alice, NAT, &voice(1)), Verdict::Forward);
}

#[test]
fn noise_is_never_learned() {
    let mut w = World::new();
    let alice = w.alice;
    learning(&mut w, None);
    for noise in [&[][..], &[0x80; 5], &[0x8f; 30], &[0, 1, 0, 0], &[22, 0, 0, 0]] {
        assert!(matches!(w.rtp(alice, "203.0.113.66:7", noise), Verdict::Discard(_)));
    }
    assert_eq!(w.media.learned(alice), None);
    assert_eq!(w.rtp(alice, NAT, &voice(1)), Verdict::Forward);
}

#[test]
fn a_new_plan_forgets_what_was_learned_only_with_a_new_remote() {
    let mut w = World::new();
    let alice = w.alice;
    learning(&mut w, None);
    assert_eq!(w.rtp(alice, NAT, &voice(1)), Verdict::Forward);
    w.pass(1);
    w.program(alice, |plan| plan.send = false);
    assert_eq!(w.media.learned(alice), Some(at(NAT)));
    assert_eq!(w.rtp(alice, "192.0.2.1:31002", &voice(2)), WRONG, "hold opens no window");
    w.program(alice, |plan| plan.remote_rtp = Some(at("10.1.2.3:4100")));
    assert_eq!(w.media.target(alice), Some(at("10.1.2.3:4100")));
    assert_eq!(w.rtp(alice, "192.0.2.1:31002", &voice(3)), Verdict::Forward);
    assert_eq!(w.media.target(alice), Some(at("192.0.2.1:31002")));
}

#[test]
fn asymmetric_legs_send_from_their_networks_without_moving_the_target() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| {
        assert!(plan.sources.push("198.18.0.0/15".parse().unwrap()));
    });
    assert_eq!(w.rtp(alice, "198.18.3.4:9999", &voice(1)), Verdict::Forward);
    assert_eq!(w.rtp(alice, "198.20.0.1:9999", &voice(1)), WRONG);
    w.left();
    assert_eq!(w.rtp(bob, BOB, &voice(1)), Verdict::Forward);
    assert_eq!(w.left(), [(0, ALICE.to_string())]);
}

#[test]
fn whoever_asks_where_he_comes_from_is_told_where_that_is_on_and_so_many_a_second() {
    let mut w = World::new();
    let alice = w.alice;
    let request = b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction!";
    let stranger = "192.0.2.77:5000";
    assert_eq!(w.rtp(alice, stranger, request), Verdict::Discard(Discard::Stun), "it is off");
    w.program(alice, |plan| plan.stun = true);
    assert_eq!(w.rtp(alice, stranger, request), Verdict::Answer);
    let answer = w.out.pop().expect("it was answered");
    assert_eq!((answer.port, answer.to), (PortId(2 * alice.index), at(stranger)));
    let mut expected =
        b"\x01\x01\x00\x0c\x21\x12\xa4\x42transaction!\x00\x20\x00\x08\x00\x01".to_vec();
    expected.extend_from_slice(&(5_000u16 ^ 0x2112).to_be_bytes());
    expected.extend_from_slice(&(0xc000_024d_u32 ^ 0x2112_a442).to_be_bytes());
    assert_eq!(w.pool.get(answer.bytes), expected);
    assert!(answer.bytes.len <= 2 * request.len() as u32, "no amplifier");
    // One who says who he is, and is not, learns nothing; nor does he who wants what we do not know.
    let named = b"\x00\x01\x00\x08\x21\x12\xa4\x42transaction!\x00\x06\x00\x03a:b\0";
    assert_eq!(w.rtp(alice, stranger, named), Verdict::Discard(Discard::Stun));
    let mut verdicts = Vec::new();
    for _ in 0..60 {
        verdicts.push(w.rtp(alice, stranger, request));
    }
    assert_eq!(verdicts[48], Verdict::Answer);
    assert_eq!(verdicts[49], Verdict::Discard(Discard::StunRate));
    assert_eq!(w.media.counters.bindings_answered.get(), 50);
    w.pass(1_000);
    assert_eq!(w.rtp(alice, stranger, request), Verdict::Answer);
    assert_eq!(w.rtp(w.bob, stranger, request), Verdict::Discard(Discard::Stun), "off there");
}
