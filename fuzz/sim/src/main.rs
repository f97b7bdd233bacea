//! Runs random seeds against a simulated node, and says how to replay those that fail.

use clap::Parser;
use std::process::ExitCode;

/// Runs a node, its phones and its network on random seeds.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Steps after which a run is stopped.
    #[arg(long, default_value_t = u64::MAX)]
    steps: u64,
    /// Failures after which to give up.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Print every message of every run.
    #[arg(long)]
    ladder: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut failed, mut cdrs, mut steps) = (Vec::new(), 0, 0);
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        if arguments.ladder {
            println!("{}", sim::run::ladder(seed, arguments.steps));
        }
        let outcome = sim::run::check(seed, arguments.steps);
        (cdrs, steps) = (cdrs + outcome.cdrs, steps + outcome.steps);
        if let Some(failure) = outcome.failure {
            println!("{failure}\n");
            failed.push(seed);
            if failed.len() >= arguments.failures {
                break;
            }
        }
    }
    println!("seeds {} failed {} cdrs {cdrs} steps {steps}", arguments.seeds, failed.len());
    if !failed.is_empty() {
        println!("failed: {failed:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
