//! What a caller wants kept from others (RFC 3323 4.2, RFC 3325 9.3, RFC 7044 10.1.1).

use crate::message::{Message, Name};

/// The kinds of privacy asked for that call for something of us. `header` and `session` are given to
/// every call: no Via, Contact or media address of one side is ever shown to the other.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Privacy {
    /// `id`: the asserted identity stays within the trust domain.
    pub(crate) id: bool,
    /// `user`: so does what the user agent says of its user.
    pub(crate) user: bool,
    /// `history`: so does whom the call was for before.
    pub(crate) history: bool,
}

impl Privacy {
    /// Reads the Privacy header field; `none` with anything else asks for nothing.
    pub(crate) fn read(message: &Message) -> Privacy {
        let mut privacy = Privacy::default();
        for value in message.options(Name::Privacy).flat_map(|line| line.split(|b| *b == b';')) {
            let is = |word: &str| value.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
            if is("none") {
                return Privacy::default();
            }
            privacy.id |= is("id");
            privacy.user |= is("user");
            privacy.history |= is("history");
        }
        privacy
    }

    /// Whether nobody outside the trust domain may learn who calls. `id` alone speaks of what networks
    /// assert; the number is the same one in From.
    pub(crate) fn hides_caller(self) -> bool {
        self.id || self.user
    }
}
