//! DTLS-SRTP with other implementations: OpenSSL, which says what keys it has, and rtpengine at either end of
//! a call.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use base::Instant;
use common::authority::Authority;
use common::process::{Running, need};
use common::rtpengine::Rtpengine;
use common::wire::{Peer, header, respond, voice};
use common::{LONG, Lab, Node, Setup, within};
use media::dtls::{Association, Certificate, Event, Identity, Library, Provider, Role};
use media::srtp::Keys;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Our side of one association on a socket.
struct Side {
    association: Box<dyn Association>,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    started: std::time::Instant,
    keys: Option<Keys>,
    certificate: Option<Vec<u8>>,
    /// Datagrams of ours that are yet to be lost.
    lost: usize,
}

impl Side {
    fn new(kind: Certificate, role: Role, socket: UdpSocket, peer: Option<SocketAddr>) -> Side {
        let started = std::time::Instant::now();
        let provider: Arc<dyn Provider> = match kind {
            Certificate::Ecdsa => {
                let identity = Identity::generate().unwrap();
                Arc::new(Library::new(identity, (started, Instant(0))).unwrap())
            }
            Certificate::Rsa => media::dtls::rsa().unwrap(),
        };
        let mut association = provider.begin(role, Instant(0));
        association.advance(Instant(0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Side { association, socket, peer, started, keys: None, certificate: None, lost: 0 }
    }

    /// Sends what is to be sent, and takes in the next datagram.
    fn step(&mut self) {
        let (now, mut room) = (Instant(self.started.elapsed().as_nanos() as u64), vec![0; 8_192]);
        loop {
            match self.association.next(&mut room) {
                Event::Send(bytes) => {
                    if self.lost > 0 {
                        self.lost -= 1;
                    } else if let Some(peer) = self.peer {
                        let _sent = self.socket.send_to(bytes, peer);
                    }
                }
                Event::Keys(keys) => self.keys = Some(*keys),
                Event::Certificate(der) => self.certificate = Some(der.to_vec()),
                Event::Other => {}
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

/// Shakes hands with OpenSSL; both must have come to the same keys. With a cipher of RSA's it has that alone,
/// and so many of our datagrams are lost.
fn with_openssl(name: &str, role: Role, (profile, len): (&str, usize), rsa: Option<(&str, usize)>) {
    need("openssl", "openssl");
    let lab = Lab::new(name);
    let kind = if rsa.is_some() { Certificate::Rsa } else { Certificate::Ecdsa };
    match kind {
        Certificate::Ecdsa => Authority::new(&lab).issue("peer", "DNS:peer"),
        Certificate::Rsa => {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=peer"]);
            command.args(["-keyout", "peer.key", "-out", "peer.pem"]).current_dir(&lab.dir);
            assert!(command.output().unwrap().status.success());
        }
    }
    let cipher = rsa.map_or_else(String::new, |(cipher, _)| format!("-cipher {cipher}"));
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
        "sleep 60 | openssl {what} -dtls1_2 {address} -cert peer.pem -key peer.key {cipher} -use_srtp {profile} \
         -keymatexport EXTRACTOR-dtls_srtp -keymatexportlen {len}"
    ));
    command.current_dir(&lab.dir);
    let log = lab.file("openssl.log");
    let openssl = Running::start(command, &log);
    if role == Role::Active {
        let up = within(LONG, || openssl.log().contains("ACCEPT").then_some(()));
        assert!(up.is_some(), "{}", openssl.log());
    }
    let mut side = Side::new(kind, role, ours, theirs);
    side.lost = rsa.map_or(0, |(_, lost)| lost);
    let same = within(LONG, || {
        side.step();
        let material = side.material(role)?;
        let hex: String = material.iter().map(|byte| format!("{byte:02X}")).collect();
        openssl.log().contains(&format!("Keying material: {hex}")).then_some(())
    });
    assert!(same.is_some(), "{:?}\n{}", side.material(role), openssl.log());
    assert!(side.certificate.is_some_and(|der| !der.is_empty()));
}

#[test]
fn openssl_comes_to_the_same_keys() {
    for (profile, len) in [("SRTP_AES128_CM_SHA1_80", 60), ("SRTP_AEAD_AES_256_GCM", 88)] {
        with_openssl("openssl-client", Role::Passive, (profile, len), None);
        with_openssl("openssl-server", Role::Active, (profile, len), None);
    }
}

#[test]
fn openssl_with_rsa_alone_comes_to_the_same_keys() {
    let (short, long) = (("SRTP_AES128_CM_SHA1_80", 60), ("SRTP_AEAD_AES_256_GCM", 88));
    let ephemeral = Some(("ECDHE-RSA-AES128-GCM-SHA256", 0));
    with_openssl("rsa-client", Role::Passive, short, ephemeral);
    with_openssl("rsa-server", Role::Active, long, ephemeral);
    // What a stack of 2012 has; and the first flight of ours is lost, so that it is sent again.
    with_openssl("rsa-old-client", Role::Passive, short, Some(("AES128-SHA", 1)));
    with_openssl("rsa-old-server", Role::Active, short, Some(("AES128-SHA", 1)));
}

/// One end of a call: a socket with plain RTP, and rtpengine between it and us.
struct End {
    media: Peer,
    rtcp: UdpSocket,
    /// What rtpengine calls the call, and the tags in it.
    call: &'static str,
}

impl End {
    fn new(ip: IpAddr, call: &'static str) -> End {
        let pair = within(LONG, || {
            let media = Peer::bind((ip, 0).into());
            let rtcp = UdpSocket::bind((ip, media.address.port().checked_add(1)?)).ok()?;
            Some((media, rtcp))
        });
        let (media, rtcp) = pair.unwrap();
        rtcp.set_nonblocking(true).unwrap();
        End { media, rtcp, call }
    }

    fn says(&self) -> String {
        common::wire::sdp(self.media.address.ip(), self.media.address.port())
    }
}

/// A sender report and a name; `sound` tells whose.
fn report(sound: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 200, 0, 6, 0, 0, 0, 42];
    bytes.extend_from_slice(&[sound; 8]);
    bytes.extend_from_slice(&[0, 0, 0, 160, 0, 0, 0, 1, 0, 0, 0, 160]);
    bytes.extend_from_slice(&[0x81, 202, 0, 3, 0, 0, 0, 42, 1, 2, sound, sound, 0, 0, 0, 0]);
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
#[derive(Copy, Clone)]
struct How {
    trunk: &'static str,
    /// What rtpengine is told of the transport towards us, and of ICE and roles.
    transport: &'static str,
    ice: &'static str,
    dtls: &'static str,
    /// Whether RTCP shares the port.
    rtcp_mux: bool,
}

/// What rtpengine is told of its certificate where it is to have RSA alone.
const RSA_ALONE: &str = "--dtls-cert-cipher=RSA";

const DTLS: How = How {
    trunk: "srtp = \"required\"\nsrtp_keys = [\"dtls\"]\n",
    transport: "UDP/TLS/RTP/SAVP",
    ice: "remove",
    dtls: "active",
    rtcp_mux: true,
};
const SDES: How = How {
    trunk: "srtp = \"required\"\nsrtp_over_plain_sip = true\n",
    transport: "RTP/SAVP",
    ice: "remove",
    dtls: "off",
    rtcp_mux: true,
};

/// A call between two sides, each behind rtpengine, and both are heard, and their reports.
fn call(name: &str, ports: u16, near: How, far: How) {
    let mut lab = Lab::new(name);
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let has_rsa = |side: &How| side.trunk.contains("\"rsa\"");
    let rsa = (has_rsa(&near) || has_rsa(&far)).then_some(RSA_ALONE);
    let mut rtpengine = Rtpengine::start_with(&lab, ports, rsa.as_slice());
    let (caller, callee) = (Peer::bind((lab.ip, 0).into()), Peer::bind((lab.ip, 0).into()));
    let mut setup = Setup::new(&lab, callee.address);
    setup.interface = format!("media_ports = \"{}-{}\"\n", ports + 200, ports + 299);
    setup.caller = near.trunk.into();
    setup.trunks[0].2 = far.trunk.into();
    let mut node = Node::start(&lab, &setup);
    let (a, b) = (End::new(lab.ip, "near"), End::new(lab.ip, "far"));
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
        &[
            ("replace", &["origin"]),
            ("rtcp-mux", if near.rtcp_mux { &["offer", "require"] } else { &["demux"] }),
        ],
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
        &[("rtcp-mux", if far.rtcp_mux { &["demux", "accept"] } else { &["demux", "reject"] })],
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
        &[("rtcp-mux", if far.rtcp_mux { &["accept"] } else { &["reject"] })],
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
    let (mut heard, mut reports) = ([0; 2], [0; 2]);
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
            let _sent = end.rtcp.send_to(&report(*sound), (lab.ip, *port + 1));
            while let Ok((len, _)) = end.rtcp.recv_from(&mut buffer) {
                let is_theirs = len >= 28 && buffer[1] == 200 && buffer[8..16] == [other; 8];
                reports[place] += usize::from(is_theirs);
            }
        }
        let is_enough = heard.iter().chain(&reports).all(|count| *count > 20);
        is_enough.then_some(())
    });
    let logs = || format!("{}\n{}\n{}", node.process.log(), rtpengine.log(), node.page());
    assert!(all.is_some(), "{heard:?} {reports:?}\n{offer}\n{}\n{answer}\n{}", body(&ok), logs());
    let muxes = |sdp: &str| sdp.contains("a=rtcp-mux\r\n");
    assert_eq!((muxes(&offer), muxes(&answer)), (near.rtcp_mux, far.rtcp_mux), "{offer}\n{answer}");
    let handshakes = |side: &How| match (side.dtls, side.rtcp_mux) {
        ("off", _) => 0,
        (_, true) => 1,
        (_, false) => 2,
    };
    let handshakes = handshakes(&near) + handshakes(&far);
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
fn rtpengine_with_a_handshake_for_each_of_two_ports() {
    let apart = How { rtcp_mux: false, ..DTLS };
    call("apart-apart", 18_400, apart, How { dtls: "passive", ..apart });
    call("mux-apart", 18_800, How { dtls: "passive", ..DTLS }, apart);
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
    let apart = How { rtcp_mux: false, ..ice };
    call("ice-dtls", 21_200, ice, DTLS);
    call("ice-apart", 19_200, apart, DTLS);
}

#[test]
fn rtpengine_with_rsa_alone_by_handshakes() {
    let rsa = "srtp = \"required\"\nsrtp_keys = [\"dtls\"]\ndtls_certificate = \"rsa\"\n";
    let (near, far) = (How { trunk: rsa, ..DTLS }, How { trunk: rsa, dtls: "passive", ..DTLS });
    call("rsa-rsa", 21_600, near, far);
}
