//! Calls that sound bad: what an operator is told while they last, and what their CDRs say.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header, respond, sdp};
use common::{LONG, Lab, Node, Setup, within};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where a description wants media.
fn media(description: &str) -> SocketAddr {
    let field = |name: &str| description.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let ip = field("c=IN IP4 ").trim();
    let port = field("m=audio ").split(' ').next().unwrap();
    format!("{ip}:{port}").parse().unwrap()
}

/// Talks to all of `targets` every 20 ms; of every ten packets one is not sent.
struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    fn start(lines: Vec<(UdpSocket, SocketAddr)>) -> Talker {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut next, mut n) = (Instant::now(), 0u32);
            while !told.load(Ordering::Relaxed) {
                n += 1;
                let mut packet = vec![0x80, 0];
                packet.extend_from_slice(&(n as u16).to_be_bytes());
                packet.extend_from_slice(&(n * 160).to_be_bytes());
                packet.extend_from_slice(&[0, 0, 0, 42]);
                packet.resize(172, 0xd5);
                for (socket, to) in lines.iter().filter(|_| !n.is_multiple_of(10)) {
                    socket.send_to(&packet, to).unwrap();
                }
                next += Duration::from_millis(20);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Talker { stop, thread: Some(thread) }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn an_operator_hears_of_bad_sound_while_it_lasts() {
    let lab = Lab::new("quality");
    let callee = Peer::bind(SocketAddr::new(lab.ip, 0));
    let caller = Peer::bind(SocketAddr::new(lab.ip, 0));
    let mut setup = Setup::new(&lab, callee.address);
    setup.interface = "media_ports = \"23700-23799\"\n".into();
    setup.caller = "quality_alarm = { mos = \"3.9\", loss_percent = \"5\" }\n".into();
    setup.trunks[0].2 = "quality_alarm = { mos = \"3.9\" }\n".into();
    let mut node = Node::start(&lab, &setup);
    let (mut lines, mut answers) = (Vec::new(), Vec::new());
    for call in ["one", "two", "three", "four"] {
        let sockets = [0, 1].map(|_| UdpSocket::bind((lab.ip, 0)).unwrap());
        let port = |i: usize| sockets[i].local_addr().unwrap().port();
        let invite = caller.invite(node.sip, call, "").replace("30000", &port(0).to_string());
        caller.send(node.sip, invite.as_bytes());
        let asked = callee.expect("the INVITE", |text| text.starts_with("INVITE"));
        let contact =
            format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
        let answer = respond(&asked, "200 OK", &contact, &sdp(lab.ip, port(1)));
        callee.send(node.sip, answer.as_bytes());
        let answer = caller.expect("the answer", |t| {
            t.starts_with("SIP/2.0 200") && header(t, "CSeq").ends_with("INVITE")
        });
        caller.send(node.sip, caller.within(&answer, "ACK", 1).as_bytes());
        let [near, _far] = sockets;
        lines.push((near, media(&answer)));
        answers.push(answer);
    }
    let talker = Talker::start(lines);
    // 10 % loss of G.711: R = 92.2 − 95 · 10 / 35.1 = 65, MOS 3.4.
    let alarms = within(2 * LONG, || {
        let alarms = node.status()["alarms"].as_array().cloned().unwrap_or_default();
        (!alarms.is_empty()).then_some(alarms)
    });
    let alarms = alarms.expect("an alarm").iter().map(ToString::to_string).collect::<String>();
    assert!(alarms.contains("trunk `in`: MOS 3."), "{alarms}");
    assert!(!alarms.contains("trunk `out`"), "nobody talks there: {alarms}");
    let loss = within(LONG, || {
        let alarms = node.status()["alarms"].to_string();
        alarms.contains("trunk `in`: loss").then_some(())
    });
    assert!(loss.is_some(), "{}", node.status()["alarms"]);
    assert!(node.metric("tandem_trunk_quality_alarms{trunk=\"in\"}") >= 1, "{}", node.page());
    assert!(node.metric("tandem_media_quality_samples_total") >= 3, "{}", node.page());
    // One of the calls, as `sbcctl call show` asks for it.
    let calls = node.ask(json!({"op": "get", "what": "calls"})).unwrap();
    let id = calls["calls"][0]["id"].as_str().unwrap().to_owned();
    let call = node.ask(json!({"op": "get", "what": "call", "call": id})).unwrap();
    let side = &call["media"][0];
    assert_eq!(side["from"], "caller", "{call}");
    let mos = side["mos"].as_f64().unwrap();
    assert!((3.1..3.6).contains(&mos), "{call}");
    drop(talker);
    for (cseq, answer) in (2..).zip(&answers) {
        caller.send(node.sip, caller.within(answer, "BYE", cseq).as_bytes());
    }
    for record in node.await_records(4) {
        let (side, other) = (&record["media"]["caller"], &record["media"]["callee"]);
        let of = |name: &str| side[name].as_f64().unwrap_or_else(|| panic!("{name}: {record}"));
        assert!((3.1..3.6).contains(&of("mos_min")) && of("mos_avg") < 3.6, "{record}");
        assert!((55.0..75.0).contains(&of("r_factor")), "{record}");
        assert!(of("jitter_max_us") >= of("jitter_us"), "{record}");
        assert!(side["rtt_us"].is_null() && other["mos_min"].is_null(), "{record}");
    }
    node.process.kill();
}

/// Packet `n` of a telephone whose source, numbers and clock jump each time something happens to it: it is
/// transferred, started again, its gateway fails over.
fn jumping(n: u32) -> Vec<u8> {
    let (ssrc, run) = (n / 80, n / 40);
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&((n + run * 20_000) as u16).to_be_bytes());
    packet.extend_from_slice(&(n * 160).wrapping_add(run.wrapping_mul(0x5000_0000)).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.resize(172, n as u8);
    packet
}

#[test]
fn a_source_that_changes_and_jumps_is_heard_as_one_stream() {
    const PACKETS: u32 = 200;
    let lab = Lab::new("jumps");
    let callee = Peer::bind(SocketAddr::new(lab.ip, 0));
    let caller = Peer::bind(SocketAddr::new(lab.ip, 0));
    let mut setup = Setup::new(&lab, callee.address);
    setup.interface = "media_ports = \"23800-23899\"\n".into();
    // One stream of ours towards the callee; what the caller hears goes on as it comes.
    setup.trunks[0].2 = "rtcp = \"fill\"\n".into();
    let mut node = Node::start(&lab, &setup);
    let sockets = [0, 1].map(|_| UdpSocket::bind((lab.ip, 0)).unwrap());
    let port = |i: usize| sockets[i].local_addr().unwrap().port();
    let invite = caller.invite(node.sip, "jumps", "").replace("30000", &port(0).to_string());
    caller.send(node.sip, invite.as_bytes());
    let asked = callee.expect("the INVITE", |text| text.starts_with("INVITE"));
    let contact = format!("Contact: <sip:{}>\r\nContent-Type: application/sdp\r\n", callee.address);
    let answer = respond(&asked, "200 OK", &contact, &sdp(lab.ip, port(1)));
    callee.send(node.sip, answer.as_bytes());
    let answer = caller.expect("the answer", |t| {
        t.starts_with("SIP/2.0 200") && header(t, "CSeq").ends_with("INVITE")
    });
    caller.send(node.sip, caller.within(&answer, "ACK", 1).as_bytes());
    let [near, far] = sockets;
    far.set_read_timeout(Some(LONG)).unwrap();
    near.set_read_timeout(Some(LONG)).unwrap();
    let (to_far, to_near) = (media(&answer), media(&asked));
    let mut buffer = [0; 2_048];
    let mut next = |socket: &UdpSocket| -> Vec<u8> {
        loop {
            let (len, _) = socket.recv_from(&mut buffer).unwrap();
            // RTCP of ours is on its own port, and what shares this one is no packet of G.711.
            if len == 172 {
                return buffer[..len].to_vec();
            }
        }
    };
    let word = |p: &[u8], at: usize| u32::from_be_bytes(p[at..at + 4].try_into().unwrap());
    let sequence = |p: &[u8]| u16::from_be_bytes([p[2], p[3]]);
    let mut last: Option<Vec<u8>> = None;
    for n in 0..PACKETS {
        let packet = jumping(n);
        near.send_to(&packet, to_far).unwrap();
        let heard = next(&far);
        assert_eq!(heard[12..], packet[12..], "packet {n}");
        if let Some(last) = &last {
            assert_eq!(word(&heard, 8), word(last, 8), "one source, packet {n}");
            assert_eq!(sequence(&heard), sequence(last).wrapping_add(1), "packet {n}");
            let step = word(&heard, 4).wrapping_sub(word(last, 4));
            // A jump is bridged by the time that passed, which on a busy machine may be long.
            assert!(step < 8_000 * 30, "packet {n}: a step of {step}");
        }
        last = Some(heard);
        far.send_to(&packet, to_near).unwrap();
        assert_eq!(next(&near), packet, "towards the caller nothing is changed");
    }
    caller.send(node.sip, caller.within(&answer, "BYE", 2).as_bytes());
    let record = node.await_records(1).remove(0);
    for side in ["caller", "callee"] {
        let side = &record["media"][side];
        assert_eq!(side["packets"], u64::from(PACKETS), "{record}");
        assert_eq!(side["discarded"], 0, "{record}");
        assert!(side["lost"].as_u64().unwrap() <= 5, "jumps are no loss: {record}");
    }
    node.process.kill();
}
