//! Needs: what `decide` may ask and what it may be told.

use std::net::IpAddr;

/// What came back for a question, or that nothing did in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number of the question.
    pub question: u64,
    /// Addresses of the host that was asked for; empty when there are none.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used, seconds.
    pub ttl_s: u32,
}
