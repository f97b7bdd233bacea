//! Records and journal frames: damaged ones are refused, whatever is in them.

use base::record;
use sbc::CallRecord;
use sbc::billing::Frame;
use std::hint::black_box;

/// Bytes as a record and as a frame: as they are, and under a header that fits them.
pub fn record(data: &[u8]) {
    open(data);
    let mut sealed = Vec::new();
    record::seal_with(1, &mut sealed, |out| out.extend_from_slice(data));
    open(&sealed);
}

fn open(bytes: &[u8]) {
    if let Ok(call) = CallRecord::open(bytes) {
        black_box((call.home(), call.cdr_id()));
    }
    if let Ok(frame) = Frame::open(bytes) {
        let mut again = Vec::new();
        frame.seal(&mut again);
        assert_eq!(Frame::open(&again), Ok(frame), "a frame is read as it was written");
    }
    let mut ledger = node::Ledger::default();
    black_box(ledger.read(bytes));
}
