//! DTLS-SRTP of a leg (RFC 5763, RFC 8842): who begins, and when it is another association.
//!
//! A leg keeps its association while its peer's fingerprint, its name for it (`a=tls-id`) and our certificate
//! stay; then the roles stay as well. Else a new one begins, under a new name of ours, and the keys of the
//! old are good until it has its own. Offers of ours let the peer choose who begins; where it leaves that to
//! us, it does, since it may be behind a NAT.

use super::secure::Said;
use crate::core::Turn;
use crate::sdp::{self, Setup};
use base::random::Random;
use base::record::{Plain, Unreadable};
use media::Security;
use media::dtls::{Certificate, Fingerprint, Role, Terms};

/// Where a leg's DTLS stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dtls {
    /// Our name for the association (RFC 8842 §4).
    id: [u8; 20],
    /// Our certificate's kind.
    certificate: Certificate,
    /// What was agreed upon, while it is what protects the leg.
    agreed: Option<Terms>,
    /// The peer has names for associations, so it is told ours.
    named: bool,
}

impl Dtls {
    pub(crate) fn fresh(turn: &mut Turn, certificate: Certificate) -> Option<Box<Dtls>> {
        turn.media.certificate(certificate)?;
        let id = turn.media.draw_name();
        Some(Box::new(Dtls { id, certificate, agreed: None, named: false }))
    }

    /// Our certificate: its short name and its SHA-256. Where this life of the process has none of the leg's
    /// kind, the one that every node has: better a handshake that fails by name than none.
    fn ours(&self, turn: &Turn) -> Option<(u64, [u8; 32])> {
        let of = |kind| turn.media.certificate(kind);
        of(self.certificate).or_else(|| of(Certificate::default()))
    }

    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed.is_some()
    }

    /// Something else protects the leg now, or nothing.
    pub(crate) fn forget(&mut self) {
        self.agreed = None;
    }
}

impl Plain for Dtls {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id);
        self.certificate.put(out);
        self.agreed.put(out);
        self.named.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Unreadable> {
        let (id, rest) = from.split_first_chunk().ok_or(Unreadable::Short)?;
        *from = rest;
        let certificate = Plain::take(from)?;
        let (agreed, named) = (Plain::take(from)?, Plain::take(from)?);
        Ok(Dtls { id: *id, certificate, agreed, named })
    }
}

/// A peer's DTLS that suits us.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Which side it wants to be; `None`: we choose.
    role: Option<Role>,
    fingerprint: Fingerprint,
    tls_id: u64,
}

/// What a peer says of its DTLS, if it may say so: an answer takes one role (RFC 5763 §5).
pub(crate) fn choice(said: Said, theirs: &sdp::Dtls) -> Option<Chosen> {
    let role = match (said, theirs.setup) {
        (_, Some(Setup::Active)) | (Said::Answer, None) => Some(Role::Passive),
        (_, Some(Setup::Passive)) => Some(Role::Active),
        (Said::Offer, Some(Setup::ActPass) | None) => None,
        (Said::Answer, Some(Setup::ActPass)) => return None,
    };
    // A name of any length, as a number: all that matters is whether it is the one before.
    let tls_id = theirs.tls_id.map_or(0, |id| Random::new((0, 1)).hash(&[id]) | 1);
    Some(Chosen { role, fingerprint: theirs.fingerprint, tls_id })
}

/// Takes in what was chosen.
pub(crate) fn take(dtls: &mut Dtls, turn: &mut Turn, said: Said, chosen: Chosen) -> Security {
    let Some((ours, _)) = dtls.ours(turn) else { return Security::None };
    let Chosen { role, fingerprint, tls_id } = chosen;
    let before = dtls.agreed;
    let is_same = |t: &Terms| (t.fingerprint, t.tls_id, t.ours) == (fingerprint, tls_id, ours);
    let kept = before.filter(|terms| is_same(terms));
    let role = role.or(kept.map(|terms| terms.role)).unwrap_or(Role::Passive);
    let terms = Terms { role, fingerprint, tls_id, ours };
    if said == Said::Offer && before.is_some_and(|before| before != terms) {
        dtls.id = turn.media.draw_name();
    }
    dtls.named = tls_id != 0;
    dtls.agreed = Some(terms);
    Security::Dtls(Box::new(terms))
}

/// What our description says of it; nothing where it does not protect the leg.
pub(crate) fn told(dtls: &Dtls, turn: &Turn, said: Said) -> Vec<Vec<u8>> {
    let Some((_, digest)) = dtls.ours(turn) else { return Vec::new() };
    let (setup, is_named) = match (said, &dtls.agreed) {
        (Said::Offer, _) => (Setup::ActPass, true),
        (Said::Answer, Some(terms)) => match terms.role {
            Role::Active => (Setup::Active, dtls.named),
            Role::Passive => (Setup::Passive, dtls.named),
        },
        (Said::Answer, None) => return Vec::new(),
    };
    sdp::dtls_lines(&digest, setup, is_named.then_some(&dtls.id))
}
