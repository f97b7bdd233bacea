//! What a call costs in memory: counted by an allocator that counts.
#![allow(unsafe_code, reason = "implementing GlobalAlloc is unsafe; this file counts memory")]

use base::{Instant, PortId};
use core::sync::atomic::{AtomicUsize, Ordering};
use media::{Media, MediaPort};
use sim::scene::{Scene, image};
use sim::world::Options;
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::time::Duration;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A slot of the region, as the engine maps it for each call.
const RECORD: usize = 8 * 1024;
const CALLS: u32 = 500;

fn world() -> Scene {
    let mut image = image();
    image.trunks.iter_mut().for_each(|trunk| trunk.media_timeout = None);
    let options =
        Options { calls: CALLS, pairs: 2 * CALLS as u16, shards: 1, ..Options::default() };
    Scene::with(image, options)
}

/// What the shards of a world hold.
fn held_by(mut s: Scene) -> usize {
    let shards = s.world.take_shards();
    let before = HELD.load(Ordering::Relaxed);
    drop(shards);
    before - HELD.load(Ordering::Relaxed)
}

/// What the endpoints of the calls hold.
fn held_by_media(reserved: u32) -> usize {
    let port = |n: u32| MediaPort {
        rtp: PortId(2 * n),
        rtcp: PortId(2 * n + 1),
        address: SocketAddr::from(([192, 0, 2, 1], 20_000 + 2 * n as u16)),
        interface: 0,
    };
    let mut media = Media::new((0..2 * CALLS).map(port).collect(), [0; 32], Instant(0));
    for _ in 0..reserved {
        media.reserve(0, Instant(0)).expect("a port");
    }
    let before = HELD.load(Ordering::Relaxed);
    drop(media);
    before - HELD.load(Ordering::Relaxed)
}

fn with_calls(seconds: u64) -> Scene {
    let mut s = world();
    for call in 0..CALLS {
        s.establish(&format!("c{call}"));
    }
    s.world.run(Duration::from_secs(seconds));
    assert_eq!(s.world.shards()[0].signal().calls(), CALLS as usize);
    s
}

// One test: whatever else allocated would be counted with it.
#[test]
fn a_call_and_what_lingers_of_it() {
    let empty = held_by(world());
    let young = with_calls(0);
    let signal = young.world.shards()[0].signal();
    let (transactions, retained) = (signal.transactions(), signal.retained());
    let each = retained / transactions;
    println!("retained_per_transaction {each} bytes\ntransactions {transactions} count");
    assert!(each <= 700, "{retained} bytes of {transactions} transactions");
    let setup = (held_by(young) - empty) / CALLS as usize;
    let settled = with_calls(60);
    assert_eq!(settled.world.shards()[0].signal().transactions(), 0);
    let longest = settled.world.regions()[0].records.values().map(Vec::len).max();
    let media = held_by_media(2 * CALLS) - held_by_media(0);
    let media = media / CALLS as usize;
    let call = (held_by(settled) - empty) / CALLS as usize - media;
    println!("memory_per_call {call} bytes\nmedia_per_call {media} bytes");
    println!("memory_per_call_at_setup {} bytes", setup - media);
    println!("record_of_a_call {longest:?} bytes, in a slot of {RECORD}");
    assert!(call + RECORD <= 16 * 1024, "{call} bytes besides its record");
}
