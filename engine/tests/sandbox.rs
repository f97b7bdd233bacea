//! Once the node runs, nobody in it can make a second ring or start another program.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{LONG, Lab, Load, Node, Setup};
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
