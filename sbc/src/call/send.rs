//! Requests of ours within a leg's dialog (RFC 3261 12.2.1.1).

use super::{Call, session};
use crate::core::{Core, MAX_FORWARDS, Turn, Way, dialog_request};
use crate::dialog::Contact;
use crate::dialog::session_timer::Mode;
use crate::message::{Method, Name, Print};
use crate::transaction::Owner;
use base::Key;

/// Sends a request on `place`; `finish` writes what is particular to it, and its body or none.
/// `None` when there is no room for its transaction.
pub(crate) fn request(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    method: Method,
    finish: impl FnOnce(&mut Print),
) -> Option<Key> {
    let (home, owner) = (call.home, Owner { call: call.key, leg: place });
    let leg = call.leg(place)?;
    let cseq = leg.dialog.next_cseq();
    let port = leg.port;
    let peer = core.next_hop(port, &leg.dialog);
    let face = core.face(port);
    let image = core.image.clone();
    let trunk = image.trunk(leg.trunk)?;
    let way = Way { port, peer, large: image.port_of_large(trunk) };
    let (dialog, timer, terms) = (&leg.dialog, leg.timer, session::terms(core, leg.trunk));
    let sent = core.send_request(turn, (home, owner), way, method, |out, branch| {
        let mut print = dialog_request(out, dialog, (method, cseq, MAX_FORWARDS), &face, branch);
        print.in_order(trunk.profile.header_order.as_ref());
        if refreshes_target(method) {
            let profile = &trunk.profile;
            Contact { face: &face, dialog, profile }.print(&mut print);
            print.header(Name::Allow, trunk.methods.allow());
        }
        let is_refresh = matches!(method, Method::Invite | Method::Update);
        if is_refresh && terms.mode != Mode::Off {
            print.header(Name::Supported, b"timer");
            timer.ask(&terms, &mut print);
        }
        finish(&mut print);
    })?;
    if method == Method::Invite {
        (leg.invite, leg.invite_cseq) = (Some(sent), cseq);
    } else {
        leg.others.push(sent);
    }
    Some(sent)
}

/// Whether a request carries a Contact (RFC 3261 12.2.1.1, 3311 5.1, 3515 2.2, 6665 3).
/// What we do not know may need one.
pub(crate) fn refreshes_target(method: Method) -> bool {
    let within = matches!(method, Method::Ack | Method::Bye | Method::Cancel | Method::Prack);
    let apart =
        matches!(method, Method::Info | Method::Message | Method::Publish | Method::Options);
    !within && !apart
}

/// Ends a message with a session description, or without.
pub(crate) fn with_sdp(print: &mut Print, sdp: Option<&[u8]>) {
    match sdp {
        Some(sdp) => print.body(Some(b"application/sdp"), sdp),
        None => print.finish(),
    }
}
