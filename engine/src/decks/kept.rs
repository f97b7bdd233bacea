//! The book as it was compiled last, kept beside the decks: a start need not read and merge ten million
//! rows again.
//!
//! It is a copy and may be deleted. It is used when it was made of the same generations on the same
//! terms and nothing has come into force since; else, or when it is damaged, the decks are read.

use base::money::Currency;
use base::record::{self, Plain};
use routing_trie::{Market, Tariff};
use sbc::policy::plan::{Book, Edition};
use std::path::{Path, PathBuf};

/// Version of the layout.
const VERSION: u16 = 3;
/// The largest book that is kept: a record counts its bytes in 32 bits.
const MOST: usize = u32::MAX as usize;

/// What a book was made of, and how long it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Everything that decides what is in it, as text.
    pub(super) key: String,
    /// When, seconds since the Unix epoch.
    pub(super) made_at: i64,
    /// When a row of its decks begins or ends next.
    pub(super) next_change: Option<i64>,
}

fn file(dir: &Path) -> PathBuf {
    dir.join(".book")
}

/// Keeps a book. Not synced: what a loss of power tears is noticed and made again.
pub(super) fn write(dir: &Path, origin: &Origin, book: &Book) -> std::io::Result<()> {
    let Some(market) = &book.market else { return Ok(()) };
    if market.bytes() + book.sold.iter().map(|(_, t)| t.bytes()).sum::<usize>() > MOST / 2 {
        return Ok(());
    }
    let mut out = Vec::new();
    record::seal_with(VERSION, &mut out, |out| {
        Box::<[u8]>::from(origin.key.as_bytes()).put(out);
        (origin.made_at, origin.next_change).put(out);
        currencies(book).put(out);
        market.put(out);
        (book.sold.len() as u32).put(out);
        book.sold.iter().for_each(|(_, tariff)| tariff.put(out));
    });
    let fresh = dir.join(".book.new");
    std::fs::write(&fresh, &out)?;
    std::fs::rename(&fresh, file(dir))
}

/// Currencies of the decks, bought ones first: the rest of an edition is told from outside.
fn currencies(book: &Book) -> Vec<Currency> {
    let sold = book.sold.iter().map(|(edition, _)| edition);
    book.bought.iter().chain(sold).map(|edition| edition.currency).collect()
}

/// A record: key, when it was made and until when it holds; currencies; what is bought and sold.
type Layout = ((Box<[u8]>, (i64, Option<i64>)), (Vec<Currency>, (Market, Vec<Tariff>)));

/// The kept book, if it is of these decks and holds now. `edition` tells the rest of each deck's edition
/// by its place, bought ones first.
pub(super) fn read(
    dir: &Path,
    key: &str,
    now: i64,
    edition: impl Fn(usize, Currency) -> Option<Edition>,
) -> Option<(Origin, Book)> {
    let bytes = std::fs::read(file(dir)).ok()?;
    let (((kept, (made_at, next_change)), (currencies, (market, tariffs))), _): (Layout, usize) =
        record::open(VERSION, &bytes).ok()?;
    let origin = Origin { key: String::from_utf8(kept.into()).ok()?, made_at, next_change };
    let holds = origin.made_at <= now && origin.next_change.is_none_or(|change| now < change);
    if origin.key != key || !holds {
        return None;
    }
    let editions = currencies.iter().enumerate().map(|(at, currency)| edition(at, *currency));
    let mut bought: Vec<Edition> = editions.collect::<Option<_>>()?;
    let vendors = market.vendors();
    if bought.len() != vendors + tariffs.len() {
        return None;
    }
    let sold = bought.split_off(vendors).into_iter().zip(tariffs).collect();
    Some((origin, Book { market: Some(market), bought, sold }))
}
