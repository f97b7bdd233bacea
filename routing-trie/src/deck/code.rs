//! Codes: the prefixes of a deck, eight bytes each, in dictionary order; and the cells that list them.

use crate::digits::{Digits, symbol};
use core::fmt;

/// The most digits of a code.
pub const MAX_CODE: usize = 16;
/// The most codes one cell may stand for.
pub const MAX_CELL_CODES: u64 = 10_000;

/// A prefix of at most [`MAX_CODE`] digits. Four bits a digit, the first in the highest, one more than
/// its value: so the order of the numbers is that of a dictionary, and nothing is shorter than it looks.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Code(u64);

/// Why a cell holds no codes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BadCodes {
    /// Nothing in it.
    Empty,
    /// A character that is no digit, separator or range.
    Symbol,
    /// More than [`MAX_CODE`] digits.
    TooLong,
    /// A range whose ends differ in length, fall, or are not of 0-9.
    Range,
    /// More than [`MAX_CELL_CODES`] codes.
    TooMany,
}

impl fmt::Display for BadCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCodes::Empty => f.write_str("the code is empty"),
            BadCodes::Symbol => f.write_str("a code is made of 0-9, * and #"),
            BadCodes::TooLong => write!(f, "a code has at most {MAX_CODE} digits"),
            BadCodes::Range => f.write_str("a range is two codes of equal length, the lower first"),
            BadCodes::TooMany => write!(f, "a cell stands for at most {MAX_CELL_CODES} codes"),
        }
    }
}

impl Code {
    /// The code of every number.
    pub const EMPTY: Code = Code(0);

    /// Reads ASCII digits.
    pub fn parse(text: &[u8]) -> Result<Code, BadCodes> {
        if text.len() > MAX_CODE {
            return Err(BadCodes::TooLong);
        }
        let mut code = 0;
        for (at, &byte) in text.iter().enumerate() {
            let value = u64::from(symbol(byte).ok_or(BadCodes::Symbol)?) + 1;
            code |= value << (60 - 4 * at);
        }
        Ok(Code(code))
    }

    /// The first digits of a number, [`MAX_CODE`] at most.
    pub fn of(number: Digits) -> Code {
        let symbols = number.symbols().take(MAX_CODE).enumerate();
        Code(symbols.fold(0, |code, (at, symbol)| code | (u64::from(symbol) + 1) << (60 - 4 * at)))
    }

    /// Number of digits.
    pub fn len(self) -> usize {
        MAX_CODE - self.0.trailing_zeros() as usize / 4
    }

    /// Whether it is the code of every number.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first `len` digits.
    #[must_use]
    pub fn prefix(self, len: usize) -> Code {
        let drop = 4 * (MAX_CODE - len.min(MAX_CODE)) as u32;
        Code(self.0.checked_shr(drop).and_then(|c| c.checked_shl(drop)).unwrap_or(0))
    }

    /// Whether numbers of `other` are numbers of this code.
    pub fn covers(self, other: Code) -> bool {
        other.prefix(self.len()) == self
    }

    /// As digits.
    pub fn digits(self) -> Digits {
        let mut digits = Digits::EMPTY;
        for at in 0..self.len() {
            digits.push(((self.0 >> (60 - 4 * at)) as u8 & 0x0f).saturating_sub(1));
        }
        digits
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().fmt(f)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Hands out every code of a cell, each behind `country`: `44`, `+44`, `4420; 4421`, `4420-4425`.
pub(super) fn each(
    country: &[u8],
    cell: &[u8],
    mut give: impl FnMut(Code),
) -> Result<(), BadCodes> {
    let country = country.trim_ascii();
    let country = country.strip_prefix(b"+").unwrap_or(country);
    let (mut given, mut left) = (false, MAX_CELL_CODES);
    for part in cell.split(|b| matches!(b, b',' | b';' | b'|' | b'/' | b' ')) {
        let part = part.trim_ascii();
        if part.is_empty() {
            continue;
        }
        given = true;
        let mut ends = part.splitn(2, |b| *b == b'-').map(|e| joined(country, e));
        let first = ends.next().unwrap_or(Err(BadCodes::Empty))?;
        match ends.next() {
            None => {
                left = left.checked_sub(1).ok_or(BadCodes::TooMany)?;
                give(Code::parse(first.as_bytes())?);
            }
            Some(last) => left = range(&first, &last?, left, &mut give)?,
        }
    }
    match given {
        true => Ok(()),
        // A country code alone is a code.
        false if !country.is_empty() => Code::parse(country).map(give),
        false => Err(BadCodes::Empty),
    }
}

/// A code being put together.
struct Joined([u8; MAX_CODE], usize);

impl Joined {
    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

fn joined(country: &[u8], code: &[u8]) -> Result<Joined, BadCodes> {
    let code = code.trim_ascii();
    let code = code.strip_prefix(b"+").unwrap_or(code);
    let len = country.len() + code.len();
    let mut joined = Joined([0; MAX_CODE], len);
    if len > MAX_CODE {
        return Err(BadCodes::TooLong);
    }
    joined.0[..country.len()].copy_from_slice(country);
    joined.0[country.len()..len].copy_from_slice(code);
    if code.is_empty() { Err(BadCodes::Empty) } else { Ok(joined) }
}

fn range(
    first: &Joined,
    last: &Joined,
    left: u64,
    give: &mut impl FnMut(Code),
) -> Result<u64, BadCodes> {
    let (low, high) = (first.as_bytes(), last.as_bytes());
    let number = |text: &[u8]| {
        let digits = text.iter().all(u8::is_ascii_digit);
        let value = text.iter().fold(0u64, |n, b| n * 10 + u64::from(b.wrapping_sub(b'0')));
        digits.then_some(value).ok_or(BadCodes::Range)
    };
    let (from, to) = (number(low)?, number(high)?);
    if low.len() != high.len() || from > to {
        return Err(BadCodes::Range);
    }
    let left = left.checked_sub(to - from + 1).ok_or(BadCodes::TooMany)?;
    let width = low.len();
    for n in from..=to {
        let mut text = [b'0'; MAX_CODE];
        let mut rest = n;
        for place in text[..width].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        give(Code::parse(&text[..width])?);
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(country: &str, cell: &str) -> Result<Vec<String>, BadCodes> {
        let mut codes = Vec::new();
        each(country.as_bytes(), cell.as_bytes(), |c| codes.push(c.to_string()))?;
        Ok(codes)
    }

    #[test]
    fn codes_sort_like_a_dictionary_and_read_back() {
        let texts = ["", "0", "00", "01", "1", "10", "2", "9", "99", "*", "*2", "#"];
        let codes: Vec<Code> = texts.map(|t| Code::parse(t.as_bytes()).unwrap()).into();
        assert!(codes.is_sorted());
        for (code, text) in codes.iter().zip(texts) {
            assert_eq!((code.to_string(), code.len()), (text.to_owned(), text.len()));
            assert_eq!(Code::of(code.digits()), *code);
            assert!(Code::EMPTY.covers(*code) && code.covers(*code));
        }
        assert!(codes[1].covers(codes[2]) && !codes[2].covers(codes[1]));
        assert!(Code::parse(&[b'9'; MAX_CODE]).is_ok());
        assert_eq!(Code::parse(&[b'9'; MAX_CODE + 1]), Err(BadCodes::TooLong));
    }

    #[test]
    fn cells_hold_codes_lists_and_ranges() {
        assert_eq!(cell("", "+44").unwrap(), ["44"]);
        assert_eq!(cell("44", "20; 21,7").unwrap(), ["4420", "4421", "447"]);
        assert_eq!(cell("", "0098-0101").unwrap(), ["0098", "0099", "0100", "0101"]);
        assert_eq!(cell("+44", "").unwrap(), ["44"]);
        let bad = [
            ("", BadCodes::Empty),
            (" ; ", BadCodes::Empty),
            ("44x", BadCodes::Symbol),
            ("20-9", BadCodes::Range),
            ("21-20", BadCodes::Range),
            ("1*-2*", BadCodes::Range),
            ("4-", BadCodes::Empty),
            ("12345678901234567", BadCodes::TooLong),
        ];
        for (text, why) in bad {
            assert_eq!(cell("", text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_cell_stands_for_so_many_codes_and_no_more() {
        assert_eq!(cell("", "10000-19999").map(|c| c.len()), Ok(10_000));
        assert_eq!(cell("", "10000-20000"), Err(BadCodes::TooMany));
        assert_eq!(cell("", "10000-19999;3"), Err(BadCodes::TooMany));
        assert_eq!(cell("", "0000000000000000-9999999999999999"), Err(BadCodes::TooMany));
    }
}
