//! Whether a trunk's media is encrypted, and how.

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

/// How a trunk's media is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSecurity {
    /// Whether it is.
    pub srtp: Srtp,
    /// What is offered and taken, the preferred first.
    pub suites: Vec<Suite>,
    /// Keys may stand in SIP that is not encrypted itself.
    pub over_plain_sip: bool,
}

impl MediaSecurity {
    /// What is offered where nothing else is said.
    pub const SUITES: [Suite; 3] =
        [Suite::AeadAes256Gcm, Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80];
}

impl Default for MediaSecurity {
    fn default() -> MediaSecurity {
        let suites = MediaSecurity::SUITES.to_vec();
        MediaSecurity { srtp: Srtp::Off, suites, over_plain_sip: false }
    }
}
