//! Which requests, and which bodies of theirs, cross a trunk besides those a call is made of.
//!
//! A request crosses when both its trunks list its method. What it carries is looked at by type only.

use super::Trunk;
use crate::counters::NotPassed;
use crate::message::{Message, Method};

/// The largest body that is carried: a request over UDP has no room for more (RFC 3261 18.1.1).
const MAX_BODY: usize = 1_300;

/// Whether a request may cross all of these trunks.
pub(crate) fn may_cross(trunks: &[&Trunk], message: &Message) -> Result<(), NotPassed> {
    let method = message.method().map_or(&b""[..], Method::as_bytes);
    if !trunks.iter().all(|trunk| trunk.methods.permits(method)) {
        return Err(NotPassed::Method);
    }
    let (kind, body) = (message.content_type().unwrap_or_default(), message.body());
    if !body.is_empty() && !trunks.iter().all(|trunk| trunk.bodies.permits(kind)) {
        return Err(NotPassed::Body);
    }
    if body.len() > MAX_BODY { Err(NotPassed::TooLarge) } else { Ok(()) }
}

/// Methods every trunk serves.
const SERVED: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE";

/// What a trunk lists, and the Allow header that follows (RFC 3261 20.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    listed: Vec<Box<[u8]>>,
    allow: Box<[u8]>,
}

impl Methods {
    /// A trunk that lists these, besides those served anyhow.
    pub fn new<'m>(listed: impl IntoIterator<Item = &'m [u8]>) -> Methods {
        let listed: Vec<Box<[u8]>> = listed.into_iter().map(Into::into).collect();
        Methods { listed, allow: Box::default() }.concealing(&[])
    }

    /// The same, with peers told of all but these of those every trunk serves.
    pub fn concealing(mut self, concealed: &[Box<str>]) -> Methods {
        let is_told = |method: &&str| !concealed.iter().any(|c| **c == **method);
        let served = SERVED.split(", ").filter(is_told).map(str::as_bytes);
        let told: Vec<&[u8]> = served.chain(self.listed.iter().map(|listed| &**listed)).collect();
        self.allow = told.join(&b", "[..]).into();
        self
    }

    /// The same, with peers told of one more that we serve ourselves.
    pub fn serving(mut self, method: &[u8]) -> Methods {
        if !self.tells_of(method) {
            self.allow = [&self.allow, &b", "[..], method].concat().into();
        }
        self
    }

    /// Whether a method every trunk serves may be left out of Allow: no call is without the others.
    pub fn may_be_concealed(method: &str) -> bool {
        matches!(method, "OPTIONS" | "PRACK" | "UPDATE")
    }

    /// Whether peers are told of a method.
    pub fn tells_of(&self, method: &[u8]) -> bool {
        self.allow.split(|byte| *byte == b',').any(|told| told.trim_ascii() == method)
    }

    /// Whether requests with this method cross.
    pub fn permits(&self, method: &[u8]) -> bool {
        self.listed.iter().any(|listed| **listed == *method)
    }

    /// The Allow header.
    pub fn allow(&self) -> &[u8] {
        &self.allow
    }

    /// Whether every trunk serves this method, so that listing it would mean nothing.
    pub fn is_served(method: &[u8]) -> bool {
        SERVED.split(", ").any(|served| served.as_bytes() == method)
    }
}

impl Default for Methods {
    fn default() -> Self {
        Methods::new([b"INFO".as_slice()])
    }
}

/// Types of bodies that cross a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bodies(Vec<Box<[u8]>>);

impl Bodies {
    /// These, `type/subtype` in lower case; `*` is every type.
    pub fn new<'b>(types: impl IntoIterator<Item = &'b [u8]>) -> Bodies {
        Bodies(types.into_iter().map(Into::into).collect())
    }

    /// Whether a body with this Content-Type crosses.
    pub fn permits(&self, content_type: &[u8]) -> bool {
        let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.0.iter().any(|listed| **listed == *b"*" || kind.eq_ignore_ascii_case(listed))
    }

    /// The Accept header of a refusal (RFC 3261 21.4.13).
    pub fn accept(&self) -> Vec<u8> {
        let mut accept = b"application/sdp".to_vec();
        for kind in &self.0 {
            accept.extend_from_slice(b", ");
            accept.extend_from_slice(if **kind == *b"*" { b"*/*" } else { kind });
        }
        accept
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Bodies::new([
            b"application/dtmf-relay".as_slice(),
            b"application/dtmf",
            b"application/media_control+xml",
            b"message/sipfrag",
            b"text/plain",
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_allowed_and_said_so() {
        let methods = Methods::new([b"INFO".as_slice(), b"FROBNICATE"]);
        assert!(methods.permits(b"FROBNICATE") && !methods.permits(b"frobnicate"));
        assert!(!methods.permits(b"REFER"));
        let allow = format!("{SERVED}, INFO, FROBNICATE");
        assert_eq!(methods.allow(), allow.as_bytes());
        assert!(Methods::is_served(b"PRACK") && !Methods::is_served(b"INFO"));
        let methods = methods.concealing(&["PRACK".into(), "UPDATE".into()]);
        assert_eq!(methods.allow(), b"INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, FROBNICATE");
        assert!(methods.tells_of(b"INFO") && !methods.tells_of(b"PRACK"));
    }

    #[test]
    fn bodies_are_told_by_type_alone() {
        let bodies = Bodies::new([b"application/isup".as_slice()]);
        assert!(bodies.permits(b"Application/ISUP ; version=itu-t92+"));
        assert!(!bodies.permits(b"application/sdp") && !bodies.permits(b""));
        assert!(Bodies::new([b"*".as_slice()]).permits(b"anything/else"));
        assert_eq!(bodies.accept(), b"application/sdp, application/isup");
    }
}
