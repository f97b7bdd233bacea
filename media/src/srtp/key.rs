//! Master keys, and the session keys that follow from them (RFC 3711 §4.3, RFC 7714 §11).

use super::suite::Suite;
use crate::secrets::Secrets;
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base::record::{Plain, Unreadable};
use std::fmt;
use zeroize::Zeroize;

/// The most bytes of a master key with its salt.
const MOST: usize = 32 + 14;

/// A master key followed by its master salt. Overwritten when it goes; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    bytes: [u8; MOST],
    len: u8,
}

impl MasterKey {
    /// The key of a suite, if `bytes` has the length of its key and salt.
    pub fn new(suite: Suite, bytes: &[u8]) -> Option<MasterKey> {
        if bytes.len() != suite.key_len() + suite.salt_len() {
            return None;
        }
        let mut key = MasterKey { bytes: [0; MOST], len: bytes.len() as u8 };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    /// A new key of a suite.
    pub(crate) fn drawn(suite: Suite, secrets: &mut Secrets) -> MasterKey {
        let mut bytes: [u8; MOST] = secrets.draw();
        let len = suite.key_len() + suite.salt_len();
        bytes[len..].zeroize();
        MasterKey { bytes, len: len as u8 }
    }

    /// Key and salt, as `inline:` has them in base 64 (RFC 4568 §6.1).
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl Plain for MasterKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.len.put(out);
        out.extend_from_slice(self.expose());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let len = u8::take(from)?;
        let (head, rest) = from.split_at_checked(usize::from(len)).ok_or(Unreadable::Short)?;
        let mut key = MasterKey { bytes: [0; MOST], len };
        key.bytes.get_mut(..head.len()).ok_or(Unreadable::Value)?.copy_from_slice(head);
        *from = rest;
        Ok(key)
    }
}

/// What protects a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The algorithms, the same both ways.
    pub suite: Suite,
    /// What the leg protects its packets with.
    pub ingress: MasterKey,
    /// What we protect ours with.
    pub egress: MasterKey,
    /// Bytes of the key identifier in the leg's packets (RFC 3711 §3.1); ours have none.
    pub mki_len: u8,
}
base::plain!(struct Keys { suite, ingress, egress, mki_len });

#[cfg(test)]
impl Keys {
    /// The longest there are.
    pub(crate) fn longest() -> Keys {
        let key = || MasterKey { bytes: [7; MOST], len: MOST as u8 };
        let suite = Suite::AesCm256HmacSha1_80;
        Keys { suite, ingress: key(), egress: key(), mki_len: 0 }
    }
}

/// The purposes of session keys (RFC 3711 §4.3.2); those of RTCP are three further.
#[derive(Copy, Clone)]
pub(super) enum Label {
    Cipher = 0,
    Auth = 1,
    Salt = 2,
}

/// Fills `out` with the session key of a purpose: the key stream of AES in counter mode under the
/// master key, from a counter made of salt and label (§4.3.3).
pub(super) fn derive(suite: Suite, key: &MasterKey, label: u8, out: &mut [u8]) -> Option<()> {
    let (key, salt) = key.expose().split_at_checked(suite.key_len())?;
    let mut counter = [0; 16];
    counter.get_mut(..salt.len())?.copy_from_slice(salt);
    counter[7] ^= label;
    out.fill(0);
    let key = block_cipher(key)?;
    key.less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(counter))).ok()?;
    Some(())
}

/// AES in counter mode under a key of 16 or 32 bytes.
pub(super) fn block_cipher(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_b3() {
        let suite = Suite::AesCm128HmacSha1_80;
        let master = hex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
        let key = MasterKey::new(suite, &master).unwrap();
        let (mut cipher, mut salt, mut auth) = ([0; 16], [0; 14], [0; 16]);
        derive(suite, &key, Label::Cipher as u8, &mut cipher).unwrap();
        derive(suite, &key, Label::Salt as u8, &mut salt).unwrap();
        derive(suite, &key, Label::Auth as u8, &mut auth).unwrap();
        assert_eq!(cipher[..], hex("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(salt[..], hex("30cbbc08863d8c85d49db34a9ae1"));
        assert_eq!(auth[..], hex("cebe321f6ff7716b6fd4ab49af256a15"));
    }

    #[test]
    fn session_keys_of_256_bits_are_those_of_rfc_6188_7_2() {
        let suite = Suite::AesCm256HmacSha1_80;
        let master = hex(concat!(
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
            "3b04803de51ee7c96423ab5b78d2"
        ));
        let key = MasterKey::new(suite, &master).unwrap();
        let (mut cipher, mut salt) = ([0; 32], [0; 14]);
        derive(suite, &key, Label::Cipher as u8, &mut cipher).unwrap();
        derive(suite, &key, Label::Salt as u8, &mut salt).unwrap();
        let expected = "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4";
        assert_eq!(cipher[..], hex(expected));
        assert_eq!(salt[..], hex("fa31791685ca444a9e07c6c64e93"));
    }

    #[test]
    fn a_key_has_the_length_of_its_suite_and_is_not_shown() {
        for suite in Suite::ALL {
            let len = suite.key_len() + suite.salt_len();
            let key = MasterKey::new(suite, &[7; 46][..len]).unwrap();
            assert_eq!(key.expose(), [7; 46][..len].to_vec());
            assert_eq!(format!("{key:?}"), "MasterKey(..)");
            for wrong in [len - 1, len + 1] {
                assert_eq!(MasterKey::new(suite, &[7; 47][..wrong]), None);
            }
            let mut bytes = Vec::new();
            key.put(&mut bytes);
            assert_eq!(MasterKey::take(&mut &bytes[..]), Ok(key));
            assert_eq!(Suite::named(suite.name().as_bytes()), Some(suite));
        }
        assert!(MasterKey::take(&mut &[47; 60][..]).is_err());
    }
}
