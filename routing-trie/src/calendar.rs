//! Times of day with weekdays, holidays and time zones: when a rate or a rule is in force.
//!
//! The time-zone database is compiled in: no file is read, and equal inputs give equal answers.

use core::sync::atomic::{AtomicU64, Ordering};
use jiff::Timestamp;
use jiff::civil::Date;
pub use jiff::tz::TimeZone;

/// What holds on the holidays of a profile.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum OnHolidays {
    /// Not in force all day: a profile of business hours.
    #[default]
    Never,
    /// In force all day: a profile of leisure hours.
    AllDay,
}

/// Hours of a week in one zone.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What rows and rules call it.
    pub name: Box<str>,
    /// Whose clocks count.
    pub zone: TimeZone,
    /// Bit 0 is Monday, bit 6 Sunday.
    pub weekdays: u8,
    /// Minutes of the day, from and until; one that ends before it begins goes on past midnight, and
    /// belongs to the day it begins on. Empty: the whole day.
    pub spans: Vec<(u16, u16)>,
    /// Days that are neither weekday nor weekend, sorted.
    pub holidays: Vec<Date>,
    /// What holds on them.
    pub on_holidays: OnHolidays,
    /// What was found out last.
    pub latest: Latest,
}

/// A moment and whether a profile held then: calls of one second share the answer, and its zone is asked once.
#[derive(Debug)]
pub struct Latest(AtomicU64);

/// A second that is none: no calendar reaches so far.
const NEVER: u64 = 1 << 61;

impl Default for Latest {
    fn default() -> Latest {
        Latest(AtomicU64::new(NEVER << 1))
    }
}

impl Clone for Latest {
    /// Nothing is known of what the copy will be.
    fn clone(&self) -> Latest {
        Latest::default()
    }
}

impl Latest {
    fn or(&self, at: i64, find_out: impl FnOnce() -> bool) -> bool {
        if at.unsigned_abs() >= NEVER {
            return find_out();
        }
        let key = (at as u64) << 1;
        let known = self.0.load(Ordering::Relaxed);
        if known & !1 == key {
            return known & 1 == 1;
        }
        let holds = find_out();
        self.0.store(key | u64::from(holds), Ordering::Relaxed);
        holds
    }
}

/// A time zone by its name in the database, such as `Europe/Berlin`; `None` when there is none.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() }
}

/// A day of a calendar, as `2026-12-25`.
pub fn day(text: &str) -> Option<Date> {
    text.parse().ok()
}

const DAY_MIN: u16 = 1_440;

impl Profile {
    /// Whether it is in force at a moment, seconds since the Unix epoch.
    pub fn holds(&self, at: i64) -> bool {
        self.latest.or(at, || self.find_out(at))
    }

    fn find_out(&self, at: i64) -> bool {
        let Ok(moment) = Timestamp::from_second(at) else { return false };
        let local = self.zone.to_datetime(moment);
        let minute = (i32::from(local.hour()) * 60 + i32::from(local.minute())) as u16;
        let today = local.date();
        self.holds_on(today, minute)
            || (self.spans.iter().any(|(from, until)| until <= from)
                && today.yesterday().is_ok_and(|d| self.holds_on(d, minute + DAY_MIN)))
    }

    /// Whether a minute of `day`, or of the night after it, is within.
    fn holds_on(&self, day: Date, minute: u16) -> bool {
        if self.holidays.binary_search(&day).is_ok() {
            return self.on_holidays == OnHolidays::AllDay && minute < DAY_MIN;
        }
        let weekday = day.weekday().to_monday_zero_offset();
        if self.weekdays >> weekday & 1 == 0 {
            return false;
        }
        let within = |&(from, until): &(u16, u16)| {
            let until = if until <= from { until + DAY_MIN } else { until };
            (from..until).contains(&minute)
        };
        match self.spans.is_empty() {
            true => minute < DAY_MIN,
            false => self.spans.iter().any(within),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn peak() -> Profile {
        Profile {
            name: "peak".into(),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            weekdays: 0b1_1111,
            spans: vec![(8 * 60, 18 * 60)],
            holidays: vec!["2026-12-25".parse().unwrap()],
            on_holidays: OnHolidays::Never,
            latest: Latest::default(),
        }
    }

    #[test]
    fn what_is_known_of_one_second_is_not_told_of_another() {
        let peak = peak();
        let (before, within) = (at("2026-11-20T06:59:59Z"), at("2026-11-20T07:00:00Z"));
        for moment in [before, before, within, within, before, -1, 0, i64::MAX, within] {
            assert_eq!(peak.holds(moment), moment == within, "{moment}");
        }
        let shut = Profile { weekdays: 0, ..peak.clone() };
        assert!(peak.holds(within) && !shut.holds(within), "a copy knows nothing");
    }

    #[test]
    fn hours_are_those_of_the_zone_summer_and_winter() {
        let peak = peak();
        // A Friday in winter, then one in summer: the same wall clock, another hour of UTC.
        let moments = [
            ("2026-11-20T06:59:59Z", false),
            ("2026-11-20T07:00:00Z", true),
            ("2026-11-20T16:59:59Z", true),
            ("2026-11-20T17:00:00Z", false),
            ("2026-07-03T06:00:00Z", true),
            ("2026-07-03T16:00:00Z", false),
            ("2026-11-21T09:00:00Z", false),
            ("2026-12-25T09:00:00Z", false),
        ];
        for (text, holds) in moments {
            assert_eq!(peak.holds(at(text)), holds, "{text}");
        }
        assert!(!peak.holds(i64::MAX));
    }

    #[test]
    fn a_night_belongs_to_the_day_it_begins_on() {
        let night = Profile {
            zone: TimeZone::UTC,
            weekdays: 0b1_0000,
            spans: vec![(22 * 60, 6 * 60)],
            ..peak()
        };
        assert!(night.holds(at("2026-11-20T23:00:00Z")) && night.holds(at("2026-11-21T05:59:00Z")));
        assert!(
            !night.holds(at("2026-11-20T05:00:00Z")) && !night.holds(at("2026-11-21T23:00:00Z"))
        );
        let leisure = Profile { on_holidays: OnHolidays::AllDay, weekdays: 0b110_0000, ..peak() };
        assert!(
            leisure.holds(at("2026-12-25T03:00:00Z")) && leisure.holds(at("2026-11-21T09:00:00Z"))
        );
        let always = Profile { spans: Vec::new(), weekdays: 0x7f, ..night };
        assert!(
            always.holds(at("2026-11-20T00:00:00Z")) && always.holds(at("2026-11-20T23:59:59Z"))
        );
    }
}
