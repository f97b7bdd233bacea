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
    let quarrels = compare(&read(path)?, &records);
    let calls = records.len();
    if quarrels.is_empty() {
        println!("{calls} records, one for each call of the ledger");
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

/// What must hold: each invited call has exactly one record, answered if and only if it was.
fn compare(ledger: &[Value], records: &[Value]) -> Vec<String> {
    let mut invited = BTreeSet::new();
    let mut answered = BTreeSet::new();
    for event in ledger {
        let call = event["call_id"].as_str().unwrap_or("");
        match event["event"].as_str() {
            Some("invited") => invited.insert(call),
            Some("answered") => answered.insert(call),
            _ => true,
        };
    }
    let mut found: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for record in records {
        found.entry(record["call_id_in"].as_str().unwrap_or("")).or_default().push(record);
    }
    let mut quarrels = Vec::new();
    for &call in &invited {
        match found.get(call).map_or(&[][..], Vec::as_slice) {
            [] => quarrels.push(format!("{call}: no record")),
            [record] => {
                let was = !record["answer_at"].is_null() && record["answer_at"] != 0;
                if was != answered.contains(call) {
                    let (a, b) = (answered.contains(call), was);
                    quarrels.push(format!("{call}: answered {a} here, {b} in its record"));
                }
            }
            many => quarrels.push(format!("{call}: {} records", many.len())),
        }
    }
    let strangers = found.keys().filter(|call| !invited.contains(*call));
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
        assert!(compare(&ledger[..3], &[good.clone(), unanswered.clone()]).is_empty());
        let records =
            [good.clone(), good, unanswered, record("d", Value::Null), record("e", Value::Null)];
        let quarrels = compare(&ledger, &records);
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
    fn a_record_is_printed_a_field_a_line() {
        let text =
            pretty(&json!({"id": 7, "media": {"lost": 0}, "attempts": [{"status": 200}]}), 0);
        assert!(text.lines().any(|line| line == "id               7"));
        assert!(text.contains("media\n  lost             0\n"));
        assert!(text.contains("attempts\n  [0]\n    status           200\n"));
    }
}
