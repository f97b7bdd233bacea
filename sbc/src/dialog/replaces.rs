//! The dialog a Replaces names (RFC 3891): a header field of an INVITE, or one among the headers of a URI
//! (RFC 3261 19.1.1).

use super::Tag;
use crate::message::{Message, Name, Uri, Value};
use base::plain;

/// A Replaces, escapes decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Call-ID of the dialog.
    pub call_id: Vec<u8>,
    /// The tag of whoever gets the Replaces.
    pub to_tag: Vec<u8>,
    /// The tag of its peer.
    pub from_tag: Vec<u8>,
    /// It is to be replaced only while it rings.
    pub early_only: bool,
}

plain!(struct Replaces { call_id, to_tag, from_tag, early_only });

/// Whose dialog of ours a Replaces names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// That with the peer who is to be replaced, as its peer knows it.
    Replaced(Tag),
    /// That with the peer who stays, as its own peer knows it: who is to be replaced is on its other side.
    Staying(Tag),
}

impl Named {
    /// Our tag of that dialog.
    pub fn tag(&self) -> Tag {
        match self {
            Named::Replaced(tag) | Named::Staying(tag) => *tag,
        }
    }
}

impl Replaces {
    /// What an INVITE outside any dialog asks for: `None` for nothing, `Err` for what cannot be read: no
    /// dialog, several, or one to be joined besides (RFC 3891 3, RFC 3911 4).
    pub fn asked(invite: &Message) -> Option<Result<Replaces, ()>> {
        let mut values = invite.all(Name::Replaces);
        let value = values.next()?;
        let is_one = values.next().is_none() && invite.get(Name::Join).is_none();
        Some(Replaces::read(value).filter(|_| is_one).ok_or(()))
    }

    /// Our dialog that it names, to judge by its tags: the sender writes what its reader is to find.
    pub fn named(&self) -> Option<Named> {
        let ours = Tag::parse(&self.to_tag).map(Named::Replaced);
        ours.or_else(|| Tag::parse(&self.from_tag).map(Named::Staying))
    }

    /// Reads the Replaces of a URI; `None` if it has none, or one that cannot be read.
    pub fn of(uri: &Uri) -> Option<Replaces> {
        let mut headers = headers(uri.headers);
        let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case(b"Replaces"))?;
        Replaces::read(&decoded(value)?)
    }

    /// Reads the value of the header field.
    fn read(value: &[u8]) -> Option<Replaces> {
        let mut parts = value.split(|byte| *byte == b';');
        let call_id = parts.next()?.trim_ascii().to_vec();
        let mut found =
            Replaces { call_id, to_tag: Vec::new(), from_tag: Vec::new(), early_only: false };
        for part in parts.map(<[u8]>::trim_ascii) {
            let (name, value) = split_once(part, b'=');
            match name.to_ascii_lowercase().as_slice() {
                b"to-tag" => found.to_tag = value.to_vec(),
                b"from-tag" => found.from_tag = value.to_vec(),
                b"early-only" => found.early_only = true,
                _ => {}
            }
        }
        let is_whole =
            ![&found.call_id, &found.to_tag, &found.from_tag].iter().any(|p| p.is_empty());
        is_whole.then_some(found)
    }

    /// Writes the value of the header field.
    pub fn print(&self, value: &mut Value) {
        value.bytes(&self.call_id).param(b"to-tag", Some(&self.to_tag));
        value.param(b"from-tag", Some(&self.from_tag));
        if self.early_only {
            value.param(b"early-only", None);
        }
    }

    /// Appends `Replaces=...` as it stands in a URI.
    pub fn escape(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Replaces=");
        escape(&self.call_id, out);
        for (name, value) in [("to-tag", &self.to_tag), ("from-tag", &self.from_tag)] {
            out.extend_from_slice(b"%3B");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"%3D");
            escape(value, out);
        }
        if self.early_only {
            out.extend_from_slice(b"%3Bearly-only");
        }
    }
}

/// The headers of a URI, still escaped.
pub fn headers(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    text.split(|byte| *byte == b'&')
        .filter(|h| !h.is_empty())
        .map(|header| split_once(header, b'='))
}

fn split_once(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(i) => (text.get(..i).unwrap_or_default(), text.get(i + 1..).unwrap_or_default()),
        None => (text, &[]),
    }
}

fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        };
        // Nothing a header value cannot hold may come out of an escape.
        if byte.is_ascii_control() {
            return None;
        }
        out.push(byte);
    }
    Some(out)
}

/// Everything but what RFC 3261 25.1 calls unreserved is escaped.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Option<Replaces> {
        Replaces::of(&Uri::parse(uri.as_bytes()).ok()?)
    }

    #[test]
    fn a_replaces_reads_back_as_it_was_escaped() {
        let replaces = Replaces {
            call_id: b"12345@192.0.2.1".to_vec(),
            to_tag: b"a;b".to_vec(),
            from_tag: b"6472".to_vec(),
            early_only: true,
        };
        let mut out = b"sip:c@d?Subject=x&".to_vec();
        replaces.escape(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(
            "Replaces=12345%40192.0.2.1%3Bto-tag%3Da%3Bb%3Bfrom-tag%3D6472%3Bearly-only"
        ));
        // A tag has no semicolon; ours did, so it is cut there.
        assert_eq!(read(&text).unwrap().from_tag, b"6472");
        assert_eq!(read("sip:c@d?replaces=1%3bto-tag=2%3bfrom-tag=3").unwrap().to_tag, b"2");
    }

    #[test]
    fn what_names_no_dialog_is_none() {
        for uri in [
            "sip:c@d",
            "sip:c@d?Subject=x",
            "sip:c@d?Replaces=1%3Bto-tag%3D2",
            "sip:c@d?Replaces=1%0D%0Aevil%3Bto-tag%3D2%3Bfrom-tag%3D3",
            "sip:c@d?Replaces=1%3",
        ] {
            assert_eq!(read(uri), None, "{uri}");
        }
    }
}
