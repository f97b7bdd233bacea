//! DTLS-SRTP with other implementations: OpenSSL, which says what keys it has, and rtpengine at either end of
//! a call.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use base::Instant;
use common::authority::Authority;
use common::process::{Running, need};
use common::rtpengine::Rtpengine;
use common::wire::{Peer, header, respond};
use common::{LONG, Lab, Node, Setup, within};
use media::dtls::{Association, Event, Identity, Library, Provider, Role};
use media::srtp::Keys;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Our side of one association on a socket.
struct Side {
    association: Box<dyn Association>,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    started: std::time::Instant,
    keys: Option<Keys>,
}

impl Side {
    fn new(role: Role, socket: UdpSocket, peer: Option<SocketAddr>) -> Side {
        let started = std::time::Instant::now();
        let library = Library::new(Identity::generate().unwrap(), (started, Instant(0))).unwrap();
        let mut association = library.begin(role, Instant(0));
        association.advance(Instant(0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Side { association, socket, peer, started, keys: None }
    }

    /// Sends what is to be sent, and takes in the next datagram.
    fn step(&mut self) {
        let (now, mut room) = (Instant(self.started.elapsed().as_nanos() as u64), vec![0; 8_192]);
        loop {
            match self.association.next(&mut room) {
                Event::Send(bytes) => {
                    if let Some(peer) = self.peer {
                        let _sent = self.socket.send_to(bytes, peer);
                    }
                }
                Event::Keys(keys) => self.keys = Some(*keys),
                Event::Certificate(_) | Event::Other => {}
                Event::Fail(why) => panic!("{why:?}"),
                Event::Wait(_) => break,
            }
        }
        let mut datagram = [0; 4_096];
        match self.socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                self.peer = Some(from);
                self.association.receive(now, &datagram[..len]).unwrap();
            }
            Err(_) => self.association.advance(now).unwrap(),
        }
    }

    /// The keying material as RFC 5764 §4.2 has it: what its client writes with first.
    fn material(&self, role: Role) -> Option<Vec<u8>> {
        let keys = self.keys.as_ref()?;
        let (client, server) = match role {
            Role::Active => (keys.egress.expose(), keys.ingress.expose()),
            Role::Passive => (keys.ingress.expose(), keys.egress.expose()),
        };
        let (len, end) = (keys.suite.key_len(), client.len());
        let parts = [&client[..len], &server[..len], &client[len..end], &server[len..end]];
        Some(parts.concat())
    }
}

/// Shakes hands with OpenSSL; both must have come to the same keys.
fn with_openssl(name: &str, role: Role, profile: &str, len: usize) {
    need("openssl", "openssl");
    let lab = Lab::new(name);
    Authority::new(&lab).issue("peer", "DNS:peer");
    let ours = UdpSocket::bind((lab.ip, 0)).unwrap();
    let at = ours.local_addr().unwrap();
    let (what, address, theirs) = match role {
        Role::Passive => ("s_client", format!("-connect {at}"), None),
        Role::Active => {
            let theirs = lab.udp();
            ("s_server", format!("-accept {theirs} -Verify 1"), Some(theirs))
        }
    };
    // It ends with its input.
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "sleep 60 | openssl {what} -dtls1_2 {address} -cert peer.pem -key peer.key -use_srtp {profile} \
         -keymatexport EXTRACTOR-dtls_srtp -keymatexportlen {len}"
    ));
    command.current_dir(&lab.dir);
    let log = lab.file("openssl.log");
    let openssl = Running::start(command, &log);
    if role == Role::Active {
        let up = within(LONG, || openssl.log().contains("ACCEPT").then_some(()));
        assert!(up.is_some(), "{}", openssl.log());
    }
    let mut side = Side::new(role, ours, theirs);
    let same = within(LONG, || {
        side.step();
        let material = side.material(role)?;
        let hex: String = material.iter().map(|byte| format!("{byte:02X}")).collect();
        openssl.log().contains(&format!("Keying material: {hex}")).then_some(())
    });
    assert!(same.is_some(), "{:?}\n{}", side.material(role), openssl.log());
}

#[test]
fn openssl_comes_to_the_same_keys() {
    for (profile, len) in [("SRTP_AES128_CM_SHA1_80", 60), ("SRTP_AEAD_AES_256_GCM", 88)] {
        with_openssl("openssl-client", Role::Passive, profile, len);
        with_openssl("openssl-server", Role::Active, profile, len);
    }
}

/// One end of a call: a socket with plain RTP, and rtpengine between it and us.
struct End {
    media: Peer,
    /// What rtpengine calls the call, and the tags in it.
    call: &'static str,
}

impl End {
    fn says(&self) -> String {
        common::wire::sdp(self.media.address.ip(), self.media.address.port())
    }
}

/// G.711 of one sound.
fn voice(sequence: u16, sound: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, sound]);
    bytes.extend_from_slice(&[sound; 160]);
    bytes
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn port(sdp: &str) -> u16 {
    let line = sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

/// How one side has its keys.
struct How {
    trunk: &'static str,
    /// What rtpengine is told of the transport towards us, and of ICE and roles.
    transport: &'static str,
    ice: &'static str,
    dtls: &'static str,
}

const DTLS: How = How {
    trunk: "srtp = \"required\"\nsrtp_keys = [\"dtls\"]\n",
    transport: "UDP/TLS/RTP/SAVP",
    ice: "remove",
    dtls: "active",
};
const SDES: How = How {
    trunk: "srtp = \"required\"\nsrtp_over_plain_sip = true\n",
    transport: "RTP/SAVP",
    ice: "remove",
    dtls: "off",
};

/// A call between two sides, each behind rtpengine, and both are heard.
fn call(name: &str, ports: u16, near: How, far: How) {
    let mut lab = Lab::new(name);
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut rtpengine = Rtpengine::start(&lab, ports);
    let (caller, callee) = (Peer::bind((lab.ip, 0).into()), Peer::bind((lab.ip, 0).into()));
    let mut setup = Setup::new(&lab, callee.address);
    setup.interface = format!("media_ports = \"{}-{}\"\n", ports + 200, ports + 299);
    setup.caller = near.trunk.into();
    setup.trunks[0].2 = far.trunk.into();
    let mut node = Node::start(&lab, &setup);
    let (a, b) = (
        End { media: Peer::bind((lab.ip, 0).into()), call: "near" },
        End { media: Peer::bind((lab.ip, 0).into()), call: "far" },
    );
    // The caller's rtpengine offers to us.
    let offer = rtpengine.ask(
        &[
            ("command", "offer"),
            ("call-id", a.call),
            ("from-tag", "a"),
            ("sdp", &a.says()),
            ("transport-protocol", near.transport),
            ("ICE", near.ice),
            ("DTLS", near.dtls),
        ],
        &[("replace", &["origin"]), ("rtcp-mux", &["offer", "require"])],
    );
    let mut invite = caller.invite(node.sip, "c1", "");
    let (head, _) = invite.split_once("Content-Length:").unwrap();
    invite = format!("{head}Content-Length: {}\r\n\r\n{offer}", offer.len());
    caller.send(node.sip, invite.as_bytes());
    // What we offer to the callee goes to its rtpengine, which answers us.
    let ours = callee.expect("INVITE", |text| text.starts_with("INVITE "));
    let plain = rtpengine.ask(
        &[
            ("command", "offer"),
            ("call-id", b.call),
            ("from-tag", "n"),
            ("sdp", body(&ours)),
            ("transport-protocol", "RTP/AVP"),
            ("ICE", "remove"),
            ("DTLS", if far.dtls == "off" { "passive" } else { far.dtls }),
        ],
        &[("rtcp-mux", &["demux", "accept"])],
    );
    let answer = rtpengine.ask(
        &[
            ("command", "answer"),
            ("call-id", b.call),
            ("from-tag", "n"),
            ("to-tag", "b"),
            ("sdp", &b.says()),
            ("ICE", far.ice),
        ],
        &[("rtcp-mux", &["accept"])],
    );
    let contact = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
    callee.send(node.sip, respond(&ours, "200 OK", &contact, &answer).as_bytes());
    let ok = caller
        .expect("an answer", |text| text.starts_with("SIP/2.0 ") && !text.starts_with("SIP/2.0 1"));
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}\n{offer}\n{answer}");
    caller.send(node.sip, caller.within(&ok, "ACK", 1).as_bytes());
    let for_a = rtpengine.ask(
        &[
            ("command", "answer"),
            ("call-id", a.call),
            ("from-tag", "a"),
            ("to-tag", "n"),
            ("sdp", body(&ok)),
            ("ICE", "remove"),
        ],
        &[("rtcp-mux", &["demux"])],
    );
    // Each speaks until it has heard the other.
    let ends = [(&a, port(&for_a), b'a'), (&b, port(&plain), b'b')];
    let mut heard = [0; 2];
    let mut sequence = 0;
    let all = within(LONG, || {
        sequence += 1;
        for (place, (end, port, sound)) in ends.iter().enumerate() {
            end.media.send((lab.ip, *port).into(), &voice(sequence, *sound));
            let other = if *sound == b'a' { b'b' } else { b'a' };
            let mut buffer = [0; 2_048];
            while let Ok((len, _)) = end.media.socket.recv_from(&mut buffer) {
                let is_theirs = len == 172 && buffer[12..len].iter().all(|byte| *byte == other);
                heard[place] += usize::from(is_theirs);
            }
        }
        (heard[0] > 20 && heard[1] > 20).then_some(())
    });
    let logs = || format!("{}\n{}\n{}", node.process.log(), rtpengine.log(), node.page());
    assert!(all.is_some(), "{heard:?}\n{offer}\n{}\n{answer}\n{}", body(&ok), logs());
    let handshakes = [&near, &far].iter().filter(|side| side.dtls != "off").count() as u64;
    assert_eq!(node.metric("tandem_media_dtls_handshakes_total"), handshakes);
    let checks = node.metric("tandem_media_stun_checks_answered_total");
    assert_eq!(checks > 0, near.ice == "force" || far.ice == "force", "{checks} checks");
    let call_id = header(&ours, "Call-ID");
    assert!(!call_id.is_empty());
    node.process.kill();
}

#[test]
fn rtpengine_at_both_ends_by_handshakes() {
    call("dtls-dtls", 20_000, DTLS, How { dtls: "passive", ..DTLS });
}

#[test]
fn rtpengine_with_keys_in_sip_and_by_a_handshake() {
    call("sdes-dtls", 20_400, SDES, DTLS);
    call("dtls-sdes", 20_800, How { dtls: "passive", ..DTLS }, SDES);
}

#[test]
fn rtpengine_with_ice_and_a_handshake() {
    let ice = How {
        trunk: "srtp = \"required\"\nsrtp_keys = [\"dtls\"]\nice = \"lite\"\n",
        ice: "force",
        ..DTLS
    };
    call("ice-dtls", 21_200, ice, DTLS);
}
