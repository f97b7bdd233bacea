//! Everything else that happens: answers to questions, notices of media, orders, timers.

use super::{Signal, probe};
use crate::call::branch::Branch;
use crate::call::{
    self, Call, digits, direct, early, exchange, hunt, pass, release, session, setup, transfer,
};
use crate::core::{Alarm, Core, Turn};
use crate::counters::Unanswered;
use crate::errand;
use crate::question::{Answer, PortedNumber, Question};
use crate::refusal::Refusal;
use crate::transaction::{Due, Machine};
use base::{Instant, Key};
use control::event::{CallId, CallState, Sampled};
use control::{Command, Event};
use media::dtls::{Failure, PATIENCE};
use media::{Notice, Sample};

impl Signal {
    /// An answer to a question.
    pub fn answer(&mut self, turn: &mut Turn, answer: Answer) {
        let question = Question::Resolve(answer.query.clone());
        self.core.names.learn(answer, turn.now.mono);
        self.resume(turn, &question);
    }

    /// An answer about a number.
    pub fn ported(&mut self, turn: &mut Turn, answer: PortedNumber) {
        self.core.ported.learn(answer, turn.now.mono);
        self.resume(turn, &Question::Port(answer.number));
    }

    /// Decides again for everything that waited for this.
    fn resume(&mut self, turn: &mut Turn, question: &Question) {
        self.answer_errands(turn, question);
        let waiting = core::mem::take(&mut self.core.waiting);
        for key in waiting {
            let Some(call) = self.calls.get_mut(key) else { continue };
            match &call.awaited {
                Some(awaited) if awaited == question => {
                    setup::route(call, &mut self.core, turn);
                    self.settle(turn, key);
                }
                Some(_) => self.core.waiting.push(key),
                None => {}
            }
        }
    }

    /// Something media noticed.
    pub fn heard(&mut self, turn: &mut Turn, notice: Notice) {
        let end = match notice {
            Notice::Sampled(sample) => return self.sampled(turn, sample),
            Notice::Silent { end, .. }
            | Notice::Latched { end, .. }
            | Notice::Secured { end }
            | Notice::Unsecured { end, .. }
            | Notice::Pressed { end, .. } => end,
        };
        let Some(owner) = self.core.ends.get(end.index as usize).copied().flatten() else { return };
        let Some(call) = self.calls.get_mut(owner.call) else { return };
        if let Notice::Pressed { pressed, .. } = notice {
            digits::pressed(call, &mut self.core, turn, owner.leg, pressed);
        }
        if matches!(notice, Notice::Silent { .. })
            && call.state == CallState::Answered
            && call::bridge::is_dead(call, turn)
        {
            release::release(call, &mut self.core, turn, Refusal::MediaTimeout);
        }
        // A further line without keys has no media; the call goes on. Somebody else's certificate is its end.
        let leg = call.legs.get(usize::from(owner.leg));
        let is_further = leg.is_some_and(|leg| leg.media != Some(end));
        if let Notice::Unsecured { why, .. } = notice
            && (why == Failure::Fingerprint || !is_further)
        {
            unsecured(call, &mut self.core, turn, why);
        }
        self.settle(turn, owner.call);
    }

    /// A window of what a leg sent was rated: whoever watches is told, and nothing else changes.
    fn sampled(&mut self, turn: &mut Turn, sample: Sample) {
        let Some(owner) = self.core.ends.get(sample.end.index as usize).copied().flatten() else {
            return;
        };
        let Some(call) = self.calls.get(owner.call) else { return };
        let Some(leg) = call.legs.get(usize::from(owner.leg)) else { return };
        turn.events.push(Event::Sampled(Sampled {
            id: call.id(),
            is_callers: owner.leg == call.near,
            trunk: leg.trunk,
            expected: sample.expected,
            lost: sample.lost,
            jitter_us: sample.jitter_us,
            rtt_us: sample.rtt_us,
            r_milli: sample.r_milli,
            mos_centi: sample.mos_centi,
            mos_least_centi: sample.least_centi,
            mos_mean_centi: sample.mean_centi,
        }));
    }

    /// An operator's order.
    pub fn command(&mut self, turn: &mut Turn, command: Command) {
        match command {
            Command::Drain => self.core.draining = true,
            Command::Hangup(id) => {
                let key = key_of(id);
                let Some(call) = self.calls.get_mut(key) else { return };
                release::release(call, &mut self.core, turn, Refusal::Operator);
                self.settle(turn, key);
            }
            Command::Anchor(id) => {
                let key = key_of(id);
                let Some(call) = self.calls.get_mut(key) else { return };
                // What is under way comes first: whoever ordered it sees that nothing has changed.
                let _refused = direct::anchor(call, &mut self.core, turn);
                self.settle(turn, key);
            }
            Command::Capture(id) => self.capture(turn, id),
            Command::Uncapture(id) => self.uncapture(turn, id),
            Command::ReleaseAll => self.each(turn, |call, core, turn| {
                release::release(call, core, turn, Refusal::Operator);
            }),
            Command::Resync => {
                turn.events.extend(self.calls.iter().flat_map(|(_, call)| {
                    [
                        Event::Call(call.view()),
                        Event::Why { id: call.id(), record: call.cdr.why.clone() },
                    ]
                }));
                turn.events.push(Event::Synced);
            }
        }
    }

    pub(super) fn each(
        &mut self,
        turn: &mut Turn,
        mut act: impl FnMut(&mut Call, &mut Core, &mut Turn),
    ) {
        let keys: Vec<Key> = self.calls.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(call) = self.calls.get_mut(key) {
                act(call, &mut self.core, turn);
            }
            self.settle(turn, key);
        }
    }

    /// Time has passed.
    pub fn expire(&mut self, turn: &mut Turn) {
        let Core { wheel, due, .. } = &mut self.core;
        wheel.turn(turn.now.mono, |alarm| due.push_back(alarm));
        // What one makes due waits for the next turn, so that a turn ends.
        for _ in 0..self.core.due.len() {
            let Some(alarm) = self.core.due.pop_front() else { return };
            match alarm {
                Alarm::Transaction(key) => self.transaction_due(turn, key),
                Alarm::Call(key) => self.call_due(turn, key),
                Alarm::Errand(key) => self.errand_due(turn, key),
                Alarm::Sign(hash) => {
                    self.core.signs.remove(&hash);
                }
                Alarm::Merged(hash) => {
                    self.core.merged.remove(&hash);
                }
                Alarm::Past(hash) => {
                    self.core.past.remove(&hash);
                }
                Alarm::KeepAlive(generation) => self.keep_alive(turn, generation),
                Alarm::Probe(generation) => self.probe(turn, generation),
            }
        }
    }

    fn transaction_due(&mut self, turn: &mut Turn, key: Key) {
        let timers = self.core.timers_of(key);
        let Some(tx) = self.core.transactions.get_mut(key) else { return };
        tx.timer = None;
        let (owner, due) = (tx.owner, tx.expire(turn.now.mono, &timers));
        match due {
            Due::Nothing => self.core.rearm(key, turn.now.mono),
            Due::Retransmit => {
                self.core.send_again(turn, key);
                self.core.rearm(key, turn.now.mono);
            }
            Due::Ended => self.core.forget(key),
            Due::Unconfirmed => {
                let call = owner.and_then(|o| self.calls.get_mut(o.call));
                call.into_iter().for_each(|c| early::unconfirmed(c, &mut self.core, turn));
            }
            Due::TimedOut => self.timed_out(turn, key),
        }
        if due != Due::Nothing {
            self.settle_owner(turn, owner);
        }
    }

    pub(super) fn timed_out(&mut self, turn: &mut Turn, key: Key) {
        self.core.counters.transaction_timeouts.add(1);
        let Some(tx) = self.core.transactions.get(key) else { return };
        let (machine, owner, peer) = (tx.machine.clone(), tx.owner, tx.peer);
        self.core.forget(key);
        let Some(owner) = owner else { return };
        if owner.leg == probe::PROBE {
            return self.probed(turn, (owner, peer), key, Err(Unanswered::Timeout));
        }
        if owner.leg >= errand::NEAR {
            return self.with_errand(turn, owner.call, |errand, core, turn| {
                errand::timed_out(errand, core, turn, key);
            });
        }
        let Some(call) = self.calls.get_mut(owner.call) else { return };
        match machine {
            Machine::ClientInvite(_) => {
                if call.exchange.is_some_and(|e| e.sent == key) {
                    exchange::refused(call, &mut self.core, turn, 408);
                } else if session::is_refresh(call, owner.leg, key) {
                    session::lost(call, &mut self.core, turn, owner.leg);
                } else {
                    hunt::failed(call, &mut self.core, turn, owner.leg, 408, Refusal::NoResponse);
                }
            }
            Machine::ServerInvite(_) => {
                if !call.has_ended() && call.state == CallState::Answered {
                    release::release(call, &mut self.core, turn, Refusal::NoAck);
                }
                release::pay_bye(call, &mut self.core, turn, owner.leg);
            }
            Machine::ClientOther(_) => {
                if call.exchange.is_some_and(|e| e.sent == key) {
                    exchange::refused(call, &mut self.core, turn, 408);
                } else if session::is_refresh(call, owner.leg, key) {
                    session::lost(call, &mut self.core, turn, owner.leg);
                } else {
                    pass::timed_out(call, &mut self.core, turn, key);
                    transfer::concluded(call, &mut self.core, turn, (key, false));
                }
            }
            Machine::ServerOther(_) => {}
        }
    }

    fn call_due(&mut self, turn: &mut Turn, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.timer = None;
        let (now, core) = (turn.now.mono, &mut self.core);
        let late = |due: fn(&Branch) -> Instant| {
            let branch = call.branches.iter().find(|branch| now >= due(branch));
            branch.map(|branch| branch.leg)
        };
        let silent = late(|branch| branch.trying_deadline);
        let rung_out = late(|branch| branch.ring_deadline);
        if now >= call.duration_deadline {
            release::release(call, core, turn, Refusal::MaxDuration);
        } else if now >= call.question_deadline {
            setup::answer_is_late(call, core, turn);
        } else if let Some(leg) = silent {
            hunt::give_up(call, core, turn, leg, Refusal::NoResponse);
        } else if let Some(leg) = rung_out {
            hunt::give_up(call, core, turn, leg, Refusal::RingTimeout);
        } else if now >= session::deadline(call) {
            session::due(call, core, turn);
        } else if now >= call.interim_deadline {
            hunt::interim(call, core, turn);
        }
        self.settle(turn, key);
    }
}

/// A side has no keys of its handshake. One with another certificate than it promised is somebody else, and
/// that is the end; else an answered call has had as long as media waits.
fn unsecured(call: &mut Call, core: &mut Core, turn: &mut Turn, why: Failure) {
    let answered = call.cdr.answer.filter(|_| call.state == CallState::Answered);
    let is_over =
        |patience| answered.is_some_and(|at| turn.now.mono.since(Instant(at.mono)) >= patience);
    let reason = match why {
        Failure::Fingerprint => Refusal::DtlsFingerprint,
        Failure::Restart if answered.is_some() => Refusal::DtlsFailed,
        Failure::Restart => return,
        Failure::Timeout | Failure::Protocol | Failure::NoProfile | Failure::Defect => {
            if !is_over(PATIENCE) {
                return;
            }
            Refusal::DtlsFailed
        }
    };
    if !call.has_ended() {
        release::release(call, core, turn, reason);
    }
}

pub(super) fn key_of(id: CallId) -> Key {
    Key { index: id.index, generation: id.generation }
}
