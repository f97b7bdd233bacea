//! Requests within a dialog that are carried to the other leg as they are: checked, and a REFER's target
//! said in the words of the other side (RFC 3515, RFC 3891).

use super::Signal;
use super::join::Found;
use super::request::identity;
use crate::call::digits::{self, Info};
use crate::call::{pass, setup};
use crate::core::{Reply, Turn};
use crate::counters::NotPassed;
use crate::dialog::Tag;
use crate::dialog::replaces::{self, Replaces};
use crate::message::{Message, Method, Name, Scheme};
use crate::policy::realm;
use crate::transaction::Owner;
use base::Key;

impl Signal {
    pub(super) fn pass(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
    ) {
        let Some(call) = self.calls.get(key).filter(|call| !call.has_ended()) else {
            return self.answer_now(turn, at, message, 481);
        };
        let informed = match (message.method(), call.other(place)) {
            (Some(Method::Info), Some(to)) => {
                digits::informed(call, &self.core, turn, (place, to), message)
            }
            _ => Info::Crosses,
        };
        let status = match informed {
            Info::Crosses | Info::Rewritten(..) => None,
            Info::Pressed => Some(200),
            Info::Garbled => Some(400),
            Info::Full => Some(480),
        };
        if let Some(status) = status {
            return self.inform(turn, at, (key, place), message, status);
        }
        let may = pass::may_pass(call, &self.core, place, message);
        let may = may.and_then(|to| Ok((to, self.refer_to(key, (place, to), message)?)));
        let (to, refer_to) = match may {
            Ok(may) => may,
            Err(why) => return self.not_passed(turn, at, (key, place), message, why),
        };
        let owner = Some(Owner { call: key, leg: place });
        let from = (at.port, at.source);
        let Some(served) = self.core.serve_briefly(at.hash, owner, from, message) else {
            return self.answer_now(turn, at, message, 500);
        };
        let Some(call) = self.calls.get_mut(key) else { return };
        if let Some(leg) = call.leg(place) {
            leg.heard(message, at.source);
        }
        let content = match &informed {
            Info::Rewritten(kind, body) => (Some(*kind), &body[..]),
            Info::Crosses | Info::Pressed | Info::Garbled | Info::Full => pass::content(message),
        };
        let what = pass::What { message, content, refer_to: refer_to.as_deref() };
        pass::begin(call, &mut self.core, turn, (place, to), served, what);
        self.settle(turn, key);
    }

    /// Answers an INFO that goes no further. Its transaction lives, so that a repetition is not a second key.
    fn inform(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
        status: u16,
    ) {
        let owner = Some(Owner { call: key, leg: place });
        let from = (at.port, at.source);
        let Some(served) = self.core.serve_briefly(at.hash, owner, from, message) else {
            return self.answer_now(turn, at, message, 500);
        };
        self.core.respond(turn, served, Reply::plain(status, None), |_| {});
        if let Some(leg) = self.calls.get_mut(key).and_then(|call| call.leg(place)) {
            leg.heard(message, at.source);
            leg.others.push(served);
        }
        self.settle(turn, key);
    }

    fn not_passed(
        &mut self,
        turn: &mut Turn,
        at: setup::Arrival,
        (key, place): (Key, u8),
        message: &Message,
        why: NotPassed,
    ) {
        self.core.counters.not_passed.add(why.index());
        if why != NotPassed::Body {
            return self.answer_now(turn, at, message, why.status());
        }
        let trunk = self.leg((key, place)).and_then(|leg| self.core.image.trunk(leg.trunk));
        let accept = trunk.map(|trunk| trunk.bodies.accept()).unwrap_or_default();
        self.answer_with(turn, at, message, 415, |print| {
            print.header(Name::Accept, &accept);
        });
    }

    /// The Refer-To of a REFER as the other side is to see it: our address there in place of our address
    /// here. Its Replaces stays what it is where the INVITE that will bear it comes to us, who know the dialog;
    /// for anybody else it is that dialog as its other side knows it.
    fn refer_to(
        &self,
        key: Key,
        (from, to): (u8, u8),
        message: &Message,
    ) -> Result<Option<Vec<u8>>, NotPassed> {
        let target = message.addresses(Name::ReferTo).next().and_then(Result::ok);
        let (Some(Method::Refer), Some(target)) = (message.method(), target) else {
            return Ok(None);
        };
        let Some(uri) = target.read_uri().ok().filter(|u| matches!(u.scheme, Scheme::Sip)) else {
            return Ok(Some(target.raw.to_vec()));
        };
        let face = |place| self.leg((key, place)).map(|leg| self.core.face(leg.port));
        let (Some(here), Some(there)) = (face(from), face(to)) else {
            return Err(NotPassed::NoDialog);
        };
        let host = match uri.port {
            Some(port) => [uri.host, b":", port.to_string().as_bytes()].concat(),
            None => uri.host.to_vec(),
        };
        let port = uri.port.unwrap_or(here.transport.default_port()).to_string();
        let is_ours = [uri.host, b":", port.as_bytes()].concat() == here.sent_by.as_bytes();
        let host = if is_ours { there.sent_by.as_bytes() } else { &host };
        let mut out = b"<sip:".to_vec();
        if let Some(user) = uri.user {
            out.extend_from_slice(user);
            out.push(b'@');
        }
        out.extend_from_slice(host);
        out.extend_from_slice(uri.params);
        let mut separator = b'?';
        for (name, value) in replaces::headers(uri.headers) {
            out.push(separator);
            separator = b'&';
            match Replaces::of(&uri).filter(|_| name.eq_ignore_ascii_case(b"Replaces")) {
                Some(replaces) if !is_ours => self.other_side(replaces)?.escape(&mut out),
                Some(_) | None => out.extend_from_slice(&[name, b"=", value].concat()),
            }
        }
        out.push(b'>');
        out.extend_from_slice(target.params);
        Ok(Some(out))
    }

    /// A dialog of ours as it is named on its call's other side; one that is not ours, or of another shard's,
    /// stays as it is: should the INVITE that bears it come this way, we know it.
    fn other_side(&self, replaces: Replaces) -> Result<Replaces, NotPassed> {
        // The sender writes what its own peer is to read: our tag is the one of the receiver.
        let Some(tag) = Tag::parse(&replaces.to_tag) else { return Ok(replaces) };
        if tag.home().seat(self.shards) != self.core.shard {
            return Ok(replaces);
        }
        let call = self.calls.get(tag.call).ok_or(NotPassed::UnknownDialog)?;
        let leg = |place: u8| call.legs.get(usize::from(place));
        let named = leg(tag.leg).ok_or(NotPassed::UnknownDialog)?;
        let is_it = named.dialog.tag.secret == tag.secret
            && *named.dialog.call_id == *replaces.call_id
            && *named.dialog.remote_tag == *replaces.from_tag;
        let other = call.other(tag.leg).and_then(leg).filter(|_| is_it);
        let dialog = &other.ok_or(NotPassed::UnknownDialog)?.dialog;
        Ok(Replaces {
            call_id: dialog.call_id.to_vec(),
            to_tag: dialog.remote_tag.to_vec(),
            from_tag: dialog.tag.text().to_vec(),
            early_only: replaces.early_only,
        })
    }

    /// The Allow header a peer gets (RFC 3261 20.5): that of its dialog's trunk, or of its own.
    pub(super) fn allow_for(&self, turn: &Turn, at: setup::Arrival, message: &Message) -> Vec<u8> {
        let tag = message.to().ok().and_then(|to| to.tag()).and_then(Tag::parse);
        let leg = match tag.and_then(|tag| self.locate(at.call, tag, identity(message))) {
            Some(Found::Here(key, place)) => self.leg((key, place)),
            Some(Found::There(_)) | None => None,
        };
        let image = &self.core.image;
        let trunk = match leg {
            Some(leg) => image.trunk(leg.trunk),
            None => {
                let peer = self.core.peer(turn, at.source);
                let mut trunks = realm::of_listener(image, at.port).map(|(_, trunk)| trunk);
                trunks.find(|trunk| realm::admits(trunk, &peer))
            }
        };
        trunk.map(|t| t.methods.allow().to_vec()).unwrap_or_default()
    }
}
