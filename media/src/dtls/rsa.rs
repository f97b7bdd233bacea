//! Associations under an RSA certificate, by OpenSSL: DTLS 1.2 (RFC 6347) for peers that have nothing else.
//!
//! Sans-IO by a stream that is two queues of datagrams. OpenSSL reads the clock itself to know when a flight
//! is to be sent again, so it is asked a few times a second whether that is so. The peer's certificate is
//! judged where all are: its dates, its issuer and its names mean nothing, what it hashes to everything.

use super::library::keys;
use super::{Association, Certificate, Event, Failure, Fingerprint, NoIdentity, Provider, Role};
use crate::srtp::{Keys, Suite};
use base::Instant;
use core::time::Duration;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rand::rand_bytes;
use openssl::rsa::Rsa;
use openssl::srtp::SrtpProfileId;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode,
    SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509Name};
use std::collections::VecDeque;
use std::io::{Error as IoError, ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use zeroize::Zeroizing;

/// Bytes of UDP payload that cross every network, as in `library.rs`.
const MTU: u32 = 1_200;
/// Bits of our key.
const BITS: u32 = 2_048;
/// The last are for peers that know nothing younger. Our key lives no longer than the process, and what was
/// recorded of such a handshake is safe from then on.
const CIPHERS: &str =
    "ECDHE+AESGCM:ECDHE+AES:DHE+AESGCM:DHE+AES:kRSA+AESGCM:kRSA+AES:!aNULL:!PSK:!SRP";
/// Keys and digests of at least 112 bits: RSA from 2048 bits on.
const SECURITY_LEVEL: u32 = 2;
const PROFILES: &str = "SRTP_AEAD_AES_128_GCM:SRTP_AEAD_AES_256_GCM:SRTP_AES128_CM_SHA1_80";
/// RFC 5764 §4.2.
const LABEL: &str = "EXTRACTOR-dtls_srtp";
/// How often OpenSSL is asked whether a flight is to be sent again: it waits for a second, then for two.
const ASKED: Duration = Duration::from_millis(250);
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a peer without state is to send back (RFC 6347 §4.2.1): drawn for each association.
type Cookie = [u8; 20];

/// Associations under one RSA certificate, made for one life of the process.
pub(super) struct OpenSsl {
    context: SslContext,
    fingerprint: [u8; 32],
    cookie: Index<Ssl, Cookie>,
}

impl OpenSsl {
    pub(super) fn new() -> Result<OpenSsl, NoIdentity> {
        OpenSsl::make().map_err(|_| NoIdentity)
    }

    fn make() -> Result<OpenSsl, ErrorStack> {
        let key = PKey::from_rsa(Rsa::generate(BITS)?)?;
        let certificate = certificate(&key)?;
        let cookie = Ssl::new_ex_index()?;
        let mut context = SslContext::builder(SslMethod::dtls())?;
        context.set_certificate(&certificate)?;
        context.set_private_key(&key)?;
        configure(&mut context, cookie)?;
        let fingerprint = Fingerprint::of(&certificate.to_der()?);
        Ok(OpenSsl { context: context.build(), fingerprint, cookie })
    }

    fn start(&self, role: Role) -> Result<SslStream<Wire>, ErrorStack> {
        let mut ssl = Ssl::new(&self.context)?;
        ssl.set_mtu(MTU)?;
        match role {
            Role::Active => ssl.set_connect_state(),
            Role::Passive => {
                let mut cookie = Cookie::default();
                rand_bytes(&mut cookie)?;
                ssl.set_ex_data(self.cookie, cookie);
                ssl.set_accept_state();
            }
        }
        SslStream::new(ssl, Wire::default())
    }
}

/// Signed by itself; nobody looks at more than its hash.
fn certificate(key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "DTLS-SRTP")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_not_before(&*Asn1Time::from_str("20200101000000Z")?)?;
    certificate.set_not_after(&*Asn1Time::from_str("20491231235959Z")?)?;
    certificate.set_pubkey(key)?;
    certificate.sign(key, MessageDigest::sha256())?;
    Ok(certificate.build())
}

fn configure(
    context: &mut SslContextBuilder,
    cookie: Index<Ssl, Cookie>,
) -> Result<(), ErrorStack> {
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_security_level(SECURITY_LEVEL);
    context.set_cipher_list(CIPHERS)?;
    context.set_tlsext_use_srtp(PROFILES)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_QUERY_MTU
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::COOKIE_EXCHANGE
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    // Both sides show one (RFC 5763 §5). It is compared with the description's when the peer has proved it.
    let both = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    context.set_verify_callback(both, |_, _| true);
    context.set_cookie_generate_cb(move |ssl, room| {
        let cookie = ssl.ex_data(cookie).copied().unwrap_or_default();
        let Some(room) = room.get_mut(..cookie.len()) else { return Ok(0) };
        room.copy_from_slice(&cookie);
        Ok(cookie.len())
    });
    context.set_cookie_verify_cb(move |ssl, shown| {
        ssl.ex_data(cookie).is_some_and(|cookie| openssl_eq(cookie, shown))
    });
    Ok(())
}

fn openssl_eq(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && openssl::memcmp::eq(one, other)
}

impl Provider for OpenSsl {
    fn kind(&self) -> Certificate {
        Certificate::Rsa
    }

    fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn begin(&self, role: Role, now: Instant) -> Box<dyn Association> {
        let (stream, failed) = match self.start(role) {
            Ok(stream) => (Some(stream), None),
            Err(_) => (None, Some(Failure::Defect)),
        };
        let until = now + PATIENCE;
        Box::new(Shaking { stream, role, until, due: None, shown: None, keys: None, failed })
    }
}

/// An association of OpenSSL's.
struct Shaking {
    stream: Option<SslStream<Wire>>,
    role: Role,
    /// When the handshake has taken too long.
    until: Instant,
    /// When OpenSSL is asked again; none once hands are shaken.
    due: Option<Instant>,
    /// The peer's certificate, and then the keys, to be handed out.
    shown: Option<Vec<u8>>,
    keys: Option<Box<Keys>>,
    failed: Option<Failure>,
}

impl Association for Shaking {
    fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Failure> {
        if let Some(stream) = &mut self.stream {
            stream.get_mut().heard = Some(datagram.into());
        }
        self.advance(now)
    }

    fn advance(&mut self, now: Instant) -> Result<(), Failure> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let worked = catch_unwind(AssertUnwindSafe(|| self.go_on(&mut stream, now)));
        // What it has to say to the peer, an alert perhaps, is sent before it is known to have failed.
        self.failed = worked.unwrap_or(Err(Failure::Defect)).err();
        self.stream = Some(stream);
        Ok(())
    }

    fn next<'a>(&mut self, room: &'a mut [u8]) -> Event<'a> {
        let sent = self.stream.as_mut().and_then(|stream| stream.get_mut().said.pop_front());
        if let Some(bytes) = sent {
            return handed(room, &bytes).map_or(Event::Other, Event::Send);
        }
        if let Some(der) = self.shown.take() {
            let handed = handed(room, &der);
            return handed.map_or(Event::Fail(Failure::Protocol), Event::Certificate);
        }
        if let Some(keys) = self.keys.take() {
            return Event::Keys(keys);
        }
        match self.failed.take() {
            Some(why) => Event::Fail(why),
            None => Event::Wait(self.due),
        }
    }
}

impl Shaking {
    fn go_on(&mut self, stream: &mut SslStream<Wire>, now: Instant) -> Result<(), Failure> {
        if !stream.ssl().is_init_finished() {
            match stream.do_handshake() {
                Ok(()) => self.agree(stream)?,
                Err(error) if error.code() != ErrorCode::WANT_READ => {
                    return Err(Failure::Protocol);
                }
                Err(_) if self.until <= now => return Err(Failure::Timeout),
                Err(_) => {
                    self.due = Some(now + ASKED);
                    return Ok(());
                }
            }
        }
        // A flight that the peer repeats is answered by reading; what it says beside is nothing to us.
        self.due = None;
        let mut unread = [0; 64];
        while stream.ssl_read(&mut unread).is_ok() {}
        Ok(())
    }

    /// Both sides have the same secrets now, and the peer has the key of the certificate it showed.
    fn agree(&mut self, stream: &SslStream<Wire>) -> Result<(), Failure> {
        let ssl = stream.ssl();
        let profile = ssl.selected_srtp_profile().ok_or(Failure::NoProfile)?;
        let suite = suite(profile.id()).ok_or(Failure::NoProfile)?;
        let certificate = ssl.peer_certificate().ok_or(Failure::Protocol)?;
        let mut material = Zeroizing::new(vec![0; 2 * (suite.key_len() + suite.salt_len())]);
        ssl.export_keying_material(&mut material, LABEL, None).map_err(|_| Failure::Defect)?;
        self.shown = Some(certificate.to_der().map_err(|_| Failure::Protocol)?);
        self.keys = keys(&material, suite, self.role);
        Ok(())
    }
}

fn suite(profile: SrtpProfileId) -> Option<Suite> {
    Some(match profile {
        SrtpProfileId::SRTP_AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1_80,
        SrtpProfileId::SRTP_AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
        SrtpProfileId::SRTP_AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
        _ => return None,
    })
}

fn handed<'a>(room: &'a mut [u8], bytes: &[u8]) -> Option<&'a [u8]> {
    let room = room.get_mut(..bytes.len())?;
    room.copy_from_slice(bytes);
    Some(room)
}

/// Two queues of datagrams, as OpenSSL sees a socket.
#[derive(Default)]
struct Wire {
    heard: Option<Box<[u8]>>,
    said: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> Result<usize, IoError> {
        let datagram = self.heard.take().ok_or(ErrorKind::WouldBlock)?;
        let len = datagram.len().min(room.len());
        let (Some(room), Some(bytes)) = (room.get_mut(..len), datagram.get(..len)) else {
            return Ok(0);
        };
        room.copy_from_slice(bytes);
        Ok(len)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
        self.said.push_back(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}
