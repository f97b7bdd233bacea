//! Decks on disk, and what the configuration makes of them.
//!
//! [`Shelf`] keeps every generation of every deck and the log of what happened to it; [`Stock`] is what
//! is in force at a moment, compiled. A deck that is not there sells nothing and is no mistake.

mod kept;
mod shelf;
mod stock;

pub use shelf::{Shelf, Trouble, is_name};
pub use stock::Stock;
