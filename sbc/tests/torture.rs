//! Messages that parsers get wrong: our own (`data/sip`), and those of RFC 4475 and RFC 5118 when
//! their folder stands beside the repository.
//!
//! Judged is what an element reads of a message before it acts: `parse`, then every accessor.
//! In our files LF stands for CRLF and `{hh}` for a byte.
#![allow(clippy::disallowed_methods, reason = "test messages are read from the disk")]

use std::path::{Path, PathBuf};

use sbc::message::{Index, Message, Name, ParseError, Via, parse};

/// Reads everything there is to read.
fn judge(bytes: &[u8]) -> Result<(), ParseError> {
    let mut index = Index::new();
    let message = parse(bytes, &mut index)?;
    if message.is_request() {
        message.request_uri()?;
    }
    message.via()?;
    for via in message.vias() {
        Via::parse(via)?;
    }
    message.max_forwards()?;
    message.contact()?;
    addresses(&message)?;
    for name in [Name::Expires, Name::RetryAfter, Name::SessionExpires, Name::MinSe] {
        message.number(name)?;
    }
    if message.content_type() == Some(b"application/sdp") {
        sbc::sdp::parse(message.body())?;
    }
    Ok(())
}

fn addresses(message: &Message<'_>) -> Result<(), ParseError> {
    message.from()?.read_uri()?;
    message.to()?.read_uri()?;
    let names = [Name::Contact, Name::Route, Name::RecordRoute, Name::PAssertedIdentity];
    for name in names {
        if name == Name::Contact && message.is_contact_star() {
            continue;
        }
        for address in message.addresses(name) {
            address?.read_uri()?;
        }
    }
    Ok(())
}

fn outcome(bytes: &[u8]) -> &'static str {
    judge(bytes).map_or_else(|error| error.kind.name(), |()| "ok")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Replaces `{hh}` by a byte and LF by CRLF.
fn wire(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escape = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let escape = escape.and_then(|hex| u8::from_str_radix(hex, 16).ok());
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

#[test]
fn our_own_messages_are_judged_right() {
    let folder = root().join("sbc/tests/data/sip");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    for row in table.lines().skip(1) {
        let (name, expected) = row.split_once('\t').unwrap();
        let text = std::fs::read(folder.join(format!("{name}.sip"))).unwrap();
        let found = outcome(&wire(&text));
        if found != expected {
            wrong.push(format!("{name}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Rows whose class does not say what a parser does. `true`: it must parse.
const SEMANTIC: &[(&str, bool, &str)] = &[
    ("baddate", true, "§3.1.2.12 lets an element that ignores Date ignore this one"),
    ("badbranch", true, "§3.2.1: matched by RFC 2543 rules"),
    ("insuf", false, "§3.3.1: no Call-ID, From or To"),
    ("unkscm", true, "§3.3.2: 416 is said by routing"),
    ("novelsc", true, "§3.3.3: 416 is said by routing"),
    ("unksm2", true, "§3.3.4: foreign schemes in To, From and Contact are well-formed"),
    ("bext01", true, "§3.3.5: 420 is said above the parser"),
    ("invut", true, "§3.3.6: 415 is said above the parser"),
    ("regaut01", true, "§3.3.7: an unknown scheme is well-formed"),
    ("multi01", false, "§3.3.8: single fields twice"),
    ("mcl01", false, "§3.3.9: two Content-Lengths"),
    ("bcast", true, "§3.3.10: discarded because its second Via is not ours"),
    ("zeromf", true, "§3.3.11: 483 is said above the parser"),
    ("sdp01", true, "§3.3.15: 406 is said above the parser"),
];

#[test]
fn the_torture_messages_of_the_rfcs_are_judged_right() {
    let folder = root().join("../shared/sip-torture");
    let Ok(table) = std::fs::read_to_string(folder.join("expected.tsv")) else {
        println!("{} is absent: nothing judged", folder.display());
        return;
    };
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [_, _, name, file, class, ..] = columns.as_slice() else { panic!("{row}") };
        let found = outcome(&std::fs::read(folder.join(file)).unwrap());
        let exception = SEMANTIC.iter().find(|(row, ..)| row == name);
        let must_parse = match exception {
            Some((_, must_parse, _)) => *must_parse,
            None => *class == "valid",
        };
        assert!(exception.is_some() || *class != "semantic", "{name} has no expectation");
        if (found == "ok") != must_parse {
            wrong.push(format!("{name} ({class}): {found}"));
        }
        println!("{name} {found}");
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{count} messages judged");
}
