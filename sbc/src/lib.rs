//! SIP, SDP, policy and billing, sans-IO.
//!
//! Bytes and a time go in, texts and plans come out. Nothing here has seen a descriptor, a TLS record
//! or JSON.

pub mod policy;
pub mod question;
