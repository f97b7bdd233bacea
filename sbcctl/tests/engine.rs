//! Every command against a real engine: the `sbcd` of this workspace, on free ports and a run directory
//! of its own. Two UDP sockets play caller and callee.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The engine, ended when dropped.
struct Sbcd {
    process: Child,
    dir: PathBuf,
    sip: u16,
    callee: UdpSocket,
}

/// `sbcd` stands beside the directory of this test; it is built if it is not there.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let path = test.parent().and_then(Path::parent).expect("target directory").join("sbcd");
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "-p", "engine"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if path.parent().is_some_and(|p| p.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success());
    }
    path
}

fn free() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let port = socket.local_addr().expect("address").port();
    (socket, port)
}

/// Ports that nobody holds, below those the kernel gives out; other engines of this test take others.
fn media_ports(number: u16) -> (u16, u16) {
    let mut begin = 10_000 + (std::process::id() % 7) as u16 * 280 + number * 40;
    while (begin..begin + 40).any(|p| UdpSocket::bind(("127.0.0.1", p)).is_err()) {
        begin += 280;
    }
    (begin, begin + 39)
}

impl Sbcd {
    fn start() -> Sbcd {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("sbcctl-engine-{}-{number}", std::process::id()));
        let _gone = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        let (callee, out) = free();
        let (taken, sip) = free();
        drop(taken);
        let (low, high) = media_ports(number as u16);
        let config = format!(
            "[node]\nname = \"test\"\nmax_calls = 8\nmax_cps = 100\n\
             [[interface]]\nname = \"lo\"\nbind = \"127.0.0.1:{sip}\"\nmedia_ports = \"{low}-{high}\"\nallow = [\"loopback\"]\n\
             [[trunk]]\nname = \"in\"\ninterface = \"lo\"\nsources = [\"127.0.0.0/8\"]\ncapacity = 8\ncps = 100\n\
             [[trunk]]\nname = \"out\"\ninterface = \"lo\"\nendpoints = [\"127.0.0.1:{out}\"]\nsources = [\"127.0.0.1:{out}\"]\ncapacity = 8\ncps = 100\n\
             [[route]]\nprefix = \"\"\nto = [\"out\"]\n"
        );
        std::fs::write(dir.join("sbcd.toml"), config).expect("a configuration");
        let process = spawn(&dir);
        Sbcd { process, dir, sip, callee }
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        sbcctl(&self.dir.join("run"), arguments)
    }

    /// Output of a command that succeeds.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {text}"))
    }

    /// A caller rings the callee, who answers. The engine's id of the call.
    fn call(&self) -> (UdpSocket, String) {
        let (caller, port) = free();
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        );
        let invite = format!(
            "INVITE sip:+4420@127.0.0.1:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{port}\r\n\
             From: <sip:+1415@127.0.0.1>;tag=a{port}\r\nTo: <sip:+4420@127.0.0.1>\r\nCall-ID: call-{port}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:c@127.0.0.1:{port}>\r\nMax-Forwards: 70\r\n\
             Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}",
            sip = self.sip,
            length = sdp.len(),
        );
        caller.send_to(invite.as_bytes(), ("127.0.0.1", self.sip)).expect("an INVITE leaves");
        answer(&self.callee, "INVITE", &sdp);
        until("an answered call", || {
            let calls = self.json(&["calls"]);
            let call = calls["calls"].as_array()?.iter().find(|c| c["state"] == "answered")?;
            Some((caller.try_clone().ok()?, call["id"].as_str()?.to_owned()))
        })
    }
}

fn spawn(dir: &Path) -> Child {
    let mut sbcd = Command::new(binary());
    sbcd.arg("--config").arg(dir.join("sbcd.toml")).env("TANDEM_RUN", dir.join("run"));
    let mut process = sbcd.stderr(Stdio::piped()).spawn().expect("sbcd starts");
    until("an engine that answers", || {
        if let Ok(Some(status)) = process.try_wait() {
            let said =
                process.stderr.take().map(|e| std::io::read_to_string(e).unwrap_or_default());
            panic!("sbcd ended: {status}: {said:?}");
        }
        sbcctl(&dir.join("run"), &["status"]).status.success().then_some(())
    });
    process
}

impl Drop for Sbcd {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

fn sbcctl(run: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sbcctl"));
    command.arg("--run").arg(run).args(arguments).output().expect("sbcctl runs")
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no {what} within 20 s");
}

/// Waits for a request of a method and answers it 200.
fn answer(socket: &UdpSocket, method: &str, sdp: &str) {
    let mut bytes = [0; 8192];
    loop {
        let (len, from) =
            socket.recv_from(&mut bytes).unwrap_or_else(|e| panic!("no {method}: {e}"));
        let request = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if !request.starts_with(method) {
            continue;
        }
        let mut text = "SIP/2.0 200 OK\r\n".to_owned();
        for line in request.lines().take_while(|l| !l.is_empty()) {
            let name = line.split(':').next().unwrap_or("").trim();
            match name {
                "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => {
                    text += &format!("{line}\r\n")
                }
                "To" if line.contains("tag=") => text += &format!("{line}\r\n"),
                "To" => text += &format!("{line};tag=callee\r\n"),
                _ => {}
            }
        }
        let own = socket.local_addr().expect("address");
        text += &format!("Contact: <sip:callee@{own}>\r\n");
        if !sdp.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len());
        socket.send_to(text.as_bytes(), from).expect("a 200 leaves");
        return;
    }
}

#[test]
fn an_idle_node_is_shown() {
    let sbcd = Sbcd::start();
    let status = sbcd.json(&["status"]);
    assert_eq!((status["node"].as_str(), status["calls"].as_u64()), (Some("test"), Some(0)));
    assert!(sbcd.text(&["status"]).starts_with("test  running"));
    assert_eq!(sbcd.text(&["calls"]), "no calls\n");
    assert_eq!(sbcd.json(&["calls"])["total"], 0);
    assert!(sbcd.text(&["trunks"]).contains("\nout "));
    assert_eq!(sbcd.json(&["trunks"])[1]["name"], "out");
    assert!(sbcd.text(&["shards"]).contains("SHARD"));
    assert_eq!(sbcd.json(&["shards"])[0]["shard"], 0);
    assert!(sbcd.text(&["cdr", "tail"]).starts_with("END"));
    let frame = sbcd.text(&["top", "--once", "--size", "100x30"]);
    assert!(frame.starts_with("test ") && frame.contains("running") && frame.lines().count() == 30);
    assert_eq!(sbcd.json(&["top"])["trunks"][0]["name"], "in");
    let socket = sbcd.dir.join("run/sbcd.sock");
    let mut by_socket = Command::new(env!("CARGO_BIN_EXE_sbcctl"));
    by_socket.arg("--socket").arg(socket).arg("status");
    assert!(by_socket.output().expect("sbcctl runs").status.success());
    let coloured = sbcd.text(&["--color", "always", "status"]);
    assert!(coloured.contains("\x1b[1m"), "{coloured:?}");
}

#[test]
fn a_call_is_followed_from_answer_to_cdr() {
    let sbcd = Sbcd::start();
    let mut events = Command::new(env!("CARGO_BIN_EXE_sbcctl"));
    events.arg("--run").arg(sbcd.dir.join("run")).args(["events", "--json", "-c", "3"]);
    let mut events = events.stdout(Stdio::piped()).spawn().expect("sbcctl runs");
    // It must have subscribed before the call begins; a second is ample.
    std::thread::sleep(Duration::from_secs(1));
    let (_caller, id) = sbcd.call();
    assert!(sbcd.text(&["calls"]).contains(&id));
    assert_eq!(sbcd.json(&["call", "show", &id])["to"], "+4420");
    assert!(sbcd.text(&["call", "show", &id]).contains("answered"));

    let bye = {
        let callee = sbcd.callee.try_clone().expect("a second handle");
        std::thread::spawn(move || answer(&callee, "BYE", ""))
    };
    let released = sbcd.text(&["call", "hangup", &id]);
    assert!(released.contains("released") && released.contains("operator"), "{released}");
    bye.join().expect("the callee hears a BYE");
    let lines = BufReader::new(events.stdout.take().expect("events' output")).lines();
    let lines: Vec<Value> =
        lines.map(|l| serde_json::from_str(&l.expect("text")).expect("JSON")).collect();
    assert_eq!(lines.first().map(|l| l["ev"].clone()), Some("call.trying".into()));
    assert_eq!(lines.last().map(|l| l["ev"].clone()), Some("call.ended".into()));
    assert!(events.wait().expect("events end").success());

    let cdr = until("a CDR", || {
        let text = sbcd.text(&["cdr", "tail", "-n", "1", "--json"]);
        serde_json::from_str::<Value>(&text).ok()
    });
    assert_eq!((cdr["to"].as_str(), cdr["reason"].as_str()), (Some("+4420"), Some("operator")));
    assert!(sbcd.text(&["cdr", "tail"]).contains("operator"));

    let again = sbcd.ctl(&["call", "hangup", &id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("it has ended, or never was"));
}

#[test]
fn hangup_in_json_is_the_engines_answer() {
    let sbcd = Sbcd::start();
    let (_caller, id) = sbcd.call();
    assert_eq!(sbcd.json(&["call", "hangup", &id])["call"], id.as_str());
}

#[test]
fn a_drain_is_waited_for() {
    let mut sbcd = Sbcd::start();
    let text = sbcd.text(&["drain", "--wait"]);
    assert!(text.contains("the engine has ended"), "{text}");
    assert!(sbcd.process.wait().expect("sbcd ends").success());
    let after = sbcd.ctl(&["status"]);
    assert_eq!(after.status.code(), Some(3));
}

#[test]
fn a_drain_in_json() {
    let sbcd = Sbcd::start();
    assert_eq!(sbcd.json(&["drain"]), Value::Null);
}

#[test]
fn events_outlive_the_engine() {
    let mut sbcd = Sbcd::start();
    let mut events = Command::new(env!("CARGO_BIN_EXE_sbcctl"));
    events.arg("--run").arg(sbcd.dir.join("run")).args(["events", "-c", "2"]);
    let mut events = events.stdout(Stdio::piped()).spawn().expect("sbcctl runs");
    let mut lines = BufReader::new(events.stdout.take().expect("events' output")).lines();
    std::thread::sleep(Duration::from_secs(1));
    sbcd.process.kill().expect("sbcd is killed");
    sbcd.process.wait().expect("sbcd ends");
    let mut next = |part: &str| {
        let line = lines.next().expect("a line").expect("text");
        assert!(line.contains(part), "{line}");
    };
    next("the engine is gone");
    sbcd.process = spawn(&sbcd.dir);
    next("the engine is back");
    next("0 calls now");
    let _call = sbcd.call();
    next("call.trying");
    next("call.answered");
    assert!(events.wait().expect("events end").success());
}

#[test]
fn nobody_there_and_nothing_understood() {
    let nowhere = Path::new("/nonexistent/run");
    let output = sbcctl(nowhere, &["status"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("sbcd is not running with run directory /nonexistent/run"), "{said}");
    assert_eq!(sbcctl(nowhere, &["cdr", "tail"]).status.code(), Some(3));
    assert_eq!(sbcctl(nowhere, &["events", "leg"]).status.code(), Some(2));
    assert_eq!(sbcctl(nowhere, &["explode"]).status.code(), Some(2));
    let script = sbcctl(nowhere, &["completions", "bash"]);
    assert!(script.status.success() && script.stdout.starts_with(b"_sbcctl"));
}

#[test]
fn the_configuration_is_read_again() {
    let sbcd = Sbcd::start();
    let file = sbcd.dir.join("sbcd.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("name = \"out\"\n", "name = \"away\"\n")).expect("written");
    let refused = sbcd.ctl(&["config", "reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("error:") && said.contains("sbcd.toml:"), "{said}");
    assert!(said.contains("expected: `in` or `away`"), "{said}");

    let text = text.replace("\"out\"", "\"away\"");
    std::fs::write(&file, &text).expect("written");
    let told = sbcd.text(&["config", "reload", "--check"]);
    assert!(told.starts_with("it can be loaded; configuration 1 stays in force"), "{told}");
    let told = sbcd.text(&["config", "reload"]);
    assert!(told.starts_with("configuration 2 is in force\n  2 trunks, 1 route\n"), "{told}");
    assert!(told.contains("added: away") && told.contains("removed: out"), "{told}");
    assert!(sbcd.text(&["status"]).contains("configuration 2"));
    assert_eq!(sbcd.json(&["trunks"])[1]["name"], "away");
}
