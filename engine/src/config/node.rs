//! `[node]`, `[metrics]`, `[cdr]`, `[timers]`: what there is once per process.

use super::read::{Report, Section};
use super::report::Problem;
use sbc::transaction::Timers;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// How many shards to run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per core but one, at least one.
    Auto,
    /// This many.
    Exactly(u16),
}

/// How shards talk to the kernel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where the kernel has it, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// Whether the media ports of an interface share a socket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MediaSockets {
    /// They do where the kernel and our capabilities allow it.
    Auto,
    /// They do, or the node does not start.
    Shared,
    /// Every port has one of its own.
    Own,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name of the node, in CDR ids and metrics.
    pub name: Box<str>,
    /// Shards.
    pub shards: Shards,
    /// Simultaneous calls of the whole node.
    pub max_calls: u32,
    /// New calls per second the node is sized for.
    pub max_cps: u32,
    /// Regions, journal and control socket.
    pub run_dir: PathBuf,
    /// Driver.
    pub driver: Driver,
    /// Sockets of media ports.
    pub media_sockets: MediaSockets,
    /// How long a shard waits for more packets before it takes a batch, 0..=1000 microseconds.
    pub min_wait_us: u32,
    /// Server and User-Agent header; empty for none.
    pub software: Box<str>,
    /// How long `drain` waits for calls to end.
    pub drain_timeout: Duration,
    /// Whether each shard is pinned to a core.
    pub pin: bool,
}

/// `[metrics]`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where `/metrics` is served over HTTP.
    pub listen: SocketAddr,
}

/// What happens to new calls when their records cannot be stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// They are refused.
    Refuse,
    /// They are carried without a record, with an alarm.
    ContinueUnbilled,
}

/// `[cdr]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cdr {
    /// Size at which a segment is closed, in MiB.
    pub rotate_mb: u32,
    /// Age at which a segment is closed.
    pub rotate_minutes: u32,
    /// What to do when neither memory nor disk takes a record.
    pub on_full: OnFull,
    /// How long a record may wait for the disk.
    pub commit_interval: Duration,
    /// Journal memory of the whole node, in MiB; `None` for 16 per shard.
    pub journal_mb: Option<u32>,
}

pub(super) fn read_node(mut section: Section<'_>, report: &mut Report) -> Node {
    let s = &mut section;
    let name = s.parsed(report, "name", "1 to 63 letters, digits, `-`, `_` or `.`", node_name);
    let shards = shards(s, report);
    let max_calls = s.number(report, "max_calls", 1..=1_000_000, 4000);
    let max_cps = s.number(report, "max_cps", 1..=100_000, 1000);
    let run_dir = s.parsed(report, "run_dir", "a directory", |t| {
        (!t.is_empty() && !t.contains('\0')).then(|| PathBuf::from(t))
    });
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
    let driver = s.choice(report, "driver", &drivers).unwrap_or(Driver::Auto);
    let sockets = [
        ("auto", MediaSockets::Auto),
        ("shared", MediaSockets::Shared),
        ("own", MediaSockets::Own),
    ];
    let media_sockets = s.choice(report, "media_sockets", &sockets).unwrap_or(MediaSockets::Auto);
    let min_wait_us = s.number(report, "min_wait_us", 0..=1000, 200);
    let software = s.parsed(report, "software", "at most 100 printable ASCII characters", software);
    let drain_timeout = s.number(report, "drain_timeout_s", 0..=86_400, 600);
    let pin = s.flag(report, "pin", true);
    section.finish(report);
    Node {
        name: name.map_or("sbcd".into(), |n| n.value),
        shards,
        max_calls,
        max_cps,
        run_dir: run_dir.map_or_else(default_run_dir, |d| d.value),
        driver,
        media_sockets,
        min_wait_us,
        software: software.map_or("Tandem".into(), |s| s.value),
        drain_timeout: Duration::from_secs(drain_timeout),
        pin,
    }
}

fn default_run_dir() -> PathBuf {
    let named = std::env::var_os("TANDEM_RUN").filter(|dir| !dir.is_empty());
    named.map_or_else(|| PathBuf::from("./run"), PathBuf::from)
}

fn node_name(text: &str) -> Option<Box<str>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ((1..=63).contains(&text.len()) && text.bytes().all(good)).then(|| text.into())
}

fn software(text: &str) -> Option<Box<str>> {
    (text.len() <= 100 && text.bytes().all(|b| (0x20..0x7f).contains(&b))).then(|| text.into())
}

fn shards(section: &mut Section<'_>, report: &mut Report) -> Shards {
    let Some(value) = section.get("shards") else { return Shards::Auto };
    if value.get_ref().as_str() == Some("auto") {
        return Shards::Auto;
    }
    let DeValue::Integer(number) = value.get_ref() else {
        let problem = Problem::new(value.span(), "`shards` is neither \"auto\" nor a number");
        report.push(problem.expected("\"auto\" or a whole number, 1..=256"));
        return Shards::Auto;
    };
    match u16::from_str_radix(number.as_str(), number.radix()) {
        Ok(n @ 1..=256) => Shards::Exactly(n),
        _ => {
            let problem = Problem::new(value.span(), format!("`shards` cannot be {number}"));
            report.push(problem.expected("\"auto\" or a whole number, 1..=256"));
            Shards::Auto
        }
    }
}

pub(super) fn read_metrics(mut section: Section<'_>, report: &mut Report) -> Option<Metrics> {
    let what = "an address and a port, like \"127.0.0.1:9464\"";
    let listen = section.parsed(report, "listen", what, |t| t.parse::<SocketAddr>().ok());
    let public = section.flag(report, "public", false);
    if section.is_present() && listen.is_none() {
        section.missing(report, "listen", what, "\"127.0.0.1:9464\"");
    }
    section.finish(report);
    let listen = listen?;
    if !listen.value.ip().is_loopback() && !public {
        let message = format!("metrics would be readable from outside at {}", listen.value);
        let problem = Problem::new(listen.span, message).expected("a loopback address");
        report.push(problem.help("if that is meant, add public = true to [metrics]"));
    }
    Some(Metrics { listen: listen.value })
}

/// `[dns]`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// How long the last good answer is used past its time while nobody answers, seconds.
    pub stale_s: u32,
    /// An answer is used at least this long.
    pub min_ttl_s: u32,
    /// An answer is used at most this long before it is asked for again.
    pub max_ttl_s: u32,
    /// That a name has no servers is believed at most this long.
    pub negative_ttl_s: u32,
}

pub(super) fn read_dns(mut section: Section<'_>, report: &mut Report) -> Dns {
    let s = &mut section;
    let dns = Dns {
        stale_s: s.number(report, "stale_s", 0..=604_800, 3600),
        min_ttl_s: s.number(report, "min_ttl_s", 1..=300, 5),
        max_ttl_s: s.number(report, "max_ttl_s", 300..=86_400, 3600),
        negative_ttl_s: s.number(report, "negative_ttl_s", 1..=3600, 60),
    };
    section.finish(report);
    dns
}

pub(super) fn read_cdr(mut section: Section<'_>, report: &mut Report) -> Cdr {
    let s = &mut section;
    let on_full = [("refuse", OnFull::Refuse), ("continue_unbilled", OnFull::ContinueUnbilled)];
    let cdr = Cdr {
        rotate_mb: s.number(report, "rotate_mb", 1..=4096, 64),
        rotate_minutes: s.number(report, "rotate_minutes", 1..=1440, 60),
        on_full: s.choice(report, "on_full", &on_full).unwrap_or(OnFull::Refuse),
        commit_interval: Duration::from_millis(s.number(
            report,
            "commit_interval_ms",
            1..=10_000,
            50,
        )),
        journal_mb: match s.number(report, "journal_mb", 1..=65_536, 0) {
            0 => None,
            size => Some(size),
        },
    };
    section.finish(report);
    cdr
}

pub(super) fn read_timers(mut section: Section<'_>, report: &mut Report) -> Timers {
    let s = &mut section;
    let t1 = s.number(report, "t1_ms", 50..=5000, 500);
    let t2 = s.number(report, "t2_ms", 100..=30_000, 4000);
    let t4 = s.number(report, "t4_ms", 500..=60_000, 5000);
    if t2 < t1 {
        let message = format!("`t2_ms` is {t2}, less than `t1_ms` ({t1})");
        let problem = Problem::new(s.place("t2_ms"), message).expected(format!("at least {t1}"));
        report.push(problem.help("retransmissions begin at T1 and slow down to T2"));
    }
    section.finish(report);
    let ms = Duration::from_millis;
    Timers { t1: ms(t1), t2: ms(t2), t4: ms(t4), reliable: false }
}
