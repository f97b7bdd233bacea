//! `sbcctl status`: the node on one screen. Exit code 1 when it raises alarms.

use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::{bytes, count, duration, millis, percent, plural, rate, safe, score, seconds};
use crate::judge::{self, Level};
use crate::paint::Paint;
use crate::problem::Problem;
use control::frame::{Status, What};
use std::process::ExitCode;

/// Asks and prints.
pub(crate) fn run(context: &Context) -> Result<ExitCode, Problem> {
    let result = context.engine()?.get(What::Status)?;
    let status: Status = read(&result)?;
    if context.json {
        print_json(&result)?;
    } else {
        print(&render(context.paint, &status))?;
    }
    Ok(ExitCode::from(u8::from(!status.alarms.is_empty())))
}

fn render(paint: Paint, s: &Status) -> String {
    let mut lines = vec![
        format!("{}  {}", paint.bold(&safe(&s.node)), state(paint, s)),
        paint.dim(&format!(
            "tandem {}, pid {}, up {}, epoch {}, configuration {}",
            s.version,
            s.pid,
            duration(s.uptime_s),
            s.epoch,
            s.config_generation
        )),
        paint.dim(&format!("{} on {}", plural(s.shards as u64, "shard"), safe(&s.driver))),
        String::new(),
    ];
    let mut pair = |left: (&str, String), right: (&str, String)| {
        let left_value = pad(&left.1, 24);
        lines.push(
            format!("  {:<10}{left_value}{:<10}{}", left.0, right.0, right.1).trim_end().to_owned(),
        );
    };
    let asr = paint.level(judge::asr(s.asr, s.ended), &percent(s.asr));
    let mos = paint.level(judge::mos(s.mos), &score(s.mos));
    let pdd = paint.level(judge::pdd(s.pdd_ms), &millis(s.pdd_ms));
    let waiting = paint.level(judge::journal(s.journal_waiting), &bytes(s.journal_waiting));
    pair(("calls", count(s.calls)), ("answered", count(s.calls_answered)));
    pair(("CPS", rate(s.cps)), ("total", count(s.calls_total)));
    pair(("ASR", asr), ("ACD", seconds(s.acd_s)));
    pair(("PDD", pdd), ("MOS", mos));
    pair(
        ("media", format!("{} kpps", rate(s.kpps))),
        ("ended", format!("{} in 5 min", count(s.ended))),
    );
    pair(("CDRs", count(s.cdrs_total)), ("journal", format!("{waiting} not on disk")));
    for alarm in &s.alarms {
        lines.push(String::new());
        lines.push(paint.level(Level::Bad, &format!("ALARM: {}", safe(alarm))));
    }
    lines.join("\n")
}

fn state(paint: Paint, s: &Status) -> String {
    match (s.alarms.len(), s.draining) {
        (0, false) => "running".to_owned(),
        (0, true) => paint.level(Level::Warn, "draining: takes no new calls"),
        (n, draining) => {
            let word = if draining { ", draining" } else { "" };
            paint.level(Level::Bad, &format!("{}{word}", plural(n as u64, "alarm")))
        }
    }
}

/// Pads text by what is seen of it: colour codes take no room.
fn pad(text: &str, width: usize) -> String {
    let mut seen = 0;
    let mut code = false;
    for c in text.chars() {
        match c {
            '\x1b' => code = true,
            'm' if code => code = false,
            _ if !code => seen += 1,
            _ => {}
        }
    }
    format!("{text}{}", " ".repeat(width.saturating_sub(seen)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, golden};

    #[test]
    fn one_screen() {
        let plain = Paint { on: false };
        golden("status", &render(plain, &samples::status()));
        golden("status-troubled", &render(plain, &samples::troubled()));
        golden("status-idle", &render(plain, &Status { node: "new".into(), ..Status::default() }));
    }

    #[test]
    fn colour_does_not_move_columns() {
        assert_eq!(pad("\x1b[1;31mab\x1b[0m", 4), "\x1b[1;31mab\x1b[0m  ");
    }
}
