//! The memory that received datagrams stand in for one turn: lent by `wait`, back after `submit`.

/// A range of a [`Pool`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Bytes {
    /// First byte.
    pub at: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Bytes {
    fn range(self) -> core::ops::Range<usize> {
        self.at as usize..self.at as usize + self.len as usize
    }
}

/// One contiguous allocation whose address never changes; drivers carve it into receive buffers.
pub struct Pool {
    memory: Box<[u8]>,
}

impl Pool {
    /// A zeroed pool of `size` bytes.
    pub fn new(size: usize) -> Self {
        Pool { memory: vec![0; size].into_boxed_slice() }
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.memory.len()
    }

    /// The bytes of `range`; empty when the range does not lie within the pool.
    pub fn get(&self, range: Bytes) -> &[u8] {
        self.memory.get(range.range()).unwrap_or(&[])
    }

    /// The bytes of `range`, to change them in place.
    pub fn get_mut(&mut self, range: Bytes) -> &mut [u8] {
        self.memory.get_mut(range.range()).unwrap_or(&mut [])
    }

    /// Where the memory starts: for drivers that hand it to the kernel.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }
}
