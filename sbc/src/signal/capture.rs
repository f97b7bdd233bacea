//! Captures: what the legs of a call send, packet by packet, for the gate. Whoever asked for it, how long, and
//! how much of it he is given are the gate's business.
//!
//! A capture is of the call: legs that join it are in it, and one that goes to another call is in it no more.

use super::Signal;
use super::event::key_of;
use crate::core::Turn;
use base::Key;
use control::Event;
use control::event::{CallId, Captured};

/// A call that is captured.
pub(super) struct Capture {
    id: CallId,
    /// Packets so far, whether there was room for their copies or not.
    packets: u64,
}

impl Capture {
    pub(super) fn is_of(&self, call: Key) -> bool {
        key_of(self.id) == call
    }
}

impl Signal {
    /// Has what the legs of a call send copied from now on; the end of the step tells if it is gone.
    pub(super) fn capture(&mut self, turn: &mut Turn, id: CallId) {
        if !self.captures.iter().any(|capture| capture.id == id) {
            self.captures.push(Capture { id, packets: 0 });
        }
        self.settle(turn, key_of(id));
    }

    pub(super) fn uncapture(&mut self, turn: &mut Turn, id: CallId) {
        for over in self.captures.extract_if(.., |capture| capture.id == id) {
            turn.events.push(Event::Uncaptured { id, packets: over.packets });
        }
        self.settle(turn, key_of(id));
    }

    /// The end of a step: gives the gate what was copied in it, and tells which captured calls are over.
    pub fn tell_captured(&mut self, turn: &mut Turn) {
        let (calls, ends, captures) = (&self.calls, &self.core.ends, &mut self.captures);
        let at = turn.now.wall.0;
        turn.media.take_copies(|copied| {
            let Some(owner) = ends.get(copied.end.index as usize).copied().flatten() else {
                return;
            };
            let capture = captures.iter_mut().find(|capture| capture.is_of(owner.call));
            let (Some(capture), Some(call)) = (capture, calls.get(owner.call)) else { return };
            capture.packets += 1;
            let Some(payload) = copied.payload else { return };
            turn.events.push(Event::Captured(Box::new(Captured {
                id: capture.id,
                is_callers: owner.leg == call.near,
                at,
                source: copied.source,
                to: copied.to,
                payload: payload.into(),
            })));
        });
        captures.retain(|capture| {
            let lives = calls.get(key_of(capture.id)).is_some_and(|call| !call.has_ended());
            if !lives {
                let Capture { id, packets } = *capture;
                turn.events.push(Event::Uncaptured { id, packets });
            }
            lives
        });
    }
}
