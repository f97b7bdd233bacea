//! Runs: what equal neighbours share is kept once, and found without reading much.

use base::record::{Plain, Unreadable};

/// Which item begins a run: a bit each, and how many there are before every 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<Word>);

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Word {
    begins: u64,
    before: u32,
}
base::plain!(struct Word { begins, before });

const BITS: usize = u64::BITS as usize;

impl Runs {
    /// Runs of so many items, each of which may begin one; the first does.
    pub(super) fn of(begins: impl Iterator<Item = bool>) -> Runs {
        let (mut words, mut before) = (Vec::<Word>::new(), 0);
        for (item, begins) in begins.enumerate() {
            if item % BITS == 0 {
                words.push(Word { begins: 0, before });
            }
            if let Some(word) = words.last_mut().filter(|_| begins || item == 0) {
                word.begins |= 1 << (item % BITS);
                before += 1;
            }
        }
        Runs(words)
    }

    /// The number of the run that an item is in.
    #[inline]
    pub(super) fn at(&self, item: usize) -> Option<usize> {
        let word = self.0.get(item / BITS)?;
        let until = word.begins & u64::MAX >> (BITS - 1 - item % BITS);
        (word.before + until.count_ones()).checked_sub(1).map(|run| run as usize)
    }

    /// How many runs there are, if these are the runs of so many items.
    pub(super) fn count(&self, items: usize) -> Option<usize> {
        let mut before = 0;
        for (at, word) in self.0.iter().enumerate() {
            let beyond = items.saturating_sub(at * BITS) < BITS;
            let strays = beyond && word.begins >> (items.saturating_sub(at * BITS)) != 0;
            let begins = at > 0 || word.begins & 1 != 0;
            if word.before != before || strays || !begins {
                return None;
            }
            before += word.begins.count_ones();
        }
        (self.0.len() == items.div_ceil(BITS)).then_some(before as usize)
    }

    /// Where it lies in memory.
    pub(super) fn extent(&self) -> core::ops::Range<*const u8> {
        super::extent(&self.0)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Word>()
    }
}

impl Plain for Runs {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        Plain::take(from).map(Runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_is_what_counting_says(begins in prop::collection::vec(any::<bool>(), 0..300)) {
            let runs = Runs::of(begins.iter().copied());
            let mut count = 0;
            for (item, begins) in begins.iter().enumerate() {
                count += usize::from(*begins || item == 0);
                prop_assert_eq!(runs.at(item), Some(count - 1));
            }
            prop_assert_eq!(runs.count(begins.len()), Some(count));
            prop_assert_eq!(runs.count(begins.len() + 64), None);
            let mut bytes = Vec::new();
            runs.put(&mut bytes);
            prop_assert_eq!(Runs::take(&mut bytes.as_slice()), Ok(runs));
        }
    }

    #[test]
    fn runs_that_do_not_add_up_are_noticed() {
        let runs = |words: &[(u64, u32)]| {
            Runs(words.iter().map(|&(begins, before)| Word { begins, before }).collect())
        };
        assert_eq!(runs(&[(0b101, 0)]).count(3), Some(2));
        assert_eq!(runs(&[(0b100, 0)]).count(3), None, "nothing begins at the first");
        assert_eq!(runs(&[(0b1001, 0)]).count(3), None, "there is no fourth");
        assert_eq!(runs(&[(0b101, 1)]).count(3), None);
        assert_eq!(runs(&[(0b101, 0), (1, 3)]).count(65), None);
        assert_eq!(runs(&[(0b101, 0), (1, 2)]).count(65), Some(3));
    }
}
