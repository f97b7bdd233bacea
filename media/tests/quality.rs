//! Quality sampled over a call, and RTCP of our own: what known patterns of loss and jitter come to, and
//! how others read what we send (tshark, as an independent reader).

mod world;

use base::Texts;
use core::time::Duration;
use media::{Band, Notice, Reports, Sample, Verdict};
use std::io::Write;
use std::process::{Command, Stdio};
use world::{ALICE, BOB, World, report, voice};

/// Alice talks for `packets` of 20 ms; those that `is_lost` says never come, and each is `late_us` late.
fn talk(
    w: &mut World,
    packets: core::ops::Range<u32>,
    is_lost: impl Fn(u32) -> bool,
    late_us: impl Fn(u32) -> u64,
) -> Vec<Sample> {
    let alice = w.alice;
    let (mut notices, mut samples) = (Vec::new(), Vec::new());
    for n in packets {
        w.pass(20);
        let due = w.now;
        w.now = due.after(Duration::from_micros(late_us(n)));
        if !is_lost(n) {
            assert_eq!(w.rtp(alice, ALICE, &voice(n as u16)), Verdict::Forward);
        }
        w.now = due;
        w.out.clear();
        w.media.sweep(w.now.mono, &mut notices);
        for notice in notices.drain(..) {
            if let Notice::Sampled(sample) = notice {
                samples.push(sample);
            }
        }
    }
    samples
}

#[test]
fn a_bad_stretch_shows_in_the_windows_and_hardly_in_the_whole() {
    let mut w = World::new();
    // A minute, of which sixteen seconds, a whole window at least, lose every fifth packet.
    let samples = talk(&mut w, 1..3_000, |n| (1_000..1_800).contains(&n) && n % 5 == 0, |_| 0);
    let report = w.media.report(w.alice).unwrap();
    assert!((6..=7).contains(&samples.len()), "{} windows in a minute", samples.len());
    // G.711 with concealment at 20 % loss: R = 92.2 − 95 · 20 / (20 + 25.1) = 50.1, MOS 2.6.
    let worst = samples.iter().min_by_key(|sample| sample.mos_centi).unwrap();
    assert!((255..=275).contains(&worst.mos_centi), "{worst:?}");
    assert_eq!(report.mos_least_centi, worst.mos_centi);
    // 160 of 3000 packets: 5.3 %, R = 92.2 − 95 · 5.3 / (5.3 + 25.1) = 75.6, MOS 3.84.
    assert!((380..=388).contains(&report.mos_centi), "{}", report.mos_centi);
    let mean = samples.iter().map(|s| u32::from(s.mos_centi)).sum::<u32>() / samples.len() as u32;
    assert_eq!(u32::from(samples.last().unwrap().mean_centi), mean);
    let good = samples.iter().filter(|s| Band::of(s.mos_centi) == Band::Good).count();
    assert_eq!(w.media.counters.samples.get(Band::Good.index()), good as u64);
    assert!(good >= 3, "{samples:?}");
}

#[test]
fn jitter_costs_what_the_buffer_for_it_delays() {
    let mut w = World::new();
    // Every other packet 40 ms late: J goes to 40 ms (RFC 3550 A.8), twice that is buffered.
    let samples = talk(&mut w, 1..1_000, |_| false, |n| u64::from(n % 2) * 40_000);
    let last = samples.last().unwrap();
    assert!((39_000..=40_000).contains(&last.jitter_us), "{last:?}");
    // d = 20 + 20 + 2 · 40 ms: Id = 2.88, R = 90.3.
    assert!((90_200..=90_400).contains(&last.r_milli), "{last:?}");
    let steady = talk(&mut World::new(), 1..1_000, |_| false, |_| 0);
    assert_eq!(steady.last().map(|s| (s.r_milli, s.jitter_us)), Some((92_240, 0)));
}

#[test]
fn a_call_shorter_than_a_window_is_one() {
    let mut w = World::new();
    assert!(talk(&mut w, 1..200, |n| n % 10 == 0, |_| 0).is_empty());
    let alice = w.alice;
    let report = w.media.release(alice, w.now.mono).unwrap();
    assert_eq!(report.mos_least_centi, report.mos_centi);
    assert_eq!(report.mos_mean_centi, report.mos_centi);
}

/// What was sent to Alice by ourselves: RTCP, at least `count` of it, while she talks and Bob does not.
fn reports_to_alice(w: &mut World, count: usize) -> Vec<Vec<u8>> {
    let (mut texts, mut notices, mut found) = (Texts::default(), Vec::new(), Vec::new());
    let (alice, bob) = (w.alice, w.bob);
    for n in 1..6_000u32 {
        w.pass(20);
        // Alice loses a burst of ten, then now and then one.
        let is_lost = (100..110).contains(&n) || n % 83 == 0;
        if !is_lost {
            assert_eq!(w.rtp(alice, ALICE, &voice(n as u16)), Verdict::Forward);
        }
        assert_eq!(w.rtp(bob, BOB, &voice(n as u16)), Verdict::Forward);
        w.out.clear();
        w.media.sweep(w.now.mono, &mut notices);
        w.media.reports(w.now, &mut texts);
        notices.clear();
        for send in texts.sends.drain(..) {
            assert_eq!((send.port.0, send.to.to_string().as_str()), (1, "192.0.2.1:4001"));
            let (at, len) = (send.bytes.at as usize, send.bytes.len as usize);
            found.push(texts.arena[at..at + len].to_vec());
        }
        texts.arena.clear();
        if found.len() >= count {
            return found;
        }
    }
    panic!("{} of {count} reports in two minutes", found.len());
}

#[test]
fn a_leg_that_hears_no_rtcp_is_sent_ours_and_no_other_is() {
    let mut w = World::new();
    let alice = w.alice;
    w.program(alice, |plan| (plan.own_stream, plan.reports) = (true, Reports::Extended));
    let first = reports_to_alice(&mut w, 1).remove(0);
    assert!(w.now.mono.0 >= 15_000_000_000, "Bob is waited for");
    // About Alice: ten in a burst and a few more were lost.
    let read = media::rtcp::read(&first).unwrap();
    let (block, voip) = (read.block.unwrap(), read.voip.unwrap());
    assert!(read.sent.is_some(), "a sender report: Bob's voice is our stream");
    assert!((13..=16).contains(&block.lost), "{block:?}");
    assert_eq!((voip.ssrc, voip.burst_density, voip.burst_ms), (42, 255, 200));
    assert!(voip.gap_ms > 3_000 && voip.r_factor.is_some_and(|r| r > 80), "{voip:?}");
    // Bob begins to speak for himself: ours end.
    let bob = w.bob;
    let before = w.media.counters.rtcp_originated.get();
    for _ in 0..30 {
        w.pass(5_000);
        assert_eq!(w.rtcp(bob, "198.51.100.1:6001", &report(9, 0, 0)), Verdict::Forward);
        w.out.clear();
        w.media.sweep(w.now.mono, &mut Vec::new());
        w.media.reports(w.now, &mut Texts::default());
    }
    assert_eq!(w.media.counters.rtcp_originated.get(), before);
    // A plain leg is sent none, ever.
    let mut plain = World::new();
    let alice = plain.alice;
    plain.program(alice, |plan| plan.reports = Reports::Extended);
    for _ in 0..60 {
        plain.pass(1_000);
        plain.media.sweep(plain.now.mono, &mut Vec::new());
        plain.media.reports(plain.now, &mut Texts::default());
    }
    assert_eq!(plain.media.counters.rtcp_originated.get(), 0);
}

#[test]
fn a_round_trip_is_measured_with_our_own_reports() {
    let mut w = World::new();
    let alice = w.alice;
    w.program(alice, |plan| (plan.own_stream, plan.reports) = (true, Reports::Plain));
    let ours = media::rtcp::read(&reports_to_alice(&mut w, 1)[0]).unwrap();
    w.pass(1_080);
    let answer = report(5, ours.sent.unwrap(), 65_536);
    assert_eq!(w.rtcp(alice, "192.0.2.1:4001", &answer), Verdict::Forward);
    assert_eq!(w.media.report(alice).unwrap().rtt_us, Some(80_000));
    // What she said last, and how long ago, is in the next one.
    let next = media::rtcp::read(&reports_to_alice(&mut w, 1)[0]).unwrap().block.unwrap();
    assert_eq!(next.last_report, 5);
    assert!(next.delay > 65_536 && next.delay < 10 * 65_536, "{next:?}");
}

/// A capture file (libpcap's format, raw IPv4) of datagrams from our RTCP port to Alice's.
fn capture(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 101] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for (second, datagram) in (1_000u32..).zip(datagrams) {
        let len = 28 + datagram.len() as u32;
        for word in [second, 0, len, len] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&[0x45, 0]);
        file.extend_from_slice(&(len as u16).to_be_bytes());
        file.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 203, 0, 113, 1, 192, 0, 2, 1]);
        for short in [10_001u16, 4_001, len as u16 - 20, 0] {
            file.extend_from_slice(&short.to_be_bytes());
        }
        file.extend_from_slice(datagram);
    }
    file
}

#[test]
fn tshark_reads_our_reports() {
    let mut w = World::new();
    let alice = w.alice;
    w.program(alice, |plan| (plan.own_stream, plan.reports) = (true, Reports::Extended));
    let reports = reports_to_alice(&mut w, 3);
    let fields = [
        "rtcp.pt",
        "rtcp.length_check",
        "rtcp.sdes.text",
        "rtcp.ssrc.identifier",
        "rtcp.xr.voipmetrics.rfactor",
        "rtcp.xr.voipmetrics.burstdensity",
        "rtcp.xr.voipmetrics.burstduration",
        "rtcp.xr.voipmetrics.gmin",
        "_ws.malformed",
    ];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let mut tshark = Command::new("tshark")
        .args(["-d", "udp.port==4001,rtcp", "-T", "fields", "-E", "separator=;", "-r", "-"])
        .args(fields)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tshark is there: tools/packages.sh peers");
    tshark.stdin.take().unwrap().write_all(&capture(&reports)).unwrap();
    let read = tshark.wait_with_output().unwrap();
    let text = String::from_utf8(read.stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text} {}", String::from_utf8_lossy(&read.stderr));
    for line in text.lines() {
        let fields: Vec<&str> = line.split(';').collect();
        assert_eq!(fields[..2], ["200,202,207", "1"], "{line}");
        assert_eq!(fields[2].len(), 16, "a canonical name: {line}");
        assert!(fields[3].contains("0x0000002a"), "about Alice: {line}");
        let r: u8 = fields[4].parse().expect("a rating factor");
        assert!((80..=93).contains(&r), "{line}");
        assert_eq!(fields[5..], ["255", "200", "16", ""], "{line}");
    }
}
