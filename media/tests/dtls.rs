//! Legs that agree upon keys by DTLS, as two relays in a row see them: they shake hands with each other.

mod world;

use base::{Bytes, Instant, PortId};
use core::time::Duration;
use media::dtls::{Certificate, Failure, Fingerprint, Hash, Library, Provider, Role};
use media::srtp::{Keys, MasterKey, Suite};
use media::{Discard, Learn, Media, Notice, Security, Verdict};
use std::sync::Arc;
use world::link::{Link, library, terms};
use world::{ALICE, BOB, at, ports, voice};

#[test]
fn a_handshake_gives_both_sides_keys() {
    for role in [Role::Active, Role::Passive] {
        let mut link = Link::agreed(role);
        assert_eq!(link.carry(&voice(1)), Err(Discard::NoKeys), "nothing goes before");
        link.shake(|_| false);
        assert_eq!(link.secured(), 2, "both are told");
        for i in 2..20 {
            link.pass(20);
            assert_eq!(link.carry(&voice(i)).unwrap()[12..], voice(i)[12..]);
        }
        assert_eq!(link.near.media.counters.dtls_handshakes.get(), 1);
        assert_eq!(link.near.media.counters.dtls_waiting.get(), 0);
    }
}

#[test]
fn a_library_that_warms_up_has_done_all_of_a_handshake() {
    let now = Instant(7_000_000_000);
    assert!(media::dtls::warm_up(&*library(), now));
}

#[test]
fn what_is_lost_is_sent_again() {
    for role in [Role::Active, Role::Passive] {
        let mut link = Link::agreed(role);
        link.shake_with_losses();
        assert_eq!(link.secured(), 2, "{role:?}");
        assert!(link.carry(&voice(1)).is_ok());
    }
}

#[test]
fn a_last_flight_that_was_lost_is_said_again() {
    const CHANGE_CIPHER_SPEC: u8 = 20;
    let mut link = Link::agreed(Role::Passive);
    let mut lost = 0;
    for _ in 0..30 {
        link.shake(|bytes| {
            let is_lost = bytes[0] == CHANGE_CIPHER_SPEC && lost < 3;
            lost += u32::from(is_lost);
            is_lost
        });
        link.pass(1_000);
    }
    assert_eq!((lost, link.secured()), (3, 2));
    assert!(link.carry(&voice(1)).is_ok());
    // Whoever has it already is not confused, and a farewell or another hello gets nothing.
    let (far, mut hello) = (link.near.bob, [0; 60]);
    (hello[0], hello[13]) = (22, 1);
    for idle in [[21; 60], hello] {
        assert_eq!(link.near.rtp(far, BOB, &idle), Verdict::Absorb);
        link.near.media.shake(link.near.now.mono, &mut link.texts, &mut link.notices);
        assert!(link.texts.sends.is_empty());
    }
    hello[13] = 11;
    assert_eq!(link.near.rtp(far, BOB, &hello), Verdict::Absorb);
    link.shake(|_| false);
    assert!(link.carry(&voice(2)).is_ok());
}

#[test]
fn a_last_flight_leaves_alone_however_late_the_handshake_is() {
    let mut link = Link::agreed(Role::Passive);
    let mut flight = Vec::new();
    link.shake(|bytes| {
        // The client's certificate begins its last flight.
        let is_last = bytes[0] == 22 && bytes[13] == 11;
        if is_last {
            flight.push(bytes.to_vec());
        }
        is_last
    });
    assert_eq!(flight.len(), 1, "one datagram");
    // It comes when ours would be sent again.
    link.pass(5_000);
    let bob = link.near.bob;
    assert_eq!(link.near.rtp(bob, BOB, &flight[0]), Verdict::Absorb);
    link.near.media.shake(link.near.now.mono, &mut link.texts, &mut link.notices);
    let sent: Vec<&[u8]> = link.texts.sends.iter().map(|send| link.texts.get(send.bytes)).collect();
    assert!(sent.len() > 1, "both flights");
    assert_eq!(sent.iter().filter(|bytes| bytes[0] == 20).count(), 1, "one begins with the change");
    // And is said again when it is lost.
    link.texts.clear();
    for _ in 0..20 {
        link.shake(|_| false);
        link.pass(1_000);
    }
    assert_eq!(link.secured(), 2);
    assert!(link.carry(&voice(1)).is_ok());
}

#[test]
fn another_certificate_is_a_named_end() {
    let mut link = Link::new();
    let stranger = library();
    let kind = Certificate::Ecdsa;
    let mut towards_far = terms(Role::Active, kind, &link.far.media, &link.near.media);
    towards_far.fingerprint = Fingerprint::new(Hash::Sha256, &stranger.fingerprint()).unwrap();
    let towards_near = terms(Role::Passive, kind, &link.near.media, &link.far.media);
    let (bob, alice) = (link.near.bob, link.far.alice);
    link.near.program(bob, |plan| plan.security = Security::Dtls(Box::new(towards_far)));
    link.far.program(alice, |plan| plan.security = Security::Dtls(Box::new(towards_near)));
    link.shake(|_| false);
    let unsecured = Notice::Unsecured { end: bob, why: Failure::Fingerprint };
    assert!(link.notices.contains(&unsecured), "{:?}", link.notices);
    assert_eq!(link.carry(&voice(1)), Err(Discard::NoKeys));
    assert_eq!(link.near.media.counters.dtls_failures.get(Failure::Fingerprint.index()), 1);
}

#[test]
fn strangers_and_legs_without_dtls_get_silence() {
    let mut link = Link::agreed(Role::Active);
    let mut hello = Vec::new();
    link.shake(|bytes| {
        if hello.is_empty() {
            hello = bytes.to_vec();
        }
        true
    });
    assert_eq!(hello[0], 22, "a handshake record");
    let (alice, bob) = (link.far.alice, link.far.bob);
    let far = &mut link.far;
    for stranger in ["192.0.2.1:4001", "192.0.2.66:4000"] {
        assert_eq!(far.rtp(alice, stranger, &hello), Verdict::Discard(Discard::WrongSource));
    }
    assert_eq!(far.rtp(bob, BOB, &hello), Verdict::Discard(Discard::Dtls));
    assert_eq!(far.rtcp(alice, "192.0.2.1:4001", &hello), Verdict::Discard(Discard::Dtls));
    // What was turned away costs nothing; a leg's own may wait, so many and no more.
    for _ in 0..8 {
        assert_eq!(far.rtp(alice, ALICE, &hello), Verdict::Absorb);
    }
    assert_eq!(far.rtp(alice, ALICE, &hello), Verdict::Discard(Discard::DtlsBusy));
    // A guess that begins with noise is no end of it.
    link.far.program(alice, |plan| plan.learn = Learn::Off);
    link.shake(|_| false);
    link.pass(1_000);
    for first in [20u8, 21, 22, 23, 63] {
        let mut noise = [first; 60];
        noise[1..3].copy_from_slice(&[0xfe, 0xfd]);
        link.far.rtp(alice, ALICE, &noise);
    }
    for _ in 0..10 {
        link.shake(|_| false);
        link.pass(1_000);
    }
    assert_eq!(link.secured(), 2);
}

#[test]
fn an_address_is_learned_when_its_owner_has_proved_itself() {
    let mut link = Link::agreed(Role::Active);
    let alice = link.far.alice;
    let signalling = Some(at(ALICE).ip());
    link.far.program(alice, |plan| {
        plan.remote_rtp = Some(at("10.0.0.1:4000"));
        plan.learn = Learn::First { window: Duration::from_secs(5), same_ip: signalling };
    });
    assert_eq!(link.far.media.learned(alice), None);
    link.shake(|_| false);
    assert_eq!(link.far.media.learned(alice), Some(at(ALICE)));
    assert_eq!(link.secured(), 2);
    // Where the first who comes is believed, nobody shakes hands.
    let mut link = Link::agreed(Role::Active);
    link.far.program(alice, |plan| {
        plan.remote_rtp = Some(at("10.0.0.1:4000"));
        plan.learn = Learn::First { window: Duration::from_secs(5), same_ip: None };
    });
    assert_eq!(link.far.rtp(alice, ALICE, &[22; 60]), Verdict::Discard(Discard::WrongSource));
}

#[test]
fn another_association_takes_over_from_the_keys_before() {
    let mut link = Link::agreed(Role::Passive);
    link.shake(|_| false);
    assert!(link.carry(&voice(1)).is_ok());
    // The same terms, on hold or off: nothing begins anew.
    link.agree(Role::Passive, 0);
    link.shake(|_| false);
    assert_eq!(link.secured(), 2);
    assert!(link.carry(&voice(2)).is_ok());
    // Another name for the association is another one, and until it has keys the old are good.
    link.agree(Role::Active, 9);
    assert!(link.carry(&voice(3)).is_ok());
    link.shake(|_| false);
    assert_eq!(link.secured(), 2);
    assert!(link.carry(&voice(4)).is_ok());
    // From DTLS to keys of signalling.
    let suite = Suite::AesCm128HmacSha1_80;
    let key = |seed: u8| MasterKey::new(suite, &[seed; 30]).unwrap();
    let keys = |ingress, egress| {
        let keys = Keys { suite, ingress: key(ingress), egress: key(egress), mki_len: 0 };
        Security::Keys(Box::new(keys))
    };
    let (bob, alice) = (link.near.bob, link.far.alice);
    link.near.program(bob, |plan| plan.security = keys(1, 2));
    link.far.program(alice, |plan| plan.security = keys(2, 1));
    assert!(link.carry(&voice(5)).is_ok());
}

#[test]
fn keys_outlive_the_process_and_a_handshake_does_not() {
    let mut link = Link::agreed(Role::Passive);
    let bob = link.near.bob;
    let thaw = |link: &mut Link, provider: Arc<Library>| {
        let record = link.near.media.freeze(bob).unwrap();
        let alice = link.near.alice;
        let other = link.near.media.freeze(alice).unwrap();
        let mut media = Media::new(ports(4), [2; 32], link.near.now.mono);
        media.set_dtls(provider);
        media.thaw(alice, other, link.near.now.mono).unwrap();
        media.thaw(bob, record, link.near.now.mono).unwrap();
        link.near.media = media;
    };
    // Before there are keys, under another certificate than the one that was promised.
    thaw(&mut link, library());
    link.shake(|_| false);
    let unsecured = Notice::Unsecured { end: bob, why: Failure::Restart };
    assert!(link.notices.contains(&unsecured), "{:?}", link.notices);
    // With keys they are all that is needed.
    let mut link = Link::agreed(Role::Active);
    link.shake(|_| false);
    assert!(link.carry(&voice(1)).is_ok());
    thaw(&mut link, library());
    link.shake(|_| false);
    assert!(link.carry(&voice(2)).is_ok());
    let (none, port) = (Bytes { at: 0, len: 1 }, PortId(2 * bob.index));
    link.near.pool.get_mut(none)[0] = 22;
    assert_eq!(link.near.arrive(port, BOB, &[22; 60]), Verdict::Discard(Discard::Dtls));
}

#[test]
fn the_association_goes_and_the_keys_stay() {
    let mut link = Link::agreed(Role::Passive);
    link.shake(|_| false);
    for i in 1..250 {
        link.pass(1_000);
        link.shake(|_| false);
        assert!(link.carry(&voice(i)).is_ok());
    }
    let bob = link.near.bob;
    assert_eq!(link.near.rtp(bob, BOB, &[22; 60]), Verdict::Discard(Discard::Dtls));
    assert_eq!(link.secured(), 2);
}

#[test]
fn a_peer_that_never_comes_is_told_of_again_and_again() {
    for role in [Role::Active, Role::Passive] {
        let mut link = Link::agreed(role);
        for _ in 0..95 {
            link.shake(|_| true);
            link.pass(1_000);
        }
        let bob = link.near.bob;
        let why = Failure::Timeout;
        let told = link.notices.iter().filter(|n| **n == Notice::Unsecured { end: bob, why });
        assert_eq!(told.count(), 3, "{role:?}: {:?}", link.notices);
    }
}

#[cfg(feature = "dtls-openssl")]
#[test]
fn a_handshake_under_rsa_gives_both_sides_keys() {
    for role in [Role::Active, Role::Passive] {
        let mut link = Link::new();
        for world in [&mut link.near, &mut link.far] {
            world.media.set_dtls(media::dtls::rsa().unwrap());
        }
        link.certificate = Certificate::Rsa;
        link.agree(role, 0);
        assert_eq!(link.carry(&voice(1)), Err(Discard::NoKeys), "nothing goes before");
        link.shake(|_| false);
        assert_eq!(link.secured(), 2, "both are told");
        for i in 2..20 {
            link.pass(20);
            assert_eq!(link.carry(&voice(i)).unwrap()[12..], voice(i)[12..]);
        }
        // Another association, under the other kind, takes over as any does.
        link.certificate = Certificate::Ecdsa;
        link.agree(role, 0);
        link.shake(|_| false);
        assert_eq!(link.secured(), 2);
        assert!(link.carry(&voice(20)).is_ok());
    }
}

#[cfg(feature = "dtls-openssl")]
#[test]
fn a_peer_under_rsa_is_judged_like_any() {
    let now = Instant(7_000_000_000);
    let [ours, theirs, stranger] = [0; 3].map(|_| media::dtls::rsa().unwrap());
    assert!(media::dtls::warm_up(&*ours, now));
    for role in [Role::Active, Role::Passive] {
        // The far side expects another certificate than the near side has.
        let mut link = Link::new();
        link.near.media.set_dtls(ours.clone());
        link.far.media.set_dtls(theirs.clone());
        link.certificate = Certificate::Rsa;
        link.agree(role, 0);
        let far = if role == Role::Active { Role::Passive } else { Role::Active };
        let mut towards_near = terms(far, Certificate::Rsa, &link.near.media, &link.far.media);
        towards_near.fingerprint = Fingerprint::new(Hash::Sha256, &stranger.fingerprint()).unwrap();
        let alice = link.far.alice;
        link.far.program(alice, |plan| plan.security = Security::Dtls(Box::new(towards_near)));
        link.shake(|_| false);
        let unsecured = Notice::Unsecured { end: alice, why: Failure::Fingerprint };
        assert!(link.notices.contains(&unsecured), "{role:?}: {:?}", link.notices);
        // One side has RSA alone, and the other, as it was told, ECDSA.
        let mut link = Link::new();
        link.near.media.set_dtls(ours.clone());
        link.agree(role, 0);
        let (_, digest) = link.far.media.certificate(Certificate::Ecdsa).unwrap();
        let fingerprint = Fingerprint::new(Hash::Sha256, &digest).unwrap();
        let (name, _) = link.near.media.certificate(Certificate::Rsa).unwrap();
        let bob = link.near.bob;
        let towards_far = media::dtls::Terms { role, fingerprint, tls_id: 0, ours: name };
        link.near.program(bob, |plan| plan.security = Security::Dtls(Box::new(towards_far)));
        link.shake(|_| false);
        assert_eq!(link.secured(), 0, "{role:?}");
        let failures = |world: &world::World| {
            world.media.counters.dtls_failures.get(Failure::Protocol.index())
        };
        assert!(failures(&link.near) + failures(&link.far) > 0, "{role:?}");
    }
}
