//! The file of the last good answers: for a start while no name server answers.
//!
//! One sealed record (`base::record`), replaced as a whole. What cannot be read is ignored: it only makes
//! a start ask.

use super::{Entry, Names, seconds};
use crate::config::Dns;
use base::plain;
use base::record;
use sbc::question::{Answer, Hop, MAX_NAMES, Query};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

const VERSION: u16 = 1;
/// It is written at most this often, when something changed…
pub(super) const AT_MOST: Duration = Duration::from_secs(1);
/// … and at least this often, so that it knows how old its answers are.
pub(super) const AT_LEAST: Duration = Duration::from_secs(30);

/// One name in the file.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    query: Query,
    hops: Vec<Hop>,
    /// End of their time to live, seconds since 1970.
    until_s: i64,
}

plain!(struct Kept { query, hops, until_s });

/// The file's names; none when there is no file.
pub(super) fn read(file: &Path) -> Result<Vec<Kept>, String> {
    match std::fs::read(file) {
        Ok(bytes) => open(&bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn open(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let opened = record::open::<Vec<Kept>>(VERSION, bytes);
    opened.map(|(kept, _)| kept).map_err(|e| format!("it is damaged ({e:?})"))
}

/// Replaces the file.
pub(super) fn write(file: &Path, bytes: &[u8]) {
    let fresh = file.with_extension("new");
    let written = std::fs::write(&fresh, bytes).and_then(|()| std::fs::rename(&fresh, file));
    if let Err(error) = written {
        eprintln!("sbcd: {} cannot be written: {error}", file.display());
    }
}

impl Names {
    /// What is good, as the file has it.
    pub(super) fn keep(&self, now: Instant, wall_s: i64) -> Vec<u8> {
        let good = self.known.iter().filter(|(_, e)| !e.hops.is_empty() && e.is_usable(now));
        let kept = good.map(|(query, entry)| {
            let span = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(0);
            let left = span(entry.until.saturating_duration_since(now));
            let until_s = wall_s + left - span(now.saturating_duration_since(entry.until));
            Kept { query: query.clone(), hops: entry.hops.clone(), until_s }
        });
        let mut out = Vec::new();
        record::seal(VERSION, &kept.collect::<Vec<_>>(), &mut out);
        out
    }

    /// Takes the file's answers for names that are followed, as old as they are.
    pub(super) fn restore(&mut self, kept: Vec<Kept>, dns: &Dns, now: Instant, wall_s: i64) {
        for Kept { query, hops, until_s } in kept.into_iter().take(MAX_NAMES) {
            let Some(entry) = self.known.get_mut(&query) else { continue };
            let left = until_s.saturating_sub(wall_s).min(i64::from(dns.max_ttl_s));
            let stale = left.saturating_add(i64::from(dns.stale_s));
            let Ok(stale) = u32::try_from(stale) else { continue };
            let hops = Answer { hops, ..Answer::none(query, 0) }.bounded().hops;
            let until = now + seconds(u32::try_from(left).unwrap_or(0));
            let (families, stale_until) = (entry.families, now + seconds(stale));
            *entry = Entry { hops, until, stale_until, families, ..Entry::new(now) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_told_and_a_missing_one_is_not() {
        let mut bytes = Names::default().keep(Instant::now(), 0);
        assert!(open(&bytes).unwrap().is_empty());
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        assert!(open(&bytes).is_err() && open(b"").is_err());
        assert!(read(Path::new("/nonexistent/names")).unwrap().is_empty());
    }
}
