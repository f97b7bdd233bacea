//! What a message carries: a session description, alone or among other parts (RFC 5621), and which of
//! those cross to the other side as they are.

use crate::core::Core;
use crate::message::Message;
use crate::message::multipart::{self, Part};
use crate::policy::manipulate::Boundary;
use crate::policy::methods::Bodies;

const SDP: &[u8] = b"application/sdp";

/// The session description of a message; empty if it has none.
pub(crate) fn sdp<'m>(message: &Message<'m>) -> &'m [u8] {
    let kind = message.content_type().unwrap_or_default();
    if message.body().is_empty() || multipart::kind(kind).eq_ignore_ascii_case(SDP) {
        return message.body();
    }
    let parts = multipart::parts(kind, message.body()).unwrap_or_default();
    parts.into_iter().find(is_sdp).map_or(&[], |part| part.body)
}

/// Whether a message carries something that is not a session description, nor has one among its parts.
pub(crate) fn is_strange(message: &Message) -> bool {
    !message.body().is_empty() && sdp(message).is_empty()
}

fn is_sdp(part: &Part) -> bool {
    multipart::kind(part.content_type).eq_ignore_ascii_case(SDP)
}

/// The other parts of a message.
fn others<'m>(message: &Message<'m>) -> impl Iterator<Item = Part<'m>> {
    let kind = message.content_type().unwrap_or_default();
    multipart::parts(kind, message.body()).unwrap_or_default().into_iter().filter(|p| !is_sdp(p))
}

/// Whether a part that must be understood may not cross a trunk: then the message cannot (415).
pub(crate) fn is_barred(message: &Message, bodies: &Bodies) -> bool {
    others(message).any(|part| part.is_required && !bodies.permits(part.content_type))
}

/// A body for the far side: this description and the parts of a message that may cross, or nothing when
/// the description goes alone.
pub(crate) fn with_parts(
    core: &mut Core,
    message: &Message,
    boundary: &Boundary,
    sdp: Option<&[u8]>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let permits = |part: &Part| {
        [boundary.near, boundary.far].iter().all(|trunk| trunk.bodies.permits(part.content_type))
    };
    let crossing: Vec<Part> = others(message).filter(permits).collect();
    if crossing.is_empty() {
        return None;
    }
    let mut delimiter = Vec::with_capacity(32);
    crate::transaction::hex(core.random.next(), 16, &mut delimiter);
    crate::transaction::hex(core.random.next(), 16, &mut delimiter);
    let mut body = Vec::with_capacity(1024);
    let mut add = |text: &[&[u8]]| {
        body.extend_from_slice(b"--");
        body.extend_from_slice(&delimiter);
        body.extend_from_slice(&text.concat());
        body.extend_from_slice(b"\r\n");
    };
    if let Some(sdp) = sdp {
        add(&[b"\r\nContent-Type: application/sdp\r\n\r\n", sdp]);
    }
    crossing.iter().for_each(|part| add(&[b"\r\n", part.raw]));
    add(&[b"--"]);
    Some(([b"multipart/mixed;boundary=", delimiter.as_slice()].concat(), body))
}
