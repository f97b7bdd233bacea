//! A telephone at either end: baresip calls baresip through the node, and what was played at one side is
//! found in what was recorded at the other.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use common::authority::Authority;
use common::sound::await_tone;
use common::telephone::Telephone;
use common::{LONG, Lab, Node, Setup, within};
use std::net::{IpAddr, Ipv4Addr};

/// What a side has: its telephone's account and its trunk.
struct Side {
    account: &'static str,
    trunk: &'static str,
    /// Its SIP goes over TLS.
    is_secure: bool,
}

const PLAIN: Side = Side { account: "", trunk: "", is_secure: false };
/// Encrypted or nothing; the telephone's keys cross in plain SIP.
const SECRET: Side = Side {
    account: ";mediaenc=srtp-mand",
    trunk: "srtp = \"required\"\nsrtp_over_plain_sip = true\n",
    is_secure: false,
};
/// The telephone offers keys beside plain RTP, and so do we.
const PREFERRED: Side = Side {
    account: ";mediaenc=srtp",
    trunk: "srtp = \"preferred\"\nsrtp_over_plain_sip = true\n\
            srtp_suites = [\"AES_CM_128_HMAC_SHA1_32\", \"AES_CM_128_HMAC_SHA1_80\"]\n",
    is_secure: false,
};

/// The telephone checks its connectivity, and so chooses where it is.
const ICE: Side = Side { account: ";medianat=ice", trunk: "ice = \"lite\"\n", is_secure: false };
/// SIP over TLS, and with it keys that nobody reads on the way.
const TLS: Side = Side {
    account: ";mediaenc=srtp-mand",
    trunk: "transport = \"tls\"\nsrtp = \"required\"\n",
    is_secure: true,
};

#[test]
fn a_telephone_over_tls_calls_and_is_called() {
    call("tls-plain", 29_000, &TLS, &PLAIN);
    call("plain-tls", 30_000, &PLAIN, &TLS);
    call("tls-tls", 31_000, &TLS, &TLS);
}

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
    let root = (near.is_secure || far.is_secure).then(|| Authority::new(&lab));
    let telephone = |side: &Side, name, hertz, ports, command: Option<&str>| match &root {
        Some(root) if side.is_secure => {
            Telephone::start_secure(&lab, name, hertz, ports, (root, side.account, command))
        }
        Some(_) | None => Telephone::start(&lab, name, hertz, ports, (side.account, command)),
    };
    let callee = telephone(far, "callee", caller_hears, ports, None);
    let mut setup = Setup::new(&lab, callee.listen);
    setup.sip = lab.udp();
    setup.node = "max_calls = 9\nmax_cps = 100\nshards = 1\npin = false\n".into();
    setup.interface = format!("media_ports = \"{}-{}\"\n", ports + 200, ports + 299);
    setup.caller = near.trunk.into();
    setup.trunks[0].2 = far.trunk.into();
    let secure = lab.tcp();
    if let Some(root) = &root {
        root.issue("node", &format!("IP:{}", lab.ip));
        setup.interface += &format!("tls_port = {}\n", secure.port());
        setup.route += &root.section("node", "");
    }
    let mut node = Node::start(&lab, &setup);
    let entrance = if near.is_secure { secure } else { setup.sip };
    let dial = format!("/dial sip:442079460000@{entrance}");
    let caller = telephone(near, "caller", callee_hears, ports + 100, Some(&dial));
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
    let secured = u64::from(near.is_secure) + u64::from(far.is_secure);
    assert_eq!(node.metric("tandem_trunk_connections{"), secured, "{}", node.page());
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
