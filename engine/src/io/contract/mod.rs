//! The contract, as tests that every driver passes on loopback.

use crate::io::epoll::Epoll;
use crate::io::layout::HEADROOM;
use crate::io::mesh::{IoCounters, ShardMesh};
use crate::io::port::Ports;
use crate::io::region::Region;
use crate::io::rundir::RunDir;
use crate::io::share::Sharing;
use crate::io::stream::Bounds;
use crate::io::testing::{limits, lone_mesh, mesh, scratch, segments, specs};
use crate::io::uring::Uring;
use base::{Instant, Now, PacketSend, PortId, ShardId};
use control::{Command, Event};
use node::{Fault, Inbox, Io, Letter, Limits, Outbox, PortSpec, RecordWrite, Role};
use sbc::policy::Transport;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A driver as the tests make it.
trait Driver: Io + Send + Sized {
    /// Whether media ports share a socket.
    const SHARES: bool = false;

    fn make(ports: Ports, region: Option<Region>, mesh: ShardMesh) -> (Self, Inbox);

    /// What its connections count.
    fn counted(&self) -> &IoCounters;

    /// Connections it has.
    fn streams(&self) -> u64 {
        self.counted().streams.get()
    }

    /// Other bounds for its connections.
    fn bound(&mut self, bounds: Bounds);
}

impl Driver for Uring {
    fn make(ports: Ports, region: Option<Region>, mesh: ShardMesh) -> (Self, Inbox) {
        Uring::new(ports, region, mesh, 200).unwrap()
    }

    fn counted(&self) -> &IoCounters {
        self.counters()
    }

    fn bound(&mut self, bounds: Bounds) {
        self.streams().unwrap().bound(bounds);
    }
}

impl Driver for Epoll {
    fn make(ports: Ports, region: Option<Region>, mesh: ShardMesh) -> (Self, Inbox) {
        Epoll::new(ports, region, mesh).unwrap()
    }

    fn counted(&self) -> &IoCounters {
        self.counters()
    }

    fn bound(&mut self, bounds: Bounds) {
        self.streams().unwrap().bound(bounds);
    }
}

/// A driver whose media ports share a socket. Needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW.
struct Shares<D>(D);

impl<D: Driver> Driver for Shares<D> {
    const SHARES: bool = true;

    fn make(ports: Ports, region: Option<Region>, mesh: ShardMesh) -> (Self, Inbox) {
        let (driver, inbox) = D::make(ports, region, mesh);
        (Shares(driver), inbox)
    }

    fn counted(&self) -> &IoCounters {
        self.0.counted()
    }

    fn bound(&mut self, bounds: Bounds) {
        self.0.bound(bounds);
    }
}

impl<D: Io> Io for Shares<D> {
    fn wait(&mut self, deadline: Option<Instant>, inbox: &mut Inbox) -> Result<Now, Fault> {
        self.0.wait(deadline, inbox)
    }

    fn submit(&mut self, inbox: &mut Inbox, outbox: &mut Outbox) -> Result<(), Fault> {
        self.0.submit(inbox, outbox)
    }
}

fn is_media(spec: &PortSpec) -> bool {
    matches!(spec.role, Role::Rtp | Role::Rtcp)
}

/// Opens ports the way the driver wants them. Shared ones have numbers of their own, on an address that
/// no other test has.
fn open<D: Driver>(specs: &[PortSpec]) -> (Ports, Option<Sharing>) {
    if !D::SHARES || specs.iter().all(|spec| !is_media(spec)) {
        return (Ports::open(specs, None).unwrap(), None);
    }
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut specs = specs.to_vec();
    for (spec, port) in specs.iter_mut().zip(0u16..) {
        if is_media(spec) {
            // IPv6 has one loopback address only.
            let (ip, first) = match spec.address.ip() {
                IpAddr::V4(_) => {
                    (Ipv4Addr::new(127, 9, (turn >> 8) as u8, turn as u8).into(), 20_000)
                }
                ip @ IpAddr::V6(_) => (ip, 20_000 + 100 * (turn % 100)),
            };
            spec.address = SocketAddr::new(ip, first + port);
        }
    }
    let mut shard = limits(&specs);
    shard.ports = specs;
    let limits = Limits { shards: vec![shard], mesh_letters: 1, events: 1 };
    let sharing = Sharing::new(&limits).expect("this test needs root, or the three capabilities");
    let ports = Ports::open(&limits.shards[0].ports, Some((&sharing, ShardId(0)))).unwrap();
    (ports, Some(sharing))
}

/// Tests of what does not depend on how media ports are opened.
macro_rules! both_drivers {
    ($($test:ident)*) => {
        mod uring { $( #[test] fn $test() { super::$test::<super::Uring>(); } )* }
        mod epoll { $( #[test] fn $test() { super::$test::<super::Epoll>(); } )* }
    };
}

/// Tests of what only makes sense where ports share a socket.
macro_rules! sharing_drivers {
    ($($test:ident)*) => {
        mod uring_sharing { $( #[test] fn $test() { super::$test::<super::Shares<super::Uring>>(); } )* }
        mod epoll_sharing { $( #[test] fn $test() { super::$test::<super::Shares<super::Epoll>>(); } )* }
    };
}

macro_rules! every_driver {
    ($($test:ident)*) => {
        both_drivers! { $($test)* }
        sharing_drivers! { $($test)* }
    };
}

mod pressure;
mod sharing;
mod streams;

every_driver! {
    echoes_keep_the_order_of_their_port
    bytes_are_lent_until_submit
    a_local_refusal_is_undeliverable
    a_closed_port_is_reported_to_listeners_only
    long_datagrams_are_reported_as_truncated
    a_thousand_ports_all_work
    running_out_of_buffers_loses_nothing
    a_turn_may_send_more_than_the_queue_holds
    deadlines_are_honoured
    time_never_goes_back
    both_families_work
    the_dscp_is_on_the_wire
    shards_share_a_listener
    a_letter_wakes_a_sleeping_shard
    letters_and_events_travel
    the_journal_and_records_are_kept
    a_full_journal_delays_and_loses_nothing
    a_foreign_inbox_is_refused
}

/// A driver over ports, with what the tests need around it.
struct Bench<D> {
    driver: D,
    inbox: Inbox,
    outbox: Outbox,
    local: Vec<SocketAddr>,
    _sharing: Option<Sharing>,
}

impl<D: Driver> Bench<D> {
    fn new(specs: &[PortSpec]) -> Self {
        Self::with(specs, lone_mesh())
    }

    fn with(specs: &[PortSpec], mesh: ShardMesh) -> Self {
        let (ports, sharing) = open::<D>(specs);
        Self::over(ports, sharing, specs, mesh)
    }

    fn over(ports: Ports, sharing: Option<Sharing>, specs: &[PortSpec], mesh: ShardMesh) -> Self {
        let mut bench = Self::still(ports, sharing, specs, mesh);
        bench.turn(0);
        bench
    }

    /// Before its first turn.
    fn still(ports: Ports, _sharing: Option<Sharing>, specs: &[PortSpec], mesh: ShardMesh) -> Self {
        let local = (0..specs.len() as u32).map(|n| ports.local(PortId(n)).unwrap());
        let local = local.collect();
        let (driver, inbox) = D::make(ports, None, mesh);
        Bench { driver, inbox, outbox: Outbox::default(), local, _sharing }
    }

    /// One wait of at most `ms`.
    fn wait(&mut self, ms: u64) -> Now {
        let deadline = mono() + Duration::from_millis(ms);
        self.driver.wait(Some(deadline), &mut self.inbox).unwrap()
    }

    fn submit(&mut self) {
        self.driver.submit(&mut self.inbox, &mut self.outbox).unwrap();
    }

    /// A wait and a submit of what is queued.
    fn turn(&mut self, ms: u64) {
        self.wait(ms);
        self.submit();
    }

    /// Sends everything in the inbox back to where it came from.
    fn echo(&mut self) -> usize {
        for packet in &self.inbox.packets {
            self.outbox.packets.push(PacketSend {
                port: packet.port,
                to: packet.source,
                bytes: packet.bytes,
            });
        }
        let count = self.inbox.packets.len();
        self.submit();
        count
    }

    fn text(&mut self, port: u32, to: SocketAddr, text: &[u8]) {
        let texts = &mut self.outbox.texts;
        texts.push(PortId(port), to, |out| out.extend_from_slice(text));
    }
}

fn mono() -> Instant {
    crate::io::sys::now(Instant(0)).mono
}

fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    peer
}

fn hear(peer: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 65_536];
    let len = peer.recv(&mut bytes).expect("nothing was heard");
    bytes[..len].to_vec()
}

fn echoes_keep_the_order_of_their_port<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(3, Role::Rtp));
    let peers: Vec<_> = (0..3).map(|_| peer()).collect();
    for n in 0..50u8 {
        for (peer, local) in peers.iter().zip(&bench.local) {
            peer.send_to(&[n; 172], local).unwrap();
        }
    }
    let mut echoed = 0;
    while echoed < 150 {
        bench.wait(1_000);
        assert!(!bench.inbox.packets.is_empty(), "only {echoed} arrived");
        echoed += bench.echo();
    }
    for peer in &peers {
        for n in 0..50u8 {
            assert_eq!(hear(peer), [n; 172]);
        }
    }
}

fn bytes_are_lent_until_submit<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(2, Role::Rtp));
    let peer = peer();
    peer.send_to(b"first", bench.local[0]).unwrap();
    bench.wait(1_000);
    let first = bench.inbox.packets[0];
    assert!(first.bytes.at >= HEADROOM);
    // More arrives than there are other buffers, and none of it lands in ours.
    for _ in 0..600 {
        peer.send_to(b"other", bench.local[1]).unwrap();
    }
    assert_eq!(bench.inbox.pool.get(first.bytes), b"first");
    bench.inbox.pool.get_mut(first.bytes).copy_from_slice(b"FIRST");
    bench.outbox.packets.push(PacketSend { port: PortId(0), to: first.source, bytes: first.bytes });
    bench.submit();
    assert_eq!(hear(&peer), b"FIRST");
    bench.turn(1_000);
    assert!(!bench.inbox.packets.is_empty());
}

fn a_local_refusal_is_undeliverable<D: Driver>() {
    for role in [Role::Rtp, Role::Sip] {
        let mut bench = Bench::<D>::new(&specs(1, role));
        let peer = peer();
        // Broadcast without SO_BROADCAST is refused by the kernel at once.
        let nowhere = "255.255.255.255:9".parse().unwrap();
        bench.text(0, peer.local_addr().unwrap(), b"before");
        bench.text(0, nowhere, b"never");
        bench.text(0, peer.local_addr().unwrap(), b"after");
        bench.submit();
        bench.wait(1_000);
        let failed = bench.inbox.undeliverable[0];
        assert_eq!((failed.port, failed.to), (PortId(0), Some(nowhere)));
        assert_eq!(failed.errno, libc::EACCES);
        assert_eq!(bench.inbox.undeliverable.len(), 1);
        assert_eq!(hear(&peer), b"before");
        assert_eq!(hear(&peer), b"after", "the batch goes on");
    }
}

/// An unconnected socket hears of ICMP errors only with IP_RECVERR, which only listeners ask for.
fn a_closed_port_is_reported_to_listeners_only<D: Driver>() {
    let closed = {
        let gone = peer();
        gone.local_addr().unwrap()
    };
    let mut both = specs(1, Role::Sip);
    both.extend(specs(1, Role::Rtp));
    let mut bench = Bench::<D>::new(&both);
    let peer = peer();
    bench.text(0, closed, b"to nobody");
    bench.text(1, closed, b"to nobody");
    // The pending error must not take this one with it.
    bench.text(0, peer.local_addr().unwrap(), b"to somebody");
    bench.text(1, peer.local_addr().unwrap(), b"to somebody");
    bench.submit();
    assert_eq!(hear(&peer), b"to somebody");
    assert_eq!(hear(&peer), b"to somebody");
    let mut failed = Vec::new();
    for _ in 0..5 {
        bench.turn(20);
        failed.append(&mut bench.inbox.undeliverable);
    }
    let failed: Vec<_> = failed.iter().map(|f| (f.port, f.to, f.errno)).collect();
    assert_eq!(failed, [(PortId(0), Some(closed), libc::ECONNREFUSED)]);
    peer.send_to(b"still here", bench.local[0]).unwrap();
    bench.wait(1_000);
    assert_eq!(bench.inbox.packets.len(), 1, "the port goes on receiving");
}

fn long_datagrams_are_reported_as_truncated<D: Driver>() {
    let mut both = specs(1, Role::Rtp);
    both.extend(specs(1, Role::Sip));
    let mut bench = Bench::<D>::new(&both);
    let peer = peer();
    peer.send_to(&[1; 1856], bench.local[0]).unwrap();
    peer.send_to(&[2; 1857], bench.local[0]).unwrap();
    peer.send_to(&[3; 65_000], bench.local[1]).unwrap();
    let (mut lengths, mut truncated) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        bench.turn(50);
        lengths.extend(bench.inbox.packets.iter().map(|p| p.bytes.len));
        truncated.append(&mut bench.inbox.truncated);
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [1856, 65_000]);
    assert_eq!(truncated, [PortId(0)]);
}

fn a_thousand_ports_all_work<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1_000, Role::Rtp));
    let peer = peer();
    let mut heard = vec![0; 1_000];
    for (n, local) in bench.local.clone().into_iter().enumerate() {
        peer.send_to(&[7; 172], local).unwrap();
        if n % 100 == 99 {
            while heard.iter().sum::<i32>() <= n as i32 {
                bench.wait(1_000);
                assert!(!bench.inbox.packets.is_empty(), "stuck at port {n}");
                for packet in &bench.inbox.packets {
                    heard[packet.port.0 as usize] += 1;
                }
                bench.echo();
            }
        }
    }
    assert!(heard.iter().all(|count| *count == 1));
}

fn running_out_of_buffers_loses_nothing<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(40, Role::Rtp));
    let peer = peer();
    for round in 0..3 {
        // 1,600 datagrams and 512 buffers, none of them looked at meanwhile.
        for n in 0..40u8 {
            for local in &bench.local {
                peer.send_to(&[n; 100], local).unwrap();
            }
        }
        let mut next = [0u8; 40];
        let mut heard = 0;
        while heard < 1_600 {
            bench.wait(500);
            assert!(!bench.inbox.packets.is_empty(), "lost {} in round {round}", 1_600 - heard);
            for packet in &bench.inbox.packets {
                let expected = &mut next[packet.port.0 as usize];
                assert_eq!(bench.inbox.pool.get(packet.bytes)[0], *expected);
                *expected += 1;
            }
            heard += bench.inbox.packets.len();
            bench.submit();
        }
    }
}

fn a_turn_may_send_more_than_the_queue_holds<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Sip));
    let peers: Vec<_> = (0..50).map(|_| peer()).collect();
    for n in 0..60u32 {
        for peer in &peers {
            bench.text(0, peer.local_addr().unwrap(), &n.to_be_bytes());
        }
    }
    bench.submit();
    assert!(bench.outbox.texts.sends.is_empty() && bench.outbox.texts.arena.is_empty());
    for peer in &peers {
        for n in 0..60u32 {
            assert_eq!(hear(peer), n.to_be_bytes());
        }
    }
}

fn deadlines_are_honoured<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Rtp));
    for ms in [0, 1, 5, 50] {
        let begun = mono();
        let now = bench.wait(ms);
        let took = now.mono.since(begun);
        assert!(took >= Duration::from_millis(ms), "{took:?} for {ms} ms");
        // Generous: the machine may be busy with other tests.
        assert!(took < Duration::from_millis(ms + 300), "{took:?} for {ms} ms");
        bench.submit();
    }
    let past = Some(Instant(1));
    bench.driver.wait(past, &mut bench.inbox).unwrap();
}

fn time_never_goes_back<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Rtp));
    let mut last = Instant(0);
    for _ in 0..200 {
        let now = bench.wait(0);
        assert!(now.mono >= last && now.wall.0 > 1_600_000_000_000_000_000);
        last = now.mono;
        bench.submit();
    }
}

fn both_families_work<D: Driver>() {
    let mut both = specs(2, Role::Sip);
    both.extend(specs(2, Role::Rtp));
    both[1].address = "[::1]:0".parse().unwrap();
    both[3].address = "[::1]:0".parse().unwrap();
    let mut bench = Bench::<D>::new(&both);
    for n in 0..4 {
        let any = if n % 2 == 0 { "127.0.0.1:0" } else { "[::1]:0" };
        let peer = UdpSocket::bind(any).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        peer.send_to(b"hello", bench.local[n]).unwrap();
        bench.wait(1_000);
        let packet = bench.inbox.packets[0];
        assert_eq!(packet.port, PortId(n as u32));
        assert_eq!(packet.source, peer.local_addr().unwrap());
        bench.echo();
        assert_eq!(hear(&peer), b"hello");
    }
}

fn the_dscp_is_on_the_wire<D: Driver>() {
    for (any, level, ask) in [
        ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_RECVTOS),
        ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    ] {
        let mut spec = specs(1, Role::Rtp);
        spec[0].address = any.parse().unwrap();
        let mut bench = Bench::<D>::new(&spec);
        let peer = UdpSocket::bind(any).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&peer);
        crate::io::sys::set_option(fd, level, ask, 1).unwrap();
        bench.text(0, peer.local_addr().unwrap(), b"marked");
        bench.submit();
        assert_eq!(crate::io::testing::traffic_class(fd), Some(46 << 2), "{any}");
    }
}

fn shards_share_a_listener<D: Driver>() {
    let (mut meshes, _gate) = mesh(2);
    let mut spec = specs(1, Role::Sip);
    let mut first = Bench::<D>::with(&spec, meshes.remove(0));
    spec[0].address = first.local[0];
    let mut second = Bench::<D>::with(&spec, meshes.remove(0));
    let (mut heard, peers) = ([0, 0], 64);
    for _ in 0..peers {
        peer().send_to(b"INVITE", first.local[0]).unwrap();
    }
    for _ in 0..20 {
        first.turn(5);
        heard[0] += first.inbox.packets.len();
        second.turn(5);
        heard[1] += second.inbox.packets.len();
    }
    assert_eq!(heard[0] + heard[1], peers);
    assert!(heard[0] > 0 && heard[1] > 0, "{heard:?}");
}

fn a_letter_wakes_a_sleeping_shard<D: Driver>() {
    const ROUNDS: u64 = 20;
    let (mut meshes, mut gate) = mesh(2);
    let own = meshes.remove(0);
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut bench = Bench::<D>::with(&specs(1, Role::Rtp), own);
            for _ in 0..ROUNDS {
                // A late doorbell may wake for nothing.
                while bench.inbox.letters.is_empty() {
                    bench.driver.wait(None, &mut bench.inbox).unwrap();
                    bench.submit();
                }
                heard.send(bench.inbox.letters.len()).unwrap();
                bench.inbox.clear();
            }
        });
        for round in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(round % 4));
            let letter = Letter::Command(Command::Drain);
            if round % 2 == 0 {
                assert!(gate.send(ShardId(0), letter).is_ok());
            } else {
                meshes[0].give(&mut vec![(ShardId(0), letter)], &mut Vec::new());
            }
            let heard = hears.recv_timeout(Duration::from_secs(2));
            assert_eq!(heard, Ok(1), "round {round}");
        }
    });
}

fn letters_and_events_travel<D: Driver>() {
    let (mut meshes, mut gate) = mesh(2);
    let mut bench = Bench::<D>::with(&specs(1, Role::Rtp), meshes.remove(0));
    gate.events(|_, _| unreachable!());
    let bytes = b"INVITE sip:a@b".as_slice().into();
    let (port, source) = (PortId(0), "192.0.2.1:5060".parse().unwrap());
    let letter = Letter::Signal { port, source, proved: None, bytes };
    bench.outbox.mesh.push((ShardId(1), letter));
    bench.outbox.events.push(Event::Drained);
    bench.submit();
    let mut letters = Vec::new();
    meshes[0].take(&mut letters, &mut crate::io::mesh::Parcels::default());
    assert!(matches!(&letters[..], [Letter::Signal { bytes, .. }] if bytes.starts_with(b"INVITE")));
    assert!(crate::io::testing::readable(std::os::fd::AsRawFd::as_raw_fd(gate.wakes()), 1_000));
    let mut events = Vec::new();
    gate.events(|shard, event| events.push((shard, event)));
    assert_eq!(events, [(ShardId(0), Event::Drained)]);
}

fn the_journal_and_records_are_kept<D: Driver>() {
    let run = RunDir::claim(&scratch(std::any::type_name::<D>())).unwrap();
    let (region, mut reader, _) = Region::claim(&run, ShardId(0), &limits(&[])).unwrap();
    let (ports, _sharing) = open::<D>(&specs(1, Role::Rtp));
    let (mut driver, mut inbox) = D::make(ports, Some(region), lone_mesh());
    let mut outbox = Outbox::default();
    driver.wait(Some(Instant(0)), &mut inbox).unwrap();
    let room = inbox.journal_room;
    assert!(room > 4096, "{room}");
    outbox.plain.extend_from_slice(b"frame one, frame two");
    for at in [0, 11] {
        outbox.journal.push(base::Bytes { at, len: 9 });
    }
    let start = outbox.plain.len() as u32;
    base::record::seal(1, &42u64, &mut outbox.plain);
    let len = outbox.plain.len() as u32 - start;
    let bytes = base::Bytes { at: start, len };
    outbox.records.push(RecordWrite { slot: 3, bytes });
    driver.submit(&mut inbox, &mut outbox).unwrap();
    assert!(outbox.journal.is_empty() && outbox.plain.is_empty());
    let mut frames = Vec::new();
    while reader.take(&mut frames).is_some() {}
    assert_eq!(frames, b"frame oneframe two");
    driver.wait(Some(Instant(0)), &mut inbox).unwrap();
    assert!(inbox.journal_room < room);
    drop(driver);
    let (_, _, past) = Region::claim(&run, ShardId(0), &limits(&[])).unwrap();
    let records: Vec<_> = past.records().collect();
    assert_eq!(records[0].0, 3);
    assert_eq!(base::record::open::<u64>(1, &records[0].1).unwrap().0, 42);
}

fn a_full_journal_delays_and_loses_nothing<D: Driver>() {
    let run = RunDir::claim(&scratch(&format!("full-{}", std::any::type_name::<D>()))).unwrap();
    let (region, mut reader, _) = Region::claim(&run, ShardId(0), &limits(&[])).unwrap();
    let (ports, _sharing) = open::<D>(&specs(1, Role::Rtp));
    let mesh = lone_mesh();
    let counters = mesh.counters().clone();
    let (mut driver, mut inbox) = D::make(ports, Some(region), mesh);
    let (mut outbox, mut heard) = (Outbox::default(), Vec::new());
    for n in 0..100u8 {
        outbox.plain.resize(200, n);
        outbox.journal.push(base::Bytes { at: 0, len: 200 });
        driver.submit(&mut inbox, &mut outbox).unwrap();
    }
    driver.wait(Some(Instant(0)), &mut inbox).unwrap();
    assert_eq!(inbox.journal_room, 0);
    assert!(counters.journal_delayed.get() > 50);
    for _ in 0..10 {
        while reader.take(&mut heard).is_some() {}
        reader.release();
        driver.submit(&mut inbox, &mut outbox).unwrap();
    }
    let expected: Vec<u8> = (0..100u8).flat_map(|n| [n; 200]).collect();
    assert!(heard == expected, "{} bytes came through", heard.len());
    assert_eq!(counters.journal_lost.get(), 0);
}

fn a_foreign_inbox_is_refused<D: Driver>() {
    let mut one = Bench::<D>::new(&specs(1, Role::Rtp));
    let mut two = Bench::<D>::new(&specs(1, Role::Rtp));
    let fault: Result<Now, Fault> = one.driver.wait(Some(Instant(0)), &mut two.inbox);
    assert!(fault.is_err());
}
