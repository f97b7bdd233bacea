//! A CDR as a line of JSON: what billing systems read.
//!
//! Field names are a promise: they are documented in `docs/reference/cdr.md` and only ever added to.

use base::Key;
use base::money::{Decimal, print_nano};
use control::event::CallId;
use sbc::billing::{Attempt, Cdr, CdrId, Frame, LegMedia, Money, Quote, Score, Stamp, Taken};
use sbc::policy::plan::Record;
use serde_json::{Map, Value, json};

/// The line for a `Stop` frame, without its line end; nothing for other frames or damaged ones.
pub fn render(node: &str, frame: &[u8]) -> Option<String> {
    match Frame::open(frame).ok()? {
        Frame::Stop(cdr) => Some(value(node, &cdr).to_string()),
        Frame::Start(_) | Frame::Answer(_) | Frame::Interim(..) => None,
    }
}

/// Identity as text: node, boot epoch, shard, sequence. What consumers deduplicate by.
pub fn id(node: &str, id: CdrId) -> String {
    format!("{node}-{:x}-{}-{}", id.epoch, id.shard, id.sequence)
}

fn value(node: &str, cdr: &Cdr) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    put("id", json!(id(node, cdr.id)));
    put("node", json!(node));
    put("call", cdr.call.map_or(Value::Null, call));
    put("call_id_in", text(&cdr.call_id_in));
    put("call_id_out", text(&cdr.call_id_out));
    put("from", text(&cdr.from));
    put("to", text(&cdr.to));
    put("source", json!(cdr.source.to_string()));
    put("trunk_in", text(&cdr.trunk_in));
    put("trunk_out", text(&cdr.trunk_out));
    put("setup_at", at(Some(cdr.setup)));
    put("ringing_at", at(cdr.ringing));
    put("answer_at", at(cdr.answer));
    put("end_at", at(cdr.end));
    put("pdd_ms", since(cdr.setup, cdr.ringing.or(cdr.answer)));
    put("duration_ms", json!(cdr.duration_ns() / 1_000_000));
    put("status", json!(cdr.status));
    put("q850", json!(cdr.q850));
    put("reason", text(&cdr.reason));
    put("released_by", json!(cdr.released_by.name()));
    put("decision", cdr.taken.as_ref().map_or(Value::Null, |taken| decision(taken, cdr.money())));
    put("why", why(&cdr.why));
    put("attempts", attempts(cdr));
    put("transferred_to", cdr.transferred_to.map_or(Value::Null, |to| json!(id(node, to))));
    put("transfers", (0..cdr.transfers.len()).map(|n| transfer(node, cdr, n)).collect());
    put(
        "media",
        json!({
            "kinds": cdr.marks.kinds.names().collect::<Vec<_>>(),
            "released": cdr.marks.released,
            "caller": media(&cdr.media[0]),
            "callee": media(&cdr.media[1]),
        }),
    );
    put("recovered", json!(cdr.marks.recovered));
    Value::Object(out)
}

/// The id operators know the call by.
fn call((home, key): (u8, Key)) -> Value {
    let Key { index, generation } = key;
    json!(CallId { home, index, generation }.to_string())
}

/// Every stage of the decision, a line each.
fn why(record: &[u8]) -> Value {
    Record::open(record).map_or(json!([]), |record| json!(record.lines().collect::<Vec<_>>()))
}

/// What a plan decided, and what it came to.
fn decision(taken: &Taken, money: Option<Money>) -> Value {
    let amount = |units: Option<i64>| units.map(|units| decimal(taken, units));
    json!({
        "plan": text(&taken.plan),
        "rule": taken.rule,
        "currency": taken.currency.as_str(),
        "sell": taken.sell.as_ref().map(quote),
        "price": amount(money.and_then(|m| m.price)),
        "cost": amount(money.and_then(|m| m.cost)),
        "margin": amount(money.and_then(|m| m.margin)),
    })
}

/// A rate as it was when the call was decided.
fn quote(quote: &Quote) -> Value {
    let (nano, rate) = (|n: u64| print_nano(i128::from(n)), &quote.rate);
    json!({
        "deck": text(&quote.deck),
        "generation": quote.generation,
        "currency": quote.currency.as_str(),
        "fx": quote.fx.to_string(),
        "rate": nano(rate.next.nano_per_min),
        "first_rate": nano(rate.first.nano_per_min),
        "connect_fee": nano(rate.connect_fee_nano),
        "attempt_fee": nano(rate.attempt_fee_nano),
        "first_s": rate.first.increment_s,
        "increment_s": rate.next.increment_s,
        "expected": nano(quote.expected_nano),
    })
}

/// Money is text: a decimal number no reader rounds.
fn decimal(taken: &Taken, units: i64) -> String {
    Decimal { units, places: taken.places }.to_string()
}

/// A transfer, and what it came to.
fn transfer(node: &str, cdr: &Cdr, n: usize) -> Value {
    let one = &cdr.transfers[n];
    let answered = cdr.attempts_of(Some(n)).iter().find(|attempt| attempt.answer.is_some());
    let taken = one.taken.as_ref();
    json!({
        "at": at(Some(one.at)),
        "by": one.by.name(),
        "trunk": text(&one.trunk),
        "number": text(&one.number),
        "call_id": text(&one.call_id),
        "joined": one.joined.map(|joined| id(node, joined)),
        "first_attempt": one.first,
        "status": one.status,
        "answer_at": at(answered.and_then(|attempt| attempt.answer)),
        "duration_ms": answered.and_then(|attempt| cdr.answered_ms_of(attempt)),
        "decision": taken.map_or(Value::Null, |taken| decision(taken, cdr.transfer_money(n))),
        "media": media(&one.media),
    })
}

/// Attempts with what each was bought at and cost.
fn attempts(cdr: &Cdr) -> Value {
    let one = |(place, one): (usize, &Attempt)| {
        let (answered_ms, taken) = (cdr.answered_ms_of(one), cdr.taken_for(place));
        let cost = |(taken, buy): (&Taken, &Quote)| taken.amount(buy, answered_ms, false);
        let cost = taken.zip(one.buy.as_ref()).and_then(cost);
        attempt(one, answered_ms, cost.and_then(|units| Some(decimal(taken?, units))))
    };
    cdr.attempts.iter().enumerate().map(one).collect()
}

fn attempt(attempt: &Attempt, answered_ms: Option<u64>, cost: Option<String>) -> Value {
    json!({
        "trunk": text(&attempt.trunk),
        "endpoint": attempt.endpoint.to_string(),
        "number": text(&attempt.number),
        "at": at(Some(attempt.at)),
        "answer_at": at(attempt.answer),
        "duration_ms": answered_ms,
        "status": attempt.status,
        "reason": text(&attempt.reason),
        "buy": attempt.buy.as_ref().map(quote),
        "cost": cost,
    })
}

fn media(leg: &LegMedia) -> Value {
    let mos = |of: fn(&Score) -> u16| leg.score.map(|score| f64::from(of(&score)) / 100.0);
    json!({
        "packets": leg.packets,
        "octets": leg.octets,
        "lost": leg.lost,
        "discarded": leg.discarded,
        "jitter_us": leg.jitter_us,
        "jitter_max_us": leg.score.map(|score| score.max_jitter_us),
        "rtt_us": leg.score.and_then(|score| score.rtt_us),
        "mos": mos(|score| score.mos_centi),
        "mos_min": mos(|score| score.mos_least_centi),
        "mos_avg": mos(|score| score.mos_mean_centi),
        "r_factor": leg.score.map(|score| score.r_factor),
        "told_mos": leg.score.and_then(|s| s.told_mos_deci).map(|m| f64::from(m) / 10.0),
        "told_r_factor": leg.score.and_then(|score| score.told_r_factor),
    })
}

/// Peers' text is bytes; what is not UTF-8 becomes the replacement character.
fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// Milliseconds since the Unix epoch.
fn at(stamp: Option<Stamp>) -> Value {
    stamp.map_or(Value::Null, |s| json!(s.wall / 1_000_000))
}

fn since(from: Stamp, to: Option<Stamp>) -> Value {
    to.map_or(Value::Null, |to| json!(to.mono.saturating_sub(from.mono) / 1_000_000))
}
