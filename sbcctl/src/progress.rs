//! How far long work is: a line on the terminal that is gone when it is done. Nothing for work that is short,
//! and nothing where no terminal looks on.

use std::io::{IsTerminal, Write};

/// Work on fewer bytes is over before a line is read.
const WORTH_IT: u64 = 4 << 20;
/// Cells of the bar.
const WIDTH: usize = 30;

/// A bar.
pub(crate) struct Progress<'a> {
    what: &'a str,
    total: u64,
    shown: Option<u64>,
}

impl<'a> Progress<'a> {
    /// For work on so many bytes.
    pub(crate) fn new(what: &'a str, total: u64) -> Progress<'a> {
        let is_seen = total >= WORTH_IT && std::io::stderr().is_terminal();
        Progress { what, total, shown: is_seen.then_some(0) }
    }

    /// So many bytes are done.
    pub(crate) fn at(&mut self, done: u64) {
        let percent = percent(done, self.total);
        if self.shown.is_some_and(|shown| percent > shown) {
            self.shown = Some(percent);
            // Nothing depends on it.
            let _unseen = write!(std::io::stderr(), "\r{}", bar(self.what, percent));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown.is_some_and(|shown| shown > 0) {
            let _unseen = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    (done.saturating_mul(100) / total.max(1)).min(100)
}

fn bar(what: &str, percent: u64) -> String {
    let full = WIDTH * percent as usize / 100;
    format!("{what} [{}{}] {percent:>3} %", "#".repeat(full), " ".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(
            bar("reading a.csv", percent(0, 10)),
            format!("reading a.csv [{}]   0 %", " ".repeat(30))
        );
        assert_eq!(
            bar("x", percent(5, 10)),
            format!("x [{}{}]  50 %", "#".repeat(15), " ".repeat(15))
        );
        assert_eq!(percent(11, 10), 100);
        assert_eq!(percent(1, 0), 100);
    }
}
