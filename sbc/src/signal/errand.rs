//! Requests outside calls: which errand one begins or belongs to, and what becomes of it.

use super::Signal;
use crate::call::setup::Arrival;
use crate::core::{Alarm, Turn};
use crate::counters::NotPassed;
use crate::dialog::Tag;
use crate::errand::{self, Errand};
use crate::message::{Message, Method, Name};
use crate::policy::realm;
use crate::question::Question;
use crate::transaction::Owner;
use base::{Instant, Key};

impl Signal {
    /// The errand whose dialog a tag of ours names, and the side the message came from.
    pub(super) fn locate_errand(&self, tag: Option<Tag>, message: &Message) -> Option<(Key, u8)> {
        let tag = tag.filter(|tag| tag.leg >= errand::NEAR)?;
        let errand = self.errands.get(tag.call)?;
        errand::located(errand, tag, message).then_some((tag.call, tag.leg))
    }

    /// A request outside calls.
    pub(super) fn begin_errand(&mut self, turn: &mut Turn, at: Arrival, message: &Message) {
        match errand::begin(&mut self.errands, &mut self.core, turn, at, message) {
            Ok(key) => self.settle_errand(key),
            Err(errand::Refused::Status(status)) => self.answer_now(turn, at, message, status),
            Err(errand::Refused::Not(why)) => self.no_errand(turn, at, message, why),
        }
    }

    /// A request within the dialog of an errand.
    pub(super) fn follow_errand(
        &mut self,
        turn: &mut Turn,
        at: Arrival,
        (key, side): (Key, u8),
        message: &Message,
    ) {
        let Some(errand) = self.errands.get_mut(key) else { return };
        let image = self.core.image.clone();
        let sender = self.core.peer(turn, at.source);
        let may_speak = errand.peer(side).is_some_and(|(trunk, port, peer)| {
            let Some(trunk) = image.trunk(trunk) else { return false };
            let is_there = peer.ip() == at.source.ip() && sender.proves(trunk);
            port == at.port && (is_there || realm::admits(trunk, &sender))
        });
        if !may_speak {
            return self.core.counters.dropped.add(crate::counters::Dropped::WrongPeer.index());
        }
        if !errand.in_order(side, message.cseq().number) {
            return self.answer_now(turn, at, message, 500);
        }
        let owner = Owner { call: key, leg: side };
        let carried =
            errand::carry(errand, &mut self.core, turn, (side, at.source), message, |core| {
                core.serve_briefly(at.hash, Some(owner), (at.port, at.source), message)
            });
        if let Err(why) = carried {
            self.no_errand(turn, at, message, why);
        }
        self.settle_errand(key);
    }

    fn no_errand(&mut self, turn: &mut Turn, at: Arrival, message: &Message, why: NotPassed) {
        self.core.counters.not_passed.add(why.index());
        if why != NotPassed::Body {
            let is_strange = matches!(message.method(), Some(Method::Other(_)));
            let status = if why == NotPassed::Method && is_strange { 501 } else { why.status() };
            return self.answer_now(turn, at, message, status);
        }
        let image = self.core.image.clone();
        let mut trunks = realm::of_listener(&image, at.port).map(|(_, trunk)| trunk);
        let peer = self.core.peer(turn, at.source);
        let trunk = trunks.find(|trunk| realm::admits(trunk, &peer));
        let accept = trunk.map(|trunk| trunk.bodies.accept()).unwrap_or_default();
        self.answer_with(turn, at, message, 415, |print| {
            print.header(Name::Accept, &accept);
        });
    }

    /// Acts upon an errand that owns a transaction.
    pub(super) fn with_errand(
        &mut self,
        turn: &mut Turn,
        key: Key,
        act: impl FnOnce(&mut Errand, &mut crate::core::Core, &mut Turn),
    ) {
        if let Some(errand) = self.errands.get_mut(key) {
            act(errand, &mut self.core, turn);
        }
        self.settle_errand(key);
    }

    /// Goes on with errands that waited for this.
    pub(super) fn answer_errands(&mut self, turn: &mut Turn, question: &Question) {
        let waits = |errand: &Errand| errand.awaited.as_ref() == Some(question);
        let waiting: Vec<Key> =
            self.errands.iter().filter(|(_, e)| waits(e)).map(|(key, _)| key).collect();
        for key in waiting {
            self.with_errand(turn, key, errand::route);
        }
    }

    /// Ends an errand that has nothing left to do; sets the timer of one that has.
    fn settle_errand(&mut self, key: Key) {
        let Some(errand) = self.errands.get_mut(key) else { return };
        let due = if errand.is_done() { Instant::NEVER } else { errand.deadline() };
        if errand.timer.map(|(at, _)| at) != Some(due) {
            if let Some((_, timer)) = errand.timer.take() {
                self.core.wheel.cancel(timer);
            }
            if due != Instant::NEVER {
                errand.timer = Some((due, self.core.wheel.schedule(due, Alarm::Errand(key))));
            }
        }
        if errand.is_done() {
            self.errands.remove(key);
        }
    }

    pub(super) fn errand_due(&mut self, turn: &mut Turn, key: Key) {
        if let Some(errand) = self.errands.get_mut(key) {
            errand.timer = None;
        }
        self.with_errand(turn, key, errand::due);
    }
}
