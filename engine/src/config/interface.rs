//! `[[interface]]`: a local address with its SIP listener and its media ports.
//!
//! The address goes into Via, Contact and session descriptions, so it must be a real one: a wildcard
//! is refused. What collides with other interfaces is found in `check`.

use super::names;
use super::read::{At, Report, Section};
use super::report::Problem;
use base::Allow;
use base::address::Denied;
use sbc::policy::{Face, Interface, StreamListener, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Keys of listeners for streams.
pub(super) const STREAM_KEYS: [(&str, Transport); 4] = [
    ("tcp_port", Transport::Tcp),
    ("tls_port", Transport::Tls),
    ("ws_port", Transport::Ws),
    ("wss_port", Transport::Wss),
];

/// Fewest media ports of an interface: four calls.
const FEWEST_PORTS: u16 = 16;

/// Media ports and socket options of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPorts {
    /// Address media is bound to.
    pub ip: IpAddr,
    /// First port, even.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Device every socket of the interface is bound to.
    pub device: Option<String>,
    /// Listeners for streams, in the order of the image's, on the address of the one for UDP.
    pub streams: Vec<(Transport, u16)>,
    /// Pages whose WebSockets are accepted; `*` for every one.
    pub ws_origins: Arc<[Box<str>]>,
    /// Differentiated services code point of SIP.
    pub dscp_sip: u8,
    /// Differentiated services code point of RTP and RTCP.
    pub dscp_rtp: u8,
    /// Seconds of silence after which the kernel asks whether a connection's far end still lives; 0 never.
    pub tcp_keepalive_s: u16,
}

impl MediaPorts {
    /// Pairs of an even port and the odd one after it.
    pub fn pairs(&self) -> u32 {
        (u32::from(self.last) + 1 - u32::from(self.first)) / 2
    }
}

/// An interface as written.
pub(super) struct Draft {
    pub(super) name: Option<At<Box<str>>>,
    pub(super) bind: Option<At<SocketAddr>>,
    pub(super) advertise: Option<At<IpAddr>>,
    pub(super) media_ip: Option<At<IpAddr>>,
    pub(super) ports: Option<At<(u16, u16)>>,
    /// The ports it listens at for streams.
    pub(super) streams: Vec<(Transport, At<u16>)>,
    ws_origins: Vec<At<Box<str>>>,
    pub(super) device: Option<String>,
    pub(super) allow: Allow,
    dscp_sip: u8,
    dscp_rtp: u8,
    tcp_keepalive_s: u16,
    pub(super) trusted: bool,
    stun_server: bool,
}

impl Draft {
    pub(super) fn read(mut section: Section<'_>, report: &mut Report) -> Draft {
        let s = &mut section;
        let address = "an address, like \"192.0.2.1\"";
        let bind_what = "the address and port of the SIP listener, like \"192.0.2.1:5060\"";
        let draft = Draft {
            name: s.parsed(report, "name", names::NAME, names::name),
            bind: s.parsed(report, "bind", bind_what, names::socket),
            advertise: s.parsed(report, "advertise", address, names::ip),
            media_ip: s.parsed(report, "media_ip", address, names::ip),
            ports: s.parsed(
                report,
                "media_ports",
                "the first and last port, like \"12000-32000\"",
                names::port_range,
            ),
            streams: stream_ports(s, report),
            ws_origins: s
                .parsed_list(
                    report,
                    "ws_origins",
                    "an origin like \"https://phone.example\", or \"*\"",
                    origin,
                )
                .unwrap_or_default(),
            device: s
                .parsed(report, "device", "a network device, 1 to 15 characters", device)
                .map(|d| d.value),
            allow: allow(s, report),
            dscp_sip: s.number(report, "dscp_sip", 0..=63, 24),
            dscp_rtp: s.number(report, "dscp_rtp", 0..=63, 46),
            tcp_keepalive_s: s.number(report, "tcp_keepalive_s", 0..=7_200, 60),
            trusted: s.flag(report, "trusted", false),
            stun_server: s.flag(report, "stun_server", false),
        };
        if draft.name.is_none() {
            section.missing(report, "name", "a name trunks refer to", "\"outside\"");
        }
        if draft.bind.is_none() {
            section.missing(report, "bind", bind_what, "\"192.0.2.1:5060\"");
        }
        if draft.ports.is_none() {
            section.missing(report, "media_ports", "ports for RTP", "\"12000-32000\"");
        }
        section.finish(report);
        draft.check(report);
        draft
    }

    fn check(&self, report: &mut Report) {
        let ip_of_bind = self.bind.clone().map(|b| b.map(|socket| socket.ip()));
        let addresses =
            [("bind", &ip_of_bind), ("advertise", &self.advertise), ("media_ip", &self.media_ip)];
        for (key, ip) in addresses {
            let Some(ip) = ip else { continue };
            self.check_address(key, ip, report);
            if let Some(bind) = &self.bind
                && bind.value.is_ipv4() != ip.value.is_ipv4()
            {
                let (own, bound) = (family(ip.value), family(bind.value.ip()));
                let message = format!("`{key}` is {own}, but `bind` is {bound}");
                let problem = Problem::new(ip.span.clone(), message);
                let problem = problem.expected(format!("an {bound} address, as `bind` has"));
                report.push(problem.help("use one interface per address family"));
            }
        }
        if let (Some(bind), Some(media), None) = (&self.bind, &self.media_ip, &self.advertise)
            && bind.value.ip() != media.value
        {
            let message = "`media_ip` differs from `bind`, and nothing says what peers are told";
            let problem = Problem::new(media.span.clone(), message)
                .expected("an `advertise` address that leads to both");
            report.push(problem.help("set advertise, or use the address of bind for media"));
        }
        self.check_ports(report);
    }

    fn check_address(&self, key: &str, ip: &At<IpAddr>, report: &mut Report) {
        let Err(denied) = base::address::check(ip.value, self.allow) else { return };
        let message = format!("`{key}` cannot be {}", ip.value);
        let problem = Problem::new(ip.span.clone(), message);
        report.push(match denied {
            Denied::Unspecified => problem
                .expected(match key {
                    "advertise" => "the address that leads to this machine",
                    _ => "one address of this machine",
                })
                .help("the address goes into SIP and SDP, so it must be one that peers can reach"),
            Denied::Loopback => problem
                .expected("an address peers can reach")
                .help("for an example or a test on one machine, add allow = [\"loopback\"]"),
            Denied::LinkLocal | Denied::Multicast | Denied::Broadcast | Denied::Reserved => problem
                .expected("a unicast address of this machine")
                .help(format!("this one is {}", denied.name().replace('_', "-"))),
        });
    }

    fn check_ports(&self, report: &mut Report) {
        let Some(ports) = &self.ports else { return };
        let (first, last) = ports.value;
        let found = format!("`media_ports` cannot be \"{first}-{last}\"");
        let problem = Problem::new(ports.span.clone(), found);
        if last < first {
            let help = format!("write \"{last}-{first}\"");
            report.push(problem.expected("the lower port first").help(help));
        } else if first < 1024 {
            let problem = problem.expected("ports from 1024 on");
            report.push(problem.help("lower ports belong to other services"));
        } else if first % 2 == 1 {
            let help = "RTP takes an even port and RTCP the one after it (RFC 3550 section 11)";
            let problem = problem.expected(format!("an even first port, like {}", first + 1));
            report.push(problem.help(help));
        } else if last - first < FEWEST_PORTS - 1 {
            let problem = problem.expected(format!("at least {FEWEST_PORTS} ports"));
            report.push(problem.help("a call needs four: RTP and RTCP on each side"));
        }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|n| *n.value == *name)
    }

    /// The address SIP is bound to.
    pub(super) fn sip_address(&self) -> Option<IpAddr> {
        self.bind.as_ref().map(|b| b.value.ip())
    }

    /// The address media is bound to.
    pub(super) fn media_address(&self) -> Option<IpAddr> {
        let bind = self.bind.as_ref().map(|b| b.value.ip());
        self.media_ip.as_ref().map(|m| m.value).or(bind)
    }

    /// What the shards know of it.
    pub(super) fn compile(&self) -> Option<Interface> {
        let sip = self.bind.as_ref()?.value;
        let advertise = self.advertise.as_ref().map_or(sip.ip(), |a| a.value);
        Some(Interface {
            name: self.name.as_ref()?.value.clone(),
            sip,
            advertise,
            sent_by: SocketAddr::new(advertise, sip.port()).to_string().into(),
            allow_loopback: self.allow.loopback,
            stun_server: self.stun_server,
            trusted: self.trusted,
        })
    }

    /// Its listeners for streams; `place` is its own among the interfaces.
    pub(super) fn listeners(&self, place: u16) -> impl Iterator<Item = StreamListener> {
        let advertise = self.compile().map(|interface| interface.advertise);
        self.streams.iter().zip(advertise.into_iter().cycle()).map(
            move |((transport, port), ip)| {
                let sent_by = SocketAddr::new(ip, port.value).to_string().into();
                StreamListener { interface: place, face: Face { transport: *transport, sent_by } }
            },
        )
    }

    /// What is bound for it.
    pub(super) fn media(&self) -> Option<MediaPorts> {
        let (first, last) = self.ports.as_ref()?.value;
        Some(MediaPorts {
            ip: self.media_address()?,
            first,
            last,
            device: self.device.clone(),
            streams: self.streams.iter().map(|(transport, p)| (*transport, p.value)).collect(),
            ws_origins: self.ws_origins.iter().map(|o| o.value.clone()).collect(),
            dscp_sip: self.dscp_sip,
            dscp_rtp: self.dscp_rtp,
            tcp_keepalive_s: self.tcp_keepalive_s,
        })
    }
}

fn stream_ports(s: &mut Section<'_>, report: &mut Report) -> Vec<(Transport, At<u16>)> {
    let mut found = Vec::new();
    for (key, transport) in STREAM_KEYS {
        let port = s.optional_number(report, key, 1..=65_535);
        found.extend(port.map(|port| (transport, port)));
    }
    found
}

/// An origin as browsers write it (RFC 6454 6.2), or every one.
fn origin(text: &str) -> Option<Box<str>> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |r: &str| !r.is_empty() && r.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    (text == "*" || rest.is_some_and(is_host)).then(|| text.to_ascii_lowercase().into())
}

pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn device(text: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    ((1..=15).contains(&text.len()) && text.bytes().all(good)).then(|| text.into())
}

fn allow(section: &mut Section<'_>, report: &mut Report) -> Allow {
    let what = "\"loopback\", the only thing that can be allowed";
    let known = |text: &str| (text == "loopback").then_some(());
    let listed = section.parsed_list(report, "allow", what, known);
    match listed {
        Some(listed) if !listed.is_empty() => Allow { loopback: true, link_local: false },
        _ => Allow::default(),
    }
}
