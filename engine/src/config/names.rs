//! Small texts a configuration is made of: addresses, host names, digits, header names.

use base::Prefix;
use routing_trie::Digits;
use sbc::policy::{Source, Target, Transport};
use sbc::question::{MAX_HOST, Query, Service};
use std::net::{IpAddr, SocketAddr};

pub(super) fn name(text: &str) -> Option<Box<str>> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ((1..=63).contains(&text.len()) && text.bytes().all(good)).then(|| text.into())
}

pub(super) const NAME: &str = "1 to 63 letters, digits, `-`, `_` or `.`";

pub(super) fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(base::address::canonical)
}

pub(super) fn socket(text: &str) -> Option<SocketAddr> {
    let socket = text.parse::<SocketAddr>().ok().filter(|s| s.port() != 0)?;
    Some(base::address::canonical_socket(socket))
}

pub(super) fn digits(text: &str) -> Option<Digits> {
    text.parse().ok()
}

/// `ip:port`, `ip`, `host:port` or, where the transport is found by name (RFC 3263 4.1), `host`.
pub(super) fn target(text: &str, transport: Transport) -> Option<Target> {
    if let Some(socket) = socket(text) {
        return Some(Target::Address(socket));
    }
    if let Some(ip) = ip(text) {
        return Some(Target::Address(SocketAddr::new(ip, transport.default_port())));
    }
    let (host, service) = match text.split_once(':') {
        Some((host, port)) => (host, Service::Port(port.parse().ok().filter(|p| *p != 0)?)),
        None => (text, Service::of(transport)),
    };
    host_name(host).map(|host| Target::Name(Query { host, service }))
}

/// A source as written.
pub(super) enum Written {
    Source(Source),
    /// A host name: its addresses.
    Name(Query),
}

/// `ip:port`, `ip`, `ip/bits` or `host`.
pub(super) fn source(text: &str) -> Option<Written> {
    if let Some(socket) = socket(text) {
        let prefix = Prefix::host(socket.ip());
        return Some(Written::Source(Source { prefix, port: Some(socket.port()) }));
    }
    if let Ok(prefix) = text.parse() {
        return Some(Written::Source(Source { prefix, port: None }));
    }
    // Which port matters to nobody: its addresses are all that is asked for.
    host_name(text).map(|host| Written::Name(Query::port(&host, 5060)))
}

/// A DNS name (RFC 1123 section 2.1): its last label is no number, or a mistyped address would pass.
pub(super) fn host_name(text: &str) -> Option<Box<str>> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let last_is_number = || text.rsplit('.').next().is_none_or(|l| l.parse::<u64>().is_ok());
    let good = text.len() <= MAX_HOST && text.split('.').all(label) && !last_is_number();
    good.then(|| text.to_ascii_lowercase().into())
}

/// A domain of a Request-URI: a host name or an address.
pub(super) fn domain(text: &str) -> Option<Box<str>> {
    host_name(text).or_else(|| ip(text).map(|ip| ip.to_string().into()))
}

/// A header name (a token of RFC 3261 section 25.1), in lower case.
pub(super) fn header(text: &str) -> Option<Box<[u8]>> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    let good = (1..=64).contains(&text.len()) && text.bytes().all(token);
    good.then(|| text.to_ascii_lowercase().into_bytes().into())
}

/// First and last port of `12000-32000`.
pub(super) fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_address_is_no_host_name() {
        for bad in ["192.0.2.300", "192.0.2.1:99999", "192.0.2.1:0", "1", "a..b", "-a.b", "a b", ""]
        {
            assert_eq!(target(bad, Transport::Udp), None, "{bad}");
        }
        let address = |text: &str| Some(Target::Address(text.parse().unwrap()));
        let named = |service| {
            let host = "sip.carrier.example".into();
            Some(Target::Name(Query { host, service }))
        };
        let target_of = target;
        let target = |text: &str| target_of(text, Transport::Udp);
        assert_eq!(target("SIP.carrier.example"), named(Service::Udp));
        assert_eq!(target("sip.carrier.example:5070"), named(Service::Port(5070)));
        assert_eq!(target_of("sip.carrier.example", Transport::Tcp), named(Service::Tcp));
        assert_eq!(target_of("sip.carrier.example", Transport::Tls), named(Service::Tls));
        assert_eq!(target_of("sip.carrier.example", Transport::Wss), named(Service::Port(443)));
        assert_eq!(target_of("192.0.2.1", Transport::Tls), address("192.0.2.1:5061"));
        assert_eq!(target("192.0.2.1"), address("192.0.2.1:5060"));
        assert_eq!(target("2001:db8::1"), address("[2001:db8::1]:5060"));
        assert_eq!(target("[2001:db8::1]:5070"), address("[2001:db8::1]:5070"));
    }

    #[test]
    fn sources_are_networks_or_single_ports() {
        let of = |text: &str| match source(text)? {
            Written::Source(s) => Some((s.prefix.to_string(), s.port)),
            Written::Name(query) => Some((query.host.into(), None)),
        };
        assert_eq!(of("192.0.2.10"), Some(("192.0.2.10/32".into(), None)));
        assert_eq!(of("192.0.2.0/24"), Some(("192.0.2.0/24".into(), None)));
        assert_eq!(of("192.0.2.10:5062"), Some(("192.0.2.10/32".into(), Some(5062))));
        assert_eq!(of("Carrier.example"), Some(("carrier.example".into(), None)));
        assert_eq!(of("192.0.2.300"), None);
    }

    #[test]
    fn ranges_and_headers() {
        assert_eq!(port_range("12000-32000"), Some((12_000, 32_000)));
        assert_eq!(port_range("12000"), None);
        assert_eq!(port_range("12000-99999"), None);
        assert_eq!(header("X-Account"), Some(b"x-account".as_slice().into()));
        assert_eq!(header("X Account"), None);
    }
}
