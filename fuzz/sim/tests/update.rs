//! UPDATE (RFC 3311) through the whole node: both ways, early and late, and towards a side without it.

use sim::scene::{CALLEE_MEDIA, CALLER, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::time::Duration;

const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE, PRACK\r\n";
const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";

fn offer(version: u32, direction: &str) -> String {
    wire::sdp(CALLER_MEDIA.parse().expect("an address"), version, "0", direction)
}

/// A call whose caller and callee say these headers.
fn establish(s: &mut Scene, caller: &str, callee: &str) -> (Text, Text) {
    let body = offer(1, "sendrecv");
    let text = s.request("INVITE", "c1", "442079460000", caller, &body);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let answer = s.answer();
    s.world.send(s.callee, s.node, invite.reply(200, "b", &format!("{CONTACT}{callee}"), &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    (invite, ok)
}

#[test]
fn hold_by_update_and_resume_by_the_other_side() {
    let mut s = Scene::new();
    let (invite, ok) = establish(&mut s, UPDATES, UPDATES);
    let text = s.in_dialog("UPDATE", 2, &ok, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    let update = s.expect(s.callee, "UPDATE");
    assert!(update.body().contains("a=sendonly") && !update.get("Contact").is_empty());
    let held = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 2, "0", "recvonly");
    s.world.send(s.callee, s.node, update.reply(200, "b", CONTACT, &held));
    let held = s.expect_status(s.caller, 200);
    assert!(held.body().contains("a=recvonly") && held.get("CSeq") == "2 UPDATE");
    let resume = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 3, "0", "sendrecv");
    let text = s.from_callee("UPDATE", 1, &invite, "b", &resume);
    s.world.send(s.callee, s.node, text);
    let update = s.expect(s.caller, "UPDATE");
    let contact = format!("Contact: <sip:{CALLER}>\r\n");
    s.world.send(s.caller, s.node, update.reply(200, "", &contact, &offer(3, "sendrecv")));
    assert!(s.expect_status(s.callee, 200).body().contains("a=sendrecv"));
    s.finish(&ok);
}

#[test]
fn a_side_without_update_gets_a_reinvite() {
    let mut s = Scene::new();
    let (_, ok) = establish(&mut s, UPDATES, "Allow: INVITE, ACK, BYE, CANCEL\r\n");
    let text = s.in_dialog("UPDATE", 2, &ok, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("a=sendonly"));
    let held = wire::sdp(CALLEE_MEDIA.parse().unwrap(), 2, "0", "recvonly");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &held));
    s.expect(s.callee, "ACK");
    let held = s.expect_status(s.caller, 200);
    assert!(held.body().contains("a=recvonly") && held.get("CSeq") == "2 UPDATE");
    s.finish(&ok);
}

#[test]
fn without_an_offer_it_concerns_one_dialog_alone() {
    let mut s = Scene::new();
    let (_, ok) = establish(&mut s, UPDATES, UPDATES);
    let moved = s.world.peer("198.51.100.10:5090");
    let text = s.in_dialog("UPDATE", 2, &ok, "");
    let text = text.replace(
        "Contact: <sip:1001@198.51.100.10:5060>",
        "Contact: <sip:1001@198.51.100.10:5090>",
    );
    s.world.send(s.caller, s.node, text);
    let answered = s.expect_status(s.caller, 200);
    assert_eq!(answered.body(), "");
    assert!(s.within(s.callee, Duration::from_millis(50)).is_none());
    // The next request goes to the new target: nobody talks, so it is a BYE.
    let bye = s.expect(moved, "BYE");
    assert_eq!(bye.uri(), "sip:1001@198.51.100.10:5090");
}

#[test]
fn offers_that_cross_or_overlap_are_told_so() {
    let mut s = Scene::new();
    let (invite, ok) = establish(&mut s, UPDATES, UPDATES);
    let text = s.in_dialog("UPDATE", 2, &ok, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    let update = s.expect(s.callee, "UPDATE");
    let crossing = s.from_callee("UPDATE", 1, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, crossing);
    s.expect_status(s.callee, 491);
    let crossing = s.from_callee("INVITE", 2, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, crossing);
    s.expect_status(s.callee, 491);
    let overlapping = s.in_dialog("UPDATE", 3, &ok, &offer(3, "sendrecv"));
    s.world.send(s.caller, s.node, overlapping);
    let wait = s.expect_status(s.caller, 500);
    assert!(wait.get("Retry-After").parse::<u32>().unwrap() <= 10);
    s.world.send(s.callee, s.node, update.reply(488, "b", "", ""));
    assert_eq!(
        s.expect_status(s.caller, 488).get("CSeq"),
        "2 UPDATE",
        "the session stays as it was"
    );
    // And it can be tried again.
    let text = s.in_dialog("UPDATE", 4, &ok, &offer(3, "sendonly"));
    s.world.send(s.caller, s.node, text);
    let update = loop {
        let text = s.next(s.callee);
        if text.method() == Some("UPDATE") {
            break text;
        }
    };
    s.world.send(s.callee, s.node, update.reply(200, "b", CONTACT, &s.answer()));
    s.expect_status(s.caller, 200);
    s.finish(&ok);
}

/// A 183 with an answer, confirmed on both sides.
fn agree_early(s: &mut Scene, caller: &str, callee: &str) -> (Text, Text) {
    let headers = format!("Supported: 100rel\r\n{caller}");
    let body = offer(1, "sendrecv");
    let text = s.request("INVITE", "c1", "442079460000", &headers, &body);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let headers = format!("{CONTACT}{callee}Require: 100rel\r\nRSeq: 1\r\n");
    let answer = s.answer();
    s.world.send(s.callee, s.node, invite.reply(183, "b", &headers, &answer));
    let progress = s.expect_status(s.caller, 183);
    let rack = format!("\r\nRAck: {} 1 INVITE\r\nContact:", progress.get("RSeq"));
    let text = s.in_dialog("PRACK", 2, &progress, "").replacen("\r\nContact:", &rack, 1);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 200);
    let own = s.expect(s.callee, "PRACK");
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    s.world.run(Duration::from_millis(10));
    (invite, progress)
}

#[test]
fn an_early_dialog_is_updated_from_either_side() {
    let mut s = Scene::new();
    let (invite, progress) = agree_early(&mut s, UPDATES, UPDATES);
    let text = s.in_dialog("UPDATE", 3, &progress, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    let update = s.expect(s.callee, "UPDATE");
    // The answer of the call waits for that of the UPDATE.
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    assert!(s.within(s.caller, Duration::from_millis(100)).is_none());
    s.world.send(s.callee, s.node, update.reply(200, "b", CONTACT, &s.answer()));
    assert_eq!(s.expect_status(s.caller, 200).get("CSeq"), "3 UPDATE");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(ok.get("CSeq"), "1 INVITE");
    s.expect(s.callee, "ACK");
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.finish(&ok);
}

#[test]
fn early_media_moves_by_the_callees_update() {
    let mut s = Scene::new();
    let (invite, progress) = agree_early(&mut s, UPDATES, UPDATES);
    let moved = s.world.peer("203.0.113.20:6000");
    let text = s.from_callee("UPDATE", 1, &invite, "b", &wire::sdp(moved, 2, "0", ""));
    s.world.send(s.callee, s.node, text);
    let update = s.expect(s.caller, "UPDATE");
    assert_eq!(update.media(), progress.media(), "our address does not move");
    let contact = format!("Contact: <sip:{CALLER}>\r\n");
    s.world.send(s.caller, s.node, update.reply(200, "", &contact, &offer(2, "")));
    s.expect_status(s.callee, 200);
    s.world.send(CALLER_MEDIA.parse().unwrap(), progress.media().unwrap(), wire::rtp(1, 1, b'a'));
    assert!(s.world.wait(moved, Duration::from_secs(1)).is_some());
}

#[test]
fn before_the_answer_a_side_without_update_cannot_be_asked() {
    let mut s = Scene::new();
    let (invite, _) = agree_early(&mut s, "", UPDATES);
    let text = s.from_callee("UPDATE", 1, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 491);
    assert!(s.within(s.caller, Duration::from_millis(50)).is_none());
}

#[test]
fn before_an_answer_there_is_nothing_to_update() {
    let mut s = Scene::new();
    let body = offer(1, "sendrecv");
    let text = s.request("INVITE", "c1", "442079460000", UPDATES, &body);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let headers = format!("{CONTACT}{UPDATES}");
    s.world.send(s.callee, s.node, invite.reply(180, "b", &headers, ""));
    let ringing = s.expect_status(s.caller, 180);
    // The caller's own offer is not answered; from the callee's side it is ours that is not.
    let text = s.in_dialog("UPDATE", 2, &ringing, &offer(2, ""));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 500);
    let text = s.from_callee("UPDATE", 1, &invite, "b", &s.answer());
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 491);
}

#[test]
fn a_side_that_never_answers_an_update_has_lost_its_dialog() {
    let mut silent = image();
    silent.trunks.iter_mut().for_each(|t| t.media_timeout = None);
    let mut s = Scene::with(silent, Default::default());
    let (_, ok) = establish(&mut s, UPDATES, UPDATES);
    let text = s.in_dialog("UPDATE", 2, &ok, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    s.expect(s.callee, "UPDATE");
    let refused = s.next(s.caller);
    assert_eq!(refused.status(), Some(504), "RFC 4320: no 408");
    assert_eq!(s.expect(s.caller, "BYE").get("Reason"), "Q.850;cause=41;text=\"dialog_lost\"");
    s.assert_clean(1);
}

#[test]
fn a_call_that_ends_answers_what_it_was_asked() {
    let mut s = Scene::new();
    let (invite, ok) = establish(&mut s, UPDATES, UPDATES);
    let text = s.in_dialog("UPDATE", 2, &ok, &offer(2, "sendonly"));
    s.world.send(s.caller, s.node, text);
    s.expect(s.callee, "UPDATE");
    for shard in 0..2 {
        s.world.hand_over(shard);
    }
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    let mut seen = [s.next(s.caller), s.next(s.caller)].map(|t| t.first_line().to_owned());
    seen.sort();
    assert!(seen[0].starts_with("BYE ") && seen[1].starts_with("SIP/2.0 481"), "{seen:?}");
    s.assert_clean(1);
}
