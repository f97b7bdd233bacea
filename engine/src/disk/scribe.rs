//! The scribe: brings journal frames from the shards' regions to disk, then to the CDR files.
//!
//! Group commit: every few milliseconds all frames that wait are written to the segment with one
//! fdatasync, then handed to the sink and synced there, and only then is their room given back. A frame
//! is therefore in the region, in a segment or both at any moment; after a SIGKILL the frames still in
//! the region come again and the sink knows which of them it has. After a power loss the region is gone;
//! each batch begins with a mark that says the ones before it are in the sink, so the frames behind the
//! last mark come again out of the segments. A disk that refuses holds nothing up but this thread: frames
//! stay, the room shrinks, and shards refuse calls by name.

use super::segment::{self, Segments};
use crate::io::{JournalReader, pin};
use base::ShardId;
use node::Fault;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of frames committed together at most.
const BATCH: usize = 4 << 20;
/// How long a refusing disk is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Where frames go once they are on disk.
pub trait Sink {
    /// Takes one frame; nothing has to be kept before `sync`.
    fn frame(&mut self, shard: ShardId, frame: &[u8]);
    /// What comes from now on is new: everything an earlier process left has been given.
    fn recovered(&mut self);
    /// Keeps what was taken. After an error it is called again without new frames.
    fn sync(&mut self) -> io::Result<()>;
}

/// What happens to calls when the disk refuses CDRs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Frames wait in the region; when it is full, new calls are refused.
    Refuse,
    /// Frames are dropped and counted when the region is half full: calls go on unbilled.
    ContinueUnbilled,
}

base::counters! {
    /// What the scribe counts.
    pub struct ScribeCounters {
        /// Journal frames brought to disk.
        frames: counter "tandem_journal_frames_total",
        /// Group commits.
        commits: counter "tandem_journal_commits_total",
        /// Commits that the disk refused.
        failures: counter "tandem_journal_failures_total",
        /// Frames dropped under `on_full = continue_unbilled`.
        unbilled: counter "tandem_journal_unbilled_total",
        /// 1 while the disk refuses frames.
        failing: gauge "tandem_journal_failing",
        /// Bytes of frames that wait in the regions.
        waiting: gauge "tandem_journal_waiting_bytes",
        /// Frames of open calls taken along from a segment that was deleted.
        carried: counter "tandem_journal_carried_total",
        /// Open calls taken along no longer, because stop frames of too many never came.
        forgotten: counter "tandem_journal_forgotten_total",
    }
}

/// Frames on their way.
#[derive(Default)]
struct Batch {
    /// As the segment holds them.
    bytes: Vec<u8>,
    frames: Vec<(ShardId, Range<usize>)>,
    on_disk: bool,
    given: bool,
}

/// The scribe's work, on its own thread once it is spawned.
pub struct Scribe<S> {
    journals: Vec<(ShardId, JournalReader)>,
    segments: Segments,
    sink: S,
    on_full: OnFull,
    interval: Duration,
    counters: Arc<ScribeCounters>,
    batch: Batch,
    scratch: Vec<u8>,
}

impl<S: Sink> Scribe<S> {
    /// A scribe for these journals that commits every `interval`.
    pub fn new(
        journals: Vec<(ShardId, JournalReader)>,
        segments: Segments,
        sink: S,
        on_full: OnFull,
        interval: Duration,
    ) -> Scribe<S> {
        Scribe {
            journals,
            segments,
            sink,
            on_full,
            interval,
            counters: Arc::new(ScribeCounters::default()),
            batch: Batch::default(),
            scratch: Vec::new(),
        }
    }

    /// Counters, for the gate to read.
    pub fn counters(&self) -> &Arc<ScribeCounters> {
        &self.counters
    }

    /// Gives the sink frames of the segments that it may not have got before the power went. Call first.
    pub fn settle(&mut self, frames: &[(ShardId, Vec<u8>)]) -> Result<(), Fault> {
        frames.iter().for_each(|(shard, frame)| self.sink.frame(*shard, frame));
        self.sink.sync().map_err(|e| fault(&e))
    }

    /// Brings the frames of a process that died to disk and to the sink. Call before the region's past
    /// is declared done.
    pub fn recover(&mut self, shard: ShardId, frames: &[Vec<u8>]) -> Result<(), Fault> {
        for frame in frames {
            self.batch.push(shard, frame);
        }
        let brought = self.bring();
        self.batch = Batch::default();
        brought.map_err(|e| fault(&e))
    }

    /// One commit of everything that waits; how many frames were brought to disk.
    pub fn turn(&mut self) -> Result<usize, Fault> {
        if self.batch.frames.is_empty() {
            self.gather();
        }
        let waiting = self.journals.iter().map(|(_, j)| j.waiting()).sum();
        self.counters.waiting.set(waiting);
        let frames = self.batch.frames.len();
        if frames == 0 {
            return Ok(0);
        }
        if let Err(e) = self.bring() {
            self.counters.failures.add(1);
            self.counters.failing.set(1);
            self.give_up_when_told();
            return Err(fault(&e));
        }
        self.counters.failing.set(0);
        self.counters.frames.add(frames as u64);
        self.counters.commits.add(1);
        self.finish();
        Ok(frames)
    }

    fn gather(&mut self) {
        for (shard, journal) in &mut self.journals {
            while self.batch.bytes.len() < BATCH {
                self.scratch.clear();
                if journal.take(&mut self.scratch).is_none() {
                    break;
                }
                self.batch.push(*shard, &self.scratch);
            }
        }
    }

    /// Segment, then sink; goes on where an error stopped it.
    fn bring(&mut self) -> io::Result<()> {
        let batch = &mut self.batch;
        if !batch.on_disk && !batch.frames.is_empty() {
            self.counters.carried.add(self.segments.commit(&batch.bytes)?);
            batch.on_disk = true;
        }
        if !batch.given {
            for (shard, frame) in &batch.frames {
                self.sink.frame(*shard, &batch.bytes[frame.clone()]);
            }
            batch.given = true;
        }
        self.sink.sync()
    }

    /// The batch is dealt with: its room goes back to the shards.
    fn finish(&mut self) {
        for (_, frame) in &self.batch.frames {
            let forgotten = self.segments.note(&self.batch.bytes[frame.clone()]);
            self.counters.forgotten.add(u64::from(forgotten.is_some()));
        }
        self.batch.clear();
        for (_, journal) in &mut self.journals {
            journal.release();
        }
    }

    /// Lines the sink already took are written when its disk is back, as far as it can hold them.
    fn give_up_when_told(&mut self) {
        let full = self.journals.iter().any(|(_, j)| j.half_full());
        if self.on_full == OnFull::ContinueUnbilled && full {
            self.counters.unbilled.add(self.batch.frames.len() as u64);
            self.finish();
        }
    }

    /// Nothing waits: the last batch gets its mark, so that the next start need not ask the sink.
    fn close(&mut self) {
        if self.counters.commits.get() > 0 {
            // Without it the sink is asked, and knows.
            let _ = self.segments.commit(&segment::mark());
        }
    }

    /// Works until told to stop, and then until nothing waits or the disk refuses.
    pub fn spawn(mut self, report: impl Fn(&Fault) + Send + 'static) -> io::Result<ScribeThread>
    where
        S: Send + 'static,
    {
        self.sink.recovered();
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name(String::from("scribe"));
        let thread = thread.spawn(move || {
            pin::give_way();
            loop {
                let stopping = told.load(Ordering::Acquire);
                match self.turn() {
                    Ok(0) if stopping => return self.close(),
                    Ok(_) if stopping => {}
                    Ok(_) => std::thread::sleep(self.interval),
                    Err(fault) => {
                        report(&fault);
                        if stopping {
                            return;
                        }
                        std::thread::sleep(RETRY);
                    }
                }
            }
        })?;
        Ok(ScribeThread { stop, thread })
    }
}

impl Batch {
    fn push(&mut self, shard: ShardId, frame: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes = segment::mark();
        }
        segment::encode(shard, frame, &mut self.bytes);
        let end = self.bytes.len();
        self.frames.push((shard, end - frame.len()..end));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.on_disk = false;
        self.given = false;
    }
}

fn fault(error: &io::Error) -> Fault {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            "make room where `cdr` and `journal` of the run directory are; calls go on as `on_full` says, and frames follow by themselves"
        }
        Some(libc::EIO) => {
            "the disk of `cdr` or `journal` in the run directory fails: check `dmesg`; a new segment is begun meanwhile"
        }
        Some(libc::EACCES | libc::EROFS | libc::EPERM) => {
            "the user of sbcd must be able to write `cdr` and `journal` in the run directory"
        }
        _ => "check `cdr` and `journal` in the run directory; the scribe tries again every second",
    };
    Fault { what: format!("CDRs cannot be written: {error}"), remedy: String::from(remedy) }
}

/// The running scribe.
pub struct ScribeThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ScribeThread {
    /// Lets it finish what waits, and ends it. Shards must have stopped before.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        // A panicked scribe has left its frames in the region: the next start finds them.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::super::cdr::CdrFiles;
    use super::super::journal::Journal;
    use super::super::open::OpenCalls;
    use super::super::segment::read_segments;
    use super::*;
    use crate::io::region::Region;
    use crate::io::rundir::RunDir;
    use crate::io::testing::{limits, scratch};
    use node::Ledger;
    use std::path::Path;

    type Render = fn(&[u8]) -> Option<String>;

    fn render(frame: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(frame).ok()?;
        Some(format!("{{\"id\":\"{text}\"}}"))
    }

    fn scribe(dir: &Path, reader: JournalReader, on_full: OnFull) -> Scribe<CdrFiles<Render>> {
        let render: Render = render;
        let age = Duration::from_secs(60);
        let files = CdrFiles::open(&dir.join("cdr"), 1 << 20, age, render).unwrap();
        let calls = OpenCalls::new(&Ledger::default(), 100);
        let segments = Segments::new(&dir.join("journal"), 1, 1 << 20, 8, calls);
        let journals = vec![(ShardId(0), reader)];
        Scribe::new(journals, segments, files, on_full, Duration::from_millis(1))
    }

    fn cdrs(dir: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(dir.join("cdr")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            lines.extend(text.lines().map(String::from));
        }
        lines.sort();
        lines
    }

    fn expected(range: Range<u32>) -> Vec<String> {
        range.map(|n| format!("{{\"id\":\"{n:06}\"}}")).collect()
    }

    fn claim(dir: &Path) -> (Region, JournalReader, crate::io::region::Past) {
        let run = RunDir::claim(&dir.join("run")).unwrap();
        Region::claim(&run, ShardId(0), &limits(&[])).unwrap()
    }

    #[test]
    fn frames_reach_segments_and_cdrs_while_the_shard_goes_on() {
        let dir = scratch("scribe");
        let (mut region, reader, _) = claim(&dir);
        let scribe = scribe(&dir, reader, OnFull::Refuse);
        let counters = scribe.counters().clone();
        let thread = scribe.spawn(|fault| panic!("{fault:?}")).unwrap();
        for n in 0..5_000u32 {
            while !region.journal.append(format!("{n:06}").as_bytes()) {
                std::thread::yield_now();
            }
        }
        thread.finish();
        assert_eq!(cdrs(&dir), expected(0..5_000));
        let frames = read_segments(&dir.join("journal")).unwrap();
        assert_eq!(frames.filter(|(_, frame)| !frame.is_empty()).count(), 5_000);
        assert!(counters.commits.get() < 5_000, "not one sync per frame");
        assert_eq!(counters.waiting.get(), 0);
    }

    /// The process dies after each step of a turn in turn, alone or with the machine; what it left is
    /// recovered.
    #[test]
    fn a_death_at_any_step_neither_loses_nor_doubles_a_cdr() {
        for (step, power) in (0..4).flat_map(|step| [(step, false), (step, true)]) {
            let dir = scratch(&format!("death-{step}-{power}"));
            let (mut region, reader, _) = claim(&dir);
            let mut first = scribe(&dir, reader, OnFull::Refuse);
            (0..10).for_each(|n| assert!(region.journal.append(format!("{n:06}").as_bytes())));
            first.turn().unwrap();
            (10..20).for_each(|n| assert!(region.journal.append(format!("{n:06}").as_bytes())));
            first.gather();
            if step > 0 {
                first.segments.commit(&first.batch.bytes).unwrap();
            }
            if step > 1 {
                first.bring().unwrap();
            }
            if step > 2 {
                first.finish();
            }
            std::mem::forget((region, first));
            if power {
                std::fs::remove_dir_all(dir.join("run")).unwrap();
            }
            let unsettled = Journal::read(&dir.join("journal")).unwrap().unsettled;
            assert!(unsettled.len() <= 10, "the first batch was settled");
            let (_region, reader, past) = claim(&dir);
            let mut second = scribe(&dir, reader, OnFull::Refuse);
            second.settle(&unsettled).unwrap();
            second.recover(ShardId(0), past.frames()).unwrap();
            past.done().unwrap();
            let kept = if power && step == 0 { 10 } else { 20 };
            assert_eq!(cdrs(&dir), expected(0..kept), "step {step}, power {power}");
        }
    }

    #[test]
    fn a_refusing_disk_keeps_frames_until_it_takes_them() {
        let dir = scratch("refuse");
        let (mut region, reader, _) = claim(&dir);
        let mut scribe = scribe(&dir, reader, OnFull::Refuse);
        std::fs::write(dir.join("journal"), "in the way").unwrap();
        assert!(region.journal.append(b"000000"));
        let room = region.journal.room();
        assert!(scribe.turn().unwrap_err().remedy.contains("run directory"));
        assert_eq!(scribe.counters().failing.get(), 1);
        while region.journal.append(&[7; 100]) {}
        assert!(region.journal.room() < room && scribe.turn().is_err());
        std::fs::remove_file(dir.join("journal")).unwrap();
        while scribe.turn().unwrap() > 0 {}
        assert_eq!(scribe.counters().failing.get(), 0);
        assert!(region.journal.room() > room);
        assert_eq!(cdrs(&dir).len() as u64, scribe.counters().frames.get());
    }

    #[test]
    fn continue_unbilled_makes_room_and_counts() {
        let dir = scratch("unbilled");
        let (mut region, reader, _) = claim(&dir);
        let mut scribe = scribe(&dir, reader, OnFull::ContinueUnbilled);
        std::fs::write(dir.join("journal"), "in the way").unwrap();
        assert!(region.journal.append(b"000000"));
        assert!(scribe.turn().is_err());
        assert_eq!(scribe.counters().unbilled.get(), 0, "there is room yet");
        while region.journal.append(&[7; 100]) {}
        let _ = (scribe.turn(), scribe.turn());
        assert!(scribe.counters().unbilled.get() > 10);
        assert!(region.journal.append(b"000001"), "calls go on");
    }
}
