//! The only crate that touches the outside world: configuration, drivers, disk, the gate.

pub mod config;
