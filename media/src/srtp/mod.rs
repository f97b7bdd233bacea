//! SRTP and SRTCP (RFC 3711, 6188, 7714), in place in the buffer a packet stands in.
//!
//! `Shield` is what an endpoint has while its leg is protected: the keys of both directions, and per
//! source of the leg the indices it has used. Where keys come from (RFC 4568, RFC 5764) is not known
//! here.

mod authenticator;
mod cipher;
mod ingress;
mod key;
mod shield;
mod suite;

pub use key::{Keys, MasterKey};
pub(crate) use shield::{Shield, ShieldRecord};
pub use suite::Suite;

/// The most bytes that protection adds to a packet: an SRTCP index and the longest tag.
pub const MAX_GROWTH: usize = 4 + 16;
