//! Reference pages that are generated from code, and held to it: `UPDATE_DOCS=1 cargo test -p engine
//! --test reference` writes them anew.

use base::counter::{Kind, Metric};
use base::page::Page;
use engine::config::Config;
use engine::disk::scribe::ScribeCounters;
use engine::gate::{ANSWERING, Exposition, MEASURED, SINGLE, SOUNDING, Seen, ShardCounters, Sound};
use engine::io::mesh::IoCounters;
use engine::io::{ListenerCounters, TrunkTable};
use sbc::Refusal;
use sbc::policy::{Image, Transport};
use sbc::quality::{Figures, Span, Standing};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

fn exposition() -> Exposition {
    let shard = ShardCounters {
        signal: Arc::default(),
        media: Arc::default(),
        io: Arc::new(IoCounters::default()),
        listeners: Arc::new([ListenerCounters::default()]),
        trunks: Arc::new(TrunkTable::default()),
        thread: Arc::default(),
    };
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples/carrier.toml");
    let config = Config::load(&example).expect("the example");
    let mut image = Image::clone(&config.image);
    image.trunks[0].transport = Transport::Tcp;
    let span = Span { count: 1, ..Span::default() };
    let mut standing = Standing::default();
    standing.push(0, 0, Figures { asr: span, ner: span, acd: span, pdd: span, mos: span });
    let sound = Sound { trunk: 0, mos_centi: Some(400), loss_e4: Some(0), raised: 0 };
    let endpoint = "192.0.2.10:5060".parse().expect("an address");
    let seen = Seen { trunk: 0, endpoint, is_up: true, answered_s: Some(0.01) };
    Exposition {
        shards: vec![shard],
        seen: tokio::sync::watch::channel(Arc::from([seen])).1,
        quality: Arc::default(),
        porting: Arc::default(),
        captures: Arc::default(),
        standing: tokio::sync::watch::channel(Arc::new(standing)).1,
        sounds: tokio::sync::watch::channel(Arc::from([sound])).1,
        scribe: Arc::new(ScribeCounters::default()),
        reloads: Arc::default(),
        names: Arc::default(),
        certificates: Arc::default(),
        page: Page::new(Image::WORDS),
        image: tokio::sync::watch::channel(Arc::new(image)).1,
    }
}

/// The page as it should be must be the page as it is.
fn hold(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("the page is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "docs/reference/{name} is out of date: UPDATE_DOCS=1 writes it anew"
    );
}

#[test]
fn every_metric_is_documented() {
    let mut families: BTreeMap<&str, (Metric, Vec<&str>)> = BTreeMap::new();
    exposition().visit(&mut |metric, _, _| {
        let family = families.entry(metric.name).or_insert((metric, Vec::new()));
        family.1.extend(metric.label.map(|l| l.1));
    });
    exposition().visit_listeners(|metric, _, _, _| {
        let family = families.entry(metric.name).or_insert((metric, Vec::new()));
        family.1.extend(metric.label.map(|l| l.1));
    });
    exposition().visit_trunks(|metric, _, _| {
        let family = families.entry(metric.name).or_insert((metric, Vec::new()));
        family.1.extend(metric.label.map(|l| l.1));
    });
    let mut page = String::from(
        "# Metrics\n\nServed at `/metrics` on the address of `[metrics] listen`, in Prometheus' text format. \
         Metrics of shards carry the label `shard`, \
         those of listeners for connections `listener` as well: interface and transport, like `outside/tls`. \
         Those of trunks carry `trunk`, its name.\n\n| metric | kind | meaning | label values |\n|---|---|---|---|\n",
    );
    for (name, (metric, values)) in &families {
        if name.starts_with("tandem_setup_delay") {
            continue;
        }
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let label = metric.label.map_or(String::new(), |(label, _)| {
            let values: Vec<String> = values.iter().map(|v| format!("`{v}`")).collect();
            format!("`{label}`: {}", values.join(" "))
        });
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {label} |", metric.help);
    }
    page.push_str(
        "| `tandem_setup_delay_seconds` | histogram | Time from INVITE to its 200, of answered calls. | |\n",
    );
    for (name, kind, help) in SINGLE {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        let label = if name.starts_with("tandem_trunk_") { "`trunk`: its name " } else { "" };
        let _ = writeln!(page, "| `{name}` | {kind} | {help} | {label}|");
    }
    for (name, _, help) in SOUNDING {
        let _ = writeln!(page, "| `{name}` | gauge | {help} | `trunk`: its name |");
    }
    for (name, _, help) in ANSWERING {
        let label = "`trunk`: its name; `endpoint`: its address";
        let _ = writeln!(page, "| `{name}` | gauge | {help} | {label} |");
    }
    for (name, _, help) in MEASURED {
        let label = "`trunk`: its name; `destination`: of a [[destination]], or `other`";
        let _ = writeln!(page, "| `{name}` | gauge | {help} | {label} |");
    }
    hold("metrics.md", &page);
}

#[test]
fn the_exposition_has_every_documented_metric_and_no_other() {
    let text = exposition().text();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let documented: Vec<&str> =
        page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let exposed: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &documented {
        assert!(exposed.contains(name), "`{name}` is documented and not exposed");
    }
    for name in &exposed {
        assert!(documented.contains(name), "`{name}` is exposed and not documented");
    }
    assert!(
        text.contains("tandem_setup_delay_seconds_bucket{shard=\"0\",le=\"+Inf\"} 0"),
        "{text}"
    );
}

#[test]
fn every_end_of_a_call_is_documented() {
    let mut page = String::from(
        "# Why a call ended\n\nThe `reason` of a CDR, the label of `tandem_call_ends_total`, and the text of \
         Reason headers. The status is what the caller hears when the call ends before its answer; a route's \
         own refusal is passed on as it is.\n\n| reason | status | Q.850 | meaning |\n|---|---|---|---|\n",
    );
    for refusal in Refusal::ALL {
        let (status, q850, help) = (refusal.status(), refusal.q850(), refusal.help().trim());
        let _ = writeln!(page, "| `{}` | {status} | {q850} | {help} |", refusal.name());
    }
    hold("call-ends.md", &page);
}

#[test]
fn every_discard_is_documented() {
    let mut page = String::from(
        "# Why a media packet was discarded\n\nThe label of `tandem_media_discards_total`.\n\n\
         | reason | meaning |\n|---|---|\n",
    );
    for discard in media::Discard::ALL {
        let _ = writeln!(page, "| `{}` | {} |", discard.name(), discard.help().trim());
    }
    hold("discards.md", &page);
}

/// Tests against real peers, as the page names them.
fn tests_of(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
    let text = std::fs::read_to_string(path).expect("the tests");
    let tests = text.split("#[test]\n").skip(1);
    let names = tests.filter_map(|t| Some(t.split_once("fn ")?.1.split_once('(')?.0));
    // Flows that are played over several transports are listed for a macro.
    let listed = text.split_once("\nflows! {\n").and_then(|(_, rest)| rest.split_once("\n}"));
    let listed = listed.map_or("", |(flows, _)| flows).split_whitespace();
    names.chain(listed).map(|name| format!("{file}::{name}")).collect()
}

#[test]
fn every_flow_with_a_real_peer_has_its_row_and_no_row_lacks_its_test() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/interop.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let cells = page.lines().filter_map(|l| l.strip_suffix("` |")?.rsplit_once('`'));
    let mut rows: Vec<String> = cells.map(|(_, test)| test.to_owned()).collect();
    let mut tests: Vec<String> =
        ["sipp", "kamailio", "baresip", "linphone", "digits", "dtls", "browser", "health", "teams"]
            .map(tests_of)
            .concat();
    rows.sort();
    tests.sort();
    assert_eq!(rows, tests);
}
