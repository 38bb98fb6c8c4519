//! What penalties count: the last tokens of a sequence.

use std::collections::{HashMap, VecDeque};

use crate::ids::TokenId;

/// The last tokens of a sequence and how often each is among them.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    window: usize,
    order: VecDeque<TokenId>,
    counts: HashMap<TokenId, u32>,
}

impl Recent {
    pub(super) fn new(window: usize) -> Self {
        Recent {
            window,
            order: VecDeque::new(),
            counts: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, token: TokenId) {
        if self.window == 0 {
            return;
        }
        if self.order.len() == self.window
            && let Some(oldest) = self.order.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.order.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (TokenId, u32)> + '_ {
        self.counts.iter().map(|(token, count)| (*token, *count))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_is_counted() {
        let counted = |window, tokens: &[TokenId]| {
            let mut recent = Recent::new(window);
            tokens.iter().for_each(|token| recent.push(*token));
            let mut counts: Vec<_> = recent.counts().collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(counted(3, &[1, 1, 2, 1]), [(1, 2), (2, 1)]);
        assert_eq!(counted(2, &[1, 2, 3]), [(2, 1), (3, 1)]);
        assert_eq!(counted(0, &[1, 2]), []);
    }
}
