//! How peers write and read: plain text, none of the product's own parsing or printing.

use std::fmt::Write;
use std::net::SocketAddr;

/// A SIP message as a peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Everything.
    pub raw: String,
}

impl Text {
    /// From a datagram; `None` when it is not SIP.
    pub fn read(bytes: &[u8]) -> Option<Text> {
        summary(bytes)?;
        Some(Text { raw: String::from_utf8_lossy(bytes).into_owned() })
    }

    /// The first line.
    pub fn first_line(&self) -> &str {
        self.raw.split("\r\n").next().unwrap_or("")
    }

    /// The status of a response.
    pub fn status(&self) -> Option<u16> {
        self.first_line().strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        let first = self.first_line();
        (!first.starts_with("SIP/2.0 ")).then(|| first.split(' ').next().unwrap_or(""))
    }

    /// The Request-URI.
    pub fn uri(&self) -> &str {
        self.first_line().split(' ').nth(1).unwrap_or("")
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let head = self.raw.split("\r\n\r\n").next().unwrap_or("");
        let lines = head.split("\r\n").skip(1);
        let named = lines.filter_map(|l| l.split_once(':'));
        named.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    /// The first value of a header, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or("")
    }

    /// The URI within the angle brackets of a header.
    pub fn uri_of(&self, name: &str) -> &str {
        let value = self.get(name);
        value.split_once('<').and_then(|(_, v)| v.split_once('>')).map_or("", |(uri, _)| uri)
    }

    /// The tag of From or To.
    pub fn tag(&self, name: &str) -> &str {
        let value = self.get(name);
        value.split_once(";tag=").map_or("", |(_, t)| t.split([';', ' ']).next().unwrap_or(""))
    }

    /// The body.
    pub fn body(&self) -> &str {
        self.raw.split_once("\r\n\r\n").map_or("", |(_, b)| b)
    }

    /// Where its session description wants media.
    pub fn media(&self) -> Option<SocketAddr> {
        let (head, line) = self.body().split_once("m=audio ")?;
        let line = line.split("\nm=").next()?;
        let of = |lines: &str, kind: &str| {
            lines.lines().find_map(|l| l.trim_end().strip_prefix(kind).map(str::to_owned))
        };
        let ip = [line, head]
            .into_iter()
            .find_map(|lines| of(lines, "c=IN IP4 ").or_else(|| of(lines, "c=IN IP6 ")))?;
        let port = line.split(' ').next()?;
        Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
    }

    /// A response to this request, with our tag and further headers.
    pub fn reply(&self, status: u16, tag: &str, headers: &str, body: &str) -> String {
        let mut out = format!("SIP/2.0 {status} Test\r\n");
        for via in self.all("Via") {
            let _ = write!(out, "Via: {via}\r\n");
        }
        for route in self.all("Record-Route") {
            let _ = write!(out, "Record-Route: {route}\r\n");
        }
        let to = self.get("To");
        let to = if to.contains(";tag=") || tag.is_empty() {
            to.to_owned()
        } else {
            format!("{to};tag={tag}")
        };
        let _ = write!(
            out,
            "From: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{headers}",
            self.get("From"),
            self.get("Call-ID"),
            self.get("CSeq")
        );
        finish(out, body)
    }
}

/// Ends a message: Content-Type, Content-Length, body.
pub fn finish(mut head: String, body: &str) -> String {
    if !body.is_empty() {
        head.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n{body}", body.len());
    head
}

/// The CANCEL of an INVITE, or the ACK of its failure with the To of the response.
pub fn companion(invite: &str, method: &str, to: Option<&str>) -> String {
    let head = invite.split("\r\n\r\n").next().unwrap_or("");
    let keep = |l: &&str| !l.starts_with("Content") && !l.starts_with("Contact");
    let mut text = String::new();
    for line in head.split("\r\n").filter(keep) {
        match to {
            Some(to) if line.starts_with("To:") => text += &format!("To: {to}"),
            _ => text += &line.replace("INVITE", method),
        }
        text += "\r\n";
    }
    finish(text, "")
}

/// A session description of one audio line.
pub fn sdp(at: SocketAddr, version: u32, formats: &str, attributes: &str) -> String {
    let family = if at.is_ipv4() { "IP4" } else { "IP6" };
    let ip = at.ip();
    let mut out = format!(
        "v=0\r\no=peer 77 {version} IN {family} {ip}\r\ns=call\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {} RTP/AVP {formats}\r\n",
        at.port()
    );
    for attribute in attributes.split_whitespace() {
        let _ = write!(out, "a={attribute}\r\n");
    }
    out
}

/// An RTP packet: payload type 0, 160 octets of `fill`.
pub fn rtp(sequence: u16, ssrc: u32, fill: u8) -> Vec<u8> {
    let mut out = vec![0x80, 0];
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[fill; 160]);
    out
}

/// First line and CSeq of a SIP message; `None` for anything else.
pub fn summary(bytes: &[u8]) -> Option<String> {
    let text = core::str::from_utf8(bytes).ok()?;
    let first = text.split("\r\n").next()?;
    if !first.starts_with("SIP/2.0 ") && !first.ends_with(" SIP/2.0") {
        return None;
    }
    let cseq = text.split("\r\n").find_map(|l| l.strip_prefix("CSeq: ")).unwrap_or("");
    let port = text.split("m=audio ").nth(1).and_then(|m| m.split(' ').next());
    let body = port.map_or(String::new(), |port| format!(" +sdp {port}"));
    Some(format!("{first} ({cseq}){body}"))
}

/// An RTCP packet: a receiver report without blocks.
pub fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut out = vec![0x80, 201, 0, 1];
    out.extend_from_slice(&ssrc.to_be_bytes());
    out
}
