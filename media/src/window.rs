//! Packet indices (RFC 3711 §3.3): 48 bits counted from 16 on the wire, each used once.

/// How many indices behind the highest are remembered.
pub(crate) const WIDTH: u64 = 128;

/// The highest index so far, and which of those just below it were used.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    highest: u64,
    /// Bit `n`: `highest - n` was used. Empty before the first.
    used: u128,
}

/// Why an index may not be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It was used before.
    Used,
    /// It is too far behind to know.
    Old,
}

impl Window {
    /// A window whose next index is `next`.
    pub(crate) fn starting_at(next: u64) -> Window {
        Window { highest: next.wrapping_sub(1), used: u128::from(next > 0) }
    }

    /// A window in which nothing up to `highest` may be used any more.
    pub(crate) fn closed_at(highest: u64) -> Window {
        Window { highest, used: u128::MAX }
    }

    /// The highest index used.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The highest index used, if any was.
    pub(crate) fn last(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.highest)
    }

    /// Whether none was used yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The index that a sequence number most likely stands for: the nearest to the highest (§3.3.1).
    pub(crate) fn index_of(&self, sequence: u16) -> u64 {
        if self.is_empty() {
            return u64::from(sequence);
        }
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        match self.highest.checked_add_signed(i64::from(ahead)) {
            Some(index) => index,
            // Behind the beginning: it cannot be, so it is ahead.
            None => u64::from(sequence),
        }
    }

    /// Whether `index` may be used (§3.3.2).
    pub(crate) fn check(&self, index: u64) -> Result<(), Spent> {
        if self.is_empty() || index > self.highest {
            return Ok(());
        }
        match self.highest - index {
            behind if behind >= WIDTH => Err(Spent::Old),
            behind if self.used >> behind & 1 == 1 => Err(Spent::Used),
            _ => Ok(()),
        }
    }

    /// Notes that `index`, which was checked, is used.
    pub(crate) fn mark(&mut self, index: u64) {
        if self.is_empty() {
            *self = Window { highest: index, used: 1 };
        } else if index > self.highest {
            let ahead = u32::try_from(index - self.highest).unwrap_or(u32::MAX);
            self.used = self.used.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = index;
        } else if self.highest - index < WIDTH {
            self.used |= 1 << (self.highest - index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn sequence_numbers_wrap_into_indices() {
        let mut window = Window::default();
        for index in 65_000u64..200_000 {
            assert_eq!(window.index_of(index as u16) & 0xffff, index & 0xffff);
            // The first packet's index is its sequence number, so cycles are counted from there.
            let expected = if index < 65_536 { index } else { window.highest() + 1 };
            assert_eq!(window.index_of(index as u16), expected);
            window.mark(expected);
        }
        assert_eq!(window.highest(), 199_999);
        assert_eq!(window.index_of((199_999u64 - 100) as u16), 199_899);
    }

    #[test]
    fn nothing_is_behind_the_first_index() {
        let mut window = Window::default();
        window.mark(5);
        assert_eq!(window.index_of(65_530), 65_530);
        assert_eq!(Window::starting_at(7).index_of(7), 7);
        assert_eq!(Window::starting_at(7).check(6), Err(Spent::Used));
        assert_eq!(Window::starting_at(0).check(0), Ok(()));
    }

    proptest! {
        #[test]
        fn no_index_is_used_twice(steps in prop::collection::vec(-200i64..300, 1..400)) {
            let (mut window, mut used) = (Window::default(), BTreeSet::new());
            let mut at = 1_000u64;
            for step in steps {
                at = at.saturating_add_signed(step);
                match window.check(at) {
                    Ok(()) => {
                        prop_assert!(used.insert(at));
                        window.mark(at);
                    }
                    Err(Spent::Used) => prop_assert!(used.contains(&at)),
                    Err(Spent::Old) => prop_assert!(at + WIDTH <= window.highest()),
                }
            }
        }
    }
}
