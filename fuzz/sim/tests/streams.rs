//! Calls over connections: what is different from datagrams, and what happens when one breaks.

use node::Letter;
use sbc::policy::{Face, Image, Large, StreamListener, Transport};
use sbc::question::{Answer, Query};
use sim::scene::{CALLEE, CALLER, CALLER_MEDIA, SECOND, Scene, image};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const STREAMS: &str = "192.0.2.1:5062";
/// The caller's end of its connection, which nobody can dial.
const CLIENT: &str = "198.51.100.10:49152";

/// The caller's trunk, or those of the callees, over TCP.
fn over_tcp(caller: bool, callees: bool) -> Image {
    let mut image = image();
    let face = Face { transport: Transport::Tcp, sent_by: STREAMS.into() };
    image.streams.push(StreamListener { interface: 0, face });
    let transport = |is_stream| if is_stream { Transport::Tcp } else { Transport::Udp };
    image.trunks[0].transport = transport(caller);
    image.trunks[1].transport = transport(callees);
    image.trunks[2].transport = transport(callees);
    image
}

fn streams() -> SocketAddr {
    STREAMS.parse().expect("an address")
}

/// A scene whose caller comes over a connection.
fn dialled_in() -> Scene {
    let mut s = Scene::with(over_tcp(true, false), Options::default());
    s.node = streams();
    s.caller = s.world.peer(CLIENT);
    s
}

fn contact() -> String {
    format!("Contact: <sip:{CALLEE}>\r\n")
}

/// The callee's side over UDP answers; the caller acknowledges.
fn establish(s: &mut Scene) -> (Text, Text) {
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let answer = s.answer();
    let udp = sim::scene::NODE.parse().expect("an address");
    s.world.send(s.callee, udp, invite.reply(200, "b", &contact(), &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    (invite, ok)
}

fn callee_hangs_up(s: &mut Scene, invite: &Text) {
    let bye = s.from_callee("BYE", 1, invite, "b", "");
    s.world.send(s.callee, sim::scene::NODE.parse().expect("an address"), bye);
    s.expect_status(s.callee, 200);
}

#[test]
fn a_listener_says_its_transport() {
    let mut s = dialled_in();
    let (invite, ok) = establish(&mut s);
    assert_eq!(ok.uri_of("Contact"), format!("sip:{STREAMS};transport=tcp"));
    assert!(invite.get("Via").starts_with("SIP/2.0/UDP "), "{}", invite.raw);
    callee_hangs_up(&mut s, &invite);
    let bye = s.expect(s.caller, "BYE");
    assert!(bye.get("Via").starts_with(&format!("SIP/2.0/TCP {STREAMS};")), "{}", bye.raw);
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.assert_clean(1);
}

#[test]
fn nothing_is_repeated_over_a_connection_but_a_2xx() {
    let mut s = Scene::with(over_tcp(true, true), Options::default());
    s.node = streams();
    s.caller = s.world.peer(CLIENT);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(s.within(s.callee, Duration::from_millis(3_500)).is_none(), "{}", s.ladder());
    let answer = s.answer();
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact(), &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    // Something behind the connection may have lost it (RFC 3261 13.3.1.4).
    s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    let bye = s.expect(s.callee, "BYE");
    assert!(s.within(s.callee, Duration::from_secs(5)).is_none(), "{}", s.ladder());
    s.world.send(s.callee, s.node, bye.reply(200, "b", "", ""));
    s.assert_clean(1);
}

#[test]
fn an_answer_over_a_connection_is_the_end_of_its_transaction() {
    let mut s = dialled_in();
    let options = s.request("OPTIONS", "o", "", "", "").replace("sip:@", "sip:");
    // Between two ticks of the wheel.
    s.world.run(Duration::from_micros(10_300));
    s.world.send(s.caller, s.node, options);
    let answer = loop {
        let next = s.world.next_event().expect("an answer");
        s.world.advance_to(next);
        // Between two steps there is none: it would want a step of its own to end.
        let held = s.world.shards().iter().map(|shard| shard.signal().transactions());
        assert_eq!(held.sum::<usize>(), 0);
        if let Some(arrived) = s.world.take(s.caller) {
            break arrived;
        }
    };
    assert!(answer.bytes.starts_with(b"SIP/2.0 200 "));
}

#[test]
fn a_failure_is_not_repeated_and_its_transaction_is_gone_at_once() {
    let mut s = dialled_in();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let udp = sim::scene::NODE.parse().expect("an address");
    s.world.send(s.callee, udp, invite.reply(486, "b", "", ""));
    s.expect(s.callee, "ACK");
    let busy = s.expect_status(s.caller, 486);
    assert!(s.within(s.caller, Duration::from_secs(5)).is_none(), "{}", s.ladder());
    let ack = s.in_dialog("ACK", 1, &Text { raw: busy.raw.clone() }, "");
    s.world.send(s.caller, s.node, ack);
    s.assert_clean(1);
}

/// What its shard has no room for is refused by name over the connection it came by, and nothing else of it.
#[test]
fn a_shard_that_takes_no_more_is_refused_for() {
    let mut s = dialled_in();
    let invite = s.request("INVITE", "c1", "442079460000", "", "");
    let ack = invite.replace("INVITE", "ACK");
    for text in [invite.clone(), ack, invite.replace("INVITE", "INFO")] {
        let (port, source, proved) = (base::PortId(1), s.caller, None);
        let bytes = text.into_bytes().into();
        s.world.post(0, Letter::Returned { port, source, proved, bytes });
    }
    s.expect_status(s.caller, 503);
    s.expect_status(s.caller, 503);
    assert!(s.within(s.caller, Duration::from_secs(1)).is_none(), "{}", s.ladder());
    let refused = sbc::Refusal::ShardBusy.index();
    assert_eq!(s.world.shards()[0].signal().counters().refusals.get(refused), 2);
}

#[test]
fn a_route_that_cannot_be_dialled_costs_no_time() {
    let mut s = Scene::with(over_tcp(false, true), Options::default());
    s.world.reach(s.callee, false);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let begun = s.world.now();
    let invite = s.expect(s.second, "INVITE");
    assert!(s.world.now().since(begun) < Duration::from_millis(100), "{}", s.ladder());
    assert!(invite.uri().contains(SECOND));
    s.world.send(s.second, streams(), invite.reply(486, "b", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 486);
    s.world.run(Duration::from_secs(40));
    let cdr = &s.world.cdrs()[0];
    assert_eq!(cdr.attempts.len(), 2, "{cdr:?}");
}

#[test]
fn a_peer_is_heard_and_reached_over_its_newest_connection() {
    let mut s = dialled_in();
    let (invite, ok) = establish(&mut s);
    // It reconnects, and asks for something.
    s.caller = s.world.peer("198.51.100.10:49153");
    let options = s.in_dialog("OPTIONS", 2, &ok, "");
    s.world.send(s.caller, s.node, options);
    s.expect_status(s.caller, 200);
    callee_hangs_up(&mut s, &invite);
    s.let_go(s.caller, "");
    s.assert_clean(1);
}

#[test]
fn when_its_connection_is_gone_a_peer_is_dialled_at_its_contact() {
    let mut s = dialled_in();
    let (invite, _) = establish(&mut s);
    s.world.reach(s.caller, false);
    callee_hangs_up(&mut s, &invite);
    let at_contact = s.world.peer(CALLER);
    s.let_go(at_contact, "");
    s.assert_clean(1);
}

#[test]
fn a_peer_that_cannot_be_reached_at_all_does_not_keep_its_call() {
    let mut s = dialled_in();
    let (invite, _) = establish(&mut s);
    s.world.reach(s.caller, false);
    let at_contact = s.world.peer(CALLER);
    s.world.reach(at_contact, false);
    callee_hangs_up(&mut s, &invite);
    let begun = s.world.now();
    s.world.run(Duration::from_millis(100));
    let calls: u32 = s.world.shards().iter().map(|s| s.signal().calls() as u32).sum();
    assert_eq!(calls, 0, "after {:?}\n{}", s.world.now().since(begun), s.ladder());
    s.assert_clean(1);
}

#[test]
fn strangers_are_told_nothing_over_a_connection_either() {
    let mut s = dialled_in();
    let stranger = s.world.peer("192.0.2.77:40000");
    let invite = s.request("INVITE", "x", "442079460000", "", "");
    s.world.send(stranger, s.node, invite.clone());
    // A trunk over UDP does not open the door for its address over TCP.
    s.world.send(s.callee, s.node, invite);
    assert!(s.within(stranger, Duration::from_secs(1)).is_none());
    assert!(s.within(s.callee, Duration::from_secs(1)).is_none());
    s.assert_clean(0);
}

/// Which connection that is outlives the process: the farewells of a successor go there.
#[test]
fn the_newest_connection_is_in_the_record() {
    let mut s = dialled_in();
    let (_, ok) = establish(&mut s);
    let old = s.caller;
    s.caller = s.world.peer("198.51.100.10:49153");
    let options = s.in_dialog("OPTIONS", 2, &ok, "");
    s.world.send(s.caller, s.node, options);
    s.expect_status(s.caller, 200);
    s.world.crash();
    let bye = s.expect(s.caller, "BYE");
    assert!(s.world.take(old).is_none(), "{}", s.ladder());
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.assert_clean(1);
}

/// An offer that does not fit one datagram.
fn invite_large(s: &mut Scene) {
    let offer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
    let filler: String = (0..60).map(|n| format!("a=filler:{n:030}\r\n")).collect();
    let text = s.request("INVITE", "c1", "442079460000", "", &(offer + &filler));
    s.world.send(s.caller, s.node, text);
}

/// Trunks over UDP whose large requests leave over TCP.
fn large_over_tcp() -> Scene {
    let mut image = over_tcp(false, false);
    image.trunks[1].large = Large::Tcp;
    Scene::with(image, Options::default())
}

/// RFC 3261 18.1.1.
#[test]
fn what_is_too_large_for_a_datagram_goes_over_tcp() {
    let mut s = large_over_tcp();
    invite_large(&mut s);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.raw.len() > 1300, "{}", invite.raw);
    assert!(invite.get("Via").starts_with(&format!("SIP/2.0/TCP {STREAMS};")), "{}", invite.raw);
    // Nothing is repeated over a connection.
    assert!(s.within(s.callee, Duration::from_secs(2)).is_none(), "{}", s.ladder());
    let answer = s.answer();
    s.world.send(s.callee, streams(), invite.reply(200, "b", &contact(), &answer));
    let ack = s.expect(s.callee, "ACK");
    assert!(ack.get("Via").starts_with("SIP/2.0/UDP "), "small again: {}", ack.raw);
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    // The peer may answer in kind: its request within the dialog comes over TCP.
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, streams(), bye);
    s.expect_status(s.callee, 200);
    s.expect(s.caller, "BYE");
    let bye = s.world.now();
    s.world.run(Duration::from_secs(40));
    assert!(s.world.now() > bye);
    s.assert_clean(1);
}

#[test]
fn without_a_listener_for_tcp_it_is_a_datagram_after_all() {
    let mut s = large_over_tcp();
    s.world.reach(s.callee, false);
    invite_large(&mut s);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.get("Via").starts_with("SIP/2.0/UDP "), "{}", invite.raw);
    assert!(invite.raw.len() > 1300);
    // And is repeated like one.
    s.expect(s.callee, "INVITE");
    let udp = sim::scene::NODE.parse().expect("an address");
    s.world.send(s.callee, udp, invite.reply(486, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
    s.world.run(Duration::from_secs(40));
    assert_eq!(s.world.cdrs()[0].attempts.len(), 1, "the same attempt");
}

/// RFC 5922: whoever comes from the right address must have proved the right name as well.
#[test]
fn a_trunk_that_wants_a_name_is_nobody_without_it() {
    let mut image = over_tcp(true, false);
    image.trunks[0].peer_names = vec!["one.example".into()];
    let mut s = Scene::with(image, Options::default());
    (s.node, s.caller) = (streams(), s.world.peer(CLIENT));
    for names in [&[][..], &["two.example"]] {
        s.world.prove(s.caller, names);
        s.invite("c0");
        assert!(s.within(s.caller, Duration::from_secs(1)).is_none(), "{}", s.ladder());
    }
    s.world.prove(s.caller, &["two.example", "one.example"]);
    let (invite, ok) = establish(&mut s);
    // A neighbour behind the same address cannot end the call.
    let neighbour = s.world.peer("198.51.100.10:50000");
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(neighbour, s.node, bye);
    assert!(s.within(neighbour, Duration::from_secs(1)).is_none(), "{}", s.ladder());
    callee_hangs_up(&mut s, &invite);
    s.let_go(s.caller, "");
    s.assert_clean(1);
}

/// A source may be a host name: what DNS says is its address may call, as long as it says so.
#[test]
fn a_source_may_be_a_name() {
    let mut image = image();
    let query = Query::port("caller.example", 5060);
    image.trunks[0].sources.clear();
    image.trunks[0].source_names = vec![query.clone()];
    let mut s = Scene::with(image, Options::default());
    s.invite("c0");
    assert!(s.within(s.caller, Duration::from_secs(1)).is_none(), "{}", s.ladder());
    let tell = |s: &mut Scene, ip: [u8; 4]| {
        let answer = Answer::of(query.clone(), 5060, vec![ip.into()], 60);
        (0..2).for_each(|shard| s.world.post(shard, Letter::Answer(answer.clone())));
    };
    tell(&mut s, [198, 51, 100, 10]);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(486, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
    // It is repeated until nobody acknowledges it any more.
    s.world.run(Duration::from_secs(40));
    while s.world.take(s.caller).is_some() {}
    tell(&mut s, [198, 51, 100, 99]);
    s.invite("c2");
    assert!(s.within(s.caller, Duration::from_secs(1)).is_none(), "{}", s.ladder());
    s.assert_clean(1);
}
