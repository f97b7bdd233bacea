//! Segment files: journal frames in the order they were committed, for recovery after a power loss.
//!
//! `<epoch>-<n>.seg` holds frames of all shards: length, CRC-32C, shard, bytes. A batch is written and
//! synced as one. A segment that an error touched is never written again; a torn tail ends it.

use base::ShardId;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
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

/// Takes one frame off the front of a segment; `None` at its end or where it is torn.
fn decode<'a>(bytes: &mut &'a [u8]) -> Option<(ShardId, &'a [u8])> {
    let prefix: &[u8; PREFIX] = bytes.first_chunk()?;
    let ([len, crc, shard], _) = prefix.as_chunks::<4>() else {
        return None;
    };
    let len = u32::from_le_bytes(*len) as usize;
    let frame = bytes.get(PREFIX..PREFIX + len)?;
    let whole = crc32c::crc32c_append(crc32c::crc32c(shard), frame) == u32::from_le_bytes(*crc);
    let shard = u8::try_from(u32::from_le_bytes(*shard)).ok()?;
    *bytes = bytes.get(PREFIX + len..)?;
    whole.then_some((ShardId(shard), frame))
}

/// Writes segments.
pub struct Segments {
    dir: PathBuf,
    epoch: u64,
    next: u32,
    open: Option<(File, u64)>,
    /// Size at which a segment is full.
    size: u64,
    /// Segments kept.
    keep: usize,
}

impl Segments {
    /// Segments of this boot epoch in `dir`, rotated at `size` bytes, the last `keep` of them kept.
    pub fn new(dir: &Path, epoch: u64, size: u64, keep: usize) -> Segments {
        Segments { dir: dir.to_path_buf(), epoch, next: 0, open: None, size, keep: keep.max(1) }
    }

    /// Appends a batch and waits until the disk has it. After an error nothing of the batch counts,
    /// and the next attempt begins a new segment.
    pub fn commit(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(_, len)| *len >= self.size) {
            self.open = Some((self.begin()?, 0));
            self.retire();
        }
        let Some((mut file, len)) = self.open.take() else {
            return Ok(());
        };
        let written = file.write_all(batch).and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.open = Some((file, len + batch.len() as u64)),
            // Gives the room back when it can; a reader stops at the torn frame when it cannot.
            Err(_) => drop(file.set_len(len)),
        }
        written
    }

    fn begin(&mut self) -> io::Result<File> {
        std::fs::create_dir_all(&self.dir)?;
        loop {
            let name = self.dir.join(format!("{}-{}.seg", self.epoch, self.next));
            self.next += 1;
            let made = OpenOptions::new().append(true).create_new(true).open(name);
            match made {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    // The name must survive a power loss like the bytes do.
                    File::open(&self.dir)?.sync_all()?;
                    return made;
                }
            }
        }
    }

    /// Deletes the oldest segments: their frames have long reached the sinks.
    fn retire(&self) {
        let names = list(&self.dir).unwrap_or_default();
        let surplus = names.len().saturating_sub(self.keep);
        for name in &names[..surplus] {
            // A segment that cannot be deleted is tried again at the next rotation.
            let _ = std::fs::remove_file(name);
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
pub fn read_segments(dir: &Path) -> io::Result<impl Iterator<Item = (ShardId, Vec<u8>)>> {
    Ok(list(dir)?.into_iter().flat_map(|path| {
        let mut bytes = Vec::new();
        // An unreadable segment yields what could be read of it.
        let _ = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        let mut rest = bytes.as_slice();
        let mut frames = Vec::new();
        while let Some((shard, frame)) = decode(&mut rest) {
            frames.push((shard, frame.to_vec()));
        }
        frames
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::scratch;

    fn batch(frames: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, frame) in frames.iter().enumerate() {
            encode(ShardId(n as u8), frame, &mut out);
        }
        out
    }

    fn read(dir: &Path) -> Vec<Vec<u8>> {
        read_segments(dir).unwrap().map(|(_, frame)| frame).collect()
    }

    #[test]
    fn frames_come_back_in_order_through_rotation_and_retention() {
        let dir = scratch("segments");
        let mut segments = Segments::new(&dir, 9, 100, 3);
        for n in 0..10u8 {
            segments.commit(&batch(&[&[n; 60]])).unwrap();
        }
        // Two frames fill a segment; the last three segments are kept.
        let expected: Vec<_> = (4..10).map(|n| vec![n; 60]).collect();
        assert_eq!(read(&dir), expected);
        let mut later = Segments::new(&dir, 10, 100, 3);
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
    fn after_an_error_a_new_segment_is_begun() {
        let dir = scratch("error").join("inner");
        let mut segments = Segments::new(&dir, 1, 1 << 20, 8);
        segments.commit(&batch(&[b"one"])).unwrap();
        // Writing to a file opened for reading fails like a broken disk.
        let broken = File::open(dir.join("1-0.seg")).unwrap();
        segments.open = Some((broken, segments.open.take().unwrap().1));
        assert!(segments.commit(&batch(&[b"two"])).is_err());
        segments.commit(&batch(&[b"two"])).unwrap();
        assert_eq!(read(&dir), [b"one".to_vec(), b"two".to_vec()]);
        assert!(dir.join("1-1.seg").exists());
    }
}
