//! Media relay, sans-IO.
