//! Capacity and calls per second of trunks, counted exactly across shards.
//!
//! A call holds one place on its ingress trunk and one on the egress trunk it is being tried on; what
//! it holds is written in the call, so that a place is left exactly once.

use super::Image;
use crate::refusal::Refusal;
use base::{Instant, page::Page};

/// Takes a place on `trunk` for a new call, or says which limit it would exceed.
pub fn enter(image: &Image, page: &Page, trunk: u16, now: Instant) -> Result<(), Refusal> {
    let Some(limits) = image.trunk(trunk) else { return Err(Refusal::NoRoute) };
    if !page.enter(Image::calls_word(trunk), u64::from(limits.capacity)) {
        return Err(Refusal::TrunkCapacity);
    }
    if !page.pace(Image::pace_word(trunk), limits.cps, now) {
        page.leave(Image::calls_word(trunk));
        return Err(Refusal::TrunkRate);
    }
    page.add(Image::begun_word(trunk));
    Ok(())
}

/// Gives the place back.
pub fn leave(page: &Page, trunk: u16) {
    page.leave(Image::calls_word(trunk));
}
