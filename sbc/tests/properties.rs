//! Properties of the SIP and SDP parsers: no input panics, spans stay inside it, what is printed
//! parses again, and a stream cut anywhere frames the same.
#![allow(clippy::unwrap_used, reason = "a text that must be fine and is not fails the test")]

use proptest::collection::vec;
use proptest::prelude::*;
use sbc::message::{
    Framing, Index, Kind, Message, Method, Name, NameAddr, Print, Status, Uri, Via, frame, parse,
    response_head,
};
use sbc::sdp;

const SEEDS: &[&str] = &[
    "INVITE sip:+15550100@e.example:5060;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;\
     branch=z9hG4bK1, SIP/2.0/TCP [2001:db8::1]:5\r\nFrom: \"A, \\\"B\\\"\" <sip:a:p@b;lr?x=y>;tag=1\r\n\
     To:\r\n <tel:+1-2>\r\ni: x@y\r\nCSeq: 7\r\n INVITE\r\nContact: sip:a@b;q=1, <sip:c@d>\r\n\
     Route: <sip:r;lr>\r\nMax-Forwards: 70\r\nRequire: a, b\r\nc: application/sdp\r\nl: 107\r\n\r\n\
     v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 4000/2 RTP/AVP 0 96\r\n\
     a=rtpmap:96 x/8000\r\n",
    "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a;received=1.2.3.4\r\nf: <sip:a@b>;tag=1\r\nt: sip:c@d;tag=2\r\n\
     Call-ID: z\r\nCSeq: 1 BYE\r\nExpires: 60;x\r\nContact: *\r\n\r\n",
];

/// Calls every accessor; the results are of no interest.
fn read_all(message: &Message<'_>) {
    let _ = (message.start(), message.request_uri(), message.via(), message.cseq());
    let _ = (message.from(), message.to(), message.contact(), message.max_forwards());
    let _ = (message.call_id(), message.body(), message.content_type(), message.bytes());
    for via in message.vias() {
        let _ = Via::parse(via);
    }
    for header in message.headers() {
        let _ = (message.get(header.name), message.number(header.name));
        let _ = (message.all(header.name).count(), message.options(header.name).count());
        for address in message.addresses(header.name).flatten() {
            read_address(&address);
        }
    }
    let _ = sdp::parse(message.body()).map(|session| read_session(&session));
}

fn read_address(address: &NameAddr<'_>) {
    let _ = (address.tag(), address.param(b"q"), address.params().count());
    if let Ok(uri) = address.read_uri() {
        let mut digits = [0; 64];
        let _ = (uri.number(&mut digits), uri.user_name(), uri.user_param(b"rn"));
        let _ = (uri.param(b"lr"), uri.params().count(), uri.host_ip());
    }
}

fn read_session(session: &sdp::Session<'_>) {
    for media in session.media() {
        let _ = (media.rtp(), media.rtcp(), media.telephone_event_pt(), media.attributes().count());
        for format in media.payload_types() {
            let _ = (media.rtpmap(format), media.clock_rate(format), media.encoding(format));
        }
    }
    let address = "203.0.113.1".parse().unwrap();
    let origin = sdp::Origin { id: 1, version: 1, address, ice_lite: false, bundle: b"" };
    let local = |line: usize| {
        let rtp = std::net::SocketAddr::new(address, 4000 + 2 * line as u16);
        let rtcp = std::net::SocketAddr::new(address, rtp.port() + 1);
        Some(sdp::Local {
            rtp,
            rtcp,
            rtcp_mux: false,
            rtcp_line: sdp::RtcpLine::WhenNeeded,
            ptime_ms: None,
            formats: None,
            lines: sdp::Lines::default(),
            events: None,
        })
    };
    let mut out = Vec::new();
    sdp::rewrite(&mut out, session, origin, local);
    let again = sdp::parse(&out).unwrap();
    assert_eq!(again.media().len(), session.media().len());
    for (ours, theirs) in again.media().iter().zip(session.media()) {
        assert_eq!(ours.is_refused(), theirs.is_refused());
        assert!(ours.formats().eq(theirs.formats()));
        assert!(ours.is_refused() || ours.direction == theirs.direction);
    }
}

/// What any bytes must survive.
fn survive(bytes: &[u8]) {
    let mut index = Index::new();
    match parse(bytes, &mut index) {
        Ok(message) => {
            read_all(&message);
            answer(&message, &mut Vec::new());
        }
        Err(rejected) => {
            assert!(rejected.error.at as usize <= bytes.len());
            if let Some(request) = rejected.reply {
                read_all(&request);
                let mut out = Vec::new();
                answer(&request, &mut out);
                check_answer(&out, rejected.error.kind);
            }
        }
    }
    let _ = (frame(bytes), NameAddr::parse(bytes), Via::parse(bytes));
    let _ = Uri::parse(bytes);
    let _ = sdp::parse(bytes).map(|session| read_session(&session));
}

fn answer(request: &Message<'_>, out: &mut Vec<u8>) {
    let source = Some(("2001:db8::9".parse().unwrap(), 5060));
    response_head(out, request, Status::BAD_REQUEST, None, source, Some(b"t")).finish();
}

/// The 400 parses, unless what is wrong is in a field that must be copied as it came.
fn check_answer(out: &[u8], kind: Kind) {
    let mut index = Index::new();
    if let Err(rejected) = parse(out, &mut index) {
        let copied = [Kind::CSeq, Kind::CallId, Kind::HeaderTooLong];
        assert!(copied.contains(&rejected.error.kind), "{kind:?} {:?}", rejected.error);
    }
}

/// One of the seeds with bytes replaced, removed, doubled or inserted.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), 1..20_usize);
    (0..SEEDS.len(), vec(edit, 1..6)).prop_map(|(seed, edits)| {
        let mut bytes = SEEDS[seed].as_bytes().to_vec();
        for (place, edit, byte, length) in edits {
            let at = place.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            let end = (at + length).min(bytes.len());
            match edit {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.insert(at, b"\r\n;,<>\"\\:= @%*\0"[usize::from(byte) % 15]),
            }
        }
        bytes
    })
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

/// A value on one line, as a B2BUA copies it.
fn text() -> impl Strategy<Value = String> {
    "[ -~\u{a1}-\u{17f}\t]{0,60}"
}

#[test]
fn the_seeds_are_fine() {
    for seed in SEEDS {
        let mut index = Index::new();
        read_all(&parse(seed.as_bytes(), &mut index).map_err(|rejected| rejected.error).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn mutated_messages_are_survived(bytes in mutated()) {
        survive(&bytes);
    }

    #[test]
    fn printing_hostile_values_gives_one_message(
        method in vec(any::<u8>(), 0..10),
        uri in vec(any::<u8>(), 0..40),
        raw in vec((vec(any::<u8>(), 0..10), vec(any::<u8>(), 0..40)), 0..6),
        body in vec(any::<u8>(), 0..50),
    ) {
        let mut out = Vec::new();
        // Names that would double a field we print are the caller's mistake, not a break-out.
        let is_other = |name: &[u8]| Name::from_bytes(name) == Name::Other && !name.is_empty();
        let raw: Vec<_> = raw.into_iter().filter(|(name, _)| is_other(name)).collect();
        let mut print = Print::request(&mut out, Method::from_bytes(&method), &uri);
        print.header(Name::Via, b"SIP/2.0/UDP a").header(Name::From, b"<sip:a@b>;tag=1");
        print.header(Name::To, b"<sip:c@d>").header(Name::CallId, b"x");
        print.line(Name::CSeq, |line| { line.u32(1).bytes(b" ").token(&method); });
        for (name, value) in &raw {
            print.raw(name, value);
        }
        print.body(None, &body);
        let mut index = Index::new();
        let message = parse(&out, &mut index).map_err(|rejected| rejected.error).unwrap();
        prop_assert_eq!(message.headers().count(), 6 + raw.len());
        prop_assert_eq!(message.body(), &body[..]);
    }

    #[test]
    fn what_is_printed_is_read_again(
        (method, user, tag, call_id) in (token(), "[a-z0-9+;&=$,?/_.-]{1,20}", token(), token()),
        cseq in 0..=i32::MAX as u32,
        display in text(),
        values in vec(text(), 0..8),
        body in vec(any::<u8>(), 0..80),
    ) {
        let uri = format!("sip:{user}@example.net;lr");
        let mut out = Vec::new();
        let mut print = Print::request(&mut out, Method::from_bytes(method.as_bytes()), uri.as_bytes());
        print.line(Name::Via, |line| { line.bytes(b"SIP/2.0/UDP ").host_port("[::1]:5070".parse().unwrap()).param(b"branch", Some(tag.as_bytes())); });
        print.line(Name::From, |line| { line.quoted(display.as_bytes()).bytes(b" ").uri(uri.as_bytes()).param(b"tag", Some(tag.as_bytes())); });
        print.line(Name::To, |line| { line.uri(uri.as_bytes()); });
        print.header(Name::CallId, call_id.as_bytes());
        print.line(Name::CSeq, |line| { line.u32(cseq).bytes(b" ").token(method.as_bytes()); });
        for value in &values {
            print.raw(b"X-Value", value.as_bytes());
        }
        print.body(Some(b"text/plain"), &body);
        let mut index = Index::new();
        let message = parse(&out, &mut index).map_err(|rejected| rejected.error).unwrap();
        prop_assert_eq!(message.method(), Some(Method::from_bytes(method.as_bytes())));
        prop_assert_eq!(message.request_uri().unwrap().user, Some(user.as_bytes()));
        prop_assert_eq!(message.via().unwrap().branch, Some(tag.as_bytes()));
        prop_assert_eq!(message.from().unwrap().tag(), Some(tag.as_bytes()));
        prop_assert_eq!(message.to().unwrap().uri, uri.as_bytes());
        prop_assert_eq!(message.cseq().number, cseq);
        prop_assert_eq!(message.call_id(), call_id.as_bytes());
        prop_assert_eq!(message.body(), &body[..]);
        let trimmed = values.iter().map(|value| value.as_bytes().trim_ascii());
        prop_assert!(message.all_other(b"x-value").eq(trimmed));
        prop_assert_eq!(frame(&out), Framing::Message(out.len()));
    }

    #[test]
    fn framing_and_parsing_agree(bytes in mutated(), cut in any::<prop::sample::Index>()) {
        if let Framing::Message(length) = frame(&bytes) {
            prop_assert!(length <= bytes.len());
            let mut index = Index::new();
            if let Ok(message) = parse(&bytes[..length], &mut index) {
                // Both saw the same Content-Length, or another message could hide in the rest.
                prop_assert_eq!(message.body().as_ptr_range().end, bytes[..length].as_ptr_range().end);
            }
            let earlier = frame(&bytes[..cut.index(length)]);
            prop_assert!(matches!(earlier, Framing::Need), "{:?}", earlier);
        }
    }
}
