//! Digits: heard from a leg, sent to one, and what the other leg hears meanwhile.

mod world;

use base::{PortId, Texts};
use media::{Digit, Discard, Events, Notice, Pressed, Verdict, rtp};
use world::{ALICE, BOB, World, voice};

const EVENTS: Events = Events { from: 101, to: 96, rate: 8_000, taken: true };

/// Alice speaks digits as events, Bob does not; both get streams of our own.
fn world() -> World {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| (plan.own_stream, plan.events) = (true, Some(EVENTS)));
    w.program(bob, |plan| plan.own_stream = true);
    w
}

/// An event packet of Alice.
fn event(sequence: u16, timestamp: u32, payload: [u8; 4]) -> Vec<u8> {
    let mut bytes = voice(sequence);
    bytes[1] = 101;
    bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    bytes.truncate(12);
    bytes.extend_from_slice(&payload);
    bytes
}

fn told(w: &mut World) -> Vec<(char, u32)> {
    let mut notices = Vec::new();
    w.media.sweep(w.now.mono, &mut notices);
    let alice = w.alice;
    let told = notices.into_iter().map(|notice| match notice {
        Notice::Pressed { end, pressed } => {
            assert_eq!(end, alice);
            (pressed.digit.name(), pressed.duration_ms)
        }
        other @ (Notice::Silent { .. }
        | Notice::Latched { .. }
        | Notice::Sampled(_)
        | Notice::Secured { .. }
        | Notice::Unsecured { .. }) => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn events_that_are_taken_are_told_and_leave_no_gap() {
    let mut w = world();
    let alice = w.alice;
    let forwarded = |w: &mut World, sequence: u16| {
        assert_eq!(w.rtp(alice, ALICE, &voice(sequence)), Verdict::Forward);
        let sent = w.out.pop().unwrap();
        rtp::read(w.pool.get(sent.bytes)).unwrap().sequence
    };
    let before = forwarded(&mut w, 1);
    for (sequence, payload) in (2..).zip([[5, 10, 0, 160], [5, 10, 1, 64], [5, 138, 1, 224]]) {
        w.pass(20);
        assert_eq!(w.rtp(alice, ALICE, &event(sequence, 320, payload)), Verdict::Absorb);
    }
    assert!(w.media.next_sweep().is_some_and(|due| due <= w.now.mono), "it is told at once");
    assert_eq!(told(&mut w), [('5', 60)]);
    assert_eq!(forwarded(&mut w, 5), before + 1);
    assert_eq!(
        w.rtp(alice, ALICE, &event(6, 9_999, [5, 10, 0, 1])[..15]),
        Verdict::Discard(Discard::BadEvent)
    );
}

#[test]
fn a_lost_end_is_told_after_a_while() {
    let (mut w, mut texts) = (world(), Texts::default());
    let alice = w.alice;
    w.rtp(alice, ALICE, &event(2, 320, [11, 10, 3, 32]));
    assert_eq!(told(&mut w), []);
    w.pass(149);
    w.media.keys(w.now.mono, &mut texts);
    assert_eq!(told(&mut w), []);
    w.pass(1);
    assert!(w.media.next_sweep().is_some_and(|due| due <= w.now.mono));
    w.media.keys(w.now.mono, &mut texts);
    assert_eq!(told(&mut w), [('#', 100)]);
    assert!(texts.sends.is_empty());
}

#[test]
fn events_that_are_not_taken_go_on_and_are_told() {
    let mut w = world();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| plan.events = Some(Events { taken: false, ..EVENTS }));
    w.program(bob, |plan| plan.own_stream = false);
    assert_eq!(w.rtp(alice, ALICE, &event(2, 320, [1, 138, 3, 32])), Verdict::Forward);
    assert_eq!(told(&mut w), [('1', 100)]);
}

#[test]
fn a_leg_hears_our_keys_and_nobody_meanwhile() {
    let (mut w, mut texts) = (world(), Texts::default());
    let (alice, bob) = (w.alice, w.bob);
    assert_eq!(w.rtp(bob, BOB, &voice(1)), Verdict::Forward);
    let first = rtp::read(w.pool.get(w.out[0].bytes)).unwrap();
    let pressed = Pressed { digit: Digit::of_name(b'9').unwrap(), duration_ms: 60 };
    assert!(w.media.press(w.now.mono, alice, pressed));
    assert!(!w.media.press(w.now.mono, bob, pressed), "Bob hears no events");
    let mut sent = vec![first.sequence];
    for sequence in 2..12 {
        w.media.keys(w.now.mono, &mut texts);
        for send in texts.sends.drain(..) {
            assert_eq!((send.port, send.to.to_string().as_str()), (PortId(2 * alice.index), ALICE));
        }
        w.out.clear();
        w.rtp(bob, BOB, &voice(sequence));
        sent.extend(w.out.iter().map(|s| rtp::read(w.pool.get(s.bytes)).unwrap().sequence));
        w.pass(20);
    }
    // Five events while speech was withheld, then speech again, in one unbroken run.
    let run: Vec<u16> = (first.sequence..).take(1).chain((first.sequence + 6..).take(6)).collect();
    assert_eq!(sent, run);
    assert_eq!(w.media.counters.digits_sent.get(), 1);
    assert_eq!(w.media.counters.digits_refused.get(), 1);
}
