//! Certificates and TLS sessions (RFC 3261 26.3.1, RFC 5922): TLS 1.3 and 1.2 by rustls.
//!
//! Read from files at start and at every reload; connections that are up keep what they began with.

use crate::config;
use node::Fault;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore};
use rustls::{ServerConfig, ServerConnection};
use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// What sessions are begun with.
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    names: HashMap<SocketAddr, ServerName<'static>>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn load(config: &config::Tls) -> Result<Tls, Fault> {
        let chain = certificates(&config.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&config.key)
            .map_err(|e| unusable("private key", &config.key, &e))?;
        let mut roots = RootCertStore::empty();
        for (path, certificate) in config
            .ca
            .iter()
            .map(|ca| Ok((ca, certificates(ca)?)))
            .collect::<Result<Vec<_>, Fault>>()?
        {
            for one in certificate {
                roots.add(one).map_err(|e| unusable("root", path, &e))?;
            }
        }
        let roots = Arc::new(roots);
        let server = ServerConfig::builder();
        let server = if config.verify_clients {
            let verifier = WebPkiClientVerifier::builder(roots.clone()).build();
            let verifier = verifier.map_err(|e| {
                unusable("roots", config.ca.as_deref().unwrap_or(Path::new("")), &e)
            })?;
            server.with_client_cert_verifier(verifier)
        } else {
            server.with_no_client_auth()
        };
        let misfit = |e: rustls::Error| unusable("certificate and key", &config.certificate, &e);
        let server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(misfit)?;
        let client = ClientConfig::builder().with_root_certificates(roots);
        let client = client.with_client_auth_cert(chain, key).map_err(misfit)?;
        let mut names = HashMap::new();
        for (address, name) in &config.names {
            let name = ServerName::try_from(name.clone()).map_err(|e| Fault {
                what: format!("`{name}` cannot stand in a certificate: {e}"),
                remedy: String::from("set `tls_name` of the trunk to a host name or an address"),
            })?;
            names.insert(*address, name);
        }
        Ok(Tls { server: Arc::new(server), client: Arc::new(client), names })
    }

    /// A session with somebody who connected.
    pub(super) fn accept(&self) -> Result<Connection, rustls::Error> {
        let mut session = ServerConnection::new(self.server.clone())?;
        // The connection's queue is bounded, and a session gets one message of it at a time.
        session.set_buffer_limit(None);
        Ok(session.into())
    }

    /// A session with somebody we dial: their certificate must bear the trunk's name, or their address.
    pub(super) fn dial(&self, to: SocketAddr) -> Result<Connection, rustls::Error> {
        let name = self.names.get(&to).cloned();
        let name = name.unwrap_or_else(|| ServerName::from(to.ip()));
        let mut session = ClientConnection::new(self.client.clone(), name)?;
        session.set_buffer_limit(None);
        Ok(session.into())
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
