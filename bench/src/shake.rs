//! `shake`: calls whose media waits for a DTLS handshake (RFC 5763, RFC 5764), which all begin in one moment.
//!
//! Meant to run beside another load, for what handshakes do to it; the called side is another process. The
//! protocol is the library's that the SBC has as well, the one exception to sharing no code with it: what
//! is measured is who waits, and that others understand its handshakes is shown by tests with OpenSSL.

use crate::cli::ShakeArgs;
use crate::link::{self, Heard, Link};
use crate::locality::{self, Locality};
use crate::os::{self, Timeline};
use crate::sip::{self, Dialog, Message};
use crate::stats::Samples;
use crate::{sdp, uac};
use base::Instant;
use media::dtls::{Association, Event, Fingerprint, Identity, Library, Provider, Role};
use serde_json::json;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// How long an answer, and how long keys are waited for.
const PATIENCE: u64 = 10 * SECOND;
/// How often peers that heard nothing are looked at.
const LOOK: u64 = SECOND / 20;

/// One call, and the peer whose hand is shaken.
struct Peer {
    dialog: Dialog,
    invite: Vec<u8>,
    to: SocketAddr,
    answered: bool,
    over: bool,
    /// What the answer says the certificate hashes to, and whether the one that came does.
    promised: String,
    certified: bool,
    association: Box<dyn Association>,
    due: Option<Instant>,
    keyed: bool,
}

struct Shake<'a> {
    args: &'a ShakeArgs,
    line: Timeline,
    signal: Link,
    media: Link,
    library: Library,
    nonce: u32,
    peers: Vec<Peer>,
    /// Which peer's media comes from where.
    places: HashMap<SocketAddr, usize>,
    room: Vec<u8>,
    took: Samples,
}

/// Runs `sbcload shake`; true when every call got its keys and ended as it should.
pub(crate) fn run(args: &ShakeArgs) -> Result<bool, String> {
    Locality::new(args.allow_remote).check(args.to)?;
    let local = args.uac.map_or_else(|| locality::facing(args.to), Ok)?;
    let line = Timeline::new();
    let identity = Identity::generate().map_err(|e| e.to_string())?;
    let origin = (std::time::Instant::now(), Instant(line.now()));
    let bind = |address| Link::new(link::bind(address, 8 << 20)?, line, args.allow_remote);
    let mut shake = Shake {
        args,
        line,
        signal: bind(local)?,
        media: bind(SocketAddr::new(local.ip(), 0))?,
        library: Library::new(identity, origin).map_err(|e| e.to_string())?,
        nonce: os::wall_ns() as u32,
        peers: Vec::new(),
        places: HashMap::new(),
        room: vec![0; 8_192],
        took: Samples::default(),
    };
    shake.call();
    let lasted = shake.hands();
    std::thread::sleep(Duration::from_secs_f64(args.hold));
    shake.hang_up();
    Ok(shake.tell(lasted))
}

impl Shake<'_> {
    fn now(&self) -> Instant {
        Instant(self.line.now())
    }

    /// Sets every call up.
    fn call(&mut self) {
        let (begun, mut inbox) = (self.line.now(), Vec::new());
        let interval = (1e9 / self.args.rate) as u64;
        let mut last = begun;
        while !os::stopping() {
            let now = self.line.now();
            while (self.peers.len() as u32) < self.args.calls
                && begun + self.peers.len() as u64 * interval <= now
            {
                self.invite();
                last = now;
            }
            let all = self.peers.len() as u32 == self.args.calls;
            if all && (self.peers.iter().all(|p| p.answered || p.over) || now > last + PATIENCE) {
                return self.signal.flush();
            }
            self.signal.turn(now + interval.min(LOOK), &mut inbox);
            inbox.drain(..).for_each(|heard| self.heard(&heard));
        }
    }

    fn invite(&mut self) {
        let (me, id) = (self.signal.local, self.peers.len());
        let host = uac::bracketed(me);
        let number = &self.args.number;
        let dialog = Dialog {
            call_id: format!("shake-{id:x}-{:08x}@{host}", self.nonce),
            local: format!("<sip:{}@{host}>;tag=s{id:x}", 14_160_000_000 + id as u64),
            remote: format!("<sip:{number}@{}>", uac::bracketed(self.args.to)),
            target: format!("sip:{number}@{}", self.args.to),
            routes: Vec::new(),
        };
        let offer = sdp::print(self.media.local, id as u64 + 1, None, 20, None);
        let mut offer = offer.replace("RTP/AVP", "UDP/TLS/RTP/SAVP");
        // Writing to a String can't fail.
        let _ = write!(
            offer,
            "a=rtcp-mux\r\na=setup:active\r\na=fingerprint:{}\r\n",
            written(&self.library.fingerprint())
        );
        let branch = format!("i{id:x}.{:08x}", self.nonce);
        let invite = sip::request(&dialog, (1, "INVITE"), &branch, me, Some(&offer));
        self.signal.send(self.args.to, &invite);
        self.peers.push(Peer {
            dialog,
            invite,
            to: self.args.to,
            answered: false,
            over: false,
            promised: String::new(),
            certified: false,
            association: self.library.begin(Role::Active, self.now()),
            due: None,
            keyed: false,
        });
    }

    /// A SIP message: answers to what we said, and the other side's BYE.
    fn heard(&mut self, heard: &Heard) {
        let Some(message) = Message::parse(&heard.bytes) else { return };
        let id = message.one("Call-ID").split('-').nth(1).map(|id| usize::from_str_radix(id, 16));
        let Some(Ok(id)) = id else { return };
        let (me, nonce) = (self.signal.local, self.nonce);
        let Some(peer) = self.peers.get_mut(id) else { return };
        match (message.status(), message.cseq().1) {
            (None, "ACK") => {}
            (None, _) => {
                peer.over = true;
                self.signal.send(heard.from, &sip::response(&message, 200, "", None, None));
            }
            (Some(200), "INVITE") => {
                message.one("To").clone_into(&mut peer.dialog.remote);
                sip::uri(message.one("Contact")).clone_into(&mut peer.dialog.target);
                peer.dialog.routes = message.routes();
                peer.dialog.routes.reverse();
                peer.to = peer.dialog.next_hop().unwrap_or(peer.to);
                let print = message.body.lines().find_map(|l| l.strip_prefix("a=fingerprint:"));
                print.unwrap_or_default().trim().clone_into(&mut peer.promised);
                let branch = format!("a{id:x}.{nonce:08x}");
                let ack = sip::request(&peer.dialog, (1, "ACK"), &branch, me, None);
                let to = peer.to;
                self.signal.send(to, &ack);
                if let Some(remote) = self.signal.remote(message.body) {
                    self.places.insert(remote.address, id);
                    self.peers[id].answered = true;
                }
            }
            (Some(300..), "INVITE") => {
                let ack = sip::companion(&peer.invite, "ACK", Some(message.one("To")));
                peer.over = true;
                self.signal.send(self.args.to, &ack);
            }
            (Some(200..), "BYE") => peer.over = true,
            (Some(_), _) => {}
        }
    }

    /// Every peer begins; how long it took until the last had its keys.
    fn hands(&mut self) -> u64 {
        let places: Vec<(SocketAddr, usize)> = self.places.iter().map(|(a, i)| (*a, *i)).collect();
        // The first flights are made ahead and leave together.
        for (address, id) in &places {
            self.advance(*address, *id);
        }
        let begun = self.line.now();
        self.media.flush();
        let (mut inbox, mut look) = (Vec::new(), begun + LOOK);
        while self.places.values().any(|id| !self.peers[*id].keyed) && !os::stopping() {
            let now = self.line.now();
            if now > begun + 3 * PATIENCE {
                break;
            }
            self.media.turn(look.min(now + LOOK), &mut inbox);
            for heard in inbox.drain(..) {
                let Some(id) = self.places.get(&heard.from).copied() else { continue };
                let (now, was_keyed) = (self.now(), self.peers[id].keyed);
                // What the library refuses it has told its peer of; there are no keys then.
                let _ = self.peers[id].association.receive(now, &heard.bytes);
                self.poll(heard.from, id);
                if self.peers[id].keyed && !was_keyed {
                    self.took.add(self.line.now() - begun);
                }
            }
            if self.line.now() >= look {
                look = self.line.now() + LOOK;
                for (address, id) in &places {
                    if self.peers[*id].due.is_some_and(|due| due <= Instant(look - LOOK)) {
                        self.advance(*address, *id);
                    }
                }
                self.signal.turn(0, &mut inbox);
                inbox.drain(..).for_each(|heard| self.heard(&heard));
            }
        }
        self.media.flush();
        self.line.now() - begun
    }

    fn advance(&mut self, address: SocketAddr, id: usize) {
        let now = self.now();
        let _ = self.peers[id].association.advance(now);
        self.poll(address, id);
    }

    fn poll(&mut self, address: SocketAddr, id: usize) {
        let peer = &mut self.peers[id];
        loop {
            match peer.association.next(&mut self.room) {
                Event::Send(bytes) => self.media.send(address, bytes),
                Event::Certificate(der) => {
                    let came = written(&Fingerprint::of(der));
                    peer.certified = came.eq_ignore_ascii_case(&peer.promised);
                }
                Event::Keys(_) => peer.keyed = peer.certified,
                Event::Other => {}
                Event::Fail(_) => return peer.due = None,
                Event::Wait(due) => return peer.due = due,
            }
        }
    }

    fn hang_up(&mut self) {
        let (me, nonce, mut inbox) = (self.signal.local, self.nonce, Vec::new());
        for (id, peer) in self.peers.iter().enumerate().filter(|(_, p)| p.answered && !p.over) {
            let branch = format!("b{id:x}.{nonce:08x}");
            let bye = sip::request(&peer.dialog, (2, "BYE"), &branch, me, None);
            self.signal.send(peer.to, &bye);
        }
        let end = self.line.now() + PATIENCE;
        while self.peers.iter().any(|p| p.answered && !p.over) && self.line.now() < end {
            self.signal.turn(self.line.now() + LOOK, &mut inbox);
            inbox.drain(..).for_each(|heard| self.heard(&heard));
        }
    }

    fn tell(mut self, lasted: u64) -> bool {
        let (calls, answered) = (self.args.calls as usize, self.places.len());
        let keyed = self.peers.iter().filter(|peer| peer.keyed).count();
        let over = self.peers.iter().filter(|peer| peer.over).count();
        let took = self.took.summary();
        if self.args.json {
            let value = json!({
                "calls": calls, "answered": answered, "keyed": keyed, "over": over,
                "lasted_ms": lasted / 1_000_000, "keyed_us": took.json(),
            });
            println!("{value}");
        } else {
            println!("calls      {calls}, {answered} answered, {keyed} got keys, {over} ended");
            println!("keys µs    {}", took.text());
        }
        keyed == calls && over == calls
    }
}

/// As `a=fingerprint` has it.
fn written(digest: &[u8; 32]) -> String {
    let octets: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    format!("sha-256 {}", octets.join(":"))
}
