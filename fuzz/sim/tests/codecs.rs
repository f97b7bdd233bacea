//! Codecs a trunk may offer and be offered, in every place an offer travels.

use sbc::sdp::{Codec, CodecPolicy};
use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire;

fn allow(names: &[&str]) -> CodecPolicy {
    let codecs = names.iter().map(|name| Codec::parse(name).expect("a codec"));
    CodecPolicy { allow: codecs.collect(), ..CodecPolicy::default() }
}

/// A world of one shard: what the caller's trunk may offer, what the callees' may be offered.
fn world(near: CodecPolicy, first: CodecPolicy, second: CodecPolicy) -> Scene {
    let mut image = image();
    image.trunks[0].codecs_in = near.clone();
    image.trunks[0].codecs_out = near;
    image.trunks[1].codecs_out = first.clone();
    image.trunks[1].codecs_in = first;
    image.trunks[2].codecs_out = second;
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

fn offer(formats: &str) -> String {
    wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, formats, "sendrecv")
}

fn formats(body: &str) -> &str {
    body.lines()
        .find_map(|line| line.strip_prefix("m=audio ")?.split_once("RTP/AVP "))
        .map_or("", |m| m.1)
}

#[test]
fn each_route_is_offered_what_it_may_be() {
    let mut s = world(CodecPolicy::default(), allow(&["PCMA"]), allow(&["PCMU"]));
    let text = s.request("INVITE", "c1", "442079460000", "", &offer("0 8 18"));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(formats(invite.body()), "8");
    s.world.send(s.callee, s.node, invite.reply(503, "b", "", ""));
    s.expect(s.callee, "ACK");
    let invite = s.expect(s.second, "INVITE");
    assert_eq!(formats(invite.body()), "0");
}

#[test]
fn a_route_without_a_codec_is_skipped_and_a_call_without_one_is_refused() {
    let mut s = world(CodecPolicy::default(), allow(&["G729"]), allow(&["PCMU"]));
    let text = s.request("INVITE", "c1", "442079460000", "", &offer("0"));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.second, "INVITE");
    assert_eq!(formats(invite.body()), "0");
    let mut s = world(allow(&["PCMA"]), allow(&["G729"]), allow(&["PCMU"]));
    let text = s.request("INVITE", "c1", "442079460000", "", &offer("0"));
    s.world.send(s.caller, s.node, text.clone());
    s.expect_status(s.caller, 100);
    let refused = s.expect_status(s.caller, 488);
    assert!(refused.get("Reason").contains("no_codec"), "{}", refused.raw);
    assert!(refused.get("Warning").starts_with("305 "), "{}", refused.raw);
    let ack = text.replacen("INVITE", "ACK", 1).replace("CSeq: 1 INVITE", "CSeq: 1 ACK");
    let to = format!("To: {}", refused.get("To"));
    let ack: Vec<&str> =
        ack.split("\r\n").map(|l| if l.starts_with("To: ") { &*to } else { l }).collect();
    s.world.send(s.caller, s.node, ack.join("\r\n"));
    s.assert_clean(1);
    assert_eq!(*s.world.cdrs()[0].reason, *b"no_codec");
}

#[test]
fn offers_within_a_call_keep_to_it_too() {
    let mut s = world(CodecPolicy::default(), allow(&["PCMA", "PCMU"]), CodecPolicy::default());
    let (invite, ok) = s.establish("c1");
    assert_eq!(formats(invite.body()), "0 8");
    // To G.729 alone: the callee may not be offered it, so the session stays as it is.
    let text = s.in_dialog("INVITE", 2, &ok, &offer("18"));
    s.world.send(s.caller, s.node, text.clone());
    s.expect_status(s.caller, 488);
    let ack = text.replacen("INVITE", "ACK", 1).replace("CSeq: 2 INVITE", "CSeq: 2 ACK");
    s.world.send(s.caller, s.node, ack);
    // From the callee, with one the other side may have.
    let body = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "18 8", "sendrecv");
    let text = s.from_callee("INVITE", 1, &invite, "b", &body);
    s.world.send(s.callee, s.node, text.clone());
    s.expect_status(s.callee, 100);
    let offered = s.expect(s.caller, "INVITE");
    assert_eq!(formats(offered.body()), "8");
    let contact = "Contact: <sip:1001@198.51.100.10:5060>\r\n";
    let answer = wire::sdp(CALLER_MEDIA.parse().expect("an address"), 2, "8", "sendrecv");
    s.world.send(s.caller, s.node, offered.reply(200, "", contact, &answer));
    s.expect(s.caller, "ACK");
    let answered = s.expect_status(s.callee, 200);
    assert_eq!(formats(answered.body()), "8");
    let ack = text.replacen("INVITE", "ACK", 1).replace("CSeq: 1 INVITE", "CSeq: 1 ACK");
    s.world.send(s.callee, s.node, ack);
    s.assert_media_flows(&ok, &invite);
    s.finish(&ok);
}

#[test]
fn a_late_offer_keeps_to_it_too() {
    for (formats_of_200, expected) in [("18 0", "0"), ("18", "")] {
        let mut s = world(allow(&["PCMU"]), CodecPolicy::default(), CodecPolicy::default());
        let text = s.request("INVITE", "c1", "442079460000", "", "");
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        let body =
            wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 1, formats_of_200, "sendrecv");
        let contact = format!("Contact: <sip:{CALLEE}>\r\n");
        s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &body));
        if expected.is_empty() {
            // Nobody could speak: the callee is let go, and the caller hears so.
            s.expect(s.callee, "ACK");
            s.expect(s.callee, "BYE");
            s.expect_status(s.caller, 488);
            continue;
        }
        let ok = s.expect_status(s.caller, 200);
        assert_eq!(formats(ok.body()), expected);
    }
}
