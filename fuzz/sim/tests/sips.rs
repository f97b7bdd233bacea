//! SIPS URIs (RFC 3261 26.2.2, RFC 5630): every hop has TLS, or the call is refused by name.

use sbc::policy::methods::Methods;
use sbc::policy::{Face, Image, Redirects, StreamListener, Transport};
use sim::scene::{CALLEE, SECOND, Scene, executing, image};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const SECURE: &str = "192.0.2.1:5061";
/// The caller's end of its connection.
const CLIENT: &str = "198.51.100.10:49152";

/// The caller, the first callee and the second over TLS, or over UDP.
fn over_tls(mut image: Image, tls: [bool; 3]) -> Image {
    let face = Face { transport: Transport::Tls, sent_by: SECURE.into() };
    image.streams.push(StreamListener { interface: 0, face });
    for (trunk, has_tls) in image.trunks.iter_mut().zip(tls) {
        trunk.transport = if has_tls { Transport::Tls } else { Transport::Udp };
    }
    image
}

fn scene(image: Image, tls: [bool; 3]) -> Scene {
    let mut s = Scene::with(over_tls(image, tls), Options::default());
    if tls[0] {
        s.node = SECURE.parse().expect("an address");
        s.caller = s.world.peer(CLIENT);
    }
    s
}

/// The caller's request for a SIPS URI.
fn secure(s: &mut Scene, method: &str, call: &str) {
    let offer = wire::sdp(sim::scene::CALLER_MEDIA.parse().expect("a"), 1, "0 8", "sendrecv");
    let body = if method == "INVITE" { offer.as_str() } else { "" };
    let text = s.request(method, call, "442079460000", "", body);
    let text = text
        .replacen(&format!("{method} sip:"), &format!("{method} sips:"), 1)
        .replacen("To: <sip:", "To: <sips:", 1)
        .replacen("Contact: <sip:", "Contact: <sips:", 1)
        .replacen("SIP/2.0/UDP", "SIP/2.0/TLS", 1);
    s.world.send(s.caller, s.node, text);
}

fn refused(s: &mut Scene, status: u16, reason: &str) -> Text {
    let answer = loop {
        let text = s.next(s.caller);
        if text.status() != Some(100) {
            break text;
        }
    };
    assert_eq!(answer.status(), Some(status), "{}", s.ladder());
    s.world.run(Duration::from_secs(40));
    let cdrs = s.world.cdrs();
    assert_eq!(&*cdrs[0].reason, reason.as_bytes(), "{}", s.ladder());
    answer
}

#[test]
fn every_hop_of_a_secure_call_has_tls_and_says_so() {
    let mut s = scene(image(), [true, true, true]);
    secure(&mut s, "INVITE", "c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.uri().starts_with("sips:442079460000@203.0.113.20"), "{}", invite.raw);
    assert!(invite.get("Via").starts_with("SIP/2.0/TLS "), "{}", invite.raw);
    assert!(invite.uri_of("Contact").starts_with("sips:"), "{}", invite.raw);
    assert!(!invite.uri_of("Contact").contains("transport="), "{}", invite.raw);
    assert!(invite.uri_of("To").starts_with("sips:"), "{}", invite.raw);
    let (answer, contact) = (s.answer(), format!("Contact: <sips:{CALLEE}>\r\n"));
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    let ack = s.expect(s.callee, "ACK");
    assert_eq!(ack.uri(), format!("sips:{CALLEE}"));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.uri_of("Contact"), format!("sips:{SECURE}"), "{}", ok.raw);
    s.acknowledge(&ok);
    // A request of ours within the dialog says so as well.
    let update = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, update);
    s.expect_status(s.callee, 200);
    let bye = s.expect(s.caller, "BYE");
    assert!(bye.uri().starts_with("sips:"), "{}", bye.raw);
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.assert_clean(1);
}

#[test]
fn a_route_without_tls_is_passed_over() {
    let mut s = scene(image(), [true, false, true]);
    secure(&mut s, "INVITE", "c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.second, "INVITE");
    assert!(invite.uri().starts_with("sips:"), "{}", invite.raw);
    s.world.send(s.second, s.node, invite.reply(486, "b", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 486);
    s.world.run(Duration::from_secs(40));
    assert!(s.world.take(s.callee).is_none(), "{}", s.ladder());
    let cdr = &s.world.cdrs()[0];
    assert_eq!(&*cdr.attempts[0].reason, b"no_secure_route");
    assert_eq!(&*cdr.attempts[1].reason, b"route_refused");
}

#[test]
fn without_any_route_that_has_tls_the_caller_hears_why() {
    let mut s = scene(image(), [true, false, false]);
    secure(&mut s, "INVITE", "c1");
    let answer = refused(&mut s, 480, "no_secure_route");
    assert!(answer.get("Warning").starts_with("380 "), "{}", answer.raw);
    for callee in [s.callee, s.second] {
        assert!(s.world.take(callee).is_none(), "{}", s.ladder());
    }
}

#[test]
fn what_is_to_be_secured_and_comes_without_tls_is_refused() {
    let mut s = scene(image(), [false, true, true]);
    secure(&mut s, "INVITE", "c1");
    refused(&mut s, 403, "sips_over_plain");
    assert!(s.world.take(s.callee).is_none(), "{}", s.ladder());
}

#[test]
fn a_redirection_does_not_take_security_away() {
    let mut image = image();
    image.trunks[1].redirects = Redirects::Follow;
    let mut s = scene(image, [true, true, false]);
    secure(&mut s, "INVITE", "c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contacts = "Contact: <sip:442079460001@203.0.113.20:5060>, \
                    <sips:442079460002@203.0.113.20:5060>;q=0.1\r\n";
    s.world.send(s.callee, s.node, invite.reply(302, "b", contacts, ""));
    s.expect(s.callee, "ACK");
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.uri().starts_with("sips:442079460002@"), "{}", invite.raw);
    s.world.send(s.callee, s.node, invite.reply(486, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 486);
}

#[test]
fn a_message_outside_calls_is_secured_as_well() {
    let carried = |mut image: Image| {
        for trunk in &mut image.trunks {
            trunk.methods = Methods::new([&b"MESSAGE"[..]]);
        }
        image
    };
    let mut s = scene(carried(image()), [true, false, true]);
    secure(&mut s, "MESSAGE", "m1");
    let message = s.expect(s.second, "MESSAGE");
    assert!(message.uri().starts_with("sips:"), "{}", message.raw);
    s.world.send(s.second, s.node, message.reply(200, "b", "", ""));
    s.expect_status(s.caller, 200);
    for (tls, status) in [([true, false, false], 480), ([false, true, true], 403)] {
        let mut s = scene(carried(image()), tls);
        secure(&mut s, "MESSAGE", "m1");
        s.expect_status(s.caller, status);
        for callee in [s.callee, s.second] {
            assert!(s.world.take(callee).is_none(), "{}", s.ladder());
        }
    }
}

/// A transfer to a SIPS URI is executed where the side that stays has TLS, and nowhere else.
#[test]
fn a_transfer_to_who_must_be_secured_needs_a_side_that_is() {
    for (has_tls, status) in [(true, 202), (false, 416)] {
        let mut s = scene(executing(), [true, has_tls, true]);
        // The first call itself is a plain one in the second case.
        if has_tls {
            secure(&mut s, "INVITE", "c1");
        } else {
            s.invite("c1");
        }
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        let answer = s.answer();
        let node: SocketAddr =
            if has_tls { SECURE } else { sim::scene::NODE }.parse().expect("an address");
        let scheme = if has_tls { "sips" } else { "sip" };
        let contact = format!("Contact: <{scheme}:{CALLEE}>\r\n");
        s.world.send(s.callee, node, invite.reply(200, "b", &contact, &answer));
        s.expect(s.callee, "ACK");
        let ok = s.expect_status(s.caller, 200);
        s.acknowledge(&ok);
        let refer = s.in_dialog("REFER", 2, &ok, "");
        let to = format!("\r\nRefer-To: <sips:7001@{SECOND}>\r\nContact:");
        s.world.send(s.caller, s.node, refer.replacen("\r\nContact:", &to, 1));
        s.expect_status(s.caller, status);
        if has_tls {
            let invite = s.expect(s.second, "INVITE");
            assert!(invite.uri().starts_with("sips:7001@"), "{}", invite.raw);
        }
    }
}
