//! A browser: a page in headless Chromium calls a telephone through the node, over a WebSocket with TLS, ICE
//! and DTLS-SRTP. The page says what it hears, by its tone; what the telephone heard is in what it recorded.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::process::{Running, need};
use common::sound::{await_tone, tone};
use common::telephone::Telephone;
use common::{LONG, Lab, Node, Setup, within};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const PAGE: &str = include_str!("data/phone.html");

/// What the page is served from, and reports to.
struct Site {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Value>>>,
    /// The next report of the page is answered so.
    hang_up: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    fn open() -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, hang_up, stop): (Arc<Mutex<Vec<Value>>>, Arc<AtomicBool>, Arc<AtomicBool>) =
            Default::default();
        let (heard, over, stopped) = (told.clone(), hang_up.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    serve(stream, &heard, &over);
                }
            }
        });
        Site { address, told, hang_up, stop, thread: Some(thread) }
    }

    /// What the page told, the newest of its kind.
    fn last(&self, event: &str) -> Option<Value> {
        self.told.lock().unwrap().iter().rev().find(|told| told["event"] == event).cloned()
    }

    fn everything(&self) -> String {
        let told = self.told.lock().unwrap();
        told.iter().map(|told| format!("{told}\n")).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// One request on a connection: the page, or a report of it.
fn serve(stream: TcpStream, told: &Mutex<Vec<Value>>, hang_up: &AtomicBool) {
    let _set = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut reader = BufReader::new(&stream);
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let (kind, answer) = if first.starts_with("POST /report ") {
        told.lock().unwrap().extend(serde_json::from_slice::<Value>(&body).ok());
        let answer = if hang_up.load(Ordering::Relaxed) { "hang up" } else { "go on" };
        ("text/plain", answer)
    } else if first.starts_with("GET /phone") {
        ("text/html", PAGE)
    } else {
        ("text/plain", "")
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let _sent = (&stream).write_all(format!("{head}{answer}").as_bytes());
}

/// The public key of a certificate as Chromium wants it named.
fn key_of(lab: &Lab, name: &str) -> String {
    need("openssl", "openssl");
    let mut shell = Command::new("sh");
    let script = format!(
        "openssl x509 -in {name}.pem -pubkey -noout | openssl pkey -pubin -outform der | \
         openssl dgst -sha256 -binary | openssl base64"
    );
    let output = shell.args(["-c", &script]).current_dir(&lab.dir).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Chromium without a window, whose microphone plays `tone.wav`.
fn chromium(lab: &Lab, url: &str) -> Running {
    need("chromium", "chromium");
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-extensions",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--allow-loopback-in-peer-connection",
        "--enable-logging=stderr",
    ]);
    chromium.arg(format!("--ignore-certificate-errors-spki-list={}", key_of(lab, "node")));
    chromium.arg(format!("--use-file-for-fake-audio-capture={}", lab.file("tone.wav").display()));
    chromium.arg(format!("--user-data-dir={}", lab.file("profile").display())).arg(url);
    chromium.env("HOME", &lab.dir);
    Running::start(chromium, &lab.file("chromium.log"))
}

/// A page calls a telephone, each is to hear the other's tone, and the page hangs up.
fn a_page_calls(name: &str, ports: u16, query: &str) -> (Value, Value) {
    let mut lab = Lab::new(name);
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (page_says, telephone_says) = (1250.0, 440.0);
    tone(&lab.file("tone.wav"), page_says);
    let callee = Telephone::start(&lab, "callee", telephone_says, ports, ("", None));
    let site = Site::open();
    let authority = Authority::new(&lab);
    authority.issue("node", "IP:127.0.0.1");
    let wss = lab.tcp();
    let mut setup = Setup::new(&lab, callee.listen);
    setup.sip = lab.udp();
    setup.interface = format!(
        "media_ports = \"{}-{}\"\nwss_port = {}\nws_origins = [\"http://{}\"]\n",
        ports + 200,
        ports + 299,
        wss.port(),
        site.address
    );
    setup.caller =
        "transport = \"wss\"\nice = \"lite\"\nsrtp = \"required\"\nsrtp_keys = [\"dtls\"]\n".into();
    setup.route += &authority.section("node", "");
    // A telephone and two browsers that start together take their time on a busy machine.
    setup.trunks[0].2 += "trying_timeout_ms = 20000\n";
    let mut node = Node::start(&lab, &setup);
    let url = format!(
        "http://{}/phone?server=wss://{wss}/&target=sip:442079460000@{wss};transport=ws&\
         hertz={telephone_says}{query}",
        site.address
    );
    let mut browser = chromium(&lab, &url);
    let logs = |site: &Site| {
        let log = |name| std::fs::read_to_string(lab.file(name)).unwrap_or_default();
        format!("{}\n{}\n{}", site.everything(), log("sbcd.log"), log("chromium.log"))
    };
    let heard = within(2 * LONG, || {
        assert!(site.last("failed").is_none(), "{}", logs(&site));
        let stats = site.last("stats")?;
        let is_heard = stats["share"].as_f64()? > 0.8 && stats["received"].as_u64()? > 50;
        is_heard.then_some(stats)
    });
    let Some(stats) = heard else { panic!("the page heard nothing\n{}", logs(&site)) };
    let found = await_tone(|| callee.heard(), page_says, telephone_says);
    assert!(found.is_ok(), "{found:?}\n{}", logs(&site));
    site.hang_up.store(true, Ordering::Relaxed);
    let over = within(LONG, || site.last("over"));
    assert!(over.is_some(), "{}", logs(&site));
    browser.kill();
    let records = node.await_records(1);
    assert_eq!(records[0]["reason"], "caller_hung_up", "{records:?}");
    for side in ["caller", "callee"] {
        assert!(records[0]["media"][side]["packets"].as_u64() > Some(50), "{}", records[0]);
    }
    assert_eq!(node.metric("tandem_media_dtls_handshakes_total"), 1);
    assert!(node.metric("tandem_media_stun_checks_answered_total") > 0);
    assert_eq!(node.metric("tandem_media_dtls_failures_total"), 0);
    let answered = site.last("answered").unwrap();
    let trickled = site.last("trickled").unwrap();
    assert!(trickled["status"].as_u64() >= Some(200), "{trickled}");
    node.process.kill();
    (answered, stats)
}

#[test]
fn a_page_calls_a_telephone_and_both_are_heard() {
    let (answered, stats) = a_page_calls("browser", 30_000, "");
    let (offer, answer) =
        (answered["offer"].as_str().unwrap(), answered["answer"].as_str().unwrap());
    assert!(!offer.contains("a=candidate:"), "nothing was found before the offer left\n{offer}");
    for line in ["UDP/TLS/RTP/SAVPF", "a=ice-lite", "a=rtcp-mux", "a=setup:passive"] {
        assert!(answer.contains(line), "{line}\n{answer}");
    }
    assert_eq!(stats["dtls"], "connected", "{stats}");
    println!("browser {stats}");
}

#[test]
fn a_page_with_a_camera_is_heard_and_not_seen() {
    let (answered, _) = a_page_calls("browser-video", 31_000, "&video&bundle=max-bundle");
    let (offer, answer) =
        (answered["offer"].as_str().unwrap(), answered["answer"].as_str().unwrap());
    assert!(offer.contains("m=video") && offer.contains("a=group:BUNDLE"), "{offer}");
    for line in ["m=video 0 ", "a=group:BUNDLE 0\r\n", "a=mid:0\r\n"] {
        assert!(answer.contains(line), "{line}\n{answer}");
    }
}
