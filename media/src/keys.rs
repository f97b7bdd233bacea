//! Keys that are down: digits heard from legs, and digits sent to them.

use crate::EndKey;
use crate::dtmf::{Dialling, Hearing, Pressed};
use crate::end::End;
use crate::media::Media;
use crate::notice::Notice;
use crate::originate::Frame;
use crate::rtp;
use crate::verdict::Discard;
use base::{Instant, Texts};

/// Digits of a leg, and for it.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) hearing: Hearing,
    pub(crate) dialling: Dialling,
    /// It is listed among those with a key down.
    is_listed: bool,
}

impl Keys {
    /// When something is to be done about them.
    fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.hearing.deadline(), self.dialling.deadline()];
        deadlines.into_iter().flatten().min()
    }
}

impl End {
    /// Listens to keys if its plan does.
    pub(crate) fn begin_keys(&mut self) {
        if self.keys.is_none() && self.plan.as_ref().is_some_and(|plan| plan.events.is_some()) {
            self.keys = Some(Box::default());
        }
    }

    /// Whether we press a key for it: then it hears nobody speak.
    pub(crate) fn is_being_dialled(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.dialling.is_down())
    }
}

impl Media {
    /// Takes in a packet of a leg whose plan says that it is an event.
    pub(crate) fn hear_event(
        &mut self,
        key: EndKey,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(end) = self.ends.get_mut(key) else { return Ok(()) };
        let (Some(keys), Some(plan)) = (&mut end.keys, &end.plan) else { return Ok(()) };
        let Some(events) = &plan.events else { return Ok(()) };
        let (told, counters) = (&mut self.pressed, &self.counters);
        keys.hearing.hear(&rtp::read(packet)?, rtp::payload(packet), events, now, |pressed| {
            counters.digits_heard.add(1);
            told.push(Notice::Pressed { end: key, pressed });
        })?;
        list(&mut self.keys_down, key, keys);
        Ok(())
    }

    /// Sends a digit to a leg as events, after those that are on their way; `false` when too many are, or
    /// the leg's plan has no events or no stream of our own.
    pub fn press(&mut self, now: Instant, end: EndKey, pressed: Pressed) -> bool {
        let Some(leg) = self.ends.get_mut(end) else { return false };
        let can = leg.egress.is_some() && leg.plan.as_ref().is_some_and(|p| p.events.is_some());
        let taken = match leg.keys.as_mut().filter(|_| can) {
            Some(keys) => {
                let taken = keys.dialling.press(pressed, now);
                list(&mut self.keys_down, end, keys);
                taken
            }
            None => false,
        };
        let counters = &self.counters;
        if taken { &counters.digits_sent } else { &counters.digits_refused }.add(1);
        taken
    }

    /// Goes on with every key that is down.
    pub fn keys(&mut self, now: Instant, out: &mut Texts) {
        let mut listed = core::mem::take(&mut self.keys_down);
        listed.retain(|key| {
            self.dial(*key, now, out);
            let Some(end) = self.ends.get_mut(*key) else { return false };
            let (Some(keys), Some(plan)) = (&mut end.keys, &end.plan) else { return false };
            if let Some(events) = &plan.events
                && keys.hearing.deadline().is_some_and(|deadline| deadline <= now)
            {
                let (told, counters) = (&mut self.pressed, &self.counters);
                keys.hearing.end(events, &mut |pressed| {
                    counters.digits_heard.add(1);
                    told.push(Notice::Pressed { end: *key, pressed });
                });
            }
            keys.is_listed = plan.events.is_some() && keys.deadline().is_some();
            keys.is_listed
        });
        self.keys_down = listed;
    }

    /// When [`Media::keys`] has something to do.
    pub(crate) fn next_key(&self) -> Option<Instant> {
        let ends = self.keys_down.iter().filter_map(|key| self.ends.get(*key));
        ends.filter_map(|end| end.keys.as_ref()?.deadline()).min()
    }

    /// Sends the event packet that is due to a leg.
    fn dial(&mut self, key: EndKey, now: Instant, out: &mut Texts) {
        let Some(end) = self.ends.get_mut(key) else { return };
        let events = end.plan.as_ref().and_then(|plan| plan.events);
        let (Some(keys), Some(events)) = (&mut end.keys, events) else { return };
        let egress = end.egress.as_deref();
        let timestamp = || egress.map_or(0, |egress| egress.timestamp(events.rate, now));
        if let Some(packet) = keys.dialling.next(&events, now, timestamp) {
            let frame = Frame {
                payload_type: events.to,
                marker: packet.marker,
                timestamp: packet.timestamp,
                payload: &packet.payload,
            };
            // A leg that may not be sent to now, on hold say, misses it.
            let _sent = self.originate(now, key, frame, out);
        }
    }
}

fn list(down: &mut Vec<EndKey>, key: EndKey, keys: &mut Keys) {
    if keys.deadline().is_some() && !core::mem::replace(&mut keys.is_listed, true) {
        down.push(key);
    }
}
