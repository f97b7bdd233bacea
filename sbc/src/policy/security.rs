//! Whether a trunk's media is encrypted, and how.

use super::Image;
use media::dtls::Certificate;
use media::srtp::Suite;

/// Whether media is encrypted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Srtp {
    /// Never: an offer of encrypted media alone is refused.
    #[default]
    Off,
    /// Where the other side can (RFC 8643).
    Preferred,
    /// Always: what is not encrypted is refused.
    Required,
}

/// How both sides of a leg come to know its SRTP keys.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Keying {
    /// They stand in the session description (RFC 4568).
    Sdes,
    /// A DTLS handshake in the media path agrees upon them (RFC 5764).
    Dtls,
}

/// How a trunk's media is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSecurity {
    /// Whether it is.
    pub srtp: Srtp,
    /// How keys are agreed upon: offered and taken, the preferred first.
    pub keys: Vec<Keying>,
    /// What is offered and taken in descriptions, the preferred first. DTLS has [`MediaSecurity::SUITES`].
    pub suites: Vec<Suite>,
    /// What our certificate in handshakes has for a key.
    pub certificate: Certificate,
    /// Keys may stand in SIP that is not encrypted itself.
    pub over_plain_sip: bool,
}

impl MediaSecurity {
    /// What is offered where nothing else is said.
    pub const SUITES: [Suite; 3] =
        [Suite::AeadAes256Gcm, Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80];

    /// Our certificate in handshakes, where there are any.
    pub fn handshake(&self) -> Option<Certificate> {
        let has_dtls = self.srtp != Srtp::Off && self.keys.contains(&Keying::Dtls);
        has_dtls.then_some(self.certificate)
    }
}

impl Image {
    /// Whether a trunk's legs shake hands under this kind of certificate.
    pub fn shakes_hands_with(&self, certificate: Certificate) -> bool {
        let mut security = self.trunks.iter().map(|trunk| &trunk.media_security);
        security.any(|media| media.handshake() == Some(certificate))
    }
}

impl Default for MediaSecurity {
    fn default() -> MediaSecurity {
        let suites = MediaSecurity::SUITES.to_vec();
        let keys = vec![Keying::Sdes];
        let certificate = Certificate::default();
        MediaSecurity { srtp: Srtp::Off, keys, suites, certificate, over_plain_sip: false }
    }
}
