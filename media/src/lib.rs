//! The media relay, sans-IO. It has never heard of SIP.
//!
//! Signalling reserves an endpoint per leg, programs it with a [`Plan`], joins two of them, and hears
//! [`Notice`]s. Per packet there is [`Media::receive`] and its [`Verdict`]; start reading in
//! `relay.rs`. Bytes, time and addresses come in as values; what leaves is pushed into an output
//! argument.

mod bursts;
mod counters;
pub mod demux;
pub mod dtls;
mod dtmf;
mod egress;
mod end;
mod extended;
mod freeze;
mod guard;
mod keys;
pub mod latch;
mod list;
mod media;
pub mod notice;
mod originate;
pub mod plan;
pub mod port;
pub mod quality;
pub mod reception;
mod relay;
mod report;
pub mod rtcp;
pub mod rtp;
pub mod sample;
mod secrets;
pub mod srtp;
mod stun;
mod sweep;
pub mod tap;
mod translate;
mod udptl;
pub mod verdict;
mod window;

pub use counters::Counters;
pub use dtmf::{Digit, Events, Pressed};
pub use end::{Local, Report};
pub use extended::Voip;
pub use freeze::{CannotThaw, EndRecord};
pub use list::List;
pub use media::{Media, MediaPort};
pub use notice::Notice;
pub use originate::Frame;
pub use plan::{Carries, Learn, MAX_CLOCK_RATES, MAX_SOURCES, Plan, Reports, Security};
pub use port::{NoPort, QUARANTINE, SHORTEST_QUARANTINE};
pub use reception::Reception;
pub use rtcp::Block;
pub use sample::{Band, Sample};
pub use stun::Ice;
pub use verdict::{Discard, Verdict};

/// A media endpoint facing one leg: an RTP and an RTCP port.
pub type EndKey = base::Key;
