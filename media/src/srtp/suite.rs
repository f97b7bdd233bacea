//! Crypto suites: their names, the lengths of their keys and tags.

/// A suite of algorithms for one direction.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// AES in counter mode, HMAC-SHA-1 cut to 80 bits (RFC 3711 §5, RFC 4568 §6.2.1).
    AesCm128HmacSha1_80,
    /// The same with an RTP tag of 32 bits; that of RTCP keeps 80 (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    /// With keys of 256 bits (RFC 6188).
    AesCm256HmacSha1_80,
    /// With keys of 256 bits and an RTP tag of 32 bits (RFC 6188).
    AesCm256HmacSha1_32,
    /// AES-GCM with keys of 128 bits (RFC 7714).
    AeadAes128Gcm,
    /// AES-GCM with keys of 256 bits (RFC 7714).
    AeadAes256Gcm,
}
base::plain!(
    enum Suite {
        AesCm128HmacSha1_80 = 0,
        AesCm128HmacSha1_32 = 1,
        AesCm256HmacSha1_80 = 2,
        AesCm256HmacSha1_32 = 3,
        AeadAes128Gcm = 4,
        AeadAes256Gcm = 5,
    }
);

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 6] = [
        Suite::AesCm128HmacSha1_80,
        Suite::AesCm128HmacSha1_32,
        Suite::AesCm256HmacSha1_80,
        Suite::AesCm256HmacSha1_32,
        Suite::AeadAes128Gcm,
        Suite::AeadAes256Gcm,
    ];

    /// Its name in `a=crypto` and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Suite::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of a name; case does not matter (RFC 4568 §9.2 leaves it open).
    pub fn named(name: &[u8]) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Bytes of its master key.
    pub const fn key_len(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 | Suite::AeadAes128Gcm => 16,
            Suite::AesCm256HmacSha1_80 | Suite::AesCm256HmacSha1_32 | Suite::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of its master salt.
    pub const fn salt_len(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    pub(super) const fn is_aead(self) -> bool {
        matches!(self, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)
    }

    /// Bytes of the tag behind an RTP packet.
    pub(super) const fn rtp_tag_len(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm256HmacSha1_80 => 10,
            Suite::AesCm128HmacSha1_32 | Suite::AesCm256HmacSha1_32 => 4,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 16,
        }
    }
}
