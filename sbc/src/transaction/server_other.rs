//! Non-INVITE server transaction: RFC 3261 17.2.2.
//!
//! Most requests are answered in the turn they arrive in; one that is carried to another leg waits in
//! Trying until that leg has answered. From then on the response is repeated until timer J.

use super::timer::{Due, Timers};
use base::{Instant, plain};

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOther {
    /// Timer J; never, while the final response is still to be sent.
    end: Instant,
}

impl ServerOther {
    /// Trying: the request has just arrived.
    pub fn start() -> Self {
        ServerOther { end: Instant::NEVER }
    }

    /// The final response is being sent.
    pub fn respond(&mut self, now: Instant, t: &Timers) {
        debug_assert!(self.awaits_final(), "a response after the final one");
        self.end = now + t.j();
    }

    /// Whether no final response has been sent.
    pub fn awaits_final(&self) -> bool {
        self.end == Instant::NEVER
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
    fn once_answered_it_stays_for_timer_j() {
        let t = Timers::default();
        let mut tx = ServerOther::start();
        assert!(tx.awaits_final() && tx.deadline() == Instant::NEVER);
        tx.respond(Instant(0), &t);
        assert!(!tx.awaits_final());
        assert_eq!(tx.expire(Instant(31_999_999_999)), Due::Nothing);
        assert_eq!(tx.expire(tx.deadline()), Due::Ended);
    }
}
