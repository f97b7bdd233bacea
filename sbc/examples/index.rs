//! Indexes one INVITE of 1 kB again and again, for counting instructions:
//!
//! `valgrind --tool=callgrind target/release/examples/index 10000`, less the same with 0, by 10,000. Also
//! the text the micro benchmarks read.

use sbc::message::{Index, parse};
use std::hint::black_box;

/// Its session description.
pub(crate) const BODY: &str = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
    m=audio 54609 RTP/AVP 0 8 96\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\n";

/// The INVITE.
pub(crate) fn invite() -> Vec<u8> {
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

#[allow(dead_code, reason = "the benchmarks only take the text")]
fn main() {
    let times = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let (bytes, mut index) = (invite(), Index::new());
    for _ in 0..times {
        let parsed = parse(black_box(&bytes), &mut index).map(|message| message.body().len());
        assert_eq!(black_box(parsed.ok()), Some(BODY.len()));
    }
}
