//! DTLS-SRTP (RFC 5763, RFC 5764): how two legs' ends agree upon SRTP keys in the media path.
//!
//! Signalling says who begins and what the peer's certificate hashes to ([`Terms`], RFC 8122, RFC 8842); an
//! [`Association`] shakes hands. Handshakes are done in a lane of their own, a few steps a turn (`lane.rs`),
//! so that however many begin at once no packet of an established flow waits for them. The protocol itself
//! is a library's (`library.rs`, and `rsa.rs` where that was built in); it draws its own randomness, so the
//! simulator brings a scripted twin.

mod fingerprint;
mod flight;
mod keying;
mod lane;
mod library;
#[cfg(feature = "dtls-openssl")]
mod rsa;

pub use fingerprint::{Fingerprint, Hash};
pub(crate) use keying::Keying;
pub use keying::PATIENCE;
pub(crate) use lane::Lane;
pub use lane::MOST_IN_ALL;
pub use library::{Identity, Library, NoIdentity};

use crate::srtp::Keys;
use base::Instant;
use std::sync::Arc;

/// Which side begins (RFC 4145, RFC 8842 §5.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// We do: the client.
    Active,
    /// The peer does: we are the server.
    Passive,
}
base::plain!(
    enum Role {
        Active = 0,
        Passive = 1,
    }
);

/// What a certificate of ours has for a key.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// ECDSA on P-256, which everything of the last ten years has.
    #[default]
    Ecdsa,
    /// RSA, for peers that have nothing else.
    Rsa,
}
base::plain!(
    enum Certificate {
        Ecdsa = 0,
        Rsa = 1,
    }
);

/// Whether associations under an RSA certificate were built in: the feature `dtls-openssl`.
pub const HAS_RSA: bool = cfg!(feature = "dtls-openssl");

/// What shakes hands under a new RSA certificate; none where it was not built in.
pub fn rsa() -> Result<Arc<dyn Provider>, NoIdentity> {
    #[cfg(feature = "dtls-openssl")]
    return rsa::OpenSsl::new().map(|openssl| Arc::new(openssl) as Arc<dyn Provider>);
    #[cfg(not(feature = "dtls-openssl"))]
    Err(NoIdentity)
}

/// What signalling agreed upon. Other terms are another association.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Our side.
    pub role: Role,
    /// What the peer's certificate hashes to.
    pub fingerprint: Fingerprint,
    /// The peer's name for the association, hashed (`a=tls-id`, RFC 8842 §4); 0 without one.
    pub tls_id: u64,
    /// The certificate we told the peer of: [`Provider::certificate`].
    pub ours: u64,
}
base::plain!(struct Terms { role, fingerprint, tls_id, ours });

/// Makes associations: the library in a node, a scripted twin in the simulator.
pub trait Provider: Send + Sync {
    /// What our certificate has for a key.
    fn kind(&self) -> Certificate {
        Certificate::Ecdsa
    }
    /// The SHA-256 of our certificate.
    fn fingerprint(&self) -> [u8; 32];
    /// A new association, which has sent nothing yet.
    fn begin(&self, role: Role, now: Instant) -> Box<dyn Association>;

    /// A short name of our certificate.
    fn certificate(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Shakes hands with itself. What a library gathers for a thread's first random numbers takes tens of
/// milliseconds once, and the flows of a shard would wait for it at its first handshake. True when both sides
/// came to their keys.
pub fn warm_up(provider: &dyn Provider, now: Instant) -> bool {
    let mut sides = [Role::Active, Role::Passive].map(|role| (provider.begin(role, now), false));
    let (mut room, mut flight) = (vec![0; 8_192], Vec::new());
    // As many flights as a handshake has, and one of the cookie's each way.
    for turn in 0..8 {
        let Some((side, has_keys)) = sides.get_mut(turn % 2) else { return false };
        let mut heard = core::mem::take(&mut flight).into_iter();
        let taken = heard.try_for_each(|bytes: Vec<u8>| side.receive(now, &bytes));
        if taken.and_then(|()| side.advance(now)).is_err() {
            return false;
        }
        loop {
            match side.next(&mut room) {
                Event::Send(bytes) => flight.push(bytes.to_vec()),
                Event::Keys(_) => *has_keys = true,
                Event::Certificate(_) | Event::Other => {}
                Event::Fail(_) => return false,
                Event::Wait(_) => break,
            }
        }
    }
    sides.iter().all(|(_, has_keys)| *has_keys)
}

/// One association with a peer.
pub trait Association: Send {
    /// Takes in a datagram of the peer's.
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failure>;
    /// Lets time pass: the first time it begins.
    fn advance(&mut self, now: Instant) -> Result<(), Failure>;
    /// What comes of it, one after the other until [`Event::Wait`]. Bytes are put into `room`.
    fn next<'a>(&mut self, room: &'a mut [u8]) -> Event<'a>;
}

/// What an association wants.
#[derive(Debug)]
pub enum Event<'a> {
    /// To send this to the peer.
    Send(&'a [u8]),
    /// To have the peer's certificate judged (DER), before there are keys.
    Certificate(&'a [u8]),
    /// To hand out the keys both sides have now.
    Keys(Box<Keys>),
    /// Nothing that concerns us, and perhaps more behind it.
    Other,
    /// To end: it has failed.
    Fail(Failure),
    /// Nothing before the peer sends something, or this time has come.
    Wait(Option<Instant>),
}

base::cases! {
    /// Why a handshake failed.
    pub enum Failure {
        /// The peer's certificate is not the one its description promised (RFC 5763 §5).
        Fingerprint = "fingerprint",
        /// The peer did not answer in time.
        Timeout = "timeout",
        /// Nothing common: no version, cipher or group, or the peer's certificate is of another kind.
        Protocol = "protocol",
        /// The peer agreed to no SRTP profile (RFC 5764 §4.1).
        NoProfile = "no_profile",
        /// The library failed in a way it never should.
        Defect = "defect",
        /// It was under way when the process ended, whose certificate the peer expects.
        Restart = "restart",
    }
}
