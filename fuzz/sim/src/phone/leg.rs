//! One call as one phone sees it: a dialog, its transactions, what it is going to do next.

use super::plan::{self, Act, Plan};
use super::transaction::{Client, Progress, Repeat, Server, branch, cseq};
use super::{Line, answer};
use crate::Text;
use crate::wire;
use base::Instant;
use std::net::SocketAddr;
use std::time::Duration;

const LINGER: Duration = Duration::from_secs(32);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Early,
    Up,
    Over,
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// Number of the call in this world, the same on both sides.
    pub(super) serial: u32,
    pub(super) caller: bool,
    pub(super) call_id: String,
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) target: String,
    pub(super) cseq: u32,
    pub(super) phase: Phase,
    pub(super) media: SocketAddr,
    pub(super) remote_media: Option<SocketAddr>,
    pub(super) version: u32,
    pub(super) formats: &'static str,
    pub(super) agenda: Vec<(Instant, Act)>,
    pub(super) clients: Vec<Client>,
    pub(super) servers: Vec<Server>,
    /// The first thing it sent: INVITE, or the last response to it.
    pub(super) first: String,
    pub(super) talk_until: Instant,
    pub(super) sequence: u16,
    /// Never acknowledges a 2xx.
    pub(super) mute: bool,
    /// The first INVITE had no offer.
    pub(super) late: bool,
    /// It can do 100rel (RFC 3262), and likes to.
    pub(super) reliable: bool,
    /// The early dialog and the number of the last reliable response, its own or the peer's.
    pub(super) rseq: (String, u32),
    /// The reliable response that no PRACK has confirmed, and whether it has a description.
    pub(super) unconfirmed: Option<(u32, bool)>,
    /// The first offer has its answer, reliably.
    pub(super) agreed: bool,
    /// Its session timer, in seconds, and whether it refreshes.
    pub(super) timer: Option<(u32, bool)>,
}

impl Leg {
    pub(super) fn schedule(&mut self, now: Instant, plan: Plan) {
        let at = |ms: u32| now + Duration::from_millis(u64::from(ms));
        self.agenda.extend(plan.into_iter().map(|(ms, act)| (at(ms), act)));
    }

    pub(super) fn deadline(&self) -> Instant {
        let acts = self.agenda.iter().map(|a| a.0);
        let clients = self.clients.iter().map(|c| c.repeat.deadline());
        let servers = self.servers.iter().map(|s| s.repeat.deadline());
        acts.chain(clients).chain(servers).min().unwrap_or(Instant::NEVER)
    }

    /// Everything that is due.
    pub(super) fn tick(&mut self, now: Instant, line: &mut Line) {
        let (due, later) = core::mem::take(&mut self.agenda).into_iter().partition(|a| a.0 <= now);
        self.agenda = later;
        let due: Vec<(Instant, Act)> = due;
        due.into_iter().for_each(|(_, act)| self.act(now, act, line));
        for repeat in self.clients.iter_mut().map(|c| &mut c.repeat) {
            repeat.again(now).into_iter().for_each(|text| line.send(text));
        }
        for repeat in self.servers.iter_mut().map(|s| &mut s.repeat) {
            repeat.again(now).into_iter().for_each(|text| line.send(text));
        }
        let unconfirmed =
            |s: &Server| s.method == "INVITE" && s.status < 200 && s.repeat.is_over(now);
        while let Some(i) = self.servers.iter().position(unconfirmed) {
            // RFC 3262 3: nobody confirmed it.
            self.phase = Phase::Over;
            self.respond(now, i, 504, "", line);
        }
        let mut lost = false;
        for client in self.clients.iter().filter(|c| c.repeat.is_over(now)) {
            lost |= client.progress != Progress::Done && client.method == "INVITE";
        }
        for server in self.servers.iter().filter(|s| s.repeat.is_over(now)) {
            lost |= server.method == "INVITE"
                && server.repeat.deadline() < Instant::NEVER
                && server.status / 100 == 2
                && !server.request.raw.is_empty();
        }
        self.clients.retain(|c| !c.repeat.is_over(now));
        self.servers.retain(|s| !s.repeat.is_over(now));
        if lost {
            match self.phase {
                Phase::Up => self.hang_up(now, line),
                Phase::Early | Phase::Over => self.phase = Phase::Over,
            }
        }
    }

    fn act(&mut self, now: Instant, act: Act, line: &mut Line) {
        match act {
            Act::Progress(status, sdp) => self.progress(now, status, sdp, line),
            Act::Answer(status) => self.answer(now, status, line),
            Act::SecondAnswer => self.stray_answer(200, "fork", line),
            Act::Cancel => self.cancel(now, line),
            Act::StrayCancel => line.send(line.cancel_of(&self.first)),
            Act::Bye if self.phase == Phase::Up || self.caller => self.hang_up(now, line),
            Act::Bye => {}
            Act::WrongBye => line.wrong_bye(self),
            Act::Reinvite(direction, moves) => self.reinvite(now, Some((direction, moves)), line),
            Act::ReinviteWithoutOffer => self.reinvite(now, None, line),
            Act::Update(direction) => self.update(now, direction, line),
            Act::Other(method) if self.phase == Phase::Up => {
                self.request(now, method, "", line);
            }
            Act::Other(_) => {}
            Act::Refer(number) if self.phase == Phase::Up => {
                let quiet = if line.chance(30) { "Refer-Sub: false\r\n" } else { "" };
                let (serial, node) = (self.serial, line.node);
                let headers =
                    format!("Refer-To: <sip:{number}@{node}>\r\nSubject: u{serial}\r\n{quiet}");
                self.request_with(now, "REFER", &headers, "", line);
            }
            Act::Refer(_) => {}
            Act::Refresh => {
                if !line.chance(15) {
                    self.update(now, None, line);
                    self.refresh_later(now);
                }
            }
            Act::AnswerReinvite(branch, status) => self.answer_reinvite(now, &branch, status, line),
            Act::Replay => line.send(self.first.clone()),
            Act::LateResponse(status) => self.stray_answer(status, "", line),
            Act::Talk => self.talk(now, line),
        }
    }

    // ---- as the called side ----

    fn first_server(&self) -> Option<usize> {
        self.servers
            .iter()
            .position(|s| s.method == "INVITE" && !s.request.get("To").contains(";tag="))
    }

    fn progress(&mut self, now: Instant, status: u16, sdp: bool, line: &mut Line) {
        let Some(i) = self.first_server().filter(|i| self.servers[*i].status < 200) else { return };
        if self.unconfirmed.is_some() {
            return; // One at a time.
        }
        let sdp = sdp && !self.agreed;
        let supported = self.servers[i].request.get("Supported").contains("100rel");
        let body = if sdp { self.description("sendrecv") } else { String::new() };
        match supported && self.reliable && status > 100 {
            true => self.respond_reliably(now, i, status, &body, line),
            // An offer must not be made where it may be lost.
            false if self.late => self.respond(now, i, status, "", line),
            false => self.respond(now, i, status, &body, line),
        }
        if sdp {
            self.schedule(now, vec![(20, Act::Talk)]);
        }
    }

    fn answer(&mut self, now: Instant, status: u16, line: &mut Line) {
        let Some(i) = self.first_server() else { return };
        if self.servers[i].status >= 200 {
            if !line.hostile {
                return;
            }
            return self.stray_answer(status, "", line);
        }
        if status != 200 {
            self.phase = Phase::Over;
            return self.respond(now, i, status, "", line);
        }
        if self.unconfirmed.is_some_and(|(_, described)| described) || self.offers() {
            // RFC 3262 3: not before the PRACK.
            return self.schedule(now, vec![(200, Act::Answer(200))]);
        }
        self.phase = Phase::Up;
        self.unconfirmed = None;
        self.timer = line.timer();
        self.refresh_later(now);
        if self.agreed {
            self.respond(now, i, 200, "", line);
            let plan = plan::conversation(&mut line.random, line.hostile);
            return self.schedule(now, plan);
        }
        if line.chance(10) {
            self.formats = "8";
        }
        let body = self.description("sendrecv");
        self.respond(now, i, 200, &body, line);
        let plan = plan::conversation(&mut line.random, line.hostile);
        self.schedule(now, plan);
    }

    /// A response outside any transaction: a second 200, a failure after the end.
    fn stray_answer(&mut self, status: u16, tag: &str, line: &mut Line) {
        let Some(i) = self.first_server().filter(|i| !self.servers[*i].request.raw.is_empty())
        else {
            return;
        };
        let body = if status == 200 { self.description("sendrecv") } else { String::new() };
        let tag = if tag.is_empty() { line.tag(self.serial) } else { tag.to_owned() };
        let text = self.servers[i].request.reply(status, &tag, &line.contact(), &body);
        line.send(text);
    }

    /// Where it is to refresh, it does so at half the interval; not every phone remembers.
    fn refresh_later(&mut self, now: Instant) {
        if let Some((s, true)) = self.timer {
            self.schedule(now, vec![(s * 500, Act::Refresh)]);
        }
    }

    /// Sends a reliable provisional response and repeats it (RFC 3262 3).
    fn respond_reliably(
        &mut self,
        now: Instant,
        i: usize,
        status: u16,
        body: &str,
        line: &mut Line,
    ) {
        self.rseq.1 =
            if self.rseq.1 == 0 { 1 + line.random.below(1_000_000) } else { self.rseq.1 + 1 };
        let headers = format!("{}Require: 100rel\r\nRSeq: {}\r\n", line.contact(), self.rseq.1);
        let server = &mut self.servers[i];
        let text = server.request.reply(status, &line.tag(self.serial), &headers, body);
        server.status = status;
        server.repeat = Repeat::start(text.clone(), now, false);
        self.unconfirmed = Some((self.rseq.1, !body.is_empty()));
        line.send(text);
    }

    /// A PRACK arrived as the `i`th request.
    fn pracked(&mut self, now: Instant, i: usize, line: &mut Line) {
        let request = &self.servers[i].request;
        let rack = request.get("RAck").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let body = request.body().to_owned();
        let media = request.media();
        let Some((_, described)) = self.unconfirmed.filter(|(rseq, _)| *rseq == rack) else {
            return self.respond(now, i, 481, "", line);
        };
        self.unconfirmed = None;
        if let Some(invite) = self.first_server().filter(|s| self.servers[*s].status < 200) {
            self.servers[invite].repeat.stop(Instant::NEVER);
        }
        self.remote_media = media.or(self.remote_media);
        let answers = described && self.late && !self.agreed;
        self.agreed |= described;
        let answer = match body.is_empty() || answers {
            true => String::new(),
            false => self.description(answer(&body)),
        };
        self.respond(now, i, 200, &answer, line);
    }

    /// An UPDATE arrived as the `i`th request.
    fn updated(&mut self, now: Instant, i: usize, line: &mut Line) {
        let body = self.servers[i].request.body().to_owned();
        if body.is_empty() || self.phase == Phase::Over {
            let status = if self.phase == Phase::Over { 481 } else { 200 };
            return self.respond(now, i, status, "", line);
        }
        if self.offers() {
            return self.respond(now, i, 491, "", line);
        }
        self.remote_media = self.servers[i].request.media().or(self.remote_media);
        let status = [200, 200, 200, 488][line.random.below(4) as usize];
        let body = if status == 200 { self.description(answer(&body)) } else { String::new() };
        self.respond(now, i, status, &body, line);
    }

    /// Whether an offer of its own has no answer yet.
    fn offers(&self) -> bool {
        self.clients.iter().any(|c| c.offers && c.progress != Progress::Done)
    }

    /// Sends a response in the `i`th server transaction.
    fn respond(&mut self, now: Instant, i: usize, status: u16, body: &str, line: &mut Line) {
        let tag = if status == 100 { String::new() } else { line.tag(self.serial) };
        let server = &mut self.servers[i];
        let timer =
            self.timer.filter(|_| status == 200 && matches!(&*server.method, "INVITE" | "UPDATE"));
        let timer = timer.map_or(String::new(), |(s, us)| {
            let who = if us { "uas" } else { "uac" };
            format!("Session-Expires: {s};refresher={who}\r\n")
        });
        let text = server.request.reply(status, &tag, &format!("{}{timer}", line.contact()), body);
        server.status = status;
        server.repeat = match (server.method.as_str(), status) {
            ("INVITE", 0..=199) => Repeat::kept(text.clone(), Instant::NEVER),
            ("INVITE", _) => Repeat::start(text.clone(), now, true),
            _ => Repeat::kept(text.clone(), now + LINGER),
        };
        line.send(text);
    }

    fn answer_reinvite(&mut self, now: Instant, branch: &str, status: u16, line: &mut Line) {
        let found = self.servers.iter().position(|s| s.branch == branch && s.method == "INVITE");
        let Some(i) = found.filter(|i| self.servers[*i].status < 200) else { return };
        let direction = answer(self.servers[i].request.body());
        let body = if status == 200 { self.description(direction) } else { String::new() };
        self.respond(now, i, status, &body, line);
    }

    /// A request of the peer's.
    pub(super) fn requested(&mut self, now: Instant, text: Text, line: &mut Line) {
        let (number, method) = cseq(&text);
        let branch = branch(&text);
        if method == "ACK" {
            return self.acknowledged(now, number, &text);
        }
        let known = self.servers.iter().position(|s| s.branch == branch && s.method == method);
        if let Some(i) = known {
            let server = &self.servers[i];
            if server.status / 100 != 2 || method != "INVITE" {
                line.send(server.repeat.text.clone());
            }
            return;
        }
        let empty = Repeat::kept(String::new(), Instant::NEVER);
        let server =
            Server { method, branch, cseq: number, repeat: empty, status: 0, request: text };
        self.servers.push(server);
        let i = self.servers.len() - 1;
        match self.servers[i].method.as_str() {
            "INVITE" => self.reinvited(now, i, line),
            "CANCEL" => self.cancelled(now, i, line),
            "BYE" => self.ended(now, i, line),
            "PRACK" => self.pracked(now, i, line),
            "UPDATE" => self.updated(now, i, line),
            _ => self.respond(now, i, 200, "", line),
        }
    }

    fn acknowledged(&mut self, now: Instant, number: u32, text: &Text) {
        let found = self.servers.iter_mut().find(|s| s.method == "INVITE" && s.cseq == number);
        if let Some(server) = found {
            server.repeat.stop(now + LINGER);
            server.request.raw.clear();
            self.remote_media = text.media().or(self.remote_media);
        }
    }

    fn reinvited(&mut self, now: Instant, i: usize, line: &mut Line) {
        let open = |s: &Server| s.method == "INVITE" && s.status < 200;
        let ours =
            self.clients.iter().any(|c| c.method == "INVITE" && c.progress != Progress::Done);
        let theirs = self.servers[..i].iter().any(open);
        let refusal = match (self.phase, ours, theirs) {
            (Phase::Over, ..) => 481,
            (_, true, _) => 491,
            (_, _, true) => 500,
            _ => 0,
        };
        if refusal != 0 {
            return self.respond(now, i, refusal, "", line);
        }
        self.remote_media = self.servers[i].request.media().or(self.remote_media);
        self.respond(now, i, 100, "", line);
        let status =
            [200, 200, 200, 200, 200, 200, 488, 491, 503, 481][line.random.below(10) as usize];
        let delay = line.random.below(1_500);
        let branch = self.servers[i].branch.clone();
        self.schedule(now, vec![(delay, Act::AnswerReinvite(branch, status))]);
    }

    fn cancelled(&mut self, now: Instant, i: usize, line: &mut Line) {
        self.respond(now, i, 200, "", line);
        let branch = self.servers[i].branch.clone();
        let found = self.servers.iter().position(|s| s.branch == branch && s.method == "INVITE");
        if let Some(invite) = found.filter(|i| self.servers[*i].status < 200) {
            if self.phase == Phase::Early {
                self.phase = Phase::Over;
            }
            self.respond(now, invite, 487, "", line);
        }
    }

    fn ended(&mut self, now: Instant, i: usize, line: &mut Line) {
        self.respond(now, i, 200, "", line);
        self.over(now, line);
        let open = |s: &Server| s.method == "INVITE" && s.status < 200;
        while let Some(invite) = self.servers.iter().position(open) {
            self.respond(now, invite, 487, "", line);
        }
    }

    // ---- as the calling side ----

    fn cancel(&mut self, now: Instant, line: &mut Line) {
        let open = |c: &&mut Client| c.method == "INVITE" && c.progress != Progress::Done;
        let Some(client) = self.clients.iter_mut().find(open) else { return };
        client.cancel = true;
        if client.progress == Progress::Proceeding {
            self.send_cancel(now, line);
        }
    }

    fn send_cancel(&mut self, now: Instant, line: &mut Line) {
        let Some(invite) = self.clients.iter_mut().find(|c| c.cancel) else { return };
        invite.cancel = false;
        // RFC 3261 9.1: without a final response, 64 × T1 later nobody waits any more.
        invite.repeat.stop(now + LINGER);
        let text = line.cancel_of(&invite.repeat.text);
        let (branch, cseq) = (invite.branch.clone(), invite.cseq);
        line.send(text.clone());
        self.clients.push(Client {
            method: "CANCEL",
            branch,
            cseq,
            progress: Progress::Calling,
            repeat: Repeat::start(text, now, true),
            ack: None,
            cancel: false,
            offers: false,
        });
    }

    fn hang_up(&mut self, now: Instant, line: &mut Line) {
        if self.phase == Phase::Over || !self.remote.contains(";tag=") {
            return;
        }
        self.request(now, "BYE", "", line);
        self.over(now, line);
    }

    fn over(&mut self, now: Instant, line: &mut Line) {
        self.phase = Phase::Over;
        // Some phones go on talking for a while.
        let linger = u64::from(line.random.below(4_000));
        self.talk_until = self.talk_until.min(now + Duration::from_millis(linger));
    }

    fn reinvite(&mut self, now: Instant, offer: Option<(&'static str, bool)>, line: &mut Line) {
        let busy =
            self.clients.iter().any(|c| c.method == "INVITE" && c.progress != Progress::Done)
                || self.servers.iter().any(|s| s.method == "INVITE" && s.status < 200);
        // A rude phone does not care about what is pending (RFC 3261 14.1).
        if self.phase != Phase::Up || (busy && !line.hostile) {
            return;
        }
        let body = offer.map(|(direction, moves)| {
            if moves {
                self.media = line.new_media(self.serial);
            }
            self.description(direction)
        });
        self.request(now, "INVITE", &body.unwrap_or_default(), line);
    }

    fn update(&mut self, now: Instant, direction: Option<&'static str>, line: &mut Line) {
        let ready = match self.phase {
            Phase::Up => true,
            Phase::Early => self.agreed && self.remote.contains(";tag="),
            Phase::Over => false,
        };
        let invited = self.servers.iter().any(|s| s.method == "INVITE" && s.status < 200);
        let busy = self.offers() || (self.phase == Phase::Up && invited);
        if !ready || (busy && !line.hostile) {
            return;
        }
        let body = direction.map_or(String::new(), |direction| self.description(direction));
        self.request(now, "UPDATE", &body, line);
    }

    /// Confirms a reliable response, once, and in order (RFC 3262 4).
    fn confirm(&mut self, now: Instant, text: &Text, line: &mut Line) {
        let Ok(rseq) = text.get("RSeq").parse::<u32>() else { return };
        let tag = text.tag("To").to_owned();
        if tag == self.rseq.0 && rseq != self.rseq.1 + 1 {
            return;
        }
        self.rseq = (tag, rseq);
        let described = !text.body().is_empty();
        let body = match (self.late, described) {
            (true, true) => self.description(answer(text.body())),
            (false, true) if line.chance(20) => self.description("sendrecv"),
            _ => String::new(),
        };
        self.agreed |= described;
        let rack = format!("RAck: {rseq} 1 INVITE\r\n");
        self.request_with(now, "PRACK", &rack, &body, line);
        if self.late
            && let Some(prack) = self.clients.last_mut()
        {
            prack.offers = false;
        }
    }

    /// Asks the node to do something with the other side.
    pub(super) fn refer(&mut self, now: Instant, headers: &str, line: &mut Line) {
        if self.phase == Phase::Up {
            self.request_with(now, "REFER", headers, "", line);
        }
    }

    /// Sends a request within the dialog.
    fn request(&mut self, now: Instant, method: &'static str, body: &str, line: &mut Line) {
        self.request_with(now, method, "", body, line);
    }

    fn request_with(
        &mut self,
        now: Instant,
        method: &'static str,
        headers: &str,
        body: &str,
        line: &mut Line,
    ) {
        self.cseq += 1;
        let branch = line.branch();
        let text = line.request_in(self, method, self.cseq, &branch, body);
        let text = text.replacen("\r\nContact:", &format!("\r\n{headers}Contact:"), 1);
        line.send(text.clone());
        self.clients.push(Client {
            method,
            branch,
            cseq: self.cseq,
            progress: Progress::Calling,
            repeat: Repeat::start(text, now, method != "INVITE"),
            ack: None,
            cancel: false,
            offers: !body.is_empty(),
        });
    }

    /// A response to a request of ours.
    pub(super) fn responded(&mut self, now: Instant, text: &Text, line: &mut Line) {
        let (branch, (_, method), status) = (branch(text), cseq(text), text.status().unwrap_or(0));
        let found = self.clients.iter().position(|c| c.branch == branch && c.method == method);
        let Some(i) = found else { return };
        let client = &mut self.clients[i];
        if client.method != "INVITE" {
            if status >= 200 {
                client.progress = Progress::Done;
                client.repeat.stop(now);
                if client.offers && status < 300 {
                    self.remote_media = text.media().or(self.remote_media);
                }
            }
            return;
        }
        if status >= 200 {
            return self.concluded(now, i, status, text, line);
        }
        if client.progress == Progress::Calling {
            client.progress = Progress::Proceeding;
            client.repeat.stop(Instant::NEVER);
        }
        if client.cancel {
            self.send_cancel(now, line);
        }
        if self.phase == Phase::Early && status > 100 {
            self.remote = text.get("To").to_owned();
            self.target = text.uri_of("Contact").to_owned();
            if let Some(media) = text.media() {
                self.remote_media = Some(media);
                self.schedule(now, vec![(10, Act::Talk)]);
            }
            self.confirm(now, text, line);
        }
    }

    fn concluded(&mut self, now: Instant, i: usize, status: u16, text: &Text, line: &mut Line) {
        if self.clients[i].progress == Progress::Done {
            // Retransmitted: so is the ACK.
            return self.clients[i].ack.clone().into_iter().for_each(|ack| line.send(ack));
        }
        self.clients[i].progress = Progress::Done;
        self.clients[i].repeat.stop(now + LINGER);
        let is_first = self.clients[i].cseq == 1 && self.caller;
        if status >= 300 {
            let ack = line.ack_of(&self.clients[i].repeat.text, text);
            line.send(ack.clone());
            self.clients[i].ack = Some(ack);
            match (is_first, status) {
                (true, _) => self.phase = Phase::Over,
                (false, 408 | 481) => self.hang_up(now, line),
                (false, 491) if line.chance(50) => {
                    let wait = 2_100 + line.random.below(1_900);
                    self.schedule(now, vec![(wait, Act::Reinvite("sendrecv", false))]);
                }
                _ => {}
            }
            return;
        }
        self.accepted(now, i, is_first, text, line);
    }

    fn accepted(&mut self, now: Instant, i: usize, is_first: bool, text: &Text, line: &mut Line) {
        self.remote_media = text.media().or(self.remote_media);
        self.target = text.uri_of("Contact").to_owned();
        if is_first {
            self.remote = text.get("To").to_owned();
        }
        let offered = !Text { raw: self.clients[i].repeat.text.clone() }.body().is_empty();
        let body = if offered { String::new() } else { self.description(answer(text.body())) };
        let ack = line.request_in(self, "ACK", self.clients[i].cseq, &line.branch_of(i), &body);
        if !self.mute {
            line.send(ack.clone());
            self.clients[i].ack = Some(ack);
        }
        if is_first {
            let gave_up = self.phase == Phase::Over
                || self.clients.iter().any(|c| c.method == "CANCEL" || c.cancel);
            self.phase = Phase::Up;
            let granted = text.get("Session-Expires").to_owned();
            let seconds = granted.split(';').next().and_then(|s| s.parse().ok());
            self.timer = seconds.map(|s| (s, granted.contains("refresher=uac")));
            self.refresh_later(now);
            if gave_up {
                return self.hang_up(now, line);
            }
            let plan = plan::conversation(&mut line.random, line.hostile);
            self.schedule(now, plan);
        }
    }

    // ---- media ----

    fn description(&mut self, direction: &str) -> String {
        self.version += 1;
        wire::sdp(self.media, self.version, self.formats, direction)
    }

    fn talk(&mut self, now: Instant, line: &mut Line) {
        self.agenda.retain(|a| a.1 != Act::Talk);
        if now >= self.talk_until {
            return;
        }
        if let Some(to) = self.remote_media {
            let ssrc = self.serial * 2 + u32::from(self.caller);
            self.sequence = self.sequence.wrapping_add(1);
            let source = self.media;
            line.out.push((source, to, wire::rtp(self.sequence, ssrc, b't')));
            if line.chance(20) {
                let rtcp = |a: SocketAddr| SocketAddr::new(a.ip(), a.port() + 1);
                line.out.push((rtcp(source), rtcp(to), wire::rtcp(ssrc)));
            }
        }
        self.schedule(now, vec![(1_000, Act::Talk)]);
    }
}
