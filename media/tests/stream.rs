//! Our own stream towards a leg: as its receiver sees it, whoever speaks.

mod world;

use base::Texts;
use media::rtp::{self, Header};
use media::{Discard, Frame, Media, Verdict};
use world::{ALICE, BOB, World, ports, voice};

/// Bob gets one stream of ours.
fn world() -> World {
    let mut w = World::new();
    let bob = w.bob;
    w.program(bob, |plan| plan.own_stream = true);
    w
}

/// Alice sends a packet; how it leaves for Bob.
fn heard(w: &mut World, packet: &[u8]) -> Header {
    let alice = w.alice;
    assert_eq!(w.rtp(alice, ALICE, packet), Verdict::Forward);
    let sent = w.out.pop().expect("it was forwarded");
    assert_eq!(w.pool.get(sent.bytes)[12..], packet[12..]);
    rtp::read(w.pool.get(sent.bytes)).expect("a valid header")
}

#[test]
fn only_the_leg_that_asks_for_a_stream_gets_one() {
    let mut w = world();
    let bob = w.bob;
    let first = heard(&mut w, &voice(7));
    assert_ne!(first.ssrc, 42);
    w.pass(20);
    let next = heard(&mut w, &voice(8));
    assert_eq!((next.ssrc, next.sequence), (first.ssrc, first.sequence + 1));
    assert_eq!(next.timestamp, first.timestamp + 160);
    assert_eq!(w.rtp(bob, BOB, &voice(9)), Verdict::Forward);
    let sent = w.out.pop().unwrap();
    assert_eq!(w.pool.get(sent.bytes), voice(9), "towards Alice nothing is changed");
}

#[test]
fn a_new_source_and_a_hold_go_unnoticed_by_the_receiver() {
    let mut w = world();
    let (alice, bob) = (w.alice, w.bob);
    let first = heard(&mut w, &voice(7));
    w.pass(20);
    let mut other = voice(40_000);
    other[8..12].copy_from_slice(&[9; 4]);
    let next = heard(&mut w, &other);
    assert_eq!((next.ssrc, next.sequence), (first.ssrc, first.sequence + 1));
    w.program(bob, |plan| plan.send = false);
    w.pass(20);
    other[3] += 1;
    assert_eq!(w.rtp(alice, ALICE, &other), Verdict::Discard(Discard::PeerNotSending));
    w.program(bob, |plan| (plan.send, plan.own_stream) = (true, false));
    w.pass(20);
    other[3] += 1;
    let last = heard(&mut w, &other);
    assert_eq!((last.ssrc, last.sequence), (first.ssrc, first.sequence + 3));
}

/// What may happen to a source in mid-call: how its packet `n` of 300 looks.
type Sender = (&'static str, fn(u32) -> Vec<u8>);

fn made(ssrc: u32, sequence: u32, timestamp: u32) -> Vec<u8> {
    let mut bytes = voice(sequence as u16);
    bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
    bytes
}

const SENDERS: [Sender; 6] = [
    ("another source each second", |n| made(n / 50, n + n / 50 * 777, n * 160)),
    ("numbers that jump ahead", |n| made(1, n + n / 100 * 20_000, n * 160)),
    ("numbers that jump back", |n| made(1, 60_000 + n - n / 100 * 20_000, n * 160)),
    ("numbers that wrap", |n| made(1, 65_400 + n, n.wrapping_sub(100).wrapping_mul(160))),
    ("a clock that is set anew", |n| made(1, n, n * 160 + n / 100 * 1_900_000_000)),
    ("all of it", |n| made(n / 100, n + n / 100 * 40_000, n * 160 + n / 100 * 0x7000_0000)),
];

#[test]
fn whatever_happens_to_a_source_its_receiver_hears_one_stream_without_a_gap() {
    for (what, sender) in SENDERS {
        let mut w = world();
        let mut last: Option<Header> = None;
        for n in 0..300 {
            let header = heard(&mut w, &sender(n));
            if let Some(last) = last {
                assert_eq!(header.ssrc, last.ssrc, "{what}, {n}");
                assert_eq!(header.sequence, last.sequence.wrapping_add(1), "{what}, {n}");
                assert_eq!(header.timestamp, last.timestamp.wrapping_add(160), "{what}, {n}");
            }
            last = Some(header);
            w.pass(20);
        }
        let report = w.media.report(w.alice).unwrap();
        assert_eq!((report.packets, report.discarded), (300, 0), "{what}");
        // A jump is believed when the next packet confirms it, and nothing of it is loss.
        assert!(report.lost <= 2, "{what}: {report:?}");
        assert!(report.jitter_us < 5_000, "{what}: {report:?}");
    }
}

#[test]
fn where_there_is_no_stream_of_ours_what_happens_to_a_source_goes_on_as_it_is() {
    for (what, sender) in SENDERS {
        let mut w = World::new();
        let alice = w.alice;
        for n in 0..300 {
            assert_eq!(w.rtp(alice, ALICE, &sender(n)), Verdict::Forward, "{what}");
            let sent = w.out.pop().expect("it was forwarded");
            assert_eq!(w.pool.get(sent.bytes), sender(n), "{what}, {n}");
            w.pass(20);
        }
        let report = w.media.report(alice).unwrap();
        assert_eq!((report.packets, report.discarded), (300, 0), "{what}");
        assert!(report.lost <= 2, "{what}: {report:?}");
    }
}

#[test]
fn reports_are_about_the_streams_their_readers_know() {
    let mut w = world();
    let (alice, bob) = (w.alice, w.bob);
    let first = heard(&mut w, &voice(700));
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let left = |w: &mut World| {
        let sent = w.out.pop().expect("it was forwarded");
        w.pool.get(sent.bytes).to_vec()
    };
    // Alice's report: Bob knows her by our name, and her clock by ours.
    let mut sender = world::report(1, 0, 0);
    sender[16..20].copy_from_slice(&(700u32 * 160).to_be_bytes());
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &sender), Verdict::Forward);
    let said = left(&mut w);
    assert_eq!((word(&said, 4), word(&said, 16)), (first.ssrc, first.timestamp));
    // Bob's report about our stream: Alice reads of her own.
    let mut about = world::report(2, 0, 0);
    about[28..32].copy_from_slice(&first.ssrc.to_be_bytes());
    about[36..40].copy_from_slice(&u32::from(first.sequence).to_be_bytes());
    assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &about), Verdict::Forward);
    let said = left(&mut w);
    assert_eq!((word(&said, 4), word(&said, 28), word(&said, 36) as u16), (42, 42, 700));
}

#[test]
fn packets_of_our_own_are_part_of_the_stream() {
    let (mut w, mut texts) = (world(), Texts::default());
    let (alice, bob) = (w.alice, w.bob);
    let before = heard(&mut w, &voice(7));
    w.pass(20);
    let timestamp = w.media.timestamp(bob, 8_000, w.now.mono).unwrap();
    let frame = Frame { payload_type: 101, marker: true, timestamp, payload: &[5, 10, 0, 160] };
    w.media.originate(w.now.mono, bob, frame, &mut texts).unwrap();
    let ours = texts.get(texts.sends[0].bytes);
    let header = rtp::read(ours).unwrap();
    assert_eq!((texts.sends[0].to.to_string(), &ours[12..]), (BOB.to_string(), frame.payload));
    assert_eq!((header.payload_type, header.marker), (101, true));
    assert_eq!((header.ssrc, header.sequence), (before.ssrc, before.sequence + 1));
    assert_eq!(header.timestamp, before.timestamp + 160);
    let after = heard(&mut w, &voice(8));
    assert_eq!(after.sequence, before.sequence + 2);
    assert_eq!(w.media.report(bob).unwrap().sent_packets, 3);
    let refused = w.media.originate(w.now.mono, alice, frame, &mut texts);
    assert_eq!(refused, Err(Discard::NoPlan), "Alice hears Bob's own stream");
    w.program(bob, |plan| plan.send = false);
    let refused = w.media.originate(w.now.mono, bob, frame, &mut texts);
    assert_eq!(refused, Err(Discard::PeerNotSending));
}

#[test]
fn a_thawed_endpoint_goes_on_under_another_name() {
    let mut w = world();
    let (alice, bob) = (w.alice, w.bob);
    let mut names = vec![heard(&mut w, &voice(1)).ssrc];
    for life in 2..5 {
        let records = [alice, bob].map(|end| (end, w.media.freeze(end).unwrap()));
        w.media = Media::new(ports(4), [life; 32], w.now.mono);
        for (key, record) in records {
            w.media.thaw(key, record, w.now.mono).unwrap();
        }
        w.pass(20);
        names.push(heard(&mut w, &voice(u16::from(life))).ssrc);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4);
}
