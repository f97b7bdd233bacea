//! Digits between a side that sends INFO and a side that sends telephone events (RFC 6086, RFC 4733).

use control::Event;
use sbc::policy::Dtmf;
use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::time::Duration;

/// A world of one shard: how the caller's trunk and the callee's have digits.
fn world(near: Dtmf, far: Dtmf, told: bool) -> Scene {
    let mut image = image();
    for (trunk, dtmf) in image.trunks.iter_mut().zip([near, far, far]) {
        (trunk.dtmf, trunk.tells_digits) = (dtmf, told);
    }
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

/// What a line offers: its formats and what it says of telephone events.
fn line(body: &str) -> (&str, Vec<&str>) {
    let formats = body.lines().find_map(|l| l.strip_prefix("m=audio ")?.split_once("RTP/AVP "));
    let events = body.lines().filter(|l| l.contains("telephone-event") || l.contains("0-15"));
    (formats.map_or("", |m| m.1), events.collect())
}

const EVENTS: &str = "rtpmap:96 telephone-event/8000";

/// A description with these formats, and events among them.
fn sdp(address: &str, (formats, events): (&str, &str)) -> String {
    let body = wire::sdp(at(address), 1, formats, "sendrecv");
    if events.is_empty() { body } else { format!("{body}a={events}\r\n") }
}

/// A call whose sides offer and answer these formats: the callee's INVITE and the caller's 200.
fn establish(s: &mut Scene, offer: (&str, &str), answer: (&str, &str)) -> (Text, Text) {
    let offer = sdp(CALLER_MEDIA, offer);
    let invite = s.request("INVITE", "c1", "442079460000", "", &offer);
    s.world.send(s.caller, s.node, invite);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let answer = sdp(CALLEE_MEDIA, answer);
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    (invite, ok)
}

fn info(s: &mut Scene, number: u32, ok: &Text, kind: &str, body: &str) -> String {
    let text = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    s.in_dialog("INFO", number, ok, "").replace("Content-Length: 0\r\n\r\n", &text)
}

/// The events among what arrives within half a second: payload type, digit, end, duration.
fn events(s: &mut Scene, address: &str) -> Vec<(u8, u8, bool, u16)> {
    let mut found = Vec::new();
    while let Some(arrived) = s.world.wait(at(address), Duration::from_millis(500)) {
        if let [_, second, .., event, flags, d0, d1] = arrived.bytes[..]
            && arrived.bytes.len() == 16
        {
            found.push((second & 0x7f, event, flags & 0x80 != 0, u16::from_be_bytes([d0, d1])));
        }
    }
    found
}

fn pressed(s: &Scene) -> Vec<(bool, char, u32)> {
    let told = |event: &Event| {
        let Event::Pressed(key) = event else { return None };
        Some((key.is_callers, key.digit, key.duration_ms))
    };
    s.world.events.iter().filter_map(told).collect()
}

#[test]
fn an_info_is_pressed_where_the_other_side_knows_events() {
    let mut s = world(Dtmf::Relay, Dtmf::Pass, true);
    let (invite, ok) = establish(&mut s, ("0", ""), ("0 101", "rtpmap:101 telephone-event/8000"));
    let offered = ("0 101", vec!["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"]);
    assert_eq!(line(invite.body()), offered, "the callee is offered events");
    assert_eq!(line(ok.body()), ("0", vec![]), "the caller never hears of them");
    s.assert_media_flows(&ok, &invite);
    let text = info(&mut s, 2, &ok, "application/dtmf-relay", "Signal=7\r\nDuration=100\r\n");
    s.world.send(s.caller, s.node, text.clone());
    s.expect_status(s.caller, 200);
    // A repetition is no second key.
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 200);
    let sent = events(&mut s, CALLEE_MEDIA);
    let durations = [160, 320, 480, 640, 800, 800, 800];
    assert_eq!(sent.iter().map(|e| e.3).collect::<Vec<_>>(), durations, "{sent:?}");
    assert!(sent.iter().all(|e| (e.0, e.1, e.2) == (101, 7, e.3 == 800)), "{sent:?}");
    let garbled = info(&mut s, 3, &ok, "application/dtmf-relay", "Signal=seven\r\n");
    s.world.send(s.caller, s.node, garbled);
    s.expect_status(s.caller, 400);
    assert_eq!(pressed(&s), [(true, '7', 100)]);
    s.finish(&ok);
}

#[test]
fn events_become_an_info() {
    let mut s = world(Dtmf::Pass, Dtmf::Plain, false);
    let (invite, ok) = establish(&mut s, ("0 96", EVENTS), ("0", ""));
    assert_eq!(line(invite.body()), ("0", vec![]), "the callee is offered none");
    let answered = ("0 96", vec!["a=rtpmap:96 telephone-event/8000", "a=fmtp:96 0-15"]);
    assert_eq!(line(ok.body()), answered, "the caller's are answered");
    s.assert_media_flows(&ok, &invite);
    let to = ok.media().expect("ours");
    for (sequence, end) in [(2, 10), (3, 10), (4, 0x8a), (5, 0x8a), (6, 0x8a)] {
        let mut packet = wire::rtp(sequence, 1, 0)[..12].to_vec();
        packet[1] = 96;
        packet[4..8].copy_from_slice(&320u32.to_be_bytes());
        packet.extend_from_slice(&[11, end, 2, 128]);
        s.world.send(at(CALLER_MEDIA), to, packet);
    }
    let info = s.expect(s.callee, "INFO");
    assert_eq!((info.get("Content-Type"), info.body()), ("application/dtmf", "#"));
    s.world.send(s.callee, s.node, info.reply(200, "b", "", ""));
    assert!(s.within(s.callee, Duration::from_secs(1)).is_none(), "one digit, one INFO");
    assert_eq!(events(&mut s, CALLEE_MEDIA), [], "no event crossed");
    assert_eq!(pressed(&s), [], "nobody is told who did not ask");
    s.finish(&ok);
}

#[test]
fn one_form_of_info_becomes_the_other() {
    let mut s = world(Dtmf::Plain, Dtmf::Relay, false);
    let (invite, ok) = establish(&mut s, ("0 96", EVENTS), ("0", ""));
    assert_eq!((line(invite.body()), line(ok.body())), (("0", vec![]), ("0", vec![])));
    let text = info(&mut s, 2, &ok, "application/dtmf", "*");
    s.world.send(s.caller, s.node, text);
    let crossed = s.expect(s.callee, "INFO");
    let form = (crossed.get("Content-Type"), crossed.body());
    assert_eq!(form, ("application/dtmf-relay", "Signal=*\r\nDuration=160\r\n"));
    s.world.send(s.callee, s.node, crossed.reply(200, "b", "", ""));
    s.expect_status(s.caller, 200);
    s.finish(&ok);
}

#[test]
fn a_side_without_events_gets_the_info() {
    let mut s = world(Dtmf::Relay, Dtmf::Pass, false);
    let (_, ok) = establish(&mut s, ("0", ""), ("0", ""));
    assert_eq!(line(ok.body()), ("0", vec![]));
    let text = info(&mut s, 2, &ok, "application/dtmf-relay", "Signal=1\r\n");
    s.world.send(s.caller, s.node, text);
    let crossed = s.expect(s.callee, "INFO");
    assert_eq!(crossed.body(), "Signal=1\r\n");
    s.world.send(s.callee, s.node, crossed.reply(200, "b", "", ""));
    s.expect_status(s.caller, 200);
    s.finish(&ok);
}

#[test]
fn digits_go_on_after_the_process_died() {
    let mut s = world(Dtmf::Relay, Dtmf::Pass, false);
    let (invite, ok) = establish(&mut s, ("0", ""), ("0 101", "rtpmap:101 telephone-event/8000"));
    s.world.hand_over(0);
    s.assert_media_flows(&ok, &invite);
    let text = info(&mut s, 2, &ok, "application/dtmf-relay", "Signal=A\r\nDuration=60\r\n");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 200);
    let sent: Vec<u8> = events(&mut s, CALLEE_MEDIA).iter().map(|e| e.1).collect();
    assert_eq!(sent, [12; 5]);
    s.finish(&ok);
}
