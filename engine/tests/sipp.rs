//! SIPp on both sides: the call flows of RFC 3261 and RFC 3264 as somebody else wrote them.
//!
//! Each flow is a pair of scenarios in `data/sipp`. Judged are SIPp's exit status and statistics, and the
//! call detail records. Flows are played over every transport, the same on both sides.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::carrier::{Carriers, Way, carry};
use common::process::{Running, need};
use common::wire::BadLine;
use common::{Answering, Lab, Node, Setup, reasons};
use control::event::CallId;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

thread_local! {
    /// How the flow of this test is carried.
    static WAY: Cell<Way> = const { Cell::new(Way::Udp) };
    /// What carries it, and where callers find the node.
    static CARRIED: RefCell<Option<(Carriers, SocketAddr)>> = const { RefCell::new(None) };
}

/// Plays a flow by this way.
fn by(way: Way, flow: fn()) {
    WAY.set(way);
    flow();
    CARRIED.take();
}

/// A node whose peers come by the way of this test.
fn start(lab: &Lab, setup: &mut Setup) -> Node {
    let carried = carry(lab, setup, WAY.get());
    CARRIED.set(Some(carried));
    Node::start(lab, setup)
}

/// Where callers find it.
fn entrance(node: &Node) -> SocketAddr {
    CARRIED.with_borrow(|carried| carried.as_ref().map_or(node.sip, |(_, entrance)| *entrance))
}

macro_rules! flows {
    ($($flow:ident)*) => {
        mod udp { $( #[test] fn $flow() { super::by(super::Way::Udp, super::$flow); } )* }
        mod tcp { $( #[test] fn $flow() { super::by(super::Way::Tcp, super::$flow); } )* }
        mod tls { $( #[test] fn $flow() { super::by(super::Way::Tls, super::$flow); } )* }
        mod mtls { $( #[test] fn $flow() { super::by(super::Way::Mtls, super::$flow); } )* }
        mod wss { $( #[test] fn $flow() { super::by(super::Way::Wss, super::$flow); } )* }
    };
}

flows! {
    a_plain_call
    early_media_is_announced_before_the_answer
    a_cancelled_call
    a_busy_callee
    the_second_route_is_tried_upon_503
    two_routes_at_once_and_the_loser_is_cancelled
    a_loser_that_answers_although_it_was_cancelled
    an_early_dialog_that_ends_before_the_answer
    an_invite_that_came_over_two_paths
    a_blind_transfer
    a_transfer_asked_for_beside_the_call
    a_transfer_that_fails
    a_transfer_that_is_refused
    an_attended_transfer
    an_attended_transfer_across_shards
    an_attended_transfer_of_calls_with_media_past_us
    an_invite_that_takes_a_place_in_a_call
    extensions_that_are_not_known
    a_late_offer
    a_late_offer_to_a_trunk_that_wants_one
    hold_and_resume_from_the_caller
    hold_and_resume_from_the_callee
    hold_and_resume_with_media_past_us
    reliable_responses_end_to_end
    reliable_responses_to_a_caller_that_cannot
    reliable_responses_for_a_caller_that_insists
    hold_and_resume_by_update
    hold_and_resume_by_update_to_a_side_without_it
    a_session_timer_the_caller_asks_for
    a_session_timer_we_refresh_by_update
    a_session_timer_we_refresh_by_reinvite
    a_session_that_nobody_refreshes
    a_callee_whose_least_interval_is_longer
    requests_about_something_else
    a_message_outside_calls
    a_publication
    a_subscription
    an_identity_within_the_trust_domain
    an_identity_outside_the_trust_domain
    isup_beside_the_session_description
    two_hundred_calls_with_audio_both_ways
}

/// Flows in which SIPp names the address of another SIPp, which it must then reach without a carrier.
mod direct {
    use super::{Way, by};

    #[test]
    fn a_redirection_is_followed() {
        by(Way::Udp, super::a_redirection_is_followed);
        by(Way::Tcp, super::a_redirection_is_followed);
    }

    #[test]
    fn a_redirection_is_refused_or_passed() {
        by(Way::Udp, super::a_redirection_is_refused_or_passed);
        by(Way::Tcp, super::a_redirection_is_refused_or_passed);
    }
}

/// One SIPp.
struct Sipp {
    process: Running,
    figures: PathBuf,
}

impl Sipp {
    fn start(lab: &Lab, scenario: &Path, me: SocketAddr, calls: u32, more: &[&str]) -> Sipp {
        need("sipp", "sip-tester");
        let name = scenario.file_stem().unwrap().to_str().unwrap();
        let name = format!("{name}-{}", me.port());
        let figures = lab.file(&format!("{name}.csv"));
        let (ip, port, media) = (me.ip().to_string(), me.port().to_string(), lab.media());
        let mut command = Command::new("sipp");
        command.args(["-nostdin", "-i", &ip, "-p", &port, "-mi", &ip, "-mp", &media.to_string()]);
        command.args(["-m", &calls.to_string(), "-timeout", "50s", "-timeout_error"]);
        command.args([
            "-trace_stat",
            "-stf",
            figures.to_str().unwrap(),
            "-trace_err",
            "-error_file",
        ]);
        command.arg(lab.file(&format!("{name}.err"))).arg("-sf").arg(scenario).args(more);
        if WAY.get() != Way::Udp {
            command.args(["-t", "t1"]);
        }
        command.current_dir(&lab.dir).env("TERM", "dumb");
        Sipp { process: Running::start(command, &lab.file(&format!("{name}.log"))), figures }
    }

    /// Waits for its end and says how many calls succeeded and how often it had to repeat itself.
    fn finish(mut self, lab: &Lab) -> (u64, u64) {
        let code = self.process.wait(PATIENCE);
        let errors = self.figures.with_extension("err");
        let errors = std::fs::read_to_string(errors).unwrap_or_default();
        assert_eq!(code, Some(0), "{}: {errors}\n{}", self.figures.display(), log(lab));
        let text = std::fs::read_to_string(&self.figures).unwrap();
        let mut rows = text.lines().map(|row| row.split(';').collect::<Vec<_>>());
        let (names, last) = (rows.next().unwrap(), rows.next_back().unwrap());
        let figure = |name: &str| -> u64 {
            let column = names.iter().position(|n| *n == name).unwrap();
            last[column].parse().unwrap()
        };
        assert_eq!(figure("FailedCall(C)"), 0, "{errors}");
        (figure("SuccessfulCall(C)"), figure("Retransmissions(C)"))
    }
}

fn log(lab: &Lab) -> String {
    std::fs::read_to_string(lab.file("sbcd.log")).unwrap_or_default()
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/sipp/{name}.xml"))
}

/// How often and how fast.
struct Run<'a> {
    calls: u32,
    rate: &'a str,
    /// INVITEs that begin a call as we see it, for each call of SIPp's.
    attempts: u32,
}

const FEW: Run<'static> = Run { calls: 5, rate: "10", attempts: 1 };

/// Nothing was repeated, so nothing was misunderstood.
fn once((records, repeated): (Vec<Value>, u64)) -> Vec<Value> {
    assert_eq!(repeated, 0, "somebody had to repeat himself");
    records
}

/// Plays a pair of scenarios through a node; the records it left, and the repetitions of both sides.
fn play(name: &str, caller: &Path, callee: &str, run: &Run) -> (Vec<Value>, u64) {
    play_on("", name, caller, callee, run)
}

/// The same, with these settings of the callee's trunk.
fn play_on(trunk: &str, name: &str, caller: &Path, callee: &str, run: &Run) -> (Vec<Value>, u64) {
    let lab = Lab::new(name);
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    setup.trunks[0].2 = trunk.into();
    let mut node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &scenario(callee), listen, run.calls, &[]);
    let called = call(&lab, &node, caller, run);
    let (ended, repeated) = uas.finish(&lab);
    assert_eq!((called.0, ended), (run.calls.into(), run.calls.into()));
    let records = node.await_records((run.calls * run.attempts) as usize);
    assert_eq!(node.drain(), Some(0));
    (records, called.1 + repeated)
}

fn call(lab: &Lab, node: &Node, caller: &Path, run: &Run) -> (u64, u64) {
    let to = entrance(node).to_string();
    let more = ["-r", run.rate, "-s", "442079460000", &to];
    Sipp::start(lab, caller, lab.udp(), run.calls, &more).finish(lab)
}

fn all_answered(records: &[Value]) {
    for record in records {
        assert_eq!(record["reason"], "caller_hung_up", "{record}");
        assert!(record["answer_at"].is_u64() && record["status"] == 200, "{record}");
    }
}

fn a_plain_call() {
    let records = once(play("sipp-plain", &scenario("uac"), "uas", &FEW));
    all_answered(&records);
    assert!(records.iter().all(|r| r["duration_ms"].as_u64() >= Some(250)), "{records:#?}");
}

fn early_media_is_announced_before_the_answer() {
    all_answered(&once(play("sipp-early", &scenario("uac-early"), "uas-early", &FEW)));
}

fn a_cancelled_call() {
    let records = once(play("sipp-cancel", &scenario("uac-cancel"), "uas-cancel", &FEW));
    assert_eq!(reasons(&records)["cancelled"], 5);
    assert!(records.iter().all(|r| r["status"] == 487 && r["answer_at"].is_null()));
}

fn a_busy_callee() {
    let records = once(play("sipp-busy", &scenario("uac-486"), "uas-486", &FEW));
    assert!(records.iter().all(|r| r["status"] == 486 && r["q850"] == 17), "{records:#?}");
}

fn the_second_route_is_tried_upon_503() {
    let lab = Lab::new("sipp-failover");
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.trunks.push(("second".into(), second, String::new()));
    setup.route = "[[route]]\nprefix = \"\"\nto = [\"out\", \"second\"]\n".into();
    let node = start(&lab, &mut setup);
    let refusing = Sipp::start(&lab, &scenario("uas-503"), first, 5, &[]);
    let answering = Sipp::start(&lab, &scenario("uas"), second, 5, &[]);
    assert_eq!(call(&lab, &node, &scenario("uac"), &FEW).0, 5);
    assert_eq!((refusing.finish(&lab).0, answering.finish(&lab).0), (5, 5));
    let records = node.await_records(5);
    all_answered(&records);
    for record in &records {
        assert_eq!(record["trunk_out"], "second");
        assert_eq!(record["attempts"][0]["status"], 503, "{record}");
        assert_eq!(record["attempts"][1]["status"], 200, "{record}");
    }
}

/// Five calls to two trunks at the same time, and what each callee played.
fn fork(name: &str, caller: &str, callees: [&str; 2]) -> Vec<Value> {
    let lab = Lab::new(name);
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.trunks.push(("second".into(), second, String::new()));
    setup.route = "[[route]]\nprefix = \"\"\nto = [\"out\", \"second\"]\nparallel = true\n".into();
    let node = start(&lab, &mut setup);
    let one = Sipp::start(&lab, &scenario(callees[0]), first, 5, &[]);
    let other = Sipp::start(&lab, &scenario(callees[1]), second, 5, &[]);
    assert_eq!(call(&lab, &node, &scenario(caller), &FEW), (5, 0));
    assert_eq!((one.finish(&lab), other.finish(&lab)), ((5, 0), (5, 0)));
    node.await_records(5)
}

fn all_answered_by(records: &[Value], trunk: &str) {
    all_answered(records);
    for record in records {
        assert_eq!(record["trunk_out"], trunk, "{record}");
        let attempts = record["attempts"].as_array().unwrap();
        let of = |name: &str| attempts.iter().find(|a| a["trunk"] == name).unwrap();
        let (won, lost) = (of(trunk), of(if trunk == "out" { "second" } else { "out" }));
        assert_eq!((&won["status"], &won["reason"]), (&200.into(), &"".into()), "{record}");
        assert_eq!(lost["reason"], "answered_elsewhere", "{record}");
        assert!(won["duration_ms"].is_u64() && lost["duration_ms"].is_null(), "{record}");
    }
}

fn two_routes_at_once_and_the_loser_is_cancelled() {
    let records = fork("sipp-fork", "uac", ["uas-cancel", "uas-late-answer"]);
    all_answered_by(&records, "second");
}

fn a_loser_that_answers_although_it_was_cancelled() {
    let records = fork("sipp-crossing", "uac", ["uas-late-answer", "uas-crossing"]);
    all_answered_by(&records, "out");
}

fn an_early_dialog_that_ends_before_the_answer() {
    let caller = scenario("uac-199");
    all_answered(&once(play("sipp-199", &caller, "uas-199", &FEW)));
}

fn an_invite_that_came_over_two_paths() {
    let records = once(play("sipp-482", &scenario("uac-482"), "uas-late-answer", &FEW));
    all_answered(&records);
}

/// A caller whose trunk does this with a REFER, a callee, and a third side behind numbers that begin with 7.
fn transfer(name: &str, refer: &str, scenarios: [&str; 3]) -> Vec<Value> {
    let lab = Lab::new(name);
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.caller = format!("refer = \"{refer}\"\n");
    setup.trunks.push(("second".into(), second, String::new()));
    let route =
        |prefix: &str, to: &str| format!("[[route]]\nprefix = \"{prefix}\"\nto = [\"{to}\"]\n");
    setup.route = route("", "out") + &route("7", "second");
    let node = start(&lab, &mut setup);
    let [caller, callee, target] = scenarios;
    let uas = Sipp::start(&lab, &scenario(callee), first, 5, &[]);
    let third = (!target.is_empty()).then(|| Sipp::start(&lab, &scenario(target), second, 5, &[]));
    assert_eq!(call(&lab, &node, &scenario(caller), &FEW), (5, 0));
    assert_eq!(uas.finish(&lab), (5, 0));
    assert!(third.is_none_or(|third| third.finish(&lab) == (5, 0)));
    node.await_records(5)
}

fn a_blind_transfer() {
    let records =
        transfer("sipp-transfer", "execute", ["uac-transfer", "uas-transferred", "uas-target"]);
    for record in &records {
        let transfer = &record["transfers"][0];
        assert_eq!((&transfer["status"], &transfer["trunk"]), (&200.into(), &"in".into()));
        assert!(transfer["duration_ms"].as_u64() >= Some(250), "{record}");
        assert_eq!(record["attempts"][1]["trunk"], "second", "{record}");
        assert_eq!((&record["status"], &record["released_by"]), (&200.into(), &"caller".into()));
    }
}

fn a_transfer_asked_for_beside_the_call() {
    let scenarios = ["uac-target-dialog", "uas-transferred", "uas-target"];
    let records = transfer("sipp-target-dialog", "execute", scenarios);
    let statuses: Vec<_> = records.iter().map(|r| &r["transfers"][0]["status"]).collect();
    assert!(statuses.iter().all(|status| **status == 200), "{records:#?}");
}

fn a_transfer_that_fails() {
    let records =
        transfer("sipp-transfer-486", "execute", ["uac-transfer-fails", "uas", "uas-486"]);
    all_answered(&records);
    assert!(records.iter().all(|r| r["transfers"][0]["status"] == 486), "{records:#?}");
}

fn a_transfer_that_is_refused() {
    let records = transfer("sipp-transfer-603", "refuse", ["uac-transfer-refused", "uas", ""]);
    all_answered(&records);
    assert!(records.iter().all(|r| r["transfers"].as_array().is_some_and(Vec::is_empty)));
}

/// Two scenarios of one caller, the first of which tells the second what to do.
fn two_callers(lab: &Lab, node: &Node, calls: u32, scenarios: [&str; 2]) {
    let (to, wire) = (entrance(node).to_string(), lab.tcp_everywhere());
    let between = wire.to_string();
    let more = ["-3pcc", &between, "-cid_str", "%u-%p", "-r", "10", "-s", "442079460000", &to];
    let second = Sipp::start(lab, &scenario(scenarios[1]), lab.udp(), calls, &more);
    // Who is told must listen before the other speaks, and takes one connection alone.
    let wanted = format!(":{:04X} 00000000:0000 0A", wire.port());
    let listens = common::within(common::LONG, || {
        std::fs::read_to_string("/proc/net/tcp").unwrap().contains(&wanted).then_some(())
    });
    assert!(listens.is_some(), "the second caller does not listen");
    let first = Sipp::start(lab, &scenario(scenarios[0]), lab.udp(), calls, &more);
    let all = (u64::from(calls), 0);
    assert_eq!([first.finish(lab), second.finish(lab)], [all, all]);
}

/// A caller that calls two and has them joined; the records of both calls, by how they name each other.
fn attended(name: &str, shards: usize, calls: u32, of_all: &str) -> Vec<(Value, Value)> {
    let lab = Lab::new(name);
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.node = setup.node.replace("shards = 1", &format!("shards = {shards}"));
    setup.caller = format!("refer = \"execute\"\n{of_all}");
    setup.trunks[0].2.push_str(of_all);
    setup.trunks.push(("second".into(), second, of_all.into()));
    let route =
        |prefix: &str, to: &str| format!("[[route]]\nprefix = \"{prefix}\"\nto = [\"{to}\"]\n");
    setup.route = route("", "out") + &route("7", "second");
    let node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &scenario("uas-transferred"), first, calls, &[]);
    let other = Sipp::start(&lab, &scenario("uas-joined"), second, calls, &[]);
    two_callers(&lab, &node, calls, ["uac-attended", "uac-consults"]);
    let all = (u64::from(calls), 0);
    assert_eq!([uas.finish(&lab), other.finish(&lab)], [all, all]);
    let records = node.await_records(2 * calls as usize);
    let (left, stayed): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|r| r["transferred_to"].is_string());
    let stayed_of = |left: &Value| {
        let is_it = |stayed: &&Value| stayed["id"] == left["transferred_to"];
        stayed.iter().find(is_it).cloned().unwrap()
    };
    left.into_iter().map(|left| (stayed_of(&left), left)).collect()
}

/// Both calls were whole until the end, and paid by who began them.
fn all_joined(pairs: &[(Value, Value)], calls: usize) {
    assert_eq!(pairs.len(), calls);
    for (stayed, left) in pairs {
        let transfer = &stayed["transfers"][0];
        assert_eq!((&transfer["status"], &transfer["joined"]), (&200.into(), &left["id"]));
        assert_eq!((&transfer["number"], &transfer["trunk"]), (&"79460001".into(), &"in".into()));
        assert_eq!(transfer["call_id"], left["call_id_out"]);
        assert_eq!((&stayed["trunk_in"], &left["trunk_in"]), (&"in".into(), &"in".into()));
        assert!(stayed["duration_ms"].as_u64() >= Some(300), "{stayed}");
        assert!(left["duration_ms"].as_u64() >= Some(300), "{left}");
        for record in [stayed, left] {
            assert_eq!(record["status"], 200, "{record}");
        }
    }
}

fn an_attended_transfer() {
    all_joined(&attended("sipp-attended", 1, 5, ""), 5);
}

fn an_attended_transfer_of_calls_with_media_past_us() {
    let pairs = attended("sipp-attended-past", 2, 5, "media_release = \"same-interface\"\n");
    all_joined(&pairs, 5);
    let released = |record: &Value| record["media"]["released"] == true;
    assert!(pairs.iter().all(|(stayed, left)| released(stayed) && released(left)), "{pairs:#?}");
}

fn an_attended_transfer_across_shards() {
    let pairs = attended("sipp-attended-apart", 2, 20, "");
    all_joined(&pairs, 20);
    let seat = |record: &Value| {
        let id = CallId::parse(record["call"].as_str().unwrap()).unwrap();
        base::Home(id.home).seat(2)
    };
    let apart = pairs.iter().filter(|(stayed, left)| seat(stayed) != seat(left)).count();
    assert!(0 < apart && apart < 20, "{apart} of 20 were on two shards");
}

fn an_invite_that_takes_a_place_in_a_call() {
    let lab = Lab::new("sipp-replaces");
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    setup.caller = "refer = \"execute\"\n".into();
    let node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &scenario("uas-transferred"), listen, 10, &[]);
    two_callers(&lab, &node, 10, ["uac-replaced", "uac-replaces"]);
    assert_eq!(uas.finish(&lab), (10, 0));
    for record in node.await_records(10) {
        let transfer = &record["transfers"][0];
        assert_eq!((&transfer["status"], &transfer["by"]), (&200.into(), &"caller".into()));
        assert!(transfer["call_id"].as_str().is_some_and(|id| id.starts_with("second///")));
        assert_eq!((&record["reason"], &record["status"]), (&"callee_hung_up".into(), &200.into()));
    }
}

fn extensions_that_are_not_known() {
    for option in ["replaces", "join", "tdialog"] {
        let lab = Lab::new("sipp-420");
        let node = start(&lab, &mut Setup::new(&lab, lab.udp()));
        let text = std::fs::read_to_string(scenario("uac-486")).unwrap();
        let text = text.replace("486", "420");
        let require = format!("Require: {option}\n      Content-Type: application/sdp");
        let text = text.replacen("Content-Type: application/sdp", &require, 1);
        let caller = lab.write("uac-requires.xml", &text);
        assert_eq!(call(&lab, &node, &caller, &FEW), (5, 0));
        assert_eq!(reasons(&node.await_records(5))["bad_extension"], 5);
    }
}

/// A trunk whose first address redirects to its second.
fn redirected(lab: &Lab, redirects: &str) -> (Node, Sipp, SocketAddr) {
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(lab, first);
    setup.trunks.clear();
    let transport = if WAY.get() == Way::Tcp { "transport = \"tcp\"\n" } else { "" };
    setup.route = format!(
        "[[trunk]]\nname = \"moved\"\ninterface = \"loop\"\nendpoints = [\"{first}\"]\n{transport}\
         sources = [\"{first}\", \"{second}\"]\nredirects = \"{redirects}\"\n\
         [[route]]\nprefix = \"\"\nto = [\"moved\"]\n"
    );
    let node = start(lab, &mut setup);
    let target = second.to_string();
    let uas = Sipp::start(lab, &scenario("uas-302"), first, 5, &["-key", "target", &target]);
    (node, uas, second)
}

fn a_redirection_is_followed() {
    let lab = Lab::new("sipp-302");
    let (node, uas, second) = redirected(&lab, "follow");
    let answering = Sipp::start(&lab, &scenario("uas"), second, 5, &[]);
    assert_eq!(call(&lab, &node, &scenario("uac"), &FEW), (5, 0));
    assert_eq!((uas.finish(&lab), answering.finish(&lab)), ((5, 0), (5, 0)));
    let records = node.await_records(5);
    all_answered(&records);
    for record in &records {
        let statuses: Vec<_> = record["attempts"].as_array().unwrap().iter().collect();
        let statuses: Vec<_> = statuses.into_iter().map(|a| a["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(302), Some(200)], "{record}");
    }
}

fn a_redirection_is_refused_or_passed() {
    for (redirects, status) in [("refuse", 480), ("pass", 302)] {
        let lab = Lab::new("sipp-302-not");
        let (node, uas, _) = redirected(&lab, redirects);
        let text = std::fs::read_to_string(scenario("uac-486")).unwrap();
        let caller = lab.write("uac-refused.xml", &text.replace("486", &status.to_string()));
        assert_eq!(call(&lab, &node, &caller, &FEW), (5, 0));
        assert_eq!(uas.finish(&lab), (5, 0));
        let records = node.await_records(5);
        assert!(records.iter().all(|r| r["status"] == status), "{records:#?}");
    }
}

fn a_late_offer() {
    all_answered(&once(play("sipp-late", &scenario("uac-late"), "uas-late", &FEW)));
}

fn a_late_offer_to_a_trunk_that_wants_one() {
    let caller = scenario("uac-late");
    all_answered(&once(play_on("offers = true\n", "sipp-offers", &caller, "uas", &FEW)));
}

fn hold_and_resume_from_the_caller() {
    all_answered(&once(play("sipp-hold", &scenario("uac-hold"), "uas-held", &FEW)));
}

fn hold_and_resume_from_the_callee() {
    all_answered(&once(play("sipp-held", &scenario("uac-held"), "uas-hold", &FEW)));
}

/// Both trunks let media go from peer to peer: it is held and resumed there, and no port of ours is.
fn hold_and_resume_with_media_past_us() {
    for (caller, callee) in [("uac-hold", "uas-held"), ("uac-held", "uas-hold")] {
        let lab = Lab::new("sipp-released");
        let listen = lab.udp();
        let mut setup = Setup::new(&lab, listen);
        setup.caller = "media_release = \"same-interface\"\n".into();
        setup.trunks[0].2 = setup.caller.clone();
        let mut node = start(&lab, &mut setup);
        let uas = Sipp::start(&lab, &scenario(callee), listen, FEW.calls, &[]);
        assert_eq!(call(&lab, &node, &scenario(caller), &FEW), (5, 0));
        assert_eq!(uas.finish(&lab), (5, 0));
        let records = node.await_records(5);
        all_answered(&records);
        let released =
            |r: &Value| r["media"]["released"] == true && r["media"]["caller"]["packets"] == 0;
        assert!(records.iter().all(released), "{records:#?}");
        assert_eq!(node.metric("tandem_media_anchored_total"), 0);
        assert_eq!(node.drain(), Some(0));
    }
}

fn reliable_responses_end_to_end() {
    all_answered(&once(play("sipp-prack", &scenario("uac-prack"), "uas-prack", &FEW)));
}

fn reliable_responses_to_a_caller_that_cannot() {
    all_answered(&once(play("sipp-prack-out", &scenario("uac-early"), "uas-prack", &FEW)));
}

fn reliable_responses_for_a_caller_that_insists() {
    all_answered(&once(play("sipp-prack-in", &scenario("uac-insists"), "uas-early", &FEW)));
}

fn hold_and_resume_by_update() {
    all_answered(&once(play("sipp-update", &scenario("uac-update"), "uas-updated", &FEW)));
}

fn hold_and_resume_by_update_to_a_side_without_it() {
    all_answered(&once(play("sipp-update-in", &scenario("uac-update"), "uas-held", &FEW)));
}

const ASK: &str = "session_timer = \"ask\"\n";

fn a_session_timer_the_caller_asks_for() {
    let run = Run { attempts: 2, ..FEW };
    let records = once(play("sipp-timer", &scenario("uac-timer"), "uas", &run));
    let answered = records.iter().filter(|r| r["status"] == 200).count();
    assert_eq!((answered, reasons(&records)["session_too_short"]), (5, 5));
}

fn a_session_timer_we_refresh_by_update() {
    let caller = scenario("uac-long");
    all_answered(&once(play_on(ASK, "sipp-refresh", &caller, "uas-refreshed", &FEW)));
}

fn a_session_timer_we_refresh_by_reinvite() {
    let (caller, callee) = (scenario("uac-long"), "uas-refreshed-by-invite");
    all_answered(&once(play_on(ASK, "sipp-refresh-invite", &caller, callee, &FEW)));
}

fn a_session_that_nobody_refreshes() {
    let caller = scenario("uac-released");
    let records = once(play_on(ASK, "sipp-expiry", &caller, "uas-forgets", &FEW));
    assert_eq!(reasons(&records)["session_expired"], 5);
}

fn a_callee_whose_least_interval_is_longer() {
    all_answered(&once(play_on(ASK, "sipp-422", &scenario("uac"), "uas-422", &FEW)));
}

fn requests_about_something_else() {
    let lab = Lab::new("sipp-info");
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    let methods = "methods = [\"INFO\", \"REFER\", \"NOTIFY\"]\n";
    setup.trunks.iter_mut().for_each(|trunk| trunk.2 = methods.into());
    setup.caller = methods.into();
    let node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &scenario("uas-info"), listen, 5, &[]);
    assert_eq!(call(&lab, &node, &scenario("uac-info"), &FEW), (5, 0));
    assert_eq!(uas.finish(&lab), (5, 0));
    all_answered(&node.await_records(5));
}

/// Plays a pair of scenarios outside calls, on trunks that list these methods.
fn errand(name: &str, caller: &Path, callee: &Path) {
    let lab = Lab::new(name);
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    let methods = "methods = [\"MESSAGE\", \"PUBLISH\", \"SUBSCRIBE\", \"NOTIFY\"]\n";
    setup.trunks.iter_mut().for_each(|trunk| trunk.2 = methods.into());
    setup.caller = methods.into();
    let mut node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, callee, listen, 5, &[]);
    assert_eq!(call(&lab, &node, caller, &FEW), (5, 0));
    assert_eq!(uas.finish(&lab), (5, 0));
    assert_eq!(node.drain(), Some(0));
}

fn a_message_outside_calls() {
    errand("sipp-message", &scenario("uac-message"), &scenario("uas-message"));
}

fn a_publication() {
    let lab = Lab::new("sipp-publish-scenarios");
    let publish = |name: &str| {
        let text = std::fs::read_to_string(scenario(name)).unwrap().replace("MESSAGE", "PUBLISH");
        lab.write(&format!("{name}.xml"), &text)
    };
    errand("sipp-publish", &publish("uac-message"), &publish("uas-message"));
}

fn a_subscription() {
    errand("sipp-subscribe", &scenario("uac-subscribe"), &scenario("uas-subscribe"));
}

/// A plain call with these header fields in the INVITE, and these checks of what the callee gets.
fn identified(name: &str, profile: &str, headers: &str, checks: &[(&str, &str)]) {
    let lab = Lab::new(name);
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    setup.trunks[0].2 = "profile = \"told\"\n".into();
    setup.caller = "profile = \"believed\"\n".into();
    setup.node += &format!(
        "[[profile]]\nname = \"believed\"\nbelieve = \"asserted\"\n\
         [[profile]]\nname = \"told\"\n{profile}"
    );
    let uac = std::fs::read_to_string(scenario("uac")).unwrap();
    let kind = "      Content-Type: application/sdp\n";
    let uac = lab.write("uac.xml", &uac.replacen(kind, &format!("{headers}{kind}"), 1));
    let check = |(header, wanted): &(&str, &str)| {
        format!(
            "<ereg regexp=\"{wanted}\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" \
             assign_to=\"checked\"/>"
        )
    };
    let checks: String = checks.iter().map(check).collect();
    let invite = "<recv request=\"INVITE\"/>";
    let checked = format!("<recv request=\"INVITE\"><action>{checks}</action></recv>");
    let uas = std::fs::read_to_string(scenario("uas")).unwrap().replace(invite, &checked);
    let end = "<Reference variables=\"checked\"/></scenario>";
    let uas = lab.write("uas.xml", &uas.replace("</scenario>", end));
    let node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &uas, listen, 5, &[]);
    assert_eq!(call(&lab, &node, &uac, &FEW), (5, 0));
    assert_eq!(uas.finish(&lab), (5, 0));
    all_answered(&node.await_records(5));
}

const WHO: &str = "      P-Asserted-Identity: <sip:+14155550100@a.example>\n      Privacy: id\n\
                   \x20     Diversion: <sip:+1300@b.example>;reason=user-busy;privacy=off\n";

fn an_identity_within_the_trust_domain() {
    identified(
        "sipp-identity",
        "like = \"ims\"\n",
        WHO,
        &[
            ("P-Asserted-Identity", "sip:.14155550100@a.example"),
            ("Privacy", "id"),
            ("History-Info", "sip:.1300@b.example.;index=1"),
        ],
    );
}

fn an_identity_outside_the_trust_domain() {
    identified(
        "sipp-anonymous",
        "redirections = \"diversion\"\n",
        WHO,
        &[("From", "sip:anonymous@anonymous.invalid"), ("Diversion", "sip:.1300@b.example")],
    );
}

fn isup_beside_the_session_description() {
    let lab = Lab::new("sipp-isup");
    let listen = lab.udp();
    let mut setup = Setup::new(&lab, listen);
    let bodies = "bodies = [\"application/isup\"]\n";
    setup.trunks.iter_mut().for_each(|trunk| trunk.2 = bodies.into());
    setup.caller = bodies.into();
    let node = start(&lab, &mut setup);
    let uas = Sipp::start(&lab, &scenario("uas-isup"), listen, 5, &[]);
    assert_eq!(call(&lab, &node, &scenario("uac-isup"), &FEW), (5, 0));
    assert_eq!(uas.finish(&lab), (5, 0));
    all_answered(&node.await_records(5));
}

#[test]
fn lost_datagrams_are_repeated() {
    let lab = Lab::new("sipp-lost");
    let listen = lab.udp();
    let line = BadLine::to(listen);
    let mut setup = Setup::new(&lab, line.near);
    // Lost ends of calls must not keep the node up for half a minute.
    setup.node += "[timers]\nt1_ms = 100\n";
    setup.trunks[0].2 = "trying_timeout_ms = 6000\n".into();
    let mut node = start(&lab, &mut setup);
    // SIPp as the called side forgets to repeat a lost 200 once the INVITE came again; ours does not.
    // The caller's SIPp loses INVITEs and BYEs.
    let _uas = Answering::start(&lab, listen, &["--no-media", "--t1-ms", "100"]);
    let run = Run { calls: 40, rate: "20", attempts: 1 };
    let (ended, repeated) = call(&lab, &node, &scenario("uac-lossy"), &run);
    assert_eq!(ended, 40);
    all_answered(&node.await_records(40));
    assert!(repeated > 5, "only {repeated} repetitions: nothing was lost");
    assert!(line.lost.load(Ordering::Relaxed) > 20, "the line was too good");
    assert_eq!(node.drain(), Some(0));
}

/// A caller that plays one second of a tone in G.711.
fn audible(lab: &Lab) -> PathBuf {
    let audio: Vec<u8> = (0..8000u32).map(|n| [0x80, 0xff, 0x00, 0x7f][n as usize % 4]).collect();
    let file = lab.file("tone.ulaw");
    std::fs::write(&file, audio).unwrap();
    let text = std::fs::read_to_string(scenario("uac-rtp")).unwrap();
    lab.write("uac-rtp.xml", &text.replace("AUDIO", file.to_str().unwrap()))
}

/// A SIPp that plays may wait for its own threads for ever once its calls are over: what the caller did is in the
/// records.
fn two_hundred_calls_with_audio_both_ways() {
    let lab = Lab::new("sipp-audio");
    let listen = lab.udp();
    let mut node = start(&lab, &mut Setup::new(&lab, listen));
    let uas = Sipp::start(&lab, &scenario("uas"), listen, 200, &["-rtp_echo"]);
    let to = entrance(&node).to_string();
    let more = ["-r", "50", "-s", "442079460000", &to];
    let _uac = Sipp::start(&lab, &audible(&lab), lab.udp(), 200, &more);
    assert_eq!(uas.finish(&lab), (200, 0));
    let records = node.await_records(200);
    all_answered(&records);
    for record in &records {
        for side in ["caller", "callee"] {
            let media = &record["media"][side];
            assert!(media["packets"].as_u64() >= Some(40), "{side}: {media}");
            assert_eq!(media["lost"], 0, "{side}: {media}");
        }
    }
    assert_eq!(node.drain(), Some(0));
}

#[test]
fn a_call_from_ipv4_to_ipv6() {
    let lab = Lab::new("sipp-families");
    let far = Lab::ipv6("sipp-families-far");
    let listen = far.udp();
    let mut setup = Setup::new(&lab, listen);
    // Every lab of this address family shares ::1, so the ports come from the process id.
    let first = 10_000 + (std::process::id() % 100) * 40;
    setup.interface += &format!(
        "\n[[interface]]\nname = \"far\"\nbind = \"{}\"\nmedia_ports = \"{first}-{}\"\n\
         allow = [\"loopback\"]\n",
        far.udp(),
        first + 39
    );
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    let text = setup.text();
    let at = text.find("name = \"out\"").unwrap();
    let (before, after) = text.split_at(at);
    let text =
        before.to_owned() + &after.replacen("interface = \"loop\"", "interface = \"far\"", 1);
    let file = lab.write("sbcd.toml", &text);
    let mut node = Node::spawn_file(&lab, &file, setup.sip, setup.metrics);
    node.await_ready();
    let uas = Sipp::start(&far, &scenario("uas"), listen, 5, &["-rtp_echo"]);
    assert_eq!(call(&lab, &node, &audible(&lab), &FEW), (5, 0));
    assert_eq!(uas.finish(&far), (5, 0));
    let records = node.await_records(5);
    all_answered(&records);
    for side in ["caller", "callee"] {
        assert!(records[0]["media"][side]["packets"].as_u64() >= Some(40), "{}", records[0]);
    }
    assert_eq!(node.drain(), Some(0));
}
