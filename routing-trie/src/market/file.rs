//! Markets and tariffs as plain records: what was merged once is read back in a fraction of the time.
//!
//! Reading checks all of it: whatever a disk did, a look-up stays within what is there.

use super::{Alternative, BLOCKED, LAST, List, Listed, Market, Offers, Tariff};
use crate::image::Image;
use base::record::{Plain, Unreadable};

base::plain!(struct Listed { least_nano, terms, vendor, varies });
base::plain!(struct Alternative { expected_nano, rate, profile });

impl Plain for List {
    fn put(&self, out: &mut Vec<u8>) {
        self.beyond_nano.put(out);
        out.push(self.len as u8);
        self.bids.iter().take(self.len as usize).for_each(|bid| bid.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let beyond_nano = Plain::take(from)?;
        let mut list = List { beyond_nano, len: u32::from(u8::take(from)?), ..List::EMPTY };
        let bids = list.bids.get_mut(..list.len as usize).ok_or(Unreadable::Value)?;
        for place in bids {
            *place = Plain::take(from)?;
        }
        Ok(list)
    }
}

impl Plain for Image {
    fn put(&self, out: &mut Vec<u8>) {
        let bytes = self.as_bytes();
        (bytes.len() as u32).put(out);
        out.extend_from_slice(bytes);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Image::from_box(Plain::take(from)?).map_err(|_| Unreadable::Value)
    }
}

impl Plain for Offers {
    fn put(&self, out: &mut Vec<u8>) {
        self.alternatives.put(out);
        self.rates.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let offers = Offers { alternatives: Plain::take(from)?, rates: Plain::take(from)? };
        let rated = |a: &Alternative| a.rate == BLOCKED || (a.rate as usize) < offers.rates.len();
        let ends = offers.alternatives.last().is_none_or(|a| a.profile & LAST != 0);
        let sound = ends
            && offers.alternatives.iter().all(rated)
            && offers.rates.iter().all(|r| r.check().is_ok());
        if sound { Ok(offers) } else { Err(Unreadable::Value) }
    }
}

impl Offers {
    fn has(&self, offer: u32) -> bool {
        (offer as usize) < self.alternatives.len()
    }
}

impl Plain for Market {
    fn put(&self, out: &mut Vec<u8>) {
        self.codes.put(out);
        self.runs.put(out);
        self.lists.put(out);
        self.places.put(out);
        self.row_vendors.put(out);
        self.row_offers.put(out);
        self.offers.put(out);
        (self.vendors as u32, self.adopted).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let market = Market {
            codes: Plain::take(from)?,
            runs: Plain::take(from)?,
            lists: Plain::take(from)?,
            places: Plain::take(from)?,
            row_vendors: Plain::take(from)?,
            row_offers: Plain::take(from)?,
            offers: Plain::take(from)?,
            vendors: u32::take(from)? as usize,
            adopted: u32::take(from)?,
        };
        if market.is_sound() { Ok(market) } else { Err(Unreadable::Value) }
    }
}

impl Market {
    fn is_sound(&self) -> bool {
        let rows = self.row_vendors.len();
        let known = |vendor: u16| usize::from(vendor) < self.vendors;
        let is_so = |bid: &Listed| {
            let terms = match bid.varies {
                true => self.offers.listed(bid.vendor, bid.terms) == Some(*bid),
                false => (bid.terms as usize) < self.offers.rates.len(),
            };
            known(bid.vendor) && terms
        };
        let whole = |list: &List| list.bids.iter().take(list.len as usize).all(is_so);
        self.row_offers.len() == rows
            && self.codes.len() == self.places.len()
            && self.vendors <= super::MAX_VENDORS
            && self.runs.count(self.codes.len()) == Some(self.lists.len())
            && self.places.is_sorted()
            && self.places.last().is_none_or(|begin| *begin as usize <= rows)
            && self.lists.iter().all(whole)
            && self.row_vendors.iter().all(|v| known(*v))
            && self.row_offers.iter().all(|o| self.offers.has(*o))
    }
}

impl Plain for Tariff {
    fn put(&self, out: &mut Vec<u8>) {
        self.codes.put(out);
        self.offers.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Ok(Tariff { codes: Plain::take(from)?, offers: Plain::take(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;
    use crate::deck::{Deck, Options, import};
    use base::money::Ratio;
    use base::record::{open, seal};

    fn sample() -> (Market, Tariff) {
        let deck = |text: &str| -> Deck {
            import(text.as_bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}")).deck
        };
        let decks = [
            deck("code,rate,time\n44,0.3,\n447,0.1,peak\n447,0.2,\n"),
            deck("code,rate,status\n4,0.2,\n449,,blocked\n"),
        ];
        let entry = |deck| Entry { deck, fx: Ratio::ONE, profiles: &[1] };
        let market = Market::compile(&decks.each_ref().map(entry), 0, 60_000).unwrap();
        (market, Tariff::compile(entry(&decks[0]), 0, 60_000).unwrap())
    }

    #[test]
    fn an_image_reads_back_and_every_flipped_bit_is_noticed() {
        let whole = sample();
        let mut bytes = Vec::new();
        seal(1, &whole, &mut bytes);
        let (read, len) = open::<(Market, Tariff)>(1, &bytes).unwrap();
        assert_eq!((read, len), (whole, bytes.len()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let reserved = (6..8).contains(&(bit / 8));
            assert!(reserved || open::<(Market, Tariff)>(1, &flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(open::<(Market, Tariff)>(1, &bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn whatever_reads_back_under_a_right_checksum_can_be_asked() {
        let (market, _) = sample();
        let mut body = Vec::new();
        market.put(&mut body);
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 0x41;
            let Ok(market) = Market::take(&mut changed.as_slice()) else { continue };
            for number in ["", "4", "447911", "449", "999"] {
                let number = number.parse().unwrap();
                for bid in market.shortlist(number).bids {
                    let found = bid.in_force(market.offers(), |_| true);
                    let _any = found.and_then(|a| market.offers().rate(a));
                }
                market.gather(number, |_, bid| {
                    let found = market.offers().in_force(bid.offer, |_| true);
                    let _any = found.and_then(|a| market.offers().rate(a));
                });
            }
        }
    }
}
