//! Runs a seed: the world, its phones, its script and its model, from event to event.

use crate::model::Model;
use crate::phone::{Phone, plan};
use crate::script::{self, Event, HOST, PHONES, STRANGER, Script};
use crate::world::{Trace, World};
use base::Instant;
use base::random::Random;
use control::event::CallId;
use control::{Command, Event as Told};
use node::Letter;
use sbc::billing::Transferred;
use sbc::question::{Answer, Hop, Query, Question};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What a run came to.
pub struct Outcome {
    /// Hash of everything the node sent and wrote.
    pub digest: u64,
    /// CDRs written.
    pub cdrs: usize,
    /// Of them those of calls a leg of which went to another, and those with a side that was replaced.
    pub joined: [usize; 2],
    /// Calls whose media went past the node, media that came back, and questions to endpoints.
    pub aside: [u64; 3],
    /// Steps of shards.
    pub steps: u64,
    /// What went wrong, with the ladder around it.
    pub failure: Option<String>,
}

/// Runs a seed twice: nothing may go wrong, and both runs must agree.
pub fn check(seed: u64, steps: u64) -> Outcome {
    let first = run(seed, steps);
    if first.failure.is_some() {
        return first;
    }
    let second = run(seed, steps);
    if second.digest != first.digest || second.steps != first.steps {
        let failure = format!("seed {seed}: two runs differ");
        return Outcome { failure: Some(failure), ..first };
    }
    first
}

/// Runs a seed for at most this many steps.
pub fn run(seed: u64, steps: u64) -> Outcome {
    let mut show = Show::new(seed);
    let ended = catch_unwind(AssertUnwindSafe(|| show.play(steps)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        show.model.violations.push(format!("panic: {}", text.unwrap_or_default()));
    }
    let cdrs = show.world.cdrs();
    // Who takes a place is known by its name, who is called by its number.
    let replaced = |t: &Transferred| t.status == 200 && t.number.starts_with(b"u");
    let failure = (!show.model.violations.is_empty()).then(|| show.complain(seed));
    Outcome {
        digest: show.model.digest,
        cdrs: cdrs.len(),
        joined: [
            cdrs.iter().filter(|cdr| cdr.transferred_to.is_some()).count(),
            cdrs.iter().filter(|cdr| cdr.transfers.iter().any(replaced)).count(),
        ],
        aside: show.aside(),
        steps: show.world.steps,
        failure,
    }
}

/// Where servers of a name may be said to be, and nobody is.
fn nobody() -> impl Iterator<Item = SocketAddr> {
    (201..204).map(|n| SocketAddr::from(([203, 0, 113, n], 5070)))
}

struct Show {
    world: World,
    phones: Vec<Phone>,
    model: Model,
    events: VecDeque<(Instant, Event)>,
    answers: Vec<(Instant, Query)>,
    names: (u32, bool),
    random: Random,
    serial: u32,
    /// The last datagrams that reached the node, to be repeated by others.
    heard: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Show {
    fn new(seed: u64) -> Show {
        let Script { image, options, hostile, events, scarce, nodes, names } = Script::new(seed);
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let peers = PHONES.iter().map(|p| address(p)).chain(nobody()).collect();
        let model = Model::new(&image, peers, scarce, !hostile.contains(&true));
        let mut world = World::new(image, options);
        let mut phones = Vec::new();
        for (i, text) in PHONES.iter().enumerate() {
            world.peer(text);
            phones.push(Phone::new(address(text), nodes[i], (seed, 1_000 + i as u64), hostile[i]));
        }
        world.peer(STRANGER);
        let events = events.into();
        let random = Random::new((seed, 0x0072_756e));
        let (answers, heard) = (Vec::new(), VecDeque::new());
        Show { world, phones, model, events, answers, names, random, serial: 0, heard }
    }

    fn play(&mut self, steps: u64) {
        while self.world.steps < steps && self.model.violations.is_empty() {
            let phones = self.phones.iter().map(Phone::deadline);
            let own = self.events.front().map(|e| e.0).into_iter();
            let own = own.chain(self.answers.iter().map(|a| a.0)).chain(phones);
            let next = own.chain(self.world.next_event()).min().unwrap_or(Instant::NEVER);
            if next > script::END {
                self.model.close(&self.world);
                self.name_the_left();
                return;
            }
            self.turn(next);
        }
    }

    /// What the node says about calls that should be gone.
    fn name_the_left(&mut self) {
        self.world.events.clear();
        if self.world.shards().iter().all(|s| s.signal().calls() == 0) {
            return;
        }
        self.every(|| Letter::Command(Command::Resync));
        let left = format!("{:?}", self.world.events);
        self.model.violations.push(left);
    }

    fn turn(&mut self, now: Instant) {
        self.world.advance_to(now);
        let now = self.world.now();
        while self.events.front().is_some_and(|e| e.0 <= now) {
            if let Some((_, event)) = self.events.pop_front() {
                self.happen(now, event);
            }
        }
        self.resolve(now);
        for phone in &mut self.phones {
            while let Some(arrived) = self.world.take(phone.address()) {
                phone.receive(now, &arrived.bytes);
            }
            phone.tick(now);
            for (from, to, bytes) in phone.line.out.drain(..) {
                self.world.send(from, to, bytes);
            }
        }
        self.overhear();
        self.model.watch(&mut self.world, &self.phones);
        let stranger: SocketAddr = STRANGER.parse().expect("an address");
        if self.world.take(stranger).is_some() {
            self.model.violations.push("the stranger heard something".to_owned());
        }
    }

    fn overhear(&mut self) {
        for trace in &self.world.trace {
            let (Trace::Into(passed) | Trace::Out(passed)) = trace else { continue };
            self.heard.push_back((passed.from, passed.to, passed.bytes.clone()));
            if self.heard.len() > 64 {
                self.heard.pop_front();
            }
        }
    }

    /// The name server, as late as it is.
    fn resolve(&mut self, now: Instant) {
        for event in self.world.events.drain(..) {
            if let Told::Asked { question } = event
                && self.names.1
                && let Ok(Question::Resolve(query)) = question.as_str().parse()
            {
                let at = now + Duration::from_millis(u64::from(self.names.0));
                self.answers.push((at, query));
            }
        }
        let due = |a: &(Instant, Query)| a.0 <= now;
        while let Some(i) = self.answers.iter().position(due) {
            let (_, query) = self.answers.remove(i);
            assert_eq!(&*query.host, HOST);
            let (hops, stale_s) = (self.servers(), self.random.below(3) * 20);
            let answer = Answer { query, hops, ttl_s: 3, stale_s };
            for shard in 0..self.world.shards().len() {
                self.world.post(shard, Letter::Answer(answer.clone()));
            }
        }
    }

    /// Servers of the name: none, or the phone that has it, among some that nobody is at.
    fn servers(&mut self) -> Vec<Hop> {
        if self.random.below(5) == 0 {
            return Vec::new();
        }
        let hop = |address: SocketAddr, priority, weight| Hop {
            priority,
            weight,
            port: address.port(),
            addresses: vec![address.ip()],
        };
        let mut hops = vec![hop(PHONES[4].parse().expect("an address"), 1, 10)];
        for dead in nobody().take(self.random.below(4) as usize) {
            let (priority, weight) = (self.random.below(3) as u16, self.random.below(20) as u16);
            hops.push(hop(dead, priority, weight));
        }
        hops
    }

    fn happen(&mut self, now: Instant, event: Event) {
        let mark = |text: &str| format!("{:>9.3} ---- {text}", now.0 as f64 / 1e6);
        if !matches!(event, Event::Call(..)) {
            self.world.ladder.push(mark(&format!("{event:?}")));
        }
        match event {
            Event::Call(phone, number, headers) => {
                self.serial += 1;
                self.phones[phone].call(now, self.serial, &number, headers);
            }
            Event::Kill => self.world.crash(),
            Event::KillWithin(cut) => self.world.crash_within(cut),
            Event::TearAndKill => {
                self.world.tear_records();
                self.world.crash();
            }
            Event::HandOver(shard) => self.world.hand_over(shard),
            Event::Jump(seconds, back) => self.world.jump_wall(Duration::from_secs(seconds), back),
            Event::Eavesdrop => self.eavesdrop(),
            Event::Mutant => self.mutate(),
            Event::Noise => self.noise(),
            Event::Hangup => self.command(Command::Hangup),
            Event::Anchor => self.command(Command::Anchor),
            Event::Deafen(phone, ms) => {
                self.phones[phone].deafen(now + Duration::from_millis(ms));
            }
            Event::Break(phone, ms) => {
                let peer = self.phones[phone].address();
                self.world.break_connection(peer, Duration::from_millis(ms));
            }
            Event::Race => self.race(now),
            Event::Join => self.join(now),
            Event::Replace(phone) => self.replace(now, phone),
            Event::Errand(phone, number) => {
                self.serial += 1;
                self.phones[phone].errand(now, self.serial, &number);
            }
            Event::Resync => self.every(|| Letter::Command(Command::Resync)),
            Event::Reload => {
                let written = script::rewritten(&self.world.image());
                self.world.reload(written);
            }
            Event::Calm => {
                self.world.calm();
                if self.world.image().trunks.iter().any(|trunk| trunk.probing.is_some()) {
                    let written = script::unasked(&self.world.image());
                    self.world.reload(written);
                }
                self.phones.iter_mut().for_each(|p| p.calm(now));
            }
        }
    }

    /// Calls whose media went past the node, media that came back, questions to endpoints: since the last
    /// restart of each shard.
    fn aside(&self) -> [u64; 3] {
        let counted = self.world.shards().iter().map(|shard| shard.signal().counters());
        let counted =
            counted.map(|c| [c.media_released.get(), c.media_anchored.get(), c.probes_sent.get()]);
        counted.fold([0; 3], |sum, one| core::array::from_fn(|i| sum[i] + one[i]))
    }

    /// Legs that stand: phone, place there, and number of their call.
    fn up(&self) -> Vec<(usize, usize, u32)> {
        let legs = self.phones.iter().enumerate();
        legs.flat_map(|(phone, p)| p.up().into_iter().map(move |(at, serial)| (phone, at, serial)))
            .collect()
    }

    /// One of these at random.
    fn any<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let most = u32::try_from(of.len()).ok().filter(|most| *most > 0)?;
        of.get(self.random.below(most) as usize).copied()
    }

    /// Both ends of a call act at once.
    fn race(&mut self, now: Instant) {
        let up = self.up();
        let facing = |a: &(usize, usize, u32)| up.iter().find(|b| a.2 == b.2 && a != *b).copied();
        let pairs: Vec<_> = up.iter().filter_map(|a| Some((*a, facing(a)?))).collect();
        let Some((one, other)) = self.any(&pairs) else { return };
        let [first, second] = plan::race(&mut self.random);
        self.phones[one.0].provoke(now, one.1, first);
        self.phones[other.0].provoke(now, other.1, second);
    }

    /// A phone asks for two of its calls to be joined.
    fn join(&mut self, now: Instant) {
        let up = self.up();
        let pairs: Vec<_> = up
            .iter()
            .flat_map(|a| up.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| a.0 == b.0 && a.1 != b.1)
            .collect();
        let Some((one, other)) = self.any(&pairs) else { return };
        self.model.link(one.2, other.2);
        self.phones[one.0].join(now, one.1, other.1);
    }

    /// A phone calls to take the place of a side in somebody's call.
    fn replace(&mut self, now: Instant, phone: usize) {
        let up = self.up();
        let Some((whose, place, serial)) = self.any(&up) else { return };
        let Some([call_id, to, from]) = self.phones[whose].named(place) else { return };
        self.serial += 1;
        self.model.link(self.serial, serial);
        let early = if self.random.below(10) == 0 { ";early-only" } else { "" };
        let replaces = format!("Replaces: {call_id};to-tag={to};from-tag={from}{early}");
        self.phones[phone].call(now, self.serial, "42079460000", &replaces);
    }

    fn every(&mut self, letter: impl Fn() -> Letter) {
        for shard in 0..self.world.shards().len() {
            self.world.post(shard, letter());
        }
    }

    fn pick(&mut self) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let at = self.random.below(self.heard.len() as u32) as usize;
        self.heard.get(at).cloned()
    }

    /// The stranger repeats what it overheard, to where it was sent or came from.
    fn eavesdrop(&mut self) {
        let Some((from, to, bytes)) = self.pick() else { return };
        let ours = |a: SocketAddr| a.ip().to_string().starts_with("192.0.2.");
        let target = if ours(to) { to } else { from };
        let mut bytes = bytes;
        if self.random.below(2) == 0
            && let Some(text) = crate::Text::read(&bytes)
        {
            // As a request of its own, not as a copy.
            let cseq = text.get("CSeq").to_owned();
            let number: u32 = cseq.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let forged = text.raw.replace("z9hG4bKp", "z9hG4bKs");
            let method = text.method().unwrap_or("BYE").to_owned();
            let method = if method == "ACK" { "BYE".to_owned() } else { method };
            bytes = forged
                .replacen("ACK sip:", "BYE sip:", 1)
                .replace(&format!("CSeq: {cseq}"), &format!("CSeq: {} {method}", number + 50))
                .into_bytes();
        }
        self.world.send(STRANGER.parse().expect("an address"), target, bytes);
    }

    /// A phone's message arrives broken.
    fn mutate(&mut self) {
        let Some((from, to, original)) = self.pick() else { return };
        if !self.phones.iter().any(|p| p.address() == from) {
            return;
        }
        let mut bytes = original.clone();
        for _ in 0..=self.random.below(3) {
            let at = self.random.below(bytes.len() as u32) as usize;
            match self.random.below(4) {
                0 => bytes.truncate(at + 1),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, self.random.below(256) as u8),
                _ => bytes[at] ^= 1 << self.random.below(8),
            }
            if bytes.is_empty() {
                return;
            }
        }
        self.model.taint(&original, &bytes);
        self.world.send(from, to, bytes);
    }

    /// Random bytes, or strange RTP, to a SIP or media port from the stranger or a phone's address.
    fn noise(&mut self) {
        let phone = self.random.below(PHONES.len() as u32) as usize;
        let from = if self.random.below(2) == 0 { STRANGER } else { PHONES[phone] };
        let port =
            if self.random.below(3) == 0 { 5060 } else { 20_000 + self.random.below(80) as u16 };
        let ip = if self.random.below(2) == 0 { "192.0.2.1" } else { "192.0.2.2" };
        let to = SocketAddr::new(ip.parse().expect("an address"), port);
        let bytes = match self.random.below(3) {
            0 => crate::wire::rtp(1, 0xffff_fff0, b'x'),
            1 => crate::wire::rtcp(0xffff_fff0),
            _ => (0..self.random.below(200)).map(|_| self.random.below(256) as u8).collect(),
        };
        self.world.send(from.parse().expect("an address"), to, bytes);
    }

    /// An operator wants something of a call, and of those that had its place.
    fn command(&mut self, what: impl Fn(CallId) -> Command) {
        let records: Vec<u32> =
            self.world.regions().iter().flat_map(|r| r.records.keys().copied()).collect();
        let Some(index) = records.first() else { return };
        for generation in 1..5 {
            let id = CallId { home: 0, index: *index, generation };
            self.every(|| Letter::Command(what(id)));
        }
    }

    fn complain(&self, seed: u64) -> String {
        let ladder = &self.world.ladder;
        let from = ladder.len().saturating_sub(70);
        format!(
            "{}\n\nseed {seed} failed at {:.3} ms, step {}:\n{}\n\n\
             replay: cargo run -p sim -- --from {seed} --seeds 1 --ladder",
            ladder[from..].join("\n"),
            self.world.now().0 as f64 / 1e6,
            self.world.steps,
            self.model.violations.join("\n")
        )
    }
}

/// The whole ladder of a seed.
pub fn ladder(seed: u64, steps: u64) -> String {
    let mut show = Show::new(seed);
    let _panicked = catch_unwind(AssertUnwindSafe(|| show.play(steps)));
    show.world.ladder.join("\n")
}
