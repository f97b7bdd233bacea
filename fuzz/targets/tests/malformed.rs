//! Thousands of broken messages from a peer the node knows: it stays alive and keeps nothing.

use base::random::Random;
use sim::scene::{NODE, Scene};
use std::path::Path;
use std::time::Duration;

const BATCHES: usize = 70;
const PER_BATCH: usize = 64;

/// A sample with one to four wounds.
fn wound(random: &mut Random, sample: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() as u32 + 1) as usize;
        let end = (at + random.below(40) as usize).min(bytes.len());
        let words: [&[u8]; 12] = [
            b"\r\n",
            b"\n",
            b"\0",
            b";",
            b",",
            b"\"",
            b"<",
            b">",
            b"99999999999",
            b"%",
            b"\xff",
            b": ",
        ];
        match random.below(8) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => {
                let from = random.below(other.len() as u32) as usize;
                let to = (from + random.below(80) as usize).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            5 => {
                let word = words[random.below(12) as usize];
                bytes.splice(at..at, word.repeat(1 + random.below(30) as usize));
            }
            _ => {
                let word = words[random.below(12) as usize];
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    bytes.truncate(60_000);
    bytes
}

/// Our samples, and whole calls as a peer would send them.
fn samples(scene: &mut Scene) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let own = targets::samples::messages(&root).expect("our samples");
    let mut out: Vec<Vec<u8>> = own.into_iter().map(|(_, bytes)| bytes).collect();
    let offer =
        sim::wire::sdp("198.51.100.10:4000".parse().expect("an address"), 1, "0 8 101", "sendrecv");
    for method in ["INVITE", "INVITE", "INVITE", "BYE", "CANCEL", "ACK", "OPTIONS", "REGISTER"] {
        let body = if method == "INVITE" { offer.as_str() } else { "" };
        out.push(scene.request(method, method, "442079460000", "", body).into_bytes());
    }
    out
}

fn assert_alive(scene: &mut Scene, batch: usize) {
    while scene.world.take(scene.caller).is_some() {}
    let text =
        scene.request("OPTIONS", &format!("alive{batch}"), "", "", "").replace("sip:@", "sip:");
    scene.world.send(scene.caller, scene.node, text);
    let id = format!("alive{batch}@caller");
    for _ in 0..500 {
        let text = scene.next(scene.caller);
        if text.get("Call-ID") == id {
            return assert_eq!(text.status(), Some(200), "{}", text.raw);
        }
    }
    panic!("no answer after batch {batch}");
}

#[test]
fn thousands_of_malformed_messages_leave_nothing_behind() {
    let mut scene = Scene::new();
    let mut random = Random::new((20, 26));
    let samples = samples(&mut scene);
    let node = NODE.parse().unwrap();
    for batch in 0..BATCHES {
        for i in 0..PER_BATCH {
            let pick = |random: &mut Random| {
                // Half of them are wounded copies of what would make a call.
                let from = if random.below(2) == 0 { samples.len() as u32 - 8 } else { 0 };
                &samples[(from + random.below(samples.len() as u32 - from)) as usize]
            };
            let (sample, other) = (pick(&mut random).clone(), pick(&mut random).clone());
            let mut bytes = wound(&mut random, &sample, &other);
            // A call of its own for each, so that most get past the look-up of transactions.
            let own = format!("w{batch}x{i}@caller");
            if let Some(at) = bytes.windows(7).position(|w| w == b"@caller") {
                bytes.splice(at..at + 7, own.bytes());
            }
            scene.world.send(scene.caller, node, bytes);
        }
        scene.world.run(Duration::from_millis(200));
        assert_alive(&mut scene, batch);
        if batch % 8 == 7 {
            scene.world.run(Duration::from_secs(100));
        }
    }
    scene.world.run(Duration::from_secs(400));
    for shard in scene.world.shards() {
        assert_eq!(shard.signal().calls(), 0);
        assert_eq!(shard.signal().transactions(), 0);
        assert_eq!(shard.media().in_use(), 0);
    }
    assert!(scene.world.regions().iter().all(|r| r.records.is_empty()));
    assert_eq!(scene.world.open_calls(), 0);
    scene.world.assert_cdrs_unique();
    assert!(scene.world.cdrs().len() > 100, "too little gets as far as a call");
    println!("malformed_messages {} count", BATCHES * PER_BATCH);
    println!("malformed_cdrs {} count", scene.world.cdrs().len());
}
