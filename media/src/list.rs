//! A short list with a fixed bound, stored in place: plans are replaced without allocating.

use base::record::{Plain, Unreadable};

/// At most `N` values, in the order they were pushed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct List<T: Copy, const N: usize> {
    items: [Option<T>; N],
    len: u8,
}

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        List { items: [None; N], len: 0 }
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// The values of `from`, or `None` when there are more than `N`.
    pub fn from_slice(from: &[T]) -> Option<Self> {
        let mut list = List::default();
        from.iter().all(|&value| list.push(value)).then_some(list)
    }

    /// Appends `value`; false, and nothing changes, when the list is full.
    pub fn push(&mut self, value: T) -> bool {
        let Some(place) = self.items.get_mut(usize::from(self.len)) else {
            return false;
        };
        *place = Some(value);
        self.len += 1;
        true
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items[..usize::from(self.len)].iter().flatten().copied()
    }

    /// The values in order, to change them in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items[..usize::from(self.len)].iter_mut().flatten()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Copy + Plain, const N: usize> Plain for List<T, N> {
    fn put(&self, out: &mut Vec<u8>) {
        self.len.put(out);
        self.iter().for_each(|value| value.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let mut list = List::default();
        for _ in 0..u8::take(from)? {
            if !list.push(T::take(from)?) {
                return Err(Unreadable::Value);
            }
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_bound_and_not_one_more() {
        let mut list: List<u8, 2> = List::default();
        assert!(list.is_empty() && list.push(1) && list.push(2) && !list.push(3));
        assert_eq!((list.len(), list.iter().collect::<Vec<_>>()), (2, vec![1, 2]));
        assert_eq!(List::<u8, 2>::from_slice(&[1, 2]), Some(list));
        assert_eq!(List::<u8, 2>::from_slice(&[1, 2, 3]), None);
        assert!(List::<u8, 2>::take(&mut &[3u8, 1, 2, 3][..]).is_err());
    }
}
