//! `sbcctl cdr tail`: the newest CDRs, from the files. No engine is asked, so it works when none runs.

use super::{Context, print};
use crate::format::{NONE, clock, cut, millis, seconds};
use crate::paint::Paint;
use crate::problem::Problem;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often followed files are looked at.
const EVERY: Duration = Duration::from_millis(200);
/// How much is read at a time.
const BLOCK: u64 = 64 * 1024;

/// Prints the last `lines` CDRs, then those that come if `follow`.
pub(crate) fn tail(context: &Context, lines: usize, follow: bool) -> Result<(), Problem> {
    let dir = context.run.join("cdr");
    let names = files(&dir)?;
    let mut newest = Vec::new();
    for name in names.iter().rev() {
        if newest.len() >= lines {
            break;
        }
        let mut older =
            last_lines(name, lines - newest.len()).map_err(|e| Problem::File(name.clone(), e))?;
        older.append(&mut newest);
        newest = older;
    }
    if !context.json {
        print(&context.paint.dim(&header()))?;
    }
    newest.iter().try_for_each(|line| put(context, line))?;
    if !follow {
        return Ok(());
    }
    let mut tail = match names.last() {
        Some(name) => Tail::at_end(name).map_err(|e| Problem::File(name.clone(), e))?,
        None => Tail::default(),
    };
    loop {
        for line in tail.read(&dir)? {
            put(context, &line)?;
        }
        std::thread::sleep(EVERY);
    }
}

/// CDR files, oldest first: by their time, then by their number within that second.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let missing = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    let entries = std::fs::read_dir(dir).map_err(|e| {
        let dir = dir.to_path_buf();
        if missing(&e) { Problem::NoCdrs(dir) } else { Problem::File(dir, e) }
    })?;
    let mut found: Vec<_> =
        entries.flatten().filter_map(|e| Some((key(&e.path())?, e.path()))).collect();
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn key(path: &Path) -> Option<(String, u32)> {
    let stem = path.file_name()?.to_str()?.strip_prefix("cdr-")?.strip_suffix(".ndjson")?;
    let (stamp, n) = stem.rsplit_once('-')?;
    Some((stamp.to_owned(), n.parse().ok()?))
}

/// The last whole lines of a file, read from its end.
fn last_lines(path: &Path, lines: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut begin = file.metadata()?.len();
    let mut bytes: Vec<u8> = Vec::new();
    // One line end more than lines: the one before the first of them.
    while begin > 0 && bytes.iter().filter(|b| **b == b'\n').count() <= lines {
        let size = begin.min(BLOCK);
        begin -= size;
        file.seek(SeekFrom::Start(begin))?;
        let mut block = vec![0; size as usize];
        file.read_exact(&mut block)?;
        block.append(&mut bytes);
        bytes = block;
    }
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let text = String::from_utf8_lossy(&bytes[..end]);
    let all: Vec<_> = text.lines().map(str::to_owned).collect();
    Ok(all[all.len().saturating_sub(lines)..].to_vec())
}

/// A file that is followed, and those that come after it.
#[derive(Default)]
struct Tail {
    path: Option<PathBuf>,
    at: u64,
    partial: Vec<u8>,
}

impl Tail {
    /// After the last whole line of a file.
    fn at_end(path: &Path) -> std::io::Result<Tail> {
        let bytes = std::fs::read(path)?;
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        Ok(Tail { path: Some(path.to_path_buf()), at: end as u64, partial: Vec::new() })
    }

    /// Lines that were added since the last look, in whichever files.
    fn read(&mut self, dir: &Path) -> Result<Vec<String>, Problem> {
        let mut lines = Vec::new();
        // Files are listed first: one that has a successor then is complete when it is read.
        let names = files(dir)?;
        loop {
            if let Some(path) = self.path.clone() {
                self.more(&path, &mut lines).map_err(|e| Problem::File(path, e))?;
            }
            let key_now = self.path.as_deref().and_then(key);
            let Some(next) = names.iter().find(|n| key(n) > key_now) else { return Ok(lines) };
            *self = Tail { path: Some(next.clone()), ..Tail::default() };
        }
    }

    fn more(&mut self, path: &Path, lines: &mut Vec<String>) -> std::io::Result<()> {
        let mut file = match File::open(path) {
            // Taken away by whoever collects CDRs.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let len = file.metadata()?.len();
        if len < self.at {
            // The engine cut off half a line that the disk refused.
            self.at = len;
            self.partial.clear();
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.at += file.read_to_end(&mut bytes)? as u64;
        self.partial.extend_from_slice(&bytes);
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        Ok(())
    }
}

fn put(context: &Context, line: &str) -> Result<(), Problem> {
    if context.json { print(line) } else { print(&render(context.paint, line)) }
}

fn header() -> String {
    row(["END", "FROM", "TO", "IN", "OUT", "STATUS", "REASON", "PDD", "DURATION", "MOS", "BY"]
        .map(str::to_owned))
}

/// Columns of fixed width: lines that come later must stand under those before.
fn row(cells: [String; 11]) -> String {
    let [end, from, to, trunk_in, out, status, reason, pdd, duration, mos, by] = cells;
    format!(
        "{end:<8}  {from:<16}  {to:<16}  {trunk_in:<12}  {out:<12}  {status:>6}  {reason:<18}  \
         {pdd:>6}  {duration:>8}  {mos:>9}  {by}"
    )
    .trim_end()
    .to_owned()
}

fn render(paint: Paint, line: &str) -> String {
    let Ok(cdr) = serde_json::from_str::<Value>(line) else {
        return paint.dim(&format!("-- not a CDR: {}", cut(line, 60)));
    };
    let text = |name: &str, width| match cdr.get(name).and_then(Value::as_str) {
        None | Some("") => NONE.to_owned(),
        Some(text) => cut(text, width),
    };
    let number = |name: &str| cdr.get(name).and_then(Value::as_f64);
    let score = |leg: &str| {
        let mos = cdr.pointer(&format!("/media/{leg}/mos")).and_then(Value::as_f64);
        mos.map_or_else(|| NONE.to_owned(), |m| format!("{m:.2}"))
    };
    let duration = number("duration_ms").filter(|d| *d > 0.0).map(|d| d / 1000.0);
    let mos = match (score("caller"), score("callee")) {
        (a, b) if a == NONE && b == NONE => NONE.to_owned(),
        (a, b) => format!("{a}/{b}"),
    };
    let line = row([
        cdr.get("end_at").and_then(Value::as_u64).map_or_else(|| NONE.to_owned(), clock),
        text("from", 16),
        text("to", 16),
        text("trunk_in", 12),
        text("trunk_out", 12),
        number("status").map_or_else(|| NONE.to_owned(), |s| format!("{s:.0}")),
        text("reason", 18),
        millis(number("pdd_ms")),
        seconds(duration),
        mos,
        text("released_by", 12),
    ]);
    let recovered = cdr.get("recovered").and_then(Value::as_bool) == Some(true);
    if recovered { format!("{line}  (recovered)") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::golden;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("sbcctl-{name}-{}", std::process::id()));
        let _gone = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_line_each() {
        let answered = r#"{"id":"n-1-0-1","node":"n","from":"+14155550100","to":"+442071838750","trunk_in":"retail-in","trunk_out":"carrier-a","setup_at":1767323040000,"end_at":1767323045000,"pdd_ms":812,"duration_ms":187400,"status":200,"q850":16,"reason":"caller_hung_up","released_by":"caller","media":{"caller":{"mos":4.36},"callee":{"mos":4.2}},"recovered":false}"#;
        let refused = r#"{"from":"+14155550100","to":"+44207183875012345","trunk_in":"retail-in","trunk_out":"","end_at":1767323046000,"pdd_ms":null,"duration_ms":0,"status":404,"reason":"no_route","released_by":"engine","media":{"caller":{"mos":null},"callee":{"mos":null}},"recovered":true}"#;
        let plain = Paint { on: false };
        let lines =
            [header(), render(plain, answered), render(plain, refused), render(plain, "{\"x")];
        golden("cdr-tail", &lines.join("\n"));
    }

    #[test]
    fn last_lines_are_found_over_blocks() {
        let path = scratch("last").join("cdr-20260101-000000-0.ndjson");
        let long: Vec<_> = (0..3000)
            .map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(n % 90)))
            .collect();
        std::fs::write(&path, long.join("\n") + "\n{\"torn").unwrap();
        assert_eq!(last_lines(&path, 2000).unwrap(), long[1000..]);
        assert_eq!(last_lines(&path, 1).unwrap(), long[2999..]);
        assert_eq!(last_lines(&path, 9999).unwrap(), long);
        assert!(last_lines(&path, 0).unwrap().is_empty());
    }

    #[test]
    fn follows_from_file_to_file() {
        let dir = scratch("follow");
        let file = |n: u32| dir.join(format!("cdr-20260101-000000-{n}.ndjson"));
        std::fs::write(file(9), "a\nb").unwrap();
        let mut tail = Tail::at_end(&file(9)).unwrap();
        assert!(tail.read(&dir).unwrap().is_empty());
        std::fs::write(file(9), "a\nbc\n").unwrap();
        std::fs::write(file(10), "d\n").unwrap();
        std::fs::write(file(11), "e\nf").unwrap();
        assert_eq!(tail.read(&dir).unwrap(), ["bc", "d", "e"]);
        std::fs::write(file(11), "e\n").unwrap();
        assert!(tail.read(&dir).unwrap().is_empty());
        std::fs::write(file(11), "e\ng\n").unwrap();
        assert_eq!(tail.read(&dir).unwrap(), ["g"]);
        std::fs::remove_file(file(11)).unwrap();
        std::fs::write(dir.join("cdr-20260102-000000-0.ndjson"), "h\n").unwrap();
        assert_eq!(tail.read(&dir).unwrap(), ["h"]);
    }
}
