//! The timers of RFC 3261 (table 4) and RFC 6026.

use base::Instant;
use std::time::Duration;

/// Base values; the lettered timers follow from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Round-trip estimate, 500 ms.
    pub t1: Duration,
    /// Longest interval between retransmissions, 4 s.
    pub t2: Duration,
    /// Longest time a message stays in the network, 5 s.
    pub t4: Duration,
    /// The transport repeats what is lost: A, E and G do not run, and nothing lingers for what D, I, J and
    /// K wait for.
    pub reliable: bool,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            reliable: false,
        }
    }
}

impl Timers {
    /// B, F, H, L and M: 64 × T1.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }

    /// D: at least 32 s, so that every retransmitted failure still finds its ACK.
    pub fn d(&self) -> Duration {
        self.linger(Duration::from_secs(32).max(self.give_up()))
    }

    /// J: 64 × T1.
    pub fn j(&self) -> Duration {
        self.linger(self.give_up())
    }

    /// A, E and G begin after T1, where the transport may lose.
    pub fn first_repeat(&self, now: Instant) -> Instant {
        if self.reliable { Instant::NEVER } else { now + self.t1 }
    }

    fn linger(&self, time: Duration) -> Duration {
        if self.reliable { Duration::ZERO } else { time }
    }

    /// I and K: T4.
    pub fn settle(&self) -> Duration {
        self.linger(self.t4)
    }

    /// The interval after `interval` for E and G, and for 2xx responses: doubled up to T2.
    pub fn back_off(&self, interval: Duration) -> Duration {
        (interval * 2).min(self.t2)
    }
}

/// What a transaction's timer says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send the stored text again.
    Retransmit,
    /// The PRACK of a reliable provisional response did not come; the transaction goes on.
    Unconfirmed,
    /// What was waited for did not come; the transaction is over.
    TimedOut,
    /// The transaction is over, as it should be.
    Ended,
}
