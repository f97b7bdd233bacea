//! A byte ring of frames in a mapped file: the shard appends, the scribe consumes.
//!
//! The positions are counted in bytes since the ring was made and never wrap. A frame is its length,
//! its CRC-32C and its bytes, padded to eight; it is never split: what is left before the end of the
//! ring is skipped when the frame does not fit there. The head is stored after the bytes, so whatever
//! lies before it is whole, also for the process that finds the file after a SIGKILL.

use super::sys::Mapping;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes before the ring: a page for the header.
pub(crate) const DATA: usize = 4096;
/// Place of the count of bytes ever appended.
const HEAD: usize = 128;
/// Place of the count of bytes ever consumed; another cache line.
const TAIL: usize = 256;
/// Length and checksum before every frame.
const PREFIX: usize = 8;
/// A length no frame has: skip to the start of the ring.
const SKIP: u32 = u32::MAX;

/// Bytes a frame takes in the ring.
fn taken(frame: usize) -> usize {
    (PREFIX + frame).next_multiple_of(8)
}

/// The shard's end.
pub(crate) struct Writer {
    map: Arc<Mapping>,
    capacity: usize,
    /// Our copy of the head: nobody else moves it.
    head: u64,
}

/// The scribe's end.
pub struct Reader {
    map: Arc<Mapping>,
    capacity: usize,
    /// Our copy of the tail: nobody else moves it.
    tail: u64,
    /// Up to where frames were taken but not yet released.
    taken: u64,
}

/// Both ends of an empty ring of `capacity` bytes (a multiple of 8) after the header of a zeroed file.
pub(crate) fn ends(map: Mapping, capacity: usize) -> (Writer, Reader) {
    let map = Arc::new(map);
    let writer = Writer { map: map.clone(), capacity, head: 0 };
    let reader = Reader { map, capacity, tail: 0, taken: 0 };
    (writer, reader)
}

impl Writer {
    fn free(&self) -> usize {
        let used = self.head - self.map.word(TAIL).load(Ordering::Acquire);
        self.capacity.saturating_sub(used as usize)
    }

    /// Bytes of frames that certainly fit, whatever is lost at the end of the ring.
    pub(crate) fn room(&self) -> usize {
        let waste = (self.capacity / 4).min(64 << 10);
        self.free().saturating_sub(waste)
    }

    /// Whether a frame of `len` bytes can ever fit.
    pub(crate) fn can_hold(&self, len: usize) -> bool {
        taken(len) <= self.capacity / 2
    }

    /// Appends one frame; `false` when there is no room now.
    pub(crate) fn append(&mut self, frame: &[u8]) -> bool {
        let need = taken(frame.len());
        let at = (self.head % self.capacity as u64) as usize;
        let skip = if at + need > self.capacity { self.capacity - at } else { 0 };
        if skip + need > self.free() || !self.can_hold(frame.len()) {
            return false;
        }
        if skip > 0 {
            self.map.copy_in(DATA + at, &SKIP.to_le_bytes());
        }
        let at = DATA + (at + skip) % self.capacity;
        let mut prefix = [0; PREFIX];
        prefix[..4].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        prefix[4..].copy_from_slice(&crc32c::crc32c(frame).to_le_bytes());
        self.map.copy_in(at, &prefix);
        self.map.copy_in(at + PREFIX, frame);
        self.head += (skip + need) as u64;
        self.map.word(HEAD).store(self.head, Ordering::Release);
        true
    }
}

impl Reader {
    /// Appends the next frame that was not taken yet to `out` and says how long it is; `None` when
    /// there is none, or when the ring is damaged.
    pub fn take(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let head = self.map.word(HEAD).load(Ordering::Acquire);
        let map = &self.map;
        let read = |at: usize, len: usize, out: &mut Vec<u8>| map.copy_out(DATA + at, len, out);
        let (len, next) = next_frame(self.taken, head, self.capacity, read, out)?;
        self.taken = next;
        Some(len)
    }

    /// Gives the room of every taken frame back to the shard: they are on disk.
    pub fn release(&mut self) {
        self.tail = self.taken;
        self.map.word(TAIL).store(self.tail, Ordering::Release);
    }

    /// Forgets that frames were taken since the last release: they will be taken again.
    pub fn rewind(&mut self) {
        self.taken = self.tail;
    }

    /// Whether half of the ring waits to be released.
    pub fn half_full(&self) -> bool {
        self.waiting() >= self.capacity as u64 / 2
    }

    /// Bytes that wait to be released.
    pub fn waiting(&self) -> u64 {
        self.map.word(HEAD).load(Ordering::Relaxed) - self.tail
    }
}

/// Finds the frame at position `at`, appends it to `out`; its length and the position after it.
fn next_frame(
    mut at: u64,
    head: u64,
    capacity: usize,
    read: impl Fn(usize, usize, &mut Vec<u8>) -> bool,
    out: &mut Vec<u8>,
) -> Option<(usize, u64)> {
    let start = out.len();
    let mut place = (at % capacity as u64) as usize;
    // At most one skip, then a frame.
    for _ in 0..2 {
        if at >= head || head - at > capacity as u64 || !read(place, PREFIX, out) {
            break;
        }
        let len = u32::from_le_bytes(*out[start..].first_chunk()?);
        let crc = u32::from_le_bytes(*out[start + 4..].first_chunk()?);
        out.truncate(start);
        if len == SKIP {
            at += (capacity - place) as u64;
            place = 0;
            continue;
        }
        let len = len as usize;
        let whole = place + taken(len) <= capacity && read(place + PREFIX, len, out);
        if whole && crc32c::crc32c(&out[start..]) == crc {
            return Some((len, at + taken(len) as u64));
        }
        break;
    }
    out.truncate(start);
    None
}

/// The frames between tail and head of a ring file that nobody maps any more.
pub(crate) fn leftovers(file: &File, capacity: usize) -> Vec<Vec<u8>> {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        let read = file.read_exact_at(&mut bytes, at as u64);
        read.map_or(0, |()| u64::from_le_bytes(bytes))
    };
    let (head, mut at) = (word(HEAD), word(TAIL));
    let read = |place: usize, len: usize, out: &mut Vec<u8>| {
        let start = out.len();
        out.resize(start + len, 0);
        file.read_exact_at(&mut out[start..], (DATA + place) as u64).is_ok()
    };
    let mut frames = Vec::new();
    loop {
        let mut frame = Vec::new();
        let Some((_, next)) = next_frame(at, head, capacity, read, &mut frame) else {
            return frames;
        };
        frames.push(frame);
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn ring(capacity: usize) -> (Writer, Reader) {
        ends(Mapping::anonymous(DATA + capacity).unwrap(), capacity)
    }

    #[test]
    fn frames_come_out_as_they_went_in_through_many_wraps() {
        let (mut writer, mut reader) = ring(1024);
        let mut model = VecDeque::new();
        let mut random = base::random::Random::new((7, 7));
        let (mut refused, mut out) = (0, Vec::new());
        for n in 0..20_000u64 {
            let len = random.below(240) as usize;
            let frame: Vec<u8> = (0..len).map(|i| (i as u64 ^ n) as u8).collect();
            let certain = writer.room() >= taken(len);
            if writer.append(&frame) {
                model.push_back(frame);
            } else {
                assert!(!certain, "room was promised");
                refused += 1;
            }
            if random.below(4) == 0 {
                while let Some(len) = reader.take(&mut out) {
                    let frame = out.split_off(out.len() - len);
                    assert_eq!(Some(frame), model.pop_front());
                }
                reader.release();
            }
        }
        assert!(refused > 100, "the ring was never full");
    }

    #[test]
    fn rewinding_takes_the_same_frames_again() {
        let (mut writer, mut reader) = ring(1024);
        assert!(writer.append(b"one") && writer.append(b"two"));
        let mut out = Vec::new();
        while reader.take(&mut out).is_some() {}
        reader.rewind();
        while reader.take(&mut out).is_some() {}
        assert_eq!(out, b"onetwoonetwo");
        assert!(reader.waiting() > 0);
        reader.release();
        assert_eq!(reader.waiting(), 0);
    }

    #[test]
    fn what_cannot_fit_is_refused_and_damage_stops_the_reader() {
        let (mut writer, mut reader) = ring(256);
        assert!(!writer.append(&[1; 200]), "more than half");
        assert!((0..3).all(|n| writer.append(&[n; 50])));
        assert!(!writer.append(&[4; 100]) && writer.append(&[5; 8]));
        writer.map.copy_in(DATA + taken(50) + PREFIX, &[9]);
        let mut out = Vec::new();
        assert_eq!(reader.take(&mut out), Some(50));
        assert_eq!(reader.take(&mut out), None);
        assert_eq!(out.len(), 50);
    }
}
