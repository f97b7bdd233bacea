//! Messages that a stream did not take: its connection broke, or could not be made (RFC 3261 18.4).
//!
//! A message is its own address: our branch says whose it was. A request within a dialog is tried once more at the
//! peer's Contact, since the connection the peer came by is gone; any other is over, as if it had timed out. A
//! CANCEL bears its INVITE's branch, which is still answered. One that went over TCP for its size is sent as
//! datagrams. Responses need nothing: what repeats them is still running, or nobody waits for them.

use super::{Outcome, Signal, probe};
use crate::core::Turn;
use crate::counters::Unanswered;
use crate::errand;
use crate::message::{self, Index, Method};
use crate::transaction::{Branch, Machine};
use base::Key;

impl Signal {
    /// A message of ours that was not sent. `relayed`: another shard found that it is ours.
    pub fn unsent(&mut self, turn: &mut Turn, bytes: &[u8], relayed: bool) -> Outcome {
        let mut index = Index::new();
        let Ok(message) = message::parse(bytes, &mut index) else { return Outcome::Handled };
        let branch = message.via().ok().and_then(|via| Branch::parse(via.branch?));
        let Some(branch) = branch.filter(|_| message.is_request()) else { return Outcome::Handled };
        let seat = branch.home.seat(self.shards);
        if seat != self.core.shard {
            return if relayed { Outcome::Handled } else { Outcome::Elsewhere(seat) };
        }
        let key = branch.transaction;
        let tx = self.core.transactions.get(key).filter(|tx| tx.hash == branch.secret);
        if message.method() == Some(Method::Cancel) {
            if let Some(key) = tx.and_then(|tx| tx.cancel) {
                self.core.counters.transport_errors.add(1);
                let owner = tx.and_then(|tx| tx.owner);
                self.timed_out(turn, key);
                self.settle_owner(turn, owner);
            }
            return Outcome::Handled;
        }
        if tx.is_some_and(is_waiting) {
            self.core.counters.transport_errors.add(1);
            let (owner, peer) = (tx.and_then(|tx| tx.owner), tx.map(|tx| tx.peer));
            if let (Some(owner), Some(peer)) = (owner.filter(|o| o.leg == probe::PROBE), peer) {
                self.core.forget(key);
                self.probed(turn, (owner, peer), key, Err(Unanswered::Transport));
                return Outcome::Handled;
            }
            if !self.downgrade(turn, key) && !self.redirect(turn, key) {
                self.timed_out(turn, key);
            }
            self.settle_owner(turn, owner);
        }
        Outcome::Handled
    }

    /// Sends a request as datagrams that went over TCP for its size alone (RFC 3261 18.1.1).
    fn downgrade(&mut self, turn: &mut Turn, key: Key) -> bool {
        let Some(tx) = self.core.transactions.get(key) else { return false };
        let Some(owner) = tx.owner.filter(|owner| owner.leg < errand::NEAR) else { return false };
        let Some(leg) = self.leg((owner.call, owner.leg)) else { return false };
        if leg.port == tx.port || self.core.image.is_stream(leg.port) {
            return false;
        }
        let port = leg.port;
        self.core.carry_over(turn, key, port);
        true
    }

    /// Sends a request once more, to the address its dialog's Contact or route names.
    fn redirect(&mut self, turn: &mut Turn, key: Key) -> bool {
        let Some(tx) = self.core.transactions.get(key) else { return false };
        let (port, peer) = (tx.port, tx.peer);
        // Who opened a WebSocket cannot be dialled (RFC 7118 5.2.1).
        if self.core.face(port).transport.is_websocket() {
            return false;
        }
        let Some(owner) = tx.owner.filter(|owner| owner.leg < errand::NEAR) else { return false };
        let Some(leg) = self.calls.get_mut(owner.call).and_then(|call| call.leg(owner.leg)) else {
            return false;
        };
        let next = leg.dialog.next_hop(|a| self.core.permitted(port, a));
        if next == peer {
            return false;
        }
        leg.dialog.peer = next;
        if let Some(tx) = self.core.transactions.get_mut(key) {
            tx.peer = next;
        }
        self.core.send_again(turn, key);
        true
    }
}

fn is_waiting(tx: &crate::transaction::Transaction) -> bool {
    match &tx.machine {
        Machine::ClientInvite(machine) => machine.is_open(),
        Machine::ClientOther(machine) => machine.is_open(),
        Machine::ServerInvite(_) | Machine::ServerOther(_) => false,
    }
}
