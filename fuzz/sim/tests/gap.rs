//! Media goes on while signalling changes it: the longest silence that either side hears, in virtual time, over
//! holds, changes of address, forked answers and refused offers.
//!
//! Both sides send a packet every 20 ms to where they were told last; silence is what lies between two
//! arrivals. A change is bounded by 40 ms: one packet may fall into the moment between the two sides.

use base::Instant;
use sim::Options;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::time::Duration;

const FRAME: Duration = Duration::from_millis(20);
const BOUND: Duration = Duration::from_millis(40);

/// One side of the conversation.
struct Talker {
    media: SocketAddr,
    /// Where it was told to send.
    to: SocketAddr,
    sequence: u16,
    last: Option<Instant>,
    /// The longest silence it heard.
    silence: Duration,
}

impl Talker {
    fn new(media: &str, to: &Text) -> Talker {
        let media = media.parse().expect("an address");
        let to = to.media().expect("ours");
        Talker { media, to, sequence: 0, last: None, silence: Duration::ZERO }
    }

    /// It listens elsewhere from now on as well.
    fn moves(&mut self, s: &mut Scene, media: &str) {
        self.media = s.world.peer(media);
    }

    fn hear(&mut self, s: &mut Scene, at: SocketAddr) {
        while let Some(arrived) = s.world.take(at) {
            if let Some(last) = self.last {
                self.silence = self.silence.max(arrived.at.since(last));
            }
            self.last = Some(arrived.at);
        }
    }
}

/// Both talk for a while; of each the ports it had before are listened to as well.
fn talk(s: &mut Scene, sides: &mut [Talker; 2], frames: u32) {
    for _ in 0..frames {
        for side in sides.iter_mut() {
            side.sequence = side.sequence.wrapping_add(1);
            let packet = wire::rtp(side.sequence, 7, b'm');
            s.world.send(side.media, side.to, packet);
        }
        s.world.run(FRAME);
        let old = [CALLER_MEDIA, CALLEE_MEDIA].map(|media| media.parse().expect("an address"));
        for (side, old) in sides.iter_mut().zip(old) {
            let now = side.media;
            side.hear(s, old);
            side.hear(s, now);
        }
    }
}

fn begin() -> (Scene, Text, Text, [Talker; 2]) {
    let mut s = Scene::with(image(), Options { shards: 1, ..Default::default() });
    let (invite, ok) = s.establish("c1");
    let mut sides = [Talker::new(CALLER_MEDIA, &ok), Talker::new(CALLEE_MEDIA, &invite)];
    talk(&mut s, &mut sides, 25);
    (s, invite, ok, sides)
}

fn assert_unbroken(s: &Scene, sides: &[Talker; 2]) {
    for side in sides {
        assert!(side.sequence > 50 && side.last.is_some());
        assert!(
            side.silence <= BOUND,
            "{} heard {:?} of silence\n{}",
            side.media,
            side.silence,
            s.ladder()
        );
    }
}

/// The caller offers; both talk while it travels and is answered.
fn re_invite(
    s: &mut Scene,
    sides: &mut [Talker; 2],
    (number, ok): (u32, &Text),
    (offer, answer): (&str, &str),
) -> (Text, Text) {
    let text = s.in_dialog("INVITE", number, ok, offer);
    s.world.send(s.caller, s.node, text);
    talk(s, sides, 3);
    s.expect_status(s.caller, 100);
    let asked = s.expect(s.callee, "INVITE");
    talk(s, sides, 3);
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, asked.reply(200, "b", &contact, answer));
    talk(s, sides, 1);
    s.expect(s.callee, "ACK");
    let told = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", number, ok, "");
    s.world.send(s.caller, s.node, ack);
    (asked, told)
}

fn answer() -> String {
    sdp(CALLEE_MEDIA, 1, "sendrecv")
}

fn sdp(at: &str, version: u32, direction: &str) -> String {
    wire::sdp(at.parse().expect("an address"), version, "0", direction)
}

#[test]
fn a_refresh_and_a_new_address_break_nothing() {
    let (mut s, _, ok, mut sides) = begin();
    re_invite(&mut s, &mut sides, (2, &ok), (&sdp(CALLER_MEDIA, 1, "sendrecv"), &answer()));
    talk(&mut s, &mut sides, 25);
    // The caller listens at another port, where it also sends from when that is agreed.
    let elsewhere = CALLER_MEDIA.replace(":4", ":5");
    assert_ne!(elsewhere, CALLER_MEDIA);
    s.world.peer(&elsewhere);
    let (asked, told) =
        re_invite(&mut s, &mut sides, (3, &ok), (&sdp(&elsewhere, 2, "sendrecv"), &answer()));
    sides[0].moves(&mut s, &elsewhere);
    (sides[0].to, sides[1].to) = (told.media().expect("a"), asked.media().expect("b"));
    talk(&mut s, &mut sides, 50);
    assert_unbroken(&s, &sides);
    s.finish(&ok);
}

#[test]
fn a_refused_offer_breaks_nothing() {
    let (mut s, _, ok, mut sides) = begin();
    let text = s.in_dialog("INVITE", 2, &ok, &sdp(CALLER_MEDIA, 2, "sendrecv"));
    s.world.send(s.caller, s.node, text.clone());
    talk(&mut s, &mut sides, 3);
    s.expect_status(s.caller, 100);
    let asked = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, asked.reply(488, "b", "", ""));
    talk(&mut s, &mut sides, 3);
    s.expect(s.callee, "ACK");
    s.expect_status(s.caller, 488);
    let ack = text.replacen("INVITE", "ACK", 1).replace("CSeq: 2 INVITE", "CSeq: 2 ACK");
    s.world.send(s.caller, s.node, ack);
    talk(&mut s, &mut sides, 50);
    assert_unbroken(&s, &sides);
    s.finish(&ok);
}

#[test]
fn after_a_hold_the_first_packet_is_heard() {
    let (mut s, _, ok, mut sides) = begin();
    let held = sdp(CALLEE_MEDIA, 2, "recvonly");
    re_invite(&mut s, &mut sides, (2, &ok), (&sdp(CALLER_MEDIA, 2, "sendonly"), &held));
    let before = sides[0].last;
    talk(&mut s, &mut sides, 50);
    assert!(sides[0].last.is_some_and(|last| last.since(before.unwrap_or_default()) <= BOUND));
    assert!(sides[1].silence <= BOUND, "who holds is heard all the while: {:?}", sides[1].silence);
    // What was silence is over when the call is resumed: then a frame at most is missing.
    let open = sdp(CALLEE_MEDIA, 3, "sendrecv");
    re_invite(&mut s, &mut sides, (3, &ok), (&sdp(CALLER_MEDIA, 3, "sendrecv"), &open));
    let resumed = s.world.now();
    talk(&mut s, &mut sides, 3);
    assert!(sides[0].last.is_some_and(|last| last >= resumed), "heard again");
    sides.iter_mut().for_each(|side| side.silence = Duration::ZERO);
    talk(&mut s, &mut sides, 50);
    assert_unbroken(&s, &sides);
    s.finish(&ok);
}

#[test]
fn the_answer_after_early_media_breaks_nothing() {
    let mut s = Scene::with(image(), Options { shards: 1, ..Default::default() });
    s.invite("c1");
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    let answer = s.answer();
    // A first early dialog rings with an announcement, another one of the same callee answers.
    s.world.send(s.callee, s.node, invite.reply(183, "b", &contact, &answer));
    let early = s.expect_status(s.caller, 183);
    let mut sides = [Talker::new(CALLER_MEDIA, &early), Talker::new(CALLEE_MEDIA, &invite)];
    talk(&mut s, &mut sides, 50);
    s.world.send(s.callee, s.node, invite.reply(200, "c", &contact, &answer));
    talk(&mut s, &mut sides, 3);
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    sides[0].to = ok.media().expect("ours");
    talk(&mut s, &mut sides, 50);
    assert_unbroken(&s, &sides);
    let bye = s.in_dialog("BYE", 9, &ok, "");
    s.world.send(s.caller, s.node, bye);
    s.expect_status(s.caller, 200);
    s.let_go(s.callee, "c");
    s.assert_clean(1);
}
