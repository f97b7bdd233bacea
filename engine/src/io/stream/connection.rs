//! One connection: bytes in, whole messages out, and the other way round.
//!
//! Framing is RFC 3261 18.3, keep-alives RFC 5626 3.5.1. A framing error has no way back: the connection
//! is closed. With a TLS session, bytes pass through it; a message stays queued until the kernel has all of
//! its ciphertext, so that what a broken connection did not take is known to the message.

use base::{Instant, PortId};
use node::Letter;
use rustls::Connection as Session;
use sbc::message::{Framing, frame_resumed};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Bytes that may wait to be sent.
const QUEUE: usize = 256 << 10;
/// A connection that was dialled must be there by then.
const DIAL: Duration = Duration::from_secs(4);
/// The first message must be whole by then, and so must each that has begun.
const WHOLE: Duration = Duration::from_secs(10);
/// A TLS handshake must be over by then.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// A connection on which nothing comes or goes is closed.
const IDLE: Duration = Duration::from_secs(900);

/// Why a connection ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The far end closed it.
    Closed,
    /// Something took too long.
    Late,
    /// What came was not SIP.
    Framing,
    /// The TLS session failed: no common version, a certificate that proves nothing, a forged record.
    Session,
    /// The kernel said so.
    Error,
}

/// Where bytes are read to first: most messages come whole.
pub(super) struct Scratch {
    wire: Box<[u8]>,
    plain: Box<[u8]>,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { wire: vec![0; 64 << 10].into(), plain: vec![0; 16 << 10].into() }
    }
}

pub(super) struct Connection {
    pub(super) port: PortId,
    pub(super) peer: SocketAddr,
    socket: TcpStream,
    session: Option<Box<Session>>,
    /// The first of the queue is with the session.
    fed: bool,
    /// It was dialled and is not there yet.
    dialling: bool,
    /// What came and is no whole message yet.
    partial: Vec<u8>,
    /// Bytes of `partial` that were looked at.
    scanned: usize,
    /// One line end of a keep-alive has come.
    half_ping: bool,
    /// Whole messages that wait, and how much of the first has gone.
    queue: VecDeque<Box<[u8]>>,
    gone: usize,
    queued: usize,
    /// When it is closed if nothing happens.
    deadline: Instant,
    /// What the epoll was told to watch.
    watched: i32,
}

impl Connection {
    pub(super) fn accepted(
        port: PortId,
        peer: SocketAddr,
        (socket, session): (TcpStream, Option<Session>),
        now: Instant,
    ) -> Connection {
        let first = if session.is_some() { HANDSHAKE } else { WHOLE };
        Connection {
            port,
            peer,
            socket,
            session: session.map(Box::new),
            fed: false,
            dialling: false,
            partial: Vec::new(),
            scanned: 0,
            half_ping: false,
            queue: VecDeque::new(),
            gone: 0,
            queued: 0,
            deadline: now + first,
            watched: 0,
        }
    }

    pub(super) fn dialled(
        port: PortId,
        peer: SocketAddr,
        socket: (TcpStream, Option<Session>),
        now: Instant,
    ) -> Connection {
        let mut connection = Connection::accepted(port, peer, socket, now);
        (connection.dialling, connection.deadline) = (true, now + DIAL);
        connection
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn is_dialling(&self) -> bool {
        self.dialling
    }

    /// Whether messages can be sent now.
    pub(super) fn is_open(&self) -> bool {
        !self.dialling
    }

    /// A dialled connection is there, or never will be.
    pub(super) fn dialled_through(&mut self, now: Instant) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        let next = if self.session.is_some() { HANDSHAKE } else { IDLE };
        (self.dialling, self.deadline) = (false, now + next);
        Ok(())
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Whether its session is being agreed on, which costs a hundred times a message.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// What the epoll is to watch.
    pub(super) fn interest(&self) -> i32 {
        let has_ciphertext = self.session.as_ref().is_some_and(|session| session.wants_write());
        let has_text = !self.queue.is_empty() && !self.is_shaking_hands();
        let waits = self.dialling || has_ciphertext || has_text;
        let out = if waits { libc::EPOLLOUT } else { 0 };
        libc::EPOLLIN | libc::EPOLLRDHUP | out
    }

    pub(super) fn is_watched_as(&self) -> i32 {
        self.watched
    }

    pub(super) fn watch_as(&mut self, events: i32) {
        self.watched = events;
    }

    /// Queues a message; `false` when too much waits already.
    pub(super) fn queue(&mut self, bytes: &[u8]) -> bool {
        if self.queued + bytes.len() > QUEUE {
            return false;
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes.into());
        true
    }

    /// Messages that were not sent whole.
    pub(super) fn unsent(self) -> impl Iterator<Item = Box<[u8]>> {
        self.queue.into_iter().filter(|message| message.len() > PONG.len())
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.dialling {
            return Ok(());
        }
        let written = match self.session.take() {
            None => self.write_plain(),
            Some(mut session) => {
                let written = self.write_session(&mut session);
                self.session = Some(session);
                written
            }
        };
        match written {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
            written => written,
        }
    }

    fn write_plain(&mut self) -> io::Result<()> {
        while let Some(first) = self.queue.front() {
            match self.socket.write(first.get(self.gone..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.gone += sent,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if self.gone >= first.len() {
                self.sent();
            }
        }
        Ok(())
    }

    fn write_session(&mut self, session: &mut Session) -> io::Result<()> {
        loop {
            while session.wants_write() {
                match session.write_tls(&mut self.socket) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    written => drop(written?),
                }
            }
            if std::mem::take(&mut self.fed) {
                self.sent();
            }
            let Some(first) = self.queue.front().filter(|_| !session.is_handshaking()) else {
                return Ok(());
            };
            session.writer().write_all(first)?;
            self.fed = true;
        }
    }

    /// The first of the queue has gone.
    fn sent(&mut self) {
        self.gone = 0;
        self.queued -= self.queue.pop_front().map_or(0, |message| message.len());
    }

    /// Reads once, and hands on every whole message.
    pub(super) fn read(
        &mut self,
        scratch: &mut Scratch,
        now: Instant,
        letters: &mut Vec<Letter>,
    ) -> Result<(), Ended> {
        let Scratch { wire, plain } = scratch;
        let len = match self.socket.read(wire) {
            Ok(0) => return Err(Ended::Closed),
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(_) => return Err(Ended::Error),
        };
        let mut read = wire.get(..len).unwrap_or_default();
        let Some(mut session) = self.session.take() else {
            return self.heard(read, now, letters);
        };
        let was_shaking = session.is_handshaking();
        while !read.is_empty() {
            session.read_tls(&mut read).map_err(|_| Ended::Session)?;
            if session.process_new_packets().is_err() {
                // The far end is told why, if it still listens.
                let _told = session.write_tls(&mut self.socket);
                return Err(Ended::Session);
            }
            loop {
                match session.reader().read(plain) {
                    Ok(0) => return Err(Ended::Closed),
                    Ok(len) => self.heard(plain.get(..len).unwrap_or_default(), now, letters)?,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Ended::Session),
                }
            }
        }
        if was_shaking && !session.is_handshaking() {
            self.deadline = self.deadline.max(now + WHOLE);
        }
        self.session = Some(session);
        Ok(())
    }

    /// What was said: hands on every whole message, keeps the rest.
    fn heard(&mut self, read: &[u8], now: Instant, letters: &mut Vec<Letter>) -> Result<(), Ended> {
        let mut begun = std::mem::take(&mut self.partial);
        let is_new = begun.is_empty();
        let bytes = if is_new {
            read
        } else {
            begun.extend_from_slice(read);
            &begun
        };
        let taken = self.cut(bytes, letters)?;
        self.partial = bytes.get(taken..).unwrap_or_default().to_vec();
        // A message that has begun does not get more time by coming slowly.
        if self.partial.is_empty() {
            self.deadline = now + IDLE;
        } else if is_new || taken > 0 {
            self.deadline = now + WHOLE;
        }
        Ok(())
    }

    /// Hands on the whole messages at the front of `bytes`; how many bytes they took.
    fn cut(&mut self, bytes: &[u8], letters: &mut Vec<Letter>) -> Result<usize, Ended> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match frame_resumed(rest, &mut self.scanned) {
                Framing::Need => return Ok(at),
                Framing::Message(len) => {
                    let (port, source) = (self.port, self.peer);
                    let bytes = rest.get(..len).unwrap_or_default().into();
                    letters.push(Letter::Stream { port, source, bytes });
                    self.half_ping = false;
                    at += len;
                }
                Framing::KeepAlive(len) => {
                    // A ping is two line ends, which may come one by one.
                    self.half_ping = len == 2 && !self.half_ping;
                    if !self.half_ping {
                        self.queue(PONG);
                    }
                    at += len;
                }
                Framing::Error(_) => return Err(Ended::Framing),
            }
            self.scanned = 0;
        }
    }
}

/// The answer to a keep-alive.
const PONG: &[u8] = b"\r\n";
