//! What shards tell the gate: the material of its read model, of lists, status and `top`.

use crate::Text;
use std::net::SocketAddr;
use std::sync::Arc;

/// Names a call: home, place and generation on its shard, unique until the node's next boot epoch.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CallId {
    /// Home of the call.
    pub home: u8,
    /// Place in its shard's table.
    pub index: u32,
    /// Generation of that place.
    pub generation: u32,
}

impl CallId {
    /// As printed: `7f-12a-3` (hexadecimal home, place, generation).
    pub fn parse(text: &str) -> Option<CallId> {
        let mut parts = text.splitn(3, '-');
        Some(CallId {
            home: u8::from_str_radix(parts.next()?, 16).ok()?,
            index: u32::from_str_radix(parts.next()?, 16).ok()?,
            generation: u32::from_str_radix(parts.next()?, 16).ok()?,
        })
    }
}

impl core::fmt::Display for CallId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}-{:x}-{:x}", self.home, self.index, self.generation)
    }
}

/// Where a call stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    /// A question is open: a name, later credit.
    Deciding,
    /// An INVITE is out on a route, nothing heard yet.
    Trying,
    /// The callee is ringing or sends early media.
    Ringing,
    /// Answered.
    Answered,
    /// Ended; the CDR is written.
    Ended,
}

impl CallState {
    /// The word shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            CallState::Deciding => "deciding",
            CallState::Trying => "trying",
            CallState::Ringing => "ringing",
            CallState::Answered => "answered",
            CallState::Ended => "ended",
        }
    }
}

/// A call as lists show it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct CallView {
    /// Which call.
    pub id: CallId,
    /// Where it stands.
    pub state: CallState,
    /// Calling number.
    pub from: Text<32>,
    /// Called number, as received.
    pub to: Text<32>,
    /// Index of the ingress trunk in the configuration.
    pub trunk_in: u16,
    /// Index of the egress trunk now tried or answered.
    pub trunk_out: Option<u16>,
    /// Wall time of the INVITE, ns since the epoch.
    pub setup_at: u64,
    /// Wall time of the answer, ns since the epoch.
    pub answer_at: Option<u64>,
    /// Time from INVITE to the first ringing or answer (RFC 6076 SRD), ms.
    pub pdd_ms: Option<u32>,
    /// Final SIP status towards the caller; 0 while there is none.
    pub status: u16,
    /// Refusal or release reason by name; empty while there is none.
    pub reason: Text<32>,
    /// Mean opinion score heard by caller and callee, in hundredths; set at the end.
    pub mos_centi: [Option<u16>; 2],
    /// Packets relayed from caller and from callee; set at the end.
    pub packets: [u64; 2],
    /// Its media goes from one side to the other, past us.
    pub released: bool,
}

/// How an attempt at a trunk ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was answered.
    Answered,
    /// The callee was reached: busy, away, declined, or gave no answer while it rang (E.425).
    Reached,
    /// Anything else.
    Failed,
}

/// An attempt that is over: the material of what is known about a trunk's quality.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Attempted {
    /// Index of the trunk it was made at.
    pub trunk: u16,
    /// The called number, international.
    pub number: Text<32>,
    /// How it ended.
    pub ended: Ended,
    /// Time from its INVITE to ringing or answer (RFC 6076 SRD), ms.
    pub pdd_ms: Option<u32>,
    /// Answered time, ms.
    pub duration_ms: u64,
    /// Mean opinion score of what the callee sent, in hundredths.
    pub mos_centi: Option<u16>,
}

/// A key that somebody pressed in a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which call.
    pub id: CallId,
    /// Whether the caller pressed it, or the callee did.
    pub is_callers: bool,
    /// `0` to `9`, `*`, `#`, `A` to `D`; `!` is a flash of the hook.
    pub digit: char,
    /// For how long, in milliseconds.
    pub duration_ms: u32,
}

/// A window of some seconds of what one side of a call sent, rated (G.107).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Which call.
    pub id: CallId,
    /// Whether the caller sent it, or the callee did.
    pub is_callers: bool,
    /// Index of the trunk it came by.
    pub trunk: u16,
    /// Packets that should have come.
    pub expected: u32,
    /// Of these, those that did not.
    pub lost: u32,
    /// Interarrival jitter, microseconds.
    pub jitter_us: u32,
    /// Round trip, microseconds, where RTCP measured one.
    pub rtt_us: Option<u32>,
    /// Rating factor, thousandths.
    pub r_milli: u32,
    /// Mean opinion score, hundredths.
    pub mos_centi: u16,
    /// The lowest of the call so far.
    pub mos_least_centi: u16,
    /// The average of the call so far.
    pub mos_mean_centi: u16,
}

/// What is known of an endpoint that is asked whether it is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Calls are sent to it.
    Up,
    /// It does not answer: calls are kept from it.
    Down,
    /// It is not asked any more.
    Gone,
}

impl EndpointState {
    /// The word shown to operators.
    pub fn name(self) -> &'static str {
        match self {
            EndpointState::Up => "up",
            EndpointState::Down => "down",
            EndpointState::Gone => "gone",
        }
    }
}

/// An endpoint of a trunk has answered OPTIONS, or has not.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of the trunk.
    pub trunk: u16,
    /// Its address.
    pub endpoint: SocketAddr,
    /// What is known of it by now.
    pub state: EndpointState,
    /// What it answered; `None` when it did not.
    pub status: Option<u16>,
    /// How long that took, microseconds.
    pub answered_us: Option<u32>,
}

/// A packet of media that a leg of a captured call sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Which call.
    pub id: CallId,
    /// Whether the caller sent it, or another leg did.
    pub is_callers: bool,
    /// Wall time of the turn it was received in, ns since the epoch.
    pub at: u64,
    /// Where it came from.
    pub source: SocketAddr,
    /// The bound address of the port it arrived on.
    pub to: SocketAddr,
    /// The UDP payload, without its protection.
    pub payload: Box<[u8]>,
}

/// What happened on a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A call was created or changed its state.
    Call(CallView),
    /// A question for the gate.
    Asked {
        /// As `sbc::question::Question` is written.
        question: Text<255>,
    },
    /// A call was decided, or refused: why, as a sealed record of the decision.
    Why {
        /// Which call.
        id: CallId,
        /// The record.
        record: Arc<[u8]>,
    },
    /// An attempt at a trunk is over.
    Attempted(Attempted),
    /// A key was pressed in a call whose trunk has digits told.
    Pressed(Key),
    /// A window of what a side of a call sent was rated.
    Sampled(Sampled),
    /// An endpoint was asked whether it is there.
    Endpoint(Endpoint),
    /// A packet of a call that is captured.
    Captured(Box<Captured>),
    /// A call is captured no more.
    Uncaptured {
        /// Which call.
        id: CallId,
        /// Packets that its legs sent meanwhile, whether there was room for them or not.
        packets: u64,
    },
    /// The answer to `Command::Resync` is complete.
    Synced,
    /// The shard holds no call any more and takes none.
    Drained,
}
