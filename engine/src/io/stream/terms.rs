//! What connections are begun with: certificates, whom to expect where, which pages may open WebSockets.
//!
//! The gate makes it of the configuration and of what DNS says, and publishes it to every shard; connections
//! that are up keep what they began with.

use super::tls::Tls;
use super::trunks::Whose;
use super::websocket::Origins;
use crate::config::Config;
use node::Fault;
use rustls::Connection as Session;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The terms of one moment.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    tls: Option<Arc<Tls>>,
    /// Of each interface.
    origins: Arc<[Origins]>,
    /// The names that who is at an address must prove, all of them.
    names: HashMap<SocketAddr, Vec<Box<str>>>,
    /// Which trunks connections are of.
    pub(super) whose: Option<Arc<Whose>>,
}

impl Terms {
    /// Reads the files a configuration names. Endpoints that are host names have no address yet.
    pub(crate) fn load(config: &Config) -> Result<Terms, Fault> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let origins = config.media.iter().map(|m| m.ws_origins.clone()).collect();
        let whose = Some(Arc::new(Whose::new(config.image.clone(), [])));
        let terms = Terms { tls, origins, names: HashMap::new(), whose };
        let fixed = config.tls.iter().flat_map(|tls| tls.names.clone());
        let fixed: Vec<_> = fixed.collect();
        for (_, name) in &fixed {
            server_name(name).map_err(|e| Fault {
                what: format!("`{name}` cannot stand in a certificate: {e}"),
                remedy: String::from("set `tls_name` of the trunk to a host name or an address"),
            })?;
        }
        Ok(terms.expecting(fixed))
    }

    /// The same with other names expected.
    pub(crate) fn expecting(&self, names: impl IntoIterator<Item = (SocketAddr, String)>) -> Terms {
        let mut terms = Terms { names: HashMap::new(), ..self.clone() };
        for (address, name) in names {
            let name = name.to_ascii_lowercase().into_boxed_str();
            let expected = terms.names.entry(address).or_default();
            if !expected.contains(&name) {
                expected.push(name);
            }
        }
        terms
    }

    /// The same with connections of these trunks.
    pub(crate) fn of(self, whose: Whose) -> Terms {
        Terms { whose: Some(Arc::new(whose)), ..self }
    }

    /// When our certificate and the roots we believe are no longer valid, seconds since 1970.
    pub(crate) fn expiry(&self) -> (Option<i64>, Option<i64>) {
        self.tls.as_ref().map_or((None, None), |tls| (tls.certificate_expiry, tls.ca_expiry))
    }

    /// Whether TLS is spoken at all.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A session with somebody who connected.
    pub(super) fn accept(&self) -> Option<Session> {
        self.tls.as_ref()?.accept().ok()
    }

    /// A session with somebody we dial.
    pub(super) fn dial(&self, to: SocketAddr) -> io::Result<Session> {
        let tls = self.tls.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let name = server_name(&self.host(to)).map_err(io::Error::other)?;
        tls.dial(name).map_err(io::Error::other)
    }

    /// The name of who is at an address: what is expected there, or the address.
    pub(super) fn host(&self, to: SocketAddr) -> String {
        self.expected(to).first().map_or_else(|| to.ip().to_string(), |name| name.to_string())
    }

    /// The names to be proved by who is at an address.
    pub(super) fn expected(&self, to: SocketAddr) -> &[Box<str>] {
        self.names.get(&to).map_or(&[], Vec::as_slice)
    }

    /// Pages that may open WebSockets to an interface.
    pub(super) fn origins(&self, interface: u16) -> Origins {
        self.origins.get(usize::from(interface)).cloned().unwrap_or_default()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(name.to_owned()),
    }
}
