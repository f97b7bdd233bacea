//! Protected legs, as two relays in a row see them: what the first seals the second opens.

mod world;

use media::srtp::{Keys, MasterKey, Suite};
use media::{Discard, Frame, Media, Security, Verdict};
use world::{ALICE, BOB, World, ports, report, voice};

/// Alice — plain — near — SRTP — far — plain — Bob. Both worlds know the other as `BOB` and `ALICE`.
struct Link {
    near: World,
    far: World,
}

fn key(suite: Suite, seed: u8) -> MasterKey {
    let bytes = [seed; 46];
    MasterKey::new(suite, &bytes[..suite.key_len() + suite.salt_len()]).expect("of its length")
}

fn keys(suite: Suite, ingress: u8, egress: u8) -> Keys {
    let (ingress, egress) = (key(suite, ingress), key(suite, egress));
    Keys { suite, ingress, egress, mki_len: 0 }
}

impl Link {
    fn new(suite: Suite) -> Link {
        let mut link = Link { near: World::new(), far: World::new() };
        link.rekey(suite, 1, 2);
        link
    }

    /// Gives both ends keys.
    fn rekey(&mut self, suite: Suite, towards_near: u8, towards_far: u8) {
        let (bob, alice) = (self.near.bob, self.far.alice);
        self.near.program(bob, |plan| {
            plan.security = Security::Keys(Box::new(keys(suite, towards_near, towards_far)));
        });
        self.far.program(alice, |plan| {
            plan.security = Security::Keys(Box::new(keys(suite, towards_far, towards_near)));
        });
    }

    fn pass(&mut self, ms: u64) {
        self.near.pass(ms);
        self.far.pass(ms);
    }

    /// Alice sends a packet; how it is on the wire between the two.
    fn sealed(&mut self, packet: &[u8]) -> Vec<u8> {
        let alice = self.near.alice;
        assert_eq!(self.near.rtp(alice, ALICE, packet), Verdict::Forward);
        let sent = self.near.out.pop().expect("it was forwarded");
        self.near.pool.get(sent.bytes).to_vec()
    }

    /// The far relay gets something; what reaches Bob.
    fn opened(&mut self, packet: &[u8]) -> Result<Vec<u8>, Discard> {
        let alice = self.far.alice;
        match self.far.rtp(alice, ALICE, packet) {
            Verdict::Forward => {
                let sent = self.far.out.pop().expect("it was forwarded");
                Ok(self.far.pool.get(sent.bytes).to_vec())
            }
            Verdict::Discard(reason) => Err(reason),
            Verdict::Absorb | Verdict::Answer => panic!("RTP goes on or is dropped"),
        }
    }

    /// From Alice to Bob.
    fn carry(&mut self, packet: &[u8]) -> Result<Vec<u8>, Discard> {
        let sealed = self.sealed(packet);
        self.opened(&sealed)
    }
}

#[test]
fn every_suite_carries_media_both_ways_and_hides_it() {
    for suite in Suite::ALL {
        let mut link = Link::new(suite);
        for i in 0..50 {
            link.pass(20);
            let sealed = link.sealed(&voice(i));
            assert!(sealed.len() > 172 && !sealed.windows(8).any(|w| w == [0xd5; 8]), "{suite:?}");
            let heard = link.opened(&sealed).unwrap();
            assert_eq!(heard[12..], voice(i)[12..], "{suite:?}");
            let (bob, alice) = (link.far.bob, link.far.alice);
            assert_eq!(link.far.rtp(bob, BOB, &voice(i)), Verdict::Forward);
            let sent = link.far.out.pop().unwrap();
            let back = link.far.pool.get(sent.bytes).to_vec();
            let near = link.near.bob;
            assert_eq!(link.near.rtp(near, BOB, &back), Verdict::Forward, "{suite:?}");
            assert_eq!(link.far.media.report(alice).unwrap().discarded, 0);
            link.near.out.clear();
        }
    }
}

#[test]
fn rtcp_is_protected_too() {
    for suite in Suite::ALL {
        let mut link = Link::new(suite);
        let (alice, bob) = (link.near.alice, link.far.alice);
        for _ in 0..3 {
            let (sent, at) = (report(7, 0, 0), "192.0.2.1:4001");
            assert_eq!(link.near.rtcp(alice, at, &sent), Verdict::Forward);
            let packet = link.near.out.pop().unwrap();
            let sealed = link.near.pool.get(packet.bytes).to_vec();
            assert!(sealed.len() > sent.len() && sealed[8..52] != sent[8..52], "{suite:?}");
            assert_eq!(link.far.rtcp(bob, at, &sealed), Verdict::Forward, "{suite:?}");
            let packet = link.far.out.pop().unwrap();
            assert_eq!(link.far.pool.get(packet.bytes), sent, "{suite:?}");
            let again = link.far.rtcp(bob, at, &sealed);
            assert_eq!(again, Verdict::Discard(Discard::Replayed), "{suite:?}");
        }
    }
}

#[test]
fn what_was_altered_repeated_or_never_protected_is_not_heard() {
    for suite in Suite::ALL {
        let mut link = Link::new(suite);
        let sealed = link.sealed(&voice(1));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(link.opened(&altered).is_err(), "{suite:?} at {at}");
        }
        assert_eq!(link.opened(&voice(1)), Err(Discard::Unauthentic));
        assert_eq!(link.opened(&sealed[..20]), Err(Discard::Unauthentic));
        assert!(link.opened(&sealed).is_ok(), "nothing of this kept the packet out");
        assert_eq!(link.opened(&sealed), Err(Discard::Replayed));
        assert_eq!(link.far.media.report(link.far.alice).unwrap().packets, 1);
    }
}

#[test]
fn a_stranger_with_a_recording_is_turned_away_and_learns_nothing() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    let (sealed, alice) = (link.sealed(&voice(1)), link.far.alice);
    let learn = media::Learn::First { window: core::time::Duration::from_secs(1), same_ip: None };
    link.far.program(alice, |plan| plan.learn = learn);
    let noise = link.far.rtp(alice, "203.0.113.66:9", &voice(1));
    assert_eq!(noise, Verdict::Discard(Discard::Unauthentic));
    assert_eq!(link.far.media.learned(alice), None, "identity comes before learning");
    assert_eq!(link.far.rtp(alice, "203.0.113.5:31000", &sealed), Verdict::Forward);
    assert!(link.far.media.learned(alice).is_some());
    let stolen = link.sealed(&voice(2));
    let verdict = link.far.rtp(alice, "203.0.113.66:9", &stolen);
    assert_eq!(verdict, Verdict::Discard(Discard::WrongSource));
}

#[test]
fn an_index_is_sealed_once_whatever_the_source_does() {
    let mut link = Link::new(Suite::AeadAes128Gcm);
    let mut heard = Vec::new();
    let mut other = voice(3);
    other[8..12].copy_from_slice(&[9; 4]);
    for packet in [voice(1), voice(2), other, voice(2), voice(40_000), voice(1)] {
        link.pass(20);
        let sealed = link.sealed(&packet);
        heard.push(u16::from_be_bytes([sealed[2], sealed[3]]));
        assert!(link.opened(&sealed).is_ok());
    }
    let first = heard[0];
    assert_eq!(heard, (first..first + 6).collect::<Vec<_>>());
    let alice = link.near.alice;
    let doubled = link.near.rtp(alice, ALICE, &voice(1));
    assert_eq!(doubled, Verdict::Discard(Discard::Repeated));
}

#[test]
fn rollovers_are_counted_on_both_sides() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    for i in 0..140_000u32 {
        link.pass(20);
        assert!(link.carry(&voice(i as u16)).is_ok(), "packet {i}");
    }
}

#[test]
fn a_key_identifier_is_passed_over() {
    for suite in [Suite::AesCm128HmacSha1_32, Suite::AeadAes256Gcm] {
        let mut link = Link::new(suite);
        let (alice, mut with) = (link.far.alice, keys(suite, 2, 1));
        with.mki_len = 4;
        link.far.program(alice, |plan| plan.security = Security::Keys(Box::new(with)));
        let mut sealed = link.sealed(&voice(1));
        let tag = if suite == Suite::AesCm128HmacSha1_32 { sealed.len() - 4 } else { sealed.len() };
        sealed.splice(tag..tag, [0, 0, 0, 1]);
        assert!(link.opened(&sealed).is_ok(), "{suite:?}");
    }
}

#[test]
fn new_keys_come_into_force_without_a_lost_packet() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    for i in 0..70_000u32 {
        link.pass(20);
        assert!(link.carry(&voice(i as u16)).is_ok());
    }
    let late = link.sealed(&voice(70_000u32 as u16));
    link.rekey(Suite::AeadAes256Gcm, 3, 4);
    assert!(link.opened(&late).is_ok(), "it was on its way");
    for i in 70_001..70_010u32 {
        link.pass(20);
        assert!(link.carry(&voice(i as u16)).is_ok(), "packet {i}");
    }
    link.pass(6_000);
    let bob = link.near.bob;
    link.near.program(bob, |plan| {
        plan.security = Security::Keys(Box::new(keys(Suite::AesCm128HmacSha1_80, 1, 2)));
    });
    let old = link.carry(&voice(70_010u32 as u16));
    assert_eq!(old, Err(Discard::Unauthentic), "the old keys are gone");
}

#[test]
fn programming_the_same_keys_again_changes_nothing() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    let first = link.sealed(&voice(1));
    assert!(link.opened(&first).is_ok());
    link.rekey(Suite::AesCm128HmacSha1_80, 1, 2);
    assert_eq!(link.opened(&first), Err(Discard::Replayed));
    let next = link.sealed(&voice(2));
    assert_eq!(next[3], first[3].wrapping_add(1));
    assert!(link.opened(&next).is_ok());
}

#[test]
fn packets_of_our_own_are_sealed_as_well() {
    let mut link = Link::new(Suite::AeadAes128Gcm);
    let (bob, mut texts) = (link.near.bob, base::Texts::default());
    assert!(link.carry(&voice(1)).is_ok());
    let timestamp = link.near.media.timestamp(bob, 8_000, link.near.now.mono).unwrap();
    let frame = Frame { payload_type: 101, marker: true, timestamp, payload: &[5, 10, 0, 160] };
    link.near.media.originate(link.near.now.mono, bob, frame, &mut texts).unwrap();
    let sealed = texts.get(texts.sends[0].bytes).to_vec();
    assert_eq!(sealed.len(), 12 + 4 + 16);
    assert_eq!(link.opened(&sealed).unwrap()[12..], [5, 10, 0, 160]);
    assert!(link.carry(&voice(2)).is_ok());
}

#[test]
fn a_call_outlives_its_process_and_no_index_repeats() {
    for suite in Suite::ALL {
        let mut link = Link::new(suite);
        let (alice, bob) = (link.near.alice, link.near.bob);
        let first = link.sealed(&voice(1));
        assert!(link.opened(&first).is_ok());
        let back = |link: &mut Link, i: u16| {
            let far = link.far.bob;
            assert_eq!(link.far.rtp(far, BOB, &voice(i)), Verdict::Forward);
            let sent = link.far.out.pop().unwrap();
            link.far.pool.get(sent.bytes).to_vec()
        };
        let heard = back(&mut link, 1);
        assert_eq!(link.near.rtp(bob, BOB, &heard), Verdict::Forward);
        // The record is older than what follows: more than two rollovers are not in it.
        let records = [alice, bob].map(|end| (end, link.near.media.freeze(end).unwrap()));
        for i in 2..150_000u32 {
            link.pass(20);
            let packet = back(&mut link, i as u16);
            if i % 1_000 == 0 {
                assert_eq!(link.near.rtp(bob, BOB, &packet), Verdict::Forward);
                link.near.out.clear();
            }
        }
        link.near.media = Media::new(ports(4), [9; 32], link.near.now.mono);
        for (key, record) in records {
            link.near.media.thaw(key, record, link.near.now.mono).unwrap();
        }
        let forged = link.near.rtp(bob, BOB, &[0x80; 182]);
        assert_eq!(forged, Verdict::Discard(Discard::Unauthentic));
        for i in 150_000..150_010u32 {
            let packet = back(&mut link, i as u16);
            assert_eq!(link.near.rtp(bob, BOB, &packet), Verdict::Forward, "{suite:?} {i}");
            link.near.out.clear();
        }
        assert_eq!(link.near.rtp(bob, BOB, &heard), Verdict::Discard(Discard::Replayed));
        let next = link.sealed(&voice(2));
        assert_ne!(next[8..12], first[8..12], "another source: its indices are all new");
        assert!(link.opened(&next).is_ok(), "{suite:?}");
    }
}

#[test]
fn many_sources_are_bounded() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    for source in 0..100u8 {
        link.pass(20);
        // A new life each time, so that the far end hears another source.
        let (alice, bob) = (link.near.alice, link.near.bob);
        let records = [alice, bob].map(|end| (end, link.near.media.freeze(end).unwrap()));
        link.near.media = Media::new(ports(4), [source; 32], link.near.now.mono);
        for (key, record) in records {
            link.near.media.thaw(key, record, link.near.now.mono).unwrap();
        }
        assert!(link.carry(&voice(1)).is_ok(), "source {source}");
    }
    let record = link.far.media.freeze(link.far.alice).unwrap();
    let mut bytes = Vec::new();
    base::record::seal(1, &record, &mut bytes);
    assert!(bytes.len() < 16 + media::EndRecord::MAX_LEN, "{}", bytes.len());
}

#[test]
fn a_packet_as_long_as_its_buffer_is_dropped_by_name() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    let alice = link.near.alice;
    let mut long = voice(1);
    long.resize(4_090, 0);
    let verdict = link.near.rtp(alice, ALICE, &long);
    assert_eq!(verdict, Verdict::Discard(Discard::TooLong));
}

#[test]
fn rtcp_ends_with_the_last_index_of_its_key() {
    let mut link = Link::new(Suite::AesCm128HmacSha1_80);
    let (alice, bob) = (link.near.alice, link.near.bob);
    let mut indices = Vec::new();
    // Each life of the process begins far above what the one before may have used.
    for life in 0..130u8 {
        if link.near.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0)) == Verdict::Forward {
            let sent = link.near.out.pop().unwrap();
            let sealed = link.near.pool.get(sent.bytes);
            let at = sealed.len() - 14;
            indices.push(u32::from_be_bytes(sealed[at..at + 4].try_into().unwrap()) << 1 >> 1);
        }
        let records = [alice, bob].map(|end| (end, link.near.media.freeze(end).unwrap()));
        link.near.media = Media::new(ports(4), [life; 32], link.near.now.mono);
        for (key, record) in records {
            link.near.media.thaw(key, record, link.near.now.mono).unwrap();
        }
    }
    assert!(indices.len() == 128 && indices.is_sorted_by(|a, b| a < b));
    let verdict = link.near.rtcp(alice, "192.0.2.1:4001", &report(1, 0, 0));
    assert_eq!(verdict, Verdict::Discard(Discard::KeySpent));
}
