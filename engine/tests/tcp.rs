//! Calls over TCP: SIPp on either side, mixed with UDP, over one shard and over two.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};

use common::{LONG, Lab, Node, Setup, within};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Calls of one run.
const CALLS: u32 = 60;

/// SIPp over `transport`: `u1` for UDP, `t1` for one TCP connection, `tn` for one a call.
fn sipp(
    lab: &Lab,
    scenario: &str,
    transport: &str,
    me: SocketAddr,
    to: Option<SocketAddr>,
) -> Running {
    need("sipp", "sip-tester");
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/sipp/{scenario}.xml"));
    let (ip, port) = (me.ip().to_string(), me.port().to_string());
    let (calls, media) = (CALLS.to_string(), lab.media().to_string());
    let mut command = Command::new("sipp");
    command.args(["-nostdin", "-t", transport, "-i", &ip, "-p", &port, "-mi", &ip, "-mp", &media]);
    command.args(["-m", &calls, "-timeout", "50s", "-timeout_error", "-max_socket", "500"]);
    command.args(["-trace_err", "-error_file"]).arg(lab.file(&format!("{scenario}.err")));
    command.arg("-sf").arg(file);
    if let Some(to) = to {
        command.args(["-r", "50", "-s", "442079460000", &to.to_string()]);
    }
    command.current_dir(&lab.dir).env("TERM", "dumb");
    Running::start(command, &lab.file(&format!("{scenario}.log")))
}

fn setup(lab: &Lab, callee: SocketAddr, (caller, called): (&str, &str), shards: u8) -> Setup {
    let mut setup = Setup::new(lab, callee);
    setup.node = setup.node.replace("shards = 1", &format!("shards = {shards}"));
    setup.interface += &format!("tcp_port = {}\n", setup.sip.port());
    setup.caller = format!("transport = \"{caller}\"\n");
    setup.trunks[0].2 = format!("transport = \"{called}\"\n");
    setup
}

/// Plays plain calls from one transport to the other; the records they left.
fn play(name: &str, caller: &str, called: &str, shards: u8) -> Vec<Value> {
    play_at(Lab::new(name), caller, called, shards)
}

fn play_at(lab: Lab, caller: &str, called: &str, shards: u8) -> Vec<Value> {
    let listen = lab.udp();
    let kind = |transport: &str| if transport == "u1" { "udp" } else { "tcp" };
    let mut node = Node::start(&lab, &setup(&lab, listen, (kind(caller), kind(called)), shards));
    let mut uas = sipp(&lab, "uas", called, listen, None);
    std::thread::sleep(Duration::from_millis(300));
    let mut uac = sipp(&lab, "uac", caller, lab.udp(), Some(node.sip));
    for (end, running) in [("uac", &mut uac), ("uas", &mut uas)] {
        let code = running.wait(Duration::from_secs(60));
        let errors = std::fs::read_to_string(lab.file(&format!("{end}.err"))).unwrap_or_default();
        assert_eq!(code, Some(0), "{end}: {errors}\n{}", running.log());
    }
    let records = node.await_records(CALLS as usize);
    assert!(records.iter().all(|r| r["status"] == 200 && r["reason"] == "caller_hung_up"));
    assert_eq!(node.drain(), Some(0));
    records
}

#[test]
fn calls_over_tcp_on_both_sides() {
    play("tcp-tcp", "t1", "t1", 1);
}

#[test]
fn tcp_calls_udp() {
    play("tcp-udp", "t1", "u1", 1);
}

#[test]
fn udp_calls_tcp() {
    play("udp-tcp", "u1", "t1", 1);
}

/// One connection serves the calls of both shards, and connections of both shards one call each.
#[test]
fn connections_and_calls_are_of_different_shards() {
    play("tcp-shards", "tn", "t1", 2);
}

/// What is not SIP, or takes too long to become any, ends its connection and nothing else.
#[test]
fn rude_connections_are_closed() {
    let lab = Lab::new("tcp-rude");
    let listen = lab.udp();
    let mut node = Node::start(&lab, &setup(&lab, listen, ("tcp", "tcp"), 1));
    let mut idle = TcpStream::connect(node.sip).unwrap();
    let mut rude = TcpStream::connect(node.sip).unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    for stream in [&idle, &rude] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    assert_eq!(rude.read(&mut [0; 1]).unwrap_or(0), 0);
    idle.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ").unwrap();
    assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0, "closed after ten seconds");
    let expected = [
        "tandem_stream_malformed_total{shard=\"0\"} 1",
        "tandem_stream_timeouts_total{shard=\"0\"} 1",
        "tandem_stream_connections{shard=\"0\"} 0",
    ];
    let mut page = String::new();
    let counted = within(Duration::from_secs(10), || {
        page = scrape(node.metrics);
        expected.iter().all(|line| page.contains(line)).then_some(())
    });
    assert!(counted.is_some(), "{page}");
    assert_eq!(node.drain(), Some(0));
}

/// The node's metrics page.
fn scrape(from: SocketAddr) -> String {
    let mut stream = TcpStream::connect(from).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// Each trunk tells of its connections and of nobody else's; one that is taken away tells nothing more.
#[test]
fn trunks_tell_of_their_connections() {
    let lab = Lab::new("tcp-trunks");
    let listener = TcpListener::bind((lab.ip, 0)).unwrap();
    let endpoint = listener.local_addr().unwrap();
    let mut setup = setup(&lab, endpoint, ("tcp", "tcp"), 2);
    setup.trunks[0].2 += "keepalive_s = 1\n";
    let before = setup.text();
    let alone =
        before.replace("sources = [\"127.0.0.0/8\"]", &format!("sources = [\"{}\"]", lab.ip));
    lab.write("sbcd.toml", &alone);
    let file = lab.file("sbcd.toml");
    let mut node = Node::spawn_file(&lab, &file, setup.sip, setup.metrics);
    node.await_ready();
    let counted = |what: &str, trunk: &str, more: &str| {
        node.metric(&format!("tandem_trunk_{what}{{trunk=\"{trunk}\"{more}}}"))
    };
    let await_count = |what: &str, trunk: &str, more: &str, wanted: u64| {
        let found = within(LONG, || (counted(what, trunk, more) == wanted).then_some(()));
        assert!(found.is_some(), "{what} of {trunk} is not {wanted}\n{}", node.page());
    };
    // A keep-alive dials the endpoint, which answers it.
    let (mut dialled, _) = listener.accept().unwrap();
    dialled.set_read_timeout(Some(LONG)).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut ping, mut pings) = ([0; 4], 0);
        while dialled.read_exact(&mut ping).is_ok() && dialled.write_all(b"\r\n").is_ok() {
            assert_eq!(&ping, b"\r\n\r\n");
            pings += 1;
        }
        pings
    });
    let answered = || (counted("keepalives_answered_total", "out", "") >= 1).then_some(());
    assert!(within(LONG, answered).is_some(), "{}", node.page());
    await_count("connections", "out", "", 1);
    await_count("connections_opened_total", "out", ",began=\"us\"", 1);
    assert!(counted("keepalives_sent_total", "out", "") >= 1);
    assert_eq!(counted("connections", "in", ""), 0, "an endpoint is nobody else's");
    // Two callers, one of whom asks something and leaves.
    let mut callers = [(); 2].map(|()| caller(&lab, node.sip));
    let options = options(callers[0].local_addr().unwrap());
    callers[0].write_all(options.as_bytes()).unwrap();
    let mut answer = [0; 12];
    callers[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 ");
    await_count("connections", "in", "", 2);
    await_count("connections_opened_total", "in", ",began=\"peer\"", 2);
    for what in ["messages_received_total", "messages_sent_total"] {
        await_count(what, "in", "", 1);
        assert_eq!(counted(what, "out", ""), 0, "keep-alives are none");
    }
    callers[0].shutdown(std::net::Shutdown::Both).unwrap();
    await_count("connections_closed_total", "in", ",reason=\"closed\"", 1);
    await_count("connections", "in", "", 1);
    let shown = node.ask(serde_json::json!({"op": "get", "what": "trunks"})).unwrap();
    assert_eq!((&shown[0]["connections"], &shown[1]["connections"]), (&1.into(), &1.into()));
    // Without its trunk the caller's connection goes on, and is nobody's.
    let gone = alone
        .replace("name = \"in\"", "name = \"other\"")
        .replace(&format!("sources = [\"{}\"]", lab.ip), "sources = [\"192.0.2.1\"]");
    lab.write("sbcd.toml", &gone);
    node.ask(serde_json::json!({"op": "reload"})).unwrap();
    assert!(!node.page().contains("trunk=\"in\""), "{}", node.page());
    assert_eq!(counted("connections", "other", ""), 0);
    assert_eq!(node.metric("tandem_stream_connections"), 2);
    // It comes back as it was.
    lab.write("sbcd.toml", &alone);
    node.ask(serde_json::json!({"op": "reload"})).unwrap();
    await_count("connections", "in", "", 1);
    assert_eq!(counted("connections_opened_total", "in", ",began=\"peer\""), 2);
    let asked = counted("keepalives_sent_total", "out", "");
    node.process.kill();
    assert!(answering.join().unwrap() >= asked, "what was sent arrived");
}

/// A connection to the node from the lab's address.
fn caller(lab: &Lab, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(lab.ip, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn options(me: SocketAddr) -> String {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP {me};branch=z9hG4bK1\r\nFrom: <sip:x@y>;tag=1\r\n\
         To: <sip:a@b>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Without a descriptor for another connection a listener waits: it does not spin, and goes on when there is
/// one again.
#[test]
fn a_node_out_of_descriptors_waits_for_some() {
    let lab = Lab::new("tcp-descriptors");
    let mut node = Node::start(&lab, &setup(&lab, lab.udp(), ("tcp", "udp"), 1));
    let pid = node.process.id();
    // The next descriptor would be the lowest that is free.
    let free = (0..).find(|fd| !Path::new(&format!("/proc/{pid}/fd/{fd}")).is_symlink()).unwrap();
    let before = limit_files(pid, free);
    let mut waiting = TcpStream::connect(node.sip).unwrap();
    waiting.set_read_timeout(Some(LONG)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let begun = cpu_ms(pid);
    std::thread::sleep(Duration::from_secs(2));
    let spent = cpu_ms(pid) - begun;
    assert!(spent < 400, "{spent} ms of two seconds");
    limit_files(pid, before);
    let options = options(waiting.local_addr().unwrap());
    waiting.write_all(options.as_bytes()).unwrap();
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 ");
    assert!(node.metric("tandem_stream_accepts_delayed_total") > 0, "{}", node.page());
    assert_eq!(node.drain(), Some(0));
}

/// Connections that come and go, some with a part of a message, leave nothing behind.
#[test]
fn churned_connections_leave_nothing() {
    let lab = Lab::new("tcp-churn");
    let mut node = Node::start(&lab, &setup(&lab, lab.udp(), ("tcp", "udp"), 2));
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", node.process.id())).unwrap().count();
    let before = descriptors();
    assert!(room(node.process.id()) > 2 * 16_000, "no accept waits for the kernel's table to grow");
    // `make churn` asks for more.
    let wanted = std::env::var("TANDEM_CHURN").ok().and_then(|n| n.parse().ok());
    let connections: u32 = wanted.unwrap_or(3_000);
    for n in 0..connections {
        // Ports of ours that closed a moment ago come free again.
        let mut stream = within(LONG, || TcpStream::connect(node.sip).ok()).unwrap();
        if n % 3 == 0 {
            stream.write_all(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ").unwrap();
        }
    }
    let gone = within(LONG, || (node.metric("tandem_stream_connections") == 0).then_some(()));
    assert!(gone.is_some(), "{}", node.page());
    // The page was asked for over a connection of its own; a node that starts may have a file open still.
    assert!(within(LONG, || (descriptors() <= before).then_some(())).is_some());
    println!(
        "{connections} connections came and went; {before} descriptors before, {} after",
        descriptors()
    );
    assert_eq!(node.drain(), Some(0));
}

/// For how many files the kernel has room in a process's table, counted as if it might have any number.
fn room(pid: u32) -> u64 {
    let number = |file: &str, begins: &str, word: usize| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(begins))?.to_owned();
        line.split_whitespace().nth(word)?.parse().ok()
    };
    let size = number("status", "FDSize:", 0).unwrap();
    let may = number("limits", "Max open files", 0).unwrap_or(u64::MAX);
    if size >= may { u64::MAX } else { size }
}

/// Sets how many files a process may have open; how many it could before.
fn limit_files(pid: u32, most: u64) -> u64 {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let ask = |new: *const libc::rlimit, old: *mut libc::rlimit| {
        #[expect(unsafe_code, reason = "prlimit has no safe wrapper")]
        // SAFETY: each pointer is null or to one rlimit that outlives the call.
        let done = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_NOFILE, new, old) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    ask(std::ptr::null(), &raw mut before);
    let limit = libc::rlimit { rlim_cur: most, ..before };
    ask(&raw const limit, std::ptr::null_mut());
    before.rlim_cur
}

/// CPU time of a process so far.
fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

/// Calls over IPv6, on connections of both sides.
#[test]
fn calls_over_tcp_and_ipv6() {
    play_at(Lab::ipv6("tcp-v6"), "t1", "t1", 2);
}
