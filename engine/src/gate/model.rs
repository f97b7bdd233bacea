//! The gate's picture of the calls, built from the shards' events: lists and ratios ask it, never a shard.

use super::metrics::Exposition;
use base::Home;
use control::event::{CallId, CallState, CallView, Sampled};
use control::frame::{CallLine, MediaLine, ShardLine, Status};
use sbc::policy::Image;
use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ratios are taken over this many slots…
const SLOTS: usize = 30;
/// … of this many seconds: five minutes.
const SLOT_S: u64 = 10;
/// Rates are averaged over this many seconds.
const RATE_S: usize = 10;

/// Calls that ended in one slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    ended: u64,
    answered: u64,
    duration_ms: u64,
    delays: u64,
    delay_ms: u64,
    scores: u64,
    score_centi: u64,
}

/// Calls of one trunk, or of the node, over the last minutes.
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    begun: VecDeque<u64>,
}

impl Window {
    fn new() -> Window {
        Window { slots: VecDeque::from([Slot::default()]), begun: VecDeque::from([0]) }
    }

    fn begin(&mut self) {
        if let Some(now) = self.begun.back_mut() {
            *now += 1;
        }
    }

    fn end(&mut self, view: &CallView, duration_ms: u64, score: Option<u16>) {
        let Some(slot) = self.slots.back_mut() else { return };
        slot.ended += 1;
        if view.answer_at.is_some() {
            slot.answered += 1;
            slot.duration_ms += duration_ms;
        }
        if let Some(delay) = view.pdd_ms {
            slot.delays += 1;
            slot.delay_ms += u64::from(delay);
        }
        if let Some(score) = score {
            slot.scores += 1;
            slot.score_centi += u64::from(score);
        }
    }

    fn second(&mut self, at: u64) {
        self.begun.push_back(0);
        if self.begun.len() > RATE_S + 1 {
            self.begun.pop_front();
        }
        if at.is_multiple_of(SLOT_S) {
            self.slots.push_back(Slot::default());
            if self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
    }

    fn sum(&self, field: impl Fn(&Slot) -> u64) -> u64 {
        self.slots.iter().map(field).sum()
    }

    fn ratio(&self, above: impl Fn(&Slot) -> u64, below: impl Fn(&Slot) -> u64) -> Option<f64> {
        let below = self.sum(below);
        (below > 0).then(|| self.sum(above) as f64 / below as f64)
    }

    /// New calls per second, whole seconds only.
    pub(crate) fn cps(&self) -> f64 {
        let whole = self.begun.len().saturating_sub(1);
        let begun: u64 = self.begun.iter().take(whole).sum();
        if whole == 0 { 0.0 } else { begun as f64 / whole as f64 }
    }

    /// Calls ended.
    pub(crate) fn ended(&self) -> u64 {
        self.sum(|s| s.ended)
    }

    /// Answer-seizure ratio, percent (ITU-T E.411).
    pub(crate) fn asr(&self) -> Option<f64> {
        self.ratio(|s| s.answered * 100, |s| s.ended)
    }

    /// Average duration of answered calls, seconds.
    pub(crate) fn acd_s(&self) -> Option<f64> {
        self.ratio(|s| s.duration_ms, |s| s.answered).map(|ms| ms / 1000.0)
    }

    /// Average post-dial delay, milliseconds (RFC 6076).
    pub(crate) fn pdd_ms(&self) -> Option<f64> {
        self.ratio(|s| s.delay_ms, |s| s.delays)
    }

    /// Average mean opinion score.
    pub(crate) fn mos(&self) -> Option<f64> {
        self.ratio(|s| s.score_centi, |s| s.scores).map(|centi| centi / 100.0)
    }
}

/// What the shards counted a second ago, for rates.
#[derive(Clone, Copy, Default)]
struct Before {
    relayed: u64,
    received: u64,
    wakes: u64,
    cpu_ns: u64,
}

/// The picture.
pub(crate) struct Model {
    trunks: Vec<String>,
    calls: BTreeMap<CallId, CallView>,
    /// What each side of a call sent in its last window.
    sampled: BTreeMap<CallId, [Option<Sampled>; 2]>,
    pub(crate) node: Window,
    pub(crate) windows: Vec<Window>,
    before: Vec<Before>,
    shards: Vec<ShardLine>,
    seconds: u64,
}

impl Model {
    pub(crate) fn new(image: &Image) -> Model {
        Model {
            trunks: image.trunks.iter().map(|t| t.name.to_string()).collect(),
            calls: BTreeMap::new(),
            sampled: BTreeMap::new(),
            node: Window::new(),
            windows: image.trunks.iter().map(|_| Window::new()).collect(),
            before: Vec::new(),
            shards: Vec::new(),
            seconds: 0,
        }
    }

    /// Another configuration is in force: trunks keep their numbers, new ones follow.
    pub(crate) fn reload(&mut self, image: &Image) {
        self.trunks = image.trunks.iter().map(|t| t.name.to_string()).collect();
        self.windows.resize_with(image.trunks.len(), Window::new);
    }

    /// Takes an event; returns the call as clients see it.
    pub(crate) fn hear(&mut self, view: &CallView) -> CallLine {
        let before = self.calls.get(&view.id).copied();
        if before.is_none() {
            self.node.begin();
            self.window(Some(view.trunk_in)).map(Window::begin);
        }
        if view.trunk_out != before.and_then(|b| b.trunk_out) {
            self.window(view.trunk_out).map(Window::begin);
        }
        if view.state == CallState::Ended {
            self.calls.remove(&view.id);
            self.sampled.remove(&view.id);
            self.ended(view);
        } else {
            self.calls.insert(view.id, *view);
        }
        self.line(view)
    }

    fn ended(&mut self, view: &CallView) {
        let duration = view.answer_at.map_or(0, |at| now_ns().saturating_sub(at) / 1_000_000);
        let [from_caller, from_callee] = view.mos_centi;
        self.node.end(view, duration, from_caller.or(from_callee));
        if let Some(window) = self.window(Some(view.trunk_in)) {
            window.end(view, duration, from_caller);
        }
        if let Some(window) = self.window(view.trunk_out) {
            window.end(view, duration, from_callee);
        }
    }

    fn window(&mut self, trunk: Option<u16>) -> Option<&mut Window> {
        self.windows.get_mut(usize::from(trunk?))
    }

    /// The name of a trunk.
    pub(crate) fn trunk(&self, id: u16) -> String {
        self.trunks.get(usize::from(id)).cloned().unwrap_or_default()
    }

    /// Calls held, oldest id first.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallLine> + '_ {
        self.calls.values().map(|view| self.line(view))
    }

    /// One call.
    pub(crate) fn call(&self, id: CallId) -> Option<CallLine> {
        self.calls.get(&id).map(|view| self.line(view))
    }

    /// One call, with what its sides sent lately.
    pub(crate) fn watched(&self, id: CallId) -> Option<CallLine> {
        let sides = self.sampled.get(&id).into_iter().flatten().flatten();
        Some(CallLine { media: sides.map(media_line).collect(), ..self.call(id)? })
    }

    /// A window was rated; the call and the window as clients see them, if it is known.
    pub(crate) fn rated(&mut self, sampled: &Sampled) -> Option<(CallLine, MediaLine)> {
        let call = self.call(sampled.id)?;
        let sides = self.sampled.entry(sampled.id).or_default();
        sides[usize::from(!sampled.is_callers)] = Some(*sampled);
        Some((call, media_line(sampled)))
    }

    fn line(&self, view: &CallView) -> CallLine {
        let trunk = |t: u16| self.trunk(t);
        CallLine {
            id: view.id.to_string(),
            state: view.state.name().to_owned(),
            from: view.from.to_string(),
            to: view.to.to_string(),
            trunk_in: trunk(view.trunk_in),
            trunk_out: view.trunk_out.map(trunk),
            setup_at_ms: view.setup_at / 1_000_000,
            answer_at_ms: view.answer_at.map(|at| at / 1_000_000),
            pdd_ms: view.pdd_ms,
            status: view.status,
            reason: view.reason.to_string(),
            mos: view.mos_centi.map(|m| m.map(|m| f64::from(m) / 100.0)),
            packets: view.packets,
            released: view.released,
            media: Vec::new(),
        }
    }

    /// A shard's events were lost: its calls are told again.
    pub(crate) fn forget_shard(&mut self, shard: usize, shards: usize) {
        let stays = |id: &CallId| usize::from(Home(id.home).seat(shards).0) != shard;
        self.calls.retain(|id, _| stays(id));
        self.sampled.retain(|id, _| stays(id));
    }

    /// Another second has passed.
    pub(crate) fn tick(&mut self, exposition: &Exposition) {
        self.seconds += 1;
        self.node.second(self.seconds);
        self.windows.iter_mut().for_each(|w| w.second(self.seconds));
        self.before.resize(exposition.shards.len(), Before::default());
        self.shards.clear();
        for (number, shard) in exposition.shards.iter().enumerate() {
            let now = Before {
                relayed: shard.media.packets_relayed.get(),
                received: shard.io.received.get(),
                wakes: shard.io.turns.get(),
                cpu_ns: shard.cpu_ns(),
            };
            let before = core::mem::replace(&mut self.before[number], now);
            let per = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
            let wakes = now.wakes.saturating_sub(before.wakes);
            self.shards.push(ShardLine {
                shard: number,
                kpps: now.relayed.saturating_sub(before.relayed) as f64 / 1000.0,
                per_wake: per(now.received.saturating_sub(before.received), wakes),
                cpu: now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e7,
                ..shard.line()
            });
        }
    }

    /// The shards as of the last second.
    pub(crate) fn shards(&self) -> &[ShardLine] {
        &self.shards
    }

    /// What the picture knows of the node.
    pub(crate) fn status(&self) -> Status {
        Status {
            cps: self.node.cps(),
            ended: self.node.ended(),
            asr: self.node.asr(),
            acd_s: self.node.acd_s(),
            pdd_ms: self.node.pdd_ms(),
            mos: self.node.mos(),
            kpps: self.shards.iter().map(|s| s.kpps).sum(),
            ..Status::default()
        }
    }
}

fn media_line(sampled: &Sampled) -> MediaLine {
    let mos = |centi: u16| f64::from(centi) / 100.0;
    let ms = |us: u32| f64::from(us) / 1_000.0;
    MediaLine {
        from: if sampled.is_callers { "caller" } else { "callee" }.to_owned(),
        mos: mos(sampled.mos_centi),
        mos_min: mos(sampled.mos_least_centi),
        mos_avg: mos(sampled.mos_mean_centi),
        r_factor: f64::from(sampled.r_milli / 100) / 10.0,
        loss_percent: f64::from(sampled.lost) * 100.0 / f64::from(sampled.expected.max(1)),
        jitter_ms: ms(sampled.jitter_us),
        rtt_ms: sampled.rtt_us.map(ms),
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
