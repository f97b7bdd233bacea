//! The run directory: one process at a time, and a number that no two starts share.
//!
//! Regions live here (on tmpfs, so that appending never waits for a disk). The lock is an flock: it goes
//! with the process, however it ends.

use node::Fault;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A run directory that this process holds.
pub struct RunDir {
    path: PathBuf,
    epoch: u64,
    /// Held until the process ends.
    _lock: File,
}

impl RunDir {
    /// Takes the directory, creating it when needed; a second process is refused by name.
    pub fn claim(path: &Path) -> Result<RunDir, Fault> {
        std::fs::create_dir_all(path).map_err(|e| fault(path, &e))?;
        let name = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(|e| fault(&name, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut lock)),
            Err(TryLockError::Error(e)) => return Err(fault(&name, &e)),
        }
        let epoch = next_epoch(path).map_err(|e| fault(path, &e))?;
        let pid = format!("{}\n", std::process::id());
        lock.set_len(0).map_err(|e| fault(&name, &e))?;
        lock.rewind().map_err(|e| fault(&name, &e))?;
        lock.write_all(pid.as_bytes()).map_err(|e| fault(&name, &e))?;
        Ok(RunDir { path: path.to_path_buf(), epoch, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This start's boot epoch: larger than every earlier one here, about the Unix time in seconds.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Seconds since 1970, but at least one more than last time.
fn next_epoch(path: &Path) -> std::io::Result<u64> {
    let name = path.join("epoch");
    let last = std::fs::read_to_string(&name).unwrap_or_default();
    let last: u64 = last.trim().parse().unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let epoch = now.max(last + 1);
    let fresh = path.join("epoch.new");
    std::fs::write(&fresh, format!("{epoch}\n"))?;
    std::fs::rename(&fresh, &name)?;
    Ok(epoch)
}

fn held(path: &Path, lock: &mut File) -> Fault {
    let mut pid = String::new();
    // Who holds it is a courtesy: an unreadable file only makes the message shorter.
    let _ = lock.read_to_string(&mut pid);
    let pid = pid.trim();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Fault {
        what: format!(
            "the run directory {} is in use by process {pid} {}",
            path.display(),
            name.trim()
        ),
        remedy: String::from(
            "stop that process first, or give this one its own `run_dir`: two cannot share their calls",
        ),
    }
}

fn fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault {
        what: format!("cannot use {}: {error}", path.display()),
        remedy: String::from(
            "`run_dir` must be a directory this user may write, best on tmpfs: RuntimeDirectory= in the unit",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    #[test]
    fn a_second_process_is_refused_by_name() {
        let dir = scratch("lock");
        let first = RunDir::claim(&dir).unwrap();
        let fault = RunDir::claim(&dir).err().unwrap();
        assert!(fault.what.contains(&std::process::id().to_string()), "{}", fault.what);
        let epoch = first.epoch();
        drop(first);
        let second = RunDir::claim(&dir).unwrap();
        assert!(second.epoch() > epoch, "two starts within one second");
    }

    #[test]
    fn an_unusable_directory_is_explained() {
        let dir = scratch("file");
        let file = dir.join("file");
        std::fs::write(&file, "x").unwrap();
        let fault = RunDir::claim(&file).err().unwrap();
        assert!(fault.remedy.contains("run_dir"), "{}", fault.remedy);
    }
}
