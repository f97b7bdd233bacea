//! Start: what is there, what was left behind, then one thread a shard, the scribe, and the gate.

use crate::cdr;
use crate::config::reserved::Handed;
use crate::config::{Config, Driver as Wanted, MediaSockets, OnFull as WhenFull};
use crate::config::{Topology, limits, release, reserved, security};
use crate::disk::cdr::CdrFiles;
use crate::disk::journal::Journal;
use crate::disk::open::OpenCalls;
use crate::disk::scribe::{OnFull, Scribe, ScribeThread, Sink};
use crate::disk::segment::Segments;
use crate::gate::{Doors, Exposition, Gate, ShardCounters};
use crate::io::heap::Heap;
use crate::io::mesh::{Mesh, ShardMesh};
use crate::io::pin;
use crate::io::port::Ports;
use crate::io::privileges;
use crate::io::probe::{self, Driver};
use crate::io::region::{self, Region};
use crate::io::rundir::RunDir;
use crate::io::share::{self, Sharing};
use crate::io::stream::Terms;
use crate::io::uring::Uring;
use crate::io::{self, epoll::Epoll};
use crate::sandbox;
use base::ShardId;
use base::page::Page;
use media::dtls::{Certificate, Identity, Library, Provider};
use node::{Birth, Fault, Inbox, Io, Limits, Outbox, Past, Role, Shard};
use sbc::policy::Image;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Segments kept after they were written out.
const SEGMENTS_KEPT: usize = 8;
/// Bytes of secrets: 16 for the node and for each shard there may be.
const SECRETS: usize = 16 * 257;
/// Descriptors for files, control clients and what else there is beside ports and connections.
const SPARE: usize = 1024;
/// Size of a segment, bytes.
const SEGMENT_SIZE: u64 = 64 << 20;

/// Prints every limit that follows from a configuration on this machine.
pub fn check(config: &Config) -> Result<(), Fault> {
    let topology = topology(shares(config)?.is_ok())?;
    let (limits, mut notes) = limits::lay_out(config, &topology)?;
    notes.extend(handed_out(config, &topology));
    Terms::load(config)?;
    print!("{}", limits::render(&limits, &topology, &notes));
    config.stock.summary().iter().for_each(|line| println!("{line}"));
    config.stock.notes.iter().for_each(|note| println!("note: {note}"));
    let advice = security::notes(&config.image).chain(release::notes(&config.image));
    advice.for_each(|note| println!("note: {note}"));
    Ok(())
}

/// Runs the node on what was read from `file` until it has been drained.
pub fn run(mut config: Config, file: &Path) -> Result<(), Fault> {
    pin::small_pages();
    config.stock.keep();
    config.stock.settle();
    let shares = shares(&config)?;
    let topology = topology(shares.is_ok())?;
    let (limits, mut notes) = limits::lay_out(&config, &topology)?;
    notes.extend(handed_out(&config, &topology));
    notes.iter().for_each(|note| eprintln!("sbcd: note: {note}"));
    let advice = security::notes(&config.image).chain(release::notes(&config.image));
    advice.for_each(|note| eprintln!("sbcd: note: {note}"));
    let terms = Arc::new(Terms::load(&config)?);
    let room = pin::make_room(descriptors(&limits));
    room.map_err(|e| fault("make room for descriptors", &e))?;
    let driver = driver(&config)?;
    let sockets = match shares {
        Ok(()) => String::from("media ports share sockets"),
        Err(because) => format!("media ports have sockets of their own, because {because}"),
    };
    let way = format!("{driver}; {sockets}");
    eprintln!("sbcd: {way}; {} shard(s)", limits.shards.len());
    let run = RunDir::claim(&config.node.run_dir)?;
    let doors = Doors::open(&config)?;
    let epoch = run.epoch();
    let claimed = claim(&run, &limits)?;
    let Journal { mut ledger, unsettled } = journal(&run)?;
    for frame in claimed.pasts.iter().flat_map(|(_, past)| past.frames()) {
        ledger.read(frame);
    }
    // Calls of the process that died, until their CDRs are closed, beside our own.
    let records: usize = limits.shards.iter().map(|s| s.records as usize).sum();
    let calls = OpenCalls::new(&ledger, 2 * records);
    let mut scribe = scribe(&config, &run, claimed.readers, calls)?;
    scribe.settle(&unsettled)?;
    for (shard, past) in &claimed.pasts {
        scribe.recover(*shard, past.frames())?;
    }
    let scribe_counters = scribe.counters().clone();
    let config = Arc::new(config);
    let page = Page::new(Image::WORDS);
    let (publish, image) = watch::channel(config.image.clone());
    let secrets = secrets(run.path(), limits.shards.len())?;
    let (meshes, mut gate_mesh) = Mesh::new(&limits)?;
    for shard in 0..limits.shards.len() {
        // The rings are empty yet: there is room.
        gate_mesh.agree(ShardId(shard as u8), terms.clone());
    }
    let sharing = topology.share_media.then(|| Sharing::new(&limits)).transpose();
    let sharing = sharing.map_err(|e| fault("share media sockets", &e))?;
    let limits = Arc::new(limits);
    let records: Vec<Vec<u8>> =
        claimed.pasts.iter().flat_map(|(_, p)| p.records().map(|(_, bytes)| bytes)).collect();
    let dtls = dtls(&config.image)?;
    let (ready, recovered) = channel();
    let mut threads = Vec::new();
    let mut counters = Vec::new();
    for (shard, (mesh, region)) in meshes.into_iter().zip(claimed.regions).enumerate() {
        let birth = Birth {
            shard: ShardId(shard as u8),
            epoch,
            key: secrets[shard + 1],
            steer_key: secrets[0],
            media_seed: draw()?,
            dtls: dtls.clone(),
            image: config.image.clone(),
            page: page.clone(),
        };
        let past = Past { records: records.clone(), ledger: ledger.clone(), resume: false };
        let seat = Seat {
            birth,
            past,
            limits: limits.clone(),
            region,
            mesh,
            driver: driver.clone(),
            ready: ready.clone(),
        };
        let (thread, counted) = seat.start(&config, &topology, sharing.as_ref())?;
        threads.push(thread);
        counters.push(counted);
    }
    // Once every shard has submitted what it made of them, the old regions have served.
    drop(ready);
    while recovered.recv().is_ok() {}
    claimed.pasts.into_iter().try_for_each(|(_, past)| past.done())?;
    privileges::give_up().map_err(|e| fault("give up capabilities", &e))?;
    if let Err(fault) = sandbox::close() {
        eprintln!("sbcd: note: {}\n      {}", fault.what, fault.remedy);
    }
    let scribe = scribe.spawn(|fault| eprintln!("sbcd: {} ({})", fault.what, fault.remedy));
    let scribe = scribe.map_err(|e| fault("start the scribe", &e))?;
    let (rate, standing) = watch::channel(Arc::default());
    let (sound, sounds) = watch::channel(Arc::from([]));
    let (see, seen) = watch::channel(Arc::from([]));
    let exposition = Exposition {
        shards: counters,
        scribe: scribe_counters,
        reloads: Arc::default(),
        names: Arc::default(),
        quality: Arc::default(),
        porting: Arc::default(),
        captures: Arc::default(),
        standing,
        sounds,
        seen,
        certificates: Arc::default(),
        page: page.clone(),
        image,
    };
    let gate = Gate {
        mesh: gate_mesh,
        terms,
        config,
        file: std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf()),
        publish,
        rate,
        sound,
        see,
        exposition: Arc::new(exposition),
        page,
        epoch,
        driver: way,
        doors,
    };
    pin::give_way();
    let served = gate.serve();
    end(threads, scribe, &run);
    served
}

/// What earlier processes left, and the regions of this one.
struct Claimed {
    regions: Vec<Region>,
    readers: Vec<(ShardId, crate::io::JournalReader)>,
    pasts: Vec<(ShardId, region::Past)>,
}

fn claim(run: &RunDir, limits: &Limits) -> Result<Claimed, Fault> {
    let mut claimed = Claimed { regions: Vec::new(), readers: Vec::new(), pasts: Vec::new() };
    for (number, shard) in limits.shards.iter().enumerate() {
        let id = ShardId(number as u8);
        let (region, reader, past) = Region::claim(run, id, shard)?;
        claimed.regions.push(region);
        claimed.readers.push((id, reader));
        claimed.pasts.push((id, past));
    }
    for past in region::Past::orphans(run, limits.shards.len())? {
        claimed.pasts.push((ShardId(u8::MAX), past));
    }
    Ok(claimed)
}

/// What the segments say, before the regions' last frames are brought there.
fn journal(run: &RunDir) -> Result<Journal, Fault> {
    let dir = run.path().join("journal");
    std::fs::create_dir_all(&dir).map_err(|e| fault("make the journal's directory", &e))?;
    Journal::read(&dir).map_err(|e| fault("read the journal", &e))
}

fn scribe(
    config: &Config,
    run: &RunDir,
    journals: Vec<(ShardId, crate::io::JournalReader)>,
    calls: OpenCalls,
) -> Result<Scribe<impl Sink + use<>>, Fault> {
    let node = config.node.name.clone();
    let size = u64::from(config.cdr.rotate_mb) << 20;
    let age = std::time::Duration::from_secs(60 * u64::from(config.cdr.rotate_minutes));
    let files = CdrFiles::open(&run.path().join("cdr"), size, age, move |frame: &[u8]| {
        cdr::render(&node, frame)
    });
    let files = files.map_err(|e| fault("open the CDR files", &e))?;
    let journal = run.path().join("journal");
    let segments = Segments::new(&journal, run.epoch(), SEGMENT_SIZE, SEGMENTS_KEPT, calls);
    let on_full = match config.cdr.on_full {
        WhenFull::Refuse => OnFull::Refuse,
        WhenFull::ContinueUnbilled => OnFull::ContinueUnbilled,
    };
    Ok(Scribe::new(journals, segments, files, on_full, config.cdr.commit_interval))
}

/// Whether media ports share sockets; why not.
fn shares(config: &Config) -> Result<Result<(), String>, Fault> {
    match (config.node.media_sockets, share::probe()) {
        (MediaSockets::Own, _) => Ok(Err("the configuration asks for it".to_owned())),
        (MediaSockets::Shared, Err(because)) => Err(Fault {
            what: format!("media ports cannot share sockets: {because}"),
            remedy: "see docs/operate/capacity.md, or set media_sockets = \"auto\"".to_owned(),
        }),
        (MediaSockets::Auto | MediaSockets::Shared, possible) => Ok(possible),
    }
}

fn topology(share_media: bool) -> Result<Topology, Fault> {
    let nofile = pin::raise_descriptors().map_err(|e| fault("read the limit of open files", &e))?;
    let memlock = pin::locked_memory().map_err(|e| fault("read the limit of locked memory", &e))?;
    let kernel = probe::kernel();
    let mut numbers = kernel.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    Ok(Topology {
        cores: pin::cpus().len(),
        nofile: nofile.soft,
        memlock: memlock.soft,
        kernel: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        share_media,
    })
}

/// Descriptors that the node may come to have: of its ports, of connections where there is a listener for any.
fn descriptors(limits: &Limits) -> u64 {
    let connections = limits
        .shards
        .iter()
        .filter(|shard| shard.ports.iter().any(|port| matches!(port.role, Role::Stream(_))));
    let ports = limits.shards.iter().map(|shard| shard.ports.len()).sum::<usize>();
    (SPARE + ports + connections.count() * io::stream::MOST) as u64
}

/// Media ports that other programs may be given: where they share sockets, nothing is bound to them.
fn handed_out(config: &Config, topology: &Topology) -> Vec<limits::Note> {
    let [range, reserved] = ["ip_local_port_range", "ip_local_reserved_ports"].map(probe::network);
    if topology.share_media {
        reserved::notes(config, &Handed { range, reserved })
    } else {
        Vec::new()
    }
}

fn driver(config: &Config) -> Result<Driver, Fault> {
    let found = match config.node.driver {
        Wanted::Epoll => {
            return Ok(Driver::Epoll { because: "the configuration asks for it".to_owned() });
        }
        Wanted::Auto | Wanted::IoUring => probe::driver(),
    };
    match (config.node.driver, found) {
        (Wanted::IoUring, Driver::Epoll { because }) => Err(Fault {
            what: format!("io_uring cannot be used: {because}"),
            remedy: "enable it (sysctl kernel.io_uring_disabled=0), or set driver = \"auto\""
                .to_owned(),
        }),
        (_, found) => Ok(found),
    }
}

/// What this life of a shard alone knows.
fn draw() -> Result<[u8; 32], Fault> {
    let mut seed = [0; 32];
    kernel_random(&mut seed).map(|()| seed)
}

/// What legs shake hands with: certificates of this life of the process, and one moment on both clocks.
/// RSA costs a fifth of a second to draw: only where a trunk asks for it.
fn dtls(image: &Image) -> Result<Vec<Arc<dyn Provider>>, Fault> {
    let origin = (std::time::Instant::now(), io::now().mono);
    let library = Identity::generate().and_then(|identity| Library::new(identity, origin));
    let library = library.map(|library| Arc::new(library) as Arc<dyn Provider>);
    let rsa = image.shakes_hands_with(Certificate::Rsa).then(media::dtls::rsa);
    let made: Result<Vec<_>, _> = [library].into_iter().chain(rsa).collect();
    made.map_err(|missing| Fault {
        what: format!("could not prepare DTLS: {missing}"),
        remedy: "look at what the machine's processor and its random source lack".into(),
    })
}

fn kernel_random(bytes: &mut [u8]) -> Result<(), Fault> {
    use std::io::Read;
    let source = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(bytes));
    source.map_err(|e| fault("draw secrets", &e))
}

/// Secrets of the node and of each shard: drawn from the kernel once, and kept in the run directory for
/// successors, who could not tell a repetition from a new request with secrets of their own.
fn secrets(run: &Path, shards: usize) -> Result<Vec<(u64, u64)>, Fault> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let (file, fresh) = (run.join("secrets"), run.join("secrets.new"));
    let mut bytes = std::fs::read(&file).unwrap_or_default();
    if bytes.len() != SECRETS {
        bytes = vec![0; SECRETS];
        kernel_random(&mut bytes)?;
        let mut open = std::fs::OpenOptions::new();
        let made = open.write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let kept = made.and_then(|mut f| f.write_all(&bytes));
        let kept = kept.and_then(|()| std::fs::rename(&fresh, &file));
        kept.map_err(|e| fault("keep secrets in the run directory", &e))?;
    }
    let word = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    Ok(bytes.chunks(16).take(shards + 1).map(|c| (word(&c[..8]), word(&c[8..]))).collect())
}

/// Everything one shard's thread starts with.
struct Seat {
    birth: Birth,
    past: Past,
    limits: Arc<Limits>,
    region: Region,
    mesh: ShardMesh,
    driver: Driver,
    /// Dropped once what was recovered stands in the new region.
    ready: Sender<()>,
}

type Running = JoinHandle<Result<(), Fault>>;

impl Seat {
    /// Opens the ports, thaws the shard and starts its thread.
    fn start(
        self,
        config: &Config,
        topology: &Topology,
        sharing: Option<&Sharing>,
    ) -> Result<(Running, ShardCounters), Fault> {
        let number = usize::from(self.birth.shard.0);
        let sharing = sharing.map(|sharing| (sharing, self.birth.shard));
        let ports = Ports::open(&self.limits.shards[number].ports, sharing)?;
        let io_counters = self.mesh.counters().clone();
        let streams = self.mesh.streams();
        let cpu = config
            .node
            .pin
            .then(|| pin::cpus().get((number + 1) % topology.cores).copied())
            .flatten();
        let (driver, min_wait) = (self.driver, config.node.min_wait_us);
        let mut outbox = Outbox::default();
        let now = io::now();
        let (region, mesh, ready) = (self.region, self.mesh, self.ready);
        // Whether a trunk has DTLS or not: one that a reload brings finds its shard warm as well.
        let dtls = self.birth.dtls.clone();
        let shard = Shard::thaw(self.birth, &self.limits, self.past, now, &mut outbox);
        let thread = Arc::new(AtomicI32::new(0));
        let counters = ShardCounters {
            signal: shard.signal().counters(),
            media: shard.media().counters.clone(),
            io: io_counters,
            listeners: streams.listeners,
            trunks: streams.trunks,
            thread: thread.clone(),
        };
        let builder = std::thread::Builder::new().name(format!("shard-{number}"));
        let running = builder.spawn(move || {
            thread.store(pin::thread_id(), Ordering::Relaxed);
            if let Err(error) = privileges::give_up() {
                eprintln!("sbcd: shard {number} keeps its capabilities: {error}");
            }
            if let Some(cpu) = cpu
                && let Err(fault) = pin::pin(cpu, &format!("shard-{number}"))
            {
                eprintln!("sbcd: {}; it runs anywhere", fault.what);
            }
            if !dtls.iter().all(|dtls| media::dtls::warm_up(&**dtls, io::now().mono)) {
                eprintln!("sbcd: shard {number} could not shake hands with itself by DTLS");
            }
            let ended = catch_unwind(AssertUnwindSafe(|| match driver {
                Driver::Uring { .. } => Uring::new(ports, Some(region), mesh, min_wait)
                    .and_then(|(io, inbox)| turn(shard, io, inbox, outbox, ready)),
                Driver::Epoll { .. } => Epoll::new(ports, Some(region), mesh)
                    .and_then(|(io, inbox)| turn(shard, io, inbox, outbox, ready)),
            }));
            let ended = ended.unwrap_or_else(|_| {
                // The third failure in a minute, or one outside a packet. The panic has told what and where.
                eprintln!("sbcd: shard {number} failed; the next start releases its calls");
                std::process::exit(70);
            });
            if let Err(fault) = &ended {
                // A shard that cannot go on takes the process with it: its successor recovers every call.
                eprintln!("sbcd: shard {number}: {}\n      {}", fault.what, fault.remedy);
                std::process::exit(70);
            }
            ended
        });
        Ok((running.map_err(|e| fault("start a shard", &e))?, counters))
    }
}

/// The loop: wait, step, submit.
fn turn(
    mut shard: Shard,
    mut io: impl Io,
    mut inbox: Inbox,
    mut outbox: Outbox,
    ready: Sender<()>,
) -> Result<(), Fault> {
    let mut heap = Heap::default();
    io.submit(&mut inbox, &mut outbox)?;
    drop(ready);
    while !shard.is_drained() {
        let now = io.wait(shard.next_deadline(), &mut inbox)?;
        shard.step(now, &mut inbox, &mut outbox);
        io.submit(&mut inbox, &mut outbox)?;
        heap.look(shard.media().counters.dtls_handshakes.get(), now.mono);
    }
    Ok(())
}

/// Shards end by themselves once drained; the scribe brings their last frames to disk.
fn end(threads: Vec<Running>, scribe: ScribeThread, run: &RunDir) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    for thread in threads {
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    scribe.finish();
    let _gone = std::fs::remove_file(run.path().join("sbcd.sock"));
    eprintln!("sbcd: ended");
}

fn fault(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault { what: format!("cannot {what}: {error}"), remedy: "see the message".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::open::tests::{answered, cdr, sealed};
    use crate::io::testing::{limits, scratch};
    use sbc::billing::{Frame, Stamp};
    use std::time::Duration;

    type Render = fn(&[u8]) -> Option<String>;

    /// One run of a node of one shard: what its successor closes, and how it writes.
    struct Life {
        run: RunDir,
        region: Region,
        scribe: Scribe<CdrFiles<Render>>,
    }

    impl Life {
        /// Starts on what is in `dir`, as `run` does.
        fn begin(dir: &Path, epoch: u64) -> Life {
            let run = RunDir::claim(dir).unwrap();
            let Journal { ledger, unsettled } = journal(&run).unwrap();
            let shard = limits(&[]);
            let (region, reader, _) = Region::claim(&run, ShardId(0), &shard).unwrap();
            let calls = OpenCalls::new(&ledger, 100);
            let segments = Segments::new(&dir.join("journal"), epoch, 1_000, 2, calls);
            let line: Render = |frame| cdr::render("node", frame);
            let files = CdrFiles::open(&dir.join("cdr"), 1 << 20, Duration::MAX, line).unwrap();
            let journals = vec![(ShardId(0), reader)];
            let commit = Duration::from_millis(1);
            let mut scribe = Scribe::new(journals, segments, files, OnFull::Refuse, commit);
            scribe.settle(&unsettled).unwrap();
            let mut life = Life { run, region, scribe };
            let image = Config::load(Path::new("../config/examples/loopback.toml")).unwrap().image;
            let birth = Birth {
                shard: ShardId(0),
                epoch,
                key: (1, 2),
                steer_key: (3, 4),
                media_seed: [5; 32],
                dtls: Vec::new(),
                page: Page::new(Image::WORDS),
                image,
            };
            let limits = Limits { shards: vec![shard], mesh_letters: 1, events: 1 };
            let past = Past { records: Vec::new(), ledger, resume: false };
            let mut outbox = Outbox::default();
            Shard::thaw(birth, &limits, past, io::now(), &mut outbox);
            for frame in &outbox.journal {
                let bytes = &outbox.plain[frame.at as usize..(frame.at + frame.len) as usize];
                life.write(bytes);
            }
            life
        }

        fn write(&mut self, frame: &[u8]) {
            assert!(self.region.journal.append(frame));
            self.scribe.turn().unwrap();
        }

        /// The power goes: what is on tmpfs is gone.
        fn end(self) {
            let dir = self.run.path().to_path_buf();
            drop(self);
            for name in ["shard-0.records", "shard-0.journal"] {
                std::fs::remove_file(dir.join(name)).unwrap();
            }
        }
    }

    #[test]
    fn a_call_older_than_every_segment_has_its_cdr_after_a_power_loss() {
        let dir = scratch("long-call");
        let mut life = Life::begin(&dir, 1);
        life.write(&sealed(&Frame::Start(cdr(1, 1))));
        life.write(&sealed(&Frame::Answer(answered(1, 2_000_000_000))));
        for n in 2..60 {
            life.write(&sealed(&Frame::Start(cdr(n, n))));
            life.write(&sealed(&Frame::Stop(cdr(n, n))));
            if n == 10 {
                let at = Stamp { wall: 9_000_000_000, mono: 9_000_000_000 };
                life.write(&sealed(&Frame::Interim(cdr(1, 0).id, at)));
            }
        }
        assert!(!dir.join("journal/1-10.seg").exists(), "the segments that saw it begin are gone");
        life.end();
        // Once more, and the power goes again as soon as the books are closed.
        (2..5).for_each(|epoch| Life::begin(&dir, epoch).end());
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(dir.join("cdr")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            lines.extend(
                text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()),
            );
        }
        assert_eq!(lines.len(), 59, "one CDR a call");
        let recovered: Vec<_> = lines.iter().filter(|l| l["recovered"] == true).collect();
        assert_eq!(recovered.len(), 1, "{recovered:?}");
        assert_eq!(recovered[0]["id"], "node-1-0-1");
        assert_eq!(recovered[0]["duration_ms"], 7_000, "up to its last sign of life");
    }
}
