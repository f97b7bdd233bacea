//! Drivers: how a shard meets the kernel.
//!
//! [`uring`] and [`epoll`] implement the same contract, `node::Io`, and pass the same tests; [`probe`] chooses.
//! [`port`] opens sockets, [`share`] lets ports share them, [`stream`] has connections, [`region`] keeps what must
//! outlive the process, [`resident`] what must stay in memory, [`mesh`] connects shards and the gate. Nothing here
//! knows what a datagram means.

mod address;
mod batch;
mod buffers;
#[cfg(test)]
mod contract;
pub mod epoll;
mod errors;
pub(crate) mod heap;
mod journal;
pub mod layout;
mod leaving;
pub mod mesh;
mod pace;
pub mod pin;
pub mod port;
pub mod privileges;
pub mod probe;
pub mod region;
pub mod resident;
pub mod rundir;
pub mod share;
mod shore;
pub(crate) mod stream;
mod sys;
#[cfg(test)]
pub(crate) mod testing;
pub mod uring;

pub use journal::Reader as JournalReader;
pub use stream::{ListenerCounters, TrunkCounters, TrunkTable};

use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// A descriptor as the gate's runtime watches it.
pub fn watch(fd: &OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    sys::watch(fd.try_clone()?)
}

/// Both clocks, for the one step before a driver exists.
pub fn now() -> base::Now {
    sys::now(base::Instant(0))
}
