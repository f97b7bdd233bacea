//! The line scan (RFC 3261 §7, §7.3.1): one walk over the header block that fills the index.
//!
//! The walk goes on after a fault and remembers only the first one, so that a malformed request
//! whose essential fields can be read is answered. It does not know what values mean.

#[cfg(not(target_arch = "x86_64"))]
use memchr::arch::all::memchr::One;
#[cfg(target_arch = "x86_64")]
use memchr::arch::x86_64::sse2::memchr::One;

use super::error::{Kind, ParseError};
use super::header::Name;
use super::index::{Field, Index, Span};
use super::{MAX_HEADER_LEN, lex};

/// The first thing found wrong.
#[derive(Default)]
pub(crate) struct Fault(pub(crate) Option<ParseError>);

impl Fault {
    #[cold]
    pub(crate) fn note(&mut self, at: usize, kind: Kind) {
        self.0.get_or_insert(ParseError::new(at, kind));
    }
}

/// What the scan learned besides the fields.
pub(crate) struct Block {
    /// The start line without its end.
    pub(crate) start_line: Span,
    /// The first byte of the body; nothing if no empty line ends the header.
    pub(crate) body_at: Option<usize>,
}

/// The search for line feeds, compiled in place with what every machine of its kind has. `memchr` would
/// pick the widest vectors at run time; on lines this short the call costs more than they save.
pub(super) fn line_feeds() -> Option<One> {
    #[cfg(target_arch = "x86_64")]
    return One::new(b'\n');
    #[cfg(not(target_arch = "x86_64"))]
    return Some(One::new(b'\n'));
}

/// Walks the lines from `from` to the empty one.
pub(crate) fn scan(bytes: &[u8], from: usize, index: &mut Index, fault: &mut Fault) -> Block {
    let mut block = Block { start_line: Span::default(), body_at: None };
    let Some(feeds) = line_feeds() else { return block };
    let mut walk = Walk { bytes, index, fault, field_at: None };
    let mut line_at = from;
    let mut lines = 0;
    for feed in feeds.iter(bytes.get(from..).unwrap_or_default()) {
        let feed = from + feed;
        let end = walk.line_end(line_at, feed);
        lines += 1;
        if lines == 1 {
            block.start_line = Span::new(line_at, end);
        } else if end == line_at {
            block.body_at = Some(feed + 1);
            line_at = feed + 1;
            break;
        } else {
            walk.line(line_at, end);
        }
        line_at = feed + 1;
    }
    let header = bytes.get(from..line_at).unwrap_or_default();
    // Each line brought one CR and one LF: any other count means a control byte somewhere, or
    // something else unusual, which is then looked at closely.
    if unusual_bytes(header) != 2 * lines {
        find_control(header, from, fault);
    }
    block
}

struct Walk<'w> {
    bytes: &'w [u8],
    index: &'w mut Index,
    fault: &'w mut Fault,
    /// Where the current field's name starts; nothing while a bad field is skipped.
    field_at: Option<usize>,
}

impl Walk<'_> {
    /// The end of a line's text, given where its LF stands.
    fn line_end(&mut self, from: usize, feed: usize) -> usize {
        if feed > from && self.bytes.get(feed - 1) == Some(&b'\r') {
            return feed - 1;
        }
        self.fault.note(feed, Kind::BareLf);
        feed
    }

    fn line(&mut self, from: usize, end: usize) {
        let text = self.bytes.get(from..end).unwrap_or_default();
        if matches!(text.first(), Some(b' ' | b'\t')) {
            return self.fold(from, end, text);
        }
        self.field_at = None;
        let Some(colon) = text.iter().position(|&byte| byte == b':') else {
            return self.fault.note(from, Kind::NoColon);
        };
        let raw_name = lex::trim_end(text.get(..colon).unwrap_or_default());
        let name = Name::from_bytes(raw_name);
        if name == Name::Other && !lex::is_token(raw_name) {
            return self.fault.note(from, Kind::HeaderName);
        }
        if text.len() > MAX_HEADER_LEN {
            return self.fault.note(from, Kind::HeaderTooLong);
        }
        let value = trimmed(self.bytes, from + colon + 1, end);
        let raw_name = Span::new(from, from + raw_name.len());
        match self.index.push(Field { raw_name, value, name }) {
            None => self.fault.note(from, Kind::TooManyHeaders),
            Some(false) if name.is_single() => self.fault.note(from, Kind::DuplicateHeader),
            Some(_) => self.field_at = Some(from),
        }
    }

    /// RFC 3261 §7.3.1: a line that starts with white space continues the field before it. One of
    /// nothing but white space is refused: some take it for the end of the header.
    fn fold(&mut self, from: usize, end: usize, text: &[u8]) {
        if text.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return self.fault.note(from, Kind::Fold);
        }
        let Some(field_at) = self.field_at else {
            return self.fault.note(from, Kind::Fold);
        };
        if end - field_at > MAX_HEADER_LEN {
            return self.fault.note(field_at, Kind::HeaderTooLong);
        }
        if let Some(field) = self.index.last_mut() {
            field.value = trimmed(self.bytes, field.value.from(), end);
        }
    }
}

/// The span between two offsets without the white space at its ends.
fn trimmed(bytes: &[u8], from: usize, to: usize) -> Span {
    let text = bytes.get(from..to).unwrap_or_default();
    // One space, then the value, is what nearly everybody writes.
    if let [b' ', first, .., last] = text
        && !lex::is(*first, lex::SPACE)
        && !lex::is(*last, lex::SPACE)
    {
        return Span::new(from + 1, to);
    }
    let rest = lex::trim_start(text);
    let from = from + text.len() - rest.len();
    Span::new(from, from + lex::trim_end(rest).len())
}

const fn is_control(byte: u8) -> bool {
    ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f)
}

/// Counts what is not printable ASCII. Chunks of one size become vectors of byte counters without a loop;
/// a counter of 128 does not overflow.
fn unusual_bytes(bytes: &[u8]) -> usize {
    fn count(chunk: &[u8]) -> usize {
        let unusual = |byte: u8| u8::from(byte.wrapping_sub(0x20) > 0x5e);
        usize::from(chunk.iter().fold(0_u8, |count, &byte| count.wrapping_add(unusual(byte))))
    }
    let (chunks, rest) = bytes.as_chunks::<128>();
    chunks.iter().map(|chunk| count(chunk)).sum::<usize>() + count(rest)
}

/// Finds a control byte, if that is what the count told of. One escaped inside a quoted string is legal
/// (RFC 3261 §25.1, `quoted-pair`); the printer replaces it by a space.
#[cold]
fn find_control(header: &[u8], base: usize, fault: &mut Fault) {
    let (mut quoted, mut escaped) = (false, false);
    let mut at = 0;
    while let Some(&byte) = header.get(at) {
        let next = header.get(at + 1);
        match byte {
            b'\r' if next == Some(&b'\n') => {
                let folded = matches!(header.get(at + 2), Some(b' ' | b'\t'));
                quoted &= folded;
                escaped = false;
                at += 2;
                continue;
            }
            b'\r' => return fault.note(base + at, Kind::BareCr),
            b'\n' => return fault.note(base + at, Kind::BareLf),
            _ if is_control(byte) && !escaped => return fault.note(base + at, Kind::ControlByte),
            b'"' if !escaped => quoted = !quoted,
            _ => {}
        }
        escaped = quoted && byte == b'\\' && !escaped;
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(header: &[u8]) -> Option<Kind> {
        let (mut index, mut fault) = (Index::new(), Fault::default());
        scan(header, 0, &mut index, &mut fault);
        fault.0.map(|error| error.kind)
    }

    #[test]
    fn ambiguous_lines_are_refused() {
        assert_eq!(fault_of(b"S\r\nA: b\r\n\r\n"), None);
        assert_eq!(fault_of(b"S\r\nA: b\n\r\n"), Some(Kind::BareLf));
        assert_eq!(fault_of(b"S\r\nA: b\rC: d\r\n\r\n"), Some(Kind::BareCr));
        assert_eq!(fault_of(b"S\r\nA: b\0\r\n\r\n"), Some(Kind::ControlByte));
        assert_eq!(fault_of(b"S\r\nA: b\x7f\r\n\r\n"), Some(Kind::ControlByte));
        assert_eq!(fault_of(b"S\r\nA b\r\n\r\n"), Some(Kind::NoColon));
        assert_eq!(fault_of(b"S\r\n: b\r\n\r\n"), Some(Kind::HeaderName));
        assert_eq!(fault_of(b"S\r\nA(: b\r\n\r\n"), Some(Kind::HeaderName));
        assert_eq!(fault_of(b"S\r\n fold\r\n\r\n"), Some(Kind::Fold));
        assert_eq!(fault_of(b"S\r\nA: b\r\n \r\n\r\n"), Some(Kind::Fold));
        assert_eq!(fault_of(b"S\r\nTo: b\r\nt: c\r\n\r\n"), Some(Kind::DuplicateHeader));
    }

    #[test]
    fn a_control_byte_may_stand_escaped_in_quotes() {
        assert_eq!(fault_of(b"S\r\nA: \"\\\0\\\x7f\" <b>\r\n\r\n"), None);
        assert_eq!(fault_of(b"S\r\nA: \\\0\r\n\r\n"), Some(Kind::ControlByte));
        assert_eq!(fault_of(b"S\r\nA: \"\\\\\0\"\r\n\r\n"), Some(Kind::ControlByte));
        assert_eq!(fault_of(b"S\r\nB: \"\r\nA: \\\0\r\n\r\n"), Some(Kind::ControlByte));
    }

    #[test]
    fn values_are_trimmed_and_folds_joined() {
        let (mut index, mut fault) = (Index::new(), Fault::default());
        let text = b"S\r\nA :\r\n  b \r\n\tc \r\nB:\r\n\r\nbody";
        let block = scan(text, 0, &mut index, &mut fault);
        assert_eq!(fault.0, None);
        assert_eq!(block.body_at, Some(text.len() - 4));
        assert_eq!(index.fields()[0].value.of(text), b"b \r\n\tc");
        assert_eq!(index.fields()[0].raw_name.of(text), b"A");
        assert_eq!(index.fields()[1].value.of(text), b"");
    }

    #[test]
    fn fields_and_their_length_are_bounded() {
        let mut many = b"S\r\n".to_vec();
        for _ in 0..super::super::MAX_HEADERS {
            many.extend_from_slice(b"A: b\r\n");
        }
        assert_eq!(fault_of(&[&many[..], b"\r\n"].concat()), None);
        assert_eq!(fault_of(&[&many[..], b"A: b\r\n\r\n"].concat()), Some(Kind::TooManyHeaders));
        let long = |n: usize| [b"S\r\nA:", vec![b'x'; n - 2].as_slice(), b"\r\n\r\n"].concat();
        assert_eq!(fault_of(&long(MAX_HEADER_LEN)), None);
        assert_eq!(fault_of(&long(MAX_HEADER_LEN + 1)), Some(Kind::HeaderTooLong));
    }
}
