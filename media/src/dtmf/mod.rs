//! Digits as named telephone events (RFC 4733): one run of packets is one digit.
//!
//! `hear.rs` makes digits out of a leg's packets, `dial.rs` packets out of digits.

mod dial;
mod hear;

pub(crate) use dial::Dialling;
pub(crate) use hear::Hearing;

use crate::verdict::Discard;
use base::plain;
use core::time::Duration;

/// Bytes of an event's payload (RFC 4733 §2.3).
const LEN: usize = 4;
/// What events are called, by their code (RFC 4733 §3.2); `!` is a flash of the hook.
const NAMES: &[u8; 17] = b"0123456789*#ABCD!";

/// A key of a telephone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Digit(u8);

impl Digit {
    /// The digit of an event code, 0..=16.
    pub fn of_event(event: u8) -> Option<Digit> {
        (usize::from(event) < NAMES.len()).then_some(Digit(event))
    }

    /// The digit that is written so: `0` to `9`, `*`, `#`, `A` to `D`, and `!` for a flash.
    pub fn of_name(name: u8) -> Option<Digit> {
        let at = NAMES.iter().position(|known| *known == name.to_ascii_uppercase())?;
        Digit::of_event(u8::try_from(at).ok()?)
    }

    /// Its event code, 0..=16.
    pub fn event(self) -> u8 {
        self.0
    }

    /// As it is written.
    pub fn name(self) -> char {
        NAMES.get(usize::from(self.0)).map_or('?', |name| char::from(*name))
    }
}

/// A digit somebody pressed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Pressed {
    /// The key.
    pub digit: Digit,
    /// For how long, in milliseconds.
    pub duration_ms: u32,
}

/// How a leg speaks and hears digits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The payload type its events come with.
    pub from: u8,
    /// The payload type it wants them with.
    pub to: u8,
    /// The clock of both, in Hz.
    pub rate: u32,
    /// Its events go no further: they are only told ([`crate::Notice::Pressed`]).
    pub taken: bool,
}

plain!(struct Events { from, to, rate, taken });

/// The payload of one packet (RFC 4733 §2.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Payload {
    event: u8,
    is_end: bool,
    /// Since the event's timestamp, in units of the clock.
    duration: u16,
}

impl Payload {
    fn read(payload: &[u8]) -> Result<Payload, Discard> {
        let &[event, flags, d0, d1] = payload.first_chunk::<LEN>().ok_or(Discard::BadEvent)?;
        let duration = u16::from_be_bytes([d0, d1]);
        Ok(Payload { event, is_end: flags & 0x80 != 0, duration })
    }

    /// At -10 dBm0, as loud as keys are.
    fn print(self) -> [u8; LEN] {
        let [d0, d1] = self.duration.to_be_bytes();
        [self.event, u8::from(self.is_end) << 7 | 10, d0, d1]
    }
}

/// Milliseconds in so many units of a clock of `rate` Hz.
fn milliseconds(units: u32, rate: u32) -> u32 {
    let ms = u64::from(units) * 1_000 / u64::from(rate.max(1));
    u32::try_from(ms).unwrap_or(u32::MAX)
}

/// Units of a clock of `rate` Hz in a duration.
fn units(duration: Duration, rate: u32) -> u32 {
    let units = duration.as_millis() * u128::from(rate) / 1_000;
    u32::try_from(units).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_have_names_and_codes() {
        for (event, name) in (0..).zip("0123456789*#ABCD!".chars()) {
            let digit = Digit::of_event(event).unwrap();
            assert_eq!((digit.name(), Digit::of_name(name as u8)), (name, Some(digit)));
        }
        assert_eq!(Digit::of_name(b'd'), Digit::of_event(15));
        assert!(Digit::of_event(17).is_none() && Digit::of_name(b'E').is_none());
    }

    #[test]
    fn payloads_read_back() {
        let payload = Payload { event: 11, is_end: true, duration: 1_600 };
        assert_eq!(Payload::read(&payload.print()), Ok(payload));
        assert_eq!(Payload::read(&payload.print()[..3]), Err(Discard::BadEvent));
    }
}
