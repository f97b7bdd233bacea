//! The audio of both sides: who sends what when, and whether what comes is what was sent.
//!
//! A worker owns some sockets of either side and every leg that uses them. A leg sends one packet
//! every `ptime` in the half-millisecond slot it was given; legs of one socket share slots, so that
//! they share system calls. Latency is measured against kernel receive stamps.

use crate::link;
use crate::os::{self, Epoll, Receiver, Sender};
use crate::rtp::{self, Mark};
use crate::sdp::Remote;
use crate::srtp::{Key, Session};
use crate::stats::Histogram;
use crate::{live::Live, os::Timeline};
use socket2::Socket;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

/// The calling side.
pub(crate) const CALLER: u8 = 0;
/// The called side.
pub(crate) const CALLEE: u8 = 1;
/// Packets that leave in one system call: more would make the send stamps of the last ones old.
const TOGETHER: usize = 16;
/// Slots in a millisecond.
const PER_MS: u64 = 2;

/// What signalling tells a worker.
pub(crate) enum Order {
    /// From now on this leg may be spoken to.
    Open { call: u32, side: u8, remote: Remote },
    /// It speaks, this many packets at most.
    Start { call: u32, side: u8, packets: u32 },
    /// It stops speaking; it still listens.
    Stop { call: u32, side: u8 },
    /// Hand in what was counted.
    Finish,
}

/// One side of one call.
pub(crate) struct Leg {
    /// Which call.
    pub(crate) call: u32,
    /// Which side of it.
    pub(crate) side: u8,
    socket: usize,
    /// Where it sends to and hears from.
    pub(crate) remote: Remote,
    budget: u32,
    speaking: bool,
    /// Packets sent.
    pub(crate) sent: u32,
    /// Packets heard once each, right in every way.
    pub(crate) received: u32,
    highest: i64,
    window: u64,
    /// When the first packet left.
    pub(crate) first_sent: u64,
    /// When the first packet came.
    pub(crate) first_heard: u64,
    /// When the last packet came.
    pub(crate) last_heard: u64,
}

/// What was wrong with packets, by kind.
#[derive(Default, Clone, Copy)]
pub(crate) struct Wrong {
    /// Not what was sent: a bit changed, or never ours.
    pub(crate) content: u64,
    /// From another address than the SDP named.
    pub(crate) source: u64,
    /// Of another call, another run or on another call's socket.
    pub(crate) call: u64,
    /// Its own side's audio came back.
    pub(crate) direction: u64,
    /// Under another payload type than agreed.
    pub(crate) codec: u64,
}

impl Wrong {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.content + self.source + self.call + self.direction + self.codec
    }
}

/// What a worker counted.
pub(crate) struct Tally {
    /// Every leg.
    pub(crate) legs: Vec<Leg>,
    /// What was wrong.
    pub(crate) wrong: Wrong,
    /// Heard twice.
    pub(crate) duplicates: u64,
    /// Heard after a later one.
    pub(crate) late: u64,
    /// RTCP heard.
    pub(crate) control: u64,
    /// Datagrams the kernel would not send.
    pub(crate) refused: u64,
    /// Times the worker fell 20 ms behind and let its schedule slide.
    pub(crate) slips: u64,
    /// One way, send to kernel receive stamp.
    pub(crate) delay: Histogram,
}

/// The sockets of one side.
pub(crate) struct Pool {
    /// The sockets.
    pub(crate) sockets: Vec<Arc<Socket>>,
    /// Their addresses.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// RTP lives on even ports (RFC 3550 section 11).
fn even(pool: &mut Pool, socket: Socket) -> Result<(), String> {
    let address = link::address(&socket)?;
    if address.port().is_multiple_of(2) {
        pool.sockets.push(Arc::new(socket));
        pool.addresses.push(address);
    }
    Ok(())
}

/// Opens `count` sockets wherever there is room.
pub(crate) fn open_shared(ip: IpAddr, count: usize) -> Result<Pool, String> {
    let mut pool = Pool { sockets: Vec::new(), addresses: Vec::new() };
    for _ in 0..count * 64 {
        if pool.sockets.len() == count {
            return Ok(pool);
        }
        even(&mut pool, link::bind(SocketAddr::new(ip, 0), 8 << 20)?)?;
    }
    Err("no even ports left".to_owned())
}

/// Opens what is free of a range, half for either side.
pub(crate) fn open_range(ip: IpAddr, first: u16, last: u16) -> Result<[Pool; 2], String> {
    let mut near = Pool { sockets: Vec::new(), addresses: Vec::new() };
    for port in (first..=last).step_by(2) {
        // A port somebody else has is left to them.
        if let Ok(socket) = link::bind(SocketAddr::new(ip, port), 1 << 16) {
            even(&mut near, socket)?;
        }
    }
    let half = near.sockets.len() / 2;
    if half == 0 {
        return Err(format!("no ports free between {first} and {last}"));
    }
    let mut far =
        Pool { sockets: near.sockets.split_off(half), addresses: near.addresses.split_off(half) };
    far.sockets.truncate(half);
    far.addresses.truncate(half);
    Ok([near, far])
}

/// Everything a worker needs to begin.
pub(crate) struct Worker {
    /// Sockets of the caller's side and of the called side; a call uses number `call % len`.
    pub(crate) pools: [Vec<Arc<Socket>>; 2],
    /// This worker's share: socket numbers that leave this remainder.
    pub(crate) share: (usize, usize),
    /// Run number in the payload.
    pub(crate) run: u32,
    /// Packet time in ms.
    pub(crate) ptime: u64,
    /// What callers protect their packets with.
    pub(crate) key: Option<Key>,
    /// The time line.
    pub(crate) line: Timeline,
    /// Shared counters.
    pub(crate) live: Arc<Live>,
    /// Where orders come from.
    pub(crate) orders: mpsc::Receiver<Order>,
}

struct State {
    worker: Worker,
    index: HashMap<(u32, u8), usize>,
    slots: Vec<Vec<usize>>,
    tally: Tally,
    packet: Vec<u8>,
    /// The protection of callers, and which leg hears from an address.
    ciphers: HashMap<u32, [Session; 2]>,
    by_remote: HashMap<SocketAddr, u32>,
    /// What came before the answer that says where from was read: the callee may be sooner.
    early: Vec<Early>,
    sender: Sender,
    finished: bool,
}

/// A datagram for a leg nobody has opened.
struct Early {
    side: u8,
    socket: usize,
    from: SocketAddr,
    bytes: Vec<u8>,
    wall: u64,
}

/// Early datagrams that are kept; more are taken for wrong.
const MAX_EARLY: usize = 1024;

impl Worker {
    /// Works until told to finish.
    pub(crate) fn run(self) -> Result<Tally, String> {
        let mut epoll = Epoll::new().map_err(|error| format!("epoll: {error}"))?;
        for (side, pool) in self.pools.iter().enumerate() {
            for (number, socket) in pool.iter().enumerate() {
                if number % self.share.1 == self.share.0 {
                    let added = epoll.add(socket.as_raw_fd(), (side * pool.len() + number) as u64);
                    added.map_err(|error| format!("epoll: {error}"))?;
                }
            }
        }
        let (line, slots) = (self.line, (self.ptime * PER_MS) as usize);
        let mut state = State::new(self, slots);
        let mut receiver = Receiver::new(512);
        let (mut keys, mut slot, mut due) = (Vec::new(), 0, line.now());
        while !state.finished {
            state.obey();
            state.speak(slot);
            slot = (slot + 1) % slots;
            epoll.ready(&mut keys);
            keys.iter().for_each(|&key| state.listen(key as usize, &mut receiver));
            due += 1_000_000 / PER_MS;
            let now = line.now();
            if now < due {
                std::thread::sleep(Duration::from_nanos(due - now));
            } else if now - due > 20_000_000 {
                state.tally.slips += 1;
                due = now;
            }
        }
        state.tally.refused = state.sender.refused;
        // Nobody opened a leg for these to the end.
        state.tally.wrong.call += state.early.len() as u64;
        Ok(state.tally)
    }
}

impl State {
    fn new(worker: Worker, slots: usize) -> Self {
        let tally = Tally {
            legs: Vec::new(),
            wrong: Wrong::default(),
            duplicates: 0,
            late: 0,
            control: 0,
            refused: 0,
            slips: 0,
            delay: Histogram::new(),
        };
        State {
            worker,
            index: HashMap::new(),
            slots: vec![Vec::new(); slots],
            tally,
            packet: Vec::new(),
            ciphers: HashMap::new(),
            by_remote: HashMap::new(),
            early: Vec::new(),
            sender: Sender::new(),
            finished: false,
        }
    }

    fn obey(&mut self) {
        while let Ok(order) = self.worker.orders.try_recv() {
            match order {
                Order::Open { call, side, remote } => self.open(call, side, remote),
                Order::Start { call, side, packets } => self.start(call, side, packets),
                Order::Stop { call, side } => {
                    if let Some(&at) = self.index.get(&(call, side)) {
                        self.tally.legs[at].budget = 0;
                    }
                }
                Order::Finish => self.finished = true,
            }
        }
    }

    fn open(&mut self, call: u32, side: u8, remote: Remote) {
        let pool = &self.worker.pools[usize::from(side)];
        let leg = Leg {
            call,
            side,
            socket: call as usize % pool.len(),
            remote,
            budget: 0,
            speaking: false,
            sent: 0,
            received: 0,
            highest: -1,
            window: 0,
            first_sent: 0,
            first_heard: 0,
            last_heard: 0,
        };
        if side == CALLER {
            self.protect(call, &remote);
        }
        // A later answer may move the media; what was counted stays.
        if let Some(&at) = self.index.get(&(call, side)) {
            self.tally.legs[at].remote = remote;
            return;
        }
        self.index.insert((call, side), self.tally.legs.len());
        self.tally.legs.push(leg);
        for Early { side, socket, from, bytes, wall } in std::mem::take(&mut self.early) {
            self.judge(side, socket, &os::Datagram { bytes: &bytes, from, wall });
        }
    }

    /// Keeps a datagram until its leg is open.
    fn keep(&mut self, side: u8, socket: usize, datagram: &os::Datagram<'_>) {
        if self.early.len() == MAX_EARLY {
            self.tally.wrong.call += 1;
            return;
        }
        let os::Datagram { bytes, from, wall } = *datagram;
        self.early.push(Early { side, socket, from, bytes: bytes.to_vec(), wall });
    }

    /// Keys for a caller's audio, once both are known. A caller whose keys are refused stays silent.
    fn protect(&mut self, call: u32, remote: &Remote) {
        let (Some(ours), Some(theirs)) = (self.worker.key, remote.key) else { return };
        let sessions = (Session::new(&ours, true), Session::new(&theirs, false));
        if let (Ok(seals), Ok(opens)) = sessions {
            self.ciphers.insert(call, [seals, opens]);
            self.by_remote.insert(remote.address, call);
        }
    }

    /// Opens what came for the caller of `call`, if it is encrypted and authentic.
    fn unprotect(&self, call: u32, datagram: &os::Datagram<'_>) -> Option<Vec<u8>> {
        let [_, opens] = self.ciphers.get(&call)?;
        let mut packet = datagram.bytes.to_vec();
        opens.unprotect(&mut packet).then_some(packet)
    }

    fn start(&mut self, call: u32, side: u8, packets: u32) {
        let Some(&at) = self.index.get(&(call, side)) else { return };
        let (slots, sockets) = (self.slots.len(), self.worker.pools[usize::from(side)].len());
        let leg = &mut self.tally.legs[at];
        leg.budget = packets;
        if leg.speaking {
            return;
        }
        leg.speaking = true;
        // Half a turn apart, so that the two sides of a call don't speak at once.
        let shift = if side == CALLEE { slots / 2 } else { 0 };
        let first = leg.socket * slots / sockets;
        let width = (slots / sockets).max(1);
        let choice = (first..first + width).map(|slot| (slot + shift) % slots);
        if let Some(slot) = choice.min_by_key(|&slot| self.slots[slot].len()) {
            self.slots[slot].push(at);
        }
    }

    fn speak(&mut self, slot: usize) {
        let mut legs = std::mem::take(&mut self.slots[slot]);
        let mut last: Option<(u8, usize)> = None;
        let mut sent = 0;
        legs.retain(|&at| {
            let leg = &mut self.tally.legs[at];
            if leg.budget == 0 {
                leg.speaking = false;
                return false;
            }
            let socket = (leg.side, leg.socket);
            let full = self.sender.len() == TOGETHER;
            if let Some((side, number)) =
                last.replace(socket).filter(|&last| full || last != socket)
            {
                let fd = self.worker.pools[usize::from(side)][number].as_raw_fd();
                sent += self.sender.flush(fd);
            }
            let (call, side, sequence) = (leg.call, leg.side, leg.sent);
            let mark = Mark { run: self.worker.run, call, side, sequence, wall: os::wall_ns() };
            rtp::print(&mut self.packet, &mark, leg.remote.payload_type, self.worker.ptime);
            if side == CALLER && self.worker.key.is_some() {
                let sealed = self
                    .ciphers
                    .get(&call)
                    .is_some_and(|[seals, _]| seals.protect(&mut self.packet));
                if !sealed {
                    leg.speaking = false;
                    return false;
                }
            }
            self.sender.push(leg.remote.address, &self.packet);
            if leg.sent == 0 {
                leg.first_sent = self.worker.line.now();
            }
            leg.sent += 1;
            leg.budget -= 1;
            true
        });
        if let Some((side, number)) = last {
            sent += self.sender.flush(self.worker.pools[usize::from(side)][number].as_raw_fd());
        }
        self.slots[slot] = legs;
        self.worker.live.sent.fetch_add(sent, Relaxed);
    }

    fn listen(&mut self, key: usize, receiver: &mut Receiver) {
        let per_side = self.worker.pools[0].len();
        let (side, number) = ((key / per_side) as u8, key % per_side);
        let socket = Arc::clone(&self.worker.pools[usize::from(side)][number]);
        let before = self.received();
        for _ in 0..8 {
            let more = receiver.receive(socket.as_raw_fd(), |datagram| {
                self.judge(side, number, &datagram);
            });
            if !more {
                break;
            }
        }
        self.worker.live.received.fetch_add(self.received() - before, Relaxed);
    }

    fn received(&self) -> u64 {
        self.tally.delay.count()
    }

    fn judge(&mut self, side: u8, socket: usize, datagram: &os::Datagram<'_>) {
        let opened = match self.worker.key {
            Some(_) if side == CALLER => {
                // RTCP on the same port is not ours to judge.
                if matches!(rtp::parse(datagram.bytes), rtp::Heard::Control) {
                    self.tally.control += 1;
                    return;
                }
                let Some(&call) = self.by_remote.get(&datagram.from) else {
                    return self.keep(side, socket, datagram);
                };
                let opened = self.unprotect(call, datagram);
                if opened.is_none() {
                    self.tally.wrong.content += 1;
                    return;
                }
                opened
            }
            _ => None,
        };
        let bytes = opened.as_deref().unwrap_or(datagram.bytes);
        let (mark, payload_type) = match rtp::parse(bytes) {
            rtp::Heard::Ours(mark, payload_type) => (mark, payload_type),
            rtp::Heard::Control => {
                self.tally.control += 1;
                return;
            }
            rtp::Heard::Wrong => {
                self.tally.wrong.content += 1;
                return;
            }
        };
        let is_ours = mark.run == self.worker.run;
        let Some(&at) = self.index.get(&(mark.call, side)).filter(|_| is_ours) else {
            if is_ours {
                self.keep(side, socket, datagram);
            } else {
                self.tally.wrong.call += 1;
            }
            return;
        };
        let tally = &mut self.tally;
        let leg = &mut tally.legs[at];
        if leg.socket != socket {
            tally.wrong.call += 1;
            return;
        }
        if mark.side == side {
            tally.wrong.direction += 1;
        } else if datagram.from != leg.remote.address {
            tally.wrong.source += 1;
        } else if payload_type != leg.remote.payload_type {
            tally.wrong.codec += 1;
        } else {
            match leg.place(mark.sequence) {
                Place::Twice => {
                    tally.duplicates += 1;
                    return;
                }
                Place::Late => tally.late += 1,
                Place::Next => {}
            }
            leg.last_heard = self.worker.line.at_wall(datagram.wall);
            if leg.received == 0 {
                leg.first_heard = leg.last_heard;
            }
            leg.received += 1;
            tally.delay.add(datagram.wall.saturating_sub(mark.wall));
        }
    }
}

enum Place {
    Next,
    Late,
    Twice,
}

impl Leg {
    /// Where a packet stands among those heard: a window of the last 64 tells late from twice.
    fn place(&mut self, sequence: u32) -> Place {
        let ahead = i64::from(sequence) - self.highest;
        if ahead > 0 {
            self.window = if ahead < 64 { self.window << ahead | 1 } else { 1 };
            self.highest = i64::from(sequence);
            return Place::Next;
        }
        if ahead > -64 && self.window >> -ahead & 1 == 0 {
            self.window |= 1 << -ahead;
            return Place::Late;
        }
        Place::Twice
    }

    /// Packets that should have come by now, when nobody can tell how many were sent.
    pub(crate) fn expected(&self) -> u32 {
        u32::try_from(self.highest + 1).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: &str = "127.0.0.1:2";

    fn remote() -> Remote {
        Remote { address: REMOTE.parse().unwrap(), payload_type: 0, key: None }
    }

    /// One socket for callers, no leg.
    fn state() -> State {
        let (_, orders) = mpsc::channel();
        let socket = Arc::new(link::bind("127.0.0.1:0".parse().unwrap(), 4096).unwrap());
        let worker = Worker {
            pools: [vec![socket], Vec::new()],
            share: (0, 1),
            run: 0,
            ptime: 20,
            key: None,
            line: Timeline::new(),
            live: Arc::default(),
            orders,
        };
        State::new(worker, 40)
    }

    #[test]
    fn late_is_told_from_twice() {
        let mut state = state();
        state.open(3, CALLER, remote());
        let leg = &mut state.tally.legs[0];
        let mut kinds = String::new();
        for sequence in [0, 1, 3, 2, 2, 70, 3] {
            kinds.push(match leg.place(sequence) {
                Place::Next => 'n',
                Place::Late => 'l',
                Place::Twice => 't',
            });
        }
        assert_eq!((kinds.as_str(), leg.expected()), ("nnnltnt", 71));
    }

    #[test]
    fn a_callee_may_be_sooner_than_the_answer() {
        let mut state = state();
        let (from, mut bytes) = (REMOTE.parse().unwrap(), Vec::new());
        for (run, call) in [(0, 3), (0, 4), (1, 3)] {
            let mark = Mark { run, call, side: CALLEE, sequence: 0, wall: 1 };
            rtp::print(&mut bytes, &mark, 0, 20);
            state.judge(CALLER, 0, &os::Datagram { bytes: &bytes, from, wall: 2 });
        }
        // One of another run is wrong at once.
        assert_eq!((state.early.len(), state.tally.wrong.total()), (2, 1));
        state.open(3, CALLER, remote());
        assert_eq!((state.early.len(), state.tally.wrong.total()), (1, 1));
        assert_eq!(state.tally.legs[0].received, 1);
    }
}
