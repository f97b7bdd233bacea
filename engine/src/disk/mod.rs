//! What stays on disk: journal segments and CDR files, written by the scribe thread.
//!
//! Shards never touch a file; they append to a mapped ring (`io::region`), and the scribe brings its
//! frames here.

pub mod cdr;
pub mod journal;
pub mod open;
pub mod scribe;
pub mod segment;
