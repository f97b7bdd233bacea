//! `sbcdecks DIR`: how long decks take to read and to merge, and a look-up to find its bids.
//!
//! DIR is what `bench/decks/world.py` writes. Each figure is a line: name, value, unit. Beside the market
//! stands one trie per vendor over the same rows.

mod node;
mod prove;
mod swap;

use base::money::Ratio;
use clap::{Parser, ValueEnum};
use node::Node;
use prove::{Rows, prove};
use routing_trie::deck::{Deck, Options, import};
use routing_trie::market::{Entry, Market};
use routing_trie::{Builder, Digits, Image as Trie};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};
use swap::swaps;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure rate decks.
#[derive(Parser)]
struct Arguments {
    /// Directory of vendor-NN.csv and traffic.csv
    dir: PathBuf,
    /// Measure decisions alone
    #[arg(long)]
    decisions: bool,
    /// Look for so many numbers of the traffic, untimed, and stop: for who counts instructions
    #[arg(long, value_name = "N", requires = "look")]
    count: Option<usize>,
    /// What is done with each of them
    #[arg(long, requires = "count")]
    look: Option<Look>,
    /// Compare what is found for so many random numbers with a naive scan of all rows
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    prove: u64,
}

/// How much of a decision.
#[derive(Copy, Clone, ValueEnum)]
enum Look {
    /// Rule, price, guard, filters, order
    Choice,
    /// The same, and how well trunks carry calls
    Quality,
    /// From the dialled text to addresses and rates
    Route,
    /// The same, its reasons kept
    Decision,
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
    let mut decks: Vec<Deck> = files.iter().map(|f| read(f)).collect::<Result<_, _>>()?;
    if arguments.decisions || arguments.count.is_some() {
        return decisions(arguments, &files, decks);
    }
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
    replace(&files, &mut decks, &market)?;
    let numbers = Numbers::read(&arguments.dir, &decks)?;
    let tries: Vec<Trie> = decks.iter().map(trie).collect();
    measure("shortlist", &numbers, |n| market.shortlist(n).bids.len());
    measure("gather", &numbers, |n| {
        let mut found = 0;
        market.gather(n, |_, _| found += 1);
        found
    });
    measure("trie_per_vendor", &numbers, |n| tries.iter().filter_map(|t| t.lookup(n)).count());
    drop(tries);
    prove(&market, &Rows::of(&decks), arguments.prove)?;
    drop(market);
    decisions(arguments, &files, decks)
}

fn decisions(arguments: &Arguments, files: &[PathBuf], decks: Vec<Deck>) -> Result<(), String> {
    let numbers = Numbers::read(&arguments.dir, &decks)?;
    let node = Node::new(&arguments.dir, files, decks)?;
    let look = |look: Look, number: Digits| match look {
        Look::Choice => node.choose(&node.image, node::WHOLESALE, number),
        Look::Quality => node.choose(&node.image, node::BY_QUALITY, number),
        Look::Route => node.decide(number, false),
        Look::Decision => node.decide(number, true),
    };
    if let (Some(count), Some(kind)) = (arguments.count, arguments.look) {
        let found: usize = numbers.traffic.iter().take(count).map(|n| look(kind, *n)).sum();
        figure("chosen", found as f64, "candidates");
        return Ok(());
    }
    measure("choice", &numbers, |n| look(Look::Choice, n));
    measure("choice_quality", &numbers, |n| look(Look::Quality, n));
    measure("route", &numbers, |n| look(Look::Route, n));
    measure("decision", &numbers, |n| look(Look::Decision, n));
    swaps(&node, files, &numbers)
}

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

/// The first vendor sends a new deck: another one's, so that every price and many codes are others; then its
/// own again. It is read, and takes its place. Beside it, all merged anew.
fn replace(files: &[PathBuf], decks: &mut [Deck], market: &Market) -> Result<(), String> {
    let (Some(first), Some(own)) = (decks.first_mut(), files.first()) else { return Ok(()) };
    for (name, file) in [("other", files.get(1).unwrap_or(own)), ("same", own)] {
        let begun = cpu();
        *first = read(file)?;
        figure(&format!("vendor_{name}_read"), cpu() - begun, "CPU s");
        let entry = Entry { deck: first, fx: Ratio::ONE, profiles: &[] };
        let next = market.replace(0, &entry, i64::MAX / 4, CALL_MS).map_err(|w| w.to_string())?;
        figure(&format!("vendor_{name}_replaced"), cpu() - begun, "CPU s");
        black_box(next);
    }
    let begun = cpu();
    black_box(compile(decks)?);
    figure("market_compiled_anew", cpu() - begun, "CPU s");
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

impl Numbers {
    fn read(dir: &Path, decks: &[Deck]) -> Result<Numbers, String> {
        let traffic = traffic(&dir.join("traffic.csv"))?;
        Ok(Numbers { traffic, spread: decks.first().map(spread).unwrap_or_default() })
    }
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
    let calls = numbers.traffic.get(..200_000).unwrap_or(&numbers.traffic);
    report(name, "traffic", percentiles(passes(calls, &mut look)), clock);
    report(name, "spread", percentiles(passes(&numbers.spread, &mut look)), clock);
    let mut evict = vec![1u8; EVICT];
    let evicted = numbers.spread.iter().rev().take(1_500).map(|n| {
        evict.iter_mut().step_by(64).for_each(|b| *b = b.wrapping_add(1));
        black_box(&evict);
        timed(|| look(*n))
    });
    report(name, "evicted", percentiles(evicted.collect()), clock);
}

/// How long each takes: the middle of five passes over all of them, so that what else runs on the machine
/// does not count, and what a pass drives out of the caches does.
fn passes(numbers: &[Digits], look: &mut impl FnMut(Digits) -> usize) -> Vec<Duration> {
    let mut times = vec![[Duration::ZERO; 5]; numbers.len()];
    for pass in 0..5 {
        for (n, times) in numbers.iter().zip(&mut times) {
            times[pass] = timed(|| look(*n));
        }
    }
    let middle = |mut of: [Duration; 5]| {
        of.sort_unstable();
        of[2]
    };
    times.into_iter().map(middle).collect()
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
