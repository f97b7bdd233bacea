//! `sbcctl call`: one call, to look at, to bring its media back, or to release.

use super::{Context, print, print_json};
use crate::engine::{Engine, read};
use crate::format::{NONE, cut, duration, millis, now_ms, safe, score, stamp};
use crate::judge;
use crate::paint::Paint;
use crate::problem::Problem;
use control::frame::{Answer, CallLine, Op, What};
use std::time::{Duration, Instant};

/// How long a hangup waits to see the call end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Shows a call.
pub(crate) fn show(context: &Context, id: &str) -> Result<(), Problem> {
    let op = Op::Get { what: What::Call, call: Some(id.to_owned()), limit: None };
    let result = context.engine()?.ask(op)?;
    if context.json {
        return print_json(&result);
    }
    print(&render(context.paint, &read(&result)?, now_ms()))
}

/// Releases a call, and tells how it ended.
pub(crate) fn hangup(context: &Context, id: &str) -> Result<(), Problem> {
    let mut engine = context.engine()?;
    if !context.json {
        // The subscription comes first, or the end could be missed.
        engine.ask(Op::Sub { ev: vec!["call.ended".to_owned()] })?;
    }
    let result = engine.ask(Op::Hangup { call: id.to_owned() })?;
    if context.json {
        return print_json(&result);
    }
    print(&match ended(&mut engine, id)? {
        Some(call) => farewell(&call, now_ms()),
        None => format!(
            "call {id}: release ordered, and the other side has not confirmed it in {} s;\n\
             its CDR is written when it has, or when the engine gives it up",
            FAREWELL.as_secs()
        ),
    })
}

/// Brings the media of a call back, and tells whether that has begun.
pub(crate) fn anchor(context: &Context, id: &str) -> Result<(), Problem> {
    let mut engine = context.engine()?;
    let result = engine.ask(Op::Anchor { call: id.to_owned() })?;
    if context.json {
        return print_json(&result);
    }
    let deadline = Instant::now() + FAREWELL;
    loop {
        let op = Op::Get { what: What::Call, call: Some(id.to_owned()), limit: None };
        let call: CallLine = read(&engine.ask(op)?)?;
        if !call.released {
            return print(&format!("call {id}: its sides are offered our addresses"));
        }
        if Instant::now() >= deadline {
            return Err(Problem::Refused(format!(
                "call {id}: its media is still released; something else is under way in it"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(engine: &mut Engine, id: &str) -> Result<Option<CallLine>, Problem> {
    let deadline = Instant::now() + FAREWELL;
    while let Some(heard) = engine.hear(deadline)? {
        if let Answer::Ev { call: Some(call), .. } = heard.answer
            && call.id.eq_ignore_ascii_case(id)
        {
            return Ok(Some(*call));
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(None)
}

fn farewell(call: &CallLine, now: u64) -> String {
    let was = match call.answer_at_ms {
        Some(at) => format!("was answered for {}", duration(now.saturating_sub(at) / 1000)),
        None => "was not answered yet".to_owned(),
    };
    format!(
        "call {} released: {} -> {}, {} -> {}, {was} ({})",
        call.id,
        cut(&call.from, 32),
        cut(&call.to, 32),
        safe(&call.trunk_in),
        safe(call.trunk_out.as_deref().unwrap_or(NONE)),
        if call.reason.is_empty() { NONE } else { &call.reason }
    )
}

fn render(paint: Paint, call: &CallLine, now: u64) -> String {
    let ago =
        |at: u64| format!("{} UTC, {} ago", stamp(at), duration(now.saturating_sub(at) / 1000));
    let mut rows = vec![
        ("from", safe(&call.from)),
        ("to", safe(&call.to)),
        ("in", safe(&call.trunk_in)),
        ("out", safe(call.trunk_out.as_deref().unwrap_or(NONE))),
        ("set up", ago(call.setup_at_ms)),
        ("answered", call.answer_at_ms.map_or_else(|| NONE.to_owned(), ago)),
        ("PDD", millis(call.pdd_ms.map(f64::from))),
    ];
    if call.status != 0 {
        rows.push((
            "status",
            format!("{} {}", call.status, safe(&call.reason)).trim_end().to_owned(),
        ));
    }
    if call.released {
        rows.push(("media", "released: it goes from one side to the other, past us".to_owned()));
    }
    if call.packets != [0, 0] {
        let side = |i: usize| {
            let mos = paint.level(judge::mos(call.mos[i]), &score(call.mos[i]));
            format!("{} packets, MOS {mos}", call.packets[i])
        };
        rows.push(("caller", side(0)));
        rows.push(("callee", side(1)));
    }
    for side in &call.media {
        let mos = paint.level(judge::mos(Some(side.mos)), &score(Some(side.mos)));
        let trip = side.rtt_ms.map_or(String::new(), |ms| format!(", round trip {ms:.0} ms"));
        rows.push((
            if side.from == "caller" { "caller" } else { "callee" },
            format!(
                "MOS {mos} now, {:.2} at worst, {:.2} on average; R {:.1}, loss {:.2} %, jitter {:.1} ms{trip}",
                side.mos_min, side.mos_avg, side.r_factor, side.loss_percent, side.jitter_ms
            ),
        ));
    }
    let mut text = format!("{}  {}", paint.bold(&call.id), call.state);
    for (name, value) in rows {
        text.push_str(&format!("\n  {name:<10}{value}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, NOW, golden};

    #[test]
    fn as_a_card() {
        let plain = Paint { on: false };
        golden("call-trying", &render(plain, &samples::calls()[1], NOW));
        golden("call-answered", &render(plain, &samples::calls()[3], NOW));
        let released = CallLine { released: true, ..samples::calls()[3].clone() };
        golden("call-released", &render(plain, &released, NOW));
        golden("call-sounding", &render(plain, &samples::sounding(), NOW));
        golden("call-ended", &render(plain, &samples::ended()[0], NOW));
    }

    #[test]
    fn what_happened() {
        let lines = samples::ended().iter().map(|c| farewell(c, NOW)).collect::<Vec<_>>();
        golden("call-hangup", &lines.join("\n"));
    }
}
