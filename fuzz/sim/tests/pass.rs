//! Requests within calls that are about neither the session nor its end: what crosses, and what does not.

use sbc::policy::methods::{Bodies, Methods};
use sim::scene::{CALLEE, CALLER, NODE, Scene, image};
use sim::wire::Text;
use std::time::Duration;

const ALL: [&[u8]; 6] = [b"INFO", b"MESSAGE", b"REFER", b"NOTIFY", b"SUBSCRIBE", b"FROBNICATE"];

/// A world of one shard whose trunks list all methods, and these types.
fn world(types: &[&str]) -> Scene {
    let mut image = image();
    for trunk in &mut image.trunks {
        trunk.methods = Methods::new(ALL);
        trunk.bodies = Bodies::new(types.iter().map(|t| t.as_bytes()));
    }
    Scene::with(image, sim::Options { shards: 1, ..Default::default() })
}

/// A request of the caller's with these headers and this body, its type among the headers.
fn request(
    s: &mut Scene,
    method: &str,
    number: u32,
    ok: &Text,
    headers: &str,
    body: &str,
) -> String {
    let length = format!("{headers}Content-Length: {}\r\n\r\n{body}", body.len());
    s.in_dialog(method, number, ok, "").replace("Content-Length: 0\r\n\r\n", &length)
}

fn counted(s: &Scene, reason: usize) -> u64 {
    s.world.shards().iter().map(|n| n.signal().counters().not_passed.get(reason)).sum()
}

#[test]
fn an_info_crosses_with_its_body_and_its_answer_comes_back() {
    let mut s = world(&["application/dtmf-relay", "application/x-reply"]);
    let (_, ok) = s.establish("c1");
    assert!(
        ok.get("Allow").ends_with("UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE, FROBNICATE")
    );
    let headers = "Info-Package: x\r\nContent-Type: application/dtmf-relay;a=b\r\nX-Private: 1\r\n";
    let text = request(&mut s, "INFO", 2, &ok, headers, "Signal=5\r\nDuration=160\r\n");
    s.world.send(s.caller, s.node, text.clone());
    let info = s.expect(s.callee, "INFO");
    assert_eq!(info.body(), "Signal=5\r\nDuration=160\r\n");
    assert_eq!(info.get("Content-Type"), "application/dtmf-relay;a=b");
    assert_eq!((info.get("Info-Package"), info.get("X-Private")), ("x", ""));
    assert_eq!((info.get("Contact"), info.tag("To")), ("", "b"));
    // Until it is answered, its repetition draws nothing; then the same answer.
    s.world.send(s.caller, s.node, text.clone());
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.hand_over(0);
    let answer = info
        .reply(200, "b", "Content-Type: application/x-reply\r\n", "")
        .replace("Content-Length: 0\r\n\r\n", "Content-Length: 4\r\n\r\n\0\u{1}ok");
    s.world.send(s.callee, s.node, answer);
    let answered = s.expect_status(s.caller, 200);
    assert_eq!((answered.body(), answered.get("CSeq")), ("\0\u{1}ok", "2 INFO"));
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.expect_status(s.caller, 200), answered);
    let bye = s.in_dialog("BYE", 3, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.assert_clean(1);
}

#[test]
fn what_a_trunk_does_not_list_does_not_cross() {
    let mut s = Scene::new();
    let (_, ok) = s.establish("c1");
    let text = s.in_dialog("MESSAGE", 2, &ok, "");
    s.world.send(s.caller, s.node, text);
    let refused = s.expect_status(s.caller, 405);
    assert_eq!(refused.get("Allow"), "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO");
    let text = request(&mut s, "INFO", 3, &ok, "Content-Type: application/isup\r\n", "x");
    s.world.send(s.caller, s.node, text);
    let refused = s.expect_status(s.caller, 415);
    assert!(refused.get("Accept").starts_with("application/sdp, application/dtmf-relay"));
    assert_eq!((counted(&s, 0), counted(&s, 1)), (1, 1));
    assert!(s.within(s.callee, Duration::from_millis(50)).is_none());
}

#[test]
fn a_method_that_one_side_lists_crosses_in_neither_direction() {
    let mut half = image();
    half.trunks[0].methods = Methods::new(ALL);
    let mut s = Scene::with(half, Default::default());
    let (invite, ok) = s.establish("c1");
    let text = s.in_dialog("MESSAGE", 2, &ok, "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 405);
    let text = s.from_callee("MESSAGE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 405);
}

#[test]
fn bodies_are_carried_up_to_their_limit_byte_for_byte() {
    let mut s = world(&["*"]);
    let (_, ok) = s.establish("c1");
    let body: String = (0..1300u32).map(|n| char::from((n % 127) as u8)).collect();
    let kind = "Content-Type: multipart/mixed;boundary=\"x\"\r\nMIME-Version: 1.0\r\n";
    let text = request(&mut s, "MESSAGE", 2, &ok, kind, &body);
    s.world.send(s.caller, s.node, text);
    let message = s.expect(s.callee, "MESSAGE");
    assert_eq!(message.body(), body);
    assert_eq!(message.get("MIME-Version"), "1.0");
    let text = request(&mut s, "MESSAGE", 3, &ok, kind, &format!("{body}x"));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 513);
    assert_eq!(counted(&s, 2), 1, "too large");
}

#[test]
fn four_are_under_way_at_once_and_no_fifth() {
    let mut s = world(&[]);
    let (_, ok) = s.establish("c1");
    let mut heard = Vec::new();
    for number in 2..6 {
        let text = s.in_dialog("FROBNICATE", number, &ok, "");
        s.world.send(s.caller, s.node, text);
        heard.push(s.expect(s.callee, "FROBNICATE"));
    }
    let text = s.in_dialog("FROBNICATE", 6, &ok, "");
    s.world.send(s.caller, s.node, text);
    assert!(!s.expect_status(s.caller, 500).get("Retry-After").is_empty());
    assert_eq!(counted(&s, 4), 1, "too many");
    s.world.send(s.callee, s.node, heard[2].reply(606, "b", "", ""));
    assert_eq!(s.expect_status(s.caller, 606).get("CSeq"), "4 FROBNICATE");
    let text = s.in_dialog("FROBNICATE", 7, &ok, "");
    s.world.send(s.caller, s.node, text);
    while s.next(s.callee).get("CSeq") != "5 FROBNICATE" {}
}

#[test]
fn nobody_answers_and_its_sender_hears_504() {
    let mut quiet = image();
    quiet.trunks.iter_mut().for_each(|t| t.media_timeout = None);
    let mut s = Scene::with(quiet, Default::default());
    let (_, ok) = s.establish("c1");
    let text = s.in_dialog("INFO", 2, &ok, "");
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.next(s.caller).status(), Some(504), "RFC 4320: no 408");
    // The call goes on.
    let bye = s.in_dialog("BYE", 3, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.assert_clean(1);
}

#[test]
fn a_call_that_ends_answers_what_was_under_way() {
    let mut s = world(&[]);
    let (invite, ok) = s.establish("c1");
    let text = s.in_dialog("INFO", 2, &ok, "");
    s.world.send(s.caller, s.node, text);
    s.expect(s.callee, "INFO");
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    let seen = [s.next(s.caller), s.next(s.caller)].map(|t| t.status());
    assert!(seen.contains(&Some(481)), "{seen:?}");
    s.assert_clean(1);
}

#[test]
fn a_subscription_within_the_call_and_its_notifications() {
    let mut s = world(&["text/plain"]);
    let (invite, ok) = s.establish("c1");
    let headers = "Event: dialog\r\nExpires: 60\r\nAccept: text/plain\r\n";
    let text = request(&mut s, "SUBSCRIBE", 2, &ok, headers, "");
    s.world.send(s.caller, s.node, text);
    let subscribe = s.expect(s.callee, "SUBSCRIBE");
    assert_eq!((subscribe.get("Event"), subscribe.get("Expires")), ("dialog", "60"));
    assert!(subscribe.get("Contact").contains(NODE));
    s.world.send(s.callee, s.node, subscribe.reply(202, "b", "Expires: 30\r\n", ""));
    assert_eq!(s.expect_status(s.caller, 202).get("Expires"), "30");
    let state = "Event: dialog\r\nSubscription-State: active;expires=30\r\n";
    let text = s.from_callee("NOTIFY", 1, &invite, "b", "");
    s.world.send(
        s.callee,
        s.node,
        text.replacen("\r\nContact:", &format!("\r\n{state}Contact:"), 1),
    );
    let notify = s.expect(s.caller, "NOTIFY");
    assert_eq!(notify.get("Subscription-State"), "active;expires=30");
    s.world.send(s.caller, s.node, notify.reply(481, "", "", ""));
    s.expect_status(s.callee, 481);
    assert_eq!(s.world.cdrs().len(), 0, "the call goes on");
}

#[test]
fn a_refer_names_the_other_sides_dialogs() {
    let mut s = world(&[]);
    let (_, ok) = s.establish("c1");
    let (second, second_ok) = s.establish("c2");
    let plain =
        format!("Refer-To: <sip:1234@{NODE};user=phone?Subject=x>;a=b\r\nRefer-Sub: true\r\n");
    let text = request(&mut s, "REFER", 2, &ok, &plain, "");
    s.world.send(s.caller, s.node, text);
    let refer = s.expect(s.callee, "REFER");
    assert_eq!(refer.get("Refer-To"), format!("<sip:1234@{NODE};user=phone?Subject=x>;a=b"));
    assert_eq!(refer.get("Refer-Sub"), "true");
    s.world.send(
        s.callee,
        s.node,
        refer.reply(202, "b", &format!("Contact: <sip:{CALLEE}>\r\n"), ""),
    );
    s.expect_status(s.caller, 202);
    // The dialog of the second call, as the caller knows it, is another one to the callee.
    let replaces = format!(
        "Refer-To: <sip:c@{CALLER}?Replaces=c2%40caller%3Bto-tag%3D{}%3Bfrom-tag%3D{}>\r\n",
        second_ok.tag("To"),
        second_ok.tag("From")
    );
    let text = request(&mut s, "REFER", 3, &ok, &replaces, "");
    s.world.send(s.caller, s.node, text);
    let refer = s.expect(s.callee, "REFER");
    let (call_id, tag) = (second.get("Call-ID"), second.tag("From"));
    let expected = format!("?Replaces={call_id}%3Bto-tag%3Db%3Bfrom-tag%3D{tag}>");
    assert!(refer.get("Refer-To").ends_with(&expected), "{}", refer.raw);
    // A dialog that is not there is not passed on as if it were.
    let gone = replaces.replace("c2%40caller", "c9%40caller");
    let text = request(&mut s, "REFER", 4, &ok, &gone, "");
    s.world.send(s.caller, s.node, text);
    loop {
        let text = s.next(s.caller);
        if text.get("CSeq") == "4 REFER" {
            assert_eq!(text.status(), Some(481));
            break;
        }
    }
    // One that is nobody's of ours stays.
    let theirs = "Refer-To: <sip:c@d?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n";
    let text = request(&mut s, "REFER", 5, &ok, theirs, "");
    s.world.send(s.caller, s.node, text);
    loop {
        let text = s.next(s.callee);
        if text.get("CSeq").ends_with("REFER") && text.get("Refer-To").contains("Replaces=x%3B") {
            break;
        }
    }
}
