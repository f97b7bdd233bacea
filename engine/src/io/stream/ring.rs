//! Connections whose bytes the driver's ring moves: received like datagrams, sent with them.
//!
//! A connection gets a seat once it is there and the layers below its messages are, and leaves the epoll
//! for it; before that, and where no seat is free, the epoll serves it. A seat is a place among the ring's
//! files. What the ring is to do is listed here and taken by the driver; what it did comes back by the
//! connection's number, which is never that of another while anything of it is under way.

use super::connection::Connection;
use super::counters::Ended;
use super::{IoCounters, Streams, control, count};
use base::Instant;
use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::RawFd;

/// No file.
const NONE: RawFd = -1;

/// Where a connection sits.
pub(super) struct Seat {
    place: u32,
    /// A receive is under way.
    hears: bool,
    /// And is being taken back.
    hushed: bool,
    /// The socket is watched until it takes more.
    watched: bool,
    /// What it says is with the ring.
    pub(super) speaks: bool,
}

/// Something the ring is to do for connection `id`, at `place` among its files.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Receive from now on.
    Hear {
        /// The connection.
        id: u32,
        /// Its file.
        place: u32,
    },
    /// Receive no more for now.
    Hush {
        /// The connection.
        id: u32,
    },
    /// Say when it can be written to.
    Watch {
        /// The connection.
        id: u32,
        /// Its file.
        place: u32,
    },
}

/// Bytes of a connection for the ring to send: they stay until [`Streams::said`].
pub(crate) struct Speech {
    pub(crate) id: u32,
    pub(crate) place: u32,
    pub(crate) at: *const u8,
    pub(crate) len: u32,
}

/// The seats.
pub(super) struct Ring {
    free: Vec<u32>,
    /// Places whose file changes, with the file.
    files: Vec<(u32, RawFd)>,
    wishes: VecDeque<Wish>,
}

impl Ring {
    pub(super) fn new(places: Range<u32>) -> Ring {
        Ring { free: places.rev().collect(), files: Vec::new(), wishes: VecDeque::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.files.is_empty() || !self.wishes.is_empty()
    }

    /// Lists what has changed in what a seated connection waits for.
    pub(super) fn attend(&mut self, id: u32, connection: &mut Connection) {
        let (waits, listens) = (connection.waits(), connection.listens());
        let Some(seat) = &mut connection.seat else { return };
        let place = seat.place;
        if waits && !seat.watched {
            seat.watched = true;
            self.wishes.push_back(Wish::Watch { id, place });
        }
        if listens && !seat.hears {
            seat.hears = true;
            self.wishes.push_back(Wish::Hear { id, place });
        }
        if !listens && seat.hears && !seat.hushed {
            seat.hushed = true;
            self.wishes.push_back(Wish::Hush { id });
        }
    }

    /// A seat is free again.
    pub(super) fn leave(&mut self, seat: &Seat) {
        self.change(seat.place, NONE);
        self.free.push(seat.place);
    }

    /// The last change of a place counts: the file of an earlier one may be closed.
    fn change(&mut self, place: u32, fd: RawFd) {
        self.files.retain(|(changed, _)| *changed != place);
        self.files.push((place, fd));
    }
}

impl Streams {
    /// Gives a connection that is there a seat, where one is free.
    pub(super) fn seat(&mut self, id: u32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.seat.is_some() || !connection.is_settled() {
            return;
        }
        let Some(place) = self.ring.free.pop() else { return };
        let fd = connection.fd();
        if connection.is_watched_as() != 0
            && control(&self.epoll, libc::EPOLL_CTL_DEL, fd, 0, 0).is_err()
        {
            self.ring.free.push(place);
            return self.close(id, Ended::Error, counters);
        }
        let (hears, hushed, watched, speaks) = (false, false, false, false);
        connection.seat = Some(Seat { place, hears, hushed, watched, speaks });
        self.ring.change(place, fd);
        self.ring.attend(id, connection);
    }

    /// Places whose file is another one now. The driver says so to the ring before it asks for speeches.
    pub(crate) fn changed_files(&mut self) -> std::vec::Drain<'_, (u32, RawFd)> {
        self.ring.files.drain(..)
    }

    /// Something the ring is to do.
    pub(crate) fn wish(&mut self) -> Option<Wish> {
        while let Some(wish) = self.ring.wishes.pop_front() {
            let (Wish::Hear { id, .. } | Wish::Hush { id } | Wish::Watch { id, .. }) = wish;
            // Who has gone wishes nothing, and numbers are not given again while their wishes stand.
            if self.connections.contains_key(&id) {
                return Some(wish);
            }
        }
        None
    }

    /// The bytes of a connection that was given messages in this turn; what cannot go by the ring goes by
    /// itself.
    pub(crate) fn speech(&mut self, counters: &IoCounters) -> Option<Speech> {
        while let Some(id) = self.listed.pop() {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let place = match &mut connection.seat {
                Some(seat) if seat.speaks => continue,
                Some(seat) if !seat.watched => {
                    seat.speaks = true;
                    seat.place
                }
                Some(_) | None => {
                    self.write(id, counters);
                    continue;
                }
            };
            match connection.say() {
                Ok([]) => connection.seat.iter_mut().for_each(|seat| seat.speaks = false),
                Ok(bytes) => {
                    let (at, len) = (bytes.as_ptr(), bytes.len() as u32);
                    return Some(Speech { id, place, at, len });
                }
                Err(_) => self.close(id, Ended::Error, counters),
            }
        }
        None
    }

    /// The kernel took `result` bytes of a speech, or refused it with a negative number.
    pub(crate) fn said(&mut self, id: u32, result: i32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.seat.iter_mut().for_each(|seat| seat.speaks = false);
        let before = connection.queued();
        let said = match result {
            0.. => connection.said(result as usize),
            _ if matches!(-result, libc::EAGAIN | libc::EINTR) => connection.said(0),
            _ => return self.close(id, Ended::Error, counters),
        };
        if said.is_err() {
            return self.close(id, Ended::Error, counters);
        }
        self.waiting -= before - connection.queued();
        if connection.waits() {
            // More than went at once, or than the kernel takes.
            return self.write(id, counters);
        }
        self.ring.attend(id, connection);
    }

    /// A connection can be written to.
    pub(crate) fn writable(&mut self, id: u32, counters: &IoCounters) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(seat) = &mut connection.seat {
            seat.watched = false;
        }
        self.write(id, counters);
    }

    /// The ring received bytes for a connection, which stand at a place in the pool, or ended its receive with
    /// `result`; `more` when it goes on.
    pub(crate) fn heard(
        &mut self,
        (id, result, more): (u32, i32, bool),
        received: (&[u8], u32),
        now: Instant,
        counters: &IoCounters,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let (false, Some(seat)) = (more, &mut connection.seat) {
            (seat.hears, seat.hushed) = (false, false);
        }
        match result {
            0 => return self.close(id, Ended::Closed, counters),
            1.. => {
                let (before, letters) = (connection.queued(), self.letters.len());
                let heard = connection.hear(received, &mut self.scratch, now, &mut self.letters);
                self.waiting += connection.queued() - before;
                let (port, whole) = (connection.ends().0, self.letters.len() - letters);
                connection.account.heard += whole as u32;
                count(&self.listeners, &self.counted, port, |l| l.heard.add(whole as u64));
                if let Err(ended) = heard {
                    return self.close(id, ended, counters);
                }
                if connection.waits() && connection.list() {
                    self.listed.push(id);
                }
            }
            // Without buffers, or taken back: it is armed again when it is wanted.
            _ if matches!(
                -result,
                libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN
            ) => {}
            _ => return self.close(id, Ended::Error, counters),
        }
        // A pong is no reason to watch: it is listed.
        if !more || !connection.listens() {
            self.ring.attend(id, connection);
        }
        self.consider(id);
    }
}
