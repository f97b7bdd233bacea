//! `call` and `uas`: sets the stage, runs the sides in threads of their own, and judges the whole.

use crate::cli::{CallArgs, CommonArgs, UasArgs};
use crate::ledger::Ledger;
use crate::link::{self, Link};
use crate::live::{self, Live};
use crate::locality::{self, Locality};
use crate::media::{self, Order, Tally, Worker};
use crate::os::{self, Timeline};
use crate::report::Report;
use crate::srtp::Key;
use crate::uac::Caller;
use crate::uas::Callee;
use crate::{ladder, report};
use socket2::Socket;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// RFC 3261 T2.
pub(crate) const T2_NS: u64 = 4_000_000_000;
/// Calls with media are bounded by what a leg takes in memory.
const MEDIA_CALLS: u32 = 1_000_000;
/// Sockets a side shares when no range of ports was named.
const SHARED: usize = 16;

/// What both sides know.
pub(crate) struct Stage {
    /// The clock.
    pub(crate) line: Timeline,
    /// Shared counters.
    pub(crate) live: Arc<Live>,
    /// Calls to make; zero when only the called side runs.
    pub(crate) calls: u32,
    /// Between two starts.
    pub(crate) interval_ns: u64,
    /// Where calls go.
    pub(crate) to: SocketAddr,
    /// Who is called.
    pub(crate) number: String,
    /// The first caller number.
    pub(crate) from: u64,
    /// Tells this run's Call-IDs and branches from any other's.
    pub(crate) nonce: u32,
    /// Talk time.
    pub(crate) hold_ns: u64,
    /// From the last packet to the BYE.
    pub(crate) tail_ns: u64,
    /// When to give up ringing.
    pub(crate) cancel_after_ns: u64,
    /// RFC 3261 T1.
    pub(crate) t1_ns: u64,
    /// Packet time, ms.
    pub(crate) ptime: u64,
    /// What the callers' audio is protected with.
    pub(crate) key: Option<Key>,
    /// RTP packets a leg sends; zero without media.
    pub(crate) packets: u32,
    /// Note the messages of call 0.
    pub(crate) ladder: bool,
    /// The called side hangs up every other call.
    alternate: bool,
    media: bool,
    addresses: [Vec<SocketAddr>; 2],
    orders: Vec<mpsc::Sender<Order>>,
}

impl Stage {
    /// Where a side of a call hears its audio.
    pub(crate) fn media_address(&self, side: u8, call: u32) -> SocketAddr {
        let pool = &self.addresses[usize::from(side)];
        pool[call as usize % pool.len()]
    }

    /// Tells the worker of a call.
    pub(crate) fn order(&self, call: u32, order: Order) {
        if self.media {
            let socket = call as usize % self.addresses[0].len();
            // A worker that is gone has reported why.
            let _ = self.orders[socket % self.orders.len()].send(order);
        }
    }

    /// Does the caller hang up this call?
    pub(crate) fn caller_ends(&self, call: u32) -> bool {
        !self.alternate || call.is_multiple_of(2)
    }

    /// Does the called side?
    pub(crate) fn callee_ends(&self, call: u32) -> bool {
        self.alternate && !call.is_multiple_of(2)
    }

    /// A branch nobody else uses.
    pub(crate) fn branch(&self, call: u32, kind: &str) -> String {
        format!("{kind}{call:x}.{:08x}", self.nonce)
    }

    /// The call of a Call-ID of ours.
    pub(crate) fn call_of(&self, call_id: &str) -> Option<u32> {
        let (call, rest) = call_id.split_once('-')?;
        let ours = u32::from_str_radix(rest.split('@').next()?, 16).ok()? == self.nonce;
        u32::from_str_radix(call, 16).ok().filter(|&call| ours && call < self.calls)
    }

    /// The call of a caller's number.
    pub(crate) fn caller_number(&self, from: &str) -> Option<u32> {
        let number = crate::sip::number(from)?.checked_sub(self.from)?;
        let limit = if self.calls == 0 { MEDIA_CALLS } else { self.calls };
        u32::try_from(number).ok().filter(|&call| call < limit)
    }
}

/// Opens media sockets and prepares workers for them.
struct MediaSet {
    pools: [Vec<Arc<Socket>>; 2],
    addresses: [Vec<SocketAddr>; 2],
    orders: Vec<mpsc::Sender<Order>>,
    inboxes: Vec<mpsc::Receiver<Order>>,
}

fn open_media(common: &CommonArgs, ip: IpAddr) -> Result<MediaSet, String> {
    let pools = match common.media_ports {
        None => [media::open_shared(ip, SHARED)?, media::open_shared(ip, SHARED)?],
        Some((first, last)) => media::open_range(ip, first, last)?,
    };
    let threads = usize::from(common.media_threads).min(pools[0].sockets.len());
    let (orders, inboxes) = (0..threads).map(|_| mpsc::channel()).unzip();
    let [a, b] = pools;
    Ok(MediaSet {
        pools: [a.sockets, b.sockets],
        addresses: [a.addresses, b.addresses],
        orders,
        inboxes,
    })
}

type Workers = Vec<JoinHandle<Result<Tally, String>>>;

fn start_workers(
    pools: &[Vec<Arc<Socket>>; 2],
    inboxes: Vec<mpsc::Receiver<Order>>,
    stage: &Stage,
    run: u32,
) -> Workers {
    let count = inboxes.len();
    let workers = inboxes.into_iter().enumerate().map(|(number, orders)| {
        let worker = Worker {
            pools: pools.clone(),
            share: (number, count),
            run,
            ptime: stage.ptime,
            key: stage.key,
            line: stage.line,
            live: Arc::clone(&stage.live),
            orders,
        };
        thread::spawn(move || worker.run())
    });
    workers.collect()
}

fn finish_workers(stage: &Stage, workers: Workers) -> Result<Vec<Tally>, String> {
    // What is still on its way may arrive.
    thread::sleep(Duration::from_millis(if stage.media { 50 } else { 0 }));
    for orders in &stage.orders {
        let _ = orders.send(Order::Finish);
    }
    let mut tallies = Vec::new();
    for worker in workers {
        tallies.push(worker.join().map_err(|_| "a media thread panicked".to_owned())??);
    }
    stage.live.all_done.store(true, Relaxed);
    Ok(tallies)
}

fn nonce() -> u32 {
    let now = os::wall_ns();
    (now ^ (now >> 32) ^ u64::from(std::process::id()) << 12) as u32
}

fn stage(args: &CallArgs, media: &MediaSet, live: Arc<Live>) -> Stage {
    let common = &args.common;
    let packets = (args.hold * 1_000.0 / common.ptime as f64) as u32;
    Stage {
        line: Timeline::new(),
        live,
        calls: args.calls,
        interval_ns: (1e9 / args.rate) as u64,
        to: args.to,
        number: args.number.clone(),
        from: common.from,
        nonce: nonce(),
        hold_ns: (args.hold * 1e9) as u64,
        tail_ns: if common.no_media { 0 } else { args.tail_ms * 1_000_000 },
        cancel_after_ns: args.cancel_after_ms * 1_000_000,
        t1_ns: common.t1_ms * 1_000_000,
        ptime: common.ptime,
        key: args.srtp.map(Key::of_callers),
        packets: if common.no_media { 0 } else { packets },
        ladder: args.ladder.is_some(),
        alternate: !args.no_uas,
        media: !common.no_media,
        addresses: media.addresses.clone(),
        orders: media.orders.clone(),
    }
}

fn loopback(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

fn check(args: &CallArgs) -> Result<(), String> {
    Locality::new(args.common.allow_remote).check(args.to)?;
    if !args.common.no_media {
        if args.calls > MEDIA_CALLS {
            return Err(format!("with media at most {MEDIA_CALLS} calls"));
        }
        if args.hold * 1_000.0 < args.common.ptime as f64 {
            return Err("--hold is shorter than one packet; use --no-media".to_owned());
        }
    }
    Ok(())
}

/// Runs `sbcload call`; true when every call was answered, heard on both sides and ended cleanly.
pub(crate) fn run(args: CallArgs) -> Result<bool, String> {
    check(&args)?;
    let ipv6 = args.ipv6 || args.to.is_ipv6();
    let near = match args.uac {
        Some(address) => address,
        None => locality::facing(args.to)?,
    };
    let far = args.uas.unwrap_or(SocketAddr::new(loopback(ipv6), 5070));
    let near = link::bind(near, 8 << 20)?;
    let far = if args.no_uas { None } else { Some(link::bind(far, 8 << 20)?) };
    let media = open_media(&args.common, args.common.media_ip.unwrap_or(loopback(ipv6)))?;
    let ledger = Ledger::open(args.ledger.as_deref())?;
    let live = Arc::new(Live::default());
    let stage = Arc::new(stage(&args, &media, live));
    let (line, anywhere) = (stage.line, args.common.allow_remote);
    // Two processes don't know each other's run number.
    let run = if args.no_uas { 0 } else { stage.nonce };
    let workers = start_workers(&media.pools, media.inboxes, &stage, run);
    let callee = match far {
        Some(socket) => {
            let (stage, answer) = (Arc::clone(&stage), args.answer.clone());
            Some(thread::spawn(move || {
                let link = Link::new(socket, line, anywhere)?;
                Ok::<_, String>(Callee::new(stage, link, answer).run(None))
            }))
        }
        None => None,
    };
    let watch = args.progress.then(|| {
        let live = Arc::clone(&stage.live);
        thread::spawn(move || live::progress(&live, &line, args.calls))
    });
    let caller = Caller::new(Arc::clone(&stage), Link::new(near, line, anywhere)?, ledger).run();
    let callee = callee.map(|thread| thread.join().map_err(|_| "the called side panicked"));
    let callee = callee.transpose()?.transpose()?;
    let tallies = finish_workers(&stage, workers)?;
    if let Some(watch) = watch {
        let _ = watch.join();
    }
    let report = Report { args: &args, stage: &stage, caller, callee, tallies };
    conclude(report)
}

fn conclude(mut report: Report<'_>) -> Result<bool, String> {
    if let Some(path) = &report.args.ladder {
        let mut steps = std::mem::take(&mut report.caller.steps);
        if let Some(callee) = &mut report.callee {
            steps.append(&mut callee.steps);
        }
        let legs = report.tallies.iter().flat_map(|tally| &tally.legs);
        steps.extend(legs.filter(|leg| leg.call == 0).filter_map(ladder::audio));
        let text = ladder::draw(steps);
        if path.as_os_str() == "-" {
            println!("{text}");
        } else {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    let json = report.args.json;
    let (value, text, clean) = report.conclude();
    if json {
        println!("{value}")
    } else {
        print!("{text}")
    }
    Ok(clean)
}

/// Runs `sbcload uas`.
pub(crate) fn run_called_side(args: UasArgs) -> Result<bool, String> {
    let socket = link::bind(args.listen, 8 << 20)?;
    let default = if args.listen.ip().is_unspecified() {
        loopback(args.listen.is_ipv6())
    } else {
        args.listen.ip()
    };
    let media = open_media(&args.common, args.common.media_ip.unwrap_or(default))?;
    let stage = Arc::new(Stage {
        line: Timeline::new(),
        live: Arc::default(),
        calls: 0,
        interval_ns: 0,
        to: args.listen,
        number: String::new(),
        from: args.common.from,
        nonce: nonce(),
        hold_ns: 0,
        tail_ns: 0,
        cancel_after_ns: 0,
        t1_ns: args.common.t1_ms * 1_000_000,
        ptime: args.common.ptime,
        key: None,
        packets: if args.common.no_media { 0 } else { u32::MAX },
        ladder: false,
        alternate: false,
        media: !args.common.no_media,
        addresses: media.addresses.clone(),
        orders: media.orders.clone(),
    });
    let workers = start_workers(&media.pools, media.inboxes, &stage, 0);
    let link = Link::new(socket, stage.line, args.common.allow_remote)?;
    let end = args.seconds.map(|seconds| (seconds * 1e9) as u64);
    let tally = Callee::new(Arc::clone(&stage), link, args.answer.clone()).run(end);
    let tallies = finish_workers(&stage, workers)?;
    let (value, text) = report::called_side(&tally, &tallies);
    if args.json {
        println!("{value}")
    } else {
        print!("{text}")
    }
    Ok(tally.unacknowledged + tally.bye_failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn calls_are_told_by_call_id_and_by_number() {
        let cli =
            crate::cli::Cli::parse_from(["sbcload", "call", "--to", "127.0.0.1:9", "--calls", "9"]);
        let crate::cli::Command::Call(args) = cli.command else { panic!("not a call") };
        let media = open_media(&args.common, loopback(false)).unwrap();
        let stage = stage(&args, &media, Arc::default());
        let call_id = format!("8-{:08x}@127.0.0.1", stage.nonce);
        assert_eq!(stage.call_of(&call_id), Some(8));
        assert_eq!(stage.call_of(&format!("9-{:08x}@127.0.0.1", stage.nonce)), None);
        assert_eq!(stage.call_of("8-00000000@127.0.0.1"), None);
        assert_eq!(stage.caller_number("<sip:+14150000003@h>;tag=1"), Some(3));
        assert_eq!(stage.caller_number("<sip:anonymous@anonymous.invalid>"), None);
        assert!(stage.caller_ends(2) && stage.callee_ends(3));
    }
}
