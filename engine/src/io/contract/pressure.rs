//! Connections under pressure: peers that read slowly, or not at all, and more than there are buffers for.

use super::streams::{connect, message};
use super::*;
use std::io::ErrorKind;

both_drivers! {
    a_slow_reader_gets_all_that_was_taken
    who_does_not_read_is_not_read
    more_than_the_buffers_hold_is_heard_whole
    a_connection_ends_behind_its_last_message
    a_reset_ends_a_connection
    one_connection_more_of_an_address_is_refused
    one_connection_more_takes_the_place_of_one_that_never_spoke
    when_too_much_waits_who_has_most_to_take_goes
}

/// A message and who sent it.
type From = (SocketAddr, Box<[u8]>);

/// What came over connections in a turn of at most `ms`: whole messages, and how many were not sent.
fn turn<D: Driver>(bench: &mut Bench<D>, ms: u64) -> (Vec<From>, usize) {
    bench.wait(ms);
    let (mut heard, mut unsent) = (Vec::new(), 0);
    for letter in std::mem::take(&mut bench.inbox.letters) {
        if let Letter::Stream { source, bytes, .. } = letter {
            heard.push((source, bytes.into_bytes(&bench.inbox.pool)));
        } else {
            assert!(matches!(letter, Letter::Unsent { .. }), "nobody sent {letter:?}");
            unsent += 1;
        }
    }
    bench.submit();
    (heard, unsent)
}

/// Far more is sent than the kernel takes at once: what was taken arrives whole and in order, what was not
/// comes back.
fn a_slow_reader_gets_all_that_was_taken<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(&message("hello")).unwrap();
    while turn(&mut bench, 1_000).0.is_empty() {}
    let to = peer.local_addr().unwrap();
    let text = |n: u32| [&n.to_be_bytes()[..], &[n as u8; 30_000]].concat();
    let (mut sent, mut unsent) = (0, 0);
    while unsent == 0 {
        for _ in 0..3 {
            bench.text(0, to, &text(sent));
            sent += 1;
        }
        bench.submit();
        unsent += turn(&mut bench, 0).1;
    }
    unsent += turn(&mut bench, 10).1;
    let taken = sent - unsent as u32;
    let reader = std::thread::spawn(move || {
        let mut heard = vec![0; 30_004 * taken as usize];
        peer.read_exact(&mut heard).unwrap();
        heard
    });
    let begun = mono();
    while !reader.is_finished() && mono().since(begun) < Duration::from_secs(10) {
        assert_eq!(turn(&mut bench, 10).1, 0);
    }
    let heard = reader.join().unwrap();
    // Three were offered at a time: of the last three some may have been taken after one that was not.
    let whole = heard.chunks(30_004).map(|chunk| u32::from_be_bytes(*chunk.first_chunk().unwrap()));
    let numbers: Vec<u32> = whole.collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(heard.chunks(30_004).zip(&numbers).all(|(chunk, n)| *chunk == text(*n)[..]));
}

/// From a peer that asks without end and reads no answer no more is taken than its answers may be long; when
/// it reads at last, everything is heard.
fn who_does_not_read_is_not_read<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.set_nonblocking(true).unwrap();
    let (source, question) = (peer.local_addr().unwrap(), message(&"?".repeat(1_000)));
    let answer = vec![b'!'; 20_000];
    let (mut asked, mut heard, mut quiet) = (0u32, 0, 0);
    let mut rest: &[u8] = &[];
    // Until the kernel takes no more questions, and turn after turn brings none.
    while quiet < 50 {
        if rest.is_empty() {
            rest = &question;
        }
        match peer.write(rest) {
            Ok(len) => rest = &rest[len..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => quiet += 1,
            Err(e) => panic!("{e}"),
        }
        asked += u32::from(rest.is_empty());
        let (questions, unsent) = turn(&mut bench, u64::from(quiet > 0));
        assert_eq!(unsent, 0, "nothing is too much for who is not listened to");
        if !questions.is_empty() {
            quiet = 0;
        }
        heard += questions.len() as u32;
        // One answer for many questions: the queue fills, and does not overflow.
        if !questions.is_empty() {
            bench.text(0, source, &answer);
            bench.submit();
        }
    }
    assert!(heard < asked, "{heard} of {asked} were heard of who read nothing");
    let begun = mono();
    let mut sink = vec![0; 1 << 20];
    while heard < asked && mono().since(begun) < Duration::from_secs(10) {
        while matches!(peer.read(&mut sink), Ok(len) if len > 0) {}
        heard += turn(&mut bench, 10).0.len() as u32;
    }
    assert_eq!(heard, asked);
}

fn more_than_the_buffers_hold_is_heard_whole<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peers: Vec<_> = (0..40).map(|_| connect(bench.local[0])).collect();
    let body = |n: usize| String::from_utf8(vec![b'a' + (n % 26) as u8; 50_000 + n]).unwrap();
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.write_all(&message(&body(n))).unwrap();
    }
    let (mut heard, begun) = (Vec::new(), mono());
    while heard.len() < peers.len() && mono().since(begun) < Duration::from_secs(10) {
        heard.extend(turn(&mut bench, 20).0);
    }
    for (n, peer) in peers.iter().enumerate() {
        let local = peer.local_addr().unwrap();
        let said: Vec<_> = heard.iter().filter(|(source, _)| *source == local).collect();
        assert!(said.len() == 1 && *said[0].1 == message(&body(n))[..], "peer {n}");
    }
}

fn a_connection_ends_behind_its_last_message<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    for n in 0..3 {
        let mut peer = connect(bench.local[0]);
        peer.write_all(&message("the last")).unwrap();
        drop(peer);
        let (mut heard, begun) = (0, mono());
        while (heard == 0 || bench.driver.streams() > 0)
            && mono().since(begun) < Duration::from_secs(2)
        {
            heard += turn(&mut bench, 20).0.len();
        }
        assert_eq!((heard, bench.driver.streams()), (1, 0), "connection {n}");
    }
}

fn a_reset_ends_a_connection<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    let mut peer = connect(bench.local[0]);
    peer.write_all(&message("hello")).unwrap();
    while turn(&mut bench, 1_000).0.is_empty() {}
    let source = peer.local_addr().unwrap();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let begun = mono();
    while bench.driver.streams() > 0 && mono().since(begun) < Duration::from_secs(2) {
        turn(&mut bench, 20);
    }
    assert_eq!(bench.driver.streams(), 0);
    // It is dialled for what is said to it now, and nobody is there.
    bench.text(0, source, b"are you there?");
    bench.submit();
    let (mut unsent, begun) = (0, mono());
    while unsent == 0 && mono().since(begun) < Duration::from_secs(2) {
        unsent += turn(&mut bench, 20).1;
    }
    assert_eq!(unsent, 1);
}

/// Turns until `done`, for at most two seconds.
fn until<D: Driver>(bench: &mut Bench<D>, done: impl Fn(&D) -> bool) {
    let begun = mono();
    while !done(&bench.driver) && mono().since(begun) < Duration::from_secs(2) {
        turn(bench, 20);
    }
    assert!(done(&bench.driver));
}

/// Whether the far end has closed a connection.
fn is_closed(peer: &mut TcpStream) -> bool {
    peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    matches!(peer.read(&mut [0; 1]), Ok(0))
}

const FEW: Bounds = Bounds { most: 4, most_of_one: 4, waiting: 1 << 20 };

fn one_connection_more_of_an_address_is_refused<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    bench.driver.bound(Bounds { most: 100, ..FEW });
    let mut peers: Vec<_> = (0..4).map(|_| connect(bench.local[0])).collect();
    until(&mut bench, |driver| driver.streams() == 4);
    let mut one_more = connect(bench.local[0]);
    until(&mut bench, |driver| driver.counted().streams_refused.get() == 1);
    assert!(is_closed(&mut one_more) && !peers.iter_mut().any(is_closed));
    // When one goes there is room again.
    peers.pop();
    until(&mut bench, |driver| driver.streams() == 3);
    let mut again = connect(bench.local[0]);
    until(&mut bench, |driver| driver.streams() == 4);
    assert!(!is_closed(&mut again));
}

fn one_connection_more_takes_the_place_of_one_that_never_spoke<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    bench.driver.bound(Bounds { most_of_one: 100, ..FEW });
    let mut peers: Vec<_> = (0..4).map(|_| connect(bench.local[0])).collect();
    until(&mut bench, |driver| driver.streams() == 4);
    for speaks in [0, 2] {
        peers[speaks].write_all(&message("hello")).unwrap();
        while turn(&mut bench, 1_000).0.is_empty() {}
    }
    for (evicted, silent) in [(1, 1), (2, 3)] {
        let mut one_more = connect(bench.local[0]);
        until(&mut bench, |driver| driver.counted().streams_evicted.get() == evicted);
        assert!(is_closed(&mut peers[silent]) && !is_closed(&mut one_more));
        one_more.write_all(&message("hello")).unwrap();
        while turn(&mut bench, 1_000).0.is_empty() {}
        peers.push(one_more);
    }
    // All have spoken: who comes now comes too late.
    let mut too_late = connect(bench.local[0]);
    until(&mut bench, |driver| driver.counted().streams_refused.get() == 1);
    assert!(is_closed(&mut too_late) && !is_closed(&mut peers[0]) && !is_closed(&mut peers[2]));
}

fn when_too_much_waits_who_has_most_to_take_goes<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(1, Role::Stream(Transport::Tcp)));
    bench.driver.bound(Bounds { most: 100, most_of_one: 100, waiting: 400_000 });
    let mut peers: Vec<_> = (0..3).map(|_| connect(bench.local[0])).collect();
    for peer in &mut peers {
        peer.write_all(&message("hello")).unwrap();
        while turn(&mut bench, 1_000).0.is_empty() {}
    }
    let to: Vec<SocketAddr> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    // Nobody reads. The first gets as much as its queue holds, then the second less, until that is too much.
    for place in [0, 1] {
        let evicted = |bench: &Bench<D>| bench.driver.counted().streams_evicted.get();
        let mut refused = 0;
        while refused == 0 && evicted(&bench) == 0 {
            bench.text(0, to[place], &[b'x'; 50_000]);
            bench.submit();
            refused += turn(&mut bench, 0).1;
        }
        assert_eq!(evicted(&bench), place as u64, "a queue alone is not too much");
    }
    assert_eq!(bench.driver.streams(), 2);
    let mut sink = vec![0; 1 << 20];
    peers[0].set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    while peers[0].read(&mut sink).unwrap_or(0) > 0 {}
    assert!(is_closed(&mut peers[0]) && !is_closed(&mut peers[2]));
}
