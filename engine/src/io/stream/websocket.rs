//! SIP over WebSockets (RFC 7118, RFC 6455): the upgrade, then one SIP message a WebSocket message.
//!
//! The protocol is tungstenite's, over memory: bytes go in, messages and bytes to send come out. A browser
//! says which page opened the connection (`Origin`); only pages that the interface lists may.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::client::{ClientHandshake, Request as Upgrade, generate_key};
use tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// The subprotocol (RFC 7118 4.1).
const SIP: &str = "sip";
/// The longest request or answer of an upgrade.
const MOST_HEAD: usize = 8 << 10;
/// Read from memory at a time; held by every connection.
const READ: usize = 2 << 10;

/// Pages that may open connections: origins like `https://phone.example`, or `*` for every one.
pub(crate) type Origins = Arc<[Box<str>]>;

/// Why there is nothing more to hear.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The far end closed it, as it should.
    Closed,
    /// What came is no WebSocket of ours.
    Broken,
}

/// One end of a WebSocket.
pub(super) struct Websocket {
    state: State,
    /// What came of a request or answer that is not whole yet.
    head: Vec<u8>,
}

enum State {
    Accepting(Box<MidHandshake<ServerHandshake<Memory, Policy>>>),
    Dialling(Box<MidHandshake<ClientHandshake<Memory>>>),
    Open(Box<WebSocket<Memory>>),
    Over,
}

/// What came and was not looked at, and what is to be sent.
#[derive(Debug, Default)]
struct Memory {
    came: VecDeque<u8>,
    leaves: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.came.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.came.read(into)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.leaves.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Who may open a connection.
struct Policy {
    origins: Origins,
}

impl Callback for Policy {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let every = |name: &str| {
            request.headers().get_all(name).into_iter().filter_map(|v| v.to_str().ok())
        };
        let offered = every("Sec-WebSocket-Protocol").flat_map(|list| list.split(','));
        if !offered.into_iter().any(|protocol| protocol.trim().eq_ignore_ascii_case(SIP)) {
            return Err(refusal(StatusCode::BAD_REQUEST));
        }
        let allowed =
            |page: &str| self.origins.iter().any(|o| **o == *"*" || o.eq_ignore_ascii_case(page));
        // Who sends no Origin is no browser: nothing else speaks in somebody's name.
        if !every("Origin").all(allowed) {
            return Err(refusal(StatusCode::FORBIDDEN));
        }
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SIP));
        Ok(response)
    }
}

fn refusal(status: StatusCode) -> ErrorResponse {
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = status;
    for (name, value) in [("Connection", "close"), ("Content-Length", "0")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_message_size(Some(sbc::message::MAX_MESSAGE))
        .max_frame_size(Some(sbc::message::MAX_MESSAGE))
}

impl Websocket {
    /// The end of who listens.
    pub(super) fn accept(origins: Origins) -> Websocket {
        let handshake =
            ServerHandshake::start(Memory::default(), Policy { origins }, Some(limits()));
        Websocket { state: State::Accepting(Box::new(handshake)), head: Vec::new() }
    }

    /// The end of who dials `to`, a server of this name; the request is in `out`.
    pub(super) fn dial(name: &str, to: SocketAddr, out: &mut Vec<u8>) -> io::Result<Websocket> {
        let host = match to.port() {
            80 | 443 => name.to_owned(),
            port => format!("{name}:{port}"),
        };
        let request = Upgrade::builder()
            .uri(format!("ws://{host}/"))
            .header("Host", &host)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", generate_key())
            .header("Sec-WebSocket-Protocol", SIP)
            .body(())
            .map_err(io::Error::other)?;
        let handshake = ClientHandshake::start(Memory::default(), request, Some(limits()));
        let handshake = handshake.map_err(io::Error::other)?;
        let state = State::Dialling(Box::new(handshake));
        let mut websocket = Websocket { state, head: Vec::new() };
        websocket
            .shake_hands(out)
            .map_err(|_| io::Error::other("no upgrade could be asked for"))?;
        Ok(websocket)
    }

    /// Whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(&self.state, State::Open(websocket) if websocket.can_write())
    }

    /// Hears bytes: hands on whole messages, an empty one for a ping; adds what is to be sent to `out`.
    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut message: impl FnMut(&[u8]),
    ) -> Result<(), Over> {
        if matches!(self.state, State::Open(_)) {
            self.memory().ok_or(Over::Broken)?.came.extend(bytes);
        } else {
            self.head.extend_from_slice(bytes);
            if memchr::memmem::find(&self.head, b"\r\n\r\n").is_none() {
                return if self.head.len() > MOST_HEAD { Err(Over::Broken) } else { Ok(()) };
            }
            let head = std::mem::take(&mut self.head);
            self.memory().ok_or(Over::Broken)?.came.extend(head);
            self.shake_hands(out)?;
        }
        let State::Open(websocket) = &mut self.state else { return Ok(()) };
        let heard = loop {
            match websocket.read() {
                Ok(Message::Text(text)) => message(text.as_bytes()),
                Ok(Message::Binary(bytes)) => message(&bytes),
                // A sign of life.
                Ok(Message::Ping(_) | Message::Pong(_)) => message(b""),
                Ok(Message::Close(_) | Message::Frame(_)) => {}
                Err(Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break Err(Over::Closed),
                Err(error) => {
                    say_goodbye(websocket, code(&error));
                    break Err(Over::Broken);
                }
            }
        };
        let memory = websocket.get_mut();
        memory.came.shrink_to(READ);
        out.append(&mut std::mem::take(&mut memory.leaves));
        heard
    }

    /// Adds a message to `out`: as text where it is UTF-8 (RFC 7118 5).
    pub(super) fn say(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let State::Open(websocket) = &mut self.state else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let message = match std::str::from_utf8(bytes) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(bytes.to_vec()),
        };
        websocket.send(message).map_err(io::Error::other)?;
        out.append(&mut std::mem::take(&mut websocket.get_mut().leaves));
        Ok(())
    }

    /// Closes it from here: adds the last frame to `out`.
    pub(super) fn leave(&mut self, out: &mut Vec<u8>) {
        if let State::Open(websocket) = &mut self.state {
            say_goodbye(websocket, CloseCode::Away);
            out.append(&mut websocket.get_mut().leaves);
        }
    }

    fn memory(&mut self) -> Option<&mut Memory> {
        match &mut self.state {
            State::Accepting(handshake) => Some(handshake.get_mut().get_mut()),
            State::Dialling(handshake) => Some(handshake.get_mut().get_mut()),
            State::Open(websocket) => Some(websocket.get_mut()),
            State::Over => None,
        }
    }

    /// Goes on with the upgrade as far as what came allows.
    fn shake_hands(&mut self, out: &mut Vec<u8>) -> Result<(), Over> {
        let next = match std::mem::replace(&mut self.state, State::Over) {
            State::Accepting(handshake) => match handshake.handshake() {
                Ok(websocket) => Ok(State::Open(Box::new(websocket))),
                Err(HandshakeError::Interrupted(more)) => Ok(State::Accepting(Box::new(more))),
                Err(HandshakeError::Failure(error)) => Err(told(&error)),
            },
            State::Dialling(handshake) => match handshake.handshake() {
                Ok((websocket, _)) => Ok(State::Open(Box::new(websocket))),
                Err(HandshakeError::Interrupted(more)) => Ok(State::Dialling(Box::new(more))),
                Err(HandshakeError::Failure(_)) => Err(Vec::new()),
            },
            state @ (State::Open(_) | State::Over) => Ok(state),
        };
        match next {
            Ok(state) => {
                self.state = state;
                if let Some(memory) = self.memory() {
                    out.append(&mut std::mem::take(&mut memory.leaves));
                }
                Ok(())
            }
            Err(mut last_words) => {
                out.append(&mut last_words);
                Err(Over::Broken)
            }
        }
    }
}

/// What who asked for an upgrade hears when it is refused (RFC 6455 4.2.2).
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong is told alike")]
fn told(error: &Error) -> Vec<u8> {
    let line = match error {
        Error::Http(refused) if refused.status() == StatusCode::FORBIDDEN => "403 Forbidden",
        Error::Protocol(
            ProtocolError::MissingSecWebSocketVersionHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingConnectionUpgradeHeader,
        ) => "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        _ => "400 Bad Request",
    };
    format!("HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// Why we close (RFC 6455 7.4.1).
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong is told alike")]
fn code(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

fn say_goodbye(websocket: &mut WebSocket<Memory>, code: CloseCode) {
    // Whether it can be said is all the same: the connection ends.
    let _said = websocket.close(Some(CloseFrame { code, reason: "".into() }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(listed: &[&str]) -> Origins {
        listed.iter().map(|o| Box::from(*o)).collect()
    }

    fn upgrade(more: &str) -> Vec<u8> {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
        .into_bytes()
    }

    /// What an end says to these bytes, given in pieces of `size`.
    fn hear(
        end: &mut Websocket,
        bytes: &[u8],
        size: usize,
    ) -> (Vec<Vec<u8>>, Vec<u8>, Result<(), Over>) {
        let (mut messages, mut out) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            let heard = end.hear(piece, &mut out, |m| messages.push(m.to_vec()));
            if heard.is_err() {
                return (messages, out, heard);
            }
        }
        (messages, out, Ok(()))
    }

    fn opened() -> Websocket {
        let mut end = Websocket::accept(origins(&[]));
        hear(&mut end, &upgrade("Sec-WebSocket-Protocol: sip\r\n"), 4096).2.unwrap();
        assert!(end.is_open());
        end
    }

    /// A frame as a client sends it, masked.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(0x80 | short as u8),
            long => {
                out.push(0x80 | 126);
                out.extend((long as u16).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    #[test]
    fn the_upgrade_is_agreed_in_any_pieces() {
        for size in [1, 7, 4096] {
            let mut end = Websocket::accept(origins(&[]));
            let (_, out, heard) =
                hear(&mut end, &upgrade("Sec-WebSocket-Protocol: chat, sip\r\n"), size);
            let out = String::from_utf8(out).unwrap().to_ascii_lowercase();
            assert_eq!(heard, Ok(()), "{size}: {out}");
            assert!(out.starts_with("http/1.1 101 "), "{out}");
            assert!(out.contains("sec-websocket-protocol: sip\r\n"), "{out}");
            // The example of RFC 6455 1.3.
            assert!(out.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{out}");
            assert!(end.is_open());
        }
    }

    #[test]
    fn what_is_no_upgrade_to_sip_is_refused_by_its_status() {
        let cases: [(&str, &[u8]); 6] = [
            ("400 ", &upgrade("")),
            ("400 ", &upgrade("Sec-WebSocket-Protocol: chat\r\n")),
            ("403 ", &upgrade("Sec-WebSocket-Protocol: sip\r\nOrigin: https://evil.example\r\n")),
            ("426 ", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("400 ", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("400 ", b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS a\r\n\r\n"),
        ];
        for (status, request) in cases {
            let mut end = Websocket::accept(origins(&["https://phone.example"]));
            let (_, out, heard) = hear(&mut end, request, 4096);
            let out = String::from_utf8_lossy(&out).into_owned();
            assert_eq!(heard, Err(Over::Broken), "{out}");
            assert!(out.starts_with(&format!("HTTP/1.1 {status}")), "{out}");
        }
        let endless =
            [b"GET / HTTP/1.1\r\n".to_vec(), b"X: yyyyyyyyyyyy\r\n".repeat(1000)].concat();
        let (_, _, heard) = hear(&mut Websocket::accept(origins(&[])), &endless, 512);
        assert_eq!(heard, Err(Over::Broken));
    }

    #[test]
    fn listed_pages_may_come() {
        let request = upgrade("Sec-WebSocket-Protocol: sip\r\nOrigin: https://Phone.example\r\n");
        for (listed, expected) in
            [("https://phone.example", true), ("*", true), ("https://x", false)]
        {
            let mut end = Websocket::accept(origins(&[listed]));
            assert_eq!(hear(&mut end, &request, 4096).2.is_ok(), expected, "{listed}");
        }
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        // A text in three frames with a ping between them, then a binary message.
        let mut bytes = frame(0x01, b"OPTIONS ");
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x00, b"sip:a@b "));
        bytes.extend(frame(0x80, b"SIP/2.0"));
        bytes.extend(frame(0x82, &[0xff; 300]));
        for size in [1, 5, 4096] {
            let (mut messages, out, heard) = hear(&mut opened(), &bytes, size);
            assert_eq!(heard, Ok(()));
            assert_eq!(messages.remove(0), b"", "the ping");
            assert_eq!(messages, [b"OPTIONS sip:a@b SIP/2.0".to_vec(), vec![0xff; 300]]);
            assert_eq!(out, b"\x8a\x04ping", "a pong, unmasked");
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_told_and_closed() {
        let unmasked = b"\x81\x02hi";
        let large = frame(0x82, &vec![0; 65_535]);
        let too_large = [&large[..1], &[0xff], &70_000u64.to_be_bytes(), &[0; 4]].concat();
        let fragments = frame(0x01, &vec![b'a'; 60_000]);
        let fragments = [fragments, frame(0x00, &vec![b'a'; 60_000])].concat();
        let cases: [(&[u8], u16); 4] = [
            (unmasked, 1002),
            (&too_large, 1009),
            (&fragments, 1009),
            (&frame(0x81, &[0xff, 0xfe]), 1007),
        ];
        for (bytes, expected) in cases {
            let (_, out, heard) = hear(&mut opened(), bytes, 4096);
            assert_eq!(heard, Err(Over::Broken));
            let code = expected.to_be_bytes();
            assert_eq!(out, [0x88, 2, code[0], code[1]], "{expected}");
        }
        let (_, out, heard) = hear(&mut opened(), &frame(0x88, &1000u16.to_be_bytes()), 4096);
        assert_eq!((heard, out.as_slice()), (Err(Over::Closed), &[0x88, 2, 3, 0xe8][..]));
    }

    #[test]
    fn two_ends_talk() {
        let mut there = Websocket::accept(origins(&[]));
        let mut wire = Vec::new();
        let to = "192.0.2.1:8080".parse().unwrap();
        let mut here = Websocket::dial("sip.example", to, &mut wire).unwrap();
        assert!(here.say(b"too early", &mut Vec::new()).is_err());
        assert!(String::from_utf8_lossy(&wire).contains("Host: sip.example:8080\r\n"));
        let (_, mut back, heard) = hear(&mut there, &wire, 10);
        heard.unwrap();
        here.hear(&back, &mut wire, |_| ()).unwrap();
        assert!(here.is_open());
        wire.clear();
        here.say(b"from here", &mut wire).unwrap();
        assert_ne!(&wire[6..], b"from here", "clients mask");
        assert_eq!(hear(&mut there, &wire, 3).0, [b"from here".to_vec()]);
        back.clear();
        there.say(&[0xfe], &mut back).unwrap();
        assert_eq!(hear(&mut here, &back, 3).0, [vec![0xfe]]);
        back.clear();
        there.leave(&mut back);
        assert_eq!(back, b"\x88\x02\x03\xe9");
    }
}
