//! Between a leg and the relay: what the leg protects is opened, what is sent to it is sealed.
//!
//! A leg whose plan asks for protection is never heard or sent to without.

use crate::demux::Class;
use crate::end::End;
use crate::plan::{Plan, Security};
use crate::srtp::{Shield, ShieldRecord};
use crate::verdict::Discard;
use base::{Bytes, Instant, Pool};

/// The state of a leg's protection.
pub(crate) enum Guard {
    /// The plan asks for none.
    Open,
    /// The plan asks for it and there are no keys: nothing passes.
    Closed,
    /// SRTP, with keys.
    Sealed(Box<Shield>),
}

impl Guard {
    /// Whether packets pass as they are.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Guard::Open)
    }

    fn shield(&mut self) -> Result<&mut Shield, Discard> {
        match self {
            Guard::Sealed(shield) => Ok(shield),
            Guard::Open | Guard::Closed => Err(Discard::NoKeys),
        }
    }

    /// Opens a packet of the leg: what it protected. Kept out of the way of legs without protection.
    #[cold]
    #[inline(never)]
    pub(crate) fn open<'a>(
        &mut self,
        class: Class,
        packet: &'a mut [u8],
        now: Instant,
    ) -> Result<&'a mut [u8], Discard> {
        let shield = self.shield()?;
        let len = match class {
            Class::Rtcp => shield.open_rtcp(packet, now)?,
            Class::Rtp | Class::Stun | Class::Keepalive | Class::Refused(_) => {
                shield.open_rtp(packet, now)?
            }
        };
        packet.get_mut(..len).ok_or(Discard::Short)
    }

    /// Protects an RTP packet of our own stream for the leg; the range it takes then.
    pub(crate) fn seal_rtp(
        &mut self,
        pool: &mut Pool,
        bytes: Bytes,
        id: (u32, u64),
    ) -> Result<Bytes, Discard> {
        if self.is_open() { Ok(bytes) } else { self.shield()?.seal_rtp(pool, bytes, id) }
    }

    /// Protects an RTCP packet for the leg; the range it takes then.
    pub(crate) fn seal_rtcp(&mut self, pool: &mut Pool, bytes: Bytes) -> Result<Bytes, Discard> {
        if self.is_open() { Ok(bytes) } else { self.shield()?.seal_rtcp(pool, bytes) }
    }

    /// Whether packets may leave: none wait for keys.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self, Guard::Closed)
    }

    /// Protects an RTCP packet of our own that stands at the end of a text, from `at` on; it is taken away
    /// where that cannot be done.
    pub(crate) fn seal_rtcp_text(&mut self, text: &mut Vec<u8>, at: usize) {
        match self {
            Guard::Open => {}
            Guard::Closed => text.truncate(at),
            Guard::Sealed(shield) => shield.seal_rtcp_text(text, at),
        }
    }

    /// Protects an RTP packet of our own that stands at the end of a text, from `at` on.
    pub(crate) fn seal_text(&self, text: &mut Vec<u8>, at: usize, id: (u32, u64)) {
        if let Guard::Sealed(shield) = self {
            shield.seal_text(text, at, id);
        }
    }

    pub(crate) fn freeze(&self) -> Option<Box<ShieldRecord>> {
        match self {
            Guard::Sealed(shield) => Some(Box::new(shield.freeze())),
            Guard::Open | Guard::Closed => None,
        }
    }

    /// The guard of a frozen endpoint.
    pub(crate) fn thaw(plan: Option<&Plan>, shield: Option<Box<ShieldRecord>>) -> Guard {
        match (plan.map(|plan| &plan.security), shield) {
            (None | Some(Security::None), _) => Guard::Open,
            (Some(Security::Keys(_)), None) => Guard::Closed,
            (Some(Security::Keys(_)), Some(record)) => Shield::thaw(*record)
                .map_or(Guard::Closed, |shield| Guard::Sealed(Box::new(shield))),
        }
    }
}

impl End {
    /// Protects the leg as a new plan asks. Keys that stay go on where they are.
    pub(crate) fn protect(&mut self, security: &Security, now: Instant) {
        let Security::Keys(keys) = security else {
            self.guard = Guard::Open;
            return;
        };
        if let Guard::Sealed(shield) = &mut self.guard {
            if shield.rekey((**keys).clone(), now) == Some(true)
                && let Some(egress) = &mut self.egress
            {
                egress.rekey();
            }
            return;
        }
        let shield = Shield::new((**keys).clone());
        self.guard = shield.map_or(Guard::Closed, |shield| Guard::Sealed(Box::new(shield)));
    }
}
