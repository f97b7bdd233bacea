//! Whether a second answer says what the first one said (RFC 3264 §6, RFC 3261 §13.2.2.4).

use super::media::Media;
use super::parse::Session;

/// Whether two answers are the same as far as the offerer is concerned: the same media lines, in
/// kind, protocol, formats, what the formats mean, acceptance and direction. Addresses may differ.
pub fn compatible(first: &Session<'_>, second: &Session<'_>) -> bool {
    let (first, second) = (first.media(), second.media());
    first.len() == second.len() && first.iter().zip(second).all(|(a, b)| same_line(a, b))
}

fn same_line(first: &Media<'_>, second: &Media<'_>) -> bool {
    if first.raw_kind != second.raw_kind || first.protocol != second.protocol {
        return false;
    }
    if first.is_refused() || second.is_refused() {
        return first.is_refused() == second.is_refused();
    }
    first.direction == second.direction
        && first.formats().eq(second.formats())
        && first.formats().all(|format| {
            let same =
                |name: &[u8]| first.of_format(name, format) == second.of_format(name, format);
            same(b"rtpmap") && same(b"fmtp")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parse;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
        m=video 0 RTP/AVP 31\r\n";

    fn same(from: &str, to: &str) -> bool {
        let other = ANSWER.replace(from, to);
        assert_ne!(other, ANSWER);
        let (first, second) = (parse(ANSWER.as_bytes()).unwrap(), parse(other.as_bytes()).unwrap());
        compatible(&first, &second) && compatible(&second, &first)
    }

    #[test]
    fn addresses_may_differ_and_nothing_else() {
        assert!(same("192.0.2.1", "192.0.2.2"));
        assert!(same("4000", "5000"));
        assert!(same("m=audio", "a=x\r\nm=audio"));
        assert!(same("video 0 RTP/AVP 31", "video 0 RTP/AVP 32"));
        assert!(!same("0 101", "8 101"));
        assert!(!same("0 101", "101 0"));
        assert!(!same("0-15", "0-11"));
        assert!(!same("telephone-event", "CN"));
        assert!(!same("video 0", "video 9"));
        assert!(!same("m=video 0 RTP/AVP 31\r\n", ""));
        assert!(!same("RTP/AVP 0 101", "RTP/SAVP 0 101"));
        assert!(!same("a=fmtp", "a=sendonly\r\na=fmtp"));
        assert!(!same("192.0.2.1\r\nt=", "0.0.0.0\r\nt="));
    }
}
