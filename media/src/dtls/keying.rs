//! One leg whose keys come out of a DTLS handshake: what waits for its turn, and how far it is. A leg whose
//! RTCP has a port of its own has two.

use super::flight::{Flight, Kept};
use super::{Association, Failure, Role, Terms};
use crate::demux::Component;
use crate::end::End;
use crate::latch::Source;
use crate::plan::Learn;
use crate::srtp::Shield;
use crate::verdict::Discard;
use base::Instant;
use core::time::Duration;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// The most datagrams of a leg that wait: more than a flight of any peer has.
pub(super) const MOST_WAITING: usize = 8;
/// How long keys may take before signalling is told; it is told again after as long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long our last flight is kept for a peer that did not hear it: twice the longest life of a segment
/// (RFC 6347 §4.2.4).
pub(super) const LINGER: Duration = Duration::from_secs(240);
/// When we begin again after a handshake of ours that failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// A leg that shakes hands, or did so lately.
pub(crate) struct Keying {
    /// Between which ports.
    pub(super) component: Component,
    pub(super) terms: Terms,
    /// The keys in force: of this handshake, or until then those before it.
    pub(super) shield: Option<Shield>,
    /// The handshake, once it has begun.
    pub(super) association: Option<Box<dyn Association>>,
    /// Our last flight, once there are keys and it was the last of all.
    pub(super) flight: Option<Flight>,
    /// Datagrams of the peer's whose turn comes.
    pub(super) waiting: VecDeque<Box<[u8]>>,
    /// Where the last of them came from, and whether that is yet to be learned.
    pub(super) source: Option<(SocketAddr, Source)>,
    /// The peer's certificate is the one its description promised.
    pub(super) is_certified: bool,
    /// The keys in force are of this handshake.
    pub(super) is_agreed: bool,
    /// When something is to be done if nothing comes.
    pub(super) due: Option<Instant>,
    /// When signalling is told that there are no keys, or when nothing but the keys is kept.
    pub(super) until: Instant,
    /// Why the last attempt failed.
    pub(super) failed: Option<Failure>,
    /// The deadline that was noted last.
    pub(super) timed: Option<Instant>,
    /// It is listed among those whose turn comes.
    pub(super) is_listed: bool,
}

impl Keying {
    /// Nothing has begun; `shield` has the keys before, if any. Of RTCP we begin when RTP has its keys.
    pub(crate) fn new(
        component: Component,
        terms: Terms,
        shield: Option<Shield>,
        now: Instant,
    ) -> Keying {
        Keying {
            component,
            terms,
            shield,
            association: None,
            flight: None,
            waiting: VecDeque::new(),
            source: None,
            is_certified: false,
            is_agreed: false,
            due: (component == Component::Rtp && terms.role == Role::Active).then_some(now),
            until: now + PATIENCE,
            failed: None,
            timed: None,
            is_listed: false,
        }
    }

    pub(crate) fn component(&self) -> Component {
        self.component
    }

    /// Whether the keys in force are those that were to be agreed upon.
    pub(crate) fn has_agreed(&self) -> bool {
        self.is_agreed
    }

    /// The keys in force.
    pub(crate) fn shield(&self) -> Option<&Shield> {
        self.shield.as_ref()
    }

    /// The same, to be used.
    pub(crate) fn shield_mut(&mut self) -> Option<&mut Shield> {
        self.shield.as_mut()
    }

    /// The keys, where the rest is not needed any more.
    pub(crate) fn into_shield(self) -> Option<Shield> {
        self.shield
    }

    /// The peer has a while more, if there are no keys yet.
    pub(crate) fn wait(&mut self, now: Instant) {
        if !self.is_agreed {
            self.until = now + PATIENCE;
        }
    }

    /// There are keys: of the rest goes what nobody needs any more.
    pub(super) fn keep(&mut self, kept: Kept) {
        match kept {
            Kept::Association => return,
            Kept::Flight(flight) => self.flight = Some(flight),
            Kept::Nothing => {}
        }
        (self.association, self.due) = (None, None);
    }

    /// When its turn is even if the peer sends nothing.
    pub(super) fn deadline(&self) -> Instant {
        self.due.map_or(self.until, |due| due.min(self.until))
    }

    /// Forgets a handshake that came to nothing. We begin again after a while if it is for us to begin.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.association = None;
        self.is_certified = false;
        self.due = (self.terms.role == Role::Active).then_some(now + PAUSE);
    }
}

impl End {
    /// Whether a datagram of DTLS may be taken in: it is for a port with a handshake, and from where the leg is
    /// known to be (RFC 5763 §6.7.1 leaves it open; who may come first here could be anybody).
    #[cold]
    #[inline(never)]
    pub(crate) fn admit_dtls(
        &mut self,
        component: Component,
        source: SocketAddr,
        now: Instant,
    ) -> Result<(), Discard> {
        let plan = self.plan.as_ref().ok_or(Discard::NoPlan)?;
        let keying = self.guard.keying(component).ok_or(Discard::Dtls)?;
        let judged = self.latch.judge(plan, self.programmed, component, source, now);
        let is_valid = match judged {
            Source::Known => true,
            Source::Learned => matches!(plan.learn, Learn::First { same_ip: Some(_), .. }),
            Source::Stranger => false,
        };
        if !is_valid {
            return Err(Discard::WrongSource);
        }
        keying.source = Some((source, judged));
        Ok(())
    }

    /// Where a handshake is sent: to where the peer's last datagram came from, else where its component goes.
    /// With ICE there is no such place before the peer has nominated one.
    pub(super) fn dtls_target(&self, keying: &Keying) -> Option<SocketAddr> {
        let plan = self.plan.as_ref()?;
        let target = || match plan.ice {
            Some(_) => self.latch.pinned(keying.component),
            None => self.latch.target(plan, keying.component),
        };
        keying.source.map(|(source, _)| source).or_else(target)
    }
}
