//! Cutting a stream into messages (RFC 3261 §18.3, RFC 5626 §3.5.1).
//!
//! On a stream Content-Length is mandatory, and a framing error has no way back: the connection
//! is closed. Nothing but the length is read here.

use memchr::memchr_iter;

use super::error::{Kind, ParseError};
use super::lines::line_feeds;
use super::{MAX_MESSAGE, lex};

/// What stands at the front of a stream's buffer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Not a whole message yet.
    Need,
    /// A message of this many bytes, to be given to `parse`.
    Message(usize),
    /// This many bytes of CRLF: 2 answer a ping, 4 are one. A ping may arrive in two parts, so
    /// the connection adds neighbours up.
    KeepAlive(usize),
    /// The stream cannot be read any further.
    Error(ParseError),
}

/// Looks at the front of a buffer.
pub fn frame(buffer: &[u8]) -> Framing {
    frame_resumed(buffer, &mut 0)
}

/// The same, without looking again at the `scanned` bytes an earlier `Need` has seen. The caller
/// keeps `scanned` with the buffer and sets it to 0 when bytes are taken off its front.
pub fn frame_resumed(buffer: &[u8], scanned: &mut usize) -> Framing {
    match read(buffer, scanned) {
        Ok(framing) => framing,
        Err(error) => Framing::Error(error),
    }
}

fn read(buffer: &[u8], scanned: &mut usize) -> Result<Framing, ParseError> {
    match buffer {
        [] | [b'\r'] => return Ok(Framing::Need),
        [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Framing::KeepAlive(4)),
        [b'\r', b'\n', ..] => return Ok(Framing::KeepAlive(2)),
        [first, ..] if !lex::is(*first, lex::TOKEN) => {
            return Err(ParseError::new(0, Kind::StartLine));
        }
        _ => {}
    }
    let head = if *scanned > 0 && !ends_within(buffer, *scanned) { None } else { head(buffer) };
    let Some(head) = head else {
        *scanned = buffer.len();
        return if buffer.len() > MAX_MESSAGE { Err(too_long()) } else { Ok(Framing::Need) };
    };
    // Where the last line feed of the header is.
    *scanned = head.len - 1;
    let total = head.len as u64 + head.content?.min(u64::from(u32::MAX));
    match usize::try_from(total) {
        Ok(total) if total > MAX_MESSAGE => Err(too_long()),
        Ok(total) if total <= buffer.len() => Ok(Framing::Message(total)),
        _ => Ok(Framing::Need),
    }
}

fn too_long() -> ParseError {
    ParseError::new(MAX_MESSAGE, Kind::MessageTooLong)
}

/// Whether the header ends in what is new, which may be no more than its last byte.
fn ends_within(buffer: &[u8], scanned: usize) -> bool {
    let ends = |feed| buffer.get(..=feed).is_some_and(|seen| seen.ends_with(b"\n\r\n"));
    let new = buffer.get(scanned..).unwrap_or_default();
    memchr_iter(b'\n', new).any(|feed| ends(scanned + feed))
}

/// The start line and header fields.
struct Head {
    /// Bytes, the empty line included.
    len: usize,
    /// The one Content-Length.
    content: Result<u64, ParseError>,
}

/// Looks for the end of the header, and its one Content-Length on the way. Every line must end in CRLF, or this
/// and `parse` could see different lines.
fn head(buffer: &[u8]) -> Option<Head> {
    let (mut content, mut wrong) = (None, None);
    let mut line_at = 0;
    for feed in line_feeds()?.iter(buffer) {
        let line = buffer.get(line_at..feed).unwrap_or_default();
        match line {
            [b'\r'] => {
                let missing = ParseError::new(feed + 1, Kind::MissingContentLength);
                let content = wrong.map_or_else(|| content.ok_or(missing), Err);
                return Some(Head { len: feed + 1, content });
            }
            [.., b'\r'] => {}
            _ => wrong = wrong.or(Some(ParseError::new(feed, Kind::BareLf))),
        }
        if let Some(value) = content_length(buffer, line_at, line) {
            let kind = if value.is_none() { Kind::ContentLength } else { Kind::DuplicateHeader };
            if value.is_none() || content.is_some() {
                wrong = wrong.or(Some(ParseError::new(line_at, kind)));
            }
            content = value;
        }
        line_at = feed + 1;
    }
    None
}

/// The value of a line that is a Content-Length; `Some(None)` when that is no number.
fn content_length(buffer: &[u8], line_at: usize, line: &[u8]) -> Option<Option<u64>> {
    let name = match line {
        [b'c' | b'C', b'o' | b'O', ..] => "content-length",
        [b'l' | b'L', ..] => "l",
        _ => return None,
    };
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = lex::trim_start(rest).strip_prefix(b":")?;
    if !found.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    Some(lex::number(lex::trim(logical(buffer, line_at + line.len() - value.len()))))
}

/// From an offset to the end of its header field, folds included.
fn logical(buffer: &[u8], from: usize) -> &[u8] {
    let text = buffer.get(from..).unwrap_or_default();
    let folded = |feed: usize| matches!(text.get(feed + 1), Some(b' ' | b'\t'));
    let end = memchr_iter(b'\n', text).find(|&feed| !folded(feed)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "OPTIONS sip:a SIP/2.0\r\nX: y\r\nContent-Length : \r\n  4\r\n\r\nbody";

    #[test]
    fn a_message_is_whole_at_its_last_byte() {
        let stream = format!("{ONE}{ONE}");
        for split in 1..ONE.len() {
            assert_eq!(frame(&stream.as_bytes()[..split]), Framing::Need, "{split}");
        }
        for split in ONE.len()..stream.len() {
            assert_eq!(frame(&stream.as_bytes()[..split]), Framing::Message(ONE.len()));
        }
    }

    #[test]
    fn resuming_sees_what_starting_over_sees() {
        let bare = ONE.replace("y\r\n", "y\n");
        let bare_at_the_end = ONE.replace("4\r\n\r\n", "4\n\r\nl: 4\r\n\r\n");
        for whole in [ONE, &bare, &bare_at_the_end, &ONE.replace("4", "four")] {
            for first in 0..whole.len() {
                for second in first..=whole.len() {
                    let mut scanned = 0;
                    frame_resumed(&whole.as_bytes()[..first], &mut scanned);
                    let resumed = frame_resumed(&whole.as_bytes()[..second], &mut scanned);
                    assert_eq!(resumed, frame(&whole.as_bytes()[..second]), "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn keep_alives_are_counted() {
        assert_eq!(frame(b"\r\n\r\nOPTIONS"), Framing::KeepAlive(4));
        assert_eq!(frame(b"\r\n"), Framing::KeepAlive(2));
        assert_eq!(frame(b"\r\nOPTIONS"), Framing::KeepAlive(2));
        assert_eq!(frame(b"\r"), Framing::Need);
        assert_eq!(frame(b""), Framing::Need);
    }

    #[test]
    fn what_cannot_be_framed_is_an_error() {
        let kind = |text: &str| match frame(text.as_bytes()) {
            Framing::Error(error) => Some(error.kind),
            Framing::Need | Framing::Message(_) | Framing::KeepAlive(_) => None,
        };
        let with = |text: &str| kind(&format!("OPTIONS sip:a SIP/2.0\r\n{text}\r\n\r\n"));
        assert_eq!(with("X: y"), Some(Kind::MissingContentLength));
        assert_eq!(with("l: -1"), Some(Kind::ContentLength));
        assert_eq!(with("l: 99999999999999999999"), Some(Kind::ContentLength));
        assert_eq!(with("l: 18446744073709551615"), Some(Kind::MessageTooLong));
        assert_eq!(with("l: 0\r\nContent-Length: 0"), Some(Kind::DuplicateHeader));
        assert_eq!(with("l: 65536"), Some(Kind::MessageTooLong));
        assert_eq!(with("X: y\nl: 3"), Some(Kind::BareLf));
        assert_eq!(kind(" "), Some(Kind::StartLine));
        assert_eq!(kind("\x16\x03\x01"), Some(Kind::StartLine));
        assert_eq!(kind(&"x".repeat(MAX_MESSAGE + 1)), Some(Kind::MessageTooLong));
    }
}
