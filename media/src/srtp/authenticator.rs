//! HMAC-SHA-1 (RFC 2104) under a key that stays: the tags of the counter mode suites (RFC 3711 §4.2.1).
//!
//! What the key makes of the inner and the outer hash is computed once and is all that is kept: forty
//! bytes, where a library's context has over a thousand and copies them for every packet.

use sha1::block_api::compress;
use zeroize::Zeroize;

/// Bytes of a block of SHA-1, and of its value.
const BLOCK: usize = 64;
const VALUE: usize = 20;
/// The length at a message's end, in bits (RFC 3174 §4).
const LENGTH: usize = 8;
/// What a hash begins with (RFC 3174 §6.1).
const START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// A key at work.
pub(super) struct Authenticator {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl Authenticator {
    /// Of a key that is no longer than a block, as those of SRTP are.
    pub(super) fn new(key: &[u8; VALUE]) -> Authenticator {
        let keyed = |pad: u8| {
            let (mut block, mut state) = ([pad; BLOCK], START);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            compress(&mut state, &[block]);
            block.zeroize();
            state
        };
        Authenticator { inner: keyed(0x36), outer: keyed(0x5c) }
    }

    /// The tag of a packet, with its rollover counter behind it where it has one.
    pub(super) fn tag(&self, packet: &[u8], roc: Option<u32>) -> [u8; VALUE] {
        let (blocks, rest) = packet.as_chunks::<BLOCK>();
        let mut inner = self.inner;
        compress(&mut inner, blocks);
        let mut last = [[0; BLOCK]; 2];
        let room = last.as_flattened_mut();
        let mut used = rest.len();
        room[..used].copy_from_slice(rest);
        if let Some(roc) = roc {
            room[used..used + 4].copy_from_slice(&roc.to_be_bytes());
            used += 4;
        }
        room[used] = 0x80;
        let count = (used + 1 + LENGTH).div_ceil(BLOCK);
        let end = count * BLOCK;
        room[end - LENGTH..end].copy_from_slice(&bits(blocks.len() * BLOCK + used));
        compress(&mut inner, &last[..count]);
        let mut block = [0; BLOCK];
        block[..VALUE].copy_from_slice(&bytes(inner));
        block[VALUE] = 0x80;
        block[BLOCK - LENGTH..].copy_from_slice(&bits(VALUE));
        let mut outer = self.outer;
        compress(&mut outer, &[block]);
        bytes(outer)
    }
}

impl Drop for Authenticator {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The length of so many bytes behind the block of the key.
fn bits(len: usize) -> [u8; LENGTH] {
    (8 * (BLOCK + len) as u64).to_be_bytes()
}

fn bytes(state: [u32; 5]) -> [u8; VALUE] {
    let mut value = [0; VALUE];
    for (bytes, word) in value.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
    use proptest::prelude::*;

    #[test]
    fn the_first_tag_is_that_of_rfc_2202_3() {
        let tag = Authenticator::new(&[0x0b; VALUE]).tag(b"Hi There", None);
        let expected: [u8; VALUE] = [
            0xb6, 0x17, 0x31, 0x86, 0x55, 0x05, 0x72, 0x64, 0xe2, 0x8b, 0xc0, 0xb6, 0xfb, 0x37,
            0x8c, 0x8e, 0xf1, 0x46, 0xbe, 0x00,
        ];
        assert_eq!(tag, expected);
    }

    #[test]
    fn tags_of_every_length_are_those_of_another_implementation() {
        let (key, packet) = ([0xa5; VALUE], [0x5a; 3 * BLOCK]);
        let (ours, theirs) =
            (Authenticator::new(&key), hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key));
        for packet in (0..packet.len()).map(|len| &packet[..len]) {
            assert_eq!(ours.tag(packet, None), hmac::sign(&theirs, packet).as_ref());
            let whole = [packet, &7u32.to_be_bytes()].concat();
            assert_eq!(ours.tag(packet, Some(7)), hmac::sign(&theirs, &whole).as_ref());
        }
    }

    proptest! {
        #[test]
        fn tags_are_those_of_another_implementation(
            key: [u8; VALUE],
            packet in prop::collection::vec(any::<u8>(), 0..2_000),
            roc: Option<u32>,
        ) {
            let theirs = hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
            let behind = roc.map_or_else(Vec::new, |roc| roc.to_be_bytes().to_vec());
            let expected = hmac::sign(&theirs, &[&packet[..], &behind].concat());
            prop_assert_eq!(Authenticator::new(&key).tag(&packet, roc), expected.as_ref());
        }
    }
}
