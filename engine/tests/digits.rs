//! Digits between SIPp, which sends and wants INFO or plays recordings, and baresip, which knows telephone events
//! alone.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need, need_root};
use common::{LONG, Lab, Node, Setup, within};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Commands to a baresip, and what happens to it: JSON in netstrings.
struct Remote {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Remote {
    fn command(&mut self, command: &str, params: &str) {
        let text = json!({"command": command, "params": params}).to_string();
        write!(self.stream, "{}:{text},", text.len()).unwrap();
    }

    /// Waits for an event of this type; its parameter.
    fn await_event(&mut self, kind: &str) -> Option<String> {
        within(LONG, || {
            let mut more = [0; 4096];
            if let Ok(len) = self.stream.read(&mut more) {
                self.heard.extend_from_slice(&more[..len]);
            }
            while let Some(event) = self.next() {
                if event["type"] == kind {
                    return Some(event["param"].as_str().unwrap_or_default().to_owned());
                }
            }
            None
        })
    }

    fn next(&mut self) -> Option<Value> {
        let colon = self.heard.iter().position(|byte| *byte == b':')?;
        let len: usize = std::str::from_utf8(&self.heard[..colon]).unwrap().parse().unwrap();
        let text = self.heard.get(colon + 1..colon + 1 + len)?;
        let event = serde_json::from_slice(text).unwrap();
        self.heard.drain(..(colon + len + 2).min(self.heard.len()));
        Some(event)
    }
}

/// Somebody who asked for digits.
struct Told {
    lines: BufReader<UnixStream>,
}

impl Told {
    fn of(node: &Node) -> Told {
        let mut stream = UnixStream::connect(node.run.join("sbcd.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let hello = json!({"t": "hello", "proto": 1, "app": "test"});
        let ask = json!({"t": "c", "id": "1", "op": "sub", "ev": ["dtmf"]});
        write!(stream, "{hello}\n{ask}\n").unwrap();
        let mut told = Told { lines: BufReader::new(stream) };
        assert_eq!(
            (told.next()["t"].clone(), told.next()["ok"].clone()),
            (json!("welcome"), json!(true))
        );
        told
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// A baresip that answers, and its remote control.
fn telephone(lab: &Lab, listen: SocketAddr) -> (Running, Remote) {
    need("baresip", "baresip-core");
    let modules = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"];
    let modules = modules.into_iter().find(|path| Path::new(path).join("ctrl_tcp.so").exists());
    let modules = modules.expect("baresip's module ctrl_tcp.so (package baresip-core)");
    let control = lab.tcp();
    let folder = lab.file("telephone");
    std::fs::create_dir_all(&folder).unwrap();
    let wav = folder.join("tone.wav");
    common::sound::tone(&wav, 440.0);
    let config = format!(
        "module_path {modules}\nsip_listen {listen}\nnet_interface 127.0.0.1\naudio_source aufile,{}\n\
         audio_player aubridge,x\nausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
         ctrl_tcp_listen {control}\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\n\
         module_app account.so\nmodule_app menu.so\nmodule ctrl_tcp.so\n",
        wav.display(),
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let account =
        format!("<sip:442079460000@{listen}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1\n");
    std::fs::write(folder.join("accounts"), account).unwrap();
    std::fs::write(folder.join("contacts"), "").unwrap();
    let mut baresip = Command::new("baresip");
    baresip.arg("-f").arg(&folder);
    let process = Running::start(baresip, &lab.file("telephone.log"));
    let stream = within(LONG, || TcpStream::connect(control).ok()).expect("baresip's control");
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    (process, Remote { stream, heard: Vec::new() })
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/sipp/{name}.xml"))
}

/// One call of a SIPp that sends back what it hears: to a node, or to itself.
fn sipp(lab: &Lab, name: &str, scenario: &Path, me: SocketAddr, to: Option<SocketAddr>) -> Running {
    need("sipp", "sip-tester");
    let (ip, port, media) = (me.ip().to_string(), me.port().to_string(), lab.media().to_string());
    let mut sipp = Command::new("sipp");
    sipp.args(["-nostdin", "-i", &ip, "-p", &port, "-mi", &ip, "-mp", &media, "-m", "1"]);
    sipp.args(["-timeout", "50s", "-timeout_error", "-s", "442079460000", "-rtp_echo"]);
    sipp.args(["-trace_err", "-error_file"]).arg(lab.file(&format!("{name}.err")));
    sipp.arg("-sf").arg(scenario).args(to.map(|to| to.to_string()));
    sipp.current_dir(&lab.dir).env("TERM", "dumb");
    Running::start(sipp, &lab.file(&format!("{name}.log")))
}

/// Speech and a digit as SIPp brings them along, each with a source of its own.
#[test]
fn a_recorded_digit_is_an_info_to_who_knows_no_telephone_events() {
    need_root("SIPp plays recordings by a raw socket");
    let lab = Lab::new("recorded");
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    setup.caller = "report_digits = true\n".into();
    setup.trunks[0].2 = "dtmf = \"info-relay\"\n".into();
    let mut node = Node::start(&lab, &setup);
    let mut told = Told::of(&node);
    let text = std::fs::read_to_string(scenario("uac-pcap")).unwrap();
    let caller = lab.write("uac-pcap.xml", &text.replace("RECORDINGS", "/usr/share/sip-tester"));
    let mut callee = sipp(&lab, "callee", &scenario("uas-digits"), listen, None);
    let mut caller = sipp(&lab, "caller", &caller, lab.udp(), Some(setup.sip));
    let ended = (caller.wait(LONG), callee.wait(LONG));
    let errors = ["caller.err", "callee.err"].map(|file| std::fs::read_to_string(lab.file(file)));
    assert_eq!(ended, (Some(0), Some(0)), "{errors:?}\n{}", node.process.log());
    let key = told.next();
    assert_eq!(
        (&key["dtmf"]["from"], &key["dtmf"]["digit"]),
        (&json!("caller"), &json!("5")),
        "{key}"
    );
    let record = &node.await_records(1)[0];
    assert!(record["media"]["caller"]["packets"].as_u64() >= Some(60), "{record}");
    assert_eq!(node.metric("tandem_media_digits_heard_total"), 1, "{}", node.page());
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn info_and_telephone_events_understand_each_other() {
    let mut lab = Lab::new("digits");
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listen = lab.telephone();
    let (_telephone, mut remote) = telephone(&lab, listen);
    let mut setup = Setup::new(&lab, listen);
    setup.sip = lab.udp();
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    setup.interface = "media_ports = \"23600-23699\"\n".into();
    setup.caller = "dtmf = \"info-relay\"\nreport_digits = true\n".into();
    let mut node = Node::start(&lab, &setup);
    let mut told = Told::of(&node);
    let mut sipp = sipp(&lab, "sipp", &scenario("uac-digits"), lab.udp(), Some(setup.sip));
    // SIPp sends back what it hears. Its INFO is a key that is pressed here, ...
    let pressed = remote.await_event("CALL_DTMF_START");
    let log = || std::fs::read_to_string(lab.file("telephone.log")).unwrap();
    assert_eq!(pressed.as_deref(), Some("5"), "{}\n{}", log(), node.process.log());
    assert!(remote.await_event("CALL_DTMF_END").is_some(), "{}", log());
    // ... and the keys pressed here are INFOs to SIPp, which reads them and hangs up.
    for digit in ["7", "#"] {
        remote.command("sndcode", digit);
        std::thread::sleep(Duration::from_millis(400));
    }
    let code = sipp.wait(LONG);
    let errors = std::fs::read_to_string(lab.file("sipp.err")).unwrap_or_default();
    assert_eq!(code, Some(0), "{errors}\n{}\n{}", log(), node.process.log());
    node.await_records(1);
    // Who asks is told of the caller's digits; the callee's trunk does not report its own.
    let key = told.next();
    assert_eq!((&key["ev"], &key["dtmf"]["from"]), (&json!("dtmf"), &json!("caller")), "{key}");
    assert_eq!((&key["dtmf"]["digit"], &key["dtmf"]["duration_ms"]), (&json!("5"), &json!(200)));
    assert_eq!(key["call"]["to"], "442079460000");
    assert_eq!(node.metric("tandem_media_digits_heard_total"), 2, "{}", node.page());
    assert_eq!(node.metric("tandem_media_digits_sent_total"), 1);
    node.process.kill();
}
