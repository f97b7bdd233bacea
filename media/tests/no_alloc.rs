//! The relay path takes no memory: counted by an allocator that counts.
#![allow(unsafe_code, reason = "implementing GlobalAlloc is unsafe; this file tests allocation")]

mod world;

use core::cell::Cell;
use core::time::Duration;
use media::srtp::{Keys, MasterKey, Suite};
use media::{Learn, Security, Verdict};
use std::alloc::{GlobalAlloc, Layout, System};
use world::{ALICE, BOB, World, report, voice};

struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn protecting_takes_no_memory() {
    for suite in Suite::ALL {
        let mut w = World::new();
        let (alice, bob) = (w.alice, w.bob);
        // One key both ways: what was sealed for Bob can come back from him.
        let bytes = [7; 46];
        let key = || MasterKey::new(suite, &bytes[..suite.key_len() + suite.salt_len()]);
        let (ingress, egress) = (key().expect("it fits"), key().expect("it fits"));
        let keys = Keys { suite, ingress, egress, mki_len: 0 };
        w.program(bob, |plan| plan.security = Security::Keys(Box::new(keys)));
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
