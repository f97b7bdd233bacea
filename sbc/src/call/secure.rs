//! The protection of a leg: what we offer, what its peer chooses, and what goes into its plan (RFC 4568, RFC
//! 5763, RFC 8643).
//!
//! A leg whose trunk requires SRTP has it or has no media; one that prefers it says so in an offer that
//! the peer may take as plain. Nothing else is a downgrade: what was offered encrypted is answered
//! encrypted or refused by name.

use super::dtls::{self, Dtls};
use crate::core::{Core, Turn};
use crate::policy::security::{Keying, MediaSecurity, Srtp};
use crate::refusal::Refusal;
use crate::sdp::{self, Crypto, Kind, Lines, Media, Protocol, Session};
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
    /// Our side of DTLS, where the trunk has it.
    dtls: Option<Box<Dtls>>,
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
        self.agreed.is_some() || self.dtls.as_ref().is_some_and(|dtls| dtls.is_agreed())
    }

    fn forget(&mut self) {
        self.agreed = None;
        if let Some(dtls) = &mut self.dtls {
            dtls.forget();
        }
    }
}

plain!(struct Secure { protocol, ours, agreed, dtls });
plain!(struct OurKey { suite, key });
plain!(struct Agreed { tag, keys });

/// What protects a leg that is about to begin, over the listener `port`.
pub(crate) fn fresh(core: &Core, turn: &mut Turn, trunk: u16, port: PortId) -> Secure {
    let Some(policy) = policy(core, trunk) else { return Secure::default() };
    let has_keys = may_have_keys(core, policy, port);
    let suites = if has_keys { policy.suites.as_slice() } else { &[] };
    let ours = suites.iter().map(|&suite| OurKey { suite, key: turn.media.draw_key(suite) });
    let ours = ours.collect();
    let dtls = match policy.keys.contains(&Keying::Dtls) {
        true => Dtls::fresh(turn, policy.certificate),
        false => None,
    };
    Secure { ours, dtls, ..Secure::default() }
}

/// The policy of a trunk that has SRTP.
fn policy(core: &Core, trunk: u16) -> Option<&MediaSecurity> {
    let policy = core.image.trunk(trunk).map(|trunk| &trunk.media_security);
    policy.filter(|policy| policy.srtp != Srtp::Off)
}

/// Whether keys may stand in what is said over a listener.
fn may_have_keys(core: &Core, policy: &MediaSecurity, port: PortId) -> bool {
    policy.keys.contains(&Keying::Sdes)
        && (policy.over_plain_sip || core.face(port).transport.has_tls())
}

/// What a peer says that suits us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// A key of its own in its description.
    Key(Crypto),
    /// A handshake.
    Dtls(dtls::Chosen),
}

/// What a description's line means for the protection of a leg of this trunk.
pub(crate) fn judge(
    core: &Core,
    (trunk, port): (u16, PortId),
    secure: &Secure,
    (session, line): (&Session, &Media),
    said: Said,
) -> Result<Option<Chosen>, Refusal> {
    if core.image.trunk(trunk).is_none() {
        return Ok(None);
    }
    let Some(policy) = policy(core, trunk) else {
        return if is_secure(line.protocol) { Err(Refusal::SrtpForbidden) } else { Ok(None) };
    };
    let theirs = if policy.keys.contains(&Keying::Dtls) {
        sdp::Dtls::read(session, line).map_err(|_| Refusal::BadDtls)?
    } else {
        None
    };
    let has_keys = may_have_keys(core, policy, port) && !is_dtls(line.protocol);
    for keying in &policy.keys {
        let chosen = match keying {
            Keying::Sdes if has_keys => key(policy, secure, line, said).map(Chosen::Key),
            Keying::Sdes => None,
            Keying::Dtls => match &theirs {
                Some(theirs) => {
                    let choice = dtls::choice(said, theirs).ok_or(Refusal::BadDtls)?;
                    Some(Chosen::Dtls(choice))
                }
                None => None,
            },
        };
        if chosen.is_some() {
            return Ok(chosen);
        }
    }
    let has_crypto = line.attribute(b"crypto").is_some();
    match (policy.srtp, is_secure(line.protocol)) {
        (Srtp::Preferred, false) => Ok(None),
        (_, true) if has_crypto && has_keys => Err(Refusal::NoSrtpSuite),
        _ if policy.keys.contains(&Keying::Sdes) && !has_keys && !is_dtls(line.protocol) => {
            Err(Refusal::SrtpKeysExposed)
        }
        (_, true) if policy.keys == [Keying::Sdes] && !is_dtls(line.protocol) => {
            Err(Refusal::NoSrtpSuite)
        }
        (_, true) => Err(Refusal::NoSrtpKeys),
        (_, false) => Err(Refusal::SrtpRequired),
    }
}

/// The key among those of a line that we take: in an offer the first of a suite that the trunk has, in an
/// answer the one for a key of ours.
fn key(policy: &MediaSecurity, secure: &Secure, line: &Media, said: Said) -> Option<Crypto> {
    let offered = line.attributes().filter(|a| a.name == b"crypto");
    let mut offered = offered.filter_map(|a| Crypto::read(a.value));
    match said {
        Said::Offer => offered.find(|crypto| policy.suites.contains(&crypto.suite)),
        Said::Answer => offered.find(|crypto| {
            let ours = (crypto.tag as usize).checked_sub(1).and_then(|at| secure.ours.get(at));
            ours.is_some_and(|ours| ours.suite == crypto.suite)
        }),
    }
}

/// Takes in what was judged: the protection of the leg from now on.
pub(crate) fn take(
    secure: &mut Secure,
    turn: &mut Turn,
    line: &Media,
    said: Said,
    chosen: Option<Chosen>,
) -> Security {
    if said == Said::Offer {
        secure.protocol = line.raw_protocol.into();
    }
    match chosen {
        Some(Chosen::Dtls(chosen)) => {
            secure.agreed = None;
            match &mut secure.dtls {
                Some(dtls) => dtls::take(dtls, turn, said, chosen),
                // The trunk has had it since the leg began: from the next offer on it may.
                None => Security::None,
            }
        }
        Some(Chosen::Key(crypto)) => take_key(secure, turn, said, crypto),
        None => {
            secure.forget();
            Security::None
        }
    }
}

fn take_key(secure: &mut Secure, turn: &mut Turn, said: Said, crypto: Crypto) -> Security {
    let Crypto { tag, suite, key: ingress, mki_len } = crypto;
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
    secure.forget();
    secure.agreed = Some(Agreed { tag, keys: keys.clone() });
    Security::Keys(Box::new(keys))
}

/// How our answer to the peer's last offer is written.
pub(crate) fn answer(secure: &Secure, turn: &Turn, from: &Media, muxes: bool) -> Lines {
    let protocol = match secure.protocol.is_empty() {
        true => plain_protocol(from).to_vec(),
        false => secure.protocol.to_vec(),
    };
    let key = secure.agreed.iter();
    let key = key.map(|Agreed { tag, keys }| Crypto::line(*tag as usize, keys.suite, &keys.egress));
    let mut attributes: Vec<_> = key.collect();
    let dtls = secure.dtls.as_deref().filter(|dtls| dtls.is_agreed());
    attributes.extend(dtls.into_iter().flat_map(|dtls| dtls::told(dtls, turn, Said::Answer)));
    let sources = !attributes.is_empty();
    Lines { protocol, attributes, sources, rtcp_mux: dtls.map(|_| muxes) }
}

/// How our offer to a leg is written.
pub(crate) fn offer(secure: &Secure, turn: &Turn, policy: &MediaSecurity, from: &Media) -> Lines {
    let plain = plain_protocol(from);
    let protocol: &[u8] = match (policy.srtp, policy.keys.first(), plain) {
        (Srtp::Required, Some(Keying::Dtls), b"RTP/AVP") => b"UDP/TLS/RTP/SAVP",
        (Srtp::Required, Some(Keying::Dtls), b"RTP/AVPF") => b"UDP/TLS/RTP/SAVPF",
        (Srtp::Required, _, b"RTP/AVP") => b"RTP/SAVP",
        (Srtp::Required, _, b"RTP/AVPF") => b"RTP/SAVPF",
        (_, _, plain) => plain,
    };
    let keys = (1..).zip(&secure.ours);
    let keys = keys.map(|(tag, ours)| Crypto::line(tag, ours.suite, &ours.key));
    let mut attributes: Vec<_> = keys.filter(|_| !protocol.starts_with(b"UDP/TLS/")).collect();
    let dtls = secure.dtls.as_deref();
    attributes.extend(dtls.into_iter().flat_map(|dtls| dtls::told(dtls, turn, Said::Offer)));
    let sources = !attributes.is_empty();
    // A handshake is good for one port (RFC 5764 §4.2): RTCP is to share it, and be spared another.
    Lines { protocol: protocol.to_vec(), attributes, sources, rtcp_mux: dtls.map(|_| true) }
}

/// Whether we may offer at all what the trunk requires.
pub(crate) fn may_offer(secure: &Secure, policy: &MediaSecurity) -> Result<(), Refusal> {
    let has_none = secure.ours.is_empty() && secure.dtls.is_none();
    let lacks = policy.srtp == Srtp::Required && has_none;
    if lacks { Err(Refusal::SrtpKeysExposed) } else { Ok(()) }
}

/// Whether the media of a line is encrypted.
pub(crate) fn is_secure(protocol: Protocol) -> bool {
    match protocol {
        Protocol::RtpSavp | Protocol::RtpSavpf => true,
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => true,
        Protocol::RtpAvp | Protocol::RtpAvpf | Protocol::UdpTl | Protocol::Other(_) => false,
    }
}

/// Whether its keys come from DTLS and nothing else (RFC 5764 §8).
fn is_dtls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf)
}

/// The same profile without protection.
fn plain_protocol<'a>(line: &Media<'a>) -> &'a [u8] {
    match line.protocol {
        // Without feedback there is no video to speak of; speech gets along, and telephones want it so.
        Protocol::UdpTlsRtpSavpf if line.kind == Kind::Video => b"RTP/AVPF",
        Protocol::RtpAvp | Protocol::RtpSavp => b"RTP/AVP",
        Protocol::UdpTlsRtpSavp | Protocol::UdpTlsRtpSavpf => b"RTP/AVP",
        Protocol::RtpAvpf | Protocol::RtpSavpf => b"RTP/AVPF",
        Protocol::UdpTl | Protocol::Other(_) => line.raw_protocol,
    }
}
