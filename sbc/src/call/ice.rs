//! ICE of a leg, as the lite side (RFC 8445, RFC 8839): what we say of ourselves, and whether it is used.
//!
//! The peer checks and chooses; we have one address per component and answer. Nothing is trickled, and
//! what the peer trickles is not needed (RFC 8838): its checks tell where it is.

use super::secure::Said;
use crate::core::{Core, Turn};
use crate::sdp::{Media, Session};
use base::plain;
use std::net::SocketAddr;

/// Where a leg's ICE stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ice {
    /// Our credentials, where the trunk has ICE.
    ours: Option<media::Ice>,
    /// The peer's user name fragment, while it uses ICE.
    theirs: Option<Box<[u8]>>,
    /// The peer has RTCP on the port of RTP.
    muxes: bool,
}
plain!(struct Ice { ours, theirs, muxes });

/// The ICE of a leg that is about to begin.
pub(crate) fn fresh(core: &Core, turn: &mut Turn, trunk: u16) -> Ice {
    let has_ice = core.image.trunk(trunk).is_some_and(|trunk| trunk.ice);
    Ice { ours: has_ice.then(|| turn.media.draw_ice()), ..Ice::default() }
}

/// Takes in what the peer says of itself; the credentials for its checks, if it will make any.
pub(crate) fn take(
    ice: &mut Ice,
    turn: &mut Turn,
    (session, line): (&Session, &Media),
    said: Said,
) -> Option<media::Ice> {
    ice.ours?;
    ice.muxes = line.rtcp_mux;
    let of_session = || session.attribute(b"ice-ufrag");
    let theirs = line.attribute(b"ice-ufrag").or_else(of_session).map(Box::from);
    // A new name of the peer's is a restart, which is answered with new credentials (RFC 8445 §9).
    if said == Said::Offer && ice.theirs.is_some() && theirs.is_some() && ice.theirs != theirs {
        ice.ours = Some(turn.media.draw_ice());
    }
    ice.theirs = theirs;
    ice.theirs.as_ref().and(ice.ours)
}

/// What our description says of ICE: the lines, and whether RTCP shares the port.
pub(crate) struct Told {
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) rtcp_mux: bool,
}

/// What an offer or an answer of ours says of ICE; nothing where it is not used.
pub(crate) fn told(ice: &Ice, said: Said, rtp: SocketAddr, rtcp: SocketAddr) -> Option<Told> {
    let (ours, is_offer) = (ice.ours?, said == Said::Offer);
    if !is_offer && ice.theirs.is_none() {
        return None;
    }
    let rtcp_mux = is_offer || ice.muxes;
    let mut attributes = vec![
        [b"a=ice-ufrag:", &ours.ufrag[..]].concat(),
        [b"a=ice-pwd:", &ours.password[..]].concat(),
        candidate(1, rtp),
    ];
    if is_offer || !rtcp_mux {
        attributes.push(candidate(2, rtcp));
    }
    if rtcp_mux {
        attributes.push(b"a=rtcp-mux".to_vec());
    }
    Some(Told { attributes, rtcp_mux })
}

/// A host candidate (RFC 8839 §5.1), of the priority that RFC 8445 §5.1.2.2 gives a single address.
fn candidate(component: u32, at: SocketAddr) -> Vec<u8> {
    let priority = (126 << 24) + (65_535 << 8) + (256 - component);
    let (ip, port) = (at.ip(), at.port());
    format!("a=candidate:1 {component} UDP {priority} {ip} {port} typ host").into_bytes()
}
