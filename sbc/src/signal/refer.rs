//! A REFER within a call: carried, executed or declined, as the trunk it came from says (RFC 3515).

use super::Signal;
use crate::call::{setup, transfer};
use crate::core::{Reply, Turn};
use crate::dialog::Contact;
use crate::message::{Message, Name};
use crate::policy::Refers;
use base::Key;

impl Signal {
    pub(super) fn refer(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let trunk = self.leg((key, place)).and_then(|leg| self.core.image.trunk(leg.trunk));
        match trunk.map(|trunk| trunk.refers).unwrap_or_default() {
            Refers::Execute => self.transfer(turn, at, (key, place), message),
            Refers::Pass => self.pass(turn, at, (key, place), message),
            Refers::Refuse => self.answer_now(turn, at, message, 603),
        }
    }

    fn transfer(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.has_ended()) else {
            return self.answer_now(turn, at, message, 481);
        };
        let transfer = match transfer::asked(&self.core, call, place, message) {
            Ok(transfer) => transfer,
            Err(status) => return self.answer_now(turn, at, message, status),
        };
        let Some(leg) = call.leg(place) else { return };
        leg.heard(message, at.source);
        let (image, face) = (self.core.image.clone(), self.core.face(at.port));
        let Some(trunk) = image.trunk(leg.trunk) else { return };
        let contact = Contact { face: &face, dialog: &leg.dialog, profile: &trunk.profile };
        let allow = trunk.methods.allow();
        let reply = Reply { contact: Some(contact), allow, ..Reply::plain(202, None) };
        let from = (at.port, at.source);
        self.core.respond_at_once(turn, at.hash, from, message, reply, |print| {
            if transfer::is_unsubscribed(message) {
                print.header(Name::ReferSub, b"false");
            }
        });
        transfer::begin(call, &mut self.core, turn, transfer);
        self.settle(turn, key);
    }
}
