//! Attended transfers between calls of ours (RFC 3891, RFC 5589 7), on one shard and across two: what every
//! side sees, whose time is paid by which call, and what is left when something goes wrong.

use sbc::policy::{Image, MediaRelease};
use sim::fault::Cut;
use sim::scene::{CALLEE_MEDIA, CALLER_MEDIA, NODE, SECOND, Scene, call_on, executing, replaces};
use sim::wire::{self, Text};
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND_MEDIA: &str = "203.0.113.30:4000";

/// Where the second call lives, seen from the first.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Apart {
    SameShard,
    OtherShard,
}

const EVERYWHERE: [Apart; 2] = [Apart::SameShard, Apart::OtherShard];

/// Two calls of the caller's: to the callee, and to the second, whom it asks first.
struct Two {
    s: Scene,
    first: (Text, Text),
    second: (Text, Text),
}

fn two(apart: Apart) -> Two {
    two_of(executing(), apart)
}

fn two_of(image: Image, apart: Apart) -> Two {
    let mut s = Scene::with(image, Options::default());
    s.world.peer(SECOND_MEDIA);
    let first = s.establish(&call_on(0, "c"));
    let second = consult(&mut s, &call_on(u8::from(apart == Apart::OtherShard), "other"));
    acknowledge(&mut s, &second.1);
    Two { s, first, second }
}

/// The caller calls the second, who answers.
fn consult(s: &mut Scene, call: &str) -> (Text, Text) {
    let offer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv");
    let text = s.request("INVITE", call, "79460001", "", &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.second, "INVITE");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    let answer = wire::sdp(SECOND_MEDIA.parse().expect("an address"), 1, "0", "sendrecv");
    s.world.send(s.second, s.node, invite.reply(200, "x", &contact, &answer));
    s.expect(s.second, "ACK");
    let ok = s.expect_status(s.caller, 200);
    (invite, ok)
}

fn acknowledge(s: &mut Scene, ok: &Text) {
    let ack = s.in_dialog("ACK", 1, ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
}

impl Two {
    /// The caller asks the node to join the callee and the second.
    fn refer(&mut self, number: u32, rest: &str) {
        let to = replaces(&self.second.1, rest);
        self.refer_to(number, &to);
    }

    fn refer_to(&mut self, number: u32, replaces: &str) {
        let s = &mut self.s;
        let text = s.in_dialog("REFER", number, &self.first.1, "");
        let refer = format!("\r\nRefer-To: <sip:79460001@{NODE}?{replaces}>\r\nContact:");
        let text = text.replacen("\r\nContact:", &refer, 1);
        s.world.send(s.caller, s.node, text);
    }

    /// Everybody answers what they are asked, until nobody is; what each was sent.
    fn answer_all(&mut self) -> [Vec<Text>; 3] {
        answer_all(&mut self.s, &[])
    }
}

/// Everybody but these answers. The caller, the callee, the second.
fn answer_all(s: &mut Scene, silent: &[SocketAddr]) -> [Vec<Text>; 3] {
    let mut seen = [Vec::new(), Vec::new(), Vec::new()];
    let peers = [
        (s.caller, CALLER_MEDIA, ""),
        (s.callee, CALLEE_MEDIA, "b"),
        (s.second, SECOND_MEDIA, "x"),
    ];
    let mut version = 10;
    loop {
        let mut quiet = true;
        for (place, (peer, media, tag)) in peers.iter().enumerate() {
            while let Some(text) = s.within(*peer, Duration::from_millis(2)) {
                quiet = false;
                let contact = format!("Contact: <sip:{peer}>\r\n");
                version += 1;
                let sdp = wire::sdp(media.parse().expect("an address"), version, "0", "sendrecv");
                let body = if text.method() == Some("INVITE") { sdp } else { String::new() };
                if text.method().is_some_and(|m| m != "ACK") && !silent.contains(peer) {
                    s.world.send(*peer, s.node, text.reply(200, tag, &contact, &body));
                }
                seen[place].push(text);
            }
        }
        if quiet {
            return seen;
        }
    }
}

fn methods(seen: &[Text]) -> Vec<String> {
    seen.iter()
        .map(|t| t.method().map_or_else(|| t.status().unwrap_or(0).to_string(), str::to_owned))
        .collect()
}

fn fragments(seen: &[Text]) -> Vec<String> {
    let notify = |t: &&Text| t.method() == Some("NOTIFY");
    seen.iter().filter(notify).map(|t| t.body().lines().next().unwrap_or("").to_owned()).collect()
}

/// One packet each way between the callee and the second, to where they were last told.
fn assert_joined(s: &mut Scene, callee: &Text, second: &Text) {
    let ends = [(CALLEE_MEDIA, callee, SECOND_MEDIA), (SECOND_MEDIA, second, CALLEE_MEDIA)];
    for (from, told, to) in ends {
        let (from, to): (SocketAddr, SocketAddr) =
            (from.parse().expect("an address"), to.parse().expect("an address"));
        s.world.send(from, told.media().expect("ours"), wire::rtp(1, 1, b'm'));
        assert!(s.world.wait(to, Duration::from_secs(1)).is_some(), "{from}\n{}", s.ladder());
    }
}

fn last_invite(seen: &[Text]) -> &Text {
    seen.iter().rev().find(|t| t.method() == Some("INVITE")).expect("an INVITE")
}

#[test]
fn the_caller_joins_the_two_it_has_called() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        let seen = t.answer_all();
        let s = &mut t.s;
        assert_eq!(fragments(&seen[0]), ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"], "{}", s.ladder());
        let byes: Vec<&str> = seen[0]
            .iter()
            .filter(|t| t.method() == Some("BYE"))
            .map(|t| t.get("Call-ID"))
            .collect();
        assert_eq!(byes.len(), 2, "it leaves both calls\n{}", s.ladder());
        let (callee, second) = (last_invite(&seen[1]), last_invite(&seen[2]));
        let moved = second.media() != t.second.0.media();
        assert_eq!(
            moved,
            apart == Apart::OtherShard,
            "its endpoint moves with it only where it must"
        );
        assert_eq!(callee.media(), t.first.0.media(), "our address does not move");
        assert!(!callee.body().contains("only") && !second.body().contains("only"));
        assert_joined(s, callee, second);
        assert_eq!(s.world.page().read(Image::calls_word(0)), 0, "the caller's places are free");
        assert_eq!(s.world.page().read(Image::calls_word(2)), 1, "the second's is its own");
        for shard in 0..2 {
            s.world.hand_over(shard);
        }
        // The second says something within its old dialog; then it hangs up.
        let info = from_second(s, "OPTIONS", 1, &t.second.0);
        s.world.send(s.second, s.node, info);
        s.expect_status(s.second, 200);
        s.world.run(Duration::from_secs(20));
        let bye = from_second(s, "BYE", 2, &t.second.0);
        s.world.send(s.second, s.node, bye);
        s.expect_status(s.second, 200);
        s.let_go(s.callee, "b");
        s.assert_clean(2);
        assert_paid(s);
    }
}

/// Both calls were paid until the end by who began them; each names the other.
fn assert_paid(s: &Scene) {
    let cdrs = s.world.cdrs();
    let to = |to: &[u8]| cdrs.iter().find(|c| *c.to == *to).expect("a CDR");
    let (first, second) = (to(b"442079460000"), to(b"79460001"));
    assert_eq!(second.transferred_to, Some(first.id));
    let transfer = &first.transfers[0];
    assert_eq!((transfer.status, transfer.joined), (200, Some(second.id)));
    assert_eq!(&*transfer.number, b"79460001");
    assert_eq!(transfer.call_id, second.call_id_out);
    for cdr in [first, second] {
        assert!(cdr.duration_ns() >= 20_000_000_000, "{cdr:?}");
        assert_eq!(&*cdr.trunk_in, b"in");
        assert_eq!(&*cdr.reason, b"callee_hung_up");
    }
    assert_eq!(first.end, second.end, "the leg ends once");
    assert!(first.attempts[1].buy.is_none() && first.attempts[1].answer.is_some());
    assert!(second.attempts[0].end.is_none(), "its leg lasted as long as the call");
}

/// A request of the second's within the dialog of its INVITE.
fn from_second(s: &mut Scene, method: &str, number: u32, invite: &Text) -> String {
    let text = s.from_callee(method, number, invite, "x", "");
    text.replace("203.0.113.20:5060", SECOND)
}

#[test]
fn the_side_that_stays_may_end_it() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        t.answer_all();
        t.s.world.run(Duration::from_secs(5));
        let bye = t.s.from_callee("BYE", 1, &t.first.0, "b", "");
        t.s.world.send(t.s.callee, t.s.node, bye);
        t.s.expect_status(t.s.callee, 200);
        let bye = t.s.expect(t.s.second, "BYE");
        assert_eq!(bye.get("Call-ID"), t.second.0.get("Call-ID"));
        t.s.world.send(t.s.second, t.s.node, bye.reply(200, "x", "", ""));
        t.s.assert_clean(2);
        let cdrs = t.s.world.cdrs();
        assert!(cdrs.iter().all(|c| c.duration_ns() >= 5_000_000_000));
    }
}

#[test]
fn a_dialog_that_cannot_be_replaced_leaves_both_calls_as_they_were() {
    for apart in EVERYWHERE {
        for (what, told) in [("gone", "481"), ("early", "486"), ("busy", "491")] {
            let mut t = two(apart);
            match what {
                "gone" => {
                    let named = replaces(&t.second.1, "").replace("caller", "other");
                    t.refer_to(2, &named);
                }
                "early" => t.refer(2, "%3Bearly-only"),
                _ => {
                    // The second is being asked something.
                    let hold =
                        wire::sdp(CALLER_MEDIA.parse().expect("an address"), 2, "0", "sendonly");
                    let text = t.s.in_dialog("INVITE", 2, &t.second.1, &hold);
                    t.s.world.send(t.s.caller, t.s.node, text);
                    t.s.world.run(Duration::from_millis(10));
                    t.refer(2, "");
                    t.s.world.run(Duration::from_millis(10));
                }
            }
            let seen = t.answer_all();
            let said = fragments(&seen[0]);
            assert!(said.last().is_some_and(|s| s.contains(told)), "{what} {said:?}");
            assert!(!methods(&seen[0]).contains(&"BYE".to_owned()));
            t.s.assert_media_flows(&t.first.1, &t.first.0);
            let transfers = |s: &Scene| s.world.page().read(Image::calls_word(2));
            assert_eq!(transfers(&t.s), 1);
            t.s.assert_clean(2);
            let cdrs = t.s.world.cdrs();
            assert!(cdrs.iter().all(|c| c.transferred_to.is_none()));
        }
    }
}

#[test]
fn who_asked_may_hang_up_at_once() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        for ok in [t.first.1.clone(), t.second.1.clone()] {
            let bye = t.s.in_dialog("BYE", 3, &ok, "");
            t.s.world.send(t.s.caller, t.s.node, bye);
        }
        let seen = t.answer_all();
        assert_joined(&mut t.s, last_invite(&seen[1]), last_invite(&seen[2]));
        t.s.assert_clean(2);
    }
}

#[test]
fn a_joined_leg_that_refuses_its_new_address_ends_the_call() {
    let mut t = two(Apart::OtherShard);
    t.refer(2, "");
    let second = t.s.expect(t.s.second, "INVITE");
    t.s.world.send(t.s.second, t.s.node, second.reply(488, "x", "", ""));
    t.s.expect(t.s.second, "ACK");
    let bye = t.s.expect(t.s.second, "BYE");
    t.s.world.send(t.s.second, t.s.node, bye.reply(200, "x", "", ""));
    t.answer_all();
    t.s.assert_clean(2);
    assert!(t.s.world.cdrs().iter().all(|c| &*c.reason == b"not_acceptable"));
}

#[test]
fn an_operator_who_ends_the_old_call_ends_the_leg() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        t.answer_all();
        let tag = t.second.1.tag("To").to_owned();
        let hex = |at: core::ops::Range<usize>| u32::from_str_radix(&tag[at], 16).expect("hex");
        let id = control::event::CallId {
            home: hex(0..2) as u8,
            index: hex(2..10),
            generation: hex(10..18),
        };
        let shard = base::Home(id.home).seat(2).0;
        t.s.world.post(usize::from(shard), node::Letter::Command(control::Command::Hangup(id)));
        let seen = t.answer_all();
        assert!(methods(&seen[1]).contains(&"BYE".to_owned()), "{}", t.s.ladder());
        assert!(methods(&seen[2]).contains(&"BYE".to_owned()), "{}", t.s.ladder());
        t.s.assert_clean(2);
    }
}

#[test]
fn a_kill_between_any_two_messages_leaves_two_cdrs_and_no_place() {
    for apart in EVERYWHERE {
        for cut in Cut::ALL {
            for after in 0..14 {
                let mut t = two(apart);
                if after == 0 {
                    t.s.world.crash_within(cut);
                }
                t.refer(2, "");
                let mut step = 0;
                loop {
                    let mut quiet = true;
                    let peers = [(t.s.caller, ""), (t.s.callee, "b"), (t.s.second, "x")];
                    for (peer, tag) in peers {
                        while let Some(text) = t.s.within(peer, Duration::from_millis(2)) {
                            quiet = false;
                            step += 1;
                            if step == after {
                                t.s.world.crash_within(cut);
                            }
                            let contact = format!("Contact: <sip:{peer}>\r\n");
                            let body = t.s.answer();
                            let body =
                                if text.method() == Some("INVITE") { body } else { String::new() };
                            if text.method().is_some_and(|m| m != "ACK") {
                                t.s.world.send(
                                    peer,
                                    t.s.node,
                                    text.reply(200, tag, &contact, &body),
                                );
                            }
                        }
                    }
                    if quiet || step > 60 {
                        break;
                    }
                }
                t.s.world.tidy();
                t.s.world.crash();
                t.s.assert_clean(2);
            }
        }
    }
}

#[test]
fn every_side_hears_the_end_after_a_kill() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        t.answer_all();
        t.s.world.crash();
        let seen = t.answer_all();
        for place in [1, 2] {
            assert_eq!(methods(&seen[place]), ["BYE"], "{}", t.s.ladder());
        }
        t.s.assert_clean(2);
        assert!(t.s.world.cdrs().iter().all(|c| c.marks.recovered));
    }
}

#[test]
fn a_joined_call_may_be_transferred_again() {
    for apart in EVERYWHERE {
        let mut t = two(apart);
        t.refer(2, "");
        t.answer_all();
        // The second, who has come from another call, transfers the callee to a number and leaves.
        let text = from_second(&mut t.s, "REFER", 5, &t.second.0);
        let to = format!("\r\nRefer-To: <sip:79460002@{NODE}>\r\nContact:");
        t.s.world.send(t.s.second, t.s.node, text.replacen("\r\nContact:", &to, 1));
        let seen = t.answer_all();
        assert!(methods(&seen[2]).contains(&"BYE".to_owned()), "{}", t.s.ladder());
        t.s.world.run(Duration::from_millis(50));
        assert_eq!(t.s.world.cdrs().len(), 1, "its own call has ended with its leg");
        t.s.assert_clean(2);
    }
}

#[test]
fn a_dialog_of_somebody_elses_is_for_whoever_is_called() {
    let mut t = two(Apart::SameShard);
    t.refer_to(2, "Replaces=theirs%40pbx%3Bto-tag%3D1%3Bfrom-tag%3D2");
    t.s.expect_status(t.s.caller, 202);
    let invite = t.s.expect(t.s.second, "INVITE");
    assert_eq!(invite.get("Replaces"), "theirs@pbx;to-tag=1;from-tag=2");
    assert_eq!(invite.get("Require"), "replaces");
    assert!(invite.all("Supported").iter().any(|s| s.contains("replaces")));
    t.s.world.send(t.s.second, t.s.node, invite.reply(481, "y", "", ""));
    t.s.expect(t.s.second, "ACK");
    let seen = t.answer_all();
    assert!(fragments(&seen[0]).iter().any(|f| f.starts_with("SIP/2.0 500 ")));
    t.s.assert_clean(2);
}

/// Two calls of which these have media that goes past us: the first, the second, or both.
fn released(apart: Apart, which: [bool; 2]) -> Two {
    let mut image = executing();
    image.trunks[0].media_release = MediaRelease::SameInterface;
    for (trunk, goes) in image.trunks[1..].iter_mut().zip(which) {
        trunk.media_release = if goes { MediaRelease::SameInterface } else { MediaRelease::Never };
    }
    let t = two_of(image, apart);
    let node: SocketAddr = NODE.parse().expect("an address");
    let past = [&t.first.0, &t.second.0].map(|text| text.media().expect("media").ip() != node.ip());
    assert_eq!(past, which);
    assert_eq!(t.s.held(), which.iter().filter(|goes| !**goes).count() * 2);
    t
}

#[test]
fn calls_whose_media_goes_past_us_are_joined_through_us() {
    let node: SocketAddr = NODE.parse().expect("an address");
    for apart in EVERYWHERE {
        for which in [[true, false], [false, true], [true, true]] {
            let mut t = released(apart, which);
            t.refer(2, "");
            let seen = t.answer_all();
            let s = &mut t.s;
            let told = fragments(&seen[0]);
            assert_eq!(told, ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"], "{}", s.ladder());
            let (callee, second) = (last_invite(&seen[1]), last_invite(&seen[2]));
            let ours = [callee, second].map(|text| text.media().map(|media| media.ip()));
            assert_eq!(ours, [Some(node.ip()); 2], "{which:?}\n{}", s.ladder());
            assert_joined(s, callee, second);
            assert_eq!(s.held(), 2, "{which:?}\n{}", s.ladder());
            (0..2).for_each(|shard| s.world.hand_over(shard));
            let bye = from_second(s, "BYE", 2, &t.second.0);
            s.world.send(s.second, s.node, bye);
            s.expect_status(s.second, 200);
            s.let_go(s.callee, "b");
            s.assert_clean(2);
        }
    }
}

#[test]
fn what_cannot_be_joined_stays_past_us() {
    for apart in EVERYWHERE {
        let mut t = released(apart, [true, true]);
        // It was to be replaced only while it rang.
        t.refer(2, "%3Bearly-only");
        let seen = t.answer_all();
        let last = fragments(&seen[0]).pop().unwrap_or_default();
        assert!(last.starts_with("SIP/2.0 486"), "{last}\n{}", t.s.ladder());
        assert!(seen[1].is_empty() && seen[2].is_empty(), "{}", t.s.ladder());
        assert_eq!(t.s.held(), 0);
    }
}

/// Its REFER overtakes the ACK of the call that is given away: the BYE waits for that, and says why it comes.
#[test]
fn a_call_whose_ack_comes_late_ends_for_the_same_reason() {
    for apart in EVERYWHERE {
        let mut s = Scene::with(executing(), Options::default());
        s.world.peer(SECOND_MEDIA);
        let first = s.establish(&call_on(0, "c"));
        let second = consult(&mut s, &call_on(u8::from(apart == Apart::OtherShard), "other"));
        let mut t = Two { s, first, second };
        t.refer(2, "");
        t.answer_all();
        acknowledge(&mut t.s, &t.second.1);
        let seen = t.answer_all();
        let bye = seen[0].iter().find(|text| text.method() == Some("BYE")).expect("a BYE");
        assert!(bye.get("Reason").contains("transferred"), "{}", bye.raw);
    }
}
