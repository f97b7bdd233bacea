//! A bounded table with generational keys: a key outlives its value without ever naming another one.

use core::fmt;

/// Index and generation of a value in a [`Slab`].
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    /// Position in the table, below its capacity.
    pub index: u32,
    /// Incremented each time the position is vacated.
    pub generation: u32,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// At most `capacity` values; freed places are reused last-freed first, which keeps them in cache.
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    capacity: u32,
    len: u32,
}

impl<T> Slab<T> {
    /// An empty slab. Memory for the places is taken as they are first used.
    pub fn new(capacity: u32) -> Self {
        Slab { places: Vec::new(), free: Vec::new(), capacity, len: 0 }
    }

    /// Values held now.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most values it will hold.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Whether `insert` would fail.
    pub fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// Stores `value`; gives it back when the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.is_full() {
            return Err(value);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place { generation: 1, value: None });
                (self.places.len() - 1) as u32
            }
        };
        let place = &mut self.places[index as usize];
        debug_assert!(place.value.is_none());
        place.value = Some(value);
        self.len += 1;
        Ok(Key { index, generation: place.generation })
    }

    /// Puts a thawed value back where it stood. Fails when the place is taken or beyond the capacity.
    pub fn restore(&mut self, key: Key, value: T) -> Result<(), T> {
        if key.index >= self.capacity {
            return Err(value);
        }
        while self.places.len() <= key.index as usize {
            self.free.push(self.places.len() as u32);
            self.places.push(Place { generation: 1, value: None });
        }
        let place = &mut self.places[key.index as usize];
        if place.value.is_some() {
            return Err(value);
        }
        place.generation = key.generation;
        place.value = Some(value);
        self.free.retain(|&i| i != key.index);
        self.len += 1;
        Ok(())
    }

    /// The value of `key`, unless it has been removed.
    pub fn get(&self, key: Key) -> Option<&T> {
        let place = self.places.get(key.index as usize)?;
        if place.generation == key.generation { place.value.as_ref() } else { None }
    }

    /// The value of `key`, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.value.as_mut() } else { None }
    }

    /// Takes the value out; the key is dead from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1).max(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(value)
    }

    /// Every value with its key, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(i, p)| {
            let key = Key { index: i as u32, generation: p.generation };
            p.value.as_ref().map(|v| (key, v))
        })
    }

    /// The first held key at or after place `from`: for walks spread over many turns.
    pub fn next_from(&self, from: u32) -> Option<Key> {
        let tail = self.places.get(from as usize..)?;
        let step = tail.iter().position(|p| p.value.is_some())?;
        let index = from + step as u32;
        Some(Key { index, generation: self.places[index as usize].generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_key_never_names_the_next_value() {
        let mut slab = Slab::new(1);
        let a = slab.insert("a").unwrap();
        assert_eq!(slab.insert("b"), Err("b"));
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b").unwrap();
        assert_eq!(a.index, b.index);
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&"b")));
        assert_eq!(slab.remove(a), None);
    }

    #[test]
    fn restored_values_keep_their_keys() {
        let mut slab = Slab::new(4);
        let key = Key { index: 2, generation: 7 };
        slab.restore(key, "c").unwrap();
        assert_eq!(slab.restore(key, "d"), Err("d"));
        assert_eq!(slab.get(key), Some(&"c"));
        let others: Vec<Key> = (0..3).map(|_| slab.insert("x").unwrap()).collect();
        assert!(others.iter().all(|k| k.index != 2));
        assert!(slab.is_full());
    }
}
