//! Media besides speech: fax by re-INVITE and back, video and text beside speech, and what is refused.

use sbc::policy::Image;
use sbc::policy::kinds::Kinds;
use sbc::sdp::Kind;
use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::time::Duration;

/// A T.38 indicator in UDPTL.
const FAX: &[u8] = &[0, 7, 1, 6, 0, 0];

fn world(near: Kinds, far: Kinds) -> Scene {
    let mut image: Image = image();
    image.trunks[0].media = near;
    (image.trunks[1].media, image.trunks[2].media) = (far, far);
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

/// A description of these media lines, at the address of one side's media.
fn described(media: &str, lines: &[&str]) -> String {
    let ip = media.parse::<SocketAddr>().expect("an address").ip();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{lines}")
}

/// The ports of a description's media lines.
fn ports(body: &str) -> Vec<u16> {
    let lines = body.lines().filter_map(|line| line.strip_prefix("m="));
    lines.map(|line| line.split(' ').nth(1).expect("a port").parse().expect("a number")).collect()
}

fn at(text: &Text, port: u16) -> SocketAddr {
    let line = text.body().lines().find_map(|line| line.strip_prefix("c=IN IP4 "));
    SocketAddr::new(line.expect("an address").trim().parse().expect("IPv4"), port)
}

/// The caller re-invites; the callee answers with these lines. What each of them heard.
fn change(s: &mut Scene, number: u32, ok: &Text, offer: &[&str], answer: &[&str]) -> (Text, Text) {
    let text = s.in_dialog("INVITE", number, ok, &described(CALLER_MEDIA, offer));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    let answer = described(CALLEE_MEDIA, answer);
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    let told = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", number, ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    (invite, told)
}

/// A datagram goes from one side to the other.
fn passes(s: &mut Scene, from: &str, to: SocketAddr, heard: &str, bytes: &[u8]) -> bool {
    let (from, heard) = (from.parse().expect("a"), heard.parse().expect("b"));
    s.world.send(from, to, bytes);
    let arrived = s.world.wait(heard, Duration::from_millis(500));
    arrived.is_some_and(|arrived| arrived.bytes == bytes)
}

#[test]
fn a_fax_begins_by_re_invite_and_ends_in_speech() {
    let mut s = world(Kinds::default(), Kinds::default());
    let (invite, ok) = s.establish("c1");
    s.assert_media_flows(&ok, &invite);
    let (near, far) =
        (&["m=image 4000 udptl t38", "a=T38FaxVersion:0"][..], "m=image 6000 udptl t38");
    let near_port = CALLER_MEDIA.parse::<SocketAddr>().expect("a").port();
    let far_port = CALLEE_MEDIA.parse::<SocketAddr>().expect("b").port();
    let near: Vec<String> =
        near.iter().map(|l| l.replace("4000", &near_port.to_string())).collect();
    let near: Vec<&str> = near.iter().map(String::as_str).collect();
    let far = far.replace("6000", &far_port.to_string());
    let (asked, told) = change(&mut s, 2, &ok, &near, &[&far]);
    assert!(asked.body().contains("udptl t38\r\na=T38FaxVersion:0\r\n"), "{}", asked.raw);
    assert!(!asked.body().contains("a=rtcp"), "{}", asked.raw);
    let (to_far, to_near) = (ports(told.body())[0], ports(asked.body())[0]);
    assert!(passes(&mut s, CALLER_MEDIA, at(&told, to_far), CALLEE_MEDIA, FAX), "{}", s.ladder());
    assert!(passes(&mut s, CALLEE_MEDIA, at(&asked, to_near), CALLER_MEDIA, FAX));
    let speech = wire::rtp(2, 1, b'm');
    assert!(!passes(&mut s, CALLER_MEDIA, at(&told, to_far), CALLEE_MEDIA, &speech), "no UDPTL");
    // And back.
    let audio = [format!("m=audio {near_port} RTP/AVP 0"), format!("m=audio {far_port} RTP/AVP 0")];
    let (asked, told) = change(&mut s, 3, &ok, &[&audio[0]], &[&audio[1]]);
    s.assert_media_flows(&told, &asked);
    s.finish(&ok);
    let kinds = s.world.cdrs()[0].marks.kinds;
    assert_eq!(kinds.names().collect::<Vec<_>>(), ["audio", "image"]);
}

#[test]
fn a_trunk_without_fax_refuses_it_and_goes_on_speaking() {
    for (near, far) in [
        (Kinds::NONE.with(Kind::Audio), Kinds::default()),
        (Kinds::default(), Kinds::NONE.with(Kind::Audio)),
    ] {
        let mut s = world(near, far);
        let (invite, ok) = s.establish("c1");
        let offer = described(CALLER_MEDIA, &["m=image 4000 udptl t38"]);
        let text = s.in_dialog("INVITE", 2, &ok, &offer);
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 488);
        let ack = s.in_dialog("ACK", 2, &ok, "");
        s.world.send(s.caller, s.node, ack);
        s.assert_media_flows(&ok, &invite);
        s.hang_up(&ok);
    }
}

/// Speech, video and text offered; the callee answers with these ports. What it was offered, what the caller
/// was answered, the caller's 200.
fn offered(s: &mut Scene, callee: [u16; 4]) -> (Text, Text) {
    let near: SocketAddr = CALLER_MEDIA.parse().expect("a");
    let offer = described(
        CALLER_MEDIA,
        &[
            &format!("m=audio {} RTP/AVP 0", near.port()),
            "m=video 4002 RTP/AVPF 96",
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 nack pli",
            "m=message 7000 TCP/MSRP *",
            "m=text 4004 RTP/AVP 98",
            "a=rtpmap:98 t140/1000",
        ],
    );
    let text = s.request("INVITE", "c1", "442079460000", "", &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let [audio, video, message, text] = callee;
    let answer = described(
        CALLEE_MEDIA,
        &[
            &format!("m=audio {audio} RTP/AVP 0"),
            &format!("m=video {video} RTP/AVPF 96"),
            &format!("m=message {message} TCP/MSRP *"),
            &format!("m=text {text} RTP/AVP 98"),
        ],
    );
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    (invite, ok)
}

#[test]
fn video_and_text_have_ports_of_their_own_and_msrp_is_refused() {
    let mut s = world(Kinds::ALL, Kinds::ALL);
    let callee: SocketAddr = CALLEE_MEDIA.parse().expect("b");
    for address in ["4002", "4003", "4004"] {
        s.world.peer(&format!("{}:{address}", CALLER_MEDIA.split(':').next().expect("ip")));
    }
    for address in ["6002", "6003", "6004"] {
        s.world.peer(&format!("{}:{address}", callee.ip()));
    }
    let (invite, ok) = offered(&mut s, [callee.port(), 6_002, 0, 6_004]);
    assert!(invite.body().contains("a=rtcp-fb:96 nack pli"), "{}", invite.raw);
    let (asked, told) = (ports(invite.body()), ports(ok.body()));
    assert_eq!((asked[2], told[2]), (0, 0), "MSRP goes over TCP");
    for (of, ports) in [(&invite, &asked), (&ok, &told)] {
        let mut open = vec![ports[0], ports[1], ports[3]];
        open.dedup();
        assert!(open.len() == 3 && open.iter().all(|port| *port > 0), "{}", of.raw);
    }
    let near = CALLER_MEDIA.split(':').next().expect("ip").to_owned();
    let far = callee.ip().to_string();
    let picture = wire::rtp(9, 1, b'v');
    let (video, text) = (at(&ok, told[1]), at(&ok, told[3]));
    assert!(passes(&mut s, &format!("{near}:4002"), video, &format!("{far}:6002"), &picture));
    assert!(passes(&mut s, &format!("{near}:4004"), text, &format!("{far}:6004"), &picture));
    // A picture loss indication comes back (RFC 4585 6.3.1).
    let lost = [0x81, 206, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9];
    let back = at(&invite, asked[1] + 1);
    assert!(passes(&mut s, &format!("{far}:6003"), back, &format!("{near}:4003"), &lost));
    s.assert_media_flows(&ok, &invite);
    let in_use = s.world.shards()[0].media().in_use();
    assert_eq!(in_use, 6, "three on each side");
    s.finish(&ok);
    let kinds = s.world.cdrs()[0].marks.kinds;
    assert_eq!(kinds.names().collect::<Vec<_>>(), ["audio", "video", "text"]);
}

#[test]
fn what_the_callee_or_its_trunk_does_not_want_has_no_ports() {
    let callee: SocketAddr = CALLEE_MEDIA.parse().expect("b");
    let mut s = world(Kinds::ALL, Kinds::ALL);
    let (_, ok) = offered(&mut s, [callee.port(), 0, 0, 0]);
    assert_eq!(ports(ok.body())[1..], [0, 0, 0]);
    assert_eq!(s.world.shards()[0].media().in_use(), 2, "given back when refused");
    s.finish(&ok);
    let mut s = world(Kinds::ALL, Kinds::default());
    let (invite, ok) = offered(&mut s, [callee.port(), 0, 0, 0]);
    assert_eq!(ports(invite.body())[1..], [0, 0, 0], "its trunk carries none");
    s.finish(&ok);
}

#[test]
fn an_offer_of_nothing_that_is_carried_is_refused() {
    let mut s = world(Kinds::ALL, Kinds::ALL);
    for (call, line) in [("c1", "m=message 7000 TCP/MSRP *"), ("c2", "m=carrier 7 PIGEON *")] {
        let text = s.request("INVITE", call, "442079460000", "", &described(CALLER_MEDIA, &[line]));
        s.world.send(s.caller, s.node, text);
        let refused = s.next(s.caller);
        assert_eq!(refused.status(), Some(488), "{}", refused.raw);
    }
    let mut s = world(Kinds::default(), Kinds::default());
    let video = described(CALLER_MEDIA, &["m=video 4002 RTP/AVP 96"]);
    let text = s.request("INVITE", "c1", "442079460000", "", &video);
    s.world.send(s.caller, s.node, text);
    let refused = s.expect_status(s.caller, 488);
    assert!(refused.get("Reason").contains("media_forbidden"), "{}", refused.raw);
}
