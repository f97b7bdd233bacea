//! What befalls a node: kills at any point of a turn, hand-overs, torn writes, clock jumps.
//!
//! A shard can be thawed at any step: from its records alone, with calls going on (`hand_over`), or as
//! the successor of a dead process (`crash`). A process may die in the middle of `submit`: `Cut` says
//! where. Whatever it had written by then stays, in the order of the lanes.

use crate::world::{Region, Trace, World, plain};
use base::page::Page;
use node::{Ledger, Outbox, Past};
use sbc::policy::Image;
use std::time::Duration;

/// Where in a turn's submit the process dies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing was written.
    Nothing,
    /// The journal up to the middle of its last frame.
    JournalTorn,
    /// The journal, but no record.
    Journal,
    /// The journal, and the records up to the middle of the last.
    RecordsTorn,
    /// Everything that is kept, but nothing was sent.
    Records,
    /// Half of what is sent.
    Sends,
}

impl Cut {
    /// Every place.
    pub const ALL: [Cut; 6] =
        [Cut::Nothing, Cut::JournalTorn, Cut::Journal, Cut::RecordsTorn, Cut::Records, Cut::Sends];
}

impl World {
    /// Serialises a shard, drops it and thaws it from its records: its calls go on.
    pub fn hand_over(&mut self, shard: usize) {
        let region = &self.regions[shard];
        let records = region.records.values().cloned().collect();
        let held: usize = self.shards[shard].signal().calls();
        assert_eq!(region.records.len(), held, "every call has its record at the end of a step");
        self.release_words(shard);
        self.epoch += 1;
        self.born[shard].0 = self.epoch;
        let past = Past { records, ledger: Ledger::default(), resume: true };
        self.shards[shard] = self.born(shard, past);
        self.trace.push(Trace::HandOver(shard));
        assert_eq!(self.shards[shard].signal().calls(), held, "every call was thawed");
    }

    /// Kills the process: every shard is gone, regions stay. A successor starts at once, and is started
    /// again if it dies before every shard of it stands.
    pub fn crash(&mut self) {
        self.trace.push(Trace::Crash);
        loop {
            self.dead = false;
            self.succeed();
            if !self.dead {
                break;
            }
        }
        self.heritage.clear();
    }

    /// The next turn that has something to submit dies at this place, and a successor starts.
    pub fn crash_within(&mut self, cut: Cut) {
        self.cut = Some(cut);
    }

    /// If the process has died, a successor starts.
    pub(crate) fn bury(&mut self) {
        if self.dead {
            self.crash();
        }
    }

    fn succeed(&mut self) {
        self.epoch += 1;
        self.page = Page::new(Image::WORDS);
        let mut ledger = Ledger::default();
        for frame in self.regions.iter().flat_map(|r| &r.journal) {
            assert!(ledger.read(frame), "a frame that cannot be read");
        }
        let left = self.regions.iter_mut().flat_map(|r| core::mem::take(&mut r.records));
        self.heritage.extend(left.map(|(_, record)| record));
        self.mail.iter_mut().for_each(Vec::clear);
        self.born.iter_mut().for_each(|b| *b = (self.epoch, self.epoch));
        for shard in 0..self.shards.len() {
            let records = self.heritage.clone();
            let past = Past { records, ledger: ledger.clone(), resume: false };
            let born = self.born(shard, past);
            if self.dead {
                return;
            }
            self.shards[shard] = born;
        }
    }

    /// Dies within this submit, if it was to; whether it did.
    pub(crate) fn cut_short(&mut self, shard: usize, outbox: &mut Outbox) -> bool {
        let idle = outbox.journal.is_empty() && outbox.texts.sends.is_empty();
        let Some(cut) = self.cut.filter(|_| !idle) else { return false };
        self.cut = None;
        self.dead = true;
        let reach = Cut::ALL.iter().position(|c| *c == cut).unwrap_or(0);
        let frames = match cut {
            Cut::Nothing => 0,
            // The head of the ring moves after the bytes: a torn frame was never there.
            Cut::JournalTorn => outbox.journal.len().saturating_sub(1),
            Cut::Journal | Cut::RecordsTorn | Cut::Records | Cut::Sends => outbox.journal.len(),
        };
        for frame in outbox.journal.iter().take(frames) {
            self.journal(shard, plain(outbox, *frame));
        }
        if reach >= 3 {
            write_records(&mut self.regions[shard], outbox, cut == Cut::RecordsTorn);
        }
        if cut == Cut::Sends {
            let half = outbox.texts.sends.len().div_ceil(2);
            self.leave(shard, outbox, None, half);
        }
        true
    }

    /// Damages every record, as a write cut short by a kill does.
    pub fn tear_records(&mut self) {
        self.regions.iter_mut().flat_map(|r| r.records.values_mut()).for_each(tear);
    }

    /// Moves the wall clock, not the monotonic one.
    pub fn jump_wall(&mut self, by: Duration, back: bool) {
        let by = by.as_nanos() as i64;
        self.wall_offset += if back { -by } else { by };
    }

    /// A shard about to be thawed in the same page gives back what its calls hold.
    fn release_words(&mut self, shard: usize) {
        for trunk in self.shards[shard].signal().held_places() {
            self.page.leave(Image::calls_word(trunk));
        }
    }
}

fn write_records(region: &mut Region, outbox: &Outbox, torn: bool) {
    for (i, record) in outbox.records.iter().enumerate() {
        let mut bytes = plain(outbox, record.bytes);
        if torn && i + 1 == outbox.records.len() {
            tear(&mut bytes);
        }
        match bytes.is_empty() {
            true => region.records.remove(&record.slot),
            false => region.records.insert(record.slot, bytes),
        };
    }
}

#[allow(clippy::ptr_arg, reason = "called on the values of a map")]
fn tear(record: &mut Vec<u8>) {
    let middle = record.len() / 2;
    record[middle..].fill(0);
}
