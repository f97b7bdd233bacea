//! `sbcd`: the session border controller daemon.

use clap::{Parser, Subcommand};
use engine::config::Config;
use engine::start;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status of a bad configuration (EX_USAGE of sysexits.h).
const BAD_CONFIG: u8 = 64;

/// Tandem session border controller.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    /// Run in the foreground with this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Check a configuration and print every limit that follows from it.
    Check {
        /// The configuration.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (file, check) = match (arguments.command, arguments.config) {
        (Some(Command::Check { file }), _) => (file, true),
        (None, Some(file)) => (file, false),
        (None, None) => return ExitCode::from(BAD_CONFIG),
    };
    let Some(config) = load(&file) else { return ExitCode::from(BAD_CONFIG) };
    let outcome = if check { start::check(&config) } else { start::run(config, &file) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("sbcd: {}\n      {}", fault.what, fault.remedy);
            ExitCode::FAILURE
        }
    }
}

fn load(file: &Path) -> Option<Config> {
    Config::load(file).map_err(|errors| eprintln!("{errors}")).ok()
}
