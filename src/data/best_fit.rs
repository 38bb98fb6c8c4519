//! Whole samples into rows, the longest that fits next.
//!
//! As nanochat packs conversations (<https://github.com/karpathy/nanochat>): from a window of samples that wait, the row
//! takes the longest that still fits. Here a row begins with the sample that has waited longest, so none waits for ever.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Piece, Row};

/// How many samples wait for a place. More would fill rows better, and part the order of rows from that of the samples.
const WINDOW: usize = 1000;

/// Packs `(sample, length)` in order. Rows hold `context` tokens or fewer; a longer sample is a row of its own.
pub(super) fn rows(samples: &[(u32, u32)], context: u32) -> Vec<Row> {
    let mut coming = samples.iter().enumerate();
    let mut waiting: BTreeMap<u32, VecDeque<usize>> = BTreeMap::new();
    let mut places: BTreeSet<usize> = BTreeSet::new();
    let mut rows = Vec::new();
    loop {
        for (place, (_, length)) in coming.by_ref().take(WINDOW - places.len()) {
            waiting.entry(*length).or_default().push_back(place);
            places.insert(place);
        }
        let Some(first) = places.pop_first() else {
            return rows;
        };
        let mut row = Row::default();
        let mut room = context;
        let mut next = Some(first);
        while let Some(place) = next {
            places.remove(&place);
            let Some(&(sample, len)) = samples.get(place) else {
                break;
            };
            if let Some(same) = waiting.get_mut(&len) {
                same.retain(|other| *other != place);
                if same.is_empty() {
                    waiting.remove(&len);
                }
            }
            row.pieces.push(Piece {
                sample,
                from: 0,
                len,
            });
            room = room.saturating_sub(len);
            let fitting = waiting.range(1..=room.max(1)).next_back();
            next = fitting
                .filter(|(len, _)| **len <= room)
                .and_then(|(_, same)| same.front().copied());
        }
        rows.push(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(lengths: &[u32], context: u32) -> Vec<Vec<u32>> {
        let samples: Vec<(u32, u32)> = (0..).zip(lengths.iter().copied()).collect();
        let rows = rows(&samples, context);
        rows.iter()
            .map(|row| row.pieces.iter().map(|piece| piece.sample).collect())
            .collect()
    }

    #[test]
    fn the_longest_that_fits_is_next() {
        assert_eq!(
            packed(&[5, 3, 6, 4, 2, 1], 10),
            [vec![0, 3, 5], vec![1, 2], vec![4]]
        );
        assert_eq!(packed(&[10, 10], 10), [[0], [1]]);
        assert_eq!(packed(&[], 10), Vec::<Vec<u32>>::new());
        // Longer than a row: the encoder refuses these before, and nothing is lost here.
        assert_eq!(packed(&[12, 1], 10), [[0], [1]]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_cut_and_few_tokens_are_wasted(lengths in prop::collection::vec(1u32..=64, 0..3000)) {
            let samples: Vec<(u32, u32)> = (0..).zip(lengths.iter().copied()).collect();
            let rows = rows(&samples, 64);
            let mut seen: Vec<(u32, u32)> = rows.iter().flat_map(|row| &row.pieces).map(|p| (p.sample, p.len)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, samples);
            for row in &rows {
                prop_assert!(row.tokens() <= 64 && row.padding == 0);
                prop_assert!(row.pieces.iter().all(|piece| piece.from == 0));
            }
            let tokens: u32 = lengths.iter().sum();
            // Better than one sample a row, and never two rows that would fit in one within a window.
            if lengths.len() <= WINDOW {
                prop_assert!(rows.len() as u32 <= 2 * tokens.div_ceil(64) + 1);
            }
        }
    }
}
