//! Looking after calls: the end of a touched call, its timer and event; freezing and thawing.

use super::Signal;
use crate::billing::{Cdr, Moment, Stamp};
use crate::call::record::{self, CallRecord};
use crate::call::setup::MERGED_FOR;
use crate::call::{bridge, join, release};
use crate::core::{Alarm, Turn};
use crate::errand;
use crate::policy::Image;
use crate::refusal::Refusal;
use crate::steer;
use crate::transaction::Owner;
use base::{Instant, Key};
use control::Event;
use control::event::CallState;

impl Signal {
    pub(super) fn settle_owner(&mut self, turn: &mut Turn, owner: Option<Owner>) {
        if let Some(owner) = owner.filter(|owner| owner.leg < errand::NEAR) {
            self.settle(turn, owner.call);
        }
    }

    /// Ends a call that has nothing left to do; sets its timer, marks its record, tells the gate.
    pub(super) fn settle(&mut self, turn: &mut Turn, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        bridge::tap(call, turn, self.captures.iter().any(|capture| capture.is_of(key)));
        let now_reported = (call.state, call.callee);
        if call.reported != Some(now_reported) {
            call.reported = Some(now_reported);
            turn.events.push(Event::Call(call.view()));
        }
        let core = &mut self.core;
        call.legs.iter_mut().for_each(|leg| leg.others.retain(|tx| core.is_open(*tx)));
        let at_work = call.legs.iter().any(|leg| {
            // Somebody may still ask the way.
            leg.sign.is_some()
                || leg.bye_owed
                || !leg.others.is_empty()
                || leg.invite.is_some_and(|tx| core.is_open(tx))
        });
        if call.has_ended() && !at_work {
            if let Some((_, timer)) = call.timer.take() {
                core.wheel.cancel(timer);
            }
            if let Some(gone) = self.calls.remove(key) {
                join::tell_gone(&gone, core);
            }
            self.freed.push(key.index);
            return;
        }
        let due = call.deadline();
        if call.timer.map(|t| t.0) != Some(due) {
            if let Some((_, timer)) = call.timer.take() {
                core.wheel.cancel(timer);
            }
            if due != Instant::NEVER {
                call.timer = Some((due, core.wheel.schedule(due, Alarm::Call(key))));
            }
        }
        self.touch(key);
    }

    /// A call changed: its record is written at the end of the step.
    pub(super) fn touch(&mut self, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if !core::mem::replace(&mut call.dirty, true) {
            self.dirty.push(key);
        }
    }

    /// The end of a step: writes the record of every call that changed, clears those of calls that ended.
    pub fn freeze(
        &mut self,
        turn: &mut Turn,
        record_size: usize,
        mut write: impl FnMut(u32, base::Bytes),
    ) {
        for slot in self.freed.drain(..) {
            write(slot, base::Bytes::default());
        }
        let dirty = core::mem::take(&mut self.dirty);
        for key in &dirty {
            let Some(call) = self.calls.get_mut(*key) else { continue };
            call.dirty = false;
            let at = turn.plain.len();
            record::seal(call, &self.core.transactions, turn.media, turn.plain);
            let len = turn.plain.len() - at;
            if len > record_size {
                self.core.counters.records_too_large.add(1);
                // An older record of the call would be worse than none: the journal closes its CDR.
                turn.plain.truncate(at);
                write(key.index, base::Bytes::default());
                continue;
            }
            write(key.index, base::Bytes { at: at as u32, len: len as u32 });
        }
        self.dirty = dirty;
        self.dirty.clear();
        let counters = &self.core.counters;
        counters.calls_held.set(self.calls.len() as u64);
        counters.errands_held.set(self.errands.len() as u64);
        counters.calls_active.set(self.core.answered);
        counters.transactions_held.set(self.core.transactions.len() as u64);
    }

    /// Brings a call back. `resume` lets it go on; otherwise its process died, its media with it, and
    /// `release_thawed` is to follow once all are back: what it sends would take their places.
    pub fn thaw(&mut self, turn: &mut Turn, record: CallRecord, resume: bool) {
        let CallRecord { mut call, transactions, mut ends } = record;
        let key = call.key;
        if !resume {
            ends.clear();
            call.holds.clear();
            for leg in &mut call.legs {
                leg.media = None;
                leg.aside.streams.clear();
            }
        }
        // Places are given anew: a key whose transaction had ended would name another call's.
        let left: Vec<Key> = transactions.iter().map(|(key, _)| *key).collect();
        for leg in &mut call.legs {
            leg.invite = leg.invite.filter(|key| left.contains(key));
            leg.others.retain(|key| left.contains(key));
        }
        for (tx_key, mut tx) in transactions {
            tx.cancel = tx.cancel.filter(|key| left.contains(key));
            if self.core.transactions.restore(tx_key, tx) {
                self.core.rearm(tx_key, turn.now.mono);
            }
        }
        for (end, record) in ends {
            let _lost = turn.media.thaw(end, record, turn.now.mono);
        }
        self.core.answered += u64::from(call.state == CallState::Answered);
        for trunk in &call.holds {
            self.core.page.add(Image::calls_word(*trunk));
        }
        if call.awaited.is_some() {
            self.core.waiting.push(key);
        }
        for (place, leg) in call.legs.iter().enumerate() {
            let streams = leg.aside.streams.iter().map(|stream| stream.media);
            for end in leg.media.into_iter().chain(streams) {
                self.core.own(end, key, place as u8);
            }
        }
        if let Err(mut call) = self.calls.restore(key, Box::new(call)) {
            // No place for it under another layout: its CDR is closed all the same.
            release::after_restart(&mut call, &mut self.core, turn);
            return;
        }
        self.settle(turn, key);
    }

    /// Releases every call thawed from a dead process.
    pub fn release_thawed(&mut self, turn: &mut Turn) {
        self.each(turn, release::after_restart);
    }

    /// A call with this Call-ID had its CDR from an earlier process: its INVITE begins no other.
    ///
    /// What absorbed repetitions of the INVITE, a transaction or a record, may have gone with the process.
    pub fn remember(&mut self, turn: &Turn, call_id: &[u8]) {
        if steer::of_call_id(call_id, &self.steer).seat(self.shards) == self.core.shard {
            let hash = self.core.random.hash(&[b"past", call_id]);
            self.core.past.insert(hash, ());
            self.core.wheel.schedule(turn.now.mono + MERGED_FOR, Alarm::Past(hash));
        }
    }

    /// Closes the CDR of a call of which only journal frames are left.
    pub fn close(&mut self, turn: &mut Turn, mut cdr: Cdr, last_known: Stamp) {
        cdr.end = Some(last_known);
        cdr.marks.recovered = true;
        if cdr.answer.is_none() {
            cdr.status = Refusal::Restart.status();
        }
        cdr.q850 = Refusal::Restart.q850();
        cdr.reason = Refusal::Restart.name().as_bytes().into();
        self.core.counters.refusals.add(Refusal::Restart.index());
        self.core.journal(turn, Moment::Stop, &cdr);
    }
}
