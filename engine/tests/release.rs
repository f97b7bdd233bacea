//! Media that goes past the node, as two peers see it: from each other's sockets, and from ours once an operator has
//! brought it back.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header, respond, sdp, speech, voice};
use common::{LONG, Lab, Node, Setup, within};
use serde_json::json;
use std::net::SocketAddr;

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Each speaks to where it was told, until it has heard the other ten times; where that came from.
fn talk(ends: [(&Peer, SocketAddr, u8); 2]) -> [SocketAddr; 2] {
    let (mut heard, mut sequence) = ([const { Vec::new() }; 2], 0);
    let all = within(LONG, || {
        sequence += 1;
        for (place, (media, to, sound)) in ends.iter().enumerate() {
            media.send(*to, &voice(sequence, *sound));
            let other = ends[1 - place].2;
            let mut buffer = [0; 2_048];
            while let Ok((len, from)) = media.socket.recv_from(&mut buffer) {
                if len == 172 && buffer[12..len].iter().all(|byte| *byte == other) {
                    heard[place].push(from);
                }
            }
        }
        heard.iter().all(|heard| heard.len() >= 10).then_some(())
    });
    assert!(all.is_some(), "{heard:?}");
    heard.map(|heard| *heard.last().unwrap())
}

#[test]
fn media_goes_from_peer_to_peer_and_comes_back_when_it_is_ordered() {
    let lab = Lab::new("release");
    let peer = || Peer::bind((lab.ip, 0).into());
    let (caller, callee, a, b) = (peer(), peer(), peer(), peer());
    let mut setup = Setup::new(&lab, callee.address);
    setup.caller = "media_release = \"same-interface\"\n".into();
    setup.trunks[0].2 = setup.caller.clone();
    let mut node = Node::start(&lab, &setup);
    let of = |media: &Peer| sdp(media.address.ip(), media.address.port());
    let contact =
        |sip: &Peer| format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", sip.address);

    let invite = caller.invite(node.sip, "c1", "");
    let (head, _) = invite.split_once("Content-Length:").unwrap();
    let offer = of(&a);
    let invite = format!("{head}Content-Length: {}\r\n\r\n{offer}", offer.len());
    caller.send(node.sip, invite.as_bytes());
    let at_callee = callee.expect("INVITE", |text| text.starts_with("INVITE "));
    assert_eq!(speech(body(&at_callee)), a.address, "{at_callee}");
    callee.send(node.sip, respond(&at_callee, "200 OK", &contact(&callee), &of(&b)).as_bytes());
    let ok = caller.expect("200", |text| text.starts_with("SIP/2.0 200"));
    assert_eq!(speech(body(&ok)), b.address, "{ok}");
    caller.send(node.sip, caller.within(&ok, "ACK", 1).as_bytes());
    assert_eq!(talk([(&a, b.address, b'a'), (&b, a.address, b'b')]), [b.address, a.address]);
    assert_eq!(node.metric("tandem_media_ports_in_use"), 0, "{}", node.page());
    let calls = node.ask(json!({"op": "get", "what": "calls"})).unwrap();
    let id = calls["calls"][0]["id"].as_str().unwrap().to_owned();
    let show = || node.ask(json!({"op": "get", "what": "call", "call": id})).unwrap();
    assert_eq!(show()["released"], true, "{}", show());

    let refused = node.ask(json!({"op": "capture", "call": id})).unwrap_err();
    assert!(refused.contains("it goes past us"), "{refused}");

    node.ask(json!({"op": "anchor", "call": id})).unwrap();
    let mut ours = Vec::new();
    for (sip, media) in [(&caller, &a), (&callee, &b)] {
        let offered = sip.expect("a re-INVITE", |text| {
            text.starts_with("INVITE ") && header(text, "To").contains(";tag=")
        });
        ours.push(speech(body(&offered)));
        sip.send(node.sip, respond(&offered, "200 OK", &contact(sip), &of(media)).as_bytes());
        sip.expect("ACK", |text| text.starts_with("ACK "));
    }
    assert!(ours.iter().all(|at| at.ip() == node.sip.ip() && at.port() < 22_000), "{ours:?}");
    let heard = talk([(&a, ours[0], b'c'), (&b, ours[1], b'd')]);
    assert_eq!(heard, [ours[0], ours[1]], "by way of us");
    assert_eq!(show()["released"], false, "{}", show());
    assert!(node.ask(json!({"op": "anchor", "call": id})).is_err(), "it is here");
    assert_eq!(node.metric("tandem_media_anchored_total"), 1);
    caller.send(node.sip, caller.within(&ok, "BYE", 9).as_bytes());
    let bye = callee.expect("BYE", |text| text.starts_with("BYE "));
    callee.send(node.sip, respond(&bye, "200 OK", "", "").as_bytes());
    let record = &node.await_records(1)[0];
    assert_eq!(record["media"]["released"], true, "{record}");
    assert!(record["media"]["caller"]["packets"].as_u64() >= Some(10), "{record}");
    assert_eq!(node.drain(), Some(0));
}
