//! Building an image: prefixes with values go in, an immutable [`Image`] comes out.
//!
//! Values are ids of the caller's (a route set, a rate, a list of candidates); equal lists should share
//! an id, which keeps images small. Prefixes may come in any order.

use crate::digits::{Digits, SYMBOLS};
use crate::image::{EMPTY, Image, MAX_NODES, NONE, Node as Laid};
use std::collections::VecDeque;

/// A trie being filled.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: Vec<Node>,
    prefixes: u32,
}

#[derive(Clone, Debug)]
struct Node {
    value: u32,
    children: [u32; SYMBOLS],
}

/// Why a prefix was not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The prefix stands in the trie already, with this value.
    Duplicate(u32),
    /// `u32::MAX` is no value: it marks its absence.
    Value,
    /// The image would not fit its 32-bit positions.
    Full,
}

impl core::error::Error for Refused {}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Refused::Duplicate(value) => write!(f, "the prefix is there already, with {value}"),
            Refused::Value => write!(f, "{NONE} is no value"),
            Refused::Full => write!(f, "too many prefixes for one image"),
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl Builder {
    /// An empty trie.
    pub fn new() -> Builder {
        Builder { nodes: vec![Node::EMPTY], prefixes: 0 }
    }

    /// Adds a prefix; the empty one matches every number. `value` is 0..=`u32::MAX - 1`.
    pub fn insert(&mut self, prefix: Digits, value: u32) -> Result<(), Refused> {
        if value == NONE {
            return Err(Refused::Value);
        }
        let mut at = 0;
        for symbol in prefix.symbols() {
            at = match self.nodes[at].children[usize::from(symbol)] {
                0 => self.grow(at, symbol)?,
                child => child as usize,
            };
        }
        let node = &mut self.nodes[at];
        if node.value != NONE {
            return Err(Refused::Duplicate(node.value));
        }
        node.value = value;
        self.prefixes += 1;
        Ok(())
    }

    fn grow(&mut self, parent: usize, symbol: u8) -> Result<usize, Refused> {
        let at = self.nodes.len();
        if at >= MAX_NODES {
            return Err(Refused::Full);
        }
        self.nodes.push(Node::EMPTY);
        self.nodes[parent].children[usize::from(symbol)] = at as u32;
        Ok(at)
    }

    /// Prefixes inserted.
    pub fn len(&self) -> usize {
        self.prefixes as usize
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.prefixes == 0
    }

    /// The image of everything inserted.
    pub fn build(&self) -> Image {
        let mut laid = Vec::new();
        let mut values = Vec::with_capacity(self.len());
        let mut next = VecDeque::from([0]);
        while let Some(index) = next.pop_front() {
            let node: &Node = &self.nodes[index];
            let mut fresh = Laid {
                first_child: (laid.len() + 1 + next.len()) as u32,
                first_rank: values.len() as u32,
                ..Laid::default()
            };
            for (symbol, &child) in node.children.iter().enumerate().filter(|&(_, &c)| c != 0) {
                let below = &self.nodes[child as usize];
                if below.children != Node::EMPTY.children {
                    fresh.symbols |= 1 << symbol;
                    next.push_back(child as usize);
                }
                if below.value != NONE {
                    fresh.prefixes |= 1 << symbol;
                    values.push(below.value);
                }
            }
            if index == 0 && node.value != NONE {
                fresh.prefixes |= 1 << EMPTY;
                values.push(node.value);
            }
            laid.push(fresh);
        }
        Image::seal(&laid, &values)
    }
}

impl Node {
    const EMPTY: Node = Node { value: NONE, children: [0; SYMBOLS] };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_the_reserved_value_are_refused() {
        let mut builder = Builder::new();
        let prefix = "4917".parse().unwrap();
        assert_eq!(builder.insert(prefix, 5), Ok(()));
        assert_eq!(builder.insert(prefix, 6), Err(Refused::Duplicate(5)));
        assert_eq!(builder.insert(Digits::EMPTY, u32::MAX), Err(Refused::Value));
        assert_eq!(builder.insert(Digits::EMPTY, 0), Ok(()));
        assert_eq!(builder.len(), 2);
        assert_eq!(builder.build().lookup("4918".parse().unwrap()), Some((0, 0)));
    }

    #[test]
    fn the_image_does_not_depend_on_the_order_of_insertion() {
        let prefixes = ["1", "12", "491", "49", "4"].map(|p| p.parse::<Digits>().unwrap());
        let image = |order: &[usize]| {
            let mut builder = Builder::new();
            for &i in order {
                builder.insert(prefixes[i], i as u32).unwrap();
            }
            builder.build()
        };
        assert_eq!(image(&[0, 1, 2, 3, 4]).as_bytes(), image(&[4, 2, 0, 3, 1]).as_bytes());
    }
}
