//! Phones: small SIP user agents that share no code with the node.
//!
//! A phone calls and is called, retransmits what the RFC tells it to, talks, holds, moves its port,
//! gives up and hangs up as its seed says. A hostile one also does what no phone should.

mod errand;
mod leg;
pub(crate) mod plan;
mod transaction;

use crate::Text;
use crate::wire;
use base::Instant;
use base::random::Random;
use errand::Errand;
use leg::{Leg, Phase};
use plan::Plan;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;
use transaction::{Client, Progress, Repeat, branch, cseq};

/// What one phone shares among its calls: its address, its dice, what it wants sent.
pub struct Line {
    address: SocketAddr,
    node: SocketAddr,
    random: Random,
    hostile: bool,
    /// It takes UPDATE, and says so.
    pub updates: bool,
    serial: u32,
    media: u16,
    /// Whose call each media address of it is.
    pub media_of: BTreeMap<SocketAddr, u32>,
    /// Datagrams to send: from, to, bytes.
    pub out: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// A phone.
pub struct Phone {
    /// What its calls share.
    pub line: Line,
    legs: Vec<Leg>,
    errands: Vec<Errand>,
    /// Until then it hears nothing.
    deaf_until: Instant,
}

impl Phone {
    /// A phone at `address` behind `node`.
    pub fn new(address: SocketAddr, node: SocketAddr, seed: (u64, u64), hostile: bool) -> Phone {
        let mut random = Random::new(seed);
        let updates = random.below(100) < 60;
        let line = Line {
            updates,
            address,
            node,
            random,
            hostile,
            serial: 0,
            media: 0,
            media_of: BTreeMap::new(),
            out: Vec::new(),
        };
        Phone { line, legs: Vec::new(), errands: Vec::new(), deaf_until: Instant(0) }
    }

    /// Where it stands.
    pub fn address(&self) -> SocketAddr {
        self.line.address
    }

    /// When it wants `tick` to be called.
    pub fn deadline(&self) -> Instant {
        let errands = self.errands.iter().map(Errand::deadline);
        self.legs.iter().map(Leg::deadline).chain(errands).min().unwrap_or(Instant::NEVER)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        for leg in self.legs.iter_mut().filter(|l| l.deadline() <= now) {
            leg.tick(now, &mut self.line);
        }
        for errand in self.errands.iter_mut().filter(|e| e.deadline() <= now) {
            errand.tick(now, &mut self.line);
        }
        self.errands.retain(|errand| !errand.is_gone());
    }

    /// From now on until then it hears nothing.
    pub fn deafen(&mut self, until: Instant) {
        self.deaf_until = self.deaf_until.max(until);
    }

    /// Number of the call that it has under this Call-ID.
    pub fn serial_of(&self, call_id: &str) -> Option<u32> {
        self.legs.iter().find(|leg| leg.call_id == call_id).map(|leg| leg.serial)
    }

    /// Its calls that stand: their places, and their numbers in this world.
    pub fn up(&self) -> Vec<(usize, u32)> {
        let legs = self.legs.iter().enumerate().filter(|(_, leg)| leg.phase == Phase::Up);
        legs.map(|(place, leg)| (place, leg.serial)).collect()
    }

    /// Something it does at once in one of its calls.
    pub(crate) fn provoke(&mut self, now: Instant, place: usize, plan: Plan) {
        self.legs[place].schedule(now, plan);
    }

    /// What names its dialog in a Replaces, as its peer knows it.
    pub(crate) fn named(&self, place: usize) -> Option<[String; 3]> {
        let leg = &self.legs[place];
        let tag = |of: &str| Some(of.split_once(";tag=")?.1.to_owned());
        Some([leg.call_id.clone(), tag(&leg.remote)?, tag(&leg.local)?])
    }

    /// Asks for the other side of one call to be joined with that of another.
    pub(crate) fn join(&mut self, now: Instant, place: usize, other: usize) {
        let Some([call_id, to, from]) = self.named(other) else { return };
        let call_id = call_id.replace('@', "%40");
        let (node, serial) = (self.line.node, self.legs[place].serial);
        let headers = format!(
            "Refer-To: <sip:42079460001@{node}?Replaces={call_id}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}>\r\n\
             Subject: u{serial}\r\n"
        );
        self.legs[place].refer(now, &headers, &mut self.line);
    }

    /// Sends a request outside calls.
    pub(crate) fn errand(&mut self, now: Instant, serial: u32, number: &str) {
        let errand = Errand::begin(now, serial, number, &mut self.line);
        self.errands.push(errand);
    }

    /// From now on it only answers and hangs up: no more mischief.
    pub fn calm(&mut self, now: Instant) {
        self.line.hostile = false;
        self.deaf_until = now;
        for leg in &mut self.legs {
            leg.agenda
                .retain(|(_, act)| matches!(act, plan::Act::AnswerReinvite(..) | plan::Act::Bye));
            leg.schedule(now, vec![(500, plan::Act::Bye), (500, plan::Act::Cancel)]);
            leg.talk_until = now;
        }
        self.errands.iter_mut().for_each(|errand| errand.calm(now));
    }

    /// Begins a call; its Call-ID.
    pub fn call(&mut self, now: Instant, serial: u32, number: &str, headers: &str) -> String {
        let line = &mut self.line;
        let mut leg = line.leg(serial, true);
        leg.call_id = format!("call{serial}@{}", line.address.ip());
        leg.local = format!("<sip:u{serial}@{}>;tag={}", line.address, line.tag(serial));
        leg.remote = format!("<sip:{number}@{}>", line.node);
        leg.target = format!("sip:{number}@{}", line.node);
        leg.cseq = 1;
        leg.mute = line.hostile && line.chance(10);
        let late = line.chance(12);
        leg.version = 1;
        let body =
            if late { String::new() } else { wire::sdp(leg.media, 1, leg.formats, "sendrecv") };
        leg.late = late;
        let reliability = [
            "",
            "Supported: 100rel",
            "Supported: timer, 100rel",
            "Require: 100rel",
            "Supported: 199",
            "Supported: 100rel, 199",
        ][line.random.below(6) as usize];
        let headers = if headers.is_empty() { reliability } else { headers };
        leg.reliable = headers.contains("100rel");
        leg.timer = line.timer();
        let timer = leg.timer.map_or(String::new(), |(s, us)| {
            let who = if us { ";refresher=uac" } else { "" };
            format!("Session-Expires: {s}{who}\r\n")
        });
        // Supported may already be there: one line more is legal.
        let timer = if timer.is_empty() { timer } else { format!("Supported: timer\r\n{timer}") };
        let branch = line.branch();
        let mut text = line.request_in(&leg, "INVITE", 1, &branch, &body);
        text = text.replacen("\r\nContact:", &format!("\r\n{timer}Contact:"), 1);
        if headers.starts_with("Max-Forwards: 0") && line.chance(50) {
            text = text.replacen("Max-Forwards: 70", headers, 1);
        } else if !headers.is_empty() {
            text = text.replacen("\r\nContact:", &format!("\r\n{headers}\r\nContact:"), 1);
        }
        leg.first = text.clone();
        line.send(text.clone());
        leg.clients.push(Client {
            method: "INVITE",
            branch,
            cseq: 1,
            progress: Progress::Calling,
            repeat: Repeat::start(text, now, false),
            ack: None,
            cancel: false,
            offers: !late,
        });
        let plan = plan::calling(&mut line.random, line.hostile);
        leg.schedule(now, plan);
        let call_id = leg.call_id.clone();
        self.legs.push(leg);
        call_id
    }

    /// A SIP message arrived.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let Some(text) = Text::read(bytes).filter(|_| now >= self.deaf_until) else { return };
        let line = &mut self.line;
        let call_id = text.get("Call-ID");
        if let Some(errand) = self.errands.iter_mut().find(|e| e.call_id == call_id) {
            return match text.status() {
                Some(_) => errand.responded(now, &text),
                None => errand.requested(now, &text, line),
            };
        }
        let leg = self.legs.iter_mut().find(|l| l.call_id == call_id);
        match (text.status(), leg) {
            (Some(_), Some(leg)) => leg.responded(now, &text, line),
            (Some(_), None) => {}
            (None, Some(leg)) => leg.requested(now, text, line),
            (None, None) if text.method() == Some("INVITE") && text.tag("To").is_empty() => {
                let leg = line.called(now, text);
                self.legs.push(leg);
            }
            (None, None) if text.method() == Some("ACK") => {}
            (None, None) if text.tag("To").is_empty() && text.method() != Some("CANCEL") => {
                let errand = Errand::begun(now, text, line);
                self.errands.push(errand);
            }
            (None, None) => line.send(text.reply(481, "none", "", "")),
        }
    }
}

impl Line {
    fn send(&mut self, text: String) {
        if !text.is_empty() {
            self.out.push((self.address, self.node, text.into_bytes()));
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.below(100) < percent
    }

    fn tag(&self, serial: u32) -> String {
        format!("t{serial}x{}", self.address.port() as u32 + u32::from(self.address.is_ipv4()))
    }

    /// A session timer to ask for or to grant, and whether the phone itself refreshes.
    fn timer(&mut self) -> Option<(u32, bool)> {
        let s = [12, 12, 20, 40, 90][self.random.below(5) as usize];
        self.chance(30).then(|| (s, self.chance(40)))
    }

    fn contact(&self) -> String {
        let update = if self.updates { ", UPDATE" } else { "" };
        format!(
            "Contact: <sip:{}>\r\nAllow: INVITE, ACK, BYE, CANCEL, PRACK{update}\r\n",
            self.address
        )
    }

    fn branch(&mut self) -> String {
        self.serial += 1;
        format!("z9hG4bKp{}n{}", self.address.to_string().replace([':', '.'], "-"), self.serial)
    }

    /// A branch for an ACK.
    fn branch_of(&self, client: usize) -> String {
        format!("z9hG4bKack{}n{client}x{}", self.serial, self.address.port())
    }

    fn new_media(&mut self, serial: u32) -> SocketAddr {
        self.media += 1;
        let address = SocketAddr::new(self.address.ip(), 30_000 + 2 * self.media);
        self.media_of.insert(address, serial);
        address
    }

    fn leg(&mut self, serial: u32, caller: bool) -> Leg {
        Leg {
            serial,
            caller,
            call_id: String::new(),
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            cseq: 0,
            phase: Phase::Early,
            media: self.new_media(serial),
            remote_media: None,
            version: 0,
            formats: ["0 8", "8", "0"][self.random.below(3) as usize],
            agenda: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            first: String::new(),
            talk_until: Instant::NEVER,
            sequence: 0,
            mute: false,
            late: false,
            reliable: self.chance(50),
            rseq: (String::new(), 0),
            unconfirmed: None,
            agreed: false,
            timer: None,
        }
    }

    /// Takes an INVITE: the other side of a call begins.
    fn called(&mut self, now: Instant, invite: Text) -> Leg {
        // Whoever is called for a transfer is told whose call it is.
        let user = match invite.get("Subject").strip_prefix('u') {
            Some(serial) => serial,
            None => invite.uri_of("From").strip_prefix("sip:u").unwrap_or("0"),
        };
        let serial = user.split('@').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let mut leg = self.leg(serial, false);
        leg.call_id = invite.get("Call-ID").to_owned();
        leg.local = format!("{};tag={}", invite.get("To"), self.tag(serial));
        leg.remote = invite.get("From").to_owned();
        leg.target = invite.uri_of("Contact").to_owned();
        leg.remote_media = invite.media();
        leg.talk_until = now + Duration::from_secs(90);
        leg.late = invite.body().is_empty();
        let (number, method) = cseq(&invite);
        leg.servers.push(transaction::Server {
            method,
            branch: branch(&invite),
            cseq: number,
            repeat: Repeat::kept(String::new(), Instant::NEVER),
            status: 0,
            request: invite,
        });
        let plan = plan::called(&mut self.random, self.hostile);
        leg.schedule(now, plan);
        leg
    }

    /// A request as it stands within a leg's dialog.
    fn request_in(&self, leg: &Leg, method: &str, cseq: u32, branch: &str, body: &str) -> String {
        let mut head = format!("{method} {} SIP/2.0\r\n", leg.target);
        let address = self.address;
        let _ = write!(
            head,
            "Via: SIP/2.0/UDP {address};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n{}",
            leg.local,
            leg.remote,
            leg.call_id,
            self.contact()
        );
        wire::finish(head, body)
    }

    /// The CANCEL of an INVITE.
    fn cancel_of(&self, invite: &str) -> String {
        let text = Text { raw: invite.to_owned() };
        if text.method() != Some("INVITE") {
            return String::new();
        }
        let (number, _) = cseq(&text);
        let mut head = format!("CANCEL {} SIP/2.0\r\nVia: {}\r\n", text.uri(), text.get("Via"));
        for name in ["Max-Forwards", "From", "To", "Call-ID"] {
            let _ = write!(head, "{name}: {}\r\n", text.get(name));
        }
        let _ = write!(head, "CSeq: {number} CANCEL\r\n");
        wire::finish(head, "")
    }

    /// The ACK of a failure.
    fn ack_of(&self, invite: &str, response: &Text) -> String {
        let text = Text { raw: invite.to_owned() };
        let (number, _) = cseq(&text);
        let mut head = format!("ACK {} SIP/2.0\r\nVia: {}\r\n", text.uri(), text.get("Via"));
        let _ = write!(
            head,
            "Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} ACK\r\n",
            text.get("From"),
            response.get("To"),
            text.get("Call-ID")
        );
        wire::finish(head, "")
    }

    /// A BYE of a dialog that never was.
    fn wrong_bye(&mut self, leg: &Leg) {
        let branch = self.branch();
        let text = self.request_in(leg, "BYE", leg.cseq + 7, &branch, "");
        let text = match self.random.below(3) {
            0 => text.replace(&format!("From: {}", leg.local), "From: <sip:x@y>;tag=wrong"),
            1 => match leg.remote.split_once(";tag=") {
                Some((_, tag)) if !tag.is_empty() => {
                    let last = if tag.ends_with('0') { "1" } else { "0" };
                    let guessed = format!("{}{last}", &tag[..tag.len() - 1]);
                    text.replace(tag, &guessed).replace("z9hG4bKp", "z9hG4bKwrong")
                }
                _ => text,
            },
            _ => text.replace(&leg.call_id, "another-call"),
        };
        self.send(text);
    }
}

/// The direction that answers an offer.
fn answer(offer: &str) -> &'static str {
    match () {
        () if offer.contains("a=sendonly") => "recvonly",
        () if offer.contains("a=recvonly") => "sendonly",
        () if offer.contains("a=inactive") => "inactive",
        () => "sendrecv",
    }
}
