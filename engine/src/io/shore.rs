//! What every driver does beside moving datagrams: journal, records, mesh, clocks, counters.

use super::mesh::{IoCounters, Parcels, ShardMesh};
use super::port::Ports;
use super::region::Region;
use super::stream::{Speech, Streams};
use super::sys;
use base::{Bytes, Instant, Now, PortId, ShardId};
use node::{Fault, Inbox, Letter, Outbox};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// The part of a driver that is the same for all of them.
pub(crate) struct Shore {
    region: Option<Region>,
    mesh: ShardMesh,
    /// Connections, where there is a listener for them.
    pub(crate) streams: Option<Streams>,
    parcels: Parcels,
    last: Instant,
    /// Frames the region had no room for, oldest first, and their bytes in all.
    backlog: VecDeque<Vec<u8>>,
    backlog_bytes: usize,
    /// The pool this driver's buffers stand in.
    pool: usize,
}

/// Bytes of journal frames that may wait in memory when the region is full.
const BACKLOG: usize = 16 << 20;

impl Shore {
    pub(crate) fn new(
        region: Option<Region>,
        mesh: ShardMesh,
        streams: Option<Streams>,
        inbox: &mut Inbox,
    ) -> Shore {
        Shore {
            region,
            mesh,
            streams,
            parcels: Parcels::default(),
            last: Instant(0),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            pool: inbox.pool.as_mut_ptr() as usize,
        }
    }

    /// The kernel writes into one pool for as long as the driver lives: no other inbox will do.
    pub(crate) fn recognise(&self, inbox: &mut Inbox) -> Result<(), Fault> {
        if inbox.pool.as_mut_ptr() as usize == self.pool {
            return Ok(());
        }
        Err(Fault {
            what: String::from("a driver was given an inbox that is not its own"),
            remedy: String::from("this is a defect: report it with the version"),
        })
    }

    pub(crate) fn counters(&self) -> &IoCounters {
        self.mesh.counters()
    }

    /// Letters, connections and journal room: looked at every turn, whatever the doorbell says, once the clock
    /// was read. `sets_up`: connections may be set up now, while nothing that came waits.
    pub(crate) fn look(&mut self, inbox: &mut Inbox, sets_up: bool) {
        self.mesh.take(&mut inbox.letters, &mut self.parcels);
        if let Some(streams) = &mut self.streams {
            let counters = self.mesh.counters();
            if !self.parcels.is_empty() {
                if let Some(terms) = self.parcels.terms.take() {
                    streams.agree(terms);
                }
                for accepted in self.parcels.accepted.drain(..) {
                    streams.adopt(accepted, self.last, counters);
                }
                for alias in self.parcels.aliases.drain(..) {
                    streams.alias(alias);
                }
            }
            streams.turn((self.last, sets_up), &mut inbox.letters, counters);
            if streams.has_parcels() {
                for (shard, accepted) in streams.strays() {
                    self.mesh.pass(shard, accepted);
                }
                for (shard, alias) in streams.told_aliases() {
                    self.mesh.tell(shard, alias);
                }
                self.mesh.ring();
            }
        }
        inbox.journal_room = match &self.region {
            Some(_) if !self.backlog.is_empty() => 0,
            Some(region) => region.journal.room(),
            None => usize::MAX,
        };
    }

    /// Whether the shard may sleep now; afterwards senders ring its bell.
    pub(crate) fn doze(&self) -> bool {
        !self.streams.as_ref().is_some_and(Streams::is_ready) && self.mesh.doze()
    }

    /// Sends what goes over connections, but for what the driver's ring is to send; over one of another
    /// shard's, that shard does.
    pub(crate) fn converse(&mut self, ports: &Ports, outbox: &mut Outbox) {
        if self.streams.is_none() {
            return;
        }
        let (texts, mesh) = (&outbox.texts, &mut outbox.mesh);
        for send in &texts.sends {
            if ports.get(send.port).is_some_and(|port| port.is_stream) {
                self.send(send.port, send.to, texts.get(send.bytes), mesh);
            }
        }
        if let Some(streams) = &mut self.streams {
            streams.flush(self.last, self.mesh.counters());
        }
    }

    fn send(
        &mut self,
        port: PortId,
        to: SocketAddr,
        bytes: &[u8],
        mesh: &mut Vec<(ShardId, Letter)>,
    ) {
        let Some(streams) = &mut self.streams else { return };
        let counters = self.mesh.counters();
        if let Some((shard, to)) = streams.send((port, to), bytes, self.last, counters) {
            mesh.push((shard, Letter::Forward { port, to, bytes: bytes.into() }));
        }
    }

    /// What connections have to say through the ring.
    pub(crate) fn speech(&mut self) -> Option<Speech> {
        self.streams.as_mut()?.speech(self.mesh.counters())
    }

    /// What became of it.
    pub(crate) fn said(&mut self, id: u32, result: i32) {
        if let Some(streams) = &mut self.streams {
            streams.said(id, result, self.mesh.counters());
        }
    }

    /// A connection takes more.
    pub(crate) fn writable(&mut self, id: u32) {
        if let Some(streams) = &mut self.streams {
            streams.writable(id, self.mesh.counters());
        }
    }

    /// What the ring received for a connection, and whether it goes on.
    pub(crate) fn heard(&mut self, receipt: (u32, i32, bool), received: (&[u8], u32)) {
        if let Some(streams) = &mut self.streams {
            streams.heard(receipt, received, self.last, self.mesh.counters());
        }
    }

    /// The shard is awake again.
    pub(crate) fn awake(&self) {
        self.mesh.awake();
    }

    /// Time from the last reading of the clock to `deadline`.
    pub(crate) fn left(&self, deadline: Option<Instant>) -> Option<Duration> {
        let streams = self.streams.as_ref().and_then(Streams::deadline);
        let deadline = deadline.into_iter().chain(streams).min();
        let deadline = deadline.filter(|d| *d != Instant::NEVER)?;
        Some(deadline.since(self.last))
    }

    /// Both clocks.
    pub(crate) fn now(&mut self) -> Now {
        let now = sys::now(self.last);
        self.last = now.mono;
        now
    }

    /// First half of a submit: the journal, then the records, before anything leaves.
    pub(crate) fn keep(&mut self, outbox: &Outbox) {
        self.mesh.counters().turns.add(1);
        let Some(region) = &mut self.region else {
            return;
        };
        while let Some(frame) = self.backlog.front() {
            if !region.journal.append(frame) {
                break;
            }
            self.backlog_bytes -= frame.len();
            self.backlog.pop_front();
        }
        for &frame in &outbox.journal {
            let frame = part(&outbox.plain, frame);
            if !self.backlog.is_empty() || !region.journal.append(frame) {
                let counters = self.mesh.counters();
                let holds = region.journal.can_hold(frame.len())
                    && self.backlog_bytes + frame.len() <= BACKLOG;
                if !holds {
                    counters.journal_lost.add(1);
                    continue;
                }
                counters.journal_delayed.add(1);
                self.backlog_bytes += frame.len();
                self.backlog.push_back(frame.to_vec());
            }
        }
        for record in &outbox.records {
            // Slot and size come from the same limits as the region: a misfit is a defect that the
            // record's checksum would show at recovery.
            let fits = region.write(record.slot, part(&outbox.plain, record.bytes));
            debug_assert!(fits, "record {} does not fit", record.slot);
        }
    }

    /// Second half of a submit: letters and events. Everything is taken afterwards.
    pub(crate) fn give(&mut self, outbox: &mut Outbox) {
        self.mesh.give(&mut outbox.mesh, &mut outbox.events);
        outbox.clear();
    }
}

fn part(arena: &[u8], bytes: Bytes) -> &[u8] {
    let (at, len) = (bytes.at as usize, bytes.len as usize);
    arena.get(at..at + len).unwrap_or(&[])
}
