//! What crosses, header by header.

use super::*;
use crate::message::{Index, Method, Print, parse};
use crate::policy::profile::Redirections;
use crate::policy::{CliRule, Profile, Trunk};
use routing_trie::{DialPlan, Rewrite};

fn trunk(profile: Profile) -> Trunk {
    let dial_plan = DialPlan {
        trunk: "0".parse().unwrap(),
        country: "44".parse().unwrap(),
        ..DialPlan::default()
    };
    Trunk { profile, dial_plan, ..Trunk::default() }
}

fn believing(believes: Believes) -> Profile {
    Profile { believes, ..Profile::default() }
}

fn telling(identity: Identity) -> Profile {
    Profile { identity, ..Profile::default() }
}

fn redirecting(redirections: Redirections, identity: Identity) -> Profile {
    Profile { redirections, identity, ..Profile::default() }
}

/// From, then the other header fields that leave, of an INVITE with these.
fn cross(near: Profile, far: Profile, from: &str, lines: &str) -> String {
    between(&trunk(near), &trunk(far), from, lines)
}

fn between(near: &Trunk, far: &Trunk, from: &str, lines: &str) -> String {
    let text = format!(
        "INVITE sip:1@node SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: {from};tag=1\r\n\
         To: <sip:1@node>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
    );
    let mut index = Index::new();
    let message = parse(text.as_bytes(), &mut index).unwrap();
    let boundary = Boundary { near, far, trusted: false };
    let mut out = Vec::new();
    let mut print = Print::request(&mut out, Method::Invite, b"sip:2@far");
    pass(&message, &boundary, Some(b"sip:2@far"), &mut print);
    print.finish();
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> =
        out.lines().skip(1).take_while(|l| !l.starts_with("Content-Length")).collect();
    let from = String::from_utf8(super::from(&message, &boundary, b"us:5060").into()).unwrap();
    [&[from.as_str()], &lines[..]].concat().join("\n")
}

const ALICE: &str = "\"Alice\" <sip:+442079460001@pbx>";
const ASSERTED: &str =
    "P-Asserted-Identity: \"A\" <sip:+442079460002@a>, <tel:+442079460002>;x=1\r\n";
const OURS: &str = "\"Alice\" <sip:+442079460001@us:5060>";

#[test]
fn an_asserted_identity_goes_from_who_is_believed_to_who_is_told() {
    let ims = || believing(Believes::Asserted);
    assert_eq!(
        cross(ims(), telling(Identity::Asserted), ALICE, ASSERTED),
        format!(
            "{OURS}\nP-Asserted-Identity: \"A\" <sip:+442079460002@a>\n\
             P-Asserted-Identity: <tel:+442079460002>"
        )
    );
    assert_eq!(cross(ims(), telling(Identity::Withheld), ALICE, ASSERTED), OURS);
    let doubted = cross(Profile::default(), telling(Identity::Asserted), ALICE, ASSERTED);
    assert_eq!(doubted, OURS);
    assert_eq!(
        cross(ims(), telling(Identity::Preferred), ALICE, ASSERTED),
        format!("{OURS}\nP-Preferred-Identity: \"A\" <sip:+442079460002@a>")
    );
    assert_eq!(
        cross(ims(), telling(Identity::RemoteParty), ALICE, &format!("{ASSERTED}Privacy: id\r\n")),
        format!(
            "{OURS}\nRemote-Party-ID: \"A\" \
             <sip:+442079460002@a>;party=calling;privacy=full;screen=yes\nPrivacy: id"
        )
    );
}

#[test]
fn old_and_claimed_identities_are_read_where_they_are_believed() {
    let party = "Remote-Party-ID: <sip:5@x>;party=calling;privacy=off\r\n";
    let pai = || telling(Identity::Asserted);
    let told = |identity: &str| format!("{OURS}\nP-Asserted-Identity: {identity}");
    assert_eq!(cross(believing(Believes::Asserted), pai(), ALICE, party), told("<sip:5@x>"));
    let claimed = "P-Preferred-Identity: <sip:6@x>\r\n";
    assert_eq!(cross(believing(Believes::From), pai(), ALICE, claimed), told("<sip:6@x>"));
    assert_eq!(cross(believing(Believes::From), pai(), ALICE, ASSERTED), told(ALICE));
    // Nobody is asserted to be anonymous.
    let nobody = "<sip:anonymous@anonymous.invalid>";
    assert_eq!(cross(believing(Believes::From), pai(), nobody, ""), "<sip:anonymous@us:5060>");
}

#[test]
fn who_withholds_is_the_privacy_service() {
    let hidden = String::from_utf8(ANONYMOUS.into()).unwrap();
    let near = || believing(Believes::Asserted);
    for privacy in ["id", "user", "header;id;critical", "none, id", " id ; session"] {
        let lines = format!("{ASSERTED}Privacy: {privacy}\r\n");
        let outside = cross(near(), Profile::default(), ALICE, &lines);
        let wanted = if privacy.contains("none") { OURS } else { &*hidden };
        assert_eq!(outside, wanted, "{privacy}");
        let inside = cross(near(), telling(Identity::Asserted), ALICE, &lines);
        assert!(inside.starts_with(OURS) && inside.contains("\nPrivacy: "), "{inside}");
    }
    let outside = cross(near(), Profile::default(), ALICE, "Privacy: header;session\r\n");
    assert_eq!(outside, OURS);
}

#[test]
fn from_is_written_as_the_profile_says() {
    let from = |far: Profile, from: &str| cross(Profile::default(), far, from, "");
    let form = |from_form| Profile { from_form, user_phone: true, ..Profile::default() };
    let national = "<sip:02079460001;x=y@pbx>";
    assert_eq!(from(form(NumberForm::E164), national), "<sip:+442079460001@us:5060;user=phone>");
    assert_eq!(from(form(NumberForm::Digits), national), "<sip:442079460001@us:5060;user=phone>");
    assert_eq!(from(form(NumberForm::AsItCame), national), "<sip:02079460001;x=y@us:5060>");
    assert_eq!(from(form(NumberForm::E164), "<sip:bob@pbx>"), "<sip:bob@us:5060>");
    let hosted = Profile { from_host: Some("sip.us.example".into()), ..Profile::default() };
    assert_eq!(from(hosted, ALICE), "\"Alice\" <sip:+442079460001@sip.us.example>");
}

#[test]
fn callers_numbers_follow_the_rules_of_both_trunks() {
    let d = |text: &str| text.parse().unwrap();
    let rule = |begins, strip, prepend| CliRule {
        begins: d(begins),
        rewrite: Rewrite { strip, prepend: d(prepend) },
        replace: None,
    };
    let other = |begins, number| CliRule {
        begins: d(begins),
        replace: Some(d(number)),
        ..CliRule::default()
    };
    let from = |cli_in: CliRule, cli_out: CliRule, from: &str| {
        let near = Trunk { cli_in, ..trunk(Profile::default()) };
        let far = Trunk { cli_out, ..trunk(Profile::default()) };
        between(&near, &far, from, "")
    };
    let idle = CliRule::default;
    let national = "<sip:02079460001@pbx>";
    assert_eq!(from(idle(), idle(), national), "<sip:02079460001@us:5060>");
    // Rules see numbers that are international.
    assert_eq!(from(rule("44", 2, "0"), idle(), national), "<sip:02079460001@us:5060>");
    assert_eq!(
        from(idle(), rule("44", 0, "00"), "<sip:+442079460001@pbx>"),
        "<sip:+00442079460001@us:5060>"
    );
    assert_eq!(from(rule("", 2, "1"), rule("1", 1, "99"), national), "<sip:992079460001@us:5060>");
    assert_eq!(from(rule("49", 2, "0"), idle(), national), "<sip:442079460001@us:5060>");
    assert_eq!(from(idle(), other("44", "33123"), national), "<sip:33123@us:5060>");
    assert_eq!(from(idle(), other("", "33123"), "<sip:bob@pbx>"), "<sip:+33123@us:5060>");
    assert_eq!(from(idle(), other("44", "33123"), "<sip:bob@pbx>"), "<sip:bob@us:5060>");
    // A rule that cannot be followed leaves the number alone.
    assert_eq!(from(idle(), rule("", 30, ""), national), "<sip:442079460001@us:5060>");
}

#[test]
fn rules_about_callers_numbers_hold_for_every_identity_that_is_told() {
    let d = |text: &str| text.parse().unwrap();
    let other = CliRule { begins: d("44"), replace: Some(d("33123")), ..CliRule::default() };
    let near = trunk(believing(Believes::Asserted));
    let far = Trunk { cli_out: other.clone(), ..trunk(telling(Identity::Asserted)) };
    assert_eq!(
        between(&near, &far, ALICE, ASSERTED),
        "\"Alice\" <sip:+33123@us:5060>\n\
         P-Asserted-Identity: \"A\" <sip:+33123@a>\n\
         P-Asserted-Identity: <tel:+33123>"
    );
    let far = Trunk { cli_out: other, ..trunk(telling(Identity::RemoteParty)) };
    let told = between(&near, &far, ALICE, ASSERTED);
    assert!(told.contains("Remote-Party-ID: \"A\" <sip:+33123@a>;party=calling"), "{told}");
    // Who is no number, or another one, stays who it is.
    let bob = "P-Asserted-Identity: <sip:bob@a>, <tel:+49301>\r\n";
    let told = between(&near, &far, ALICE, bob);
    assert!(told.contains("<sip:bob@a>"), "{told}");
}

const TWICE: &str = "Diversion: <sip:3@b>;reason=no-answer;counter=1;privacy=off, \
                     \"C\" <tel:+4>;reason=\"user-busy\";counter=2;privacy=full\r\n";

#[test]
fn diversions_become_history() {
    let to = |identity| redirecting(Redirections::HistoryInfo, identity);
    assert_eq!(
        cross(Profile::default(), to(Identity::Asserted), ALICE, TWICE),
        format!(
            "{OURS}\nHistory-Info: <tel:+4>;index=1\n\
             History-Info: <sip:unknown@unknown.invalid;cause=486>;index=1.1;mp=1\n\
             History-Info: <sip:3@b;cause=486>;index=1.1.1;mp=1.1\n\
             History-Info: <sip:2@far;cause=408>;index=1.1.1.1;mp=1.1.1"
        )
    );
    let outside = cross(Profile::default(), to(Identity::Withheld), ALICE, TWICE);
    assert!(outside.contains("<sip:anonymous@anonymous.invalid?Privacy=history>;index=1\n"));
    assert_eq!(cross(Profile::default(), to(Identity::Asserted), ALICE, ""), OURS);
}

const HISTORY: &str = "History-Info: <sip:4@a?Privacy=history>;index=1, <sip:3@b;x=1;cause=486>;index=1.1;mp=1\r\n\
                       History-Info: <sip:3@b2>;index=1.1.1, <sip:2@us;cause=302>;index=1.2;mp=1.1\r\n";

#[test]
fn history_becomes_diversions() {
    let to = |identity| redirecting(Redirections::Diversion, identity);
    assert_eq!(
        cross(Profile::default(), to(Identity::Asserted), ALICE, HISTORY),
        format!(
            "{OURS}\nDiversion: <sip:3@b;x=1>;reason=unconditional;counter=1;privacy=off\n\
             Diversion: <sip:4@a>;reason=user-busy;counter=1;privacy=full"
        )
    );
    let outside = cross(Profile::default(), to(Identity::Withheld), ALICE, HISTORY);
    assert!(
        outside
            .ends_with("<sip:anonymous@anonymous.invalid>;reason=user-busy;counter=1;privacy=full")
    );
}

#[test]
fn what_comes_as_it_is_wanted_stays_but_for_who_is_private() {
    let to = |redirections, identity| redirecting(redirections, identity);
    let came = TWICE.trim_end();
    for redirections in [Redirections::AsTheyCame, Redirections::Diversion] {
        let inside = cross(Profile::default(), to(redirections, Identity::Asserted), ALICE, TWICE);
        assert_eq!(inside, format!("{OURS}\n{came}"));
    }
    assert_eq!(
        cross(Profile::default(), to(Redirections::AsTheyCame, Identity::Withheld), ALICE, TWICE),
        format!(
            "{OURS}\nDiversion: <sip:3@b>;reason=no-answer;counter=1;privacy=off\n\
             Diversion: <sip:anonymous@anonymous.invalid>;reason=\"user-busy\";counter=2;privacy=full"
        )
    );
    let history = format!("{HISTORY}Privacy: history\r\n");
    for redirections in [Redirections::AsTheyCame, Redirections::Diversion] {
        let outside =
            cross(Profile::default(), to(redirections, Identity::Withheld), ALICE, &history);
        assert_eq!(outside, OURS);
    }
    let none = to(Redirections::Withheld, Identity::Asserted);
    assert_eq!(cross(Profile::default(), none, ALICE, TWICE), OURS);
}
