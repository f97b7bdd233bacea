//! Randomness that can be replayed: keyed hashes of counters, never a generator drawn from the system.
//!
//! The 128-bit key comes from the driver (from the kernel in production, from the seed in the
//! simulator). SipHash-2-4 under a secret key is unguessable from its outputs.

use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// A keyed hash and a source of numbers derived from it.
#[derive(Clone, Debug)]
pub struct Random {
    key: (u64, u64),
    stream: u64,
    counter: u64,
}

impl Random {
    /// A source keyed by `key`; equal keys give equal numbers.
    pub fn new(key: (u64, u64)) -> Self {
        Random::streamed(key, 0)
    }

    /// The same hashes as every source of this key, but numbers of its own for each `stream`: for a
    /// successor that takes over its predecessor's secret.
    pub fn streamed(key: (u64, u64), stream: u64) -> Self {
        Random { key, stream, counter: 0 }
    }

    /// Keyed hash of some bytes: table keys, homes.
    pub fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        for part in parts {
            hasher.write(part);
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// The next number of this source.
    #[expect(clippy::should_implement_trait, reason = "a source without end is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        let mut hasher = SipHasher24::new_with_keys(self.key.0 ^ 0x7461_6e64_656d, self.key.1);
        hasher.write_u64(self.stream);
        hasher.write_u64(self.counter);
        hasher.finish()
    }

    /// A number below `bound`, or 0 when `bound` is 0; the bias is below 2⁻³².
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }
}

/// Hasher for maps whose keys are keyed hashes already: passes the 64 bits through.
#[derive(Default, Clone, Copy)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(b);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A map keyed by keyed hashes.
pub type HashedMap<V> = std::collections::HashMap<u64, V, core::hash::BuildHasherDefault<Identity>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_key_same_numbers_and_parts_do_not_run_together() {
        let (mut a, mut b) = (Random::new((1, 2)), Random::new((1, 2)));
        assert_eq!([a.next(), a.next()], [b.next(), b.next()]);
        assert_ne!(a.next(), Random::new((1, 3)).next());
        assert_ne!(a.hash(&[b"ab", b"c"]), a.hash(&[b"a", b"bc"]));
        let (mut first, mut next) = (Random::streamed((1, 2), 7), Random::streamed((1, 2), 8));
        assert_eq!(first.hash(&[b"a"]), next.hash(&[b"a"]));
        assert_ne!(first.next(), next.next());
        assert!((0..1000).all(|_| a.below(10) < 10));
    }
}
