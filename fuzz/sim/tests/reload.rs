//! Configurations change under calls.

use sbc::policy::Image;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, SECOND, Scene, image, trunk};
use sim::wire::{self, Text};
use std::time::Duration;

const IN: u16 = 0;
const OUT: u16 = 1;

/// The configuration with its trunks written the other way round.
fn reversed() -> Image {
    let mut image = image();
    image.trunks.reverse();
    for target in image.routes.iter_mut().flat_map(|r| &mut r.targets) {
        target.trunk = 2 - target.trunk;
    }
    image
}

/// Without the first callee's trunk: everything goes to the second.
fn without_out() -> Image {
    let mut image = image();
    image.trunks.remove(usize::from(OUT));
    let targets = &mut image.routes[0].targets;
    targets.remove(0);
    targets[0].trunk = 1;
    image
}

/// A call that the second callee answers: the caller's 200.
fn by_second(s: &mut Scene, call: &str) -> Text {
    s.invite(call);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.second, "INVITE");
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    let sdp = wire::sdp("203.0.113.30:4000".parse().expect("an address"), 1, "0", "sendrecv");
    s.world.send(s.second, s.node, invite.reply(200, "x", &contact, &sdp));
    s.expect(s.second, "ACK");
    let ok = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", 1, &ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    ok
}

fn hang_up(s: &mut Scene, ok: &Text, number: u32) {
    let bye = s.in_dialog("BYE", number, ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
}

fn answer_bye(s: &mut Scene, peer: &str) {
    let peer = s.world.peer(peer);
    s.let_go(peer, "");
    s.world.run(Duration::from_millis(10));
}

fn on(s: &Scene, trunk: u16) -> u64 {
    s.world.page().read(Image::calls_word(trunk))
}

#[test]
fn a_thousand_reloads_leave_calls_alone_and_counters_right() {
    let mut s = Scene::new();
    let (_, long) = s.establish("long");
    let mut calls = 1;
    for n in 0..1000 {
        let written = [image, without_out, reversed][n % 3]();
        s.world.reload(written);
        assert_eq!((on(&s, IN), on(&s, OUT)), (1, 1), "the long call is where it was");
        if n % 7 == 0 {
            calls += 1;
            let name = format!("c{n}");
            if n % 3 == 1 {
                let ok = by_second(&mut s, &name);
                assert_eq!(on(&s, OUT), 1, "nothing new on a trunk that is gone");
                hang_up(&mut s, &ok, 2);
                answer_bye(&mut s, SECOND);
            } else {
                let (_, ok) = s.establish(&name);
                assert_eq!((on(&s, IN), on(&s, OUT)), (2, 2));
                hang_up(&mut s, &ok, 2);
                answer_bye(&mut s, CALLEE);
            }
        }
        if n % 100 == 0 {
            let (from, to) = (CALLER_MEDIA.parse().unwrap(), long.media().unwrap());
            s.world.send(from, to, wire::rtp(1 + n as u16, 1, b'a'));
            let callee = CALLEE_MEDIA.parse().unwrap();
            assert!(s.world.wait(callee, Duration::from_millis(50)).is_some(), "media goes on");
        }
    }
    for shard in s.world.shards() {
        assert_eq!(shard.signal().counters().generation.get(), 1001);
    }
    assert_eq!(s.world.image().trunks.len(), 3, "a name keeps its number");
    hang_up(&mut s, &long, 2);
    answer_bye(&mut s, CALLEE);
    s.assert_clean(calls);
}

#[test]
fn a_call_on_a_trunk_that_is_gone_ends_as_any_other() {
    let mut s = Scene::new();
    let (invite, _) = s.establish("c1");
    s.world.reload(without_out());
    let bye = s.from_callee("BYE", 1, &invite, "b", "");
    s.world.send(s.callee, s.node, bye);
    s.expect_status(s.callee, 200);
    s.let_go(s.caller, "");
    s.assert_clean(1);
    // Its trunk has no call any more: from now on it is nobody.
    let options = s.request("OPTIONS", "o", "44", "", "");
    s.world.send(s.callee, s.node, options);
    assert!(s.within(s.callee, Duration::from_secs(1)).is_none());
}

#[test]
fn a_caller_whose_trunk_is_gone_may_still_cancel_and_gets_nothing_new() {
    let mut s = Scene::new();
    let sent = s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(180, "b", "Contact: <sip:203.0.113.20>\r\n", ""));
    s.expect_status(s.caller, 180);
    let mut gone = image();
    gone.trunks.remove(usize::from(IN));
    gone.routes[0].targets.iter_mut().for_each(|t| t.trunk -= 1);
    s.world.reload(gone);
    s.invite("c2");
    assert_eq!(s.expect_status(s.caller, 404).get("Call-ID"), "c2@caller");
    s.world.run(Duration::from_millis(1));
    s.world.send(s.caller, s.node, wire::companion(&sent.raw, "CANCEL", None));
    let statuses: Vec<_> = std::iter::from_fn(|| s.within(s.caller, Duration::from_millis(100)))
        .filter(|t| t.get("Call-ID") == "c1@caller")
        .filter_map(|t| t.status())
        .collect();
    assert_eq!(statuses[..2], [200, 487]);
    let cancel = s.expect(s.callee, "CANCEL");
    s.world.send(s.callee, s.node, cancel.reply(200, "b", "", ""));
    s.world.send(s.callee, s.node, invite.reply(487, "b", "", ""));
    s.assert_clean(2);
}

#[test]
fn capacity_follows_the_name() {
    let mut s = Scene::new();
    let (_, first) = s.establish("c1");
    let mut narrow = reversed();
    narrow.trunks[2].capacity = 1;
    s.world.reload(narrow);
    let sent = s.invite("c2");
    let refused = s.expect_status(s.caller, 503);
    assert!(refused.get("Reason").contains("trunk_capacity"), "{}", refused.raw);
    s.world.reload(image());
    let ack = wire::companion(&sent.raw, "ACK", Some(refused.get("To")));
    s.world.send(s.caller, s.node, ack);
    let (_, second) = s.establish("c3");
    for ok in [first, second] {
        hang_up(&mut s, &ok, 2);
        answer_bye(&mut s, CALLEE);
    }
    s.assert_clean(3);
}

#[test]
fn names_without_end_are_refused() {
    let named = |prefix: &str| {
        let trunks = (0..40_000).map(|n| trunk(&format!("{prefix}{n}"), CALLEE));
        Image { trunks: trunks.collect(), ..image() }
    };
    let first = named("a");
    assert!(named("a").after(&first).is_ok_and(|next| next.trunks.len() == 40_000));
    assert!(named("b").after(&first).is_err());
}
