//! A telephone at either end: baresip calls baresip through the node, and what was played at one side is
//! found in what was recorded at the other.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::sound::await_tone;
use common::telephone::Telephone;
use common::{LONG, Lab, Node, Setup, within};
use std::net::{IpAddr, Ipv4Addr};

/// What a side has: its telephone's account and its trunk.
struct Side {
    account: &'static str,
    trunk: &'static str,
}

const PLAIN: Side = Side { account: "", trunk: "" };
/// Encrypted or nothing; the telephone's keys cross in plain SIP.
const SECRET: Side = Side {
    account: ";mediaenc=srtp-mand",
    trunk: "srtp = \"required\"\nsrtp_over_plain_sip = true\n",
};
/// The telephone offers keys beside plain RTP, and so do we.
const PREFERRED: Side = Side {
    account: ";mediaenc=srtp",
    trunk: "srtp = \"preferred\"\nsrtp_over_plain_sip = true\n\
            srtp_suites = [\"AES_CM_128_HMAC_SHA1_32\", \"AES_CM_128_HMAC_SHA1_80\"]\n",
};

/// The telephone checks its connectivity, and so chooses where it is.
const ICE: Side = Side { account: ";medianat=ice", trunk: "ice = \"lite\"\n" };

#[test]
fn a_telephone_with_ice_calls_and_is_called() {
    call("ice-plain", 27_000, &ICE, &PLAIN);
    call("plain-ice", 28_000, &PLAIN, &ICE);
}

#[test]
fn a_tone_is_heard_on_each_side() {
    call("baresip", 23_000, &PLAIN, &PLAIN);
}

#[test]
fn an_encrypted_telephone_calls_a_plain_one() {
    call("srtp-plain", 24_000, &SECRET, &PLAIN);
}

#[test]
fn a_plain_telephone_calls_an_encrypted_one() {
    call("plain-srtp", 25_000, &PLAIN, &SECRET);
}

#[test]
fn encrypted_telephones_call_each_other_under_other_keys() {
    call("srtp-srtp", 26_000, &PREFERRED, &SECRET);
}

/// A call in which each side is to hear the tone of the other.
fn call(name: &str, ports: u16, near: &Side, far: &Side) {
    let mut lab = Lab::new(name);
    lab.ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (callee_hears, caller_hears) = (440.0, 1250.0);
    let callee = Telephone::start(&lab, "callee", caller_hears, ports, (far.account, None));
    let mut setup = Setup::new(&lab, callee.listen);
    setup.sip = lab.udp();
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    setup.interface = format!("media_ports = \"{}-{}\"\n", ports + 200, ports + 299);
    setup.caller = near.trunk.into();
    setup.trunks[0].2 = far.trunk.into();
    let mut node = Node::start(&lab, &setup);
    let dial = format!("/dial sip:442079460000@{}", setup.sip);
    let keyed = (near.account, Some(dial.as_str()));
    let caller = Telephone::start(&lab, "caller", callee_hears, ports + 100, keyed);
    let up = within(LONG, || (node.status()["calls_answered"] == 1).then_some(()));
    let logs =
        || ["caller.log", "callee.log"].map(|f| std::fs::read_to_string(lab.file(f)).unwrap());
    assert!(up.is_some(), "{:?}\n{}", logs(), node.process.log());
    for (who, wanted, other) in
        [(&callee, callee_hears, caller_hears), (&caller, caller_hears, callee_hears)]
    {
        let found = await_tone(|| who.heard(), wanted, other);
        assert!(found.is_ok(), "{}: {found:?}\n{:?}", who.folder.display(), logs());
    }
    let checks = node.metric("tandem_media_stun_checks_answered_total");
    let has_ice = [near, far].iter().any(|side| side.trunk.contains("ice"));
    assert_eq!(checks > 0, has_ice, "{checks} checks were answered");
    drop(caller);
    let calls = node.ask(serde_json::json!({"op": "get", "what": "calls"})).unwrap();
    let call = calls["calls"][0]["id"].clone();
    node.ask(serde_json::json!({"op": "hangup", "call": call})).unwrap();
    let records = node.await_records(1);
    for side in ["caller", "callee"] {
        assert!(records[0]["media"][side]["packets"].as_u64() > Some(50), "{}", records[0]);
    }
    node.process.kill();
}
