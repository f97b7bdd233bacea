//! `name-addr` and `addr-spec` with their parameters (RFC 3261 §20.10, §25.1): From, To, Contact,
//! Route, Record-Route and their kin.
//!
//! The URI is delimited here and read by `Uri::parse`.

use super::error::{Kind, ParseError};
use super::lex::{self, Cursor};
use super::uri::Uri;

/// An address with its display name and header parameters.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as written, quotes included; empty if there is none.
    pub display: &'a [u8],
    /// The URI, without angle brackets.
    pub uri: &'a [u8],
    /// The header parameters from their first `;`, or empty.
    pub params: &'a [u8],
    /// The whole value, without its neighbours in a list.
    pub raw: &'a [u8],
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one address that is the whole value.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text);
        let address = Self::next(&mut cursor)?;
        if cursor.rest().is_empty() {
            return Ok(address);
        }
        Err(ParseError::new(cursor.at, Kind::NameAddr))
    }

    /// Reads one address up to the end or a comma, where the cursor is left.
    pub(crate) fn next(cursor: &mut Cursor<'a>) -> Result<Self, ParseError> {
        read(cursor).map_err(|kind| ParseError::new(cursor.at, kind))
    }

    /// The dialog tag.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }

    /// A header parameter in any case; one without a value is empty.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        lex::param(self.params, name)
    }

    /// The header parameters in order.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        lex::params(self.params)
    }

    /// Display name and URI, in angle brackets, without header parameters.
    pub fn bare(&self) -> Box<[u8]> {
        let space: &[u8] = if self.display.is_empty() { b"" } else { b" " };
        [self.display, space, b"<", self.uri, b">"].concat().into()
    }

    /// The URI, read.
    pub fn read_uri(&self) -> Result<Uri<'a>, ParseError> {
        Uri::parse(self.uri)
    }
}

fn read<'a>(cursor: &mut Cursor<'a>) -> Result<NameAddr<'a>, Kind> {
    cursor.space();
    let from = cursor.at;
    let (display, uri) = address(cursor)?;
    let params_at = cursor.at;
    let mut tag = None;
    while cursor.separator(b';') {
        let (name, value) = cursor.param()?;
        if name.eq_ignore_ascii_case(b"tag") && tag.replace(value.ok_or(Kind::Param)?).is_some() {
            return Err(Kind::DuplicateParam);
        }
    }
    let (params, raw) = (cursor.since(params_at), cursor.since(from));
    cursor.space();
    match cursor.peek() {
        None | Some(b',') => Ok(NameAddr { display, uri, params, raw, tag }),
        Some(_) => Err(Kind::NameAddr),
    }
}

/// The display name and the URI.
fn address<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Kind> {
    if cursor.peek() == Some(b'"') {
        let display = cursor.quoted()?;
        cursor.space();
        return Ok((display, bracketed(cursor)?));
    }
    // Whichever comes first decides: a display name is tokens up to `<`, an `addr-spec` ends at
    // a space, a comma or the first semicolon (RFC 3261 §20.10: the rest are header parameters).
    let words = cursor.rest();
    let open = words.iter().position(|byte| matches!(byte, b'<' | b':' | b';' | b',' | b'"'));
    if open.and_then(|open| words.get(open)) == Some(&b'<') {
        let display = lex::trim(words.get(..open.unwrap_or(0)).unwrap_or_default());
        let is_word = |byte: &u8| lex::is(*byte, lex::TOKEN | lex::SPACE) || *byte >= 0x80;
        if !display.iter().all(is_word) {
            return Err(Kind::NameAddr);
        }
        cursor.at += open.unwrap_or(0);
        return Ok((display, bracketed(cursor)?));
    }
    let from = cursor.at;
    while cursor.peek().is_some_and(|byte| lex::is(byte, lex::URI) && !matches!(byte, b';' | b','))
    {
        cursor.at += 1;
    }
    let uri = cursor.since(from);
    if !has_scheme(uri) || uri.contains(&b'?') {
        return Err(Kind::NameAddr);
    }
    Ok((&[], uri))
}

fn bracketed<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Kind> {
    if !cursor.eat(b'<') {
        return Err(Kind::NameAddr);
    }
    let uri = cursor.class(lex::URI);
    if !has_scheme(uri) || !cursor.eat(b'>') {
        return Err(Kind::NameAddr);
    }
    Ok(uri)
}

fn has_scheme(uri: &[u8]) -> bool {
    if uri.starts_with(b"sip:") && uri.len() > 4 {
        return true;
    }
    let colon = uri.iter().position(|&byte| byte == b':').unwrap_or(0);
    uri.first().is_some_and(u8::is_ascii_alphabetic)
        && colon > 0
        && uri.len() > colon + 1
        && uri.iter().take(colon).all(|&b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn all_three_shapes_are_read() {
        let quoted = read("\"A, <B> \\\"\" <sip:a@b;lr>;tag=1;x");
        assert_eq!(quoted.display, b"\"A, <B> \\\"\"");
        assert_eq!(quoted.uri, b"sip:a@b;lr");
        assert_eq!(quoted.tag(), Some(&b"1"[..]));
        assert_eq!((quoted.param(b"X"), quoted.param(b"lr")), (Some(&b""[..]), None));
        assert_eq!(read("A B<sip:a@b>").display, b"A B");
        assert_eq!(read("<sip:a@b>\r\n ; tag \r\n = 2").tag(), Some(&b"2"[..]));
        let bare = read("sip:a@b;tag=3;lr");
        assert_eq!((bare.uri, bare.params), (&b"sip:a@b"[..], &b";tag=3;lr"[..]));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let kind = |text: &str| NameAddr::parse(text.as_bytes()).map(|_| ()).unwrap_err().kind;
        assert_eq!(kind(""), Kind::NameAddr);
        assert_eq!(kind("\"A <sip:a@b>"), Kind::QuotedString);
        assert_eq!(kind("A, B <sip:a@b>"), Kind::NameAddr);
        assert_eq!(kind("\"A\" < sip:a@b >"), Kind::NameAddr);
        assert_eq!(kind("<sip:a@b"), Kind::NameAddr);
        assert_eq!(kind("sip:a@b?Route=x"), Kind::NameAddr);
        assert_eq!(kind("<sip:a@b>;;;"), Kind::Param);
        assert_eq!(kind("<sip:a@b>;tag=1;tag=2"), Kind::DuplicateParam);
        assert_eq!(kind("<sip:a@b>;tag"), Kind::Param);
        assert_eq!(kind("<sip:a@b>, <sip:c@d>"), Kind::NameAddr);
        assert_eq!(kind("<a@b>"), Kind::NameAddr);
        assert_eq!(kind("(x) <sip:a@b>"), Kind::NameAddr);
    }
}
