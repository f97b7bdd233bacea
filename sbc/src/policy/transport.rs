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
    /// A WebSocket (RFC 7118).
    Ws,
    /// A WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Every transport, datagrams first.
    pub const ALL: [Transport; 5] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// As a Via header spells it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// As configuration and metrics spell it.
    pub fn param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// As the `transport` parameter of a URI spells it: of WebSockets there is one (RFC 7118 5.2.4).
    pub fn uri_param(self) -> &'static str {
        if self.is_websocket() { "ws" } else { self.param() }
    }

    /// Whether its messages come in WebSockets.
    pub fn is_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }

    /// Whether TLS is below it.
    pub fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Whether it is a stream: nothing is lost or repeated while its connection lives.
    pub fn is_stream(self) -> bool {
        self != Transport::Udp
    }

    /// The port where none is written (RFC 3261 19.1.2, RFC 7118 5.2.4).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
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
        Ws = 3,
        Wss = 4,
    }
);
