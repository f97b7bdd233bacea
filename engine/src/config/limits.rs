//! Every capacity of the node, decided once: the configuration's wishes against what the machine has.
//!
//! [`lay_out`] divides ports, records, transactions and journals per shard; [`render`] prints what each
//! costs, which is what `sbcd check` shows. Where the machine cuts a wish, a [`Note`] says so and what
//! to change. Reads no system file: [`Topology`] comes in.

use super::node::{Driver, Shards};
use super::{Config, MediaPorts};
use core::fmt::{self, Write};
use node::{Fault, Letter, Limits, PortSpec, Role, ShardLimits};
use std::net::SocketAddr;

/// Descriptors kept for everything that is no port: rings, files, the control socket, metrics.
pub const SPARE_DESCRIPTORS: u64 = 128;
/// Bytes of one record slot.
pub const RECORD_SIZE: u32 = 8 * 1024;
/// Journal of a shard when the configuration names none.
pub const JOURNAL_PER_SHARD: usize = 16 << 20;
/// Letters of one ring of the mesh.
pub const MESH_LETTERS: usize = 4096;
/// Events of a shard's ring to the gate.
pub const EVENTS: usize = 65_536;
/// Fewest transactions of a shard.
const FEWEST_TRANSACTIONS: u64 = 16_384;
/// Transactions of a call setup, and seconds one lingers: 64 × T1 (RFC 3261 section 17).
const TRANSACTIONS_PER_CPS: u64 = 4 * 32;
/// What a transaction costs without the messages it keeps: its place, its index, its timer.
const TRANSACTION_COST: u64 = 512;
/// What of messages a transaction keeps at most, to repeat it: held to by a test of the simulator.
const RETAINED: u64 = sbc::transaction::SLOT as u64;
/// What a request outside calls costs, or a subscription, nearly.
const ERRAND_COST: u64 = 1536;
/// The most of a datagram that waits for its turn in a handshake: a whole packet of media's.
const DTLS_COST: u64 = 2048;
/// What the kernel holds for an idle socket, nearly.
const SOCKET_COST: u64 = 2048;
/// Locked memory below which io_uring may be refused: what kernels grant by default.
const LOCKED: u64 = 8 << 20;
/// Since this kernel io_uring has rings of provided buffers.
const URING_KERNEL: (u32, u32) = (5, 19);

/// What the machine has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Cores this process may run on.
    pub cores: usize,
    /// Open files it may have, the soft limit as raised at start.
    pub nofile: u64,
    /// Bytes it may lock in memory; `u64::MAX` for no limit.
    pub memlock: u64,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// Whether the media ports of an interface share a socket: then they take no open files.
    pub share_media: bool,
}

/// Where a limit cut a wish, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note(pub String);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lays the configuration out over the machine.
pub fn lay_out(config: &Config, topology: &Topology) -> Result<(Limits, Vec<Note>), Fault> {
    let mut notes = Vec::new();
    let shards = shards(config, topology, &mut notes);
    driver(config, topology, &mut notes)?;
    let pairs = pairs(config, topology, shards, &mut notes)?;
    let calls = calls(config, topology, &pairs, shards, &mut notes);
    let records = records(calls, shards);
    let cps = u64::from(config.node.max_cps);
    let transactions = FEWEST_TRANSACTIONS.max((TRANSACTIONS_PER_CPS * cps).div_ceil(shards));
    let journal_size = match config.cdr.journal_mb {
        Some(mb) => (mb as usize) << 20,
        None => JOURNAL_PER_SHARD * shards as usize,
    };
    let one = |shard| ShardLimits {
        ports: ports(config, &pairs, shard, shards),
        records: u32::try_from(records).unwrap_or(u32::MAX),
        transactions: u32::try_from(transactions).unwrap_or(u32::MAX),
        record_size: RECORD_SIZE,
        // Whole pages: the region is mapped.
        journal_size: (journal_size / shards as usize).next_multiple_of(4096),
    };
    let limits = Limits {
        shards: (0..shards).map(one).collect(),
        mesh_letters: MESH_LETTERS,
        events: EVENTS,
    };
    Ok((limits, notes))
}

fn shards(config: &Config, topology: &Topology, notes: &mut Vec<Note>) -> u64 {
    let cores = topology.cores.max(1) as u64;
    match config.node.shards {
        // A core is left to the gate, the scribe and the kernel.
        Shards::Auto => (cores - 1).clamp(1, 256),
        Shards::Exactly(n) => {
            let n = u64::from(n.max(1));
            if n > cores {
                notes.push(Note(format!(
                    "{n} shards share {cores} cores and will wait for each other; for one core \
                     each set shards = {cores} or less"
                )));
            }
            n
        }
    }
}

fn driver(config: &Config, topology: &Topology, notes: &mut Vec<Note>) -> Result<(), Fault> {
    let (major, minor) = topology.kernel;
    let (needed, too_old) = (URING_KERNEL, topology.kernel < URING_KERNEL);
    match config.node.driver {
        Driver::IoUring if too_old => Err(Fault {
            what: format!(
                "driver = \"io_uring\" needs Linux {}.{}; this is {major}.{minor}",
                needed.0, needed.1
            ),
            remedy: "set driver = \"auto\" or \"epoll\", or boot a newer kernel".into(),
        }),
        Driver::Auto if too_old => {
            notes.push(Note(format!(
                "Linux {major}.{minor} has no usable io_uring (needs {}.{}): epoll is used",
                needed.0, needed.1
            )));
            Ok(())
        }
        Driver::Epoll => Ok(()),
        Driver::Auto | Driver::IoUring => {
            if topology.memlock < LOCKED {
                notes.push(Note(format!(
                    "memlock {} may refuse io_uring its buffers; set LimitMEMLOCK=infinity",
                    size(topology.memlock)
                )));
            }
            Ok(())
        }
    }
}

/// Record slots of one shard: its part of the calls, and room for chance to be uneven.
fn records(calls: u64, shards: u64) -> u64 {
    let even = calls.div_ceil(shards);
    // Ended calls that wait for the answer to their last BYE; and homes are not drawn evenly.
    let slack = if shards == 1 { even.div_ceil(32) } else { even.div_ceil(4) };
    even + slack + 16
}

/// Pairs of media ports per shard, for each interface.
fn pairs(
    config: &Config,
    topology: &Topology,
    shards: u64,
    notes: &mut Vec<Note>,
) -> Result<Vec<u64>, Fault> {
    // Any interface may have to carry both legs of every call.
    let wish = 2 * records(u64::from(config.node.max_calls), shards);
    let mut pairs: Vec<u64> =
        config.media.iter().map(|m| wish.min(u64::from(m.pairs()) / shards)).collect();
    let listeners = shards * config.media.len() as u64;
    let room = topology.nofile.saturating_sub(SPARE_DESCRIPTORS + listeners) / 2 / shards;
    let wanted: u64 = pairs.iter().sum();
    if wanted > room && !topology.share_media {
        for pairs in &mut pairs {
            *pairs = *pairs * room / wanted;
        }
    }
    if let Some(empty) = pairs.iter().position(|p| *p < 2) {
        return Err(starved(config, empty, topology, shards));
    }
    // An interface that cannot even carry one leg of each call is a mistake worth mentioning.
    let calls = u64::from(config.node.max_calls);
    for (interface, media) in config.image.interfaces.iter().zip(&config.media) {
        if u64::from(media.pairs()) < calls && config.media.len() > 1 {
            notes.push(Note(format!(
                "interface {} has ports for {} legs of {calls} calls; widen its media_ports",
                interface.name,
                media.pairs()
            )));
        }
    }
    Ok(pairs)
}

fn starved(config: &Config, at: usize, topology: &Topology, shards: u64) -> Fault {
    let name = config.image.interfaces.get(at).map_or("?", |i| &i.name);
    let range = config.media.get(at).map_or(0, MediaPorts::pairs);
    if u64::from(range) / shards < 2 {
        return Fault {
            what: format!("interface {name} has too few media_ports for {shards} shards"),
            remedy: format!("give it at least {} ports, or set fewer shards", 4 * shards),
        };
    }
    Fault {
        what: format!("{} open files leave no media ports for interface {name}", topology.nofile),
        remedy: format!("set LimitNOFILE={} in the unit", descriptors_for(config, shards)),
    }
}

/// Open files that `max_calls` needs.
fn descriptors_for(config: &Config, shards: u64) -> u64 {
    let per_interface = 2 * u64::from(config.node.max_calls).div_ceil(shards);
    let pairs: u64 =
        config.media.iter().map(|m| per_interface.min(u64::from(m.pairs()) / shards)).sum();
    SPARE_DESCRIPTORS + shards * config.media.len() as u64 + 2 * pairs * shards
}

/// Calls the ports suffice for.
fn calls(
    config: &Config,
    topology: &Topology,
    pairs: &[u64],
    shards: u64,
    notes: &mut Vec<Note>,
) -> u64 {
    let wish = u64::from(config.node.max_calls);
    let possible = pairs.iter().sum::<u64>() * shards / 2;
    if possible >= wish {
        return wish;
    }
    let ranges: u64 = config.media.iter().map(|m| u64::from(m.pairs())).sum::<u64>() / 2;
    let needed = descriptors_for(config, shards);
    if topology.nofile < needed && !topology.share_media {
        notes.push(Note(format!(
            "nofile {} allows {possible} calls; for {} set LimitNOFILE={needed}",
            topology.nofile,
            wish.min(ranges)
        )));
    }
    if ranges < wish {
        notes.push(Note(format!(
            "media_ports allow {ranges} calls; for {wish} widen them by {} ports",
            4 * (wish - ranges)
        )));
    }
    possible
}

/// A shard's ports: every listener, then its part of each interface's pairs.
fn ports(config: &Config, pairs: &[u64], shard: u64, shards: u64) -> Vec<PortSpec> {
    let mut ports = Vec::new();
    let interfaces = || config.image.interfaces.iter().zip(&config.media).zip(0u16..);
    for ((interface, media), number) in interfaces() {
        ports.push(spec(interface.sip, Role::Sip, number, media));
    }
    for ((interface, media), number) in interfaces() {
        for &(transport, port) in &media.streams {
            let address = SocketAddr::new(interface.sip.ip(), port);
            ports.push(spec(address, Role::Stream(transport), number, media));
        }
    }
    for (((_, media), number), &count) in interfaces().zip(pairs) {
        // Neighbouring pairs go to different shards: a firewall that opens half the range halves all.
        for pair in (0..count).map(|i| i * shards + shard) {
            let Ok(rtp) = u16::try_from(u64::from(media.first) + 2 * pair) else { break };
            let at = |port| SocketAddr::new(media.ip, port);
            ports.push(spec(at(rtp), Role::Rtp, number, media));
            ports.push(spec(at(rtp + 1), Role::Rtcp, number, media));
        }
    }
    ports
}

fn spec(address: SocketAddr, role: Role, interface: u16, media: &MediaPorts) -> PortSpec {
    let dscp = match role {
        Role::Sip | Role::Stream(_) => media.dscp_sip,
        Role::Rtp | Role::Rtcp => media.dscp_rtp,
    };
    let (device, tcp_keepalive_s) = (media.device.clone(), media.tcp_keepalive_s);
    PortSpec { address, role, interface, device, dscp, tcp_keepalive_s }
}

/// Every capacity and what it costs on this machine, as a table; then the notes.
pub fn render(limits: &Limits, topology: &Topology, notes: &[Note]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, count: &str, cost: &str| {
        let row = format!("{name:<26}{count:>12}  {cost:>12}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", row.trim_end());
    };
    line("capacity", "number", "memory");
    line("shards", &limits.shards.len().to_string(), "");
    let mut total = 0;
    for (name, count, each) in rows(limits, topology) {
        total += count * each;
        line(name, &count.to_string(), &size(count * each));
    }
    line("all", "", &size(total));
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

/// Name, number and bytes of each, over all shards.
fn rows(limits: &Limits, topology: &Topology) -> Vec<(&'static str, u64, u64)> {
    let media_port = if topology.share_media { 0 } else { SOCKET_COST };
    let shards = limits.shards.len() as u64;
    let sum = |f: fn(&ShardLimits) -> u64| limits.shards.iter().map(f).sum::<u64>();
    let of = |l: &ShardLimits, role: Role| l.ports.iter().filter(|p| p.role == role).count() as u64;
    let by_role = |role| limits.shards.iter().map(|l| of(l, role)).sum::<u64>();
    let letters = limits.mesh_letters as u64 * shards * shards.saturating_sub(1);
    vec![
        ("SIP sockets", by_role(Role::Sip), SOCKET_COST),
        ("RTP ports", by_role(Role::Rtp), media_port),
        ("RTCP ports", by_role(Role::Rtcp), media_port),
        ("call records", sum(|l| u64::from(l.records)), u64::from(RECORD_SIZE)),
        ("transactions", sum(|l| u64::from(l.transactions)), TRANSACTION_COST),
        ("messages retained, 32 s", sum(|l| u64::from(l.transactions)), RETAINED),
        ("errands, subscriptions", sum(|l| u64::from(l.records)), ERRAND_COST),
        ("DTLS datagrams waiting", media::dtls::MOST_IN_ALL as u64 * shards, DTLS_COST),
        ("packets captured in a turn", media::tap::MOST as u64 * shards, media::tap::COST as u64),
        ("journal bytes", sum(|l| l.journal_size as u64), 1),
        ("letters between shards", letters, size_of::<Letter>() as u64),
        ("events to the gate", limits.events as u64 * shards, size_of::<control::Event>() as u64),
    ]
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        1..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const BIG: Topology = Topology {
        cores: 4,
        nofile: 1 << 20,
        memlock: u64::MAX,
        kernel: (6, 18),
        share_media: false,
    };

    /// Interfaces on 192.0.2.1, .2 ... with these media ports, and what stands in `[node]`.
    fn config(node: &str, ranges: &[&str]) -> Config {
        let mut text = format!("[node]\n{node}\n[[route]]\nprefix = \"\"\nto = [\"t0\"]\n");
        for (i, range) in ranges.iter().enumerate() {
            let _ = write!(
                text,
                "[[interface]]\nname = \"i{i}\"\nbind = \"192.0.2.{}:5060\"\n\
                 media_ports = \"{range}\"\n[[trunk]]\nname = \"t{i}\"\ninterface = \"i{i}\"\n\
                 endpoints = [\"198.51.100.1\"]\n",
                i + 1
            );
        }
        Config::parse("test", &text).unwrap_or_else(|e| panic!("{e}"))
    }

    fn descriptors(limits: &Limits) -> usize {
        limits.shards.iter().map(|s| s.ports.len()).sum()
    }

    /// What every layout promises, whatever the wishes.
    fn check(limits: &Limits, config: &Config) {
        let mut seen = HashSet::new();
        let listeners = config.media.len();
        for shard in &limits.shards {
            let (sip, media) = shard.ports.split_at(listeners);
            for (i, port) in sip.iter().enumerate() {
                assert_eq!((port.role, usize::from(port.interface)), (Role::Sip, i));
                assert_eq!(port.address, config.image.interfaces[i].sip);
            }
            for pair in media.chunks(2) {
                let (rtp, rtcp) = (&pair[0], &pair[1]);
                assert_eq!((rtp.role, rtcp.role), (Role::Rtp, Role::Rtcp));
                assert_eq!(rtp.address.port() % 2, 0);
                assert_eq!(rtp.address.port() + 1, rtcp.address.port());
                let range = &config.media[usize::from(rtp.interface)];
                assert!(rtp.address.port() >= range.first && rtcp.address.port() <= range.last);
                assert!(seen.insert(rtp.address), "{} is on two shards", rtp.address);
            }
        }
    }

    #[test]
    fn ports_are_divided_evenly_and_none_twice() {
        for shards in [1, 2, 3, 7] {
            let node = format!("shards = {shards}\nmax_calls = 3000");
            let config = config(&node, &["12000-32000", "10000-10999"]);
            let (limits, _) = lay_out(&config, &BIG).unwrap();
            check(&limits, &config);
            let counts: HashSet<usize> = limits.shards.iter().map(|s| s.ports.len()).collect();
            assert_eq!(counts.len(), 1, "even");
        }
    }

    #[test]
    fn ports_end_with_what_the_calls_need() {
        let config = config("shards = 1\nmax_calls = 100", &["12000-32000"]);
        let (limits, notes) = lay_out(&config, &BIG).unwrap();
        assert_eq!(limits.shards[0].records, 100 + 4 + 16);
        assert_eq!(descriptors(&limits), 1 + 4 * (100 + 4 + 16));
        assert_eq!(notes, []);
    }

    #[test]
    fn open_files_bound_the_ports_and_a_note_says_so() {
        let small = Topology { nofile: 20_000, ..BIG };
        for shards in [1, 2, 3] {
            let node = format!("shards = {shards}\nmax_calls = 10000");
            let config = config(&node, &["12000-65535"]);
            let (limits, notes) = lay_out(&config, &small).unwrap();
            check(&limits, &config);
            let used = descriptors(&limits);
            assert!(used + 128 <= 20_000 && used + 128 > 19_980, "{used}");
            let note = notes[0].to_string();
            assert!(note.starts_with("nofile 20000 allows 49"), "{note}");
            assert!(note.contains("for 10000 set LimitNOFILE=40"), "{note}");
            let needed: u64 = note.rsplit('=').next().unwrap().parse().unwrap();
            let (_, notes) = lay_out(&config, &Topology { nofile: needed, ..BIG }).unwrap();
            assert_eq!(notes, [], "the advice suffices");
        }
    }

    #[test]
    fn a_narrow_range_is_a_note_and_too_narrow_a_fault() {
        let narrow = config("shards = 1\nmax_calls = 100", &["12000-12099"]);
        let (limits, notes) = lay_out(&narrow, &BIG).unwrap();
        check(&limits, &narrow);
        let said = "media_ports allow 25 calls; for 100 widen them by 300 ports";
        assert_eq!(notes, [Note(said.into())]);
        let fault = lay_out(&config("shards = 8", &["12000-12015"]), &BIG).unwrap_err();
        assert!(fault.what.contains("too few media_ports for 8 shards"), "{}", fault.what);
        let fault = lay_out(&narrow, &Topology { nofile: 130, ..BIG }).unwrap_err();
        assert!(fault.remedy.contains("LimitNOFILE="), "{}", fault.remedy);
    }

    #[test]
    fn shards_follow_the_cores() {
        for (cores, shards) in [(0, 1), (1, 1), (2, 1), (4, 3), (400, 256)] {
            let config = config("max_calls = 1000", &["12000-32000"]);
            let (limits, _) = lay_out(&config, &Topology { cores, ..BIG }).unwrap();
            assert_eq!(limits.shards.len(), shards);
        }
        let many = config("shards = 8", &["12000-65000"]);
        assert!(lay_out(&many, &BIG).unwrap().1[0].0.contains("8 shards share 4 cores"));
    }

    #[test]
    fn transactions_and_journal_are_split() {
        let node = "shards = 2\nmax_calls = 10\nmax_cps = 10000\n[cdr]\njournal_mb = 64";
        let (limits, _) = lay_out(&config(node, &["12000-32000"]), &BIG).unwrap();
        assert_eq!(limits.shards[0].transactions, 640_000);
        assert_eq!(limits.shards[0].journal_size, 32 << 20);
        let (limits, _) = lay_out(&config("max_cps = 1", &["12000-32000"]), &BIG).unwrap();
        assert_eq!(limits.shards[0].transactions, 16_384);
        assert_eq!(limits.shards[0].journal_size, 16 << 20);
    }

    #[test]
    fn an_old_kernel_refuses_io_uring_when_asked_for_it() {
        let old = Topology { kernel: (5, 4), ..BIG };
        let wanted = config("driver = \"io_uring\"\nmax_calls = 10", &["12000-12999"]);
        assert!(lay_out(&wanted, &old).unwrap_err().what.contains("5.19"));
        let bare = Topology { memlock: 65_536, ..BIG };
        assert!(lay_out(&wanted, &bare).unwrap().1[0].0.starts_with("memlock 64 KiB may"));
        let auto = config("max_calls = 10", &["12000-12999"]);
        assert!(lay_out(&auto, &old).unwrap().1[0].0.contains("epoll is used"));
    }

    #[test]
    fn the_loopback_example_fits_20000_open_files() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/loopback.toml");
        let config = Config::load(path.as_ref()).unwrap_or_else(|e| panic!("{e}"));
        for cores in [1, 2, 4] {
            let machine = Topology { cores, nofile: 20_000, ..BIG };
            let (limits, notes) = lay_out(&config, &machine).unwrap();
            check(&limits, &config);
            assert_eq!(notes, []);
            assert!(descriptors(&limits) as u64 + SPARE_DESCRIPTORS <= 20_000);
        }
    }

    #[test]
    fn shared_media_ports_take_no_open_files() {
        let config = config("shards = 2\nmax_calls = 5000", &["12000-32000"]);
        let small = Topology { nofile: 1024, share_media: true, ..BIG };
        let (limits, notes) = lay_out(&config, &small).unwrap();
        assert_eq!(notes, []);
        assert_eq!(descriptors(&limits), 2 + 20_000);
        let table = render(&limits, &small, &notes);
        let row = table.lines().find(|line| line.starts_with("RTP ports")).unwrap();
        assert!(row.ends_with('-'), "{row}");
    }

    #[test]
    fn the_table_is_aligned_and_adds_up() {
        let config = config("shards = 2\nmax_calls = 100", &["12000-32000"]);
        let (limits, _) = lay_out(&config, &BIG).unwrap();
        let table = render(&limits, &BIG, &[Note("something was cut".into())]);
        let rows: Vec<&str> = table.lines().collect();
        assert!(rows.iter().any(|r| r.starts_with("call records") && r.contains("158")), "{table}");
        let ends: HashSet<usize> =
            rows.iter().filter(|r| r.ends_with("iB")).map(|r| r.len()).collect();
        assert_eq!(ends.len(), 1, "{table}");
        assert!(table.ends_with("note: something was cut\n"));
    }
}
