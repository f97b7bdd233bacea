//! A whole machine as plain values: shards, what they are given and what they ask for.
//!
//! `Shard::step(now, inbox, outbox)` is the only entry. Production pins one shard to a core and feeds
//! it from a kernel driver; the simulator holds all of them in one thread. Nothing here makes a
//! system call.

pub mod contract;
pub mod journal;
pub mod limits;
mod quarantine;
pub mod shard;

pub use contract::{Fault, Heard, Inbox, Io, Letter, Outbox, Received, RecordWrite, Undeliverable};
pub use journal::Ledger;
pub use limits::{Limits, PortSpec, Role, ShardLimits};
pub use shard::{Birth, Past, Shard};
