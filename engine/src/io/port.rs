//! Opening the UDP ports of a shard.
//!
//! Every port is bound before the first call and reused until the process ends. Listeners are shared
//! by all shards; media ports belong to one. A media port has a socket of its own, or all those of an
//! interface share one that receives and one that sends: see [`super::share`]. A port that cannot be
//! opened is the operator's business: the fault names the address and what to do.

use super::share::{self, Flooded, Range, Sharing};
use super::stream::Listener;
use super::sys::{set_option, set_option_bytes};
use base::{PortId, ShardId};
use node::{Fault, PortSpec, Role};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// How long a busy address is tried again: a killed process's ring lets go of its ports late.
const PATIENCE: Duration = Duration::from_secs(6);
/// Receive memory of a listener: a burst of INVITEs while a shard is busy.
const SIGNAL_MEMORY: i32 = 4 << 20;
/// Receive memory of a media port: half a second of video; only a cap, not an allocation.
const MEDIA_MEMORY: i32 = 128 << 10;
/// Receive memory of the socket that all media ports of an interface share: a quarter of a second at
/// 50,000 packets per second.
const SHARED_MEMORY: i32 = 16 << 20;

/// The ports of one shard, in the order of its limits, and the sockets behind them.
pub struct Ports {
    ports: Vec<Port>,
    doors: Vec<Door>,
    /// Places of the doors that many ports stand behind.
    shared: Vec<u32>,
    /// What connections come to, until the driver takes it.
    listeners: Vec<Listener>,
}

/// One port.
pub(crate) struct Port {
    /// Where it is bound, with the number the kernel chose if none was asked for.
    pub(crate) local: SocketAddr,
    /// Whether SIP arrives here.
    pub(crate) signal: bool,
    /// Whether it is a listener for streams: [`super::stream`] knows its connections.
    pub(crate) is_stream: bool,
    /// The door its datagrams leave by.
    pub(crate) leaves_by: u32,
    /// The traffic class of its headers, when we write them: its door is a raw socket.
    pub(crate) writes_headers: Option<u8>,
}

/// One socket.
pub(crate) struct Door {
    socket: Socket,
    pub(crate) behind: Behind,
}

/// What datagrams that arrive at a socket are for.
pub(crate) enum Behind {
    /// A listener, or a media port with a socket of its own.
    One { port: PortId, signal: bool },
    /// The port of ours that each names.
    Many(Shared),
    /// Nothing arrives: it only sends.
    Nobody,
}

/// The ports of one range that belong to this shard.
pub(crate) struct Shared {
    first: u16,
    ports: Vec<Option<PortId>>,
    pub(crate) flooded: Flooded,
}

impl Shared {
    /// The port with this number.
    pub(crate) fn port(&self, number: u16) -> Option<PortId> {
        *self.ports.get(usize::from(number.checked_sub(self.first)?))?
    }
}

impl Door {
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether nothing arrives here.
    pub(crate) fn only_sends(&self) -> bool {
        matches!(self.behind, Behind::Nobody)
    }

    /// Whether SIP arrives here.
    pub(crate) fn is_signal(&self) -> bool {
        matches!(self.behind, Behind::One { signal: true, .. })
    }
}

impl Ports {
    /// Opens every port of `specs`; waits up to six seconds in all for addresses still in use. With
    /// `sharing`, the media ports of this shard share sockets.
    pub fn open(specs: &[PortSpec], sharing: Option<(&Sharing, ShardId)>) -> Result<Ports, Fault> {
        let give_up = Instant::now() + PATIENCE;
        let mut open = Ports {
            ports: Vec::with_capacity(specs.len()),
            doors: Vec::new(),
            shared: Vec::new(),
            listeners: Vec::new(),
        };
        for spec in specs {
            let socket = match spec.role {
                Role::Stream(_) => None,
                Role::Rtp | Role::Rtcp if sharing.is_some() => None,
                Role::Sip | Role::Rtp | Role::Rtcp => {
                    Some(open_patiently(spec, give_up, open_one)?)
                }
            };
            open.add(spec, socket);
            if let Role::Stream(_) = spec.role {
                open.listen(spec).map_err(|e| explain(spec, &e))?;
            }
        }
        let Some((sharing, shard)) = sharing else { return Ok(open) };
        for (number, range) in sharing.ranges().iter().enumerate() {
            let Some(first) = specs.iter().find(|spec| is_in(*range, spec)) else { continue };
            let socket = open_patiently(first, give_up, open_shared)?;
            let flooded = sharing.give(number, shard, socket.as_raw_fd());
            let flooded = flooded.map_err(|e| explain(first, &e))?;
            open.add_shared(*range, first, socket, flooded).map_err(|e| explain(first, &e))?;
        }
        Ok(open)
    }

    fn add(&mut self, spec: &PortSpec, socket: Option<Socket>) {
        let signal = spec.role == Role::Sip;
        let is_media = matches!(spec.role, Role::Rtp | Role::Rtcp);
        let local = socket.as_ref().and_then(|s| s.local_addr().ok()).and_then(|a| a.as_socket());
        let port = PortId(self.ports.len() as u32);
        self.ports.push(Port {
            local: local.unwrap_or(spec.address),
            signal,
            leaves_by: self.doors.len() as u32,
            writes_headers: (is_media && socket.is_none()).then_some(spec.dscp << 2),
            is_stream: matches!(spec.role, Role::Stream(_)),
        });
        if let Some(socket) = socket {
            self.doors.push(Door { socket, behind: Behind::One { port, signal } });
        }
    }

    /// Makes the port just added a listener.
    fn listen(&mut self, spec: &PortSpec) -> io::Result<()> {
        let Some(last) = self.ports.len().checked_sub(1) else { return Ok(()) };
        let listener = Listener::open(PortId(last as u32), spec)?;
        if let (Some(port), Some(local)) = (self.ports.get_mut(last), listener.local()) {
            port.local = local;
        }
        self.listeners.push(listener);
        Ok(())
    }

    /// The listeners, for the driver that is to serve them.
    pub(crate) fn take_listeners(&mut self) -> Vec<Listener> {
        std::mem::take(&mut self.listeners)
    }

    /// Puts the ports of `range` behind `socket`, and a raw one to send from.
    fn add_shared(
        &mut self,
        range: Range,
        first: &PortSpec,
        socket: Socket,
        flooded: Flooded,
    ) -> io::Result<()> {
        let sender = share::sender(range.ip)?;
        sender.set_nonblocking(true)?;
        bind_to_device(&sender, first)?;
        set_network_options(sender.as_raw_fd(), first)?;
        let mut ports = vec![None; usize::from(range.last - range.first) + 1];
        let leaves_by = self.doors.len() as u32 + 1;
        for (port, id) in self.ports.iter_mut().zip(0..) {
            let number = port.local.port();
            if port.writes_headers.is_some()
                && port.local.ip() == range.ip
                && (range.first..=range.last).contains(&number)
            {
                port.leaves_by = leaves_by;
                ports[usize::from(number - range.first)] = Some(PortId(id));
            }
        }
        self.shared.push(self.doors.len() as u32);
        let behind = Behind::Many(Shared { first: range.first, ports, flooded });
        self.doors.push(Door { socket, behind });
        self.doors.push(Door { socket: sender, behind: Behind::Nobody });
        Ok(())
    }

    /// Where a port is bound.
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.get(port).map(|p| p.local)
    }

    pub(crate) fn get(&self, port: PortId) -> Option<&Port> {
        self.ports.get(port.0 as usize)
    }

    /// The sockets, in the order by which [`Port::leaves_by`] counts them.
    pub(crate) fn doors(&self) -> &[Door] {
        &self.doors
    }

    pub(crate) fn door(&self, place: u32) -> Option<&Door> {
        self.doors.get(place as usize)
    }

    /// Whether any media ports share a socket.
    pub(crate) fn is_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Datagrams the kernel dropped since this was last asked because their port was flooded.
    pub(crate) fn flooded(&mut self) -> u64 {
        let mut more = 0;
        for &place in &self.shared {
            if let Some(Behind::Many(shared)) =
                self.doors.get_mut(place as usize).map(|door| &mut door.behind)
            {
                more += shared.flooded.more();
            }
        }
        more
    }
}

fn is_in(range: Range, spec: &PortSpec) -> bool {
    matches!(spec.role, Role::Rtp | Role::Rtcp)
        && spec.address.ip() == range.ip
        && (range.first..=range.last).contains(&spec.address.port())
}

fn open_patiently(
    spec: &PortSpec,
    give_up: Instant,
    open: impl Fn(&PortSpec) -> io::Result<Socket>,
) -> Result<Socket, Fault> {
    loop {
        match open(spec) {
            Ok(socket) => return Ok(socket),
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) => return Err(explain(spec, &e)),
        }
    }
}

fn open_one(spec: &PortSpec) -> io::Result<Socket> {
    let signal = spec.role == Role::Sip;
    open_with(spec, if signal { SIGNAL_MEMORY } else { MEDIA_MEMORY })
}

/// A socket that is told where each datagram was sent to. It is bound to one of the ports itself, so that
/// a second process with the same ports is found out.
fn open_shared(spec: &PortSpec) -> io::Result<Socket> {
    let socket = open_with(spec, SHARED_MEMORY)?;
    let fd = socket.as_raw_fd();
    if spec.address.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVORIGDSTADDR, 1)?;
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVORIGDSTADDR, 1)?;
    }
    Ok(socket)
}

fn open_with(spec: &PortSpec, memory: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(spec.address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    if spec.role == Role::Sip {
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    bind_to_device(&socket, spec)?;
    set_memory(fd, memory)?;
    if spec.address.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    set_network_options(fd, spec)?;
    socket.bind(&spec.address.into())?;
    Ok(socket)
}

pub(super) fn bind_to_device(socket: &Socket, spec: &PortSpec) -> io::Result<()> {
    let Some(device) = &spec.device else { return Ok(()) };
    let name = libc::SO_BINDTODEVICE;
    set_option_bytes(socket.as_raw_fd(), libc::SOL_SOCKET, name, device.as_bytes())
}

/// Asks beyond the system's limit first, which needs CAP_NET_ADMIN, then within it.
fn set_memory(fd: RawFd, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Media never fragments (RFC 8085 section 3.2): a packet beyond the MTU fails with EMSGSIZE. SIP must
/// get through, so it may fragment. Its ICMP errors are heard and counted but not acted upon: they are
/// easily forged, and a route that does not answer is left after `trying_timeout_ms` anyway.
fn set_network_options(fd: RawFd, spec: &PortSpec) -> io::Result<()> {
    let signal = matches!(spec.role, Role::Sip | Role::Stream(_));
    let class = i32::from(spec.dscp) << 2;
    if spec.address.is_ipv6() {
        let level = libc::IPPROTO_IPV6;
        let discover = if signal { libc::IPV6_PMTUDISC_DONT } else { libc::IPV6_PMTUDISC_PROBE };
        set_option(fd, level, libc::IPV6_TCLASS, class)?;
        set_option(fd, level, libc::IPV6_RECVERR, i32::from(signal))?;
        set_option(fd, level, libc::IPV6_MTU_DISCOVER, discover)
    } else {
        let level = libc::IPPROTO_IP;
        let discover = if signal { libc::IP_PMTUDISC_DONT } else { libc::IP_PMTUDISC_PROBE };
        set_option(fd, level, libc::IP_TOS, class)?;
        set_option(fd, level, libc::IP_RECVERR, i32::from(signal))?;
        set_option(fd, level, libc::IP_MTU_DISCOVER, discover)
    }
}

/// What the operator can do about a port that cannot be opened.
fn explain(spec: &PortSpec, error: &io::Error) -> Fault {
    let address = spec.address;
    let device = spec.device.as_deref().unwrap_or("its device");
    let remedy = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "another program holds it: find it with `ss -{}lpn 'sport = :{}'`, stop it or configure another port",
            if matches!(spec.role, Role::Stream(_)) { "t" } else { "u" },
            address.port()
        ),
        Some(libc::EADDRNOTAVAIL) => format!(
            "no interface has the address {}: check `ip address`, or start after the network is up",
            address.ip()
        ),
        Some(libc::EACCES | libc::EPERM) => String::from(
            "ports below 1024 need CAP_NET_BIND_SERVICE, a `device` may need CAP_NET_RAW: add it to the unit's AmbientCapabilities=",
        ),
        Some(libc::EMFILE) => String::from(
            "the process has no descriptors left: raise LimitNOFILE= in the unit (1048576 is sensible) or configure fewer media ports",
        ),
        Some(libc::ENFILE) => {
            String::from("the system has no descriptors left: raise the sysctl fs.file-max")
        }
        Some(libc::ENODEV) => {
            format!("there is no device {device}: check `device` against `ip link`")
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            String::from("the kernel has no memory for sockets: raise the sysctl net.ipv4.udp_mem")
        }
        Some(libc::EAFNOSUPPORT) => {
            String::from("IPv6 is disabled on this machine: enable it or configure IPv4 addresses")
        }
        _ => String::from("check the interface's address and port range in the configuration"),
    };
    let kind = if matches!(spec.role, Role::Stream(_)) { "TCP" } else { "UDP" };
    Fault { what: format!("cannot open {kind} {address}: {error}"), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str, role: Role) -> PortSpec {
        let (address, device) = (address.parse().unwrap(), None);
        PortSpec { address, role, interface: 0, device, dscp: 46, tcp_keepalive_s: 60 }
    }

    #[test]
    fn a_busy_address_is_retried_then_explained() {
        let held = Ports::open(&[spec("127.0.0.1:0", Role::Rtp)], None).unwrap();
        let address = held.local(PortId(0)).unwrap();
        let begun = Instant::now();
        let fault = Ports::open(&[spec(&address.to_string(), Role::Rtp)], None).err().unwrap();
        assert!(begun.elapsed() >= PATIENCE);
        assert!(fault.what.contains(&address.to_string()), "{}", fault.what);
        assert!(fault.remedy.contains(&address.port().to_string()), "{}", fault.remedy);
    }

    #[test]
    fn a_foreign_address_is_explained() {
        let fault = Ports::open(&[spec("192.0.2.77:0", Role::Sip)], None).err().unwrap();
        assert!(fault.remedy.contains("ip address"), "{}", fault.remedy);
    }

    #[test]
    fn a_missing_device_is_explained() {
        let mut wrong = spec("127.0.0.1:0", Role::Sip);
        wrong.device = Some(String::from("nosuchdev0"));
        let fault = Ports::open(&[wrong], None).err().unwrap();
        assert!(
            fault.remedy.contains("nosuchdev0") || fault.remedy.contains("CAP_NET_RAW"),
            "{}",
            fault.remedy
        );
    }
}
