//! Who calls, who called before, and who may know: what a boundary makes of From, P-Asserted-Identity
//! and its kin, Privacy, Diversion and History-Info (RFC 3323, 3325, 5806, 7044, 7544).
//!
//! One rule: identity crosses as the far trunk's profile wants it, or not at all. Where it does not, we
//! are the last in the trust domain, and so the privacy service. Signatures (RFC 8224) are not known here.

mod privacy;
mod redirection;

use crate::message::{Message, Name, NameAddr, Print, Scheme, Uri};
use crate::policy::manipulate::Boundary;
use crate::policy::profile::{Believes, Identity, NumberForm, Profile};
use privacy::Privacy;
use routing_trie::{Digits, MAX_DIGITS};

/// From of a caller who is not to be known (RFC 3323 4.1.1.3).
const ANONYMOUS: &[u8] = b"\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// The most identities a message asserts: a SIP and a tel URI (RFC 3325 9.1).
const MOST: usize = 2;

/// Our From towards the far trunk: display name and number of the caller's, host ours.
pub(crate) fn from(invite: &Message, boundary: &Boundary, sent_by: &[u8]) -> Box<[u8]> {
    let profile = &boundary.far.profile;
    if profile.identity == Identity::Withheld && Privacy::read(invite).hides_caller() {
        return ANONYMOUS.into();
    }
    let from = invite.from().ok();
    let uri = from.and_then(|from| from.read_uri().ok());
    let host = profile.from_host.as_ref().map_or(sent_by, |host| host.as_bytes());
    let number = uri.and_then(|uri| calling(&uri, boundary));
    let user = number.as_deref().or(uri.and_then(|uri| uri.user)).unwrap_or(b"anonymous");
    let uri = sip_uri(user, host, profile);
    match from.map(|from| from.display).filter(|display| !display.is_empty()) {
        Some(display) => [display, b" <", &uri, b">"].concat().into(),
        None => [b"<", &uri[..], b">"].concat().into(),
    }
}

/// The URI of a number at a host, as a profile writes it.
pub(crate) fn sip_uri(user: &[u8], host: &[u8], profile: &Profile) -> Vec<u8> {
    let is_number = user.iter().all(|b| b.is_ascii_digit() || b"+*#".contains(b));
    let phone = if profile.user_phone && is_number { &b";user=phone"[..] } else { b"" };
    [b"sip:", user, b"@", host, phone].concat()
}

/// A caller's number after the rules of both trunks, in the form that the far one wants; `None` when it is to
/// stay as it is, or is none.
fn calling(uri: &Uri, boundary: &Boundary) -> Option<Box<[u8]>> {
    let (near, far) = (boundary.near, boundary.far);
    let (is_changed, form) =
        (!near.cli_in.is_idle() || !far.cli_out.is_idle(), far.profile.from_form);
    let mut buffer = [0; 64];
    let text = uri.number(&mut buffer);
    let plus: &[u8] = match form {
        NumberForm::AsItCame if !is_changed => return None,
        NumberForm::AsItCame if text.is_some_and(|t| !t.starts_with(b"+")) => b"",
        NumberForm::AsItCame | NumberForm::E164 => b"+",
        NumberForm::Digits => b"",
    };
    let number = match text.and_then(|text| near.dial_plan.read(text).ok()) {
        Some(number) => number.digits,
        None if is_changed => Digits::EMPTY,
        None => return None,
    };
    let number = far.cli_out.apply(near.cli_in.apply(number));
    if number.is_empty() {
        return None;
    }
    Some([plus, number.write(&mut [0; MAX_DIGITS]).as_bytes()].concat().into())
}

/// Adds what the far side learns about who calls, or who answers, and who was called before. `target`:
/// what our own request asks for.
pub(crate) fn pass(
    message: &Message,
    boundary: &Boundary,
    target: Option<&[u8]>,
    print: &mut Print,
) {
    let privacy = Privacy::read(message);
    let mut known = believed(message, boundary.near.profile.believes);
    if message.is_request() {
        known.iter_mut().for_each(|identity| ruled(identity, boundary));
    }
    let is_known = !known.is_empty();
    match boundary.far.profile.identity {
        Identity::Withheld => {}
        Identity::Asserted => known.iter().for_each(|identity| {
            print.header(Name::PAssertedIdentity, identity);
        }),
        Identity::Preferred => known.iter().take(1).for_each(|identity| {
            print.header(Name::PPreferredIdentity, identity);
        }),
        Identity::RemoteParty => known.iter().take(1).for_each(|identity| {
            let party: &[u8] = if message.is_request() { b"calling" } else { b"called" };
            let wanted: &[u8] = if privacy.hides_caller() { b"full" } else { b"off" };
            print.line(Name::RemotePartyId, |v| {
                v.bytes(identity).param(b"party", Some(party));
                v.param(b"privacy", Some(wanted)).param(b"screen", Some(b"yes"));
            });
        }),
    }
    // Who withholds has done what Privacy asks for; who is told must know what to withhold.
    if boundary.far.profile.identity != Identity::Withheld && (is_known || message.is_request()) {
        message.all(Name::Privacy).for_each(|value| {
            print.header(Name::Privacy, value);
        });
    }
    redirection::pass(message, boundary, privacy, target, print);
}

/// Both trunks' rules about callers' numbers, for an identity that is one: who may not be told a number hears
/// it nowhere.
fn ruled(identity: &mut Box<[u8]>, boundary: &Boundary) {
    if boundary.near.cli_in.is_idle() && boundary.far.cli_out.is_idle() {
        return;
    }
    let ruled = || {
        let address = NameAddr::parse(identity).ok()?;
        let uri = address.read_uri().ok()?;
        let number = calling(&uri, boundary)?;
        let display = address.display;
        let space = if display.is_empty() { &b""[..] } else { b" " };
        let host = match uri.scheme {
            Scheme::Tel => return Some([display, space, b"<tel:", &number, b">"].concat()),
            Scheme::Sip | Scheme::Sips | Scheme::Other(_) => uri.host,
        };
        let port = uri.port.map_or(String::new(), |port| format!(":{port}"));
        let scheme: &[u8] = if uri.scheme == Scheme::Sips { b"sips:" } else { b"sip:" };
        let at = [scheme, &number, b"@", host, port.as_bytes(), uri.params];
        Some([display, space, b"<", &at.concat(), b">"].concat())
    };
    if let Some(ruled) = ruled() {
        *identity = ruled.into();
    }
}

/// Identities the near trunk's word is taken for, as name-addrs.
fn believed(message: &Message, believes: Believes) -> Vec<Box<[u8]>> {
    let addresses = |name| message.addresses(name).map_while(Result::ok).take(MOST);
    match believes {
        Believes::Nothing => Vec::new(),
        Believes::Asserted => {
            let mut asserted = addresses(Name::PAssertedIdentity).peekable();
            match asserted.peek() {
                Some(_) => asserted.filter_map(|a| identity(&a)).collect(),
                None => {
                    addresses(Name::RemotePartyId).filter_map(|a| identity(&a)).take(1).collect()
                }
            }
        }
        Believes::From if !message.is_request() => Vec::new(),
        Believes::From => {
            let preferred = addresses(Name::PPreferredIdentity).next();
            preferred.or(message.from().ok()).and_then(|a| identity(&a)).into_iter().collect()
        }
    }
}

/// Display name and URI of an identity; `None` when it names nobody.
fn identity(address: &NameAddr) -> Option<Box<[u8]>> {
    let uri = address.read_uri().ok()?;
    let is_somebody = match uri.scheme {
        Scheme::Sip | Scheme::Sips => uri.user.is_some() && !uri.host.ends_with(b".invalid"),
        Scheme::Tel => true,
        Scheme::Other(_) => false,
    };
    is_somebody.then(|| address.bare())
}

#[cfg(test)]
mod tests;
