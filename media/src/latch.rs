//! Which sources a leg may send from, and where we send: SDP first, learning by rule (RFC 7362).
//!
//! An endpoint either believes the SDP address (and the networks its plan names), or pins the first
//! valid source of the plan's window. A pinned source is never replaced by a packet, only by a plan
//! with another remote. The second component may be learned only from the address of the first.

use crate::demux::Component;
use crate::plan::{Learn, Plan};
use base::{Instant, address};
use std::net::SocketAddr;

/// What was learned about a leg's addresses.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Latch {
    rtp: Option<SocketAddr>,
    rtcp: Option<SocketAddr>,
}
base::plain!(struct Latch { rtp, rtcp });

/// What a source is to a leg.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It may send.
    Known,
    /// It may send, and its address was pinned just now.
    Learned,
    /// It may not.
    Stranger,
}

impl Latch {
    /// Whether `source` (canonical) may send now; learns it where the plan says so. To be asked only
    /// about packets that are valid in themselves, so that noise is never learned.
    pub fn admit(
        &mut self,
        plan: &Plan,
        programmed: Instant,
        component: Component,
        source: SocketAddr,
        now: Instant,
    ) -> Source {
        let verdict = self.judge(plan, programmed, component, source, now);
        if verdict == Source::Learned {
            match shared(plan, component) {
                Component::Rtp => self.rtp = Some(source),
                Component::Rtcp => self.rtcp = Some(source),
            }
        }
        verdict
    }

    /// What `admit` would say, learning nothing.
    #[inline(always)]
    pub fn judge(
        &self,
        plan: &Plan,
        programmed: Instant,
        component: Component,
        source: SocketAddr,
        now: Instant,
    ) -> Source {
        let component = shared(plan, component);
        if self.knows(plan, component, source) {
            return Source::Known;
        }
        if self.pinned(component).is_none() && self.may_learn(plan, programmed, source, now) {
            return Source::Learned;
        }
        Source::Stranger
    }

    /// The leg, which has proved itself, wants to send from and hear at `source` (canonical). True when
    /// that was not known.
    pub fn nominate(&mut self, plan: &Plan, component: Component, source: SocketAddr) -> bool {
        let pinned = match shared(plan, component) {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        };
        pinned.replace(source) != Some(source)
    }

    /// Whether `source` (canonical) may send without anything being learned.
    pub fn knows(&self, plan: &Plan, component: Component, source: SocketAddr) -> bool {
        self.target(plan, component) == Some(source)
            || plan.sources.iter().any(|net| net.contains(source.ip()))
    }

    /// Where to send what is meant for `component` of the leg: the pinned address, else the SDP's.
    pub fn target(&self, plan: &Plan, component: Component) -> Option<SocketAddr> {
        let component = shared(plan, component);
        self.pinned(component).or(match component {
            Component::Rtp => plan.remote_rtp,
            Component::Rtcp => plan.remote_rtcp,
        })
    }

    /// The RTP address that was learned.
    pub fn learned(&self) -> Option<SocketAddr> {
        self.rtp
    }

    /// The address of a component that was learned.
    pub(crate) fn pinned(&self, component: Component) -> Option<SocketAddr> {
        match component {
            Component::Rtp => self.rtp,
            Component::Rtcp => self.rtcp,
        }
    }

    fn may_learn(
        &self,
        plan: &Plan,
        programmed: Instant,
        source: SocketAddr,
        now: Instant,
    ) -> bool {
        let Learn::First { window, same_ip } = plan.learn else {
            return false;
        };
        now <= programmed + window
            && source.port() != 0
            && same_ip.is_none_or(|ip| address::canonical(ip) == source.ip())
            && self.rtp.or(self.rtcp).is_none_or(|other| other.ip() == source.ip())
            && address::permitted(source.ip(), plan.allow)
    }
}

/// With rtcp-mux there is one address to learn and to send to.
fn shared(plan: &Plan, component: Component) -> Component {
    if plan.rtcp_mux { Component::Rtp } else { component }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const START: Instant = Instant(1_000_000_000);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learning(same_ip: Option<&str>) -> Plan {
        let mut plan = Plan::towards(at("10.0.0.1:4000"));
        plan.learn = Learn::First {
            window: Duration::from_millis(500),
            same_ip: same_ip.map(|ip| ip.parse().unwrap()),
        };
        plan
    }

    fn admit(latch: &mut Latch, plan: &Plan, source: &str, after_ms: u64) -> Source {
        let now = START + Duration::from_millis(after_ms);
        latch.admit(plan, START, Component::Rtp, at(source), now)
    }

    #[test]
    fn without_learning_only_the_sdp_address_may_send() {
        let (mut latch, plan) = (Latch::default(), Plan::towards(at("192.0.2.1:4000")));
        assert_eq!(admit(&mut latch, &plan, "192.0.2.1:4000", 0), Source::Known);
        for other in ["192.0.2.1:4002", "192.0.2.2:4000", "[2001:db8::1]:4000"] {
            assert_eq!(admit(&mut latch, &plan, other, 0), Source::Stranger);
        }
        assert_eq!(latch, Latch::default());
    }

    #[test]
    fn the_first_source_of_the_window_is_pinned_for_good() {
        let (mut latch, plan) = (Latch::default(), learning(None));
        assert_eq!(admit(&mut latch, &plan, "198.51.100.7:1024", 500), Source::Learned);
        assert_eq!(admit(&mut latch, &plan, "198.51.100.7:1024", 900), Source::Known);
        assert_eq!(latch.target(&plan, Component::Rtp), Some(at("198.51.100.7:1024")));
        for thief in ["198.51.100.7:1025", "198.51.100.8:1024", "10.0.0.1:4000"] {
            assert_eq!(admit(&mut latch, &plan, thief, 400), Source::Stranger, "{thief}");
        }
    }

    #[test]
    fn nothing_is_learned_late_or_from_elsewhere_or_from_nobody() {
        let mut latch = Latch::default();
        assert_eq!(admit(&mut latch, &learning(None), "198.51.100.7:1", 501), Source::Stranger);
        let plan = learning(Some("::ffff:198.51.100.7"));
        assert_eq!(admit(&mut latch, &plan, "198.51.100.8:1", 1), Source::Stranger);
        for nobody in ["127.0.0.1:9", "0.0.0.0:9", "224.0.0.1:9", "198.51.100.7:0"] {
            assert_eq!(admit(&mut latch, &learning(None), nobody, 1), Source::Stranger, "{nobody}");
        }
        assert_eq!(latch, Latch::default());
        assert_eq!(admit(&mut latch, &plan, "198.51.100.7:1", 1), Source::Learned);
    }

    #[test]
    fn rtcp_is_learned_from_the_address_of_rtp_only() {
        let (mut latch, mut plan) = (Latch::default(), learning(None));
        assert_eq!(admit(&mut latch, &plan, "198.51.100.7:1024", 0), Source::Learned);
        let mut rtcp =
            |plan: &Plan, source| latch.admit(plan, START, Component::Rtcp, at(source), START);
        assert_eq!(rtcp(&plan, "198.51.100.8:1025"), Source::Stranger);
        assert_eq!(rtcp(&plan, "198.51.100.7:1025"), Source::Learned);
        plan.rtcp_mux = true;
        assert_eq!(rtcp(&plan, "198.51.100.7:1025"), Source::Stranger, "mux has one address");
        assert_eq!(rtcp(&plan, "198.51.100.7:1024"), Source::Known);
        assert_eq!(latch.target(&plan, Component::Rtcp), Some(at("198.51.100.7:1024")));
    }

    #[test]
    fn networks_may_send_but_do_not_move_the_target() {
        let (mut latch, mut plan) = (Latch::default(), Plan::towards(at("192.0.2.1:4000")));
        assert!(plan.sources.push("198.51.100.0/24".parse().unwrap()));
        assert_eq!(admit(&mut latch, &plan, "198.51.100.9:5000", 0), Source::Known);
        assert_eq!(latch.target(&plan, Component::Rtp), Some(at("192.0.2.1:4000")));
    }
}
