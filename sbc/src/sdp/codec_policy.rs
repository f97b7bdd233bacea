//! Which codecs an offer may have, and in which order (RFC 3264 5.1): what a trunk allows, forbids and prefers.
//!
//! Telephone events and comfort noise stay with a codec of their clock rate (RFC 4733 2.5.1, RFC 3389 5),
//! redundancy with what it repeats (RFC 2198). An answer is made from what an offer had, so only offers are
//! looked at. Nothing is transcoded.

use super::media::Media;
use std::fmt;

/// A codec by name, as `a=rtpmap` or RFC 3551 call it; with a clock rate, of that rate alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codec {
    name: Box<[u8]>,
    rate: Option<u32>,
}

impl Codec {
    /// Reads `PCMA` or `opus/48000`.
    pub fn parse(text: &str) -> Option<Codec> {
        let (name, rate) = match text.split_once('/') {
            Some((name, rate)) => (name, Some(rate.parse().ok().filter(|rate| *rate > 0)?)),
            None => (text, None),
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        let is_name = (1..=32).contains(&name.len()) && name.bytes().all(good);
        is_name.then(|| Codec { name: name.as_bytes().into(), rate })
    }

    fn is(&self, media: &Media<'_>, payload_type: u8) -> bool {
        let name = media.encoding(payload_type).unwrap_or_default();
        name.eq_ignore_ascii_case(&self.name)
            && self.rate.is_none_or(|rate| media.clock_rate(payload_type) == Some(rate))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.name))?;
        self.rate.map_or(Ok(()), |rate| write!(f, "/{rate}"))
    }
}

/// What a trunk makes of offers in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecPolicy {
    /// These and no others; empty for all.
    pub allow: Vec<Codec>,
    /// None of these.
    pub forbid: Vec<Codec>,
    /// These first, in this order.
    pub prefer: Vec<Codec>,
}

impl CodecPolicy {
    fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.forbid.is_empty() && self.prefer.is_empty()
    }

    fn permits(&self, media: &Media<'_>, payload_type: u8) -> bool {
        let listed = |list: &[Codec]| list.iter().any(|codec| codec.is(media, payload_type));
        let allowed =
            self.allow.is_empty() || is_companion(media, payload_type) || listed(&self.allow);
        allowed && !listed(&self.forbid)
    }

    fn rank(&self, media: &Media<'_>, payload_type: u8) -> usize {
        let place = self.prefer.iter().position(|codec| codec.is(media, payload_type));
        place.unwrap_or(self.prefer.len())
    }
}

/// Formats that carry no speech of their own.
fn is_companion(media: &Media<'_>, payload_type: u8) -> bool {
    let name = media.encoding(payload_type).unwrap_or_default();
    [&b"telephone-event"[..], b"CN", b"red"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The formats of an offered line that its sender may offer and its receiver be offered, as an `m=` line
/// has them; the receiver's preference comes first. `None`: nobody could speak.
pub fn choose(media: &Media<'_>, from: &CodecPolicy, to: &CodecPolicy) -> Option<Vec<u8>> {
    if from.is_empty() && to.is_empty() {
        return Some(media.raw_formats.to_vec());
    }
    let permitted =
        |payload_type: &u8| from.permits(media, *payload_type) && to.permits(media, *payload_type);
    let mut kept: Vec<u8> = media.payload_types().filter(permitted).collect();
    let speech: Vec<u8> = kept.iter().copied().filter(|pt| !is_companion(media, *pt)).collect();
    if speech.is_empty() {
        return None;
    }
    let has_rate = |rate| speech.iter().any(|pt| media.clock_rate(*pt) == rate);
    kept.retain(|pt| {
        !is_companion(media, *pt)
            || (has_rate(media.clock_rate(*pt))
                && repeats(media, *pt).all(|pt| speech.contains(&pt)))
    });
    kept.sort_by_key(|pt| (to.rank(media, *pt), from.rank(media, *pt)));
    let texts: Vec<String> = kept.iter().map(u8::to_string).collect();
    Some(texts.join(" ").into_bytes())
}

/// What a redundant format repeats: `a=fmtp:121 0/5` (RFC 2198 5).
fn repeats<'a>(media: &Media<'a>, payload_type: u8) -> impl Iterator<Item = u8> + use<'a> {
    let is_red = media.encoding(payload_type).is_some_and(|name| name.eq_ignore_ascii_case(b"red"));
    let format = payload_type.to_string();
    let value = media.fmtp(format.as_bytes()).filter(|_| is_red).unwrap_or_default();
    let pieces = value.split(|byte| *byte == b'/').map(<[u8]>::trim_ascii);
    pieces.filter_map(|piece| str::from_utf8(piece).ok()?.parse().ok())
}

/// Whether an attribute is about a format that is not among these.
pub(super) fn is_about_another(name: &[u8], value: &[u8], formats: &[u8]) -> bool {
    if !matches!(name, b"rtpmap" | b"fmtp" | b"rtcp-fb") {
        return false;
    }
    let format = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    format != b"*" && !formats.split(|byte| *byte == b' ').any(|kept| kept == format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parse;

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 111 9 0 8 18 13 101 102 121\r\n\
        a=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=rtpmap:102 telephone-event/48000\r\na=rtpmap:121 red/8000\r\na=fmtp:121 0/8\r\n";

    fn chosen(from: &CodecPolicy, to: &CodecPolicy) -> Option<String> {
        let session = parse(OFFER.as_bytes()).unwrap();
        choose(&session.media()[0], from, to).map(|kept| String::from_utf8(kept).unwrap())
    }

    fn codecs(names: &[&str]) -> Vec<Codec> {
        names.iter().map(|name| Codec::parse(name).unwrap()).collect()
    }

    fn policy(allow: &[&str], forbid: &[&str], prefer: &[&str]) -> CodecPolicy {
        CodecPolicy { allow: codecs(allow), forbid: codecs(forbid), prefer: codecs(prefer) }
    }

    #[test]
    fn what_stays_and_in_which_order() {
        let all = CodecPolicy::default;
        let cases = [
            (all(), all(), Some("111 9 0 8 18 13 101 102 121")),
            (all(), policy(&["PCMA"], &[], &[]), Some("8 13 101")),
            (policy(&["pcma", "OPUS"], &[], &[]), all(), Some("111 8 13 101 102")),
            (all(), policy(&["opus/48000"], &[], &[]), Some("111 102")),
            (all(), policy(&["opus/16000"], &[], &[]), None),
            (all(), policy(&[], &["G729", "telephone-event"], &[]), Some("111 9 0 8 13 121")),
            (
                all(),
                policy(&[], &["CN", "red", "telephone-event/48000"], &["PCMA", "PCMU"]),
                Some("8 0 111 9 18 101"),
            ),
            (
                policy(&[], &[], &["G729"]),
                policy(&[], &[], &["PCMU"]),
                Some("0 18 111 9 8 13 101 102 121"),
            ),
            (policy(&["G729"], &[], &[]), policy(&["PCMU"], &[], &[]), None),
            (all(), policy(&["AMR"], &[], &[]), None),
        ];
        for (from, to, expected) in cases {
            assert_eq!(chosen(&from, &to).as_deref(), expected, "{from:?} {to:?}");
        }
    }

    #[test]
    fn names_are_read_with_or_without_a_rate() {
        assert!(Codec::parse("opus/48000").is_some() && Codec::parse("telephone-event").is_some());
        for bad in ["", "PCMA/", "PCMA/x", "PCMA/0", "a b", "a/8000/2"] {
            assert_eq!(Codec::parse(bad), None, "{bad}");
        }
    }
}
