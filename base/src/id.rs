//! Names of places: homes, shards, ports.
//!
//! A call's *home* is one of 256 and is written into our tags and branches, so they stay valid when the
//! number of shards changes; a *seat* maps homes to the shards that exist now.

/// One of 256 homes; every call, trunk and address of record has one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home(pub u8);

/// A shard of this node, numbered from 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ShardId(pub u8);

/// A bound local UDP port of one shard: an index into the list that `limits` laid out, the same in the
/// driver and in the shard.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

impl Home {
    /// The shard that seats this home when there are `shards` of them (at least 1, at most 256).
    pub fn seat(self, shards: usize) -> ShardId {
        let shard = usize::from(self.0) * shards / 256;
        ShardId(u8::try_from(shard).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_contiguous_and_all_used() {
        for shards in 1..=256usize {
            let seats: Vec<usize> =
                (0..=255).map(|h| usize::from(Home(h).seat(shards).0)).collect();
            assert!(seats.windows(2).all(|w| w[1] == w[0] || w[1] == w[0] + 1));
            assert_eq!((seats[0], seats[255]), (0, shards - 1));
        }
    }
}
