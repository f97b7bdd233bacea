//! Dialled digits: the alphabet of prefixes and numbers, packed four bits each.
//!
//! The alphabet is 0–9, * and #, as a keypad has it (ITU-T E.161). A [`Digits`] holds up to 30 of them
//! in 16 bytes and is `Copy`: E.164 numbers have at most 15, technical prefixes rarely more than six.

use base::record::{Plain, Unreadable};
use core::fmt;
use core::str::FromStr;

/// The most digits a [`Digits`] holds.
pub const MAX_DIGITS: usize = 30;
/// Symbols of the alphabet.
pub const SYMBOLS: usize = 12;

/// A digit string, from left to right.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default)]
pub struct Digits {
    /// First digit in the lowest four bits; what lies beyond `len` is zero.
    packed: u128,
    len: u8,
}

/// Why text or digits make no [`Digits`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NotDigits {
    /// A character outside 0–9, * and #, at this byte.
    Symbol(usize),
    /// More than [`MAX_DIGITS`].
    TooLong,
}

impl core::error::Error for NotDigits {}

impl fmt::Display for NotDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotDigits::Symbol(at) => write!(f, "character {} is none of 0-9 * #", at + 1),
            NotDigits::TooLong => write!(f, "more than {MAX_DIGITS} digits"),
        }
    }
}

/// The value 0..=11 of an ASCII symbol.
#[inline]
pub(crate) const fn symbol(ascii: u8) -> Option<u8> {
    match ascii {
        b'0'..=b'9' => Some(ascii - b'0'),
        b'*' => Some(10),
        b'#' => Some(11),
        _ => None,
    }
}

/// ASCII of eight symbols, which are spread to a byte each and changed all at once.
#[inline]
fn ascii_of_eight(packed: u32) -> [u8; 8] {
    let mut bytes = u64::from(packed);
    bytes = (bytes | bytes << 16) & 0x0000_ffff_0000_ffff;
    bytes = (bytes | bytes << 8) & 0x00ff_00ff_00ff_00ff;
    bytes = (bytes | bytes << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 10 is *, 0x2a; 11 is #, 0x23.
    let above_nine = (bytes + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    let is_eleven = above_nine & bytes;
    (bytes + 0x3030_3030_3030_3030 - 0x10 * above_nine - 8 * is_eleven).to_le_bytes()
}

/// Eight ASCII digits 0-9 as symbols, packed; `None` where anything else is among them.
#[inline]
fn eight_of_ascii(ascii: u64) -> Option<u32> {
    // A digit has a high half of 3, and keeps it when 6 is added.
    let high = 0xf0f0_f0f0_f0f0_f0f0;
    let beyond = ascii.wrapping_add(0x0606_0606_0606_0606);
    if (ascii & high | (beyond & high) >> 4) != 0x3333_3333_3333_3333 {
        return None;
    }
    let mut bytes = ascii & 0x0f0f_0f0f_0f0f_0f0f;
    bytes = (bytes | bytes >> 4) & 0x00ff_00ff_00ff_00ff;
    bytes = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    Some((bytes | bytes >> 16) as u32)
}

/// Digits while they are read, a half of them at hand: a shift of 64 bits is one instruction.
#[derive(Default)]
pub(crate) struct Packer {
    first: u64,
    half: u64,
    len: u8,
}

impl Packer {
    /// Digits that 64 bits hold.
    const HALF: u8 = 16;

    /// Appends a symbol that [`symbol`] gave.
    #[inline]
    pub(crate) fn push(&mut self, symbol: u8) -> Result<(), NotDigits> {
        if usize::from(self.len) == MAX_DIGITS {
            return Err(NotDigits::TooLong);
        }
        self.half |= u64::from(symbol) << (4 * (self.len % Packer::HALF));
        self.len += 1;
        if self.len == Packer::HALF {
            self.first = core::mem::take(&mut self.half);
        }
        Ok(())
    }

    /// What was read.
    #[inline]
    pub(crate) fn digits(self) -> Digits {
        let half = u128::from(self.half);
        let later = if self.len < Packer::HALF { half } else { half << 64 };
        Digits { packed: u128::from(self.first) | later, len: self.len }
    }
}

impl Digits {
    /// Where the length is in [`Digits::to_bits`]: behind the digits.
    const LEN_AT: u32 = 4 * MAX_DIGITS as u32;
    /// No digits.
    pub const EMPTY: Digits = Digits { packed: 0, len: 0 };

    /// Reads ASCII digits; nothing else is allowed, not even separators.
    pub fn parse(text: &[u8]) -> Result<Digits, NotDigits> {
        let mut packer = Packer::default();
        for (at, &byte) in text.iter().enumerate() {
            packer.push(symbol(byte).ok_or(NotDigits::Symbol(at))?)?;
        }
        Ok(packer.digits())
    }

    /// Reads up to 16 digits 0-9 all at once; `None` where there are more, or anything else.
    #[inline]
    pub(crate) fn decimal(text: &[u8]) -> Option<Digits> {
        let mut ascii = [b'0'; 16];
        ascii.get_mut(..text.len())?.copy_from_slice(text);
        let ascii = u128::from_le_bytes(ascii);
        let (first, second) =
            (eight_of_ascii(ascii as u64)?, eight_of_ascii((ascii >> 64) as u64)?);
        let packed = u128::from(first) | u128::from(second) << 32;
        Some(Digits { packed, len: text.len() as u8 })
    }

    /// All of it as a number: the length in the highest eight bits.
    pub fn to_bits(self) -> u128 {
        self.packed | u128::from(self.len) << Digits::LEN_AT
    }

    /// What [`Digits::to_bits`] gave; `None` for anything else.
    pub fn from_bits(bits: u128) -> Option<Digits> {
        let len = (bits >> Digits::LEN_AT) as u8;
        let packed = bits & ((1 << Digits::LEN_AT) - 1);
        let is_within = usize::from(len) <= MAX_DIGITS && packed >> (4 * u32::from(len)) == 0;
        let digits = Digits { packed, len: if is_within { len } else { 0 } };
        let are_symbols = digits.symbols().all(|symbol| usize::from(symbol) < SYMBOLS);
        (is_within && are_symbols).then_some(digits)
    }

    /// Appends a symbol 0..=11; false, and nothing changes, when it is none or there is no room.
    pub fn push(&mut self, symbol: u8) -> bool {
        if usize::from(symbol) >= SYMBOLS || self.len() == MAX_DIGITS {
            return false;
        }
        self.packed |= u128::from(symbol) << (4 * self.len);
        self.len += 1;
        true
    }

    /// Number of digits.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The symbols 0..=11, first first.
    #[inline]
    pub fn symbols(&self) -> impl Iterator<Item = u8> + use<> {
        let mut packed = self.packed;
        (0..self.len).map(move |_| {
            let symbol = packed as u8 & 0x0f;
            packed >>= 4;
            symbol
        })
    }

    /// The first `len` digits; all of them when there are fewer.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Digits {
        let keep = len.min(self.len());
        Digits { packed: self.packed & ((1u128 << (4 * keep)) - 1), len: keep as u8 }
    }

    /// What is left behind the first `len` digits.
    #[must_use]
    pub fn skip(&self, len: usize) -> Digits {
        let drop = len.min(self.len());
        Digits { packed: self.packed >> (4 * drop), len: self.len - drop as u8 }
    }

    /// These digits followed by `tail`; `None` when that is more than [`MAX_DIGITS`].
    #[must_use]
    pub fn join(&self, tail: Digits) -> Option<Digits> {
        (self.len() + tail.len() <= MAX_DIGITS).then_some(Digits {
            packed: self.packed | tail.packed << (4 * self.len),
            len: self.len + tail.len,
        })
    }

    /// Whether `head` is how these digits begin.
    #[inline]
    pub fn starts_with(&self, head: Digits) -> bool {
        let same = (self.packed ^ head.packed).trailing_zeros();
        self.len >= head.len && same >= 4 * u32::from(head.len)
    }

    /// Writes ASCII into `into` and returns the written part.
    #[inline]
    pub fn ascii<'a>(&self, into: &'a mut [u8; MAX_DIGITS]) -> &'a [u8] {
        let halves = [self.packed as u64, (self.packed >> 64) as u64];
        let quarters = halves.map(|half| [half as u32, (half >> 32) as u32]);
        for (eight, packed) in into.chunks_mut(8).zip(quarters.as_flattened()) {
            eight.copy_from_slice(&ascii_of_eight(*packed)[..eight.len()]);
        }
        &into[..self.len()]
    }

    /// The same as text.
    pub fn write<'a>(&self, into: &'a mut [u8; MAX_DIGITS]) -> &'a str {
        // Only ASCII was written, so this never falls back.
        core::str::from_utf8(self.ascii(into)).unwrap_or_default()
    }
}

impl FromStr for Digits {
    type Err = NotDigits;
    fn from_str(text: &str) -> Result<Digits, NotDigits> {
        Digits::parse(text.as_bytes())
    }
}

/// As text: what is not a number's does not read back.
impl Plain for Digits {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.len);
        out.extend_from_slice(self.ascii(&mut [0; MAX_DIGITS]));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let len = usize::from(u8::take(from)?);
        let (head, rest) = from.split_at_checked(len).ok_or(Unreadable::Short)?;
        *from = rest;
        Digits::parse(head).map_err(|_| Unreadable::Value)
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.write(&mut [0; MAX_DIGITS]))
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Ord for Digits {
    /// Dictionary order: a prefix comes before what it begins.
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.symbols().cmp(other.symbols())
    }
}

impl PartialOrd for Digits {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(text: &str) -> Digits {
        text.parse().unwrap()
    }

    #[test]
    fn text_reads_back_and_nothing_else_is_read() {
        let all = "0123456789*#".repeat(3);
        let texts = ["", "0", "*21#", "491711234567", &"9".repeat(MAX_DIGITS)];
        for text in texts.into_iter().chain((0..=MAX_DIGITS).map(|len| &all[..len])) {
            assert_eq!(d(text).to_string(), text);
        }
        assert_eq!("12a".parse::<Digits>(), Err(NotDigits::Symbol(2)));
        assert_eq!("+49".parse::<Digits>(), Err(NotDigits::Symbol(0)));
        assert_eq!("9".repeat(31).parse::<Digits>(), Err(NotDigits::TooLong));
        let mut empty = Digits::EMPTY;
        assert!(!empty.push(12) && empty.is_empty());
    }

    #[test]
    fn bits_read_back_and_nothing_else_is_read() {
        for text in ["", "0", "*21#", "491711234567", &"#".repeat(MAX_DIGITS)] {
            assert_eq!(Digits::from_bits(d(text).to_bits()), Some(d(text)), "{text}");
        }
        let one = d("1").to_bits();
        let longer = one + (30 << Digits::LEN_AT);
        for bits in [one | 12, one | 1 << 4, longer, one << 8, u128::MAX] {
            assert_eq!(Digits::from_bits(bits), None, "{bits:x}");
        }
    }

    #[test]
    fn parts_and_order_are_those_of_the_text() {
        let number = d("0049171");
        assert_eq!((number.prefix(2), number.skip(2)), (d("00"), d("49171")));
        assert_eq!((number.prefix(99), number.skip(99)), (number, Digits::EMPTY));
        assert_eq!(d("00").join(d("49171")), Some(number));
        assert_eq!(d(&"1".repeat(30)).join(d("1")), None);
        assert_eq!(d(&"1".repeat(30)).join(Digits::EMPTY), Some(d(&"1".repeat(30))));
        assert!(number.starts_with(d("00")) && number.starts_with(Digits::EMPTY));
        assert!(!d("00").starts_with(number) && !d("10").starts_with(d("00")));
        let mut all = [d("2"), d("10"), d("1"), d("*1"), d("")];
        all.sort();
        assert_eq!(all, [d(""), d("1"), d("10"), d("2"), d("*1")]);
    }

    proptest! {
        #[test]
        fn eight_at_once_are_read_as_one_by_one(
            text in prop_oneof!["[0-9]{0,18}", "[0-9*#]{0,18}", "[0-9]{0,16}[/:-]", ".{0,17}"],
        ) {
            let mut packer = Packer::default();
            let slowly = text.bytes().try_for_each(|byte| {
                let symbol = symbol(byte).filter(|symbol| *symbol < 10)?;
                packer.push(symbol).ok()
            });
            let slowly = slowly.map(|()| packer.digits()).filter(|_| text.len() <= 16);
            prop_assert_eq!(Digits::decimal(text.as_bytes()), slowly);
        }
    }
}
