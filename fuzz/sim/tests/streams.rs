//! Calls over connections: what is different from datagrams, and what happens when one breaks.

use sbc::policy::{Face, Image, StreamListener, Transport};
use sim::scene::{CALLEE, CALLER, SECOND, Scene, image};
use sim::wire::Text;
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
    let bye = s.expect(s.caller, "BYE");
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.assert_clean(1);
}

#[test]
fn when_its_connection_is_gone_a_peer_is_dialled_at_its_contact() {
    let mut s = dialled_in();
    let (invite, _) = establish(&mut s);
    s.world.reach(s.caller, false);
    callee_hangs_up(&mut s, &invite);
    let at_contact = s.world.peer(CALLER);
    let bye = s.expect(at_contact, "BYE");
    s.world.send(at_contact, s.node, bye.reply(200, "", "", ""));
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
