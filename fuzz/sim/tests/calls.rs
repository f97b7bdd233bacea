//! Calls through the whole node, peers scripted by hand: what each side sees, in which order.

use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER, CALLER_MEDIA, SECOND, Scene, image};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";

#[test]
fn a_plain_call_hides_each_side_from_the_other() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    assert!(!invite.raw.contains("198.51.100.10"), "{}", invite.raw);
    assert!(!ok.raw.contains("203.0.113.20"), "{}", ok.raw);
    assert_eq!(invite.uri(), format!("sip:442079460000@{CALLEE}"));
    assert_eq!(invite.get("Max-Forwards"), "69");
    assert_eq!(invite.get("Supported"), "100rel, timer");
    s.finish(&ok);
    let cdr = &s.world.cdrs()[0];
    assert_eq!((cdr.status, cdr.q850, &*cdr.reason), (200, 16, &b"caller_hung_up"[..]));
    assert_eq!((&*cdr.trunk_in, &*cdr.trunk_out), (&b"in"[..], &b"out"[..]));
    assert!(cdr.duration_ns() > 0 && cdr.duration_ns() < 1_000_000_000);
}

#[test]
fn media_flows_both_ways_and_only_from_the_peers() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    let (to_caller, to_callee) = (ok.media().unwrap(), invite.media().unwrap());
    let (a, b) = (CALLER_MEDIA.parse().unwrap(), CALLEE_MEDIA.parse().unwrap());
    let stranger = s.world.peer("192.0.2.99:9");
    for i in 0..10 {
        s.world.send(a, to_caller, wire::rtp(i, 1, b'a'));
        s.world.send(b, to_callee, wire::rtp(i, 2, b'b'));
        s.world.send(stranger, to_caller, wire::rtp(i, 3, b'x'));
    }
    s.world.run(Duration::from_millis(100));
    let drain = |s: &mut Scene, peer| std::iter::from_fn(|| s.world.take(peer)).collect::<Vec<_>>();
    let (heard_by_a, heard_by_b) = (drain(&mut s, a), drain(&mut s, b));
    assert_eq!((heard_by_a.len(), heard_by_b.len()), (10, 10));
    assert!(heard_by_a.iter().all(|p| p.bytes[20] == b'b' && p.from == to_caller));
    assert!(heard_by_b.iter().all(|p| p.bytes[20] == b'a' && p.from == to_callee));
    assert!(drain(&mut s, stranger).is_empty());
    s.finish(&ok);
    let media = s.world.cdrs()[0].media;
    assert_eq!((media[0].packets, media[1].packets, media[0].discarded), (10, 10, 10));
    assert!(media[0].mos_centi().is_some_and(|m| m > 400));
}

#[test]
fn ringing_and_early_media_reach_the_caller() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    let ringing = s.expect_status(s.caller, 180);
    assert_eq!(ringing.body(), "");
    let answer = s.answer();
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &answer));
    let progress = s.expect_status(s.caller, 183);
    let a = progress.media().unwrap();
    s.world.send(CALLEE_MEDIA.parse().unwrap(), invite.media().unwrap(), wire::rtp(1, 2, b'r'));
    let heard =
        s.world.wait(CALLER_MEDIA.parse().unwrap(), Duration::from_secs(1)).expect("ringback");
    assert_eq!(heard.from, a);
    // The 2xx without a description confirms the one of the 183.
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.body(), progress.body(), "one answer per dialog");
    assert_eq!(ok.tag("To"), ringing.tag("To"));
    s.expect(s.callee, "ACK");
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.finish(&ok);
    assert!(s.world.cdrs()[0].ringing.is_some());
}

#[test]
fn the_callee_hangs_up() {
    let mut s = Scene::new();
    let (invite, _) = s.establish("c1");
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    let bye = s.expect(s.caller, "BYE");
    assert!(bye.get("Reason").contains("Q.850;cause=16"), "{}", bye.raw);
    s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
    s.assert_clean(1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"callee_hung_up");
}

#[test]
fn both_hang_up_at_once() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.callee, 200);
    let to_caller = s.expect(s.caller, "BYE");
    s.expect_status(s.caller, 200);
    s.world.send(s.caller, s.node, to_caller.reply(200, "", "", ""));
    s.assert_clean(1);
}

#[test]
fn a_busy_callee_is_reported_and_not_hunted_past() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(486, "b", "", ""));
    let ack = s.expect(s.callee, "ACK");
    assert_eq!(ack.get("Via"), invite.get("Via"), "17.1.1.3: the INVITE's branch");
    assert_eq!(ack.tag("To"), "b");
    let busy = s.expect_status(s.caller, 486);
    let ack = s.in_dialog("ACK", 1, &busy, "").replace(
        &format!("ACK {} ", busy.uri_of("Contact")),
        "ACK sip:442079460000@192.0.2.1:5060 ",
    );
    let branch =
        busy.get("Via").split("branch=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let own = ack.split("branch=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    s.world.send(s.caller, s.node, ack.replace(&own, &branch));
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    assert_eq!((cdr.status, cdr.q850, cdr.attempts.len()), (486, 17, 1));
    assert!(s.within(s.second, Duration::ZERO).is_none());
}

#[test]
fn a_failing_route_gives_way_to_the_next() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let first = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, first.reply(503, "b", "", ""));
    s.expect(s.callee, "ACK");
    let second = s.expect(s.second, "INVITE");
    assert_ne!(first.get("Call-ID"), second.get("Call-ID"));
    assert_eq!(second.uri(), format!("sip:442079460000@{SECOND}"));
    s.world.send(s.second, s.node, second.reply(480, "x", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 480);
    s.assert_clean(1);
    let attempts = &s.world.cdrs()[0].attempts;
    assert_eq!(attempts.iter().map(|a| a.status).collect::<Vec<_>>(), [503, 480]);
}

#[test]
fn a_silent_route_gives_way_and_its_late_answer_is_declined() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let other = s.expect(s.second, "INVITE");
    // The first route wakes up after all.
    s.world.send(s.callee, s.node, invite.reply(200, "late", CONTACT, &s.answer()));
    let mut seen = Vec::new();
    while let Some(text) = s.within(s.callee, Duration::from_millis(50)) {
        seen.push(text.method().unwrap_or("").to_owned());
        if text.method() == Some("BYE") {
            s.world.send(s.callee, s.node, text.reply(200, "", "", ""));
        }
    }
    assert!(seen.ends_with(&["ACK".to_owned(), "BYE".to_owned()]), "{seen:?}");
    s.world.send(s.second, s.node, other.reply(486, "x", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 486);
    s.assert_clean(1);
}

#[test]
fn the_caller_cancels_while_it_rings() {
    let mut s = Scene::new();
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    s.expect_status(s.caller, 200);
    s.expect_status(s.caller, 487);
    let cancel = s.expect(s.callee, "CANCEL");
    assert_eq!(cancel.get("Via"), invite.get("Via"));
    assert_eq!(cancel.get("CSeq"), "1 CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.assert_clean(1);
    assert_eq!(s.world.cdrs()[0].status, 487);
}

#[test]
fn the_reason_of_a_cancel_is_carried_on() {
    let given = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"";
    let long = format!("Reason: Q.850;cause=19;text=\"{}\"", "x".repeat(300));
    for (given, carried, q850) in [
        (given, "SIP;cause=200;text=\"Call completed elsewhere\"", 16),
        ("Reason: Q.850;cause=19", "Q.850;cause=19", 19),
        ("Reason: Q.850;cause=900", "Q.850;cause=900", 16),
        ("Reason: SIP;cause=487, Q.850;cause=31", "SIP;cause=487, Q.850;cause=31", 31),
        (&long, "Q.850;cause=16;text=\"cancelled\"", 19),
        ("Subject: x", "Q.850;cause=16;text=\"cancelled\"", 16),
    ] {
        let mut s = Scene::new();
        let sent = s.invite("c1");
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
        s.expect_status(s.caller, 180);
        let cancel = wire::companion(&sent.raw, "CANCEL", None);
        let cancel = cancel.replacen("\r\nCSeq", &format!("\r\n{given}\r\nCSeq"), 1);
        s.world.send(s.caller, s.node, cancel);
        s.expect_status(s.caller, 200);
        let cancel = s.expect(s.callee, "CANCEL");
        assert_eq!(cancel.get("Reason"), carried);
        s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
        s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
        s.assert_clean(1);
        assert_eq!(s.world.cdrs()[0].q850, q850);
    }
}

#[test]
fn a_cancel_before_any_response_waits_for_one() {
    let mut s = Scene::new();
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    s.expect_status(s.caller, 200);
    s.expect_status(s.caller, 487);
    assert!(
        s.within(s.callee, Duration::from_millis(400)).is_none(),
        "9.1: not before a provisional"
    );
    s.world.send(s.callee, s.node, invite.reply(100, "", "", ""));
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.assert_clean(1);
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut s = Scene::new();
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    s.world.run(Duration::from_millis(1));
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect_status(s.caller, 200);
    s.expect_status(s.caller, 487);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.let_go(s.callee, "");
    s.assert_clean(1);
}

#[test]
fn an_offer_in_the_200_is_answered_in_the_ack() {
    let mut s = Scene::new();
    let text = s.request("INVITE", "late", "442079460000", "", "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(invite.body(), "");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    let ok = s.expect_status(s.caller, 200);
    let to_caller = ok.media().expect("the callee's offer, with our address");
    let answer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0", "");
    let ack = s.in_dialog("ACK", 1, &ok, &answer);
    s.world.send(s.caller, s.node, ack);
    let ack = s.expect(s.callee, "ACK");
    let to_callee = ack.media().expect("the caller's answer, with our address");
    s.world.send(CALLER_MEDIA.parse().unwrap(), to_caller, wire::rtp(1, 1, b'a'));
    let heard = s.world.wait(CALLEE_MEDIA.parse().unwrap(), Duration::from_secs(1)).expect("media");
    assert_eq!(heard.from, to_callee);
    s.finish(&ok);
}

#[test]
fn hold_and_resume_by_the_caller_and_a_new_port_by_the_callee() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    let hold = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "sendonly");
    let text = s.in_dialog("INVITE", 2, &ok, &hold);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("a=sendonly"));
    assert_eq!(again.tag("To"), "b");
    let held = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 2, "0", "recvonly");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &held));
    let held = s.expect_status(s.caller, 200);
    assert!(held.body().contains("a=recvonly"));
    s.expect(s.callee, "ACK");
    let ack = s.in_dialog("ACK", 2, &ok, "");
    s.world.send(s.caller, s.node, ack);
    // On hold nobody has to send: the call outlives the media time-out.
    s.world.run(Duration::from_secs(60));
    assert_eq!(s.world.cdrs().len(), 0);
    // The callee moves its port and resumes.
    let moved = s.world.peer("203.0.113.20:6000");
    let offer = wire::sdp(moved, 3, "0", "sendrecv");
    let text = s.from_callee("INVITE", 1, &invite, "b", &offer);
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 100);
    let to_caller = s.expect(s.caller, "INVITE");
    let answer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 3, "0", "sendrecv");
    s.world.send(
        s.caller,
        s.node,
        to_caller.reply(200, "", &format!("Contact: <sip:{CALLER}>\r\n"), &answer),
    );
    let resumed = s.expect_status(s.callee, 200);
    s.expect(s.caller, "ACK");
    let ack = s.from_callee("ACK", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, ack);
    s.world.run(Duration::from_millis(10));
    s.world.send(CALLER_MEDIA.parse().unwrap(), ok.media().unwrap(), wire::rtp(1, 1, b'a'));
    assert!(s.world.wait(moved, Duration::from_secs(1)).is_some(), "media follows the new port");
    assert!(resumed.body().contains("a=sendrecv"));
    bye_from_caller_after(&mut s, &ok);
    s.assert_clean(1);
}

#[test]
fn reinvites_that_cross_are_answered_491_and_a_refused_one_changes_nothing() {
    let mut s = Scene::new();
    let (invite, ok) = s.establish("c1");
    let offer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "8", "");
    let text = s.in_dialog("INVITE", 2, &ok, &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let again = s.expect(s.callee, "INVITE");
    let crossing = s.from_callee("INVITE", 1, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, crossing);
    s.expect_status(s.callee, 491);
    let pending = s.within(s.callee, Duration::from_millis(10));
    assert!(pending.is_none());
    s.world.send(s.callee, s.node, again.reply(488, "b", "", ""));
    while s.next(s.callee).method() != Some("ACK") {}
    s.expect_status(s.caller, 488);
    bye_from_caller_after(&mut s, &ok);
    s.assert_clean(1);
}

fn bye_from_caller_after(s: &mut Scene, ok: &Text) {
    let bye = s.in_dialog("BYE", 3, ok, "");
    s.world.send(s.caller, s.node, bye);
    loop {
        let text = s.next(s.callee);
        if text.method() == Some("BYE") {
            s.world.send(s.callee, s.node, text.reply(200, "b", "", ""));
            break;
        }
    }
}

#[test]
fn lost_acks_and_lost_responses_are_made_good() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect(s.callee, "ACK");
    // The callee did not see the ACK: its 200 comes again, and so does the ACK.
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect(s.callee, "ACK");
    // The caller did not see the 200: it comes again until it is acknowledged.
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(s.expect_status(s.caller, 200), ok);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_secs(5));
    assert!(s.within(s.caller, Duration::ZERO).is_none());
    s.finish(&ok);
}

#[test]
fn a_caller_that_never_acknowledges_is_released() {
    let mut silent = image();
    silent.trunks.iter_mut().for_each(|t| t.media_timeout = None);
    let mut s = Scene::with(silent, Default::default());
    s.invite("c1");
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect(s.callee, "ACK");
    s.let_go(s.callee, "");
    s.assert_clean(1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"no_ack");
    assert!(s.ladder().contains("BYE sip:1001@198.51.100.10"), "the caller is told as well");
}

#[test]
fn silence_on_both_sides_ends_the_call() {
    let mut s = Scene::new();
    let (_, ok) = s.establish("c1");
    // One side alone keeps it alive.
    for i in 0..50 {
        s.world.send(CALLER_MEDIA.parse().unwrap(), ok.media().unwrap(), wire::rtp(i, 1, b'a'));
        s.world.run(Duration::from_secs(1));
    }
    assert_eq!(s.world.cdrs().len(), 0, "{}", s.ladder());
    s.world.run(Duration::from_secs(33));
    assert_eq!(s.world.cdrs().len(), 1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"media_timeout");
    assert!(s.expect(s.caller, "BYE").get("Reason").contains("media_timeout"));
    assert!(s.expect(s.callee, "BYE").get("Reason").contains("Q.850"));
    s.assert_clean(1);
}

#[test]
fn ring_time_and_call_time_are_limited() {
    let mut image_ = image();
    image_.trunks[1].ring_timeout = Duration::from_secs(20);
    image_.trunks[1].max_duration = Duration::from_secs(10);
    let mut s = Scene::with(image_, Default::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.expect_status(s.caller, 480);
    s.world.run(Duration::from_secs(40));
    while s.within(s.callee, Duration::ZERO).is_some() {}
    while s.within(s.caller, Duration::ZERO).is_some() {}
    s.establish("c2");
    s.world.run(Duration::from_secs(11));
    let cdrs = s.world.cdrs();
    assert_eq!((&*cdrs[0].reason, &*cdrs[1].reason), (&b"ring_timeout"[..], &b"max_duration"[..]));
    s.assert_clean(2);
}

#[test]
fn refusals_say_why_and_leave_a_cdr() {
    let mut s = Scene::new();
    let offer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0", "");
    let srtp = offer.replace("RTP/AVP", "RTP/SAVP");
    let cases = [
        ("900", "", offer.as_str(), 404, "no_route"),
        ("44", "Require: 100rel, tango\r\n", &offer, 420, "bad_extension"),
        ("44", "", &srtp, 488, "srtp_forbidden"),
        ("44", "", "v=1\r\n", 400, "bad_sdp"),
        ("abc", "", &offer, 484, "bad_number"),
    ];
    for (i, (number, headers, body, status, reason)) in cases.into_iter().enumerate() {
        let text = s.request("INVITE", &format!("r{i}"), number, headers, body);
        s.world.send(s.caller, s.node, text);
        if status == 404 {
            s.expect_status(s.caller, 100);
        }
        let refused = s.expect_status(s.caller, status);
        assert!(refused.get("Reason").contains(reason), "{}", refused.raw);
        if status == 420 {
            assert_eq!(refused.all("Unsupported"), ["tango"]);
        }
        let cdrs = s.world.cdrs();
        let own = cdrs
            .iter()
            .find(|c| *c.call_id_in == *format!("r{i}@caller").as_bytes())
            .expect("a CDR");
        assert_eq!((&*own.reason, own.status), (reason.as_bytes(), status));
        let ack = s.in_dialog("ACK", 1, &refused, "");
        let via = refused.get("Via").split(";received").next().unwrap().to_owned();
        let own = Text { raw: ack.clone() }.get("Via").to_owned();
        s.world.send(s.caller, s.node, ack.replace(&own, &via));
        s.world.run(Duration::from_millis(5));
    }
    let hops =
        s.request("INVITE", "mf", "44", "", &offer).replace("Max-Forwards: 70", "Max-Forwards: 0");
    s.world.send(s.caller, s.node, hops);
    s.expect_status(s.caller, 483);
    s.assert_clean(6);
}

#[test]
fn strangers_get_silence_and_forged_requests_change_nothing() {
    let mut s = Scene::new();
    let stranger = s.world.peer("192.0.2.66:5060");
    let offer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0", "");
    let text = s.request("INVITE", "x", "44", "", &offer);
    s.world.send(stranger, s.node, text);
    let text = s.request("OPTIONS", "o", "44", "", "");
    s.world.send(stranger, s.node, text);
    s.world.send(stranger, s.node, "INVITE sip:x SIP/2.0\r\nnonsense\r\n\r\n");
    assert!(s.within(stranger, Duration::from_secs(5)).is_none());
    let (_, ok) = s.establish("c1");
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(stranger, s.node, bye.clone());
    // The right source with a guessed tag is no better.
    let tag = ok.tag("To").to_owned();
    let guessed =
        format!("{}{}", &tag[..tag.len() - 1], if tag.ends_with('0') { '1' } else { '0' });
    s.world.send(s.caller, s.node, bye.replace(&tag, &guessed));
    s.expect_status(s.caller, 481);
    // So is our tag with another Call-ID, or with another tag of the peer.
    let other = s.in_dialog("BYE", 2, &ok, "").replace("c1@caller", "c2@caller");
    s.world.send(s.caller, s.node, other);
    s.expect_status(s.caller, 481);
    let other = s.in_dialog("BYE", 2, &ok, "").replace("tag=ac1", "tag=zc1");
    s.world.send(s.caller, s.node, other);
    s.expect_status(s.caller, 481);
    assert_eq!(s.world.cdrs().len(), 0);
    s.finish(&ok);
}

#[test]
fn options_and_unknown_methods_are_answered() {
    let mut s = Scene::new();
    let text = s.request("OPTIONS", "o", "", "", "").replace("sip:@", "sip:");
    s.world.send(s.caller, s.node, text);
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.get("Allow"), "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO");
    for (method, status) in [("REGISTER", 405), ("MESSAGE", 405), ("FROBNICATE", 501)] {
        let text = s.request(method, method, "44", "", "");
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, status);
    }
    s.assert_clean(0);
}

#[test]
fn a_merged_request_is_refused() {
    let mut s = Scene::new();
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    let other = sent.raw.replace("branch=z9hG4bKc11", "branch=z9hG4bKother");
    assert_ne!(other, sent.raw);
    s.world.send(s.caller, s.node, other);
    s.expect_status(s.caller, 482);
    // The same branch is merely a retransmission.
    s.world.send(s.caller, s.node, sent.raw.clone());
    s.expect_status(s.caller, 100);
}

#[test]
fn capacity_and_rate_are_exact() {
    let mut limited = image();
    limited.trunks[0].capacity = 2;
    let mut s = Scene::with(limited, Default::default());
    let (_, first) = s.establish("c1");
    s.establish("c2");
    s.invite("c3");
    let refused = s.expect_status(s.caller, 503);
    assert!(refused.get("Reason").contains("trunk_capacity"), "{}", refused.raw);
    s.hang_up(&first);
    s.world.run(Duration::from_secs(1));
    while s.within(s.caller, Duration::ZERO).is_some() {}
    s.establish("c4");
}

#[test]
fn a_handed_over_shard_goes_on_with_its_calls() {
    for step in 0..6 {
        let mut s = Scene::new();
        let hand_over = |s: &mut Scene, now: i32| {
            if step == now || step == 5 {
                for shard in 0..2 {
                    s.world.hand_over(shard);
                }
            }
        };
        s.invite("c1");
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        hand_over(&mut s, 0);
        s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
        s.expect_status(s.caller, 180);
        hand_over(&mut s, 1);
        s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
        s.expect(s.callee, "ACK");
        let ok = s.expect_status(s.caller, 200);
        hand_over(&mut s, 2);
        let ack = s.in_dialog("ACK", 1, &ok, "");
        s.world.send(s.caller, s.node, ack);
        s.world.run(Duration::from_millis(5));
        hand_over(&mut s, 3);
        s.world.send(CALLER_MEDIA.parse().unwrap(), ok.media().unwrap(), wire::rtp(1, 1, b'a'));
        assert!(s.world.wait(CALLEE_MEDIA.parse().unwrap(), Duration::from_secs(1)).is_some());
        s.hang_up(&ok);
        hand_over(&mut s, 4);
        s.assert_clean(1);
    }
}

#[test]
fn after_a_crash_both_sides_are_told_and_the_cdr_is_closed() {
    let mut s = Scene::new();
    s.establish("c1");
    s.invite("c2");
    s.expect_status(s.caller, 100);
    let ringing = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, ringing.reply(180, "r", CONTACT, ""));
    s.expect_status(s.caller, 180);
    s.world.run(Duration::from_secs(10));
    s.world.crash();
    let mut to_caller = Vec::new();
    while let Some(text) = s.within(s.caller, Duration::from_millis(100)) {
        to_caller
            .push(text.method().map_or_else(|| text.status().unwrap().to_string(), str::to_owned));
        if text.method() == Some("BYE") {
            assert!(text.get("Reason").contains("restart"), "{}", text.raw);
            s.world.send(s.caller, s.node, text.reply(200, "", "", ""));
        }
    }
    let mut to_callee = Vec::new();
    while let Some(text) = s.within(s.callee, Duration::from_millis(100)) {
        to_callee.push(text.method().unwrap_or("").to_owned());
        s.world.send(s.callee, s.node, text.reply(200, "", "", ""));
        if text.method() == Some("CANCEL") {
            s.world.send(s.callee, s.node, ringing.reply(487, "r", "", ""));
        }
    }
    assert!(
        to_caller.contains(&"BYE".to_owned()) && to_caller.contains(&"503".to_owned()),
        "{to_caller:?}"
    );
    assert!(
        to_callee.contains(&"BYE".to_owned()) && to_callee.contains(&"CANCEL".to_owned()),
        "{to_callee:?}"
    );
    s.assert_clean(2);
    let cdrs = s.world.cdrs();
    assert!(cdrs.iter().all(|c| c.marks.recovered && &*c.reason == b"restart"), "{cdrs:#?}");
}

#[test]
fn a_call_whose_record_is_torn_still_gets_its_cdr() {
    let mut s = Scene::new();
    s.establish("c1");
    s.world.tear_records();
    s.world.crash();
    s.assert_clean(1);
    assert!(s.world.cdrs()[0].marks.recovered);
}

#[test]
fn a_packet_that_makes_us_fail_takes_its_call_and_no_other() {
    let mut s = Scene::new();
    for shard in 0..2 {
        s.world.poison(shard, |bytes| bytes.windows(6).any(|w| w == b"poison"));
    }
    let (_, first) = s.establish("c1");
    let (_, second) = s.establish("c2");
    let options = s.request("OPTIONS", "poison", "44", "", "");
    s.world.send(s.caller, s.node, options);
    s.world.run(Duration::from_millis(10));
    assert!(!s.ladder().contains("200 OK (1 OPTIONS)"), "{}", s.ladder());
    while s.within(s.caller, Duration::ZERO).is_some() {}
    s.hang_up(&first);
    s.hang_up(&second);
    s.assert_clean(2);
}

/// The first route answers 183 with a description, then fails; returns the 183 and the second INVITE.
fn early_media_then_failure(s: &mut Scene, formats: &str) -> (Text, Text) {
    let offer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
    let text = s.request("INVITE", "c1", "442079460000", "", &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 1, formats, "sendrecv");
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &answer));
    let progress = s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, invite.reply(503, "b", "", ""));
    s.expect(s.callee, "ACK");
    (progress, s.expect(s.second, "INVITE"))
}

fn second_answers(s: &mut Scene, invite: &Text, status: u16, formats: &str) -> Text {
    let media = s.world.peer("203.0.113.30:4000");
    let answer = wire::sdp(media, 1, formats, "sendrecv");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    s.world.send(s.second, s.node, invite.reply(status, "x", &contact, &answer));
    s.expect_status(s.caller, status)
}

#[test]
fn hunting_after_early_media_with_an_answer_that_fits_is_the_same_dialog() {
    let mut s = Scene::new();
    let (progress, invite) = early_media_then_failure(&mut s, "0");
    let ok = second_answers(&mut s, &invite, 200, "0");
    assert_eq!(ok.tag("To"), progress.tag("To"));
    assert_eq!(ok.body(), progress.body(), "the caller sees one answer, at one address");
    // Its media reaches the second route now.
    s.world.send(CALLER_MEDIA.parse().unwrap(), ok.media().unwrap(), wire::rtp(1, 1, b'a'));
    let second = "203.0.113.30:4000".parse().unwrap();
    assert!(s.world.wait(second, Duration::from_secs(1)).is_some());
}

#[test]
fn hunting_after_early_media_with_another_answer_is_a_new_early_dialog() {
    let mut s = Scene::new();
    let (progress, invite) = early_media_then_failure(&mut s, "0");
    let again = second_answers(&mut s, &invite, 183, "8");
    assert_ne!(again.tag("To"), progress.tag("To"), "one answer per dialog");
    assert_ne!(again.body(), progress.body());
    let ok = second_answers(&mut s, &invite, 200, "8");
    assert_eq!((ok.tag("To"), ok.body()), (again.tag("To"), again.body()));
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
}

#[test]
fn a_callee_that_keeps_changing_its_answer_is_given_up() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let mut tags = Vec::new();
    for (fork, formats) in ["0", "8", "0 8", "8 0"].into_iter().enumerate() {
        let answer = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 1, formats, "");
        s.world.send(s.callee, s.node, invite.reply(183, &format!("f{fork}"), CONTACT, &answer));
        tags.push(s.expect_status(s.caller, 183).tag("To").to_owned());
    }
    tags.dedup();
    assert_eq!(tags.len(), 4, "each answer in an early dialog of its own");
    // What one of the dialogs has heard already needs no new one.
    let answer = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 1, "8", "");
    s.world.send(s.callee, s.node, invite.reply(183, "f9", CONTACT, &answer));
    assert_eq!(s.expect_status(s.caller, 183).tag("To"), tags[1]);
    let answer = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 1, "0 8 9", "");
    s.world.send(s.callee, s.node, invite.reply(183, "f10", CONTACT, &answer));
    let failed = s.expect_status(s.caller, 480);
    assert!(failed.get("Reason").contains("early_media_conflict"), "{}", failed.raw);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "f10", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "f10", "", ""));
    s.assert_clean(1);
}

#[test]
fn a_name_gives_addresses_of_the_interfaces_family_only() {
    use sbc::policy::Target;
    use sbc::policy::decide::{Decision, Facts, decide};
    use sbc::question::{Answer, Names, Query};
    let mut image = image();
    image.trunks[1].endpoints = vec![Target::Name(Query::port("host", 5060))];
    let (mut names, now) = (Names::default(), base::Instant(0));
    let page = base::page::Page::new(sbc::policy::Image::WORDS);
    let addresses = vec!["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    names.learn(Answer::of(Query::port("host", 5060), 5060, addresses, 60), now);
    let facts = Facts {
        trunk: 0,
        number: b"442079460000",
        calling: b"",
        told: None,
        now: base::Now { mono: now, wall: base::Wall(0) },
        names: &names,
        ported: &Default::default(),
        page: &page,
        standing: &Default::default(),
        outages: &Default::default(),
        draw: 1,
    };
    let Decision::Route(way) = decide(&image, &facts) else { panic!("no route") };
    let endpoints: Vec<_> = way.candidates.iter().map(|c| c.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["192.0.2.1:5060", SECOND]);
}

/// The process died when a call's start was journalled and nothing else was: its INVITE, repeated, begins
/// no second call, however often the successor dies as well.
#[test]
fn a_repeated_invite_of_a_call_that_died_in_its_first_step_begins_no_other() {
    for deaths in 1..4 {
        let mut s = Scene::new();
        s.world.crash_within(sim::fault::Cut::Journal);
        let invite = s.invite("c1");
        s.world.run(Duration::from_millis(20));
        for _ in 1..deaths {
            s.world.crash();
        }
        for _ in 0..3 {
            s.world.send(s.caller, s.node, invite.raw.clone());
            s.expect_status(s.caller, 503);
        }
        assert_eq!(s.world.cdrs().len(), 1, "{}", s.ladder());
        // Later the Call-ID is nobody's, as ever.
        s.world.run(Duration::from_secs(40));
        s.establish("c2");
        s.world.crash();
        s.world.run(Duration::from_secs(40));
        assert_eq!(s.world.cdrs().len(), 2, "{}", s.ladder());
    }
}

/// STUN beside SIP keeps a binding open (RFC 5626 4.4.2): answered to who is known, on datagrams alone.
#[test]
fn a_stun_request_on_the_sip_port_is_answered() {
    let mut s = Scene::new();
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    s.world.send(s.caller, s.node, request.clone());
    s.world.run(Duration::from_millis(50));
    let answer = s.world.take(s.caller).expect("an answer").bytes;
    let SocketAddr::V4(source) = s.caller else { panic!("{}", s.caller) };
    let port = source.port() ^ 0x2112;
    let ip = u32::from(*source.ip()) ^ 0x2112_a442;
    let mapped = [&[0, 0x20, 0, 8, 0, 1][..], &port.to_be_bytes(), &ip.to_be_bytes()].concat();
    let head = [&[1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    assert_eq!(answer[..], [head, mapped].concat());
    let stranger = s.world.peer("198.51.100.99:5060");
    s.world.send(stranger, s.node, request.clone());
    s.world.send(s.caller, s.node, request[..19].to_vec());
    s.world.run(Duration::from_millis(50));
    assert!(s.world.take(stranger).is_none() && s.world.take(s.caller).is_none());
    // Calls go on as ever.
    let (_, ok) = s.establish("after-stun");
    s.hang_up(&ok);
}
