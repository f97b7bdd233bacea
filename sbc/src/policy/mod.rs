//! Configuration compiled to plain values, and the decisions taken from it.

/// A compiled configuration.
#[derive(Debug, Default)]
pub struct Image {}
