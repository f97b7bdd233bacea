//! SIP, SDP, policy and billing, sans-IO.
