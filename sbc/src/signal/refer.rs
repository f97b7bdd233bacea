//! A REFER within a call: carried, executed or declined, as the trunk it came from says (RFC 3515). One that
//! names the dialog it is about is executed beside it (RFC 4538).

use super::Signal;
use super::join::Found;
use crate::call::subscription::Subscription;
use crate::call::{setup, transfer};
use crate::core::{Reply, Turn};
use crate::dialog::target::Target;
use crate::dialog::{Contact, Dialog};
use crate::message::{Message, Method, Name};
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
            Refers::Execute | Refers::Return => {
                self.transfer(turn, at, (key, place), None, message)
            }
            Refers::Pass => self.pass(turn, at, (key, place), message),
            Refers::Refuse => self.answer_now(turn, at, message, 603),
        }
    }

    /// The leg whose dialog a REFER outside any names, if its trunk has transfers executed.
    pub(super) fn targeted(&self, at: setup::Arrival, message: &Message) -> Option<Found> {
        if message.method() != Some(Method::Refer) || message.to().ok()?.tag().is_some() {
            return None;
        }
        let Target { call_id, ours, theirs } = Target::of(message)?;
        let found = self.locate(at.call, ours, (call_id, theirs))?;
        if let Found::Here(key, place) = found {
            let leg = self.leg((key, place)).filter(|leg| leg.port == at.port)?;
            let trunk = self.core.image.trunk(leg.trunk)?;
            return trunk.refers.executes().then_some(found);
        }
        Some(found)
    }

    /// A REFER beside the dialog it is about: it begins one of its own, in which its NOTIFYs go.
    pub(super) fn refer_beside(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        match setup::caller_dialog(&mut self.core, at, message) {
            Ok(mut dialog) => {
                (dialog.tag.call, dialog.tag.leg) = (key, place);
                self.transfer(turn, at, (key, place), Some(dialog), message);
            }
            Err(_) => self.answer_now(turn, at, message, 400),
        }
    }

    fn transfer(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        beside: Option<Dialog>,
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
        if beside.is_none() {
            leg.heard(message, at.source);
        }
        let (image, face) = (self.core.image.clone(), self.core.face(at.port));
        let Some(trunk) = image.trunk(leg.trunk) else { return };
        let contact = Contact { face: &face, dialog: &leg.dialog, profile: &trunk.profile };
        let allow = trunk.methods.allow();
        let tag = beside.as_ref().map(|dialog| dialog.tag);
        let reply = Reply { contact: Some(contact), allow, ..Reply::plain(202, tag) };
        let from = (at.port, at.source);
        self.core.respond_at_once(turn, at.hash, from, message, reply, |print| {
            if transfer::is_unsubscribed(message) {
                print.header(Name::ReferSub, b"false");
            }
        });
        let subscription = (!transfer::is_unsubscribed(message))
            .then(|| Box::new(Subscription::new(place, transfer.refer, beside.map(Box::new))));
        transfer::begin(call, &mut self.core, turn, (transfer, subscription));
        self.settle(turn, key);
    }
}
