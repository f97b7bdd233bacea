//! `sbcctl drain`: no new calls; the engine ends when its last call has ended.

use super::{Context, print, print_json};
use crate::engine::{Engine, read};
use crate::format::{duration, plural};
use crate::problem::Problem;
use control::frame::{Op, Status, What};
use std::time::{Duration, Instant};

/// How often it looks how many calls are left.
const EVERY: Duration = Duration::from_millis(500);
/// How often it says so while the number does not change.
const REPEAT: Duration = Duration::from_secs(30);

/// Orders the drain, and stays for it if asked to.
pub(crate) fn run(context: &Context, wait: bool) -> Result<(), Problem> {
    let mut engine = context.engine()?;
    let result = engine.ask(Op::Drain)?;
    if context.json {
        print_json(&result)?;
    }
    let tell = |text: String| if context.json { Ok(()) } else { print(&text) };
    if !wait {
        // An idle engine ends at once: then there is nobody to ask, and nothing left.
        let left = calls(&mut engine).unwrap_or(0);
        return tell(format!("draining: no new calls are taken; {} left", plural(left, "call")));
    }
    let begun = Instant::now();
    watch(&mut engine, &tell)?;
    tell(format!("the engine has ended, after {}", duration(begun.elapsed().as_secs())))
}

/// Tells how many calls are left until the engine has gone.
fn watch(engine: &mut Engine, tell: &dyn Fn(String) -> Result<(), Problem>) -> Result<(), Problem> {
    let (mut told, mut at) = (None, Instant::now());
    loop {
        let left = match calls(engine) {
            Ok(left) => left,
            Err(Problem::Ended) => return Ok(()),
            Err(other) => return Err(other),
        };
        if told != Some(left) && (told.is_none() || at.elapsed() >= EVERY * 2)
            || at.elapsed() >= REPEAT
        {
            tell(format!("draining: {} left", plural(left, "call")))?;
            (told, at) = (Some(left), Instant::now());
        }
        std::thread::sleep(EVERY);
    }
}

fn calls(engine: &mut Engine) -> Result<u64, Problem> {
    let status: Status = read(&engine.get(What::Status)?)?;
    Ok(status.calls)
}
