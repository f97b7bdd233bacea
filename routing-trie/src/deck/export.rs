//! A deck as CSV that [`super::import`] reads back to the same deck.
//!
//! Names a spreadsheet would take for a formula get an apostrophe before them.

use super::date::print;
use super::{Deck, Offer, Terms};
use crate::rate::Rate;
use base::money::print_nano;
use core::fmt::Write;

/// The heading: every column an export has.
pub(super) const HEADING: &str = "code,name,currency,rate,first_rate,connect_fee,attempt_fee,first_s,\
                                  first_until_s,increment_s,grace_s,from,until,status,time,origin";

/// The deck as CSV, one row a line.
pub fn export(deck: &Deck) -> String {
    let mut out = String::with_capacity(64 * deck.len() + HEADING.len() + 1);
    out.push_str(HEADING);
    out.push('\n');
    // Rows share their terms: what follows the code is printed once for each.
    let mut tails: Vec<Option<String>> = vec![None; deck.terms.len()];
    for row in &deck.rows {
        let Some(tail) = tails.get_mut(row.terms as usize) else { continue };
        let terms = deck.terms.get(row.terms as usize);
        let tail = tail.get_or_insert_with(|| terms.map_or_else(String::new, |t| cells(deck, t)));
        let _infallible = writeln!(out, "{}{tail}", row.code);
    }
    out
}

fn cells(deck: &Deck, terms: &Terms) -> String {
    let mut out = format!(",{},{}", quoted(deck.name(terms)), deck.currency);
    match terms.offer {
        Offer::Open(rate) => out.push_str(&rate_cells(&rate)),
        Offer::Closed | Offer::Blocked => out.push_str(&",".repeat(8)),
    }
    let moment = |at: Option<i64>| at.map(print).unwrap_or_default();
    let status = match terms.offer {
        Offer::Open(_) => "open",
        Offer::Closed => "closed",
        Offer::Blocked => "blocked",
    };
    let (from, until) = (moment(terms.from), moment(terms.until));
    let (time, origin) = deck.time_and_origin(terms);
    let (time, origin) = (quoted(time), quoted(origin));
    let _infallible = write!(out, ",{from},{until},{status},{time},{origin}");
    out
}

fn rate_cells(rate: &Rate) -> String {
    let nano = |n: u64| print_nano(i128::from(n));
    format!(
        ",{},{},{},{},{},{},{},{}",
        nano(rate.next.nano_per_min),
        nano(rate.first.nano_per_min),
        nano(rate.connect_fee_nano),
        nano(rate.attempt_fee_nano),
        rate.first.increment_s,
        rate.first_until_s,
        rate.next.increment_s,
        rate.grace_s
    )
}

/// Whether a spreadsheet would compute a cell that begins like this (or has our own mark already).
pub(super) fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\''])
}

fn quoted(text: &str) -> String {
    let mark = if is_formula(text) { "'" } else { "" };
    match text.contains([',', '"', '\n', '\r', ';', '\t', '|']) || text.trim() != text {
        true => format!("\"{mark}{}\"", text.replace('"', "\"\"")),
        false => format!("{mark}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, import};
    use super::*;
    use proptest::prelude::*;

    /// Rows of a file in our own form, some of them of one code.
    fn files() -> impl Strategy<Value = String> {
        let row = (
            "[0-9*#]{1,6}",
            "[ -~é]{0,8}",
            prop_oneof![Just("open"), Just("closed"), Just("blocked")],
            (0u64..100_000_000_000_000, 0u64..9, 1u16..3_600, 1u16..60, 0u16..3),
            prop::option::of(0i64..2_000_000_000),
            prop::option::of(2_000_000_001i64..4_000_000_000),
            prop_oneof![Just(""), Just("peak"), Just("night, long"), Just("=noon")],
            prop_oneof![3 => Just(""), 1 => Just("intra"), 1 => Just("-eu")],
        );
        prop::collection::vec(row, 1..40).prop_map(|rows| {
            let mut text = format!("{HEADING}\n");
            for (code, name, status, (rate, fee, first, next, grace), from, until, time, origin) in
                rows
            {
                let moment = |at: Option<i64>| at.map(print).unwrap_or_default();
                let _infallible = writeln!(
                    text,
                    "{code},{},EUR,{},{},{},0,{first},{first},{next},{grace},{},{},{status},{},{}",
                    quoted(name.trim()),
                    print_nano(i128::from(rate)),
                    print_nano(i128::from(rate / 2)),
                    print_nano(i128::from(fee)),
                    moment(from),
                    moment(until),
                    quoted(time),
                    quoted(origin)
                );
            }
            text
        })
    }

    proptest! {
        #[test]
        fn an_export_reads_back_to_the_same_deck(text in files()) {
            let options = Options { duplicates: super::super::Duplicates::LatestWins, ..Options::default() };
            let deck = import(text.as_bytes(), &options).unwrap().deck;
            let out = export(&deck);
            let again = import(out.as_bytes(), &Options::default()).unwrap().deck;
            let said = |deck: &Deck| -> Vec<String> {
                let row = |(c, t): (super::super::Code, &Terms)| {
                    format!("{c} {:?} {:?} {:?} {} {}", t.offer, t.from, t.until, deck.name(t), deck.profile(t))
                };
                deck.rows().map(row).collect()
            };
            prop_assert_eq!(said(&deck), said(&again));
            prop_assert_eq!(export(&again), out);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _either = import(&bytes, &Options::default());
            let _either = import(&[b"code,rate,from\n".as_slice(), &bytes].concat(), &Options::default());
        }
    }

    #[test]
    fn a_spreadsheet_computes_nothing() {
        let text = "code,rate,name\n44,1,=cmd()\n1,1,'+plus\n";
        let deck = import(text.as_bytes(), &Options::default()).unwrap().deck;
        let out = export(&deck);
        assert!(out.contains(",'=cmd(),") && out.contains(",'+plus,"), "{out}");
        let again = import(out.as_bytes(), &Options::default()).unwrap().deck;
        assert_eq!(
            again.rows().map(|(_, t)| again.name(t).to_owned()).collect::<Vec<_>>(),
            ["+plus", "=cmd()"]
        );
    }
}
