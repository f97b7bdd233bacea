//! Counters that threads share while a load runs, and the line printed from them every second.

use crate::os::Timeline;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One writer each, read by the progress line and by whoever waits for the other side.
#[derive(Default)]
pub(crate) struct Live {
    /// Calls begun.
    pub(crate) started: AtomicU64,
    /// Calls answered, as the caller saw it.
    pub(crate) answered: AtomicU64,
    /// Calls that failed.
    pub(crate) failed: AtomicU64,
    /// Calls over, failed ones included.
    pub(crate) over: AtomicU64,
    /// Calls the called side has not seen the end of.
    pub(crate) callee_open: AtomicU64,
    /// SIP retransmissions, both sides.
    pub(crate) retransmitted: AtomicU64,
    /// RTP packets sent.
    pub(crate) sent: AtomicU64,
    /// RTP packets that came back right.
    pub(crate) received: AtomicU64,
    /// The caller's side is through.
    pub(crate) caller_done: AtomicBool,
    /// Everything is through; the progress line ends.
    pub(crate) all_done: AtomicBool,
}

/// Prints one line a second on stderr until the load is over.
pub(crate) fn progress(live: &Live, line: &Timeline, calls: u32) {
    eprintln!(" seconds    calls answered   failed     live      cps     kpps   loss %");
    let (mut last, mut second) = ((0, 0), 1);
    while !live.all_done.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        let over = live.caller_done.load(Relaxed);
        if line.now() < second * 1_000_000_000 && !over {
            continue;
        }
        let answered = live.answered.load(Relaxed);
        let (sent, heard) = (live.sent.load(Relaxed), live.received.load(Relaxed));
        let started = live.started.load(Relaxed);
        let open = started.saturating_sub(live.over.load(Relaxed));
        let loss = 100.0 * sent.saturating_sub(heard) as f64 / sent.max(1) as f64;
        eprintln!(
            "{second:>8} {:>8} {answered:>8} {:>8} {open:>8} {:>8} {:>8.1} {loss:>8.3}",
            format!("{started}/{calls}"),
            live.failed.load(Relaxed),
            answered - last.0,
            (heard - last.1) as f64 / 1_000.0,
        );
        (last, second) = ((answered, heard), second + 1);
        if over {
            return;
        }
    }
}
