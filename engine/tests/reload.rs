//! The configuration is read again under load: calls go on, new trunks take calls at once, and a file with
//! a mistake changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{LONG, Lab, Load, Node, Setup, within};
use serde_json::json;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn reload(node: &Node, check: bool) -> Result<serde_json::Value, String> {
    node.ask(json!({"op": "reload", "check": check}))
}

fn generation(node: &Node) -> u64 {
    node.status()["config_generation"].as_u64().unwrap()
}

#[test]
fn a_trunk_and_a_route_come_and_go_under_load() {
    let lab = Lab::new("reload");
    let (first, second) = (lab.udp(), lab.udp());
    let mut setup = Setup::new(&lab, first);
    setup.node = setup.node.replace("shards = 1", "shards = 2");
    let mut node = Node::start(&lab, &setup);
    let number = |prefix: &str| format!("{prefix}2079460000");
    let more = ["--calls", "150", "--rate", "25", "--hold", "1.5"];
    let load = Load::start(&lab, setup.sip, first, &more);
    within(LONG, || (node.status()["calls_answered"].as_u64() > Some(10)).then_some(())).unwrap();

    let before = setup.text();
    setup.trunks.push(("new".into(), second, "capacity = 7\n".into()));
    setup.route += "[[route]]\nprefix = \"99\"\nto = [\"new\"]\n";
    lab.write("sbcd.toml", &setup.text());
    assert_eq!(reload(&node, true).unwrap()["published"], false);
    assert_eq!(generation(&node), 1, "only checked");
    let done = reload(&node, false).unwrap();
    assert_eq!(done["trunks_added"], json!(["new"]));
    assert_eq!((done["trunks_changed"].clone(), done["routes"].clone()), (json!([]), json!(2)));
    assert_eq!((generation(&node), node.metric("tandem_config_generation")), (2, 4));
    assert_eq!(node.metric("tandem_trunk_capacity{trunk=\"new\"}"), 7);

    // A call by the new trunk, which is taken away while it is up.
    let through =
        ["--calls", "3", "--hold", "3", "--number", &number("99"), "--from", "19990000000"];
    let late = Load::start(&lab, setup.sip, second, &through);
    within(LONG, || (node.metric("tandem_trunk_calls{trunk=\"new\"}") == 3).then_some(())).unwrap();
    lab.write("sbcd.toml", &before);
    node.process.signal(libc::SIGHUP);
    within(LONG, || (generation(&node) == 3).then_some(())).unwrap();
    assert_eq!(node.metric("tandem_trunk_calls{trunk=\"new\"}"), 3, "they are counted on");
    let trunks = node.ask(json!({"op": "get", "what": "trunks"})).unwrap();
    let gone = trunks.as_array().unwrap().iter().find(|t| t["name"] == "new").unwrap();
    assert_eq!((&gone["removed"], &gone["calls"]), (&json!(true), &json!(3)));

    for (load, calls) in [(late, 3), (load, 150)] {
        let (code, report) = load.finish(PATIENCE);
        assert_eq!((code, &report["clean"]), (0, &json!(calls)), "{report}");
        assert_eq!(report["rtp"]["lost"], 0, "{report}");
    }
    let records = node.await_records(153);
    assert_eq!(records.iter().filter(|r| r["trunk_out"] == "new").count(), 3);
    assert!(!node.page().contains("trunk=\"new\""), "nothing is left on it");
    assert_eq!(node.drain(), Some(0), "{}", node.process.log());
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let lab = Lab::new("reload-bad");
    let callee = lab.udp();
    let setup = Setup::new(&lab, callee);
    let mut node = Node::start(&lab, &setup);
    let text = setup.text();
    let fixed = "`max_calls` cannot change while the node runs";
    let interface = "interface `loop` cannot change";
    for (from, to, begin, said) in [
        ("to = [\"out\"]", "to = [\"owt\"]", "to = ", "did you mean `out`?"),
        ("max_calls = 400", "max_calls = 500", "max_calls", fixed),
        ("20000-21999", "20000-22999", "name = \"loop\"", interface),
        ("[[route]]", "[[route]", "[[route]", "this is not TOML"),
    ] {
        let broken = text.replace(from, to);
        lab.write("sbcd.toml", &broken);
        let error = reload(&node, false).unwrap_err();
        let line = broken.lines().position(|l| l.starts_with(begin)).unwrap() + 1;
        assert!(error.contains(said), "{error}");
        assert!(error.contains(&format!("sbcd.toml:{line}:")), "line {line}: {error}");
    }
    std::fs::remove_file(lab.file("sbcd.toml")).unwrap();
    assert!(reload(&node, false).unwrap_err().contains("cannot read the file"));
    node.process.signal(libc::SIGHUP);
    let refused = "tandem_config_reloads_refused_total";
    within(LONG, || (node.metric(refused) == 6).then_some(())).unwrap();
    assert!(node.process.log().contains("the configuration was not reloaded"));
    assert_eq!((generation(&node), node.metric("tandem_config_reloads_total")), (1, 0));
    let more = ["--calls", "5", "--hold", "0.2"];
    let (code, report) = Load::start(&lab, setup.sip, callee, &more).finish(PATIENCE);
    assert_eq!(code, 0, "{report}");
    assert_eq!(node.drain(), Some(0));
}
