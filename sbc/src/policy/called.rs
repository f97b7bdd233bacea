//! Rules about called numbers, by what they begin with: another number instead, digits off the front and
//! others before it, or none at all. Works on international numbers.

use crate::refusal::Refusal;
use routing_trie::{Digits, Rewrite};

/// A rule about called numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CalledRule {
    /// What its numbers begin with; empty for all.
    pub begins: Digits,
    /// They are not called.
    pub block: bool,
    /// Another number in place of them.
    pub replace: Option<Digits>,
    /// Then takes digits off the front and puts others there.
    pub rewrite: Rewrite,
}

/// The number that the first rule for it makes of one; a number without rule stays.
pub fn apply(rules: &[CalledRule], number: Digits) -> Result<Digits, Refusal> {
    let Some(rule) = rules.iter().find(|rule| number.starts_with(rule.begins)) else {
        return Ok(number);
    };
    if rule.block {
        return Err(Refusal::Blocked);
    }
    let number = rule.replace.unwrap_or(number);
    rule.rewrite.apply(number).map_err(|_| Refusal::BadNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_for_a_number_decides() {
        let d = |text: &str| text.parse::<Digits>().expect("digits");
        let rules = [
            CalledRule { begins: d("44900"), block: true, ..CalledRule::default() },
            CalledRule { begins: d("112"), replace: Some(d("49891")), ..CalledRule::default() },
            CalledRule {
                begins: d("44"),
                rewrite: Rewrite { strip: 2, prepend: d("0") },
                ..CalledRule::default()
            },
            CalledRule {
                begins: d("1"),
                rewrite: Rewrite { strip: 9, prepend: d("") },
                ..CalledRule::default()
            },
        ];
        let is = |number, expected: &str| assert_eq!(apply(&rules, d(number)), Ok(d(expected)));
        is("442079460000", "02079460000");
        is("112", "49891");
        is("33123", "33123");
        assert_eq!(apply(&rules, d("449001")), Err(Refusal::Blocked));
        assert_eq!(apply(&rules, d("12")), Err(Refusal::BadNumber));
        assert_eq!(apply(&[], d("12")), Ok(d("12")));
    }
}
