//! How an attempt at a trunk ended, told to the gate: the material of what is known about its quality.

use super::branch::{self, Branch, Standing};
use super::{CALLER, Call};
use crate::core::{Core, Turn};
use crate::policy::decide;
use base::Instant;
use control::event::{Attempted, Ended};
use control::{Event, Text};
use routing_trie::MAX_DIGITS;

/// A candidate failed with a status; its leg is as it was.
pub(super) fn failed(call: &Call, core: &Core, turn: &mut Turn, branch: Branch, status: u16) {
    let tried = (branch.leg, branch.attempt);
    let rang = branch::standing(call, branch.leg) > Standing::Silent;
    if let Some(ended) = ended(status, rang && delay_ms(call, branch.attempt).is_some()) {
        tell(call, core, turn, tried, ended);
    }
}

/// The call ended: answered, or given up while these were being tried.
pub(super) fn over(call: &Call, core: &Core, turn: &mut Turn, tried: &[Branch]) {
    // When a call of a process that died ended is not known well enough.
    if call.cdr.marks.recovered {
        return;
    }
    match call.carried.first() {
        Some(first) => tell(call, core, turn, *first, Ended::Answered),
        None => tried.iter().for_each(|b| failed(call, core, turn, *b, call.cdr.status)),
    }
}

/// How a final status counts (RFC 6076 4.6 and 4.7); `None` for those that say nothing about the trunk:
/// redirections and challenges.
fn ended(status: u16, rang: bool) -> Option<Ended> {
    match status {
        300..=399 | 401 | 402 | 407 => None,
        480 | 486 | 600 | 603 => Some(Ended::Reached),
        // No answer while it rang: the caller's patience or ours ended it.
        408 | 487 if rang => Some(Ended::Reached),
        _ => Some(Ended::Failed),
    }
}

fn tell(call: &Call, core: &Core, turn: &mut Turn, (leg, attempt): (u8, u8), ended: Ended) {
    let trunk = call.legs.get(usize::from(leg)).map(|leg| leg.trunk);
    let ingress = call.legs.get(usize::from(CALLER)).map(|l| l.trunk);
    let Some((trunk, ingress)) = trunk.zip(ingress) else { return };
    let number = decide::routed(&core.image, ingress, &call.number).unwrap_or_default();
    turn.events.push(Event::Attempted(Attempted {
        trunk,
        number: Text::from(number.write(&mut [0; MAX_DIGITS])),
        ended,
        pdd_ms: delay_ms(call, attempt),
        duration_ms: call.cdr.answered_ms().unwrap_or(0),
        mos_centi: call.cdr.media[1].mos_centi().filter(|_| ended == Ended::Answered),
    }));
}

/// From an attempt's INVITE to ringing or answer. One that rang before was another attempt.
fn delay_ms(call: &Call, attempt: u8) -> Option<u32> {
    let begun = Instant(call.cdr.attempts.get(usize::from(attempt))?.at.mono);
    let heard = call.cdr.ringing.filter(|r| r.mono >= begun.0).or(call.cdr.answer)?;
    u32::try_from(heard.mono.saturating_sub(begun.0) / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_as_rfc_6076_has_it() {
        assert_eq!(ended(302, false), None);
        assert_eq!(ended(407, true), None);
        for status in [480, 486, 600, 603] {
            assert_eq!(ended(status, false), Some(Ended::Reached), "{status}");
        }
        assert_eq!(
            (ended(487, true), ended(487, false)),
            (Some(Ended::Reached), Some(Ended::Failed))
        );
        assert_eq!(
            (ended(408, false), ended(503, true)),
            (Some(Ended::Failed), Some(Ended::Failed))
        );
    }
}
