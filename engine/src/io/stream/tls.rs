//! Certificates and TLS sessions (RFC 3261 26.3.1, RFC 5922): TLS 1.3 and 1.2 by rustls.
//!
//! Read from files at start and at every reload; connections that are up keep what they began with.

use super::identity;
use crate::config;
use node::Fault;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, ClientConnection, Connection, RootCertStore};
use rustls::{DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme};
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// What sessions are begun with.
pub(super) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// When ours is no longer valid, seconds since 1970.
    pub(super) certificate_expiry: Option<i64>,
    /// When the first of the roots is no longer valid.
    pub(super) ca_expiry: Option<i64>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(config: &config::Tls) -> Result<Tls, Fault> {
        let provider = aws_lc_rs::default_provider();
        let own = certified(&provider, &config.certificate, &config.key)?;
        let others = config.others.iter().map(|(chain, key)| certified(&provider, chain, key));
        let others = others.collect::<Result<Vec<_>, _>>()?;
        let mut roots = RootCertStore::empty();
        let believed = config.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
        for root in &believed {
            let path = config.ca.as_deref().unwrap_or(Path::new(""));
            roots.add(root.clone()).map_err(|e| unusable("root", path, &e))?;
        }
        let roots = Arc::new(roots);
        let server = ServerConfig::builder();
        let server = if config.verify_clients || config.ask_clients {
            let mut verifier = WebPkiClientVerifier::builder(roots.clone());
            if !config.verify_clients {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|e| {
                unusable("roots", config.ca.as_deref().unwrap_or(Path::new("")), &e)
            })?;
            server.with_client_cert_verifier(verifier)
        } else {
            server.with_no_client_auth()
        };
        let shown = [&own].into_iter().chain(&others).flat_map(|key| key.cert.iter());
        let certificate_expiry = identity::expiry(shown);
        let server = server.with_cert_resolver(Arc::new(Shown::new(own.clone(), others)));
        let peers = Arc::new(Peers { roots, provider });
        let client = ClientConfig::builder().dangerous().with_custom_certificate_verifier(peers);
        let client = client.with_client_cert_resolver(Arc::new(Shown::new(own, Vec::new())));
        Ok(Tls {
            server: Arc::new(server),
            client: Arc::new(client),
            certificate_expiry,
            ca_expiry: identity::expiry(believed.iter()),
        })
    }

    /// A session with somebody who connected.
    pub(super) fn accept(&self) -> Result<Connection, Error> {
        let mut session = ServerConnection::new(self.server.clone())?;
        // The connection's queue is bounded, and a session gets little of it at a time.
        session.set_buffer_limit(None);
        Ok(session.into())
    }

    /// A session with somebody we dial, whose certificate must bear this name.
    pub(super) fn dial(&self, name: ServerName<'static>) -> Result<Connection, Error> {
        let mut session = ClientConnection::new(self.client.clone(), name)?;
        session.set_buffer_limit(None);
        Ok(session.into())
    }
}

/// Draws a thread's first random numbers and keys. What the library gathers for them takes a tenth of a second
/// once, and whatever else the thread does would wait for it at the first handshake.
pub(super) fn warm_up() {
    let provider = aws_lc_rs::default_provider();
    let _drawn = provider.secure_random.fill(&mut [0; 32]);
    for group in &provider.kx_groups {
        let _key = group.start();
    }
}

/// The certificate we show: the one that bears the name asked for (RFC 6066 3), else the first.
#[derive(Debug)]
struct Shown {
    first: Arc<CertifiedKey>,
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Shown {
    fn new(first: Arc<CertifiedKey>, others: Vec<Arc<CertifiedKey>>) -> Shown {
        let mut by_name = HashMap::new();
        for key in [first.clone()].into_iter().chain(others) {
            for name in key.cert.first().into_iter().flat_map(identity::names) {
                by_name.entry(name).or_insert_with(|| key.clone());
            }
        }
        Shown { first, by_name }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let found = asked.and_then(|name| self.by_name.get(name.as_str()));
        Some(found.unwrap_or(&self.first).clone())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.first.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate of ours with its key, which must fit it.
fn certified(
    provider: &CryptoProvider,
    chain: &Path,
    key: &Path,
) -> Result<Arc<CertifiedKey>, Fault> {
    let certificates = certificates(chain)?;
    let read = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable("private key", key, &e))?;
    let misfit = |e: Error| unusable("certificate and key", chain, &e);
    CertifiedKey::from_der(certificates, read, provider).map(Arc::new).map_err(misfit)
}

/// Believes servers whose certificates lead to a root and bear the name, as RFC 5922 7 reads names.
#[derive(Debug)]
struct Peers {
    roots: Arc<RootCertStore>,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = &self.roots;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        let wanted = name.to_str().to_ascii_lowercase();
        match identity::names(certificate).iter().any(|borne| **borne == *wanted) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|e| unusable("certificate", path, &e))?;
    if found.is_empty() {
        return Err(unusable("certificate", path, &"there is none in it"));
    }
    Ok(found)
}

fn unusable(what: &str, path: &Path, error: &dyn Display) -> Fault {
    Fault {
        what: format!("cannot use the {what} in {}: {error}", path.display()),
        remedy: String::from(
            "[tls] wants PEM files that the node's user may read; `openssl x509 -in FILE -text` shows one",
        ),
    }
}
