//! What a shard pays to read a 1 kB INVITE: `parse` alone, and everything a back-to-back agent
//! reads of it.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sbc::message::{Index, Message, Name, Status, Via, frame, parse, response_head};

const BODY: &str = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
    m=audio 54609 RTP/AVP 0 8 96\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\n";

fn invite() -> Vec<u8> {
    let head = "INVITE sip:+15550100123@edge.example.com:5060;user=phone SIP/2.0\r\n\
        Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK776asdhds8f7;rport\r\n\
        Via: SIP/2.0/UDP 192.0.2.33:5060;branch=z9hG4bKnashds8;received=192.0.2.33\r\n\
        Record-Route: <sip:198.51.100.7;lr;ftag=1928301774>\r\n\
        Route: <sip:edge.example.com;lr>\r\nMax-Forwards: 68\r\n\
        From: \"Alice Example\" <sip:+15550199888@carrier.example.net;user=phone>;tag=1928301774\r\n\
        To: <sip:+15550100123@edge.example.com;user=phone>\r\n\
        Call-ID: a84b4c76e66710d0a84b4c76@198.51.100.7\r\nCSeq: 314159 INVITE\r\n\
        Contact: <sip:+15550199888@198.51.100.7:5060;transport=udp>\r\n\
        Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE\r\nSupported: 100rel, timer\r\n\
        P-Asserted-Identity: <sip:+15550199888@carrier.example.net>\r\n\
        User-Agent: Example Switch 4.2\r\nContent-Type: application/sdp\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{BODY}", BODY.len()).into_bytes()
}

/// Everything a back-to-back agent asks of an INVITE.
fn read(message: &Message<'_>) -> usize {
    let via = message.via().expect("via");
    let (from, to) = (message.from().expect("from"), message.to().expect("to"));
    let contact = message.contact().expect("contact").expect("contact");
    let target = message.request_uri().expect("uri");
    let mut digits = [0; 64];
    let mut sum = message.cseq().number as usize + message.call_id().len();
    sum += via.branch.map_or(0, <[u8]>::len) + from.tag().map_or(0, <[u8]>::len);
    sum += target.number(&mut digits).map_or(0, <[u8]>::len);
    sum += from.read_uri().expect("uri").number(&mut digits).map_or(0, <[u8]>::len);
    sum += usize::from(to.tag().is_some()) + contact.read_uri().expect("uri").host.len();
    sum += message.max_forwards().expect("hops").unwrap_or(70) as usize;
    sum += message.record_routes().map(|route| route.expect("route").uri.len()).sum::<usize>();
    sum += message.routes().map(|route| route.expect("route").uri.len()).sum::<usize>();
    sum += message.options(Name::Supported).count();
    let session = sbc::sdp::parse(message.body()).expect("sdp");
    for media in session.media() {
        sum += media.formats().count() + media.rtp().map_or(0, |rtp| usize::from(rtp.port()));
        sum += usize::from(media.telephone_event_pt().unwrap_or_default());
    }
    sum
}

fn bench(criterion: &mut Criterion) {
    let bytes = invite();
    println!("an INVITE of {} bytes", bytes.len());
    let mut index = Index::new();
    criterion.bench_function("parse", |b| {
        b.iter(|| parse(black_box(&bytes), &mut index).map(|message| message.body().len()).ok())
    });
    criterion.bench_function("parse_and_read_all", |b| {
        b.iter(|| parse(black_box(&bytes), &mut index).map(|message| read(&message)).ok())
    });
    criterion.bench_function("parse_by_rsip", |b| {
        b.iter(|| rsip::Request::try_from(black_box(&bytes[..])).map(|request| request.body.len()))
    });
    criterion.bench_function("frame", |b| b.iter(|| frame(black_box(&bytes))));
    criterion.bench_function("sdp_parse_by_sdp_types", |b| {
        let parse = |text| sdp_types::Session::parse(text).map(|sdp| sdp.medias.len()).ok();
        b.iter(|| parse(black_box(BODY.as_bytes())))
    });
    criterion.bench_function("sdp_parse", |b| {
        b.iter(|| sbc::sdp::parse(black_box(BODY.as_bytes())).map(|sdp| sdp.media().len()).ok())
    });
    let via = b"SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK776asdhds8f7;rport";
    criterion.bench_function("via", |b| b.iter(|| Via::parse(black_box(via)).is_ok()));
    let mut out = Vec::with_capacity(2048);
    let mut room = Index::new();
    let request = parse(&bytes, &mut room).expect("the INVITE is fine");
    criterion.bench_function("response", |b| {
        b.iter(|| {
            out.clear();
            let source = "198.51.100.7".parse().map(|address| (address, 5060)).ok();
            response_head(&mut out, &request, Status::RINGING, None, source, Some(b"tag1"))
                .finish();
            out.len()
        })
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
