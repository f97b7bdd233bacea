//! One configuration after another: what calls name by number stays what it was.
//!
//! A trunk keeps its number by its name, so its counters go on and calls find it. One that is gone stays
//! under its number, retired: no call comes in or goes out by it any more, and those that are on it end
//! by what it said last. Numbers are never given to another trunk. Interfaces do not change.

use super::{Image, MAX_TRUNKS, Sources};
use std::collections::BTreeMap;

/// There were more trunks since the start than numbers for them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooManyTrunks;

impl Image {
    /// This configuration as the successor of `old`.
    pub fn after(mut self, old: &Image) -> Result<Image, TooManyTrunks> {
        let ids: BTreeMap<_, _> = old.trunks.iter().map(|t| t.name.clone()).zip(0..).collect();
        let mut trunks = old.trunks.clone();
        trunks.iter_mut().for_each(|trunk| (trunk.retired, trunk.customer) = (true, None));
        let mut id_of = Vec::new();
        for trunk in self.trunks {
            let id = ids.get(&trunk.name).copied().unwrap_or(trunks.len());
            match trunks.get_mut(id) {
                Some(place) => *place = trunk,
                None => trunks.push(trunk),
            }
            id_of.push(u16::try_from(id).map_err(|_| TooManyTrunks)?);
        }
        if trunks.len() > MAX_TRUNKS {
            return Err(TooManyTrunks);
        }
        for target in self.routes.iter_mut().flat_map(|route| &mut route.targets) {
            target.trunk = id_of.get(usize::from(target.trunk)).copied().unwrap_or(u16::MAX);
        }
        for trunk in self.routing.trunks_mut() {
            *trunk = id_of.get(usize::from(*trunk)).copied().unwrap_or(u16::MAX);
        }
        self.trunks = trunks;
        self.sources = Sources::of(&self.trunks);
        self.generation = old.generation + 1;
        Ok(self)
    }
}
