//! The shared-memory region of a shard: records of its calls and the journal, outliving the process.
//!
//! Two files per shard in the run directory, `shard-<n>.records` and `shard-<n>.journal`, each a page of
//! header and then the data. A record is written body first, header last: what a SIGKILL tears fails its
//! checksum and loses itself alone. The files of the process before become `*.past0` and stay readable
//! until recovery says it is done; if recovery itself is killed they are found again, beside those of the
//! process that was recovering.

use super::journal::{self, DATA, Reader, Writer};
use super::rundir::RunDir;
use super::sys::{Mapping, check};
use base::ShardId;
use node::{Fault, ShardLimits};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x0031_4e47_5244_4e54;
const VERSION: u64 = 1;
/// Bytes of a sealed record's header, which are cleared with a slot.
const RECORD_HEADER: usize = 16;

/// What stands at the start of both files, as little-endian words.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Header {
    epoch: u64,
    /// Record slots, or 0 for a journal.
    slots: u64,
    /// Bytes of a slot, or of the journal's ring.
    size: u64,
    /// Whether the machine was booted since: a hash of the kernel's boot id.
    boot: u64,
}

impl Header {
    fn words(self) -> [u64; 6] {
        [MAGIC, VERSION, self.epoch, self.slots, self.size, self.boot]
    }

    fn read(file: &File) -> Option<Header> {
        let mut bytes = [0u8; 48];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let (words, _) = bytes.as_chunks::<8>();
        let [magic, version, epoch, slots, size, boot] = *words else {
            return None;
        };
        let known = u64::from_le_bytes(magic) == MAGIC && u64::from_le_bytes(version) == VERSION;
        known.then(|| Header {
            epoch: u64::from_le_bytes(epoch),
            slots: u64::from_le_bytes(slots),
            size: u64::from_le_bytes(size),
            boot: u64::from_le_bytes(boot),
        })
    }
}

/// The region of one shard, mapped.
pub struct Region {
    records: Mapping,
    slots: u32,
    record_size: usize,
    pub(crate) journal: Writer,
}

impl Region {
    /// Makes the shard's region, and hands over what the process before left.
    pub fn claim(
        run: &RunDir,
        shard: ShardId,
        limits: &ShardLimits,
    ) -> Result<(Region, Reader, Past), Fault> {
        let (records, journal) = names(run.path(), shard);
        let past = Past::claim(run.path(), shard)?;
        let record_size = (limits.record_size as usize).next_multiple_of(64);
        let ring = limits.journal_size.next_multiple_of(4096).max(4096);
        let boot = boot();
        let header = Header {
            epoch: run.epoch(),
            slots: u64::from(limits.records),
            size: record_size as u64,
            boot,
        };
        let data = record_size * limits.records as usize;
        let records = create(&records, header, data)?;
        let header = Header { slots: 0, size: ring as u64, ..header };
        let (writer, reader) = journal::ends(create(&journal, header, ring)?, ring);
        let region = Region { records, slots: limits.records, record_size, journal: writer };
        Ok((region, reader, past))
    }

    /// Writes a sealed record over a slot, or clears the slot; `false` when it does not fit.
    pub(crate) fn write(&self, slot: u32, record: &[u8]) -> bool {
        if slot >= self.slots || record.len() > self.record_size {
            return false;
        }
        let at = DATA + slot as usize * self.record_size;
        if record.len() < RECORD_HEADER {
            return record.is_empty() && self.records.copy_in(at, &[0; RECORD_HEADER]);
        }
        let (header, body) = record.split_at(RECORD_HEADER);
        // Until the header follows, the old one stands over the new body and its checksum fails.
        self.records.copy_in(at + RECORD_HEADER, body);
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        self.records.copy_in(at, header)
    }
}

fn names(dir: &Path, shard: ShardId) -> (PathBuf, PathBuf) {
    let name = |what| dir.join(format!("shard-{}.{what}", shard.0));
    (name("records"), name("journal"))
}

/// A file of zeroes behind a header, mapped; its memory is reserved so that no write can fail later.
fn create(path: &Path, header: Header, data: usize) -> Result<Mapping, Fault> {
    let size = DATA + data;
    let made = || -> io::Result<Mapping> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        reserve(&file, size)?;
        let mut bytes = Vec::new();
        for word in header.words() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        file.write_all_at(&bytes, 0)?;
        Mapping::shared(&file, size)
    };
    made().map_err(|e| Fault {
        what: format!("cannot make the region {} of {size} bytes: {e}", path.display()),
        remedy: String::from(
            "give the file system of `run_dir` more room (for a tmpfs: mount option size=), or lower `max_calls`",
        ),
    })
}

fn reserve(file: &File, size: usize) -> io::Result<()> {
    #[expect(unsafe_code, reason = "fallocate has no safe wrapper")]
    // SAFETY: takes plain integers; the descriptor is open for the length of the call.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size as libc::off_t) }).map(drop)
}

/// A number that changes when the machine is booted.
fn boot() -> u64 {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u64::from(crc32c::crc32c(&id))
}

/// What an earlier process left for one shard; empty after a clean first start.
pub struct Past {
    files: Vec<PathBuf>,
    /// Newest first.
    records: Vec<(File, Header)>,
    frames: Vec<Vec<u8>>,
}

impl Past {
    /// Sets the files of the process before aside. Files that stand aside already mean that recovery
    /// was killed: they hold its calls, the newer ones copies of some and calls begun since, so all are
    /// kept. Journal frames are oldest first.
    fn claim(dir: &Path, shard: ShardId) -> Result<Past, Fault> {
        let (records, journal) = names(dir, shard);
        let aside = set_aside(&records).and_then(|r| Ok((r, set_aside(&journal)?)));
        let (records, journals) = aside.map_err(|e| Fault {
            what: format!("cannot set aside the regions in {}: {e}", dir.display()),
            remedy: String::from("check the owner and the permissions of `run_dir`"),
        })?;
        let mut frames = Vec::new();
        for (file, header) in journals.iter().filter_map(|path| open(path)) {
            frames.append(&mut journal::leftovers(&file, header.size as usize));
        }
        let opened = records.iter().rev().filter_map(|path| open(path)).collect();
        let files = records.into_iter().chain(journals).collect();
        Ok(Past { files, records: opened, frames })
    }

    /// What earlier processes left for shards that do not exist any more.
    pub fn orphans(run: &RunDir, shards: usize) -> Result<Vec<Past>, Fault> {
        let mut orphans = Vec::new();
        for shard in (0..=u8::MAX).skip(shards).map(ShardId) {
            let past = Past::claim(run.path(), shard)?;
            if !past.files.is_empty() {
                orphans.push(past);
            }
        }
        Ok(orphans)
    }

    /// Whether the machine has not been booted since: monotonic times in the records still mean
    /// something.
    pub fn same_boot(&self) -> bool {
        !self.records.is_empty() && self.records.iter().all(|(_, h)| h.boot == boot())
    }

    /// The boot epoch of the process that left this.
    pub fn epoch(&self) -> Option<u64> {
        self.records.first().map(|(_, h)| h.epoch)
    }

    /// Every slot that is not clear, with its bytes as they were found: the caller checks them. A call
    /// may come twice when recovery was killed; its newest record comes first.
    pub fn records(&self) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
        self.records.iter().flat_map(|(file, header)| {
            (0..header.slots as u32).filter_map(|slot| {
                let mut bytes = vec![0; header.size as usize];
                let at = DATA as u64 + u64::from(slot) * header.size;
                file.read_exact_at(&mut bytes, at).ok()?;
                let clear = bytes.iter().take(RECORD_HEADER).all(|b| *b == 0);
                (!clear).then_some((slot, bytes))
            })
        })
    }

    /// Journal frames that the scribe had not brought to disk, oldest first.
    pub fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    /// Recovery is complete: calls stand in the new region, frames in the segments.
    pub fn done(self) -> Result<(), Fault> {
        // Records last: while they stand, everything is found again.
        for path in self.files.iter().rev() {
            std::fs::remove_file(path).map_err(|e| Fault {
                what: format!("cannot remove the recovered region {}: {e}", path.display()),
                remedy: String::from("check the owner and the permissions of `run_dir`"),
            })?;
        }
        Ok(())
    }
}

/// Renames a file to the first free `.past<n>`; all that stand aside, oldest first.
fn set_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = |n: u32| path.with_file_name(format!("{name}.past{n}"));
    let mut found: Vec<PathBuf> = (0..).map(aside).take_while(|p| p.exists()).collect();
    if path.exists() {
        let next = aside(found.len() as u32);
        std::fs::rename(path, &next)?;
        found.push(next);
    }
    Ok(found)
}

fn open(path: &Path) -> Option<(File, Header)> {
    let file = File::open(path).ok()?;
    let header = Header::read(&file)?;
    Some((file, header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{limits, scratch};

    fn sealed(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        base::record::seal(1, &vec![value; 20], &mut bytes);
        bytes
    }

    fn value(bytes: &[u8]) -> Option<u64> {
        base::record::open::<Vec<u64>>(1, bytes).ok().map(|(v, _)| v[0])
    }

    #[test]
    fn records_and_frames_outlive_the_process_and_a_new_geometry() {
        let dir = scratch("region");
        let (run, mut limits) = (RunDir::claim(&dir).unwrap(), limits(&[]));
        let (mut region, mut reader, past) = Region::claim(&run, ShardId(3), &limits).unwrap();
        assert!(past.records().next().is_none() && past.frames().is_empty());
        assert!(region.write(0, &sealed(10)) && region.write(2, &sealed(12)));
        assert!(region.write(5, &sealed(15)) && region.write(5, &[]));
        assert!(!region.write(limits.records, &sealed(1)), "beyond the last slot");
        for n in 0..3u8 {
            assert!(region.journal.append(&[n; 100]));
        }
        let mut out = Vec::new();
        reader.take(&mut out).unwrap();
        reader.release();
        reader.take(&mut out).unwrap();
        // The process dies here: nothing is flushed, nothing told.
        std::mem::forget((region, reader));
        drop(run);

        limits.records *= 2;
        limits.record_size *= 2;
        let run = RunDir::claim(&dir).unwrap();
        let (_region, _reader, past) = Region::claim(&run, ShardId(3), &limits).unwrap();
        let found: Vec<_> = past.records().map(|(slot, b)| (slot, value(&b))).collect();
        assert_eq!(found, [(0, Some(10)), (2, Some(12))]);
        assert_eq!(past.frames(), [vec![1; 100], vec![2; 100]]);
        assert!(past.same_boot());
        past.done().unwrap();
        let (_, _, past) = Region::claim(&run, ShardId(3), &limits).unwrap();
        assert_eq!(past.records().count() + past.frames().len(), 0);
        past.done().unwrap();
    }

    #[test]
    fn a_recovery_that_was_killed_is_taken_up_again() {
        let dir = scratch("again");
        let (run, limits) = (RunDir::claim(&dir).unwrap(), limits(&[]));
        let (mut region, ..) = Region::claim(&run, ShardId(0), &limits).unwrap();
        assert!(region.write(1, &sealed(1)) && region.write(2, &sealed(2)));
        assert!(region.journal.append(b"first"));
        drop(region);
        let (mut region, ..) = Region::claim(&run, ShardId(0), &limits).unwrap();
        assert!(region.write(0, &sealed(1)) && region.journal.append(b"second"));
        assert!(region.write(3, &sealed(3)), "a call begun while the recovery was not done");
        drop(region);
        let (_, _, past) = Region::claim(&run, ShardId(0), &limits).unwrap();
        let found: Vec<_> = past.records().map(|(slot, b)| (slot, value(&b))).collect();
        assert_eq!(
            found,
            [(0, Some(1)), (3, Some(3)), (1, Some(1)), (2, Some(2))],
            "the new calls and copies first, then the whole past"
        );
        assert_eq!(past.frames(), [b"first".to_vec(), b"second".to_vec()]);
        past.done().unwrap();
    }

    #[test]
    fn shards_that_are_gone_leave_orphans() {
        let dir = scratch("orphans");
        let (run, limits) = (RunDir::claim(&dir).unwrap(), limits(&[]));
        let (region, ..) = Region::claim(&run, ShardId(7), &limits).unwrap();
        assert!(region.write(1, &sealed(9)));
        drop(region);
        let orphans = Past::orphans(&run, 4).unwrap();
        assert_eq!(orphans.len(), 1);
        let values: Vec<_> = orphans[0].records().map(|(_, b)| value(&b)).collect();
        assert_eq!(values, [Some(9)]);
    }

    #[test]
    fn a_record_torn_at_any_byte_is_noticed() {
        let dir = scratch("torn");
        let (run, limits) = (RunDir::claim(&dir).unwrap(), limits(&[]));
        let (region, ..) = Region::claim(&run, ShardId(0), &limits).unwrap();
        let (old, new) = (sealed(1), sealed(2));
        let at = DATA;
        for cut in 1..old.len() {
            assert!(region.write(0, &old));
            // As `write` does it, killed after `cut` bytes: body, then header.
            let body = &new[RECORD_HEADER..];
            region.records.copy_in(at + RECORD_HEADER, &body[..cut.min(body.len())]);
            region.records.copy_in(at, &new[..cut.saturating_sub(body.len())]);
            let mut now = Vec::new();
            region.records.copy_out(at, old.len(), &mut now);
            assert!(now == old || now == new || value(&now).is_none(), "cut at {cut}");
        }
    }
}
