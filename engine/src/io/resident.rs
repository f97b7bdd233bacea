//! Memory that is looked at while a call waits: locked, so that it is never fetched from a disk.

#![allow(unsafe_code, reason = "advice on memory and locking it have no safe wrapper")]

use super::sys::check;
use core::ops::Range;
use std::io;

/// Size of a page, bytes.
const PAGE: usize = 4096;

/// Extents of somebody else's memory that are locked for as long as this lives. It must not outlive them by
/// much: what is unlocked late is at worst unlocked under its next owner.
#[derive(Debug, Default)]
pub struct Resident {
    held: Vec<Range<usize>>,
}

impl Resident {
    /// Locks the whole pages within `extents`; the edges, shared with other memory, stay as they are.
    /// On an error some may be locked, and are unlocked again.
    pub fn hold(extents: impl Iterator<Item = Range<*const u8>>) -> io::Result<Resident> {
        let mut resident = Resident::default();
        for extent in extents {
            let pages = within(&extent);
            if pages.is_empty() {
                continue;
            }
            // SAFETY: locks pages of memory that is mapped; nothing is read or written.
            check(unsafe { libc::mlock(pages.start as *const _, pages.len()) })?;
            resident.held.push(pages);
        }
        Ok(resident)
    }

    /// Bytes locked.
    pub fn bytes(&self) -> usize {
        self.held.iter().map(ExactSizeIterator::len).sum()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        for pages in &self.held {
            // SAFETY: unlocks pages; memory that is no longer mapped is refused, and nothing depends on it.
            unsafe { libc::munlock(pages.start as *const _, pages.len()) };
        }
    }
}

/// The whole pages within an extent.
fn within(extent: &Range<*const u8>) -> Range<usize> {
    let (start, end) = (extent.start.addr().next_multiple_of(PAGE), extent.end.addr());
    start..(end - end % PAGE).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_locked_until_it_is_dropped() {
        let memory = vec![1u8; 64 * PAGE];
        let held = Resident::hold([memory.as_ptr_range()].into_iter()).unwrap();
        assert!((62 * PAGE..=64 * PAGE).contains(&held.bytes()), "{}", held.bytes());
        let locked = |extent: &Range<usize>| {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut inside = false;
            text.lines().any(|line| {
                let begins = line.split_once('-').and_then(|(from, rest)| {
                    let to = rest.split(' ').next()?;
                    let read = |text| usize::from_str_radix(text, 16).ok();
                    Some(read(from)?..read(to)?)
                });
                if let Some(mapping) = begins {
                    inside = mapping.contains(&extent.start);
                }
                inside && line.starts_with("Locked:") && !line.contains(" 0 kB")
            })
        };
        let pages = held.held[0].clone();
        assert!(locked(&pages));
        drop(held);
        assert!(!locked(&pages));
        assert_eq!(memory[64 * PAGE - 1], 1);
        let small = [1u8; 8];
        assert_eq!(Resident::hold([small.as_ptr_range()].into_iter()).unwrap().bytes(), 0);
    }
}
