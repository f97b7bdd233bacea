//! `cdr`: the last record of NDJSON files in a form people read, and the books held against a
//! ledger of what the generator knows.

use crate::cli::CdrArgs;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Runs `sbcload cdr`; false when records and ledger disagree.
pub(crate) fn run(args: &CdrArgs) -> Result<bool, String> {
    let mut records = Vec::new();
    for file in &args.files {
        records.append(&mut read(file)?);
    }
    if !args.quiet {
        match records.last() {
            Some(last) => print!("{}", pretty(last, 0)),
            None => println!("no record"),
        }
    }
    let Some(path) = &args.ledger else { return Ok(true) };
    let quarrels = compare(&read(path)?, &records, args.killed);
    let calls = records.len();
    if quarrels.is_empty() {
        println!("{calls} records agree with the ledger");
        return Ok(true);
    }
    println!("{} disagreements between {calls} records and the ledger:", quarrels.len());
    for quarrel in quarrels.iter().take(20) {
        println!("  {quarrel}");
    }
    Ok(false)
}

fn read(path: &Path) -> Result<Vec<Value>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        serde_json::from_str(line)
            .map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))
    });
    parsed.collect()
}

/// What the generator knows of its calls.
#[derive(Default)]
struct Known<'a> {
    invited: BTreeSet<&'a str>,
    heard: BTreeSet<&'a str>,
    answered: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    fn read(ledger: &'a [Value]) -> Self {
        let mut known = Known::default();
        for event in ledger {
            let call = event["call_id"].as_str().unwrap_or("");
            match event["event"].as_str() {
                Some("invited") => known.invited.insert(call),
                Some("heard") => known.heard.insert(call),
                Some("answered") => known.answered.insert(call),
                _ => true,
            };
        }
        known
    }

    /// What is wrong with a call's records.
    fn judge(&self, call: &str, records: &[&Value], lenient: bool) -> Option<String> {
        let answered = self.answered.contains(call);
        match records {
            [] if lenient && !self.heard.contains(call) => None,
            [] => Some(format!("{call}: no record")),
            [record] => {
                let was = !record["answer_at"].is_null() && record["answer_at"] != 0;
                // A process that dies between its books and its 200 leaves a caller who knows less.
                let unheard = was && record["recovered"] == true;
                let right = was == answered || (lenient && unheard);
                (!right).then(|| format!("{call}: answered {answered} here, {was} in its record"))
            }
            many => Some(format!("{call}: {} records", many.len())),
        }
    }
}

/// What must hold: each invited call has exactly one record, answered if and only if it was, and no
/// record's id comes twice. `lenient`: the SBC was killed under way, so a call that was never responded
/// to may have no record, and a recovered record may tell of an answer that never arrived here.
fn compare(ledger: &[Value], records: &[Value], lenient: bool) -> Vec<String> {
    let known = Known::read(ledger);
    let mut found: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let (mut ids, mut quarrels) = (BTreeSet::new(), Vec::new());
    for record in records {
        found.entry(record["call_id_in"].as_str().unwrap_or("")).or_default().push(record);
        let id = record["id"].as_str();
        if id.is_some() && !ids.insert(id) {
            quarrels.push(format!("{}: this id comes twice", record["id"]));
        }
    }
    quarrels.extend(known.invited.iter().filter_map(|call| {
        known.judge(call, found.get(call).map_or(&[][..], Vec::as_slice), lenient)
    }));
    let strangers = found.keys().filter(|call| !known.invited.contains(*call));
    quarrels.extend(strangers.map(|call| format!("{call}: a record, but never invited")));
    quarrels
}

fn pretty(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut out = String::new();
    let mut entry = |name: &str, value: &Value| match value {
        Value::Object(_) | Value::Array(_) => {
            out.push_str(&format!("{indent}{name}\n{}", pretty(value, depth + 1)));
        }
        Value::String(text) => out.push_str(&format!("{indent}{name:<16} {text}\n")),
        Value::Null => out.push_str(&format!("{indent}{name:<16} -\n")),
        Value::Bool(_) | Value::Number(_) => {
            out.push_str(&format!("{indent}{name:<16} {value}\n"));
        }
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| entry(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| entry(&format!("[{at}]"), item));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => entry("", value),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_books_are_compared_both_ways() {
        let event = |call: &str, event: &str| json!({"call_id": call, "event": event, "at": 1.0});
        let ledger = [
            event("a", "invited"),
            event("a", "answered"),
            event("b", "invited"),
            event("c", "invited"),
            event("d", "invited"),
            event("d", "answered"),
        ];
        let record = |call: &str, at: Value| json!({"call_id_in": call, "answer_at": at});
        let good = record("a", json!("2026-01-01T00:00:00Z"));
        let unanswered = record("b", Value::Null);
        assert!(compare(&ledger[..3], &[good.clone(), unanswered.clone()], false).is_empty());
        let records =
            [good.clone(), good, unanswered, record("d", Value::Null), record("e", Value::Null)];
        let quarrels = compare(&ledger, &records, false);
        assert_eq!(
            quarrels,
            [
                "a: 2 records",
                "c: no record",
                "d: answered true here, false in its record",
                "e: a record, but never invited",
            ]
        );
    }

    #[test]
    fn a_kill_excuses_calls_nobody_responded_to() {
        let event = |call: &str, event: &str| json!({"call_id": call, "event": event});
        let ledger = [
            event("a", "invited"),
            event("b", "invited"),
            event("b", "heard"),
            event("c", "invited"),
        ];
        let mut answered = json!({"id": "1", "call_id_in": "c", "answer_at": 5, "recovered": true});
        let quarrels = compare(&ledger, &[answered.clone()], true);
        assert_eq!(quarrels, ["b: no record"]);
        assert_eq!(compare(&ledger, &[answered.clone()], false).len(), 3);
        answered["recovered"] = json!(false);
        assert_eq!(compare(&ledger, &[answered.clone()], true).len(), 2);
        let mut again = answered.clone();
        again["call_id_in"] = json!("a");
        assert_eq!(compare(&ledger, &[answered, again], true)[0], "\"1\": this id comes twice");
    }

    #[test]
    fn a_record_is_printed_a_field_a_line() {
        let text =
            pretty(&json!({"id": 7, "media": {"lost": 0}, "attempts": [{"status": 200}]}), 0);
        assert!(text.lines().any(|line| line == "id               7"));
        assert!(text.contains("media\n  lost             0\n"));
        assert!(text.contains("attempts\n  [0]\n    status           200\n"));
    }
}
