//! What is copied of tapped legs: what each sent, as it came and in the clear, and nothing that was discarded.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use base::record::Plain;
use core::time::Duration;
use media::srtp::{Keys, MasterKey, Suite};
use media::{Carries, Discard, EndKey, EndRecord, Events, Learn, Media, Security, Verdict};
use world::{ALICE, BOB, World, report, voice};

/// A copy as its parts: the endpoint, the path, the payload.
type Parts = (EndKey, String, String, Option<Vec<u8>>);

fn copies(media: &mut Media) -> Vec<Parts> {
    let mut copies = Vec::new();
    media.take_copies(|copied| {
        let payload = copied.payload.map(<[u8]>::to_vec);
        copies.push((copied.end, copied.source.to_string(), copied.to.to_string(), payload));
    });
    copies
}

fn tapped() -> World {
    let mut w = World::new();
    for end in [w.alice, w.bob] {
        w.program(end, |plan| plan.tap = true);
    }
    w
}

fn local(w: &World, end: EndKey) -> (String, String) {
    let local = w.media.local(end).unwrap();
    (local.rtp.to_string(), local.rtcp.to_string())
}

#[test]
fn both_legs_are_copied_as_they_send_and_no_other() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), Verdict::Forward);
    assert_eq!(copies(&mut w.media), []);

    w.program(alice, |plan| plan.tap = true);
    assert_eq!(w.rtp(alice, ALICE, &voice(2)), Verdict::Forward);
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(1, 1, 0)), Verdict::Forward);
    assert_eq!(w.rtp(bob, BOB, &voice(7)), Verdict::Forward);
    let (rtp, rtcp) = local(&w, alice);
    let expected = [
        (alice, ALICE.to_owned(), rtp, Some(voice(2))),
        (alice, "192.0.2.1:4001".to_owned(), rtcp, Some(report(1, 1, 0))),
    ];
    assert_eq!(copies(&mut w.media), expected);
    assert_eq!(copies(&mut w.media), [], "given away once");

    w.program(bob, |plan| plan.tap = true);
    w.program(alice, |plan| plan.tap = false);
    assert_eq!(w.rtp(alice, ALICE, &voice(3)), Verdict::Forward);
    assert_eq!(w.rtp(bob, BOB, &voice(8)), Verdict::Forward);
    assert_eq!(copies(&mut w.media), [(bob, BOB.to_owned(), local(&w, bob).0, Some(voice(8)))]);
}

#[test]
fn a_copy_is_what_came_whatever_the_other_leg_is_sent() {
    let mut w = tapped();
    let (alice, bob) = (w.alice, w.bob);
    let events = Some(Events { from: 101, to: 96, rate: 8_000, taken: false });
    w.program(alice, |plan| plan.events = events);
    w.program(bob, |plan| (plan.own_stream, plan.events) = (true, events));
    let mut event = voice(2);
    event[1] = 101;
    event.truncate(12);
    event.extend_from_slice(&[5, 10, 0, 160]);
    for packet in [&voice(1), &event] {
        assert_eq!(w.rtp(alice, ALICE, packet), Verdict::Forward);
        let sent = w.out.pop().unwrap();
        assert_ne!(w.pool.get(sent.bytes), &packet[..], "it goes on as another stream");
        assert_eq!(copies(&mut w.media)[0].3.as_ref(), Some(packet));
    }
}

#[test]
fn srtp_is_copied_in_the_clear() {
    let mut w = tapped();
    let (alice, bob) = (w.alice, w.bob);
    let suite = Suite::AesCm128HmacSha1_80;
    let key = || MasterKey::new(suite, &[7; 30]).unwrap();
    let keys = Keys { suite, ingress: key(), egress: key(), mki_len: 0 };
    w.program(bob, |plan| plan.security = Security::Keys(Box::new(keys)));
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), Verdict::Forward);
    let sent = w.out.pop().unwrap().bytes;
    let sealed = w.pool.get(sent).to_vec();
    assert!(!sealed.windows(8).any(|octets| octets == [0xd5; 8]), "it is hidden");
    assert_eq!(copies(&mut w.media)[0].3, Some(voice(1)));

    // The keys are the same both ways: what Bob was sent may come from him.
    assert_eq!(w.rtp(bob, BOB, &sealed), Verdict::Forward);
    let copies = copies(&mut w.media);
    let payload = copies[0].3.as_ref().unwrap();
    assert_eq!((copies[0].0, payload.len()), (bob, 172));
    assert_eq!((&payload[2..12], &payload[12..]), (&sealed[2..12], &voice(1)[12..]));
}

#[test]
fn a_fax_is_copied() {
    let mut w = tapped();
    let (alice, bob) = (w.alice, w.bob);
    for end in [alice, bob] {
        w.program(end, |plan| plan.carries = Carries::Fax);
    }
    assert_eq!(w.rtp(alice, ALICE, &[0, 1, 1, 6, 0, 1, 1, 4]), Verdict::Forward);
    assert_eq!(copies(&mut w.media)[0].3, Some(vec![0, 1, 1, 6, 0, 1, 1, 4]));
}

#[test]
fn what_is_discarded_or_no_media_is_not_copied() {
    let mut w = tapped();
    let (alice, bob) = (w.alice, w.bob);
    let refused = |w: &mut World, source, packet: &[u8], reason| {
        assert_eq!(w.rtp(alice, source, packet), Verdict::Discard(reason));
        assert_eq!(copies(&mut w.media), [], "{reason:?}");
    };
    refused(&mut w, BOB, &voice(1), Discard::WrongSource);
    refused(&mut w, ALICE, &[0x80, 0, 0], Discard::Short);
    assert_eq!(w.rtp(alice, ALICE, &[]), Verdict::Absorb);
    assert_eq!(copies(&mut w.media), [], "a keepalive");
    w.program(bob, |plan| plan.send = false);
    refused(&mut w, ALICE, &voice(2), Discard::PeerNotSending);
    w.program(bob, |plan| (plan.send, plan.own_stream) = (true, true));
    assert_eq!(w.rtp(alice, ALICE, &voice(3)), Verdict::Forward);
    assert_eq!(copies(&mut w.media).len(), 1);
    refused(&mut w, ALICE, &voice(3), Discard::Repeated);
    w.program(alice, |plan| plan.receive = false);
    refused(&mut w, ALICE, &voice(4), Discard::NotReceiving);
    w.program(alice, |plan| plan.receive = true);
    w.media.part(alice);
    refused(&mut w, ALICE, &voice(5), Discard::NoPeer);
}

#[test]
fn what_does_not_fit_into_a_turn_is_counted_and_goes_on() {
    let mut w = tapped();
    let (alice, mut long) = (w.alice, voice(0));
    long.resize(1_400, 0xd5);
    for sequence in 0..1_100u16 {
        long[2..4].copy_from_slice(&sequence.to_be_bytes());
        assert_eq!(w.rtp(alice, ALICE, &long), Verdict::Forward);
        w.out.clear();
    }
    let copies = copies(&mut w.media);
    let whole = copies.iter().filter(|(.., payload)| payload.is_some()).count();
    assert_eq!((copies.len(), whole), (1_024, 256 * 1_024 / 1_400));
    assert!(copies[..whole].iter().all(|(.., payload)| payload.is_some()), "the first ones");
    assert_eq!(w.media.counters.tap_dropped.get(), 1_100 - whole as u64);
    assert_eq!(w.media.counters.packets_relayed.get(), 1_100);
    assert_eq!(w.rtp(alice, ALICE, &voice(1_100)), Verdict::Forward);
    assert_eq!(self::copies(&mut w.media).len(), 1, "the next turn has room again");
}

#[test]
fn a_tap_changes_nothing_else() {
    let mut w = World::new();
    let alice = w.alice;
    w.program(alice, |plan| {
        plan.learn = Learn::First { window: Duration::from_millis(300), same_ip: None };
    });
    w.pass(400);
    w.program(alice, |plan| plan.tap = true);
    let elsewhere = w.rtp(alice, "192.0.2.1:31000", &voice(1));
    assert_eq!(elsewhere, Verdict::Discard(Discard::WrongSource), "the window is not open again");
    // An address that is news is told as ever, of a leg that is tapped too.
    w.program(alice, |plan| plan.inactivity = Some(Duration::from_secs(60)));
    assert_eq!(w.rtp(alice, "192.0.2.1:31000", &voice(2)), Verdict::Forward);
    let mut notices = Vec::new();
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(copies(&mut w.media).len(), 1);
}

#[test]
fn a_record_knows_of_no_tap() {
    let mut w = tapped();
    let mut bytes = Vec::new();
    w.media.freeze(w.alice).unwrap().put(&mut bytes);
    let record = EndRecord::take(&mut &bytes[..]).unwrap();
    w.media.release(w.alice, w.now.mono).unwrap();
    w.media.thaw(w.alice, record, w.now.mono).unwrap();
    assert!(!w.media.plan(w.alice).unwrap().tap);
}
