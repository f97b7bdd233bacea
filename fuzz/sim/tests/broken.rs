//! Connections that break, or say nothing any more, at every point of a call: one CDR, and nothing is left.

use sbc::policy::{Face, Image, StreamListener, Transport};
use sim::scene::{CALLEE, Scene, image};
use sim::wire::Text;
use sim::world::Options;
use std::net::SocketAddr;
use std::time::Duration;

const STREAMS: &str = "192.0.2.1:5062";
const CLIENT: &str = "198.51.100.10:49152";
const MS: Duration = Duration::from_millis(1);

/// Both sides over TCP, and one callee alone.
fn over_tcp() -> Image {
    let mut image = image();
    let face = Face { transport: Transport::Tcp, sent_by: STREAMS.into() };
    image.streams.push(StreamListener { interface: 0, face });
    image.trunks.iter_mut().for_each(|trunk| trunk.transport = Transport::Tcp);
    image.routes[0].targets.truncate(1);
    image
}

/// Peers that do what a call asks of them, as far as they hear of it.
#[derive(Default)]
struct Peers {
    ok: Option<Text>,
    invited: u32,
    hung_up: bool,
    since: u32,
}

impl Peers {
    fn turn(&mut self, s: &mut Scene) {
        while let Some(arrived) = s.world.take(s.caller) {
            let Some(text) = Text::read(&arrived.bytes) else { continue };
            match (text.status(), text.method()) {
                (Some(200), _) if text.get("CSeq").ends_with("INVITE") => {
                    let ack = s.in_dialog("ACK", 1, &text, "");
                    s.world.send(s.caller, s.node, ack);
                    self.ok = Some(text);
                }
                (Some(300..), _) if text.get("CSeq").ends_with("INVITE") => {
                    let ack = s.in_dialog("ACK", 1, &text, "");
                    s.world.send(s.caller, s.node, ack);
                }
                (None, Some("BYE")) => {
                    self.hung_up = true;
                    s.world.send(s.caller, s.node, text.reply(200, "", "", ""));
                }
                _ => {}
            }
        }
        while let Some(arrived) = s.world.take(s.callee) {
            let Some(text) = Text::read(&arrived.bytes) else { continue };
            let contact = format!("Contact: <sip:{CALLEE}>\r\n");
            match text.method() {
                Some("INVITE") => {
                    self.invited += 1;
                    let answer = s.answer();
                    s.world.send(s.callee, s.node, text.reply(180, "b", &contact, ""));
                    s.world.send(s.callee, s.node, text.reply(200, "b", &contact, &answer));
                }
                Some("BYE" | "CANCEL") => {
                    s.world.send(s.callee, s.node, text.reply(200, "b", "", ""));
                }
                _ => {}
            }
        }
        self.since += u32::from(self.ok.is_some());
        if self.since >= 10
            && !std::mem::replace(&mut self.hung_up, true)
            && let Some(ok) = &self.ok
        {
            let bye = s.in_dialog("BYE", 2, ok, "");
            s.world.send(s.caller, s.node, bye);
        }
    }
}

/// A call whose connection with `broken` breaks after `cut` milliseconds, for this long.
fn play(broken: fn(&Scene) -> SocketAddr, cut: u32, lasts: Duration) {
    let mut s = Scene::with(over_tcp(), Options::default());
    s.node = STREAMS.parse().expect("an address");
    s.caller = s.world.peer(CLIENT);
    let mut peers = Peers::default();
    s.invite("c1");
    for ms in 0..60 {
        if ms == cut {
            let peer = broken(&s);
            s.world.break_connection(peer, lasts);
        }
        s.world.run(MS);
        peers.turn(&mut s);
    }
    for _ in 0..1_000 {
        s.world.run(MS * 100);
        peers.turn(&mut s);
    }
    let cdrs = s.world.cdrs().len();
    assert!(cdrs == 1 || (cut == 0 && cdrs == 0), "cut after {cut} ms: {cdrs}\n{}", s.ladder());
    s.assert_clean(cdrs);
}

#[test]
fn a_connection_may_be_reset_at_any_point_of_a_call() {
    for cut in 0..30 {
        play(|s| s.caller, cut, MS);
        play(|s| s.callee, cut, MS);
    }
}

#[test]
fn a_connection_may_be_half_open_from_any_point_of_a_call() {
    for cut in 0..30 {
        play(|s| s.caller, cut, Duration::from_secs(20));
        play(|s| s.callee, cut, Duration::from_secs(20));
    }
}
