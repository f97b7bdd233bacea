//! T.38 through the relay: what is no UDPTL goes no further, and speech and fax do not mix.

mod world;

use media::{Carries, Discard, Verdict};
use world::{ALICE, BOB, World, voice};

/// A V.21 preamble as number `n`, with the packet before it.
fn fax(n: u8) -> [u8; 8] {
    [0, n, 1, 6, 0, 1, 1, 4]
}

fn change_over(w: &mut World, carries: Carries) {
    for end in [w.alice, w.bob] {
        w.program(end, |plan| plan.carries = carries);
    }
}

#[test]
fn a_fax_is_relayed_as_it_is_and_speech_again_afterwards() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    // Bob has a stream of our own: fax is not renumbered, and speech goes on in it later.
    w.program(bob, |plan| plan.own_stream = true);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), Verdict::Forward);
    let before = w.out.pop().map(|sent| w.pool.get(sent.bytes).to_vec()).unwrap();
    change_over(&mut w, Carries::Fax);
    for n in 0..=255 {
        w.pass(30);
        assert_eq!(w.rtp(alice, ALICE, &fax(n)), Verdict::Forward);
        let sent = w.out.pop().unwrap();
        assert_eq!((sent.to.to_string().as_str(), w.pool.get(sent.bytes)), (BOB, &fax(n)[..]));
        assert_eq!(w.rtp(bob, BOB, &fax(n)), Verdict::Forward);
        w.out.clear();
    }
    assert_eq!(w.media.counters.fax_relayed.get(), 512);
    assert_eq!(w.media.report(alice).map(|r| (r.packets, r.lost)), Some((257, 0)));
    change_over(&mut w, Carries::Speech);
    assert_eq!(w.rtp(alice, ALICE, &voice(2)), Verdict::Forward);
    let after = w.out.pop().map(|sent| w.pool.get(sent.bytes).to_vec()).unwrap();
    assert_eq!(before[8..12], after[8..12], "the same stream");
    assert_eq!(w.rtp(alice, ALICE, &fax(1)), Verdict::Discard(Discard::Stun));
}

#[test]
fn what_is_no_fax_is_dropped_by_name() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    change_over(&mut w, Carries::Fax);
    let dropped = |reason| Verdict::Discard(reason);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), dropped(Discard::BadUdptl));
    assert_eq!(w.rtp(alice, ALICE, &fax(1)[..7]), dropped(Discard::BadUdptl));
    assert_eq!(w.rtp(alice, "192.0.2.66:4000", &fax(1)), dropped(Discard::WrongSource));
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &fax(1)), dropped(Discard::UnexpectedRtcp));
    assert_eq!(w.rtp(alice, ALICE, &[]), Verdict::Absorb, "a keepalive");
    w.program(bob, |plan| plan.carries = Carries::Speech);
    assert_eq!(w.rtp(alice, ALICE, &fax(1)), dropped(Discard::NoPeer), "Bob takes speech");
    assert!(w.out.is_empty());
    let counted = w.media.counters.discards.get(Discard::BadUdptl.index());
    assert_eq!(counted, 2);
}

#[test]
fn a_fax_survives_its_process() {
    let mut w = World::new();
    change_over(&mut w, Carries::Fax);
    let frozen = [w.alice, w.bob].map(|end| (end, w.media.freeze(end).unwrap()));
    let mut next = World::new();
    next.media = media::Media::new(world::ports(4), [2; 32], next.now.mono);
    for (end, record) in frozen {
        next.media.thaw(end, record, next.now.mono).unwrap();
    }
    let alice = next.alice;
    assert_eq!(next.rtp(alice, ALICE, &fax(1)), Verdict::Forward);
    assert_eq!(next.rtp(alice, ALICE, &voice(1)), Verdict::Discard(Discard::BadUdptl));
}
