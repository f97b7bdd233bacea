//! Offers and answers through the whole node, from files named after what they show: what each side says
//! (`>`), and what the other one hears of it (`<`).
//!
//! `sbc/tests/data/offer_answer/NAME.txt`; with `UPDATE_EXPECTED=1` the `<` parts are written anew, to be
//! read in the diff. A line `> WHO WHAT WORDS` is a message with the session description below it: a
//! method, or a status that answers the last request WHO has heard. Words: `reliable`, `tag=x` of a
//! response; `100rel`, `update` for what its sender can do; `INVITE` for which request it answers.
//! Session ids are left out. ACK, PRACK and responses without a description are sent by themselves.
#![expect(clippy::disallowed_methods, reason = "the cases are files")]

use sim::scene::{CALLEE, CALLER, Scene, image};
use sim::wire::{self, Text};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One side as a script plays it.
#[derive(Default)]
struct Side {
    cseq: u32,
    /// What it heard that may still be answered.
    requests: Vec<Text>,
    /// Its first INVITE, or the one it was called with.
    invite: Option<Text>,
    /// The last response that names its dialog; the caller's.
    dialog: Option<Text>,
    rseq: u32,
    tag: String,
    offered: bool,
}

struct Play {
    scene: Scene,
    caller: Side,
    callee: Side,
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sbc/tests/data/offer_answer");
    let entries = std::fs::read_dir(folder).expect("the cases");
    let mut files: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_case_is_answered_as_it_was_reviewed() {
    let files = cases();
    assert!(files.len() >= 120, "only {} cases", files.len());
    let mut differ = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a case");
        let played = play(&text);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&file, &played).expect("the case is writable");
        } else if played != text {
            differ.push(format!("--- {} ---\n{played}", file.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// The script with what was heard, in place of what it says was heard.
fn play(script: &str) -> String {
    let options = sim::Options { shards: 1, ..Default::default() };
    let scene = Scene::with(image(), options);
    let mut play = Play { scene, caller: Side::default(), callee: Side::default() };
    let mut out = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next_if(|l| !l.starts_with(['>', '<'])) {
        let _ = writeln!(out, "{line}");
    }
    while let Some(head) = lines.next() {
        let mut body = String::new();
        while let Some(line) = lines.next_if(|l| !l.starts_with(['>', '<'])) {
            let _ = write!(body, "{line}\r\n");
        }
        if let Some(said) = head.strip_prefix("> ") {
            let _ = write!(out, "{head}\n{}", body.replace("\r\n", "\n"));
            // A line of its own is an empty description: what stands there is left as it is.
            play.say(said, &body.replace("\\0", "\0"));
            play.listen(&mut out);
        }
    }
    out
}

impl Play {
    fn say(&mut self, said: &str, body: &str) {
        let words: Vec<&str> = said.split(' ').collect();
        let by_caller = words[0] == "caller";
        let has = |word: &str| words[2..].contains(&word);
        let mut headers = String::new();
        if has("100rel") {
            headers.push_str("Supported: 100rel\r\n");
        }
        if has("update") {
            headers.push_str("Allow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK\r\n");
        }
        match words[1].parse::<u16>() {
            Ok(status) => {
                let tag = words[2..].iter().find_map(|w| w.strip_prefix("tag="));
                let method = words[2..].iter().find(|w| w.bytes().all(|b| b.is_ascii_uppercase()));
                let side = if by_caller { &mut self.caller } else { &mut self.callee };
                if has("reliable") {
                    side.rseq += 1;
                    let _ = write!(headers, "Require: 100rel\r\nRSeq: {}\r\n", side.rseq);
                }
                self.respond(by_caller, status, method.copied(), tag.unwrap_or("b"), headers, body);
            }
            Err(_) => self.request(by_caller, words[1], &headers, body),
        }
    }

    fn respond(
        &mut self,
        by_caller: bool,
        status: u16,
        method: Option<&str>,
        tag: &str,
        headers: String,
        body: &str,
    ) {
        let side = if by_caller { &mut self.caller } else { &mut self.callee };
        let fits = |r: &Text| method.is_none_or(|m| r.method() == Some(m));
        let at = side.requests.iter().rposition(fits);
        let at = at.unwrap_or_else(|| panic!("nothing to answer\n{}", self.scene.ladder()));
        let request = side.requests[at].clone();
        if status >= 200 {
            side.requests.remove(at);
            side.tag = tag.to_owned();
        }
        let (from, contact) = if by_caller {
            (self.scene.caller, format!("Contact: <sip:{CALLER}>\r\n"))
        } else {
            (self.scene.callee, format!("Contact: <sip:{CALLEE}>\r\n"))
        };
        let text = request.reply(status, tag, &format!("{contact}{headers}"), body);
        self.scene.world.send(from, self.scene.node, text);
    }

    fn request(&mut self, by_caller: bool, method: &str, headers: &str, body: &str) {
        let side = if by_caller { &mut self.caller } else { &mut self.callee };
        side.cseq += u32::from(method != "ACK");
        if method == "INVITE" {
            side.offered = !body.is_empty();
        }
        let (number, tag) = (side.cseq, side.tag.clone());
        let (invite, dialog) = (side.invite.clone(), side.dialog.clone());
        let text = match (by_caller, dialog, invite) {
            (true, None, _) => self.scene.request(method, "c1", "442079460000", headers, body),
            (true, Some(dialog), _) => self.scene.in_dialog(method, number, &dialog, body),
            (false, _, Some(invite)) => {
                let tag = if tag.is_empty() { "b" } else { &tag };
                self.scene.from_callee(method, number, &invite, tag, body)
            }
            (false, _, None) => panic!("the callee was not called"),
        };
        let rseq = self.caller.dialog.as_ref().map_or("", |d| d.get("RSeq"));
        let rack = match method {
            "PRACK" => format!("RAck: {rseq} 1 INVITE\r\n"),
            _ => String::new(),
        };
        let text = text.replacen("\r\nContact:", &format!("\r\n{rack}{headers}Contact:"), 1);
        let from = if by_caller { self.scene.caller } else { self.scene.callee };
        self.scene.world.send(from, self.scene.node, text);
    }

    /// Both sides hear what there is, and do by themselves what needs no description.
    fn listen(&mut self, out: &mut String) {
        for _ in 0..6 {
            self.scene.world.run(Duration::from_millis(8));
            for by_caller in [true, false] {
                let peer = if by_caller { self.scene.caller } else { self.scene.callee };
                while let Some(text) = self.scene.within(peer, Duration::ZERO) {
                    self.hear(by_caller, &text, out);
                }
            }
        }
    }

    fn hear(&mut self, by_caller: bool, text: &Text, out: &mut String) {
        let who = if by_caller { "caller" } else { "callee" };
        let cseq = text.get("CSeq").to_owned();
        let (number, method) = cseq.split_once(' ').expect("a CSeq");
        let dull = text.body().is_empty() && matches!(method, "PRACK" | "ACK");
        if text.status() != Some(100) && !dull {
            let what = text.status().map_or(method.to_owned(), |s| format!("{s} {method}"));
            let words = if text.get("Require").contains("100rel") { " reliable" } else { "" };
            let _ = writeln!(out, "< {who} {what}{words}");
            out.push_str(&checked(by_caller, text));
        }
        let side = if by_caller { &mut self.caller } else { &mut self.callee };
        match (text.status(), text.method()) {
            (Some(status), _) => {
                let names_it =
                    !text.get("Contact").is_empty() && status < 300 && method == "INVITE";
                if by_caller && names_it {
                    side.dialog = Some(text.clone());
                }
                let ours = side.offered;
                if status >= 300 && method == "INVITE" {
                    self.acknowledge_failure(by_caller, text);
                } else if status >= 200 && method == "INVITE" && ours {
                    self.acknowledge(by_caller, number);
                } else if status > 100 && !text.get("RSeq").is_empty() && text.body().is_empty() {
                    self.request(true, "PRACK", "", "");
                }
            }
            (None, Some("INVITE")) => {
                side.invite.get_or_insert(text.clone());
                side.requests.push(text.clone());
            }
            (None, Some("PRACK")) if !text.body().is_empty() => side.requests.push(text.clone()),
            (None, Some("UPDATE")) => side.requests.push(text.clone()),
            (None, Some("ACK")) => {}
            (None, _) => {
                side.requests.push(text.clone());
                self.respond(by_caller, 200, Some(method), "b", String::new(), "");
            }
        }
    }

    fn acknowledge(&mut self, by_caller: bool, number: &str) {
        let number = number.parse().expect("a number");
        let (from, text) = match (by_caller, self.caller.dialog.clone(), self.callee.invite.clone())
        {
            (true, Some(dialog), _) => {
                (self.scene.caller, self.scene.in_dialog("ACK", number, &dialog, ""))
            }
            (false, _, Some(invite)) => {
                (self.scene.callee, self.scene.from_callee("ACK", number, &invite, "b", ""))
            }
            _ => return,
        };
        self.scene.world.send(from, self.scene.node, text);
    }

    /// The ACK of a failure: the INVITE's branch (RFC 3261 17.1.1.3).
    fn acknowledge_failure(&mut self, by_caller: bool, response: &Text) {
        let mut head = format!("ACK sip:442079460000@{} SIP/2.0\r\n", self.scene.node);
        let via = response.get("Via").split(";received").next().unwrap_or("");
        let number = response.get("CSeq").split(' ').next().unwrap_or("1");
        let _ = write!(head, "Via: {via}\r\nMax-Forwards: 70\r\nCSeq: {number} ACK\r\n");
        for name in ["From", "To", "Call-ID"] {
            let _ = write!(head, "{name}: {}\r\n", response.get(name));
        }
        let from = if by_caller { self.scene.caller } else { self.scene.callee };
        self.scene.world.send(from, self.scene.node, wire::finish(head, ""));
    }
}

/// A description as a file shows it; it must read in another parser, and name no peer.
fn checked(by_caller: bool, text: &Text) -> String {
    let body = text.body();
    if body.is_empty() {
        return String::new();
    }
    if let Err(error) = sdp_types::Session::parse(body.as_bytes()) {
        panic!("{error}: {body}");
    }
    let other = if by_caller { "203.0.113." } else { "198.51.100." };
    assert!(!body.contains(other), "the other side's address: {body}");
    let lines = body.lines().map(|line| match line.strip_prefix("o=- ") {
        Some(origin) => {
            let rest = origin.split_once(' ').map_or("", |(_, rest)| rest);
            format!("o=- ID {rest}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}
