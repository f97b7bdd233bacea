//! Encrypted media as it is agreed upon in SIP: who is offered what, what is refused, and that what was
//! agreed is what is sent. The peers' ends are endpoints of our own relay, keyed by what SIP said.

use base::{Bytes, Instant, Now, Pool, PortId, Wall};
use media::srtp::{Keys, MasterKey, Suite};
use media::{EndKey, Media, MediaPort, Plan, Security, Verdict};
use sbc::policy::kinds::Kinds;
use sbc::policy::security::{MediaSecurity, Srtp};
use sbc::sdp::Crypto;
use sim::Options;
use sim::scene::{
    CALLEE, CALLEE_MEDIA, CALLER_MEDIA, NODE, SECOND, Scene, call_on, executing, image, replaces,
};
use sim::wire::{self, Text};
use std::net::SocketAddr;
use std::time::Duration;

const SUITE: Suite = Suite::AesCm128HmacSha1_80;

/// A world of one shard: what the caller's trunk and the callees' want.
fn world(caller: Srtp, callee: Srtp) -> Scene {
    let security = |srtp| MediaSecurity { srtp, over_plain_sip: true, ..Default::default() };
    let mut image = image();
    image.trunks.iter_mut().for_each(|trunk| trunk.media = Kinds::ALL);
    image.trunks[0].media_security = security(caller);
    image.trunks[1].media_security = security(callee);
    image.trunks[2].media_security = security(callee);
    Scene::with(image, Options { shards: 1, ..Default::default() })
}

fn key(seed: u8) -> MasterKey {
    MasterKey::new(SUITE, &[seed; 30]).expect("of its length")
}

fn line(tag: usize, seed: u8) -> String {
    String::from_utf8(Crypto::line(tag, SUITE, &key(seed))).expect("ASCII")
}

/// A description with or without keys.
fn description(at: &str, protocol: &str, crypto: Option<String>) -> String {
    let body = wire::sdp(at.parse().expect("an address"), 1, "0", "sendrecv");
    let crypto = crypto.map(|line| format!("{line}\r\n")).unwrap_or_default();
    format!("{}{crypto}", body.replace("RTP/AVP", protocol))
}

/// The lines of keys in a description.
fn keys(text: &Text) -> Vec<Crypto> {
    let values = text.body().lines().filter_map(|l| l.trim_end().strip_prefix("a=crypto:"));
    values.map(|value| Crypto::read(value.as_bytes()).expect("well made")).collect()
}

fn protocol(text: &Text) -> &str {
    let line = text.body().lines().find_map(|l| l.strip_prefix("m=audio "));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
}

/// What a peer protects and opens packets with.
struct Cipher {
    media: Media,
    pool: Pool,
    sent: Vec<base::PacketSend>,
    plain: EndKey,
}

const INSIDE: &str = "192.0.2.7:7000";
const OUTSIDE: &str = "192.0.2.8:8000";

impl Cipher {
    fn new(suite: Suite, theirs: MasterKey, ours: MasterKey) -> Cipher {
        let port = |i: u32| MediaPort {
            rtp: PortId(2 * i),
            rtcp: PortId(2 * i + 1),
            address: SocketAddr::from(([192, 0, 2, 9], 9_000 + 2 * i as u16)),
            interface: 0,
        };
        let mut media = Media::new((0..2).map(port).collect(), [3; 32], Instant(0));
        let ends = [INSIDE, OUTSIDE].map(|leg| {
            let end = media.reserve(0, Instant(0)).expect("a port");
            media.program(Instant(0), end, Plan::towards(leg.parse().expect("an address")));
            end
        });
        let [plain, wire] = ends;
        let keys = Keys { suite, ingress: theirs, egress: ours, mki_len: 0 };
        let security = Security::Keys(Box::new(keys));
        let plan = Plan::towards(OUTSIDE.parse().expect("an address"));
        media.program(Instant(0), wire, Plan { security, ..plan });
        media.join(plain, wire);
        Cipher { media, pool: Pool::new(4_096), sent: Vec::new(), plain }
    }

    fn pass(&mut self, port: u32, source: &str, packet: &[u8]) -> Option<Vec<u8>> {
        let (now, source) = (Now { mono: Instant(0), wall: Wall(0) }, source.parse().ok()?);
        let bytes = Bytes { at: 0, len: packet.len() as u32 };
        self.pool.get_mut(bytes).copy_from_slice(packet);
        let (pool, sent) = (&mut self.pool, &mut self.sent);
        match self.media.receive(now, PortId(port), source, bytes, pool, sent) {
            Verdict::Forward => Some(self.pool.get(self.sent.pop()?.bytes).to_vec()),
            Verdict::Absorb | Verdict::Answer | Verdict::Discard(_) => None,
        }
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        assert_eq!(self.plain.index, 0);
        self.pass(0, INSIDE, packet).expect("sealed")
    }

    fn open(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.pass(2, OUTSIDE, packet)
    }
}

/// A packet from one peer to the other; how it arrives.
fn carry(s: &mut Scene, from: &str, to: &Text, packet: &[u8], at: &str) -> Option<Vec<u8>> {
    let (from, at) = (from.parse().expect("an address"), at.parse().expect("an address"));
    s.world.send(from, to.media().expect("our address"), packet);
    s.world.wait(at, Duration::from_secs(1)).map(|arrived| arrived.bytes.to_vec())
}

/// A call from a caller who offers `offer` to a callee who answers what `answer` makes of its INVITE.
fn call(s: &mut Scene, offer: &str, answer: impl Fn(&Text) -> String) -> (Text, Text) {
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
fn an_encrypted_caller_talks_to_a_plain_callee_and_back() {
    let mut s = world(Srtp::Required, Srtp::Off);
    let offer = description(CALLER_MEDIA, "RTP/SAVP", Some(line(7, 1)));
    let plain = description(CALLEE_MEDIA, "RTP/AVP", None);
    let (invite, ok) = call(&mut s, &offer, |_| plain.clone());
    assert_eq!((protocol(&invite), keys(&invite).len()), ("RTP/AVP", 0));
    let ours = keys(&ok);
    assert_eq!((protocol(&ok), ours.len(), ours[0].tag), ("RTP/SAVP", 1, 7));
    assert_ne!(ours[0].key, key(1), "our key is our own");
    let mut caller = Cipher::new(SUITE, ours[0].key.clone(), key(1));
    let packet = wire::rtp(1, 1, b'm');
    let heard = carry(&mut s, CALLER_MEDIA, &ok, &caller.seal(&packet), CALLEE_MEDIA);
    assert_eq!(heard.expect("it was opened")[12..], packet[12..]);
    let unprotected = carry(&mut s, CALLER_MEDIA, &ok, &packet, CALLEE_MEDIA);
    assert_eq!(unprotected, None, "what is not encrypted is not heard");
    let back = carry(&mut s, CALLEE_MEDIA, &invite, &packet, CALLER_MEDIA).expect("it was sealed");
    assert_ne!(back[12..28], packet[12..28]);
    assert_eq!(caller.open(&back).expect("it is ours")[12..], packet[12..]);
    // The same keys again, on hold and off: nothing begins anew.
    for (number, direction) in [(2, "sendonly"), (3, "sendrecv")] {
        let again = offer.replace("a=sendrecv", &format!("a={direction}"));
        let text = s.in_dialog("INVITE", number, &ok, &again);
        s.world.send(s.caller, s.node, text);
        s.expect_status(s.caller, 100);
        let inner = s.expect(s.callee, "INVITE");
        s.world.send(s.callee, s.node, inner.reply(200, "b", "", &plain));
        s.expect(s.callee, "ACK");
        let held = s.expect_status(s.caller, 200);
        assert_eq!(keys(&held)[0].key, ours[0].key);
        let ack = s.in_dialog("ACK", number, &ok, "");
        s.world.send(s.caller, s.node, ack);
        s.world.run(Duration::from_millis(10));
    }
    let sealed = caller.seal(&wire::rtp(2, 1, b'm'));
    assert!(carry(&mut s, CALLER_MEDIA, &ok, &sealed, CALLEE_MEDIA).is_some());
    assert_eq!(carry(&mut s, CALLER_MEDIA, &ok, &sealed, CALLEE_MEDIA), None, "a replay");
    // The process goes, the call stays: our packets come from another source, under the same key.
    s.world.hand_over(0);
    let sealed = caller.seal(&wire::rtp(3, 1, b'm'));
    assert!(carry(&mut s, CALLER_MEDIA, &ok, &sealed, CALLEE_MEDIA).is_some());
    let packet = wire::rtp(2, 1, b'm');
    let next = carry(&mut s, CALLEE_MEDIA, &invite, &packet, CALLER_MEDIA).expect("sealed");
    assert_ne!(next[8..12], back[8..12]);
    assert!(caller.open(&next).is_some());
    s.finish(&ok);
}

/// Ports and protocols of a description's lines.
fn lines(text: &Text) -> Vec<(u16, String)> {
    let lines = text.body().lines().filter_map(|line| line.strip_prefix("m="));
    let words = lines.map(|line| line.split(' ').skip(1));
    words
        .map(|mut words| {
            let port = words.next().expect("a port").parse().expect("a number");
            (port, words.next().expect("a protocol").to_owned())
        })
        .collect()
}

fn beside(at: &str, port: u16) -> SocketAddr {
    SocketAddr::new(at.parse::<SocketAddr>().expect("an address").ip(), port)
}

#[test]
fn further_lines_are_protected_as_their_trunks_want() {
    let mut s = world(Srtp::Required, Srtp::Off);
    let offer = description(CALLER_MEDIA, "RTP/SAVP", Some(line(1, 1)))
        + "m=video 4002 RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n"
        + "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
        + &format!("{}\r\nm=text 4004 RTP/SAVP 98\r\na=rtpmap:98 t140/1000\r\n", line(1, 2))
        + &format!("{}\r\nm=text 4006 RTP/AVP 99\r\na=rtpmap:99 t140/1000\r\n", line(5, 3));
    let answer = description(CALLEE_MEDIA, "RTP/AVP", None)
        + "m=video 6002 RTP/AVPF 96\r\nm=text 6004 RTP/AVP 98\r\nm=text 0 RTP/AVP 99\r\n";
    let (invite, ok) = call(&mut s, &offer, |_| answer.clone());
    // Each is offered in the clear where that is wanted; what came in the clear and may not is refused.
    let asked = lines(&invite);
    let protocols: Vec<&str> = asked.iter().map(|(_, protocol)| protocol.as_str()).collect();
    assert_eq!(protocols, ["RTP/AVP", "RTP/AVPF", "RTP/AVP", "RTP/AVP"], "{}", invite.raw);
    assert_eq!((asked[2].0 != 0, asked[3].0), (true, 0), "{}", invite.raw);
    assert!(!invite.body().contains("crypto") && !invite.body().contains("rtx"), "{}", invite.raw);
    assert!(invite.body().contains("a=rtcp-fb:96 nack pli\r\n"), "{}", invite.raw);
    let told = lines(&ok);
    let protocols: Vec<&str> = told.iter().map(|(_, protocol)| protocol.as_str()).collect();
    assert_eq!(protocols[..3], ["RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"], "{}", ok.raw);
    let ours = keys(&ok);
    assert_eq!((ours.len(), ours[2].tag, told[3].0), (3, 5, 0), "{}", ok.raw);
    assert!(ours[0].key != ours[1].key && ours[1].key != ours[2].key, "one for each line");
    for (at, theirs, near, far) in [(1, 2, 4002, 6002), (2, 3, 4004, 6004)] {
        let mut caller = Cipher::new(SUITE, ours[at].key.clone(), key(theirs));
        let near = s.world.peer(&beside(CALLER_MEDIA, near).to_string());
        let far = s.world.peer(&beside(CALLEE_MEDIA, far).to_string());
        let packet = wire::rtp(1, 1, b'm');
        let node = |text: &Text, port| SocketAddr::new(text.media().expect("ours").ip(), port);
        s.world.send(near, node(&ok, told[at].0), caller.seal(&packet));
        let heard = s.world.wait(far, Duration::from_secs(1)).expect("it was opened");
        assert_eq!(heard.bytes[12..], packet[12..]);
        s.world.send(near, node(&ok, told[at].0), packet.clone());
        assert!(s.world.wait(far, Duration::from_millis(300)).is_none(), "not in the clear");
        s.world.send(far, node(&invite, asked[at].0), packet.clone());
        let sealed = s.world.wait(near, Duration::from_secs(1)).expect("it was sealed");
        assert_eq!(caller.open(&sealed.bytes).expect("it is ours")[12..], packet[12..]);
    }
    // What was agreed outlives the process.
    s.world.hand_over(0);
    let mut caller = Cipher::new(SUITE, ours[2].key.clone(), key(3));
    let at = SocketAddr::new(invite.media().expect("ours").ip(), asked[2].0);
    s.world.send(beside(CALLEE_MEDIA, 6004), at, wire::rtp(2, 1, b'm'));
    let sealed = s.world.wait(beside(CALLER_MEDIA, 4004), Duration::from_secs(1)).expect("sealed");
    assert!(caller.open(&sealed.bytes).is_some());
    s.finish(&ok);
}

#[test]
fn a_further_line_is_never_in_the_clear_where_keys_are_required() {
    let mut s = world(Srtp::Off, Srtp::Required);
    let offer = description(CALLER_MEDIA, "RTP/AVP", None)
        + "m=video 4002 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\nm=text 4004 RTP/AVP 98\r\n"
        + "m=video 4006 RTP/SAVPF 96\r\n"
        + &format!("{}\r\n", line(1, 9));
    // The callee takes text with a key, and video without.
    let answer = |invite: &Text| {
        let asked = keys(invite);
        let lines = lines(invite);
        let protocols: Vec<&str> = lines.iter().map(|(_, protocol)| protocol.as_str()).collect();
        assert_eq!(protocols[..3], ["RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"], "{}", invite.raw);
        assert_eq!((asked.len(), lines[3].0), (9, 0), "{}", invite.raw);
        let tag = asked.iter().find(|key| key.suite == SUITE).expect("ours").tag as usize;
        description(CALLEE_MEDIA, "RTP/SAVP", Some(line(tag, 1)))
            + "m=video 6002 RTP/SAVPF 96\r\nm=text 6004 RTP/SAVP 98\r\n"
            + &format!("{}\r\nm=video 0 RTP/SAVPF 96\r\n", line(tag, 2))
    };
    let (invite, ok) = call(&mut s, &offer, answer);
    let told = lines(&ok);
    assert_eq!(
        told.iter().map(|(port, _)| *port != 0).collect::<Vec<_>>(),
        [true, false, true, false]
    );
    assert!(!ok.body().contains("crypto"), "{}", ok.raw);
    let node = invite.media().expect("ours").ip();
    s.world.peer(&beside(CALLEE_MEDIA, 6004).to_string());
    s.world.send(
        beside(CALLER_MEDIA, 4004),
        SocketAddr::new(node, told[2].0),
        wire::rtp(1, 1, b'm'),
    );
    let heard = s.world.wait(beside(CALLEE_MEDIA, 6004), Duration::from_secs(1)).expect("sealed");
    let asked = keys(&invite).into_iter().filter(|key| key.suite == SUITE).nth(2).expect("text");
    let mut callee = Cipher::new(SUITE, asked.key, key(2));
    assert!(callee.open(&heard.bytes).is_some());
    s.finish(&ok);
}

#[test]
fn keys_are_drawn_anew_after_a_fax() {
    let mut s = world(Srtp::Preferred, Srtp::Off);
    let offer = description(CALLER_MEDIA, "RTP/SAVP", Some(line(1, 1)));
    let plain = description(CALLEE_MEDIA, "RTP/AVP", None);
    let (invite, ok) = call(&mut s, &offer, |_| plain.clone());
    let before = keys(&ok)[0].key.clone();
    let packet = wire::rtp(1, 1, b'm');
    let mut caller = Cipher::new(SUITE, before.clone(), key(1));
    let heard = carry(&mut s, CALLEE_MEDIA, &invite, &packet, CALLER_MEDIA).expect("sealed");
    assert!(caller.open(&heard).is_some());
    let fax = |at: &str| {
        let speech = description(at, "RTP/AVP", None);
        let (head, media) = speech.split_once("m=audio ").expect("a media line");
        let (port, _) = media.split_once(' ').expect("a port");
        format!("{head}m=image {port} udptl t38\r\n")
    };
    let (asked, told) = change(&mut s, 2, &ok, &fax(CALLER_MEDIA), &fax(CALLEE_MEDIA));
    assert!(keys(&asked).is_empty() && keys(&told).is_empty(), "{}", told.raw);
    let datagram = [0, 7, 1, 6, 0, 0];
    // The endpoints stay where they were.
    let heard = carry(&mut s, CALLER_MEDIA, &ok, &datagram, CALLEE_MEDIA);
    assert_eq!(heard.as_deref(), Some(&datagram[..]), "T.38 is not encrypted");
    // Speech again: our numbers of RTCP begin at zero, so not under a key that was used.
    let offer = description(CALLER_MEDIA, "RTP/SAVP", Some(line(1, 2)));
    let (_, told) = change(&mut s, 3, &ok, &offer, &plain);
    let after = keys(&told)[0].key.clone();
    assert!(after != before && after != key(2), "{}", told.raw);
    let mut caller = Cipher::new(SUITE, after, key(2));
    let sealed = caller.seal(&packet);
    assert!(carry(&mut s, CALLER_MEDIA, &told, &sealed, CALLEE_MEDIA).is_some());
    let packet = wire::rtp(2, 1, b'm');
    let heard = carry(&mut s, CALLEE_MEDIA, &invite, &packet, CALLER_MEDIA).expect("sealed");
    assert_eq!(caller.open(&heard).expect("under the new key")[12..], packet[12..]);
    s.finish(&ok);
}

#[test]
fn a_callee_that_requires_keys_is_offered_every_suite_and_chooses() {
    let mut s = world(Srtp::Off, Srtp::Required);
    let offer = description(CALLER_MEDIA, "RTP/AVP", None);
    let choose = |invite: &Text| {
        let (protocol, offered) = (protocol(invite), keys(invite));
        assert_eq!(protocol, "RTP/SAVP");
        let suites: Vec<Suite> = offered.iter().map(|crypto| crypto.suite).collect();
        assert_eq!(suites, MediaSecurity::SUITES);
        assert!(offered[0].key != offered[1].key && offered[1].key != offered[2].key);
        description(CALLEE_MEDIA, "RTP/SAVP", Some(line(3, 2)))
    };
    let (invite, ok) = call(&mut s, &offer, choose);
    assert_eq!((protocol(&ok), keys(&ok).len()), ("RTP/AVP", 0));
    let mut callee = Cipher::new(SUITE, keys(&invite)[2].key.clone(), key(2));
    let packet = wire::rtp(1, 1, b'm');
    let heard = carry(&mut s, CALLER_MEDIA, &ok, &packet, CALLEE_MEDIA).expect("sealed");
    assert_eq!(callee.open(&heard).expect("ours")[12..], packet[12..]);
    let sealed = callee.seal(&packet);
    assert!(carry(&mut s, CALLEE_MEDIA, &invite, &sealed, CALLER_MEDIA).is_some());
    // The callee takes new keys: what it sends under them is heard.
    let again = description(CALLEE_MEDIA, "RTP/SAVP", Some(line(1, 9)));
    let text = s.from_callee("INVITE", 1, &invite, "b", &again);
    s.world.send(s.callee, s.node, text);
    s.expect_status(s.callee, 100);
    let inner = s.expect(s.caller, "INVITE");
    s.world.send(s.caller, s.node, inner.reply(200, "x", "", &offer));
    s.expect(s.caller, "ACK");
    let rekeyed = s.expect_status(s.callee, 200);
    let ours = keys(&rekeyed);
    assert_ne!(ours[0].key, keys(&invite)[2].key, "new keys are answered with a new key");
    s.world.run(Duration::from_millis(10));
    let mut callee = Cipher::new(SUITE, ours[0].key.clone(), key(9));
    let sealed = callee.seal(&wire::rtp(5, 1, b'm'));
    assert!(carry(&mut s, CALLEE_MEDIA, &invite, &sealed, CALLER_MEDIA).is_some());
    let heard = carry(&mut s, CALLER_MEDIA, &ok, &wire::rtp(2, 1, b'm'), CALLEE_MEDIA);
    assert!(callee.open(&heard.expect("sealed")).is_some());
}

#[test]
fn keys_are_preferred_where_both_have_them() {
    for keyed in [true, false] {
        let mut s = world(Srtp::Preferred, Srtp::Preferred);
        let offer = description(CALLER_MEDIA, "RTP/AVP", keyed.then(|| line(1, 1)));
        let answer = description(CALLEE_MEDIA, "RTP/AVP", keyed.then(|| line(3, 2)));
        let (invite, ok) = call(&mut s, &offer, |_| answer.clone());
        assert_eq!((protocol(&invite), keys(&invite).len()), ("RTP/AVP", 3), "RFC 8643");
        assert_eq!((protocol(&ok), keys(&ok).len()), ("RTP/AVP", usize::from(keyed)));
        let packet = wire::rtp(1, 1, b'm');
        if !keyed {
            let heard = carry(&mut s, CALLER_MEDIA, &ok, &packet, CALLEE_MEDIA);
            assert_eq!(heard, Some(packet), "as it came");
            continue;
        }
        let mut caller = Cipher::new(SUITE, keys(&ok)[0].key.clone(), key(1));
        let mut callee = Cipher::new(SUITE, keys(&invite)[2].key.clone(), key(2));
        let heard = carry(&mut s, CALLER_MEDIA, &ok, &caller.seal(&packet), CALLEE_MEDIA);
        assert_eq!(callee.open(&heard.expect("sealed")).expect("ours")[12..], packet[12..]);
    }
}

#[test]
fn what_breaks_the_terms_is_refused_by_name() {
    let plain = description(CALLER_MEDIA, "RTP/AVP", None);
    let keyed = description(CALLER_MEDIA, "RTP/SAVP", Some(line(1, 1)));
    let strange = keyed.replace("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32");
    let keyless = description(CALLER_MEDIA, "RTP/SAVP", None);
    let cases = [
        (Srtp::Required, &plain, "srtp_required"),
        (Srtp::Required, &strange, "no_srtp_suite"),
        (Srtp::Preferred, &keyless, "no_srtp_suite"),
        (Srtp::Off, &keyed, "srtp_forbidden"),
    ];
    for (policy, offer, reason) in cases {
        let mut s = world(policy, Srtp::Off);
        let text = s.request("INVITE", "c1", "442079460000", "", offer);
        s.world.send(s.caller, s.node, text);
        let refused = s.expect_status(s.caller, 488);
        assert!(refused.get("Reason").contains(reason), "{}", refused.raw);
    }
}

#[test]
fn keys_do_not_cross_in_sip_that_anybody_reads() {
    let keyed = description(CALLER_MEDIA, "RTP/SAVP", Some(line(1, 1)));
    for (near, far) in [(Srtp::Required, Srtp::Off), (Srtp::Off, Srtp::Required)] {
        let mut image = image();
        image.trunks[0].media_security.srtp = near;
        image.trunks[1].media_security.srtp = far;
        image.trunks[2].media_security.srtp = far;
        let mut s = Scene::with(image, Options { shards: 1, ..Default::default() });
        let plain = description(CALLER_MEDIA, "RTP/AVP", None);
        let offer = if near == Srtp::Required { &keyed } else { &plain };
        let text = s.request("INVITE", "c1", "442079460000", "", offer);
        s.world.send(s.caller, s.node, text);
        if near == Srtp::Required {
            let refused = s.expect_status(s.caller, 488);
            assert!(refused.get("Reason").contains("srtp_keys_exposed"), "{}", refused.raw);
        } else {
            s.expect_status(s.caller, 100);
            s.expect_status(s.caller, 503);
            s.world.run(Duration::from_secs(40));
            let attempts = &s.world.cdrs()[0].attempts;
            assert!(attempts.iter().all(|attempt| *attempt.reason == *b"srtp_keys_exposed"));
        }
        assert!(s.within(s.callee, Duration::ZERO).is_none(), "nobody is told a key");
    }
}

#[test]
fn an_answer_without_the_keys_that_were_required_ends_the_attempt() {
    let mut s = world(Srtp::Off, Srtp::Required);
    let text =
        s.request("INVITE", "c1", "442079460000", "", &description(CALLER_MEDIA, "RTP/AVP", None));
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.callee, "INVITE");
    let contact = format!("Contact: <sip:{CALLEE}>\r\n");
    let plain = description(CALLEE_MEDIA, "RTP/AVP", None);
    s.world.send(s.callee, s.node, invite.reply(200, "b", &contact, &plain));
    s.expect(s.callee, "ACK");
    s.expect(s.callee, "BYE");
    let refused = s.expect_status(s.caller, 488);
    assert!(refused.get("Reason").contains("srtp_required"), "{}", refused.raw);
}

const SECOND_MEDIA: &str = "203.0.113.30:4000";

/// A leg with keys joins a call of another shard: there it has another address and other keys of ours, told in one
/// re-INVITE, and what is said goes both ways.
#[test]
fn an_encrypted_leg_moves_to_another_shard() {
    let mut image = executing();
    let srtp = Srtp::Required;
    image.trunks[2].media_security =
        MediaSecurity { srtp, over_plain_sip: true, ..Default::default() };
    let mut s = Scene::with(image, Options::default());
    s.world.peer(SECOND_MEDIA);
    let (_, ok) = s.establish(&call_on(0, "c"));
    let offer = description(CALLER_MEDIA, "RTP/AVP", None);
    let text = s.request("INVITE", &call_on(1, "other"), "79460001", "", &offer);
    s.world.send(s.caller, s.node, text);
    s.expect_status(s.caller, 100);
    let invite = s.expect(s.second, "INVITE");
    let offered = |text: &Text| {
        keys(text).into_iter().find(|crypto| crypto.suite == SUITE).expect("it is offered")
    };
    let before = offered(&invite).key;
    let contact = format!("Contact: <sip:{SECOND}>\r\n");
    let answer = |asked: &Text| {
        description(SECOND_MEDIA, "RTP/SAVP", Some(line(offered(asked).tag as usize, 5)))
    };
    s.world.send(s.second, s.node, invite.reply(200, "x", &contact, &answer(&invite)));
    s.expect(s.second, "ACK");
    let other = s.expect_status(s.caller, 200);
    s.acknowledge(&other);
    let text = s.in_dialog("REFER", 2, &ok, "");
    let to = format!("\r\nRefer-To: <sip:79460001@{NODE}?{}>\r\nContact:", replaces(&other, ""));
    s.world.send(s.caller, s.node, text.replacen("\r\nContact:", &to, 1));
    let mut told: [Option<Text>; 2] = [None, None];
    let mut quiet = false;
    while !quiet {
        quiet = true;
        for peer in [s.caller, s.callee, s.second] {
            while let Some(text) = s.within(peer, Duration::from_millis(2)) {
                quiet = false;
                let (tag, body) = match text.method() {
                    Some("INVITE") if peer == s.second => ("x", answer(&text)),
                    Some("INVITE") => ("b", description(CALLEE_MEDIA, "RTP/AVP", None)),
                    Some("ACK") | None => continue,
                    Some(_) => ("", String::new()),
                };
                let contact = format!("Contact: <sip:{peer}>\r\n");
                s.world.send(peer, s.node, text.reply(200, tag, &contact, &body));
                if text.method() == Some("INVITE") {
                    told[usize::from(peer == s.second)] = Some(text);
                }
            }
        }
    }
    let [Some(callee), Some(second)] = told else { panic!("{}", s.ladder()) };
    assert_ne!(second.media(), invite.media(), "another shard, another address");
    let ours = offered(&second).key;
    assert_ne!(ours, before, "another key of ours: its packets begin anew");
    let mut cipher = Cipher::new(SUITE, ours, key(5));
    let packet = wire::rtp(7, 2, b'j');
    let heard = carry(&mut s, SECOND_MEDIA, &second, &cipher.seal(&packet), CALLEE_MEDIA);
    assert_eq!(heard.expect("it was opened")[12..], packet[12..]);
    let back = carry(&mut s, CALLEE_MEDIA, &callee, &packet, SECOND_MEDIA).expect("it was sealed");
    assert_eq!(cipher.open(&back).expect("it is ours")[12..], packet[12..]);
}
