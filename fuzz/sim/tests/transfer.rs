//! Transfers that the node executes: what each of the three sides sees, and what is left when something
//! goes wrong between any two messages.

use control::{Command, Event};
use sbc::policy::{Image, Refers};
use sim::fault::Cut;
use sim::scene::{
    CALLEE, CALLEE_MEDIA, CALLER, CALLER_MEDIA, NODE, SECOND, Scene, call_id, executing, image,
};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const CONTACT_2: &str = "Contact: <sip:203.0.113.30:5060>\r\n";
const SECOND_MEDIA: &str = "203.0.113.30:4000";

fn scene() -> Scene {
    let mut s = Scene::with(executing(), Options::default());
    s.world.peer(SECOND_MEDIA);
    s
}

fn second_says(formats: &str) -> String {
    wire::sdp(SECOND_MEDIA.parse().expect("an address"), 1, formats, "sendrecv")
}

/// The caller's REFER to a number.
fn refer(s: &mut Scene, ok: &Text, number: u32, to: &str, headers: &str) {
    let text = s.in_dialog("REFER", number, ok, "");
    let refer = format!("\r\nRefer-To: <sip:{to}@{NODE}>\r\n{headers}Contact:");
    let text = text.replacen("\r\nContact:", &refer, 1);
    s.world.send(s.caller, s.node, text);
}

/// The next NOTIFY of `peer`: what it says, and whether it is the last.
fn notified(s: &mut Scene, peer: &str) -> (String, bool) {
    let peer: SocketAddr = peer.parse().expect("an address");
    let notify = s.expect(peer, "NOTIFY");
    assert!(notify.get("Event").starts_with("refer"), "{}", notify.raw);
    assert!(notify.get("Content-Type").starts_with("message/sipfrag"));
    s.world.send(peer, s.node, notify.reply(200, "", "", ""));
    let first = notify.body().lines().next().unwrap_or("").to_owned();
    (first, notify.get("Subscription-State").starts_with("terminated"))
}

/// The caller refers the callee to the second, who rings and answers; what the second was sent, and what
/// the callee was offered.
fn transferred(s: &mut Scene, ok: &Text) -> (Text, Text) {
    refer(s, ok, 2, "79460001", "Referred-By: <sip:1001@caller>\r\n");
    let accepted = s.expect_status(s.caller, 202);
    assert!(accepted.get("Contact").contains(NODE), "{}", accepted.raw);
    assert_eq!(notified(s, CALLER), ("SIP/2.0 100 Trying".to_owned(), false));
    let invite = s.expect(s.second, "INVITE");
    s.world.send(s.second, s.node, invite.reply(180, "x", CONTACT_2, ""));
    assert_eq!(notified(s, CALLER), ("SIP/2.0 180 Test".to_owned(), false));
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
    s.expect(s.second, "ACK");
    assert_eq!(notified(s, CALLER), ("SIP/2.0 200 OK".to_owned(), true));
    s.let_go(s.caller, "");
    let again = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    (invite, again)
}

/// One packet each way between two addresses, by way of what they were told.
fn assert_joined(s: &mut Scene, ends: [(&str, &Text); 2]) {
    for (near, far) in [(ends[0], ends[1]), (ends[1], ends[0])] {
        let (from, to): (SocketAddr, SocketAddr) =
            (near.0.parse().expect("an address"), far.0.parse().expect("an address"));
        s.world.send(from, near.1.media().expect("ours"), wire::rtp(1, 1, b'm'));
        assert!(s.world.wait(to, Duration::from_secs(1)).is_some(), "{}", s.ladder());
    }
}

#[test]
fn the_caller_transfers_the_callee() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    assert!(ok.get("Allow").ends_with("REFER"), "{}", ok.raw);
    let (invite, again) = transferred(&mut s, &ok);
    assert_eq!(invite.uri(), format!("sip:79460001@{SECOND}"));
    assert_eq!(invite.get("Referred-By"), "<sip:1001@caller>");
    assert!(invite.get("From").starts_with("<sip:442079460000@192.0.2.1"), "{}", invite.raw);
    assert!(invite.body().contains("RTP/AVP 0\r\n"), "what the callee can do\n{}", invite.raw);
    assert_eq!(again.tag("To"), "b");
    assert_eq!(again.media(), first.media(), "our address does not move");
    assert_joined(&mut s, [(CALLEE_MEDIA, &again), (SECOND_MEDIA, &invite)]);
    assert_eq!(s.world.page().read(Image::calls_word(0)), 0, "the caller's place is free");
    let bye = s.from_callee("BYE", 1, &first, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    s.let_go(s.second, "");
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    let transfer = &cdr.transfers[0];
    assert_eq!((transfer.status, &*transfer.trunk, transfer.first), (200, &b"in"[..], 1));
    assert_eq!((&*transfer.number, transfer.media.packets), (&b"79460001"[..], 1));
    let answered: Vec<_> = cdr.attempts.iter().map(|a| cdr.answered_ms_of(a).is_some()).collect();
    assert_eq!((answered, cdr.attempts_of(Some(0)).len()), (vec![true, true], 1));
    assert_eq!(cdr.media[1].packets, 1, "the callee's media is the callee's");
}

#[test]
fn a_capture_goes_on_with_whom_the_call_is_transferred_to() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    s.order(Command::Capture, call_id(&ok));
    let (invite, again) = transferred(&mut s, &ok);
    assert_joined(&mut s, [(CALLEE_MEDIA, &again), (SECOND_MEDIA, &invite)]);
    let sources = s.world.events.iter().filter_map(|event| {
        let Event::Captured(packet) = event else { return None };
        Some(packet.source.to_string())
    });
    assert_eq!(sources.collect::<Vec<_>>(), [CALLEE_MEDIA, SECOND_MEDIA]);
    let bye = s.from_callee("BYE", 1, &first, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    s.let_go(s.second, "");
    s.assert_clean(1);
    assert!(s.world.events.contains(&Event::Uncaptured { id: call_id(&ok), packets: 2 }));
}

/// Two NOTIFYs on their way together could pass each other: the next waits until the one before it is answered.
#[test]
fn one_thing_is_told_at_a_time() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    refer(&mut s, &ok, 2, "79460001", "");
    s.expect_status(s.caller, 202);
    let first = s.expect(s.caller, "NOTIFY");
    let invite = s.expect(s.second, "INVITE");
    s.world.send(s.second, s.node, invite.reply(180, "x", CONTACT_2, ""));
    (0..2).for_each(|shard| s.world.hand_over(shard));
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
    s.expect(s.second, "ACK");
    let again = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    // Nothing but the first comes, which is repeated as long as nobody answers.
    for _ in 0..3 {
        let text = s.next(s.caller);
        assert_eq!(text.get("CSeq"), first.get("CSeq"), "{}", s.ladder());
    }
    s.world.send(s.caller, s.node, first.reply(200, "", "", ""));
    let next = |s: &mut Scene| loop {
        let text = s.next(s.caller);
        if text.get("CSeq") != first.get("CSeq") {
            return text;
        }
    };
    let ringing = next(&mut s);
    assert_eq!(ringing.body().lines().next(), Some("SIP/2.0 180 Test"), "{}", ringing.raw);
    assert!(s.within(s.caller, Duration::from_millis(400)).is_none(), "{}", s.ladder());
    s.world.send(s.caller, s.node, ringing.reply(200, "", "", ""));
    assert_eq!(notified(&mut s, CALLER), ("SIP/2.0 200 OK".to_owned(), true));
    s.expect(s.caller, "BYE");
}

/// Who says that it is subscribed to nothing is told nothing more (RFC 6665 4.2.2), and is let go all the same.
#[test]
fn who_refuses_to_be_told_is_told_nothing_more() {
    for answer in [481, 500] {
        let mut s = scene();
        let (first, ok) = s.establish("c1");
        refer(&mut s, &ok, 2, "79460001", "");
        s.expect_status(s.caller, 202);
        let notify = s.expect(s.caller, "NOTIFY");
        s.world.send(s.caller, s.node, notify.reply(answer, "", "", ""));
        let invite = s.expect(s.second, "INVITE");
        s.world.send(s.second, s.node, invite.reply(180, "x", CONTACT_2, ""));
        s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
        s.expect(s.second, "ACK");
        s.let_go(s.caller, "");
        let again = s.expect(s.callee, "INVITE");
        let said = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
        s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &said));
        s.expect(s.callee, "ACK");
        let bye = s.from_callee("BYE", 1, &first, "b", "");
        s.world.send(s.callee, s.node, bye);
        s.expect_status(s.callee, 200);
        s.let_go(s.second, "");
        s.assert_clean(1);
    }
}

#[test]
fn the_callee_transfers_the_caller() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    let text = s.from_callee("REFER", 1, &first, "b", "");
    let to = format!("\r\nRefer-To: <sip:79460001@{NODE}>\r\nRefer-Sub: false\r\nContact:");
    s.world.send(s.callee, s.node, text.replacen("\r\nContact:", &to, 1));
    let accepted = s.expect_status(s.callee, 202);
    assert_eq!(accepted.get("Refer-Sub"), "false", "RFC 4488");
    let invite = s.expect(s.second, "INVITE");
    assert!(invite.get("From").contains("sip:1001@"), "{}", invite.raw);
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
    s.expect(s.second, "ACK");
    // Nobody is to be told, so the BYE comes at once.
    let bye = s.expect(s.callee, "BYE");
    assert!(bye.get("Reason").contains("transferred"), "{}", bye.raw);
    s.world.send(s.callee, s.node, bye.reply(200, "", "", ""));
    let again = s.caller_agrees("0");
    (0..2).for_each(|shard| s.world.hand_over(shard));
    assert_joined(&mut s, [(CALLER_MEDIA, &again), (SECOND_MEDIA, &invite)]);
    let bye = s.in_dialog("BYE", 2, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.let_go(s.second, "");
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    assert_eq!((&*cdr.transfers[0].trunk, cdr.transfers[0].status), (&b"out"[..], 200));
    assert!(cdr.attempts[0].end.is_some() && cdr.attempts[1].end.is_none());
}

#[test]
fn a_held_callee_is_heard_by_its_new_peer() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    let hold = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 2, "0", "inactive");
    let text = s.in_dialog("INVITE", 2, &ok, &hold);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let held = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "inactive");
    s.world.send(s.callee, s.node, held.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 2, &ok, "");
    s.world.send(s.caller, s.node, ack);
    refer(&mut s, &ok, 3, "79460001", "Refer-Sub: false\r\n");
    s.expect_status(s.caller, 202);
    let invite = s.expect(s.second, "INVITE");
    assert!(!invite.body().contains("inactive"), "{}", invite.raw);
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("sendrecv"), "{}", again.raw);
    // It is busy for a moment; then it agrees, and media flows.
    s.world.send(s.callee, s.node, again.reply(491, "b", "", ""));
    s.expect(s.callee, "ACK");
    let again = s.expect(s.callee, "INVITE");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 3, "0", "sendrecv");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    assert_joined(&mut s, [(CALLEE_MEDIA, &again), (SECOND_MEDIA, &invite)]);
}

#[test]
fn a_transfer_that_fails_leaves_the_call_as_it_was() {
    for status in [486, 503, 0] {
        let mut s = scene();
        let (invite, ok) = s.establish("c1");
        refer(&mut s, &ok, 2, "79460001", "");
        s.expect_status(s.caller, 202);
        notified(&mut s, CALLER);
        let target = s.expect(s.second, "INVITE");
        let told = match status {
            0 => 500, // Silence.
            _ => {
                s.world.send(s.second, s.node, target.reply(status, "x", "", ""));
                s.expect(s.second, "ACK");
                if status == 503 { 500 } else { status }
            }
        };
        let (said, is_last) = notified(&mut s, CALLER);
        assert!(said.starts_with(&format!("SIP/2.0 {told} ")) && is_last, "{said}");
        while s.within(s.second, Duration::ZERO).is_some() {}
        s.assert_media_flows(&ok, &invite);
        assert_eq!(s.world.page().read(Image::calls_word(2)), 0, "the target's place is free");
        // It may try again.
        refer(&mut s, &ok, 3, "99", "");
        s.expect_status(s.caller, 202);
        notified(&mut s, CALLER);
        assert!(notified(&mut s, CALLER).0.starts_with("SIP/2.0 404 "));
        s.finish(&ok);
        let cdr = &s.world.cdrs()[0];
        let statuses: Vec<_> = cdr.transfers.iter().map(|t| t.status).collect();
        assert_eq!(statuses, [told, 404]);
        assert_eq!((cdr.attempts_of(None).len(), cdr.attempts_of(Some(0)).len()), (1, 1));
    }
}

#[test]
fn what_cannot_be_executed_is_refused() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    for (number, to, status) in
        [(2, "sips:1@a", 416), (3, "sip:abc@a", 484), (4, "sip:7@a;method=BYE", 501), (5, "", 400)]
    {
        let text = s.in_dialog("REFER", number, &ok, "");
        let to = if to.is_empty() { String::new() } else { format!("Refer-To: <{to}>\r\n") };
        s.world.send(
            s.caller,
            s.node,
            text.replacen("\r\nContact:", &format!("\r\n{to}Contact:"), 1),
        );
        s.expect_status(s.caller, status);
    }
    refer(&mut s, &ok, 6, "79460001", "");
    s.expect_status(s.caller, 202);
    notified(&mut s, CALLER);
    refer(&mut s, &ok, 7, "79460001", "");
    s.expect_status(s.caller, 491);
    // Extensions we do not have are named (RFC 3911).
    for option in ["join", "nothing"] {
        let headers = format!("Require: {option}\r\n");
        let text = s.request("INVITE", option, "442079460000", &headers, "");
        s.world.send(s.caller, s.node, text);
        assert_eq!(s.expect_status(s.caller, 420).get("Unsupported"), option);
    }
}

#[test]
fn a_trunk_that_refuses_says_so() {
    let mut refusing = image();
    refusing.trunks[0].refers = Refers::Refuse;
    let mut s = Scene::with(refusing, Options::default());
    let (_, ok) = s.establish("c1");
    refer(&mut s, &ok, 2, "79460001", "");
    s.expect_status(s.caller, 603);
    s.finish(&ok);
}

#[test]
fn whoever_hangs_up_while_the_target_rings() {
    for who in ["by", "stays"] {
        let mut s = scene();
        let (first, ok) = s.establish("c1");
        refer(&mut s, &ok, 2, "79460001", "");
        s.expect_status(s.caller, 202);
        notified(&mut s, CALLER);
        let invite = s.expect(s.second, "INVITE");
        s.world.send(s.second, s.node, invite.reply(180, "x", CONTACT_2, ""));
        notified(&mut s, CALLER);
        if who == "by" {
            let bye = s.in_dialog("BYE", 3, &ok, "");
            s.world.send(s.caller, s.node, bye);
            s.expect_status(s.caller, 200);
            assert!(s.within(s.callee, Duration::from_secs(1)).is_none(), "it waits");
            s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
            s.expect(s.second, "ACK");
            s.expect(s.callee, "INVITE");
        } else {
            let bye = s.from_callee("BYE", 1, &first, "b", "");
            s.world.send(s.callee, s.node, bye);
            s.expect_status(s.callee, 200);
            s.expect(s.caller, "BYE");
            let cancel = s.expect(s.second, "CANCEL");
            s.world.send(s.second, s.node, cancel.reply(200, "x", "", ""));
            s.world.send(s.second, s.node, invite.reply(487, "x", "", ""));
        }
        s.world.run(Duration::from_millis(20));
        let closed = s.world.cdrs().len();
        assert_eq!(closed, usize::from(who == "stays"), "{}", s.ladder());
        s.assert_clean(1);
    }
}

#[test]
fn a_target_that_refuses_when_nobody_is_left_to_go_back_to() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    refer(&mut s, &ok, 2, "79460001", "");
    s.expect_status(s.caller, 202);
    notified(&mut s, CALLER);
    let invite = s.expect(s.second, "INVITE");
    s.world.send(s.second, s.node, invite.reply(100, "", "", ""));
    let bye = s.in_dialog("BYE", 3, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.world.send(s.second, s.node, invite.reply(486, "x", "", ""));
    s.expect(s.second, "ACK");
    s.let_go(s.callee, "");
    s.assert_clean(1);
    assert_eq!(&*s.world.cdrs()[0].reason, b"transfer_failed");
}

#[test]
fn a_reinvite_that_crosses_the_transfer_is_answered() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    refer(&mut s, &ok, 2, "79460001", "Refer-Sub: false\r\n");
    s.expect_status(s.caller, 202);
    let invite = s.expect(s.second, "INVITE");
    let hold = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 2, "0", "sendonly");
    let text = s.in_dialog("INVITE", 3, &ok, &hold);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let crossing = s.expect(s.callee, "INVITE");
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0")));
    s.expect(s.second, "ACK");
    s.let_go(s.caller, "");
    assert!(s.within(s.callee, Duration::from_millis(100)).is_none(), "one at a time");
    // The callee answers what was asked on the caller's behalf; then it hears of the second.
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "recvonly");
    s.world.send(s.callee, s.node, crossing.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    let again = s.expect(s.callee, "INVITE");
    assert!(again.body().contains("sendrecv"), "{}", again.raw);
    s.assert_clean(1);
}

#[test]
fn a_transferred_call_may_be_transferred_again() {
    let mut s = scene();
    let (first, ok) = s.establish("c1");
    transferred(&mut s, &ok);
    // The callee, who stayed, sends the second back to the caller's number... which is the second's.
    let text = s.from_callee("REFER", 1, &first, "b", "");
    let to = format!("\r\nRefer-To: <sip:79460002@{NODE}>\r\nRefer-Sub: false\r\nContact:");
    s.world.send(s.callee, s.node, text.replacen("\r\nContact:", &to, 1));
    s.expect_status(s.callee, 202);
    let third = s.expect(s.second, "INVITE");
    assert!(third.uri().contains("79460002"));
    s.world.send(s.second, s.node, third.reply(486, "y", "", ""));
    s.expect(s.second, "ACK");
    assert!(s.within(s.callee, Duration::from_millis(100)).is_none(), "the call goes on");
    s.assert_clean(1);
    assert_eq!(s.world.cdrs()[0].transfers.len(), 2);
}

#[test]
fn a_kill_between_any_two_messages_leaves_one_cdr_and_no_place() {
    for cut in Cut::ALL {
        for after in 0..6 {
            let mut s = scene();
            let (_, ok) = s.establish("c1");
            let mut step = 0;
            let mut maybe = |s: &mut Scene| {
                if step == after {
                    s.world.crash_within(cut);
                }
                step += 1;
            };
            maybe(&mut s);
            refer(&mut s, &ok, 2, "79460001", "");
            s.world.run(Duration::from_millis(10));
            let find = |s: &mut Scene, peer: SocketAddr, method: &str| {
                let mut found = None;
                while let Some(text) = s.within(peer, Duration::from_millis(1)) {
                    found = Some(text).filter(|t| t.method() == Some(method)).or(found);
                }
                found
            };
            let (second, callee, caller) = (s.second, s.callee, s.caller);
            if let Some(invite) = find(&mut s, second, "INVITE") {
                for (status, body) in [(180, String::new()), (200, second_says("0"))] {
                    maybe(&mut s);
                    s.world.send(second, s.node, invite.reply(status, "x", CONTACT_2, &body));
                    s.world.run(Duration::from_millis(10));
                }
            }
            for (peer, method) in [(caller, "NOTIFY"), (callee, "INVITE"), (caller, "BYE")] {
                maybe(&mut s);
                let Some(text) = find(&mut s, peer, method) else { continue };
                let body = if method == "INVITE" { s.answer() } else { String::new() };
                s.world.send(peer, s.node, text.reply(200, "b", CONTACT, &body));
                s.world.run(Duration::from_millis(10));
            }
            s.world.tidy();
            s.world.crash();
            s.assert_clean(1);
            assert_eq!(CALLEE, s.callee.to_string());
        }
    }
}

/// The callee's trunk keeps its transfers to itself: it is called back by the URI it gave, which has no number,
/// and hears in Referred-By what it said.
#[test]
fn a_trunk_may_be_called_back_for_whom_it_means() {
    let mut image = executing();
    image.trunks[1].refers = Refers::Return;
    let mut s = Scene::with(image, Options::default());
    let (first, ok) = s.establish("c1");
    assert!(first.get("Allow").ends_with("REFER"), "{}", first.raw);
    let target = "sip:sip.example:5061;transport=tls;x-m=8:orgid:1;x-t=2";
    let by = "<sip:sip.example:5061;x-m=8:orgid:3;x-ti=4;x-tt=aHR0cHM%3D>";
    let refer = s.from_callee("REFER", 1, &first, "b", "");
    let headers = format!("\r\nRefer-To: <{target}?X-Other=1>\r\nReferred-By: {by}\r\nContact:");
    s.world.send(s.callee, s.node, refer.replacen("\r\nContact:", &headers, 1));
    s.expect_status(s.callee, 202);
    assert_eq!(notified(&mut s, CALLEE), ("SIP/2.0 100 Trying".to_owned(), false));
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!((invite.uri(), invite.get("Referred-By")), (target, by), "{}", invite.raw);
    assert_eq!(invite.get("To"), format!("<{target}>"));
    assert!(invite.get("From").contains("1001"), "the caller stays: {}", invite.raw);
    assert_ne!(invite.media(), first.media(), "it is another leg");
    let third = "203.0.113.20:4010";
    s.world.peer(third);
    let answer = wire::sdp(third.parse().expect("an address"), 1, "0", "sendrecv");
    s.world.send(s.callee, s.node, invite.reply(200, "x", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    assert_eq!(notified(&mut s, CALLEE), ("SIP/2.0 200 OK".to_owned(), true));
    let bye = s.expect(s.callee, "BYE");
    assert_eq!(bye.get("Call-ID"), first.get("Call-ID"));
    s.world.send(s.callee, s.node, bye.reply(200, "", "", ""));
    let again = s.caller_agrees("0");
    assert_joined(&mut s, [(CALLER_MEDIA, &again), (third, &invite)]);
    assert_eq!(s.world.page().read(Image::calls_word(1)), 1, "the first leg's place is free");
    let bye = s.in_dialog("BYE", 9, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.let_go(s.callee, "");
    s.assert_clean(1);
    let cdr = &s.world.cdrs()[0];
    assert_eq!((&*cdr.transfers[0].trunk, cdr.transfers[0].status), (&b"out"[..], 200));
    assert_eq!((&*cdr.attempts[1].trunk, &*cdr.attempts[1].number), (&b"out"[..], &b""[..]));
}

#[test]
fn a_trunk_that_does_not_answer_its_own_transfer() {
    let mut image = executing();
    image.trunks[1].refers = Refers::Return;
    let mut s = Scene::with(image, Options::default());
    let (first, ok) = s.establish("c1");
    let refer = s.from_callee("REFER", 1, &first, "b", "");
    let headers = "\r\nRefer-To: <sip:+4989123456@sip.example>\r\nContact:";
    s.world.send(s.callee, s.node, refer.replacen("\r\nContact:", headers, 1));
    s.expect_status(s.callee, 202);
    notified(&mut s, CALLEE);
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(invite.uri(), "sip:+4989123456@sip.example");
    s.world.send(s.callee, s.node, invite.reply(603, "x", "", ""));
    s.expect(s.callee, "ACK");
    assert!(notified(&mut s, CALLEE).0.starts_with("SIP/2.0 603"));
    s.assert_media_flows(&ok, &first);
    s.finish(&ok);
}

/// The new side leaves while the one that stays is still being told of it. What that one answers then, less than
/// it was offered, is told to nobody, and takes no ports.
#[test]
fn an_answer_after_the_end_takes_no_ports() {
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    refer(&mut s, &ok, 2, "79460001", "Refer-Sub: false\r\n");
    s.expect_status(s.caller, 202);
    let invite = s.expect(s.second, "INVITE");
    s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &second_says("0 8")));
    s.expect(s.second, "ACK");
    s.let_go(s.caller, "");
    let again = s.expect(s.callee, "INVITE");
    let bye = s.from_callee("BYE", 1, &invite, "x", "").replace(CALLEE, SECOND);
    s.world.send(s.second, s.node, bye);
    s.expect_status(s.second, 200);
    s.let_go(s.callee, "b");
    let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
    s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
    s.expect(s.callee, "ACK");
    assert_eq!(s.held(), 0, "{}", s.ladder());
    s.assert_clean(1);
}
