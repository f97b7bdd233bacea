//! Opening the UDP ports of a shard.
//!
//! Every port is bound before the first call and reused until the process ends. Listeners are shared
//! by all shards; media ports belong to one. A port that cannot be opened is the operator's business:
//! the fault names the address and what to do.

use super::sys::{set_option, set_option_bytes};
use base::PortId;
use node::{Fault, PortSpec, Role};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// How long a busy address is tried again: a killed process's ring lets go of its ports late.
const PATIENCE: Duration = Duration::from_secs(3);
/// Receive memory of a listener: a burst of INVITEs while a shard is busy.
const SIGNAL_MEMORY: i32 = 4 << 20;
/// Receive memory of a media port: half a second of video; only a cap, not an allocation.
const MEDIA_MEMORY: i32 = 128 << 10;

/// The bound ports of one shard, in the order of its limits.
pub struct Ports {
    open: Vec<Port>,
}

/// One bound port.
pub(crate) struct Port {
    socket: Socket,
    /// Where it is bound, with the number the kernel chose if none was asked for.
    local: SocketAddr,
    /// Whether SIP arrives here.
    pub(crate) signal: bool,
}

impl Port {
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Ports {
    /// Binds every port of `specs`; waits up to three seconds in all for addresses still in use.
    pub fn open(specs: &[PortSpec]) -> Result<Ports, Fault> {
        let give_up = Instant::now() + PATIENCE;
        let mut open = Vec::with_capacity(specs.len());
        for spec in specs {
            open.push(open_patiently(spec, give_up)?);
        }
        Ok(Ports { open })
    }

    /// Where a port is bound.
    pub fn local(&self, port: PortId) -> Option<SocketAddr> {
        self.open.get(port.0 as usize).map(|p| p.local)
    }

    pub(crate) fn get(&self, port: PortId) -> Option<&Port> {
        self.open.get(port.0 as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PortId, &Port)> {
        (0..).map(PortId).zip(&self.open)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

fn open_patiently(spec: &PortSpec, give_up: Instant) -> Result<Port, Fault> {
    loop {
        match open_one(spec) {
            Ok(port) => return Ok(port),
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) => return Err(explain(spec, &e)),
        }
    }
}

fn open_one(spec: &PortSpec) -> io::Result<Port> {
    let domain = Domain::for_address(spec.address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let signal = spec.role == Role::Sip;
    let fd = socket.as_raw_fd();
    if signal {
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if let Some(device) = &spec.device {
        set_option_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())?;
    }
    set_memory(fd, if signal { SIGNAL_MEMORY } else { MEDIA_MEMORY })?;
    set_network_options(fd, spec)?;
    socket.bind(&spec.address.into())?;
    let local = socket.local_addr()?.as_socket().unwrap_or(spec.address);
    Ok(Port { socket, local, signal })
}

/// Asks beyond the system's limit first, which needs CAP_NET_ADMIN, then within it.
fn set_memory(fd: RawFd, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Media never fragments (RFC 8085 section 3.2): a packet beyond the MTU fails with EMSGSIZE. SIP must
/// get through, so it may fragment, and it wants to hear of ICMP errors (RFC 3261 section 18.4).
fn set_network_options(fd: RawFd, spec: &PortSpec) -> io::Result<()> {
    let signal = spec.role == Role::Sip;
    let class = i32::from(spec.dscp) << 2;
    if spec.address.is_ipv6() {
        let level = libc::IPPROTO_IPV6;
        let discover = if signal { libc::IPV6_PMTUDISC_DONT } else { libc::IPV6_PMTUDISC_PROBE };
        set_option(fd, level, libc::IPV6_V6ONLY, 1)?;
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

fn explain(spec: &PortSpec, error: &io::Error) -> Fault {
    let address = spec.address;
    let device = spec.device.as_deref().unwrap_or("its device");
    let remedy = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "another program holds it: find it with `ss -ulpn 'sport = :{}'`, stop it or configure another port",
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
    Fault { what: format!("cannot open UDP {address}: {error}"), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str, role: Role) -> PortSpec {
        PortSpec { address: address.parse().unwrap(), role, interface: 0, device: None, dscp: 46 }
    }

    #[test]
    fn a_busy_address_is_retried_then_explained() {
        let held = Ports::open(&[spec("127.0.0.1:0", Role::Rtp)]).unwrap();
        let address = held.local(PortId(0)).unwrap();
        let begun = Instant::now();
        let fault = Ports::open(&[spec(&address.to_string(), Role::Rtp)]).err().unwrap();
        assert!(begun.elapsed() >= PATIENCE);
        assert!(fault.what.contains(&address.to_string()), "{}", fault.what);
        assert!(fault.remedy.contains(&address.port().to_string()), "{}", fault.remedy);
    }

    #[test]
    fn a_foreign_address_is_explained() {
        let fault = Ports::open(&[spec("192.0.2.77:0", Role::Sip)]).err().unwrap();
        assert!(fault.remedy.contains("ip address"), "{}", fault.remedy);
    }

    #[test]
    fn a_missing_device_is_explained() {
        let mut wrong = spec("127.0.0.1:0", Role::Sip);
        wrong.device = Some(String::from("nosuchdev0"));
        let fault = Ports::open(&[wrong]).err().unwrap();
        assert!(
            fault.remedy.contains("nosuchdev0") || fault.remedy.contains("CAP_NET_RAW"),
            "{}",
            fault.remedy
        );
    }
}
