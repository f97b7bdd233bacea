//! Requests of a phone's outside calls, and subscriptions: sent until they are answered, answered once, and
//! notified of for a while.

use super::Line;
use super::transaction::{Repeat, branch, cseq};
use crate::Text;
use crate::wire;
use base::Instant;
use std::fmt::Write;
use std::time::Duration;

const LINGER: Duration = Duration::from_secs(32);

/// One request outside calls as one phone sees it, and the dialog it may have begun.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) call_id: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    /// What it has sent and not heard the answer of, by branch.
    sent: Vec<(String, Repeat)>,
    /// What it has answered, by branch and method: the same again for the same.
    given: Vec<(String, Repeat)>,
    /// The subscriber: it ends the subscription then, or the notifier: it says so.
    next: Instant,
    subscribes: bool,
    is_over: bool,
}

impl Errand {
    /// Sends a request outside calls.
    pub(super) fn begin(now: Instant, serial: u32, number: &str, line: &mut Line) -> Errand {
        let method = ["MESSAGE", "PUBLISH", "SUBSCRIBE", "SUBSCRIBE", "OPTIONS", "NOTIFY"]
            [line.random.below(6) as usize];
        let mut errand = Errand {
            call_id: format!("errand{serial}@{}", line.address.ip()),
            local: format!("<sip:u{serial}@{}>;tag={}", line.address, line.tag(serial)),
            remote: format!("<sip:{number}@{}>", line.node),
            target: format!("sip:{number}@{}", line.node),
            cseq: 0,
            sent: Vec::new(),
            given: Vec::new(),
            next: Instant::NEVER,
            subscribes: method == "SUBSCRIBE",
            is_over: method != "SUBSCRIBE",
        };
        let expires = [0, 5, 30, 3_600][line.random.below(4) as usize];
        errand.request(now, method, expires, line);
        if errand.subscribes {
            let after = Duration::from_millis(u64::from(line.random.below(20_000)));
            errand.next = now + after;
        }
        errand
    }

    /// Somebody else's request outside calls.
    pub(super) fn begun(now: Instant, text: Text, line: &mut Line) -> Errand {
        let subscribes = text.method() == Some("SUBSCRIBE");
        let mut errand = Errand {
            call_id: text.get("Call-ID").to_owned(),
            local: format!("{};tag={}", text.get("To"), line.tag(0)),
            remote: text.get("From").to_owned(),
            target: text.uri_of("Contact").to_owned(),
            cseq: 0,
            sent: Vec::new(),
            given: Vec::new(),
            next: if subscribes { now + Duration::from_millis(30) } else { Instant::NEVER },
            subscribes: false,
            is_over: !subscribes,
        };
        errand.requested(now, &text, line);
        errand
    }

    pub(super) fn deadline(&self) -> Instant {
        let repeats = self.sent.iter().chain(&self.given).map(|(_, repeat)| repeat.deadline());
        repeats.min().unwrap_or(Instant::NEVER).min(self.next)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.deadline() == Instant::NEVER
    }

    pub(super) fn calm(&mut self, now: Instant) {
        if self.next != Instant::NEVER {
            (self.next, self.is_over) = (now, false);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, line: &mut Line) {
        for (_, repeat) in self.sent.iter_mut().chain(&mut self.given) {
            repeat.again(now).into_iter().for_each(|text| line.send(text));
        }
        self.sent.retain(|(_, repeat)| !repeat.is_over(now));
        self.given.retain(|(_, repeat)| !repeat.is_over(now));
        if now < self.next {
            return;
        }
        self.next = Instant::NEVER;
        if self.is_over || !self.remote.contains(";tag=") {
            return;
        }
        match self.subscribes {
            true => {
                self.is_over = true;
                self.request(now, "SUBSCRIBE", 0, line);
            }
            false => {
                let ends = line.chance(30);
                self.request(now, "NOTIFY", u32::from(!ends), line);
                self.is_over = ends;
                if !ends {
                    self.next = now + Duration::from_millis(u64::from(line.random.below(9_000)));
                }
            }
        }
    }

    fn request(&mut self, now: Instant, method: &str, left: u32, line: &mut Line) {
        self.cseq += 1;
        let branch = line.branch();
        let mut head = format!("{method} {} SIP/2.0\r\n", self.target);
        let (address, number) = (line.address, self.cseq);
        let _ = write!(
            head,
            "Via: SIP/2.0/UDP {address};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n{}",
            self.local,
            self.remote,
            self.call_id,
            line.contact()
        );
        let about = match method {
            "SUBSCRIBE" => format!("Event: presence\r\nExpires: {left}\r\n"),
            "PUBLISH" => "Event: presence\r\n".to_owned(),
            "NOTIFY" if left == 0 => {
                "Event: presence\r\nSubscription-State: terminated\r\n".to_owned()
            }
            "NOTIFY" => "Event: presence\r\nSubscription-State: active;expires=30\r\n".to_owned(),
            _ => String::new(),
        };
        let text = wire::finish(head + &about, "");
        line.send(text.clone());
        self.sent.push((branch, Repeat::start(text, now, true)));
    }

    pub(super) fn requested(&mut self, now: Instant, text: &Text, line: &mut Line) {
        let (_, method) = cseq(text);
        let key = format!("{} {method}", branch(text));
        if let Some((_, given)) = self.given.iter().find(|(known, _)| *known == key) {
            return line.send(given.text.clone());
        }
        if line.chance(8) {
            return; // It is not heard this time.
        }
        if method == "SUBSCRIBE" && text.get("Expires") == "0" {
            self.next = now;
        }
        if method == "NOTIFY" && text.get("Subscription-State").starts_with("terminated") {
            self.is_over = true;
        }
        let status = [200, 200, 200, 200, 202, 404, 481, 503][line.random.below(8) as usize];
        let expires = if method == "SUBSCRIBE" && status < 300 { "Expires: 20\r\n" } else { "" };
        if method == "SUBSCRIBE" && status >= 300 {
            self.is_over = true;
        }
        let headers = format!("{}{expires}", line.contact());
        let reply = text.reply(status, &line.tag(0), &headers, "");
        line.send(reply.clone());
        self.given.push((key, Repeat::kept(reply, now + LINGER)));
    }

    pub(super) fn responded(&mut self, now: Instant, text: &Text) {
        let (branch, status) = (branch(text), text.status().unwrap_or(0));
        if status < 200 {
            return;
        }
        if let Some((_, repeat)) = self.sent.iter_mut().find(|(known, _)| *known == branch) {
            repeat.stop(now);
        }
        if self.subscribes && self.cseq == 1 && status < 300 {
            self.remote = text.get("To").to_owned();
            self.target = text.uri_of("Contact").to_owned();
        }
        if self.subscribes && status >= 300 {
            self.is_over = true;
        }
    }
}
