//! The order in which candidates are tried: by priority, then by weighted share (RFC 2782).
//!
//! One 64-bit ticket decides the whole order. It is read as a fraction of 2⁶⁴: the fraction falls into
//! one candidate's share, and what it is within that share decides about the rest. So a uniform ticket
//! gives each candidate its share exactly (to 1 in 2⁶⁴), integers only, and equal tickets give equal
//! orders. Tickets of [`smooth`] are better than random: every stretch of calls, not only the long run,
//! is split by the shares.

/// Something that may be tried.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The caller's name for it.
    pub id: u32,
    /// Lower is tried earlier.
    pub priority: u16,
    /// Its share among those of its priority. Those of weight 0 come last, in the order given.
    pub weight: u32,
}

/// The ticket of the `counter`th call: multiples of the golden ratio modulo one, the most even
/// sequence there is.
pub const fn smooth(counter: u64) -> u64 {
    counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The ticket of the `turn`th call among shares that add up to `total`: every `total` turns each first
/// choice comes up exactly as often as its share says, evenly spread. `draw`, a random number, decides
/// about the choices after it.
pub fn fair(turn: u64, total: u64, draw: u64) -> u64 {
    if total == 0 {
        return draw;
    }
    // A stride near the golden section, and prime to the total: every slot once, neighbours far apart.
    let golden = ((u128::from(total) * 0x9e37_79b9_7f4a_7c15) >> 64) as u64;
    let mut stride = golden.max(1);
    while divisor(stride, total) != 1 {
        stride += 1;
    }
    let slot = u128::from(turn % total) * u128::from(stride) % u128::from(total);
    // Not at the very beginning of the slot, where rounding down would fall into the one before.
    let point = slot << 64 | u128::from(draw.max(total));
    u64::try_from(point / u128::from(total)).unwrap_or(u64::MAX)
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Sorts candidates by priority and draws the order within each by share. In place; meant for lists as
/// short as a call tries (8 to 16).
pub fn order(candidates: &mut [Candidate], ticket: u64) {
    sort_by_priority(candidates);
    let mut rest = candidates;
    while let Some(first) = rest.first() {
        let priority = first.priority;
        let len = rest.iter().take_while(|c| c.priority == priority).count();
        let (group, tail) = rest.split_at_mut(len);
        draw_all(group, ticket);
        rest = tail;
    }
}

/// Stable insertion: the order given breaks ties, and the standard stable sort would allocate.
fn sort_by_priority(candidates: &mut [Candidate]) {
    for end in 1..candidates.len() {
        let priority = candidates[end].priority;
        let at = candidates[..end].partition_point(|c| c.priority <= priority);
        candidates[at..=end].rotate_right(1);
    }
}

fn draw_all(group: &mut [Candidate], ticket: u64) {
    let mut fraction = ticket;
    for from in 0..group.len() {
        let rest = &mut group[from..];
        let Some((at, within)) = draw(rest, fraction) else {
            return;
        };
        // The one drawn moves to the front; the others keep their order.
        rest[..=at].rotate_right(1);
        fraction = within;
    }
}

/// Whose share `fraction` falls into, and which fraction of that share it is. `None` without shares.
fn draw(group: &[Candidate], fraction: u64) -> Option<(usize, u64)> {
    let total: u128 = group.iter().map(|c| u128::from(c.weight)).sum();
    // Below `total` times 2⁶⁴; weights are 32 bits, so there is room for 2³² of them.
    let mut point = u128::from(fraction) * total;
    for (at, candidate) in group.iter().enumerate() {
        let share = u128::from(candidate.weight) << 64;
        if point < share {
            let within = point / u128::from(candidate.weight);
            return Some((at, u64::try_from(within).unwrap_or(u64::MAX)));
        }
        point -= share;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn group(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |(id, &weight)| Candidate { id, priority: 1, weight };
        (0..).zip(weights).map(candidate).collect()
    }

    fn ids(candidates: &[Candidate]) -> Vec<u32> {
        candidates.iter().map(|c| c.id).collect()
    }

    #[test]
    fn every_order_comes_up_exactly_as_often_as_its_shares_say() {
        // Shares 1:1:2 in 256 evenly spaced tickets.
        let mut seen: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        for ticket in 0..256u64 {
            let mut candidates = group(&[1, 1, 2]);
            order(&mut candidates, ticket << 56);
            *seen.entry(ids(&candidates)).or_default() += 1;
        }
        let firsts = |id| seen.iter().filter(|(k, _)| k[0] == id).map(|(_, n)| n).sum::<u32>();
        assert_eq!([firsts(0), firsts(1), firsts(2)], [64, 64, 128]);
        assert_eq!((seen[&vec![2, 0, 1]], seen[&vec![2, 1, 0]]), (64, 64));
        // One third and two thirds of 64, as near as whole tickets can.
        assert_eq!((seen[&vec![0, 1, 2]], seen[&vec![0, 2, 1]]), (22, 42));
    }

    #[test]
    fn smooth_tickets_keep_the_shares_over_every_stretch() {
        let weights = [70u32, 20, 10];
        let mut taken = [0i64; 3];
        for call in 1..=100_000i64 {
            let mut candidates = group(&weights);
            order(&mut candidates, smooth(call as u64));
            taken[candidates[0].id as usize] += 1;
            for (taken, weight) in taken.iter().zip(weights) {
                let off = (taken * 100 - call * i64::from(weight)).abs();
                assert!(off <= 500, "more than five calls off after {call}");
            }
        }
    }

    #[test]
    fn a_million_fair_draws_are_exact() {
        for weights in [[70u32, 20, 10], [1, 1, 2], [333_333, 333_333, 333_334]] {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            let mut taken = [0u64; 3];
            let mut seconds = [0u64; 3];
            for turn in 0..1_000_000u64 {
                let mut candidates = group(&weights);
                let draw = turn.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17);
                order(&mut candidates, fair(turn, total, draw));
                taken[candidates[0].id as usize] += 1;
                seconds[candidates[1].id as usize] += 1;
            }
            let exact = weights.map(|w| 1_000_000 / total * u64::from(w));
            assert_eq!(taken, exact, "{weights:?}");
            assert!(seconds.iter().all(|n| *n > 0), "{seconds:?}");
        }
    }

    #[test]
    fn priorities_come_first_and_zero_shares_last() {
        let mut candidates = group(&[0, 5, 0, 5]);
        candidates.push(Candidate { id: 9, priority: 0, weight: 0 });
        order(&mut candidates, 0);
        assert_eq!(ids(&candidates), [9, 1, 3, 0, 2]);
        order(&mut candidates, u64::MAX);
        assert_eq!(ids(&candidates), [9, 3, 1, 0, 2]);
        order(&mut [], 7);
    }

    proptest! {
        #[test]
        fn fair_shares_are_exact_over_every_round(
            weights in prop::collection::vec(0u32..50, 1..8),
            rounds in 1u64..4,
            first in 0u64..u64::MAX / 2,
            draw in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        ) {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let mut taken = vec![0u64; weights.len()];
            for turn in 0..rounds * total {
                let mut candidates = group(&weights);
                order(&mut candidates, fair(first + turn, total, draw));
                taken[candidates[0].id as usize] += 1;
            }
            let exact: Vec<u64> = weights.iter().map(|w| u64::from(*w) * rounds).collect();
            prop_assert_eq!(taken, exact);
        }

        #[test]
        fn nothing_is_lost_and_priorities_ascend(
            list in prop::collection::vec((0u16..4, prop_oneof![Just(0), Just(u32::MAX), 0u32..100]), 0..20),
            ticket in any::<u64>(),
        ) {
            let mut candidates: Vec<Candidate> = (0..)
                .zip(&list)
                .map(|(id, &(priority, weight))| Candidate { id, priority, weight })
                .collect();
            order(&mut candidates, ticket);
            prop_assert!(candidates.is_sorted_by_key(|c| (c.priority, c.weight == 0)));
            let mut all = ids(&candidates);
            all.sort_unstable();
            prop_assert_eq!(all, (0..list.len() as u32).collect::<Vec<_>>());
        }
    }
}
