//! A message that waits for company: a 100 (Trying) leaves with the next message of its connection, or a little later.
//!
//! What it says, that the INVITE need not be repeated, is no news over a connection, and RFC 3261 17.2.1 wants it after
//! 200 ms. By itself it is a segment, and whoever receives it wakes for nothing else.

use super::Streams;
use super::connection::Connection;
use base::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// How long it waits at most: less than the 40 ms after which our kernel acknowledges the INVITE by itself.
const LONGEST: Duration = Duration::from_millis(20);

/// Whether a message may wait.
pub(super) fn may_wait(message: &[u8]) -> bool {
    message.starts_with(b"SIP/2.0 100 ")
}

/// Connections on which something waits for company, those that have done so longest first, and some that had
/// company since.
#[derive(Default)]
pub(super) struct Patience(VecDeque<(Instant, u32)>);

impl Patience {
    /// A connection waits from now on, or still does.
    pub(super) fn wait(&mut self, id: u32, now: Instant) {
        self.0.push_back((now + LONGEST, id));
    }

    /// When the first of them has waited long enough.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.0.front().map(|(end, _)| *end)
    }
}

impl Streams {
    /// Lists all that wait once the first has waited long enough: one turn serves them.
    pub(super) fn hurry(&mut self, now: Instant) {
        while let Some(&(end, id)) = self.patience.0.front() {
            if !self.connections.get(&id).is_some_and(Connection::is_patient) {
                self.patience.0.pop_front();
                continue;
            }
            if end > now {
                return;
            }
            for (_, id) in self.patience.0.drain(..) {
                let connection = self.connections.get_mut(&id);
                if connection.is_some_and(|it| it.is_patient() && it.list()) {
                    self.listed.push(id);
                }
            }
        }
    }
}
