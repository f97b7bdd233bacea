//! As much SIP as two user agents need (RFC 3261): reading by line, printing from parts.
//!
//! Written apart from the SBC's own parser on purpose. No folding, no multi-line headers: what an
//! SBC sends should need neither.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A message, borrowed from the datagram it came in.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    start: &'a str,
    head: &'a str,
    /// Everything after the empty line.
    pub(crate) body: &'a str,
}

impl<'a> Message<'a> {
    /// Splits a datagram; `None` when it is no SIP message (keep-alives, rubbish).
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (all, body) = text.split_once("\r\n\r\n")?;
        let (start, head) = all.split_once("\r\n")?;
        start.contains("SIP/2.0").then_some(Message { start, head, body })
    }

    /// The first line.
    pub(crate) fn start(&self) -> &'a str {
        self.start
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method of a request.
    pub(crate) fn method(&self) -> &'a str {
        self.start.split(' ').next().unwrap_or("")
    }

    /// All values of a header, in order, under its full or compact name.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.head.split("\r\n").filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            let found = found.trim_end();
            let same = found.eq_ignore_ascii_case(name) || found.eq_ignore_ascii_case(short(name));
            same.then(|| value.trim())
        })
    }

    /// The first value of a header, or nothing.
    pub(crate) fn one(&self, name: &'static str) -> &'a str {
        self.all(name).next().unwrap_or("")
    }

    /// Number and method of CSeq.
    pub(crate) fn cseq(&self) -> (u32, &'a str) {
        let mut words = self.one("CSeq").split_ascii_whitespace();
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        (number, words.next().unwrap_or(""))
    }

    /// The Record-Route set, top to bottom.
    pub(crate) fn routes(&self) -> Vec<String> {
        let values = self.all("Record-Route").flat_map(|value| value.split(','));
        values.map(|value| value.trim().to_owned()).collect()
    }
}

fn short(name: &str) -> &str {
    match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        "Contact" => "m",
        "Content-Type" => "c",
        _ => name,
    }
}

/// The URI of a From, To, Contact or Route value.
pub(crate) fn uri(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => value.split(';').next().unwrap_or(value).trim(),
    }
}

/// The digits of the user part, without a leading plus.
pub(crate) fn number(value: &str) -> Option<u64> {
    let user = uri(value).split_once(':')?.1.split_once('@')?.0;
    user.split(';').next()?.trim_start_matches('+').parse().ok()
}

/// The address a URI names, when it names one in numbers.
pub(crate) fn address(uri: &str) -> Option<SocketAddr> {
    let rest = uri.split_once(':')?.1;
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    let host = host.split([';', '?', '>']).next()?;
    host.parse().ok().or_else(|| format!("{host}:5060").parse().ok())
}

/// What one side knows of a dialog.
#[derive(Clone, Default)]
pub(crate) struct Dialog {
    /// Call-ID.
    pub(crate) call_id: String,
    /// Our From value, with tag.
    pub(crate) local: String,
    /// Their To value, with tag once there is one.
    pub(crate) remote: String,
    /// The remote target.
    pub(crate) target: String,
    /// Route set, next hop first.
    pub(crate) routes: Vec<String>,
}

impl Dialog {
    /// Where requests in this dialog go (RFC 3261 section 12.2.1.1, loose routing).
    pub(crate) fn next_hop(&self) -> Option<SocketAddr> {
        address(self.routes.first().map_or(self.target.as_str(), |route| uri(route)))
    }
}

/// Prints a request of a dialog.
pub(crate) fn request(
    dialog: &Dialog,
    (number, method): (u32, &str),
    branch: &str,
    me: SocketAddr,
    body: Option<&str>,
) -> Vec<u8> {
    let mut text = String::with_capacity(900);
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\n",
        dialog.target
    );
    for route in &dialog.routes {
        let _ = write!(text, "Route: {route}\r\n");
    }
    let _ = write!(
        text,
        "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {}\r\n",
        dialog.local, dialog.remote, dialog.call_id, method
    );
    if matches!(method, "INVITE" | "UPDATE") {
        let _ = write!(
            text,
            "Contact: <sip:sbcload@{me}>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE\r\n"
        );
    }
    finish(text, body)
}

/// Prints a response to a request: Via, From, To, Call-ID, CSeq and Record-Route are the request's.
pub(crate) fn response(
    to: &Message<'_>,
    status: u16,
    tag: &str,
    contact: Option<SocketAddr>,
    body: Option<&str>,
) -> Vec<u8> {
    let mut text = String::with_capacity(900);
    let _ = write!(text, "SIP/2.0 {status} {}\r\n", reason(status));
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in to.all(name) {
            let bare = name == "To" && !tag.is_empty() && !value.contains(";tag=");
            let tag = if bare { format!(";tag={tag}") } else { String::new() };
            let _ = write!(text, "{name}: {value}{tag}\r\n");
        }
    }
    if let Some(me) = contact {
        let _ = write!(text, "Contact: <sip:sbcload@{me}>\r\n");
    }
    finish(text, body)
}

fn finish(mut text: String, body: Option<&str>) -> Vec<u8> {
    if body.is_some() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    let body = body.unwrap_or("");
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text.into_bytes()
}

/// The ACK for a refusal or the CANCEL of an INVITE: same branch, same To as `to` (section 17.1.1.3
/// and 9.1).
pub(crate) fn companion(invite: &[u8], method: &str, to: Option<&str>) -> Vec<u8> {
    let Some(message) = Message::parse(invite) else { return Vec::new() };
    let target = message.start().split(' ').nth(1).unwrap_or("");
    let mut text = format!(
        "{method} {target} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\n",
        message.all("Via").next().unwrap_or("")
    );
    for route in message.all("Route") {
        let _ = write!(text, "Route: {route}\r\n");
    }
    let _ = write!(
        text,
        "From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n",
        message.one("From"),
        to.unwrap_or_else(|| message.one("To")),
        message.one("Call-ID"),
        message.cseq().0
    );
    finish(text, None)
}

/// The reason phrase.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        302 => "Moved Temporarily",
        404 => "Not Found",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKx\r\n\
        Record-Route: <sip:10.0.0.1;lr>, <sip:10.0.0.2:5080;lr>\r\nf: <sip:+1415@h>;tag=a\r\n\
        To: <sip:44@h>;tag=b\r\ni: x@y\r\nCSeq: 7 INVITE\r\nContact: <sip:z@[::1]:5062>\r\n\r\nbody";

    #[test]
    fn a_response_is_read() {
        let message = Message::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(message.status(), Some(200));
        assert_eq!(message.cseq(), (7, "INVITE"));
        assert_eq!(message.one("Call-ID"), "x@y");
        assert_eq!(message.routes(), ["<sip:10.0.0.1;lr>", "<sip:10.0.0.2:5080;lr>"]);
        assert_eq!(number(message.one("From")), Some(1415));
        assert_eq!(address(uri(message.one("Contact"))), "[::1]:5062".parse().ok());
        assert_eq!(address("sip:10.0.0.1;lr"), "10.0.0.1:5060".parse().ok());
        assert_eq!(message.body, "body");
    }

    #[test]
    fn a_request_is_printed_and_answered() {
        let dialog = Dialog {
            call_id: "c".into(),
            local: "<sip:a@b>;tag=1".into(),
            remote: "<sip:c@d>".into(),
            target: "sip:c@127.0.0.1:5060".into(),
            routes: vec!["<sip:127.0.0.9:5099;lr>".into()],
        };
        assert_eq!(dialog.next_hop(), "127.0.0.9:5099".parse().ok());
        let me = "127.0.0.1:9".parse().unwrap();
        let bytes = request(&dialog, (1, "INVITE"), "b1", me, Some("v=0\r\n"));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.method(), message.one("Content-Length")), ("INVITE", "5"));
        let answer = response(&message, 180, "t", None, None);
        assert_eq!(Message::parse(&answer).unwrap().one("To"), "<sip:c@d>;tag=t");
        let ack = companion(&bytes, "ACK", Some("<sip:c@d>;tag=t"));
        let ack = Message::parse(&ack).unwrap();
        assert_eq!((ack.cseq(), ack.one("Via")), ((1, "ACK"), message.one("Via")));
    }
}
