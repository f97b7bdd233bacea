//! A relay with no logic, to compare what the drivers cost per packet.
//!
//! `relay uring|epoll FLOWS PAIRS_FILE [MIN_WAIT_US]`: ports 2i and 2i+1 of 127.0.0.1:12000.. face two
//! endpoints; what one receives leaves from the other. Writes the pairs file of the load generator,
//! then relays until it is killed.

use base::{PacketSend, PortId};
use engine::io::{epoll::Epoll, mesh::Mesh, port::Ports, uring::Uring};
use node::{Fault, Inbox, Io, Limits, Outbox, PortSpec, Role, ShardLimits};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize, or: u32| args.get(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    let (flows, collect) = (number(2, 100), number(4, 200));
    let limits = limits(flows);
    if let Some(path) = args.get(3) {
        std::fs::write(path, pairs(flows)).map_err(|e| Fault {
            what: e.to_string(),
            remedy: String::from("name a file that can be written"),
        })?;
    }
    let ports = Ports::open(&limits.shards[0].ports, None)?;
    let (mut shards, _gate) = Mesh::new(&limits)?;
    let mesh = shards.remove(0);
    if args.get(1).is_some_and(|kind| kind == "epoll") {
        let (driver, inbox) = Epoll::new(ports, None, mesh)?;
        relay(driver, inbox)
    } else {
        let (driver, inbox) = Uring::new(ports, None, mesh, collect)?;
        relay(driver, inbox)
    }
}

fn relay(mut driver: impl Io, mut inbox: Inbox) -> Result<(), Fault> {
    let mut outbox = Outbox::default();
    loop {
        driver.wait(None, &mut inbox)?;
        for packet in &inbox.packets {
            let port = PortId(packet.port.0 ^ 1);
            outbox.packets.push(PacketSend { port, to: endpoint(port.0), bytes: packet.bytes });
        }
        driver.submit(&mut inbox, &mut outbox)?;
    }
}

/// Who sits behind a port: sixteen callers and sixteen callees share all calls.
fn endpoint(port: u32) -> SocketAddr {
    let first = if port.is_multiple_of(2) { 10_000 } else { 11_000 };
    SocketAddr::from((Ipv4Addr::LOCALHOST, first + (port / 2 % 16 * 2) as u16))
}

fn limits(flows: u32) -> Limits {
    let port = |n: u32| PortSpec {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 12_000 + n as u16)),
        role: Role::Rtp,
        interface: 0,
        device: None,
        dscp: 0,
        tcp_keepalive_s: 60,
    };
    let shard = ShardLimits {
        ports: (0..2 * flows).map(port).collect(),
        transactions: 16,
        records: 1,
        record_size: 64,
        journal_size: 4096,
    };
    Limits { shards: vec![shard], mesh_letters: 1, events: 1 }
}

fn pairs(flows: u32) -> String {
    let mut text = String::new();
    for port in 0..2 * flows {
        let (from, to) = (endpoint(port), endpoint(port ^ 1));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{from} 127.0.0.1:{} {to}", 12_000 + port);
    }
    text
}
