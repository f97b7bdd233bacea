//! A REFER outside any dialog whose Target-Dialog names one of ours (RFC 4538): executed as if it had come within
//! that one, and told of in the dialog it began itself.

use sim::scene::{CALLEE_MEDIA, Scene, executing, image};
use sim::wire::{self, Text};
use sim::world::Options;

const CONTACT: &str = "Contact: <sip:203.0.113.20:5060>\r\n";
const CONTACT_2: &str = "Contact: <sip:203.0.113.30:5060>\r\n";
const SECOND_MEDIA: &str = "203.0.113.30:4000";

fn scene() -> Scene {
    let mut s = Scene::with(executing(), Options::default());
    s.world.peer(SECOND_MEDIA);
    s
}

/// The caller's REFER beside the call that `ok` is of.
fn asking(call: &str, s: &mut Scene, ok: &Text, headers: &str) -> String {
    let target = format!(
        "Target-Dialog: {};local-tag={};remote-tag={}\r\nRefer-To: <sip:79460001@{}>\r\n{headers}",
        ok.get("Call-ID"),
        ok.tag("To"),
        ok.tag("From"),
        sim::scene::NODE,
    );
    s.request("REFER", call, "442079460000", &target, "")
}

fn refer(s: &mut Scene, call: &str, ok: &Text, headers: &str) -> Text {
    let raw = asking(call, s, ok, headers);
    s.world.send(s.caller, s.node, raw.clone());
    Text { raw }
}

/// The next NOTIFY of the dialog that `refer` and its answer made: what it says.
fn notified(s: &mut Scene, refer: &Text, accepted: &Text) -> String {
    let notify = s.expect(s.caller, "NOTIFY");
    let is_of = |name| notify.get(name);
    assert_eq!(is_of("Call-ID"), refer.get("Call-ID"), "{}", notify.raw);
    assert_eq!((notify.tag("To"), notify.tag("From")), (refer.tag("From"), accepted.tag("To")));
    s.world.send(s.caller, s.node, notify.reply(200, "", "", ""));
    notify.body().lines().next().unwrap_or_default().to_owned()
}

/// Whichever shard the REFER's own Call-ID would lead to, it finds the call.
#[test]
fn a_refer_beside_its_call() {
    for call in ["r1", "r2", "r3", "r4"] {
        let mut s = scene();
        let (first, ok) = s.establish("c1");
        let asked = refer(&mut s, call, &ok, "Require: tdialog\r\n");
        let accepted = s.expect_status(s.caller, 202);
        assert!(!accepted.tag("To").is_empty() && accepted.tag("To") != ok.tag("To"));
        assert_eq!(notified(&mut s, &asked, &accepted), "SIP/2.0 100 Trying");
        (0..2).for_each(|shard| s.world.hand_over(shard));
        let invite = s.expect(s.second, "INVITE");
        assert!(!invite.raw.contains("Target-Dialog"), "{}", invite.raw);
        let says = wire::sdp(SECOND_MEDIA.parse().expect("an address"), 1, "0", "sendrecv");
        s.world.send(s.second, s.node, invite.reply(200, "x", CONTACT_2, &says));
        s.expect(s.second, "ACK");
        assert_eq!(notified(&mut s, &asked, &accepted), "SIP/2.0 200 OK");
        let bye = s.expect(s.caller, "BYE");
        assert_eq!(bye.get("Call-ID"), ok.get("Call-ID"), "the call's own dialog ends");
        s.world.send(s.caller, s.node, bye.reply(200, "", "", ""));
        let again = s.expect(s.callee, "INVITE");
        let answer = wire::sdp(CALLEE_MEDIA.parse().expect("an address"), 2, "0", "sendrecv");
        s.world.send(s.callee, s.node, again.reply(200, "b", CONTACT, &answer));
        s.expect(s.callee, "ACK");
        let bye = s.from_callee("BYE", 1, &first, "b", "");
        s.world.send(s.callee, s.node, bye);
        s.expect_status(s.callee, 200);
        s.let_go(s.second, "");
        s.assert_clean(1);
        let cdr = &s.world.cdrs()[0];
        assert_eq!((cdr.transfers.len(), cdr.transfers[0].status), (1, 200));
    }
}

/// A dialog that is not the sender's is as good as none: the REFER is a request like any other, and nobody is
/// transferred.
#[test]
fn a_refer_beside_no_call_of_its_sender() {
    for (what, with) in [("c1@caller", "other@caller"), ("remote-tag=ac1", "remote-tag=x")] {
        let mut s = scene();
        let (_, ok) = s.establish("c1");
        let raw = asking("r1", &mut s, &ok, "").replace(what, with);
        s.world.send(s.caller, s.node, raw);
        let refused = s.next(s.caller);
        assert_eq!(refused.status(), Some(405), "{}", refused.raw);
        s.finish(&ok);
    }
    let mut s = scene();
    let (_, ok) = s.establish("c1");
    let raw = asking("r1", &mut s, &ok, "");
    s.world.send(s.second, s.node, raw);
    assert_eq!(s.next(s.second).status(), Some(405));
    s.finish(&ok);
}

/// Where transfers are not executed, the extension is not known.
#[test]
fn a_trunk_whose_transfers_are_not_executed() {
    let mut s = Scene::with(image(), Options::default());
    let (_, ok) = s.establish("c1");
    refer(&mut s, "r1", &ok, "Require: tdialog\r\n");
    let refused = s.next(s.caller);
    assert!(matches!(refused.status(), Some(405 | 420)), "{}", refused.raw);
    s.finish(&ok);
}
