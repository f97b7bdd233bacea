//! Sealing and opening one packet under session keys: AES-CM with HMAC-SHA-1 (RFC 3711 §4.1.1, §4.2.1)
//! or AES-GCM (RFC 7714).
//!
//! A packet keeps its place: only its tail grows or shrinks. That an index is used once is for others to
//! see to.

use super::authenticator::Authenticator;
use super::key::{Label, MasterKey, block_cipher, derive};
use super::suite::Suite;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

/// Bytes of an RTCP packet that are never encrypted: its first header and source (RFC 3711 §3.4).
const RTCP_CLEAR: usize = 8;
/// Bytes of an SRTCP index with its encryption flag.
const RTCP_INDEX: usize = 4;
/// The flag: the packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;
/// Bytes of the tag of SRTCP in the counter mode suites, and what HMAC-SHA-1 is keyed with.
const RTCP_TAG: usize = 10;
const AUTH_KEY: usize = 20;
const GCM_TAG: usize = 16;

/// The packet is none that the key's owner made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Unauthentic;

/// Session keys of one direction.
pub(super) struct Cipher {
    rtp: Half,
    rtcp: Half,
}

/// Session keys for RTP or for RTCP.
enum Half {
    Counter { key: Box<EncryptingKey>, auth: Authenticator, salt: [u8; 14], tag: usize },
    Gcm { key: LessSafeKey, salt: [u8; 12] },
}

impl Cipher {
    /// The session keys that follow from a master key; `None` when it is not of this suite.
    pub(super) fn new(suite: Suite, master: &MasterKey) -> Option<Cipher> {
        Some(Cipher {
            rtp: Half::new(suite, master, 0, suite.rtp_tag_len())?,
            rtcp: Half::new(suite, master, 3, RTCP_TAG)?,
        })
    }

    /// Protects the RTP packet in the first `len` bytes of `room`, whose header takes `header`; the length
    /// it has then, or `None` without room for the tag.
    pub(super) fn seal_rtp(
        &self,
        room: &mut [u8],
        len: usize,
        header: usize,
        (ssrc, index): (u32, u64),
    ) -> Option<usize> {
        let grown = len + self.rtp.tag_len();
        let (packet, tag) = room.get_mut(..grown)?.split_at_mut_checked(len)?;
        match &self.rtp {
            Half::Counter { key, auth, salt, .. } => {
                let (_, payload) = packet.split_at_mut_checked(header)?;
                apply(key, salt, ssrc, index, payload)?;
                let made = auth.tag(packet, Some((index >> 16) as u32));
                tag.copy_from_slice(made.get(..tag.len())?);
            }
            Half::Gcm { key, salt } => {
                let (clear, payload) = packet.split_at_mut_checked(header)?;
                let nonce = rtp_nonce(salt, ssrc, index);
                let made =
                    key.seal_in_place_separate_tag(nonce, Aad::from(&*clear), payload).ok()?;
                tag.copy_from_slice(made.as_ref());
            }
        }
        Some(grown)
    }

    /// Opens an SRTP packet; the length it has then.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header: usize,
        (ssrc, index): (u32, u64),
        mki_len: usize,
    ) -> Result<usize, Unauthentic> {
        let tag = self.rtp.tag_len();
        let len = packet.len().checked_sub(tag + mki_len).ok_or(Unauthentic)?;
        match &self.rtp {
            Half::Counter { key, auth, salt, .. } => {
                let (body, tail) = packet.split_at_mut_checked(len).ok_or(Unauthentic)?;
                let sent = tail.get(mki_len..).ok_or(Unauthentic)?;
                verify(auth.tag(body, Some((index >> 16) as u32)), sent)?;
                let (_, payload) = body.split_at_mut_checked(header).ok_or(Unauthentic)?;
                apply(key, salt, ssrc, index, payload).ok_or(Unauthentic)?;
            }
            Half::Gcm { key, salt } => {
                let sealed = packet.get_mut(..len + tag).ok_or(Unauthentic)?;
                let (clear, sealed) = sealed.split_at_mut_checked(header).ok_or(Unauthentic)?;
                let nonce = rtp_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(&*clear), sealed).map_err(|_| Unauthentic)?;
            }
        }
        Ok(len)
    }

    /// Protects the RTCP packet in the first `len` bytes of `room` under an index below 2³¹.
    pub(super) fn seal_rtcp(&self, room: &mut [u8], len: usize, index: u32) -> Option<usize> {
        let ssrc = rtcp_source(room.get(..len)?)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Half::Counter { key, auth, salt, .. } => {
                let grown = len + RTCP_INDEX + RTCP_TAG;
                let (packet, tag) =
                    room.get_mut(..grown)?.split_at_mut_checked(len + RTCP_INDEX)?;
                let (body, at) = packet.split_at_mut_checked(len)?;
                at.copy_from_slice(&word);
                apply(key, salt, ssrc, u64::from(index), body.get_mut(RTCP_CLEAR..)?)?;
                tag.copy_from_slice(auth.tag(packet, None).get(..RTCP_TAG)?);
                Some(grown)
            }
            Half::Gcm { key, salt } => {
                let grown = len + GCM_TAG + RTCP_INDEX;
                let (body, tail) = room.get_mut(..grown)?.split_at_mut_checked(len)?;
                let (clear, rest) = body.split_at_mut_checked(RTCP_CLEAR)?;
                let aad = rtcp_aad(clear, word)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                let made = key.seal_in_place_separate_tag(nonce, Aad::from(&aad), rest).ok()?;
                let (tag, at) = tail.split_at_mut_checked(GCM_TAG)?;
                tag.copy_from_slice(made.as_ref());
                at.copy_from_slice(&word);
                Some(grown)
            }
        }
    }

    /// The index of an SRTCP packet that says it is encrypted, and its source.
    pub(super) fn rtcp_index(&self, packet: &[u8], mki_len: usize) -> Option<(u32, u32)> {
        let behind = mki_len
            + match &self.rtcp {
                Half::Counter { .. } => RTCP_TAG,
                Half::Gcm { .. } => 0,
            };
        let at = packet.len().checked_sub(behind + RTCP_INDEX)?;
        let word = u32::from_be_bytes(*packet.get(at..)?.first_chunk()?);
        (word & ENCRYPTED != 0).then_some((rtcp_source(packet)?, word & !ENCRYPTED))
    }

    /// Opens an SRTCP packet of that source and index; the length it has then.
    pub(super) fn open_rtcp(
        &self,
        packet: &mut [u8],
        (ssrc, index): (u32, u32),
        mki_len: usize,
    ) -> Result<usize, Unauthentic> {
        let word = (index | ENCRYPTED).to_be_bytes();
        let tail = RTCP_INDEX + mki_len + self.rtcp.tag_len();
        let len = packet.len().checked_sub(tail).ok_or(Unauthentic)?;
        match &self.rtcp {
            Half::Counter { key, auth, salt, .. } => {
                let (body, tail) =
                    packet.split_at_mut_checked(len + RTCP_INDEX).ok_or(Unauthentic)?;
                verify(auth.tag(body, None), tail.get(mki_len..).ok_or(Unauthentic)?)?;
                let payload = body.get_mut(RTCP_CLEAR..len).ok_or(Unauthentic)?;
                apply(key, salt, ssrc, u64::from(index), payload).ok_or(Unauthentic)?;
            }
            Half::Gcm { key, salt } => {
                let sealed = packet.get_mut(..len + GCM_TAG).ok_or(Unauthentic)?;
                let (clear, sealed) = sealed.split_at_mut_checked(RTCP_CLEAR).ok_or(Unauthentic)?;
                let aad = rtcp_aad(clear, word).ok_or(Unauthentic)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                key.open_in_place(nonce, Aad::from(&aad), sealed).map_err(|_| Unauthentic)?;
            }
        }
        Ok(len)
    }
}

impl Half {
    fn new(suite: Suite, master: &MasterKey, first: u8, tag: usize) -> Option<Half> {
        let mut key = Zeroizing::new([0; 32]);
        let key = key.get_mut(..suite.key_len())?;
        derive(suite, master, first + Label::Cipher as u8, key)?;
        if suite.is_aead() {
            let mut salt = [0; 12];
            derive(suite, master, first + Label::Salt as u8, &mut salt)?;
            let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
            return Some(Half::Gcm { key, salt });
        }
        let (mut auth, mut salt) = (Zeroizing::new([0; AUTH_KEY]), [0; 14]);
        derive(suite, master, first + Label::Auth as u8, &mut *auth)?;
        derive(suite, master, first + Label::Salt as u8, &mut salt)?;
        let auth = Authenticator::new(&auth);
        Some(Half::Counter { key: Box::new(block_cipher(key)?), auth, salt, tag })
    }

    fn tag_len(&self) -> usize {
        match self {
            Half::Counter { tag, .. } => *tag,
            Half::Gcm { .. } => GCM_TAG,
        }
    }
}

/// Exclusive-ors a payload with the key stream of its index (RFC 3711 §4.1.1); undone by itself.
fn apply(
    key: &EncryptingKey,
    salt: &[u8; 14],
    ssrc: u32,
    index: u64,
    payload: &mut [u8],
) -> Option<()> {
    let mut counter = [0; 16];
    counter[..14].copy_from_slice(salt);
    let place = u128::from(ssrc) << 64 | u128::from(index) << 16;
    let counter = (u128::from_be_bytes(counter) ^ place).to_be_bytes();
    key.less_safe_encrypt(payload, EncryptionContext::Iv128(FixedLength::from(counter))).ok()?;
    Some(())
}

/// Compares a tag with the one that was sent, which may be shorter, and how far in no time that tells.
fn verify(made: [u8; AUTH_KEY], sent: &[u8]) -> Result<(), Unauthentic> {
    let made = made.get(..sent.len()).ok_or(Unauthentic)?;
    verify_slices_are_equal(made, sent).map_err(|_| Unauthentic)
}

/// RFC 7714 §8.1.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

/// RFC 7714 §9.1.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

fn nonce(salt: &[u8; 12], place: u128) -> Nonce {
    let place = place.to_be_bytes();
    Nonce::assume_unique_for_key(core::array::from_fn(|i| salt[i] ^ place[i + 4]))
}

/// What is authenticated of an RTCP packet beside what is encrypted (RFC 7714 §9.2).
fn rtcp_aad(clear: &[u8], word: [u8; RTCP_INDEX]) -> Option<[u8; RTCP_CLEAR + RTCP_INDEX]> {
    let mut aad = [0; RTCP_CLEAR + RTCP_INDEX];
    aad.get_mut(..RTCP_CLEAR)?.copy_from_slice(clear);
    aad.get_mut(RTCP_CLEAR..)?.copy_from_slice(&word);
    Some(aad)
}

/// The source that an RTCP packet begins with.
fn rtcp_source(packet: &[u8]) -> Option<u32> {
    packet.get(4..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}
