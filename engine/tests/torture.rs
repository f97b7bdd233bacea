//! Messages that break parsers, sent to a running node over UDP from an address it knows: it stays alive,
//! answers OPTIONS after each, and what it says is of the right class. Ours are in `sbc/tests/data/sip`;
//! those of RFC 4475 and RFC 5118 are sent when their folder stands beside the repository.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header};
use common::{Lab, Node, Setup};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take before it counts as none.
const ANSWER: Duration = Duration::from_millis(60);

/// Rows that may be answered otherwise than their class says, and why. An OPTIONS of a known source is a
/// ping: what it does not use of one, the node does not read, and RFC 3261 does not ask it to.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("baddate", "RFC 4475 3.1.2.12: an element that does not use Date may ignore it"),
    ("ipv6-bug-abnf-3-colons", "RFC 5118 4.10: receivers should be lenient about it"),
    ("via_ends_in_comma", "an OPTIONS: the topmost Via is whole"),
    ("headers_in_request_uri", "an OPTIONS: its Request-URI is not used"),
    ("ipv6_without_brackets", "an OPTIONS: its Request-URI is not used"),
    ("ipv6_three_colons", "an OPTIONS: its Request-URI is not used"),
    ("escape_with_one_digit", "an OPTIONS: its addresses are not used"),
    ("badbranch", "RFC 4475 3.2.1: matched by the rules of RFC 2543"),
    ("bcast", "RFC 4475 3.3.10: a response, dropped because its second Via is not ours"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

struct Stand {
    _lab: Lab,
    node: Node,
    peer: Peer,
    callee: Peer,
    sent: u32,
}

impl Stand {
    /// The peer sits on port 5060 of its own address, where most of the messages want their answer.
    fn new(name: &str) -> Stand {
        let lab = Lab::new(name);
        let peer = Peer::bind(SocketAddr::new(lab.ip, 5060));
        let callee = Peer::bind((lab.ip, 0).into());
        let mut setup = Setup::new(&lab, callee.address);
        setup.node = "max_calls = 200\nmax_cps = 10000\nshards = 1\npin = false\n".into();
        let node = Node::start(&lab, &setup);
        Stand { _lab: lab, node, peer, callee, sent: 0 }
    }

    /// Sends one message; the status of what came back, if anything did.
    fn say(&mut self, bytes: &[u8]) -> Option<u16> {
        self.peer.send(self.node.sip, bytes);
        // Refusals that nobody acknowledged come again: only this message's own answer counts.
        let sent = String::from_utf8_lossy(bytes);
        let own =
            |text: &str| ["Call-ID", "CSeq"].iter().all(|name| sent.contains(&header(text, name)));
        let heard = self.peer.hear(ANSWER, |text| text.starts_with("SIP/2.0") && own(text));
        heard.and_then(|text| text.split(' ').nth(1)?.parse().ok())
    }

    fn alive(&mut self, after: &str) {
        self.sent += 1;
        let call = format!("alive{}", self.sent);
        self.peer.send(self.node.sip, self.peer.options(self.node.sip, &call).as_bytes());
        let pong = self.peer.hear(Duration::from_secs(10), |text| header(text, "Call-ID") == call);
        let pong =
            pong.unwrap_or_else(|| panic!("dead after {after}: {}", self.node.process.log()));
        assert!(pong.starts_with("SIP/2.0 200"), "{after}: {pong}");
    }
}

/// Whether an answer fits what the message is: an invalid one is never served, a valid one never called
/// malformed. Silence fits both: the answer may have gone to the Via's own port.
fn fits(valid: bool, request: bool, status: Option<u16>) -> bool {
    match (request, status) {
        (_, None) => true,
        (false, Some(_)) => false,
        (true, Some(status)) if valid => status != 400,
        (true, Some(status)) => (400..600).contains(&status),
    }
}

/// Replaces `{hh}` by a byte and LF by CRLF: how our own messages are written down.
fn wire(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let hex =
            text.get(at + 1..at + 3).filter(|_| byte == b'{' && text.get(at + 3) == Some(&b'}'));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match value {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None if byte == b'\n' => out.extend_from_slice(b"\r\n"),
            None => out.push(byte),
        }
        at += 1;
    }
    out
}

/// Sends every message and says which answers do not fit, and how many were answered at all.
fn send_all(stand: &mut Stand, messages: &[(String, bool, Vec<u8>)]) -> usize {
    let (mut wrong, mut answered) = (Vec::new(), 0);
    for (name, valid, bytes) in messages {
        let request = !bytes.starts_with(b"SIP/2.0");
        let status = stand.say(bytes);
        answered += usize::from(status.is_some());
        println!("{name} {} {status:?}", if *valid { "valid" } else { "invalid" });
        let excused = EXCEPTIONS.iter().any(|(row, _)| row == name);
        if !excused && !fits(*valid, request, status) {
            wrong.push(format!("{name}: {status:?}"));
        }
        stand.alive(name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    answered
}

#[test]
fn our_own_messages() {
    let folder = root().join("sbc/tests/data/sip");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_once('\t').unwrap());
    let messages = rows.map(|(name, expected)| {
        let text = std::fs::read(folder.join(format!("{name}.sip"))).unwrap();
        (name.to_owned(), expected == "ok", wire(&text))
    });
    let messages: Vec<_> = messages.collect();
    let answered = send_all(&mut Stand::new("torture-own"), &messages);
    println!("{} messages, {answered} answered", messages.len());
}

#[test]
fn the_messages_of_rfc_4475_and_rfc_5118() {
    let folder = root().join("../shared/sip-torture");
    let Ok(table) = std::fs::read_to_string(folder.join("expected.tsv")) else {
        println!("{} is absent: nothing sent", folder.display());
        return;
    };
    let rows = table.lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    // What is wrong with a semantic row is said above the parser, or is nothing at all.
    let rows = rows.filter(|row| row[4] != "semantic");
    let messages = rows.map(|row| {
        let bytes = std::fs::read(folder.join(row[3])).unwrap();
        (row[2].to_owned(), row[4] == "valid", bytes)
    });
    let messages: Vec<_> = messages.collect();
    let answered = send_all(&mut Stand::new("torture-rfc"), &messages);
    println!("{} messages, {answered} answered", messages.len());
}

#[test]
fn five_thousand_mutated_datagrams() {
    let mut stand = Stand::new("torture-fuzz");
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|s| s.parse().ok());
    let mut state: u64 = seed.unwrap_or(u64::from(std::process::id())) | 1;
    println!("TANDEM_SEED={state}");
    let mut below = |bound: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound.max(1)
    };
    let (peer, node) = (&stand.peer, stand.node.sip);
    let models = [
        peer.invite(node, "model", "Record-Route: <sip:192.0.2.1;lr>\r\nX-Other: a, b;c=\"d\"\r\n"),
        peer.options(node, "model"),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nCSeq: 1 INVITE\r\n\r\n"
            .into(),
    ];
    for n in 0..5000 {
        let mut bytes = models[below(models.len())].clone().into_bytes();
        match below(8) {
            0 => bytes = (0..below(2000)).map(|_| below(256) as u8).collect(),
            1 => bytes.truncate(below(bytes.len())),
            2 => drop(bytes.drain(..below(bytes.len()))),
            _ => {
                for _ in 0..=below(6) {
                    let at = below(bytes.len());
                    bytes[at] = [below(256) as u8, b'\n', b':', b'"', 0, b'<'][below(6)];
                }
            }
        }
        stand.peer.send(node, &bytes);
        if n % 250 == 249 {
            stand.alive(&format!("datagram {n}"));
            // What got through to the called side is refused, so that no call stays.
            while let Some(heard) = stand.callee.hear(Duration::from_millis(5), |_| true) {
                if heard.starts_with("INVITE ") {
                    let busy = common::wire::respond(&heard, "486 Busy Here", "", "");
                    stand.callee.send(node, busy.as_bytes());
                }
            }
        }
    }
    let dropped = stand.node.metric("tandem_sip_parse_errors_total");
    assert!(dropped > 1000, "only {dropped} were malformed");
}
