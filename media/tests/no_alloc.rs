//! The relay path takes no memory, in no mode, and a leg no more than its share: counted by an allocator that counts.
#![allow(unsafe_code, reason = "implementing GlobalAlloc is unsafe; this file tests allocation")]

mod world;

use base::{PortId, Texts};
use core::cell::Cell;
use core::time::Duration;
use media::dtls::Role;
use media::srtp::{Keys, MasterKey, Suite};
use media::{Carries, Digit, Events, Learn, Plan, Pressed, Reports, Security, Verdict};
use std::alloc::{GlobalAlloc, Layout, System};
use world::link::Link;
use world::{ALICE, BOB, World, at, report, voice};

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread took and has not given back.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        HELD.with(|held| held.set(held.get() + layout.size() as i64));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get() - layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keys that are the same both ways: what was sealed for a leg can come back from it.
fn keys(suite: Suite) -> Security {
    let key = || MasterKey::new(suite, &[7; 46][..suite.key_len() + suite.salt_len()]);
    let (ingress, egress) = (key().expect("it fits"), key().expect("it fits"));
    Security::Keys(Box::new(Keys { suite, ingress, egress, mki_len: 0 }))
}

#[test]
fn protecting_takes_no_memory() {
    for suite in Suite::ALL {
        let mut w = World::new();
        let (alice, bob) = (w.alice, w.bob);
        w.program(bob, |plan| plan.security = keys(suite));
        let packets: Vec<Vec<u8>> = (0..1_000).map(voice).collect();
        let (reports, mut sealed) = (report(1, 1, 0), [0; 256]);
        let before = TAKEN.with(Cell::get);
        for packet in &packets {
            w.pass(20);
            assert_eq!(w.rtp(alice, ALICE, packet), Verdict::Forward);
            let sent = w.out.pop().expect("it was forwarded").bytes;
            let sealed = &mut sealed[..sent.len as usize];
            sealed.copy_from_slice(w.pool.get(sent));
            assert_eq!(w.rtp(bob, BOB, sealed), Verdict::Forward);
            assert!(matches!(w.rtp(bob, BOB, sealed), Verdict::Discard(_)));
            assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &reports), Verdict::Forward);
            w.out.clear();
        }
        assert_eq!(TAKEN.with(Cell::get) - before, 0, "{suite:?}");
    }
}

#[test]
fn receiving_takes_no_memory() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| {
        plan.learn = Learn::First { window: Duration::from_secs(1), same_ip: None };
    });
    let packets: Vec<Vec<u8>> = (0..1_000).map(voice).collect();
    let reports = report(1, 1, 0);
    let before = TAKEN.with(Cell::get);
    for packet in &packets {
        w.pass(20);
        assert_eq!(w.rtp(alice, "192.0.2.1:31000", packet), Verdict::Forward);
        assert_eq!(w.rtp(bob, BOB, packet), Verdict::Forward);
        assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &reports), Verdict::Forward);
        assert!(matches!(w.rtp(alice, ALICE, packet), Verdict::Discard(_)));
        assert_eq!(w.rtp(bob, BOB, &[]), Verdict::Absorb);
        w.out.clear();
    }
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
}

#[test]
fn a_stream_of_our_own_with_reports_and_digits_takes_no_memory() {
    for taken in [false, true] {
        let mut w = World::new();
        let (alice, bob) = (w.alice, w.bob);
        let events = Events { from: 101, to: 101, rate: 8_000, taken };
        for end in [alice, bob] {
            w.program(end, |plan| {
                (plan.own_stream, plan.events) = (true, Some(events));
                plan.reports = Reports::Extended;
            });
        }
        // A digit of five packets among speech, again and again.
        let packets: Vec<Vec<u8>> = (0..1_000u16)
            .map(|i| {
                let mut packet = voice(i);
                if i % 50 < 5 {
                    packet[1] = 101;
                    packet[4..8].copy_from_slice(&(u32::from(i / 50) * 8_000).to_be_bytes());
                    packet.truncate(12);
                    packet.extend_from_slice(&[5, if i % 50 == 4 { 0x8a } else { 10 }, 1, 64]);
                }
                packet
            })
            .collect();
        let (reports, mut notices) = (report(1, 1, 0), Vec::with_capacity(16));
        for (i, packet) in packets.iter().enumerate() {
            // What is pressed waits in a queue that has grown to its size after the first.
            let before = TAKEN.with(Cell::get);
            w.pass(20);
            let is_event = packet[1] == 101;
            let expected = if is_event && taken { Verdict::Absorb } else { Verdict::Forward };
            assert_eq!(w.rtp(alice, ALICE, packet), expected);
            assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &reports), Verdict::Forward);
            w.out.clear();
            assert!(i < 50 || TAKEN.with(Cell::get) == before, "packet {i}, {taken}");
            w.media.sweep(w.now.mono, &mut notices);
            notices.clear();
        }
    }
}

#[test]
fn keys_we_press_and_reports_we_write_take_no_memory() {
    let protection = Suite::ALL.map(keys);
    for security in [Security::None].into_iter().chain(protection) {
        let mut w = World::new();
        let (alice, bob) = (w.alice, w.bob);
        w.program(alice, |plan| {
            plan.events = Some(Events { from: 101, to: 101, rate: 8_000, taken: true });
            (plan.own_stream, plan.reports) = (true, Reports::Extended);
            plan.security = security.clone();
        });
        let packets: Vec<Vec<u8>> = (0..3_000).map(voice).collect();
        let (mut texts, mut notices) = (Texts::default(), Vec::with_capacity(16));
        let (mut before, mut made) = (0, 0);
        let pressed = Pressed { digit: Digit::of_name(b'5').expect("a digit"), duration_ms: 100 };
        for (i, packet) in packets.iter().enumerate() {
            // The lanes and queues have grown to their size after some seconds.
            if i == 1_000 {
                (before, made) = (TAKEN.with(Cell::get), 0);
            }
            w.pass(20);
            if i % 50 == 0 {
                assert!(w.media.press(w.now.mono, alice, pressed));
            }
            let verdict = w.rtp(bob, BOB, packet);
            assert!(matches!(verdict, Verdict::Forward | Verdict::Absorb), "{verdict:?}");
            w.out.clear();
            w.media.keys(w.now.mono, &mut texts);
            w.media.sweep(w.now.mono, &mut notices);
            w.media.reports(w.now, &mut texts);
            made += texts.sends.len();
            texts.clear();
            notices.clear();
        }
        assert_eq!(TAKEN.with(Cell::get), before, "{security:?}");
        // Seven events a key, forty keys, and a report now and then.
        assert!(made > 40 * 7, "{made} packets of our own");
    }
}

#[test]
fn media_that_comes_back_to_us_takes_no_memory() {
    let mut w = World::new();
    let port = |w: &World, end| {
        let local = w.media.local(end).expect("reserved");
        PortId(u32::from(local.rtp.port()) - 10_000)
    };
    let packets: Vec<Vec<u8>> = (0..1_000).map(voice).collect();
    for round in 0..3 {
        let (alice, bob) = (port(&w, w.alice), port(&w, w.bob));
        let before = TAKEN.with(Cell::get);
        for packet in &packets {
            w.pass(20);
            assert_eq!(w.arrive(alice, ALICE, packet), Verdict::Forward);
            assert_eq!(w.arrive(bob, BOB, packet), Verdict::Forward);
            w.out.clear();
        }
        assert_eq!(TAKEN.with(Cell::get), before, "round {round}");
        // The media goes from peer to peer: we keep no endpoint, and stragglers are turned away.
        for end in [w.alice, w.bob] {
            assert!(w.media.release(end, w.now.mono).is_some());
        }
        let before = TAKEN.with(Cell::get);
        for packet in &packets {
            assert!(matches!(w.arrive(alice, ALICE, packet), Verdict::Discard(_)));
        }
        assert_eq!(TAKEN.with(Cell::get), before, "round {round}");
        w.pass(10_000);
        w.alice = w.media.reserve(0, w.now.mono).expect("a port");
        w.bob = w.media.reserve(0, w.now.mono).expect("a port");
        w.media.program(w.now.mono, w.alice, Plan::towards(at(ALICE)));
        w.media.program(w.now.mono, w.bob, Plan::towards(at(BOB)));
        w.media.join(w.alice, w.bob);
    }
}

#[test]
fn a_tapped_leg_takes_no_memory() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    for end in [alice, bob] {
        w.program(end, |plan| plan.tap = true);
    }
    w.program(bob, |plan| plan.security = keys(Suite::AesCm128HmacSha1_80));
    let packets: Vec<Vec<u8>> = (0..2_000).map(voice).collect();
    let (reports, before, mut copies) = (report(1, 1, 0), TAKEN.with(Cell::get), 0);
    for (i, packet) in packets.iter().enumerate() {
        assert!(matches!(w.rtp(alice, BOB, packet), Verdict::Discard(_)));
        assert_eq!(w.rtp(alice, ALICE, packet), Verdict::Forward);
        assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &reports), Verdict::Forward);
        w.out.clear();
        // First turns that are short, then one that all the room is not enough for.
        if i < 500 {
            w.media.take_copies(|copied| copies += usize::from(copied.payload.is_some()));
        }
    }
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
    assert_eq!(copies, 1_000);
    assert!(w.media.counters.tap_dropped.get() > 0);
}

#[test]
fn a_fax_takes_no_memory() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    for end in [alice, bob] {
        w.program(end, |plan| plan.carries = Carries::Fax);
    }
    let before = TAKEN.with(Cell::get);
    for n in 0..=255 {
        w.pass(30);
        assert_eq!(w.rtp(alice, ALICE, &[0, n, 1, 6, 0, 1, 1, 4]), Verdict::Forward);
        assert_eq!(w.rtp(bob, BOB, &[0, n, 1, 6, 0, 1, 1, 4]), Verdict::Forward);
        assert!(matches!(w.rtp(bob, BOB, &[0, n, 1]), Verdict::Discard(_)));
        w.out.clear();
    }
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
}

#[test]
fn media_under_the_keys_of_a_handshake_takes_no_memory() {
    let mut link = Link::agreed(Role::Passive);
    link.shake(|_| false);
    let (from, to) = (link.near.alice, link.far.alice);
    let packets: Vec<Vec<u8>> = (0..1_000).map(voice).collect();
    let (reports, mut sealed) = (report(1, 1, 0), [0; 256]);
    let before = TAKEN.with(Cell::get);
    for packet in &packets {
        link.near.pass(20);
        link.far.pass(20);
        assert_eq!(link.near.rtp(from, ALICE, packet), Verdict::Forward);
        let sent = link.near.out.pop().expect("it was forwarded").bytes;
        let sealed = &mut sealed[..sent.len as usize];
        sealed.copy_from_slice(link.near.pool.get(sent));
        assert_eq!(link.far.rtp(to, ALICE, sealed), Verdict::Forward);
        assert!(matches!(link.far.rtp(to, ALICE, sealed), Verdict::Discard(_)));
        assert_eq!(link.near.rtcp(from, "192.0.2.1:4001", &reports), Verdict::Forward);
        link.near.out.clear();
        link.far.out.clear();
    }
    assert_eq!(TAKEN.with(Cell::get) - before, 0);
}

#[test]
fn an_encrypted_leg_takes_its_share_of_memory() {
    let mut link = Link::new();
    let before = HELD.with(Cell::get);
    link.agree(Role::Passive, 0);
    link.shake(|_| false);
    let after = HELD.with(Cell::get);
    for i in 1..60 {
        link.near.pass(1_000);
        link.far.pass(1_000);
        link.shake(|_| false);
        assert!(link.carry(&voice(i)).is_ok());
    }
    let later = HELD.with(Cell::get);
    // Two legs, one of each relay; what the lanes keep is of all legs.
    let [just_after, at_rest] = [after, later].map(|held| (held - before) / 2);
    println!("a leg with DTLS: {just_after} bytes just after its handshake, {at_rest} at rest");
    // Of the handshake nothing is left but its last flight; a relay has one room for all handshakes.
    assert!(just_after < 4 * 1024 + 8_192, "{just_after}");
    let mut w = World::new();
    let (bob, before) = (w.bob, HELD.with(Cell::get));
    w.program(bob, |plan| plan.security = keys(Suite::AesCm128HmacSha1_80));
    let sdes = HELD.with(Cell::get) - before;
    println!("a leg with keys of SIP: {sdes} bytes");
    assert!(at_rest < 6 * 1024 + 8_192 && sdes < 6 * 1024, "{at_rest}, {sdes}");
}
