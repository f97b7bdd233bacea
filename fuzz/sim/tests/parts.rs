//! Session descriptions among other parts: what crosses byte for byte, what stays behind, what is refused.

use sbc::policy::methods::Bodies;
use sim::scene::{CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const ISUP: &str = "\u{1}\u{10}\0\r\n--not-ours\r\n\u{3}";

/// A world whose trunks, ingress first, let these types cross.
fn world(types: [&str; 2]) -> Scene {
    let mut image = image();
    for (trunk, kind) in image.trunks.iter_mut().zip([types[0], types[1], types[1]]) {
        trunk.bodies = Bodies::new([kind.as_bytes()]);
    }
    Scene::with(image, Default::default())
}

/// A body of a description and ISUP that is to be handled so.
fn mixed(sdp: &str, handling: &str) -> String {
    format!(
        "--b\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b\r\n\
         Content-Type: application/ISUP;version=itu-t92+\r\n\
         Content-Disposition: signal;handling={handling}\r\n\r\n{ISUP}\r\n--b--\r\n"
    )
}

fn with_mixed(text: String, body: &str) -> String {
    let head = text.split("Content-Length:").next().expect("a head").to_owned();
    let length = body.len();
    format!(
        "{head}Content-Type: multipart/mixed; boundary=b\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn invite(s: &mut Scene, handling: &str) {
    let sdp = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "");
    let text = s.request("INVITE", "c1", "442079460000", "", "");
    let text = with_mixed(text, &mixed(&sdp, handling));
    s.world.send(s.caller, s.node, text);
}

/// The ISUP part as it stands in a message, its headers included.
fn isup(text: &Text) -> Option<&str> {
    let (_, part) =
        text.body().split_once("Content-Type: application/ISUP;version=itu-t92+\r\n")?;
    part.split_once("\r\n\r\n").map(|(_, body)| body)
}

#[test]
fn isup_crosses_byte_for_byte_both_ways_beside_our_description() {
    let mut s = world(["application/isup", "*"]);
    invite(&mut s, "required");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert!(invite.get("Content-Type").starts_with("multipart/mixed;boundary="), "{}", invite.raw);
    assert!(isup(&invite).expect("ISUP").starts_with(ISUP), "{}", invite.raw);
    assert!(invite.body().contains("handling=required") && !invite.body().contains("198.51.100"));
    let to_callee = invite.media().expect("our description");
    let answer = s.answer();
    let ok = with_mixed(invite.reply(200, "b", CONTACT, ""), &mixed(&answer, "optional"));
    s.world.send(s.callee, s.node, ok);
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert!(isup(&ok).expect("ISUP").starts_with(ISUP), "{}", ok.raw);
    assert_eq!(ok.media().map(|m| m.ip()), Some(to_callee.ip()));
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    // A description among others may also come later; what comes with it then stays behind.
    let hold = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "sendonly");
    let text = s.in_dialog("INVITE", 2, &ok, "");
    s.world.send(s.caller, s.node, with_mixed(text, &mixed(&hold, "optional")));
    s.expect_status(s.caller, 100);
    let again = s.expect(s.callee, "INVITE");
    assert_eq!(again.get("Content-Type"), "application/sdp");
    assert!(again.body().contains("a=sendonly"));
}

#[test]
fn what_may_not_cross_stays_behind_when_it_may() {
    for types in [["application/isup", "text/plain"], ["text/plain", "application/isup"]] {
        let mut s = world(types);
        invite(&mut s, "optional");
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        assert_eq!((invite.get("Content-Type"), isup(&invite)), ("application/sdp", None));
    }
}

#[test]
fn what_must_be_understood_and_may_not_cross_is_refused() {
    let mut s = world(["text/plain", "*"]);
    invite(&mut s, "required");
    let refused = s.expect_status(s.caller, 415);
    assert!(refused.get("Reason").contains("bad_content_type"), "{}", refused.raw);
    let mut s = world(["*", "text/plain"]);
    invite(&mut s, "required");
    s.expect_status(s.caller, 100);
    s.expect_status(s.caller, 503);
    s.assert_clean(1);
    let attempts = &s.world.cdrs()[0].attempts;
    assert!(attempts.iter().all(|a| &*a.reason == b"bad_content_type"), "{attempts:?}");
}

#[test]
fn parts_without_a_description_are_refused() {
    let mut s = world(["*", "*"]);
    let text = s.request("INVITE", "c1", "442079460000", "", "");
    let body = "--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n";
    s.world.send(s.caller, s.node, with_mixed(text, body));
    s.expect_status(s.caller, 415);
}
