//! The commands, one file each. Each asks the engine, and prints its answer for people or as JSON.

mod call;
mod calls;
mod capture;
mod cdr;
mod completions;
mod config;
mod deck;
mod drain;
mod events;
mod explain;
mod shards;
mod status;
mod top;
mod trunks;
mod why;

use crate::cli::{
    Arguments, CallCommand, CdrCommand, Command, ConfigCommand, ExplainCommand, Global,
};
use crate::engine::Engine;
use crate::paint::Paint;
use crate::problem::Problem;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What every command needs to know.
struct Context {
    socket: PathBuf,
    run: PathBuf,
    json: bool,
    paint: Paint,
}

/// Does what the command line says.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let context = Context::new(&arguments.global);
    match &arguments.command {
        Command::Status => return status::run(&context),
        Command::Calls { limit } => calls::run(&context, *limit),
        Command::Call(CallCommand::Show { id }) => call::show(&context, id),
        Command::Call(CallCommand::Why { id }) => why::run(&context, id),
        Command::Call(CallCommand::Anchor { id }) => call::anchor(&context, id),
        Command::Call(CallCommand::Capture { id, to, seconds, .. }) => match to {
            Some(to) => capture::run(&context, id, to, *seconds),
            None => capture::stop(&context, id),
        },
        Command::Call(CallCommand::Hangup { id }) => call::hangup(&context, id),
        Command::Trunks { quality, health } => trunks::run(&context, *quality, *health),
        Command::Shards => shards::run(&context),
        Command::Drain { wait } => drain::run(&context, *wait),
        Command::Config(ConfigCommand::Reload { check }) => config::reload(&context, *check),
        Command::Cdr(CdrCommand::Tail { lines, follow }) => cdr::tail(&context, *lines, *follow),
        Command::Deck(command) => deck::run(&context, command),
        Command::Explain(ExplainCommand::Call(call)) => explain::call(&context, call),
        Command::Events { prefixes, count } => events::run(&context, prefixes, *count),
        Command::Top { once, size } => top::run(&context, *once, *size),
        Command::Completions { shell } => completions::run(*shell),
    }
    .map(|()| ExitCode::SUCCESS)
}

impl Context {
    fn new(global: &Global) -> Context {
        let named = std::env::var_os("TANDEM_RUN").filter(|v| !v.is_empty()).map(PathBuf::from);
        let beside = |s: &PathBuf| s.parent().map(Path::to_path_buf);
        let run = global.run.clone().or_else(|| global.socket.as_ref().and_then(beside));
        let run = run.or(named).unwrap_or_else(|| PathBuf::from("./run"));
        let socket = global.socket.clone().unwrap_or_else(|| run.join("sbcd.sock"));
        Context { socket, run, json: global.json, paint: Paint::new(global.color) }
    }

    fn engine(&self) -> Result<Engine, Problem> {
        Engine::connect(&self.socket)
    }
}

/// Prints a line or several.
fn print(text: &str) -> Result<(), Problem> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a result as the engine gave it.
fn print_json(result: &Value) -> Result<(), Problem> {
    print(&serde_json::to_string_pretty(result).unwrap_or_default())
}
