//! One Via value (RFC 3261 §20.42, RFC 3581).

use std::net::IpAddr;

use super::error::{Kind, ParseError};
use super::lex::{self, Cursor};

/// A Via value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, … as written.
    pub transport: &'a [u8],
    /// Host of `sent-by`, with the brackets of an IPv6 reference.
    pub host: &'a [u8],
    /// Port of `sent-by`.
    pub port: Option<u16>,
    /// The transaction's branch.
    pub branch: Option<&'a [u8]>,
    /// RFC 3581: `Some(None)` asks for the source port, `Some(Some(port))` tells it.
    pub rport: Option<Option<u16>>,
    /// Address the next hop saw, brackets kept if there were any.
    pub received: Option<&'a [u8]>,
    /// Address the response goes to instead (multicast).
    pub maddr: Option<&'a [u8]>,
    /// What stands before the parameters.
    pub head: &'a [u8],
    /// The parameters, from their first `;`.
    pub params: &'a [u8],
    /// The whole value, without its neighbours in a list.
    pub raw: &'a [u8],
    /// The rest of the header field after this value, from its comma.
    pub rest: &'a [u8],
}

impl<'a> Via<'a> {
    /// Reads the first value of a Via header field.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text);
        read(&mut cursor).map_err(|kind| ParseError::new(cursor.at, kind))
    }

    /// The parameters in order; one that has no value has `None`.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        lex::params(self.params)
    }

    /// The address of `sent-by`, if it is one.
    pub fn host_ip(&self) -> Option<IpAddr> {
        lex::ip(self.host)
    }

    /// The address of `received`, with or without brackets (RFC 5118 §4.5).
    pub fn received_ip(&self) -> Option<IpAddr> {
        self.received.and_then(lex::ip)
    }
}

fn read<'a>(cursor: &mut Cursor<'a>) -> Result<Via<'a>, Kind> {
    cursor.space();
    let from = cursor.at;
    let name = cursor.class(lex::TOKEN);
    let slash = cursor.separator(b'/');
    let version = cursor.class(lex::TOKEN);
    if !name.eq_ignore_ascii_case(b"SIP") || version != b"2.0" || !slash || !cursor.separator(b'/')
    {
        return Err(Kind::Via);
    }
    let transport = cursor.class(lex::TOKEN);
    if transport.is_empty() || cursor.class(lex::SPACE).is_empty() {
        return Err(Kind::Via);
    }
    let (host, port) = cursor.host_port()?;
    let head = cursor.since(from);
    let mut via = Via {
        transport,
        host,
        port,
        branch: None,
        rport: None,
        received: None,
        maddr: None,
        head,
        params: &[],
        raw: &[],
        rest: &[],
    };
    let params_at = cursor.at;
    while cursor.separator(b';') {
        let (name, value) = cursor.param()?;
        via.note(name, value)?;
    }
    via.params = cursor.since(params_at);
    via.raw = cursor.since(from);
    cursor.space();
    via.rest = cursor.rest();
    match via.rest {
        [] | [b',', ..] => Ok(via),
        _ => Err(Kind::Via),
    }
}

impl<'a> Via<'a> {
    fn note(&mut self, name: &[u8], value: Option<&'a [u8]>) -> Result<(), Kind> {
        let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
        if is(b"rport") {
            let port = value.map(|digits| {
                lex::number(digits).and_then(|port| u16::try_from(port).ok()).ok_or(Kind::Port)
            });
            return once(&mut self.rport, port.transpose()?);
        }
        let place = match name.len() {
            6 if is(b"branch") => &mut self.branch,
            8 if is(b"received") => &mut self.received,
            5 if is(b"maddr") => &mut self.maddr,
            _ => return Ok(()),
        };
        once(place, value.ok_or(Kind::Param)?)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Kind> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Kind::DuplicateParam),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_is_read() {
        let via = Via::parse(
            b"SIP/2.0/UDP host.example:5070;rport;branch=z9hG4bK7;x=\"a,b\" , SIP/2.0/TCP b",
        )
        .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port),
            (&b"UDP"[..], &b"host.example"[..], Some(5070))
        );
        assert_eq!(via.branch, Some(&b"z9hG4bK7"[..]));
        assert_eq!(via.rport, Some(None));
        assert_eq!(via.head, b"SIP/2.0/UDP host.example:5070");
        assert_eq!(via.params, b";rport;branch=z9hG4bK7;x=\"a,b\"");
        assert_eq!(via.rest, b", SIP/2.0/TCP b");
    }

    #[test]
    fn white_space_and_folds_are_legal_between_parts() {
        let via =
            Via::parse(b"SIP  /   2.0\r\n /UDP\r\n    192.0.2.2 : 5060 ;branch \t=  390skdjuw")
                .unwrap();
        assert_eq!(via.host_ip(), Some("192.0.2.2".parse().unwrap()));
        assert_eq!((via.port, via.branch), (Some(5060), Some(&b"390skdjuw"[..])));
    }

    #[test]
    fn received_may_be_bare_or_bracketed() {
        for text in ["2001:db8::9:255", "[2001:db8::9:255]"] {
            let text = format!("SIP/2.0/UDP [2001:db8::9:1];received={text};rport=5");
            let via = Via::parse(text.as_bytes()).unwrap();
            assert_eq!(via.received_ip(), Some("2001:db8::9:255".parse().unwrap()));
            assert_eq!(via.rport, Some(Some(5)));
        }
    }

    #[test]
    fn what_is_no_via_is_refused() {
        let kind = |text: &str| Via::parse(text.as_bytes()).map(|_| ()).unwrap_err().kind;
        assert_eq!(kind(""), Kind::Via);
        assert_eq!(kind("SIP/2.0/UDP"), Kind::Via);
        assert_eq!(kind("SIP/3.0/UDP a"), Kind::Via);
        assert_eq!(kind("SIP/2.0/UDP a;;"), Kind::Param);
        assert_eq!(kind("SIP/2.0/UDP a;branch=1;Branch=2"), Kind::DuplicateParam);
        assert_eq!(kind("SIP/2.0/UDP a;branch"), Kind::Param);
        assert_eq!(kind("SIP/2.0/UDP a;rport=70000"), Kind::Port);
        assert_eq!(kind("SIP/2.0/UDP a b"), Kind::Via);
        assert_eq!(kind("SIP/2.0/UDP [::g]"), Kind::Host);
    }
}
