//! `srtp` and what belongs to it, of a `[[trunk]]`: whether and how its media is encrypted.

use super::read::{At, Report, Section};
use super::report::Problem;
use media::dtls::{Certificate, HAS_RSA};
use media::srtp::Suite;
use sbc::policy::security::{Keying, MediaSecurity, Srtp};
use sbc::policy::{Image, Transport};
use std::ops::Range;

const POLICIES: [(&str, Srtp); 3] =
    [("off", Srtp::Off), ("preferred", Srtp::Preferred), ("required", Srtp::Required)];

const KEYINGS: [(&str, Keying); 2] = [("sdes", Keying::Sdes), ("dtls", Keying::Dtls)];

const CERTIFICATES: [(&str, Certificate); 2] =
    [("ecdsa", Certificate::Ecdsa), ("rsa", Certificate::Rsa)];

/// Reads the keys of a trunk whose SIP is carried by `transport`.
pub(super) fn read(
    s: &mut Section<'_>,
    transport: Transport,
    report: &mut Report,
) -> MediaSecurity {
    let choice = s.choice(report, "srtp", &POLICIES);
    let srtp = choice.unwrap_or_default();
    let what =
        format!("one of {}", Suite::ALL.map(|suite| format!("\"{}\"", suite.name())).join(", "));
    let suite = |text: &str| Suite::named(text.as_bytes());
    let listed = s.parsed_list(report, "srtp_suites", &what, suite);
    let keying = |text: &str| KEYINGS.iter().find(|(name, _)| *name == text).map(|found| found.1);
    let keys = s.parsed_list(report, "srtp_keys", "\"sdes\" or \"dtls\"", keying);
    let over_plain_sip = s.flag(report, "srtp_over_plain_sip", false);
    let has_certificate = s.has("dtls_certificate");
    let certificate = s.choice(report, "dtls_certificate", &CERTIFICATES).unwrap_or_default();
    if let Some(problem) = unbuilt(s.place("dtls_certificate"), certificate, HAS_RSA) {
        report.push(problem);
    }
    let is_misspelt = choice.is_none() && s.has_entries("srtp");
    if srtp == Srtp::Off && !is_misspelt {
        idle(s, "srtp_suites", listed.is_some(), report);
        idle(s, "srtp_keys", keys.is_some(), report);
        idle(s, "srtp_over_plain_sip", over_plain_sip, report);
        idle(s, "dtls_certificate", has_certificate, report);
    }
    let keys = each_once(s, "srtp_keys", keys, report, |keying: Keying| {
        KEYINGS.iter().find(|(_, k)| *k == keying).map_or("", |(name, _)| name)
    });
    let keys = keys.unwrap_or(vec![Keying::Sdes]);
    let has_sdes = keys.contains(&Keying::Sdes);
    if srtp != Srtp::Off && has_sdes && !transport.has_tls() && !over_plain_sip {
        let message = format!("keys of SRTP would cross in SIP over {}", transport.name());
        let problem = Problem::new(s.place("srtp"), message);
        let problem = problem.expected("`transport = \"tls\"`, where nobody else can read them");
        report.push(problem.help(
            "or srtp_keys = [\"dtls\"], whose keys cross nowhere; \
             or srtp_over_plain_sip = true, where the network can be trusted",
        ));
    }
    if srtp != Srtp::Off && !has_sdes {
        let because =
            "`srtp_keys` has \"sdes\": with DTLS the suite is agreed upon in the handshake";
        for (key, given) in
            [("srtp_suites", listed.is_some()), ("srtp_over_plain_sip", over_plain_sip)]
        {
            if given {
                let message = format!("`{key}` without \"sdes\"");
                report.push(Problem::new(s.place(key), message).expected(because));
            }
        }
    }
    let is_needless = certificate != Certificate::default() && !keys.contains(&Keying::Dtls);
    if srtp != Srtp::Off && is_needless {
        let message = "`dtls_certificate` without \"dtls\"";
        let problem = Problem::new(s.place("dtls_certificate"), message);
        report.push(problem.expected("\"dtls\" in `srtp_keys`"));
    }
    let suites = each_once(s, "srtp_suites", listed, report, Suite::name);
    let suites = suites.unwrap_or(MediaSecurity::SUITES.to_vec());
    MediaSecurity { srtp, keys, suites, certificate, over_plain_sip }
}

/// A certificate that this program was built without.
fn unbuilt(at: Range<usize>, certificate: Certificate, has_rsa: bool) -> Option<Problem> {
    let is_missing = certificate == Certificate::Rsa && !has_rsa;
    is_missing.then(|| {
        let message = "this sbcd was built without RSA for DTLS";
        let problem = Problem::new(at, message);
        let problem = problem.expected("\"ecdsa\", which every peer of the last ten years has");
        problem.help(
            "or build it with `cargo build --release -p engine --features dtls-openssl`, which wants libssl-dev",
        )
    })
}

/// A key that does nothing without `srtp`.
fn idle(s: &Section<'_>, key: &str, given: bool, report: &mut Report) {
    if given {
        let problem = Problem::new(s.place(key), format!("`{key}` without `srtp`"));
        report.push(problem.expected("srtp = \"preferred\" or srtp = \"required\" beside it"));
    }
}

/// The values of a list that may have each once, and at least one.
fn each_once<T: Copy + PartialEq>(
    s: &Section<'_>,
    key: &str,
    listed: Option<Vec<At<T>>>,
    report: &mut Report,
    name: impl Fn(T) -> &'static str,
) -> Option<Vec<T>> {
    let listed = listed?;
    let mut values: Vec<T> = Vec::new();
    for At { value, span } in listed {
        if values.contains(&value) {
            let message = format!("`{}` is listed twice", name(value));
            report.push(Problem::new(span, message).expected("each of them once"));
        } else {
            values.push(value);
        }
    }
    if values.is_empty() && !s.has_entries(key) {
        let problem = Problem::new(s.place(key), format!("`{key}` is empty"));
        report.push(problem.expected("at least one"));
    }
    Some(values)
}

/// What an operator should know of the trunks' keys.
pub fn notes(image: &Image) -> impl Iterator<Item = String> {
    let exposed = image.trunks.iter().filter(|trunk| !trunk.transport.has_tls());
    exposed.filter_map(|trunk| {
        let (name, transport) = (&trunk.name, trunk.transport.name());
        let MediaSecurity { srtp, keys, over_plain_sip, .. } = &trunk.media_security;
        if *over_plain_sip {
            Some(format!(
                "the SRTP keys of trunk `{name}` cross in SIP over {transport}: who reads it can listen"
            ))
        } else if *srtp != Srtp::Off && keys.contains(&Keying::Dtls) {
            Some(format!(
                "the fingerprints of trunk `{name}` cross in SIP over {transport}: who alters it can listen"
            ))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_built_in_is_refused_with_its_remedy() {
        let problem = unbuilt(3..8, Certificate::Rsa, false).expect("a problem");
        assert_eq!(problem.span, 3..8);
        assert!(problem.help.is_some_and(|help| help.contains("--features dtls-openssl")));
        assert!(unbuilt(3..8, Certificate::Rsa, true).is_none());
        assert!(unbuilt(3..8, Certificate::Ecdsa, false).is_none());
    }
}
