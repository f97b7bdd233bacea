//! Two relays in a row that agree upon keys by DTLS: they shake hands with each other.

use super::{ALICE, BOB, World, at};
use base::{Instant, Texts};
use media::dtls::{Certificate, Fingerprint, Hash, Identity, Library, Role, Terms};
use media::{Discard, Media, Notice, Security, Verdict};
use std::sync::Arc;

/// Alice — plain — near — DTLS — far — plain — Bob. Both worlds know the other as `BOB` and `ALICE`.
pub struct Link {
    pub near: World,
    pub far: World,
    pub texts: Texts,
    pub notices: Vec<Notice>,
    /// What both shake hands under.
    pub certificate: Certificate,
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
        self.near.program(bob, |plan| plan.security = Security::Dtls(Box::new(towards_far)));
        self.far.program(alice, |plan| plan.security = Security::Dtls(Box::new(towards_near)));
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
                let (end, source) = if is_near { (to.alice, ALICE) } else { (to.bob, BOB) };
                for send in &self.texts.sends {
                    moved = true;
                    let bytes = self.texts.get(send.bytes);
                    assert_eq!(send.to, at(if is_near { BOB } else { ALICE }));
                    if !lost(bytes) {
                        assert_eq!(to.rtp(end, source, bytes), Verdict::Absorb);
                    }
                }
                self.texts.clear();
            }
            if !moved && self.near.media.next_sweep().is_none_or(|at| at > self.near.now.mono) {
                return;
            }
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

    pub fn secured(&mut self) -> usize {
        let is_secured = |notice: &Notice| matches!(notice, Notice::Secured { .. });
        core::mem::take(&mut self.notices).iter().filter(|notice| is_secured(notice)).count()
    }
}
