//! The pool of endpoints of a shard: ready, used, quarantined. Ports are bound ahead and reused.
//!
//! The oldest-freed endpoint is used first. A freed one waits two seconds, so that late packets of one
//! call never reach the next; when an interface runs dry the wait shortens, with a counter, but never
//! below half a second: then calls are refused by name.

use base::Instant;
use core::time::Duration;
use std::collections::VecDeque;

/// How long a freed endpoint rests.
pub const QUARANTINE: Duration = Duration::from_secs(2);
/// How long it rests at least when nothing else is left.
pub const SHORTEST_QUARANTINE: Duration = Duration::from_millis(500);

base::cases! {
    /// Why no endpoint could be reserved.
    pub enum NoPort {
        /// This shard has no endpoint on that interface.
        NoInterface = "no_interface",
        /// Every endpoint of the interface is used by a call.
        AllInUse = "all_in_use",
        /// Those not in use were freed less than half a second ago.
        Quarantined = "quarantined",
    }
}

/// An endpoint taken from the pool.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its slot.
    pub slot: u32,
    /// Whether its quarantine was cut short.
    pub shortened: bool,
}

/// Slots by interface and state. Their sum is constant.
#[derive(Debug, Default)]
pub struct Ports {
    interfaces: Vec<Interface>,
    capacity: usize,
    in_use: usize,
    quarantined: usize,
}

#[derive(Debug)]
struct Interface {
    number: u16,
    ready: VecDeque<u32>,
    /// Freed slots, oldest first.
    quarantine: VecDeque<(u32, Instant)>,
}

impl Ports {
    /// All slots ready; slot `i` belongs to the interface that stands at `i`.
    pub fn new(interface_of: impl Iterator<Item = u16>) -> Ports {
        let mut ports = Ports::default();
        for (slot, number) in interface_of.enumerate() {
            let at = ports.position(number).unwrap_or_else(|| {
                ports.interfaces.push(Interface {
                    number,
                    ready: VecDeque::new(),
                    quarantine: VecDeque::new(),
                });
                ports.interfaces.len() - 1
            });
            ports.interfaces[at].ready.push_back(slot as u32);
            ports.capacity += 1;
        }
        for interface in &mut ports.interfaces {
            // Room for every slot in either queue: freeing never allocates.
            interface.quarantine.reserve(interface.ready.len());
        }
        ports
    }

    fn position(&self, number: u16) -> Option<usize> {
        self.interfaces.iter().position(|i| i.number == number)
    }

    /// Takes the oldest-freed slot of an interface.
    pub fn take(&mut self, interface: u16, now: Instant) -> Result<Taken, NoPort> {
        let at = self.position(interface).ok_or(NoPort::NoInterface)?;
        self.rest(at, now);
        let interface = &mut self.interfaces[at];
        let taken = if let Some(slot) = interface.ready.pop_front() {
            Taken { slot, shortened: false }
        } else {
            let &(slot, freed) = interface.quarantine.front().ok_or(NoPort::AllInUse)?;
            if now.since(freed) < SHORTEST_QUARANTINE {
                return Err(NoPort::Quarantined);
            }
            interface.quarantine.pop_front();
            self.quarantined -= 1;
            Taken { slot, shortened: true }
        };
        self.in_use += 1;
        self.check();
        Ok(taken)
    }

    /// Takes one slot by number, whatever its quarantine: a thawed endpoint goes on with its own
    /// traffic. False when it is in use or does not exist on that interface.
    pub fn claim(&mut self, interface: u16, slot: u32) -> bool {
        let Some(at) = self.position(interface) else {
            return false;
        };
        let interface = &mut self.interfaces[at];
        if let Some(i) = interface.ready.iter().position(|&s| s == slot) {
            interface.ready.remove(i);
        } else if let Some(i) = interface.quarantine.iter().position(|&(s, _)| s == slot) {
            interface.quarantine.remove(i);
            self.quarantined -= 1;
        } else {
            return false;
        }
        self.in_use += 1;
        self.check();
        true
    }

    /// Gives a used slot back; it rests from `now` on.
    pub fn free(&mut self, interface: u16, slot: u32, now: Instant) {
        let Some(at) = self.position(interface) else {
            return;
        };
        self.interfaces[at].quarantine.push_back((slot, now));
        self.in_use -= 1;
        self.quarantined += 1;
        self.check();
    }

    /// Moves what has rested long enough to ready, on every interface.
    pub fn rest_all(&mut self, now: Instant) {
        (0..self.interfaces.len()).for_each(|at| self.rest(at, now));
        self.check();
    }

    fn rest(&mut self, at: usize, now: Instant) {
        let interface = &mut self.interfaces[at];
        while let Some(&(slot, freed)) = interface.quarantine.front() {
            if now.since(freed) < QUARANTINE {
                break;
            }
            interface.quarantine.pop_front();
            interface.ready.push_back(slot);
            self.quarantined -= 1;
        }
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Slots used by a leg.
    pub fn in_use(&self) -> usize {
        self.in_use
    }

    /// Slots resting.
    pub fn quarantined(&self) -> usize {
        self.quarantined
    }

    /// Slots ready to be used.
    pub fn ready(&self) -> usize {
        self.capacity - self.in_use - self.quarantined
    }

    fn check(&self) {
        debug_assert_eq!(
            self.interfaces.iter().map(|i| i.ready.len() + i.quarantine.len()).sum::<usize>(),
            self.capacity - self.in_use,
            "a slot was lost or doubled"
        );
        debug_assert_eq!(
            self.interfaces.iter().map(|i| i.quarantine.len()).sum::<usize>(),
            self.quarantined
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Instant {
        Instant(10_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn oldest_freed_first_and_quarantine_shortens_under_pressure_only() {
        let mut ports = Ports::new([0, 0, 7].into_iter());
        assert_eq!(ports.take(9, ms(0)), Err(NoPort::NoInterface));
        let slots = [ports.take(0, ms(0)).unwrap().slot, ports.take(0, ms(0)).unwrap().slot];
        assert_eq!((slots, ports.take(0, ms(0))), ([0, 1], Err(NoPort::AllInUse)));
        ports.free(0, 1, ms(100));
        ports.free(0, 0, ms(300));
        assert_eq!(ports.take(0, ms(599)), Err(NoPort::Quarantined));
        assert_eq!(ports.take(0, ms(600)), Ok(Taken { slot: 1, shortened: true }));
        assert_eq!(ports.take(0, ms(799)), Err(NoPort::Quarantined));
        assert_eq!(ports.take(0, ms(2_300)), Ok(Taken { slot: 0, shortened: false }));
        assert_eq!((ports.ready(), ports.in_use(), ports.quarantined()), (1, 2, 0));
    }

    #[test]
    fn rested_slots_queue_behind_those_ready_before_them() {
        let mut ports = Ports::new([0, 0, 0].into_iter());
        let slots: Vec<u32> = (0..2).map(|_| ports.take(0, ms(0)).unwrap().slot).collect();
        ports.free(0, slots[1], ms(10));
        ports.free(0, slots[0], ms(20));
        ports.rest_all(ms(9_000));
        assert_eq!((ports.ready(), ports.quarantined()), (3, 0));
        let order: Vec<u32> = (0..3).map(|_| ports.take(0, ms(9_000)).unwrap().slot).collect();
        assert_eq!(order, [2, slots[1], slots[0]]);
    }

    #[test]
    fn claimed_slots_are_given_to_nobody_else() {
        let mut ports = Ports::new([0, 0].into_iter());
        assert!(
            ports.claim(0, 1) && !ports.claim(0, 1) && !ports.claim(0, 5) && !ports.claim(3, 0)
        );
        assert_eq!(ports.take(0, ms(0)).map(|t| t.slot), Ok(0));
        ports.free(0, 0, ms(1));
        assert!(ports.claim(0, 0), "quarantine does not keep a call from its own port");
    }

    proptest! {
        #[test]
        fn sums_are_constant_and_rests_are_kept(steps in prop::collection::vec((0u8..3, 0u64..900), 1..300)) {
            let mut ports = Ports::new((0..7).map(|i| i % 2));
            let mut used: Vec<(u16, u32)> = Vec::new();
            let mut freed = [None::<Instant>; 7];
            let mut now = 0;
            for (what, pause) in steps {
                now += pause;
                match what {
                    0 | 1 => {
                        if let Ok(taken) = ports.take(u16::from(what), ms(now)) {
                            let at = (u16::from(what), taken.slot);
                            prop_assert!(!used.contains(&at));
                            used.push(at);
                            if let Some(then) = freed[taken.slot as usize] {
                                let rested = ms(now).since(then);
                                prop_assert!(rested >= SHORTEST_QUARANTINE);
                                prop_assert_eq!(taken.shortened, rested < QUARANTINE);
                            }
                        }
                    }
                    _ => {
                        if let Some((interface, slot)) = used.pop() {
                            ports.free(interface, slot, ms(now));
                            freed[slot as usize] = Some(ms(now));
                        } else {
                            ports.rest_all(ms(now));
                        }
                    }
                }
                prop_assert_eq!(ports.in_use(), used.len());
                prop_assert_eq!(ports.ready() + ports.in_use() + ports.quarantined(), 7);
            }
        }
    }
}
