//! The node: bytes become datagrams, answers, time and restarts; in the end nothing may be left.

use node::Letter;
use sbc::policy::Image;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene};
use sim::{Text, wire};
use std::net::SocketAddr;
use std::time::Duration;

/// Operations after which a run ends: time per input is bounded.
const MOST: usize = 200;

/// What a peer has heard last.
#[derive(Default)]
struct Heard {
    request: Option<Text>,
    response: Option<Text>,
    invite: Option<Text>,
}

/// Drives a node with a byte string.
pub fn node(data: &[u8]) {
    let mut scene = Scene::new();
    let mut heard = [Heard::default(), Heard::default(), Heard::default()];
    let mut rest = data;
    for serial in 0..MOST as u32 {
        let Some((op, tail)) = rest.split_first() else { break };
        rest = tail;
        let argument = rest.first().copied().unwrap_or(0);
        operate(&mut scene, &mut heard, (*op, argument, serial), &mut rest);
        scene.world.run(Duration::from_millis(3));
        listen(&mut scene, &mut heard);
    }
    scene.world.tidy();
    assert_empty(&mut scene);
}

/// Everything is released; then nothing may be left of any call.
fn assert_empty(scene: &mut Scene) {
    for shard in 0..scene.world.shards().len() {
        scene.world.post(shard, Letter::Command(control::Command::ReleaseAll));
    }
    scene.world.run(Duration::from_secs(200));
    for shard in scene.world.shards() {
        assert_eq!(shard.signal().calls(), 0, "a call is left");
        assert_eq!(shard.signal().transactions(), 0, "a transaction is left");
        assert_eq!(shard.media().in_use(), 0, "a media endpoint is left");
    }
    assert!(scene.world.regions().iter().all(|r| r.records.is_empty()), "a record is left");
    let places = |trunk| scene.world.page().read(Image::calls_word(trunk));
    assert!((0..3).all(|trunk| places(trunk) == 0), "a place is left");
    assert_eq!(scene.world.open_calls(), 0, "a call without a CDR");
    scene.world.assert_cdrs_unique();
}

fn listen(scene: &mut Scene, heard: &mut [Heard; 3]) {
    for (peer, heard) in [scene.caller, scene.callee, scene.second].into_iter().zip(heard) {
        while let Some(arrived) = scene.world.take(peer) {
            let Some(text) = Text::read(&arrived.bytes) else { continue };
            match text.method() {
                Some("INVITE") => {
                    heard.invite = Some(text.clone());
                    heard.request = Some(text);
                }
                Some("ACK") => {}
                Some(_) => heard.request = Some(text),
                None => heard.response = Some(text),
            }
        }
    }
}

fn operate(
    scene: &mut Scene,
    heard: &mut [Heard; 3],
    (op, argument, serial): (u8, u8, u32),
    rest: &mut &[u8],
) {
    let peers = [scene.caller, scene.callee, scene.second];
    let who = usize::from(argument) % 3;
    let (peer, node) = (peers[who], scene.node);
    match op % 16 {
        0 => raw(scene, peer, node, rest),
        1 => drop(scene.invite(&format!("f{}", argument % 4 + serial as u8 % 8))),
        2..=5 => {
            let code = [100, 180, 183, 200, 200, 486, 503, 302, 481, 487, 699, 408];
            let code = code[usize::from(op / 16) % 12];
            respond(scene, &heard[who], peer, code, argument);
        }
        6..=9 => {
            let method = ["ACK", "BYE", "INVITE", "CANCEL", "OPTIONS"][usize::from(op / 16) % 5];
            within(scene, &heard[who], who, method, argument);
        }
        10 => scene.world.run(Duration::from_millis(u64::from(argument) * 20)),
        11 => scene.world.run(Duration::from_secs(u64::from(argument))),
        12 => media(scene, &heard[who], argument, rest),
        13 => scene.world.hand_over(usize::from(argument) % 2),
        14 => {
            let cut = sim::fault::Cut::ALL[usize::from(argument) % 6];
            scene.world.crash_within(cut);
        }
        _ => {
            let text = scene.request("INVITE", &format!("l{serial}"), "442079", "", "");
            scene.world.send(scene.caller, node, text);
        }
    }
}

/// A length and so many bytes, as they are.
fn raw(scene: &mut Scene, peer: SocketAddr, node: SocketAddr, rest: &mut &[u8]) {
    let len = rest.get(1..3).map_or(0, |b| usize::from(b[0]) << 8 | usize::from(b[1]));
    let bytes = rest.get(3..).unwrap_or_default();
    let (datagram, tail) = bytes.split_at(len.min(bytes.len()));
    scene.world.send(peer, node, datagram);
    *rest = tail;
}

fn respond(scene: &mut Scene, heard: &Heard, peer: SocketAddr, code: u16, argument: u8) {
    let request = if argument & 64 == 0 { &heard.request } else { &heard.invite };
    let Some(request) = request else { return };
    let tag = if argument & 16 == 0 { "b" } else { "c" };
    let body = if argument & 32 == 0 { scene.answer() } else { String::new() };
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    scene.world.send(peer, scene.node, request.reply(code, tag, &contact, &body));
}

fn within(scene: &mut Scene, heard: &Heard, who: usize, method: &str, argument: u8) {
    let number = u32::from(argument / 3 % 8) + 1;
    let body = if method == "INVITE" { scene.answer() } else { String::new() };
    let body = if argument & 128 == 0 { body } else { String::new() };
    let text = match (who, &heard.response, &heard.invite) {
        (0, Some(response), _) => scene.in_dialog(method, number, response, &body),
        (1.., _, Some(invite)) => scene.from_callee(method, number, invite, "b", &body),
        _ => return,
    };
    let peer = [scene.caller, scene.callee, scene.second][who];
    scene.world.send(peer, scene.node, text);
}

/// RTP or raw bytes to a port somebody was told.
fn media(scene: &mut Scene, heard: &Heard, argument: u8, rest: &mut &[u8]) {
    let told = heard.invite.as_ref().or(heard.response.as_ref()).and_then(Text::media);
    let Some(to) = told else { return };
    let from = if argument & 4 == 0 { CALLER_MEDIA } else { CALLEE_MEDIA };
    let from = from.parse().expect("an address");
    if argument & 8 == 0 {
        return scene.world.send(from, to, wire::rtp(u16::from(argument), 7, b'f'));
    }
    raw(scene, from, to, rest);
}
