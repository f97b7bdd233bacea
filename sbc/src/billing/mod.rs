//! What a call leaves behind: its CDR. Prices come later.

pub mod cdr;

pub use cdr::{Attempt, Cdr, CdrId, Frame, LegMedia, Party, Stamp};
