//! Digit tries for prefix routing.
