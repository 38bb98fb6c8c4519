//! Bytes into blocks: the lease that an engine holds, the most that there could ever be, and what one request needs.

use super::blocks::{BlockAccounts, NoRoom};
use crate::ids::SeqId;
use crate::kv::KvShape;
use crate::sched::request::Request;
use crate::sched::settings::{Admission, Config};

/// What bounds a scheduler's memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What a token costs.
    pub shape: KvShape,
    /// All KV bytes that there could ever be.
    pub total_bytes: usize,
}

/// The memory of one engine.
#[derive(Debug)]
pub struct Memory {
    limits: Limits,
    admission: Admission,
    /// Prompt tokens of a chunk, in bounded reading.
    chunk: usize,
    block_bytes: usize,
    /// Bytes that the engine holds a lease on.
    granted: usize,
    accounts: BlockAccounts,
}

impl Memory {
    /// Without a lease.
    pub fn new(config: &Config, limits: Limits) -> Self {
        let watermark = match config.admission {
            // What is reserved does not grow.
            Admission::WorstCase => 0.0,
            Admission::Optimistic => config.watermark,
        };
        Memory {
            limits,
            admission: config.admission,
            chunk: config.prefill_tokens,
            block_bytes: config.block_tokens * limits.shape.slot_bytes().max(1),
            granted: 0,
            accounts: BlockAccounts::new(config.block_tokens, 0, watermark),
        }
    }

    /// The accounts.
    pub fn accounts(&self) -> &BlockAccounts {
        &self.accounts
    }

    /// Bytes of so many blocks.
    pub fn bytes(&self, blocks: usize) -> usize {
        blocks.saturating_mul(self.block_bytes)
    }

    /// Bytes that the engine holds a lease on.
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// All bytes that there could ever be.
    pub fn limit(&self) -> usize {
        self.limits.total_bytes
    }

    /// The most blocks that a request can come to hold under its own KV budget.
    pub fn worst(&self, request: &Request) -> usize {
        self.needed(request, request.max_tokens)
    }

    /// The blocks that a request is let in with.
    pub fn first(&self, request: &Request) -> usize {
        match self.admission {
            Admission::WorstCase => self.worst(request),
            Admission::Optimistic => self.needed(request, 1),
        }
    }

    /// The blocks that a paused answer comes back with, which has `kept` tokens and adds one.
    pub fn again(&self, request: &Request, kept: usize) -> usize {
        match self.admission {
            Admission::WorstCase => self.worst(request),
            Admission::Optimistic => self.accounts.blocks_for(kept + 1),
        }
    }

    fn needed(&self, request: &Request, output: usize) -> usize {
        let seen = request.session.as_ref().map_or(0, |s| s.seen);
        // A session comes back with what its policy kept, or with all it has seen.
        let resumed = request.policy.budget().map_or(seen, |b| seen.min(b));
        let prompt = resumed + request.prompt.len();
        let shape = self.limits.shape;
        let bytes = shape.worst_case_bytes(&request.policy, prompt, output, self.chunk);
        self.accounts.blocks_for(shape.slots_in(bytes))
    }

    /// Whether so many blocks could ever be had.
    pub fn could_hold(&self, blocks: usize) -> bool {
        self.bytes(blocks) <= self.limits.total_bytes
    }

    /// Whether a sequence may be let in with so many blocks, beside others that are about to take `taken`. The first
    /// of all may take everything.
    pub fn fits(&self, blocks: usize, taken: usize) -> bool {
        let all = blocks + taken;
        let alone = self.accounts.used() + taken == 0;
        self.accounts.can_allocate(all) || (alone && self.accounts.free_blocks() >= all)
    }

    /// Whether so many blocks fit once those that hold `freed` have given way.
    pub fn fits_after(&self, blocks: usize, freed: usize) -> bool {
        let free = self.accounts.free_blocks() + freed;
        let alone = self.accounts.used() <= freed;
        let reserve = if alone { 0 } else { self.accounts.reserve() };
        free >= blocks + reserve
    }

    /// Lets a sequence in, or back in.
    ///
    /// # Errors
    /// When fewer blocks are free.
    pub fn admit(&mut self, seq: SeqId, blocks: usize) -> Result<(), NoRoom> {
        self.accounts.allocate(seq, blocks)
    }

    /// Makes room for one token after the `kept` ones of a running answer, and takes back what it let go of.
    ///
    /// # Errors
    /// When a block is needed and none is free.
    pub fn fit(&mut self, seq: SeqId, kept: usize) -> Result<(), NoRoom> {
        if self.admission == Admission::WorstCase {
            return Ok(());
        }
        self.accounts.shrink(seq, self.accounts.blocks_for(kept));
        self.accounts.append_slot(seq, kept).map(drop)
    }

    /// How many guesses behind the next token of a running answer there is room for, without the reserve.
    pub fn room(&self, seq: SeqId, kept: usize) -> usize {
        if self.admission == Admission::WorstCase {
            return usize::MAX;
        }
        let free = self.accounts.free_blocks();
        let spare = free.saturating_sub(self.accounts.reserve());
        let tokens = self.accounts.tokens_in(self.accounts.table(seq) + spare);
        tokens.saturating_sub(kept + 1)
    }

    /// Takes back what a sequence holds. Returns how many blocks those were.
    pub fn free(&mut self, seq: SeqId) -> usize {
        self.accounts.free(seq)
    }

    /// Records a lease of `bytes` more.
    pub fn grant(&mut self, bytes: usize) {
        self.granted += bytes;
        self.accounts.resize(self.granted / self.block_bytes);
    }

    /// Bytes missing until so many blocks more could be let in; none when nothing is missing.
    pub fn missing(&self, blocks: usize) -> Option<usize> {
        let mut wanted = self.accounts.used() + blocks;
        if self.admission == Admission::Optimistic && self.accounts.used() > 0 {
            // Each that runs may want one more before the answer to this comes.
            wanted += self.accounts.tables() + self.accounts.reserve();
        }
        let most = self.limits.total_bytes / self.block_bytes;
        let bytes = self.bytes(wanted.min(most.max(self.accounts.used() + blocks)));
        bytes.checked_sub(self.granted).filter(|&bytes| bytes > 0)
    }

    /// Whether a lease could still bring what is missing for so many blocks more.
    pub fn could_lease(&self, blocks: usize) -> bool {
        self.bytes(self.accounts.used() + blocks + self.accounts.reserve())
            <= self.limits.total_bytes
    }

    /// Gives up leased bytes that no sequence holds, at most `wanted`. Returns how many.
    pub fn release(&mut self, wanted: usize) -> usize {
        let held = self.bytes(self.accounts.used());
        let spare = self.granted.saturating_sub(held).min(wanted);
        self.granted -= spare;
        self.accounts.resize(self.granted / self.block_bytes);
        spare
    }

    /// Checks what must always hold; for tests and debug builds.
    ///
    /// # Panics
    /// When more is held than was leased.
    pub fn check(&self) {
        assert!(
            self.bytes(self.accounts.used()) <= self.granted,
            "more is held than was leased"
        );
    }
}
