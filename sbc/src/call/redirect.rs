//! Redirections (RFC 3261 8.1.3.4, 16.7 4): a candidate says where the call should go instead.
//!
//! Its trunk says what becomes of that. Followed it is to addresses of that trunk alone: another one would
//! be bought from somebody nobody has chosen. A call that a plan decided keeps its number, because what
//! another one costs was not asked.

use super::{Call, MAX_LEGS};
use crate::core::{Core, Turn};
use crate::message::{Message, NameAddr, Scheme};
use crate::policy::Redirects;
use crate::policy::decide::Candidate;
use crate::policy::redirects::addresses;
use std::sync::Arc;

/// The most places one response may send a call to.
const MAX_CONTACTS: usize = 5;

/// The longest Contact that is passed on.
const MAX_CONTACT: usize = 256;

/// Hears a 3xx of `place`: what it says is tried next, or kept for the caller, or nothing.
pub(super) fn heard(call: &mut Call, core: &Core, turn: &Turn, place: u8, message: &Message) {
    let image = core.image.clone();
    let trunk = call.legs.get(usize::from(place)).and_then(|leg| image.trunk(leg.trunk));
    let (Some(trunk), Some(300..=302)) = (trunk, message.status().map(|s| s.code())) else {
        return;
    };
    match trunk.redirects {
        Redirects::Refuse => {}
        Redirects::Pass => {
            let contacts = by_preference(message).into_iter().map(|contact| contact.raw);
            let contacts = contacts.filter(|contact| contact.len() <= MAX_CONTACT);
            call.contacts = contacts.map(Into::into).collect();
        }
        Redirects::Follow => follow(call, core, turn, place, message),
    }
}

fn follow(call: &mut Call, core: &Core, turn: &Turn, place: u8, message: &Message) {
    let Some(branch) = call.branches.iter().find(|branch| branch.leg == place) else { return };
    let Some(attempt) = call.cdr.attempts.get(usize::from(branch.attempt)) else { return };
    let Some(leg) = call.legs.get(usize::from(place)) else { return };
    let (trunk, asked, buy) = (leg.trunk, attempt.number.clone(), attempt.buy.clone());
    // RFC 5630 5.1.1: what was to be secured stays so, and where somebody must be secured he cannot be without.
    let is_secure = leg.dialog.is_secure();
    let mut found: Vec<Candidate> = Vec::new();
    for uri in by_preference(message).iter().filter_map(|contact| contact.read_uri().ok()) {
        if (uri.scheme == Scheme::Sips) != is_secure {
            continue;
        }
        let mut digits = [0; 64];
        let number: Arc<[u8]> = match uri.number(&mut digits) {
            Some(number) => number.into(),
            None if uri.user.is_none() => asked.as_ref().into(),
            None => continue,
        };
        if call.cdr.taken.is_some() && *number != *asked {
            continue;
        }
        for endpoint in addresses(&core.image, trunk, &core.names, turn.now.mono, &uri) {
            let is_it = |n: &[u8], e| *n == *number && e == endpoint;
            let was_tried = call.cdr.attempts.iter().any(|a| is_it(&a.number, a.endpoint));
            // 16.7: nobody is asked twice; that ends every loop.
            if was_tried || found.iter().any(|c| is_it(&c.number, c.endpoint)) {
                continue;
            }
            let (number, buy) = (number.clone(), buy.clone());
            let (beside, redirected, out) = (false, true, core.outages.has(trunk, endpoint));
            found.push(Candidate { trunk, endpoint, number, buy, beside, redirected, out });
        }
    }
    found.truncate(MAX_CONTACTS.min(MAX_LEGS.saturating_sub(call.legs.len())));
    // What stood beside the next would stand beside these.
    found.into_iter().rev().for_each(|candidate| call.candidates.push_front(candidate));
}

/// The Contacts by their q, highest first (RFC 3261 20.10: 1 where nothing is said).
fn by_preference<'m>(message: &Message<'m>) -> Vec<NameAddr<'m>> {
    let mut contacts: Vec<NameAddr> =
        message.contacts().filter_map(Result::ok).take(MAX_CONTACTS).collect();
    contacts.sort_by_key(|contact| core::cmp::Reverse(thousandths(contact.param(b"q"))));
    contacts
}

/// A qvalue in thousandths.
fn thousandths(q: Option<&[u8]>) -> u16 {
    let Some(q) = q else { return 1000 };
    let mut digits = q.iter().filter(|byte| byte.is_ascii_digit()).map(|d| u16::from(d - b'0'));
    let whole = digits.next().unwrap_or(1);
    let rest = (0..3).fold(0, |sum, _| sum * 10 + digits.next().unwrap_or(0));
    (whole * 1000 + rest).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_compared_as_numbers() {
        let of = |q: &str| thousandths(Some(q.as_bytes()));
        assert_eq!([of("0.7"), of("0.70"), of("1"), of("0"), of("0.001")], [700, 700, 1000, 0, 1]);
        assert_eq!((thousandths(None), of("9.9")), (1000, 1000));
    }
}
