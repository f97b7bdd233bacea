//! A SIP peer of a few lines: raw datagrams out, raw datagrams in.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One UDP socket.
pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn bind(address: SocketAddr) -> Peer {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Peer { address: socket.local_addr().unwrap(), socket }
    }

    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        // An earlier datagram may have met a closed port: its error is told here, and nothing is lost.
        if self.socket.send_to(bytes, to).is_err() {
            self.socket.send_to(bytes, to).unwrap();
        }
    }

    /// The next datagram that `wanted` accepts, as text; others are passed over.
    pub(crate) fn hear(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let (end, mut buffer) = (Instant::now() + patience, vec![0; 65_536]);
        while Instant::now() < end {
            let Ok((len, _)) = self.socket.recv_from(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if wanted(&text) {
                return Some(text);
            }
        }
        None
    }

    pub(crate) fn expect(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.hear(Duration::from_secs(20), wanted)
            .unwrap_or_else(|| panic!("{} never heard {what}", self.address))
    }

    /// An INVITE with an offer.
    pub(crate) fn invite(&self, to: SocketAddr, call: &str, more: &str) -> String {
        let (me, ip) = (self.address, self.address.ip());
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        let body = format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio 30000 RTP/AVP 0\r\n"
        );
        format!(
            "INVITE sip:442079460000@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:14150000001@{me}>;tag=f{call}\r\n\
             To: <sip:442079460000@{to}>\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:14150000001@{me}>\r\n{more}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// A request within the dialog that `response` (to our INVITE) made.
    pub(crate) fn within(&self, response: &str, method: &str, cseq: u32) -> String {
        let target = header(response, "Contact").trim_matches(['<', '>']).to_owned();
        let me = self.address;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{method}{cseq}{}\r\n\
             Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            header(response, "Call-ID"),
            header(response, "From"),
            header(response, "To"),
            header(response, "Call-ID"),
        )
    }

    /// An OPTIONS that belongs to nothing.
    pub(crate) fn options(&self, to: SocketAddr, call: &str) -> String {
        let me = self.address;
        format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:t@{me}>;tag=f\r\nTo: <sip:{to}>\r\nCall-ID: {call}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// The ACK of a refusal, or the CANCEL: same Request-URI, branch, From and Call-ID as the INVITE.
pub(crate) fn companion(invite: &str, method: &str, to: &str) -> String {
    let uri = invite.split(' ').nth(1).unwrap_or("");
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\n\
         Call-ID: {}\r\nCSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
        header(invite, "Via"),
        header(invite, "From"),
        header(invite, "Call-ID"),
        header(invite, "CSeq").split(' ').next().unwrap_or("1"),
    )
}

/// The value of a header field, or nothing where there is none.
pub(crate) fn header(message: &str, name: &str) -> String {
    let line = message.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_default()
}

/// A response to a request; a tag is added to To where it has none.
pub(crate) fn respond(request: &str, status: &str, more: &str, body: &str) -> String {
    let vias = request.lines().filter(|l| l.starts_with("Via:")).map(|l| format!("{l}\r\n"));
    let to = header(request, "To");
    let tag = if to.contains(";tag=") { "" } else { ";tag=callee" };
    format!(
        "SIP/2.0 {status}\r\n{}From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}\
         Content-Length: {}\r\n\r\n{body}",
        vias.collect::<String>(),
        header(request, "From"),
        header(request, "Call-ID"),
        header(request, "CSeq"),
        body.len()
    )
}

/// The session description of an address.
pub(crate) fn sdp(ip: std::net::IpAddr, port: u16) -> String {
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\n"
    )
}

/// A bad line in front of a called side: passes datagrams both ways and loses one in five.
pub(crate) struct BadLine {
    pub(crate) near: SocketAddr,
    pub(crate) lost: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BadLine {
    pub(crate) fn to(far: SocketAddr) -> BadLine {
        let line = Peer::bind((far.ip(), 0).into());
        let (near, lost, stop) = (line.address, Arc::default(), Arc::default());
        let (counted, told): (Arc<AtomicU32>, Arc<AtomicBool>) =
            (Arc::clone(&lost), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut other, mut buffer, mut dice) = (None, vec![0; 65_536], 7u32);
            while !told.load(Ordering::Relaxed) {
                let Ok((len, from)) = line.socket.recv_from(&mut buffer) else { continue };
                let to = if from == far { other } else { Some(far) };
                other = if from == far { other } else { Some(from) };
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match to {
                    Some(to) if !(dice >> 16).is_multiple_of(5) => line.send(to, &buffer[..len]),
                    _ => drop(counted.fetch_add(1, Ordering::Relaxed)),
                }
            }
        });
        BadLine { near, lost, stop, thread: Some(thread) }
    }
}

impl Drop for BadLine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Where the description of a message wants speech.
pub(crate) fn speech(message: &str) -> SocketAddr {
    let line = |kind: &str| message.lines().rev().find_map(|line| line.strip_prefix(kind)).unwrap();
    let port = line("m=audio ").split(' ').next().unwrap();
    format!("{}:{port}", line("c=IN IP4 ")).parse().unwrap()
}

/// G.711 of one sound.
pub(crate) fn voice(sequence: u16, sound: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, sound]);
    bytes.extend_from_slice(&[sound; 160]);
    bytes
}
