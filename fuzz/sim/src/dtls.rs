//! A scripted twin of the DTLS library: it shakes hands in three datagrams and draws nothing, so that the
//! same seed is the same world. What it says is no DTLS, and hides nothing; the first byte alone is.
//!
//! `22 kind certificate(32) nonce(16)`: the active side says hello (1), the passive one answers (2), the
//! active one confirms (3). Keys follow from both nonces.

use base::Instant;
use base::random::Random;
use media::dtls::{Association, Event, Failure, Fingerprint, Hash, Provider, Role};
use media::srtp::{Keys, MasterKey, Suite};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HANDSHAKE: u8 = 22;
const RETRANSMISSION: Duration = Duration::from_millis(500);
const LEN: usize = 2 + 32 + 16;

/// Makes twins of one certificate.
pub struct Twin {
    certificate: [u8; 32],
    drawn: AtomicU64,
}

impl Twin {
    /// Whose certificate, which is its own digest's preimage, begins so.
    pub fn new(certificate: [u8; 32]) -> Twin {
        Twin { certificate, drawn: AtomicU64::new(0) }
    }

    /// What its certificate hashes to.
    pub fn vouched(&self) -> Fingerprint {
        Fingerprint::new(Hash::Sha256, &self.fingerprint()).expect("of its length")
    }
}

impl Provider for Twin {
    fn fingerprint(&self) -> [u8; 32] {
        Fingerprint::of(&self.certificate)
    }

    fn begin(&self, role: Role, now: Instant) -> Box<dyn Association> {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let random = Random::new((number, 7));
        let nonce =
            [random.hash(&[&self.certificate, b"a"]), random.hash(&[&self.certificate, b"b"])];
        let mut ours = [0; 16];
        ours[..8].copy_from_slice(&nonce[0].to_be_bytes());
        ours[8..].copy_from_slice(&nonce[1].to_be_bytes());
        let certificate = self.certificate;
        Box::new(Shaking {
            certificate,
            role,
            ours,
            queue: Vec::new(),
            due: Some(now),
            done: false,
        })
    }
}

struct Shaking {
    certificate: [u8; 32],
    role: Role,
    ours: [u8; 16],
    /// What is to be handed out, the last first.
    queue: Vec<Wanted>,
    due: Option<Instant>,
    done: bool,
}

enum Wanted {
    Send(u8),
    Certificate([u8; 32]),
    Keys(Box<Keys>),
}

impl Shaking {
    fn keys(&self, theirs: &[u8; 16]) -> Box<Keys> {
        let (client, server) = match self.role {
            Role::Active => (&self.ours, theirs),
            Role::Passive => (theirs, &self.ours),
        };
        let key = |first: &[u8; 16], second: &[u8; 16]| {
            let bytes: Vec<u8> = first.iter().chain(second).copied().take(30).collect();
            MasterKey::new(Suite::AesCm128HmacSha1_80, &bytes).expect("of its length")
        };
        let (theirs, ours) = match self.role {
            Role::Active => (key(server, client), key(client, server)),
            Role::Passive => (key(client, server), key(server, client)),
        };
        let suite = Suite::AesCm128HmacSha1_80;
        Box::new(Keys { suite, ingress: theirs, egress: ours, mki_len: 0 })
    }
}

impl Association for Shaking {
    fn receive(&mut self, _now: Instant, datagram: &[u8]) -> Result<(), Failure> {
        let Ok(datagram) = <&[u8; LEN]>::try_from(datagram) else { return Ok(()) };
        let certificate: [u8; 32] = core::array::from_fn(|i| datagram[2 + i]);
        let theirs: [u8; 16] = core::array::from_fn(|i| datagram[34 + i]);
        let wanted = match (self.role, datagram[1]) {
            (Role::Passive, 1) => vec![Wanted::Send(2)],
            (Role::Active, 2) if self.done => vec![Wanted::Send(3)],
            (Role::Active, 2) => vec![
                Wanted::Keys(self.keys(&theirs)),
                Wanted::Certificate(certificate),
                Wanted::Send(3),
            ],
            (Role::Passive, 3) if !self.done => {
                vec![Wanted::Keys(self.keys(&theirs)), Wanted::Certificate(certificate)]
            }
            _ => Vec::new(),
        };
        self.done |= wanted.iter().any(|wanted| matches!(wanted, Wanted::Keys(_)));
        if self.done {
            self.due = None;
        }
        self.queue.extend(wanted);
        Ok(())
    }

    fn advance(&mut self, now: Instant) -> Result<(), Failure> {
        if self.role == Role::Active && !self.done && self.due.is_some_and(|due| due <= now) {
            self.queue.push(Wanted::Send(1));
            self.due = Some(now + RETRANSMISSION);
        }
        Ok(())
    }

    fn next<'a>(&mut self, room: &'a mut [u8]) -> Event<'a> {
        match self.queue.pop() {
            None => Event::Wait(self.due.filter(|_| self.role == Role::Active)),
            Some(Wanted::Send(kind)) => {
                room[..2].copy_from_slice(&[HANDSHAKE, kind]);
                room[2..34].copy_from_slice(&self.certificate);
                room[34..LEN].copy_from_slice(&self.ours);
                Event::Send(&room[..LEN])
            }
            Some(Wanted::Certificate(certificate)) => {
                room[..32].copy_from_slice(&certificate);
                Event::Certificate(&room[..32])
            }
            Some(Wanted::Keys(keys)) => Event::Keys(keys),
        }
    }
}
