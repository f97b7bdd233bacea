//! Building messages (RFC 3261 §7): appended to a caller's buffer, without format machinery.
//!
//! Whatever bytes come in, no line of ours can be broken into two: folds become one space, control
//! bytes a space, and what cannot stand in a start line or a name is replaced. It does not know
//! which header fields a message needs.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::header::Name;
use super::{Method, Status, lex};

/// A message under construction. Ends with `finish` or `body`.
#[derive(Debug)]
pub struct Print<'o> {
    out: &'o mut Vec<u8>,
    /// Where the header fields begin.
    head: usize,
    order: Option<Arc<[Name]>>,
    finished: bool,
}

/// One header value under construction.
#[derive(Debug)]
pub struct Value<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Print<'o> {
    /// Starts a request.
    pub fn request(out: &'o mut Vec<u8>, method: Method<'_>, uri: &[u8]) -> Self {
        token(out, method.as_bytes());
        out.push(b' ');
        request_uri(out, uri);
        out.extend_from_slice(b" SIP/2.0\r\n");
        Self::head(out)
    }

    /// Starts a response; without a phrase it gets the code's own.
    pub fn response(out: &'o mut Vec<u8>, status: Status, reason: Option<&[u8]>) -> Self {
        out.extend_from_slice(b"SIP/2.0 ");
        digits(out, u64::from(status.code()));
        out.push(b' ');
        value(out, reason.unwrap_or(status.reason().as_bytes()));
        out.extend_from_slice(b"\r\n");
        Self::head(out)
    }

    fn head(out: &'o mut Vec<u8>) -> Self {
        Self { head: out.len(), out, order: None, finished: false }
    }

    /// Header fields will stand in this order, the others after them as they were added.
    pub fn in_order(&mut self, order: Option<&Arc<[Name]>>) -> &mut Self {
        self.order = order.cloned();
        self
    }

    /// Adds a header field. `Other` and Content-Length, which `finish` and `body` write, are not
    /// added.
    pub fn header(&mut self, name: Name, text: &[u8]) -> &mut Self {
        self.line(name, |line| {
            line.bytes(text);
        })
    }

    /// Adds a header field by its bytes; nothing if the name is empty or Content-Length.
    pub fn raw(&mut self, name: &[u8], text: &[u8]) -> &mut Self {
        if !name.is_empty() && Name::from_bytes(name) != Name::ContentLength {
            token(self.out, name);
            self.out.extend_from_slice(b": ");
            value(self.out, text);
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Adds a header field whose value is written in parts.
    pub fn line(&mut self, name: Name, write: impl FnOnce(&mut Value<'_>)) -> &mut Self {
        debug_assert!(!self.finished, "a header field after the end of the header");
        if !matches!(name, Name::Other | Name::ContentLength) {
            self.out.extend_from_slice(name.as_str().as_bytes());
            self.out.extend_from_slice(b": ");
            write(&mut Value { out: self.out });
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Ends the message without a body.
    pub fn finish(&mut self) {
        self.body(None, &[]);
    }

    /// Ends the message: Content-Type if given, Content-Length, the empty line, the body.
    pub fn body(&mut self, content_type: Option<&[u8]>, body: &[u8]) {
        if let Some(content_type) = content_type {
            self.header(Name::ContentType, content_type);
        }
        debug_assert!(!self.finished, "a message ends once");
        self.finished = true;
        self.out.extend_from_slice(b"Content-Length: ");
        digits(self.out, body.len() as u64);
        self.out.extend_from_slice(b"\r\n");
        if let Some(order) = &self.order {
            super::order::arrange(self.out.get_mut(self.head..).unwrap_or_default(), order);
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
    }
}

impl Value<'_> {
    /// Adds bytes; folds and control bytes become spaces.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        value(self.out, bytes);
        self
    }

    /// Adds a number.
    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.u64(u64::from(number))
    }

    /// Adds a number.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        digits(self.out, number);
        self
    }

    /// Adds 16 hexadecimal digits.
    pub fn hex(&mut self, number: u64) -> &mut Self {
        for shift in (0..16).rev() {
            let digit = (number >> (shift * 4) & 0xf) as u8;
            self.out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
        self
    }

    /// Adds a token; bytes no token has become `-`.
    pub fn token(&mut self, bytes: &[u8]) -> &mut Self {
        token(self.out, bytes);
        self
    }

    /// Adds a quoted string, escaping what must be.
    pub fn quoted(&mut self, text: &[u8]) -> &mut Self {
        self.out.push(b'"');
        for &byte in text {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(if byte.is_ascii_control() { b' ' } else { byte });
        }
        self.out.push(b'"');
        self
    }

    /// Adds `<uri>`; bytes a URI cannot hold are escaped.
    pub fn uri(&mut self, uri: &[u8]) -> &mut Self {
        self.out.push(b'<');
        uri_bytes(self.out, uri);
        self.out.push(b'>');
        self
    }

    /// Adds `;name` or `;name=token`.
    pub fn param(&mut self, name: &[u8], text: Option<&[u8]>) -> &mut Self {
        self.out.push(b';');
        token(self.out, name);
        if let Some(text) = text {
            self.out.push(b'=');
            value(self.out, text);
        }
        self
    }

    /// Adds an address without brackets.
    pub fn ip(&mut self, address: IpAddr) -> &mut Self {
        ip(self.out, address);
        self
    }

    /// Adds an address as a host: IPv6 in brackets.
    pub fn host(&mut self, address: IpAddr) -> &mut Self {
        if address.is_ipv6() { self.bytes(b"[").ip(address).bytes(b"]") } else { self.ip(address) }
    }

    /// Adds `host:port`.
    pub fn host_port(&mut self, address: SocketAddr) -> &mut Self {
        self.host(address.ip());
        self.out.push(b':');
        self.u64(u64::from(address.port()))
    }
}

/// Appends an address without brackets.
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (i, octet) in address.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                digits(out, u64::from(octet));
            }
        }
        // The shortest form (RFC 5952) is not worth writing again.
        IpAddr::V6(address) => {
            let _ = std::io::Write::write_fmt(out, format_args!("{address}"));
        }
    }
}

/// Appends a number in decimal.
pub(crate) fn digits(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0_u8; 20];
    let mut used = 0;
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(text.len() - used..).unwrap_or_default());
}

/// Appends a token; bytes no token has become `-`, and so does an empty one.
fn token(out: &mut Vec<u8>, bytes: &[u8]) {
    if lex::is_token(bytes) {
        return out.extend_from_slice(bytes);
    }
    out.extend(bytes.iter().map(|&byte| if lex::is(byte, lex::TOKEN) { byte } else { b'-' }));
    if bytes.is_empty() {
        out.push(b'-');
    }
}

fn request_uri(out: &mut Vec<u8>, uri: &[u8]) {
    if uri.is_empty() {
        return out.extend_from_slice(b"sip:invalid");
    }
    uri_bytes(out, uri);
}

/// Appends a URI; what cannot stand between angle brackets is escaped.
fn uri_bytes(out: &mut Vec<u8>, uri: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in uri {
        if lex::is(byte, lex::URI) {
            out.push(byte);
        } else {
            let digit = |value: u8| HEX.get(usize::from(value)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Appends a header value on one line.
fn value(out: &mut Vec<u8>, text: &[u8]) {
    let is_bad = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    if !text.iter().fold(false, |bad, &byte| bad | is_bad(byte)) {
        return out.extend_from_slice(text);
    }
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'\r' || byte == b'\n' {
            // A fold with the white space after it is one space (RFC 3261 §7.3.1).
            while let [b' ' | b'\t' | b'\r' | b'\n', tail @ ..] = rest {
                rest = tail;
            }
        }
        out.push(if is_bad(byte) { b' ' } else { byte });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &[u8]) -> &str {
        std::str::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_built() {
        let mut out = Vec::new();
        Print::request(&mut out, Method::Invite, b"sip:a@b")
            .header(Name::Subject, b"one\r\n  two\r\nEvil: x\0")
            .raw(b"X-A", b"1")
            .raw(b"l", b"77")
            .header(Name::ContentLength, b"77")
            .line(Name::Contact, |line| {
                line.quoted(b"A \"B\"").bytes(b" ").uri(b"sip:x y@b").param(b"q", Some(b"1"));
            })
            .line(Name::RSeq, |line| {
                line.u32(0).bytes(b" ").u64(u64::MAX).bytes(b" ").hex(0xab);
            })
            .body(Some(b"text/plain"), b"hi");
        assert_eq!(
            text(&out),
            "INVITE sip:a@b SIP/2.0\r\nSubject: one two Evil: x \r\nX-A: 1\r\n\
             Contact: \"A \\\"B\\\"\" <sip:x%20y@b>;q=1\r\n\
             RSeq: 0 18446744073709551615 00000000000000ab\r\n\
             Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
        );
    }

    #[test]
    fn a_response_is_built() {
        let mut out = Vec::new();
        Print::response(&mut out, Status::RINGING, None).finish();
        Print::response(&mut out, Status::OK, Some(b"Fine\r\nX: y")).finish();
        assert_eq!(
            text(&out),
            "SIP/2.0 180 Ringing\r\nContent-Length: 0\r\n\r\n\
             SIP/2.0 200 Fine X: y\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn addresses_are_written_as_hosts() {
        let mut out = Vec::new();
        Value { out: &mut out }.host_port("[2001:db8::1]:5060".parse().unwrap());
        Value { out: &mut out }.host("192.0.2.10".parse().unwrap());
        assert_eq!(text(&out), "[2001:db8::1]:5060192.0.2.10");
    }
}
