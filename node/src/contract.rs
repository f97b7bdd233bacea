//! What a driver and a shard promise each other.
//!
//! The driver (io_uring, epoll, the simulator) lends received bytes for one turn and takes everything
//! the shard hands it. Time never goes back; datagrams of one port keep their order; bytes in the
//! inbox's pool are lent until `submit` returns; `submit` takes every lane, in the order journal,
//! records, packets, texts, mesh, events; a send that fails is an input of a later turn, an `Err` ends
//! the shard.

use base::{Bytes, Instant, Key, Now, PacketSend, Pool, PortId, ShardId, Texts};
use control::{Command, Event};
use sbc::policy::Proved;
use std::net::SocketAddr;

/// The operator's or the kernel's failure: what happened and what to do about it. Ends the shard.
#[derive(Debug)]
pub struct Fault {
    /// What could not be done.
    pub what: String,
    /// What the operator can do.
    pub remedy: String,
}

/// One received datagram.
#[derive(Copy, Clone, Debug)]
pub struct Received {
    /// The local port it arrived on.
    pub port: PortId,
    /// Who sent it.
    pub source: SocketAddr,
    /// Its bytes in the pool.
    pub bytes: Bytes,
}

/// A send the kernel reported as failed (an ICMP error, or a local refusal).
#[derive(Copy, Clone, Debug)]
pub struct Undeliverable {
    /// The local port it was to leave from.
    pub port: PortId,
    /// Where it was to go, when the kernel said.
    pub to: Option<SocketAddr>,
    /// The operating system's error number.
    pub errno: i32,
}

/// A whole message of a stream.
#[derive(Debug)]
pub enum Heard {
    /// It came in one piece, and stands in the pool until the turn is over.
    Whole(Bytes),
    /// It was put together, or deciphered.
    Made(Box<[u8]>),
}

impl Heard {
    /// Its bytes.
    pub fn bytes<'a>(&'a self, pool: &'a Pool) -> &'a [u8] {
        match self {
            Heard::Whole(place) => pool.get(*place),
            Heard::Made(bytes) => bytes,
        }
    }

    /// The same, for somebody who keeps them.
    pub fn into_bytes(self, pool: &Pool) -> Box<[u8]> {
        match self {
            Heard::Whole(place) => pool.get(place).into(),
            Heard::Made(bytes) => bytes,
        }
    }
}

/// A message between shards, or from the gate to a shard.
#[derive(Debug)]
pub enum Letter {
    /// A SIP message that another shard received for one of our homes.
    Signal {
        /// The listener it arrived on; listeners have the same id on every shard.
        port: PortId,
        /// Who sent it.
        source: SocketAddr,
        /// The names its sender has proved.
        proved: Option<Proved>,
        /// The whole message.
        bytes: Box<[u8]>,
    },
    /// A SIP message that a sign of another shard's says is for a call of ours.
    Signed {
        /// The listener it arrived on.
        port: PortId,
        /// Who sent it.
        source: SocketAddr,
        /// The names its sender has proved.
        proved: Option<Proved>,
        /// The whole message.
        bytes: Box<[u8]>,
        /// The call.
        call: Key,
    },
    /// What one call has to say to another when a leg goes from one to the other.
    Move(Box<sbc::Move>),
    /// A SIP message for another shard, which takes no more of them: it is refused here, or dropped.
    Returned {
        /// The listener it arrived on.
        port: PortId,
        /// Who sent it.
        source: SocketAddr,
        /// The names its sender has proved.
        proved: Option<Proved>,
        /// The whole message.
        bytes: Box<[u8]>,
    },
    /// A SIP message that arrived on a stream of this shard's; it may be any shard's.
    Stream {
        /// The listener of the stream.
        port: PortId,
        /// The other end of the stream.
        source: SocketAddr,
        /// The names it has proved.
        proved: Option<Proved>,
        /// The whole message.
        bytes: Heard,
    },
    /// A message for a stream that belongs to this shard.
    Forward {
        /// The listener of the stream.
        port: PortId,
        /// The other end of the stream.
        to: SocketAddr,
        /// The whole message.
        bytes: Box<[u8]>,
    },
    /// A message of any shard's that a stream of this shard's did not take: broken, refused, too full.
    Unsent {
        /// The whole message.
        bytes: Box<[u8]>,
        /// Another shard found that it is ours.
        relayed: bool,
    },
    /// A question's answer.
    Answer(sbc::question::Answer),
    /// An answer about a number.
    Ported(sbc::question::PortedNumber),
    /// An operator's order, from the gate.
    Command(Command),
    /// A newly compiled configuration, to route by from now on.
    Config(std::sync::Arc<sbc::policy::Image>),
    /// How well trunks carry calls, to choose by from now on.
    Standing(std::sync::Arc<sbc::quality::Standing>),
    /// Endpoints of a shard's trunks that do not answer, as it has found.
    Outages {
        /// The shard that asks them.
        from: ShardId,
        /// All of them.
        outages: std::sync::Arc<sbc::policy::Outages>,
    },
}

/// What a turn brings.
pub struct Inbox {
    /// The memory datagrams stand in.
    pub pool: Pool,
    /// Datagrams, oldest first per port.
    pub packets: Vec<Received>,
    /// Sends that failed since the last turn.
    pub undeliverable: Vec<Undeliverable>,
    /// Datagrams larger than their buffer since the last turn, by port.
    pub truncated: Vec<PortId>,
    /// Letters from other shards and the gate.
    pub letters: Vec<Letter>,
    /// Bytes free in the journal region.
    pub journal_room: usize,
}

impl Inbox {
    /// An empty inbox over `pool`.
    pub fn new(pool: Pool) -> Self {
        Inbox {
            pool,
            packets: Vec::new(),
            undeliverable: Vec::new(),
            truncated: Vec::new(),
            letters: Vec::new(),
            journal_room: 0,
        }
    }

    /// Forgets the turn's inputs, keeping their memory; the pool stays.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.undeliverable.clear();
        self.truncated.clear();
        self.letters.clear();
    }
}

/// A record to write over one slot of the region; an empty range clears the slot.
#[derive(Copy, Clone, Debug)]
pub struct RecordWrite {
    /// Slot number, below `ShardLimits::records`.
    pub slot: u32,
    /// The sealed record in `Outbox::plain`; at most `ShardLimits::record_size` bytes.
    pub bytes: Bytes,
}

/// What a turn asks for.
#[derive(Default)]
pub struct Outbox {
    /// Arena of journal frames and records.
    pub plain: Vec<u8>,
    /// Whole sealed frames in `plain`, to append to the journal in this order.
    pub journal: Vec<Bytes>,
    /// Records in `plain`, to write after the journal.
    pub records: Vec<RecordWrite>,
    /// Media to relay, out of the inbox's pool.
    pub packets: Vec<PacketSend>,
    /// SIP to send, out of its own arena.
    pub texts: Texts,
    /// Letters to other shards.
    pub mesh: Vec<(ShardId, Letter)>,
    /// What the gate should know. A full ring loses events, counts them, and never blocks.
    pub events: Vec<Event>,
}

impl Outbox {
    /// Empties every lane, keeping its memory.
    pub fn clear(&mut self) {
        self.plain.clear();
        self.journal.clear();
        self.records.clear();
        self.packets.clear();
        self.texts.clear();
        self.mesh.clear();
        self.events.clear();
    }
}

/// How full each lane was before an input: what it pushed can be taken back.
#[derive(Copy, Clone)]
pub(crate) struct Mark {
    plain: usize,
    journal: usize,
    packets: usize,
    arena: usize,
    sends: usize,
    mesh: usize,
    events: usize,
}

impl Mark {
    pub(crate) fn of(outbox: &Outbox) -> Mark {
        Mark {
            plain: outbox.plain.len(),
            journal: outbox.journal.len(),
            packets: outbox.packets.len(),
            arena: outbox.texts.arena.len(),
            sends: outbox.texts.sends.len(),
            mesh: outbox.mesh.len(),
            events: outbox.events.len(),
        }
    }

    pub(crate) fn rewind(self, outbox: &mut Outbox) {
        outbox.plain.truncate(self.plain);
        outbox.journal.truncate(self.journal);
        outbox.packets.truncate(self.packets);
        outbox.texts.arena.truncate(self.arena);
        outbox.texts.sends.truncate(self.sends);
        outbox.mesh.truncate(self.mesh);
        outbox.events.truncate(self.events);
    }
}

/// A driver: the only place where time is read and where anything waits.
pub trait Io {
    /// Waits for input until `deadline` at the latest (`None`: until there is input), fills `inbox`,
    /// and reads the clocks. May return early with nothing.
    fn wait(&mut self, deadline: Option<Instant>, inbox: &mut Inbox) -> Result<Now, Fault>;

    /// Takes everything in `outbox` and empties it; buffers lent by `inbox` go back.
    fn submit(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), Fault>;
}
