//! A carrier that is asked by OPTIONS whether it is there: Kamailio in its place, dead, alive, and dead again.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::process::{Running, need};
use common::{LONG, Lab, Load, Node, Setup, within};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

/// A Kamailio at `listen` that answers OPTIONS, and carries calls to `next`.
fn kamailio(lab: &Lab, listen: SocketAddr, next: SocketAddr) -> Running {
    need("kamailio", "kamailio");
    let text = include_str!("data/kamailio.cfg");
    let text = text.replace("LISTEN\n\n", &format!("listen=udp:{listen}\n\n"));
    let text = text.replace("NEXT", &next.to_string());
    let config = lab.write("kamailio.cfg", &text);
    let mut command = Command::new("kamailio");
    command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(config);
    command.arg("-P").arg(lab.file("kamailio.pid")).arg("-Y").arg(&lab.dir);
    Running::start(command, &lab.file("kamailio.log"))
}

/// Events of endpoints, as they come.
struct Events(BufReader<UnixStream>);

impl Events {
    fn subscribe(node: &Node) -> Events {
        let stream = UnixStream::connect(node.run.join("sbcd.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        for line in [
            json!({"t": "hello", "proto": 1, "app": "test"}),
            json!({"t": "c", "id": "1", "op": "sub", "ev": ["endpoint"]}),
        ] {
            (&stream).write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let mut events = Events(BufReader::new(stream));
        while events.line()["t"] != "r" {}
        events
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn health(node: &Node) -> Value {
    let trunks = node.ask(json!({"op": "get", "what": "trunks"})).unwrap();
    let trunk = trunks.as_array().unwrap().iter().find(|trunk| trunk["name"] == "out").unwrap();
    trunk["health"][0].clone()
}

/// Waits until the endpoint of the first trunk is known to be so, and is told to be.
fn await_state(node: &Node, events: &mut Events, state: &str, endpoint: SocketAddr) {
    let event = events.line();
    let name = format!("endpoint.{state}");
    assert_eq!((&event["ev"], &event["trunk"]), (&json!(name), &json!("out")), "{event}");
    assert_eq!(event["endpoint"]["address"], endpoint.to_string(), "{event}");
    assert!(event.get("call").is_none(), "{event}");
    let known = within(LONG, || (health(node)["state"] == state).then_some(()));
    assert!(known.is_some(), "{}", health(node));
    let is_down = state == "down";
    let alarm = format!("trunk `out`: it is down: {endpoint} does not answer OPTIONS");
    let alarms = node.status()["alarms"].clone();
    assert_eq!(alarms.as_array().unwrap().contains(&json!(alarm)), is_down, "{alarms}");
    let sample = format!("tandem_trunk_endpoint_up{{trunk=\"out\",endpoint=\"{endpoint}\"}}");
    let told = within(LONG, || {
        let page = node.page();
        let line = page.lines().find(|line| line.starts_with(&sample))?;
        line.ends_with(if is_down { " 0" } else { " 1" }).then_some(())
    });
    assert!(told.is_some(), "{sample} is not told");
}

/// A few calls, each clean.
fn call(lab: &Lab, node: &Node, uas: SocketAddr) {
    let more = ["--calls", "10", "--rate", "20", "--hold", "1"];
    let (code, report) = Load::start(lab, node.sip, uas, &more).finish(Duration::from_secs(60));
    assert_eq!((code, &report["clean"]), (0, &json!(10)), "{report}\n{}", node.process.log());
}

#[test]
fn a_carrier_that_dies_costs_no_call_any_time() {
    let lab = Lab::new("health");
    let (first, behind, second) = (lab.udp(), lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    // Time enough for a busy machine to answer, and for the test to see who waits for it.
    setup.trunks[0].2 =
        "options = { every_s = 2, failures = 2 }\ntrying_timeout_ms = 4000\n".into();
    setup.trunks.push(("second".into(), second, String::new()));
    setup.route = "[[route]]\nprefix = \"\"\nto = [\"out\", \"second\"]\n".into();
    let mut node = Node::start(&lab, &setup);
    let mut events = Events::subscribe(&node);
    await_state(&node, &mut events, "down", first);
    call(&lab, &node, second);
    let dead = node.await_records(10);
    for record in &dead {
        let attempts = record["attempts"].as_array().unwrap();
        assert_eq!(attempts[0]["reason"], "endpoint_down", "{record}");
        assert_eq!((attempts.len(), &attempts[1]["trunk"]), (2, &json!("second")), "{record}");
        assert!(record["pdd_ms"].as_u64() < Some(2_000), "it waited: {record}");
    }
    let explained = node.ask(json!({
        "op": "explain", "from": "1", "to": "442079460000", "trunk": "in"
    }));
    let skipped = format!("skip      out              442079460000 at {first}: endpoint_down");
    assert!(explained.unwrap().as_array().unwrap().contains(&json!(skipped)));

    let mut carrier = kamailio(&lab, first, behind);
    await_state(&node, &mut events, "up", first);
    assert_eq!(health(&node)["status"], 200, "{}", carrier.log());
    call(&lab, &node, behind);
    let alive = node.await_records(20);
    let through = alive.iter().filter(|record| record["trunk_out"] == "out").count();
    assert_eq!(through, 10, "{alive:#?}");

    carrier.kill();
    await_state(&node, &mut events, "down", first);
    assert!(node.metric("tandem_probes_failed_total") >= 4, "{}", node.page());
    assert_eq!(node.drain(), Some(0));
}
