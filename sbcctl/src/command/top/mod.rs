//! `sbcctl top`: a screen to leave open. A thread asks the engine once a second; this one draws.

mod feed;
mod lists;
mod screen;
mod state;

use super::{Context, print, print_json};
use crate::format::now_ms;
use crate::paint::Paint;
use crate::problem::Problem;
use feed::{Feed, Update};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal;
use serde_json::json;
use state::State;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

/// How long keys may wait for the screen, and the screen for news.
const TURN: Duration = Duration::from_millis(100);
/// Size of a frame where there is no terminal.
const SIZE: (u16, u16) = (80, 24);

/// Draws until asked to quit; or one frame.
pub(crate) fn run(context: &Context, once: bool, size: Option<(u16, u16)>) -> Result<(), Problem> {
    let mut feed = Feed::connect(&context.socket)?;
    if once || context.json {
        let sample = feed.sample()?;
        if context.json {
            let (status, trunks, shards) = sample.raw;
            return print_json(&json!({ "status": status, "trunks": trunks, "shards": shards }));
        }
        let mut state = State::default();
        state.take(sample);
        let terminal = || std::io::stdout().is_terminal().then(|| terminal::size().ok()).flatten();
        return print(&frame(&mut state, size.or_else(terminal).unwrap_or(SIZE), now_ms()));
    }
    if !std::io::stdout().is_terminal() {
        return Err(Problem::Usage(
            "top needs a terminal; `sbcctl top --once` prints one frame".to_owned(),
        ));
    }
    // One update in the channel, one in the making: a terminal that does not read holds nothing up.
    let (sender, updates) = sync_channel(1);
    let socket = context.socket.clone();
    std::thread::spawn(move || feed.run(&socket, &sender));
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, context.paint, &updates);
    ratatui::try_restore()?;
    ended
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    paint: Paint,
    updates: &Receiver<Update>,
) -> Result<(), Problem> {
    let mut state = State::default();
    let mut dirty = true;
    while !state.quit {
        loop {
            match updates.try_recv() {
                Ok(Update::Sample(sample)) => state.take(*sample),
                Ok(Update::Gone(why)) => state.gone = Some(why),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Problem::Ended),
            }
            dirty = true;
        }
        if dirty {
            terminal.draw(|frame| {
                let area = frame.area();
                screen::draw(&mut state, paint, now_ms(), area, frame.buffer_mut());
            })?;
        }
        dirty = event::poll(TURN)?;
        if dirty {
            // Anything but a key, a new size above all, is drawn for and nothing else.
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                state.key(key);
            }
        }
    }
    Ok(())
}

/// A frame as text.
fn frame(state: &mut State, (width, height): (u16, u16), now: u64) -> String {
    let area = ratatui::layout::Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    screen::draw(state, Paint { on: false }, now, area, &mut buffer);
    let row = |y| {
        let cells: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        cells.trim_end().to_owned()
    };
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW, golden};
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    /// Two minutes of a node that gets busier.
    fn busy() -> State {
        let mut state = State::default();
        for second in 0..120u64 {
            let mut sample =
                feed::Sample::of(samples::status(), samples::trunks(), samples::shards());
            sample.status.calls = 600 + second * 7;
            sample.status.cps = 20.0 + (second % 30) as f64;
            sample.status.kpps = second as f64;
            sample.shards[1].discarded += second * 2000;
            let ended = if second % 20 == 0 { samples::ended() } else { Vec::new() };
            sample.ended = feed::Ended::all(ended, NOW - (120 - second) * 1000);
            state.take(sample);
        }
        state
    }

    fn press(state: &mut State, keys: &str) {
        for c in keys.chars() {
            let code = if c == '\t' { KeyCode::Tab } else { KeyCode::Char(c) };
            state.key(KeyEvent::from(code));
        }
    }

    #[test]
    fn frames_of_a_busy_node() {
        golden("top-80x24", &frame(&mut busy(), (80, 24), NOW));
        golden("top-140x40", &frame(&mut busy(), (140, 40), NOW));
    }

    #[test]
    fn other_tabs_of_a_small_screen() {
        let mut state = busy();
        press(&mut state, "\t");
        golden("top-80x24-shards", &frame(&mut state, (80, 24), NOW));
        press(&mut state, "\t");
        golden("top-80x24-ended", &frame(&mut state, (80, 24), NOW));
        press(&mut state, "h");
        golden("top-80x24-help", &frame(&mut state, (80, 24), NOW));
    }

    #[test]
    fn bad_nights() {
        let mut state = busy();
        state.take(feed::Sample::of(samples::troubled(), samples::trunks(), samples::shards()));
        golden("top-80x24-troubled", &frame(&mut state, (80, 24), NOW));
        state.gone = Some("sbcd is not running".to_owned());
        golden("top-80x24-gone", &frame(&mut state, (80, 24), NOW));
    }

    #[test]
    fn every_size_is_drawn() {
        let mut state = busy();
        for width in (0..160).step_by(7) {
            for height in 0..50 {
                let text = frame(&mut state, (width, height), NOW);
                assert!(text.lines().count() <= usize::from(height), "{width}x{height}");
            }
        }
        golden("top-empty", &frame(&mut State::default(), (80, 12), NOW));
    }

    #[test]
    fn a_pause_holds_the_numbers_and_not_the_history() {
        let mut state = busy();
        press(&mut state, "p");
        let before = state.sample().map(|s| s.status.calls);
        state.take(feed::Sample::of(samples::troubled(), Vec::new(), Vec::new()));
        assert_eq!(state.sample().map(|s| s.status.calls), before);
        press(&mut state, "p");
        assert_eq!(state.sample().map(|s| s.status.draining), Some(true));
        press(&mut state, "q");
        assert!(state.quit);
    }
}
