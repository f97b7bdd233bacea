//! The impure crate: drivers, disk, gate, configuration. Everything below it only computes.

pub mod cdr;
pub mod config;
pub mod decks;
pub mod disk;
pub mod explain;
pub mod gate;
pub mod io;
pub mod sandbox;
pub mod start;
