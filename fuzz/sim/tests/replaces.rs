//! INVITEs that are to replace one side of a call of ours (RFC 3891 3): accepted, refused, given up, and
//! killed between any two messages.

use base::random::Random;
use sbc::policy::{Image, MediaRelease, Refers};
use sim::fault::Cut;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, NODE, SECOND, Scene, executing};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND_MEDIA: &str = "203.0.113.30:4000";

/// Call-IDs of the new INVITE: one whose home is on the shard of the call, one on the other.
fn names(call_id: &str) -> [String; 2] {
    let keyed = Random::new((1, 1));
    let seat = |name: &str| sbc::steer::of_call_id(name.as_bytes(), &keyed).seat(2).0;
    let home = seat(call_id);
    let find = |wanted: u8| (1..).map(|n| format!("new{n}@second")).find(|n| seat(n) == wanted);
    [find(home).expect("a name"), find(1 - home).expect("a name")]
}

fn scene() -> Scene {
    let mut s = Scene::with(executing(), Options::default());
    s.world.peer(SECOND_MEDIA);
    s
}

fn offer(formats: &str) -> String {
    wire::sdp(SECOND_MEDIA.parse().expect("an address"), 1, formats, "sendrecv")
}

/// The value that names the dialog of a 200 to the caller.
fn value(ok: &Text) -> String {
    format!("{};to-tag={};from-tag={}", ok.get("Call-ID"), ok.tag("To"), ok.tag("From"))
}

/// A message of the second's about its new INVITE.
fn message(method: &str, call_id: &str, to: &str, headers: &str, body: &str) -> String {
    let number = 1;
    let branch = if method == "ACK" { "a" } else { "i" };
    let head = format!(
        "{method} sip:1001@{NODE} SIP/2.0\r\nVia: SIP/2.0/UDP {SECOND};branch=z9hG4bKr{branch}{call_id};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:2002@{SECOND}>;tag=n\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
         CSeq: {number} {method}\r\nContact: <sip:2002@{SECOND}>\r\n{headers}"
    );
    wire::finish(head, body)
}

fn plain_to() -> String {
    format!("<sip:1001@{NODE}>")
}

fn invite(s: &mut Scene, call_id: &str, replaces: &str, body: &str) {
    let headers = format!("Replaces: {replaces}\r\nRequire: replaces\r\n");
    let text = message("INVITE", call_id, &plain_to(), &headers, body);
    s.world.send(s.second, s.node, text);
}

fn bye(s: &mut Scene, ok: &Text) {
    let text = message("BYE", ok.get("Call-ID"), ok.get("To"), "", "")
        .replace("CSeq: 1 BYE", "CSeq: 2 BYE")
        .replace("z9hG4bKri", "z9hG4bKrb");
    s.world.send(s.second, s.node, text);
}

fn acknowledge(s: &mut Scene, ok: &Text, body: &str) {
    let text = message("ACK", ok.get("Call-ID"), ok.get("To"), "", body);
    s.world.send(s.second, s.node, text);
}

/// The callee answers what it is asked anew.
fn callee_agrees(s: &mut Scene) -> Text {
    let again = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, again.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    again
}

fn one_packet_each_way(s: &mut Scene, ok: &Text, again: &Text) {
    for (from, told, to) in [(SECOND_MEDIA, ok, CALLEE_MEDIA), (CALLEE_MEDIA, again, SECOND_MEDIA)]
    {
        let (from, to): (SocketAddr, SocketAddr) =
            (from.parse().expect("an address"), to.parse().expect("an address"));
        s.world.send(from, told.media().expect("ours"), wire::rtp(1, 1, b'm'));
        assert!(s.world.wait(to, Duration::from_secs(1)).is_some(), "{from}\n{}", s.ladder());
    }
}

#[test]
fn the_second_takes_the_callers_place() {
    for place in 0..2 {
        let mut s = scene();
        let (first, ok) = s.establish("c1");
        assert!(ok.all("Supported").iter().any(|s| s.contains("replaces")), "{}", ok.raw);
        let call_id = names("c1@caller")[place].clone();
        invite(&mut s, &call_id, &value(&ok), &offer("0 8"));
        s.expect_status(s.second, 100);
        let again = callee_agrees(&mut s);
        assert_eq!(again.media(), first.media(), "our address does not move");
        let new_ok = s.expect_status(s.second, 200);
        assert!(new_ok.get("Contact").contains(NODE));
        acknowledge(&mut s, &new_ok, "");
        s.let_go(s.caller, "");
        (0..2).for_each(|shard| s.world.hand_over(shard));
        one_packet_each_way(&mut s, &new_ok, &again);
        s.world.run(Duration::from_secs(3));
        assert_eq!(s.world.page().read(Image::calls_word(0)), 0, "the caller's place is free");
        bye(&mut s, &new_ok);
        s.expect_status(s.second, 200);
        s.let_go(s.callee, "b");
        s.assert_clean(1);
        let cdr = &s.world.cdrs()[0];
        let transfer = &cdr.transfers[0];
        assert_eq!((&*transfer.trunk, transfer.status), (&b"second"[..], 200));
        assert_eq!((&*transfer.number, &*transfer.call_id), (&b"2002"[..], call_id.as_bytes()));
        assert_eq!((&*cdr.reason, transfer.media.packets), (&b"caller_hung_up"[..], 1));
        assert!(cdr.duration_ns() >= 3_000_000_000);
    }
}

#[test]
fn the_callee_named_as_its_peer_knows_it_and_without_an_offer() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    // The dialog as the callee, who stays, has it: its own tag, then ours.
    let staying = format!("{};to-tag=b;from-tag={}", first.get("Call-ID"), first.tag("From"));
    invite(&mut s, "new@second", &staying, "");
    s.expect_status(s.second, 100);
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().is_empty(), "{}", again.raw);
    let fresh = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0 8", "sendrecv");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, again.reply(200, "b", &contact, &fresh));
    let new_ok = s.expect_status(s.second, 200);
    assert!(new_ok.body().contains("RTP/AVP 0 8"), "{}", new_ok.raw);
    acknowledge(&mut s, &new_ok, &offer("0"));
    assert!(!s.expect(s.callee, "ACK").body().is_empty());
    let gone = s.expect(s.caller, "BYE");
    assert_eq!(gone.get("Call-ID"), ok.get("Call-ID"));
    s.world.send(s.caller, s.node, gone.reply(200, "", "", ""));
    bye(&mut s, &new_ok);
    s.expect_status(s.second, 200);
    s.expect(s.callee, "BYE");
    s.assert_clean(1);
}

#[test]
fn what_may_not_be_replaced() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    let named = value(&ok);
    let cases = [
        (named.replace("c1@", "c2@"), 481, "replaces_unknown"),
        ("theirs@pbx;to-tag=1;from-tag=2".to_owned(), 481, "replaces_unknown"),
        (format!("{named};early-only"), 486, "replaces_answered"),
        (format!("{named}\r\nReplaces: {named}"), 400, ""),
        (format!("{named}\r\nJoin: {named}"), 400, ""),
        ("no-tags@pbx".to_owned(), 400, ""),
    ];
    let mut refused = Vec::new();
    for (place, (replaces, status, reason)) in cases.iter().enumerate() {
        invite(&mut s, &format!("n{place}@second"), replaces, &offer("0"));
        let said = s.expect_status(s.second, *status);
        let text = message("ACK", &format!("n{place}@second"), said.get("To"), "", "");
        s.world.send(s.second, s.node, text.replace("z9hG4bKra", "z9hG4bKri"));
        refused.extend((!reason.is_empty()).then_some(*reason));
    }
    let reasons: Vec<_> = s.world.cdrs().iter().map(|c| c.reason.clone()).collect();
    assert_eq!(
        reasons.iter().map(|r| &**r).collect::<Vec<_>>(),
        refused.iter().map(|r| r.as_bytes()).collect::<Vec<_>>()
    );
    // One that has ended, but whose end the callee has not confirmed.
    let gone = s.in_dialog("BYE", 9, &ok, "");
    s.world.send(s.caller, s.node, gone);
    s.expect_status(s.caller, 200);
    s.expect(s.callee, "BYE");
    invite(&mut s, "late@second", &named, &offer("0"));
    s.expect_status(s.second, 603);
    s.assert_clean(refused.len() + 2);
}

#[test]
fn a_dialog_that_rings_is_not_replaced() {
    let mut s = scene();
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let ringing = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, ringing.reply(180, "b", "", ""));
    let told = s.expect_status(s.caller, 180);
    invite(&mut s, "new@second", &format!("{};early-only", value(&told)), &offer("0"));
    s.expect_status(s.second, 481);
}

#[test]
fn a_side_that_does_not_agree_keeps_its_peer() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    invite(&mut s, "new@second", &value(&ok), &offer("0 8"));
    s.expect_status(s.second, 100);
    let again = s.expect(s.callee, "INVITE");
    // Meanwhile nobody else may ask.
    invite(&mut s, "other@second", &value(&ok), &offer("0 8"));
    assert!(!s.expect_status(s.second, 500).get("To").is_empty());
    s.world.send(s.callee, s.node, again.reply(488, "b", "", ""));
    s.expect(s.callee, "ACK");
    s.expect_status(s.second, 488);
    s.assert_media_flows(&ok, &first);
    s.world.run(Duration::from_secs(1));
    assert_eq!(s.world.page().read(Image::calls_word(2)), 0, "its place is free");
    let bye = s.in_dialog("BYE", 9, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.expect(s.callee, "BYE");
    s.assert_clean(2);
    let cdrs = s.world.cdrs();
    assert!(cdrs.iter().any(|c| c.transfers.iter().any(|t| t.status == 488)));
}

#[test]
fn a_cancel_finds_its_invite_wherever_that_went() {
    for place in 0..2 {
        let mut s = scene();
        let (_, ok) = s.establish("c1");
        let call_id = names("c1@caller")[place].clone();
        invite(&mut s, &call_id, &value(&ok), &offer("0 8"));
        s.expect_status(s.second, 100);
        let again = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, again.reply(100, "", "", ""));
        s.world.run(Duration::from_millis(10));
        let cancel = message("CANCEL", &call_id, &plain_to(), "", "");
        s.world.send(s.second, s.node, cancel);
        s.expect_status(s.second, 200);
        let cancel = s.expect(s.callee, "CANCEL");
        s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
        s.world.send(s.callee, s.node, again.reply(487, "b", "", ""));
        s.expect(s.callee, "ACK");
        s.expect_status(s.second, 487);
        s.assert_clean(1);
    }
}

#[test]
fn whoever_hangs_up_while_the_other_is_asked() {
    for who in ["replaced", "stays"] {
        let mut s = scene();
        let (first, ok) = s.establish("c1");
        invite(&mut s, "new@second", &value(&ok), &offer("0 8"));
        s.expect_status(s.second, 100);
        if who == "replaced" {
            let bye = s.in_dialog("BYE", 3, &ok, "");
            s.world.send(s.caller, s.node, bye);
            s.expect_status(s.caller, 200);
            callee_agrees(&mut s);
            let new_ok = s.expect_status(s.second, 200);
            acknowledge(&mut s, &new_ok, "");
            s.world.run(Duration::from_millis(50));
            assert!(s.world.cdrs().is_empty(), "the call goes on");
        } else {
            s.expect(s.callee, "INVITE");
            let bye = s.from_callee("BYE", 1, &first, "b", "");
            s.world.send(s.callee, s.node, bye);
            s.expect_status(s.second, 603);
            s.expect(s.caller, "BYE");
        }
        s.assert_clean(1);
    }
}

#[test]
fn trunks_that_carry_or_refuse() {
    for (refers, status) in [(Refers::Pass, 100), (Refers::Refuse, 420)] {
        let mut image = executing();
        image.trunks[2].refers = refers;
        let mut s = Scene::with(image, Options::default());
        let (_, ok) = s.establish("c1");
        // A dialog of ours can be replaced by nobody else.
        invite(&mut s, "new@second", &value(&ok), &offer("0"));
        s.expect_status(s.second, status);
        s.assert_clean(if status == 420 { 2 } else { 1 });
    }
}

#[test]
fn a_kill_between_any_two_messages_leaves_one_cdr_and_no_place() {
    for cut in Cut::ALL {
        for after in 0..8 {
            let mut s = scene();
            let (_, ok) = s.establish("c1");
            if after == 0 {
                s.world.crash_within(cut);
            }
            invite(&mut s, "new@second", &value(&ok), &offer("0"));
            let mut step = 0;
            for _ in 0..10 {
                for (peer, tag) in [(s.caller, ""), (s.callee, "b"), (s.second, "")] {
                    while let Some(text) = s.within(peer, Duration::from_millis(2)) {
                        step += 1;
                        if step == after {
                            s.world.crash_within(cut);
                        }
                        let body = if text.method() == Some("INVITE") {
                            s.answer()
                        } else {
                            String::new()
                        };
                        let contact = format!("Contact: <sip:{peer}>\r\n");
                        if text.method().is_some_and(|m| m != "ACK") {
                            s.world.send(peer, s.node, text.reply(200, tag, &contact, &body));
                        } else if text.status() == Some(200) {
                            acknowledge(&mut s, &text, "");
                        }
                    }
                }
            }
            s.world.tidy();
            s.world.crash();
            s.world.run(Duration::from_secs(200));
            assert!((1..=2).contains(&s.world.cdrs().len()), "{}", s.ladder());
            let cdrs = s.world.cdrs().len();
            s.assert_clean(cdrs);
        }
    }
}

/// The same carrier, whose media goes past us.
fn released() -> (Scene, Text, Text) {
    let mut image = executing();
    image.trunks.iter_mut().for_each(|trunk| trunk.media_release = MediaRelease::SameInterface);
    let mut s = Scene::with(image, Options::default());
    s.world.peer(SECOND_MEDIA);
    let (first, ok) = s.establish("c1");
    let told = [first.media(), ok.media()].map(|media| media.map(|media| media.to_string()));
    assert_eq!(told, [CALLER_MEDIA, CALLEE_MEDIA].map(|media| Some(media.to_owned())));
    (s, first, ok)
}

fn is_ours(text: &Text) -> bool {
    let node: SocketAddr = NODE.parse().expect("an address");
    text.media().is_some_and(|media| media.ip() == node.ip())
}

#[test]
fn a_place_in_a_call_whose_media_goes_past_us_brings_it_back() {
    for place in 0..2 {
        let (mut s, _, ok) = released();
        let call_id = names("c1@caller")[place].clone();
        invite(&mut s, &call_id, &value(&ok), &offer("0 8"));
        s.expect_status(s.second, 100);
        let again = callee_agrees(&mut s);
        let new_ok = s.expect_status(s.second, 200);
        assert!(is_ours(&again) && is_ours(&new_ok), "{}", s.ladder());
        acknowledge(&mut s, &new_ok, "");
        s.let_go(s.caller, "");
        (0..2).for_each(|shard| s.world.hand_over(shard));
        one_packet_each_way(&mut s, &new_ok, &again);
        assert_eq!(s.held(), 2);
        bye(&mut s, &new_ok);
        s.expect_status(s.second, 200);
        s.let_go(s.callee, "b");
        s.assert_clean(1);
        let cdr = &s.world.cdrs()[0];
        assert!(cdr.marks.released && cdr.transfers[0].status == 200, "{cdr:?}");
    }
}

#[test]
fn without_an_offer_too() {
    let (mut s, _, ok) = released();
    invite(&mut s, "new@second", &value(&ok), "");
    s.expect_status(s.second, 100);
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().is_empty(), "{}", again.raw);
    let fresh = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0 8", "sendrecv");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, again.reply(200, "b", &contact, &fresh));
    let new_ok = s.expect_status(s.second, 200);
    acknowledge(&mut s, &new_ok, &offer("0"));
    let ack = s.expect(s.callee, "ACK");
    assert!(is_ours(&new_ok) && is_ours(&ack), "{}", s.ladder());
    s.let_go(s.caller, "");
    one_packet_each_way(&mut s, &new_ok, &ack);
    bye(&mut s, &new_ok);
    s.expect_status(s.second, 200);
    s.let_go(s.callee, "b");
    s.assert_clean(1);
}

#[test]
fn a_place_that_is_refused_leaves_media_where_it_was() {
    let (mut s, _, ok) = released();
    invite(&mut s, "new@second", &value(&ok), &offer("0 8"));
    s.expect_status(s.second, 100);
    let again = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, again.reply(488, "b", "", ""));
    s.expect(s.callee, "ACK");
    let refused = s.expect_status(s.second, 488);
    acknowledge(&mut s, &refused, "");
    s.world.run(Duration::from_millis(50));
    assert_eq!(s.held(), 0, "{}", s.ladder());
    // What follows is said as before: to each other.
    let hold = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 2, "0 8", "sendonly");
    let request = s.in_dialog("INVITE", 2, &ok, &hold);
    s.world.send(s.caller, s.node, request);
    let held_by = s.expect(s.callee, "INVITE");
    assert_eq!(held_by.media().map(|media| media.to_string()).as_deref(), Some(CALLER_MEDIA));
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "recvonly");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, held_by.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    while s.next(s.caller).status() != Some(200) {}
    let ack = s.in_dialog("ACK", 2, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.finish(&ok);
}
