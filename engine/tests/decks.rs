//! Decks are armed, swapped and rolled back under load: no call is lost, none mixes generations, and what
//! is billed is what the deck of its beginning says.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{LONG, Lab, Load, Node, Setup, within};
use engine::config::wall_s;
use engine::decks::Shelf;
use routing_trie::deck::{Deck, Event, Options, import};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Every number at `generation` thousandths a minute, and whole minutes.
fn deck(generation: u32) -> Deck {
    let codes: String = (1..10).map(|n| format!("{n},0.{generation:03}\n")).collect();
    let options = Options { first_s: 60, increment_s: 60, ..Options::default() };
    import(format!("code,rate\n{codes}").as_bytes(), &options).map(|i| i.deck).unwrap()
}

/// Puts the next generation there; in force from a moment.
fn arm(shelf: &Shelf, name: &str, generation: u32, from: i64) {
    assert_eq!(shelf.put(name, &deck(generation), wall_s()).unwrap(), generation);
    shelf.append(name, Event::Armed { generation, from }, wall_s()).unwrap();
}

fn explain(node: &Node) -> String {
    let asked = json!({"op": "explain", "from": "1", "to": "442079460000", "trunk": "in"});
    node.ask(asked).unwrap().to_string()
}

#[test]
fn decks_come_and_go_under_load() {
    let lab = Lab::new("decks");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    setup.route = "[[route]]\nprefix = \"\"\nplan = \"wholesale\"\n\
                   [[vendor]]\nname = \"out\"\n\
                   [[customer]]\nname = \"retail\"\ntrunks = [\"in\"]\n\
                   [[plan]]\nname = \"wholesale\"\n[[plan.rule]]\nmin_margin = \"0\"\n"
        .into();
    let mut node = Node::start(&lab, &setup);
    assert!(explain(&node).contains("unpriced"), "no deck yet: {}", explain(&node));
    let shelf = Shelf::new(&node.run.join("decks"));
    arm(&shelf, "out", 1, wall_s());
    arm(&shelf, "retail", 1, wall_s());
    within(LONG, || explain(&node).contains("is tried").then_some(())).unwrap();

    let more = ["--calls", "150", "--rate", "15", "--hold", "1.5"];
    let load = Load::start(&lab, setup.sip, callee, &more);
    // Both decks come into force at one moment, twice, while calls come and go.
    for generation in 2..4 {
        let due = wall_s() + 3;
        arm(&shelf, "out", generation, due);
        arm(&shelf, "retail", generation, due);
        within(LONG, || (wall_s() > due + 1).then_some(())).unwrap();
    }
    let (code, report) = load.finish(PATIENCE);
    assert_eq!((code, &report["clean"]), (0, &json!(150)), "{report}");
    assert_eq!(report["rtp"]["lost"], 0, "{report}");
    let records = node.await_records(150);
    let mut seen = BTreeSet::new();
    for record in &records {
        let generation = &record["decision"]["sell"]["generation"];
        assert_eq!(&record["attempts"][0]["buy"]["generation"], generation, "{record}");
        let money = format!("0.{:03}000", generation.as_u64().unwrap());
        assert_eq!(record["decision"]["price"], Value::String(money.clone()), "{record}");
        assert_eq!(record["decision"]["cost"], Value::String(money), "{record}");
        assert_eq!(record["decision"]["margin"], "0.000000", "{record}");
        seen.insert(generation.as_u64().unwrap());
    }
    assert_eq!(seen, BTreeSet::from([1, 2, 3]));

    // What was measured of the trunk, for operators and metrics; why a call went there, out of its record.
    let quality =
        || node.ask(json!({"op": "get", "what": "trunks"})).unwrap()[1]["quality"][0].clone();
    let asr =
        within(LONG, || Some(quality()["asr"].clone()).filter(|a| a["calls"] == 150)).unwrap();
    assert_eq!(asr["value"], 100.0, "{asr}");
    let metrics = node.page();
    let line = "tandem_trunk_asr_ratio{destination=\"other\",trunk=\"out\"} 1\n";
    let labels_swapped = "tandem_trunk_asr_ratio{trunk=\"out\",destination=\"other\"} 1\n";
    assert!(metrics.contains(line) || metrics.contains(labels_swapped), "{metrics}");
    let last = records.last().unwrap();
    let why = node.ask(json!({"op": "why", "call": last["call"]})).unwrap();
    assert_eq!(why, last["why"]);
    assert!(why.to_string().contains("is tried"), "{why}");
    assert!(node.ask(json!({"op": "why", "call": "00-0-0"})).is_err());

    // A deck that cannot be used changes nothing, and says so; its rollback is in force again.
    let foreign = Options { currency: "CHF".parse().unwrap(), ..Options::default() };
    let foreign = import(b"code,rate\n4,0.001\n", &foreign).unwrap().deck;
    assert_eq!(shelf.put("out", &foreign, wall_s()).unwrap(), 4);
    shelf.append("out", Event::Armed { generation: 4, from: wall_s() }, wall_s()).unwrap();
    within(LONG, || node.process.log().contains("it is in CHF").then_some(())).unwrap();
    // Three minutes at the rate of the generation before.
    assert!(explain(&node).contains("0.009000000"), "{}", explain(&node));
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

/// A service that knows where numbers were ported to: all of them to one.
fn porting_service(to: &'static str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let len = stream.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /lrn?n="));
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{to}").unwrap();
        }
    });
    address
}

#[test]
fn numbers_are_asked_for_over_http_and_rated_by_the_answer() {
    let lab = Lab::new("porting");
    let callee = lab.udp();
    let service = porting_service("33123");
    let mut setup = Setup::new(&lab, callee);
    setup.route = format!(
        "[[route]]\nprefix = \"\"\nplan = \"wholesale\"\n\
         [[vendor]]\nname = \"out\"\n\
         [[plan]]\nname = \"wholesale\"\n[[plan.rule]]\n\
         [porting]\nask = \"http://{service}/lrn?n={{number}}\"\n"
    );
    let node = Node::start(&lab, &setup);
    let shelf = Shelf::new(&node.run.join("decks"));
    let text = b"code,rate\n33,0.033\n4,0.044\n";
    let deck = import(text, &Options::default()).map(|i| i.deck).unwrap();
    assert_eq!(shelf.put("out", &deck, wall_s()).unwrap(), 1);
    shelf.append("out", Event::Armed { generation: 1, from: wall_s() }, wall_s()).unwrap();
    within(LONG, || explain(&node).contains("is tried").then_some(())).unwrap();
    let told = explain(&node);
    assert!(told.contains("ported    to 33123, by which it is rated"), "{told}");
    let load =
        Load::start(&lab, setup.sip, callee, &["--calls", "3", "--rate", "5", "--hold", "0.2"]);
    let (code, report) = load.finish(PATIENCE);
    assert_eq!((code, &report["clean"]), (0, &json!(3)), "{report}");
    for record in node.await_records(3) {
        let why = record["why"].to_string();
        assert!(why.contains("ported    to 33123, by which it is rated"), "{why}");
        assert_eq!(record["attempts"][0]["buy"]["rate"], "0.033", "{record}");
    }
    assert!(node.metric("tandem_porting_lookups_total") >= 1, "{}", node.page());
}
