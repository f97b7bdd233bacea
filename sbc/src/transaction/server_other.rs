//! Non-INVITE server transaction: RFC 3261 17.2.2.
//!
//! Every request we serve is answered in the turn it arrives in, so the machine begins in Completed:
//! the response is repeated for each retransmission until timer J.

use super::timer::{Due, Timers};
use base::{Instant, plain};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOther {
    /// Timer J.
    end: Instant,
}

impl ServerOther {
    /// Completed: the final response has just been sent.
    pub fn start(now: Instant, t: &Timers) -> Self {
        ServerOther { end: now + t.give_up() }
    }

    /// When `expire` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.end
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant) -> Due {
        if now >= self.end { Due::Ended } else { Due::Nothing }
    }
}

plain!(struct ServerOther { end });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_for_timer_j() {
        let t = Timers::default();
        let mut tx = ServerOther::start(Instant(0), &t);
        assert_eq!(tx.expire(Instant(31_999_999_999)), Due::Nothing);
        assert_eq!(tx.expire(tx.deadline()), Due::Ended);
    }
}
