//! The load: every port of the relay gets a packet each 20 ms from who sits behind it, in bursts a millisecond
//! apart, and what comes out on the other side is counted, with how long it took.

use crate::Outcome;
use crate::work::{local, remote};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const MILLISECOND: Duration = Duration::from_millis(1);
/// Milliseconds between two packets of a flow.
const PACE: u32 = 20;
/// Bytes of a packet.
const LEN: usize = 172;

/// For so many seconds; prints how many packets were sent and came out, and the median and 99th percentile of
/// their delay in microseconds.
pub fn run(calls: u32, seconds: u32) -> Outcome {
    let ports = 2 * calls;
    let sockets =
        (0..32.min(ports)).map(|n| UdpSocket::bind(remote(n))).collect::<Result<Vec<_>, _>>()?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        socket2::SockRef::from(socket).set_recv_buffer_size(8 << 20)?;
    }
    let (begun, mut buffer) = (Instant::now(), [0; 2_048]);
    let (mut sent, mut delays) = (0u64, Vec::with_capacity((ports * 50 * seconds) as usize));
    for tick in 0..seconds * 1_000 {
        for n in (tick % PACE..ports).step_by(PACE as usize) {
            let packet = packet(tick / PACE, begun);
            sockets[(n % 32) as usize].send_to(&packet, local(n))?;
            sent += 1;
        }
        drain(&sockets, &mut buffer, begun, &mut delays);
        let next = begun + MILLISECOND * (tick + 1);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    std::thread::sleep(20 * MILLISECOND);
    drain(&sockets, &mut buffer, begun, &mut delays);
    delays.sort_unstable();
    let at =
        |percent: usize| delays.get(delays.len().saturating_sub(1) * percent / 100).unwrap_or(&0);
    println!("{sent} {} {} {}", delays.len(), at(50), at(99));
    Ok(())
}

fn packet(number: u32, begun: Instant) -> [u8; LEN] {
    let mut bytes = [0x55; LEN];
    bytes[0] = 0x80;
    bytes[1] = 0;
    bytes[2..4].copy_from_slice(&(number as u16).to_be_bytes());
    bytes[4..8].copy_from_slice(&(number * 160).to_be_bytes());
    bytes[8..12].fill(7);
    bytes[12..20].copy_from_slice(&(begun.elapsed().as_micros() as u64).to_be_bytes());
    bytes
}

fn drain(sockets: &[UdpSocket], buffer: &mut [u8; 2_048], begun: Instant, delays: &mut Vec<u32>) {
    for socket in sockets {
        while let Ok(len) = socket.recv(buffer) {
            if let Some(stamp) =
                buffer.get(12..20).filter(|_| len == LEN).and_then(|b| b.first_chunk())
            {
                let left = u64::from_be_bytes(*stamp);
                delays.push((begun.elapsed().as_micros() as u64).saturating_sub(left) as u32);
            }
        }
    }
}
