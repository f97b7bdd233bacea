//! Whether endpoints of a trunk answer: what is asked of them, how many answers make a verdict, and who is out.
//!
//! Each trunk is asked by one shard (see `signal::probe`), which tells the others its [`Outages`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// How the endpoints of a trunk are asked whether they are there, by OPTIONS (RFC 3261 11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// How often each is.
    pub every: Duration,
    /// So many questions in a row that failed take it out.
    pub failures: u8,
    /// So many in a row that were answered bring it back.
    pub successes: u8,
    /// Final responses by which it is not there. By any other it is: who refuses OPTIONS lives.
    pub down_on: Vec<u16>,
    /// It is tried all the same when every way to carry a call is out.
    pub last_resort: bool,
}

impl Default for Probing {
    fn default() -> Probing {
        Probing {
            every: Duration::from_secs(30),
            failures: 3,
            successes: 2,
            down_on: vec![408, 503],
            last_resort: true,
        }
    }
}

/// What was heard of one endpoint: a verdict that some answers in a row change, and one does not.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    is_out: bool,
    /// Answers in a row that speak against the verdict.
    against: u8,
}

impl Pulse {
    /// Takes an answer, or that there was none; whether the verdict is another now.
    pub fn beat(&mut self, is_alive: bool, terms: &Probing) -> bool {
        if is_alive != self.is_out {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        if self.against < if self.is_out { terms.successes } else { terms.failures } {
            return false;
        }
        (self.is_out, self.against) = (!self.is_out, 0);
        true
    }

    /// Whether calls are kept from it.
    pub fn is_out(&self) -> bool {
        self.is_out
    }

    /// Whether the last answers speak against the verdict.
    pub fn is_in_doubt(&self) -> bool {
        self.against > 0
    }
}

/// Endpoints that do not answer, and trunks of which none does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outages {
    endpoints: BTreeSet<(u16, SocketAddr)>,
    trunks: BTreeSet<u16>,
}

impl Outages {
    /// Nobody is out.
    pub const fn new() -> Outages {
        Outages { endpoints: BTreeSet::new(), trunks: BTreeSet::new() }
    }

    /// Whether every endpoint is taken to be there.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Whether calls are kept from an endpoint.
    pub fn has(&self, trunk: u16, endpoint: SocketAddr) -> bool {
        !self.is_empty() && self.endpoints.contains(&(trunk, endpoint))
    }

    /// Whether calls are kept from all of a trunk.
    pub fn has_all(&self, trunk: u16) -> bool {
        self.trunks.contains(&trunk)
    }

    /// Those of a trunk.
    pub fn of(&self, trunk: u16) -> impl Iterator<Item = SocketAddr> {
        let all = self.endpoints.iter().filter(move |(whose, _)| *whose == trunk);
        all.map(|(_, endpoint)| *endpoint)
    }

    /// Puts what another knows in place of what was known of its trunks.
    pub fn replace(&mut self, theirs: &Outages, is_theirs: impl Fn(u16) -> bool) {
        self.endpoints.retain(|(trunk, _)| !is_theirs(*trunk));
        self.trunks.retain(|trunk| !is_theirs(*trunk));
        self.endpoints.extend(&theirs.endpoints);
        self.trunks.extend(&theirs.trunks);
    }
}

impl FromIterator<(u16, SocketAddr, bool)> for Outages {
    /// Of every endpoint that is asked: its trunk, itself, and whether it is out.
    fn from_iter<I: IntoIterator<Item = (u16, SocketAddr, bool)>>(all: I) -> Outages {
        let (mut outages, mut there) = (Outages::default(), BTreeSet::new());
        for (trunk, endpoint, is_out) in all {
            if is_out {
                outages.endpoints.insert((trunk, endpoint));
                outages.trunks.insert(trunk);
            } else {
                there.insert(trunk);
            }
        }
        outages.trunks.retain(|trunk| !there.contains(trunk));
        outages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(failures: u8, successes: u8) -> Probing {
        Probing { failures, successes, ..Probing::default() }
    }

    /// The verdict after each answer: `+` is one, `-` is none.
    fn verdicts(terms: &Probing, answers: &str) -> String {
        let mut pulse = Pulse::default();
        let verdict = |answer| {
            let was_out = pulse.is_out();
            let changed = pulse.beat(answer == '+', terms);
            assert_eq!(changed, was_out != pulse.is_out());
            if pulse.is_out() { 'x' } else { '.' }
        };
        answers.chars().map(verdict).collect()
    }

    #[test]
    fn some_answers_in_a_row_change_the_verdict() {
        assert_eq!(verdicts(&terms(3, 2), "--+--+---+-+-++--"), "........xxxxxx...");
        assert_eq!(verdicts(&terms(1, 1), "-+-+"), "x.x.");
    }

    #[test]
    fn doubt_begins_with_an_answer_against_the_verdict() {
        let (mut pulse, terms) = (Pulse::default(), terms(2, 2));
        let doubts = [true, false, true, false, false, true, true].map(|answer| {
            pulse.beat(answer, &terms);
            pulse.is_in_doubt()
        });
        assert_eq!(doubts, [false, true, false, true, false, true, false]);
    }

    #[test]
    fn a_trunk_is_out_when_all_of_it_is() {
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let all = [(1, at(1), true), (1, at(2), false), (2, at(1), true), (3, at(1), false)];
        let mut known: Outages = all.into_iter().collect();
        assert!(known.has(1, at(1)) && !known.has(1, at(2)) && known.has(2, at(1)));
        assert_eq!([1, 2, 3].map(|trunk| known.has_all(trunk)), [false, true, false]);
        let newer: Outages = [(1, at(2), true)].into_iter().collect();
        known.replace(&newer, |trunk| trunk % 2 == 1);
        assert!(!known.has(1, at(1)) && known.has_all(1) && known.has_all(2));
        assert_eq!(known.of(1).collect::<Vec<_>>(), [at(2)]);
        known.replace(&Outages::default(), |_| true);
        assert!(known.is_empty());
    }
}
