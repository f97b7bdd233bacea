//! Our own sample messages, as `sbc` keeps them: LF stands for CRLF, `{hh}` for a byte.
#![allow(clippy::disallowed_methods, reason = "sample messages are read from the disk")]

use std::io::Result;
use std::path::Path;

/// A name and the bytes of that sample.
pub type Sample = (String, Vec<u8>);

/// SIP messages, those that parsers must refuse included.
pub fn messages(root: &Path) -> Result<Vec<Sample>> {
    files(&root.join("sbc/tests/data/sip"), "sip", wire)
}

/// Session descriptions: what stands before the rewritten one.
pub fn descriptions(root: &Path) -> Result<Vec<Sample>> {
    files(&root.join("sbc/tests/data/sdp"), "txt", |text| {
        let text = String::from_utf8_lossy(text).into_owned();
        let body = text.split_once("--- in\n").map_or(text.as_str(), |(_, b)| b);
        let body = body.split("--- out").next().unwrap_or("");
        body.replace('\n', "\r\n").into_bytes()
    })
}

fn files(folder: &Path, ending: &str, read: impl Fn(&[u8]) -> Vec<u8>) -> Result<Vec<Sample>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == ending) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            out.push((name, read(&std::fs::read(&path)?)));
        }
    }
    out.sort();
    Ok(out)
}

fn wire(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|h| core::str::from_utf8(h).ok());
        let escape = hex.and_then(|h| u8::from_str_radix(h, 16).ok());
        match (byte, escape) {
            (b'{', Some(value)) if text.get(at + 3) == Some(&b'}') => {
                out.push(value);
                at += 3;
            }
            (b'\n', _) => out.extend_from_slice(b"\r\n"),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}
