//! Random seeds: the first hundred, and every seed that ever failed.

use sim::run::Outcome;

fn must_pass(seed: u64) -> Outcome {
    let outcome = sim::run::check(seed, u64::MAX);
    if let Some(failure) = outcome.failure {
        panic!("{failure}");
    }
    outcome
}

#[test]
fn a_hundred_seeds() {
    let outcomes: Vec<Outcome> = (1..=100).map(must_pass).collect();
    let cdrs: usize = outcomes.iter().map(|o| o.cdrs).sum();
    let steps: u64 = outcomes.iter().map(|o| o.steps).sum();
    let [joined, replaced] = [0, 1].map(|i| outcomes.iter().map(|o| o.joined[i]).sum::<usize>());
    println!("sim_seeds 100 count\nsim_cdrs {cdrs} count\nsim_steps {steps} count");
    println!("sim_joined {joined} count\nsim_replaced {replaced} count");
    assert!(cdrs > 300 && steps > 10_000, "the seeds have become idle: {cdrs} CDRs, {steps} steps");
    let aside: [u64; 3] = [0, 1, 2].map(|i| outcomes.iter().map(|o| o.aside[i]).sum());
    let [released, anchored, asked] = aside;
    println!(
        "sim_released {released} count\nsim_anchored {anchored} count\nsim_asked {asked} count"
    );
    assert!(
        released > 0 && anchored > 0 && asked > 0,
        "media never goes past the node, or nobody is asked: {aside:?}"
    );
    assert!(
        joined > 0 && replaced > 0,
        "no attended transfers: {joined} joined, {replaced} replaced"
    );
}

#[test]
fn seeds_that_once_failed() {
    let kept = include_str!("../seeds.txt").lines().filter(|l| !l.starts_with('#'));
    for line in kept {
        let seed = line.split_whitespace().next().and_then(|s| s.parse().ok());
        must_pass(seed.expect("a seed, then what it found"));
    }
}
