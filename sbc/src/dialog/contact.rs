//! Our Contact in a dialog (RFC 3261 8.1.1.8, 12.1.1).

use crate::message::{Name, NameAddr, Print};
use crate::policy::{Face, Profile};

/// Where a peer finds us within a dialog.
pub(crate) struct Contact<'a> {
    /// The listener.
    pub(crate) face: &'a Face,
    /// Our side of the dialog.
    pub(crate) local: &'a [u8],
    /// How the peer wants it said.
    pub(crate) profile: &'a Profile,
}

impl Contact<'_> {
    /// Adds the header field.
    pub(crate) fn print(&self, print: &mut Print) {
        print.line(Name::Contact, |v| {
            v.bytes(b"<sip:");
            if let Some(user) = self.user() {
                v.bytes(user).bytes(b"@");
            }
            match &self.profile.contact_host {
                Some(host) => v.bytes(host.as_bytes()).bytes(b":").bytes(self.port().as_bytes()),
                None => v.bytes(self.face.sent_by.as_bytes()),
            };
            if self.face.transport.is_stream() {
                v.bytes(b";transport=").bytes(self.face.transport.uri_param().as_bytes());
            }
            v.bytes(b">");
        });
    }

    fn port(&self) -> &str {
        self.face.sent_by.rsplit(':').next().unwrap_or_default()
    }

    fn user(&self) -> Option<&[u8]> {
        let local = NameAddr::parse(self.local).ok().filter(|_| self.profile.contact_number)?;
        local.read_uri().ok()?.user
    }
}
