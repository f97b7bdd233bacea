//! The head of a response (RFC 3261 §8.2.6, §18.2.1, RFC 3581 §4).
//!
//! Record-Route, Contact and whatever the answer is about are the caller's.

use std::net::IpAddr;

use super::header::Name;
use super::print::Print;
use super::read::Message;
use super::{Status, lex};

/// Starts the response to a request: its Vias, From, To, Call-ID and CSeq, in that order. The top
/// Via tells where the request came from; To gets our tag if it has none, but for a 100.
pub fn response_head<'o>(
    out: &'o mut Vec<u8>,
    request: &Message<'_>,
    status: Status,
    reason: Option<&[u8]>,
    received: Option<(IpAddr, u16)>,
    to_tag: Option<&[u8]>,
) -> Print<'o> {
    let mut print = Print::response(out, status, reason);
    for (i, line) in request.all(Name::Via).enumerate() {
        match received {
            Some(source) if i == 0 => top_via(&mut print, request, line, source),
            _ => {
                print.header(Name::Via, line);
            }
        }
    }
    print.header(Name::From, request.get(Name::From).unwrap_or_default());
    let to = request.get(Name::To).unwrap_or_default();
    // An address that cannot be read could have a tag or not: it is given back as it came.
    let needs_tag = status != Status::TRYING && request.to().is_ok_and(|to| to.tag().is_none());
    print.line(Name::To, |line| {
        line.bytes(to);
        if let Some(tag) = to_tag.filter(|_| needs_tag) {
            line.param(b"tag", Some(tag));
        }
    });
    print.header(Name::CallId, request.call_id());
    print.header(Name::CSeq, request.get(Name::CSeq).unwrap_or_default());
    // RFC 3261 8.2.6.1: a 100 repeats when its request was sent.
    if let Some(sent) = request.get(Name::Timestamp).filter(|_| status == Status::TRYING) {
        print.header(Name::Timestamp, sent);
    }
    print
}

/// `received` is added if `sent-by` is not the source address, and always with `rport`
/// (RFC 3581 §4); what the sender claimed in either is replaced.
fn top_via(print: &mut Print<'_>, request: &Message<'_>, line: &[u8], source: (IpAddr, u16)) {
    let Ok(via) = request.via() else {
        print.header(Name::Via, line);
        return;
    };
    let (address, port) = source;
    print.line(Name::Via, |line| {
        line.bytes(via.head);
        for (name, value) in lex::params(via.params) {
            let is = |text: &[u8]| name.eq_ignore_ascii_case(text);
            if !is(b"received") && !is(b"rport") {
                line.param(name, value);
            }
        }
        if via.rport.is_some() || via.host_ip() != Some(address) {
            // RFC 5118 §4.5: without brackets, as the grammar has it.
            line.bytes(b";received=").ip(address);
        }
        if via.rport.is_some() {
            line.bytes(b";rport=").u32(u32::from(port));
        }
        line.bytes(via.rest);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, parse};

    fn reply(via: &str, to: &str, status: Status) -> String {
        let text = format!(
            "BYE sip:a@b SIP/2.0\r\nVia: {via}\r\nv: SIP/2.0/TCP last\r\nt: {to}\r\n\
             From: <sip:a@b>;tag=1\r\nCSeq: 1\r\n BYE\r\nCall-ID: x\r\n\r\n"
        );
        let mut index = Index::new();
        let request = match parse(text.as_bytes(), &mut index) {
            Ok(request) => request,
            Err(rejected) => rejected.reply.unwrap(),
        };
        let source = ("192.0.2.9".parse().unwrap(), 5099);
        let mut out = Vec::new();
        response_head(&mut out, &request, status, None, Some(source), Some(b"us")).finish();
        let mut again = Index::new();
        parse(&out, &mut again).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_head_is_copied_in_order() {
        assert_eq!(
            reply(
                "SIP/2.0/UDP a;rport;branch=z9hG4bK1;received=1.1.1.1, SIP/2.0/UDP b",
                "<sip:c@d>",
                Status::OK
            ),
            "SIP/2.0 200 OK\r\n\
             Via: SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.9;rport=5099, SIP/2.0/UDP b\r\n\
             Via: SIP/2.0/TCP last\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=us\r\n\
             Call-ID: x\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_timestamp_comes_back_in_a_100_alone() {
        let lines = "SIP/2.0/UDP a\r\nTimestamp: 54.1";
        let with = |status| reply(lines, "<sip:c@d>", status).contains("Timestamp: 54.1\r\n");
        assert!(with(Status::TRYING) && !with(Status::OK));
    }

    #[test]
    fn received_and_tag_are_added_only_where_they_belong() {
        let same = reply("SIP/2.0/UDP 192.0.2.9;branch=1", "<sip:c@d>;tag=them", Status::OK);
        assert!(same.contains("Via: SIP/2.0/UDP 192.0.2.9;branch=1\r\n"), "{same}");
        assert!(same.contains("To: <sip:c@d>;tag=them\r\n"));
        assert!(reply("SIP/2.0/UDP a", "<sip:c@d>", Status::TRYING).contains("To: <sip:c@d>\r\n"));
        assert!(
            reply("SIP/2.0/UDP a", "\"x <sip:c@d>", Status::OK).contains("To: \"x <sip:c@d>\r\n")
        );
        let rport = reply("SIP/2.0/UDP 192.0.2.9;rport=1", "<sip:c@d>", Status::OK);
        assert!(rport.contains("192.0.2.9;received=192.0.2.9;rport=5099\r\n"), "{rport}");
    }
}
