//! Certificates and TLS sessions (RFC 3261 26.3.1, RFC 5922): TLS 1.3 and 1.2 by rustls.
//!
//! Read from files at start and at every reload; connections that are up keep what they began with.

use super::identity;
use crate::config;
use node::Fault;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, ClientConnection, Connection, RootCertStore};
use rustls::{DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme};
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
        let chain = certificates(&config.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&config.key)
            .map_err(|e| unusable("private key", &config.key, &e))?;
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
        let misfit = |e: Error| unusable("certificate and key", &config.certificate, &e);
        let server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(misfit)?;
        let provider = aws_lc_rs::default_provider();
        let peers = Arc::new(Peers { roots, provider });
        let client = ClientConfig::builder().dangerous().with_custom_certificate_verifier(peers);
        let certificate_expiry = identity::expiry(chain.iter());
        let client = client.with_client_auth_cert(chain, key).map_err(misfit)?;
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
