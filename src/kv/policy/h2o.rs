//! Heavy hitters and recent positions, as published: <https://arxiv.org/abs/2306.14048>.
//!
//! The score of a key is the attention it has received since it was inserted, its own row included, summed over
//! the queries that share its KV head. Equal scores keep the lower position, so that the outcome is one order.

use std::cmp::Ordering;

/// `slots` in time order -> the `heavy` best-scored of all but the last `recent`, and those; in time order.
pub(super) fn keep(slots: Vec<usize>, scores: &[f32], heavy: usize, recent: usize) -> Vec<usize> {
    if slots.len() <= heavy + recent {
        return slots;
    }
    let (old, newest) = slots.split_at(slots.len() - recent);
    let mut ranked: Vec<usize> = (0..old.len()).collect();
    // Stable: among equals the earlier place in `old`, which is the lower position, stays first.
    ranked.sort_by(|&a, &b| descending(scores[old[a]], scores[old[b]]));
    ranked.truncate(heavy);
    ranked.sort_unstable();
    ranked
        .into_iter()
        .map(|place| old[place])
        .chain(newest.iter().copied())
        .collect()
}

/// The worst-scored slot outside of the last `recent` positions; of equals, the highest position.
pub(super) fn victim(positions: &[u32], scores: &[f32], recent: usize) -> Option<usize> {
    let first_recent = first_of_the_last(positions, recent);
    let mut worst: Option<usize> = None;
    for slot in 0..positions.len() {
        if first_recent.is_some_and(|first| positions[slot] >= first) {
            continue;
        }
        let worse = worst.is_none_or(|held| match scores[slot].total_cmp(&scores[held]) {
            Ordering::Less => true,
            Ordering::Equal => positions[slot] > positions[held],
            Ordering::Greater => false,
        });
        if worse {
            worst = Some(slot);
        }
    }
    worst
}

/// The lowest of the `recent` highest positions, or `None` when `recent` is 0.
fn first_of_the_last(positions: &[u32], recent: usize) -> Option<u32> {
    if recent == 0 || positions.is_empty() {
        return None;
    }
    let newest = positions.iter().copied().max()?;
    // While decoding the newest positions are consecutive and all held, so the boundary is arithmetic.
    let guess = newest.saturating_sub(recent as u32 - 1);
    if positions
        .iter()
        .filter(|&&position| position >= guess)
        .count()
        == recent
    {
        return Some(guess);
    }
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    Some(sorted[sorted.len().saturating_sub(recent)])
}

fn descending(a: f32, b: f32) -> Ordering {
    b.total_cmp(&a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_keep_the_lower_position() {
        let slots = vec![2, 0, 1, 3];
        assert_eq!(keep(slots, &[1.0, 1.0, 1.0, 9.0], 2, 1), [2, 0, 3]);
        assert_eq!(victim(&[1, 2, 0, 3], &[1.0, 1.0, 1.0, 0.0], 1), Some(1));
    }

    #[test]
    fn no_recent_and_no_heavy_are_legal() {
        assert_eq!(keep(vec![0, 1, 2], &[0.1, 0.9, 0.5], 1, 0), [1]);
        assert_eq!(victim(&[0, 1, 2], &[0.1, 0.9, 0.5], 0), Some(0));
        assert_eq!(keep(vec![0, 1, 2], &[0.1, 0.9, 0.5], 0, 1), [2]);
        assert_eq!(victim(&[4, 9, 5], &[5.0, 0.1, 7.0], 2), Some(0));
    }

    #[test]
    fn recent_is_counted_in_held_positions_also_across_gaps() {
        assert_eq!(first_of_the_last(&[0, 2, 9, 4], 2), Some(4));
        assert_eq!(first_of_the_last(&[7, 8, 9], 2), Some(8));
    }
}
