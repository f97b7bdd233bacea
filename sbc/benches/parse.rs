//! What a shard pays to read a 1 kB INVITE: `parse` alone, and everything a back-to-back agent
//! reads of it.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use ezk_sip_types::Headers;
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse;
use sbc::message::{Index, Message, Name, Status, Via, frame, parse, response_head};

#[path = "../examples/index.rs"]
mod index;

use index::{BODY, invite};

/// As the transport layer of its own stack reads a datagram: start line, then every field by name.
fn by_ezk(bytes: &Bytes) -> usize {
    let mut lines = PullParser::new(bytes, 0).map_while(Result::ok).map(core::str::from_utf8);
    let start =
        lines.next().and_then(Result::ok).map(|line| MessageLine::parse(bytes)(line).is_ok());
    assert_eq!(start, Some(true));
    let mut headers = Headers::default();
    for line in lines.map_while(Result::ok) {
        let (_, line) = Line::parse(bytes, line).expect("a field");
        headers.insert(line.name, line.value);
    }
    headers.iter().count()
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
    let whole = Bytes::from(bytes.clone());
    criterion.bench_function("parse_by_ezk", |b| b.iter(|| by_ezk(black_box(&whole))));
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
