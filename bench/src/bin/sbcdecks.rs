//! `sbcdecks DIR`: how long decks take to read and to merge, and a look-up to find its bids.
//!
//! DIR is what `bench/decks/world.py` writes. Each figure is a line: name, value, unit. Beside the market
//! stands one trie per vendor over the same rows.

use base::money::Ratio;
use base::page::Page;
use base::{Instant, Now, Wall};
use clap::Parser;
use engine::config::Config;
use routing_trie::deck::{Code, Deck, Options, import};
use routing_trie::market::{Entry, Market};
use routing_trie::{Builder, Digits, Image as Trie, MAX_DIGITS};
use sbc::policy::Image;
use sbc::policy::decide::{Decision, Facts, decide_with};
use sbc::policy::plan::{Ask, Kept, NoTrace, select};
use sbc::quality::Standing;
use sbc::question::{Names, Ported};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure rate decks.
#[derive(Parser)]
struct Arguments {
    /// Directory of vendor-NN.csv and traffic.csv
    dir: PathBuf,
    /// Compare every vendor's bid for so many random numbers with its own trie
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    prove: u64,
}

/// Length of a call that offers are compared at.
const CALL_MS: u64 = 180_000;
/// Read between two cold look-ups, so that nothing of the first is left in any cache.
const EVICT: usize = 64 << 20;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("sbcdecks: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let files = vendors(&arguments.dir)?;
    let begun = cpu();
    let decks: Vec<Deck> = files.iter().map(|f| read(f)).collect::<Result<_, _>>()?;
    let rows: usize = decks.iter().map(Deck::len).sum();
    figure("deck_rows", rows as f64, "rows");
    figure("deck_import", cpu() - begun, "CPU s");
    let begun = cpu();
    let market = compile(&decks)?;
    figure("market_compile", cpu() - begun, "CPU s");
    figure("market_codes", market.codes() as f64, "codes");
    figure("market_bytes_per_row", market.bytes() as f64 / market.rows() as f64, "B");
    let (mut image, begun) = (Vec::new(), cpu());
    base::record::seal(1, &market, &mut image);
    figure("image_write", cpu() - begun, "CPU s");
    let begun = cpu();
    let read: Result<(Market, usize), _> = base::record::open(1, &image);
    figure("image_read", cpu() - begun, "CPU s");
    if read.map(|(read, _)| read == market) != Ok(true) {
        return Err("the image does not read back".to_owned());
    }
    drop(image);
    replace(&files, decks.clone())?;
    let numbers = Numbers {
        traffic: traffic(&arguments.dir.join("traffic.csv"))?,
        spread: spread(&decks[0]),
    };
    let tries: Vec<Trie> = decks.iter().map(trie).collect();
    measure("shortlist", &numbers, |n| market.shortlist(n).bids.len());
    measure("gather", &numbers, |n| {
        let mut found = 0;
        market.gather(n, |_, _| found += 1);
        found
    });
    measure("trie_per_vendor", &numbers, |n| tries.iter().filter_map(|t| t.lookup(n)).count());
    prove(&market, &tries, arguments.prove)?;
    drop((market, tries));
    let node = Node::new(&arguments.dir, &files, decks)?;
    measure("choice", &numbers, |n| node.choose(n));
    measure("decision", &numbers, |n| node.decide(n));
    Ok(())
}

/// A node of all these vendors: guard, time of day, capacity.
struct Node {
    image: Arc<Image>,
    page: Page,
    names: Names,
    ported: Ported,
    standing: Standing,
    clock: Cell<u64>,
}

impl Node {
    fn new(dir: &Path, files: &[PathBuf], decks: Vec<Deck>) -> Result<Node, String> {
        let mut text = String::from(HEAD);
        let mut books = BTreeMap::new();
        for (n, (file, deck)) in files.iter().zip(decks).enumerate() {
            let name = file.file_stem().and_then(|s| s.to_str()).ok_or("a file without a name")?;
            let port = 6_000 + n;
            let trunk = format!("[[trunk]]\nname = \"{name}\"\ninterface = \"outside\"\n");
            let endpoint =
                format!("endpoints = [\"192.0.2.10:{port}\"]\nsources = [\"192.0.2.10:{port}\"]\n");
            text += &format!(
                "{trunk}{endpoint}capacity = 1000\ncps = 100000\n[[vendor]]\nname = \"{name}\"\n"
            );
            books.insert(name.to_owned(), deck);
        }
        let customer = dir.join("customer-01.csv");
        books.insert("customer-01".to_owned(), read(&customer)?);
        let config = Config::parse("bench", &text).map_err(|e| e.to_string())?;
        let config = config.with_decks(AT, &books).map_err(|e| e.to_string())?;
        let page = Page::new(Image::WORDS);
        // Every tenth vendor is full.
        for trunk in (1..=files.len() as u16).step_by(10) {
            while page.enter(Image::calls_word(trunk), 1000) {}
        }
        let (names, standing, clock) = (Names::default(), Standing::default(), Cell::new(1));
        let ported = Ported::default();
        Ok(Node { image: config.image, page, names, ported, standing, clock })
    }

    /// Time passes, so that every vendor's pace is looked at anew.
    fn now(&self) -> Instant {
        self.clock.set(self.clock.get() + 1_000_000);
        Instant(self.clock.get())
    }

    /// Rule, price, guard, filters, order.
    fn choose(&self, called: Digits) -> usize {
        let now = self.now();
        let (calling, page) = (Digits::EMPTY, &self.page);
        let standing = &self.standing;
        let ask = Ask {
            trunk: 0,
            called,
            routed: called,
            calling,
            at: AT,
            now,
            page,
            standing,
            draw: now.0,
        };
        let chosen = select(&self.image, 0, &ask, |_| Ok(()), &mut NoTrace);
        chosen.map_or(0, |selected| selected.chosen.len())
    }

    /// All of it: from the dialled text to addresses, with the rates copied for each.
    fn decide(&self, called: Digits) -> usize {
        let mut text = [0; MAX_DIGITS];
        let facts = Facts {
            trunk: 0,
            number: called.write(&mut text).as_bytes(),
            calling: b"14155550100",
            now: Now { mono: self.now(), wall: Wall(AT as u64 * 1_000_000_000) },
            names: &self.names,
            ported: &self.ported,
            page: &self.page,
            standing: &self.standing,
            draw: self.clock.get(),
        };
        // As a call does: with its reasons kept.
        let mut kept = Kept::with_room();
        let decision = decide_with(&self.image, &facts, &mut kept);
        black_box(kept.seal(&self.image));
        match decision {
            Decision::Route(way) => way.candidates.len(),
            Decision::Refuse(_) | Decision::Need(_) => 0,
        }
    }
}

/// A moment within the time band of the plan: a Friday noon.
const AT: i64 = 1_795_176_000;

/// All of the configuration but vendors.
const HEAD: &str = "[node]
name = \"bench\"
max_calls = 1000
max_cps = 1000
[[interface]]
name = \"outside\"
bind = \"203.0.113.5:5060\"
media_ports = \"20000-29999\"
[[trunk]]
name = \"customer\"
interface = \"outside\"
sources = [\"198.51.100.0/24\"]
[[customer]]
name = \"customer-01\"
trunks = [\"customer\"]
[[time]]
name = \"peak\"
zone = \"Europe/Berlin\"
weekdays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]
hours = [\"08:00-18:00\"]
[[route]]
prefix = \"\"
plan = \"wholesale\"
[[plan]]
name = \"wholesale\"
[[plan.rule]]
called = [\"449\", \"881\"]
block = true
[[plan.rule]]
time = \"peak\"
min_margin_percent = 1
attempts = 4
[[plan.rule]]
min_margin_percent = 5
";

/// Seconds this thread has been on a core: what others do on the machine does not count.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    nanos / 1e9
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

fn vendors(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let is_vendor = |p: &PathBuf| {
        p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("vendor-"))
    };
    let mut files: Vec<PathBuf> = paths.filter(is_vendor).collect();
    files.sort();
    if files.is_empty() { Err(format!("no vendor-NN.csv in {}", dir.display())) } else { Ok(files) }
}

fn read(file: &Path) -> Result<Deck, String> {
    let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let imported = import(&text, &Options::default());
    imported.map(|i| i.deck).map_err(|why| format!("{}: {why}", file.display()))
}

fn compile(decks: &[Deck]) -> Result<Market, String> {
    let entry = |deck| Entry { deck, fx: Ratio::ONE, profiles: &[] };
    let entries: Vec<Entry> = decks.iter().map(entry).collect();
    Market::compile(&entries, i64::MAX / 4, CALL_MS).map_err(|why| why.to_string())
}

/// One vendor sends a new deck: read, and everything merged anew.
fn replace(files: &[PathBuf], mut decks: Vec<Deck>) -> Result<(), String> {
    let begun = cpu();
    decks[0] = read(&files[0])?;
    let market = compile(&decks)?;
    figure("vendor_replace", cpu() - begun, "CPU s");
    drop(market);
    Ok(())
}

fn trie(deck: &Deck) -> Trie {
    let mut builder = Builder::new();
    for (value, (code, _)) in (0..).zip(deck.rows()) {
        let _same_code_other_date = builder.insert(code.digits(), value);
    }
    builder.build()
}

/// Numbers to look for.
struct Numbers {
    /// As calls come: some destinations often, most hardly ever.
    traffic: Vec<Digits>,
    /// One of every code, neighbours far apart: nothing was seen lately.
    spread: Vec<Digits>,
}

fn spread(deck: &Deck) -> Vec<Digits> {
    let codes: Vec<Digits> = deck.rows().map(|(code, _)| code.digits()).collect();
    let len = codes.len().max(1);
    let number = |n: usize| {
        let mut digits = *codes.get(n * 75_269 % len)?;
        while digits.len() < 12 && digits.push((n % 10) as u8) {}
        Some(digits)
    };
    (0..len).filter_map(number).collect()
}

fn traffic(file: &Path) -> Result<Vec<Digits>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(text.lines().filter_map(|l| l.split(',').next()?.parse().ok()).collect())
}

/// Times `look` number by number: as calls come, spread over all codes, and after every cache was evicted.
fn measure(name: &str, numbers: &Numbers, mut look: impl FnMut(Digits) -> usize) {
    let clock = percentiles((0..10_000).map(|_| timed(|| 0)).collect()).0;
    let hot = numbers.traffic.iter().take(200_000).map(|n| timed(|| look(*n))).collect();
    report(name, "traffic", percentiles(hot), clock);
    let cold = numbers.spread.iter().map(|n| timed(|| look(*n))).collect();
    report(name, "spread", percentiles(cold), clock);
    let mut evict = vec![1u8; EVICT];
    let evicted = numbers.spread.iter().rev().take(1_500).map(|n| {
        evict.iter_mut().step_by(64).for_each(|b| *b = b.wrapping_add(1));
        black_box(&evict);
        timed(|| look(*n))
    });
    report(name, "evicted", percentiles(evicted.collect()), clock);
}

fn timed(act: impl FnOnce() -> usize) -> Duration {
    let begun = Clock::now();
    black_box(act());
    begun.elapsed()
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at =
        |share: usize| times.get(times.len() * share / 100).map_or(0.0, |d| d.as_nanos() as f64);
    (at(50), at(99))
}

fn report(name: &str, how: &str, (p50, p99): (f64, f64), clock: f64) {
    figure(&format!("{name}_{how}_p50"), (p50 - clock).max(0.0), "ns");
    figure(&format!("{name}_{how}_p99"), (p99 - clock).max(0.0), "ns");
}

/// Every vendor's longest code by the market must be the one its own trie finds.
fn prove(market: &Market, tries: &[Trie], count: u64) -> Result<(), String> {
    let mut state = 1u64;
    let begun = cpu();
    for _ in 0..count {
        let mut digits = Digits::EMPTY;
        for _ in 0..12 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            digits.push((state >> 33) as u8 % 10);
        }
        let mut found = BTreeMap::new();
        market.gather(digits, |depth, bid| {
            found.insert(usize::from(bid.vendor), depth);
        });
        for (vendor, trie) in tries.iter().enumerate() {
            let expected = trie.lookup(digits).map(|(depth, _)| depth);
            if found.get(&vendor).copied() != expected {
                let code = Code::of(digits);
                return Err(format!(
                    "vendor {vendor} has another code for {code} than the market says"
                ));
            }
        }
    }
    figure("equal_to_tries", count as f64, "numbers");
    figure("equal_to_tries_took", cpu() - begun, "CPU s");
    Ok(())
}
