//! ICE in descriptions: who is told of it, what an address of zeros means, and a restart.

use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};

fn world(caller: bool, callee: bool) -> Scene {
    let mut image = image();
    image.trunks[0].ice = caller;
    image.trunks[1].ice = callee;
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

/// What a browser offers before it has any address.
fn offer(ufrag: &str) -> String {
    let body = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0", "sendrecv rtcp-mux");
    let body = body.replace("c=IN IP4 198.51.100.10", "c=IN IP4 0.0.0.0");
    let body = body.replace("m=audio 4000", "m=audio 9");
    format!(
        "{body}a=group:BUNDLE 0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
             a=ice-options:trickle\r\na=mid:0\r\n"
    )
}

fn line<'a>(text: &'a Text, start: &str) -> Option<&'a str> {
    text.body().lines().find_map(|line| line.trim_end().strip_prefix(start))
}

fn plain() -> String {
    wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 1, "0", "sendrecv")
}

fn call(s: &mut Scene, offer: &str) -> (Text, Text) {
    let text = s.request("INVITE", "c1", "442079460000", "", offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &plain()));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    (invite, ok)
}

#[test]
fn a_peer_with_ice_is_answered_as_the_lite_side() {
    let mut s = world(true, false);
    let (invite, ok) = call(&mut s, &offer("them"));
    for gone in ["a=ice-ufrag:", "a=ice-pwd:", "a=ice-options:", "a=candidate:", "a=group:BUNDLE"] {
        assert_eq!(line(&invite, gone), None, "{gone} is between the caller and us");
    }
    assert_ne!(line(&invite, "a="), Some("sendonly"), "zeros are no hold here");
    assert!(line(&ok, "a=ice-lite").is_some() && line(&ok, "a=rtcp-mux").is_some(), "{}", ok.raw);
    assert_eq!(line(&ok, "a=ice-ufrag:").map(str::len), Some(8));
    assert_eq!(line(&ok, "a=ice-pwd:").map(str::len), Some(24));
    let at = ok.media().expect("our address");
    let candidate = format!("1 1 UDP 2130706431 {} {} typ host", at.ip(), at.port());
    assert_eq!(line(&ok, "a=candidate:"), Some(candidate.as_str()));
    assert_eq!(ok.body().matches("a=candidate:").count(), 1, "one port for both");
    // The same again keeps the credentials, another name of the peer's is a restart.
    for (number, ufrag, kept) in [(2, "them", true), (3, "then", false)] {
        let text = s.in_dialog("INVITE", number, &ok, &offer(ufrag));
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 100);
        let inner = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, inner.reply(200, "b", "", &plain()));
        s.expect(s.callee, "ACK");
        let again = s.expect_status(s.caller, 200);
        let same = line(&again, "a=ice-ufrag:") == line(&ok, "a=ice-ufrag:");
        assert_eq!(same, kept, "{ufrag}");
        let ack = s.in_dialog("ACK", number, &ok, "");
        s.world.send(s.caller, s.node, ack);
    }
    s.finish(&ok);
}

#[test]
fn a_peer_without_ice_and_a_trunk_without_it_hear_nothing_of_it() {
    let mut s = world(true, false);
    let body = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0", "sendrecv");
    let (_, ok) = call(&mut s, &body);
    assert!(!ok.body().contains("ice") && !ok.body().contains("candidate"), "{}", ok.raw);
    let mut s = world(false, false);
    let (_, ok) = call(&mut s, &offer("them"));
    assert!(!ok.body().contains("ice") && !ok.body().contains("candidate"), "{}", ok.raw);
}

#[test]
fn a_trunk_with_ice_is_offered_it() {
    let mut s = world(false, true);
    let body = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0", "sendrecv");
    let (invite, ok) = call(&mut s, &body);
    assert!(line(&invite, "a=ice-lite").is_some() && line(&invite, "a=rtcp-mux").is_some());
    assert_eq!(invite.body().matches("a=candidate:").count(), 2);
    assert!(!ok.body().contains("ice"), "the caller's trunk has none");
    // It answered without: its address is the one it said.
    s.assert_media_flows(&ok, &invite);
}
