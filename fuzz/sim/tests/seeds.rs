//! Random seeds: the first hundred, and every seed that ever failed.

fn must_pass(seed: u64) -> (usize, u64) {
    let outcome = sim::run::check(seed, u64::MAX);
    if let Some(failure) = outcome.failure {
        panic!("{failure}");
    }
    (outcome.cdrs, outcome.steps)
}

#[test]
fn a_hundred_seeds() {
    let (cdrs, steps) = (1..=100).map(must_pass).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("sim_seeds 100 count\nsim_cdrs {cdrs} count\nsim_steps {steps} count");
    assert!(cdrs > 300 && steps > 10_000, "the seeds have become idle: {cdrs} CDRs, {steps} steps");
}

#[test]
fn seeds_that_once_failed() {
    let kept = include_str!("../seeds.txt").lines().filter(|l| !l.starts_with('#'));
    for line in kept {
        let seed = line.split_whitespace().next().and_then(|s| s.parse().ok());
        must_pass(seed.expect("a seed, then what it found"));
    }
}
