//! The keys of a leg: what we offer, what its peer chooses, and what goes into its plan (RFC 4568, RFC
//! 8643).
//!
//! A leg whose trunk requires SRTP has it or has no media; one that prefers it says so in an offer that
//! the peer may take as plain. Nothing else is a downgrade: what was offered encrypted is answered
//! encrypted or refused by name.

use crate::core::{Core, Turn};
use crate::policy::security::{MediaSecurity, Srtp};
use crate::refusal::Refusal;
use crate::sdp::{Crypto, Lines, Media, Protocol};
use base::{PortId, plain};
use media::Security;
use media::srtp::{Keys, MasterKey, Suite};

/// What a description is, whoever writes it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// An offer.
    Offer,
    /// The answer to one.
    Answer,
}

/// Where a leg's protection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secure {
    /// The protocol of the peer's last offer: the answer to it has the same.
    protocol: Box<[u8]>,
    /// Our keys, one for each suite we may offer, until the peer's offer has chosen one.
    ours: Vec<OurKey>,
    /// Tag and keys that are in force.
    agreed: Option<Agreed>,
}

/// A key that we protect packets with if its suite is chosen; its tag is its place, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OurKey {
    suite: Suite,
    key: MasterKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Agreed {
    tag: u32,
    keys: Keys,
}

impl Secure {
    /// Whether packets are protected under keys that both sides know.
    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed.is_some()
    }
}

plain!(struct Secure { protocol, ours, agreed });
plain!(struct OurKey { suite, key });
plain!(struct Agreed { tag, keys });

/// Keys for a leg that is about to begin, over the listener `port`.
pub(crate) fn fresh(core: &Core, turn: &mut Turn, trunk: u16, port: PortId) -> Secure {
    let policy = core.image.trunk(trunk).map(|trunk| &trunk.media_security);
    let policy = policy.filter(|policy| may_have_keys(core, policy, port));
    let suites = policy.map(|policy| policy.suites.as_slice()).unwrap_or_default();
    let ours = suites.iter().map(|&suite| OurKey { suite, key: turn.media.draw_key(suite) });
    Secure { ours: ours.collect(), ..Secure::default() }
}

/// Whether keys may stand in what is said over a listener.
fn may_have_keys(core: &Core, policy: &MediaSecurity, port: PortId) -> bool {
    policy.srtp != Srtp::Off && (policy.over_plain_sip || core.face(port).transport.has_tls())
}

/// What a description's line means for the protection of a leg of this trunk.
pub(crate) fn judge(
    core: &Core,
    (trunk, port): (u16, PortId),
    secure: &Secure,
    line: &Media,
    said: Said,
) -> Result<Option<Crypto>, Refusal> {
    let Some(policy) = core.image.trunk(trunk).map(|trunk| &trunk.media_security) else {
        return Ok(None);
    };
    if policy.srtp == Srtp::Off {
        return if is_secure(line.protocol) { Err(Refusal::SrtpForbidden) } else { Ok(None) };
    }
    let exposed = !may_have_keys(core, policy, port);
    let offered = line.attributes().filter(|a| a.name == b"crypto" && !exposed);
    let mut offered = offered.filter_map(|a| Crypto::read(a.value));
    let chosen = match said {
        Said::Offer => offered.find(|crypto| policy.suites.contains(&crypto.suite)),
        Said::Answer => offered.find(|crypto| {
            let ours = (crypto.tag as usize).checked_sub(1).and_then(|at| secure.ours.get(at));
            ours.is_some_and(|ours| ours.suite == crypto.suite)
        }),
    };
    match (chosen, policy.srtp, is_secure(line.protocol)) {
        (Some(crypto), _, _) => Ok(Some(crypto)),
        (None, Srtp::Preferred, false) => Ok(None),
        (None, _, _) if exposed => Err(Refusal::SrtpKeysExposed),
        (None, _, true) => Err(Refusal::NoSrtpSuite),
        (None, _, false) => Err(Refusal::SrtpRequired),
    }
}

/// Takes in what was judged: the protection of the leg from now on.
pub(crate) fn take(
    secure: &mut Secure,
    turn: &mut Turn,
    line: &Media,
    said: Said,
    chosen: Option<Crypto>,
) -> Security {
    if said == Said::Offer {
        secure.protocol = line.raw_protocol.into();
    }
    let Some(Crypto { tag, suite, key: ingress, mki_len }) = chosen else {
        secure.agreed = None;
        return Security::None;
    };
    let before = secure.agreed.as_ref().map(|agreed| &agreed.keys);
    let is_known = before.is_some_and(|keys| keys.suite == suite && keys.ingress == ingress);
    let mut ours = secure.ours.iter().find(|ours| ours.suite == suite).cloned();
    if said == Said::Offer && before.is_some() && !is_known {
        // New keys from the peer are answered with new keys of ours: both sides count from zero.
        ours = None;
    }
    let ours = ours.unwrap_or_else(|| OurKey { suite, key: turn.media.draw_key(suite) });
    let keys = Keys { suite, ingress, egress: ours.key.clone(), mki_len };
    if said == Said::Offer {
        secure.ours = vec![ours];
    }
    secure.agreed = Some(Agreed { tag, keys: keys.clone() });
    Security::Keys(Box::new(keys))
}

/// How our answer to the peer's last offer is written.
pub(crate) fn answer(secure: &Secure, from: &Media) -> Lines {
    let attributes = secure
        .agreed
        .iter()
        .map(|Agreed { tag, keys }| Crypto::line(*tag as usize, keys.suite, &keys.egress));
    let protocol = match secure.protocol.is_empty() {
        true => plain_protocol(from.protocol, from.raw_protocol).to_vec(),
        false => secure.protocol.to_vec(),
    };
    let attributes: Vec<_> = attributes.collect();
    let sources = !attributes.is_empty();
    Lines { protocol, attributes, sources, rtcp_mux: None }
}

/// How our offer to a leg is written.
pub(crate) fn offer(secure: &Secure, policy: &MediaSecurity, from: &Media) -> Lines {
    let plain = plain_protocol(from.protocol, from.raw_protocol);
    let lines = (1..).zip(&secure.ours);
    let attributes = lines.map(|(tag, ours)| Crypto::line(tag, ours.suite, &ours.key)).collect();
    let protocol: &[u8] = match (policy.srtp, plain) {
        (Srtp::Required, b"RTP/AVP") => b"RTP/SAVP",
        (Srtp::Required, b"RTP/AVPF") => b"RTP/SAVPF",
        (_, plain) => plain,
    };
    let sources = !secure.ours.is_empty();
    Lines { protocol: protocol.to_vec(), attributes, sources, rtcp_mux: None }
}

/// Whether we may offer at all what the trunk requires.
pub(crate) fn may_offer(secure: &Secure, policy: &MediaSecurity) -> Result<(), Refusal> {
    let lacks = policy.srtp == Srtp::Required && secure.ours.is_empty();
    if lacks { Err(Refusal::SrtpKeysExposed) } else { Ok(()) }
}

/// Whether the media of a line is encrypted.
pub(crate) fn is_secure(protocol: Protocol) -> bool {
    match protocol {
        Protocol::RtpSavp | Protocol::RtpSavpf | Protocol::UdpTlsRtpSavpf => true,
        Protocol::RtpAvp | Protocol::RtpAvpf | Protocol::UdpTl | Protocol::Other(_) => false,
    }
}

/// The same profile without protection.
fn plain_protocol<'a>(protocol: Protocol, raw: &'a [u8]) -> &'a [u8] {
    match protocol {
        Protocol::RtpAvp | Protocol::RtpSavp | Protocol::UdpTlsRtpSavpf => b"RTP/AVP",
        Protocol::RtpAvpf | Protocol::RtpSavpf => b"RTP/AVPF",
        Protocol::UdpTl | Protocol::Other(_) => raw,
    }
}
