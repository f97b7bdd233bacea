//! A name with several servers: the call goes from one to the next (RFC 3263 4.3), and its record tells
//! each address.

use node::Letter;
use sbc::policy::{Face, Image, StreamListener, Target, Transport};
use sbc::question::{Answer, Hop, Query, Service};
use sim::scene::{CALLEE, SECOND, Scene, image};
use sim::wire;
use std::net::SocketAddr;
use std::time::Duration;

/// A server of the name at which nobody is.
const DEAD: &str = "203.0.113.99:5070";
const STREAMS: &str = "192.0.2.1:5062";

fn query(service: Service) -> Query {
    Query { host: "carrier.example".into(), service }
}

/// The first callee's trunk has a name, and there is no other.
fn named(service: Service) -> Image {
    let mut image = image();
    image.trunks[1].endpoints = vec![Target::Name(query(service))];
    image.routes[0].targets.truncate(1);
    image
}

/// The servers of the name, by priority.
fn tell(s: &mut Scene, service: Service, servers: &[&str], ttl_s: u32, stale_s: u32) {
    let hop = |(priority, address): (u16, &&str)| {
        let address: SocketAddr = address.parse().expect("an address");
        Hop { priority, weight: 1, port: address.port(), addresses: vec![address.ip()] }
    };
    let hops: Vec<Hop> = (1..).zip(servers).map(hop).collect();
    for shard in 0..s.world.shards().len() {
        let (query, hops) = (query(service), hops.clone());
        s.world.post(shard, Letter::Answer(Answer { query, hops, ttl_s, stale_s }));
    }
    s.world.run(Duration::from_millis(1));
}

fn attempts(s: &Scene, cdr: usize) -> Vec<(String, u16)> {
    let cdr = &s.world.cdrs()[cdr];
    cdr.attempts.iter().map(|a| (a.endpoint.to_string(), a.status)).collect()
}

#[test]
fn silence_and_503_lead_to_the_next_server_of_the_name() {
    let mut s = Scene::with(named(Service::Udp), Default::default());
    s.world.peer(DEAD);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    // The call waits for the answer, and goes on with it.
    tell(&mut s, Service::Udp, &[DEAD, SECOND, CALLEE], 60, 0);
    let begun = s.world.now();
    let busy = s.expect(s.second, "INVITE");
    let waited = s.world.now().since(begun);
    assert!((3_900..4_200).contains(&waited.as_millis()), "trying_timeout, not {waited:?}");
    s.world.send(s.second, s.node, busy.reply(503, "b", "", ""));
    s.expect(s.second, "ACK");
    let last = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, last.reply(486, "c", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
    s.assert_clean(1);
    let tried = attempts(&s, 0);
    assert_eq!(tried.iter().map(|t| &*t.0).collect::<Vec<_>>(), [DEAD, SECOND, CALLEE]);
    assert_eq!(tried.iter().map(|t| t.1).collect::<Vec<_>>(), [408, 503, 486]);
}

#[test]
fn a_server_that_cannot_be_dialled_costs_no_time() {
    let mut image = named(Service::Tcp);
    let face = Face { transport: Transport::Tcp, sent_by: STREAMS.into() };
    image.streams.push(StreamListener { interface: 0, face });
    image.trunks[1].transport = Transport::Tcp;
    let mut s = Scene::with(image, Default::default());
    s.world.reach(s.callee, false);
    tell(&mut s, Service::Tcp, &[CALLEE, SECOND], 60, 0);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let begun = s.world.now();
    let invite = s.expect(s.second, "INVITE");
    assert!(s.world.now().since(begun) < Duration::from_millis(100), "{}", s.ladder());
    let streams = STREAMS.parse().expect("an address");
    s.world.send(s.second, streams, invite.reply(486, "b", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 486);
    s.world.run(Duration::from_secs(40));
    assert_eq!(attempts(&s, 0).iter().map(|t| &*t.0).collect::<Vec<_>>(), [CALLEE, SECOND]);
}

#[test]
fn an_answer_past_its_time_carries_calls_until_it_is_too_old() {
    let mut s = Scene::with(named(Service::Port(5060)), Default::default());
    tell(&mut s, Service::Port(5060), &[CALLEE], 2, 5);
    let used = |s: &Scene| -> u64 {
        s.world.shards().iter().map(|n| n.signal().counters().stale_names.get()).sum()
    };
    for (call, stale) in [("c1", 0), ("c2", 1)] {
        let sent = s.invite(call);
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, invite.reply(486, "c", "", ""));
        s.expect(s.callee, "ACK");
        let busy = s.expect_status(s.caller, 486);
        let ack = wire::companion(&sent.raw, "ACK", Some(busy.get("To")));
        s.world.send(s.caller, s.node, ack);
        assert_eq!(used(&s), stale);
        s.world.run(Duration::from_secs(3));
    }
    s.world.run(Duration::from_secs(2));
    s.invite("c3");
    s.expect_status(s.caller, 100);
    let refused = s.expect_status(s.caller, 503);
    assert!(refused.raw.contains("name_unresolved"), "{}", refused.raw);
    s.assert_clean(3);
}
