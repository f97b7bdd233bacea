//! Nanoseconds per longest match in an image the size of the world's prefixes, hot and cold.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use routing_trie::{Builder, Digits, Image};
use std::hint::black_box;

const PREFIXES: usize = 366_745;

/// A number of `len` digits made of `seed`.
fn number(seed: u64, len: usize) -> Digits {
    let mut digits = Digits::EMPTY;
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..len {
        state ^= state >> 29;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        digits.push((state >> 40) as u8 % 10);
    }
    digits
}

fn world() -> Image {
    let mut builder = Builder::new();
    let mut seed = 0u64;
    while builder.len() < PREFIXES {
        // Lengths 1 to 9, most of them long, as in carriers' decks; duplicates are skipped.
        let _ = builder.insert(number(seed, 4 + (seed % 6) as usize), (seed % 50_000) as u32);
        seed += 1;
    }
    builder.build()
}

fn lookup(c: &mut Criterion) {
    let image = world();
    println!("image: {} prefixes, {} bytes", image.len(), image.as_bytes().len());
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    for (name, count) in [("hot", 256u64), ("cold", 1 << 20)] {
        let numbers: Vec<Digits> = (0..count).map(|i| number(i * 7, 12)).collect();
        let mut at = 0usize;
        group.bench_function(name, |b| {
            b.iter(|| {
                // A stride that visits every number, far from the last one.
                at = (at + 514_229) % numbers.len();
                black_box(image.lookup(numbers[at]))
            });
        });
    }
    group.bench_function("all_matches_hot", |b| {
        let number = number(7, 12);
        b.iter(|| image.matches(black_box(number)).last());
    });
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
