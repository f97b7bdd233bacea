//! The layers below a connection's messages: the socket, TLS on it, a WebSocket on that.

use super::connection::Ended;
use super::websocket::{Over, Websocket};
use rustls::Connection as Session;
use rustls::pki_types::CertificateDer;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

/// What is kept of a buffer that has been emptied.
const KEPT: usize = 2 << 10;

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

/// What was heard.
pub(super) enum Said<'a> {
    /// Bytes of a stream.
    Bytes(&'a [u8]),
    /// A whole message; an empty one is a sign of life.
    Message(&'a [u8]),
    /// Something of a message, and not its end.
    Part,
    /// The session is there, and the far end has proved to hold this certificate, or none.
    Agreed(Option<&'a CertificateDer<'static>>),
}

pub(super) struct Wire {
    socket: TcpStream,
    session: Option<Box<Session>>,
    websocket: Option<Box<Websocket>>,
    /// Bytes on their way to the session, or to the socket, and how many of them have gone.
    leaving: Vec<u8>,
    gone: usize,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, session: Option<Session>) -> Wire {
        let session = session.map(Box::new);
        Wire { socket, session, websocket: None, leaving: Vec::new(), gone: 0 }
    }

    /// Puts a WebSocket on it, whose first words are in `leaving`.
    pub(super) fn upgraded(mut self, websocket: Websocket, leaving: Vec<u8>) -> Wire {
        (self.websocket, self.leaving) = (Some(Box::new(websocket)), leaving);
        self
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    pub(super) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether its session is being agreed on, which costs a hundred times a message.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether messages can be sent over it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_shaking_hands() && self.websocket.as_ref().is_none_or(|ws| ws.is_open())
    }

    /// Whether there are bytes that the kernel did not take yet.
    pub(super) fn is_waiting(&self) -> bool {
        let has_ciphertext = self.session.as_ref().is_some_and(|session| session.wants_write());
        has_ciphertext || (!self.leaving.is_empty() && !self.is_shaking_hands())
    }

    /// Takes a message to be sent by the next [`Wire::flush`].
    pub(super) fn say(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.websocket {
            Some(websocket) => websocket.say(message, &mut self.leaving),
            None => {
                self.leaving.extend_from_slice(message);
                Ok(())
            }
        }
    }

    /// Gives the kernel everything there is, or fails with `WouldBlock`.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            if !session.is_handshaking() && !self.leaving.is_empty() {
                session.writer().write_all(&self.leaving)?;
                self.leaving.clear();
            }
            while session.wants_write() {
                match session.write_tls(&mut self.socket) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    written => drop(written?),
                }
            }
        } else {
            while let Some(rest) = self.leaving.get(self.gone..).filter(|rest| !rest.is_empty()) {
                match self.socket.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(sent) => self.gone += sent,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            self.leaving.clear();
        }
        if self.leaving.is_empty() {
            (self.gone, self.leaving) = (0, kept(std::mem::take(&mut self.leaving)));
        }
        Ok(())
    }

    /// Reads once; everything that was heard goes to `said`.
    pub(super) fn read(
        &mut self,
        scratch: &mut Scratch,
        mut said: impl FnMut(Said) -> Result<(), Ended>,
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
        let Some(session) = &mut self.session else {
            return hear(&mut self.websocket, read, &mut self.leaving, &mut said);
        };
        while !read.is_empty() {
            let was_shaking = session.is_handshaking();
            session.read_tls(&mut read).map_err(|_| Ended::Session)?;
            if session.process_new_packets().is_err() {
                // The far end is told why, if it still listens.
                let _told = session.write_tls(&mut self.socket);
                return Err(Ended::Session);
            }
            if was_shaking && !session.is_handshaking() {
                let shown = session.peer_certificates().and_then(<[_]>::first);
                said(Said::Agreed(shown))?;
            }
            loop {
                match session.reader().read(plain) {
                    Ok(0) => return Err(Ended::Closed),
                    Ok(len) => {
                        let bytes = plain.get(..len).unwrap_or_default();
                        hear(&mut self.websocket, bytes, &mut self.leaving, &mut said)?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Ended::Session),
                }
            }
        }
        Ok(())
    }

    /// The connection ends from here: says so where there is a way to.
    pub(super) fn leave(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.leave(&mut self.leaving);
        }
        if let Some(session) = self.session.as_mut().filter(|session| !session.is_handshaking()) {
            let _last = session.writer().write_all(&std::mem::take(&mut self.leaving));
            session.send_close_notify();
        }
        let _said = self.flush();
    }
}

fn hear(
    websocket: &mut Option<Box<Websocket>>,
    bytes: &[u8],
    leaving: &mut Vec<u8>,
    said: &mut impl FnMut(Said) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let Some(websocket) = websocket else { return said(Said::Bytes(bytes)) };
    let (mut whole, mut ended) = (false, Ok(()));
    let heard = websocket.hear(bytes, leaving, |message| {
        whole = true;
        if ended.is_ok() {
            ended = said(Said::Message(message));
        }
    });
    match heard {
        Err(Over::Closed) => Err(Ended::Closed),
        Err(Over::Broken) => Err(Ended::Framing),
        Ok(()) if !whole && websocket.is_open() => said(Said::Part),
        Ok(()) => ended,
    }
}

/// An empty buffer, without the memory a large message needed.
fn kept(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.shrink_to(KEPT);
    buffer
}
