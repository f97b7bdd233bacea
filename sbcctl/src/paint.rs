//! Colour of plain output. Colour only repeats what the text already says.

use crate::cli::When;
use crate::judge::Level;
use std::io::IsTerminal;

/// Whether to use colour.
#[derive(Copy, Clone)]
pub(crate) struct Paint {
    /// Whether it is used.
    pub(crate) on: bool,
}

impl Paint {
    /// As asked for: `auto` is on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn new(when: When) -> Paint {
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let on = match when {
            When::Auto => std::io::stdout().is_terminal() && !quiet,
            When::Always => true,
            When::Never => false,
        };
        Paint { on }
    }

    /// Text in the colour of its level; the mark for those who see none is part of the text.
    pub(crate) fn level(self, level: Level, text: &str) -> String {
        let text = format!("{text}{}", level.mark());
        match level {
            Level::Good => text,
            Level::Warn => self.code("33", &text),
            Level::Bad => self.code("1;31", &text),
        }
    }

    /// Text that matters less.
    pub(crate) fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// Text that matters more.
    pub(crate) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_red_is_marked_too() {
        assert_eq!(Paint { on: false }.level(Level::Bad, "2.9"), "2.9!!");
        assert_eq!(Paint { on: true }.level(Level::Warn, "3.4"), "\x1b[33m3.4!\x1b[0m");
        assert_eq!(Paint { on: true }.level(Level::Good, "4.4"), "4.4");
    }
}
