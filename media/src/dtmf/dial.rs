//! Event packets out of digits (RFC 4733 §2.5.1): one every 20 ms while the key is down, the last of them
//! three times, and a pause before the next digit.

use super::{Digit, Events, Payload, Pressed, units};
use base::Instant;
use core::time::Duration;
use std::collections::VecDeque;

/// The most digits that wait.
const MOST: usize = 32;
/// From packet to packet.
const STEP: Duration = Duration::from_millis(20);
/// How often the end is said.
const ENDS: u8 = 3;
/// Between two digits; speech is heard meanwhile.
const PAUSE: Duration = Duration::from_millis(60);
/// The shortest a key is down, so that every receiver takes it for one, and the longest, which one
/// segment holds at 8 kHz (§2.5.1.3).
const SHORTEST_MS: u32 = 60;
const LONGEST_MS: u32 = 8_000;

/// Digits on their way to a leg.
#[derive(Debug, Default)]
pub(crate) struct Dialling {
    waiting: VecDeque<Pressed>,
    key: Option<Key>,
    /// When there is something to do.
    due: Option<Instant>,
}

/// A key that is down.
#[derive(Copy, Clone, Debug)]
struct Key {
    digit: Digit,
    timestamp: u32,
    /// For how long it is down, and has been.
    whole: Duration,
    down: Duration,
    ends_said: u8,
}

/// One packet to be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventPacket {
    pub(crate) marker: bool,
    pub(crate) timestamp: u32,
    pub(crate) payload: [u8; super::LEN],
}

impl Dialling {
    /// Another digit; `false` when too many wait.
    pub(crate) fn press(&mut self, pressed: Pressed, now: Instant) -> bool {
        if self.waiting.len() >= MOST {
            return false;
        }
        self.waiting.push_back(pressed);
        self.due.get_or_insert(now);
        true
    }

    /// When there is a packet to be sent, or a key to be pressed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a key is down: then nobody speaks.
    pub(crate) fn is_down(&self) -> bool {
        self.key.is_some()
    }

    /// The packet that is due; `timestamp` tells the stream's time when a key goes down.
    pub(crate) fn next(
        &mut self,
        events: &Events,
        now: Instant,
        timestamp: impl FnOnce() -> u32,
    ) -> Option<EventPacket> {
        let due = self.due.filter(|due| *due <= now)?;
        let marker = self.key.is_none();
        if marker {
            let Some(Pressed { digit, duration_ms }) = self.waiting.pop_front() else {
                self.due = None;
                return None;
            };
            let ms = duration_ms.clamp(SHORTEST_MS, LONGEST_MS);
            self.key = Some(Key {
                digit,
                timestamp: timestamp(),
                whole: Duration::from_millis(u64::from(ms)),
                down: Duration::ZERO,
                ends_said: 0,
            });
        }
        let key = self.key.as_mut()?;
        key.down = (key.down + STEP).min(key.whole);
        let is_end = key.down == key.whole;
        key.ends_said += u8::from(is_end);
        let duration = u16::try_from(units(key.down, events.rate)).unwrap_or(u16::MAX);
        let payload = Payload { event: key.digit.event(), is_end, duration }.print();
        let packet = EventPacket { marker, timestamp: key.timestamp, payload };
        // A turn that came late does not make the next packet late.
        let next = if now.since(due) < STEP { due } else { now };
        if key.ends_said == ENDS {
            (self.key, self.due) = (None, Some(next + PAUSE));
        } else {
            self.due = Some(next + STEP);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Events = Events { from: 101, to: 101, rate: 8_000, taken: true };
    const START: Instant = Instant(1_000_000_000);

    fn pressed(name: u8, duration_ms: u32) -> Pressed {
        Pressed { digit: Digit::of_name(name).unwrap(), duration_ms }
    }

    /// Runs it to its end: milliseconds, marker, timestamp, event, end, duration of every packet.
    fn packets(dialling: &mut Dialling) -> Vec<(u64, bool, u32, u8, bool, u16)> {
        let mut sent = Vec::new();
        while let Some(now) = dialling.deadline() {
            let ms = (now.since(START).as_millis()) as u64;
            let Some(packet) = dialling.next(&EVENTS, now, || 8 * ms as u32) else { continue };
            let Payload { event, is_end, duration } = Payload::read(&packet.payload).unwrap();
            sent.push((ms, packet.marker, packet.timestamp, event, is_end, duration));
        }
        sent
    }

    #[test]
    fn a_digit_grows_and_ends_three_times() {
        let mut dialling = Dialling::default();
        assert!(
            dialling.press(pressed(b'7', 70), START) && dialling.press(pressed(b'#', 1), START)
        );
        let expected = [
            (0, true, 0, 7, false, 160),
            (20, false, 0, 7, false, 320),
            (40, false, 0, 7, false, 480),
            (60, false, 0, 7, true, 560),
            (80, false, 0, 7, true, 560),
            (100, false, 0, 7, true, 560),
            (160, true, 1_280, 11, false, 160),
            (180, false, 1_280, 11, false, 320),
            (200, false, 1_280, 11, true, 480),
            (220, false, 1_280, 11, true, 480),
            (240, false, 1_280, 11, true, 480),
        ];
        assert_eq!(packets(&mut dialling), expected);
        assert!(!dialling.is_down() && dialling.deadline().is_none());
    }

    #[test]
    fn only_so_many_wait_and_none_is_too_long() {
        let mut dialling = Dialling::default();
        let taken = (0..100).filter(|_| dialling.press(pressed(b'1', u32::MAX), START)).count();
        assert_eq!(taken, MOST);
        let longest = packets(&mut dialling).into_iter().map(|packet| packet.5).max();
        assert_eq!(longest, Some(64_000));
    }

    #[test]
    fn what_is_dialled_is_heard() {
        let (mut dialling, mut hearing) = (Dialling::default(), super::super::Hearing::default());
        for name in b"0123456789*#ABCD!" {
            assert!(dialling.press(pressed(*name, 100), START));
        }
        let mut heard = Vec::new();
        while let Some(now) = dialling.deadline() {
            let time = || (now.since(START).as_millis() * 8) as u32;
            let Some(packet) = dialling.next(&EVENTS, now, time) else { continue };
            let header = crate::rtp::Header {
                payload_type: 101,
                marker: packet.marker,
                sequence: 0,
                timestamp: packet.timestamp,
                ssrc: 1,
            };
            hearing.hear(&header, &packet.payload, &EVENTS, now, |p| heard.push(p)).unwrap();
        }
        let names: String = heard.iter().map(|p| p.digit.name()).collect();
        assert_eq!(names, "0123456789*#ABCD!");
        assert!(heard.iter().all(|p| p.duration_ms == 100));
    }
}
