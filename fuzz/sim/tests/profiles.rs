//! How a trunk's profile shows on the wire, and who is told who calls.

use sbc::message::Name;
use sbc::policy::Profile;
use sbc::policy::profile::{Believes, EarlyMedia, Identity, NumberForm, Redirections};
use sbc::sdp::RtcpLine;
use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, NODE, Scene, image};
use sim::wire::{self, Text};
use std::time::Duration;

/// A world of one shard with these profiles of the caller's trunk and of the callee's.
fn world(near: Profile, far: Profile) -> Scene {
    let mut image = image();
    image.trunks[0].profile = near;
    image.trunks[1].profile = far;
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

fn offer() -> String {
    wire::sdp(CALLER_MEDIA.parse().expect("an address"), 1, "0 8", "sendrecv")
}

#[test]
fn a_callee_sees_what_its_profile_asks_for() {
    let far = Profile {
        from_form: NumberForm::E164,
        from_host: Some("sbc.example".into()),
        request_host: Some("sip.carrier.example".into()),
        contact_host: Some("sbc.example".into()),
        contact_number: true,
        user_phone: true,
        max_forwards: Some(50),
        header_order: Some([Name::Contact, Name::CSeq, Name::Via].into()),
        ptime_ms: Some(30),
        rtcp: RtcpLine::Always,
        ..Profile::default()
    };
    let mut s = world(Profile::default(), far);
    let text = s.request("INVITE", "c1", "442079460000", "", &offer());
    let text = text.replace("sip:1001@198", "sip:00491711234567@198");
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let lines: Vec<&str> = invite.raw.lines().collect();
    assert_eq!(lines[0], "INVITE sip:442079460000@sip.carrier.example;user=phone SIP/2.0");
    assert_eq!(lines[1], "Contact: <sip:+491711234567@sbc.example:5060>");
    assert!(lines[2].starts_with("CSeq: ") && lines[3].starts_with("Via: "), "{}", invite.raw);
    assert!(
        invite.get("From").starts_with("\"A\" <sip:+491711234567@sbc.example;user=phone>;tag=")
    );
    assert_eq!(invite.get("To"), "<sip:442079460000@sip.carrier.example;user=phone>");
    assert_eq!(invite.get("Max-Forwards"), "50");
    let body = invite.body();
    assert!(body.contains("a=ptime:30\r\n") && body.contains("\r\na=rtcp:"), "{body}");
    // Our Contact leads back to us, and the ACK keeps the order too.
    let answer = s.answer();
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    assert!(!ok.body().contains("ptime:30"), "{}", ok.raw);
    s.acknowledge(&ok);
    s.assert_media_flows(&ok, &invite);
    s.world.hand_over(0);
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    s.let_go(s.caller, "");
    s.assert_clean(1);
}

#[test]
fn who_calls_is_told_to_who_is_trusted_alone() {
    let pai = "P-Asserted-Identity: <sip:+442079460001@a>\r\nPrivacy: id\r\n\
               Diversion: <sip:+44300@b>;reason=user-busy\r\n";
    let near = Profile { believes: Believes::Asserted, ..Profile::default() };
    for identity in [Identity::Withheld, Identity::Asserted] {
        let redirections = Redirections::HistoryInfo;
        let far = Profile { identity, redirections, ..Profile::default() };
        let mut s = world(near.clone(), far);
        let text = s.request("INVITE", "c1", "442079460000", pai, &offer());
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 100);
        let invite = s.expect(s.callee, "INVITE");
        let told = identity == Identity::Asserted;
        let asserted = if told { "<sip:+442079460001@a>" } else { "" };
        assert_eq!(invite.get("P-Asserted-Identity"), asserted);
        assert_eq!(invite.get("Privacy"), if told { "id" } else { "" });
        assert_eq!(invite.get("From").contains("anonymous.invalid"), !told, "{}", invite.raw);
        assert_eq!(invite.get("Diversion"), "");
        assert!(invite.raw.contains("History-Info: <sip:+44300@b>;index=1\r\n"), "{}", invite.raw);
        assert!(invite.raw.contains(&format!("@{CALLEE};cause=486>;index=1.1;mp=1\r\n")));
        s.world.send(s.callee, s.node, invite.reply(486, "b", "", ""));
        s.expect(s.callee, "ACK");
        let busy = s.expect_status(s.caller, 486);
        let text = format!(
            "ACK sip:442079460000@{NODE} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\n\
             To: {}\r\nCall-ID: {}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            busy.get("Via").split(";received").next().unwrap_or_default(),
            busy.get("From"),
            busy.get("To"),
            busy.get("Call-ID")
        );
        s.world.send(s.caller, s.node, text);
        s.assert_clean(1);
    }
}

#[test]
fn a_concealed_extension_is_not_told() {
    let mut image = image();
    image.trunks[1].methods =
        image.trunks[1].methods.clone().concealing(&["PRACK".into(), "UPDATE".into()]);
    let mut s = Scene::with(image, Options { shards: 1, ..Default::default() });
    let text = s.request("INVITE", "c1", "442079460000", "Supported: 100rel, timer\r\n", &offer());
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    assert_eq!(invite.get("Allow"), "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO");
    assert_eq!(invite.get("Supported"), "timer");
}

/// Whether a packet from the callee reaches the caller.
fn is_heard(s: &mut Scene, invite: &Text) -> bool {
    let (from, to) = (CALLEE_MEDIA.parse().expect("an address"), CALLER_MEDIA.parse().expect("an"));
    s.world.send(from, invite.media().expect("ours"), wire::rtp(1, 1, b'm'));
    s.world.wait(to, Duration::from_millis(500)).is_some()
}

#[test]
fn early_media_is_heard_from_whom_the_profile_lets() {
    let (block, authorized) = (EarlyMedia::Block, EarlyMedia::Authorized);
    let gate = "P-Early-Media: sendrecv, gated\r\n";
    let cases = [
        (EarlyMedia::Pass, "", true),
        (block, gate, false),
        (authorized, "", false),
        (authorized, "P-Early-Media: inactive\r\n", false),
        (authorized, gate, true),
    ];
    for (early_media, header, expected) in cases {
        for reliable in [false, true] {
            let far = Profile { early_media, ..Profile::default() };
            let mut s = world(Profile::default(), far);
            let known = "Supported: 100rel\r\n";
            let text = s.request("INVITE", "c1", "442079460000", known, &offer());
            s.world.send(s.caller, s.node, text);
            s.expect_status(s.caller, 100);
            let invite = s.expect(s.callee, "INVITE");
            let supported = if early_media == authorized { "supported" } else { "" };
            assert_eq!(invite.get("P-Early-Media"), supported);
            let answer = s.answer();
            let rel = if reliable { "Require: 100rel\r\nRSeq: 1\r\n" } else { "" };
            let headers = format!("Contact: <sip:{CALLEE}>\r\n{header}{rel}");
            s.world.send(s.callee, s.node, invite.reply(183, "b", &headers, &answer));
            let progress = s.expect_status(s.caller, 183);
            // What binds is passed on in any case; it is only not heard.
            assert_eq!(progress.body().is_empty(), !expected && !reliable, "{}", progress.raw);
            if reliable {
                let prack = s.in_dialog("PRACK", 2, &progress, "");
                let rack = format!("RAck: {} 1 INVITE\r\nContent-Length", progress.get("RSeq"));
                s.world.send(s.caller, s.node, prack.replace("Content-Length", &rack));
                let prack = s.expect(s.callee, "PRACK");
                s.world.send(s.callee, s.node, prack.reply(200, "b", "", ""));
                s.expect_status(s.caller, 200);
            }
            assert_eq!(is_heard(&mut s, &invite), expected, "{early_media:?} {header} {reliable}");
            s.world.hand_over(0);
            let body = if reliable { String::new() } else { answer };
            let contact = format!("Contact: <sip:{CALLEE}>\r\n");
            s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &body));
            s.expect(s.callee, "ACK");
            let ok = s.expect_status(s.caller, 200);
            s.acknowledge(&ok);
            assert!(is_heard(&mut s, &invite), "{early_media:?} {header} {reliable}");
            s.finish(&ok);
        }
    }
}
