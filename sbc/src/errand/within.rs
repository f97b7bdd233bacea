//! Requests within the dialog of an errand: NOTIFY, refreshes, and whatever else both sides list.

use super::{Errand, FAR, MAX_UNDER_WAY, Means, UnderWay, first, other};
use crate::call::send::refreshes_target;
use crate::core::{Core, MAX_FORWARDS, Turn, dialog_request};
use crate::counters::NotPassed;
use crate::dialog::{Contact, Tag};
use crate::identity;
use crate::message::{Message, Method, Name};
use crate::policy::manipulate::{self, Boundary};
use crate::policy::methods;
use crate::transaction::Owner;
use base::Key;
use std::net::SocketAddr;

/// Whether a request belongs to the dialog a tag of ours names. A NOTIFY may come before the answer to its
/// SUBSCRIBE, and then brings the peer's tag (RFC 6665 4.1.2.4).
pub(crate) fn located(errand: &Errand, tag: Tag, message: &Message) -> bool {
    let Some(side) = errand.side(tag.leg) else { return false };
    let theirs = message.from().ok().and_then(|from| from.tag()).unwrap_or_default();
    let is_theirs = *side.dialog.remote_tag == *theirs
        || (tag.leg == FAR && side.dialog.remote_tag.is_empty() && !theirs.is_empty());
    side.dialog.tag.secret == tag.secret && *side.dialog.call_id == *message.call_id() && is_theirs
}

/// Carries a request from `side` to the other.
pub(crate) fn carry(
    errand: &mut Errand,
    core: &mut Core,
    turn: &mut Turn,
    (side, source): (u8, SocketAddr),
    message: &Message,
    serve: impl FnOnce(&mut Core) -> Option<Key>,
) -> Result<(), NotPassed> {
    let image = core.image.clone();
    let method = message.method().ok_or(NotPassed::Method)?;
    let (Some(from), Some(to)) = (errand.side(side), errand.side(other(side))) else {
        return Err(NotPassed::NoDialog);
    };
    let boundary = Boundary::between(&image, from.trunk, to.trunk).ok_or(NotPassed::NoDialog)?;
    methods::may_cross(&[boundary.near, boundary.far], message)?;
    if errand.under_way.len() >= MAX_UNDER_WAY {
        return Err(NotPassed::TooMany);
    }
    let served = serve(core).ok_or(NotPassed::TooMany)?;
    hear(errand, side, source, message);
    let (home, owner) = (errand.home, Owner { call: errand.key, leg: other(side) });
    let Some(to) = errand.side_mut(other(side)) else { return Err(NotPassed::NoDialog) };
    let cseq = to.dialog.next_cseq();
    let peer = (to.port, core.next_hop(to.port, &to.dialog));
    let (face, dialog) = (core.face(to.port), &to.dialog);
    let sent = core.send_request(turn, (home, owner), peer, method, |out, branch| {
        let mut print = dialog_request(out, dialog, (method, cseq, MAX_FORWARDS), &face, branch);
        print.in_order(boundary.far.profile.header_order.as_ref());
        if refreshes_target(method) {
            let profile = &boundary.far.profile;
            Contact { face: &face, dialog, profile }.print(&mut print);
            print.header(Name::Allow, boundary.far.methods.allow());
        }
        manipulate::pass_whole(message, &boundary, &mut print);
        identity::pass(message, &boundary, None, &mut print);
        let kind = message.content_type().filter(|_| !message.body().is_empty());
        print.body(kind, message.body());
    });
    core.counters.passed.add(1);
    // The last one leaves it to its time: it may not get through.
    if method == Method::Notify && means(message) != Means::Ends {
        first::live(errand, turn, subscription_expires(message));
    }
    errand.under_way.push(UnderWay { from: side, served, sent, method: means(message) });
    if sent.is_none() {
        errand.under_way.pop();
        core.respond(turn, served, crate::core::Reply::plain(500, None), |_| {});
    }
    Ok(())
}

/// Takes in what a request says about its sender's side of the dialog.
fn hear(errand: &mut Errand, side: u8, source: SocketAddr, message: &Message) {
    let Some(from) = errand.side_mut(side) else { return };
    if from.dialog.remote_tag.is_empty()
        && let Some(tag) = message.from().ok().and_then(|from| from.tag())
    {
        // The dialog is the notifier's: its route set comes with its request (RFC 3261 12.1.1).
        from.dialog.remote_tag = tag.into();
        let routes = message.record_routes().map_while(Result::ok).map(|route| route.raw.into());
        from.dialog.routes = routes.collect();
    }
    errand.candidates.clear();
    errand.has_dialog = true;
    let Some(from) = errand.side_mut(side) else { return };
    if message.method().is_some_and(refreshes_target) {
        from.dialog.refresh_target(message.contact().ok().flatten());
    }
    from.dialog.peer = source;
}

fn means(message: &Message) -> Means {
    match message.method() {
        Some(Method::Subscribe) => Means::Subscribes,
        Some(Method::Notify) if state(message).eq_ignore_ascii_case(b"terminated") => Means::Ends,
        _ => Means::Passes,
    }
}

fn state<'m>(message: &Message<'m>) -> &'m [u8] {
    let value = message.get(Name::SubscriptionState).unwrap_or_default();
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// `expires` of Subscription-State, in seconds.
fn subscription_expires(message: &Message) -> Option<u32> {
    let value = message.get(Name::SubscriptionState)?;
    let mut params = value.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let expires = params.find_map(|param| param.strip_prefix(b"expires="))?;
    str::from_utf8(expires).ok()?.trim().parse().ok()
}

impl Errand {
    /// Whether a request of a side comes after those before it (RFC 3261 12.2.2).
    pub(crate) fn in_order(&mut self, side: u8, number: u32) -> bool {
        self.side_mut(side).is_some_and(|side| side.dialog.admit_cseq(number))
    }

    /// The trunk and the last address of a side.
    pub(crate) fn peer(&self, side: u8) -> Option<(u16, base::PortId, SocketAddr)> {
        self.side(side).map(|side| (side.trunk, side.port, side.dialog.peer))
    }
}
