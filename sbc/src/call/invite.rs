//! The INVITE of a new leg: built from the caller's, never patched.

use super::offer_answer::Negotiation;
use super::{Call, Leg, body, bridge, transfer};
use crate::core::{Core, Turn, Way, dialog_request, supported};
use crate::dialog::session_timer::Mode;
use crate::dialog::{Contact, Dialog, Tag};
use crate::identity;
use crate::message::{self, Message, Method, Name};
use crate::policy::Trunk;
use crate::policy::decide::Candidate;
use crate::policy::manipulate::{self, Boundary};
use crate::policy::profile::EarlyMedia;
use crate::refusal::Refusal;
use crate::transaction::Owner;
use base::{Key, PortId};

/// The description an INVITE leaves with; it is rewritten for the new leg.
#[derive(Copy, Clone)]
pub(super) struct Offer<'d>(Option<&'d [u8]>);

impl<'d> Offer<'d> {
    /// That of the caller's INVITE. If it has none: ours, where one is to be made.
    pub(super) fn of(invite: &Message<'d>, makes_one: bool) -> Offer<'d> {
        let sdp = body::sdp(invite);
        Offer(if !sdp.is_empty() { Some(sdp) } else { makes_one.then_some(bridge::OWN_OFFER) })
    }
}

/// The INVITE being served for the caller, or the one a transfer stands for.
pub(super) fn of_caller(call: &Call, core: &Core) -> Option<Box<[u8]>> {
    if let Some(transfer) = &call.transfer {
        return Some(transfer.invite.clone());
    }
    let key = call.legs.first()?.invite?;
    Some(core.transactions.get(key)?.request.clone())
}

/// The Request-URI of a candidate, as its trunk wants it; a SIPS URI where `request` has one.
pub(crate) fn target(trunk: &Trunk, candidate: &Candidate, request: &Message) -> Vec<u8> {
    let endpoint = candidate.endpoint.to_string();
    let host = trunk.profile.request_host.as_deref().unwrap_or(&endpoint);
    let uri = identity::sip_uri(&candidate.number, host.as_bytes(), &trunk.profile);
    match uri.strip_prefix(b"sip:") {
        Some(rest) if is_secure(request) => [b"sips:", rest].concat(),
        Some(_) | None => uri,
    }
}

/// Whether a request asks for every hop to be secured (RFC 3261 26.2.2, RFC 5630).
pub(crate) fn is_secure(request: &Message) -> bool {
    let message::Start::Request(line) = request.start() else { return false };
    line.uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

pub(super) fn leg(
    call: &Call,
    core: &mut Core,
    candidate: &Candidate,
    (place, port, media): (u8, PortId, Key),
    (invite, boundary): (&Message, &Boundary),
) -> Leg {
    let secret = core.random.next();
    let mut call_id = Vec::with_capacity(32);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    crate::transaction::hex(core.random.next(), 16, &mut call_id);
    let target = match transfer::is_returned(call, core) {
        true => transfer::as_it_stands(invite),
        false => target(boundary.far, candidate, invite),
    };
    let dialog = Dialog {
        call_id: call_id.into(),
        tag: Tag { home: call.home.0, call: call.key, leg: place, fork: 0, secret },
        local: identity::from(invite, boundary, core.face(port).sent_by.as_bytes()),
        remote: [b"<", &target[..], b">"].concat().into(),
        remote_tag: Box::default(),
        target: target.into(),
        routes: Vec::new(),
        local_cseq: 0,
        remote_cseq: 0,
        peer: candidate.endpoint,
    };
    Leg::new(candidate.trunk, port, dialog, media, secret)
}

/// Builds and sends the INVITE of a new leg; `invite` is the caller's.
pub(super) fn send(
    call: &mut Call,
    core: &mut Core,
    turn: &mut Turn,
    place: u8,
    invite: &Message,
    offer: Offer,
) -> Result<(), Refusal> {
    let session = offer.0.and_then(|sdp| bridge::acceptable(sdp).ok());
    let describer = transfer::describer(call);
    let sdp = match session {
        Some(session) => {
            bridge::may_offer(call, core, (describer, place), &session)?;
            let sdp = bridge::rewritten(call, core, turn, (describer, place), &session);
            Some(sdp.ok_or(Refusal::NoCodec)?)
        }
        None => None,
    };
    // An offer in a reliable response is answered in the caller's PRACK, or it must not be made.
    let asker = transfer::asker(call);
    let is_transfer = call.transfer.is_some();
    let replaced = call.transfer.as_ref().and_then(|transfer| transfer.replaces.clone());
    let caller = call.legs.first().filter(|_| !is_transfer);
    let wants = caller.map(|caller| caller.peer).unwrap_or_default();
    let reliable = sdp.is_some() || wants.reliable;
    let image = core.image.clone();
    let (home, key, hops) = (call.home, call.key, call.max_forwards);
    let boundary = call.boundary(&image, asker, place).ok_or(Refusal::InternalError)?;
    let whole = body::with_parts(core, invite, &boundary, sdp.as_deref());
    let Some(leg) = call.leg(place) else { return Err(Refusal::InternalError) };
    leg.asked = Negotiation::inviting(sdp.is_some());
    leg.offer = leg.asked;
    let trunk = boundary.far;
    let face = core.face(leg.port);
    let cseq = leg.dialog.next_cseq();
    leg.invite_cseq = cseq;
    let (timer, terms) = (leg.timer, trunk.session);
    let (port, peer, dialog) = (leg.port, leg.dialog.peer, leg.dialog.clone());
    let owner = Owner { call: key, leg: place };
    let way = Way { port, peer, large: image.port_of_large(trunk) };
    let sent = core.send_request(turn, (home, owner), way, Method::Invite, |out, branch| {
        let first = (Method::Invite, cseq, trunk.profile.max_forwards.unwrap_or(hops));
        let mut print = dialog_request(out, &dialog, first, &face, branch);
        print.in_order(trunk.profile.header_order.as_ref());
        let profile = &trunk.profile;
        Contact { face: &face, dialog: &dialog, profile }.print(&mut print);
        print.header(Name::Allow, trunk.methods.allow());
        let reliable = reliable && trunk.methods.tells_of(b"PRACK");
        let replaces = trunk.refers.executes();
        supported(&mut print, [reliable, terms.mode != Mode::Off, wants.early_end, replaces]);
        timer.ask(&terms, &mut print);
        if !image.software.is_empty() {
            print.header(Name::UserAgent, image.software.as_bytes());
        }
        if trunk.profile.early_media == EarlyMedia::Authorized {
            print.header(Name::PEarlyMedia, b"supported");
        }
        if let Some(replaces) = &replaced {
            print.header(Name::Require, b"replaces");
            print.line(Name::Replaces, |v| replaces.print(v));
        }
        if let Some(by) = invite.get(Name::ReferredBy).filter(|_| is_transfer) {
            print.header(Name::ReferredBy, by);
        }
        manipulate::pass(invite, &boundary, &mut print);
        identity::pass(invite, &boundary, Some(&dialog.target), &mut print);
        match &whole {
            Some((kind, whole)) => print.body(Some(kind), whole),
            None => super::send::with_sdp(&mut print, sdp.as_deref()),
        }
    });
    leg.invite = sent;
    sent.map(|_| ()).ok_or(Refusal::TransactionsFull)
}
