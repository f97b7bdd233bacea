//! Digits out of event packets (RFC 4733 §2.5.2): repeats, updates and lost ends are all one digit.

use super::{Digit, Events, Payload, Pressed, milliseconds};
use crate::rtp::Header;
use crate::verdict::Discard;
use base::Instant;
use core::time::Duration;

/// A digit of which nothing more is heard is over: its end was lost. A sender says something every
/// 20 to 50 ms.
const PATIENCE: Duration = Duration::from_millis(150);
/// The most one packet can say: longer events go on as another segment (§2.5.1.3).
const SEGMENT: u16 = u16::MAX;

/// What a leg has said of the digit it pressed last.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Hearing {
    last: Option<Run>,
}

/// The packets of one digit.
#[derive(Copy, Clone, Debug)]
struct Run {
    event: u8,
    timestamp: u32,
    /// In segments before this one, in units of the clock.
    before: u32,
    duration: u16,
    heard: Instant,
    is_over: bool,
}

impl Run {
    fn goes_on_in(&self, payload: &Payload, timestamp: u32) -> bool {
        let since = timestamp.wrapping_sub(self.timestamp);
        !self.is_over
            && self.event == payload.event
            && self.duration == SEGMENT
            && since == u32::from(SEGMENT)
    }
}

impl Hearing {
    /// Takes in one packet with its payload; every digit that is over because of it goes to `told`.
    pub(crate) fn hear(
        &mut self,
        header: &Header,
        payload: &[u8],
        events: &Events,
        now: Instant,
        mut told: impl FnMut(Pressed),
    ) -> Result<(), Discard> {
        let payload = Payload::read(payload)?;
        let timestamp = header.timestamp;
        match &mut self.last {
            Some(run) if run.timestamp == timestamp => {
                run.duration = run.duration.max(payload.duration);
                run.heard = now;
            }
            Some(run) if run.goes_on_in(&payload, timestamp) => {
                run.before = run.before.saturating_add(u32::from(SEGMENT));
                (run.timestamp, run.duration, run.heard) = (timestamp, payload.duration, now);
            }
            // One that was overtaken says nothing new.
            Some(run) if (timestamp.wrapping_sub(run.timestamp) as i32) < 0 => return Ok(()),
            Some(_) | None => {
                self.end(events, &mut told);
                self.last = Some(Run {
                    event: payload.event,
                    timestamp,
                    before: 0,
                    duration: payload.duration,
                    heard: now,
                    is_over: false,
                });
            }
        }
        if payload.is_end {
            self.end(events, &mut told);
        }
        Ok(())
    }

    /// When the digit that is pressed counts as over if nothing more is heard.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.last.filter(|run| !run.is_over).map(|run| run.heard + PATIENCE)
    }

    /// The digit that is pressed is over.
    pub(crate) fn end(&mut self, events: &Events, told: &mut impl FnMut(Pressed)) {
        let Some(run) = self.last.as_mut().filter(|run| !run.is_over) else { return };
        run.is_over = true;
        // Events that are no keys (tones of a modem, lines) are nobody's digits.
        if let Some(digit) = Digit::of_event(run.event) {
            let units = run.before.saturating_add(u32::from(run.duration));
            told(Pressed { digit, duration_ms: milliseconds(units, events.rate) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: Events = Events { from: 101, to: 101, rate: 8_000, taken: true };
    const START: Instant = Instant(1_000_000_000);

    /// What is told of packets: timestamp, event, end, duration, milliseconds since the start.
    fn told(packets: &[(u32, u8, bool, u16, u64)]) -> (String, Option<Instant>) {
        let (mut hearing, mut text) = (Hearing::default(), String::new());
        for &(timestamp, event, is_end, duration, ms) in packets {
            let header =
                Header { payload_type: 101, marker: false, sequence: 0, timestamp, ssrc: 1 };
            let payload = Payload { event, is_end, duration }.print();
            let now = START + Duration::from_millis(ms);
            let tell = |p: Pressed| text += &format!("{}:{} ", p.digit.name(), p.duration_ms);
            hearing.hear(&header, &payload, &EVENTS, now, tell).unwrap();
        }
        (text, hearing.deadline())
    }

    #[test]
    fn updates_and_repeated_ends_are_one_digit() {
        let run = [
            (1_000, 5, false, 160, 0),
            (1_000, 5, false, 320, 20),
            (1_000, 5, true, 480, 40),
            (1_000, 5, true, 480, 41),
            (1_000, 5, true, 480, 42),
        ];
        assert_eq!(told(&run), ("5:60 ".into(), None));
        assert_eq!(told(&run[3..]), ("5:60 ".into(), None), "the end alone will do");
        assert_eq!(told(&[run[0], run[3], run[1], run[2]]).0, "5:60 ", "in whatever order");
    }

    #[test]
    fn the_same_key_twice_is_two_digits() {
        let twice =
            [(1_000, 1, true, 800, 0), (1_000, 1, true, 800, 5), (2_600, 1, true, 800, 200)];
        assert_eq!(told(&twice).0, "1:100 1:100 ");
        let overtaken = [twice[0], twice[2], twice[1]];
        assert_eq!(told(&overtaken).0, "1:100 1:100 ");
    }

    #[test]
    fn a_digit_without_an_end_ends_with_the_next_or_after_a_while() {
        let lost = [(1_000, 1, false, 320, 0), (9_000, 2, true, 400, 1_000)];
        assert_eq!(told(&lost), ("1:40 2:50 ".into(), None));
        let (said, deadline) = told(&lost[..1]);
        assert_eq!((said.as_str(), deadline), ("", Some(START + PATIENCE)));
    }

    #[test]
    fn a_long_one_goes_on_in_segments() {
        let long = [
            (1_000, 9, false, SEGMENT, 0),
            (1_000 + 65_535, 9, false, 160, 20),
            (1_000 + 65_535, 9, true, 8_000, 1_000),
        ];
        assert_eq!(told(&long).0, "9:9191 ");
    }

    #[test]
    fn what_is_no_key_is_nobodys_digit() {
        assert_eq!(told(&[(1, 32, true, 800, 0), (9_000, 16, true, 800, 500)]).0, "!:100 ");
    }

    proptest::proptest! {
        /// Whatever a sender of distinct digits loses, repeats or reorders within a digit, each of which
        /// one packet arrives is told once and in its order.
        #[test]
        fn each_digit_is_told_once(
            digits in proptest::collection::vec((0u8..16, 1u16..10), 1..20),
            kept in proptest::collection::vec(proptest::bits::u16::ANY, 20),
        ) {
            let (mut packets, mut expected) = (Vec::new(), String::new());
            for (n, ((event, updates), kept)) in digits.iter().zip(kept).enumerate() {
                let before = packets.len();
                for update in 0..updates + 3 {
                    if kept & 1 << update != 0 {
                        let duration = 160 * (update + 1).min(*updates);
                        let at = (n as u32 * 100_000, *event, update >= *updates, duration);
                        packets.push((at.0, at.1, at.2, at.3, n as u64 * 10_000));
                    }
                }
                if packets.len() > before {
                    expected.push(Digit::of_event(*event).unwrap().name());
                }
            }
            let (said, deadline) = told(&packets);
            let mut names: String = said.split(' ').filter_map(|d| d.chars().next()).collect();
            if deadline.is_some() {
                names.push(Digit::of_event(packets[packets.len() - 1].1).unwrap().name());
            }
            proptest::prop_assert_eq!(names, expected);
        }
    }
}
