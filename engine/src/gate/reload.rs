//! Reading the configuration again: SIGHUP, and `reload` on the control socket.
//!
//! The file is read and checked beside the gate's thread. Shards get the new image by letter and swap a
//! pointer between two inputs; calls keep what was decided for them. The old image is freed here, once no
//! shard has it: giving back a large one is no work for a shard.

use super::Shared;
use crate::config::{Config, wall_s};
use crate::io::stream::Terms;
use base::ShardId;
use control::frame::ReloadLine;
use node::Letter;
use sbc::policy::{Image, Trunk};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// How often a shard is looked at that has not taken a letter.
const AGAIN: Duration = Duration::from_millis(2);
/// How long decks that cannot be used are left alone.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// How long shards may take: they turn at least as often as a timer of theirs is due.
const PATIENCE: Duration = Duration::from_secs(2);

base::counters! {
    /// What became of reloads.
    pub struct ReloadCounters {
        /// Times the configuration was read again and put in force.
        done: counter "tandem_config_reloads_total",
        /// Times a reload was refused: the configuration before it stays in force.
        refused: counter "tandem_config_reloads_refused_total",
    }
}

/// Reads the file again, and puts it in force unless it is only to be checked.
pub(crate) async fn reload(state: &Shared, check: bool) -> Result<ReloadLine, String> {
    let (file, running) = {
        let mut state = state.borrow_mut();
        if state.draining {
            return Err("the node is draining: it takes no calls to route by another file".into());
        }
        if std::mem::replace(&mut state.reloading, true) {
            return Err("a reload is under way".into());
        }
        (state.file.clone(), state.config.clone())
    };
    let old = running.clone();
    let read = spawn_blocking(move || {
        let mut next = running.succeed(&file).map_err(|e| e.to_string())?;
        let terms = Terms::load(&next);
        let terms = terms.map_err(|fault| format!("{}\n  = help: {}", fault.what, fault.remedy))?;
        if !check {
            next.stock.keep();
            next.stock.settle();
        }
        Ok((next, terms))
    });
    let read = read.await;
    let read = read.unwrap_or_else(|_| Err("reading the file failed: see the log".into()));
    let outcome = match read {
        Ok((next, terms)) => {
            let line = changes(&old.image, &next.image, !check);
            if !check {
                publish(state, Arc::new(next), Some(terms)).await;
                spawn_blocking(move || drop(old));
            }
            Ok(line)
        }
        Err(error) => Err(error),
    };
    let mut state = state.borrow_mut();
    state.reloading = false;
    let counters = &state.exposition.reloads;
    match (&outcome, check) {
        (Ok(line), false) => {
            counters.done.add(1);
            eprintln!("sbcd: configuration {} is in force", line.generation);
        }
        (Err(_), false) => counters.refused.add(1),
        (_, true) => {}
    }
    outcome
}

/// Puts other decks in force when a moment has come or something was written about one. The file is not
/// read again: what stands in it half edited is nobody's wish yet.
pub(crate) async fn restock(state: &Shared) {
    let running = {
        let mut state = state.borrow_mut();
        if state.draining || std::mem::replace(&mut state.reloading, true) {
            return;
        }
        state.config.clone()
    };
    let old = running.clone();
    let read = spawn_blocking(move || {
        let mut next = running.restock(wall_s()).map_err(|e| e.to_string())?;
        next.stock.keep();
        next.stock.settle();
        Ok::<_, String>(next)
    })
    .await;
    match read.unwrap_or_else(|_| Err("reading them failed: see the log".into())) {
        Ok(next) => {
            let generation = next.image.generation;
            publish(state, Arc::new(next), None).await;
            spawn_blocking(move || drop(old));
            eprintln!("sbcd: other decks are in force, as configuration {generation}");
        }
        Err(error) => {
            eprintln!("sbcd: the decks stay as they are: {error}");
            // Not again every second: an operator has to do something first.
            state.borrow_mut().restock_after = Some(Instant::now() + AFTER_FAILURE);
        }
    }
    state.borrow_mut().reloading = false;
}

/// SIGHUP: the same, with the log for an answer.
pub(crate) async fn reload_and_tell(state: &Shared) {
    if let Err(error) = reload(state, false).await {
        eprintln!("sbcd: the configuration was not reloaded:\n{error}");
    }
}

/// Gives every shard the new image, and stays until each says that it routes by it.
async fn publish(state: &Shared, next: Arc<Config>, terms: Option<Terms>) {
    let image = next.image.clone();
    let shards = state.borrow().shards;
    for shard in 0..shards {
        let mut letter = Letter::Config(image.clone());
        loop {
            let sent = state.borrow_mut().mesh.send(ShardId(shard as u8), letter);
            // A full ring is emptied in the shard's next turn.
            let Err(back) = sent else { break };
            letter = back;
            sleep(AGAIN).await;
        }
    }
    let taken = {
        let mut state = state.borrow_mut();
        let before = std::mem::replace(&mut state.config, next);
        state.forget_numbers(&before.dips);
        state.model.reload(&image);
        state.quality.reload(&image);
        state.names.follow(&image, Instant::now());
        if let Some(terms) = terms {
            state.terms = Arc::new(terms);
        }
        state.agree();
        state.publish.send_replace(image.clone());
        state.exposition.clone()
    };
    let everywhere = async {
        while !taken.shards.iter().all(|s| s.signal.generation.get() == image.generation) {
            sleep(AGAIN).await;
        }
    };
    if timeout(PATIENCE, everywhere).await.is_err() {
        eprintln!("sbcd: not every shard has taken configuration {} yet", image.generation);
    }
}

/// What is different, by name.
fn changes(old: &Image, new: &Image, published: bool) -> ReloadLine {
    let live = |image: &Image| -> BTreeMap<Box<str>, Trunk> {
        let trunks = image.trunks.iter().filter(|t| !t.retired);
        trunks.map(|t| (t.name.clone(), t.clone())).collect()
    };
    let (before, after) = (live(old), live(new));
    let names = |of: &BTreeMap<Box<str>, Trunk>, pick: &dyn Fn(&str, &Trunk) -> bool| {
        of.iter().filter(|(name, t)| pick(name, t)).map(|(name, _)| name.to_string()).collect()
    };
    ReloadLine {
        generation: if published { new.generation } else { old.generation },
        published,
        trunks_added: names(&after, &|name, _| !before.contains_key(name)),
        trunks_removed: names(&before, &|name, _| !after.contains_key(name)),
        trunks_changed: names(&after, &|name, t| before.get(name).is_some_and(|b| b != t)),
        trunks: after.len(),
        routes: new.routes.len(),
    }
}
