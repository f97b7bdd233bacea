//! Decks: what a vendor asks, or a customer pays, for every code, from when and until when.
//!
//! A deck is plain values, sorted by code; rows share what they say besides it. [`import`] reads one
//! from CSV, [`export`] writes it so that it reads back the same, [`diff`] compares two, [`History`]
//! says which generation is in force. Files and clocks are the caller's.

mod code;
mod date;
mod diff;
mod export;
mod history;
mod import;
mod mapping;

pub use code::{BadCodes, Code, MAX_CELL_CODES, MAX_CODE};
pub use date::{BadDate, DateOrder, print as print_date, read as read_date};
pub use diff::{Change, Diff, Kind, Totals, diff};
pub use export::export;
pub use history::{BadHistory, Event, History};
pub(crate) use import::Fold;
pub use import::{
    Duplicates, Imported, MAX_LINE_ERRORS, Options, Refused, RowError, import, import_with,
};
pub use mapping::{BadMapping, Column, Mapping};

use crate::rate::Rate;
use base::money::Currency;
use core::ops::Range;

/// The most rows of a deck.
pub const MAX_ROWS: usize = 1 << 26;

/// A deck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deck {
    /// What its amounts are in.
    pub currency: Currency,
    /// By code; rows of one code by profile, then by the moment they begin.
    pub(crate) rows: Vec<Row>,
    /// What rows say.
    pub(crate) terms: Vec<Terms>,
    /// Names of destinations; the first is empty.
    pub(crate) names: Vec<Box<str>>,
    /// Names of time profiles; the first is empty and always in force.
    pub(crate) profiles: Vec<Box<str>>,
}

/// A code and what holds for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) code: Code,
    /// Index of `Deck::terms`.
    pub(crate) terms: u32,
}

/// Everything a row says besides its code.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Terms {
    /// What it costs, or why it is not to be had.
    pub offer: Offer,
    /// In force from here, seconds since the Unix epoch; `None` for ever.
    pub from: Option<i64>,
    /// No longer in force from here.
    pub until: Option<i64>,
    /// Time profile: index of the deck's, 0 for always.
    pub(crate) profile: u16,
    /// Destination: index of the deck's names.
    pub(crate) name: u32,
}

/// What a row offers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Offer {
    /// Calls at a rate.
    Open(Rate),
    /// The code is given up: a shorter one may carry its numbers.
    Closed,
    /// Numbers of this code are not carried, whatever a shorter code says.
    Blocked,
}

impl Deck {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What its rows ask for, each once: see [`Deck::profile`].
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.iter().skip(1).map(|p| &**p)
    }

    /// The name a destination has in it.
    pub fn name(&self, terms: &Terms) -> &str {
        self.names.get(terms.name as usize).map_or("", |n| n)
    }

    /// The names of the time profile and of the origin that terms ask for; empty for any.
    pub fn time_and_origin(&self, terms: &Terms) -> (&str, &str) {
        let profile = self.profile(terms);
        profile.split_once('@').unwrap_or((profile, ""))
    }

    /// What terms ask for: the name of a time profile, `@` and that of an origin if there is one; empty for
    /// nothing.
    pub fn profile(&self, terms: &Terms) -> &str {
        self.profiles.get(usize::from(terms.profile)).map_or("", |p| p)
    }

    /// Every row, in order.
    pub fn rows(&self) -> impl Iterator<Item = (Code, &Terms)> {
        self.rows.iter().filter_map(|row| Some((row.code, self.terms.get(row.terms as usize)?)))
    }

    /// Runs of rows of one code, as index ranges.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Code, Range<usize>)> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let (first, rest) = self.rows.get(at..)?.split_first()?;
            let len = 1 + rest.iter().take_while(|r| r.code == first.code).count();
            at += len;
            Some((first.code, at - len..at))
        })
    }

    /// Hands out the terms in force at a moment among rows of one code: the latest begun of each
    /// profile, unless it has ended. Their indexes in `terms`.
    pub(crate) fn in_force<'a>(
        &'a self,
        rows: Range<usize>,
        at: i64,
        mut give: impl FnMut(u32, &'a Terms),
    ) {
        let mut latest: Option<u32> = None;
        let rows = self.rows.get(rows).unwrap_or_default();
        for (place, row) in rows.iter().enumerate() {
            let Some(terms) = self.terms.get(row.terms as usize) else { continue };
            if terms.from.is_none_or(|from| from <= at) {
                latest = Some(row.terms);
            }
            let next = rows.get(place + 1).and_then(|r| self.terms.get(r.terms as usize));
            if next.is_none_or(|next| next.profile != terms.profile) {
                let found = latest.take().and_then(|i| Some((i, self.terms.get(i as usize)?)));
                if let Some((index, terms)) = found
                    && terms.until.is_none_or(|until| at < until)
                    && terms.offer != Offer::Closed
                {
                    give(index, terms);
                }
            }
        }
    }

    /// What holds for a number at a moment: the longest code with anything in force, and all of that.
    /// `None` when no code has.
    pub fn lookup(&self, number: Code, at: i64) -> Option<(Code, Vec<&Terms>)> {
        (0..=number.len()).rev().find_map(|len| {
            let code = number.prefix(len);
            let from = self.rows.partition_point(|r| r.code < code);
            let rows = self.rows.get(from..)?.iter().take_while(|r| r.code == code).count();
            let mut found = Vec::new();
            self.in_force(from..from + rows, at, |_, terms| found.push(terms));
            (!found.is_empty()).then_some((code, found))
        })
    }

    /// The first moment after `at` at which another rate comes into force or one ends.
    pub fn next_change(&self, at: i64) -> Option<i64> {
        let moments = self.terms.iter().flat_map(|t| [t.from, t.until]).flatten();
        moments.filter(|moment| *moment > at).min()
    }
}
