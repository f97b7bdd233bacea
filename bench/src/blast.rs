//! `blast`: INVITEs off a template as fast as asked, and replies counted by status. No call exists.
//!
//! This is the flood of an overload test: it must cost the generator much less than the SBC, so it
//! keeps nothing per INVITE. Retransmissions of refusals stop only when they are acknowledged
//! (`--ack`), which needs no state either: the reply carries all an ACK is made of.

use crate::cli::BlastArgs;
use crate::link;
use crate::locality::{self, Locality};
use crate::os::{self, Receiver, Sender, Timeline};
use crate::sip::{self, Dialog, Message};
use crate::{sdp, uac};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// INVITEs of one run, at most.
const MOST: f64 = 100_000_000.0;
/// Between two looks at the clock.
const STEP_NS: u64 = 500_000;
/// Replies still counted after the last INVITE.
const DRAIN_NS: u64 = 1_000_000_000;

/// An INVITE and the places where the call's number stands in it, eight hex digits each.
struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

const PLACE: &[u8] = b"00c0ffee";

impl Template {
    fn new(args: &BlastArgs, me: SocketAddr, nonce: u32) -> Self {
        let dialog = Dialog {
            call_id: format!("00c0ffee-{nonce:08x}@{}", uac::bracketed(me)),
            local: format!("<sip:14155550100@{}>;tag=00c0ffee", uac::bracketed(me)),
            remote: format!("<sip:{}@{}>", args.number, uac::bracketed(args.to)),
            target: format!("sip:{}@{}", args.number, args.to),
            routes: Vec::new(),
        };
        let offer = sdp::print(SocketAddr::new(me.ip(), 9), 1, None, 20, None);
        let branch = format!("f00c0ffee.{nonce:08x}");
        let bytes = sip::request(&dialog, (1, "INVITE"), &branch, me, Some(&offer));
        let starts = bytes.windows(PLACE.len()).enumerate();
        let places = starts.filter(|(_, text)| *text == PLACE).map(|(at, _)| at).collect();
        Template { bytes, places }
    }

    fn number(&mut self, call: u32) -> &[u8] {
        let digits = format!("{call:08x}");
        for &at in &self.places {
            self.bytes[at..at + PLACE.len()].copy_from_slice(digits.as_bytes());
        }
        &self.bytes
    }
}

/// Runs `sbcload blast`; true when every INVITE left and something answered.
pub(crate) fn run(args: &BlastArgs) -> Result<bool, String> {
    Locality::new(args.allow_remote).check(args.to)?;
    let total = args.rate * args.seconds;
    if total > MOST {
        return Err(format!("at most {MOST} INVITEs in a run"));
    }
    let local = args.uac.map_or_else(|| locality::facing(args.to), Ok)?;
    let socket = link::bind(local, 32 << 20)?;
    let (fd, line) = (socket.as_raw_fd(), Timeline::new());
    let mut template = Template::new(args, link::address(&socket)?, os::wall_ns() as u32);
    let (mut sender, mut receiver) = (Sender::new(), Receiver::new(4_096));
    let mut replies: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut call, mut left, mut end) = (0_u32, 0, None);
    loop {
        let now = line.now();
        let due = (now as f64 / 1e9 * args.rate).min(total) as u32;
        // A generator that fell behind catches up, but a bounded number at a time.
        for _ in 0..(due - call.min(due)).min(1_024) {
            sender.push(args.to, template.number(call));
            call += 1;
        }
        left += sender.flush(fd);
        listen(&mut receiver, fd, args, &mut sender, &mut replies);
        sender.flush(fd);
        if f64::from(call) + 1.0 > total || os::stopping() {
            let last = *end.get_or_insert((now, now + DRAIN_NS));
            if now > last.1 {
                break;
            }
        }
        if u64::from(due - call.min(due)) == 0 {
            os::wait_readable(fd, STEP_NS);
            let spent = line.now() - now;
            if spent < STEP_NS {
                std::thread::sleep(std::time::Duration::from_nanos(STEP_NS - spent));
            }
        }
    }
    let seconds = end.map_or(0.0, |(at, _)| at as f64 / 1e9);
    Ok(tell(args, u64::from(call), left, seconds, &replies))
}

fn listen(
    receiver: &mut Receiver,
    fd: i32,
    args: &BlastArgs,
    sender: &mut Sender,
    replies: &mut BTreeMap<u16, u64>,
) {
    for _ in 0..16 {
        let more = receiver.receive(fd, |datagram| {
            let digits = datagram.bytes.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.get(..3));
            let status = digits.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            let status: u16 = status.unwrap_or(0);
            *replies.entry(status).or_default() += 1;
            if args.ack && (300..700).contains(&status) {
                sender.push(args.to, &acknowledge(datagram.bytes, args));
            }
        });
        if !more {
            return;
        }
    }
}

/// The ACK of a refusal, made of nothing but the refusal (RFC 3261 section 17.1.1.3).
fn acknowledge(reply: &[u8], args: &BlastArgs) -> Vec<u8> {
    let Some(message) = Message::parse(reply) else { return Vec::new() };
    format!(
        "ACK sip:{}@{} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: {} ACK\r\nContent-Length: 0\r\n\r\n",
        args.number,
        args.to,
        message.one("Via"),
        message.one("From"),
        message.one("To"),
        message.one("Call-ID"),
        message.cseq().0
    )
    .into_bytes()
}

fn tell(
    args: &BlastArgs,
    offered: u64,
    left: u64,
    seconds: f64,
    replies: &BTreeMap<u16, u64>,
) -> bool {
    let replied: u64 = replies.values().sum();
    let finals: u64 = replies.range(200..).map(|(_, n)| n).sum();
    let each = seconds.max(1e-9);
    let cpu = os::cpu_ns() as f64 / 1e3 / offered.max(1) as f64;
    if args.json {
        let by_status: serde_json::Map<String, serde_json::Value> =
            replies.iter().map(|(status, n)| (status.to_string(), json!(n))).collect();
        let value = json!({
            "offered": offered, "sent": left, "seconds": seconds,
            "offered_per_second": offered as f64 / each, "replied": replied,
            "replied_per_second": replied as f64 / each, "final": finals,
            "final_per_second": finals as f64 / each, "by_status": by_status,
            "generator_cpu_us_each": cpu,
        });
        println!("{value}");
    } else {
        println!("offered   {offered} INVITEs, {:.0}/s, {left} left", offered as f64 / each);
        println!("replies   {replied}, {:.0}/s, {finals} final", replied as f64 / each);
        for (status, n) in replies {
            println!("  {status:>5}   {n:>10}  {:>10.0}/s", *n as f64 / each);
        }
        println!("generator {cpu:.2} µs CPU an INVITE");
    }
    left == offered && replied > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn every_invite_has_its_own_call_id_branch_and_tag() {
        let cli =
            crate::cli::Cli::parse_from(["sbcload", "blast", "--to", "127.0.0.1:9", "--rate", "1"]);
        let crate::cli::Command::Blast(args) = cli.command else { panic!("not a blast") };
        let mut template = Template::new(&args, "127.0.0.1:7".parse().unwrap(), 1);
        assert_eq!(template.places.len(), 3);
        let first = template.number(1).to_vec();
        let second = Message::parse(template.number(2)).unwrap();
        let first = Message::parse(&first).unwrap();
        for name in ["Via", "Call-ID", "From"] {
            assert_ne!(first.one(name), second.one(name));
        }
        assert_eq!(first.one("Content-Length"), first.body.len().to_string());
    }
}
