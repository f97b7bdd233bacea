//! Short strings of fixed size: names and numbers that travel through rings without allocation.

use core::fmt;

/// At most `N` bytes of text; longer input is cut at a character.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Text<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// Text from bytes of any kind: what is not printable ASCII or valid UTF-8 becomes `?`.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut text = Text { len: 0, bytes: [0; N] };
        let lossy = String::from_utf8_lossy(bytes);
        for c in lossy.chars() {
            let c = if c.is_control() || c == char::REPLACEMENT_CHARACTER { '?' } else { c };
            let mut utf8 = [0; 4];
            let encoded = c.encode_utf8(&mut utf8).as_bytes();
            let len = usize::from(text.len);
            if len + encoded.len() > N.min(255) {
                break;
            }
            text.bytes[len..len + encoded.len()].copy_from_slice(encoded);
            text.len += encoded.len() as u8;
        }
        text
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text { len: 0, bytes: [0; N] }
    }
}

impl<const N: usize> From<&str> for Text<N> {
    fn from(s: &str) -> Self {
        Text::from_bytes(s.as_bytes())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_characters_and_hides_controls() {
        assert_eq!(Text::<4>::from("abcdef").as_str(), "abcd");
        assert_eq!(Text::<4>::from("aé€").as_str(), "aé");
        assert_eq!(Text::<8>::from_bytes(b"a\r\n\xff").as_str(), "a???");
    }
}
