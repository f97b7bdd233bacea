//! Header fields that are lists (RFC 3261 §7.3.1): values of several lines and between commas.

use super::error::{Kind, ParseError};
use super::index::Field;
use super::lex::{self, Cursor};
use super::name_addr::NameAddr;

/// Pieces of one value between commas, trimmed; commas in quotes and angle brackets do not count.
#[derive(Clone, Debug)]
pub struct Commas<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Commas<'a> {
    /// The pieces of a value; an empty value has none.
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: Some(value).filter(|value| !value.is_empty()) }
    }
}

impl<'a> Iterator for Commas<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
        let comma = text.iter().position(|&byte| {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                b'"' if !was_escaped && !bracketed => quoted = !quoted,
                b'\\' if quoted => escaped = !was_escaped,
                b'<' if !quoted => bracketed = true,
                b'>' if !quoted => bracketed = false,
                b',' => return !quoted && !bracketed,
                _ => {}
            }
            false
        });
        self.rest = comma.and_then(|comma| text.get(comma + 1..));
        Some(lex::trim(text.get(..comma.unwrap_or(text.len())).unwrap_or_default()))
    }
}

/// Addresses of all header fields of one name; ends after the first error.
#[derive(Clone)]
pub struct NameAddrs<'a> {
    bytes: &'a [u8],
    fields: std::slice::Iter<'a, Field>,
    name: super::Name,
    cursor: Option<Cursor<'a>>,
}

impl<'a> NameAddrs<'a> {
    pub(crate) fn new(bytes: &'a [u8], fields: &'a [Field], name: super::Name) -> Self {
        Self { bytes, fields: fields.iter(), name, cursor: None }
    }

    fn fail(&mut self, error: ParseError) -> Option<Result<NameAddr<'a>, ParseError>> {
        self.fields = [].iter();
        self.cursor = None;
        Some(Err(error))
    }
}

impl<'a> Iterator for NameAddrs<'a> {
    type Item = Result<NameAddr<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => {
                let name = self.name;
                let field = self.fields.find(|field| field.name == name)?;
                Cursor::new(field.value.of(self.bytes))
            }
        };
        let base = lex::offset_in(self.bytes, cursor.text);
        match NameAddr::next(&mut cursor) {
            Err(error) => self.fail(error.moved(base)),
            Ok(address) => {
                if cursor.separator(b',') {
                    self.cursor = Some(cursor);
                } else if !cursor.rest().is_empty() {
                    return self.fail(ParseError::new(base + cursor.at, Kind::NameAddr));
                }
                Some(Ok(address))
            }
        }
    }
}

impl std::fmt::Debug for NameAddrs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NameAddrs").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_split_outside_quotes_and_brackets() {
        let pieces: Vec<_> = Commas::new(b"a , \"b,\\\",c\", <d,e>;f,").collect();
        assert_eq!(pieces, [&b"a"[..], b"\"b,\\\",c\"", b"<d,e>;f", b""]);
        assert_eq!(Commas::new(b"").count(), 0);
        assert_eq!(Commas::new(b"a").count(), 1);
    }
}
