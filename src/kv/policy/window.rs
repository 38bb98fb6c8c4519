//! The last positions, with or without the first ones: `window` and `streaming`.

/// `slots` in time order -> the first `sinks` of them and the last `recent`.
///
/// The first slots held stand for the first positions: sinks are never evicted, so they stay first.
pub(super) fn keep(slots: Vec<usize>, sinks: usize, recent: usize) -> Vec<usize> {
    if slots.len() <= sinks + recent {
        return slots;
    }
    let tail = slots.len() - recent;
    slots[..sinks]
        .iter()
        .chain(&slots[tail..])
        .copied()
        .collect()
}

/// The oldest position after the first `sinks`.
pub(super) fn victim(positions: &[u32], sinks: usize) -> Option<usize> {
    let mut slots: Vec<usize> = (0..positions.len()).collect();
    if sinks >= slots.len() {
        return None;
    }
    let (_, &mut slot, _) = slots.select_nth_unstable_by_key(sinks, |&slot| positions[slot]);
    Some(slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_and_the_newest_stay() {
        assert_eq!(keep(vec![3, 1, 2, 0, 4], 1, 2), [3, 0, 4]);
        assert_eq!(keep(vec![3, 1], 1, 2), [3, 1]);
        assert_eq!(keep(vec![0, 1, 2], 0, 1), [2]);
    }

    #[test]
    fn the_oldest_after_the_sinks_goes() {
        assert_eq!(victim(&[7, 0, 5, 3], 1), Some(3));
        assert_eq!(victim(&[7, 0, 5, 3], 0), Some(1));
        assert_eq!(victim(&[7], 1), None);
    }
}
