//! `sbcctl`: the operator's command line. It asks the engine over its control socket, and prints.
//!
//! It keeps nothing, decides nothing about calls, and may be ended at any time: the engine does not notice.

mod cli;
mod command;
mod engine;
mod format;
mod judge;
mod paint;
mod pcap;
mod problem;
mod progress;
#[cfg(test)]
mod samples;
mod table;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match command::run(&arguments) {
        Ok(code) => code,
        Err(problem) if problem.is_closed_pipe() => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("sbcctl: {problem}");
            problem.exit_code()
        }
    }
}
