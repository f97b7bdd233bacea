//! The JSON Schema of the control socket is what the code says, and what a running node says fits it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::{LONG, Lab, Load, Node, Setup, within};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

#[test]
fn the_schema_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/control.schema.json");
    let expected = serde_json::to_string_pretty(&control::schema::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "out of date: UPDATE_DOCS=1 writes it anew");
}

/// The schema, and what a line or the result of a command has to be by it.
struct Words(Value);

impl Words {
    fn hold(&self, schema: &Value, value: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["$defs"] = self.0["$defs"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Err(error) = validator.validate(value) {
            panic!("{what}: {error} at {}: {value}", error.instance_path);
        }
    }

    fn line(&self, kind: &str, line: &Value) {
        self.hold(&json!({ "$ref": format!("#/$defs/{kind}") }), line, kind);
    }

    /// Returns what the schema calls the command.
    fn result(&self, command: &Value, result: &Value) -> String {
        let what = command["what"].as_str().map_or(String::new(), |what| format!(" {what}"));
        let name = format!("{}{what}", command["op"].as_str().unwrap());
        let schema = &self.0["x-results"][&name];
        assert!(!schema.is_null(), "nothing is said of the result of {name}");
        self.hold(schema, result, &name);
        name
    }
}

/// A conversation in which every line is held to the schema.
struct Talk<'a> {
    words: &'a Words,
    lines: BufReader<UnixStream>,
    events: usize,
    tried: BTreeSet<String>,
}

impl Talk<'_> {
    fn say(&mut self, line: &Value) {
        self.words.line("Request", line);
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line that is no event.
    fn hear(&mut self) -> Value {
        loop {
            let mut text = String::new();
            self.lines.read_line(&mut text).unwrap();
            let line: Value = serde_json::from_str(&text).unwrap();
            self.words.line("Answer", &line);
            if line["t"] != "ev" {
                return line;
            }
            self.events += 1;
        }
    }

    fn ask(&mut self, mut command: Value) -> Value {
        command["t"] = json!("c");
        command["id"] = json!("7");
        self.say(&command);
        let reply = self.hear();
        if reply["ok"] == true {
            self.tried.insert(self.words.result(&command, &reply["result"]));
        }
        reply
    }
}

#[test]
fn what_a_running_node_says_fits_the_schema() {
    let lab = Lab::new("schema");
    let callee = lab.udp();
    let mut setup = Setup::new(&lab, callee);
    setup.caller = "media_release = \"same-interface\"\n".into();
    setup.trunks[0].2 = setup.caller.clone();
    let mut node = Node::start(&lab, &setup);
    let words = Words(control::schema::schema());
    let stream = UnixStream::connect(node.run.join("sbcd.sock")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut talk =
        Talk { words: &words, lines: BufReader::new(stream), events: 0, tried: BTreeSet::new() };
    talk.say(&json!({"t": "hello", "proto": 1, "app": "test"}));
    assert_eq!(talk.hear()["t"], "welcome");
    assert_eq!(talk.ask(json!({"op": "sub", "ev": ["call"]}))["ok"], true);
    let more = ["--calls", "3", "--rate", "50", "--hold", "5", "--expect-failures"];
    let _load = Load::start(&lab, setup.sip, callee, &more);
    within(LONG, || (node.status()["calls_answered"] == 3).then_some(())).unwrap();

    let get = |what: &str| json!({"op": "get", "what": what});
    let calls = talk.ask(get("calls"));
    let id = calls["result"]["calls"][0]["id"].as_str().unwrap().to_owned();
    let other = calls["result"]["calls"][1]["id"].as_str().unwrap().to_owned();
    for command in [
        json!({"op": "ping"}),
        get("status"),
        json!({"op": "get", "what": "call", "call": id}),
        json!({"op": "get", "what": "calls", "limit": 1}),
        get("trunks"),
        get("shards"),
        json!({"op": "snap"}),
        json!({"op": "anchor", "call": other}),
        json!({"op": "hangup", "call": id, "idem": "once"}),
        json!({"op": "explain", "from": "1", "to": "442079460000", "trunk": "in"}),
        json!({"op": "reload", "check": true}),
        json!({"op": "reload"}),
        json!({"op": "unsub"}),
    ] {
        let reply = talk.ask(command);
        assert_eq!(reply["ok"], true, "{reply}");
    }
    // It is captured once it is back.
    let capture = json!({"op": "capture", "call": other, "seconds": 60});
    within(LONG, || (talk.ask(capture.clone())["ok"] == true).then_some(())).unwrap();
    assert_eq!(talk.ask(json!({"op": "uncapture", "call": other}))["ok"], true);
    assert!(talk.events >= 12, "three calls, three states each, and a snapshot: {}", talk.events);
    assert_eq!(talk.ask(json!({"op": "get", "what": "call"}))["ok"], false);
    assert_eq!(talk.ask(json!({"op": "hangup", "call": "0-0-0"}))["ok"], false);
    assert_eq!(talk.ask(json!({"op": "drain"}))["ok"], true);
    let said = words.0["x-results"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(talk.tried, said, "every command was tried");
    node.process.signal(libc::SIGTERM);
    assert_eq!(node.process.wait(LONG), Some(0), "{}", node.process.log());
}

#[test]
fn the_schema_refuses_what_the_code_refuses() {
    let document = control::schema::schema();
    let validator = jsonschema::validator_for(&document).unwrap();
    for line in [
        json!({"t": "c", "id": "1", "op": "explode"}),
        json!({"t": "c", "op": "ping"}),
        json!({"t": "c", "id": "1", "op": "get", "what": "everything"}),
        json!({"t": "hello", "proto": "one"}),
        json!({"t": "welcome"}),
        json!({"t": "bye"}),
        json!([]),
    ] {
        assert!(!validator.is_valid(&line), "{line}");
        assert!(serde_json::from_value::<control::frame::Request>(line).is_err());
    }
}
