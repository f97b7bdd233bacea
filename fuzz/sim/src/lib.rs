//! The whole-node simulator.
