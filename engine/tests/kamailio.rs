//! Kamailio as a proxy in front of and behind the node: Record-Route on one leg must become the Route set
//! of that leg alone, and every request within a dialog must take it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};
use common::{LONG, Lab, Load, Node, Setup, within};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const CALLS: usize = 50;

/// A Kamailio between `listen` and `next`, which answers by the time this returns.
fn kamailio(lab: &Lab, listen: SocketAddr, next: SocketAddr) -> Running {
    need("kamailio", "kamailio");
    let text = include_str!("data/kamailio.cfg");
    let text = text.replace("LISTEN", &listen.to_string()).replace("NEXT", &next.to_string());
    let config = lab.write("kamailio.cfg", &text);
    let mut command = Command::new("kamailio");
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(config);
    command.arg("-P").arg(lab.file("kamailio.pid")).arg("-Y").arg(&lab.dir);
    let kamailio = Running::start(command, &lab.file("kamailio.log"));
    let bound = within(LONG, || std::net::UdpSocket::bind(listen).err());
    assert!(bound.is_some(), "{}", kamailio.log());
    kamailio
}

/// Fifty calls with audio; each must be clean, and its ACK and BYE must have passed the proxy.
fn carry(lab: &Lab, to: SocketAddr, uas: SocketAddr, node: &mut Node, proxy: &Running) {
    let more = ["--calls", "50", "--rate", "25", "--hold", "1"];
    let (code, report) = Load::start(lab, to, uas, &more).finish(Duration::from_secs(60));
    assert_eq!(code, 0, "{report}\n{}", proxy.log());
    assert_eq!(report["clean"], CALLS, "{report}");
    let log = proxy.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("without route"), 0, "{log}");
    assert!(count("within ACK") >= CALLS, "{} ACKs came through", count("within ACK"));
    assert!(count("within BYE") >= CALLS, "{} BYEs came through", count("within BYE"));
    let records = node.await_records(CALLS);
    let answered = records.iter().filter(|r| r["answer_at"].is_u64()).count();
    assert_eq!(answered, CALLS);
    assert!(records.iter().all(|r| r["media"]["caller"]["packets"].as_u64() > Some(40)));
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn a_proxy_in_front() {
    let lab = Lab::new("kamailio-front");
    let (listen, callee) = (lab.udp(), lab.udp());
    let setup = Setup::new(&lab, callee);
    let mut node = Node::start(&lab, &setup);
    let proxy = kamailio(&lab, listen, setup.sip);
    carry(&lab, listen, callee, &mut node, &proxy);
}

#[test]
fn a_proxy_behind() {
    let lab = Lab::new("kamailio-behind");
    let (listen, callee) = (lab.udp(), lab.udp());
    let setup = Setup::new(&lab, listen);
    let mut node = Node::start(&lab, &setup);
    let proxy = kamailio(&lab, listen, callee);
    carry(&lab, setup.sip, callee, &mut node, &proxy);
}
