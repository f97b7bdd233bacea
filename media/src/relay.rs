//! The hot path: one received datagram, one verdict.
//!
//! Port → endpoint → class (RFC 7983, RFC 5761) → header → source (RFC 7362) → quality → the other leg.
//! Nothing here allocates, locks, logs or formats. A datagram is never copied: what leaves is a range of
//! the buffer it arrived in, unchanged unless a leg is protected (`guard.rs`) or the other leg's plan
//! asks for a stream of our own (`egress.rs`). Being held, unanswered or unjoined is a verdict of its own,
//! and every discard is counted by name; no number of bad packets ends a call.

use crate::EndKey;
use crate::counters::Counters;
use crate::demux::{Class, Component, classify};
use crate::end::{End, News};
use crate::latch::Source;
use crate::media::{Media, Occupant};
use crate::rtcp::{self, Compound};
use crate::rtp;
use crate::srtp;
use crate::stun;
use crate::translate::Translation;
use crate::udptl;
use crate::verdict::{Discard, Verdict};
use base::{Bytes, Instant, Now, PacketSend, Pool, PortId, Slab, address};
use core::time::Duration;
use std::net::SocketAddr;

/// Binding requests without a password that a shard answers in a second.
const BINDINGS: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Where a datagram came from.
struct Arrival {
    component: Component,
    source: SocketAddr,
    now: Instant,
}

/// What an endpoint took in from its leg.
enum Heard {
    Rtp,
    Event,
    Rtcp(Compound),
    /// T.38.
    Fax,
    Keepalive,
    /// A connectivity check: our answer stands in its place.
    Check,
    /// Somebody asks where he comes from, with a fingerprint or without.
    Binding(bool),
    /// Part of a handshake.
    Dtls,
}

impl Heard {
    #[inline(always)]
    fn is_media(&self) -> bool {
        match self {
            Heard::Rtp | Heard::Event | Heard::Rtcp(_) | Heard::Fax => true,
            Heard::Keepalive | Heard::Check | Heard::Binding(_) | Heard::Dtls => false,
        }
    }
}

impl Media {
    /// Decides about one datagram and queues it in `out` if it is to be relayed. The bytes stay where
    /// they are in the pool until the driver has sent them.
    pub fn receive(
        &mut self,
        now: Now,
        port: PortId,
        source: SocketAddr,
        bytes: Bytes,
        pool: &mut Pool,
        out: &mut Vec<PacketSend>,
    ) -> Verdict {
        self.relay(now.mono, port, source, bytes, pool, out).unwrap_or_else(|reason| {
            self.tap.take_back(bytes);
            self.blame(port, reason);
            Verdict::Discard(reason)
        })
    }

    /// What becomes of a datagram that is not discarded.
    #[inline(always)]
    fn relay(
        &mut self,
        now: Instant,
        port: PortId,
        source: SocketAddr,
        mut bytes: Bytes,
        pool: &mut Pool,
        out: &mut Vec<PacketSend>,
    ) -> Result<Verdict, Discard> {
        let (key, component) = self.find(port)?;
        let end = self.ends.get_mut(key).ok_or(Discard::IdlePort)?;
        let arrival = Arrival { component, source: address::canonical_socket(source), now };
        let heard = end.hear(&arrival, &mut bytes, pool, &self.counters)?;
        let (peer, receives) = (end.peer, end.receives());
        if end.is_noted {
            self.note(key, &arrival, heard.is_media(), bytes, pool);
        }
        match heard {
            Heard::Rtp | Heard::Event | Heard::Fax if !receives => Err(Discard::NotReceiving),
            Heard::Rtp => self.pass_rtp(key, peer, (bytes, pool), now, out),
            Heard::Event => self.pass_event(key, peer, (bytes, pool), now, out),
            Heard::Rtcp(compound) => self.pass_rtcp(key, peer, &compound, (bytes, pool), now, out),
            Heard::Fax => self.pass_fax(key, peer, bytes, out),
            Heard::Keepalive => Ok(Verdict::Absorb),
            Heard::Binding(marked) => {
                let bytes = self.tell(now, arrival.source, marked, bytes, pool)?;
                out.push(PacketSend { port, to: source, bytes });
                Ok(Verdict::Answer)
            }
            Heard::Dtls => self.queue((key, component), pool.get(bytes)).map(|()| Verdict::Absorb),
            Heard::Check => {
                self.attend(key);
                out.push(PacketSend { port, to: source, bytes });
                Ok(Verdict::Answer)
            }
        }
    }

    /// Looks after a leg that has a new address, or is tapped: what it sent is copied before it is changed for
    /// the other leg, and the copy is taken back if it is discarded after all.
    #[cold]
    #[inline(never)]
    fn note(&mut self, key: EndKey, arrival: &Arrival, is_media: bool, bytes: Bytes, pool: &Pool) {
        let Some(end) = self.ends.get_mut(key) else { return };
        if end.news == News::Fresh {
            // Queued once until told, so the queue never outgrows the endpoints.
            end.news = News::Queued;
            self.latched.push(key);
        }
        end.is_noted = end.is_tapped();
        if end.is_noted && is_media {
            let path = (arrival.source, end.local().of(arrival.component));
            self.tap.take(key, path, (bytes, pool), &self.counters);
        }
    }

    /// RTP goes on if the other leg may be sent to. Inline: 29 instructions of 564 a packet.
    #[inline(always)]
    fn pass_rtp(
        &mut self,
        from: EndKey,
        peer: Option<EndKey>,
        (mut bytes, pool): (Bytes, &mut Pool),
        now: Instant,
        out: &mut Vec<PacketSend>,
    ) -> Result<Verdict, Discard> {
        let peer = joined(&mut self.ends, from, peer).ok_or(Discard::NoPeer)?;
        let to = peer.rtp_target()?;
        if peer.egress.is_some() {
            let Some(ours) = peer.adopt(bytes, pool, now)? else { return Ok(Verdict::Absorb) };
            bytes = ours;
        }
        peer.sent.packets += 1;
        peer.sent.octets += u64::from(bytes.len);
        self.counters.packets_relayed.add(1);
        self.counters.octets_relayed.add(u64::from(bytes.len));
        out.push(PacketSend { port: peer.ports.rtp, to, bytes });
        Ok(Verdict::Forward)
    }

    /// A telephone event is listened to; then it goes on like speech, or no further.
    #[cold]
    fn pass_event(
        &mut self,
        from: EndKey,
        peer: Option<EndKey>,
        (bytes, pool): (Bytes, &mut Pool),
        now: Instant,
        out: &mut Vec<PacketSend>,
    ) -> Result<Verdict, Discard> {
        self.hear_event(from, pool.get(bytes), now)?;
        let events = self.ends.get(from).and_then(|end| end.plan.as_ref()?.events);
        match events.filter(|events| events.taken) {
            None => self.pass_rtp(from, peer, (bytes, pool), now, out),
            Some(events) => {
                let peer = joined(&mut self.ends, from, peer);
                if let Some(egress) = peer.and_then(|peer| peer.egress.as_mut()) {
                    egress.withhold(pool.get(bytes), events.rate, now);
                }
                Ok(Verdict::Absorb)
            }
        }
    }

    /// T.38 goes on to a leg that has T.38 as well: none of the two makes one of the other.
    #[cold]
    fn pass_fax(
        &mut self,
        from: EndKey,
        peer: Option<EndKey>,
        bytes: Bytes,
        out: &mut Vec<PacketSend>,
    ) -> Result<Verdict, Discard> {
        let peer = joined(&mut self.ends, from, peer).filter(|peer| peer.guard.is_fax());
        let peer = peer.ok_or(Discard::NoPeer)?;
        let to = peer.rtp_target()?;
        peer.sent.packets += 1;
        peer.sent.octets += u64::from(bytes.len);
        self.counters.fax_relayed.add(1);
        out.push(PacketSend { port: peer.ports.rtp, to, bytes });
        Ok(Verdict::Forward)
    }

    /// RTCP goes on whatever the direction of the media (RFC 3264 §5.1), from the other leg's RTCP
    /// port, or from its RTP port if that leg multiplexes. Where that leg takes none, it was for us.
    fn pass_rtcp(
        &mut self,
        from: EndKey,
        peer: Option<EndKey>,
        what: &Compound,
        (bytes, pool): (Bytes, &mut Pool),
        now: Instant,
        out: &mut Vec<PacketSend>,
    ) -> Result<Verdict, Discard> {
        let heard = self.ends.get(from).and_then(|end| end.egress.as_ref()?.renaming());
        let peer = joined(&mut self.ends, from, peer);
        let Some((peer, (port, to))) = peer.and_then(|peer| peer.rtcp_way(what, now)) else {
            self.counters.rtcp_absorbed.add(1);
            return Ok(Verdict::Absorb);
        };
        let writer = peer.egress.as_ref().and_then(|egress| egress.renaming());
        let translation = Translation { writer, heard };
        if !translation.is_none() {
            translation.apply(pool.get_mut(bytes));
        }
        let bytes = peer.guard.seal_rtcp(pool, bytes)?;
        self.counters.rtcp_relayed.add(1);
        out.push(PacketSend { port, to, bytes });
        Ok(Verdict::Forward)
    }

    /// Turns a Binding request of anybody's into our answer, so many a second.
    #[cold]
    #[inline(never)]
    fn tell(
        &mut self,
        now: Instant,
        source: SocketAddr,
        marked: bool,
        bytes: Bytes,
        pool: &mut Pool,
    ) -> Result<Bytes, Discard> {
        if now.since(self.bindings.0) >= SECOND {
            self.bindings = (now, 0);
        }
        if self.bindings.1 >= BINDINGS {
            return Err(Discard::StunRate);
        }
        self.bindings.1 += 1;
        let room = pool.get_mut(Bytes { len: bytes.len + stun::MOST_TOLD, ..bytes });
        let len = stun::tell(room, source, marked).ok_or(Discard::TooLong)?;
        self.counters.bindings_answered.add(1);
        Ok(Bytes { len: len as u32, ..bytes })
    }

    fn find(&self, port: PortId) -> Result<(EndKey, Component), Discard> {
        match self.ports_by_id.get(port.0 as usize) {
            Some(&Occupant::End(key, component)) => Ok((key, component)),
            Some(Occupant::Idle) => Err(Discard::IdlePort),
            Some(Occupant::Unknown) | None => Err(Discard::UnknownPort),
        }
    }

    /// Counts a discard, and against its endpoint if it has one.
    pub(crate) fn blame(&mut self, port: PortId, reason: Discard) {
        self.counters.discards.add(reason.index());
        if let Ok((key, _)) = self.find(port)
            && let Some(end) = self.ends.get_mut(key)
        {
            end.discarded += 1;
        }
    }
}

/// The other side of a join, if it agrees: a record thawed without its peer may name a key that
/// another call was given since.
fn joined(ends: &mut Slab<End>, from: EndKey, peer: Option<EndKey>) -> Option<&mut End> {
    ends.get_mut(peer?).filter(|peer| peer.peer == Some(from))
}

impl End {
    /// Takes one datagram in: a valid packet, from a source that may send, counted. Validity comes
    /// first, so that nothing is learned from noise; what is protected is opened, and its range shrinks.
    #[inline(always)]
    fn hear(
        &mut self,
        arrival: &Arrival,
        bytes: &mut Bytes,
        pool: &mut Pool,
        counters: &Counters,
    ) -> Result<Heard, Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoPlan)?;
        let mut datagram = pool.get_mut(*bytes);
        let (octets, class) =
            (datagram.len(), classify(datagram, arrival.component, plan.rtcp_mux));
        if !self.guard.is_open() && self.guard.is_fax() {
            return self.hear_fax(arrival, pool.get(*bytes), counters);
        }
        if !self.guard.is_open() && matches!(class, Class::Rtp | Class::Rtcp) {
            // Strangers are turned away before any work is done for them, and nothing is learned before
            // a packet has proved itself.
            let Arrival { component, source, now } = *arrival;
            let judged = self.latch.judge(plan, self.programmed, component, source, now);
            if judged == Source::Stranger {
                return Err(Discard::WrongSource);
            }
            datagram = self.guard.open(class, datagram, now)?;
            bytes.len = datagram.len() as u32;
        }
        match class {
            Class::Refused(reason) => Err(reason),
            Class::Rtp => {
                let header = rtp::read(datagram)?;
                let rate = plan.clock_rate(header.payload_type);
                let is_event = plan.events.is_some_and(|e| e.from == header.payload_type);
                self.admit(arrival, counters)?;
                if self.reception.count(&header, octets, rate, arrival.now) {
                    counters.restarts.add(1);
                }
                Ok(if is_event { Heard::Event } else { Heard::Rtp })
            }
            Class::Rtcp => {
                let compound = rtcp::read(datagram)?;
                self.admit(arrival, counters)?;
                self.count_rtcp(&compound, arrival.now);
                Ok(Heard::Rtcp(compound))
            }
            // An empty datagram keeps a NAT binding open (RFC 6263 §4.1) and proves nothing.
            Class::Keepalive if self.latch.knows(plan, arrival.component, arrival.source) => {
                counters.keepalives.add(1);
                Ok(Heard::Keepalive)
            }
            Class::Keepalive => Err(Discard::WrongSource),
            Class::Stun => self.check(arrival, bytes, pool, counters),
            Class::Dtls => {
                let Arrival { component, source, now } = *arrival;
                self.admit_dtls(component, source, now).map(|()| Heard::Dtls)
            }
        }
    }

    /// A datagram of a leg with T.38, whatever its first bytes would mean elsewhere.
    #[cold]
    #[inline(never)]
    fn hear_fax(
        &mut self,
        arrival: &Arrival,
        datagram: &[u8],
        counters: &Counters,
    ) -> Result<Heard, Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoPlan)?;
        if datagram.is_empty() && self.latch.knows(plan, arrival.component, arrival.source) {
            counters.keepalives.add(1);
            return Ok(Heard::Keepalive);
        }
        if arrival.component == Component::Rtcp {
            return Err(Discard::UnexpectedRtcp);
        }
        udptl::check(datagram)?;
        self.admit(arrival, counters)?;
        self.reception.count_unnumbered(datagram.len());
        Ok(Heard::Fax)
    }

    /// A STUN message of the leg's: a check is answered in its place, and the address it nominates is
    /// where the leg is from now on. Everybody else gets silence.
    #[cold]
    #[inline(never)]
    fn check(
        &mut self,
        arrival: &Arrival,
        bytes: &mut Bytes,
        pool: &mut Pool,
        counters: &Counters,
    ) -> Result<Heard, Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoPlan)?;
        let Arrival { component, source, .. } = *arrival;
        let read =
            plan.ice.as_ref().and_then(|ice| Some((stun::read(pool.get(*bytes), ice)?, ice)));
        let Some((message, ice)) = read else {
            let bare = stun::bare(pool.get(*bytes)).filter(|_| plan.stun);
            return bare.map(Heard::Binding).ok_or(Discard::Stun);
        };
        if message == stun::Message::Indication {
            let known = self.latch.knows(plan, component, source);
            return if known { Ok(Heard::Keepalive) } else { Err(Discard::WrongSource) };
        }
        if source.port() == 0 || !address::permitted(source.ip(), plan.allow) {
            return Err(Discard::WrongSource);
        }
        let room = pool.get_mut(Bytes { len: bytes.len + srtp::MAX_GROWTH as u32, ..*bytes });
        let len = stun::answer(room, message, source, ice).ok_or(Discard::TooLong)?;
        bytes.len = len as u32;
        counters.checks_answered.add(1);
        let is_new =
            message == stun::Message::Check(true) && self.latch.nominate(plan, component, source);
        if is_new && component == Component::Rtp {
            self.note_address();
        }
        Ok(Heard::Check)
    }

    /// Makes a packet for the leg one of our own stream, protected where the plan asks for it; none when we
    /// press a key meanwhile. Kept out of the way of legs without such a stream.
    #[cold]
    #[inline(never)]
    fn adopt(
        &mut self,
        bytes: Bytes,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<Option<Bytes>, Discard> {
        if self.guard.is_fax() {
            // Speech that was under way when the two legs changed over.
            return Err(Discard::NoPeer);
        }
        let is_silenced = self.is_being_dialled();
        let (Some(egress), Some(plan)) = (&mut self.egress, &self.plan) else {
            return Ok(Some(bytes));
        };
        let datagram = pool.get_mut(bytes);
        let payload_type = datagram.get(1).copied().unwrap_or_default() & 0x7f;
        let rate = plan.clock_rate(payload_type);
        if is_silenced {
            egress.withhold(datagram, rate, now);
            return Ok(None);
        }
        let id = egress.adopt(datagram, rate, now)?;
        self.guard.seal_rtp(pool, bytes, id).map(Some)
    }

    /// Lets a valid packet of a permitted source in.
    fn admit(&mut self, arrival: &Arrival, counters: &Counters) -> Result<(), Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoPlan)?;
        let (component, source, now) = (arrival.component, arrival.source, arrival.now);
        match self.latch.admit(plan, self.programmed, component, source, now) {
            Source::Known => {}
            Source::Learned => {
                counters.latches.add(1);
                let moved = component == Component::Rtp && plan.remote_rtp != Some(source);
                if moved {
                    self.note_address();
                }
            }
            Source::Stranger => return Err(Discard::WrongSource),
        }
        self.last_heard = Some(now);
        self.silence_told = false;
        Ok(())
    }
}
