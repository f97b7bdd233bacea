//! Host names against a real name server: addresses, servers by priority, their change, a name server that is
//! gone and one that says nothing, and what becomes of calls meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::netns::Namespace;
use common::process::{Running, need};
use common::wire::Peer;
use common::{LONG, Lab, Load, Node, Setup, within};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// dnsmasq on the loopback of `network` with these records, each for a second at a time; of `test` it knows
/// everything.
fn serve(lab: &Lab, network: &Namespace, records: &[String]) -> Running {
    need("dnsmasq", "dnsmasq-base");
    let mut command = network.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file="]);
    command.args(["--local=/test/", "--local-ttl=1"]).args(records);
    Running::start(command, &lab.file("dnsmasq.log"))
}

/// `carrier.test` has this address. The IPv6 address beside it cannot be reached from the trunk's interface.
fn name_server(lab: &Lab, network: &Namespace, address: &str) -> Running {
    serve(lab, network, &[host("carrier.test", &format!("{address},2001:db8::1"))])
}

fn host(name: &str, addresses: &str) -> String {
    format!("--host-record={name},{addresses},1")
}

/// A configuration whose only trunk out has this endpoint.
fn towards(setup: &Setup, first: SocketAddr, endpoint: &str) -> String {
    let text = setup.text().replace(
        &format!("endpoints = [\"{first}\"]"),
        &format!("endpoints = [\"{endpoint}\"]\ntrying_timeout_ms = 300"),
    );
    text.replace(
        &format!("sources = [\"{first}\"]"),
        "sources = [\"127.0.0.7\", \"127.0.0.8\", \"127.0.0.9\"]",
    )
}

/// A node within the network.
fn start(lab: &Lab, network: &Namespace, setup: &Setup, text: &str) -> Node {
    let file = lab.write("sbcd.toml", text);
    let mut command = network.command(env!("CARGO_BIN_EXE_sbcd"));
    let run = lab.file("run");
    command.arg("--config").arg(&file).env("TANDEM_RUN", &run);
    let process = Running::start(command, &lab.file("sbcd.log"));
    let mut node = Node { process, run, sip: setup.sip, metrics: setup.metrics };
    node.await_ready();
    node
}

/// Addresses the newest call was tried at.
fn tried(node: &Node) -> Vec<String> {
    let records = node.records();
    let attempts = records.last().map(|r| r["attempts"].as_array().cloned().unwrap_or_default());
    let endpoint = |a: &serde_json::Value| a["endpoint"].as_str().unwrap().to_owned();
    attempts.iter().flatten().map(endpoint).collect()
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

/// An outage longer than the time to live, a restart in its midst, recovery with another address, and a
/// server that says nothing: calls go on through all of it.
#[test]
fn names_are_followed_through_change_outage_restart_and_recovery() {
    let (lab, network) = (Lab::new("dns"), Namespace::make("dns"));
    network.ask("127.0.0.1");
    network.enter();
    let (first, second): (SocketAddr, SocketAddr) =
        ("127.0.0.7:5080".parse().unwrap(), "127.0.0.8:5080".parse().unwrap());
    let mut server = name_server(&lab, &network, "127.0.0.7");
    let setup = Setup::new(&lab, first);
    let text = towards(&setup, first, "carrier.test:5080") + "\n[dns]\nmin_ttl_s = 1\n";
    let mut node = start(&lab, &network, &setup, &text);
    assert!(call(&lab, &node, first), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(tried(&node), ["127.0.0.7:5080"]);
    assert_eq!(node.status()["alarms"].as_array().map(Vec::len), Some(0));

    server.kill();
    let told = within(LONG, || {
        let alarms = node.status()["alarms"].to_string();
        alarms.contains("carrier.test:5080 past its time to live").then_some(())
    });
    assert!(told.is_some(), "{}", node.status());
    let counted = within(LONG, || (node.metric("tandem_names_stale") == 1).then_some(()));
    assert!(counted.is_some(), "{}", node.page());
    assert!(call(&lab, &node, first), "{:#?}\n{}", node.records(), node.process.log());
    assert!(node.metric("tandem_stale_names_used_total") > 0);

    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    let mut node = start(&lab, &network, &setup, &text);
    assert!(call(&lab, &node, first), "{:#?}\n{}", node.records(), node.process.log());
    let counted = within(LONG, || (node.metric("tandem_names_stale") == 1).then_some(()));
    assert!(counted.is_some(), "{}", node.page());

    let back = Instant::now();
    let server = name_server(&lab, &network, "127.0.0.8");
    let fresh = within(LONG, || (node.metric("tandem_names_stale") == 0).then_some(()));
    assert!(fresh.is_some(), "{}", node.status());
    println!("recovery_after_outage {} ms", back.elapsed().as_millis());
    assert!(call(&lab, &node, second), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(tried(&node), ["127.0.0.8:5080"]);

    server.signal(libc::SIGSTOP);
    assert!(within(LONG, || (node.metric("tandem_names_stale") == 1).then_some(())).is_some());
    assert!(call(&lab, &node, second), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(node.metric("tandem_questions_late_total"), 0);
    server.signal(libc::SIGCONT);
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

/// Without stale answers a call is refused by name; one that comes before the first answer waits for it two
/// seconds and no longer.
#[test]
fn a_name_nobody_answers_for_costs_a_call_two_seconds_at_most() {
    let (lab, network) = (Lab::new("mute"), Namespace::make("mute"));
    network.ask("127.0.0.1");
    network.enter();
    let first: SocketAddr = "127.0.0.7:5080".parse().unwrap();
    let server = name_server(&lab, &network, "127.0.0.7");
    server.signal(libc::SIGSTOP);
    let setup = Setup::new(&lab, first);
    let dns = "\n[dns]\nmin_ttl_s = 1\nstale_s = 0\n";
    let text = towards(&setup, first, "carrier.test:5080") + dns;
    let mut node = start(&lab, &network, &setup, &text);
    assert!(!call(&lab, &node, first));
    assert_eq!(last_reason(&node), "name_unresolved");
    let refused = node.records().pop().unwrap();
    let waited = refused["end_at"].as_u64().unwrap() - refused["setup_at"].as_u64().unwrap();
    assert!(waited < 2_500, "{refused}");
    assert_eq!(
        (refused["status"].as_u64(), node.metric("tandem_names_unresolved")),
        (Some(503), 1)
    );
    server.signal(libc::SIGCONT);
    let resolved = within(LONG, || (node.metric("tandem_names_unresolved") == 0).then_some(()));
    assert!(resolved.is_some(), "{}", node.status());
    assert!(call(&lab, &node, first), "{:#?}\n{}", node.records(), node.process.log());
    drop(server);
    let gone = within(LONG, || (node.metric("tandem_names_unresolved") == 1).then_some(()));
    assert!(gone.is_some(), "{}", node.status());
    assert!(!call(&lab, &node, first));
    assert_eq!(last_reason(&node), "name_unresolved");
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

/// NAPTR leads to SRV records of which the best server is down: the second takes each call, the third gets
/// none; then the records change.
#[test]
fn servers_of_a_name_are_tried_by_priority() {
    let (lab, network) = (Lab::new("srv"), Namespace::make("srv"));
    network.ask("127.0.0.1");
    network.enter();
    let second: SocketAddr = "127.0.0.8:5081".parse().unwrap();
    let records = |best: u16| {
        vec![
            "--naptr-record=carrier.test,10,10,s,SIP+D2T,,_sip._tcp.wrong.test".to_owned(),
            "--naptr-record=carrier.test,20,10,s,SIP+D2U,,_sip._udp.far.test".to_owned(),
            "--srv-host=_sip._udp.carrier.test,third.test,5082,0,1".to_owned(),
            format!("--srv-host=_sip._udp.far.test,first.test,5080,{best},1"),
            "--srv-host=_sip._udp.far.test,second.test,5081,20,1".to_owned(),
            "--srv-host=_sip._udp.far.test,third.test,5082,30,1".to_owned(),
            host("first.test", "127.0.0.7"),
            host("second.test", "127.0.0.8,2001:db8::8"),
            host("third.test", "127.0.0.9"),
        ]
    };
    let mut server = serve(&lab, &network, &records(10));
    let setup = Setup::new(&lab, second);
    let mut node = start(
        &lab,
        &network,
        &setup,
        &(towards(&setup, second, "carrier.test") + "\n[dns]\nmin_ttl_s = 1\n"),
    );
    assert!(call(&lab, &node, second), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(tried(&node), ["127.0.0.7:5080", "127.0.0.8:5081"]);
    let first = &node.records()[0]["attempts"][0];
    println!("failover {} after {}", first["reason"], first["status"]);

    // The first is the last choice now: calls go to the second at once.
    server.kill();
    let server = serve(&lab, &network, &records(40));
    let moved = within(LONG, || {
        (call(&lab, &node, second) && tried(&node) == ["127.0.0.8:5081"]).then_some(())
    });
    assert!(moved.is_some(), "{:?}\n{}", tried(&node), node.process.log());
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    drop(server);
}

/// Without SRV records the name's own addresses at 5060; with a target of "." nobody.
#[test]
fn a_name_without_servers_is_an_address_and_a_dot_is_nobody() {
    let (lab, network) = (Lab::new("bare"), Namespace::make("bare"));
    network.ask("127.0.0.1");
    network.enter();
    let own: SocketAddr = "127.0.0.7:5060".parse().unwrap();
    let mut server = serve(&lab, &network, &[host("carrier.test", "127.0.0.7")]);
    let setup = Setup::new(&lab, own);
    let mut node = start(
        &lab,
        &network,
        &setup,
        &(towards(&setup, own, "carrier.test") + "\n[dns]\nmin_ttl_s = 1\n"),
    );
    assert!(call(&lab, &node, own), "{:#?}\n{}", node.records(), node.process.log());
    assert_eq!(tried(&node), ["127.0.0.7:5060"]);
    server.kill();
    let none = "--srv-host=_sip._udp.carrier.test".to_owned();
    let server = serve(&lab, &network, &[host("carrier.test", "127.0.0.7"), none]);
    let gone = within(LONG, || (node.metric("tandem_names_unresolved") == 1).then_some(()));
    assert!(gone.is_some(), "{}", node.status());
    // Not even the name's addresses are tried.
    assert!(!call(&lab, &node, own));
    assert_eq!((&*last_reason(&node), tried(&node).len()), ("name_unresolved", 0));
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    drop(server);
}

/// A source may be a host name: what DNS says is its address may speak, and nobody else.
#[test]
fn who_may_call_may_be_a_name() {
    let (lab, network) = (Lab::new("sources"), Namespace::make("sources"));
    network.ask("127.0.0.1");
    network.enter();
    let [first, second] = ["127.0.0.7:0", "127.0.0.8:0"].map(|a| Peer::bind(a.parse().unwrap()));
    let mut server = serve(&lab, &network, &[host("caller.test", "127.0.0.7")]);
    let setup = Setup::new(&lab, lab.udp());
    let text = setup.text().replace("sources = [\"127.0.0.0/8\"]", "sources = [\"caller.test\"]");
    let mut node = start(&lab, &network, &setup, &(text + "\n[dns]\nmin_ttl_s = 1\nstale_s = 0\n"));
    let mut asked = 0;
    let mut is_heard = |peer: &Peer| {
        asked += 1;
        peer.send(node.sip, peer.options(node.sip, &format!("o{asked}")).as_bytes());
        peer.hear(Duration::from_millis(300), |text| text.starts_with("SIP/2.0 200")).is_some()
    };
    assert!(within(LONG, || is_heard(&first).then_some(())).is_some());
    assert!(!is_heard(&second));
    server.kill();
    let server = serve(&lab, &network, &[host("caller.test", "127.0.0.8")]);
    assert!(within(LONG, || is_heard(&second).then_some(())).is_some());
    assert!(!is_heard(&first), "it is not what the name stands for any more");
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    drop(server);
}

/// Over TLS a server is believed that bears the name asked for, whatever DNS makes of it (RFC 5922 4).
#[test]
fn a_name_over_tls_is_what_the_certificate_must_bear() {
    let (lab, network) = (Lab::new("dns-tls"), Namespace::make("dns-tls"));
    let authority = Authority::new(&lab);
    authority.issue("one", "DNS:one.test");
    authority.issue("two", "DNS:carrier.test");
    network.ask("127.0.0.1");
    network.enter();
    let server = serve(
        &lab,
        &network,
        &[
            "--naptr-record=carrier.test,10,10,s,SIPS+D2T,,_sips._tcp.carrier.test".to_owned(),
            "--srv-host=_sips._tcp.carrier.test,host.test,5071,0,1".to_owned(),
            "--srv-host=_sips._tcp.impostor.test,host.test,5071,0,1".to_owned(),
            host("host.test", "127.0.0.9"),
        ],
    );
    let (there, callee) = (Lab::new("dns-tls-2"), "127.0.0.10:5080".parse().unwrap());
    let mut two = Setup::new(&there, callee);
    two.sip = "127.0.0.9:5070".parse().unwrap();
    two.interface += "tls_port = 5071\n";
    two.caller = "transport = \"tls\"\n".into();
    two.route += &authority.section("two", "");
    let mut two = start(&there, &network, &two, &two.text());
    for (name, believed) in [("carrier.test", true), ("impostor.test", false)] {
        let here = Lab::new("dns-tls-1");
        let mut one = Setup::new(&here, two.sip);
        one.interface += &format!("tls_port = {}\n", one.sip.port() + 1);
        one.trunks[0].2 = "transport = \"tls\"\n".into();
        one.route += &authority.section("one", "");
        let text = one.text().replace(
            &format!("endpoints = [\"{}\"]\nsources = [\"{}\"]", two.sip, two.sip),
            &format!("endpoints = [\"{name}\"]\nsources = [\"127.0.0.9\"]"),
        );
        let mut one = start(&here, &network, &one, &text);
        let clean = call(&here, &one, callee);
        assert_eq!(clean, believed, "{name}: {:#?}\n{}", one.records(), one.process.log());
        if !believed {
            assert!(one.metric("tandem_stream_tls_failures_total") > 0, "{}", one.page());
        }
        assert_eq!(tried(&one), ["127.0.0.9:5071"]);
        assert_eq!(one.drain(), Some(0), "{}", one.process.log());
    }
    assert_eq!(two.drain(), Some(0), "{}", two.process.log());
    drop(server);
}
