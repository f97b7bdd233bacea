//! Numbers and times as people read them. Times of day are UTC, as in CDRs and logs.

use std::time::{SystemTime, UNIX_EPOCH};

/// What stands where there is no value.
pub(crate) const NONE: &str = "-";

/// A duration in seconds: `42 s`, `3:07`, `1:02:03`, `4d 03:12`.
pub(crate) fn duration(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds {
        0..60 => format!("{s} s"),
        60..3600 => format!("{m}:{s:02}"),
        3600..86_400 => format!("{h}:{m:02}:{s:02}"),
        _ => format!("{d}d {h:02}:{m:02}"),
    }
}

/// An average duration: `8.4 s` while short.
pub(crate) fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        None => NONE.to_owned(),
        Some(s) if s < 59.95 => format!("{s:.1} s"),
        Some(s) => duration(s.round() as u64),
    }
}

/// Milliseconds: `812 ms`, `3.2 s`.
pub(crate) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => NONE.to_owned(),
        Some(ms) if ms < 999.5 => format!("{ms:.0} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}

/// A percentage with one digit.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.1} %"))
}

/// A score with two digits.
pub(crate) fn score(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.2}"))
}

/// A rate: one digit below a hundred.
pub(crate) fn rate(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A count with thin groups: `1 234 567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// So many of something: `1 call`, `1 412 calls`.
pub(crate) fn plural(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), if value == 1 { "" } else { "s" })
}

/// Bytes: `0 B`, `12.5 KiB`, `3.0 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    match value {
        0..1024 => format!("{value} B"),
        1024..1_048_576 => format!("{:.1} KiB", value as f64 / 1024.0),
        _ => format!("{:.1} MiB", value as f64 / 1_048_576.0),
    }
}

/// Time of day, UTC, of milliseconds since the epoch.
pub(crate) fn clock(ms: u64) -> String {
    let s = ms / 1000;
    format!("{:02}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60)
}

/// Day and time, UTC (civil-from-days, proleptic Gregorian).
pub(crate) fn stamp(ms: u64) -> String {
    let z = ms / 86_400_000 + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}", clock(ms))
}

/// Now, milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Text that came from a peer, safe to print: control characters would move the cursor.
pub(crate) fn safe(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// At most `width` characters of safe text; what is cut off is shown by `~`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    let text = safe(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('~');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        assert_eq!([59, 187, 3723, 357_120].map(duration), ["59 s", "3:07", "1:02:03", "4d 03:12"]);
        assert_eq!([None, Some(8.44), Some(59.96)].map(seconds), ["-", "8.4 s", "1:00"]);
        assert_eq!([None, Some(812.0), Some(3200.0)].map(millis), ["-", "812 ms", "3.2 s"]);
        assert_eq!([12, 1234, 1_234_567].map(count), ["12", "1 234", "1 234 567"]);
        assert_eq!([12, 12_800, 3 << 20].map(bytes), ["12 B", "12.5 KiB", "3.0 MiB"]);
        assert_eq!(stamp(1_767_225_599_000), "2025-12-31 23:59:59");
        assert_eq!(stamp(951_827_696_000), "2000-02-29 12:34:56");
        let plurals = [0, 1, 1412].map(|n| plural(n, "call"));
        assert_eq!(plurals, ["0 calls", "1 call", "1 412 calls"]);
        assert_eq!([rate(12.34), rate(123.4)], ["12.3", "123"]);
    }

    #[test]
    fn peers_cannot_move_the_cursor() {
        assert_eq!(cut("+1\x1b[2J55512345", 6), "+1?[2~");
        assert_eq!(cut("+49", 6), "+49");
    }
}
