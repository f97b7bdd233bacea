//! SIP over TLS: OpenSSL as the peer, two nodes as each other's, certificates that change under way.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};
use common::{Lab, Load, Node, Setup, within};
use serde_json::json;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A root and certificates of it, made by OpenSSL.
struct Authority {
    dir: PathBuf,
}

impl Authority {
    fn new(lab: &Lab) -> Authority {
        let authority = Authority { dir: lab.dir.clone() };
        let made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                    -keyout ca.key -out ca.pem -subj /CN=root";
        authority.openssl(made);
        authority
    }

    fn openssl(&self, arguments: &str) {
        need("openssl", "openssl");
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&self.dir);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.pem` and `NAME.key` for these subject alternative names.
    fn issue(&self, name: &str, alternatives: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
             -subj /CN={name}"
        ));
        std::fs::write(self.dir.join("names"), format!("subjectAltName={alternatives}\n")).unwrap();
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem \
             -extfile names"
        ));
    }

    fn section(&self, name: &str, more: &str) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n{more}\n",
            file(&format!("{name}.pem")),
            file(&format!("{name}.key")),
            file("ca.pem")
        )
    }
}

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
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS 192.0.2.9;branch=z9hG4bK{number};rport\r\n\
             From: <sip:x@y>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: options{number}\r\nCSeq: {number} OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        if self.input.write_all(text.as_bytes()).is_err() {
            return String::new();
        }
        let mut answer = Vec::new();
        let output = self.process.stdout.as_mut().unwrap();
        let mut byte = [0; 1];
        while !answer.ends_with(b"\r\n\r\n") && output.read(&mut byte).unwrap_or(0) == 1 {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
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
    assert_eq!(records[0]["status"], 503, "{report}\n{records:?}\n{}", server.log());
    assert_eq!(node.drain(), Some(0));
}
