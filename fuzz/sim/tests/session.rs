//! Session timers (RFC 4028) through the whole node: asked for, agreed to, refreshed, missed.

use sbc::dialog::session_timer::{Mode, Refresher, Terms};
use sim::scene::{CALLEE_MEDIA, CALLER, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE\r\n";

/// A world whose caller's and callee's trunks have these terms, and where nobody has to talk.
fn world(caller: Mode, callee: Mode) -> Scene {
    let mut image = image();
    for (trunk, mode) in image.trunks.iter_mut().zip([caller, callee, callee]) {
        trunk.media_timeout = None;
        trunk.session = Terms { mode, expires_s: 600, min_se_s: 120, refresher: Refresher::Us };
    }
    Scene::with(image, Default::default())
}

fn offer() -> String {
    wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0", "sendrecv")
}

/// An INVITE with these headers, and what the callee gets of it.
fn ring(s: &mut Scene, headers: &str) -> Text {
    let text = s.request("INVITE", "c1", "442079460000", headers, &offer());
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    s.expect(s.callee, "INVITE")
}

fn answer(s: &mut Scene, invite: &Text, headers: &str) -> Text {
    let (headers, answer) = (format!("{CONTACT}{headers}"), s.answer());
    s.world.send(s.callee, s.node, invite.reply(200, "b", &headers, &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let number = ok.get("CSeq").split(' ').next().expect("a number").parse().expect("a number");
    let ack = s.in_dialog("ACK", number, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    ok
}

fn seconds(s: &Scene, since: base::Instant) -> u64 {
    (s.world.now().since(since).as_millis() as u64 + 500) / 1000
}

#[test]
fn who_asks_is_served_and_the_other_leg_hears_nothing_of_it() {
    let mut s = world(Mode::Serve, Mode::Serve);
    let invite =
        ring(&mut s, "Supported: timer\r\nSession-Expires: 300;refresher=uac\r\nMin-SE: 90\r\n");
    assert_eq!((invite.get("Supported"), invite.get("Session-Expires")), ("100rel, timer", ""));
    let ok = answer(&mut s, &invite, "");
    assert_eq!(ok.get("Session-Expires"), "300;refresher=uac");
    assert_eq!(ok.get("Require"), "timer");
    let answered = s.world.now();
    // It refreshes in time, once.
    s.world.run(Duration::from_secs(200));
    let headers = "\r\nSupported: timer\r\nSession-Expires: 300;refresher=uac\r\nContact:";
    let text = s.in_dialog("UPDATE", 2, &ok, "").replacen("\r\nContact:", headers, 1);
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.expect_status(s.caller, 200).get("Session-Expires"), "300;refresher=uac");
    s.world.run(Duration::from_secs(260));
    assert!(s.within(s.callee, Duration::ZERO).is_none());
    // The next refresh is missed: 32 s before the end both sides are told.
    let bye = s.expect(s.caller, "BYE");
    assert_eq!(seconds(&s, answered), 200 + 300 - 32);
    assert_eq!(bye.get("Reason"), "Q.850;cause=102;text=\"session_expired\"");
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.let_go(s.callee, "");
    s.assert_clean(1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"session_expired");
}

#[test]
fn we_refresh_when_we_are_to_by_update() {
    let mut s = world(Mode::Serve, Mode::Ask);
    let invite = ring(&mut s, "");
    assert_eq!(invite.get("Session-Expires"), "600;refresher=uac");
    assert_eq!(invite.get("Min-SE"), "120");
    let ok = answer(&mut s, &invite, &format!("{UPDATES}Session-Expires: 400;refresher=uac\r\n"));
    assert_eq!(ok.get("Session-Expires"), "");
    let answered = s.world.now();
    for refresh in 1..=3 {
        let update = s.world.wait(s.callee, Duration::from_secs(300)).expect("a refresh");
        let update = Text::read(&update.bytes).unwrap();
        assert_eq!((update.method(), update.body()), (Some("UPDATE"), ""));
        assert_eq!(update.get("Session-Expires"), "400;refresher=uac");
        assert_eq!(seconds(&s, answered), refresh * 200);
        let granted = format!("{CONTACT}Session-Expires: 400;refresher=uac\r\nRequire: timer\r\n");
        s.world.send(s.callee, s.node, update.reply(200, "b", &granted, ""));
        s.world.run(Duration::from_millis(10));
    }
    // The fourth is never answered: the dialog is gone.
    s.world.run(Duration::from_secs(240));
    assert_eq!(s.expect(s.caller, "BYE").get("Reason"), "Q.850;cause=41;text=\"dialog_lost\"");
    s.assert_clean(1);
}

#[test]
fn a_side_that_knows_neither_timers_nor_update_is_refreshed_by_reinvite() {
    let mut s = world(Mode::Serve, Mode::Ask);
    let invite = ring(&mut s, "");
    answer(&mut s, &invite, "Allow: INVITE, ACK, BYE\r\n");
    let again = s.world.wait(s.callee, Duration::from_secs(310)).expect("a refresh");
    let again = Text::read(&again.bytes).unwrap();
    assert_eq!(again.method(), Some("INVITE"));
    assert_eq!(again.body(), invite.body(), "the description of before, version and all");
    // It is busy with something of its own; the leg is ours, so we wait longer than it would.
    s.world.send(s.callee, s.node, again.reply(491, "b", "", ""));
    s.expect(s.callee, "ACK");
    let refused = s.world.now();
    let again = s.expect(s.callee, "INVITE");
    let waited = s.world.now().since(refused);
    assert!((2_100..4_000).contains(&waited.as_millis()), "RFC 3261 14.1: {waited:?}");
    // Meanwhile an offer of the callee's crosses ours.
    let crossing = s.from_callee("INVITE", 1, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, crossing);
    s.expect_status(s.callee, 491);
    let answer = s.answer();
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    assert!(s.within(s.caller, Duration::ZERO).is_none(), "the other side hears nothing of it");
    let next = std::iter::from_fn(|| s.within(s.callee, Duration::from_secs(310)));
    assert!(next.take(20).any(|t| t.method() == Some("INVITE")), "the next refresh");
}

#[test]
fn a_crossing_refresh_towards_the_caller_waits_less() {
    let mut s = world(Mode::Ask, Mode::Off);
    let invite = ring(&mut s, "Allow: INVITE, ACK, BYE\r\n");
    assert_eq!((invite.get("Supported"), invite.get("Session-Expires")), ("100rel", ""));
    let ok = answer(&mut s, &invite, "");
    assert_eq!((ok.get("Session-Expires"), ok.get("Require")), ("600;refresher=uas", ""));
    let refresh = s.world.wait(s.caller, Duration::from_secs(310)).expect("a refresh");
    let refresh = Text::read(&refresh.bytes).unwrap();
    s.world.send(s.caller, s.node, refresh.reply(491, "", "", ""));
    s.expect(s.caller, "ACK");
    let refused = s.world.now();
    s.expect(s.caller, "INVITE");
    assert!(s.world.now().since(refused).as_millis() <= 2_010, "the Call-ID is theirs");
}

#[test]
fn too_short_an_interval_is_answered_422() {
    let mut s = world(Mode::Serve, Mode::Serve);
    let text = s.request(
        "INVITE",
        "short",
        "442079460000",
        "Supported: timer\r\nSession-Expires: 119\r\n",
        &offer(),
    );
    s.world.send(s.caller, s.node, text);
    let refused = s.expect_status(s.caller, 422);
    assert_eq!(refused.get("Min-SE"), "120");
    assert!(refused.get("Reason").contains("session_too_short"), "{}", refused.raw);
    // Whoever follows is served; so is a refresh.
    let invite = ring(&mut s, "Supported: timer\r\nSession-Expires: 120\r\nMin-SE: 120\r\n");
    let ok = answer(&mut s, &invite, "");
    assert_eq!(ok.get("Session-Expires"), "120;refresher=uas", "who refreshes is ours to say");
    let headers = "\r\nSupported: timer\r\nSession-Expires: 100\r\nContact:";
    let text = s.in_dialog("UPDATE", 2, &ok, "").replacen("\r\nContact:", headers, 1);
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.expect_status(s.caller, 422).get("Min-SE"), "120");
    s.assert_clean(2);
}

#[test]
fn a_422_of_the_callee_is_followed() {
    let mut s = world(Mode::Serve, Mode::Ask);
    let invite = ring(&mut s, "");
    s.world.send(s.callee, s.node, invite.reply(422, "x", "Min-SE: 900\r\n", ""));
    s.expect(s.callee, "ACK");
    let again = s.expect(s.callee, "INVITE");
    assert_eq!((again.get("Session-Expires"), again.get("Min-SE")), ("900;refresher=uac", "900"));
    assert_eq!((again.get("Call-ID"), again.get("CSeq")), (invite.get("Call-ID"), "2 INVITE"));
    assert_eq!(again.body(), invite.body());
    let ok = answer(&mut s, &again, UPDATES);
    // A refresh is refused in the same way, and followed in the same way.
    let refresh = s.world.wait(s.callee, Duration::from_secs(460)).expect("a refresh");
    let refresh = Text::read(&refresh.bytes).unwrap();
    s.world.send(s.callee, s.node, refresh.reply(422, "b", "Min-SE: 1200\r\n", ""));
    let longer = s.expect(s.callee, "UPDATE");
    assert_eq!(longer.get("Session-Expires"), "1200;refresher=uac");
    s.world.send(s.callee, s.node, longer.reply(200, "b", CONTACT, ""));
    // And so is an offer of the caller's.
    let hold = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "sendonly");
    let text = s.in_dialog("INVITE", 2, &ok, &hold);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let held = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, held.reply(422, "b", "Min-SE: 1300\r\n", ""));
    s.expect(s.callee, "ACK");
    let longer = s.expect(s.callee, "INVITE");
    assert_eq!((longer.get("Session-Expires"), longer.body()), ("1300;refresher=uac", held.body()));
    let answer = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 2, "0", "recvonly");
    s.world.send(s.callee, s.node, longer.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    assert!(s.expect_status(s.caller, 200).body().contains("recvonly"));
}

#[test]
fn a_422_that_asks_for_no_more_is_a_refusal() {
    let mut s = world(Mode::Serve, Mode::Ask);
    let invite = ring(&mut s, "");
    s.world.send(s.callee, s.node, invite.reply(422, "x", "Min-SE: 900\r\n", ""));
    s.expect(s.callee, "ACK");
    let again = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, again.reply(422, "x", "Min-SE: 900\r\n", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 500);
    s.assert_clean(1);
}

#[test]
fn on_a_trunk_without_timers_the_extension_is_unknown() {
    let mut s = world(Mode::Off, Mode::Off);
    let text = s.request(
        "INVITE",
        "off",
        "442079460000",
        "Require: timer\r\nSession-Expires: 300\r\n",
        &offer(),
    );
    s.world.send(s.caller, s.node, text);
    assert_eq!(s.expect_status(s.caller, 420).get("Unsupported"), "timer");
    let invite = ring(&mut s, "Supported: timer\r\nSession-Expires: 30\r\n");
    let ok = answer(&mut s, &invite, "Session-Expires: 300;refresher=uas\r\n");
    assert_eq!(ok.get("Session-Expires"), "");
    s.world.run(Duration::from_secs(600));
    assert!(s.within(s.callee, Duration::ZERO).is_none(), "nobody ends the call");
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.assert_clean(2);
}

#[test]
fn a_handed_over_shard_keeps_sessions_alive() {
    let mut s = world(Mode::Serve, Mode::Ask);
    let invite = ring(&mut s, "");
    answer(&mut s, &invite, &format!("{UPDATES}Session-Expires: 200;refresher=uac\r\n"));
    s.world.run(Duration::from_secs(50));
    (0..2).for_each(|shard| s.world.hand_over(shard));
    let update = s.world.wait(s.callee, Duration::from_secs(51)).expect("a refresh");
    let update = Text::read(&update.bytes).unwrap();
    (0..2).for_each(|shard| s.world.hand_over(shard));
    let granted = format!("{CONTACT}Session-Expires: 200;refresher=uac\r\n");
    s.world.send(s.callee, s.node, update.reply(200, "b", &granted, ""));
    s.world.run(Duration::from_secs(90));
    assert_eq!(s.world.cdrs().len(), 0, "{}", s.ladder());
    assert!(s.within(s.caller, Duration::ZERO).is_none(), "{CALLER} hears nothing of it");
}
