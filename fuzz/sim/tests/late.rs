//! Late offers interworked: a caller without one, a trunk that wants one.

use sim::scene::{CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n";

/// A world whose trunks out want an offer, an INVITE without one, and what the callee gets of it.
fn ring() -> (Scene, Text) {
    let mut image = image();
    image.trunks.iter_mut().for_each(|trunk| trunk.offers = true);
    let mut s = Scene::with(image, Default::default());
    let text = s.request("INVITE", "late", "442079460000", "", "");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    (s, invite)
}

fn callee_says(formats: &str) -> String {
    wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 1, formats, "")
}

fn caller_says(formats: &str) -> String {
    wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, formats, "")
}

#[test]
fn the_callees_answer_is_the_callers_offer() {
    let (mut s, invite) = ring();
    assert!(invite.body().contains("RTP/AVP 0 8 101\r\n"), "{}", invite.raw);
    s.world.send(s.callee, s.node, invite.reply(183, "b", CONTACT, &callee_says("8")));
    assert_eq!(s.expect_status(s.caller, 183).body(), "", "no offer where it may be lost");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &callee_says("8")));
    let ack = s.expect(s.callee, "ACK");
    assert_eq!(ack.body(), "", "our offer was in the INVITE");
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.body().contains("RTP/AVP 8\r\n"), "{}", ok.raw);
    let ack = s.in_dialog("ACK", 1, &ok, &caller_says("8"));
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    s.assert_media_flows(&ok, &invite);
    assert!(s.within(s.callee, Duration::ZERO).is_none(), "nothing more to be said");
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.assert_clean(1);
}

#[test]
fn what_the_caller_chooses_is_offered_to_the_callee_again() {
    let (mut s, invite) = ring();
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &callee_says("0 8")));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, &caller_says("8"));
    s.world.send(s.caller, s.node, ack);
    (0..2).for_each(|shard| s.world.hand_over(shard));
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("RTP/AVP 8\r\n"), "{}", again.raw);
    // It is busy for a moment; then it agrees.
    s.world.send(s.callee, s.node, again.reply(491, "b", "", ""));
    s.expect(s.callee, "ACK");
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("RTP/AVP 8\r\n"), "an offer again, and no mere refresh");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &callee_says("8")));
    s.expect(s.callee, "ACK");
    s.assert_media_flows(&ok, &again);
    assert!(s.within(s.caller, Duration::ZERO).is_none(), "the caller hears nothing of it");
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.assert_clean(1);
}

#[test]
fn a_reliable_answer_is_confirmed_and_offered_in_the_200() {
    let (mut s, invite) = ring();
    let headers = format!("{CONTACT}Require: 100rel\r\nRSeq: 9\r\n");
    s.world.send(s.callee, s.node, invite.reply(183, "b", &headers, &callee_says("0")));
    let own = s.expect(s.callee, "PRACK");
    s.world.send(s.callee, s.node, own.reply(200, "b", "", ""));
    assert_eq!(s.expect_status(s.caller, 183).body(), "");
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, ""));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert!(ok.body().contains("RTP/AVP 0\r\n"), "{}", ok.raw);
    let ack = s.in_dialog("ACK", 1, &ok, &caller_says("0"));
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    s.assert_media_flows(&ok, &invite);
}

#[test]
fn an_ack_without_an_answer_ends_both_dialogs() {
    let (mut s, invite) = ring();
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &callee_says("0")));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    assert!(s.expect(s.caller, "BYE").get("Reason").contains("not_acceptable"));
    while s.next(s.callee).method() != Some("BYE") {}
    s.assert_clean(1);
}

fn records(s: &Scene) -> Vec<usize> {
    s.world.regions().iter().flat_map(|r| r.records.values().map(Vec::len)).collect()
}

#[test]
fn records_fit_their_slots_twice_and_responses_stay_small() {
    let (mut s, invite) = ring();
    s.world.send(s.callee, s.node, invite.reply(200, "b", CONTACT, &callee_says("0 8")));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, &caller_says("8"));
    s.world.send(s.caller, s.node, ack);
    s.expect(s.callee, "INVITE");
    let mut plain = Scene::new();
    let (_, answered) = plain.establish("c1");
    println!("sim_response {} bytes", answered.raw.len());
    assert!(answered.raw.len() <= 700, "what a transaction keeps: {}", answered.raw);
    let sizes = [records(&s), records(&plain)].concat();
    println!("sim_record {sizes:?} bytes");
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 4096), "{sizes:?}");
}
