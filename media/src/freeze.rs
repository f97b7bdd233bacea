//! Endpoints as plain records, and back: how a call's media survives its process.
//!
//! A record names its ports by their bound local address, because another process may number them
//! otherwise. Everything else (the look-up by port, the walk of the sweep) is derived.

use crate::EndKey;
use crate::demux::Component;
use crate::egress;
use crate::end::{End, Sent};
use crate::guard::Guard;
use crate::latch::Latch;
use crate::media::Media;
use crate::plan::Plan;
use crate::reception::Reception;
use crate::rtcp::{Block, RoundTrip};
use crate::sample::Sampling;
use crate::srtp::ShieldRecord;
use base::Instant;
use base::record::{Plain, Unreadable};
use std::net::SocketAddr;

/// An endpoint, frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// The bound address of its RTP port.
    pub local: SocketAddr,
    /// The endpoint it was joined to.
    pub peer: Option<EndKey>,
    plan: Option<Plan>,
    programmed: Instant,
    latch: Latch,
    reception: Reception,
    ssrc: Option<u32>,
    shield: Option<Box<ShieldRecord>>,
    sent: Sent,
    discarded: u64,
    rtcp_received: u64,
    round_trip: RoundTrip,
    heard_by_leg: Option<Block>,
    last_heard: Option<Instant>,
    tail: Tail,
}
base::plain!(struct EndRecord { local, peer, plan, programmed, latch, reception, ssrc, shield, sent,
    discarded, rtcp_received, round_trip, heard_by_leg, last_heard, tail });

/// What most legs have nothing of: one byte for those.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tail {
    silence_told: bool,
    sampling: Option<Sampling>,
    /// The keys of its RTCP, where those are not its RTP's.
    rtcp_shield: Option<Box<ShieldRecord>>,
}

impl Plain for Tail {
    fn put(&self, out: &mut Vec<u8>) {
        let Tail { silence_told, sampling, rtcp_shield } = self;
        let sampled = u8::from(sampling.is_some()) << 1;
        out.push(u8::from(*silence_told) | sampled | u8::from(rtcp_shield.is_some()) << 2);
        sampling.iter().for_each(|sampling| sampling.put(out));
        rtcp_shield.iter().for_each(|shield| shield.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let flags = u8::take(from)?;
        if flags > 7 {
            return Err(Unreadable::Value);
        }
        let sampling = if flags & 2 != 0 { Some(Plain::take(from)?) } else { None };
        let rtcp_shield = if flags & 4 != 0 { Some(Plain::take(from)?) } else { None };
        Ok(Tail { silence_told: flags & 1 != 0, sampling, rtcp_shield })
    }
}

impl EndRecord {
    /// The most bytes a record takes, without the header of [`base::record::seal`].
    pub const MAX_LEN: usize = 1_172;
}

base::cases! {
    /// Why a record could not be thawed.
    pub enum CannotThaw {
        /// No port of this shard is bound to the record's address.
        NoSuchPort = "no_such_port",
        /// Another endpoint has that port.
        PortTaken = "port_taken",
        /// Another endpoint has that key.
        KeyTaken = "key_taken",
    }
}

impl Media {
    /// The record of an endpoint as it is now.
    pub fn freeze(&self, end: EndKey) -> Option<EndRecord> {
        let end = self.ends.get(end)?;
        Some(EndRecord {
            local: end.ports.address,
            peer: end.peer,
            plan: end.plan.clone(),
            programmed: end.programmed,
            latch: end.latch,
            reception: end.reception,
            ssrc: end.ssrc,
            shield: end.guard.freeze(Component::Rtp),
            sent: end.sent,
            discarded: end.discarded,
            rtcp_received: end.rtcp_received,
            round_trip: end.round_trip,
            heard_by_leg: end.heard_by_leg,
            last_heard: end.last_heard,
            tail: Tail {
                silence_told: end.silence_told,
                sampling: Some(end.sampling).filter(|sampling| !sampling.is_empty()),
                rtcp_shield: end.guard.freeze(Component::Rtcp),
            },
        })
    }

    /// Puts a frozen endpoint back under its key, joined to its peer as soon as both are there. The
    /// patience for silence starts at `now`: nobody could be heard while the process was away.
    pub fn thaw(&mut self, key: EndKey, record: EndRecord, now: Instant) -> Result<(), CannotThaw> {
        let slot = self.slot_by_address.get(&record.local).copied();
        let slot = slot.ok_or(CannotThaw::NoSuchPort)?;
        let ports = self.slots[slot as usize];
        if !self.ports.claim(ports.interface, slot) {
            return Err(CannotThaw::PortTaken);
        }
        let mut end = End::new(ports, slot, record.programmed);
        end.peer = record.peer;
        end.plan = record.plan;
        if end.plan.as_ref().is_some_and(Plan::has_own_stream) {
            // Nobody knows how far its numbers were: our stream begins anew, under another name.
            end.ssrc = record.ssrc.map(egress::successor);
            end.begin_stream(&mut self.secrets);
        }
        end.begin_keys();
        end.latch = record.latch;
        let shields = [record.shield, record.tail.rtcp_shield];
        end.guard = Guard::thaw(end.plan.as_ref(), shields, now);
        end.reception = record.reception;
        end.sent = record.sent;
        end.discarded = record.discarded;
        end.rtcp_received = record.rtcp_received;
        end.round_trip = record.round_trip;
        end.heard_by_leg = record.heard_by_leg;
        end.last_heard = record.last_heard;
        end.thawed = now;
        end.silence_told = record.tail.silence_told;
        end.sampling = record.tail.sampling.unwrap_or_default();
        end.begin_reports(&mut self.secrets, now);
        if self.ends.restore(key, end).is_err() {
            self.ports.free(ports.interface, slot, now);
            return Err(CannotThaw::KeyTaken);
        }
        self.occupy(slot, Some(key));
        self.attend(key);
        self.publish();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::{Fingerprint, Hash, Role, Terms};
    use crate::{Learn, List, MediaPort, Security};
    use base::{Now, Pool, PortId, Wall};
    use core::time::Duration;

    /// An endpoint whose every optional field is there, over IPv6.
    fn fullest() -> EndRecord {
        let (leg, start) = ("[2001:db8::1]:4000", Instant(1 << 60));
        let ports = MediaPort {
            rtp: PortId(0),
            rtcp: PortId(1),
            address: "[2001:db8::ffff]:10000".parse().unwrap(),
            interface: 0,
        };
        let mut media = Media::new(vec![ports], [1; 32], start);
        let end = media.reserve(0, start).unwrap();
        let mut plan = Plan::towards("[2001:db8::2]:4000".parse().unwrap());
        plan.clock_rates = List::from_slice(&[(96, 90_000); 8]).unwrap();
        plan.inactivity = Some(Duration::from_secs(1));
        plan.events = Some(crate::Events { from: 101, to: 96, rate: 8_000, taken: true });
        let same_ip = Some("2001:db8::1".parse().unwrap());
        plan.learn = Learn::First { window: Duration::from_secs(1), same_ip };
        media.program(start, end, plan.clone());
        let (now, mut pool) = (Now { mono: start, wall: Wall(0) }, Pool::new(64));
        let rtp = base::Bytes { at: 0, len: 12 };
        pool.get_mut(rtp)[0] = 0x80;
        media.receive(now, PortId(0), leg.parse().unwrap(), rtp, &mut pool, &mut Vec::new());
        pool.get_mut(rtp)[..4].copy_from_slice(&[0x80, 201, 0, 1]);
        let rtcp = base::Bytes { at: 0, len: 8 };
        media.receive(now, PortId(1), leg.parse().unwrap(), rtcp, &mut pool, &mut Vec::new());
        plan.ice = Some(media.draw_ice());
        let fingerprint = Fingerprint::new(Hash::Sha512, &[7; 64]).unwrap();
        let terms = Terms { role: Role::Active, fingerprint, tls_id: 9, ours: 7 };
        plan.security = Security::Dtls(Box::new(terms));
        plan.sources = List::from_slice(&["2001:db8::/32".parse().unwrap(); 8]).unwrap();
        media.program(start, end, plan);
        let mut record = media.freeze(end).unwrap();
        record.shield = Some(Box::new(ShieldRecord::fullest()));
        record.tail.rtcp_shield = record.shield.clone();
        record.peer = Some(end);
        record.heard_by_leg = Some(Block::default());
        record.tail.sampling = Some(Sampling::default());
        record.round_trip.report_relayed(1, start);
        record.round_trip.block_heard(&Block { last_report: 1, ..Block::default() }, start);
        record
    }

    #[test]
    fn the_fullest_record_fits_and_reads_back() {
        let (record, mut bytes) = (fullest(), Vec::new());
        assert!(record.latch.learned().is_some() && record.last_heard.is_some());
        record.put(&mut bytes);
        // All but the sequence jump that is not yet confirmed: two bytes.
        assert_eq!(bytes.len() + 2, EndRecord::MAX_LEN);
        assert_eq!(EndRecord::take(&mut &bytes[..]), Ok(record));
        for cut in 0..bytes.len() {
            assert!(EndRecord::take(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
