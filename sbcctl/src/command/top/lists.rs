//! The lists of `top`: trunks, shards, ended calls. Columns come and go with the width.

use super::feed::Ended;
use super::screen::Palette;
use super::state::{State, Tab};
use crate::format::{
    NONE, clock, count, cut, duration, millis, percent, rate, safe, score, seconds,
};
use crate::judge::{self, Level};
use control::frame::{ShardLine, TrunkLine};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row, Table, Widget};

/// A column: title, width (0 takes what is left), whether to the right, least width of the list.
type Column = (&'static str, u16, bool, u16);

const TRUNKS: [Column; 10] = [
    ("TRUNK", 0, false, 0),
    ("CALLS", 11, true, 0),
    ("", 10, false, 78),
    ("CPS", 9, true, 50),
    ("ENDED", 7, true, 100),
    ("ASR", 9, true, 0),
    ("ACD", 8, true, 66),
    ("PDD", 8, true, 50),
    ("MOS", 6, true, 0),
    ("ENDPOINTS", 44, false, 130),
];
const SHARDS: [Column; 9] = [
    ("SHARD", 5, true, 0),
    ("CALLS", 6, true, 0),
    ("TRANS", 6, true, 0),
    ("KPPS", 6, true, 0),
    ("/WAKE", 5, true, 0),
    ("PORTS", 6, true, 50),
    ("DISC/S", 7, true, 50),
    ("CPU", 6, true, 0),
    ("", 12, false, 72),
];
const ENDED: [Column; 9] = [
    ("END", 8, false, 0),
    ("FROM", 0, false, 0),
    ("TO", 0, false, 0),
    ("IN", 10, false, 96),
    ("OUT", 9, false, 60),
    ("ST", 3, true, 0),
    ("REASON", 14, false, 70),
    ("FOR", 6, true, 0),
    ("MOS", 6, true, 50),
];

/// The least room of a column that takes what is left.
const FILL: u16 = 8;

/// A cell: its text, with the mark of its level.
type Shown = (String, Level);

fn good(text: impl Into<String>) -> Shown {
    (text.into(), Level::Good)
}

fn judged(text: &str, level: Level) -> Shown {
    (format!("{text}{}", level.mark()), level)
}

/// Draws a list.
pub(crate) fn draw(state: &mut State, tab: Tab, palette: Palette, area: Rect, buf: &mut Buffer) {
    let fit = usize::from(area.height.saturating_sub(1));
    match tab {
        Tab::Trunks => {
            let rows: Vec<_> = state.trunks().iter().map(trunk).collect();
            let first = state.first(tab, rows.len(), fit);
            list(&TRUNKS, rows, first, palette, area, buf);
        }
        Tab::Shards => {
            let shards = state.shards();
            let rows: Vec<_> = shards.iter().map(|s| shard(s, state.discards(s.shard))).collect();
            let first = state.first(tab, rows.len(), fit);
            list(&SHARDS, rows, first, palette, area, buf);
        }
        Tab::Ended => {
            let rows: Vec<_> = state.ended().iter().map(ended).collect();
            let first = state.first(tab, rows.len(), fit);
            list(&ENDED, rows, first, palette, area, buf);
        }
    }
}

fn list<const N: usize>(
    columns: &[Column; N],
    rows: Vec<[Shown; N]>,
    first: usize,
    palette: Palette,
    area: Rect,
    buf: &mut Buffer,
) {
    let rows: Vec<_> = rows.into_iter().skip(first).take(usize::from(area.height)).collect();
    let widths = fit(columns, &rows, area.width);
    let kept = |i: &usize| widths[*i].is_some();
    let cell = |i: usize, text: String, style: Style| {
        let line = Line::raw(text);
        Cell::from(if columns[i].2 { line.right_aligned() } else { line }).style(style)
    };
    let style = |i: usize, level: Level| match (columns[i].0, level) {
        ("", Level::Good) => palette.bar(),
        _ => palette.level(level),
    };
    let head = (0..N).filter(kept).map(|i| cell(i, columns[i].0.to_owned(), palette.dim()));
    let head = Row::new(head.collect::<Vec<_>>());
    let rows = rows.into_iter().map(|row| {
        let cells = row.into_iter().enumerate().filter(|(i, _)| kept(i));
        Row::new(cells.map(|(i, (text, level))| cell(i, text, style(i, level))).collect::<Vec<_>>())
    });
    let widths = (0..N).filter_map(|i| match columns[i].1 {
        0 => widths[i].map(|_| Constraint::Fill(1)),
        _ => widths[i].map(Constraint::Length),
    });
    Table::new(rows, widths.collect::<Vec<_>>()).header(head).render(area, buf);
}

/// Widths of the columns that are shown. A number is never cut: 118 must not be read as 18, so a wide
/// one widens its column, and columns that matter less give way.
fn fit<const N: usize>(columns: &[Column; N], rows: &[[Shown; N]], room: u16) -> [Option<u16>; N] {
    let mut widths = std::array::from_fn(|i| {
        let (_, width, _, least) = columns[i];
        let longest = rows.iter().map(|row| row[i].0.chars().count() as u16).max().unwrap_or(0);
        let width = if width == 0 { FILL } else { width.max(longest) };
        (least <= room).then_some(width)
    });
    loop {
        let needed: u16 = widths.iter().flatten().map(|w| w + 1).sum();
        let least = (0..N).filter(|i| widths[*i].is_some() && columns[*i].3 > 0);
        match least.max_by_key(|i| columns[*i].3) {
            Some(i) if needed > room + 1 => widths[i] = None,
            _ => return widths,
        }
    }
}

fn trunk(t: &TrunkLine) -> [Shown; 10] {
    let calls = judge::fill(t.calls as f64, f64::from(t.capacity));
    let cps = judge::fill(t.cps, f64::from(t.cps_limit));
    [
        good(safe(&t.name)),
        judged(&format!("{}/{}", t.calls, t.capacity), calls),
        (bar(t.calls as f64, f64::from(t.capacity), 10), calls),
        judged(&format!("{}/{}", rate(t.cps), t.cps_limit), cps),
        good(count(t.ended)),
        judged(&percent(t.asr), judge::asr(t.asr, t.ended)),
        good(seconds(t.acd_s)),
        judged(&millis(t.pdd_ms), judge::pdd(t.pdd_ms)),
        judged(&score(t.mos), judge::mos(t.mos)),
        good(cut(&t.endpoints.join(", "), 44)),
    ]
}

fn shard(s: &ShardLine, discards: u64) -> [Shown; 9] {
    let cpu = judge::cpu(s.cpu);
    [
        good(s.shard.to_string()),
        good(s.calls.to_string()),
        good(s.transactions.to_string()),
        good(rate(s.kpps)),
        good(rate(s.per_wake)),
        good(s.ports_in_use.to_string()),
        judged(&discards.to_string(), judge::discards(discards as f64, s.kpps)),
        judged(&format!("{:.0}%", s.cpu), cpu),
        (bar(s.cpu, 100.0, 12), cpu),
    ]
}

fn ended(ended: &Ended) -> [Shown; 9] {
    let call = &ended.call;
    let worst = call.mos.iter().flatten().copied().reduce(f64::min);
    let lasted = |at: u64| match ended.at.saturating_sub(at) / 1000 {
        s @ 0..3600 => duration(s),
        s => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    };
    let failed = if call.status >= 500 { Level::Warn } else { Level::Good };
    [
        good(clock(ended.at)),
        good(safe(&call.from)),
        good(safe(&call.to)),
        good(cut(&call.trunk_in, 10)),
        good(cut(call.trunk_out.as_deref().unwrap_or(NONE), 9)),
        (call.status.to_string(), failed),
        good(cut(if call.reason.is_empty() { NONE } else { &call.reason }, 14)),
        good(call.answer_at_ms.map_or_else(|| NONE.to_owned(), lasted)),
        judged(&score(worst), judge::mos(worst)),
    ]
}

/// How full: `######....` of a limit.
fn bar(used: f64, limit: f64, width: usize) -> String {
    let share = if limit > 0.0 { (used / limit).clamp(0.0, 1.0) } else { 0.0 };
    let mut full = (share * width as f64).round() as usize;
    if used > 0.0 {
        full = full.max(1);
    }
    format!("{}{}", "\u{2588}".repeat(full), "\u{2591}".repeat(width - full.min(width)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn numbers_are_never_cut() {
        let mut line = samples::trunks().remove(0);
        (line.cps, line.cps_limit, line.calls, line.capacity) =
            (12_345.0, 100_000, 123_456, 999_999);
        for room in 40..160 {
            let widths = fit(&TRUNKS, &[trunk(&line)], room);
            let needed: u16 = widths.iter().flatten().map(|w| w + 1).sum();
            assert!(needed <= room + 1, "{room}");
            let cps = widths[3];
            assert!(cps.is_none_or(|w| w == 12), "{cps:?}");
        }
    }

    #[test]
    fn one_call_is_seen_and_more_than_all_is_all() {
        assert_eq!(bar(0.0, 100.0, 4), "░░░░");
        assert_eq!(bar(1.0, 1000.0, 4), "█░░░");
        assert_eq!(bar(500.0, 100.0, 4), "████");
        assert_eq!(bar(5.0, 0.0, 4), "█░░░");
    }
}
