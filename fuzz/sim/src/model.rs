//! The reference model: what must hold of a node whatever happens, judged from outside.
//!
//! It reads the trace of everything that crossed the node's boundary and keeps its own books of INVITE
//! transactions, CDRs and media addresses. It knows nothing of how the node does its work.

use crate::Text;
use crate::phone::Phone;
use crate::world::{Passed, Trace, World};
use base::Instant;
use base::random::Random;
use sbc::billing::{Cdr, CdrId, Frame};
use sbc::policy::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// After this long an INVITE of old is a new request (64 × T1).
const FORGOTTEN: Duration = Duration::from_secs(32);
/// After its final response a transaction stays at least this long (T4).
const SETTLED: Duration = Duration::from_secs(5);

/// What the model has seen of one INVITE transaction.
#[derive(Clone, Debug, Default)]
struct Invite {
    call_id: String,
    is_first: bool,
    /// It is to take a place in a call, whose CDR it has then.
    replaces: bool,
    /// Its sender wants to hear of early dialogs that end.
    hears_199: bool,
    finals: Vec<(u16, String)>,
    first_at: Instant,
    first_final_at: Option<Instant>,
    last_at: Instant,
    /// How often it was sent anew after everybody had forgotten it: each is a request of its own.
    revivals: usize,
    /// Restarts before it: one that comes after it lets the node forget what was said.
    restarts: usize,
}

/// What the model has seen of one CDR.
#[derive(Clone, Debug, Default)]
struct Book {
    started: bool,
    answered: bool,
    stopped: Option<Box<Cdr>>,
}

/// The model.
pub struct Model {
    peers: BTreeSet<SocketAddr>,
    capacities: Vec<u64>,
    declared: BTreeSet<SocketAddr>,
    invites: BTreeMap<(SocketAddr, String), Invite>,
    books: BTreeMap<CdrId, Book>,
    /// Call-IDs somebody sent broken messages with.
    tainted: BTreeSet<String>,
    /// Call-IDs of which a 2xx went to the caller.
    answered: BTreeSet<String>,
    /// 2xx of callees whose ACK is to come, by Call-ID and CSeq.
    unacknowledged: BTreeSet<(String, String)>,
    /// INVITEs whose CANCEL was granted since the last look: each has its final response by then.
    cancelled: Vec<(SocketAddr, String)>,
    /// When the node first sent each INVITE, by Call-ID and CSeq.
    sent: BTreeMap<(String, String), Instant>,
    /// Reliable responses of the node with a description that no PRACK has confirmed yet: who was told,
    /// and their Call-ID, numbers and early dialog.
    unconfirmed: BTreeSet<(SocketAddr, String, String)>,
    /// Those that were confirmed: an INVITE that is repeated may still draw them.
    confirmed: BTreeSet<(SocketAddr, String, String)>,
    last_into: Option<Passed>,
    /// Calls that were to be joined.
    links: Vec<BTreeSet<u32>>,
    /// Where connections lead.
    streams: Vec<SocketAddr>,
    /// Where media of the node is.
    own: BTreeSet<IpAddr>,
    restarts: usize,
    scarce: bool,
    /// No phone does what it should not: then every 2xx is one that must be acknowledged.
    well_behaved: bool,
    mutants: usize,
    /// Hash of everything the node sent and wrote.
    pub digest: u64,
    hasher: Random,
    /// What went wrong.
    pub violations: Vec<String>,
}

impl Model {
    /// The model of a node with this configuration.
    pub fn new(
        image: &Image,
        peers: BTreeSet<SocketAddr>,
        scarce: bool,
        well_behaved: bool,
    ) -> Model {
        Model {
            peers,
            capacities: image.trunks.iter().map(|t| u64::from(t.capacity)).collect(),
            declared: BTreeSet::new(),
            invites: BTreeMap::new(),
            books: BTreeMap::new(),
            tainted: BTreeSet::new(),
            answered: BTreeSet::new(),
            unacknowledged: BTreeSet::new(),
            cancelled: Vec::new(),
            sent: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            last_into: None,
            links: Vec::new(),
            streams: image.streams.iter().filter_map(|s| s.face.sent_by.parse().ok()).collect(),
            own: image.interfaces.iter().map(|interface| interface.advertise).collect(),
            restarts: 0,
            scarce,
            well_behaved,
            mutants: 0,
            digest: 0,
            hasher: Random::new((1, 2)),
            violations: Vec::new(),
        }
    }

    /// A broken copy of a message was sent: its call is not judged by the letter any more.
    pub fn taint(&mut self, original: &[u8], mutant: &[u8]) {
        self.mutants += 1;
        for bytes in [original, mutant] {
            let text = Text { raw: String::from_utf8_lossy(bytes).into_owned() };
            self.tainted.insert(text.get("Call-ID").to_owned());
        }
    }

    /// Two calls are to be joined: media of one may reach the other.
    pub fn link(&mut self, a: u32, b: u32) {
        let (mut joined, others): (Vec<_>, _) = core::mem::take(&mut self.links)
            .into_iter()
            .partition(|set: &BTreeSet<u32>| set.contains(&a) || set.contains(&b));
        joined.push(BTreeSet::from([a, b]));
        self.links = others;
        self.links.push(joined.into_iter().flatten().collect());
    }

    fn are_linked(&self, a: Option<u32>, b: Option<u32>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return false };
        a == b || self.links.iter().any(|set| set.contains(&a) && set.contains(&b))
    }

    fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Takes what happened since the last time, and looks at the node's tables.
    pub fn watch(&mut self, world: &mut World, phones: &[Phone]) {
        let now = world.now();
        for trace in core::mem::take(&mut world.trace) {
            match trace {
                Trace::Into(passed) => self.into(passed),
                Trace::Out(passed) => self.out(passed, phones),
                Trace::Frame(bytes) => self.frame(&bytes, now),
                Trace::HandOver(_) | Trace::Crash => self.restarts += 1,
            }
        }
        self.cancels();
        self.tables(world);
    }

    /// A CANCEL that was granted ends its INVITE in the same turn (RFC 3261 9.2); a re-INVITE's goes to
    /// the other side first. Of an INVITE sent anew after it was forgotten the CANCEL may still be
    /// remembered: then it is a repetition.
    fn cancels(&mut self) {
        for key in core::mem::take(&mut self.cancelled) {
            let Some(invite) = self.invites.get(&key) else { continue };
            let judged = invite.is_first
                && !invite.replaces
                && invite.restarts == self.restarts
                && invite.revivals == 0
                && !self.scarce
                && !self.tainted.contains(&invite.call_id);
            if judged && invite.finals.is_empty() {
                let what = format!("INVITE of {} goes on after its CANCEL", invite.call_id);
                self.wrong(what);
            }
        }
    }

    fn tables(&mut self, world: &World) {
        for (trunk, capacity) in self.capacities.clone().into_iter().enumerate() {
            let counted = world.page().read(Image::calls_word(trunk as u16));
            let places = world.shards().iter().flat_map(|s| s.signal().held_places());
            let held = places.filter(|t| usize::from(*t) == trunk).count() as u64;
            if counted != held || counted > capacity {
                self.wrong(format!(
                    "trunk {trunk}: {counted} counted, {held} held, {capacity} allowed"
                ));
            }
        }
        for shard in world.shards() {
            if shard.signal().counters().failures.get() > 0 {
                self.wrong("a packet made the node fail".to_owned());
            }
            let media = shard.media();
            let sum = media.in_use() + media.ready() + media.quarantined();
            if sum != media.capacity() {
                self.wrong(format!("{sum} of {} media ports", media.capacity()));
            }
            // Each is some leg's alone, and given back when the leg lets go of it: once.
            let mut held: Vec<_> = shard.signal().held_ends().map(|end| end.index).collect();
            held.sort_unstable();
            let named = held.len();
            held.dedup();
            if named != held.len() || named != media.in_use() {
                self.wrong(format!(
                    "{} media endpoints in use, {named} named, {} of them once",
                    media.in_use(),
                    held.len()
                ));
            }
        }
    }

    // ---- what came in ----

    fn into(&mut self, passed: Passed) {
        if let Some(text) = Text::read(&passed.bytes)
            && self.peers.contains(&passed.from)
        {
            self.declared.extend(text.media());
            let number = text.get("CSeq").strip_suffix(" INVITE");
            if let (Some(200..=299), Some(number)) = (text.status(), number) {
                let key = (text.get("Call-ID").to_owned(), number.to_owned());
                // After timer B nobody knows the INVITE any more (RFC 3261 17.1.1.2).
                let sent = self.sent.get(&key);
                if sent.is_some_and(|sent| passed.at.since(*sent) < FORGOTTEN) {
                    self.unacknowledged.insert(key);
                }
            }
            if text.method() == Some("PRACK") {
                let rack = format!("{} {}", text.get("RAck"), text.tag("To"));
                let key = (passed.from, text.get("Call-ID").to_owned(), rack);
                self.unconfirmed.remove(&key);
                self.confirmed.insert(key);
            }
            if text.method() == Some("INVITE") {
                let key = (passed.from, branch(&text));
                let restarts = self.restarts;
                let invite = self.invites.entry(key).or_insert_with(|| Invite {
                    call_id: text.get("Call-ID").to_owned(),
                    is_first: text.tag("To").is_empty(),
                    replaces: !text.get("Replaces").is_empty(),
                    hears_199: text.all("Supported").iter().any(|s| s.contains("199")),
                    first_at: passed.at,
                    restarts,
                    ..Invite::default()
                });
                let old = passed.at.since(invite.first_at) >= FORGOTTEN;
                let over = invite.first_final_at.is_some_and(|f| passed.at.since(f) > FORGOTTEN);
                // Over a connection a failure is settled once it is acknowledged (RFC 3261 17.2.1).
                let waits =
                    if self.streams.contains(&passed.to) { Duration::ZERO } else { SETTLED };
                // One that is still being served is not forgotten, but by a restart.
                let is_forgotten = !waits.is_zero() && invite.restarts != restarts;
                let is_settled = invite.first_final_at.is_some() || is_forgotten;
                if old && (over || (is_settled && passed.at.since(invite.last_at) > waits)) {
                    invite.first_final_at = None;
                    invite.revivals += 1;
                    invite.finals.clear();
                    invite.first_at = passed.at;
                }
            }
        }
        self.last_into = Some(passed);
    }

    // ---- what went out ----

    fn out(&mut self, passed: Passed, phones: &[Phone]) {
        let at = passed.at.0.to_le_bytes();
        let from_to = format!("{} {}", passed.from, passed.to);
        self.digest =
            self.hasher.hash(&[&self.digest.to_le_bytes(), &at, from_to.as_bytes(), &passed.bytes]);
        if passed.from.port() == 5060 {
            self.text(&passed);
            self.told(&passed, phones);
            self.extensions(&passed, phones);
        } else {
            self.media(&passed, phones);
        }
    }

    fn text(&mut self, passed: &Passed) {
        // A broken Via or Contact may name anybody, as far as the node can know.
        if self.mutants == 0 && !self.peers.contains(&passed.to) {
            self.wrong(format!("a message to {} who is nobody's peer", passed.to));
        }
        if let Err(why) = reads(&passed.bytes) {
            let text = String::from_utf8_lossy(&passed.bytes);
            // What is repeated of a broken message is as broken as it was.
            if self.mutants == 0 {
                self.wrong(format!("a message that does not read back: {why}\n{text}"));
            }
        }
        let Some(text) = Text::read(&passed.bytes) else { return };
        if text.method() == Some("INVITE") {
            let number = text.get("CSeq").split(' ').next().unwrap_or("");
            let key = (text.get("Call-ID").to_owned(), number.to_owned());
            self.sent.entry(key).or_insert(passed.at);
        }
        if let Some(number) = text.get("CSeq").strip_suffix(" ACK") {
            self.unacknowledged.remove(&(text.get("Call-ID").to_owned(), number.to_owned()));
        }
        if text.status() == Some(200) && branch(&text).contains("wrong") && self.mutants == 0 {
            self.wrong(format!("a BYE with a tag nobody has ended a dialog\n{}", text.raw));
        }
        if text.status() == Some(200) && text.get("CSeq").ends_with(" CANCEL") {
            self.cancelled.push((passed.to, branch(&text)));
        }
        if let Some(status) = text.status().filter(|s| *s >= 200)
            && text.get("CSeq").ends_with(" INVITE")
        {
            self.concluded((passed.to, passed.at), status, &text);
        }
    }

    /// Where a description wants media: at the node, or at who talks with whom it is told.
    fn told(&mut self, passed: &Passed, phones: &[Phone]) {
        let Some(text) = Text::read(&passed.bytes).filter(|_| self.mutants == 0) else { return };
        let is_own = |media: &SocketAddr| self.own.contains(&media.ip());
        let Some(media) = text.media().filter(|media| !is_own(media)) else { return };
        let owner = phones.iter().find_map(|p| p.line.media_of.get(&media).copied());
        let told = phones.iter().find(|p| p.address() == passed.to);
        let whose = told.and_then(|phone| phone.serial_of(text.get("Call-ID")));
        let is_right = owner.is_some() && (whose.is_none() || self.are_linked(owner, whose));
        if !is_right || !self.declared.contains(&media) {
            self.wrong(format!("media of {owner:?} is told to call {whose:?}\n{}", text.raw));
        }
    }

    /// What only a peer that says so may be sent, and the order of reliable responses.
    fn extensions(&mut self, passed: &Passed, phones: &[Phone]) {
        let Some(text) = Text::read(&passed.bytes) else { return };
        let call_id = text.get("Call-ID").to_owned();
        if self.mutants > 0 {
            return;
        }
        let takes_updates =
            phones.iter().find(|p| p.address() == passed.to).is_some_and(|p| p.line.updates);
        if text.method() == Some("UPDATE") && !takes_updates {
            self.wrong(format!("an UPDATE to a phone that takes none\n{}", text.raw));
        }
        let Some(number) = text.get("CSeq").strip_suffix(" INVITE") else { return };
        let asked = self.invites.get(&(passed.to, branch(&text)));
        if text.status() == Some(199) && asked.is_some_and(|invite| !invite.hears_199) {
            self.wrong(format!("a 199 to a caller that knows none\n{}", text.raw));
        }
        match text.status() {
            Some(101..=199) if !text.get("RSeq").is_empty() && !text.body().is_empty() => {
                let rack = format!("{} {number} INVITE {}", text.get("RSeq"), text.tag("To"));
                let key = (passed.to, call_id, rack);
                if !self.confirmed.contains(&key) {
                    self.unconfirmed.insert(key);
                }
            }
            Some(200..=299) => {
                // RFC 3262 3: not before the PRACK of every description.
                let tag = text.tag("To");
                let waits = |u: &(SocketAddr, String, String)| {
                    u.0 == passed.to && u.1 == call_id && u.2.ends_with(tag)
                };
                if self.unconfirmed.iter().any(waits) {
                    self.wrong(format!("a 2xx before the PRACK of a description\n{}", text.raw));
                }
            }
            Some(300..) => self.unconfirmed.retain(|u| u.0 != passed.to || u.1 != call_id),
            _ => {}
        }
    }

    fn concluded(&mut self, (to, now): (SocketAddr, Instant), status: u16, text: &Text) {
        let restarts = self.restarts;
        let Some(invite) = self.invites.get_mut(&(to, branch(text))) else {
            let what = format!("a final response to no INVITE: {}", text.raw);
            return if self.mutants == 0 {
                self.wrong(what)
            };
        };
        invite.last_at = now;
        invite.first_final_at.get_or_insert(now);
        let this = (status, text.tag("To").to_owned());
        let first = invite.finals.first().cloned();
        invite.finals.push(this.clone());
        let (call_id, is_first) = (invite.call_id.clone(), invite.is_first && !invite.replaces);
        let judged =
            invite.restarts == restarts && !self.tainted.contains(&call_id) && !self.scarce;
        if let Some(first) = first.filter(|f| *f != this && judged) {
            self.wrong(format!("INVITE of {call_id} was answered {first:?}, then {this:?}"));
        }
        if is_first && status < 300 {
            let known = |b: &Book| {
                b.answered
                    && b.stopped.as_ref().is_none_or(|c| *c.call_id_in == *call_id.as_bytes())
            };
            if !self.tainted.contains(&call_id) && !self.books.values().any(known) {
                self.wrong(format!("a 200 of {call_id} left before its answer was written"));
            }
            self.answered.insert(call_id);
        }
    }

    fn media(&mut self, passed: &Passed, phones: &[Phone]) {
        let owner = |address: SocketAddr| {
            let rtp = SocketAddr::new(address.ip(), address.port() & !1);
            phones.iter().find_map(|p| p.line.media_of.get(&rtp).copied())
        };
        let ssrc_at = if passed.bytes.get(1) == Some(&201) { 4 } else { 8 };
        let ssrc = passed
            .bytes
            .get(ssrc_at..ssrc_at + 4)
            .map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let source = self.last_into.as_ref().map(|p| p.from);
        let (from, to) = (source.and_then(owner), owner(passed.to));
        let right = from == Some(ssrc / 2) && self.are_linked(from, to);
        if !right {
            self.wrong(format!("media of call {} from {source:?} to {}", ssrc / 2, passed.to));
        }
        // A broken copy of an INVITE may begin a call of its own, which may be joined with the first.
        if source == Some(passed.to) && (self.mutants == 0 || self.links.is_empty()) {
            self.wrong(format!("media of call {} came back to its sender", ssrc / 2));
        }
        let rtp = SocketAddr::new(passed.to.ip(), passed.to.port() & !1);
        if !self.declared.contains(&rtp) {
            self.wrong(format!("media to {}, which nobody has declared", passed.to));
        }
    }

    // ---- what was written ----

    fn frame(&mut self, bytes: &[u8], now: Instant) {
        self.digest = self.hasher.hash(&[&self.digest.to_le_bytes(), bytes]);
        let frame = match Frame::open(bytes) {
            Ok(frame) => frame,
            Err(why) => return self.wrong(format!("a frame that cannot be read: {why:?}")),
        };
        let book = self.books.entry(frame.id()).or_default();
        let (was, id) = (book.clone(), frame.id());
        match &frame {
            Frame::Start(_) => book.started = true,
            Frame::Answer(_) => book.answered = true,
            Frame::Interim(..) => {}
            Frame::Stop(cdr) => book.stopped = Some(Box::new(cdr.clone())),
        }
        let fits = was.stopped.is_none()
            && match &frame {
                Frame::Start(_) => !was.started,
                Frame::Answer(cdr) => was.started && !was.answered && is_now(cdr.answer, now),
                Frame::Interim(..) => was.answered,
                Frame::Stop(cdr) => {
                    let answered = cdr.answer.is_some();
                    // A successor may find a record older than the answer: then no 200 had left.
                    match cdr.marks.recovered {
                        true => was.answered || !answered,
                        false => was.answered == answered && is_now(cdr.end, now),
                    }
                }
            };
        if !fits {
            self.wrong(format!("{frame:?} after {was:?} at {now:?}"));
        }
        if let Frame::Stop(cdr) = &frame
            && let Err(why) = sane(cdr, now)
        {
            self.wrong(format!("CDR {id:?}: {why}: {cdr:?}"));
        }
    }

    // ---- the end ----

    /// Everything has ended: nothing is left, and the books agree.
    pub fn close(&mut self, world: &World) {
        for (i, shard) in world.shards().iter().enumerate() {
            let left =
                [shard.signal().calls(), shard.signal().transactions(), shard.media().in_use()];
            if shard.signal().errands() != 0 {
                self.wrong(format!("shard {i}: an errand is left"));
            }
            if left != [0; 3] {
                self.wrong(format!("shard {i}: calls, transactions, endpoints left: {left:?}"));
            }
        }
        if world.regions().iter().any(|r| !r.records.is_empty()) {
            self.wrong("a record is left".to_owned());
        }
        let open: Vec<CdrId> =
            self.books.iter().filter(|(_, b)| b.stopped.is_none()).map(|(id, _)| *id).collect();
        if !open.is_empty() {
            self.wrong(format!("calls without a CDR: {open:?}"));
        }
        if self.well_behaved
            && self.mutants == 0
            && !self.scarce
            && self.restarts == 0
            && !self.unacknowledged.is_empty()
        {
            self.wrong(format!("never acknowledged: {:?}", self.unacknowledged));
        }
        self.compare();
    }

    /// Each call against its CDRs.
    fn compare(&mut self) {
        let mut cdrs: BTreeMap<String, Vec<Box<Cdr>>> = BTreeMap::new();
        for cdr in self.books.values().filter_map(|b| b.stopped.clone()) {
            cdrs.entry(String::from_utf8_lossy(&cdr.call_id_in).into_owned())
                .or_default()
                .push(cdr);
        }
        let mut wrong = Vec::new();
        for invite in self.invites.values() {
            if self.tainted.contains(&invite.call_id) {
                continue;
            }
            let undisturbed = invite.restarts == self.restarts;
            if undisturbed && invite.revivals == 0 && invite.finals.is_empty() {
                wrong.push(format!("an INVITE of {} was never answered", invite.call_id));
            }
            let many = cdrs.get(&invite.call_id).map_or(0, Vec::len);
            // What could not be parsed is answered, but no call.
            let parsed = !invite.finals.iter().all(|f| f.0 == 400);
            let least = usize::from(undisturbed && parsed && !invite.replaces);
            let most = 1 + invite.revivals + if undisturbed { 0 } else { self.restarts };
            if invite.is_first && !self.scarce && (many < least || many > most) {
                wrong.push(format!("{many} CDRs of {}", invite.call_id));
            }
        }
        for call_id in &self.answered {
            let own = cdrs.get(call_id).map_or(&[][..], Vec::as_slice);
            if !own.iter().any(|c| c.answer.is_some()) && !self.tainted.contains(call_id) {
                wrong.push(format!("{call_id} was answered and has no such CDR"));
            }
        }
        let known: BTreeSet<&str> = self.invites.values().map(|i| i.call_id.as_str()).collect();
        let unknown = cdrs.keys().filter(|c| !known.contains(c.as_str())).count();
        if unknown > self.mutants {
            wrong.push("a CDR of a call nobody made".to_owned());
        }
        self.violations.append(&mut wrong);
    }
}

fn is_now(stamp: Option<sbc::billing::Stamp>, now: Instant) -> bool {
    stamp.is_some_and(|s| s.mono == now.0)
}

fn sane(cdr: &Cdr, now: Instant) -> Result<(), &'static str> {
    let end = cdr.end.ok_or("no end")?;
    let answer = cdr.answer.map_or(cdr.setup.mono, |a| a.mono);
    let ringing = cdr.ringing.map_or(cdr.setup.mono, |r| r.mono);
    match () {
        () if end.mono > now.0 => Err("it ends in the future"),
        () if ringing < cdr.setup.mono || answer < ringing.min(answer) => Err("out of order"),
        () if end.mono < answer => Err("it ends before it begins"),
        () if cdr.answer.is_some() != (cdr.status / 100 == 2) => Err("status and answer disagree"),
        () if cdr.reason.is_empty() => Err("no reason"),
        () if !(1..=127).contains(&cdr.q850) => Err("no cause"),
        () => Ok(()),
    }
}

fn branch(text: &Text) -> String {
    let via = text.get("Via");
    via.split_once("branch=")
        .map_or("", |(_, b)| b.split([';', ',']).next().unwrap_or(""))
        .to_owned()
}

/// Reads a message with our own parser and with somebody else's.
fn reads(bytes: &[u8]) -> Result<(), String> {
    let mut index = sbc::message::Index::new();
    let ours = sbc::message::parse(bytes, &mut index).map_err(|r| format!("{:?}", r.error))?;
    if core::str::from_utf8(bytes).is_err() {
        return Ok(()); // Repeated from a broken message; the other parser takes text only.
    }
    let theirs = rsip::SipMessage::try_from(bytes).map_err(|e| format!("rsip: {e}"))?;
    let headers = match &theirs {
        rsip::SipMessage::Request(r) => r.headers.iter().count(),
        rsip::SipMessage::Response(r) => r.headers.iter().count(),
    };
    if headers != ours.headers().count() {
        return Err("header fields are counted differently".to_owned());
    }
    let is_sdp = ours.content_type() == Some(b"application/sdp");
    if !ours.body().is_empty() && is_sdp {
        sdp_types::Session::parse(ours.body()).map_err(|e| format!("sdp-types: {e}"))?;
        sbc::sdp::parse(ours.body()).map_err(|e| format!("our sdp: {e:?}"))?;
    }
    Ok(())
}
