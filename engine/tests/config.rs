//! Broken configurations and what is said about each: `data/config/NAME.toml` and `NAME.expected`.
//!
//! With `UPDATE_EXPECTED=1` the expectations are written anew, to be read in the diff.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

use engine::config::Config;
use std::path::{Path, PathBuf};

fn broken() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

#[test]
fn every_mistake_is_explained() {
    let files = broken();
    assert!(files.len() >= 25);
    let mut differ = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy();
        let text = std::fs::read_to_string(&file).unwrap();
        let said = match Config::parse(&name, &text) {
            Err(errors) => format!("{errors}\n"),
            Ok(_) => panic!("{name} is accepted"),
        };
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            differ.push(format!("--- {name} ---\n{said}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn every_mistake_has_a_place_and_an_expectation() {
    for file in broken() {
        let text = std::fs::read_to_string(&file).unwrap();
        let errors = Config::parse("broken", &text).unwrap_err();
        for problem in &errors.problems {
            let syntax = problem.message.starts_with("this is not TOML");
            assert!(problem.expected.is_some() || syntax, "{file:?}: {problem:?}");
            assert!(problem.span.end <= text.len(), "{file:?}: {problem:?}");
        }
    }
}

/// Cutting a right file anywhere, or damaging a byte, gives errors at worst.
#[test]
fn damaged_files_never_panic() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/sbcd.toml");
    let text = std::fs::read_to_string(path).unwrap();
    for at in (0..text.len()).step_by(7).filter(|at| text.is_char_boundary(*at)) {
        let _ = Config::parse("cut", &text[..at]).map_err(|e| e.to_string());
        for other in ["", "\"", "[", "0", "x", "\u{e9}", "\n"] {
            let end = text.ceil_char_boundary(at + 1);
            let damaged = [&text[..at], other, &text[end..]].concat();
            let _ = Config::parse("damaged", &damaged).map_err(|e| e.to_string());
        }
    }
}
