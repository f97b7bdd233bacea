//! A phone's transactions: what it repeats and for how long (RFC 3261 17), independent of the node's.

use base::Instant;
use std::time::Duration;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);

/// A text that goes out again and again, until it is stopped or its time is over.
#[derive(Clone, Debug)]
pub(super) struct Repeat {
    pub(super) text: String,
    next: Instant,
    interval: Duration,
    longest: Duration,
    end: Instant,
}

impl Repeat {
    /// Timers A and B for an INVITE; E and F, or G and H, with a bound on the interval.
    pub(super) fn start(text: String, now: Instant, bounded: bool) -> Repeat {
        let longest = if bounded { T2 } else { GIVE_UP };
        Repeat { text, next: now + T1, interval: T1, longest, end: now + GIVE_UP }
    }

    /// Not sent again by itself, kept until `end`.
    pub(super) fn kept(text: String, end: Instant) -> Repeat {
        Repeat { text, next: Instant::NEVER, interval: T1, longest: T2, end }
    }

    /// No more repetitions; forgotten at `end`.
    pub(super) fn stop(&mut self, end: Instant) {
        (self.next, self.end) = (Instant::NEVER, end);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.end)
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }

    /// The text, when it is due again.
    pub(super) fn again(&mut self, now: Instant) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.interval = (self.interval * 2).min(self.longest);
        self.next = now + self.interval;
        Some(self.text.clone())
    }
}

/// How far a request of the phone's is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Calling,
    Proceeding,
    Done,
}

/// A request the phone sent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) method: &'static str,
    pub(super) branch: String,
    pub(super) cseq: u32,
    pub(super) progress: Progress,
    pub(super) repeat: Repeat,
    /// The ACK of its final response.
    pub(super) ack: Option<String>,
    /// Whether a CANCEL is to be sent as soon as it may be.
    pub(super) cancel: bool,
    /// It carries an offer.
    pub(super) offers: bool,
}

/// A request the phone received.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) method: String,
    pub(super) branch: String,
    pub(super) cseq: u32,
    /// The last response.
    pub(super) repeat: Repeat,
    pub(super) status: u16,
    /// The request, for responses that come later.
    pub(super) request: crate::Text,
}

/// The branch of the topmost Via.
pub(super) fn branch(text: &crate::Text) -> String {
    let via = text.get("Via");
    via.split_once("branch=")
        .map_or("", |(_, b)| b.split([';', ',']).next().unwrap_or(""))
        .to_owned()
}

/// Number and method of CSeq.
pub(super) fn cseq(text: &crate::Text) -> (u32, String) {
    let mut parts = text.get("CSeq").split(' ');
    let number = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    (number, parts.next().unwrap_or("").to_owned())
}
