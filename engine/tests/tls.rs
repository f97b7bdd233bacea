//! SIP over TLS: OpenSSL as the peer, two nodes as each other's, certificates that change under way.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::process::Running;
use common::wire::{Peer, header, respond};
use common::{LONG, Lab, Load, Node, Setup, within};
use serde_json::json;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A node whose caller comes over `from` and whose calls leave over `to`; TLS at `sip` + 1.
fn setup(lab: &Lab, callee: SocketAddr, (from, to): (&str, &str), tls: &str) -> Setup {
    let mut setup = Setup::new(lab, callee);
    setup.interface += &format!("tls_port = {}\n", setup.sip.port() + 1);
    setup.caller = format!("transport = \"{from}\"\n");
    setup.trunks[0].2 = format!("transport = \"{to}\"\n");
    setup.route += tls;
    setup
}

fn tls_of(node: &Node) -> SocketAddr {
    SocketAddr::new(node.sip.ip(), node.sip.port() + 1)
}

/// `openssl s_client`, connected.
struct Client {
    process: Child,
    input: ChildStdin,
}

impl Client {
    fn connect(ca: &Path, to: SocketAddr, more: &[&str]) -> Client {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &to.to_string(), "-quiet", "-verify_return_error"]);
        command.arg("-CAfile").arg(ca).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        Client { process, input }
    }

    /// Asks with OPTIONS; the head of the answer, or nothing when it was cut off.
    fn ask(&mut self, number: u32) -> String {
        if self.say(number) { self.hear() } else { String::new() }
    }

    /// The head of what comes next.
    fn hear(&mut self) -> String {
        let mut answer = Vec::new();
        let output = self.process.stdout.as_mut().unwrap();
        let mut byte = [0; 1];
        while !answer.ends_with(b"\r\n\r\n") && output.read(&mut byte).unwrap_or(0) == 1 {
            answer.push(byte[0]);
        }
        let head = String::from_utf8(answer).unwrap();
        let mut body = vec![0; header(&head, "Content-Length").parse().unwrap_or(0)];
        output.read_exact(&mut body).unwrap();
        head
    }

    /// Sends an OPTIONS; whether that could be done.
    fn say(&mut self, number: u32) -> bool {
        self.say_as(number, "192.0.2.9")
    }

    /// The same with this behind its transport in the Via.
    fn say_as(&mut self, number: u32, sent_by: &str) -> bool {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS {sent_by};branch=z9hG4bK{number};rport\r\n\
             From: <sip:x@y>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: options{number}\r\nCSeq: {number} OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.input.write_all(text.as_bytes()).is_ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[test]
fn who_asks_for_a_name_is_shown_the_certificate_that_bears_it() {
    let lab = Lab::new("tls-sni");
    let authority = Authority::new(&lab);
    authority.issue("node", "DNS:sip.first.example");
    authority.issue("other", "DNS:sip.second.example,DNS:sip.third.example");
    let file = |name: &str| lab.file(name).display().to_string();
    let other = |name: &str| {
        let (certificate, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
        format!("others = [{{ certificate = \"{certificate}\", key = \"{key}\" }}]\n")
    };
    let listen = lab.udp();
    let section = authority.section("node", &other("other"));
    let mut node = Node::start(&lab, &setup(&lab, listen, ("tls", "udp"), &section));
    let ca = lab.file("ca.pem");
    let shown = |asked: &str, borne: &str| {
        let more = ["-servername", asked, "-verify_hostname", borne];
        Client::connect(&ca, tls_of(&node), &more).ask(1).starts_with("SIP/2.0 200 ")
    };
    assert!(shown("sip.first.example", "sip.first.example"));
    assert!(shown("sip.second.example", "sip.second.example"));
    assert!(shown("SIP.Third.example", "sip.third.example"));
    assert!(shown("nobody.example", "sip.first.example"), "everybody else sees the first");
    // Another one in its place, with who is connected staying connected.
    let mut old = Client::connect(&ca, tls_of(&node), &["-servername", "sip.second.example"]);
    assert!(old.ask(2).starts_with("SIP/2.0 200 "));
    authority.issue("other", "DNS:sip.fourth.example");
    assert!(node.ask(json!({"op": "reload"})).is_ok());
    assert!(
        within(LONG, || shown("sip.fourth.example", "sip.fourth.example").then_some(())).is_some()
    );
    assert!(shown("sip.second.example", "sip.first.example"));
    assert!(old.ask(3).starts_with("SIP/2.0 200 "));
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

#[test]
fn openssl_is_answered_and_a_certificate_changes_under_way() {
    let lab = Lab::new("tls-openssl");
    let authority = Authority::new(&lab);
    let ip = lab.udp().ip();
    authority.issue("node", &format!("IP:{ip}"));
    let listen = lab.udp();
    let mut node =
        Node::start(&lab, &setup(&lab, listen, ("tls", "udp"), &authority.section("node", "")));
    let ca = lab.file("ca.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let verify = ["-verify_ip", &ip.to_string(), version];
        let mut client = Client::connect(&ca, tls_of(&node), &verify);
        let answer = client.ask(1);
        assert!(answer.starts_with("SIP/2.0 200 "), "{version}: {answer}");
    }
    // A new certificate, with a name the old one did not bear; who is connected stays connected.
    let verify = ["-verify_ip", &ip.to_string()];
    let mut old = Client::connect(&ca, tls_of(&node), &verify);
    assert!(old.ask(2).starts_with("SIP/2.0 200 "));
    authority.issue("node", "DNS:sip.new.example");
    let reloaded = node.ask(json!({"op": "reload"}));
    assert!(reloaded.is_ok(), "{reloaded:?}");
    let by_name = ["-verify_hostname", "sip.new.example"];
    let renewed = within(Duration::from_secs(5), || {
        Client::connect(&ca, tls_of(&node), &by_name)
            .ask(3)
            .starts_with("SIP/2.0 200 ")
            .then_some(())
    });
    assert!(renewed.is_some());
    assert!(old.ask(4).starts_with("SIP/2.0 200 "));
    // Files that do not fit leave what is in force.
    std::fs::write(lab.file("node.key"), "nothing").unwrap();
    let refused = node.ask(json!({"op": "reload"})).unwrap_err();
    assert!(refused.contains("node.key"), "{refused}");
    assert!(Client::connect(&ca, tls_of(&node), &by_name).ask(5).starts_with("SIP/2.0 200 "));
    drop(old);
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn who_must_show_a_certificate_and_does_not_is_refused() {
    let lab = Lab::new("tls-mutual");
    let authority = Authority::new(&lab);
    let ip = lab.udp().ip();
    authority.issue("node", &format!("IP:{ip}"));
    authority.issue("peer", "DNS:peer.example");
    let section = authority.section("node", "verify_clients = true");
    let mut node = Node::start(&lab, &setup(&lab, lab.udp(), ("tls", "udp"), &section));
    let ca = lab.file("ca.pem");
    assert_eq!(Client::connect(&ca, tls_of(&node), &["-tls1_3"]).ask(1), "");
    let (certificate, key) = (lab.file("peer.pem"), lab.file("peer.key"));
    let mine = ["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()];
    assert!(Client::connect(&ca, tls_of(&node), &mine).ask(2).starts_with("SIP/2.0 200 "));
    assert_eq!(node.drain(), Some(0));
}

/// Calls with audio: UDP into one node, TLS with certificates on both sides to another, UDP out of it.
#[test]
fn calls_pass_two_nodes_over_tls() {
    let (first, second) = (Lab::new("tls-first"), Lab::new("tls-second"));
    let authority = Authority::new(&first);
    authority.issue("one", &format!("IP:{}", first.udp().ip()));
    authority.issue("two", "DNS:two.example");
    let callee = second.udp();
    let theirs = authority.section("two", "verify_clients = true");
    let mut setup_two = setup(&second, callee, ("tls", "udp"), &theirs);
    setup_two.node = setup_two.node.replace("shards = 1", "shards = 2");
    let mut two = Node::start(&second, &setup_two);
    let mut setup_one = setup(&first, tls_of(&two), ("udp", "tls"), &authority.section("one", ""));
    setup_one.trunks[0].2 += "tls_name = \"two.example\"\n";
    let mut one = Node::start(&first, &setup_one);
    let more = ["--calls", "60", "--rate", "30", "--hold", "1"];
    let (code, report) =
        Load::start(&first, one.sip, callee, &more).finish(Duration::from_secs(60));
    assert_eq!(code, 0, "{report}\n{}\n{}", one.process.log(), two.process.log());
    assert_eq!(report["clean"], 60, "{report}");
    for node in [&mut one, &mut two] {
        assert_eq!(node.await_records(60).len(), 60);
        assert_eq!(node.drain(), Some(0));
    }
}

/// A peer whose certificate bears another name is no peer: the call is refused without waiting.
#[test]
fn a_certificate_with_another_name_is_not_believed() {
    let lab = Lab::new("tls-name");
    let authority = Authority::new(&lab);
    authority.issue("node", &format!("IP:{}", lab.udp().ip()));
    authority.issue("other", "DNS:other.example");
    let listen = lab.udp();
    let mut server = Command::new("openssl");
    server.args([
        "s_server",
        "-accept",
        &listen.to_string(),
        "-cert",
        "other.pem",
        "-key",
        "other.key",
    ]);
    let server = Running::start(
        {
            server.current_dir(&lab.dir);
            server
        },
        &lab.file("s_server.log"),
    );
    let mut setup = setup(&lab, listen, ("udp", "tls"), &authority.section("node", ""));
    setup.trunks[0].2 += "tls_name = \"sip.example\"\n";
    let mut node = Node::start(&lab, &setup);
    let more = ["--calls", "1", "--rate", "10", "--hold", "0.1", "--expect-failures", "--no-media"];
    let (_, report) = Load::start(&lab, node.sip, lab.udp(), &more).finish(Duration::from_secs(60));
    let records = node.await_records(1);
    assert_eq!(records[0]["status"], 500, "{report}\n{records:?}\n{}", server.log());
    assert_eq!(node.drain(), Some(0));
}

/// Two trunks share their sources; the name in a peer's certificate says which of them it is, and without
/// one it is nobody. Until when our certificate is valid is known.
#[test]
fn a_trunk_is_known_by_the_name_its_peer_proves() {
    let lab = Lab::new("tls-names");
    let authority = Authority::new(&lab);
    authority.issue("node", &format!("IP:{}", lab.ip));
    authority.issue("first", "DNS:first.example");
    authority.issue("second", "URI:sip:SECOND.example,DNS:else.example");
    authority.issue("third", "DNS:*.example");
    let mut setup = setup(&lab, lab.udp(), ("tls", "udp"), &authority.section("node", ""));
    setup.caller += "peer_names = [\"first.example\"]\n";
    setup.trunks[0].2 += "[[trunk]]\nname = \"in-2\"\ninterface = \"loop\"\ntransport = \"tls\"\n";
    setup.trunks[0].2 +=
        "peer_names = [\"Second.example\"]\nsources = [\"0.0.0.0/0\"]\ncapacity = 1\n";
    let mut node = Node::start(&lab, &setup);
    let ca = lab.file("ca.pem");
    let as_who = |who: &str| {
        let file = |kind: &str| lab.file(&format!("{who}.{kind}")).display().to_string();
        let mine = ["-cert", &file("pem"), "-key", &file("key")];
        Client::connect(&ca, tls_of(&node), &mine)
    };
    assert!(as_who("first").ask(1).starts_with("SIP/2.0 200 "));
    assert!(as_who("second").ask(2).starts_with("SIP/2.0 200 "));
    // Nobody answers a stranger: its next question is one too many for its patience.
    let strangers = [as_who("third"), Client::connect(&ca, tls_of(&node), &[])];
    for (mut stranger, dropped_by_then) in strangers.into_iter().zip(1..) {
        stranger.say(3);
        let dropped = within(LONG, || {
            (node.metric("reason=\"unknown_source\"") >= dropped_by_then).then_some(())
        });
        assert!(dropped.is_some(), "{}", node.page());
    }
    assert_eq!(node.metric("reason=\"unknown_source\""), 2, "{}", node.page());
    let until = node.metric("tandem_tls_certificate_expiry_seconds");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 86_400..now + 3 * 86_400).contains(&until), "{until}");
    let alarms = node.status()["alarms"].to_string();
    assert!(alarms.contains("the certificate in [tls] expires in "), "{alarms}");
    assert_eq!(node.drain(), Some(0));
}

/// A peer that can only connect to us is called over its connection, if it says where it listens (RFC 5923) and
/// has proved to be who is expected there; another's connection is not taken for its.
#[test]
fn a_connection_that_is_offered_carries_calls_back() {
    for (who, is_believed) in [("peer", true), ("other", false)] {
        let lab = Lab::new("tls-alias");
        let authority = Authority::new(&lab);
        authority.issue("node", &format!("IP:{}", lab.ip));
        authority.issue("peer", "DNS:peer.example");
        authority.issue("other", "DNS:other.example");
        // Nobody listens there.
        let listens = lab.tcp();
        let mut setup = setup(
            &lab,
            listens,
            ("udp", "tls"),
            &authority.section("node", "verify_clients = true"),
        );
        setup.node = setup.node.replace("shards = 1", "shards = 2");
        setup.trunks[0].2 += "tls_name = \"peer.example\"\n";
        setup.trunks[0].2 += &format!(
            "[[trunk]]\nname = \"near\"\ninterface = \"loop\"\ntransport = \"tls\"\nsources = [\"{}\"]\n",
            lab.ip
        );
        let mut node = Node::start(&lab, &setup);
        let file = |kind: &str| lab.file(&format!("{who}.{kind}")).display().to_string();
        let from = format!("{}:0", lab.ip);
        let more = ["-cert", &file("pem"), "-key", &file("key"), "-bind", &from];
        let mut client = Client::connect(&lab.file("ca.pem"), tls_of(&node), &more);
        let via = format!("192.0.2.9:{};alias", listens.port());
        assert!(client.say_as(1, &via));
        let heard = client.hear();
        assert!(heard.starts_with("SIP/2.0 200 "), "{heard}");
        let caller = Peer::bind(lab.udp());
        let invite = caller.invite(node.sip, "back", "");
        caller.send(node.sip, invite.as_bytes());
        if is_believed {
            let invite = client.hear();
            assert!(invite.starts_with("INVITE "), "{invite}");
            assert!(invite.contains(";alias"), "ours may come back the same way: {invite}");
            let busy = respond(&invite, "486 Busy Here", "", "");
            client.input.write_all(busy.as_bytes()).unwrap();
            caller.expect("486", |text| text.starts_with("SIP/2.0 486 "));
            assert!(client.hear().starts_with("ACK "));
            assert!(node.metric("tandem_stream_aliased_total") > 0, "{}", node.page());
            assert_eq!(node.metric("tandem_stream_dialled_total"), 0);
            // And when it is gone, so is the way.
            drop(client);
            let gone =
                within(LONG, || (node.metric("tandem_stream_connections") == 0).then_some(()));
            assert!(gone.is_some(), "{}", node.page());
            caller.send(node.sip, caller.invite(node.sip, "gone", "").as_bytes());
        }
        caller.expect("500", |text| text.starts_with("SIP/2.0 500 "));
        node.await_records(1 + usize::from(is_believed));
        assert_eq!(node.drain(), Some(0));
    }
}

/// Certificates change again and again while calls come and go between two nodes that show each other theirs: no call
/// notices, and new connections are made with the newest.
#[test]
fn certificates_change_under_load() {
    let (first, second) = (Lab::new("tls-rotation"), Lab::new("tls-rotation-far"));
    let authority = Authority::new(&first);
    authority.issue("one", &format!("IP:{}", first.ip));
    authority.issue("two", "DNS:two.example");
    let callee = second.udp();
    let theirs = authority.section("two", "verify_clients = true");
    let mut two = Node::start(&second, &setup(&second, callee, ("tls", "udp"), &theirs));
    let mut setup_one = setup(&first, tls_of(&two), ("udp", "tls"), &authority.section("one", ""));
    setup_one.trunks[0].2 += "tls_name = \"two.example\"\n";
    let mut one = Node::start(&first, &setup_one);
    let more = ["--calls", "150", "--rate", "50", "--hold", "0.5", "--no-media"];
    let mut load = Load::start(&first, one.sip, callee, &more);
    let mut rotations = 0;
    while !load.is_over() && rotations < 10 {
        authority.issue("one", &format!("IP:{},DNS:one-{rotations}.example", first.ip));
        authority.issue("two", &format!("DNS:two.example,DNS:two-{rotations}.example"));
        for node in [&one, &two] {
            let reloaded = node.ask(json!({"op": "reload"}));
            assert!(reloaded.is_ok(), "{reloaded:?}");
        }
        rotations += 1;
        let name = format!("two-{}.example", rotations - 1);
        let file = |kind: &str| first.file(&format!("one.{kind}")).display().to_string();
        let more = ["-cert", &file("pem"), "-key", &file("key"), "-verify_hostname", name.as_str()];
        let renewed = within(LONG, || {
            let mut client = Client::connect(&first.file("ca.pem"), tls_of(&two), &more);
            client.ask(rotations).starts_with("SIP/2.0 200 ").then_some(())
        });
        assert!(renewed.is_some(), "rotation {rotations}\n{}", two.process.log());
    }
    let (code, report) = load.finish(Duration::from_secs(60));
    assert!(rotations >= 2, "{rotations} rotations");
    assert_eq!((code, &report["clean"]), (0, &json!(150)), "{report}");
    assert_eq!(one.metric("tandem_stream_dialled_total"), 1, "one connection, all the time");
    for node in [&mut one, &mut two] {
        assert_eq!(node.await_records(150).len(), 150);
        assert_eq!(node.drain(), Some(0));
    }
}

/// The same over IPv6.
#[test]
fn calls_pass_two_nodes_over_tls_and_ipv6() {
    let (first, second) = (Lab::ipv6("tls-v6-first"), Lab::ipv6("tls-v6-second"));
    let authority = Authority::new(&first);
    authority.issue("one", "IP:::1");
    authority.issue("two", "IP:::1");
    let callee = second.udp();
    // Every lab of this address family shares ::1, so the media ports come from the process id.
    let ports = 22_000 + (std::process::id() % 50) * 80;
    let media = |first: u32| format!("media_ports = \"{first}-{}\"\n", first + 39);
    let mut setup_two = setup(&second, callee, ("tls", "udp"), &authority.section("two", ""));
    setup_two.interface =
        setup_two.interface.replace("media_ports = \"20000-21999\"\n", &media(ports));
    setup_two.node = setup_two.node.replace("max_calls = 400", "max_calls = 9");
    let mut two = Node::start(&second, &setup_two);
    let mut setup_one = setup(&first, tls_of(&two), ("udp", "tls"), &authority.section("one", ""));
    setup_one.interface =
        setup_one.interface.replace("media_ports = \"20000-21999\"\n", &media(ports + 40));
    setup_one.node = setup_one.node.replace("max_calls = 400", "max_calls = 9");
    let mut one = Node::start(&first, &setup_one);
    let more = ["--calls", "5", "--rate", "10", "--hold", "0.3"];
    let (code, report) = Load::start(&first, one.sip, callee, &more).finish(LONG);
    assert_eq!((code, &report["clean"]), (0, &json!(5)), "{report}\n{}", two.process.log());
    for node in [&mut one, &mut two] {
        assert_eq!(node.await_records(5).len(), 5);
        assert_eq!(node.drain(), Some(0));
    }
}
