//! The judgement of a run and how it is told: a table for people, one object for programs.

use crate::call::Stage;
use crate::cli::CallArgs;
use crate::media::{Leg, Tally, Wrong};
use crate::os;
use crate::stats::{Histogram, Summary};
use crate::uac::{CallerTally, Fate};
use crate::uas::CalleeTally;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// What a run of `call` left behind.
pub(crate) struct Report<'a> {
    /// How it was asked for.
    pub(crate) args: &'a CallArgs,
    /// What both sides knew.
    pub(crate) stage: &'a Stage,
    /// The calling side.
    pub(crate) caller: CallerTally,
    /// The called side, when it was ours.
    pub(crate) callee: Option<CalleeTally>,
    /// The media workers.
    pub(crate) tallies: Vec<Tally>,
}

/// Audio, added up.
#[derive(Default)]
struct Audio {
    sent: u64,
    received: u64,
    lost: u64,
    duplicates: u64,
    late: u64,
    control: u64,
    refused: u64,
    slips: u64,
    wrong: Wrong,
    delay: Summary,
}

impl Audio {
    fn sum(tallies: &[Tally]) -> Self {
        let mut sum = Audio::default();
        let mut delay = Histogram::new();
        let mut sent = HashMap::new();
        for leg in tallies.iter().flat_map(|tally| &tally.legs) {
            sent.insert((leg.call, leg.side), leg.sent);
        }
        for tally in tallies {
            for leg in &tally.legs {
                let peer = sent.get(&(leg.call, 1 - leg.side)).copied();
                sum.sent += u64::from(leg.sent);
                sum.received += u64::from(leg.received);
                let expected = peer.unwrap_or_else(|| leg.expected());
                sum.lost += u64::from(expected.saturating_sub(leg.received));
            }
            sum.duplicates += tally.duplicates;
            sum.late += tally.late;
            sum.control += tally.control;
            sum.refused += tally.refused;
            sum.slips += tally.slips;
            sum.wrong.content += tally.wrong.content;
            sum.wrong.source += tally.wrong.source;
            sum.wrong.call += tally.wrong.call;
            sum.wrong.direction += tally.wrong.direction;
            sum.wrong.codec += tally.wrong.codec;
            delay.merge(&tally.delay);
        }
        sum.delay = delay.summary();
        sum
    }

    fn loss_percent(&self) -> f64 {
        100.0 * self.lost as f64 / (self.lost + self.received).max(1) as f64
    }

    fn json(&self) -> Value {
        json!({
            "sent": self.sent, "received": self.received, "lost": self.lost,
            "loss_percent": self.loss_percent(), "duplicates": self.duplicates,
            "late": self.late, "rtcp": self.control, "refused_by_kernel": self.refused,
            "slips": self.slips, "bad": self.wrong.total(),
            "bad_content": self.wrong.content, "bad_source": self.wrong.source,
            "bad_call": self.wrong.call, "bad_direction": self.wrong.direction,
            "bad_codec": self.wrong.codec, "delay_us": self.delay.json(),
        })
    }

    fn text(&self, out: &mut String) {
        let wrong = &self.wrong;
        row(
            out,
            "rtp",
            &format!(
                "{} sent, {} received, {} lost ({:.4} %), {} twice, {} late, {} bad",
                self.sent,
                self.received,
                self.lost,
                self.loss_percent(),
                self.duplicates,
                self.late,
                wrong.total()
            ),
        );
        if wrong.total() > 0 {
            row(
                out,
                "rtp bad",
                &format!(
                    "content {}, source {}, call {}, direction {}, codec {}",
                    wrong.content, wrong.source, wrong.call, wrong.direction, wrong.codec
                ),
            );
        }
        row(out, "rtp one-way µs", &self.delay.text());
        if self.slips + self.refused > 0 {
            row(
                out,
                "generator",
                &format!("fell behind {} times, kernel refused {} sends", self.slips, self.refused),
            );
        }
    }
}

fn row(out: &mut String, name: &str, value: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(out, "{name:<18}{value}");
}

fn failure(fate: Fate) -> Option<String> {
    match fate {
        Fate::Clean => None,
        Fate::Open => Some("unfinished".to_owned()),
        Fate::Refused(status) => Some(status.to_string()),
        Fate::NoReply => Some("timeout".to_owned()),
        Fate::NoBye => Some("no_bye_from_callee".to_owned()),
        Fate::ByeFailed => Some("bye_failed".to_owned()),
        Fate::BadAnswer => Some("bad_answer".to_owned()),
    }
}

/// The verdict on all calls together.
struct Verdict {
    answered: u64,
    clean: u64,
    failed: BTreeMap<String, u64>,
    unheard: u64,
}

impl Report<'_> {
    /// JSON, text, and whether the run counts as a success.
    pub(crate) fn conclude(mut self) -> (Value, String, bool) {
        let audio = Audio::sum(&self.tallies);
        let verdict = self.judge();
        let lossy = self.args.max_loss.is_some_and(|most| audio.loss_percent() > most);
        let right = audio.wrong.total() == 0 && !lossy;
        let doubled = self.callee.as_ref().map_or(0, |callee| callee.doubled);
        let all = verdict.clean == u64::from(self.args.calls) && doubled == 0;
        let success = right && (all || self.args.expect_failures);
        let value = self.json(&verdict, &audio, success);
        let text = text(&value, &audio, self.stage.packets > 0);
        (value, text, success)
    }

    /// A call is clean when it was answered, heard on both sides and ended by a BYE with its 200.
    fn judge(&self) -> Verdict {
        let heard: HashMap<(u32, u8), &Leg> = self
            .tallies
            .iter()
            .flat_map(|tally| &tally.legs)
            .map(|leg| ((leg.call, leg.side), leg))
            .collect();
        let hears = |call: u32, side: u8| {
            let leg = heard.get(&(call, side));
            self.stage.packets == 0 || leg.is_some_and(|leg| leg.received > 0)
        };
        let attempted = self.caller.attempted as usize;
        let answered = self.caller.setup.count();
        let mut verdict = Verdict { answered, clean: 0, failed: BTreeMap::new(), unheard: 0 };
        for (call, &fate) in self.caller.fates.iter().take(attempted).enumerate() {
            let call = call as u32;
            let ended =
                self.callee.as_ref().is_none_or(|callee| callee.clean.get(&call) == Some(&true));
            let far = self.callee.is_none() || hears(call, 1);
            let why = match failure(fate) {
                Some(why) => Some(why),
                None if !hears(call, 0) || !far => {
                    verdict.unheard += 1;
                    Some("not_heard".to_owned())
                }
                None if !ended => Some("callee_not_ended".to_owned()),
                None => None,
            };
            match why {
                Some(why) => *verdict.failed.entry(why).or_default() += 1,
                None => verdict.clean += 1,
            }
        }
        verdict
    }

    fn json(&mut self, verdict: &Verdict, audio: &Audio, success: bool) -> Value {
        let caller = &mut self.caller;
        let seconds = (caller.span.1 - caller.span.0) as f64 / 1e9;
        let offered = caller.attempted.saturating_sub(1) as f64 / seconds.max(1e-9);
        let total = self.stage.line.now() as f64 / 1e9;
        let cpu = os::cpu_ns() as f64 / 1e9;
        let callee = self.callee.as_ref();
        let count = |pick: fn(&CalleeTally) -> u64| callee.map_or(0, pick);
        json!({
            "success": success,
            "attempted": caller.attempted, "answered": verdict.answered, "clean": verdict.clean,
            "failed": verdict.failed, "not_heard": verdict.unheard,
            "offered_cps": if caller.attempted > 1 { offered } else { 0.0 },
            "seconds": total, "pacing_lag_us": caller.lag / 1_000,
            "setup_us": caller.setup.summary().json(),
            "post_dial_us": caller.post_dial.summary().json(),
            "bye_us": caller.bye.summary().json(),
            "retransmissions": {
                "caller": caller.retransmitted, "ack": caller.acked_again,
                "callee": count(|callee| callee.retransmitted),
            },
            "callee": {
                "invited": count(|callee| callee.invited), "answered": count(|callee| callee.answered),
                "doubled": count(|callee| callee.doubled), "refused": count(|callee| callee.refused),
                "cancelled": count(|callee| callee.cancelled),
                "unacknowledged": count(|callee| callee.unacknowledged),
                "bye_failed": count(|callee| callee.bye_failed),
            },
            "strays": caller.strays + count(|callee| callee.strays),
            "forbidden": caller.forbidden + count(|callee| callee.forbidden),
            "rtp": audio.json(),
            "generator_cpu_seconds": cpu,
            "generator_cpu_us_per_call": cpu * 1e6 / caller.attempted.max(1) as f64,
        })
    }
}

fn summary(value: &Value) -> Summary {
    let figure = |name: &str| value[name].as_u64().unwrap_or(0);
    Summary {
        count: figure("count"),
        p50: figure("p50"),
        p90: figure("p90"),
        p99: figure("p99"),
        p999: figure("p999"),
        max: figure("max"),
    }
}

fn text(value: &Value, audio: &Audio, media: bool) -> String {
    let mut out = String::new();
    row(
        &mut out,
        "calls",
        &format!(
            "{} attempted, {} answered, {} clean, {:.1} cps, {:.2} s",
            value["attempted"],
            value["answered"],
            value["clean"],
            value["offered_cps"].as_f64().unwrap_or(0.0),
            value["seconds"].as_f64().unwrap_or(0.0)
        ),
    );
    if value["failed"].as_object().is_some_and(|failed| !failed.is_empty()) {
        row(&mut out, "failed", &value["failed"].to_string());
    }
    row(&mut out, "set-up µs", &summary(&value["setup_us"]).text());
    row(&mut out, "post-dial µs", &summary(&value["post_dial_us"]).text());
    row(&mut out, "bye µs", &summary(&value["bye_us"]).text());
    let again = &value["retransmissions"];
    row(
        &mut out,
        "retransmissions",
        &format!(
            "caller {}, callee {}, repeated acks {}",
            again["caller"], again["callee"], again["ack"]
        ),
    );
    for name in ["strays", "forbidden"] {
        if value[name] != json!(0) {
            row(&mut out, name, &value[name].to_string());
        }
    }
    if media {
        audio.text(&mut out);
    }
    row(
        &mut out,
        "generator cpu",
        &format!(
            "{:.2} s, {:.0} µs a call",
            value["generator_cpu_seconds"].as_f64().unwrap_or(0.0),
            value["generator_cpu_us_per_call"].as_f64().unwrap_or(0.0)
        ),
    );
    row(&mut out, "result", if value["success"] == json!(true) { "clean" } else { "FAILED" });
    out
}

/// The called side alone.
pub(crate) fn called_side(tally: &CalleeTally, tallies: &[Tally]) -> (Value, String) {
    let audio = Audio::sum(tallies);
    let value = json!({
        "invited": tally.invited, "answered": tally.answered, "refused": tally.refused,
        "cancelled": tally.cancelled, "unacknowledged": tally.unacknowledged,
        "bye_failed": tally.bye_failed, "retransmissions": tally.retransmitted,
        "doubled": tally.doubled, "strays": tally.strays, "rtp": audio.json(),
    });
    let mut text = String::new();
    row(
        &mut text,
        "calls",
        &format!(
            "{} invited, {} answered, {} refused, {} cancelled",
            tally.invited, tally.answered, tally.refused, tally.cancelled
        ),
    );
    row(
        &mut text,
        "trouble",
        &format!(
            "{} unacknowledged, {} byes failed, {} retransmissions, {} strays",
            tally.unacknowledged, tally.bye_failed, tally.retransmitted, tally.strays
        ),
    );
    audio.text(&mut text);
    (value, text)
}
