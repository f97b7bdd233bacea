//! rtpengine as the other end of a leg: a client of its control protocol, which is bencoded dictionaries in
//! datagrams.

use super::process::{Running, need};
use super::{LONG, Lab, within};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// A running rtpengine.
pub(crate) struct Rtpengine {
    process: Running,
    control: UdpSocket,
    ng: SocketAddr,
    asked: u32,
}

impl Rtpengine {
    /// One on ports of its own: what it listens on may have gone to somebody else in between.
    pub(crate) fn start(lab: &Lab, first_port: u16) -> Rtpengine {
        Rtpengine::start_with(lab, first_port, &[])
    }

    /// The same, with options beside.
    pub(crate) fn start_with(lab: &Lab, first_port: u16, options: &[&str]) -> Rtpengine {
        need("rtpengine", "rtpengine-daemon");
        for attempt in 0.. {
            let mut rtpengine = Rtpengine::launch(lab, first_port, options);
            let up = within(LONG, || {
                let answer = rtpengine.try_ask("c0", &[("command", "ping")]);
                answer.map(|_| true).or(rtpengine.process.ended().map(|_| false))
            });
            if up == Some(true) {
                return rtpengine;
            }
            assert!(attempt < 5, "{}", rtpengine.process.log());
        }
        unreachable!("the last attempt fails the test")
    }

    fn launch(lab: &Lab, first_port: u16, options: &[&str]) -> Rtpengine {
        let ng = lab.udp();
        let mut command = Command::new("rtpengine");
        command.args([
            "-f",
            "--config-file=none",
            "--table=-1",
            "--log-stderr",
            "--log-level=6",
            "--num-threads=2",
        ]);
        command.arg(format!("--interface={}", lab.ip)).arg(format!("--listen-ng={ng}"));
        command.arg(format!("--listen-cli={}", lab.tcp()));
        command.arg(format!("--port-min={first_port}"));
        command.arg(format!("--port-max={}", first_port + 98));
        command.args(options);
        command.arg(format!("--pidfile={}", lab.file("rtpengine.pid").display()));
        let process = Running::start(command, &lab.file("rtpengine.log"));
        let control = UdpSocket::bind((lab.ip, 0)).unwrap();
        control.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        Rtpengine { process, control, ng, asked: 0 }
    }

    /// What it makes of a description: `flags` is a bencoded tail of its dictionary.
    pub(crate) fn ask(&mut self, what: &[(&str, &str)], lists: &[(&str, &[&str])]) -> String {
        self.asked += 1;
        let (cookie, mut fields) = (format!("c{}", self.asked), BTreeMap::new());
        for (name, value) in what {
            fields.insert(*name, text(value));
        }
        for (name, values) in lists {
            let values: String = values.iter().map(|value| text(value)).collect();
            fields.insert(name, format!("l{values}e"));
        }
        let answer = within(LONG, || self.exchange(&cookie, &fields)).unwrap_or_default();
        let sdp = value(&answer, "sdp");
        sdp.unwrap_or_else(|| panic!("{answer}\n{}", self.process.log()))
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    fn try_ask(&mut self, cookie: &str, what: &[(&str, &str)]) -> Option<String> {
        let fields = what.iter().map(|(name, value)| (*name, text(value))).collect();
        self.exchange(cookie, &fields)
    }

    fn exchange(&self, cookie: &str, fields: &BTreeMap<&str, String>) -> Option<String> {
        let fields: String = fields.iter().map(|(name, value)| text(name) + value).collect();
        self.control.send_to(format!("{cookie} d{fields}e").as_bytes(), self.ng).ok()?;
        let mut buffer = [0; 16_384];
        let (len, _) = self.control.recv_from(&mut buffer).ok()?;
        let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
        answer.strip_prefix(cookie).map(|answer| answer.trim_start().to_owned())
    }
}

fn text(value: &str) -> String {
    format!("{}:{value}", value.len())
}

/// The text under a name, wherever it stands.
fn value(answer: &str, name: &str) -> Option<String> {
    let rest = answer.split_once(&text(name))?.1;
    let (len, rest) = rest.split_once(':')?;
    Some(rest.get(..len.parse().ok()?)?.to_owned())
}
