//! The program that brings the datagrams of a range of ports to few sockets.
//!
//! It runs in the kernel when a datagram arrives for which no connected socket is found. One for a media
//! port of ours goes to the socket of the shard that owns the port, unless the port has had more than its
//! pace: the datagrams of one flooded port are dropped here, before they can crowd out anybody else's.
//! Everything else finds its socket as if we were not there.

use super::assembler::{Assembler, If, Instruction, Label, R};
use std::net::IpAddr;
use std::os::fd::RawFd;

/// Datagrams per second that one port may get for long.
pub(super) const PACE: u64 = 4000;
/// Datagrams that one port may get at once: a key frame, or what a stalled sender makes up for.
pub(super) const BURST: u64 = 512;

const INTERVAL_NS: u64 = 1_000_000_000 / PACE;

/// The media ports of one interface: pairs, dealt to the shards in turn.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// Where they are bound.
    pub(crate) ip: IpAddr,
    /// The first, even.
    pub(crate) first: u16,
    /// The last, odd.
    pub(crate) last: u16,
}

impl Range {
    fn ports(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

/// How the words of one array are used: what was dropped, by place in the socket map, then when each
/// port's next datagram is due.
pub(super) struct Layout {
    pub(super) shards: u32,
    /// Place of the first shard's socket of each range.
    pub(super) sockets: Vec<u32>,
    /// Word of the first port of each range.
    pub(super) paces: Vec<u32>,
    pub(super) places: u32,
    pub(super) words: u32,
}

impl Layout {
    pub(super) fn new(ranges: &[Range], shards: u32) -> Layout {
        let places = shards * ranges.len() as u32;
        let sockets = (0..ranges.len() as u32).map(|n| n * shards).collect();
        let mut words = places;
        let mut paces = Vec::new();
        for range in ranges {
            paces.push(words);
            words += range.ports();
        }
        Layout { shards, sockets, paces, places, words }
    }
}

/// `struct bpf_sk_lookup`, by offset.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_IP4: i16 = 40;
const LOCAL_IP6: i16 = 44;
const LOCAL_PORT: i16 = 60;

/// Helpers, by number.
const LOOKUP: i32 = 1;
const CLOCK: i32 = 5;
const RELEASE: i32 = 86;
const ASSIGN: i32 = 124;

const DROP: i32 = 0;
const PASS: i32 = 1;

const CONTEXT: R = R(6);
const PORT: R = R(7);
const STACK: R = R(10);
/// On the stack: where the socket stands in its map, and the port's word.
const PLACE: i16 = -4;
const WORD: i16 = -8;

/// The program for these ranges over a map of sockets and an array of words.
pub(super) fn program(
    ranges: &[Range],
    layout: &Layout,
    sockets: RawFd,
    words: RawFd,
) -> Vec<Instruction> {
    let mut a = Assembler::default();
    let (mut pass, mut ours) = (Label::default(), Label::default());
    a.copy(CONTEXT, R(1));
    a.load_word(R(0), CONTEXT, PROTOCOL);
    a.jump_if_word(R(0), If::Different, libc::IPPROTO_UDP, &mut pass);
    a.load_word(PORT, CONTEXT, LOCAL_PORT);
    for (n, range) in ranges.iter().enumerate() {
        let mut next = Label::default();
        is_in(&mut a, *range, &mut next);
        // Pairs are dealt in turn: port / 2 modulo shards.
        a.copy(R(2), PORT);
        a.add(R(2), -i32::from(range.first));
        a.copy(R(1), R(2));
        a.add(R(2), layout.paces[n] as i32);
        a.store_word(STACK, WORD, R(2));
        a.shift_right(R(1), 1);
        a.modulo(R(1), layout.shards as i32);
        a.add(R(1), layout.sockets[n] as i32);
        a.store_word(STACK, PLACE, R(1));
        a.jump(&mut ours);
        a.put(next);
    }
    a.put(pass);
    leave(&mut a, PASS);
    a.put(ours);
    keep_pace(&mut a, words);
    assign(&mut a, sockets);
    a.finish()
}

/// Goes on when the datagram is for the range, else to `next`.
fn is_in(a: &mut Assembler, range: Range, next: &mut Label) {
    a.jump_if_word(PORT, If::Less, i32::from(range.first), next);
    a.jump_if_word(PORT, If::Greater, i32::from(range.last), next);
    let (family, at, octets) = match range.ip {
        IpAddr::V4(ip) => (libc::AF_INET, LOCAL_IP4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, LOCAL_IP6, ip.octets().to_vec()),
    };
    a.load_word(R(0), CONTEXT, FAMILY);
    a.jump_if_word(R(0), If::Different, family, next);
    for (part, at) in octets.chunks_exact(4).zip((at..).step_by(4)) {
        // Addresses stand there in network order, read as the machine's.
        let part = part.first_chunk().map_or(0, |part| i32::from_ne_bytes(*part));
        a.load_word(R(0), CONTEXT, at);
        a.jump_if_word(R(0), If::Different, part, next);
    }
}

/// Lets a datagram through when its port's pace allows, else counts and drops it.
///
/// The generic cell rate algorithm of ITU-T I.371: one word per port says when its next datagram is due.
/// Two cores may write it at once; then one datagram in a flood is counted for two.
fn keep_pace(a: &mut Assembler, words: RawFd) {
    let (mut late, mut fits, mut none) = (Label::default(), Label::default(), Label::default());
    word_at(a, words, WORD);
    a.jump_if_null(R(0), &mut none);
    a.copy(R(8), R(0));
    a.call(CLOCK);
    a.load_double(R(1), R(8), 0);
    a.jump_if(R(1), If::Greater, R(0), &mut late);
    a.copy(R(1), R(0));
    a.put(late);
    a.copy(R(2), R(1));
    a.subtract(R(2), R(0));
    a.set(R(3), (BURST * INTERVAL_NS) as i32);
    a.jump_if(R(2), If::LessOrEqual, R(3), &mut fits);
    word_at(a, words, PLACE);
    a.jump_if_null(R(0), &mut none);
    a.set(R(1), 1);
    a.count(R(0), R(1));
    // A word that is not there cannot be: the array is as long as the layout says.
    a.put(none);
    leave(a, DROP);
    a.put(fits);
    a.add(R(1), INTERVAL_NS as i32);
    a.store_double(R(8), 0, R(1));
}

/// Gives the datagram to the socket at its place; to whoever has the port when there is none.
fn assign(a: &mut Assembler, sockets: RawFd) {
    let mut nobody = Label::default();
    word_at(a, sockets, PLACE);
    a.copy(R(8), R(0));
    a.jump_if_null(R(8), &mut nobody);
    a.copy(R(1), CONTEXT);
    a.copy(R(2), R(8));
    a.set(R(3), 0);
    a.call(ASSIGN);
    a.copy(R(1), R(8));
    a.call(RELEASE);
    a.put(nobody);
    leave(a, PASS);
}

/// Register 0 points to the entry whose number stands on the stack at `at`, or is 0.
fn word_at(a: &mut Assembler, map: RawFd, at: i16) {
    a.copy(R(2), STACK);
    a.add(R(2), i32::from(at));
    a.map(R(1), map);
    a.call(LOOKUP);
}

fn leave(a: &mut Assembler, verdict: i32) {
    a.set(R(0), verdict);
    a.exit();
}
