//! SIP, SDP, policy and billing, sans-IO.

pub mod message;
pub mod sdp;
