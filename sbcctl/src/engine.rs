//! The client's side of the control socket: connect, ask, hear.

use crate::problem::Problem;
use control::frame::{Answer, Op, PROTO, Request, What, line};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer may take. The engine's gate answers in well under a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the engine.
pub(crate) struct Engine {
    stream: BufReader<UnixStream>,
    /// The line being read: a timeout may come in the middle of one.
    partial: Vec<u8>,
    /// Events that came while an answer was awaited.
    heard: VecDeque<Heard>,
    asked: u64,
    /// Boot epoch of the engine.
    pub(crate) epoch: u64,
}

/// What an engine tells unasked, with the line it came in.
pub(crate) struct Heard {
    /// The line as sent, without its end.
    pub(crate) raw: String,
    /// What it says.
    pub(crate) answer: Answer,
}

impl Engine {
    /// Connects and says hello.
    pub(crate) fn connect(socket: &Path) -> Result<Engine, Problem> {
        let stream = UnixStream::connect(socket).map_err(|e| Problem::connecting(socket, e))?;
        let mut engine = Engine {
            stream: BufReader::new(stream),
            partial: Vec::new(),
            heard: VecDeque::new(),
            asked: 0,
            epoch: 0,
        };
        engine.say(&Request::Hello { proto: PROTO, app: "sbcctl".to_owned() })?;
        match engine.next(Instant::now() + PATIENCE)?.map(|heard| heard.answer) {
            Some(Answer::Welcome { proto, .. }) if proto != PROTO => {
                Err(Problem::Foreign(format!("version {proto}, not {PROTO}")))
            }
            Some(Answer::Welcome { epoch, .. }) => {
                engine.epoch = epoch;
                Ok(engine)
            }
            Some(Answer::R { error: Some(error), .. }) => Err(Problem::Foreign(error)),
            Some(_) => {
                Err(Problem::Foreign("it did not answer our hello with a welcome".to_owned()))
            }
            None => Err(Problem::Silent(PATIENCE.as_secs())),
        }
    }

    /// Sends a command and awaits its result; events that come meanwhile are kept for [`Engine::hear`].
    pub(crate) fn ask(&mut self, op: Op) -> Result<Value, Problem> {
        self.ask_within(op, PATIENCE)
    }

    /// The same for a command that may take this long.
    pub(crate) fn ask_within(&mut self, op: Op, patience: Duration) -> Result<Value, Problem> {
        let id = self.send(op)?;
        let deadline = Instant::now() + patience;
        loop {
            let Some(heard) = self.next(deadline)? else {
                return Err(Problem::Silent(patience.as_secs()));
            };
            match heard.answer {
                Answer::R { id: of, ok, error, result } if of == id => {
                    return if ok {
                        Ok(result.unwrap_or(Value::Null))
                    } else {
                        Err(Problem::Refused(error.unwrap_or_else(|| "refused".to_owned())))
                    };
                }
                // An answer without an id tells that the line was not understood at all.
                Answer::R { id: of, error, .. } if of.is_empty() => {
                    return Err(Problem::Foreign(error.unwrap_or_default()));
                }
                Answer::Welcome { .. }
                | Answer::R { .. }
                | Answer::Ev { .. }
                | Answer::Gap { .. } => {
                    self.heard.push_back(heard);
                }
            }
        }
    }

    /// Sends a command whose result comes among the events; returns its id.
    pub(crate) fn send(&mut self, op: Op) -> Result<String, Problem> {
        self.asked += 1;
        let id = self.asked.to_string();
        self.say(&Request::C { id: id.clone(), idem: None, op })?;
        Ok(id)
    }

    /// Asks what the node is doing.
    pub(crate) fn get(&mut self, what: What) -> Result<Value, Problem> {
        self.ask(Op::Get { what, call: None, limit: None })
    }

    /// The next line that is not an answer awaited by [`Engine::ask`]; `None` when the time is over.
    pub(crate) fn hear(&mut self, until: Instant) -> Result<Option<Heard>, Problem> {
        match self.heard.pop_front() {
            Some(heard) => Ok(Some(heard)),
            None => self.next(until),
        }
    }

    fn say(&mut self, request: &Request) -> Result<(), Problem> {
        let sent = self.stream.get_mut().write_all(line(request).as_bytes());
        sent.map_err(|_| Problem::Ended)
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Heard>, Problem> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Zero would mean for ever.
            let left = left.max(Duration::from_millis(1));
            self.stream.get_ref().set_read_timeout(Some(left)).map_err(|_| Problem::Ended)?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let bytes = std::mem::take(&mut self.partial);
                    return understand(&bytes).map(Some);
                }
                Ok(_) => return Err(Problem::Ended),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(_) => return Err(Problem::Ended),
            }
        }
    }
}

fn understand(bytes: &[u8]) -> Result<Heard, Problem> {
    let raw = String::from_utf8_lossy(bytes).trim_end().to_owned();
    let answer =
        serde_json::from_str(&raw).map_err(|e| Problem::Foreign(format!("{e} in `{raw:.80}`")))?;
    Ok(Heard { raw, answer })
}

/// A result as the struct it was made from.
pub(crate) fn read<T: serde::de::DeserializeOwned>(result: &Value) -> Result<T, Problem> {
    T::deserialize(result).map_err(|e| Problem::Foreign(format!("unexpected result: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_stranger_are_no_panic() {
        assert!(matches!(understand(b"SSH-2.0-OpenSSH\r\n"), Err(Problem::Foreign(_))));
        assert!(matches!(understand(b"{\"t\":\"new\"}\n"), Err(Problem::Foreign(_))));
        let gap = understand(b"{\"t\":\"gap\",\"from\":1,\"to\":2}\n").unwrap();
        assert_eq!(gap.answer, Answer::Gap { from: 1, to: 2 });
    }

    #[test]
    fn results_of_another_shape_are_no_panic() {
        let status: Result<control::frame::Status, _> = read(&serde_json::json!([1]));
        assert!(matches!(status, Err(Problem::Foreign(_))));
    }
}
