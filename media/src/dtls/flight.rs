//! What is left of a handshake that is over: our last flight (RFC 6347 §4.2.4).
//!
//! Whoever ends a handshake sends its last flight again when the peer's shows that it did not arrive. The
//! datagrams as they were are enough for that: a peer that took them in drops them as replayed. The
//! association, which holds the buffers of all flights, is let go of once there are keys.

use super::Role;
use base::{Instant, Texts};
use core::time::Duration;

/// A peer's flight of several datagrams is one reason to repeat ours.
const REST: Duration = Duration::from_millis(20);
/// How often it is repeated: a peer that waits twice as long each time asks less often while it is kept.
const REPETITIONS: u8 = 16;
/// Content types and the first message of a handshake (RFC 6347 §4.1, §4.3.2).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Where a record's fragment begins.
const HEADER: usize = 13;

/// Our last flight.
pub(super) struct Flight {
    datagrams: Box<[Box<[u8]>]>,
    /// Not repeated before.
    rest: Instant,
    left: u8,
}

/// What is to be kept of a handshake that has come to its keys.
pub(super) enum Kept {
    /// The association: it knows what else is to be done.
    Association,
    /// Our last flight.
    Flight(Flight),
    /// Nothing: the last flight was the peer's.
    Nothing,
}

impl Kept {
    /// What a side keeps whose last step sent what `out` has from `first` on. A client that has answered to
    /// the last flight of its server (RFC 9147 §5.8.1) waits for its acknowledgement yet.
    pub(super) fn of(role: Role, out: &Texts, first: usize, now: Instant) -> Kept {
        let sent = out.sends.get(first..).unwrap_or_default();
        match (role, sent.is_empty()) {
            (Role::Active, true) => Kept::Nothing,
            (Role::Active, false) | (Role::Passive, true) => Kept::Association,
            (Role::Passive, false) => {
                let datagrams = sent.iter().map(|send| out.get(send.bytes).into()).collect();
                Kept::Flight(Flight { datagrams, rest: now, left: REPETITIONS })
            }
        }
    }
}

impl Flight {
    /// What is to be sent again when this arrives.
    pub(super) fn again(&mut self, datagram: &[u8], now: Instant) -> &[Box<[u8]>] {
        if !is_of_handshake(datagram) || self.left == 0 || now < self.rest {
            return &[];
        }
        (self.left, self.rest) = (self.left - 1, now + REST);
        &self.datagrams
    }
}

/// Whether a datagram is the peer's part of a handshake under way: nothing that begins another, and no
/// farewell. Of DTLS 1.3 the record's type is hidden (RFC 9147 §4).
fn is_of_handshake(datagram: &[u8]) -> bool {
    match datagram.first() {
        Some(&HANDSHAKE) => datagram.get(HEADER) != Some(&CLIENT_HELLO),
        Some(first) => first >> 5 == 1,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::PortId;
    use std::net::{Ipv4Addr, SocketAddr};

    fn sent(datagrams: &[&[u8]]) -> Texts {
        let (mut out, to) = (Texts::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
        for datagram in datagrams {
            out.push(PortId(0), to, |out| out.extend_from_slice(datagram));
        }
        out
    }

    #[test]
    fn who_ends_keeps_its_last_flight_and_who_does_not_keeps_nothing() {
        let (none, two, now) = (sent(&[]), sent(&[b"of another leg", b"last"]), Instant(7));
        assert!(matches!(Kept::of(Role::Active, &none, 0, now), Kept::Nothing));
        assert!(matches!(Kept::of(Role::Active, &two, 1, now), Kept::Association));
        assert!(matches!(Kept::of(Role::Passive, &two, 2, now), Kept::Association));
        let Kept::Flight(flight) = Kept::of(Role::Passive, &two, 1, now) else {
            panic!("a flight")
        };
        assert_eq!(*flight.datagrams, [Box::from(*b"last") as Box<[u8]>]);
    }

    #[test]
    fn it_is_repeated_for_handshakes_now_and_then_and_not_for_ever() {
        let out = sent(&[b"last"]);
        let Kept::Flight(mut flight) = Kept::of(Role::Passive, &out, 0, Instant(0)) else {
            panic!("a flight")
        };
        let mut hello = [0; 40];
        (hello[0], hello[HEADER]) = (HANDSHAKE, CLIENT_HELLO);
        let mut certificate = hello;
        certificate[HEADER] = 11;
        let (mut alert, mut hidden) = ([21; 40], [0x2f; 40]);
        (alert[1], hidden[1]) = (0xfe, 0);
        let mut now = Instant(1_000);
        for idle in [&hello[..], &alert, &[], &[0x80; 40]] {
            assert!(flight.again(idle, now).is_empty());
        }
        for turn in 0..u32::from(REPETITIONS) {
            let asks = if turn % 2 == 0 { &certificate } else { &hidden };
            assert_eq!(flight.again(asks, now).len(), 1);
            assert!(flight.again(asks, now).is_empty(), "the same flight");
            now = now + REST;
        }
        assert!(flight.again(&certificate, now).is_empty());
    }
}
