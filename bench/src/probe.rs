//! `probe`: one call at a time, each step timed to the microsecond against kernel stamps.
//!
//! Meant to run beside another load whose called side answers; it has no called side of its own.

use crate::cli::ProbeArgs;
use crate::link::{self, Heard, Link};
use crate::locality::{self, Locality};
use crate::os::{self, Timeline};
use crate::sip::{self, Dialog, Message};
use crate::stats::Samples;
use crate::{sdp, uac};
use serde_json::json;
use std::net::SocketAddr;

/// How long a reply is waited for.
const PATIENCE_NS: u64 = 2_000_000_000;

struct Probe<'a> {
    args: &'a ProbeArgs,
    link: Link,
    line: Timeline,
    nonce: u32,
    setup: Samples,
    bye: Samples,
    lost: u64,
    refused: u64,
}

/// Runs `sbcload probe`; true when no call was lost or refused.
pub(crate) fn run(args: &ProbeArgs) -> Result<bool, String> {
    Locality::new(args.allow_remote).check(args.to)?;
    let local = args.uac.map_or_else(|| locality::facing(args.to), Ok)?;
    let line = Timeline::new();
    let mut probe = Probe {
        args,
        link: Link::new(link::bind(local, 1 << 20)?, line, args.allow_remote)?,
        line,
        nonce: os::wall_ns() as u32,
        setup: Samples::default(),
        bye: Samples::default(),
        lost: 0,
        refused: 0,
    };
    for call in 0..args.count {
        if os::stopping() {
            break;
        }
        let next = line.now() + args.interval_ms * 1_000_000;
        probe.call(call);
        let now = line.now();
        if now < next {
            std::thread::sleep(std::time::Duration::from_nanos(next - now));
        }
    }
    Ok(probe.tell())
}

impl Probe<'_> {
    fn call(&mut self, call: u32) {
        let me = self.link.local;
        let host = uac::bracketed(me);
        let mut dialog = Dialog {
            call_id: format!("probe-{call:x}-{:08x}@{host}", self.nonce),
            local: format!("<sip:probe@{host}>;tag=p{call:x}"),
            remote: format!("<sip:{}@{}>", self.args.number, uac::bracketed(self.args.to)),
            target: format!("sip:{}@{}", self.args.number, self.args.to),
            routes: Vec::new(),
        };
        let offer = sdp::print(SocketAddr::new(me.ip(), 9), 1, None, 20, None);
        let branch = |kind: &str| format!("{kind}{call:x}.{:08x}", self.nonce);
        let (first, ack, last) = (branch("pi"), branch("pa"), branch("pb"));
        let invite = sip::request(&dialog, (1, "INVITE"), &first, me, Some(&offer));
        let Some((answer, took)) = self.ask(self.args.to, &invite, &dialog.call_id, "INVITE")
        else {
            self.lost += 1;
            return;
        };
        let Some(message) = Message::parse(&answer.bytes) else { return };
        if message.status() != Some(200) {
            self.refused += 1;
            let ack = sip::companion(&invite, "ACK", Some(message.one("To")));
            self.link.send(self.args.to, &ack);
            return;
        }
        self.setup.add(took);
        message.one("To").clone_into(&mut dialog.remote);
        sip::uri(message.one("Contact")).clone_into(&mut dialog.target);
        dialog.routes = message.routes();
        dialog.routes.reverse();
        let to = dialog.next_hop().unwrap_or(self.args.to);
        self.link.send(to, &sip::request(&dialog, (1, "ACK"), &ack, me, None));
        let bye = sip::request(&dialog, (2, "BYE"), &last, me, None);
        match self.ask(to, &bye, &dialog.call_id, "BYE") {
            Some((_, took)) => self.bye.add(took),
            None => self.lost += 1,
        }
    }

    /// Sends a request and waits for its final response; requests of the other side get a 200.
    fn ask(
        &mut self,
        to: SocketAddr,
        bytes: &[u8],
        call_id: &str,
        method: &str,
    ) -> Option<(Heard, u64)> {
        let sent = self.line.now();
        self.link.send(to, bytes);
        let mut inbox = Vec::new();
        while self.line.now() < sent + PATIENCE_NS {
            self.link.turn(sent + PATIENCE_NS, &mut inbox);
            for heard in inbox.drain(..) {
                let Some(message) = Message::parse(&heard.bytes) else { continue };
                if message.status().is_none() && message.method() != "ACK" {
                    let reply = sip::response(&message, 200, "", None, None);
                    self.link.send(heard.from, &reply);
                }
                let ours = message.one("Call-ID") == call_id && message.cseq().1 == method;
                if ours && message.status().is_some_and(|status| status >= 200) {
                    let took = heard.at.saturating_sub(sent);
                    return Some((heard, took));
                }
            }
        }
        None
    }

    fn tell(mut self) -> bool {
        self.link.flush();
        let (setup, bye) = (self.setup.summary(), self.bye.summary());
        if self.args.json {
            let value = json!({
                "probes": self.args.count, "lost": self.lost, "refused": self.refused,
                "setup_us": setup.json(), "bye_us": bye.json(),
            });
            println!("{value}");
        } else {
            println!("probes     {}, {} lost, {} refused", setup.count, self.lost, self.refused);
            println!("set-up µs  {}", setup.text());
            println!("bye µs     {}", bye.text());
        }
        self.lost == 0 && self.refused == 0 && setup.count > 0
    }
}
