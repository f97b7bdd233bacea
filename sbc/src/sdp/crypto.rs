//! `a=crypto`: SRTP keys in a session description (RFC 4568 §9.1).
//!
//! `crypto:<tag> <suite> inline:<key and salt>[|lifetime][|MKI:length] [session parameters]`. A line that
//! asks for what we do not do is not for us: unknown suites, several keys, session parameters that change
//! what packets look like.

use media::srtp::{MasterKey, Suite};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The most bytes of an identifier of a key (RFC 4568 §6.1).
const MAX_MKI: u64 = 128;

/// One line's offer of keys, or its choice among those that were offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    /// What an answer names it by.
    pub tag: u32,
    /// The algorithms.
    pub suite: Suite,
    /// What its writer protects packets with.
    pub key: MasterKey,
    /// Bytes of the key's identifier in those packets; 0 without.
    pub mki_len: u8,
}

impl Crypto {
    /// Reads the value of the attribute; `None` when it is malformed or not for us.
    pub fn read(value: &[u8]) -> Option<Crypto> {
        let mut words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (tag, suite, key) = (words.next()?, words.next()?, words.next()?);
        let tag = str::from_utf8(tag).ok().filter(|tag| tag.len() <= 9)?.parse().ok()?;
        let suite = Suite::named(suite)?;
        if !words.all(is_harmless) {
            return None;
        }
        let (method, inline) = key.split_at_checked(7)?;
        if !method.eq_ignore_ascii_case(b"inline:") || inline.contains(&b';') {
            return None;
        }
        let mut parts = inline.split(|byte| *byte == b'|');
        let key = MasterKey::new(suite, &decoded(parts.next()?)?)?;
        let mut mki_len = 0;
        for part in parts {
            // The other thing there may be is a lifetime: the writer minds its own.
            if let Some(at) = part.iter().position(|byte| *byte == b':') {
                let digits = str::from_utf8(part.get(at + 1..)?).ok()?;
                let len = digits.parse().ok().filter(|len| (1..=MAX_MKI).contains(len))?;
                mki_len = u8::try_from(len).ok()?;
            }
        }
        Some(Crypto { tag, suite, key, mki_len })
    }

    /// The whole line, without its end.
    pub fn line(tag: usize, suite: Suite, key: &MasterKey) -> Vec<u8> {
        let mut line = format!("a=crypto:{tag} {} inline:", suite.name()).into_bytes();
        encode(key.expose(), &mut line);
        line
    }
}

/// Session parameters that change nothing for us: a hint at the size of the replay window (§6.3.7).
fn is_harmless(word: &[u8]) -> bool {
    word.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"WSH="))
}

fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sextet = word >> (18 - 6 * place) & 63;
            let letter = ALPHABET.get(sextet as usize).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { letter } else { b'=' });
        }
    }
}

/// Base 64 with or without its padding, which some leave out.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let letters = text.iter().rposition(|byte| *byte != b'=')? + 1;
    if letters > 64 || text.len() - letters > 2 || letters % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(48);
    for chunk in text.get(..letters)?.chunks(4) {
        let mut word = 0;
        for byte in chunk {
            word = word << 6 | ALPHABET.iter().position(|letter| letter == byte)? as u32;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend(word.to_be_bytes().iter().skip(1).take(chunk.len() - 1));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4568 §5.1 and §9.
    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn read(text: &str) -> Option<Crypto> {
        Crypto::read(text.as_bytes())
    }

    #[test]
    fn a_line_is_read_and_written() {
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4");
        let crypto = read(&line).unwrap();
        assert_eq!((crypto.tag, crypto.mki_len), (1, 4));
        assert_eq!(crypto.suite, Suite::AesCm128HmacSha1_80);
        assert_eq!(crypto.key.expose(), b"YS___semctl () {\t220;}\n}\nunles");
        let written = Crypto::line(1, crypto.suite, &crypto.key);
        let expected = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }

    #[test]
    fn every_suite_reads_back() {
        for (tag, suite) in Suite::ALL.into_iter().enumerate() {
            let bytes: Vec<u8> = (0..46u8).map(|i| i.wrapping_mul(37)).collect();
            let key = MasterKey::new(suite, &bytes[..suite.key_len() + suite.salt_len()]).unwrap();
            let line = Crypto::line(tag, suite, &key);
            let crypto = Crypto::read(&line[b"a=crypto:".len()..]).unwrap();
            assert_eq!(crypto, Crypto { tag: tag as u32, suite, key, mki_len: 0 });
        }
    }

    #[test]
    fn what_is_not_for_us_is_passed_over() {
        let suite = "AES_CM_128_HMAC_SHA1_80";
        for good in [
            format!("9 {suite} inline:{KEY}"),
            format!("9 {suite} inline:{KEY} WSH=128"),
            format!("9 {suite}  inline:{KEY}|2^31"),
            format!("9 aes_cm_128_hmac_sha1_80 INLINE:{KEY}|1:1"),
        ] {
            assert!(read(&good).is_some(), "{good}");
        }
        for bad in [
            String::new(),
            "1".to_owned(),
            format!("x {suite} inline:{KEY}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("1 AEAD_AES_128_GCM inline:{KEY}"),
            format!("1 {suite} outline:{KEY}"),
            format!("1 {suite} inline:{KEY};inline:{KEY}"),
            format!("1 {suite} inline:{KEY} UNENCRYPTED_SRTCP"),
            format!("1 {suite} inline:{KEY} KDR=1"),
            format!("1 {suite} inline:{}", &KEY[1..]),
            format!("1 {suite} inline:{}*", &KEY[1..]),
            format!("1 {suite} inline:"),
            format!("1 {suite} inline:{KEY}|1:129"),
            format!("1 {suite} inline:{KEY}|1:0"),
            format!("99999999999 {suite} inline:{KEY}"),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
