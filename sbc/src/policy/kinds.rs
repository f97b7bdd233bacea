//! Which kinds of media a trunk carries.

use crate::sdp::Kind;
use base::record::{Plain, Unreadable};

/// A set of kinds of media.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// None.
    pub const NONE: Kinds = Kinds(0);
    /// All that can be relayed.
    pub const ALL: Kinds = Kinds(0b1_1111);
    /// Kinds by the names they have in `m=` and in the configuration.
    pub const NAMES: [(&str, Kind); 5] = [
        ("audio", Kind::Audio),
        ("image", Kind::Image),
        ("video", Kind::Video),
        ("text", Kind::Text),
        ("application", Kind::Application),
    ];

    /// With one more.
    #[must_use]
    pub fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | bit(kind))
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }

    /// Whether it has one. What goes over TCP, as MSRP does, is in none.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & bit(kind) != 0
    }

    /// As a record has them: five bits.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Kinds::NAMES.into_iter().filter(move |(_, kind)| self.has(*kind)).map(|(name, _)| name)
    }
}

impl Default for Kinds {
    /// Speech and fax.
    fn default() -> Kinds {
        Kinds::NONE.with(Kind::Audio).with(Kind::Image)
    }
}

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Audio => 1,
        Kind::Image => 2,
        Kind::Video => 4,
        Kind::Text => 8,
        Kind::Application => 16,
        Kind::Message | Kind::Other => 0,
    }
}

impl Plain for Kinds {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let kinds = Kinds(u8::take(from)?);
        if kinds.and(Kinds::ALL) == kinds { Ok(kinds) } else { Err(Unreadable::Value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let kinds = Kinds::NONE.with(Kind::Video).with(Kind::Message);
        assert_eq!(kinds.names().collect::<Vec<_>>(), ["video"]);
        assert_eq!(kinds.and(Kinds::default()), Kinds::NONE);
        for (_, kind) in Kinds::NAMES {
            assert!(Kinds::ALL.has(kind) && !Kinds::NONE.has(kind));
        }
        assert!(!Kinds::ALL.has(Kind::Message) && !Kinds::ALL.has(Kind::Other));
        assert_eq!(Kinds::take(&mut &[0x20][..]), Err(Unreadable::Value));
    }
}
