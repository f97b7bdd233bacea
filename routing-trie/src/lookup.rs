//! Look-up, the hot path: a walk down the image, one node per digit, without allocation.

use crate::digits::{Digits, MAX_DIGITS, SYMBOLS};
use crate::image::{EMPTY, Image, NODE, NONE, Node};
use std::collections::VecDeque;

/// Every prefix of a number that is in the image, from the longest to the shortest.
#[derive(Copy, Clone, Debug)]
pub struct Matches {
    /// Depth and value, shortest first.
    found: [(u8, u32); MAX_DIGITS + 1],
    left: usize,
}

impl Image {
    /// The longest prefix of `number` in the image: its length in digits, and its value.
    #[inline]
    pub fn lookup(&self, number: Digits) -> Option<(usize, u32)> {
        let (depth, rank) = self.find(number)?;
        Some((depth, self.value(rank)?))
    }

    /// The same, with its rank: a number that no other prefix of the image has, from 0, below [`Image::len`].
    #[inline]
    pub fn find(&self, number: Digits) -> Option<(usize, usize)> {
        let mut walk = Walk::new(self);
        let _over = (1..).zip(number.symbols()).all(|(depth, symbol)| walk.step(depth, symbol));
        walk.best()
    }

    /// The longest prefix of a number in this image and in another, as [`Image::find`] finds them. They are walked
    /// side by side: while one waits for memory, the other does too.
    #[inline]
    pub fn find_both(&self, other: &Image, number: Digits) -> [Option<(usize, usize)>; 2] {
        let (mut one, mut two) = (Walk::new(self), Walk::new(other));
        let mut steps = (1..).zip(number.symbols());
        let _over = steps.all(|(depth, symbol)| one.step(depth, symbol) | two.step(depth, symbol));
        [one.best(), two.best()]
    }

    /// Every prefix of `number` in the image, for a caller that may refuse the longest.
    #[inline]
    pub fn matches(&self, number: Digits) -> Matches {
        let mut matches = Matches { found: [(0, NONE); MAX_DIGITS + 1], left: 0 };
        let mut take = |(depth, rank): (usize, usize)| {
            let found = self.value(rank).map(|value| (depth as u8, value));
            if let (Some(found), Some(place)) = (found, matches.found.get_mut(matches.left)) {
                *place = found;
                matches.left += 1;
            }
        };
        let mut walk = Walk::new(self);
        walk.best().into_iter().for_each(&mut take);
        for (depth, symbol) in (1..).zip(number.symbols()) {
            let goes_on = walk.step(depth, symbol);
            walk.best().filter(|(longest, _)| *longest == depth).into_iter().for_each(&mut take);
            if !goes_on {
                break;
            }
        }
        matches
    }

    /// Every prefix in the image with its value, by rank.
    pub fn each(&self) -> impl Iterator<Item = (Digits, u32)> {
        let mut pending = VecDeque::from([(0, Digits::EMPTY)]);
        let mut prefixes = VecDeque::new();
        let next_prefix = move || {
            while prefixes.is_empty() {
                let (at, beginning) = pending.pop_front()?;
                let Some(node) = self.nodes().get(at).map(Node::read) else { continue };
                for symbol in 0..SYMBOLS as u8 {
                    let mut longer = beginning;
                    // A validated image has no longer ones than digits hold.
                    let _fits = longer.push(symbol);
                    pending.extend(node.child(symbol).map(|child| (child, longer)));
                    prefixes.extend(node.completes(symbol).then_some(longer));
                }
                prefixes.extend(node.completes(EMPTY).then_some(Digits::EMPTY));
            }
            prefixes.pop_front()
        };
        let values = self.values().iter().map(|bytes| u32::from_le_bytes(*bytes));
        core::iter::from_fn(next_prefix).zip(values)
    }
}

/// A walk down an image, a node at a time.
struct Walk<'a> {
    nodes: &'a [[u8; NODE]],
    /// The node it is at.
    at: usize,
    /// Length of the longest prefix so far, the node it is in, and its last symbol; [`Walk::NONE`] without one.
    longest: (usize, usize, u8),
}

impl<'a> Walk<'a> {
    /// No node is there: images have fewer.
    const OVER: usize = usize::MAX;
    /// No prefix.
    const NONE: (usize, usize, u8) = (0, Walk::OVER, 0);

    #[inline]
    fn new(image: &'a Image) -> Walk<'a> {
        let nodes = image.nodes();
        let has_empty = nodes.first().is_some_and(|node| Node::read(node).completes(EMPTY));
        Walk { nodes, at: 0, longest: if has_empty { (0, 0, EMPTY) } else { Walk::NONE } }
    }

    /// Goes on by the next symbol, which is the `depth`th; whether there may be more.
    #[inline]
    fn step(&mut self, depth: usize, symbol: u8) -> bool {
        // A validated image always has the node; the check is what indexing would cost anyway.
        let Some(node) = self.nodes.get(self.at).map(Node::read) else { return false };
        if node.completes(symbol) {
            self.longest = (depth, self.at, symbol);
        }
        let child = node.child(symbol);
        self.at = child.unwrap_or(Walk::OVER);
        child.is_some()
    }

    /// The longest prefix so far: its length in digits, and its rank.
    #[inline]
    fn best(&self) -> Option<(usize, usize)> {
        let (depth, at, symbol) = self.longest;
        self.nodes.get(at).map(|node| (depth, Node::read(node).rank(symbol)))
    }
}

impl Iterator for Matches {
    /// Length of the prefix in digits, and its value.
    type Item = (usize, u32);

    #[inline]
    fn next(&mut self) -> Option<(usize, u32)> {
        self.left = self.left.checked_sub(1)?;
        let &(depth, value) = self.found.get(self.left)?;
        Some((usize::from(depth), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn digits() -> impl Strategy<Value = Digits> {
        // Few symbols, so that prefixes meet numbers.
        "[12*#]{0,6}".prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn lookup_is_a_naive_scan(
            table in prop::collection::btree_map("[0-9*#]{0,4}|[12*#]{0,6}", 0u32..9, 0..80),
            numbers in prop::collection::vec(digits(), 1..60),
        ) {
            let table: BTreeMap<Digits, u32> =
                table.into_iter().map(|(p, v)| (p.parse().unwrap(), v)).collect();
            let mut builder = Builder::new();
            for (&prefix, &value) in &table {
                prop_assert_eq!(builder.insert(prefix, value), Ok(()));
            }
            let image = Image::from_bytes(builder.build().as_bytes()).unwrap();
            let mut half = Builder::new();
            for (&prefix, &value) in table.iter().step_by(2) {
                prop_assert_eq!(half.insert(prefix, value), Ok(()));
            }
            let half = half.build();
            prop_assert_eq!(image.len(), table.len());
            let ranked: Vec<(Digits, u32)> = image.each().collect();
            for (rank, (prefix, value)) in ranked.iter().enumerate() {
                prop_assert_eq!(image.find(*prefix), Some((prefix.len(), rank)));
                prop_assert_eq!(image.value(rank), Some(*value));
            }
            let mut all = ranked;
            all.sort_unstable();
            prop_assert_eq!(all, table.iter().map(|(&p, &v)| (p, v)).collect::<Vec<_>>());
            for number in numbers {
                let naive: Vec<(usize, u32)> = (0..=number.len())
                    .rev()
                    .filter_map(|len| table.get(&number.prefix(len)).map(|&v| (len, v)))
                    .collect();
                prop_assert_eq!(image.lookup(number), naive.first().copied());
                let both = [image.find(number), half.find(number)];
                prop_assert_eq!(image.find_both(&half, number), both);
                prop_assert_eq!(image.matches(number).collect::<Vec<_>>(), naive);
            }
        }
    }

    #[test]
    fn the_longest_number_may_match_at_every_depth() {
        let number: Digits = "1".repeat(MAX_DIGITS).parse().unwrap();
        let mut builder = Builder::new();
        for len in 0..=MAX_DIGITS {
            builder.insert(number.prefix(len), len as u32).unwrap();
        }
        let image = builder.build();
        let depths: Vec<usize> = image.matches(number).map(|(depth, _)| depth).collect();
        assert_eq!(depths, (0..=MAX_DIGITS).rev().collect::<Vec<_>>());
        assert_eq!(image.lookup(number), Some((MAX_DIGITS, MAX_DIGITS as u32)));
        assert_eq!(Builder::new().build().lookup(number), None);
    }
}
