//! A whole machine as plain values.
