//! What the tests against a running `sbcd` share: a scratch directory with an address of its own, a node
//! on a generated configuration, its control socket, records and metrics, and the programs beside it.
//!
//! Nothing here waits for a length of time where it can wait for a condition, and every process that was
//! started ends with the value that stands for it.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod authority;
pub(crate) mod carrier;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod rtpengine;
pub(crate) mod sound;
pub(crate) mod stream;
pub(crate) mod teams;
pub(crate) mod telephone;
pub(crate) mod wire;

use process::Running;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Patience with a machine that is busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A scratch directory and a loopback address nobody else uses. A failed test leaves its directory.
pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
    pub(crate) ip: IpAddr,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let (pid, n) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("tandem-{name}-{pid}-{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        let ip = Ipv4Addr::new(127, 64 + (pid >> 8 & 0x7f) as u8, pid as u8, n as u8);
        Lab { dir, ip: ip.into() }
    }

    pub(crate) fn ipv6(name: &str) -> Lab {
        let mut lab = Lab::new(name);
        lab.ip = Ipv6Addr::LOCALHOST.into();
        lab
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A port of this lab's address for a socket of UDP.
    pub(crate) fn udp(&self) -> SocketAddr {
        SocketAddr::new(self.ip, one_free(self.ip))
    }

    /// A port of this lab's address for a listener.
    pub(crate) fn tcp(&self) -> SocketAddr {
        SocketAddr::new(self.ip, one_free(self.ip))
    }

    /// A port of this lab's address for a listener that takes it of every address of the machine.
    pub(crate) fn tcp_everywhere(&self) -> SocketAddr {
        SocketAddr::new(self.ip, one_free(Ipv4Addr::UNSPECIFIED.into()))
    }

    /// A port of this lab's address for SIPp's media: it takes the four from there, for audio and video.
    pub(crate) fn media(&self) -> u16 {
        static GIVEN: AtomicU16 = AtomicU16::new(0);
        free(self.ip, 24_000..32_000, 4, &GIVEN)
    }

    /// A port of this lab's address for a telephone, to which the next belongs too.
    pub(crate) fn telephone(&self) -> SocketAddr {
        static GIVEN: AtomicU16 = AtomicU16::new(0);
        SocketAddr::new(self.ip, free(self.ip, 8_000..9_900, 2, &GIVEN))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// The first of so many neighbours in this range that are free at an address, for UDP and TCP. Each is given once by
/// this process, and none is one that the kernel gives to whoever asks for any.
fn free(ip: IpAddr, range: Range<u16>, many: u16, given: &AtomicU16) -> u16 {
    let is_free = |port| {
        let at = (ip, port);
        UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
    };
    let length = u32::from(range.end - range.start);
    loop {
        // Processes at the same time begin at different places.
        let turn = std::process::id() * 37 + u32::from(given.fetch_add(1, Ordering::Relaxed));
        let first = range.start + (turn * u32::from(many) % length) as u16;
        if (first..first + many).all(is_free) {
            return first;
        }
    }
}

fn one_free(ip: IpAddr) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    free(ip, 10_000..20_000, 1, &GIVEN)
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept {} to look into", self.dir.display());
        } else {
            let _gone = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A configuration in the making: one interface, callers from anywhere on the loopback, and trunks out.
pub(crate) struct Setup {
    pub(crate) sip: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) node: String,
    pub(crate) interface: String,
    pub(crate) caller: String,
    pub(crate) trunks: Vec<(String, SocketAddr, String)>,
    pub(crate) route: String,
}

impl Setup {
    /// Calls from any port of the lab's address go to `callee`.
    pub(crate) fn new(lab: &Lab, callee: SocketAddr) -> Setup {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Setup {
            sip: lab.udp(),
            metrics: SocketAddr::new(loopback, one_free(loopback)),
            node: "max_calls = 400\nmax_cps = 2000\nshards = 1\npin = false\n".into(),
            interface: "media_ports = \"20000-21999\"\n".into(),
            caller: String::new(),
            trunks: vec![("out".into(), callee, String::new())],
            route: "[[route]]\nprefix = \"\"\nto = [\"out\"]\n".into(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let everybody = if self.sip.is_ipv6() { "::1/128" } else { "127.0.0.0/8" };
        let seen = if self.metrics.ip().is_loopback() { "" } else { "public = true\n" };
        let mut text = format!(
            "[node]\nname = \"t\"\n{}\n[metrics]\nlisten = \"{}\"\n{seen}\n[[interface]]\nname = \"loop\"\n\
             bind = \"{}\"\nallow = [\"loopback\"]\n{}\n[[trunk]]\nname = \"in\"\ninterface = \"loop\"\n\
             sources = [\"{everybody}\"]\n{}\n",
            self.node, self.metrics, self.sip, self.interface, self.caller
        );
        for (name, endpoint, more) in &self.trunks {
            text += &format!(
                "[[trunk]]\nname = \"{name}\"\ninterface = \"loop\"\nendpoints = [\"{endpoint}\"]\n\
                 sources = [\"{endpoint}\"]\n{more}\n"
            );
        }
        text + &self.route
    }
}

/// A running `sbcd`.
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) run: PathBuf,
    pub(crate) sip: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Node {
    /// Starts on `setup` in the lab's run directory, and returns when it answers.
    pub(crate) fn start(lab: &Lab, setup: &Setup) -> Node {
        let mut node = Node::spawn(lab, setup);
        node.await_ready();
        node
    }

    /// Starts and doesn't wait.
    pub(crate) fn spawn(lab: &Lab, setup: &Setup) -> Node {
        let file = lab.write("sbcd.toml", &setup.text());
        Node::spawn_file(lab, &file, setup.sip, setup.metrics)
    }

    pub(crate) fn spawn_file(lab: &Lab, file: &Path, sip: SocketAddr, metrics: SocketAddr) -> Node {
        let run = lab.file("run");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sbcd"));
        command.arg("--config").arg(file).env("TANDEM_RUN", &run);
        let process = Running::start(command, &lab.file("sbcd.log"));
        Node { process, run, sip, metrics }
    }

    pub(crate) fn await_ready(&mut self) {
        let mut ended = false;
        let ready = within(LONG, || {
            ended = self.process.ended().is_some();
            if ended { Some(()) } else { self.ask(json!({"op": "ping"})).ok().map(drop) }
        });
        if ended || ready.is_none() {
            panic!("sbcd did not become ready:\n{}", self.process.log());
        }
        // A peer of this test may be given one of them, and would hear nothing.
        let log = self.process.log();
        assert!(
            !log.contains("the kernel may give media ports"),
            "choose ports below 32768:\n{log}"
        );
    }

    /// One command on the control socket.
    pub(crate) fn ask(&self, mut command: Value) -> Result<Value, String> {
        let failed = |e: std::io::Error| e.to_string();
        let stream = UnixStream::connect(self.run.join("sbcd.sock")).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed)?;
        command["t"] = json!("c");
        command["id"] = json!("1");
        let mut lines = BufReader::new(&stream);
        let mut reply = String::new();
        for line in [json!({"t": "hello", "proto": 1, "app": "test"}), command] {
            (&stream).write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
            reply.clear();
            lines.read_line(&mut reply).map_err(failed)?;
        }
        let reply: Value = serde_json::from_str(&reply).map_err(|e| e.to_string())?;
        match reply["ok"].as_bool() {
            Some(true) => Ok(reply["result"].clone()),
            _ => Err(reply.to_string()),
        }
    }

    pub(crate) fn status(&self) -> Value {
        self.ask(json!({"op": "get", "what": "status"})).unwrap()
    }

    /// Waits until the node holds this many calls.
    pub(crate) fn await_calls(&self, calls: u64) {
        let held = within(LONG, || (self.status()["calls"] == calls).then_some(()));
        assert!(held.is_some(), "not {calls} calls: {}", self.status());
    }

    /// SIGTERM, and the exit status once it has drained.
    pub(crate) fn drain(&mut self) -> Option<i32> {
        self.process.signal(libc::SIGTERM);
        self.process.wait(Duration::from_secs(60))
    }

    /// One page of metrics.
    pub(crate) fn page(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: t\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The sum of every sample whose name and labels contain `part`.
    pub(crate) fn metric(&self, part: &str) -> u64 {
        let page = self.page();
        let samples = page.lines().filter(|l| !l.starts_with('#') && l.contains(part));
        samples.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Every call detail record on disk.
    pub(crate) fn records(&self) -> Vec<Value> {
        records(&self.run)
    }

    /// Records, once there are `count` of them.
    pub(crate) fn await_records(&self, count: usize) -> Vec<Value> {
        within(LONG, || (self.records().len() >= count).then_some(()));
        let records = self.records();
        assert_eq!(records.len(), count, "{records:#?}\n{}", self.process.log());
        records
    }
}

/// Every record under a run directory.
pub(crate) fn records(run: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    for file in record_files(run) {
        let text = std::fs::read_to_string(file).unwrap();
        // The last line may still be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        records.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    records
}

pub(crate) fn record_files(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run.join("cdr")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// How many records have each reason.
pub(crate) fn reasons(records: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record["reason"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
    }
    counts
}

/// Tries until there is something, for at most `patience`.
pub(crate) fn within<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The load generator, built beside the program under test.
pub(crate) fn sbcload() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| program("sbcload"))
}

/// Another program of this workspace, built beside the program under test: with the features that everything has
/// when all of it is built for tests, of which the example is one. With others most dependencies were built again.
pub(crate) fn program(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_sbcd")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    let example = ["--example", "plain_calls"];
    cargo
        .args(["build", "--quiet", "--workspace", "--bin", name])
        .args(example)
        .arg("--target-dir");
    cargo.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "cargo could not build {name}");
    folder.join(name)
}

/// `sbcload call` between two addresses of the lab; its report as JSON once it has ended.
pub(crate) struct Load(Running);

impl Load {
    pub(crate) fn start(lab: &Lab, to: SocketAddr, uas: SocketAddr, more: &[&str]) -> Load {
        let uac = SocketAddr::new(lab.ip, 0);
        let mut command = Command::new(sbcload());
        command.args(["call", "--json", "--to", &to.to_string(), "--uas", &uas.to_string()]);
        command.args(["--uac", &uac.to_string(), "--media-ip", &lab.ip.to_string()]).args(more);
        Load(Running::start(command, &lab.file(&format!("load-{}.json", uas.port()))))
    }

    pub(crate) fn interrupt(&self) {
        self.0.signal(libc::SIGTERM);
    }

    /// Exit status and report.
    pub(crate) fn finish(mut self, patience: Duration) -> (i32, Value) {
        let code = self.0.wait(patience).unwrap_or(-1);
        let text = self.0.log();
        let report = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        (code, report.unwrap_or(Value::String(text)))
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.0.ended().is_some()
    }
}

/// `sbcload uas`: a called side that answers until it is dropped, or told to end.
pub(crate) struct Answering(Running);

impl Answering {
    pub(crate) fn start(lab: &Lab, listen: SocketAddr, more: &[&str]) -> Answering {
        let mut command = Command::new(sbcload());
        command.args(["uas", "--json", "--listen", &listen.to_string()]);
        command.args(["--media-ip", &lab.ip.to_string()]).args(more);
        Answering(Running::start(command, &lab.file(&format!("uas-{}.json", listen.port()))))
    }

    /// Its report.
    pub(crate) fn finish(mut self) -> Value {
        self.0.signal(libc::SIGTERM);
        let _code = self.0.wait(LONG);
        let text = self.0.log();
        let report = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        report.unwrap_or(Value::String(text))
    }
}
