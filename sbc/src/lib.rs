//! SIP, SDP, policy and billing, sans-IO.
//!
//! Bytes and a time go in, texts and plans come out. Nothing here has seen a descriptor, a TLS record
//! or JSON. Start reading at `signal`: the data path on one page.

pub mod billing;
pub mod call;
mod core;
pub mod counters;
pub mod dialog;
mod errand;
mod identity;
pub mod message;
pub mod policy;
pub mod quality;
pub mod question;
pub mod refusal;
pub mod sdp;
pub mod signal;
pub mod steer;
pub mod transaction;

pub use call::join::Move;
pub use call::record::CallRecord;
pub use core::Turn;
pub use refusal::Refusal;
pub use signal::{Outcome, Sender, Setup, Signal};
