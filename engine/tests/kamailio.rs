//! Kamailio as a proxy in front of and behind the node: Record-Route on one leg must become the Route set
//! of that leg alone, and every request within a dialog must take it. Calls reach it and leave it as datagrams
//! on the side that is not ours, and are carried to or from us by each transport in turn.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::process::{Running, need};
use common::{LONG, Lab, Load, Node, Setup, within};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const CALLS: usize = 30;

/// What lies between us and the proxy.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
    /// Each wants to see the certificate of the other.
    Mtls,
    Ws,
    Wss,
}

impl Way {
    fn transport(self) -> &'static str {
        match self {
            Way::Udp => "udp",
            Way::Tcp => "tcp",
            Way::Tls | Way::Mtls => "tls",
            Way::Ws => "ws",
            Way::Wss => "wss",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Way::Tls | Way::Mtls | Way::Wss)
    }

    fn has_websockets(self) -> bool {
        matches!(self, Way::Ws | Way::Wss)
    }
}

macro_rules! flows {
    ($($flow:ident)*) => {
        mod udp { $( #[test] fn $flow() { super::$flow(super::Way::Udp); } )* }
        mod tcp { $( #[test] fn $flow() { super::$flow(super::Way::Tcp); } )* }
        mod tls { $( #[test] fn $flow() { super::$flow(super::Way::Tls); } )* }
        mod mtls { $( #[test] fn $flow() { super::$flow(super::Way::Mtls); } )* }
    };
}

flows! {
    a_proxy_in_front
    a_proxy_behind
}

/// Its WebSockets are for who dials it: it dials nobody over them.
#[test]
fn a_proxy_behind_websockets() {
    a_proxy_behind(Way::Ws);
    a_proxy_behind(Way::Wss);
}

/// A Kamailio with a side for datagrams and one for us, which answers by the time this returns.
struct Proxy {
    process: Running,
    udp: SocketAddr,
    ours: SocketAddr,
}

fn proxy(lab: &Lab, way: Way, next: &str) -> Proxy {
    need("kamailio", "kamailio");
    let udp = lab.udp();
    let ours = if way == Way::Udp { udp } else { lab.tcp() };
    let kind = if way.has_tls() { "tls" } else { "tcp" };
    let mut listen = format!("listen=udp:{udp}\n");
    if way != Way::Udp {
        listen += &format!("listen={kind}:{ours}\n");
    }
    let text = include_str!("data/kamailio.cfg").replace("FOLDER", &lab.dir.display().to_string());
    let text = text.replace("NEXT", next).replace("LISTEN\n\n", &format!("{listen}\n"));
    let config = lab.write("kamailio.cfg", &text);
    let mut command = Command::new("kamailio");
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(config);
    command.arg("-P").arg(lab.file("kamailio.pid")).arg("-Y").arg(&lab.dir);
    let defined = [
        (way.has_tls(), "WITH_TLS"),
        (way == Way::Mtls, "WITH_MTLS"),
        (way.has_websockets(), "WITH_WS"),
    ];
    for (_, define) in defined.into_iter().filter(|(is_defined, _)| *is_defined) {
        command.args(["-A", define]);
    }
    let process = Running::start(command, &lab.file("kamailio.log"));
    let listens = || match way {
        Way::Udp => std::net::UdpSocket::bind(udp).err().map(drop),
        Way::Tcp | Way::Tls | Way::Mtls | Way::Ws | Way::Wss => {
            TcpStream::connect(ours).ok().map(drop)
        }
    };
    assert!(within(LONG, listens).is_some(), "{}", process.log());
    Proxy { process, udp, ours }
}

/// A node between `in` and the callee, with the listener that `way` needs, and where that is.
fn setup(lab: &Lab, way: Way, callee: SocketAddr) -> (Setup, SocketAddr) {
    let mut setup = Setup::new(lab, callee);
    if way == Way::Udp {
        let sip = setup.sip;
        return (setup, sip);
    }
    let at = lab.tcp();
    setup.interface += &format!("{}_port = {}\n", way.transport(), at.port());
    if way.has_tls() {
        let authority = Authority::new(lab);
        authority.issue("node", &format!("IP:{}", lab.ip));
        authority.issue("proxy", "DNS:proxy.example");
        let more = if way == Way::Mtls { "verify_clients = true\n" } else { "" };
        setup.route += &authority.section("node", more);
    }
    (setup, at)
}

/// Calls with audio; each must be clean, and its ACK and BYE must have passed the proxy.
fn carry(lab: &Lab, to: SocketAddr, uas: SocketAddr, node: &mut Node, proxy: &Proxy) {
    let more = ["--calls", "30", "--rate", "15", "--hold", "1"];
    let (code, report) = Load::start(lab, to, uas, &more).finish(Duration::from_secs(60));
    let told = || format!("{}\n{}", proxy.process.log(), node.process.log());
    assert_eq!(code, 0, "{report}\n{}", told());
    assert_eq!(report["clean"], CALLS, "{report}");
    let log = proxy.process.log();
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("without route"), 0, "{log}");
    assert!(count("within ACK") >= CALLS, "{} ACKs came through", count("within ACK"));
    assert!(count("within BYE") >= CALLS, "{} BYEs came through", count("within BYE"));
    let records = node.await_records(CALLS);
    let answered = records.iter().filter(|r| r["answer_at"].is_u64()).count();
    assert_eq!(answered, CALLS);
    assert!(records.iter().all(|r| r["media"]["caller"]["packets"].as_u64() > Some(40)));
}

fn a_proxy_in_front(way: Way) {
    let lab = Lab::new("kamailio-front");
    let callee = lab.udp();
    let (mut setup, at) = setup(&lab, way, callee);
    setup.caller = format!("transport = \"{}\"\n", way.transport());
    if way == Way::Mtls {
        setup.caller += "peer_names = [\"proxy.example\"]\n";
    }
    let mut node = Node::start(&lab, &setup);
    let proxy = proxy(&lab, way, &format!("{at};transport={}", way.transport()));
    carry(&lab, proxy.udp, callee, &mut node, &proxy);
    if way != Way::Udp {
        assert!(node.metric("tandem_trunk_messages_received_total{trunk=\"in\"}") > 0);
        assert_eq!(node.metric("tandem_stream_dialled_total"), 0, "answers go back as they came");
    }
    assert_eq!(node.drain(), Some(0));
}

fn a_proxy_behind(way: Way) {
    let lab = Lab::new("kamailio-behind");
    let callee = lab.udp();
    let (mut setup, _) = setup(&lab, way, callee);
    let proxy = proxy(&lab, way, &callee.to_string());
    setup.trunks[0].1 = proxy.ours;
    setup.trunks[0].2 = format!("transport = \"{}\"\n", way.transport());
    if way.has_tls() {
        setup.trunks[0].2 += "tls_name = \"proxy.example\"\n";
    }
    let mut node = Node::start(&lab, &setup);
    carry(&lab, setup.sip, callee, &mut node, &proxy);
    if way != Way::Udp {
        let opened = "tandem_trunk_connections_opened_total{trunk=\"out\",began=\"us\"}";
        assert_eq!(node.metric(opened), 1, "one connection carries all");
    }
    assert_eq!(node.drain(), Some(0));
}
