//! What a certificate hashes to (RFC 8122 §5).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base::record::{Plain, Unreadable};

/// The most bytes of a digest.
const MOST: usize = 64;

/// A hash function that may vouch for a certificate. SHA-1 and MD5 may not any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// `sha-256`, which everybody has.
    Sha256,
    /// `sha-384`.
    Sha384,
    /// `sha-512`.
    Sha512,
}
base::plain!(
    enum Hash {
        Sha256 = 0,
        Sha384 = 1,
        Sha512 = 2,
    }
);

impl Hash {
    /// Every one.
    pub const ALL: [Hash; 3] = [Hash::Sha256, Hash::Sha384, Hash::Sha512];

    /// Its name in `a=fingerprint`.
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha-256",
            Hash::Sha384 => "sha-384",
            Hash::Sha512 => "sha-512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }
}

/// The digest of a certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: [u8; MOST],
}

impl Fingerprint {
    /// Of this hash, if the digest has its length.
    pub fn new(hash: Hash, digest: &[u8]) -> Option<Fingerprint> {
        let mut padded = [0; MOST];
        padded
            .get_mut(..hash.len())
            .filter(|room| room.len() == digest.len())?
            .copy_from_slice(digest);
        Some(Fingerprint { hash, digest: padded })
    }

    /// The SHA-256 of a certificate (DER).
    pub fn of(certificate: &[u8]) -> [u8; 32] {
        let made = digest(&SHA256, certificate);
        core::array::from_fn(|i| made.as_ref().get(i).copied().unwrap_or_default())
    }

    /// The hash function.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its value.
    pub fn digest(&self) -> &[u8] {
        self.digest.get(..self.hash.len()).unwrap_or_default()
    }

    /// Whether a certificate (DER) is the one.
    pub(crate) fn is_of(&self, certificate: &[u8]) -> bool {
        let algorithm = match self.hash {
            Hash::Sha256 => &SHA256,
            Hash::Sha384 => &SHA384,
            Hash::Sha512 => &SHA512,
        };
        let made = digest(algorithm, certificate);
        verify_slices_are_equal(made.as_ref(), self.digest()).is_ok()
    }
}

impl Plain for Fingerprint {
    fn put(&self, out: &mut Vec<u8>) {
        self.hash.put(out);
        out.extend_from_slice(self.digest());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let hash = Hash::take(from)?;
        let (digest, rest) = from.split_at_checked(hash.len()).ok_or(Unreadable::Short)?;
        *from = rest;
        Fingerprint::new(hash, digest).ok_or(Unreadable::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_that_of_one_certificate() {
        let of_abc: [u8; 32] = core::array::from_fn(|i| digest(&SHA256, b"abc").as_ref()[i]);
        let fingerprint = Fingerprint::new(Hash::Sha256, &of_abc).unwrap();
        assert!(fingerprint.is_of(b"abc") && !fingerprint.is_of(b"abd"));
        let longer = Fingerprint::new(Hash::Sha512, digest(&SHA512, b"abc").as_ref()).unwrap();
        assert!(longer.is_of(b"abc") && !longer.is_of(b""));
        for hash in Hash::ALL {
            for wrong in [0, hash.len() - 1, hash.len() + 1] {
                assert_eq!(Fingerprint::new(hash, &[7; 65][..wrong]), None);
            }
            let (value, mut bytes) =
                (Fingerprint::new(hash, &[7; 65][..hash.len()]).unwrap(), Vec::new());
            value.put(&mut bytes);
            assert_eq!(Fingerprint::take(&mut &bytes[..]), Ok(value));
            assert!(Fingerprint::take(&mut &bytes[..bytes.len() - 1]).is_err());
        }
    }
}
