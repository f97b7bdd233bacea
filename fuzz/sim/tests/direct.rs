//! Media that goes past us (`media_release`): who is told what, what is held, and how it comes back.

use control::{Command, Event};
use sbc::dialog::session_timer::{Mode, Terms};
use sbc::policy::{Image, MediaRelease};
use sim::Text;
use sim::scene::{
    CALLEE, CALLEE_MEDIA, CALLER, CALLER_MEDIA, SECOND, Scene, call_id, executing, image,
};
use sim::wire;
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND_MEDIA: &str = "203.0.113.30:4000";

fn releasing(mut image: Image) -> Image {
    image.trunks.iter_mut().for_each(|trunk| trunk.media_release = MediaRelease::SameInterface);
    image
}

fn scene(image: Image) -> Scene {
    let mut s = Scene::with(image, Options::default());
    s.world.peer(SECOND_MEDIA);
    s
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn count(s: &Scene, of: impl Fn(&sbc::counters::Counters) -> u64) -> u64 {
    s.world.shards().iter().map(|shard| of(&shard.signal().counters())).sum()
}

/// Where a description wants speech.
fn speech(text: &Text) -> Option<SocketAddr> {
    let (head, line) = text.body().split_once("m=audio ")?;
    let line = line.split("m=").next()?;
    let of = |text: &str| text.lines().find_map(|l| l.strip_prefix("c=IN IP4 ")?.parse().ok());
    let ip: std::net::IpAddr = of(line).or_else(|| of(head))?;
    Some(SocketAddr::new(ip, line.split(' ').next()?.parse().ok()?))
}

fn is_direct(s: &Scene, invite: &Text, ok: &Text) {
    assert_eq!(speech(invite), Some(at(CALLER_MEDIA)), "{}", s.ladder());
    assert_eq!(speech(ok), Some(at(CALLEE_MEDIA)), "{}", s.ladder());
    assert_eq!(s.held(), 0, "ports are held");
}

/// The caller offers anew within the dialog; the callee's request.
fn offers(s: &mut Scene, number: u32, ok: &Text, attributes: &str) -> Text {
    let body = wire::sdp(at(CALLER_MEDIA), number, "0 8", attributes);
    let request = s.in_dialog("INVITE", number, ok, &body);
    s.world.send(s.caller, s.node, request);
    s.expect(s.callee, "INVITE")
}

/// The callee agrees to it; what the caller is told.
fn agrees(s: &mut Scene, number: u32, invite: &Text, ok: &Text, attributes: &str) -> Text {
    let answer = wire::sdp(at(CALLEE_MEDIA), number, "0", attributes);
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    let told = loop {
        let told = s.next(s.caller);
        if told.status() != Some(100) {
            break told;
        }
    };
    assert_eq!(told.status(), Some(200), "{}", s.ladder());
    let ack = s.in_dialog("ACK", number, ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    told
}

/// A side is offered our address by us, and answers with its own.
fn readdressed(s: &mut Scene, peer: SocketAddr, media: &str, contact: &str) -> Text {
    let invite = s.expect(peer, "INVITE");
    assert_eq!(speech(&invite).map(|media| media.ip()), Some(s.node.ip()), "{}", invite.raw);
    let answer = wire::sdp(at(media), 9, "0", "sendrecv");
    let contact = format!("Contact: <sip:{contact}>\r\n");
    s.world.send(peer, s.node, invite.reply(200, "", &contact, &answer));
    s.expect(peer, "ACK");
    invite
}

#[test]
fn each_side_is_told_of_the_other_and_nothing_is_held() {
    let mut s = scene(releasing(image()));
    let (invite, ok) = s.establish("c1");
    is_direct(&s, &invite, &ok);
    assert_eq!(count(&s, |c| c.media_released.get()), 1);
    // Nobody is missed: no media comes by us, for longer than the trunks wait for it.
    s.world.run(Duration::from_secs(90));
    // Hold, and off it.
    let held_by = offers(&mut s, 2, &ok, "sendonly");
    assert_eq!(speech(&held_by), Some(at(CALLER_MEDIA)));
    let told = agrees(&mut s, 2, &held_by, &ok, "recvonly");
    assert_eq!(speech(&told), Some(at(CALLEE_MEDIA)), "{}", told.raw);
    let resumed = offers(&mut s, 3, &ok, "sendrecv");
    agrees(&mut s, 3, &resumed, &ok, "sendrecv");
    assert_eq!((s.held(), count(&s, |c| c.media_anchored.get())), (0, 0));
    s.finish(&ok);
    let cdr = &s.world.cdrs()[0];
    assert!(cdr.marks.released && cdr.media[0].packets == 0, "{cdr:?}");
}

#[test]
fn trunks_that_do_not_both_allow_it_and_media_that_cannot_go_through_us() {
    for place in 0..2 {
        let mut image = releasing(image());
        image.trunks[place].media_release = MediaRelease::Never;
        let mut s = scene(image);
        let (invite, ok) = s.establish("c1");
        s.assert_media_flows(&ok, &invite);
        s.finish(&ok);
        assert!(!s.world.cdrs()[0].marks.released);
    }
    let mut s = scene(releasing(image()));
    let two = wire::sdp(at(CALLER_MEDIA), 1, "0 8", "sendrecv") + "m=video 4010 RTP/AVP 96\r\n";
    let nowhere = wire::sdp(at("127.0.0.1:4000"), 1, "0 8", "sendrecv");
    for (n, offer) in [two, nowhere].into_iter().enumerate() {
        let call = format!("m{n}");
        let text = s.request("INVITE", &call, "442079460000", "", &offer);
        s.world.send(s.caller, s.node, text.clone());
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        assert_eq!(speech(&invite).map(|m| m.ip()), Some(s.node.ip()), "{}", invite.raw);
        s.world.send(s.callee, s.node, invite.reply(486, "b", "", ""));
        s.expect(s.callee, "ACK");
        let busy = s.expect_status(s.caller, 486);
        let ack = wire::companion(&text, "ACK", Some(busy.get("To")));
        s.world.send(s.caller, s.node, ack);
    }
    s.assert_clean(2);
}

#[test]
fn a_route_that_fails_leads_to_one_that_does_not_allow_it() {
    let mut image = releasing(image());
    image.trunks[2].media_release = MediaRelease::Never;
    let mut s = scene(image);
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let first = s.expect(s.callee, "INVITE");
    assert_eq!(speech(&first), Some(at(CALLER_MEDIA)));
    s.world.send(s.callee, s.node, first.reply(503, "b", "", ""));
    s.expect(s.callee, "ACK");
    let second = s.expect(s.second, "INVITE");
    assert_eq!(speech(&second).map(|m| m.ip()), Some(s.node.ip()));
    let answer = wire::sdp(at(SECOND_MEDIA), 1, "0", "sendrecv");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    s.world.send(s.second, s.node, second.reply(200, "c", &contact, &answer));
    s.expect(s.second, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert_eq!(speech(&ok).map(|m| m.ip()), Some(s.node.ip()));
    assert_eq!(s.held(), 2);
    s.acknowledge(&ok);
}

#[test]
fn an_operator_brings_it_back() {
    let mut s = scene(releasing(image()));
    let (_, ok) = s.establish("c1");
    // Who captures it meanwhile hears nothing until it is back.
    s.order(Command::Capture, call_id(&ok));
    s.order(Command::Anchor, call_id(&ok));
    let caller = s.caller;
    let to_caller = readdressed(&mut s, caller, CALLER_MEDIA, CALLER);
    let callee = s.callee;
    let to_callee = readdressed(&mut s, callee, CALLEE_MEDIA, CALLEE);
    s.world.run(Duration::from_millis(50));
    assert_eq!((s.held(), count(&s, |c| c.media_anchored.get())), (2, 1));
    s.assert_media_flows(&to_caller, &to_callee);
    s.finish(&ok);
    assert!(s.world.cdrs()[0].media[0].packets > 0 && s.world.cdrs()[0].marks.released);
    assert!(s.world.events.contains(&Event::Uncaptured { id: call_id(&ok), packets: 2 }));
}

#[test]
fn an_offer_that_needs_us_brings_it_back_and_one_that_is_refused_does_not() {
    let mut s = scene(releasing(image()));
    let (_, ok) = s.establish("c1");
    let offer =
        |n| wire::sdp(at(CALLER_MEDIA), n, "0 8", "sendrecv") + "m=video 4010 RTP/AVP 96\r\n";
    let send = |s: &mut Scene, n: u32| {
        let request = s.in_dialog("INVITE", n, &ok, &offer(n));
        s.world.send(s.caller, s.node, request.clone());
        let invite = s.expect(s.callee, "INVITE");
        assert_eq!(speech(&invite).map(|m| m.ip()), Some(s.node.ip()), "{}", invite.raw);
        (request, invite)
    };
    let (request, invite) = send(&mut s, 2);
    s.world.send(s.callee, s.node, invite.reply(488, "b", "", ""));
    s.expect(s.callee, "ACK");
    while s.next(s.caller).status() != Some(488) {}
    s.world.send(s.caller, s.node, wire::companion(&request, "ACK", None));
    s.world.run(Duration::from_millis(50));
    assert_eq!(s.held(), 0, "what was told before holds");
    let (_, invite) = send(&mut s, 3);
    let told = agrees(&mut s, 3, &invite, &ok, "sendrecv");
    assert_eq!(speech(&told).map(|m| m.ip()), Some(s.node.ip()), "{}", told.raw);
    s.assert_media_flows(&told, &invite);
    s.finish(&ok);
}

#[test]
fn a_transfer_brings_it_back() {
    let mut s = scene(releasing(executing()));
    let (invite, ok) = s.establish("c1");
    is_direct(&s, &invite, &ok);
    // The callee transfers the caller to the second.
    let refer = s.from_callee("REFER", 1, &invite, "b", "");
    let refer = refer.replacen("\r\n", "\r\nRefer-To: <sip:7001@192.0.2.1>\r\n", 1);
    s.world.send(s.callee, s.node, refer);
    s.expect_status(s.callee, 202);
    let to_second = s.expect(s.second, "INVITE");
    assert_eq!(speech(&to_second).map(|m| m.ip()), Some(s.node.ip()), "{}", to_second.raw);
    let answer = wire::sdp(at(SECOND_MEDIA), 1, "0", "sendrecv");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    s.world.send(s.second, s.node, to_second.reply(200, "c", &contact, &answer));
    s.expect(s.second, "ACK");
    let caller = s.caller;
    let to_caller = readdressed(&mut s, caller, CALLER_MEDIA, CALLER);
    s.world.run(Duration::from_millis(50));
    for (from, to, heard) in
        [(CALLER_MEDIA, &to_caller, SECOND_MEDIA), (SECOND_MEDIA, &to_second, CALLER_MEDIA)]
    {
        s.world.send(at(from), to.media().expect("ours"), wire::rtp(1, 1, b'm'));
        let arrived = s.world.wait(at(heard), Duration::from_secs(1));
        assert!(arrived.is_some(), "no media from {from}\n{}", s.ladder());
    }
}

/// Nobody hears the media of such a call: what ends it is a refresh that nobody answers, or the clock.
#[test]
fn a_call_whose_sides_have_vanished_ends_all_the_same() {
    for (mode, reason, most_s) in
        [(Mode::Serve, "max_duration", 3_601), (Mode::Ask, "dialog_lost", 1_800)]
    {
        let mut image = releasing(image());
        for trunk in &mut image.trunks {
            trunk.session = Terms { mode, ..trunk.session };
        }
        let mut s = scene(image);
        let (invite, ok) = s.establish("c1");
        is_direct(&s, &invite, &ok);
        s.world.run(Duration::from_secs(most_s));
        s.assert_clean(1);
        let cdr = &s.world.cdrs()[0];
        assert_eq!(String::from_utf8_lossy(&cdr.reason), reason);
        assert!(cdr.duration_ns() < most_s * 1_000_000_000, "{mode:?}: {cdr:?}");
    }
}
