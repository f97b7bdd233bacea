//! Golden cases of `sdp::rewrite`: each file of `data/sdp` is named by what it shows.
//!
//! A file has a comment, directives (`origin id version address`, `local line rtp rtcp [mux]`,
//! `lf`: the input ends its lines in LF, `open`: its last line has no end), the input and the
//! output, with LF in the file for CRLF on the wire.
#![allow(clippy::disallowed_methods, reason = "golden files are read from the disk")]
#![allow(clippy::unwrap_used, reason = "a broken golden file fails the test")]

use std::collections::BTreeMap;
use std::path::Path;

use sbc::sdp::{Local, Origin, RtcpLine, parse, rewrite};

struct Case {
    origin: Origin<'static>,
    locals: BTreeMap<usize, Local>,
    input: String,
    output: String,
}

fn read(text: &str) -> Case {
    let (head, rest) = text.split_once("--- in\n").unwrap();
    let (input, output) = rest.split_once("--- out\n").unwrap();
    let address = "203.0.113.1".parse().unwrap();
    let mut case = Case {
        origin: Origin { id: 7, version: 3, address, ice_lite: false, bundle: b"" },
        locals: BTreeMap::new(),
        input: input.replace('\n', "\r\n"),
        output: output.replace('\n', "\r\n"),
    };
    for line in head.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["#", ..] => {}
            ["lf"] => case.input = input.to_owned(),
            ["open"] => case.input.truncate(case.input.len() - 2),
            ["origin", id, version, address] => {
                let (id, version) = (id.parse().unwrap(), version.parse().unwrap());
                case.origin = Origin {
                    id,
                    version,
                    address: address.parse().unwrap(),
                    ice_lite: false,
                    bundle: b"",
                };
            }
            ["local", line, rtp, rtcp, mux @ ..] => {
                let (rtp, rtcp) = (rtp.parse().unwrap(), rtcp.parse().unwrap());
                let local = Local {
                    rtp,
                    rtcp,
                    rtcp_mux: mux == ["mux"],
                    rtcp_line: RtcpLine::WhenNeeded,
                    ptime_ms: None,
                    formats: None,
                    lines: sbc::sdp::Lines::default(),
                    events: None,
                };
                case.locals.insert(line.parse().unwrap(), local);
            }
            _ => panic!("unknown directive {line}"),
        }
    }
    case
}

#[test]
fn every_case_is_rewritten_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sdp");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let case = read(&std::fs::read_to_string(&path).unwrap());
        let session = parse(case.input.as_bytes()).unwrap();
        let mut out = Vec::new();
        rewrite(&mut out, &session, case.origin, |line| case.locals.get(&line).cloned());
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, case.output, "{}\n{out}", path.display());
        parse(out.as_bytes()).unwrap();
        count += 1;
    }
    assert!(count >= 25, "{count} cases");
}
