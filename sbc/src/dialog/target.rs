//! The dialog a Target-Dialog names (RFC 4538): one that the sender of a request outside any dialog shares with
//! us, which tells whose request it is and what it is about.

use super::Tag;
use crate::message::{Message, Name};

/// A dialog of ours with the sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Target<'m> {
    /// Call-ID.
    pub call_id: &'m [u8],
    /// Our tag.
    pub ours: Tag,
    /// The peer's tag.
    pub theirs: &'m [u8],
}

impl<'m> Target<'m> {
    /// The one a request names. A dialog that is not ours, and what cannot be read, are as good as none (RFC
    /// 4538 4): then the request speaks for itself.
    pub fn of(request: &Message<'m>) -> Option<Target<'m>> {
        let mut values = request.all(Name::TargetDialog);
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?;
        let (mut local, mut remote) = (None, None);
        for part in parts {
            let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
            let (name, value) = (part.get(..at)?, part.get(at + 1..).unwrap_or_default());
            match () {
                () if name.eq_ignore_ascii_case(b"local-tag") => local = Some(value),
                () if name.eq_ignore_ascii_case(b"remote-tag") => remote = Some(value),
                () => {}
            }
        }
        // Local is whoever reads it; not everybody writes it so, and nobody else's tag looks like ours.
        let (local, remote) = (local?, remote?);
        let found = Tag::parse(local).map(|ours| (ours, remote));
        let (ours, theirs) = found.or_else(|| Some((Tag::parse(remote)?, local)))?;
        Some(Target { call_id, ours, theirs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, parse};
    use base::Key;

    #[test]
    fn the_tag_that_is_ours_is_found_on_either_side() {
        let key = Key { index: 3, generation: 1 };
        let tag = Tag { home: 7, call: key, leg: 1, fork: 0, secret: 99 };
        let text = tag.text();
        let ours = core::str::from_utf8(&text).expect("text");
        let cases = [
            (format!("c1;local-tag={ours};remote-tag=x"), true),
            (format!("c1 ; Remote-Tag={ours} ; LOCAL-TAG=x;more"), true),
            (format!("c1;local-tag={ours}"), false),
            (format!(";local-tag={ours};remote-tag=x"), false),
            ("c1;local-tag=y;remote-tag=x".to_owned(), false),
            (format!("c1;local-tag={ours};remote-tag=x\r\nTarget-Dialog: c2"), false),
        ];
        for (value, is_ours) in cases {
            let text = format!(
                "REFER sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:a@b>\r\nCall-ID: r1\r\nCSeq: 1 REFER\r\nTarget-Dialog: {value}\r\n\r\n"
            );
            let mut index = Index::new();
            let Ok(message) = parse(text.as_bytes(), &mut index) else { panic!("{value}") };
            let expected = Target { call_id: b"c1", ours: tag, theirs: b"x" };
            assert_eq!(Target::of(&message), is_ours.then_some(expected), "{value}");
        }
    }
}
