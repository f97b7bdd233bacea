//! The ground floor: plain values every other crate is built from.
//!
//! Time as data, generational keys, timers, keyed randomness, plain records with checksums, counters,
//! money as integers, and the lanes through which a shard talks to its driver. Nothing here knows about SIP, RTP, sockets
//! or threads, and nothing here makes a system call.

pub mod address;
pub mod case;
pub mod counter;
pub mod id;
pub mod lanes;
pub mod money;
pub mod page;
pub mod pool;
pub mod random;
pub mod record;
pub mod slab;
pub mod time;
pub mod wheel;

pub use address::{Allow, Prefix};
pub use id::{Home, PortId, ShardId};
pub use lanes::{PacketSend, TextSend, Texts};
pub use pool::{Bytes, Pool};
pub use slab::{Key, Slab};
pub use time::{Instant, Now, Wall};
