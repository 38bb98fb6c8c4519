//! Accounts of equal blocks: how many each sequence holds, and how many are free.

use std::collections::HashMap;

use crate::ids::SeqId;

/// Blocks that are there, and who holds how many. A block is room for so many tokens of any sequence; which bytes it
/// is, the device knows.
#[derive(Debug, Clone)]
pub struct BlockAccounts {
    /// Tokens of a block.
    block: usize,
    total: usize,
    used: usize,
    /// The share of all blocks that a new sequence leaves free, so that those that run can grow.
    watermark: f64,
    tables: HashMap<SeqId, usize>,
}

/// Fewer blocks are free than are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} blocks are wanted and {free} are free")]
pub struct NoRoom {
    /// How many more are wanted.
    pub wanted: usize,
    /// How many are free.
    pub free: usize,
}

impl BlockAccounts {
    /// `total` free blocks of `block` tokens (at least one); a new sequence leaves the share `watermark` of them free.
    pub fn new(block: usize, total: usize, watermark: f64) -> Self {
        BlockAccounts {
            block: block.max(1),
            total,
            used: 0,
            watermark,
            tables: HashMap::new(),
        }
    }

    /// Blocks that hold `tokens`.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block)
    }

    /// Tokens that so many blocks hold.
    pub fn tokens_in(&self, blocks: usize) -> usize {
        blocks.saturating_mul(self.block)
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Blocks that sequences hold.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Blocks that none holds.
    pub fn free_blocks(&self) -> usize {
        self.total - self.used
    }

    /// Blocks that a new sequence leaves free: the watermark's share, rounded down.
    pub fn reserve(&self) -> usize {
        (self.watermark * self.total as f64) as usize
    }

    /// Blocks that a sequence holds.
    pub fn table(&self, seq: SeqId) -> usize {
        self.tables.get(&seq).copied().unwrap_or(0)
    }

    /// Sequences that hold blocks.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Sets how many blocks there are, never fewer than are held.
    pub fn resize(&mut self, total: usize) {
        self.total = total.max(self.used);
    }

    /// Whether a new sequence may take so many: the reserve stays free.
    pub fn can_allocate(&self, blocks: usize) -> bool {
        self.free_blocks() >= blocks + self.reserve()
    }

    /// Gives a sequence that holds none so many blocks, of the reserve too if need be.
    ///
    /// # Errors
    /// When fewer are free.
    pub fn allocate(&mut self, seq: SeqId, blocks: usize) -> Result<(), NoRoom> {
        let held = self.table(seq);
        self.grow(seq, held.max(blocks))
    }

    /// Gives a sequence more, until it holds `blocks`. One that holds as many keeps what it has.
    ///
    /// # Errors
    /// When fewer are free; it keeps what it has.
    pub fn grow(&mut self, seq: SeqId, blocks: usize) -> Result<(), NoRoom> {
        let wanted = blocks.saturating_sub(self.table(seq));
        let free = self.free_blocks();
        if wanted > free {
            return Err(NoRoom { wanted, free });
        }
        if wanted > 0 {
            *self.tables.entry(seq).or_default() += wanted;
            self.used += wanted;
        }
        Ok(())
    }

    /// Makes room for one token after the `tokens` that a sequence has. Returns how many blocks that took.
    ///
    /// # Errors
    /// When a block is needed and none is free.
    pub fn append_slot(&mut self, seq: SeqId, tokens: usize) -> Result<usize, NoRoom> {
        let before = self.table(seq);
        self.grow(seq, self.blocks_for(tokens + 1))?;
        Ok(self.table(seq) - before)
    }

    /// Takes blocks back until a sequence holds at most `blocks`.
    pub fn shrink(&mut self, seq: SeqId, blocks: usize) {
        if let Some(held) = self.tables.get_mut(&seq)
            && *held > blocks
        {
            self.used -= *held - blocks;
            *held = blocks;
        }
    }

    /// Takes all blocks of a sequence back. Returns how many those were.
    pub fn free(&mut self, seq: SeqId) -> usize {
        let held = self.tables.remove(&seq).unwrap_or(0);
        self.used -= held;
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: SeqId = SeqId(1);

    fn accounts() -> BlockAccounts {
        BlockAccounts::new(2, 10, 0.1)
    }

    #[test]
    fn v1_a_new_sequence_leaves_the_watermark_free() {
        let accounts = accounts();
        assert!(accounts.can_allocate(8));
        assert!(!accounts.can_allocate(10));
    }

    #[test]
    fn v2_what_others_hold_is_not_there() {
        let mut accounts = accounts();
        accounts.allocate(A, 3).unwrap();
        assert!(accounts.can_allocate(6));
        assert!(!accounts.can_allocate(7));
    }

    #[test]
    fn v3_a_table_grows_and_all_of_it_comes_back() {
        let mut accounts = accounts();
        accounts.allocate(A, 3).unwrap();
        accounts.grow(A, 5).unwrap();
        assert_eq!(accounts.table(A), 5);
        assert!(accounts.can_allocate(4));
        assert!(!accounts.can_allocate(5));
        assert_eq!(accounts.grow(A, 11), Err(NoRoom { wanted: 6, free: 5 }));
        assert_eq!(accounts.free(A), 5);
        assert!(accounts.can_allocate(9));
    }

    #[test]
    fn v4_a_slot_takes_a_block_when_the_last_one_is_full() {
        let mut accounts = accounts();
        accounts.allocate(A, accounts.blocks_for(5)).unwrap();
        assert_eq!(accounts.table(A), 3);
        assert_eq!(accounts.append_slot(A, 5), Ok(0));
        assert_eq!(accounts.table(A), 3);
        assert_eq!(accounts.append_slot(A, 6), Ok(1));
        assert_eq!(accounts.table(A), 4);
    }

    proptest! {
        #[test]
        fn free_and_used_make_the_total_whatever_is_done(
            total in 0usize..40,
            work in prop::collection::vec((0u8..6, 0u64..5, 0usize..30), 0..80),
        ) {
            let mut accounts = BlockAccounts::new(4, total, 0.2);
            for (what, seq, count) in work {
                let seq = SeqId(seq);
                let before = accounts.table(seq);
                match what {
                    0 => drop(accounts.allocate(seq, count)),
                    1 => drop(accounts.grow(seq, count)),
                    2 => drop(accounts.append_slot(seq, count)),
                    3 => accounts.shrink(seq, count),
                    4 => prop_assert_eq!(accounts.free(seq), before),
                    _ => accounts.resize(count),
                }
                let held: usize = (0..5).map(|seq| accounts.table(SeqId(seq))).sum();
                prop_assert_eq!(accounts.used(), held);
                prop_assert_eq!(accounts.free_blocks() + accounts.used(), accounts.total());
            }
        }
    }
}
