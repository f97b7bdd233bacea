//! Whose message is this? The home in our branch, in our tag, in a tag of ours that a Replaces or a
//! Target-Dialog names, or in the hash of the Call-ID.
//!
//! A pure reading of the message, the same on every shard, so that retransmissions, CANCEL, ACK and
//! merged copies of a request agree with its first arrival.

use crate::dialog::Tag;
use crate::dialog::replaces::Replaces;
use crate::dialog::target::Target;
use crate::message::{Message, Method};
use crate::transaction::Branch;
use base::Home;
use base::random::Random;

/// The home that owns a message; `None` for a response that answers no request of ours.
pub fn owner(message: &Message, keyed: &Random) -> Option<Home> {
    if !message.is_request() {
        let via = message.via().ok()?;
        return Some(Branch::parse(via.branch?)?.home);
    }
    let tag = match message.to().ok().and_then(|to| to.tag()) {
        Some(tag) => Tag::parse(tag),
        None => named(message),
    };
    Some(tag.map_or_else(|| of_call_id(message.call_id(), keyed), |tag| tag.home()))
}

/// The tag of the dialog that an INVITE is to replace (RFC 3891), or beside which a REFER is sent (RFC 4538), if
/// it is one of ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "methods that name no other dialog")]
fn named(message: &Message) -> Option<Tag> {
    match message.method()? {
        Method::Invite => Some(Replaces::asked(message)?.ok()?.named()?.tag()),
        Method::Refer => Some(Target::of(message)?.ours),
        _ => None,
    }
}

/// The home of calls with this Call-ID.
pub fn of_call_id(call_id: &[u8], keyed: &Random) -> Home {
    Home((keyed.hash(&[call_id]) >> 56) as u8)
}
