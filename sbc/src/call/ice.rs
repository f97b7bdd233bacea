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
    /// What the peer calls the line that is relayed, if it wants to bundle it with others: we take it into the
    /// bundle alone, and its transport is that of the bundle (RFC 9143 §7.3.1).
    bundled: Box<[u8]>,
}
plain!(struct Ice { ours, theirs, muxes, bundled });

impl Ice {
    /// Whether the peer checks its connectivity to us.
    pub(crate) fn is_used(&self) -> bool {
        self.theirs.is_some()
    }
}

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
    if said == Said::Offer {
        ice.bundled = bundled(session, line).unwrap_or_default().into();
    }
    let of_session = || session.attribute(b"ice-ufrag");
    let theirs = line.attribute(b"ice-ufrag").or_else(of_session).map(Box::from);
    // A new name of the peer's is a restart, which is answered with new credentials (RFC 8445 §9).
    if said == Said::Offer && ice.theirs.is_some() && theirs.is_some() && ice.theirs != theirs {
        ice.ours = Some(turn.media.draw_ice());
    }
    ice.theirs = theirs;
    ice.theirs.as_ref().and(ice.ours)
}

/// What a line is called, if it is in a bundle.
fn bundled<'a>(session: &Session<'a>, line: &Media<'a>) -> Option<&'a [u8]> {
    let mid = line.attribute(b"mid").filter(|mid| !mid.is_empty())?;
    let groups = session.attributes().filter(|attribute| attribute.name == b"group");
    let mut bundles = groups.filter_map(|group| group.value.strip_prefix(b"BUNDLE "));
    bundles.any(|names| names.split(|byte| *byte == b' ').any(|name| name == mid)).then_some(mid)
}

/// What our description says of ICE: the lines, and whether RTCP shares the port.
pub(crate) struct Told {
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) rtcp_mux: bool,
    /// What the bundle has.
    pub(crate) bundle: Box<[u8]>,
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
    let bundle = if is_offer { Box::default() } else { ice.bundled.clone() };
    if !bundle.is_empty() {
        attributes.push([b"a=mid:", &bundle[..]].concat());
    }
    Some(Told { attributes, rtcp_mux, bundle })
}

/// A host candidate (RFC 8839 §5.1), of the priority that RFC 8445 §5.1.2.2 gives a single address.
fn candidate(component: u32, at: SocketAddr) -> Vec<u8> {
    let priority = (126 << 24) + (65_535 << 8) + (256 - component);
    let (ip, port) = (at.ip(), at.port());
    format!("a=candidate:1 {component} UDP {priority} {ip} {port} typ host").into_bytes()
}
