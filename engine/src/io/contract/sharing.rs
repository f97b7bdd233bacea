//! Media ports that share a socket.

use super::*;

sharing_drivers! {
    a_flooded_port_does_not_crowd_out_the_others
    a_packet_may_be_sent_twice_in_a_turn
    other_programs_keep_their_ports
    shards_share_a_range
}

/// What arrives for one port at far more than its pace is dropped before it can fill the shared socket.
fn a_flooded_port_does_not_crowd_out_the_others<D: Driver>() {
    let mesh = lone_mesh();
    let counters = mesh.counters().clone();
    let mut bench = Bench::<D>::with(&specs(2, Role::Rtp), mesh);
    let (flood, victim) = (peer(), peer());
    for n in 0..20_000u32 {
        flood.send_to(&[0; 1000], bench.local[0]).unwrap();
        if n % 200 == 0 {
            victim.send_to(b"speech", bench.local[1]).unwrap();
        }
    }
    let mut heard = [0, 0];
    for _ in 0..200 {
        bench.wait(10);
        for packet in &bench.inbox.packets {
            heard[packet.port.0 as usize] += 1;
        }
        bench.submit();
    }
    assert_eq!(heard[1], 100);
    // A burst, and the pace for as long as the flood took.
    assert!((512..20_000).contains(&heard[0]), "{heard:?}");
    assert_eq!(heard[0] + counters.flooded.get(), 20_000);
}

fn a_packet_may_be_sent_twice_in_a_turn<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(2, Role::Rtp));
    let peers = [peer(), peer()];
    peers[0].send_to(b"to both", bench.local[0]).unwrap();
    bench.wait(1_000);
    let bytes = bench.inbox.packets[0].bytes;
    for (n, peer) in (0..).zip(&peers) {
        let to = peer.local_addr().unwrap();
        bench.outbox.packets.push(PacketSend { port: PortId(n), to, bytes });
    }
    bench.submit();
    for (peer, local) in peers.iter().zip(&bench.local) {
        let mut bytes = [0; 100];
        let (len, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (&b"to both"[..], *local));
    }
}

/// Ports outside the range, and connected sockets inside it, get what is theirs.
fn other_programs_keep_their_ports<D: Driver>() {
    let mut bench = Bench::<D>::new(&specs(4, Role::Rtp));
    let ip = bench.local[0].ip();
    let outside = UdpSocket::bind(SocketAddr::new(ip, bench.local[3].port() + 1)).unwrap();
    let inside = UdpSocket::bind(bench.local[2]).unwrap();
    let friend = peer();
    inside.connect(friend.local_addr().unwrap()).unwrap();
    for (socket, text) in [(&outside, b"outside"), (&inside, b"inside!")] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        friend.send_to(text, socket.local_addr().unwrap()).unwrap();
        assert_eq!(hear(socket), text);
    }
    peer().send_to(b"media", bench.local[2]).unwrap();
    bench.wait(1_000);
    let ports: Vec<_> = bench.inbox.packets.iter().map(|packet| packet.port).collect();
    assert_eq!(ports, [PortId(2)]);
}

fn shards_share_a_range<D: Driver>() {
    // Pairs are dealt in turn, as the limits do it.
    let ip = IpAddr::from([127, 8, std::process::id() as u8, u8::from(D::SHARES)]);
    let first = 30_000 + 10 * (std::any::type_name::<D>().len() as u16);
    let mut shards = vec![limits(&[]), limits(&[])];
    for number in 0..8u16 {
        let mut spec = specs(1, Role::Rtp).remove(0);
        spec.address = SocketAddr::new(ip, first + number);
        shards[usize::from(number / 2 % 2)].ports.push(spec);
    }
    let limits = Limits { shards, mesh_letters: 1, events: 1 };
    let sharing = Sharing::new(&limits).unwrap();
    let (mut meshes, _gate) = mesh(2);
    let mut benches: Vec<Bench<D>> = Vec::new();
    for shard in [0u8, 1] {
        let specs = &limits.shards[usize::from(shard)].ports;
        let ports = Ports::open(specs, Some((&sharing, ShardId(shard)))).unwrap();
        benches.push(Bench::over(ports, None, specs, meshes.remove(0)));
    }
    for number in 0..8u16 {
        peer().send_to(&[number as u8], SocketAddr::new(ip, first + number)).unwrap();
    }
    for (bench, expected) in benches.iter_mut().zip([[0, 1, 4, 5], [2, 3, 6, 7]]) {
        let mut heard = Vec::new();
        while heard.len() < 4 {
            bench.wait(1_000);
            assert!(!bench.inbox.packets.is_empty(), "{heard:?}");
            for packet in &bench.inbox.packets {
                let number = bench.inbox.pool.get(packet.bytes)[0];
                assert_eq!(bench.local[packet.port.0 as usize].port(), first + u16::from(number));
                heard.push(number);
            }
            bench.submit();
        }
        heard.sort_unstable();
        assert_eq!(heard, expected);
    }
}
