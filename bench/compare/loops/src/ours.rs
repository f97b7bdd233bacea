//! Our drivers, as the engine has them.

use crate::Outcome;
use crate::work::{Work, local, remote};
use base::{PacketSend, PortId, ShardId};
use engine::io::{epoll::Epoll, mesh::Mesh, port::Ports, share::Sharing, uring::Uring};
use node::{Fault, Inbox, Io, Limits, Outbox, PortSpec, Role, ShardLimits};

/// How long a busy shard collects, in microseconds: the engine's default.
const COLLECT: u32 = 200;

/// io_uring.
pub fn uring(calls: u32, shared: bool) -> Outcome {
    with(
        calls,
        shared,
        |ports, mesh| Uring::new(ports, None, mesh, COLLECT),
        |driver, inbox| relay(driver, inbox, Work::new(calls)),
    )
}

/// epoll.
pub fn epoll(calls: u32, shared: bool) -> Outcome {
    with(
        calls,
        shared,
        |ports, mesh| Epoll::new(ports, None, mesh),
        |driver, inbox| relay(driver, inbox, Work::new(calls)),
    )
}

/// What is left without media's relay: the difference is what that costs.
pub fn bare(calls: u32) -> Outcome {
    with(
        calls,
        true,
        |ports, mesh| Uring::new(ports, None, mesh, COLLECT),
        |mut driver, mut inbox| {
            let mut outbox = Outbox::default();
            loop {
                driver.wait(None, &mut inbox)?;
                for packet in &inbox.packets {
                    let port = PortId(packet.port.0 ^ 1);
                    outbox.packets.push(PacketSend {
                        port,
                        to: remote(port.0),
                        bytes: packet.bytes,
                    });
                }
                driver.submit(&mut inbox, &mut outbox)?;
            }
        },
    )
}

fn with<D>(
    calls: u32,
    shared: bool,
    make: impl FnOnce(Ports, engine::io::mesh::ShardMesh) -> Result<(D, Inbox), Fault>,
    run: impl FnOnce(D, Inbox) -> Result<(), Fault>,
) -> Outcome {
    engine::io::pin::raise_descriptors()?;
    let limits = limits(calls);
    let sharing = if shared { Some(Sharing::new(&limits)?) } else { None };
    let sharing = sharing.as_ref().map(|sharing| (sharing, ShardId(0)));
    let ports = Ports::open(&limits.shards[0].ports, sharing).map_err(told)?;
    let (mut shards, _gate) = Mesh::new(&limits).map_err(told)?;
    let (driver, inbox) = make(ports, shards.remove(0)).map_err(told)?;
    run(driver, inbox).map_err(told)?;
    Ok(())
}

fn told(fault: Fault) -> String {
    format!("{}: {}", fault.what, fault.remedy)
}

fn relay(mut driver: impl Io, mut inbox: Inbox, mut work: Work) -> Result<(), Fault> {
    let mut outbox = Outbox::default();
    loop {
        let now = driver.wait(None, &mut inbox)?;
        for packet in &inbox.packets {
            work.take(now, packet.port, packet.source, packet.bytes, &mut inbox.pool);
        }
        outbox.packets.append(&mut work.out);
        driver.submit(&mut inbox, &mut outbox)?;
    }
}

fn limits(calls: u32) -> Limits {
    let port = |n: u32| PortSpec {
        address: local(n),
        role: Role::Rtp,
        interface: 0,
        device: None,
        dscp: 0,
        tcp_keepalive_s: 60,
    };
    let shard = ShardLimits {
        ports: (0..2 * calls).map(port).collect(),
        transactions: 16,
        records: 1,
        record_size: 64,
        journal_size: 4096,
    };
    Limits { shards: vec![shard], mesh_letters: 1, events: 1 }
}
