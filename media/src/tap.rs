//! Copies of what tapped legs send, for whoever captures their call: a packet as it came and as it reads once
//! it is opened, taken before anything is changed in it for the other leg.
//!
//! Copies of one turn stand in room that was made when the first leg was tapped. What does not fit is left out
//! and counted; nothing waits for it. A leg that is not tapped never comes here.

use crate::EndKey;
use crate::counters::Counters;
use crate::media::Media;
use base::{Bytes, Pool};
use std::net::SocketAddr;

/// The most copies of one turn of a shard.
pub const MOST: usize = 1_024;
/// Memory of one of them, in bytes, its share of the room for payload included.
pub const COST: usize = size_of::<Taken>() + ROOM / MOST;
/// Octets of payload of all of them.
const ROOM: usize = 256 * 1_024;

/// A packet that a tapped leg sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Copied<'a> {
    /// The endpoint facing the leg.
    pub end: EndKey,
    /// Where it came from.
    pub source: SocketAddr,
    /// The bound address of the port it arrived on.
    pub to: SocketAddr,
    /// The UDP payload: RTP, RTCP or UDPTL, without its protection; `None`: there was no room for it.
    pub payload: Option<&'a [u8]>,
}

/// A copy, and where it stands; an empty range where there was no room.
struct Taken {
    end: EndKey,
    source: SocketAddr,
    to: SocketAddr,
    range: Bytes,
    /// Where the packet stands in the pool: no other of the same turn stands there.
    lent: u32,
}

/// The copies of this turn.
#[derive(Default)]
pub(crate) struct Tap {
    taken: Vec<Taken>,
    octets: Vec<u8>,
}

impl Tap {
    /// Makes room: when a leg is tapped, so that none is taken when a packet comes.
    pub(crate) fn make_room(&mut self) {
        self.taken.reserve_exact(MOST - self.taken.len());
        self.octets.reserve_exact(ROOM - self.octets.len());
    }

    /// Copies a packet of a leg that came along this path.
    pub(crate) fn take(
        &mut self,
        end: EndKey,
        (source, to): (SocketAddr, SocketAddr),
        (bytes, pool): (Bytes, &Pool),
        counters: &Counters,
    ) {
        let payload = pool.get(bytes);
        let fits = payload.len() <= ROOM - self.octets.len() && self.taken.len() < MOST;
        let payload = if fits { payload } else { &[] };
        if !fits {
            counters.tap_dropped.add(1);
        }
        if self.taken.len() < MOST {
            let range = Bytes { at: self.octets.len() as u32, len: payload.len() as u32 };
            self.octets.extend_from_slice(payload);
            self.taken.push(Taken { end, source, to, range, lent: bytes.at });
        }
    }

    /// Takes the last copy back if it is of this packet.
    pub(crate) fn take_back(&mut self, bytes: Bytes) {
        if let Some(taken) = self.taken.pop_if(|taken| taken.lent == bytes.at) {
            self.octets.truncate(taken.range.at as usize);
        }
    }
}

impl Media {
    /// Gives the copies of this turn away, the oldest first. To be called before the turn's bytes go back.
    pub fn take_copies(&mut self, mut give: impl FnMut(Copied)) {
        let Tap { taken, octets } = &mut self.tap;
        for Taken { end, source, to, range, .. } in taken.drain(..) {
            let range = range.at as usize..(range.at + range.len) as usize;
            let payload = octets.get(range).filter(|payload| !payload.is_empty());
            give(Copied { end, source, to, payload });
        }
        octets.clear();
    }
}
