//! `parse`: a datagram, or one framed message of a stream, into a `Message` (RFC 3261 §7, §18.3).
//!
//! Checked here is what everything downstream relies on: the start line, the lines, the single
//! header fields, CSeq and Content-Length. It does not know what other values mean.

use super::error::{Kind, ParseError};
use super::header::Name;
use super::index::{Index, Span, StartSpans};
use super::lines::{Fault, scan};
use super::read::Message;
use super::{MAX_MESSAGE, Status, lex};

/// A message that was refused.
#[derive(Copy, Clone, Debug)]
pub struct Rejected<'a> {
    /// The first thing wrong with it.
    pub error: ParseError,
    /// The request, if its top Via can be read and From, To, Call-ID and CSeq are there once: what
    /// a 400 (505 for `Kind::Version`) is built from. Never an ACK, never a response.
    pub reply: Option<Message<'a>>,
}

impl From<Rejected<'_>> for ParseError {
    fn from(rejected: Rejected<'_>) -> Self {
        rejected.error
    }
}

/// Parses one message. Leading CRLFs are skipped; octets after Content-Length are ignored; without
/// a Content-Length the body is the rest (RFC 3261 §18.3).
pub fn parse<'a>(bytes: &'a [u8], index: &'a mut Index) -> Result<Message<'a>, Rejected<'a>> {
    index.clear();
    let fault = fill(bytes, index);
    let message = Message { bytes, index };
    match fault {
        None => Ok(message),
        Some(error) => {
            Err(Rejected { error, reply: can_be_answered(&message, error).then_some(message) })
        }
    }
}

fn fill(bytes: &[u8], index: &mut Index) -> Option<ParseError> {
    let mut from = 0;
    while bytes.get(from..from + 2) == Some(b"\r\n") {
        from += 2;
    }
    if from == bytes.len() {
        return Some(ParseError::new(0, Kind::Empty));
    }
    if bytes.len() > MAX_MESSAGE {
        return Some(ParseError::new(MAX_MESSAGE, Kind::MessageTooLong));
    }
    let mut fault = Fault::default();
    let block = scan(bytes, from, index, &mut fault);
    start_line(bytes, block.start_line, index, &mut fault);
    if block.body_at.is_none() {
        fault.note(bytes.len(), Kind::NoHeaderEnd);
    }
    essential(bytes, index, &mut fault);
    body(bytes, block.body_at.unwrap_or(bytes.len()), index, &mut fault);
    fault.0
}

/// RFC 3261 §7.1, §7.2: single spaces, nothing else.
fn start_line(bytes: &[u8], span: Span, index: &mut Index, fault: &mut Fault) {
    let (line, at) = (span.of(bytes), span.from());
    if line.get(..4).is_some_and(|text| text.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(line, at, index, fault);
    }
    let first = line.iter().position(|&byte| byte == b' ').unwrap_or(line.len());
    let last = line.iter().rposition(|&byte| byte == b' ').unwrap_or(line.len());
    let (method, uri) = (Span::new(at, at + first), Span::new(at + first + 1, at + last));
    if first == line.len() || first == last {
        return fault.note(at, Kind::StartLine);
    }
    index.start = StartSpans::Request { method, uri };
    let version = line.get(last + 1..).unwrap_or_default();
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        let other = version.get(..4).is_some_and(|text| text.eq_ignore_ascii_case(b"SIP/"));
        fault.note(at + last, if other { Kind::Version } else { Kind::StartLine });
    }
    if !lex::is_token(method.of(bytes)) {
        fault.note(at, Kind::Method);
    }
    if uri.of(bytes).is_empty() || !lex::is_uri_text(uri.of(bytes)) {
        fault.note(at + first, Kind::RequestUri);
    }
}

/// The space after the code is required by the grammar and forgotten by some; its absence leaves
/// nothing in doubt.
fn status_line(line: &[u8], at: usize, index: &mut Index, fault: &mut Fault) {
    // Set first, so that a bad response can never be taken for a request and answered.
    let end = at + line.len();
    let reason = Span::new((at + 12).min(end), end);
    index.start = StartSpans::Response { status: Status::SERVER_INTERNAL_ERROR, reason };
    if !line.get(..8).is_some_and(|text| text.eq_ignore_ascii_case(b"SIP/2.0 ")) {
        return fault.note(at, Kind::Version);
    }
    if !matches!(line.get(11), None | Some(b' ')) {
        return fault.note(at + 8, Kind::StatusCode);
    }
    let code = line.get(8..11).and_then(lex::number).and_then(|code| u16::try_from(code).ok());
    match code.and_then(Status::new) {
        Some(status) => index.start = StartSpans::Response { status, reason },
        None => fault.note(at + 8, Kind::StatusCode),
    }
}

/// RFC 3261 §8.1.1: the fields without which a message belongs to nothing.
fn essential(bytes: &[u8], index: &mut Index, fault: &mut Fault) {
    const MANDATORY: [(Name, Kind); 5] = [
        (Name::Via, Kind::MissingVia),
        (Name::From, Kind::MissingFrom),
        (Name::To, Kind::MissingTo),
        (Name::CallId, Kind::MissingCallId),
        (Name::CSeq, Kind::MissingCSeq),
    ];
    for (name, kind) in MANDATORY {
        if index.get(name).is_none() {
            fault.note(0, kind);
        }
    }
    if let Some(field) = index.get(Name::CallId) {
        let value = field.value.of(bytes);
        if value.is_empty() || value.iter().any(|&byte| lex::is(byte, lex::SPACE)) {
            fault.note(field.value.from(), Kind::CallId);
        }
    }
    if let Some(field) = index.get(Name::CSeq) {
        cseq(bytes, field.value, index, fault);
    }
}

/// RFC 3261 §8.1.1.5: below 2^31, and the method of the request.
fn cseq(bytes: &[u8], span: Span, index: &mut Index, fault: &mut Fault) {
    let value = span.of(bytes);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = value.get(..digits).and_then(lex::number).unwrap_or(u64::MAX);
    let rest = value.get(digits..).unwrap_or_default();
    let method = lex::trim(rest);
    if number > i32::MAX as u64 || method.len() == rest.len() || !lex::is_token(method) {
        return fault.note(span.from(), Kind::CSeq);
    }
    index.cseq_number = number as u32;
    let method_at = lex::offset_in(bytes, method);
    index.cseq_method = Span::new(method_at, method_at + method.len());
    if let StartSpans::Request { method: requested, .. } = index.start
        && requested.of(bytes) != method
    {
        fault.note(method_at, Kind::CSeqMethod);
    }
}

/// RFC 3261 §18.3, §20.14.
fn body(bytes: &[u8], from: usize, index: &mut Index, fault: &mut Fault) {
    let available = bytes.len().saturating_sub(from);
    let mut length = available;
    if let Some(field) = index.get(Name::ContentLength) {
        match lex::number(field.value.of(bytes)) {
            None => fault.note(field.value.from(), Kind::ContentLength),
            Some(said) if said > available as u64 => fault.note(from, Kind::BodyShort),
            Some(said) => length = said as usize,
        }
    }
    index.body = Span::new(from, from + length);
}

fn can_be_answered(message: &Message<'_>, error: ParseError) -> bool {
    let StartSpans::Request { method, .. } = message.index.start else {
        return false;
    };
    let once = |name: Name| message.all(name).count() == 1;
    error.kind != Kind::MessageTooLong
        && lex::is_token(method.of(message.bytes))
        && method.of(message.bytes) != b"ACK"
        && [Name::From, Name::To, Name::CallId, Name::CSeq].into_iter().all(once)
        && message.via().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Method, Start};

    const HEAD: &str = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>\r\nCall-ID: x@y\r\n";

    fn message(start: &str, rest: &str) -> String {
        format!("{start}\r\n{HEAD}{rest}\r\n")
    }

    fn invite(rest: &str) -> String {
        message("INVITE sip:c@d SIP/2.0", rest)
    }

    fn kind(text: &str) -> Option<(Kind, bool)> {
        let mut index = Index::new();
        parse(text.as_bytes(), &mut index)
            .err()
            .map(|rejected| (rejected.error.kind, rejected.reply.is_some()))
    }

    #[test]
    fn a_request_is_read() {
        let text = invite("CSeq: 7 INVITE\r\nContent-Length: 2\r\n") + "abcd";
        let text = format!("\r\n\r\n{text}");
        let mut index = Index::new();
        let message = parse(text.as_bytes(), &mut index).unwrap();
        assert!(matches!(message.start(), Start::Request(line)
            if line.method == Method::Invite && line.uri == b"sip:c@d"));
        assert_eq!(message.cseq().number, 7);
        assert_eq!(message.body(), b"ab");
        assert_eq!(message.call_id(), b"x@y");
    }

    #[test]
    fn a_response_is_read() {
        let text = message("SIP/2.0 486 Busy \u{e9}", "CSeq: 7 INVITE\r\n");
        let mut index = Index::new();
        let message = parse(text.as_bytes(), &mut index).unwrap();
        assert!(matches!(message.start(), Start::Response(line)
            if line.status == Status::BUSY_HERE && line.reason == "Busy \u{e9}".as_bytes()));
        assert_eq!(message.cseq().method, Method::Invite);
        for bare in ["SIP/2.0 200 ", "SIP/2.0 200"] {
            assert_eq!(kind(&self::message(bare, "CSeq: 1 BYE\r\n")), None);
        }
    }

    #[test]
    fn start_lines_are_exact() {
        let start = |line: &str| kind(&message(line, "CSeq: 1 INVITE\r\n"));
        assert_eq!(start("INVITE sip:c@d SIP/3.0"), Some((Kind::Version, true)));
        assert_eq!(start("INVITE sip:c@d HTTP/1.1"), Some((Kind::StartLine, true)));
        assert_eq!(start("INVITE  sip:c@d SIP/2.0"), Some((Kind::RequestUri, true)));
        assert_eq!(start("INVITE sip:c@d SIP/2.0 "), Some((Kind::StartLine, true)));
        assert_eq!(start("INVITE <sip:c@d> SIP/2.0"), Some((Kind::RequestUri, true)));
        assert_eq!(start("INVITE"), Some((Kind::StartLine, false)));
        assert_eq!(start("IN(VITE sip:c@d SIP/2.0"), Some((Kind::Method, false)));
        assert_eq!(start("SIP/2.0 099 x"), Some((Kind::StatusCode, false)));
        assert_eq!(start("SIP/2.0 700 x"), Some((Kind::StatusCode, false)));
        assert_eq!(start("SIP/2.0 4294967301 x"), Some((Kind::StatusCode, false)));
        assert_eq!(start("SIP/7.0 200 OK"), Some((Kind::Version, false)));
    }

    #[test]
    fn cseq_and_content_length_are_checked() {
        let with = |rest: &str| kind(&invite(rest));
        assert_eq!(with("CSeq: 2147483647 INVITE\r\n"), None);
        assert_eq!(with("CSeq: 0009\r\n  INVITE\r\n"), None);
        assert_eq!(with("CSeq: 2147483648 INVITE\r\n"), Some((Kind::CSeq, true)));
        assert_eq!(with("CSeq: 1INVITE\r\n"), Some((Kind::CSeq, true)));
        assert_eq!(with("CSeq: 1 BYE\r\n"), Some((Kind::CSeqMethod, true)));
        assert_eq!(with(""), Some((Kind::MissingCSeq, false)));
        let length = |text: &str| with(&format!("CSeq: 1 INVITE\r\nl: {text}\r\n"));
        assert_eq!(length("0"), None);
        assert_eq!(length("1"), Some((Kind::BodyShort, true)));
        assert_eq!(length("-1"), Some((Kind::ContentLength, true)));
        assert_eq!(length("99999999999999999999999"), Some((Kind::ContentLength, true)));
        assert_eq!(length("0\r\nContent-Length: 0"), Some((Kind::DuplicateHeader, true)));
    }

    #[test]
    fn what_cannot_be_answered_is_not() {
        let duplicate = invite("CSeq: 1 INVITE\r\nTo: <sip:e@f>\r\n");
        assert_eq!(kind(&duplicate), Some((Kind::DuplicateHeader, false)));
        let ack = message("ACK sip:c@d SIP/2.0", "CSeq: 1 INVITE\r\n");
        assert_eq!(kind(&ack), Some((Kind::CSeqMethod, false)));
        let late = invite("X y\r\nCSeq: 1 INVITE\r\n");
        assert_eq!(kind(&late), Some((Kind::NoColon, true)));
        assert_eq!(kind("\r\n\r\n"), Some((Kind::Empty, false)));
        assert_eq!(kind(&"x".repeat(MAX_MESSAGE + 1)), Some((Kind::MessageTooLong, false)));
        let open = invite("CSeq: 1 INVITE\r\n");
        assert_eq!(kind(open.trim_end()), Some((Kind::NoHeaderEnd, false)));
    }
}
