//! SIP transports (RFC 3261 18, RFC 7118) and how a listener stands in what we send.

use base::plain;
use std::sync::Arc;

/// What carries SIP.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS over TCP (RFC 5630).
    Tls,
}

impl Transport {
    /// Every transport, datagrams first.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    /// As a Via header spells it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// As configuration, metrics and URIs spell it.
    pub fn param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// Whether it is a stream: nothing is lost or repeated while its connection lives.
    pub fn is_stream(self) -> bool {
        self != Transport::Udp
    }

    /// The port where none is written (RFC 3261 19.1.2).
    pub fn default_port(self) -> u16 {
        if self == Transport::Tls { 5061 } else { 5060 }
    }
}

/// How a listener stands in Via and Contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Face {
    /// Its transport.
    pub transport: Transport,
    /// `host:port`.
    pub sent_by: Arc<str>,
}

/// A listener for streams; those of datagrams are the interfaces' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamListener {
    /// Index of its interface.
    pub interface: u16,
    /// How it stands in messages; never UDP.
    pub face: Face,
}

plain!(
    enum Transport {
        Udp = 0,
        Tcp = 1,
        Tls = 2,
    }
);
