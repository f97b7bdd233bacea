//! The SIP socket of one side: what is said in a turn leaves together, what came is read together.

use crate::locality::Locality;
use crate::os::{self, Receiver, Sender, Timeline};
use crate::sdp::{self, Remote};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// One datagram heard.
pub(crate) struct Heard {
    /// What.
    pub(crate) bytes: Vec<u8>,
    /// From where.
    pub(crate) from: SocketAddr,
    /// When the kernel took it, on the time line.
    pub(crate) at: u64,
}

/// A SIP socket over UDP.
pub(crate) struct Link {
    socket: Socket,
    /// Where we are.
    pub(crate) local: SocketAddr,
    line: Timeline,
    locality: Locality,
    receiver: Receiver,
    sender: Sender,
    /// Datagrams not sent and audio addresses not taken: not this machine's, nor allowed.
    pub(crate) forbidden: u64,
}

/// Binds a UDP socket that doesn't block.
pub(crate) fn bind(local: SocketAddr, buffer_bytes: i32) -> Result<Socket, String> {
    let open = || {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&local.into())?;
        Ok::<Socket, std::io::Error>(socket)
    };
    let socket = open().map_err(|error| format!("can't bind {local}: {error}"))?;
    os::prepare(socket.as_raw_fd(), buffer_bytes);
    Ok(socket)
}

/// The address a socket was given.
pub(crate) fn address(socket: &Socket) -> Result<SocketAddr, String> {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    local.ok_or_else(|| "a socket without an address".to_owned())
}

impl Link {
    /// Takes a bound socket.
    pub(crate) fn new(socket: Socket, line: Timeline, anywhere: bool) -> Result<Self, String> {
        Ok(Link {
            local: address(&socket)?,
            socket,
            line,
            locality: Locality::new(anywhere),
            receiver: Receiver::new(8_192),
            sender: Sender::new(),
            forbidden: 0,
        })
    }

    /// Reads where the other side wants its audio, if we may send there.
    pub(crate) fn remote(&mut self, body: &str) -> Option<Remote> {
        let remote = sdp::parse(body)?;
        let allowed = self.locality.allows(remote.address);
        self.forbidden += u64::from(!allowed);
        allowed.then_some(remote)
    }

    /// Says something at the end of this turn.
    pub(crate) fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        if self.locality.allows(to) {
            self.sender.push(to, bytes);
        } else {
            self.forbidden += 1;
        }
    }

    /// Sends what was said: the last words of a side that ends, too.
    pub(crate) fn flush(&mut self) {
        self.sender.flush(self.socket.as_raw_fd());
    }

    /// Sends what was said, then waits for input, at most until `until`.
    pub(crate) fn turn(&mut self, until: u64, inbox: &mut Vec<Heard>) {
        let fd = self.socket.as_raw_fd();
        self.flush();
        let now = self.line.now();
        if until > now {
            os::wait_readable(fd, until - now);
        }
        let line = self.line;
        for _ in 0..4 {
            let more = self.receiver.receive(fd, |datagram| {
                inbox.push(Heard {
                    bytes: datagram.bytes.to_vec(),
                    from: datagram.from,
                    at: line.at_wall(datagram.wall),
                });
            });
            if !more {
                break;
            }
        }
    }
}
