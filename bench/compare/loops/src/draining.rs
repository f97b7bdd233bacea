//! glommio: an executor drains the ring, a task for each port receives and sends.

use crate::Outcome;
use crate::work::{Work, local, now, remote};
use base::{Bytes, Pool, PortId};
use glommio::net::UdpSocket;
use glommio::{LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

const ROOM: Bytes = Bytes { at: 0, len: 1_500 };

/// Until it is ended.
pub fn run(calls: u32, connected: bool) -> Outcome {
    engine::io::pin::raise_descriptors()?;
    // Where it runs is chosen from outside, as for the others.
    let executor =
        LocalExecutorBuilder::new(Placement::Unbound).make().map_err(|e| e.to_string())?;
    executor.run(async move {
        let mut sockets = Vec::new();
        for n in 0..2 * calls {
            let socket = UdpSocket::bind(local(n)).map_err(|e| e.to_string())?;
            if connected {
                socket.connect(remote(n)).await.map_err(|e| e.to_string())?;
            }
            sockets.push(socket);
        }
        let (sockets, work) = (Rc::new(sockets), Rc::new(RefCell::new(Work::new(calls))));
        let begun = std::time::Instant::now();
        let tasks: Vec<_> = (0..2 * calls)
            .map(|n| {
                let (sockets, work) = (sockets.clone(), work.clone());
                glommio::spawn_local(async move {
                    let mut pool = Pool::new(2_048);
                    loop {
                        receive(&sockets, n, connected, &work, &mut pool, begun).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        Ok::<(), String>(())
    })?;
    Ok(())
}

async fn receive(
    sockets: &[UdpSocket],
    n: u32,
    connected: bool,
    work: &RefCell<Work>,
    pool: &mut Pool,
    begun: std::time::Instant,
) {
    let Some(socket) = sockets.get(n as usize) else { return };
    let room = pool.get_mut(ROOM);
    let (len, source): (usize, SocketAddr) = match connected {
        true => match socket.recv(room).await {
            Ok(len) => (len, remote(n)),
            Err(_) => return,
        },
        false => match socket.recv_from(room).await {
            Ok(found) => found,
            Err(_) => return,
        },
    };
    let out = {
        let mut work = work.borrow_mut();
        let bytes = Bytes { at: 0, len: len as u32 };
        work.take(now(begun), PortId(n), source, bytes, pool);
        work.out.pop()
    };
    let Some(send) = out else { return };
    let Some(from) = sockets.get(send.port.0 as usize) else { return };
    let bytes = pool.get(send.bytes);
    // A datagram that nobody takes is lost, as on any network.
    let _sent = if connected { from.send(bytes).await } else { from.send_to(bytes, send.to).await };
}
