//! Literal values for tests, and where their golden output lives.

use control::frame::{
    CallLine, EndpointLine, Measured, MediaLine, QualityLine, ShardLine, Status, TrunkLine,
};

/// 2026-01-02 03:04:05 UTC.
pub(crate) const NOW: u64 = 1_767_323_045_000;

/// Compares with `tests/data/NAME.snap`.
pub(crate) fn golden(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A node in good health.
pub(crate) fn status() -> Status {
    Status {
        node: "fra1-sbc2".into(),
        version: "0.1.0".into(),
        pid: 4711,
        uptime_s: 357_120,
        epoch: 17,
        config_generation: 3,
        driver: "io_uring, collecting packets under load".into(),
        shards: 2,
        draining: false,
        calls: 1412,
        calls_answered: 1180,
        calls_total: 9_412_345,
        cps: 31.4,
        ended: 9_420,
        asr: Some(61.25),
        acd_s: Some(187.4),
        pdd_ms: Some(812.0),
        mos: Some(4.31),
        kpps: 118.2,
        cdrs_total: 9_410_933,
        journal_waiting: 12_800,
        alarms: Vec::new(),
    }
}

/// The same node in a bad night.
pub(crate) fn troubled() -> Status {
    Status {
        draining: true,
        asr: Some(18.0),
        pdd_ms: Some(8100.0),
        mos: Some(3.4),
        journal_waiting: 17 << 20,
        alarms: vec!["the disk refuses CDRs: see the log".into()],
        ..status()
    }
}

/// Three trunks: well, nearly full, bad.
pub(crate) fn trunks() -> Vec<TrunkLine> {
    let measured =
        |value: f64, calls| Measured { value, low: value * 0.9, high: value * 1.1, calls };
    let quality = |asr: f64| QualityLine {
        destination: "uk-mobile".into(),
        asr: Some(measured(asr, 2_000)),
        ner: Some(measured(asr * 1.5, 2_000)),
        acd_s: Some(measured(95.0, 1_100)),
        pdd_ms: Some(measured(1_400.0, 1_500)),
        mos: None,
    };
    let endpoint = |address: &str, state: &str, status, answered_ms| EndpointLine {
        address: address.into(),
        state: state.into(),
        since_ms: NOW - 187_000,
        status,
        answered_ms,
    };
    let health = vec![
        endpoint("192.0.2.10:5060", "up", Some(200), Some(12.4)),
        endpoint("198.51.100.7:5060", "down", None, None),
    ];
    let trunk = |name: &str, calls, capacity, cps, ended, asr, mos| TrunkLine {
        name: name.into(),
        removed: name == "cheap-route",
        interface: "core".into(),
        endpoints: vec!["192.0.2.10:5060".into(), "sip.example.net:5060".into()],
        connections: (name == "carrier-a").then_some(2),
        calls,
        capacity,
        cps,
        cps_limit: 100,
        ended,
        asr,
        acd_s: asr.map(|a| a * 3.0),
        pdd_ms: asr.map(|a| 90_000.0 / a),
        mos,
        health: if name == "carrier-a" { health.clone() } else { Vec::new() },
        quality: asr.filter(|_| name != "retail-in").map(quality).into_iter().collect(),
    };
    vec![
        trunk("retail-in", 820, 2000, 21.5, 6100, Some(63.4), Some(4.36)),
        trunk("carrier-a", 560, 600, 9.8, 2900, Some(58.9), Some(4.28)),
        trunk("cheap-route", 31, 600, 0.2, 320, Some(9.7), Some(2.91)),
        trunk("spare", 0, 600, 0.0, 0, None, None),
    ]
}

/// Two shards, the second of them busy.
pub(crate) fn shards() -> Vec<ShardLine> {
    let shard = |shard, calls, kpps, cpu| ShardLine {
        shard,
        calls,
        transactions: calls / 20,
        sip_received: 41_234_567,
        steered: 20_123_456,
        kpps,
        relayed: 987_654_321,
        discarded: 4321,
        per_wake: 7.4,
        ports_in_use: calls * 2,
        cpu,
    };
    vec![shard(0, 700, 58.1, 41.0), shard(1, 712, 60.1, 92.5)]
}

/// Calls in every state.
pub(crate) fn calls() -> Vec<CallLine> {
    let call = |id: &str, state: &str, age_s: u64| CallLine {
        id: id.into(),
        state: state.into(),
        from: "+14155550100".into(),
        to: "+442071838750".into(),
        trunk_in: "retail-in".into(),
        setup_at_ms: NOW - age_s * 1000,
        ..CallLine::default()
    };
    let out = Some("carrier-a".to_owned());
    vec![
        CallLine { trunk_out: None, ..call("02-1-1", "deciding", 0) },
        CallLine { trunk_out: out.clone(), ..call("7f-12a-3", "trying", 2) },
        CallLine { trunk_out: out.clone(), pdd_ms: Some(812), ..call("7f-12b-1", "ringing", 9) },
        CallLine {
            trunk_out: out.clone(),
            pdd_ms: Some(640),
            answer_at_ms: Some(NOW - 180_000),
            ..call("a0-3-9", "answered", 187)
        },
    ]
}

/// Calls that ended: well, and refused.
pub(crate) fn ended() -> Vec<CallLine> {
    let well = CallLine {
        state: "ended".into(),
        status: 200,
        reason: "caller_hung_up".into(),
        mos: [Some(4.36), Some(4.21)],
        packets: [9012, 9001],
        ..calls().remove(3)
    };
    let refused = CallLine {
        id: "11-4-2".into(),
        answer_at_ms: None,
        pdd_ms: None,
        trunk_out: None,
        status: 503,
        reason: "trunk_capacity".into(),
        mos: [None, None],
        packets: [0, 0],
        setup_at_ms: NOW - 1000,
        ..well.clone()
    };
    vec![well, refused]
}

/// One that was rated while it lives.
pub(crate) fn sounding() -> CallLine {
    let side = |from: &str, mos, rtt_ms| MediaLine {
        from: from.into(),
        mos,
        mos_min: 2.61,
        mos_avg: 4.02,
        r_factor: 81.4,
        loss_percent: 1.25,
        jitter_ms: 8.31,
        rtt_ms,
    };
    let media = vec![side("caller", 4.12, Some(84.2)), side("callee", 3.02, None)];
    CallLine { media, ..calls()[3].clone() }
}
