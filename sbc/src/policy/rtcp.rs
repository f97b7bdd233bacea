//! Whose RTCP a trunk's legs are sent.

/// What becomes of RTCP towards a trunk.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Rtcp {
    /// What the other side sends. Where it sends none, ours, if media has a stream of our own anyway.
    #[default]
    Pass,
    /// The same, and media has a stream of our own for its sake.
    Fill,
}
