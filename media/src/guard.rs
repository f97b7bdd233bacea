//! Between a leg and the relay: what the leg protects is opened, what is sent to it is sealed.
//!
//! A leg whose plan asks for protection is never heard or sent to without.

use crate::demux::Class;
use crate::dtls::{Keying, Terms};
use crate::end::End;
use crate::plan::{Carries, Plan, Security};
use crate::srtp::{Keys, Shield, ShieldRecord};
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
    /// SRTP, with keys or soon: a DTLS handshake is waited for, under way, or just over.
    Keying(Box<Keying>),
    /// T.38, which is neither RTP nor protected.
    Fax,
}

impl Guard {
    /// Whether packets pass as they are.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Guard::Open)
    }

    /// Whether it is T.38 that passes.
    pub(crate) fn is_fax(&self) -> bool {
        matches!(self, Guard::Fax)
    }

    fn shield(&mut self) -> Result<&mut Shield, Discard> {
        match self {
            Guard::Sealed(shield) => Ok(shield),
            Guard::Keying(keying) => keying.shield_mut().ok_or(Discard::NoKeys),
            Guard::Open | Guard::Closed | Guard::Fax => Err(Discard::NoKeys),
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
            Class::Rtp | Class::Stun | Class::Dtls | Class::Keepalive | Class::Refused(_) => {
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
        match self {
            Guard::Open | Guard::Sealed(_) => true,
            Guard::Keying(keying) => keying.shield().is_some(),
            Guard::Closed | Guard::Fax => false,
        }
    }

    /// Protects an RTCP packet of our own that stands at the end of a text, from `at` on; it is taken away
    /// where that cannot be done.
    pub(crate) fn seal_rtcp_text(&mut self, text: &mut Vec<u8>, at: usize) {
        let shield = match self {
            Guard::Open => return,
            Guard::Sealed(shield) => Some(&mut **shield),
            Guard::Keying(keying) => keying.shield_mut(),
            Guard::Closed | Guard::Fax => None,
        };
        match shield {
            Some(shield) => shield.seal_rtcp_text(text, at),
            None => text.truncate(at),
        }
    }

    /// Protects an RTP packet of our own that stands at the end of a text, from `at` on.
    pub(crate) fn seal_text(&self, text: &mut Vec<u8>, at: usize, id: (u32, u64)) {
        let shield = match self {
            Guard::Sealed(shield) => Some(&**shield),
            Guard::Keying(keying) => keying.shield(),
            Guard::Open | Guard::Closed | Guard::Fax => None,
        };
        if let Some(shield) = shield {
            shield.seal_text(text, at, id);
        }
    }

    pub(crate) fn freeze(&self) -> Option<Box<ShieldRecord>> {
        let shield = match self {
            Guard::Sealed(shield) => Some(&**shield),
            Guard::Keying(keying) => keying.shield(),
            Guard::Open | Guard::Closed | Guard::Fax => None,
        };
        shield.map(|shield| Box::new(shield.freeze()))
    }

    /// The guard of a frozen endpoint. A handshake can't be frozen, its keys can: an endpoint that had none
    /// yet begins anew.
    pub(crate) fn thaw(
        plan: Option<&Plan>,
        shield: Option<Box<ShieldRecord>>,
        now: Instant,
    ) -> Guard {
        let sealed = |record: ShieldRecord| {
            let shield = Shield::thaw(record);
            shield.map_or(Guard::Closed, |shield| Guard::Sealed(Box::new(shield)))
        };
        if plan.is_some_and(|plan| plan.carries == Carries::Fax) {
            return Guard::Fax;
        }
        match (plan.map(|plan| &plan.security), shield) {
            (None | Some(Security::None), _) => Guard::Open,
            (Some(Security::Keys(_)), None) => Guard::Closed,
            (Some(Security::Keys(_) | Security::Dtls(_)), Some(record)) => sealed(*record),
            (Some(Security::Dtls(terms)), None) => Guard::keying(**terms, None, now),
        }
    }

    fn keying(terms: Terms, shield: Option<Shield>, now: Instant) -> Guard {
        Guard::Keying(Box::new(Keying::new(terms, shield, now)))
    }

    /// The keys in force; what is left has none.
    fn take_shield(&mut self) -> Option<Shield> {
        match core::mem::replace(self, Guard::Closed) {
            Guard::Sealed(shield) => Some(*shield),
            Guard::Keying(keying) => keying.into_shield(),
            Guard::Open | Guard::Closed | Guard::Fax => None,
        }
    }
}

impl End {
    /// Protects the leg as a new plan asks. Keys that stay go on where they are.
    pub(crate) fn protect(&mut self, plan: &Plan, now: Instant) {
        if plan.carries == Carries::Fax {
            self.guard = Guard::Fax;
            return;
        }
        let security = &plan.security;
        match security {
            Security::None => self.guard = Guard::Open,
            Security::Keys(keys) => self.protect_with((**keys).clone(), now),
            Security::Dtls(terms) => {
                let is_same = self.plan.as_ref().is_some_and(|plan| plan.security == *security);
                if !is_same || matches!(self.guard, Guard::Open | Guard::Closed | Guard::Fax) {
                    // The keys before, if any, are good until the handshake has agreed upon others.
                    let shield = self.guard.take_shield();
                    self.guard = Guard::keying(**terms, shield, now);
                }
            }
        }
    }

    fn protect_with(&mut self, keys: Keys, now: Instant) {
        let shield = match self.guard.take_shield() {
            Some(mut shield) => {
                if shield.rekey(keys, now) == Some(true)
                    && let Some(egress) = &mut self.egress
                {
                    egress.rekey();
                }
                Some(shield)
            }
            None => Shield::new(keys),
        };
        self.guard = shield.map_or(Guard::Closed, |shield| Guard::Sealed(Box::new(shield)));
    }
}
