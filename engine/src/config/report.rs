//! What is wrong with a configuration, said so that it can be put right.
//!
//! A [`Problem`] is a place in the text, what was found there, what was expected and a suggestion. All
//! problems of a file are collected and printed the way compilers do. Knows nothing of SIP.

use core::fmt;
use core::ops::Range;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the text it is about.
    pub span: Range<usize>,
    /// What was found.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A mistake at `span`.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { span, message: message.into(), expected: None, help: None }
    }

    /// Says what would have been right.
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Problem {
        self.expected = Some(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Problem {
        self.help = Some(text.into());
        self
    }

    /// Suggests the most similar of `names`, if one is similar enough.
    #[must_use]
    pub fn did_you_mean<'a>(mut self, found: &str, names: impl Iterator<Item = &'a str>) -> Self {
        if let Some(name) = nearest(found, names) {
            self.help = Some(format!("did you mean `{name}`?"));
        }
        self
    }
}

/// Everything wrong with one file; `Display` shows it all, with the lines it is about.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    /// The file.
    pub name: String,
    /// In the order of the text.
    pub problems: Vec<Problem>,
    text: String,
}

impl ConfigErrors {
    pub(super) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> ConfigErrors {
        problems.sort_by_key(|p| (p.span.start, p.span.end));
        problems.dedup();
        ConfigErrors { name: name.into(), problems, text: text.into() }
    }

    /// Line and column, from 1, of a byte of the text; columns count characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }

    fn show(&self, problem: &Problem, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position(problem.span.start);
        let gutter = line.to_string().len();
        writeln!(f, "error: {}", problem.message)?;
        if self.text.is_empty() {
            writeln!(f, " --> {}", self.name)?;
        } else {
            writeln!(f, "{:gutter$}--> {}:{line}:{column}", "", self.name)?;
            let source = self.text.lines().nth(line - 1).unwrap_or_default().trim_end();
            let lead: String =
                source.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            let marked = self.text.get(problem.span.clone()).unwrap_or_default();
            let marked = marked.lines().next().unwrap_or_default().chars().count().max(1);
            writeln!(f, "{:gutter$} |", "")?;
            writeln!(f, "{line} | {source}")?;
            writeln!(f, "{:gutter$} | {lead}{}", "", "^".repeat(marked))?;
        }
        if let Some(expected) = &problem.expected {
            writeln!(f, "{:gutter$} = expected: {expected}", "")?;
        }
        if let Some(help) = &problem.help {
            writeln!(f, "{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            self.show(problem, f)?;
            writeln!(f)?;
        }
        match self.problems.len() {
            1 => write!(f, "1 error in {}; nothing was changed or started", self.name),
            n => write!(f, "{n} errors in {}; nothing was changed or started", self.name),
        }
    }
}

/// The most similar name, when no more than a third of its letters differ (at least one may).
pub(super) fn nearest<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|name| (distance(found, name), name));
    let (distance, name) = scored.min_by_key(|&(d, _)| d)?;
    let longest = found.chars().count().max(name.chars().count());
    (distance <= (longest / 3).max(1) && distance < longest).then_some(name)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, d) in [("", "", 0), ("", "ab", 2), ("bind", "bnid", 1), ("trunk", "trunks", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["ring_timeout_s", "bind", "cps"];
        assert_eq!(nearest("ring_timeout_ms", names.into_iter()), Some("ring_timeout_s"));
        assert_eq!(nearest("cpss", names.into_iter()), Some("cps"));
        assert_eq!(nearest("listen", names.into_iter()), None);
        assert_eq!(nearest("x", ["y"].into_iter()), None);
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let errors = ConfigErrors::new("f", "a\nö = 1\n", Vec::new());
        assert_eq!(errors.position(0), (1, 1));
        assert_eq!(errors.position(2), (2, 1));
        assert_eq!(errors.position(5), (2, 3));
        assert_eq!(errors.position(3), (2, 1), "within a character");
        assert_eq!(errors.position(999), (3, 1));
    }

    #[test]
    fn a_problem_is_shown_under_its_line() {
        let problem = Problem::new(6..9, "bad").expected("good").help("mend it");
        let shown = ConfigErrors::new("f.toml", "a = 1\nbcd = 2\n", vec![problem]).to_string();
        assert_eq!(
            shown,
            "error: bad\n --> f.toml:2:1\n  |\n2 | bcd = 2\n  | ^^^\n  = expected: good\n  \
             = help: mend it\n\n1 error in f.toml; nothing was changed or started"
        );
    }
}
