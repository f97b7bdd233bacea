//! Writing session descriptions line by line, CRLF at each end (RFC 8866 §5).

use std::net::{IpAddr, SocketAddr};

use crate::message::{digits, ip};

/// Appends whole lines to a buffer.
pub(crate) struct Printer<'o> {
    pub(crate) out: &'o mut Vec<u8>,
}

impl Printer<'_> {
    /// A line as it is.
    pub(crate) fn raw(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.end();
    }

    /// `o=`; the user name says nothing.
    pub(crate) fn origin(&mut self, id: u64, version: u64, address: IpAddr) {
        self.out.extend_from_slice(b"o=- ");
        digits(self.out, id);
        self.out.push(b' ');
        digits(self.out, version);
        self.out.push(b' ');
        self.address(address);
        self.end();
    }

    /// `c=`.
    pub(crate) fn connection(&mut self, address: IpAddr) {
        self.out.extend_from_slice(b"c=");
        self.address(address);
        self.end();
    }

    /// `m=`; the number of ports is ours, one.
    pub(crate) fn media(&mut self, kind: &[u8], port: u16, protocol: &[u8], formats: &[u8]) {
        self.out.extend_from_slice(b"m=");
        self.out.extend_from_slice(kind);
        self.out.push(b' ');
        digits(self.out, u64::from(port));
        for text in [protocol, formats] {
            self.out.push(b' ');
            self.out.extend_from_slice(text);
        }
        self.end();
    }

    /// `a=rtcp`, with the address if it is not the one of `c=` (RFC 3605).
    pub(crate) fn rtcp(&mut self, rtp: SocketAddr, rtcp: SocketAddr) {
        self.out.extend_from_slice(b"a=rtcp:");
        digits(self.out, u64::from(rtcp.port()));
        if rtcp.ip() != rtp.ip() {
            self.out.push(b' ');
            self.address(rtcp.ip());
        }
        self.end();
    }

    /// Telephone events: the keys of a telephone (RFC 4733 2.4.1).
    pub(crate) fn events(&mut self, payload_type: u8, rate: u32) {
        for (name, value) in
            [(&b"a=rtpmap:"[..], &b" telephone-event/"[..]), (b"a=fmtp:", b" 0-15")]
        {
            self.out.extend_from_slice(name);
            digits(self.out, u64::from(payload_type));
            self.out.extend_from_slice(value);
            if name == b"a=rtpmap:" {
                digits(self.out, u64::from(rate));
            }
            self.end();
        }
    }

    /// `a=ptime` (RFC 8866 6.4).
    pub(crate) fn ptime(&mut self, milliseconds: u16) {
        self.out.extend_from_slice(b"a=ptime:");
        digits(self.out, u64::from(milliseconds));
        self.end();
    }

    fn address(&mut self, address: IpAddr) {
        self.out.extend_from_slice(if address.is_ipv4() { b"IN IP4 " } else { b"IN IP6 " });
        ip(self.out, address);
    }

    fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}
