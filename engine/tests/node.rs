//! The node as a process: what it says when it cannot start, how it stops, and that it carries calls over
//! every driver, address family and kind of endpoint.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::wire::{Peer, header};
use common::{Answering, LONG, Lab, Load, Node, Setup, reasons, within};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a node that cannot start; its exit status and what it said.
fn refused(lab: &Lab, setup: &Setup) -> (Option<i32>, String) {
    let file = lab.write("refused.toml", &setup.text());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sbcd"));
    command.arg("--config").arg(file).env("TANDEM_RUN", lab.file("run"));
    let mut process = common::process::Running::start(command, &lab.file("refused.log"));
    (process.wait(LONG), process.log())
}

/// Fifty calls with audio through a node on `setup`, all clean.
fn carries_calls(lab: &Lab, setup: &Setup, callee: std::net::SocketAddr) -> Node {
    let node = Node::start(lab, setup);
    let more = ["--calls", "50", "--rate", "50", "--hold", "0.6"];
    let (code, report) = Load::start(lab, setup.sip, callee, &more).finish(PATIENCE);
    assert_eq!(code, 0, "{report}\n{}", node.process.log());
    assert_eq!(report["clean"], 50, "{report}");
    assert_eq!(reasons(&node.await_records(50)).values().sum::<usize>(), 50);
    node
}

#[test]
fn a_second_node_on_one_run_directory_is_refused_by_name() {
    let lab = Lab::new("second");
    let setup = Setup::new(&lab, lab.udp());
    let node = Node::start(&lab, &setup);
    let (code, said) = refused(&lab, &Setup::new(&lab, lab.udp()));
    assert_eq!(code, Some(1), "{said}");
    let pid = node.process.id().to_string();
    assert!(said.contains("in use by process") && said.contains(&pid), "{said}");
    assert!(said.contains("run_dir"), "no remedy: {said}");
}

#[test]
fn a_start_without_decks_says_nothing_of_them() {
    let lab = Lab::new("quiet");
    let mut node = Node::start(&lab, &Setup::new(&lab, lab.udp()));
    assert_eq!(node.drain(), Some(0));
    let said = node.process.log();
    let lines = said.lines().filter(|line| line.starts_with("sbcd: "));
    assert!(lines.clone().count() > 1 && !said.contains("deck"), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_a_remedy() {
    let lab = Lab::new("port");
    let setup = Setup::new(&lab, lab.udp());
    let _taken = UdpSocket::bind(setup.sip).unwrap();
    let (code, said) = refused(&lab, &setup);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&setup.sip.to_string()), "{said}");
    assert!(said.contains("ss -") || said.contains("process"), "no remedy: {said}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let lab = Lab::new("key");
    let mut setup = Setup::new(&lab, lab.udp());
    setup.node += "max_call = 5\n";
    let (code, said) = refused(&lab, &setup);
    assert_eq!(code, Some(64), "{said}");
    let line = setup.text().lines().position(|l| l.starts_with("max_call =")).unwrap() + 1;
    assert!(said.contains(&format!("refused.toml:{line}:")), "{said}");
    assert!(said.contains("max_call"), "{said}");
}

#[test]
fn a_drain_lets_a_live_call_end_by_itself() {
    let lab = Lab::new("drain");
    let callee = lab.udp();
    let setup = Setup::new(&lab, callee);
    let mut node = Node::start(&lab, &setup);
    let load = Load::start(&lab, setup.sip, callee, &["--calls", "1", "--hold", "2"]);
    within(LONG, || (node.status()["calls_answered"] == 1).then_some(())).unwrap();
    node.process.signal(libc::SIGTERM);
    within(LONG, || (node.status()["draining"] == true).then_some(())).unwrap();
    let late = Peer::bind((lab.ip, 0).into());
    late.send(setup.sip, late.invite(setup.sip, "late", "").as_bytes());
    late.expect("503", |m| m.starts_with("SIP/2.0 503"));
    let (code, report) = load.finish(PATIENCE);
    assert_eq!(code, 0, "{report}");
    // The late caller's ACK never comes: its transaction is given 32 s at most.
    assert_eq!(node.process.wait(PATIENCE), Some(0), "{}", node.process.log());
    let counted = reasons(&node.records());
    assert_eq!(counted.get("draining"), Some(&1), "{counted:?}");
    assert_eq!(counted.values().sum::<usize>(), 2, "{counted:?}");
}

/// As a scraper reads the page: every family has HELP and TYPE before its samples, and is whole.
fn well_formed(page: &str) -> BTreeMap<String, f64> {
    let body = page.split_once("\r\n\r\n").map_or(page, |(_, body)| body);
    let (mut kinds, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap_or(series);
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(kinds.contains_key(name) || kinds.contains_key(family), "no TYPE: {line}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    for (name, kind) in &kinds {
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
    }
    samples
}

#[test]
fn metrics_are_well_formed_and_count_every_refused_invite() {
    let lab = Lab::new("metrics");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    setup.route = "[[route]]\nprefix = \"33\"\nto = [\"out\"]\n".into();
    setup.caller = "cps = 5\n".into();
    let node = Node::start(&lab, &setup);
    let more = ["--calls", "40", "--rate", "400", "--expect-failures", "--no-media"];
    let (code, report) = Load::start(&lab, setup.sip, callee, &more).finish(PATIENCE);
    assert_eq!(code, 0, "{report}");
    node.await_records(40);
    let samples = well_formed(&node.page());
    let ends = samples.iter().filter(|(name, _)| name.starts_with("tandem_call_ends_total"));
    let ends: Vec<_> = ends.filter(|(_, count)| **count > 0.0).collect();
    assert_eq!(ends.iter().map(|(_, count)| **count).sum::<f64>(), 40.0, "{ends:?}");
    for (reason, status) in [("no_route", "404"), ("trunk_rate", "503")] {
        let heard = report["failed"][status].as_u64().unwrap_or(0);
        assert_eq!(node.metric(&format!("reason=\"{reason}\"")), heard, "{report}");
        assert!(heard > 0, "{report}");
    }
    assert_eq!(samples["tandem_calls_total{shard=\"0\"}"], 40.0);
}

#[test]
fn epoll_carries_calls() {
    let lab = Lab::new("epoll");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    setup.node += "driver = \"epoll\"\n";
    let mut node = carries_calls(&lab, &setup, callee);
    assert!(node.status()["driver"].as_str().unwrap().contains("epoll"), "{}", node.status());
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn two_shards_carry_calls() {
    let lab = Lab::new("shards");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    let mut node = carries_calls(&lab, &setup, callee);
    assert!(node.metric("tandem_sip_steered_total") > 0, "nothing crossed the mesh");
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn ipv6_carries_calls() {
    let lab = Lab::ipv6("ipv6");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    // Every lab of this address family shares ::1, so the ports come from the process id.
    let first = 14_000 + (std::process::id() % 100) * 40;
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    setup.interface = format!("media_ports = \"{first}-{}\"\n", first + 39);
    let mut node = Node::start(&lab, &setup);
    let more = ["--calls", "5", "--rate", "10", "--hold", "0.6"];
    let (code, report) = Load::start(&lab, setup.sip, callee, &more).finish(PATIENCE);
    assert_eq!(code, 0, "{report}");
    assert_eq!((&report["clean"], node.await_records(5).len()), (&5.into(), 5));
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn an_endpoint_with_a_name_is_looked_up() {
    let mut lab = Lab::new("name");
    let own = lab.ip;
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let callee = lab.udp();
    lab.ip = own;
    let setup = Setup::new(&lab, callee);
    let named = format!("endpoints = [\"localhost:{}\"]", callee.port());
    let text = setup.text().replace(&format!("endpoints = [\"{callee}\"]"), &named);
    assert!(text.contains("localhost"));
    let file = lab.write("named.toml", &text);
    let mut node = Node::spawn_file(&lab, &file, setup.sip, setup.metrics);
    node.await_ready();
    let called = Answering::start(&lab, callee, &["--no-media"]);
    let (caller, call) = (Peer::bind((lab.ip, 0).into()), "named");
    caller.send(setup.sip, caller.invite(setup.sip, call, "").as_bytes());
    let answered = caller.expect("200", |m| m.starts_with("SIP/2.0 200"));
    caller.send(setup.sip, caller.within(&answered, "ACK", 1).as_bytes());
    caller.send(setup.sip, caller.within(&answered, "BYE", 2).as_bytes());
    caller.expect("200 of the BYE", |m| header(m, "CSeq") == "2 BYE");
    let records = node.await_records(1);
    assert_eq!(records[0]["attempts"][0]["endpoint"], callee.to_string());
    assert_eq!(called.finish()["answered"], 1);
    assert_eq!(node.drain(), Some(0));
}
