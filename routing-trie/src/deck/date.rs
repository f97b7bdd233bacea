//! Dates as decks have them. A date that could be read two ways is refused, not guessed.

use jiff::civil;
use jiff::tz::TimeZone;

/// Which number of `03/04/2026` is the day.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    /// Whatever is certain; an uncertain date is an error.
    #[default]
    Certain,
    /// Day, month, year.
    DayFirst,
    /// Month, day, year.
    MonthFirst,
}

/// Why text is no moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BadDate {
    /// Not a date in any form known.
    Form,
    /// A day or a time that does not exist.
    Value,
    /// It could be two days.
    Uncertain,
}

impl core::fmt::Display for BadDate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            BadDate::Form => "write dates like 2026-11-20, 2026-11-20 08:00 or 20-Nov-2026",
            BadDate::Value => "there is no such day or time",
            BadDate::Uncertain => "the day could be the month: declare the order of dates",
        })
    }
}

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

/// Reads a date, with or without a time, as seconds since the Unix epoch. A date alone is its midnight;
/// without an offset it is one of `zone`.
pub fn read(text: &str, order: DateOrder, zone: &TimeZone) -> Result<i64, BadDate> {
    let text = text.trim();
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_second());
    }
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) if time.contains(':') => (date, Some(time)),
        _ => (text, None),
    };
    let date = read_date(date, order)?;
    let time = match time {
        Some(time) => time.trim().parse::<civil::Time>().map_err(|_| BadDate::Value)?,
        None => civil::Time::midnight(),
    };
    let moment = date.to_datetime(time).to_zoned(zone.clone()).map_err(|_| BadDate::Value)?;
    Ok(moment.timestamp().as_second())
}

fn read_date(text: &str, order: DateOrder) -> Result<civil::Date, BadDate> {
    if text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return date(number(&text[..4])?, number(&text[4..6])?, number(&text[6..])?);
    }
    let parts: Vec<&str> =
        text.split(['-', '/', '.', ' ', ',']).filter(|p| !p.is_empty()).collect();
    let [a, b, c] = parts[..] else { return Err(BadDate::Form) };
    if let Some(month) = month(b) {
        return date(year(c)?, month, number(a)?);
    }
    if let Some(month) = month(a) {
        return date(year(c)?, month, number(b)?);
    }
    if a.len() == 4 {
        return date(number(a)?, number(b)?, number(c)?);
    }
    let (a, b, year) = (number(a)?, number(b)?, year(c)?);
    // Points mean day first everywhere; with slashes it depends on the country.
    let day_first = match order {
        DateOrder::DayFirst => true,
        DateOrder::MonthFirst => false,
        DateOrder::Certain if text.contains('.') || a > 12 || a == b => true,
        DateOrder::Certain if b > 12 => false,
        DateOrder::Certain => return Err(BadDate::Uncertain),
    };
    if day_first { date(year, b, a) } else { date(year, a, b) }
}

fn number(text: &str) -> Result<i16, BadDate> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| good).ok_or(BadDate::Form)
}

/// Four digits, or two of this century.
fn year(text: &str) -> Result<i16, BadDate> {
    let year = number(text)?;
    if text.len() == 2 { Ok(2_000 + year) } else { Ok(year) }
}

fn month(text: &str) -> Option<i16> {
    let head: [u8; 3] = text.as_bytes().get(..3)?.try_into().ok()?;
    let at = MONTHS.iter().position(|m| **m == head.map(|b| b.to_ascii_lowercase()))?;
    Some(at as i16 + 1)
}

fn date(year: i16, month: i16, day: i16) -> Result<civil::Date, BadDate> {
    let part = |n: i16| i8::try_from(n).map_err(|_| BadDate::Value);
    let found = civil::Date::new(year, part(month)?, part(day)?).map_err(|_| BadDate::Value)?;
    // Decks are of this age: a year 202 or 20260 is a slip.
    if (1970..=2199).contains(&found.year()) { Ok(found) } else { Err(BadDate::Value) }
}

/// A moment as text that [`read`] reads back: `2026-11-20T08:00:00Z`.
pub fn print(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_many_forms_are_one_day() {
        let midnight = 1_795_132_800; // 2026-11-20T00:00:00Z
        let forms = [
            "2026-11-20",
            "20261120",
            "20/11/2026",
            "11/20/2026",
            "20.11.2026",
            "20-Nov-2026",
            "20 november 26",
            "Nov 20, 2026",
            "2026/11/20",
            "2026-11-20 00:00",
            "2026-11-20T00:00:00Z",
            "2026-11-20T01:00:00+01:00",
        ];
        for text in forms {
            assert_eq!(read(text, DateOrder::Certain, &TimeZone::UTC), Ok(midnight), "{text}");
        }
        assert_eq!(read(&print(midnight), DateOrder::Certain, &TimeZone::UTC), Ok(midnight));
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(read("20.11.2026 08:30", DateOrder::Certain, &berlin), Ok(midnight + 27_000));
    }

    #[test]
    fn what_is_not_certain_is_not_guessed() {
        let read = |text, order| read(text, order, &TimeZone::UTC);
        assert_eq!(read("03/04/2026", DateOrder::Certain), Err(BadDate::Uncertain));
        assert_eq!(read("03/04/2026", DateOrder::DayFirst), read("2026-04-03", DateOrder::Certain));
        assert_eq!(
            read("03/04/2026", DateOrder::MonthFirst),
            read("2026-03-04", DateOrder::Certain)
        );
        let bad = [
            ("", BadDate::Form),
            ("soon", BadDate::Form),
            ("2026-02-29", BadDate::Value),
            ("202-01-01", BadDate::Form),
            ("2200-01-01", BadDate::Value),
            ("2026-01-01 25:00", BadDate::Value),
        ];
        for (text, why) in bad {
            assert!(
                read(text, DateOrder::Certain).is_err_and(|e| e == why || e == BadDate::Value),
                "{text}"
            );
        }
    }
}
