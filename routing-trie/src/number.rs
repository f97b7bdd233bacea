//! Numbers as they are dialled, made international (ITU-T E.164), and the rules that rewrite them.

use crate::digits::{Digits, NotDigits, Packer};

/// How numbers are dialled where they come from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DialPlan {
    /// Dialled before a country code: `00` in most of the world, `011` in North America. Empty: none.
    pub international: Digits,
    /// Dialled before an area code: `0` in most of Europe, `1` in North America. Empty: none, and
    /// numbers without international prefix stay as they are.
    pub trunk: Digits,
    /// The country code that stands in for the trunk prefix.
    pub country: Digits,
}

/// How a number was understood.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It began with + or the international prefix.
    International,
    /// It began with the trunk prefix, and now begins with the country code.
    National,
    /// None of these: left as dialled (short codes, numbers in E.164 already).
    AsDialled,
}

/// A number ready for routing: no +, no international prefix.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its digits.
    pub digits: Digits,
    /// How it was understood.
    pub kind: Kind,
}

impl Default for DialPlan {
    /// International prefix `00`, no trunk prefix.
    fn default() -> Self {
        let mut international = Digits::EMPTY;
        international.push(0);
        international.push(0);
        DialPlan { international, trunk: Digits::EMPTY, country: Digits::EMPTY }
    }
}

impl DialPlan {
    /// Reads a number as it stands in a SIP or tel URI: an optional +, then digits. The visual
    /// separators of RFC 3966 §5.1.1 (`-`, `.`, `(`, `)`) are skipped; anything else is refused.
    pub fn read(&self, text: &[u8]) -> Result<Number, NotDigits> {
        let (plus, rest) = match text.strip_prefix(b"+") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let dialled = match Digits::decimal(rest) {
            Some(dialled) => dialled,
            None => spelt(rest, usize::from(plus))?,
        };
        if plus {
            return Ok(Number { digits: dialled, kind: Kind::International });
        }
        self.understand(dialled)
    }

    fn understand(&self, dialled: Digits) -> Result<Number, NotDigits> {
        let begins = |head: Digits| !head.is_empty() && dialled.starts_with(head);
        if begins(self.international) {
            return Ok(Number {
                digits: dialled.skip(self.international.len()),
                kind: Kind::International,
            });
        }
        if begins(self.trunk) {
            let national = dialled.skip(self.trunk.len());
            return Ok(Number {
                digits: self.country.join(national).ok_or(NotDigits::TooLong)?,
                kind: Kind::National,
            });
        }
        Ok(Number { digits: dialled, kind: Kind::AsDialled })
    }
}

/// Digits of any kind, with separators among them, which begin at a place of the text.
#[cold]
fn spelt(text: &[u8], begin: usize) -> Result<Digits, NotDigits> {
    let mut dialled = Packer::default();
    for (at, &byte) in (begin..).zip(text) {
        if matches!(byte, b'-' | b'.' | b'(' | b')') {
            continue;
        }
        dialled.push(crate::digits::symbol(byte).ok_or(NotDigits::Symbol(at))?)?;
    }
    Ok(dialled.digits())
}

/// A rule that changes how a number begins: `strip` digits go, `prepend` comes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Digits taken off the front, 0..=30.
    pub strip: u8,
    /// Digits put before what is left.
    pub prepend: Digits,
}

/// Why a rule does not apply to a number.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CannotRewrite {
    /// It has fewer digits than the rule strips.
    TooShort,
    /// The result would have more than [`crate::MAX_DIGITS`].
    TooLong,
}

impl Rewrite {
    /// The number with its beginning changed. Works in the 16 bytes of the digits themselves.
    pub fn apply(&self, number: Digits) -> Result<Digits, CannotRewrite> {
        let strip = usize::from(self.strip);
        if strip == 0 && self.prepend.is_empty() {
            return Ok(number);
        }
        if strip > number.len() {
            return Err(CannotRewrite::TooShort);
        }
        self.prepend.join(number.skip(strip)).ok_or(CannotRewrite::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Digits {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_become_international() {
        let germany = DialPlan { international: d("00"), trunk: d("0"), country: d("49") };
        let rows = [
            ("+491711234567", "491711234567", Kind::International),
            ("+49-(171).1234567", "491711234567", Kind::International),
            ("00491711234567", "491711234567", Kind::International),
            ("01711234567", "491711234567", Kind::National),
            ("110", "110", Kind::AsDialled),
            ("*21#", "*21#", Kind::AsDialled),
            ("", "", Kind::AsDialled),
        ];
        for (text, digits, kind) in rows {
            let number = Number { digits: d(digits), kind };
            assert_eq!(germany.read(text.as_bytes()), Ok(number), "{text}");
        }
        let number = DialPlan::default().read(b"0171").unwrap();
        assert_eq!((number.digits, number.kind), (d("0171"), Kind::AsDialled));
        for (bad, at) in [("+49 171", 3), ("4+9", 1), ("++49", 1), ("49\r\n", 2), ("4\u{665}", 1)] {
            assert_eq!(germany.read(bad.as_bytes()), Err(NotDigits::Symbol(at)), "{bad}");
        }
        assert_eq!(germany.read(&[b'1'; 31]), Err(NotDigits::TooLong));
        assert_eq!(germany.read(&[b'0'; 31]), Err(NotDigits::TooLong));
    }

    #[test]
    fn rewriting_strips_then_prepends_within_its_bounds() {
        let rule = |strip, prepend| Rewrite { strip, prepend: d(prepend) };
        assert_eq!(rule(2, "0").apply(d("49171")), Ok(d("0171")));
        assert_eq!(rule(0, "7788#").apply(d("49171")), Ok(d("7788#49171")));
        assert_eq!(rule(5, "").apply(d("49171")), Ok(Digits::EMPTY));
        assert_eq!(rule(6, "").apply(d("49171")), Err(CannotRewrite::TooShort));
        let long = d(&"1".repeat(30));
        assert_eq!(rule(0, "1").apply(long), Err(CannotRewrite::TooLong));
        assert_eq!(rule(1, "2").apply(long), Ok(d(&format!("2{}", "1".repeat(29)))));
        assert_eq!(Rewrite::default().apply(long), Ok(long));
    }
}
