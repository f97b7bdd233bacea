//! Responses: to the transaction our branch names, and through it to the call (RFC 3261 17.1.3).

use super::{Signal, probe};
use crate::call::{exchange, hunt, pass, session, transfer};
use crate::core::Turn;
use crate::counters::{ClassCase, Dropped};
use crate::errand;
use crate::message::{Message, Method};
use crate::transaction::{Branch, Machine};
use base::Key;

impl Signal {
    pub(super) fn response(&mut self, turn: &mut Turn, message: &Message, status: u16) {
        self.core.counters.responses_in.add(ClassCase::of(status).index());
        let Some(key) = self.client_transaction(message) else {
            return self.core.counters.dropped.add(Dropped::StrayResponse.index());
        };
        let timers = self.core.timers_of(key);
        let Some(tx) = self.core.transactions.get_mut(key) else { return };
        let (owner, peer) = (tx.owner, tx.peer);
        self.at_work = owner.filter(|o| o.leg < errand::NEAR).map(|o| o.call);
        match &mut tx.machine {
            Machine::ClientOther(machine) => {
                let is_final = machine.receive(status, turn.now.mono, &timers);
                self.core.rearm(key, turn.now.mono);
                if let Some(owner) = owner.filter(|owner| owner.leg == probe::PROBE) {
                    if is_final {
                        self.probed(turn, (owner, peer), key, Ok(status));
                    }
                    return;
                }
                if let Some(owner) = owner.filter(|owner| owner.leg >= errand::NEAR) {
                    if is_final {
                        self.with_errand(turn, owner.call, |errand, core, turn| {
                            errand::heard(errand, core, turn, key, message);
                        });
                    }
                    return;
                }
                if let Some(owner) = owner.filter(|_| is_final)
                    && let Some(call) = self.calls.get_mut(owner.call)
                {
                    if call.exchange.is_some_and(|e| e.sent == key) {
                        exchange::concluded(call, &mut self.core, turn, owner.leg, message);
                    } else if session::is_refresh(call, owner.leg, key) {
                        session::concluded(call, &mut self.core, turn, owner.leg, message);
                    } else if pass::is_passing(call, key) {
                        pass::concluded(call, &mut self.core, turn, key, message);
                    } else {
                        let is_heard = (200..300).contains(&status);
                        transfer::concluded(call, &mut self.core, turn, (key, is_heard));
                    }
                }
                self.settle_owner(turn, owner);
            }
            Machine::ClientInvite(machine) => {
                let call = owner.and_then(|o| self.calls.get_mut(o.call).map(|c| (c, o)));
                match call {
                    Some((call, owner)) => {
                        hunt::heard(call, &mut self.core, turn, (owner.leg, key), message);
                        self.settle(turn, owner.call);
                    }
                    None => {
                        // The call is over: an ACK that was lost goes out again.
                        machine.receive(status, turn.now.mono, &timers);
                        if status >= 200 && tx.text.starts_with(b"ACK ") {
                            self.core.send_again(turn, key);
                        }
                    }
                }
            }
            Machine::ServerInvite(_) | Machine::ServerOther(_) => {}
        }
    }

    /// The transaction our branch names; a response to CANCEL belongs to the one beside it.
    fn client_transaction(&self, message: &Message) -> Option<Key> {
        let branch = Branch::parse(message.via().ok()?.branch?)?;
        let tx = self.core.transactions.get(branch.transaction)?;
        if tx.hash != branch.secret {
            return None;
        }
        match (&tx.machine, message.cseq().method) {
            (Machine::ClientInvite(_), Method::Invite) => Some(branch.transaction),
            (Machine::ClientInvite(_), Method::Cancel) => tx.cancel,
            (Machine::ClientOther(_), _) => Some(branch.transaction),
            _ => None,
        }
    }
}
