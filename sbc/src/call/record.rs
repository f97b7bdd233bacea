//! Freezing a call and bringing it back.
//!
//! A record holds the call, its transactions that are still at work, and its media endpoints. What is
//! derived (timers, indexes, flags) is not written; `thaw` rebuilds it.

use super::Call;
use crate::billing::CdrId;
use crate::transaction::{Transaction, Transactions};
use base::record::{self, Plain, Unreadable};
use base::{Home, Key};
use control::event::CallState;
use media::{EndRecord, Media};

/// Version of the layout. A new version reads its predecessor.
pub(crate) const VERSION: u16 = 20;

/// A call as it stands in the region.
pub struct CallRecord {
    /// The call.
    pub(crate) call: Call,
    /// Its transactions under their keys.
    pub(crate) transactions: Vec<(Key, Transaction)>,
    /// Its media endpoints under their keys.
    pub(crate) ends: Vec<(Key, EndRecord)>,
}

impl CallRecord {
    /// Identity of its CDR.
    pub fn cdr_id(&self) -> CdrId {
        self.call.cdr.id
    }

    /// The journal has its stop frame: what is left to do is to tell its peers.
    pub fn booked(mut self) -> CallRecord {
        self.call.booked = true;
        self
    }

    /// The home that owns the call.
    pub fn home(&self) -> Home {
        self.call.home
    }

    /// Reads a sealed record.
    pub fn open(bytes: &[u8]) -> Result<CallRecord, Unreadable> {
        record::open(VERSION, bytes).map(|(value, _)| value)
    }
}

/// Appends the sealed record of a living call, written without a copy in between.
pub(crate) fn seal(call: &Call, transactions: &Transactions, media: &Media, out: &mut Vec<u8>) {
    record::seal_with(VERSION, out, |out| {
        call.put(out);
        let keys = call.legs.iter().flat_map(|leg| leg.invite.iter().chain(&leg.others));
        counted(out, keys, |key, out| {
            let Some(tx) = transactions.get(*key) else { return false };
            key.put(out);
            tx.put(out);
            true
        });
        let ends = call.legs.iter().flat_map(|leg| {
            leg.media.into_iter().chain(leg.aside.streams.iter().map(|stream| stream.media))
        });
        counted(out, ends, |end, out| {
            let Some(record) = media.freeze(end) else { return false };
            end.put(out);
            record.put(out);
            true
        });
    });
}

/// Writes a sequence whose length is known only afterwards.
fn counted<T>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    put: impl Fn(T, &mut Vec<u8>) -> bool,
) {
    let at = out.len();
    0u32.put(out);
    let written = items.filter_map(|item| put(item, out).then_some(())).count() as u32;
    out[at..at + 4].copy_from_slice(&written.to_le_bytes());
}

impl Plain for CallRecord {
    fn put(&self, out: &mut Vec<u8>) {
        self.call.put(out);
        self.transactions.put(out);
        self.ends.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(CallRecord {
            call: Plain::take(from)?,
            transactions: Plain::take(from)?,
            ends: Plain::take(from)?,
        })
    }
}

impl Plain for Call {
    fn put(&self, out: &mut Vec<u8>) {
        (self.home.0, self.key).put(out);
        state_code(self.state).put(out);
        self.legs.put(out);
        self.near.put(out);
        self.carried.put(out);
        self.transfer.put(out);
        self.subscription.put(out);
        self.replacing.put(out);
        self.aftermath.put(out);
        self.callee.put(out);
        self.branches.put(out);
        self.candidates.put(out);
        self.awaited.put(out);
        self.draw.put(out);
        self.early.put(out);
        self.told.put(out);
        self.held.put(out);
        self.exchange.put(out);
        self.stop_on.put(out);
        self.passing.put(out);
        self.contacts.put(out);
        self.reason.put(out);
        self.number.put(out);
        self.told_ported.put(out);
        self.max_forwards.put(out);
        self.holds.put(out);
        self.question_deadline.put(out);
        self.duration_deadline.put(out);
        self.interim_deadline.put(out);
        self.cdr.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let (home, key) = <(u8, Key)>::take(from)?;
        Ok(Call {
            home: Home(home),
            key,
            state: state_of(u8::take(from)?)?,
            legs: Plain::take(from)?,
            near: Plain::take(from)?,
            carried: Plain::take(from)?,
            transfer: Plain::take(from)?,
            subscription: Plain::take(from)?,
            replacing: Plain::take(from)?,
            aftermath: Plain::take(from)?,
            callee: Plain::take(from)?,
            branches: Plain::take(from)?,
            candidates: Plain::take(from)?,
            awaited: Plain::take(from)?,
            draw: Plain::take(from)?,
            early: Plain::take(from)?,
            told: Plain::take(from)?,
            held: Plain::take(from)?,
            exchange: Plain::take(from)?,
            stop_on: Plain::take(from)?,
            passing: Plain::take(from)?,
            contacts: Plain::take(from)?,
            reason: Plain::take(from)?,
            number: Plain::take(from)?,
            told_ported: Plain::take(from)?,
            max_forwards: Plain::take(from)?,
            holds: Plain::take(from)?,
            question_deadline: Plain::take(from)?,
            duration_deadline: Plain::take(from)?,
            interim_deadline: Plain::take(from)?,
            cdr: Plain::take(from)?,
            booked: false,
            timer: None,
            dirty: false,
            reported: None,
        })
    }
}

fn state_code(state: CallState) -> u8 {
    match state {
        CallState::Deciding => 0,
        CallState::Trying => 1,
        CallState::Ringing => 2,
        CallState::Answered => 3,
        CallState::Ended => 4,
    }
}

fn state_of(code: u8) -> Result<CallState, Unreadable> {
    Ok(match code {
        0 => CallState::Deciding,
        1 => CallState::Trying,
        2 => CallState::Ringing,
        3 => CallState::Answered,
        4 => CallState::Ended,
        _ => return Err(Unreadable::Value),
    })
}
