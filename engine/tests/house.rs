//! The house's rules that a compiler does not know: floors import downwards only.

use std::path::Path;

/// Crates by floor, ground floor first; a crate may use those of lower floors and nothing else of ours.
const FLOORS: [&[&str]; 7] = [
    &["base"],
    &["media", "routing-trie", "control"],
    &["sbc"],
    &["node"],
    &["engine"],
    &["sbcctl", "bench", "sim"],
    &["targets"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn manifest(directory: &str) -> toml::Table {
    let path = root().join(directory).join("Cargo.toml");
    std::fs::read_to_string(path).expect("a manifest").parse().expect("TOML")
}

fn members() -> Vec<String> {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().expect("members").clone();
    members.iter().map(|m| m.as_str().expect("a path").to_owned()).collect()
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|crates| crates.contains(&name))
}

#[test]
fn every_arrow_points_down() {
    for member in members() {
        let manifest = manifest(&member);
        let name = manifest["package"]["name"].as_str().expect("a name");
        let own = floor(name).unwrap_or_else(|| panic!("`{name}` has no floor: add it to FLOORS"));
        let used = manifest.get("dependencies").and_then(|d| d.as_table());
        for used in used.into_iter().flat_map(|t| t.keys()) {
            let Some(below) = floor(used) else { continue };
            assert!(below < own, "`{name}` (floor {own}) must not use `{used}` (floor {below})");
        }
    }
}

#[test]
fn floors_below_engine_do_no_io() {
    let impure = [
        "tokio",
        "libc",
        "socket2",
        "io-uring",
        "mimalloc",
        "libmimalloc-sys",
        "hickory-resolver",
        "axum",
    ];
    for member in members() {
        let manifest = manifest(&member);
        let name = manifest["package"]["name"].as_str().expect("a name");
        if floor(name) >= Some(4) && name != "sim" && name != "targets" {
            continue;
        }
        let used = manifest.get("dependencies").and_then(|d| d.as_table());
        for used in used.into_iter().flat_map(|t| t.keys()) {
            assert!(!impure.contains(&used.as_str()), "`{name}` must not use `{used}`");
        }
    }
}

#[test]
fn the_lower_floors_have_few_dependencies() {
    for member in members() {
        let manifest = manifest(&member);
        let name = manifest["package"]["name"].as_str().expect("a name");
        if floor(name) > Some(2) {
            continue;
        }
        let used = manifest.get("dependencies").and_then(|d| d.as_table());
        let outside =
            used.into_iter().flat_map(|t| t.keys()).filter(|u| floor(u).is_none()).count();
        assert!(outside <= 5, "`{name}` uses {outside} outside crates");
    }
}

#[test]
fn every_dependency_is_declared_once_with_a_reason() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let section = text.split("[workspace.dependencies]").nth(1).expect("dependencies");
    let section = section.split("\n[").next().expect("its lines");
    for line in section.lines().filter(|l| l.contains('=') && !l.contains("path =")) {
        assert!(line.contains('#'), "no reason given: {line}");
    }
    for member in members() {
        let manifest = manifest(&member);
        for table in ["dependencies", "dev-dependencies"] {
            let used = manifest.get(table).and_then(|d| d.as_table());
            for (name, how) in used.into_iter().flatten() {
                let shared = how.get("workspace").and_then(|w| w.as_bool()) == Some(true);
                assert!(shared, "`{member}`: `{name}` must come from the workspace");
            }
        }
    }
}
