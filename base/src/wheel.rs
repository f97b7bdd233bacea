//! Timers: a hierarchical wheel of 1 ms ticks.
//!
//! Four levels of 256 slots reach 49 days; further deadlines wait in the last slot and are looked at
//! again. Scheduling and cancelling are constant time; a timer never fires early, and fires at most one
//! tick late when the wheel is turned on time.

use crate::Instant;

const TICK_NS: u64 = 1_000_000;
const LEVELS: usize = 4;
const SLOTS: usize = 256;
const NIL: u32 = u32::MAX;

/// A scheduled timer; stale keys are ignored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

struct Entry<T> {
    generation: u32,
    due: u64,
    value: Option<T>,
    slot: u32,
    prev: u32,
    next: u32,
}

/// Timers carrying values of `T`.
pub struct Wheel<T> {
    now: u64,
    heads: Vec<u32>,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
}

impl<T> Wheel<T> {
    /// An empty wheel standing at `now`.
    pub fn new(now: Instant) -> Self {
        Wheel {
            now: now.0 / TICK_NS,
            heads: vec![NIL; LEVELS * SLOTS],
            occupied: [[0; SLOTS / 64]; LEVELS],
            entries: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Timers scheduled now.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Schedules `value` for `due`; a past deadline fires on the next turn.
    pub fn schedule(&mut self, due: Instant, value: T) -> TimerKey {
        let due = due.0.div_ceil(TICK_NS).max(self.now + 1);
        let index = if self.free == NIL {
            self.entries.push(Entry {
                generation: 0,
                due,
                value: None,
                slot: NIL,
                prev: NIL,
                next: NIL,
            });
            (self.entries.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            index
        };
        let entry = &mut self.entries[index as usize];
        entry.due = due;
        entry.value = Some(value);
        let generation = entry.generation;
        self.link(index);
        self.len += 1;
        TimerKey { index, generation }
    }

    /// Takes a timer back; `None` when it fired or was cancelled already.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// When `turn` should be called next; exact for the near future, never late beyond it.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        for level in 0..LEVELS {
            let shift = 8 * level as u32;
            let here = (self.now >> shift) as usize % SLOTS;
            // A slot of a higher level is due for redistribution when its own period begins.
            if let Some(distance) = self.distance(level, here) {
                let begin = ((self.now >> shift) + distance as u64) << shift;
                return Some(Instant(begin.max(self.now + 1).saturating_mul(TICK_NS)));
            }
        }
        None
    }

    /// Turns the wheel to `now` and hands every due value to `fire`, earliest tick first.
    pub fn turn(&mut self, now: Instant, mut fire: impl FnMut(T)) {
        let target = now.0 / TICK_NS;
        while self.now < target {
            if self.len == 0 {
                self.now = target;
                return;
            }
            let next = self.next_deadline().map_or(target, |d| d.0 / TICK_NS);
            if next > target {
                self.skip_to(target);
                return;
            }
            self.skip_to(next - 1);
            self.now = next;
            self.cascade();
            let mut index = self.detach(self.now as usize % SLOTS);
            while index != NIL {
                let next = self.entries[index as usize].next;
                if let Some(value) = self.release(index) {
                    fire(value);
                }
                index = next;
            }
        }
    }

    fn skip_to(&mut self, tick: u64) {
        debug_assert!(tick >= self.now);
        self.now = tick;
    }

    /// Moves the timers of higher levels whose period begins at this tick down to where they belong.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = 8 * level as u32;
            if self.now & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = level * SLOTS + (self.now >> shift) as usize % SLOTS;
            let mut index = self.detach(slot);
            while index != NIL {
                let next = self.entries[index as usize].next;
                self.link(index);
                index = next;
            }
        }
    }

    fn slot_of(&self, due: u64) -> usize {
        let due = due.min(self.now + (1 << 32) - (1 << 24) - 1);
        let differ = (due ^ self.now) >> 8;
        let level = if differ == 0 { 0 } else { ((71 - differ.leading_zeros()) / 8) as usize };
        let level = level.min(LEVELS - 1);
        level * SLOTS + (due >> (8 * level as u32)) as usize % SLOTS
    }

    fn link(&mut self, index: u32) {
        let slot = self.slot_of(self.entries[index as usize].due);
        let head = self.heads[slot];
        if head != NIL {
            self.entries[head as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.slot = slot as u32;
        entry.prev = NIL;
        entry.next = head;
        self.heads[slot] = index;
        self.occupied[slot / SLOTS][slot % SLOTS / 64] |= 1 << (slot % 64);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { slot, prev, next, .. } = self.entries[index as usize];
        if prev == NIL {
            self.heads[slot as usize] = next;
        } else {
            self.entries[prev as usize].next = next;
        }
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if self.heads[slot as usize] == NIL {
            self.vacate(slot as usize);
        }
    }

    fn detach(&mut self, slot: usize) -> u32 {
        self.vacate(slot);
        core::mem::replace(&mut self.heads[slot], NIL)
    }

    fn vacate(&mut self, slot: usize) {
        self.occupied[slot / SLOTS][slot % SLOTS / 64] &= !(1 << (slot % 64));
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    /// Slots from `here` (exclusive) to the next occupied one of `level`, going round.
    fn distance(&self, level: usize, here: usize) -> Option<usize> {
        let words = &self.occupied[level];
        if words.iter().all(|w| *w == 0) {
            return None;
        }
        (1..=SLOTS).find(|d| {
            let slot = (here + d) % SLOTS;
            words[slot / 64] & (1 << (slot % 64)) != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn fires_like_a_sorted_list() {
        for seed in 0..200 {
            let mut random = Random::new((seed, 1));
            let start = random.next() % (1 << 40);
            let mut wheel = Wheel::new(Instant(start * TICK_NS));
            let mut list: Vec<(u64, u32, TimerKey)> = Vec::new();
            let (mut now, mut id) = (start, 0);
            for _ in 0..300 {
                let reach = [10, 300, 70_000, 20_000_000][random.below(4) as usize];
                match random.below(4) {
                    0 | 1 => {
                        let due = now + u64::from(random.below(reach));
                        let key = wheel.schedule(Instant(due * TICK_NS), id);
                        list.push((due.max(now + 1), id, key));
                        id += 1;
                    }
                    2 if !list.is_empty() => {
                        let (_, value, key) =
                            list.swap_remove(random.below(list.len() as u32) as usize);
                        assert_eq!(wheel.cancel(key), Some(value));
                        assert_eq!(wheel.cancel(key), None);
                    }
                    _ => {
                        now += u64::from(random.below(reach));
                        let (mut fired, mut due) = (Vec::new(), Vec::new());
                        wheel.turn(Instant(now * TICK_NS), |v| fired.push(v));
                        list.retain(|&(d, v, _)| {
                            if d <= now {
                                due.push((d, v));
                                false
                            } else {
                                true
                            }
                        });
                        due.sort_unstable();
                        let mut expected: Vec<u32> = due.iter().map(|d| d.1).collect();
                        expected.sort_unstable();
                        fired.sort_unstable();
                        assert_eq!(fired, expected, "seed {seed}");
                    }
                }
                assert_eq!(wheel.len(), list.len());
                let earliest = list.iter().map(|l| l.0).min();
                let promised = wheel.next_deadline().map(|d| d.0 / TICK_NS);
                assert_eq!(promised.is_some(), earliest.is_some());
                if let (Some(p), Some(e)) = (promised, earliest) {
                    assert!(
                        p <= e && p > now,
                        "seed {seed}: promised {p}, earliest {e}, now {now}"
                    );
                }
            }
        }
    }
}
