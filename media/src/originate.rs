//! Packets that we make ourselves, in between those of the other leg.

use crate::EndKey;
use crate::demux::Component;
use crate::media::Media;
use crate::rtp;
use crate::verdict::Discard;
use base::{Instant, Texts};

/// What a packet of our own says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Payload type, 0..=127.
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// Its time on the stream's clock: [`Media::timestamp`] when it begins.
    pub timestamp: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Media {
    /// What the clock of our own stream towards a leg says now, ticking at `rate` Hz; `None` where there
    /// is no such stream.
    pub fn timestamp(&self, end: EndKey, rate: u32, now: Instant) -> Option<u32> {
        Some(self.ends.get(end)?.egress.as_ref()?.timestamp(rate, now))
    }

    /// Sends a leg a packet of our own, next in our own stream towards it; what the other leg sends goes
    /// on after it. Only where the plan asks for such a stream and lets RTP be sent.
    pub fn originate(
        &mut self,
        now: Instant,
        end: EndKey,
        frame: Frame<'_>,
        out: &mut Texts,
    ) -> Result<(), Discard> {
        let end = self.ends.get_mut(end).ok_or(Discard::NoPeer)?;
        let to = end.rtp_target()?;
        if !end.guard.is_ready(Component::Rtp) {
            return Err(Discard::NoKeys);
        }
        let egress = end.egress.as_mut().ok_or(Discard::NoPlan)?;
        let (ssrc, index) = egress.originate(frame.timestamp, now);
        let guard = &end.guard;
        let print = |out: &mut Vec<u8>| {
            let at = out.len();
            out.extend_from_slice(&[0x80, u8::from(frame.marker) << 7 | frame.payload_type & 0x7f]);
            out.extend_from_slice(&(index as u16).to_be_bytes());
            out.extend_from_slice(&frame.timestamp.to_be_bytes());
            out.extend_from_slice(&ssrc.to_be_bytes());
            out.extend_from_slice(frame.payload);
            guard.seal_text(out, at, (ssrc, index));
        };
        out.push(end.ports.rtp, to, print);
        end.sent.packets += 1;
        end.sent.octets += (rtp::FIXED + frame.payload.len()) as u64;
        Ok(())
    }
}
