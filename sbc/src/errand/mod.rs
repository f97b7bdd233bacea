//! Errands: requests outside calls (MESSAGE, PUBLISH, SUBSCRIBE, and what nobody has heard of), carried to
//! where a call to their number would go, and the dialogs some of them begin (RFC 3428, 3903, 6665).
//!
//! An errand has two sides, no media, no record and no CDR. It is soft state by its RFCs: after a crash a
//! request is repeated by its sender, and a subscription by its subscriber when its refresh is answered 481.
//! `first` is the request that begins one, `within` those that follow in its dialog.

mod first;
mod within;

pub(crate) use first::{Refused, begin, due, route};
pub(crate) use within::{carry, located};

use crate::core::{Core, Reply, Turn};
use crate::dialog::{Contact, Dialog};
use crate::identity;
use crate::message::{Message, Method, Name};
use crate::policy::decide::Candidate;
use crate::policy::manipulate::{self, Boundary};
use crate::question::Question;
use base::wheel::TimerKey;
use base::{Home, Instant, Key, PortId};
use std::collections::VecDeque;

/// The sender's side, where a tag or an owner names a leg: no call has so many.
pub(crate) const NEAR: u8 = 0xf0;
/// The side it is carried to.
pub(crate) const FAR: u8 = 0xf1;

/// The most requests one errand has under way.
const MAX_UNDER_WAY: usize = 4;

/// An errand.
pub(crate) struct Errand {
    pub(crate) home: Home,
    pub(crate) key: Key,
    near: Side,
    far: Option<Side>,
    /// What its first request asks for, and who asks.
    number: Box<[u8]>,
    calling: Box<[u8]>,
    max_forwards: u8,
    /// Where it may be carried, until somebody has taken it.
    candidates: VecDeque<Candidate>,
    stop_on: Vec<u16>,
    /// A name whose servers must be known first.
    pub(crate) awaited: Option<Question>,
    under_way: Vec<UnderWay>,
    /// When something is to be done: the next candidate, or the end of a subscription nobody refreshed.
    due: Instant,
    pub(crate) timer: Option<(Instant, TimerKey)>,
    /// A dialog stands between the sides.
    has_dialog: bool,
    /// There will be none, or no longer: it ends with its last request.
    is_over: bool,
}

/// One side of an errand.
struct Side {
    trunk: u16,
    port: PortId,
    dialog: Dialog,
}

/// A request under way from one side to the other.
struct UnderWay {
    /// The side it came from.
    from: u8,
    /// The server transaction there.
    served: Key,
    /// The client transaction on the other side; none while it waits for a decision.
    sent: Option<Key>,
    method: Means,
}

/// What a request means for the errand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Means {
    /// It begins or refreshes a subscription.
    Subscribes,
    /// It ends one, once it is answered.
    Ends,
    /// Nothing.
    Passes,
}

impl Errand {
    /// The earliest of its deadlines.
    pub(crate) fn deadline(&self) -> Instant {
        self.due
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.is_over && self.under_way.is_empty()
    }

    fn side(&self, side: u8) -> Option<&Side> {
        if side == NEAR { Some(&self.near) } else { self.far.as_ref() }
    }

    fn side_mut(&mut self, side: u8) -> Option<&mut Side> {
        if side == NEAR { Some(&mut self.near) } else { self.far.as_mut() }
    }
}

fn other(side: u8) -> u8 {
    if side == NEAR { FAR } else { NEAR }
}

/// Whether a method begins a dialog (RFC 3515 2.4.4, RFC 6665 4.4.1).
fn begins_dialog(method: Method) -> bool {
    matches!(method, Method::Subscribe | Method::Refer)
}

/// A final response to a request we sent.
pub(crate) fn heard(
    errand: &mut Errand,
    core: &mut Core,
    turn: &mut Turn,
    key: Key,
    message: &Message,
) {
    let Some(at) = errand.under_way.iter().position(|u| u.sent == Some(key)) else { return };
    let status = message.status().map_or(500, |s| s.code());
    if !errand.candidates.is_empty() && first::hunts(errand, core, status) {
        return first::next(errand, core, turn, status);
    }
    let under_way = errand.under_way.swap_remove(at);
    first::settled(errand, turn, &under_way, message);
    give_back(errand, core, turn, &under_way, message);
}

/// A request we sent was never answered.
pub(crate) fn timed_out(errand: &mut Errand, core: &mut Core, turn: &mut Turn, key: Key) {
    let Some(at) = errand.under_way.iter().position(|u| u.sent == Some(key)) else { return };
    if !errand.candidates.is_empty() {
        return first::next(errand, core, turn, 408);
    }
    let under_way = errand.under_way.swap_remove(at);
    // RFC 6665 4.2.2, 4.4.1: who cannot be reached is not told any more.
    errand.is_over |= under_way.method != Means::Passes;
    core.respond(turn, under_way.served, Reply::plain(504, None), |_| {});
}

/// Hands a final response to who sent the request.
fn give_back(
    errand: &Errand,
    core: &mut Core,
    turn: &mut Turn,
    under_way: &UnderWay,
    message: &Message,
) {
    let image = core.image.clone();
    let (to, from) = (errand.side(under_way.from), errand.side(other(under_way.from)));
    let (Some(to), Some(from)) = (to, from) else { return };
    let Some(boundary) = Boundary::between(&image, from.trunk, to.trunk) else { return };
    let status = given_back(message.status().map_or(500, |s| s.code()));
    let face = core.face(to.port);
    let profile = &boundary.far.profile;
    let contact = Contact { face: &face, dialog: &to.dialog, profile };
    let kind = message.content_type().unwrap_or(b"application/octet-stream");
    let body = (!message.body().is_empty() && boundary.far.bodies.permits(kind))
        .then_some((kind, message.body()));
    let reply = Reply {
        contact: (status < 300).then_some(contact),
        allow: boundary.far.methods.allow(),
        body,
        ..Reply::plain(status, Some(to.dialog.tag))
    };
    core.respond(turn, under_way.served, reply, |print| {
        if status == 405 {
            print.header(Name::Allow, boundary.far.methods.allow());
        }
        manipulate::pass_whole(message, &boundary, print);
        identity::pass(message, &boundary, None, print);
    });
}

/// The status a sender hears for one of the other side.
pub(crate) fn given_back(status: u16) -> u16 {
    match status {
        300..=399 => 480,
        // What concerns our own dialog with the other side is not this side's business.
        401 | 407 => 403,
        // RFC 4320 4.2.
        408 => 504,
        status => status,
    }
}
