//! `sbcctl config reload`: the engine reads its configuration again.

use super::{Context, print, print_json};
use crate::engine::read;
use crate::format::{plural, safe};
use crate::problem::Problem;
use control::frame::{Op, ReloadLine};
use std::time::Duration;

/// A file of a million routes takes seconds to read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for it, and tells what has changed.
pub(crate) fn reload(context: &Context, check: bool) -> Result<(), Problem> {
    let result = context.engine()?.ask_within(Op::Reload { check }, PATIENCE)?;
    if context.json {
        return print_json(&result);
    }
    let line: ReloadLine = read(&result)?;
    print(&render(&line))
}

fn render(line: &ReloadLine) -> String {
    let mut lines = vec![if line.published {
        format!("configuration {} is in force", line.generation)
    } else {
        format!("it can be loaded; configuration {} stays in force", line.generation)
    }];
    let counts = (plural(line.trunks as u64, "trunk"), plural(line.routes as u64, "route"));
    lines.push(format!("  {}, {}", counts.0, counts.1));
    let mut names = |what: &str, names: &[String], note: &str| {
        if !names.is_empty() {
            lines.push(format!("  {what}: {}{note}", safe(&names.join(", "))));
        }
    };
    names("added", &line.trunks_added, "");
    names("changed", &line.trunks_changed, "");
    names("removed", &line.trunks_removed, " (calls on it go on)");
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::golden;

    #[test]
    fn what_has_changed() {
        let line = ReloadLine {
            generation: 3,
            published: true,
            trunks_added: vec!["carrier-d".into()],
            trunks_removed: vec!["carrier-a".into()],
            trunks_changed: vec!["carrier-b".into(), "carrier-c".into()],
            trunks: 4,
            routes: 1,
        };
        golden("config-reload", &render(&line));
        let same = ReloadLine { generation: 3, trunks: 4, routes: 12, ..ReloadLine::default() };
        golden("config-check", &render(&same));
    }
}
