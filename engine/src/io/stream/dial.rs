//! Making the sockets of connections: listening, dialling, and what both want of a socket.

use super::super::port::bind_to_device;
use super::super::sys::set_option;
use node::PortSpec;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// How long a busy address is tried again.
const PATIENCE: Duration = Duration::from_secs(3);
/// What was sent must be acknowledged within this time, or the connection is given up (RFC 5482).
const USER_TIMEOUT_MS: i32 = 10_000;

/// Listens at a port; every shard does, at the same address.
pub(super) fn listen(spec: &PortSpec) -> io::Result<TcpListener> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match try_listen(spec) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRINUSE) && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

fn try_listen(spec: &PortSpec) -> io::Result<TcpListener> {
    let socket = socket(spec)?;
    socket.set_reuse_address(true)?;
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    socket.bind(&spec.address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Begins a connection from the listener's address; it is there once the socket is writable.
pub(super) fn dial(spec: &PortSpec, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(spec)?;
    socket.bind(&SocketAddr::new(spec.address.ip(), 0).into())?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
        _ => {}
    }
    let stream: TcpStream = socket.into();
    prepare(&stream, spec)?;
    Ok(stream)
}

fn socket(spec: &PortSpec) -> io::Result<Socket> {
    let domain = Domain::for_address(spec.address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    bind_to_device(&socket, spec)?;
    if spec.address.is_ipv6() {
        set_option(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(socket)
}

/// What a connection needs, whoever began it: no delay, signs of life, and an end when nobody listens.
pub(super) fn prepare(stream: &TcpStream, spec: &PortSpec) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let fd = stream.as_raw_fd();
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, USER_TIMEOUT_MS)?;
    if spec.tcp_keepalive_s > 0 {
        let time = Duration::from_secs(spec.tcp_keepalive_s.into());
        let alive = TcpKeepalive::new().with_time(time);
        let alive = alive.with_interval(Duration::from_secs(10)).with_retries(3);
        socket2::SockRef::from(stream).set_tcp_keepalive(&alive)?;
    }
    let class = i32::from(spec.dscp) << 2;
    if spec.address.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class)
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, class)
    }
}
