//! Signs and letters: where a dialog is that has become part of another call, what calls say to each other
//! when a leg goes from one to the other (`call::join`), and INVITEs that are to replace a dialog.

use super::{Outcome, Signal};
use crate::call::join::{self, Move, What};
use crate::call::{Call, Whereabouts, replace, setup};
use crate::core::{Alarm, Core, Turn};
use crate::dialog::Tag;
use crate::dialog::replaces::{Named, Replaces};
use crate::message::Message;
use crate::policy::{Refers, realm};
use crate::refusal::Refusal;
use crate::steer;
use base::{Home, Key, ShardId};

/// How many signs lead from one to the next.
const MAX_SIGNS: usize = 8;

/// Where a dialog of ours is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A leg of a call of this shard.
    Here(Key, u8),
    /// A call of another shard's.
    There(Whereabouts),
}

impl Signal {
    /// The dialog of a tag, by way of signs; `call` has it, or had it.
    pub(super) fn find(&self, tag: Tag, call: Key) -> Option<Found> {
        let mut key = call;
        for _ in 0..MAX_SIGNS {
            let call = self.calls.get(key)?;
            let place = call.place_of(tag)?;
            let Some(sign) = call.legs.get(usize::from(place))?.sign else {
                return Some(Found::Here(key, place));
            };
            if Home(sign.home).seat(self.shards) != self.core.shard {
                return Some(Found::There(sign));
            }
            key = sign.call;
        }
        None
    }

    pub(super) fn elsewhere(&self, at: Whereabouts) -> Outcome {
        Outcome::Signed(Home(at.home).seat(self.shards), at.call)
    }

    /// A letter of another call's.
    pub fn moved(&mut self, letter: Move) {
        self.core.moves.push_back(letter);
    }

    /// Delivers what calls have to say to each other; `send` takes what is for other shards.
    pub fn deliver(&mut self, turn: &mut Turn, mut send: impl FnMut(ShardId, Move)) {
        while let Some(letter) = self.core.moves.pop_front() {
            let seat = letter.home().seat(self.shards);
            match seat == self.core.shard {
                true => self.read(turn, letter),
                false => send(seat, letter),
            }
        }
    }

    fn read(&mut self, turn: &mut Turn, Move { to, what }: Move) {
        match what {
            What::Asked { by, refer, replaces } => self.give(turn, to, (by, refer, replaces)),
            What::Given(given) => {
                let from = given.from();
                let taken = match self.calls.get_mut(to.call) {
                    Some(call) => join::given(call, &mut self.core, turn, given),
                    None => Err(given),
                };
                if let Err(given) = taken {
                    self.core.moves.push_back(Move { to: from, what: What::Back(given) });
                }
                self.settle(turn, to.call);
            }
            What::Denied { refer, status } => self.with_call(turn, to.call, |call, core, turn| {
                join::denied(call, core, turn, refer, status);
            }),
            What::Taken { tag, cdr } => self.with_call(turn, to.call, |call, core, turn| {
                join::taken(call, core, turn, tag, cdr);
            }),
            What::Back(given) => self.with_call(turn, to.call, |call, core, turn| {
                join::back(call, core, turn, *given);
            }),
            What::Over { tag, why, q850, by } => {
                self.with_call(turn, to.call, |call, core, turn| {
                    join::over(call, core, turn, tag, (why, q850, by));
                });
            }
            What::Gone(tag) => self.with_call(turn, to.call, |call, _, _| join::gone(call, tag)),
            What::End { tag, why } => self.with_call(turn, to.call, |call, core, turn| {
                join::end(call, core, turn, tag, why);
            }),
            What::Cancels { call_id, at } => {
                let hash = self.core.random.hash(&[b"sign", &call_id]);
                self.core.signs.insert(hash, at);
                self.core.wheel.schedule(turn.now.mono + setup::MERGED_FOR, Alarm::Sign(hash));
            }
        }
    }

    fn with_call(
        &mut self,
        turn: &mut Turn,
        key: Key,
        act: impl FnOnce(&mut Call, &mut Core, &mut Turn),
    ) {
        if let Some(call) = self.calls.get_mut(key) {
            act(call, &mut self.core, turn);
            self.settle(turn, key);
        }
    }

    /// A call asks for the leg opposite a dialog that is here, or was.
    fn give(
        &mut self,
        turn: &mut Turn,
        to: Whereabouts,
        (by, refer, replaces): (Whereabouts, u32, Replaces),
    ) {
        let found = replaces.named().and_then(|named| self.find(named.tag(), to.call));
        let same_shard = Home(by.home).seat(self.shards) == self.core.shard;
        let answer = match found {
            Some(Found::There(at)) => {
                let what = What::Asked { by, refer, replaces };
                return self.core.moves.push_back(Move { to: at, what });
            }
            Some(Found::Here(key, place)) => {
                let asked = (by, refer, &replaces);
                let given = self
                    .calls
                    .get_mut(key)
                    .ok_or(481u16)
                    .and_then(|call| join::give(call, &self.core, place, asked, same_shard));
                self.settle(turn, key);
                given.map(What::Given)
            }
            None => Err(481),
        };
        let what = answer.unwrap_or_else(|status| What::Denied { refer, status });
        self.core.moves.push_back(Move { to: by, what });
    }

    /// An INVITE that is to replace a dialog (RFC 3891 3): `None` when it is one like any other.
    pub(super) fn replacing(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        message: &Message,
    ) -> Option<Outcome> {
        let asked = Replaces::asked(message)?;
        let peer = self.core.peer(turn, at.source);
        let (number, host) = (setup::dialled_in(message), message.request_uri());
        let host = host.as_ref().map_or(&b""[..], |uri| uri.host);
        let trunk = realm::trunk_of(&self.core.image, at.port, &peer, &number, host)?;
        let refers = self.core.image.trunk(trunk)?.refers;
        if refers == Refers::Refuse {
            return None;
        }
        let Ok(replaces) = asked else {
            self.answer_now(turn, at, message, 400);
            return Some(Outcome::Handled);
        };
        let named = replaces.named();
        if named.is_none() && refers == Refers::Pass {
            // Somebody else's; this trunk was not told that we know the extension.
            return None;
        }
        let found =
            named.and_then(|named| self.find(named.tag(), at.call.unwrap_or(named.tag().call)));
        match found {
            Some(Found::There(sign)) => return Some(self.elsewhere(sign)),
            Some(Found::Here(key, place)) => {
                self.replace(turn, at, (key, place), (trunk, &replaces), message);
            }
            None => {
                let refused = (trunk, Refusal::ReplacesUnknown);
                setup::refuse_replacing(&mut self.core, turn, at, message, refused);
            }
        }
        Some(Outcome::Handled)
    }

    fn replace(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        (trunk, replaces): (u16, &Replaces),
        message: &Message,
    ) {
        let core = &mut self.core;
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_named =
            call.legs.get(usize::from(place)).is_some_and(|l| join::is_named(l, replaces));
        let old = match replaces.named() {
            Some(Named::Replaced(_)) => Some(place),
            Some(Named::Staying(_)) => call.other(place),
            None => None,
        };
        let old = old.filter(|_| is_named).ok_or(Refusal::ReplacesUnknown);
        let begun = old.and_then(|old| {
            replace::check(call, core, old, ((trunk, at.port), replaces), message)?;
            replace::begin(call, core, turn, at, (old, trunk), message)
        });
        if let Err(refusal) = begun {
            return setup::refuse_replacing(core, turn, at, message, (trunk, refusal));
        }
        let home = steer::of_call_id(message.call_id(), &self.steer);
        if home.seat(self.shards) != core.shard {
            let (call_id, at) = (message.call_id().into(), call.whereabouts());
            let to = Whereabouts { home: home.0, call: key };
            core.moves.push_back(Move { to, what: What::Cancels { call_id, at } });
        }
        self.settle(turn, key);
    }

    /// Where a CANCEL belongs whose INVITE went by its Replaces.
    pub(super) fn cancels(&self, message: &Message) -> Option<Outcome> {
        if self.core.signs.is_empty() {
            return None;
        }
        let hash = self.core.random.hash(&[b"sign", message.call_id()]);
        self.core.signs.get(&hash).map(|at| self.elsewhere(*at))
    }
}
