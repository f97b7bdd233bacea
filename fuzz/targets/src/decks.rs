//! Decks: any file is read or refused, and what was read is exported so that it reads back the same.

use routing_trie::deck::{Duplicates, Options, export, import};
use routing_trie::market::Entry;
use routing_trie::{Digits, Market};

/// A deck as CSV: import, export, import again; then merged and asked.
pub fn deck(data: &[u8]) {
    let duplicates = Duplicates::LatestWins;
    let options = Options { duplicates, partial: true, ..Options::default() };
    let Ok(found) = import(data, &options) else { return };
    let deck = found.deck;
    let text = export(&deck);
    let again = match import(text.as_bytes(), &Options::default()) {
        Ok(again) => again.deck,
        Err(why) => panic!("an export is refused: {why}\n{text}"),
    };
    assert_eq!(export(&again), text);
    let profiles = vec![1; deck.profiles().count()];
    let fx = base::money::Ratio::ONE;
    let entry = Entry { deck: &deck, fx, profiles: &profiles };
    let Ok(market) = Market::compile(&[entry], 0, 60_000) else { return };
    for (code, _) in deck.rows().take(100) {
        let number: Digits = code.digits();
        market.gather(number, |depth, bid| {
            assert!(depth <= number.len());
            let _any = market.offers().in_force(bid.offer, |_| true);
        });
    }
}
