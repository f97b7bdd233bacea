//! Early dialogs that end without a final response (RFC 6228): those a callee says so of, and those of the
//! caller's behind which nobody is left.
//!
//! A caller that supports 199 is told of the latter. Not reliably: a caller that insists on that hears
//! nothing, since what matters more would have to wait for its PRACK.

use super::{confirm, find, tag_of};
use crate::call::{CALLER, Call, branch, release};
use crate::core::{Core, Reply, Turn};
use crate::dialog::Tag;
use crate::dialog::prack::RAck;
use crate::message::Message;
use crate::refusal::Refusal;
use base::plain;

/// Early dialogs of the caller's, a bit each.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Those it has heard of.
    known: u8,
    /// Those whose end it has heard of.
    over: u8,
}

plain!(struct Told { known, over });

impl Told {
    /// The caller was told something in this early dialog.
    pub(crate) fn heard(&mut self, fork: u8) {
        self.known |= 1 << fork;
        self.over &= !(1 << fork);
    }
}

/// A callee says that an early dialog of its has ended.
pub(super) fn ended(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    (place, rseq): (u8, Option<u32>),
    message: &Message,
) {
    let Some(at) = find(call, place, tag_of(message)) else { return };
    call.early[at].over = true;
    let cseq = call.leg(place).map_or(0, |leg| leg.invite_cseq);
    if let Some(rseq) = rseq {
        call.early[at].rseq = rseq;
        confirm(call, core, turn, (place, RAck { rseq, cseq }), None);
    }
    tell_ended(call, core, turn);
}

/// Tells the caller of early dialogs of its that nobody is behind any more. The one it hears now is not
/// among them: whoever is tried next goes on there.
pub(crate) fn tell_ended(call: &mut Call, core: &mut Core, turn: &mut Turn) {
    let Some(caller) = call.legs.first() else { return };
    let (peer, tag, invite) = (caller.peer, caller.dialog.tag, caller.invite);
    let is_ready = caller.unconfirmed.is_none() && peer.early_end && !peer.insists;
    let is_open = call.cdr.answer.is_none() && !call.has_ended();
    let Some(invite) = invite.filter(|_| is_ready && is_open) else { return };
    let open = (0..8).filter(|fork| (call.told.known & !call.told.over) >> fork & 1 == 1);
    for fork in open.filter(|fork| *fork != tag.fork).collect::<Vec<u8>>() {
        // What the caller has not heard described may still be answered in any dialog.
        let is_behind = |e: &super::Early| e.fork == fork && e.version > 0 && !e.over;
        if call.early.iter().any(|e| is_behind(e) && branch::is_tried(call, e.leg)) {
            continue;
        }
        call.told.over |= 1 << fork;
        let tried: Vec<u8> = call.branches.iter().map(|branch| branch.leg).collect();
        // Nobody answers there any more, whatever the caller has heard there.
        let gone = |early: &&mut super::Early| early.fork == fork && !tried.contains(&early.leg);
        call.early.iter_mut().filter(gone).for_each(|early| early.version = 0);
        let reply = Reply::plain(199, Some(Tag { fork, ..tag }));
        core.respond(turn, invite, reply, |print| {
            release::reason(print, Refusal::RouteRefused.q850(), "early dialog terminated");
        });
        if let Some(caller) = call.leg(CALLER) {
            caller.phase = crate::call::Phase::Early;
        }
    }
}
