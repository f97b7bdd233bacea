//! Notices: what signalling should know about an endpoint. Media never decides about a call.

use crate::EndKey;
use crate::dtls::Failure;
use crate::dtmf::Pressed;
use crate::sample::Sample;
use base::Instant;
use std::net::SocketAddr;

/// Something signalling may want to act on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Neither RTP nor RTCP was heard from this leg for its plan's `inactivity`. Told once per
    /// silence; signalling decides what hold and the other direction make of it.
    Silent {
        /// The endpoint facing the leg.
        end: EndKey,
        /// When it was last heard, or when its plan was programmed, whichever is later.
        since: Instant,
    },
    /// The leg's address was learned and differs from its SDP: RTP goes to `to` from now on, and the
    /// endpoint's record should be frozen again.
    Latched {
        /// The endpoint facing the leg.
        end: EndKey,
        /// Where it sends from.
        to: SocketAddr,
    },
    /// Another window of what the leg sent was rated.
    Sampled(Sample),
    /// The leg's keys were agreed upon by DTLS and are in force: its record should be frozen again.
    Secured {
        /// The endpoint facing the leg.
        end: EndKey,
    },
    /// The leg has no keys. Its certificate is not the one it promised; or no handshake came to its end
    /// for half a minute, which is told again after as long.
    Unsecured {
        /// The endpoint facing the leg.
        end: EndKey,
        /// Why the last one failed.
        why: Failure,
    },
    /// The leg pressed a key and let go of it.
    Pressed {
        /// The endpoint facing the leg.
        end: EndKey,
        /// Which key, and for how long.
        pressed: Pressed,
    },
}
