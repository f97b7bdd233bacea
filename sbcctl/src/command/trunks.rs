//! `sbcctl trunks`: load of each trunk against its limits, and its quality over the last five minutes.

use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::{NONE, cut, duration, millis, now_ms, percent, rate, score, seconds};
use crate::judge::{self, Level};
use crate::paint::Paint;
use crate::problem::Problem;
use crate::table::table;
use control::frame::{Measured, TrunkLine, What};

/// Asks and prints.
pub(crate) fn run(context: &Context, quality: bool, healthy: bool) -> Result<(), Problem> {
    let result = context.engine()?.get(What::Trunks)?;
    if context.json {
        return print_json(&result);
    }
    let trunks: Vec<TrunkLine> = read(&result)?;
    print(&match (quality, healthy) {
        (true, _) => measured(context.paint, &trunks),
        (false, true) => health(context.paint, &trunks, now_ms()),
        (false, false) => render(context.paint, &trunks),
    })
}

fn render(paint: Paint, trunks: &[TrunkLine]) -> String {
    if trunks.is_empty() {
        return "no trunks are configured".to_owned();
    }
    let columns = [
        ("TRUNK", false),
        ("INTERFACE", false),
        ("CALLS", true),
        ("CAPACITY", true),
        ("CONNS", true),
        ("CPS", true),
        ("LIMIT", true),
        ("ENDED", true),
        ("ASR", true),
        ("ACD", true),
        ("PDD", true),
        ("MOS", true),
        ("UP", true),
        ("ENDPOINTS", false),
    ];
    let rows = trunks.iter().map(|t| {
        let calls = judge::fill(t.calls as f64, f64::from(t.capacity));
        let cps = judge::fill(t.cps, f64::from(t.cps_limit));
        vec![
            format!("{}{}", cut(&t.name, 24), if t.removed { " (removed)" } else { "" }),
            cut(&t.interface, 16),
            paint.level(calls, &t.calls.to_string()),
            t.capacity.to_string(),
            t.connections.map_or_else(|| NONE.to_owned(), |n| n.to_string()),
            paint.level(cps, &rate(t.cps)),
            t.cps_limit.to_string(),
            t.ended.to_string(),
            paint.level(judge::asr(t.asr, t.ended), &percent(t.asr)),
            seconds(t.acd_s),
            paint.level(judge::pdd(t.pdd_ms), &millis(t.pdd_ms)),
            paint.level(judge::mos(t.mos), &score(t.mos)),
            up(paint, t),
            cut(&t.endpoints.join(", "), 48),
        ]
    });
    table(paint, &columns, rows.collect())
}

/// How many of the endpoints that are asked are there.
fn up(paint: Paint, trunk: &TrunkLine) -> String {
    let (all, up) = (trunk.health.len(), trunk.health.iter().filter(|e| e.state == "up").count());
    let level = match all {
        0 => return NONE.to_owned(),
        _ if up == 0 => Level::Bad,
        _ if up < all => Level::Warn,
        _ => Level::Good,
    };
    paint.level(level, &format!("{up}/{all}"))
}

/// A line for each endpoint that is asked whether it is there.
fn health(paint: Paint, trunks: &[TrunkLine], now: u64) -> String {
    let columns = [
        ("TRUNK", false),
        ("ENDPOINT", false),
        ("STATE", false),
        ("FOR", true),
        ("ANSWER", false),
        ("AFTER", true),
    ];
    let lines = trunks.iter().flat_map(|t| t.health.iter().map(move |e| (t, e)));
    let rows: Vec<_> = lines
        .map(|(t, e)| {
            let level = if e.state == "up" { Level::Good } else { Level::Bad };
            vec![
                cut(&t.name, 24),
                cut(&e.address, 48),
                paint.level(level, &cut(&e.state, 8)),
                duration(now.saturating_sub(e.since_ms) / 1000),
                e.status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
                millis(e.answered_ms),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => "no endpoint is asked whether it is there: no trunk has `options`".to_owned(),
        false => table(paint, &columns, rows),
    }
}

/// What plans know: a line for each trunk and destination, each value with its interval.
fn measured(paint: Paint, trunks: &[TrunkLine]) -> String {
    let columns = [
        ("TRUNK", false),
        ("DESTINATION", false),
        ("CALLS", true),
        ("ASR", true),
        ("NER", true),
        ("ACD", true),
        ("PDD", true),
        ("MOS", true),
    ];
    let span = |of: &Option<Measured>, show: &dyn Fn(Option<f64>) -> String| match of {
        None => show(None),
        Some(m) if m.calls < 2 => show(Some(m.value)),
        Some(m) => {
            format!("{} ({} to {})", show(Some(m.value)), show(Some(m.low)), show(Some(m.high)))
        }
    };
    let lines = trunks.iter().flat_map(|t| t.quality.iter().map(move |q| (t, q)));
    let rows: Vec<_> = lines
        .map(|(t, q)| {
            vec![
                cut(&t.name, 24),
                cut(&q.destination, 24),
                q.asr.as_ref().map_or(0, |m| m.calls).to_string(),
                span(&q.asr, &percent),
                span(&q.ner, &percent),
                span(&q.acd_s, &seconds),
                span(&q.pdd_ms, &millis),
                span(&q.mos, &score),
            ]
        })
        .collect();
    match rows.is_empty() {
        true => "no trunk had calls within the quality window".to_owned(),
        false => table(paint, &columns, rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, golden};

    #[test]
    fn as_a_table() {
        golden("trunks", &render(Paint { on: false }, &samples::trunks()));
        golden("trunks-health", &health(Paint { on: false }, &samples::trunks(), samples::NOW));
        golden("trunks-quality", &measured(Paint { on: false }, &samples::trunks()));
    }
}
