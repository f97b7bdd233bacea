//! The gate: everything slow or curious, on one thread of its own, off the shards.
//!
//! Control socket, metrics, name resolution, signals. It speaks to shards through the mesh only, keeps
//! its own picture of the calls from their events, and never waits for a shard, as no shard waits for it.

mod capture;
mod certificates;
mod client;
mod health;
mod heard;
mod metrics;
mod model;
mod names;
mod porting;
mod quality;
mod reload;
mod socket;

pub use capture::CaptureCounters;
pub use certificates::CertificateCounters;
pub use health::Seen;
pub use heard::Sound;
pub use metrics::{
    ANSWERING, Answering, Exposition, MEASURED, Measured, SINGLE, SOUNDING, ShardCounters, Sounding,
};
pub use names::NameCounters;
pub use porting::PortingCounters;
pub use quality::QualityCounters;
pub use reload::ReloadCounters;

use crate::config::{Config, wall_s};
use crate::io::mesh::GateMesh;
use crate::io::stream::Terms;
use base::page::Page;
use base::{Home, ShardId};
use control::event::{CallId, CallState};
use control::frame::Status;
use control::{Command, Event};
use model::Model;
use node::{Fault, Letter};
use sbc::policy::Image;
use sbc::quality::Standing;
use sbc::question::Question;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{interval, sleep, timeout};

/// After the drain timeout calls are released; their last BYEs may take this long.
const FAREWELL: Duration = Duration::from_secs(34);

/// How long events gather before they are taken.
const BATCH: Duration = Duration::from_millis(10);

/// What the gate is given by `main`.
pub struct Gate {
    /// Rings to and from the shards.
    pub mesh: GateMesh,
    /// What connections are begun with.
    pub(crate) terms: Arc<Terms>,
    /// The configuration.
    pub config: Arc<Config>,
    /// Where it was read from, to be read again.
    pub file: PathBuf,
    /// Tells who reads metrics which image is in force.
    pub publish: watch::Sender<Arc<Image>>,
    /// The same for what is known about trunks.
    pub rate: watch::Sender<Arc<Standing>>,
    /// Where how trunks sound is told to metrics.
    pub sound: watch::Sender<Arc<[Sound]>>,
    /// The same for endpoints that are asked whether they are there.
    pub see: watch::Sender<Arc<[Seen]>>,
    /// Everything that is counted.
    pub exposition: Arc<Exposition>,
    /// Words shared by the shards.
    pub page: Page,
    /// Boot epoch.
    pub epoch: u64,
    /// How shards talk to the kernel.
    pub driver: String,
    /// Where it listens.
    pub doors: Doors,
}

/// The gate's listeners: bound before any shard takes a call, so that a taken address is found in time.
pub struct Doors {
    control: std::os::unix::net::UnixListener,
    metrics: Option<std::net::TcpListener>,
}

impl Doors {
    /// Binds the control socket and the metrics address.
    pub fn open(config: &Config) -> Result<Doors, Fault> {
        let metrics = config.metrics.map(|m| metrics::bind(m.listen)).transpose()?;
        Ok(Doors { control: socket::bind(&config.node.run_dir)?, metrics })
    }
}

/// The gate's state, shared by its tasks; they all run on one thread.
pub(crate) struct State {
    mesh: GateMesh,
    /// What connections are begun with.
    terms: Arc<Terms>,
    /// What they were begun with before, as long as a shard has it.
    replaced: Vec<Arc<Terms>>,
    /// Shards that have not heard of it yet.
    unagreed: Vec<ShardId>,
    pub(crate) config: Arc<Config>,
    file: PathBuf,
    publish: watch::Sender<Arc<Image>>,
    reloading: bool,
    /// Decks that cannot be used are left alone until then.
    restock_after: Option<Instant>,
    pub(crate) exposition: Arc<Exposition>,
    pub(crate) page: Page,
    pub(crate) model: Model,
    pub(crate) epoch: u64,
    driver: String,
    started: Instant,
    pub(crate) shards: usize,
    pub(crate) draining: bool,
    drained: Vec<bool>,
    lost: Vec<u64>,
    pub(crate) clients: Vec<Rc<client::Client>>,
    pub(crate) names: names::Names,
    pub(crate) quality: quality::Quality,
    pub(crate) whys: quality::Whys,
    pub(crate) heard: heard::Heard,
    pub(crate) health: health::Health,
    pub(crate) porting: porting::Porting,
    captures: capture::Captures,
}

/// The state as tasks hold it. Never borrowed across an await.
pub(crate) type Shared = Rc<RefCell<State>>;

impl Gate {
    /// Serves until the node has been drained.
    pub fn serve(self) -> Result<(), Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| fault("start the gate", &e))?;
        tokio::task::LocalSet::new().block_on(&runtime, self.run())
    }

    async fn run(self) -> Result<(), Fault> {
        let shards = self.exposition.shards.len();
        let model = Model::new(&self.config.image);
        let captures = capture::Captures::new(self.exposition.captures.clone());
        let counters = self.exposition.quality.clone();
        let quality = quality::Quality::new(&self.config.image, self.rate, counters);
        let state = Rc::new(RefCell::new(State {
            model,
            terms: self.terms,
            replaced: Vec::new(),
            unagreed: Vec::new(),
            config: self.config,
            file: self.file,
            publish: self.publish,
            reloading: false,
            restock_after: None,
            exposition: self.exposition,
            page: self.page,
            epoch: self.epoch,
            driver: self.driver,
            started: Instant::now(),
            shards,
            draining: false,
            drained: vec![false; shards],
            lost: vec![0; shards],
            clients: Vec::new(),
            names: names::Names::default(),
            quality,
            whys: quality::Whys::default(),
            heard: heard::Heard::new(self.sound),
            health: health::Health::new(self.see),
            porting: porting::Porting::default(),
            captures,
            mesh: self.mesh,
        }));
        let listener = UnixListener::from_std(self.doors.control);
        let listener = listener.map_err(|e| fault("serve the control socket", &e))?;
        if let Some(listener) = self.doors.metrics {
            metrics::serve(listener, state.borrow().exposition.clone())?;
        }
        state.borrow_mut().agree();
        eprintln!("sbcd: ready");
        tokio::task::spawn_local(socket::accept(listener, state.clone()));
        tokio::task::spawn_local(names::run(state.clone()));
        tokio::task::spawn_local(tick(state.clone()));
        tokio::task::spawn_local(signals(state.clone())?);
        events(state).await
    }
}

/// Takes the shards' events as they come; ends when every shard has drained.
async fn events(state: Shared) -> Result<(), Fault> {
    let bell = crate::io::watch(state.borrow().mesh.wakes())
        .map_err(|e| fault("watch the shards' bell", &e))?;
    loop {
        let ready = timeout(Duration::from_millis(100), bell.readable()).await;
        if let Ok(Ok(mut ready)) = ready {
            ready.clear_ready();
        }
        let wanted = state.borrow_mut().take_events();
        for (shard, question) in wanted {
            match question {
                Question::Resolve(query) => state.borrow_mut().asked(shard, query),
                Question::Port(number) => porting::asked(&state, shard, number),
            }
        }
        if state.borrow().drained.iter().all(|d| *d) {
            return Ok(());
        }
        // Events are taken a batch at a time: waking for each would cost more than it tells.
        sleep(BATCH).await;
    }
}

/// Once a second: rates, lost events.
async fn tick(state: Shared) {
    let mut every = interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        if state.borrow().wants_decks() {
            let state = state.clone();
            tokio::task::spawn_local(async move { reload::restock(&state).await });
        }
        let mut state = state.borrow_mut();
        let state = &mut *state;
        state.agree_with_the_rest();
        state.look_at_captures();
        state.model.tick(&state.exposition);
        state.clients.iter().for_each(|c| c.tell_gap());
        state.rate_trunks();
        let image = state.config.image.clone();
        state.heard.second(&image.trunks);
        state.health.second(&image.trunks);
        for shard in 0..state.shards {
            let lost = state.mesh.lost(ShardId(shard as u8));
            if lost > state.lost[shard] {
                state.lost[shard] = lost;
                state.model.forget_shard(shard, state.shards);
                state.post(ShardId(shard as u8), Letter::Command(Command::Resync));
            }
        }
    }
}

/// SIGTERM and SIGINT drain; a second one releases what is left. SIGHUP reads the configuration again.
fn signals(state: Shared) -> Result<impl Future<Output = ()>, Fault> {
    let listen = |kind| signal(kind).map_err(|e| fault("listen for signals", &e));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        let mut asked = 0;
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hangup.recv() => {
                    reload::reload_and_tell(&state).await;
                    continue;
                }
            }
            match asked {
                0 => drain(&state),
                1 => state.borrow_mut().tell_all(Command::ReleaseAll),
                _ => std::process::exit(1),
            }
            asked += 1;
        }
    })
}

/// Takes no more calls; releases those that outlast the drain timeout.
pub(crate) fn drain(state: &Shared) {
    let patience = {
        let mut state = state.borrow_mut();
        if state.draining {
            return;
        }
        state.draining = true;
        state.tell_all(Command::Drain);
        state.config.node.drain_timeout
    };
    eprintln!("sbcd: draining; calls that are left in {} s will be released", patience.as_secs());
    let state = state.clone();
    tokio::task::spawn_local(async move {
        sleep(patience).await;
        state.borrow_mut().tell_all(Command::ReleaseAll);
        sleep(FAREWELL).await;
        state.borrow_mut().drained.fill(true);
    });
}

impl State {
    /// Whether other decks than those in force should be.
    fn wants_decks(&self) -> bool {
        let may = self.restock_after.is_none_or(|after| after <= Instant::now());
        may && !self.reloading && self.config.stock.is_stale(wall_s())
    }

    /// Takes every waiting event; returns what shards ask.
    fn take_events(&mut self) -> Vec<(ShardId, Question)> {
        let mut wanted = Vec::new();
        let (model, drained) = (&mut self.model, &mut self.drained);
        let (quality, whys, heard) = (&mut self.quality, &mut self.whys, &mut self.heard);
        let (clients, health, captures) = (&self.clients, &mut self.health, &mut self.captures);
        self.mesh.events(|shard, event| match event {
            Event::Call(view) => {
                let line = model.hear(&view);
                if view.state == CallState::Ended {
                    whys.end(view.id);
                }
                clients.iter().for_each(|c| c.event(&line));
            }
            // What a shard asks it wrote itself: it always reads again.
            Event::Asked { question } => {
                wanted.extend(question.as_str().parse().ok().map(|question| (shard, question)));
            }
            Event::Why { id, record } => whys.hear(id, record),
            Event::Attempted(what) => quality.hear(&what),
            Event::Pressed(key) => {
                if let Some(call) = model.call(key.id) {
                    clients.iter().for_each(|c| c.pressed(&call, &key));
                }
            }
            Event::Sampled(sampled) => {
                heard.hear(&sampled);
                if let Some((call, rated)) = model.rated(&sampled) {
                    clients.iter().for_each(|c| c.rated(&call, &rated));
                }
            }
            Event::Endpoint(told) => {
                if let Some(line) = health.hear(told) {
                    let trunk = model.trunk(told.trunk);
                    eprintln!("sbcd: trunk `{trunk}`: {} is {}", line.address, line.state);
                    clients.iter().for_each(|c| c.turned(&trunk, &line));
                }
            }
            Event::Captured(packet) => captures.hear(&packet),
            Event::Uncaptured { id, packets } => captures.over(id, packets),
            Event::Synced => {}
            Event::Drained => drained[usize::from(shard.0)] = true,
        });
        self.end_captures();
        self.clients.retain(|c| c.is_open());
        wanted
    }

    /// Gives a letter to a shard. Its ring is large; a full one means a shard that does not turn, and
    /// the letter is lost as a datagram would be.
    fn post(&mut self, shard: ShardId, letter: Letter) {
        if self.mesh.send(shard, letter).is_err() {
            eprintln!("sbcd: shard {} takes no letters", shard.0);
        }
    }

    fn tell_all(&mut self, command: Command) {
        for shard in 0..self.shards {
            self.post(ShardId(shard as u8), Letter::Command(command));
        }
    }

    /// Releases one call.
    pub(crate) fn hangup(&mut self, id: CallId) {
        let shard = Home(id.home).seat(self.shards);
        self.post(shard, Letter::Command(Command::Hangup(id)));
    }

    /// Brings the media of one call back.
    pub(crate) fn anchor(&mut self, id: CallId) {
        let shard = Home(id.home).seat(self.shards);
        self.post(shard, Letter::Command(Command::Anchor(id)));
    }

    /// The node as a whole.
    pub(crate) fn status(&self) -> Status {
        let totals = self.exposition.totals();
        let alarms = totals.alarms.into_iter();
        Status {
            node: self.config.node.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            epoch: self.epoch,
            driver: self.driver.clone(),
            shards: self.shards,
            config_generation: self.config.image.generation,
            draining: self.draining,
            calls: totals.calls_held,
            calls_answered: totals.calls_answered,
            calls_total: totals.calls,
            cdrs_total: totals.cdrs,
            journal_waiting: totals.journal_waiting,
            alarms: alarms
                .chain(self.names.alarms(Instant::now()))
                .chain(self.certificate_alarms(wall_s()))
                .chain(self.health.alarms(&self.config.image.trunks))
                .chain(self.heard.alarms(&self.config.image.trunks))
                .collect(),
            ..self.model.status()
        }
    }
}

fn fault(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault { what: format!("cannot {what}: {error}"), remedy: "see the message".to_owned() }
}
