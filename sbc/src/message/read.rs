//! `Message`: what a parsed message says, by header field.
//!
//! Values are slices of the datagram, trimmed, their folds kept. What `parse` did not check is
//! read here when asked, and refused here if malformed.

use super::error::{Kind, ParseError};
use super::header::Name;
use super::index::{Field, Index, StartSpans};
use super::lex::{self, offset_in};
use super::list::{Commas, NameAddrs};
use super::name_addr::NameAddr;
use super::uri::Uri;
use super::via::Via;
use super::{Method, Status};

/// A parsed message: the bytes and where things stand in them.
#[derive(Copy, Clone, Debug)]
pub struct Message<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) index: &'a Index,
}

/// The first line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Of a request.
    Request(RequestLine<'a>),
    /// Of a response.
    Response(StatusLine<'a>),
}

/// The first line of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: Method<'a>,
    /// The Request-URI, unread: `Message::request_uri` reads it.
    pub uri: &'a [u8],
}

/// The first line of a response.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StatusLine<'a> {
    /// The code.
    pub status: Status,
    /// The phrase, maybe empty, maybe not UTF-8.
    pub reason: &'a [u8],
}

/// CSeq. Of a rejected request the number is 0 and the method empty if they could not be read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// In a request, its own method.
    pub method: Method<'a>,
}

/// One header field.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which one.
    pub name: Name,
    /// The name as written.
    pub raw_name: &'a [u8],
    /// The value, trimmed, folds kept.
    pub value: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first line.
    pub fn start(&self) -> Start<'a> {
        match self.index.start {
            StartSpans::Request { method, uri } => Start::Request(RequestLine {
                method: Method::from_bytes(method.of(self.bytes)),
                uri: uri.of(self.bytes),
            }),
            StartSpans::Response { status, reason } => {
                Start::Response(StatusLine { status, reason: reason.of(self.bytes) })
            }
        }
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, StartSpans::Request { .. })
    }

    /// The request's method; nothing in a response.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.index.start {
            StartSpans::Request { method, .. } => Some(Method::from_bytes(method.of(self.bytes))),
            StartSpans::Response { .. } => None,
        }
    }

    /// The response's status; nothing in a request.
    pub fn status(&self) -> Option<Status> {
        match self.index.start {
            StartSpans::Request { .. } => None,
            StartSpans::Response { status, .. } => Some(status),
        }
    }

    /// The Request-URI, read; headers in it are refused (RFC 3261 §19.1.1).
    pub fn request_uri(&self) -> Result<Uri<'a>, ParseError> {
        let StartSpans::Request { uri, .. } = self.index.start else {
            return Err(ParseError::new(0, Kind::RequestUri));
        };
        let read = Uri::parse(uri.of(self.bytes)).map_err(|error| error.moved(uri.from()))?;
        if read.headers.is_empty() {
            return Ok(read);
        }
        Err(ParseError::new(offset_in(self.bytes, read.headers), Kind::RequestUri))
    }

    /// The first value line of a name.
    pub fn get(&self, name: Name) -> Option<&'a [u8]> {
        self.index.get(name).map(|field| field.value.of(self.bytes))
    }

    /// Every value line of a name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (bytes, fields) = (self.bytes, self.index.fields_from(name));
        fields.iter().filter(move |field| field.name == name).map(|field| field.value.of(bytes))
    }

    /// Every value line of a name we do not know, in any case.
    pub fn all_other(&self, raw_name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.headers()
            .filter(|header| header.name == Name::Other)
            .filter(move |header| header.raw_name.eq_ignore_ascii_case(raw_name))
            .map(|header| header.value)
    }

    /// Every header field, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let bytes = self.bytes;
        self.index.fields().iter().map(move |field: &Field| Header {
            name: field.name,
            raw_name: field.raw_name.of(bytes),
            value: field.value.of(bytes),
        })
    }

    /// The topmost Via.
    pub fn via(&self) -> Result<Via<'a>, ParseError> {
        self.one(Name::Via, Kind::MissingVia, Via::parse)
    }

    /// Every Via value, unread, lists taken apart.
    pub fn vias(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all(Name::Via).flat_map(Commas::new)
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'a>, ParseError> {
        self.one(Name::From, Kind::MissingFrom, NameAddr::parse)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'a>, ParseError> {
        self.one(Name::To, Kind::MissingTo, NameAddr::parse)
    }

    /// The first Contact, if any. `*` is an error but in REGISTER, where it is no address.
    pub fn contact(&self) -> Result<Option<NameAddr<'a>>, ParseError> {
        if !self.is_contact_star() {
            return self.contacts().next().transpose();
        }
        let value = self.get(Name::Contact).unwrap_or_default();
        match self.method() {
            Some(Method::Register) => Ok(None),
            _ => Err(ParseError::new(offset_in(self.bytes, value), Kind::ContactStar)),
        }
    }

    /// Whether Contact is `*` (RFC 3261 §10.2.2).
    pub fn is_contact_star(&self) -> bool {
        self.get(Name::Contact) == Some(b"*")
    }

    /// Every Contact; `*` is an error here.
    pub fn contacts(&self) -> NameAddrs<'a> {
        self.addresses(Name::Contact)
    }

    /// Every Record-Route, in order.
    pub fn record_routes(&self) -> NameAddrs<'a> {
        self.addresses(Name::RecordRoute)
    }

    /// Every Route, in order.
    pub fn routes(&self) -> NameAddrs<'a> {
        self.addresses(Name::Route)
    }

    /// Every address of a header field that is a list of them (P-Asserted-Identity, Diversion, …).
    pub fn addresses(&self, name: Name) -> NameAddrs<'a> {
        NameAddrs::new(self.bytes, self.index.fields_from(name), name)
    }

    /// Call-ID, without white space; empty only in a rejected request.
    pub fn call_id(&self) -> &'a [u8] {
        self.get(Name::CallId).unwrap_or_default()
    }

    /// CSeq.
    pub fn cseq(&self) -> CSeq<'a> {
        let method = Method::from_bytes(self.index.cseq_method.of(self.bytes));
        CSeq { number: self.index.cseq_number, method }
    }

    /// Max-Forwards, 0 to 255 (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u32>, ParseError> {
        let error = |error: ParseError| ParseError { kind: Kind::MaxForwards, ..error };
        match self.number(Name::MaxForwards).map_err(error)? {
            Some(hops) if hops > 255 => {
                let value = self.get(Name::MaxForwards).unwrap_or_default();
                Err(ParseError::new(offset_in(self.bytes, value), Kind::MaxForwards))
            }
            hops => Ok(hops),
        }
    }

    /// A header field that starts with a number and may go on with parameters or a comment:
    /// Expires, Min-Expires, Session-Expires, Min-SE, RSeq, Retry-After.
    pub fn number(&self, name: Name) -> Result<Option<u32>, ParseError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let stop = |byte: &u8| matches!(byte, b';' | b'(') || lex::is(*byte, lex::SPACE);
        let digits = value.split(stop).next().unwrap_or_default();
        let number = lex::number(digits).and_then(|number| u32::try_from(number).ok());
        number.map(Some).ok_or(ParseError::new(offset_in(self.bytes, value), Kind::Number))
    }

    /// Trimmed pieces between the commas of every line of a name (Require, Supported, Allow, …);
    /// empty ones are left out.
    pub fn options(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all(name).flat_map(Commas::new).filter(|option| !option.is_empty())
    }

    /// Whether an option tag or method is listed in a header field.
    pub fn has_option(&self, name: Name, option: &[u8]) -> bool {
        self.options(name).any(|found| found.eq_ignore_ascii_case(option))
    }

    /// Content-Type with its parameters.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.get(Name::ContentType)
    }

    /// The body, as long as Content-Length says.
    pub fn body(&self) -> &'a [u8] {
        self.index.body.of(self.bytes)
    }

    /// The whole text it was parsed from.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn one<T>(
        &self,
        name: Name,
        missing: Kind,
        read: impl Fn(&'a [u8]) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let value = self.get(name).ok_or(ParseError::new(0, missing))?;
        read(value).map_err(|error| error.moved(offset_in(self.bytes, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, parse};

    const TEXT: &str = "INVITE sip:a@b SIP/2.0\r\n\
        Via: SIP/2.0/UDP one;branch=z9hG4bK1, SIP/2.0/TCP two;x=\",\"\r\n\
        Via: SIP/2.0/TLS three\r\n\
        From: A <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n\
        Route: <sip:r1;lr>,<sip:r2;lr>\r\nX-A: 1\r\nRoute: <sip:r3;lr>\r\nx-a: 2\r\n\
        Require: 100rel ,timer\r\nRequire: x\r\nMax-Forwards: 70\r\n\
        Session-Expires: 1800;refresher=uac\r\nRetry-After: 5 (soon)\r\nExpires: 1x\r\n\r\n";

    #[test]
    fn header_fields_are_read_across_lines_and_commas() {
        let mut index = Index::new();
        let message = parse(TEXT.as_bytes(), &mut index).unwrap();
        let vias: Vec<_> = message.vias().collect();
        let expected =
            ["SIP/2.0/UDP one;branch=z9hG4bK1", "SIP/2.0/TCP two;x=\",\"", "SIP/2.0/TLS three"];
        assert_eq!(vias, expected.map(str::as_bytes));
        let routes: Vec<_> = message.routes().map(|route| route.unwrap().uri).collect();
        assert_eq!(routes, [&b"sip:r1;lr"[..], b"sip:r2;lr", b"sip:r3;lr"]);
        assert_eq!(message.record_routes().count(), 0);
        let options: Vec<_> = message.options(Name::Require).collect();
        assert_eq!(options, [&b"100rel"[..], b"timer", b"x"]);
        assert_eq!(message.all_other(b"X-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(message.max_forwards(), Ok(Some(70)));
        assert_eq!(message.number(Name::SessionExpires), Ok(Some(1800)));
        assert_eq!(message.number(Name::RetryAfter), Ok(Some(5)));
        assert_eq!(message.number(Name::Expires).unwrap_err().kind, Kind::Number);
        assert_eq!(message.from().unwrap().display, b"A");
        assert_eq!(message.to().unwrap().tag(), None);
        assert_eq!(message.contact(), Ok(None));
        assert_eq!(message.headers().count(), 16);
    }

    #[test]
    fn errors_tell_where_in_the_message() {
        let text = TEXT.replace("<sip:c@d>", "<sip:c@d").replace("<sip:r2;lr>", "<sip:r2;lr>x");
        let text = text.replace(": 70", ": 256").replace("\r\n\r\n", "\r\nContact: *\r\n\r\n");
        let mut index = Index::new();
        let message = parse(text.as_bytes(), &mut index).unwrap();
        let error = message.to().unwrap_err();
        assert_eq!(error.kind, Kind::NameAddr);
        assert_eq!(error.at as usize, text.find("<sip:c@d").unwrap() + "<sip:c@d".len());
        assert_eq!(message.max_forwards().unwrap_err().kind, Kind::MaxForwards);
        assert_eq!(message.contact().unwrap_err().kind, Kind::ContactStar);
        let routes: Vec<_> = message.routes().collect();
        assert_eq!(routes.len(), 2);
        assert_eq!(routes[1].unwrap_err().at as usize, text.find(">x").unwrap() + 1);
    }

    #[test]
    fn a_request_uri_has_no_headers() {
        for (uri, fine) in
            [("sip:a@b;lr", true), ("sip:a@b?x=y", false), ("sip:2001:db8::1", false)]
        {
            let text = TEXT.replace("sip:a@b SIP", &format!("{uri} SIP"));
            let mut index = Index::new();
            assert_eq!(parse(text.as_bytes(), &mut index).unwrap().request_uri().is_ok(), fine);
        }
    }
}
