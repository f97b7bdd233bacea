//! Whom a call was for before: Diversion (RFC 5806), History-Info (RFC 7044), and from one to the other
//! (RFC 7544).

use super::Privacy;
use crate::message::{Message, Name, NameAddr, Print, Scheme, Uri};
use crate::policy::manipulate::Boundary;
use crate::policy::profile::{Identity, Redirections};

/// Whom nobody outside may know.
const ANONYMOUS: &[u8] = b"sip:anonymous@anonymous.invalid";
/// Whom nobody knows.
const UNKNOWN: &[u8] = b"sip:unknown@unknown.invalid";

/// The most redirections that are translated; a call that was sent on more often keeps the latest.
const MOST: usize = 10;

/// A redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Redirection {
    /// Who sent the call on.
    uri: Box<[u8]>,
    /// Why.
    cause: Cause,
    /// How often in a row.
    counter: u32,
    /// Nobody outside the trust domain may know.
    is_private: bool,
}

/// Why a call was sent on: a `reason` of Diversion, a `cause` of RFC 4458.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Cause {
    Unknown,
    Unconditional,
    NoAnswer,
    Busy,
    Deflection,
    DeflectionWhileRinging,
    Unavailable,
}

/// RFC 7544 7.1, table 1. Reasons that are not here are 404.
const CAUSES: [(&str, &str, Cause); 7] = [
    ("unknown", "404", Cause::Unknown),
    ("unconditional", "302", Cause::Unconditional),
    ("no-answer", "408", Cause::NoAnswer),
    ("user-busy", "486", Cause::Busy),
    ("deflection", "480", Cause::Deflection),
    ("deflection", "487", Cause::DeflectionWhileRinging),
    ("unavailable", "503", Cause::Unavailable),
];

impl Cause {
    fn of_reason(reason: &[u8]) -> Cause {
        let reason = reason.trim_ascii();
        let reason = reason.strip_prefix(b"\"").unwrap_or(reason);
        let reason = reason.strip_suffix(b"\"").unwrap_or(reason);
        let found = CAUSES.iter().find(|(text, _, _)| reason.eq_ignore_ascii_case(text.as_bytes()));
        found.map_or(Cause::Unknown, |(_, _, cause)| *cause)
    }

    fn of_number(number: &[u8]) -> Cause {
        let found = CAUSES.iter().find(|(_, text, _)| number == text.as_bytes());
        found.map_or(Cause::Unknown, |(_, _, cause)| *cause)
    }

    fn texts(self) -> (&'static str, &'static str) {
        let found = CAUSES.iter().find(|(_, _, cause)| *cause == self);
        found.map_or(("unknown", "404"), |(reason, number, _)| (reason, number))
    }
}

/// Adds what the far side may know of earlier redirections.
pub(super) fn pass(
    message: &Message,
    boundary: &Boundary,
    privacy: Privacy,
    target: Option<&[u8]>,
    print: &mut Print,
) {
    let is_outside = boundary.far.profile.identity == Identity::Withheld;
    if is_outside && privacy.history {
        return;
    }
    match (boundary.far.profile.redirections, target) {
        (Redirections::Withheld, _) => {}
        (Redirections::Diversion, Some(_)) if message.get(Name::Diversion).is_none() => {
            diversions(&of_history(message), is_outside, print);
        }
        (Redirections::HistoryInfo, Some(target)) if message.get(Name::HistoryInfo).is_none() => {
            history(&of_diversions(message), target, is_outside, print);
        }
        (Redirections::Diversion, _) => as_they_came(message, Name::Diversion, is_outside, print),
        (Redirections::HistoryInfo, _) => {
            as_they_came(message, Name::HistoryInfo, is_outside, print);
        }
        (Redirections::AsTheyCame, _) => {
            as_they_came(message, Name::Diversion, is_outside, print);
            as_they_came(message, Name::HistoryInfo, is_outside, print);
        }
    }
}

/// Entries that may be known as they are; the others keep their place and lose their name
/// (RFC 7044 10.1.2, RFC 5806 9).
fn as_they_came(message: &Message, name: Name, is_outside: bool, print: &mut Print) {
    if !is_outside {
        message.all(name).for_each(|value| {
            print.header(name, value);
        });
        return;
    }
    for entry in message.addresses(name).map_while(Result::ok) {
        match is_private(&entry) {
            true => print.line(name, |v| {
                v.uri(ANONYMOUS).bytes(entry.params);
            }),
            false => print.header(name, entry.raw),
        };
    }
}

/// Whether an entry of either header field asks for privacy.
fn is_private(entry: &NameAddr) -> bool {
    let wanted = entry.param(b"privacy").unwrap_or_default();
    let is_wanted = !wanted.is_empty() && !wanted.eq_ignore_ascii_case(b"off");
    let headers = entry.uri.split(|byte| *byte == b'?').nth(1).unwrap_or_default();
    let mut headers = headers.split(|byte| *byte == b'&');
    is_wanted
        || headers.any(|header| {
            let mut halves = header.splitn(2, |byte| *byte == b'=');
            let is_privacy = halves.next().is_some_and(|n| n.eq_ignore_ascii_case(b"Privacy"));
            is_privacy && halves.next().is_some_and(|value| !value.eq_ignore_ascii_case(b"none"))
        })
}

/// The redirections Diversion tells of, the latest first as it has them.
fn of_diversions(message: &Message) -> Vec<Redirection> {
    let entries = message.addresses(Name::Diversion).map_while(Result::ok).take(MOST);
    let redirections = entries.map(|entry| Redirection {
        uri: entry.uri.into(),
        cause: Cause::of_reason(entry.param(b"reason").unwrap_or_default()),
        counter: entry
            .param(b"counter")
            .and_then(|n| str::from_utf8(n).ok()?.parse().ok())
            .unwrap_or(1),
        is_private: is_private(&entry),
    });
    redirections.collect()
}

/// The redirections History-Info tells of, the latest first: entries with a cause, and whom they are
/// mapped from, or else their parent (RFC 7044 9).
fn of_history(message: &Message) -> Vec<Redirection> {
    let entries: Vec<NameAddr> =
        message.addresses(Name::HistoryInfo).map_while(Result::ok).take(4 * MOST).collect();
    let at = |index: &[u8]| entries.iter().find(|entry| entry.param(b"index") == Some(index));
    let redirected = entries.iter().rev().filter_map(|entry| {
        let cause = Uri::parse(entry.uri).ok()?.param(b"cause")?;
        let index = entry.param(b"index")?;
        let parent = index.iter().rposition(|byte| *byte == b'.').and_then(|dot| index.get(..dot));
        let from = at(entry.param(b"mp").or(parent)?)?;
        Some(Redirection {
            uri: bare(from.uri)?,
            cause: Cause::of_number(cause),
            counter: 1,
            is_private: is_private(from),
        })
    });
    redirected.take(MOST).collect()
}

/// A URI without a cause and without headers.
fn bare(text: &[u8]) -> Option<Box<[u8]>> {
    let uri = Uri::parse(text).ok()?;
    let end = text.iter().position(|byte| matches!(byte, b'?')).unwrap_or(text.len());
    let mut out = text.get(..end - uri.params.len())?.to_vec();
    for (name, value) in uri.params().filter(|(name, _)| !name.eq_ignore_ascii_case(b"cause")) {
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    Some(out.into())
}

fn diversions(redirections: &[Redirection], is_outside: bool, print: &mut Print) {
    for redirection in redirections {
        let is_hidden = is_outside && redirection.is_private;
        print.line(Name::Diversion, |v| {
            v.uri(if is_hidden { ANONYMOUS } else { &redirection.uri });
            v.param(b"reason", Some(redirection.cause.texts().0.as_bytes()));
            v.bytes(b";counter=").u32(redirection.counter);
            v.param(b"privacy", Some(if redirection.is_private { b"full" } else { b"off" }));
        });
    }
}

/// History-Info from redirections, the latest first, that led to `target`: the oldest entry has index 1,
/// each one is the child of the one before and bears the cause that led to it (RFC 7544 5).
fn history(redirections: &[Redirection], target: &[u8], is_outside: bool, print: &mut Print) {
    if redirections.is_empty() {
        return;
    }
    let mut index = b"1".to_vec();
    let mut cause = None;
    for redirection in redirections.iter().rev() {
        let is_hidden = is_outside && redirection.is_private;
        entry(
            print,
            if is_hidden { ANONYMOUS } else { &redirection.uri },
            cause,
            &index,
            redirection.is_private,
        );
        // Redirections that are only counted have entries of their own, of whoever it was.
        for _ in 1..redirection.counter.min(MOST as u32) {
            index.extend_from_slice(b".1");
            entry(print, UNKNOWN, Some(redirection.cause), &index, false);
        }
        index.extend_from_slice(b".1");
        cause = Some(redirection.cause);
    }
    entry(print, target, cause, &index, false);
}

fn entry(print: &mut Print, uri: &[u8], cause: Option<Cause>, index: &[u8], is_private: bool) {
    let mut text = uri.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    if let Some(cause) = cause {
        text.extend_from_slice(b";cause=");
        text.extend_from_slice(cause.texts().1.as_bytes());
    }
    if is_private && !matches!(Uri::parse(uri).map(|uri| uri.scheme), Ok(Scheme::Tel)) {
        text.extend_from_slice(b"?Privacy=history");
    }
    print.line(Name::HistoryInfo, |v| {
        v.uri(&text).param(b"index", Some(index));
        if cause.is_some()
            && let Some(dot) = index.iter().rposition(|byte| *byte == b'.')
        {
            v.param(b"mp", index.get(..dot));
        }
    });
}
