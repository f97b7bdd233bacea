//! Decisions while a vendor's deck is replaced under them.

use super::node::{AT, Node, WHOLESALE};
use super::{CALL_MS, Numbers, figure, read, timed};
use base::money::Ratio;
use routing_trie::deck::Deck;
use routing_trie::market::Entry;
use sbc::policy::Image;
use sbc::policy::plan::Book;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// What a swap does to decisions: while a worker reads a deck, makes the next image and has the last one to
/// free, and while nobody does. The middle of nine rounds of each.
pub(crate) fn swaps(node: &Node, files: &[PathBuf], numbers: &Numbers) -> Result<(), String> {
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    let mut image = node.image.clone();
    for round in 0..9 {
        let calls = numbers.traffic.iter().cycle();
        let mut times: Vec<Duration> = calls
            .clone()
            .take(400_000)
            .map(|n| timed(|| node.choose(&image, WHOLESALE, *n)))
            .collect();
        idle.push(share(&mut times, 999));
        times.clear();
        let file = files.get(round % 2).ok_or("less than two vendors")?.clone();
        let (give, given) = channel();
        let (back, old) = channel::<Arc<Image>>();
        let before = image.clone();
        let worker = std::thread::spawn(move || -> Result<(), String> {
            engine::io::pin::give_way();
            let next = image_with(&before, &read(&file)?)?;
            drop(before);
            give.send(next).map_err(|e| e.to_string())?;
            old.recv().map(drop).map_err(|e| e.to_string())
        });
        let mut after = 0;
        for number in calls {
            if let Ok(next) = given.try_recv() {
                let last = std::mem::replace(&mut image, next);
                back.send(last).map_err(|e| e.to_string())?;
            }
            times.push(timed(|| node.choose(&image, WHOLESALE, *number)));
            after += usize::from(worker.is_finished());
            if after > 100_000 {
                break;
            }
        }
        worker.join().map_err(|_| "the worker failed")??;
        busy.push(share(&mut times, 999));
    }
    idle.sort_unstable();
    busy.sort_unstable();
    let (idle, busy) = (idle[4].as_nanos() as f64, busy[4].as_nanos() as f64);
    figure("choice_idle_p99.9", idle, "ns");
    figure("choice_while_swapping_p99.9", busy, "ns");
    figure("choice_swapping_to_idle", busy / idle, "ratio");
    Ok(())
}

/// The image with another deck of the first vendor.
fn image_with(image: &Image, deck: &Deck) -> Result<Arc<Image>, String> {
    let book = &image.book;
    let market = book.market.as_ref().ok_or("no market")?;
    let entry = Entry { deck, fx: Ratio::ONE, profiles: &[] };
    let next = market.replace(0, &entry, AT, CALL_MS).map_err(|why| why.to_string())?;
    let (bought, sold) = (book.bought.clone(), book.sold.clone());
    let mut image = Image::clone(image);
    image.book = Arc::new(Book { market: Some(next), bought, sold });
    Ok(Arc::new(image))
}

/// The time that so many in a thousand do not exceed.
fn share(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * per_mille / 1_000).copied().unwrap_or_default()
}
