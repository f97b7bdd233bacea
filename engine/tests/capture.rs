//! `sbcctl call capture` beside a running node, and what tshark makes of its file.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need, need_root};
use common::wire::{Peer, respond, sdp, speech, voice};
use common::{LONG, Lab, Node, Setup, program, within};
use serde_json::json;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Packets that each side sends.
const PACKETS: u16 = 50;

/// A call between two peers of the lab, each with a socket for its media and where that is to send to.
struct Talk {
    caller: Peer,
    callee: Peer,
    sides: [(Peer, SocketAddr); 2],
    ok: String,
    id: String,
}

impl Talk {
    fn begin(lab: &Lab, node: &Node, callee: Peer) -> Talk {
        // It may have to be built, and a call does not wait for that.
        program("sbcctl");
        let peer = || Peer::bind((lab.ip, 0).into());
        let (caller, a, b) = (peer(), peer(), peer());
        let of = |media: &Peer| sdp(media.address.ip(), media.address.port());
        let invite = caller.invite(node.sip, "c1", "");
        let (head, _) = invite.split_once("Content-Length:").unwrap();
        let offer = of(&a);
        let invite = format!("{head}Content-Length: {}\r\n\r\n{offer}", offer.len());
        caller.send(node.sip, invite.as_bytes());
        let at_callee = callee.expect("INVITE", |text| text.starts_with("INVITE "));
        let contact =
            format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
        callee.send(node.sip, respond(&at_callee, "200 OK", &contact, &of(&b)).as_bytes());
        let ok = caller.expect("200", |text| text.starts_with("SIP/2.0 200"));
        caller.send(node.sip, caller.within(&ok, "ACK", 1).as_bytes());
        let id = within(LONG, || {
            let calls = node.ask(json!({"op": "get", "what": "calls"})).unwrap();
            let call = calls["calls"].get(0).filter(|call| call["state"] == "answered")?;
            call["id"].as_str().map(str::to_owned)
        });
        let id = id.unwrap();
        let sides = [(a, speech(&ok)), (b, speech(&at_callee))];
        Talk { caller, callee, sides, ok, id }
    }

    /// Both sides speak, and are heard.
    fn speak(&self, node: &Node, sequences: std::ops::Range<u16>) {
        let relayed = || node.metric("tandem_media_packets_relayed_total");
        for sequence in sequences {
            let before = relayed();
            for ((media, to), sound) in self.sides.iter().zip(*b"ab") {
                media.send(*to, &voice(sequence, sound));
            }
            within(LONG, || (relayed() >= before + 2).then_some(())).unwrap();
        }
    }

    fn end(&self, node: &Node) {
        self.caller.send(node.sip, self.caller.within(&self.ok, "BYE", 9).as_bytes());
        let bye = self.callee.expect("BYE", |text| text.starts_with("BYE "));
        self.callee.send(node.sip, respond(&bye, "200 OK", "", "").as_bytes());
    }
}

fn capture(lab: &Lab, node: &Node, id: &str, more: &[&str]) -> Running {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut command = Command::new(program("sbcctl"));
    command.arg("--run").arg(&node.run).args(["call", "capture", id]).args(more);
    let log = format!("capture-{}.log", NEXT.fetch_add(1, Ordering::Relaxed));
    Running::start(command, &lab.file(&log))
}

/// What tshark reads of a file's RTP, a packet a line.
fn read(file: &Path, ports: &[u16]) -> Vec<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-T", "fields"]);
    tshark.args(["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    for port in ports {
        tshark.args(["-d", &format!("udp.port=={port},rtp")]);
    }
    let path = ["ip.src", "udp.srcport", "ip.dst", "udp.dstport"];
    let sums = ["ip.checksum.status", "udp.checksum.status"];
    for field in path.iter().chain(&sums).chain(&["rtp.seq", "rtp.payload"]) {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().unwrap();
    let (text, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn tshark_reads_what_both_sides_of_a_call_sent() {
    need("tshark", "tshark");
    let lab = Lab::new("capture");
    let callee = Peer::bind((lab.ip, 0).into());
    let setup = Setup::new(&lab, callee.address);
    let mut node = Node::start(&lab, &setup);
    let talk = Talk::begin(&lab, &node, callee);
    let begun = |count: u64| {
        let begun = || (node.metric("tandem_captures_total") == count).then_some(());
        within(LONG, begun).unwrap();
    };

    let file = lab.file("call.pcap");
    let mut first = capture(&lab, &node, &talk.id, &["--to", file.to_str().unwrap()]);
    begun(1);
    talk.speak(&node, 1..PACKETS + 1);
    let twice = node.ask(json!({"op": "capture", "call": talk.id})).unwrap_err();
    assert!(twice.contains("captured already"), "{twice}");
    let mut stop = capture(&lab, &node, &talk.id, &["--stop"]);
    assert_eq!(stop.wait(LONG), Some(0), "{}", stop.log());
    assert_eq!(first.wait(LONG), Some(0), "{}", first.log());
    assert_eq!(node.metric("tandem_capture_packets_total"), 2 * u64::from(PACKETS));
    assert_eq!(node.metric("tandem_capture_dropped_total"), 0);
    let log = node.process.log();
    assert!(log.contains("control: Capture { call: "), "{log}");
    assert!(log.contains(&format!("capture of call {} is over (stopped): 100 packets", talk.id)));

    let ports = [talk.sides[0].1.port(), talk.sides[1].1.port()];
    let mut expected: Vec<String> = Vec::new();
    for sequence in 1..=PACKETS {
        for ((media, to), sound) in talk.sides.iter().zip(*b"ab") {
            let (from, sound) = (media.address, format!("{sound:02x}").repeat(160));
            expected.push(format!(
                "{}\t{}\t{}\t{}\t1\t1\t{sequence}\t{sound}",
                from.ip(),
                from.port(),
                to.ip(),
                to.port()
            ));
        }
    }
    let mut found = read(&file, &ports);
    // The two sides reach the node by two sockets: which of them is first is not ours to say.
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    // A file that is there is not written over; what was begun for it ends by itself.
    let mut again = capture(&lab, &node, &talk.id, &["--to", file.to_str().unwrap()]);
    assert_eq!(again.wait(LONG), Some(1), "{}", again.log());
    within(LONG, || node.process.log().contains("is over (left)").then_some(())).unwrap();

    // The call ends, and its capture with it.
    let second = lab.file("second.pcap");
    let mut last = capture(&lab, &node, &talk.id, &["--json", "--to", second.to_str().unwrap()]);
    begun(3);
    talk.speak(&node, 100..103);
    talk.end(&node);
    assert_eq!(last.wait(LONG), Some(0), "{}", last.log());
    let told: serde_json::Value = serde_json::from_str(&last.log()).unwrap();
    assert_eq!(
        told,
        json!({"call": talk.id, "ended": "call", "packets": 6, "octets": 1_032, "dropped": 0})
    );
    assert_eq!(read(&second, &ports).len(), 6);
    let gone = node.ask(json!({"op": "capture", "call": talk.id})).unwrap_err();
    assert!(gone.contains("it has ended, or never was"), "{gone}");
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn who_may_only_look_captures_nothing() {
    need_root("it becomes another user");
    need("setpriv", "util-linux");
    let lab = Lab::new("observer");
    let callee = Peer::bind((lab.ip, 0).into());
    let setup = Setup::new(&lab, callee.address);
    let node = Node::start(&lab, &setup);
    let talk = Talk::begin(&lab, &node, callee);
    let sbcctl = lab.file("sbcctl");
    std::fs::copy(program("sbcctl"), &sbcctl).unwrap();
    let everybody = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(node.run.join("sbcd.sock"), everybody).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&sbcctl);
        command.arg("--run").arg(&node.run).args(arguments).output().unwrap()
    };
    let shown = nobody(&["call", "show", &talk.id]);
    assert!(shown.status.success(), "{shown:?}");
    for arguments in [["--to", "-"], ["--stop", "--json"]] {
        let refused = nobody(&[&["call", "capture", &talk.id][..], &arguments].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("own user or root") && refused.stdout.is_empty(), "{said}");
    }
    assert_eq!(node.metric("tandem_captures_total"), 0);
}

#[test]
fn a_capture_has_an_end_in_time() {
    let lab = Lab::new("captures");
    let callee = Peer::bind((lab.ip, 0).into());
    let setup = Setup::new(&lab, callee.address);
    let mut node = Node::start(&lab, &setup);
    let talk = Talk::begin(&lab, &node, callee);
    for seconds in [0, 601] {
        let refused = node.ask(json!({"op": "capture", "call": talk.id, "seconds": seconds}));
        assert!(refused.unwrap_err().contains("1 to 600 seconds"));
    }
    assert!(node.ask(json!({"op": "uncapture", "call": talk.id})).is_err(), "nobody does");
    let file = lab.file("call.pcap");
    let arguments = ["--seconds", "1", "--to", file.to_str().unwrap()];
    let mut timed = capture(&lab, &node, &talk.id, &arguments);
    assert_eq!(timed.wait(LONG), Some(0), "{}", timed.log());
    assert!(timed.log().contains("0 packets, 0 octets, 0 dropped"), "{}", timed.log());
    assert!(timed.log().contains("its time was over"), "{}", timed.log());
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 24);
    talk.end(&node);
    assert_eq!(node.drain(), Some(0));
}
