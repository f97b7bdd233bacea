//! libsrtp2 as the other end: it opens what we seal and we open what it seals, in every suite.
//!
//! A small program around the library (`data/libsrtp.c`) is compiled by the test (packages gcc and
//! libsrtp2-dev: `tools/packages.sh peers`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the oracle is a process")]
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod world;

use base::Texts;
use media::srtp::{Keys, MasterKey, Suite};
use media::{Digit, Events, Notice, Pressed, Security, Verdict};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use world::{ALICE, BOB, World, report, voice};

/// Rollovers are passed: the library counts them as we do.
const PACKETS: u32 = 66_000;

fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let name = format!("tandem-libsrtp-{}", std::process::id());
        let program = std::env::temp_dir().join(name);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/libsrtp.c");
        let compiled = Command::new("gcc")
            .args(["-O1", "-o"])
            .arg(&program)
            .args([source, "-lsrtp2"])
            .status()
            .expect("gcc is missing: run tools/packages.sh peers");
        assert!(compiled.success(), "run tools/packages.sh peers (Debian package libsrtp2-dev)");
        program
    })
}

/// The library at work under one key.
struct Oracle {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Oracle {
    fn new(direction: &str, suite: Suite, key: &MasterKey) -> Oracle {
        let mut child = Command::new(program())
            .args([direction, suite.name(), &hex(key.expose())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, says) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Oracle { child, asks, says: BufReader::new(says) }
    }

    fn pass(&mut self, kind: &str, packet: &[u8]) -> Result<Vec<u8>, String> {
        writeln!(self.asks, "{kind} {}", hex(packet)).unwrap();
        self.asks.flush().unwrap();
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if line.starts_with("error") { Err(line.to_owned()) } else { Ok(unhex(line)) }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn key(suite: Suite, seed: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..46u8).map(|i| i.wrapping_mul(7).wrapping_add(seed)).collect();
    MasterKey::new(suite, &bytes[..suite.key_len() + suite.salt_len()]).unwrap()
}

/// A world whose Bob is protected, and the library on both of his directions.
fn world(suite: Suite) -> (World, Oracle, Oracle) {
    let mut w = World::new();
    let (ingress, egress, bob) = (key(suite, 1), key(suite, 2), w.bob);
    let (seals, opens) =
        (Oracle::new("seal", suite, &ingress), Oracle::new("open", suite, &egress));
    let keys = Keys { suite, ingress, egress, mki_len: 0 };
    w.program(bob, |plan| plan.security = Security::Keys(Box::new(keys)));
    (w, seals, opens)
}

fn sent(w: &mut World) -> Vec<u8> {
    let sent = w.out.pop().expect("it was forwarded");
    w.pool.get(sent.bytes).to_vec()
}

/// RTP with a CSRC list, an extension and padding.
fn ornate(sequence: u16) -> Vec<u8> {
    let mut bytes = voice(sequence);
    bytes[0] = 0xb1;
    bytes.splice(12..12, [0, 0, 0, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
    bytes.extend([0, 0, 0, 4]);
    bytes
}

#[test]
fn libsrtp_and_we_understand_each_other_in_every_suite() {
    for suite in Suite::ALL {
        let (mut w, mut seals, mut opens) = world(suite);
        let (alice, bob) = (w.alice, w.bob);
        for i in 0..200 {
            w.pass(20);
            let packet = if i % 2 == 0 { voice(i) } else { ornate(i) };
            assert_eq!(w.rtp(alice, ALICE, &packet), Verdict::Forward);
            let opened = opens.pass("rtp", &sent(&mut w)).expect("they agree");
            assert_eq!(opened[12..], packet[12..], "{suite:?}");
            let sealed = seals.pass("rtp", &packet).expect("they agree");
            assert_eq!(w.rtp(bob, BOB, &sealed), Verdict::Forward, "{suite:?}");
            assert_eq!(sent(&mut w), packet, "{suite:?}");
            let rtcp = report(u32::from(i), 0, 0);
            assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &rtcp), Verdict::Forward);
            // Bob knows Alice by the name of our stream.
            let renamed = [&rtcp[..4], &opened[8..12], &rtcp[8..]].concat();
            assert_eq!(opens.pass("rtcp", &sent(&mut w)).expect("they agree"), renamed);
            let sealed = seals.pass("rtcp", &rtcp).expect("they agree");
            assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &sealed), Verdict::Forward, "{suite:?}");
            assert_eq!(sent(&mut w), rtcp, "{suite:?}");
        }
        assert_eq!(w.media.report(bob).unwrap().discarded, 0);
    }
}

#[test]
fn libsrtp_follows_a_change_of_source_and_the_rollovers_of_our_stream() {
    let (mut w, mut seals, mut opens) = world(Suite::AesCm128HmacSha1_80);
    let (alice, bob) = (w.alice, w.bob);
    for i in 0..PACKETS {
        w.pass(20);
        let mut packet = voice(i as u16);
        if i > PACKETS / 2 {
            packet[8..12].copy_from_slice(&[7; 4]);
        }
        assert_eq!(w.rtp(alice, ALICE, &packet), Verdict::Forward);
        let opened = opens.pass("rtp", &sent(&mut w)).expect("ours");
        assert_eq!(opened[12..], packet[12..]);
        let sealed = seals.pass("rtp", &voice(i as u16)).expect("theirs");
        assert_eq!(w.rtp(bob, BOB, &sealed), Verdict::Forward, "packet {i}");
        w.out.clear();
    }
}

/// A source of Bob's: its packet `n`, whose source, numbers and clock jump now and then, as far ahead as a
/// sender may without losing count of its own rollovers (RFC 3711 §3.3.1).
fn jumping(n: u32) -> Vec<u8> {
    let (ssrc, run) = (n / 400, n / 100);
    let mut bytes = voice((n + run * 20_000) as u16);
    let timestamp = (n * 160).wrapping_add(run.wrapping_mul(0x5000_0000));
    bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    bytes[8..12].copy_from_slice(&ssrc.to_be_bytes());
    bytes
}

#[test]
fn jumps_of_source_numbers_and_clock_are_followed_under_protection() {
    for suite in Suite::ALL {
        let (mut w, mut seals, mut opens) = world(suite);
        let (alice, bob) = (w.alice, w.bob);
        let mut last: Option<media::rtp::Header> = None;
        for n in 0..2_000 {
            w.pass(20);
            let packet = jumping(n);
            let sealed = seals.pass("rtp", &packet).expect("theirs");
            assert_eq!(w.rtp(bob, BOB, &sealed), Verdict::Forward, "{suite:?}, packet {n}");
            assert_eq!(sent(&mut w), packet, "{suite:?}, packet {n}");
            // The same from the side that is plain: under one key it is one stream.
            assert_eq!(w.rtp(alice, ALICE, &packet), Verdict::Forward);
            let opened = opens.pass("rtp", &sent(&mut w)).expect("ours");
            assert_eq!(opened[12..], packet[12..]);
            let header = media::rtp::read(&opened).unwrap();
            if let Some(last) = last {
                assert_eq!(header.ssrc, last.ssrc);
                assert_eq!(header.sequence, last.sequence.wrapping_add(1), "{suite:?}, {n}");
                assert_eq!(header.timestamp, last.timestamp.wrapping_add(160), "{suite:?}, {n}");
            }
            last = Some(header);
        }
        let report = w.media.report(bob).unwrap();
        assert_eq!((report.packets, report.discarded), (2_000, 0), "{suite:?}");
    }
}

#[test]
fn digits_are_pressed_and_heard_under_protection() {
    let (mut w, mut seals, mut opens) = world(Suite::AeadAes256Gcm);
    let (bob, mut texts) = (w.bob, Texts::default());
    let events = Events { from: 101, to: 101, rate: 8_000, taken: true };
    w.program(bob, |plan| plan.events = Some(events));
    let pressed = Pressed { digit: Digit::of_name(b'4').unwrap(), duration_ms: 60 };
    assert!(w.media.press(w.now.mono, bob, pressed));
    w.media.keys(w.now.mono, &mut texts);
    let sealed = texts.get(texts.sends[0].bytes);
    let opened = opens.pass("rtp", sealed).expect("the key is protected");
    assert_eq!((opened[1], &opened[12..]), (0x80 | 101, &[4, 10, 0, 160][..]));
    let mut event = voice(1);
    event[1] = 101;
    event.truncate(12);
    event.extend_from_slice(&[4, 0x8a, 1, 224]);
    let sealed = seals.pass("rtp", &event).expect("theirs");
    assert_eq!(w.rtp(bob, BOB, &sealed), Verdict::Absorb);
    let mut notices = Vec::new();
    w.media.sweep(w.now.mono, &mut notices);
    assert_eq!(notices, [Notice::Pressed { end: bob, pressed }]);
}
