//! Non-INVITE client transaction: RFC 3261 17.1.2. Everything but INVITE and ACK.

use super::timer::{Due, Timers};
use base::{Instant, plain};
use std::time::Duration;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Trying,
    Proceeding,
    Completed,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOther {
    state: State,
    /// Next retransmission (timer E).
    retransmit: Instant,
    interval_ms: u32,
    /// Timer F or K.
    end: Instant,
}

impl ClientOther {
    /// Trying: the request has just been sent.
    pub fn start(now: Instant, t: &Timers) -> Self {
        ClientOther {
            state: State::Trying,
            retransmit: t.first_repeat(now),
            interval_ms: t.t1.as_millis() as u32,
            end: now + t.give_up(),
        }
    }

    /// A response with this status arrived; whether it is the first final one.
    pub fn receive(&mut self, status: u16, now: Instant, t: &Timers) -> bool {
        match (self.state, status / 100) {
            (State::Trying | State::Proceeding, 1) => {
                // 17.1.2.2: in Proceeding, timer E runs at T2.
                self.state = State::Proceeding;
                self.interval_ms = t.t2.as_millis() as u32;
                false
            }
            (State::Trying | State::Proceeding, _) => {
                self.state = State::Completed;
                (self.retransmit, self.end) = (Instant::NEVER, now + t.settle());
                true
            }
            (State::Completed, _) => false,
        }
    }

    /// Whether a final response is still to come.
    pub fn is_open(&self) -> bool {
        self.state != State::Completed
    }

    /// When `expire` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.retransmit.min(self.end)
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant, t: &Timers) -> Due {
        if now >= self.end {
            return if self.is_open() { Due::TimedOut } else { Due::Ended };
        }
        if now < self.retransmit {
            return Due::Nothing;
        }
        let interval = t.back_off(Duration::from_millis(u64::from(self.interval_ms)));
        self.interval_ms = interval.as_millis() as u32;
        self.retransmit = now + interval;
        Due::Retransmit
    }
}

plain!(
    enum State {
        Trying = 0,
        Proceeding = 1,
        Completed = 2,
    }
);
plain!(struct ClientOther { state, retransmit, interval_ms, end });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unanswered_it_is_sent_eleven_times() {
        let t = Timers::default();
        let mut tx = ClientOther::start(Instant(0), &t);
        let mut sent = vec![0];
        loop {
            let now = tx.deadline();
            match tx.expire(now, &t) {
                Due::Retransmit => sent.push(now.0 / 1_000_000),
                Due::TimedOut => break,
                due @ (Due::Nothing | Due::Ended | Due::Unconfirmed) => panic!("{due:?}"),
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    }

    #[test]
    fn the_first_final_response_counts() {
        let t = Timers::default();
        let mut tx = ClientOther::start(Instant(0), &t);
        assert!(!tx.receive(100, Instant(1), &t) && tx.is_open());
        assert!(tx.receive(481, Instant(2), &t) && !tx.is_open());
        assert!(!tx.receive(200, Instant(3), &t));
        assert_eq!(tx.expire(Instant(2) + t.t4, &t), Due::Ended);
    }
}
