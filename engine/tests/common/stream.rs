//! A SIP peer over TCP of a few lines: it listens, dials, and can vanish or cut a connection off.

use super::LONG;
use super::wire::{header, sdp};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A listener at an address, and connections of both kinds in the order they came.
pub(crate) struct StreamPeer {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    lines: Vec<Option<Line>>,
}

struct Line {
    stream: TcpStream,
    came: Vec<u8>,
}

impl StreamPeer {
    pub(crate) fn bind(address: SocketAddr) -> StreamPeer {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        StreamPeer { address, listener, lines: Vec::new() }
    }

    /// Connects from its address; the number of the connection.
    pub(crate) fn dial(&mut self, to: SocketAddr) -> usize {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(self.address.ip(), 0).into()).unwrap();
        socket.connect_timeout(&to.into(), LONG).unwrap();
        self.add(socket.into())
    }

    fn add(&mut self, stream: TcpStream) -> usize {
        stream.set_nonblocking(true).unwrap();
        self.lines.push(Some(Line { stream, came: Vec::new() }));
        self.lines.len() - 1
    }

    pub(crate) fn send(&mut self, line: usize, text: &str) {
        self.lines[line].as_mut().unwrap().stream.write_all(text.as_bytes()).unwrap();
    }

    /// Ends a connection by a reset, as far as that gets.
    pub(crate) fn reset(&mut self, line: usize) {
        let line = self.lines[line].take().unwrap();
        SockRef::from(&line.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The next message that `wanted` accepts, and over which connection it came; others are passed over.
    pub(crate) fn hear(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Ok((stream, _)) = self.listener.accept() {
                self.add(stream);
            }
            for number in 0..self.lines.len() {
                while let Some(text) = self.lines[number].as_mut().and_then(Line::next) {
                    if wanted(&text) {
                        return Some((number, text));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    pub(crate) fn expect(&mut self, start: &str) -> (usize, String) {
        let heard = self.hear(LONG, |text| text.starts_with(start));
        heard.unwrap_or_else(|| panic!("{} never heard {start}", self.address))
    }

    /// An INVITE with an offer.
    pub(crate) fn invite(&self, to: SocketAddr, call: &str) -> String {
        let (me, body) = (self.address, sdp(self.address.ip(), 30_000));
        format!(
            "INVITE sip:442079460000@{to};transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP {me};branch=z9hG4bK{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:14150000001@{me}>;tag=f{call}\r\nTo: <sip:442079460000@{to}>\r\n\
             Call-ID: {call}\r\nCSeq: 1 INVITE\r\nContact: {}\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.contact(),
            body.len()
        )
    }

    /// Where it is found.
    pub(crate) fn contact(&self) -> String {
        format!("<sip:peer@{};transport=tcp>", self.address)
    }

    /// A request of its own within the dialog of a message that it `heard` of the other side: a response to its
    /// INVITE, or an INVITE that it answered.
    pub(crate) fn within(&self, heard: &str, method: &str, cseq: u32) -> String {
        let target = header(heard, "Contact").trim_matches(['<', '>']).to_owned();
        let (mut from, mut to) = (header(heard, "From"), header(heard, "To"));
        if heard.starts_with("INVITE ") {
            (from, to) = (to + ";tag=callee", from);
        }
        let (me, call) = (self.address, header(heard, "Call-ID"));
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/TCP {me};branch=z9hG4bK{method}{cseq}{call}\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}

impl Line {
    /// The next whole message.
    fn next(&mut self) -> Option<String> {
        let mut buffer = [0; 8_192];
        loop {
            let text = String::from_utf8_lossy(&self.came).into_owned();
            if let Some(head) = text.find("\r\n\r\n") {
                let body = header(&text[..head], "Content-Length").parse().unwrap_or(0);
                if self.came.len() >= head + 4 + body {
                    let rest = self.came.split_off(head + 4 + body);
                    let whole = std::mem::replace(&mut self.came, rest);
                    return Some(String::from_utf8_lossy(&whole).into_owned());
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.came.extend_from_slice(&buffer[..len]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}
