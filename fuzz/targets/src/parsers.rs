//! The parsers: whatever they accept can be read in full, and what is built from it reads back.

use base::{Bytes, Instant, Now, Pool, PortId, Wall};
use media::{Learn, Media, MediaPort, Plan};
use sbc::message::{
    self, Framing, Index, Message, Method, Name, NameAddr, Print, Status, Uri, Via,
};
use sbc::sdp::{Crypto, Dtls, Lines, Local, Origin, RtcpLine, Setup};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

/// A SIP message: every accessor, then a response to it and a request built from it.
pub fn message(data: &[u8]) {
    let mut index = Index::new();
    let Ok(message) = message::parse(data, &mut index) else { return };
    assert!(message.bytes().len() <= data.len());
    read_all(&message);
    if message.is_request() {
        respond(&message);
    }
    rebuild(&message);
}

fn read_all(message: &Message) {
    if let Ok(uri) = message.request_uri() {
        black_box(uri.number(&mut [0; 64]));
    }
    for via in message.vias() {
        black_box(Via::parse(via).map(|v| v.params().count()).ok());
    }
    for address in [message.from(), message.to()].into_iter().flatten() {
        black_box(address.read_uri().map(|u| u.params().count()).ok());
    }
    for name in [Name::Contact, Name::Route, Name::RecordRoute, Name::PAssertedIdentity] {
        message.addresses(name).flatten().for_each(|a| {
            black_box(a.read_uri().ok());
        });
    }
    for name in [Name::Expires, Name::MaxForwards, Name::RetryAfter, Name::SessionExpires] {
        black_box(message.number(name).ok());
    }
    black_box(message.options(Name::Require).count());
    let kind = message.content_type().unwrap_or_default();
    let parts = message::multipart::parts(kind, message.body()).unwrap_or_default();
    assert!(parts.len() <= message::multipart::MAX_PARTS);
    assert!(parts.iter().all(|part| part.raw.len() >= part.body.len()));
    black_box(sbc::dialog::prack::RAck::read(message));
    assert!(message.cseq().number <= 0x7fff_ffff, "{:?}", message.cseq());
    assert!(!message.call_id().is_empty());
    if message.content_type() == Some(b"application/sdp") {
        sdp(message.body());
    }
}

fn respond(message: &Message) {
    let mut out = Vec::new();
    let source = Some(("192.0.2.9".parse().expect("an address"), 4242));
    let status = Status::new(486).expect("a status");
    message::response_head(&mut out, message, status, None, source, Some(b"ours")).finish();
    let mut index = Index::new();
    let response = match message::parse(&out, &mut index) {
        Ok(response) => response,
        // What must be echoed is checked before anything is answered.
        Err(_) => return assert!(message.via().is_err() || message.to().is_err()),
    };
    assert_eq!(response.call_id(), message.call_id());
    assert_eq!(response.cseq().number, message.cseq().number);
    assert_eq!(response.vias().count(), message.vias().count());
}

fn rebuild(message: &Message) {
    let mut out = Vec::new();
    let mut print = Print::request(&mut out, Method::Options, b"sip:a@example.net");
    print.header(Name::Via, b"SIP/2.0/UDP a;branch=z9hG4bKx");
    print.header(Name::From, b"<sip:a@b>;tag=1").header(Name::To, b"<sip:a@b>");
    print.header(Name::CallId, message.call_id()).header(Name::CSeq, b"1 OPTIONS");
    print.header(Name::MaxForwards, b"70");
    let mut added = 0;
    for header in message.headers().filter(|h| h.name == Name::Other).take(40) {
        print.raw(header.raw_name, header.value);
        added += 1;
    }
    print.finish();
    let mut index = Index::new();
    let again = message::parse(&out, &mut index);
    let again =
        again.unwrap_or_else(|r| panic!("{:?}: {}", r.error, String::from_utf8_lossy(&out)));
    assert_eq!(again.headers().count(), 7 + added);
}

/// A URI, a name-addr and a Via.
pub fn uri(data: &[u8]) {
    if let Ok(uri) = Uri::parse(data) {
        let number = uri.number(&mut [0; 64]).map(<[u8]>::to_vec);
        assert!(number.is_none_or(|n| n.len() <= 64));
        if let Some(replaces) = sbc::dialog::replaces::Replaces::of(&uri) {
            let mut out = b"sip:a@b?".to_vec();
            replaces.escape(&mut out);
            let again = Uri::parse(&out).map(|uri| sbc::dialog::replaces::Replaces::of(&uri));
            assert_eq!(again, Ok(Some(replaces)));
        }
        black_box((uri.host_ip(), uri.user_name(), uri.param(b"lr"), uri.params().count()));
    }
    if let Ok(address) = NameAddr::parse(data) {
        black_box((address.tag(), address.read_uri().ok(), address.params().count()));
    }
    if let Ok(via) = Via::parse(data) {
        black_box((via.host_ip(), via.received_ip(), via.params().count()));
    }
}

/// A session description: read in full, rewritten, read again.
pub fn sdp(data: &[u8]) {
    let Ok(session) = sbc::sdp::parse(data) else { return };
    for media in session.media() {
        black_box((media.rtp(), media.rtcp(), media.is_held_by_address(), media.formats().count()));
        media.attributes().for_each(|attribute| {
            black_box(Crypto::read(attribute.value));
        });
        media.payload_types().for_each(|pt| {
            black_box((media.rtpmap(pt), media.clock_rate(pt), media.fmtp(b"0")));
        });
    }
    assert!(sbc::sdp::compatible(&session, &session) || session.media().is_empty());
    let address = "192.0.2.5".parse().expect("an address");
    let at = |port| SocketAddr::new(address, port);
    let local = Local {
        rtp: at(20_000),
        rtcp: at(20_001),
        rtcp_mux: true,
        rtcp_line: RtcpLine::WhenNeeded,
        ptime_ms: None,
        formats: None,
        lines: Lines::default(),
        events: None,
    };
    let mut out = Vec::new();
    let origin = Origin { id: 1, version: 2, address, ice_lite: false, bundle: b"" };
    sbc::sdp::rewrite(&mut out, &session, origin, |i| (i == 0).then(|| local.clone()));
    let again = sbc::sdp::parse(&out);
    let again = again.unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(&out)));
    assert_eq!(again.media().len(), session.media().len());
}

/// What descriptions say of DTLS, lines of the session before a zero byte and of the media line behind it: what
/// can be used is written in our own words and read as the same.
pub fn dtls(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (of_session, of_line) = data.split_at(split);
    let of_line = of_line.get(1..).unwrap_or_default();
    let text = |of_session: &[u8], of_line: &[u8]| {
        let head: &[u8] =
            b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
        [head, of_session, b"\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n", of_line].concat()
    };
    let text_of_theirs = text(of_session, of_line);
    let Ok(session) = sbc::sdp::parse(&text_of_theirs) else { return };
    for line in session.media() {
        let Ok(Some(theirs)) = Dtls::read(&session, line) else { continue };
        let digest = theirs.fingerprint.digest();
        assert!([32, 48, 64].contains(&digest.len()));
        let Some(digest) = digest.first_chunk().filter(|_| digest.len() == 32) else { continue };
        let setup = theirs.setup.unwrap_or(Setup::ActPass);
        let lines = sbc::sdp::dtls_lines(digest, setup, theirs.tls_id);
        let text_of_ours = text(b"a=sendrecv", &lines.join(&b"\r\n"[..]));
        let again = sbc::sdp::parse(&text_of_ours).expect("ours can be read");
        let ours = Dtls::read(&again, &again.media()[0]).expect("usable").expect("there");
        let Dtls { fingerprint, tls_id, .. } = theirs;
        assert_eq!(ours, Dtls { setup: Some(setup), fingerprint, tls_id });
    }
}

/// A datagram on the RTP and the RTCP port of a joined pair.
pub fn rtp_rtcp(data: &[u8]) {
    let start = Instant(1_000_000_000);
    let at = |port: u16| SocketAddr::new("192.0.2.1".parse().expect("an address"), port);
    let pair = |i: u32| MediaPort {
        rtp: PortId(2 * i),
        rtcp: PortId(2 * i + 1),
        address: at(20_000 + 2 * i as u16),
        interface: 0,
    };
    let mut media = Media::new((0..2).map(pair).collect(), [1; 32], start);
    let peer: SocketAddr = "198.51.100.1:4000".parse().expect("an address");
    let (mux, learns) = (data.first().is_some_and(|b| b & 1 != 0), data.len().is_multiple_of(2));
    let ends: Vec<_> = (0..2).filter_map(|_| media.reserve(0, start).ok()).collect();
    for end in &ends {
        let learn = Learn::First { window: Duration::from_secs(1), same_ip: Some(peer.ip()) };
        let learn = if learns { learn } else { Learn::Off };
        let plan = Plan { rtcp_mux: mux, learn, ..Plan::towards(peer) };
        media.program(start, *end, plan);
    }
    media.join(ends[0], ends[1]);
    let mut pool = Pool::new(data.len());
    let bytes = Bytes { at: 0, len: data.len() as u32 };
    pool.get_mut(bytes).copy_from_slice(data);
    let mut out = Vec::new();
    for step in 0..3u64 {
        let mono = start + Duration::from_millis(20 * step);
        let now = Now { mono, wall: Wall(mono.0) };
        for port in 0..4 {
            media.receive(now, PortId(port), peer, bytes, &mut pool, &mut out);
        }
        media.receive(
            now,
            PortId(0),
            "192.0.2.66:1".parse().expect("an address"),
            bytes,
            &mut pool,
            &mut out,
        );
    }
    assert!(out.iter().all(|send| send.to.ip() == peer.ip() && send.bytes == bytes));
    assert_eq!(pool.get(bytes), data, "the relay changes nothing");
    for end in ends {
        media.release(end, start);
    }
    assert_eq!(media.in_use(), 0);
}

/// A stream cut into messages: in one piece and byte by byte alike.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    for _ in 0..64 {
        match message::frame(rest) {
            Framing::Message(len) => {
                assert!(len > 0 && len <= rest.len());
                let mut scanned = 0;
                for part in [len / 3, len / 2, len - 1] {
                    let early = message::frame_resumed(&rest[..part], &mut scanned);
                    assert!(!matches!(early, Framing::Message(_)), "a message before its end");
                }
                assert_eq!(
                    message::frame_resumed(&rest[..len], &mut scanned),
                    Framing::Message(len)
                );
                message(&rest[..len]);
                rest = &rest[len..];
            }
            Framing::KeepAlive(len) => {
                assert!(len == 2 || len == 4);
                rest = &rest[len..];
            }
            Framing::Need | Framing::Error(_) => return,
        }
    }
}
