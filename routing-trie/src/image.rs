//! The immutable image of a trie: one flat run of little-endian words that is its own file format.
//!
//! Header (24 bytes): magic, version, node count, prefix count, checksum (64 bits). Then 12 bytes per node, a node
//! being a beginning that longer prefixes have: which symbols lead to another node (a bit each), which complete a
//! prefix, the first of those nodes, the rank of the first of those prefixes. Then the values, four bytes each, by
//! rank. So what only ends, as most prefixes of a deck do, takes four bytes and no step of a walk.
//!
//! Nodes and prefixes lie breadth first, in symbol order: the rank of a prefix is its place among all, the shorter
//! before the longer (the empty one behind those of one symbol), and what belongs to a symbol is the first one plus
//! the number of lower bits set.
//!
//! An image read from bytes is validated whole before it is used, its structure included: whatever a
//! disk or a network did to it, a look-up ends and stays within it. The checksum is FNV-1a over 32-bit
//! words; it guards against damage, not against an adversary.

use crate::digits::{MAX_DIGITS, SYMBOLS};

/// Marks the absence of a value.
pub(crate) const NONE: u32 = u32::MAX;
/// The most nodes a trie is built of.
pub(crate) const MAX_NODES: usize = 1 << 28;

const MAGIC: u32 = 0x5449_4454;
const VERSION: u32 = 3;
const HEADER: usize = 24;
/// Bytes of a node, and of a value.
pub(crate) const NODE: usize = 12;
const VALUE: usize = 4;
/// What completes the empty prefix, in the first node: behind all symbols.
pub(crate) const EMPTY: u8 = SYMBOLS as u8;

/// A validated image. Cloning copies it; share it behind an `Arc` and swap the pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    bytes: Box<[u8]>,
    /// Where the values begin.
    values_at: usize,
}

/// Why bytes are no image.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NotAnImage {
    /// They do not begin like one, or with another version of one.
    Foreign,
    /// There are fewer or more of them than the header says.
    Length,
    /// The checksum does not match.
    Damaged,
    /// The nodes do not form a trie.
    Structure,
}

impl core::error::Error for NotAnImage {}

impl core::fmt::Display for NotAnImage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            NotAnImage::Foreign => "not a routing image of this version",
            NotAnImage::Length => "not as long as its header says",
            NotAnImage::Damaged => "the checksum does not match",
            NotAnImage::Structure => "the nodes do not form a trie",
        })
    }
}

/// One node as it is laid out.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Bit `s` is set when symbol `s` leads to a node.
    pub(crate) symbols: u16,
    /// Bit `s` is set when symbol `s` completes a prefix; see [`EMPTY`].
    pub(crate) prefixes: u16,
    /// Index of the node of the lowest symbol, or where it would be.
    pub(crate) first_child: u32,
    /// Rank of the prefix of the lowest symbol, or what it would be.
    pub(crate) first_rank: u32,
}

impl Node {
    #[inline]
    pub(crate) fn read(bytes: &[u8; NODE]) -> Node {
        let [s0, s1, p0, p1, c0, c1, c2, c3, r0, r1, r2, r3] = *bytes;
        Node {
            symbols: u16::from_le_bytes([s0, s1]),
            prefixes: u16::from_le_bytes([p0, p1]),
            first_child: u32::from_le_bytes([c0, c1, c2, c3]),
            first_rank: u32::from_le_bytes([r0, r1, r2, r3]),
        }
    }

    /// Index of the node that a symbol leads to.
    #[inline]
    pub(crate) fn child(&self, symbol: u8) -> Option<usize> {
        let bit = 1u16 << symbol;
        let is_there = self.symbols & bit != 0;
        is_there.then(|| (self.first_child + ones(self.symbols & (bit - 1))) as usize)
    }

    /// Whether a symbol, or [`EMPTY`], completes a prefix.
    #[inline]
    pub(crate) fn completes(&self, symbol: u8) -> bool {
        self.prefixes >> symbol & 1 != 0
    }

    /// The rank of the prefix that a symbol, or [`EMPTY`], completes.
    #[inline]
    pub(crate) fn rank(&self, symbol: u8) -> usize {
        (self.first_rank + ones(self.prefixes & ((1 << symbol) - 1))) as usize
    }
}

/// How many bits of symbols are set.
#[inline]
fn ones(symbols: u16) -> u32 {
    BITS_SET[usize::from(symbols) % BITS_SET.len()].into()
}

/// How many bits are set in each number of as many bits as there are symbols: the instruction for it is not
/// on every processor this is compiled for, and doing without takes a dozen.
static BITS_SET: [u8; 1 << SYMBOLS] = {
    let mut counts = [0; 1 << SYMBOLS];
    let mut n = 1;
    while n < counts.len() {
        counts[n] = counts[n / 2] + (n % 2) as u8;
        n += 1;
    }
    counts
};

impl Image {
    /// Lays nodes and values, which the builder put in order, behind a header.
    pub(crate) fn seal(nodes: &[Node], values: &[u32]) -> Image {
        let values_at = HEADER + nodes.len() * NODE;
        let mut bytes = Vec::with_capacity(values_at + values.len() * VALUE);
        for word in [MAGIC, VERSION, nodes.len() as u32, values.len() as u32, 0, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for node in nodes {
            bytes.extend_from_slice(&node.symbols.to_le_bytes());
            bytes.extend_from_slice(&node.prefixes.to_le_bytes());
            bytes.extend_from_slice(&node.first_child.to_le_bytes());
            bytes.extend_from_slice(&node.first_rank.to_le_bytes());
        }
        for value in values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes[16..HEADER].copy_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(validate(&bytes), Ok(values_at));
        Image { bytes: bytes.into_boxed_slice(), values_at }
    }

    /// The image as it goes to a file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads an image, checking all of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Image, NotAnImage> {
        Image::from_box(bytes.into())
    }

    /// Reads an image without copying it, checking all of it.
    pub fn from_box(bytes: Box<[u8]>) -> Result<Image, NotAnImage> {
        let values_at = validate(&bytes)?;
        Ok(Image { bytes, values_at })
    }

    /// Prefixes in the image.
    pub fn len(&self) -> usize {
        self.values().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn nodes(&self) -> &[[u8; NODE]] {
        self.bytes.get(HEADER..self.values_at).unwrap_or(&[]).as_chunks().0
    }

    /// Values by rank.
    #[inline]
    pub(crate) fn values(&self) -> &[[u8; VALUE]] {
        self.bytes.get(self.values_at..).unwrap_or(&[]).as_chunks().0
    }

    /// The value of the prefix of a rank.
    #[inline]
    pub fn value(&self, rank: usize) -> Option<u32> {
        self.values().get(rank).map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl core::fmt::Debug for Image {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Image({} prefixes, {} bytes)", self.len(), self.bytes.len())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

/// Everything but the checksum's own place. Each step is a bijection of the state, so that any change
/// within one word is always noticed.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<4>();
    let covered = words.iter().take(4).chain(words.iter().skip(HEADER / 4));
    covered.fold(0xcbf2_9ce4_8422_2325, |state, word| {
        (state ^ u64::from(u32::from_le_bytes(*word))).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Where the values of a sound image begin.
fn validate(bytes: &[u8]) -> Result<usize, NotAnImage> {
    let header = |i: usize| word(bytes, 4 * i).ok_or(NotAnImage::Length);
    if (header(0)?, header(1)?) != (MAGIC, VERSION) {
        return Err(NotAnImage::Foreign);
    }
    let (count, prefixes) = (header(2)? as usize, header(3)?);
    let sum = u64::from(header(4)?) | u64::from(header(5)?) << 32;
    let values_at = HEADER.saturating_add(count.saturating_mul(NODE));
    if count == 0 || bytes.len() != values_at.saturating_add(prefixes as usize * VALUE) {
        return Err(NotAnImage::Length);
    }
    if checksum(bytes) != sum {
        return Err(NotAnImage::Damaged);
    }
    let (nodes, values) = bytes.split_at(values_at);
    let nodes = nodes.get(HEADER..).unwrap_or(&[]).as_chunks::<NODE>().0;
    // Breadth first means that each node's children and prefixes stand behind those of the nodes before it: so every
    // node but the first has one parent, every index is within, and every path ends.
    let (mut next_child, mut next_rank) = (1, 0);
    let (mut depth, mut level_end) = (0, 1);
    for (at, node) in nodes.iter().map(Node::read).enumerate() {
        if at == level_end {
            (depth, level_end) = (depth + 1, next_child as usize);
        }
        let known = 1u16 << EMPTY;
        let is_known = node.symbols < known && (node.prefixes < known || at == 0);
        let is_known = is_known && node.prefixes < 2 * known;
        let is_needed = at == 0 || node.symbols | node.prefixes != 0;
        let is_placed = at < next_child as usize
            && (node.first_child, node.first_rank) == (next_child, next_rank);
        if !(is_known && is_needed && is_placed && depth < MAX_DIGITS) {
            return Err(NotAnImage::Structure);
        }
        next_child += node.symbols.count_ones();
        next_rank += node.prefixes.count_ones();
    }
    let is_value = |bytes: &[u8; VALUE]| u32::from_le_bytes(*bytes) != NONE;
    let whole = next_child as usize == count && next_rank == prefixes;
    if whole && values.as_chunks().0.iter().all(is_value) {
        Ok(values_at)
    } else {
        Err(NotAnImage::Structure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    fn sample() -> Image {
        let mut builder = Builder::new();
        for (value, prefix) in (0..).zip(["", "1", "49", "4917", "*21#"]) {
            builder.insert(prefix.parse().unwrap(), value).unwrap();
        }
        builder.build()
    }

    /// The bytes with a matching checksum: damage that only the structure shows.
    fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&bytes);
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn an_image_reads_back() {
        let image = sample();
        assert_eq!(Image::from_bytes(image.as_bytes()).as_ref(), Ok(&image));
        assert_eq!((image.len(), image.is_empty()), (5, false));
        assert!(Image::from_bytes(Builder::new().build().as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = sample().as_bytes().to_vec();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Image::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Image::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(Image::from_bytes(&[&bytes[..], &[0; 12]].concat()), Err(NotAnImage::Length));
    }

    #[test]
    fn structure_is_checked_even_under_a_right_checksum() {
        let bytes = sample().as_bytes().to_vec();
        for at in (0..bytes.len()).filter(|at| !(16..24).contains(at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            let value_byte = at >= sample().values_at;
            let read = Image::from_bytes(&resealed(changed));
            assert!(read.is_err() || value_byte, "byte {at}: {read:?}");
        }
    }
}
