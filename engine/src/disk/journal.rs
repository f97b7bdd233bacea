//! What the segments say at start: which calls were open, and what may not have reached the CDR files.

use super::segment::read_segments;
use base::ShardId;
use node::Ledger;
use std::io;
use std::path::Path;

/// Everything a successor reads in the segments.
#[derive(Default)]
pub struct Journal {
    /// Calls that were open, and calls that were closed.
    pub ledger: Ledger,
    /// Frames behind the last mark: the power may have gone before their CDRs were written.
    pub unsettled: Vec<(ShardId, Vec<u8>)>,
}

impl Journal {
    /// Reads every segment in `dir`.
    pub fn read(dir: &Path) -> io::Result<Journal> {
        let mut journal = Journal::default();
        for (shard, frame) in read_segments(dir)? {
            journal.ledger.read(&frame);
            match frame.is_empty() {
                true => journal.unsettled.clear(),
                false => journal.unsettled.push((shard, frame)),
            }
        }
        Ok(journal)
    }
}
