//! From importance to a decision: which slots stay, and which one goes.
//!
//! Equal scores keep the lower position, so that the outcome is one order.

use std::cmp::Ordering;

use super::protect::{Protect, first_recent};

/// The slots to keep, in ascending order of position: the protected ones and the most important others, `capacity`
/// in all. What is protected beyond the capacity is given up from its oldest unpinned end.
pub(super) fn keep(
    positions: &[u32],
    importance: &[f32],
    protect: &Protect,
    capacity: usize,
) -> Vec<usize> {
    let mut slots: Vec<usize> = (0..positions.len()).collect();
    slots.sort_unstable_by_key(|&slot| positions[slot]);
    if slots.len() <= capacity {
        return slots;
    }
    let newest = slots.len() - protect.recent.min(slots.len());
    let class = |place: usize, slot: usize| -> u8 {
        if protect.holds(positions[slot]) {
            2
        } else {
            u8::from(place >= newest)
        }
    };
    let mut ranked: Vec<(u8, usize)> = slots
        .iter()
        .enumerate()
        .map(|(place, &slot)| (class(place, slot), slot))
        .collect();
    ranked.sort_by(|&(a_class, a), &(b_class, b)| {
        let within = match a_class {
            // Of the newest, the newest first; of the rest, the most important first, then the older.
            1 => positions[b].cmp(&positions[a]),
            _ => score(importance, b)
                .total_cmp(&score(importance, a))
                .then(positions[a].cmp(&positions[b])),
        };
        b_class.cmp(&a_class).then(within)
    });
    ranked.truncate(capacity);
    let mut kept: Vec<usize> = ranked.into_iter().map(|(_, slot)| slot).collect();
    kept.sort_unstable_by_key(|&slot| positions[slot]);
    kept
}

/// The least important slot that is not protected; of equals, the highest position. When all are protected, the
/// oldest that is neither sink nor pinned, and if there is none, the newest.
pub(super) fn victim(positions: &[u32], importance: &[f32], protect: &Protect) -> Option<usize> {
    let recent = first_recent(positions, protect.recent);
    let stays = |position| recent.is_some_and(|first| position >= first) || protect.holds(position);
    let mut worst: Option<(f32, usize)> = None;
    for (slot, &position) in positions.iter().enumerate() {
        let score = score(importance, slot);
        let worse = worst.is_none_or(|(least, held)| match score.total_cmp(&least) {
            Ordering::Less => true,
            Ordering::Equal => position > positions[held],
            Ordering::Greater => false,
        });
        // This runs for every slot of every head at every step, and few get here.
        if worse && !stays(position) {
            worst = Some((score, slot));
        }
    }
    let worst = worst.map(|(_, slot)| slot);
    worst
        .or_else(|| {
            (0..positions.len())
                .filter(|&slot| !protect.holds(positions[slot]))
                .min_by_key(|&slot| positions[slot])
        })
        .or_else(|| (0..positions.len()).max_by_key(|&slot| positions[slot]))
}

/// Without scores all are equal.
fn score(importance: &[f32], slot: usize) -> f32 {
    importance.get(slot).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_keep_the_lower_position() {
        let recent = Protect::ends(0, 1);
        assert_eq!(
            keep(&[1, 2, 0, 3], &[1.0, 1.0, 1.0, 9.0], &recent, 3),
            [2, 0, 3]
        );
        assert_eq!(
            victim(&[1, 2, 0, 3], &[1.0, 1.0, 1.0, 0.0], &recent),
            Some(1)
        );
    }

    #[test]
    fn no_recent_and_no_heavy_are_legal() {
        let none = Protect::default();
        assert_eq!(keep(&[0, 1, 2], &[0.1, 0.9, 0.5], &none, 1), [1]);
        assert_eq!(victim(&[0, 1, 2], &[0.1, 0.9, 0.5], &none), Some(0));
        assert_eq!(
            keep(&[0, 1, 2], &[0.1, 0.9, 0.5], &Protect::ends(0, 1), 1),
            [2]
        );
        assert_eq!(
            victim(&[4, 9, 5], &[5.0, 0.1, 7.0], &Protect::ends(0, 2)),
            Some(0)
        );
    }

    #[test]
    fn sinks_and_the_newest_stay_without_scores() {
        let ends = Protect::ends(1, 2);
        assert_eq!(keep(&[3, 1, 2, 0, 4], &[], &ends, 3), [3, 0, 4]);
        assert_eq!(victim(&[7, 0, 5, 3], &[], &ends), Some(3));
        assert_eq!(victim(&[7, 0, 5, 3], &[], &Protect::ends(0, 3)), Some(1));
    }

    #[test]
    fn more_protected_than_fits_still_leaves_something() {
        let all = Protect::ends(2, 3);
        assert_eq!(keep(&[0, 1, 2, 3, 4], &[], &all, 3), [0, 1, 4]);
        assert_eq!(keep(&[0, 1, 2, 3, 4], &[], &all, 1), [0]);
        assert_eq!(victim(&[0, 1, 2, 3, 4], &[], &all), Some(2));
        assert_eq!(victim(&[0, 1], &[], &Protect::ends(2, 0)), Some(1));
    }
}
