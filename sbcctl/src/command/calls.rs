//! `sbcctl calls`: the calls held now.

use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::{NONE, clock, count, cut, duration, millis, now_ms, plural};
use crate::paint::Paint;
use crate::problem::Problem;
use crate::table::table;
use control::frame::{CallLine, Op, What};
use serde_json::Value;

/// Asks and prints.
pub(crate) fn run(context: &Context, limit: usize) -> Result<(), Problem> {
    let op = Op::Get { what: What::Calls, call: None, limit: Some(limit) };
    let result = context.engine()?.ask(op)?;
    if context.json {
        return print_json(&result);
    }
    let total: u64 = read(result.get("total").unwrap_or(&Value::Null))?;
    let mut calls: Vec<CallLine> = read(result.get("calls").unwrap_or(&Value::Null))?;
    calls.sort_by_key(|call| call.setup_at_ms);
    print(&render(context.paint, total, &calls, now_ms()))
}

fn render(paint: Paint, total: u64, calls: &[CallLine], now: u64) -> String {
    if total == 0 {
        return "no calls".to_owned();
    }
    let columns = [
        ("ID", false),
        ("STATE", false),
        ("SINCE", false),
        ("FOR", true),
        ("FROM", false),
        ("TO", false),
        ("IN", false),
        ("OUT", false),
        ("PDD", true),
    ];
    let rows = calls.iter().map(|call| {
        let since = call.answer_at_ms.unwrap_or(call.setup_at_ms);
        vec![
            call.id.clone(),
            call.state.clone(),
            clock(since),
            duration(now.saturating_sub(since) / 1000),
            cut(&call.from, 24),
            cut(&call.to, 24),
            cut(&call.trunk_in, 16),
            cut(call.trunk_out.as_deref().unwrap_or(NONE), 16),
            millis(call.pdd_ms.map(f64::from)),
        ]
    });
    let mut text = table(paint, &columns, rows.collect());
    let left_out = total.saturating_sub(calls.len() as u64);
    let more = if left_out > 0 {
        format!(", {} not shown: use --limit", count(left_out))
    } else {
        String::new()
    };
    text.push_str(&paint.dim(&format!("\n{}{more}", plural(total, "call"))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW, golden};

    #[test]
    fn as_a_table() {
        let plain = Paint { on: false };
        golden("calls", &render(plain, 4, &samples::calls(), NOW));
        golden("calls-limited", &render(plain, 1412, &samples::calls()[..1], NOW));
        assert_eq!(render(plain, 0, &[], NOW), "no calls");
    }
}
