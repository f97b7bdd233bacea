//! Our tags: they name the home, the call, the leg and the early dialog, and cannot be guessed.

use crate::transaction::{hex, unhex};
use base::{Home, Key, plain};

/// A tag of ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Home of the call.
    pub home: u8,
    /// The call.
    pub call: Key,
    /// The leg.
    pub leg: u8,
    /// Which early dialog of the leg (RFC 3261 12.1.1 as seen by the caller), from 0.
    pub fork: u8,
    /// Unguessable part.
    pub secret: u64,
}

const TAG_LEN: usize = 2 + 8 + 8 + 2 + 2 + 16;

impl Tag {
    /// As it stands in From and To.
    pub fn text(&self) -> [u8; TAG_LEN] {
        let mut out = Vec::with_capacity(TAG_LEN);
        self.print(&mut out);
        out.try_into().unwrap_or([b'0'; TAG_LEN])
    }

    /// Appends the text.
    pub fn print(&self, out: &mut Vec<u8>) {
        hex(u64::from(self.home), 2, out);
        hex(u64::from(self.call.index), 8, out);
        hex(u64::from(self.call.generation), 8, out);
        hex(u64::from(self.leg), 2, out);
        hex(u64::from(self.fork), 2, out);
        hex(self.secret, 16, out);
    }

    /// Reads a tag of ours back; `None` for anybody else's.
    pub fn parse(text: &[u8]) -> Option<Tag> {
        if text.len() != TAG_LEN {
            return None;
        }
        Some(Tag {
            home: unhex(text.get(0..2)?)? as u8,
            call: Key {
                index: unhex(text.get(2..10)?)? as u32,
                generation: unhex(text.get(10..18)?)? as u32,
            },
            leg: unhex(text.get(18..20)?)? as u8,
            fork: unhex(text.get(20..22)?)? as u8,
            secret: unhex(text.get(22..38)?)?,
        })
    }

    /// The home that owns the dialog.
    pub fn home(&self) -> Home {
        Home(self.home)
    }
}

plain!(struct Tag { home, call, leg, fork, secret });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_back() {
        let tag =
            Tag { home: 0x7f, call: Key { index: 5, generation: 9 }, leg: 1, fork: 2, secret: 77 };
        assert_eq!(Tag::parse(&tag.text()), Some(tag));
        assert_eq!(Tag::parse(b"1928301774"), None);
    }
}
