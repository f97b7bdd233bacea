//! `srtp` and what belongs to it, of a `[[trunk]]`: whether and how its media is encrypted.

use super::read::{At, Report, Section};
use super::report::Problem;
use media::srtp::Suite;
use sbc::policy::security::{MediaSecurity, Srtp};
use sbc::policy::{Image, Transport};

const POLICIES: [(&str, Srtp); 3] =
    [("off", Srtp::Off), ("preferred", Srtp::Preferred), ("required", Srtp::Required)];

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
    let over_plain_sip = s.flag(report, "srtp_over_plain_sip", false);
    let is_misspelt = choice.is_none() && s.has_entries("srtp");
    if srtp == Srtp::Off && !is_misspelt {
        idle(s, "srtp_suites", listed.is_some(), report);
        idle(s, "srtp_over_plain_sip", over_plain_sip, report);
    } else if srtp != Srtp::Off && !transport.has_tls() && !over_plain_sip {
        let message = format!("keys of SRTP would cross in SIP over {}", transport.name());
        let problem = Problem::new(s.place("srtp"), message);
        let problem = problem.expected("`transport = \"tls\"`, where nobody else can read them");
        report
            .push(problem.help("or srtp_over_plain_sip = true, where the network can be trusted"));
    }
    let suites = suites(s, listed, report).unwrap_or(MediaSecurity::SUITES.to_vec());
    MediaSecurity { srtp, suites, over_plain_sip }
}

/// A key that does nothing without `srtp`.
fn idle(s: &Section<'_>, key: &str, given: bool, report: &mut Report) {
    if given {
        let problem = Problem::new(s.place(key), format!("`{key}` without `srtp`"));
        report.push(problem.expected("srtp = \"preferred\" or srtp = \"required\" beside it"));
    }
}

fn suites(
    s: &Section<'_>,
    listed: Option<Vec<At<Suite>>>,
    report: &mut Report,
) -> Option<Vec<Suite>> {
    let listed = listed?;
    let mut suites: Vec<Suite> = Vec::new();
    for At { value, span } in listed {
        if suites.contains(&value) {
            let message = format!("`{}` is listed twice", value.name());
            report.push(Problem::new(span, message).expected("every suite once"));
        } else {
            suites.push(value);
        }
    }
    if suites.is_empty() && !s.has_entries("srtp_suites") {
        let problem = Problem::new(s.place("srtp_suites"), "`srtp_suites` is empty");
        report.push(problem.expected("at least one suite"));
    }
    Some(suites)
}

/// What an operator should know of the trunks' keys.
pub fn notes(image: &Image) -> impl Iterator<Item = String> {
    let exposed = image
        .trunks
        .iter()
        .filter(|trunk| trunk.media_security.over_plain_sip && !trunk.transport.has_tls());
    exposed.map(|trunk| {
        let (name, transport) = (&trunk.name, trunk.transport.name());
        format!(
            "the SRTP keys of trunk `{name}` cross in SIP over {transport}: who reads it can listen"
        )
    })
}
