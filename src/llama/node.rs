//! A block of a prompt that sequences share: keys, values and score history, never changed once made.

use super::kv_rows::Pair;
use crate::kv::{HeadSlots, QueryStats};

/// What each KV head of each layer holds of consecutive positions, and what all heads knew when the block ended.
#[derive(Debug)]
pub(super) struct Node {
    /// The first position.
    pub(super) start: usize,
    pub(super) len: usize,
    /// `[layers][kv_heads]`.
    pub(super) pairs: Vec<Vec<Pair>>,
    /// The bookkeeping of all positions up to this block's end: a hit brings the score history along.
    pub(super) history: Vec<Vec<(HeadSlots, QueryStats)>>,
}

impl Node {
    /// Bytes of rows and history.
    pub(super) fn bytes(&self) -> usize {
        self.row_bytes() + self.history_bytes()
    }

    /// Bytes of keys and values.
    pub(super) fn row_bytes(&self) -> usize {
        self.pairs.iter().flatten().map(Pair::bytes).sum()
    }

    fn history_bytes(&self) -> usize {
        let of = |(slots, stats): &(HeadSlots, QueryStats)| {
            slots.len() * HeadSlots::SLOT_BYTES + (stats.sum.len() + stats.outer.len()) * 4
        };
        self.history.iter().flatten().map(of).sum()
    }
}
