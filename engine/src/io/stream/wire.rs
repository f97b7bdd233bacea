//! The layers below a connection's messages: the socket, TLS on it, a WebSocket on that.

use super::super::sys::unacknowledged;
use super::counters::Ended;
use super::websocket::{Over, Websocket};
use rustls::Connection as Session;
use rustls::pki_types::CertificateDer;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// What is kept of a buffer that has been emptied.
const KEPT: usize = 2 << 10;

/// Where bytes are read to first, and what is deciphered of them: most messages come whole.
pub(super) struct Scratch {
    pub(super) wire: Box<[u8]>,
    pub(super) plain: Box<[u8]>,
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
    /// What a WebSocket says first, as long as the session below it is not there.
    first: Vec<u8>,
    /// Bytes on their way to the socket.
    leaving: Vec<u8>,
    /// Bytes the kernel took before those.
    passed: u64,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, session: Option<Session>) -> Wire {
        let session = session.map(Box::new);
        let (first, leaving) = (Vec::new(), Vec::new());
        Wire { socket, session, websocket: None, first, leaving, passed: 0 }
    }

    /// Puts a WebSocket on it, which says `first` first.
    pub(super) fn upgraded(mut self, websocket: Websocket, first: Vec<u8>) -> Wire {
        (self.websocket, self.first) = (Some(Box::new(websocket)), first);
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

    /// Whether its messages are its bytes.
    pub(super) fn is_plain(&self) -> bool {
        self.session.is_none() && self.websocket.is_none()
    }

    /// Whether its session is being agreed on, which costs a hundred times a message.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether messages can be sent over it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_shaking_hands() && self.websocket.as_ref().is_none_or(|ws| ws.is_open())
    }

    /// Bytes that the kernel did not take yet.
    pub(super) fn pending(&self) -> usize {
        self.leaving.len()
    }

    /// Bytes that the kernel took, since the beginning.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    /// Takes a message to be sent by the next [`Wire::flush`]: it is gone once so many bytes have passed.
    pub(super) fn say(&mut self, message: &[u8]) -> io::Result<u64> {
        match (&mut self.websocket, &mut self.session) {
            (None, None) => self.leaving.extend_from_slice(message),
            (None, Some(session)) => encrypt(session, message, &mut self.leaving)?,
            (Some(websocket), None) => websocket.say(message, &mut self.leaving)?,
            (Some(websocket), Some(session)) => {
                let mut frame = Vec::new();
                websocket.say(message, &mut frame)?;
                encrypt(session, &frame, &mut self.leaving)?;
            }
        }
        Ok(self.passed + self.leaving.len() as u64)
    }

    /// Gives the kernel everything there is, or fails with `WouldBlock`.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.prepare()?;
        let mut gone = 0;
        let flushed = loop {
            match self.leaving.get(gone..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.socket.write(rest) {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(sent) => gone += sent,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => break Err(e),
                },
            }
        };
        self.went(gone);
        flushed
    }

    /// Bytes that the far end's kernel has, since the beginning: of those that ours took, what it waits to hear of
    /// is not yet there.
    pub(super) fn acknowledged(&self) -> u64 {
        self.passed.saturating_sub(unacknowledged(self.fd()))
    }

    /// What is on its way to the socket; it does not move before [`Wire::went`].
    pub(super) fn leaving(&self) -> &[u8] {
        &self.leaving
    }

    /// The kernel took so many bytes of what is leaving.
    pub(super) fn went(&mut self, len: usize) {
        self.passed += len as u64;
        self.leaving.drain(..len.min(self.leaving.len()));
        if self.leaving.is_empty() {
            self.leaving.shrink_to(KEPT);
        }
    }

    /// Nobody hears or says anything on the socket any more, whoever still holds it.
    pub(super) fn shut(&self) {
        let _shut = self.socket.shutdown(Shutdown::Both);
    }

    /// What the layers below messages have to say for themselves: a handshake's next step, an upgrade.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            self.leaving.append(&mut self.first);
            return Ok(());
        };
        drain(session, &mut self.leaving)?;
        if !session.is_handshaking() && !self.first.is_empty() {
            encrypt(session, &std::mem::take(&mut self.first), &mut self.leaving)?;
        }
        Ok(())
    }

    /// Reads once; everything that was heard goes to `said`. Whether there may be more.
    pub(super) fn read(
        &mut self,
        scratch: &mut Scratch,
        said: impl FnMut(Said) -> Result<(), Ended>,
    ) -> Result<bool, Ended> {
        let Scratch { wire, plain } = scratch;
        let len = match self.socket.read(wire) {
            Ok(0) => return Err(Ended::Closed),
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(_) => return Err(Ended::Error),
        };
        let more = len == wire.len();
        self.take(wire.get(..len).unwrap_or_default(), plain, said).map(|()| more)
    }

    /// Takes what was read from the socket; everything that was heard goes to `said`.
    pub(super) fn take(
        &mut self,
        mut read: &[u8],
        plain: &mut [u8],
        mut said: impl FnMut(Said) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let Some(session) = &mut self.session else {
            return hear(&mut self.websocket, read, &mut self.leaving, &mut said);
        };
        // What a WebSocket answers by itself, its last words among them.
        let mut answers = Vec::new();
        let websocket = &mut self.websocket;
        let mut heard = decrypt(session, &mut read, plain, |spoken| match spoken {
            Said::Bytes(bytes) => hear(websocket, bytes, &mut answers, &mut said),
            other @ (Said::Message(_) | Said::Part | Said::Agreed(_)) => said(other),
        });
        if !answers.is_empty() && encrypt(session, &answers, &mut self.leaving).is_err() {
            heard = heard.and(Err(Ended::Session));
        }
        if heard == Err(Ended::Session) {
            // The far end is told why, if it still listens.
            let _told = self.flush();
        }
        heard
    }

    /// The connection ends from here: says so where there is a way to.
    pub(super) fn leave(&mut self) {
        let mut last = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.leave(&mut last);
        }
        match self.session.as_mut().filter(|session| !session.is_handshaking()) {
            Some(session) => {
                let _last = session.writer().write_all(&last);
                session.send_close_notify();
            }
            None => self.leaving.append(&mut last),
        }
        let _said = self.flush();
    }
}

/// Adds the records of `bytes` to `leaving`.
fn encrypt(session: &mut Session, bytes: &[u8], leaving: &mut Vec<u8>) -> io::Result<()> {
    session.writer().write_all(bytes)?;
    drain(session, leaving)
}

/// Adds what a session has to send to `leaving`.
fn drain(session: &mut Session, leaving: &mut Vec<u8>) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(leaving)?;
    }
    Ok(())
}

/// Hears records: who they are of when that is known, and what they say.
fn decrypt(
    session: &mut Session,
    read: &mut &[u8],
    plain: &mut [u8],
    mut said: impl FnMut(Said) -> Result<(), Ended>,
) -> Result<(), Ended> {
    while !read.is_empty() {
        let was_shaking = session.is_handshaking();
        session.read_tls(read).map_err(|_| Ended::Session)?;
        session.process_new_packets().map_err(|_| Ended::Session)?;
        if was_shaking && !session.is_handshaking() {
            let shown = session.peer_certificates().and_then(<[_]>::first);
            said(Said::Agreed(shown))?;
        }
        loop {
            match session.reader().read(plain) {
                Ok(0) => return Err(Ended::Closed),
                Ok(len) => said(Said::Bytes(plain.get(..len).unwrap_or_default()))?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(Ended::Session),
            }
        }
    }
    Ok(())
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
