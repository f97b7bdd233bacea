//! The pages keep their word: commands run, names exist, links lead somewhere.
//!
//! A block of `sh` with `<!-- run -->` on the line before is run, page by page and in order, against a
//! real `sbcd` that is restarted when it dies, as systemd would. Pages say what an operator types; the
//! paths and ports in [`Stage::local`] become those of the test.

use base::money::{Currency, Ratio, Rounding};
use engine::cdr;
use routing_trie::Rate;
use sbc::billing::{
    Attempt, Cdr, CdrId, Frame, LegMedia, Marks, Party, Quote, Score, Stamp, Taken,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every page under a directory.
fn pages_in(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            pages_in(&path, found);
        } else if path.extension().is_some_and(|e| e == "md") {
            found.push(path);
        }
    }
}

/// The pages of the documentation and those at the root.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    pages_in(&root().join("docs"), &mut found);
    let entries = std::fs::read_dir(root()).expect("the root").map(|e| e.expect("an entry").path());
    found.extend(entries.filter(|p| p.extension().is_some_and(|e| e == "md")));
    found.sort();
    found
}

/// `code` spans of a page, fenced blocks left out.
fn spans(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Fenced blocks: what they are of, the line before them, their text.
fn blocks(text: &str) -> Vec<(&str, &str, String)> {
    let mut found = Vec::new();
    let mut before = "";
    let mut open: Option<(&str, &str, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some((kind, before, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((.., body))) => {
                body.push_str(line);
                body.push('\n');
            }
            (None, None) => before = line,
        }
    }
    found
}

// ---- names ----

#[test]
fn every_metric_that_is_mentioned_exists() {
    let reference = read(&root().join("docs/reference/metrics.md"));
    let known: BTreeSet<&str> =
        reference.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        for name in text.split(word).filter(|w| w.starts_with("tandem_")) {
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|p| name.strip_suffix(p));
            if !known.contains(name) && !part.is_some_and(|p| known.contains(p)) {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no such metric:\n{}", wrong.join("\n"));
}

/// The key of `key = value`, commented out or not.
fn key(line: &str) -> Option<&str> {
    let (word, _) = line.trim_start().trim_start_matches(['#', '{', '}', ' ']).split_once(" = ")?;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (!word.is_empty() && word.bytes().all(good)).then_some(word)
}

#[test]
fn every_key_that_is_mentioned_exists() {
    let reference = read(&root().join("config/sbcd.toml"));
    let known: BTreeSet<&str> =
        reference.lines().flat_map(|l| l.split(['{', ',']).chain([l])).filter_map(key).collect();
    assert!(known.contains("first_ms") && known.contains("weight") && known.contains("pin"));
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let blocks = blocks(&text);
        let toml = blocks.iter().filter(|(kind, ..)| *kind == "toml").flat_map(|b| b.2.lines());
        for name in spans(&text).into_iter().chain(toml).filter_map(key) {
            if !known.contains(name) {
                wrong.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no such key:\n{}", wrong.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|t| !t.contains("://") && !t.starts_with("mailto:")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.clone(),
                file => page.parent().expect("a directory").join(file),
            };
            if !path.exists() || !(anchor.is_empty() || anchors(&path).contains(anchor)) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

/// What headings can be linked to by.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = read(page);
    let headings = text.lines().filter(|l| l.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_page_of_a_directory_is_in_its_index() {
    for dir in ["docs/operate", "docs/decisions", "docs/reference"] {
        let dir = root().join(dir);
        let index = match dir.join("README.md") {
            own if own.exists() => own,
            _ => root().join("docs/README.md"),
        };
        let text = read(&index);
        let mut found = Vec::new();
        pages_in(&dir, &mut found);
        for page in found.iter().filter(|p| **p != index) {
            let name = page.file_name().expect("a name").to_string_lossy();
            assert!(text.contains(&*name), "{} does not link {name}", index.display());
        }
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = read(&root().join("Makefile"));
    let exists = |name: &str| makefile.lines().any(|l| l.starts_with(&format!("{name}:")));
    for page in pages() {
        let text = read(&page);
        let blocks = blocks(&text);
        let shell = blocks.iter().filter(|(kind, ..)| *kind == "sh").flat_map(|b| b.2.lines());
        for line in spans(&text).into_iter().chain(shell) {
            let Some(target) = line.trim().strip_prefix("make ") else { continue };
            let target = target.split([' ', '#']).next().unwrap_or_default();
            assert!(exists(target), "{}: there is no `make {target}`", page.display());
        }
    }
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let parts = path.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    match parts {
        Some((head, (names, tail))) => {
            names.split(',').map(|name| format!("{head}{name}{tail}")).collect()
        }
        None => vec![path.to_owned()],
    }
}

#[test]
fn every_file_that_is_mentioned_exists() {
    let ours = |path: &str| {
        let top = path.split('/').next().unwrap_or_default();
        !top.is_empty() && top != "." && path.contains('/') && root().join(top).is_dir()
    };
    let mut missing = Vec::new();
    for page in pages() {
        let text = read(&page);
        for path in spans(&text).into_iter().filter(|s| ours(s)).flat_map(alternatives) {
            let built = ["target/", "run/"].iter().any(|dir| path.starts_with(dir));
            if !built && !root().join(&path).exists() {
                missing.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

#[test]
fn every_label_value_that_is_mentioned_exists() {
    let reference = read(&root().join("docs/reference/metrics.md"));
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        for selector in text.split("tandem_").skip(1) {
            let Some((name, rest)) = selector.split_once('{') else { continue };
            let family = format!("| `tandem_{name}` |");
            let Some(row) = reference.lines().find(|l| l.starts_with(&family)) else { continue };
            let labels = rest.split('}').next().unwrap_or_default();
            let values = labels.split('"').skip(1).step_by(2).flat_map(|v| v.split(['|', '\\']));
            for value in values.filter(|v| !v.is_empty() && !labels.starts_with("trunk")) {
                if !row.contains(&format!("`{value}`")) {
                    wrong.push(format!("{}: {name}: {value}", page.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no such label value:\n{}", wrong.join("\n"));
}

#[test]
fn every_shell_block_parses() {
    for page in pages() {
        for (_, _, block) in blocks(&read(&page)).iter().filter(|(kind, ..)| *kind == "sh") {
            let parsed = Command::new("bash").args(["-n", "-c", block]).status().expect("bash");
            assert!(parsed.success(), "{}: {block}", page.display());
        }
    }
}

// ---- CDRs ----

fn quote() -> Quote {
    Quote {
        deck: b"deck".as_slice().into(),
        generation: 1,
        currency: Currency::USD,
        fx: Ratio::ONE,
        rate: Rate::plain(12_500_000, 30, 6),
        expected_nano: 37_500_000,
    }
}

fn taken() -> Taken {
    let text = |t: &str| t.as_bytes().into();
    Taken {
        plan: text("wholesale"),
        rule: 1,
        currency: Currency::USD,
        places: 6,
        rounding: Rounding::HalfUp,
        sell: Some(quote()),
    }
}

fn sample() -> Cdr {
    let at = Stamp { wall: 1_700_000_000_000_000_000, mono: 5 };
    let text = |t: &str| t.as_bytes().into();
    Cdr {
        id: CdrId { epoch: 1_700_000_000, shard: 1, sequence: 42 },
        call: Some((0x7f, base::Key { index: 1, generation: 2 })),
        call_id_in: text("a@b"),
        call_id_out: text("c"),
        from: text("+14155550100"),
        to: text("442079460000"),
        source: "192.0.2.1:5060".parse().expect("an address"),
        trunk_in: text("in"),
        trunk_out: text("out"),
        setup: at,
        ringing: Some(at),
        answer: Some(at),
        end: Some(at),
        status: 200,
        q850: 16,
        reason: text("caller_hung_up"),
        released_by: Party::Caller,
        taken: Some(taken()),
        why: Default::default(),
        transferred_to: None,
        transfers: vec![sbc::billing::Transferred {
            call_id: Default::default(),
            joined: None,
            at,
            by: sbc::billing::Party::Caller,
            trunk: text("in"),
            number: text("442079460001"),
            first: 0,
            status: 200,
            taken: Some(taken()),
            media: LegMedia { score: Some(Score::default()), ..LegMedia::default() },
        }],
        attempts: vec![Attempt {
            trunk: text("out"),
            endpoint: "192.0.2.10:5060".parse().expect("an address"),
            number: text("442079460000"),
            at,
            answer: None,
            end: None,
            status: 200,
            reason: text(""),
            buy: Some(quote()),
        }],
        media: [LegMedia { score: Some(Score::default()), ..LegMedia::default() }; 2],
        marks: Marks::default(),
    }
}

/// Paths of every value: `attempts[].at`, `media.caller.mos`; objects and lists themselves too.
fn paths(prefix: &str, value: &Value, out: &mut BTreeSet<String>) {
    let mut below = |path: String, value: &Value| {
        out.insert(path.clone());
        paths(&path, value, out);
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                below(format!("{prefix}{dot}{name}"), value);
            }
        }
        Value::Array(elements) => {
            let path = format!("{prefix}[]");
            elements.iter().for_each(|element| paths(&path, element, out));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_field_of_a_cdr_is_documented() {
    let mut frame = Vec::new();
    Frame::Stop(sample()).seal(&mut frame);
    let line = cdr::render("sbc-1", &frame).expect("a CDR");
    let mut written = BTreeSet::new();
    paths("", &serde_json::from_str(&line).expect("JSON"), &mut written);
    let page = read(&root().join("docs/reference/cdr.md"));
    let rows = page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| -> Vec<String> {
        a.difference(b).cloned().collect()
    };
    assert_eq!(only(&written, &documented), Vec::<String>::new(), "not documented");
    assert_eq!(only(&documented, &written), Vec::<String>::new(), "documented, not written");
}

// ---- commands ----

/// A run directory, a configuration on free ports, and an engine that is restarted when it dies.
struct Stage {
    dir: PathBuf,
    run: PathBuf,
    /// A loopback address of its own: while the engine is down nobody else takes its ports.
    ip: Ipv4Addr,
    sip: u16,
    called: u16,
    metrics: u16,
    engine: Option<Child>,
}

impl Stage {
    fn new(name: &str) -> Stage {
        let dir = std::env::temp_dir().join(format!("tandem-docs-{}-{name}", std::process::id()));
        let _none = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("run")).expect("a directory");
        for kept in ["cdr", "journal"] {
            // As the unit has it: on a disk, and linked to.
            std::fs::create_dir_all(dir.join("disk").join(kept)).expect("a directory");
            let link = dir.join("run").join(kept);
            std::os::unix::fs::symlink(dir.join("disk").join(kept), link).expect("a link");
        }
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 1 | high, low, 1 + name.len() as u8);
        let udp = || UdpSocket::bind((ip, 0)).expect("a port");
        // Held together, so that they differ.
        let (sip, called) = (udp(), udp());
        let metrics = TcpListener::bind((ip, 0)).expect("a port");
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        Stage {
            run: dir.join("run"),
            sip: port(&sip),
            called: port(&called),
            metrics: metrics.local_addr().expect("an address").port(),
            engine: None,
            ip,
            dir,
        }
    }

    fn config(&self) -> PathBuf {
        let first = media_ports(self.ip);
        let (ip, sip, called, metrics) = (self.ip, self.sip, self.called, self.metrics);
        let text = format!(
            "[node]\nname = \"docs\"\nshards = 1\nmax_calls = 20\nmax_cps = 100\npin = false\n\
             [metrics]\nlisten = \"{ip}:{metrics}\"\n\
             [cdr]\njournal_mb = 4\n\
             [[interface]]\nname = \"loopback\"\nbind = \"{ip}:{sip}\"\n\
             media_ports = \"{first}-{}\"\nallow = [\"loopback\"]\n\
             [[trunk]]\nname = \"in\"\ninterface = \"loopback\"\nsources = [\"127.0.0.0/8\"]\n\
             [[trunk]]\nname = \"out\"\ninterface = \"loopback\"\n\
             endpoints = [\"{ip}:{called}\"]\nsources = [\"{ip}:{called}\"]\n\
             [[route]]\nprefix = \"\"\nto = [\"out\"]\n",
            first + PORTS - 1
        );
        let path = self.dir.join("sbcd.toml");
        std::fs::write(&path, text).expect("a configuration");
        path
    }

    /// A command as it is run here.
    fn local(&self, command: &str) -> String {
        let local = |port: u16| format!("{}:{port}", self.ip);
        let to_us = format!("--to {} --uas {}", local(self.sip), local(self.called));
        command
            .replace("/tmp/", &format!("{}/", self.dir.display()))
            .replace("/etc/tandem/sbcd.toml", &self.dir.join("sbcd.toml").display().to_string())
            .replace("config/examples/", &format!("{}/config/examples/", root().display()))
            .replace("/run/tandem", &self.run.display().to_string())
            .replace("--to 127.0.0.1:5060", &to_us)
            .replace("127.0.0.1:9464", &local(self.metrics))
    }

    fn bash(&self, script: &str) -> Command {
        let mut path = vec![programs().to_path_buf()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut bash = Command::new("bash");
        bash.args(["-c", script])
            .current_dir(&self.dir)
            .env("TANDEM_RUN", &self.run)
            .env("PATH", std::env::join_paths(path).expect("a path"))
            .stdin(Stdio::null());
        bash
    }

    fn start(&mut self) {
        self.config();
        let script = "until sbcd --config sbcd.toml 2>>log; do sleep 0.2; done";
        self.engine = Some(self.bash(script).spawn().expect("bash"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.bash("sbcctl status >status 2>&1").status().expect("bash").success() {
            assert!(Instant::now() < deadline, "sbcd did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        // A node that never had a call has nothing to show.
        let first = "sbcload call --to 127.0.0.1:5060 --hold 0.5
            until [ -n \"$(sbcctl --json cdr tail -n 1)\" ]; do sleep 0.05; done";
        self.run(Path::new("the first call"), first);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Runs a block; every command in it must succeed.
    fn run(&self, page: &Path, block: &str) {
        let script = format!("set -euo pipefail\n{}", self.local(block));
        let out = std::fs::File::create(self.dir.join("out")).expect("a file");
        let both = out.try_clone().expect("a file");
        let mut bash = self.bash(&script);
        let mut bash = bash.stdout(out).stderr(both).spawn().expect("bash");
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = bash.try_wait().expect("a status") {
                break Some(status);
            }
            if Instant::now() > deadline {
                let _gone = (bash.kill(), bash.wait());
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(
            status.is_some_and(|s| s.success()),
            "{}: {status:?}\n{script}\n--- it said\n{}\n--- the engine said\n{}",
            page.display(),
            read(&self.dir.join("out")),
            self.log()
        );
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Some(mut engine) = self.engine.take() else { return };
        // The loop first, so that nothing is restarted; then the engine, whose id is in its lock.
        let _gone = (engine.kill(), engine.wait());
        let pid = std::fs::read_to_string(self.run.join("lock")).unwrap_or_default();
        let script = format!("kill -KILL {} 2>/dev/null || true", pid.trim());
        if !pid.trim().is_empty() && self.run.join("sbcd.sock").exists() {
            let _killed = self.bash(&script).status();
        }
        if !std::thread::panicking() {
            let _removed = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Ports of an interface for twenty calls and their slack.
const PORTS: u16 = 160;

/// The first of so many free ports, even.
fn media_ports(ip: Ipv4Addr) -> u16 {
    for _ in 0..200 {
        let probe = UdpSocket::bind((ip, 0)).expect("a port");
        let port = probe.local_addr().expect("an address").port();
        let first = 10_000 + (port % 10_000) / 2 * 2;
        let free = |port: u16| UdpSocket::bind((ip, port)).is_ok();
        if (first..first + PORTS).all(free) {
            return first;
        }
    }
    panic!("no {PORTS} ports in a row are free");
}

/// Where `sbcd`, `sbcctl` and `sbcload` are; those that are missing are built.
fn programs() -> &'static Path {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let dir = Path::new(env!("CARGO_BIN_EXE_sbcd")).parent().expect("a directory");
    BUILT.call_once(|| {
        if ["sbcctl", "sbcload"].iter().all(|name| dir.join(name).exists()) {
            return;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "sbcctl", "-p", "bench"]).current_dir(root());
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo").success(), "sbcctl and sbcload cannot be built");
    });
    dir
}

#[test]
fn every_command_that_is_shown_works() {
    let mut ran = 0;
    for page in pages() {
        let text = read(&page);
        let blocks = blocks(&text);
        let mut blocks =
            blocks.iter().filter(|(_, before, _)| *before == "<!-- run -->").peekable();
        if blocks.peek().is_none() {
            continue;
        }
        let name = page.file_stem().expect("a name").to_string_lossy();
        let mut stage = Stage::new(&name);
        stage.start();
        for (kind, _, block) in blocks {
            assert_eq!(*kind, "sh", "{}", page.display());
            stage.run(&page, block);
            ran += 1;
        }
    }
    assert!(ran >= 9, "only {ran} blocks are run");
}
