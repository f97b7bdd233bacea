//! How a shard's pool is carved into receive buffers; the same for every driver.
//!
//! Three groups stand one after the other: many small slots for media, few large ones for signalling, few
//! of middle size for what comes over connections, which may come in pieces.
//! A datagram starts [`HEADROOM`] bytes into its slot and media leaves [`TAILROOM`] behind it, so that
//! an SRTP tag and a longer header can be written in place.

use base::{Bytes, Pool};

/// Bytes of its slot before every datagram: what the ring says of it (16 bytes and the source's address), or
/// later the IP and UDP headers it leaves with.
pub const HEADROOM: u32 = 128;
/// Bytes of its slot behind the longest media datagram: SRTP tag and MKI.
pub const TAILROOM: u32 = 64;

/// A run of equal slots.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Group {
    /// Number of the kernel's buffer group.
    pub(crate) id: u16,
    /// Slots; a power of two.
    pub(crate) count: u16,
    /// Bytes of a slot.
    size: u32,
    /// Bytes kept free at the end of a slot.
    tail: u32,
    /// First byte in the pool.
    at: u32,
}

/// Audio and video: cache matters more than room.
pub(crate) const MEDIA: Group = Group { id: 0, count: 512, size: 2048, tail: TAILROOM, at: 0 };

/// SIP: whatever IP reassembles.
pub(crate) const SIGNAL: Group =
    Group { id: 1, count: 64, size: 64 * 1024, tail: 0, at: MEDIA.end() };

/// SIP over connections: a piece of a stream.
pub(crate) const STREAM: Group =
    Group { id: 2, count: 32, size: 16 * 1024, tail: 0, at: SIGNAL.end() };

impl Group {
    const fn end(self) -> u32 {
        self.at + self.count as u32 * self.size
    }

    /// The slot in which byte `at` of the pool stands.
    pub(crate) const fn slot(self, at: u32) -> Option<u16> {
        let in_group = at >= self.at && at < self.end();
        if in_group { Some(((at - self.at) / self.size) as u16) } else { None }
    }

    /// Where a datagram may stand in slot `slot`.
    pub(crate) const fn room(self, slot: u16) -> Bytes {
        Bytes {
            at: self.at + slot as u32 * self.size + HEADROOM,
            len: self.size - HEADROOM - self.tail,
        }
    }
}

/// A pool with room for every group.
pub(crate) fn pool() -> Pool {
    Pool::new(STREAM.end() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_fill_the_pool() {
        let mut end = 0;
        for group in [MEDIA, SIGNAL, STREAM] {
            assert!(group.count.is_power_of_two());
            for slot in 0..group.count {
                let room = group.room(slot);
                assert_eq!(room.at, end + HEADROOM);
                assert_eq!(group.slot(room.at), Some(slot));
                end = room.at + room.len + group.tail;
            }
        }
        assert_eq!(end as usize, pool().size());
    }
}
