//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).
//!
//! Parts stay as written, escapes included; `number` is the one place that decodes, into a fixed
//! buffer. URIs of other schemes are only told apart. Resolving a host is not done here.

use std::net::IpAddr;

use super::error::{Kind, ParseError};
use super::lex::{self, Cursor};

/// A URI scheme.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`.
    Sip,
    /// `sips:`.
    Sips,
    /// `tel:` (RFC 3966).
    Tel,
    /// Any other; the rest of the URI is in `Uri::host`, unread.
    Other(&'a [u8]),
}

/// A URI in parts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The scheme.
    pub scheme: Scheme<'a>,
    /// User part as written, user parameters included; the subscriber of a `tel:`.
    pub user: Option<&'a [u8]>,
    /// Password as written.
    pub password: Option<&'a [u8]>,
    /// Name, IPv4 address or bracketed IPv6 reference; empty in a `tel:`.
    pub host: &'a [u8],
    /// Port.
    pub port: Option<u16>,
    /// Parameters from their first `;`, or empty.
    pub params: &'a [u8],
    /// Headers after `?`, or empty.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a whole URI.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text);
        read(&mut cursor).map_err(|kind| ParseError::new(cursor.at, kind))
    }

    /// A parameter in any case; one without a value is empty.
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.params()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// The parameters in order; one without a value has `None`.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.params.split(|&byte| byte == b';').skip(1).map(|text| {
            match text.iter().position(|&byte| byte == b'=') {
                Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
                None => (text, None),
            }
        })
    }

    /// The host's address, if it is one.
    pub fn host_ip(&self) -> Option<IpAddr> {
        lex::ip(self.host)
    }

    /// The user part without its parameters (`;npdi;rn=…`), as written.
    pub fn user_name(&self) -> Option<&'a [u8]> {
        self.user.map(|user| user.split(|&byte| byte == b';').next().unwrap_or_default())
    }

    /// A user parameter (RFC 4694 `rn`, `npdi`, `cic`): inside the user part of a SIP URI, among
    /// the parameters of a `tel:`.
    pub fn user_param(&self, name: &[u8]) -> Option<&'a [u8]> {
        match self.scheme {
            Scheme::Tel => self.param(name),
            Scheme::Sip | Scheme::Sips | Scheme::Other(_) => {
                let user = self.user?;
                let at = user.iter().position(|&byte| byte == b';')?;
                Uri { params: user.get(at..)?, ..*self }.param(name)
            }
        }
    }

    /// The number the user part is: digits, `*`, `#` and a leading `+`, escapes decoded, user
    /// parameters dropped, and in a `tel:` or with `user=phone` visual separators too. Nothing if
    /// it is not a number or has more than 64 characters.
    pub fn number<'b>(&self, buffer: &'b mut [u8; 64]) -> Option<&'b [u8]> {
        let is_phone = matches!(self.scheme, Scheme::Tel)
            || self.param(b"user").is_some_and(|value| value.eq_ignore_ascii_case(b"phone"));
        let mut length = 0;
        let mut user = self.user_name()?.iter().copied();
        while let Some(byte) = user.next() {
            let byte =
                if byte == b'%' { hex(user.next()?)? << 4 | hex(user.next()?)? } else { byte };
            match byte {
                b'-' | b'.' | b'(' | b')' if is_phone => continue,
                b'0'..=b'9' | b'*' | b'#' => {}
                b'+' if length == 0 => {}
                _ => return None,
            }
            *buffer.get_mut(length)? = byte;
            length += 1;
        }
        let number = buffer.get(..length)?;
        if number.is_empty() || number == b"+" { None } else { Some(number) }
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn read<'a>(cursor: &mut Cursor<'a>) -> Result<Uri<'a>, Kind> {
    let text = cursor.text;
    let colon = text.iter().position(|&byte| byte == b':').ok_or(Kind::Uri)?;
    let name = text.get(..colon).unwrap_or_default();
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !name.first().is_some_and(u8::is_ascii_alphabetic) || !name.iter().all(is_scheme_byte) {
        return Err(Kind::Uri);
    }
    cursor.at = colon + 1;
    let scheme = match name {
        _ if name.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
        _ if name.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
        _ if name.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
        other => Scheme::Other(other),
    };
    let mut uri = Uri {
        scheme,
        user: None,
        password: None,
        host: &[],
        port: None,
        params: &[],
        headers: &[],
    };
    match scheme {
        Scheme::Sip | Scheme::Sips => sip(cursor, &mut uri)?,
        Scheme::Tel => tel(cursor, &mut uri)?,
        Scheme::Other(_) => uri.host = cursor.class(lex::URI),
    }
    let has_content = !uri.host.is_empty() || uri.user.is_some();
    if has_content && cursor.rest().is_empty() { Ok(uri) } else { Err(Kind::Uri) }
}

fn sip<'a>(cursor: &mut Cursor<'a>, uri: &mut Uri<'a>) -> Result<(), Kind> {
    // An unescaped `@` can stand nowhere but after the user part.
    if let Some(length) = cursor.rest().iter().position(|&byte| byte == b'@') {
        let user_at = cursor.at;
        let user_info = cursor.rest().get(..length).unwrap_or_default();
        if user_info.is_empty() {
            return Err(Kind::Uri);
        }
        let at = user_info.iter().position(|&byte| byte == b':').unwrap_or(length);
        let user = user_info.get(..at).unwrap_or_default();
        uri.user = Some(user);
        uri.password = user_info.get(at + 1..);
        if user.is_empty() || !text(user, lex::USER)? {
            return Err(Kind::Uri);
        }
        if !text(uri.password.unwrap_or_default(), lex::USER)? {
            return Err(Kind::Uri);
        }
        cursor.at = user_at + length + 1;
    }
    (uri.host, uri.port) = strict_host_port(cursor)?;
    uri.params = params(cursor)?;
    if cursor.eat(b'?') {
        uri.headers = cursor.class(lex::URI_HEADER);
        if uri.headers.is_empty() || !text(uri.headers, lex::URI_HEADER)? {
            return Err(Kind::Uri);
        }
    }
    Ok(())
}

/// As in a Via, but no white space can stand around the colon.
fn strict_host_port<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], Option<u16>), Kind> {
    let from = cursor.at;
    let parts = cursor.host_port()?;
    if cursor.since(from).iter().any(|&byte| lex::is(byte, lex::SPACE)) {
        return Err(Kind::Uri);
    }
    Ok(parts)
}

/// RFC 3966 §3; a local number may use hexadecimal digits.
fn tel<'a>(cursor: &mut Cursor<'a>, uri: &mut Uri<'a>) -> Result<(), Kind> {
    let from = cursor.at;
    cursor.eat(b'+');
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || b"*#".contains(&byte);
    let mut digits = 0;
    while let Some(byte) = cursor.peek()
        && (is_digit(byte) || b"-.()".contains(&byte))
    {
        digits += usize::from(is_digit(byte));
        cursor.at += 1;
    }
    if digits == 0 {
        return Err(Kind::Uri);
    }
    uri.user = Some(cursor.since(from));
    uri.params = params(cursor)?;
    Ok(())
}

fn params<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Kind> {
    let from = cursor.at;
    while cursor.eat(b';') {
        let name = cursor.class(lex::URI_PARAM);
        if name.is_empty() || !text(name, lex::URI_PARAM)? {
            return Err(Kind::Param);
        }
        if cursor.eat(b'=') {
            let value = cursor.class(lex::URI_PARAM);
            if value.is_empty() || !text(value, lex::URI_PARAM)? {
                return Err(Kind::Param);
            }
        }
    }
    Ok(cursor.since(from))
}

/// Whether all bytes are of a class; escapes must be two hexadecimal digits.
fn text(bytes: &[u8], class: u8) -> Result<bool, Kind> {
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        if !lex::is(byte, class) {
            return Ok(false);
        }
        let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(is_hex(rest.next()) && is_hex(rest.next())) {
            return Err(Kind::UriEscape);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_sip_uri_comes_apart() {
        let uri = read("SIPS:al%69ce;x=1:pa$s@[2001:db8::1]:5071;lr;transport=TCP?a=b&c=%20");
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user, Some(&b"al%69ce;x=1"[..]));
        assert_eq!(uri.user_name(), Some(&b"al%69ce"[..]));
        assert_eq!(uri.user_param(b"X"), Some(&b"1"[..]));
        assert_eq!(uri.password, Some(&b"pa$s"[..]));
        assert_eq!(uri.host_ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!(uri.port, Some(5071));
        assert_eq!(
            (uri.param(b"LR"), uri.param(b"Transport")),
            (Some(&b""[..]), Some(&b"TCP"[..]))
        );
        assert_eq!(uri.headers, b"a=b&c=%20");
        let plain = read("sip:example.net");
        assert_eq!((plain.user, plain.host, plain.host_ip()), (None, &b"example.net"[..], None));
        assert_eq!(read("sip:a@192.0.2.1").host_ip(), Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn other_schemes_are_told_apart() {
        assert_eq!(read("tel:+1-201-555-0123;phone-context=x").user, Some(&b"+1-201-555-0123"[..]));
        let uri = read("isbn:2983792873");
        assert_eq!((uri.scheme, uri.host), (Scheme::Other(b"isbn"), &b"2983792873"[..]));
    }

    #[test]
    fn numbers_are_decoded() {
        let number = |text: &str| {
            let mut buffer = [0; 64];
            read(text).number(&mut buffer).map(|digits| String::from_utf8(digits.to_vec()).unwrap())
        };
        let is = |text: &str, expected: &str| assert_eq!(number(text).as_deref(), Some(expected));
        is("tel:+1-201-555-0123", "+12015550123");
        is("sip:+1(201)555.0123@a;user=phone", "+12015550123");
        is("sip:%2b44;npdi@a", "+44");
        is("sip:*72%23@a", "*72#");
        is("sip:*72#@a", "*72#");
        for none in ["sip:alice@a", "sip:1-2@a", "sip:+@a", "sip:a", "sip:1+2@a", "tel:abc"] {
            assert_eq!(number(none), None, "{none}");
        }
        assert_eq!(number(&format!("sip:{}@a", "1".repeat(64))), Some("1".repeat(64)));
        assert_eq!(number(&format!("sip:{}@a", "1".repeat(65))), None);
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        let kind = |text: &str| Uri::parse(text.as_bytes()).map(|_| ()).unwrap_err().kind;
        assert_eq!(kind(""), Kind::Uri);
        assert_eq!(kind("sip:"), Kind::Host);
        assert_eq!(kind("sip:@a"), Kind::Uri);
        assert_eq!(kind("sip::p@a"), Kind::Uri);
        assert_eq!(kind("sip:a@b@c"), Kind::Uri);
        assert_eq!(kind("sip:a b@c"), Kind::Uri);
        assert_eq!(kind("sip:2001:db8::10"), Kind::Port);
        assert_eq!(kind("sip:a@b:99999"), Kind::Port);
        assert_eq!(kind("sip:a%4@b"), Kind::UriEscape);
        assert_eq!(kind("sip:a@b;;lr"), Kind::Param);
        assert_eq!(kind("sip:a@b;x="), Kind::Param);
        assert_eq!(kind("sip:a@b?"), Kind::Uri);
        assert_eq!(kind("sip:a@b : 5"), Kind::Uri);
        assert_eq!(kind("tel:-"), Kind::Uri);
        assert_eq!(kind("1sip:a"), Kind::Uri);
    }
}
