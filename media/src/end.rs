//! An endpoint: the RTP and RTCP port that face one leg, what they may do, and what they have seen.

use crate::EndKey;
use crate::demux::Component;
use crate::egress::Egress;
use crate::extended::Voip;
use crate::guard::Guard;
use crate::keys::Keys;
use crate::latch::Latch;
use crate::media::MediaPort;
use crate::plan::Plan;
use crate::quality::{self, Score};
use crate::reception::Reception;
use crate::report::Reporter;
use crate::rtcp::{Block, Compound, RoundTrip};
use crate::sample::Sampling;
use crate::secrets::Secrets;
use crate::verdict::Discard;
use base::{Instant, PortId};
use std::net::SocketAddr;

/// Packets sent to a leg.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
}
base::plain!(struct Sent { packets, octets });

/// What signalling knows about the address learned from a leg.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Told,
    Fresh,
    Queued,
}

/// One leg's endpoint.
pub(crate) struct End {
    pub(crate) ports: MediaPort,
    pub(crate) slot: u32,
    pub(crate) peer: Option<EndKey>,
    pub(crate) plan: Option<Plan>,
    /// When the plan was programmed: the start of its learning window.
    pub(crate) programmed: Instant,
    /// When it was thawed, or reserved: silence before it is not held against the leg.
    pub(crate) thawed: Instant,
    pub(crate) latch: Latch,
    pub(crate) news: News,
    /// Whether there is more to do for its next packet than to relay it: fresh news, or a tap.
    pub(crate) is_noted: bool,
    pub(crate) reception: Reception,
    /// What we call ourselves towards the leg, where we send it packets of our own.
    pub(crate) ssrc: Option<u32>,
    /// What protects the leg, and what keeps the rest out.
    pub(crate) guard: Guard,
    /// Our own stream towards the leg, from the first plan on that asks for one.
    pub(crate) egress: Option<Box<Egress>>,
    /// Its keys, from the first plan on that listens to them.
    pub(crate) keys: Option<Box<Keys>>,
    /// Who writes RTCP of ours to it, from the first plan on that asks for it.
    pub(crate) reporter: Option<Box<Reporter>>,
    pub(crate) sent: Sent,
    pub(crate) discarded: u64,
    pub(crate) rtcp_received: u64,
    pub(crate) round_trip: RoundTrip,
    /// How the leg hears what is sent to it.
    pub(crate) heard_by_leg: Option<Block>,
    /// What it says of the quality.
    pub(crate) told: Option<Voip>,
    pub(crate) sampling: Sampling,
    pub(crate) last_heard: Option<Instant>,
    pub(crate) silence_told: bool,
}

/// What an endpoint received from its leg, and what was sent to it, since it was reserved.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// RTP packets received from the leg.
    pub packets: u64,
    /// Octets of UDP payload in them.
    pub octets: u64,
    /// Packets that did not arrive (RFC 3550 A.3), over all sources and restarts.
    pub lost: u64,
    /// Packets that should have arrived: `lost` is out of these.
    pub expected: u64,
    /// Datagrams discarded on this endpoint's ports, for any reason.
    pub discarded: u64,
    /// RTCP packets received.
    pub rtcp_received: u64,
    /// Interarrival jitter at the end, in microseconds (RFC 3550 A.8).
    pub jitter_us: u32,
    /// The highest interarrival jitter, in microseconds.
    pub max_jitter_us: u32,
    /// Round trip between this node and the leg, in microseconds, when RTCP measured one.
    pub rtt_us: Option<u32>,
    /// Mean opinion score of what was received, in hundredths, 100..=450; 0 without any packet.
    pub mos_centi: u16,
    /// Rating factor of what was received, 0..=100 (ITU-T G.107); 0 without any packet.
    pub r_factor: u8,
    /// The lowest and the average mean opinion score of the windows it was sampled in, in hundredths;
    /// those of the whole where there was no window.
    pub mos_least_centi: u16,
    /// See `mos_least_centi`.
    pub mos_mean_centi: u16,
    /// The last synchronisation source.
    pub ssrc: u32,
    /// The last payload type.
    pub payload_type: u8,
    /// Changes of source and confirmed sequence jumps.
    pub restarts: u32,
    /// RTP packets sent to the leg.
    pub sent_packets: u64,
    /// Octets of UDP payload in them.
    pub sent_octets: u64,
    /// The leg's own last report about what it hears (RFC 3550 §6.4.1).
    pub heard_by_leg: Option<Block>,
    /// What the leg's last extended report said of what it hears (RFC 3611).
    pub told: Option<Voip>,
    /// When a valid packet of the leg last arrived; `None` when none ever did.
    pub last_heard: Option<Instant>,
}

/// Local addresses of an endpoint: what goes into the SDP.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where the endpoint receives RTP.
    pub rtp: SocketAddr,
    /// Where it receives RTCP: the port after RTP.
    pub rtcp: SocketAddr,
}

impl Local {
    pub(crate) fn of(self, component: Component) -> SocketAddr {
        match component {
            Component::Rtp => self.rtp,
            Component::Rtcp => self.rtcp,
        }
    }
}

impl End {
    pub(crate) fn new(ports: MediaPort, slot: u32, now: Instant) -> End {
        End {
            ports,
            slot,
            peer: None,
            plan: None,
            programmed: now,
            thawed: now,
            latch: Latch::default(),
            news: News::Told,
            is_noted: false,
            reception: Reception::default(),
            ssrc: None,
            guard: Guard::default(),
            egress: None,
            keys: None,
            reporter: None,
            sent: Sent::default(),
            discarded: 0,
            rtcp_received: 0,
            round_trip: RoundTrip::default(),
            heard_by_leg: None,
            told: None,
            sampling: Sampling::default(),
            last_heard: None,
            silence_told: false,
        }
    }

    /// Begins our own stream towards the leg if its plan asks for one and there is none.
    pub(crate) fn begin_stream(&mut self, secrets: &mut Secrets) {
        if self.egress.is_none() && self.plan.as_ref().is_some_and(Plan::has_own_stream) {
            // Drawn for legs that need it: a draw costs what a hundred lines of SIP cost.
            let ssrc = *self.ssrc.get_or_insert_with(|| secrets.word());
            let first = u16::from_be_bytes(secrets.draw());
            self.egress = Some(Box::new(Egress::new(ssrc, first)));
        }
    }

    pub(crate) fn local(&self) -> Local {
        let rtp = self.ports.address;
        Local { rtp, rtcp: SocketAddr::new(rtp.ip(), rtp.port().saturating_add(1)) }
    }

    /// An address was learned from the leg. Signalling hears of one at a time.
    pub(crate) fn note_address(&mut self) {
        if self.news == News::Told {
            self.news = News::Fresh;
            self.is_noted = true;
        }
    }

    /// Whether what the leg sends is copied.
    pub(crate) fn is_tapped(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.tap)
    }

    /// Whether RTP from this leg is relayed.
    pub(crate) fn receives(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.receive)
    }

    pub(crate) fn count_rtcp(&mut self, compound: &Compound, now: Instant) {
        self.rtcp_received += 1;
        if let Some(block) = compound.block {
            self.round_trip.block_heard(&block, now);
            self.heard_by_leg = Some(block);
        }
        self.told = compound.voip.or(self.told);
        if let (Some(reporter), Some(sent)) = (&mut self.reporter, compound.sent) {
            reporter.heard(sent, now);
        }
    }

    /// Where RTP for this leg goes now.
    pub(crate) fn rtp_target(&self) -> Result<SocketAddr, Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoRemote)?;
        if !plan.send {
            return Err(Discard::PeerNotSending);
        }
        self.latch.target(plan, Component::Rtp).ok_or(Discard::NoRemote)
    }

    /// Where RTCP for this leg leaves from and goes to, noting the reports in it.
    pub(crate) fn rtcp_way(
        &mut self,
        compound: &Compound,
        now: Instant,
    ) -> Option<(&mut End, (PortId, SocketAddr))> {
        let plan = self.plan.as_ref()?;
        let target = self.latch.target(plan, Component::Rtcp);
        let to = target.filter(|_| self.guard.has_rtcp())?;
        if let Some(sent) = compound.sent {
            self.round_trip.report_relayed(sent, now);
        }
        if let Some(reporter) = &mut self.reporter {
            reporter.relayed(now);
        }
        let from = if plan.rtcp_mux { self.ports.rtp } else { self.ports.rtcp };
        Some((self, (from, to)))
    }

    /// Since when the leg is silent for longer than its plan allows.
    pub(crate) fn silent_since(&self, now: Instant) -> Option<Instant> {
        let patience = self.plan.as_ref()?.inactivity?;
        let since = self.programmed.max(self.thawed).max(self.last_heard.unwrap_or_default());
        (now.since(since) >= patience).then_some(since)
    }

    pub(crate) fn report(&self) -> Report {
        let (reception, rtt_us) = (&self.reception, self.round_trip.rtt_us());
        let Score { r_milli, mos_centi } = quality::score(reception, rtt_us).unwrap_or_default();
        let (mos_least_centi, mos_mean_centi) =
            self.sampling.scores().unwrap_or((mos_centi, mos_centi));
        Report {
            mos_least_centi,
            mos_mean_centi,
            told: self.told,
            packets: reception.packets(),
            octets: reception.octets(),
            lost: reception.lost(),
            expected: reception.expected(),
            discarded: self.discarded,
            rtcp_received: self.rtcp_received,
            jitter_us: reception.jitter_us(),
            max_jitter_us: reception.max_jitter_us(),
            rtt_us,
            mos_centi,
            r_factor: u8::try_from((r_milli + 500) / 1_000).unwrap_or(100),
            ssrc: reception.ssrc(),
            payload_type: reception.payload_type(),
            restarts: reception.restarts(),
            sent_packets: self.sent.packets,
            sent_octets: self.sent.octets,
            heard_by_leg: self.heard_by_leg,
            last_heard: self.last_heard,
        }
    }
}
