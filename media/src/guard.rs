//! Between a leg and the relay: what the leg protects is opened, what is sent to it is sealed.
//!
//! A leg whose plan asks for protection is never heard or sent to without.

use crate::demux::{Class, Component};
use crate::dtls::{Keying, Terms};
use crate::end::End;
use crate::plan::{Carries, Plan, Security};
use crate::srtp::{Keys, Shield, ShieldRecord};
use crate::verdict::Discard;
use base::{Bytes, Instant, Pool};

/// A leg's protection.
#[derive(Default)]
pub(crate) struct Guard {
    /// That of its RTP, and of RTCP under the same keys.
    rtp: State,
    /// That of its RTCP, where a handshake of its own goes over a port of its own: the keys of a handshake are
    /// for what passes between the two ports it went between (RFC 5764 §4.2).
    rtcp: Option<Box<State>>,
}

/// The state of a protection.
#[derive(Default)]
enum State {
    /// The plan asks for none.
    #[default]
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

impl State {
    fn shield(&self) -> Option<&Shield> {
        match self {
            State::Sealed(shield) => Some(shield),
            State::Keying(keying) => keying.shield(),
            State::Open | State::Closed | State::Fax => None,
        }
    }

    fn shield_mut(&mut self) -> Option<&mut Shield> {
        match self {
            State::Sealed(shield) => Some(shield),
            State::Keying(keying) => keying.shield_mut(),
            State::Open | State::Closed | State::Fax => None,
        }
    }

    /// The keys in force; what is left has none.
    fn take_shield(&mut self) -> Option<Shield> {
        match core::mem::replace(self, State::Closed) {
            State::Sealed(shield) => Some(*shield),
            State::Keying(keying) => keying.into_shield(),
            State::Open | State::Closed | State::Fax => None,
        }
    }

    fn sealed(shield: Option<Shield>) -> State {
        shield.map_or(State::Closed, |shield| State::Sealed(Box::new(shield)))
    }

    /// Waits for a handshake on these terms, but where they are those before. The keys before, if any, are
    /// good until it has agreed upon others.
    fn agree(&mut self, component: Component, terms: Terms, is_same: bool, now: Instant) {
        if !is_same || matches!(self, State::Open | State::Closed | State::Fax) {
            let shield = self.take_shield();
            *self = State::Keying(Box::new(Keying::new(component, terms, shield, now)));
        }
    }
}

impl Guard {
    fn of(&self, component: Component) -> &State {
        match (component, &self.rtcp) {
            (Component::Rtcp, Some(rtcp)) => rtcp,
            (Component::Rtcp, None) | (Component::Rtp, _) => &self.rtp,
        }
    }

    fn of_mut(&mut self, component: Component) -> &mut State {
        match (component, &mut self.rtcp) {
            (Component::Rtcp, Some(rtcp)) => rtcp,
            (Component::Rtcp, None) | (Component::Rtp, _) => &mut self.rtp,
        }
    }

    /// Whether packets pass as they are.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.rtp, State::Open)
    }

    /// Whether it is T.38 that passes.
    pub(crate) fn is_fax(&self) -> bool {
        matches!(self.rtp, State::Fax)
    }

    fn shield(&mut self, component: Component) -> Result<&mut Shield, Discard> {
        self.of_mut(component).shield_mut().ok_or(Discard::NoKeys)
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
        let len = match class {
            Class::Rtcp => self.shield(Component::Rtcp)?.open_rtcp(packet, now)?,
            Class::Rtp | Class::Stun | Class::Dtls | Class::Keepalive | Class::Refused(_) => {
                self.shield(Component::Rtp)?.open_rtp(packet, now)?
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
        if self.is_open() {
            return Ok(bytes);
        }
        self.shield(Component::Rtp)?.seal_rtp(pool, bytes, id)
    }

    /// Protects an RTCP packet for the leg; the range it takes then.
    pub(crate) fn seal_rtcp(&mut self, pool: &mut Pool, bytes: Bytes) -> Result<Bytes, Discard> {
        if self.is_open() {
            return Ok(bytes);
        }
        self.shield(Component::Rtcp)?.seal_rtcp(pool, bytes)
    }

    /// Whether packets of a component may leave: none wait for keys.
    pub(crate) fn is_ready(&self, component: Component) -> bool {
        let state = self.of(component);
        matches!(state, State::Open) || state.shield().is_some()
    }

    /// Whether the leg has RTCP, or will: not where its own handshake came to nothing.
    pub(crate) fn has_rtcp(&self) -> bool {
        !matches!(self.rtcp.as_deref(), Some(State::Closed))
    }

    /// Protects an RTCP packet of our own that stands at the end of a text, from `at` on; it is taken away
    /// where that cannot be done.
    pub(crate) fn seal_rtcp_text(&mut self, text: &mut Vec<u8>, at: usize) {
        if self.is_open() {
            return;
        }
        match self.of_mut(Component::Rtcp).shield_mut() {
            Some(shield) => shield.seal_rtcp_text(text, at),
            None => text.truncate(at),
        }
    }

    /// Protects an RTP packet of our own that stands at the end of a text, from `at` on.
    pub(crate) fn seal_text(&self, text: &mut Vec<u8>, at: usize, id: (u32, u64)) {
        if let Some(shield) = self.rtp.shield() {
            shield.seal_text(text, at, id);
        }
    }

    /// The keys of a component that has its own.
    pub(crate) fn freeze(&self, component: Component) -> Option<Box<ShieldRecord>> {
        let state = match component {
            Component::Rtp => Some(&self.rtp),
            Component::Rtcp => self.rtcp.as_deref(),
        };
        state?.shield().map(|shield| Box::new(shield.freeze()))
    }

    /// The guard of a frozen endpoint, of the keys of its RTP and of those its RTCP has for itself. A
    /// handshake can't be frozen, its keys can: a component that had none yet begins anew.
    pub(crate) fn thaw(
        plan: Option<&Plan>,
        [rtp, rtcp]: [Option<Box<ShieldRecord>>; 2],
        now: Instant,
    ) -> Guard {
        let Some(plan) = plan else { return Guard::default() };
        let sealed = |record: Option<Box<ShieldRecord>>| {
            State::sealed(record.and_then(|record| Shield::thaw(*record)))
        };
        let mut guard = Guard { rtp: sealed(rtp), rtcp: Some(Box::new(sealed(rtcp))) };
        match &plan.security {
            _ if plan.carries == Carries::Fax => return State::Fax.into(),
            Security::None => return Guard::default(),
            Security::Keys(_) => guard.rtcp = None,
            Security::Dtls(terms) => guard.agree(**terms, true, plan.rtcp_mux, now),
        }
        guard
    }

    /// Waits for handshakes on these terms, where they are not those before: one, or one for each port.
    fn agree(&mut self, terms: Terms, is_same: bool, rtcp_mux: bool, now: Instant) {
        self.rtp.agree(Component::Rtp, terms, is_same, now);
        if rtcp_mux {
            self.rtcp = None;
        } else {
            let rtcp = self.rtcp.get_or_insert_with(|| Box::new(State::Closed));
            rtcp.agree(Component::Rtcp, terms, is_same, now);
        }
    }

    /// The handshake of a component, if it has one.
    pub(crate) fn keying(&mut self, component: Component) -> Option<&mut Keying> {
        match (component, &mut self.rtp, self.rtcp.as_deref_mut()) {
            (Component::Rtp, State::Keying(keying), _)
            | (Component::Rtcp, _, Some(State::Keying(keying))) => Some(keying),
            (Component::Rtp | Component::Rtcp, ..) => None,
        }
    }

    /// Takes the handshake of a component out; it is to be given back, or its keys.
    pub(crate) fn take_keying(&mut self, component: Component) -> Option<Box<Keying>> {
        self.keying(component)?;
        match core::mem::replace(self.of_mut(component), State::Closed) {
            State::Keying(keying) => Some(keying),
            State::Open | State::Closed | State::Sealed(_) | State::Fax => None,
        }
    }

    /// Gives the handshake of a component back.
    pub(crate) fn give_back(&mut self, keying: Box<Keying>) {
        let component = keying.component();
        *self.of_mut(component) = State::Keying(keying);
    }

    /// The handshake of a component is over: its keys stay.
    pub(crate) fn conclude(&mut self, keying: Keying) {
        let component = keying.component();
        *self.of_mut(component) = State::sealed(keying.into_shield());
    }

    /// RTP has its keys: for those of RTCP the peer has so long from now on.
    pub(crate) fn wait_for_rtcp(&mut self, now: Instant) {
        if let Some(keying) = self.keying(Component::Rtcp) {
            keying.wait(now);
        }
    }

    /// Whether RTP has the keys of the terms in force.
    pub(crate) fn has_agreed(&self) -> bool {
        match &self.rtp {
            State::Sealed(_) => true,
            State::Keying(keying) => keying.has_agreed(),
            State::Open | State::Closed | State::Fax => false,
        }
    }
}

impl From<State> for Guard {
    fn from(rtp: State) -> Guard {
        Guard { rtp, rtcp: None }
    }
}

impl End {
    /// Protects the leg as a new plan asks. Keys that stay go on where they are.
    pub(crate) fn protect(&mut self, plan: &Plan, now: Instant) {
        if plan.carries == Carries::Fax {
            self.guard = State::Fax.into();
            return;
        }
        let security = &plan.security;
        match security {
            Security::None => self.guard = Guard::default(),
            Security::Keys(keys) => self.protect_with((**keys).clone(), now),
            Security::Dtls(terms) => {
                let is_same = self.plan.as_ref().is_some_and(|plan| plan.security == *security);
                self.guard.agree(**terms, is_same, plan.rtcp_mux, now);
            }
        }
    }

    fn protect_with(&mut self, keys: Keys, now: Instant) {
        let shield = match self.guard.rtp.take_shield() {
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
        self.guard = State::sealed(shield).into();
    }
}
