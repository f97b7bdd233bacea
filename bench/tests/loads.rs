//! The generator against itself: first face to face, then through relays that do it harm.
//!
//! A load generator that can't see a broken network proves nothing, so most of these tests break
//! something and expect to be told. The relays stand where an SBC would: they pass SIP datagrams on
//! unread, except that one puts its own media address into the SDP to get at the audio.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs `sbcload call` between `to` and `uas`; says the exit code and the report.
fn call(to: SocketAddr, uas: SocketAddr, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sbcload"));
    command.args(["call", "--json", "--to", &to.to_string(), "--uas", &uas.to_string()]).args(more);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(text.trim());
    let report = report.unwrap_or_else(|_| panic!("{text}{:?}", output.stderr));
    (output.status.code().unwrap_or(-1), report)
}

/// A thread that passes datagrams between two sockets and ends with the test.
struct Relay {
    near: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A SIP relay in front of `uas`. `change` sees every datagram and whether it comes from the
/// caller, and returns what is passed on.
fn relay(
    uas: SocketAddr,
    change: impl Fn(bool, Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> Relay {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = near.local_addr().unwrap();
    near.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let (mut caller, mut buffer) = (None, [0; 4096]);
        while !stopped.load(Ordering::Relaxed) {
            let Ok((len, from)) = near.recv_from(&mut buffer) else { continue };
            let from_caller = from != uas;
            if from_caller {
                caller = Some(from);
            }
            let to = if from_caller { Some(uas) } else { caller };
            if let (Some(bytes), Some(to)) = (change(from_caller, buffer[..len].to_vec()), to) {
                near.send_to(&bytes, to).unwrap();
            }
        }
    });
    Relay { near: address, stop, thread: Some(thread) }
}

/// Keeps everything between the peers on the relay: they must not learn of each other by Contact.
fn through(relay: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let lines = text.split("\r\n").map(|line| match line.starts_with("Contact:") {
        true => format!("Contact: <sip:sbcload@{relay}>"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\r\n").into_bytes()
}

#[test]
fn two_hundred_calls_face_to_face_are_clean() {
    let uas = free_port();
    let (code, report) =
        call(uas, uas, &["--calls", "200", "--rate", "100", "--hold", "0.4", "--max-loss", "0"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["clean"], 200);
    assert_eq!(report["callee"]["answered"], 200);
    assert_eq!(report["rtp"]["sent"], 200 * 2 * 20);
    assert_eq!(report["rtp"]["received"], 200 * 2 * 20);
    assert_eq!(report["setup_us"]["count"], 200);
}

#[test]
fn one_port_a_call_and_ipv6_work_too() {
    let uas = free_port();
    // An address of its own, because another process may hold the whole range.
    let range = ["--media-ports", "21000-21400", "--media-ip", "127.9.9.9"];
    let more = ["--calls", "20", "--rate", "100", "--hold", "0.2", "--media-threads", "2"];
    let (code, report) = call(uas, uas, &[&more[..], &range[..]].concat());
    assert_eq!((code, report["clean"].as_u64()), (0, Some(20)), "{report}");
    if let Ok(socket) = UdpSocket::bind("[::1]:0") {
        let uas = socket.local_addr().unwrap();
        drop(socket);
        let (code, report) = call(uas, uas, &more);
        assert_eq!((code, report["clean"].as_u64()), (0, Some(20)), "{report}");
    }
}

#[test]
fn a_tenth_of_the_datagrams_lost_costs_no_call() {
    let uas = free_port();
    let state = AtomicU32::new(7);
    let dropped = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&dropped);
    let address = Arc::new(std::sync::OnceLock::new());
    let own = Arc::clone(&address);
    let relay = relay(uas, move |_, bytes| {
        let next =
            state.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.store(next, Ordering::Relaxed);
        if (next >> 16).is_multiple_of(10) {
            seen.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(through(*own.get()?, &bytes))
    });
    address.set(relay.near).unwrap();
    let more = ["--calls", "200", "--rate", "200", "--hold", "1.5", "--t1-ms", "20"];
    let (code, report) = call(relay.near, uas, &more);
    assert!(dropped.load(Ordering::Relaxed) > 60, "the relay lost too little to prove anything");
    assert_eq!((code, report["clean"].as_u64()), (0, Some(200)), "{report}");
    let again = &report["retransmissions"];
    assert!(again["caller"].as_u64() > Some(10) && again["callee"].as_u64() > Some(5), "{again}");
}

/// A media relay in front of the called side's audio; says its address, for the SDP.
fn media_relay(to: SocketAddr, harm: fn(&mut Vec<u8>)) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let address = socket.local_addr().unwrap();
    // Ends by itself when nothing was heard for two seconds.
    thread::spawn(move || {
        let (mut other, mut buffer) = (None, [0; 2048]);
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let mut bytes = buffer[..len].to_vec();
            harm(&mut bytes);
            let next = if from == to { other } else { Some(to) };
            other = if from == to { other } else { Some(from) };
            if let Some(next) = next {
                socket.send_to(&bytes, next).unwrap();
            }
        }
    });
    address
}

/// Runs one call whose audio towards the called side passes through `harm`. The called side was told
/// the caller's own address, so what the relay brings is from a source nobody agreed to.
fn harmed(harm: fn(&mut Vec<u8>)) -> (i32, Value) {
    let uas = free_port();
    let relay = relay(uas, move |from_caller, bytes| {
        let text = String::from_utf8(bytes).unwrap();
        let Some(at) = text.find("m=audio ").filter(|_| !from_caller) else {
            return Some(text.into_bytes());
        };
        let port = text[at + 8..].split(' ').next()?;
        let own = media_relay(format!("127.0.0.1:{port}").parse().ok()?, harm);
        let text =
            text.replace(&format!("m=audio {port} "), &format!("m=audio {:05} ", own.port()));
        Some(text.into_bytes())
    });
    call(relay.near, uas, &["--calls", "1", "--hold", "0.2"])
}

#[test]
fn a_changed_bit_of_audio_fails_the_run() {
    let (code, report) = harmed(|bytes| bytes[100] ^= 1);
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["rtp"]["bad_content"], 10);
    assert_eq!(report["not_heard"], 1);
}

#[test]
fn audio_from_another_address_than_agreed_is_bad() {
    let (code, report) = harmed(|_| {});
    assert_eq!(code, 1, "{report}");
    assert!(report["rtp"]["bad_source"].as_u64() >= Some(10), "{report}");
}

#[test]
fn refused_calls_are_counted_by_status() {
    let uas = free_port();
    let more = ["--calls", "30", "--rate", "200", "--hold", "0.1", "--reject", "486"];
    let (code, report) = call(uas, uas, &more);
    assert_eq!((code, &report["failed"]["486"]), (1, &Value::from(30)), "{report}");
    let (code, _) = call(uas, uas, &[&more[..], &["--expect-failures"]].concat());
    assert_eq!(code, 0);
}

#[test]
fn ringing_is_cancelled_and_silence_times_out() {
    let uas = free_port();
    let more = ["--calls", "5", "--rate", "100", "--no-media", "--hold", "0", "--t1-ms", "10"];
    let quiet = [&more[..], &["--no-answer", "--cancel-after-ms", "50"]].concat();
    let (code, report) = call(uas, uas, &quiet);
    assert_eq!((code, &report["failed"]["487"]), (1, &Value::from(5)), "{report}");
    let nobody = free_port();
    let (code, report) = call(nobody, uas, &more);
    assert_eq!((code, &report["failed"]["timeout"]), (1, &Value::from(5)), "{report}");
    assert_eq!(report["retransmissions"]["caller"], 5 * 6, "timer A, six times before timer B");
}

#[test]
fn the_ledger_and_the_ladder_tell_what_happened() {
    let uas = free_port();
    let folder = std::env::temp_dir().join(format!("sbcload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (ledger, ladder) = (folder.join("ledger"), folder.join("ladder"));
    let files = ["--ledger", ledger.to_str().unwrap(), "--ladder", ladder.to_str().unwrap()];
    let more = ["--calls", "3", "--rate", "100", "--hold", "0.1"];
    let (code, _) = call(uas, uas, &[&more[..], &files[..]].concat());
    assert_eq!(code, 0);
    let text = std::fs::read_to_string(&ledger).unwrap();
    for event in ["invited", "answered", "ended"] {
        assert_eq!(text.lines().filter(|line| line.contains(event)).count(), 3, "{text}");
    }
    let text = std::fs::read_to_string(&ladder).unwrap();
    for word in
        ["INVITE sdp 127.0.0.1:", "180 INVITE", "200 INVITE sdp", "ACK", "RTP 5 PCMU", "BYE"]
    {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn strangers_addresses_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_sbcload"))
        .args(["blast", "--to", "192.0.2.1:5060", "--rate", "1", "--seconds", "1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}

#[test]
fn blast_and_probe_find_the_called_side() {
    let uas = free_port().to_string();
    let tool = env!("CARGO_BIN_EXE_sbcload");
    let mut side = Command::new(tool)
        .args(["uas", "--listen", &uas, "--seconds", "2.5", "--t1-ms", "20", "--json"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(300));
    let probe = Command::new(tool)
        .args(["probe", "--to", &uas, "--count", "20", "--interval-ms", "2", "--json"])
        .output()
        .unwrap();
    let blast = Command::new(tool)
        .args(["blast", "--to", &uas, "--rate", "200", "--seconds", "0.5", "--json"])
        .output()
        .unwrap();
    side.wait().unwrap();
    let probe: Value = serde_json::from_slice(&probe.stdout).unwrap();
    let blast: Value = serde_json::from_slice(&blast.stdout).unwrap();
    assert_eq!((&probe["lost"], &probe["setup_us"]["count"]), (&0.into(), &20.into()), "{probe}");
    assert_eq!(blast["offered"], 100, "{blast}");
    assert_eq!(blast["by_status"]["180"], 100, "{blast}");
}
