//! Fuzz targets: each takes any bytes and panics when something that must hold does not.
//!
//! The same functions run under libFuzzer (`fuzz/fuzz.sh`) and over the kept corpora (`tests/corpus`).

mod decks;
mod node_target;
mod parsers;
mod records;
pub mod samples;

pub use decks::deck;
pub use node_target::node;
pub use parsers::{dtls, frame, message, rtp_rtcp, sdp, uri};
pub use records::record;

/// A target: takes any bytes, panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target under the name of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("message", message),
    ("uri", uri),
    ("sdp", sdp),
    ("dtls", dtls),
    ("rtp_rtcp", rtp_rtcp),
    ("frame", frame),
    ("record", record),
    ("node", node),
    ("deck", deck),
];

/// A target by its name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
