//! Messages that break parsers, sent to a running node over UDP and TCP from an address it knows: it stays
//! alive, answers OPTIONS after each, and what it says is of the right class, the same over both. Ours are in `sbc/tests/data/sip`;
//! those of RFC 4475 and RFC 5118 are sent when their folder stands beside the repository.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header};
use common::{Lab, Node, Setup};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
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

/// Rows that are answered otherwise over TCP, where a message ends where its Content-Length says and one
/// that does not say so ends the connection, and why.
const FRAMED: &[(&str, &str)] = &[
    ("dblreq", "RFC 4475 3.1.1.8, RFC 3261 18.3: what follows the body is another message"),
    ("clerr", "RFC 4475 3.1.2.2, RFC 3261 18.3: what is missing of the body may yet come"),
    ("ncl", "RFC 4475 3.1.2.3: a length below zero cuts nothing off a stream"),
    ("mcl01", "RFC 4475 3.3.9: which of two lengths cuts the stream cannot be said"),
    (
        "inv2543",
        "RFC 4475 3.4.1, RFC 3261 20.14: without a Content-Length there is no end on a stream",
    ),
    ("mult-ip-in-sdp", "RFC 5118 4.8: octets follow its body, which on a stream are no message"),
    ("no_empty_line", "RFC 3261 18.3: the end of its header may yet come"),
    ("body_shorter_than_said", "like clerr"),
    ("huge_content_length", "like clerr"),
    ("negative_content_length", "like ncl"),
    ("two_content_lengths", "like mcl01"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

struct Stand {
    _labs: [Lab; 2],
    node: Node,
    /// Another, which has heard nothing of what this one was sent.
    over_tcp: Node,
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
        let tcp_lab = Lab::new(&format!("{name}-tcp"));
        let mut setup = Setup::new(&tcp_lab, callee.address);
        setup.node = "max_calls = 200
max_cps = 10000
shards = 1
pin = false
"
        .into();
        setup.interface += &format!(
            "tcp_port = {}
",
            setup.sip.port()
        );
        setup.caller = String::from(
            "transport = \"tcp\"
",
        );
        let over_tcp = Node::start(&tcp_lab, &setup);
        Stand { _labs: [lab, tcp_lab], node, over_tcp, peer, callee, sent: 0 }
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

    /// The same over a connection of its own.
    fn say_over_tcp(&self, bytes: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(self.over_tcp.sip).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        // The node may have read enough before all of it is written.
        let _written = stream.write_all(bytes);
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..len]);
        }
        // A call is tried before it is refused; what comes last is the answer.
        let text = String::from_utf8_lossy(&heard).into_owned();
        let mut statuses =
            text.lines().filter_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok());
        statuses.next_back()
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

/// The message with another Call-ID and branch.
fn renamed(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (old, new) in
        [("77f0@", format!("{number}f0@")), ("z9hG4bKt1", format!("z9hG4bKt{number}"))]
    {
        if let Some(at) = out.windows(old.len()).position(|w| w == old.as_bytes()) {
            out.splice(at..at + old.len(), new.into_bytes());
        }
    }
    out
}

/// One of our own as it travels over a stream: with a Content-Length, where it has an end of its header at all.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let has_length = |line: &[u8]| {
        let name = line.split(|b| *b == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
    };
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return bytes.to_vec() };
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    if head.split(|b| *b == b'\n').any(has_length) {
        return bytes.to_vec();
    }
    let length = format!("\r\nContent-Length: {}\r\n\r\n", body.len());
    [head, length.as_bytes(), body].concat()
}

/// Sends every message and says which answers do not fit, and how many were answered at all.
fn send_all(stand: &mut Stand, messages: &[(String, bool, Vec<u8>)], adds_length: bool) -> usize {
    let (mut wrong, mut answered, mut otherwise) = (Vec::new(), 0, Vec::new());
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
        let streamed = stand.say_over_tcp(&if adds_length { framed(bytes) } else { bytes.clone() });
        // An answer may have gone to the Via's own port: then only its class is known.
        let alike =
            if status.is_some() { streamed == status } else { fits(*valid, request, streamed) };
        if !alike {
            println!("{name} over TCP {streamed:?}");
            otherwise.push(name.as_str());
        }
        stand.alive(name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    otherwise.retain(|name| !FRAMED.iter().any(|(row, _)| row == name));
    assert!(otherwise.is_empty(), "otherwise over TCP: {otherwise:?}");
    answered
}

#[test]
fn our_own_messages() {
    let folder = root().join("sbc/tests/data/sip");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_once('\t').unwrap());
    let messages = rows.zip(100..).map(|((name, expected), number)| {
        let text = std::fs::read(folder.join(format!("{name}.sip"))).unwrap();
        // They share a Call-ID: each is to be a request of its own, and no repetition.
        (name.to_owned(), expected == "ok", renamed(&wire(&text), number))
    });
    let messages: Vec<_> = messages.collect();
    let answered = send_all(&mut Stand::new("torture-own"), &messages, true);
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
    let answered = send_all(&mut Stand::new("torture-rfc"), &messages, false);
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
