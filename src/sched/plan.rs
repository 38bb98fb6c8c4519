//! One step's work for the device, and what comes back: ids and numbers, no tensors.

use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, KvShape, Policy};
use crate::sample::SamplingParams;

/// One step: the rows to compute, and the sequences whose memory can go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// At most one row a sequence.
    pub rows: Vec<Row>,
    /// Sequences that are over; their caches are freed before the rows are computed.
    pub ended: Vec<SeqId>,
}

/// A run of tokens of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The sequence.
    pub seq: SeqId,
    /// Present in a sequence's first row.
    pub open: Option<Open>,
    /// The tokens to feed, at least one.
    pub tokens: Vec<TokenId>,
    /// The position of the first of them.
    pub start: usize,
    /// Which logits to return.
    pub want: Want,
    /// Whether to bring the cache down to its budget after this row. A prompt is read whole first.
    pub evict: bool,
}

/// What a new sequence brings along.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// How its KV cache is bounded.
    pub policy: Policy,
    /// How its tokens are drawn.
    pub sampling: SamplingParams,
}

/// Which logits of a row are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: more of the prompt follows.
    Nothing,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
}

/// What a step computed, row by row in the order of the plan.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// One a row of the plan.
    pub rows: Vec<RowOutput>,
}

/// What one row computed.
#[derive(Debug, Clone)]
pub struct RowOutput {
    /// The sequence.
    pub seq: SeqId,
    /// Wanted logits, `[positions, vocabulary]` in row-major order; empty for [`Want::Nothing`].
    pub logits: Vec<f32>,
    /// The cache after the row.
    pub kv: KvReport,
}

/// Why a step could not be computed. The sequences of the plan are lost with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A row names a sequence that was never opened, or was lost.
    #[error("{0} is not open on this device")]
    UnknownSequence(SeqId),
    /// A token id that the vocabulary does not have.
    #[error("token {token} of {seq} is outside of the vocabulary of {vocab}")]
    BadToken {
        /// The sequence.
        seq: SeqId,
        /// The offending id.
        token: TokenId,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The tensor library refused.
    #[error("the tensor library failed: {0}")]
    Tensor(String),
    /// Logits that are not numbers.
    #[error("the model produced logits that are not numbers for {0}")]
    NotFinite(SeqId),
}

/// A model on a device: the one thing that the runtime knows about tensors.
pub trait Forward: Send {
    /// Computes a step. After an error no sequence of the plan is usable.
    fn forward(&mut self, plan: &Plan) -> Result<Outputs, ForwardError>;

    /// What a token costs in KV cache.
    fn kv_shape(&self) -> KvShape;

    /// Bytes of the weights in memory.
    fn weight_bytes(&self) -> usize;
}
