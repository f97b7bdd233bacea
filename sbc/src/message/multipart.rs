//! Bodies of several parts (RFC 2046 5.1, RFC 5621): where each stands, byte for byte.
//!
//! Transfer encodings and parts within parts are not looked into.

use super::lex;

/// Most parts of one body.
pub const MAX_PARTS: usize = 8;

/// One part.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its Content-Type, empty if it has none.
    pub content_type: &'a [u8],
    /// Who does not understand it has to refuse the message (`handling=required`).
    pub is_required: bool,
    /// What it carries.
    pub body: &'a [u8],
    /// Its headers and body as they stand between the boundaries.
    pub raw: &'a [u8],
}

/// The type of a Content-Type, without parameters.
pub fn kind(content_type: &[u8]) -> &[u8] {
    content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// The parts of a body; nothing if it has none, is broken, or has too many.
pub fn parts<'a>(content_type: &[u8], body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let kind = kind(content_type);
    if !kind.get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let params = content_type.get(kind.len()..)?;
    let boundary = lex::param(params.trim_ascii_start(), b"boundary")?;
    let boundary =
        boundary.strip_prefix(b"\"").and_then(|b| b.strip_suffix(b"\"")).unwrap_or(boundary);
    if boundary.is_empty() || boundary.len() > 70 {
        return None;
    }
    let delimiter = [b"\r\n--", boundary].concat();
    // The first delimiter may begin the body.
    let first = delimiter.get(2..)?;
    let mut rest = match body.strip_prefix(first) {
        Some(rest) => rest,
        None => after(body, &delimiter)?.1,
    };
    let mut found = Vec::new();
    while !rest.starts_with(b"--") {
        // White space after a boundary means nothing (RFC 2046 5.1.1).
        let (padding, text) = after(rest, b"\r\n")?;
        let (raw, next) = after(text, &delimiter)?;
        if !padding.trim_ascii().is_empty() || found.len() >= MAX_PARTS {
            return None;
        }
        found.push(part(raw)?);
        rest = next;
    }
    Some(found)
}

fn part(raw: &[u8]) -> Option<Part<'_>> {
    let (head, body) = match raw.strip_prefix(b"\r\n") {
        Some(body) => (&b""[..], body),
        None => after(raw, b"\r\n\r\n")?,
    };
    let mut part = Part { content_type: b"", is_required: false, body, raw };
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line.get(..colon)?.trim_ascii(), line.get(colon + 1..)?.trim_ascii());
        if name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c") {
            part.content_type = value;
        } else if name.eq_ignore_ascii_case(b"Content-Disposition") {
            let params = value.get(kind(value).len()..).unwrap_or_default();
            let handling = lex::param(params.trim_ascii_start(), b"handling");
            part.is_required = handling.is_some_and(|h| h.eq_ignore_ascii_case(b"required"));
        }
    }
    Some(part)
}

/// What stands before and after the first `what`.
fn after<'a>(text: &'a [u8], what: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memchr::memmem::find(text, what)?;
    Some((text.get(..at)?, text.get(at + what.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"preamble\r\n--x y\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--x y  \r\n\
        c: application/isup;version=itu-t92+\r\nContent-Disposition: signal;handling=required\r\n\r\n\
        \x01\0\r\n\xff\r\n--x y\r\n\r\nbare\r\n--x y--\r\nepilogue";

    #[test]
    fn parts_are_found_byte_for_byte() {
        let found = parts(b"multipart/mixed ; boundary=\"x y\"", BODY).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].content_type, found[0].body),
            (&b"application/sdp"[..], &b"v=0\r\n"[..])
        );
        assert_eq!(found[1].body, b"\x01\0\r\n\xff");
        assert!(found[1].is_required && !found[0].is_required);
        assert!(found[1].raw.starts_with(b"c: application/isup"));
        assert_eq!((found[2].content_type, found[2].body), (&b""[..], &b"bare"[..]));
    }

    #[test]
    fn what_is_broken_has_no_parts() {
        let mixed = b"multipart/mixed;boundary=b";
        assert_eq!(parts(b"application/sdp", BODY), None);
        assert_eq!(parts(b"multipart/mixed", BODY), None);
        for body in
            [&b""[..], b"--b", b"--b\r\n", b"--b\r\nA: b\r\n--b--", b"--b x\r\n\r\ny\r\n--b--"]
        {
            assert_eq!(parts(mixed, body), None, "{body:?}");
        }
        let many = |n: usize| [b"--b\r\n\r\nx\r\n".repeat(n).as_slice(), b"--b--"].concat();
        assert_eq!(parts(mixed, &many(MAX_PARTS)).unwrap().len(), MAX_PARTS);
        assert_eq!(parts(mixed, &many(MAX_PARTS + 1)), None);
    }
}
