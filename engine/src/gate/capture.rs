//! Captures: the media of a call, copied to the client that asked for it.
//!
//! The gate writes no file: a packet goes to the client as an event, a client that reads too slowly loses some
//! and is told how many, and one that goes away ends its capture. Each has an end in time and in size, and the
//! log says who captured what.

use super::State;
use super::client::Client;
use base::Home;
use control::Command;
use control::event::{CallId, Captured};
use control::frame::{CaptureLine, PacketLine};
use node::Letter;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most at a time.
const MOST: usize = 4;
/// How many seconds one may be asked for, and how many it has unless told.
const SECONDS: RangeInclusive<u32> = 1..=600;
const DEFAULT_SECONDS: u32 = 60;
/// Octets of payload after which one ends.
const MOST_OCTETS: u64 = 64 << 20;
/// How long a shard has to say that it copies no more.
const PATIENCE: Duration = Duration::from_secs(5);

base::counters! {
    /// What is counted of captures.
    pub struct CaptureCounters {
        /// Captures of calls begun.
        begun: counter "tandem_captures_total",
        /// Packets of captured calls that clients were sent.
        packets: counter "tandem_capture_packets_total",
        /// Packets of captured calls that clients were not sent, for want of room anywhere on the way; counted when a capture ends.
        dropped: counter "tandem_capture_dropped_total",
    }
}

struct Capture {
    id: CallId,
    client: Rc<Client>,
    /// When its time is over; once it ends, when it is given up.
    until: Instant,
    /// Why it ends, where it is not with the call.
    ends: Option<&'static str>,
    /// Whether its shard has been told.
    is_told: bool,
    packets: u64,
    octets: u64,
}

/// Those under way.
pub(crate) struct Captures {
    held: Vec<Capture>,
    counters: Arc<CaptureCounters>,
}

impl Captures {
    pub(crate) fn new(counters: Arc<CaptureCounters>) -> Captures {
        Captures { held: Vec::new(), counters }
    }

    /// Begins one, unless it may not be.
    fn begin(
        &mut self,
        id: CallId,
        seconds: Option<u32>,
        client: &Rc<Client>,
        now: Instant,
    ) -> Result<(), String> {
        let seconds = seconds.unwrap_or(DEFAULT_SECONDS);
        if !SECONDS.contains(&seconds) {
            let (least, most) = SECONDS.into_inner();
            return Err(format!("a capture takes {least} to {most} seconds, not {seconds}"));
        }
        if self.held.iter().any(|held| held.id == id) {
            return Err(format!("call {id} is captured already; `uncapture` stops that"));
        }
        if self.held.len() >= MOST {
            return Err(format!("{MOST} calls are captured already, and no more may be"));
        }
        self.held.push(Capture {
            id,
            client: client.clone(),
            until: now + Duration::from_secs(seconds.into()),
            ends: None,
            is_told: false,
            packets: 0,
            octets: 0,
        });
        self.counters.begun.add(1);
        Ok(())
    }

    fn stop(&mut self, id: CallId) -> Result<(), String> {
        let capture = self.held.iter_mut().find(|held| held.id == id);
        let capture = capture.ok_or_else(|| format!("nobody captures call {id}"))?;
        capture.ends.get_or_insert("stopped");
        Ok(())
    }

    /// A packet of a captured call.
    pub(crate) fn hear(&mut self, packet: &Captured) {
        let Some(capture) = self.held.iter_mut().find(|held| held.id == packet.id) else { return };
        if capture.client.captured(packet_line(packet)) {
            capture.packets += 1;
            capture.octets += packet.payload.len() as u64;
            self.counters.packets.add(1);
        }
        if capture.octets >= MOST_OCTETS {
            capture.ends.get_or_insert("size");
        }
    }

    /// A shard copies no more of a call; so many packets there were.
    pub(crate) fn over(&mut self, id: CallId, packets: u64) {
        for over in self.held.extract_if(.., |held| held.id == id) {
            let dropped = packets.saturating_sub(over.packets);
            let ended = over.ends.unwrap_or("call");
            self.counters.dropped.add(dropped);
            eprintln!(
                "sbcd: capture of call {id} is over ({ended}): {} packets, {dropped} dropped",
                over.packets
            );
            over.client.uncaptured(CaptureLine {
                call: id.to_string(),
                ended: ended.to_owned(),
                packets: over.packets,
                octets: over.octets,
                dropped,
            });
        }
    }

    /// Those end whose time is over or whose client has gone; those whose shard said nothing are over.
    fn second(&mut self, now: Instant) {
        for capture in &mut self.held {
            if !capture.client.is_open() {
                capture.ends.get_or_insert("left");
            } else if capture.until <= now {
                capture.ends.get_or_insert("time");
            }
        }
        let late = self.held.iter().filter(|held| held.is_told && held.until <= now);
        let late: Vec<_> = late.map(|held| (held.id, held.packets)).collect();
        late.into_iter().for_each(|(id, packets)| self.over(id, packets));
    }

    /// The next whose shard is to be told that it ends.
    fn next_end(&mut self, now: Instant) -> Option<CallId> {
        let capture = self.held.iter_mut().find(|held| held.ends.is_some() && !held.is_told)?;
        (capture.is_told, capture.until) = (true, now + PATIENCE);
        Some(capture.id)
    }
}

impl State {
    /// Begins one for a client.
    pub(crate) fn capture(
        &mut self,
        id: CallId,
        seconds: Option<u32>,
        client: &Rc<Client>,
    ) -> Result<(), String> {
        self.captures.begin(id, seconds, client, Instant::now())?;
        self.post(Home(id.home).seat(self.shards), Letter::Command(Command::Capture(id)));
        Ok(())
    }

    /// Ends that of a call.
    pub(crate) fn uncapture(&mut self, id: CallId) -> Result<(), String> {
        self.captures.stop(id)?;
        self.end_captures();
        Ok(())
    }

    /// Has the shards told of those that end.
    pub(crate) fn end_captures(&mut self) {
        while let Some(id) = self.captures.next_end(Instant::now()) {
            self.post(Home(id.home).seat(self.shards), Letter::Command(Command::Uncapture(id)));
        }
    }

    /// Once a second: those whose time is over.
    pub(crate) fn look_at_captures(&mut self) {
        self.captures.second(Instant::now());
        self.end_captures();
    }
}

fn packet_line(packet: &Captured) -> PacketLine {
    let mut payload = String::with_capacity(2 * packet.payload.len());
    for octet in &packet.payload {
        // A String takes whatever is written.
        let _written = write!(payload, "{octet:02x}");
    }
    PacketLine {
        call: packet.id.to_string(),
        from: if packet.is_callers { "caller" } else { "callee" }.to_owned(),
        at_ns: packet.at,
        source: packet.source.to_string(),
        to: packet.to.to_string(),
        payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::frame::Answer;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::UnixStream;

    fn id(index: u32) -> CallId {
        CallId { home: 1, index, generation: 1 }
    }

    fn packet(index: u32, octets: usize) -> Captured {
        let at = "192.0.2.1:4000".parse().unwrap();
        let payload = vec![0x80; octets].into();
        Captured { id: id(index), is_callers: true, at: 7, source: at, to: at, payload }
    }

    fn within<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn there_are_so_many_and_each_has_an_end() {
        within(async {
            let (near, far) = UnixStream::pair().unwrap();
            let client = Client::start(near.into_split().1);
            let (mut captures, now) = (Captures::new(Arc::default()), Instant::now());
            for seconds in [0, 601] {
                assert!(captures.begin(id(0), Some(seconds), &client, now).is_err());
            }
            for index in 0..MOST as u32 {
                captures.begin(id(index), Some(10), &client, now).unwrap();
                assert!(captures.begin(id(index), None, &client, now).is_err(), "twice");
            }
            assert!(captures.begin(id(9), None, &client, now).is_err(), "one more");
            assert_eq!(captures.counters.begun.get(), MOST as u64);

            // One is stopped, one grows too large, the time of the others is over.
            assert!(captures.stop(id(9)).is_err());
            captures.stop(id(0)).unwrap();
            captures.held[1].octets = MOST_OCTETS - 4;
            captures.hear(&packet(1, 4));
            assert_eq!([(); 3].map(|()| captures.next_end(now)), [Some(id(0)), Some(id(1)), None]);
            captures.over(id(0), 0);
            captures.over(id(1), 7);
            captures.second(now + Duration::from_secs(10));
            let later = now + Duration::from_secs(10);
            assert_eq!(
                [(); 3].map(|()| captures.next_end(later)),
                [Some(id(2)), Some(id(3)), None]
            );
            captures.hear(&packet(2, 4));
            captures.over(id(2), 1);
            // The shard of the last one says nothing.
            captures.second(later + PATIENCE);
            assert!(captures.held.is_empty());
            assert_eq!((captures.counters.packets.get(), captures.counters.dropped.get()), (2, 6));
            client.close();

            let (mut lines, mut ended) = (BufReader::new(far).lines(), Vec::new());
            while let Some(line) = lines.next_line().await.unwrap() {
                let answer = serde_json::from_str(&line).unwrap();
                if let Answer::Ev { capture: Some(capture), .. } = answer {
                    ended.push((capture.ended.clone(), capture.packets, capture.dropped));
                }
            }
            let expected = [("stopped", 0, 0), ("size", 1, 6), ("time", 1, 0), ("time", 0, 0)];
            assert_eq!(
                ended,
                expected.map(|(why, given, dropped)| (why.to_owned(), given, dropped))
            );
        });
    }

    #[test]
    fn who_does_not_read_loses_packets_and_who_leaves_the_capture() {
        within(async {
            let (near, far) = UnixStream::pair().unwrap();
            let client = Client::start(near.into_split().1);
            let (mut captures, now) = (Captures::new(Arc::default()), Instant::now());
            captures.begin(id(0), None, &client, now).unwrap();
            // Nothing is written in between: the queue takes 4,096 lines but for the room of replies.
            (0..5_000).for_each(|_| captures.hear(&packet(0, 4)));
            assert_eq!(captures.held[0].packets, 4_096 - 64);
            drop(far);
            client.close();
            captures.second(now);
            assert_eq!(captures.next_end(now), Some(id(0)));
            captures.over(id(0), 5_000);
            assert_eq!(captures.counters.dropped.get(), 5_000 - (4_096 - 64));
        });
    }
}
