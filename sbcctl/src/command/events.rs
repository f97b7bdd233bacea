//! `sbcctl events`: what happens to calls and to endpoints, as it happens.
//!
//! It outlives the engine: while that is away it tries again, and after a gap or a restart it asks for
//! every call (`snap`), so that who reads along knows where things stand.

use super::{Context, print};
use crate::engine::{Engine, Heard, read};
use crate::format::{NONE, clock, cut, millis, now_ms, safe};
use crate::judge::Level;
use crate::paint::Paint;
use crate::problem::Problem;
use control::frame::{Answer, CallLine, DtmfLine, EndpointLine, MediaLine, Op};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Names of the events there are.
const NAMES: [&str; 9] = [
    "call.deciding",
    "call.trying",
    "call.ringing",
    "call.answered",
    "call.ended",
    "dtmf",
    "quality",
    "endpoint.up",
    "endpoint.down",
];
/// How long to wait before trying again.
const RETRY: Duration = Duration::from_secs(1);

/// Prints until interrupted, or until `count` events were printed.
pub(crate) fn run(
    context: &Context,
    prefixes: &[String],
    count: Option<u64>,
) -> Result<(), Problem> {
    let wanted = beginnings(prefixes)?;
    let mut reader = Reader { context, wanted, left: count, snap: None, known: 0 };
    let mut engine = context.engine()?;
    let mut first = true;
    loop {
        match reader.follow(&mut engine, first) {
            Err(problem) if problem.is_absence() => {
                reader.note("the engine is gone; trying again every second")?;
                engine = reader.again()?;
                reader.note(&format!("the engine is back, epoch {}", engine.epoch))?;
                first = false;
            }
            other => return other,
        }
    }
}

/// What to subscribe to; one that no event begins with would be waited for in vain.
fn beginnings(prefixes: &[String]) -> Result<Vec<String>, Problem> {
    if prefixes.is_empty() {
        return Ok(vec!["call".to_owned()]);
    }
    let trimmed = |p: &String| p.trim_end_matches('*').trim_end_matches('.').to_owned();
    let wanted: Vec<_> = prefixes.iter().map(trimmed).collect();
    match wanted.iter().find(|w| !NAMES.iter().any(|n| n.starts_with(w.as_str()))) {
        Some(odd) => Err(Problem::Usage(format!(
            "no event begins with `{odd}`; there are {}",
            NAMES.join(", ")
        ))),
        None => Ok(wanted),
    }
}

struct Reader<'a> {
    context: &'a Context,
    wanted: Vec<String>,
    /// Events still to be printed.
    left: Option<u64>,
    /// Id of the command whose reply ends a snapshot, while there is one.
    snap: Option<String>,
    /// Position of the last event of the last snapshot.
    known: u64,
}

impl Reader<'_> {
    /// Subscribes and prints until enough was printed, or the engine has gone.
    fn follow(&mut self, engine: &mut Engine, first: bool) -> Result<(), Problem> {
        (self.snap, self.known) = (None, 0);
        engine.ask(Op::Sub { ev: self.wanted.clone() })?;
        if !first {
            self.snap = Some(engine.send(Op::Snap)?);
        }
        while self.left != Some(0) {
            let Some(heard) = engine.hear(Instant::now() + Duration::from_secs(60))? else {
                continue;
            };
            self.take(engine, &heard)?;
        }
        Ok(())
    }

    fn take(&mut self, engine: &mut Engine, heard: &Heard) -> Result<(), Problem> {
        match &heard.answer {
            // A snapshot tells every call, wanted or not.
            Answer::Ev { ev, call, dtmf, quality, trunk, endpoint, .. }
                if self.wanted.iter().any(|w| ev.starts_with(w.as_str())) =>
            {
                self.left = self.left.map(|left| left - 1);
                let (paint, now) = (self.context.paint, now_ms());
                let text = match (call, endpoint) {
                    (Some(call), _) => {
                        let what = What { call, key: dtmf.as_deref(), rated: quality.as_deref() };
                        render(paint, now, ev, what)
                    }
                    (None, Some(endpoint)) => {
                        turned(paint, now, ev, trunk.as_deref().unwrap_or(NONE), endpoint)
                    }
                    (None, None) => format!("{}  {}", clock(now), safe(ev)),
                };
                print(if self.context.json { &heard.raw } else { &text })
            }
            Answer::Gap { from, to } => {
                if self.context.json {
                    print(&heard.raw)?;
                }
                let lost = to.saturating_sub(*from) + 1;
                if self.snap.is_some() || *from <= self.known {
                    return self.note(&format!(
                        "{lost} calls of the snapshot did not fit; see sbcctl calls"
                    ));
                }
                self.note(&format!(
                    "{lost} events left out: we read too slowly; where calls stand now:"
                ))?;
                self.snap = Some(engine.send(Op::Snap)?);
                Ok(())
            }
            Answer::R { id, result, .. } if self.snap.as_ref() == Some(id) => {
                self.snap = None;
                let number =
                    |name| result.as_ref().and_then(|r| r.get(name)).unwrap_or(&Value::Null);
                self.known = read(number("seq"))?;
                self.note(&format!("{} calls now; events again:", number("calls")))
            }
            Answer::Ev { .. } | Answer::R { .. } | Answer::Welcome { .. } => Ok(()),
        }
    }

    /// Connects as soon as there is an engine.
    fn again(&self) -> Result<Engine, Problem> {
        loop {
            std::thread::sleep(RETRY);
            match self.context.engine() {
                Err(problem) if problem.is_absence() => {}
                other => return other,
            }
        }
    }

    /// A remark among the events; beside them where they are read by a program.
    fn note(&self, text: &str) -> Result<(), Problem> {
        if self.context.json {
            eprintln!("sbcctl: {text}");
            return Ok(());
        }
        print(&self.context.paint.dim(&format!("-- {} {text}", clock(now_ms()))))
    }
}

/// What an event is about.
#[derive(Clone, Copy)]
struct What<'a> {
    call: &'a CallLine,
    key: Option<&'a DtmfLine>,
    rated: Option<&'a MediaLine>,
}

fn render(paint: Paint, now: u64, ev: &str, What { call, key, rated }: What<'_>) -> String {
    let mut text = format!(
        "{}.{:03}  {ev:<13}  {:<10}  {} -> {}  {} -> {}",
        clock(now),
        now % 1000,
        call.id,
        cut(&call.from, 24),
        cut(&call.to, 24),
        cut(&call.trunk_in, 16),
        cut(call.trunk_out.as_deref().unwrap_or(NONE), 16),
    );
    if let Some(DtmfLine { from, digit, duration_ms }) = key {
        text.push_str(&format!("  {from} pressed {digit}, {duration_ms} ms"));
        return text;
    }
    if let Some(MediaLine { from, mos, loss_percent, jitter_ms, .. }) = rated {
        text.push_str(&format!(
            "  {from} MOS {mos:.2}, loss {loss_percent:.2} %, jitter {jitter_ms:.1} ms"
        ));
        return text;
    }
    if let Some(pdd) = call.pdd_ms {
        text.push_str(&format!("  PDD {}", millis(Some(f64::from(pdd)))));
    }
    if call.status != 0 {
        text.push_str(&format!("  {} {}", call.status, cut(&call.reason, 32)));
    }
    let text = text.trim_end();
    if ev == "call.ended" { paint.dim(text) } else { text.to_owned() }
}

/// An endpoint that went in or out.
fn turned(paint: Paint, now: u64, ev: &str, trunk: &str, endpoint: &EndpointLine) -> String {
    let said = endpoint.status.map_or("no answer".to_owned(), |status| status.to_string());
    let (at, of) = (clock(now), now % 1000);
    let text = format!(
        "{at}.{of:03}  {ev:<13}  {}  {}  {said}",
        cut(trunk, 24),
        cut(&endpoint.address, 48)
    );
    let level = if endpoint.state == "down" { Level::Bad } else { Level::Good };
    paint.level(level, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW, golden};

    #[test]
    fn a_line_each() {
        let plain = Paint { on: false };
        let calls = samples::calls().into_iter().chain(samples::ended());
        fn of(call: &CallLine) -> What<'_> {
            What { call, key: None, rated: None }
        }
        let lines = calls.map(|c| render(plain, NOW, &format!("call.{}", c.state), of(&c)));
        let key = DtmfLine { from: "callee".into(), digit: "#".into(), duration_ms: 160 };
        let pressed = samples::calls().into_iter().take(1);
        let pressed =
            pressed.map(|c| render(plain, NOW, "dtmf", What { key: Some(&key), ..of(&c) }));
        let sounding = samples::sounding();
        let rated = What { rated: sounding.media.first(), ..of(&sounding) };
        let rated = core::iter::once(render(plain, NOW, "quality", rated));
        let trunk = &samples::trunks()[1];
        let turned = trunk.health.iter().map(|endpoint| {
            turned(plain, NOW, &format!("endpoint.{}", endpoint.state), &trunk.name, endpoint)
        });
        let lines = lines.chain(pressed).chain(rated).chain(turned);
        golden("events", &lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn beginnings_that_lead_nowhere_are_refused() {
        let of = |p: &str| beginnings(&[p.to_owned()]);
        assert_eq!(beginnings(&[]).unwrap(), ["call"]);
        assert_eq!(of("call.*").unwrap(), ["call"]);
        assert_eq!(of("call.a").unwrap(), ["call.a"]);
        assert!(matches!(of("leg"), Err(Problem::Usage(_))));
    }
}
