//! What a shard knows about numbers: where each was ported to, for as long as it was said to hold.

use base::Instant;
use base::record::{Plain, Unreadable};
use routing_trie::Digits;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most numbers a shard remembers.
const MOST: usize = 65_536;
/// How long a number that nobody answered for is not asked for again.
const SILENCE_S: u32 = 5;
/// The longest an answer is believed, seconds.
const LONGEST_S: u32 = 7 * 86_400;

/// What is known about a number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dip {
    /// It was ported: calls are routed and rated by this one (LRN).
    Ported(Digits),
    /// It is where it always was.
    Native,
    /// Nobody answered.
    Silent,
}

impl Plain for Dip {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Dip::Ported(to) => {
                out.push(0);
                to.put(out);
            }
            Dip::Native => out.push(1),
            Dip::Silent => out.push(2),
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(match u8::take(from)? {
            0 => Dip::Ported(Plain::take(from)?),
            1 => Dip::Native,
            2 => Dip::Silent,
            _ => return Err(Unreadable::Value),
        })
    }
}

/// An answer about a number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PortedNumber {
    /// Which.
    pub number: Digits,
    /// What is known.
    pub dip: Dip,
    /// How long it holds, seconds.
    pub ttl_s: u32,
}

/// Answers by number.
#[derive(Clone, Debug, Default)]
pub struct Ported {
    known: BTreeMap<Digits, (Dip, Instant)>,
}

impl Ported {
    /// What is known; `None` when it must be asked for.
    pub fn get(&self, number: Digits, now: Instant) -> Option<Dip> {
        let (dip, until) = self.known.get(&number)?;
        (now < *until).then_some(*dip)
    }

    /// Learns an answer.
    pub fn learn(&mut self, answer: PortedNumber, now: Instant) {
        let seconds = match answer.dip {
            Dip::Silent => SILENCE_S,
            Dip::Ported(_) | Dip::Native => answer.ttl_s.clamp(1, LONGEST_S),
        };
        if self.known.len() >= MOST && !self.known.contains_key(&answer.number) {
            self.known.retain(|_, (_, until)| now < *until);
        }
        if self.known.len() >= MOST {
            // Full of answers that hold: what makes room is asked for again when it is called.
            self.known.pop_first();
        }
        let until = now + Duration::from_secs(u64::from(seconds));
        self.known.insert(answer.number, (answer.dip, until));
    }

    /// Takes silence for an answer: the deadline passed. An answer known already is kept.
    pub fn give_up(&mut self, number: Digits, now: Instant) {
        if self.get(number, now).is_none() {
            self.learn(PortedNumber { number, dip: Dip::Silent, ttl_s: SILENCE_S }, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_as_long_as_they_say_and_silence_not_for_long() {
        let (d, at) = (
            |n: u64| n.to_string().parse::<Digits>().expect("digits"),
            |s: u64| Instant(s * 1_000_000_000),
        );
        let mut ported = Ported::default();
        let to = Dip::Ported(d(7));
        ported.learn(PortedNumber { number: d(1), dip: to, ttl_s: 10 }, at(0));
        ported.give_up(d(1), at(1));
        ported.give_up(d(2), at(1));
        assert_eq!((ported.get(d(1), at(9)), ported.get(d(1), at(10))), (Some(to), None));
        assert_eq!((ported.get(d(2), at(5)), ported.get(d(2), at(6))), (Some(Dip::Silent), None));
        for n in 0..MOST as u64 + 10 {
            ported.learn(PortedNumber { number: d(n), dip: Dip::Native, ttl_s: 60 }, at(20));
        }
        assert_eq!(ported.known.len(), MOST);
    }
}
