//! A plan: what signalling lets one media endpoint send, receive and learn.
//!
//! A plan is data. The relay executes it per packet and a kernel map could execute the same one.
//! Signalling replaces it whole whenever an offer/answer changes something; it never edits one.

use crate::dtls::Terms;
use crate::dtmf::Events;
use crate::list::List;
use crate::srtp::Keys;
use crate::stun::Ice;
use base::record::{Plain, Unreadable};
use base::{Allow, Prefix};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// The most prefixes a plan's `sources` holds.
pub const MAX_SOURCES: usize = 8;
/// The most payload types a plan's `clock_rates` holds.
pub const MAX_CLOCK_RATES: usize = 8;

/// What one endpoint may do. The default refuses everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where the leg's SDP wants RTP. Programming drops a target that [`base::address::permitted`]
    /// denies, that has port 0, or that is of another address family than the endpoint.
    pub remote_rtp: Option<SocketAddr>,
    /// Where the leg's SDP wants RTCP (RFC 3605, or RTP's port + 1). Unused with `rtcp_mux`.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTP and RTCP share the RTP port on this leg (RFC 5761).
    pub rtcp_mux: bool,
    /// Whether RTP may be sent to this leg. RTCP flows regardless (RFC 3264 §5.1).
    pub send: bool,
    /// Whether RTP that this leg sends is relayed. RTCP flows regardless.
    pub receive: bool,
    /// Whether the leg's address may be learned from its packets (RFC 7362).
    pub learn: Learn,
    /// Networks this leg may send from besides its SDP address, from any port. They never move the
    /// address we send to: asymmetric RTP.
    pub sources: List<Prefix, MAX_SOURCES>,
    /// RTP clock rate in Hz of each negotiated payload type (0..=127); the static ones of RFC 3551
    /// need no entry.
    pub clock_rates: List<(u8, u32), MAX_CLOCK_RATES>,
    /// How long the leg may be silent before [`crate::Notice::Silent`]; counted from the later of its
    /// last packet and the programming of the plan. `None`: for ever.
    pub inactivity: Option<Duration>,
    /// What is sent to this leg is one stream of our own: our source, our sequence numbers and clock,
    /// whatever changes on the other side. Otherwise packets go on as they came. Once a leg has had such
    /// a stream, it keeps it.
    pub own_stream: bool,
    /// Whether RTCP of our own is sent to the leg where the other one says nothing (RFC 3550 §6). It needs
    /// a stream of our own.
    pub reports: Reports,
    /// What the datagrams are.
    pub carries: Carries,
    /// How what this leg sends and is sent is protected. Protection needs a stream of our own.
    pub security: Security,
    /// How the leg speaks digits, if they are listened to (RFC 4733). It can be sent some where it has a
    /// stream of our own.
    pub events: Option<Events>,
    /// The leg may check its connectivity to us and choose the address it sends from (RFC 8445): we are
    /// the lite side.
    pub ice: Option<Ice>,
    /// Anybody may ask where he comes from by a Binding request without a password (RFC 8489 §11), so many a
    /// second.
    pub stun: bool,
    /// Every RTP, RTCP and T.38 packet of this leg that is not discarded is copied for whoever captures its
    /// call ([`crate::Media::take_copies`]). Not in records: after a start nobody does.
    pub tap: bool,
    /// What the endpoint's interface allows beyond ordinary unicast targets.
    pub allow: Allow,
}

/// How a leg is protected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    #[default]
    None,
    /// SRTP under keys that signalling agreed upon (RFC 4568).
    Keys(Box<Keys>),
    /// SRTP under keys that a DTLS handshake in the media path agrees upon (RFC 5764).
    Dtls(Box<Terms>),
}

/// What the datagrams of a leg are.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Carries {
    /// RTP whose quality is how speech sounds.
    #[default]
    Speech,
    /// RTP of another kind: video, real-time text.
    Other,
    /// T.38 fax in UDPTL. Neither protected nor renumbered.
    Fax,
}

/// Whose RTCP a leg is sent.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Reports {
    /// The other leg's, and no other.
    #[default]
    Relayed,
    /// Ours, where the other leg sends none.
    Plain,
    /// The same, with VoIP metrics (RFC 3611).
    Extended,
}

/// Whether a leg's address may be learned from what it sends.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Learn {
    /// Never: the SDP address and `sources` are all there is. Trunks.
    #[default]
    Off,
    /// The first valid packet within `window` after the plan was programmed pins its source; nothing
    /// moves it until a plan with another remote arrives. Access networks behind NAT.
    First {
        /// How long after programming.
        window: Duration,
        /// Only from this address: the one signalling came from.
        same_ip: Option<IpAddr>,
    },
}

impl Plan {
    /// Sends to and receives from `remote` alone, RTCP on the port after it, learning nothing.
    pub fn towards(remote: SocketAddr) -> Plan {
        let rtcp = remote.port().checked_add(1);
        Plan {
            remote_rtp: Some(remote),
            remote_rtcp: rtcp.map(|port| SocketAddr::new(remote.ip(), port)),
            send: true,
            receive: true,
            ..Plan::default()
        }
    }

    /// Whether what is sent to the leg is a stream of our own.
    pub fn has_own_stream(&self) -> bool {
        let is_rtp = self.carries != Carries::Fax;
        is_rtp && (self.own_stream || self.security != Security::None)
    }

    /// The clock rate in Hz of payload type `payload_type`: the plan's, or RFC 3551 table 4 and 5's,
    /// or 8000.
    pub fn clock_rate(&self, payload_type: u8) -> u32 {
        self.clock_rates
            .iter()
            .find(|&(pt, hz)| pt == payload_type && hz != 0)
            .map_or_else(|| static_clock_rate(payload_type), |(_, hz)| hz)
    }
}

fn static_clock_rate(payload_type: u8) -> u32 {
    match payload_type {
        6 => 16_000,
        10 | 11 => 44_100,
        14 | 25..=34 => 90_000,
        16 => 11_025,
        17 => 22_050,
        _ => 8_000,
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

impl Plain for Learn {
    fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Learn::Off => out.push(0),
            Learn::First { window, same_ip } => {
                out.push(1);
                nanos(window).put(out);
                same_ip.put(out);
            }
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        match u8::take(from)? {
            0 => Ok(Learn::Off),
            1 => Ok(Learn::First {
                window: Duration::from_nanos(u64::take(from)?),
                same_ip: Plain::take(from)?,
            }),
            _ => Err(Unreadable::Value),
        }
    }
}

impl Plain for Ice {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ufrag);
        out.extend_from_slice(&self.password);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let (ufrag, rest) = from.split_first_chunk().ok_or(Unreadable::Short)?;
        let (password, rest) = rest.split_first_chunk().ok_or(Unreadable::Short)?;
        *from = rest;
        Ok(Ice { ufrag: *ufrag, password: *password })
    }
}

impl Plain for Security {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Security::None => out.push(0),
            Security::Keys(keys) => {
                out.push(1);
                keys.put(out);
            }
            Security::Dtls(terms) => {
                out.push(2);
                terms.put(out);
            }
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        match u8::take(from)? {
            0 => Ok(Security::None),
            1 => Ok(Security::Keys(Plain::take(from)?)),
            2 => Ok(Security::Dtls(Plain::take(from)?)),
            _ => Err(Unreadable::Value),
        }
    }
}

impl Plain for Plan {
    fn put(&self, out: &mut Vec<u8>) {
        self.remote_rtp.put(out);
        self.remote_rtcp.put(out);
        (self.rtcp_mux, (self.send, self.receive)).put(out);
        self.learn.put(out);
        self.sources.put(out);
        self.clock_rates.put(out);
        self.inactivity.map(nanos).put(out);
        // One byte for all three: records of plain legs are as long as they were.
        let carries = (self.carries as u8) << 3;
        (u8::from(self.own_stream) | (self.reports as u8) << 1 | carries).put(out);
        self.security.put(out);
        self.events.put(out);
        self.ice.put(out);
        self.stun.put(out);
        self.allow.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let (remote_rtp, remote_rtcp) = Plain::take(from)?;
        let (rtcp_mux, (send, receive)) = Plain::take(from)?;
        let (learn, sources, clock_rates) =
            (Plain::take(from)?, Plain::take(from)?, Plain::take(from)?);
        let inactivity = <Option<u64> as Plain>::take(from)?.map(Duration::from_nanos);
        let stream = u8::take(from)?;
        Ok(Plan {
            remote_rtp,
            remote_rtcp,
            rtcp_mux,
            send,
            receive,
            learn,
            sources,
            clock_rates,
            inactivity,
            own_stream: stream & 1 == 1,
            carries: match stream >> 3 {
                0 => Carries::Speech,
                1 => Carries::Other,
                2 => Carries::Fax,
                _ => return Err(Unreadable::Value),
            },
            reports: match stream >> 1 & 3 {
                0 => Reports::Relayed,
                1 => Reports::Plain,
                2 => Reports::Extended,
                _ => return Err(Unreadable::Value),
            },
            security: Plain::take(from)?,
            events: Plain::take(from)?,
            ice: Plain::take(from)?,
            stun: Plain::take(from)?,
            tap: false,
            allow: Plain::take(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_rates_are_the_plans_then_the_static_ones() {
        let mut plan = Plan::default();
        assert!(plan.clock_rates.push((111, 48_000)));
        assert!(plan.clock_rates.push((99, 0)));
        let rates = [(0, 8_000), (9, 8_000), (6, 16_000), (31, 90_000), (111, 48_000), (99, 8_000)];
        for (pt, hz) in rates {
            assert_eq!(plan.clock_rate(pt), hz, "payload type {pt}");
        }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let mut plan = Plan::towards("[2001:db8::1]:4000".parse().unwrap());
        plan.learn = Learn::First {
            window: Duration::from_millis(300),
            same_ip: Some("192.0.2.1".parse().unwrap()),
        };
        assert!(plan.sources.push("192.0.2.0/24".parse().unwrap()));
        assert!(plan.clock_rates.push((111, 48_000)));
        plan.inactivity = Some(Duration::from_secs(60));
        plan.events = Some(Events { from: 101, to: 96, rate: 8_000, taken: true });
        plan.allow = Allow::LOOPBACK;
        (plan.own_stream, plan.reports, plan.carries) = (true, Reports::Extended, Carries::Other);
        let mut bytes = Vec::new();
        plan.put(&mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(Plan::take(&mut rest), Ok(plan));
        assert!(rest.is_empty());
        assert_eq!(Plan::towards("192.0.2.1:65535".parse().unwrap()).remote_rtcp, None);
    }
}
