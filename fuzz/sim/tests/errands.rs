//! Requests outside calls: carried, refused, tried elsewhere, and the subscriptions some begin.

use sbc::policy::methods::{Bodies, Methods};
use sbc::policy::profile::{Believes, Identity};
use sim::scene::{CALLEE, NODE, SECOND, Scene, image};
use sim::wire::Text;
use std::time::Duration;

/// A world of one shard whose trunks list these methods.
fn world(methods: &[&str]) -> Scene {
    let mut image = image();
    for trunk in &mut image.trunks {
        trunk.methods = Methods::new(methods.iter().map(|m| m.as_bytes()));
        trunk.bodies = Bodies::new([b"text/plain".as_slice(), b"application/pidf+xml"]);
        trunk.profile.believes = Believes::Asserted;
        trunk.profile.identity = Identity::Asserted;
    }
    Scene::with(image, sim::Options { shards: 1, ..Default::default() })
}

/// A request of the caller's outside any dialog, with a body of this type.
fn request(s: &mut Scene, method: &str, headers: &str, kind: &str, body: &str) -> String {
    let kind = if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
    let end = format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    let text = s.request(method, "m1", "442079460000", headers, "");
    text.replace("Content-Length: 0\r\n\r\n", &end)
}

/// Nothing is left, and no call was counted.
fn assert_nothing_left(s: &mut Scene) {
    s.assert_clean(0);
    assert!(s.world.shards().iter().all(|shard| shard.signal().errands() == 0), "{}", s.ladder());
}

#[test]
fn a_message_goes_where_a_call_would_and_its_answer_comes_back() {
    let mut s = world(&["MESSAGE"]);
    let pai = "P-Asserted-Identity: <sip:+1@a>\r\nX-Private: 1\r\n";
    let text = request(&mut s, "MESSAGE", pai, "text/plain", "hello");
    s.world.send(s.caller, s.node, text.clone());
    let message = s.expect(s.callee, "MESSAGE");
    assert_eq!(
        message.raw.lines().next(),
        Some(&*format!("MESSAGE sip:442079460000@{CALLEE} SIP/2.0"))
    );
    assert_eq!((message.body(), message.get("Content-Type")), ("hello", "text/plain"));
    assert_eq!((message.get("Contact"), message.get("X-Private")), ("", ""));
    assert_eq!(message.get("P-Asserted-Identity"), "<sip:+1@a>");
    assert_eq!(message.get("Max-Forwards"), "69");
    assert!(message.get("From").starts_with(&format!("\"A\" <sip:1001@{NODE}>;tag=")));
    assert!(!message.raw.contains("m1@caller"));
    // Its repetition draws nothing until there is an answer, then the same one.
    s.world.send(s.caller, s.node, text.clone());
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.send(
        s.callee,
        s.node,
        message.reply(202, "x", "Warning: 399 inside.example \"x\"\r\n", ""),
    );
    let accepted = s.expect_status(s.caller, 202);
    assert_eq!((accepted.get("CSeq"), accepted.get("Warning")), ("1 MESSAGE", ""));
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.expect_status(s.caller, 202), accepted);
    assert_nothing_left(&mut s);
}

#[test]
fn what_is_not_listed_is_refused_with_a_reason() {
    let mut s = world(&["MESSAGE"]);
    let cases = [
        ("SUBSCRIBE", "", "", 405, "Allow"),
        ("PUBLISH", "", "", 405, "Allow"),
        ("FROBNICATE", "", "", 501, "Allow"),
        ("MESSAGE", "application/isup", "x", 415, "Accept"),
        ("REGISTER", "", "", 405, "Allow"),
    ];
    for (method, kind, body, status, header) in cases {
        let text = request(&mut s, method, "", kind, body);
        s.world.send(s.caller, s.node, text);
        let refused = s.expect_status(s.caller, status);
        assert!(!refused.get(header).is_empty(), "{method}: {}", refused.raw);
    }
    let large = "x".repeat(1_301);
    let text = request(&mut s, "MESSAGE", "", "text/plain", &large);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 513);
    let text =
        request(&mut s, "MESSAGE", "", "text/plain", "x").replace("sip:442079460000@", "sip:9@");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 404);
    let text = request(&mut s, "MESSAGE", "", "", "").replace("Forwards: 70", "Forwards: 0");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 483);
    assert_nothing_left(&mut s);
}

#[test]
fn a_trunk_that_fails_or_is_silent_is_followed_by_the_next() {
    let mut s = world(&["MESSAGE"]);
    let text = request(&mut s, "MESSAGE", "", "text/plain", "one");
    s.world.send(s.caller, s.node, text);
    let first = s.expect(s.callee, "MESSAGE");
    s.world.send(s.callee, s.node, first.reply(503, "x", "", ""));
    let second = s.expect(s.second, "MESSAGE");
    assert!(second.raw.contains(SECOND) && second.get("Call-ID") != first.get("Call-ID"));
    s.world.send(s.second, s.node, second.reply(200, "y", "", ""));
    s.expect_status(s.caller, 200);
    // Silence: after trying_timeout the next; its own refusal is the answer.
    let text = request(&mut s, "MESSAGE", "", "text/plain", "two");
    s.world.send(s.caller, s.node, text);
    let second = s.expect(s.second, "MESSAGE");
    s.world.send(s.second, s.node, second.reply(407, "y", "", ""));
    s.expect_status(s.caller, 403);
    assert_nothing_left(&mut s);
    // Nobody answers at all.
    let text = request(&mut s, "MESSAGE", "", "text/plain", "three");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 504);
    assert_nothing_left(&mut s);
}

/// A subscription: what the notifier got and what the subscriber got.
fn subscribe(s: &mut Scene) -> (Text, Text) {
    let text = request(s, "SUBSCRIBE", "Event: presence\r\nExpires: 600\r\n", "", "");
    s.world.send(s.caller, s.node, text);
    let subscribe = s.expect(s.callee, "SUBSCRIBE");
    assert_eq!((subscribe.get("Event"), subscribe.get("Expires")), ("presence", "600"));
    assert!(subscribe.get("Contact").contains(NODE));
    let headers = format!("Contact: <sip:{CALLEE}>\r\nExpires: 300\r\n");
    s.world.send(s.callee, s.node, subscribe.reply(200, "n", &headers, ""));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.get("Expires"), "300");
    (subscribe, ok)
}

/// The callee notifies; the caller answers.
fn notify(s: &mut Scene, number: u32, subscribe: &Text, state: &str) -> Text {
    let text = s.from_callee("NOTIFY", number, subscribe, "n", "");
    let end =
        format!("Event: presence\r\nSubscription-State: {state}\r\nContent-Length: 0\r\n\r\n");
    s.world.send(s.callee, s.node, text.replace("Content-Length: 0\r\n\r\n", &end));
    let notify = s.expect(s.caller, "NOTIFY");
    assert_eq!((notify.get("Subscription-State"), notify.get("Event")), (state, "presence"));
    s.world.send(s.caller, s.node, notify.reply(200, "", "", ""));
    s.expect_status(s.callee, 200);
    notify
}

#[test]
fn a_subscription_is_refreshed_notified_and_ended() {
    let mut s = world(&["SUBSCRIBE", "NOTIFY"]);
    let (subscribe, ok) = subscribe(&mut s);
    let notify_1 = notify(&mut s, 1, &subscribe, "active;expires=300");
    assert_eq!(notify_1.get("From").split(";tag=").nth(1), ok.get("To").split(";tag=").nth(1));
    s.world.run(Duration::from_secs(290));
    let end = "Event: presence\r\nExpires: 300\r\nContent-Length: 0\r\n\r\n";
    let text = s.in_dialog("SUBSCRIBE", 2, &ok, "").replace("Content-Length: 0\r\n\r\n", end);
    s.world.send(s.caller, s.node, text);
    let refresh = s.expect(s.callee, "SUBSCRIBE");
    assert_eq!((refresh.get("CSeq"), refresh.tag("To")), ("2 SUBSCRIBE", "n"));
    s.world.send(s.callee, s.node, refresh.reply(200, "n", "Expires: 300\r\n", ""));
    s.expect_status(s.caller, 200);
    s.world.run(Duration::from_secs(290));
    assert_eq!(s.world.shards()[0].signal().errands(), 1);
    notify(&mut s, 2, &subscribe, "terminated;reason=deactivated");
    let text = s.in_dialog("SUBSCRIBE", 3, &ok, "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 481);
    assert_nothing_left(&mut s);
}

#[test]
fn a_notify_may_come_before_the_answer_to_its_subscribe() {
    let mut s = world(&["SUBSCRIBE", "NOTIFY"]);
    let text = request(&mut s, "SUBSCRIBE", "Event: presence\r\n", "", "");
    s.world.send(s.caller, s.node, text);
    let subscribe = s.expect(s.callee, "SUBSCRIBE");
    notify(&mut s, 1, &subscribe, "active");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, subscribe.reply(200, "n", &contact, ""));
    s.expect_status(s.caller, 200);
    // Nobody refreshes it: it is forgotten after its time.
    s.world.run(Duration::from_secs(3_700));
    assert_nothing_left(&mut s);
}

#[test]
fn strangers_and_guessed_tags_reach_no_subscription() {
    let mut s = world(&["SUBSCRIBE", "NOTIFY"]);
    let (subscribe, _) = subscribe(&mut s);
    let text = s.from_callee("NOTIFY", 1, &subscribe, "other", "");
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 481);
    let text = s.from_callee("NOTIFY", 1, &subscribe, "n", "");
    // From the second callee, whose trunk it is not.
    s.world.send(s.second, s.node, text.replace(CALLEE, SECOND));
    assert!(s.within(s.second, Duration::from_secs(1)).is_none());
    assert!(s.within(s.caller, Duration::from_secs(1)).is_none());
    let text = s
        .from_callee("NOTIFY", 1, &subscribe, "n", "")
        .replace("Content-Length", "Subscription-State: terminated\r\nContent-Length");
    s.world.send(s.callee, s.node, text);
    // The subscriber has gone: it is over all the same.
    s.expect(s.caller, "NOTIFY");
    s.world.run(Duration::from_secs(40));
    assert_nothing_left(&mut s);
}

#[test]
fn after_a_crash_a_subscription_is_made_anew() {
    let mut s = world(&["SUBSCRIBE", "NOTIFY"]);
    let (subscribe, ok) = subscribe(&mut s);
    s.world.crash();
    let text = s.in_dialog("SUBSCRIBE", 2, &ok, "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 481);
    let text = s.from_callee("NOTIFY", 1, &subscribe, "n", "");
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 481);
    assert_nothing_left(&mut s);
}
