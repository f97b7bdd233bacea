//! `sbcload`: real SIP and real RTP over real UDP sockets.
//!
//! One binary for every load this project puts on an SBC: whole calls with media (`call`), a flood
//! of INVITEs that nobody means (`blast`), one call at a time timed to the microsecond (`probe`), calls
//! that all shake hands in one moment (`shake`) and the called side alone (`uas`). It shares no code
//! with the SBC but DTLS, so it can't share its mistakes. What it deliberately does not know: TLS, TCP, registration, digest.

mod blast;
mod call;
mod cdr;
mod cli;
mod ladder;
mod ledger;
mod link;
mod live;
mod locality;
mod media;
mod os;
mod probe;
mod report;
mod rtp;
mod sdp;
mod shake;
mod sip;
mod srtp;
mod stats;
mod timers;
mod uac;
mod uas;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    os::catch_signals();
    let outcome = match cli::Cli::parse().command {
        cli::Command::Call(arguments) => call::run(arguments),
        cli::Command::Blast(arguments) => blast::run(&arguments),
        cli::Command::Probe(arguments) => probe::run(&arguments),
        cli::Command::Shake(arguments) => shake::run(&arguments),
        cli::Command::Uas(arguments) => call::run_called_side(arguments),
        cli::Command::Cdr(arguments) => cdr::run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("sbcload: {why}");
            ExitCode::from(2)
        }
    }
}
