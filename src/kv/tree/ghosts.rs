//! What was evicted not long ago, so that a miss can say that the budget is too small.

use std::collections::{HashSet, VecDeque};

/// Enough for a few long prompts; two words each.
const MOST: usize = 4096;

/// Hashes of the newest evicted prefixes. They only choose the words of a log line: a collision misleads its reader
/// and nothing else.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl Ghosts {
    pub(super) fn remember(&mut self, hash: u64) {
        if !self.known.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn knows(&self, hash: u64) -> bool {
        self.known.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_the_memory_is_bounded() {
        let mut ghosts = Ghosts::default();
        for hash in 0..=MOST as u64 {
            ghosts.remember(hash);
            ghosts.remember(hash);
        }
        assert!(!ghosts.knows(0) && ghosts.knows(1) && ghosts.knows(MOST as u64));
        assert_eq!((ghosts.order.len(), ghosts.known.len()), (MOST, MOST));
    }
}
