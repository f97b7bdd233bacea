//! Session timers (RFC 4028): how long a dialog lives without a refresh, and who refreshes it.
//!
//! One for each leg; the other leg's is its own business. Reads and writes headers and counts time;
//! what a refresh looks like is for `call::session` to say.

use crate::message::{Message, Name, Print};
use base::{Instant, plain};
use std::time::Duration;

/// The least Min-SE may say (4).
pub const LEAST_MIN_SE_S: u32 = 90;

/// The shortest interval we keep up with, whatever a peer says.
const SHORTEST_S: u32 = 10;

/// The longest interval: a day.
pub const LONGEST_S: u32 = 86_400;

/// Who sends refreshes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    Us,
    /// The peer does.
    Peer,
}

/// Whether a trunk's calls have session timers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never: the extension is not known on this trunk.
    Off,
    /// When the peer asks.
    Serve,
    /// Always: where the peer does not know them, we refresh.
    Ask,
}

/// A trunk's terms.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether there are timers at all.
    pub mode: Mode,
    /// The interval we ask for, and the longest we agree to.
    pub expires_s: u32,
    /// The shortest interval we agree to.
    pub min_se_s: u32,
    /// Who refreshes, where the choice is ours.
    pub refresher: Refresher,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            mode: Mode::Serve,
            expires_s: 1800,
            min_se_s: LEAST_MIN_SE_S,
            refresher: Refresher::Peer,
        }
    }
}

/// The timer of one dialog.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SessionTimer {
    /// The interval agreed upon; 0 when there is none.
    pub interval_s: u32,
    /// The largest Min-SE the peer has asked for; 0 when it has not.
    pub min_se_s: u32,
    /// Who refreshes.
    pub refresher: Refresher,
    /// Our next refresh is due.
    pub refresh_at: Instant,
    /// The session is over.
    pub ends_at: Instant,
}

impl Default for SessionTimer {
    fn default() -> Self {
        SessionTimer {
            interval_s: 0,
            min_se_s: 0,
            refresher: Refresher::Peer,
            refresh_at: Instant::NEVER,
            ends_at: Instant::NEVER,
        }
    }
}

/// Session-Expires: the interval, and whether `refresher` names the requester.
fn session_expires(message: &Message) -> Option<(u32, Option<bool>)> {
    let seconds = message.number(Name::SessionExpires).ok().flatten()?;
    let value = message.get(Name::SessionExpires).unwrap_or_default();
    let params = value.split(|byte| *byte == b';').skip(1).map(<[u8]>::trim_ascii);
    let refresher = params.filter_map(|p| {
        let (name, value) = p.split_at_checked(10)?;
        name.eq_ignore_ascii_case(b"refresher=").then_some(value)
    });
    let by_requester = refresher.last().map(|who| who.eq_ignore_ascii_case(b"uac"));
    Some((seconds.min(LONGEST_S), by_requester))
}

impl SessionTimer {
    /// A session refresh request of the peer's: agrees to it, or says which Min-SE a 422 has (9).
    pub fn asked(&mut self, request: &Message, peer_knows: bool, terms: &Terms) -> Result<(), u32> {
        let min_se = message_min_se(request);
        self.min_se_s = self.min_se_s.max(min_se);
        let least = min_se.max(SHORTEST_S);
        let (interval, by_requester) = match (terms.mode, session_expires(request)) {
            (Mode::Off, _) | (Mode::Serve, None) => (0, None),
            (Mode::Serve | Mode::Ask, Some((s, _))) if peer_knows && s < terms.min_se_s => {
                return Err(terms.min_se_s);
            }
            (Mode::Serve | Mode::Ask, Some((s, who))) => (s.min(terms.expires_s.max(least)), who),
            (Mode::Ask, None) => (terms.expires_s.max(least), None),
        };
        self.interval_s = if interval == 0 { 0 } else { interval.max(SHORTEST_S) };
        self.refresher = match (peer_knows, by_requester) {
            // Table 2: who does not know timers cannot refresh.
            (false, _) | (true, Some(false)) => Refresher::Us,
            (true, Some(true)) => Refresher::Peer,
            (true, None) => terms.refresher,
        };
        Ok(())
    }

    /// A 2xx to a session refresh request of ours (7.2).
    pub fn granted(&mut self, response: &Message, terms: &Terms) {
        let was_asked = self.wanted(terms);
        match session_expires(response) {
            _ if terms.mode == Mode::Off => self.interval_s = 0,
            Some((interval, by_requester)) => {
                self.interval_s = interval.max(SHORTEST_S);
                self.refresher = match by_requester {
                    Some(false) => Refresher::Peer,
                    Some(true) | None => Refresher::Us,
                };
            }
            // The peer does not know timers: we refresh all the same, if we want one.
            None if terms.mode == Mode::Ask => {
                (self.interval_s, self.refresher) = (was_asked, Refresher::Us);
            }
            None => self.interval_s = 0,
        }
    }

    /// A 422: the interval has to be longer (7.3). Whether asking again makes sense.
    pub fn too_small(&mut self, response: &Message) -> bool {
        let min_se = message_min_se(response);
        let grows = min_se > self.min_se_s;
        self.min_se_s = self.min_se_s.max(min_se);
        if self.interval_s > 0 {
            self.interval_s = self.interval_s.max(min_se);
        }
        grows
    }

    /// The interval to ask for; 0 for none.
    fn wanted(&self, terms: &Terms) -> u32 {
        match (self.interval_s, terms.mode) {
            (_, Mode::Off) | (0, Mode::Serve) => 0,
            (0, Mode::Ask) => terms.expires_s.max(self.min_se_s),
            (interval, Mode::Serve | Mode::Ask) => interval.max(self.min_se_s),
        }
    }

    /// The headers of a session refresh request of ours (7.1, 7.4).
    pub fn ask(&self, terms: &Terms, print: &mut Print) {
        let interval = self.wanted(terms);
        if interval == 0 {
            return;
        }
        // The first request leaves the choice to the peer, unless it is to refresh or we are.
        let refresher = if self.interval_s > 0 { self.refresher } else { terms.refresher };
        print.line(Name::SessionExpires, |v| {
            let who = if refresher == Refresher::Us { b"uac" } else { b"uas" };
            v.u32(interval).param(b"refresher", Some(who));
        });
        if self.min_se_s.max(terms.min_se_s) > LEAST_MIN_SE_S {
            print.line(Name::MinSe, |v| {
                v.u32(self.min_se_s.max(terms.min_se_s));
            });
        }
    }

    /// The headers of a 2xx to a session refresh request of the peer's (9).
    pub fn grant(&self, peer_knows: bool, print: &mut Print) {
        if self.interval_s == 0 {
            return;
        }
        print.line(Name::SessionExpires, |v| {
            let who = if self.refresher == Refresher::Us { b"uas" } else { b"uac" };
            v.u32(self.interval_s).param(b"refresher", Some(who));
        });
        if peer_knows && self.refresher == Refresher::Peer {
            print.header(Name::Require, b"timer");
        }
    }

    /// The session was set up or refreshed just now (10).
    pub fn start(&mut self, now: Instant) {
        if self.interval_s == 0 {
            (self.refresh_at, self.ends_at) = (Instant::NEVER, Instant::NEVER);
            return;
        }
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let margin = (self.interval_s / 3).min(32);
        self.ends_at = now + seconds(self.interval_s - margin);
        self.refresh_at = match self.refresher {
            Refresher::Us => now + seconds(self.interval_s) / 2,
            Refresher::Peer => Instant::NEVER,
        };
    }

    /// When something is due.
    pub fn deadline(&self) -> Instant {
        self.refresh_at.min(self.ends_at)
    }
}

fn message_min_se(message: &Message) -> u32 {
    message.number(Name::MinSe).ok().flatten().unwrap_or(0).min(LONGEST_S)
}

plain!(
    enum Refresher {
        Us = 0,
        Peer = 1,
    }
);
plain!(struct SessionTimer { interval_s, min_se_s, refresher, refresh_at, ends_at });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Index, Method, parse};

    fn with<T>(headers: &str, read: impl FnOnce(&Message) -> T) -> T {
        let text = format!(
            "UPDATE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 2 UPDATE\r\n{headers}\r\n"
        );
        let mut index = Index::new();
        read(&parse(text.as_bytes(), &mut index).unwrap())
    }

    fn asked(headers: &str, peer_knows: bool, terms: Terms) -> Result<(u32, Refresher), u32> {
        let mut timer = SessionTimer::default();
        with(headers, |m| timer.asked(m, peer_knows, &terms))?;
        Ok((timer.interval_s, timer.refresher))
    }

    fn granted(headers: &str, terms: Terms) -> (u32, Refresher) {
        let mut timer = SessionTimer::default();
        with(headers, |m| timer.granted(m, &terms));
        (timer.interval_s, timer.refresher)
    }

    const SERVE: Terms =
        Terms { mode: Mode::Serve, expires_s: 1800, min_se_s: 120, refresher: Refresher::Peer };
    const ASK: Terms = Terms { mode: Mode::Ask, refresher: Refresher::Us, ..SERVE };
    const OFF: Terms = Terms { mode: Mode::Off, ..SERVE };

    #[test]
    fn as_asked_the_interval_and_the_refresher_follow_table_2() {
        use Refresher::{Peer, Us};
        let both = |r| format!("Session-Expires: 600;refresher={r}\r\n");
        assert_eq!(asked(&both("uac"), true, SERVE), Ok((600, Peer)));
        assert_eq!(asked(&both("UAS"), true, SERVE), Ok((600, Us)));
        assert_eq!(asked("x: 600\r\n", true, SERVE), Ok((600, Peer)), "the trunk's preference");
        assert_eq!(asked("x: 600\r\n", true, ASK), Ok((600, Us)));
        assert_eq!(asked("x: 600\r\n", false, SERVE), Ok((600, Us)), "inserted by a proxy");
        assert_eq!(asked("", true, SERVE), Ok((0, Peer)));
        assert_eq!(asked("", false, ASK), Ok((1800, Us)));
        assert_eq!(asked("x: 600\r\n", true, OFF), Ok((0, Peer)));
        assert_eq!(asked("x: 7200\r\n", true, SERVE), Ok((1800, Peer)), "no longer than ours");
        assert_eq!(asked("x: 7200\r\nMin-SE: 3600\r\n", true, SERVE), Ok((3600, Peer)));
    }

    #[test]
    fn too_short_is_refused_to_who_can_follow_and_raised_for_nobody() {
        assert_eq!(asked("x: 119\r\n", true, SERVE), Err(120));
        assert_eq!(asked("x: 120\r\n", true, SERVE), Ok((120, Refresher::Peer)));
        assert_eq!(asked("x: 119\r\n", false, SERVE), Ok((119, Refresher::Us)));
        assert_eq!(asked("x: 1\r\n", false, SERVE), Ok((SHORTEST_S, Refresher::Us)));
    }

    #[test]
    fn what_is_granted_holds_and_who_does_not_know_timers_is_refreshed() {
        use Refresher::{Peer, Us};
        assert_eq!(granted("x: 600;refresher=uas\r\n", ASK), (600, Peer));
        assert_eq!(granted("x: 600;refresher=uac\r\n", ASK), (600, Us));
        assert_eq!(granted("", ASK), (1800, Us));
        assert_eq!(granted("", SERVE).0, 0);
        assert_eq!(granted("x: 600;refresher=uac\r\n", OFF).0, 0);
    }

    #[test]
    fn a_422_raises_the_interval_once_for_each_new_minimum() {
        let mut timer = SessionTimer::default();
        assert!(with("Min-SE: 2000\r\n", |m| timer.too_small(m)));
        assert!(!with("Min-SE: 2000\r\n", |m| timer.too_small(m)));
        assert!(!with("", |m| timer.too_small(m)));
        let mut out = Vec::new();
        let mut print = Print::request(&mut out, Method::Update, b"sip:a@b");
        timer.ask(&ASK, &mut print);
        print.finish();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Session-Expires: 2000;refresher=uac\r\nMin-SE: 2000\r\n"), "{text}");
    }

    #[test]
    fn it_is_refreshed_at_half_and_over_a_little_before_the_end() {
        let mut timer =
            SessionTimer { interval_s: 90, refresher: Refresher::Us, ..Default::default() };
        timer.start(Instant(0));
        let second = 1_000_000_000;
        assert_eq!((timer.refresh_at.0, timer.ends_at.0), (45 * second, 60 * second));
        timer.interval_s = 1800;
        timer.refresher = Refresher::Peer;
        timer.start(Instant(0));
        assert_eq!((timer.refresh_at, timer.ends_at.0), (Instant::NEVER, 1768 * second));
        assert_eq!(timer.deadline(), timer.ends_at);
        timer.interval_s = 0;
        timer.start(Instant(0));
        assert_eq!(timer.deadline(), Instant::NEVER);
    }
}
