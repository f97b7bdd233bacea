//! `a=fingerprint`, `a=setup` and `a=tls-id`: DTLS-SRTP in a session description (RFC 5763, RFC 8122, RFC
//! 8842). They stand in the media description, or in the session's for all of them.

use super::media::{Media, word};
use super::parse::Session;
use media::dtls::{Fingerprint, Hash};
use std::fmt::Write;

/// Which side begins, in its writer's words (RFC 4145 §4).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Setup {
    /// The writer does.
    Active,
    /// The reader is to.
    Passive,
    /// The reader chooses: offers alone.
    ActPass,
}

impl Setup {
    const fn name(self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
        }
    }
}

/// What a description says of its writer's DTLS.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Dtls<'a> {
    /// Which side begins. Without the line: in an offer the answerer chooses, in an answer its writer begins
    /// (RFC 8842 §8.1 has neither happen).
    pub setup: Option<Setup>,
    /// What its certificate hashes to, by the strongest hash we know.
    pub fingerprint: Fingerprint,
    /// Its name for the association.
    pub tls_id: Option<&'a [u8]>,
}

/// Fingerprints are there, and we can make nothing of them, or of the role.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Unusable;

impl<'a> Dtls<'a> {
    /// Reads what concerns a line; nothing where there is no fingerprint.
    pub fn read(session: &Session<'a>, line: &Media<'a>) -> Result<Option<Dtls<'a>>, Unusable> {
        let of_line = || line.attributes().filter(|a| a.name == b"fingerprint");
        let of_session = || session.attributes().filter(|a| a.name == b"fingerprint");
        let is_there = of_line().next().is_some();
        let values = || of_line().chain(of_session().filter(move |_| !is_there));
        if values().next().is_none() {
            return Ok(None);
        }
        // Of several of one hash the first: which certificate comes is the peer's choice, and has been made
        // by those who send one (RFC 8122 §5.1).
        let read = values().filter_map(|attribute| fingerprint(attribute.value));
        let mut best: Option<Fingerprint> = None;
        for found in read {
            if best.is_none_or(|best| best.hash() < found.hash()) {
                best = Some(found);
            }
        }
        let fingerprint = best.ok_or(Unusable)?;
        let value = |name| line.attribute(name).or_else(|| session.attribute(name));
        let setup = match value(b"setup") {
            None => None,
            Some(b"active") => Some(Setup::Active),
            Some(b"passive") => Some(Setup::Passive),
            Some(b"actpass") => Some(Setup::ActPass),
            Some(_) => return Err(Unusable),
        };
        Ok(Some(Dtls { setup, fingerprint, tls_id: value(b"tls-id") }))
    }
}

/// The value of `a=fingerprint`: hash and octets in hexadecimal, between colons.
fn fingerprint(value: &[u8]) -> Option<Fingerprint> {
    let (name, digits) = word(value);
    let hash = Hash::ALL.into_iter().find(|h| h.name().as_bytes().eq_ignore_ascii_case(name))?;
    let octet = |digits: &[u8]| {
        let digits = str::from_utf8(digits).ok().filter(|d| d.len() == 2 && !d.contains('+'))?;
        u8::from_str_radix(digits, 16).ok()
    };
    let mut digest = [0; 64];
    let mut len = 0;
    for digits in digits.split(|byte| *byte == b':') {
        *digest.get_mut(len)? = octet(digits)?;
        len += 1;
    }
    Fingerprint::new(hash, digest.get(..len)?)
}

/// Our lines, without their ends: a SHA-256, our role, our name for the association where it is said.
pub fn dtls_lines(digest: &[u8; 32], setup: Setup, tls_id: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut line = format!("a=fingerprint:{}", Hash::Sha256.name());
    for (i, octet) in digest.iter().enumerate() {
        let _ = write!(line, "{}{octet:02X}", if i == 0 { ' ' } else { ':' });
    }
    let mut lines = vec![line.into_bytes(), format!("a=setup:{}", setup.name()).into_bytes()];
    lines.extend(tls_id.map(|id| [b"a=tls-id:", id].concat()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parse;

    const HEX: &str = "4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:\
                       54:02:12:DF";

    fn read(head: &str, under: &str) -> Result<Option<(Option<Setup>, Hash, u8)>, Unusable> {
        let text = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{head}\
             m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n{under}"
        );
        let session = parse(text.as_bytes()).unwrap();
        let found = Dtls::read(&session, &session.media()[0])?;
        Ok(found.map(|d| (d.setup, d.fingerprint.hash(), d.fingerprint.digest()[0])))
    }

    #[test]
    fn fingerprints_are_read_where_they_stand() {
        let line = format!("a=fingerprint:sha-256 {HEX}\r\n");
        let expected = Ok(Some((Some(Setup::ActPass), Hash::Sha256, 0x4a)));
        assert_eq!(read("", &format!("{line}a=setup:actpass\r\n")), expected);
        assert_eq!(read(&format!("{line}a=setup:actpass\r\n"), ""), expected);
        assert_eq!(read(&line, ""), Ok(Some((None, Hash::Sha256, 0x4a))));
        assert_eq!(read("", ""), Ok(None));
        // The line's own counts; of several hashes the strongest, and those we do not trust are passed over.
        let other = line.replace("4A:AD", "5B:AD").to_lowercase();
        assert_eq!(read(&line, &other), Ok(Some((None, Hash::Sha256, 0x5b))));
        let sha1 = format!("a=fingerprint:sha-1 {}\r\n", &HEX[..59]);
        let long = format!("a=fingerprint:SHA-512 {HEX}:{HEX}\r\n");
        assert_eq!(read("", &format!("{sha1}{line}{long}")), Ok(Some((None, Hash::Sha512, 0x4a))));
    }

    #[test]
    fn what_cannot_be_used_is_said_to_be_so() {
        let line = format!("a=fingerprint:sha-256 {HEX}\r\n");
        let bad = [
            format!("a=fingerprint:sha-1 {}\r\n", &HEX[..59]),
            format!("a=fingerprint:sha-256 {}\r\n", &HEX[3..]),
            format!("a=fingerprint:sha-256 {HEX}:00\r\n"),
            "a=fingerprint:sha-256\r\n".into(),
            line.replace("4A", "+A"),
            line.replace("4A", "GG"),
            format!("{line}a=setup:holdconn\r\n"),
        ];
        for bad in bad {
            assert_eq!(read("", &bad), Err(Unusable), "{bad}");
        }
    }

    #[test]
    fn our_lines_read_back() {
        let lines = dtls_lines(&[0xab; 32], Setup::Passive, Some(b"abcdefghijklmnopqrst"));
        let text = lines.iter().map(|line| String::from_utf8_lossy(line) + "\r\n");
        let text: String = text.collect();
        assert_eq!(read("", &text), Ok(Some((Some(Setup::Passive), Hash::Sha256, 0xab))));
        assert!(text.ends_with("a=tls-id:abcdefghijklmnopqrst\r\n"));
    }
}
