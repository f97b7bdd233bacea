//! One connection: bytes in, whole messages out, and the other way round.
//!
//! Framing is RFC 3261 18.3, keep-alives RFC 5626 3.5.1. A framing error has no way back: the connection
//! is closed. A message stays queued until the kernel has all of it, in whatever form it travels, and the last
//! requests are kept until the far end's kernel has them, so that what a broken connection did not carry is
//! known to the message: a far end that vanished takes nothing, for as long as nobody notices.

use super::alias::{self, Alias};
use super::counters::Ended;
use super::identity;
use super::pulse::Pulse;
use super::ring::Seat;
use super::terms::Terms;
use super::trunks::Account;
use super::wire::{Said, Scratch, Wire};
use base::{Bytes, Instant, PortId};
use node::{Heard, Letter};
use sbc::message::{Framing, frame_resumed};
use sbc::policy::Proved;
use sbc::signal::PING;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

/// Bytes that may wait to be sent.
const QUEUE: usize = 256 << 10;
/// With so many of them waiting nothing is read: who does not listen is not listened to.
const PAUSED: usize = QUEUE / 2;
/// A connection that was dialled must be there by then.
const DIAL: Duration = Duration::from_secs(4);
/// The first message must be whole by then, and so must each that has begun.
const WHOLE: Duration = Duration::from_secs(10);
/// A TLS handshake or the upgrade to a WebSocket must be over by then.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// A connection on which nothing comes or goes is closed.
const IDLE: Duration = Duration::from_secs(900);
/// Bytes of messages that are given to the kernel at once.
pub(super) const BATCH: usize = 16 << 10;
/// The last requests that are kept until the far end has them, of each no more than this.
const KEPT: usize = 8;
const KEPT_SIZE: usize = 4 << 10;
/// The answer to a keep-alive.
const PONG: &[u8] = b"\r\n";
/// It must come within this time (RFC 5626 4.4.1).
const PONG_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    wire: Wire,
    hearing: Hearing,
    /// Where those of the queue end that are with the wire, in bytes that have passed by then.
    fed: VecDeque<u64>,
    /// It is listed among those that have something to send.
    is_listed: bool,
    /// Whether what waits goes at once.
    pub(super) pulse: Pulse,
    /// The first of the queue is being said from where it stands.
    says_first: bool,
    /// We began it.
    dialled: bool,
    /// It was dialled and is not there yet.
    dialling: bool,
    /// Whole messages that wait.
    queue: VecDeque<Box<[u8]>>,
    queued: usize,
    /// Requests that the kernel has and the far end may not, and where they end as above.
    sent: VecDeque<(u64, Box<[u8]>)>,
    /// What the epoll was told to watch.
    watched: i32,
    /// Its place in the ring, where it has one.
    pub(super) seat: Option<Seat>,
    /// Whose it is, and what they are to be told.
    pub(super) account: Account,
}

/// What has come so far.
struct Hearing {
    port: PortId,
    peer: SocketAddr,
    /// What came and is no whole message yet.
    partial: Vec<u8>,
    /// Bytes of `partial` that were looked at.
    scanned: usize,
    /// A message over a WebSocket has begun.
    has_part: bool,
    /// One line end of a keep-alive has come.
    half_ping: bool,
    /// Keep-alives to be answered.
    pings: usize,
    /// Keep-alives of ours that were not answered yet, and when the first of them was sent.
    pongs: usize,
    pinged: Option<Instant>,
    /// How many were answered since that was told.
    ponged: u32,
    /// The names its certificate bears, where it showed one that is believed.
    proved: Option<Proved>,
    /// Whether it may still say that it is to be used for our requests, and where it says it listens.
    may_offer: bool,
    offered: Option<u16>,
    /// Where it does, once that is known to whom it concerns.
    alias: Option<SocketAddr>,
    /// A whole message has come.
    is_proven: bool,
    /// When the connection is closed if nothing happens.
    deadline: Instant,
}

impl Connection {
    pub(super) fn accepted(port: PortId, peer: SocketAddr, wire: Wire, now: Instant) -> Connection {
        let first = if wire.is_open() { WHOLE } else { HANDSHAKE };
        Connection {
            wire,
            hearing: Hearing {
                port,
                peer,
                partial: Vec::new(),
                scanned: 0,
                has_part: false,
                half_ping: false,
                pings: 0,
                pongs: 0,
                pinged: None,
                ponged: 0,
                proved: None,
                may_offer: true,
                offered: None,
                alias: None,
                is_proven: false,
                deadline: now + first,
            },
            fed: VecDeque::new(),
            pulse: Pulse::default(),
            says_first: false,
            is_listed: false,
            dialled: false,
            dialling: false,
            queue: VecDeque::new(),
            queued: 0,
            sent: VecDeque::new(),
            watched: 0,
            seat: None,
            account: Account::default(),
        }
    }

    pub(super) fn dialled(port: PortId, peer: SocketAddr, wire: Wire, now: Instant) -> Connection {
        let mut connection = Connection::accepted(port, peer, wire, now);
        (connection.dialled, connection.dialling) = (true, true);
        connection.hearing.may_offer = false;
        connection.hearing.deadline = now + DIAL;
        // We chose it.
        connection.hearing.is_proven = true;
        connection
    }

    /// Its listener, and its far end.
    pub(super) fn ends(&self) -> (PortId, SocketAddr) {
        (self.hearing.port, self.hearing.peer)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.wire.fd()
    }

    pub(super) fn is_dialling(&self) -> bool {
        self.dialling
    }

    pub(super) fn is_dialled(&self) -> bool {
        self.dialled
    }

    /// Whether it has proved every name that is expected at `to`. Where none is, that is so.
    pub(super) fn bears(&self, terms: &Terms, to: SocketAddr) -> bool {
        if !self.wire.has_session() || self.dialling || self.is_shaking_hands() {
            // Nothing is proved without TLS, and nothing is sent before it is.
            return true;
        }
        let proved = self.proved();
        terms.expected(to).iter().all(|name| proved.contains(name))
    }

    /// Whether it is known who is there: we chose them, or their proof is in, or there is none to come.
    pub(super) fn is_known(&self) -> bool {
        self.dialled || !self.is_shaking_hands()
    }

    /// The names it has proved.
    pub(super) fn proved(&self) -> &[Box<str>] {
        self.hearing.proved.as_deref().unwrap_or_default()
    }

    /// What it offers, when that is new (RFC 5923 8.1).
    pub(super) fn offers(&mut self) -> Option<Alias> {
        let (port, peer) = self.ends();
        let address = SocketAddr::new(peer.ip(), self.hearing.offered.take()?);
        let proved = self.hearing.proved.clone();
        self.hearing.alias = Some(address);
        Some(Alias { port, address, peer, proved })
    }

    /// The address it may be used for besides that of its far end.
    pub(super) fn alias(&self) -> Option<SocketAddr> {
        self.hearing.alias
    }

    /// Whether it has carried a message, or is one we wanted.
    pub(super) fn is_proven(&self) -> bool {
        self.hearing.is_proven
    }

    /// A dialled connection is there, or never will be.
    pub(super) fn dialled_through(&mut self, now: Instant) -> io::Result<()> {
        if let Some(error) = self.wire.take_error()? {
            return Err(error);
        }
        let next = if self.wire.is_open() { IDLE } else { HANDSHAKE };
        (self.dialling, self.hearing.deadline) = (false, now + next);
        Ok(())
    }

    pub(super) fn is_late(&self, now: Instant) -> bool {
        now >= self.hearing.deadline
    }

    /// Whether a keep-alive of ours was not answered in time.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.hearing.pinged.is_some_and(|at| now.since(at) >= PONG_WITHIN)
    }

    /// Whether its session is being agreed on, which costs a hundred times a message.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.wire.is_shaking_hands()
    }

    /// What the epoll is to watch.
    pub(super) fn interest(&self) -> i32 {
        let out = if self.dialling || self.waits() { libc::EPOLLOUT } else { 0 };
        let input = if self.listens() { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
        input | out
    }

    /// Whether it has something to send.
    pub(super) fn waits(&self) -> bool {
        self.wire.pending() > 0 || (!self.queue.is_empty() && self.wire.is_open())
    }

    /// Whether what comes is wanted now. What waits for a handshake to be over does not stop it.
    pub(super) fn listens(&self) -> bool {
        self.queued <= PAUSED || !self.wire.is_open()
    }

    /// Whether it is there, and so are the layers below its messages.
    pub(super) fn is_settled(&self) -> bool {
        !self.dialling && self.wire.is_open()
    }

    pub(super) fn is_watched_as(&self) -> i32 {
        self.watched
    }

    pub(super) fn watch_as(&mut self, events: i32) {
        self.watched = events;
    }

    /// Bytes of messages that wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Queues a message, or a keep-alive, which is to be answered; `false` when too much waits already.
    pub(super) fn say_later(&mut self, bytes: &[u8], now: Instant) -> bool {
        let queued = self.queue(bytes);
        self.pulse.beat(now);
        if queued && bytes == PING {
            self.hearing.pongs += 1;
            self.hearing.pinged.get_or_insert(now);
            self.account.asked += 1;
        }
        queued
    }

    fn queue(&mut self, bytes: &[u8]) -> bool {
        if self.queued + bytes.len() > QUEUE {
            return false;
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes.into());
        true
    }

    /// Lists it among those that have something to send; whether it was not.
    pub(super) fn list(&mut self) -> bool {
        !std::mem::replace(&mut self.is_listed, true)
    }

    /// Forgets requests that the far end has.
    pub(super) fn acknowledge(&mut self) {
        if self.sent.is_empty() {
            return;
        }
        let had = self.wire.acknowledged();
        while self.sent.front().is_some_and(|(end, _)| *end <= had) {
            self.sent.pop_front();
        }
        if self.sent.is_empty() {
            self.sent.shrink_to(0);
        }
    }

    /// Ends it; says so to the far end when the reason is `ours`. Messages that were not sent whole, requests among
    /// them that the far end does not have.
    pub(super) fn end(mut self, ours: bool) -> impl Iterator<Item = Box<[u8]>> {
        self.acknowledge();
        if ours && !self.dialling {
            self.wire.leave();
        }
        if self.seat.is_some() {
            // The ring holds the socket as well, until it hears of its end.
            self.wire.shut();
        }
        let sent = self.sent.into_iter().map(|(_, message)| message);
        sent.chain(self.queue).filter(|message| message.len() > PING.len())
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.is_listed = false;
        if self.dialling {
            return Ok(());
        }
        loop {
            self.feed()?;
            let flushed = self.wire.flush();
            self.settle();
            match flushed {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
                Ok(()) if self.queue.is_empty() || !self.wire.is_open() => break,
                Ok(()) => {}
            }
        }
        self.queue.shrink_to(4);
        self.fed.shrink_to(4);
        Ok(())
    }

    /// Gives the wire messages that wait, as many as go at once.
    fn feed(&mut self) -> io::Result<()> {
        while let Some(next) = self.queue.get(self.fed.len())
            && self.wire.is_open()
            && self.wire.pending() < BATCH
        {
            self.fed.push_back(self.wire.say(next)?);
        }
        Ok(())
    }

    /// Forgets messages that have passed whole.
    fn settle(&mut self) {
        while self.fed.front().is_some_and(|end| *end <= self.wire.passed()) {
            let passed = self.fed.pop_front().zip(self.queue.pop_front());
            let Some((end, message)) = passed else { return };
            self.queued -= message.len();
            self.keep(end, message);
        }
    }

    /// Keeps a request until the far end has it. Responses are repeated by whom they answer, if at all, and an ACK
    /// is asked for again.
    fn keep(&mut self, end: u64, message: Box<[u8]>) {
        let is_request = message.first().is_some_and(u8::is_ascii_uppercase)
            && !message.starts_with(b"SIP/2.0 ")
            && !message.starts_with(b"ACK ");
        if !is_request || message.len() > KEPT_SIZE {
            return;
        }
        if self.sent.len() == KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back((end, message));
    }

    /// What it says next, for somebody else to give to the kernel: the bytes stay where they are until
    /// [`Connection::said`].
    pub(super) fn say(&mut self) -> io::Result<&[u8]> {
        self.is_listed = false;
        // A message alone, in the form it travels in, need not be copied.
        self.says_first = self.queue.len() == 1 && self.wire.is_plain() && self.wire.pending() == 0;
        if !self.says_first {
            self.wire.prepare()?;
            self.feed()?;
        }
        Ok(match self.queue.front() {
            Some(first) if self.says_first => first,
            Some(_) | None => self.wire.leaving(),
        })
    }

    /// The kernel took so many of them.
    pub(super) fn said(&mut self, len: usize) -> io::Result<()> {
        self.wire.went(len);
        if std::mem::take(&mut self.says_first)
            && let Some(first) = self.queue.front()
        {
            // What it did not take goes the usual way.
            let rest = first.get(len..).unwrap_or_default();
            self.fed.push_back(self.wire.say(rest)?);
        }
        self.settle();
        Ok(())
    }

    /// Hands on every whole message of bytes that were read for it, which stand at a place in the pool.
    pub(super) fn hear(
        &mut self,
        (read, place): (&[u8], u32),
        scratch: &mut Scratch,
        now: Instant,
        letters: &mut Vec<Letter>,
    ) -> Result<(), Ended> {
        let place = self.wire.is_plain().then_some(place);
        let hearing = &mut self.hearing;
        let said = |said: Said| hearing.hear((said, place), now, letters);
        let heard = self.wire.take(read, &mut scratch.plain, said);
        self.answer_pings();
        heard
    }

    /// Reads once, and hands on every whole message. Whether there may be more to read.
    pub(super) fn read(
        &mut self,
        scratch: &mut Scratch,
        now: Instant,
        letters: &mut Vec<Letter>,
    ) -> Result<bool, Ended> {
        let was_open = self.wire.is_open();
        let hearing = &mut self.hearing;
        let read = self.wire.read(scratch, |said| hearing.hear((said, None), now, letters));
        if !was_open && self.wire.is_open() {
            self.hearing.deadline = self.hearing.deadline.max(now + WHOLE);
        }
        self.answer_pings();
        read
    }

    fn answer_pings(&mut self) {
        self.account.answered += std::mem::take(&mut self.hearing.ponged);
        for _ in 0..std::mem::take(&mut self.hearing.pings) {
            self.queue(PONG);
        }
    }
}

impl Hearing {
    /// What was said, and where it stands in the pool if it does: hands on every whole message, keeps the rest.
    fn hear(
        &mut self,
        (said, place): (Said, Option<u32>),
        now: Instant,
        letters: &mut Vec<Letter>,
    ) -> Result<(), Ended> {
        // Whatever comes is a sign of life.
        self.pinged = None;
        let read = match said {
            Said::Bytes(read) => read,
            Said::Message(message) => {
                match message {
                    b"" => {}
                    // RFC 7118 6: keep-alives of RFC 5626 may come over a WebSocket as well.
                    PING => self.pings += 1,
                    PONG => self.ponged(),
                    message => self.hand_on(message, None, letters),
                }
                (self.has_part, self.deadline) = (false, now + IDLE);
                return Ok(());
            }
            Said::Agreed(shown) => {
                self.proved = shown.map(|certificate| identity::names(certificate).into());
                return Ok(());
            }
            Said::Part => {
                if !std::mem::replace(&mut self.has_part, true) {
                    self.deadline = now + WHOLE;
                }
                return Ok(());
            }
        };
        let mut begun = std::mem::take(&mut self.partial);
        let is_new = begun.is_empty();
        let bytes = if is_new {
            read
        } else {
            begun.extend_from_slice(read);
            &begun
        };
        let taken = self.cut(bytes, place.filter(|_| is_new), letters)?;
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
    fn cut(
        &mut self,
        bytes: &[u8],
        place: Option<u32>,
        letters: &mut Vec<Letter>,
    ) -> Result<usize, Ended> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match frame_resumed(rest, &mut self.scanned) {
                Framing::Need => return Ok(at),
                Framing::Message(len) => {
                    let place = place.map(|first| first + at as u32);
                    self.hand_on(rest.get(..len).unwrap_or_default(), place, letters);
                    self.half_ping = false;
                    at += len;
                }
                Framing::KeepAlive(2) if self.pongs > 0 => {
                    self.ponged();
                    at += 2;
                }
                Framing::KeepAlive(len) => {
                    // A ping is two line ends, which may come one by one.
                    self.half_ping = len == 2 && !self.half_ping;
                    self.pings += usize::from(!self.half_ping);
                    at += len;
                }
                Framing::Error(_) => return Err(Ended::Framing),
            }
            self.scanned = 0;
        }
    }

    /// A keep-alive of ours was answered.
    fn ponged(&mut self) {
        self.ponged += u32::from(self.pongs > 0);
        self.pongs = self.pongs.saturating_sub(1);
    }

    fn hand_on(&mut self, message: &[u8], place: Option<u32>, letters: &mut Vec<Letter>) {
        self.is_proven = true;
        if self.may_offer && self.proved.is_some() {
            self.may_offer = false;
            self.offered = alias::offered(message);
        }
        let whole = |at| Heard::Whole(Bytes { at, len: message.len() as u32 });
        let bytes = place.map_or_else(|| Heard::Made(message.into()), whole);
        let (port, source, proved) = (self.port, self.peer, self.proved.clone());
        letters.push(Letter::Stream { port, source, proved, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::super::websocket::Websocket;
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, address) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let wire = Wire::new(socket, None);
        (Connection::accepted(PortId(0), address, wire, Instant(0)), peer)
    }

    #[test]
    fn what_waits_for_an_upgrade_does_not_stop_it() {
        let (connection, peer) = connected();
        let to = peer.peer_addr().unwrap();
        let mut request = Vec::new();
        let upgrade = Websocket::dial("ws.example", to, &mut request).unwrap();
        let wire = connection.wire.upgraded(upgrade, request);
        let mut connection = Connection::dialled(PortId(0), to, wire, Instant(0));
        connection.dialled_through(Instant(0)).unwrap();
        while connection.queue(&[b'x'; 10_000]) {}
        assert!(connection.queued() > PAUSED);
        assert!(connection.interest() & libc::EPOLLIN != 0, "its answer is waited for");
    }

    #[test]
    fn a_keep_alive_is_answered_in_time_or_the_connection_is_silent() {
        let (mut connection, mut peer) = connected();
        let at = |s: u64| Instant(0) + Duration::from_secs(s);
        let mut letters = Vec::new();
        assert!(connection.say_later(PING, at(1)) && connection.say_later(PING, at(5)));
        assert!(!connection.is_silent(at(10)) && connection.is_silent(at(11)));
        // Two answers, which together look like a question, and are not answered.
        let scratch = &mut Scratch::new();
        for _ in 0..2 {
            connection.hear((PONG, 0), scratch, at(10), &mut letters).unwrap();
            assert!(!connection.is_silent(at(60)));
        }
        connection.write().unwrap();
        // What is nobody's answer is half a question.
        connection.hear((PONG, 0), scratch, at(12), &mut letters).unwrap();
        connection.hear((PONG, 0), scratch, at(12), &mut letters).unwrap();
        connection.write().unwrap();
        drop(connection);
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, [PING, PING, PONG].concat());
        assert!(letters.is_empty());
    }

    #[test]
    fn a_message_is_either_with_the_kernel_or_comes_back() {
        let (mut connection, mut peer) = connected();
        let message = |n: u32| [b"SIP/2.0 ", &vec![n as u8; n as usize % 4000][..]].concat();
        let (mut sent, mut refused) = (0, false);
        // Far more than the kernel takes of who does not listen.
        while !refused {
            refused = !connection.queue(&message(sent));
            sent += u32::from(!refused);
            connection.write().unwrap();
            let waits: usize = connection.queue.iter().map(|message| message.len()).sum();
            assert_eq!(connection.queued(), waits);
            assert!(connection.wire.pending() < BATCH + 4000 && connection.queued() <= QUEUE);
        }
        let back: Vec<_> = connection.end(false).collect();
        let heard = thread::spawn(move || {
            let mut heard = Vec::new();
            peer.read_to_end(&mut heard).map(|_| heard).unwrap_or_default()
        });
        let heard = heard.join().unwrap();
        let whole = sent - back.len() as u32;
        assert!(whole > 0 && !back.is_empty());
        let expected: Vec<u8> = (0..whole).flat_map(message).collect();
        assert_eq!(heard.get(..expected.len()), Some(&expected[..]), "{whole} went whole");
        assert!(heard.len() - expected.len() < back[0].len(), "what came back did not go whole");
        assert!((whole..sent).map(message).eq(back.into_iter().map(Vec::from)));
    }

    #[test]
    fn a_request_is_with_the_far_end_or_comes_back() {
        let (mut connection, mut peer) = connected();
        let message =
            |n: u32| format!("INFO sip:a SIP/2.0\r\nCSeq: {n}\r\n\r\n{n:2000}").into_bytes();
        // As many as are kept are there, and none is once the far end's kernel has them.
        for n in 0..KEPT as u32 + 3 {
            assert!(connection.queue(&message(n)));
            connection.write().unwrap();
            assert!(connection.sent.len() <= KEPT);
        }
        let begun = std::time::Instant::now();
        while !connection.sent.is_empty() && begun.elapsed() < Duration::from_secs(10) {
            connection.acknowledge();
        }
        assert!(connection.sent.is_empty());
        // Then it takes no more: what stays with our kernel alone comes back.
        let mut sent = KEPT as u32 + 3;
        while connection.queue(&message(sent)) {
            sent += 1;
            connection.write().unwrap();
        }
        connection.acknowledge();
        let (kept, queued) = (connection.sent.len(), connection.queue.len());
        assert!(kept > 0, "our kernel has some of {queued}");
        connection.wire.shut();
        let back: Vec<_> = connection.end(false).map(Vec::from).collect();
        assert_eq!(back.len(), kept + queued);
        let first = sent - back.len() as u32;
        assert!((first..sent).map(message).eq(back));
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        // But for what is no longer kept, all that did not come back is there.
        let whole: Vec<u8> = (0..KEPT as u32 + 3).flat_map(message).collect();
        assert_eq!(heard.get(..whole.len()), Some(&whole[..]));
    }
}
