//! What `top` knows and what its user chose. It neither draws nor reads a socket.

use super::feed::{Ended, Sample};
use control::frame::{ShardLine, TrunkLine};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;

/// Seconds of history: five minutes.
const HISTORY: usize = 300;
/// Ended calls kept.
const ENDED: usize = 200;

/// The lists below the numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    /// Trunks.
    #[default]
    Trunks,
    /// Shards.
    Shards,
    /// Calls that ended.
    Ended,
}

impl Tab {
    /// All of them, in order.
    pub(crate) const ALL: [Tab; 3] = [Tab::Trunks, Tab::Shards, Tab::Ended];

    /// Its title.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Tab::Trunks => "trunks",
            Tab::Shards => "shards",
            Tab::Ended => "ended calls",
        }
    }

    /// Names of the ways to sort it; the first is where it begins.
    pub(crate) fn sorts(self) -> &'static [&'static str] {
        match self {
            Tab::Trunks => &["as configured", "calls", "CPS", "worst ASR", "worst MOS"],
            Tab::Shards => &["number", "CPU", "calls", "discards"],
            Tab::Ended => &["newest", "refused first", "worst MOS"],
        }
    }

    fn index(self) -> usize {
        Tab::ALL.iter().position(|t| *t == self).unwrap_or(0)
    }
}

/// One second of history.
#[derive(Copy, Clone, Default)]
pub(crate) struct Point {
    /// Calls held.
    pub(crate) calls: f64,
    /// New calls per second.
    pub(crate) cps: f64,
    /// Media packets per second, thousands.
    pub(crate) kpps: f64,
}

/// Everything that is drawn from.
#[derive(Default)]
pub(crate) struct State {
    latest: Option<Sample>,
    /// What is shown while paused.
    held: Option<Sample>,
    /// One point a second, the newest last.
    pub(crate) history: VecDeque<Point>,
    /// Seconds since the start, history that was forgotten included.
    pub(crate) seconds: usize,
    ended: VecDeque<Ended>,
    /// Calls that ended while paused.
    waiting: VecDeque<Ended>,
    /// Per shard: discards at the last sample, and in the second before it.
    discards: Vec<(u64, u64)>,
    /// Why there is no engine, while there is none.
    pub(crate) gone: Option<String>,
    /// The list that keys act on.
    pub(crate) tab: Tab,
    sort: [usize; 3],
    /// First line shown, per list.
    pub(crate) scroll: [usize; 3],
    /// Whether the numbers stand still.
    pub(crate) paused: bool,
    /// Whether the help is shown.
    pub(crate) help: bool,
    /// Whether to end.
    pub(crate) quit: bool,
}

impl State {
    /// Another second.
    pub(crate) fn take(&mut self, mut sample: Sample) {
        self.gone = None;
        self.history.push_back(Point {
            calls: sample.status.calls as f64,
            cps: sample.status.cps,
            kpps: sample.status.kpps,
        });
        self.seconds += 1;
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.discards = count_discards(&self.discards, &sample.shards);
        self.waiting.extend(sample.ended.drain(..));
        if !self.paused {
            self.ended.append(&mut self.waiting);
        }
        for calls in [&mut self.waiting, &mut self.ended] {
            calls.drain(..calls.len().saturating_sub(ENDED));
        }
        self.latest = Some(sample);
    }

    /// What to show of the node; nothing before the first answer.
    pub(crate) fn sample(&self) -> Option<&Sample> {
        if self.paused { self.held.as_ref() } else { self.latest.as_ref() }
    }

    /// Media packets that a shard discarded in the last second.
    pub(crate) fn discards(&self, shard: usize) -> u64 {
        self.discards.get(shard).map_or(0, |d| d.1)
    }

    /// The way a list is sorted.
    pub(crate) fn sort(&self, tab: Tab) -> &'static str {
        tab.sorts()[self.sort[tab.index()] % tab.sorts().len()]
    }

    /// First line shown of a list of so many, of which so many fit.
    pub(crate) fn first(&mut self, tab: Tab, lines: usize, fit: usize) -> usize {
        let scroll = &mut self.scroll[tab.index()];
        *scroll = (*scroll).min(lines.saturating_sub(fit));
        *scroll
    }

    /// Trunks in the order wanted.
    pub(crate) fn trunks(&self) -> Vec<TrunkLine> {
        let mut trunks = self.sample().map(|s| s.trunks.clone()).unwrap_or_default();
        let worst = |v: Option<f64>| v.unwrap_or(f64::INFINITY);
        match self.sort(Tab::Trunks) {
            "calls" => trunks.sort_by_key(|t| std::cmp::Reverse(t.calls)),
            "CPS" => trunks.sort_by(|a, b| b.cps.total_cmp(&a.cps)),
            "worst ASR" => trunks.sort_by(|a, b| worst(a.asr).total_cmp(&worst(b.asr))),
            "worst MOS" => trunks.sort_by(|a, b| worst(a.mos).total_cmp(&worst(b.mos))),
            _ => {}
        }
        trunks
    }

    /// Shards in the order wanted.
    pub(crate) fn shards(&self) -> Vec<ShardLine> {
        let mut shards = self.sample().map(|s| s.shards.clone()).unwrap_or_default();
        match self.sort(Tab::Shards) {
            "CPU" => shards.sort_by(|a, b| b.cpu.total_cmp(&a.cpu)),
            "calls" => shards.sort_by_key(|s| std::cmp::Reverse(s.calls)),
            "discards" => shards.sort_by_key(|s| std::cmp::Reverse(self.discards(s.shard))),
            _ => {}
        }
        shards
    }

    /// Ended calls in the order wanted, the newest first among equals.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        let mut calls: Vec<_> = self.ended.iter().rev().cloned().collect();
        let score = |e: &Ended| e.call.mos.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        match self.sort(Tab::Ended) {
            "refused first" => calls.sort_by_key(|e| e.call.answer_at_ms.is_some()),
            "worst MOS" => calls.sort_by(|a, b| score(a).total_cmp(&score(b))),
            _ => {}
        }
        calls
    }

    /// A key was pressed.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "of all the keys there are, these mean something"
    )]
    pub(crate) fn key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.quit |= key.code == KeyCode::Char('c');
            return;
        }
        if std::mem::take(&mut self.help) && key.code != KeyCode::Char('q') {
            return;
        }
        let tab = self.tab.index();
        let step = |by: usize| Tab::ALL[(tab + by) % Tab::ALL.len()];
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => self.quit = true,
            KeyCode::Char('h' | '?') => self.help = true,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('s') => self.sort[tab] = (self.sort[tab] + 1) % self.tab.sorts().len(),
            KeyCode::Tab | KeyCode::Right => self.tab = step(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = step(2),
            KeyCode::Char(c @ '1'..='3') => self.tab = Tab::ALL[c as usize - '1' as usize],
            KeyCode::Down => self.scroll[tab] += 1,
            KeyCode::Up => self.scroll[tab] = self.scroll[tab].saturating_sub(1),
            KeyCode::PageDown => self.scroll[tab] += 10,
            KeyCode::PageUp => self.scroll[tab] = self.scroll[tab].saturating_sub(10),
            KeyCode::Home => self.scroll[tab] = 0,
            _ => {}
        }
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        self.held = None;
        if self.paused {
            self.held = self.latest.as_ref().map(|s| Sample {
                status: s.status.clone(),
                trunks: s.trunks.clone(),
                shards: s.shards.clone(),
                ended: Vec::new(),
                raw: s.raw.clone(),
            });
        }
    }
}

/// Counters that fell belong to an engine that was started anew.
fn count_discards(before: &[(u64, u64)], shards: &[ShardLine]) -> Vec<(u64, u64)> {
    let one = |s: &ShardLine| {
        let last = before.get(s.shard).map_or(s.discarded, |b| b.0);
        (s.discarded, s.discarded.saturating_sub(last))
    };
    shards.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn press(state: &mut State, code: KeyCode) {
        state.key(KeyEvent::from(code));
    }

    #[test]
    fn keys_choose_the_list_and_its_order() {
        let mut state = State::default();
        state.take(Sample::of(samples::status(), samples::trunks(), samples::shards()));
        let names = |s: &State| s.trunks().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&state)[2], "cheap-route");
        (0..3).for_each(|_| press(&mut state, KeyCode::Char('s')));
        assert_eq!((state.sort(Tab::Trunks), &*names(&state)[0]), ("worst ASR", "cheap-route"));
        press(&mut state, KeyCode::Tab);
        press(&mut state, KeyCode::Char('s'));
        assert_eq!((state.tab, state.shards()[0].shard), (Tab::Shards, 1));
        press(&mut state, KeyCode::Left);
        press(&mut state, KeyCode::Left);
        assert_eq!(state.tab, Tab::Ended);
        press(&mut state, KeyCode::Char('h'));
        press(&mut state, KeyCode::Char('s'));
        assert!(!state.help && !state.quit, "a key closes the help and does nothing else");
    }

    #[test]
    fn discards_of_a_new_engine_start_over() {
        let shard = |discarded| ShardLine { discarded, ..ShardLine::default() };
        let first = count_discards(&[], &[shard(900)]);
        assert_eq!(first, [(900, 0)]);
        let second = count_discards(&first, &[shard(950)]);
        assert_eq!(second, [(950, 50)]);
        assert_eq!(count_discards(&second, &[shard(3)]), [(3, 0)]);
    }

    #[test]
    fn history_and_lists_are_bounded() {
        let mut state = State::default();
        for _ in 0..400 {
            let mut sample = Sample::of(samples::status(), Vec::new(), Vec::new());
            sample.ended = Ended::all(samples::ended(), samples::NOW);
            state.take(sample);
        }
        assert_eq!((state.history.len(), state.ended().len()), (HISTORY, ENDED));
        state.scroll[2] = 9999;
        assert_eq!(state.first(Tab::Ended, 200, 10), 190);
    }
}
