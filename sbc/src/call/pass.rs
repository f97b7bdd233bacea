//! Requests within a call that are about neither its session nor its end (INFO, MESSAGE, REFER, NOTIFY,
//! SUBSCRIBE, methods we do not know), carried to the other leg as they are, and their answers back.
//!
//! Which ones is the trunks' to say (`policy::methods`). What they carry is not read, but for the dialog
//! a REFER's Replaces names: dialogs of one side mean nothing to the other.

use super::{Call, Phase, send};
use crate::core::{Core, Reply, Turn};
use crate::counters::NotPassed;
use crate::dialog::Contact;
use crate::identity;
use crate::message::{Message, Name};
use crate::policy::Trunk;
use crate::policy::manipulate;
use crate::policy::methods;
use base::{Key, plain};

/// The most requests one call has under way from leg to leg.
const MAX_PASSING: usize = 4;

/// A request under way from one leg to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passing {
    /// The leg it came from.
    pub(crate) from: u8,
    /// The server transaction there.
    pub(crate) served: Key,
    /// The client transaction on the other leg.
    pub(crate) sent: Key,
}

plain!(struct Passing { from, served, sent });

/// Whether a request that arrived on `place` can be carried, and where to.
pub(crate) fn may_pass(
    call: &Call,
    core: &Core,
    place: u8,
    message: &Message,
) -> Result<u8, NotPassed> {
    let trunk = |place: u8| -> Option<&Trunk> {
        let leg = call.legs.get(usize::from(place))?;
        core.image.trunk(leg.trunk)
    };
    let other = call.other(place).ok_or(NotPassed::NoDialog)?;
    let (Some(near), Some(far)) = (trunk(place), trunk(other)) else {
        return Err(NotPassed::NoDialog);
    };
    methods::may_cross(&[near, far], message)?;
    let phase = call.legs.get(usize::from(other)).map(|leg| leg.phase);
    if !matches!(phase, Some(Phase::Early | Phase::Confirmed)) {
        return Err(NotPassed::NoDialog);
    }
    if call.passing.len() >= MAX_PASSING { Err(NotPassed::TooMany) } else { Ok(other) }
}

/// A request to be carried, and what it says on the other side.
pub(crate) struct What<'m> {
    pub(crate) message: &'m Message<'m>,
    /// The type of its body, and the body.
    pub(crate) content: (Option<&'m [u8]>, &'m [u8]),
    /// Its Refer-To.
    pub(crate) refer_to: Option<&'m [u8]>,
}

/// What a message carries, as it is.
pub(crate) fn content<'m>(message: &Message<'m>) -> (Option<&'m [u8]>, &'m [u8]) {
    let body = message.body();
    (message.content_type().filter(|_| !body.is_empty()), body)
}

/// Carries a request that `served` serves.
pub(crate) fn begin(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (from, to): (u8, u8),
    served: Key,
    what: What<'_>,
) {
    let What { message, content: (kind, body), refer_to } = what;
    let Some(method) = message.method() else { return };
    let image = core.image.clone();
    let Some(boundary) = call.boundary(&image, from, to) else { return };
    let sent = send::request(call, core, turn, to, method, |print| {
        if let Some(refer_to) = refer_to {
            print.header(Name::ReferTo, refer_to);
        }
        manipulate::pass_whole(message, &boundary, print);
        identity::pass(message, &boundary, None, print);
        print.body(kind, body);
    });
    let Some(sent) = sent else {
        return core.respond(turn, served, Reply::plain(500, None), |_| {});
    };
    core.counters.passed.add(1);
    call.passing.push(Passing { from, served, sent });
    if let Some(leg) = call.leg(from) {
        leg.others.push(served);
    }
}

/// Whether a transaction of ours carries somebody's request.
pub(crate) fn is_passing(call: &Call, key: Key) -> bool {
    call.passing.iter().any(|p| p.sent == key)
}

/// The final response to a request we carried: it goes back.
pub(crate) fn concluded(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    key: Key,
    message: &Message,
) {
    let Some(passing) = end(call, key) else { return };
    let other = call.other(passing.from).unwrap_or_default();
    let image = core.image.clone();
    let Some(boundary) = call.boundary(&image, other, passing.from) else { return };
    let Some(leg) = call.leg(passing.from) else { return };
    let trunk = boundary.far;
    let face = core.face(leg.port);
    let status = match message.status().map_or(500, |s| s.code()) {
        // What concerns our own dialog with the other side is not this side's business.
        401 | 407 => 403,
        // RFC 4320 4.2.
        408 => 504,
        status => status,
    };
    let kind = message.content_type().unwrap_or(b"application/octet-stream");
    let body = (!message.body().is_empty() && trunk.bodies.permits(kind))
        .then_some((kind, message.body()));
    let contact = Contact { face: &face, dialog: &leg.dialog, profile: &trunk.profile };
    let contact = (status < 300).then_some(contact);
    let reply = Reply { contact, body, allow: trunk.methods.allow(), ..Reply::plain(status, None) };
    core.respond(turn, passing.served, reply, |print| {
        if status == 405 {
            print.header(Name::Allow, trunk.methods.allow());
        }
        manipulate::pass_whole(message, &boundary, print);
        identity::pass(message, &boundary, None, print);
    });
}

/// Nobody answered it: its sender hears so, if it still listens.
pub(crate) fn timed_out(call: &mut Call, core: &mut Core, turn: &mut Turn, key: Key) {
    if let Some(passing) = end(call, key) {
        core.respond(turn, passing.served, Reply::plain(504, None), |_| {});
    }
}

fn end(call: &mut Call, key: Key) -> Option<Passing> {
    let at = call.passing.iter().position(|p| p.sent == key)?;
    Some(call.passing.swap_remove(at))
}
