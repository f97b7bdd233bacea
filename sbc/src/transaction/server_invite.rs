//! INVITE server transaction: RFC 3261 17.2.1 with the Accepted state of RFC 6026 7.1.
//!
//! Retransmitting a 2xx until its ACK arrives is the user's duty (13.3.1.4), and so is retransmitting a
//! reliable provisional response until its PRACK does (RFC 3262 3); both have the same shape as timers G
//! and H, so they are kept here.

use super::timer::{Due, Timers};
use base::{Instant, plain};
use std::time::Duration;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// Provisional responses only; with a clock running, the last of them awaits its PRACK.
    Proceeding,
    /// A failure was sent, its ACK is awaited.
    Completed,
    /// The ACK of a failure has arrived.
    Confirmed,
    /// A 2xx was sent, its ACK is awaited.
    Accepted,
    /// The ACK of the 2xx has arrived; retransmitted INVITEs are absorbed until timer L.
    Acknowledged,
}

/// What to do with a retransmitted INVITE.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// Send the last response again.
    Resend,
    /// Nothing.
    Absorb,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInvite {
    state: State,
    /// Next retransmission (timer G, or of the 2xx or the reliable provisional response).
    retransmit: Instant,
    interval_ms: u32,
    /// Timer H, I or L, or the time a PRACK is waited for.
    end: Instant,
}

impl ServerInvite {
    /// Proceeding: the INVITE has just arrived.
    pub fn start() -> Self {
        ServerInvite {
            state: State::Proceeding,
            retransmit: Instant::NEVER,
            interval_ms: 0,
            end: Instant::NEVER,
        }
    }

    /// A response with this status is being sent.
    pub fn respond(&mut self, status: u16, now: Instant, t: &Timers) {
        debug_assert!(self.awaits_final(), "a response after the final one");
        if status < 200 {
            return;
        }
        self.state = if status < 300 { State::Accepted } else { State::Completed };
        self.interval_ms = t.t1.as_millis() as u32;
        // A 2xx is repeated over every transport (13.3.1.4): a proxy may have lost it further on.
        let repeat = if status < 300 { now + t.t1 } else { t.first_repeat(now) };
        (self.retransmit, self.end) = (repeat, now + t.give_up());
    }

    /// The provisional response just sent is reliable: it is repeated until `pracked`.
    pub fn expect_prack(&mut self, now: Instant, t: &Timers) {
        debug_assert!(self.awaits_final(), "a reliable response after the final one");
        self.interval_ms = t.t1.as_millis() as u32;
        (self.retransmit, self.end) = (now + t.t1, now + t.give_up());
    }

    /// The PRACK has arrived.
    pub fn pracked(&mut self) {
        if self.state == State::Proceeding {
            (self.retransmit, self.end) = (Instant::NEVER, Instant::NEVER);
        }
    }

    /// Whether no final response has been sent.
    pub fn awaits_final(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Whether something is still to come: our final response, or its ACK.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed | State::Accepted)
    }

    /// Whether the ACK of a 2xx is awaited.
    pub fn awaits_ack(&self) -> bool {
        self.state == State::Accepted
    }

    /// The same INVITE arrived again.
    pub fn again(&self) -> Again {
        match self.state {
            State::Proceeding | State::Completed => Again::Resend,
            // RFC 6026 7.1: absorbed in Accepted; the 2xx has its own clock.
            State::Accepted | State::Confirmed | State::Acknowledged => Again::Absorb,
        }
    }

    /// An ACK arrived; whether it is the first.
    pub fn acknowledge(&mut self, now: Instant, t: &Timers) -> bool {
        let (state, stay) = match self.state {
            State::Completed => (State::Confirmed, t.settle()),
            State::Accepted => (State::Acknowledged, t.give_up()),
            State::Proceeding | State::Confirmed | State::Acknowledged => return false,
        };
        self.state = state;
        (self.retransmit, self.end) = (Instant::NEVER, now + stay);
        true
    }

    /// When `expire` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.retransmit.min(self.end)
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant, t: &Timers) -> Due {
        if now >= self.end && self.state == State::Proceeding {
            self.pracked();
            return Due::Unconfirmed;
        }
        if now >= self.end {
            return if self.is_open() { Due::TimedOut } else { Due::Ended };
        }
        if now < self.retransmit {
            return Due::Nothing;
        }
        let interval = Duration::from_millis(u64::from(self.interval_ms));
        let interval = match self.state {
            // RFC 3262 3: doubled each time, without a bound but the end.
            State::Proceeding => interval * 2,
            State::Completed | State::Confirmed | State::Accepted | State::Acknowledged => {
                t.back_off(interval)
            }
        };
        self.interval_ms = interval.as_millis() as u32;
        self.retransmit = now + interval;
        Due::Retransmit
    }
}

plain!(
    enum State {
        Proceeding = 0,
        Completed = 1,
        Confirmed = 2,
        Accepted = 3,
        Acknowledged = 4,
    }
);
plain!(struct ServerInvite { state, retransmit, interval_ms, end });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_response_is_repeated_until_its_ack() {
        let t = Timers::default();
        for (status, awaits) in [(200, true), (486, false)] {
            let mut tx = ServerInvite::start();
            tx.respond(180, Instant(0), &t);
            assert_eq!((tx.deadline(), tx.again()), (Instant::NEVER, Again::Resend));
            tx.respond(status, Instant(0), &t);
            assert_eq!(tx.awaits_ack(), awaits);
            assert_eq!(tx.deadline(), Instant(500_000_000));
            assert_eq!(tx.expire(Instant(500_000_000), &t), Due::Retransmit);
            assert_eq!(tx.deadline(), Instant(1_500_000_000));
            assert!(tx.acknowledge(Instant(1), &t) && !tx.acknowledge(Instant(2), &t));
            assert_eq!((tx.again(), tx.is_open()), (Again::Absorb, false));
            assert_eq!(tx.expire(Instant(1) + t.give_up(), &t), Due::Ended);
        }
    }

    #[test]
    fn a_reliable_response_is_repeated_seven_times_until_its_prack() {
        let t = Timers::default();
        let mut tx = ServerInvite::start();
        tx.expect_prack(Instant(0), &t);
        let mut sent = Vec::new();
        loop {
            let now = tx.deadline();
            match tx.expire(now, &t) {
                Due::Retransmit => sent.push(now.0 / 1_000_000),
                Due::Unconfirmed => break,
                due @ (Due::Nothing | Due::Ended | Due::TimedOut) => panic!("{due:?}"),
            }
        }
        assert_eq!(sent, [500, 1500, 3500, 7500, 15500, 31500]);
        assert!(tx.awaits_final() && tx.deadline() == Instant::NEVER, "a 5xx is still to come");
        tx.expect_prack(Instant(0), &t);
        tx.pracked();
        assert_eq!(tx.deadline(), Instant::NEVER);
        tx.respond(200, Instant(0), &t);
        tx.pracked();
        assert_ne!(tx.deadline(), Instant::NEVER, "a PRACK after the 2xx is no ACK");
    }

    #[test]
    fn without_an_ack_it_times_out() {
        let t = Timers::default();
        let mut tx = ServerInvite::start();
        tx.respond(200, Instant(0), &t);
        assert_eq!(tx.expire(Instant(0) + t.give_up(), &t), Due::TimedOut);
    }
}
