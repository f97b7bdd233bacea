//! Associations by the `dimpl` library: DTLS 1.2 and, where the peer begins, 1.3.
//!
//! The library takes its time from us, and its randomness from itself: nonces, cookies and keys are drawn
//! inside, as in every crypto library. Of `Instant` it wants the one of std, which is counted from an
//! origin that the driver read.

use super::{Association, Event, Failure, Fingerprint, Provider, Role};
use crate::srtp::{Keys, MasterKey, Suite};
use base::Instant;
use core::fmt;
use core::time::Duration;
use dimpl::{Config, Dtls, DtlsCertificate, Error, Output, SrtpProfile};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of UDP payload that cross every network (RFC 8261 §5 has 1200).
const MTU: usize = 1_200;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate of our own and its key, ECDSA on P-256, made for one life of the process.
pub struct Identity(DtlsCertificate);

/// Why there is no certificate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NoIdentity;

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no certificate could be made")
    }
}

impl Identity {
    /// A new one. The library reads the clock for its dates and draws its key.
    pub fn generate() -> Result<Identity, NoIdentity> {
        dimpl::certificate::generate_self_signed_certificate().map(Identity).map_err(|_| NoIdentity)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.0.private_key.zeroize();
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Associations under one certificate.
pub struct Library {
    identity: Identity,
    fingerprint: [u8; 32],
    config: Arc<Config>,
    clock: Clock,
}

/// What turns our time into std's.
#[derive(Copy, Clone)]
struct Clock {
    origin: (std::time::Instant, Instant),
}

impl Clock {
    fn std(self, now: Instant) -> std::time::Instant {
        self.origin.0 + now.since(self.origin.1)
    }

    fn ours(self, at: std::time::Instant) -> Instant {
        self.origin.1 + at.saturating_duration_since(self.origin.0)
    }
}

impl Library {
    /// Under this certificate; `origin` is one moment on both clocks.
    pub fn new(
        identity: Identity,
        origin: (std::time::Instant, Instant),
    ) -> Result<Library, NoIdentity> {
        let config = Config::builder().mtu(MTU).handshake_timeout(PATIENCE).build();
        let fingerprint = Fingerprint::of(&identity.0.certificate);
        let config = Arc::new(config.map_err(|_| NoIdentity)?);
        Ok(Library { identity, fingerprint, config, clock: Clock { origin } })
    }
}

impl Provider for Library {
    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn begin(&self, role: Role, now: Instant) -> Box<dyn Association> {
        let (config, certificate) = (self.config.clone(), self.identity.0.clone());
        let now = self.clock.std(now);
        let dtls = match role {
            // Every peer that begins says which versions it has; of those that wait 1.2 is certain.
            Role::Passive => Dtls::new_auto(config, certificate, now),
            Role::Active => {
                let mut dtls = Dtls::new_12(config, certificate, now);
                dtls.set_active(true);
                dtls
            }
        };
        Box::new(Shaking { dtls, role, clock: self.clock })
    }
}

/// An association of the library's.
struct Shaking {
    dtls: Dtls,
    role: Role,
    clock: Clock,
}

impl Association for Shaking {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failure> {
        self.advance(now)?;
        contained(|| self.dtls.handle_packet(datagram))?.map_err(named)
    }

    fn advance(&mut self, now: Instant) -> Result<(), Failure> {
        contained(|| self.dtls.handle_timeout(self.clock.std(now)))?.map_err(named)
    }

    fn next<'a>(&mut self, room: &'a mut [u8]) -> Event<'a> {
        let output = match contained(|| self.dtls.poll_output(room)) {
            Ok(output) => output,
            Err(defect) => return Event::Fail(defect),
        };
        match output {
            Output::Packet(bytes) => Event::Send(bytes),
            Output::PeerCert(der) => Event::Certificate(der),
            Output::KeyingMaterial(material, profile) => {
                match suite(profile).and_then(|suite| keys(&material, suite, self.role)) {
                    Some(keys) => Event::Keys(keys),
                    None => Event::Fail(Failure::NoProfile),
                }
            }
            // No certificate of sane size, nor a record of ours.
            Output::BufferTooSmall { .. } => Event::Fail(Failure::Protocol),
            Output::Timeout(at) => Event::Wait(Some(self.clock.ours(at))),
            // The library may tell more in a later version.
            Output::Connected | Output::ApplicationData(_) | Output::CloseNotify | _ => {
                Event::Other
            }
        }
    }
}

/// A panic of the library's ends the handshake that it happened in, which is thrown away, and nothing else.
fn contained<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Failure::Defect)
}

fn named(error: Error) -> Failure {
    if matches!(error, Error::Timeout(_)) { Failure::Timeout } else { Failure::Protocol }
}

fn suite(profile: SrtpProfile) -> Option<Suite> {
    Some(match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1_80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
        _ => return None,
    })
}

/// The keys of both directions: client's key, server's key, client's salt, server's salt (RFC 5764 §4.2).
pub(super) fn keys(material: &[u8], suite: Suite, role: Role) -> Option<Box<Keys>> {
    let (key, salt) = (suite.key_len(), suite.salt_len());
    let part = |side: usize| {
        let mut master = Zeroizing::new(Vec::with_capacity(key + salt));
        master.extend_from_slice(material.get(side * key..(side + 1) * key)?);
        let salts = 2 * key + side * salt;
        master.extend_from_slice(material.get(salts..salts + salt)?);
        MasterKey::new(suite, &master)
    };
    let (client, server) = (part(0)?, part(1)?);
    let (ingress, egress) = match role {
        Role::Active => (server, client),
        Role::Passive => (client, server),
    };
    Some(Box::new(Keys { suite, ingress, egress, mki_len: 0 }))
}
