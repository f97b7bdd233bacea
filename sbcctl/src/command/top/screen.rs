//! The screen of `top`: header, numbers, history, lists. Drawn whole from [`State`] every time.

use super::lists;
use super::state::{Point, State, Tab};
use crate::format::{
    bytes, clock, count, duration, millis, percent, plural, rate, safe, score, seconds,
};
use crate::judge::{self, Level};
use crate::paint::Paint;
use control::frame::Status;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Sparkline, Widget};

/// With this many lines for lists, each has its place.
const TALL: u16 = 22;
/// What a curve is drawn of.
type Value = fn(&Point) -> f64;

/// From this width on, shards and ended calls stand side by side.
const WIDE: u16 = 120;

/// Styles that need no colour to be told apart.
#[derive(Copy, Clone)]
pub(crate) struct Palette {
    color: bool,
}

impl Palette {
    /// Of a value of some level; its mark is part of the text.
    pub(crate) fn level(self, level: Level) -> Style {
        match (level, self.color) {
            (Level::Good, _) => Style::new(),
            (Level::Warn, true) => Style::new().fg(Color::Yellow),
            (Level::Bad, true) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            (Level::Warn | Level::Bad, false) => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// Of titles and of what matters less.
    pub(crate) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn banner(self, level: Level) -> Style {
        self.level(level).add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    /// Of bars and curves.
    pub(crate) fn bar(self) -> Style {
        if self.color { Style::new().fg(Color::Cyan) } else { Style::new() }
    }
}

/// Draws everything.
pub(crate) fn draw(state: &mut State, paint: Paint, now: u64, area: Rect, buf: &mut Buffer) {
    let palette = Palette { color: paint.on };
    let history = (area.height / 5).clamp(3, 9);
    let rows = [1, 1, 2, history, 0, 1].map(|h| match h {
        0 => Constraint::Min(0),
        h => Constraint::Length(h),
    });
    let [head, words, numbers, curves, rest, foot] = Layout::vertical(rows).areas(area);
    if let Some(sample) = state.sample() {
        header(&sample.status, now, palette, head, buf);
        condition(state, &sample.status, palette, words, buf);
        figures(&sample.status, palette, numbers, buf);
        histories(state, palette, curves, buf);
        panes(state, palette, rest, buf);
    } else {
        let why = state.gone.as_deref().unwrap_or("asking the engine...");
        Paragraph::new(safe(why)).render(words, buf);
    }
    let keys = "q quit   tab next list   s sort   p pause   arrows scroll   h help";
    Line::styled(keys, palette.dim()).render(foot, buf);
    if state.help {
        help(palette, area, buf);
    }
}

fn header(s: &Status, now: u64, palette: Palette, area: Rect, buf: &mut Buffer) {
    let time = format!("{} UTC", clock(now));
    // Why this driver and not another is for `status` to tell.
    let driver = s.driver.split([',', '(']).next().unwrap_or_default().trim();
    let shards = plural(s.shards as u64, "shard");
    let up = duration(s.uptime_s);
    let about = format!("  tandem {}  up {up}  {shards} on {driver}", s.version);
    let [left, _, right] = Layout::horizontal([
        Constraint::Min(0),
        Constraint::Length(2),
        Constraint::Length(time.len() as u16),
    ])
    .areas(area);
    let name = Span::styled(safe(&s.node), palette.strong());
    Line::from(vec![name, Span::styled(safe(&about), palette.dim())]).render(left, buf);
    Line::raw(time).render(right, buf);
}

/// One line that says whether anything is wrong.
fn condition(state: &State, s: &Status, palette: Palette, area: Rect, buf: &mut Buffer) {
    let mut words = Vec::new();
    let mut add = |level: Level, text: String| {
        if !words.is_empty() {
            words.push(Span::raw("  "));
        }
        words.push(Span::styled(format!(" {text} "), palette.banner(level)));
    };
    if state.gone.is_some() {
        add(Level::Bad, "ENGINE GONE, retrying".to_owned());
    }
    if state.paused {
        add(Level::Warn, "PAUSED".to_owned());
    }
    if s.draining {
        add(Level::Warn, "DRAINING".to_owned());
    }
    for alarm in &s.alarms {
        add(Level::Bad, format!("ALARM: {}", safe(alarm)));
    }
    let well = words.is_empty();
    if well {
        words.push(Span::raw("running"));
    }
    let journal = judge::journal(s.journal_waiting);
    let waiting = format!("journal {}{}", bytes(s.journal_waiting), journal.mark());
    let counted =
        format!("{} calls since start   {} CDRs   ", count(s.calls_total), count(s.cdrs_total));
    let right = Line::from(vec![
        Span::styled(counted, palette.dim()),
        Span::styled(
            waiting,
            if journal == Level::Good { palette.dim() } else { palette.level(journal) },
        ),
    ]);
    let left = Line::from(words);
    // What is wrong has the room it needs; the counters have what is left.
    if left.width() + right.width() + 3 <= usize::from(area.width) {
        right.right_aligned().render(area, buf);
    }
    left.render(area, buf);
}

fn figures(s: &Status, palette: Palette, area: Rect, buf: &mut Buffer) {
    let good = Level::Good;
    let figures = [
        ("calls", count(s.calls), good),
        ("answered", count(s.calls_answered), good),
        ("CPS", rate(s.cps), good),
        ("ASR", percent(s.asr), judge::asr(s.asr, s.ended)),
        ("ACD", seconds(s.acd_s), good),
        ("PDD", millis(s.pdd_ms), judge::pdd(s.pdd_ms)),
        ("MOS", score(s.mos), judge::mos(s.mos)),
        ("kpps", rate(s.kpps), good),
    ];
    let cells: [Rect; 8] = Layout::horizontal([Constraint::Fill(1); 8]).areas(area);
    for ((name, value, level), cell) in figures.into_iter().zip(cells) {
        let value = format!("{value}{}", level.mark());
        let lines = vec![
            Line::styled(name, palette.dim()),
            Line::styled(value, palette.level(level).add_modifier(Modifier::BOLD)),
        ];
        Paragraph::new(lines).render(cell, buf);
    }
}

fn histories(state: &State, palette: Palette, area: Rect, buf: &mut Buffer) {
    let cells: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas(area);
    let curves: [(&str, Value); 3] =
        [("calls", |p| p.calls), ("CPS", |p| p.cps), ("kpps", |p| p.kpps)];
    for ((name, value), cell) in curves.into_iter().zip(cells) {
        curve(state, name, value, palette, cell, buf);
    }
}

/// The greatest value of every few seconds; the newest is on the right.
fn curve(state: &State, name: &str, value: Value, palette: Palette, area: Rect, buf: &mut Buffer) {
    let width = usize::from(area.width).max(1);
    let most = if width < 40 { 5 } else { 300usize.div_ceil(width) };
    let long = |each: &usize| state.history.len() / each + 1 < width;
    let each = (1..most).find(long).unwrap_or(most);
    let begin = state.seconds - state.history.len();
    // Columns are whole groups of seconds, or every bar would change at every turn.
    let newest = state.seconds.saturating_sub(1) / each;
    let mut bars = vec![None; width];
    for (i, point) in state.history.iter().enumerate() {
        let back = newest - (begin + i) / each;
        if let Some(bar) = width.checked_sub(1 + back).and_then(|at| bars.get_mut(at)) {
            let tenths = (value(point) * 10.0).round() as u64;
            *bar = Some(tenths.max(bar.unwrap_or(0)));
        }
    }
    let most = bars.iter().flatten().copied().max().unwrap_or(0);
    let top = if name == "calls" { count(most / 10) } else { rate(most as f64 / 10.0) };
    let span = duration((width * each).min(state.history.len()) as u64);
    let title = Line::from(vec![
        Span::raw(name.to_owned()),
        Span::styled(format!("  max {top} in {span}"), palette.dim()),
    ]);
    let [head, body] = split(area, 1);
    title.render(head, buf);
    let bars: Vec<_> = bars.into_iter().map(Option::unwrap_or_default).collect();
    Sparkline::default().data(&bars).max(most.max(1)).style(palette.bar()).render(body, buf);
}

/// Every list on a tall screen; on a small one the chosen list, then others if there is room.
fn panes(state: &mut State, palette: Palette, area: Rect, buf: &mut Buffer) {
    if area.height < TALL {
        return stack(state, palette, area, buf);
    }
    let wanted = |lines: usize| lines as u16 + 3;
    let trunks = wanted(state.trunks().len()).min(area.height / 2).max(6);
    let [top, below] = split(area, trunks);
    titled(state, Tab::Trunks, palette, top, buf);
    let [shards, ended] = if area.width >= WIDE {
        let halves = [Constraint::Length(58), Constraint::Min(0)];
        Layout::horizontal(halves).spacing(3).areas(below)
    } else {
        split(below, wanted(state.shards().len()).min(below.height / 2))
    };
    titled(state, Tab::Shards, palette, shards, buf);
    titled(state, Tab::Ended, palette, ended, buf);
}

/// The tabs and the chosen list; below it the others, for as long as three lines of one fit.
fn stack(state: &mut State, palette: Palette, area: Rect, buf: &mut Buffer) {
    let lines = |state: &State, tab: Tab| match tab {
        Tab::Trunks => state.trunks().len() as u16 + 1,
        Tab::Shards => state.shards().len() as u16 + 1,
        Tab::Ended => state.ended().len() as u16 + 1,
    };
    let [bar, body] = split(area, 1);
    tabs(state, palette, bar, buf);
    let [list, mut rest] = split(body, lines(state, state.tab).min(body.height));
    lists::draw(state, state.tab, palette, list, buf);
    for tab in Tab::ALL.into_iter().filter(|t| *t != state.tab).collect::<Vec<_>>() {
        if rest.height < 5 {
            break;
        }
        let [_, below] = split(rest, 1);
        let [list, left] = split(below, (lines(state, tab) + 1).min(below.height));
        titled(state, tab, palette, list, buf);
        rest = left;
    }
}

/// The first lines of an area, and the rest of it.
fn split(area: Rect, lines: u16) -> [Rect; 2] {
    Layout::vertical([Constraint::Length(lines), Constraint::Min(0)]).areas(area)
}

fn tabs(state: &State, palette: Palette, area: Rect, buf: &mut Buffer) {
    let mut spans: Vec<_> = Tab::ALL.iter().map(|tab| title(state, *tab, palette)).collect();
    spans.push(Span::styled(format!("  by {}", state.sort(state.tab)), palette.dim()));
    Line::from(spans).render(area, buf);
}

fn titled(state: &mut State, tab: Tab, palette: Palette, area: Rect, buf: &mut Buffer) {
    let [bar, body] = split(area, 1);
    let order = Span::styled(format!(" by {}", state.sort(tab)), palette.dim());
    Line::from(vec![title(state, tab, palette), order]).render(bar, buf);
    lists::draw(state, tab, palette, body, buf);
}

fn title(state: &State, tab: Tab, palette: Palette) -> Span<'static> {
    if tab == state.tab {
        Span::styled(format!("[{}] ", tab.title()), palette.strong())
    } else {
        Span::styled(format!(" {}  ", tab.title()), palette.dim())
    }
}

fn help(palette: Palette, area: Rect, buf: &mut Buffer) {
    let text = "\
q, Esc       quit
tab, 1 2 3   choose the list: trunks, shards, ended calls
s            sort the list another way
arrows       scroll it; Home goes back to its beginning
p, space     hold the numbers; the history goes on
h, ?         this help; any key closes it

CPS, kpps    new calls, thousand media packets per second
ASR ACD PDD  answered %, duration, post-dial delay: last 5 min
MOS          of the same calls: 4.0 good, below 3.6 not, 3.1 bad
!  !!        worth a look; act (docs/operate/cli.md)";
    let (width, height) = (66.min(area.width), 14.min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let frame = Rect::new(x, y, width, height);
    Clear.render(frame, buf);
    let block = Block::bordered().title(Span::styled(" help ", palette.strong()));
    Paragraph::new(text).block(block).render(frame, buf);
}
