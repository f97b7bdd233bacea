//! What we print, read by other people's parsers: `rsip` for SIP, `sdp-types` for SDP. They are
//! not stricter than we are, so agreement on values is what is asked for.
#![allow(clippy::unwrap_used, reason = "a text another parser refuses fails the test")]

use proptest::collection::vec;
use proptest::prelude::*;
use rsip::prelude::*;
use sbc::message::{Index, Method, Name, Print, Start, Status, parse, response_head};
use sbc::sdp;

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9.-]{0,12}"
}

fn method() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "UPDATE"])
}

fn request(out: &mut Vec<u8>, method: &str, user: &str, tag: &str, cseq: u32, body: &[u8]) {
    let uri = format!("sip:{user}@example.net:5070");
    let mut print = Print::request(out, Method::from_bytes(method.as_bytes()), uri.as_bytes());
    print.line(Name::Via, |line| {
        let source = "192.0.2.7:5062".parse().unwrap();
        line.bytes(b"SIP/2.0/UDP ").host_port(source).param(b"branch", Some(tag.as_bytes()));
        line.param(b"rport", None);
    });
    print.line(Name::From, |line| {
        line.quoted(user.as_bytes()).bytes(b" ").uri(uri.as_bytes());
        line.param(b"tag", Some(tag.as_bytes()));
    });
    print.line(Name::To, |line| {
        line.uri(b"sip:bob@example.org");
    });
    print.header(Name::CallId, tag.as_bytes());
    print.line(Name::CSeq, |line| {
        line.u32(cseq).bytes(b" ").bytes(method.as_bytes());
    });
    print.header(Name::MaxForwards, b"70").body(Some(b"text/plain"), body);
}

proptest! {
    #[test]
    fn requests_read_the_same_elsewhere(
        method in method(), user in token(), tag in token(), cseq in 0..=i32::MAX as u32,
        body in "[a-z ]{0,40}",
    ) {
        let mut out = Vec::new();
        request(&mut out, method, &user, &tag, cseq, body.as_bytes());
        let theirs = rsip::Request::try_from(out.as_slice()).unwrap();
        let mut index = Index::new();
        let ours = parse(&out, &mut index).map_err(|rejected| rejected.error).unwrap();
        prop_assert_eq!(theirs.method().to_string(), method);
        let uri = theirs.uri.to_string();
        prop_assert!(matches!(ours.start(), Start::Request(line) if line.uri == uri.as_bytes()));
        prop_assert_eq!(theirs.headers.iter().count(), ours.headers().count());
        prop_assert_eq!(theirs.cseq_header().unwrap().seq().unwrap(), ours.cseq().number);
        prop_assert_eq!(theirs.call_id_header().unwrap().value().as_bytes(), ours.call_id());
        let from = theirs.from_header().unwrap().typed().unwrap();
        prop_assert_eq!(from.tag().unwrap().value().as_bytes(), ours.from().unwrap().tag().unwrap());
        let via = theirs.via_header().unwrap().typed().unwrap();
        prop_assert_eq!(via.branch().unwrap().value().as_bytes(), ours.via().unwrap().branch.unwrap());
        prop_assert_eq!(via.uri.port().map(|port| *port.value()), ours.via().unwrap().port);
        prop_assert_eq!(theirs.body.as_slice(), ours.body());
    }

    #[test]
    fn responses_read_the_same_elsewhere(method in method(), tag in token(), code in 101..700_u16) {
        let mut incoming = Vec::new();
        request(&mut incoming, method, "ann", &tag, 7, b"");
        let mut index = Index::new();
        let asked = parse(&incoming, &mut index).map_err(|rejected| rejected.error).unwrap();
        let status = Status::new(code).unwrap();
        let source = Some(("198.51.100.9".parse().unwrap(), 4242));
        let mut out = Vec::new();
        response_head(&mut out, &asked, status, None, source, Some(b"ours")).finish();
        let theirs = rsip::Response::try_from(out.as_slice()).unwrap();
        prop_assert_eq!(theirs.status_code.code(), code);
        let to = theirs.to_header().unwrap().typed().unwrap();
        let tag = to.tag().map(|tag| tag.value().to_owned());
        prop_assert_eq!(tag.as_deref(), Some("ours"));
        let via = theirs.via_header().unwrap().typed().unwrap();
        prop_assert_eq!(via.received().unwrap().unwrap().to_string(), "198.51.100.9");
        prop_assert!(theirs.via_header().unwrap().value().ends_with(";rport=4242"));
    }

    #[test]
    fn rewritten_descriptions_read_the_same_elsewhere(
        ports in vec(0..65_535_u16, 1..8), rate in 1..200_000_u32, flag in token(),
    ) {
        let mut text = HEAD.to_owned();
        for port in &ports {
            text += &format!("m=audio {port} RTP/AVP 96\r\na=rtpmap:96 x/{rate}\r\na={flag}\r\n");
        }
        let session = sdp::parse(text.as_bytes()).unwrap();
        let address = "2001:db8::5".parse().unwrap();
        let local = |line: usize| {
            let port = 10_000 + 2 * line as u16;
            let at = |port| std::net::SocketAddr::new(address, port);
            Some(sdp::Local { rtp: at(port), rtcp: at(port + 1), rtcp_mux: false, rtcp_line: sdp::RtcpLine::WhenNeeded, ptime_ms: None, formats: None, events: None, lines: sdp::Lines::default() })
        };
        let mut out = Vec::new();
        sdp::rewrite(&mut out, &session, sdp::Origin { id: 5, version: 6, address, ice_lite: false, bundle: b"" }, local);
        let theirs = sdp_types::Session::parse(&out).unwrap();
        let ours = sdp::parse(&out).unwrap();
        prop_assert_eq!(theirs.origin.sess_version, 6);
        prop_assert_eq!(theirs.connection.unwrap().connection_address, "2001:db8::5");
        prop_assert_eq!(theirs.medias.len(), ours.media().len());
        for (theirs, ours) in theirs.medias.iter().zip(ours.media()) {
            prop_assert_eq!(theirs.port, ours.port);
            prop_assert_eq!(theirs.fmt.as_bytes(), ours.raw_formats);
            prop_assert_eq!(theirs.attributes.len(), ours.attributes().count());
        }
    }
}
