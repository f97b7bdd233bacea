//! What random seeds have found, scripted by hand: each failed before its cure.

use control::Command;
use node::Letter;
use sbc::policy::Target;
use sbc::question::{Answer, Query};
use sim::fault::Cut;
use sim::scene::{CALLEE, CALLER_MEDIA, Scene, image};
use sim::wire;
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";

#[test]
fn an_answer_for_a_cancelled_call_routes_nothing() {
    let mut named = image();
    named.trunks[1].endpoints = vec![Target::Name(Query::port("carrier.example", 5060))];
    let mut s = Scene::with(named, Default::default());
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    s.expect_status(s.caller, 200);
    s.expect_status(s.caller, 487);
    // The caller's ACK is still to come when the name server answers.
    for shard in 0..2 {
        let addresses = vec!["203.0.113.20".parse().unwrap()];
        let query = Query::port("carrier.example", 5060);
        let answer = Answer::of(query, 5060, addresses, 60);
        s.world.post(shard, Letter::Answer(answer));
    }
    assert!(s.within(s.callee, Duration::from_secs(1)).is_none());
    s.assert_clean(1);
}

#[test]
fn a_late_copy_of_an_invite_is_neither_a_call_nor_a_loop() {
    let mut s = Scene::new();
    let text = s.request("INVITE", "c1", "abc", "", "");
    s.world.send(s.caller, s.node, text.clone());
    let refused = s.expect_status(s.caller, 484);
    let to = format!("To: {}\r\n", refused.get("To"));
    let ack = text.replace("INVITE", "ACK").replace("To: <sip:abc@192.0.2.1:5060>\r\n", &to);
    assert!(ack.contains(&to));
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_secs(10));
    while s.within(s.caller, Duration::ZERO).is_some() {}
    s.world.send(s.caller, s.node, text);
    assert!(s.within(s.caller, Duration::from_secs(2)).is_none());
    s.assert_clean(1);
}

#[test]
fn without_a_transaction_the_same_request_gets_the_same_tag() {
    let mut s = Scene::new();
    let text = s.request("INVITE", "c1", "44", "Max-Forwards: 0\r\n", "");
    let answers: Vec<_> = (0..2)
        .map(|_| {
            s.world.send(s.caller, s.node, text.clone());
            s.expect_status(s.caller, 400)
        })
        .collect();
    assert_eq!(answers[0], answers[1], "RFC 3261 8.2.7");
}

#[test]
fn a_callee_that_hangs_up_while_it_rings_has_its_invite_cancelled() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    s.expect_status(s.caller, 480);
    s.expect(s.callee, "CANCEL");
    // Its INVITE is never answered.
    s.assert_clean(1);
    assert_eq!(s.world.cdrs()[0].status, 480);
}

#[test]
fn a_reinvite_that_is_only_tried_does_not_keep_an_ended_call() {
    for who_ends in ["callee", "caller"] {
        let mut s = Scene::new();
        let (invite, ok) = s.establish("c1");
        let offer = wire::sdp(CALLER_MEDIA.parse().unwrap(), 2, "0", "sendonly");
        let text = s.in_dialog("INVITE", 2, &ok, &offer);
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 100);
        let again = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, again.reply(100, "", "", ""));
        s.world.run(Duration::from_millis(5));
        if who_ends == "callee" {
            let bye = s.from_callee("BYE", 1, &invite, "b", "");
            s.world.send(s.callee, s.node, bye);
        } else {
            let bye = s.in_dialog("BYE", 3, &ok, "");
            s.world.send(s.caller, s.node, bye);
        }
        s.assert_clean(1);
    }
}

#[test]
fn a_successor_with_the_same_secrets_says_nothing_twice() {
    let mut s = Scene::new();
    let mut call_ids = Vec::new();
    for call in ["c1", "c2", "c3", "c4"] {
        s.invite(call);
        call_ids.push(s.expect(s.callee, "INVITE").get("Call-ID").to_owned());
        (0..2).for_each(|shard| s.world.hand_over(shard));
    }
    call_ids.sort();
    call_ids.dedup();
    assert_eq!(call_ids.len(), 4, "{call_ids:?}");
}

#[test]
fn after_a_hand_over_no_key_of_old_names_a_transaction_of_another_call() {
    let mut lasting = image();
    lasting.trunks.iter_mut().for_each(|t| t.media_timeout = None);
    let mut s = Scene::with(lasting, sim::Options { shards: 1, ..Default::default() });
    let (invite, ok) = s.establish("c1");
    // The transactions of the first INVITE are forgotten; the call goes on.
    s.world.run(Duration::from_secs(70));
    s.world.hand_over(0);
    s.invite("c2");
    s.expect_status(s.caller, 100);
    let ringing = s.expect(s.callee, "INVITE");
    s.world.send(
        s.callee,
        s.node,
        ringing.reply(180, "r", &format!("Contact: <sip:{CALLEE}>\r\n"), ""),
    );
    s.expect_status(s.caller, 180);
    // While it rings, the first call can end all the same.
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    let bye = s.expect(s.callee, "BYE");
    assert_eq!(bye.get("Call-ID"), invite.get("Call-ID"));
    s.world.send(s.callee, s.node, bye.reply(200, "b", "", ""));
    s.world.run(Duration::from_secs(10));
    assert_eq!(s.world.shards()[0].signal().calls(), 1, "the first call was let go");
    s.assert_clean(2);
}

/// The process dies when the stop frame of every call is written and no record says so.
fn killed_between_stop_frame_and_record(s: &mut Scene) {
    s.world.crash_within(Cut::Journal);
    for shard in 0..2 {
        s.world.post(shard, Letter::Command(Command::ReleaseAll));
    }
    assert_eq!(s.world.cdrs().len(), 1, "the stop frame was written, and no other");
}

#[test]
fn a_kill_after_the_stop_frame_leaves_nobody_without_a_bye() {
    let mut s = Scene::new();
    s.establish("c1");
    killed_between_stop_frame_and_record(&mut s);
    for peer in [s.caller, s.callee] {
        s.let_go(peer, "");
    }
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    assert_eq!((&*cdr.reason, cdr.marks.recovered), (&b"operator"[..], false));
}

#[test]
fn a_kill_after_the_stop_frame_of_a_ringing_call_ends_both_invites() {
    let mut s = Scene::new();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", CONTACT, ""));
    s.expect_status(s.caller, 180);
    killed_between_stop_frame_and_record(&mut s);
    s.expect_status(s.caller, 503);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.assert_clean(1);
}
