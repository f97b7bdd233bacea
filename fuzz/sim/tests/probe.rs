//! OPTIONS of ours: a carrier that dies, that refuses, that comes back, and what calls notice of it.

use base::Instant;
use node::Letter;
use sbc::billing::Cdr;
use sbc::counters::{Counters, Unanswered};
use sbc::policy::{Face, Image, Probing, StreamListener, Target, Transport};
use sbc::question::{Answer, Hop, Query, Service};
use sim::scene::{CALLEE, SECOND, Scene, call_on, image};
use sim::world::Options;
use sim::{Text, wire};
use std::net::SocketAddr;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(10);

fn terms() -> Probing {
    Probing { every: EVERY, failures: 2, successes: 2, ..Probing::default() }
}

fn probing(terms: &Probing) -> Image {
    let mut image = image();
    image.trunks[1..].iter_mut().for_each(|trunk| trunk.probing = Some(terms.clone()));
    image
}

fn counted(s: &Scene, counter: impl Fn(&Counters) -> u64) -> u64 {
    s.world.shards().iter().map(|shard| counter(&shard.signal().counters())).sum()
}

/// Time passes; peers answer OPTIONS with their status, or not at all with 0. When each was asked.
fn live<const N: usize>(
    s: &mut Scene,
    time: Duration,
    peers: [(SocketAddr, u16); N],
) -> [Vec<Instant>; N] {
    let mut asked = [const { Vec::new() }; N];
    let (until, mut last) = (s.world.now() + time, [const { String::new() }; N]);
    while s.world.now() < until {
        s.world.run(Duration::from_millis(10));
        for (place, (peer, status)) in peers.into_iter().enumerate() {
            while let Some(arrived) = s.world.take(peer) {
                let Some(text) = Text::read(&arrived.bytes) else { continue };
                assert_eq!(text.method(), Some("OPTIONS"), "{}", text.raw);
                if text.get("Call-ID") != last[place] {
                    last[place] = text.get("Call-ID").to_owned();
                    asked[place].push(arrived.at);
                }
                if status != 0 {
                    s.world.send(peer, s.node, text.reply(status, "o", "", ""));
                }
            }
        }
    }
    asked
}

/// The next message of `peer` that is no OPTIONS.
fn next(s: &mut Scene, peer: SocketAddr) -> Text {
    loop {
        let text = s.next(peer);
        if text.method() != Some("OPTIONS") {
            return text;
        }
    }
}

/// A call is refused by whom it comes to: who that was, and how long it took to get there.
fn tried(s: &mut Scene, call: &str) -> (SocketAddr, Duration) {
    let begun = s.world.now();
    let sent = s.invite(call);
    s.expect_status(s.caller, 100);
    let peers = [s.callee, s.second];
    loop {
        s.world.run(Duration::from_millis(1));
        let took = s.world.now().since(begun);
        assert!(took < Duration::from_secs(20), "{}", s.ladder());
        for peer in peers {
            let arrived = s.world.take(peer).and_then(|a| Text::read(&a.bytes));
            let Some(invite) = arrived.filter(|text| text.method() == Some("INVITE")) else {
                continue;
            };
            s.world.send(peer, s.node, invite.reply(486, "b", "", ""));
            assert_eq!(next(s, peer).method(), Some("ACK"));
            let busy = s.expect_status(s.caller, 486);
            let ack = wire::companion(&sent.raw, "ACK", Some(busy.get("To")));
            s.world.send(s.caller, s.node, ack);
            s.world.run(Duration::from_millis(10));
            return (peer, took);
        }
    }
}

fn reasons(cdr: &Cdr) -> Vec<(String, String)> {
    let said = |a: &sbc::billing::Attempt| {
        (a.endpoint.to_string(), String::from_utf8_lossy(&a.reason).into_owned())
    };
    cdr.attempts.iter().map(said).collect()
}

/// The record of the last call.
fn latest(s: &Scene) -> Cdr {
    s.world.cdrs().into_iter().max_by_key(|cdr| cdr.setup.mono).expect("a CDR")
}

/// Questions end, and then nothing is left of them, or of the calls.
fn end(s: &mut Scene, cdrs: usize) {
    s.world.reload(image());
    s.assert_clean(cdrs);
}

#[test]
fn a_carrier_that_dies_is_passed_over_on_every_shard_until_it_is_back() {
    let mut s = Scene::with(probing(&terms()), Options::default());
    let (callee, second) = (s.callee, s.second);
    let asked = live(&mut s, EVERY * 6, [(callee, 200), (second, 200)]);
    for asked in &asked {
        assert!(asked.len() >= 6, "{asked:?}");
        for pair in asked.windows(2) {
            let gap = pair[1].since(pair[0]);
            assert!(gap >= EVERY.mul_f64(0.79) && gap <= EVERY.mul_f64(1.02), "{gap:?}");
        }
    }
    assert_ne!(asked[0][0], asked[1][0], "not all at once");
    for shard in [0, 1] {
        let (peer, took) = tried(&mut s, &call_on(shard, "before"));
        assert!(peer == callee && took < Duration::from_millis(200), "{peer} after {took:?}");
    }
    // Dead: one answer missed changes nothing, the second does.
    live(&mut s, EVERY * 3, [(callee, 0), (second, 200)]);
    assert!(counted(&s, |c| c.probes_failed.get(Unanswered::Timeout.index())) >= 2);
    for shard in [0, 1] {
        let (peer, took) = tried(&mut s, &call_on(shard, "dead"));
        assert!(peer == second && took < Duration::from_millis(200), "{peer} after {took:?}");
        let cdr = latest(&s);
        let expected = [(CALLEE, "endpoint_down"), (SECOND, "route_refused")];
        assert_eq!(reasons(&cdr), expected.map(|(at, why)| (at.to_owned(), why.to_owned())));
    }
    let answered = counted(&s, |c| c.probes_answered.get());
    live(&mut s, EVERY * 2, [(callee, 200), (second, 200)]);
    assert!(counted(&s, |c| c.probes_answered.get()) > answered);
    for shard in [0, 1] {
        assert_eq!(tried(&mut s, &call_on(shard, "back")).0, callee, "{}", s.ladder());
    }
    end(&mut s, 6);
}

#[test]
fn the_request_is_a_whole_one_and_says_what_calls_would() {
    let mut image = probing(&terms());
    let profile = &mut image.trunks[1].profile;
    profile.from_host = Some("sbc.example".into());
    profile.contact_host = Some("sbc.example".into());
    profile.request_host = Some("sip.carrier.example".into());
    let mut s = Scene::with(image, Options::default());
    let options = s.expect(s.callee, "OPTIONS");
    assert_eq!(options.uri(), "sip:sip.carrier.example");
    assert!(options.get("From").starts_with("<sip:sbc.example>;tag="), "{}", options.raw);
    assert_eq!(options.get("To"), "<sip:sip.carrier.example>");
    assert_eq!(options.get("Contact"), "<sip:sbc.example:5060>");
    assert_eq!((options.get("CSeq"), options.get("Max-Forwards")), ("1 OPTIONS", "70"));
    assert!(options.get("Allow").contains("INVITE") && options.get("Via").contains("z9hG4bK"));
    let plain = s.expect(s.second, "OPTIONS");
    assert_eq!(plain.uri(), format!("sip:{SECOND}"));
    assert_ne!(plain.get("Call-ID"), options.get("Call-ID"));
    // Repeated while nobody answers, as any request.
    let again = s.expect(s.callee, "OPTIONS");
    assert_eq!(again.raw, options.raw);
}

#[test]
fn who_refuses_options_lives_and_who_is_out_of_service_does_not() {
    for (status, is_alive) in [(404, true), (405, true), (483, true), (500, true), (503, false)] {
        let mut s = Scene::with(probing(&terms()), Options::default());
        let (callee, second) = (s.callee, s.second);
        live(&mut s, EVERY * 4, [(callee, status), (second, 200)]);
        let expected = if is_alive { callee } else { second };
        assert_eq!(tried(&mut s, "c1").0, expected, "{status}");
        let refused = counted(&s, |c| c.probes_failed.get(Unanswered::Status.index()));
        assert_eq!(refused > 0, !is_alive, "{status}");
    }
}

#[test]
fn with_nobody_left_calls_go_where_they_went_or_are_refused_at_once() {
    let mut s = Scene::with(probing(&terms()), Options::default());
    let (callee, second) = (s.callee, s.second);
    live(&mut s, EVERY * 4, [(callee, 0), (second, 0)]);
    assert_eq!(tried(&mut s, "c1").0, callee, "the last resort");
    let mut s =
        Scene::with(probing(&Probing { last_resort: false, ..terms() }), Options::default());
    live(&mut s, EVERY * 4, [(callee, 0), (second, 0)]);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let begun = s.world.now();
    let refused = s.expect_status(s.caller, 503);
    assert!(refused.raw.contains("endpoint_down"), "{}", refused.raw);
    assert!(s.world.now().since(begun) < Duration::from_millis(100));
    s.world.run(Duration::from_secs(1));
    assert_eq!(reasons(&s.world.cdrs()[0]).len(), 2);
}

#[test]
fn a_reload_forgets_nobody_and_asks_whom_it_brings() {
    let mut s = Scene::with(image(), Options::default());
    let (callee, second) = (s.callee, s.second);
    let asked = live(&mut s, EVERY * 2, [(callee, 200), (second, 200)]);
    assert_eq!(asked, [[], []], "nobody is asked unless it is written");
    let mut one = probing(&terms());
    one.trunks[2].probing = None;
    s.world.reload(one.clone());
    let asked = live(&mut s, EVERY * 4, [(callee, 0), (second, 200)]);
    assert!(asked[0].len() >= 3 && asked[1].is_empty(), "{asked:?}");
    // It is out, and that is known after a reload that says nothing about it.
    one.trunks[2].probing = Some(terms());
    s.world.reload(one);
    assert_eq!(tried(&mut s, "c1").0, second);
    let asked = live(&mut s, EVERY * 2, [(callee, 0), (second, 200)]);
    assert!(!asked[1].is_empty());
    // Who is not asked any more is taken to be there.
    s.world.reload(image());
    s.world.run(Duration::from_secs(5));
    while s.world.take(callee).is_some() {}
    assert_eq!(tried(&mut s, "c2").0, callee);
    let asked = live(&mut s, EVERY * 2, [(callee, 200), (second, 200)]);
    assert_eq!(asked, [[], []]);
    s.assert_clean(2);
}

#[test]
fn each_server_of_a_name_is_asked() {
    let query = Query { host: "carrier.example".into(), service: Service::Udp };
    let mut image = probing(&terms());
    image.trunks[1].endpoints = vec![Target::Name(query.clone())];
    image.trunks[2].probing = None;
    let mut s = Scene::with(image, Options::default());
    let hop = |(priority, address): (u16, &str)| {
        let address: SocketAddr = address.parse().expect("an address");
        Hop { priority, weight: 1, port: address.port(), addresses: vec![address.ip()] }
    };
    let hops: Vec<Hop> = [(1, CALLEE), (2, SECOND)].map(hop).into();
    for shard in 0..s.world.shards().len() {
        let (query, hops) = (query.clone(), hops.clone());
        s.world.post(shard, Letter::Answer(Answer { query, hops, ttl_s: 3600, stale_s: 0 }));
    }
    let (callee, second) = (s.callee, s.second);
    let asked = live(&mut s, EVERY * 4, [(callee, 0), (second, 200)]);
    assert!(asked.iter().all(|asked| asked.len() >= 3), "{asked:?}");
    let (peer, took) = tried(&mut s, "c1");
    assert!(peer == second && took < Duration::from_millis(200), "{peer} after {took:?}");
    let options = s.world.ladder.iter().find(|line| line.contains("OPTIONS")).cloned();
    assert!(options.is_some_and(|line| line.contains("carrier.example")), "{}", s.ladder());
}

#[test]
fn a_connection_that_cannot_be_made_is_an_answer() {
    let mut image = probing(&terms());
    let face = Face { transport: Transport::Tcp, sent_by: "192.0.2.1:5062".into() };
    image.streams.push(StreamListener { interface: 0, face });
    image.trunks[1].transport = Transport::Tcp;
    let mut s = Scene::with(image, Options::default());
    s.world.reach(s.callee, false);
    let second = s.second;
    live(&mut s, EVERY * 3, [(second, 200)]);
    assert!(counted(&s, |c| c.probes_failed.get(Unanswered::Transport.index())) >= 2);
    assert_eq!(tried(&mut s, "c1").0, second);
    let cdr = latest(&s);
    assert_eq!(reasons(&cdr)[0], (CALLEE.to_owned(), "endpoint_down".to_owned()));
}
