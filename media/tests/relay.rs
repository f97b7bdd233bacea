//! The relay as signalling and two legs see it: directions, multiplexing, notices, reports, records.

mod world;

use base::counter::Group;
use base::record;
use base::{Instant, Now};
use core::time::Duration;
use media::srtp::{Keys, MasterKey, Suite};
use media::{
    CannotThaw, Discard, EndRecord, Learn, Media, NoPort, Notice, Plan, Security, Verdict,
};
use world::{ALICE, BOB, World, at, ports, report, voice};

const FORWARD: Verdict = Verdict::Forward;

fn discard(reason: Discard) -> Verdict {
    Verdict::Discard(reason)
}

#[test]
fn media_flows_both_ways_and_is_counted() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    for i in 0..50 {
        w.pass(20);
        assert_eq!(w.rtp(alice, ALICE, &voice(i)), FORWARD);
        assert_eq!(w.left(), [(2, BOB.to_string())]);
        assert_eq!(w.rtp(bob, BOB, &voice(i)), FORWARD);
        assert_eq!(w.left(), [(0, ALICE.to_string())]);
    }
    let report = w.media.report(alice).unwrap();
    assert_eq!((report.packets, report.octets, report.lost), (50, 50 * 172, 0));
    assert_eq!((report.sent_packets, report.sent_octets), (50, 50 * 172));
    assert_eq!((report.mos_centi, report.r_factor, report.jitter_us), (439, 92, 0));
    assert_eq!(report.last_heard, Some(w.now.mono));
    assert_eq!(w.media.counters.packets_relayed.get(), 100);
    assert_eq!(w.media.counters.octets_relayed.get(), 100 * 172);
}

#[test]
fn rtcp_leaves_where_each_leg_wants_it() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0)), FORWARD);
    assert_eq!(w.left(), [(3, "198.51.100.1:6001".to_string())]);
    w.program(bob, |plan| plan.rtcp_mux = true);
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0)), FORWARD);
    assert_eq!(w.left(), [(2, BOB.to_string())], "the other leg multiplexes");
    assert_eq!(w.rtp(bob, BOB, &report(1, 0, 0)), FORWARD);
    assert_eq!(w.left(), [(1, "192.0.2.1:4001".to_string())], "this leg multiplexes");
    w.program(alice, |plan| plan.rtcp_mux = true);
    assert_eq!(w.rtp(bob, BOB, &report(1, 0, 0)), FORWARD);
    assert_eq!(w.left(), [(0, ALICE.to_string())], "both do");
    assert_eq!(w.media.counters.rtcp_relayed.get(), 4);
    w.program(alice, |plan| plan.remote_rtp = None);
    assert_eq!(w.rtp(bob, BOB, &report(1, 0, 0)), Verdict::Absorb);
    assert_eq!(w.media.counters.rtcp_absorbed.get(), 1);
}

#[test]
fn round_trips_are_measured_per_leg() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(77, 0, 0)), FORWARD);
    w.pass(1_050);
    assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &report(88, 77, 65_536)), FORWARD);
    let seen = w.media.report(bob).unwrap();
    assert_eq!((seen.rtt_us, seen.rtcp_received), (Some(50_000), 1));
    let heard = seen.heard_by_leg.unwrap();
    assert_eq!((heard.fraction_lost, heard.lost, heard.jitter), (26, 5, 80));
    assert_eq!(w.media.report(alice).unwrap().rtt_us, None);
}

#[test]
fn hold_stops_rtp_in_the_direction_it_says_and_rtcp_never() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| plan.receive = false);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), discard(Discard::NotReceiving));
    assert_eq!(w.rtp(bob, BOB, &voice(1)), FORWARD);
    w.program(alice, |plan| (plan.receive, plan.send) = (true, false));
    assert_eq!(w.rtp(alice, ALICE, &voice(2)), FORWARD);
    assert_eq!(w.rtp(bob, BOB, &voice(2)), discard(Discard::PeerNotSending));
    assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &report(1, 0, 0)), FORWARD);
    assert_eq!(w.media.report(alice).unwrap().packets, 2, "held media is still received");
    assert_eq!(w.media.report(alice).unwrap().discarded, 1);
}

#[test]
fn every_discard_is_reachable_and_counted_by_name() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    let fresh = w.media.reserve(0, w.now.mono).unwrap();
    let mut seen = vec![
        w.arrive(base::PortId(99), ALICE, &voice(1)),
        w.arrive(base::PortId(6), ALICE, &voice(1)),
        w.rtp(fresh, ALICE, &voice(1)),
        w.rtp(alice, ALICE, &[0x80]),
        w.rtp(alice, ALICE, &[0x80; 11]),
        w.rtp(alice, ALICE, &[0, 1, 0, 0]),
        w.rtp(alice, ALICE, &[22, 254, 253, 0]),
        w.rtp(alice, ALICE, &[16, 0, 0, 0]),
        w.rtp(alice, ALICE, &[64, 0, 0, 0]),
        w.rtp(alice, ALICE, &[5, 0, 0, 0]),
        w.rtp(alice, ALICE, &[0xc0; 40]),
        w.rtp(alice, ALICE, &[0x8f; 20]),
        w.rtcp(alice, "192.0.2.1:4001", &[0x80, 200, 0, 9]),
        w.rtp(alice, ALICE, &report(1, 0, 0)),
        w.rtp(alice, BOB, &voice(1)),
    ];
    let events = media::Events { from: 0, to: 0, rate: 8_000, taken: true };
    w.program(alice, |plan| plan.events = Some(events));
    seen.push(w.rtp(alice, ALICE, &voice(1)[..15]));
    w.program(alice, |plan| plan.events = None);
    w.program(bob, |plan| plan.own_stream = true);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
    seen.push(w.rtp(alice, ALICE, &voice(1)));
    w.left();
    let suite = Suite::AesCm128HmacSha1_80;
    let key = |seed| MasterKey::new(suite, &[seed; 30]).unwrap();
    let keys = |suite| Keys { suite, ingress: key(1), egress: key(1), mki_len: 0 };
    w.program(bob, |plan| plan.security = Security::Keys(Box::new(keys(suite))));
    assert_eq!(w.rtp(alice, ALICE, &voice(3)), FORWARD);
    let sealed = w.pool.get(w.out.pop().unwrap().bytes).to_vec();
    assert_eq!(w.rtp(bob, BOB, &sealed), FORWARD);
    w.left();
    seen.push(w.rtp(bob, BOB, &sealed));
    let mut long = voice(2);
    long.resize(4_090, 0);
    seen.push(w.rtp(alice, ALICE, &long));
    seen.push(w.rtp(bob, BOB, &voice(1)));
    w.program(bob, |plan| plan.security = Security::None);
    let unfit = keys(Suite::AeadAes256Gcm);
    w.program(bob, |plan| plan.security = Security::Keys(Box::new(unfit)));
    seen.push(w.rtp(bob, BOB, &voice(1)));
    w.program(bob, |plan| plan.send = false);
    seen.push(w.rtp(alice, ALICE, &voice(1)));
    w.program(bob, |plan| (plan.send, plan.remote_rtp) = (true, None));
    seen.push(w.rtp(alice, ALICE, &voice(1)));
    w.media.part(alice);
    seen.push(w.rtp(alice, ALICE, &voice(1)));
    w.program(alice, |plan| plan.receive = false);
    seen.push(w.rtp(alice, ALICE, &voice(1)));
    w.media.truncated(base::PortId(0));
    // How the others are reached, `srtp.rs`, `attacker.rs`, `dtls.rs` and `fax.rs` show.
    let elsewhere = [Discard::KeySpent, Discard::StunRate, Discard::DtlsBusy, Discard::BadUdptl];
    for &reason in Discard::ALL.iter().filter(|reason| !elsewhere.contains(reason)) {
        let count = seen.iter().filter(|&&v| v == discard(reason)).count() as u64;
        let expected = count + u64::from(reason == Discard::Truncated);
        assert!(expected > 0, "{} was not reached", reason.name());
        assert_eq!(w.media.counters.discards.get(reason.index()), expected, "{}", reason.name());
    }
    assert!(w.left().is_empty());
    // Three were to nobody or to another endpoint, three to Bob.
    assert_eq!(w.media.report(alice).unwrap().discarded, seen.len() as u64 + 1 - 6);
}

#[test]
fn keepalives_of_a_known_source_are_absorbed() {
    let mut w = World::new();
    let alice = w.alice;
    assert_eq!(w.rtp(alice, ALICE, &[]), Verdict::Absorb);
    assert_eq!(w.rtp(alice, BOB, &[]), discard(Discard::WrongSource));
    assert_eq!(w.media.counters.keepalives.get(), 1);
    assert_eq!(w.media.report(alice).unwrap().last_heard, None);
}

#[test]
fn silence_is_told_once_until_the_leg_is_heard_again() {
    let mut w = World::new();
    let alice = w.alice;
    w.program(alice, |plan| plan.inactivity = Some(Duration::from_secs(10)));
    let programmed = w.now.mono;
    let mut notices = Vec::new();
    for _ in 0..40 {
        w.pass(500);
        w.media.sweep(w.now.mono, &mut notices);
    }
    assert_eq!(notices, [Notice::Silent { end: alice, since: programmed }]);
    notices.clear();
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0)), FORWARD);
    let heard = w.now.mono;
    for _ in 0..40 {
        w.pass(500);
        w.media.sweep(w.now.mono, &mut notices);
    }
    assert_eq!(notices, [Notice::Silent { end: alice, since: heard }]);
    assert_eq!(w.media.counters.silences.get(), 2);
}

#[test]
fn a_new_plan_and_a_thaw_start_the_patience_anew() {
    let mut w = World::new();
    let (alice, mut notices) = (w.alice, Vec::new());
    let patience = |plan: &mut Plan| plan.inactivity = Some(Duration::from_secs(10));
    for _ in 0..2 {
        w.program(alice, patience);
        let since = w.now.mono;
        w.pass(11_000);
        w.media.sweep(w.now.mono, &mut notices);
        assert_eq!(std::mem::take(&mut notices), [Notice::Silent { end: alice, since }]);
    }
    w.program(alice, patience);
    let record = w.media.freeze(alice).unwrap();
    w.pass(60_000);
    w.media = Media::new(ports(4), [1; 32], w.now.mono);
    w.media.thaw(alice, record, w.now.mono).unwrap();
    let since = w.now.mono;
    w.pass(9_000);
    w.media.sweep(w.now.mono, &mut notices);
    assert!(notices.is_empty(), "the time away is not held against the leg");
    w.pass(2_000);
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices, [Notice::Silent { end: alice, since }]);
}

#[test]
fn addresses_learned_are_told_once_per_sweep_and_again_after_it() {
    let mut w = World::new();
    let (alice, mut notices) = (w.alice, Vec::new());
    let learn = Learn::First { window: Duration::from_secs(1), same_ip: None };
    for remote in 1..=3u16 {
        w.program(alice, |plan| {
            plan.learn = learn;
            plan.remote_rtp = Some(std::net::SocketAddr::from(([10, 0, 0, 1], remote)));
        });
        assert_eq!(w.rtp(alice, "192.0.2.1:31000", &voice(remote)), FORWARD);
    }
    let told = Notice::Latched { end: alice, to: at("192.0.2.1:31000") };
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices, [told]);
    w.program(alice, |plan| plan.remote_rtp = Some(at("10.0.0.1:9")));
    assert_eq!(w.rtp(alice, "192.0.2.1:31000", &voice(9)), FORWARD);
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices, [told, told]);
}

#[test]
fn a_sweep_looks_at_a_bounded_number_and_at_all_within_two_seconds() {
    let mut now = Instant(1_000_000_000);
    let mut media = Media::new(ports(2_000), [1; 32], now);
    let mut plan = Plan::towards(at(ALICE));
    plan.inactivity = Some(Duration::from_millis(1));
    for _ in 0..2_000 {
        let end = media.reserve(0, now).unwrap();
        media.program(now, end, plan.clone());
    }
    let (mut told, mut out) = (0, Vec::new());
    let until = now + Duration::from_secs(2);
    while let Some(due) = media.next_sweep().filter(|&due| due <= until) {
        now = due;
        media.sweep(now, &mut out);
        assert!(out.len() <= 256);
        told += out.drain(..).count();
    }
    assert_eq!(told, 2_000);
}

#[test]
fn targets_that_are_nobodys_are_refused() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    for bad in ["127.0.0.1:9", "224.0.0.1:9", "0.0.0.0:9", "192.0.2.9:0", "[2001:db8::1]:9"] {
        w.program(bob, |plan| plan.remote_rtp = Some(at(bad)));
        assert_eq!(w.rtp(alice, ALICE, &voice(1)), discard(Discard::NoRemote), "{bad}");
    }
    assert_eq!(w.media.counters.targets_refused.get(), 5);
    w.program(bob, |plan| plan.remote_rtp = Some(at("[::ffff:192.0.2.9]:4000")));
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
    assert_eq!(w.left(), [(2, "192.0.2.9:4000".to_string())]);
    w.program(bob, |plan| {
        plan.allow = base::Allow::LOOPBACK;
        plan.remote_rtp = Some(at("127.0.0.1:9"));
    });
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
}

#[test]
fn released_ports_rest_and_their_late_packets_reach_nobody() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
    assert_eq!(w.media.release(alice, w.now.mono).map(|r| r.packets), Some(1));
    assert_eq!((w.media.release(alice, w.now.mono), w.media.report(alice)), (None, None));
    assert_eq!(w.media.peer(bob), None);
    assert_eq!(w.rtp(bob, BOB, &voice(1)), discard(Discard::NoPeer));
    assert_eq!(w.arrive(base::PortId(0), ALICE, &voice(2)), discard(Discard::IdlePort));
    let (_, _) = (w.media.reserve(0, w.now.mono), w.media.reserve(0, w.now.mono));
    assert_eq!(w.media.reserve(0, w.now.mono), Err(NoPort::Quarantined));
    assert_eq!((w.media.in_use(), w.media.ready(), w.media.quarantined()), (3, 0, 1));
    w.pass(500);
    let next = w.media.reserve(0, w.now.mono).unwrap();
    assert_eq!(w.media.local(next).unwrap().rtcp, at("203.0.113.1:10001"));
    assert_ne!(next, alice, "the old key stays dead");
    assert_eq!(w.rtp(next, ALICE, &voice(3)), discard(Discard::NoPlan));
    let counters = &w.media.counters;
    assert_eq!((counters.quarantine_shortened.get(), counters.in_use.get()), (1, 4));
    assert_eq!(counters.no_port.get(NoPort::Quarantined.index()), 1);
}

#[test]
fn a_thawed_call_goes_on_under_another_numbering() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    w.program(alice, |plan| {
        plan.learn = Learn::First { window: Duration::from_secs(1), same_ip: None };
    });
    for i in 0..10 {
        assert_eq!(w.rtp(alice, "192.0.2.77:5555", &voice(i)), FORWARD);
    }
    let sealed = [alice, bob].map(|end| {
        let mut bytes = Vec::new();
        record::seal(1, &w.media.freeze(end).unwrap(), &mut bytes);
        (end, bytes)
    });
    let mut numbered_down = ports(4);
    numbered_down.reverse();
    w.media = Media::new(numbered_down, [1; 32], w.now.mono);
    for (end, bytes) in &sealed {
        let (record, _) = record::open::<EndRecord>(1, bytes).unwrap();
        w.media.thaw(*end, record.clone(), w.now.mono).unwrap();
        assert_eq!(w.media.freeze(*end), Some(record.clone()));
        assert_eq!(w.media.thaw(*end, record, w.now.mono), Err(CannotThaw::PortTaken));
        assert!(bytes.len() <= 640, "{} bytes", bytes.len());
    }
    assert_eq!(w.rtp(alice, "192.0.2.77:5555", &voice(10)), FORWARD);
    assert_eq!(w.left().last(), Some(&(2, BOB.to_string())));
    assert_eq!(w.rtp(bob, BOB, &voice(0)), FORWARD);
    assert_eq!(w.left(), [(0, "192.0.2.77:5555".to_string())], "what was learned survives");
    let report = w.media.report(alice).unwrap();
    assert_eq!((report.packets, report.lost, report.restarts), (11, 0, 0));
    let (mut record, now) = (w.media.freeze(alice).unwrap(), w.now.mono);
    record.local = at("203.0.113.9:1");
    assert_eq!(w.media.thaw(alice, record.clone(), now), Err(CannotThaw::NoSuchPort));
    record.local = at("203.0.113.1:10006");
    assert_eq!(w.media.thaw(alice, record, now), Err(CannotThaw::KeyTaken));
    assert_eq!((w.media.in_use(), w.media.ready(), w.media.quarantined()), (2, 1, 1));
}

#[test]
fn a_record_whose_peer_was_lost_never_reaches_the_call_that_gets_its_key() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    let record = w.media.freeze(alice).unwrap();
    w.media = Media::new(ports(4), [1; 32], w.now.mono);
    w.media.thaw(alice, record, w.now.mono).unwrap();
    let other = w.media.reserve(0, w.now.mono).unwrap();
    assert_eq!(other, bob, "the lost peer's key was given again");
    w.media.program(w.now.mono, other, Plan::towards(at(BOB)));
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), discard(Discard::NoPeer));
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0)), Verdict::Absorb);
    w.media.part(alice);
    w.media.join(alice, other);
    assert_eq!(w.rtp(alice, ALICE, &voice(2)), FORWARD);
}

#[test]
fn joining_anew_leaves_no_third_leg_listening() {
    let mut w = World::new();
    let (alice, bob) = (w.alice, w.bob);
    let carol = w.media.reserve(0, w.now.mono).unwrap();
    w.media.program(w.now.mono, carol, Plan::towards(at("203.0.113.200:7000")));
    w.media.join(alice, carol);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
    assert_eq!(w.left(), [(4, "203.0.113.200:7000".to_string())]);
    assert_eq!(w.rtp(bob, BOB, &voice(1)), discard(Discard::NoPeer));
    w.media.join(bob, carol);
    assert_eq!(w.media.freeze(alice).unwrap().peer, None);
    w.media.join(alice, carol);
    w.media.join(alice, alice);
    w.media.release(bob, w.now.mono);
    w.media.join(alice, bob);
    assert_eq!(w.media.peer(alice), Some(carol), "nonsense changes nothing");
}

#[test]
fn every_metric_is_named_once() {
    let w = World::new();
    let mut names = Vec::new();
    w.media.counters.visit(&mut |m, _| names.push((m.name, m.label)));
    assert!(names.iter().all(|(name, _)| name.starts_with("tandem_media_")));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn what_the_kernel_could_not_deliver_is_counted_and_ends_nothing() {
    let mut w = World::new();
    let alice = w.alice;
    w.media.undeliverable(base::PortId(0));
    assert_eq!(w.media.counters.undeliverable.get(), 1);
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
}

#[test]
fn time_in_the_future_of_a_packet_is_harmless() {
    let mut w = World::new();
    let alice = w.alice;
    w.now = Now::default();
    assert_eq!(w.rtp(alice, ALICE, &voice(1)), FORWARD);
}
