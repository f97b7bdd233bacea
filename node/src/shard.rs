//! A shard: the calls of its homes, their media, and one step that turns inputs into outputs.

use crate::contract::{Inbox, Letter, Mark, Outbox, Received, RecordWrite};
use crate::journal::Ledger;
use crate::limits::{Limits, Role, ShardLimits};
use crate::quarantine::Quarantine;
use base::page::Page;
use base::{Instant, Now, Pool, PortId, ShardId};
use control::Event;
use media::dtls::Provider;
use media::{Media, MediaPort, Notice};
use sbc::policy::{Image, Proved};
use sbc::{CallRecord, Outcome, Sender, Setup, Signal, Turn};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// What every shard of a node is made from.
#[derive(Clone)]
pub struct Birth {
    /// Which shard.
    pub shard: ShardId,
    /// Start of the process: seconds since the Unix epoch, never the same twice.
    pub epoch: u64,
    /// Secret of this shard.
    pub key: (u64, u64),
    /// What legs shake hands with, one for each kind of certificate; none: no DTLS.
    pub dtls: Vec<Arc<dyn Provider>>,
    /// What the media of this shard draws its secrets from; never the same twice.
    pub media_seed: [u8; 32],
    /// Secret of the node.
    pub steer_key: (u64, u64),
    /// The configuration.
    pub image: Arc<Image>,
    /// Words shared by all shards.
    pub page: Page,
}

/// What a predecessor left behind for this shard.
#[derive(Default)]
pub struct Past {
    /// Sealed records of its calls; of several of one call the newest comes first.
    pub records: Vec<Vec<u8>>,
    /// What its journal says about them.
    pub ledger: Ledger,
    /// Its ports and secrets are ours: calls go on. Otherwise they are released.
    pub resume: bool,
}

/// A shard.
pub struct Shard {
    id: ShardId,
    shards: usize,
    signal: Signal,
    media: Media,
    sip_ports: u32,
    record_size: usize,
    notices: Vec<Notice>,
    told_drained: bool,
    quarantine: Quarantine,
    poison: Option<fn(&[u8]) -> bool>,
}

impl Shard {
    /// The only constructor: a shard as its predecessor left it, or an empty one of an empty past.
    pub fn thaw(birth: Birth, limits: &Limits, past: Past, now: Now, outbox: &mut Outbox) -> Shard {
        let mine = &limits.shards[usize::from(birth.shard.0)];
        let (id, sip_ports) = (birth.shard, sip_ports(mine));
        let setup = Setup {
            shard: birth.shard,
            shards: limits.shards.len(),
            epoch: birth.epoch,
            key: birth.key,
            steer_key: birth.steer_key,
            image: birth.image,
            page: birth.page,
            calls: mine.records,
            transactions: mine.transactions,
        };
        let mut media = Media::new(media_ports(mine), birth.media_seed, now.mono);
        for dtls in birth.dtls {
            media.set_dtls(dtls);
        }
        let mut shard = Shard {
            id,
            shards: limits.shards.len(),
            signal: Signal::new(setup, now.mono),
            media,
            sip_ports,
            record_size: mine.record_size as usize,
            notices: Vec::new(),
            told_drained: false,
            quarantine: Quarantine::default(),
            poison: None,
        };
        shard.recover(past, limits.shards.len(), now, outbox);
        shard
    }

    /// Reads the records of this shard's homes; what has no readable record is closed from the journal.
    fn recover(&mut self, past: Past, shards: usize, now: Now, outbox: &mut Outbox) {
        let Past { records, mut ledger, resume } = past;
        let id = self.id;
        let (signal, mut turn) = self.turn(now, outbox, usize::MAX);
        let mut seen = BTreeSet::new();
        for bytes in &records {
            let Ok(record) = CallRecord::open(bytes) else { continue };
            let ours = record.home().seat(shards) == id;
            ledger.open.remove(&record.cdr_id());
            if !seen.insert(record.cdr_id()) {
                // Copied by a recovery that was killed: the newest record came first.
                continue;
            }
            if ours {
                // A call that has its CDR may have peers who have not heard of its end.
                let booked = ledger.stopped.contains(&record.cdr_id());
                let record = if booked { record.booked() } else { record };
                signal.thaw(&mut turn, record, resume);
            }
        }
        if !resume {
            signal.release_thawed(&mut turn);
        }
        if !resume {
            ledger.young(now.mono).for_each(|call_id| signal.remember(&turn, call_id));
        }
        // Each CDR is closed by the shard that its number of shards seats it on now.
        for cdr in core::mem::take(&mut ledger.open).into_values() {
            if usize::from(cdr.id.shard) % shards == usize::from(id.0) {
                let last_known = ledger.last_known(&cdr);
                signal.close(&mut turn, cdr, last_known);
            }
        }
        self.write_records(now, outbox);
    }

    /// Takes everything that happened and pushes everything to be done.
    pub fn step(&mut self, now: Now, inbox: &mut Inbox, outbox: &mut Outbox) {
        let room = inbox.journal_room;
        self.letters(now, room, inbox, outbox);
        self.packets(now, room, inbox, outbox);
        for failed in &inbox.undeliverable {
            self.media.undeliverable(failed.port);
        }
        for port in &inbox.truncated {
            match port.0 < self.sip_ports {
                true => self.signal.truncated(),
                false => self.media.truncated(*port),
            }
        }
        self.notice(now, room, outbox);
        let (signal, mut turn) = self.turn(now, outbox, room);
        signal.expire(&mut turn);
        signal.tell_captured(&mut turn);
        let mut moves = Vec::new();
        signal.deliver(&mut turn, |shard, letter| moves.push((shard, letter)));
        for (shard, letter) in moves {
            outbox.mesh.push((shard, Letter::Move(Box::new(letter))));
        }
        if let Some(outages) = self.signal.outages_to_tell() {
            let others = (0..self.shards).map(|n| ShardId(n as u8)).filter(|n| *n != self.id);
            outbox.mesh.extend(
                others.map(|shard| {
                    (shard, Letter::Outages { from: self.id, outages: outages.clone() })
                }),
            );
        }
        self.write_records(now, outbox);
        if self.signal.is_drained() && !self.told_drained {
            self.told_drained = true;
            outbox.events.push(Event::Drained);
        }
    }

    /// Every letter of the turn, with the same care as for datagrams.
    fn letters(&mut self, now: Now, room: usize, inbox: &mut Inbox, outbox: &mut Outbox) {
        for letter in inbox.letters.drain(..) {
            let source = match &letter {
                Letter::Signal { source, .. }
                | Letter::Signed { source, .. }
                | Letter::Stream { source, .. }
                | Letter::Returned { source, .. } => Some(*source),
                Letter::Forward { .. }
                | Letter::Move(_)
                | Letter::Unsent { .. }
                | Letter::Answer(_)
                | Letter::Command(_)
                | Letter::Config(_)
                | Letter::Standing(_)
                | Letter::Outages { .. }
                | Letter::Ported(_) => None,
            };
            let Some(source) = source else {
                self.letter(letter, now, room, &inbox.pool, outbox);
                continue;
            };
            if self.quarantine.holds(source.ip(), now.mono) {
                self.signal.quarantined();
                continue;
            }
            let mark = Mark::of(outbox);
            let heard = AssertUnwindSafe(|| self.letter(letter, now, room, &inbox.pool, outbox));
            if let Err(panic) = catch_unwind(heard) {
                mark.rewind(outbox);
                self.failed(now, room, source, panic, outbox);
            }
        }
    }

    /// Every datagram of the turn. One that makes us fail is undone and left out; the others go on.
    fn packets(&mut self, now: Now, room: usize, inbox: &mut Inbox, outbox: &mut Outbox) {
        let mut at = 0;
        let mut mark = Mark::of(outbox);
        while at < inbox.packets.len() {
            let batch = AssertUnwindSafe(|| {
                while let Some(packet) = inbox.packets.get(at) {
                    mark = Mark::of(outbox);
                    self.packet(now, room, *packet, &mut inbox.pool, outbox);
                    at += 1;
                }
            });
            if let Err(panic) = catch_unwind(batch) {
                mark.rewind(outbox);
                self.failed(now, room, inbox.packets[at].source, panic, outbox);
                at += 1;
            }
        }
    }

    fn packet(
        &mut self,
        now: Now,
        room: usize,
        packet: Received,
        pool: &mut Pool,
        outbox: &mut Outbox,
    ) {
        if packet.port.0 >= self.sip_ports {
            self.media.receive(
                now,
                packet.port,
                packet.source,
                packet.bytes,
                pool,
                &mut outbox.packets,
            );
            return;
        }
        if self.quarantine.holds(packet.source.ip(), now.mono) {
            return self.signal.quarantined();
        }
        let bytes = pool.get(packet.bytes);
        if self.poison.is_some_and(|poison| poison(bytes)) {
            panic!("a poisoned packet");
        }
        let (signal, mut turn) = self.turn(now, outbox, room);
        let (port, source) = (packet.port, packet.source);
        let outcome =
            signal.receive(&mut turn, Sender { port, source, proved: None }, bytes, false);
        send_on(outbox, outcome, (port, source, None), || bytes.into());
    }

    /// A packet made us fail. Its call is closed; its source is heard no more after the second time; the
    /// third failure within a minute is one too many, and the process is to end.
    fn failed(
        &mut self,
        now: Now,
        room: usize,
        source: SocketAddr,
        panic: Box<dyn std::any::Any + Send>,
        outbox: &mut Outbox,
    ) {
        if self.quarantine.blame(source.ip(), now.mono) {
            resume_unwind(panic);
        }
        let (signal, mut turn) = self.turn(now, outbox, room);
        signal.abandon(&mut turn);
    }

    /// Makes a packet fail on purpose: for tests of what happens then.
    pub fn poison(&mut self, poison: fn(&[u8]) -> bool) {
        self.poison = Some(poison);
    }

    /// When `step` wants to be called even without input.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.signal.next_deadline(), self.media.next_sweep()].into_iter().flatten().min()
    }

    /// Whether it takes no calls and holds none.
    pub fn is_drained(&self) -> bool {
        self.signal.is_drained()
    }

    /// Its signalling, to be asked about.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Its media, to be asked about.
    pub fn media(&self) -> &Media {
        &self.media
    }

    fn letter(&mut self, letter: Letter, now: Now, room: usize, pool: &Pool, outbox: &mut Outbox) {
        if let Some(poison) = self.poison {
            let poisons = if let Letter::Signal { bytes, .. } = &letter {
                poison(bytes)
            } else if let Letter::Stream { bytes, .. } = &letter {
                poison(bytes.bytes(pool))
            } else {
                false
            };
            assert!(!poisons, "a poisoned message");
        }
        let (signal, mut turn) = self.turn(now, outbox, room);
        match letter {
            Letter::Signal { port, source, proved, bytes } => {
                let from = Sender { port, source, proved: proved.as_ref() };
                let outcome = signal.receive(&mut turn, from, &bytes, true);
                send_on(outbox, outcome, (port, source, proved), || bytes);
            }
            Letter::Signed { port, source, proved, bytes, call } => {
                let from = Sender { port, source, proved: proved.as_ref() };
                let outcome = signal.signed(&mut turn, from, &bytes, call);
                send_on(outbox, outcome, (port, source, proved), || bytes);
            }
            Letter::Move(letter) => signal.moved(*letter),
            Letter::Stream { port, source, proved, bytes } => {
                let from = Sender { port, source, proved: proved.as_ref() };
                let outcome = signal.receive(&mut turn, from, bytes.bytes(pool), false);
                send_on(outbox, outcome, (port, source, proved), || bytes.into_bytes(pool));
            }
            Letter::Returned { port, source, proved, bytes } => {
                let from = Sender { port, source, proved: proved.as_ref() };
                signal.returned(&mut turn, from, &bytes);
            }
            Letter::Forward { port, to, bytes } => {
                outbox.texts.push(port, to, |out| out.extend_from_slice(&bytes));
            }
            Letter::Unsent { bytes, relayed } => {
                let outcome = signal.unsent(&mut turn, &bytes, relayed);
                if let Outcome::Elsewhere(shard) = outcome {
                    outbox.mesh.push((shard, Letter::Unsent { bytes, relayed: true }));
                }
            }
            Letter::Answer(answer) => signal.answer(&mut turn, answer),
            Letter::Ported(answer) => signal.ported(&mut turn, answer),
            Letter::Command(command) => signal.command(&mut turn, command),
            Letter::Config(image) => signal.reload(image),
            Letter::Standing(standing) => signal.stand(standing),
            Letter::Outages { from, outages } => signal.told_outages(from, &outages),
        }
    }

    fn notice(&mut self, now: Now, room: usize, outbox: &mut Outbox) {
        let mut notices = core::mem::take(&mut self.notices);
        self.media.keys(now.mono, &mut outbox.texts);
        self.media.shake(now.mono, &mut outbox.texts, &mut notices);
        self.media.sweep(now.mono, &mut notices);
        self.media.reports(now, &mut outbox.texts);
        for notice in notices.drain(..) {
            let (signal, mut turn) = self.turn(now, outbox, room);
            signal.heard(&mut turn, notice);
        }
        self.notices = notices;
    }

    fn write_records(&mut self, now: Now, outbox: &mut Outbox) {
        let size = self.record_size;
        let mut records = core::mem::take(&mut outbox.records);
        let (signal, mut turn) = self.turn(now, outbox, 0);
        signal.freeze(&mut turn, size, |slot, bytes| records.push(RecordWrite { slot, bytes }));
        outbox.records = records;
    }

    fn turn<'a>(
        &'a mut self,
        now: Now,
        outbox: &'a mut Outbox,
        room: usize,
    ) -> (&'a mut Signal, Turn<'a>) {
        let written: usize = outbox.journal.iter().map(|f| f.len as usize).sum();
        let turn = Turn {
            now,
            media: &mut self.media,
            texts: &mut outbox.texts,
            plain: &mut outbox.plain,
            journal: &mut outbox.journal,
            events: &mut outbox.events,
            journal_room: room.saturating_sub(written),
        };
        (&mut self.signal, turn)
    }
}

/// A message that is for another shard goes there.
fn send_on(
    outbox: &mut Outbox,
    outcome: Outcome,
    (port, source, proved): (PortId, SocketAddr, Option<Proved>),
    bytes: impl FnOnce() -> Box<[u8]>,
) {
    match outcome {
        Outcome::Handled => {}
        Outcome::Elsewhere(shard) => {
            let bytes = bytes();
            outbox.mesh.push((shard, Letter::Signal { port, source, proved, bytes }));
        }
        Outcome::Signed(shard, call) => {
            let bytes = bytes();
            outbox.mesh.push((shard, Letter::Signed { port, source, proved, bytes, call }));
        }
    }
}

fn sip_ports(limits: &ShardLimits) -> u32 {
    let is_sip = |role| matches!(role, Role::Sip | Role::Stream(_));
    limits.ports.iter().take_while(|p| is_sip(p.role)).count() as u32
}

/// RTP ports with the RTCP port after each.
fn media_ports(limits: &ShardLimits) -> Vec<MediaPort> {
    let numbered = limits.ports.iter().enumerate();
    let rtp = numbered.filter(|(_, p)| p.role == Role::Rtp);
    rtp.map(|(i, p)| MediaPort {
        rtp: base::PortId(i as u32),
        rtcp: base::PortId(i as u32 + 1),
        address: p.address,
        interface: p.interface,
    })
    .collect()
}
