//! Transactions: RFC 3261 section 17 and RFC 6026, one file per state machine, and the table of them.
//!
//! A transaction keeps the text it repeats. Server transactions are found by the keyed hash of what
//! matches them (17.2.3); client transactions by our own branch, which names their place in the table.

pub mod client_invite;
pub mod client_other;
pub mod server_invite;
pub mod server_other;
pub mod timer;

pub use client_invite::{ClientInvite, Heard};
pub use client_other::ClientOther;
pub use server_invite::{Again, ServerInvite};
pub use server_other::ServerOther;
pub use timer::{Due, Timers};

use crate::message::Method;
use base::random::HashedMap;
use base::record::{Plain, Unreadable};
use base::wheel::TimerKey;
use base::{Home, Instant, Key, PortId, Slab, plain};
use std::net::SocketAddr;

/// The magic cookie of RFC 3261 8.1.1.7.
pub const COOKIE: &[u8] = b"z9hG4bK";

/// Whose transaction it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The call.
    pub call: Key,
    /// The leg within it.
    pub leg: u8,
}

/// One of the four machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// We sent an INVITE.
    ClientInvite(ClientInvite),
    /// We sent another request.
    ClientOther(ClientOther),
    /// We received an INVITE.
    ServerInvite(ServerInvite),
    /// We received another request.
    ServerOther(ServerOther),
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its state.
    pub machine: Machine,
    /// The call it belongs to; `None` when it merely lingers.
    pub owner: Option<Owner>,
    /// Local port it uses.
    pub port: PortId,
    /// Where its messages go.
    pub peer: SocketAddr,
    /// What is repeated: our request, its ACK, or our last response. [`Transactions::keep`] writes it.
    pub text: Vec<u8>,
    /// The request being served, until its final response: responses are built from it.
    pub request: Box<[u8]>,
    /// Secret part of our branch, or the keyed hash of the peer's.
    pub hash: u64,
    /// The CANCEL sent for this INVITE: it shares the branch.
    pub cancel: Option<Key>,
    /// The timer running for it.
    pub timer: Option<TimerKey>,
}

/// Our branch: home, place of the client transaction, secret.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Home of the call.
    pub home: Home,
    /// The transaction.
    pub transaction: Key,
    /// Unguessable part.
    pub secret: u64,
}

const BRANCH_LEN: usize = 7 + 2 + 8 + 8 + 16;

impl Branch {
    /// As it stands in a Via header.
    pub fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(COOKIE);
        hex(u64::from(self.home.0), 2, out);
        hex(u64::from(self.transaction.index), 8, out);
        hex(u64::from(self.transaction.generation), 8, out);
        hex(self.secret, 16, out);
    }

    /// Reads a branch of ours back; `None` for anybody else's.
    pub fn parse(text: &[u8]) -> Option<Branch> {
        if text.len() != BRANCH_LEN || !text.starts_with(COOKIE) {
            return None;
        }
        Some(Branch {
            home: Home(unhex(text.get(7..9)?)? as u8),
            transaction: Key {
                index: unhex(text.get(9..17)?)? as u32,
                generation: unhex(text.get(17..25)?)? as u32,
            },
            secret: unhex(text.get(25..41)?)?,
        })
    }
}

/// Appends the lowest `digits` hexadecimal digits of `value`.
pub(crate) fn hex(mut value: u64, digits: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; 16];
    for place in text.iter_mut().rev().take(digits) {
        *place = b"0123456789abcdef"[value as usize & 15];
        value >>= 4;
    }
    out.extend_from_slice(text.get(16 - digits.min(16)..).unwrap_or_default());
}

/// Reads lower-case hexadecimal digits, as `hex` writes them.
pub(crate) fn unhex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |n, d| {
        let digit = match d {
            b'0'..=b'9' => d - b'0',
            b'a'..=b'f' => d - b'a' + 10,
            _ => return None,
        };
        Some(n << 4 | u64::from(digit))
    })
}

impl Transaction {
    /// Whether the call that owns it cannot be forgotten yet.
    pub fn is_open(&self) -> bool {
        match &self.machine {
            Machine::ClientInvite(m) => m.is_open(),
            Machine::ClientOther(m) => m.is_open(),
            Machine::ServerInvite(m) => m.is_open(),
            Machine::ServerOther(m) => m.awaits_final(),
        }
    }

    /// Whether it serves a request that has no final response yet.
    pub fn awaits_final(&self) -> bool {
        match &self.machine {
            Machine::ServerInvite(m) => m.awaits_final(),
            Machine::ServerOther(m) => m.awaits_final(),
            Machine::ClientInvite(_) | Machine::ClientOther(_) => false,
        }
    }

    /// Whether it serves an INVITE whose 2xx is not acknowledged.
    pub fn awaits_ack(&self) -> bool {
        matches!(&self.machine, Machine::ServerInvite(m) if m.awaits_ack())
    }

    /// When its timer is due.
    pub fn deadline(&self) -> Instant {
        match &self.machine {
            Machine::ClientInvite(m) => m.deadline(),
            Machine::ClientOther(m) => m.deadline(),
            Machine::ServerInvite(m) => m.deadline(),
            Machine::ServerOther(m) => m.deadline(),
        }
    }

    /// Its timer has fired.
    pub fn expire(&mut self, now: Instant, timers: &Timers) -> Due {
        match &mut self.machine {
            Machine::ClientInvite(m) => m.expire(now),
            Machine::ClientOther(m) => m.expire(now, timers),
            Machine::ServerInvite(m) => m.expire(now, timers),
            Machine::ServerOther(m) => m.expire(now),
        }
    }
}

/// All transactions of a shard, and an arena of what they repeat: slots of one size, which are used again.
pub struct Transactions {
    table: Slab<Transaction>,
    by_hash: HashedMap<Key>,
    /// Slots that nobody uses.
    spare: Vec<Vec<u8>>,
}

/// Bytes of a slot: a response to a plain call's INVITE and its headers fit. What is longer, as most INVITEs are,
/// has memory of its own until it is acknowledged.
pub const SLOT: usize = 700;

impl Transactions {
    /// An empty table for at most `capacity` transactions.
    pub fn new(capacity: u32) -> Self {
        let (table, by_hash) = (Slab::new(capacity), HashedMap::default());
        Transactions { table, by_hash, spare: Vec::new() }
    }

    /// Transactions held.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of messages kept, to be repeated or to be answered.
    pub fn retained(&self) -> usize {
        self.table.iter().map(|(_, tx)| tx.text.len() + tx.request.len()).sum()
    }

    /// Whether there is no room for `more`.
    pub fn lacks_room(&self, more: usize) -> bool {
        self.table.len() + more > self.table.capacity() as usize
    }

    /// Adds a transaction; `None` when the table is full.
    pub fn insert(&mut self, transaction: Transaction) -> Option<Key> {
        let indexed = transaction.is_server().then_some(transaction.hash);
        let key = self.table.insert(transaction).ok()?;
        if let Some(hash) = indexed {
            self.by_hash.insert(hash, key);
        }
        Some(key)
    }

    /// Puts a thawed transaction back under its key.
    pub fn restore(&mut self, key: Key, transaction: Transaction) -> bool {
        let indexed = transaction.is_server().then_some(transaction.hash);
        let restored = self.table.restore(key, transaction).is_ok();
        if let (true, Some(hash)) = (restored, indexed) {
            self.by_hash.insert(hash, key);
        }
        restored
    }

    /// A server transaction by the hash of what matches it.
    pub fn find(&self, hash: u64) -> Option<Key> {
        self.by_hash.get(&hash).copied()
    }

    /// A transaction by its key.
    pub fn get(&self, key: Key) -> Option<&Transaction> {
        self.table.get(key)
    }

    /// A transaction by its key, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Transaction> {
        self.table.get_mut(key)
    }

    /// Keeps what a transaction repeats from now on; nothing more, if that is empty.
    pub fn keep(&mut self, key: Key, text: &[u8]) {
        let Some(tx) = self.table.get_mut(key) else { return };
        if tx.text.capacity() != SLOT || text.is_empty() || text.len() > SLOT {
            give_back(&mut self.spare, &mut tx.text);
            tx.text = match text.len() {
                0 => Vec::new(),
                1..=SLOT => self.spare.pop().unwrap_or_else(|| Vec::with_capacity(SLOT)),
                longer => Vec::with_capacity(longer),
            };
        }
        tx.text.clear();
        tx.text.extend_from_slice(text);
    }

    /// Forgets a transaction.
    pub fn remove(&mut self, key: Key) -> Option<Transaction> {
        let mut transaction = self.table.remove(key)?;
        give_back(&mut self.spare, &mut transaction.text);
        if transaction.is_server() && self.by_hash.get(&transaction.hash) == Some(&key) {
            self.by_hash.remove(&transaction.hash);
        }
        Some(transaction)
    }
}

/// A slot goes to whoever needs one next; longer memory is freed.
fn give_back(spare: &mut Vec<Vec<u8>>, text: &mut Vec<u8>) {
    let mut text = core::mem::take(text);
    if text.capacity() == SLOT {
        text.clear();
        spare.push(text);
    }
}

impl Transaction {
    /// Whether it serves an INVITE.
    pub fn is_invite(&self) -> bool {
        matches!(self.machine, Machine::ServerInvite(_))
    }

    /// Whether the request it serves, still unanswered, has this method.
    pub fn serves(&self, method: Method) -> bool {
        self.request.starts_with(method.as_bytes())
    }

    fn is_server(&self) -> bool {
        matches!(self.machine, Machine::ServerInvite(_) | Machine::ServerOther(_))
    }
}

impl Plain for Machine {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Machine::ClientInvite(m) => (0u8.put(out), m.put(out)),
            Machine::ClientOther(m) => (1u8.put(out), m.put(out)),
            Machine::ServerInvite(m) => (2u8.put(out), m.put(out)),
            Machine::ServerOther(m) => (3u8.put(out), m.put(out)),
        };
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(match u8::take(from)? {
            0 => Machine::ClientInvite(Plain::take(from)?),
            1 => Machine::ClientOther(Plain::take(from)?),
            2 => Machine::ServerInvite(Plain::take(from)?),
            3 => Machine::ServerOther(Plain::take(from)?),
            _ => return Err(Unreadable::Value),
        })
    }
}

impl Plain for Transaction {
    fn put(&self, out: &mut Vec<u8>) {
        self.machine.put(out);
        self.owner.put(out);
        self.port.put(out);
        self.peer.put(out);
        (self.text.len() as u32).put(out);
        out.extend_from_slice(&self.text);
        self.request.put(out);
        self.hash.put(out);
        self.cancel.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(Transaction {
            machine: Plain::take(from)?,
            owner: Plain::take(from)?,
            port: Plain::take(from)?,
            peer: Plain::take(from)?,
            text: Box::<[u8]>::take(from)?.into_vec(),
            request: Plain::take(from)?,
            hash: Plain::take(from)?,
            cancel: Plain::take(from)?,
            timer: None,
        })
    }
}

plain!(struct Owner { call, leg });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_stands_in_slots_that_are_used_again() {
        let mut all = Transactions::new(4);
        let plain = |hash| Transaction {
            machine: Machine::ServerOther(ServerOther::start()),
            owner: None,
            port: PortId(0),
            peer: "192.0.2.1:5060".parse().unwrap(),
            text: Vec::new(),
            request: Box::default(),
            hash,
            cancel: None,
            timer: None,
        };
        let (a, b) = (all.insert(plain(1)).unwrap(), all.insert(plain(2)).unwrap());
        let text = |all: &Transactions, key| all.get(key).map(|tx| tx.text.clone());
        for (len, slots) in [(SLOT, 0), (1, 0), (SLOT + 1, 1), (40, 0), (0, 1), (7, 0)] {
            let says = vec![b'x'; len];
            all.keep(a, &says);
            assert_eq!((text(&all, a), all.spare.len()), (Some(says), slots), "{len}");
        }
        let slot = all.get(a).unwrap().text.as_ptr();
        all.keep(b, b"b");
        all.remove(a);
        let c = all.insert(plain(3)).unwrap();
        all.keep(c, b"c");
        assert_eq!(all.get(c).unwrap().text.as_ptr(), slot);
        assert_eq!((text(&all, b), all.retained()), (Some(b"b".to_vec()), 2));
    }

    #[test]
    fn our_branches_are_recognised_and_others_are_not() {
        let branch = Branch {
            home: Home(0xa7),
            transaction: Key { index: 12, generation: 3 },
            secret: 0x0123_4567_89ab_cdef,
        };
        let mut text = Vec::new();
        branch.print(&mut text);
        assert_eq!(text, b"z9hG4bKa70000000c000000030123456789abcdef");
        assert_eq!(Branch::parse(&text), Some(branch));
        for cut in 0..text.len() {
            assert_eq!(Branch::parse(&text[..cut]), None);
        }
        text[10] = b'G';
        assert_eq!(Branch::parse(&text), None);
    }
}
