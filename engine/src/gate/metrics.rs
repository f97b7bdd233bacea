//! Prometheus exposition: every counter of every shard, from the declarations they were made with.

use super::capture::CaptureCounters;
use super::certificates::CertificateCounters;
use super::fault;
use super::health::Seen;
use super::heard::Sound;
use super::names::NameCounters;
use super::porting::PortingCounters;
use super::quality::QualityCounters;
use super::reload::ReloadCounters;
use crate::disk::scribe::ScribeCounters;
use crate::io::mesh::IoCounters;
use crate::io::{ListenerCounters, TrunkCounters, TrunkTable};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing;
use base::counter::{Group, Kind, Metric};
use base::page::Page;
use control::frame::ShardLine;
use node::Fault;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};
use sbc::counters::{Counters, SetupBucket};
use sbc::policy::Image;
use sbc::quality::{Figures, Measure, Standing};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The set-up delay histogram and the parts it is declared as.
const SETUP: &str = "tandem_setup_delay_seconds";
const SETUP_PARTS: [&str; 2] =
    ["tandem_setup_delay_seconds_bucket", "tandem_setup_delay_microseconds_sum"];

/// What one shard counts.
pub struct ShardCounters {
    /// Signalling.
    pub signal: Arc<Counters>,
    /// Media.
    pub media: Arc<media::Counters>,
    /// Driver.
    pub io: Arc<IoCounters>,
    /// Its listeners for connections.
    pub listeners: Arc<[ListenerCounters]>,
    /// What trunks' connections count.
    pub trunks: Arc<TrunkTable>,
    /// Thread id, once it runs.
    pub thread: Arc<AtomicI32>,
}

impl ShardCounters {
    /// CPU time of the shard's thread, nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        let thread = self.thread.load(Ordering::Relaxed);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
        let first = |s: String| s.split_whitespace().next().and_then(|n| n.parse().ok());
        stat.ok().and_then(first).unwrap_or(0)
    }

    /// What lists show of it, rates apart.
    pub fn line(&self) -> ShardLine {
        let received = |group: &dyn Fn(usize) -> u64, n: usize| (0..n).map(group).sum::<u64>();
        let requests = received(&|i| self.signal.requests_in.get(i), 6);
        let responses = received(&|i| self.signal.responses_in.get(i), 6);
        ShardLine {
            calls: self.signal.calls_held.get(),
            transactions: self.signal.transactions_held.get(),
            sip_received: requests + responses,
            steered: self.signal.steered.get(),
            relayed: self.media.packets_relayed.get(),
            discarded: media::Discard::ALL.iter().map(|d| self.media.discards.get(d.index())).sum(),
            ports_in_use: self.media.in_use.get(),
            ..ShardLine::default()
        }
    }
}

/// Sums that status shows.
#[derive(Default)]
pub struct Totals {
    /// Calls held.
    pub calls_held: u64,
    /// Calls answered and not ended.
    pub calls_answered: u64,
    /// Calls since the start.
    pub calls: u64,
    /// CDRs written.
    pub cdrs: u64,
    /// Journal bytes not yet on disk.
    pub journal_waiting: u64,
    /// What is wrong.
    pub alarms: Vec<String>,
}

/// Everything that is counted, for whoever reads.
pub struct Exposition {
    /// Per shard.
    pub shards: Vec<ShardCounters>,
    /// Of the scribe.
    pub scribe: Arc<ScribeCounters>,
    /// Of reloads.
    pub reloads: Arc<ReloadCounters>,
    /// Of looking names up.
    pub names: Arc<NameCounters>,
    /// Of what is known about trunks.
    pub quality: Arc<QualityCounters>,
    /// Of asking about numbers.
    pub porting: Arc<PortingCounters>,
    /// Of captures of calls.
    pub captures: Arc<CaptureCounters>,
    /// What is known about trunks.
    pub standing: watch::Receiver<Arc<Standing>>,
    /// How trunks sound now.
    pub sounds: watch::Receiver<Arc<[Sound]>>,
    /// Endpoints that are asked whether they are there.
    pub seen: watch::Receiver<Arc<[Seen]>>,
    /// Of certificates.
    pub certificates: Arc<CertificateCounters>,
    /// Words that trunks are counted in.
    pub page: Page,
    /// The configuration in force.
    pub image: watch::Receiver<Arc<Image>>,
}

/// A figure of how a trunk sounds: its metric, itself, and what it means.
pub type Sounding = (&'static str, fn(&Sound) -> Option<f64>, &'static str);

/// What is told of each trunk that was heard within the last minute.
pub const SOUNDING: [Sounding; 3] = [
    (
        "tandem_trunk_live_mos",
        |sound| sound.mos_centi.map(|mos| f64::from(mos) / 100.0),
        "Average opinion score of the windows of live calls that were rated in the last minute.",
    ),
    (
        "tandem_trunk_live_loss_ratio",
        |sound| sound.loss_e4.map(|loss| f64::from(loss) / 1e4),
        "Packets that did not come within those windows.",
    ),
    (
        "tandem_trunk_quality_alarms",
        |sound| Some(sound.raised as f64),
        "Thresholds of `quality_alarm` that the trunk has crossed.",
    ),
];

/// A figure of an endpoint: its metric, itself, and what it means.
pub type Answering = (&'static str, fn(&Seen) -> Option<f64>, &'static str);

/// What is told of each endpoint that is asked by OPTIONS whether it is there.
pub const ANSWERING: [Answering; 2] = [
    (
        "tandem_trunk_endpoint_up",
        |seen| Some(f64::from(u8::from(seen.is_up))),
        "Whether calls are sent to the endpoint: 0 while it does not answer OPTIONS.",
    ),
    (
        "tandem_trunk_endpoint_answer_seconds",
        |seen| seen.answered_s,
        "How long it took to answer the last one; not told when it did not.",
    ),
];

/// What is told of each trunk, and of the process.
pub const SINGLE: [(&str, Kind, &str); 6] = [
    ("tandem_trunk_calls", Kind::Gauge, "Calls on the trunk now, both directions together."),
    ("tandem_trunk_capacity", Kind::Gauge, "The most calls the trunk may have."),
    (
        "tandem_trunk_begun_total",
        Kind::Counter,
        "Calls begun on the trunk, both directions together.",
    ),
    (
        "tandem_trunk_cps_limit",
        Kind::Gauge,
        "The most calls per second that may begin on the trunk.",
    ),
    ("process_cpu_seconds_total", Kind::Counter, "CPU time of the process, user and system."),
    ("process_resident_memory_bytes", Kind::Gauge, "Memory of the process that is in RAM."),
];

/// A family of what was measured: its name, what it is of, its help.
pub type Measured = (&'static str, Option<(Measure, f64)>, &'static str);

/// What is told of each trunk and destination, with the measure it is of and how many make one of its unit;
/// without a measure, of how many attempts.
pub const MEASURED: [Measured; 6] = [
    ("tandem_trunk_attempts", None, "Attempts at the trunk within the quality window."),
    (
        "tandem_trunk_asr_ratio",
        Some((Measure::Asr, 1e4)),
        "Answer-seizure ratio of those attempts (E.411).",
    ),
    (
        "tandem_trunk_ner_ratio",
        Some((Measure::Ner, 1e4)),
        "Network effectiveness ratio of those attempts (E.425).",
    ),
    (
        "tandem_trunk_acd_seconds",
        Some((Measure::Acd, 1e3)),
        "Average duration of the answered ones.",
    ),
    (
        "tandem_trunk_pdd_seconds",
        Some((Measure::Pdd, 1e3)),
        "Average delay from INVITE to ringing or answer (RFC 6076 SRD).",
    ),
    (
        "tandem_trunk_mos",
        Some((Measure::Mos, 1e2)),
        "Average mean opinion score of what came back.",
    ),
];

impl Exposition {
    /// Sums over the shards, and what is wrong.
    pub fn totals(&self) -> Totals {
        let sum = |f: &dyn Fn(&ShardCounters) -> u64| self.shards.iter().map(f).sum::<u64>();
        let mut alarms = Vec::new();
        if self.scribe.failing.get() > 0 {
            alarms.push("the disk refuses CDRs: see the log".to_owned());
        }
        if sum(&|s| s.io.journal_lost.get()) > 0 {
            alarms.push("journal frames were lost: the region was full".to_owned());
        }
        Totals {
            calls_held: sum(&|s| s.signal.calls_held.get()),
            calls_answered: sum(&|s| s.signal.calls_active.get()),
            calls: sum(&|s| s.signal.calls.get()),
            cdrs: sum(&|s| s.signal.cdrs.get()),
            journal_waiting: self.scribe.waiting.get(),
            alarms,
        }
    }

    /// Every metric as (family, labels, value); histograms as their parts.
    pub fn visit(&self, visit: &mut dyn FnMut(Metric, Option<usize>, u64)) {
        for (number, shard) in self.shards.iter().enumerate() {
            let groups: [&dyn Group; 3] = [&*shard.signal, &*shard.media, &*shard.io];
            for group in groups {
                group.visit(&mut |metric, value| visit(metric, Some(number), value));
            }
        }
        let groups: [&dyn Group; 7] = [
            &*self.scribe,
            &*self.reloads,
            &*self.names,
            &*self.quality,
            &*self.porting,
            &*self.captures,
            &*self.certificates,
        ];
        for group in groups {
            group.visit(&mut |metric, value| visit(metric, None, value));
        }
    }

    /// Every metric of listeners for connections: of which shard, and which listener by its name.
    pub fn visit_listeners(&self, mut visit: impl FnMut(Metric, usize, &str, u64)) {
        let image = self.image.borrow().clone();
        for (number, shard) in self.shards.iter().enumerate() {
            for (place, listener) in shard.listeners.iter().enumerate() {
                let name = image.streams.get(place).and_then(|stream| {
                    let interface = image.interfaces.get(usize::from(stream.interface))?;
                    Some(format!("{}/{}", interface.name, stream.face.transport.param()))
                });
                let name = name.unwrap_or_else(|| place.to_string());
                listener.visit(&mut |metric, value| visit(metric, number, &name, value));
            }
        }
    }

    /// Every metric of trunks' connections, summed over the shards: of which trunk, by its name.
    pub fn visit_trunks(&self, mut visit: impl FnMut(Metric, &str, u64)) {
        let image = self.image.borrow().clone();
        for (id, trunk) in (0..).zip(&image.trunks) {
            if !trunk.has_connections() || !self.is_told(&image, id) {
                continue;
            }
            let mut sums: Vec<(Metric, u64)> = Vec::new();
            TrunkCounters::default().visit(&mut |metric, value| sums.push((metric, value)));
            for counters in self.shards.iter().filter_map(|shard| shard.trunks.get(id)) {
                let mut sums = sums.iter_mut();
                counters.visit(&mut |_, value| {
                    if let Some((_, sum)) = sums.next() {
                        *sum += value;
                    }
                });
            }
            sums.into_iter().for_each(|(metric, sum)| visit(metric, &trunk.name, sum));
        }
    }

    /// Connections of a trunk now; `None` where it has none because it speaks over datagrams.
    pub fn connections(&self, image: &Image, id: u16) -> Option<u64> {
        image.trunk(id).filter(|trunk| trunk.has_connections())?;
        let counters = self.shards.iter().filter_map(|shard| shard.trunks.get(id));
        Some(counters.map(|trunk| trunk.connections.get()).sum())
    }

    /// The exposition in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        self.visit(&mut |metric, shard, value| {
            if SETUP_PARTS.contains(&metric.name) {
                return;
            }
            let family = families.entry(metric.name.to_owned()).or_insert_with(|| family(&metric));
            let labels = [
                shard.map(|s| ("shard", s.to_string())),
                metric.label.map(|(n, v)| (n, v.to_owned())),
            ];
            family.mut_metric().push(sample(metric.kind, &labels, value as f64));
        });
        self.visit_listeners(|metric, shard, listener, value| {
            let family = families.entry(metric.name.to_owned()).or_insert_with(|| family(&metric));
            let labels = [
                Some(("shard", shard.to_string())),
                Some(("listener", listener.to_owned())),
                metric.label.map(|(n, v)| (n, v.to_owned())),
            ];
            family.mut_metric().push(sample(metric.kind, &labels, value as f64));
        });
        self.visit_trunks(|metric, trunk, value| {
            let family = families.entry(metric.name.to_owned()).or_insert_with(|| family(&metric));
            let labels =
                [Some(("trunk", trunk.to_owned())), metric.label.map(|(n, v)| (n, v.to_owned()))];
            family.mut_metric().push(sample(metric.kind, &labels, value as f64));
        });
        families.insert(SETUP.to_owned(), self.setup());
        families.extend(self.single().map(|f| (f.name().to_owned(), f)));
        families.extend(self.measured().map(|f| (f.name().to_owned(), f)));
        families.extend(self.sounding().map(|f| (f.name().to_owned(), f)));
        families.extend(self.answering().map(|f| (f.name().to_owned(), f)));
        families.retain(|_, family| !family.get_metric().is_empty());
        let families: Vec<MetricFamily> = families.into_values().collect();
        let mut text = Vec::new();
        let encoded = TextEncoder::new().encode(&families, &mut text);
        debug_assert!(encoded.is_ok(), "every family has samples");
        String::from_utf8(text).unwrap_or_default()
    }

    fn setup(&self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(SETUP.to_owned());
        family.set_help("Time from INVITE to its 200, of answered calls.".to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        for (number, shard) in self.shards.iter().enumerate() {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(shard.signal.answered.get());
            histogram.set_sample_sum(shard.signal.setup_sum_us.get() as f64 / 1e6);
            let buckets = SetupBucket::ALL.iter().enumerate().map(|(i, bucket)| {
                let mut out = Bucket::default();
                out.set_cumulative_count(shard.signal.setup.get(i));
                out.set_upper_bound(bucket.name().parse().unwrap_or(f64::INFINITY));
                out
            });
            histogram.set_bucket(buckets.collect());
            let mut metric = prometheus::proto::Metric::default();
            metric.set_label(vec![pair("shard", &number.to_string())]);
            metric.set_histogram(histogram);
            family.mut_metric().push(metric);
        }
        family
    }

    /// The families of [`SINGLE`], in its order.
    fn single(&self) -> impl Iterator<Item = MetricFamily> {
        let mut values: [Vec<(Option<String>, f64)>; 6] = Default::default();
        let image = self.image.borrow().clone();
        for (id, trunk) in (0..).zip(&image.trunks) {
            if !self.is_told(&image, id) {
                continue;
            }
            let calls = self.page.read(Image::calls_word(id));
            let begun = self.page.read(Image::begun_word(id));
            let told = [calls, u64::from(trunk.capacity), begun, u64::from(trunk.cps)];
            for (family, value) in values.iter_mut().zip(told) {
                family.push((Some(trunk.name.to_string()), value as f64));
            }
        }
        let process = Process::read();
        values[4].push((None, process.cpu_s));
        values[5].push((None, process.resident as f64));
        SINGLE.into_iter().zip(values).map(|((name, kind, help), samples)| {
            let mut out = family(&Metric { name, help, kind, label: None });
            for (trunk, value) in samples {
                out.mut_metric().push(sample(kind, &[trunk.map(|name| ("trunk", name))], value));
            }
            out
        })
    }
}

impl Exposition {
    /// Whether there is anything to tell of a trunk: one that is gone counts while calls are left on it.
    fn is_told(&self, image: &Image, trunk: u16) -> bool {
        let is_gone = image.trunk(trunk).is_none_or(|trunk| trunk.retired);
        !is_gone || self.page.read(Image::calls_word(trunk)) > 0
    }

    /// The families of [`MEASURED`], in its order; a measure of no call is left out.
    fn measured(&self) -> impl Iterator<Item = MetricFamily> {
        let (image, standing) = (self.image.borrow().clone(), self.standing.borrow().clone());
        MEASURED.into_iter().map(move |(name, measure, help)| {
            let kind = Kind::Gauge;
            let mut out = family(&Metric { name, help, kind, label: None });
            let value = |figures: &Figures| match measure {
                None => Some(f64::from(figures.asr.count)),
                Some((measure, unit)) => {
                    let span = figures.of(measure);
                    (span.count > 0).then(|| f64::from(span.mean) / unit)
                }
            };
            let told = standing.iter().filter(|(_, trunk, _)| self.is_told(&image, *trunk));
            for (destination, trunk, figures) in told {
                let trunk = image.trunk(trunk).map(|t| ("trunk", t.name.to_string()));
                let named = image.routing.destinations.names.get(usize::from(destination));
                let destination = named.map(|name| ("destination", name.to_string()));
                if let (Some(trunk), Some(destination), Some(value)) =
                    (trunk, destination, value(figures))
                {
                    out.mut_metric().push(sample(kind, &[Some(trunk), Some(destination)], value));
                }
            }
            out
        })
    }
}

impl Exposition {
    /// The families of [`SOUNDING`], in its order: of trunks that were heard within the last minute.
    fn sounding(&self) -> impl Iterator<Item = MetricFamily> {
        let (image, sounds) = (self.image.borrow().clone(), self.sounds.borrow().clone());
        SOUNDING.into_iter().map(move |(name, value, help)| {
            let mut out = family(&Metric { name, help, kind: Kind::Gauge, label: None });
            for sound in sounds.iter() {
                let trunk = image.trunk(sound.trunk).map(|t| ("trunk", t.name.to_string()));
                if let (Some(trunk), Some(value)) = (trunk, value(sound)) {
                    out.mut_metric().push(sample(Kind::Gauge, &[Some(trunk)], value));
                }
            }
            out
        })
    }
}

impl Exposition {
    /// The families of [`ANSWERING`], in its order.
    fn answering(&self) -> impl Iterator<Item = MetricFamily> {
        let (image, seen) = (self.image.borrow().clone(), self.seen.borrow().clone());
        ANSWERING.into_iter().map(move |(name, value, help)| {
            let mut out = family(&Metric { name, help, kind: Kind::Gauge, label: None });
            for seen in seen.iter() {
                let trunk = image.trunk(seen.trunk).map(|t| ("trunk", t.name.to_string()));
                let endpoint = Some(("endpoint", seen.endpoint.to_string()));
                if let (Some(trunk), Some(value)) = (trunk, value(seen)) {
                    out.mut_metric().push(sample(Kind::Gauge, &[Some(trunk), endpoint], value));
                }
            }
            out
        })
    }
}

/// What the kernel says of this process.
struct Process {
    cpu_s: f64,
    resident: u64,
}

impl Process {
    fn read() -> Process {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<u64>().ok()).unwrap_or(0);
        let stat = read("/proc/self/stat");
        // The name in parentheses may have blanks in it. Fields 14 and 15 of proc(5) are ticks of 1/100 s.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let ticks = number(fields.next()) + number(fields.next());
        let status = read("/proc/self/status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = number(resident.and_then(|r| r.split_whitespace().next()));
        Process { cpu_s: ticks as f64 / 100.0, resident: kib * 1024 }
    }
}

fn family(metric: &Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    });
    family
}

fn sample(kind: Kind, labels: &[Option<(&str, String)>], value: f64) -> prometheus::proto::Metric {
    let mut metric = prometheus::proto::Metric::default();
    metric.set_label(labels.iter().flatten().map(|(n, v)| pair(n, v)).collect());
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// Binds the address that metrics are to be served on.
pub(crate) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, Fault> {
    let bound = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|e| Fault {
        what: format!("cannot serve metrics on {address}: {e}"),
        remedy: "end what listens there, or change [metrics] listen".to_owned(),
    })
}

/// Serves `/metrics`.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    exposition: Arc<Exposition>,
) -> Result<(), Fault> {
    let listener = TcpListener::from_std(listener).map_err(|e| fault("serve metrics", &e))?;
    let scrape = move || {
        let text = exposition.text();
        async move { ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response() }
    };
    let router = axum::Router::new().route("/metrics", routing::get(scrape));
    tokio::task::spawn_local(async move {
        if let Err(e) = axum::serve(listener, router).await {
            eprintln!("sbcd: {}", fault("go on serving metrics", &e).what);
        }
    });
    Ok(())
}
