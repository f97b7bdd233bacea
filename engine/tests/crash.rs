//! SIGKILL under load, again and again on one run directory: no call detail record is lost or doubled,
//! and both sides of every call are told.
//!
//! The generator's ledger says what happened; it was written before the next event, so it can be trusted
//! where the node under test cannot.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::Running;
use common::wire::{self, Peer, header};
use common::{LONG, Lab, Load, Node, Setup, record_files, sbcload, within};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Kills of each run; two runs make more than two hundred.
const KILLS: u32 = 105;

/// Numbers that look random and repeat with the seed.
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let seed = std::env::var("TANDEM_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |d| d.as_nanos() as u64)
        });
        println!("TANDEM_SEED={seed}");
        Dice(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn setup(lab: &Lab, callee: std::net::SocketAddr, shards: u32) -> Setup {
    let mut setup = Setup::new(lab, callee);
    setup.node = format!("max_calls = 400\nmax_cps = 2000\nshards = {shards}\npin = false\n");
    setup.interface = "media_ports = \"20000-23199\"\n".into();
    setup
}

/// Starts and kills `sbcd` under load, mostly while it carries calls, sometimes while it recovers.
fn kill_under_load(name: &str, shards: u32) {
    let lab = Lab::new(name);
    let callee = lab.udp();
    let mut setup = setup(&lab, callee, shards);
    setup.node += "\n[timers]\nt1_ms = 100\nt2_ms = 400\nt4_ms = 500\n";
    let ledger = lab.file("ledger");
    let more = ["--calls", "1000000", "--rate", "60", "--hold", "0.3", "--answer-after-ms", "60"];
    let how = ["--no-media", "--expect-failures", "--t1-ms", "100", "--ledger"];
    let how = [&more[..], &how[..], &[ledger.to_str().unwrap()]].concat();
    let mut load = Load::start(&lab, setup.sip, callee, &how);
    let mut dice = Dice::new();
    for kill in 0..KILLS {
        assert!(!load.is_over(), "the generator ended at kill {kill}");
        let mut node = Node::spawn(&lab, &setup);
        if dice.below(5) == 0 {
            std::thread::sleep(Duration::from_millis(dice.below(120)));
        } else {
            node.await_ready();
            std::thread::sleep(Duration::from_millis(dice.below(500)));
        }
        node.process.kill();
    }
    let mut node = Node::start(&lab, &setup);
    load.interrupt();
    let (code, report) = load.finish(LONG);
    assert_eq!(code, 0, "{report}");
    node.await_calls(0);
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
    judge(&lab, &report, &ledger);
}

/// The books of all processes together against the generator's.
fn judge(lab: &Lab, report: &Value, ledger: &std::path::Path) {
    let run = lab.file("run");
    let mut command = Command::new(sbcload());
    command.args(["cdr", "--quiet", "--killed", "--ledger"]).arg(ledger).args(record_files(&run));
    let mut books = Running::start(command, &lab.file("books"));
    assert_eq!(books.wait(LONG), Some(0), "{}", books.log());
    let records = common::records(&run);
    let recovered = records.iter().filter(|r| r["recovered"] == true).count();
    println!(
        "{KILLS} kills, {} calls, {} answered, {} records, {recovered} recovered",
        report["attempted"],
        report["answered"],
        records.len()
    );
    let restarts = records.iter().filter(|r| r["reason"] == "restart").count();
    assert_eq!(
        recovered, restarts,
        "a call ends by restart if and only if its record is recovered"
    );
    assert!(recovered > KILLS as usize, "the kills met too few calls to prove anything");
}

#[test]
fn kills_lose_and_double_no_record_on_one_shard() {
    kill_under_load("crash1", 1);
}

#[test]
fn kills_lose_and_double_no_record_on_two_shards() {
    kill_under_load("crash2", 2);
}

#[test]
fn both_sides_of_an_answered_call_hear_bye_with_a_reason() {
    let lab = Lab::new("crash-bye");
    let (caller, callee) = (Peer::bind((lab.ip, 0).into()), Peer::bind((lab.ip, 0).into()));
    let setup = setup(&lab, callee.address, 1);
    let mut node = Node::start(&lab, &setup);
    let invite = caller.invite(setup.sip, "answered", "");
    caller.send(setup.sip, invite.as_bytes());
    let offered = callee.expect("INVITE", |m| m.starts_with("INVITE "));
    let more =
        format!("Contact: <sip:callee@{}>\r\nContent-Type: application/sdp\r\n", callee.address);
    let answer = wire::respond(&offered, "200 OK", &more, &wire::sdp(lab.ip, 30_002));
    callee.send(setup.sip, answer.as_bytes());
    let answered = caller.expect("200", |m| m.starts_with("SIP/2.0 200"));
    caller.send(setup.sip, caller.within(&answered, "ACK", 1).as_bytes());
    callee.expect("ACK", |m| m.starts_with("ACK "));
    node.process.kill();

    // The successor closes the books and says BYE, but dies before anybody heard it.
    let mut node = Node::start(&lab, &setup);
    within(LONG, || (node.records().len() == 1).then_some(())).unwrap();
    node.process.kill();
    let mut node = Node::start(&lab, &setup);
    for peer in [&caller, &callee] {
        while peer.hear(Duration::from_millis(50), |_| true).is_some() {}
    }
    for (peer, dialog) in
        [(&caller, header(&answered, "Call-ID")), (&callee, header(&offered, "Call-ID"))]
    {
        let bye = peer.expect("BYE", |m| {
            // The kill may have met the ACK: then the 200 comes again before the BYE (13.3.1.4).
            if m.starts_with("SIP/2.0 200") {
                peer.send(setup.sip, peer.within(m, "ACK", 1).as_bytes());
            }
            m.starts_with("BYE ")
        });
        assert_eq!(header(&bye, "Call-ID"), dialog);
        assert!(header(&bye, "Reason").starts_with("Q.850;cause=41"), "{bye}");
        peer.send(setup.sip, wire::respond(&bye, "200 OK", "", "").as_bytes());
    }
    let records = node.await_records(1);
    assert_eq!(records[0]["recovered"], true);
    assert_eq!(records[0]["reason"], "restart");
    assert!(records[0]["answer_at"].as_u64() > Some(0), "{}", records[0]);
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn a_ringing_call_is_refused_to_the_caller_and_cancelled_to_the_callee() {
    let lab = Lab::new("crash-ring");
    let (caller, callee) = (Peer::bind((lab.ip, 0).into()), Peer::bind((lab.ip, 0).into()));
    let setup = setup(&lab, callee.address, 1);
    let mut node = Node::start(&lab, &setup);
    let invite = caller.invite(setup.sip, "ringing", "");
    caller.send(setup.sip, invite.as_bytes());
    let offered = callee.expect("INVITE", |m| m.starts_with("INVITE "));
    callee.send(setup.sip, wire::respond(&offered, "180 Ringing", "", "").as_bytes());
    caller.expect("180", |m| m.starts_with("SIP/2.0 180"));
    node.process.kill();

    let mut node = Node::start(&lab, &setup);
    let refused = caller.expect("a final response", |m| m.starts_with("SIP/2.0 503"));
    assert!(header(&refused, "Reason").starts_with("Q.850"), "{refused}");
    // The caller has not seen the refusal and asks again: the same transaction, no second call.
    caller.send(setup.sip, invite.as_bytes());
    caller.expect("the same response", |m| m.starts_with("SIP/2.0 503"));
    let ack = wire::companion(&invite, "ACK", &header(&refused, "To"));
    caller.send(setup.sip, ack.as_bytes());
    let cancel = callee.expect("CANCEL", |m| m.starts_with("CANCEL "));
    callee.send(setup.sip, wire::respond(&cancel, "200 OK", "", "").as_bytes());
    let over = wire::respond(&offered, "487 Request Terminated", "", "");
    callee.send(setup.sip, over.as_bytes());
    callee.expect("ACK", |m| m.starts_with("ACK "));
    let records = node.await_records(1);
    assert_eq!(records[0]["recovered"], true);
    assert_eq!(records[0]["status"], 503);
    node.await_calls(0);
    assert_eq!(node.metric("tandem_sip_requests_sent_total{shard=\"0\",method=\"INVITE\""), 0);
    assert_eq!(node.drain(), Some(0));
}
