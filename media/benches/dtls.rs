//! A thousand handshakes at once beside an established flow: how long a turn of the shard is meanwhile, which is
//! how long a packet of the flow may wait. What a leg takes of memory is counted by `tests/no_alloc.rs`.
//!
//! `cargo bench -p media --bench dtls`. The peers' side of each handshake is done between turns, off the clock.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use base::{Bytes, Instant, Now, Pool, PortId, Texts, Wall};
use media::dtls::{
    Association, Event, Fingerprint, Hash, Identity, Library, Provider, Role, Terms,
};
use media::{EndKey, Media, MediaPort, Notice, Plan, Security};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const LEGS: u32 = 1_000;

/// A peer, and the leg it is.
struct Peer {
    association: Box<dyn Association>,
    address: SocketAddr,
    leg: EndKey,
}

struct Bench {
    media: Media,
    pool: Pool,
    started: std::time::Instant,
    notices: Vec<Notice>,
    secured: usize,
}

impl Bench {
    fn now(&self) -> Instant {
        Instant(1 + self.started.elapsed().as_nanos() as u64)
    }

    fn receive(&mut self, leg: EndKey, source: SocketAddr, datagram: &[u8]) {
        let bytes = Bytes { at: 0, len: datagram.len() as u32 };
        self.pool.get_mut(bytes).copy_from_slice(datagram);
        let now = Now { mono: self.now(), wall: Wall(0) };
        let (pool, mut out) = (&mut self.pool, Vec::with_capacity(1));
        let _verdict =
            self.media.receive(now, PortId(2 * leg.index), source, bytes, pool, &mut out);
    }

    fn shake(&mut self, now: Instant, texts: &mut Texts) {
        self.media.shake(now, texts, &mut self.notices);
        let is_secured = |notice: &Notice| matches!(notice, Notice::Secured { .. });
        self.secured += self.notices.drain(..).filter(is_secured).count();
    }
}

fn address(leg: u32) -> SocketAddr {
    SocketAddr::from(([198, 51, (leg >> 8) as u8, leg as u8], 4_000))
}

/// What a peer wants to send.
fn sent(association: &mut dyn Association, room: &mut [u8], mut each: impl FnMut(&[u8])) {
    loop {
        match association.next(room) {
            Event::Send(bytes) => each(bytes),
            Event::Certificate(_) | Event::Keys(_) | Event::Other => {}
            Event::Fail(why) => panic!("{why:?}"),
            Event::Wait(_) => return,
        }
    }
}

fn voice(sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.resize(172, 0x55);
    bytes
}

fn main() {
    let started = std::time::Instant::now();
    let library =
        || Arc::new(Library::new(Identity::generate().unwrap(), (started, Instant(1))).unwrap());
    let (ours, theirs) = (library(), library());
    let port = |i: u32| MediaPort {
        rtp: PortId(2 * i),
        rtcp: PortId(2 * i + 1),
        address: SocketAddr::from(([203, 0, 113, 1], 10_000 + 2 * i as u16)),
        interface: 0,
    };
    let mut media = Media::new((0..LEGS + 2).map(port).collect(), [1; 32], Instant(1));
    media.set_dtls(ours.clone());
    let mut bench =
        Bench { media, pool: Pool::new(4_096), started, notices: Vec::new(), secured: 0 };
    let flow = [0, 1].map(|i| {
        let leg = bench.media.reserve(0, Instant(1)).unwrap();
        bench.media.program(Instant(1), leg, Plan::towards(address(60_000 + i)));
        leg
    });
    bench.media.join(flow[0], flow[1]);
    let legs: Vec<EndKey> =
        (0..LEGS).map(|_| bench.media.reserve(0, Instant(1)).unwrap()).collect();
    let fingerprint = Fingerprint::new(Hash::Sha256, &theirs.fingerprint()).unwrap();
    let terms = Terms { role: Role::Passive, fingerprint, tls_id: 0, ours: ours.certificate() };
    let mut peers: Vec<Peer> = Vec::new();
    for (i, leg) in (0..).zip(&legs) {
        let mut plan = Plan::towards(address(i));
        (plan.security, plan.rtcp_mux) = (Security::Dtls(Box::new(terms)), true);
        bench.media.program(bench.now(), *leg, plan);
        let association = theirs.begin(Role::Active, bench.now());
        peers.push(Peer { association, address: address(i), leg: *leg });
    }
    let mut room = vec![0; 8_192];
    for peer in &mut peers {
        peer.association.advance(bench.now()).unwrap();
        sent(&mut *peer.association, &mut room, |bytes| {
            bench.receive(peer.leg, peer.address, bytes)
        });
    }
    let (mut turns, mut sequence) = (Vec::new(), 0u16);
    let mut texts = Texts::default();
    while bench.secured < LEGS as usize && bench.started.elapsed() < Duration::from_secs(60) {
        // A turn, as the shard has it: packets of the flow, then a few steps.
        let turn = std::time::Instant::now();
        sequence = sequence.wrapping_add(1);
        bench.receive(flow[0], address(60_000), &voice(sequence));
        bench.shake(bench.now(), &mut texts);
        turns.push(turn.elapsed());
        for send in core::mem::take(&mut texts.sends) {
            let at = (send.port.0 / 2 - flow.len() as u32) as usize;
            let peer = &mut peers[at];
            peer.association.receive(bench.now(), texts.get(send.bytes)).unwrap();
            sent(&mut *peer.association, &mut room, |bytes| {
                bench.receive(peer.leg, peer.address, bytes);
            });
        }
        texts.clear();
    }
    turns.sort_unstable();
    let at = |share: f64| turns[((turns.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let total: Duration = turns.iter().sum();
    println!("handshakes at once          {:>9} of {LEGS}", bench.secured);
    println!("turns                       {:>9}", turns.len());
    println!("a packet waits, p50         {:>9.3} ms", at(0.5));
    println!("a packet waits, p99.9       {:>9.3} ms", at(0.999));
    println!("a packet waits, longest     {:>9.3} ms", at(1.0));
    println!("CPU a handshake             {:>9.1} us", total.as_secs_f64() * 1e6 / f64::from(LEGS));
    let waited = bench.media.counters.discards.get(media::Discard::DtlsBusy.index());
    println!("datagrams turned away       {waited:>9}");
    assert_eq!(bench.secured, LEGS as usize, "not all came to their end");
}
