//! Two relays in a row that agree upon keys by DTLS: they shake hands with each other.

use super::{ALICE, BOB, World, at};
use base::{Instant, PortId, Texts};
use media::dtls::{Certificate, Fingerprint, Hash, Identity, Library, Role, Terms};
use media::{Discard, Media, Notice, Security, Verdict};
use std::net::SocketAddr;
use std::sync::Arc;

/// Alice — plain — near — DTLS — far — plain — Bob. Both worlds know the other as `BOB` and `ALICE`.
pub struct Link {
    pub near: World,
    pub far: World,
    pub texts: Texts,
    pub notices: Vec<Notice>,
    /// What both shake hands under.
    pub certificate: Certificate,
    /// Whether RTCP shares the port.
    pub rtcp_mux: bool,
    /// Nothing arrives on the ports beside those of RTP.
    pub is_deaf: bool,
}

/// Where the RTCP of a leg is.
pub fn beside(leg: &str) -> SocketAddr {
    let rtp = at(leg);
    SocketAddr::new(rtp.ip(), rtp.port() + 1)
}

#[allow(
    clippy::disallowed_methods,
    reason = "one moment on std's clock is what the library counts from"
)]
pub fn library() -> Arc<Library> {
    let origin = (std::time::Instant::now(), Instant(7_000_000_000));
    let identity = Identity::generate().expect("a certificate");
    Arc::new(Library::new(identity, origin).expect("a library"))
}

pub fn terms(role: Role, kind: Certificate, of: &Media, ours: &Media) -> Terms {
    let (_, digest) = of.certificate(kind).expect("DTLS");
    let fingerprint = Fingerprint::new(Hash::Sha256, &digest).expect("of its length");
    Terms { role, fingerprint, tls_id: 0, ours: ours.certificate(kind).expect("DTLS").0 }
}

impl Link {
    pub fn new() -> Link {
        let mut link = Link {
            near: World::new(),
            far: World::new(),
            texts: Texts::default(),
            notices: Vec::new(),
            certificate: Certificate::Ecdsa,
            rtcp_mux: true,
            is_deaf: false,
        };
        for world in [&mut link.near, &mut link.far] {
            world.media.set_dtls(library());
        }
        link
    }

    /// Two relays whose terms fit, `near` in this role.
    pub fn agreed(role: Role) -> Link {
        let mut link = Link::new();
        link.agree(role, 0);
        link
    }

    pub fn agree(&mut self, near: Role, tls_id: u64) {
        let far = match near {
            Role::Active => Role::Passive,
            Role::Passive => Role::Active,
        };
        let (kind, near_media, far_media) = (self.certificate, &self.near.media, &self.far.media);
        let towards_far = Terms { tls_id, ..terms(near, kind, far_media, near_media) };
        let towards_near = Terms { tls_id, ..terms(far, kind, near_media, far_media) };
        let (bob, alice) = (self.near.bob, self.far.alice);
        let near = (Security::Dtls(Box::new(towards_far)), self.rtcp_mux);
        let far = (Security::Dtls(Box::new(towards_near)), self.rtcp_mux);
        self.near.program(bob, |plan| (plan.security, plan.rtcp_mux) = near);
        self.far.program(alice, |plan| (plan.security, plan.rtcp_mux) = far);
    }

    /// Lets both go on until nobody has anything to do now; every datagram that arrives passes `lost`.
    pub fn shake(&mut self, mut lost: impl FnMut(&[u8]) -> bool) {
        loop {
            let mut moved = false;
            for is_near in [true, false] {
                let (from, to) = match is_near {
                    true => (&mut self.near, &mut self.far),
                    false => (&mut self.far, &mut self.near),
                };
                from.media.shake(from.now.mono, &mut self.texts, &mut self.notices);
                from.media.sweep(from.now.mono, &mut self.notices);
                let (end, source, target) =
                    if is_near { (to.alice, ALICE, BOB) } else { (to.bob, BOB, ALICE) };
                for send in &self.texts.sends {
                    moved = true;
                    let bytes = self.texts.get(send.bytes);
                    let is_rtcps = send.port.0 % 2 == 1;
                    assert_eq!(send.to, if is_rtcps { beside(target) } else { at(target) });
                    if lost(bytes) || (is_rtcps && self.is_deaf) {
                        continue;
                    }
                    let source = if is_rtcps { beside(source) } else { at(source) };
                    let port = PortId(2 * end.index + u32::from(is_rtcps));
                    assert_eq!(to.arrive(port, &source.to_string(), bytes), Verdict::Absorb);
                }
                self.texts.clear();
            }
            if !moved && self.near.media.next_sweep().is_none_or(|at| at > self.near.now.mono) {
                return;
            }
        }
    }

    /// The same for a hundred seconds, in which every fourth datagram is lost.
    pub fn shake_with_losses(&mut self) {
        let mut dice = 1u32;
        for _ in 0..100 {
            self.shake(|_| {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (dice >> 16).is_multiple_of(4)
            });
            self.pass(1_000);
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.near.pass(ms);
        self.far.pass(ms);
    }

    /// Alice sends a packet; what reaches Bob.
    pub fn carry(&mut self, packet: &[u8]) -> Result<Vec<u8>, Discard> {
        let alice = self.near.alice;
        match self.near.rtp(alice, ALICE, packet) {
            Verdict::Forward => {}
            Verdict::Discard(reason) => return Err(reason),
            Verdict::Absorb | Verdict::Answer => panic!("RTP goes on or is dropped"),
        }
        let sent = self.near.out.pop().expect("it was forwarded");
        let sealed = self.near.pool.get(sent.bytes).to_vec();
        assert!(!sealed.windows(8).any(|w| w == [0xd5; 8]), "it is hidden");
        let alice = self.far.alice;
        match self.far.rtp(alice, ALICE, &sealed) {
            Verdict::Forward => {
                let sent = self.far.out.pop().expect("it was forwarded");
                Ok(self.far.pool.get(sent.bytes).to_vec())
            }
            Verdict::Discard(reason) => Err(reason),
            Verdict::Absorb | Verdict::Answer => panic!("RTP goes on or is dropped"),
        }
    }

    /// A report of Alice's, or else of Bob's, as it goes from one relay to the other.
    pub fn sealed_report(&mut self, is_alices: bool, report: &[u8]) -> Result<Vec<u8>, Discard> {
        let (end, world, from, to) = match is_alices {
            true => (self.near.alice, &mut self.near, ALICE, BOB),
            false => (self.far.bob, &mut self.far, BOB, ALICE),
        };
        match world.rtcp(end, &beside(from).to_string(), report) {
            Verdict::Forward => {}
            Verdict::Discard(reason) => return Err(reason),
            Verdict::Absorb | Verdict::Answer => panic!("nobody is sent RTCP"),
        }
        let sent = world.out.pop().expect("it was forwarded");
        let is_shared = self.rtcp_mux;
        assert_eq!(sent.port.0 % 2 == 0, is_shared, "from the port of its own, if it has one");
        assert_eq!(sent.to, if is_shared { at(to) } else { beside(to) });
        Ok(world.pool.get(sent.bytes).to_vec())
    }

    /// What the other relay makes of it.
    pub fn opened_report(&mut self, is_alices: bool, sealed: &[u8]) -> Result<Vec<u8>, Discard> {
        let (end, world, from) = match is_alices {
            true => (self.far.alice, &mut self.far, ALICE),
            false => (self.near.bob, &mut self.near, BOB),
        };
        let verdict = match self.rtcp_mux {
            true => world.rtp(end, from, sealed),
            false => world.rtcp(end, &beside(from).to_string(), sealed),
        };
        match verdict {
            Verdict::Forward => {
                let sent = world.out.pop().expect("it was forwarded");
                Ok(world.pool.get(sent.bytes).to_vec())
            }
            Verdict::Discard(reason) => Err(reason),
            Verdict::Absorb | Verdict::Answer => panic!("nobody is sent RTCP"),
        }
    }

    /// Reports go both ways, hidden.
    pub fn exchange_reports(&mut self) -> Result<(), Discard> {
        for is_alices in [true, false] {
            let report = super::report(7, 0, 0);
            let sealed = self.sealed_report(is_alices, &report)?;
            assert_ne!(sealed[8..report.len()], report[8..], "it is hidden");
            // The source is ours, and the clock of the stream; the time of day is as it was.
            assert_eq!(self.opened_report(is_alices, &sealed)?[8..16], report[8..16]);
        }
        Ok(())
    }

    pub fn secured(&mut self) -> usize {
        let is_secured = |notice: &Notice| matches!(notice, Notice::Secured { .. });
        core::mem::take(&mut self.notices).iter().filter(|notice| is_secured(notice)).count()
    }
}
