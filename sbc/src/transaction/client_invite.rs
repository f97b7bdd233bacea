//! INVITE client transaction: RFC 3261 17.1.1 with the Accepted state of RFC 6026 7.2.
//!
//! Knows states and times only; the text it sends and the peer it sends to are its holder's.

use super::timer::{Due, Timers};
use base::{Instant, plain};
use std::time::Duration;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    Completed,
    Accepted,
}

/// What a response means to the user of the transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A provisional response.
    Provisional,
    /// A 2xx; an ACK is the user's duty, for each of them.
    Success,
    /// The first 3xx–6xx; an ACK is the transaction's duty.
    Failure,
    /// The same failure again: the ACK goes out again and nobody else needs to know.
    FailureAgain,
    /// Nothing that matters any more.
    Nothing,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInvite {
    state: State,
    /// Next retransmission (timer A).
    retransmit: Instant,
    interval_ms: u32,
    /// Timer B, D or M.
    end: Instant,
    /// Nobody waits for the final response: `end` stands whatever provisional ones still come.
    abandoned: bool,
}

impl ClientInvite {
    /// Calling: the request has just been sent.
    pub fn start(now: Instant, t: &Timers) -> Self {
        ClientInvite {
            state: State::Calling,
            retransmit: t.first_repeat(now),
            interval_ms: t.t1.as_millis() as u32,
            end: now + t.give_up(),
            abandoned: false,
        }
    }

    /// A response with this status arrived.
    pub fn receive(&mut self, status: u16, now: Instant, t: &Timers) -> Heard {
        match (self.state, status / 100) {
            (State::Calling | State::Proceeding, 1) => {
                // 17.1.1.2: no retransmission and no time limit once anything was heard.
                self.state = State::Proceeding;
                self.retransmit = Instant::NEVER;
                if !self.abandoned {
                    self.end = Instant::NEVER;
                }
                Heard::Provisional
            }
            (State::Calling | State::Proceeding, 2) => {
                // RFC 6026 7.2: stay for timer M, to pass further 2xx from forks.
                self.state = State::Accepted;
                (self.retransmit, self.end) = (Instant::NEVER, now + t.give_up());
                Heard::Success
            }
            (State::Calling | State::Proceeding, _) => {
                self.state = State::Completed;
                (self.retransmit, self.end) = (Instant::NEVER, now + t.d());
                Heard::Failure
            }
            (State::Accepted, 2) => Heard::Success,
            (State::Completed, 3..=6) => Heard::FailureAgain,
            (State::Completed | State::Accepted, _) => Heard::Nothing,
        }
    }

    /// Whether a provisional response has arrived: only then may a CANCEL be sent (9.1).
    pub fn may_cancel(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Whether a final response is still to come.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// A CANCEL was sent, or the dialog has ended: without a final response within 64 × T1 the
    /// transaction is over (9.1).
    pub fn abandoned(&mut self, now: Instant, t: &Timers) {
        if self.is_open() && !self.abandoned {
            self.abandoned = true;
            self.end = now + t.give_up();
        }
    }

    /// When `expire` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.retransmit.min(self.end)
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant) -> Due {
        if now >= self.end {
            return if self.is_open() { Due::TimedOut } else { Due::Ended };
        }
        if now < self.retransmit {
            return Due::Nothing;
        }
        // Timer A doubles without bound (17.1.1.2).
        self.interval_ms = self.interval_ms.saturating_mul(2);
        self.retransmit = now + Duration::from_millis(u64::from(self.interval_ms));
        Due::Retransmit
    }
}

plain!(
    enum State {
        Calling = 0,
        Proceeding = 1,
        Completed = 2,
        Accepted = 3,
    }
);
plain!(struct ClientInvite { state, retransmit, interval_ms, end, abandoned });

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timers = Timers {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        reliable: false,
    };

    #[test]
    fn unanswered_it_is_sent_seven_times_in_32_seconds() {
        let mut tx = ClientInvite::start(Instant(0), &T);
        let mut sent = vec![0];
        loop {
            let now = tx.deadline();
            match tx.expire(now) {
                Due::Retransmit => sent.push(now.0 / 1_000_000),
                Due::TimedOut => {
                    assert_eq!(now.0, 32_000_000_000);
                    break;
                }
                due @ (Due::Nothing | Due::Ended | Due::Unconfirmed) => panic!("{due:?}"),
            }
        }
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    }

    #[test]
    fn a_provisional_stops_the_clock_and_permits_cancel() {
        let mut tx = ClientInvite::start(Instant(0), &T);
        assert!(!tx.may_cancel());
        assert_eq!(tx.receive(100, Instant(1), &T), Heard::Provisional);
        assert!(tx.may_cancel());
        assert_eq!(tx.deadline(), Instant::NEVER);
        tx.abandoned(Instant(1), &T);
        assert_eq!(tx.receive(180, Instant(2), &T), Heard::Provisional);
        assert_eq!(tx.expire(Instant(1) + T.give_up()), Due::TimedOut);
    }

    #[test]
    fn failures_are_acknowledged_again_for_timer_d_successes_passed_for_timer_m() {
        let mut tx = ClientInvite::start(Instant(0), &T);
        assert_eq!(tx.receive(486, Instant(0), &T), Heard::Failure);
        assert_eq!(tx.receive(486, Instant(1), &T), Heard::FailureAgain);
        assert_eq!(tx.receive(200, Instant(1), &T), Heard::Nothing);
        assert_eq!(tx.expire(Instant(0) + Duration::from_secs(32)), Due::Ended);

        let mut tx = ClientInvite::start(Instant(0), &T);
        assert_eq!(tx.receive(200, Instant(0), &T), Heard::Success);
        assert_eq!(tx.receive(200, Instant(1), &T), Heard::Success);
        assert_eq!(tx.receive(486, Instant(1), &T), Heard::Nothing);
        assert_eq!(tx.expire(Instant(0) + T.give_up()), Due::Ended);
    }
}
