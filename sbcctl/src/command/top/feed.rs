//! What `top` shows, once a second, for as long as it is open: the engine may come and go.

use crate::engine::{Engine, read};
use crate::format::now_ms;
use crate::problem::Problem;
use control::frame::{Answer, CallLine, Op, ShardLine, Status, TrunkLine, What};
use serde_json::Value;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// Ended calls kept between two samples; a busy node ends more than anybody reads.
const ENDED: usize = 64;

/// News for the screen.
pub(crate) enum Update {
    /// Another second.
    Sample(Box<Sample>),
    /// No engine, and why.
    Gone(String),
}

/// The node at one time.
pub(crate) struct Sample {
    /// The node.
    pub(crate) status: Status,
    /// Its trunks.
    pub(crate) trunks: Vec<TrunkLine>,
    /// Its shards.
    pub(crate) shards: Vec<ShardLine>,
    /// Calls that ended since the last sample, the newest last.
    pub(crate) ended: Vec<Ended>,
    /// The first three as the engine gave them.
    pub(crate) raw: (Value, Value, Value),
}

/// A call that ended.
#[derive(Clone)]
pub(crate) struct Ended {
    /// When we heard of it, milliseconds since the epoch.
    pub(crate) at: u64,
    /// The call.
    pub(crate) call: CallLine,
}

impl Ended {
    /// Calls that all ended at a time.
    #[cfg(test)]
    pub(crate) fn all(calls: Vec<CallLine>, at: u64) -> Vec<Ended> {
        calls.into_iter().map(|call| Ended { at, call }).collect()
    }
}

impl Sample {
    /// A sample from its parts.
    #[cfg(test)]
    pub(crate) fn of(status: Status, trunks: Vec<TrunkLine>, shards: Vec<ShardLine>) -> Sample {
        let raw = (Value::Null, Value::Null, Value::Null);
        Sample { status, trunks, shards, ended: Vec::new(), raw }
    }
}

/// A connection that samples.
pub(crate) struct Feed {
    engine: Engine,
    ended: Vec<Ended>,
}

impl Feed {
    /// Connects, and subscribes to the ends of calls.
    pub(crate) fn connect(socket: &Path) -> Result<Feed, Problem> {
        let mut engine = Engine::connect(socket)?;
        engine.ask(Op::Sub { ev: vec!["call.ended".to_owned()] })?;
        Ok(Feed { engine, ended: Vec::new() })
    }

    /// Asks for everything.
    pub(crate) fn sample(&mut self) -> Result<Sample, Problem> {
        let status = self.engine.get(What::Status)?;
        let trunks = self.engine.get(What::Trunks)?;
        let shards = self.engine.get(What::Shards)?;
        Ok(Sample {
            status: read(&status)?,
            trunks: read(&trunks)?,
            shards: read(&shards)?,
            ended: std::mem::take(&mut self.ended),
            raw: (status, trunks, shards),
        })
    }

    /// Samples until nobody takes samples any more.
    pub(crate) fn run(mut self, socket: &Path, updates: &SyncSender<Update>) {
        loop {
            let due = Instant::now() + EVERY;
            let update = match self.sample() {
                Ok(sample) => Update::Sample(Box::new(sample)),
                Err(problem) => {
                    if updates.send(Update::Gone(problem.to_string())).is_err() {
                        return;
                    }
                    let Some(feed) = again(socket, updates) else { return };
                    self = feed;
                    continue;
                }
            };
            if updates.send(update).is_err() {
                return;
            }
            // A connection that breaks here is noticed by the next sample.
            let _broken = self.listen(due);
        }
    }

    fn listen(&mut self, due: Instant) -> Result<(), Problem> {
        while Instant::now() < due {
            let heard = match self.engine.hear(due) {
                Ok(heard) => heard,
                Err(problem) => {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    return Err(problem);
                }
            };
            let Some(heard) = heard else { continue };
            if let Answer::Ev { call: Some(call), .. } = heard.answer {
                if self.ended.len() >= ENDED {
                    self.ended.remove(0);
                }
                self.ended.push(Ended { at: now_ms(), call: *call });
            }
        }
        Ok(())
    }
}

/// Connects as soon as there is an engine; nothing when nobody waits for it.
fn again(socket: &Path, updates: &SyncSender<Update>) -> Option<Feed> {
    loop {
        std::thread::sleep(EVERY);
        match Feed::connect(socket) {
            Ok(feed) => return Some(feed),
            Err(problem) => updates.send(Update::Gone(problem.to_string())).ok()?,
        }
    }
}
