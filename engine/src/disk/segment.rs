//! Segment files: journal frames in the order they were committed, for recovery after a power loss.
//!
//! `<epoch>-<n>.seg` holds frames of all shards: length, CRC-32C, shard, bytes. A batch is written and
//! synced as one. A segment that an error touched is never written again; a torn tail ends it. A new
//! segment begins with what calls that are still open need of the oldest one; that is deleted once the
//! disk has it all.

use super::open::OpenCalls;
use base::ShardId;
use sbc::billing::CdrId;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes before every frame: length, checksum of all that follows, shard.
const PREFIX: usize = 12;

/// Appends one frame to a batch.
pub fn encode(shard: ShardId, frame: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    let shard = u32::from(shard.0).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&shard), frame);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&shard);
    out.extend_from_slice(frame);
}

/// The mark before a batch: all before it is in the sink. A frame of nothing.
pub fn mark() -> Vec<u8> {
    let mut mark = Vec::new();
    encode(ShardId(0), &[], &mut mark);
    mark
}

/// Takes the next frame of a segment; `None` at its end or where it is torn.
fn decode(segment: &mut impl Read) -> Option<(ShardId, Vec<u8>)> {
    let mut prefix = [0; PREFIX];
    segment.read_exact(&mut prefix).ok()?;
    let ([len, crc, shard], _) = prefix.as_chunks::<4>() else {
        return None;
    };
    let len = u64::from(u32::from_le_bytes(*len));
    let mut frame = Vec::new();
    // What a damaged length promises is read as far as it is there, not allocated.
    let read = segment.take(len).read_to_end(&mut frame).ok()?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(shard), &frame);
    let shard = u8::try_from(u32::from_le_bytes(*shard)).ok()?;
    (read as u64 == len && sum == u32::from_le_bytes(*crc)).then_some((ShardId(shard), frame))
}

/// The segment that is written to.
struct Current {
    file: File,
    len: u64,
    /// Bytes it began with for calls that were open. They do not fill it: a node of many long calls would
    /// do nothing but rotate.
    carried: u64,
}

/// Writes segments.
pub struct Segments {
    dir: PathBuf,
    epoch: u64,
    next: u32,
    current: Option<Current>,
    /// Size at which a segment is full.
    size: u64,
    /// Segments kept.
    keep: usize,
    calls: OpenCalls,
    write: fn(&mut File, &[u8]) -> io::Result<()>,
}

/// Writes bytes and waits until the disk has them.
fn durably(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_data()
}

impl Segments {
    /// Segments of this boot epoch in `dir`, rotated at `size` bytes, the last `keep` of them kept; what
    /// `calls` need of the others is carried along.
    pub fn new(dir: &Path, epoch: u64, size: u64, keep: usize, calls: OpenCalls) -> Segments {
        let (dir, keep) = (dir.to_path_buf(), keep.max(1));
        Segments { dir, epoch, next: 0, current: None, size, keep, calls, write: durably }
    }

    /// Appends a batch and waits until the disk has it; how many frames were carried along with it.
    /// After an error nothing of the batch counts, and the next attempt begins a new segment.
    pub fn commit(&mut self, batch: &[u8]) -> io::Result<u64> {
        let room = |current: &Current| current.len - current.carried < self.size;
        match self.current.take().filter(room) {
            Some(current) => self.append(current, batch).map(|()| 0),
            None => self.rotate(batch),
        }
    }

    /// Learns from a committed frame which calls are open; the call that is carried no longer because
    /// there are too many.
    pub fn note(&mut self, frame: &[u8]) -> Option<CdrId> {
        self.calls.note(frame)
    }

    fn append(&mut self, mut current: Current, batch: &[u8]) -> io::Result<()> {
        let written = (self.write)(&mut current.file, batch);
        match written {
            Ok(()) => {
                current.len += batch.len() as u64;
                self.current = Some(current);
            }
            // Gives the room back when it can; a reader stops at the torn frame when it cannot.
            Err(_) => drop(current.file.set_len(current.len)),
        }
        written
    }

    /// Begins a segment with what open calls need of those that have to go, then the batch.
    fn rotate(&mut self, batch: &[u8]) -> io::Result<u64> {
        std::fs::create_dir_all(&self.dir)?;
        let mut leaving = list(&self.dir)?;
        leaving.truncate((leaving.len() + 1).saturating_sub(self.keep));
        let (frames, mut first) = self.calls.carry(leaving.iter().flat_map(|path| read(path)));
        let carried = first.len() as u64;
        first.extend_from_slice(batch);
        let (path, mut file) = self.begin()?;
        if let Err(e) = (self.write)(&mut file, &first) {
            // Torn segments of a disk that refuses for long would push every whole one out.
            let _ = std::fs::remove_file(path);
            return Err(e);
        }
        self.current = Some(Current { file, len: first.len() as u64, carried });
        self.delete(&leaving);
        Ok(frames)
    }

    fn begin(&mut self) -> io::Result<(PathBuf, File)> {
        loop {
            let path = self.dir.join(format!("{}-{}.seg", self.epoch, self.next));
            self.next += 1;
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    let made = made?;
                    // The name must survive a power loss like the bytes do.
                    File::open(&self.dir)?.sync_all()?;
                    return Ok((path, made));
                }
            }
        }
    }

    /// Deletes segments, the oldest first: a start frame must not outlive the stop frame after it. What
    /// cannot be deleted is tried again at the next rotation.
    fn delete(&self, leaving: &[PathBuf]) {
        for path in leaving {
            let deleted = std::fs::remove_file(path);
            if deleted.and_then(|()| File::open(&self.dir)?.sync_all()).is_err() {
                return;
            }
        }
    }
}

/// Segment files, oldest first.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str());
        let order = name
            .and_then(|n| n.strip_suffix(".seg"))
            .and_then(|n| n.split_once('-'))
            .and_then(|(e, n)| Some((e.parse::<u64>().ok()?, n.parse::<u32>().ok()?)));
        found.extend(order.map(|order| (order, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Every whole frame of every segment in `dir`, oldest first; what is torn or damaged ends its segment.
pub fn read_segments(dir: &Path) -> io::Result<impl Iterator<Item = (ShardId, Vec<u8>)> + use<>> {
    Ok(list(dir)?.into_iter().flat_map(|path| read(&path)))
}

/// Every whole frame of a segment; none of one that cannot be opened.
fn read(path: &Path) -> impl Iterator<Item = (ShardId, Vec<u8>)> + use<> {
    let mut segment = File::open(path).ok().map(BufReader::new);
    std::iter::from_fn(move || decode(segment.as_mut()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;
    use node::Ledger;

    fn batch(frames: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, frame) in frames.iter().enumerate() {
            encode(ShardId(n as u8), frame, &mut out);
        }
        out
    }

    fn segments(dir: &Path, epoch: u64, size: u64, keep: usize) -> Segments {
        Segments::new(dir, epoch, size, keep, OpenCalls::new(&Ledger::default(), 100))
    }

    fn read(dir: &Path) -> Vec<Vec<u8>> {
        read_segments(dir).unwrap().map(|(_, frame)| frame).collect()
    }

    #[test]
    fn frames_come_back_in_order_through_rotation_and_retention() {
        let dir = scratch("segments");
        let mut first = segments(&dir, 9, 100, 3);
        for n in 0..10u8 {
            first.commit(&batch(&[&[n; 60]])).unwrap();
        }
        // Two frames fill a segment; the last three segments are kept.
        let expected: Vec<_> = (4..10).map(|n| vec![n; 60]).collect();
        assert_eq!(read(&dir), expected);
        let mut later = segments(&dir, 10, 100, 3);
        later.commit(&batch(&[b"later"])).unwrap();
        assert_eq!(read(&dir).last().unwrap(), b"later", "epochs sort as numbers");
    }

    #[test]
    fn a_tail_torn_at_any_byte_loses_only_its_frame() {
        let dir = scratch("tail");
        let whole = batch(&[b"one", b"", b"a third frame"]);
        let ends = [PREFIX + 3, 2 * PREFIX + 3, whole.len()];
        for cut in 0..=whole.len() {
            std::fs::write(dir.join("1-0.seg"), &whole[..cut]).unwrap();
            let frames = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read(&dir).len(), frames, "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.join("1-0.seg"), &flipped).unwrap();
            assert!(read(&dir).len() < 3, "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn a_disk_that_refuses_pushes_no_segment_out() {
        let dir = scratch("refused");
        let mut segments = segments(&dir, 1, 10, 3);
        for n in 0..3u8 {
            segments.commit(&batch(&[&[n; 60]])).unwrap();
        }
        let before = read(&dir);
        segments.write = |file, bytes| {
            file.write_all(&bytes[..bytes.len() / 2])?;
            Err(io::ErrorKind::StorageFull.into())
        };
        for _ in 0..20 {
            assert!(segments.commit(&batch(&[b"lost"])).is_err());
        }
        assert_eq!(read(&dir), before);
        assert_eq!(list(&dir).unwrap().len(), 3, "and leaves none behind");
        segments.write = durably;
        segments.commit(&batch(&[b"kept"])).unwrap();
        assert_eq!(read(&dir).last().unwrap(), b"kept");
    }

    #[test]
    fn after_an_error_a_new_segment_is_begun() {
        let dir = scratch("error").join("inner");
        let mut segments = segments(&dir, 1, 1 << 20, 8);
        segments.commit(&batch(&[b"one"])).unwrap();
        // Writing to a file opened for reading fails like a broken disk.
        let broken = File::open(dir.join("1-0.seg")).unwrap();
        segments.current.as_mut().unwrap().file = broken;
        assert!(segments.commit(&batch(&[b"two"])).is_err());
        segments.commit(&batch(&[b"two"])).unwrap();
        assert_eq!(read(&dir), [b"one".to_vec(), b"two".to_vec()]);
        assert!(dir.join("1-1.seg").exists());
    }
}
