//! Once the node runs, nobody in it can make a second ring or start another program; and it runs behind the filter
//! of its unit.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};
use common::{LONG, Lab, Load, Node, Setup};
use std::collections::{BTreeSet, HashMap};
use std::process::Command;
use std::sync::mpsc::channel;

/// Tells the test process that it is the one to be confined.
const CHILD: &str = "TANDEM_SANDBOX_CHILD";

#[test]
fn every_thread_of_a_running_node_is_filtered() {
    let lab = Lab::new("sandbox");
    let callee = lab.udp();
    let setup = Setup::new(&lab, callee);
    let mut node = Node::start(&lab, &setup);
    let mut threads = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", node.process.id())).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} {status}")).trim().to_owned()
        };
        assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".into(), "1".into()), "{status}");
        threads += 1;
    }
    assert!(threads >= 3, "gate, scribe and a shard");
    // And it works: calls, CDR files, a reload, which starts a thread.
    let (code, report) = Load::start(&lab, setup.sip, callee, &["--calls", "5"]).finish(LONG);
    assert_eq!(code, 0, "{report}");
    assert_eq!(node.await_records(5).len(), 5);
    node.ask(serde_json::json!({"op": "reload"})).unwrap();
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

/// What the unit's filter refuses strace refuses here: the node does without, and works.
#[test]
fn a_node_runs_behind_the_filter_of_its_unit() {
    need("strace", "strace");
    need("systemd-analyze", "systemd");
    let unit = include_str!("../../systemd/sbcd.service");
    assert!(unit.contains("\nSystemCallErrorNumber=EPERM\n"), "systemd would kill it");
    let refused: Vec<String> = refused_by(unit).iter().map(|call| format!("?{call}")).collect();
    let refused = refused.join(",");
    let lab = Lab::new("unit");
    let (callee, run, trace) = (lab.udp(), lab.file("run"), lab.file("trace"));
    let setup = Setup::new(&lab, callee);
    let (sip, metrics) = (setup.sip, setup.metrics);
    let file = lab.write("sbcd.toml", &setup.text());
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "--seccomp-bpf", "-o"]).arg(&trace);
    command.arg(format!("-etrace={refused}")).arg(format!("-einject={refused}:error=EPERM"));
    command.arg(env!("CARGO_BIN_EXE_sbcd")).arg("--config").arg(file).env("TANDEM_RUN", &run);
    let process = Running::start(command, &lab.file("sbcd.log"));
    let mut node = Node { process, run, sip, metrics };
    node.await_ready();
    let (code, report) = Load::start(&lab, sip, callee, &["--calls", "5"]).finish(LONG);
    assert_eq!(code, 0, "{report}");
    assert_eq!(node.await_records(5).len(), 5);
    node.ask(serde_json::json!({"op": "reload"})).unwrap();
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    // It looked whether media ports may share sockets, and that is all.
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut calls = trace.lines().filter(|line| line.contains("(INJECTED)")).peekable();
    assert!(calls.peek().is_some() && calls.all(|line| line.contains(" bpf(")), "{trace}");
}

/// System calls that a unit does not let through.
fn refused_by(unit: &str) -> BTreeSet<String> {
    let output = Command::new("systemd-analyze").arg("syscall-filter").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut sets, mut name) = (HashMap::<&str, Vec<&str>>::new(), "");
    for line in text.lines() {
        match line.trim() {
            "" => name = "",
            word if !line.starts_with(' ') => name = word,
            word if !word.starts_with('#') => sets.entry(name).or_default().push(word),
            _ => {}
        }
    }
    let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut let_through = calls(&sets, "@default");
    for filter in filters {
        let named = filter.trim_start_matches('~').split(' ');
        let named: BTreeSet<String> = named.flat_map(|word| calls(&sets, word)).collect();
        let_through = match filter.starts_with('~') {
            true => &let_through - &named,
            false => &let_through | &named,
        };
    }
    let refused = &calls(&sets, "@known") - &let_through;
    assert!(refused.len() > 50 && let_through.contains("io_uring_enter"), "{text}");
    refused
}

/// A system call, or all of a set's and of the sets in it.
fn calls(sets: &HashMap<&str, Vec<&str>>, name: &str) -> BTreeSet<String> {
    match sets.get(name) {
        Some(words) => words.iter().flat_map(|word| calls(sets, word)).collect(),
        None => BTreeSet::from([name.to_owned()]),
    }
}

#[test]
fn rings_and_programs_are_refused() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "confined", "--include-ignored", "--nocapture"]).env(CHILD, "1");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

/// Runs in a process of its own, which it leaves confined.
#[test]
#[ignore = "run by `rings_and_programs_are_refused`"]
fn confined() {
    assert!(std::env::var_os(CHILD).is_some(), "this would confine the other tests");
    let (go, wait) = channel::<()>();
    let earlier = std::thread::spawn(move || {
        wait.recv().unwrap();
        refused();
    });
    assert!(Command::new("true").status().is_ok());
    engine::sandbox::close().unwrap();
    refused();
    go.send(()).unwrap();
    earlier.join().unwrap();
    std::thread::spawn(refused).join().unwrap();
    assert!(
        std::fs::read("/proc/self/status").is_ok()
            && std::net::UdpSocket::bind("127.0.0.1:0").is_ok()
    );
}

fn refused() {
    let errno = |e: std::io::Error| e.raw_os_error();
    assert_eq!(io_uring::IoUring::new(4).map(drop).map_err(errno), Err(Some(libc::EPERM)));
    assert_eq!(Command::new("true").status().map(drop).map_err(errno), Err(Some(libc::EPERM)));
}
