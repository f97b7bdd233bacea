//! Reliable provisional responses (RFC 3262) through the whole node: end to end, and with one side that
//! does not know them.

use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene};
use sim::wire::{self, Text};
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const SUPPORTED: &str = "Supported: 100rel\r\n";

/// An INVITE with these headers, and what the callee gets of it.
fn ring(s: &mut Scene, headers: &str, offer: bool) -> Text {
    let body = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
    let body = if offer { body.as_str() } else { "" };
    let text = s.request("INVITE", "c1", "442079460000", headers, body);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    s.expect(s.callee, "INVITE")
}

fn reliably(s: &mut Scene, invite: &Text, status: u16, tag: &str, rseq: u32, body: &str) {
    let headers = format!("{CONTACT}Require: 100rel\r\nRSeq: {rseq}\r\n");
    s.world.send(s.callee, s.node, invite.reply(status, tag, &headers, body));
}

/// The caller's PRACK of a response.
fn prack(s: &mut Scene, number: u32, response: &Text, body: &str) -> String {
    let rack = format!("\r\nRAck: {} 1 INVITE\r\nContact:", response.get("RSeq"));
    s.in_dialog("PRACK", number, response, body).replacen("\r\nContact:", &rack, 1)
}

fn confirm(s: &mut Scene, number: u32, response: &Text) -> Text {
    let text = prack(s, number, response, "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 200)
}

#[test]
fn end_to_end_each_side_confirms_its_own() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, true);
    assert_eq!((invite.get("Supported"), invite.get("Require")), ("100rel, timer", ""));
    let answer = s.answer();
    reliably(&mut s, &invite, 183, "b", 4711, &answer);
    let progress = s.expect_status(s.caller, 183);
    assert_eq!(progress.get("Require"), "100rel");
    assert_ne!(progress.get("RSeq"), "4711", "each side has its own numbers");
    assert!(progress.media().is_some());
    assert!(s.within(s.callee, Duration::from_millis(300)).is_none(), "not before the caller");
    confirm(&mut s, 2, &progress);
    let own = s.expect(s.callee, "PRACK");
    assert_eq!(
        (own.get("RAck"), own.get("CSeq"), own.tag("To")),
        ("4711 1 INVITE", "2 PRACK", "b")
    );
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    let ack = s.expect(s.callee, "ACK");
    assert_eq!(ack.get("CSeq"), "1 ACK", "the INVITE's number, not the PRACK's");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!((ok.body(), ok.tag("To")), ("", progress.tag("To")), "the answer was given already");
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn for_a_caller_that_cannot_we_confirm() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "", true);
    assert_eq!(
        invite.get("Supported"),
        "100rel, timer",
        "what the callee hears of is what we can do"
    );
    let answer = s.answer();
    reliably(&mut s, &invite, 183, "b", 1, &answer);
    let own = s.expect(s.callee, "PRACK");
    assert_eq!(own.get("RAck"), "1 1 INVITE");
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    let progress = s.expect_status(s.caller, 183);
    assert_eq!((progress.get("RSeq"), progress.get("Require")), ("", ""));
    reliably(&mut s, &invite, 180, "b", 2, "");
    assert_eq!(s.expect(s.callee, "PRACK").get("RAck"), "2 1 INVITE");
    s.expect_status(s.caller, 180);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    assert_eq!(s.next(s.callee).method(), Some("ACK"));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.body(), progress.body(), "what may have been lost is said again");
    while s.within(s.callee, Duration::from_millis(1)).is_some() {}
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.assert_clean(1);
}

#[test]
fn a_caller_that_insists_is_served_whatever_the_callee_does() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    let first = s.expect_status(s.caller, 180);
    let sent_at = s.world.now();
    assert_eq!(first.get("Require"), "100rel");
    // T1, then twice that, and so on, until the PRACK.
    let mut after = Vec::new();
    for _ in 0..3 {
        assert_eq!(s.expect_status(s.caller, 180), first);
        after.push(s.world.now().since(sent_at).as_millis());
    }
    assert_eq!(after, [500, 1500, 3500]);
    confirm(&mut s, 2, &first);
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &s.answer()));
    let second = s.expect_status(s.caller, 183);
    let number = |t: &Text| t.get("RSeq").parse::<u32>().unwrap();
    assert_eq!(number(&second), number(&first) + 1);
    confirm(&mut s, 3, &second);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.body(), "");
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn what_nobody_confirms_ends_the_call_with_a_5xx() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    let mut times = 0;
    let refused = loop {
        let text = s.next(s.caller);
        match text.status() {
            Some(180) => times += 1,
            _ => break text,
        }
    };
    assert_eq!((times, refused.status()), (7, Some(504)));
    assert!(refused.get("Reason").contains("no_prack"), "{}", refused.raw);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.assert_clean(1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"no_prack");
}

#[test]
fn the_answer_waits_for_the_prack_of_a_description() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &s.answer()));
    let progress = s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.world.run(Duration::from_millis(100));
    for shard in 0..2 {
        s.world.hand_over(shard);
    }
    assert_eq!(s.expect_status(s.caller, 183), progress, "no 200 yet");
    assert!(s.within(s.callee, Duration::ZERO).is_none(), "and no ACK");
    confirm(&mut s, 2, &progress);
    let ok = s.expect_status(s.caller, 200);
    s.expect(s.callee, "ACK");
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn a_call_that_ends_while_its_answer_waits_leaves_no_dialog_behind() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &s.answer()));
    s.expect_status(s.caller, 183);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    while s.next(s.caller).status() != Some(504) {}
    s.expect(s.callee, "ACK");
    s.let_go(s.callee, "b");
    s.assert_clean(1);
}

#[test]
fn an_answer_need_not_wait_for_the_prack_of_a_mere_ringing() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    let ringing = s.expect_status(s.caller, 180);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.media().is_some());
    s.expect(s.callee, "ACK");
    // Its PRACK may come late: it is answered all the same.
    confirm(&mut s, 2, &ringing);
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_the_prack() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, false);
    assert_eq!((invite.body(), invite.get("Supported")), ("", "100rel, timer"));
    let offer = s.answer();
    reliably(&mut s, &invite, 183, "b", 1, &offer);
    let progress = s.expect_status(s.caller, 183);
    let to_caller = progress.media().expect("the callee's offer, with our address");
    let answer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0", "");
    let text = prack(&mut s, 2, &progress, &answer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 200);
    let own = s.expect(s.callee, "PRACK");
    let to_callee = own.media().expect("the caller's answer, with our address");
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    s.world.send(CALLEE_MEDIA.parse().unwrap(), to_callee, wire::rtp(1, 2, b'r'));
    let heard = s.world.wait(CALLER_MEDIA.parse().unwrap(), Duration::from_secs(1)).expect("media");
    assert_eq!(heard.from, to_caller, "early media, before the answer");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.body(), "");
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn the_prack_of_a_ringing_is_no_answer_to_a_later_offer() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, false);
    reliably(&mut s, &invite, 180, "b", 1, "");
    let ringing = s.expect_status(s.caller, 180);
    let offer = s.answer();
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &offer));
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.media().is_some());
    confirm(&mut s, 2, &ringing);
    assert_eq!(s.expect(s.callee, "PRACK").get("RAck"), "1 1 INVITE");
    let answer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 1, "0", "");
    let ack = s.in_dialog("ACK", 1, &ok, &answer);
    s.world.send(s.caller, s.node, ack);
    assert!(s.expect(s.callee, "ACK").media().is_some());
}

#[test]
fn without_an_offer_a_caller_that_cannot_is_not_made_one_early() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "", false);
    assert_eq!(invite.get("Supported"), "timer", "so the offer has to come in the 2xx");
    // One that comes all the same cannot be answered.
    let offer = s.answer();
    reliably(&mut s, &invite, 183, "b", 1, &offer);
    s.expect(s.callee, "CANCEL");
    s.expect_status(s.caller, 488);
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.assert_clean(1);
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_200() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, true);
    let answer = s.answer();
    reliably(&mut s, &invite, 183, "b", 1, &answer);
    let progress = s.expect_status(s.caller, 183);
    let again = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "");
    let text = prack(&mut s, 2, &progress, &again);
    s.world.send(s.caller, s.node, text.clone());
    let own = s.expect(s.callee, "PRACK");
    assert!(own.body().contains("m=audio") && own.body().contains("RTP/AVP 0\r\n"));
    // While the callee thinks, the caller's repetition draws nothing.
    s.world.send(s.caller, s.node, text);
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.send(s.callee, s.node, own.reply(200, "b", "", &answer));
    let ok = s.expect_status(s.caller, 200);
    assert_eq!((ok.get("CSeq"), ok.media()), ("2 PRACK", progress.media()));
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn an_offer_in_a_prack_that_nobody_can_take_confirms_and_is_refused() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "Require: 100rel\r\n", true);
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &s.answer()));
    let progress = s.expect_status(s.caller, 183);
    let again = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "");
    let text = prack(&mut s, 2, &progress, &again);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 488);
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &s.answer()));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn responses_out_of_order_are_not_confirmed() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "", true);
    reliably(&mut s, &invite, 180, "b", 7, "");
    assert_eq!(s.expect(s.callee, "PRACK").get("RAck"), "7 1 INVITE");
    s.expect_status(s.caller, 180);
    reliably(&mut s, &invite, 183, "b", 9, "");
    reliably(&mut s, &invite, 180, "b", 7, "");
    s.world.run(Duration::from_millis(50));
    assert!(s.within(s.caller, Duration::ZERO).is_none());
    reliably(&mut s, &invite, 183, "b", 8, "");
    s.expect_status(s.caller, 183);
    let ignored: u64 = s.world.shards().iter().map(|n| n.signal().counters().unheard.get(1)).sum();
    assert_eq!(ignored, 1, "out of order");
}

#[test]
fn a_prack_of_nothing_is_answered_481_and_one_that_comes_again_as_before() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, true);
    reliably(&mut s, &invite, 180, "b", 7, "");
    let ringing = s.expect_status(s.caller, 180);
    let wrong = prack(&mut s, 2, &ringing, "").replace(" 1 INVITE", " 2 INVITE");
    s.world.send(s.caller, s.node, wrong);
    s.expect_status(s.caller, 481);
    let none = s.in_dialog("PRACK", 3, &ringing, "");
    s.world.send(s.caller, s.node, none);
    s.expect_status(s.caller, 400);
    let right = prack(&mut s, 4, &ringing, "");
    s.world.send(s.caller, s.node, right.clone());
    let ok = s.expect_status(s.caller, 200);
    s.world.send(s.caller, s.node, right);
    assert_eq!(s.expect_status(s.caller, 200), ok);
    let late = prack(&mut s, 5, &ringing, "");
    s.world.send(s.caller, s.node, late);
    s.expect_status(s.caller, 481);
}

#[test]
fn what_comes_while_the_caller_confirms_is_told_next() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, true);
    reliably(&mut s, &invite, 180, "b", 1, "");
    let ringing = s.expect_status(s.caller, 180);
    let answer = s.answer();
    reliably(&mut s, &invite, 183, "b", 2, &answer);
    assert!(s.within(s.caller, Duration::from_millis(300)).is_none(), "one at a time");
    confirm(&mut s, 2, &ringing);
    assert_eq!(s.expect(s.callee, "PRACK").get("RAck"), "1 1 INVITE");
    let progress = s.expect_status(s.caller, 183);
    confirm(&mut s, 3, &progress);
    assert_eq!(s.expect(s.callee, "PRACK").get("RAck"), "2 1 INVITE");
}

#[test]
fn several_early_dialogs_and_one_that_answers() {
    let mut s = Scene::new();
    let invite = ring(&mut s, SUPPORTED, true);
    let answer = s.answer();
    reliably(&mut s, &invite, 183, "b", 1, &answer);
    let first = s.expect_status(s.caller, 183);
    confirm(&mut s, 2, &first);
    s.expect(s.callee, "PRACK");
    // Another fork, with numbers and an answer of its own.
    let other = wire::sdp("203.0.113.21:4000".parse().unwrap(), 1, "8", "");
    reliably(&mut s, &invite, 183, "z", 55, &other);
    let second = s.expect_status(s.caller, 183);
    assert_ne!(second.tag("To"), first.tag("To"), "one answer per dialog");
    confirm(&mut s, 3, &second);
    let own = s.expect(s.callee, "PRACK");
    assert_eq!((own.get("RAck"), own.tag("To")), ("55 1 INVITE", "z"));
    // The first one answers; what it said in its 183 holds.
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &answer));
    let ack = loop {
        let text = s.next(s.callee);
        if text.method() == Some("ACK") {
            break text;
        }
    };
    assert_eq!(ack.tag("To"), "b");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.tag("To"), first.tag("To"), "in the dialog that heard its answer");
    s.world.send(
        CALLER_MEDIA.parse().unwrap(),
        ok.media().or(first.media()).unwrap(),
        wire::rtp(1, 1, b'a'),
    );
    assert!(s.world.wait(CALLEE_MEDIA.parse().unwrap(), Duration::from_secs(1)).is_some());
}

#[test]
fn one_early_dialog_too_many_is_not_heard() {
    let mut s = Scene::new();
    let invite = ring(&mut s, "", true);
    for fork in 0..6 {
        s.world.send(s.callee, s.node, invite.reply(180, &format!("f{fork}"), CONTACT, ""));
        s.expect_status(s.caller, 180);
    }
    s.world.send(s.callee, s.node, invite.reply(180, "f6", CONTACT, ""));
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    let ignored: u64 = s.world.shards().iter().map(|n| n.signal().counters().unheard.get(0)).sum();
    assert_eq!(ignored, 1, "too many early dialogs");
    // But it may answer.
    s.world.send(s.callee, s.node, invite.reply(200, "f6", CONTACT, &s.answer()));
    assert_eq!(s.expect(s.callee, "ACK").tag("To"), "f6");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    s.finish(&ok);
}

#[test]
fn a_handed_over_shard_goes_on_confirming() {
    for step in 0..5 {
        let mut s = Scene::new();
        let hand_over = |s: &mut Scene, now: i32| {
            if step == now || step == 4 {
                (0..2).for_each(|shard| s.world.hand_over(shard));
            }
        };
        let invite = ring(&mut s, SUPPORTED, true);
        hand_over(&mut s, 0);
        let answer = s.answer();
        reliably(&mut s, &invite, 183, "b", 1, &answer);
        let progress = s.expect_status(s.caller, 183);
        hand_over(&mut s, 1);
        assert_eq!(s.expect_status(s.caller, 183), progress, "repeated by the successor");
        confirm(&mut s, 2, &progress);
        hand_over(&mut s, 2);
        let own = s.expect(s.callee, "PRACK");
        s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
        hand_over(&mut s, 3);
        let contact = format!("Contact: <sip:{CALLEE}>\r\n");
        s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, ""));
        s.expect(s.callee, "ACK");
        let ok = s.expect_status(s.caller, 200);
        s.acknowledge(&ok);
        s.finish(&ok);
    }
}
