//! CDR files: one JSON object per line, each CDR once.
//!
//! `cdr-YYYYMMDD-HHMMSS-n.ndjson`, begun anew by size and by age. Every line carries the CDR's `id`; at
//! start the torn end of the newest file is cut off and the ids of the newest lines are read, so that
//! frames an earlier process left in the region, in a segment or in both are not written twice.

use super::scribe::Sink;
use base::ShardId;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Lines of at least this many bytes are remembered at start; a batch of the scribe is smaller.
const REMEMBER: u64 = 16 << 20;
/// Lines held while the disk refuses them; what comes later stands in the segments only.
const HELD: usize = 64 << 20;

/// Writes CDR files out of the frames that `render` turns into a line.
pub struct CdrFiles<R> {
    dir: PathBuf,
    render: R,
    size: u64,
    age: Duration,
    open: Option<Open>,
    /// Lines of this batch that are not written yet.
    lines: Vec<u8>,
    /// Ids in the files, while frames of an earlier process come that may be among them.
    known: Option<HashSet<String>>,
}

struct Open {
    file: File,
    len: u64,
    since: Instant,
}

impl<R: FnMut(&[u8]) -> Option<String>> CdrFiles<R> {
    /// CDR files in `dir`, begun anew at `size` bytes or after `age`; mends what a crash tore.
    ///
    /// `render` gives a frame's line without its end, or `None` when a frame is not a CDR.
    pub fn open(dir: &Path, size: u64, age: Duration, render: R) -> io::Result<CdrFiles<R>> {
        std::fs::create_dir_all(dir)?;
        let known = Some(mend(dir)?);
        Ok(CdrFiles {
            dir: dir.to_path_buf(),
            render,
            size,
            age,
            open: None,
            lines: Vec::new(),
            known,
        })
    }

    fn current(&mut self) -> io::Result<&mut Open> {
        let stale = |open: &Open| open.len >= self.size || open.since.elapsed() >= self.age;
        if self.open.as_ref().is_some_and(stale) {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        Ok(self.open.insert(open))
    }

    fn begin(&self) -> io::Result<Open> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let stamp = stamp(now.map_or(0, |d| d.as_secs()));
        let mut n = 0u32;
        loop {
            let name = self.dir.join(format!("cdr-{stamp}-{n}.ndjson"));
            match OpenOptions::new().append(true).create_new(true).open(name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => n += 1,
                made => {
                    let file = made?;
                    File::open(&self.dir)?.sync_all()?;
                    let since = Instant::now();
                    return Ok(Open { file, len: 0, since });
                }
            }
        }
    }
}

impl<R: FnMut(&[u8]) -> Option<String>> Sink for CdrFiles<R> {
    fn frame(&mut self, _shard: ShardId, frame: &[u8]) {
        let Some(line) = (self.render)(frame) else {
            return;
        };
        let known = self.known.as_mut();
        let written = known.is_some_and(|known| id(&line).is_some_and(|id| !known.insert(id)));
        if !written && self.lines.len() < HELD {
            self.lines.extend_from_slice(line.as_bytes());
            self.lines.push(b'\n');
        }
    }

    fn recovered(&mut self) {
        self.known = None;
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        let written = self.current().and_then(|open| {
            let written = open.file.write_all(&lines).and_then(|()| open.file.sync_data());
            match written {
                Ok(()) => open.len += lines.len() as u64,
                // Half a line must not stay; if it does, the next start cuts it off.
                Err(_) => drop(open.file.set_len(open.len)),
            }
            written
        });
        self.lines = lines;
        if written.is_ok() {
            self.lines.clear();
        } else {
            self.open = None;
        }
        written
    }
}

/// The `id` of a line.
fn id(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    value.get("id")?.as_str().map(String::from)
}

/// Cuts torn ends off the newest files and reads the ids in them.
fn mend(dir: &Path) -> io::Result<HashSet<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if let Some(stem) = name.strip_prefix("cdr-").and_then(|n| n.strip_suffix(".ndjson")) {
            let (stamp, n) = stem.rsplit_once('-').unwrap_or((stem, "0"));
            names.push((String::from(stamp), n.parse::<u32>().unwrap_or(0), path));
        }
    }
    names.sort();
    let (mut known, mut seen) = (HashSet::new(), 0);
    for (.., path) in names.iter().rev() {
        let bytes = std::fs::read(path)?;
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        if end < bytes.len() {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(end as u64)?;
            file.sync_data()?;
        }
        let text = String::from_utf8_lossy(&bytes[..end]);
        known.extend(text.lines().filter_map(id));
        seen += end as u64;
        if seen >= REMEMBER {
            break;
        }
    }
    Ok(known)
}

/// Seconds since 1970 as `YYYYMMDD-HHMMSS`, UTC (civil-from-days, proleptic Gregorian).
fn stamp(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}{month:02}{day:02}-{h:02}{m:02}{s:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    fn render(frame: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(frame).ok()?;
        text.starts_with("stop").then(|| format!("{{\"id\":\"{text}\",\"n\":1}}"))
    }

    fn write(dir: &Path, size: u64, frames: &[&str]) {
        let mut files = CdrFiles::open(dir, size, Duration::from_secs(60), render).unwrap();
        for frame in frames {
            files.frame(ShardId(0), frame.as_bytes());
            files.sync().unwrap();
        }
    }

    fn ids(dir: &Path) -> Vec<String> {
        let mut ids: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .flat_map(|e| {
                let text = std::fs::read_to_string(e.unwrap().path()).unwrap();
                text.lines().map(|l| id(l).unwrap()).collect::<Vec<_>>()
            })
            .collect();
        ids.sort();
        ids
    }

    #[test]
    fn each_cdr_is_written_once_across_restarts() {
        let dir = scratch("cdr");
        write(&dir, 1 << 20, &["start1", "stop1", "stop2"]);
        write(&dir, 1 << 20, &["stop1", "stop2", "stop3"]);
        assert_eq!(ids(&dir), ["stop1", "stop2", "stop3"]);
    }

    #[test]
    fn files_are_begun_anew_by_size() {
        let dir = scratch("rotate");
        write(&dir, 40, &["stop1", "stop2", "stop3", "stop4", "stop5"]);
        assert_eq!(ids(&dir).len(), 5);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_and_written_again() {
        let dir = scratch("torn-line");
        let whole = "{\"id\":\"stop1\"}\n{\"id\":\"stop2\"}\n";
        for cut in 0..=whole.len() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
            std::fs::write(dir.join("cdr-20260101-000000-0.ndjson"), &whole[..cut]).unwrap();
            write(&dir, 1 << 20, &["stop1", "stop2"]);
            assert_eq!(ids(&dir), ["stop1", "stop2"], "cut at {cut}");
        }
    }

    #[test]
    fn stamps_are_calendar_dates() {
        assert_eq!(stamp(0), "19700101-000000");
        assert_eq!(stamp(951_827_696), "20000229-123456");
        assert_eq!(stamp(1_767_225_599), "20251231-235959");
    }
}
