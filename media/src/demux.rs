//! What a datagram on a media port is, from its first two bytes (RFC 7983 §7, RFC 5761 §4).

use crate::verdict::Discard;

/// Which port of an endpoint a datagram arrived on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The RTP port.
    Rtp,
    /// The RTCP port.
    Rtcp,
}

impl Component {
    /// Both.
    pub(crate) const ALL: [Component; 2] = [Component::Rtp, Component::Rtcp];
}

/// What a datagram claims to be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// RTP (RFC 3550 §5).
    Rtp,
    /// RTCP (RFC 3550 §6).
    Rtcp,
    /// STUN (RFC 8489).
    Stun,
    /// DTLS (RFC 5764 §5.1.2).
    Dtls,
    /// An empty datagram (RFC 6263 §4.1).
    Keepalive,
    /// Something this endpoint does not speak.
    Refused(Discard),
}

/// Classifies a datagram that arrived on `component` of a leg with or without rtcp-mux.
pub fn classify(datagram: &[u8], component: Component, rtcp_mux: bool) -> Class {
    let [first, second, ..] = *datagram else {
        return match datagram {
            [] => Class::Keepalive,
            [..] => Class::Refused(Discard::Short),
        };
    };
    match first {
        0..=3 => Class::Stun,
        16..=19 => Class::Refused(Discard::Zrtp),
        20..=63 => Class::Dtls,
        64..=79 => Class::Refused(Discard::Turn),
        128..=191 => rtp_or_rtcp(second, component, rtcp_mux),
        80..=127 | 192..=255 => Class::Refused(Discard::BadVersion),
        4..=15 => Class::Refused(Discard::NotRtp),
    }
}

/// RFC 5761 §4: packet types 192..=223 are RTCP where both share a port. On an RTP port of its own only
/// the types that RFC 3551 §6 reserves against confusion (200..=204) are taken for stray RTCP, since
/// payload types 64..=95 with the marker set are legitimate there.
fn rtp_or_rtcp(second: u8, component: Component, rtcp_mux: bool) -> Class {
    match (component, second) {
        (Component::Rtcp, 192..=223) => Class::Rtcp,
        (Component::Rtcp, _) => Class::Refused(Discard::BadRtcp),
        (Component::Rtp, 192..=223) if rtcp_mux => Class::Rtcp,
        (Component::Rtp, 200..=204) => Class::Refused(Discard::UnexpectedRtcp),
        (Component::Rtp, _) => Class::Rtp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_one_class() {
        for first in 0..=255u8 {
            let expected = match first {
                0..=3 => Class::Stun,
                4..=15 => Class::Refused(Discard::NotRtp),
                16..=19 => Class::Refused(Discard::Zrtp),
                20..=63 => Class::Dtls,
                64..=79 => Class::Refused(Discard::Turn),
                80..=127 | 192.. => Class::Refused(Discard::BadVersion),
                128..=191 => Class::Rtp,
            };
            assert_eq!(classify(&[first, 0], Component::Rtp, false), expected, "{first}");
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_type_and_port() {
        let of = |second, component, mux| classify(&[0x80, second, 0, 0], component, mux);
        assert_eq!(of(200, Component::Rtcp, false), Class::Rtcp);
        assert_eq!(of(200, Component::Rtp, true), Class::Rtcp);
        assert_eq!(of(223, Component::Rtp, true), Class::Rtcp);
        assert_eq!(of(224, Component::Rtp, true), Class::Rtp);
        assert_eq!(of(201, Component::Rtp, false), Class::Refused(Discard::UnexpectedRtcp));
        assert_eq!(of(210, Component::Rtp, false), Class::Rtp);
        assert_eq!(of(0, Component::Rtcp, false), Class::Refused(Discard::BadRtcp));
        assert_eq!(classify(&[], Component::Rtp, false), Class::Keepalive);
        assert_eq!(classify(&[0x80], Component::Rtp, false), Class::Refused(Discard::Short));
    }
}
