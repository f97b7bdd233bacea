//! Calls that are open as far as the disk knows, and what they need of a segment that has to go.
//!
//! A call of hours is older than every segment that is kept. Its frames move on, so that after a power
//! loss it has its CDR all the same: see docs/decisions/carried-frames.md.

use super::segment;
use base::ShardId;
use node::Ledger;
use sbc::billing::{CdrId, Frame};
use std::collections::BTreeSet;

/// The open calls.
pub struct OpenCalls {
    ids: BTreeSet<CdrId>,
    most: usize,
}

impl OpenCalls {
    /// The calls a ledger says are open, and those to come; at most `most` at a time.
    pub fn new(ledger: &Ledger, most: usize) -> OpenCalls {
        OpenCalls { ids: ledger.open.keys().copied().collect(), most }
    }

    /// Takes a frame that is on disk. Calls whose stop frames never come would add up: when there are too
    /// many the oldest is forgotten and returned.
    pub fn note(&mut self, frame: &[u8]) -> Option<CdrId> {
        match Frame::open(frame) {
            Ok(Frame::Start(cdr) | Frame::Answer(cdr)) => {
                self.ids.insert(cdr.id);
            }
            Ok(Frame::Stop(cdr)) => {
                self.ids.remove(&cdr.id);
            }
            Ok(Frame::Interim(..)) | Err(_) => {}
        }
        if self.ids.len() > self.most { self.ids.pop_first() } else { None }
    }

    /// What these frames say of open calls, as frames of a segment, and how many they are: the newest
    /// record of each and its last sign of life.
    pub fn carry(&self, frames: impl Iterator<Item = (ShardId, Vec<u8>)>) -> (u64, Vec<u8>) {
        let mut ledger = Ledger::default();
        for (_, frame) in frames {
            ledger.read(&frame);
        }
        let records = ledger.open.into_values().map(|cdr| match cdr.answer {
            Some(_) => Frame::Answer(cdr),
            None => Frame::Start(cdr),
        });
        let alive = ledger.alive.into_iter().map(|(id, at)| Frame::Interim(id, at));
        let (mut count, mut out, mut sealed) = (0, Vec::new(), Vec::new());
        for frame in records.chain(alive).filter(|frame| self.ids.contains(&frame.id())) {
            sealed.clear();
            frame.seal(&mut sealed);
            segment::encode(ShardId(frame.id().shard), &sealed, &mut out);
            count += 1;
        }
        (count, out)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::journal::Journal;
    use super::super::segment::Segments;
    use super::*;
    use crate::io::testing::scratch;
    use base::random::Random;
    use sbc::billing::{Cdr, LegMedia, Marks, Party, Stamp};
    use std::path::Path;

    const KEEP: usize = 3;
    const SIZE: u64 = 2_000;

    fn stamp(second: u64) -> Stamp {
        Stamp { wall: second, mono: second }
    }

    pub(crate) fn cdr(sequence: u64, at: u64) -> Cdr {
        Cdr {
            call: None,
            why: Default::default(),
            transferred_to: None,
            transfers: Vec::new(),
            id: CdrId { epoch: 1, shard: 0, sequence },
            call_id_in: b"call@caller".as_slice().into(),
            call_id_out: Box::default(),
            from: b"14155550100".as_slice().into(),
            to: b"442079460000".as_slice().into(),
            source: "192.0.2.1:5060".parse().unwrap(),
            trunk_in: b"in".as_slice().into(),
            trunk_out: b"out".as_slice().into(),
            setup: stamp(at),
            ringing: None,
            answer: None,
            end: None,
            status: 0,
            q850: 0,
            reason: Box::default(),
            released_by: Party::Engine,
            taken: None,
            attempts: Vec::new(),
            media: [LegMedia::default(); 2],
            marks: Marks::default(),
        }
    }

    pub(crate) fn answered(sequence: u64, at: u64) -> Cdr {
        Cdr { answer: Some(stamp(at)), ..cdr(sequence, at) }
    }

    pub(crate) fn sealed(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.seal(&mut bytes);
        bytes
    }

    fn segments(dir: &Path, epoch: u64, most: usize) -> Segments {
        Segments::new(dir, epoch, SIZE, KEEP, OpenCalls::new(&found(dir), most))
    }

    fn commit(segments: &mut Segments, frame: &Frame) {
        let (bytes, mut batch) = (sealed(frame), segment::mark());
        segment::encode(ShardId(0), &bytes, &mut batch);
        segments.commit(&batch).unwrap();
        segments.note(&bytes);
    }

    /// What a start after a power loss finds.
    fn found(dir: &Path) -> Ledger {
        Journal::read(dir).unwrap().ledger
    }

    fn open_of(ledger: &Ledger) -> Vec<(Cdr, Stamp)> {
        ledger.open.values().map(|cdr| (cdr.clone(), ledger.last_known(cdr))).collect()
    }

    fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
            .collect();
        files.sort();
        files
    }

    fn lay(dir: &Path, files: &[(String, Vec<u8>)]) {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
    }

    /// Calls come, live and go at random over many rotations and restarts of the writer; whenever the
    /// power goes, what is found is what the whole history says of open calls.
    #[test]
    fn the_segments_that_are_kept_tell_every_open_call() {
        for seed in 0..5 {
            let mut random = Random::new((seed, 1));
            let dir = scratch(&format!("open-{seed}"));
            let mut writer = segments(&dir, 1, 1000);
            let (mut history, mut lives) = (Ledger::default(), Vec::<(u64, bool)>::new());
            for now in 1..400u64 {
                let place = random.below(lives.len().max(1) as u32) as usize;
                let frame = match (random.below(10), lives.get(place).copied()) {
                    (0..3, _) | (_, None) => {
                        lives.push((now, false));
                        Frame::Start(cdr(now, now))
                    }
                    (3..5, Some((call, false))) => {
                        lives[place].1 = true;
                        Frame::Answer(answered(call, now))
                    }
                    (3..7, Some((call, _))) => Frame::Interim(cdr(call, 0).id, stamp(now)),
                    // The first calls are the long ones.
                    (_, Some((call, _))) if call > 5 => {
                        lives.swap_remove(place);
                        Frame::Stop(cdr(call, now))
                    }
                    (_, Some((call, _))) => Frame::Interim(cdr(call, 0).id, stamp(now)),
                };
                history.read(&sealed(&frame));
                commit(&mut writer, &frame);
                if random.below(50) == 0 {
                    writer = segments(&dir, 1 + now, 1000);
                }
                assert_eq!(open_of(&found(&dir)), open_of(&history), "seed {seed} at {now}");
                assert!(files(&dir).len() <= KEEP);
            }
            let first = files(&dir).iter().any(|(name, _)| name == "1-0.seg");
            assert!(
                !first && history.open.keys().any(|id| id.sequence < 20),
                "nothing was carried"
            );
        }
    }

    /// The power goes while a segment gives way to a new one: after every byte that is written and after
    /// each of the files that are deleted.
    #[test]
    fn power_loss_at_any_step_of_a_rotation_loses_and_revives_nobody() {
        let (dir, other) = (scratch("rotation"), scratch("rotation-cut"));
        let mut writer = segments(&dir, 1, 1000);
        let first =
            [Frame::Start(cdr(1, 1)), Frame::Start(cdr(2, 3)), Frame::Answer(answered(1, 2))];
        let alive = Frame::Interim(cdr(1, 0).id, stamp(100));
        let short = |n| [Frame::Start(cdr(n, n)), Frame::Stop(cdr(n, n))];
        let mut frames = first.into_iter().chain([alive]).chain((10..).flat_map(short));
        let (before, after) = loop {
            let before = files(&dir);
            commit(&mut writer, &frames.next().unwrap());
            let after = files(&dir);
            if before.len() == KEEP && !after.contains(&before[0]) {
                break (before, after);
            }
        };
        lay(&other, &before);
        let told = found(&other);
        assert_eq!(open_of(&told)[..2], [(answered(1, 2), stamp(100)), (cdr(2, 3), stamp(3))]);
        let (name, whole) = after.last().unwrap();
        for cut in 0..whole.len() {
            lay(&other, &before);
            std::fs::write(other.join(name), &whole[..cut]).unwrap();
            assert_eq!(found(&other), told, "cut at {cut}");
        }
        // Written, not deleted yet; then deleted.
        std::fs::write(other.join(name), whole).unwrap();
        assert_eq!(open_of(&found(&other)), open_of(&found(&dir)));
        assert_eq!(open_of(&found(&dir))[..2], open_of(&told)[..2]);
    }

    #[test]
    fn disk_and_memory_are_bounded() {
        let dir = scratch("bounded");
        let mut writer = segments(&dir, 1, 50);
        let frame = sealed(&Frame::Answer(answered(1, 1))).len() as u64 + 12;
        for n in 1..=200 {
            commit(&mut writer, &Frame::Answer(answered(n, n)));
        }
        for n in 0..2_000 {
            commit(&mut writer, &Frame::Interim(cdr(n % 200, 0).id, stamp(1_000 + n)));
        }
        let told = found(&dir);
        assert_eq!(told.open.len(), 50, "stop frames never came: the oldest calls are forgotten");
        assert!(told.open.keys().all(|id| id.sequence > 150));
        let bytes: usize = files(&dir).iter().map(|(_, bytes)| bytes.len()).sum();
        let most = KEEP as u64 * (SIZE + 2 * frame) + 50 * 2 * frame;
        assert!((bytes as u64) < most, "{bytes} of at most {most}");
    }
}
