//! Connections: whole messages both ways, who owns them, and what becomes of those that break.

use super::*;

both_drivers! {
    streams_carry_whole_messages_both_ways
    a_peer_is_dialled_once_and_its_answers_are_heard
    what_no_connection_takes_comes_back
    nothing_waits_over_a_connection_that_is_not_busy
    what_follows_at_once_goes_together
    what_was_gathered_goes_before_a_shard_ends
    streams_that_are_not_sip_are_closed
    a_connection_belongs_to_one_shard
    a_connection_wakes_the_shard_it_belongs_to
    a_stalled_shard_stops_nobody
    a_connection_has_its_time_after_a_long_sleep
    a_connection_that_was_there_before_the_first_turn_has_its_time
}

/// A connection to the bench's stream listener, and what it hears within two seconds.
pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream
}

pub(super) fn message(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("OPTIONS sip:a@b SIP/2.0\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// Turns until `done`, for at most two seconds; every message that came over a connection.
fn turns<D: Driver>(
    bench: &mut Bench<D>,
    mut done: impl FnMut(&[(SocketAddr, Vec<u8>)], usize) -> bool,
) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut heard, mut unsent) = (Vec::new(), 0);
    let begun = mono();
    while !done(&heard, unsent) && mono().since(begun) < Duration::from_secs(2) {
        bench.wait(20);
        for letter in bench.inbox.letters.drain(..) {
            match letter {
                Letter::Stream { source, bytes, .. } => {
                    heard.push((source, bytes.into_bytes(&bench.inbox.pool).into()));
                }
                Letter::Unsent { .. } => unsent += 1,
                Letter::Signal { .. }
                | Letter::Returned { .. }
                | Letter::Forward { .. }
                | Letter::Answer(_)
                | Letter::Command(_)
                | Letter::Config(_)
                | Letter::Standing(_)
                | Letter::Outages { .. }
                | Letter::Signed { .. }
                | Letter::Move(_)
                | Letter::Ported(_) => panic!("nobody sent {letter:?}"),
            }
        }
        bench.submit();
    }
    assert!(done(&heard, unsent), "heard {heard:?}, {unsent} unsent");
    heard
}

fn streams_carry_whole_messages_both_ways<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peers = [connect(bench.local[0]), connect(bench.local[0])];
    // One message in pieces, several in one piece, keep-alives between them.
    let pieces = message("in pieces");
    let (last, first) = pieces.split_last().unwrap();
    for byte in first {
        peers[0].write_all(&[*byte]).unwrap();
        bench.turn(0);
    }
    peers[0].write_all(&[*last]).unwrap();
    let several = [message("one"), b"\r\n\r\n".to_vec(), message("two"), message("three")].concat();
    peers[1].write_all(&several).unwrap();
    let heard = turns(&mut bench, |heard, _| heard.len() >= 4);
    let from = |peer: &TcpStream| {
        let local = peer.local_addr().unwrap();
        heard.iter().filter(|(s, _)| *s == local).map(|(_, b)| b.clone()).collect::<Vec<_>>()
    };
    assert_eq!(from(&peers[0]), [message("in pieces")]);
    assert_eq!(from(&peers[1]), [message("one"), message("two"), message("three")]);
    let mut pong = [0; 2];
    peers[1].read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
    for peer in &mut peers {
        let local = peer.local_addr().unwrap();
        bench.text(0, local, b"SIP/2.0 200 OK\r\n\r\n");
        bench.submit();
        let mut answer = [0; 18];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"SIP/2.0 200 OK\r\n\r\n");
    }
}

fn a_peer_is_dialled_once_and_its_answers_are_heard<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let callee = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = callee.local_addr().unwrap();
    for n in 0..3 {
        bench.text(0, to, format!("message {n}\n").as_bytes());
    }
    bench.submit();
    let (mut peer, _) = callee.accept().unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    bench.turn(100);
    bench.turn(100);
    let mut sent = [0; 30];
    peer.read_exact(&mut sent).unwrap();
    assert_eq!(&sent, b"message 0\nmessage 1\nmessage 2\n");
    peer.write_all(&message("answer")).unwrap();
    let heard = turns(&mut bench, |heard, _| !heard.is_empty());
    assert_eq!(heard, [(to, message("answer"))]);
    callee.set_nonblocking(true).unwrap();
    assert!(callee.accept().is_err(), "one connection serves all");
}

fn what_no_connection_takes_comes_back<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    bench.text(0, closed, b"to nobody");
    bench.text(0, closed, b"to nobody either");
    bench.submit();
    turns(&mut bench, |_, unsent| unsent == 2);
    // A peer that does not read: its queue is bounded, and all of it comes back when it goes.
    let lazy = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = lazy.local_addr().unwrap();
    bench.text(0, to, b"hello");
    bench.submit();
    let (peer, _) = lazy.accept().unwrap();
    let large = vec![b'x'; 60_000];
    for _ in 0..200 {
        bench.text(0, to, &large);
    }
    bench.submit();
    turns(&mut bench, |_, unsent| unsent > 50);
    drop((peer, lazy));
    bench.text(0, to, b"is anybody there?");
    bench.submit();
    turns(&mut bench, |_, unsent| unsent >= 1);
}

/// Three messages, each in a turn of its own, at once after each other.
fn in_three_turns<D: Driver>(bench: &mut Bench<D>, to: SocketAddr) {
    for next in [b"first, ", b"second,", b"third. "] {
        bench.turn(0);
        bench.text(0, to, next);
        bench.submit();
    }
}

/// More turns than what was gathered takes to leave, whatever wakes the shard before.
fn rest<D: Driver>(bench: &mut Bench<D>) {
    for _ in 0..5 {
        bench.turn(2);
    }
}

/// Makes a connection busy: much is said over it, and heard.
fn chatter<D: Driver>(bench: &mut Bench<D>, peer: &mut TcpStream) {
    let (to, begun, mut said) = (peer.local_addr().unwrap(), mono(), 0);
    while mono().since(begun) < Duration::from_millis(12) {
        bench.text(0, to, b"x");
        bench.turn(0);
        said += 1;
    }
    rest(bench);
    peer.read_exact(&mut vec![0; said]).unwrap();
    std::thread::sleep(Duration::from_micros(600));
}

fn nothing_waits_over_a_connection_that_is_not_busy<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(&message("hello")).unwrap();
    turns(&mut bench, |heard, _| heard.len() == 1);
    in_three_turns(&mut bench, peer.local_addr().unwrap());
    let mut all = [0; 21];
    peer.read_exact(&mut all).unwrap();
    assert_eq!(&all, b"first, second,third. ");
}

fn what_follows_at_once_goes_together<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(&message("hello")).unwrap();
    turns(&mut bench, |heard, _| heard.len() == 1);
    // A machine that stops for a millisecond between two turns spoils an attempt.
    let together = (0..100).any(|_| {
        chatter(&mut bench, &mut peer);
        let before = segments(&peer);
        in_three_turns(&mut bench, peer.local_addr().unwrap());
        // The shard has no other reason to wake as soon as that.
        let begun = mono();
        bench.turn(1900);
        let slept = mono().since(begun);
        rest(&mut bench);
        let mut all = [0; 21];
        peer.read_exact(&mut all).unwrap();
        assert_eq!(&all, b"first, second,third. ");
        segments(&peer) - before == 2 && slept < Duration::from_millis(50)
    });
    assert!(together, "each went alone, or late");
}

fn what_was_gathered_goes_before_a_shard_ends<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(&message("hello")).unwrap();
    turns(&mut bench, |heard, _| heard.len() == 1);
    chatter(&mut bench, &mut peer);
    in_three_turns(&mut bench, peer.local_addr().unwrap());
    drop(bench);
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"first, second,third. ");
}

fn streams_that_are_not_sip_are_closed<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
    for _ in 0..10 {
        bench.turn(20);
    }
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "closed");
    assert_eq!(bench.driver.streams(), 0);
}

/// Whoever accepts a connection, the shard that its far end belongs to has it, and messages find it there.
fn a_connection_belongs_to_one_shard<D: Driver>() {
    let (mut meshes, _gate) = mesh(2);
    let mut spec = specs(1, Role::Stream(Transport::Tcp));
    let mut first = Bench::<D>::with(&spec, meshes.remove(0));
    spec[0].address = first.local[0];
    let mut second = Bench::<D>::with(&spec, meshes.remove(0));
    let mut peers: Vec<_> = (0..32).map(|_| connect(first.local[0])).collect();
    for peer in &mut peers {
        peer.write_all(&message("hello")).unwrap();
    }
    let mut heard = [0, 0];
    for _ in 0..50 {
        for (shard, bench) in [&mut first, &mut second].into_iter().enumerate() {
            bench.wait(2);
            for letter in bench.inbox.letters.drain(..) {
                if let Letter::Stream { source, .. } = letter {
                    assert_eq!(crate::io::stream::owner(source, 2), shard);
                    heard[shard] += 1;
                }
            }
            bench.submit();
        }
    }
    assert_eq!(heard[0] + heard[1], peers.len());
    assert!(heard[0] > 0 && heard[1] > 0, "{heard:?}");
    // The first shard speaks to everybody: what is not its own goes over the mesh.
    for peer in &peers {
        first.text(0, peer.local_addr().unwrap(), b"answer");
    }
    first.submit();
    second.wait(100);
    for letter in std::mem::take(&mut second.inbox.letters) {
        if let Letter::Forward { port, to, bytes } = letter {
            second.text(port.0, to, &bytes);
        }
    }
    second.submit();
    for peer in &mut peers {
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}

/// A connection that belongs to this one of two shards.
fn connect_for(shard: usize, to: SocketAddr) -> TcpStream {
    let socket = loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        if crate::io::stream::owner(local, 2) == shard {
            break socket;
        }
    };
    socket.connect(&to.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream
}

/// Whoever is given a connection wakes for it, also when who accepted it goes to sleep at once.
fn a_connection_wakes_the_shard_it_belongs_to<D: Driver>() {
    let (mut meshes, _gate) = mesh(2);
    let spec = specs(1, Role::Stream(Transport::Tcp));
    let (other, own) = (meshes.remove(0), meshes.remove(0));
    let mut bench = Bench::<D>::with(&spec, own);
    let (tells, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // A driver stays with the thread that made it.
        scope.spawn(move || {
            let mut other = Bench::<D>::with(&spec, other);
            tells.send(other.local[0]).unwrap();
            other.turn(10_000);
            other.wait(20_000);
        });
        let to = told.recv().unwrap();
        let (_peer, begun) = (connect_for(1, to), mono());
        while bench.driver.streams() == 0 && mono().since(begun) < Duration::from_secs(30) {
            bench.turn(30_000);
        }
        let slept = mono().since(begun);
        // The other has slept enough, too.
        let _wakes = connect(to);
        assert!(slept < Duration::from_secs(10), "it slept for {slept:?}");
    });
}

/// A shard that takes nothing any more is left out after a bound: what is for it comes back to be refused, and
/// the connection it came by goes on.
fn a_stalled_shard_stops_nobody<D: Driver>() {
    let (mut meshes, _gate) = mesh(2);
    let mut bench = Bench::<D>::with(&specs(1, Role::Stream(Transport::Tcp)), meshes.remove(0));
    let mut peer = connect_for(0, bench.local[0]);
    let (asked, room) = (200, 64);
    peer.write_all(&message("for the other").repeat(asked)).unwrap();
    let (mut heard, mut refused, begun) = (0, 0, mono());
    while (heard < asked || refused < asked - room) && mono().since(begun) < Duration::from_secs(2)
    {
        bench.wait(20);
        for letter in std::mem::take(&mut bench.inbox.letters) {
            if let Letter::Stream { port, source, proved, bytes } = letter {
                heard += 1;
                let bytes = bytes.into_bytes(&bench.inbox.pool);
                let letter = Letter::Signal { port, source, proved, bytes };
                bench.outbox.mesh.push((ShardId(1), letter));
            } else if let Letter::Returned { source, .. } = letter {
                refused += 1;
                bench.text(0, source, b"busy");
            } else {
                panic!("nobody sent {letter:?}");
            }
        }
        bench.submit();
    }
    assert_eq!((heard, refused), (asked, asked - room));
    assert_eq!(bench.driver.counted().letters_dropped.get(), refused as u64);
    let mut answers = vec![0; 4 * refused];
    peer.read_exact(&mut answers).unwrap();
    assert_eq!(answers, b"busy".repeat(refused));
}

/// A connection that wakes a shard has all of its time, however long the shard slept.
fn a_connection_has_its_time_after_a_long_sleep<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Ws)));
    let to = bench.local[0];
    let late = std::thread::spawn(move || {
        // Longer than the time for an upgrade.
        std::thread::sleep(Duration::from_millis(3_300));
        let mut peer = connect(to);
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n").unwrap();
        peer
    });
    while bench.driver.streams() == 0 {
        bench.turn(10_000);
    }
    let mut peer = late.join().unwrap();
    for _ in 0..20 {
        bench.turn(20);
    }
    let rest = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    peer.write_all(rest.as_bytes()).unwrap();
    for _ in 0..5 {
        bench.turn(20);
    }
    let mut answer = [0; 12];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
}

/// A node may be connected to before its shards have made a turn.
fn a_connection_that_was_there_before_the_first_turn_has_its_time<D: Driver>() {
    let specs = specs(1, Role::Stream(Transport::Tcp));
    let (ports, sharing) = open::<D>(&specs);
    let mut bench = Bench::<D>::still(ports, sharing, &specs, lone_mesh());
    let mut peer = connect(bench.local[0]);
    // Until those that are late have been looked for.
    for _ in 0..30 {
        bench.turn(20);
    }
    peer.write_all(&message("first")).unwrap();
    let heard = turns(&mut bench, |heard, _| !heard.is_empty());
    assert_eq!(heard[0].1, message("first"));
}
