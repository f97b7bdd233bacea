//! Money as integers: 1e-9 of a currency's unit ("nano"), ratios of integers, one rounding at the end.
//!
//! Nothing here is a float. A sum is carried exactly as a fraction and divided once, by [`Rounding`].
//! Knows no rates and no accounts.

use core::fmt;
use core::str::FromStr;

/// Nano in one unit of a currency.
pub const NANO: u64 = 1_000_000_000;
/// Digits behind the decimal point that a nano amount has.
pub const NANO_PLACES: u8 = 9;
/// The largest numerator and denominator of a [`Ratio`].
pub const MAX_RATIO: u32 = 1_000_000_000;

/// What becomes of a remainder. Amounts are rounded by their magnitude: down is towards zero.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// Away from zero; nothing stays nothing.
    Up,
    /// Towards zero.
    Down,
    /// To the nearest, a half away from zero.
    #[default]
    HalfUp,
    /// To the nearest, a half to the even neighbour.
    HalfEven,
}

crate::plain!(
    enum Rounding {
        HalfUp = 0,
        HalfEven = 1,
        Up = 2,
        Down = 3,
    }
);

impl Rounding {
    /// Every way, under the name configurations and CDRs have for it.
    pub const NAMES: [(&'static str, Rounding); 4] = [
        ("half_up", Rounding::HalfUp),
        ("half_even", Rounding::HalfEven),
        ("up", Rounding::Up),
        ("down", Rounding::Down),
    ];

    /// `numerator / denominator` as a whole number. `denominator` must be above zero; zero gives zero.
    pub fn divide(self, numerator: i128, denominator: i128) -> i128 {
        debug_assert!(denominator > 0, "a fraction has a denominator");
        if denominator <= 0 {
            return 0;
        }
        let (whole, rest) = (numerator / denominator, (numerator % denominator).abs());
        let away = match self {
            Rounding::Up => rest > 0,
            Rounding::Down => false,
            Rounding::HalfUp => rest >= denominator - rest,
            Rounding::HalfEven => {
                rest > denominator - rest || (rest == denominator - rest && whole % 2 != 0)
            }
        };
        if away { whole + numerator.signum() } else { whole }
    }
}

/// A currency by its ISO 4217 letters.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// United States dollar: what is not said otherwise.
    pub const USD: Currency = Currency(*b"USD");

    /// Its three letters.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters are ever stored.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Default for Currency {
    fn default() -> Self {
        Currency::USD
    }
}

impl FromStr for Currency {
    type Err = NotMoney;
    fn from_str(text: &str) -> Result<Currency, NotMoney> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| NotMoney)?;
        let letters = letters.map(|b| b.to_ascii_uppercase());
        letters.iter().all(u8::is_ascii_uppercase).then_some(Currency(letters)).ok_or(NotMoney)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl crate::record::Plain for Currency {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(from: &mut &[u8]) -> Result<Self, crate::record::Unreadable> {
        let (head, rest) = from.split_first_chunk::<3>().ok_or(crate::record::Unreadable::Short)?;
        *from = rest;
        let text = core::str::from_utf8(head).ok().and_then(|t| t.parse().ok());
        text.ok_or(crate::record::Unreadable::Value)
    }
}

/// The text is no amount, ratio or currency that fits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NotMoney;

impl core::error::Error for NotMoney {}

impl fmt::Display for NotMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decimal number with at most nine digits behind the point")
    }
}

/// Reads a decimal number, such as `0.0125`, as nano: digits, at most one point, at most nine digits
/// behind it. A tenth digit is taken when it is zero; nothing is rounded.
pub fn read_nano(text: &str) -> Result<u64, NotMoney> {
    read_scaled(text.as_bytes(), usize::from(NANO_PLACES))
}

fn read_scaled(text: &[u8], places: usize) -> Result<u64, NotMoney> {
    let mut value: u64 = 0;
    let (mut digits, mut behind) = (0, None);
    for &byte in text {
        match byte {
            b'.' if behind.is_none() => behind = Some(0),
            b'0' if behind == Some(places) => digits += 1,
            b'0'..=b'9' if behind != Some(places) => {
                let digit = u64::from(byte - b'0');
                value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(NotMoney)?;
                behind = behind.map(|n| n + 1);
                digits += 1;
            }
            _ => return Err(NotMoney),
        }
    }
    let missing = (places - behind.unwrap_or(0)) as u32;
    let scaled = value.checked_mul(10u64.pow(missing)).ok_or(NotMoney)?;
    if digits == 0 { Err(NotMoney) } else { Ok(scaled) }
}

/// A ratio of integers: exchange rates, and whatever else must not drift.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ratio {
    num: u32,
    den: u32,
}

impl Ratio {
    /// One to one.
    pub const ONE: Ratio = Ratio { num: 1, den: 1 };

    /// `num : den` in lowest terms; both 1..=[`MAX_RATIO`] then.
    pub fn new(num: u64, den: u64) -> Option<Ratio> {
        let (mut a, mut b) = (num, den);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let part = |n: u64| u32::try_from(n.checked_div(a)?).ok().filter(|n| *n <= MAX_RATIO);
        let (num, den) = (part(num)?, part(den)?);
        (num > 0 && den > 0).then_some(Ratio { num, den })
    }

    /// The upper number, 1..=[`MAX_RATIO`].
    pub fn num(self) -> u32 {
        self.num
    }

    /// The lower number, 1..=[`MAX_RATIO`].
    pub fn den(self) -> u32 {
        self.den
    }
}

impl FromStr for Ratio {
    type Err = NotMoney;
    /// `1.0842`, or `a/b` of whole numbers.
    fn from_str(text: &str) -> Result<Ratio, NotMoney> {
        let ratio = match text.split_once('/') {
            Some((a, b)) => {
                Ratio::new(read_scaled(a.as_bytes(), 0)?, read_scaled(b.as_bytes(), 0)?)
            }
            None => Ratio::new(read_nano(text)?, NANO),
        };
        ratio.ok_or(NotMoney)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

crate::plain!(struct Ratio { num, den });

/// An amount with so many digits behind the point, printed as decimal text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// Whole number of the smallest digit.
    pub units: i64,
    /// Digits behind the point, 0..=9.
    pub places: u8,
}

impl Decimal {
    /// A nano amount, with all its digits.
    pub fn nano(units: i64) -> Decimal {
        Decimal { units, places: NANO_PLACES }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.places.min(NANO_PLACES));
        let scale = 10u64.pow(places as u32);
        let (whole, rest) = (self.units.unsigned_abs() / scale, self.units.unsigned_abs() % scale);
        let sign = if self.units < 0 { "-" } else { "" };
        match places {
            0 => f.pad(&format!("{sign}{whole}")),
            _ => f.pad(&format!("{sign}{whole}.{rest:0places$}")),
        }
    }
}

/// A nano amount as the shortest decimal text that says all of it: `0.0125`.
pub fn print_nano(nano: i128) -> String {
    let (whole, rest) =
        (nano.unsigned_abs() / u128::from(NANO), nano.unsigned_abs() % u128::from(NANO));
    let sign = if nano < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{rest:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_go_where_the_rounding_says() {
        // Tenths: what 2.5, -2.5, 2.4, 3.5 and 0 become.
        let rows = [
            (Rounding::Up, [3, -3, 3, 4, 0]),
            (Rounding::Down, [2, -2, 2, 3, 0]),
            (Rounding::HalfUp, [3, -3, 2, 4, 0]),
            (Rounding::HalfEven, [2, -2, 2, 4, 0]),
        ];
        for (rounding, expected) in rows {
            assert_eq!(
                [25, -25, 24, 35, 0].map(|n| rounding.divide(n, 10)),
                expected,
                "{rounding:?}"
            );
        }
        assert_eq!(Rounding::HalfEven.divide(26, 10), 3);
        assert_eq!(Rounding::HalfUp.divide(i128::MAX, i128::MAX), 1);
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        let good =
            [("0.0125", 12_500_000), ("1", NANO), (".5", NANO / 2), ("2.", 2 * NANO), ("0", 0)];
        for (text, nano) in good {
            assert_eq!(read_nano(text), Ok(nano), "{text}");
        }
        assert_eq!(read_nano("0.0000000010"), Ok(1), "a tenth digit that says nothing");
        assert_eq!(read_nano("18446744073.709551615"), Ok(u64::MAX));
        for text in
            ["", ".", "-1", "+1", "1e3", "1,5", "0.0000000001", "1.2.3", "18446744073.709551616"]
        {
            assert_eq!(read_nano(text), Err(NotMoney), "{text}");
        }
    }

    #[test]
    fn text_says_all_of_an_amount() {
        assert_eq!(Decimal { units: -1_205, places: 2 }.to_string(), "-12.05");
        assert_eq!(Decimal { units: 7, places: 0 }.to_string(), "7");
        assert_eq!(Decimal::nano(12_500_000).to_string(), "0.012500000");
        assert_eq!(print_nano(12_500_000), "0.0125");
        assert_eq!((print_nano(0), print_nano(-3_000_000_000)), ("0".into(), "-3".into()));
    }

    #[test]
    fn ratios_are_in_lowest_terms_and_bounded() {
        let ratio = |text: &str| text.parse::<Ratio>();
        assert_eq!(ratio("1.0842"), Ok(Ratio { num: 5421, den: 5000 }));
        assert_eq!(ratio("10842/10000"), ratio("1.0842"));
        assert_eq!(ratio("1"), Ok(Ratio::ONE));
        assert!(Ratio::new(u64::from(MAX_RATIO), 1).is_some());
        assert_eq!(Ratio::new(u64::from(MAX_RATIO) + 1, 1), None);
        for bad in ["0", "1/0", "0/1", "-1", "x"] {
            assert_eq!(ratio(bad), Err(NotMoney), "{bad}");
        }
    }

    #[test]
    fn currencies_are_three_letters() {
        assert_eq!("eur".parse::<Currency>().map(|c| c.to_string()), Ok("EUR".into()));
        for bad in ["", "EU", "EURO", "E1R", "€"] {
            assert_eq!(bad.parse::<Currency>(), Err(NotMoney), "{bad}");
        }
    }
}
