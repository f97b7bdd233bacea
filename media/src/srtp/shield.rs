//! A protected leg: what it sends is opened, what is sent to it is sealed.

use super::MAX_GROWTH;
use super::cipher::Cipher;
use super::ingress::{Head, Heard, Ingress, MAX_STREAMS};
use super::key::Keys;
use crate::list::List;
use crate::rtp;
use crate::verdict::Discard;
use base::{Bytes, Instant, Pool};
use core::time::Duration;

/// How long packets under the keys before are still taken: those that were on their way.
const GRACE: Duration = Duration::from_secs(5);
/// SRTCP indices are below this (RFC 3711 §3.4).
const RTCP_INDICES: u32 = 1 << 31;
/// Far more RTCP than was sent since a record was written.
const RTCP_STRIDE: u32 = 1 << 24;

/// The keys of a leg at work.
pub(crate) struct Shield {
    keys: Keys,
    ingress: Ingress,
    /// What the leg used before, and until when it may.
    retired: Option<(Ingress, Instant)>,
    egress: Cipher,
    /// The next SRTCP index; one for all sources.
    rtcp_next: u32,
}

/// What a record keeps of a shield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShieldRecord {
    keys: Keys,
    heard: List<Heard, MAX_STREAMS>,
    rtcp_next: u32,
}
base::plain!(struct ShieldRecord { keys, heard, rtcp_next });

impl Shield {
    /// A shield of these keys; `None` when they are not of their suite.
    pub(crate) fn new(keys: Keys) -> Option<Shield> {
        let ingress = Ingress::new(keys.suite, &keys.ingress, keys.mki_len)?;
        let egress = Cipher::new(keys.suite, &keys.egress)?;
        Some(Shield { keys, ingress, retired: None, egress, rtcp_next: 0 })
    }

    /// Takes new keys into force. What arrives under those before is taken for a while; true when ours
    /// are others than before, so that indices begin anew.
    pub(crate) fn rekey(&mut self, keys: Keys, now: Instant) -> Option<bool> {
        if keys == self.keys {
            return Some(false);
        }
        let old = core::mem::replace(self, Shield::new(keys)?);
        let heard = |keys: &Keys| (keys.suite, keys.mki_len, keys.ingress.clone());
        let sent = old.keys.suite == self.keys.suite && old.keys.egress == self.keys.egress;
        if heard(&old.keys) == heard(&self.keys) {
            (self.ingress, self.retired) = (old.ingress, old.retired);
        } else {
            self.retired = Some((old.ingress, now + GRACE));
        }
        if sent {
            self.rtcp_next = old.rtcp_next;
        }
        Some(!sent)
    }

    /// Opens an SRTP packet; the length it has then.
    pub(crate) fn open_rtp(&mut self, packet: &mut [u8], now: Instant) -> Result<usize, Discard> {
        let fixed = packet.first_chunk::<{ rtp::FIXED }>().ok_or(Discard::Short)?;
        let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
        let sequence = u16::from_be_bytes([fixed[2], fixed[3]]);
        let head = Head { len: rtp::header_len(packet)?, ssrc, sequence };
        self.twice(packet, now, |ingress, packet| ingress.open_rtp(packet, head, now))
    }

    /// Opens an SRTCP packet; the length it has then.
    pub(crate) fn open_rtcp(&mut self, packet: &mut [u8], now: Instant) -> Result<usize, Discard> {
        self.twice(packet, now, |ingress, packet| ingress.open_rtcp(packet, now))
    }

    /// Opens a packet under the keys in force, or under those before while they may still be used.
    fn twice(
        &mut self,
        packet: &mut [u8],
        now: Instant,
        mut open: impl FnMut(&mut Ingress, &mut [u8]) -> Result<usize, Discard>,
    ) -> Result<usize, Discard> {
        let Some((retired, _)) = self.retired.as_mut().filter(|(_, until)| now < *until) else {
            return open(&mut self.ingress, packet);
        };
        let mut copy = [0; 2048];
        let copy = copy.get_mut(..packet.len()).ok_or(Discard::Unauthentic)?;
        copy.copy_from_slice(packet);
        open(&mut self.ingress, packet).or_else(|_| {
            packet.copy_from_slice(copy);
            open(retired, packet)
        })
    }

    /// Protects an RTP packet of ours; the range it takes then.
    pub(crate) fn seal_rtp(
        &self,
        pool: &mut Pool,
        bytes: Bytes,
        id: (u32, u64),
    ) -> Result<Bytes, Discard> {
        let header = rtp::header_len(pool.get(bytes))?;
        grow(pool, bytes, |room, len| self.egress.seal_rtp(room, len, header, id))
    }

    /// Protects an RTCP packet; the range it takes then.
    pub(crate) fn seal_rtcp(&mut self, pool: &mut Pool, bytes: Bytes) -> Result<Bytes, Discard> {
        let index = self.rtcp_next;
        if index >= RTCP_INDICES {
            return Err(Discard::KeySpent);
        }
        self.rtcp_next += 1;
        grow(pool, bytes, |room, len| self.egress.seal_rtcp(room, len, index))
    }

    /// Protects an RTP packet of ours at the end of a text that begins at `at`.
    pub(crate) fn seal_text(&self, text: &mut Vec<u8>, at: usize, id: (u32, u64)) {
        let len = text.len() - at;
        text.resize(text.len() + MAX_GROWTH, 0);
        let room = text.get_mut(at..).unwrap_or_default();
        let sealed = self.egress.seal_rtp(room, len, rtp::FIXED, id).unwrap_or(0);
        text.truncate(at + sealed);
    }

    /// Protects an RTCP packet of ours at the end of a text that begins at `at`; nothing is left of it when
    /// the key is spent.
    pub(crate) fn seal_rtcp_text(&mut self, text: &mut Vec<u8>, at: usize) {
        let (index, len) = (self.rtcp_next, text.len() - at);
        if index >= RTCP_INDICES {
            return text.truncate(at);
        }
        self.rtcp_next += 1;
        text.resize(text.len() + MAX_GROWTH, 0);
        let room = text.get_mut(at..).unwrap_or_default();
        let sealed = self.egress.seal_rtcp(room, len, index).unwrap_or(0);
        text.truncate(at + sealed);
    }

    pub(crate) fn freeze(&self) -> ShieldRecord {
        let Shield { keys, ingress, rtcp_next, .. } = self;
        ShieldRecord { keys: keys.clone(), heard: ingress.freeze(), rtcp_next: *rtcp_next }
    }

    /// A shield that goes on where its record may be behind: what was used since is not used again.
    pub(crate) fn thaw(record: ShieldRecord) -> Option<Shield> {
        let mut shield = Shield::new(record.keys)?;
        shield.ingress.thaw(&record.heard);
        shield.rtcp_next = record.rtcp_next.saturating_add(RTCP_STRIDE);
        Some(shield)
    }
}

#[cfg(test)]
impl ShieldRecord {
    /// The longest there is.
    pub(crate) fn fullest() -> ShieldRecord {
        let heard = List::from_slice(&[Heard::fullest(); MAX_STREAMS]).expect("as many as fit");
        ShieldRecord { keys: Keys::longest(), heard, rtcp_next: 0 }
    }
}

/// Lets a packet grow into the room behind it.
fn grow(
    pool: &mut Pool,
    bytes: Bytes,
    seal: impl FnOnce(&mut [u8], usize) -> Option<usize>,
) -> Result<Bytes, Discard> {
    let room = pool.get_mut(Bytes { len: bytes.len + MAX_GROWTH as u32, ..bytes });
    let len = seal(room, bytes.len as usize).ok_or(Discard::TooLong)?;
    Ok(Bytes { len: len as u32, ..bytes })
}
