//! Several routes at once, redirections, and early dialogs that end: what each side hears, and in which
//! order.

use sbc::policy::{Image, Redirects};
use sim::scene::{CALLEE, CALLER_MEDIA, SECOND, Scene, image};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const CONTACT_2: &str = "Contact: <sip:203.0.113.30:5060>\r\n";
const SECOND_MEDIA: &str = "203.0.113.30:4000";

/// Both trunks at the same time.
fn parallel() -> Image {
    let mut image = image();
    image.routes[0].parallel = true;
    image.routes[0].targets.iter_mut().for_each(|target| target.priority = 1);
    image
}

/// An INVITE with these headers, and what each callee gets of it.
fn ring(s: &mut Scene, headers: &str) -> (Text, Text, Text) {
    let offer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
    let sent = s.request("INVITE", "c1", "442079460000", headers, &offer);
    s.world.send(s.caller, s.node, sent.clone());
    s.expect_status(s.caller, 100);
    let (callee, second) = (s.callee, s.second);
    (Text { raw: sent }, s.expect(callee, "INVITE"), s.expect(second, "INVITE"))
}

fn second_says(formats: &str) -> String {
    wire::sdp(SECOND_MEDIA.parse().expect("an address"), 1, formats, "sendrecv")
}

/// The attempts of the only CDR by their trunks, which are drawn in any order.
fn attempts(s: &Scene) -> Vec<sbc::billing::Attempt> {
    let mut attempts = s.world.cdrs()[0].attempts.clone();
    attempts.sort_by(|a, b| a.trunk.cmp(&b.trunk));
    attempts
}

/// The branch at `peer` is cancelled, and says so.
fn cancelled(s: &mut Scene, peer: &str, invite: &Text) -> Text {
    let peer: SocketAddr = peer.parse().expect("an address");
    let cancel = s.expect(peer, "CANCEL");
    assert_eq!(cancel.get("Via"), invite.get("Via"));
    s.world.send(peer, s.node, cancel.reply(200, "x", "", ""));
    s.world.send(peer, s.node, invite.reply(487, "x", "", ""));
    s.expect(peer, "ACK");
    cancel
}

#[test]
fn the_first_answer_wins_and_the_other_is_cancelled_with_a_reason() {
    let mut s = Scene::with(parallel(), Options::default());
    s.world.peer(SECOND_MEDIA);
    let (_, first, second) = ring(&mut s, "");
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    s.world.send(s.second, s.node, second.reply(180, "x", CONTACT_2, ""));
    s.expect_status(s.caller, 180);
    s.world.send(s.second, s.node, second.reply(200, "x", CONTACT_2, &second_says("0")));
    s.expect(s.second, "ACK");
    let cancel = cancelled(&mut s, CALLEE, &first);
    assert_eq!(cancel.get("Reason"), "SIP;cause=200;text=\"Call completed elsewhere\"");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    // The caller's media goes to the one that answered.
    s.world.send(CALLER_MEDIA.parse().unwrap(), ok.media().unwrap(), wire::rtp(1, 1, b'a'));
    let heard = s.world.wait(SECOND_MEDIA.parse().unwrap(), Duration::from_secs(1));
    assert!(heard.is_some(), "{}", s.ladder());
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.let_go(s.second, "");
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    let both = attempts(&s);
    let outcomes: Vec<_> = both.iter().map(|a| (a.status, &*a.reason)).collect();
    assert_eq!(outcomes, [(0, &b"answered_elsewhere"[..]), (200, b"")]);
    assert_eq!(
        (&*cdr.trunk_out, &*cdr.call_id_out),
        (&b"second"[..], second.get("Call-ID").as_bytes())
    );
    assert_eq!([0, 1].map(|n| cdr.answered_ms_of(&both[n]).is_some()), [false, true]);
    assert_eq!(cdr.media[0].packets, 1);
}

#[test]
fn answers_after_the_cancel_are_acknowledged_and_ended() {
    let mut s = Scene::with(parallel(), Options::default());
    let (_, first, second) = ring(&mut s, "");
    let answer = s.answer();
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    s.world.send(s.second, s.node, second.reply(200, "x", CONTACT_2, &second_says("0")));
    // Two forks of the first answer as well, while the CANCEL is under way.
    s.world.send(s.callee, s.node, first.reply(200, "b", CONTACT, &answer));
    s.world.send(s.callee, s.node, first.reply(200, "c", CONTACT, &answer));
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    let mut ended = Vec::new();
    while let Some(text) = s.within(s.callee, Duration::from_millis(50)) {
        match text.method() {
            Some("BYE") => {
                ended.push(text.tag("To").to_owned());
                s.world.send(s.callee, s.node, text.reply(200, "", "", ""));
            }
            Some("CANCEL") => s.world.send(s.callee, s.node, text.reply(200, "b", "", "")),
            method => assert_eq!(method, Some("ACK"), "{}", text.raw),
        }
    }
    assert!(ended.contains(&"b".to_owned()), "{ended:?}\n{}", s.ladder());
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    while s.next(s.second).method() != Some("BYE") {}
    s.assert_clean(1);
}

#[test]
fn the_best_of_all_failures_is_the_callers() {
    // Each pair, whichever comes first, and what the caller hears (RFC 3261 16.7 6).
    let cases = [
        (486, 503, 486),
        (404, 484, 484),
        (486, 603, 603),
        (503, 503, 500),
        (401, 486, 403),
        (302, 486, 486),
        (500, 404, 404),
    ];
    for (a, b, told) in cases {
        for (a, b) in [(a, b), (b, a)] {
            let mut s = Scene::with(parallel(), Options::default());
            let (_, first, second) = ring(&mut s, "");
            s.world.send(s.callee, s.node, first.reply(100, "", "", ""));
            s.world.send(s.second, s.node, second.reply(100, "", "", ""));
            s.world.send(s.callee, s.node, first.reply(a, "b", "", ""));
            s.expect(s.callee, "ACK");
            if a >= 600 {
                cancelled(&mut s, SECOND, &second);
            } else {
                assert!(
                    s.within(s.caller, Duration::from_millis(300)).is_none(),
                    "one still rings"
                );
                s.world.send(s.second, s.node, second.reply(b, "x", "", ""));
                s.expect(s.second, "ACK");
            }
            s.expect_status(s.caller, told);
            s.assert_clean(1);
        }
    }
}

#[test]
fn early_media_comes_before_ringing_and_is_not_taken_away() {
    let mut s = Scene::with(parallel(), Options::default());
    let (_, first, second) = ring(&mut s, "Supported: 199\r\n");
    assert_eq!(first.get("Supported"), "100rel, timer, 199");
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    // Early media outdoes ringing; other early media does not.
    s.world.send(s.second, s.node, second.reply(183, "x", CONTACT_2, &second_says("0")));
    let heard = s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, first.reply(183, "b", CONTACT, &s.answer()));
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    // The one in front fails: the other comes forward, and its other answer needs another dialog.
    s.world.send(s.second, s.node, second.reply(480, "x", "", ""));
    s.expect(s.second, "ACK");
    let answer = wire::sdp("203.0.113.20:4000".parse().unwrap(), 1, "8", "sendrecv");
    s.world.send(s.callee, s.node, first.reply(183, "d", CONTACT, &answer));
    let (a, b) = (s.next(s.caller), s.next(s.caller));
    assert_eq!((a.status(), a.tag("To")), (Some(199), heard.tag("To")), "{}", s.ladder());
    assert_eq!((b.status(), b.body().contains("RTP/AVP 8\r\n")), (Some(183), true));
    assert_ne!(b.tag("To"), heard.tag("To"));
    s.world.send(s.callee, s.node, first.reply(200, "d", CONTACT, &answer));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.tag("To"), b.tag("To"));
    s.expect(s.callee, "ACK");
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn a_branch_that_is_not_in_front_is_confirmed_and_may_win_without_another_description() {
    let mut s = Scene::with(parallel(), Options::default());
    let (_, first, second) = ring(&mut s, "Supported: 100rel\r\n");
    let reliably = |n: u32| format!("{CONTACT}Require: 100rel\r\nRSeq: {n}\r\n");
    s.world.send(s.callee, s.node, first.reply(183, "b", &reliably(7), &s.answer()));
    let progress = s.expect_status(s.caller, 183);
    let rack = format!("\r\nRAck: {} 1 INVITE\r\nContact:", progress.get("RSeq"));
    let prack = s.in_dialog("PRACK", 2, &progress, "").replacen("\r\nContact:", &rack, 1);
    s.world.send(s.caller, s.node, prack);
    s.expect_status(s.caller, 200);
    let own = s.expect(s.callee, "PRACK");
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    // The second has early media as well, reliably: we confirm it ourselves.
    let headers = reliably(30).replace("203.0.113.20", "203.0.113.30");
    s.world.send(s.second, s.node, second.reply(183, "x", &headers, &second_says("8")));
    let own = s.expect(s.second, "PRACK");
    assert_eq!(own.get("RAck"), "30 1 INVITE");
    s.world.send(s.second, s.node, own.reply(200, "x", "", ""));
    (0..2).for_each(|shard| s.world.hand_over(shard));
    s.world.send(s.second, s.node, second.reply(200, "x", CONTACT_2, ""));
    s.expect(s.second, "ACK");
    cancelled(&mut s, CALLEE, &first);
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.body().contains("RTP/AVP 8\r\n"), "the answer of the second\n{}", ok.raw);
    assert_ne!(ok.tag("To"), progress.tag("To"), "one answer per dialog");
    s.acknowledge(&ok);
    let bye = s.in_dialog("BYE", 3, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect(s.second, "BYE");
    s.assert_clean(1);
}

#[test]
fn a_branch_that_says_bye_leaves_the_others_ringing() {
    let mut s = Scene::with(parallel(), Options::default());
    let (_, first, second) = ring(&mut s, "");
    s.world.send(s.second, s.node, second.reply(183, "x", CONTACT_2, &second_says("0")));
    s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    s.world.run(Duration::from_millis(10));
    let bye = s.from_callee("BYE", 1, &first, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    cancelled(&mut s, CALLEE, &first);
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.send(s.second, s.node, second.reply(603, "x", "", ""));
    s.expect(s.second, "ACK");
    s.expect_status(s.caller, 603);
    s.assert_clean(1);
}

#[test]
fn a_late_offer_that_forks_leaves_with_one_of_ours() {
    let mut s = Scene::with(parallel(), Options::default());
    let text = s.request("INVITE", "late", "442079460000", "", "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let (first, second) = (s.expect(s.callee, "INVITE"), s.expect(s.second, "INVITE"));
    assert!(first.body().contains("RTP/AVP 0 8 101\r\n") && !second.body().is_empty());
    s.world.send(s.callee, s.node, first.reply(486, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.world.send(s.second, s.node, second.reply(200, "x", CONTACT_2, &second_says("8")));
    s.expect(s.second, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.body().contains("RTP/AVP 8\r\n"), "its answer is the caller's offer\n{}", ok.raw);
}

#[test]
fn one_that_is_silent_is_given_up_while_the_other_rings() {
    let mut s = Scene::with(parallel(), Options::default());
    let (sent, first, second) = ring(&mut s, "");
    s.world.send(s.callee, s.node, first.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    s.world.run(Duration::from_secs(5));
    assert_eq!(s.world.page().read(Image::calls_word(2)), 0, "its place was given back");
    while s.within(s.second, Duration::ZERO).is_some() {}
    s.world.send(s.second, s.node, second.reply(180, "x", CONTACT_2, ""));
    cancelled(&mut s, SECOND, &second);
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    s.expect_status(s.caller, 200);
    s.expect_status(s.caller, 487);
    cancelled(&mut s, CALLEE, &first);
    s.assert_clean(1);
    let both = attempts(&s);
    let reasons: Vec<_> = both.iter().map(|a| &*a.reason).collect();
    assert_eq!(reasons, [&b"cancelled"[..], b"no_response"]);
}

#[test]
fn a_kill_between_any_two_messages_of_a_fork_leaves_one_cdr() {
    for cut in sim::fault::Cut::ALL {
        for after in 0..5 {
            let mut s = Scene::with(parallel(), Options::default());
            let (_, first, second) = ring(&mut s, "");
            let answers = [
                (s.callee, first.reply(180, "b", CONTACT, "")),
                (s.second, second.reply(183, "x", CONTACT_2, &second_says("0"))),
                (s.callee, first.reply(200, "b", CONTACT, &s.answer())),
                (s.second, second.reply(200, "x", CONTACT_2, &second_says("0"))),
                (s.second, second.reply(487, "x", "", "")),
            ];
            for (n, (from, text)) in answers.into_iter().enumerate() {
                if n == after {
                    s.world.crash_within(cut);
                }
                s.world.send(from, s.node, text);
                s.world.run(Duration::from_millis(5));
            }
            s.world.tidy();
            s.world.crash();
            s.assert_clean(1);
        }
    }
}

#[test]
fn a_dialog_that_a_callee_says_has_ended_is_over_for_the_caller() {
    let mut s = Scene::new();
    let offer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0 8", "sendrecv");
    let text = s.request("INVITE", "c1", "442079460000", "Supported: 199\r\n", &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let says = |formats| wire::sdp("203.0.113.20:4000".parse().unwrap(), 1, formats, "");
    // A forking proxy behind: one branch, then another that cannot be the same dialog.
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &says("0")));
    let first = s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, invite.reply(183, "c", CONTACT, &says("8")));
    let other = s.expect_status(s.caller, 183);
    assert_ne!(first.tag("To"), other.tag("To"));
    s.world.send(s.callee, s.node, invite.reply(199, "b", "", ""));
    let ended = s.expect_status(s.caller, 199);
    assert_eq!((ended.tag("To"), ended.body()), (first.tag("To"), ""));
    assert!(!ended.get("Reason").is_empty());
    s.world.send(s.callee, s.node, invite.reply(199, "b", "", ""));
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none(), "once");
    s.world.send(s.callee, s.node, invite.reply(200, "c", CONTACT, &says("8")));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.tag("To"), other.tag("To"));
    s.expect(s.callee, "ACK");
    s.acknowledge(&ok);
    s.hang_up(&ok);
}

#[test]
fn a_caller_that_knows_no_199_hears_none() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(invite.get("Supported"), "100rel, timer");
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &s.answer()));
    s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, invite.reply(199, "b", "", ""));
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.send(s.callee, s.node, invite.reply(480, "b", "", ""));
    s.expect_status(s.caller, 480);
}

/// A call whose first trunk does this with the 302 it answers, and that INVITE.
fn redirected(what: Redirects, contacts: &str) -> (Scene, Text) {
    let mut image = image();
    image.trunks[1].redirects = what;
    let mut s = Scene::with(image, Options::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(302, "b", contacts, ""));
    s.expect(s.callee, "ACK");
    (s, invite)
}

#[test]
fn a_redirection_is_followed_by_preference_within_its_trunk() {
    let contacts = "Contact: <sip:442079460000@203.0.113.20:5072>;q=0.3, \
        <sip:442079460009@203.0.113.20:5070>;q=0.9\r\n\
        Contact: <sip:442079460000@203.0.113.99:5060>, <sips:a@b>, <sip:442079460000@203.0.113.20:5060>\r\n";
    let mut image = image();
    image.trunks[1].redirects = Redirects::Follow;
    let mut s = Scene::with(image, Options::default());
    let (better, worse) = (s.world.peer("203.0.113.20:5070"), s.world.peer("203.0.113.20:5072"));
    let stranger = s.world.peer("203.0.113.99:5060");
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(302, "b", contacts, ""));
    s.expect(s.callee, "ACK");
    let second = s.expect(better, "INVITE");
    assert_eq!(second.uri(), "sip:442079460009@203.0.113.20:5070");
    assert_ne!(second.get("Call-ID"), invite.get("Call-ID"));
    // It sends us back to where we were: nobody is asked twice.
    let back = "Contact: <sip:442079460000@203.0.113.20:5060>\r\n";
    s.world.send(better, s.node, second.reply(302, "c", back, ""));
    s.expect(better, "ACK");
    let third = s.expect(worse, "INVITE");
    s.world.send(worse, s.node, third.reply(486, "d", "", ""));
    s.expect(worse, "ACK");
    s.expect_status(s.caller, 486);
    assert!(s.within(stranger, Duration::ZERO).is_none(), "another trunk's business");
    s.assert_clean(1);
    let statuses: Vec<_> = s.world.cdrs()[0].attempts.iter().map(|a| a.status).collect();
    assert_eq!(statuses, [302, 302, 486]);
}

#[test]
fn a_redirection_nobody_follows_is_refused_or_passed_as_its_trunk_says() {
    let contacts = format!("Contact: <sip:1@192.0.2.77>;q=0.1, <sip:2@{SECOND}>\r\n");
    for (what, status) in
        [(Redirects::Refuse, 480), (Redirects::Follow, 480), (Redirects::Pass, 302)]
    {
        let (mut s, _) = redirected(what, &contacts);
        let told = s.expect_status(s.caller, status);
        let both = [format!("<sip:2@{SECOND}>"), "<sip:1@192.0.2.77>;q=0.1".to_owned()];
        let both = if status == 302 { &both[..] } else { &[] };
        assert_eq!(told.all("Contact"), both, "{}", told.raw);
        s.assert_clean(1);
        assert_eq!(s.world.cdrs()[0].attempts[0].status, 302);
    }
}

#[test]
fn a_refused_redirection_hunts_where_its_trunk_says_so() {
    let mut image = image();
    image.trunks[1].hunt_on = vec![302];
    let mut s = Scene::with(image, Options::default());
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:1@{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(302, "b", &contact, ""));
    s.expect(s.callee, "ACK");
    s.expect(s.second, "INVITE");
}
