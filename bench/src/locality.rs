//! Which addresses a load may be sent to: this machine's own, unless the user says otherwise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Remembers which addresses are allowed.
pub(crate) struct Locality {
    anywhere: bool,
    known: HashMap<IpAddr, bool>,
}

impl Locality {
    /// Only this machine, or anywhere.
    pub(crate) fn new(anywhere: bool) -> Self {
        Locality { anywhere, known: HashMap::new() }
    }

    /// May a datagram go there? An address is ours when a socket can be bound to it.
    pub(crate) fn allows(&mut self, to: SocketAddr) -> bool {
        let ours = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
        let usable = !to.ip().is_unspecified() && !to.ip().is_multicast() && to.port() != 0;
        usable && (self.anywhere || *self.known.entry(to.ip()).or_insert_with(|| ours(to.ip())))
    }

    /// Refuses a target with a sentence for the user.
    pub(crate) fn check(&mut self, to: SocketAddr) -> Result<(), String> {
        if self.allows(to) {
            return Ok(());
        }
        Err(format!("{to} is not an address of this machine; --allow-remote if you mean it"))
    }
}

/// The address of ours that a datagram to `to` would leave from, with a free port.
pub(crate) fn facing(to: SocketAddr) -> Result<SocketAddr, String> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let local = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    local
        .map(|address| SocketAddr::new(address.ip(), 0))
        .map_err(|error| format!("no way to {to}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_told() {
        let mut careful = Locality::new(false);
        assert!(careful.allows("127.0.0.1:5060".parse().unwrap()));
        assert!(!careful.allows("192.0.2.7:5060".parse().unwrap()));
        assert!(!careful.allows("0.0.0.0:5060".parse().unwrap()));
        assert!(Locality::new(true).allows("192.0.2.7:5060".parse().unwrap()));
    }
}
