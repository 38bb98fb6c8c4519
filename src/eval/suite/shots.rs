//! Which items a task asks, in which order, and which stand before them as examples.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The seed of the order of items, CORE's.
const ORDER: u64 = 1337;

/// The seed of the examples of item 0, CORE's; item i adds i.
const EXAMPLES: u64 = 1234;

/// The first `limit` of `available` items in a shuffled order; all of them, in that order, without a limit.
///
/// Seeds are those of CORE in nanochat (<https://github.com/karpathy/nanochat>), the generator is ChaCha8: the same
/// items on every machine, but others than Python draws.
pub(super) fn order(available: usize, limit: Option<usize>) -> Vec<usize> {
    let mut items: Vec<usize> = (0..available).collect();
    items.shuffle(&mut ChaCha8Rng::seed_from_u64(ORDER));
    items.truncate(limit.unwrap_or(available));
    items
}

/// `shots` different items of `available` as examples for `item`, never itself; `place` is where it stands in the order.
pub(super) fn examples(available: usize, item: usize, place: usize, shots: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(EXAMPLES + place as u64);
    let mut others: Vec<usize> = (0..available).filter(|&other| other != item).collect();
    let mut chosen = Vec::with_capacity(shots);
    while chosen.len() < shots && !others.is_empty() {
        chosen.push(others.swap_remove(rng.random_range(0..others.len())));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn orders_are_permutations(available in 0_usize..200, limit in 0_usize..250) {
            let all = order(available, None);
            prop_assert_eq!(all.iter().copied().collect::<BTreeSet<_>>().len(), available);
            let some = order(available, Some(limit));
            prop_assert_eq!(&some[..], &all[..limit.min(available)]);
        }

        #[test]
        fn examples_are_others(available in 2_usize..60, at in 0_usize..60, shots in 0_usize..10) {
            let item = at % available;
            let chosen = examples(available, item, at, shots);
            prop_assert_eq!(&chosen, &examples(available, item, at, shots));
            prop_assert_eq!(chosen.len(), shots.min(available - 1));
            let set: BTreeSet<_> = chosen.iter().collect();
            prop_assert_eq!(set.len(), chosen.len());
            prop_assert!(!set.contains(&item));
        }
    }

    #[test]
    fn places_draw_differently() {
        let drawn: BTreeSet<Vec<usize>> = (0..20).map(|at| examples(100, 0, at, 3)).collect();
        assert!(drawn.len() > 15);
    }
}
