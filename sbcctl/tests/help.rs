//! Golden `--help` of every command, and the manual page held to it: neither names what the other lacks.

use std::collections::BTreeSet;
use std::process::Command;

fn help(command: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sbcctl")).args(command).arg("--help").output();
    let output = output.expect("sbcctl runs");
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// Names under `Commands:`, without `help`.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let names = lines.take_while(|l| !l.is_empty()).filter_map(|l| l.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Every command, groups included, with its help.
fn all() -> Vec<(Vec<String>, String, bool)> {
    let mut found = Vec::new();
    let mut left = vec![Vec::new()];
    while let Some(command) = left.pop() {
        let text = help(&command);
        let below = commands(&text);
        for name in below.iter().rev() {
            left.push([command.clone(), vec![name.clone()]].concat());
        }
        found.push((command, text, below.is_empty()));
    }
    found
}

#[test]
fn help_is_as_recorded() {
    let pages = all().into_iter().map(|(command, text, _)| {
        let text: Vec<_> = text.lines().map(str::trim_end).collect();
        format!(
            "$ sbcctl {}\n\n{}",
            [command, vec!["--help".to_owned()]].concat().join(" "),
            text.join("\n")
        )
    });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("data");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let text = pages.collect::<Vec<_>>().join("\n\n\n");
    settings.bind(|| insta::assert_snapshot!("help", text));
}

#[test]
fn the_manual_page_names_every_command_and_no_other() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/cli.md");
    let page = std::fs::read_to_string(page).expect("docs/operate/cli.md");
    // Headings look like: ### `sbcctl call show ID`. Words in capitals and options are arguments.
    let heading = |line: &str| {
        let command = line.strip_prefix("### `sbcctl ")?.trim_end_matches('`');
        let is_name = |w: &&str| w.chars().all(|c| c.is_ascii_lowercase());
        Some(command.split_whitespace().take_while(is_name).collect::<Vec<_>>().join(" "))
    };
    let documented: BTreeSet<String> = page.lines().filter_map(heading).collect();
    let there: BTreeSet<String> = all()
        .into_iter()
        .filter(|(.., leaf)| *leaf)
        .map(|(command, ..)| command.join(" "))
        .collect();
    assert_eq!(documented, there);
    for (command, text, _) in all() {
        let flags = text.split_whitespace().filter(|w| w.starts_with("--"));
        for flag in flags.map(|w| w.trim_end_matches(|c: char| !c.is_ascii_lowercase())) {
            assert!(
                page.contains(flag) || ["--help", "--version"].contains(&flag),
                "{command:?} {flag}"
            );
        }
    }
}
