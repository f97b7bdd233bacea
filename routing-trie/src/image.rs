//! The immutable image of a trie: one flat run of little-endian words that is its own file format.
//!
//! Header (24 bytes): magic, version, node count, prefix count, checksum (64 bits). Then 12 bytes per
//! node: which symbols go on (a bit each), the first child (0 without one), the value. Children of a node lie
//! together behind it in symbol order, so a child is the first one plus the number of lower bits set.
//!
//! An image read from bytes is validated whole before it is used, its structure included: whatever a
//! disk or a network did to it, a look-up ends and stays within it. The checksum is FNV-1a over 32-bit
//! words; it guards against damage, not against an adversary.

use crate::digits::SYMBOLS;

/// Marks the absence of a value.
pub(crate) const NONE: u32 = u32::MAX;
/// The most nodes of an image: 3 GiB of them.
pub(crate) const MAX_NODES: usize = 1 << 28;

const MAGIC: u32 = 0x5449_4454;
const VERSION: u32 = 2;
const HEADER: usize = 24;
/// Bytes of a node.
pub(crate) const NODE: usize = 12;

/// A validated image. Cloning copies it; share it behind an `Arc` and swap the pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    bytes: Box<[u8]>,
    prefixes: u32,
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
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Bit `s` is set when symbol `s` goes on to a child.
    pub(crate) symbols: u32,
    /// Index of the child of the lowest symbol.
    pub(crate) first_child: u32,
    /// The value of the prefix that ends here, or [`NONE`].
    pub(crate) value: u32,
}

impl Node {
    /// Nothing goes on, and nothing ends here.
    pub(crate) const LEAF: Node = Node { symbols: 0, first_child: 0, value: NONE };

    #[inline]
    pub(crate) fn read(bytes: &[u8; NODE]) -> Node {
        let [s0, s1, s2, s3, c0, c1, c2, c3, v0, v1, v2, v3] = *bytes;
        Node {
            symbols: u32::from_le_bytes([s0, s1, s2, s3]),
            first_child: u32::from_le_bytes([c0, c1, c2, c3]),
            value: u32::from_le_bytes([v0, v1, v2, v3]),
        }
    }

    /// Index of the child behind `symbol`.
    #[inline]
    pub(crate) fn child(&self, symbol: u8) -> Option<usize> {
        let bit = 1u32 << symbol;
        let below = BITS_SET[(self.symbols & (bit - 1)) as usize % BITS_SET.len()];
        (self.symbols & bit != 0).then_some((self.first_child + u32::from(below)) as usize)
    }
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
    /// Lays nodes, which the builder put in order, behind a header.
    pub(crate) fn seal(nodes: &[Node]) -> Image {
        let prefixes = nodes.iter().filter(|n| n.value != NONE).count() as u32;
        let mut bytes = Vec::with_capacity(HEADER + nodes.len() * NODE);
        for word in [MAGIC, VERSION, nodes.len() as u32, prefixes, 0, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for node in nodes {
            for word in [node.symbols, node.first_child, node.value] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        let sum = checksum(&bytes);
        bytes[16..HEADER].copy_from_slice(&sum.to_le_bytes());
        let image = Image { bytes: bytes.into_boxed_slice(), prefixes };
        debug_assert!(validate(&image.bytes).is_ok());
        image
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
        let prefixes = validate(&bytes)?;
        Ok(Image { bytes, prefixes })
    }

    /// Prefixes in the image.
    pub fn len(&self) -> usize {
        self.prefixes as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.prefixes == 0
    }

    #[inline]
    pub(crate) fn nodes(&self) -> &[[u8; NODE]] {
        nodes(&self.bytes)
    }
}

impl core::fmt::Debug for Image {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Image({} prefixes, {} bytes)", self.prefixes, self.bytes.len())
    }
}

#[inline]
fn nodes(bytes: &[u8]) -> &[[u8; NODE]] {
    bytes.get(HEADER..).unwrap_or(&[]).as_chunks::<NODE>().0
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

/// The number of prefixes of a sound image.
fn validate(bytes: &[u8]) -> Result<u32, NotAnImage> {
    let header = |i: usize| word(bytes, 4 * i).ok_or(NotAnImage::Length);
    if (header(0)?, header(1)?) != (MAGIC, VERSION) {
        return Err(NotAnImage::Foreign);
    }
    let (count, prefixes) = (header(2)? as usize, header(3)?);
    let sum = u64::from(header(4)?) | u64::from(header(5)?) << 32;
    if count == 0 || count > MAX_NODES || bytes.len() != HEADER + count * NODE {
        return Err(NotAnImage::Length);
    }
    if checksum(bytes) != sum {
        return Err(NotAnImage::Damaged);
    }
    // Children follow their parent, and each has one: so the nodes form one tree, every index is within it, and
    // every path ends.
    let (mut has_parent, mut valued, mut children) = (vec![false; count], 0, 0);
    for (at, node) in nodes(bytes).iter().map(Node::read).enumerate() {
        let (first, many) = (node.first_child as usize, node.symbols.count_ones() as usize);
        let is_placed = if many == 0 { first == 0 } else { first > at };
        let family = has_parent.get_mut(first..first + many).ok_or(NotAnImage::Structure)?;
        if node.symbols >> crate::digits::SYMBOLS != 0 || !is_placed || family.contains(&true) {
            return Err(NotAnImage::Structure);
        }
        family.fill(true);
        children += many;
        valued += u32::from(node.value != NONE);
    }
    if 1 + children != count || valued != prefixes {
        return Err(NotAnImage::Structure);
    }
    Ok(prefixes)
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
            let value_byte = at >= HEADER && (at - HEADER) % NODE >= 8;
            let read = Image::from_bytes(&resealed(changed));
            assert!(read.is_err() || value_byte, "byte {at}: {read:?}");
        }
    }
}
