//! Our Contact in a dialog (RFC 3261 8.1.1.8, 12.1.1); in one that is secure, a SIPS URI (RFC 5630 5.1).

use super::Dialog;
use crate::message::{Name, NameAddr, Print};
use crate::policy::{Face, Profile};

/// Where a peer finds us within a dialog.
pub(crate) struct Contact<'a> {
    /// The listener.
    pub(crate) face: &'a Face,
    /// The dialog.
    pub(crate) dialog: &'a Dialog,
    /// How the peer wants it said.
    pub(crate) profile: &'a Profile,
}

impl Contact<'_> {
    /// Adds the header field.
    pub(crate) fn print(&self, print: &mut Print) {
        print.line(Name::Contact, |v| {
            let is_secure = self.face.transport.has_tls() && self.dialog.is_secure();
            v.bytes(if is_secure { b"<sips:" } else { b"<sip:" });
            if let Some(user) = self.user() {
                v.bytes(user).bytes(b"@");
            }
            match &self.profile.contact_host {
                Some(host) => v.bytes(host.as_bytes()).bytes(b":").bytes(self.port().as_bytes()),
                None => v.bytes(self.face.sent_by.as_bytes()),
            };
            // RFC 5630 3.1.4: what carries a SIPS URI is TLS; of WebSockets it must still be said.
            let is_said = !is_secure || self.face.transport.is_websocket();
            if self.face.transport.is_stream() && is_said {
                v.bytes(b";transport=").bytes(self.face.transport.uri_param().as_bytes());
            }
            v.bytes(b">");
        });
    }

    fn port(&self) -> &str {
        self.face.sent_by.rsplit(':').next().unwrap_or_default()
    }

    fn user(&self) -> Option<&[u8]> {
        let local =
            NameAddr::parse(&self.dialog.local).ok().filter(|_| self.profile.contact_number)?;
        local.read_uri().ok()?.user
    }
}
