//! Which loop, which socket: contenders that do the same relay work, CPU per packet of each in the same minute.
//!
//! `loops [CALLS [SECONDS]]` plays every contender on one core, one after the other, under the same load from the
//! other core, and prints a table. `loops relay CONTENDER CALLS` and `loops load CALLS SECONDS` are what it starts.
//! The work is media's relay, two ports a call; the load is 172 bytes at 50 packets a second and port, a burst
//! each millisecond.

mod draining;
mod load;
mod measure;
mod ours;
mod ring;
mod work;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What goes wrong is told and ends the program.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A loop and its sockets: name, and what runs it until it is ended.
type Contender = (&'static str, fn(u32) -> Outcome);

const CONTENDERS: [Contender; 9] = [
    ("io_uring, sk_lookup, one receive and one raw send socket", |calls| ours::uring(calls, true)),
    ("epoll, sk_lookup, one receive and one raw send socket", |calls| ours::epoll(calls, true)),
    ("io_uring, a socket a port", |calls| ours::uring(calls, false)),
    ("epoll, a socket a port", |calls| ours::epoll(calls, false)),
    ("bare ring, unconnected sockets", |calls| ring::run(calls, false)),
    ("bare ring, connected sockets", |calls| ring::run(calls, true)),
    ("glommio, unconnected sockets", |calls| draining::run(calls, false)),
    ("glommio, connected sockets", |calls| draining::run(calls, true)),
    ("no logic, io_uring, sk_lookup", ours::bare),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: u32| args.get(at).and_then(|arg| arg.parse().ok()).unwrap_or(or);
    let outcome = match args.first().map(String::as_str) {
        Some("relay") => {
            match CONTENDERS.iter().find(|(name, _)| args.get(1).is_some_and(|a| a == name)) {
                Some((_, run)) => run(number(2, 500)),
                None => Err("there is no such contender".into()),
            }
        }
        Some("load") => load::run(number(1, 500), number(2, 8)),
        _ => measure::all(number(0, 500), number(1, 8)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loops: {why}");
            ExitCode::FAILURE
        }
    }
}
