//! What a leg sends, opened: per source its rollover counter and what it has sent before (RFC 3711 §3.3).

use super::cipher::{Cipher, Unauthentic};
use super::key::MasterKey;
use super::suite::Suite;
use crate::list::List;
use crate::verdict::Discard;
use crate::window::Window;
use base::Instant;

/// The most sources of a leg that are remembered; of more the one unheard for longest is forgotten.
pub(crate) const MAX_STREAMS: usize = 8;
/// How many rollovers may have been missed while nobody was listening: six hours of audio.
const MAX_MISSED: u64 = 16;

/// One source of the leg.
#[derive(Copy, Clone)]
struct Stream {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
    heard: Instant,
    /// How far it is was written down some time ago: its rollover counter is to be found again.
    stale: bool,
}

/// What a record keeps of a source: its highest indices.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    ssrc: u32,
    rtp: Option<u64>,
    rtcp: Option<u32>,
}
base::plain!(struct Heard { ssrc, rtp, rtcp });

/// One direction's keys and the sources that use them.
pub(super) struct Ingress {
    cipher: Cipher,
    mki_len: usize,
    streams: List<Stream, MAX_STREAMS>,
}

/// Where an SRTP packet's parts are.
#[derive(Copy, Clone)]
pub(super) struct Head {
    /// Bytes before the payload.
    pub(super) len: usize,
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
}

#[cfg(test)]
impl Heard {
    /// The longest there is.
    pub(super) fn fullest() -> Heard {
        Heard { ssrc: 0, rtp: Some(0), rtcp: Some(0) }
    }
}

impl Ingress {
    pub(super) fn new(suite: Suite, key: &MasterKey, mki_len: u8) -> Option<Ingress> {
        let cipher = Cipher::new(suite, key)?;
        Some(Ingress { cipher, mki_len: usize::from(mki_len), streams: List::default() })
    }

    /// What a record is to keep of the sources.
    pub(super) fn freeze(&self) -> List<Heard, MAX_STREAMS> {
        let mut list = List::default();
        for stream in self.streams.iter() {
            let rtp = stream.rtp.last();
            let rtcp = stream.rtcp.last().map(|index| index as u32);
            list.push(Heard { ssrc: stream.ssrc, rtp, rtcp });
        }
        list
    }

    /// The sources of a record, which may have gone on since.
    pub(super) fn thaw(&mut self, heard: &List<Heard, MAX_STREAMS>) {
        let closed = |index: Option<u64>| index.map(Window::closed_at).unwrap_or_default();
        for Heard { ssrc, rtp, rtcp } in heard.iter() {
            let (rtp, rtcp) = (closed(rtp), closed(rtcp.map(u64::from)));
            self.streams.push(Stream { ssrc, rtp, rtcp, heard: Instant(0), stale: true });
        }
    }

    /// Opens an SRTP packet; the length it has then. A packet that fails may be destroyed.
    pub(super) fn open_rtp(
        &mut self,
        packet: &mut [u8],
        head: Head,
        now: Instant,
    ) -> Result<usize, Discard> {
        let mut stream = self.stream(head.ssrc);
        let index = stream.rtp.index_of(head.sequence);
        let (index, len) = if stream.stale {
            self.find(packet, head, &stream.rtp)?
        } else {
            stream.rtp.check(index).map_err(|_| Discard::Replayed)?;
            let len = self.cipher.open_rtp(packet, head.len, (head.ssrc, index), self.mki_len);
            (index, len.map_err(|Unauthentic| Discard::Unauthentic)?)
        };
        stream.rtp.mark(index);
        stream.stale = false;
        self.heard(Stream { heard: now, ..stream });
        Ok(len)
    }

    /// The rollover counter that a packet of a stale source authenticates with, the nearest first.
    fn find(&self, packet: &mut [u8], head: Head, used: &Window) -> Result<(u64, usize), Discard> {
        let nearest = used.index_of(head.sequence);
        let indices = (0..=MAX_MISSED).map(|missed| nearest + (missed << 16));
        let mut copy = [0; 2048];
        let copy = copy.get_mut(..packet.len()).ok_or(Discard::Unauthentic)?;
        for index in indices.filter(|index| used.check(*index).is_ok()) {
            copy.copy_from_slice(packet);
            let opened = self.cipher.open_rtp(copy, head.len, (head.ssrc, index), self.mki_len);
            if let Ok(len) = opened {
                packet.copy_from_slice(copy);
                return Ok((index, len));
            }
        }
        Err(Discard::Unauthentic)
    }

    /// Opens an SRTCP packet; the length it has then. A packet that fails may be destroyed.
    pub(super) fn open_rtcp(&mut self, packet: &mut [u8], now: Instant) -> Result<usize, Discard> {
        let (ssrc, index) =
            self.cipher.rtcp_index(packet, self.mki_len).ok_or(Discard::Unauthentic)?;
        let mut stream = self.stream(ssrc);
        stream.rtcp.check(u64::from(index)).map_err(|_| Discard::Replayed)?;
        let len = self.cipher.open_rtcp(packet, (ssrc, index), self.mki_len);
        let len = len.map_err(|Unauthentic| Discard::Unauthentic)?;
        stream.rtcp.mark(u64::from(index));
        self.heard(Stream { heard: now, ..stream });
        Ok(len)
    }

    fn stream(&self, ssrc: u32) -> Stream {
        let known = self.streams.iter().find(|stream| stream.ssrc == ssrc);
        let (window, heard) = (Window::default(), Instant(0));
        known.unwrap_or(Stream { ssrc, rtp: window, rtcp: window, heard, stale: false })
    }

    /// Remembers a source that a packet has proved.
    fn heard(&mut self, stream: Stream) {
        if let Some(known) = self.streams.iter_mut().find(|known| known.ssrc == stream.ssrc) {
            *known = stream;
        } else if !self.streams.push(stream)
            && let Some(oldest) = self.streams.iter_mut().min_by_key(|known| known.heard)
        {
            *oldest = stream;
        }
    }
}
