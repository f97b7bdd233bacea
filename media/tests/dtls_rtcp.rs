//! Legs with keys by DTLS whose RTCP has a port of its own: it has a handshake of its own, and is under its
//! keys alone (RFC 5764 §4.2).

mod world;

use base::{Instant, Texts};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use media::dtls::{Association, Failure, Library, Provider, Role};
use media::{Discard, Learn, Media, Notice, Reports, Verdict};
use std::sync::Arc;
use world::link::{Link, beside, library};
use world::{ALICE, BOB, at, ports, report, voice};

/// Two relays whose legs do not share the port.
fn apart(role: Role) -> Link {
    let mut link = Link::new();
    link.rtcp_mux = false;
    link.agree(role, 0);
    link
}

/// Lets time pass, second by second.
fn wait(link: &mut Link, seconds: u32) {
    for _ in 0..seconds {
        link.pass(1_000);
        link.shake(|_| false);
    }
}

fn is_unsecured(notice: &Notice) -> bool {
    matches!(notice, Notice::Unsecured { .. })
}

#[test]
fn rtcp_on_a_port_of_its_own_has_a_handshake_of_its_own() {
    for role in [Role::Active, Role::Passive] {
        let mut link = apart(role);
        assert_eq!(link.exchange_reports(), Err(Discard::NoKeys), "nothing goes before");
        assert_eq!(link.opened_report(true, &[0x80, 200, 0, 1, 0, 0, 0, 7]), Err(Discard::NoKeys));
        link.shake(|_| false);
        assert_eq!(link.secured(), 4, "both are told of both");
        assert_eq!(link.near.media.counters.dtls_handshakes.get(), 2);
        for i in 0..20 {
            link.pass(20);
            assert!(link.carry(&voice(i)).is_ok());
            link.exchange_reports().unwrap();
        }
        let sealed = link.sealed_report(true, &report(7, 0, 0)).unwrap();
        assert!(link.opened_report(true, &sealed).is_ok());
        assert_eq!(link.opened_report(true, &sealed), Err(Discard::Replayed));
    }
}

#[test]
fn neither_handshakes_keys_are_good_for_what_is_the_others() {
    let mut link = apart(Role::Passive);
    link.shake(|_| false);
    let ours = link.sealed_report(true, &report(7, 0, 0)).unwrap();
    // The far side shares the port now: reports are under the keys of RTP there.
    let (alice, bob) = (link.far.alice, link.near.bob);
    link.far.program(alice, |plan| plan.rtcp_mux = true);
    assert_eq!(link.far.rtp(alice, ALICE, &ours), Verdict::Discard(Discard::Unauthentic));
    // And the near side alone.
    link.near.program(bob, |plan| plan.rtcp_mux = true);
    link.rtcp_mux = true;
    let shared = link.sealed_report(true, &report(8, 0, 0)).unwrap();
    link.far.program(alice, |plan| plan.rtcp_mux = false);
    let source = beside(ALICE).to_string();
    assert_eq!(link.far.rtcp(alice, &source, &shared), Verdict::Discard(Discard::NoKeys));
    // What was agreed upon for RTP has never noticed.
    assert!(link.carry(&voice(1)).is_ok());
}

#[test]
fn a_leg_may_share_the_port_and_cease_to() {
    let mut link = apart(Role::Active);
    link.shake(|_| false);
    assert_eq!(link.secured(), 4);
    let turns = [(true, 0), (false, 2), (true, 0), (false, 2)];
    for (sequence, (rtcp_mux, handshakes)) in (1..).zip(turns) {
        link.rtcp_mux = rtcp_mux;
        link.agree(Role::Active, 0);
        link.shake(|_| false);
        assert_eq!(link.secured(), handshakes, "of RTCP alone, and where it has a port of its own");
        assert!(link.carry(&voice(sequence)).is_ok());
        link.exchange_reports().unwrap();
        link.pass(20);
    }
}

#[test]
fn another_association_takes_over_on_both_ports() {
    let mut link = apart(Role::Passive);
    link.shake(|_| false);
    link.exchange_reports().unwrap();
    link.agree(Role::Active, 9);
    link.exchange_reports().expect("the keys before are good until there are others");
    link.shake(|_| false);
    assert_eq!(link.secured(), 8);
    link.exchange_reports().unwrap();
    assert!(link.carry(&voice(1)).is_ok());
}

#[test]
fn we_begin_for_rtcp_when_rtp_has_its_keys() {
    let mut link = apart(Role::Active);
    for _ in 0..40 {
        link.near.media.shake(link.near.now.mono, &mut link.texts, &mut link.notices);
        assert!(link.texts.sends.iter().all(|send| send.port.0 % 2 == 0), "of RTP alone");
        link.texts.clear();
        link.pass(1_000);
    }
    assert_eq!(link.near.media.counters.dtls_without_rtcp.get(), 0, "it was not its turn");
    wait(&mut link, 30);
    assert_eq!(link.secured(), 4);
    link.exchange_reports().unwrap();
}

#[test]
fn what_is_lost_on_either_port_is_sent_again() {
    for role in [Role::Active, Role::Passive] {
        let mut link = apart(role);
        link.shake_with_losses();
        assert_eq!(link.secured(), 4, "{role:?}");
        link.exchange_reports().unwrap();
    }
}

#[test]
fn a_deaf_port_costs_the_reports_and_nothing_else() {
    for role in [Role::Active, Role::Passive] {
        let mut link = apart(role);
        link.is_deaf = true;
        link.shake(|_| false);
        assert_eq!(link.secured(), 2);
        wait(&mut link, 35);
        let without_rtcp = |link: &Link| {
            [&link.near, &link.far].map(|world| world.media.counters.dtls_without_rtcp.get())
        };
        assert_eq!(without_rtcp(&link), [1, 1]);
        // Nobody goes on trying, and nobody is told.
        for _ in 0..300 {
            link.pass(1_000);
            link.shake(|_| panic!("nothing is sent"));
        }
        assert!(!link.notices.iter().any(is_unsecured), "{:?}", link.notices);
        assert!(link.carry(&voice(1)).is_ok());
        // What the other leg reports was for us; what comes here is not taken.
        let (alice, source) = (link.near.alice, beside(ALICE).to_string());
        assert_eq!(link.near.rtcp(alice, &source, &report(7, 0, 0)), Verdict::Absorb);
        assert_eq!(link.opened_report(true, &report(7, 0, 0)), Err(Discard::NoKeys));
        let far = link.far.alice;
        assert_eq!(link.far.rtcp(far, &source, &[22; 60]), Verdict::Discard(Discard::Dtls));
        // Another offer is another chance.
        link.is_deaf = false;
        link.agree(role, 0);
        link.shake(|_| false);
        assert_eq!(link.secured(), 2);
        link.exchange_reports().unwrap();
        assert_eq!(without_rtcp(&link), [1, 1]);
    }
}

/// Shows the certificate it promises in its first handshake, and another one afterwards.
struct Turncoat {
    promised: Arc<Library>,
    other: Arc<Library>,
    begun: AtomicU32,
}

impl Provider for Turncoat {
    fn fingerprint(&self) -> [u8; 32] {
        self.promised.fingerprint()
    }

    fn begin(&self, role: Role, now: Instant) -> Box<dyn Association> {
        match self.begun.fetch_add(1, Ordering::Relaxed) {
            0 => self.promised.begin(role, now),
            _ => self.other.begin(role, now),
        }
    }
}

#[test]
fn another_certificate_on_the_other_port_is_a_named_end() {
    for role in [Role::Active, Role::Passive] {
        let mut link = Link::new();
        let (promised, other) = (library(), library());
        link.far.media.set_dtls(Arc::new(Turncoat { promised, other, begun: AtomicU32::new(0) }));
        link.rtcp_mux = false;
        link.agree(role, 0);
        link.shake(|_| false);
        let unsecured = Notice::Unsecured { end: link.near.bob, why: Failure::Fingerprint };
        assert!(link.notices.contains(&unsecured), "{:?}", link.notices);
        assert_eq!(link.near.media.counters.dtls_failures.get(Failure::Fingerprint.index()), 1);
        assert_eq!(link.sealed_report(true, &report(7, 0, 0)), Err(Discard::NoKeys));
    }
}

/// The near process goes, and another one comes with another certificate.
fn succeed(link: &mut Link) {
    let mut media = Media::new(ports(4), [2; 32], link.near.now.mono);
    media.set_dtls(library());
    for end in [link.near.alice, link.near.bob] {
        let mut bytes = Vec::new();
        base::record::seal(1, &link.near.media.freeze(end).expect("it is there"), &mut bytes);
        let (record, _) = base::record::open(1, &bytes).expect("well made");
        media.thaw(end, record, link.near.now.mono).expect("its port is free");
    }
    link.near.media = media;
}

#[test]
fn both_handshakes_keys_outlive_the_process() {
    let mut link = apart(Role::Passive);
    link.shake(|_| false);
    link.exchange_reports().unwrap();
    succeed(&mut link);
    wait(&mut link, 40);
    link.exchange_reports().unwrap();
    assert!(link.carry(&voice(1)).is_ok());
    assert_eq!(link.near.media.counters.dtls_without_rtcp.get(), 0);
}

#[test]
fn a_handshake_for_rtcp_that_was_under_way_costs_the_reports() {
    for role in [Role::Active, Role::Passive] {
        let mut link = apart(role);
        link.is_deaf = true;
        link.shake(|_| false);
        succeed(&mut link);
        link.is_deaf = false;
        for _ in 0..10 {
            link.near.media.shake(link.near.now.mono, &mut link.texts, &mut link.notices);
        }
        assert!(link.texts.sends.is_empty(), "under another certificate nobody begins");
        assert!(!link.notices.iter().any(is_unsecured), "{:?}", link.notices);
        assert_eq!(link.near.media.counters.dtls_without_rtcp.get(), 1);
        assert!(link.carry(&voice(1)).is_ok());
    }
}

#[test]
fn an_address_of_rtcp_is_learned_from_its_handshake() {
    let mut link = apart(Role::Active);
    let alice = link.far.alice;
    let same_ip = Some(at(ALICE).ip());
    link.far.program(alice, |plan| {
        plan.remote_rtp = Some(at("10.0.0.1:4000"));
        plan.remote_rtcp = Some(at("10.0.0.1:4001"));
        plan.learn = Learn::First { window: Duration::from_secs(5), same_ip };
    });
    link.shake(|_| false);
    assert_eq!(link.secured(), 4);
    link.exchange_reports().expect("each goes to where it was heard from");
}

#[test]
fn reports_of_our_own_are_under_the_keys_of_rtcp() {
    let mut link = apart(Role::Active);
    let bob = link.near.bob;
    link.near.program(bob, |plan| plan.reports = Reports::Plain);
    link.shake(|_| false);
    let mut ours = Texts::default();
    for i in 0..20 {
        assert!(link.carry(&voice(i)).is_ok());
        wait(&mut link, 1);
        link.near.media.reports(link.near.now, &mut ours);
    }
    assert!(!ours.sends.is_empty());
    for send in &ours.sends {
        assert_eq!((send.port.0, send.to), (2 * bob.index + 1, beside(BOB)));
        assert!(link.opened_report(true, ours.get(send.bytes)).is_ok());
    }
}

#[test]
fn datagrams_of_both_ports_are_forgotten_with_their_leg() {
    let mut link = apart(Role::Active);
    let (alice, source) = (link.far.alice, beside(ALICE).to_string());
    for _ in 0..8 {
        assert_eq!(link.far.rtp(alice, ALICE, &[22; 60]), Verdict::Absorb);
        assert_eq!(link.far.rtcp(alice, &source, &[22; 60]), Verdict::Absorb);
    }
    let full = Verdict::Discard(Discard::DtlsBusy);
    assert_eq!(link.far.rtcp(alice, &source, &[22; 60]), full);
    let now = link.far.now.mono;
    link.far.program(alice, |plan| plan.rtcp_mux = true);
    link.far.media.release(alice, now);
    link.far.media.shake(now, &mut link.texts, &mut link.notices);
    assert_eq!(link.far.media.counters.dtls_waiting.get(), 0);
}
