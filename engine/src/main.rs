//! The session border controller daemon.

fn main() {}
