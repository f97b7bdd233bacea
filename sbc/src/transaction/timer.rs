//! The timers of RFC 3261 (table 4) and RFC 6026, for unreliable transport.

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
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timers {
    /// B, F, H, J, L and M: 64 × T1.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }

    /// D: at least 32 s, so that every retransmitted failure still finds its ACK.
    pub fn d(&self) -> Duration {
        Duration::from_secs(32).max(self.give_up())
    }

    /// I and K: T4.
    pub fn settle(&self) -> Duration {
        self.t4
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
