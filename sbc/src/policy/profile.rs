//! How a peer wants things said: what carriers agree upon, and what equipment gets wrong.
//!
//! Values only. Who calls is said in `identity`, descriptions are written in `sdp`, the rest by whoever
//! builds the message.

use crate::message::{Message, Name};
use crate::sdp::RtcpLine;
use std::sync::Arc;

/// What a trunk's profile says; the default is what RFCs ask for and nothing more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whose word about the caller is taken.
    pub believes: Believes,
    /// How the caller's identity leaves.
    pub identity: Identity,
    /// How earlier redirections of a call leave.
    pub redirections: Redirections,
    /// How the caller's number leaves in From.
    pub from_form: NumberForm,
    /// Host of our From; `None`: our address.
    pub from_host: Option<Box<str>>,
    /// Host of the Request-URI and To of our INVITE; `None`: the endpoint's address.
    pub request_host: Option<Box<str>>,
    /// Host of our Contact, at the port of our listener; `None`: our address.
    pub contact_host: Option<Box<str>>,
    /// Whether our Contact has a user part: the number that stands for our side.
    pub contact_number: bool,
    /// Whether numbers we send bear `user=phone` (RFC 3261 19.1.1).
    pub user_phone: bool,
    /// Max-Forwards of our INVITE; `None`: one less than it came with (RFC 3261 16.6).
    pub max_forwards: Option<u8>,
    /// Header fields in this order first, the others after them as they come.
    pub header_order: Option<Arc<[Name]>>,
    /// `a=ptime` of what we describe, in milliseconds, 10..=200; `None`: as the other side says.
    pub ptime_ms: Option<u16>,
    /// When `a=rtcp` is said.
    pub rtcp: RtcpLine,
    /// Whether the caller may hear the peer before it has answered.
    pub early_media: EarlyMedia,
}

/// Whose media is heard before the answer. Nobody pays for it, and some sell it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum EarlyMedia {
    /// Everybody's.
    #[default]
    Pass,
    /// Where P-Early-Media says so (RFC 5009).
    Authorized,
    /// Nobody's.
    Block,
}

impl EarlyMedia {
    /// Whether a provisional response opens the way.
    pub fn permits(self, response: &Message) -> bool {
        match self {
            EarlyMedia::Pass => true,
            EarlyMedia::Authorized => response.get(Name::PEarlyMedia).is_some_and(|value| {
                let mut words = value.split(|b| *b == b',').map(<[u8]>::trim_ascii);
                words.any(|w| {
                    [&b"sendrecv"[..], b"sendonly"].iter().any(|ok| w.eq_ignore_ascii_case(ok))
                })
            }),
            EarlyMedia::Block => false,
        }
    }
}

/// Whose word about the caller's identity is taken from a trunk (RFC 3325 5).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Believes {
    /// Nobody's.
    #[default]
    Nothing,
    /// What it asserts: P-Asserted-Identity, or Remote-Party-ID where there is none.
    Asserted,
    /// What its user claims: P-Preferred-Identity, or From where there is none.
    From,
}

/// In which header field a caller's identity leaves.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// In none: the trunk is outside the trust domain, and we are its privacy service (RFC 3323 5).
    #[default]
    Withheld,
    /// P-Asserted-Identity (RFC 3325 9.1).
    Asserted,
    /// P-Preferred-Identity (RFC 3325 9.2): the trunk's network asserts.
    Preferred,
    /// Remote-Party-ID, which old equipment reads.
    RemoteParty,
}

/// In which header field earlier redirections of a call leave.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Redirections {
    /// As they came.
    #[default]
    AsTheyCame,
    /// Diversion (RFC 5806).
    Diversion,
    /// History-Info (RFC 7044).
    HistoryInfo,
    /// In none.
    Withheld,
}

/// How a number is written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum NumberForm {
    /// As it came.
    #[default]
    AsItCame,
    /// International, with +.
    E164,
    /// International, without +.
    Digits,
}
