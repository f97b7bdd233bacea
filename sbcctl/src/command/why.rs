//! `sbcctl call why`: the record that a real call kept of its decision. The engine has those of calls that live
//! or ended lately; the others are in their CDRs, with what became of each attempt.

use super::cdr::files;
use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::cut;
use crate::problem::Problem;
use control::event::CallId;
use control::frame::Op;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Says why a call went where it went.
pub(crate) fn run(context: &Context, id: &str) -> Result<(), Problem> {
    let dir = context.run.join("cdr");
    // What ended is told in full by its CDR; a call that lives has none.
    let (lines, refused) = match written(&dir, id)? {
        Some(cdr) => (of_cdr(&cdr), None),
        None if CallId::parse(id).is_some() => {
            let asked = context.engine().and_then(|mut e| e.ask(Op::Why { call: id.to_owned() }));
            match asked {
                Ok(result) => (read(&result)?, None),
                Err(problem) => (Vec::new(), Some(problem)),
            }
        }
        None => (Vec::new(), None),
    };
    match refused {
        Some(problem) => Err(problem),
        None if lines.is_empty() => {
            let what = format!("no call {id} lives, and no CDR in {} is of it", dir.display());
            Err(Problem::Refused(what))
        }
        None if context.json => print_json(&json!(lines)),
        None => print(&lines.join("\n")),
    }
}

/// The CDR of a call, by its own id or by the call's; of several of one call's id the newest.
fn written(dir: &Path, id: &str) -> Result<Option<Value>, Problem> {
    let names = match files(dir) {
        Err(Problem::NoCdrs(_)) => return Ok(None),
        names => names?,
    };
    for name in names.iter().rev() {
        let file = File::open(name).map_err(|e| Problem::File(name.clone(), e))?;
        // A line is read as JSON only when the id stands in it.
        let is_its = |line: &String| {
            let cdr = line.contains(id).then(|| serde_json::from_str::<Value>(line).ok()).flatten();
            cdr.filter(|cdr| ["id", "call"].iter().any(|key| cdr.get(key) == Some(&json!(id))))
        };
        let found = BufReader::new(file).lines().map_while(Result::ok).filter_map(|l| is_its(&l));
        if let Some(cdr) = found.last() {
            return Ok(Some(cdr));
        }
    }
    Ok(None)
}

/// The stages of the decision, each attempt, and what it came to.
fn of_cdr(cdr: &Value) -> Vec<String> {
    let list = |name: &str| cdr.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |of: &Value, name: &str| match of.get(name) {
        Some(Value::String(text)) => cut(text, 64),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    };
    let mut lines: Vec<String> =
        list("why").iter().filter_map(|l| Some(cut(l.as_str()?, 240))).collect();
    for attempt in list("attempts") {
        let [trunk, number] = ["trunk", "number"].map(|name| text(&attempt, name));
        let [endpoint, status] = ["endpoint", "status"].map(|name| text(&attempt, name));
        let reason = match &*text(&attempt, "reason") {
            "" => String::new(),
            reason => format!(" {reason}"),
        };
        let cost = attempt.get("cost").and_then(Value::as_str);
        let cost = cost.map_or(String::new(), |cost| format!(", cost {}", cut(cost, 32)));
        lines.push(format!("try       {trunk:<16} {number} at {endpoint}: {status}{reason}{cost}"));
    }
    if let Some(decision) = cdr.get("decision").filter(|d| d.is_object()) {
        let [price, cost, margin] = ["price", "cost", "margin"].map(|name| text(decision, name));
        let currency = text(decision, "currency");
        lines.push(format!("outcome   price {price}, cost {cost}, margin {margin} ({currency})"));
    }
    let [status, reason] = ["status", "reason"].map(|name| text(cdr, name));
    let seconds = cdr.get("duration_ms").and_then(Value::as_f64).unwrap_or(0.0) / 1000.0;
    lines.push(format!("outcome   status {status}, {reason}, answered for {seconds:.1} s"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cdr_is_found_by_either_id_and_told_in_full() {
        let dir = std::env::temp_dir().join(format!("sbcctl-why-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let cdr = |id: &str, call: &str, status: u16| {
            json!({
                "id": id, "call": call, "status": status, "reason": "caller_hung_up", "duration_ms": 61_500,
                "why": ["rule      wholesale rule 1 decides"],
                "decision": {"currency": "USD", "price": "0.02", "cost": "0.01", "margin": "0.01"},
                "attempts": [
                    {"trunk": "a", "number": "44", "endpoint": "192.0.2.1:5060", "status": 503,
                     "reason": "route_refused", "cost": "0"},
                    {"trunk": "b", "number": "44", "endpoint": "192.0.2.2:5060", "status": 200,
                     "reason": "", "cost": "0.01"},
                ],
            })
            .to_string()
        };
        let old = [cdr("n-1-0-1", "7f-1-1", 486), cdr("n-1-0-2", "7f-2-1", 200)].join("\n");
        std::fs::write(dir.join("cdr-20260101-000000-0.ndjson"), old + "\n").unwrap();
        let new = cdr("n-2-0-1", "7f-1-1", 200) + "\n{\"torn 7f-1-1";
        std::fs::write(dir.join("cdr-20260102-000000-0.ndjson"), new).unwrap();
        let id_of =
            |asked| written(&dir, asked).unwrap().map(|c| c["id"].as_str().unwrap().to_owned());
        assert_eq!(id_of("7f-1-1").as_deref(), Some("n-2-0-1"), "the newest");
        assert_eq!(id_of("n-1-0-2").as_deref(), Some("n-1-0-2"));
        assert_eq!(id_of("7f-9-9"), None);
        let told = of_cdr(&written(&dir, "n-1-0-2").unwrap().unwrap()).join("\n");
        let expected = "\
rule      wholesale rule 1 decides
try       a                44 at 192.0.2.1:5060: 503 route_refused, cost 0
try       b                44 at 192.0.2.2:5060: 200, cost 0.01
outcome   price 0.02, cost 0.01, margin 0.01 (USD)
outcome   status 200, caller_hung_up, answered for 61.5 s";
        assert_eq!(told, expected);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
