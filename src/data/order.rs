//! Orders that follow from a seed, the same on every machine and in every version.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for, so that no two uses share one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    Samples,
    Parts,
    Rows,
    Start,
    Prompts,
}

/// The stream of one epoch for one use.
pub(super) fn stream(seed: u64, epoch: u64, purpose: Use) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    let words = [seed, epoch, purpose as u64];
    for (place, byte) in bytes
        .iter_mut()
        .zip(words.iter().flat_map(|word| word.to_le_bytes()))
    {
        *place = byte;
    }
    ChaCha8Rng::from_seed(bytes)
}

/// A number below `bound`; 0 for a bound of 0. Its bias is below `bound` / 2^64.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    let word: u64 = rng.random();
    word.checked_rem(bound as u64).unwrap_or(0) as usize
}

/// Fisher and Yates's shuffle, written out because the library's own may change with its version.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

/// The order in which `count` prompts are gone through in an epoch.
pub(crate) fn order_of_prompts(seed: u64, epoch: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order, &mut stream(seed, epoch, Use::Prompts));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_follows_from_seed_epoch_and_use() {
        let order = |seed, epoch, purpose| {
            let mut items: Vec<u32> = (0..50).collect();
            shuffle(&mut items, &mut stream(seed, epoch, purpose));
            items
        };
        let first = order(1, 0, Use::Samples);
        assert_eq!(first, order(1, 0, Use::Samples));
        for other in [
            order(2, 0, Use::Samples),
            order(1, 1, Use::Samples),
            order(1, 0, Use::Rows),
        ] {
            assert_ne!(first, other);
        }
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        // A change of this order would make saved cursors point elsewhere.
        let mut few: Vec<u32> = (0..8).collect();
        shuffle(&mut few, &mut stream(7, 3, Use::Samples));
        assert_eq!(few, GOLDEN);
        assert_eq!(below(&mut stream(0, 0, Use::Parts), 0), 0);
    }

    const GOLDEN: [u32; 8] = [5, 1, 2, 7, 4, 6, 3, 0];
}
