//! What a row with guesses changed in one head, token by token, so that its last tokens can be taken back to the bit.
//!
//! ```text
//! token by token, inside a layer:   note -> write -> attend, pay -> evict
//! taken back, newest token first:   bring back the evicted row <- drop the written one <- scores as noted
//! ```

use tch::TchError;

use super::head::HeadCache;
use super::kv_rows::Pair;
use crate::kv::{Fast, Need, Slot};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    tokens: Vec<Entry>,
    /// Keys and values that were evicted, in order.
    gone: Pair,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Scores before the token: additions of floats cannot be undone.
    sums: Option<Vec<f32>>,
    fast: Option<Vec<f32>>,
    evicted: Option<(usize, Slot)>,
}

impl Journal {
    /// Before the first token of a row in `head`.
    pub(super) fn new(head: &HeadCache) -> Result<Self, TchError> {
        Ok(Journal {
            tokens: Vec::new(),
            gone: Pair::arena(head.place, head.dim)?,
        })
    }

    /// Before a token is written.
    pub(super) fn note(&mut self, head: &HeadCache, need: Need) {
        let fast = need.fast != Fast::Nothing;
        self.tokens.push(Entry {
            sums: need.sums.then(|| head.slots.sums().to_vec()),
            fast: fast.then(|| head.slots.fast().to_vec()),
            evicted: None,
        });
    }

    /// Before a row of the arena is evicted for the token noted last.
    pub(super) fn evicts(&mut self, head: &HeadCache, slot: usize) -> Result<(), TchError> {
        self.gone.push_from(&head.arena, slot)?;
        if let (Some(entry), Some(was)) = (self.tokens.last_mut(), head.slots.slot(slot)) {
            entry.evicted = Some((slot, was));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Takes back all tokens but the first `kept`. Returns whether any of those evicted a row.
    pub(super) fn undo(mut self, head: &mut HeadCache, kept: usize) -> Result<bool, TchError> {
        while self.tokens.len() > kept {
            let Some(entry) = self.tokens.pop() else {
                break;
            };
            if let Some((slot, was)) = entry.evicted {
                let last = self.gone.len() - 1;
                head.arena.restore(slot, &self.gone, last)?;
                head.slots.restore(slot, was);
                self.gone.remove(last..last + 1)?;
            }
            head.drop_last()?;
            if let Some(sums) = entry.sums {
                head.slots.set_sums(sums);
            }
            if let Some(fast) = entry.fast {
                head.slots.set_fast(fast);
            }
        }
        Ok(self.tokens.iter().any(|entry| entry.evicted.is_some()))
    }
}
