//! Decks change under calls: each call is bought and sold by one generation of every deck, hunting
//! included, and pays what it was told at its beginning.

use base::Instant;
use control::Event;
use control::event::Ended;
use node::Letter;
use routing_trie::Digits;
use sbc::billing::{Cdr, Quote};
use sbc::policy::Image;
use sbc::policy::plan::{Action, Bar, Porting, Quality, Record};
use sbc::quality::{Measure, Records};
use sbc::question::{Dip, PortedNumber};
use sim::carrier::wholesale;
use sim::scene::{CALLEE, SECOND, Scene};
use sim::wire;
use std::time::Duration;

/// The small carrier with every deck in one generation, bought from its two trunks.
fn carrier(generation: u32) -> Image {
    wholesale(generation, 2)
}

/// Generations of everything a call was bought and sold by.
fn generations(cdr: &Cdr) -> Vec<u32> {
    let sold = cdr.taken.as_ref().and_then(|t| t.sell.as_ref());
    let bought = cdr.attempts.iter().filter_map(|a| a.buy.as_ref());
    sold.into_iter().chain(bought).map(|q: &Quote| q.generation).collect()
}

#[test]
fn no_call_mixes_generations_and_none_is_lost() {
    let mut s = Scene::with(carrier(1), Default::default());
    let mut generation = 1;
    let calls = 200;
    for n in 0..calls {
        let begun = generation;
        s.invite(&format!("c{n}"));
        s.expect_status(s.caller, 100);
        let first = s.expect(s.callee, "INVITE");
        // Other decks come while the first vendor is being tried, and while the call is answered.
        generation += 1;
        s.world.reload(carrier(generation));
        s.world.send(s.callee, s.node, first.reply(503, "f", "", ""));
        s.expect(s.callee, "ACK");
        let invite = s.expect(s.second, "INVITE");
        let contact = format!("Contact: <sip:{SECOND}>\r\n");
        let sdp = wire::sdp("203.0.113.30:4000".parse().expect("an address"), 1, "0", "sendrecv");
        s.world.send(s.second, s.node, invite.reply(200, "x", &contact, &sdp));
        s.expect(s.second, "ACK");
        let ok = s.expect_status(s.caller, 200);
        let ack = s.in_dialog("ACK", 1, &ok, "");
        s.world.send(s.caller, s.node, ack);
        s.world.run(Duration::from_secs(2));
        generation += 1;
        s.world.reload(carrier(generation));
        let bye = s.in_dialog("BYE", 2, &ok, "");
        s.world.send(s.caller, s.node, bye);
        s.expect_status(s.caller, 200);
        s.let_go(s.second, "");
        s.world.run(Duration::from_millis(10));
        let id = format!("c{n}@caller");
        let of_this = |cdr: &Cdr| *cdr.call_id_in == *id.as_bytes();
        let cdr = s.world.cdrs().into_iter().find(of_this).expect("a CDR");
        assert_eq!(generations(&cdr), [begun; 3], "call {n}");
        let money = cdr.money().expect("a decision");
        // Whole seconds at a rate per minute, by the decks it began with.
        let seconds = cdr.answered_ms().expect("answered").div_ceil(1_000) as i64;
        let at = |rate: u32| (i64::from(rate) * 1_000 * seconds * 10 + 300) / 600;
        assert_eq!(money.cost, Some(at(begun + 1)), "call {n}");
        assert_eq!(money.price, Some(at(begun + 5)), "call {n}");
    }
    s.assert_clean(calls);
}

#[test]
fn a_status_that_stops_the_search_stops_it() {
    let mut with_stop = carrier(1);
    with_stop.trunks[1].hunt_on = vec![404, 503];
    let mut s = Scene::with(with_stop, Default::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.raw.contains(CALLEE));
    s.world.send(s.callee, s.node, invite.reply(404, "f", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 404);
    let ack = s.request("ACK", "c1", "442079460000", "", "");
    s.world.send(s.caller, s.node, ack);
    s.assert_clean(1);
    let cdr = s.world.cdrs().into_iter().last().expect("a CDR");
    assert_eq!((cdr.attempts.len(), cdr.money().and_then(|m| m.cost)), (1, Some(0)));
}

/// What the gate makes of everything told so far.
fn records(s: &Scene) -> Records {
    let mut records = Records::new(Duration::from_secs(900));
    for event in &s.world.events {
        if let Event::Attempted(what) = event {
            records.hear(0, what, Instant(1));
        }
    }
    records
}

/// A call that the first vendor refuses, if it is asked, and the second answers for a second.
fn hunted(s: &mut Scene, call: &str, first_is_asked: bool) {
    s.invite(call);
    s.expect_status(s.caller, 100);
    if first_is_asked {
        let invite = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, invite.reply(503, "f", "", ""));
        s.expect(s.callee, "ACK");
    }
    let invite = s.expect(s.second, "INVITE");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    let sdp = wire::sdp("203.0.113.30:4000".parse().expect("an address"), 1, "0", "sendrecv");
    s.world.send(s.second, s.node, invite.reply(200, "x", &contact, &sdp));
    s.expect(s.second, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_secs(1));
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.let_go(s.second, "");
    s.world.run(Duration::from_millis(10));
}

#[test]
fn what_attempts_showed_decides_and_the_cdr_says_so() {
    let mut image = carrier(1);
    if let Action::Choose(choice) = &mut image.routing.plans[0].rules[0].action {
        let bars = vec![Bar { measure: Measure::Asr, bound: 5_000 }];
        choice.quality = Quality { bars, min_calls: 30, probe_percent: 0 };
    }
    let mut s = Scene::with(image, Default::default());
    let calls = 30;
    for n in 0..calls {
        hunted(&mut s, &format!("c{n}"), true);
    }
    let told = |s: &Scene| {
        let of = |e: &Event| {
            let Event::Attempted(what) = e else { return None };
            Some((what.trunk, what.ended, what.duration_ms / 1_000))
        };
        s.world.events.iter().filter_map(of).collect::<Vec<_>>()
    };
    let both = [(1, Ended::Failed, 0), (2, Ended::Answered, 1)];
    assert_eq!(told(&s), both.repeat(calls));
    // Nothing is held against it until the gate has said so; then it is not asked any more.
    hunted(&mut s, "before", true);
    let standing = records(&s).standing(Instant(1));
    s.world.stand(standing);
    hunted(&mut s, "after", false);
    let cdr = |s: &Scene, id: &str| {
        let id = format!("{id}@caller");
        s.world.cdrs().into_iter().find(|c| *c.call_id_in == *id.as_bytes()).expect("a CDR")
    };
    let why = |cdr: &Cdr| Record::open(&cdr.why).expect("a record").to_string();
    let before = why(&cdr(&s, "before"));
    assert!(before.contains("order      1. out"), "{before}");
    let after = why(&cdr(&s, "after"));
    assert!(after.contains("asr 0.0 % of 31 calls"), "{after}");
    assert!(after.contains("order      1. second"), "{after}");
    s.assert_clean(calls + 2);
}

#[test]
fn a_refused_call_keeps_its_reasons() {
    let mut image = carrier(1);
    image.trunks[1].capacity = 0;
    image.trunks[2].capacity = 0;
    let mut s = Scene::with(image, Default::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    s.expect_status(s.caller, 503);
    let ack = s.request("ACK", "c1", "442079460000", "", "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    let cdr = s.world.cdrs().into_iter().next().expect("a CDR");
    let why = Record::open(&cdr.why).expect("a record").to_string();
    assert!(why.contains("its trunks are full") && why.contains("No vendor is left"), "{why}");
    let told = s.world.events.iter().find_map(|e| {
        let Event::Why { record, .. } = e else { return None };
        Some(record.clone())
    });
    assert_eq!(told, Some(cdr.why), "the gate was told the same");
    s.assert_clean(1);
}

/// What the first call asked.
fn asked(s: &Scene) -> Vec<String> {
    let of = |e: &Event| {
        let Event::Asked { question } = e else { return None };
        Some(question.to_string())
    };
    s.world.events.iter().filter_map(of).collect()
}

#[test]
fn a_call_waits_until_its_number_is_known_and_no_longer() {
    let mut image = carrier(1);
    image.routing.porting = Some(Porting { called: Vec::new(), strict: false });
    let mut s = Scene::with(image, Default::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    assert!(s.within(s.callee, Duration::from_millis(500)).is_none(), "it waits");
    assert_eq!(asked(&s), ["442079460000/lnp"]);
    let number: Digits = "442079460000".parse().expect("digits");
    let answer = PortedNumber { number, dip: Dip::Ported(number), ttl_s: 60 };
    s.world.post(0, Letter::Ported(answer));
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(486, "f", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
    let ack = s.request("ACK", "c1", "442079460000", "", "");
    s.world.send(s.caller, s.node, ack);
    // Known now; and when it is not any more and nobody answers, the call goes on after two seconds.
    s.world.run(Duration::from_secs(61));
    s.invite("c2");
    while !s.next(s.caller).raw.starts_with("SIP/2.0 100") {}
    assert!(s.within(s.callee, Duration::from_millis(1_900)).is_none(), "it waits");
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(asked(&s).len(), 2);
    s.world.send(s.callee, s.node, invite.reply(486, "f", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
    let ack = s.request("ACK", "c2", "442079460000", "", "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    let whys: Vec<String> = (s.world.cdrs().iter())
        .map(|cdr| Record::open(&cdr.why).expect("a record").to_string())
        .collect();
    assert!(whys[0].contains("ported    to 442079460000"), "{whys:?}");
    assert!(whys[1].contains("nobody answered"), "{whys:?}");
    s.assert_clean(2);
}
