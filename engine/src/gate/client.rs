//! One connection to the control socket, as seen from the gate's other tasks.
//!
//! What is sent is queued up to a bound; a client that does not read loses events, is told which, and
//! never holds anything up.

use super::socket::event_name;
use control::event::Key;
use control::frame::{
    Answer, CallLine, CaptureLine, DtmfLine, EndpointLine, MediaLine, PacketLine, line,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Lines that may wait for a client.
const QUEUE: usize = 4096;
/// Places kept free for replies.
const RESERVE: usize = 64;

/// The event of a key that was pressed.
const DTMF: &str = "dtmf";
/// The event of a window that was rated.
const QUALITY: &str = "quality";

/// A client.
pub(crate) struct Client {
    out: RefCell<Option<Sender<String>>>,
    wanted: RefCell<Vec<String>>,
    seq: Cell<u64>,
    gap_from: Cell<Option<u64>>,
}

/// What an event tells.
#[derive(Default)]
struct About {
    call: Option<Box<CallLine>>,
    dtmf: Option<Box<DtmfLine>>,
    quality: Option<Box<MediaLine>>,
    trunk: Option<String>,
    endpoint: Option<Box<EndpointLine>>,
    packet: Option<Box<PacketLine>>,
    capture: Option<Box<CaptureLine>>,
}

impl About {
    fn call(call: &CallLine) -> About {
        About { call: Some(Box::new(call.clone())), ..About::default() }
    }

    fn line(self, seq: u64, ev: String) -> String {
        let About { call, dtmf, quality, trunk, endpoint, packet, capture } = self;
        line(&Answer::Ev { seq, ev, call, dtmf, quality, trunk, endpoint, packet, capture })
    }
}

impl Client {
    /// Starts the task that writes to `stream`.
    pub(crate) fn start(stream: OwnedWriteHalf) -> Rc<Client> {
        let (out, lines) = channel(QUEUE);
        tokio::task::spawn_local(write(stream, lines));
        Rc::new(Client {
            out: RefCell::new(Some(out)),
            wanted: RefCell::default(),
            seq: Cell::new(0),
            gap_from: Cell::new(None),
        })
    }

    /// Whether it is still there.
    pub(crate) fn is_open(&self) -> bool {
        self.out.borrow().as_ref().is_some_and(|out| !out.is_closed())
    }

    /// Lets it go once its queue is written.
    pub(crate) fn close(&self) {
        self.out.borrow_mut().take();
    }

    /// Queues a reply. One that asks faster than it reads is let go.
    pub(crate) fn send(&self, text: &str) {
        let full = match self.out.borrow().as_ref() {
            Some(out) => out.try_send(text.to_owned()).is_err(),
            None => false,
        };
        if full {
            self.close();
        }
    }

    /// Which events it wants from now on.
    pub(crate) fn subscribe(&self, beginnings: Vec<String>) {
        *self.wanted.borrow_mut() = beginnings;
    }

    /// Queues an event if it is wanted and there is room.
    pub(crate) fn event(&self, call: &CallLine) {
        let name = event_name(&call.state);
        if self.wants(&name) {
            self.push(name, About::call(call));
        }
    }

    /// Queues that an endpoint of a trunk went in or out.
    pub(crate) fn turned(&self, trunk: &str, endpoint: &EndpointLine) {
        let name = format!("endpoint.{}", endpoint.state);
        if self.wants(&name) {
            let (trunk, endpoint) = (Some(trunk.to_owned()), Some(Box::new(endpoint.clone())));
            self.push(name, About { trunk, endpoint, ..About::default() });
        }
    }

    /// Queues a key that was pressed in a call.
    pub(crate) fn pressed(&self, call: &CallLine, key: &Key) {
        if self.wants(DTMF) {
            let from = if key.is_callers { "caller" } else { "callee" };
            let digit = key.digit.to_string();
            let line = DtmfLine { from: from.to_owned(), digit, duration_ms: key.duration_ms };
            let dtmf = Some(Box::new(line));
            self.push(DTMF.to_owned(), About { dtmf, ..About::call(call) });
        }
    }

    /// Queues what was rated of a call.
    pub(crate) fn rated(&self, call: &CallLine, rated: &MediaLine) {
        if self.wants(QUALITY) {
            let quality = Some(Box::new(rated.clone()));
            self.push(QUALITY.to_owned(), About { quality, ..About::call(call) });
        }
    }

    /// Queues a packet of a call that the client captures; whether there was room for it.
    pub(crate) fn captured(&self, packet: PacketLine) -> bool {
        let packet = Some(Box::new(packet));
        self.push("capture.packet".to_owned(), About { packet, ..About::default() })
    }

    /// Queues that a capture of the client's is over. It waits for that, so it takes the room of a reply.
    pub(crate) fn uncaptured(&self, capture: CaptureLine) {
        let seq = self.seq.get();
        if let Some(from) = self.gap_from.take() {
            self.send(&line(&Answer::Gap { from, to: seq }));
        }
        self.seq.set(seq + 1);
        let capture = Some(Box::new(capture));
        let about = About { capture, ..About::default() };
        self.send(&about.line(seq + 1, "capture.ended".to_owned()));
    }

    fn wants(&self, name: &str) -> bool {
        let begins = |w: &String| name.starts_with(w.trim_end_matches('*').trim_end_matches('.'));
        self.wanted.borrow().iter().any(begins)
    }

    /// Queues a call of a snapshot.
    pub(crate) fn snap(&self, call: &CallLine) {
        self.push(event_name(&call.state), About::call(call));
    }

    /// Position of the last event, sent or left out.
    pub(crate) fn seq(&self) -> u64 {
        self.seq.get()
    }

    /// Tells a gap once there is room, without waiting for an event that may not come.
    pub(crate) fn tell_gap(&self) {
        let out = self.out.borrow();
        let Some(out) = out.as_ref().filter(|out| out.capacity() > RESERVE) else { return };
        if let Some(from) = self.gap_from.take() {
            let _told = out.try_send(line(&Answer::Gap { from, to: self.seq.get() }));
        }
    }

    /// Whether there was room for it.
    fn push(&self, ev: String, about: About) -> bool {
        let seq = self.seq.get() + 1;
        self.seq.set(seq);
        let out = self.out.borrow();
        let Some(out) = out.as_ref() else { return false };
        if out.capacity() <= RESERVE {
            self.gap_from.set(Some(self.gap_from.get().unwrap_or(seq)));
            return false;
        }
        if let Some(from) = self.gap_from.take() {
            let _told = out.try_send(line(&Answer::Gap { from, to: seq - 1 }));
        }
        out.try_send(about.line(seq, ev)).is_ok()
    }
}

async fn write(mut stream: OwnedWriteHalf, mut lines: Receiver<String>) {
    while let Some(text) = lines.recv().await {
        if stream.write_all(text.as_bytes()).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::UnixStream;

    #[test]
    fn a_gap_is_told_without_another_event() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (near, far) = UnixStream::pair().unwrap();
            let client = Client::start(near.into_split().1);
            let call = CallLine { state: "ended".into(), ..CallLine::default() };
            // The writer has no turn in between: what does not fit is left out.
            (0..QUEUE + 10).for_each(|_| client.snap(&call));
            client.tell_gap();
            let mut lines = BufReader::new(far).lines();
            let kept = QUEUE - RESERVE;
            for _ in 0..kept {
                assert!(lines.next_line().await.unwrap().unwrap().contains("\"ev\""));
            }
            client.tell_gap();
            client.tell_gap();
            client.send("end\n");
            let gap = lines.next_line().await.unwrap().unwrap();
            let told: Answer = serde_json::from_str(&gap).unwrap();
            assert_eq!(told, Answer::Gap { from: kept as u64 + 1, to: client.seq() });
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "end");
        });
    }
}
