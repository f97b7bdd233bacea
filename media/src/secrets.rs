//! Randomness for identities and keys, without a system call.
//!
//! The driver seeds it from the kernel once per process. Each draw replaces the state by a one-way step
//! (HMAC-SHA-512), so what was drawn before cannot be had from the memory of the process.

use aws_lc_rs::hmac::{HMAC_SHA512, Key, sign};

/// The most bytes of one draw.
const MOST: usize = 64;

/// A source of secrets that never repeats.
pub(crate) struct Secrets {
    state: Key,
}

impl Secrets {
    pub(crate) fn new(seed: &[u8; 32]) -> Secrets {
        Secrets { state: Key::new(HMAC_SHA512, seed) }
    }

    /// The next `N` bytes, at most 64.
    pub(crate) fn draw<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= MOST) };
        let drawn = sign(&self.state, b"draw");
        self.state = Key::new(HMAC_SHA512, sign(&self.state, b"next").as_ref());
        core::array::from_fn(|i| drawn.as_ref()[i])
    }

    /// The next 32 bits.
    pub(crate) fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_from_the_seed_and_do_not_repeat() {
        let (mut a, mut b) = (Secrets::new(&[1; 32]), Secrets::new(&[1; 32]));
        let drawn: [[u8; 32]; 3] = core::array::from_fn(|_| a.draw());
        assert_eq!(drawn, core::array::from_fn(|_| b.draw()));
        assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2] && drawn[0] != drawn[2]);
        assert_ne!(Secrets::new(&[2; 32]).draw::<32>(), drawn[0]);
    }
}
