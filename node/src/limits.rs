//! Every capacity of a node, decided once at start.

use sbc::policy::Transport;
use std::net::SocketAddr;

/// What a port is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// SIP over UDP; every shard binds it with SO_REUSEPORT.
    Sip,
    /// SIP over streams, of every shard alike. Not a socket: connections come and go behind it.
    Stream(Transport),
    /// RTP of one media endpoint.
    Rtp,
    /// RTCP of the RTP port before it.
    Rtcp,
}

/// One local UDP port of one shard. Its place in `ShardLimits::ports` is its `PortId`.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Where to bind.
    pub address: SocketAddr,
    /// What it is for.
    pub role: Role,
    /// Index of its interface in the configuration.
    pub interface: u16,
    /// Device to bind to, when the interface names one.
    pub device: Option<String>,
    /// Differentiated services code point of what leaves, 0..=63 (RFC 2474).
    pub dscp: u8,
    /// Seconds of silence after which the kernel asks whether a connection's far end still lives; 0 never.
    pub tcp_keepalive_s: u16,
}

/// What one shard may hold.
#[derive(Clone, Debug)]
pub struct ShardLimits {
    /// Ports, listeners first; the same listeners in the same order on every shard.
    pub ports: Vec<PortSpec>,
    /// Calls, and hence record slots.
    pub records: u32,
    /// Transactions, lingering ones included.
    pub transactions: u32,
    /// Bytes of one record slot.
    pub record_size: u32,
    /// Bytes of the journal region.
    pub journal_size: usize,
}

/// What the node may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// One entry per shard.
    pub shards: Vec<ShardLimits>,
    /// Letters that fit into one ring of the mesh.
    pub mesh_letters: usize,
    /// Events that fit into a shard's ring to the gate.
    pub events: usize,
}
