//! Whether the media of a call may go from one peer to the other, past us.

use super::security::Srtp;
use super::thresholds::Thresholds;
use super::{Dtmf, Rtcp, Trunk};
use crate::policy::profile::EarlyMedia;
use media::Learn;

/// What a trunk allows of that.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum MediaRelease {
    /// Its media goes through us.
    #[default]
    Never,
    /// It may go to and come from peers of the same interface.
    SameInterface,
    /// It may go to and come from any.
    Always,
}

impl MediaRelease {
    /// Whether both trunks of a call allow it, and neither has anything that media must pass us for.
    pub fn permits(near: &Trunk, far: &Trunk) -> bool {
        let is_same = near.interface == far.interface;
        let both = [near, far];
        both.iter().all(|trunk| match trunk.media_release {
            MediaRelease::Never => false,
            MediaRelease::SameInterface => is_same,
            MediaRelease::Always => true,
        }) && !both.iter().any(|trunk| needs_us(trunk))
    }
}

/// Whether media of a trunk is changed, checked or listened to by us.
pub fn needs_us(trunk: &Trunk) -> bool {
    trunk.media_security.srtp != Srtp::Off
        || trunk.ice
        || trunk.dtmf != Dtmf::Pass
        || trunk.tells_digits
        || trunk.rtcp != Rtcp::Pass
        || trunk.rtcp_xr
        || trunk.thresholds != Thresholds::default()
        || trunk.learn != Learn::Off
        || trunk.profile.early_media != EarlyMedia::Pass
}
