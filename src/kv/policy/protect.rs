//! What is never evicted, whatever it scores.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Positions that stay.
///
/// Scores alone drop the structure of a prompt: every published scorer collapses on chat templates unless its
/// boundary is reserved (<https://arxiv.org/abs/2605.18053>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protect {
    /// The first positions of the sequence.
    pub sinks: usize,
    /// The newest positions held.
    pub recent: usize,
    /// Spans named by the request, and the system prompt with its template.
    pub pins: Arc<[Range<u32>]>,
}

impl Protect {
    /// The first `sinks` and the last `recent`.
    pub fn ends(sinks: usize, recent: usize) -> Self {
        Protect {
            sinks,
            recent,
            pins: Arc::default(),
        }
    }

    /// How many positions are protected at most.
    pub fn len(&self) -> usize {
        let pinned: usize = self.pins.iter().map(|span| span.len()).sum();
        self.sinks + self.recent + pinned
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `position` is a sink or pinned.
    pub fn holds(&self, position: u32) -> bool {
        (position as usize) < self.sinks || self.pins.iter().any(|span| span.contains(&position))
    }
}

/// The lowest of the `recent` highest positions, or `None` when `recent` is 0.
pub(super) fn first_recent(positions: &[u32], recent: usize) -> Option<u32> {
    if recent == 0 {
        return None;
    }
    let newest = positions.iter().copied().max()?;
    // While decoding the newest positions are consecutive and all held, so the boundary is arithmetic.
    let guess = newest.saturating_sub(u32::try_from(recent - 1).unwrap_or(u32::MAX));
    if positions.iter().filter(|&&p| p >= guess).count() == recent {
        return Some(guess);
    }
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    Some(sorted[sorted.len().saturating_sub(recent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_is_counted_in_held_positions_also_across_gaps() {
        assert_eq!(first_recent(&[0, 2, 9, 4], 2), Some(4));
        assert_eq!(first_recent(&[7, 8, 9], 2), Some(8));
        assert_eq!(first_recent(&[7, 8, 9], 9), Some(7));
        assert_eq!(first_recent(&[7, 8, 9], 0), None);
    }

    #[test]
    fn pins_and_sinks_hold() {
        let protect = Protect {
            sinks: 2,
            recent: 1,
            pins: std::iter::once(5..7).collect(),
        };
        let held: Vec<u32> = (0..9).filter(|&p| protect.holds(p)).collect();
        assert_eq!((held, protect.len()), (vec![0, 1, 5, 6], 5));
    }
}
