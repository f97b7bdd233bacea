//! `sbcctl explain call`: what would become of a call, and why.
//!
//! The running engine says it, by what is in force and how full its trunks are; with `--config`, the same
//! code says it here, by a file that need not be in force, on an empty node.

use super::{Context, print, print_json};
use crate::cli::ExplainCall;
use crate::engine::read;
use crate::format::safe;
use crate::problem::Problem;
use base::page::Page;
use control::frame::Op;
use engine::config::{Config, wall_s};
use engine::explain::{Asked, explain};
use routing_trie::deck::{Deck, Options, import};
use sbc::policy::{Image, Outages};
use sbc::quality::Standing;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Explains a call.
pub(crate) fn call(context: &Context, call: &ExplainCall) -> Result<(), Problem> {
    let lines = match &call.config {
        Some(file) => proposed(call, file)?,
        None => live(context, call)?,
    };
    if context.json {
        return print_json(&json!(lines));
    }
    let lines: Vec<String> = lines.iter().map(|line| safe(line)).collect();
    print(&lines.join("\n"))
}

fn live(context: &Context, call: &ExplainCall) -> Result<Vec<String>, Problem> {
    let (from, to, trunk) = (call.from.clone(), call.to.clone(), call.trunk.clone());
    let (at, lrn) = (call.at, call.lrn.clone());
    read(&context.engine()?.ask(Op::Explain { from, to, trunk, at, lrn })?)
}

fn proposed(call: &ExplainCall, file: &Path) -> Result<Vec<String>, Problem> {
    let refused = |why: &dyn std::fmt::Display| Problem::Refused(why.to_string());
    let mut files = BTreeMap::new();
    for text in &call.deck {
        let (name, path) = text.split_once('=').unwrap_or_default();
        files.insert(name.to_owned(), read_deck(Path::new(path))?);
    }
    let at = call.at.unwrap_or_else(wall_s);
    let config = Config::load(file).map_err(|errors| refused(&errors))?;
    let known = |name: &String| {
        let routing = &config.image.routing;
        routing.vendors.iter().any(|v| *v.name == **name)
            || routing.customers.iter().any(|c| *c.name == **name)
    };
    if let Some(name) = files.keys().find(|name| !known(name)) {
        return Err(refused(&format!("no [[vendor]] or [[customer]] is called `{name}`")));
    }
    let config = config.with_decks(at, &files).map_err(|trouble| refused(&trouble))?;
    let (from, to, trunk) = (call.from.clone(), call.to.clone(), call.trunk.clone());
    let asked = Asked { from, to, trunk, at, lrn: call.lrn.clone(), dip: None };
    let unknown = (&Standing::default(), &Outages::default());
    explain(&config.image, &Page::new(Image::WORDS), unknown, &asked).map_err(Problem::Refused)
}

fn read_deck(path: &Path) -> Result<Deck, Problem> {
    let text = std::fs::read(path).map_err(|e| Problem::File(path.to_path_buf(), e))?;
    let imported = import(&text, &Options::default());
    let deck = imported.map(|i| i.deck);
    deck.map_err(|why| Problem::Refused(format!("{}: {why}", path.display())))
}
