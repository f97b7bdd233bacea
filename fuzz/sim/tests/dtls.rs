//! DTLS-SRTP as it is agreed upon in SIP: who begins, what is offered and refused, and that the keys of the
//! handshake are what media is sent under. The peers' ends are endpoints of our own relay; the handshake is
//! the scripted twin's.

use base::{Bytes, Now, Pool, PortId, Texts, Wall};
use media::dtls::{Fingerprint, Hash, Provider, Role, Terms};
use media::{Carries, EndKey, Media, MediaPort, Plan, Security, Verdict};
use sbc::policy::kinds::Kinds;
use sbc::policy::security::{Keying, MediaSecurity, Srtp};
use sbc::sdp::{self, Setup};
use sim::Options;
use sim::dtls::Twin;
use sim::scene::{CALLEE, CALLEE_MEDIA, CALLER_MEDIA, Scene, image};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const DTLS: &str = "UDP/TLS/RTP/SAVPF";
const INSIDE: &str = "192.0.2.7:7000";

/// A world of one shard: what the caller's trunk and the callees' want.
fn world(caller: (Srtp, &[Keying]), callee: (Srtp, &[Keying])) -> Scene {
    let security = |(srtp, keys): (Srtp, &[Keying])| MediaSecurity {
        srtp,
        keys: keys.to_vec(),
        over_plain_sip: true,
        ..Default::default()
    };
    let mut image = image();
    image.trunks.iter_mut().for_each(|trunk| trunk.media = Kinds::ALL);
    image.trunks[0].media_security = security(caller);
    image.trunks[1].media_security = security(callee);
    image.trunks[2].media_security = security(callee);
    // The handshakes that never come are to be missed first.
    image.trunks.iter_mut().for_each(|trunk| trunk.media_timeout = None);
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

/// A peer that shakes hands: its endpoint towards us, and one inside to hand it media.
struct Peer {
    media: Media,
    twin: Arc<Twin>,
    pool: Pool,
    address: SocketAddr,
    plain: EndKey,
    wire: EndKey,
    /// Whether its RTCP shares the port.
    rtcp_mux: bool,
}

/// Where RTCP is that does not share the port.
fn beside(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip(), at.port() + 1)
}

impl Peer {
    fn new(s: &Scene, address: &str, seed: u8) -> Peer {
        let port = |i: u32| MediaPort {
            rtp: PortId(2 * i),
            rtcp: PortId(2 * i + 1),
            address: SocketAddr::from(([192, 0, 2, 9], 9_000 + 2 * i as u16)),
            interface: 0,
        };
        let now = s.world.now();
        let mut media = Media::new((0..2).map(port).collect(), [seed; 32], now);
        let twin = Arc::new(Twin::new([seed; 32]));
        media.set_dtls(twin.clone());
        let [plain, wire] = [0, 1].map(|_| media.reserve(0, now).expect("a port"));
        media.program(now, plain, Plan::towards(INSIDE.parse().expect("an address")));
        media.join(plain, wire);
        let address = address.parse().expect("an address");
        Peer { media, twin, pool: Pool::new(4_096), address, plain, wire, rtcp_mux: true }
    }

    /// One whose RTCP has a port of its own.
    fn apart(s: &mut Scene, address: &str, seed: u8) -> Peer {
        let peer = Peer { rtcp_mux: false, ..Peer::new(s, address, seed) };
        s.world.peer(&beside(peer.address).to_string());
        peer
    }

    /// Its description, in this role.
    fn says(&self, protocol: &str, setup: Setup, more: &str) -> String {
        let body = wire::sdp(self.address, 1, "0", "sendrecv").replace("RTP/AVP", protocol);
        let lines = sdp::dtls_lines(&self.twin.fingerprint(), setup, None);
        let lines = lines.iter().map(|line| String::from_utf8_lossy(line) + "\r\n");
        format!("{body}{}{more}", lines.collect::<String>())
    }

    /// Takes in what we say.
    fn hears(&mut self, s: &Scene, text: &Text, role: Role) {
        self.hears_of(s, text, 0, role);
    }

    /// Takes in what we say of a line.
    fn hears_of(&mut self, s: &Scene, text: &Text, line: usize, role: Role) {
        let body = sdp::parse(text.body().as_bytes()).expect("well made");
        let line = &body.media()[line];
        let said = sdp::Dtls::read(&body, line).expect("usable").expect("there");
        let fingerprint = said.fingerprint;
        let terms = Terms { role, fingerprint, tls_id: 0, ours: self.twin.certificate() };
        let mut plan = Plan::towards(line.rtp().expect("our address"));
        (plan.security, plan.rtcp_mux) = (Security::Dtls(Box::new(terms)), self.rtcp_mux);
        self.media.program(s.world.now(), self.wire, plan);
    }

    /// Shakes hands with us until nothing comes any more.
    fn shake(&mut self, s: &mut Scene) {
        for _ in 0..20 {
            let (mut texts, mut notices) = (Texts::default(), Vec::new());
            self.media.shake(s.world.now(), &mut texts, &mut notices);
            for send in &texts.sends {
                s.world.send(self.of(send.port), send.to, texts.get(send.bytes));
            }
            for port in 0..if self.rtcp_mux { 1 } else { 2 } {
                let port = 2 * self.wire.index + port;
                let arrived = s.world.wait(self.of(PortId(port)), Duration::from_millis(30));
                if let Some(arrived) = arrived {
                    self.pass(s, port, arrived.from, &arrived.bytes);
                }
            }
        }
    }

    fn of(&self, port: PortId) -> SocketAddr {
        if port.0.is_multiple_of(2) { self.address } else { beside(self.address) }
    }

    fn arrive(&mut self, s: &Scene, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        self.pass(s, 2 * self.wire.index, from, bytes)
    }

    fn pass(&mut self, s: &Scene, port: u32, from: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
        let now = Now { mono: s.world.now(), wall: Wall(0) };
        let bytes = Bytes { at: 0, len: packet.len() as u32 };
        self.pool.get_mut(bytes).copy_from_slice(packet);
        let mut sent = Vec::new();
        match self.media.receive(now, PortId(port), from, bytes, &mut self.pool, &mut sent) {
            Verdict::Forward => Some(self.pool.get(sent.pop()?.bytes).to_vec()),
            Verdict::Absorb | Verdict::Answer | Verdict::Discard(_) => None,
        }
    }

    /// Sends us media.
    fn sends(&mut self, s: &mut Scene, packet: &[u8]) {
        let port = 2 * self.plain.index;
        let sealed = self.pass(s, port, INSIDE.parse().expect("an address"), packet);
        let to = self.media.target(self.wire).expect("our address");
        s.world.send(self.address, to, sealed.expect("there are keys"));
    }

    /// What of ours arrives next, opened.
    fn receives(&mut self, s: &mut Scene) -> Option<Vec<u8>> {
        let arrived = s.world.wait(self.address, Duration::from_secs(1))?;
        self.arrive(s, arrived.from, &arrived.bytes)
    }
}

fn protocol(text: &Text) -> &str {
    let line = text.body().lines().find_map(|l| l.strip_prefix("m=audio "));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
}

fn setup(text: &Text) -> &str {
    text.body().lines().find_map(|l| l.trim_end().strip_prefix("a=setup:")).unwrap_or_default()
}

fn plain(at: &str) -> String {
    wire::sdp(at.parse().expect("an address"), 1, "0", "sendrecv")
}

/// A call from a caller who offers `offer` to a callee who answers what `answer` makes of its INVITE.
fn call(s: &mut Scene, offer: &str, answer: impl FnOnce(&Text) -> String) -> (Text, Text) {
    let text = s.request("INVITE", "c1", "442079460000", "", offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &answer(&invite)));
    s.expect(s.callee, "ACK");
    let ok = s.expect_status(s.caller, 200);
    s.acknowledge(&ok);
    (invite, ok)
}

/// The caller re-invites, the callee answers; what each of them heard.
fn change(s: &mut Scene, number: u32, ok: &Text, offer: &str, answer: &str) -> (Text, Text) {
    let text = s.in_dialog("INVITE", number, ok, offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    s.world.send(s.callee, s.node, invite.reply(200, "b", "", answer));
    s.expect(s.callee, "ACK");
    let told = s.expect_status(s.caller, 200);
    let ack = s.in_dialog("ACK", number, ok, "");
    s.world.send(s.caller, s.node, ack);
    s.world.run(Duration::from_millis(10));
    (invite, told)
}

#[test]
fn a_caller_shakes_hands_in_either_role() {
    for (says, answered, role) in [
        (Setup::ActPass, "passive", Role::Active),
        (Setup::Active, "passive", Role::Active),
        (Setup::Passive, "active", Role::Passive),
    ] {
        let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
        let mut caller = Peer::new(&s, CALLER_MEDIA, 5);
        let offer = caller.says(DTLS, says, "a=rtcp-mux\r\n");
        let (invite, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
        assert_eq!((protocol(&invite), setup(&invite)), ("RTP/AVP", ""));
        assert_eq!((protocol(&ok), setup(&ok)), (DTLS, answered));
        assert!(ok.body().contains("a=rtcp-mux"), "{}", ok.raw);
        caller.hears(&s, &ok, role);
        caller.shake(&mut s);
        let packet = wire::rtp(1, 1, b'm');
        caller.sends(&mut s, &packet);
        let callee: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
        let heard = s.world.wait(callee, Duration::from_secs(1)).expect("it was opened");
        assert_eq!(heard.bytes[12..], packet[12..]);
        s.world.send(callee, invite.media().expect("our address"), packet.clone());
        assert_eq!(caller.receives(&mut s).expect("it was sealed")[12..], packet[12..]);
        // On hold and off: the same association, the same role, the same keys; and once more after another
        // process has taken over, which has the keys and another certificate.
        for number in [2, 3] {
            let text = s.in_dialog("INVITE", number, &ok, &offer);
            s.world.send(s.caller, s.node, text);
            s.expect_status(s.caller, 100);
            let inner = s.expect(s.callee, "INVITE");
            s.world.send(s.callee, s.node, inner.reply(200, "b", "", &plain(CALLEE_MEDIA)));
            s.expect(s.callee, "ACK");
            let again = s.expect_status(s.caller, 200);
            assert_eq!(setup(&again), answered);
            let ack = s.in_dialog("ACK", number, &ok, "");
            s.world.send(s.caller, s.node, ack);
            s.world.run(Duration::from_millis(10));
            caller.sends(&mut s, &wire::rtp(number as u16, 1, b'm'));
            assert!(s.world.wait(callee, Duration::from_secs(1)).is_some());
        }
        s.world.hand_over(0);
        caller.sends(&mut s, &wire::rtp(9, 1, b'm'));
        assert!(s.world.wait(callee, Duration::from_secs(1)).is_some(), "keys outlive the process");
        s.finish(&ok);
    }
}

#[test]
fn a_callee_is_offered_both_roles_and_chooses() {
    for (says, role) in [(Setup::Active, Role::Active), (Setup::Passive, Role::Passive)] {
        let mut s = world((Srtp::Off, &[Keying::Sdes]), (Srtp::Required, &[Keying::Dtls]));
        let mut callee = Peer::new(&s, CALLEE_MEDIA, 6);
        let answer = callee.says("UDP/TLS/RTP/SAVP", says, "a=rtcp-mux\r\n");
        let (invite, ok) = call(&mut s, &plain(CALLER_MEDIA), |invite| {
            assert_eq!((protocol(invite), setup(invite)), ("UDP/TLS/RTP/SAVP", "actpass"));
            assert!(invite.body().contains("a=rtcp-mux\r\n"), "{}", invite.raw);
            assert!(invite.body().contains("a=tls-id:"), "{}", invite.raw);
            assert!(!invite.body().contains("a=crypto:"), "{}", invite.raw);
            answer.clone()
        });
        assert_eq!((protocol(&ok), setup(&ok)), ("RTP/AVP", ""));
        callee.hears(&s, &invite, role);
        callee.shake(&mut s);
        let packet = wire::rtp(1, 1, b'm');
        callee.sends(&mut s, &packet);
        let caller: SocketAddr = CALLER_MEDIA.parse().expect("an address");
        assert!(s.world.wait(caller, Duration::from_secs(1)).is_some());
        s.world.send(caller, ok.media().expect("our address"), packet.clone());
        assert_eq!(callee.receives(&mut s).expect("it was sealed")[12..], packet[12..]);
        s.finish(&ok);
    }
}

#[test]
fn a_key_in_the_description_on_one_side_and_a_handshake_on_the_other() {
    let both = [Keying::Dtls, Keying::Sdes];
    let mut s = world((Srtp::Preferred, &both), (Srtp::Preferred, &both));
    let (mut caller, mut callee) = (Peer::new(&s, CALLER_MEDIA, 5), Peer::new(&s, CALLEE_MEDIA, 6));
    // As RFC 8643 has it: the plain profile, and both ways to have keys.
    let offer = caller.says("RTP/AVP", Setup::ActPass, "a=rtcp-mux\r\n");
    let answer = callee.says("RTP/AVP", Setup::Passive, "a=rtcp-mux\r\n");
    let (invite, ok) = call(&mut s, &offer, |invite| {
        assert_eq!((protocol(invite), setup(invite)), ("RTP/AVP", "actpass"));
        assert_eq!(invite.body().matches("a=crypto:").count(), 3);
        answer.clone()
    });
    assert_eq!((protocol(&ok), setup(&ok)), ("RTP/AVP", "passive"));
    caller.hears(&s, &ok, Role::Active);
    callee.hears(&s, &invite, Role::Passive);
    caller.shake(&mut s);
    callee.shake(&mut s);
    let packet = wire::rtp(1, 1, b'm');
    caller.sends(&mut s, &packet);
    assert_eq!(callee.receives(&mut s).expect("sealed anew")[12..], packet[12..]);
}

#[test]
fn each_line_has_a_handshake_of_its_own() {
    let mut s = world((Srtp::Off, &[Keying::Sdes]), (Srtp::Required, &[Keying::Dtls]));
    let caller: SocketAddr = CALLER_MEDIA.parse().expect("an address");
    let video = s.world.peer(&SocketAddr::new(caller.ip(), 4002).to_string());
    let far: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
    let far = s.world.peer(&SocketAddr::new(far.ip(), 6002).to_string());
    // One telephone, one certificate; two endpoints.
    let mut speech = Peer::new(&s, CALLEE_MEDIA, 6);
    let mut picture = Peer::new(&s, &far.to_string(), 6);
    let says = |setup| {
        let lines = sdp::dtls_lines(&speech.twin.fingerprint(), setup, None);
        lines.iter().map(|line| String::from_utf8_lossy(line) + "\r\n").collect::<String>()
    };
    let answer = speech.says("UDP/TLS/RTP/SAVP", Setup::Active, "a=rtcp-mux\r\n")
        + "m=video 6002 UDP/TLS/RTP/SAVPF 96\r\na=rtcp-mux\r\n"
        + &says(Setup::Active);
    let offer = plain(CALLER_MEDIA) + "m=video 4002 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
    let (invite, ok) = call(&mut s, &offer, |_| answer.clone());
    assert!(invite.body().contains(" UDP/TLS/RTP/SAVPF 96\r\n"), "{}", invite.raw);
    assert_eq!(invite.body().matches("a=fingerprint:").count(), 2, "{}", invite.raw);
    let names = invite.body().lines().filter_map(|line| line.strip_prefix("a=tls-id:"));
    let names: Vec<&str> = names.collect();
    assert!(names.len() == 2 && names[0] != names[1], "{}", invite.raw);
    assert!(ok.body().contains(" RTP/AVPF 96\r\n"), "{}", ok.raw);
    speech.hears(&s, &invite, Role::Active);
    picture.hears_of(&s, &invite, 1, Role::Active);
    picture.shake(&mut s);
    let packet = wire::rtp(1, 1, b'v');
    picture.sends(&mut s, &packet);
    let heard = s.world.wait(video, Duration::from_secs(1)).expect("it was opened");
    assert_eq!(heard.bytes[12..], packet[12..]);
    // Speech has none before its own.
    s.world.send(caller, ok.media().expect("our address"), packet.clone());
    assert!(s.world.wait(speech.address, Duration::from_millis(300)).is_none());
    speech.shake(&mut s);
    s.world.send(caller, ok.media().expect("our address"), wire::rtp(2, 1, b'm'));
    assert!(speech.receives(&mut s).is_some());
    s.finish(&ok);
}

#[test]
fn hands_are_shaken_again_after_a_fax() {
    let mut s = world((Srtp::Preferred, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let mut caller = Peer::new(&s, CALLER_MEDIA, 5);
    let callee: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
    let offer = caller.says(DTLS, Setup::ActPass, "a=rtcp-mux\r\n");
    let (_, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
    caller.hears(&s, &ok, Role::Active);
    caller.shake(&mut s);
    caller.sends(&mut s, &wire::rtp(1, 1, b'm'));
    assert!(s.world.wait(callee, Duration::from_secs(1)).is_some());
    let fax = |at: &str| {
        let speech = plain(at);
        let (head, media) = speech.split_once("m=audio ").expect("a media line");
        let (port, _) = media.split_once(' ').expect("a port");
        format!("{head}m=image {port} udptl t38\r\n")
    };
    let (_, told) = change(&mut s, 2, &ok, &fax(CALLER_MEDIA), &fax(CALLEE_MEDIA));
    assert!(!told.body().contains("a=fingerprint"), "{}", told.raw);
    let mut plan = Plan::towards(ok.media().expect("our address"));
    plan.carries = Carries::Fax;
    caller.media.program(s.world.now(), caller.wire, plan);
    // The same certificate on both sides, and another association.
    let (invite, told) = change(&mut s, 3, &ok, &offer, &plain(CALLEE_MEDIA));
    assert_eq!((protocol(&told), setup(&told)), (DTLS, "passive"));
    s.world.send(callee, invite.media().expect("our address"), wire::rtp(2, 1, b'm'));
    let early = s.world.wait(caller.address, Duration::from_millis(300));
    assert!(early.is_none(), "nothing is sent under keys that were used");
    caller.hears(&s, &told, Role::Active);
    caller.shake(&mut s);
    let packet = wire::rtp(3, 1, b'm');
    caller.sends(&mut s, &packet);
    let heard = s.world.wait(callee, Duration::from_secs(1)).expect("it was opened");
    assert_eq!(heard.bytes[12..], packet[12..]);
    s.world.send(callee, invite.media().expect("our address"), packet.clone());
    assert_eq!(caller.receives(&mut s).expect("it was sealed")[12..], packet[12..]);
    s.finish(&ok);
}

/// RTCP crosses between a peer whose RTCP has a port of its own and a plain one, hidden on the one side.
fn reports_cross(s: &mut Scene, peer: &mut Peer, plain: SocketAddr, ours: SocketAddr) {
    let second = Duration::from_secs(1);
    s.world.send(beside(plain), beside(ours), wire::rtcp(9));
    let arrived = s.world.wait(beside(peer.address), second).expect("it has RTCP");
    assert!(arrived.bytes.len() > wire::rtcp(9).len(), "it is hidden");
    let port = 2 * peer.wire.index + 1;
    assert!(peer.pass(s, port, arrived.from, &arrived.bytes).is_some(), "and it can open it");
    let inside = beside(INSIDE.parse().expect("an address"));
    let sealed = peer.pass(s, 2 * peer.plain.index + 1, inside, &wire::rtcp(7));
    s.world.send(beside(peer.address), arrived.from, sealed.expect("there are keys"));
    assert!(s.world.wait(beside(plain), second).is_some(), "it was opened");
    // In the clear nothing gets in.
    s.world.send(beside(peer.address), arrived.from, wire::rtcp(7));
    assert!(s.world.wait(beside(plain), second).is_none());
}

#[test]
fn a_caller_that_does_not_share_its_port_has_a_handshake_for_each() {
    for (says, role) in [(Setup::ActPass, Role::Active), (Setup::Passive, Role::Passive)] {
        let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
        let mut caller = Peer::apart(&mut s, CALLER_MEDIA, 5);
        let callee: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
        s.world.peer(&beside(callee).to_string());
        let offer = caller.says(DTLS, says, "");
        let (invite, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
        assert!(!ok.body().contains("a=rtcp-mux"), "{}", ok.raw);
        caller.hears(&s, &ok, role);
        caller.shake(&mut s);
        caller.sends(&mut s, &wire::rtp(1, 1, b'm'));
        assert!(s.world.wait(callee, Duration::from_secs(1)).is_some());
        let ours = invite.media().expect("our address");
        reports_cross(&mut s, &mut caller, callee, ours);
        s.world.hand_over(0);
        reports_cross(&mut s, &mut caller, callee, ours);
        // Another description has it share the port: the keys of speech are for both.
        caller.rtcp_mux = true;
        let muxed = offer.clone() + "a=rtcp-mux\r\n";
        let (_, told) = change(&mut s, 2, &ok, &muxed, &plain(CALLEE_MEDIA));
        assert!(told.body().contains("a=rtcp-mux"), "{}", told.raw);
        s.world.send(beside(callee), beside(ours), wire::rtcp(9));
        assert!(s.world.wait(caller.address, Duration::from_secs(1)).is_some());
        s.finish(&ok);
    }
}

#[test]
fn a_callee_that_refuses_to_share_its_port_has_a_handshake_for_each() {
    for (says, role) in [(Setup::Active, Role::Active), (Setup::Passive, Role::Passive)] {
        let mut s = world((Srtp::Off, &[Keying::Sdes]), (Srtp::Required, &[Keying::Dtls]));
        let mut callee = Peer::apart(&mut s, CALLEE_MEDIA, 6);
        let caller: SocketAddr = CALLER_MEDIA.parse().expect("an address");
        s.world.peer(&beside(caller).to_string());
        let answer = callee.says("UDP/TLS/RTP/SAVP", says, "");
        let (invite, ok) = call(&mut s, &plain(CALLER_MEDIA), |_| answer.clone());
        assert!(invite.body().contains("a=rtcp-mux\r\n"), "{}", invite.raw);
        callee.hears(&s, &invite, role);
        callee.shake(&mut s);
        let ours = ok.media().expect("our address");
        reports_cross(&mut s, &mut callee, caller, ours);
        s.finish(&ok);
    }
}

#[test]
fn a_call_outlives_a_handshake_that_never_comes_to_its_other_port() {
    for (says, role) in [(Setup::ActPass, Role::Active), (Setup::Passive, Role::Passive)] {
        let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
        let mut caller = Peer::new(&s, CALLER_MEDIA, 5);
        let callee: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
        let offer = caller.says(DTLS, says, "");
        let (_, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
        caller.hears(&s, &ok, role);
        caller.shake(&mut s);
        s.world.run(Duration::from_secs(120));
        caller.sends(&mut s, &wire::rtp(1, 1, b'm'));
        assert!(s.world.wait(callee, Duration::from_secs(1)).is_some(), "it has its media");
        s.finish(&ok);
    }
}

/// Both sides are told that the call ends for the caller's certificate, and so is billing.
fn ends_for_its_certificate(mut s: Scene) {
    s.world.run(Duration::from_secs(1));
    for peer in [s.caller, s.callee] {
        let bye = s.expect(peer, "BYE");
        assert!(bye.get("Reason").contains("dtls_fingerprint"), "{}", bye.raw);
        s.world.send(peer, s.node, bye.reply(200, "", "", ""));
    }
    s.world.run(Duration::from_secs(40));
    assert_eq!(*s.world.cdrs()[0].reason, *b"dtls_fingerprint");
}

#[test]
fn a_certificate_that_was_not_promised_on_the_other_port_ends_the_call() {
    let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let mut promised = Peer::new(&s, CALLER_MEDIA, 5);
    let mut comes = Peer::apart(&mut s, CALLER_MEDIA, 7);
    let offer = promised.says(DTLS, Setup::Passive, "");
    let (_, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
    promised.hears(&s, &ok, Role::Passive);
    promised.shake(&mut s);
    comes.hears(&s, &ok, Role::Passive);
    comes.shake(&mut s);
    ends_for_its_certificate(s);
}

#[test]
fn a_certificate_that_was_not_promised_ends_the_call() {
    let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let (promised, mut comes) = (Peer::new(&s, CALLER_MEDIA, 5), Peer::new(&s, CALLER_MEDIA, 7));
    let offer = promised.says(DTLS, Setup::ActPass, "a=rtcp-mux\r\n");
    let (_, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
    comes.hears(&s, &ok, Role::Active);
    comes.shake(&mut s);
    ends_for_its_certificate(s);
}

#[test]
fn an_answered_call_without_a_handshake_ends_by_name() {
    let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let caller = Peer::new(&s, CALLER_MEDIA, 5);
    let offer = caller.says(DTLS, Setup::Passive, "a=rtcp-mux\r\n");
    call(&mut s, &offer, |_| plain(CALLEE_MEDIA));
    s.world.run(Duration::from_secs(20));
    assert!(s.within(s.callee, Duration::ZERO).is_none(), "there is time yet");
    s.world.run(Duration::from_secs(45));
    let bye = s.expect(s.callee, "BYE");
    assert!(bye.get("Reason").contains("dtls_failed"), "{}", bye.raw);
}

#[test]
fn what_breaks_the_terms_is_refused_by_name() {
    let s = world((Srtp::Off, &[]), (Srtp::Off, &[]));
    let peer = Peer::new(&s, CALLER_MEDIA, 5);
    let good = peer.says(DTLS, Setup::ActPass, "");
    let (plain, sdes): (_, &[Keying]) = (plain(CALLER_MEDIA), &[Keying::Sdes]);
    let dtls: &[Keying] = &[Keying::Dtls];
    let bare = plain.replace("RTP/AVP", "RTP/SAVP");
    let cases = [
        (Srtp::Required, dtls, plain.clone(), "srtp_required"),
        (Srtp::Required, dtls, bare, "no_srtp_keys"),
        (Srtp::Required, sdes, good.clone(), "no_srtp_keys"),
        (Srtp::Off, dtls, good.clone(), "srtp_forbidden"),
        (Srtp::Preferred, dtls, good.replace("actpass", "holdconn"), "bad_dtls"),
        (Srtp::Preferred, dtls, good.replace("sha-256", "sha-1"), "bad_dtls"),
    ];
    for (srtp, keys, offer, reason) in cases {
        let mut s = world((srtp, keys), (Srtp::Off, sdes));
        let text = s.request("INVITE", "c1", "442079460000", "", &offer);
        s.world.send(s.caller, s.node, text);
        let refused = s.expect_status(s.caller, 488);
        assert!(refused.get("Reason").contains(reason), "{reason}: {}", refused.raw);
    }
    let digest = peer.twin.fingerprint();
    assert_eq!(
        peer.twin.vouched(),
        Fingerprint::new(Hash::Sha256, &digest).expect("of its length")
    );
}

/// Speech and a picture in one bundle (RFC 9143), as browsers offer them; `video`: how the second line begins.
fn bundled(peer: &Peer, more: &str, video: &str) -> String {
    let group = format!("t=0 0\r\na=group:BUNDLE 0 1\r\n{more}");
    let speech = peer.says(DTLS, Setup::ActPass, "a=rtcp-mux\r\na=mid:0\r\n");
    let lines = sdp::dtls_lines(&peer.twin.fingerprint(), Setup::ActPass, None);
    let lines = lines.iter().map(|line| String::from_utf8_lossy(line) + "\r\n");
    speech.replacen("t=0 0\r\n", &group, 1)
        + &format!(
            "m=video {video} {DTLS} 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\na=mid:1\r\n"
        )
        + &lines.collect::<String>()
}

const ICE: &str = "a=ice-ufrag:them\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n";

#[test]
fn of_a_bundle_beside_ice_speech_alone_is_taken() {
    // Each at an address of its own (balanced), or the picture only where the bundle is (max-bundle).
    for video in ["4002", "0"] {
        let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
        let mut image = (*s.world.image()).clone();
        image.trunks[0].ice = true;
        s.world.reload(image);
        let caller = Peer::new(&s, CALLER_MEDIA, 5);
        let mut offer = bundled(&caller, ICE, video);
        if video == "0" {
            offer += "a=bundle-only\r\n";
        }
        let (invite, ok) = call(&mut s, &offer, |invite| {
            assert!(!invite.body().contains("m=video 4"), "{}", invite.raw);
            plain(CALLEE_MEDIA) + "m=video 0 RTP/AVPF 96\r\n"
        });
        assert!(
            !invite.body().contains("BUNDLE"),
            "it is between the caller and us: {}",
            invite.raw
        );
        assert!(ok.body().contains("\r\na=group:BUNDLE 0\r\n"), "{}", ok.raw);
        assert!(ok.body().contains("\r\nm=video 0 "), "{}", ok.raw);
        let (_, refused) = ok.body().split_once("m=video").expect("the second line");
        assert!(!refused.contains("a="), "nothing is said of it: {refused}");
        assert_eq!(ok.body().matches("a=mid:").count(), 1, "{}", ok.raw);
        s.finish(&ok);
    }
}

#[test]
fn a_bundle_without_ice_is_taken_apart() {
    let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let address: SocketAddr = CALLER_MEDIA.parse().expect("an address");
    let beside = SocketAddr::new(address.ip(), 4002);
    s.world.peer(&beside.to_string());
    let far: SocketAddr = CALLEE_MEDIA.parse().expect("an address");
    let far_video = s.world.peer(&SocketAddr::new(far.ip(), 6002).to_string());
    let mut speech = Peer::new(&s, CALLER_MEDIA, 5);
    let mut picture = Peer::new(&s, &beside.to_string(), 5);
    let offer = bundled(&speech, "", "4002");
    let answer = plain(CALLEE_MEDIA) + "m=video 6002 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n";
    let (invite, ok) = call(&mut s, &offer, |_| answer.clone());
    for text in [&invite, &ok] {
        assert!(!text.body().contains("BUNDLE"), "{}", text.raw);
    }
    // An answer without the group is each line at its own address, with a handshake of its own.
    let told = sdp::parse(ok.body().as_bytes()).expect("well made");
    let ports: Vec<_> = told.media().iter().filter_map(|line| line.rtp()).collect();
    assert!(ports.len() == 2 && ports[0] != ports[1], "{}", ok.raw);
    assert_eq!(ok.body().matches("a=fingerprint:").count(), 2, "{}", ok.raw);
    speech.hears_of(&s, &ok, 0, Role::Active);
    picture.hears_of(&s, &ok, 1, Role::Active);
    for (peer, heard, sound) in [(&mut speech, far, b's'), (&mut picture, far_video, b'v')] {
        peer.shake(&mut s);
        let packet = wire::rtp(1, 1, sound);
        peer.sends(&mut s, &packet);
        let heard = s.world.wait(heard, Duration::from_secs(1)).expect("it was opened");
        assert_eq!(heard.bytes[12..], packet[12..]);
    }
    s.finish(&ok);
    // What has no address but the bundle's is refused with it (RFC 9143 §7.3.3).
    let mut s = world((Srtp::Required, &[Keying::Dtls]), (Srtp::Off, &[Keying::Sdes]));
    let speech = Peer::new(&s, CALLER_MEDIA, 5);
    let offer = bundled(&speech, "", "0") + "a=bundle-only\r\n";
    let (_, ok) = call(&mut s, &offer, |_| plain(CALLEE_MEDIA) + "m=video 0 RTP/AVPF 96\r\n");
    assert!(ok.body().contains("\r\nm=video 0 ") && !ok.body().contains("BUNDLE"), "{}", ok.raw);
    s.finish(&ok);
}
