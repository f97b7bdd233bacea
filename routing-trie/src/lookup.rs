//! Look-up, the hot path: a walk down the image, one node per digit, without allocation.

use crate::digits::{Digits, MAX_DIGITS, SYMBOLS};
use crate::image::{Image, NODE, NONE, Node};

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
        let mut best = None;
        self.walk(number, |depth, value| best = Some((depth, value)));
        best
    }

    /// The longest prefix of a number in this image and in another, as two look-ups find them. They walk side
    /// by side: while one waits for memory, the other does too.
    #[inline]
    pub fn lookup_both(&self, other: &Image, number: Digits) -> [Option<(usize, u32)>; 2] {
        let (mut one, mut two) = (Walk::new(self), Walk::new(other));
        for symbol in number.symbols() {
            let (first, second) = (one.step(symbol), two.step(symbol));
            if !first && !second {
                return [one.best(), two.best()];
            }
        }
        [one.end(), two.end()]
    }

    /// Every prefix of `number` in the image, for a caller that may refuse the longest.
    #[inline]
    pub fn matches(&self, number: Digits) -> Matches {
        let mut matches = Matches { found: [(0, NONE); MAX_DIGITS + 1], left: 0 };
        self.walk(number, |depth, value| {
            if let Some(place) = matches.found.get_mut(matches.left) {
                *place = (depth as u8, value);
                matches.left += 1;
            }
        });
        matches
    }

    /// Hands out every prefix in the image with its value.
    pub fn each(&self, mut give: impl FnMut(Digits, u32)) {
        let mut pending = vec![(0, Digits::EMPTY)];
        while let Some((at, prefix)) = pending.pop() {
            let Some(node) = self.nodes().get(at).map(Node::read) else { continue };
            if node.value != NONE {
                give(prefix, node.value);
            }
            for symbol in (0..SYMBOLS as u8).rev() {
                let mut longer = prefix;
                if let Some(child) = node.child(symbol)
                    && longer.push(symbol)
                {
                    pending.push((child, longer));
                }
            }
        }
    }

    #[inline]
    fn walk(&self, number: Digits, mut found: impl FnMut(usize, u32)) {
        let nodes = self.nodes();
        let mut symbols = number.symbols();
        let mut at = 0;
        let mut depth = 0;
        // A validated image always has the node; the check is what indexing would cost anyway.
        while let Some(node) = nodes.get(at).map(Node::read) {
            if node.value != NONE {
                found(depth, node.value);
            }
            let Some(child) = symbols.next().and_then(|symbol| node.child(symbol)) else {
                return;
            };
            at = child;
            depth += 1;
        }
    }
}

/// A walk down an image, a node at a time.
struct Walk<'a> {
    nodes: &'a [[u8; NODE]],
    at: usize,
    depth: usize,
    best_depth: usize,
    best: u32,
}

impl<'a> Walk<'a> {
    /// No node is there: images have fewer.
    const OVER: usize = usize::MAX;

    #[inline]
    fn new(image: &'a Image) -> Walk<'a> {
        Walk { nodes: image.nodes(), at: 0, depth: 0, best_depth: 0, best: NONE }
    }

    /// Takes what the node has.
    #[inline]
    fn look(&mut self) -> Option<Node> {
        let node = self.nodes.get(self.at).map(Node::read)?;
        if node.value != NONE {
            (self.best_depth, self.best) = (self.depth, node.value);
        }
        Some(node)
    }

    /// Takes what the node has, and goes on by the next symbol; whether there may be more.
    #[inline]
    fn step(&mut self, symbol: u8) -> bool {
        let Some(node) = self.look() else { return false };
        self.at = node.child(symbol).unwrap_or(Walk::OVER);
        self.depth += 1;
        true
    }

    /// What was found when no symbol is left.
    #[inline]
    fn end(mut self) -> Option<(usize, u32)> {
        self.look();
        self.best()
    }

    #[inline]
    fn best(&self) -> Option<(usize, u32)> {
        (self.best != NONE).then_some((self.best_depth, self.best))
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
            let mut all = Vec::new();
            image.each(|prefix, value| all.push((prefix, value)));
            all.sort_unstable();
            prop_assert_eq!(all, table.iter().map(|(&p, &v)| (p, v)).collect::<Vec<_>>());
            for number in numbers {
                let naive: Vec<(usize, u32)> = (0..=number.len())
                    .rev()
                    .filter_map(|len| table.get(&number.prefix(len)).map(|&v| (len, v)))
                    .collect();
                prop_assert_eq!(image.lookup(number), naive.first().copied());
                let both = [image.lookup(number), half.lookup(number)];
                prop_assert_eq!(image.lookup_both(&half, number), both);
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
