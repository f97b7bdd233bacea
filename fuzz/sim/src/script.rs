//! What a seed stands for: a configuration, a network, phones, and what befalls them when.

use crate::fault::Cut;
use crate::scene;
use crate::world::Options;
use base::random::Random;
use base::{Instant, Prefix};
use routing_trie::{Builder, Digits, Rewrite};
use sbc::dialog::session_timer::{Mode, Refresher, Terms};
use sbc::policy::methods::Methods;
use sbc::policy::{Face, Image, Interface, MediaRelease, Probing, Redirects, Refers};
use sbc::policy::{Route, RouteTarget, Source};
use sbc::policy::{StreamListener, Target, Transport};
use sbc::question::{Query, Service};
use std::net::SocketAddr;
use std::time::Duration;

/// Phones behind the first interface, then those behind the second.
pub const PHONES: [&str; 5] = [
    "198.51.100.10:5060",
    "198.51.100.11:5062",
    "203.0.113.20:5060",
    "203.0.113.30:5060",
    "203.0.113.40:5070",
];
/// Somebody the configuration does not know.
pub const STRANGER: &str = "192.0.2.66:5060";
/// The host name of the last phone.
pub const HOST: &str = "carrier.example";
/// When the world calms down.
pub const CALM: Instant = Instant(70_000_000_000);
/// When everything must have ended.
pub const END: Instant = Instant(290_000_000_000);

/// Something that happens from outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// A phone calls a number.
    Call(usize, String, &'static str),
    /// The process dies between turns.
    Kill,
    /// The process dies within a turn.
    KillWithin(Cut),
    /// Every record is damaged and the process dies.
    TearAndKill,
    /// A shard is handed over.
    HandOver(usize),
    /// The wall clock jumps.
    Jump(u64, bool),
    /// The stranger sends something it overheard.
    Eavesdrop,
    /// Somebody known sends something broken.
    Mutant,
    /// Noise to a random port.
    Noise,
    /// An operator ends a call.
    Hangup,
    /// An operator wants media of calls back.
    Anchor,
    /// A phone hears nothing for so many milliseconds.
    Deafen(usize, u64),
    /// The gate asks for everything.
    Resync,
    /// The gate publishes the configuration anew.
    Reload,
    /// The connection of a phone breaks, and nothing passes for so many milliseconds.
    Break(usize, u64),
    /// Both ends of a call act at once.
    Race,
    /// A phone asks for two of its calls to be joined.
    Join,
    /// A phone calls to take a side's place in somebody's call.
    Replace(usize),
    /// A phone sends a request outside calls.
    Errand(usize, String),
    /// Everything bad stops.
    Calm,
}

/// A seed, spelled out.
pub struct Script {
    /// The configuration.
    pub image: Image,
    /// The network and the capacities.
    pub options: Options,
    /// Whether each phone is hostile.
    pub hostile: Vec<bool>,
    /// What happens when, in order.
    pub events: Vec<(Instant, Event)>,
    /// Whether tables are so small that requests are refused without a transaction.
    pub scarce: bool,
    /// Where each phone's node is: another address for those with connections.
    pub nodes: Vec<SocketAddr>,
    /// How the name server behaves: milliseconds until it answers, and whether it ever does.
    pub names: (u32, bool),
}

/// The same configuration from a file that lists its trunks in another order, with a trunk nobody uses
/// or without it.
pub fn rewritten(image: &Image) -> Image {
    let mut written = image.clone();
    let live: Vec<usize> =
        (0..image.trunks.len()).filter(|t| !image.trunks[*t].retired).rev().collect();
    written.trunks = live.iter().map(|t| image.trunks[*t].clone()).collect();
    for target in written.routes.iter_mut().flat_map(|r| &mut r.targets) {
        let place = live.iter().position(|t| *t == usize::from(target.trunk));
        target.trunk = place.expect("a trunk that is there") as u16;
    }
    match written.trunks.iter().position(|t| &*t.name == "spare") {
        // It is in no route, so only the numbers after it move.
        Some(spare) => {
            written.trunks.remove(spare);
            let targets = written.routes.iter_mut().flat_map(|r| &mut r.targets);
            targets.for_each(|t| t.trunk -= u16::from(usize::from(t.trunk) > spare));
        }
        None => written.trunks.push(scene::trunk("spare", "192.0.2.250:5060")),
    }
    written
}

/// The same without questions to anybody: nothing is under way for ever.
pub fn unasked(image: &Image) -> Image {
    let mut written = rewritten(image);
    written.trunks.iter_mut().for_each(|trunk| trunk.probing = None);
    written
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0.below(bound)
    }
    fn chance(&mut self, percent: u32) -> bool {
        self.0.below(100) < percent
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u32) as usize]
    }
    fn at(&mut self, most_ms: u32) -> Instant {
        Instant(1_000_000_000 + u64::from(self.below(most_ms)) * 1_000_000)
    }
}

impl Script {
    /// The script of a seed.
    pub fn new(seed: u64) -> Script {
        let mut dice = Dice(Random::new((seed, 0x7363_7269_7074)));
        let scarce = dice.chance(8);
        let options = options(&mut dice, seed, scarce);
        let mut image = image(&mut dice);
        let mut own = Dice(Random::new((seed, 0x7374_7265_616d)));
        let nodes = connect(&mut own, &mut image);
        let is_hostile = dice.chance(50);
        let hostile = PHONES.iter().map(|_| is_hostile && dice.chance(50)).collect();
        let mut events = calls(&mut dice);
        if dice.chance(60) {
            faults(&mut dice, options.shards, &mut events);
        }
        if is_hostile {
            for _ in 0..dice.below(40) {
                let event = [Event::Eavesdrop, Event::Mutant, Event::Noise];
                events.push((dice.at(69_000), event[dice.below(3) as usize].clone()));
            }
        }
        let has_streams = !image.streams.is_empty();
        for _ in 0..if has_streams && own.chance(70) { own.below(12) } else { 0 } {
            let phone = own.below(PHONES.len() as u32) as usize;
            let time = own.pick(&[0, 20, 3_000, 15_000]);
            events.push((own.at(69_000), Event::Break(phone, time)));
        }
        let mut extra = Dice(Random::new((seed, 0x6578_7472_6173)));
        extras(&mut extra, &mut events);
        let mut aside = Dice(Random::new((seed, 0x6173_6964_6573)));
        release(&mut aside, &mut image, &mut events);
        probe(&mut aside, &mut image, &mut events);
        call_back(&mut aside, &mut image);
        events.push((CALM, Event::Calm));
        events.sort_by_key(|e| e.0);
        let names = (dice.pick(&[1, 50, 1_900, 2_100, 6_000]), !dice.chance(15));
        Script { image, options, hostile, events, scarce, nodes, names }
    }
}

/// Races, attended transfers, requests outside calls: each in some of the worlds.
fn extras(dice: &mut Dice, events: &mut Vec<(Instant, Event)>) {
    for _ in 0..if dice.chance(40) { dice.below(16) } else { 0 } {
        events.push((dice.at(40_000), Event::Race));
    }
    // Mostly nobody has two calls, and nothing happens.
    for _ in 0..if dice.chance(50) { dice.below(80) } else { 0 } {
        let phone = dice.below(PHONES.len() as u32) as usize;
        let event = if dice.chance(85) { Event::Join } else { Event::Replace(phone) };
        events.push((dice.at(40_000), event));
    }
    for _ in 0..if dice.chance(30) { dice.below(10) } else { 0 } {
        let phone = dice.below(PHONES.len() as u32) as usize;
        let first = dice.pick(&["3", "4", "5", "6", "7", "8", "9"]);
        events.push((dice.at(40_000), Event::Errand(phone, format!("{first}2079460000"))));
    }
}

/// Lets media of some trunks go past the node, in a third of the worlds, and an operator want it back.
fn release(dice: &mut Dice, image: &mut Image, events: &mut Vec<(Instant, Event)>) {
    if !dice.chance(35) {
        return;
    }
    let some = [MediaRelease::Never, MediaRelease::SameInterface, MediaRelease::Always];
    let many = if dice.chance(50) { &some[..] } else { &some[2..] };
    image.trunks.iter_mut().for_each(|trunk| trunk.media_release = dice.pick(many));
    for _ in 0..dice.below(12) {
        events.push((dice.at(60_000), Event::Anchor));
    }
}

/// Lets endpoints of some trunks be asked whether they are there, in a third of the worlds, and phones be
/// deaf for a while.
fn probe(dice: &mut Dice, image: &mut Image, events: &mut Vec<(Instant, Event)>) {
    if !dice.chance(35) {
        return;
    }
    for trunk in &mut image.trunks {
        let terms = Probing {
            every: Duration::from_millis(dice.pick(&[1_000, 3_000, 10_000])),
            failures: dice.pick(&[1, 2, 3]),
            successes: dice.pick(&[1, 2]),
            last_resort: dice.chance(50),
            ..Probing::default()
        };
        trunk.probing = dice.chance(70).then_some(terms);
    }
    for _ in 0..dice.below(8) {
        let phone = dice.below(PHONES.len() as u32) as usize;
        let time = dice.pick(&[2_000, 15_000, 40_000]);
        events.push((dice.at(60_000), Event::Deafen(phone, time)));
    }
}

/// Lets some trunks be called back for their transfers, in a fifth of the worlds.
fn call_back(dice: &mut Dice, image: &mut Image) {
    if dice.chance(20) {
        for trunk in image.trunks.iter_mut().filter(|trunk| trunk.refers == Refers::Execute) {
            trunk.refers = dice.pick(&[Refers::Execute, Refers::Return]);
        }
    }
}

/// Where connections of the phones behind each interface lead.
const STREAMS: [&str; 2] = ["192.0.2.3:5060", "192.0.2.4:5060"];

/// Lets some trunks have connections, in a third of the worlds; where each phone's node is.
fn connect(dice: &mut Dice, image: &mut Image) -> Vec<SocketAddr> {
    let sip: Vec<_> = image.interfaces.iter().map(|interface| interface.sip).collect();
    let mut nodes: Vec<_> = image.trunks.iter().map(|t| sip[usize::from(t.interface)]).collect();
    if !dice.chance(35) {
        return nodes;
    }
    for (interface, address) in (0..).zip(STREAMS).take(sip.len()) {
        let face = Face { transport: Transport::Tcp, sent_by: address.into() };
        image.streams.push(StreamListener { interface, face });
    }
    for (trunk, node) in image.trunks.iter_mut().zip(&mut nodes) {
        if dice.chance(60) {
            trunk.transport = Transport::Tcp;
            *node = STREAMS[usize::from(trunk.interface)].parse().expect("an address");
            for endpoint in &mut trunk.endpoints {
                if let Target::Name(query) = endpoint {
                    query.service = Service::Tcp;
                }
            }
        }
    }
    nodes
}

fn options(dice: &mut Dice, seed: u64, scarce: bool) -> Options {
    let small = dice.chance(25);
    Options {
        seed,
        shards: dice.pick(&[2, 2, 2, 1, 3]),
        calls: if small { 1 + dice.below(4) } else { 64 },
        pairs: if dice.chance(20) { 1 + dice.below(5) as u16 } else { 64 },
        loss: dice.pick(&[0, 0, 20, 100, 250]),
        duplication: dice.pick(&[0, 0, 30, 300]),
        delay_ms: dice.pick(&[0, 5, 40, 700]),
        transactions: if scarce { 9 + dice.below(12) } else { 4096 },
        journal_room: if dice.chance(4) { 60_000 } else { 1 << 20 },
        traced: true,
    }
}

/// Two callers' trunks and three callees', on one interface or two.
fn image(dice: &mut Dice) -> Image {
    let mut image = scene::image();
    let two = dice.chance(60);
    if two {
        let sip: SocketAddr = "192.0.2.2:5060".parse().expect("an address");
        let sent_by = "192.0.2.2:5060".into();
        image.interfaces.push(Interface {
            name: "core".into(),
            sip,
            advertise: sip.ip(),
            sent_by,
            ..image.interfaces[0].clone()
        });
    }
    let names = ["a", "b", "c", "d", "e"];
    image.trunks = names.iter().zip(PHONES).map(|(n, a)| scene::trunk(n, a)).collect();
    for (i, trunk) in image.trunks.iter_mut().enumerate() {
        trunk.interface = u16::from(two && i >= 2);
        trunk.trying_timeout = Duration::from_millis(dice.pick(&[600, 2_000, 4_000]));
        trunk.ring_timeout = Duration::from_secs(dice.pick(&[3, 15, 40]));
        trunk.max_duration = Duration::from_secs(dice.pick(&[5, 30, 3_600, 3_600]));
        trunk.offers = dice.chance(30);
        trunk.refers = dice.pick(&[Refers::Execute, Refers::Execute, Refers::Pass, Refers::Refuse]);
        trunk.redirects =
            dice.pick(&[Redirects::Refuse, Redirects::Follow, Redirects::Follow, Redirects::Pass]);
        let listed = [b"INFO".as_slice(), b"NOTIFY", b"MESSAGE", b"PUBLISH", b"SUBSCRIBE"];
        trunk.methods = Methods::new(listed);
        trunk.session = Terms {
            mode: dice.pick(&[Mode::Serve, Mode::Serve, Mode::Ask, Mode::Off]),
            expires_s: dice.pick(&[20, 60, 1_800]),
            min_se_s: dice.pick(&[10, 10, 15]),
            refresher: dice.pick(&[Refresher::Us, Refresher::Peer]),
        };
        trunk.media_timeout = dice.pick(&[None, Some(5), Some(30)]).map(Duration::from_secs);
        if dice.chance(12) {
            trunk.capacity = 1 + dice.below(3);
        }
        if dice.chance(5) {
            trunk.cps = 1;
        }
        if dice.chance(20) {
            let address: SocketAddr = PHONES[i].parse().expect("an address");
            trunk.sources =
                vec![Source { prefix: Prefix::host(address.ip()), port: Some(address.port()) }];
        }
    }
    image.trunks[4].endpoints =
        vec![Target::Name(Query { host: HOST.into(), service: Service::Udp })];
    let target =
        |trunk, priority| RouteTarget { trunk, priority, weight: 1, rewrite: Rewrite::default() };
    let mut prefixes = Builder::new();
    let routes = [
        ("4", vec![target(2, 1), target(3, 2)]),
        ("5", vec![target(2, 1), target(3, 1), target(4, 2)]),
        ("3", vec![target(2, 1), target(3, 1), target(4, 1), target(1, 2)]),
        ("6", vec![target(4, 1)]),
        ("7", vec![target(0, 1), target(1, 2)]),
        ("8", vec![target(3, 1), target(2, 2), target(1, 3), target(0, 4)]),
    ];
    for (i, (prefix, _)) in routes.iter().enumerate() {
        let digits = Digits::parse(prefix.as_bytes()).expect("digits");
        prefixes.insert(digits, i as u32).expect("a new prefix");
    }
    image.prefixes = prefixes.build();
    let route = |(prefix, targets): (&str, Vec<RouteTarget>)| Route {
        prefix: prefix.into(),
        targets,
        parallel: prefix == "3" || prefix == "5",
        plan: None,
    };
    image.routes = routes.into_iter().map(route).collect();
    image
}

fn calls(dice: &mut Dice) -> Vec<(Instant, Event)> {
    let many = 3 + dice.below(10);
    let span = dice.pick(&[300, 8_000, 40_000]);
    let mut events = Vec::new();
    for _ in 0..many {
        let phone = dice.below(PHONES.len() as u32) as usize;
        let first = if phone < 2 {
            dice.pick(&["3", "4", "4", "5", "6", "8"])
        } else {
            dice.pick(&["7", "8", "4"])
        };
        let number = match dice.below(30) {
            0 => "900".to_owned(),
            1 => "abc".to_owned(),
            _ => format!("{first}42079460000"),
        };
        let headers = match dice.below(20) {
            0 => "Require: tango",
            1 => "Max-Forwards: 0",
            2 => "P-Asserted-Identity: <sip:x@y>",
            _ => "",
        };
        events.push((dice.at(span), Event::Call(phone, number, headers)));
    }
    events
}

fn faults(dice: &mut Dice, shards: usize, events: &mut Vec<(Instant, Event)>) {
    let span = dice.pick(&[500, 10_000, 69_000]);
    for _ in 0..dice.below(4) {
        let event = match dice.below(8) {
            0..=1 => Event::Kill,
            2 => Event::TearAndKill,
            _ => Event::KillWithin(dice.pick(&Cut::ALL)),
        };
        events.push((dice.at(span), event));
    }
    for _ in 0..dice.below(8) {
        events.push((dice.at(span), Event::HandOver(dice.below(shards as u32) as usize)));
    }
    for _ in 0..dice.below(4) {
        let event = match dice.below(5) {
            0 => Event::Hangup,
            1 => Event::Resync,
            2 => Event::Reload,
            _ => Event::Jump(u64::from(dice.below(3_600)), dice.chance(50)),
        };
        events.push((dice.at(span), event));
    }
}
