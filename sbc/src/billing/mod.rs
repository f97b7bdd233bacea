//! What a call leaves behind: its CDR, with the rates it was bought and sold at.

pub mod cdr;
pub mod quote;

pub use cdr::{
    Attempt, Cdr, CdrId, Frame, LegMedia, Marks, Moment, Party, Score, Stamp, Transferred,
};
pub use quote::{Money, Quote, Taken};
