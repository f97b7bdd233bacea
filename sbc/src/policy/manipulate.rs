//! Which headers cross from one leg to the other.
//!
//! Between interfaces of one trust domain everything passes but what is ours to say; anywhere else an
//! allow-list does, plus what a trunk asks for by name. Who calls is for `identity` to say.

use super::{Image, Trunk};
use crate::message::{Message, Name, Print};

/// What a message crosses: from one trunk to another.
#[derive(Copy, Clone)]
pub struct Boundary<'a> {
    /// Where it came from.
    pub near: &'a Trunk,
    /// Where it goes.
    pub far: &'a Trunk,
    /// The interfaces of both belong to one trust domain.
    pub trusted: bool,
}

impl<'a> Boundary<'a> {
    /// The boundary between two trunks of an image.
    pub fn between(image: &'a Image, near: u16, far: u16) -> Option<Boundary<'a>> {
        let (near, far) = (image.trunk(near)?, image.trunk(far)?);
        let trusts = |trunk: &Trunk| {
            image.interfaces.get(usize::from(trunk.interface)).is_some_and(|i| i.trusted)
        };
        Some(Boundary { near, far, trusted: trusts(near) && trusts(far) })
    }
}

/// Copies the headers that may cross, in their order.
pub fn pass(message: &Message, boundary: &Boundary, print: &mut Print) {
    for header in message.headers() {
        if is_ours(header.name) || is_meaning(header.name) || is_identity(header.name) {
            continue;
        }
        let named =
            || boundary.far.pass_headers.iter().any(|e| header.raw_name.eq_ignore_ascii_case(e));
        if boundary.trusted || is_harmless(header.name) || named() {
            if header.name == Name::Other {
                print.raw(header.raw_name, header.value);
            } else {
                print.header(header.name, header.value);
            }
        }
    }
}

/// The same for a request, or an answer to one, that is carried as a whole: with what it means.
pub fn pass_whole(message: &Message, boundary: &Boundary, print: &mut Print) {
    for header in message.headers().filter(|h| is_meaning(h.name)) {
        print.header(header.name, header.value);
    }
    pass(message, boundary, print);
}

/// What a request of another extension is about, whoever sends it (RFC 3515, 3903, 6086, 6665), and how
/// its body is to be read.
fn is_meaning(name: Name) -> bool {
    matches!(
        name,
        Name::Event
            | Name::SubscriptionState
            | Name::Expires
            | Name::MinExpires
            | Name::Accept
            | Name::AllowEvents
            | Name::ReferSub
            | Name::InfoPackage
            | Name::RecvInfo
            | Name::SipEtag
            | Name::SipIfMatch
            | Name::ContentDisposition
            | Name::ContentEncoding
            | Name::ContentLanguage
            | Name::ContentId
            | Name::MimeVersion
    )
}

/// Headers that describe our own dialogs, transactions and abilities: never copied.
fn is_ours(name: Name) -> bool {
    matches!(
        name,
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::MaxForwards
            | Name::Contact
            | Name::RecordRoute
            | Name::Route
            | Name::ContentLength
            | Name::ContentType
            | Name::Require
            | Name::ProxyRequire
            | Name::Supported
            | Name::Unsupported
            | Name::Allow
            | Name::Accept
            | Name::Expires
            | Name::RetryAfter
            | Name::UserAgent
            | Name::Server
            | Name::Authorization
            | Name::ProxyAuthorization
            | Name::WwwAuthenticate
            | Name::ProxyAuthenticate
            | Name::Warning
            | Name::SessionExpires
            | Name::MinSe
            | Name::RSeq
            | Name::RAck
            | Name::ReferTo
            | Name::ReferredBy
            | Name::Replaces
            | Name::TargetDialog
            | Name::Timestamp
    )
}

/// Headers about who calls and who was called before: `identity` says what becomes of them.
fn is_identity(name: Name) -> bool {
    matches!(
        name,
        Name::PAssertedIdentity
            | Name::PPreferredIdentity
            | Name::RemotePartyId
            | Name::Privacy
            | Name::Diversion
            | Name::HistoryInfo
    )
}

/// The allow-list.
fn is_harmless(name: Name) -> bool {
    matches!(
        name,
        Name::Subject
            | Name::Date
            | Name::Priority
            | Name::Organization
            | Name::AcceptLanguage
            | Name::AlertInfo
            | Name::CallInfo
            | Name::UserToUser
            | Name::Reason
    )
}
