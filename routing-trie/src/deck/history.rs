//! Generations of a deck, and which of them is in force: a log that is only ever appended to.
//!
//! One line an event, time and generation in it; the state is what the lines add up to. Whoever keeps
//! the file appends whole lines, so a reader never sees half a change.

use core::fmt;

/// What happened to a deck.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A generation was imported, of so many rows.
    Imported {
        /// Its number, from 1.
        generation: u32,
        /// Rows of it.
        rows: u64,
    },
    /// A generation comes into force at a moment, seconds since the Unix epoch.
    Armed {
        /// Its number.
        generation: u32,
        /// When.
        from: i64,
    },
    /// What was armed and not in force yet is not to be.
    Disarmed,
}

/// What a deck went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Each with the moment it was written, in order.
    events: Vec<(i64, Event)>,
}

/// A line that is no event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BadHistory {
    /// Line, from 1.
    pub line: usize,
}

impl fmt::Display for BadHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the deck's history is no event", self.line)
    }
}

/// The line of an event, with its end.
fn line(at: i64, event: Event) -> String {
    match event {
        Event::Imported { generation, rows } => format!("{at} imported {generation} {rows}\n"),
        Event::Armed { generation, from } => format!("{at} armed {generation} {from}\n"),
        Event::Disarmed => format!("{at} disarmed\n"),
    }
}

impl History {
    /// Reads a log. A last line without its end was torn and does not count.
    pub fn read(text: &str) -> Result<History, BadHistory> {
        let mut events = Vec::new();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(line) = line.strip_suffix('\n') else { break };
            let bad = BadHistory { line: number + 1 };
            let words: Vec<&str> = line.split(' ').collect();
            let event = match words[..] {
                [_, "imported", g, rows] => Event::Imported {
                    generation: g.parse().map_err(|_| bad)?,
                    rows: rows.parse().map_err(|_| bad)?,
                },
                [_, "armed", g, from] => Event::Armed {
                    generation: g.parse().map_err(|_| bad)?,
                    from: from.parse().map_err(|_| bad)?,
                },
                [_, "disarmed"] => Event::Disarmed,
                _ => return Err(bad),
            };
            let at = words.first().and_then(|at| at.parse().ok()).ok_or(bad)?;
            events.push((at, event));
        }
        Ok(History { events })
    }

    /// The line to append for an event that happens now; the history counts it at once.
    pub fn append(&mut self, at: i64, event: Event) -> String {
        self.events.push((at, event));
        line(at, event)
    }

    /// Everything, in order, with the moment it was written.
    pub fn events(&self) -> &[(i64, Event)] {
        &self.events
    }

    /// Generations imported, with their rows.
    pub fn generations(&self) -> impl Iterator<Item = (u32, u64)> {
        self.events.iter().filter_map(|(_, event)| match event {
            Event::Imported { generation, rows } => Some((*generation, *rows)),
            Event::Armed { .. } | Event::Disarmed => None,
        })
    }

    /// The number of the next import.
    pub fn next_generation(&self) -> u32 {
        self.generations().map(|(g, _)| g).max().unwrap_or(0).saturating_add(1)
    }

    /// Armings that nothing took back: moment and generation, by the moment. Of two at one moment the
    /// one written later counts.
    fn armed(&self) -> Vec<(i64, u32)> {
        let mut armed: Vec<(i64, u32)> = Vec::new();
        for (at, event) in &self.events {
            match *event {
                Event::Armed { generation, from } => armed.push((from, generation)),
                Event::Disarmed => armed.retain(|(from, _)| from <= at),
                Event::Imported { .. } => {}
            }
        }
        armed.sort_by_key(|(from, _)| *from);
        armed
    }

    /// The generation in force at a moment.
    pub fn in_force(&self, at: i64) -> Option<u32> {
        self.armed().into_iter().take_while(|(from, _)| *from <= at).last().map(|(_, g)| g)
    }

    /// What is armed and not in force yet: generation and moment, the next first.
    pub fn pending(&self, at: i64) -> Vec<(u32, i64)> {
        let later = self.armed().into_iter().filter(|(from, _)| *from > at);
        later.map(|(from, generation)| (generation, from)).collect()
    }

    /// The generation that was in force before the one that is: where a rollback leads.
    pub fn previous(&self, at: i64) -> Option<u32> {
        let now = self.in_force(at)?;
        let before = self.armed().into_iter().take_while(|(from, _)| *from <= at);
        before.map(|(_, g)| g).filter(|g| *g != now).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_what_the_lines_add_up_to() {
        let mut history = History::default();
        let mut text = String::new();
        let mut write =
            |history: &mut History, at, event| text.push_str(&history.append(at, event));
        assert_eq!((history.next_generation(), history.in_force(0)), (1, None));
        write(&mut history, 10, Event::Imported { generation: 1, rows: 300_000 });
        write(&mut history, 11, Event::Armed { generation: 1, from: 11 });
        write(&mut history, 20, Event::Imported { generation: 2, rows: 300_001 });
        write(&mut history, 21, Event::Armed { generation: 2, from: 100 });
        assert_eq!((history.in_force(99), history.in_force(100)), (Some(1), Some(2)));
        assert_eq!((history.pending(50), history.previous(50)), (vec![(2, 100)], None));
        assert_eq!((history.previous(100), history.next_generation()), (Some(1), 3));
        write(&mut history, 60, Event::Disarmed);
        assert_eq!((history.in_force(100), history.pending(60)), (Some(1), vec![]));
        write(&mut history, 70, Event::Armed { generation: 2, from: 70 });
        write(&mut history, 80, Event::Armed { generation: 1, from: 80 });
        assert_eq!((history.in_force(79), history.in_force(80)), (Some(2), Some(1)));
        assert_eq!(history.previous(80), Some(2), "rolled back, and forth again");
        assert_eq!(History::read(&text), Ok(history));
    }

    #[test]
    fn torn_lines_do_not_count_and_foreign_ones_are_named() {
        let whole = "10 imported 1 5\n11 armed 1 11\n";
        for cut in 0..whole.len() {
            let read = History::read(&whole[..cut]).unwrap();
            assert_eq!(read.events().len(), usize::from(cut >= 16), "cut at {cut}");
        }
        for bad in ["x\n", "10 imported 1\n", "10 armed one 5\n", "ten disarmed\n", "\n"] {
            assert_eq!(
                History::read(&format!("{whole}{bad}")),
                Err(BadHistory { line: 3 }),
                "{bad}"
            );
        }
    }
}
