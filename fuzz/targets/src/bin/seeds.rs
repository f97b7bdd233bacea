//! Writes the first corpora: our own sample messages, and what a simulated node says and keeps.
#![allow(clippy::disallowed_methods, reason = "writes files: a tool, not a part of the node")]

use sim::scene::{CALLEE, Scene};
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpus = root.join("fuzz/corpus");
    let samples = targets::samples::messages(&root)?;
    for (name, bytes) in &samples {
        keep(&corpus, "message", name, bytes)?;
    }
    let stream: Vec<u8> = samples.iter().take(3).flat_map(|(_, b)| b.clone()).collect();
    keep(&corpus, "frame", "three", &stream)?;
    keep(&corpus, "frame", "pings", b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\nl: 4\r\n\r\nbody\r\n")?;
    for (name, bytes) in targets::samples::descriptions(&root)? {
        keep(&corpus, "sdp", &name, &bytes)?;
    }
    for (i, text) in FINGERPRINTS.iter().enumerate() {
        let lines = text.replace("HEX", HEX).replace('\n', "\r\n");
        keep(&corpus, "dtls", &format!("dtls{i}"), lines.as_bytes())?;
    }
    for (i, uri) in URIS.iter().enumerate() {
        keep(&corpus, "uri", &format!("uri{i}"), uri.as_bytes())?;
    }
    keep(&corpus, "rtp_rtcp", "rtp", &sim::wire::rtp(7, 9, b'r')[..40])?;
    keep(&corpus, "rtp_rtcp", "rtcp", &sim::wire::rtcp(9))?;
    keep(&corpus, "rtp_rtcp", "extended", &EXTENDED)?;
    for (i, text) in DECKS.iter().enumerate() {
        keep(&corpus, "deck", &format!("deck{i}"), text.as_bytes())?;
    }
    records(&corpus)?;
    for (i, run) in RUNS.iter().enumerate() {
        keep(&corpus, "node", &format!("run{i}"), run)?;
    }
    Ok(())
}

const DECKS: [&str; 3] = [
    "code,rate,first_s,increment_s,connect_fee,from,status,time\n44,0.01,60,1,0.1,2026-01-01,,\n447,,,,,,closed,\n",
    "Destination;Dial code;Rate/min;Billing increment\nUK;44-45;0,0102;60/1\n\"=x\";+1;0,5;6\n",
    "sep=|\ncode|rate|effective|time|currency\n*21#|1|20-Nov-2026 08:00|peak|EUR\n",
];

/// What descriptions say of DTLS: of the session, then of the line.
const FINGERPRINTS: [&str; 6] = [
    "a=fingerprint:sha-256 HEX\na=setup:actpass\na=tls-id:abc3de65cddef001be82\0",
    "\0a=fingerprint:SHA-256 HEX\na=setup:passive\n",
    "a=setup:active\na=fingerprint:sha-1 00:11\0a=fingerprint:sha-512 HEX:HEX\na=fingerprint:sha-256 HEX\n",
    "\0a=fingerprint:sha-256 HEX:00\na=setup:holdconn\n",
    "a=fingerprint:md5 00\na=fingerprint: \0a=fingerprint\na=setup\na=tls-id\n",
    "a=fingerprint:sha-384 HEX:HEX\0m=video 4002 UDP/TLS/RTP/SAVPF 96\na=fingerprint:sha-256 HEX\n",
];

const HEX: &str = "4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF";

const URIS: [&str; 8] = [
    "sip:442079460000@192.0.2.1:5060;transport=udp;lr",
    "sip:+44(20)7946-0000;npdi@example.net;user=phone",
    "tel:+44-20-7946-0000;phone-context=+44",
    "\"A \\\"b\\\"\" <sip:a%20b@[2001:db8::1]:5070?Subject=x>;tag=1;q=0.5",
    "<sips:bob@example.org>",
    "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx;rport;received=192.0.2.7",
    "urn:service:sos",
    "sip:a:pass@b",
];

/// RTP with a CSRC, an extension and padding.
const EXTENDED: [u8; 32] = [
    0xb1, 0x80, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, 1, 2,
    3, 4, 0, 0, 0, 4,
];

/// Calls that are answered, cancelled, refused, held, handed over and killed: see `node_target`.
const RUNS: [&[u8]; 6] = [
    &[1, 0, 0x12, 1, 0, 0x32, 1, 0, 6, 0, 0, 10, 50, 12, 0, 0x16, 3, 0, 0x32, 1],
    &[1, 1, 0x12, 1, 0, 0x36, 0, 0, 0x32, 1, 0, 0x92, 65, 0],
    &[1, 2, 0x52, 1, 0, 0x62, 2, 0, 6, 0],
    &[1, 3, 0x32, 1, 0, 6, 0, 0x26, 3, 0, 0x32, 1, 0, 6, 3, 13, 0, 13, 1, 0x16, 6],
    &[15, 0, 0x32, 1, 0, 6, 0, 14, 2, 1, 1, 10, 9, 11, 40],
    &[1, 4, 11, 10, 0x32, 2, 0, 14, 4, 0x16, 3, 11, 33, 1, 5, 0x72, 1],
];

/// Records and frames of a ringing and an answered call.
fn records(corpus: &Path) -> std::io::Result<()> {
    let mut scene = Scene::new();
    scene.establish("kept");
    scene.invite("rings");
    scene.world.run(std::time::Duration::from_millis(5));
    for (r, region) in scene.world.regions().iter().enumerate() {
        for (slot, record) in &region.records {
            keep(corpus, "record", &format!("record{r}-{slot}"), record)?;
            keep(corpus, "record", &format!("body{r}-{slot}"), &record[16..])?;
        }
        for (i, frame) in region.journal.iter().enumerate() {
            keep(corpus, "record", &format!("frame{r}-{i}"), frame)?;
        }
    }
    println!("records of calls to {CALLEE} kept");
    Ok(())
}

fn keep(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder: PathBuf = corpus.join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}
