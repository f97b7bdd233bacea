//! Session descriptions (RFC 8866) as SIP offers and answers (RFC 3264).
//!
//! `parse` reads what an SBC decides on and keeps every line; `rewrite` prints the description
//! with our addresses. Which codecs are allowed and where ports come from is decided elsewhere.

mod codec_policy;
mod compare;
mod crypto;
mod dtls;
mod media;
mod parse;
mod print;
mod rewrite;

pub use codec_policy::{Codec, CodecPolicy, choose};
pub use compare::compatible;
pub use crypto::Crypto;
pub use dtls::{Dtls, Setup, Unusable, dtls_lines};
pub use media::{Attribute, Direction, Kind, Media, Protocol};
pub use parse::{Originator, Session, parse};
pub use rewrite::{Lines, Local, Origin, RtcpLine, rewrite, rewrite_answer};

/// Most media lines of one description.
pub const MAX_MEDIA: usize = 8;
/// Most lines of one description.
pub const MAX_LINES: usize = 256;
