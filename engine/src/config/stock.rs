//! A configuration with its rates: the decks in force when it is read, and again when others are.

use super::{Config, ConfigErrors, Problem};
use crate::decks::{Stock, Trouble};
use routing_trie::deck::Deck;
use sbc::policy::Image;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in seconds since the Unix epoch.
pub fn wall_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

impl Config {
    /// With the decks in force now. Files stand in for decks of their name.
    pub fn with_decks(&self, now: i64, files: &BTreeMap<String, Deck>) -> Result<Config, Trouble> {
        let stock = Stock::read(&self.rates, &self.image.routing, now, &self.stock, files)?;
        let mut image = Image::clone(&self.image);
        image.book = stock.book.clone();
        Ok(Config { image: Arc::new(image), stock, ..self.clone() })
    }

    /// The same configuration as the next generation, with the decks in force now: calls go on.
    pub fn restock(&self, now: i64) -> Result<Config, Trouble> {
        let mut next = self.with_decks(now, &BTreeMap::new())?;
        Arc::make_mut(&mut next.image).generation += 1;
        Ok(next)
    }

    /// The same for a configuration that was just read; decks that `earlier` has are not read again.
    pub(super) fn stocked(
        mut self,
        name: &str,
        text: &str,
        earlier: &Stock,
    ) -> Result<Config, ConfigErrors> {
        self.stock = earlier.clone();
        if let Some(path) = &self.rates.regions {
            let regions = super::routing::regions(path).map_err(|why| {
                let problem = Problem::new(0..0, format!("the regions cannot be used: {why}"));
                let problem = problem.expected("lines of prefix,region");
                ConfigErrors::new(
                    name,
                    text,
                    vec![problem.help("mend the file that `regions` names")],
                )
            })?;
            Arc::make_mut(&mut self.image).routing.regions = Some(Arc::new(regions));
        }
        self.with_decks(wall_s(), &BTreeMap::new()).map_err(|trouble| {
            let problem = Problem::new(0..0, format!("a deck cannot be used: {trouble}"));
            let problem = problem.help("mend it, or go back with `sbcctl deck rollback`");
            ConfigErrors::new(name, text, vec![problem])
        })
    }
}
