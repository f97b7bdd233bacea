//! Connections that break under a call: resets at chosen moments, and far ends that are gone without a word.
//! A call goes on over another connection where there can be one, and else ends by name and in time.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::netns::{Namespace, ip, lay_cable, node_of};
use common::stream::StreamPeer;
use common::wire::{Peer, companion, header, respond, sdp};
use common::{LONG, Lab, Node, Setup, within};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A caller and a callee over TCP, and a node between them.
struct Stage {
    caller: StreamPeer,
    callee: StreamPeer,
    node: Node,
    calls: usize,
    _lab: Lab,
}

/// A call that was begun: the INVITE of the caller, and as the callee heard it; and their connections.
struct Begun {
    sent: String,
    heard: String,
    near: usize,
    far: usize,
}

impl Stage {
    fn set() -> Stage {
        let lab = Lab::new("broken");
        let caller = StreamPeer::bind((lab.ip, 0).into());
        let callee = StreamPeer::bind((lab.ip, 0).into());
        let mut setup = Setup::new(&lab, callee.address);
        setup.interface += &format!("tcp_port = {}\n", setup.sip.port());
        setup.caller = "transport = \"tcp\"\n".into();
        setup.trunks[0].2 = "transport = \"tcp\"\ntrying_timeout_ms = 1000\n".into();
        let node = Node::start(&lab, &setup);
        Stage { caller, callee, node, calls: 0, _lab: lab }
    }

    /// A call up to where the callee rings.
    fn ring(&mut self) -> Begun {
        let near = self.caller.dial(self.node.sip);
        self.calls += 1;
        let sent = self.caller.invite(self.node.sip, &format!("c{}", self.calls));
        self.caller.send(near, &sent);
        let (far, heard) = self.callee.expect("INVITE ");
        self.callee.send(far, &respond(&heard, "180 Ringing", "", ""));
        self.caller.expect("SIP/2.0 180");
        Begun { sent, heard, near, far }
    }

    /// What the callee answers.
    fn answer(&self, call: &Begun) -> String {
        let contact = format!("Contact: {}\r\n", self.callee.contact());
        let more = contact + "Content-Type: application/sdp\r\n";
        respond(&call.heard, "200 OK", &more, &sdp(self.callee.address.ip(), 30_002))
    }

    /// An answered call, acknowledged; the 200 as the caller heard it.
    fn answered(&mut self) -> (Begun, String) {
        let call = self.ring();
        let answer = self.answer(&call);
        self.callee.send(call.far, &answer);
        let (_, ok) = self.caller.expect("SIP/2.0 200");
        self.caller.send(call.near, &self.caller.within(&ok, "ACK", 1));
        self.callee.expect("ACK ");
        (call, ok)
    }

    fn caller_hangs_up(&mut self, line: usize, ok: &str) {
        let bye = self.caller.within(ok, "BYE", 2);
        self.caller.send(line, &bye);
        self.caller.expect("SIP/2.0 200");
        let (line, bye) = self.callee.expect("BYE ");
        self.callee.send(line, &respond(&bye, "200 OK", "", ""));
    }

    /// The record of the last call. What is left of the call may still wait for answers.
    fn record(&self) -> Value {
        self.node.await_records(self.calls).pop().unwrap()
    }
}

/// Each in a call of its own, one after the other.
#[test]
fn resets_in_every_phase_of_a_call() {
    let mut s = Stage::set();

    // The callee, when it has heard of the call: it says nothing more, and the call fails by that.
    let near = s.caller.dial(s.node.sip);
    s.calls += 1;
    let invite = s.caller.invite(s.node.sip, "unheard");
    s.caller.send(near, &invite);
    let (far, _) = s.callee.expect("INVITE ");
    s.callee.reset(far);
    let (_, refused) = s.caller.expect("SIP/2.0 500");
    s.caller.send(near, &companion(&invite, "ACK", &header(&refused, "To")));
    assert_eq!(s.record()["reason"], "no_response");

    // The callee, while it rings: its answer comes over another connection.
    let call = s.ring();
    s.callee.reset(call.far);
    let other = s.callee.dial(s.node.sip);
    let answer = s.answer(&call);
    s.callee.send(other, &answer);
    let (_, ok) = s.caller.expect("SIP/2.0 200");
    s.caller.send(call.near, &s.caller.within(&ok, "ACK", 1));
    s.callee.expect("ACK ");
    s.caller_hangs_up(call.near, &ok);
    assert_eq!(s.record()["reason"], "caller_hung_up");

    // The caller, while it rings: it gives up over another.
    let call = s.ring();
    s.caller.reset(call.near);
    let other = s.caller.dial(s.node.sip);
    let cancel = companion(&call.sent, "CANCEL", &header(&call.sent, "To"));
    s.caller.send(other, &cancel);
    s.caller.expect("SIP/2.0 200");
    let (line, cancel) = s.callee.expect("CANCEL ");
    s.callee.send(line, &respond(&cancel, "200 OK", "", ""));
    s.callee.send(line, &respond(&call.heard, "487 Request Terminated", "", ""));
    s.callee.expect("ACK ");
    assert_eq!(s.record()["reason"], "cancelled");

    // The caller, when it has its answer: it acknowledges over another, and is called over that.
    let call = s.ring();
    let answer = s.answer(&call);
    s.callee.send(call.far, &answer);
    let (_, ok) = s.caller.expect("SIP/2.0 200");
    s.caller.reset(call.near);
    let other = s.caller.dial(s.node.sip);
    s.caller.send(other, &s.caller.within(&ok, "ACK", 1));
    s.callee.expect("ACK ");
    s.caller_hangs_up(other, &ok);
    assert_eq!(s.record()["reason"], "caller_hung_up");

    // The callee, when it has answered: it repeats itself over another, until it hears an ACK.
    let call = s.ring();
    let answer = s.answer(&call);
    s.callee.send(call.far, &answer);
    let (_, ok) = s.caller.expect("SIP/2.0 200");
    s.callee.reset(call.far);
    let other = s.callee.dial(s.node.sip);
    s.callee.send(other, &answer);
    s.caller.send(call.near, &s.caller.within(&ok, "ACK", 1));
    s.callee.expect("ACK ");
    s.caller_hangs_up(call.near, &ok);
    assert_eq!(s.record()["reason"], "caller_hung_up");

    // The caller, in the call: the BYE finds it where its Contact says.
    let (call, _) = s.answered();
    s.caller.reset(call.near);
    let bye = s.callee.within(&call.heard, "BYE", 1);
    s.callee.send(call.far, &bye);
    s.callee.expect("SIP/2.0 200");
    let (line, bye) = s.caller.expect("BYE ");
    s.caller.send(line, &respond(&bye, "200 OK", "", ""));
    assert_eq!(s.record()["reason"], "callee_hung_up");

    // The callee, in the call: the same.
    let (call, ok) = s.answered();
    s.callee.reset(call.far);
    s.caller_hangs_up(call.near, &ok);
    assert_eq!(s.record()["reason"], "caller_hung_up");

    let resets = ["in", "out"].map(|trunk| {
        let closed = "tandem_trunk_connections_closed_total";
        s.node.metric(&format!("{closed}{{trunk=\"{trunk}\",reason=\"error\"}}"))
    });
    // Answers to a caller that is gone are dialled for in vain.
    assert!(resets[0] >= 3 && resets[1] == 4, "{resets:?} {}", s.node.page());
    assert_eq!(s.node.drain(), Some(0));
}

const CALLER: &str = "10.99.0.3:5070";

/// A node at one end of a cable; at the other a caller over TCP whose address comes and goes, and a callee.
struct Cut {
    cable: [Namespace; 2],
    caller: StreamPeer,
    callee: Peer,
    node: Node,
    _lab: Lab,
}

impl Cut {
    fn lay(name: &str, tcp_keepalive_s: u16) -> Cut {
        let (lab, cable) = (Lab::new(name), lay_cable());
        cable[1].enter();
        appear(&cable[1], true);
        let caller = StreamPeer::bind(CALLER.parse().unwrap());
        let callee = Peer::bind("10.99.0.2:5080".parse().unwrap());
        let mut setup = Setup::new(&lab, callee.address);
        setup.interface += &format!("tcp_port = 5060\ntcp_keepalive_s = {tcp_keepalive_s}\n");
        setup.caller = "transport = \"tcp\"\n".into();
        setup.metrics = "10.99.0.1:9464".parse().unwrap();
        let node = node_of(&lab, &cable, setup, "10.99.0.3/32");
        Cut { cable, caller, callee, node, _lab: lab }
    }

    /// A call over `line`; the INVITE as the callee heard it, and the 200 as the caller did.
    fn call(&mut self, line: usize, call: &str) -> (String, String) {
        let invite = self.caller.invite(self.node.sip, call);
        self.caller.send(line, &invite);
        let heard = self.callee.expect("INVITE", |text| text.starts_with("INVITE "));
        let contact = format!("Contact: <sip:{}>\r\n", self.callee.address);
        let more = contact + "Content-Type: application/sdp\r\n";
        let answer = respond(&heard, "200 OK", &more, &sdp(self.callee.address.ip(), 30_002));
        self.callee.send(self.node.sip, answer.as_bytes());
        let (_, ok) = self.caller.expect("SIP/2.0 200");
        self.caller.send(line, &self.caller.within(&ok, "ACK", 1));
        self.callee.expect("ACK", |text| text.starts_with("ACK "));
        (heard, ok)
    }

    /// The caller's end of a connection goes, and nothing that it could still say arrives.
    fn vanish(&mut self, line: usize) {
        appear(&self.cable[1], false);
        self.caller.reset(line);
    }

    /// The callee hangs up.
    fn hang_up(&self, heard: &str) {
        let bye = self.caller.within(heard, "BYE", 1).replace("SIP/2.0/TCP", "SIP/2.0/UDP");
        let bye = bye.replace(CALLER, &self.callee.address.to_string());
        self.callee.send(self.node.sip, bye.as_bytes());
        self.callee.expect("200", |text| text.starts_with("SIP/2.0 200"));
    }

    fn of_the_caller(&self, what: &str, reason: &str) -> u64 {
        self.node.metric(&format!("tandem_trunk_{what}{{trunk=\"in\"{reason}}}"))
    }
}

/// The caller's address is there, or packets for it go nowhere.
fn appear(namespace: &Namespace, is_there: bool) {
    let what = if is_there { "add" } else { "del" };
    ip(&format!("-n {} addr {what} 10.99.0.3/32 dev wire", namespace.name));
}

/// The kernel finds a connection dead on which nothing is said; the call goes on, and so does who comes back.
#[test]
fn a_caller_that_was_gone_goes_on_over_another_connection() {
    let mut s = Cut::lay("half-open", 1);
    let line = s.caller.dial(s.node.sip);
    let (heard, ok) = s.call(line, "gone");
    s.vanish(line);
    let begun = Instant::now();
    let closed = || (s.of_the_caller("connections", "") == 0).then_some(());
    assert!(within(2 * LONG, closed).is_some(), "{}", s.node.page());
    println!("found dead after {:?}", begun.elapsed());
    assert_eq!(s.of_the_caller("connections_closed_total", ",reason=\"error\""), 1);
    assert_eq!(s.node.status()["calls"], 1, "the call is not the connection's");
    appear(&s.cable[1], true);
    let line = s.caller.dial(s.node.sip);
    s.caller.send(line, &s.caller.within(&ok, "OPTIONS", 2));
    s.caller.expect("SIP/2.0 200");
    s.hang_up(&heard);
    let (came, bye) = s.caller.expect("BYE ");
    assert_eq!(came, line, "over the connection it was last heard on");
    s.caller.send(came, &respond(&bye, "200 OK", "", ""));
    s.node.await_calls(0);
    assert_eq!(s.node.await_records(1)[0]["reason"], "callee_hung_up");
    assert_eq!(s.node.drain(), Some(0));
}

/// What is said into a dead connection is said again at the peer's Contact; and when nobody is there either, it is
/// over soon.
#[test]
fn a_goodbye_into_a_dead_connection() {
    let mut s = Cut::lay("half-open-bye", 0);
    let line = s.caller.dial(s.node.sip);
    let (heard, _) = s.call(line, "back");
    s.vanish(line);
    appear(&s.cable[1], true);
    // Its host is back, and knows nothing of the connection.
    s.hang_up(&heard);
    let (line, bye) = s.caller.expect("BYE ");
    s.caller.send(line, &respond(&bye, "200 OK", "", ""));
    s.node.await_calls(0);
    // Its old end may have been dialled in vain, too.
    let closed = s.of_the_caller("connections_closed_total", ",reason=\"error\"");
    assert!(closed >= 1, "{}", s.node.page());

    let (heard, _) = s.call(line, "away");
    s.vanish(line);
    s.hang_up(&heard);
    let begun = Instant::now();
    let over = || (s.node.status()["calls"] == 0).then_some(());
    assert!(within(2 * LONG, over).is_some(), "{}", s.node.status());
    // Ten seconds for what was sent to be acknowledged. The connection was to the Contact: there is no other way.
    println!("over after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(32), "as long as without a connection");
    assert_eq!(s.of_the_caller("connections_closed_total", ",reason=\"error\""), closed + 1);
    let records = s.node.await_records(2);
    assert!(records.iter().all(|record| record["reason"] == "callee_hung_up"), "{records:?}");
    assert_eq!(s.node.drain(), Some(0));
}
