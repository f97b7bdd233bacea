//! Host names against a real name server: an address, its change, a server that is gone and one that says
//! nothing, and what becomes of calls meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::netns::Namespace;
use common::process::{Running, need};
use common::{LONG, Lab, Load, Node, Setup, within};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// dnsmasq on the loopback of `network`, where `carrier.test` has this address for a second at a time. The
/// IPv6 address beside it cannot be reached from the trunk's interface.
fn name_server(lab: &Lab, network: &Namespace, address: &str) -> Running {
    need("dnsmasq", "dnsmasq-base");
    let mut command = network.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file="]);
    command.arg(format!("--host-record=carrier.test,{address},2001:db8::1,1"));
    Running::start(command, &lab.file("dnsmasq.log"))
}

/// One call with media to `callee`; whether it was clean.
fn call(lab: &Lab, node: &Node, callee: SocketAddr) -> bool {
    let more = ["--calls", "1", "--hold", "0.2", "--expect-failures"];
    let (_, report) = Load::start(lab, node.sip, callee, &more).finish(LONG);
    report["clean"] == 1
}

/// The reason of the newest CDR.
fn last_reason(node: &Node) -> String {
    node.records().last().map_or(String::new(), |r| r["reason"].as_str().unwrap().to_owned())
}

#[test]
fn names_are_followed_through_change_outage_and_recovery() {
    let (lab, network) = (Lab::new("dns"), Namespace::make("dns"));
    network.ask("127.0.0.1");
    network.enter();
    let (first, second): (SocketAddr, SocketAddr) =
        ("127.0.0.7:5080".parse().unwrap(), "127.0.0.8:5080".parse().unwrap());
    let mut server = name_server(&lab, &network, "127.0.0.7");
    let mut setup = Setup::new(&lab, first);
    setup.trunks[0].2 = String::new();
    let text = setup
        .text()
        .replace("endpoints = [\"127.0.0.7:5080\"]", "endpoints = [\"carrier.test:5080\"]");
    let text =
        text.replace("sources = [\"127.0.0.7:5080\"]", "sources = [\"127.0.0.7\", \"127.0.0.8\"]");
    let file = lab.write("sbcd.toml", &text);
    let mut command = network.command(env!("CARGO_BIN_EXE_sbcd"));
    let run = lab.file("run");
    command.arg("--config").arg(&file).env("TANDEM_RUN", &run);
    let process = Running::start(command, &lab.file("sbcd.log"));
    let mut node = Node { process, run, sip: setup.sip, metrics: setup.metrics };
    node.await_ready();

    assert!(call(&lab, &node, first), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(node.records()[0]["attempts"][0]["endpoint"], "127.0.0.7:5080");

    // The server is gone: its last answer is used for as long as it said, then calls are refused by name.
    server.kill();
    let refused = within(LONG, || (!call(&lab, &node, first)).then_some(()));
    assert!(refused.is_some() && last_reason(&node) == "name_unresolved", "{}", last_reason(&node));
    assert_eq!(node.records().last().unwrap()["status"], 503);

    // It is back, with another address: so are calls, as soon as the refusal is not remembered any more.
    let back = Instant::now();
    let server = name_server(&lab, &network, "127.0.0.8");
    assert!(within(LONG, || call(&lab, &node, second).then_some(())).is_some());
    println!("recovery_after_outage {} ms", back.elapsed().as_millis());
    assert_eq!(node.records().last().unwrap()["attempts"][0]["endpoint"], "127.0.0.8:5080");

    // It is there and says nothing: a call waits two seconds for it, and no longer.
    server.signal(libc::SIGSTOP);
    assert!(within(LONG, || (!call(&lab, &node, second)).then_some(())).is_some());
    assert_eq!(last_reason(&node), "name_unresolved");
    assert!(node.metric("tandem_questions_late_total") > 0);
    let late = node.records().into_iter().rfind(|r| r["reason"] == "name_unresolved").unwrap();
    let waited = late["end_at"].as_u64().unwrap() - late["setup_at"].as_u64().unwrap();
    assert!(waited < 2_500, "{late}");
    server.signal(libc::SIGCONT);
    assert!(within(LONG, || call(&lab, &node, second).then_some(())).is_some());
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    assert!(Instant::now() - back < Duration::from_secs(120));
}
