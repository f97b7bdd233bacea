//! The characters of RFC 3261 §25.1 and a cursor over them.
//!
//! Values keep their folds, so CR and LF count as white space here: the line scan has already
//! proved that each is part of a fold. The cursor never allocates and never indexes.

use super::error::Kind;

/// `token`.
pub(crate) const TOKEN: u8 = 1;
/// User and password of a SIP URI. `#` is let in: dial strings carry it unescaped everywhere.
pub(crate) const USER: u8 = 2;
/// `paramchar` of a URI parameter.
pub(crate) const URI_PARAM: u8 = 4;
/// Headers of a URI, with their separators.
pub(crate) const URI_HEADER: u8 = 8;
/// A host name. `_` is let in: it is common inside networks and cannot be misread.
pub(crate) const HOST: u8 = 16;
/// An unquoted parameter value: `token`, `host`, and what base64 tags and branches need.
pub(crate) const PARAM_VALUE: u8 = 32;
/// White space, folds included.
pub(crate) const SPACE: u8 = 64;
/// Anything a URI may hold between `<` and `>`.
pub(crate) const URI: u8 = 128;

const fn mark(table: &mut [u8; 256], chars: &[u8], class: u8) {
    let mut i = 0;
    while i < chars.len() {
        table[chars[i] as usize] |= class;
        i += 1;
    }
}

const CLASS: [u8; 256] = {
    let mut table = [0_u8; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = TOKEN | USER | URI_PARAM | URI_HEADER | HOST | PARAM_VALUE | URI;
        }
        table[byte] |= URI;
        byte += 1;
    }
    table[b'<' as usize] = 0;
    table[b'>' as usize] = 0;
    table[b'"' as usize] = 0;
    mark(&mut table, b"-.!%*_+`'~", TOKEN | PARAM_VALUE);
    mark(&mut table, b"-_.!~*'()%", USER | URI_PARAM | URI_HEADER);
    mark(&mut table, b"&=+$,;?/#", USER);
    mark(&mut table, b"[]/:&+$", URI_PARAM);
    mark(&mut table, b"[]/?:+$&=", URI_HEADER);
    mark(&mut table, b"-._", HOST);
    mark(&mut table, b"[]:/@=", PARAM_VALUE);
    mark(&mut table, b" \t\r\n", SPACE);
    table
};

/// Whether a byte belongs to a class.
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// Whether all bytes belong to a class.
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&byte| is(byte, class))
}

/// `all` of the class `URI`, without the table: every byte is looked at, so the compiler takes sixteen at a
/// time.
pub(crate) fn is_uri_text(bytes: &[u8]) -> bool {
    let fits =
        |b: u8| (b.wrapping_sub(0x21) <= 0x7e - 0x21) & (b != b'<') & (b != b'>') & (b != b'"');
    bytes.iter().fold(true, |all, &byte| all & fits(byte))
}

/// Whether bytes are a non-empty token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// A value without the white space around it.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// A value without the white space before it.
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is(*first, SPACE)
    {
        bytes = rest;
    }
    bytes
}

/// A value without the white space after it.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is(*last, SPACE)
    {
        bytes = rest;
    }
    bytes
}

/// Digits as a number; white space, signs and overflow are refused.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { sum.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// Where a slice starts inside the text it was cut from.
pub(crate) fn offset_in(text: &[u8], slice: &[u8]) -> usize {
    (slice.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len())
}

/// A reading position in a value.
#[derive(Copy, Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What was read since an earlier position.
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Skips white space, if any.
    pub(crate) fn space(&mut self) {
        while self.peek().is_some_and(|byte| is(byte, SPACE)) {
            self.at += 1;
        }
    }

    /// Skips white space, one byte, white space: the grammar's SLASH, SEMI, EQUAL, COMMA, COLON.
    pub(crate) fn separator(&mut self, byte: u8) -> bool {
        let before = self.at;
        self.space();
        if self.eat(byte) {
            self.space();
            return true;
        }
        self.at = before;
        false
    }

    /// The longest run of a class, maybe empty.
    pub(crate) fn class(&mut self, class: u8) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|&byte| !is(byte, class)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// A quoted string with its quotes; the cursor stands on the first one.
    pub(crate) fn quoted(&mut self) -> Result<&'a [u8], Kind> {
        let from = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(self.since(from));
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(Kind::QuotedString),
            }
        }
    }

    /// `host [":" port]`: an IPv6 reference must hold an address, a port must fit.
    pub(crate) fn host_port(&mut self) -> Result<(&'a [u8], Option<u16>), Kind> {
        let host = self.host()?;
        if !self.separator(b':') {
            return Ok((host, None));
        }
        let digits = self.class(TOKEN);
        let port = number(digits).and_then(|port| u16::try_from(port).ok()).ok_or(Kind::Port)?;
        Ok((host, Some(port)))
    }

    fn host(&mut self) -> Result<&'a [u8], Kind> {
        let from = self.at;
        if !self.eat(b'[') {
            let name = self.class(HOST);
            return if name.is_empty() { Err(Kind::Host) } else { Ok(name) };
        }
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        {
            self.at += 1;
        }
        if !self.eat(b']') || ip(self.since(from)).is_none() {
            return Err(Kind::Host);
        }
        Ok(self.since(from))
    }

    /// `name ["=" value]`, after its semicolon.
    pub(crate) fn param(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Kind> {
        let name = self.class(TOKEN);
        if name.is_empty() {
            return Err(Kind::Param);
        }
        if !self.separator(b'=') {
            return Ok((name, None));
        }
        if self.peek() == Some(b'"') {
            return Ok((name, Some(self.quoted()?)));
        }
        let value = self.class(PARAM_VALUE);
        if value.is_empty() { Err(Kind::Param) } else { Ok((name, Some(value))) }
    }
}

/// The address a host is, brackets allowed; nothing if it is a name.
pub(crate) fn ip(host: &[u8]) -> Option<std::net::IpAddr> {
    match host {
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner)
            .ok()?
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(std::net::IpAddr::V6),
        // Names are told from addresses by one byte, so that they do not pay for the attempt.
        [.., last] if last.is_ascii_hexdigit() => std::str::from_utf8(host).ok()?.parse().ok(),
        _ => None,
    }
}

/// Parameters of a text that was already found well-formed; stops at what is none.
pub(crate) fn params(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut cursor = Cursor::new(text);
    std::iter::from_fn(move || if cursor.separator(b';') { cursor.param().ok() } else { None })
}

/// One parameter of such a text; one without a value has an empty one.
pub(crate) fn param<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    params(text)
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_text_is_the_class_of_that_name() {
        for byte in 0..=u8::MAX {
            let text = [b'a', byte, b'b'];
            assert_eq!(is_uri_text(&text), all(&text, URI), "{byte:#x}");
        }
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        assert_eq!(number(b"0068"), Some(68));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1 ", b"1a"] {
            assert_eq!(number(bad), None);
        }
    }

    #[test]
    fn quoted_strings_end_at_an_unescaped_quote() {
        let mut cursor = Cursor::new(b"\"a\\\"b\" rest");
        assert_eq!(cursor.quoted(), Ok(&b"\"a\\\"b\""[..]));
        assert_eq!(Cursor::new(b"\"a\\\"").quoted(), Err(Kind::QuotedString));
        assert_eq!(Cursor::new(b"\"a\\").quoted(), Err(Kind::QuotedString));
    }

    #[test]
    fn hosts_and_ports() {
        let read = |text: &'static [u8]| Cursor::new(text).host_port();
        assert_eq!(read(b"a.example"), Ok((&b"a.example"[..], None)));
        assert_eq!(read(b"[2001:db8::1]:5070"), Ok((&b"[2001:db8::1]"[..], Some(5070))));
        assert_eq!(read(b"a : 5060"), Ok((&b"a"[..], Some(5060))));
        assert_eq!(read(b"a:65536"), Err(Kind::Port));
        assert_eq!(read(b"a:"), Err(Kind::Port));
        assert_eq!(read(b"[2001:db8:::1]"), Err(Kind::Host));
        assert_eq!(read(b""), Err(Kind::Host));
    }
}
