//! A provided-buffer ring: the slots of one group that the kernel may fill next.

#![allow(unsafe_code, reason = "the ring is memory shared with the kernel, given by address")]

use super::layout::{Group, HEADROOM};
use super::sys::Mapping;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// One group's ring and the slots that are lent to the shard.
pub(crate) struct BufferRing {
    group: Group,
    ring: Mapping,
    /// First byte of the pool.
    pool: *mut u8,
    tail: u16,
    lent: Vec<u16>,
    /// Bytes the kernel writes into a slot before the datagram.
    preamble: u32,
}

impl BufferRing {
    /// A ring with every slot of `group`, for datagrams that follow `preamble` bytes of the kernel's.
    pub(crate) fn new(group: Group, pool: *mut u8, preamble: u32) -> io::Result<BufferRing> {
        assert!(preamble <= HEADROOM);
        let size = usize::from(group.count) * size_of::<BufRingEntry>();
        let mut ring = BufferRing {
            group,
            ring: Mapping::anonymous(size)?,
            pool,
            tail: 0,
            lent: Vec::with_capacity(usize::from(group.count)),
            preamble,
        };
        (0..group.count).for_each(|slot| ring.offer(slot));
        ring.publish();
        Ok(ring)
    }

    /// Tells the kernel where the ring is.
    pub(crate) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let (at, count, id) = (self.ring.start() as u64, self.group.count, self.group.id);
        // SAFETY: the mapping holds `count` entries and lives as long as `self`, which the driver
        // drops after its ring; entries point into the pool, which the driver checks at every turn.
        unsafe { submitter.register_buf_ring_with_flags(at, count, id, 0) }
    }

    /// The kernel filled `slot`: it is the shard's until the end of the turn.
    pub(crate) fn lend(&mut self, slot: u16) {
        self.lent.push(slot);
    }

    /// The group.
    pub(crate) fn group(&self) -> Group {
        self.group
    }

    /// Gives every lent slot back to the kernel.
    pub(crate) fn take_back(&mut self) {
        while let Some(slot) = self.lent.pop() {
            self.offer(slot);
        }
        self.publish();
    }

    fn offer(&mut self, slot: u16) {
        let room = self.group.room(slot);
        let before = room.at - self.preamble;
        let place = usize::from(self.tail & (self.group.count - 1));
        let entry = self.ring.start().cast::<BufRingEntry>().wrapping_add(place);
        // SAFETY: `place` is below the number of entries the mapping holds; the kernel does not read
        // entries at or beyond the published tail, and no other reference to this one exists.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.pool.wrapping_add(before as usize) as u64);
        entry.set_len(self.preamble + room.len);
        entry.set_bid(slot);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let base = self.ring.start().cast::<BufRingEntry>();
        // SAFETY: `base` is the page-aligned start of the ring.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: the tail is a 16-bit word in the first entry, aligned, accessed by us and the kernel
        // as an atomic only.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
