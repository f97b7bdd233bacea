//! Attended transfers with media that is heard: how long the two sides that are joined hear nothing, with both
//! calls on one shard and on two.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header, respond, sdp};
use common::{Lab, Node, Setup};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the machine may add to what is measured: it is busy with other tests.
const GENEROUS: Duration = Duration::from_millis(500);
const FRAME: Duration = Duration::from_millis(20);

type Heard = Arc<Mutex<Vec<(Instant, u8)>>>;

/// Somebody who talks all the time: a packet every 20 ms, filled with its name.
struct Voice {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    heard: Heard,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Voice {
    fn new(lab: &Lab, name: u8) -> Voice {
        let socket = UdpSocket::bind((lab.ip, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let (target, heard): (Arc<Mutex<Option<SocketAddr>>>, Heard) = Default::default();
        let (stop, address) = (Arc::new(AtomicBool::new(false)), socket.local_addr().unwrap());
        let (to, log, told) = (target.clone(), heard.clone(), stop.clone());
        let thread = std::thread::spawn(move || talk(&socket, name, &to, &log, &told));
        Voice { address, target, heard, stop, thread: Some(thread) }
    }

    fn towards(&self, description: &str) {
        *self.target.lock().unwrap() = media(description);
    }

    /// The silence between the last packet of one and the first of another; none yet without both.
    fn gap(&self, before: u8, after: u8) -> Option<Duration> {
        let heard = self.heard.lock().unwrap();
        let first = heard.iter().find(|(_, name)| *name == after)?.0;
        let last = heard.iter().rev().find(|(at, name)| *name == before && *at <= first)?.0;
        Some(first - last)
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

fn talk(
    socket: &UdpSocket,
    name: u8,
    to: &Mutex<Option<SocketAddr>>,
    heard: &Mutex<Vec<(Instant, u8)>>,
    stop: &AtomicBool,
) {
    let (mut next, mut sequence) = (Instant::now(), 0u16);
    let mut buffer = [0; 2_000];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, _)) = socket.recv_from(&mut buffer)
            && len == 172
        {
            heard.lock().unwrap().push((Instant::now(), buffer[12]));
        }
        if Instant::now() < next {
            continue;
        }
        next += FRAME;
        sequence = sequence.wrapping_add(1);
        let mut packet = [name; 172];
        packet[..2].copy_from_slice(&[0x80, 0]);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
        let target = *to.lock().unwrap();
        if let Some(target) = target {
            let _sent = socket.send_to(&packet, target);
        }
    }
}

/// Where a session description wants media.
fn media(message: &str) -> Option<SocketAddr> {
    let line = |start: &str| message.lines().find_map(|l| l.strip_prefix(start));
    let ip = line("c=IN IP4 ")?.trim().parse().ok()?;
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// A telephone that answers everything at once.
struct Phone {
    address: SocketAddr,
    voice: Arc<Voice>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Phone {
    fn new(lab: &Lab, address: SocketAddr, name: u8) -> Phone {
        let (peer, voice) = (Peer::bind(address), Arc::new(Voice::new(lab, name)));
        let (stop, speaks) = (Arc::new(AtomicBool::new(false)), voice.clone());
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let mut buffer = [0; 65_536];
                let Ok((len, from)) = peer.socket.recv_from(&mut buffer) else { continue };
                let request = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if request.starts_with("SIP/2.0") || request.starts_with("ACK") {
                    continue;
                }
                let contact = format!("Contact: <sip:{}>\r\n", peer.address);
                let body = match request.starts_with("INVITE") {
                    true => sdp(peer.address.ip(), speaks.address.port()),
                    false => String::new(),
                };
                if !body.is_empty() {
                    speaks.towards(&request);
                }
                let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
                let answer = respond(&request, "200 OK", &format!("{contact}{kind}"), &body);
                peer.send(from, answer.as_bytes());
            }
        });
        Phone { address, voice, stop, thread: Some(thread) }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

/// The caller calls a number and talks; the 200.
fn call(caller: &Peer, voice: &Voice, node: SocketAddr, number: &str, name: &str) -> String {
    let invite = caller.invite(node, name, "").replace("442079460000", number);
    let invite = invite.replace("m=audio 30000", &format!("m=audio {}", voice.address.port()));
    caller.send(node, invite.as_bytes());
    let ok = caller.expect("200", |t| t.starts_with("SIP/2.0 200") && header(t, "Call-ID") == name);
    caller.send(node, caller.within(&ok, "ACK", 1).as_bytes());
    voice.towards(&ok);
    ok
}

fn tag(value: &str) -> &str {
    value.split_once(";tag=").map_or("", |(_, tag)| tag)
}

/// Which of two shards a dialog of the node's is on.
fn seat(ok: &str) -> u8 {
    let home = tag(&header(ok, "To")).get(..2).and_then(|h| u8::from_str_radix(h, 16).ok());
    base::Home(home.unwrap()).seat(2).0
}

/// Joins two calls of the caller's; how long each of the two sides heard nothing.
fn silences(apart: bool) -> [Duration; 2] {
    let lab = Lab::new(if apart { "transfer-apart" } else { "transfer-together" });
    let (callee, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, callee);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    setup.caller = "refer = \"execute\"\n".into();
    setup.trunks.push(("second".into(), second, String::new()));
    setup.route = "[[route]]\nprefix = \"\"\nto = [\"out\"]\n\
         [[route]]\nprefix = \"7\"\nto = [\"second\"]\n"
        .into();
    let (callee, second) = (Phone::new(&lab, callee, b'q'), Phone::new(&lab, second, b'r'));
    let mut node = Node::start(&lab, &setup);
    let caller = Peer::bind((lab.ip, 0).into());
    let (first_voice, other_voice) = (Voice::new(&lab, b'p'), Voice::new(&lab, b'p'));
    let ok = call(&caller, &first_voice, node.sip, "442079460000", "first");
    let mut consulted = None;
    for attempt in 0..64 {
        let name = format!("second{attempt}");
        let other = call(&caller, &other_voice, node.sip, "79460001", &name);
        if (seat(&other) != seat(&ok)) == apart {
            consulted = Some((other, attempt));
            break;
        }
        caller.send(node.sip, caller.within(&other, "BYE", 2).as_bytes());
        caller.expect("200", |t| t.starts_with("SIP/2.0 200") && header(t, "CSeq") == "2 BYE");
    }
    let (other, others) = consulted.expect("a call on that shard");
    // Everybody is heard before it begins.
    let talks = |voice: &Voice| voice.heard.lock().unwrap().iter().filter(|h| h.1 == b'p').count();
    common::within(common::LONG, || {
        (talks(&callee.voice) > 3 && talks(&second.voice) > 3).then_some(())
    });
    let replaces = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
        header(&other, "Call-ID"),
        tag(&header(&other, "To")),
        tag(&header(&other, "From"))
    );
    let target = format!("Refer-To: <sip:79460001@{}?Replaces={replaces}>\r\n", node.sip);
    let contact = format!("Contact: <sip:p@{}>\r\n", caller.address);
    let refer = caller.within(&ok, "REFER", 2);
    let refer = refer.replace("Content-Length", &format!("{target}{contact}Content-Length"));
    caller.send(node.sip, refer.as_bytes());
    caller.expect("202", |text| text.starts_with("SIP/2.0 202"));
    for _ in 0..4 {
        // Two NOTIFYs and two BYEs, in whatever order.
        let is_request = |t: &str| t.starts_with("NOTIFY") || t.starts_with("BYE");
        let request = caller.expect("a request", is_request);
        caller.send(node.sip, respond(&request, "200 OK", "", "").as_bytes());
    }
    let gap = |voice: &Voice, from: u8| {
        let found = common::within(common::LONG, || voice.gap(b'p', from));
        found.unwrap_or_else(|| panic!("never heard {}\n{}", char::from(from), node.process.log()))
    };
    let silences = [gap(&callee.voice, b'r'), gap(&second.voice, b'q')];
    node.await_calls(2);
    // Either call is the whole: what is left of the other ends with it.
    let id = common::within(common::LONG, || {
        let calls = node.ask(json!({"op": "get", "what": "calls"})).ok()?;
        Some(calls["calls"][0]["id"].clone()).filter(|id| id.is_string())
    });
    node.ask(json!({"op": "hangup", "call": id.expect("a call")})).unwrap();
    node.await_calls(0);
    assert_eq!(node.drain(), Some(0));
    let records = node.await_records(2 + others);
    let joined = records.iter().filter(|r| !r["transferred_to"].is_null()).count();
    assert_eq!(joined, 1, "{records:#?}");
    assert!(callee.address != second.address);
    silences
}

#[test]
fn the_joined_sides_hear_each_other_at_once() {
    for (apart, name) in [(false, "one_shard"), (true, "two_shards")] {
        let [callee, second] = silences(apart);
        println!("transfer_silence_{name}_callee {} ms", callee.as_millis());
        println!("transfer_silence_{name}_second {} ms", second.as_millis());
        assert!(callee < GENEROUS && second < GENEROUS, "{callee:?} {second:?}");
    }
}
